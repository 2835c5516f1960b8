"""The contract of a classifier."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, NotFittedError
from halopy.model import Model, group_hashes

__all__ = ["Classifier"]


class Classifier(Model, ABC):
    """Says how probable it is that a halo is at the centre of each cutout.

    Users call `fit` and `predict_proba`; a plugin writes ``_fit(cutouts, rng=, progress=,
    max_seconds=, max_images=, checkpoint=)`` and ``_predict_proba(cutouts) -> (n,)``, so that
    validation, seeding and provenance happen once, here. A plugin is declared under the
    entry-point group ``halopy.classifiers``.

    A probability depends on its cutout alone and rises strictly with the model's statistic.
    """

    trainable = True
    """Whether ``fit`` is needed before ``predict_proba``."""

    fitted_ = False

    def fit(self, cutouts, *, rng=None, progress=None, max_seconds=None, max_images=None, checkpoint=None):
        """Train on labelled, grouped cutouts.

        Parameters
        ----------
        cutouts : CutoutSet
            With columns ``label`` and ``group``; a group is a piece of sky.
        rng : int or `~numpy.random.Generator`, optional
            Seed or generator.
        progress : bool or None, optional
            Show a progress bar; None: on a terminal only.
        max_seconds, max_images : float, int, optional
            Stop after so much time, or after so many training images were seen.
        checkpoint : path-like, optional
            A file to continue from.

        Returns
        -------
        self
            A model that needs no training returns itself unchanged.
        """
        rng = np.random.default_rng(rng)
        if not self.trainable:
            return self
        _check(cutouts)
        for name in ("label", "group"):
            if name not in cutouts.table.colnames:
                raise HaloInputError(
                    f"training needs a column {name!r}: cutouts of one piece of sky in training and test make any "
                    "model look better than it is" if name == "group" else "training needs a column 'label'",
                    found=cutouts.table.colnames)
        self._fit(cutouts, rng=rng, progress=progress, max_seconds=max_seconds, max_images=max_images,
                  checkpoint=checkpoint)
        self.groups_ = tuple(sorted(set(self.groups_) | set(group_hashes(cutouts.table["group"]))))
        self.fitted_ = True
        return self

    def predict_proba(self, cutouts):
        """Return the probability that a halo is at the centre of each cutout.

        Parameters
        ----------
        cutouts : CutoutSet
            ``n`` cutouts.

        Returns
        -------
        `~numpy.ndarray`
            ``(n,)`` float64 in [0, 1]; NaN where a cutout holds nothing that can be scored.
        """
        _check(cutouts)
        if self.trainable and not self.fitted_:
            raise NotFittedError(f"{type(self).__name__} must be trained with fit() or loaded before it predicts")
        if len(cutouts) == 0:
            return np.zeros(0)
        probability = np.asarray(self._predict_proba(cutouts), dtype=float)
        if probability.shape != (len(cutouts),):
            raise ValueError(f"{type(self).__name__}._predict_proba must return shape ({len(cutouts)},), "
                             f"got {probability.shape}")
        finite = probability[np.isfinite(probability)]
        if finite.size and (finite.min() < 0 or finite.max() > 1):
            raise ValueError(f"{type(self).__name__}._predict_proba must return probabilities in [0, 1], "
                             f"got {finite.min():g} to {finite.max():g}")
        return probability

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        raise NotImplementedError(f"{type(self).__name__} is trainable and must define _fit")

    @abstractmethod
    def _predict_proba(self, cutouts):
        """Return ``(n,)`` probabilities."""

    def _set_state(self, state):
        super()._set_state(state)
        self.fitted_ = True


def _check(cutouts):
    if not isinstance(cutouts, CutoutSet):
        raise HaloInputError("a classifier takes a CutoutSet", found=type(cutouts).__name__,
                             hint="CutoutSet(array) or CutoutMaker(...)(image, positions)")
