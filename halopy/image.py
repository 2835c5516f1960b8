"""Values of the ground floor: the synthesised beam and the image of a cluster."""

from __future__ import annotations

import dataclasses
import html
from typing import NamedTuple

import numpy as np
from astropy import units as u
from astropy.io import registry
from astropy.nddata import NDData, StdDevUncertainty
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from halopy.errors import HaloInputError

__all__ = ["Beam", "ClusterImage"]

FWHM_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))
NORTH_UP = np.diag([-1.0, 1.0])
# A beam is not known to a thousandth; grids closer than that to north-up squares keep its numbers as they are.
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Beam:
    """An elliptical Gaussian synthesised beam.

    Parameters
    ----------
    major, minor : `~astropy.units.Quantity`
        Full widths at half maximum (angles). ``minor`` defaults to ``major``.
    pa : `~astropy.units.Quantity`, optional
        Position angle of the major axis, from north through east. Default 0 deg.
    source : str, optional
        Where the numbers came from, for example ``"user"`` (the default) or ``"header BMAJ"``.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy import Beam
    >>> beam = Beam(2.5 * u.arcmin, 2.2 * u.arcmin)
    >>> beam
    Beam(150" x 132", pa 0 deg, user)
    >>> beam.area.to(u.arcmin**2).round(2)
    <Quantity 6.23 arcmin2>
    """

    major: u.Quantity
    minor: u.Quantity | None = None
    pa: u.Quantity = 0 * u.deg
    source: str = "user"

    def __post_init__(self):
        major, minor = self.major, self.major if self.minor is None else self.minor
        for name, value in (("major", major), ("minor", minor), ("pa", self.pa)):
            if not u.Quantity(value).unit.is_equivalent(u.deg) or not np.isscalar(u.Quantity(value).value):
                raise HaloInputError(
                    f"the beam's {name} must be a single angle", found=str(value),
                    hint="Beam(45 * u.arcsec)")
        if not (np.isfinite(major) and np.isfinite(minor) and np.isfinite(self.pa)):
            raise HaloInputError("a beam must be finite", found=f"{major}, {minor}, {self.pa}")
        if not 0 < minor.to_value(u.deg) <= major.to_value(u.deg) * (1 + 1e-6):
            raise HaloInputError("a beam needs 0 < minor <= major", found=f"{major} x {minor}")
        object.__setattr__(self, "minor", min(u.Quantity(minor), u.Quantity(major)))

    @property
    def area(self):
        """Solid angle of the Gaussian, π/(4 ln 2) · major · minor."""
        return (np.pi / (4 * np.log(2)) * self.major * self.minor).to(u.arcsec**2)

    def area_pixels(self, pixel_scale):
        """Solid angle in square pixels of ``pixel_scale`` (an angle)."""
        return float((self.area / pixel_scale**2).to_value(u.one))

    def covariance(self, pixel_scale):
        """Covariance of the Gaussian in pixels, for axes (east = −x, north = +y); else see `ClusterImage.pixel_beam`.

        Parameters
        ----------
        pixel_scale : `~astropy.units.Quantity`
            Angle of a square pixel.

        Returns
        -------
        `~numpy.ndarray`
            ``(2, 2)``, in square pixels, rows and columns ordered (x, y).
        """
        a, b = ((axis / pixel_scale).to_value(u.one) * FWHM_TO_SIGMA for axis in (self.major, self.minor))
        angle = self.pa.to_value(u.rad)
        along = np.array([-np.sin(angle), np.cos(angle)])
        across = np.array([np.cos(angle), np.sin(angle)])
        return a**2 * np.outer(along, along) + b**2 * np.outer(across, across)

    def __repr__(self):
        major, minor = self.major.to_value(u.arcsec), self.minor.to_value(u.arcsec)
        return f'Beam({major:.4g}" x {minor:.4g}", pa {self.pa.to_value(u.deg):.4g} deg, {self.source})'


