"""Hermite functions of one axis, their Fourier transforms and their integrals."""

from __future__ import annotations

import numpy as np

__all__ = ["diffracted", "hermite", "integrals"]


def hermite(n_max, t):
    """Orthonormal Hermite functions φ_n(t) = (2^n √π n!)^(−1/2) H_n(t) exp(−t²/2).

    By φ_{n+1} = √(2/(n+1)) t φ_n − √(n/(n+1)) φ_{n−1}, which needs no factorial: right to 1e-14 for orders up to 300.

    Parameters
    ----------
    n_max : int
        Largest order.
    t : array_like
        Any shape. float32 is kept: errors stay below 1e-6 up to order 50, and grow to about 1e-4 at order 86.

    Returns
    -------
    `~numpy.ndarray`
        ``(n_max + 1, *t.shape)``.

    References
    ----------
    Refregier 2003, MNRAS 338, 35, arXiv astro-ph/0105178.

    Examples
    --------
    >>> from halopy.uvshapelets.hermite import hermite
    >>> print(hermite(2, [0.0, 1.0]).round(4))
    [[ 0.7511  0.4556]
     [ 0.      0.6443]
     [-0.5311  0.3221]]
    """
    t = np.asarray(t)
    t = t if t.dtype == np.float32 else t.astype(float)
    return _recurrence(n_max, t, 1.0, t.dtype.type(np.pi**-0.25) * np.exp(-t * t / 2))


def diffracted(n_max, u, w, beta, pb_sigma=np.inf):
    """Visibilities of B_n(x; β) exp(−x²/2σ²) exp(iπwx²): one axis of a shapelet under a Gaussian beam and the w-term.

    B_n(x; β) = β^(−1/2) φ_n(x/β). The w-term is that of the small field, n − 1 = −(l² + m²)/2, under which the axes
    separate. The formula is that of a Hermite-Gauss beam of light, which keeps its form as it spreads.

    Parameters
    ----------
    n_max : int
        Largest order.
    u, w : array_like
        ``(n_points,)`` wavelengths.
    beta : float
        Scale in radians.
    pb_sigma : float, optional
        Standard deviation of the primary (power) beam, in radians. Default: no beam.

    Returns
    -------
    `~numpy.ndarray`
        ``(n_max + 1, n_points)`` complex, with the phases (−i)^n.

    References
    ----------
    Kogelnik & Li 1966, Appl. Opt. 5, 1550, doi:10.1364/AO.5.001550 (the modes of light).

    Examples
    --------
    Without beam and w it is the Fourier transform (−i)^n √(2πβ) φ_n(2πβu):

    >>> from halopy.uvshapelets.hermite import diffracted
    >>> print(diffracted(1, [100.0], [0.0], 1e-3).round(5))
    [[0.04887+0.j     ]
     [0.     -0.04343j]]
    """
    z = (beta / pb_sigma) ** 2 - 2j * np.pi * beta**2 * np.asarray(w, dtype=float)
    kappa = 2 * np.pi * beta * np.asarray(u, dtype=float)
    start = np.pi**-0.25 * np.sqrt(2 * np.pi * beta / (1 + z)) * np.exp(-kappa**2 / (2 * (1 + z)))
    phases = np.array([1, -1j, -1, 1j])[np.arange(n_max + 1) % 4]
    return _recurrence(n_max, kappa / (1 + z), (1 - z) / (1 + z), start) * phases[:, None]


def _recurrence(n_max, t, ratio, start):
    rows = np.empty((n_max + 1, *start.shape), dtype=start.dtype)
    rows[0] = start
    if n_max > 0:
        rows[1] = start.dtype.type(np.sqrt(2)) * t * start
    for n in range(1, n_max):
        rows[n + 1] = start.dtype.type(np.sqrt(2 / (n + 1))) * t * rows[n]
        rows[n + 1] -= start.dtype.type(np.sqrt(n / (n + 1))) * ratio * rows[n - 1]
    return rows


def integrals(n_max):
    """Return ∫ φ_n(t) t^k dt for k = 0, 1, 2, ``(3, n_max + 1)``.

    Examples
    --------
    >>> from halopy.uvshapelets.hermite import integrals
    >>> print(integrals(2).round(4))
    [[1.8828 0.     1.3313]
     [0.     2.6627 0.    ]
     [1.8828 0.     6.6567]]
    """
    # Two orders more: t φ_n = √(n/2) φ_{n−1} + √((n+1)/2) φ_{n+1} raises the power by one.
    rows = np.zeros((3, n_max + 3))
    rows[0, 0] = np.sqrt(2) * np.pi**0.25
    for n in range(2, n_max + 3, 2):
        rows[0, n] = np.sqrt((n - 1) / n) * rows[0, n - 2]
    n = np.arange(n_max + 2)
    for k in (1, 2):
        rows[k, :-1] = np.sqrt((n + 1) / 2) * rows[k - 1, 1:]
        rows[k, 1:-1] += np.sqrt(n[1:] / 2) * rows[k - 1, :-2]
    return rows[:, :n_max + 1]
