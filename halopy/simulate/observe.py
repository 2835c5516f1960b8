"""What an observation adds to the sky: residual sidelobes, stripes, ripple, uneven noise and borders without data."""

from __future__ import annotations

import dataclasses

import numpy as np

from halopy.errors import HaloInputError
from halopy.image import FWHM_TO_SIGMA

__all__ = ["Artefacts", "add_artefacts", "blank_borders", "bright_parts", "rms_gradient"]

WAVES = (6, 48)
"""Fewest and most plane waves of a ripple."""
RIPPLE = (8, 32)
"""Shortest and longest period of a ripple, in beams."""
STRIPES = (2, 10)
"""Shortest and longest period of stripes, in beams."""
RINGS = 6
"""Where the rings round a source end, in beams (FWHM)."""
RISE = (0.9, 1.61014)
"""Where they begin and are whole. 2 J1(x) / x has no flux beyond a zero of J0(x), of which this is about the middle:
the second number is such that the rings' flux is zero."""
FAINTEST_RING = 0.1
"""Rings fainter than this part of the rms are not drawn."""
LIMITS = {"gradient": (np.nextafter(2, 0), " and less than 2"), "borders": (1, " and not above 1, a probability")}
"""The largest values of settings that have one. At a gradient of 2 the noise of one corner would vanish."""
BLOCK = 32
"""Images that are worked on at once: their waves fit in a processor's cache."""


@dataclasses.dataclass(frozen=True)
class Artefacts:
    """How far simulated images are from perfect.

    Each number but the last is the largest value: every image has its own, drawn uniformly between
    zero and it, so that a set holds clean and dirty images.

    Parameters
    ----------
    sidelobes : float, optional
        Brightness of the first ring round a source, of either sign, relative to its peak. Default
        0.005: of the first sidelobe of a filled aperture, 0.13, cleaning leaves one part in 26.
    stripes : float, optional
        Rms of the stripes that one bad baseline leaves, or a source far outside the image, relative
        to the rms of the image. Default 0.2.
    gradient : float, optional
        Change of the rms from one side of the image to the other, relative to its mean. Default
        0.2; less than 2.
    ripple : float, optional
        Rms of the large-scale emission of the Galaxy, relative to the rms of the image. Default 0.2.
    borders : float, optional
        Probability that a strip along an edge or two has no data. Default 0.03.

    Examples
    --------
    >>> from halopy.simulate.observe import Artefacts
    >>> Artefacts(stripes=0)
    Artefacts(sidelobes=0.005, stripes=0, gradient=0.2, ripple=0.2, borders=0.03)
    """

    sidelobes: float = 0.005
    stripes: float = 0.2
    gradient: float = 0.2
    ripple: float = 0.2
    borders: float = 0.03

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name))


def rms_gradient(n, shape, amplitude, *, rng=None):
    """Return maps of mean 1 that rise in a random direction: factors of the rms.

    Parameters
    ----------
    n : int
        How many.
    shape : tuple of int
        ``(ny, nx)``.
    amplitude : float
        The largest change from one side of the image to the other, 0 to less than 2; each map has
        its own, uniform between 0 and this.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `~numpy.ndarray`
        ``(n, ny, nx)`` float32.

    Raises
    ------
    HaloInputError
        For an amplitude that cannot be.

    Examples
    --------
    >>> from halopy.simulate.observe import rms_gradient
    >>> print(rms_gradient(1, (64, 64), 0.2, rng=1).mean())
    1.0
    """
    rng = np.random.default_rng(rng)
    _check("gradient", amplitude)
    drawn = rng.random((n, 2))
    cos, sin = np.cos(2 * np.pi * drawn[:, 1]), np.sin(2 * np.pi * drawn[:, 1])
    ny, nx = shape
    # From corner to corner, so that the change is the one asked for whatever the direction.
    extent = (nx - 1) * np.abs(cos) + (ny - 1) * np.abs(sin)
    slope = amplitude * drawn[:, 0] / np.maximum(extent, 1)
    x, y = np.arange(nx) - (nx - 1) / 2, np.arange(ny) - (ny - 1) / 2
    along_x = (1 + (slope * cos)[:, None] * x).astype(np.float32)
    along_y = ((slope * sin)[:, None] * y).astype(np.float32)
    return along_y[:, :, None] + along_x[:, None, :]


