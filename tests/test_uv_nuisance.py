"""Sources beside the halo: marginalised exactly, with the right noise of those too faint to list."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy.special import j1

from halopy.errors import HaloInputError
from halopy.simulate.counts import source_counts
from halopy.uvshapelets.fit import NormalEquations
from halopy.uvshapelets.nuisance import Confusion, PointSources, confused, direction_cosines, marginalised
from halopy.uvshapelets.templates import ExponentialHalo
from halopy.uvshapelets.visibilities import Visibilities


def system(seed=0, kept=2, gone=3):
    """Columns of a real linear model, weights, and one vector of data."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(40, kept + gone)), rng.uniform(0.5, 2, 40), rng.normal(size=40), rng


def test_marginalising_is_the_joint_solution():
    """With priors as further data, the first coefficients and their covariance are the same."""
    columns, weight, data, _ = system()
    mean, err = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.1, 2.0])
    normal, vector = columns.T @ (weight[:, None] * columns), columns.T @ (weight * data)
    prior = np.diag(np.r_[0, 0, err**-2.0])
    joint = np.linalg.inv(normal + prior)
    expected = joint @ (vector + prior @ np.r_[0, 0, mean])
    reduced, right = marginalised(normal, vector, mean, err)
    assert np.allclose(np.linalg.solve(reduced, right), expected[:2], rtol=1e-11)
    assert np.allclose(np.linalg.inv(reduced), joint[:2, :2], rtol=1e-11)


def test_marginalising_is_a_covariance_of_the_data():
    """TᵀΣ⁻¹T and TᵀΣ⁻¹(V − Pμ) with Σ = W⁻¹ + P S Pᵀ (Woodbury)."""
    columns, weight, data, _ = system(1)
    mean, err = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.0, 2.0])
    kept, gone = columns[:, :2], columns[:, 2:]
    inverse = np.linalg.inv(np.diag(1 / weight) + (gone * err**2) @ gone.T)
    reduced, right = marginalised(columns.T @ (weight[:, None] * columns), columns.T @ (weight * data), mean, err)
    assert np.allclose(reduced, kept.T @ inverse @ kept, rtol=1e-11)
    assert np.allclose(right, kept.T @ inverse @ (data - gone @ mean), rtol=1e-11)


def test_free_fluxes_are_the_limit_of_wide_priors_and_known_ones_of_narrow():
    columns, weight, data, _ = system(2)
    normal, vector = columns.T @ (weight[:, None] * columns), columns.T @ (weight * data)
    free, wide = (marginalised(normal, vector, np.zeros(3), np.full(3, err)) for err in (np.inf, 1e6))
    assert np.allclose(free[0], wide[0]) and np.allclose(free[1], wide[1])
    mean = np.array([1.0, 2.0, 3.0])
    known, narrow = (marginalised(normal, vector, mean, np.full(3, err)) for err in (0.0, 1e-8))
    assert np.array_equal(known[0], normal[:2, :2])
    assert np.allclose(known[1], vector[:2] - normal[:2, 2:] @ mean)
    assert np.allclose(known[1], narrow[1])


def test_many_vectors_at_once():
    columns, weight, _, rng = system(3)
    normal = columns.T @ (weight[:, None] * columns)
    vectors = rng.normal(size=(5, 4))
    mean, err = np.ones(3), np.array([1.0, np.inf, 0.0])
    together = marginalised(normal, vectors, mean, err)[1]
    for k in range(4):
        assert np.allclose(together[:, k], marginalised(normal, vectors[:, k], mean, err)[1])


def test_sources_that_cannot_be_told_apart():
    same = PointSources([[1e-3, 0], [1e-3, 0]])
    vis = Visibilities([10, 200], [0, 50], [0, 5], [1, 1j], 1, 154e6)
    with pytest.raises(HaloInputError, match="cannot be told apart"):
        NormalEquations(ExponentialHalo(1 * u.arcmin), same).update(vis).reduced()
    with pytest.raises(HaloInputError, match="cannot be told apart"):
        NormalEquations(ExponentialHalo(1 * u.arcmin), same).reduced()


