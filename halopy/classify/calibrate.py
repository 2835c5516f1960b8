"""Probabilities that come true: a temperature, and sets of answers with a stated coverage.

scipy is imported inside the function that needs it: ``import halopy`` must stay light.
"""

from __future__ import annotations

import copy
import warnings

import numpy as np
from astropy.table import QTable

from halopy.classify import metrics
from halopy.classify.bootstrap import group_bootstrap
from halopy.classify.evaluate import evaluate
from halopy.classify.scores import SMALLEST, scored
from halopy.errors import HaloInputError, HalopyWarning
from halopy.model import group_hashes

__all__ = ["apply_temperature", "calibrate", "calibration", "conformal_sets", "cross_conformal", "fit_temperature"]

LIMITS = (0.05, 20.0)
"""Temperatures beyond these are not looked for."""


def fit_temperature(probability, positive, groups=None):
    """Return the temperature that makes probabilities of held-out targets come true.

    The log-odds are divided by it, the log loss is least: above 1 the model was too sure of itself. The order of the
    targets, and with it the ROC curve, stays.

    Parameters
    ----------
    probability : array-like
        ``(n,)``, of targets that the model was not trained on.
    positive : array-like
        ``(n,)`` bool.
    groups : array-like, optional
        ``(n,)``: every group then weighs the same, however many rows it has.

    Returns
    -------
    float
        Between 0.05 and 20. With a warning: 1 where the classes are separated entirely, which leaves it open how
        sure the model may be; 20 where the probabilities tell nothing.

    Raises
    ------
    HaloInputError
        One class is missing, or the arrays do not fit each other.

    References
    ----------
    Guo et al. 2017, arXiv:1706.04599.

    Examples
    --------
    Three of four that were called 95 % are halos, so that the odds of 19 should have been 3:

    >>> import numpy as np
    >>> from halopy.classify.calibrate import fit_temperature
    >>> temperature = fit_temperature([0.95] * 4 + [0.05] * 4, [1, 1, 1, 0, 0, 0, 0, 1])
    >>> bool(np.isclose(temperature, np.log(19) / np.log(3), rtol=1e-4))
    True
    """
    from scipy.optimize import minimize_scalar

    probability, positive = metrics.checked(probability, positive)
    if positive.all() or not positive.any():
        raise HaloInputError("a temperature needs targets of both classes", found=f"{positive.sum()} positive of "
                             f"{len(positive)}")
    weight = np.ones(len(probability))
    if groups is not None:
        groups = np.asarray(groups)
        if groups.shape != positive.shape:
            raise HaloInputError(f"every target must have a group, {positive.shape}", found=groups.shape)
        member = np.unique(groups, return_inverse=True)[1]
        weight = 1 / np.bincount(member)[member]
    margin = np.where(positive, 1, -1) * _odds(probability)

    def loss(log_temperature):
        return np.average(np.logaddexp(0, -margin / np.exp(log_temperature)), weights=weight)

    ends = np.log(LIMITS)
    best = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-6}).x
    if best - ends[0] < 1e-3:
        warnings.warn("these targets are separated entirely, which tells no temperature: 1 is kept", HalopyWarning,
                      stacklevel=2)
        return 1.0
    if ends[1] - best < 1e-3:
        warnings.warn("these probabilities tell nothing of the targets: the temperature is its limit, 20",
                      HalopyWarning, stacklevel=2)
        return LIMITS[1]
    return float(np.exp(best))


