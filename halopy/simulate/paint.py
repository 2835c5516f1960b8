"""Elliptical Gaussians onto images: the one painter of everything that is simulated.

This is the only module of the simulator that imports numba; it is imported inside functions, so that
``import halopy`` stays light. What it compiles is compiled at the first call and written to no disk.
"""

from __future__ import annotations

import numba
import numpy as np

from halopy.errors import HaloInputError

__all__ = ["RADIUS", "paint", "paint_components"]

RADIUS = 5.5
"""Gaussians are painted out to this many standard deviations, where they are 2.7e-7 of their centre."""


def paint(pixels, row, x, y, flux, cxx, cxy, cyy):
    """Add elliptical Gaussians to images, in place.

    Adds ``flux · exp(−½ dᵀ C⁻¹ d)`` at every pixel whose centre lies within `RADIUS` standard
    deviations, d being the pixel minus ``(x, y)`` and C ``((cxx, cxy), (cxy, cyy))``. Each row of
    pixels is run through by multiplication outwards from its own brightest pixel in double
    precision: two exponentials a row instead of one a pixel, and errors below 1e-9 of the centre.
    Gaussians are added in their order: same input, same bytes.

    Parameters
    ----------
    pixels : `~numpy.ndarray`
        ``(n, ny, nx)`` float32, C-contiguous; changed in place.
    row : array_like of int
        ``(k,)``: the image each Gaussian goes to, 0 to n − 1.
    x, y : array_like
        ``(k,)``, or one for all: centres in pixels from 0. Outside the image they contribute their wings.
    flux : array_like
        ``(k,)``, or one for all: value at the centre, in the unit of the pixels.
    cxx, cxy, cyy : array_like
        ``(k,)``, or one for all: covariance in square pixels.

    Raises
    ------
    HaloInputError
        For images that cannot be painted on, a row that is not there, numbers that are not finite
        or a covariance that is not positive definite.

    Notes
    -----
    The compiled part releases the interpreter's lock. The first call compiles for about a second.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.simulate.paint import paint
    >>> pixels = np.zeros((1, 5, 5), np.float32)
    >>> paint(pixels, [0], 2, 1, 3, 1, 0, 1)
    >>> print(pixels[0, 1].round(3))
    [0.406 1.82  3.    1.82  0.406]
    """
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.float32 and pixels.ndim == 3
            and pixels.flags.c_contiguous and pixels.flags.writeable):
        raise HaloInputError(
            "pixels must be a writeable, C-contiguous float32 array of three axes",
            found=f"{getattr(pixels, 'dtype', type(pixels).__name__)} of shape {np.shape(pixels)}",
            hint="np.zeros((n, ny, nx), np.float32), or image[None] for a single image")
    row = np.array(row, np.int64, order="C")
    if row.ndim != 1:
        raise HaloInputError("row must have one axis", found=f"shape {row.shape}")
    if row.size == 0:
        return
    if row.min() < 0 or row.max() >= len(pixels):
        raise HaloInputError(f"row must be 0 to {len(pixels) - 1}", found=f"{row.min()} to {row.max()}")
    numbers = []
    for name, values in zip(("x", "y", "flux", "cxx", "cxy", "cyy"), (x, y, flux, cxx, cxy, cyy), strict=True):
        values = np.asarray(values, float)
        if values.shape not in ((), row.shape):
            raise HaloInputError(f"{name} must hold one number, or one a Gaussian: {len(row)}",
                                 found=f"shape {values.shape}")
        if not np.isfinite(values).all():
            raise HaloInputError(f"{name} must be finite", found=f"{np.sum(~np.isfinite(values))} that are not")
        # A copy: for read-only arrays numba would compile once more.
        numbers.append(np.array(np.broadcast_to(values, row.shape), order="C"))
    with np.errstate(over="ignore", invalid="ignore"):
        determinant = numbers[3] * numbers[5] - numbers[4] ** 2
    wrong = ~((numbers[3] > 0) & (determinant > 0) & (determinant < np.inf))
    if wrong.any():
        k = int(np.argmax(wrong))
        raise HaloInputError(f"Gaussian {k}: the covariance must be positive definite",
                             found=tuple(float(c[k]) for c in numbers[3:]), hint="add the beam's covariance")
    _paint(pixels, row, *numbers)


