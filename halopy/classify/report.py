"""Every number of an evaluation with its interval, for one model or several side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from astropy.table import QTable, vstack

from halopy.classify import metrics
from halopy.classify.bootstrap import group_bootstrap
from halopy.classify.scores import scored, unanimous
from halopy.errors import HaloInputError

__all__ = ["compare", "report"]


def report(scores, *, combine="name", threshold=0.5, prevalences=(0.1, 0.01), level=0.95, n=2000, rng=None):
    """Return every metric with its interval.

    Parameters
    ----------
    scores : `~astropy.table.QTable`
        From `halopy.classify.evaluate`.
    combine : str or None, optional
        What is one target, default ``"name"``; see `halopy.classify.scores.combine`.
    threshold : float, optional
        The probability from which on a target counts as flagged, default 0.5.
    prevalences : sequence of float, optional
        Fractions of halos for which precision is given, too, default 0.1 and 0.01.
    level : float, optional
        The intervals' probability, default 0.95.
    n : int, optional
        How many times groups are drawn, default 2000.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `~astropy.table.QTable`
        A row a metric: ``metric``, ``value`` (the mean over the seeds), ``low``, ``high`` (from drawing groups),
        ``spread`` (standard deviation over the seeds; NaN for one), ``threshold`` (NaN where it needs none),
        ``n_groups``, ``n_positive``, ``n_negative`` (targets). ``meta`` has ``n_unscored``: targets with a
        probability that is NaN, which count nowhere.

        ``roc_auc`` compares targets of one fold (`halopy.classify.metrics.roc_auc`), ``roc_auc_pooled`` all. ``@``
        stands before a prevalence. The rows ``true_positives`` and so on are the confusion matrix.

    Notes
    -----
    Where every group agrees, as with a recall of 1, drawing groups tells nothing. The far end of the interval is
    then that of m groups of which all do: (α/2)\\ :sup:`1/m` (Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404).

    Examples
    --------
    >>> from halopy import classifiers
    >>> from halopy.classify.evaluate import evaluate, report
    >>> from halopy.testing import simulated_cutouts
    >>> table = report(evaluate(classifiers.create("matched-filter"), simulated_cutouts(24)), n=100, rng=1)
    >>> "average_precision@1%" in table["metric"]
    True
    """
    rng = np.random.default_rng(rng)
    return _report(*scored({"": scores}, combine), threshold, prevalences, level, n, None, rng)[
        ["metric", "value", "low", "high", "spread", "threshold", "n_groups", "n_positive", "n_negative"]]


def compare(scores, *, baseline=None, combine="name", threshold=0.5, prevalences=(0.1, 0.01), level=0.95, n=2000,
            rng=None):
    """Return the metrics of several models, and how far each is from a baseline on the same targets.

    Parameters
    ----------
    scores : mapping of str to `~astropy.table.QTable`
        Tables of the same cutouts from `halopy.classify.evaluate`, best with the same folds (the same ``rng``).
    baseline : str, optional
        The model that the others are compared with, default the first.
    combine, threshold, prevalences, level, n, rng : optional
        As of `report`.

    Returns
    -------
    `~astropy.table.QTable`
        As of `report`, with ``model`` before and ``difference``, ``difference_low``, ``difference_high`` behind: the
        model minus the baseline, with groups drawn for both at once. Targets that one of the models could not
        score count for none.

    Raises
    ------
    HaloInputError
        The tables are not of the same cutouts, or the baseline is none of them.
    """
    rng = np.random.default_rng(rng)
    if not isinstance(scores, Mapping) or not scores:
        raise HaloInputError("compare takes a mapping of names to tables of scores", found=type(scores).__name__)
    baseline = next(iter(scores)) if baseline is None else baseline
    if baseline not in scores:
        raise HaloInputError("the baseline must be one of the models", found=baseline, hint=", ".join(scores))
    return _report(*scored(scores, combine), threshold, prevalences, level, n, list(scores).index(baseline), rng)


def metrics_of(probability, positive, fold, threshold, prevalences):
    """Return ``{metric: (value, needs the threshold)}`` of one seed."""
    (tn, fp), (fn, tp) = metrics.confusion(probability, positive, threshold)
    recall, specificity = metrics.ratio(tp, tp + fn), metrics.ratio(tn, tn + fp)
    return {
        "roc_auc": (metrics.roc_auc(probability, positive, within=fold), False),
        "roc_auc_pooled": (metrics.roc_auc(probability, positive), False),
        "average_precision": (metrics.average_precision(probability, positive), False),
        **{f"average_precision@{100 * p:.3g}%": (metrics.average_precision(probability, positive, prevalence=p), False)
           for p in prevalences},
        "recall@false_positive_rate=1%": (metrics.recall_at_false_positive_rate(probability, positive, 0.01), False),
        "precision": (metrics.ratio(tp, tp + fp), True), "recall": (recall, True), "specificity": (specificity, True),
        "f1": (metrics.ratio(2 * tp, 2 * tp + fp + fn), True),
        "accuracy": (metrics.ratio(tp + tn, len(positive)), True),
        "balanced_accuracy": ((recall + specificity) / 2, True),
        **{f"precision@{100 * p:.3g}%": (metrics.precision_at_prevalence(recall, specificity, p), True)
           for p in prevalences},
        "brier": (metrics.brier(probability, positive), False),
        "calibration_error": (metrics.calibration_error(probability, positive), False),
        "true_positives": (tp, True), "false_positives": (fp, True), "false_negatives": (fn, True),
        "true_negatives": (tn, True),
    }


def _report(tables, unscored, threshold, prevalences, level, n, baseline, rng):
    prevalences = [metrics.fraction(p, "prevalence") for p in prevalences]
    first = next(iter(tables.values()))
    positive, groups = np.asarray(first["positive"]), np.asarray(first["group"])
    names = list(tables)
    columns = [np.asarray(table[name]) for table in tables.values() for name in ("probability", "fold")]
    known = list(metrics_of(columns[0][:, 0], positive, columns[1][:, 0], threshold, prevalences).items())

    def per_seed(positive, probability, fold):
        return np.array([[value for value, _ in metrics_of(p, positive, f, threshold, prevalences).values()]
                         for p, f in zip(probability.T, fold.T, strict=True)], dtype=float)

    def statistic(positive, *columns):
        values = np.array([per_seed(positive, *columns[2 * k:2 * k + 2]).mean(axis=0) for k in range(len(names))])
        return values if baseline is None else np.concatenate([values, values - values[baseline]])

    value, low, high = group_bootstrap(statistic, groups, positive, *columns, n=n, level=level, strata=positive,
                                       rng=rng)
    results = []
    for k, (name, table) in enumerate(tables.items()):
        seeds = per_seed(positive, *columns[2 * k:2 * k + 2])
        ends = np.array([unanimous(metric, *between, table, threshold, level) for (metric, _), *between in
                         zip(known, low[k], high[k], strict=True)])
        result = QTable({
            "model": np.full(len(known), name, dtype=f"U{max(1, len(name))}"),
            "metric": np.array([metric for metric, _ in known]), "value": value[k],
            "low": ends[:, 0], "high": ends[:, 1],
            "spread": seeds.std(axis=0, ddof=1) if len(seeds) > 1 else np.full(len(known), np.nan),
            "threshold": np.array([threshold if needs else np.nan for _, (_, needs) in known], dtype=float),
            "n_groups": np.full(len(known), len(np.unique(groups))),
            "n_positive": np.full(len(known), positive.sum()), "n_negative": np.full(len(known), (~positive).sum())})
        if baseline is not None:
            for column, numbers in (("difference", value), ("difference_low", low), ("difference_high", high)):
                result[column] = numbers[len(names) + k]
        results.append(result)
    table = vstack(results, metadata_conflicts="silent")
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".3f"
    table.meta = {"level": level, "n_unscored": unscored}
    if baseline is not None:
        table.meta["baseline"] = names[baseline]
    return table
