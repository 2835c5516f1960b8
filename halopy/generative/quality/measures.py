"""How good generated images are: every measure beside what real images give for as many of them."""

from __future__ import annotations

import numpy as np
from astropy.table import QTable

from halopy.errors import HaloInputError
from halopy.generative.quality.common_input import PIXELS_PER_BEAM, check_clipped_alike, check_set, common_size
from halopy.generative.quality.comparison import Comparison, measured
from halopy.generative.quality.memorisation import memorisation
from halopy.generative.quality.utility import both_kinds, utility

__all__ = ["MEANINGS", "draw_halves", "report", "shared_labels"]

MEANINGS = {
    "pixel_wasserstein": "mean shift between the distributions of pixel brightness, in units of the noise",
    "power_spectrum": "mean difference of the logarithms of the power spectra",
    "radial_profile": "mean difference of the mean radial profiles, in units of the noise",
    "minkowski_area": "difference of the areas above 1, 2, 4 and 8 sigma, in standard deviations of real images",
    "minkowski_perimeter": "the same of the lengths of their borders",
    "minkowski_euler": "the same of the numbers of pieces less holes",
    "flux_centre": "difference of the fluxes within two beams, in standard deviations of real images",
    "flux_total": "the same of the fluxes in all",
    "size": "the same of the half-light radii of the centres",
    "kid": "kernel distance of the features: 0 on average for real images",
    "frechet": "Fréchet distance of the features: never 0, to be compared with the floor alone",
    "density": "how often generated images fall among real ones: 1 for real images",
    "coverage": "share of the real images with a generated one as near as their neighbours",
    "diversity_features": "mean distance between two images of a label over that of real ones: 0 if all are alike",
    "diversity_pixels": "scatter of the pixels of a label about their mean over that of real ones",
    "nearest_ratio": "distance to the nearest training image over that of real images of other sky: 0 for copies",
    "copies": "share of images nearer to a training image than 95 % of the real ones",
    "tstr": "ROC area on real images of a classifier trained on generated ones; floor: trained on real ones",
    "trts": "ROC area on generated images of a classifier trained on real ones; floor: on real ones",
}
"""What each metric of `report` says."""
MOST = 500
"""Images a side in one draw: more would cost time, and all of them are drawn at some time."""


def shared_labels(real, generated):
    """Return the labels of which there are two groups of real images and two generated ones, and all others."""
    known = set(real.labels.tolist()) | set(generated.labels.tolist())
    shared = [label for label in sorted(known) if len(set(real.groups[real.labels == label])) > 1
              and (generated.labels == label).sum() > 1]
    return shared, sorted(known - set(shared))


