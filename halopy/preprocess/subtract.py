"""Compact sources: find what has the shape of the beam, and remove it.

scipy is imported inside the functions that need it: ``import halopy`` must stay light.
"""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.image import FWHM_TO_SIGMA, Beam, ClusterImage

__all__ = ["beam_groups", "beam_image", "find_compact", "subtract_compact"]

RADIUS = 1.5
"""Radius of the filter that measures a compact source, in beams (geometric mean FWHM)."""
PEDESTAL = 3.0
"""Width of the pedestal on which a source may stand (a halo), in beams."""
FITS = 0.02
"""A beam fits where it leaves no more than this fraction of its peak, and noise, within the filter."""
CHUNK = 64


def subtract_compact(image, *, threshold=5.0, max_iterations=40):
    """Find and remove sources that have the shape of the beam.

    Each iteration measures, at every pixel, the amplitude of a beam that stands on a pedestal three
    beams wide (the local halo) and a constant, by least squares within 1.5 beams: what varies more
    slowly than the beam is left alone. Maxima above ``threshold`` times the scatter of that map are
    removed as beams at their sub-pixel positions, brightest and faint together, until none is left.
    The idea is the matched-filter removal of Sommer & Basu 2014 (arXiv 1307.3049).

    Parameters
    ----------
    image : ClusterImage or CutoutSet
        With a beam, or the columns ``beam_major``, ``beam_minor``, ``beam_pa``, ``pixel_scale``; the
        columns describe the beam relative to the pixel axes, as a CutoutMaker writes them.
    threshold : float, optional
        In units of the scatter of the filtered map, default 5.
    max_iterations : int, optional
        Default 40; blends need several.

    Returns
    -------
    ClusterImage or CutoutSet
        The same type without the sources. An image gains ``meta["compact_sources"]``: a QTable of
        ``position``, ``flux`` and ``flux_err``. A set of cutouts gains the columns
        ``compact_flux`` and ``compact_flux_err``: the sum over the sources in the cutout.

    Notes
    -----
    A cusp or a knot of a bright halo that is sharper than the pedestal is taken for a compact
    source; a double source or a tail leaves its bridge behind.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from halopy import Beam, CutoutSet, subtract_compact
    >>> from halopy.preprocess.subtract import beam_image
    >>> noise = np.random.default_rng(1).normal(0, 0.1, (64, 64))
    >>> source = 5 * beam_image(Beam(90 * u.arcsec), 30 * u.arcsec, (64, 64), x=40.3, y=20.6)
    >>> table = {"pixel_scale": [30] * u.arcsec, "beam_major": [90] * u.arcsec,
    ...          "beam_minor": [90] * u.arcsec, "beam_pa": [0] * u.deg}
    >>> cutouts = CutoutSet([noise + source], table, unit=u.Jy / u.beam)
    >>> removed = subtract_compact(cutouts)
    >>> print(removed.table["compact_flux"].round(1))
    [5.] Jy
    """
    if not threshold > 0:
        raise HaloInputError("threshold must be positive", found=threshold)
    if isinstance(image, ClusterImage):
        if image.beam is None:
            raise HaloInputError("removing beam-shaped sources needs the beam", path=image.meta.get("path"),
                                 hint="read the image with beam=Beam(...) or survey=...")
        kernel = _Kernel(image.pixel_beam, image.pixel_scale)
        residual, sources = kernel.clean(image.data[None], threshold, max_iterations)
        _, x, y, peak, error = sources.T
        table = QTable({"position": image.wcs.pixel_to_world(x, y), "flux": peak * _flux_unit(image.unit),
                        "flux_err": error * _flux_unit(image.unit)}) if len(sources) else QTable()
        return image.replace(data=residual[0], meta={**image.meta, "compact_sources": table})
    if not isinstance(image, CutoutSet):
        raise HaloInputError("subtract_compact takes a ClusterImage or a CutoutSet", found=type(image).__name__)
    residual, sources = find_compact(image, threshold=threshold, max_iterations=max_iterations)
    number = sources[:, 0].astype(int)
    table = image.table.copy()
    unit = _flux_unit(image.unit)
    table["compact_flux"] = np.bincount(number, sources[:, 3], minlength=len(image)) * unit
    table["compact_flux_err"] = np.sqrt(np.bincount(number, sources[:, 4] ** 2, minlength=len(image))) * unit
    return image.replace(data=residual, table=table)


