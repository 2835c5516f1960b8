"""Counts of compact radio sources, and draws from them."""

from __future__ import annotations

import functools

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError

__all__ = ["draw_compact", "source_brightness", "source_counts", "source_density"]

FRANZEN = (3.52, 0.307, -0.388, -0.0404, 0.0351, 0.00600)
FREQUENCY = 154 * u.MHz
LIMITS = (1e-4, 75.0)
"""Jy at 154 MHz. The fit holds from 1 mJy to 75 Jy; below 1 mJy it is an extrapolation."""
ALPHA, ALPHA_SCATTER = -0.8, 0.22
"""Spectral index of the sources at 80-1400 MHz: mean, Franzen+ 2019; scatter, from memory, 0.2-0.24."""


def source_counts(flux):
    """Return the differential source counts at 154 MHz, dN/dS in 1/(Jy sr).

    A polynomial in log10 S of the Euclidean counts, log10(S^2.5 dN/dS): Franzen et al. 2019, PASA 36,
    e004, arXiv 1812.00666.

    Parameters
    ----------
    flux : `~astropy.units.Quantity`
        Flux density at 154 MHz, 0.1 mJy to 75 Jy; below 1 mJy an extrapolation.

    Returns
    -------
    `~astropy.units.Quantity`
        1 / (Jy sr).
    """
    jansky = np.asarray(u.Quantity(flux).to_value(u.Jy), dtype=float)
    if jansky.size and not (jansky.min() >= LIMITS[0] * (1 - 1e-6) and jansky.max() <= LIMITS[1] * (1 + 1e-6)):
        raise HaloInputError("the source counts are known from 0.1 mJy to 75 Jy at 154 MHz",
                             found=f"{jansky.min():g} to {jansky.max():g} Jy")
    return 10 ** np.polynomial.polynomial.polyval(np.log10(jansky), FRANZEN) * jansky**-2.5 / (u.Jy * u.sr)


@functools.cache
def _integral():
    """ln S at 154 MHz, and the number per steradian above it."""
    log_flux = np.linspace(np.log(LIMITS[0]), np.log(LIMITS[1]), 4001)
    flux = np.exp(log_flux)
    number = source_counts(flux * u.Jy).value * flux
    # From the brightest down, so that the few bright sources are not the difference of large numbers.
    above = np.zeros_like(flux)
    above[:-1] = np.cumsum((0.5 * (number[1:] + number[:-1]) * np.diff(log_flux))[::-1])[::-1]
    return log_flux, above


def source_density(faintest, frequency=FREQUENCY):
    """Return the number of sources per square degree above a flux density.

    Parameters
    ----------
    faintest : `~astropy.units.Quantity`
        Flux density at ``frequency``.
    frequency : `~astropy.units.Quantity`, optional
        Default 154 MHz; at another one, all sources have the mean spectral index −0.8.

    Returns
    -------
    `~astropy.units.Quantity`
        1 / deg².

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy.simulate.counts import source_density
    >>> print(source_density(10 * u.mJy).round(1))
    48.4 1 / deg2
    """
    log_flux, above = _integral()
    limit = faintest_at_154(faintest, frequency)
    return (np.exp(np.interp(np.log(limit), log_flux[:-1], np.log(above[:-1]))) / u.sr).to(u.deg**-2)