def add_artefacts(pixels, rms, beam_covariance, bright, artefacts, *, rng=None):
    """Add stripes, ripple and sidelobe rings to images, in place.

    Stripes are one plane wave over the whole image, of random direction and phase and a period of 2
    to 10 beams: what one visibility looks like in an image. The ripple is a Gaussian random field,
    a sum of plane waves with periods of 8 to 32 beams (uniform in the logarithm) and Rayleigh
    amplitudes; its rms is that of many images, one image is no larger than a few of its waves. The rings
    are those of a filled aperture outside its main lobe, ``2 J1(x) / x``, faded in between 0.9 and
    1.6 beams from the source and out before 6, such that their sum over the sky is zero: they change
    neither the flux in the core nor that of the field. Errors of calibration have either sign, and
    so have the rings.

    Parameters
    ----------
    pixels : `~numpy.ndarray`
        ``(n, ny, nx)`` of floats, changed in place.
    rms : float or array-like
        The noise of the images, one number or ``(n,)``, in the unit of the pixels.
    beam_covariance : array-like
        ``(2, 2)`` or ``(n, 2, 2)``, in square pixels: `Beam.covariance`.
    bright : tuple of array-like, or None
        ``(row, x, y, peak)`` of the sources with rings: the number of their image in ``pixels``, pixel
        position (it may lie outside the image), and peak in the unit of the pixels. Rings fainter
        than a tenth of the rms are left out.
    artefacts : Artefacts
        How much of each. Its ``gradient`` and ``borders`` are for `rms_gradient` and `blank_borders`.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Raises
    ------
    HaloInputError
        For pixels or sources of a wrong form.

    References
    ----------
    Thompson, Moran & Swenson 2017, Interferometry and Synthesis in Radio Astronomy, chapter 10
    (doi:10.1007/978-3-319-44431-4) for what errors in the u-v plane look like in the image.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.simulate.observe import Artefacts, add_artefacts
    >>> pixels = np.zeros((1000, 64, 64), dtype=np.float32)
    >>> add_artefacts(pixels, 1.0, 4 * np.eye(2), None, Artefacts(stripes=0.3, ripple=0), rng=1)
    >>> print(pixels.std(axis=(1, 2)).max().round(1))
    0.3
    """
    rng = np.random.default_rng(rng)
    if not (isinstance(pixels, np.ndarray) and pixels.ndim == 3 and pixels.dtype.kind == "f"):
        raise HaloInputError("artefacts are added to an array of floats, (n, ny, nx)",
                             found=f"{np.asarray(pixels).dtype} {np.shape(pixels)}")
    n = len(pixels)
    covariances = np.broadcast_to(beam_covariance, (n, 2, 2))
    rms = np.broadcast_to(rms, n)
    beam = np.linalg.det(covariances) ** 0.25 / FWHM_TO_SIGMA
    across = max(pixels.shape[1:]) / beam.min(initial=np.inf)
    waves = int(np.clip(across / 2, *WAVES)) if artefacts.ripple else 0
    # One row an image, so that what an image gets does not depend on how many are done at once.
    drawn = rng.random((n, 7 + 4 * waves))
    amplitude = drawn[:, :3] * [artefacts.stripes, artefacts.ripple, artefacts.sidelobes]
    if artefacts.stripes or artefacts.ripple:
        for start in range(0, n, BLOCK):
            rows = slice(start, start + BLOCK)
            _add_waves(pixels[rows], rms[rows, None] * amplitude[rows, :2], beam[rows, None], drawn[rows, 4:])
    if bright is not None and artefacts.sidelobes:
        strength = np.where(drawn[:, 3] < 0.5, -amplitude[:, 2], amplitude[:, 2])
        _add_rings(pixels, rms, covariances, _sources(bright, n), strength)


