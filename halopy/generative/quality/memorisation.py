"""Whether generated images are copies of the training images."""

from __future__ import annotations

import numpy as np
from astropy.table import QTable

from halopy.errors import HaloInputError
from halopy.generative.quality.common_input import PIXELS_PER_BEAM, check_set, common_images, common_size
from halopy.generative.quality.image_features import brightness
from halopy.image import FWHM_TO_SIGMA

__all__ = ["memorisation", "nearest", "view_of"]

CLOSE = 5
"""Percentile of the real distances below which an image counts as a copy."""
MOST = 1000
"""Images of a set whose neighbours are looked for."""
BLOCK = 2
CHUNK = 512


def view_of(image, view):
    """Return a view of images ``(..., n, n)``: turned ``view % 4`` times by 90 degrees, mirrored from 4 on."""
    image = np.rot90(image, view % 4, (-2, -1))
    return image[..., ::-1] if view >= 4 else image


def nearest(generated, training):
    """Find the training image that each generated one is most like, turned and mirrored in all eight ways.

    Parameters
    ----------
    generated, training : CutoutSet
        ``n`` and ``m`` images, as for `halopy.generative.quality.measures.report`.

    Returns
    -------
    index : `~numpy.ndarray`
        ``(n,)`` rows of ``training``; −1 where a generated image holds nothing.
    view : `~numpy.ndarray`
        ``(n,)`` from 0 to 7: how the training image has to be turned, see `view_of`.
    distance : `~numpy.ndarray`
        ``(n,)``: the root mean square difference in units of the noise, of images whose bright pixels are compressed
        and that are smoothed by a beam, so that a pixel's shift and fresh noise do not hide a copy. NaN with −1.

    Examples
    --------
    >>> from halopy.generative.quality.memorisation import nearest
    >>> from halopy.testing import simulated_cutouts
    >>> training = simulated_cutouts(12)
    >>> mirrored = training.replace(data=training.data[:, :, ::-1])
    >>> index, view, distance = nearest(mirrored, training)
    >>> index.tolist() == list(range(12)), set(view.tolist()), bool(distance.max() < 1e-3)
    (True, {4}, True)
    """
    check_set(generated, "generated")
    check_set(training, "training")
    size = common_size(generated, training)
    queries, rows = _seen(generated, size)
    references, kept = _seen(training, size)
    if not len(kept):
        raise HaloInputError("training must hold images with data", found=0)
    n = len(generated)
    index, view, distance = np.full(n, -1), np.zeros(n, dtype=int), np.full(n, np.nan)
    if len(rows):
        index[rows], view[rows], distance[rows] = _nearest(queries, references)
        index[rows] = kept[index[rows]]
    return index, view, distance


