"""Simulated cutouts, a labelled scene each."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.image import FWHM_TO_SIGMA, Beam
from halopy.preprocess.clip import clip as clip_pixels
from halopy.simulate.counts import source_brightness
from halopy.simulate.noise import draw_noise
from halopy.simulate.observe import Artefacts, add_artefacts, blank_borders, bright_parts, rms_gradient
from halopy.simulate.population import clusters_in, draw_clusters
from halopy.simulate.sources import draw_labels, faintest_of, scenes, survey_named
from halopy.simulate.truth import EMPTY, truth_columns

__all__ = ["cutouts", "observe"]

BLOCK = 256
"""Cutouts that are painted at once: they fit in a processor's cache."""
MARGIN = 2.0
"""Beams beyond the edge from which a source still reaches into a cutout: 2^-16 of its peak does."""
CLEANED = 5.0
"""Sources fainter than this, in units of the rms, are not cleaned."""
BRIGHT = 0.1
"""Sources whose first ring is brighter than this, in units of the rms, get rings."""
FOOTPRINT = 50 * u.deg
"""Random positions lie within this distance in declination of where the array sees the zenith."""
SIMULATED = "sim-"
"""How the groups of simulated cutouts begin: each is a sky of its own, whatever lies near."""


def cutouts(n, *, survey="gleam-170-231", mix=None, shape=(64, 64), positions=None, clusters=None,
            relation="cuciti+2023", faintest=None, correlation=None, psf=None, artefacts=Artefacts(),  # noqa: B008
            clip=None, rng=None):
    """Simulate labelled cutouts: clusters with and without halos, what is mistaken for them, and blank sky.

    Each cutout is a scene of its own (`scenes`), seen with the survey's beam, pixels and noise.

    Parameters
    ----------
    n : int
        How many; 10⁵ of 64 × 64 pixels take 2 GB. For more see `write_cutouts`.
    survey : str or Survey, optional
        A name in `halopy.surveys`, or a Survey of your own with any frequency, beam, pixel scale and
        rms. Default ``"gleam-170-231"``.
    mix : mapping, optional
        The share of each label; default: `halopy.simulate.MIX`.
    shape : tuple of int, optional
        ``(ny, nx)``, default (64, 64).
    positions : `~astropy.coordinates.SkyCoord`, optional
        ``n`` positions; they decide the beam. Default: random, within 50° in declination of the
        array's zenith.
    clusters : `~astropy.table.QTable`, optional
        Columns ``redshift`` and ``m500``: the clusters to draw from. Default: like those that Planck
        found.
    relation : str or PowerMass, optional
        The power-mass relation of the halos, default ``"cuciti+2023"``.
    faintest : `~astropy.units.Quantity`, optional
        Flux density of the faintest compact source, default 0.65 of the rms.
    correlation : str or float, optional
        How far the noise is correlated: ``"psf"``, ``"smoothed"`` or a width in beams, see
        `halopy.simulate.noise.draw_noise`. Default: the survey's ``noise_width``.
    psf : ClusterImage, optional
        A dirty beam: the noise has it as its autocorrelation.
    artefacts : Artefacts or None, optional
        Sidelobe rings, stripes, ripple, uneven noise, edges without data; None: nothing of that.
    clip : tuple, optional
        ``(low, high)`` in sigmas for `halopy.clip` at the end: ``(None, 3)`` one-sided, ``(-3, 3)``
        two-sided. Default: not clipped.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    CutoutSet
        ``(n, ny, nx)`` in Jy/beam, with the columns that a `halopy.CutoutMaker` writes, and of the
        truth ``label``, ``also`` (other diffuse sources of the cluster), ``group`` (each its own),
        ``redshift``, ``m500``, ``flux``, ``r_e`` and ``length`` (of what the label names), ``snr``
        (its peak in the image over the rms), ``blends`` (compact sources within a beam of it).
        ``meta["sources"]`` holds every source, see `scenes`; its column ``name`` is the cutout's.

    Examples
    --------
    >>> from halopy import simulate
    >>> cutouts = simulate.cutouts(200, survey="gleam-x-170-231", rng=1)
    >>> cutouts.shape
    (200, 64, 64)
    >>> "mini-halo" in cutouts.table["label"]
    True
    """
    rng = np.random.default_rng(rng)
    if not isinstance(n, (int, np.integer)) or n < 0:
        raise HaloInputError("n must be a whole number of cutouts", found=n)
    survey = survey_named(survey)
    check_form(shape, clip, artefacts)
    if clusters is None:
        clusters = draw_clusters(n, rng=rng)
    elif len(clusters_in(clusters)) == 0:
        raise HaloInputError("clusters must have at least one row", found=0)
    else:
        clusters = clusters[rng.integers(0, len(clusters), n)]
    positions = random_positions(n, survey, rng) if positions is None else positions
    if not isinstance(positions, SkyCoord) or positions.shape != (n,):
        raise HaloInputError(f"positions must be a SkyCoord of {n} positions",
                             found=getattr(positions, "shape", type(positions).__name__))
    widest = max(width.max() for width in survey.beam_widths(positions.icrs.dec)) if n else 0 * u.deg
    sources = scenes(draw_labels(n, mix, rng=rng), survey=survey, clusters=clusters, relation=relation,
                     faintest=faintest, extent=max(shape) * survey.pixel_scale + 2 * MARGIN * widest, rng=rng)
    return observe(sources, positions, survey=survey, shape=shape, faintest=faintest, correlation=correlation,
                   psf=psf, artefacts=artefacts, clip=clip, rng=rng)


