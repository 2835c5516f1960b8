"""What a comparison found: numbers with intervals, differences on the same sky, power, and cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from astropy.table import QTable, vstack
from scipy.stats import norm
from scipy.stats import t as student

from halopy.classify.report import compare, metrics_of
from halopy.classify.scores import scored
from halopy.errors import HaloInputError

__all__ = ["arms_table", "costs_table", "detectable"]

METRICS = ("accuracy", "roc_auc", "brier", "recall@false_positive_rate=1%")
POWER = 0.8


def arms_table(scores, *, baseline="none", combine="name", metrics=METRICS, threshold=0.5, level=0.95, n=2000,
               progress=None, rng=None):
    """Return the metrics of all arms, and how far each is from a classifier's own baseline.

    Parameters
    ----------
    scores : mapping of (str, str) to `~astropy.table.QTable`
        From `halopy.compare.compare_augmentations`.
    baseline : str, optional
        The arm that the others of a classifier are compared with, default ``"none"``. Where there is no other arm,
        or not this one, classifiers are compared with the first.
    metrics : sequence of str, optional
        Of `halopy.classify.report.report`; default: accuracy, ROC area, Brier score, and recall at 1 % false
        positives.
    combine, threshold, level, n, rng : optional
        As of `halopy.classify.report.compare`.
    progress : callable, optional
        Called with an iterable of what is compared and returning it, such as `tqdm.tqdm`.

    Returns
    -------
    `~astropy.table.QTable`
        A row an arm and metric: ``classifier``, ``arm``, ``metric``, ``value``, ``low``, ``high``, ``spread``
        (standard deviation over the seeds), ``difference``, ``difference_low``, ``difference_high`` (of the arm minus
        the baseline on the same targets; NaN for the baseline itself), ``training_error`` (the standard error of the
        difference that comes from the trainings), ``detectable`` (see `detectable`), ``n_groups``, ``n_positive``,
        ``n_negative``. ``meta``: ``baseline``, ``level``, ``n_differences`` and ``n_beyond_zero``: how many differences
        there are, and how many intervals leave out 0, as 5 % do by chance at a level of 0.95; ``n_unscored``.

    Raises
    ------
    HaloInputError
        There are no scores, or a metric is not known.

    Notes
    -----
    The interval of a value comes from drawing groups: it holds what other sky may do to these trained models. Two arms
    differ also by the luck of their trainings, which no amount of sky to score averages out. So the interval of a
    difference is that from drawing groups (for both arms at once), widened by the scatter of the n = folds × seeds
    differences of single folds: of their variance s², folds · e² is what the sky explains, where e is the standard
    error from drawing groups; what is left, (s² − folds · e²) / n where that is positive, is the variance of the
    difference from trainings. It is known from few of them, and multiplied by the ratio of Student's quantile to
    Gauss's, squared.

    References
    ----------
    Nadeau & Bengio 2003, Machine Learning 52, 239, doi:10.1023/A:1024068626366 (why trainings have to count).
    """
    if not isinstance(scores, Mapping) or not scores:
        raise HaloInputError("arms_table takes the scores of compare_augmentations", found=type(scores).__name__)
    seed = int(np.random.default_rng(rng).integers(2**31))
    sets = {}
    for (classifier, arm), table in scores.items():
        sets.setdefault(classifier, {})[classifier, arm] = table
    within = any(len(arms) > 1 for arms in sets.values()) and all((name, baseline) in arms for name, arms in
                                                                   sets.items())
    sets = list(sets.values()) if within else [dict(scores)]
    parts = []
    for arms in progress(sets) if progress is not None else sets:
        first = next(pair for pair in arms if pair[1] == baseline) if within else next(iter(arms))
        parts.append(_compared(arms, first, metrics, combine, threshold, level, n, seed))
    table = vstack(parts, metadata_conflicts="silent")
    beyond = (table["difference_low"] > 0) | (table["difference_high"] < 0)
    table.meta = {"baseline": baseline if within else " ".join(next(iter(scores))), "level": level,
                  "n_differences": int(np.isfinite(table["difference"]).sum()), "n_beyond_zero": int(beyond.sum()),
                  "n_unscored": max(part.meta["n_unscored"] for part in parts)}
    return table


def _compared(arms, first, metrics, combine, threshold, level, n, seed):
    """Return the rows of arms, each against the first."""
    numbered = {str(k): table for k, table in enumerate(arms.values())}
    pairs = list(arms)
    baseline = str(pairs.index(first))
    found = compare(numbered, baseline=baseline, combine=combine, threshold=threshold, level=level, prevalences=(),
                    n=n, rng=seed)
    place = {(row["model"], row["metric"]): k for k, row in enumerate(found)}
    unknown = [name for name in metrics if ("0", name) not in place]
    if unknown:
        raise HaloInputError("a metric of halopy.classify.report is needed", found=unknown[0],
                             hint=", ".join(name for model, name in place if model == "0"))
    meta, found = found.meta, found[[place[model, metric] for model in numbered for metric in metrics]]
    tables, _ = scored(numbered, combine)
    cells = {model: _in_folds(table, metrics, threshold) for model, table in tables.items()}
    error = np.zeros(len(found))
    for k, row in enumerate(found):
        if row["model"] == baseline:
            for name in ("difference", "difference_low", "difference_high"):
                found[name][k] = np.nan
            error[k] = np.nan
            continue
        column = list(metrics).index(row["metric"])
        apart = cells[row["model"]][:, :, column] - cells[baseline][:, :, column]
        low, high = row["difference"] - row["difference_low"], row["difference_high"] - row["difference"]
        z = norm.ppf((1 + level) / 2)
        error[k], wider = _of_trainings(apart, (low + high) / (2 * z), level)
        found["difference_low"][k] = row["difference"] - np.hypot(low, wider)
        found["difference_high"][k] = row["difference"] + np.hypot(high, wider)
    width = found["difference_high"] - found["difference_low"]
    found["training_error"], found["detectable"] = error, detectable(width, level=level)
    for k, name in enumerate(("classifier", "arm")):
        found[name] = [pairs[int(model)][k] for model in found["model"]]
    for name in ("training_error", "detectable"):
        found[name].info.format = ".3f"
    found.meta = meta
    return found["classifier", "arm", "metric", "value", "low", "high", "spread", "difference", "difference_low",
                 "difference_high", "training_error", "detectable", "n_groups", "n_positive", "n_negative"]


def _in_folds(table, metrics, threshold):
    """Return metrics of single folds, ``(seeds, folds, metrics)``; NaN where a fold has none."""
    probability, fold, positive = (np.asarray(table[name]) for name in ("probability", "fold", "positive"))
    result = np.full((probability.shape[1], fold.max() + 1, len(metrics)), np.nan)
    for seed, part in np.ndindex(result.shape[:2]):
        rows = fold[:, seed] == part
        if rows.any():
            numbers = metrics_of(probability[rows, seed], positive[rows], fold[rows, seed], threshold, ())
            result[seed, part] = [numbers[name][0] for name in metrics]
    return result


def _of_trainings(differences, sky, level):
    """Return the standard error of a difference from the trainings, and by how much half an interval is wider.

    ``differences``, ``(seeds, folds)``: of single folds; ``sky``: the standard error from drawing groups.
    """
    known = differences[np.isfinite(differences)]
    if known.size < 2:
        return 0.0, 0.0
    folds = differences.shape[1]
    error = np.sqrt(max(0.0, known.var(ddof=1) - folds * sky**2) / known.size)
    return error, error * student.ppf((1 + level) / 2, known.size - 1)


def detectable(width, *, level=0.95, power=POWER):
    """Return the smallest true difference that would be found in four of five repeats.

    Parameters
    ----------
    width : float or array-like
        Of the interval of a difference: its high end minus the low one.
    level : float, optional
        Of that interval, default 0.95.
    power : float, optional
        Default 0.8.

    Returns
    -------
    float or `~numpy.ndarray`
        (z\\ :sub:`1-α/2` + z\\ :sub:`power`) standard errors; that is 2.8 for the defaults.

    References
    ----------
    Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, 2nd ed., chapter 2.

    Examples
    --------
    >>> from halopy.compare.tables import detectable
    >>> round(float(detectable(2 * 1.96 * 0.01)), 3)
    0.028
    """
    z = norm.ppf((1 + level) / 2)
    return np.asarray(width) / (2 * z) * (z + norm.ppf(power))


def costs_table(scores):
    """Return what each arm cost, as times of a plain training of the same classifier.

    What a killed process had done is not counted, nor what a GPU did.

    Parameters
    ----------
    scores : mapping of (str, str) to `~astropy.table.QTable`
        From `halopy.compare.compare_augmentations`.

    Returns
    -------
    `~astropy.table.QTable`
        A row an arm: ``classifier``, ``arm``, ``n_train`` (images, mean of the folds), and the processor's time of
        ``generator`` (its training), ``images`` (making them) and ``training``, over that of the training of the arm
        ``"none"``, or of the first arm of the classifier; sums of all folds and seeds. Times of different machines do
        not compare, these ratios do.
    """
    rows, base = [], {}
    for (classifier, arm), table in scores.items():
        seconds = {name: float(np.sum(values)) for name, values in table.meta["seconds"].items()}
        if arm == "none" or classifier not in base:
            base[classifier] = seconds["training"] or np.nan
        rows.append((classifier, arm, table.meta["n_train"], seconds))
    result = QTable({"classifier": [row[0] for row in rows], "arm": [row[1] for row in rows],
                     "n_train": [row[2] for row in rows]})
    for name in ("generator", "images", "training"):
        result[name] = [row[3][name] / base[row[0]] for row in rows]
        result[name].info.format = ".1f"
    result["n_train"].info.format = ".0f"
    return result
