"""Maps of background and noise: the numbers of photutils, overlapping boxes by definition, blanks, single positions."""

import numba
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.stats import SigmaClip
from hypothesis import example, given, settings
from hypothesis import strategies as st
from photutils.background import Background2D, MADStdBackgroundRMS, MedianBackground
from scipy import ndimage
from simulated import a_field, an_image

from halopy.errors import HaloInputError
from halopy.preprocess.boxes import box_statistics, cell_moments, count_zeros, surfaces, two_values
from halopy.preprocess.noise import NoiseEstimator
from halopy.preprocess.noise_maps import _over_boxes, overlapping_boxes, tiled_boxes


def noise(shape, rng=0, fwhm=4.0):
    """Noise of unit strength, as of a beam of four pixels."""
    pixels = ndimage.gaussian_filter(np.random.default_rng(rng).normal(size=shape), fwhm / 2.3548, mode="wrap")
    return (pixels / pixels.std()).astype(np.float32)


def of_photutils(data, box):
    return Background2D(data.astype(float), box, coverage_mask=np.isnan(data), fill_value=np.nan, exclude_percentile=80,
                        filter_size=3, sigma_clip=SigmaClip(sigma=3.0, maxiters=10),
                        bkg_estimator=MedianBackground(sigma_clip=None),
                        bkg_rms_estimator=MADStdBackgroundRMS(sigma_clip=None))


# ----------------------------------------------------------------------------------- boxes side by side

@settings(max_examples=25)
@given(shape=st.tuples(st.integers(8, 90), st.integers(8, 90)), box=st.tuples(st.integers(4, 40), st.integers(4, 40)),
       blanks=st.sampled_from([0, 0.1, 0.6]), seed=st.integers(0, 99))
def test_tiled_boxes_give_the_numbers_of_photutils(shape, box, blanks, seed):
    rng = np.random.default_rng(seed)
    data = noise(shape, seed) * np.geomspace(1, 5, shape[1], dtype=np.float32)
    data[rng.random(shape) < 0.02] *= 1000
    data[rng.random(shape) < blanks] = np.nan
    box = tuple(min(b, n) for b, n in zip(box, shape, strict=True))
    try:
        expected = of_photutils(data, box)
    except ValueError:
        with pytest.raises(HaloInputError, match="every box has data in less than a fifth"):
            tiled_boxes(data, box)
        return
    background, rms = tiled_boxes(data, box)
    positive = expected.background_rms_mesh[expected.background_rms_mesh > 0].min()
    np.testing.assert_allclose(rms, np.maximum(expected.background_rms, positive), rtol=2e-6)
    np.testing.assert_allclose(background, expected.background, atol=5e-6 * np.nanmax(rms))


@pytest.mark.parametrize("wild", [1e15, 1e30])
def test_a_wild_pixel_leaves_the_others_their_noise(wild):
    """Sums of squares lose all digits beside it, and are made anew without it."""
    data = noise((64, 64))
    data[10, 10], data[40, 40] = wild, -wild
    calm = np.where(np.abs(data) > 1e9, np.nan, data)
    np.testing.assert_allclose(box_statistics(data, (32, 32)), box_statistics(calm, (32, 32)), rtol=0.01, atol=0.01)


def test_statistics_of_a_box_by_hand():
    """Of 1 to 9 the median is 5, the median distance from it 2; 1000 lies beyond three standard deviations."""
    data = np.full((4, 5), np.nan, dtype=np.float32)
    data.ravel()[:9] = np.arange(9) + 1
    median, rms = box_statistics(data, (4, 5))
    assert median == 5 and rms == pytest.approx(2 * 1.4826, rel=1e-5)
    data = np.tile(np.arange(1, 10, dtype=np.float32), 12).reshape(12, 9)
    data[3, 4] = 1000
    median, rms = box_statistics(data, (12, 9))
    assert median == 5 and rms == pytest.approx(2 * 1.4826, rel=1e-5)
    assert np.isnan(box_statistics(np.full((2, 2), np.nan, np.float32), (2, 2))).all()


def test_the_surface_is_the_spline_of_scipy():
    mesh = np.random.default_rng(1).normal(size=(5, 7))
    expected = ndimage.zoom(mesh, (6, 9), order=3, mode="reflect", grid_mode=True)
    wide = (-9, 9)
    found = surfaces([mesh, 2 * mesh], np.zeros((30, 63), np.float32), (6, 9), [wide, wide])
    np.testing.assert_allclose(found, [expected, 2 * expected], atol=1e-6)
    cut = surfaces([mesh], np.zeros((26, 60), np.float32), (6, 9), [(-0.5, 0.5)])[0]
    np.testing.assert_allclose(cut, expected[:26, :60].clip(-0.5, 0.5), atol=1e-6)
    assert np.isnan(surfaces([mesh], np.full((30, 63), np.nan, np.float32), (6, 9), [wide])[0]).all()


# ------------------------------------------------------------------------------------ overlapping boxes