def find_compact(cutouts, *, threshold=5.0, max_iterations=40):
    """Return the pixels without compact sources, and the sources: (row, x, y, peak, error) each."""
    data, found = cutouts.data.copy(), [np.zeros((0, 5))]
    for beam, scale, rows in beam_groups(cutouts):
        data[rows], sources = _Kernel(beam, scale).clean(cutouts.data[rows], threshold, max_iterations)
        sources[:, 0] = rows[sources[:, 0].astype(int)]
        found.append(sources)
    return data, np.concatenate(found)


def beam_groups(cutouts):
    """Yield (beam, pixel_scale, rows) for the cutouts that share a beam and a pixel scale."""
    columns = [cutouts.column(name) for name in ("beam_major", "beam_minor", "beam_pa", "pixel_scale")]
    units = ("arcsec", "arcsec", "deg", "arcsec")
    values = np.round([u.Quantity(c).to_value(unit) for c, unit in zip(columns, units, strict=True)], 4)
    if not np.isfinite(values).all():
        raise HaloInputError("every cutout needs a finite beam and pixel scale", found=values[~np.isfinite(values)][:3],
                             hint="read the image with beam=Beam(...) or survey=...")
    groups, inverse = np.unique(values, axis=1, return_inverse=True)
    for number, (major, minor, pa, scale) in enumerate(groups.T):
        rows = np.flatnonzero(inverse.ravel() == number)
        yield Beam(major * u.arcsec, minor * u.arcsec, pa * u.deg), scale * u.arcsec, rows


def beam_image(beam, pixel_scale, shape, *, x=None, y=None):
    """Return the beam with unit peak, ``(ny, nx)``, about pixel (x, y); default: the centre."""
    x = (shape[1] - 1) / 2 if x is None else x
    y = (shape[0] - 1) / 2 if y is None else y
    inverse = np.linalg.inv(beam.covariance(pixel_scale))
    dy, dx = np.arange(shape[0])[:, None] - y, np.arange(shape[1])[None] - x
    return np.exp(-0.5 * (inverse[0, 0] * dx**2 + inverse[1, 1] * dy**2) - inverse[0, 1] * dx * dy)


def _flux_unit(unit):
    """The flux of a beam whose peak is 1 ``unit``: Jy for Jy/beam."""
    return unit * u.beam if u.beam in unit.bases else unit


