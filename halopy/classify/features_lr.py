"""The baseline of features: logistic regression on invariant numbers."""

from __future__ import annotations

import numpy as np

from halopy.classify.base import Classifier
from halopy.classify.features import cutout_features
from halopy.classify.logistic import Logistic, training_labels
from halopy.classify.noise_only import noise_features
from halopy.labels import GRADES

__all__ = ["FeaturesLR"]


class FeaturesLR(Classifier):
    """Logistic regression on what `~halopy.classify.features.cutout_features` measures.

    A network has to beat this to be worth its pixels: the features know the beam, the noise, the centre and
    compact sources, and nothing of shapes beyond a few numbers.

    Parameters
    ----------
    C : float, optional
        Inverse strength of the L2 penalty on the weights of standardised features, default 0.1.
    compact : bool, optional
        Measure the image without its compact sources as well, default True.
    matched_filter : bool, optional
        The statistic of ``matched-filter`` is one of the features, default False (it is slow).
    noise : bool, optional
        The numbers of ``noise-only`` are among the features, default False: noise and clip level say which
        survey and declination a cutout comes from, and can stand for the label in a small data set.
    grades : sequence of str, optional
        Grades of the halos to learn from, default all; halos of other grades are left out of the training.

    Notes
    -----
    The training is one exact solution: it takes no notice of ``max_seconds``, ``max_images`` and
    ``checkpoint``, and needs no random number.

    References
    ----------
    See `~halopy.classify.features.cutout_features`.

    Examples
    --------
    >>> from halopy import classifiers, simulate
    >>> model = classifiers.create("features-lr").fit(simulate.cutouts(40, rng=1))
    >>> model.predict_proba(simulate.cutouts(3, rng=2)).shape
    (3,)
    """

    def __init__(self, *, C=0.1, compact=True, matched_filter=False, noise=False, grades=GRADES):
        self.C = C
        self.compact = compact
        self.matched_filter = matched_filter
        self.noise = noise
        self.grades = grades

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        positive, used = training_labels(cutouts.table, grades=self.grades)
        self.logistic_ = Logistic.fit(self._features(cutouts[used]), positive[used], C=self.C)

    def _predict_proba(self, cutouts):
        return self.logistic_(self._features(cutouts))

    def _features(self, cutouts):
        features, _ = cutout_features(cutouts, compact=self.compact, matched_filter=self.matched_filter)
        return np.hstack([features, noise_features(cutouts)]) if self.noise else features

    def _state(self):
        return self.logistic_.state() if self.fitted_ else {}

    def _set_state(self, state):
        if not state:
            return
        super()._set_state(state)
        self.logistic_ = Logistic(**state)