def memorisation(generated, training, *, real=None, n=200, level=0.95, rng=None):
    """Compare how near generated images are to training images with how near real ones are to each other.

    The distance of each generated image from the nearest training image (`nearest`) is divided by what is usual for
    a real image of its label: the median distance of training images from the nearest one of another group. Real
    images of other sky have a ratio of 1, copies one of 0, and 5 % of the real ones count as close.

    Parameters
    ----------
    generated, training : CutoutSet
        ``training`` with the column ``group``; what the generator was trained on, or at least its sky. Of sets of
        more than 1000 images so many are drawn.
    real : CutoutSet, optional
        Images of sky that is not in the training set: their ratio, which should be 1, is then measured. Sets that
        share a group with ``training`` are left out.
    n : int, optional
        How many times generated images and groups of training images are drawn for the intervals, default 200.
    level : float, optional
        The intervals' probability, default 0.95.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `~astropy.table.QTable`
        Rows ``nearest_ratio``, the median ratio, and ``copies``, the share of images closer than 95 % of the real
        ones; columns ``metric``, ``value``, ``low``, ``high`` and those of the ``floor``.

    Raises
    ------
    HaloInputError
        The training set has a single group, or a set cannot be compared.

    References
    ----------
    Meehan, Chaudhuri & Dasgupta 2020, arXiv:2004.05675 (distances to the training set against those of held-out
    data).

    Examples
    --------
    >>> from halopy import simulate
    >>> from halopy.generative.quality.memorisation import memorisation
    >>> training, fresh = simulate.cutouts(60, rng=1), simulate.cutouts(60, rng=2)
    >>> table = memorisation(training, training, n=20, rng=1)
    >>> table["value"].tolist()
    [0.0, 1.0]
    >>> bool(memorisation(fresh, training, n=20, rng=1)["value"][0] > 0.9)
    True
    """
    rng = np.random.default_rng(rng)
    check_set(generated, "generated")
    check_set(training, "training", columns=("group",))
    groups = np.asarray(training.table["group"]).astype(str)
    if len(set(groups)) < 2:
        raise HaloInputError("training needs at least two groups, to know how alike different sky is",
                             found=sorted(set(groups)))
    if real is not None:
        check_set(real, "real", columns=("group",))
        if set(groups) & set(np.asarray(real.table["group"]).astype(str).tolist()):
            real = None
    size = common_size(*(part for part in (generated, training, real) if part is not None))
    references, kept = _seen(training, size)
    chosen = _some(len(kept), rng)
    own = _nearest(references[chosen], references, groups[kept[chosen]], groups[kept])[2]
    labels = np.asarray(training.table["label"]).astype(str)[kept[chosen]]
    known = np.isfinite(own)
    usual = {name: np.median(own[known & (labels == name)]) for name in set(labels[known])}
    pooled = np.median(own[known])

    def ratios(distance, label):
        return distance / np.array([usual.get(name, pooled) for name in label])

    held, members = ratios(own[known], labels[known]), groups[kept[chosen]][known]
    made = _ratios_of(generated, size, references, ratios, rng)
    # The floor: held-out real images, or the training images themselves, each without its own group.
    other = (held, members) if real is None else _ratios_of(real, size, references, ratios, rng, "group")
    rows = {"nearest_ratio": [], "copies": []}
    for values, own_groups in (made, other):
        drawn = np.array([_compared(values, held)] + [
            _compared(values[_drawn(own_groups, rng)], held[_drawn(members, rng)]) for _ in range(n)])
        ends = np.quantile(drawn[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
        for k, numbers in enumerate(rows.values()):
            numbers += [drawn[0, k], *ends[:, k]]
    return QTable(rows=[(name, *map(float, numbers)) for name, numbers in rows.items()],
                  names=("metric", "value", "low", "high", "floor", "floor_low", "floor_high"))


def _compared(values, held):
    return np.median(values) / np.median(held), (values < np.percentile(held, CLOSE)).mean()


def _ratios_of(cutouts, size, references, ratios, rng, column=None):
    """Return the ratios of a set's images, and their groups: each its own without a column."""
    images, rows = _seen(cutouts, size)
    if not len(rows):
        raise HaloInputError("a set of images must hold data", found=0)
    chosen = _some(len(rows), rng)
    labels = np.asarray(cutouts.table["label"]).astype(str)[rows[chosen]]
    groups = np.arange(len(chosen)) if column is None else np.asarray(cutouts.table[column])[rows[chosen]]
    return ratios(_nearest(images[chosen], references)[2], labels), groups


def _some(n, rng):
    return np.arange(n) if n <= MOST else np.sort(rng.choice(n, MOST, replace=False))


def _drawn(groups, rng):
    """Return rows of groups that were drawn with replacement."""
    unique, member = np.unique(groups, return_inverse=True)
    counts = np.bincount(rng.integers(len(unique), size=len(unique)), minlength=len(unique))
    return np.repeat(np.arange(len(member)), counts[member])


def _seen(cutouts, size):
    """Return images as they are compared, ``(n, size / 2, size / 2)`` float32, and their rows in the set."""
    from scipy.ndimage import gaussian_filter

    images, rows = common_images(cutouts, size)
    width = PIXELS_PER_BEAM * FWHM_TO_SIGMA
    smooth = gaussian_filter(brightness(images), (0, width, width), mode="nearest")
    half = size // BLOCK
    return smooth.reshape(len(images), half, BLOCK, half, BLOCK).mean(axis=(2, 4)).astype(np.float32), rows


def _nearest(queries, references, query_groups=None, groups=None):
    """Return index, view and distance of the nearest reference of another group; infinite where there is none."""
    flat = queries.reshape(len(queries), -1)
    best = np.full(len(queries), np.inf, dtype=np.float32)
    index, view = np.zeros((2, len(queries)), dtype=int)
    for start in range(0, len(references), CHUNK):
        part = references[start:start + CHUNK]
        norm = (part**2).sum(axis=(1, 2))
        apart = None if groups is None else query_groups[:, None] == groups[None, start:start + CHUNK]
        for k in range(8):
            # The squared norm of the query is the same for all: it is left out.
            distance = norm - 2 * flat @ view_of(part, k).reshape(len(part), -1).T
            if apart is not None:
                distance[apart] = np.inf
            nearest_one = distance.argmin(axis=1)
            value = distance[np.arange(len(flat)), nearest_one]
            better = value < best
            best[better], view[better], index[better] = value[better], k, start + nearest_one[better]
    found = np.stack([view_of(references[i], k) for i, k in zip(index, view, strict=True)])
    # Again from the images themselves: among large numbers the distance of a copy would be lost.
    exact = np.sqrt(((queries - found).astype(float) ** 2).mean(axis=(1, 2)))
    return index, view, np.where(np.isfinite(best), exact, np.inf)
