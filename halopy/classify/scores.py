"""Tables of scores: what `halopy.classify.evaluate` returns, and the bands of a target combined.

A table of scores has a row a cutout, with ``probability`` and ``fold`` of shape ``(n, seeds)``, ``positive`` and
``group``.
"""

from __future__ import annotations

import numpy as np

from halopy.errors import HaloInputError

__all__ = ["combine", "scored", "unanimous"]

SMALLEST = 2.0**-53
"""Probabilities nearer to 0 or 1 have no log-odds of their own in double precision."""


def combine(scores, *, by="name"):
    """Combine the cutouts of one target, such as its bands, by the mean of their log-odds.

    Parameters
    ----------
    scores : `~astropy.table.QTable`
        From `halopy.classify.evaluate`.
    by : str or None, optional
        Rows with the same value in this column and in ``group`` are one target, default ``"name"``. Rows without a
        value are targets of their own. None: nothing is combined.

    Returns
    -------
    `~astropy.table.QTable`
        A row a target, in the order of their first cutouts, with ``n_cutouts``, and of the other columns those that
        are the same for all cutouts of every target (and ``position`` and ``area``, of the first cutout). Cutouts
        that could not be scored do not count; NaN where no one could.

    Raises
    ------
    HaloInputError
        Cutouts of one name and group do not agree on whether there is a halo, or lie in different folds.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from halopy.classify.scores import combine
    >>> scores = QTable({"name": ["A141", "A141", "A2744"], "group": ["1", "1", "2"], "positive": [True, True, False],
    ...                  "probability": [[0.9], [0.5], [0.2]], "fold": [[0], [0], [0]]})
    >>> combine(scores)["probability"][:, 0].round(3).tolist()
    [0.75, 0.2]
    """
    _check(scores)
    n = len(scores)
    key = np.arange(n).astype(str)
    if by is not None and by in scores.colnames:
        column = scores[by]
        name = np.ma.filled(np.ma.asarray(column), "").astype(str)
        group = np.asarray(scores["group"]).astype(str)
        alone = (np.char.strip(name) == "") | (name == "nan")
        key = np.array([f"row\0{i}" if own else f"{a}\0{b}" for i, (own, a, b) in
                        enumerate(zip(alone, group, name, strict=True))], dtype=str)
    elif by not in (None, "name"):
        raise HaloInputError(f"these scores have no column {by!r} to combine by", found=scores.colnames)
    _, first, member = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(first)
    first, member = first[order], np.argsort(order)[member]
    for name, what in (("positive", "agree on whether there is a halo"), ("fold", "lie in one fold")):
        values = np.asarray(scores[name])
        wrong = np.flatnonzero(np.any((values != values[first][member]).reshape(n, -1), axis=1))
        if wrong.size:
            raise HaloInputError(f"the cutouts of one target must {what}", keyword=by, found=str(scores[by][wrong[0]]),
                                 hint="combine=None, where one name stands for several targets")
    count = np.bincount(member, minlength=len(first))
    keep = [name for name in scores.colnames if name not in ("probability", "area", "position") and
            (len(first) == n or _constant(scores[name], first[member]))]
    result = scores[first][[*keep, *(name for name in ("position", "area") if name in scores.colnames)]]
    probability = np.asarray(scores["probability"], dtype=float)
    combined = probability[first].copy()
    several = count > 1
    with np.errstate(invalid="ignore", divide="ignore"):
        clipped = np.clip(probability, SMALLEST, 1 - SMALLEST)
        odds = np.log(clipped / (1 - clipped))
        total = np.zeros_like(combined)
        known = np.zeros_like(combined)
        np.add.at(total, member, np.nan_to_num(odds))
        np.add.at(known, member, np.isfinite(odds))
        # A target of one cutout keeps its probability to the last digit.
        combined[several] = (1 / (1 + np.exp(-total / np.where(known > 0, known, np.nan))))[several]
    result["probability"], result["n_cutouts"] = combined, count
    result.meta = dict(scores.meta)
    return result


def scored(scores, by):
    """Return the targets of tables of scores that all models could score, and how many others there are.

    Parameters
    ----------
    scores : mapping of str to `~astropy.table.QTable`
        Of the same cutouts in the same order.
    by : str or None
        See `combine`.

    Returns
    -------
    tables : dict of str to `~astropy.table.QTable`
    n_unscored : int
    """
    tables = {name: combine(table, by=by) for name, table in scores.items()}
    first, *others = tables.values()
    same = [name for name in ("name", "group", "positive") if name in first.colnames]
    for other in others:
        if len(other) != len(first) or any(name not in other.colnames or
                                           not np.array_equal(np.asarray(first[name]), np.asarray(other[name]))
                                           for name in same):
            raise HaloInputError("models are compared on the same cutouts in the same order",
                                 found=f"{len(first)} and {len(other)} targets")
    known = np.all([np.isfinite(np.asarray(table["probability"])).all(axis=1) for table in tables.values()], axis=0)
    if not known.any():
        raise HaloInputError("none of the targets has a probability", found=f"{len(known)} that are NaN")
    return {name: table[known] for name, table in tables.items()}, int((~known).sum())


def unanimous(metric, low, high, table, threshold, level):
    """Return the interval of a fraction; where all groups agree, as wide as so many groups allow.

    Parameters
    ----------
    metric : str
        ``"precision"``, ``"recall"``, ``"specificity"``, ``"accuracy"`` or ``"flag_rate"``; others stay as they are.
    low, high : float
        The interval from drawing groups.
    table : `~astropy.table.QTable`
        The targets.
    threshold, level : float

    Returns
    -------
    low, high : float

    References
    ----------
    Clopper & Pearson 1934, Biometrika 26, 404 (doi:10.1093/biomet/26.4.404).
    """
    if low != high or low not in (0, 1):
        return low, high
    positive = np.asarray(table["positive"])
    rows = {"precision": (np.asarray(table["probability"]) >= threshold).any(axis=1), "recall": positive,
            "specificity": ~positive, "accuracy": np.ones_like(positive), "flag_rate": np.ones_like(positive)}
    if metric not in rows:
        return low, high
    n_groups = len(np.unique(np.asarray(table["group"])[rows[metric]]))
    bound = ((1 - level) / 2) ** (1 / max(n_groups, 1))
    return (bound, high) if low == 1 else (low, 1 - bound)


def _check(scores):
    missing = [name for name in ("probability", "fold", "positive", "group") if name not in
               getattr(scores, "colnames", [])]
    if missing:
        raise HaloInputError(f"a table of scores has a column {missing[0]!r}",
                             found=getattr(scores, "colnames", type(scores).__name__),
                             hint="what halopy.classify.evaluate.cross_validate returns")
    if len(scores) == 0 or np.ndim(scores["probability"]) != 2:
        raise HaloInputError("probability must have shape (n, seeds), with n above 0",
                             found=np.shape(scores["probability"]))


def _constant(column, first):
    """Whether every row has the value of the first row of its target."""
    if not isinstance(column, np.ndarray):
        return False
    mask = np.broadcast_to(getattr(column, "mask", False), np.shape(column))
    values = np.asarray(getattr(column, "unmasked", column))
    same = values == values[first]
    if values.dtype.kind == "f":
        same |= np.isnan(values) & np.isnan(values[first])
    return bool(np.all(np.where(mask | mask[first], mask == mask[first], same)))
