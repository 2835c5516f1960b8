"""Shapelets: what the mathematics demands of them on the sky and in the u-v plane (Refregier 2003, MNRAS 338, 35)."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st

from halopy.errors import HaloInputError, HalopyWarning
from halopy.uvshapelets.basis import ShapeletBasis
from halopy.uvshapelets.hermite import diffracted
from halopy.uvshapelets.polar import polar_block, turn

KINDS = ["cartesian", "monopole", "polar"]
ARCMIN = np.radians(1 / 60)


def elliptical(n_max=6, kind="cartesian", **changes):
    settings = {"beta": 3 * u.arcmin, "beta_minor": 2 * u.arcmin, "pa": 30 * u.deg} | changes
    return ShapeletBasis(n_max, settings.pop("beta"), kind=kind, **settings)


def drawn(basis, seed=0):
    return np.random.default_rng(seed).normal(size=basis.size)


def baselines(n=300, scale=300, seed=1):
    return np.random.default_rng(seed).normal(0, scale, (2, n))


def sky(extent=33 * ARCMIN, n=301):
    """Equal steps over all that the shapelets fill: sums over it are integrals to rounding."""
    axis = np.linspace(-extent, extent, n)
    east, north = np.meshgrid(axis, axis)
    return east.ravel(), north.ravel(), (axis[1] - axis[0]) ** 2


def transform(brightness, u, v, phase=0.0):
    """∫ I exp(−2πi(ul + vm)) dl dm exp(phase), by summation."""
    east, north, area = sky()
    return np.array([np.sum(brightness * np.exp(-2j * np.pi * (a * east + b * north) + p)) * area
                     for a, b, p in zip(u, v, np.broadcast_to(phase, (len(u), east.size)), strict=True)])


# ------------------------------------------------------------------------------------------- on the sky and in u-v

@pytest.mark.parametrize("kind", KINDS)
def test_shapelets_are_orthonormal_on_the_sky(kind):
    basis = elliptical(9, kind)
    east, north, area = sky()
    functions = basis.image(east, north)
    assert functions.shape == (east.size, basis.size) == (east.size, len(basis.orders))
    np.testing.assert_allclose(functions.T @ functions * area, np.eye(basis.size), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_visibilities_are_the_transform_of_the_sky(kind):
    basis = elliptical(9, kind)
    uv = baselines(12)
    ours = basis.visibility(*uv)
    functions = basis.image(*sky()[:2])
    for k in range(0, basis.size, 7):
        np.testing.assert_allclose(ours[:, k], transform(functions[:, k], *uv), rtol=0, atol=1e-13)


def test_visibilities_are_the_ffts_of_pixels():
    """np.fft has exp(−2πi...): the sign of ours."""
    basis = elliptical(8)
    n, extent = 256, 50 * ARCMIN
    step = 2 * extent / n
    axis = (np.arange(n) - n // 2) * step
    east, north = np.meshgrid(axis, axis, indexing="ij")
    coefficients = drawn(basis)
    brightness = basis.image(east, north) @ coefficients
    fft = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(brightness))) * step**2
    uv = np.meshgrid(*[np.fft.fftshift(np.fft.fftfreq(n, step))] * 2, indexing="ij")
    ours = basis.predict(coefficients, uv[0].ravel(), uv[1].ravel()).reshape(n, n)
    np.testing.assert_allclose(ours, fft, rtol=0, atol=1e-12 * np.abs(fft).max())


def test_the_sign_of_odd_orders():
    """A source to the east turns the phase to −2πul: a code with (+i)^n has it in the west."""
    basis = ShapeletBasis(1, 1 * u.arcmin)
    first = np.zeros(3)
    first[basis.orders.tolist().index([0, 1])] = 1.0
    assert basis.image([1 * ARCMIN], [0.0])[0] @ first > 0
    assert basis.image([0.0], [1 * ARCMIN])[0] @ first == pytest.approx(0)
    value = basis.predict(first, [500.0], [0.0])[0]
    assert value.imag < 0 and value.real == 0


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_and_adjoint_are_those_of_the_matrix(kind):
    basis = elliptical(7, kind)
    uv = baselines()
    w = baselines(seed=2)[0] * 3
    vis = np.random.default_rng(4).normal(size=(300, 2)) @ [1, 1j]
    for more in ({}, {"w": w}, {"w": w, "pb_sigma": 1 * u.deg}, {"pb_sigma": 1 * u.deg}):
        matrix = basis.visibility(*uv, **more)
        coefficients = drawn(basis)
        np.testing.assert_allclose(basis.predict(coefficients, *uv, **more), matrix @ coefficients, atol=1e-15)
        np.testing.assert_allclose(basis.adjoint(vis, *uv, **more), (matrix.conj().T @ vis).real, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_sky_has_hermitian_visibilities_of_one_parity(kind):
    basis = elliptical(7, kind)
    uv = baselines()
    visibility = basis.visibility(*uv)
    np.testing.assert_array_equal(basis.visibility(*-uv), visibility.conj())
    odd = basis.orders[:, 0] % 2 == 1 if kind != "cartesian" else basis.orders.sum(axis=1) % 2 == 1
    assert np.all(visibility[:, odd].real == 0) and np.all(visibility[:, ~odd].imag == 0)


def test_a_gaussian_is_one_coefficient():
    basis = ShapeletBasis(20, 2 * u.arcmin)
    east, north, area = sky(24 * ARCMIN, 151)
    gaussian = np.exp(-(east**2 + north**2) / (2 * (2 * ARCMIN) ** 2)) / (2 * np.pi * (2 * ARCMIN) ** 2)
    projected = basis.image(east, north).T @ gaussian * area
    expected = 1 / (2 * np.sqrt(np.pi) * 2 * ARCMIN)
    np.testing.assert_allclose(projected / expected, np.eye(basis.size)[0], atol=1e-13)
    assert basis.flux(projected) == pytest.approx(1, abs=1e-13)
    # And in u-v: the Gaussian's own transform.
    uv = baselines()
    np.testing.assert_allclose(basis.predict(projected, *uv),
                               np.exp(-2 * np.pi**2 * (2 * ARCMIN) ** 2 * (uv**2).sum(axis=0)), atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_energy_is_the_same_in_all_three_places(kind):
    basis = elliptical(6, kind)
    coefficients = drawn(basis)
    east, north, area = sky()
    axis = np.linspace(-2200, 2200, 451)
    uv = [a.ravel() for a in np.meshgrid(axis, axis)]
    energy = np.sum(coefficients**2)
    assert np.sum((basis.image(east, north) @ coefficients) ** 2) * area == pytest.approx(energy, rel=1e-12)
    vis = basis.predict(coefficients, *uv)
    assert np.sum(np.abs(vis) ** 2) * (axis[1] - axis[0]) ** 2 == pytest.approx(energy, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_flux_centre_and_size_are_integrals(kind, seed):
    basis = elliptical(6, kind)
    coefficients = 0.3 * drawn(basis, seed)
    coefficients[0] = 12.0
    east, north, area = sky()
    brightness = basis.image(east, north) @ coefficients
    flux = brightness.sum() * area
    centre = np.array([(brightness * axis).sum() for axis in (east, north)]) * area / flux
    r2 = (brightness * ((east - centre[0]) ** 2 + (north - centre[1]) ** 2)).sum() * area / flux
    assert basis.flux(coefficients) == pytest.approx(flux, rel=1e-12)
    assert basis.predict(coefficients, [0.0], [0.0])[0] == pytest.approx(flux, rel=1e-12)
    np.testing.assert_allclose(basis.centroid(coefficients).to_value(u.rad), centre, atol=1e-12 * 3 * ARCMIN)
    assert basis.size_of(coefficients).to_value(u.rad) ** 2 == pytest.approx(r2, rel=1e-11)


def test_a_shape_that_cannot_be_has_no_size():
    basis = ShapeletBasis(2, 1 * u.arcmin, kind="monopole")
    # A Gaussian minus a wider ring of less than its flux.
    assert np.isnan(basis.size_of([1.0, -0.6]))
    with pytest.raises(HaloInputError, match="coefficients of no flux have no centre and no size"):
        basis.centroid([0.0, 0.0])


# ----------------------------------------------------------------------------------------------- turning

@pytest.mark.parametrize("n", [0, 1, 2, 7, 40, 150])
def test_polar_shapelets_are_a_turn_of_the_cartesian_ones(n):
    block = polar_block(n)
    np.testing.assert_allclose(block @ block.T, np.eye(n + 1), atol=1e-12)


def test_polar_shapelets_are_laguerre_functions():
    """χ_{n,m} by scipy's Laguerre polynomials (Massey & Refregier 2005, equation 8)."""
    from scipy.special import eval_genlaguerre, gammaln

    basis = ShapeletBasis(7, 1 * u.rad, kind="polar")
    r, theta = np.random.default_rng(0).uniform([[0], [0]], [[4], [2 * np.pi]], (2, 50))
    # θ is a position angle.
    functions = basis.image(r * np.sin(theta), r * np.cos(theta))
    for k, (n, m) in enumerate(basis.orders):
        few = (n - abs(m)) // 2
        norm = (-1.0) ** few * np.exp(0.5 * (gammaln(few + 1) - gammaln(few + abs(m) + 1))) / np.sqrt(np.pi)
        radial = norm * r ** abs(m) * eval_genlaguerre(few, abs(m), r**2) * np.exp(-r**2 / 2)
        angular = 1 if m == 0 else np.sqrt(2) * (np.cos(m * theta) if m > 0 else np.sin(-m * theta))
        np.testing.assert_allclose(functions[:, k], radial * angular, atol=1e-13)


