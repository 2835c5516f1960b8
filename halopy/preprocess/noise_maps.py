"""Background and noise at every pixel of an image: a mesh of boxes, and the surface through it."""

from __future__ import annotations

import numpy as np

from halopy.errors import UnusableImageError

__all__ = ["overlapping_boxes", "tiled_boxes", "whole_cells"]

CELLS = 6
"""Cells to the side of an overlapping box, as of BANE's default grid and box."""
ROWS = 3
"""A first look at the image takes every third row: rows of one beam are alike."""
MIN_FRACTION = 0.2
EXTREME = 1e12
"""Noise beyond this, or its inverse, is scaled: float32 has no room for sums of its squares."""
ROUNDING = 1e-6
"""Of sums of squares in float32."""


def tiled_boxes(data, box, *, sigma=3.0):
    """Median and scaled median absolute deviation of the clipped pixels of boxes side by side.

    The mesh is filtered by a median of 3 × 3 and interpolated by a cubic spline: to rounding what
    `~photutils.background.Background2D` makes of the same settings.

    Parameters
    ----------
    data : `~numpy.ndarray`
        ``(ny, nx)`` float32, NaN where there is none.
    box : tuple of int
        ``(height, width)`` in pixels.
    sigma : float, optional
        Clipping threshold.

    Returns
    -------
    background, rms : `~numpy.ndarray`
        ``(ny, nx)`` float32; the rms is positive. NaN where the data are.

    Raises
    ------
    UnusableImageError
        No box holds enough data, or in none there is noise.

    References
    ----------
    Bertin & Arnouts 1996, A&AS 117, 393, doi:10.1051/aas:1996164.
    """
    from halopy.preprocess.boxes import box_statistics

    background, rms = box_statistics(data, box, sigma=sigma, min_fraction=MIN_FRACTION)
    return _surfaces(_filtered(_filled(background)), _filtered(_filled(rms)), data, box)


def overlapping_boxes(data, box, *, sigma=3.0):
    """Mean and standard deviation of the clipped pixels of boxes that overlap, on a grid six times as fine as they are.

    The geometry and the statistic of BANE [1]_, whose defaults are a grid of four and a box of 24 beams of four
    pixels. Each pixel is looked at once instead of 36 times: those within ``sigma`` of what a first look at every
    third row has found are summed over cells of the grid, with their squares, and the sums over boxes.

    Parameters
    ----------
    data : `~numpy.ndarray`
        ``(ny, nx)`` float32, NaN where there is none.
    box : int
        Side in pixels, made a multiple of six.
    sigma : float, optional
        Clipping threshold.

    Returns
    -------
    background, rms : `~numpy.ndarray`
        As of `tiled_boxes`.

    Raises
    ------
    UnusableImageError
        No box holds enough data, or in none there is noise.

    References
    ----------
    .. [1] Hancock, Trott & Hurley-Walker 2018, PASA 35, e011, doi:10.1017/pasa.2018.3
    """
    cell = whole_cells(box) // CELLS
    level, noise = _first_look(data, cell, sigma)
    if not 1 / EXTREME < noise.max() < EXTREME:
        factor = 2.0**-np.rint(np.log2(noise.max()))
        scaled = overlapping_boxes((data * factor).astype(np.float32), box, sigma=sigma)
        return [(plane / factor).astype(np.float32) for plane in scaled]
    level, noise = _second_look(data, cell, *(mesh.astype(np.float32) for mesh in (level, sigma * noise)))
    return _surfaces(level, noise, data, (cell, cell))


