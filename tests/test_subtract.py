"""Compact sources of known flux are found and removed; what is wider than the beam stays."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import (
    BEAM,
    CENTRE,
    PIXEL,
    RMS,
    a_field,
    an_image,
    beam_noise,
    on_grid,
    point_source,
    some_cutouts,
    turned_wcs,
)

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.image import Beam
from halopy.preprocess.cutout import CutoutMaker
from halopy.preprocess.subtract import beam_groups, beam_image, find_compact, subtract_compact
from halopy.simulate.diffuse import exponential_halo

FWHM = float((np.sqrt(BEAM.major * BEAM.minor) / PIXEL).to_value(u.one))
BEAMS = [BEAM, Beam(100 * u.arcsec), Beam(200 * u.arcsec, 140 * u.arcsec, 70 * u.deg),
         Beam(180 * u.arcsec, 90 * u.arcsec, 120 * u.deg)]


def removed(pixels, **settings_):
    """Residual, flux and flux error of one cutout."""
    result = subtract_compact(some_cutouts(np.asarray(pixels)[None], **settings_))
    return result.data[0], *(result.table[name].to_value(u.Jy)[0] for name in ("compact_flux", "compact_flux_err"))


@pytest.mark.parametrize("beam", BEAMS, ids=repr)
def test_the_image_of_a_beam(beam):
    """Half power at half of the FWHM along the major axis, at its position angle from north (+y) through east (-x)."""
    image = beam_image(beam, PIXEL, (61, 61))
    assert image[30, 30] == 1
    np.testing.assert_allclose(image, point_source((61, 61), 30, 30, beam=beam), atol=1e-12)
    np.testing.assert_allclose(beam_image(beam, PIXEL, (41, 61), x=5.2, y=33.8),
                               point_source((41, 61), 5.2, 33.8, beam=beam), atol=1e-12)
    assert image.sum() == pytest.approx(beam.area_pixels(PIXEL), rel=1e-3)
    half = (beam.major / PIXEL).to_value(u.one) / 2
    angle = beam.pa.to_value(u.rad)
    tip = beam_image(beam, PIXEL, (61, 61), x=30 + half * np.sin(angle), y=30 - half * np.cos(angle))
    assert tip[30, 30] == pytest.approx(0.5)


@settings(max_examples=30)
@given(x=st.floats(-0.5, 0.5), y=st.floats(-0.5, 0.5), beam=st.sampled_from(BEAMS), exponent=st.floats(-6, 3))
def test_a_source_between_the_pixels_leaves_less_than_two_per_cent(x, y, beam, exponent):
    flux = 10**exponent
    left, found, _ = removed(flux * point_source((64, 64), 32 + x, 32 + y, beam=beam), beam=beam, rms=None)
    assert np.abs(left).max() < 0.02 * flux
    assert found == pytest.approx(flux, rel=0.02)


@pytest.mark.parametrize("beam", BEAMS, ids=repr)
def test_the_flux_of_a_source_lies_within_its_errors(beam):
    """60 sources of 60 sigma: no bias beyond half an error, and pulls as wide as the errors say."""
    rng = np.random.default_rng(1)
    flux = 60 * RMS
    noise = RMS * beam_noise((64, 64), rng, beam=beam, n=60)
    source = [flux * point_source((64, 64), *(32 + rng.uniform(-0.5, 0.5, 2)), beam=beam) for _ in noise]
    result = subtract_compact(some_cutouts(noise + source, beam=beam))
    error = result.table["compact_flux_err"].to_value(u.Jy)
    pull = (result.table["compact_flux"].to_value(u.Jy) - flux) / error
    # A beam on a pedestal is measured about as well as the pixel of its peak.
    assert np.median(error) == pytest.approx(RMS, rel=0.3)
    assert abs(pull.mean()) < 0.5
    assert 0.7 < pull.std() < 1.3
    # What is left is noise: less than 4 sigma anywhere, on average 2.
    left = np.abs(result.data - noise).max(axis=(1, 2))
    assert left.mean() < 2.5 * RMS and left.max() < 6 * RMS


@pytest.mark.parametrize("beam", BEAMS[:3], ids=repr)
@pytest.mark.parametrize("fluxes", [(1, 1), (1, 0.5), (1, 1, 1), (1, 0.6, 0.3)])
def test_blends_one_beam_apart(beam, fluxes):
    """Their total flux is recovered to 8 %, and no more than a sixth of a peak is left."""
    rng = np.random.default_rng(2)
    fwhm = float((np.sqrt(beam.major * beam.minor) / PIXEL).to_value(u.one))
    total, worst = [], []
    for turn in rng.uniform(0, 2 * np.pi, 12):
        radius = fwhm / 2 if len(fluxes) == 2 else fwhm / np.sqrt(3)
        angles = turn + 2 * np.pi * np.arange(len(fluxes)) / len(fluxes)
        noise = RMS * beam_noise((64, 64), rng, beam=beam)
        places = [(31.7 + radius * np.cos(a), 32.2 + radius * np.sin(a)) for a in angles]
        peaks = zip(100 * RMS * np.array(fluxes), places, strict=True)
        sources = sum(peak * point_source((64, 64), *place, beam=beam) for peak, place in peaks)
        left, found, _ = removed(noise + sources, beam=beam)
        total.append(found / (100 * RMS * sum(fluxes)))
        worst.append(np.abs(left - noise).max() / sources.max())
    assert np.mean(total) == pytest.approx(1, abs=0.08)
    assert np.mean(worst) < 0.17


@pytest.mark.parametrize("r_e", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("peak", [5, 10, 30])
def test_a_halo_survives_a_source_on_top_of_it(r_e, peak):
    """At least 87 % of the flux within 3 r_e stays, whether or not a source of 60 sigma stands on it."""
    rng = np.random.default_rng(3)
    shape = (96, 96)
    halo = exponential_halo(BEAM, PIXEL, shape, r_e * np.sqrt(BEAM.major * BEAM.minor))
    halo *= peak * RMS / halo.max()
    y, x = np.indices(shape) - 47.5
    inside = np.hypot(x, y) < 3 * r_e * FWHM
    noise = RMS * beam_noise(shape, rng, n=8)
    for source in (0, 60 * RMS):
        result = subtract_compact(some_cutouts(noise + halo + source * point_source(shape, 47.8, 47.1)))
        kept = (result.data - noise)[:, inside].sum(axis=1) / halo[inside].sum()
        assert 0.87 < kept.mean() < 1.05
        if source:
            # The flux that was the halo's and counts as compact is no more than its own peak.
            compact = result.table["compact_flux"].to_value(u.Jy)
            assert (np.abs(compact - source) < (peak + 4) * RMS).all()


def test_noise_holds_no_sources():
    """Of 10^5 independent pixels of Gaussian noise 0.03 exceed 5 sigma."""
    noise = RMS * beam_noise((96, 96), np.random.default_rng(4), n=100)
    residual, sources = find_compact(some_cutouts(noise))
    assert len(sources) <= 2
    if len(sources) == 0:
        np.testing.assert_array_equal(residual, noise.astype(np.float32))


def test_a_lower_threshold_finds_more():
    field = a_field((200, 200), rng=5, sources=[(30 + 20 * i, 100, (4 + i) * RMS) for i in range(8)])
    found = [len(subtract_compact(field, threshold=t).meta["compact_sources"]) for t in (4, 6, 9, 20)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[2] and found[3] == 0


SOURCES = [(50.3, 60.7, 0.3), (120.2, 130.9, 0.5), (150.0, 20.0, 0.2)]


def test_an_image_and_its_cutout_agree():
    image = a_field((200, 200), rng=6, sources=SOURCES)
    before = image.data.copy()
    result = subtract_compact(image)
    cutouts = some_cutouts(image.data[None])
    same = subtract_compact(cutouts)
    np.testing.assert_array_equal(image.data, before)
    np.testing.assert_array_equal(cutouts.data[0], before)
    assert "compact_sources" not in image.meta and "compact_flux" not in cutouts.table.colnames
    np.testing.assert_allclose(result.data, same.data[0], atol=1e-3 * RMS)
    table = result.meta["compact_sources"]
    assert table["flux"].sum().to_value(u.Jy) == pytest.approx(same.table["compact_flux"].to_value(u.Jy)[0], rel=1e-4)
    assert np.sqrt((table["flux_err"] ** 2).sum()).to_value(u.Jy) == pytest.approx(
        same.table["compact_flux_err"].to_value(u.Jy)[0], rel=1e-4)


def test_an_image_tells_where_the_sources_were():
    image = a_field((200, 200), rng=6, sources=SOURCES)
    table = subtract_compact(image).meta["compact_sources"]
    assert isinstance(table, QTable) and len(table) == 3
    for x, y, flux in SOURCES:
        separation = table["position"].separation(image.wcs.pixel_to_world(x, y))
        nearest = np.argmin(separation)
        # A source of 25 sigma is placed to FWHM / (2 · 25).
        assert separation[nearest] < 0.2 * PIXEL
        assert abs(table["flux"][nearest].to_value(u.Jy) - flux) < 4 * table["flux_err"][nearest].to_value(u.Jy)


LONG = Beam(180 * u.arcsec, 100 * u.arcsec, 30 * u.deg)
FINE = 15 * u.arcsec
GRIDS = [{"east": 1}, {"north": -1}, {"turn": 40}, {"turn": 100, "east": 1}, {"aspect": 1.5},
         {"ctype": ("GLON-SIN", "GLAT-SIN"), "centre": CENTRE.galactic}]


@pytest.fixture(scope="module")
def fine():
    places = [(250, 250, 0.5), (420, 300, 0.3), (300, 430, 0.2)]
    return a_field((700, 700), rng=6, beam=LONG, pixel_scale=FINE, sources=places), places


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_grid_of_an_image_does_not_matter(fine, grid):
    """Mirrored, south-up, rotated, oblong or galactic: the same sources, and the noise they stood in."""
    sky, places = fine
    image = on_grid(sky, turned_wcs((160, 160), scale=30 * u.arcsec, **grid), (160, 160))
    if "centre" in grid:
        # The position angle of a galactic image counts from galactic north.
        north = CENTRE.galactic.directional_offset_by(0 * u.deg, 1 * u.arcmin)
        image = image.replace(beam=Beam(LONG.major, LONG.minor, LONG.pa - CENTRE.position_angle(north.icrs)))
    for method in (subtract_compact, own_grid):
        result = method(image)
        if method is subtract_compact:
            table = result.meta["compact_sources"]
            assert len(table) == 3
            for x, y, flux in places:
                separation = table["position"].icrs.separation(sky.wcs.pixel_to_world(x, y))
                nearest = np.argmin(separation)
                assert separation[nearest] < 0.5 * FINE
                assert table["flux"][nearest].to_value(u.Jy) == pytest.approx(flux, abs=5 * RMS)
        else:
            assert result.table["compact_flux"][0].to_value(u.Jy) == pytest.approx(1.0, abs=9 * RMS)
        # Left: noise of 4 to 5 sigma in a thousand beams, and 2 % of 60 sigma.
        assert np.nanmax(np.abs(result.data)) < 6.5 * RMS


def own_grid(image):
    return subtract_compact(CutoutMaker(160)(image, CENTRE))


def test_an_image_without_sources():
    result = subtract_compact(a_field((100, 100), rng=6))
    assert len(result.meta["compact_sources"]) == 0


def test_units_follow():
    image = a_field((200, 200), rng=6, sources=SOURCES)
    milli = image.replace(data=1000 * image.data, unit=u.mJy / u.beam)
    ours, theirs = (subtract_compact(i) for i in (image, milli))
    assert theirs.unit == milli.unit and theirs.meta["compact_sources"]["flux"].unit == u.mJy
    np.testing.assert_allclose(theirs.data, 1000 * ours.data, atol=RMS)
    kelvin = subtract_compact(image.replace(unit=u.K))
    assert kelvin.meta["compact_sources"]["flux"].unit == u.K
    bare = subtract_compact(some_cutouts(image.data[None], unit=u.dimensionless_unscaled, rms=None))
    assert bare.table["compact_flux"][0] > 0


def test_gaps_stay_gaps():
    image = a_field((200, 200), rng=6, sources=SOURCES)
    data = image.data.copy()
    data[:, :40], data[90:100, 90:100] = np.nan, np.nan
    result = subtract_compact(image.replace(data=data))
    np.testing.assert_array_equal(np.isfinite(result.data), np.isfinite(data))
    whole = subtract_compact(image)
    far = np.isfinite(data)
    far[:, 40:48] = far[82:108, 82:108] = False
    np.testing.assert_allclose(result.data[far], whole.data[far], atol=0.3 * RMS)
    everything = subtract_compact(some_cutouts(np.full((2, 32, 32), np.nan)))
    assert not np.isfinite(everything.data).any()
    assert (everything.table["compact_flux"] == 0).all()


def test_a_source_across_the_edge_of_the_image():
    image = a_field((100, 100), rng=6, sources=[(0.2, 50, 0.5), (99, 99, 0.5)])
    result = subtract_compact(image)
    assert np.abs(result.data).max() < 0.06 * 0.5 + 5 * RMS


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
@pytest.mark.parametrize("shape", [(0, 32, 32), (3, 32, 32), (1, 5, 4), (1, 1, 1)])
def test_cutouts_of_one_value_hold_no_sources(value, shape):
    result = subtract_compact(some_cutouts(np.full(shape, value), rms=None))
    assert (result.data == value).all()
    assert (result.table["compact_flux"] == 0).all()


def test_in_a_clipped_image_only_sources_are_removed():
    """At 3 sigma one in 400 pixels of noise is left; of those none is a source of 5 sigma."""
    image = a_field((200, 200), rng=6, sources=SOURCES)
    clipped = image.replace(data=np.where(np.abs(image.data) < 3 * RMS, 0, image.data))
    table = subtract_compact(clipped).meta["compact_sources"]
    assert len(table) == 3
    np.testing.assert_allclose(table["flux_err"].to_value(u.Jy), RMS, rtol=0.05)
    assert np.sort(table["flux"].to_value(u.Jy)) == pytest.approx([0.2, 0.3, 0.5], rel=0.06)


def test_a_bump_in_a_hole_is_no_source():
    """Between two negative bowls stands a ridge, above its surroundings, but not above the sky."""
    shape = (64, 64)
    bowls = sum(-50 * RMS * point_source(shape, x, 32) for x in (32 - 1.2 * FWHM, 32 + 1.2 * FWHM))
    noise = RMS * beam_noise(shape, np.random.default_rng(7))
    left, _, _ = removed(noise + bowls)
    assert (left - noise - bowls).min() > -8 * RMS


def test_every_cutout_has_the_filter_of_its_own_beam():
    beams = [BEAMS[1], BEAMS[2], BEAMS[1]]
    sets = [some_cutouts(RMS * beam_noise((64, 64), np.random.default_rng(i), beam=b)[None]
                         + point_source((64, 64), 32.3, 31.8, beam=b), beam=b) for i, b in enumerate(beams)]
    joined = sets[0].join(*sets[1:])
    groups = list(beam_groups(joined))
    assert [sorted(rows) for _, _, rows in groups] == [[0, 2], [1]]
    together = subtract_compact(joined)
    for row, alone in enumerate(sets):
        np.testing.assert_allclose(together.data[row], subtract_compact(alone).data[0], atol=1e-4)
    assert together.table["compact_flux"].to_value(u.Jy) == pytest.approx(1, rel=0.05)


def test_what_cannot_be_done():
    image = a_field((50, 50), rng=1)
    with pytest.raises(HaloInputError, match="threshold must be positive .*found 0"):
        subtract_compact(image, threshold=0)
    with pytest.raises(HaloInputError, match="threshold must be positive .*found nan"):
        subtract_compact(image, threshold=np.nan)
    with pytest.raises(HaloInputError, match=r"a.fits: removing beam-shaped sources needs the beam.*beam=Beam\(...\)"):
        subtract_compact(image.replace(beam=None, meta={"path": "a.fits"}))
    with pytest.raises(HaloInputError, match="takes a ClusterImage or a CutoutSet .*found 'ndarray'"):
        subtract_compact(image.data)
    with pytest.raises(HaloInputError, match="no column 'beam_major'"):
        subtract_compact(CutoutSet(image.data[None]))
    cutouts = some_cutouts(image.data[None])
    cutouts.table["beam_minor"] = [np.nan] * u.arcsec
    with pytest.raises(HaloInputError, match="every cutout needs a finite beam and pixel scale .*survey="):
        subtract_compact(cutouts)


def test_an_image_of_nothing():
    nothing = subtract_compact(an_image(np.full((20, 20), np.nan)))
    assert not nothing.valid.any() and len(nothing.meta["compact_sources"]) == 0
