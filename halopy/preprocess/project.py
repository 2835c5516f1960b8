"""From the sky to an image's pixels, for many positions in one call."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import ICRS, SkyCoord
from astropy.wcs.utils import wcs_to_celestial_frame

from halopy.errors import HaloInputError

__all__ = ["SkyToPixel", "tangent_grid"]

# Projections in which a turn of 360 degrees is a shift along x.
CYLINDRICAL = ("CAR", "CEA", "CYP", "MER")
CONTROL = 5
TOLERANCE = 1e-3


class SkyToPixel:
    """Turn ICRS positions into pixels of a celestial WCS.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial, two axes.
    shape : tuple of int
        ``(ny, nx)`` of the image: a cylindrical projection has more than one pixel for a position,
        and the one nearest to the image's centre is wanted.

    Raises
    ------
    HaloInputError
        The WCS names a sky frame that astropy does not know.
    """

    def __init__(self, wcs, shape):
        try:
            self.frame = wcs_to_celestial_frame(wcs)
        except ValueError as error:
            raise HaloInputError("the sky frame of this image is not known", keyword="CTYPE",
                                 found=list(wcs.wcs.ctype), hint="set RADESYS to ICRS or FK5") from error
        self.wcs = wcs
        self.period = None
        matrix = wcs.pixel_scale_matrix
        lon = wcs.wcs.lng
        if wcs.wcs.ctype[lon][-3:] in CYLINDRICAL and np.allclose(matrix, np.diag(np.diag(matrix))):
            self.period = 360 / abs(matrix[lon, lon])
            self.middle = (shape[1 - lon] - 1) / 2

    def __call__(self, ra, dec):
        """Return x, y for right ascensions and declinations (degrees, any shape); NaN where there is no pixel."""
        shape = np.shape(ra)
        lon, lat = np.ravel(ra), np.ravel(dec)
        if not isinstance(self.frame, ICRS):
            sky = SkyCoord(lon, lat, unit=u.deg, frame="icrs").transform_to(self.frame).spherical
            lon, lat = sky.lon.deg, sky.lat.deg
        world = (lon, lat) if self.wcs.wcs.lng == 0 else (lat, lon)
        if lon.size == 0:
            return np.zeros(shape), np.zeros(shape)
        with np.errstate(all="ignore"):
            pixel = list(self._distorted(world) if self.wcs.has_distortion else self.wcs.wcs_world2pix(*world, 0))
        if self.period is not None:
            axis = self.wcs.wcs.lng
            pixel[axis] = pixel[axis] - self.period * np.round((pixel[axis] - self.middle) / self.period)
        return pixel[0].reshape(shape), pixel[1].reshape(shape)

    def _distorted(self, world):
        wanted = np.array(self.wcs.wcs_world2pix(*world, 0))
        known = np.isfinite(wanted).all(axis=0)
        pixel = np.full(wanted.shape, np.nan)
        if not known.any():
            return pixel
        found = np.array(self.wcs.all_world2pix(*(axis[known] for axis in world), 0, quiet=True))
        # The inverse of a distortion is found by iteration, which can end anywhere for a position far off the image.
        there = np.array(self.wcs.wcs_world2pix(*self.wcs.all_pix2world(*found, 0), 0))
        found[:, ~(np.hypot(*(there - wanted[:, known])) < 0.01)] = np.nan
        pixel[:, known] = found
        return pixel


def tangent_grid(project, sky, shape, pixel_scale):
    """Return where the pixels of tangential grids about many positions fall in an image.

    The positions are those of `halopy.cutouts.tangent_wcs`. The image's projection, the expensive part, is evaluated
    at 25 Chebyshev points a cutout and interpolated by polynomials; where that misses one of nine
    further points by a thousandth of a pixel, every pixel is evaluated.

    Parameters
    ----------
    project : SkyToPixel
        The image.
    sky : `~astropy.coordinates.SkyCoord`
        ``(n,)`` positions, ICRS.
    shape : tuple of int
        ``(ny, nx)`` of each grid.
    pixel_scale : `~astropy.units.Quantity`
        Angle of a pixel at the centre of the grid.

    Returns
    -------
    x, y : `~numpy.ndarray`
        ``(n, ny, nx)`` pixels of the image.
    """
    ra, dec, scale = sky.ra.deg, sky.dec.deg, float(pixel_scale.to_value(u.rad))
    if min(shape) <= 2 * CONTROL:
        return project(*_tangent(ra, dec, *(np.arange(n) for n in shape), shape, scale))
    nodes = [(n - 1) / 2 * (1 - np.cos(np.pi * (2 * np.arange(CONTROL) + 1) / (2 * CONTROL))) for n in shape]
    checks = [(n - 1) * np.array([0.0, 0.27, 1.0]) for n in shape]
    control = project(*_tangent(ra, dec, *nodes, shape, scale))
    true = project(*_tangent(ra, dec, *checks, shape, scale))
    rows, columns = (_lagrange(node, np.arange(n)) for node, n in zip(nodes, shape, strict=True))
    check_rows, check_columns = (_lagrange(node, check) for node, check in zip(nodes, checks, strict=True))
    good = np.ones(len(sky), dtype=bool)
    with np.errstate(invalid="ignore"):
        for points, expected in zip(control, true, strict=True):
            good &= (np.abs(check_rows @ points @ check_columns.T - expected) < TOLERANCE).all(axis=(1, 2))
        x, y = (rows @ points @ columns.T for points in control)
    for i in np.flatnonzero(~good):
        x[i], y[i] = (p[0] for p in project(*_tangent(ra[i:i + 1], dec[i:i + 1], *(np.arange(n) for n in shape),
                                                      shape, scale)))
    return x, y


def _tangent(ra, dec, rows, columns, shape, scale):
    """Sky (degrees) of rows and columns of tangential grids, by the gnomonic projection in closed form."""
    east = -((columns - (shape[1] - 1) / 2) * scale)[None, None, :]
    north = ((rows - (shape[0] - 1) / 2) * scale)[None, :, None]
    sin, cos = (f(np.radians(dec))[:, None, None] for f in (np.sin, np.cos))
    along = cos - north * sin
    lon = ra[:, None, None] + np.degrees(np.arctan2(east, along))
    lat = np.degrees(np.arctan2(sin + north * cos, np.hypot(east, along)))
    return lon % 360, lat


def _lagrange(nodes, points):
    """Return the matrix ``(points, nodes)`` that evaluates the polynomial through the nodes."""
    matrix = np.ones((len(points), len(nodes)))
    for k, node in enumerate(nodes):
        for other in np.delete(nodes, k):
            matrix[:, k] *= (points - other) / (node - other)
    return matrix
