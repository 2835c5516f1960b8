"""Control positions: the same for the same seed, where there is data, and away from targets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from halopy.preprocess.controls import _surrounded, control_pixels


def draw(valid, x=(), y=(), *, seed=1, n=40, fwhm=2.0, exclusion=8.0):
    return control_pixels(valid, np.array(x, dtype=float), np.array(y, dtype=float), n=n, few=10, fwhm=fwhm,
                          exclusion=exclusion, rng=np.random.default_rng(seed))


@settings(max_examples=40)
@given(shape=st.tuples(st.integers(3, 120), st.integers(3, 120)), window=st.integers(1, 60),
       blank=st.sampled_from([0, 0.001, 0.6]), seed=st.integers(0, 9))
def test_half_of_the_square_about_a_pixel(shape, window, blank, seed):
    """Far from the border of an image without blanks one answer stands for all: the same as filtering all of it."""
    valid = np.random.default_rng(seed).random(shape) >= blank
    expected = uniform_filter(valid.astype(np.float32), window, mode="constant") >= 0.5
    np.testing.assert_array_equal(_surrounded(valid, window), expected)


@settings(max_examples=30)
@given(seed=st.integers(0, 99), blank=st.floats(0, 0.4))
def test_controls_lie_on_data_and_away_from_targets(seed, blank):
    valid = np.random.default_rng(seed).random((90, 110)) >= blank
    targets = [(20.3, 30.0), (-5.0, 4.0), (np.nan, np.nan), (300.0, 10.0)]
    x, y = draw(valid, *zip(*targets, strict=True), seed=seed)
    assert len(x) == 40
    assert valid[np.rint(y).astype(int), np.rint(x).astype(int)].all()
    for a, b in targets[:2]:
        assert (np.hypot(np.rint(x) - a, np.rint(y) - b) > 16).all()
    again = draw(valid, *zip(*targets, strict=True), seed=seed)
    np.testing.assert_array_equal((x, y), again)
    assert len(set(zip(np.rint(x), np.rint(y), strict=True))) == 40


def test_every_pixel_is_as_likely():
    """As many as there are free pixels are all of them; a few are spread evenly over quarters."""
    valid = np.ones((100, 100), dtype=bool)
    x, y = draw(valid, n=10000, fwhm=0.5)
    everywhere = np.argwhere(_surrounded(valid, 6))
    assert len(x) == len(everywhere) > 9900
    assert {(b, a) for a, b in zip(np.rint(x), np.rint(y), strict=True)} == set(map(tuple, everywhere))
    x, y = draw(valid, n=2000, fwhm=0.5)
    quarters = np.histogram2d(x, y, bins=2, range=[[-0.5, 99.5]] * 2)[0]
    assert (np.abs(quarters - 500) < 5 * np.sqrt(500)).all()


def test_controls_come_closer_where_sky_is_scarce():
    valid = np.ones((60, 60), dtype=bool)
    x, y = draw(valid, [30], [30], exclusion=20.0)  # 40 pixels reach over nearly all of the image
    nearest = np.hypot(np.rint(x) - 30, np.rint(y) - 30).min()
    assert len(x) >= 10 and 8 < nearest < 40


@pytest.mark.parametrize("valid", [np.zeros((50, 50), dtype=bool), np.ones((2, 2), dtype=bool)])
def test_no_place_for_controls(valid):
    x, y = draw(valid)
    assert len(x) == len(y) == 0
