"""The matched filter: what it says of noise, of halos of known flux, of sources, and of broken cutouts."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import (
    BEAM,
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

from halopy.classify import matched_filter
from halopy.classify.bank import bank_for, correlated_variance, robust_scatter, template
from halopy.classify.matched_filter import MatchedFilter
from halopy.classify.significance import significance
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.image import Beam
from halopy.preprocess.cutout import CutoutMaker
from halopy.preprocess.subtract import find_compact
from halopy.registry import classifiers
from halopy.simulate.diffuse import FLUX_WITHIN_3RE, exponential_halo
from halopy.testing import check_classifier

SHAPE = (64, 64)
ROUND = Beam(120 * u.arcsec)
RADII = (0.25, 0.5, 1.0, 2.0, 4.0)
FWHM = {beam: float((np.sqrt(beam.major * beam.minor) / PIXEL).to_value(u.one)) for beam in (BEAM, ROUND)}


def noise(n, *, rng=1, beam=ROUND, shape=SHAPE):
    return RMS * beam_noise(shape, np.random.default_rng(rng), beam=beam, n=n)


def halo(r_e, *, beam=ROUND, shape=SHAPE, **place):
    """A halo of 1 Jy; r_e in beams."""
    return exponential_halo(beam, PIXEL, shape, r_e * np.sqrt(beam.major * beam.minor), **place)


def flux_of(snr, r_e, beam=ROUND):
    """The total flux (Jy) of a halo of this S/N in a filter of its own radius, on noise of `RMS`."""
    shape = (2 * int(14 * FWHM[beam]) + 1,) * 2
    shown, support = template(beam, PIXEL, r_e, shape)
    weights = np.where(support, shown - shown[support].mean(), 0)
    return snr * RMS * np.sqrt(correlated_variance(weights, beam, PIXEL)) / (weights**2).sum()


# ---------------------------------------------------------------------------------------- the bank

@pytest.mark.parametrize("beam", [ROUND, BEAM], ids=repr)
def test_the_variance_of_a_sum_over_correlated_noise(beam):
    rng = np.random.default_rng(1)
    images = beam_noise((24, 30), rng, beam=beam, n=4000)
    for weights in (rng.normal(size=(24, 30)), halo(0.5, beam=beam, shape=(24, 30)), np.ones((24, 30))):
        sums = (images * weights).sum(axis=(1, 2))
        # 4000 draws know a variance to 2.2 %.
        assert correlated_variance(weights, beam, PIXEL) == pytest.approx(sums.var(), rel=0.09)
    one = np.zeros((15, 15))
    one[7, 7] = 1
    assert correlated_variance(one, beam, PIXEL) == pytest.approx(1, rel=1e-3)


def test_the_variance_grows_with_the_square_of_the_weights():
    weights = np.random.default_rng(2).normal(size=(20, 21))
    assert correlated_variance(3 * weights, BEAM, PIXEL) == pytest.approx(9 * correlated_variance(weights, BEAM, PIXEL))


def test_a_template_is_a_halo_out_to_its_support():
    for radius, reach in ((0.25, 4), (1, 6), (4, 13)):
        shown, support = template(ROUND, PIXEL, radius, (101, 101))
        y, x = np.indices((101, 101)) - 50
        np.testing.assert_array_equal(support, np.hypot(x, y) <= reach * FWHM[ROUND])
        np.testing.assert_allclose(shown, np.where(support, halo(radius, shape=(101, 101)), 0))


def test_robust_scatter_is_the_standard_deviation_of_gaussian_noise():
    data = np.random.default_rng(3).normal(5, 2, (2, 100_000))
    data[:, :300] = 1e6
    data[1, 300:900] = np.nan
    np.testing.assert_allclose(robust_scatter(data), 2, rtol=0.02)
    assert (robust_scatter(np.full((1, 4), np.nan)) == 0).all()
    assert robust_scatter(np.zeros((2, 0))).tolist() == [0, 0]


def test_a_bank_is_made_once():
    settings_ = (120.0, 120.0, 0.0, 40.0, (32, 32), (0.5, 1.0), 0.5)
    assert bank_for(*settings_) is bank_for(*settings_)


# ------------------------------------------------------------------------------------- noise alone

@pytest.mark.parametrize("r_e", [0.5, 1, 2])
@pytest.mark.parametrize("soft", [2.0, 1e6])
def test_one_filter_has_unit_scatter_on_noise(r_e, soft):
    """Mean 0 and scatter 1; less by up to 20 %, never more, because the excess scatter is at least 1."""
    snr = MatchedFilter(radii=(r_e,), slack=0, soft=soft).statistic(some_cutouts(noise(250), beam=ROUND))
    assert abs(snr.mean()) < 3 / np.sqrt(250)
    assert 0.8 < snr.std() < 1.05


def test_noise_stronger_than_the_rms_says_does_not_look_like_halos():
    data = noise(100)
    honest, twice = (MatchedFilter(radii=(0.5,), slack=0).statistic(some_cutouts(factor * data, beam=ROUND))
                     for factor in (1, 2))
    assert twice.std() < 1.3 * honest.std()


def test_a_bank_with_slack_finds_more_in_noise_but_not_much():
    """The best of hundreds of correlated filters: 1 to 3 sigma, as for some ten independent ones."""
    data = some_cutouts(noise(100), beam=ROUND)
    single, bank, slack = (MatchedFilter(radii=r, slack=s).statistic(data)
                           for r, s in (((1.0,), 0), (RADII, 0), (RADII, 1)))
    assert (slack >= bank - 1e-3).all() and (bank >= single - 1e-3).all()
    assert slack.mean() < 2.5 and slack.max() < 5


# --------------------------------------------------------------------------------- halos of known flux

@pytest.mark.parametrize("r_e", [0.5, 1.0, 2.0])
def test_flux_and_error_of_halos_of_known_size(r_e):
    """The flux is that within 3 r_e, 80.1 %, and really scatters by its error (white-noise errors: 1.45 times more)."""
    flux = flux_of(8, r_e)
    cutouts = some_cutouts(noise(150) + flux * halo(r_e), beam=ROUND)
    result = MatchedFilter(radii=(r_e,), slack=0).measure(cutouts)
    measured, error = result["flux"].to_value(u.Jy), result["flux_noise"].to_value(u.Jy)
    pull = (measured - FLUX_WITHIN_3RE * flux) / np.hypot(error, result["flux_subtraction"].to_value(u.Jy))
    assert abs(pull.mean()) < 0.3
    assert 0.8 < pull.std() < 1.25
    assert np.median(error) == pytest.approx(FLUX_WITHIN_3RE * flux / 8, rel=0.25)


@pytest.mark.parametrize("r_e", [0.5, 1.0, 1.4, 2.0])
def test_flux_and_error_of_halos_of_unknown_size(r_e):
    """Of 8 sigma in a filter of their own size; the radius is fitted as well, also between those of the bank."""
    flux = flux_of(8, r_e)
    shape = (96, 96)
    cutouts = some_cutouts(noise(100, shape=shape) + flux * halo(r_e, shape=shape), beam=ROUND)
    result = MatchedFilter(radii=RADII, slack=0).measure(cutouts)
    error = np.hypot(result["flux_noise"], result["flux_subtraction"])
    pull = ((result["flux"] - FLUX_WITHIN_3RE * flux * u.Jy) / error).to_value(u.one)
    assert abs(pull.mean()) < 0.4
    assert 0.7 < pull.std() < 1.25
    assert np.median(result["flux"].to_value(u.Jy)) == pytest.approx(FLUX_WITHIN_3RE * flux, rel=0.15)
    beams = result["r_e"].to_value(u.arcsec) / 120
    assert np.median(beams) == pytest.approx(r_e, rel=0.2)


def test_a_bright_halo_is_measured_well():
    """Of 100 sigma: flux and size to a few % and the centre to a third of a beam; soft pixels do not bias them."""
    for r_e in (1.0, 1.7, 2.5):
        flux = flux_of(100, r_e)
        shape = (96, 96)
        data = noise(6, shape=shape) + flux * halo(r_e, shape=shape, x=47.5 + 2, y=47.5 - 3)
        result = MatchedFilter(radii=RADII, threshold=1e9).measure(some_cutouts(data, beam=ROUND))
        assert result["flux"].to_value(u.Jy) == pytest.approx(FLUX_WITHIN_3RE * flux, rel=0.1)
        assert result["flux"].to_value(u.Jy).mean() == pytest.approx(FLUX_WITHIN_3RE * flux, rel=0.05)
        assert result["r_e"].to_value(u.arcsec).mean() == pytest.approx(120 * r_e, rel=0.05)
        np.testing.assert_allclose(result["offset_x"], 2, atol=1)
        np.testing.assert_allclose(result["offset_y"], -3, atol=1)


def test_an_elliptical_beam_is_no_worse():
    flux = flux_of(8, 1, BEAM)
    cutouts = some_cutouts(noise(100, beam=BEAM) + flux * halo(1, beam=BEAM))
    result = MatchedFilter(radii=(1.0,), slack=0).measure(cutouts)
    pull = ((result["flux"] - FLUX_WITHIN_3RE * flux * u.Jy) / result["flux_noise"]).to_value(u.one)
    assert abs(pull.mean()) < 0.4 and 0.75 < pull.std() < 1.25
    hard = MatchedFilter(radii=(1.0,), slack=0, soft=1e6).statistic(cutouts)
    assert hard.mean() == pytest.approx(8, rel=0.12)


def test_the_statistic_is_a_signal_to_noise_ratio():
    """Without compression a halo of S/N 8 has a statistic of 8, on average, less the excess scatter that it brings."""
    cutouts = some_cutouts(noise(100) + flux_of(8, 1) * halo(1), beam=ROUND)
    snr = MatchedFilter(radii=(1.0,), slack=0, soft=1e6).statistic(cutouts)
    assert snr.mean() == pytest.approx(8, rel=0.12)
    np.testing.assert_allclose(snr, MatchedFilter(radii=(1.0,), slack=0, soft=1e6).measure(cutouts)["snr"])
    assert MatchedFilter(radii=(1.0,), slack=0, soft=2).statistic(cutouts).mean() > 4


def test_brighter_halos_have_a_higher_statistic():
    data = noise(1)[0]
    snr = [MatchedFilter().statistic(some_cutouts([data + flux_of(s, 1) * halo(1)], beam=ROUND))[0]
           for s in (0, 3, 6, 12, 24)]
    assert (np.diff(snr) > 0).all()


def test_slack_lets_a_halo_lie_beside_the_target():
    beside = some_cutouts(noise(20) + flux_of(10, 1) * halo(1, x=31.5 + 1.0 * FWHM[ROUND]), beam=ROUND)
    strict, free = (MatchedFilter(radii=(1.0,), slack=s).statistic(beside) for s in (0, 1))
    assert (free >= strict - 1e-3).all()
    assert free.mean() > strict.mean() + 0.5


# ------------------------------------------------------------------------------------ compact sources

@pytest.mark.parametrize("snr", [10, 100, 1000])
def test_a_removed_source_makes_no_detection(snr):
    rng = np.random.default_rng(4)
    source = [snr * RMS * point_source(SHAPE, *(31.5 + rng.uniform(-2, 2, 2)), beam=ROUND) for _ in range(30)]
    result = MatchedFilter(radii=RADII).statistic(some_cutouts(noise(30) + source, beam=ROUND))
    assert result.max() < 4
    assert result.mean() < MatchedFilter(radii=RADII).statistic(some_cutouts(noise(30), beam=ROUND)).mean() + 0.5


def test_compact_flux_is_that_within_the_halo():
    shown = [0.5 * point_source(SHAPE, 32, 31, beam=ROUND), 0.5 * point_source(SHAPE, 55, 9, beam=ROUND)]
    flux = flux_of(15, 1)
    result = MatchedFilter(radii=(1.0,)).measure(some_cutouts(noise(2) + flux * halo(1) + shown, beam=ROUND))
    compact = result["compact_flux"].to_value(u.Jy)
    assert compact[0] == pytest.approx(0.5, abs=4 * RMS + flux * halo(1).max())
    assert compact[1] == 0
    assert result["compact_flux_err"][0] > 0 and result["compact_flux_err"][1] == 0
    # A source that was removed from the middle of a halo makes its flux uncertain; one far away does not.
    assert result["flux_subtraction"][0] > 10 * result["flux_subtraction"][1]


def test_the_residual_is_what_is_measured():
    cutouts = some_cutouts(noise(2) + 0.5 * point_source(SHAPE, 32, 31, beam=ROUND), beam=ROUND)
    residual = MatchedFilter().residual(cutouts)
    assert residual.data.max() < 6 * RMS
    assert MatchedFilter(threshold=1e9).residual(cutouts).data.max() > 0.4


# --------------------------------------------------------------------------------------- parts of it

def test_where_the_search_finds_a_halo():
    """The place is that of the nearest centre on the grid, a third of the radius apart; its S/N is the statistic."""
    x, y = 2, -4
    data = noise(4) + flux_of(15, 2) * halo(2, x=31.5 + x, y=31.5 + y)
    data[3] = np.nan
    cutouts = some_cutouts(data, beam=ROUND)
    model = MatchedFilter(radii=(1.0, 2.0))
    found = model.locate(cutouts)
    assert found.colnames == ["snr", "radius", "offset_x", "offset_y"]
    np.testing.assert_array_equal(found["snr"], model.statistic(cutouts))
    np.testing.assert_array_equal(found["snr"], model.measure(cutouts)["snr"])
    assert set(found["radius"][:3]) <= {1.0, 2.0}
    step = 2 * FWHM[ROUND] / 3
    np.testing.assert_allclose(found["offset_x"][:3], x, atol=step)
    np.testing.assert_allclose(found["offset_y"][:3], y, atol=step)
    assert all(np.isnan(found[name][3]) for name in found.colnames)
    assert len(model.locate(cutouts[:0])) == 0


def test_compact_sources_that_are_known_are_not_looked_for_again(monkeypatch):
    pixels = noise(3) + flux_of(8, 1) * halo(1) + 0.3 * point_source(SHAPE, 25, 40, beam=ROUND)
    cutouts = some_cutouts(pixels, beam=ROUND)
    model = MatchedFilter(radii=(0.5, 1.0))
    compact = find_compact(cutouts, threshold=model.threshold)
    expected = model.locate(cutouts), model.measure(cutouts)
    monkeypatch.setattr(matched_filter, "find_compact", None)
    again = model.locate(cutouts, compact=compact), model.measure(cutouts, compact=compact)
    for wanted, found in zip(expected, again, strict=True):
        assert found.colnames == wanted.colnames
        for name in found.colnames:
            np.testing.assert_array_equal(found[name], wanted[name])


# ------------------------------------------------------------------------------------------- contract

def test_contract():
    check_classifier("matched-filter")


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=20))
def test_probability_rises_strictly_with_the_statistic(values):
    values = np.unique(np.round(values, 3))
    probability = MatchedFilter().probability(values)
    assert (np.diff(probability) > 0).all()
    assert (probability > 0).all() and (probability < 1).all()


def test_probability_is_that_of_the_statistic():
    cutouts = some_cutouts(noise(6) + flux_of(5, 1) * halo(1), beam=ROUND)
    model = classifiers.create("matched-filter")
    np.testing.assert_array_equal(model.predict_proba(cutouts), model.probability(model.statistic(cutouts)))
    half = MatchedFilter(slope=2, intercept=-8)
    assert half.probability(4.0) == 0.5
    assert np.isnan(half.probability(np.nan))


def test_a_cutout_is_scored_by_itself():
    """130 cutouts are more than are worked on at once."""
    cutouts = some_cutouts(noise(130, shape=(32, 32)) + 0.3 * point_source((32, 32), 10, 12, beam=ROUND), beam=ROUND)
    model = MatchedFilter(radii=(0.5, 1.0))
    together = model.statistic(cutouts)
    rows = [0, 63, 64, 127, 128, 129]
    np.testing.assert_allclose(np.concatenate([model.statistic(cutouts[i]) for i in rows]), together[rows], rtol=1e-4)
    table = model.measure(cutouts)
    for name in table.colnames:
        alone = u.Quantity(model.measure(cutouts[129])[name]).value
        np.testing.assert_allclose(alone, u.Quantity(table[name]).value[129:], rtol=1e-3, atol=1e-6)


def test_cutouts_of_several_beams_and_scales():
    sets = [some_cutouts(noise(2, rng=i, beam=b) + 0.3 * point_source(SHAPE, 12, 15, beam=b), beam=b)
            for i, b in enumerate((ROUND, BEAM, ROUND))]
    model = MatchedFilter(radii=(0.5, 1.0))
    together = model.measure(sets[0].join(*sets[1:]))
    for number, alone in enumerate(sets):
        expected = model.measure(alone)
        for name in expected.colnames:
            np.testing.assert_allclose(u.Quantity(together[name][2 * number:2 * number + 2]).value,
                                       u.Quantity(expected[name]).value, rtol=1e-3, atol=1e-6)


@settings(max_examples=10)
@given(st.floats(-8, 8))
def test_the_unit_does_not_matter(exponent):
    factor = 10.0**exponent
    data = noise(3) + flux_of(6, 1) * halo(1) + 0.4 * point_source(SHAPE, 20, 40, beam=ROUND)
    model = MatchedFilter(radii=(0.5, 1.0, 2.0), slack=0.5)
    ours = model.measure(some_cutouts(data, beam=ROUND))
    theirs = model.measure(some_cutouts(factor * data, beam=ROUND, rms=factor * RMS))
    np.testing.assert_allclose(theirs["snr"], ours["snr"], rtol=1e-3)
    np.testing.assert_allclose(theirs["flux"] / factor, ours["flux"], rtol=1e-2)


def test_units_of_the_table():
    data = noise(2) + flux_of(6, 1) * halo(1)
    ours = MatchedFilter().measure(some_cutouts(data, beam=ROUND))
    milli = MatchedFilter().measure(some_cutouts(1000 * data, beam=ROUND, rms=1000 * RMS, unit=u.mJy / u.beam))
    assert ours["flux"].unit == u.Jy and milli["flux_noise"].unit == u.mJy and ours["r_e"].unit == u.arcsec
    np.testing.assert_allclose(milli["flux"].to_value(u.Jy), ours["flux"].to_value(u.Jy), rtol=1e-3)
    bare = MatchedFilter().measure(some_cutouts(data, beam=ROUND, unit=u.dimensionless_unscaled))
    np.testing.assert_allclose(bare["flux"].value, ours["flux"].value, rtol=1e-3)


# ------------------------------------------------------------------------------------ broken cutouts

def test_cutouts_that_hold_nothing():
    data = np.concatenate([noise(5), np.zeros((1, *SHAPE))]) + 0.1 * halo(1)
    data[0] = np.nan
    data[1] = 0.0
    data[2] = 1.0
    data[3, :, :32] = np.nan
    model = MatchedFilter(radii=(0.5, 1.0))
    for rms in (RMS, None, np.nan, 0.0):
        probability = model.predict_proba(some_cutouts(data, beam=ROUND, rms=rms))
        assert np.isnan(probability[0])
        # Nothing at all is no halo.
        assert not (probability[1:3] > 0.5).any()
        assert np.isfinite(probability[3:5]).all()
        table = model.measure(some_cutouts(data, beam=ROUND, rms=rms))
        assert np.isnan(table["snr"][0]) and np.isnan(table["flux"][0])
        np.testing.assert_array_equal(np.isfinite(table["flux"].value), np.isfinite(table["snr"]))


def test_the_rms_is_taken_from_the_residual_where_it_is_missing():
    data = noise(30) + flux_of(8, 1) * halo(1) + 0.5 * point_source(SHAPE, 50, 12, beam=ROUND)
    model = MatchedFilter(radii=(0.5, 1.0, 2.0), slack=0)
    with_, without = (model.statistic(some_cutouts(data, beam=ROUND, rms=rms)) for rms in (RMS, None))
    assert without.mean() == pytest.approx(with_.mean(), rel=0.1)
    np.testing.assert_allclose(without, with_, rtol=0.25)


def test_a_halo_with_a_gap_is_still_measured():
    flux = flux_of(20, 1)
    data = noise(20) + flux * halo(1)
    data[:, :, 36:40] = np.nan
    result = MatchedFilter(radii=(1.0,), slack=0, threshold=1e9).measure(some_cutouts(data, beam=ROUND))
    assert result["flux"].to_value(u.Jy).mean() == pytest.approx(FLUX_WITHIN_3RE * flux, rel=0.1)
    whole = MatchedFilter(radii=(1.0,), slack=0, threshold=1e9).measure(
        some_cutouts(noise(20) + flux * halo(1), beam=ROUND))
    assert result["flux_noise"].min() > whole["flux_noise"].min()


@pytest.mark.parametrize("shape", [(8, 8), (16, 40), (33, 31)])
def test_any_shape_is_scored(shape):
    probability = MatchedFilter().predict_proba(some_cutouts(noise(2, shape=shape), beam=ROUND))
    assert probability.shape == (2,)
    assert np.isfinite(probability).all() or min(shape) < 10


@pytest.mark.parametrize(("settings_", "text"), [
    ({"radii": ()}, "radii must be positive numbers of beams"), ({"radii": (1, -1)}, "radii must be positive"),
    ({"radii": (np.nan,)}, "radii must be positive"), ({"radii": 1.0}, "radii must be positive"),
    ({"slack": -1}, "slack and leftover must not be negative, threshold, soft and slope must be positive"),
    ({"leftover": -0.1}, "leftover must not be negative"), ({"soft": 0}, "soft and slope must be positive"),
    ({"slope": -2}, "slope must be positive"), ({"threshold": 0}, "threshold, soft and slope must be positive")])
def test_settings_that_cannot_be_used(settings_, text):
    model = MatchedFilter(**settings_)
    with pytest.raises(HaloInputError, match=text):
        model.statistic(some_cutouts(noise(1), beam=ROUND))
    with pytest.raises(HaloInputError, match=text):
        model.significance(a_field((60, 60), rng=1, rms=RMS).replace(rms=RMS))


def test_cutouts_that_cannot_be_used():
    with pytest.raises(HaloInputError, match="no column 'beam_major'"):
        MatchedFilter().predict_proba(CutoutSet(noise(1)))
    with pytest.raises(HaloInputError, match="a classifier takes a CutoutSet .*ndarray"):
        MatchedFilter().predict_proba(noise(1))
    assert MatchedFilter().predict_proba(some_cutouts(noise(1), beam=ROUND)[:0]).shape == (0,)


# --------------------------------------------------------------------------------- significance maps

PLACE = (120.3, 90.6)


@pytest.mark.parametrize("r_e", [0.7, 1.0, 2.0])
def test_the_significance_map_peaks_at_the_halo(r_e):
    flux = flux_of(10, r_e, BEAM)
    image = a_field((220, 200), rng=5, halos=[(*PLACE, flux, r_e)]).replace(rms=RMS)
    shown = MatchedFilter(radii=RADII).significance(image)
    assert shown.unit == u.dimensionless_unscaled and shown.shape == image.shape and shown.rms is None
    y, x = np.unravel_index(np.nanargmax(shown.data), shown.shape)
    assert np.hypot(x - PLACE[0], y - PLACE[1]) < max(1, r_e) * FWHM[BEAM]
    # One number, by both ways.
    cutout = CutoutMaker(101)(image, image.wcs.pixel_to_world(x, y))
    expected = MatchedFilter(radii=RADII, slack=0).statistic(cutout)[0]
    assert shown.data[y, x] == pytest.approx(expected, rel=0.25)


def test_the_significance_of_noise_and_sources_stays_low():
    rng = np.random.default_rng(6)
    sources = list(zip(*rng.uniform(5, 195, (2, 40)), rng.uniform(10, 100, 40) * RMS, strict=True))
    shown = significance(a_field((200, 200), rng=6, sources=sources).replace(rms=RMS), MatchedFilter(radii=RADII))
    # The best of some thousand places and sizes.
    assert np.nanmax(shown.data) < 6


def test_the_significance_map_knows_no_unit():
    image = a_field((120, 120), rng=5, halos=[(60, 60, 0.5, 1)]).replace(rms=RMS)
    milli = image.replace(data=1000 * image.data, rms=1000 * RMS, unit=u.mJy / u.beam)
    a, b = (significance(i, MatchedFilter(radii=(0.5, 1.0))).data for i in (image, milli))
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_the_significance_map_follows_the_grid():
    """One sky on mirrored and rotated grids has one significance everywhere on it."""
    beam = Beam(180 * u.arcsec, 100 * u.arcsec, 30 * u.deg)
    sky = a_field((500, 500), rng=5, beam=beam, pixel_scale=20 * u.arcsec, sources=[(300, 250, 0.3)],
                  halos=[(200.0, 260.0, 0.5, 1)])
    shown = []
    for grid in ({}, {"east": 1}, {"north": -1}, {"turn": 40}):
        image = on_grid(sky, turned_wcs((140, 140), **grid), (140, 140)).replace(rms=RMS)
        shown.append(significance(image, MatchedFilter(radii=(0.5, 1.0))))
    first = shown[0].data
    np.testing.assert_allclose(shown[1].data[:, ::-1], first, atol=0.05)
    np.testing.assert_allclose(shown[2].data[::-1], first, atol=0.05)
    turned = shown[3]
    x, y = turned.wcs.world_to_pixel(shown[0].wcs.pixel_to_world(*np.meshgrid(np.arange(40, 100), np.arange(40, 100))))
    values = turned.data[np.rint(y).astype(int), np.rint(x).astype(int)]
    # Half a pixel from the same place, on noise that is seen through other pixels.
    assert np.abs(values - first[40:100, 40:100]).mean() < 0.4
    assert np.nanmax(turned.data) == pytest.approx(np.nanmax(first), rel=0.05)


def test_where_there_is_no_data_there_is_no_significance():
    image = a_field((120, 120), rng=5)
    data = image.data.copy()
    data[:, :60] = np.nan
    shown = significance(image.replace(data=data, rms=RMS), MatchedFilter(radii=(0.5, 1.0)))
    assert np.isnan(shown.data[:, :58]).all()
    assert np.isfinite(shown.data[10:-10, 70:]).all()


def test_images_without_significance():
    image = a_field((60, 60), rng=1, meta={"path": "a.fits"})
    for lacking in (image, image.replace(beam=None, rms=RMS)):
        with pytest.raises(HaloInputError, match="a.fits: .*needs an image with a beam and an rms map.*NoiseEst"):
            significance(lacking, MatchedFilter())
    with pytest.raises(HaloInputError, match="no usable pixels"):
        significance(an_image(np.full((30, 30), np.nan), rms=RMS), MatchedFilter())
