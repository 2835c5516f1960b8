"""Shapelets on the sky and in the u-v plane."""

from __future__ import annotations

import functools
import warnings

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError, HalopyWarning
from halopy.uvshapelets.hermite import diffracted, hermite, integrals
from halopy.uvshapelets.kernels import parity_moments, predict
from halopy.uvshapelets.polar import polar_block

__all__ = ["MAX_ORDER", "ShapeletBasis"]

MAX_ORDER = 300
"""The recurrence has been held against 60 digits up to here."""

KINDS = ("cartesian", "monopole", "polar")
CHUNK = 8192
# Where the w-term stops being that of a small field: for scales above 10 arcmin, and this much of a spread.
WIDE_BETA = np.radians(10 / 60)
WIDE_SPREAD = 0.1


class ShapeletBasis:
    """Orthonormal shapelets of orders up to ``n_max`` and their visibilities.

    Parameters
    ----------
    n_max : int
        Largest order n1 + n2, 0 to 300.
    beta : `~astropy.units.Quantity`
        Scale (an angle): the standard deviation of the Gaussian of order 0, along the position angle.
    beta_minor : `~astropy.units.Quantity`, optional
        Scale across it. Default ``beta``: circular.
    pa : `~astropy.units.Quantity`, optional
        Position angle of the first axis, from north through east. Default 0 deg.
    kind : str, optional
        ``"cartesian"`` (the default); ``"polar"``, the same space by angular frequency; or ``"monopole"``, the
        rings among the polar ones.

    Raises
    ------
    HaloInputError
        For a setting that cannot be used.

    Notes
    -----
    The sky is I(l, m) in Jy/sr, l to the east and m to the north in radians, and V(u, v, w) = ∫ I exp(−2πi(ul + vm +
    w(n − 1))) dl dm. With x1 along the position angle and x2 along it + 90 deg (north and east at 0 deg),

    - B(x1, x2) = φ_n1(x1/β1) φ_n2(x2/β2) / √(β1β2), ∫ B² dl dm = 1,
    - V(u1, u2) = 2π √(β1β2) (−i)^(n1+n2) φ_n1(2πβ1u1) φ_n2(2πβ2u2),

    φ as in `~halopy.uvshapelets.hermite.hermite`. Polar shapelets are real: √2 cos(mθ) for m > 0 and √2 sin(−mθ) for
    m < 0, with θ from x1 towards x2 (a position angle, where the basis is circular). Coefficients are in Jy/rad. The
    transform is unitary, ∫ I² = ∫ VV\\* = Σ coefficients², and functions of even n1 + n2 have real visibilities, those
    of odd ones imaginary.

    The w-term is that of small fields, n − 1 = −(l² + m²)/2, and exact but for that; the primary beam is a Gaussian.

    References
    ----------
    Refregier 2003, MNRAS 338, 35, arXiv astro-ph/0105178; Chang & Refregier 2002, ApJ 570, 447, arXiv
    astro-ph/0107085.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.basis import ShapeletBasis
    >>> basis = ShapeletBasis(2, 1 * u.arcmin)
    >>> basis
    ShapeletBasis(n_max=2, beta=60", kind='cartesian': 6 functions)
    >>> coefficients = [1000, 0, 0, 0, 0, 0]
    >>> print(f"{basis.flux(coefficients):.4f} Jy")
    1.0312 Jy
    >>> print(basis.predict(coefficients, [0.0, 500.0], [0.0, 0.0]).round(4))
    [1.0312+0.j 0.6792+0.j]
    """

    def __init__(self, n_max, beta, *, beta_minor=None, pa=0 * u.deg, kind="cartesian"):
        if isinstance(n_max, bool) or not isinstance(n_max, (int, np.integer)) or not 0 <= n_max <= MAX_ORDER:
            raise HaloInputError(f"n_max must be a whole number from 0 to {MAX_ORDER}", found=n_max)
        if kind not in KINDS:
            raise HaloInputError(f"kind must be one of {', '.join(KINDS)}", found=kind)
        self.n_max = int(n_max)
        self.beta = beta
        self.beta_minor = beta if beta_minor is None else beta_minor
        self.pa = pa
        self.kind = kind
        self._beta = [_angle(value, name, positive=True)
                      for name, value in (("beta", self.beta), ("beta_minor", self.beta_minor))]
        self._pa = _angle(pa, "pa")

    def __repr__(self):
        major, minor = (np.degrees(beta) * 3600 for beta in self._beta)
        scale = f'beta={major:.6g}"'
        if major != minor:
            scale += f' x {minor:.6g}", pa={np.degrees(self._pa):.6g} deg'
        return f"ShapeletBasis(n_max={self.n_max}, {scale}, kind={self.kind!r}: {self.size} functions)"

    @functools.cached_property
    def orders(self):
        """``(size, 2)`` int: n1, n2 of Cartesian shapelets; n, m of polar ones and monopoles; sorted by n."""
        if self.kind == "monopole":
            return np.array([(n, 0) for n in range(0, self.n_max + 1, 2)])
        if self.kind == "polar":
            return np.array([(n, m) for n in range(self.n_max + 1) for m in range(-n, n + 1, 2)])
        return np.array([(n - n2, n2) for n in range(self.n_max + 1) for n2 in range(n + 1)])

    @property
    def size(self):
        """How many functions there are."""
        n = self.n_max
        return n // 2 + 1 if self.kind == "monopole" else (n + 1) * (n + 2) // 2

    @functools.cached_property
    def cartesian(self):
        """The Cartesian basis on the same axes."""
        if self.kind == "cartesian":
            return self
        return ShapeletBasis(self.n_max, self.beta, beta_minor=self.beta_minor, pa=self.pa)

    def to_cartesian(self, coefficients):
        """Turn coefficients, ``(..., size)``, into those of `cartesian`."""
        coefficients = _numbers(coefficients)
        if coefficients.ndim == 0 or coefficients.shape[-1] != self.size:
            raise HaloInputError(f"this basis has {self.size} coefficients", found=f"shape {coefficients.shape}")
        if self.kind == "cartesian":
            return coefficients
        result = np.zeros((*coefficients.shape[:-1], (self.n_max + 1) * (self.n_max + 2) // 2), coefficients.dtype)
        for mine, cartesian, block in self._blocks():
            result[..., cartesian] = coefficients[..., mine] @ block
        return result

    def from_cartesian(self, coefficients):
        """Project coefficients of `cartesian`, ``(..., size)``, onto this basis; exact for polar shapelets."""
        coefficients = _numbers(coefficients)
        if self.kind == "cartesian":
            return coefficients
        result = np.zeros((*coefficients.shape[:-1], self.size), coefficients.dtype)
        for mine, cartesian, block in self._blocks():
            result[..., mine] = coefficients[..., cartesian] @ block.T
        return result

    def _blocks(self):
        """Yield the places of each order's functions here and in the Cartesian basis, and the matrix between them."""
        for n in range(0, self.n_max + 1, 2 if self.kind == "monopole" else 1):
            cartesian = slice(n * (n + 1) // 2, (n + 1) * (n + 2) // 2)
            if self.kind == "monopole":
                yield slice(n // 2, n // 2 + 1), cartesian, polar_block(n)[n // 2:n // 2 + 1]
            else:
                yield cartesian, cartesian, polar_block(n)

    def square(self, coefficients):
        """Return coefficients, ``(size,)``, as Cartesian ones ``(n_max + 1, n_max + 1)``, n1 by n2."""
        square = np.zeros((self.n_max + 1, self.n_max + 1))
        square[tuple(self.cartesian.orders.T)] = self.to_cartesian(coefficients)
        return square

    def from_square(self, square):
        """Project what `square` returns onto this basis; what lies beyond n1 + n2 = n_max is not looked at."""
        return self.from_cartesian(square[tuple(self.cartesian.orders.T)])

    @property
    def scales(self):
        """β1 and β2 in radians."""
        return tuple(self._beta)

    def turned(self, east, north):
        """Return the components along the first and the second axis of what has these to the east and north."""
        sin, cos = np.sin(self._pa), np.cos(self._pa)
        return east * sin + north * cos, east * cos - north * sin

    def scaled(self, u, v):
        """Return 2πβ1u1 and 2πβ2u2, where φ_n1 and φ_n2 are taken; u and v in wavelengths."""
        u, v, _ = _baselines(u, v)
        u1, u2 = self.turned(u, v)
        return 2 * np.pi * self._beta[0] * u1, 2 * np.pi * self._beta[1] * u2

    def image(self, east, north):
        """Return the functions on the sky.

        Parameters
        ----------
        east, north : array_like
            l and m, of one shape: radians, or Quantities.

        Returns
        -------
        `~numpy.ndarray`
            ``(*shape, size)``, in 1/rad: times coefficients in Jy/rad they are Jy/sr.
        """
        east, north = (u.Quantity(values, u.rad).to_value(u.rad) for values in (east, north))
        if east.shape != north.shape:
            raise HaloInputError("east and north must have one shape", found=f"{east.shape} and {north.shape}")
        x1, x2 = (x / beta for x, beta in zip(self.turned(east, north), self._beta, strict=True))
        return self._product(hermite(self.n_max, x1), hermite(self.n_max, x2)) / np.sqrt(self._beta[0] * self._beta[1])

    def visibility(self, u, v, w=None, pb_sigma=None):
        """Return the visibilities of all functions.

        Parameters
        ----------
        u, v, w : array_like
            ``(n,)`` wavelengths. Without ``w`` there is no w-term.
        pb_sigma : `~astropy.units.Quantity`, optional
            Standard deviation of a Gaussian primary beam (an angle) that the sky is seen through.

        Returns
        -------
        `~numpy.ndarray`
            ``(n, size)`` complex, in rad.
        """
        if w is None and pb_sigma is None:
            x, y = self.scaled(u, v)
            phases = np.array([1, -1j, -1, 1j])[np.arange(self.n_max + 1) % 4][:, None]
            first = 2 * np.pi * np.sqrt(self._beta[0] * self._beta[1]) * phases * hermite(self.n_max, x)
            return self._product(first, phases * hermite(self.n_max, y))
        return self._product(*self._axes(u, v, w, pb_sigma))

    def predict(self, coefficients, u, v, w=None, pb_sigma=None):
        """Return the visibilities of a sum of the functions, without a matrix of all of them.

        Parameters
        ----------
        coefficients : array_like
            ``(size,)`` in Jy/rad.
        u, v, w, pb_sigma
            As for `visibility`.

        Returns
        -------
        `~numpy.ndarray`
            ``(n,)`` complex, in Jy.
        """
        square = self.square(coefficients)
        if w is None and pb_sigma is None:
            return predict(square * self._signs(), *self.scaled(u, v))
        u, v, w = _baselines(u, v, w)
        result = np.empty(u.shape, dtype=complex)
        for part in _chunks(u.size):
            first, second = self._axes(u[part], v[part], w[part], pb_sigma)
            result[part] = np.einsum("an,an->n", first, square @ second)
        return result

    def adjoint(self, vis, u, v, w=None, pb_sigma=None):
        """Return Re(Aᴴ vis), A being `visibility`, without forming it.

        Parameters
        ----------
        vis : array_like
            ``(n,)`` complex; for a fit, visibilities times their weights.
        u, v, w, pb_sigma
            As for `visibility`.

        Returns
        -------
        `~numpy.ndarray`
            ``(size,)``.
        """
        plain = w is None and pb_sigma is None
        u, v, w = _baselines(u, v, w)
        vis = np.asarray(vis, dtype=complex)
        if vis.shape != u.shape:
            raise HaloInputError("vis must have one value a baseline", found=f"shapes {vis.shape} and {u.shape}")
        if plain:
            sums = parity_moments(self.n_max, *self.scaled(u, v), vis.real, vis.imag) * self._signs()
        else:
            sums = np.zeros((self.n_max + 1, self.n_max + 1))
            for part in _chunks(u.size):
                first, second = self._axes(u[part], v[part], w[part], pb_sigma)
                sums += ((first.conj() * vis[part]) @ second.conj().T).real
        return self.from_square(sums)

    def _signs(self):
        """Return V / φφ of all n1, n2: its real part where n1 + n2 is even, its imaginary part where that is odd."""
        n = np.add.outer(np.arange(self.n_max + 1), np.arange(self.n_max + 1)) % 4
        return 2 * np.pi * np.sqrt(self._beta[0] * self._beta[1]) * np.array([1.0, -1.0, -1.0, 1.0])[n]

    def _axes(self, u, v, w, pb_sigma):
        """Return the visibilities of both axes' functions, ``(n_max + 1, n)`` each."""
        u, v, w = _baselines(u, v, w)
        sigma = np.inf if pb_sigma is None else _angle(pb_sigma, "pb_sigma", positive=True)
        largest = max(self._beta)
        spread = 2 * np.pi * largest**2 * np.abs(w).max(initial=0.0)
        if largest > WIDE_BETA and spread > WIDE_SPREAD:
            warnings.warn(f"beta of {np.degrees(largest) * 60:.3g} arcmin with |w| up to {np.abs(w).max():.3g}: the "
                          "w-term is that of a small field, and its errors may reach a thousandth of the flux",
                          HalopyWarning, stacklevel=3)
        return [diffracted(self.n_max, axis, w, beta, sigma)
                for axis, beta in zip(self.turned(u, v), self._beta, strict=True)]

    def _product(self, first, second):
        n1, n2 = self.cartesian.orders.T
        first, second = (np.moveaxis(rows, 0, -1) for rows in (first, second))
        return self.from_cartesian(first[..., n1] * second[..., n2])

    @functools.cached_property
    def flux_vector(self):
        """``(size,)`` rad: the flux of each function, which is V(0, 0)."""
        return self._moment(0, 0)

    def _moment(self, power1, power2):
        """Return ∫ B x1^power1 x2^power2 dl dm of all functions, ``(size,)``."""
        rows = integrals(self.n_max)
        n1, n2 = self.cartesian.orders.T
        return self.from_cartesian(self._beta[0] ** (0.5 + power1) * rows[power1, n1]
                                   * self._beta[1] ** (0.5 + power2) * rows[power2, n2])

    def flux(self, coefficients):
        """Return the total flux in Jy of coefficients ``(..., size)`` in Jy/rad.

        Truncated shapelets miss flux of an exponential halo: 2 % at ``n_max`` 20 (`ExponentialHalo` does not).
        """
        return np.asarray(coefficients) @ self.flux_vector

    def centroid(self, coefficients):
        """Return the centre of brightness, east and north, as a Quantity of two arcsec."""
        # Two axes that lie like north and east: turning them is its own inverse.
        return (np.array(self.turned(*self._centroid(coefficients))) * u.rad).to(u.arcsec)

    def _centroid(self, coefficients):
        flux = self.flux(coefficients)
        if flux == 0:
            raise HaloInputError("coefficients of no flux have no centre and no size")
        return [float(np.dot(coefficients, self._moment(*powers)) / flux) for powers in ((1, 0), (0, 1))]

    def size_of(self, coefficients):
        """Return the rms distance of the brightness from its centre, √⟨r²⟩, in arcsec.

        NaN where negative brightness makes ⟨r²⟩ negative.
        """
        x1, x2 = self._centroid(coefficients)
        second = np.dot(coefficients, self._moment(2, 0) + self._moment(0, 2)) / self.flux(coefficients)
        square = second - x1**2 - x2**2
        return (np.sqrt(square) if square >= 0 else np.nan) * u.rad.to(u.arcsec) * u.arcsec


def _numbers(values):
    values = np.asarray(values)
    return values if values.dtype.kind in "fc" else values.astype(float)


def _angle(value, name, positive=False):
    """Return an angle in radians."""
    quantity = u.Quantity(value)
    if not quantity.unit.is_equivalent(u.rad) or not quantity.isscalar or not np.isfinite(quantity.value) \
            or (positive and quantity.value <= 0):
        what = "a finite, positive angle" if positive else "a finite angle"
        raise HaloInputError(f"{name} must be {what}", keyword=name, found=str(value), hint=f"{name}=2 * u.arcmin")
    return float(quantity.to_value(u.rad))


def _baselines(u, v, w=None):
    arrays = [np.asarray(axis, dtype=float) for axis in (u, v, 0.0 if w is None else w)]
    if w is None:
        arrays[2] = np.broadcast_to(arrays[2], arrays[0].shape)
    if arrays[0].ndim != 1 or any(array.shape != arrays[0].shape for array in arrays):
        raise HaloInputError("u, v and w must have one axis, of one length",
                             found=", ".join(str(array.shape) for array in arrays))
    return arrays


def _chunks(n):
    return [slice(start, start + CHUNK) for start in range(0, n, CHUNK)]