def bright_parts(parts, x, y, row, beam_covariance, pixel_scale_arcsec, faintest):
    """Return what of some sources is bright enough for rings, as `add_artefacts` takes it.

    Parameters
    ----------
    parts : `~numpy.ndarray`
        The Gaussians of the sources, from `halopy.simulate.shapes.components`.
    x, y, row : array-like
        Pixel position and image of each source, on images with north up.
    beam_covariance : array-like
        ``(n, 2, 2)``, square pixels.
    pixel_scale_arcsec : float
    faintest : float
        Jy/beam: Gaussians with a fainter peak, after the beam, are left out.

    Returns
    -------
    row, x, y, peak : `~numpy.ndarray`
    """
    parts = parts[parts["flux"] > faintest]
    source = parts["source"]
    row, x, y = (np.asarray(values)[source] for values in (row, x, y))
    variance = np.sqrt(np.linalg.det(beam_covariance))[row] * pixel_scale_arcsec**2
    wider = (variance + parts["cee"]) * (variance + parts["cnn"]) - parts["cen"] ** 2
    peak = parts["flux"] * variance / np.sqrt(wider)
    bright = peak > faintest
    x, y = x - parts["east"] / pixel_scale_arcsec, y + parts["north"] / pixel_scale_arcsec
    return row[bright], x[bright], y[bright], peak[bright]