def test_moments_of_cells_by_numpy():
    data = noise((50, 47))
    data[10:20, :9] = np.nan
    centre, reach = np.full((2, 7, 6), [[[0.1]], [[1.5]]], dtype=np.float32)
    number, total, squares = cell_moments(data, 8, centre, reach)
    for j, i in np.ndindex(7, 6):
        d = data[8 * j:8 * j + 8, 8 * i:8 * i + 8].astype(float) - 0.1
        d = d[np.abs(d) < 1.5]
        np.testing.assert_allclose([number[j, i], total[j, i], squares[j, i]], [d.size, d.sum(), (d**2).sum()],
                                   rtol=1e-5, atol=1e-4)


def test_boxes_are_six_cells_about_a_corner_and_end_with_the_image():
    cells = np.random.default_rng(1).random((9, 13))
    summed = _over_boxes(cells)
    assert summed.shape == (10, 14)
    for j, i in np.ndindex(10, 14):
        assert summed[j, i] == pytest.approx(cells[max(0, j - 3):j + 3, max(0, i - 3):i + 3].sum())


def test_wild_neighbours_leave_quiet_boxes_their_noise():
    """Far enough off for the spline, which forgets a cell's neighbour to 0.27."""
    data = noise((300, 500))
    data[:, :100] *= 1e8
    rms = overlapping_boxes(data, 48)[1]
    assert np.percentile(np.abs(rms[:, 300:] - 0.987), 90) < 0.15


def test_overlapping_boxes_know_noise_and_background():
    """A box of 96 pixels knows the noise of a beam of four to 2 % (N/2 independent squares of 2.25 pixels a side)."""
    truth = np.geomspace(1, 3, 800, dtype=np.float32) * np.ones((700, 1), np.float32)
    background, rms = overlapping_boxes(noise((700, 800)) * truth + 5, 96)
    ratio = rms / truth
    # Clipped at three sigma, a Gaussian has 0.987 of its standard deviation.
    assert np.median(ratio) == pytest.approx(0.987, abs=0.01)
    assert np.percentile(np.abs(ratio - 0.987), 95) < 0.1
    assert np.median(np.abs(background - 5) / truth) < 0.1


def test_overlapping_boxes_follow_a_primary_beam_more_closely():
    y, x = np.mgrid[:800, :800] - 400
    truth = np.exp((x**2 + y**2) / 2 / 250**2).astype(np.float32)
    data = noise((800, 800)) * truth
    tiled, overlapping = (np.percentile(np.abs(rms / truth - 1), 95) for _, rms in
                          (tiled_boxes(data, (96, 96)), overlapping_boxes(data, 96)))
    assert overlapping < 0.6 * tiled


@pytest.mark.parametrize("method", ["map", "overlapping"])
def test_blank_corners_and_single_blanks(method):
    data = noise((300, 310))
    data[:100, :150] = np.nan
    data[200:204, 100:103] = np.nan
    measured = NoiseEstimator(method, box=60)(an_image(data))
    np.testing.assert_array_equal(np.isfinite(measured.rms), np.isfinite(data))
    np.testing.assert_array_equal(np.isfinite(measured.background), np.isfinite(data))
    assert np.nanmedian(measured.rms) == pytest.approx(1, abs=0.08)
    assert np.nanmax(np.abs(measured.rms - 1)) < 0.4


@settings(max_examples=10)
@given(exponent=st.floats(-30, 30), offset=st.floats(-5, 5))
@example(exponent=-25, offset=0)  # the order of W / m² / Hz / sr
@example(exponent=30, offset=0)
def test_overlapping_boxes_scale_and_know_no_offset(exponent, offset):
    """Also where float32 cannot hold the square of a pixel."""
    data = noise((120, 110))
    factor = 10.0**exponent
    level, rms = overlapping_boxes(data, 48)
    moved = overlapping_boxes((factor * (data + offset)).astype(np.float32), 48)
    np.testing.assert_allclose(moved[1], factor * rms, rtol=1e-2)
    np.testing.assert_allclose(moved[0], factor * (level + offset), atol=0.02 * factor)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (2, 3), (5, 90)])
def test_overlapping_boxes_of_narrow_images(shape):
    data = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    for box in (4, 40, 1000):
        rms = overlapping_boxes(data, box)[1]
        assert rms.shape == shape and rms.dtype == np.float32 and (rms > 0).all()
    if data.size > 100:  # a third of them, clipped, tell the noise to 15 %
        assert np.median(rms) == pytest.approx(0.987, rel=0.2)


def test_equal_pixels_have_no_noise_of_rounding():
    """Their noise is nought, and nought becomes the least that there is; rounding would leave 1e-6 of it."""
    data = noise((200, 210))
    data[:50] = 7.1
    assert overlapping_boxes(data, 40)[1].min() > 0.05


@pytest.mark.parametrize("method", ["map", "overlapping"])
def test_too_few_pixels_with_data(method):
    data = noise((60, 60))
    data[np.random.default_rng(1).random((60, 60)) < 0.9] = np.nan
    with pytest.raises(HaloInputError, match="a.fits: no noise: every box has data in less than a fifth.*another box"):
        NoiseEstimator(method, box=20)(an_image(data, meta={"path": "a.fits"}))