def test_turning_the_axes_leaves_the_sky_and_the_orders_alone():
    before, after = (ShapeletBasis(8, 2 * u.arcmin, pa=pa * u.deg, kind="polar") for pa in (20, 57))
    coefficients = drawn(before)
    turned = turn(coefficients, 8, np.radians(37))
    east, north = sky(n=21)[:2]
    np.testing.assert_allclose(after.image(east, north) @ turned, before.image(east, north) @ coefficients,
                               atol=1e-10 * 500)
    uv = baselines()
    np.testing.assert_allclose(after.predict(turned, *uv), before.predict(coefficients, *uv), atol=1e-14)
    for n in range(9):
        order = before.orders[:, 0] == n
        assert np.sum(turned[order] ** 2) == pytest.approx(np.sum(coefficients[order] ** 2), rel=1e-13)


@given(st.floats(-7, 7), st.floats(-7, 7))
def test_turns_add_up(first, second):
    coefficients = drawn(ShapeletBasis(6, 1 * u.arcmin, kind="polar"))
    np.testing.assert_allclose(turn(turn(coefficients, 6, first), 6, second), turn(coefficients, 6, first + second),
                               atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_to_and_from_cartesian(kind):
    basis = elliptical(9, kind)
    several = np.random.default_rng(0).normal(size=(3, basis.size))
    np.testing.assert_allclose(basis.from_cartesian(basis.to_cartesian(several)), several, atol=1e-14)
    whole = np.arange(basis.size)
    np.testing.assert_allclose(basis.from_cartesian(basis.to_cartesian(whole)), whole, atol=1e-13)
    uv = baselines()
    np.testing.assert_allclose(basis.cartesian.predict(basis.to_cartesian(several[0]), *uv),
                               basis.predict(several[0], *uv), atol=1e-15)


def test_the_position_angle_runs_from_north_through_east():
    long = ShapeletBasis(0, 10 * u.arcmin, beta_minor=1 * u.arcmin, pa=30 * u.deg)
    r = 8 * ARCMIN
    along = long.image(r * np.sin(np.radians([30, 120, -30])), r * np.cos(np.radians([30, 120, -30])))[:, 0]
    assert along[0] > 100 * along[1] and along[0] > 100 * along[2]


# ----------------------------------------------------------------------------------------------- w and the beam

@pytest.mark.parametrize("kind", KINDS)
def test_w_term_and_primary_beam_are_exact_for_their_phase(kind):
    basis = elliptical(9, kind)
    coefficients = drawn(basis)
    east, north, _ = sky()
    u_, v_ = baselines(8)
    w = np.random.default_rng(5).normal(0, 3000, 8)
    sigma = 0.2 * u.deg
    brightness = basis.image(east, north) @ coefficients
    square = east**2 + north**2
    numerical = transform(brightness * np.exp(-square / (2 * sigma.to_value(u.rad) ** 2)), u_, v_,
                          1j * np.pi * w[:, None] * square)
    ours = basis.predict(coefficients, u_, v_, w, sigma)
    np.testing.assert_allclose(ours, numerical, rtol=0, atol=1e-12 * np.abs(numerical).max())
    # Without a beam, and for a beam as wide as the shapelet itself, where the formula's z is 1.
    numerical = transform(brightness, u_, v_, 1j * np.pi * w[:, None] * square)
    np.testing.assert_allclose(basis.predict(coefficients, u_, v_, w), numerical, rtol=0,
                               atol=1e-12 * np.abs(numerical).max())
    z_is_1 = diffracted(4, [100.0], [0.0], 1e-3, 1e-3)
    assert np.isfinite(z_is_1).all() and np.abs(z_is_1).max() > 0


def test_the_small_field_errs_by_what_the_docs_say():
    """Against n − 1 = √(1 − l² − m²) − 1: below 1e-6 of the flux for scales up to 3 arcmin at |w| of 1e4."""
    basis = ShapeletBasis(12, 3 * u.arcmin)
    coefficients = np.zeros(basis.size)
    coefficients[0] = 1 / basis.flux_vector[0]
    east, north, _ = sky()
    u_, v_ = baselines(5, 150)
    w = np.full(5, 1e4)
    numerical = transform(basis.image(east, north) @ coefficients, u_, v_,
                          -2j * np.pi * w[:, None] * (np.sqrt(1 - east**2 - north**2) - 1))
    np.testing.assert_allclose(basis.predict(coefficients, u_, v_, w), numerical, rtol=0, atol=1e-6)
    assert np.abs(basis.predict(coefficients, u_, v_) - numerical).max() > 1e-3


def test_a_field_too_wide_for_the_formula_is_told():
    wide = ShapeletBasis(2, 20 * u.arcmin)
    with pytest.warns(HalopyWarning, match="the w-term is that of a small field"):
        wide.predict(drawn(wide), [10.0], [10.0], [5000.0])
    wide.predict(drawn(wide), [10.0], [10.0], [1.0])
    elliptical().predict(drawn(elliptical()), [10.0], [10.0], [1e5])


# ----------------------------------------------------------------------------------------------- units and errors

def test_units_change_nothing():
    """rad, arcmin and deg for scales; Quantities on the sky; metres over wavelength for u and v."""
    arcmin = elliptical(4)
    other = ShapeletBasis(4, (3 / 60) * u.deg, beta_minor=2 * ARCMIN * u.rad, pa=np.radians(30) * u.rad)
    u_, v_ = baselines()
    coefficients = drawn(arcmin)
    np.testing.assert_allclose(other.predict(coefficients, u_, v_), arcmin.predict(coefficients, u_, v_), atol=1e-15)
    east, north = sky(n=11)[:2]
    np.testing.assert_allclose(arcmin.image((east * u.rad).to(u.arcsec), (north * u.rad).to(u.deg)),
                               arcmin.image(east, north), rtol=1e-12, atol=1e-12)
    frequency = 154 * u.MHz
    metres = u_ * frequency.to(u.m, u.spectral())
    back = (metres / frequency.to(u.m, u.spectral())).to_value(u.one)
    np.testing.assert_allclose(arcmin.predict(coefficients, back, v_), arcmin.predict(coefficients, u_, v_), atol=1e-14)
    assert arcmin.centroid(coefficients).unit == arcmin.size_of(np.eye(15)[0]).unit == u.arcsec


def test_the_repr_tells_what_it_is():
    assert repr(ShapeletBasis(3, 1 * u.arcmin)) == "ShapeletBasis(n_max=3, beta=60\", kind='cartesian': 10 functions)"
    assert repr(elliptical(2, "monopole")) == (
        "ShapeletBasis(n_max=2, beta=180\" x 120\", pa=30 deg, kind='monopole': 2 functions)")


@pytest.mark.parametrize("n_max", [-1, 301, 2.0, True, "3"])
def test_orders_that_cannot_be(n_max):
    with pytest.raises(HaloInputError, match="n_max must be a whole number from 0 to 300"):
        ShapeletBasis(n_max, 1 * u.arcmin)


@pytest.mark.parametrize(("changes", "message"), [
    ({"beta": 3.0}, "beta must be a finite, positive angle"),
    ({"beta": -3 * u.arcmin}, "beta must be a finite, positive angle"),
    ({"beta": np.nan * u.arcmin}, "beta must be a finite, positive angle"),
    ({"beta_minor": [1, 2] * u.arcmin}, "beta_minor must be a finite, positive angle"),
    ({"pa": 3 * u.m}, "pa must be a finite angle"),
    ({"pa": np.inf * u.deg}, "pa must be a finite angle"),
])
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(HaloInputError, match=message):
        elliptical(**changes)


def test_inputs_that_do_not_fit():
    basis = elliptical(2)
    with pytest.raises(HaloInputError, match="kind must be one of cartesian, monopole, polar"):
        ShapeletBasis(2, 1 * u.arcmin, kind="rings")
    with pytest.raises(HaloInputError, match=r"this basis has 6 coefficients \(found 'shape \(5,\)'\)"):
        basis.predict(np.ones(5), [0.0], [0.0])
    with pytest.raises(HaloInputError, match="u, v and w must have one axis, of one length"):
        basis.predict(np.ones(6), [0.0, 1.0], [0.0])
    with pytest.raises(HaloInputError, match="u, v and w must have one axis, of one length"):
        basis.visibility([0.0, 1.0], [0.0, 1.0], [0.0])
    with pytest.raises(HaloInputError, match="vis must have one value a baseline"):
        basis.adjoint([1.0], [0.0, 1.0], [0.0, 1.0])
    with pytest.raises(HaloInputError, match="east and north must have one shape"):
        basis.image([0.0], [0.0, 1.0])
    with pytest.raises(HaloInputError, match="pb_sigma must be a finite, positive angle"):
        basis.predict(np.ones(6), [0.0], [0.0], pb_sigma=0 * u.deg)
