"""The baseline of noise: what a cutout's noise says of its label, without a look at the sky."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.classify.base import Classifier
from halopy.classify.features import noise_level
from halopy.classify.logistic import Logistic, training_labels
from halopy.labels import GRADES

__all__ = ["NoiseOnly", "noise_features"]


def noise_features(cutouts):
    """Return log10 of the rms, the fraction of zeros and that of missing pixels.

    Parameters
    ----------
    cutouts : CutoutSet
        ``n`` cutouts.

    Returns
    -------
    `~numpy.ndarray`
        ``(n, 3)``; NaN in rows without data or without any noise. The rms is in Jy/beam where the pixels are
        in a unit of that kind.
    """
    known = np.isfinite(cutouts.data)
    n = known.sum(axis=(1, 2))
    unit = u.Jy / u.beam
    factor = cutouts.unit.to(unit) if cutouts.unit.is_equivalent(unit) else 1.0
    zeros = (known & (cutouts.data == 0)).sum(axis=(1, 2)) / np.maximum(n, 1)
    missing = 1 - n / max(known[0].size, 1) if len(known) else np.zeros(0)
    features = np.stack([np.log10(noise_level(cutouts) * factor), zeros, missing], axis=1)
    features[n == 0] = np.nan
    return features


class NoiseOnly(Classifier):
    """Logistic regression on the noise, the fraction of zeros and that of missing pixels.

    It sees no sky. Where it does better than chance, images of one class are deeper, or clipped at another
    level, than those of the other, and every other model may have learnt just that.

    Parameters
    ----------
    C : float, optional
        Inverse strength of the L2 penalty, default 1.
    grades : sequence of str, optional
        Grades of the halos to learn from, default all; halos of other grades are left out of the training.

    Notes
    -----
    Of a clipped image without a column ``rms`` the faintest pixel that is left, a third of it, is the noise:
    that is the clip level.

    Examples
    --------
    >>> from halopy import classifiers, simulate
    >>> model = classifiers.create("noise-only").fit(simulate.cutouts(40, rng=1))
    >>> model.predict_proba(simulate.cutouts(3, rng=2)).shape
    (3,)
    """

    def __init__(self, *, C=1.0, grades=GRADES):
        self.C = C
        self.grades = grades

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        positive, used = training_labels(cutouts.table, grades=self.grades)
        self.logistic_ = Logistic.fit(noise_features(cutouts[used]), positive[used], C=self.C)

    def _predict_proba(self, cutouts):
        return self.logistic_(noise_features(cutouts))

    def _state(self):
        return self.logistic_.state() if self.fitted_ else {}

    def _set_state(self, state):
        if not state:
            return
        super()._set_state(state)
        self.logistic_ = Logistic(**state)
