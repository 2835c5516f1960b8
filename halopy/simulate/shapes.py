"""What a source looks like, as a sum of elliptical Gaussians.

Convolution with a Gaussian beam is then exact, flux is kept, positions need no pixels, and one
painter (`halopy.simulate.paint`) draws everything.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError
from halopy.image import FWHM_TO_SIGMA

__all__ = ["CLASSES", "COMPONENT", "components", "exponential_nodes"]

CLASSES = ("compact", "halo", "mini-halo", "relic", "phoenix", "radio-galaxy", "orc", "blend")
"""The classes of sources."""

COMPONENT = np.dtype([("source", np.int64), *((name, float) for name in
                                              ("east", "north", "flux", "cee", "cen", "cnn"))])
"""A Gaussian: index of its source, offset (arcsec), flux (Jy), covariance (arcsec²)."""

EXPONENTIAL = ("halo", "mini-halo")
NODES = 9
GRID_SPACING, GRID_RADIUS, GRID_SIGMA = 0.6, 3.5, 0.3
"""The Gaussians of a halo's substructure, in e-folding radii."""
FIELD_SIZE = 24
OUTER_SCALE = 2.0


def components(sources):
    """Expand sources into Gaussians.

    Parameters
    ----------
    sources : `~astropy.table.QTable` or mapping of columns
        ``class`` (one of `CLASSES`) and ``flux`` (total, Jy), and where the class asks for them
        ``r_e`` or ``length`` (angles; arcsec where they have no unit). Optional: ``axis_ratio``
        (default 1; halos and relics), ``pa`` (degrees from north through east, default 0),
        ``substructure`` (default 0; halos) and ``seed`` (integer from 0, default 0), which fixes all random detail:
        a row of the table always draws the same picture. A number serves all rows. Values that a
        class has no use for are not looked at.

    Returns
    -------
    `~numpy.ndarray`
        Structured, of dtype `COMPONENT`: ``source`` (index of the row), ``east``, ``north``
        (arcsec from the source's position), ``flux`` (Jy) and ``cee``, ``cen``, ``cnn`` (arcsec²,
        intrinsic covariance for axes east and north), ordered by source. The fluxes of a source's
        Gaussians add up to its own, to rounding.

    Raises
    ------
    HaloInputError
        For an unknown class, a column that is missing, of another length or unit, or a value that
        cannot be; with the row's number.

    Notes
    -----
    - ``compact``: a point.
    - ``halo``, ``mini-halo``: I0 exp(−r / r_e) (Murgia+ 2009, arXiv 0901.1943), elliptical with
      geometric-mean e-folding radius ``r_e``, by `exponential_nodes`. With ``substructure`` the
      brightness E is made E + 0.93 E (m − 1) on scales above 0.6 r_e, m a lognormal field of weighted
      mean 1, whose logarithm has the rms ``substructure`` and a von Kármán power spectrum (Kolmogorov's
      k^−11/3 below an outer scale of 2 r_e), out to 3.5 r_e, by about a hundred Gaussians that add
      no flux. The brightness is nowhere negative.
    - ``relic``: an arc whose middle is the position and ``pa`` the direction from the cluster's
      centre to it; perpendicular to ``pa`` there, and bent around the centre's side with a radius
      of 0.6 to 1.5 lengths. ``length`` is measured along the arc between the points of half the
      (mean) brightness, the thickness (FWHM) is axis_ratio · length, the brightness along it uneven.
    - ``phoenix``: three to seven filaments within a circle of diameter ``length``.
    - ``radio-galaxy``: 55 % doubles (core at the position, two lobes, unequal and slightly bent, the outer
      edges ``length`` apart), 35 % tails (head at the position, a bent tail that fades along ``pa``,
      ``length`` measured along it) and 10 % X-shapes (a double along ``pa`` and shorter, fainter
      wings across).
    - ``orc``: a ring whose ridge has the diameter ``length``, uneven, with a faint fill.
    - ``blend``: two to five points within a circle of diameter ``length``.

    Examples
    --------
    >>> from halopy.simulate.shapes import components
    >>> gaussians = components({"class": ["compact", "halo"], "flux": [0.3, 0.1], "r_e": [0, 60]})
    >>> len(gaussians)
    10
    >>> print(gaussians["flux"][gaussians["source"] == 1].sum().round(6))
    0.1
    """
    kinds = np.atleast_1d(np.asarray(_required(sources, "class"))).astype(str)
    n = len(kinds)
    unknown = ~np.isin(kinds, CLASSES)
    _refuse(unknown, "class", f"class must be one of {', '.join(CLASSES)}", kinds)
    flux = _column(sources, "flux", u.Jy, None, n)
    _refuse(~np.isfinite(flux), "flux", "flux must be finite", flux)
    kind = {name: kinds == name for name in CLASSES}
    exponential = kind["halo"] | kind["mini-halo"]
    extended = np.flatnonzero(~kind["compact"])
    detailed = ~(kind["compact"] | exponential)

    size = np.zeros(n)
    for name, needed in (("r_e", exponential), ("length", detailed)):
        if needed.any():
            values = _column(sources, name, u.arcsec, np.nan, n)
            _refuse(needed & ~(np.isfinite(values) & (values > 0)), name,
                    f"this class needs a finite, positive {name}", values)
            size[needed] = values[needed]
    axis_ratio = _column(sources, "axis_ratio", u.one, 1.0, n)
    _refuse((exponential | kind["relic"]) & ~((axis_ratio > 0) & (axis_ratio <= 1)), "axis_ratio",
            "axis_ratio must lie in (0, 1]", axis_ratio)
    pa = _column(sources, "pa", u.deg, 0.0, n)
    _refuse(~kind["compact"] & ~np.isfinite(pa), "pa", "pa must be finite", pa)
    substructure = _column(sources, "substructure", u.one, 0.0, n)
    _refuse(exponential & ~((substructure >= 0) & (substructure < np.inf)), "substructure",
            "substructure must be finite, not negative", substructure)
    rough = exponential & (substructure > 0)
    seed = _column(sources, "seed", u.one, 0, n)
    _refuse((detailed | rough) & (seed < 0), "seed", "seed must not be negative", seed)

    counts = np.ones(n, np.int64)
    counts[exponential] = NODES
    pictures = {}
    for i in np.flatnonzero(detailed | rough).tolist():
        rng = np.random.default_rng(int(seed[i]))
        pictures[i] = (_substructure(rng, float(substructure[i])) if rough[i]
                       else _DETAILED[str(kinds[i])](rng, float(axis_ratio[i])))
        counts[i] = pictures[i].shape[1] + (NODES if rough[i] else 0)

    # Rows of `local`: u (along pa), v (along pa + 90 deg), weight, and the covariance uu, uv, vv, per unit of size.
    first = np.cumsum(counts) - counts
    source = np.repeat(np.arange(n), counts)
    local = np.zeros((6, len(source)))
    local[2, first[kind["compact"]]] = 1
    variances, weights = exponential_nodes()
    nodes = first[exponential][:, None] + np.arange(NODES)
    local[2, nodes], local[3, nodes], local[5, nodes] = weights, variances, variances
    for i, picture in pictures.items():
        local[:, first[i] + counts[i] - picture.shape[1]:first[i] + counts[i]] = picture

    out = np.zeros(len(source), COMPONENT)
    out["source"] = source
    out["flux"] = flux[source] * local[2]
    if len(extended):
        stretch = np.where(exponential, np.sqrt(axis_ratio, where=exponential, out=np.ones(n)), 1.0)
        angle = np.deg2rad(pa)
        some = np.flatnonzero(~kind["compact"][source])
        owner = source[some]
        along, across = (size / stretch)[owner], (size * stretch)[owner]
        sine, cosine = np.sin(angle)[owner], np.cos(angle)[owner]
        x, y, _, uu, uv, vv = local[:, some]
        x, y, uu, uv, vv = x * along, y * across, uu * along**2, uv * along * across, vv * across**2
        out["east"][some] = x * sine + y * cosine
        out["north"][some] = x * cosine - y * sine
        out["cee"][some] = sine**2 * uu + 2 * sine * cosine * uv + cosine**2 * vv
        out["cen"][some] = sine * cosine * (uu - vv) + (cosine**2 - sine**2) * uv
        out["cnn"][some] = cosine**2 * uu - 2 * sine * cosine * uv + sine**2 * vv
    return out


