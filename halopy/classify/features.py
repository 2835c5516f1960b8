"""What a cutout looks like, in numbers that do not change when it is turned, mirrored or sampled otherwise."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.classify.bank import robust_scatter
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.preprocess.subtract import find_compact

__all__ = ["beam_width", "compact_light", "cutout_features", "described", "middle", "noise_level"]

LADDER = (1.0, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Thresholds of the Minkowski functionals, in units of the noise."""
RADII = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0)
"""Nodes of the radial profiles, in beams; the last one is the edge of what is looked at."""
APERTURES = (1.0, 2.0, 3.0)
"""Radii of the central fluxes, in beams."""
CENTRE = 3.0
"""Radius, in beams, within which the light is described: concentration, Gini, M20, moments."""
SCORED = 1.0
"""Radius, in beams, within which a cutout must hold data: there is nothing to be said of a halo elsewhere."""
BEAM_AREA = np.pi / (4 * np.log(2))
"""Of a Gaussian beam, in squares of its FWHM."""
CHUNK = 64


def cutout_features(cutouts, *, compact=True, matched_filter=False):
    """Describe each cutout by numbers that depend neither on its orientation nor on its pixels.

    All lengths are in beams (geometric mean FWHM), all brightnesses in units of the local noise above the
    cutout's median, and only the sky within six beams of the centre counts. The cutout's own pixels are
    measured: nothing is interpolated, so that turns by right angles and mirrors change nothing at all.

    Parameters
    ----------
    cutouts : CutoutSet
        ``n`` cutouts, not scaled, with the columns ``pixel_scale``, ``beam_major``, ``beam_minor`` and
        ``beam_pa``. Where ``rms`` is missing or not positive, the noise is the robust scatter of the pixels.
    compact : bool, optional
        Whether the image without its compact sources (`~halopy.subtract_compact`) is measured as well,
        default True.
    matched_filter : bool, optional
        Whether the statistic of ``matched-filter`` is one of the features, default False: it takes longer
        than all others together, and longer still where each cutout has a beam of its own.

    Returns
    -------
    features : `~numpy.ndarray`
        ``(n, k)`` float64, finite; NaN in the rows of cutouts without data within a beam of the centre.
    names : list of str
        ``k`` names:

        - ``area_t``, ``perimeter_t``, ``euler_t``: the Minkowski functionals of what is brighter than t times
          the noise (1, 2, 3, 5, 10, 30): the fraction of the area, the length of the border and the number of
          pieces less that of holes; the last two per square beam.
        - ``profile_r``: the mean of asinh(S/N) at r beams from the centre (0 to 6).
        - ``flux_r``: asinh of the S/N of the flux within r beams (1, 2, 3).
        - ``peak``, ``peak_offset``: asinh(S/N) of the brightest pixel within 3 beams, its distance in beams.
        - ``concentration``: what share of the light within 3 beams lies within one.
        - ``gini``, ``m20``: how unequally the light is spread over pixels, and how far out the brightest fifth
          of it lies (logarithm of the share of its second moment).
        - ``size``, ``ellipticity``: of the second moments of the light about its own centroid.
        - ``excess``: logarithm of the robust scatter over the noise: confusion, artefacts, a wrong noise.
        - ``residual_…``: all but the Minkowski functionals, without compact sources; ``compact``: asinh of the
          summed S/N of the compact sources within 3 beams.
        - ``matched_filter``: asinh of its statistic.

    Notes
    -----
    The light is the S/N where it is positive. The length of a border is π/4 of that of its pixels' edges, which
    is right on average over directions (Crofton's formula). Noise, zeros and gaps are not described: they tell
    one data set from another, not a halo from none (``noise-only`` shows how far they alone would get).

    References
    ----------
    Mecke, Buchert & Wagner 1994, A&A 288, 697, arXiv astro-ph/9312028 (Minkowski functionals); Lotz, Primack &
    Madau 2004, AJ 128, 163, arXiv astro-ph/0311352 (Gini and M20).

    Examples
    --------
    >>> from halopy import simulate
    >>> from halopy.classify.features import cutout_features
    >>> features, names = cutout_features(simulate.cutouts(3, rng=1))
    >>> features.shape == (3, len(names))
    True
    """
    if not isinstance(cutouts, CutoutSet):
        raise HaloInputError("features are measured on a CutoutSet", found=type(cutouts).__name__,
                             hint="CutoutSet(array, table)")
    width, noise = beam_width(cutouts), noise_level(cutouts)
    images = [("", cutouts.data)]
    if compact:
        residual, sources = find_compact(cutouts)
        images.append(("residual_", residual))
    columns = {}
    for prefix, data in images:
        columns |= {prefix + name: values for name, values in described(data, noise, width, whole=not prefix).items()}
    if compact:
        columns["compact"] = compact_light(sources, cutouts.data.shape[1:], width, noise)
    if matched_filter:
        from halopy.classify.matched_filter import MatchedFilter

        columns["matched_filter"] = np.arcsinh(MatchedFilter().statistic(cutouts))
    features = np.stack(list(columns.values()), axis=1)
    features[~np.isfinite(features).all(axis=1)] = np.nan
    return features, list(columns)


