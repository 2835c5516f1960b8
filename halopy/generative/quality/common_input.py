"""One input for real and generated images: what is measured of one set is measured of the other in the same way."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.learning.inputs import filled_size, has_signal, model_input, signal_to_noise

__all__ = ["PIXELS_PER_BEAM", "check_clipped_alike", "check_set", "common_cutouts", "common_images", "common_size"]

PIXELS_PER_BEAM = 3.0
SIZE = 64
"""Pixels of the common input, where all sets reach that far: 21 beams."""
SMALLEST = 12
"""Pixels: four beams, within which a halo and its surroundings must be seen."""
CLIPPED = 0.5
"""Two sets whose median shares of exact zeros differ by more are not clipped alike."""
NEEDED = ("label", "beam_major", "beam_minor", "pixel_scale")


def check_set(cutouts, what, *, columns=()):
    """Raise an error for what is no CutoutSet with these columns, and those of the common input.

    Parameters
    ----------
    cutouts : CutoutSet
    what : str
        What it is called in the message.
    columns : sequence of str, optional
        Further columns, such as ``group``.
    """
    if not isinstance(cutouts, CutoutSet):
        raise HaloInputError(f"{what} must be a CutoutSet", found=type(cutouts).__name__)
    missing = [name for name in (*NEEDED, *columns) if name not in cutouts.table.colnames]
    if missing:
        raise HaloInputError(f"{what} needs the column(s) {', '.join(missing)}", found=cutouts.table.colnames)
    if len(cutouts) == 0:
        raise HaloInputError(f"{what} must hold images", found=0)


def check_clipped_alike(first, second):
    """Raise an error where one set is clipped and the other is not: every measure would tell that and nothing else."""
    shares = [_zeros(cutouts) for cutouts in (first, second)]
    if abs(shares[0] - shares[1]) > CLIPPED:
        raise HaloInputError("real and generated images must be clipped alike",
                             found=f"{shares[0]:.0%} and {shares[1]:.0%} of the pixels are exactly 0",
                             hint="halopy.clip both in the same way, or neither")


def _zeros(cutouts):
    """Return the median share of exact zeros among the known pixels; NaN without any."""
    known = np.isfinite(cutouts.data).sum(axis=(1, 2))
    zeros = (cutouts.data == 0).sum(axis=(1, 2))
    return float(np.median(zeros[known > 0] / known[known > 0])) if (known > 0).any() else np.nan


def common_size(*sets):
    """Return the pixels, at most 64, of the largest square about the centre that all images of all sets fill.

    Beyond it `halopy.learning.inputs.model_input` has nothing to show for some, which would tell the sets apart.

    Parameters
    ----------
    *sets : CutoutSet

    Returns
    -------
    int
        Even, of pixels a third of a beam wide.

    Raises
    ------
    HaloInputError
        An image is less than four beams wide, or its beam or pixel scale is not known.

    Examples
    --------
    >>> from halopy.generative.quality.common_input import common_size
    >>> from halopy.testing import simulated_cutouts
    >>> common_size(simulated_cutouts(3))  # 64 pixels of 28 arcsec and beams of 127 arcsec
    42
    """
    size = int(min(filled_size(cutouts, pixels_per_beam=PIXELS_PER_BEAM).min(initial=SIZE) for cutouts in sets))
    size -= size % 2
    if size < SMALLEST:
        raise HaloInputError("every image must be at least four beams wide",
                             found=f"{size / PIXELS_PER_BEAM:.1f} beams")
    return size


def common_images(cutouts, size):
    """Return the images that hold anything, ``(n, size, size)`` asinh(S/N / 2), and their rows in the set."""
    images = model_input(cutouts, size=size, pixels_per_beam=PIXELS_PER_BEAM)
    rows = np.flatnonzero(has_signal(images))
    return images[rows], rows


def common_cutouts(cutouts, size):
    """Return the cutouts as they are compared: in S/N, of pixels a third of a beam wide, ``size`` of them.

    Parameters
    ----------
    cutouts : CutoutSet
    size : int
        From `common_size`.

    Returns
    -------
    CutoutSet
        ``(n, size, size)`` with ``rms`` = 1, one round beam for all, 3 arcmin on pixels of 1 arcmin, and ``label``,
        ``also``, ``grade``, ``group`` and ``name`` where they are there; those without data are left out.

    Examples
    --------
    >>> from halopy.generative.quality.common_input import common_cutouts
    >>> from halopy.testing import simulated_cutouts
    >>> common_cutouts(simulated_cutouts(3), 42).shape
    (3, 42, 42)
    """
    images, rows = common_images(cutouts, size)
    table = QTable()
    for name in ("label", "also", "grade", "group", "name"):
        if name in cutouts.table.colnames:
            table[name] = cutouts.table[name][rows]
    # One beam for all, since that is what their pixels have been measured by: no set can be told by its beam.
    for name, width in (("beam_major", PIXELS_PER_BEAM), ("beam_minor", PIXELS_PER_BEAM), ("pixel_scale", 1.0)):
        table[name] = np.full(len(rows), width) * u.arcmin
    table["beam_pa"] = np.zeros(len(rows)) * u.deg
    table["rms"] = np.ones(len(rows))
    return CutoutSet(signal_to_noise(images), table)
