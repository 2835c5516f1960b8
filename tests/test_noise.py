"""Noise of known strength is measured, whatever lies on top of it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import BEAM, CENTRE, PIXEL, RMS, a_field, an_image, beam_noise

from halopy.errors import HaloInputError
from halopy.image import ClusterImage
from halopy.preprocess.noise import NoiseEstimator, emptiest_boxes

SHAPE = (300, 300)
FREE = a_field(SHAPE, rng=1)
"""Beam-correlated noise alone: 300 x 300 pixels hold about 3600 independent ones, so its own rms is known to 1.2 %."""


def sources(n, shape=SHAPE, rng=2):
    """Positions and fluxes, dN/dS ~ S^-2.25 above 5 rms, as radio counts are about 0.1-1 Jy."""
    rng = np.random.default_rng(rng)
    return list(zip(rng.uniform(0, shape[1], n), rng.uniform(0, shape[0], n), 5 * RMS * rng.uniform(0, 1, n) ** -0.8,
                    strict=True))


CROWDED = a_field(SHAPE, rng=1, sources=sources(90))
"""A source above 5 rms every 66 beams, one in 20 of the pixels."""


def level(image):
    return float(np.nanmedian(image.rms))


@pytest.mark.parametrize(("method", "tolerance"), [
    ("map", 0.04), ("clipped", 0.04),
    # Five patches of 8 beams across hold about 150 independent pixels: 6 % is one standard error.
    ("patches", 0.15)])
@pytest.mark.parametrize("image", [FREE, CROWDED], ids=["noise", "sources"])
def test_the_rms_of_noise_of_known_strength(method, tolerance, image):
    measured = NoiseEstimator(method)(image)
    assert level(measured) == pytest.approx(RMS, rel=tolerance)
    assert measured.meta["rms_method"] == method
    assert measured.rms.shape == image.shape
    assert measured.unit == image.unit
    assert image.rms is None and image.background is None and "rms_method" not in image.meta


def test_the_residual_of_a_source_finder_gives_the_noise_of_the_image():
    measured = NoiseEstimator("residual", residual=FREE)(CROWDED)
    assert level(measured) == pytest.approx(RMS, rel=0.04)
    assert measured.meta["rms_method"] == "residual"


def test_the_residual_may_be_a_file_in_another_unit():
    FREE.replace(data=1000 * FREE.data, unit=u.mJy / u.beam).write("residual.fits")
    measured = NoiseEstimator("residual", residual="residual.fits")(CROWDED)
    assert level(measured) == pytest.approx(level(NoiseEstimator("residual", residual=FREE)(CROWDED)), rel=1e-3)


@pytest.mark.parametrize("method", ["map", "clipped"])
def test_the_background_is_the_level_under_the_noise(method):
    image = FREE.replace(data=FREE.data - 3 * RMS)
    background = np.nanmedian(NoiseEstimator(method)(image).background)
    assert background == pytest.approx(-3 * RMS, abs=0.1 * RMS)


@settings(max_examples=15)
@given(method=st.sampled_from(["map", "clipped", "patches"]), exponent=st.floats(-9, 9), offset=st.floats(-5, 5))
def test_rms_scales_with_the_image_and_knows_no_offset(method, exponent, offset):
    factor = 10.0**exponent
    data = factor * (FREE.data[:150, :160].astype(float) + offset * RMS)
    moved = NoiseEstimator(method)(an_image(data))
    still = NoiseEstimator(method)(an_image(FREE.data[:150, :160]))
    np.testing.assert_allclose(moved.rms, factor * still.rms, rtol=0.01)


@pytest.mark.parametrize("method", ["map", "clipped", "patches"])
def test_a_border_without_data_stays_without(method):
    data = CROWDED.data.copy()
    data[:30], data[:, -50:] = np.nan, np.nan
    measured = NoiseEstimator(method)(an_image(data))
    np.testing.assert_array_equal(np.isfinite(measured.rms), np.isfinite(data))
    assert level(measured) == pytest.approx(RMS, rel=0.15)
    np.testing.assert_array_equal(measured.data, data)


def test_a_local_map_follows_a_gradient():
    growth = np.exp(np.arange(300) / 300 * np.log(50))
    measured = NoiseEstimator(box=30)(FREE.replace(data=FREE.data * growth))
    ratio = measured.rms / (RMS * growth)
    assert (measured.rms > 0).all()
    # In a box of 30 pixels the noise grows by 48 %, and 37 independent pixels know it to 12 %.
    assert np.median(ratio) == pytest.approx(1, abs=0.1)
    assert (np.percentile(ratio, [5, 95]) > 0.65).all() and (np.percentile(ratio, [5, 95]) < 1.5).all()


def test_rms_is_positive_beside_a_cliff():
    """A spline from a noisy to a quiet box may swing below zero (PyBDSF issue 215)."""
    data = FREE.data.copy()
    data[:, :100] *= 1e4
    measured = NoiseEstimator(box=25)(an_image(data))
    assert (measured.rms > 0).all()
    assert np.median(measured.rms[:, 200:]) == pytest.approx(RMS, rel=0.1)


def test_a_halo_does_not_enter_its_own_noise():
    halo = a_field(SHAPE, rng=1, halos=[(150, 150, 30 * RMS * 16, 2)])
    assert halo.data.max() > 10 * RMS
    assert NoiseEstimator()(halo).rms[150, 150] == pytest.approx(RMS, rel=0.1)


def test_boxes_are_pixels_or_an_angle_and_at_most_half_of_the_image():
    same = [NoiseEstimator(box=box)(FREE).rms for box in (60, 60 * PIXEL, 40 * u.arcmin)]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_array_equal(same[0], same[2])
    np.testing.assert_array_equal(NoiseEstimator(box=10**6)(FREE).rms, NoiseEstimator(box=150)(FREE).rms)
    bare = FREE.replace(beam=None)
    assert level(NoiseEstimator()(bare)) == pytest.approx(RMS, rel=0.05)


@pytest.mark.parametrize(("box", "text"), [
    (3, "at least 4 pixels wide .*found 3"), (np.nan, "at least 4 pixels wide"), (60 * u.arcsec, "at least 4 pixels"),
    (3 * u.Jy, "an angle or pixels")])
def test_a_box_that_cannot_be_used(box, text):
    with pytest.raises(HaloInputError, match=text):
        NoiseEstimator(box=box)(FREE)


def test_a_tiny_image_is_measured():
    image = an_image(RMS * np.random.default_rng(1).normal(size=(16, 16)))
    assert level(NoiseEstimator()(image)) == pytest.approx(RMS, rel=0.3)


# ------------------------------------------------------------------------------------------ patches

CORNERS = [(40, 40), (40, 250), (150, 150), (250, 40), (250, 250), (100, 200)]


def test_patches_from_a_ds9_region_file():
    from regions import CircleSkyRegion, PixCoord, RectanglePixelRegion, Regions

    # Outside of the patches there is nothing but noise 50 times as strong.
    patches = [(slice(y - 16, y + 16), slice(x - 16, x + 16)) for x, y in CORNERS]
    data = 50 * FREE.data
    for patch in patches:
        data[patch] /= 50
    image = an_image(data)
    sky = [CircleSkyRegion(image.wcs.pixel_to_world(x, y), 12 * PIXEL) for x, y in CORNERS]
    Regions(sky).write("sky.reg", format="ds9")
    Regions([RectanglePixelRegion(PixCoord(x, y), 24, 20) for x, y in CORNERS]).write("pixel.reg", format="ds9")
    for path in ("sky.reg", "pixel.reg"):
        # Six patches of 24 pixels across hold about 110 independent pixels: 7 %.
        assert level(NoiseEstimator("patches", patches=path)(image)) == pytest.approx(RMS, rel=0.2)


def test_patches_at_sky_positions():
    positions = SkyCoord([FREE.wcs.pixel_to_world(x, y) for x, y in CORNERS])
    measured = NoiseEstimator("patches", patches=positions, box=24)(FREE)
    own = np.mean([FREE.data[y - 12:y + 12, x - 12:x + 12].std() for x, y in CORNERS])
    assert level(measured) == pytest.approx(own, rel=0.05)


def test_the_emptiest_boxes_are_those_without_sources():
    places = [(37 + 75 * i, 37 + 75 * j) for i in range(4) for j in range(4) if (i, j) not in {(0, 0), (1, 2), (3, 3)}]
    image = a_field(SHAPE, rng=3, sources=[(x, y, 40 * RMS) for x, y in places])
    free = emptiest_boxes(image, 75, 3)
    assert max(box.max() for box in free) < 6 * RMS
    assert emptiest_boxes(image, 75, 4)[3].max() > 20 * RMS


def test_choosing_the_emptiest_boxes_does_not_prefer_quiet_ones():
    """Their mean over ten images stays within 3 %, two standard errors, of the truth."""
    values = [level(NoiseEstimator("patches", patches=10)(a_field(SHAPE, rng=seed))) for seed in range(10)]
    assert np.mean(values) == pytest.approx(RMS, rel=0.03)


def test_patches_that_cannot_be_used():
    from regions import CircleSkyRegion, PointSkyRegion, Regions

    def measure(patches, image=FREE, **settings):
        return NoiseEstimator("patches", patches=patches, **settings)(image)

    with pytest.raises(HaloInputError, match="at least 5 of them .*found 4.*try: a smaller box"):
        measure(4)
    with pytest.raises(HaloInputError, match="at least 5 of them .*found 4"):
        measure(5, box=10**6)
    outside = SkyCoord([CENTRE] * 5 + [SkyCoord(3.58, 10, unit="deg")])
    with pytest.raises(HaloInputError, match="patch 5 lies outside the image"):
        measure(outside)
    with pytest.raises(HaloInputError, match="patch 0 lies outside the image"):
        measure(outside[5])
    Regions([CircleSkyRegion(outside[5], 1 * u.arcmin)]).write("outside.reg", format="ds9")
    with pytest.raises(HaloInputError, match="outside.reg: region 0 lies outside the image"):
        measure("outside.reg")
    Regions([PointSkyRegion(CENTRE)]).write("point.reg", format="ds9")
    with pytest.raises(HaloInputError, match="point.reg: region 0 has no area .*Point"):
        measure("point.reg")
    with open("bad.reg", "w") as stream:
        stream.write("fk5\ncircle(1,2\n")
    with pytest.raises(HaloInputError, match="bad.reg: cannot read this DS9 region file"):
        measure("bad.reg")
    with pytest.raises(HaloInputError, match="cannot read this DS9 region file"):
        measure("nowhere.reg")
    empty = FREE.data.copy()
    empty[20:60, 20:60] = np.nan
    positions = SkyCoord([FREE.wcs.pixel_to_world(x, y) for x, y in CORNERS])
    with pytest.raises(HaloInputError, match="patch 0 holds no noise .*found '?0 pixels"):
        measure(positions, an_image(empty), box=20)


# --------------------------------------------------------------------------------------------- maps

def test_own_maps_are_converted_to_the_unit_of_the_image():
    rms = an_image(1000 * RMS * np.linspace(1, 2, 300 * 300).reshape(SHAPE), unit=u.mJy / u.beam)
    background = an_image(np.full(SHAPE, 2.0), unit=u.mJy / u.beam)
    measured = NoiseEstimator.from_map(rms, background)(FREE)
    np.testing.assert_allclose(measured.rms, rms.data / 1000, rtol=1e-6)
    np.testing.assert_allclose(measured.background, 0.002, rtol=1e-6)
    assert measured.meta["rms_method"] == "from_map"
    rms.write("rms.fits")
    np.testing.assert_allclose(NoiseEstimator.from_map("rms.fits")(FREE).rms, rms.data / 1000, rtol=1e-6)
    assert NoiseEstimator.from_map("rms.fits")(FREE).background is None


def test_own_map_keeps_what_has_no_data():
    data = FREE.data.copy()
    data[:20] = np.nan
    measured = NoiseEstimator.from_map(an_image(np.full(SHAPE, RMS)))(an_image(data))
    np.testing.assert_array_equal(np.isfinite(measured.rms), np.isfinite(data))


def test_maps_that_do_not_fit():
    def measure(rms):
        return NoiseEstimator.from_map(rms)(FREE)

    good = np.full(SHAPE, RMS)
    with pytest.raises(HaloInputError, match=r"rms map must have the shape of the image, \(300, 300\) .*299"):
        measure(an_image(good[1:]))
    shifted = an_image(good)
    wcs = shifted.wcs.deepcopy()
    wcs.wcs.crpix += 3
    with pytest.raises(HaloInputError, match="rms map lies elsewhere on the sky .*off by 4.2 pixels"):
        measure(shifted.replace(wcs=wcs))
    far = shifted.wcs.deepcopy()
    far.wcs.crval = [200, 60]
    with pytest.raises(HaloInputError, match="rms map lies elsewhere on the sky"):
        measure(shifted.replace(wcs=far))
    for value in (-RMS, 0):
        with pytest.raises(HaloInputError, match="an rms map must be positive"):
            measure(an_image(np.where(np.arange(300) == 7, value, good)))
    with pytest.raises(HaloInputError, match="rms map must be in a unit like the image's, Jy / beam .*found 'K'"):
        measure(an_image(good, unit=u.K))
    with pytest.raises(HaloInputError, match="'from_map' needs the rms map.*from_map"):
        NoiseEstimator("from_map")(FREE)
    with pytest.raises(HaloInputError, match="'residual' needs the residual"):
        NoiseEstimator("residual")(FREE)
    with pytest.raises(HaloInputError, match="background map must have the shape"):
        NoiseEstimator.from_map(an_image(good), an_image(good[1:]))(FREE)


# ------------------------------------------------------------------------------------ clipped images

BRIGHT = a_field(SHAPE, rng=4, sources=sources(40, rng=5))


@pytest.mark.parametrize("clip_sigma", [2.5, 3.0, 4.0])
def test_the_threshold_of_a_clipped_image_tells_its_noise(clip_sigma):
    """The faintest of hundreds of pixels just above a threshold lies within a few % of it."""
    data = np.where(np.abs(BRIGHT.data) < clip_sigma * RMS, 0, BRIGHT.data)
    measured = NoiseEstimator(clip_sigma=clip_sigma)(an_image(data))
    assert level(measured) == pytest.approx(RMS, rel=0.03)
    assert measured.meta["rms_method"] == "clip-edge"
    assert measured.flags == ("clipped",)


@pytest.mark.parametrize("method", ["map", "clipped", "patches"])
@pytest.mark.parametrize("threshold", [0.5, 0.25])
def test_a_low_threshold_is_told_from_the_zeroed_fraction(method, threshold):
    """P(|x| < 0.5 sigma) = 38 % of Gaussian noise."""
    data = np.where(np.abs(FREE.data) < threshold * RMS, 0, FREE.data)
    measured = NoiseEstimator(method)(an_image(data))
    assert level(measured) == pytest.approx(RMS, rel=0.05)
    assert measured.meta["rms_method"] == "zeros"
    assert measured.flags == ("clipped-low",)


def test_a_low_threshold_on_a_negative_level():
    """Four of the published low-frequency cutouts are like this; the zeroed fraction alone gives 3 times the noise."""
    data = BRIGHT.data - 2 * RMS
    measured = NoiseEstimator()(an_image(np.where(np.abs(data) < 1.8 * RMS, 0, data)))
    assert level(measured) == pytest.approx(RMS, rel=0.15)
    assert measured.meta["rms_method"] == "wing"
    assert measured.flags == ("clipped-low",)


def ramp():
    """Mostly zeros, and values without any wall at a threshold."""
    data = np.zeros(SHAPE)
    data[100:120] = np.linspace(1e-6, 1, 20 * 300).reshape(20, 300)
    return data


def test_without_a_threshold_the_noise_of_the_survey_is_taken():
    measured = NoiseEstimator()(an_image(ramp(), meta={"survey": "gleam-170-231"}))
    assert level(measured) == pytest.approx(0.0077)
    assert measured.meta["rms_method"] == "preset" and measured.flags == ("clipped",)
    milli = NoiseEstimator()(an_image(1000 * ramp(), unit=u.mJy / u.beam, meta={"survey": "gleam-170-231"}))
    assert level(milli) == pytest.approx(7.7)


@pytest.mark.parametrize("settings", [{}, {"meta": {"survey": "nvss"}, "unit": u.K}])
def test_without_threshold_or_survey_the_noise_is_unknown(settings):
    with pytest.raises(HaloInputError, match="clipped and no threshold can be seen .*try: survey=, or Noise"):
        NoiseEstimator()(an_image(ramp(), **settings))


# ----------------------------------------------------------------------------------- no noise at all

@pytest.mark.parametrize(("data", "text"), [
    (np.full((50, 50), np.nan), "no usable pixels: all are NaN"),
    (np.zeros((50, 50)), "the image is constant .*found 0.0"),
    (np.full((50, 50), 3.0), "the image is constant .*found 3.0")])
@pytest.mark.parametrize("method", ["map", "clipped", "residual", "patches", "from_map"])
def test_an_image_without_noise(data, text, method):
    with pytest.raises(HaloInputError, match=text):
        NoiseEstimator(method)(an_image(data, meta={"path": "a.fits"}))


def test_pixels_that_are_nearly_all_equal():
    data = np.ones(SHAPE)
    data[::10, ::10] = 2
    with pytest.raises(HaloInputError, match="more than half of the pixels of every box are equal.*a larger box"):
        NoiseEstimator()(an_image(data))
    with pytest.raises(HaloInputError, match="the clipped pixels are constant"):
        NoiseEstimator("clipped")(an_image(data))
    with pytest.raises(HaloInputError, match="at least 5 of them"):
        NoiseEstimator("patches", box=10)(an_image(np.where(np.arange(300) == 3, 2.0, 1.0) * np.ones(SHAPE)))


def test_a_histogram_without_a_fit(monkeypatch):
    import scipy.optimize

    def fail(*_, **__):
        raise RuntimeError("Optimal parameters not found")

    monkeypatch.setattr(scipy.optimize, "curve_fit", fail)
    with pytest.raises(HaloInputError, match="no Gaussian fits the histogram of these pixels: Optimal.*method='map'"):
        NoiseEstimator("clipped")(FREE)


def test_settings_that_cannot_be_used():
    with pytest.raises(HaloInputError, match="method is one of map, overlapping, clipped, .*, from_map .*'median'"):
        NoiseEstimator("median")(FREE)
    for settings_ in ({"sigma": 0}, {"clip_sigma": -3}, {"sigma": np.nan}):
        with pytest.raises(HaloInputError, match="sigma and clip_sigma must be positive"):
            NoiseEstimator(**settings_)(FREE)


# --------------------------------------------------------------------------------------------- plots

@pytest.mark.parametrize(("settings", "image"), [
    ({}, CROWDED), ({"method": "clipped"}, CROWDED), ({"method": "residual", "residual": FREE}, CROWDED),
    ({}, FREE.replace(unit=u.K)), ({}, an_image(np.where(np.abs(BRIGHT.data) < 3 * RMS, 0, BRIGHT.data)))])
def test_plot_draws_a_histogram_and_an_image(settings, image):
    import matplotlib
    from matplotlib.figure import Figure

    before = dict(matplotlib.rcParams)
    figures = sys.modules["matplotlib.pyplot"].get_fignums() if "matplotlib.pyplot" in sys.modules else []
    figure = NoiseEstimator(**settings).plot(image)
    figure.savefig("noise.png")
    assert isinstance(figure, Figure)
    left, right, bar = figure.axes
    # The level is measured, at 8 mJy/beam.
    if image.unit == u.Jy / u.beam and "residual" not in settings:
        assert "mJy / beam" in left.get_legend().get_texts()[1].get_text()
    assert len(right.images) == 1
    assert "log10" in bar.get_ylabel()
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == figures


def test_the_drawn_gaussian_lies_on_the_histogram():
    axes = NoiseEstimator("clipped").plot(FREE).axes[0]
    heights = np.array([patch.get_height() for patch in axes.patches])
    curve = axes.lines[0].get_ydata()
    assert curve.max() == pytest.approx(np.sort(heights)[-15:].mean(), rel=0.1)


# ----------------------------------------------------------------------------------------- real data

def test_the_noise_of_nvss_fields(real_data):
    """Within 15 % of the rms that was measured when these fields were collected."""
    index = Table.read(real_data / "index.csv", format="ascii.csv")
    index = index[[str(f).startswith("nvss/") and str(f).endswith(".fits") for f in index["file"]]]
    assert len(index) >= 15
    for row in index:
        image = ClusterImage.read(real_data / row["file"], survey="nvss")
        for method, tolerance in (("map", 0.15), ("clipped", 0.15), ("patches", 0.25)):
            rms = level(NoiseEstimator(method)(image)) * 1000
            if row["rms_mJy"] and not np.ma.is_masked(row["rms_mJy"]):
                assert rms == pytest.approx(float(row["rms_mJy"]), rel=tolerance), (row["file"], method)
            # Condon+ 1998: 0.45 mJy/beam
            assert 0.35 < rms < 0.75, (row["file"], method)


def test_the_noise_of_published_clipped_cutouts(real_data):
    """GLEAM at 170-231 MHz: 6 to 10 mJy/beam (arXiv 1610.08318), more near bright sources and far from the zenith."""
    paths = sorted((real_data / "mwa-gleam").glob("*170-231*.fits.gz"))
    assert paths
    methods, values = [], []
    for path in paths:
        measured = NoiseEstimator()(ClusterImage.read(path, survey="gleam-170-231"))
        methods.append(measured.meta["rms_method"])
        values.append(1000 * level(measured))
        assert methods[-1] in ("clip-edge", "zeros", "wing"), path
        assert set(measured.flags) & {"clipped", "clipped-low"}, path
        assert 4 < values[-1] < 60, path
    assert np.mean(np.array(methods) == "clip-edge") > 0.85
    assert np.median(values) == pytest.approx(7.7, rel=0.3)


def test_beam_noise_is_what_it_says():
    """The autocorrelation of white noise convolved with a Gaussian is a Gaussian sqrt(2) wider."""
    noise = beam_noise((128, 128), np.random.default_rng(1), n=40)
    assert noise.std() == pytest.approx(1, abs=0.01)
    inverse = np.linalg.inv(2 * BEAM.covariance(PIXEL))
    for dx, dy in ((2, 0), (0, 2), (2, 2), (2, -2)):
        product = noise[:, 4:-4, 4:-4] * np.roll(noise, (-dy, -dx), axis=(1, 2))[:, 4:-4, 4:-4]
        expected = np.exp(-0.5 * np.array([dx, dy]) @ inverse @ np.array([dx, dy]))
        assert product.mean() == pytest.approx(expected, abs=0.02)
