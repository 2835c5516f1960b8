"""What a review of the chain found wrong once, and must stay right."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from simulated import BEAM, a_field

from halopy import ClusterImage, Detector, HaloInputError, NoiseEstimator
from halopy.classify.matched_filter import MatchedFilter
from halopy.preprocess.cutout import CutoutMaker
from halopy.preprocess.units import in_jansky_per_beam

# x, y, flux (Jy), r_e (beams)
STRONG, STRONGER = (60.0, 60.0, 2.0, 1.0), (180.0, 160.0, 20.0, 1.0)


def detector(**changes):
    settings = {"cutout_maker": CutoutMaker(48, pixels_per_beam=3), "n_controls": 150}
    return Detector(MatchedFilter(radii=(0.5, 1.0, 2.0), slack=0.5), **(settings | changes))


def test_probability_rises_to_any_strength():
    # A logistic of S/N itself is 1 to double precision beyond S/N 15, and what is tied counts against a target.
    probability = MatchedFilter().probability(np.array([-5.0, 0.0, 5.0, 8.0, 15.0, 16.0, 40.0, 41.0, 300.0]))
    assert (np.diff(probability) > 0).all() and probability[-1] < 1


def test_ranks_are_those_of_the_statistic():
    # So steep a logistic is 1 for both halos; controls on the weaker one must not tie with the stronger.
    image = a_field((220, 240), rng=3, halos=[STRONG, STRONGER])
    steep = MatchedFilter(radii=(0.5, 1.0, 2.0), slack=0.5, slope=60.0, intercept=-120.0)
    chain = Detector(steep, cutout_maker=CutoutMaker(48, pixels_per_beam=3), n_controls=400)
    table = chain(image, image.wcs.pixel_to_world(*STRONGER[:2]), rng=1)
    assert float(table["probability"][0]) == 1
    assert float(table["p_value"][0]) == pytest.approx(1 / (1 + int(table["n_controls"][0])))


def test_the_measurement_stays_near_the_target():
    image = a_field((220, 240), rng=4, halos=[STRONGER])
    away = image.wcs.pixel_to_world(STRONGER[0] - 40, STRONGER[1])  # 12 beams off
    table = detector()(image, away, rng=1)
    offset = np.hypot(table["offset_east"], table["offset_north"])[0]
    beam = np.sqrt(BEAM.major * BEAM.minor)
    # The widest template may be off by slack x 2 beams, and the climb goes two beams from there.
    assert offset <= (0.5 * 2 + 2) * beam + image.pixel_scale
    assert not table["flux"][0] > 2 * u.Jy


def test_a_border_of_zeros_is_one_of_nothing():
    # Mosaics fill with zeros what they do not cover: neither targets at the edge nor controls may take them for sky.
    image = a_field((220, 240), rng=3, halos=[STRONGER])
    targets = image.wcs.pixel_to_world([180.0, 100.0], [160.0, 84.0])
    tables = []
    for fill in (np.nan, 0.0):
        data = image.data.copy()
        data[:80] = fill
        tables.append(detector()(image.replace(data=data), targets, rng=1))
    assert "partial" in tables[1]["flags"][1].split()
    for name in ("snr", "flux", "rms", "p_value", "n_controls", "flags"):
        assert list(map(str, tables[0][name])) == list(map(str, tables[1][name]))


def test_off_centre_is_flagged():
    image = a_field((220, 240), rng=4, halos=[(120.0, 110.0, 4.0, 0.7)])
    on, off = (detector()(image, image.wcs.pixel_to_world(x, 110.0), rng=1)["flags"][0] for x in (120.0, 114.5))
    assert "off-centre" not in on.split() and "off-centre" in off.split()


@pytest.mark.parametrize(("noise", "text"), [
    (NoiseEstimator("foo"), "method is one of"),
    (NoiseEstimator("residual"), "needs the residual"),
    (NoiseEstimator.from_map(ClusterImage(np.ones((9, 9)), wcs=a_field((20, 20), rng=1).wcs, unit=u.Jy / u.beam)),
     "must have the shape of the image"),
])
def test_a_wrong_setting_is_an_error_not_an_unusable_image(noise, text):
    image = a_field((120, 120), rng=1)
    with pytest.raises(HaloInputError, match=text):
        detector(noise=noise)(image, image.wcs.pixel_to_world([60], [60]), rng=1)


def test_noise_maps_fit_the_image_as_it_came():
    image = a_field((200, 200), rng=5, halos=[(100.0, 100.0, 1.5, 1.0)])
    area = image.beam_area
    per_pixel = image.replace(data=image.data / area, unit=u.Jy / u.pix)
    rms = per_pixel.replace(data=np.full(image.shape, 0.01 / area), rms=None)
    where = image.wcs.pixel_to_world([100], [100])
    got = detector(noise=NoiseEstimator.from_map(rms))(per_pixel, where, rng=1)
    assert got["status"][0] == "ok"
    assert float(got["rms"].to_value(u.Jy / u.beam)[0]) == pytest.approx(0.01, rel=1e-4)
    # A run over many images prepares each once, and goes on with what it has.
    chain = detector(noise=NoiseEstimator.from_map(rms))
    again = chain(chain.prepare(per_pixel), where, rng=1)
    assert float(again["flux"].to_value(u.mJy)[0]) == float(got["flux"].to_value(u.mJy)[0])
    assert chain.cutouts(chain.prepare(per_pixel), again).unit == u.Jy / u.beam


def test_surface_brightness_in_steradians():
    image = a_field((100, 100), rng=1)
    per_sr = (1 * u.Jy / BEAM.area).to_value(u.MJy / u.sr)  # the brightness of 1 Jy spread over one beam
    other = image.replace(data=image.data * np.float32(per_sr), unit=u.MJy / u.sr)
    assert np.allclose(in_jansky_per_beam(other).data, image.data, rtol=1e-5)


def test_a_target_without_position_is_a_row():
    image = a_field((150, 150), rng=1)
    place = image.wcs.pixel_to_world(75, 75)
    wanted = QTable({"name": ["good", "lost"], "position": SkyCoord([place.ra.deg, np.nan], [place.dec.deg, np.nan],
                                                                   unit="deg")})
    table = detector()(image, wanted, rng=1)
    assert list(table["status"]) == ["ok", "error"] and list(table["name"]) == ["good", "lost"]


def test_many_targets_leave_controls():
    image = a_field((240, 240), rng=1)
    x, y = np.meshgrid(np.linspace(20, 220, 6), np.linspace(20, 220, 6))
    table = detector()(image, image.wcs.pixel_to_world(x.ravel(), y.ravel()), rng=1)
    assert (table["n_controls"] >= 50).all()
