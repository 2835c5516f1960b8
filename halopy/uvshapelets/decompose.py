"""Shapelets of an image: what a CLEANed picture of a source is made of."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import wcs_to_celestial_frame

from halopy.errors import HaloInputError, HalopyWarning
from halopy.image import FWHM_TO_SIGMA, ClusterImage
from halopy.uvshapelets.basis import ShapeletBasis
from halopy.uvshapelets.hermite import hermite
from halopy.uvshapelets.kernels import moments, predict

__all__ = ["Decomposition", "decompose"]

# Axes that bend by less than this part of a pixel across an image are those of a regular grid.
STRAIGHT = 0.01
SEARCH = 9


@dataclasses.dataclass(frozen=True)
class Decomposition:
    """An image as a sum of shapelets.

    Parameters
    ----------
    basis : ShapeletBasis
        The shapelets.
    coefficients : `~numpy.ndarray`
        ``(basis.size,)`` in Jy/rad.
    covariance : `~numpy.ndarray` or None
        ``(basis.size, basis.size)`` of the coefficients, from the image's rms; None for an image without one.
    centre : `~astropy.coordinates.SkyCoord`
        Where l = m = 0.
    residual : ClusterImage
        The image minus its shapelets.
    """

    basis: ShapeletBasis
    coefficients: np.ndarray
    covariance: np.ndarray | None
    centre: SkyCoord
    residual: ClusterImage

    @property
    def flux(self):
        """Total flux in Jy."""
        return float(self.basis.flux(self.coefficients))

    @property
    def flux_err(self):
        """Its error in Jy; None for an image without rms."""
        if self.covariance is None:
            return None
        vector = self.basis.flux_vector
        return float(np.sqrt(vector @ self.covariance @ vector))


def decompose(image, n_max, *, beta=None, beta_minor=None, pa=0 * u.deg, centre=None, kind="cartesian"):
    """Decompose an image into shapelets by projection.

    Parameters
    ----------
    image : ClusterImage
        In Jy/beam, Jy/pixel or Jy/sr. Pixels without data count as 0. The beam is not taken off: the
        coefficients are those of the image.
    n_max, beta, beta_minor, pa, kind
        As for `ShapeletBasis`. ``beta=None`` (the default) searches for the circular scale that leaves the least.
    centre : `~astropy.coordinates.SkyCoord`, optional
        Centre of the shapelets. Default: the image's middle.

    Returns
    -------
    Decomposition

    Raises
    ------
    HaloInputError
        For pixels wider than β/√n_max, which do not resolve the shapelets, an image in another unit, or one
        in which no scale has room.

    Notes
    -----
    The shapelets are orthonormal, so each coefficient is the integral of its shapelet with the image: two small matrix
    products where the pixels' rows and columns are parallel to the shapelets' axes, and the sum over all pixels
    where they are not. That holds as long as pixels are small and the image wide enough; a warning says when the
    shapelets reach beyond its edge.

    The noise of an image with a beam is taken to be correlated as the (circularised) beam, of the median rms; without a
    beam, to be independent from pixel to pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.wcs import WCS
    >>> from halopy import ClusterImage
    >>> from halopy.uvshapelets.decompose import decompose
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype, wcs.wcs.crpix, wcs.wcs.cdelt = ["RA---SIN", "DEC--SIN"], [50.5, 50.5], [-0.01, 0.01]
    >>> x, y = np.meshgrid(np.arange(100) - 49.5, np.arange(100) - 49.5)
    >>> gaussian = np.exp(-(x**2 + y**2) / (2 * 6**2)) / (2 * np.pi * 6**2)
    >>> halo = ClusterImage(gaussian, wcs=wcs, unit=u.Jy / u.pix)
    >>> found = decompose(halo, 4, beta=0.06 * u.deg)
    >>> print(f"{found.flux:.4f} Jy, {found.basis.size_of(found.coefficients).to(u.arcmin):.3f}")
    1.0000 Jy, 5.091 arcmin
    """
    if beta is None and beta_minor is not None:
        raise HaloInputError("beta_minor needs beta beside it")
    grid = _Grid(image, centre)
    factor = _per_steradian(image, grid.pixel_area)
    values = image.data.astype(float) * factor
    missing = ~np.isfinite(values)
    if missing.any():
        warnings.warn(f"{missing.sum()} pixels without data count as 0", HalopyWarning, stacklevel=2)
        values[missing] = 0.0
    if beta is None:
        beta = _search(grid, values, ShapeletBasis(n_max, 1 * u.arcsec, pa=pa, kind=kind))
    basis = ShapeletBasis(n_max, beta, beta_minor=beta_minor, pa=pa, kind=kind)
    finest = min(basis.scales) / np.sqrt(max(n_max, 1))
    if np.sqrt(grid.pixel_area) > finest:
        raise HaloInputError("pixels must be smaller than beta / sqrt(n_max) to resolve the shapelets",
                             found=f"pixels of {_arcsec(np.sqrt(grid.pixel_area))}, beta / sqrt(n_max) "
                                   f"{_arcsec(finest)}", hint="a smaller n_max or a larger beta")
    reach = max(basis.scales) * np.sqrt(2 * n_max + 1)
    if reach > grid.reach:
        warnings.warn(f"the shapelets reach {_arcsec(reach)} from their centre, the image only "
                      f"{_arcsec(grid.reach)}: they are cut off", HalopyWarning, stacklevel=2)
    coefficients, model = grid.project(values, basis)
    residual = (values - model) / factor
    residual[missing] = np.nan
    return Decomposition(basis, coefficients, _covariance(image, basis, factor, grid.pixel_area), grid.centre,
                         image.replace(data=residual))


class _Grid:
    """Where the pixels of an image lie about a centre."""

    def __init__(self, image, centre):
        self.wcs, self.shape = image.wcs, image.shape
        frame = wcs_to_celestial_frame(self.wcs)
        middle = (np.array(self.shape[::-1]) - 1) / 2
        if centre is None:
            self._lon, self._lat = (float(angle) for angle in self._sky(*middle))
            centre = SkyCoord(self._lon, self._lat, unit="rad", frame=frame)
        elif isinstance(centre, SkyCoord) and centre.isscalar:
            there = centre.transform_to(frame).spherical
            self._lon, self._lat = there.lon.rad, there.lat.rad
        else:
            raise HaloInputError("centre must be one SkyCoord", found=type(centre).__name__)
        self.centre = centre
        corners = self._offsets(middle[0] + np.array([-0.5, 0.5, 0, 0]), middle[1] + np.array([0, 0, -0.5, 0.5]))
        self.pixel_area = abs(float(np.linalg.det(np.stack([corners[:, 1] - corners[:, 0],
                                                            corners[:, 3] - corners[:, 2]]))))
        east, north = self._offsets(*(np.ravel(a) for a in np.meshgrid(
            np.linspace(0, self.shape[1] - 1, 5), np.linspace(0, self.shape[0] - 1, 5))))
        if not (np.isfinite(self.pixel_area) and np.isfinite(east + north).all()):
            raise HaloInputError("the image shows no sky at its middle or its edges", hint="a cutout of it")
        edge = np.ones((5, 5), bool)
        edge[1:-1, 1:-1] = False
        self.reach = np.hypot(east, north).reshape(5, 5)[edge].min()

    def _sky(self, x, y):
        world = np.radians(self.wcs.all_pix2world(np.stack([x, y], axis=-1).reshape(-1, 2), 0))
        return (world[:, axis].reshape(np.shape(x)) for axis in (self.wcs.wcs.lng, self.wcs.wcs.lat))

    def _offsets(self, x, y):
        """Return l and m of pixels, ``(2, ...)``."""
        lon, lat = self._sky(x, y)
        turn = lon - self._lon
        return np.stack([np.cos(lat) * np.sin(turn),
                         np.sin(lat) * np.cos(self._lat) - np.cos(lat) * np.sin(self._lat) * np.cos(turn)])

    def axes(self, basis):
        """Return x1 and x2 of the pixels in radians; of shapes (nx,) and (ny, 1), or the like, on a regular grid."""
        ny, nx = self.shape
        columns, rows = np.arange(nx, dtype=float), np.arange(ny, dtype=float)[:, None]
        middle = ((nx - 1) / 2, (ny - 1) / 2)
        along_x = basis.turned(*self._offsets(columns, np.full(nx, middle[1])))
        along_y = basis.turned(*self._offsets(np.full((ny, 1), middle[0]), rows))
        some = np.linspace(0, nx - 1, 5).astype(int), np.linspace(0, ny - 1, 5).astype(int)
        exact = basis.turned(*self._offsets(*np.meshgrid(*(part.astype(float) for part in some))))
        tolerance = STRAIGHT * np.sqrt(self.pixel_area)
        for first in (0, 1):
            guess = [None, None]
            guess[first], guess[1 - first] = along_x[first], along_y[1 - first]
            error = max(np.abs(guess[first][some[0]] - exact[first]).max(),
                        np.abs(guess[1 - first][some[1]] - exact[1 - first]).max())
            if error < tolerance:
                return guess
        return basis.turned(*self._offsets(*np.broadcast_arrays(columns, rows)))

    def project(self, values, basis):
        """Return the coefficients ``(size,)`` of brightness ``(ny, nx)``, and the brightness that they stand for."""
        n, scales = basis.n_max, basis.scales
        x1, x2 = (x / scale for x, scale in zip(self.axes(basis), scales, strict=True))
        norm = np.sqrt(scales[0] * scales[1])
        if x1.shape == x2.shape:
            flat = x1.ravel(), x2.ravel()
            square = moments(n, *flat, values.ravel())
        else:
            p1, p2 = (hermite(n, x.ravel()) for x in (x1, x2))
            square = p1 @ (values.T if x1.ndim == 1 else values) @ p2.T
        coefficients = basis.from_square(square * self.pixel_area / norm)
        square = basis.square(coefficients) / norm
        if x1.shape == x2.shape:
            # Even and odd shapelets come as real and imaginary parts.
            model = predict(square, *flat)
            return coefficients, (model.real + model.imag).reshape(values.shape)
        model = p1.T @ square @ p2
        return coefficients, model.T if x1.ndim == 1 else model


def _search(grid, values, basis):
    """Return the circular scale that leaves the least of the image."""
    from scipy.optimize import minimize_scalar

    n = basis.n_max
    low = 1.001 * np.sqrt(grid.pixel_area * max(n, 1))
    high = grid.reach / np.sqrt(2 * n + 1)
    if not low < high:
        raise HaloInputError("no beta resolves the shapelets and keeps them within the image", found=f"n_max {n}",
                             hint="a smaller n_max")

    def left(log_beta):
        trial = ShapeletBasis(n, np.exp(log_beta) * u.rad, pa=basis.pa, kind=basis.kind)
        return np.sum((values - grid.project(values, trial)[1]) ** 2)

    trials = np.linspace(np.log(low), np.log(high), SEARCH)
    best = int(np.argmin([left(trial) for trial in trials]))
    bounds = trials[max(best - 1, 0)], trials[min(best + 1, SEARCH - 1)]
    found = minimize_scalar(left, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return (np.exp(found.x) * u.rad).to(u.arcsec)


def _per_steradian(image, pixel_area):
    """Return what turns the pixels into Jy/sr."""
    if image.unit.is_equivalent(u.Jy / u.beam):
        return image.unit.to(u.Jy / u.beam) / (image.beam_area * image.pixel_scale.to_value(u.rad) ** 2)
    if image.unit.is_equivalent(u.Jy / u.pix):
        return image.unit.to(u.Jy / u.pix) / pixel_area
    if image.unit.is_equivalent(u.Jy / u.sr):
        return image.unit.to(u.Jy / u.sr)
    raise HaloInputError("shapelets need an image in Jy/beam, Jy/pixel or Jy/sr", path=image.meta.get("path"),
                         keyword="BUNIT", found=str(image.unit))


def _covariance(image, basis, factor, pixel_area):
    if image.rms is None:
        return None
    variance = (np.nanmedian(image.rms) * factor) ** 2
    if image.beam is None:
        return variance * pixel_area * np.eye(basis.size)
    # ∬ B_i(x) exp(−|x − x'|²/2σ²) B_j(x'), by the Fourier transforms: one factor for each axis.
    area = image.beam.area.to_value(u.sr)
    sigma = np.sqrt(image.beam.major * image.beam.minor).to_value(u.rad) * FWHM_TO_SIGMA
    n1, n2 = basis.cartesian.orders.T
    first, second = (_overlap(basis.n_max, sigma / scale) for scale in basis.scales)
    result = first[np.ix_(n1, n1)] * second[np.ix_(n2, n2)]
    return variance * area * basis.from_cartesian(basis.from_cartesian(result).T)


def _overlap(n, ratio):
    """Return i^a (−i)^b ∫ φ_a(t) φ_b(t) exp(−ratio² t²/2) dt, ``(n + 1, n + 1)``, 0 for odd a + b."""
    edge = np.sqrt(2 * n + 1) + 8
    # Smooth functions that vanish at the edges: equal steps below the shortest wavelength are exact to rounding.
    t, step = np.linspace(-edge, edge, int(4 * edge**2), retstep=True)
    rows = hermite(n, t)
    order = np.arange(n + 1)
    # Odd a − b have integrals of 0.
    signs = np.where(np.subtract.outer(order, order) % 4 == 0, 1.0, -1.0)
    return signs * ((rows * np.exp(-(ratio * t) ** 2 / 2)) @ rows.T) * step


def _arcsec(angle):
    return f'{np.degrees(angle) * 3600:.3g}"'