@cache
def exponential_nodes():
    """Return the variances and weights of the Gaussians that make up an exponential disc of r_e = 1.

    exp(−r) = ∫ √(2/π) exp(−s²/2) exp(−r²/2s²) ds: the flux is spread over the widths s as
    √(2/π) s² exp(−s²/2). The integral is taken by the trapezoidal rule in t, s = exp(t − exp(−t))
    (double-exponential rule of Takahasi & Mori 1974, doi 10.2977/prims/1195192451), with nine nodes.
    Gauss-Laguerre nodes do worse by far where the halo is resolved: their widths are all too large for the cusp.

    Returns
    -------
    variances, weights : `~numpy.ndarray`
        ``(9,)`` each: variance per axis in r_e², and the part of the flux.

    Notes
    -----
    After convolution with a beam of FWHM ≥ r_e the picture is exact to 3e-5 of its peak, for r_e = 5
    FWHM to 1.3e-4, for 20 FWHM to 7e-4. The profile alone is good to 4 % of itself out to 10 r_e
    (where 0.05 % of the flux is left).
    """
    t = np.linspace(-1, 1.5, NODES)
    width = np.exp(t - np.exp(-t))
    weights = width**3 * np.exp(-width**2 / 2) * (1 + np.exp(-t))
    return _frozen(width**2), _frozen(weights / weights.sum())


