"""Models of halos in the u-v plane: closed forms against integrals, and how well few Gaussians do."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import j0

from halopy.errors import HaloInputError
from halopy.uvshapelets.basis import ShapeletBasis
from halopy.uvshapelets.templates import ExponentialHalo, GaussianHalo, GaussianLadder, phase

HALOS = [ExponentialHalo(2 * u.arcmin, axis_ratio=0.6, pa=35 * u.deg), GaussianHalo(5 * u.arcmin, pa=70 * u.deg),
         GaussianLadder(2 * u.arcmin, axis_ratio=0.5, pa=100 * u.deg)]


@pytest.mark.parametrize("q", [0.0, 0.1, 0.5, 2.0])
def test_the_exponential_is_the_hankel_transform(q):
    """∫ exp(−r) J0(2πqr) 2πr dr / 2π, in units of r_e."""
    halo = ExponentialHalo(1e-3 * u.rad)
    expected = quad(lambda r: np.exp(-r) * j0(2 * np.pi * q * r) * r, 0, 60, limit=500)[0]
    assert halo.visibility([q * 1e3], [0.0])[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("halo", [GaussianHalo(5 * u.arcmin, 0.5, 35 * u.deg, (2e-3, -1e-3)),
                                  GaussianLadder(2 * u.arcmin, 2, 0.6, 120 * u.deg, (2e-3, -1e-3))])
def test_the_visibility_is_the_sum_over_the_image(halo):
    """The trapezoidal rule over a Gaussian is exact: shape, position angle, shift and sign of the phase."""
    axis = np.arange(-0.012, 0.012, 6e-5)
    x, y = np.meshgrid(axis, axis)
    image = halo.image(x, y) * 6e-5**2
    for point in ((0, 0), (150, 40), (-80, 210)):
        expected = np.sum(image * np.exp(-2j * np.pi * (point[0] * x + point[1] * y)))
        assert halo.visibility([point[0]], [point[1]])[0] == pytest.approx(expected, abs=1e-9)


def test_the_major_axis_lies_along_the_position_angle():
    """From north through east: at 90 deg the halo is long in l, and its visibilities fall faster along u."""
    halo = ExponentialHalo(2 * u.arcmin, axis_ratio=0.5, pa=90 * u.deg)
    assert halo.image(1e-3, 0) > halo.image(0, 1e-3)
    along, across = halo.visibility([200, 0], [0, 200]).real
    assert along < across


@pytest.mark.parametrize("halo", HALOS)
def test_the_flux_is_in_the_image(halo):
    axis = np.arange(-0.03, 0.03, 6e-5)
    x, y = np.meshgrid(axis, axis)
    assert halo.image(x, y).sum() * 6e-5**2 == pytest.approx(halo.visibility([0.0], [0.0])[0].real, rel=2e-3)


# Residual energy and flux of the best n Gaussians, to the digits that a separate minimisation gave.
LADDERS = [(1, 3.8e-2, 0.806), (2, 3.1e-3, 0.945), (3, 3.6e-4, 0.981), (4, 5.5e-5, 0.993), (5, 9.8e-6, 0.997)]


@pytest.mark.parametrize(("n", "energy", "flux"), LADDERS)
def test_the_ladder_is_the_best_there_is(n, energy, flux):
    """The squared difference, integrated over the u-v plane, relative to that of the exponential: to two digits."""
    q = np.geomspace(1e-3, 300, 20001) / (2 * np.pi)
    ladder, exponential = (halo.visibility(q * 1e3, 0 * q).real for halo in
                           (GaussianLadder(1e-3 * u.rad, n), ExponentialHalo(1e-3 * u.rad)))
    found = np.trapezoid((ladder - exponential) ** 2 * q, q) / np.trapezoid(exponential**2 * q, q)
    assert found == pytest.approx(energy, rel=0.015)
    assert GaussianLadder(1e-3 * u.rad, n).flux_fraction == pytest.approx(flux, abs=6e-4)


# Orders, scale in r_e, residual energy and flux of one-scale shapelets, likewise; the best scale is a flat optimum.
SHAPELETS = [(0, 1.16, 3.8e-2, 0.806), (4, 1.07, 7.5e-3, 0.914), (10, 1.00, 2.5e-3, 0.950), (20, 0.87, 3.5e-4, 0.981),
             (40, 0.75, 5.5e-5, 0.993)]


@pytest.mark.parametrize(("n_max", "beta", "energy", "flux"), SHAPELETS)
def test_shapelets_of_one_scale_need_many_orders_for_an_exponential(n_max, beta, energy, flux):
    basis = ShapeletBasis(n_max, beta * u.rad, kind="monopole")
    r = np.arange(0, 40, 2e-3)
    functions = basis.image(r, 0 * r)
    profile = np.exp(-r) / (2 * np.pi)
    coefficients = 2 * np.pi * np.trapezoid((profile * r)[:, None] * functions, r, axis=0)
    assert 1 - 8 * np.pi * coefficients @ coefficients == pytest.approx(energy, rel=0.1)
    assert basis.flux(coefficients) == pytest.approx(flux, abs=3e-3)


def test_the_gaussian_is_a_shapelet_with_its_w_term():
    """Order 0 of a basis of scale σ: ∫ B dl dm = 2√π σ."""
    sigma = 3 * u.arcmin
    basis = ShapeletBasis(0, sigma)
    east, north, w = np.array([10.0, 200.0]), np.array([-30.0, 90.0]), np.array([4000.0, 60000.0])
    halo = GaussianHalo(sigma * np.sqrt(8 * np.log(2)))
    expected = basis.visibility(east, north, w)[:, 0] / (2 * np.sqrt(np.pi) * sigma.to_value(u.rad))
    assert np.allclose(halo.visibility(east, north, w), expected, atol=1e-13)
    assert abs(halo.visibility(east, north, w)[1] - halo.visibility(east, north)[1]) > 0.01


def test_the_phase_of_a_point_is_exact_far_from_the_centre():
    x, y = 0.5, -0.6
    expected = np.exp(-2j * np.pi * (30 * x - 4 * y + 50 * (np.sqrt(1 - x**2 - y**2) - 1)))
    assert phase(30, -4, 50, x, y) == pytest.approx(expected, abs=1e-12)
    assert phase(30, -4, None, x, y) == pytest.approx(np.exp(-2j * np.pi * (30 * x - 4 * y)), abs=1e-12)


def test_a_shift_is_a_phase():
    halo, moved = ExponentialHalo(2 * u.arcmin), ExponentialHalo(2 * u.arcmin, centre=(1e-3, 2e-3))
    expected = halo.visibility([100.0], [50.0]) * phase(100, 50, 300, 1e-3, 2e-3)
    assert moved.visibility([100.0], [50.0], np.array([300.0])) == pytest.approx(expected, abs=1e-14)
    assert moved.image(1e-3, 2e-3) == halo.image(0, 0)


@pytest.mark.parametrize("halo", HALOS)
@given(east=st.floats(-1e4, 1e4), north=st.floats(-1e4, 1e4))
def test_the_sky_is_real_and_nowhere_brighter_than_its_flux(halo, east, north):
    """V(−u) = V(u)*, |V(u)| ≤ V(0) for brightness that is not negative."""
    there, back = halo.visibility([east, -east], [north, -north])
    assert there == pytest.approx(np.conj(back))
    assert abs(there) <= halo.visibility([0.0], [0.0])[0].real * (1 + 1e-12)


def test_what_cannot_be_a_halo():
    with pytest.raises(HaloInputError, match="r_e must be an angle"):
        ExponentialHalo(120)
    with pytest.raises(HaloInputError, match="fwhm must be one positive angle"):
        GaussianHalo(-1 * u.arcmin)
    with pytest.raises(HaloInputError, match="r_e must be one positive angle"):
        GaussianLadder([1, 2] * u.arcmin)
    with pytest.raises(HaloInputError, match="axis_ratio must lie in"):
        ExponentialHalo(1 * u.arcmin, axis_ratio=0.0)
    with pytest.raises(HaloInputError, match="centre must be two direction cosines"):
        ExponentialHalo(1 * u.arcmin, centre=(1.0, 1.0))
    with pytest.raises(HaloInputError, match="a ladder has 1 to 6 Gaussians"):
        GaussianLadder(1 * u.arcmin, n=7)
