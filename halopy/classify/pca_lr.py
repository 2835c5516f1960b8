"""The baseline of pixels: principal components and logistic regression."""

from __future__ import annotations

import numpy as np

from halopy.classify.base import Classifier
from halopy.classify.logistic import Logistic, training_labels
from halopy.errors import HaloInputError
from halopy.labels import GRADES
from halopy.learning.inputs import has_signal, model_input

__all__ = ["PcaLR"]


class PcaLR(Classifier):
    """Logistic regression on the first principal components of the pixels.

    It sees the same pixels as the networks, `~halopy.learning.inputs.model_input`, and is linear in them.

    Parameters
    ----------
    n_components : int, optional
        Principal components, default 40; fewer where the training set has no more cutouts than that.
    C : float, optional
        Inverse strength of the L2 penalty on the weights of standardised components, default 0.1.
    size : int, optional
        Pixels of the square input, default 64.
    pixels_per_beam : float, optional
        Its grid, default 3.
    grades : sequence of str, optional
        Grades of the halos to learn from, default all; halos of other grades are left out of the training.

    Notes
    -----
    The components are found by a randomised decomposition, with the ``rng`` of ``fit``; ``max_seconds``,
    ``max_images`` and ``checkpoint`` have no effect.

    References
    ----------
    Halko, Martinsson & Tropp 2011, SIAM Review 53, 217, arXiv 0909.4061 (the decomposition).

    Examples
    --------
    >>> from halopy import classifiers, simulate
    >>> model = classifiers.create("pca-lr", n_components=5).fit(simulate.cutouts(40, rng=1), rng=1)
    >>> model.predict_proba(simulate.cutouts(3, rng=2)).shape
    (3,)
    """

    def __init__(self, *, n_components=40, C=0.1, size=64, pixels_per_beam=3.0, grades=GRADES):
        self.n_components = n_components
        self.C = C
        self.size = size
        self.pixels_per_beam = pixels_per_beam
        self.grades = grades

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        if not (isinstance(self.n_components, (int, np.integer)) and self.n_components > 0):
            raise HaloInputError("n_components must be a positive whole number", found=self.n_components)
        from sklearn.decomposition import PCA

        positive, used = training_labels(cutouts.table, grades=self.grades)
        pixels = self._pixels(cutouts)
        # A cutout that shows nothing would teach what a gap looks like.
        used &= has_signal(pixels)
        if used.sum() < 2:
            raise HaloInputError("training needs cutouts with and without a halo that can be scored",
                                 found=f"{used.sum()} cutouts")
        pixels = pixels[used].reshape(used.sum(), -1)
        n_components = min(self.n_components, len(pixels) - 1, pixels.shape[1])
        pca = PCA(n_components, svd_solver="randomized", random_state=int(rng.integers(2**31)))
        # Among equal images scikit-learn divides by their variance.
        with np.errstate(invalid="ignore"):
            pca.fit(pixels)
        self.centre_, self.components_ = pca.mean_.astype(np.float32), pca.components_.astype(np.float32)
        self.logistic_ = Logistic.fit(self._scores(pixels), positive[used], C=self.C)

    def _predict_proba(self, cutouts):
        pixels = self._pixels(cutouts)
        probability = self.logistic_(self._scores(pixels.reshape(len(pixels), -1)))
        return np.where(has_signal(pixels), probability, np.nan)

    def _pixels(self, cutouts):
        return model_input(cutouts, size=self.size, pixels_per_beam=self.pixels_per_beam)

    def _scores(self, pixels):
        return (pixels - self.centre_).astype(float) @ self.components_.T.astype(float)

    def _state(self):
        if not self.fitted_:
            return {}
        return {"centre": self.centre_, "components": self.components_} | self.logistic_.state()

    def _set_state(self, state):
        if not state:
            return
        super()._set_state(state)
        state = dict(state)
        self.centre_, self.components_ = state.pop("centre"), state.pop("components")
        self.logistic_ = Logistic(**state)
