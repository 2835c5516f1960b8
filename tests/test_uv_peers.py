"""Shapelets against other programs: ducc0, finufft, GalSim, lenstronomy."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from uv_images import sky_image

from halopy.uvshapelets.basis import ShapeletBasis
from halopy.uvshapelets.convert import from_galsim, from_lenstronomy, to_galsim, to_lenstronomy
from halopy.uvshapelets.decompose import decompose
from halopy.uvshapelets.hermite import hermite

pytestmark = pytest.mark.peers
ARCMIN = np.radians(1 / 60)


def field(basis, n=256, extent=40 * ARCMIN, seed=0):
    """A brightness on pixels that resolve it, its coefficients, and the pixels' width; axes (east, north)."""
    step = 2 * extent / n
    axis = (np.arange(n) - n // 2) * step
    east, north = np.meshgrid(axis, axis, indexing="ij")
    coefficients = np.random.default_rng(seed).normal(size=basis.size)
    return basis.image(east, north) @ coefficients, coefficients, step


@pytest.fixture
def elliptical():
    return ShapeletBasis(10, 3 * u.arcmin, beta_minor=2 * u.arcmin, pa=30 * u.deg)


def uvw(n=2000, scale=250, w=0.0):
    uv = np.random.default_rng(1).normal(0, scale, (2, n))
    return np.stack([*uv, np.full(n, w) * np.random.default_rng(2).uniform(-1, 1, n)])


def test_finufft(elliptical):
    finufft = pytest.importorskip("finufft")
    brightness, coefficients, step = field(elliptical)
    u_, v_, _ = uvw()
    theirs = finufft.nufft2d2(2 * np.pi * u_ * step, 2 * np.pi * v_ * step, brightness.astype(complex), isign=-1,
                              eps=1e-12) * step**2
    ours = elliptical.predict(coefficients, u_, v_)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11 * np.abs(ours).max())


def test_ducc0_nufft(elliptical):
    ducc0 = pytest.importorskip("ducc0")
    brightness, coefficients, step = field(elliptical)
    u_, v_, _ = uvw()
    theirs = ducc0.nufft.u2nu(grid=brightness.astype(complex), coord=2 * np.pi * step * np.stack([u_, v_], axis=-1),
                              forward=True, epsilon=1e-12, fft_order=False) * step**2
    ours = elliptical.predict(coefficients, u_, v_)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(ours).max())


@pytest.mark.parametrize("w", [0.0, 3000.0])
def test_ducc0_wgridder(elliptical, w):
    """Its sign of w is the other one, unless flip_w; it knows n − 1 exactly, ours is that of a small field."""
    ducc0 = pytest.importorskip("ducc0")
    brightness, coefficients, step = field(elliptical)
    at = uvw(w=w)
    theirs = ducc0.wgridder.experimental.dirty2vis(
        uvw=np.ascontiguousarray(at.T), freq=np.array([299792458.0]), dirty=brightness, pixsize_x=step, pixsize_y=step,
        epsilon=1e-12, do_wgridding=True, divide_by_n=False, flip_w=True)[:, 0] * step**2
    ours = elliptical.predict(coefficients, *at)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=(1e-6 if w else 1e-12) * np.abs(ours).max())
    if w:
        assert np.abs(ours.conj() - theirs).max() > 0.1 * np.abs(ours).max()
        assert np.abs(elliptical.predict(coefficients, *at[:2]) - theirs).max() > 1e-3 * np.abs(ours).max()


