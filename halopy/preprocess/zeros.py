"""The noise of images in which exact zeros stand for what was clipped away."""

from __future__ import annotations

import numpy as np

from halopy.errors import UnusableImageError
from halopy.survey import surveys

__all__ = ["CLIPPED_ZEROS", "UNDERCLIPPED_ZEROS", "has_hole", "noise_of_clipped", "noise_of_underclipped"]

CLIPPED_ZEROS = 0.5
"""Above this fraction of exact zeros an image counts as clipped."""
UNDERCLIPPED_ZEROS = 0.05
"""Above this fraction the hole that a low clip leaves in the distribution would bias a fit."""
NEGATIVE = 0.7
"""Above this fraction of negative pixels the noise that is left does not lie about zero."""
HOLE = 0.3
"""Under a low threshold as many pixels and more were set to zero as lie up to twice above it: at least so many."""


def noise_of_clipped(image, clip_sigma):
    """Return the rms of a clipped image, from its threshold or its survey, and how it was found."""
    pixels = image.data[image.valid]
    level = np.sort(np.abs(pixels[pixels != 0]))
    # A clip leaves a wall: many pixels just above the threshold, none below. A faint tail has none.
    wall = np.searchsorted(level, 1.1 * level[0]) / level.size
    if level.size >= 20 and wall > 0.02:
        return float(level[0]) / clip_sigma, "clip-edge"
    if image.meta.get("survey") in surveys:
        preset = surveys[image.meta["survey"]].rms
        if preset.unit.is_equivalent(image.unit):
            return float(preset.to_value(image.unit)), "preset"
    raise UnusableImageError("this image is clipped and no threshold can be seen in it, so its noise is unknown",
                         path=image.meta.get("path"), hint="survey=, or NoiseEstimator.from_map(rms)")


def noise_of_underclipped(pixels, zeros):
    """Return the rms of pixels of which a low threshold made the fraction ``zeros`` zero, and how it was found."""
    from scipy.special import erfinv

    kept = pixels[pixels != 0]
    if np.mean(kept < 0) > NEGATIVE:
        # Sources are positive, so noise about a negative level is what remains; below it nothing was zeroed.
        two, one = np.quantile(pixels, (0.02275, 0.15866))
        return float(one - two), "wing"
    return float(np.abs(kept).min() / (np.sqrt(2) * erfinv(zeros))), "zeros"


def has_hole(data, zeros):
    """Whether a threshold made the zeros: then no value lies near them, and many just above it."""
    size = np.abs(data[data != 0])
    return np.count_nonzero(size < 2 * np.nanmin(size)) >= HOLE * zeros