def test_positions_on_the_sky_are_direction_cosines():
    """Projection onto the tangent plane (Thompson, Moran & Swenson, section 3.1)."""
    centre = SkyCoord(30, -27, unit="deg")
    position = SkyCoord([30, 31, 12], [-27, -20, 5], unit="deg")
    local = position.transform_to(centre.skyoffset_frame())
    expected = np.stack([np.cos(local.lat) * np.sin(local.lon), np.sin(local.lat)], axis=1).value
    assert np.allclose(direction_cosines(position, centre), expected, atol=1e-12)
    assert np.allclose(PointSources(position).about(centre).position, expected, atol=1e-12)


def test_a_source_has_no_phase_at_the_phase_centre():
    """Rotating the visibilities of a point to its position leaves its flux."""
    centre, position = SkyCoord(30, -27, unit="deg"), SkyCoord(33, -25, unit="deg")
    east, north, w = np.random.default_rng(0).normal(0, 300, (3, 20))
    sources = PointSources(position, 2 * u.Jy).about(centre)
    vis = Visibilities(east, north, w, sources.predict(east, north, w), 1, 154e6, centre)
    assert np.allclose(vis.phased_to(position).vis, 2, atol=1e-9)
    assert np.allclose(PointSources([[0.0, 0.0]]).visibility(east, north, w), 1)


def test_the_noise_of_faint_sources_is_the_second_moment_of_the_counts():
    flux = np.linspace(1e-4, 0.02, 400001)
    expected = np.sqrt(np.trapezoid(flux**2 * source_counts(flux * u.Jy).value, flux))
    assert Confusion(20 * u.mJy).rms.to_value("Jy / sr(1/2)") == pytest.approx(expected, rel=1e-4)
    # All fluxes scale with one spectral index, and the noise with them.
    ratio = (308 / 154) ** -0.8
    scaled = Confusion(20 * u.mJy * ratio, frequency=308 * u.MHz).rms
    assert (scaled / Confusion(20 * u.mJy).rms).value == pytest.approx(ratio, rel=1e-6)


def test_confusion_has_the_covariance_of_a_patch_of_sky():
    """σ_s² ∫ exp(−2πi Δu · l) dl over a disc of radius R: σ_s² R J1(2πRΔu) / Δu."""
    confusion = Confusion(20 * u.mJy, radius=30 * u.arcmin)
    sources, radius = confusion.cells(), (30 * u.arcmin).to_value(u.rad)
    distance = np.array([1.0, 20.0, 40.0, 60.0])
    columns = sources.visibility(np.r_[0, distance], np.zeros(5))
    covariance = (columns * sources.flux_err.value**2) @ columns[0]
    expected = confusion.rms.value**2 * radius * j1(2 * np.pi * radius * distance) / distance
    assert np.allclose(covariance[1:], expected, atol=0.01 * covariance[0].real)
    assert covariance[0].real == pytest.approx(confusion.rms.value**2 * np.pi * radius**2, rel=1e-12)


@pytest.mark.parametrize("r_e", [60, 120, 240] * u.arcsec)
def test_confusion_limits_a_halo_as_its_effective_area_says(r_e):
    """Without thermal noise and with full coverage the error is σ_s √(8π) r_e."""
    radius = 10 * r_e
    confusion = Confusion(20 * u.mJy, radius=radius)
    reach, cell = 1.2 / r_e.to_value(u.rad), 0.25 / radius.to_value(u.rad)
    axis = np.arange(-reach, reach, cell)
    east, north = (grid.ravel() for grid in np.meshgrid(axis, axis[axis >= 0]))
    vis = Visibilities(east, north, 0 * east, 0j * east, 1e6, 154e6)
    normal, _ = NormalEquations(ExponentialHalo(r_e), confusion).update(vis).reduced()
    expected = (confusion.rms * np.sqrt(8 * np.pi) * r_e).to_value("Jy rad / sr(1/2)")
    assert normal[0, 0] ** -0.5 == pytest.approx(expected, rel=0.02)