class _Kernel:
    """The filter that measures beams on pedestals, for one beam and pixel scale."""

    def __init__(self, beam, pixel_scale):
        self.fwhm = float(np.sqrt(np.linalg.det(beam.covariance(pixel_scale))) ** 0.5 / FWHM_TO_SIGMA)
        self.half = int(np.ceil(RADIUS * float((beam.major / pixel_scale).to_value(u.one))))
        shape = (2 * self.half + 1,) * 2
        narrow = beam_image(beam, pixel_scale, shape)
        wide = beam_image(Beam(PEDESTAL * beam.major, PEDESTAL * beam.minor, beam.pa), pixel_scale, shape)
        # The radius scales with the beam in every direction: half power at RADIUS beams of the ellipse.
        inside = (narrow >= 0.5 ** (4 * RADIUS**2)).ravel()
        design = np.stack([narrow.ravel(), wide.ravel(), np.ones(narrow.size)], axis=1) * inside[:, None]
        self.kernel = np.linalg.solve(design.T @ design, design.T)[0].reshape(shape)
        self.pixels = np.array(np.nonzero(inside.reshape(shape))) - self.half
        self.inverse = np.linalg.inv(beam.covariance(pixel_scale))
        self.reach = int(np.ceil(2.2 * float((beam.major / pixel_scale).to_value(u.one))))

    def clean(self, stack, threshold, max_iterations):
        """Return the residual ``(n, ny, nx)`` and the sources: rows of (number, x, y, peak, error)."""
        residual = np.empty(stack.shape, np.float32)
        found = [np.zeros((0, 5))]
        for start in range(0, len(stack), CHUNK):
            part = slice(start, start + CHUNK)
            residual[part], sources = self._clean(stack[part], threshold, max_iterations)
            sources[:, 0] += start
            found.append(sources)
        return residual, np.concatenate(found)

    def _clean(self, stack, threshold, max_iterations):
        from scipy.ndimage import maximum_filter
        from scipy.signal import oaconvolve

        valid = np.isfinite(stack)
        work = np.where(valid, stack, np.float32(0)).astype(np.float32)
        kernel = self.kernel[None, ::-1, ::-1].astype(np.float32)
        # Two peaks within reach of one filter would each be measured with a part of the other.
        window = 2 * int(RADIUS * self.fwhm) + 1
        level = np.array([np.median(s[v]) if v.any() else 0.0 for s, v in zip(stack, valid, strict=True)])
        noise, found = None, [np.zeros((0, 5))]
        active = np.arange(len(stack))
        for _ in range(max_iterations):
            amplitude = oaconvolve(work[active], kernel, mode="same", axes=(1, 2))
            amplitude[~valid[active]] = 0
            if noise is None:
                noise = np.array([_scatter(a[v], s[v]) for a, s, v in zip(amplitude, stack, valid, strict=True)])
            peaks = (amplitude == maximum_filter(amplitude, (1, window, window)))
            peaks &= amplitude > threshold * np.maximum(noise[active], np.finfo(np.float32).tiny)[:, None, None]
            number, y, x = np.nonzero(_first(peaks))
            if number.size == 0:
                break
            rows = active[number]
            dx, dy = (_parabola(amplitude, number, y, x, axis) for axis in (2, 1))
            # What is removed must be there: a bump in a hole stands above its pedestal, but is no source.
            here = work[rows, y, x] - level[rows]
            peak = np.minimum(amplitude[number, y, x], here) / np.exp(-0.5 * self._form(dx, dy))
            real = peak > threshold * noise[rows]
            rows, x, y, dx, dy, here, peak = (v[real] for v in (rows, x, y, dx, dy, here, peak.astype(float)))
            x, y, peak = self._fit(work, valid, rows, x, y, dx, dy, here, peak, noise[rows])
            if rows.size == 0:
                break
            self._remove(work, rows, x, y, peak)
            found.append(np.stack([rows, x, y, peak, noise[rows]], axis=1))
            active = np.unique(rows)
        return np.where(valid, work, np.float32(np.nan)), np.concatenate(found)

    def _fit(self, work, valid, rows, column, row, dx, dy, here, peak, noise):
        """Return x, y and peak of beams on pedestals, by Gauss-Newton from the parabola's maximum.

        A parabola through the filtered map misplaces a source between two pixels by up to a tenth of
        one, which leaves several per cent of its peak behind. Where one beam does not fit, as in a
        blend, what the parabola found stands.
        """
        j, i = row[:, None] + self.pixels[0], column[:, None] + self.pixels[1]
        inside = (j >= 0) & (j < work.shape[1]) & (i >= 0) & (i < work.shape[2])
        j, i = np.where(inside, j, 0), np.where(inside, i, 0)
        weight = (inside & valid[rows[:, None], j, i]).astype(float)
        data = work[rows[:, None], j, i] * weight
        a, b, height = dx.astype(float), dy.astype(float), peak
        for _ in range(4):
            x, y = self.pixels[1] - a[:, None], self.pixels[0] - b[:, None]
            slope_x, slope_y = (self.inverse[k, 0] * x + self.inverse[k, 1] * y for k in (0, 1))
            form = x * slope_x + y * slope_y
            narrow = np.exp(-0.5 * form)
            design = np.stack([narrow, narrow * slope_x, narrow * slope_y, np.exp(-0.5 * form / PEDESTAL**2),
                               np.ones_like(narrow)], axis=2) * weight[:, :, None]
            normal = np.einsum("mpa,mpb->mab", design, design)
            values = np.einsum("mab,mpb,mp->ma", np.linalg.pinv(normal, rcond=1e-9, hermitian=True), design, data)
            left = data - np.einsum("mpa,ma->mp", design, values)
            height = np.where(values[:, 0] > 0.5 * peak, values[:, 0], peak)
            last, a, b = (a, b), np.clip(a + values[:, 1] / height, -1, 1), np.clip(b + values[:, 2] / height, -1, 1)
        left = np.sqrt((left**2).sum(axis=1) / np.maximum(weight.sum(axis=1), 1))
        good = (left < 1.5 * noise + FITS * height) & (height < 2 * peak)
        height = np.minimum(height, (here + noise) / np.exp(-0.5 * self._form(*last)))
        x, y = column + np.where(good, last[0], dx), row + np.where(good, last[1], dy)
        return x, y, np.where(good, height, peak)

    def _remove(self, work, rows, x, y, peak):
        ny, nx = work.shape[1:]
        for row, a, b, height in zip(rows, x, y, peak, strict=True):
            j, i = int(round(b)), int(round(a))
            ys = np.arange(max(0, j - self.reach), min(ny, j + self.reach + 1))
            xs = np.arange(max(0, i - self.reach), min(nx, i + self.reach + 1))
            dy, dx = ys[:, None] - b, xs[None] - a
            form = self._form(dx, dy)
            work[row, ys[0]:ys[-1] + 1, xs[0]:xs[-1] + 1] -= (height * np.exp(-0.5 * form)).astype(np.float32)

    def _form(self, dx, dy):
        """The beam's exponent at an offset in pixels."""
        return self.inverse[0, 0] * dx**2 + self.inverse[1, 1] * dy**2 + 2 * self.inverse[0, 1] * dx * dy


