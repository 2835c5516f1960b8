"""Polar shapelets as sums of Cartesian ones of the same order, and what turning the sky makes of them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["polar_block", "turn"]


@lru_cache(maxsize=512)
def polar_block(n):
    """Return the orthogonal matrix that makes the polar shapelets of order n of the Cartesian ones.

    The polar shapelets are real: χ_{n,0}, and √2 times the real part (m > 0) and the imaginary part (m < 0) of
    χ_{n,|m|} ∝ exp(i|m|θ), with θ counted from the first axis towards the second; the highest power of r has a positive
    factor.

    Parameters
    ----------
    n : int
        The order, from 0.

    Returns
    -------
    `~numpy.ndarray`
        ``(n + 1, n + 1)``: rows m = −n, −n + 2, ... n; columns n1 = n, n − 1, ... 0 with n2 = n − n1.

    Notes
    -----
    Turning mixes the Cartesian shapelets of an order as it mixes the states of a spin n/2; what it leaves alone are the
    eigenvectors of a tridiagonal matrix, which is solved for.

    References
    ----------
    Massey & Refregier 2005, MNRAS 363, 197, arXiv astro-ph/0408445.

    Examples
    --------
    >>> from halopy.uvshapelets.polar import polar_block
    >>> print(polar_block(2).round(4))
    [[ 0.      1.      0.    ]
     [ 0.7071  0.      0.7071]
     [ 0.7071  0.     -0.7071]]
    """
    from scipy.linalg import eigh_tridiagonal

    n2 = np.arange(n)
    _, vectors = eigh_tridiagonal(np.zeros(n + 1), np.sqrt((n2 + 1) * (n - n2)))
    # For m >= 0 the components start small, with one sign, at n2 = 0: that sign is to be positive.
    vectors = vectors.T
    first = np.argmax(np.abs(vectors) > 1e-6, axis=1)
    vectors = vectors * np.sign(vectors[np.arange(n + 1), first])[:, None]
    block = np.zeros((n + 1, n + 1))
    for row, m in enumerate(range(-n, n + 1, 2)):
        # exp(i|m|θ): its component n2 has the phase i^n2.
        start = 1 if m < 0 else 0
        signs = np.where(np.arange(start, n + 1, 2) // 2 % 2, -1.0, 1.0)
        block[row, start::2] = (1 if m == 0 else np.sqrt(2)) * signs * vectors[(abs(m) + n) // 2, start::2]
    block.flags.writeable = False
    return block


def turn(coefficients, n_max, angle):
    """Turn the axes of circular polar shapelets; the sky stays where it is.

    Parameters
    ----------
    coefficients : `~numpy.ndarray`
        ``(..., K)`` in the order of `ShapeletBasis` with ``kind="polar"``.
    n_max : int
        Largest order.
    angle : float
        Radians by which the axes turn, counted as the position angle is.

    Returns
    -------
    `~numpy.ndarray`
        ``(..., K)``: of the shapelets on the turned axes.
    """
    m = np.concatenate([np.arange(-n, n + 1, 2) for n in range(n_max + 1)])
    # The partner of m in its order is −m.
    partner = np.concatenate([np.arange(n, -1, -1) + n * (n + 1) // 2 for n in range(n_max + 1)])
    return coefficients * np.cos(m * angle) + coefficients[..., partner] * np.sin(m * angle)
