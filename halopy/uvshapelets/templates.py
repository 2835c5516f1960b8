"""What a halo looks like to an interferometer: the visibilities of simple models, in closed form.

V = ∫ I exp(−2πi (ul + vm + w(n−1))) dl dm, with l to the east, m to the north, and u, v, w in wavelengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from astropy import units as u
from scipy.optimize import minimize
from scipy.special import erfcx

from halopy.errors import HaloInputError
from halopy.image import FWHM_TO_SIGMA

__all__ = ["ExponentialHalo", "GaussianHalo", "GaussianLadder", "phase"]


def phase(u, v, w, l, m):  # noqa: E741
    """Return exp(−2πi (ul + vm + w(n−1))), the visibility of a point of 1 Jy.

    Parameters
    ----------
    u, v, w : array_like
        Wavelengths; ``w`` may be None.
    l, m : array_like
        Direction cosines of the point from the phase centre, to the east and to the north. All five are broadcast.
    """
    turns = np.multiply(u, l) + np.multiply(v, m)
    if w is not None:
        # n − 1, without the difference of two numbers that are almost equal.
        r2 = np.square(l) + np.square(m)
        turns = turns - w * (r2 / (1 + np.sqrt(1 - r2)))
    return np.exp(-2j * np.pi * turns)


class _Halo:
    """The ellipse, and the shift from the phase centre, that the models have in common."""

    def __post_init__(self):
        for name in ("r_e", "fwhm"):
            if hasattr(self, name):
                object.__setattr__(self, name, _angle(getattr(self, name), name))
        if not 0 < self.axis_ratio <= 1:
            raise HaloInputError("axis_ratio must lie in (0, 1]", keyword="axis_ratio", found=self.axis_ratio)
        centre = np.asarray(self.centre, dtype=float)
        if centre.shape != (2,) or not np.sum(centre**2) < 1:
            raise HaloInputError("centre must be two direction cosines (l, m), in radians", keyword="centre",
                                 found=self.centre)

    def visibility(self, u, v, w=None):
        """Return the visibilities ``(n,)`` of a halo of 1 Jy, complex.

        Parameters
        ----------
        u, v, w : array_like
            ``(n,)`` wavelengths.
        """
        u, v = np.asarray(u, dtype=float), np.asarray(v, dtype=float)
        sine, cosine = np.sin(self._pa), np.cos(self._pa)
        q2 = ((u * sine + v * cosine) ** 2 / self.axis_ratio + (u * cosine - v * sine) ** 2 * self.axis_ratio)
        values = self._transform(q2, w) + 0j
        if tuple(self.centre) != (0, 0):
            values *= phase(u, v, w, *self.centre)
        return values

    def image(self, l, m):  # noqa: E741
        """Return the brightness of a halo of 1 Jy in Jy/sr, in the shape of the directions (radians)."""
        x, y = np.asarray(l, dtype=float) - self.centre[0], np.asarray(m, dtype=float) - self.centre[1]
        sine, cosine = np.sin(self._pa), np.cos(self._pa)
        return self._brightness((x * sine + y * cosine) ** 2 * self.axis_ratio
                                + (x * cosine - y * sine) ** 2 / self.axis_ratio)

    @property
    def _pa(self):
        return u.Quantity(self.pa, u.deg).to_value(u.rad)


@dataclass(frozen=True)
class ExponentialHalo(_Halo):
    """A halo of brightness I0 exp(−r / r_e).

    Its transform is (1 + (2π r_e q)²)^(−3/2) for 1 Jy at the distance q in the u-v plane; half of the flux lies within
    1.68 r_e. The w-term is that of its centre: across the halo it is neglected, 2π w r_e² radians at r_e.

    Parameters
    ----------
    r_e : `~astropy.units.Quantity`
        E-folding radius (the geometric mean of the two axes').
    axis_ratio : float, optional
        Minor over major axis, default 1.
    pa : `~astropy.units.Quantity`, optional
        Position angle of the major axis, from north through east, default 0.
    centre : tuple of float, optional
        Direction cosines (l, m) from the phase centre, in radians, default (0, 0).

    References
    ----------
    The profile: Murgia et al. 2009, A&A 499, 679, arXiv 0901.1943.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.templates import ExponentialHalo
    >>> halo = ExponentialHalo(120 * u.arcsec)
    >>> print(halo.visibility([0, 300], [0, 0]).real.round(3))
    [1.    0.306]
    """

    r_e: u.Quantity
    axis_ratio: float = 1.0
    pa: u.Quantity = 0 * u.deg
    centre: tuple = (0.0, 0.0)

    def _transform(self, q2, w):
        return (1 + (2 * np.pi * _radian(self.r_e)) ** 2 * q2) ** -1.5

    def _brightness(self, r2):
        r_e = _radian(self.r_e)
        return np.exp(-np.sqrt(r2) / r_e) / (2 * np.pi * r_e**2)


@dataclass(frozen=True)
class GaussianHalo(_Halo):
    """A halo of Gaussian brightness; the w-term across it is included (to second order in the angle).

    Parameters
    ----------
    fwhm : `~astropy.units.Quantity`
        Full width at half maximum (the geometric mean of the two axes').
    axis_ratio, pa, centre : optional
        As for `ExponentialHalo`; with an ``axis_ratio`` below 1 the w-term is that of the centre.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.templates import GaussianHalo
    >>> print(GaussianHalo(5 * u.arcmin).visibility([0, 300], [0, 0]).real.round(3))
    [1.    0.508]
    """

    fwhm: u.Quantity
    axis_ratio: float = 1.0
    pa: u.Quantity = 0 * u.deg
    centre: tuple = (0.0, 0.0)

    def _transform(self, q2, w):
        return _gaussian(_radian(self.fwhm) * FWHM_TO_SIGMA, q2, w if self.axis_ratio == 1 else None)

    def _brightness(self, r2):
        variance = (_radian(self.fwhm) * FWHM_TO_SIGMA) ** 2
        return np.exp(-0.5 * r2 / variance) / (2 * np.pi * variance)


@dataclass(frozen=True)
class GaussianLadder(_Halo):
    """The ``n`` concentric Gaussians that stand for an exponential halo best, w-term included.

    Widths and fluxes make the integral of the squared difference from `ExponentialHalo` as small as it can be. The sum
    is short of the flux: `flux_fraction`.

    Parameters
    ----------
    r_e : `~astropy.units.Quantity`
        E-folding radius of the exponential halo of 1 Jy that is approximated.
    n : int, optional
        Number of Gaussians, 1 to 6, default 3.
    axis_ratio, pa, centre : optional
        As for `GaussianHalo`.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.templates import GaussianLadder
    >>> ladder = GaussianLadder(120 * u.arcsec)
    >>> print(round(ladder.flux_fraction, 3), ladder.sigma.round(0))
    0.981 [ 40. 109. 229.] arcsec
    """

    r_e: u.Quantity
    n: int = 3
    axis_ratio: float = 1.0
    pa: u.Quantity = 0 * u.deg
    centre: tuple = (0.0, 0.0)

    def __post_init__(self):
        super().__post_init__()
        if self.n not in range(1, 7):
            raise HaloInputError("a ladder has 1 to 6 Gaussians", keyword="n", found=self.n)

    @property
    def sigma(self):
        """Widths of the Gaussians (standard deviations)."""
        return _ladder(self.n)[0] * self.r_e

    @property
    def flux(self):
        """Fluxes of the Gaussians ``(n,)``, Jy for an exponential halo of 1 Jy."""
        return _ladder(self.n)[1]

    @property
    def flux_fraction(self):
        """Flux of the sum over that of the exponential halo."""
        return float(self.flux.sum())

    def _transform(self, q2, w):
        w = w if self.axis_ratio == 1 else None
        return sum(f * _gaussian(s, q2, w) for f, s in zip(self.flux, self.sigma.to_value(u.rad), strict=True))

    def _brightness(self, r2):
        variances = self.sigma.to_value(u.rad) ** 2
        return sum(f * np.exp(-0.5 * r2 / s2) / (2 * np.pi * s2) for f, s2 in zip(self.flux, variances, strict=True))


def _gaussian(sigma, q2, w):
    """Transform of a Gaussian of 1 Jy times exp(iπ w r²), the w-term near the centre: itself a Gaussian."""
    z = 1.0 if w is None else 1 - 2j * np.pi * np.asarray(w, dtype=float) * sigma**2
    return np.exp(-2 * (np.pi * sigma) ** 2 * q2 / z) / z


@cache
def _ladder(n):
    """Return the widths, in r_e, and the fluxes of the best ``n`` Gaussians.

    All integrals over the plane are known: of two Gaussians, 1 / 2π(a² + b²); of a Gaussian and exp(−r) / 2π,
    (1 − b √(π/2) erfcx(b/√2)) / 2π; of the square of exp(−r) / 2π, 1 / 8π. For given widths the fluxes follow linearly.
    """
    def fluxes(log_widths):
        b = np.exp(log_widths)
        gram = 1 / (2 * np.pi * np.add.outer(b**2, b**2))
        cross = (1 - b * np.sqrt(np.pi / 2) * erfcx(b / np.sqrt(2))) / (2 * np.pi)
        flux = np.linalg.solve(gram, cross)
        return flux, 1 - 8 * np.pi * cross @ flux

    start = np.zeros(1) if n == 1 else np.linspace(np.log(0.9 / n), np.log(0.7 * n**0.9), n)
    best = minimize(lambda widths: np.log(fluxes(widths)[1]), start, method="Nelder-Mead",
                    options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20000, "maxfev": 20000})
    widths, flux = np.exp(np.sort(best.x)), fluxes(np.sort(best.x))[0]
    for values in (widths, flux):
        values.flags.writeable = False
    return widths, flux


def _angle(value, name):
    try:
        value = u.Quantity(value)
        radian = value.to_value(u.rad)
    except (u.UnitConversionError, TypeError) as error:
        raise HaloInputError(f"{name} must be an angle", keyword=name, found=str(value),
                             hint=f"{name}=120 * u.arcsec") from error
    if np.ndim(radian) or not (np.isfinite(radian) and radian > 0):
        raise HaloInputError(f"{name} must be one positive angle", keyword=name, found=str(value))
    return value


def _radian(value):
    return float(value.to_value(u.rad))
