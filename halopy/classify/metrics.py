"""Numbers that say how good probabilities are.

Everything here works on arrays and knows no model. ``probability`` is that of a halo, ``(n,)``, and ``positive``
says which rows hold one. What cannot be computed, such as the recall of a set without positives, is NaN.
"""

from __future__ import annotations

import numpy as np
from astropy.table import QTable

from halopy.errors import HaloInputError

__all__ = [
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "calibration_error",
    "confusion",
    "f1",
    "precision",
    "precision_at_prevalence",
    "recall",
    "recall_at_false_positive_rate",
    "reliability",
    "roc_auc",
    "specificity",
]


def confusion(probability, positive, threshold=0.5):
    """Count what is flagged, a probability of at least ``threshold``, and what is not.

    Parameters
    ----------
    probability : array-like
        ``(n,)``, finite.
    positive : array-like
        ``(n,)`` bool.
    threshold : float, optional
        Default 0.5.

    Returns
    -------
    `~numpy.ndarray`
        ``[[true negatives, false positives], [false negatives, true positives]]``.

    Raises
    ------
    HaloInputError
        The two are not of one length, or a probability is not finite.

    Examples
    --------
    >>> from halopy.classify.metrics import confusion
    >>> confusion([0.9, 0.4, 0.7, 0.1], [True, True, False, False]).tolist()
    [[1, 1], [1, 1]]
    """
    probability, positive = checked(probability, positive)
    flagged = probability >= threshold
    return np.array([[np.sum(~flagged & ~positive), np.sum(flagged & ~positive)],
                     [np.sum(~flagged & positive), np.sum(flagged & positive)]])


def precision(probability, positive, threshold=0.5):
    """Return the fraction of what is flagged that is positive; NaN where nothing is flagged."""
    (_, false), (_, true) = confusion(probability, positive, threshold)
    return ratio(true, true + false)


def recall(probability, positive, threshold=0.5):
    """Return the fraction of the positives that is flagged."""
    _, (missed, found) = confusion(probability, positive, threshold)
    return ratio(found, found + missed)


def specificity(probability, positive, threshold=0.5):
    """Return the fraction of the negatives that is not flagged."""
    (left, flagged), _ = confusion(probability, positive, threshold)
    return ratio(left, left + flagged)


def f1(probability, positive, threshold=0.5):
    """Return the harmonic mean of precision and recall; 0 where nothing is flagged of what should be."""
    (_, false), (missed, true) = confusion(probability, positive, threshold)
    return ratio(2 * true, 2 * true + false + missed)


def accuracy(probability, positive, threshold=0.5):
    """Return the fraction that is right."""
    (negative, false), (missed, true) = confusion(probability, positive, threshold)
    return ratio(negative + true, negative + false + missed + true)


def balanced_accuracy(probability, positive, threshold=0.5):
    """Return the mean of recall and specificity: 0.5 for any constant, whatever the share of positives."""
    return (recall(probability, positive, threshold) + specificity(probability, positive, threshold)) / 2


def precision_at_prevalence(recall, specificity, prevalence):
    """Return the precision where a fraction ``prevalence`` of all that is looked at is positive (Bayes).

    Parameters
    ----------
    recall, specificity, prevalence : float or array-like
        Fractions, between 0 and 1.

    Returns
    -------
    float or `~numpy.ndarray`

    Raises
    ------
    HaloInputError
        The prevalence is no fraction.

    Examples
    --------
    A classifier of recall 0.93 and specificity 0.97 looks good where every second cluster has a halo:

    >>> from halopy.classify.metrics import precision_at_prevalence
    >>> [round(float(precision_at_prevalence(0.93, 0.97, p)), 3) for p in (0.5, 0.1, 0.01, 0.001)]
    [0.969, 0.775, 0.238, 0.03]
    """
    prevalence = np.asarray(prevalence, dtype=float)
    if not ((prevalence >= 0) & (prevalence <= 1)).all():
        raise HaloInputError("a prevalence must lie between 0 and 1", found=prevalence.tolist())
    true = np.asarray(recall, dtype=float) * prevalence
    false = (1 - np.asarray(specificity, dtype=float)) * (1 - prevalence)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (true / (true + false))[()]