class _FormatRead(registry.UnifiedReadWrite):
    """Read a file into a `ClusterImage` through astropy's unified registry.

    Parameters
    ----------
    path : str or path-like
        A file on this machine. URLs are refused.
    format : str, optional
        Default ``"fits"``, see `halopy.io.fits.read_image` for its keywords. Other readers may be
        registered with `astropy.io.registry`.
    **keywords
        Handed to the reader: ``survey=``, ``beam=``, ``unit=``, ``frequency=``, ``hdu=``,
        ``plane=``, ``name=`` for FITS.

    Returns
    -------
    ClusterImage
    """

    def __init__(self, instance, cls):
        super().__init__(instance, cls, "read", registry=None)

    def __call__(self, path, *, format="fits", **keywords):
        # The format is always given: astropy's guessing would open the file, or a URL, by itself.
        return self.registry.read(self._cls, path, format=format, **keywords)


class _FormatWrite(registry.UnifiedReadWrite):
    """Write a `ClusterImage` through astropy's unified registry.

    Parameters
    ----------
    path : str or path-like
        The file to write, atomically.
    format : str, optional
        Default ``"fits"``.
    **keywords
        Handed to the writer, for example ``overwrite=True``.
    """

    def __init__(self, instance, cls):
        super().__init__(instance, cls, "write", registry=None)

    def __call__(self, path, *, format="fits", **keywords):
        self.registry.write(self._instance, path, format=format, **keywords)


