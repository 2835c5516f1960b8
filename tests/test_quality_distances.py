"""Distances between sets: unbiased where they say so, and known for normal distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from halopy.errors import HaloInputError
from halopy.generative.quality.set_distances import (
    density_coverage,
    frechet_distance,
    kernel_distance,
    mean_distance,
    principal_components,
    squared_distances,
    standardised,
    wasserstein,
)


def normal(*shape, rng=1):
    return np.random.default_rng(rng).normal(size=shape)


def double_sum(first, second, first_groups, second_groups):
    """The kernel distance as it is written down."""
    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    def mean(a, b, groups_a, groups_b):
        pairs = [kernel(x, y) for x, g in zip(a, groups_a, strict=True) for y, h in zip(b, groups_b, strict=True)
                 if g != h]
        return np.mean(pairs)

    return (mean(first, first, first_groups, first_groups) + mean(second, second, second_groups, second_groups)
            - 2 * mean(first, second, ["a"] * len(first), ["b"] * len(second)))


def test_the_kernel_distance_is_the_double_sum():
    first, second = normal(9, 4), normal(7, 4, rng=2) + 0.5
    groups = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert kernel_distance(first, second) == pytest.approx(double_sum(first, second, range(9), range(7)))
    assert kernel_distance(first, second, first_groups=groups) == pytest.approx(
        double_sum(first, second, groups, range(7)))
    assert np.isnan(kernel_distance(first, second, first_groups=[1] * 9))


@pytest.mark.parametrize(("d", "scatter"), [(16, 0.047), (64, 0.017)])
def test_the_kernel_distance_of_one_distribution_is_0_whatever_n(d, scatter):
    values = [kernel_distance(*normal(2, 46, d, rng=k)) for k in range(200)]
    assert np.mean(values) == pytest.approx(0, abs=4 * scatter / np.sqrt(200))
    assert np.std(values) == pytest.approx(scatter, rel=0.4)


def test_the_kernel_distance_of_a_shift():
    # 0.3 sigma in each of 64 dimensions; the expectation is E k(y, y') - 2 E k(x, y) + E k(x, x').
    values = [kernel_distance(*(normal(2, 46, 64, rng=k) + np.array([0, 0.3])[:, None, None])) for k in range(100)]
    assert np.mean(values) == pytest.approx(0.30, abs=0.02)


def test_images_of_one_group_do_not_make_two_sets_differ():
    plain, grouped = [], []
    for k in range(100):
        sky = normal(2, 12, 8, rng=k)
        first, second = (np.repeat(one, 4, axis=0) + 0.1 * normal(48, 8, rng=k + 1000) for one in sky)
        groups = np.repeat(np.arange(12), 4)
        plain.append(kernel_distance(first, second))
        grouped.append(kernel_distance(first, second, first_groups=groups, second_groups=groups))
    error = np.std(grouped) / np.sqrt(100)
    assert abs(np.mean(grouped)) < 4 * error < np.mean(plain)


def test_the_frechet_distance_of_normal_distributions():
    first, second = normal(2, 20000, 3)
    # Three dimensions: moved by 2 in one of them, and three times as wide in all: 4 + 3 (3 - 1)².
    assert frechet_distance(first, 3 * second + [2, 0, 0]) == pytest.approx(16, rel=0.05)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    # For small sets it is not 0, and about as 1 / n.
    small = [np.mean([frechet_distance(*normal(2, n, 16, rng=k)) for k in range(20)]) for n in (46, 184)]
    assert small[0] > 2 * small[1] > 0


def test_density_and_coverage():
    real, generated = normal(2, 200, 6)
    density, coverage = density_coverage(real, generated)
    assert density == pytest.approx(1, abs=0.15) and coverage > 0.93
    assert density_coverage(real, generated + 50) == (0, 0)
    collapsed = np.repeat(real[:1], 200, axis=0)
    assert density_coverage(real, collapsed)[1] < 0.1
    # Real images of two kinds, of which one is generated.
    both = real + 30 * (np.arange(200) % 2)[:, None]
    assert density_coverage(both, generated)[1] == pytest.approx(0.5, abs=0.05)
    assert np.isnan(density_coverage(real[:1], generated)).all()
    assert np.isnan(density_coverage(real, generated, groups=np.ones(200))).all()


def test_neighbours_of_the_own_group_do_not_count():
    sky, generated = normal(40, 3), normal(160, 3, rng=2)
    real = np.repeat(sky, 6, axis=0) + 1e-3 * normal(240, 3, rng=3)
    groups = np.repeat(np.arange(40), 6)
    assert density_coverage(real, generated)[1] < 0.1
    assert density_coverage(real, generated, groups=groups)[1] > 0.5


def test_wasserstein_is_that_of_scipy():
    first, second = normal(2, 50, 3)
    expected = [wasserstein_distance(a, b) for a, b in zip(first.T, second.T, strict=True)]
    assert wasserstein(first, second) == pytest.approx(expected)
    with pytest.raises(HaloInputError, match="as many values on both sides"):
        wasserstein(first, second[:3])


def test_standardised_features():
    reference = 5 + 2 * normal(400, 3)
    reference[:, 2] = 7
    scaled = standardised(reference, reference)
    assert scaled[:, :2].mean(axis=0) == pytest.approx(0, abs=0.02) and scaled[:, 2] == pytest.approx(0)
    assert standardised(np.full((1, 3), 1e6), reference).tolist() == [[5, 5, 5]]


def test_mean_distances_and_axes():
    assert mean_distance(np.array([[0.0], [3.0], [9.0]])) == pytest.approx(6)
    assert mean_distance(np.array([[0.0], [3.0], [9.0]]), groups=[1, 1, 2]) == pytest.approx(7.5)
    assert np.isnan(mean_distance(np.zeros((2, 1)), groups=[1, 1]))
    assert squared_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])).tolist() == [[25]]
    long = normal(100, 5) * [1, 1, 9, 1, 1]
    axes = principal_components(long, 8)
    assert axes.shape == (5, 4) and abs(axes[2, 0]) > 0.98
    assert axes.T @ axes == pytest.approx(np.eye(4))
