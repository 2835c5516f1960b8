"""Views turned by 45 degrees and magnified, and their eight orientations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halopy.preprocess.gather import crop, nearest
from halopy.preprocess.interpolate import Interpolator
from halopy.preprocess.turn import orient, turned_views


@settings(max_examples=40, deadline=None)
@given(zoom=st.floats(0.9, 3), tilted=st.booleans(), holes=st.sampled_from([0, 0.001, 0.2, 1]),
       size=st.sampled_from([1, 2, 20, 21]), seed=st.integers(0, 99))
def test_property_views_are_those_of_the_interpolator(zoom, tilted, holes, size, seed):
    rng = np.random.default_rng(seed)
    plane = rng.normal(size=(36, 40)).astype(np.float32)
    plane[rng.random(plane.shape) < holes] = np.nan
    views = np.empty((1, 2, size, size), np.float32)
    valid = turned_views(plane, np.array([zoom]), np.array([tilted]), views)
    y, x = (np.indices((size, size)) - (size - 1) / 2) / zoom
    if tilted:
        x, y = (x + y) / np.sqrt(2), (y - x) / np.sqrt(2)
    expected = Interpolator(plane)(x + 19.5, y + 17.5)
    np.testing.assert_allclose(views[0], [expected, expected.T], atol=2e-6)
    assert valid.tolist() == [np.isfinite(expected).sum()]


@pytest.mark.parametrize("n", [3, 16, 33])
def test_orientations_are_transposes_and_flips(n):
    view = np.random.default_rng(n).normal(size=(n, n)).astype(np.float32)
    transposed, rows, columns = (np.arange(8) // k % 2 for k in (4, 2, 1))
    data = np.empty((8, n, n), np.float32)
    orient(np.array([[view, view.T]]), np.zeros(8, int), transposed, rows == 1, columns == 1,
           np.arange(8, dtype=np.float32), data)
    for k in range(8):
        expected = view.T if transposed[k] else view
        expected = expected[::-1] if rows[k] else expected
        np.testing.assert_array_equal(data[k], (expected[:, ::-1] if columns[k] else expected) * np.float32(k))


@settings(max_examples=60, deadline=None)
@given(x=st.integers(-30, 60), y=st.integers(-30, 60), ny=st.integers(1, 20), nx=st.integers(1, 20))
def test_property_crops_are_padded_with_nan(x, y, ny, nx):
    plane = np.random.default_rng(1).integers(0, 4, (30, 40)).astype(np.float32)
    plane[plane == 3] = np.nan
    padded = np.pad(plane, 100, constant_values=np.nan)
    expected = padded[y + 100:y + 100 + ny, x + 100:x + 100 + nx]
    data, counts = np.empty((1, ny, nx), np.float32), np.empty((1, 2), np.int64)
    crop(plane, np.array([x]), np.array([y]), data, counts)
    np.testing.assert_array_equal(data[0], expected)
    assert counts.tolist() == [[np.isfinite(expected).sum(), (expected == 0).sum()]]


def test_the_nearest_pixel_is_looked_up():
    plane = np.arange(12, dtype=np.float32).reshape(3, 4)
    x = np.array([[[0, -0.49, -0.51, 3.49, 3.51, np.nan, 1, 1, 1e300]]])
    y = np.array([[[0, 2.49, 0, -0.49, 0, 0, 2.51, np.nan, 0]]])
    values = np.empty(x.shape, np.float32)
    nearest(plane, x, y, values)
    np.testing.assert_array_equal(values[0, 0], [0, 8, np.nan, 3, np.nan, np.nan, np.nan, np.nan, np.nan])