def _first(peaks):
    """Of neighbouring pixels that are equal maxima, as of a source right between them, keep one."""
    kept = peaks.copy()
    kept[:, :, 1:] &= ~peaks[:, :, :-1]
    kept[:, 1:] &= ~peaks[:, :-1]
    kept[:, 1:, 1:] &= ~peaks[:, :-1, :-1]
    kept[:, 1:, :-1] &= ~peaks[:, :-1, 1:]
    return kept


def _parabola(stack, number, y, x, axis):
    """Sub-pixel offset of a maximum from the parabola through it and its two neighbours."""
    length = stack.shape[axis]
    step = (0, 1) if axis == 2 else (1, 0)
    inside = (x > 0) & (x < length - 1) if axis == 2 else (y > 0) & (y < length - 1)
    sign = inside.astype(int)
    before = stack[number, y - step[0] * sign, x - step[1] * sign].astype(float)
    after = stack[number, y + step[0] * sign, x + step[1] * sign].astype(float)
    curvature = before - 2 * stack[number, y, x] + after
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = np.where(inside & (curvature < 0), (before - after) / (2 * curvature), 0.0)
    return np.clip(offset, -0.5, 0.5)


def _scatter(amplitude, pixels):
    """Scaled median absolute deviation of the filtered map, and no less than a clipped image can hold.

    An image clipped at 3 sigma has no noise left, but its faintest pixel lies at 3 sigma.
    """
    if amplitude.size == 0 or not pixels.any():
        return 0.0
    scatter = 1.4826 * float(np.median(np.abs(amplitude - np.median(amplitude))))
    return max(scatter, float(np.abs(pixels[pixels != 0]).min()) / 3)
