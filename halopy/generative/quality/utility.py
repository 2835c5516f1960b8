"""What generated images are worth to a classifier: train on them and test on real ones, and the reverse."""

from __future__ import annotations

import numpy as np
from astropy.table import QTable

from halopy.errors import HaloInputError
from halopy.generative.quality.common_input import check_clipped_alike, check_set, common_cutouts, common_size
from halopy.labels import is_positive
from halopy.registry import classifiers

__all__ = ["both_kinds", "utility"]

FEWEST = 4
"""Groups with a halo, and without: two on each side."""


def both_kinds(real, generated):
    """Return whether both sets hold halos and others, of enough groups, for `utility`."""
    positive = is_positive(real.table)
    groups = np.asarray(real.table["group"])
    made = is_positive(generated.table)
    return bool(min(len(np.unique(groups[positive])), len(np.unique(groups[~positive]))) >= FEWEST
                and min(made.sum(), (~made).sum()) >= FEWEST)


def utility(real, generated, *, classifier="features-lr", splits=2, n=200, level=0.95, rng=None):
    """Return how well halos are told from others by a classifier of real and of generated images.

    The groups of the real images are dealt into two halves, several times. A classifier that was trained on one half
    (``trtr``), and one trained on as many generated images with the same labels (``tstr``), judge the other half; the
    former judges the generated images as well (``trts``).

    Parameters
    ----------
    real, generated : CutoutSet
        With ``label``, ``real`` with ``group``; both are compared on one input, see
        `halopy.generative.quality.common_input`.
    classifier : str, optional
        A name in `halopy.classifiers`, default ``"features-lr"``.
    splits : int, optional
        How often the groups are dealt, default 2: four trainings each. More of them leave less to chance.
    n : int, optional
        How many times groups that are judged, and trainings, are drawn for the intervals, default 200.
    level : float, optional
        The intervals' probability, default 0.95.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `~astropy.table.QTable`
        Rows ``trtr``, ``tstr`` and ``trts``: ``metric``, and ``value``, ``low``, ``high`` of the area under the ROC
        curve, 0.5 for guessing. Generated images that are as good as real ones have ``tstr`` = ``trtr``; where
        ``trts`` is above ``trtr``, generated images are more typical of their label than real ones.

    Raises
    ------
    HaloInputError
        There are not halos and others on both sides, in four groups each.

    References
    ----------
    Esteban, Hyland & Rätsch 2017, arXiv:1706.02633.

    Examples
    --------
    >>> from halopy import simulate
    >>> from halopy.generative.quality.utility import utility
    >>> real, generated = (simulate.cutouts(60, mix={"halo": 1, "blank": 1}, rng=seed) for seed in (1, 2))
    >>> utility(real, generated, n=20, rng=1)["metric"].tolist()
    ['trtr', 'tstr', 'trts']
    """
    rng = np.random.default_rng(rng)
    check_set(real, "real", columns=("group",))
    check_set(generated, "generated")
    check_clipped_alike(real, generated)
    if not both_kinds(real, generated):
        raise HaloInputError("utility needs halos and others, of four groups each, on both sides",
                             found=f"{is_positive(generated.table).sum()} halos among {len(generated)} generated "
                                   f"and {is_positive(real.table).sum()} among {len(real)} real images")
    size = common_size(real, generated)
    real, generated = common_cutouts(real, size), common_cutouts(generated, size)
    generated.table["group"] = np.array([f"generated {i}" for i in range(len(generated))])
    truth, made = is_positive(real.table), is_positive(generated.table)
    _, member = np.unique(np.asarray(real.table["group"]).astype(str), return_inverse=True)
    judged = {"trtr": [], "tstr": [], "trts": []}
    # A stream each: with one seed the halves of the real images are the same, whatever is compared with them.
    halves, fits, choices, draws = rng.spawn(4)
    for _ in range(splits):
        second = _second_half(member, truth, halves)
        for training in (np.flatnonzero(~second), np.flatnonzero(second)):
            test = np.setdiff1d(np.arange(len(real)), training)
            model = _trained(classifier, real[training], fits)
            judged["trtr"].append((test, truth[test], model.predict_proba(real[test])))
            judged["trts"].append((np.arange(len(made)), made, model.predict_proba(generated)))
            chosen = _alike(real.table["label"][training], generated.table["label"], made, truth[training],
                            choices)
            model = _trained(classifier, generated[chosen], choices)
            judged["tstr"].append((test, truth[test], model.predict_proba(real[test])))
    rows = []
    for name, parts in judged.items():
        groups = np.arange(len(made)) if name == "trts" else member
        rows.append((name, *_area(parts, groups, n, level, draws)))
    return QTable(rows=rows, names=("metric", "value", "low", "high"))


def _second_half(member, truth, rng):
    """Return which images are in the second half of the groups, with as many positive groups on both sides."""
    positive = np.bincount(member, truth) > 0
    second = np.zeros(len(positive), dtype=bool)
    for pool in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        second[rng.permutation(pool)[::2]] = True
    return second[member]


def _alike(wanted, labels, made, truth, rng):
    """Return rows of generated images with the labels of the real ones; of a label that is lacking, others like it."""
    wanted, labels = (np.asarray(column).astype(str) for column in (wanted, labels))
    chosen = []
    for kind in (True, False):
        for label, count in zip(*np.unique(wanted[truth == kind], return_counts=True), strict=True):
            pool = np.flatnonzero((labels == label) & (made == kind))
            pool = pool if len(pool) else np.flatnonzero(made == kind)
            chosen.append(rng.choice(pool, min(count, len(pool)), replace=False))
    return np.unique(np.concatenate(chosen))


def _trained(name, cutouts, rng):
    return classifiers.create(name).fit(cutouts, rng=rng, progress=False)


def _area(parts, groups, n, level, rng):
    """Return the mean area under the ROC curves of all parts, and its interval from drawing groups and trainings."""
    pairs = []
    for rows, truth, score in parts:
        known = np.isfinite(score)
        positive, negative = (np.flatnonzero(known & kind) for kind in (truth, ~truth))
        order = score[positive][:, None] - score[negative]
        # How often a halo is above one without: ties are half a case.
        pairs.append((rows[positive], rows[negative], (order > 0) + 0.5 * (order == 0)))

    def mean_area(weight, chosen):
        areas = []
        for positive, negative, order in (pairs[k] for k in chosen):
            total = weight[positive].sum() * weight[negative].sum()
            if total > 0:
                areas.append(weight[positive] @ order @ weight[negative] / total)
        return np.mean(areas) if areas else np.nan

    _, member = np.unique(groups, return_inverse=True)
    n_groups, every = member.max() + 1, np.arange(len(pairs))
    drawn = []
    for _ in range(n):
        weight = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)[member].astype(float)
        drawn.append(mean_area(weight, rng.choice(every, len(every))))
    value = mean_area(np.ones(len(member)), every)
    return (float(value), *map(float, np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])))