def roc_auc(probability, positive, *, within=None):
    """Return the area under the ROC curve: how often a positive is above a negative, ties counting half.

    Parameters
    ----------
    probability, positive : array-like
        ``(n,)``.
    within : array-like, optional
        ``(n,)``: only pairs with the same value here are compared. For out-of-fold probabilities it is the fold:
        models of different folds have different zero points, and a fold with more positives leaves fewer to the
        training of its model, so that pooled probabilities give less than 0.5 where there is nothing to learn.

    Returns
    -------
    float
        NaN where there is no pair.

    References
    ----------
    Hanley & McNeil 1982, Radiology 143, 29 (doi:10.1148/radiology.143.1.7063747); pooling against averaging over
    folds: Forman & Scholz 2010, SIGKDD Explorations 12, 49 (doi:10.1145/1882471.1882479).

    Examples
    --------
    >>> from halopy.classify.metrics import roc_auc
    >>> roc_auc([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
    0.75
    """
    probability, positive = checked(probability, positive)
    if probability.size == 0:
        return np.nan
    fold = np.zeros(len(probability), dtype=int) if within is None else np.unique(within, return_inverse=True)[1]
    order = np.lexsort((probability, fold))
    probability, positive, fold = probability[order], positive[order], fold[order]
    new_fold = np.concatenate([[True], fold[1:] != fold[:-1]])
    new_value = new_fold | np.concatenate([[True], probability[1:] != probability[:-1]])
    fold_start, tie = np.flatnonzero(new_fold), np.flatnonzero(new_value)
    before = np.concatenate([[0], np.cumsum(~positive)])
    tied = np.diff(np.append(tie, len(fold)))
    below = np.repeat(before[tie], tied) - np.repeat(before[fold_start], np.diff(np.append(fold_start, len(fold))))
    equal = np.repeat(np.diff(before[np.append(tie, len(fold))]), tied)
    found = np.add.reduceat(positive.astype(int), fold_start)
    pairs = np.sum(found * np.diff(before[np.append(fold_start, len(fold))]))
    return ratio(np.sum((below + equal / 2)[positive]), pairs)


