"""The contract of a generator."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from astropy.table import QTable

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, NotFittedError
from halopy.generative.conditions import numbers
from halopy.labels import LABELS
from halopy.model import Model, group_hashes

__all__ = ["HaloGenerator"]


class HaloGenerator(Model, ABC):
    """Makes images of halos, and of what is mistaken for them.

    Users call `fit` and `sample`; a plugin writes ``_fit(cutouts, rng=, ...)`` and
    ``_sample(conditions, rng)``, where ``conditions`` is a QTable of ``n`` rows with the columns named
    in ``conditions``, and those of ``optional_conditions`` that were given. It returns pixels
    ``(n, ny, nx)``, or a CutoutSet with a unit and columns of its own. It is declared under the
    entry-point group ``halopy.generators``.
    """

    conditions = ("label",)
    """The columns this generator can be conditioned on; ``sample`` needs them all."""

    optional_conditions = ()
    """Columns of numbers that ``sample`` uses where they are given; the rest is drawn.

    A value that is masked or NaN is drawn, too. ``_sample`` finds NaN there; where it returns a
    CutoutSet with such a column, it says what was drawn.
    """

    text_conditions = ()
    """Columns of text that ``sample`` uses where they are given, such as ``grade``."""

    sampling_settings = ()
    """Settings that may be changed after training, such as ``steps``: ``sample`` reads them each time."""

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
        self.groups_ = tuple(sorted({*self.groups_, *group_hashes(cutouts.table["group"]),
                                     *cutouts.meta.get("seen_groups", ())}))
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
            ``n`` rows with the columns of `conditions`, instead of ``label``; and any of
            `optional_conditions`, with NaN in rows where nothing is asked for.
        rng : int or `~numpy.random.Generator`, optional
            Seed or generator.

        Returns
        -------
        CutoutSet
            With the conditions as columns, and ``group`` = ``"generated"``. A generator may add
            columns of its own, a unit, and ``meta``.
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
            raise HaloInputError(f"a label is one of {', '.join(LABELS)}", found=str(unknown[0]))
        for name in self.optional_conditions:
            if name in table.colnames:
                table[name] = numbers(table[name], name)
        # Other columns would say of generated images what is true of real ones, such as their positions.
        known = (*self.conditions, *self.optional_conditions, *self.text_conditions)
        made = self._sample(table[[name for name in table.colnames if name in known]], rng)
        if not isinstance(made, CutoutSet):
            made = np.asarray(made)
        if len(made.shape) != 3 or len(made) != n:
            raise ValueError(f"{type(self).__name__}._sample must return shape ({n}, ny, nx), got {made.shape}")
        made = self._with_conditions(made, table) if isinstance(made, CutoutSet) else CutoutSet(made, table)
        made.table["group"] = ["generated"] * n if n else np.array([], dtype=str)
        if self.groups_:
            # Who learns from these images has learnt from that sky.
            made.meta["seen_groups"] = list(self.groups_)
        return made

    def _with_conditions(self, made, conditions):
        """Return what was made with the conditions it was made for; what was drawn stays."""
        table = made.table.copy() if made.table.colnames else QTable()
        for name in self.conditions:
            table[name] = conditions[name]
        for name in self.optional_conditions:
            if name in conditions.colnames:
                given = np.isfinite(conditions[name])
                values = table[name].copy() if name in table.colnames else conditions[name]
                if given.any():
                    values[given] = conditions[name][given]
                table[name] = values
        return made.replace(table=table)

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        raise NotImplementedError(f"{type(self).__name__} is trainable and must define _fit")

    @abstractmethod
    def _sample(self, conditions, rng):
        """Return ``(n, ny, nx)`` pixels."""

    def _set_state(self, state):
        super()._set_state(state)
        self.fitted_ = True
