"""The sky that the shipped classifier is trained on: simulated cutouts, and injections into real control fields.

Everything is on one grid, three pixels to a beam (the geometric mean of its axes), 96 pixels wide, as a
`halopy.Detector` makes its cutouts. Blocks of cutouts share a declination and with it a beam, so that templates are
shared.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy import clip, simulate, surveys
from halopy.simulate.observe import Artefacts
from halopy.simulate.population import draw_clusters, kpc_to_arcsec
from halopy.simulate.survey_cutouts import MARGIN, observe

SURVEYS = {"gleam-72-103": 1, "gleam-103-134": 1, "gleam-139-170": 1, "gleam-170-231": 2, "gleam-x-170-231": 2,
           "mwa2-154": 1, "mwa2-216": 1, "nvss": 4, "mgcls-15": 2}
"""The surveys, and the share of each."""

CLIPPED = ("gleam", "mwa2")
"""Surveys whose published images are clipped: most of their cutouts are."""

MIX = {"halo": 0.36, "mini-halo": 0.02, "relic": 0.12, "phoenix": 0.1, "radio-galaxy": 0.12, "orc": 0.02, "blend": 0.08,
       "none": 0.1, "blank": 0.08}
SHAPE = (96, 96)
PIXELS_PER_BEAM = 3.0
BLOCK = 128
NEARBY = 0.3
"""The share of clusters at redshifts of 0.02 to 0.15."""
MERGER = 150
"""kpc, on each axis: how far the halo of a merging cluster lies off the catalogued centre, beyond a part of its own
size (a judgement)."""


@dataclasses.dataclass(frozen=True)
class Population:
    """What is drawn.

    Halos have the sizes of the simulator, scattered farther; half of them, and half of the others, are as bright as
    their physics says, the rest is drawn by S/N, so that all that can be told apart is seen often enough.

    Parameters
    ----------
    ideal : tuple of float
        Range of the S/N of a filter that knows a halo's shape and place, in noise alone; log-uniform.
    scatter : float
        Of the natural logarithm of the radii, beyond that of the simulator.
    radii : tuple of float
        The least and the largest e-folding radius, in beams.
    peaks : tuple of float
        Range of the peak S/N of relics, phoenixes, radio galaxies and so on.
    mix : dict
        The share of each label.
    relation : str
        The power-mass relation.
    axis_ratio, substructure : tuple of float or None
        Ranges that replace the simulator's own.
    clipped : float
        The share of blocks that are clipped, of the surveys whose published images are.
    """

    ideal: tuple = (3.0, 60.0)
    scatter: float = 0.4
    radii: tuple = (0.05, 8.0)
    peaks: tuple = (2.0, 500.0)
    mix: dict = dataclasses.field(default_factory=lambda: dict(MIX))
    relation: str = "cuciti+2023"
    axis_ratio: tuple | None = None
    substructure: tuple | None = None
    clipped: float = 0.6


SAME = Population()

SHIFTED = Population(
    mix={**MIX, "radio-galaxy": 0.18, "phoenix": 0.15, "blend": 0.12}, relation="cassano+2013", scatter=0.7,
    axis_ratio=(0.4, 0.8), substructure=(0.4, 0.8))
"""A test population that differs from `SAME`: halos are elliptical (0.4 to 0.8) and substructured (0.4 to 0.8), masses
give powers by Cassano+ 2013, radii scatter farther, and radio galaxies, phoenixes and blends are half as many again."""


def cutouts(n, *, population=SAME, names=None, rng=None, progress=None):
    """Simulate ``n`` labelled cutouts of all surveys, in blocks that share a beam.

    Returns
    -------
    CutoutSet
        As of `halopy.simulate.cutouts`, with ``survey``; shuffled.
    """
    rng = np.random.default_rng(rng)
    names = SURVEYS if names is None else names
    share = np.array(list(names.values()), dtype=float)
    blocks = -(-n // BLOCK)
    chosen = rng.choice(list(names), blocks, p=share / share.sum())
    made = [block(min(BLOCK, n - k * BLOCK), str(name), population, rng) for k, name in
            enumerate(progress(chosen) if progress is not None else chosen)]
    made = made[0].join(*made[1:])
    table = made.table.copy()
    # Each is sky of its own; a block is a group, for a hash of every cutout would make the model's file large.
    token = rng.integers(2**32)
    table["group"] = [f"training sky {token:08x} {k // BLOCK}" for k in range(n)]
    return made.replace(table=table, meta={})[rng.permutation(n)]


def block(n, name, population, rng):
    """Simulate cutouts of one survey at one declination."""
    survey, position = _seen(name, rng)
    labels = simulate.sources.draw_labels(n, population.mix, rng=rng)
    widths = [w.to_value(u.arcsec) for w in survey.beam_widths(position.dec)]
    beam = np.sqrt(widths[0] * widths[1])
    extent = (max(SHAPE) * survey.pixel_scale + 2 * MARGIN * max(widths) * u.arcsec)
    sources = simulate.scenes(labels, survey=survey, clusters=clusters(n, rng), relation=population.relation,
                              extent=extent, rng=rng)
    snr = _shape(sources, labels, beam, population, rng)
    positions = SkyCoord(np.full(n, position.ra.deg), np.full(n, position.dec.deg), unit="deg")
    made = observe(sources, positions, survey=survey, shape=SHAPE, artefacts=Artefacts(), snr=snr, rng=rng)
    table = made.table.copy()
    table["survey"] = np.full(n, name)
    # Noise is known to some per cent only.
    table["rms"] = table["rms"] * np.exp(rng.normal(0, 0.07, n))
    made = made.replace(table=table, meta={})
    if name.startswith(CLIPPED) and not name.startswith("gleam-x") and rng.uniform() < population.clipped:
        made = _clipped(made, rng)
    return made


def clusters(n, rng):
    """Draw clusters like Planck's, a part of them nearby: their halos are wide, and off the centre by many beams."""
    drawn = draw_clusters(n, rng=rng)
    near = rng.uniform(size=n) < NEARBY
    drawn["redshift"][near] = rng.uniform(0.02, 0.15, near.sum())
    return drawn


