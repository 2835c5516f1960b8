"""The contract of a classifier."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from halopy.classify.domain import outside, training_range
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

    trained_on_: dict[str, tuple[float, float]] = {}
    """Ranges of what this model has been trained on, see `halopy.classify.domain.training_range`."""

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
        check_training(cutouts)
        self._fit(cutouts, rng=rng, progress=progress, max_seconds=max_seconds, max_images=max_images,
                  checkpoint=checkpoint)
        # Generated images among the cutouts bring what their generator has seen.
        self.groups_ = tuple(sorted({*self.groups_, *group_hashes(cutouts.table["group"]),
                                     *cutouts.meta.get("seen_groups", ())}))
        self.trained_on_ = training_range(cutouts.table)
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
        self._check_use(cutouts)
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

    def flags(self, cutouts):
        """Say of each cutout in what it lies outside the range that the model is good for.

        Parameters
        ----------
        cutouts : CutoutSet
            ``n`` cutouts.

        Returns
        -------
        `~numpy.ndarray`
            ``(n,)`` of str, words separated by spaces; empty where nothing is to be said. A trained model compares
            beam, frequency and pixels per beam with those of its training, see
            `halopy.classify.domain.outside`; another model says nothing unless it writes ``_flags``.

        Examples
        --------
        >>> from halopy import classifiers
        >>> from halopy.testing import simulated_cutouts
        >>> cutouts = simulated_cutouts(12)
        >>> model = classifiers.create("features-lr").fit(cutouts)
        >>> cutouts.table["frequency"][0] *= 7
        >>> model.flags(cutouts[:2]).tolist()
        ['frequency-outside-training', '']
        """
        self._check_use(cutouts)
        flags = np.asarray(self._flags(cutouts))
        if flags.shape != (len(cutouts),) or (flags.size and flags.dtype.kind != "U"):
            raise ValueError(f"{type(self).__name__}._flags must return {len(cutouts)} str, "
                             f"got {flags.dtype} of shape {flags.shape}")
        return flags.astype(str)

    def _flags(self, cutouts):
        # A model with the setting pixels_per_beam=None sees the cutouts' own grid.
        return outside(self.trained_on_, cutouts.table, own_grid=getattr(self, "pixels_per_beam", 0) is None)

    def _check_use(self, cutouts):
        _check(cutouts)
        if self.trainable and not self.fitted_:
            raise NotFittedError(f"{type(self).__name__} must be trained with fit() or loaded before it predicts")

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        raise NotImplementedError(f"{type(self).__name__} is trainable and must define _fit")

    @abstractmethod
    def _predict_proba(self, cutouts):
        """Return ``(n,)`` probabilities."""

    def _set_state(self, state):
        super()._set_state(state)
        # A file says itself whether the model was trained: see `halopy.model.decode`.
        self.fitted_ = self.fitted_ or bool(state)


def check_training(cutouts):
    """Raise an error for what is no CutoutSet with the columns ``label`` and ``group``."""
    _check(cutouts)
    for name in ("label", "group"):
        if name not in cutouts.table.colnames:
            raise HaloInputError(
                f"training needs a column {name!r}: cutouts of one piece of sky in training and test make any "
                "model look better than it is" if name == "group" else "training needs a column 'label'",
                found=cutouts.table.colnames)


def _check(cutouts):
    if not isinstance(cutouts, CutoutSet):
        raise HaloInputError("a classifier takes a CutoutSet", found=type(cutouts).__name__,
                             hint="CutoutSet(array) or CutoutMaker(...)(image, positions)")
