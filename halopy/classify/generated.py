"""Generated images to train with, beside real ones."""

from __future__ import annotations

import copy
import logging
import warnings

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, HalopyWarning
from halopy.io.clip_level import find_clip
from halopy.learning.inputs import has_signal, model_input, noise_level, pixels_across_beam, resampled, values_in
from halopy.preprocess.clip import clip

__all__ = ["images_like", "trained_copy"]

logger = logging.getLogger(__name__)

OBSERVED = ("pixel_scale", "beam_major", "beam_minor", "beam_pa", "frequency")
"""What an image takes from the cutout that it is like, besides the noise."""
SHOWN = ("label", "also", "grade", "snr", "group")
"""What is true of an image however it was observed."""
CLIPPED = 0.5
"""Cutouts of which more is exactly 0 are clipped."""


def images_like(cutouts, generator, each, *, rng=None):
    """Return generated images with the labels, grades and frequencies of cutouts, observed and clipped as they are.

    What a generator makes is taken for S/N on a grid relative to the beam. Each image gets the noise, the beam, the
    pixels and the shape of one cutout, so that as far as it reaches nothing but the sky tells it from a real one;
    beyond, it is NaN.

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
        ``round(each * n)`` images in the unit of the cutouts, where ``n`` counts those that can be made.

    Warns
    -----
    HalopyWarning
        The generator cannot make some of the labels or grades: their cutouts do not count.
    """
    rng = np.random.default_rng(rng)
    optional = [*generator.text_conditions, *(x for x in generator.optional_conditions if x == "frequency")]
    wanted = [*generator.conditions, *(x for x in optional if x in cutouts.table.colnames)]
    conditions = QTable({name: cutouts.column(name) for name in wanted})
    known = np.flatnonzero(_can_make(generator, conditions, rng))
    n = len(known)
    rows = np.append(np.tile(known, int(each)), rng.permutation(known)[:round(each * n) - int(each) * n])
    made = _observed_like(generator.sample(len(rows), conditions=conditions[rows], rng=rng), cutouts, rows)
    if np.median((cutouts.data == 0).mean(axis=(1, 2))) <= CLIPPED:
        return made
    level = float(np.nanmedian([find_clip(image).level for image in cutouts.data] / noise_level(cutouts)))
    # A small cutout that was clipped on both sides need not hold a negative pixel.
    return clip(made, low=-level if (cutouts.data < 0).any() else None, high=level)


def trained_copy(generator, cutouts, **settings):
    """Return a copy of a generator that has learned from those cutouts that are full of data and show something.

    Parameters
    ----------
    generator : HaloGenerator
    cutouts : CutoutSet
    **settings
        Of its ``fit``.
    """
    usable = np.isfinite(cutouts.data).all(axis=(1, 2))
    if hasattr(generator, "size") and hasattr(generator, "pixels_per_beam"):
        grid = {"size": generator.size, "pixels_per_beam": generator.pixels_per_beam}
        usable[usable] = has_signal(model_input(cutouts[usable], **grid))
    if not usable.any():
        raise HaloInputError("the generator learns from cutouts full of data, and there are none",
                             hint="smaller cutouts, or a generator that has been trained")
    logger.info("the generator learns from %d cutouts", usable.sum())
    with warnings.catch_warnings():
        # Its images are for these cutouts, which are clipped, and will be clipped like them.
        warnings.filterwarnings("ignore", "most pixels of these cutouts are 0", HalopyWarning)
        return copy.deepcopy(generator).fit(cutouts[usable], **settings)


def _observed_like(made, cutouts, rows):
    """Return images as they would look in these rows of the cutouts."""
    factors, noise = np.ones(len(rows)), noise_level(cutouts)[rows]
    like = cutouts[rows]
    if all(_has_beams(one) for one in (made, like)):
        factors = pixels_across_beam(like) / pixels_across_beam(made)
    snr = resampled(made.data / noise_level(made)[:, None, None], factors, cutouts.shape[1:])
    table = QTable({name: made.table[name] for name in SHOWN if name in made.table.colnames})
    for name in OBSERVED:
        source = cutouts.table[name][rows] if name in cutouts.table.colnames else made.table.columns.get(name)
        if source is not None:
            table[name] = source
    table["rms"] = noise * cutouts.unit
    kept = {name: made.meta[name] for name in ("seen_groups",) if name in made.meta}
    return CutoutSet(snr * noise[:, None, None], table, unit=cutouts.unit, meta=kept)


def _has_beams(cutouts):
    names = ("beam_major", "beam_minor", "pixel_scale")
    return all(name in cutouts.table.colnames and np.isfinite(values_in(cutouts.table[name], u.arcsec)).all()
               for name in names)


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
