"""What a model sees: pixels in units of the noise, on a grid relative to the beam.

One model can then look at surveys of any beam, pixel scale and depth.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError

__all__ = ["cutout_grid", "filled_size", "has_signal", "model_input", "noise_level", "pixels_across_beam", "resampled",
           "signal_to_noise", "values_in"]

# Compression sets in here: fainter pixels stay proportional to their S/N.
SOFT = 2.0
# Cutouts within this fraction of the wanted scale keep their own pixels.
OWN_GRID = 0.03
# A pixel without data that carries less than this of the bilinear weight is only touched by rounding.
TOUCHED = 1e-3
CHUNK = 256


def model_input(cutouts, *, size=64, pixels_per_beam=3.0):
    """Turn cutouts into what a model sees.

    The level (median) is taken off, the pixels are divided by the local noise and compressed,
    asinh(S/N / 2), so that a pixel of 1000 times the noise is 14 times one of the noise. Pixels without
    data are 0, the level.

    Parameters
    ----------
    cutouts : CutoutSet
        ``n`` cutouts, not scaled yet, with the columns ``beam_major``, ``beam_minor`` and
        ``pixel_scale``. The noise is the column ``rms``; where that is missing, the scatter of the
        cutout's own pixels (median absolute deviation).
    size : int, optional
        Pixels of the square input, default 64: larger cutouts are cropped about their centre,
        smaller ones stand in the middle of zeros.
    pixels_per_beam : float, optional
        Pixels per geometric mean of the beam's full widths at half maximum, default 3. Cutouts whose
        own grid differs by more than 3 % are interpolated with cubic splines. None: the cutouts'
        own grid, whatever it is; no beam is needed.

    Returns
    -------
    `~numpy.ndarray`
        ``(n, size, size)`` float32, finite always: a cutout without data, or of one value, is 0
        everywhere.

    Raises
    ------
    HaloInputError
        A setting cannot be used, a beam or a pixel scale is not known, or ``rms`` is in another
        unit than the pixels.

    References
    ----------
    Lupton, Gunn & Szalay 1999, AJ 118, 1406, doi:10.1086/301004 (the compression).

    Examples
    --------
    >>> from halopy.learning.inputs import model_input
    >>> from halopy.testing import simulated_cutouts
    >>> model_input(simulated_cutouts(6)).shape
    (6, 64, 64)
    """
    factors = _factors(cutouts, size, pixels_per_beam)
    rms = noise_level(cutouts)
    result = np.zeros((len(cutouts), size, size), dtype=np.float32)
    for factor, rows in _by_factor(factors):
        down, across = (_matrix(n, size, factor, 3) for n in cutouts.shape[1:])
        touched = [_matrix(n, size, factor, 1) for n in cutouts.shape[1:]]
        for start in range(0, len(rows), CHUNK):
            part = rows[start:start + CHUNK]
            data = cutouts.data[part].astype(float)
            missing = ~np.isfinite(data)
            for i in np.flatnonzero(missing.any(axis=(1, 2))):
                data[i] = _filled(data[i], missing[i])
            # Rounding would make a pattern of a plane of one value.
            flat = np.ptp(data, axis=(1, 2)) == 0
            values = down @ data @ across.T
            known = touched[0] @ ~missing @ touched[1].T > 1 - TOUCHED
            for i, row in enumerate(part):
                if not flat[i] and known[i].any():
                    result[row][known[i]] = _in_noise(values[i][known[i]], rms[row])
    return result


def has_signal(inputs):
    """Return which of the images that `model_input` made show anything, ``(n,)`` bool."""
    return (inputs != 0).any(axis=(1, 2))


def filled_size(cutouts, *, pixels_per_beam=3.0):
    """Return the pixels of the largest square about the centre that `model_input` fills of each cutout, ``(n,)``.

    Parameters
    ----------
    cutouts : CutoutSet
    pixels_per_beam : float or None, optional
        As given to `model_input`.

    Examples
    --------
    >>> from halopy.learning.inputs import filled_size
    >>> from halopy.testing import simulated_cutouts
    >>> filled_size(simulated_cutouts(2))  # 64 pixels of 28 arcsec and beams of 127 arcsec
    array([42, 42])
    """
    width = (min(cutouts.shape[1:]) - 1 + 2 * TOUCHED) * _factors(cutouts, 1, pixels_per_beam)
    return np.floor(width + 1).astype(int)


def cutout_grid(maps, cutouts, *, pixels_per_beam=3.0):
    """Put maps on the grid of `model_input` back on the cutouts' own pixels.

    Parameters
    ----------
    maps : `~numpy.ndarray`
        ``(n, size, size)``.
    cutouts : CutoutSet
        The ``n`` cutouts that the input was made of.
    pixels_per_beam : float or None, optional
        As given to `model_input`.

    Returns
    -------
    `~numpy.ndarray`
        ``(n, ny, nx)``, interpolated linearly; NaN where the cutout has no data, and where the
        model did not look.
    """
    factors = _factors(cutouts, maps.shape[1], pixels_per_beam)
    result = np.full(cutouts.shape, np.nan)
    for factor, rows in _by_factor(factors):
        down, across = (_matrix(maps.shape[1], n, 1 / factor, 1) for n in cutouts.shape[1:])
        seen = down.sum(axis=1)[:, None] * across.sum(axis=1) > 0.5
        result[rows] = np.where(seen & np.isfinite(cutouts.data[rows]), down @ maps[rows] @ across.T, np.nan)
    return result


def _factors(cutouts, size, pixels_per_beam):
    """Return how many input pixels there are per pixel of each cutout, 1 where it keeps its own."""
    if isinstance(size, bool) or not (isinstance(size, (int, np.integer)) and size > 0):
        raise HaloInputError("size must be a positive whole number of pixels", found=size)
    if pixels_per_beam is None:
        return np.ones(len(cutouts))
    if not 0 < pixels_per_beam < np.inf:
        raise HaloInputError("pixels_per_beam must be a positive number, or None", found=pixels_per_beam)
    own = pixels_across_beam(cutouts)
    return _rounded(pixels_per_beam / own)


def pixels_across_beam(cutouts):
    """Return how many pixels there are in the geometric mean of the beam's widths of each cutout, ``(n,)``.

    Raises
    ------
    HaloInputError
        A beam or a pixel scale is not known.
    """
    hint = "read the image with beam=Beam(...) or survey=..., or pixels_per_beam=None for the cutouts' own grid"
    names = ("beam_major", "beam_minor", "pixel_scale")
    lacking = [name for name in names if name not in cutouts.table.colnames]
    if lacking:
        raise HaloInputError(f"a grid relative to the beam needs the columns {', '.join(names)}",
                             found=cutouts.table.colnames, hint=hint)
    major, minor, scale = (values_in(cutouts.table[name], u.arcsec) for name in names)
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.sqrt(major * minor) / scale
    if not (np.isfinite(own) & (own > 0)).all():
        raise HaloInputError("every cutout needs a finite beam and pixel scale",
                             found=own[~(np.isfinite(own) & (own > 0))][:3].tolist(), hint=hint)
    return own


def resampled(images, factors, shape):
    """Put images on other grids about the same centre, by cubic splines.

    Parameters
    ----------
    images : `~numpy.ndarray`
        ``(n, ny, nx)``, finite.
    factors : `~numpy.ndarray`
        ``(n,)``: how many new pixels are as wide as one of each image; within 3 % of 1 is 1.
    shape : (int, int)
        Pixels of the new images.

    Returns
    -------
    `~numpy.ndarray`
        ``(n, *shape)``, NaN outside of the images.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.learning.inputs import resampled
    >>> resampled(np.arange(3.0).reshape(1, 1, 3), np.array([2.0]), (1, 7))
    array([[[nan, 0. , 0.5, 1. , 1.5, 2. , nan]]])
    """
    result = np.full((len(images), *shape), np.nan)
    for factor, rows in _by_factor(_rounded(np.asarray(factors, dtype=float))):
        down, across = (_matrix(n, size, factor, 3) for n, size in zip(images.shape[1:], shape, strict=True))
        inside = down.any(axis=1)[:, None] & across.any(axis=1)
        result[rows] = np.where(inside, down @ images[rows] @ across.T, np.nan)
    return result


def _rounded(factor):
    # Cutouts of one image share a beam up to rounding; so they share their matrices as well.
    scale = 10.0 ** (4 - np.floor(np.log10(factor)))
    return np.where(np.abs(factor - 1) <= OWN_GRID, 1.0, np.round(factor * scale) / scale)


def _by_factor(factors):
    unique, inverse = np.unique(factors, return_inverse=True)
    for number, factor in enumerate(unique):
        yield float(factor), np.flatnonzero(inverse == number)


def signal_to_noise(inputs):
    """Undo the compression of `model_input`: S/N above the level, in float64."""
    return SOFT * np.sinh(np.asarray(inputs, dtype=float))


def noise_level(cutouts):
    """Return the noise of each cutout in the unit of its pixels, ``(n,)``.

    It is the column ``rms``, or where that is missing the scatter of the pixels (median absolute deviation).

    Raises
    ------
    HaloInputError
        ``rms`` is in another unit than the pixels.
    """
    rms = np.full(len(cutouts), np.nan)
    if "rms" in cutouts.table.colnames:
        column = cutouts.table["rms"]
        unit = getattr(column, "unit", None) or u.dimensionless_unscaled
        if not unit.is_equivalent(cutouts.unit):
            raise HaloInputError(f"the rms must be in a unit like the pixels', {str(cutouts.unit)!r}",
                                 found=str(unit), hint="cutouts that are not scaled")
        rms = values_in(column, cutouts.unit)
    known = np.isfinite(rms) & (rms > 0)
    return np.array([value if ok else _scatter(plane)
                     for value, ok, plane in zip(rms, known, cutouts.data, strict=True)])


def _scatter(plane):
    pixels = plane[np.isfinite(plane)].astype(float)
    if pixels.size == 0:
        return 1.0
    pixels = np.abs(pixels - np.median(pixels))
    # More than half of a clipped image is exactly zero.
    return 1.4826 * (np.median(pixels) or np.median(pixels[pixels > 0] if pixels.any() else 1.0))


def values_in(column, unit):
    """Return a column as plain numbers; NaN where it is masked."""
    own = getattr(column, "unit", None)
    values = column.filled(np.nan) if hasattr(column, "filled") else column
    values = np.asarray(getattr(values, "value", values), dtype=float)
    return values if own is None else u.Quantity(values, own).to_value(unit)


def _in_noise(pixels, rms):
    # The largest float32 is far beyond any S/N, and what a weight of 0 makes of infinity is no number.
    with np.errstate(over="ignore"):
        return np.arcsinh(np.clip((pixels - np.median(pixels)) / rms / SOFT, -1e30, 1e30))


def _filled(plane, missing):
    """Fill missing pixels with their nearest neighbour, so that no spline rings at their border."""
    from scipy import ndimage

    if missing.all():
        return np.zeros_like(plane)
    nearest = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    return plane[tuple(nearest)]


@lru_cache(maxsize=256)
def _matrix(n, size, factor, order):
    """Return the interpolation from n pixels to ``size`` pixels 1 / factor as wide, about the centre.

    Interpolation is linear in the pixels and separable: one ``(size, n)`` matrix an axis does all of it. Rows of
    pixels outside the centres of the outermost ones are 0: nothing is extrapolated.
    """
    place = (np.arange(size) - (size - 1) / 2) / factor + (n - 1) / 2
    inside = (place >= -TOUCHED) & (place <= n - 1 + TOUCHED)
    result = np.zeros((size, n))
    result[inside] = _spline(n, min(order, n - 1))(np.clip(place[inside], 0, n - 1))
    # Where pixels fall on pixels, rounding would mix a trace of all the others into each.
    whole = np.abs(result - np.rint(result)) < 1e-12
    result[whole] = np.rint(result[whole])
    result.flags.writeable = False
    return result


@lru_cache(maxsize=16)
def _spline(n, order):
    """Return the splines through n pixels of which one is 1, which do not depend on the beam."""
    from scipy.interpolate import make_interp_spline

    return make_interp_spline(np.arange(n), np.eye(n), k=order)
