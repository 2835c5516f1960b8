"""How far two sets of images are apart: from their features, one row an image.

Every function takes plain arrays. Standardise the features first, on the real images (`standardised`).
"""

from __future__ import annotations

import numpy as np

from halopy.errors import HaloInputError

__all__ = ["density_coverage", "frechet_distance", "kernel_distance", "mean_distance", "principal_components",
           "squared_distances", "standardised", "wasserstein"]

MOST_COMPONENTS = 16
"""Principal components of the Fréchet distance: with more, its bias is all there is to see of some hundred images."""
NEIGHBOURS = 5
FAR = 5.0
"""Standard deviations."""


def standardised(features, reference):
    """Return features less the mean and over the standard deviation of a reference set, from −5 to 5.

    One image that is far from all others would otherwise outweigh a thousand in a cubic kernel.

    Parameters
    ----------
    features, reference : `~numpy.ndarray`
        ``(n, k)`` and ``(m, k)``. A feature that is the same in all of the reference is left in its own unit.

    Returns
    -------
    `~numpy.ndarray`
        ``(n, k)``
    """
    scatter = reference.std(axis=0)
    return np.clip((features - reference.mean(axis=0)) / np.where(scatter > 1e-9, scatter, 1), -FAR, FAR)


def wasserstein(first, second):
    """Return the first Wasserstein distance between the values of two sets of equal size.

    Parameters
    ----------
    first, second : `~numpy.ndarray`
        ``(n,)`` or ``(n, k)``, a column each.

    Returns
    -------
    float or `~numpy.ndarray`
        Mean distance of the sorted values, ``()`` or ``(k,)``.

    Examples
    --------
    >>> from halopy.generative.quality.set_distances import wasserstein
    >>> float(wasserstein([0.0, 1.0, 3.0], [5.0, 6.0, 8.0]))
    5.0
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape or not len(first):
        raise HaloInputError("the distance needs as many values on both sides", found=(first.shape, second.shape))
    return np.abs(np.sort(first, axis=0) - np.sort(second, axis=0)).mean(axis=0)


def kernel_distance(first, second, *, first_groups=None, second_groups=None):
    """Return the kernel distance (KID): the squared maximum mean discrepancy with a cubic polynomial kernel.

    Parameters
    ----------
    first, second : `~numpy.ndarray`
        ``(n, k)`` and ``(m, k)`` standardised features.
    first_groups, second_groups : array-like, optional
        ``(n,)`` and ``(m,)``: two images of one group are not independent, and are no pair. Default: each image is a
        group.

    Returns
    -------
    float
        Its mean over draws is 0 for two sets of one distribution, whatever n, and it can be negative; NaN where all
        images of a set are one group.

    References
    ----------
    Bińkowski et al. 2018, arXiv:1801.01401; Gretton et al. 2012, JMLR 13, 723 (the unbiased estimate).

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.generative.quality.set_distances import kernel_distance
    >>> rng = np.random.default_rng(1)
    >>> first, second = rng.normal(size=(2, 200, 20))
    >>> bool(abs(kernel_distance(first, second)) < 0.05 < kernel_distance(first, second + 0.3))
    True
    """
    return (_within(first, first_groups) + _within(second, second_groups) - 2 * _kernel(first, second).mean())


def _kernel(first, second):
    return (first @ second.T / first.shape[1] + 1) ** 3


def _within(features, groups):
    groups = np.arange(len(features)) if groups is None else np.asarray(groups)
    pairs = groups[:, None] != groups
    count = pairs.sum()
    return (_kernel(features, features) * pairs).sum() / count if count else np.nan


def frechet_distance(first, second):
    """Return the Fréchet distance between two sets, as if each were a normal distribution.

    Parameters
    ----------
    first, second : `~numpy.ndarray`
        ``(n, k)`` and ``(m, k)``, few columns for few images, such as principal components.

    Returns
    -------
    float
        Not negative, and far from 0 for two small sets of one distribution, too: compare it with that of real
        images for the same n.

    Notes
    -----
    Covariances are shrunk towards a multiple of the unit matrix.

    References
    ----------
    Heusel et al. 2017, arXiv:1706.08500; Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4 (the shrinkage).

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.generative.quality.set_distances import frechet_distance
    >>> rng = np.random.default_rng(1)
    >>> first, second = rng.normal(size=(2, 4000, 4))
    >>> round(float(frechet_distance(first, second + 1)))  # four dimensions, moved by 1 in each
    4
    """
    from sklearn.covariance import ledoit_wolf

    means = [np.asarray(part).mean(axis=0) for part in (first, second)]
    covariances = [ledoit_wolf(part)[0] for part in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    cross = np.linalg.eigvalsh(root @ covariances[1] @ root)
    distance = ((means[0] - means[1]) ** 2).sum() + sum(np.trace(c) for c in covariances)
    return max(distance - 2 * np.sqrt(np.maximum(cross, 0)).sum(), 0.0)


def principal_components(features, n):
    """Return the axes, ``(k, d)``, along which features scatter most: 16, or half of what n images would allow."""
    centred = features - features.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return axes[:max(1, min(MOST_COMPONENTS, n // 2, len(axes)))].T


def density_coverage(real, generated, *, groups=None):
    """Return how often generated images fall among real ones, and how much of the real ones they reach.

    Parameters
    ----------
    real, generated : `~numpy.ndarray`
        ``(n, k)`` and ``(m, k)`` standardised features.
    groups : array-like, optional
        ``(n,)``: images of the same group are no neighbours. Default: each image is a group.

    Returns
    -------
    density : float
        About 1 for two sets of one distribution; less where generated images lie apart from real ones, more where
        they lie in the densest places.
    coverage : float
        The share of the real images that have a generated one nearer than their fifth nearest real neighbour:
        0.97 for two large sets of one distribution, less where something is missing.

    References
    ----------
    Naeem et al. 2020, arXiv:2002.09797.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.generative.quality.set_distances import density_coverage
    >>> real, generated = np.random.default_rng(1).normal(size=(2, 300, 10))
    >>> density, coverage = density_coverage(real, generated)
    >>> bool(0.8 < density < 1.2 and coverage > 0.9)
    True
    """
    groups = np.arange(len(real)) if groups is None else np.asarray(groups)
    own = np.where(groups[:, None] == groups, np.inf, squared_distances(real, real))
    k = min(NEIGHBOURS, len(real) - 1)
    if k < 1:
        return np.nan, np.nan
    radius = np.partition(own, k - 1, axis=1)[:, k - 1]
    known = np.isfinite(radius)
    if not known.any():
        return np.nan, np.nan
    inside = squared_distances(real, generated)[known] <= radius[known, None]
    return inside.sum() / (k * len(generated)) * len(real) / known.sum(), inside.any(axis=1).mean()


def mean_distance(features, *, groups=None):
    """Return the mean distance between two images of a set that share no group; NaN where there are none.

    Parameters
    ----------
    features : `~numpy.ndarray`
        ``(n, k)`` standardised features.
    groups : array-like, optional
        ``(n,)``, default each image its own.

    Returns
    -------
    float
    """
    groups = np.arange(len(features)) if groups is None else np.asarray(groups)
    pairs = groups[:, None] != groups
    if not pairs.any():
        return np.nan
    return np.sqrt(squared_distances(features, features))[pairs].mean()


def squared_distances(first, second):
    """Return the squared distance of each row of one array from each of another, ``(n, m)``."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return np.maximum(squares, 0)
