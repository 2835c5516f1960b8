"""How often noise alone stands out as much: the p-value of the largest of many tests that are correlated."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

__all__ = ["Imaginary", "exceedance", "maximum_p_value", "off_positions", "square_root"]

LARGEST = 37.0
"""Deviations beyond which a Gaussian's tail is no normal number any more."""


class Imaginary:
    """A halo of imaginary brightness: what no sky has, and noise has as well as the real one.

    The visibilities of a halo at the phase centre are real. Those of this one are i times them, so that it
    is measured in the imaginary part of the data, by the same sums and with the same sources marginalised.
    """

    def __init__(self, halo):
        self.halo = halo

    def __repr__(self):
        return f"Imaginary({self.halo!r})"

    def visibility(self, u, v, w=None):
        """Return i times the visibilities of the halo, ``(n,)``."""
        return 1j * self.halo.visibility(u, v, w)


def maximum_p_value(maximum, correlation, *, n_draws=10000, rng=None):
    """Return P(max \\|z_i\\| ≥ maximum) for Gaussian z of mean 0, variance 1 and known correlation.

    P = Σ_i P(\\|z_i\\| ≥ x) · E[1 / N], where N counts the z_j beyond x, and the mean is over draws in which one of the
    i, chosen at random, lies beyond x and the others follow their distribution given that one. It is
    unbiased at any x, however far in the tail, and its relative error is at most √(n − 1) / √n_draws for n tests: the
    truth always lies between P(\\|z_i\\| ≥ x) and n times it.

    Parameters
    ----------
    maximum : float or array_like
        One or more values of the largest \\|z\\|.
    correlation : `~numpy.ndarray`
        ``(n, n)``; it may be singular.
    n_draws : int, optional
        Default 10,000.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator of the draws; the same draws serve all values.

    Returns
    -------
    float or `~numpy.ndarray`
        In the shape of ``maximum``.

    References
    ----------
    Naiman & Priebe 2001, J. Comput. Graph. Stat. 10, 296, doi 10.1198/10618600152628194; Owen, Maximov & Chertkov 2019,
    Electron. J. Stat. 13, 231, arXiv 1710.06965.

    Examples
    --------
    Two tests that are one, and two that are independent, 2.0 deviations out:

    >>> import numpy as np
    >>> from halopy.uvshapelets.null import maximum_p_value
    >>> print(round(maximum_p_value(2.0, np.ones((2, 2)), rng=0), 4))
    0.0455
    >>> print(round(maximum_p_value(2.0, np.eye(2), rng=0), 3))
    0.089
    """
    rng = np.random.default_rng(rng)
    n = len(correlation)
    z = rng.standard_normal((n_draws, n)) @ square_root(correlation).T
    which = rng.integers(n, size=n_draws)
    uniform = 1 - rng.uniform(size=n_draws)
    own = z[np.arange(n_draws), which]
    columns = np.asarray(correlation)[which]
    maximum = np.asarray(maximum, dtype=float)
    p = np.empty(maximum.size)
    for k, x in enumerate(np.minimum(maximum.ravel(), LARGEST)):
        moved = np.abs(z + columns * (exceedance(x, uniform) - own)[:, None])
        # The chosen one itself is beyond x, whatever rounding says.
        p[k] = 2 * n * ndtr(-x) * np.mean(1 / np.maximum((moved >= x).sum(axis=1), 1))
    p = np.minimum(p, 1.0).reshape(maximum.shape)
    return p if p.ndim else float(p)


def exceedance(x, uniform):
    """Return deviates of a Gaussian beyond ``x``, from uniform ones in (0, 1]."""
    return -ndtri(np.asarray(uniform) * ndtr(-x))


def square_root(matrix):
    """Return a matrix A with A Aᵀ = ``matrix``, which may be singular."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(values.clip(0))


def off_positions(n, inner, outer, rng):
    """Draw ``n`` directions (l, m) from a ring around the phase centre, uniform over its area; radians."""
    radius = np.sqrt(rng.uniform(inner**2, outer**2, n))
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
