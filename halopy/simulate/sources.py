"""What the sky holds in the direction of a cluster: the sources, as a table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.errors import HaloInputError
from halopy.simulate.counts import ALPHA, FREQUENCY, LIMITS, draw_compact, draw_fluxes
from halopy.simulate.population import (
    clusters_in,
    column_numbers,
    draw_clusters,
    flux_density,
    halo_radius,
    kpc_to_arcsec,
    relation_named,
)
from halopy.survey import Survey, surveys

__all__ = ["MIX", "draw_labels", "scenes"]

MIX = {"halo": 0.3, "mini-halo": 0.05, "relic": 0.1, "phoenix": 0.05, "radio-galaxy": 0.15, "orc": 0.02,
       "blend": 0.08, "none": 0.15, "blank": 0.1}
"""The default shares of what the cutouts show."""

FAINTEST = 0.65
"""The default limit of the compact sources, in units of the rms."""

WITHIN = 0.3
"""The farthest that the relic that names a scene may lie from its centre, in units of the extent."""

COMPANION_RELIC, SECOND_RELIC = 0.15, 0.35
"""How often a halo has a relic beside it, and a relic another one opposite (judgement)."""

GALAXY_SHARE = {"mini-halo": 1.0, "none": 0.6}
"""How often the brightest galaxy of a cluster is a radio source.

28 of 59 are, about 30 % in mergers and 90 % in relaxed clusters (Kale+ 2015, arXiv 1506.05612): all
but these labels are taken for mergers, those without diffuse emission for a mixture (judgement); a
mini-halo has one always.
"""
GALAXY_SHARE_IN_MERGERS = 0.3

OVERDENSITY, CORE, CORE_RADIUS, BETA = 5.0, 100 * 0.65 / 0.7, 700 * 0.65 / 0.7, 1.65
"""Compact sources near clusters: the factor within the core (kpc), and the beta-model beyond it."""

OUTSKIRTS = 1700 * 0.65 / 0.7
"""The members of a cluster are followed out to this radius, in kpc."""

DOUBLES = ((0.05, 0.1), (0.3, 0.2), (np.inf, 0.3))
"""The share of doubles among compact sources below a flux at 154 MHz in Jy.

