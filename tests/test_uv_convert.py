"""Other programs' models: their own formulae, typed from their papers and sources, give our visibilities."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from scipy.special import eval_hermite, factorial

from halopy.errors import HaloInputError
from halopy.uvshapelets.basis import ShapeletBasis
from halopy.uvshapelets.convert import (
    from_galsim,
    from_lenstronomy,
    from_sagecal,
    from_woden,
    to_galsim,
    to_lenstronomy,
    to_sagecal,
    to_woden,
)

BASES = [ShapeletBasis(6, 3 * u.arcmin, beta_minor=2 * u.arcmin, pa=30 * u.deg),
         ShapeletBasis(6, 3 * u.arcmin, pa=-50 * u.deg, kind="polar"),
         ShapeletBasis(6, 2 * u.arcmin, beta_minor=3 * u.arcmin, kind="monopole")]


def drawn(basis):
    return np.random.default_rng(0).normal(size=basis.size)


def uv(n=200):
    return np.random.default_rng(1).normal(0, 300, (2, n))


def woden(uv, major, minor, pa, n1, n2, coefficients, flux):
    """A component of Line+ 2020, section 2, with scales as full widths and the signs of hyperdrive's code."""
    sin, cos = np.sin(pa.to_value(u.rad)), np.cos(pa.to_value(u.rad))
    along, across = uv[0] * sin + uv[1] * cos, uv[0] * cos - uv[1] * sin
    to_x = 2 * np.pi / np.sqrt(8 * np.log(2))
    x, y = along * major.to_value(u.rad) * to_x, -across * minor.to_value(u.rad) * to_x

    def h(n, t):
        return eval_hermite(n, t) * np.exp(-t**2 / 2) / np.sqrt(2.0**n * factorial(n))

    return flux * sum(c * 1j ** (a + b) * h(a, x) * h(b, y) for a, b, c in zip(n1, n2, coefficients, strict=True))


def sagecal(uv, n0, beta, modes, ex, ey, ep, flux):
    """A shapelet source without projection, as read in SAGECal's shapelet.c; u and v in wavelengths."""
    x = (np.cos(ep) * uv[0] - np.sin(ep) * uv[1]) / ex
    y = (np.sin(ep) * uv[0] + np.cos(ep) * uv[1]) / ey

    def mode(n, t):
        return eval_hermite(n, beta * t) * np.exp(-((beta * t) ** 2) / 2) / np.sqrt(2.0 ** (n + 1) * factorial(n))

    total = sum(modes[n2 * n0 + n1] * 1j ** (n1 + n2) * mode(n1, -x) * mode(n2, y)
                for n1 in range(n0) for n2 in range(n0))
    return flux * 2 * np.pi / (ex * ey) * total


@pytest.mark.parametrize("basis", BASES, ids=repr)
@pytest.mark.parametrize("flux", [1.0, -2.5])
def test_woden_hyperdrive_and_rts(basis, flux):
    """Their sky has exp(+2πi(ul + vm)), ours exp(−2πi(ul + vm)): conjugates."""
    component = to_woden(basis, drawn(basis), flux=flux)
    ours = basis.predict(drawn(basis), *uv())
    np.testing.assert_allclose(woden(uv(), **component).conj(), ours, rtol=0, atol=1e-13 * np.abs(ours).max())
    back, coefficients = from_woden(**component)
    np.testing.assert_allclose(back.predict(coefficients, *uv()), ours, rtol=0, atol=1e-13 * np.abs(ours).max())


def test_a_source_list_in_any_sequence():
    component = {"major": 5 * u.arcmin, "minor": 3 * u.arcmin, "pa": 20 * u.deg, "n1": [3, 0, 1, 0], "n2": [1, 0, 0, 0],
                 "coefficients": [0.3, 0.6, -0.2, 0.4], "flux": 3.0}
    basis, coefficients = from_woden(**component)
    assert basis.n_max == 4 and basis.size == 15 and np.count_nonzero(coefficients) == 3
    np.testing.assert_allclose(basis.predict(coefficients, *uv()), woden(uv(), **component).conj(), rtol=0, atol=1e-13)
    # c_00 = 1 alone has the flux of the list.
    basis, coefficients = from_woden(5 * u.arcmin, 3 * u.arcmin, 0 * u.deg, [0], [0], [1.0], flux=3.0)
    assert basis.flux(coefficients) == pytest.approx(3.0, rel=1e-14)


