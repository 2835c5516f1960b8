"""Clusters and their radio power: power-mass relations, fluxes, sizes, spectral indices.

Radio powers are W/Hz at a rest-frame frequency; spectra are S ~ frequency^alpha; the cosmology is
flat with H0 = 70 km/s/Mpc and Omega_m = 0.3, as is customary in this field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM
from astropy.table import QTable

from halopy.errors import HaloInputError

__all__ = ["PowerMass", "draw_clusters", "flux_density", "halo_flux", "halo_radius", "kpc_to_arcsec", "relations"]

COSMOLOGY = FlatLambdaCDM(H0=70, Om0=0.3)
SOLAR_MASSES = 1e14 * u.solMass


@dataclasses.dataclass(frozen=True)
class PowerMass:
    """A power-mass relation of radio halos, P = 10^normalisation (M500 / pivot)^slope, with scatter.

    Parameters
    ----------
    frequency : `~astropy.units.Quantity`
        Rest-frame frequency of the power.
    normalisation : float
        log10 of the power at the pivot, in W/Hz.
    slope : float
    scatter : float
        Standard deviation of log10 P at one mass, in dex.
    pivot : `~astropy.units.Quantity`, optional
        Default 10^14.9 solar masses, that of both presets.
    source : str, optional
        Where the numbers come from.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy.simulate import relations
    >>> print(f"{relations['cuciti+2023'].power(8e14 * u.solMass):.2e}")
    4.08e+25 W / Hz
    """

    frequency: u.Quantity
    normalisation: float
    slope: float
    scatter: float
    pivot: u.Quantity = 10**14.9 * u.solMass
    source: str = "user"

    def __post_init__(self):
        if not (np.isfinite([self.normalisation, self.slope]).all() and self.scatter >= 0):
            raise HaloInputError("a power-mass relation needs finite numbers and a scatter that is not negative",
                                 found=f"{self.normalisation}, {self.slope}, {self.scatter}")

    def power(self, m500, *, deviation=0.0):
        """Return the power in W/Hz at a mass, ``deviation`` dex above the relation."""
        ratio = u.Quantity(m500 / self.pivot).to_value(u.one)
        return 10 ** (self.normalisation + np.asarray(deviation)) * ratio**self.slope * u.W / u.Hz


relations: Mapping = MappingProxyType({
    "cassano+2013": PowerMass(1400 * u.MHz, 24.5 + 0.125, 3.77, 0.35,
                              source="Cassano et al. 2013, arXiv 1306.4379, BCES bisector, halos only; scatter of "
                                     "0.3-0.4 dex (from memory)"),
    "cuciti+2023": PowerMass(150 * u.MHz, 24.5 + 1.10, 3.55, 0.35,
                             source="Cuciti et al. 2023, A&A 680, A30: 1.10 +- 0.09, 3.55 +- 0.60, scatter of 0.3-0.4 "
                                    "dex (from memory)"),
})
"""The power-mass relations that ship with halopy, by name."""


def relation_named(relation):
    """Return a `PowerMass` by name, or the one that is given."""
    if isinstance(relation, PowerMass):
        return relation
    if relation not in relations:
        raise HaloInputError("relation must be a PowerMass or the name of one", found=relation,
                             hint=" or ".join(repr(name) for name in relations))
    return relations[relation]


def flux_density(power, redshift, alpha, *, power_frequency, frequency):
    """Return the flux density at an observed frequency of a source of a rest-frame power.

    S = P / (4 π D_L² (1 + z)^(−alpha − 1)), then scaled as frequency^alpha (the k-correction of
    van Weeren+ 2016 and Boxelaar+ 2021, arXiv 2103.08554).

    Parameters
    ----------
    power : `~astropy.units.Quantity`
        W/Hz, at ``power_frequency``.
    redshift, alpha : array-like
    power_frequency, frequency : `~astropy.units.Quantity`

    Returns
    -------
    `~astropy.units.Quantity`
        mJy.
    """
    redshift, alpha = np.asarray(redshift, dtype=float), np.asarray(alpha, dtype=float)
    if not ((redshift > 0) & (redshift < 20)).all():
        raise HaloInputError("a redshift must lie between 0 and 20", found=redshift.min() if redshift.size else None)
    area = 4 * np.pi * COSMOLOGY.luminosity_distance(redshift) ** 2
    scale = u.Quantity(frequency / power_frequency).to_value(u.one) ** alpha
    return (power / area * (1 + redshift) ** (alpha + 1) * scale).to(u.mJy)


def halo_flux(redshift, m500, frequency, *, relation="cuciti+2023", alpha=-1.3):
    """Return the flux density that a power-mass relation expects of a halo, without scatter.

    Parameters
    ----------
    redshift : array-like
    m500 : `~astropy.units.Quantity`
        Mass within R500.
    frequency : `~astropy.units.Quantity`
        Observed frequency.
    relation : str or PowerMass, optional
        Default ``"cuciti+2023"``; `relations` lists the names.
    alpha : float, optional
        Spectral index, default −1.3.

    Returns
    -------
    `~astropy.units.Quantity`
        mJy.

    Examples
    --------
    A2744 at 200 MHz:

    >>> from astropy import units as u
    >>> from halopy import simulate
    >>> print(simulate.halo_flux(0.307, 9.8e14 * u.solMass, 200 * u.MHz).round())
    175.0 mJy
    >>> print(simulate.halo_flux(0.307, 9.8e14 * u.solMass, 200 * u.MHz, relation="cassano+2013").round())
    354.0 mJy
    """
    relation = relation_named(relation)
    return flux_density(relation.power(m500), redshift, alpha, power_frequency=relation.frequency,
                        frequency=frequency)


def halo_radius(power_1400, *, deviation=0.0):
    """Return the e-folding radius in kpc of a halo of a power (W/Hz) at 1.4 GHz.

    Halos have nearly one emissivity, log P = 23.52 + 3 log(r_e / 100 kpc) (Murgia+ 2009, arXiv
    0901.1943), ``deviation`` in dex of the radius; kept within 40 and 400 kpc, beyond what is
    observed.
    """
    logarithm = (np.log10(np.asarray(power_1400)) - 23.52) / 3 + np.asarray(deviation)
    return np.clip(100 * 10**logarithm, 40, 400)


def kpc_to_arcsec(size, redshift):
    """Return the angle in arcsec of a proper length in kpc."""
    return np.asarray(size) * COSMOLOGY.arcsec_per_kpc_proper(redshift).to_value(u.arcsec / u.kpc)


def draw_clusters(n, *, rng=None):
    """Draw redshifts and masses like those of the clusters that Planck found.

    The square root of the redshift is normal, the mass lognormal at each redshift: fits to the 1,086
    entries of PSZ2 (Planck 2015 results XXVII, arXiv 1502.01598) at redshifts of 0.02 to 0.9 with a
    mass. The fits pass a Kolmogorov-Smirnov test against them; the rare masses above 10^15 solar
    masses are a little too few.

    Parameters
    ----------
    n : int
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `~astropy.table.QTable`
        Columns ``redshift`` and ``m500``.
    """
    rng = np.random.default_rng(rng)
    redshift = _truncated(rng, n, ROOT_REDSHIFT, np.sqrt(REDSHIFTS)) ** 2
    scatter = MASS_SCATTER[0] * (redshift / 0.2) ** MASS_SCATTER[1]
    log_mass = LOG_MASS[0] + LOG_MASS[1] * np.log(redshift / 0.2) + scatter * rng.standard_normal(n)
    return QTable({"redshift": redshift, "m500": np.exp(log_mass) * SOLAR_MASSES})


def clusters_in(table):
    """Return a table of clusters, or say what one needs."""
    names = getattr(table, "colnames", None)
    if names is None or not {"redshift", "m500"} <= set(names):
        raise HaloInputError("clusters must be a QTable with columns redshift and m500",
                             found=type(table).__name__ if names is None else names)
    unit = getattr(table["m500"], "unit", None)
    if unit is None or not unit.is_equivalent(u.solMass):
        raise HaloInputError("the column m500 must be a mass", found=str(unit), hint="5e14 * u.solMass")
    return table


def column_numbers(table, name):
    """Return a column as bare numbers, NaN where it is masked."""
    values = table[name]
    mask = np.broadcast_to(getattr(values, "mask", False), len(values))
    try:
        return np.where(mask, np.nan, np.asarray(getattr(values, "unmasked", values), dtype=float))
    except (TypeError, ValueError) as error:
        raise HaloInputError(f"the column {name} must hold numbers", found=str(values.dtype)) from error


REDSHIFTS = (0.02, 0.9)
ROOT_REDSHIFT = (0.4641, 0.1738)
"""Mean and deviation of the square root of the redshift."""
LOG_MASS, MASS_SCATTER = (1.4947, 0.4299), (0.2753, -0.263)
"""ln(M500 / 10^14 solar masses) and its deviation: value at a redshift of 0.2, power of the redshift."""


def _truncated(rng, n, normal, limits):
    """Draw from a normal distribution between two limits, by its quantiles."""
    from scipy.special import ndtr, ndtri

    low, high = ndtr((np.array(limits) - normal[0]) / normal[1])
    return normal[0] + normal[1] * ndtri(rng.uniform(low, high, n))
