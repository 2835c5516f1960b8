"""Linear fits to visibilities that are seen once, piece by piece, and then forgotten."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from halopy.errors import HaloInputError
from halopy.uvshapelets.basis import ShapeletBasis
from halopy.uvshapelets.hermite import hermite
from halopy.uvshapelets.kernels import weight_moments
from halopy.uvshapelets.nuisance import Confusion, PointSources, confused, marginalised

__all__ = ["Fit", "NormalEquations"]

BLOCK = 8192
W_PHASE = 0.01
"""Radians of the w-term, at the edge of the largest function, below which a visibility is taken to have none."""
UNSEEN = 1e-10


class NormalEquations:
    """The normal equations of a linear model of visibilities; two can be added.

    Parts of the model are columns t of visibilities, and what is kept of visibilities V with weights W is Re(tᴴ W t'),
    Re(tᴴ W V), Vᴴ W V and their number. That grows with the columns, not with the visibilities; pieces may be
    taken in any order, in several processes, and the sums added.

    Parameters
    ----------
    *parts : ShapeletBasis, ExponentialHalo, PointSources, Confusion, ...
        At least one. Anything with ``visibility(u, v, w)``, ``(n,)`` or ``(n, columns)``, is a part of the model.
        `PointSources` are marginalised with their priors, `Confusion` adds to the noise. Directions are those from the
        phase centre.

    Notes
    -----
    The block of a shapelet basis (the first, if there are several) comes from (2 n_max + 1)² moments of the weights,
    as a product of two Hermite functions is a finite sum of such functions: φ_a(x) φ_b(x) = 2^¼ Σ_c C_abc φ_c(√2 x),
    c ≤ a + b. This needs w to be unimportant. A visibility for which the w-term at the edge of the largest function,
    π \\|w\\| (n_max + 1) β², exceeds 0.01 rad is taken by itself into the dense product, with its w; others have none.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.fit import NormalEquations
    >>> from halopy.uvshapelets.templates import ExponentialHalo
    >>> from halopy.uvshapelets.visibilities import Visibilities
    >>> halo = ExponentialHalo(2 * u.arcmin)
    >>> east = np.linspace(0, 500, 100)
    >>> vis = Visibilities(east, 0 * east, 0 * east, 0.3 * halo.visibility(east, 0 * east), 1e4, 154e6)
    >>> fit = NormalEquations(halo).update(vis).solve()
    >>> print(fit.coefficients.round(3), fit.errors.round(4))
    [0.3] [0.0018]
    """

    def __init__(self, *parts):
        if not parts:
            raise HaloInputError("normal equations need at least one part of a model")
        for part in parts:
            if not isinstance(part, Confusion) and not callable(getattr(part, "visibility", None)):
                raise HaloInputError("a part of a model needs a method visibility(u, v, w)",
                                     found=type(part).__name__)
        self.parts = parts
        confusion = [part.cells() for part in parts if isinstance(part, Confusion)]
        # What is marginalised comes last.
        columns = sorted((part for part in parts if not isinstance(part, Confusion)),
                         key=lambda part: isinstance(part, PointSources))
        sizes = [_size(part) for part in columns]
        ends = np.cumsum([0, *sizes])
        self.size = int(ends[-1])
        self._sources = [part for part in columns if isinstance(part, PointSources)]
        self.n_kept = self.size - sum(map(len, self._sources))
        self._others = [(part, np.arange(start, stop)) for part, start, stop in
                        zip(columns, ends[:-1], ends[1:], strict=True)]
        first = next((k for k, part in enumerate(columns) if isinstance(part, ShapeletBasis)), None)
        self._basis, self._mine = (None, np.arange(0)) if first is None else self._others.pop(first)
        self._place = np.concatenate([np.arange(0), *(place for _, place in self._others)])
        self._confusion = confusion
        self.vector = np.zeros(self.size)
        self.power = 0.0
        self.n_visibilities = 0
        self._dense = np.zeros((self.size, self.size))
        self._cross = np.zeros((self.size, sum(map(len, confusion))))
        self._moments = np.zeros((1 if self._basis is None else 2 * self._basis.n_max + 1,) * 2)

    def __repr__(self):
        return f"<NormalEquations: {self.size} columns, {self.n_visibilities:,} visibilities>"

    def update(self, visibilities):
        """Add visibilities: one `Visibilities`, or any iterable of them. Returns the object itself."""
        for piece in pieces(visibilities):
            use = np.flatnonzero(piece.weight > 0)
            for start in range(0, use.size, BLOCK):
                rows = use[start:start + BLOCK]
                self._add(*(getattr(piece, name)[rows] for name in ("u", "v", "w", "vis", "weight")))
        return self

    def __add__(self, other):
        if not isinstance(other, NormalEquations):
            return NotImplemented
        # Copies from other processes are other objects; what they predict tells whether they are the same.
        if not np.array_equal(self._prediction(), other._prediction()):
            raise HaloInputError("only normal equations of the same parts can be added",
                                 found=f"{self.parts} and {other.parts}"[:200])
        total = NormalEquations(*self.parts)
        for name in ("vector", "power", "n_visibilities", "_dense", "_cross", "_moments"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def _prediction(self):
        parts = [part for part, _ in self._others] + [part for part in (self._basis, *self._confusion) if part]
        baselines = np.array([[30.0, -200.0, 900.0], [10.0, 150.0, -400.0], [5.0, 40.0, -90.0]])
        errors = [part.flux_err.to_value("Jy") for part in self._confusion]
        return np.concatenate([*(np.ravel(part.visibility(*baselines)) for part in parts), *self.prior, *errors])

    def _add(self, u, v, w, vis, weight):
        self.power += float(weight @ (vis.real**2 + vis.imag**2))
        self.n_visibilities += vis.size
        if self._others:
            others = _stacked(self._others, u, v, w)
            root = np.sqrt(weight)[:, None]
            stacked = np.concatenate([root * others.real, root * others.imag])
            self._dense[np.ix_(self._place, self._place)] += stacked.T @ stacked
            self.vector[self._place] += _real_product(others, weight * vis)
        if self._basis is not None:
            largest = max(self._basis.beta, self._basis.beta_minor).to_value("rad")
            wide = np.pi * np.abs(w) * (self._basis.n_max + 1) * largest**2 > W_PHASE
            for rows, w_term in ((np.flatnonzero(~wide), None), (np.flatnonzero(wide), w)):
                if rows.size:
                    self._add_basis(u[rows], v[rows], None if w_term is None else w[rows], vis[rows], weight[rows],
                                    others[rows] if self._others else None)
        if self._confusion:
            cells = weight[:, None] * np.concatenate([part.visibility(u, v, w) for part in self._confusion], axis=1)
            for part, place in [*self._others, *([] if self._basis is None else [(self._basis, self._mine)])]:
                self._cross[place] += _real_product(np.reshape(part.visibility(u, v, w), (u.size, -1)), cells)

    def _add_basis(self, u, v, w, vis, weight, others):
        basis, mine = self._basis, self._mine
        if w is None:
            x, y = basis.scaled(u, v)
            self._moments += weight_moments(2 * basis.n_max, np.sqrt(2) * x, np.sqrt(2) * y, weight)
            self.vector[mine] += basis.adjoint(weight * vis, u, v)
            for k, place in enumerate(self._place):
                self._dense[mine, place] += basis.adjoint(weight * others[:, k], u, v)
        else:
            functions = basis.visibility(u, v, w)
            weighted = weight[:, None] * functions
            self.vector[mine] += _real_product(weighted, vis)
            self._dense[np.ix_(mine, mine)] += _real_product(functions, weighted)
            if others is not None:
                self._dense[np.ix_(mine, self._place)] += _real_product(weighted, others)
        self._dense[np.ix_(self._place, mine)] = self._dense[np.ix_(mine, self._place)].T

    @property
    def normal(self):
        """The normal matrix of thermal noise, ``(size, size)``: columns of the model, then of the sources."""
        normal = self._dense.copy()
        if self._basis is not None:
            normal[np.ix_(self._mine, self._mine)] += _expanded(self._basis, self._moments)
        return 0.5 * (normal + normal.T)

    @property
    def prior(self):
        """Means and standard deviations of the sources' fluxes, in Jy, two arrays."""
        return tuple(np.concatenate([np.zeros(0), *(getattr(part, name).to_value("Jy") for part in self._sources)])
                     for name in ("flux", "flux_err"))

    def confused(self):
        """Return normal matrix and vector, ``(size, size)`` and ``(size,)``, with the noise of confusion."""
        if not self._confusion:
            return self.normal, self.vector
        errors = np.concatenate([part.flux_err.to_value("Jy") for part in self._confusion])
        return confused(self.normal, self.vector, self._cross, errors)

    def reduced(self):
        """Return normal matrix and vector of the model alone, with confusion, the sources marginalised."""
        return marginalised(*self.confused(), *self.prior)

    def solve(self, prior=None):
        """Solve for the coefficients of the model.

        Parameters
        ----------
        prior : float or array_like, optional
            Standard deviations of Gaussian priors of mean 0, for all or ``(n_kept,)``: in Jy/rad for shapelets, Jy for
            halos. Default None: no prior, and directions that the data do not see are left at 0.

        Returns
        -------
        Fit
        """
        normal, vector = self.reduced()
        if prior is not None:
            prior = np.asarray(prior, dtype=float)
            if prior.shape not in ((), (self.n_kept,)) or not (np.isfinite(prior) & (prior > 0)).all():
                raise HaloInputError(f"prior must be positive, one number or {self.n_kept}", keyword="prior",
                                     found=f"shape {prior.shape}")
            scale = np.broadcast_to(prior, (self.n_kept,))
        else:
            diagonal = np.diag(normal)
            scale = np.where(diagonal > 0, 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1)), 0.0)
        eigenvalues, vectors = np.linalg.eigh(scale[:, None] * normal * scale)
        eigenvalues, vectors = eigenvalues[::-1].clip(0), vectors[:, ::-1]
        along = vectors.T @ (scale * vector)
        seen = eigenvalues > UNSEEN * eigenvalues[0]
        shrunk = np.zeros_like(along)
        if prior is None:
            shrunk[seen] = 1 / eigenvalues[seen]
        else:
            shrunk[:] = 1 / (1 + eigenvalues)
        modes = scale[:, None] * vectors
        return Fit(coefficients=modes @ (shrunk * along), covariance=(modes * shrunk) @ modes.T,
                   eigenvalues=eigenvalues, eigenvectors=modes,
                   n_seen=int((seen if prior is None else eigenvalues > 1).sum()),
                   statistic=float(np.sum(along[seen] ** 2 / eigenvalues[seen])),
                   ln_bayes=np.nan if prior is None else float(0.5 * np.sum(along**2 * shrunk + np.log(shrunk))))

    def fluxes(self, fit):
        """Return the sources' fluxes and errors in Jy, given a fit of the model: two arrays ``(n_sources,)``."""
        mean, err = self.prior
        normal, vector = self.confused()
        kept, varies = self.n_kept, np.flatnonzero(err > 0)
        gone, precision = kept + varies, err[varies] ** -2
        inverse = np.linalg.inv(normal[np.ix_(gone, gone)] + np.diag(precision))
        gain = inverse @ normal[gone, :kept]
        known = normal[gone, kept:] @ np.where(err > 0, 0.0, mean)
        flux, flux_err = mean.copy(), err.copy()
        flux[varies] = inverse @ (vector[gone] + mean[varies] * precision - known) - gain @ fit.coefficients
        flux_err[varies] = np.sqrt(np.diag(inverse) + np.einsum("ij,jk,ik->i", gain, fit.covariance, gain))
        return flux, flux_err


