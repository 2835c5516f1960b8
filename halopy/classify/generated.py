"""Generated images to train with, beside real ones."""

from __future__ import annotations

import warnings

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.errors import HaloInputError, HalopyWarning
from halopy.io.clip_level import find_clip
from halopy.learning.inputs import noise_level
from halopy.preprocess.clip import clip

__all__ = ["images_like"]

OBSERVED = ("pixel_scale", "beam_major", "beam_minor", "beam_pa", "frequency", "rms")
"""What an image that does not say how it was observed takes from the one that it is like."""
CLIPPED = 0.5
"""Cutouts of which more is exactly 0 are clipped."""


def images_like(cutouts, generator, each, *, rng=None):
    """Return generated images with the labels and grades of cutouts, clipped as they are.

    Parameters
    ----------
    cutouts : CutoutSet
        ``n`` cutouts.
    generator : HaloGenerator
        Trained, or of a kind that needs no training.
    each : float
        How many for each cutout: those beyond a whole number are for cutouts drawn at random.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    CutoutSet
        ``round(each * n)`` images. What does not say how it was observed was observed like its cutout.

    Warns
    -----
    HalopyWarning
        The generator cannot make some of the labels or grades: their cutouts do not count.
    """
    rng = np.random.default_rng(rng)
    wanted = [*generator.conditions, *(x for x in generator.text_conditions if x in cutouts.table.colnames)]
    conditions = QTable({name: cutouts.column(name) for name in wanted})
    known = np.flatnonzero(_can_make(generator, conditions, rng))
    n = len(known)
    rows = np.append(np.tile(known, int(each)), rng.permutation(known)[:round(each * n) - int(each) * n])
    made = generator.sample(len(rows), conditions=conditions[rows], rng=rng)
    made = made.replace(unit=cutouts.unit if made.unit == u.dimensionless_unscaled else made.unit)
    table = made.table.copy()
    for name in set(OBSERVED) & set(cutouts.table.colnames) - set(table.colnames):
        table[name] = cutouts.table[name][rows]
    if "rms" not in table.colnames:
        table["rms"] = noise_level(made) * made.unit
    made = made.replace(table=table)
    if np.median((cutouts.data == 0).mean(axis=(1, 2))) <= CLIPPED:
        return made
    level = float(np.nanmedian([find_clip(image).level for image in cutouts.data] / noise_level(cutouts)))
    # A small cutout that was clipped on both sides need not hold a negative pixel.
    return clip(made, low=-level if (cutouts.data < 0).any() else None, high=level)


def _can_make(generator, conditions, rng):
    """Return which conditions a generator can make images for, ``(n,)`` bool; what it says of others is a warning."""
    names = [np.ma.filled(np.ma.asarray(conditions[x]), "").astype(str) for x in ("label", "grade")
             if x in conditions.colnames]
    kinds, first, kind = np.unique([" ".join(words) for words in zip(*names, strict=True)], return_index=True,
                                   return_inverse=True)
    able = np.ones(len(kinds), dtype=bool)
    for k, row in enumerate(first):
        try:
            generator.sample(1, conditions=conditions[row:row + 1], rng=rng)
        except HaloInputError as error:
            able[k] = False
            if not able.any():
                raise
            warnings.warn(f"there will be no generated images of {kinds[k].strip()!r}: {error}", HalopyWarning,
                          stacklevel=2)
    return able[kind]