@numba.njit(nogil=True, error_model="numpy")
def _paint(pixels, row, x, y, flux, cxx, cxy, cyy):
    ny, nx = pixels.shape[1:]
    for k in range(len(row)):
        # Along a row the Gaussian is one of precision `sharp` about `middle`, which moves by `slope` a row.
        sharp = cyy[k] / (cxx[k] * cyy[k] - cxy[k] * cxy[k])
        slope = cxy[k] / cyy[k]
        bend = np.exp(-sharp)
        per_cyy, per_sharp = 1 / cyy[k], 1 / sharp
        reach = RADIUS * np.sqrt(cyy[k])
        lowest, highest = max(np.ceil(y[k] - reach), 0.0), min(np.floor(y[k] + reach), ny - 1.0)
        # In floating point: a centre far away must not overflow an integer.
        if not lowest <= highest:
            continue
        image = pixels[row[k]]
        for j in range(int(lowest), int(highest) + 1):
            dy = j - y[k]
            middle = x[k] + slope * dy
            chi2 = dy * dy * per_cyy
            half = np.sqrt(max(RADIUS * RADIUS - chi2, 0.0) * per_sharp)
            left, right = max(np.ceil(middle - half), 0.0), min(np.floor(middle + half), nx - 1.0)
            if not left <= right:
                continue
            start = min(max(np.rint(middle), left), right)
            dx = start - middle
            value = flux[k] * np.exp(-0.5 * (chi2 + sharp * dx * dx))
            # The next value is this one times a factor, and the next factor is this one times `bend`.
            factor_right = np.exp(-sharp * (dx + 0.5))
            factor_left = 0.0
            i = int(start)
            n_right, n_left = int(right) - i, i - int(left)
            if n_left > 0:
                factor_left = bend / factor_right if n_right > 0 else np.exp(sharp * (dx - 0.5))
            line = image[j]
            line[i] += value
            value_right = value_left = value
            # Both directions at once: the processor overlaps two chains of multiplications.
            both = min(n_left, n_right)
            for step in range(1, both + 1):
                value_right *= factor_right
                value_left *= factor_left
                factor_right *= bend
                factor_left *= bend
                line[i + step] += value_right
                line[i - step] += value_left
            for step in range(both + 1, n_right + 1):
                value_right *= factor_right
                factor_right *= bend
                line[i + step] += value_right
            for step in range(both + 1, n_left + 1):
                value_left *= factor_left
                factor_left *= bend
                line[i - step] += value_left