def average_precision(probability, positive, *, prevalence=None):
    """Return the area under the precision-recall curve: the mean precision at the positives, in steps.

    Parameters
    ----------
    probability, positive : array-like
        ``(n,)``.
    prevalence : float, optional
        Weigh the two classes as if this fraction were positive; default: the fraction in the set.

    Returns
    -------
    float
        That of an uninformed classifier is the prevalence. NaN without positives.

    References
    ----------
    Davis & Goadrich 2006, Proc. ICML, 233 (doi:10.1145/1143844.1143874).

    Examples
    --------
    >>> from halopy.classify.metrics import average_precision
    >>> round(average_precision([0.1, 0.4, 0.35, 0.8], [False, False, True, True]), 3)
    0.833
    """
    probability, positive = checked(probability, positive)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0:
        return np.nan
    share = n_positive / len(positive) if prevalence is None else fraction(prevalence, "prevalence")
    order = np.argsort(-probability, kind="stable")
    probability, positive = probability[order], positive[order]
    last = np.append(probability[1:] != probability[:-1], True)
    found = np.cumsum(positive)[last] / n_positive
    wrong = np.cumsum(~positive)[last] / max(n_negative, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        purity = share * found / (share * found + (1 - share) * wrong)
    return float(np.sum(np.diff(found, prepend=0.0) * np.nan_to_num(purity)))


def recall_at_false_positive_rate(probability, positive, rate=0.01):
    """Return the largest recall at which no more than a fraction ``rate`` of the negatives is flagged.

    With fewer than ``1 / rate`` negatives that is the recall above all of them. NaN without either class.

    Examples
    --------
    >>> from halopy.classify.metrics import recall_at_false_positive_rate
    >>> recall_at_false_positive_rate([0.1, 0.4, 0.35, 0.8], [False, False, True, True], 0.01)
    0.5
    """
    probability, positive = checked(probability, positive)
    negatives = np.sort(probability[~positive])[::-1]
    if len(negatives) == 0 or len(negatives) == len(positive):
        return np.nan
    allowed = int(np.floor(fraction(rate, "false-positive rate") * len(negatives) + 1e-9))
    # The first negative that may not be flagged: only what lies above it is.
    return 1.0 if allowed >= len(negatives) else float(np.mean(probability[positive] > negatives[allowed]))


def brier(probability, positive):
    """Return the mean squared difference of probability and truth: 0 is perfect, 0.25 is 0.5 for all.

    References
    ----------
    Brier 1950, Mon. Weather Rev. 78, 1 (doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2).

    Examples
    --------
    >>> from halopy.classify.metrics import brier
    >>> brier([0.5, 0.5, 0.5], [True, False, False])
    0.25
    """
    probability, positive = checked(probability, positive)
    return float(np.mean((probability - positive) ** 2)) if probability.size else np.nan


def reliability(probability, positive, *, bins=10):
    """Compare probabilities with how often they come true, bin by bin.

    Parameters
    ----------
    probability, positive : array-like
        ``(n,)``.
    bins : int, optional
        How many equal bins between 0 and 1, default 10.

    Returns
    -------
    `~astropy.table.QTable`
        A row a bin: ``low``, ``high``, ``n``, ``probability`` (mean) and ``fraction`` (positive); NaN where n is 0.

    Examples
    --------
    >>> from halopy.classify.metrics import reliability
    >>> table = reliability([0.1, 0.2, 0.8, 0.9], [False, False, True, True], bins=2)
    >>> table["fraction"].tolist()
    [0.0, 1.0]
    """
    probability, positive = checked(probability, positive)
    if not isinstance(bins, (int, np.integer)) or bins < 1:
        raise HaloInputError("bins must be a whole number above 0", found=bins)
    if probability.size and not (probability.min() >= 0 and probability.max() <= 1):
        raise HaloInputError("a reliability diagram needs probabilities between 0 and 1",
                             found=[float(probability.min()), float(probability.max())])
    edges = np.linspace(0, 1, bins + 1)
    row = np.clip(np.floor(probability * bins).astype(int), 0, bins - 1)
    n = np.bincount(row, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(row, probability, minlength=bins) / n
        true = np.bincount(row, positive, minlength=bins) / n
    return QTable({"low": edges[:-1], "high": edges[1:], "n": n, "probability": mean, "fraction": true})


def calibration_error(probability, positive, *, bins=10):
    """Return the expected calibration error: the mean distance of the reliability diagram from its diagonal.

    It is never 0 for a finite set: compare it with that of another model on the same set.

    References
    ----------
    Guo et al. 2017, arXiv:1706.04599.

    Examples
    --------
    >>> from halopy.classify.metrics import calibration_error
    >>> round(calibration_error([0.7, 0.7, 0.7, 0.7], [True, False, True, False]), 3)
    0.2
    """
    table = reliability(probability, positive, bins=bins)
    used = table[table["n"] > 0]
    if len(used) == 0:
        return np.nan
    return float(np.average(np.abs(used["probability"] - used["fraction"]), weights=used["n"]))


def checked(probability, positive):
    probability, positive = np.asarray(probability, dtype=float), np.asarray(positive).astype(bool)
    if probability.ndim != 1 or probability.shape != positive.shape:
        raise HaloInputError("probability and positive must have one shape (n,)",
                             found=f"{probability.shape} and {positive.shape}")
    if not np.isfinite(probability).all():
        raise HaloInputError("every probability must be finite", found=f"{(~np.isfinite(probability)).sum()} are not",
                             hint="leave out the rows that cannot be scored, and say how many they are")
    return probability, positive


def fraction(value, name):
    if not 0 <= value <= 1:
        raise HaloInputError(f"the {name} must lie between 0 and 1", found=value)
    return float(value)


def ratio(part, whole):
    return float(part / whole) if whole else np.nan