def source_brightness(faintest, brightest, frequency=FREQUENCY):
    """Return the mean brightness of the sources between two flux densities, all with the mean spectral index.

    Parameters
    ----------
    faintest, brightest : `~astropy.units.Quantity`
        Flux densities at ``frequency``.
    frequency : `~astropy.units.Quantity`, optional
        Default 154 MHz.

    Returns
    -------
    `~astropy.units.Quantity`
        Jy / deg², 0 where ``faintest`` is not below ``brightest``.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy.simulate.counts import source_brightness
    >>> print(source_brightness(5 * u.mJy, 40 * u.mJy, 200 * u.MHz).round(3))
    0.696 Jy / deg2
    """
    if not faintest < brightest:
        return 0 * u.Jy / u.deg**2
    log_flux, above = _integral()
    low, high = np.log([faintest_at_154(limit, frequency) for limit in (faintest, brightest)])
    grid = np.linspace(low, high, 201)
    number = np.exp(np.interp(grid, log_flux[:-1], np.log(above[:-1])))
    # By parts: the integral of S dN is the number above each S, summed over S, between the limits.
    flux = np.exp(grid)
    total = flux[0] * number[0] - flux[-1] * number[-1] + np.trapezoid(number * flux, grid)
    return (total * float((frequency / FREQUENCY).to_value(u.one)) ** ALPHA * u.Jy / u.sr).to(u.Jy / u.deg**2)


def faintest_at_154(faintest, frequency):
    """Return a flux limit in Jy at 154 MHz, or say that the counts do not reach so low."""
    limit = u.Quantity(faintest).to_value(u.Jy) * float((frequency / FREQUENCY).to_value(u.one)) ** -ALPHA
    if not LIMITS[0] * (1 - 1e-6) <= limit <= 10:
        raise HaloInputError("the faintest source must lie between 0.1 mJy and 10 Jy, counted at 154 MHz with a "
                             "spectral index of -0.8", found=f"{limit * 1e3:g} mJy there",
                             hint="faintest=5 * u.mJy at 200 MHz")
    return limit


def draw_compact(area, faintest, frequency, rng):
    """Draw the compact sources of an area of sky.

    Fluxes come from the counts at 154 MHz, each is scaled with its own spectral index, and those
    above the limit at ``frequency`` stay. The counts at another frequency follow from that, steeper
    spectra included.

    Parameters
    ----------
    area : array-like
        ``(n,)`` square degrees of n areas: the expected numbers follow.
    faintest, frequency : `~astropy.units.Quantity`
        An infinite flux density: no sources.
    rng : `~numpy.random.Generator`

    Returns
    -------
    row, flux, alpha : `~numpy.ndarray`
        For each source: the number of its area, its flux density in Jy at ``frequency``, its index.
    """
    area = np.atleast_1d(np.asarray(area, dtype=float))
    if np.isinf(faintest):
        return np.zeros(0, dtype=int), np.zeros(0), np.zeros(0)
    limit = faintest_at_154(faintest, frequency)
    log_ratio = np.log(float((frequency / FREQUENCY).to_value(u.one)))
    # A source three deviations flatter or steeper than the mean still crosses the limit.
    lowest = max(limit * np.exp(-3 * ALPHA_SCATTER * abs(log_ratio)), LIMITS[0])
    log_flux, above = _integral()
    total = float(np.exp(np.interp(np.log(lowest), log_flux[:-1], np.log(above[:-1]))))
    number = rng.poisson(total * area * u.deg.to(u.rad) ** 2)
    row = np.repeat(np.arange(area.size), number)
    drawn = np.interp(-total * rng.uniform(size=row.size), -above, log_flux)
    alpha = rng.normal(ALPHA, ALPHA_SCATTER, row.size)
    flux = np.exp(drawn + alpha * log_ratio)
    kept = flux >= u.Quantity(faintest).to_value(u.Jy)
    return row[kept], flux[kept], alpha[kept]


def draw_fluxes(n, faintest, frequency, rng):
    """Draw ``n`` flux densities in Jy from the counts above a limit, all with the mean spectral index."""
    limit = faintest_at_154(faintest, frequency)
    log_flux, above = _integral()
    total = float(np.exp(np.interp(np.log(limit), log_flux[:-1], np.log(above[:-1]))))
    scale = float((frequency / FREQUENCY).to_value(u.one)) ** ALPHA
    return np.exp(np.interp(-total * rng.uniform(size=n), -above, log_flux)) * scale
