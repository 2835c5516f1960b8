"""Cutouts about sky positions: on the image's own grid, or resampled to a common pixel scale."""

from __future__ import annotations

import warnings

import numpy as np
from astropy import units as u
from astropy.coordinates import ICRS, SkyCoord
from astropy.table import QTable, Table

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, HalopyWarning, OutsideImageError
from halopy.image import FWHM_TO_SIGMA, TOLERANCE, Beam
from halopy.model import Step
from halopy.preprocess.interpolate import MARGIN, Interpolator
from halopy.preprocess.project import SkyToPixel, tangent_grid
from halopy.preprocess.threads import in_threads

__all__ = ["CutoutMaker"]

# Sampling a Gaussian beam of FWHM b at b/2.5 aliases exp(-0.89 · 2.5²) = 0.4 % of the amplitude at
# the Nyquist frequency; at b/2 it is 3 %, at b/1.5 13 %.
PIXELS_PER_BEAM = 2.5
UNPROJECTABLE = -(2**30)
CHUNK_PIXELS = 2**22


class CutoutMaker(Step):
    """Cut an image around sky positions.

    Without ``pixel_scale`` and ``pixels_per_beam`` the image's own pixels are copied: the target
    lies within half a pixel of the centre, ``(n - 1) / 2``, and `CutoutSet.wcs` is exact. With one
    of them, each cutout is interpolated onto a tangential grid that has the target at its centre
    and north up.

    Parameters
    ----------
    size : int, tuple of int or `~astropy.units.Quantity`, optional
        Pixels of a square cutout (default 64), ``(ny, nx)``, or one or two angles.
    pixel_scale : `~astropy.units.Quantity`, optional
        Angle of a pixel of the cutouts. Default: the image's own grid.
    pixels_per_beam : float, optional
        The same, as a fraction of the geometric mean of the beam's axes. Not both.
    partial : bool, optional
        True (default): whatever lies off the image is NaN, and the column ``coverage`` says how
        much is left, down to 0 for a target that is not on the image at all. False: such targets
        raise `OutsideImageError`.
    min_coverage : float, optional
        With ``partial=False``, the fraction of pixels with data that a cutout needs, default 1.
    order : int, optional
        Order of the interpolating spline, 0 to 5, default 3.

    Notes
    -----
    Data per beam (or per solid angle) keep their values when they are resampled; data per pixel are
    multiplied by the local ratio of pixel areas. Either way the total flux is kept.

    Interpolation alone is right as long as the new pixels still sample the beam, with 2.5 of them
    per beam or more. Coarser ones would alias: the image is smoothed with a Gaussian first, which
    keeps the total flux and lowers the peaks, with a `HalopyWarning`. Where no beam is known the
    image is taken to be sampled with 2.5 pixels per beam, and is smoothed for pixels more than
    1.5 times its own.

    An output pixel is NaN if any of the four image pixels around it is, so one bad pixel spreads
    no further than its neighbours.

    Copying, and interpolation of the orders 1 and 3 without smoothing, are compiled at the first call and shared out
    among the threads that ``NUMBA_NUM_THREADS`` allows; the result does not depend on how many there are.

    The columns ``beam_major``, ``beam_minor`` and ``beam_pa`` are relative to the axes of the
    cutout's pixels, with x for west and y for north, because all that measures cutouts takes them
    so. That is the beam on the sky where the cutout is resampled, or the image has north up, east
    to the left and square pixels; on any other grid of its own it is `ClusterImage.pixel_beam`.
    The position angle of an image's beam counts from the north of its own frame, at its centre.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.wcs import WCS
    >>> from halopy import Beam, ClusterImage, CutoutMaker
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-28 / 3600, 28 / 3600]
    >>> wcs.wcs.crval, wcs.wcs.crpix = [3.6, -30.4], [100.5, 100.5]
    >>> image = ClusterImage(np.ones((200, 200)), wcs=wcs, unit=u.Jy / u.beam, beam=Beam(140 * u.arcsec), name="A2744")
    >>> positions = wcs.pixel_to_world([99.5, 20.0], [99.5, 50.2])
    >>> cutouts = CutoutMaker(64)(image, positions)
    >>> cutouts.shape, cutouts.table["coverage"].round(2).tolist()
    ((2, 64, 64), [1.0, 0.83])
    >>> CutoutMaker(64, pixels_per_beam=4)(image, positions).table["pixel_scale"][0]
    <Quantity 35. arcsec>
    """

    def __init__(self, size=64, *, pixel_scale=None, pixels_per_beam=None, partial=True, min_coverage=1.0, order=3):
        self.size = size
        self.pixel_scale = pixel_scale
        self.pixels_per_beam = pixels_per_beam
        self.partial = partial
        self.min_coverage = min_coverage
        self.order = order

    def __call__(self, image, positions):
        """Cut ``image`` around ``positions``.

        Parameters
        ----------
        image : ClusterImage
            Where to cut.
        positions : `~astropy.coordinates.SkyCoord` or `~astropy.table.QTable`
            ``(n,)`` positions, or a table with a column ``position``; its other columns go to the
            cutouts' table.

        Returns
        -------
        CutoutSet
            ``(n, ny, nx)`` in the image's unit. The table has the columns ``position`` (ICRS),
            ``image``, ``x0`` and ``y0`` (own grid only; a position that cannot be projected onto
            the image has them far outside), ``pixel_scale``, ``beam_major``, ``beam_minor``,
            ``beam_pa``, ``frequency``, ``rms`` (median of the image's rms map over the central
            half), ``coverage`` (fraction of pixels with data) and ``zeros`` (fraction of exact
            zeros among the image's pixels that hold data: clipped images have many). What is not
            known is NaN.

        Raises
        ------
        OutsideImageError
            ``partial=False`` and a cutout is not covered.
        HaloInputError
            A setting, or the table, cannot be used.
        """
        table, sky = _positions(positions)
        scale = self._scale(image)
        shape = self._shape(image.pixel_scale if scale is None else scale)
        project = SkyToPixel(image.wcs, image.data.shape)
        columns = {"position": sky, "image": np.full(len(sky), image.name or "image")}
        if scale is None:
            data, counts, rms, x0, y0 = _crop(image, project(sky.ra.deg, sky.dec.deg), shape)
            columns |= {"x0": x0, "y0": y0}
        else:
            data, counts, rms = self._resample(image, project, sky, shape, scale)
        # Values, pixels of the image with data under them, and exact zeros among these.
        valid, known, zeros = counts.T
        coverage = valid / (shape[0] * shape[1])
        zeros = np.where(known, zeros / np.maximum(known, 1), np.nan)
        if not self.partial:
            _require(coverage, self.min_coverage, table, sky, image)
        beam = image.pixel_beam if scale is None else _north_up_beam(image, project.frame)
        unknown = np.nan * u.arcsec
        values = {
            "pixel_scale": (image.pixel_scale if scale is None else scale).to(u.arcsec),
            "beam_major": unknown if beam is None else beam.major.to(u.arcsec),
            "beam_minor": unknown if beam is None else beam.minor.to(u.arcsec),
            "beam_pa": np.nan * u.deg if beam is None else beam.pa.to(u.deg),
            "frequency": np.nan * u.MHz if image.frequency is None else image.frequency,
        }
        columns |= {name: np.full(len(sky), value.value) * value.unit for name, value in values.items()}
        columns |= {"rms": rms * u.Unit(image.unit), "coverage": coverage, "zeros": zeros}
        for name in ("x0", "y0", *columns):
            if name in table.colnames:
                table.remove_column(name)
        for name, column in columns.items():
            table.add_column(column, name=name, copy=False)
        meta = {"flags": image.flags}
        if scale is None:
            header = image.wcs.to_header(relax=True).tostring(sep="\n", endcard=False, padding=False)
            meta["wcs"] = {image.name or "image": header}
        return CutoutSet(data, table, unit=image.unit, meta=meta)

    def _scale(self, image):
        if self.pixel_scale is not None and self.pixels_per_beam is not None:
            raise HaloInputError("give pixel_scale or pixels_per_beam, not both",
                                 found=f"{self.pixel_scale}, {self.pixels_per_beam}")
        if not (isinstance(self.order, (int, np.integer)) and 0 <= self.order <= 5):
            raise HaloInputError("order must be a whole number from 0 to 5", found=self.order)
        if self.pixel_scale is not None:
            return _angle(self.pixel_scale, "pixel_scale").reshape(())
        if self.pixels_per_beam is None:
            return None
        if image.beam is None:
            raise HaloInputError("pixels_per_beam needs an image with a beam", path=image.meta.get("path"),
                                 hint="pixel_scale=, or read the image with beam=Beam(...) or survey=...")
        if not self.pixels_per_beam > 0:
            raise HaloInputError("pixels_per_beam must be positive", found=self.pixels_per_beam)
        return (np.sqrt(image.beam.major * image.beam.minor) / self.pixels_per_beam).to(u.arcsec)

    def _shape(self, pixel_scale):
        size = self.size
        if isinstance(size, u.Quantity) or (isinstance(size, (list, tuple)) and isinstance(size[0], u.Quantity)):
            size = np.maximum(1, np.round((_angle(size, "size") / pixel_scale).to_value(u.one))).astype(int)
        sizes = np.atleast_1d(size)
        if sizes.dtype.kind not in "iu" or sizes.shape not in ((1,), (2,)) or (sizes < 1).any():
            raise HaloInputError("size must be a positive number of pixels, (ny, nx), or an angle",
                                 found=str(self.size), hint="CutoutMaker(64) or CutoutMaker(0.5 * u.deg)")
        return int(sizes[0]), int(sizes[-1])

    def _resample(self, image, project, sky, shape, scale):
        ratio = float((scale / image.pixel_scale).to_value(u.one))
        smooth = _smoothing(image, ratio)
        if smooth:
            warnings.warn(f"pixels of {scale:.4g} do not sample the beam {PIXELS_PER_BEAM} times: the image is "
                          f"smoothed by a Gaussian of {smooth / FWHM_TO_SIGMA * image.pixel_scale:.4g} FWHM first; "
                          "try a smaller pixel_scale", HalopyWarning, stacklevel=3)
        unit = u.Unit(image.unit)
        per_pixel = any(base == u.pix and power < 0 for base, power in zip(unit.bases, unit.powers, strict=True))
        if per_pixel and min(shape) < 2:
            raise HaloInputError("data per pixel need cutouts of two pixels or more to be resampled", found=shape)
        n = len(sky)
        data = np.empty((n, *shape), dtype=np.float32)
        counts, rms = np.empty((n, 3), dtype=np.int64), np.full(n, np.nan)
        plane, noise = (None if p is None else np.ascontiguousarray(p) for p in (image.data, image.rms))
        step = max(1, CHUNK_PIXELS // (shape[0] * shape[1]))
        for start in range(0, n, step):
            grids = tangent_grid(project, sky[start:start + step], shape, scale)

            def work(few, start=start, grids=grids):
                rows = slice(start + few.start, start + few.stop)
                if self.order in (1, 3) and not smooth:
                    _splines(plane, grids, few, self.order, data[rows], counts[rows])
                else:
                    _interpolate(plane, grids, few, self.order, smooth, data[rows], counts[rows])
                area = _jacobian(*grids.positions(few)) if per_pixel else None
                if per_pixel:
                    data[rows] *= area
                    counts[rows, 0] = np.isfinite(data[rows]).sum(axis=(1, 2))
                if noise is not None:
                    rms[rows] = _central_rms(noise, *grids.positions(few, _central(shape)), area)

            in_threads(work, _slices(min(step, n - start), 64))
        return data, counts, rms


def _positions(positions):
    if isinstance(positions, SkyCoord):
        table, sky = QTable(), positions
    elif isinstance(positions, Table):
        if "position" not in positions.colnames or not isinstance(positions["position"], SkyCoord):
            raise HaloInputError("the table of targets needs a column 'position' of sky coordinates",
                                 found=positions.colnames, hint="table['position'] = SkyCoord(ra, dec)")
        table, sky = QTable(positions, copy=True), positions["position"]
    else:
        raise HaloInputError("positions must be a SkyCoord or a table with a column 'position'",
                             found=type(positions).__name__)
    if sky.ndim > 1:
        raise HaloInputError("positions have one axis", found=sky.shape, hint="positions.ravel()")
    sky = sky.reshape(-1).icrs
    return table, SkyCoord(sky.ra, sky.dec, frame="icrs")


def _angle(value, name):
    try:
        angle = u.Quantity(value).to(u.arcsec)
    except (u.UnitsError, TypeError, ValueError):
        angle = None
    if angle is None or not np.all(angle.value > 0) or not np.isfinite(angle.value).all() or \
            angle.size > (2 if name == "size" else 1):
        raise HaloInputError(f"{name} must be a positive angle", found=str(value), hint=f"{name}=20 * u.arcsec")
    return angle


def _crop(image, pixel, shape):
    """Copy whole pixels: data, counts, rms, x0, y0."""
    from halopy.preprocess.gather import crop

    corner = []
    for position, n in zip(pixel, shape[::-1], strict=True):
        start = np.floor(position - (n - 1) / 2 + 0.5)
        corner.append(np.nan_to_num(np.clip(start, UNPROJECTABLE, -UNPROJECTABLE), nan=UNPROJECTABLE).astype(np.int64))
    x0, y0 = corner
    n = len(x0)
    data = np.empty((n, *shape), dtype=np.float32)
    counts, rms = np.empty((n, 2), dtype=np.int64), np.full(n, np.nan)
    plane, noise = (None if p is None else np.ascontiguousarray(p) for p in (image.data, image.rms))
    rows, columns = _central(shape)

    def work(few):
        crop(plane, x0[few], y0[few], data[few], counts[few])
        if noise is not None:
            values = np.empty((few.stop - few.start, rows.stop - rows.start, columns.stop - columns.start), np.float32)
            crop(noise, x0[few] + columns.start, y0[few] + rows.start, values, np.empty((len(values), 2), np.int64))
            rms[few] = _median(values[:, ::rows.step, ::columns.step])

    in_threads(work, _slices(n, 256))
    return data, counts[:, [0, 0, 1]], rms, x0, y0


def _slices(n, step):
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _splines(plane, grids, few, order, data, counts):
    from halopy.preprocess.spline import resample

    counts[:] = resample(plane, grids.control[few], *grids.matrices, data, order=order)
    for i, exact in grids.exact_of(few):
        row = slice(i, i + 1)
        counts[row] = resample(plane, exact[None], None, None, data[row], order=order)


def _interpolate(plane, grids, few, order, smooth, data, counts):
    """Smooth the part of a plane that each cutout sees, and interpolate it with a spline of any order."""
    from halopy.preprocess.gather import nearest

    margin = MARGIN + int(np.ceil(4 * smooth))
    x, y = grids.positions(few)
    pixels = np.empty(x.shape, np.float32)
    nearest(plane, x, y, pixels)
    counts[:, 1], counts[:, 2] = np.isfinite(pixels).sum(axis=(1, 2)), (pixels == 0).sum(axis=(1, 2))
    for i, (xs, ys) in enumerate(zip(x, y, strict=True)):
        finite = np.isfinite(xs) & np.isfinite(ys)
        data[i], counts[i, 0] = np.nan, 0
        if not finite.any():
            continue
        low, high = [], []
        for position, n in ((ys, plane.shape[0]), (xs, plane.shape[1])):
            position = np.clip(position[finite], -1, n)
            low.append(max(int(np.floor(position.min())) - margin, 0))
            high.append(min(int(np.ceil(position.max())) + margin + 1, n))
        part = plane[low[0]:high[0], low[1]:high[1]]
        data[i] = Interpolator(part, order=order, smooth=smooth)(xs - low[1], ys - low[0])
        counts[i, 0] = np.isfinite(data[i]).sum()


def _smoothing(image, ratio):
    """Return the sigma, in image pixels, that leaves the new grid `PIXELS_PER_BEAM` pixels a beam."""
    wanted = PIXELS_PER_BEAM * ratio
    if image.beam is None:
        found = PIXELS_PER_BEAM if ratio > 1.5 else np.inf
    else:
        found = (image.beam.minor / image.pixel_scale).to_value(u.one)
        # An image that does not sample its own beam is not repaired by smoothing it further.
        found = max(found, PIXELS_PER_BEAM)
    return float(np.sqrt(max(wanted**2 - found**2, 0.0)) * FWHM_TO_SIGMA)


def _north_up_beam(image, frame):
    """Return the beam on a grid with ICRS north up; the image's frame may have another north."""
    beam = image.beam
    if beam is None or isinstance(frame, ICRS):
        return beam
    ny, nx = image.shape
    lon, lat = np.array(image.wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0))[[image.wcs.wcs.lng, image.wcs.wcs.lat]]
    if not np.isfinite([lon, lat]).all():
        return beam
    centre = SkyCoord(lon, lat, unit=u.deg, frame=frame)
    north = centre.directional_offset_by(0 * u.deg, 1 * u.arcmin)
    angle = centre.icrs.position_angle(north.icrs).wrap_at(180 * u.deg).to(u.deg)
    if abs(angle.to_value(u.rad)) < TOLERANCE:
        return beam
    return Beam(beam.major, beam.minor, (beam.pa + angle) % (180 * u.deg), source=beam.source)