def draw_halves(real, generated, labels, rng):
    """Deal the groups of the real images into two halves, and draw as many images from each and of the generated ones.

    Parameters
    ----------
    real, generated : Measured
    labels : sequence of str
        Those that count, from `shared_labels`: each is drawn as often on all three sides.
    rng : `~numpy.random.Generator`

    Returns
    -------
    first, second, made : `~numpy.ndarray`
        Rows of ``real``, of ``real`` and of ``generated``; at most half of the generated images of a label.
    """
    _, index, member = np.unique(real.groups, return_index=True, return_inverse=True)
    side = np.zeros(len(index), dtype=int)
    kind = real.labels[index]
    for label in np.unique(kind):
        pool = rng.permutation(np.flatnonzero(kind == label))
        side[pool] = (np.arange(len(pool)) + rng.integers(2)) % 2
    side = side[member]
    pools = [[np.flatnonzero(mask) for mask in ((real.labels == label) & (side == 0),
                                                (real.labels == label) & (side == 1), generated.labels == label)]
             for label in labels]
    counts = np.array([min(len(a), len(b), len(g) // 2) for a, b, g in pools])
    if counts.sum() > MOST:
        counts = np.ceil(counts * (MOST / counts.sum())).astype(int)
    return tuple(np.concatenate([rng.choice(pool[k], count, replace=False)
                                 for pool, count in zip(pools, counts, strict=True)]) for k in range(3))


def report(real, generated, *, training=None, classifier="features-lr", n=200, level=0.95, rng=None):
    """Compare generated images with real ones, by many measures.

    Parameters
    ----------
    real : CutoutSet
        Real images with ``label``, ``group``, ``rms``, the beam and ``pixel_scale``; best of sky that the generator
        has not seen.
    generated : CutoutSet
        With the same columns but ``group``.
    training : CutoutSet, optional
        What the generator was trained on, with ``group``: then it is looked at whether it gives copies.
    classifier : str or None, optional
        The name of the classifier that learns from both, default ``"features-lr"``; None: that is left out, as it is
        where there are not four groups with and without a halo.
    n : int, optional
        How many times images are drawn, default 200.
    level : float, optional
        The intervals' probability, default 0.95.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `~astropy.table.QTable`
        A row a metric: ``metric``, ``value``, ``low``, ``high``; ``floor``, ``floor_low``, ``floor_high``, the same
        measure of real images against real images; and ``meaning``. Metrics with an ``@`` are of one label. ``meta``
        has ``images`` (how many there are a side in one draw), ``size`` (their pixels, a third of a beam each),
        ``labels``, ``left_out`` (labels that one side lacks), ``groups``, ``draws`` and ``level``.

    Raises
    ------
    HaloInputError
        A column is missing, one set is clipped and the other is not, the sets share no label or hold too few images,
        or n or level cannot be used.

    Notes
    -----
    All images come to one input first: S/N on pixels of a third of a beam, the part of the sky that all of them show.

    In each draw the groups of the real images are dealt into two halves that share no sky. The first half is compared
    with generated images, and with the second half: the floor. All three have the same number of images of every
    label, so that no bias from their number, and no other mix of labels, can tell one comparison from the other. The
    value is the mean over the draws, and the interval holds what comes out of them. Halves, drawn without replacement,
    scatter as the measure of the whole set would over new sets of sky (Shao & Wu 1989); a bootstrap would put copies of
    images into both sets, which distances between sets mistake for likeness.

    References
    ----------
    Shao & Wu 1989, Ann. Statist. 17, 1176, doi:10.1214/aos/1176347263 (the delete-half jackknife); the others are
    named at `halopy.generative.quality.set_distances`, `halopy.generative.quality.image_features`,
    `~halopy.generative.quality.memorisation.memorisation` and `~halopy.generative.quality.utility.utility`.

    Examples
    --------
    >>> from halopy import simulate
    >>> from halopy.generative.quality import report
    >>> from halopy.generative.quality.reference import smoothed
    >>> real = simulate.cutouts(80, mix={"halo": 1, "blank": 1}, rng=1)
    >>> table = report(real, smoothed(real), classifier=None, n=20, rng=1)
    >>> kid = table[table["metric"] == "kid"][0]
    >>> bool(kid["low"] > kid["floor_high"])
    True
    """
    rng = np.random.default_rng(rng)
    check_set(real, "real", columns=("group",))
    check_set(generated, "generated")
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise HaloInputError("n must be a whole number of draws", found=n)
    if not 0 < level < 1:
        raise HaloInputError("the level of an interval must lie between 0 and 1", found=level)
    check_clipped_alike(real, generated)
    size = common_size(real, generated)
    all_real, made = measured(real, size, grouped=True), measured(generated, size)
    labels, left_out = shared_labels(all_real, made)
    if not labels:
        raise HaloInputError("real and generated images must share a label, with two groups and two images",
                             found=f"real: {', '.join(sorted(set(all_real.labels)))}; "
                                   f"generated: {', '.join(sorted(set(made.labels)))}")
    halves, copies, worth_of = rng.spawn(3)
    draws = [draw_halves(all_real, made, labels, halves) for _ in range(n)]
    # Where groups hold several labels, a half may be left without the one that counts.
    draws = [draw for draw in draws if len(draw[0]) > 1]
    if not draws:
        raise HaloInputError("half of the real and of the generated images must be two images at least",
                             found=f"{len(all_real)} real and {len(made)} generated images")
    images = int(np.median([len(first) for first, _, _ in draws]))
    compare = Comparison(all_real, labels, images)
    rows = []
    for first, second, drawn in draws:
        half = all_real.take(first)
        rows.append((compare(half, made.take(drawn)), compare(half, all_real.take(second))))
    table = _intervals(rows, level)
    if training is not None:
        table += [tuple(row) for row in memorisation(generated, training, real=real, n=n, level=level, rng=copies)]
    if classifier is not None and both_kinds(real, generated):
        worth = {row["metric"]: tuple(row)[1:] for row in
                 utility(real, generated, classifier=classifier, n=n, level=level, rng=worth_of)}
        table += [(name, *worth[name], *worth["trtr"]) for name in ("tstr", "trts")]
    table = [(*row, MEANINGS[row[0].partition("@")[0]]) for row in table]
    return QTable(rows=table, names=("metric", "value", "low", "high", "floor", "floor_low", "floor_high", "meaning"),
                  meta={"images": images, "size": size, "pixels_per_beam": PIXELS_PER_BEAM,
                        "labels": labels, "left_out": left_out, "groups": len(set(all_real.groups)), "draws": int(n),
                        "level": float(level)})


def _intervals(rows, level):
    """Return a tuple a metric: mean and interval of the first, and of the second, over the draws."""
    tails = [(1 - level) / 2, (1 + level) / 2]
    result = []
    for name in rows[0][0]:
        numbers = []
        for side in range(2):
            values = np.array([row[side][name] for row in rows])
            values = values[np.isfinite(values)]
            numbers += [values.mean(), *np.quantile(values, tails)] if values.size else [np.nan] * 3
        result.append((name, *map(float, numbers)))
    return result
