"""Halos anywhere in the field: the test of `detect_halo` in every direction at once."""

from __future__ import annotations

import dataclasses

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from scipy.special import ndtr

from halopy.errors import HaloInputError
from halopy.uvshapelets.bank import Bank
from halopy.uvshapelets.fit import BLOCK, NormalEquations, pieces
from halopy.uvshapelets.null import LARGEST, exceedance
from halopy.uvshapelets.templates import ExponentialHalo
from halopy.uvshapelets.visibilities import Visibilities

__all__ = ["search_halos"]

RADII = 60 * 2.0 ** np.arange(4) * u.arcsec
MOST = 100
"""Candidates."""
WIDEST = 10 * u.deg
"""Half a side: at its corners the w-term, taken to second order, is wrong by 0.3 radians for w of 100 wavelengths."""
MOST_BYTES = 2**29
"""Of the noise's covariance on the u-v plane."""
FINE = 8
"""Cells of the coverage that is kept, in one of the noise's: phases vary by 0.1 radians in one, at the field's edge."""
THRESHOLDS = np.concatenate([np.linspace(0, 8, 33), [10, 14, 20, LARGEST]])


def search_halos(visibilities, *, radius=1 * u.deg, radii=RADII, sources=None, max_p=0.01, n_draws=400, rng=None):
    """Search a field for exponential halos.

    Parameters
    ----------
    visibilities : Visibilities or iterable of Visibilities
        In Jy, about one phase centre, the middle of the field; they are seen once.
    radius : `~astropy.units.Quantity`, optional
        Half the side of the square field, default 1 deg.
    radii : `~astropy.units.Quantity`, optional
        E-folding radii, ascending, default 1, 2, 4 and 8 arcmin. Directions are tested in steps of the first.
    sources : PointSources, optional
        The point sources of the field, marginalised with their priors.
    max_p : float, optional
        Candidates are those with a p-value up to this, default 0.01.
    n_draws : int, optional
        Draws of the whole field's noise for the p-values, default 400.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator of the draws.

    Returns
    -------
    `~astropy.table.QTable`
        One row a candidate, the most significant first: ``l``, ``m`` (radians from the phase centre), ``position``
        (where the phase centre is known), ``r_e`` (of the radii), ``snr``, ``flux`` and ``flux_err`` (with r_e held
        there), and ``p_value``. Each is subtracted before the next is looked for, so that sidelobes are none, and none
        lies within 2 r_e of one before it. Flux and radius were chosen for their S/N: `detect_halo` at the position has
        errors that know that r_e is free.

    Raises
    ------
    HaloInputError
        For a field that is not larger than the first radius, reaches beyond 10 deg or has too many directions, and
        where no visibility has weight.

    Notes
    -----
    The p-value is the probability that noise gives such a S/N, of either sign, in any of the directions and at any of
    the radii (the look-elsewhere effect): the sum over all of them of one's probability, times the mean of 1 / N, where
    N counts those beyond in draws of the field given one that is beyond, as in
    `~halopy.uvshapelets.null.maximum_p_value`. Draws have the covariance of the thermal noise, from the weights gridded
    in the u-v plane; that sources are marginalised is not in their correlation, though it is in every variance.
    Confusion is not included.

    The work is proportional to the number of visibilities times that of directions, and again for each candidate: bin
    them first. The w-term is taken to second order in the angle, which is wrong by 2π w r⁴/8 radians at r from the
    phase centre.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.search import search_halos
    >>> from halopy.uvshapelets.templates import ExponentialHalo
    >>> from halopy.uvshapelets.visibilities import Visibilities
    >>> rng = np.random.default_rng(0)
    >>> east, north = rng.normal(0, 300, (2, 2000))
    >>> halo = ExponentialHalo(2 * u.arcmin, centre=(3e-3, -2e-3)).visibility(east, north)
    >>> noise = rng.normal(0, 1, (2000, 2)) @ [1, 1j]
    >>> found = search_halos(Visibilities(east, north, 0 * east, halo + noise, 1, 154e6), radius=20 * u.arcmin, rng=0)
    >>> print(len(found), found["l"][0].round(4), found["m"][0].round(4), found["p_value"][0] < 1e-6)
    1 0.0029 rad -0.002 rad True
    """
    rng = np.random.default_rng(rng)
    radii = u.Quantity(radii, u.arcsec).reshape(-1)
    bank, extent = Bank(radii.to_value(u.rad)), u.Quantity(radius).to_value(u.rad)
    step = bank.radii[0]
    if not step < extent <= WIDEST.to_value(u.rad):
        raise HaloInputError("radius must be larger than the first of radii, and at most 10 deg", keyword="radius",
                             found=str(radius))
    directions = (2 * int(extent / step) + 1) ** 2
    if 32 * directions * len(radii) ** 2 > MOST_BYTES:
        raise HaloInputError("there are too many directions and radii", keyword="radius",
                             found=f"{directions:,} directions, {len(radii)} radii",
                             hint="a larger first radius, or a smaller field")
    axis = step * np.arange(-int(extent / step), int(extent / step) + 1)
    field = _Field(axis, [ExponentialHalo(r) for r in radii])
    centre, equations, columns = None, None, []
    for piece in pieces(visibilities):
        if equations is None:
            centre = piece.centre
            columns = [] if sources is None else [sources.about(centre)]
            equations = NormalEquations(*columns) if columns else None
        if columns:
            equations.update(piece)
        field.update(piece, columns)
    if not field.total:
        raise HaloInputError("no visibility has weight", keyword="weight")
    vector, information = field.reduced(equations)
    mean_inverse = field.draw(n_draws, rng)
    vector, allowed, rows = vector.copy(), np.ones(vector.shape[1:], dtype=bool), []
    while allowed.any() and len(rows) < MOST:
        snr = vector / np.sqrt(information)
        r, a, b = np.unravel_index(np.argmax(np.abs(snr) * allowed), snr.shape)
        p = field.p_value(abs(snr[r, a, b]), mean_inverse)
        if p > max_p:
            break
        flux = vector[r, a, b] / information[r, a, b]
        rows.append((axis[a], axis[b], bank.radii[r], snr[r, a, b], flux, information[r, a, b] ** -0.5, p))
        vector -= flux * field.response(r, a, b)
        allowed &= np.hypot.outer(axis - axis[a], axis - axis[b]) >= 2 * bank.radii[r]
    l, m, r_e, snr, flux, flux_err, p = np.array(rows).reshape(-1, 7).T  # noqa: E741
    table = QTable({"l": l * u.rad, "m": m * u.rad, "r_e": (r_e * u.rad).to(u.arcsec), "snr": snr, "flux": flux * u.Jy,
                    "flux_err": flux_err * u.Jy, "p_value": p})
    if centre is not None:
        table.add_column(_positions(l, m, centre), name="position", index=0)
    return table


