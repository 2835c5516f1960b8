"""What a comparison found: numbers with intervals, differences on the same sky, power, and cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from astropy.table import QTable, vstack
from scipy.stats import norm

from halopy.classify.report import compare
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
        the baseline on the same targets, groups drawn for both at once; NaN for the baseline itself), ``detectable``
        (see `detectable`), ``n_groups``, ``n_positive``, ``n_negative``. ``meta``: ``baseline``, ``level``,
        ``n_differences`` and ``n_beyond_zero``: how many differences there are, and how many intervals leave out 0.
        So many of them do by chance: 5 % at a level of 0.95.

    Raises
    ------
    HaloInputError
        There are no scores, or a metric is not known.
    """
    if not isinstance(scores, Mapping) or not scores:
        raise HaloInputError("arms_table takes the scores of compare_augmentations", found=type(scores).__name__)
    draws = np.random.default_rng(rng)
    seed = int(draws.integers(2**31))
    sets = {}
    for (classifier, arm), table in scores.items():
        sets.setdefault(classifier, {})[arm] = table
    within = all(baseline in arms and len(arms) > 1 for arms in sets.values())
    if not within:
        sets = {"": {f"{classifier}\n{arm}": table for (classifier, arm), table in scores.items()}}
    parts = []
    for classifier, arms in (progress(list(sets.items())) if progress is not None else sets.items()):
        found = compare(arms, baseline=baseline if within else None, combine=combine, threshold=threshold, level=level,
                        prevalences=(), n=n, rng=seed)
        unknown = set(metrics) - set(found["metric"])
        if unknown:
            raise HaloInputError("a metric of halopy.classify.report is needed", found=sorted(unknown)[0],
                                 hint=", ".join(found["metric"][found["model"] == found["model"][0]]))
        place = {(model, metric): row for row, (model, metric) in enumerate(found["model", "metric"].iterrows())}
        found = found[[place[model, metric] for model in arms for metric in metrics]]
        names = [text.split("\n") if not within else (classifier, text) for text in found["model"]]
        own = np.asarray(found["model"]) == found.meta["baseline"]
        for name in ("difference", "difference_low", "difference_high"):
            found[name][own] = np.nan
        for k, name in enumerate(("classifier", "arm")):
            found[name] = [pair[k] for pair in names]
        parts.append(found)
    table = vstack(parts, metadata_conflicts="silent")
    table["detectable"] = detectable(table["difference_high"] - table["difference_low"], level=level)
    table["detectable"].info.format = ".3f"
    beyond = (table["difference_low"] > 0) | (table["difference_high"] < 0)
    table.meta = {"baseline": baseline if within else " ".join(next(iter(scores))), "level": level,
                  "n_differences": int(np.isfinite(table["difference"]).sum()), "n_beyond_zero": int(beyond.sum())}
    return table["classifier", "arm", "metric", "value", "low", "high", "spread", "difference", "difference_low",
                 "difference_high", "detectable", "n_groups", "n_positive", "n_negative"]


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
