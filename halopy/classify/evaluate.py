"""Probabilities for cutouts that a model has not seen: out of fold, or held out.

What comes out is a table with a row a cutout; `report` and its like make numbers of it. scikit-learn is
imported inside the function that needs it.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy.classify.base import Classifier
from halopy.classify.breakdown import breakdown, false_positives, mistakes
from halopy.classify.generated import images_like, trained_copy
from halopy.classify.report import compare, report
from halopy.classify.scores import combine
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.io.catalog import sky_groups
from halopy.labels import is_positive
from halopy.model import group_hashes

__all__ = ["breakdown", "combine", "compare", "compare_models", "cross_validate", "evaluate", "false_positives",
           "mistakes", "refuse_seen", "report", "seen_groups"]


def cross_validate(model, cutouts, *, folds=5, seeds=5, by="group", augmenter=None, generator=None, generated=1.0,
                   progress=None, rng=None):
    """Score every cutout by a model that was trained without its group.

    Groups are dealt into ``folds`` parts, with the share of halos kept alike; each part is scored by a fresh model
    that was trained on the others. That is repeated with ``seeds`` deals.

    Parameters
    ----------
    model : Classifier
        Its settings are used, its training is not: every fold trains a copy.
    cutouts : CutoutSet or mapping of str to CutoutSet
        Labelled; with a mapping the sets are joined, and the column ``band`` holds the keys.
    folds, seeds : int, optional
        Default 5 and 5.
    by : str or `~astropy.units.Quantity`, optional
        The column of the groups, default ``"group"``; or an angle: groups are then made of all ``position`` by
        `halopy.io.catalog.sky_groups`, which joins surveys.
    augmenter : callable, optional
        Turns the training part into a larger one, such as a `halopy.Augmenter`; what is scored is not augmented,
        but cut to the same shape about its centre.
    generator : HaloGenerator, optional
        Adds images to the training part. One that is not trained is trained on the training part of each fold; one
        that is may not have seen a group that is scored.
    generated : float, optional
        How many images the generator adds for each of the training part, with conditions like theirs, default 1.
    progress : callable, optional
        Called with an iterable of the folds and returning it, such as `tqdm.tqdm`.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator; the same one deals the same folds to any model.

    Returns
    -------
    `~astropy.table.QTable`
        The table of the cutouts with further columns: ``probability`` and ``fold``, ``(n, seeds)``; ``positive``;
        ``area``, of the cutout, where ``pixel_scale`` is known. ``meta`` has ``model``, ``folds``, ``seeds`` and,
        of models with a table ``history``, ``history``: a list with ``seed``,
        ``fold`` and ``curve`` (columns as lists) of each.

    Raises
    ------
    HaloInputError
        Cutouts without label or group, augmented or generated ones among them, fewer groups of a class than
        folds, or a setting of the model or the generator that has seen one of the groups.

    References
    ----------
    Roberts et al. 2017, Ecography 40, 913 (doi:10.1111/ecog.02881): blocks, for data that lie near each other.

    Examples
    --------
    >>> from halopy import classifiers
    >>> from halopy.classify.evaluate import cross_validate
    >>> from halopy.testing import simulated_cutouts
    >>> scores = cross_validate(classifiers.create("matched-filter"), simulated_cutouts(24), folds=4, seeds=2, rng=1)
    >>> scores["probability"].shape
    (24, 2)
    """
    rng = np.random.default_rng(rng)
    cutouts, positive = prepared(cutouts, by)
    check_model(model)
    for name, value in (("folds", folds), ("seeds", seeds)):
        if not isinstance(value, (int, np.integer)) or value < (2 if name == "folds" else 1):
            raise HaloInputError(f"{name} must be a whole number, {2 if name == 'folds' else 1} or more", found=value)
    if not (np.isfinite(generated) and generated >= 0):
        raise HaloInputError("generated must be a number of images for each of the training part", found=generated)
    refuse_seen([fresh(model), generator, augmenter], cutouts)
    groups = np.asarray(cutouts.table["group"]).astype(str)
    base = [int(number) for number in rng.integers(2**31, size=seeds)]
    probability, fold = np.full((len(cutouts), seeds), np.nan), np.zeros((len(cutouts), seeds), dtype=int)
    history = []
    work = [(seed, part, *rows) for seed in range(seeds)
            for part, rows in enumerate(deal(positive, groups, folds, base[seed]))]
    # What does not learn gives every fold the same.
    fixed = None if model.trainable else model.predict_proba(cutouts)
    for seed, part, train, test in progress(work) if progress is not None else work:
        fold[test, seed] = part
        if fixed is not None:
            probability[test, seed] = fixed[test]
            continue
        own = np.random.default_rng([base[seed], part])
        trained, shape = train_model(model, cutouts[train], augmenter, generator, generated, own)
        refuse_seen([trained], cutouts[test])
        probability[test, seed] = trained.predict_proba(cropped(cutouts[test], shape))
        curve = getattr(trained, "history", None)
        if hasattr(curve, "colnames"):
            columns = {name: np.asarray(curve[name]).tolist() for name in curve.colnames}
            history.append({"seed": seed, "fold": part, "curve": columns})
    meta = {"model": repr(model), "folds": folds, "seeds": seeds} | ({"history": history} if history else {})
    return score_table(cutouts, positive, probability, fold, meta)


def evaluate(model, cutouts, *, by="group"):
    """Score held-out cutouts by a model that is trained.

    Parameters
    ----------
    model : Classifier
        Trained, or of a kind that needs no training.
    cutouts : CutoutSet or mapping of str to CutoutSet
        As of `cross_validate`.
    by : str or `~astropy.units.Quantity`, optional
        As of `cross_validate`.

    Returns
    -------
    `~astropy.table.QTable`
        As of `cross_validate`, with one column of probabilities.

    Raises
    ------
    HaloInputError
        The model, or one that it was made with, has been trained on one of the groups.

    Examples
    --------
    >>> from halopy import classifiers
    >>> from halopy.classify.evaluate import evaluate
    >>> from halopy.testing import simulated_cutouts
    >>> scores = evaluate(classifiers.create("matched-filter"), simulated_cutouts(24))
    >>> scores["probability"].shape
    (24, 1)
    """
    cutouts, positive = prepared(cutouts, by)
    check_model(model)
    refuse_seen([model], cutouts)
    probability = model.predict_proba(cutouts)[:, None]
    return score_table(cutouts, positive, probability, np.zeros(probability.shape, dtype=int),
                  {"model": repr(model), "folds": 1, "seeds": 1})


def compare_models(models, cutouts, *, baseline=None, folds=5, seeds=5, by="group", augmenter=None, generator=None,
                   generated=1.0, combine="name", threshold=0.5, prevalences=(0.1, 0.01), level=0.95, n=2000,
                   progress=None, rng=None):
    """Cross-validate several models on the same folds, and tell how far each is from a baseline.

    Parameters
    ----------
    models : mapping of str to Classifier
    cutouts, folds, seeds, by, augmenter, generator, generated, progress
        As of `cross_validate`.
    baseline, combine, threshold, prevalences, level, n
        As of `halopy.classify.report.compare`.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `~astropy.table.QTable`
        As of `halopy.classify.report.compare`.

    Examples
    --------
    >>> from halopy import classifiers
    >>> from halopy.classify.evaluate import compare_models
    >>> from halopy.testing import simulated_cutouts
    >>> models = {name: classifiers.create("matched-filter", slack=slack) for name, slack in (("a", 0), ("b", 0.75))}
    >>> table = compare_models(models, simulated_cutouts(24), baseline="a", folds=4, seeds=1, n=50, rng=1)
    >>> sorted(set(table["model"].tolist()))
    ['a', 'b']
    """
    if not isinstance(models, Mapping):
        raise HaloInputError("compare_models takes a mapping of names to classifiers", found=type(models).__name__,
                             hint='{"matched-filter": classifiers.create("matched-filter")}')
    split, draw = np.random.default_rng(rng).spawn(2)
    seed = int(split.integers(2**31))
    scores = {name: cross_validate(model, cutouts, folds=folds, seeds=seeds, by=by, augmenter=augmenter,
                                   generator=generator, generated=generated, progress=progress, rng=seed)
              for name, model in models.items()}
    return compare(scores, baseline=baseline, combine=combine, threshold=threshold, prevalences=prevalences,
                   level=level, n=n, rng=draw)


def seen_groups(step):
    """Return the hashes of the groups that a model has been trained on, and those of the models it was made with.

    Parameters
    ----------
    step : object
        A model, a step, or a list of such; anything else has seen nothing.

    Returns
    -------
    set of str
        See `halopy.model.group_hashes`.
    """
    if isinstance(step, dict):
        step = list(step.values())
    if isinstance(step, (list, tuple)):
        return set().union(*(seen_groups(part) for part in step))
    seen = set(getattr(step, "groups_", ()))
    return seen | (seen_groups(step.params) if hasattr(step, "params") else set())


def refuse_seen(models, cutouts):
    """Raise an error where a model, or one that it was made with, has been trained on a group of the cutouts.

    Parameters
    ----------
    models : sequence
        Models, generators, augmenters; None among them is passed over.
    cutouts : CutoutSet
        With a column ``group``.

    Raises
    ------
    HaloInputError
        Naming the first of those groups.
    """
    names = np.unique(np.asarray(cutouts.column("group")).astype(str))
    # Where groups were made anew, a model may have seen them under the name that they had.
    if "group_before" in cutouts.table.colnames:
        names = np.union1d(names, np.asarray(cutouts.table["group_before"]).astype(str))
    for model in models:
        seen = seen_groups(model)
        found = [str(name) for name in names if group_hashes([name])[0] in seen] if seen else []
        if found:
            raise HaloInputError(f"{type(model).__name__} has been trained on {len(found)} of the groups that it would "
                                 "be scored on", keyword="group", found=found[0],
                                 hint="hold whole groups back with CutoutSet.split, or cross_validate")


def prepared(cutouts, by):
    """Return one CutoutSet with a plain column ``group``, and which rows are positive."""
    if hasattr(cutouts, "items"):
        sets = []
        for band, one in cutouts.items():
            _check_set(one)
            table = one.table.copy()
            table["band"] = np.full(len(one), str(band))
            sets.append(one.replace(table=table))
        if not sets:
            raise HaloInputError("there must be at least one set of cutouts", found="an empty mapping")
        cutouts = sets[0].join(*sets[1:])
    _check_set(cutouts)
    table = cutouts.table.copy()
    label = np.ma.filled(np.ma.asarray(cutouts.column("label")), "").astype(str)
    if (np.char.strip(label) == "").any():
        raise HaloInputError("every cutout that is scored needs a label", keyword="label",
                             found=f"{np.sum(np.char.strip(label) == '')} without one",
                             hint="leave out what nobody has judged: it is no negative")
    if isinstance(by, u.Quantity):
        if "group" in table.colnames:
            table["group_before"] = table["group"]
        table["group"] = sky_groups(SkyCoord(cutouts.column("position")), by)
    else:
        groups = cutouts.column(by)
        if np.any(getattr(groups, "mask", False)):
            raise HaloInputError("every cutout that is scored needs a group", keyword=str(by), found="missing values",
                                 hint="by=1.5 * u.deg makes groups of the positions")
        if by != "group" and "group" in table.colnames:
            table["group_before"] = table["group"]
        table["group"] = np.asarray(groups).astype(str)
    cutouts = cutouts.replace(table=table)
    groups = [np.asarray(table[name]).astype(str) for name in ("group", "group_before") if name in table.colnames]
    if "generated" in np.concatenate(groups):
        raise HaloInputError("generated cutouts cannot be scored: nobody knows what sky they were made from",
                             keyword="group", found="generated", hint="generator=, which adds to the training part")
    if "augmented_from" in table.colnames and not np.all(getattr(table["augmented_from"], "mask", False)):
        raise HaloInputError("augmented cutouts cannot be scored: one image would count as many",
                             keyword="augmented_from", hint="augmenter=, which adds to the training part")
    return cutouts, is_positive(table)


def _check_set(cutouts):
    if not isinstance(cutouts, CutoutSet) or len(cutouts) == 0:
        raise HaloInputError("an evaluation takes a CutoutSet with at least one cutout, or a mapping to such sets",
                             found=repr(cutouts) if isinstance(cutouts, CutoutSet) else type(cutouts).__name__)


def check_model(model):
    if not isinstance(model, Classifier):
        raise HaloInputError("an evaluation takes a Classifier", found=type(model).__name__,
                             hint='classifiers.create("matched-filter")')


def deal(positive, groups, folds, seed):
    """Return ``(train, test)`` rows of each fold; whole groups, both classes in every training part."""
    from sklearn.model_selection import StratifiedGroupKFold

    for kind, rows in (("with halos", positive), ("without", ~positive)):
        n_groups = len(np.unique(groups[rows]))
        if n_groups < folds:
            raise HaloInputError(f"{folds} folds need at least {folds} groups {kind}", found=n_groups,
                                 hint=f"folds={n_groups}" if n_groups > 1 else "more groups")
    folder = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    parts = list(folder.split(np.zeros(len(groups)), positive, groups))
    for train, _ in parts:
        if len(np.unique(positive[train])) < 2:
            raise HaloInputError("every training part needs halos and others, but a few groups hold nearly all of one",
                                 found=f"{folds} folds", hint="fewer folds, or smaller groups")
    return parts


def fresh(model):
    """Return a model of the same settings; what a fold does to them stays there."""
    fresh = type(model)(**copy.deepcopy(model.params))
    if hasattr(model, "registry_name_"):
        fresh.registry_name_ = model.registry_name_
    return fresh


def train_model(model, train, augmenter, generator, generated, rng):
    """Return a fresh model trained on the training part with what is added to it, and the shape that it saw."""
    student = fresh(model)
    if not student.trainable:
        return student, train.shape[1:]
    if generator is not None:
        if generator.trainable and not generator.fitted_:
            generator = trained_copy(fresh(generator), train, rng=rng, progress=False)
        train = train.join(images_like(train, generator, generated, rng=rng))
    if augmenter is not None:
        train = augmenter(train, rng=rng) if takes_rng(augmenter) else augmenter(train)
    return student.fit(train, rng=rng, progress=False), train.shape[1:]


def cropped(cutouts, shape):
    """Return the middle of the cutouts: an augmenter takes larger ones than it makes."""
    free = np.array(cutouts.shape[1:]) - shape
    if (free == 0).all():
        return cutouts
    if (free < 0).any() or (free % 2).any():
        raise HaloInputError("what is scored must be larger than the augmented cutouts by an even number of pixels, "
                             f"{tuple(int(n) for n in shape)}", found=cutouts.shape[1:])
    y, x = (int(n) // 2 for n in free)
    table = cutouts.table.copy()
    for name, shift in (("x0", x), ("y0", y)):
        if name in table.colnames:
            table[name] = table[name] + shift
    return cutouts.replace(data=cutouts.data[:, y:y + shape[0], x:x + shape[1]], table=table)


def takes_rng(augmenter):
    try:
        return "rng" in inspect.signature(augmenter).parameters
    except (TypeError, ValueError):
        return False


def score_table(cutouts, positive, probability, fold, meta):
    table = QTable(cutouts.table, copy=True)
    table.meta = dict(meta)
    table["positive"], table["probability"], table["fold"] = positive, probability, fold
    if "pixel_scale" in table.colnames:
        scale = table["pixel_scale"]
        scale = u.Quantity(scale.filled(np.nan) if hasattr(scale, "filled") else scale)
        covered = np.isfinite(cutouts.data).mean(axis=(1, 2))
        table["area"] = (scale**2 * np.prod(cutouts.shape[1:]) * covered).to(u.deg**2)
    return table
