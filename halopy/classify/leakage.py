"""Whether an evaluation can be believed: labels dealt at random, and sky on both sides of a split.

scikit-learn and scipy are imported inside the functions that need them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord, search_around_sky
from astropy.table import QTable

from halopy.classify import metrics
from halopy.classify.evaluate import check_model, cropped, deal, prepared, seen_groups, takes_rng, train_model
from halopy.errors import HaloInputError
from halopy.model import group_hashes
from halopy.simulate.survey_cutouts import SIMULATED

__all__ = ["audit_split", "leakage_probe"]

SPLITS = ("group", "image", "augmented")

KINDS = {
    "same-pixels": "one image is on both sides: leave one of them out",
    "turned-copy": "one image is on both sides, turned or mirrored: split first, then augment",
    "augmented-copy": "images made from one target by augmentation are on both sides: split first, then augment",
    "two-names": "one target under two names: give both one group",
    "same-name": "one target is on both sides: give all its cutouts one group",
    "same-group": "a group is on both sides: split by group",
    "shared-sky": "the two show the same sky: make groups of the positions, with halopy.io.catalog.sky_groups",
    "model-saw-test": "a model or generator was trained on a group of the test set: train it on the training set alone",
    "generated-in-test": "generated images are no sky: they belong to the training set",
}
"""Every kind of finding of `audit_split`, and what to do."""


def leakage_probe(model, cutouts, *, permutations=5, folds=5, by="group", augmenter=None, level=0.95, progress=None,
                  rng=None):
    """Cross-validate with the true labels and with labels dealt at random, whole groups apart and not.

    Labels that were dealt to the groups at random cannot be learnt. A split that gives more than 0.5 then shows
    the model its test sky in training, and what it gives for the true labels is worth as much less.

    Parameters
    ----------
    model : Classifier
        Its settings are used.
    cutouts : CutoutSet or mapping of str to CutoutSet
        As of `halopy.classify.evaluate.cross_validate`. Where every group has one cutout, and there is no augmenter,
        nothing can leak.
    permutations : int, optional
        How often labels are dealt; so often the true ones are split, too. Default 5.
    folds : int, optional
        Default 5.
    by, progress : optional
        As of `halopy.classify.evaluate.cross_validate`.
    augmenter : callable, optional
        Then a third split is shown: all cutouts augmented, then split by image.
    level : float, optional
        The intervals' probability, default 0.95.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `~astropy.table.QTable`
        A row for each of ``split`` (``"group"``, ``"image"`` and, with an augmenter, ``"augmented"``) and ``labels``
        (``"true"``, ``"random"``): ``roc_auc`` (mean over the runs; pairs of one fold, single cutouts), ``low``,
        ``high`` (Student's t over the runs), ``accuracy`` at 0.5, ``n_runs``, ``leaks``: labels are random and
        ``low`` is above 0.5.

    Raises
    ------
    HaloInputError
        As of `halopy.classify.evaluate.cross_validate`; fewer than two permutations.

    References
    ----------
    Permuted labels as a test: Ojala & Garriga 2010, J. Mach. Learn. Res. 11, 1833. Splits by image instead of
    subject: Yagis et al. 2021, Sci. Rep. 11, 22544 (doi:10.1038/s41598-021-01681-w).
    """
    from scipy.stats import t

    rng = np.random.default_rng(rng)
    cutouts, positive = prepared(cutouts, by)
    check_model(model)
    if not isinstance(permutations, (int, np.integer)) or permutations < 2:
        raise HaloInputError("permutations must be a whole number, 2 or more", found=permutations)
    work = [(split, kind, run) for split in SPLITS[:2 if augmenter is None else 3] for kind in ("true", "random")
            for run in range(permutations)]
    found = {}
    seeds = {key: int(rng.integers(2**31)) for key in work}
    for split, kind, run in progress(work) if progress is not None else work:
        own = np.random.default_rng(seeds[split, kind, run])
        labelled = cutouts if kind == "true" else _relabelled(cutouts, positive, own)
        found.setdefault((split, kind), []).append(_run(model, labelled, split, folds, augmenter, own))
    rows = []
    for (split, kind), values in found.items():
        auc, right = np.array(values).T
        half = t.ppf((1 + level) / 2, len(auc) - 1) * auc.std(ddof=1) / np.sqrt(len(auc))
        low, high = auc.mean() - half, auc.mean() + half
        rows.append({"split": split, "labels": kind, "roc_auc": auc.mean(), "low": low, "high": high,
                     "accuracy": right.mean(), "n_runs": len(auc), "leaks": bool(kind == "random" and low > 0.5)})
    table = QTable(rows=rows)
    for name in ("roc_auc", "low", "high", "accuracy"):
        table[name].info.format = ".3f"
    return table


def audit_split(train, test, *, radius=1.5 * u.deg, same=1 * u.arcmin, models=()):
    """Look for sky of the test set in the training set, or in what a model or a generator was trained on.

    Parameters
    ----------
    train, test : CutoutSet
        With ``group`` or ``position``, and ``name``.
    radius : `~astropy.units.Quantity`, optional
        Up to this angle two cutouts share sky, default 1.5°; as of `halopy.io.catalog.sky_groups`. Simulated
        ones, whose groups begin with ``sim-``, share none with their neighbours.
    same : `~astropy.units.Quantity`, optional
        Up to this angle two positions are one target, default 1′.
    models : sequence or mapping of str, optional
        Models and generators in use, or these by name; what they were made with counts, too.

    Returns
    -------
    `~astropy.table.QTable`
        A row a pair of names, of each only the gravest finding: ``kind`` (see `KINDS`), ``train``, ``test`` (names),
        ``separation``, ``meaning``. Empty where nothing was found. For a model ``train`` is its name, or class,
        and ``test`` a group.

    Raises
    ------
    HaloInputError
        The sets have neither positions nor groups, or an angle is none.

    Examples
    --------
    >>> from halopy.classify.leakage import audit_split
    >>> from halopy.testing import simulated_cutouts
    >>> cutouts = simulated_cutouts(24)
    >>> sorted(set(audit_split(cutouts[:12], cutouts[6:])["kind"].tolist()))
    ['same-group', 'same-pixels']
    """
    for name, angle in (("radius", radius), ("same", same)):
        if not isinstance(angle, u.Quantity) or not angle.unit.is_equivalent(u.deg) or not angle >= 0 * u.deg:
            raise HaloInputError(f"{name} must be an angle", found=angle, hint=f"{name}=1.5 * u.deg")
    for cutouts in (train, test):
        if not {"group", "position"} & set(cutouts.table.colnames):
            raise HaloInputError("an audit needs a column 'group' or 'position' in both sets",
                                 found=cutouts.table.colnames)
    names = [_names(cutouts) for cutouts in (train, test)]
    pairs = []
    for kind, i, j, separation in (*_pixels(train, test), *_same_names(train, test, names, radius, same),
                                   *_positions(train, test, names, radius, same), *_groups(train, test)):
        pairs.append((kind, names[0][i], names[1][j], separation))
    order = list(KINDS)
    pairs.sort(key=lambda pair: (order.index(pair[0]), pair[3] if np.isfinite(pair[3]) else np.inf))
    first = {}
    for pair in pairs:
        first.setdefault(pair[1:3], pair)
    rows = list(first.values())
    if "group" in test.table.colnames:
        groups = np.asarray(test.table["group"]).astype(str)
        named = models.items() if isinstance(models, Mapping) else [(type(model).__name__, model) for model in models]
        for name, model in named:
            seen = seen_groups(model)
            rows += [("model-saw-test", name, str(group), np.nan) for group in np.unique(groups)
                     if seen and group_hashes([group])[0] in seen]
        rows += [("generated-in-test", "", str(name), np.nan) for name in np.unique(names[1][groups == "generated"])]
    rows.sort(key=lambda row: order.index(row[0]))
    kinds, left, right, separation = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 4
    return QTable({"kind": np.array(kinds, dtype=str), "train": np.array(left, dtype=str),
                   "test": np.array(right, dtype=str),
                   "separation": np.round(np.array(separation, dtype=float), 3) * u.arcmin,
                   "meaning": np.array([KINDS[kind] for kind in kinds], dtype=str)})


def _relabelled(cutouts, positive, rng):
    """Return the cutouts with the classes of whole groups dealt anew."""
    _, member = np.unique(np.asarray(cutouts.table["group"]), return_inverse=True)
    share = np.bincount(member, positive) / np.bincount(member)
    dealt = rng.permutation(share >= 0.5)[member]
    table = cutouts.table.copy()
    table["label"] = np.where(dealt, "halo", "none")
    # What a group was before must not tell on.
    table.remove_columns([name for name in ("also", "grade") if name in table.colnames])
    return cutouts.replace(table=table)


def _run(model, cutouts, split, folds, augmenter, rng):
    """Return the ROC area and the accuracy of one cross-validation."""
    from halopy.labels import is_positive

    if split == "augmented":
        cutouts = augmenter(cutouts, rng=rng) if takes_rng(augmenter) else augmenter(cutouts)
        augmenter = None
    positive = is_positive(cutouts.table)
    groups = np.asarray(cutouts.table["group"]).astype(str) if split == "group" else np.arange(len(cutouts)).astype(str)
    probability, fold = np.full(len(cutouts), np.nan), np.zeros(len(cutouts), dtype=int)
    for part, (train, test) in enumerate(deal(positive, groups, folds, int(rng.integers(2**31)))):
        trained, shape = train_model(model, cutouts[train], augmenter, None, 0, rng)
        probability[test], fold[test] = trained.predict_proba(cropped(cutouts[test], shape)), part
    known = np.isfinite(probability)
    probability, positive, fold = probability[known], positive[known], fold[known]
    return metrics.roc_auc(probability, positive, within=fold), metrics.accuracy(probability, positive)


def _names(cutouts):
    if "name" in cutouts.table.colnames:
        return np.ma.filled(np.ma.asarray(cutouts.table["name"]), "").astype(str)
    return np.array([f"row {row}" for row in range(len(cutouts))], dtype=str)


def _pixels(train, test):
    known, turned = {}, {}
    for row, image in enumerate(train.data):
        if _has_signal(image):
            known.setdefault(_digest(image), row)
            turned.setdefault(_digest_of_views(image), row)
    for row, image in enumerate(test.data):
        if not _has_signal(image):
            continue
        if (same := known.get(_digest(image))) is not None:
            yield "same-pixels", same, row, np.nan
        if (same := turned.get(_digest_of_views(image))) is not None:
            yield "turned-copy", same, row, np.nan


def _has_signal(image):
    return np.isfinite(image).any() and np.nanmin(image) < np.nanmax(image)


def _digest(image):
    # 0 and -0 are one number.
    return hashlib.sha256(str(image.shape).encode() + (image + 0.0).tobytes()).digest()


def _digest_of_views(image):
    """Return what is the same for an image however it is turned by right angles and mirrored."""
    return min(_digest(np.rot90(view, turns)) for view in (image, image[:, ::-1]) for turns in range(4))


def _same_names(train, test, names, radius, same):
    """Yield names that both sides have, unless their positions say that they are two targets."""
    if any("name" not in cutouts.table.colnames for cutouts in (train, test)):
        return
    made = [_augmented(cutouts) for cutouts in (train, test)]
    positions = [SkyCoord(cutouts.table["position"]) if "position" in cutouts.table.colnames else None
                 for cutouts in (train, test)]
    for name in np.intersect1d(*names):
        if not name.strip() or name == "nan":
            continue
        i, j = (np.flatnonzero(own == name) for own in names)
        angle = np.nan * u.arcmin
        if None not in positions:
            angle = positions[0][i[0]].separation(positions[1][j[0]])
            if angle > max(radius, same):
                continue
        copy = made[0][i].any() or made[1][j].any()
        yield "augmented-copy" if copy else "same-name", i[0], j[0], angle.to_value(u.arcmin)


def _augmented(cutouts):
    if "augmented_from" not in cutouts.table.colnames:
        return np.zeros(len(cutouts), dtype=bool)
    return ~np.broadcast_to(getattr(cutouts.table["augmented_from"], "mask", False), len(cutouts))


def _simulated(cutouts):
    """Return which cutouts show a sky of their own, whatever lies near the place where they were put."""
    if "group" not in cutouts.table.colnames:
        return np.zeros(len(cutouts), dtype=bool)
    return np.char.startswith(np.asarray(cutouts.table["group"]).astype(str), SIMULATED)


def _positions(train, test, names, radius, same):
    if any("position" not in cutouts.table.colnames for cutouts in (train, test)):
        return
    # Many cutouts of one place would make many pairs: each place and name counts once.
    places = []
    for cutouts, own in zip((train, test), names, strict=True):
        sky = SkyCoord(cutouts.table["position"]).icrs
        known = np.flatnonzero(np.isfinite(sky.ra.deg) & np.isfinite(sky.dec.deg))
        key = np.column_stack([own[known], sky.ra.deg[known].round(5).astype(str),
                               sky.dec.deg[known].round(5).astype(str)])
        rows = known[np.unique(key, axis=0, return_index=True)[1]] if known.size else known
        places.append((rows, sky[rows]))
    if any(rows.size == 0 for rows, _ in places):
        return
    left, right, separation, _ = search_around_sky(places[0][1], places[1][1], max(radius, same))
    made_up = [_simulated(cutouts) for cutouts in (train, test)]
    for i, j, angle in zip(places[0][0][left], places[1][0][right], separation, strict=True):
        if angle > same and (made_up[0][i] or made_up[1][j]):
            continue
        one = angle <= same and names[0][i] != names[1][j]
        yield "two-names" if one else "shared-sky", i, j, angle.to_value(u.arcmin)


def _groups(train, test):
    if any("group" not in cutouts.table.colnames for cutouts in (train, test)):
        return
    one, two = (np.asarray(cutouts.table["group"]).astype(str) for cutouts in (train, test))
    for group in np.intersect1d(one, two):
        if group != "generated":
            for j in np.flatnonzero(two == group):
                yield "same-group", np.flatnonzero(one == group)[0], j, np.nan