def observe(sources, positions, *, survey, shape, faintest=None, correlation=None, psf=None, artefacts=None, clip=None,
            snr=None, rng=None):
    """Return what a survey sees of scenes, as a CutoutSet; the arguments are those of `cutouts`.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        From `scenes`, with one main row for each of ``positions``.
    positions : `~astropy.coordinates.SkyCoord`
        ``(n,)``.
    snr : array-like, optional
        ``(n,)``: scale what the label names to this peak over rms; NaN: leave it as it is.
    """
    from halopy.simulate.paint import paint_components
    from halopy.simulate.shapes import components

    rng = np.random.default_rng(rng)
    n = len(positions)
    level = faint_level(survey, faintest)
    correlation = noise_correlation(survey, correlation, psf)
    scale = survey.pixel_scale.to_value(u.arcsec)
    rms = survey.rms.to_value(u.Jy / u.beam)
    widths = np.array([width.to_value(u.arcsec) for width in survey.beam_widths(positions.icrs.dec)])
    beam = np.zeros((n, 2, 2))
    beam[:, 0, 0], beam[:, 1, 1] = (widths / scale * FWHM_TO_SIGMA) ** 2
    row = np.asarray(sources["cutout"])
    kind, main = np.asarray(sources["class"]), np.asarray(sources["main"])
    x = (shape[1] - 1) / 2 - sources["east"].to_value(u.arcsec) / scale
    y = (shape[0] - 1) / 2 + sources["north"].to_value(u.arcsec) / scale
    parts = components(sources[~np.isin(kind, EMPTY)])
    parts["source"] = np.flatnonzero(~np.isin(kind, EMPTY))[parts["source"]]
    data = np.empty((n, *shape), np.float32)
    peak = np.zeros(n)
    factor = np.ones(n)
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        pixels = np.zeros((rows.stop - rows.start, *shape), np.float32)
        here = slice(*np.searchsorted(row, [rows.start, rows.stop]))
        block = parts[slice(*np.searchsorted(parts["source"], [here.start, here.stop]))].copy()
        block["source"] -= here.start
        at = (x[here], y[here], row[here] - start)
        first = main[here][block["source"]]
        paint_components(pixels, block[first], *at, beam[rows], scale)
        peak[rows] = pixels.max(axis=(1, 2))
        if snr is not None:
            wanted = np.asarray(snr, dtype=float)[rows]
            scaled = np.isfinite(wanted) & (peak[rows] > 0)
            factor[rows] = np.where(scaled, wanted * rms / np.where(scaled, peak[rows], 1), 1)
            pixels *= factor[rows, None, None].astype(np.float32)
        paint_components(pixels, block[~first], *at, beam[rows], scale)
        noise = draw_noise(len(pixels), shape, beam[rows], rng=rng, correlation=correlation, psf=psf,
                           pixel_scale=survey.pixel_scale)
        noise *= np.float32(rms)
        pixels -= np.float32(level) * np.prod(widths[:, rows], axis=0).astype(np.float32)[:, None, None]
        if artefacts is not None:
            noise *= rms_gradient(len(pixels), shape, artefacts.gradient, rng=rng)
        pixels += noise
        if artefacts is not None:
            # What was scaled has rings that were.
            block["flux"] *= np.where(first, factor[row[here][block["source"]]], 1)
            bright = bright_parts(block, *at, beam[rows], scale, ring_limit(survey, artefacts))
            add_artefacts(pixels, rms, beam[rows], bright, artefacts, rng=rng)
            blank_borders(pixels, artefacts.borders, rng=rng)
        data[rows] = pixels
    flux = sources["flux"].copy()
    flux[main] *= factor[row[main]]
    token = np.array([f"{SIMULATED}{number:012x}" for number in rng.integers(0, 2**48, n).tolist()], dtype="U16")
    sources = QTable(sources, copy=False)
    sources["flux"] = flux
    sources["name"] = token[row]
    table = _table(positions, widths, token, survey)
    table["coverage"] = np.isfinite(data).mean(axis=(1, 2))
    for name, values in truth_columns(sources, parts, row, np.sqrt(widths[0] * widths[1])).items():
        table[name] = values
    table["snr"] = peak * factor / rms
    made = CutoutSet(data, table, unit=u.Jy / u.beam, meta={"sources": sources})
    return made if clip is None else clip_pixels(made, low=clip[0], high=clip[1])


