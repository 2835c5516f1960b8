"""Intervals by drawing whole groups, since cutouts of one piece of sky are not independent."""

from __future__ import annotations

import numpy as np

from halopy.errors import HaloInputError

__all__ = ["group_bootstrap", "paired_difference"]


def group_bootstrap(statistic, groups, *arrays, n=2000, level=0.95, strata=None, rng=None):
    """Return a statistic, and its interval from drawing whole groups with replacement.

    Parameters
    ----------
    statistic : callable
        Called with ``arrays``, or what was drawn of them; returns a number or an array of numbers.
    groups : array-like
        ``(n_rows,)``: rows of one group are drawn together, since they are not independent.
    *arrays : array-like
        ``(n_rows, ...)`` each.
    n : int, optional
        How many times to draw, default 2000.
    level : float, optional
        The interval's probability, default 0.95; it is that of percentiles.
    strata : array-like, optional
        ``(n_rows,)`` bool, such as ``positive``: groups in which any row is True and groups in which none is are
        drawn apart, so that their numbers stay as they are.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    value, low, high : float or `~numpy.ndarray`
        NaN for ``low`` and ``high`` where there are fewer than two groups. Draws in which the statistic is NaN do
        not count.

    Raises
    ------
    HaloInputError
        The arrays are not of one length, or n or level cannot be used.

    References
    ----------
    Field & Welsh 2007, J. R. Stat. Soc. B 69, 369 (doi:10.1111/j.1467-9868.2007.00593.x): the cluster bootstrap.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.classify.bootstrap import group_bootstrap
    >>> value, low, high = group_bootstrap(np.mean, ["a", "a", "b", "c"], np.array([1.0, 2.0, 3.0, 4.0]), rng=1)
    >>> bool(low < value < high)
    True
    """
    rng = np.random.default_rng(rng)
    groups, arrays = np.asarray(groups), [np.asarray(array) for array in arrays]
    if groups.ndim != 1 or any(len(array) != len(groups) for array in arrays):
        raise HaloInputError(f"every array must have a row for each of the {groups.size} groups given",
                             found=[len(array) for array in arrays])
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise HaloInputError("n must be a whole number of draws", found=n)
    if not 0 < level < 1:
        raise HaloInputError("the level of an interval must lie between 0 and 1", found=level)
    value = statistic(*arrays)
    _, member = np.unique(groups, return_inverse=True)
    sizes = np.bincount(member)
    if len(sizes) < 2:
        return value, value * np.nan, value * np.nan
    order, start = np.argsort(member, kind="stable"), np.concatenate([[0], np.cumsum(sizes)])
    held = np.zeros(len(sizes), dtype=bool) if strata is None else np.bincount(member, np.asarray(strata)) > 0
    pools = [pool for pool in (np.flatnonzero(held), np.flatnonzero(~held)) if pool.size]
    drawn = []
    for _ in range(n):
        chosen = np.concatenate([rng.choice(pool, pool.size) for pool in pools])
        length = sizes[chosen]
        # Rows of the groups drawn, one group after the other.
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        rows = order[np.repeat(start[chosen], length) + within]
        drawn.append(statistic(*(array[rows] for array in arrays)))
    low, high = _quantiles(np.array(drawn, dtype=float), level)
    return value, low[()], high[()]


def paired_difference(statistic, groups, positive, first, second, *, n=2000, level=0.95, rng=None):
    """Return how much better ``first`` is than ``second`` on the same rows, and the interval of that.

    Parameters
    ----------
    statistic : callable
        Called as ``statistic(probability, positive)``, such as `halopy.classify.metrics.roc_auc`.
    groups, positive : array-like
        ``(n_rows,)``.
    first, second : array-like
        ``(n_rows,)`` probabilities of two models.
    n, level, rng : optional
        As of `group_bootstrap`.

    Returns
    -------
    difference, low, high : float

    Examples
    --------
    >>> from halopy.classify.bootstrap import paired_difference
    >>> from halopy.classify.metrics import roc_auc
    >>> truth = [True, False] * 4
    >>> difference = paired_difference(roc_auc, range(8), truth, [0.9, 0.1] * 4, [0.5] * 8, n=50, rng=1)
    >>> [float(number) for number in difference]
    [0.5, 0.5, 0.5]
    """
    def difference(positive, first, second):
        return statistic(first, positive) - statistic(second, positive)

    return group_bootstrap(difference, groups, np.asarray(positive, dtype=bool), first, second, n=n, level=level,
                           strata=positive, rng=rng)


def _quantiles(drawn, level):
    """Return the ends of the central interval along the first axis, of what is finite."""
    tails = (1 - level) / 2, (1 + level) / 2
    known = np.isfinite(drawn).any(axis=0)
    filled = np.where(known, drawn, 0.0)
    return [np.where(known, np.nanquantile(filled, tail, axis=0), np.nan) for tail in tails]