def _seen(name, rng):
    """A survey on the common grid at a random declination, and the position."""
    survey = surveys[name]
    zenith = 0.0 if survey.zenith is None else survey.zenith.to_value(u.deg)
    declination = np.clip(zenith + rng.uniform(-50, 50), -85, 85) * u.deg
    east, north = survey.beam_widths(declination)
    depth = np.exp(rng.normal(0, 0.25))
    return (dataclasses.replace(survey, pixel_scale=np.sqrt(east * north) / PIXELS_PER_BEAM, rms=survey.rms * depth),
            SkyCoord(rng.uniform(0, 360) * u.deg, declination))


def _shape(sources, labels, beam, population, rng):
    """Give halos their sizes and shapes; return the peak S/N of each scene, NaN where it stays."""
    main = np.flatnonzero(np.asarray(sources["main"]))
    main = main[np.argsort(np.asarray(sources["cutout"])[main])]
    halo = labels == "halo"
    n = halo.sum()
    rows = main[halo]
    radius = sources["r_e"][rows].to_value(u.arcsec) / beam * np.exp(rng.normal(0, population.scatter, n))
    radius = np.clip(radius, *population.radii)
    sources["r_e"][rows] = radius * beam * u.arcsec
    away = off_centre(radius * beam, np.asarray(sources["redshift"])[rows], rng)
    sources["east"][rows], sources["north"][rows] = away[0] * u.arcsec, away[1] * u.arcsec
    for name in ("axis_ratio", "substructure"):
        if getattr(population, name) is not None:
            sources[name][rows] = rng.uniform(*getattr(population, name), n)
    snr = np.full(len(labels), np.nan)
    snr[halo] = peak_snr(np.exp(rng.uniform(*np.log(population.ideal), n)), radius)
    others = ~np.isin(labels, ["halo", "none", "blank"])
    snr[others] = np.exp(rng.uniform(*np.log(population.peaks), others.sum()))
    snr[rng.uniform(size=len(labels)) < 0.5] = np.nan
    return snr


def peak_snr(ideal, radius):
    """The peak over the noise of a halo of an ideal S/N and an e-folding radius in beams; approximated."""
    return ideal / np.sqrt(0.5 + 1.4 * radius**2)


def off_centre(radius, redshift, rng):
    """Draw offsets of halos from catalogued centres, arcsec ``(2, n)``: of a part of their radius, and of a merger."""
    merger = kpc_to_arcsec(MERGER, np.clip(redshift, 0.05, None))
    return rng.normal(size=(2, len(radius))) * np.hypot(0.25 * radius, np.minimum(merger, radius))


def _clipped(made, rng):
    """Set faint pixels to zero on both sides, as published images are; the noise is then a third of the level."""
    level = rng.uniform(2.5, 4.0)
    table = made.table.copy()
    made = clip(made, low=-level, high=level)
    table["rms"] = table["rms"] * (level / 3)
    return made.replace(table=table)


def inject_into(cutouts, *, share=0.5, population=SAME, radii=(0.2, 5.0), rng=None):
    """Inject halos into a share of real control cutouts; the others stay as they are, labelled ``blank``.

    Returns
    -------
    CutoutSet
        With ``label``, ``r_e``, ``flux`` and ``ideal`` (S/N) of what was injected, NaN in the others. The flux is
        that of a peak that the beam dims less than it does: the true ideal S/N is about 0.7 of ``ideal``.
    """
    rng = np.random.default_rng(rng)
    chosen = np.flatnonzero(rng.uniform(size=len(cutouts)) < share)
    n = len(chosen)
    major, minor = (cutouts.table[name][chosen].to_value(u.arcsec) for name in ("beam_major", "beam_minor"))
    beam = np.sqrt(major * minor)
    radius = np.exp(rng.uniform(*np.log(radii), n))
    ideal = np.exp(rng.uniform(*np.log(population.ideal), n))
    # Of a disc under a beam: what its peak loses to the beam, approximated.
    peak = peak_snr(ideal, radius) * cutouts.table["rms"].to_value(u.Jy / u.beam)[chosen]
    flux = peak * (2 * np.pi * radius**2 / 1.133 + 1)
    away = off_centre(radius * beam, clusters(n, rng)["redshift"], rng)
    sources = QTable({"cutout": chosen, "class": np.full(n, "halo"), "main": np.ones(n, bool), "flux": flux * u.Jy,
                      "r_e": radius * beam * u.arcsec, "east": away[0] * u.arcsec, "north": away[1] * u.arcsec,
                      "axis_ratio": rng.uniform(*(population.axis_ratio or (0.5, 1.0)), n),
                      "pa": rng.uniform(0, 180, n) * u.deg,
                      "substructure": rng.uniform(*(population.substructure or (0.0, 0.6)), n),
                      "seed": rng.integers(0, 2**62, n)})
    made = simulate.inject(cutouts, sources)
    table = made.table.copy()
    table["label"] = np.where(np.isin(np.arange(len(table)), chosen), "halo", "blank")
    for name, values in (("r_e", radius * beam * u.arcsec), ("flux", flux * u.Jy), ("ideal", ideal * u.one)):
        column = np.full(len(table), np.nan) * values.unit
        column[chosen] = values
        table[name] = column
    return made.replace(table=table, meta={})