def beam_width(cutouts):
    """Return the geometric mean FWHM of each cutout's beam in its pixels, ``(n,)``."""
    major, minor, scale = (_numbers(cutouts.column(name), u.arcsec)
                           for name in ("beam_major", "beam_minor", "pixel_scale"))
    with np.errstate(divide="ignore", invalid="ignore"):
        width = np.sqrt(major * minor) / scale
    wrong = ~(np.isfinite(width) & (width > 0))
    if wrong.any():
        raise HaloInputError("every cutout needs a finite beam and pixel scale", found=width[wrong][:3].tolist(),
                             hint="read the image with beam=Beam(...) or survey=...")
    return width


def noise_level(cutouts):
    """Return the noise of each cutout in its own unit, ``(n,)``.

    The column ``rms`` where it is positive, else the robust scatter of the pixels, else (of a clipped image
    most pixels are 0) a third of the faintest pixel that is left. NaN where all pixels are alike or missing.
    """
    data = _rows(np.where(np.isfinite(cutouts.data), cutouts.data, np.nan))
    rms = np.full(len(cutouts), np.nan)
    if "rms" in cutouts.table.colnames:
        unit = getattr(cutouts.table["rms"], "unit", None) or u.one
        if not unit.is_equivalent(cutouts.unit):
            raise HaloInputError(f"the rms must be in a unit like the pixels', {str(cutouts.unit)!r}",
                                 found=str(unit), hint="cutouts that are not scaled")
        rms = _numbers(cutouts.table["rms"], cutouts.unit)
    lost = ~(np.isfinite(rms) & (rms > 0))
    rms[lost] = robust_scatter(data[lost])
    lost = ~(rms > 0)
    faintest = np.min(np.abs(data[lost]), axis=1, where=np.isfinite(data[lost]) & (data[lost] != 0), initial=np.inf)
    spread = np.ptp(np.where(np.isfinite(data[lost]), data[lost], 0), axis=1) > 0
    rms[lost] = np.where(np.isfinite(faintest) & spread, faintest / 3, np.nan)
    return rms


def _numbers(column, unit):
    """Return a column as float64 in a unit, NaN where it is masked: sets with other columns can be joined."""
    values = column.filled(np.nan) if hasattr(column, "filled") else column
    return np.array(u.Quantity(values).to_value(unit), dtype=float)


