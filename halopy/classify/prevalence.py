"""The baseline of no knowledge: the share of halos in the training set."""

from __future__ import annotations

import numpy as np

from halopy.classify.base import Classifier
from halopy.classify.logistic import training_labels
from halopy.errors import HaloInputError
from halopy.labels import GRADES

__all__ = ["Prevalence"]


class Prevalence(Classifier):
    """The same probability for every cutout: the share of halos among those it was trained on.

    Its Brier score is the one to beat, and its accuracy is that of always saying what is more common.

    Parameters
    ----------
    grades : sequence of str, optional
        Grades of the halos that count, default all; halos of other grades are left out.

    Examples
    --------
    >>> from halopy import classifiers, simulate
    >>> model = classifiers.create("prevalence").fit(simulate.cutouts(10, mix={"halo": 1, "none": 1}, rng=1))
    >>> len(set(model.predict_proba(simulate.cutouts(3, rng=2))))
    1
    """

    def __init__(self, *, grades=GRADES):
        self.grades = grades

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        positive, used = training_labels(cutouts.table, grades=self.grades)
        if not used.any():
            raise HaloInputError("training needs at least one cutout that counts", found=len(used),
                                 hint="more grades")
        self.share_ = np.array([positive[used].mean()])

    def _predict_proba(self, cutouts):
        known = np.isfinite(cutouts.data).any(axis=(1, 2))
        return np.where(known, self.share_[0], np.nan)

    def _state(self):
        return {"share": self.share_} if self.fitted_ else {}

    def _set_state(self, state):
        if not state:
            return
        super()._set_state(state)
        self.share_ = state["share"]