def blank_borders(pixels, probability, *, rng=None):
    """Take the data of strips along edges away, in place, as where a survey ends.

    The strips are up to a quarter of the image wide, along one edge or (one time in three) two
    that meet in a corner, so that there is always data in the centre.

    Parameters
    ----------
    pixels : `~numpy.ndarray`
        ``(n, ny, nx)`` of floats, changed in place.
    probability : float
        That an image has a border without data.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `~numpy.ndarray`
        ``(n,)`` bool, the images that lost data.

    Raises
    ------
    HaloInputError
        For a probability that is none.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.simulate.observe import blank_borders
    >>> pixels = np.zeros((1000, 64, 64), dtype=np.float32)
    >>> blank = blank_borders(pixels, 0.03, rng=1)
    >>> print((np.isnan(pixels).any(axis=(1, 2)) == blank).all())
    True
    """
    rng = np.random.default_rng(rng)
    _check("borders", probability)
    n, *shape = pixels.shape
    drawn = rng.random((n, 6))
    blank = drawn[:, 0] < probability
    blank &= min(shape) >= 4
    for row in np.flatnonzero(blank):
        _, which, corner, *rest = drawn[row]
        axes = (0, 1) if corner < 1 / 3 else (int(which < 0.5),)
        ends = int(4 * rest[2])
        for axis in axes:
            width = 1 + int(rest[axis] * (shape[axis] // 4))
            strip = slice(width) if ends >> axis & 1 else slice(-width, None)
            pixels[(row, strip) if axis == 0 else (row, slice(None), strip)] = np.nan
    return blank


def _check(name, value):
    largest, limit = LIMITS.get(name, (np.inf, ""))
    try:
        right = 0 <= value <= largest and np.isfinite(value)
    except (TypeError, ValueError):
        right = False
    if not right:
        raise HaloInputError(f"{name} must be a finite number, 0 or more{limit}", found=value)


def _add_waves(pixels, amplitude, beam, drawn):
    """Add a plane wave (stripes) and a sum of long ones (ripple); ``amplitude``: ``(n, 2)``."""
    n, ny, nx = pixels.shape
    stripe, long = drawn[:, :3], drawn[:, 3:].reshape(n, -1, 4)
    angle = 2 * np.pi * np.concatenate([stripe[:, :1], long[:, :, 0]], axis=1)
    phase = 2 * np.pi * np.concatenate([stripe[:, 1:2], long[:, :, 1]], axis=1)
    period = beam * np.concatenate([_between(*STRIPES, stripe[:, 2:]), _between(*RIPPLE, long[:, :, 2])], axis=1)
    # A wave of peak a has the rms a / √2; Rayleigh peaks √(-2 ln u) and random phases make a Gaussian field.
    peak = np.empty_like(angle)
    peak[:, 0] = np.sqrt(2) * amplitude[:, 0]
    peak[:, 1:] = amplitude[:, 1:] * np.sqrt(-2 * np.log1p(-long[:, :, 3]) / max(long.shape[1], 1))
    along_x = 2 * np.pi * np.cos(angle) / period
    along_y = 2 * np.pi * np.sin(angle) / period
    # cos(a + b) = cos a cos b - sin a sin b: every wave is a product of rows and columns, their sum one matrix product.
    a = (along_x[:, :, None] * np.arange(nx) + phase[:, :, None]).astype(np.float32)
    b = (along_y[:, :, None] * np.arange(ny)).astype(np.float32)
    peak = peak[:, :, None].astype(np.float32)
    columns = np.concatenate([np.cos(a), np.sin(a)], axis=1)
    rows = np.concatenate([peak * np.cos(b), -peak * np.sin(b)], axis=1)
    pixels += rows.transpose(0, 2, 1) @ columns


def _between(low, high, u):
    """Turn uniform numbers into ones that are uniform in the logarithm."""
    return low * (high / low) ** u


def _sources(bright, n):
    try:
        row, x, y, peak = (np.atleast_1d(np.asarray(column)) for column in bright)
        right = row.shape == x.shape == y.shape == peak.shape and row.ndim == 1
        right = right and (row.size == 0 or row.dtype.kind in "iu") and ((row >= 0) & (row < n)).all()
        right = right and all(np.isfinite(column).all() for column in (x, y, peak))
    except (TypeError, ValueError):
        right = False
    if not right:
        raise HaloInputError(f"bright must be four columns of one length, row (below {n}), x, y and peak, all finite",
                             hint="bright=(row, x, y, peak)")
    return row.astype(np.intp), x, y, peak


def _add_rings(pixels, rms, covariances, bright, strength):
    row, x, y, peak = bright
    seen = np.abs(strength[row] * peak) > FAINTEST_RING * rms[row]
    table, step = _ring_table()
    inverse = np.linalg.inv(covariances) * FWHM_TO_SIGMA**2
    reach = RINGS / FWHM_TO_SIGMA * np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    _, ny, nx = pixels.shape
    for i in np.flatnonzero(seen):
        cutout = row[i]
        left, right = _range(x[i], reach[cutout, 0], nx)
        low, high = _range(y[i], reach[cutout, 1], ny)
        if left >= right or low >= high:
            continue
        dx = np.arange(left, right, dtype=np.float32) - np.float32(x[i])
        dy = np.arange(low, high, dtype=np.float32)[:, None] - np.float32(y[i])
        (xx, xy), (_, yy) = inverse[cutout].astype(np.float32) / np.float32(step)
        # The squared distance in beams is what the table runs over: no square root for every pixel.
        index = (xx * dx + (2 * xy) * dy) * dx + yy * dy**2
        index = np.minimum(index, np.float32(len(table) - 1)).astype(np.int32)
        pixels[cutout, low:high, left:right] += np.float32(strength[cutout] * peak[i]) * table[index]


def _range(centre, reach, size):
    return max(0, int(np.ceil(centre - reach))), min(size, int(np.floor(centre + reach)) + 1)


def _ring_table():
    """Return the rings' brightness, -1 in the first, at equal steps of the squared distance in beams, and the step."""
    from scipy import special

    step = 1 / 128
    distance = np.sqrt(np.arange(0, RINGS**2 + 2 * step, step) + step / 2)
    # 2 J1(x) / x falls to one half at x = 2.215, half a beam from the centre.
    x = 2 * 2.2150894 * distance
    rise = np.clip((distance - RISE[0]) / (RISE[1] - RISE[0]), 0, 1)
    fall = np.clip((RINGS - distance) / (RINGS - 2), 0, 1)
    rings = 2 * special.j1(x) / x * rise**2 * (3 - 2 * rise) * fall**2 * (3 - 2 * fall)
    return (rings / np.abs(rings).max()).astype(np.float32), step