def _distance(shape):
    """Distance of each pixel from the cutout's centre, in pixels."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    return np.sqrt(y[:, None] ** 2 + x[None] ** 2)


def described(data, noise, width, *, level=None, whole=False):
    """Return the features of images, ``(n,)`` each, by name.

    Parameters
    ----------
    data : `~numpy.ndarray`
        ``(n, ny, nx)``.
    noise, width : `~numpy.ndarray`
        ``(n,)``: the noise in the unit of the pixels, the beam in pixels.
    level : `~numpy.ndarray`, optional
        ``(n,)``, what brightness counts from; default: the median of each image.
    whole : bool, optional
        Whether the Minkowski functionals are among them, default False.
    """
    distance = _distance(data.shape[1:])
    chunks = [slice(start, start + CHUNK) for start in range(0, max(len(data), 1), CHUNK)]
    parts = [_measure(data[c], noise[c], width[c], distance, None if level is None else level[c], whole)
             for c in chunks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def middle(data):
    """Return the median of the known pixels of each image, ``(n,)``; 0 where there are none."""
    flat = _rows(np.where(np.isfinite(data), data, np.nan))
    return np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else 0.0 for row in flat])


def _measure(data, noise, width, distance, level, whole):
    valid = np.isfinite(data)
    flat = _rows(np.where(valid, data, np.nan))
    level = middle(data) if level is None else level
    # Where all pixels are alike there is no noise to be found, and nothing that it could be compared with.
    scale = np.where(np.isfinite(noise), noise, 1.0)
    snr = (np.where(valid, data, level[:, None, None]) - level[:, None, None]) / scale[:, None, None]
    radius = distance[None] / width[:, None, None]
    seen = valid & (radius <= RADII[-1])
    scored = (seen & (radius <= SCORED)).any(axis=(1, 2))
    result = _profile(snr, radius, seen) | _fluxes(snr, radius, seen)
    result["excess"] = np.log10(np.maximum(robust_scatter(flat) / scale, 0.01))
    central = seen & (radius <= CENTRE)
    result |= _peak(snr, radius, central)
    result |= _light(np.where(central, np.maximum(snr, 0), 0), radius, central, width)
    if whole:
        result |= _minkowski(snr, seen, width)
    return {name: np.where(scored, values, np.nan) for name, values in result.items()}


def _minkowski(snr, seen, width):
    """Area, border and Euler number above each threshold, of four-connected pixels."""
    result = {}
    below, beside = seen[:, 1:] & seen[:, :-1], seen[:, :, 1:] & seen[:, :, :-1]
    n = np.maximum(_count(seen), 1)
    beams = n / width**2
    for threshold in LADDER:
        above = seen & (snr > threshold)
        vertical, horizontal = above[:, 1:] & above[:, :-1], above[:, :, 1:] & above[:, :, :-1]
        squares = horizontal[:, 1:] & horizontal[:, :-1]
        # The edge of what is looked at is no border of a source.
        border = _count(below & (above[:, 1:] ^ above[:, :-1])) + _count(beside & (above[:, :, 1:] ^ above[:, :, :-1]))
        euler = _count(above) - _count(vertical) - _count(horizontal) + _count(squares)
        result[f"area_{threshold:g}"] = _count(above) / n
        result[f"perimeter_{threshold:g}"] = np.pi / 4 * border / width / beams
        result[f"euler_{threshold:g}"] = euler / beams
    return result


def _profile(snr, radius, seen):
    """Mean of asinh(S/N) at each node, pixels between two nodes shared by both."""
    nodes = np.array(RADII)
    inner = np.clip(np.searchsorted(nodes, radius, side="right") - 1, 0, len(nodes) - 2)
    share = np.clip((radius - nodes[inner]) / (nodes[inner + 1] - nodes[inner]), 0, 1)
    place = inner + len(nodes) * np.arange(len(snr))[:, None, None]
    size = len(snr) * len(nodes)
    bright = np.arcsinh(snr)
    weight = total = 0
    for part, step in (((1 - share) * seen, 0), (share * seen, 1)):
        weight = weight + np.bincount((place + step).ravel(), part.ravel(), minlength=size)
        total = total + np.bincount((place + step).ravel(), (part * bright).ravel(), minlength=size)
    mean = (total / np.where(weight > 0, weight, 1)).reshape(len(snr), len(nodes))
    return {f"profile_{node:g}": mean[:, k] for k, node in enumerate(nodes)}


def _fluxes(snr, radius, seen):
    """Asinh of the S/N of central fluxes; what is missing in an aperture is as bright as the rest of it."""
    result = {}
    for aperture in APERTURES:
        inside = seen & (radius <= aperture)
        mean = (snr * inside).sum(axis=(1, 2)) / np.maximum(_count(inside), 1)
        result[f"flux_{aperture:g}"] = np.arcsinh(mean * np.sqrt(np.pi * aperture**2 / BEAM_AREA))
    return result


def _peak(snr, radius, inside):
    """The brightest pixel and its distance, the nearest of those that are equal."""
    height = np.where(inside, snr, -np.inf).max(axis=(1, 2))
    offset = np.where(inside & (snr == height[:, None, None]), radius, np.inf).min(axis=(1, 2))
    known = np.isfinite(height)
    return {"peak": np.arcsinh(np.where(known, height, 0)), "peak_offset": np.where(known, offset, 0)}


def _light(light, radius, inside, width):
    """How the light is spread; all 0 where there is none."""
    n = _count(inside)
    total = light.sum(axis=(1, 2))
    some = np.where(total > 0, total, 1)
    inner = np.where(radius <= APERTURES[0], light, 0).sum(axis=(1, 2))
    # Pixels that are not looked at are 0: sorted, they come first, and their ranks are below 1.
    flat = np.sort(_rows(light), axis=1)
    rank = np.arange(1, flat.shape[1] + 1) - (flat.shape[1] - n)[:, None]
    gini = ((2 * rank - n[:, None] - 1) * flat).sum(axis=1) / (some * np.maximum(n - 1, 1))
    moment = light * radius**2
    # The least of the pixels that together hold the brightest fifth; its equals all count.
    growth = np.cumsum(flat[:, ::-1], axis=1)
    last = np.minimum((growth < 0.2 * total[:, None] * (1 - 1e-9)).sum(axis=1), flat.shape[1] - 1)
    least = np.take_along_axis(flat[:, ::-1], last[:, None], axis=1)[:, :, None]
    spread = moment.sum(axis=(1, 2))
    brightest = np.where(light >= least, moment, 0).sum(axis=(1, 2))
    share = np.where(spread > 0, brightest / np.where(spread > 0, spread, 1), 1)
    size, ellipticity = _moments(light, some, width)
    values = {"concentration": inner / some, "gini": gini, "m20": np.log10(np.maximum(share, 1e-3)), "size": size,
              "ellipticity": ellipticity}
    return {name: np.where(total > 0, value, 0) for name, value in values.items()}


def _moments(light, total, width):
    """Root of the summed second moments, in beams, and ellipticity, 0 for a circle and 1 for a line."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in light.shape[1:])
    rows, columns = light.sum(axis=2), light.sum(axis=1)
    mean_y, mean_x = (rows * y).sum(axis=1) / total, (columns * x).sum(axis=1) / total
    yy = (rows * y**2).sum(axis=1) / total - mean_y**2
    xx = (columns * x**2).sum(axis=1) / total - mean_x**2
    xy = np.einsum("nij,i,j->n", light, y, x) / total - mean_y * mean_x
    trace = np.maximum(xx + yy, 0)
    # One pixel alone has no extent: what rounding leaves of it has no direction.
    extended = trace > 1e-9 * (x**2).sum()
    ellipticity = np.sqrt((xx - yy) ** 2 + 4 * xy**2) / np.where(extended, trace, 1)
    return np.sqrt(trace) / width, np.where(extended, np.minimum(ellipticity, 1), 0)


def compact_light(sources, shape, width, noise):
    """Return asinh of the summed S/N of the compact sources (`find_compact`) within the central beams, ``(n,)``."""
    number = sources[:, 0].astype(int)
    offset = np.hypot(sources[:, 1] - (shape[1] - 1) / 2, sources[:, 2] - (shape[0] - 1) / 2)
    peak = np.where(offset <= CENTRE * width[number], sources[:, 3], 0)
    return np.arcsinh(np.bincount(number, peak, minlength=len(width)) / np.where(np.isfinite(noise), noise, 1))


def _rows(data):
    """The pixels of each cutout in one row; there may be no cutout."""
    return data.astype(float).reshape(len(data), data.shape[1] * data.shape[2])


def _count(mask):
    return mask.sum(axis=(1, 2))
