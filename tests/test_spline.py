"""Compiled splines: the values of scipy's, missing pixels and edges as the Interpolator has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from halopy.preprocess.interpolate import Interpolator
from halopy.preprocess.project import control_points, polynomials
from halopy.preprocess.spline import resample, spline_coefficients

ROUNDING = 1e-6
"""A few units of float32's last place, for values up to 5."""


def affine(shape, x, y, scale=1.0, angle=0.0):
    """Control points, and all pixels, of a turned grid whose centre lies at x, y."""
    rows, columns = (control_points(n) - (n - 1) / 2 for n in shape)
    sin, cos = scale * np.sin(angle), scale * np.cos(angle)
    control = np.array([[x + cos * columns - sin * rows[:, None], y + sin * columns + cos * rows[:, None]]])
    matrices = polynomials(shape)
    return control, matrices, matrices[0] @ control[0] @ matrices[1]


def sky(shape=(90, 80), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(90, 80), (5, 7), (2, 30), (1, 20), (20, 1)])
def test_coefficients_are_scipys(shape):
    # scipy's spline_filter with mode="mirror", also where the mirrored series folds several times.
    plane = sky(shape)
    box = np.array([[[0, shape[1]], [0, shape[0]]]])
    coefficients, missing, zeros = spline_coefficients(plane, box, True)
    expected = np.pad(ndimage.spline_filter(plane.astype(float), mode="mirror"), 2, mode="reflect").T
    np.testing.assert_allclose(coefficients[0, :shape[1] + 4, :shape[0] + 4], expected, atol=3e-6)
    assert missing[0] == zeros[0] == 0


@pytest.mark.parametrize("order", [1, 3])
def test_values_are_map_coordinates(order):
    plane = sky()
    control, matrices, points = affine((32, 40), 41.3, 40.2, 0.9, 0.4)
    data = np.empty((1, 32, 40), np.float32)
    counts = resample(plane, control, *matrices, data, order=order)
    expected = ndimage.map_coordinates(plane.astype(float), points[::-1], order=order, mode="mirror")
    np.testing.assert_allclose(data[0], expected, atol=ROUNDING)
    assert counts.tolist() == [[32 * 40, 32 * 40, 0]]
    exact = np.empty_like(data)
    resample(plane, np.ascontiguousarray(points[None]), None, None, exact, order=order)
    np.testing.assert_allclose(exact, data, atol=ROUNDING)


@settings(max_examples=60, deadline=None)
@given(x=st.floats(-40, 120), y=st.floats(-40, 120), scale=st.floats(0.3, 2), angle=st.floats(0, 6.3),
       holes=st.sampled_from([0, 0.002, 0.05, 0.5, 0.995, 1]), order=st.sampled_from([1, 3]), seed=st.integers(0, 99))
def test_property_missing_pixels_and_edges_are_those_of_the_interpolator(x, y, scale, angle, holes, order, seed):
    plane = sky(seed=seed)
    rng = np.random.default_rng(seed)
    plane[rng.random(plane.shape) < holes] = np.nan
    plane[:, :rng.integers(0, 30)] = np.nan
    plane[rng.random(plane.shape) < 0.1] *= 0
    control, matrices, points = affine((16, 24), x, y, scale, angle)
    data = np.empty((1, 16, 24), np.float32)
    counts = resample(plane, control, *matrices, data, order=order)
    expected = Interpolator(plane, order=order)(*points)
    np.testing.assert_allclose(data[0], expected, atol=2 * ROUNDING)  # NaN where and only where expected
    inside = (points[0] > -0.5) & (points[1] > -0.5) & (points[0] < 79.5) & (points[1] < 89.5)
    nearest = plane[tuple(np.rint(points[::-1, inside]).astype(int))]
    assert counts.tolist() == [[np.isfinite(expected).sum(), np.isfinite(nearest).sum(), (nearest == 0).sum()]]


def test_the_nearest_pixel_fills():
    # One missing pixel is filled by the nearest; of four at one distance by the left one, as scipy does. A linear
    # interpolation that touches it with less than a thousandth of its weight shows by what.
    plane = sky((9, 9))
    plane[4, 4] = np.nan
    for order in (1, 3):
        points = np.array([[[[4.0]], [[2.9999]]]])
        data = np.empty((1, 1, 1), np.float32)
        resample(plane, points, None, None, data, order=order)
        filled = plane.copy()
        filled[4, 4] = plane[4, 3]
        expected = ndimage.map_coordinates(filled.astype(float), [[2.9999], [4.0]], order=order, mode="mirror")
        np.testing.assert_allclose(data[0, 0], expected, atol=ROUNDING)


def test_nowhere_is_nan():
    data = np.empty((2, 12, 12), np.float32)
    control = np.full((2, 2, 5, 5), np.nan)
    control[1] = 1e9
    assert resample(sky(), control, *polynomials((12, 12)), data).tolist() == [[0, 0, 0]] * 2
    assert np.isnan(data).all()


def test_a_grid_that_sees_a_large_image_is_done_alone():
    # Two grids of pixels 80 times those of the image: each sees all of it.
    plane = np.broadcast_to(np.arange(1000, dtype=np.float32), (1000, 1000)).copy()
    control, matrices, points = affine((12, 12), 499.5, 499.5, 80.0)
    data = np.empty((2, 12, 12), np.float32)
    resample(plane, np.concatenate([control] * 2), *matrices, data)
    np.testing.assert_allclose(data, [points[0]] * 2, atol=0.01)