@pytest.mark.parametrize("basis", BASES, ids=repr)
def test_sagecal(basis):
    source = to_sagecal(basis, drawn(basis), flux=2.0)
    ours = basis.predict(drawn(basis), *uv())
    np.testing.assert_allclose(sagecal(uv(), **source).conj(), ours, rtol=0, atol=1e-13 * np.abs(ours).max())
    back, coefficients = from_sagecal(**source)
    assert back.n_max == basis.n_max
    np.testing.assert_allclose(back.predict(coefficients, *uv()), ours, rtol=0, atol=1e-13 * np.abs(ours).max())


def test_a_square_of_sagecals_modes():
    """n0 × n0 modes reach order 2 (n0 − 1); eX and eY both stretch."""
    source = {"n0": 4, "beta": 0.004, "modes": np.random.default_rng(0).normal(size=16), "ex": 1.5, "ey": 0.8,
              "ep": 0.3, "flux": 1.0}
    basis, coefficients = from_sagecal(**source)
    assert basis.n_max == 6
    theirs = sagecal(uv(), **source)
    np.testing.assert_allclose(basis.predict(coefficients, *uv()), theirs.conj(), rtol=0,
                               atol=1e-13 * np.abs(theirs).max())
    assert from_sagecal(3, 0.004, np.zeros(9))[0].n_max == 0


@pytest.mark.parametrize("kind", ["cartesian", "polar", "monopole"])
@pytest.mark.parametrize(("there", "back"), [(to_galsim, from_galsim), (to_lenstronomy, from_lenstronomy)])
def test_there_and_back(kind, there, back):
    basis = ShapeletBasis(7, 40 * u.arcsec, pa=25 * u.deg, kind=kind)
    other, coefficients = back(**there(basis, drawn(basis)))
    ours = basis.predict(drawn(basis), *uv())
    np.testing.assert_allclose(other.predict(coefficients, *uv()), ours, rtol=0, atol=1e-13 * np.abs(ours).max())


def test_galsim_and_lenstronomy_by_their_definitions():
    """b_00 is the flux of a Gaussian, b_10 = 1 a dipole to +x; amp (1, 0) is φ_1(x/β) φ_0(y/β)."""
    basis, coefficients = from_galsim(10.0, 1, [3.0, 0.0, 0.0])
    assert basis.flux(coefficients) == pytest.approx(3.0, rel=1e-14)
    basis, coefficients = from_galsim(10.0, 1, [0.0, 1.0, 0.0])
    east, north = basis.image([10, 0] * u.arcsec, [0, 10] * u.arcsec) @ coefficients
    assert east > 0 and abs(north) < 1e-12 * east
    basis, coefficients = from_lenstronomy([0.0, 2.0, 0.0], 1, 10.0)
    value = basis.image([4] * u.arcsec, [7] * u.arcsec) @ coefficients
    assert value[0] == pytest.approx(2 * np.sqrt(2 / np.pi) * 0.4 * np.exp(-(0.4**2 + 0.7**2) / 2), rel=1e-13)


def test_what_cannot_be_converted():
    for there in (to_galsim, to_lenstronomy):
        with pytest.raises(HaloInputError, match="GalSim and lenstronomy have circular shapelets only"):
            there(BASES[0], drawn(BASES[0]))
    with pytest.raises(HaloInputError, match="flux must be finite and not 0"):
        to_woden(BASES[0], drawn(BASES[0]), flux=0.0)
    with pytest.raises(HaloInputError, match="an order of 2 has 6 numbers in bvec"):
        from_galsim(1.0, 2, [1.0])
    with pytest.raises(HaloInputError, match="SAGECal has n0"):
        from_sagecal(2, 0.01, [1.0])
    for n1, n2, values in (([0], [0, 1], [1.0]), ([-1], [0], [1.0]), ([], [], [])):
        with pytest.raises(HaloInputError, match="n1, n2 and the coefficients must be lists of one length"):
            from_woden(1 * u.arcmin, 1 * u.arcmin, 0 * u.deg, n1, n2, values)