def _jacobian(x, y):
    """Area of each output pixel in image pixels."""
    with np.errstate(invalid="ignore"):
        return np.abs(np.gradient(x, axis=2) * np.gradient(y, axis=1) - np.gradient(x, axis=1) * np.gradient(y, axis=2))


def _central(shape):
    """At most 16 x 16 pixels over the central half."""
    return tuple(slice(n // 4, n - n // 4, max(1, n // 32)) for n in shape)


def _central_rms(rms, x, y, area):
    """Median of the rms map at some positions; with the area of a cutout's pixels, for data per pixel."""
    from halopy.preprocess.gather import nearest

    values = np.empty(x.shape, np.float32)
    nearest(rms, np.ascontiguousarray(x), np.ascontiguousarray(y), values)
    return _median(values if area is None else values * area[:, *_central(area.shape[1:])])


def _median(values):
    """Median of each plane of values, without those that are missing."""
    values = np.sort(values.reshape(len(values), -1), axis=1)
    n = np.isfinite(values).sum(axis=1)
    rows = np.arange(len(values))
    middle = (values[rows, np.maximum((n - 1) // 2, 0)] + values[rows, n // 2]) / 2
    return np.where(n > 0, middle, np.nan)


def _require(coverage, min_coverage, table, sky, image):
    for i in np.flatnonzero(coverage < min_coverage)[:1]:
        name = f"{str(table['name'][i])!r}" if "name" in table.colnames else f"number {i}"
        raise OutsideImageError(
            f"target {name} at {sky[i].to_string('hmsdms', precision=1)} has data in {coverage[i]:.0%} of its cutout, "
            f"{min_coverage:.0%} must be covered by image {image.name!r}",
            path=image.meta.get("path"), hint="partial=True keeps it, padded with NaN")
