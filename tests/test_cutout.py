"""CutoutMaker: registration, flux, edges of the sky and of the image."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from halopy.errors import HaloInputError, HalopyWarning, OutsideImageError
from halopy.image import Beam, ClusterImage
from halopy.preprocess.cutout import CutoutMaker
from halopy.preprocess.interpolate import Interpolator

SCALE = 28 / 3600
PER_BEAM = u.Jy / u.beam


def make_wcs(projection="TAN", crval=(3.6, -30.4), shape=(200, 200), scale=SCALE, prefix=("RA---", "DEC--")):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [prefix[0] + projection, prefix[1] + projection]
    wcs.wcs.cdelt = [-scale, scale]
    wcs.wcs.crval = crval
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    return wcs


def make_image(data=None, shape=(200, 200), unit=PER_BEAM, beam=None, **settings):
    data = np.zeros(shape) if data is None else data
    wcs = settings.pop("wcs", None) or make_wcs(shape=data.shape)
    return ClusterImage(data, wcs=wcs, unit=unit, beam=Beam(140 * u.arcsec) if beam is None else beam, **settings)


def gaussian(x, y, sigma, shape=(200, 200)):
    yy, xx = np.indices(shape)
    return np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * sigma**2))


def centroid(data):
    yy, xx = np.indices(data.shape)
    return (xx * data).sum() / data.sum(), (yy * data).sum() / data.sum()


def test_own_grid_copies_pixels_and_keeps_the_sky():
    image = make_image(np.arange(200.0 * 180).reshape(200, 180), name="A2744")
    for size in (64, 63):
        cutouts = CutoutMaker(size)(image, image.wcs.pixel_to_world([90.3, 80.0], [99.6, 120.49]))
        for i in range(2):
            x0, y0 = cutouts.table["x0"][i], cutouts.table["y0"][i]
            np.testing.assert_array_equal(cutouts.data[i], image.data[y0:y0 + size, x0:x0 + size])
            x, y = cutouts.wcs(i).world_to_pixel(cutouts.table["position"][i])
            # A target lies within half a pixel of the centre, (n - 1) / 2.
            assert abs(x - (size - 1) / 2) <= 0.5 + 1e-9 and abs(y - (size - 1) / 2) <= 0.5 + 1e-9
            sky = cutouts.wcs(i).pixel_to_world(10, 20)
            np.testing.assert_allclose(image.wcs.world_to_pixel(sky), (x0 + 10, y0 + 20), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(x=st.floats(-30, 230), y=st.floats(-30, 230), size=st.sampled_from([8, 33, 64]),
       projection=st.sampled_from(["TAN", "SIN", "ZEA", "CAR"]))
def test_property_cutout_wcs_is_the_parents(x, y, size, projection):
    image = make_image(wcs=make_wcs(projection), name="a")
    cutouts = CutoutMaker(size)(image, image.wcs.pixel_to_world([x], [y]))
    sky = image.wcs.pixel_to_world(x + 5.25, y - 3.5)
    there = np.array(image.wcs.world_to_pixel(sky)) - (cutouts.table["x0"][0], cutouts.table["y0"][0])
    np.testing.assert_allclose(cutouts.wcs(0).world_to_pixel(sky), there, atol=1e-6)


def test_sip_distortion_follows_the_cutout():
    from astropy.wcs import Sip

    wcs = make_wcs("TAN-SIP")
    a = np.zeros((3, 3))
    a[2, 0] = 1e-4
    wcs.sip = Sip(a, a.T.copy(), None, None, wcs.wcs.crpix)
    image = make_image(wcs=wcs, name="sip")
    sky = wcs.pixel_to_world([40.2], [150.7])
    cutouts = CutoutMaker(32)(image, sky)
    np.testing.assert_allclose((cutouts.table["x0"][0], cutouts.table["y0"][0]), (25, 135))
    x, y = cutouts.wcs(0).world_to_pixel(sky[0])
    np.testing.assert_allclose((x + 25, y + 135), (40.2, 150.7), atol=1e-3)
    far = CutoutMaker(32)(image, SkyCoord(183 * u.deg, 30 * u.deg))
    assert far.table["coverage"][0] == 0


def test_registration_and_flux_at_100_sub_pixel_positions():
    # Design target: centroid to 0.05 pixel, flux to 1 %; beam of 3 pixels, the usual lower limit.
    rng = np.random.default_rng(5)
    sigma = 3 / np.sqrt(8 * np.log(2))
    beam = Beam(3 * 28 * u.arcsec)
    for make in (CutoutMaker(64), CutoutMaker(64, pixel_scale=20 * u.arcsec), CutoutMaker(64, pixels_per_beam=2.7)):
        errors = []
        for dx, dy in rng.uniform(-0.5, 0.5, (100, 2)):
            image = make_image(gaussian(50 + dx, 48 + dy, sigma, (100, 100)), beam=beam)
            target = image.wcs.pixel_to_world([50 + dx], [48 + dy])
            cutouts = make(image, target)
            x, y = centroid(cutouts.data[0].astype(float))
            expected = cutouts.wcs(0).world_to_pixel(target[0])
            area = beam.area_pixels(cutouts.table["pixel_scale"][0])
            errors.append([x - expected[0], y - expected[1], cutouts.data[0].sum(dtype=float) / area - 1])
        errors = np.abs(errors).max(axis=0)
        assert errors[0] < 0.05 and errors[1] < 0.05 and errors[2] < 0.01, (make, errors)


def test_resampled_agrees_with_reproject():
    reproject = pytest.importorskip("reproject")
    from scipy.ndimage import gaussian_filter

    data = gaussian_filter(np.random.default_rng(1).normal(size=(200, 200)), 2)
    for projection in ("SIN", "ZEA", "CAR"):
        image = make_image(data, wcs=make_wcs(projection))
        cutouts = CutoutMaker(64, pixel_scale=35 * u.arcsec)(image, image.wcs.pixel_to_world([80.3], [110.8]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected, _ = reproject.reproject_interp((image.data.astype(float), image.wcs), cutouts.wcs(0),
                                                     shape_out=(64, 64), order="bicubic")
        # 1e-3 of the peak is the design's limit.
        assert np.abs(cutouts.data[0] - expected)[2:-2, 2:-2].max() < 1e-3 * np.abs(data).max()


def test_data_per_pixel_keep_the_total_flux():
    sigma = 3.0
    data = gaussian(100, 100, sigma)
    target = make_wcs().pixel_to_world([100.0], [100.0])
    image = make_image(data, unit=u.Jy / u.pix, rms=0.1)
    for scale in (14, 45):
        cutouts = CutoutMaker(96, pixel_scale=scale * u.arcsec)(image, target)
        assert cutouts.data.sum(dtype=float) == pytest.approx(data.sum(), rel=0.01)
        assert cutouts.unit == u.Jy / u.pix
        assert cutouts.table["rms"].value[0] == pytest.approx(0.1 * (scale / 28) ** 2, rel=1e-3)
    with pytest.raises(HaloInputError, match="two pixels or more"):
        CutoutMaker((1, 8), pixel_scale=14 * u.arcsec)(image, target)


def test_coarse_pixels_do_not_alias():
    # Noise of one pixel's size, seen with pixels of 4: an average, not a sample, so the rms falls.
    image = make_image(np.random.default_rng(2).normal(size=(200, 200)), beam=Beam(56 * u.arcsec))
    target = image.wcs.pixel_to_world([99.5], [99.5])
    with pytest.warns(HalopyWarning, match="the image is smoothed"):
        cutouts = CutoutMaker(40, pixel_scale=112 * u.arcsec)(image, target)
    assert cutouts.data.std() < 0.3
    # Whatever is smoothed, the flux stays.
    source = make_image(gaussian(99.5, 99.5, 2 / 2.355), beam=Beam(56 * u.arcsec))
    with pytest.warns(HalopyWarning):
        cutouts = CutoutMaker(40, pixel_scale=112 * u.arcsec)(source, target)
    assert cutouts.data.sum(dtype=float) * 16 == pytest.approx(source.data.sum(dtype=float), rel=0.01)
    blind = ClusterImage(image.data, wcs=image.wcs, unit=PER_BEAM)
    with pytest.warns(HalopyWarning, match="try a smaller pixel_scale"):
        CutoutMaker(40, pixel_scale=112 * u.arcsec)(blind, target)
    CutoutMaker(40, pixel_scale=40 * u.arcsec)(blind, target)


def test_one_missing_pixel_stays_with_its_neighbours():
    data = gaussian(100, 100, 8)
    holed = data.copy()
    holed[90, 97] = np.nan
    target = make_wcs().pixel_to_world([100.0], [100.0])
    make = CutoutMaker(64, pixel_scale=28 * u.arcsec)
    whole, cut = make(make_image(data), target).data[0], make(make_image(holed), target).data[0]
    missing = np.isnan(cut)
    assert 1 <= missing.sum() <= 4
    assert np.abs(whole - cut)[~missing].max() < 0.01
    # Off by half a pixel on both axes, a point has four neighbours.
    x, y = np.meshgrid(np.arange(180) + 0.5, np.arange(180) + 0.5)
    assert np.isnan(Interpolator(holed)(x, y)).sum() == 4
    assert np.isnan(Interpolator(np.full((9, 9), np.nan))(x[:5, :5], y[:5, :5])).all()


@pytest.mark.parametrize("order", [0, 1, 3, 5])
def test_interpolation_at_pixels_returns_them(order):
    data = np.random.default_rng(3).normal(size=(40, 30))
    y, x = np.indices(data.shape).astype(float)
    np.testing.assert_allclose(Interpolator(data, order=order)(x, y), data, atol=1e-9)
    assert np.isnan(Interpolator(data, order=order)(x - 35, y)).all()


@pytest.mark.parametrize("make", [CutoutMaker(32), CutoutMaker(32, pixel_scale=28 * u.arcsec)])
@pytest.mark.parametrize(("crval", "projection"), [
    ((0.0, -27.0), "SIN"), ((359.99, 10.0), "TAN"), ((0.01, 0.0), "CAR"), ((180.0, 0.0), "CAR"), ((12.0, 90.0), "TAN"),
    ((200.0, -90.0), "ZEA"), ((77.0, 89.9), "SIN")])
def test_right_ascension_zero_and_the_poles(make, crval, projection):
    image = make_image(gaussian(99.5, 99.5, 3), wcs=make_wcs(projection, crval))
    centre = SkyCoord(*crval, unit="deg")
    positions = centre.directional_offset_by(np.arange(0, 360, 45) * u.deg, 4 * 28 * u.arcsec)
    cutouts = make(image, positions)
    assert (cutouts.table["coverage"] == 1).all()
    for i in range(8):
        expected = cutouts.wcs(i).world_to_pixel(centre)
        np.testing.assert_allclose(centroid(cutouts.data[i].astype(float)), expected, atol=0.05)


def test_the_pole_itself_is_not_turned():
    data = gaussian(99.5, 109.5, 3)
    image = make_image(data, wcs=make_wcs("ZEA", (40.0, -80.0)))
    for dec in (90, -90):
        wcs = make_wcs("TAN", (40.0, dec * 0.999999))
        image = make_image(data, wcs=wcs)
        near = CutoutMaker(64, pixel_scale=28 * u.arcsec)(image, SkyCoord(40, 0.999999 * dec, unit="deg"))
        pole = CutoutMaker(64, pixel_scale=28 * u.arcsec)(image, SkyCoord(40, dec, unit="deg"))
        np.testing.assert_allclose(near.data, pole.data, atol=0.01)
        source = pole.wcs(0).world_to_pixel(wcs.pixel_to_world(99.5, 109.5))
        np.testing.assert_allclose(centroid(pole.data[0].astype(float)), source, atol=0.05)


def test_galactic_and_fk5_images_are_met_with_icrs_positions():
    for prefix in (("GLON-", "GLAT-"), ("GLAT-", "GLON-"), ("RA---", "DEC--")):
        crval = (30.0, -20.0) if prefix[0] != "GLAT-" else (-20.0, 30.0)
        wcs = make_wcs("TAN", crval, prefix=prefix)
        if prefix[0] == "RA---":
            wcs.wcs.radesys, wcs.wcs.equinox = "FK5", 1975.0
        image = make_image(gaussian(99.5, 99.5, 3), wcs=wcs)
        target = wcs.pixel_to_world(99.5, 99.5)
        for make in (CutoutMaker(33), CutoutMaker(33, pixel_scale=25 * u.arcsec)):
            cutouts = make(image, target)
            expected = cutouts.wcs(0).world_to_pixel(target)
            np.testing.assert_allclose(centroid(cutouts.data[0].astype(float)), expected, atol=0.05)


def test_beams_are_relative_to_the_cutouts_axes():
    beam = Beam(150 * u.arcsec, 100 * u.arcsec, 30 * u.deg)

    def angle(image, make):
        return make(image, image.wcs.pixel_to_world(99.5, 99.5)).table["beam_pa"].to_value(u.deg)[0]

    own, new = CutoutMaker(33), CutoutMaker(33, pixel_scale=25 * u.arcsec)
    mirrored = make_wcs()
    mirrored.wcs.cdelt = [SCALE, SCALE]
    image = make_image(wcs=mirrored, beam=beam)
    assert angle(image, own) == pytest.approx(150, abs=1e-3)
    assert angle(image, new) == 30
    wcs = make_wcs("TAN", (30.0, -20.0), prefix=("GLON-", "GLAT-"))
    image = make_image(wcs=wcs, beam=beam)
    assert angle(image, own) == 30
    # The position angle of a galactic image counts from the galactic pole, at ICRS 192.85948, +27.12825 (Hipparcos
    # catalogue, vol. 1, section 1.5.3); a resampled cutout has ICRS north up.
    centre = wcs.pixel_to_world(99.5, 99.5).icrs
    expected = 30 + centre.position_angle(SkyCoord(192.85948, 27.12825, unit="deg")).deg
    assert angle(image, new) == pytest.approx(expected % 180, abs=0.01)


def test_an_all_sky_map_is_met_across_its_seam():
    # 1 degree pixels, RA 180 in the middle; crval sits at the left end.
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---CAR", "DEC--CAR"], [1.0, 1.0]
    wcs.wcs.crval, wcs.wcs.crpix = [0.0, 0.0], [1.0, 91.0]
    data = np.broadcast_to(np.arange(360.0), (181, 360))
    image = ClusterImage(data, wcs=wcs, unit=u.K)
    cutouts = CutoutMaker(3)(image, SkyCoord([1, 170, 190, 300] * u.deg, [0, 0, 0, 0] * u.deg))
    assert cutouts.data[:, 1, 1].tolist() == [1, 170, 190, 300]


@pytest.mark.parametrize("make", [CutoutMaker(64), CutoutMaker(64, pixel_scale=28 * u.arcsec)])
def test_edges_are_nan_and_counted(make):
    image = make_image(np.ones((200, 200)), rms=0.5, name="A13")
    positions = SkyCoord([image.wcs.pixel_to_world(*p) for p in ((0, 100), (-31, -31), (300, 100), (99.5, 99.5))]
                         + [SkyCoord(183.6, 30.4, unit="deg")])
    cutouts = make(image, positions)
    coverage = cutouts.table["coverage"]
    np.testing.assert_allclose(coverage, [0.5, 0, 0, 1, 0], atol=0.01)
    np.testing.assert_allclose(np.isfinite(cutouts.data).mean(axis=(1, 2)), coverage)
    assert np.nanmax(np.abs(cutouts.data - 1)) < 1e-6
    assert cutouts.table["rms"].unit == PER_BEAM
    np.testing.assert_allclose(cutouts.table["rms"].value, [0.5, np.nan, np.nan, 0.5, np.nan], rtol=1e-6)
    for target in positions[[0, 2, 4]]:
        table = QTable({"name": ["A85"], "position": target.reshape(1)})
        strict = CutoutMaker(64, pixel_scale=make.pixel_scale, partial=False)
        with pytest.raises(OutsideImageError, match=r"target 'A85' at .* 100% must be covered by image 'A13'"):
            strict(image, table)
    with pytest.raises(OutsideImageError, match="target number 0 at"):
        CutoutMaker(64, partial=False)(image, positions)
    half = CutoutMaker(64, pixel_scale=make.pixel_scale, partial=False, min_coverage=0.48)
    assert len(half(image, positions[:1])) == 1


def test_the_table():
    data = np.ones((200, 200))
    data[:, :100] = 0
    image = make_image(data, beam=Beam(150 * u.arcsec, 120 * u.arcsec, 30 * u.deg), frequency=200 * u.MHz, name="A2744",
                       flags=["clipped"])
    targets = Table({"name": ["a", "b"], "label": ["halo", "none"], "x0": [5, 5], "rms": ["old", "old"]})
    targets["position"] = image.wcs.pixel_to_world([99.5, 70.0], [99.5, 100.0]).galactic
    before = targets.copy()
    for make in (CutoutMaker(64), CutoutMaker(64, pixels_per_beam=5)):
        cutouts = make(image, targets)
        table = cutouts.table
        assert table["label"].tolist() == ["halo", "none"]
        assert table["position"].frame.name == "icrs"
        assert table["image"].tolist() == ["A2744", "A2744"]
        assert u.allclose(table["beam_major"], 150 * u.arcsec) and u.allclose(table["beam_pa"], 30 * u.deg)
        assert u.allclose(table["frequency"], 200 * u.MHz)
        assert np.isnan(table["rms"]).all()
        np.testing.assert_allclose(table["zeros"], [0.5, 1 if make.pixels_per_beam else 62 / 64], atol=0.04)
        assert ("x0" in table.colnames) == (make.pixels_per_beam is None)
        assert cutouts.meta["flags"] == ("clipped",)
    assert u.allclose(table["pixel_scale"], np.sqrt(150 * 120) / 5 * u.arcsec)
    assert targets.colnames == before.colnames and targets["x0"].tolist() == [5, 5]
    bare = CutoutMaker(8)(ClusterImage(data, wcs=image.wcs, unit=u.Jy), targets["position"][0])
    assert len(bare) == 1 and np.isnan(bare.table["beam_major"][0]) and np.isnan(bare.table["frequency"][0])
    assert len(CutoutMaker(8)(image, targets["position"][:0])) == 0
    assert len(CutoutMaker(8, pixel_scale=20 * u.arcsec)(image, targets["position"][:0])) == 0


def test_rms_is_that_of_the_central_half():
    rms = np.ones((200, 200))
    rms[:, 100:] = 3
    rms[0:50] = np.nan
    image = make_image(rms=rms)
    cutouts = CutoutMaker(32)(image, image.wcs.pixel_to_world([60, 140, 60], [100, 100, 10]))
    np.testing.assert_allclose(cutouts.table["rms"].value, [1, 3, np.nan])


def test_sizes():
    image = make_image()
    centre = image.wcs.pixel_to_world([99.5], [99.5])
    for size, shape in ((7, (7, 7)), ((10, 20), (10, 20)), ([10, 20], (10, 20)), (0.5 * u.deg, (64, 64)),
                        ([28, 56] * u.arcmin, (60, 120)), (1 * u.arcsec, (1, 1))):
        assert CutoutMaker(size)(image, centre).data.shape[1:] == shape
    assert CutoutMaker(0.5 * u.deg, pixel_scale=45 * u.arcsec)(image, centre).data.shape[1:] == (40, 40)
    assert repr(CutoutMaker(32, pixel_scale=20 * u.arcsec)) == "CutoutMaker(size=32, pixel_scale=20 arcsec)"


def test_a_large_cutout_falls_back_to_every_pixel():
    # 20 degrees at declination 80 in plate carree: no polynomial of degree 4 follows that.
    wcs = make_wcs("CAR", (30.0, 0.0), shape=(180, 360), scale=1.0)
    x = np.broadcast_to(np.arange(360.0), (180, 360))
    image = ClusterImage(x, wcs=wcs, unit=u.K)
    cutouts = CutoutMaker(40, pixel_scale=0.5 * u.deg, order=1)(image, SkyCoord(30, 78, unit="deg"))
    jj, ii = np.meshgrid(np.arange(40), np.arange(40))
    expected, _ = wcs.world_to_pixel(cutouts.wcs(0).pixel_to_world(jj, ii))
    np.testing.assert_allclose(cutouts.data[0], expected, atol=1e-3)


@pytest.mark.parametrize(("settings", "message"), [
    ({"pixel_scale": 3 * u.arcsec, "pixels_per_beam": 3}, "give pixel_scale or pixels_per_beam, not both"),
    ({"pixel_scale": 3}, "pixel_scale must be a positive angle"),
    ({"pixel_scale": -3 * u.arcsec}, "pixel_scale must be a positive angle"),
    ({"pixels_per_beam": 0}, "pixels_per_beam must be positive"),
    ({"order": 6}, "order must be a whole number from 0 to 5"),
    ({"size": 0}, "size must be a positive number of pixels"),
    ({"size": 3.5}, "size must be a positive number of pixels"),
    ({"size": (3, 4, 5)}, "size must be a positive number of pixels"),
    ({"size": 3 * u.Jy}, "size must be a positive angle")])
def test_bad_settings(settings, message):
    image = make_image()
    with pytest.raises(HaloInputError, match=message):
        CutoutMaker(**settings)(image, image.wcs.pixel_to_world([9], [9]))


def test_bad_input():
    image = make_image()
    sky = image.wcs.pixel_to_world([9, 10], [9, 10])
    with pytest.raises(HaloInputError, match="needs an image with a beam"):
        CutoutMaker(pixels_per_beam=3)(ClusterImage(image.data, wcs=image.wcs, unit=u.Jy), sky)
    with pytest.raises(HaloInputError, match="needs a column 'position' of sky coordinates"):
        CutoutMaker()(image, QTable({"name": ["a"]}))
    with pytest.raises(HaloInputError, match="positions must be a SkyCoord or a table"):
        CutoutMaker()(image, [(3.6, -30.4)])
    with pytest.raises(HaloInputError, match="positions have one axis"):
        CutoutMaker()(image, sky.reshape(2, 1))
    wcs = make_wcs()
    wcs.wcs.radesys = "GAPPT"
    with pytest.raises(HaloInputError, match="the sky frame of this image is not known"):
        CutoutMaker()(make_image(wcs=wcs), sky)


def test_many_cutouts_cost_one_call_of_the_wcs():
    # 10,000 on the own grid take about 0.2 s, 250 resampled ones the same; the limits leave room for a busy machine.
    image = make_image(np.zeros((1000, 1000)), rms=1.0)
    rng = np.random.default_rng(0)
    sky = image.wcs.pixel_to_world(*rng.uniform(0, 1000, (2, 10_000)))
    start = time.process_time()
    CutoutMaker(64)(image, sky)
    middle = time.process_time()
    CutoutMaker(64, pixel_scale=30 * u.arcsec)(image, sky[:250])
    assert middle - start < 3 and time.process_time() - middle < 3