A judgement on the multiple sources of the GLEAM-X, uGMRT and RACS catalogues; their separations are
lognormal about 35 arcsec with a deviation of 0.7 in the logarithm.
"""

NAMES = ("cutout", "class", "main", "east", "north", "flux", "alpha", "r_e", "length", "axis_ratio", "pa",
         "substructure", "seed", "redshift", "m500")
UNITS = {"east": u.arcsec, "north": u.arcsec, "flux": u.mJy, "r_e": u.arcsec, "length": u.arcsec, "pa": u.deg,
         "m500": 1e14 * u.solMass}


def draw_labels(n, mix=None, *, rng=None):
    """Draw ``n`` labels.

    Parameters
    ----------
    n : int
    mix : mapping, optional
        The share of each label, in any normalisation; default `MIX`.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `~numpy.ndarray`
        ``(n,)`` str.

    Examples
    --------
    >>> from halopy.simulate.sources import draw_labels
    >>> sorted(set(draw_labels(100, {"halo": 1, "none": 1}, rng=1)))
    [np.str_('halo'), np.str_('none')]
    """
    mix = MIX if mix is None else mix
    rng = np.random.default_rng(rng)
    if not isinstance(mix, Mapping):
        raise HaloInputError("mix must be a mapping of labels to shares", found=type(mix).__name__,
                             hint="mix={'halo': 0.5, 'none': 0.5}")
    unknown = sorted(set(mix) - set(MIX))
    if unknown:
        raise HaloInputError(f"mix takes the labels {', '.join(MIX)}", found=unknown[0])
    try:
        share = np.array([mix[name] for name in mix], dtype=float)
    except (TypeError, ValueError):
        share = np.array([np.nan])
    if not (np.isfinite(share).all() and (share >= 0).all() and share.sum() > 0):
        raise HaloInputError("the shares of a mix must not be negative, nor all 0", found=dict(mix))
    return np.array(list(mix))[rng.choice(len(share), n, p=share / share.sum())]


def scenes(labels, *, survey="gleam-170-231", clusters=None, relation="cuciti+2023", faintest=None, extent=None,
           rng=None):
    """Draw what the sky holds around the centres of clusters, one scene a label.

    Each scene has one ``main`` row: what its label says, of flux 0 for ``none`` and ``blank``. All
    but ``blank`` lie in a cluster, with its brightest galaxy in some of them, and with compact
    sources denser than in the field: five times within 0.1 Mpc, by a beta-model beyond (Massardi &
    De Zotti 2004, astro-ph/0405323). Some compact sources are doubles, two rows each. Halos follow a
    power-mass relation with its scatter, and a size that gives them nearly one emissivity (Murgia+
    2009, arXiv 0901.1943); of the numbers for the rest each stands in the source with its reason.

    Parameters
    ----------
    labels : sequence of str
        From `MIX`.
    survey : str or Survey, optional
        A name in `halopy.surveys` or a Survey of your own: its frequency, at which fluxes are given,
        its beam, in which sources blend, its rms. Default ``"gleam-170-231"``.
    clusters : `~astropy.table.QTable`, optional
        Columns ``redshift`` and ``m500``, a row a label; default `draw_clusters`.
    relation : str or PowerMass, optional
        The power-mass relation of the halos, default ``"cuciti+2023"``.
    faintest : `~astropy.units.Quantity`, optional
        Flux density of the faintest compact source that is drawn; default 0.65 of the rms: 5 mJy for
        GLEAM at 170-231 MHz; infinite: only those that belong to what is asked for.
    extent : `~astropy.units.Quantity`, optional
        Fill a square of this side about each scene with the compact sources of the field; default
        none.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `~astropy.table.QTable`
        A row a source, scene after scene: ``cutout`` (the number of the scene), ``class``,
        ``main``, ``east``, ``north`` (from the centre of the scene), ``flux``, ``alpha``, ``r_e``
        (halos and mini-halos) or ``length`` (other extended sources), ``axis_ratio``, ``pa`` (of a
        relic: from the cluster's centre to it), ``substructure``, ``seed`` (fixes every random
        detail of the shape), ``redshift``, ``m500``.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy import simulate
    >>> sources = simulate.scenes(["halo", "none"], survey="gleam-170-231", rng=7)
    >>> print(sources["cutout", "class"][sources["main"]])
    cutout class
    ------ -----
         0  halo
         1  none
    """
    labels = np.asarray(labels, dtype=str)
    if labels.ndim != 1:
        raise HaloInputError("labels must be a sequence of labels", found=str(labels), hint="['halo']")
    rng = np.random.default_rng(rng)
    n = len(labels)
    unknown = sorted(set(labels.tolist()) - set(MIX))
    if unknown:
        raise HaloInputError(f"a scene has one of the labels {', '.join(MIX)}", found=unknown[0])
    survey = survey_named(survey)
    faintest = faintest_of(survey, faintest)
    clusters = draw_clusters(n, rng=rng) if clusters is None else clusters_in(clusters)
    if len(clusters) != n:
        raise HaloInputError("clusters must have a row for each label", found=f"{len(clusters)} rows, {n} labels")
    redshift = column_numbers(clusters, "redshift")
    mass = u.Quantity(column_numbers(clusters, "m500"), clusters["m500"].unit).to_value(u.solMass) / 1e14
    bad = ~((redshift > 0.001) & (mass > 0) & np.isfinite(redshift * mass)) & (labels != "blank")
    if bad.any():
        i = int(np.argmax(bad))
        raise HaloInputError("every cluster needs a redshift above 0.001 and a positive mass",
                             found=f"redshift {redshift[i]:g}, mass {mass[i]:g}e14 solar masses in row {i}")
    side = np.inf if extent is None else u.Quantity(extent).to_value(u.arcsec)
    draw = _Draw(redshift, mass, survey, relation_named(relation), faintest, side, rng)
    for label in MIX:
        rows = np.flatnonzero(labels == label)
        if rows.size:
            getattr(draw, label.replace("-", "_"))(rows)
    inside = np.flatnonzero(labels != "blank")
    share = np.array([GALAXY_SHARE.get(label, GALAXY_SHARE_IN_MERGERS) for label in labels[inside].tolist()])
    draw.brightest_galaxies(inside[rng.uniform(size=inside.size) < share])
    draw.members(inside)
    if extent is not None:
        draw.field(n, side)
    return draw.table()


def survey_named(survey):
    """Return a `Survey` by name, or the one that is given."""
    if isinstance(survey, Survey):
        if not (survey.rms.value > 0 and survey.pixel_scale.value > 0):
            raise HaloInputError("a survey to be simulated needs an rms and a pixel scale above 0", keyword=survey.name,
                                 found=f"{survey.rms}, {survey.pixel_scale}")
        return survey
    if not isinstance(survey, str):
        raise HaloInputError("survey must be the name of a survey or a halopy.survey.Survey",
                             found=type(survey).__name__, hint="'gleam-170-231'")
    return surveys[survey]


def faintest_of(survey, faintest=None):
    """Return the faintest compact source: what is given, or the one worth drawing (the noise holds fainter ones)."""
    if faintest is not None:
        try:
            given = np.inf * u.Jy if faintest is np.inf else u.Quantity(faintest).to(u.Jy)
        except (TypeError, u.UnitConversionError):
            given = None
        if given is None or not given.isscalar:
            raise HaloInputError("faintest must be one flux density, with its unit", keyword="faintest",
                                 found=str(faintest), hint="faintest=5 * u.mJy")
        return given
    limit = FAINTEST * survey.rms.to_value(u.Jy / u.beam) * u.Jy
    # Below this the counts are not known.
    return max(limit, LIMITS[0] * 1.01 * (survey.frequency / FREQUENCY).to_value(u.one) ** ALPHA * u.Jy)


class _Draw:
    """Draws kinds of sources for many scenes at once, and keeps them as columns."""

    def __init__(self, redshift, mass, survey, relation, faintest, side, rng):
        self.redshift, self.mass, self.relation, self.faintest = redshift, mass, relation, faintest
        self.frequency, self.beam = survey.frequency, np.sqrt(survey.beam[0] * survey.beam[1]).to_value(u.arcsec)
        # Without a limit there is no field, but blends there are.
        self.blended = 4 * (faintest if np.isfinite(faintest) else faintest_of(survey))
        self.side, self.rng, self.blocks = side, rng, []

    def add(self, rows, kind, **columns):
        """Keep one source a row; what is not given is 0, the shape's numbers NaN, the axis ratio 1."""
        block = {name: np.zeros(rows.size) for name in NAMES} | {"cutout": rows}
        for name in ("alpha", "r_e", "length"):
            block[name] = np.full(rows.size, np.nan)
        block["axis_ratio"] = np.ones(rows.size)
        for name in ("redshift", "mass"):
            block["m500" if name == "mass" else name] = getattr(self, name)[rows]
        block |= {name: np.broadcast_to(value, rows.size) for name, value in columns.items()}
        block["class"] = np.full(rows.size, kind, dtype="U12")
        block["main"] = np.broadcast_to(columns.get("main", False), rows.size)
        block["seed"] = self.rng.integers(0, 2**62, rows.size)
        self.blocks.append(block)

    def table(self):
        columns = {name: np.concatenate([block[name] for block in self.blocks]) for name in NAMES}
        order = np.argsort(columns["cutout"], kind="stable")
        return QTable({name: columns[name][order] * UNITS[name] if name in UNITS else columns[name][order]
                       for name in NAMES})

    def flux(self, rows, log_power, alpha, frequency):
        """Flux in mJy of sources of a log10 power in W/Hz at a rest-frame frequency."""
        return flux_density(10**log_power * u.W / u.Hz, self.redshift[rows], alpha, power_frequency=frequency,
                            frequency=self.frequency).to_value(u.mJy)

    def scatter(self, rows, kpc):
        """East and north in arcsec, normal with a deviation in kpc on each axis."""
        return self.rng.normal(size=(2, rows.size)) * kpc_to_arcsec(kpc, self.redshift[rows])

    def halo(self, rows, main=True):
        rng, n = self.rng, rows.size
        # George+ 2017 (arXiv 1701.06742): -1.13 +- 0.21; ultra-steep ones are many among faint halos
        # (Pasini+ 2024, arXiv 2406.12005). The tail and its dependence on mass are a judgement.
        tail = rng.uniform(size=n) < np.where(self.mass[rows] < 5, 0.35, 0.15)
        alpha = rng.normal(-1.2, 0.2, n) - tail * np.abs(rng.normal(0, 0.35, n))
        alpha = np.clip(alpha, -2.2, -0.8)
        power = self.relation.power(self.mass[rows] * 1e14 * u.solMass,
                                    deviation=rng.normal(0, self.relation.scatter, n)).to_value(u.W / u.Hz)
        power_1400 = power * (1400 * u.MHz / self.relation.frequency).to_value(u.one) ** alpha
        radius = halo_radius(power_1400, deviation=rng.normal(0, 0.1, n))
        east, north = self.scatter(rows, 0.3 * radius)
        structured = rng.uniform(size=n) < 0.5
        self.add(rows, "halo", main=main, east=east, north=north, alpha=alpha,
                 flux=self.flux(rows, np.log10(power), alpha, self.relation.frequency),
                 r_e=kpc_to_arcsec(radius, self.redshift[rows]), pa=rng.uniform(0, 180, n),
                 axis_ratio=np.clip(1 - np.abs(rng.normal(0, 0.25, n)), 0.5, 1),
                 substructure=structured * rng.uniform(0.1, 0.8, n))
        self.relics(rows[rng.uniform(size=n) < COMPANION_RELIC])

    def mini_halo(self, rows):
        rng, n = self.rng, rows.size
        # 10^23 to 10^25 W/Hz in massive cool cores without a strong relation with mass (Giacintucci+ 2019,
        # arXiv 1906.07087), 10^23 and less below 5 10^14 solar masses (MGCLS, arXiv 2509.05442): the line
        # through both is a judgement. The numbers of radius and index are from memory.
        alpha = rng.normal(-1.2, 0.2, n)
        power = 23.2 + 3 * np.log10(self.mass[rows] / 5) + rng.normal(0, 0.5, n)
        self.add(rows, "mini-halo", main=True, alpha=alpha, flux=self.flux(rows, power, alpha, 1400 * u.MHz),
                 r_e=kpc_to_arcsec(50 * np.exp(rng.normal(0, 0.4, n)), self.redshift[rows]),
                 axis_ratio=rng.uniform(0.7, 1, n), pa=rng.uniform(0, 180, n))

    def relic(self, rows):
        self.relics(rows, main=True)

    def relics(self, rows, main=False):
        """A relic each, and for some another one on the other side of the cluster."""
        rng = self.rng
        pa, distance = rng.uniform(0, 360, rows.size), 1050 * np.exp(rng.normal(0, 0.4, rows.size))
        if main:
            # What a cutout is called must be seen in it: near clusters have their relics nearer.
            distance = np.minimum(distance, WITHIN * self.side / kpc_to_arcsec(1, self.redshift[rows]))
        self._relics(rows, pa, distance, main)
        second = rng.uniform(size=rows.size) < SECOND_RELIC
        self._relics(rows[second], pa[second] + 180 + rng.normal(0, 15, second.sum()),
                     distance[second] * rng.uniform(0.7, 1.3, second.sum()), False)

    def _relics(self, rows, pa, distance, main):
        rng, n = self.rng, rows.size
        alpha = np.clip(rng.normal(-1.2, 0.19, n), -1.8, -0.8)  # George+ 2017
        # The slope: de Gasperin+ 2014 (arXiv 1408.2677). A power of 10^25 W/Hz at 10^15 solar masses for
        # one relic, its scatter, distance and length are judgements; the longer lie farther out
        # (Jones+ 2023, arXiv 2301.07814).
        power = 25.0 + 2.83 * np.log10(self.mass[rows] / 10) + rng.normal(0, 0.4, n)
        scale = kpc_to_arcsec(1, self.redshift[rows])
        length = 900 * (distance / 1050) ** 0.6 * np.exp(rng.normal(0, 0.4, n))
        angle = np.radians(pa)
        self.add(rows, "relic", main=main, east=distance * scale * np.sin(angle),
                 north=distance * scale * np.cos(angle), alpha=alpha, pa=pa % 360, length=length * scale,
                 flux=self.flux(rows, power, alpha, 1400 * u.MHz), axis_ratio=1 / rng.uniform(3, 10, n))

    def phoenix(self, rows):
        rng, n = self.rng, rows.size
        alpha = np.clip(rng.normal(-1.8, 0.3, n), -2.8, -1.2)
        east, north = self.scatter(rows, 150)
        self.add(rows, "phoenix", main=True, east=east, north=north, alpha=alpha, pa=rng.uniform(0, 180, n),
                 flux=self.flux(rows, rng.normal(24.7, 0.5, n), alpha, 150 * u.MHz),
                 length=kpc_to_arcsec(200 * np.exp(rng.normal(0, 0.4, n)), self.redshift[rows]))

    def radio_galaxy(self, rows):
        rng, n = self.rng, rows.size
        alpha = rng.normal(-0.75, 0.12, n)
        east, north = self.scatter(rows, 150)
        self.add(rows, "radio-galaxy", main=True, east=east, north=north, alpha=alpha, pa=rng.uniform(0, 360, n),
                 flux=self.flux(rows, np.minimum(rng.normal(25.0, 0.6, n), 26.5), alpha, 150 * u.MHz),
                 length=kpc_to_arcsec(10 ** rng.normal(2.5, 0.25, n), self.redshift[rows]))

    def orc(self, rows):
        rng, n = self.rng, rows.size
        alpha = rng.normal(-1.1, 0.2, n)
        flux = 4 * 10 ** rng.normal(0, 0.2, n) * (self.frequency / u.GHz).to_value(u.one) ** alpha
        self.add(rows, "orc", main=True, alpha=alpha, flux=flux, length=rng.uniform(55, 85, n))

    def blend(self, rows):
        """Two to five compact sources so near each other that they may pass for a halo."""
        rng, n = self.rng, rows.size
        flux = draw_fluxes(n, self.blended, self.frequency, rng) * 1e3
        self.add(rows, "blend", main=True, alpha=-0.8, flux=flux, length=self.beam * rng.uniform(0.5, 1.6, n))

    def none(self, rows):
        self.add(rows, "none", main=True)

    def blank(self, rows):
        self.add(rows, "blank", main=True, redshift=np.nan, m500=np.nan)

    def brightest_galaxies(self, rows):
        rng, n = self.rng, rows.size
        alpha = rng.normal(-0.8, 0.2, n)
        east, north = self.scatter(rows, 20)
        self.add(rows, "compact", east=east, north=north, alpha=alpha,
                 flux=self.flux(rows, np.clip(rng.normal(23.9, 0.75, n), 22.8, 26.3), alpha, 1400 * u.MHz))

    def members(self, rows):
        """The compact sources that a cluster has beyond those of the field."""
        radius, within = _excess()
        scale = kpc_to_arcsec(1, self.redshift[rows])
        area = (OVERDENSITY - 1) * within[-1] * (scale / 3600) ** 2
        index, flux, alpha = draw_compact(area, self.faintest, self.frequency, self.rng)
        distance = np.interp(self.rng.uniform(0, within[-1], index.size), within, radius) * scale[index]
        angle = self.rng.uniform(0, 2 * np.pi, index.size)
        self.doubles(rows[index], distance * np.sin(angle), distance * np.cos(angle), flux, alpha)

    def field(self, n, side):
        index, flux, alpha = draw_compact(np.full(n, (side / 3600) ** 2), self.faintest, self.frequency, self.rng)
        east, north = self.rng.uniform(-side / 2, side / 2, (2, index.size))
        self.doubles(index, east, north, flux, alpha, redshift=np.nan, m500=np.nan)

    def doubles(self, rows, east, north, flux, alpha, **columns):
        """Keep compact sources, some of them as two."""
        rng = self.rng
        at_154 = flux * (self.frequency / FREQUENCY).to_value(u.one) ** -ALPHA
        limits, shares = np.array(DOUBLES).T
        double = rng.uniform(size=rows.size) < shares[np.searchsorted(limits, at_154)]
        ratio = 1 / (1 + rng.uniform(0.3, 1, rows.size))
        length, angle = 35 * np.exp(rng.normal(0, 0.7, rows.size)), rng.uniform(0, 2 * np.pi, rows.size)
        first = np.where(double, ratio, 1.0)
        for kept, share, side in ((slice(None), first, 1), (double, 1 - first, -1)):
            # About the centre of their flux.
            away = (side * length * double * (1 - share))[kept]
            self.add(rows[kept], "compact", flux=(flux * share)[kept] * 1e3, alpha=alpha[kept],
                     east=east[kept] + away * np.sin(angle[kept]), north=north[kept] + away * np.cos(angle[kept]),
                     **columns)


def _excess():
    """Radius in kpc, and the integral of the excess density's profile over the area within it, in kpc²."""
    radius = np.linspace(0, OUTSKIRTS, 2001)
    profile = ((1 + (radius / CORE_RADIUS) ** 2) / (1 + (CORE / CORE_RADIUS) ** 2)) ** (-1.5 * BETA + 0.5)
    ring = 2 * np.pi * radius * np.where(radius < CORE, 1, profile)
    return radius, np.concatenate([[0], np.cumsum(0.5 * (ring[1:] + ring[:-1]) * np.diff(radius))])