def _frozen(values):
    values.flags.writeable = False
    return values


@cache
def _substructure_grid():
    """Positions in the field, positions in r_e, and the flux that a smooth halo has about each of them."""
    reach = int(GRID_RADIUS / GRID_SPACING)
    i, j = (index.ravel() - reach for index in np.indices((2 * reach + 1,) * 2))
    inside = np.hypot(i, j) * GRID_SPACING <= GRID_RADIUS
    i, j = i[inside], j[inside]
    x, y = GRID_SPACING * i, GRID_SPACING * j
    flux = GRID_SPACING**2 / (2 * np.pi) * np.exp(-np.hypot(x, y))
    # Where the field is 0 these Gaussians take away all they stand for, which must not be more than is there.
    fine = np.arange(0, GRID_RADIUS + 5 * GRID_SIGMA, 0.05)
    lines = [np.exp(-0.5 * ((fine[:, None] - centre) / GRID_SIGMA) ** 2) for centre in (x, y)]
    stands_for = np.einsum("ak,bk,k->ab", *lines, flux / (2 * np.pi * GRID_SIGMA**2))
    variances, weights = exponential_nodes()
    r2 = (fine[:, None] ** 2 + fine**2)[..., None]
    is_there = (np.exp(-r2 / (2 * variances)) * weights / (2 * np.pi * variances)).sum(-1)
    flux *= 0.995 * min(1.0, (is_there / stands_for).min())
    return i % FIELD_SIZE, j % FIELD_SIZE, _frozen(x), _frozen(y), _frozen(flux)