class ClusterImage(NDData):
    """A radio image of a cluster or a survey field: two axes, NaN where there is no data.

    Parameters
    ----------
    data : array-like
        ``(ny, nx)``; stored as native float32. Infinities become NaN.
    wcs : `~astropy.wcs.WCS`
        Celestial, two axes.
    unit : `~astropy.units.Unit`
        Usually Jy/beam.
    beam : Beam, optional
        The synthesised beam; detection needs it.
    frequency : `~astropy.units.Quantity`, optional
        Centre of the band.
    name : str, optional
        A name for repr, tables and pages.
    rms, background : array-like, optional
        ``(ny, nx)``, in ``unit``. The rms map becomes ``uncertainty``
        (a `~astropy.nddata.StdDevUncertainty`). Of float32 they are kept as they are, not copied.
    flags : sequence of str, optional
        What a user of the numbers has to know: ``clipped``, ``beam-from-survey``...
    meta : mapping, optional
        What was found in the file, and where.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.wcs import WCS
    >>> from halopy import Beam, ClusterImage
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-28 / 3600, 28 / 3600]
    >>> ClusterImage(np.zeros((100, 120)), wcs=wcs, unit=u.Jy / u.beam,
    ...              beam=Beam(2 * u.arcmin), frequency=200 * u.MHz, name="A2744")
    <ClusterImage 'A2744' (100, 120) Jy / beam, pixel 28", beam 120" x 120" (user), 200 MHz, rms not estimated>
    """

    read = registry.UnifiedReadWriteMethod(_FormatRead)
    write = registry.UnifiedReadWriteMethod(_FormatWrite)

    def __init__(self, data, *, wcs, unit, beam=None, frequency=None, name="", rms=None,
                 background=None, flags=(), meta=None):
        shared = isinstance(data, _Shared)
        data = data.pixels if shared else np.asarray(data)
        if data.ndim != 2 or data.size == 0:
            raise HaloInputError("a ClusterImage has two axes", found=data.shape,
                                 hint="plane= chooses one plane of a cube when reading")
        if data.dtype.kind not in "fiu":
            raise HaloInputError("pixels must be real numbers", found=str(data.dtype))
        if not isinstance(wcs, WCS) or wcs.naxis != 2 or not wcs.has_celestial:
            raise HaloInputError("a ClusterImage needs a celestial WCS of two axes", found=repr(type(wcs).__name__)
                                 if not isinstance(wcs, WCS) else list(wcs.wcs.ctype), hint="wcs.celestial")
        if beam is not None and not isinstance(beam, Beam):
            raise HaloInputError("beam must be a halopy.Beam", found=type(beam).__name__,
                                 hint="Beam(45 * u.arcsec)")
        pixels = data
        if not shared:
            with np.errstate(over="ignore"):
                pixels = data.astype(np.float32)
            pixels[~np.isfinite(pixels)] = np.nan
        uncertainty = None
        if rms is not None:
            uncertainty = StdDevUncertainty(_plane(rms, data.shape, "rms"), copy=False)
        super().__init__(pixels, uncertainty=uncertainty, wcs=wcs, unit=unit, meta=dict(meta or {}))
        self.beam = beam
        self.frequency = None if frequency is None else u.Quantity(frequency).to(u.MHz)
        self.name = str(name)
        self.background = None if background is None else _plane(background, data.shape, "background")
        self.flags = tuple(dict.fromkeys(flags))

    @property
    def shape(self):
        """``(ny, nx)``."""
        return self.data.shape

    @property
    def valid(self):
        """``(ny, nx)`` bool: pixels that hold data."""
        return np.isfinite(self.data)

    @property
    def pixel_scale(self):
        """Angle of a pixel, the geometric mean of both axes."""
        scales = proj_plane_pixel_scales(self.wcs)
        return np.sqrt(scales[0] * scales[1]) * 3600 * u.arcsec

    @property
    def rms(self):
        """``(ny, nx)`` float32 local noise in `unit`, or None before a `NoiseEstimator` has run."""
        return None if self.uncertainty is None else self.uncertainty.array

    @property
    def beam_area(self):
        """Beam solid angle in pixels."""
        if self.beam is None:
            raise HaloInputError("this image has no beam", path=self.meta.get("path"),
                                 hint="read it with beam=Beam(...) or survey=...")
        return self.beam.area_pixels(self.pixel_scale)

    @property
    def pixel_beam(self):
        """The beam as the pixel grid sees it, for `Beam.covariance` and whatever else takes x for west and y for north.

        An image may be mirrored, rotated (CROTA2, PC), south-up, or have oblong pixels. Its beam is
        then an ellipse of other axes in pixels: the one whose ``covariance(image.pixel_scale)`` holds
        on this grid, whose ``pa`` runs from +y towards −x. It is carried over by the derivatives of
        the WCS at the image's centre (the reference pixel where the centre shows no sky). The
        position angle of `beam` counts from the north of the image's own frame: galactic north for
        GLON/GLAT. On a grid with north up and square pixels, to a thousandth, this is `beam` itself.
        """
        if self.beam is None:
            return None
        matrix = _sky_per_pixel(self.wcs, self.shape) / self.pixel_scale.to_value(u.rad)
        if not np.isfinite(matrix).all() or np.abs(matrix - NORTH_UP).max() < TOLERANCE:
            return self.beam
        turn = np.linalg.solve(matrix, NORTH_UP)
        values, vectors = np.linalg.eigh(turn @ self.beam.covariance(1 * u.arcsec) @ turn.T)
        minor, major = np.sqrt(values) / FWHM_TO_SIGMA * u.arcsec
        if major - minor < 1e-6 * major:
            return Beam(major, source=self.beam.source)
        x, y = vectors[:, 1]
        return Beam(major, minor, np.degrees(np.arctan2(-x, y)) % 180 * u.deg, source=self.beam.source)

    @property
    def pixels_per_sky(self):
        """``(2, 2)`` derivatives of x and y (rows) by east and north (columns) at the centre, in pixels per arcsec."""
        matrix = _sky_per_pixel(self.wcs, self.shape)
        if not np.isfinite(matrix).all():
            scale = self.pixel_scale.to_value(u.arcsec)
            return NORTH_UP / scale
        return np.linalg.inv(np.degrees(matrix) * 3600)

    def replace(self, **changes):
        """Return an image with some of the constructor's arguments changed; planes that are not changed are shared.

        Examples
        --------
        >>> clipped = image.replace(data=image.data.clip(0), flags=(*image.flags, "clipped"))  # doctest: +SKIP
        """
        settings = {
            "data": _Shared(self.data), "wcs": self.wcs, "unit": self.unit, "beam": self.beam,
            "frequency": self.frequency, "name": self.name, "rms": self.rms,
            "background": self.background, "flags": self.flags, "meta": self.meta,
        }
        unknown = set(changes) - set(settings)
        if unknown:
            raise TypeError(f"ClusterImage.replace has no argument {sorted(unknown)[0]!r}")
        return ClusterImage(**(settings | changes))

    def __getitem__(self, item):
        """Cut out a rectangle of pixels; the WCS, rms and background follow."""
        item = item if isinstance(item, tuple) else (item,)
        if len(item) > 2 or not all(isinstance(s, slice) and s.step in (None, 1) for s in item):
            raise HaloInputError("a ClusterImage is cut with slices of step 1", found=str(item),
                                 hint="image[10:50, 20:60]")
        item = tuple(slice(*s.indices(n)) for s, n in zip((*item, slice(None))[:2], self.shape, strict=True))
        if any(s.stop <= s.start for s in item):
            raise HaloInputError("this slice of the image is empty", found=str(item))
        planes = {k: None if v is None else v[item]
                  for k, v in (("data", self.data), ("rms", self.rms), ("background", self.background))}
        return self.replace(wcs=self.wcs[item], **planes)

    def __str__(self):
        return repr(self)

    def __repr__(self):
        frequency = "frequency unknown" if self.frequency is None else f"{self.frequency.value:g} MHz"
        beam = "no beam"
        if self.beam is not None:
            major, minor = self.beam.major.to_value(u.arcsec), self.beam.minor.to_value(u.arcsec)
            beam = f'beam {major:.4g}" x {minor:.4g}" ({self.beam.source})'
        rms = "rms not estimated"
        if self.rms is not None:
            with np.errstate(all="ignore"):
                level = np.nanmedian(self.rms) * u.Quantity(1, self.unit)
            rms = f"rms {level.value:.3g} {level.unit}"
            if self.unit.is_equivalent(u.Jy / u.beam):
                rms = f"rms {level.to_value(u.mJy / u.beam):.3g} mJy / beam"
            rms += f" ({self.meta['rms_method']})" if "rms_method" in self.meta else ""
        name = f" '{self.name}'" if self.name else ""
        flags = f", flags {' '.join(self.flags)}" if self.flags else ""
        scale = self.pixel_scale.to_value(u.arcsec)
        return f'<ClusterImage{name} {self.shape} {self.unit}, pixel {scale:.4g}", {beam}, {frequency}, {rms}{flags}>'

    def _repr_html_(self):
        return f"<pre>{html.escape(repr(self))}</pre>"


