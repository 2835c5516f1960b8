"""The exponential halo: its flux, profile, transform and place."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import BEAM, PIXEL, point_source

from halopy.errors import HaloInputError
from halopy.image import Beam
from halopy.simulate.diffuse import FLUX_WITHIN_3RE, exponential_halo

ROUND = Beam(120 * u.arcsec)


def flux(halo, beam, pixel_scale=PIXEL):
    return halo.sum() / beam.area_pixels(pixel_scale)


@pytest.mark.parametrize("beam", [ROUND, BEAM, Beam(200 * u.arcsec, 100 * u.arcsec, 60 * u.deg)], ids=repr)
@pytest.mark.parametrize("r_e", [0, 1, 60, 200] * u.arcsec)
def test_the_total_flux_is_one(beam, r_e):
    """e^-12 (1 + 12) = 8e-5 of the flux lies beyond 12 r_e."""
    assert flux(exponential_halo(beam, PIXEL, (301, 300), r_e), beam) == pytest.approx(1, abs=1e-3)


def test_four_fifths_of_the_flux_lie_within_three_radii():
    """1 - 4 e^-3 = 80.1 % (Murgia+ 2009), where the beam is far smaller than the halo."""
    beam = Beam(80 * u.arcsec)
    halo = exponential_halo(beam, PIXEL, (401, 401), 25 * PIXEL)
    y, x = np.indices(halo.shape) - 200
    assert halo[np.hypot(x, y) <= 75].sum() / beam.area_pixels(PIXEL) == pytest.approx(0.8009, abs=0.003)
    assert FLUX_WITHIN_3RE == pytest.approx(0.80085, abs=1e-5)


def test_the_profile_is_exponential_outside_the_beam():
    """I(r) = S / (2 pi r_e^2) exp(-r / r_e) once the beam is far smaller than r_e."""
    beam, radius = Beam(80 * u.arcsec), 25
    halo = exponential_halo(beam, PIXEL, (401, 401), radius * PIXEL)
    r = np.arange(20, 120, 10)
    expected = beam.area_pixels(PIXEL) / (2 * np.pi * radius**2) * np.exp(-r / radius)
    np.testing.assert_allclose(halo[200, 200 + r], expected, rtol=5e-3)
    np.testing.assert_allclose(halo[200 + r, 200], expected, rtol=5e-3)


@pytest.mark.parametrize("r_e", [30, 90, 240] * u.arcsec)
def test_its_transform(r_e):
    """V(q) = (1 + (2 pi r_e q)^2)^-1.5 times the beam's exp(-2 pi^2 q C q)."""
    n = 400
    halo = exponential_halo(BEAM, PIXEL, (n, n), r_e, x=n // 2, y=n // 2)
    transform = np.fft.fft2(np.fft.ifftshift(halo)) / BEAM.area_pixels(PIXEL)
    q = np.fft.fftfreq(n)
    v, w = q[:, None], q[None]
    c = BEAM.covariance(PIXEL)
    beam = np.exp(-2 * np.pi**2 * (c[0, 0] * w**2 + c[1, 1] * v**2 + 2 * c[0, 1] * w * v))
    expected = (1 + (2 * np.pi * (r_e / PIXEL).to_value(u.one)) ** 2 * (v**2 + w**2)) ** -1.5 * beam
    np.testing.assert_allclose(transform.real, expected, atol=2e-3)
    np.testing.assert_allclose(transform.imag, 0, atol=2e-3)


def test_it_is_the_convolution_of_an_exponential_with_the_beam():
    """The same, by brute force: a sky sampled 8 times finer, convolved with the elliptical beam."""
    fine, n, r_e = 8, 31, 60 * u.arcsec
    y, x = (np.indices((n * fine, n * fine)) - (n * fine - 1) / 2) / fine
    radius = (r_e / PIXEL).to_value(u.one)
    sky = np.exp(-np.hypot(x, y) / radius) / (2 * np.pi * radius**2 * fine**2)
    centres = [7, 12, 15, 20]
    ours = exponential_halo(BEAM, PIXEL, (n, n), r_e)
    for j in centres:
        for i in centres:
            beam = point_source(sky.shape, (i + 0.5) * fine - 0.5, (j + 0.5) * fine - 0.5, pixel_scale=PIXEL / fine)
            assert ours[j, i] == pytest.approx((sky * beam).sum(), rel=0.01, abs=1e-5)


@settings(max_examples=25)
@given(x=st.floats(90, 110), y=st.floats(90, 110), radius=st.floats(0, 6))
def test_a_centre_between_the_pixels_moves_the_halo_and_keeps_its_flux(x, y, radius):
    halo = exponential_halo(BEAM, PIXEL, (201, 201), radius * PIXEL, x=x, y=y)
    assert flux(halo, BEAM) == pytest.approx(1, abs=2e-3)
    rows, columns = np.indices(halo.shape)
    assert (halo * columns).sum() / halo.sum() == pytest.approx(x, abs=0.05)
    assert (halo * rows).sum() / halo.sum() == pytest.approx(y, abs=0.05)


def test_a_shift_by_whole_pixels_is_exact():
    still = exponential_halo(BEAM, PIXEL, (101, 101), 90 * u.arcsec)
    moved = exponential_halo(BEAM, PIXEL, (101, 101), 90 * u.arcsec, x=57, y=44)
    np.testing.assert_allclose(moved[10:80, 20:90], still[16:86, 13:83], atol=1e-6)


def test_the_default_centre_is_the_middle_of_the_image():
    for shape in ((40, 61), (41, 60)):
        halo = exponential_halo(ROUND, PIXEL, shape, 90 * u.arcsec)
        np.testing.assert_allclose(halo, halo[::-1], atol=1e-12)
        np.testing.assert_allclose(halo, halo[:, ::-1], atol=1e-12)
        np.testing.assert_allclose(
            halo, exponential_halo(ROUND, PIXEL, shape, 90 * u.arcsec, x=(shape[1] - 1) / 2, y=(shape[0] - 1) / 2))


@pytest.mark.parametrize("beam", [ROUND, BEAM], ids=repr)
def test_a_halo_without_size_is_the_beam(beam):
    halo = exponential_halo(beam, PIXEL, (61, 50), 0 * u.arcsec, x=24.3, y=31.8)
    np.testing.assert_allclose(halo, point_source((61, 50), 24.3, 31.8, beam=beam), atol=1e-4)


def test_a_halo_is_nowhere_negative_and_falls_outwards():
    halo = exponential_halo(ROUND, PIXEL, (151, 151), 120 * u.arcsec)
    assert halo.min() > -1e-6
    assert (np.diff(halo[75, 75:]) <= 1e-9).all()


def test_what_is_far_outside_does_not_come_back():
    halo = exponential_halo(ROUND, PIXEL, (100, 100), 120 * u.arcsec, x=0, y=50)
    assert halo[:, 60:].max() < 1e-4 * halo.max()


@pytest.mark.parametrize("r_e", [-1, np.nan, np.inf] * u.arcsec)
def test_a_radius_that_cannot_be(r_e):
    with pytest.raises(HaloInputError, match="r_e must be a finite angle, not negative .*arcsec"):
        exponential_halo(BEAM, PIXEL, (10, 10), r_e)