@dataclass(frozen=True, eq=False)
class Fit:
    """Coefficients, and how well they are known.

    Attributes
    ----------
    coefficients, covariance : `~numpy.ndarray`
        ``(n,)`` and ``(n, n)``, in the units of the model's parts. Nuisance is marginalised.
    eigenvalues, eigenvectors : `~numpy.ndarray`
        ``(n,)``, descending, and ``(n, n)``, in columns: combinations of the coefficients that the data measure
        independently. With a prior, each has the prior variance 1, and the eigenvalue is the square of its S/N;
        without, each coefficient is scaled by its own S/N first. Small ones are what the coverage does not see.
    n_seen : int
        Number of eigenvalues above 1 with a prior (the data say more than it), above 1e-10 of the largest without.
    statistic : float
        Twice the logarithm of the likelihood ratio between the best model and none, over what is not below 1e-10 of
        the largest eigenvalue: χ² distributed where there is none.
    ln_bayes : float
        Logarithm of the Bayes factor between the model with its prior and none; NaN without a prior.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    n_seen: int
    statistic: float
    ln_bayes: float

    @property
    def errors(self):
        """Standard deviations of the coefficients, ``(n,)``."""
        return np.sqrt(np.diag(self.covariance))


def pieces(visibilities):
    """Yield visibilities: one, or many about one phase centre."""
    first = None
    for piece in [visibilities] if hasattr(visibilities, "vis") else visibilities:
        first = piece if first is None else first
        piece._check_centre(first)
        yield piece


def _size(part):
    if isinstance(part, ShapeletBasis):
        return part.size
    shape = np.shape(part.visibility(np.zeros(1), np.zeros(1), np.zeros(1)))
    return 1 if len(shape) == 1 else shape[1]


def _stacked(blocks, u, v, w):
    """Return the columns of several parts, ``(n, columns)`` complex."""
    columns = np.empty((u.size, sum(place.size for _, place in blocks)), dtype=complex)
    start = 0
    for part, place in blocks:
        columns[:, start:start + place.size] = np.reshape(part.visibility(u, v, w), (u.size, place.size))
        start += place.size
    return columns


def _real_product(a, b):
    """Return Re(aᴴ b)."""
    return a.real.T @ b.real + a.imag.T @ b.imag


@functools.lru_cache(maxsize=8)
def _products(n):
    """Return C of φ_a(x) φ_b(x) = 2^¼ Σ_c C_abc φ_c(√2 x), ``(n + 1, n + 1, 2n + 1)``, by the trapezoidal rule."""
    # Of functions that end in both spaces, the rule is exact to rounding once its spacing resolves their product.
    edge = np.sqrt(2 * n + 1)
    spacing = 2 * np.pi / (4 * edge + 16)
    x = spacing * np.arange(-int((edge + 7) / spacing), int((edge + 7) / spacing) + 1)
    single, double = hermite(n, x), hermite(2 * n, np.sqrt(2) * x)
    product = np.einsum("ai,bi,ci->abc", single, single, double * (spacing * 2**0.25), optimize=True)
    a, b, c = np.indices(product.shape, sparse=True)
    product[((a + b + c) % 2 == 1) | (c > a + b)] = 0
    product.flags.writeable = False
    return product


def _expanded(basis, moments):
    """Return the normal matrix of a basis from the moments of the weights."""
    product = _products(basis.n_max)
    n1, n2 = basis.cartesian.orders.T
    half = np.tensordot(product, moments, (2, 0))
    normal = np.empty((n1.size, n1.size))
    for row, (a, b) in enumerate(zip(n1, n2, strict=True)):
        normal[row] = np.einsum("kd,kd->k", half[a, n1], product[b, n2])
    signs = basis._signs()[n1, n2]
    normal *= np.sqrt(2) * np.outer(signs, signs)
    return basis.from_cartesian(basis.from_cartesian(normal).T)