def test_confusion_is_the_covariance_of_the_sums():
    """N(N + Q)⁻¹N and N(N + Q)⁻¹h for columns that are independent, where N can be inverted."""
    columns, weight, data, rng = system(4, kept=4, gone=0)
    normal, vector = columns.T @ (weight[:, None] * columns), columns.T @ (weight * data)
    cross, err = rng.normal(size=(4, 6)), rng.uniform(0.1, 1, 6)
    inverse = np.linalg.inv(normal + (cross * err**2) @ cross.T)
    reduced, right = confused(normal, vector, cross, err)
    assert np.allclose(reduced, normal @ inverse @ normal, rtol=1e-10)
    assert np.allclose(right, normal @ inverse @ vector, rtol=1e-10)
    # A column twice changes nothing for the others.
    twice = np.r_[0, 1, 2, 3, 3]
    doubled, _ = confused(normal[np.ix_(twice, twice)], vector[twice], cross[twice], err)
    assert np.allclose(doubled[:4, :4], reduced, rtol=1e-9)


def test_halos_under_confusion_have_the_errors_they_claim():
    """Thermal noise and a sky of faint sources at random places, MWA-like coverage: S/N of variance 1, no bias."""
    rng = np.random.default_rng(5)
    distance, angle = 200 * np.exp(rng.normal(size=800)), rng.uniform(0, 2 * np.pi, 800)
    east, north = distance * np.cos(angle), distance * np.sin(angle)
    confusion = Confusion(20 * u.mJy, radius=30 * u.arcmin)
    halos, n, edge = [ExponentialHalo(r * u.arcsec) for r in (60, 120, 240)], 250, np.radians(0.5)
    vis = Visibilities(east, north, 0 * east, 0j * east, 100.0, 154e6)
    equations = NormalEquations(*halos, confusion).update(vis)
    columns = np.stack([halo.visibility(east, north) for halo in halos], axis=1).real * 100
    snr = []
    for _ in range(n):
        x, y = rng.uniform(-edge, edge, (2, 100))
        inside = np.hypot(x, y) < edge
        flux = confusion.rms.value * np.sqrt(4 * edge**2 / 100) * rng.choice([-1, 1], 100) * inside
        sky = np.cos(2 * np.pi * (np.multiply.outer(east, x) + np.multiply.outer(north, y))) @ flux
        equations.vector = columns.T @ (sky + 0.1 * rng.normal(size=800))
        normal, vector = equations.reduced()
        snr.append(vector / np.sqrt(np.diag(normal)))
    assert np.allclose(np.std(snr, axis=0), 1, atol=4 / np.sqrt(2 * n))
    assert np.allclose(np.mean(snr, axis=0), 0, atol=4 / np.sqrt(n))
    # It matters: thermal noise alone would claim less than half the error.
    assert (np.diag(normal) < 0.25 * np.diag(equations.normal)).all()


def test_a_primary_beam_weighs_the_confusion():
    wide, seen = (Confusion(20 * u.mJy, beam=beam).cells() for beam in (None, 1 * u.deg))
    radius = np.hypot(*wide.position.T)
    half = np.argmin(np.abs(radius - np.radians(0.5)))
    assert (seen.flux_err[half] / wide.flux_err[half]).value == pytest.approx(np.exp(-4 * np.log(2) * radius[half] ** 2
                                                                            / np.radians(1) ** 2), rel=1e-9)


def test_what_cannot_be_sources():
    with pytest.raises(HaloInputError, match="position must be a SkyCoord or direction cosines"):
        PointSources([1, 2])
    with pytest.raises(HaloInputError, match="position must be a SkyCoord or direction cosines"):
        PointSources([[1.0, 1.0]])
    with pytest.raises(HaloInputError, match="flux must be one number or 1"):
        PointSources([[0, 0]], [1, 2] * u.Jy)
    with pytest.raises(HaloInputError, match="flux must be finite"):
        PointSources([[0, 0]], np.nan * u.Jy)
    with pytest.raises(HaloInputError, match="flux_err must not be negative"):
        PointSources([[0, 0]], 1 * u.Jy, -1 * u.Jy)
    with pytest.raises(HaloInputError, match="phase centre is known"):
        PointSources(SkyCoord([1], [2], unit="deg")).about(None)
    with pytest.raises(HaloInputError, match="90 deg or more from the phase centre"):
        PointSources(SkyCoord([1], [2], unit="deg")).about(SkyCoord(181, 0, unit="deg"))
    with pytest.raises(HaloInputError, match="resolution must be smaller than radius"):
        Confusion(20 * u.mJy, resolution=2 * u.deg)


def test_they_say_what_they_are():
    assert repr(PointSources([[0, 0], [0, 0.1]], [1, 0.5] * u.Jy)) == "<PointSources: 2, 1.5 Jy>"
