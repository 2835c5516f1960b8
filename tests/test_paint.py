"""The painter: elliptical Gaussians on images, against the formula written out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st

from halopy.errors import HaloInputError
from halopy.image import Beam
from halopy.simulate.paint import RADIUS, paint, paint_components
from halopy.simulate.shapes import COMPONENT, components

CUT = np.exp(-RADIUS**2 / 2)
BEAM = Beam(133 * u.arcsec, 122 * u.arcsec, 40 * u.deg)
SCALE = 28.0


def gaussian(shape, x, y, flux, covariance):
    """The formula, pixel by pixel."""
    dy, dx = np.indices(shape) - np.array([y, x])[:, None, None]
    a, b, _, d = np.linalg.inv(covariance).ravel()
    return flux * np.exp(-0.5 * (a * dx**2 + 2 * b * dx * dy + d * dy**2))


def matrix(major, minor, angle):
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return axes @ np.diag([major**2, minor**2]) @ axes.T


def painted(shape, x, y, flux, covariance):
    pixels = np.zeros((1, *shape), np.float32)
    paint(pixels, np.zeros(np.size(x), int), x, y, flux, covariance[0, 0], covariance[0, 1], covariance[1, 1])
    return pixels[0]


def gaussians(n=1, **columns):
    rows = np.zeros(n, COMPONENT)
    for name, values in columns.items():
        rows[name] = values
    return rows


@settings(max_examples=120)
@given(x=st.floats(-30, 70), y=st.floats(-30, 60), flux=st.floats(-10, 10), major=st.floats(0.3, 40),
       ratio=st.floats(0.02, 1), angle=st.floats(0, np.pi))
def test_it_is_the_formula(x, y, flux, major, ratio, angle):
    """Elliptical, turned, between pixels, across the edge; left out is 2.7e-7 of the centre, and what float32 lacks."""
    covariance = matrix(major, max(major * ratio, 0.1), angle)
    expected = gaussian((31, 40), x, y, flux, covariance)
    np.testing.assert_allclose(painted((31, 40), [x], [y], [flux], covariance), expected,
                               rtol=2e-7, atol=abs(flux) * 1.05 * CUT + 1e-37)


def test_the_value_at_the_centre_is_the_flux():
    assert painted((9, 9), [4], [3], [2.5], matrix(2, 1, 0.4))[3, 4] == 2.5


@pytest.mark.parametrize("angle", [0, 0.5, np.pi / 2])
def test_multiplying_along_a_row_loses_nothing_over_thousands_of_pixels(angle):
    covariance = matrix(700, 200, angle)
    expected = gaussian((41, 4001), 2010.3, 19.8, 1, covariance)
    np.testing.assert_allclose(painted((41, 4001), [2010.3], [19.8], [1], covariance), expected, rtol=1e-7, atol=CUT)


def test_a_gaussian_far_smaller_than_a_pixel_is_seen_at_its_own_pixel_only():
    pixels = painted((5, 5), [2], [2], [1], matrix(0.01, 0.001, 0.3))
    assert pixels[2, 2] == 1
    assert pixels.sum() == 1
    assert painted((5, 5), [2.5], [2.5], [1], matrix(0.01, 0.001, 0.3)).sum() == 0


@pytest.mark.parametrize("far", [1e5, 1e12, 1e300])
@pytest.mark.parametrize("place", [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1)])
def test_a_gaussian_far_away_touches_nothing(far, place):
    assert not painted((8, 8), [far * place[0]], [far * place[1]], [1], matrix(3, 2, 0.3)).any()


def test_a_gaussian_outside_contributes_its_wing():
    assert painted((8, 8), [-4], [3], [1], matrix(2, 2, 0))[3, 0] == pytest.approx(np.exp(-2), rel=1e-6)


def test_gaussians_add_up_on_the_images_they_are_for():
    pixels = np.full((3, 20, 20), 0.5, np.float32)
    paint(pixels, [2, 0, 2], [3, 9, 11], [4, 8, 12.5], [1, 2, 3], 4, 1, 3)
    covariance = np.array([[4, 1], [1, 3]])
    np.testing.assert_allclose(pixels[0], 0.5 + gaussian((20, 20), 9, 8, 2, covariance), atol=1e-6)
    assert (pixels[1] == 0.5).all()
    expected = gaussian((20, 20), 3, 4, 1, covariance) + gaussian((20, 20), 11, 12.5, 3, covariance)
    np.testing.assert_allclose(pixels[2], 0.5 + expected, atol=2e-6)


def test_no_gaussians_are_no_change():
    pixels = np.ones((1, 4, 4), np.float32)
    paint(pixels, [], [], [], [], [], [], [])
    paint_components(pixels, gaussians(0), [], [], [], np.eye(2), 1)
    assert (pixels == 1).all()


def test_the_same_input_gives_the_same_bytes():
    rng = np.random.default_rng(3)
    numbers = rng.uniform(0, 30, (3, 500))
    first, second = np.zeros((2, 4, 30, 30), np.float32)
    for pixels in (first, second):
        paint(pixels, np.arange(500) % 4, *numbers, 5, 1, 3)
    assert first.tobytes() == second.tobytes()


def test_columns_of_a_table_and_read_only_arrays_are_taken():
    table = np.zeros(2, [("row", int), ("x", float), ("y", float)])
    table["x"] = 3, 5
    fixed = np.ones(2)
    fixed.flags.writeable = False
    pixels = np.zeros((1, 9, 9), np.float32)
    paint(pixels, table["row"], table["x"], table["y"], fixed, 1, 0, 1)
    assert pixels[0, 0, 3] == pytest.approx(1 + np.exp(-2))


@pytest.mark.parametrize("pixels", [np.zeros((1, 4, 4)), np.zeros((4, 4), np.float32), [[[0.0]]],
                                    np.zeros((1, 4, 8), np.float32)[:, :, ::2],
                                    np.broadcast_to(np.float32(0), (1, 4, 4))], ids=range(5))
def test_images_that_cannot_be_painted_on(pixels):
    with pytest.raises(HaloInputError, match="pixels must be a writeable, C-contiguous float32 array of three axes"):
        paint(pixels, [0], [0], [0], [1], 1, 0, 1)


@pytest.mark.parametrize("row", [-1, 2])
def test_an_image_that_is_not_there(row):
    pixels = np.zeros((2, 4, 4), np.float32)
    with pytest.raises(HaloInputError, match=f"row must be 0 to 1 .*{row}"):
        paint(pixels, [row], [0], [0], [1], 1, 0, 1)
    with pytest.raises(HaloInputError, match=f"row must be 0 to 1 .*{row}"):
        paint_components(pixels, gaussians(), [0], [0], [row], np.eye(2), 1)


def test_numbers_that_do_not_fit():
    pixels = np.zeros((1, 4, 4), np.float32)
    with pytest.raises(HaloInputError, match="row must have one axis"):
        paint(pixels, 0, 0, 0, 1, 1, 0, 1)
    with pytest.raises(HaloInputError, match=r"cxx must hold one number, or one a Gaussian: 2 \(found 'shape \(3,\)'"):
        paint(pixels, [0, 0], 0, 0, 1, [1, 1, 1], 0, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["x", "y", "flux", "cxx", "cxy", "cyy"])
def test_numbers_that_are_not_finite(name, value):
    numbers = {"x": 0, "y": 0, "flux": 1, "cxx": 1, "cxy": 0, "cyy": 1} | {name: value}
    with pytest.raises(HaloInputError, match=f"^{name} must be finite"):
        paint(np.zeros((1, 4, 4), np.float32), [0], **numbers)


@pytest.mark.parametrize("covariance", [(0, 0, 0), (1, 1, 1), (1, 2, 1), (-1, 0, -1), (1e200, 0, 1e200)])
def test_a_covariance_that_is_none(covariance):
    with pytest.raises(HaloInputError, match="Gaussian 1: the covariance must be positive definite .*add the beam"):
        paint(np.zeros((1, 4, 4), np.float32), [0, 0], 0, 0, 1, *np.transpose([(1, 0, 1), covariance]))


def test_a_point_is_the_beam_with_its_flux_at_the_centre():
    pixels = np.zeros((1, 64, 64), np.float32)
    covariance = BEAM.covariance(SCALE * u.arcsec)
    paint_components(pixels, gaussians(flux=0.3), [31.4], [30.2], [0], covariance, SCALE)
    np.testing.assert_allclose(pixels[0], gaussian((64, 64), 31.4, 30.2, 0.3, covariance), atol=1e-7)


@settings(max_examples=30)
@given(east=st.floats(-100, 100), north=st.floats(-100, 100), major=st.floats(0, 150), ratio=st.floats(0, 1),
       angle=st.floats(0, np.pi))
def test_convolution_keeps_flux_place_and_adds_covariances(east, north, major, ratio, angle):
    """Moments of the painted picture: those of the sky (east is -x) and of the beam."""
    c = matrix(major, major * ratio, angle)
    beam = BEAM.covariance(SCALE * u.arcsec)
    pixels = np.zeros((1, 128, 130), np.float32)
    row = gaussians(flux=2, east=east, north=north, cee=c[0, 0], cen=c[0, 1], cnn=c[1, 1])
    paint_components(pixels, row, [65.2], [63.1], [0], beam, SCALE)
    picture = pixels[0].astype(float)
    y, x = np.indices(picture.shape)
    assert picture.sum() / BEAM.area_pixels(SCALE * u.arcsec) == pytest.approx(2, rel=1e-5)
    mean_x, mean_y = (np.average(axis, weights=picture) for axis in (x, y))
    assert mean_x == pytest.approx(65.2 - east / SCALE, abs=1e-3)
    assert mean_y == pytest.approx(63.1 + north / SCALE, abs=1e-3)
    moments = np.cov([x.ravel(), y.ravel()], aweights=picture.ravel(), ddof=0)
    np.testing.assert_allclose(moments, beam + [[1, -1], [-1, 1]] * c / SCALE**2, atol=2e-3 * np.trace(moments))


def test_each_image_has_its_beam_and_pixel_scale():
    scales = np.array([20.0, 40.0])
    beams = [BEAM, Beam(200 * u.arcsec)]
    covariances = [beam.covariance(scale * u.arcsec) for beam, scale in zip(beams, scales, strict=True)]
    halo = components({"class": ["halo"] * 3, "flux": [1, 2, 4], "r_e": 60, "axis_ratio": 0.6, "pa": 30})
    place = [40, 31, 33], [30, 30.5, 31], [1, 0, 1]
    together = np.zeros((2, 64, 70), np.float32)
    paint_components(together, halo, *place, covariances, scales)
    for image in range(2):
        alone = np.zeros((1, 64, 70), np.float32)
        some = np.isin(halo["source"], np.flatnonzero(np.array(place[2]) == image))
        paint_components(alone, halo[some], *place[:2], [0, 0, 0], covariances[image], scales[image])
        assert (alone[0] == together[image]).all()


def test_north_up_is_what_the_pixel_scale_means():
    sources = components({"class": ["relic", "halo"], "flux": 1, "length": 300, "r_e": 80, "axis_ratio": 0.3, "pa": 70})
    pictures = np.zeros((2, 1, 64, 64), np.float32)
    covariance = BEAM.covariance(SCALE * u.arcsec)
    paint_components(pictures[0], sources, [20, 40], [30, 33], [0, 0], covariance, SCALE)
    paint_components(pictures[1], sources, [20, 40], [30, 33], [0, 0], covariance,
                     jacobian=np.diag([-1 / SCALE, 1 / SCALE]))
    np.testing.assert_array_equal(*pictures)


def test_turned_and_mirrored_images_show_the_same_sky():
    """North to the left, and east to the right: the same picture, turned or mirrored."""
    sources = components({"class": ["relic"], "flux": 1, "length": 300, "axis_ratio": 0.3, "pa": 70, "seed": 4})
    beam = Beam(120 * u.arcsec).covariance(SCALE * u.arcsec)
    up, left, mirrored = np.zeros((3, 1, 65, 65), np.float32)
    paint_components(up, sources, 32, 32, 0, beam, SCALE)
    paint_components(left, sources, 32, 32, 0, beam, jacobian=np.array([[0, -1], [-1, 0]]) / SCALE)
    paint_components(mirrored, sources, 32, 32, 0, beam, jacobian=np.eye(2) / SCALE)
    np.testing.assert_allclose(mirrored[0], up[0, :, ::-1], atol=1e-6)
    # East is down where north is to the left: (x, y) of the first picture is (y, -x) of the second.
    np.testing.assert_allclose(left[0], up[0].T[:, ::-1], atol=1e-6)


def test_sources_that_do_not_fit_their_gaussians():
    pixels, beam = np.zeros((2, 4, 4), np.float32), np.eye(2)
    with pytest.raises(HaloInputError, match="x, y and row must hold one number a source"):
        paint_components(pixels, gaussians(), [0, 1], [0], [0], beam, 1)
    for source in (-1, 1):
        with pytest.raises(HaloInputError, match="the components are those of other sources than these 1"):
            paint_components(pixels, gaussians(source=source), [0], [0], [0], beam, 1)


def test_beams_and_scales_that_cannot_be():
    pixels = np.zeros((2, 4, 4), np.float32)
    point = gaussians(flux=1), [0], [0], [0]
    with pytest.raises(HaloInputError, match=r"beam_covariance must have shape \(2, 2\) or \(2, 2, 2\)"):
        paint_components(pixels, *point, np.ones((3, 2, 2)), 1)
    with pytest.raises(HaloInputError, match="beam_covariance must be positive definite"):
        paint_components(pixels, *point, np.zeros((2, 2)), 1)
    with pytest.raises(HaloInputError, match="covariance must be positive definite"):
        paint_components(pixels, *point, -np.eye(2), 1)
    with pytest.raises(HaloInputError, match=r"jacobian must have shape"):
        paint_components(pixels, *point, np.eye(2), jacobian=[1, 1])
    for scale in (0, -1, np.nan, np.inf, [1, 1, 1]):
        with pytest.raises(HaloInputError, match="pixel_scale_arcsec must be positive, one or 2"):
            paint_components(pixels, *point, np.eye(2), scale)
    for both in ({}, {"pixel_scale_arcsec": 1, "jacobian": np.eye(2)}):
        with pytest.raises(HaloInputError, match="give either pixel_scale_arcsec or jacobian"):
            paint_components(pixels, *point, np.eye(2), **both)


def test_numba_waits_until_something_is_painted():
    code = ("import sys, halopy, halopy.simulate, halopy.simulate.shapes as s; "
            "s.components({'class': ['halo'], 'flux': [1], 'r_e': [1]}); print('numba' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