@pytest.mark.parametrize("pa", [0, 40])
def test_galsim(pa):
    galsim = pytest.importorskip("galsim")
    basis = ShapeletBasis(9, 20 * u.arcsec, pa=pa * u.deg)
    coefficients = np.random.default_rng(0).normal(size=basis.size)
    profile = galsim.Shapelet(**to_galsim(basis, coefficients))
    assert profile.flux == pytest.approx(basis.flux(coefficients), rel=1e-12)
    east, north = np.random.default_rng(1).normal(0, 25, (2, 40))
    theirs = np.array([profile.xValue(x, y) for x, y in zip(east, north, strict=True)])
    ours = basis.image(east * u.arcsec, north * u.arcsec) @ coefficients * (1 / u.sr).to_value(u.arcsec**-2)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-12 * np.abs(ours).max())
    uv = np.random.default_rng(2).normal(0, 3000, (2, 40))
    k = 2 * np.pi * uv * (1 / u.rad).to_value(1 / u.arcsec)
    theirs = np.array([profile.kValue(x, y) for x, y in k.T])
    ours = basis.predict(coefficients, *uv)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-12 * np.abs(ours).max())
    back, values = from_galsim(**to_galsim(basis, coefficients))
    np.testing.assert_allclose(back.predict(values, *uv), ours, rtol=0, atol=1e-13 * np.abs(ours).max())


def test_galsim_and_its_factor():
    """What GalSim's code returns for b_00 = 1 at σ = 1 is 1/(2√π) of ours, for xValue and kValue (not 1/√π)."""
    galsim = pytest.importorskip("galsim")
    basis = ShapeletBasis(0, 1 * u.rad)
    profile = galsim.Shapelet(1.0, 0, [1.0])
    factor = 1 / (2 * np.sqrt(np.pi))
    assert profile.xValue(0.3, -0.4) == pytest.approx(basis.image([0.3], [-0.4])[0, 0] * factor, rel=1e-12)
    assert profile.kValue(0.3, -0.4).real == pytest.approx(
        basis.visibility([0.3 / (2 * np.pi)], [-0.4 / (2 * np.pi)])[0, 0].real * factor, rel=1e-12)


@pytest.mark.parametrize("pa", [0, 40])
def test_lenstronomy(pa):
    profile = pytest.importorskip("lenstronomy.LightModel.Profiles.shapelets").ShapeletSet()
    basis = ShapeletBasis(10, 20 * u.arcsec, pa=pa * u.deg)
    coefficients = np.random.default_rng(0).normal(size=basis.size)
    east, north = np.random.default_rng(1).normal(0, 25, (2, 200))
    theirs = profile.function(east, north, **to_lenstronomy(basis, coefficients))
    ours = basis.image(east * u.arcsec, north * u.arcsec) @ coefficients
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-13 * np.abs(ours).max())
    back, values = from_lenstronomy(**to_lenstronomy(basis, coefficients))
    np.testing.assert_allclose(back.image(east * u.arcsec, north * u.arcsec) @ values, ours, rtol=0,
                               atol=1e-13 * np.abs(ours).max())


def test_lenstronomy_decomposes_alike():
    profile = pytest.importorskip("lenstronomy.LightModel.Profiles.shapelets").ShapeletSet()
    basis = ShapeletBasis(12, 60 * u.arcsec)
    image = sky_image(basis, np.random.default_rng(0).normal(size=basis.size), 128, 8 * u.arcsec)
    found = decompose(image, 12, beta=60 * u.arcsec)
    axis = (np.arange(128) - 63.5) * 8
    # East is to the left.
    x, y = (a.ravel() for a in np.meshgrid(-axis, axis))
    amp = profile.decomposition(image.data.ravel().astype(float), x, y, 12, 60.0, 8.0)
    theirs = from_lenstronomy(amp, 12, 60.0)[1]
    np.testing.assert_allclose(found.coefficients, theirs, rtol=0, atol=1e-7 * np.abs(theirs).max())


def test_lenstronomy_has_no_numbers_far_to_the_left():
    """Its cut of large arguments looks at x, not at |x|; ours returns numbers on both sides."""
    shapelets = pytest.importorskip("lenstronomy.LightModel.Profiles.shapelets").Shapelets
    with np.errstate(all="ignore"):
        assert np.isnan(shapelets().phi_n(150, np.array([-60.0]))).all()
    assert np.all(hermite(150, [-60.0, 60.0]) == 0)
