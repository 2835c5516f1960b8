"""A classifier that knows of a cutout what shapelets say of it."""

from __future__ import annotations

import numpy as np

from halopy.classify.base import Classifier
from halopy.classify.logistic import Logistic, training_labels
from halopy.errors import HaloInputError
from halopy.labels import GRADES
from halopy.learning.inputs import has_signal, model_input, signal_to_noise
from halopy.uvshapelets.pixels import pixel_shapelets

__all__ = ["ShapeletLR"]


class ShapeletLR(Classifier):
    """Logistic regression on the shapelets of a cutout, in numbers that do not change when it is turned or mirrored.

    Experimental. The cutout, in S/N on a grid relative to the beam (`~halopy.learning.inputs.model_input`), is
    projected onto polar shapelets about its centre. What is left of a coefficient when the sky may be turned is its
    modulus, and its sign where it has no angle (m = 0). Each is divided by what noise makes of it and compressed by
    asinh; the total flux and the second moment, ∫ I r², are treated alike.

    Parameters
    ----------
    n_max : int, optional
        Largest order, default 8.
    beta : float, optional
        Scale in beams, default 0.9: with ``n_max`` 8 the shapelets reach 3.7 beams from the centre.
    C : float, optional
        Inverse strength of the L2 penalty on the weights of standardised numbers, default 0.1.
    size : int, optional
        Pixels of the square input, default 64.
    pixels_per_beam : float, optional
        Its grid, default 3.
    grades : sequence of str, optional
        Grades of the halos to learn from, default all; halos of other grades are left out of the training.

    Notes
    -----
    ``rng``, ``max_seconds``, ``max_images`` and ``checkpoint`` have no effect on ``fit``.

    References
    ----------
    Massey & Refregier 2005, MNRAS 363, 197, arXiv astro-ph/0408445 (polar shapelets).

    Examples
    --------
    >>> from halopy import classifiers, simulate
    >>> model = classifiers.create("shapelet-lr").fit(simulate.cutouts(40, rng=1))
    >>> model.predict_proba(simulate.cutouts(3, rng=2)).shape
    (3,)
    """

    def __init__(self, *, n_max=8, beta=0.9, C=0.1, size=64, pixels_per_beam=3.0, grades=GRADES):
        self.n_max = n_max
        self.beta = beta
        self.C = C
        self.size = size
        self.pixels_per_beam = pixels_per_beam
        self.grades = grades

    def features(self, cutouts):
        """Return what is measured of cutouts, ``(n, k)`` float64, and its names.

        ``c_n`` is the coefficient of order n that has no angle, ``c_n_m`` the modulus of that of angular frequency m;
        ``flux`` and ``second_moment``. NaN in the rows of cutouts without data, or of one value.
        """
        if self.pixels_per_beam is None:
            raise HaloInputError("the scale of the shapelets is one in beams: pixels_per_beam must be a number",
                                 keyword="pixels_per_beam")
        inputs = model_input(cutouts, size=self.size, pixels_per_beam=self.pixels_per_beam)
        shapelets = pixel_shapelets(self.n_max, self.beta, self.size, self.pixels_per_beam)
        coefficients = shapelets.project(signal_to_noise(inputs))
        noise = np.sqrt(np.diag(shapelets.noise))
        values, names = [], []
        for k, (n, m) in enumerate(shapelets.orders):
            if m == 0:
                values.append(coefficients[:, k] / noise[k])
                names.append(f"c_{n}")
            elif m > 0:
                values.append(np.hypot(coefficients[:, k], coefficients[:, k - m]) / noise[k])
                names.append(f"c_{n}_{m}")
        for name in ("flux", "second_moment"):
            vector = getattr(shapelets, name)
            values.append(coefficients @ vector / np.sqrt(vector @ shapelets.noise @ vector))
            names.append(name)
        features = np.arcsinh(np.stack(values, axis=1))
        features[~has_signal(inputs)] = np.nan
        return features, names

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        positive, used = training_labels(cutouts.table, grades=self.grades)
        features, _ = self.features(cutouts)
        self.logistic_ = Logistic.fit(features[used], positive[used], C=self.C)

    def _predict_proba(self, cutouts):
        return self.logistic_(self.features(cutouts)[0])

    def _state(self):
        return self.logistic_.state() if self.fitted_ else {}

    def _set_state(self, state):
        if not state:
            return
        super()._set_state(state)
        self.logistic_ = Logistic(**state)
