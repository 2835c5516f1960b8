"""Where a model is right and where it is wrong: parts of the targets, blank sky, and the mistakes by name."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.classify import metrics
from halopy.classify.bootstrap import group_bootstrap
from halopy.classify.scores import scored, unanimous
from halopy.errors import HaloInputError

__all__ = ["breakdown", "false_positives", "mistakes"]

RATES = ("flag_rate", "recall", "specificity", "roc_auc")


def breakdown(scores, by, *, bins=None, combine="name", threshold=0.5, level=0.95, n=2000, rng=None):
    """Return flag rate, recall, specificity and ROC area for parts of the targets.

    Parameters
    ----------
    scores : `~astropy.table.QTable`
        From `halopy.classify.evaluate`.
    by : str
        A column: its values are the parts, or the ``bins`` that they lie in.
    bins : sequence of float or `~astropy.units.Quantity`, optional
        Edges; the upper one belongs to the next bin. Needed where the column holds numbers.
    combine : str or None, optional
        As of `halopy.classify.report.report`. A column that differs between the cutouts of a target,
        such as the band, needs None.
    threshold, level, n, rng : optional
        As of `halopy.classify.report.report`.

    Returns
    -------
    `~astropy.table.QTable`
        A row a part: the column's value, or ``low`` and ``high`` (edges); ``n_targets``, ``n_groups``,
        ``n_positive``; ``flag_rate``, ``recall``, ``specificity``, ``roc_auc``, with ``_low`` and ``_high`` each.

    Examples
    --------
    >>> from halopy import classifiers
    >>> from halopy.classify.evaluate import evaluate
    >>> from halopy.classify.breakdown import breakdown
    >>> from halopy.testing import simulated_cutouts
    >>> table = breakdown(evaluate(classifiers.create("matched-filter"), simulated_cutouts(24)), "label", n=50, rng=1)
    >>> table["label"].tolist()
    ['halo', 'none', 'radio-galaxy']
    """
    rng = np.random.default_rng(rng)
    table = _targets(scores, combine)
    if by not in table.colnames:
        raise HaloInputError(f"the targets have no column {by!r}, or their cutouts differ in it", found=table.colnames,
                             hint="combine=None")
    rows = []
    for where, part in _parts(table[by], by, bins):
        chosen = table[part]
        arrays = [np.asarray(chosen[name]) for name in ("probability", "positive", "fold")]
        values = group_bootstrap(lambda p, y, f: _measures(p, y, f, threshold), np.asarray(chosen["group"]), *arrays,
                                 n=n, level=level, strata=arrays[1], rng=rng)
        row = where | {"n_targets": len(chosen), "n_groups": len(np.unique(np.asarray(chosen["group"]))),
                       "n_positive": int(chosen["positive"].sum())}
        for k, name in enumerate(RATES):
            low, high = unanimous(name, values[1][k], values[2][k], chosen, threshold, level)
            row |= {name: values[0][k], f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return QTable(rows=rows)


def false_positives(scores, *, labels=("blank",), combine="name", threshold=0.5, level=0.95, n=2000, rng=None):
    """Return how many targets are flagged per square degree of sky without a halo.

    A cutout is judged at its centre alone: a search that looks at every beam of a field flags more.

    Parameters
    ----------
    scores : `~astropy.table.QTable`
        From `halopy.classify.evaluate`, of cutouts with ``pixel_scale``.
    labels : sequence of str, optional
        Which labels count as blank sky, default ``("blank",)``; ``"none"`` are clusters.
    combine, threshold, level, n, rng : optional
        As of `halopy.classify.report.report`.

    Returns
    -------
    value, low, high : `~astropy.units.Quantity`
        Per square degree.

    Raises
    ------
    HaloInputError
        There are none with these labels, or their areas are not known.
    """
    table = _targets(scores, combine)
    if "area" not in table.colnames:
        raise HaloInputError("the area on the sky is not known", found=table.colnames, hint="a column pixel_scale")
    label = np.ma.filled(np.ma.asarray(table["label"]), "").astype(str)
    chosen = table[np.isin(label, list(labels)) & ~np.asarray(table["positive"])]
    if len(chosen) == 0:
        raise HaloInputError("there is no sky without a halo among the targets", keyword="label",
                             found=sorted(set(label.tolist())), hint='labels=("blank", "none")')
    flagged = (np.asarray(chosen["probability"]) >= threshold).mean(axis=1)
    rate = group_bootstrap(lambda f, a: f.sum() / a.sum(), np.asarray(chosen["group"]), flagged,
                           chosen["area"].to_value(u.deg**2), n=n, level=level, rng=rng)
    if not flagged.any():
        # None among m groups: the upper end of the fraction of them, for the sky that they are.
        m = len(np.unique(np.asarray(chosen["group"])))
        bound = (1 - ((1 - level) / 2) ** (1 / m)) * m / chosen["area"].to_value(u.deg**2).sum()
        rate = (0.0, 0.0, bound)
    return tuple(float(number) / u.deg**2 for number in rate)


def mistakes(scores, *, combine="name", threshold=0.5):
    """Return the targets that are on the wrong side of the threshold, the worst first.

    Parameters
    ----------
    scores : `~astropy.table.QTable`
        From `halopy.classify.evaluate`.
    combine, threshold : optional
        As of `halopy.classify.report.report`.

    Returns
    -------
    `~astropy.table.QTable`
        The targets as of `halopy.classify.scores.combine` that are wrong with the mean probability over the
        seeds, with ``kind`` (``"missed"`` or ``"false"``), ``mean_probability`` and ``wrong`` (the fraction of
        the seeds).
    """
    table = _targets(scores, combine)
    probability, positive = np.asarray(table["probability"]), np.asarray(table["positive"])
    mean = probability.mean(axis=1)
    table["kind"] = np.where(positive, "missed", "false")
    table["mean_probability"] = mean
    table["wrong"] = ((probability >= threshold) != positive[:, None]).mean(axis=1)
    found = np.flatnonzero((mean >= threshold) != positive)
    return table[found[np.argsort(-np.abs(mean - positive)[found], kind="stable")]]


def _measures(probability, positive, fold, threshold):
    flagged = probability >= threshold
    with np.errstate(invalid="ignore"):
        rates = [flagged.mean(), flagged[positive].mean() if positive.any() else np.nan,
                 (~flagged[~positive]).mean() if (~positive).any() else np.nan]
    return np.array([*rates, _mean_auc(probability, positive, fold)])


def _mean_auc(probability, positive, fold):
    return np.mean([metrics.roc_auc(p, positive, within=f) for p, f in zip(probability.T, fold.T, strict=True)])


def _targets(scores, combine):
    return scored({"": scores}, combine)[0][""]


def _parts(column, name, bins):
    """Yield how each part is called, and its rows."""
    if bins is None:
        values = np.ma.filled(np.ma.asarray(column), "").astype(str) if column.dtype.kind in "US" else \
            np.asarray(column)
        if values.dtype.kind == "f":
            raise HaloInputError(f"the column {name!r} holds numbers: bins are needed", found=str(values.dtype),
                                 hint="bins=(0, 4, 6, 8, 20)")
        for value in np.unique(values):
            yield {name: value}, values == value
        return
    unit = getattr(column, "unit", None)
    values = np.asarray(np.ma.filled(np.ma.asarray(getattr(column, "value", column)).astype(float), np.nan))
    edges = np.asarray(bins.to_value(unit or u.one) if isinstance(bins, u.Quantity) else bins, dtype=float)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise HaloInputError("bins must be two or more rising edges", found=bins)
    for low, high in pairwise(edges):
        part = (values >= low) & (values < high)
        if part.any():
            yield {"low": low if unit is None else low * unit, "high": high if unit is None else high * unit}, part
