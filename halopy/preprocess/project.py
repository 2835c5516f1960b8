"""From the sky to an image's pixels, for many positions in one call."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import ICRS, SkyCoord
from astropy.wcs.utils import wcs_to_celestial_frame

from halopy.errors import HaloInputError

__all__ = ["CONTROL", "Grids", "SkyToPixel", "control_points", "polynomials", "tangent_grid"]

# Projections in which a turn of 360 degrees is a shift along x.
CYLINDRICAL = ("CAR", "CEA", "CYP", "MER")
CONTROL = 5
TOLERANCE = 1e-3
AT_ONCE = 2**16


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


class Grids:
    """Where the pixels of ``n`` grids fall in an image: polynomials, and positions one by one.

    Parameters
    ----------
    control : `~numpy.ndarray`
        ``(n, 2, 5, 5)``: x and y of the control points, in pixels of the image. With ``rows`` and ``columns``, the
        `polynomials` of the shape, ``rows @ control @ columns`` are the positions of all pixels. NaN where these are
        given one by one.
    exact : dict
        These: ``(2, ny, nx)`` x and y, by the number of the grid.
    shape : tuple of int
        ``(ny, nx)``.
    """

    def __init__(self, control, exact, shape):
        self.control, self.exact, self.matrices = control, exact, polynomials(shape)

    def exact_of(self, few):
        """Return the grids of a slice that are given one by one, as (number in the slice, x and y)."""
        return [(i - few.start, self.exact[i]) for i in range(few.start, few.stop) if i in self.exact]

    def positions(self, few, part=(slice(None), slice(None))):
        """Return x and y, ``(n, ny, nx)``, of a slice of the grids, or of rows and columns of them."""
        rows, columns = self.matrices
        with np.errstate(invalid="ignore"):
            grids = rows[part[0]] @ self.control[few] @ columns[:, part[1]]
        for i, exact in self.exact_of(few):
            grids[i] = exact[:, *part]
        return np.ascontiguousarray(grids[:, 0]), np.ascontiguousarray(grids[:, 1])


def tangent_grid(project, sky, shape, pixel_scale):
    """Return where tangential grids about many positions fall in an image, by control points.

    The positions are those of `halopy.cutouts.tangent_wcs`. The image's projection, the expensive part, is evaluated
    at 25 Chebyshev points a cutout, between which polynomials hold; where they miss one of nine
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
    Grids
    """
    ra, dec, scale = sky.ra.deg, sky.dec.deg, float(pixel_scale.to_value(u.rad))
    pixels = [np.arange(n) for n in shape]
    control = np.full((len(ra), 2, CONTROL, CONTROL), np.nan)
    good = np.zeros(len(ra), dtype=bool)
    if min(shape) > 2 * CONTROL:
        nodes = [control_points(n) for n in shape]
        checks = [(n - 1) * np.array([0.0, 0.27, 1.0]) for n in shape]
        check_rows, check_columns = (_lagrange(node, check) for node, check in zip(nodes, checks, strict=True))
        control = np.stack(project(*_tangent(ra, dec, *nodes, shape, scale)), axis=1)
        true = np.stack(project(*_tangent(ra, dec, *checks, shape, scale)), axis=1)
        with np.errstate(invalid="ignore"):
            good = (np.abs(check_rows @ control @ check_columns.T - true) < TOLERANCE).all(axis=(1, 2, 3))
        control[~good] = np.nan
    exact, bad, step = {}, np.flatnonzero(~good), max(1, AT_ONCE // (shape[0] * shape[1]))
    for start in range(0, len(bad), step):
        some = bad[start:start + step]
        grids = np.stack(project(*_tangent(ra[some], dec[some], *pixels, shape, scale)), axis=1)
        exact |= dict(zip(some.tolist(), grids, strict=True))
    return Grids(control, exact, shape)


def control_points(n):
    """Return the 5 Chebyshev points along an axis of ``n`` pixels."""
    return max(n - 1, 1) / 2 * (1 - np.cos(np.pi * (2 * np.arange(CONTROL) + 1) / (2 * CONTROL)))


def polynomials(shape):
    """Return the matrices ``(ny, 5)`` and ``(5, nx)`` that lead from control points to pixels."""
    rows, columns = (_lagrange(control_points(n), np.arange(n)) for n in shape)
    return rows, np.ascontiguousarray(columns.T)


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