def apply_temperature(probability, temperature):
    """Return probabilities with their log-odds divided by a temperature; 0, 0.5, 1 and NaN stay.

    Parameters
    ----------
    probability : array-like
        Any shape.
    temperature : float

    Returns
    -------
    `~numpy.ndarray`

    Raises
    ------
    HaloInputError
        The temperature is not positive.

    Examples
    --------
    >>> from halopy.classify.calibrate import apply_temperature
    >>> apply_temperature([0.1, 0.5, 0.9], 2.0).round(2).tolist()
    [0.25, 0.5, 0.75]
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise HaloInputError("a temperature must be a positive number", found=temperature)
    probability = np.asarray(probability, dtype=float)
    with np.errstate(divide="ignore", over="ignore"):
        odds = np.log(probability) - np.log1p(-probability)
        return 1 / (1 + np.exp(-odds / temperature))


def calibrate(model, cutouts, *, by="group", combine="name"):
    """Return a copy of a trained model with the temperature of held-out cutouts.

    Parameters
    ----------
    model : Classifier
        One that divides its log-odds by its attribute ``temperature_``.
    cutouts : CutoutSet or mapping of str to CutoutSet
        Labelled, of groups that the model was not trained on. They are used up: the copy counts their groups among
        those that it has seen, for what it is worth must be measured on others.
    by, combine : optional
        As of `halopy.classify.evaluate.evaluate` and `halopy.classify.scores.combine`.

    Returns
    -------
    Classifier

    Raises
    ------
    HaloInputError
        The model has no temperature, or has been trained on one of the groups.
    """
    if not hasattr(model, "temperature_"):
        raise HaloInputError("only a model with an attribute temperature_ can be calibrated",
                             found=type(model).__name__,
                             hint="fit_temperature and apply_temperature, on its probabilities")
    scores = evaluate(model, cutouts, by=by)
    table = scored({"": scores}, combine)[0][""]
    factor = fit_temperature(np.asarray(table["probability"])[:, 0], table["positive"], table["group"])
    calibrated = copy.deepcopy(model)
    # The probabilities were made with the temperature that the model has.
    calibrated.temperature_ = float(model.temperature_) * factor
    used = [np.asarray(scores[name]).astype(str) for name in ("group", "group_before") if name in scores.colnames]
    calibrated.groups_ = tuple(sorted({*model.groups_, *group_hashes(np.concatenate(used))}))
    return calibrated


def calibration(scores, *, combine="name", bins=10, level=0.95, n=2000, rng=None):
    """Return the reliability diagram of scores, with intervals.

    Parameters
    ----------
    scores : `~astropy.table.QTable`
        From `halopy.classify.evaluate`.
    combine : str or None, optional
        See `halopy.classify.scores.combine`.
    bins : int, optional
        Default 10.
    level, n, rng : optional
        As of `halopy.classify.bootstrap.group_bootstrap`.

    Returns
    -------
    `~astropy.table.QTable`
        As of `halopy.classify.metrics.reliability`, mean over the seeds, with ``fraction_low``, ``fraction_high``.
        ``meta["calibration_error"]`` is value, low and high of `halopy.classify.metrics.calibration_error`.
    """
    rng = np.random.default_rng(rng)
    table = scored({"": scores}, combine)[0][""]
    arrays = np.asarray(table["probability"]), np.asarray(table["positive"])

    def diagram(probability, positive):
        seeds = [metrics.reliability(p, positive, bins=bins) for p in probability.T]
        count, mean, fraction = (np.array([s[c] for s in seeds], dtype=float) for c in ("n", "probability", "fraction"))
        with np.errstate(invalid="ignore"):
            total = count.sum(axis=0)
            error = np.mean([metrics.calibration_error(p, positive, bins=bins) for p in probability.T])
            return np.array([count.mean(axis=0), np.nansum(count * mean, axis=0) / total,
                             np.nansum(count * fraction, axis=0) / total, np.full(bins, error)])

    value, low, high = group_bootstrap(diagram, np.asarray(table["group"]), *arrays, n=n, level=level,
                                       strata=arrays[1], rng=rng)
    edges = np.linspace(0, 1, bins + 1)
    return QTable({"low": edges[:-1], "high": edges[1:], "n": value[0], "probability": value[1], "fraction": value[2],
                   "fraction_low": low[2], "fraction_high": high[2]},
                  meta={"calibration_error": tuple(float(numbers[3, 0]) for numbers in (value, low, high))})


def conformal_sets(probability, positive, groups, new, *, coverage=0.9):
    """Return for new targets which answers cannot be excluded.

    Parameters
    ----------
    probability, positive, groups : array-like
        ``(n,)`` of targets that the model was not trained on.
    new : array-like
        ``(m,)`` probabilities of the targets asked for, of groups that are none of these.
    coverage : float, optional
        The fraction of new groups' targets whose true answer is in the set, default 0.9.

    Returns
    -------
    `~numpy.ndarray`
        ``(m, 2)`` bool: whether "no halo", and whether "halo", is in the set. Both are where the model cannot tell;
        neither where the target is like none of the others. Always both with fewer than ``coverage / (1 - coverage)``
        groups, and where the probability is NaN.

    Raises
    ------
    HaloInputError
        The arrays do not fit each other, or the coverage lies not between 0 and 1.

    References
    ----------
    Lee, Barber & Willett 2023, arXiv:2306.06342 (whole groups are exchangeable, their rows are not).

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.classify.calibrate import conformal_sets
    >>> truth = np.arange(40) % 2 == 0
    >>> conformal_sets(np.where(truth, 0.8, 0.2), truth, np.arange(40), [0.9, 0.5, 0.1]).tolist()
    [[False, True], [False, False], [True, False]]
    """
    probability, positive = metrics.checked(probability, positive)
    groups, new = np.asarray(groups), np.asarray(new, dtype=float)
    if groups.shape != positive.shape or new.ndim != 1:
        raise HaloInputError(f"groups must have shape {positive.shape}, new probabilities (m,)",
                             found=f"{groups.shape} and {new.shape}")
    if not 0 < coverage < 1:
        raise HaloInputError("the coverage must lie between 0 and 1", found=coverage)
    member = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(member)
    # A group's rows share one part of n_groups + 1; the last part is the new group's, as bad as can be.
    weight = 1 / (sizes[member] * (len(sizes) + 1))
    strange = np.where(positive, 1 - probability, probability)
    order = np.argsort(strange)
    reached = np.flatnonzero(np.cumsum(weight[order]) >= coverage - 1e-12)
    limit = strange[order][reached[0]] if reached.size else np.inf
    with np.errstate(invalid="ignore"):
        # NaN is not above anything: it stays in both sets.
        return np.column_stack([~(new > limit), ~(1 - new > limit)])


def cross_conformal(scores, *, coverage=0.9, combine="name", level=0.95, n=2000, rng=None):
    """Return the answers that cannot be excluded for cross-validated targets, each fold judged by the others.

    The models of the folds differ, so that the coverage is not guaranteed: it is measured.

    Parameters
    ----------
    scores : `~astropy.table.QTable`
        From `halopy.classify.evaluate.cross_validate`.
    coverage : float, optional
        Default 0.9.
    combine : str or None, optional
        See `halopy.classify.scores.combine`.
    level, n, rng : optional
        As of `halopy.classify.bootstrap.group_bootstrap`.

    Returns
    -------
    `~astropy.table.QTable`
        The targets with ``sets``, ``(n, seeds, 2)`` bool, as of `conformal_sets`. ``meta`` has ``coverage`` (value,
        low, high), ``single`` (the fraction of sets with one answer) and ``nominal``.

    Raises
    ------
    HaloInputError
        There is one fold only.

    References
    ----------
    Vovk 2015, Ann. Math. Artif. Intell. 74, 9 (doi:10.1007/s10472-013-9368-4).
    """
    rng = np.random.default_rng(rng)
    table = scored({"": scores}, combine)[0][""]
    probability, positive, fold, groups = (np.asarray(table[name]) for name in
                                           ("probability", "positive", "fold", "group"))
    if any(len(np.unique(column)) < 2 for column in fold.T):
        raise HaloInputError("cross-conformal sets need two folds or more", found="one fold",
                             hint="conformal_sets, with held-out targets")
    sets = np.zeros((*probability.shape, 2), dtype=bool)
    for seed, (chance, part) in enumerate(zip(probability.T, fold.T, strict=True)):
        for one in np.unique(part):
            own = part == one
            sets[own, seed] = conformal_sets(chance[~own], positive[~own], groups[~own], chance[own], coverage=coverage)
    right = sets[np.arange(len(positive)), :, positive.astype(int)].mean(axis=1)
    table["sets"] = sets
    table.meta["nominal"] = coverage
    table.meta["coverage"] = tuple(float(x) for x in group_bootstrap(np.mean, groups, right, n=n, level=level, rng=rng))
    table.meta["single"] = float((sets.sum(axis=2) == 1).mean())
    return table


def _odds(probability):
    clipped = np.clip(probability, SMALLEST, 1 - SMALLEST)
    return np.log(clipped / (1 - clipped))