@pytest.mark.parametrize("method", ["map", "overlapping"])
def test_any_number_of_threads_makes_the_same_bytes(monkeypatch, method):
    image = an_image(noise((230, 190)))
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        found.append(NoiseEstimator(method, box=40)(image))
    np.testing.assert_array_equal(found[0].rms, found[1].rms)
    np.testing.assert_array_equal(found[0].background, found[1].background)


# ------------------------------------------------------------------------------------------ exact zeros

@pytest.mark.parametrize("method", ["map", "overlapping", "clipped", "patches"])
@pytest.mark.parametrize("rows", [10, 60, 140])
def test_a_border_of_zeros_is_no_noise(method, rows):
    """Mosaics and HiPS fill with zeros what they do not cover. No threshold made them: no hole lies about them."""
    data = noise((300, 300))
    data[:rows] = 0
    measured = NoiseEstimator(method, box=40)(an_image(data))
    assert measured.flags == () and measured.meta["rms_method"] == method
    np.testing.assert_allclose(np.median(measured.rms[rows:]), 1, atol=0.08)
    assert (measured.rms[rows:] > 0).all() and np.isnan(measured.rms[:rows]).all()
    np.testing.assert_array_equal(measured.data, data)


def test_zeros_of_several_bands_and_two_values():
    data = noise((200, 30))
    data[:3], data[150] = np.nan, 0
    assert count_zeros(data) == 30
    assert two_values(data) == (data[3].min(), data[3].max())
    assert two_values(np.where(np.isnan(data), np.nan, 7).astype(np.float32)) == (7, 7)
    assert np.isnan(two_values(np.full((2, 2), np.nan, np.float32))).all()


# ------------------------------------------------------------------------------------ at positions only

@pytest.mark.parametrize(("method", "box"), [("map", 12), ("overlapping", 12), ("overlapping", 16)])
def test_at_positions_are_the_values_of_the_map(method, box):
    image = an_image(noise((700, 600)) * np.geomspace(1, 4, 600))
    estimator = NoiseEstimator(method, box=box)
    x, y = [5, 300, 590, 412], [690, 333, 8, 100]
    background, rms = estimator.at(image, image.wcs.pixel_to_world(x, y))
    measured = estimator(image)
    assert rms.unit == background.unit == image.unit
    np.testing.assert_allclose(rms.value, measured.rms[y, x], rtol=2e-3)
    np.testing.assert_allclose(background.value, measured.background[y, x], atol=5e-3)


def test_few_positions_leave_the_rest_of_the_image_alone(monkeypatch):
    seen = []

    def spied(data, box, **keywords):
        seen.append(data.size)
        return tiled_boxes(data, box, **keywords)

    monkeypatch.setattr("halopy.preprocess.noise.tiled_boxes", spied)
    image = an_image(noise((700, 600)))
    NoiseEstimator(box=12).at(image, image.wcs.pixel_to_world([300], [300]))
    assert seen == [156**2]
    NoiseEstimator(box=12).at(image, image.wcs.pixel_to_world(np.arange(0, 600, 2), np.arange(0, 600, 2)))
    assert seen[1:] == [700 * 600]


@pytest.mark.parametrize("value", [np.nan, 7])
def test_at_positions_where_no_noise_is_near(value):
    """Farther off there is: there the map has it from."""
    data = noise((700, 600))
    data[100:400, 100:400] = value
    image = an_image(data)
    estimator = NoiseEstimator(box=12)
    rms = estimator.at(image, image.wcs.pixel_to_world([250, 50], [240, 50]))[1]
    np.testing.assert_array_equal(rms.value, estimator(image).rms[[240, 50], [250, 50]])


def test_at_one_position_and_many_in_an_array():
    image = an_image(noise((300, 310)))
    one = NoiseEstimator().at(image, image.wcs.pixel_to_world(20, 30))[1]
    many = NoiseEstimator().at(image, image.wcs.pixel_to_world([[20, 40, 9]] * 2, [[30, 5, 8]] * 2))[1]
    assert one.shape == () and many.shape == (2, 3) and one == many[0, 0] == many[1, 0]


def test_at_positions_off_the_image_and_without_background():
    image = a_field((300, 300), rng=1)
    positions = image.wcs.pixel_to_world([100.0, 5000.0], [100.0, 20.0])
    background, rms = NoiseEstimator("patches").at(image, positions)
    assert np.isnan(background).all() and rms[0].value > 0 and np.isnan(rms[1])
    background, rms = NoiseEstimator().at(image, SkyCoord([], [], unit="deg"))
    assert rms.shape == background.shape == (0,)
    assert np.isnan(NoiseEstimator().at(image, positions[1:])[1]).all()
    assert u.Quantity(NoiseEstimator("clipped").at(image, positions)[1])[0].value > 0