def check_form(shape, clip=None, artefacts=None):
    """Say early what a shape, a clip and artefacts look like."""
    if not (isinstance(shape, (tuple, list)) and len(shape) == 2
            and all(isinstance(size, (int, np.integer)) and size > 0 for size in shape)):
        raise HaloInputError("shape must be two whole numbers (ny, nx)", found=shape, hint="shape=(64, 64)")
    if clip is not None and not (isinstance(clip, (tuple, list)) and len(clip) == 2):
        raise HaloInputError("clip must be two numbers of sigmas, (low, high)", found=clip,
                             hint="clip=(None, 3), or (-3, 3) for both sides")
    if not (artefacts is None or isinstance(artefacts, Artefacts)):
        raise HaloInputError("artefacts must be an Artefacts, or None", found=type(artefacts).__name__,
                             hint="artefacts=Artefacts(stripes=0)")


def ring_limit(survey, artefacts):
    """Return the faintest peak, in Jy/beam, whose rings can be seen."""
    rms = survey.rms.to_value(u.Jy / u.beam)
    return BRIGHT * rms / artefacts.sidelobes if artefacts.sidelobes else np.inf


def faint_level(survey, faintest=None):
    """Return the mean brightness of the sources that are too faint to be cleaned: Jy/beam for a beam of 1 arcsec².

    An interferometer does not measure the mean of the sky. What is not cleaned lies in a bowl that
    takes its mean away; without that, simulated images lie above real ones. The sources of the field
    count, with their mean spectral index: the halves of doubles that fall below the limit make what
    is drawn some per cent brighter, and at 1.4 GHz the scatter of the indices 10 to 30 %.

    Parameters
    ----------
    survey : Survey
    faintest : `~astropy.units.Quantity`, optional
        The faintest source that is drawn, default `faintest_of` the survey.
    """
    faintest = faintest_of(survey, faintest)
    brightness = source_brightness(faintest, CLEANED * survey.rms * u.beam, survey.frequency)
    return (brightness * Beam(1 * u.arcsec).area).to_value(u.Jy)


def noise_correlation(survey, correlation, psf):
    """Return how far the noise is correlated: what is asked for, or what the survey's is, or a psf's."""
    if correlation is not None:
        return correlation
    return survey.noise_width if psf is None else "psf"


def _table(positions, widths, token, survey):
    n = len(positions)
    east, north = widths
    tall = north >= east
    return QTable({
        "name": token, "position": positions, "image": np.full(n, f"simulated {survey.name}"),
        "pixel_scale": np.full(n, survey.pixel_scale.to_value(u.arcsec)) * u.arcsec,
        "beam_major": np.where(tall, north, east) * u.arcsec, "beam_minor": np.where(tall, east, north) * u.arcsec,
        "beam_pa": np.where(tall, 0.0, 90.0) * u.deg,
        "frequency": np.full(n, survey.frequency.to_value(u.MHz)) * u.MHz,
        "rms": np.full(n, survey.rms.to_value(u.Jy / u.beam)) * u.Jy / u.beam, "group": token.copy()})


def random_positions(n, survey, rng):
    """Return positions on the part of the sky that a survey sees well, uniform on the sphere."""
    zenith = (0 * u.deg if survey.zenith is None else survey.zenith).to_value(u.deg)
    limits = np.clip([zenith - FOOTPRINT.value, zenith + FOOTPRINT.value], -89, 89)
    declination = np.degrees(np.arcsin(rng.uniform(*np.sin(np.radians(limits)), n)))
    return SkyCoord(rng.uniform(0, 360, n), declination, unit="deg")
