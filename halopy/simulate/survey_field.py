"""Simulated survey fields."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table, vstack

from halopy.cutouts import tangent_wcs
from halopy.errors import HaloInputError
from halopy.image import ClusterImage
from halopy.preprocess.clip import clip as clip_pixels
from halopy.simulate.injection import inject
from halopy.simulate.noise import draw_noise
from halopy.simulate.observe import Artefacts, add_artefacts, blank_borders, bright_parts, rms_gradient
from halopy.simulate.population import draw_clusters
from halopy.simulate.sources import MIX, draw_labels, scenes, survey_named
from halopy.simulate.survey_cutouts import (
    MARGIN,
    check_form,
    faint_level,
    noise_correlation,
    random_positions,
    ring_limit,
)

__all__ = ["field"]


def field(shape=(512, 512), *, survey="gleam-170-231", position=None, clusters=8, mix=None, relation="cuciti+2023",
          faintest=None, correlation=None, psf=None, artefacts=Artefacts(), clip=None, rng=None):  # noqa: B008
    """Simulate a field of a survey with clusters in it, and its truth.

    Parameters
    ----------
    shape : tuple of int, optional
        ``(ny, nx)``, default (512, 512).
    survey, relation, faintest, correlation, psf, artefacts, clip : optional
        As for `halopy.simulate.cutouts`.
    position : `~astropy.coordinates.SkyCoord`, optional
        Of the field's centre; it decides the beam. Default: random, within 50° in declination of the
        array's zenith.
    clusters : int or `~astropy.table.QTable`, optional
        How many clusters, at random places of the inner four fifths of the field, drawn like those
        that Planck found (default 8); or a table with ``redshift`` and ``m500``, and optionally
        ``position``, ``label`` and ``name``.
    mix : mapping, optional
        The share of each label among clusters without one; default: `halopy.simulate.MIX` without
        ``blank``.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    image : ClusterImage
        In Jy/beam; ``meta["sources"]`` is the truth.
    truth : `~astropy.table.QTable`
        A row a source, as in `scenes`, with ``position`` in place of offsets. ``name`` is that of
        the cluster, empty for the sources of the field; the rows with ``main`` are the targets, one
        for each cluster, of flux 0 where there is no diffuse source. ``blends``: how many compact
        sources lie within a beam (its geometric mean width) of each source.

    Examples
    --------
    >>> from halopy import simulate
    >>> image, truth = simulate.field((300, 300), survey="gleam-x-170-231", clusters=3, rng=1)
    >>> image.shape, int(truth["main"].sum())
    ((300, 300), 3)
    >>> halos = simulate.diffuse_part(image)
    """
    rng = np.random.default_rng(rng)
    survey = survey_named(survey)
    from halopy.simulate.shapes import components

    check_form(shape, clip, artefacts)
    position = random_positions(1, survey, rng)[0] if position is None else position
    beam = survey.beam_at(position)
    rms = survey.rms.to_value(u.Jy / u.beam)
    wcs = tangent_wcs(position, survey.pixel_scale, shape)
    blank = ClusterImage(np.zeros(shape, np.float32), wcs=wcs, unit=u.Jy / u.beam, beam=beam,
                         frequency=survey.frequency, name=f"simulated {survey.name}", meta={"survey": survey.name})
    targets = _targets(clusters, mix, wcs, shape, rng)
    extent = max(shape) * survey.pixel_scale + 2 * MARGIN * beam.major
    truth = _place(scenes(targets["label"], survey=survey, clusters=targets, relation=relation, faintest=faintest,
                          rng=rng), targets["position"], targets["name"])
    around = scenes(["blank"], survey=survey, faintest=faintest, extent=extent, rng=rng)
    around = _place(around[~around["main"]], SkyCoord([position]), [""])
    truth = vstack([truth, around], metadata_conflicts="silent")
    x, y = wcs.world_to_pixel(truth["position"])
    reach = MARGIN * (beam.major / survey.pixel_scale).to_value(u.one)
    # A long relic reaches into the field from farther away.
    reach = reach + np.nan_to_num(truth["length"] / survey.pixel_scale).to_value(u.one)
    if not np.isfinite((x + y)[truth["main"]]).all():
        raise HaloInputError("every cluster must lie on the field's half of the sky",
                             found=str(truth["name"][truth["main"] & ~np.isfinite(x + y)][0]))
    inside = (x > -reach) & (x < shape[1] - 1 + reach) & (y > -reach) & (y < shape[0] - 1 + reach)
    truth, x, y = truth[inside | truth["main"]], x[inside | truth["main"]], y[inside | truth["main"]]
    truth["blends"] = _blends(truth, x, y, np.sqrt(beam.major * beam.minor), survey.pixel_scale)

    image = inject(blank, truth)
    covariance = beam.covariance(survey.pixel_scale)
    noise = draw_noise(1, shape, covariance, rng=rng,
                       correlation=noise_correlation(survey, correlation, psf), psf=psf,
                       pixel_scale=survey.pixel_scale) * np.float32(rms)
    if artefacts is not None:
        noise *= rms_gradient(1, shape, artefacts.gradient, rng=rng)
    noise += image.data
    noise -= np.float32(faint_level(survey, faintest) * (beam.major * beam.minor).to_value(u.arcsec**2))
    if artefacts is not None:
        limit = ring_limit(survey, artefacts)
        strong = truth["flux"].to_value(u.Jy) > limit
        bright = bright_parts(components(truth[strong]), x[strong], y[strong], np.zeros(strong.sum(), int),
                              covariance[None], survey.pixel_scale.to_value(u.arcsec), limit)
        add_artefacts(noise, rms, covariance[None], bright, artefacts, rng=rng)
        blank_borders(noise, artefacts.borders, rng=rng)
    image = image.replace(data=noise[0])
    if clip is not None:
        noisy = image.replace(rms=rms, meta=dict(image.meta))
        image = clip_pixels(noisy, low=clip[0], high=clip[1]).replace(rms=None)
    return image, truth


def _targets(clusters, mix, wcs, shape, rng):
    """The clusters with name, label and position."""
    if isinstance(clusters, (int, np.integer)) and clusters >= 0:
        clusters = draw_clusters(int(clusters), rng=rng)
    if not isinstance(clusters, Table) or not {"redshift", "m500"} <= set(clusters.colnames):
        raise HaloInputError("clusters must be a number, or a QTable with columns redshift and m500",
                             found=getattr(clusters, "colnames", clusters))
    targets = QTable(clusters, copy=True)
    n = len(targets)
    labels = draw_labels(n, {k: v for k, v in MIX.items() if k != "blank"} if mix is None else mix, rng=rng)
    x, y = ((size - 1) * rng.uniform(0.1, 0.9, n) for size in shape[::-1])
    for name, values in (("label", labels), ("position", wcs.pixel_to_world(x, y)),
                         ("name", np.array([f"cluster {i + 1}" for i in range(n)], dtype="U16"))):
        if name not in targets.colnames:
            targets[name] = values
    return targets


def _place(sources, centres, names):
    """Return sources with positions and names in place of offsets from the centres of scenes."""
    row = np.asarray(sources["cutout"])
    placed = QTable(sources, copy=True)
    placed.remove_columns(["cutout", "east", "north"])
    centres = SkyCoord(centres).icrs
    positions = centres[row].spherical_offsets_by(sources["east"], sources["north"])
    placed.add_column(np.asarray(names, dtype=str)[row] if len(row) else np.zeros(0, "U1"), index=0, name="name")
    placed.add_column(positions, index=1, name="position")
    return placed


def _blends(truth, x, y, fwhm, pixel_scale):
    from scipy.spatial import KDTree

    from halopy.simulate.shapes import components

    compact, blend = truth["class"] == "compact", np.flatnonzero(truth["class"] == "blend")
    # The parts of a blend count one by one, as in cutouts.
    parts = components(truth[blend])
    owner, scale = blend[parts["source"]], pixel_scale.to_value(u.arcsec)
    points = np.stack([np.append(x[compact], x[owner] - parts["east"] / scale),
                       np.append(y[compact], y[owner] + parts["north"] / scale)], axis=1)
    if not len(points):
        return np.zeros(len(truth), dtype=int)
    near = KDTree(points).query_ball_point(np.stack([x, y], axis=1), (fwhm / pixel_scale).to_value(u.one),
                                           return_length=True)
    return near - compact
