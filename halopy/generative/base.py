"""The contract of a generator."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from astropy.table import QTable

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, NotFittedError
from halopy.labels import LABELS
from halopy.model import Model, group_hashes

__all__ = ["HaloGenerator"]


class HaloGenerator(Model, ABC):
    """Makes images of halos, and of what is mistaken for them.

    Users call `fit` and `sample`; a plugin writes ``_fit(cutouts, rng=, ...)`` and
    ``_sample(conditions, rng) -> (n, ny, nx)``, where ``conditions`` is a QTable of ``n`` rows with
    the columns named in ``conditions``. It is declared under the entry-point group
    ``halopy.generators``.
    """

    conditions = ("label",)
    """The columns this generator can be conditioned on."""

    trainable = True
    """Whether ``fit`` is needed before ``sample``."""

    fitted_ = False

    def fit(self, cutouts, *, rng=None, progress=None, max_seconds=None, max_images=None, checkpoint=None):
        """Train on grouped cutouts; see `halopy.classify.Classifier.fit` for the arguments."""
        rng = np.random.default_rng(rng)
        if not self.trainable:
            return self
        if not isinstance(cutouts, CutoutSet):
            raise HaloInputError("a generator is trained on a CutoutSet", found=type(cutouts).__name__)
        for name in (*self.conditions, "group"):
            if name not in cutouts.table.colnames:
                raise HaloInputError(f"training this generator needs a column {name!r}", found=cutouts.table.colnames)
        self._fit(cutouts, rng=rng, progress=progress, max_seconds=max_seconds, max_images=max_images,
                  checkpoint=checkpoint)
        self.groups_ = tuple(sorted(set(self.groups_) | set(group_hashes(cutouts.table["group"]))))
        self.fitted_ = True
        return self

    def sample(self, n, *, label=None, conditions=None, rng=None):
        """Make ``n`` images.

        Parameters
        ----------
        n : int
            How many.
        label : str, optional
            One label for all; ``"halo"`` where neither it nor ``conditions`` is given.
        conditions : `~astropy.table.QTable`, optional
            ``n`` rows with the columns of `conditions`, instead of ``label``.
        rng : int or `~numpy.random.Generator`, optional
            Seed or generator.

        Returns
        -------
        CutoutSet
            With the conditions as columns, and ``group`` = ``"generated"``.
        """
        rng = np.random.default_rng(rng)
        if not isinstance(n, (int, np.integer)) or n < 0:
            raise HaloInputError("n must be a whole number of images", found=n)
        if self.trainable and not self.fitted_:
            raise NotFittedError(f"{type(self).__name__} must be trained with fit() or loaded before it samples")
        if conditions is not None and label is not None:
            raise HaloInputError("give either label or conditions, not both", found=label)
        if conditions is None:
            table = QTable({"label": [label or "halo"] * n}) if n else QTable({"label": np.array([], dtype=str)})
        else:
            table = QTable(conditions, copy=True)
        if len(table) != n:
            raise HaloInputError(f"conditions must have {n} rows", found=len(table))
        missing = [name for name in self.conditions if name not in table.colnames]
        if missing:
            raise HaloInputError(f"{type(self).__name__}.sample needs condition column(s) {missing}",
                                 found=table.colnames)
        unknown = sorted(set(table["label"]) - set(LABELS)) if "label" in table.colnames else []
        if unknown:
            raise HaloInputError(f"a label is one of {', '.join(LABELS)}", found=unknown[0])
        data = np.asarray(self._sample(table, rng))
        if data.ndim != 3 or len(data) != n:
            raise ValueError(f"{type(self).__name__}._sample must return shape ({n}, ny, nx), got {data.shape}")
        table["group"] = ["generated"] * n if n else np.array([], dtype=str)
        return CutoutSet(data, table)

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        raise NotImplementedError(f"{type(self).__name__} is trainable and must define _fit")

    @abstractmethod
    def _sample(self, conditions, rng):
        """Return ``(n, ny, nx)`` pixels."""

    def _set_state(self, state):
        super()._set_state(state)
        self.fitted_ = True