class _Field:
    """Sums over visibilities for every direction (l by m) and radius, and what noise does to them."""

    def __init__(self, axis, halos):
        self.axis, self.halos = axis, halos
        self.data = np.zeros((len(halos), axis.size, axis.size))
        self.cross = None
        self.total = 0.0
        # The noise is drawn on a grid of twice the side, so that it does not repeat within the field.
        self.side = 2 * axis.size
        self.cells = np.zeros((self.side**2, len(halos), len(halos)))
        self.coverage = None

    def update(self, piece, sources):
        for block in _blocks(piece):
            self._add(*block, sources)
        where = dataclasses.replace(piece, vis=np.zeros(len(piece)), centre=None)
        where = where if self.coverage is None else Visibilities.join([self.coverage, where])
        self.coverage = where.binned(1 / (FINE * self.side * (self.axis[1] - self.axis[0])))

    def _phases(self, east, north, w):
        """Return exp(2πi (ul + vm − w(l² + m²)/2)) of all directions: it is a product."""
        return [np.exp(2j * np.pi * (np.multiply.outer(x, self.axis) - 0.5 * np.multiply.outer(w, self.axis**2)))
                for x in (east, north)]

    def _add(self, east, north, w, vis, weight, sources):
        self.total += weight.sum()
        everywhere = _summed(*self._phases(east, north, w))
        shapes = np.array([halo.visibility(east, north).real for halo in self.halos])
        points = [column for part in sources for column in part.visibility(east, north, w).T]
        if self.cross is None:
            self.cross = np.zeros((len(points), *self.data.shape))
        for r, shape in enumerate(shapes):
            self.data[r] += everywhere(weight * shape * vis)
            for j, point in enumerate(points):
                self.cross[j, r] += everywhere(weight * shape * point)
        step = self.axis[1] - self.axis[0]
        index = [np.rint(x * self.side * step).astype(np.int64) % self.side for x in (east, north)]
        cell = index[0] * self.side + index[1]
        for r in range(len(shapes)):
            for s in range(r, len(shapes)):
                sums = np.bincount(cell, weight * shapes[r] * shapes[s], self.side**2)
                self.cells[:, r, s] += sums
                if s > r:
                    self.cells[:, s, r] += sums

    def reduced(self, equations):
        """Return vector and information in every direction, the sources marginalised."""
        information = np.diagonal(self.cells.sum(axis=0))[:, None, None] * np.ones_like(self.data)
        if equations is None:
            self.cross = self.gain = np.zeros((0, *self.data.shape))
            return self.data, information
        mean, err = equations.prior
        vary = err > 0
        data = self.data - np.tensordot(mean, self.cross, 1)
        inverse = np.linalg.inv(equations.normal[np.ix_(vary, vary)] + np.diag(err[vary] ** -2.0))
        residual = (equations.vector - equations.normal @ mean)[vary]
        self.cross = self.cross[vary]
        self.gain = np.tensordot(inverse, self.cross, 1)
        return (data - np.tensordot(residual, self.gain, 1),
                information - np.einsum("jrab,jrab->rab", self.cross, self.gain))

    def draw(self, n_draws, rng):
        """Return the mean of 1 / N for `THRESHOLDS`, N counting the tests beyond, given one that is."""
        n, size = len(self.halos), self.axis.size
        full = np.flatnonzero(self.cells[:, 0, 0])
        variance = np.diagonal(self.cells.sum(axis=0))
        scale = 1 / np.sqrt(variance)
        values, vectors = np.linalg.eigh(scale[:, None] * self.cells[full] * scale)
        root = vectors * np.sqrt(values.clip(0))[:, None, :]
        correlation = [self._sky(full, self.cells[full][:, :, r] * scale * scale[r]) for r in range(n)]
        total = np.zeros(len(THRESHOLDS))
        for _ in range(n_draws):
            noise = rng.standard_normal((full.size, n, 2)) @ [1, 1j]
            z = self._sky(full, np.einsum("crs,cs->cr", root, noise))[:, :size, :size]
            r, a, b = rng.integers(n), *rng.integers(size, size=2)
            given = np.roll(correlation[r], (a, b), axis=(1, 2))[:, :size, :size]
            beyond = exceedance(THRESHOLDS, 1 - rng.uniform())
            total += [1 / max((np.abs(z + given * (own - z[r, a, b])) >= x).sum(), 1)
                      for x, own in zip(THRESHOLDS, beyond, strict=True)]
        return total / n_draws

    def p_value(self, snr, mean_inverse):
        """Return the probability that noise exceeds a S/N somewhere."""
        snr = min(snr, LARGEST)
        return min(2 * self.data.size * ndtr(-snr) * np.interp(snr, THRESHOLDS, mean_inverse), 1.0)

    def response(self, r, a, b):
        """Return what a halo of 1 Jy adds to the vector everywhere; after `reduced`."""
        plain = np.zeros_like(self.data)
        for east, north, w, _, weight in _blocks(self.coverage):
            phases = self._phases(east, north, w)
            everywhere, there = _summed(*phases), (phases[0][:, a] * phases[1][:, b]).conj()
            shapes = [halo.visibility(east, north).real for halo in self.halos]
            for s, shape in enumerate(shapes):
                plain[s] += everywhere(weight * shapes[r] * shape * there)
        return plain - np.tensordot(self.cross[:, r, a, b], self.gain, 1)

    def _sky(self, full, cells):
        """Sum cells ``(n_full, n)`` over the u-v plane, for every direction, ``(n, side, side)``."""
        grid = np.zeros((cells.shape[1], self.side**2), dtype=complex)
        grid[:, full] = cells.T
        return np.fft.ifft2(grid.reshape(-1, self.side, self.side)).real * self.side**2


def _blocks(piece):
    """Yield u, v, w, visibilities and weights of a block of those that have weight."""
    use = np.flatnonzero(piece.weight > 0)
    for start in range(0, use.size, BLOCK):
        yield [getattr(piece, name)[use[start:start + BLOCK]] for name in ("u", "v", "w", "vis", "weight")]


def _summed(first, second):
    """Return what sums values ``(n,)``, turned by the product of two phases, for every direction."""
    # Real arithmetic twice is half of complex.
    second = np.concatenate([second.real, -second.imag])

    def everywhere(values):
        turned = values[:, None] * first
        return np.concatenate([turned.real, turned.imag]).T @ second

    return everywhere


def _positions(l, m, centre):  # noqa: E741
    """Return the positions of direction cosines about a centre."""
    n = np.sqrt(1 - l**2 - m**2)
    ra, dec = centre.icrs.ra.rad, centre.icrs.dec.rad
    z = m * np.cos(dec) + n * np.sin(dec)
    return SkyCoord(ra + np.arctan2(l, n * np.cos(dec) - m * np.sin(dec)), np.arcsin(z), unit="rad")
