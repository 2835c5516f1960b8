"""Normal equations of visibilities: exact moments, sums of parts, and statistics of the distribution they must have."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from astropy import units as u
from scipy.integrate import dblquad
from scipy.stats import chi2, kstest, ncx2

from halopy.errors import HaloInputError
from halopy.uvshapelets.basis import ShapeletBasis
from halopy.uvshapelets.fit import NormalEquations
from halopy.uvshapelets.nuisance import Confusion, PointSources
from halopy.uvshapelets.templates import ExponentialHalo
from halopy.uvshapelets.visibilities import Visibilities

BASES = [ShapeletBasis(7, 1.5 * u.arcmin), ShapeletBasis(8, 1.5 * u.arcmin, kind="polar"),
         ShapeletBasis(20, 2 * u.arcmin, beta_minor=1.2 * u.arcmin, pa=30 * u.deg),
         ShapeletBasis(8, 1.5 * u.arcmin, kind="monopole")]
SOURCES = PointSources([[1e-3, 0], [-5e-4, 2e-3], [0, 1e-3]], [0.3, 1, 0.2] * u.Jy, [0.05, np.inf, 0] * u.Jy)


def observed(n=800, w=0.0, seed=0):
    """Noise on random baselines, of unequal weights, one in ten flagged."""
    rng = np.random.default_rng(seed)
    east, north, height = rng.normal(0, [[400], [400], [w]], (3, n))
    weight = rng.uniform(0.5, 2, n) * (rng.uniform(size=n) > 0.1)
    return Visibilities(east, north, height, rng.normal(size=(n, 2)) @ [1, 1j], weight, 154e6)


def columns_of(parts, vis, w=None):
    return np.concatenate([np.reshape(part.visibility(vis.u, vis.v, vis.w if w is None else w), (len(vis), -1))
                           for part in parts], axis=1)


def dense(columns, vis):
    weighted = vis.weight[:, None] * columns
    return (columns.conj().T @ weighted).real, (weighted.conj().T @ vis.vis).real


@pytest.mark.parametrize("basis", BASES)
def test_moments_are_the_normal_matrix(basis):
    """φ_a φ_b is a finite sum of φ_c(√2 x): to 1e-12 of AᴴWA formed outright."""
    vis = observed()
    parts = (ExponentialHalo(2 * u.arcmin), basis, SOURCES)
    equations = NormalEquations(*parts).update(vis)
    normal, vector = dense(columns_of(parts, vis), vis)
    assert np.abs(equations.normal - normal).max() < 1e-12 * np.abs(normal).max()
    assert np.abs(equations.vector - vector).max() < 1e-12 * np.abs(vector).max()
    assert equations.power == pytest.approx(vis.weight @ np.abs(vis.vis) ** 2)
    assert equations.n_visibilities == (vis.weight > 0).sum()


def test_odd_and_even_orders_do_not_mix():
    """Visibilities of even orders are real, those of odd orders imaginary: the block between them is exactly 0."""
    basis = BASES[0]
    normal = NormalEquations(basis).update(observed()).normal
    odd = basis.orders.sum(axis=1) % 2 == 1
    assert (normal[np.ix_(odd, ~odd)] == 0).all()
    assert np.array_equal(normal, normal.T)


@pytest.mark.parametrize("basis", BASES)
def test_visibilities_with_much_w_are_taken_with_it(basis):
    """Those with π|w|(n + 1)β² above 0.01 rad go into the dense product, the others count as w = 0."""
    vis = observed(w=8000.0)
    spread = np.pi * np.abs(vis.w) * (basis.n_max + 1) * basis.beta.to_value(u.rad) ** 2
    assert 0.5 < np.mean(spread > 0.01) < 1
    equations = NormalEquations(basis, SOURCES).update(vis)
    columns = np.concatenate([columns_of([basis], vis, np.where(spread > 0.01, vis.w, 0)),
                              columns_of([SOURCES], vis)], axis=1)
    normal, vector = dense(columns, vis)
    assert np.abs(equations.normal - normal).max() < 1e-12 * np.abs(normal).max()
    assert np.abs(equations.vector - vector).max() < 1e-12 * np.abs(vector).max()
    # What was neglected is as small as promised.
    exact, _ = dense(columns_of([basis, SOURCES], vis), vis)
    assert np.abs(equations.normal - exact).max() < 0.01 * np.abs(exact).max()


@pytest.mark.parametrize("w", [0.0, 3000.0])
def test_parts_add_up_to_the_whole(w):
    """Chunks in one object, chunks in several, in any order: the same numbers, and no more of them."""
    parts = (BASES[0], ExponentialHalo(2 * u.arcmin), SOURCES, Confusion(20 * u.mJy))
    vis = observed(w=w)
    whole = NormalEquations(*parts).update(vis)
    chunks = [vis.select(slice(start, start + 97)) for start in range(0, len(vis), 97)]
    streamed = NormalEquations(*parts).update(iter(chunks))
    merged = NormalEquations(*parts)
    for chunk in chunks[::-1]:
        merged = merged + NormalEquations(*parts).update(chunk)
    for other in (streamed, merged):
        for name in ("normal", "vector", "power"):
            expected = getattr(whole, name)
            assert np.abs(getattr(other, name) - expected).max() < 1e-12 * np.abs(expected).max()
        for one, two in zip(other.reduced(), whole.reduced(), strict=True):
            assert np.allclose(one, two, rtol=1e-9, atol=1e-9 * np.abs(two).max())
        assert other.n_visibilities == whole.n_visibilities

    def stored(equations):
        return sum(value.size for value in vars(equations).values() if isinstance(value, np.ndarray))

    assert stored(streamed) == stored(NormalEquations(*parts))


def test_only_equals_can_be_added():
    one = NormalEquations(BASES[0], SOURCES)
    pickle.loads(pickle.dumps(one)) + one
    for other in ([BASES[1], SOURCES], [BASES[0]], [BASES[0], SOURCES, Confusion(20 * u.mJy)],
                  [BASES[0], PointSources(SOURCES.position, SOURCES.flux, 1 * u.Jy)],
                  [BASES[0], PointSources(-SOURCES.position, SOURCES.flux, SOURCES.flux_err)]):
        with pytest.raises(HaloInputError, match="only normal equations of the same parts"):
            one + NormalEquations(*other)
    with pytest.raises(TypeError):
        one + 1


def test_statistics_drawn_are_visibilities_drawn():
    """h = Re(XᴴWV) is linear in the noise of V, of variance 1/W a part: its covariance is Re(XᴴWX), exactly."""
    vis = observed(n=200)
    use = vis.select(vis.weight > 0)
    equations = NormalEquations(ExponentialHalo(2 * u.arcmin), ShapeletBasis(3, 1 * u.arcmin), SOURCES).update(vis)
    # One visibility at a time, real and imaginary part by themselves: what h answers to each.
    empty = NormalEquations(*equations.parts)
    answers = []
    for k in range(len(use)):
        one = use.select([k])
        for unit in (1.0, 1j):
            answers.append(NormalEquations(*empty.parts).update(one._replace(vis=np.array([unit]))).vector)
    answers = np.array(answers)
    covariance = (answers / np.repeat(use.weight, 2)[:, None]).T @ answers
    assert np.abs(covariance - equations.normal).max() < 1e-12 * np.abs(equations.normal).max()


def test_the_likelihood_ratio_has_its_distribution():
    """χ² of K degrees of freedom without a source, non-central with f ᵀMf with one; visibilities are drawn."""
    rng = np.random.default_rng(1)
    basis, vis = ShapeletBasis(2, 1 * u.arcmin), observed(n=100)
    deviation = np.where(vis.weight > 0, vis.weight, 1) ** -0.5
    truth = np.array([800.0, 300, 0, -200, 100, 400])
    model = basis.predict(truth, vis.u, vis.v)
    draws = {0: [], 1: []}
    for _ in range(300):
        noise = deviation * (rng.normal(size=(len(vis), 2)) @ [1, 1j])
        for times in draws:
            fit = NormalEquations(basis).update(vis._replace(vis=noise + times * model)).solve()
            draws[times].append(fit.statistic)
    strength = truth @ NormalEquations(basis).update(vis).normal @ truth
    assert 2 < strength < 200
    assert kstest(draws[0], chi2(6).cdf).pvalue > 1e-3
    assert kstest(draws[1], ncx2(6, strength).cdf).pvalue > 1e-3


def test_the_evidence_is_the_integral():
    """∫∫ L(f) N(f; 0, Λ) df / L(0), for two coefficients, by quadrature."""
    parts = (ExponentialHalo(1 * u.arcmin), ExponentialHalo(3 * u.arcmin))
    equations = NormalEquations(*parts).update(observed(n=60, seed=3))
    normal, vector = equations.reduced()
    prior = np.array([0.3, 0.2])

    def integrand(y, x):
        f = np.array([x, y]) * prior
        return np.exp(vector @ f - 0.5 * f @ normal @ f - 0.5 * (x * x + y * y)) / (2 * np.pi)

    expected = dblquad(integrand, -8, 8, -8, 8, epsabs=1e-9)[0]
    assert equations.solve(prior).ln_bayes == pytest.approx(np.log(expected), abs=1e-6)
    assert np.isnan(equations.solve().ln_bayes)


def test_with_a_prior_the_solution_is_the_posterior():
    equations = NormalEquations(BASES[0], SOURCES).update(observed())
    normal, vector = equations.reduced()
    prior = np.linspace(50, 500, equations.n_kept)
    covariance = np.linalg.inv(normal + np.diag(prior**-2))
    fit = equations.solve(prior)
    assert np.allclose(fit.covariance, covariance, rtol=1e-8, atol=1e-9 * covariance.max())
    assert np.allclose(fit.coefficients, covariance @ vector, rtol=1e-8)
    assert np.allclose(fit.errors**2, np.diag(covariance))
    # Each mode has the prior variance 1, and the eigenvalue is what the data know of it.
    assert np.allclose(fit.eigenvectors.T @ np.diag(prior**-2) @ fit.eigenvectors, np.eye(fit.eigenvalues.size))
    assert np.allclose(fit.eigenvectors.T @ normal @ fit.eigenvectors, np.diag(fit.eigenvalues),
                       atol=1e-9 * fit.eigenvalues[0])
    assert fit.n_seen == (fit.eigenvalues > 1).sum()


def test_sources_get_the_fluxes_of_the_joint_solution():
    """The model's prior and the sources' at once, in one inverse."""
    vis = observed()
    sky = 0.2 * ExponentialHalo(2 * u.arcmin).visibility(vis.u, vis.v) + SOURCES.predict(vis.u, vis.v, vis.w)
    equations = NormalEquations(ExponentialHalo(2 * u.arcmin), SOURCES).update(vis._replace(vis=vis.vis + sky))
    fit = equations.solve(1.0)
    precision, mean = np.array([1, 0.05**-2, 0, 1e18]), np.array([0, 0.3, 0, 0.2])
    joint = np.linalg.inv(equations.normal + np.diag(precision))
    expected = joint @ (equations.vector + precision * mean)
    flux, err = equations.fluxes(fit)
    assert np.allclose(fit.coefficients, expected[:1], atol=1e-8)
    assert np.allclose(flux, expected[1:], atol=1e-8)
    assert np.allclose(err, np.sqrt(np.diag(joint))[1:], atol=1e-8)


def test_what_was_put_in_comes_out():
    basis, vis = BASES[0], observed(n=3000)
    truth = np.random.default_rng(2).normal(0, 500, basis.size)
    sky = basis.predict(truth, vis.u, vis.v) + SOURCES.predict(vis.u, vis.v, vis.w)
    fit = NormalEquations(basis, SOURCES).update(vis._replace(vis=sky)).solve()
    assert fit.n_seen == basis.size
    assert np.allclose(fit.coefficients, truth, atol=1e-3)


def test_the_report_says_what_the_coverage_does_not_see():
    """Without spacings below 300 wavelengths the errors of what is smooth on 4 arcmin are those of the prior."""
    rng = np.random.default_rng(4)
    distance, angle = rng.uniform(300, 1200, 2000), rng.uniform(0, 2 * np.pi, 2000)
    vis = Visibilities(distance * np.cos(angle), distance * np.sin(angle), np.zeros(2000),
                       rng.normal(size=(2000, 2)) @ [1, 1j], 1, 154e6)
    basis = ShapeletBasis(6, 4 * u.arcmin)
    equations = NormalEquations(basis).update(vis)
    prior = 1000.0
    fit = equations.solve(prior)
    assert fit.n_seen < basis.size
    assert (fit.errors <= prior * (1 + 1e-9)).all()
    assert fit.errors[0] > 0.9 * prior
    full = NormalEquations(basis).update(observed(n=2000)).solve(prior)
    assert full.n_seen > fit.n_seen and full.errors[0] < 0.2 * prior


def test_a_basis_twice_is_two_bases():
    vis = observed()
    basis = BASES[0]
    normal = NormalEquations(basis, basis).update(vis).normal
    for block in (normal[:basis.size, basis.size:], normal[basis.size:, basis.size:]):
        assert np.allclose(block, normal[:basis.size, :basis.size], rtol=0, atol=1e-12 * normal.max())


def test_without_a_prior_what_is_not_seen_is_left_alone():
    """The same column twice: their sum is measured, their difference is not."""
    halo = ExponentialHalo(2 * u.arcmin)
    vis = observed()
    fit = NormalEquations(halo, halo).update(vis._replace(vis=halo.visibility(vis.u, vis.v))).solve()
    assert fit.n_seen == 1
    assert np.allclose(fit.coefficients, 0.5)
    assert fit.statistic == pytest.approx(NormalEquations(halo).update(vis).normal[0, 0])


def test_what_cannot_be_fitted():
    with pytest.raises(HaloInputError, match="at least one part"):
        NormalEquations()
    with pytest.raises(HaloInputError, match="needs a method visibility"):
        NormalEquations(3.0)
    equations = NormalEquations(ExponentialHalo(1 * u.arcmin)).update(observed())
    for prior in (-1.0, np.nan, [1.0, 2.0]):
        with pytest.raises(HaloInputError, match="prior must be positive, one number or 1"):
            equations.solve(prior)
    assert repr(equations) == "<NormalEquations: 1 columns, 711 visibilities>"