def paint_components(pixels, components, x, y, row, beam_covariance, pixel_scale_arcsec=None, *, jacobian=None):
    """Add sources, as their Gaussians convolved with the beam, to images in Jy/beam, in place.

    The convolution is exact: covariances add, and a Gaussian's centre is its flux times
    √(det C_beam / det C_total).

    Parameters
    ----------
    pixels : `~numpy.ndarray`
        ``(n, ny, nx)`` float32, C-contiguous, Jy/beam; changed in place.
    components : `~numpy.ndarray`
        ``(k,)``: what `halopy.simulate.shapes.components` returned for the sources.
    x, y : array_like
        ``(n_sources,)``: pixel positions of the sources, from 0.
    row : array_like of int
        ``(n_sources,)``: the image each source goes to.
    beam_covariance : array_like
        ``(n, 2, 2)`` or ``(2, 2)``: the beam's covariance in square pixels, rows and columns
        ordered (x, y), as `Beam.covariance` and `ClusterImage.pixel_beam` give it.
    pixel_scale_arcsec : float or array_like, optional
        Arcsec a pixel, or ``(n,)`` of them, of images with north up (+y) and east left (−x).
    jacobian : array_like, optional
        ``(n, 2, 2)`` or ``(2, 2)``: ∂(x, y)/∂(east, north) in pixels per arcsec, for images that are
        turned or mirrored; instead of the pixel scale.

    Raises
    ------
    HaloInputError
        As `paint`, and where the sources do not match the components, or neither or both of
        pixel scale and jacobian are given.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from halopy import Beam
    >>> from halopy.simulate.paint import paint_components
    >>> from halopy.simulate.shapes import components
    >>> halo = components({"class": ["halo"], "flux": [0.1], "r_e": [60]})
    >>> beam = Beam(132 * u.arcsec)
    >>> pixels = np.zeros((1, 64, 64), np.float32)
    >>> paint_components(pixels, halo, [31.5], [31.5], [0], beam.covariance(28 * u.arcsec), 28)
    >>> print(f"{pixels.sum() / beam.area_pixels(28 * u.arcsec):.4f} Jy")
    0.1000 Jy
    """
    n = len(pixels)
    row = np.atleast_1d(np.asarray(row, np.int64))
    x, y = (np.atleast_1d(np.asarray(values, float)) for values in (x, y))
    if not x.shape == y.shape == row.shape:
        raise HaloInputError("x, y and row must hold one number a source",
                             found=f"shapes {x.shape}, {y.shape}, {row.shape}")
    source = components["source"]
    if len(source) == 0:
        return
    if source.min() < 0 or source.max() >= len(row):
        raise HaloInputError(f"the components are those of other sources than these {len(row)}",
                             found=f"source {source.max()}")
    if row.min() < 0 or row.max() >= n:
        raise HaloInputError(f"row must be 0 to {n - 1}", found=f"{row.min()} to {row.max()}")
    beam = _matrices(beam_covariance, n, "beam_covariance")
    if (jacobian is None) == (pixel_scale_arcsec is None):
        raise HaloInputError("give either pixel_scale_arcsec or jacobian", hint="pixel_scale_arcsec=28")
    if jacobian is None:
        scale = np.asarray(pixel_scale_arcsec, float)
        if scale.shape not in ((), (n,)) or not (np.isfinite(scale) & (scale > 0)).all():
            raise HaloInputError(f"pixel_scale_arcsec must be positive, one or {n}", found=str(pixel_scale_arcsec))
        jacobian = (np.array([[-1.0, 0.0], [0.0, 1.0]]) / scale[..., None, None])
    jacobian = _matrices(jacobian, n, "jacobian")

    image = row[source]
    (jxe, jxn), (jye, jyn) = (tuple(jacobian[image, i, j] for j in range(2)) for i in range(2))
    bxx, bxy, byy = (beam[image, i, j] for i, j in ((0, 0), (0, 1), (1, 1)))
    east, north, cee, cen, cnn = (components[name] for name in ("east", "north", "cee", "cen", "cnn"))
    cxx = bxx + jxe**2 * cee + 2 * jxe * jxn * cen + jxn**2 * cnn
    cxy = bxy + jxe * jye * cee + (jxe * jyn + jxn * jye) * cen + jxn * jyn * cnn
    cyy = byy + jye**2 * cee + 2 * jye * jyn * cen + jyn**2 * cnn
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        peak = components["flux"] * np.sqrt((bxx * byy - bxy**2) / (cxx * cyy - cxy**2))
    # A beam without area makes the peaks infinite: said of the beam, not of the flux.
    if not np.isfinite(peak).all() and np.isfinite(components["flux"]).all():
        raise HaloInputError("beam_covariance must be positive definite", found=str(beam[image[~np.isfinite(peak)][0]]))
    paint(pixels, image, x[source] + jxe * east + jxn * north, y[source] + jye * east + jyn * north,
          peak, cxx, cxy, cyy)


def _matrices(values, n, name):
    values = np.asarray(values, float)
    if values.shape not in ((2, 2), (n, 2, 2)):
        raise HaloInputError(f"{name} must have shape (2, 2) or ({n}, 2, 2)", found=f"shape {values.shape}")
    return np.broadcast_to(values, (n, 2, 2))