@cache
def _field_amplitude():
    """Amplitude per mode of a Gaussian random field of unit rms."""
    k2 = (np.fft.fftfreq(FIELD_SIZE, GRID_SPACING)[:, None] ** 2 + np.fft.fftfreq(FIELD_SIZE, GRID_SPACING) ** 2)
    amplitude = (k2 + OUTER_SCALE**-2) ** (-11 / 12)
    amplitude[0, 0] = 0
    return _frozen((amplitude / np.sqrt(np.mean(amplitude**2)))[:, :FIELD_SIZE // 2 + 1])


def _substructure(rng, rms):
    i, j, x, y, flux = _substructure_grid()
    noise = np.fft.rfft2(rng.standard_normal((FIELD_SIZE, FIELD_SIZE)))
    field = np.exp(rms * np.fft.irfft2(noise * _field_amplitude(), (FIELD_SIZE,) * 2)[i, j])
    picture = np.zeros((6, len(x)))
    # The field's mean, weighted with the flux, is made 1: what is added has no flux.
    picture[:3] = x, y, flux * (field * (flux.sum() / (flux @ field)) - 1)
    picture[[3, 5]] = GRID_SIGMA**2
    return picture


def _ellipses(x, y, flux, major, minor, angle):
    """Gaussians of unit total flux; FWHM, and the angle of the major axis from u towards v."""
    flux = np.asarray(flux, float)
    a, b = (np.square(np.multiply(axis, FWHM_TO_SIGMA)) for axis in (major, minor))
    sine, cosine = np.sin(angle), np.cos(angle)
    picture = np.empty((6, len(flux)))
    picture[0], picture[1], picture[2] = x, y, flux / flux.sum()
    picture[3] = a * cosine**2 + b * sine**2
    picture[4] = (a - b) * sine * cosine
    picture[5] = a * sine**2 + b * cosine**2
    return picture


def _relic(rng, axis_ratio):
    s = np.linspace(-0.7, 0.7, 15)
    radius = rng.uniform(0.6, 1.5)
    bumps = np.convolve(rng.standard_normal(len(s) + 2), [0.41, 0.82, 0.41], "valid")
    tilt = rng.standard_normal()
    # Half of the middle's brightness at s = ±1/2, falling within 0.1 or so there.
    flux = np.exp(-np.log(2) * (2 * s) ** 4 + 0.4 * bumps + 0.5 * tilt * s)
    angle = s / radius
    return _ellipses(radius * (np.cos(angle) - 1), radius * np.sin(angle), flux,
                     0.065 / FWHM_TO_SIGMA, axis_ratio, np.pi / 2 + angle)


def _phoenix(rng, axis_ratio):
    n = rng.integers(3, 8)
    radius, direction, major, minor, angle = rng.uniform(size=(5, n))
    major = 0.2 + 0.3 * major
    radius, direction, minor = 0.5 * np.sqrt(radius), 2 * np.pi * direction, major * (0.15 + 0.35 * minor)
    x, y = radius * np.cos(direction), 0.6 * radius * np.sin(direction)
    scale = 0.5 / np.max(np.hypot(x, y) + major / 2)
    return _ellipses(scale * x, scale * y, major * np.exp(0.7 * rng.standard_normal(n)), scale * major, scale * minor,
                     np.pi * angle)


def _radio_galaxy(rng, axis_ratio):
    kind = rng.uniform()
    if kind < 0.55:
        return _ellipses(*_double(rng))
    return _tail(rng) if kind < 0.9 else _x_shape(rng)


def _double(rng):
    arm, core, length, width, hot = rng.uniform(size=5)
    bend, ratio = 0.14 * rng.standard_normal(2), np.exp(0.5 * rng.standard_normal())
    reach = np.array([0.4 + 0.2 * arm, 0.6 - 0.2 * arm])
    direction = np.array([0, np.pi]) + bend
    # The outer edges, not the middles, are one length apart, bent or not.
    edges = reach * (np.cos(direction), np.sin(direction))
    scale = 1 / np.hypot(*(edges[:, 0] - edges[:, 1]))
    length, core, hot = 0.25 + 0.15 * length, 0.15 * core, 0.2 + 0.3 * hot
    width = length * (0.35 + 0.35 * width)
    lobes = (1 - core) * np.array([ratio, 1]) / (ratio + 1)
    # Core, two hot spots at the edges, two lobes behind them.
    distance = scale * np.concatenate([[0, *(reach - 0.04)], reach - length / 2])
    towards = np.concatenate([[0], direction, direction])
    flux = np.concatenate([[core], hot * lobes, (1 - hot) * lobes])
    return (distance * np.cos(towards), distance * np.sin(towards), flux,
            scale * np.array([0.05, 0.08, 0.08, length, length]), scale * np.array([0.05, 0.08, 0.08, width, width]),
            towards)


def _tail(rng):
    head, fade, turn, side = rng.uniform(size=4)
    turn = (0.2 + 1.0 * turn) * (1 if side < 0.5 else -1)
    # From 0.03 before the head's middle to half a Gaussian beyond the last one: one length.
    s = np.linspace(0, 0.89, 9)
    angle = turn * s
    flux = np.exp(-s / (0.3 + 0.5 * fade))
    flux *= (0.65 - 0.3 * head) / flux.sum()
    major, minor = np.full(9, 0.16), 0.06 + 0.16 * s
    # The head is a small knot at the beginning of the tail, which starts behind it.
    flux[0], major[0], minor[0] = 1 - flux[1:].sum(), 0.06, 0.06
    return _ellipses(np.sin(angle) / turn, (1 - np.cos(angle)) / turn, flux, major, minor, angle)


def _x_shape(rng):
    x, y, flux, major, minor, angle = _double(rng)
    share, length, towards, ratio = rng.uniform(size=4)
    share, length, towards = 0.2 + 0.2 * share, 0.6 + 0.3 * length, np.pi * (0.3 + 0.4 * towards)
    ratio = 0.35 + 0.3 * ratio
    wings = np.array([towards, towards + np.pi])
    return _ellipses(np.append(x, length / 4 * np.cos(wings)), np.append(y, length / 4 * np.sin(wings)),
                     np.append((1 - share) * flux, [share * ratio, share * (1 - ratio)]),
                     np.append(major, [length / 2] * 2), np.append(minor, [0.15, 0.15]), np.append(angle, wings))


def _orc(rng, axis_ratio):
    n = 20
    angle = np.arange(n) * (2 * np.pi / n)
    bumps = rng.standard_normal(n)
    flux = np.exp(0.35 * np.convolve(np.concatenate([bumps, bumps[:2]]), [0.41, 0.82, 0.41], "valid"))
    fill = rng.uniform(0.05, 0.15)
    flux = np.append(flux * ((1 - fill) / flux.sum()), fill)
    x, y, tangent = np.cos(angle) / 2, np.sin(angle) / 2, angle + np.pi / 2
    return _ellipses(np.append(x, 0), np.append(y, 0), flux, np.append(np.full(n, 0.22), 0.6),
                     np.append(np.full(n, 0.16), 0.6), np.append(tangent, 0))


def _blend(rng, axis_ratio):
    n = rng.integers(2, 6)
    radius, direction = rng.uniform(size=(2, n))
    radius, direction = 0.5 * np.sqrt(radius), 2 * np.pi * direction
    points = np.zeros(n)
    return _ellipses(radius * np.cos(direction), radius * np.sin(direction), np.exp(0.6 * rng.standard_normal(n)),
                     points, points, points)


_DETAILED = {"relic": _relic, "phoenix": _phoenix, "radio-galaxy": _radio_galaxy, "orc": _orc, "blend": _blend}


def _required(sources, name):
    if name not in sources.keys():  # noqa: SIM118 - a table iterates over rows
        raise HaloInputError(f"the sources need a column {name}", found=", ".join(sources.keys()) or "none")
    return sources[name]


def _column(sources, name, unit, default, n):
    """Return a column as ``(n,)`` bare numbers in ``unit``; a column with default None must be there."""
    values = _required(sources, name) if default is None or name in sources.keys() else default  # noqa: SIM118
    if hasattr(values, "mask") and hasattr(values, "filled"):
        values = values.filled(np.nan if default is None else default)
    if getattr(values, "unit", None) is not None:
        try:
            values = u.Quantity(values).to_value(unit)
        except u.UnitConversionError as error:
            raise HaloInputError(f"the column {name} must be in a unit like {unit or 'none'}", keyword=name,
                                 found=str(values.unit)) from error
    values = np.asarray(values)
    if name == "seed" and values.dtype.kind not in "iu":
        raise HaloInputError("seed must be integers", keyword=name, found=str(values.dtype))
    if values.shape not in ((), (n,)):
        raise HaloInputError(f"the column {name} must hold one value a source: {n}", keyword=name,
                             found=f"shape {values.shape}")
    return np.broadcast_to(values.astype(np.int64 if name == "seed" else float), (n,))


def _refuse(wrong, name, message, values):
    if wrong.any():
        i = int(np.argmax(wrong))
        raise HaloInputError(f"row {i}: {message}", keyword=name, found=values[i].item())
