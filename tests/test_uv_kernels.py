"""Hermite functions and the compiled loops over them."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halopy.uvshapelets.basis import MAX_ORDER
from halopy.uvshapelets.hermite import hermite
from halopy.uvshapelets.kernels import moments, parity_moments, predict, weight_moments


def test_the_recurrence_holds_against_sixty_digits():
    """Orders up to 300; with factorials or unnormalised polynomials codes lose φ_n long before."""
    mpmath.mp.dps = 60
    t = [0.0, 0.3, 1.0, 4.7, -11.25, 17.0, 24.5, 30.0]
    ours = hermite(MAX_ORDER, t)
    for column, value in enumerate(t):
        x = mpmath.mpf(value)
        low, high = mpmath.pi ** mpmath.mpf(-0.25) * mpmath.exp(-x * x / 2), None
        for n in range(MAX_ORDER + 1):
            assert abs(mpmath.mpf(ours[n, column]) - low) < 1e-14
            high, low = low, (mpmath.sqrt(mpmath.mpf(2) / (n + 1)) * x * low
                              - (mpmath.sqrt(mpmath.mpf(n) / (n + 1)) * high if n else 0))


def test_values_that_factorials_in_integers_get_wrong():
    """φ_21(1) and φ_25(1) by mpmath's own Hermite polynomials: 20! is the last factorial that 64 bits hold."""
    mpmath.mp.dps = 40
    for n in (20, 21, 25, 40):
        norm = mpmath.sqrt(2**n * mpmath.sqrt(mpmath.pi) * mpmath.factorial(n))
        assert abs(hermite(n, 1.0)[n] - float(mpmath.hermite(n, 1) * mpmath.exp(-0.5) / norm)) < 1e-15


def test_hermite_functions_are_orthonormal():
    t, step = np.linspace(-25, 25, 2001, retstep=True)
    rows = hermite(100, t)
    np.testing.assert_allclose(rows @ rows.T * step, np.eye(101), atol=1e-12)


@given(st.integers(0, 60), st.floats(-15, 15))
def test_parity(n, t):
    assert hermite(n, -t)[n] == (-1) ** n * hermite(n, t)[n]


def test_single_precision_serves_up_to_order_50():
    x, y = np.random.default_rng(0).normal(0, 5, (2, 4000))
    for n, error in ((20, 1e-6), (50, 1e-6), (86, 1e-3)):
        exact = hermite(n, x[None]) * hermite(n, y[None])
        single = hermite(n, x[None].astype(np.float32)) * hermite(n, y[None].astype(np.float32))
        assert single.dtype == np.float32
        assert np.abs(single - exact).max() < error


# ------------------------------------------------------------------------------------------- the compiled loops

@pytest.mark.parametrize("n", [0, 1, 2, 5, 20, 86, 300])
def test_the_loops_are_sums_over_hermite_functions(n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(0, np.sqrt(n / 2 + 1), (2, 2500))
    even, odd = rng.normal(size=(2, 2500))
    p, q = hermite(n, x), hermite(n, y)
    order = np.add.outer(np.arange(n + 1), np.arange(n + 1))
    coefficients = np.where(order <= n, rng.normal(size=(n + 1, n + 1)), 0.0)
    parts = [np.einsum("ak,ab,bk->k", p, np.where(order % 2 == parity, coefficients, 0), q) for parity in (0, 1)]
    np.testing.assert_allclose(predict(coefficients, x, y), parts[0] + 1j * parts[1],
                               rtol=0, atol=1e-15 * max(n, 3) * np.abs(parts).max())
    for parity, sums in ((0, (p * even) @ q.T), (1, (p * odd) @ q.T)):
        np.testing.assert_allclose(np.where(order % 2 == parity, parity_moments(n, x, y, even, odd), 0),
                                   np.where(order % 2 == parity, sums, 0), atol=1e-12)
    np.testing.assert_allclose(weight_moments(n, x, y, even), np.where(order % 2, 0, (p * even) @ q.T), atol=1e-12)
    np.testing.assert_allclose(moments(n, x, y, 1.0), p @ q.T, atol=1e-12)
    assert np.all(weight_moments(n, x, y, even)[order % 2 == 1] == 0)


def test_the_loops_take_nothing_and_what_is_far_away():
    assert predict(np.ones((3, 3)), [], []).shape == (0,)
    assert np.all(moments(2, [], [], []) == 0)
    # Where exp(−x²/2) underflows, and where powers of x would overflow.
    far = predict(np.ones((51, 51)), [40.0, 1e9, 0.0], [0.0, -1e9, 1e200])
    assert np.all(far == 0)
    assert np.all(moments(50, [1e6], [0.0], [1.0]) == 0)


def test_moments_add_up_over_chunks():
    x, y, values = np.random.default_rng(0).normal(size=(3, 5000))
    parts = [weight_moments(8, x[part], y[part], values[part]) for part in (slice(0, 1234), slice(1234, None))]
    np.testing.assert_allclose(sum(parts), weight_moments(8, x, y, values), rtol=0, atol=1e-12)