def _first_look(data, cell, sigma):
    """Level and noise at the centres of cells, from boxes side by side of every third row."""
    from halopy.preprocess.boxes import box_statistics

    looked_at = data[::ROWS]
    box = tuple(min(size, n) for size, n in zip((max(1, CELLS * cell // ROWS), CELLS * cell), looked_at.shape,
                                                strict=True))
    level, noise = (_filled(mesh) for mesh in box_statistics(looked_at, box, sigma=sigma, min_fraction=MIN_FRACTION))
    cells, ratios = [-(-n // cell) for n in data.shape], (cell / (box[0] * ROWS), cell / box[1])
    return [_between(mesh, cells, ratios) for mesh in (level, np.clip(noise, *_positive(noise)))]


def _second_look(data, cell, centre, reach):
    """Mean and standard deviation, at the centres of cells, of those pixels of the boxes about them that are near."""
    from halopy.preprocess.boxes import cell_moments

    number, total, squares = cell_moments(data, cell, centre, reach).astype(float)
    summed = _over_boxes(squares)
    squares += 2 * centre * total + number * centre.astype(float)**2
    total += number * centre
    number, total, squares = (_over_boxes(z) for z in (number, total, squares))
    within = np.outer(*(_over_boxes(np.diff(np.minimum(np.arange(m + 1) * cell, n)))
                        for m, n in zip(centre.shape, data.shape, strict=True)))
    with np.errstate(invalid="ignore", divide="ignore"):
        level = total / number
        variance = squares / number - level**2
        # What rounding leaves where all pixels are equal is no noise.
        noise = np.sqrt(np.where(variance > ROUNDING * summed / number + 1e-14 * level**2, variance, 0))
    missing = ~(number > MIN_FRACTION * within)
    level, noise = (_filled(np.where(missing, np.nan, z)) for z in (level, noise))
    # Boxes lie about the corners of cells, values at their centres.
    return [(z[1:, 1:] + z[1:, :-1] + z[:-1, 1:] + z[:-1, :-1]) / 4 for z in (level, noise)]


def whole_cells(box):
    """Return the multiple of six pixels that is nearest to a box."""
    return CELLS * max(1, round(box / CELLS))


def _between(mesh, cells, ratios):
    """Interpolate linearly from the centres of boxes to those of so many cells, ``ratios`` times as large."""
    # No matrix product: threads of the linear algebra that wait for more of it would slow down those that follow.
    for axis, (count, ratio) in enumerate(zip(cells, ratios, strict=True)):
        place = np.clip((np.arange(count) + 0.5) * ratio - 0.5, 0, mesh.shape[axis] - 1)
        low = place.astype(int)
        share = np.expand_dims(place - low, 1 - axis)
        high = np.minimum(low + 1, mesh.shape[axis] - 1)
        mesh = (1 - share) * mesh.take(low, axis) + share * mesh.take(high, axis)
    return mesh


def _over_boxes(cells):
    """Sum cells over boxes of 6 of them along each axis, about each corner; boxes end where the image ends."""
    summed = np.asarray(cells, dtype=float)
    for axis in range(summed.ndim):
        # In pairs: a running sum would carry the rounding of wild pixels along.
        turned = np.moveaxis(summed, axis, 0)
        padded = np.zeros((len(turned) + CELLS, *turned.shape[1:]))
        padded[CELLS // 2:-CELLS // 2] = turned
        pairs = padded[1:] + padded[:-1]
        summed = np.moveaxis(sum(pairs[k:len(turned) + 1 + k] for k in range(0, CELLS, 2)), 0, axis)
    return summed


def _positive(mesh):
    """The least and the greatest positive value."""
    positive = mesh[mesh > 0]
    if positive.size == 0:
        raise UnusableImageError("no noise: more than half of the pixels of every box are equal", hint="a larger box")
    return positive.min(), positive.max()


def _filled(mesh):
    """Give boxes without enough data the mean of the ten nearest others, weighted by the inverse of their distance."""
    missing = np.isnan(mesh)
    if not missing.any():
        return mesh
    if missing.all():
        raise UnusableImageError("no noise: every box has data in less than a fifth of its pixels",
                                 hint="another box, or NoiseEstimator.from_map(rms)")
    from photutils.utils import ShepardIDWInterpolator

    mesh = mesh.copy()
    mesh[missing] = ShepardIDWInterpolator(np.argwhere(~missing), mesh[~missing])(np.argwhere(missing), n_neighbors=10)
    return mesh


def _filtered(mesh):
    """Median of the 3 × 3 boxes about each; those at the border have fewer neighbours."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(mesh, 1, constant_values=np.nan), (3, 3))
    values = np.sort(windows.reshape(*mesh.shape, 9), axis=2)  # NaN last
    n = np.isfinite(values).sum(axis=2, keepdims=True)
    return np.take_along_axis(values, np.concatenate([(n - 1) // 2, n // 2], axis=2), 2).mean(axis=2)


def _surfaces(background, rms, data, cell):
    from halopy.preprocess.boxes import surfaces

    # The spline between a noisy and a quiet box may overshoot, below zero even (PyBDSF issue 215).
    return surfaces([background, rms], data, cell, [(background.min(), background.max()), _positive(rms)])