class _Shared(NamedTuple):
    """Pixels that are those of an image already."""

    pixels: np.ndarray


def _sky_per_pixel(wcs, shape):
    """Return the ``(2, 2)`` derivatives of east and north (radians, rows) by x and y (columns) at the centre."""
    step = 0.1
    for centre in (np.array(shape[::-1]) / 2 - 0.5, np.array(wcs.wcs.crpix) - 1):
        points = centre + step * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
        world = np.radians(wcs.all_pix2world(points, 0))
        lon, lat = world[:, wcs.wcs.lng], world[:, wcs.wcs.lat]
        xyz = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
        east = np.array([-np.sin(lon[0]), np.cos(lon[0]), 0])
        north = np.array([-np.sin(lat[0]) * np.cos(lon[0]), -np.sin(lat[0]) * np.sin(lon[0]), np.cos(lat[0])])
        # Differences of sky vectors know neither the seam at longitude 0 nor the poles.
        matrix = np.stack([east, north]) @ (xyz[:, [1, 3]] - xyz[:, [2, 4]]) / (2 * step)
        if np.isfinite(matrix).all() and np.linalg.det(matrix) != 0:
            return matrix
    return np.full((2, 2), np.nan)


def _plane(values, shape, what):
    plane = np.asarray(values, dtype=np.float32)
    if plane.ndim == 0:
        plane = np.full(shape, plane, dtype=np.float32)
    if plane.shape != shape:
        raise HaloInputError(f"the {what} map must have the shape of the image, {shape}", found=plane.shape)
    return plane
