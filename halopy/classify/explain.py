"""What in a cutout a classifier goes by, without a look inside: cover a part, and see what changes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError

__all__ = ["occlusion"]


def occlusion(classifier, cutouts, *, patches=8):
    """Return by how much the logit of the probability falls when a patch of the cutout is covered.

    Works with every classifier. A covered pixel has the median of its cutout.

    Parameters
    ----------
    classifier : Classifier
        Trained, if it needs to be.
    cutouts : CutoutSet
        ``(n, ny, nx)``.
    patches : int, optional
        How many patches fill an axis, default 8; so many squared are covered, one after the other.

    Returns
    -------
    CutoutSet
        ``(n, ny, nx)`` in logits, with the cutouts' table: positive where what was covered spoke
        for a halo. NaN where the cutout has no data, or no probability.

    References
    ----------
    Zeiler & Fergus 2014, arXiv:1311.2901.

    Examples
    --------
    >>> from halopy import classifiers
    >>> from halopy.classify.explain import occlusion
    >>> from halopy.testing import simulated_cutouts
    >>> maps = occlusion(classifiers.create("matched-filter"), simulated_cutouts(3)[:1], patches=4)
    >>> bool(maps.data[0, 32, 32] > maps.data[0, 0, 0])
    True
    """
    if not isinstance(cutouts, CutoutSet):
        raise HaloInputError("occlusion takes a CutoutSet", found=type(cutouts).__name__)
    if isinstance(patches, bool) or not (isinstance(patches, (int, np.integer)) and patches > 0):
        raise HaloInputError("patches must be a positive whole number", found=patches)
    whole = _logit(classifier.predict_proba(cutouts))
    known = np.isfinite(cutouts.data)
    median = np.array([np.median(plane[ok]) if ok.any() else 0.0
                       for plane, ok in zip(cutouts.data, known, strict=True)])
    maps = np.full(cutouts.shape, np.nan)
    ny, nx = (np.linspace(0, n, min(patches, n) + 1).astype(int) for n in cutouts.shape[1:])
    for top, bottom in pairwise(ny):
        for left, right in pairwise(nx):
            part = np.s_[:, top:bottom, left:right]
            data = cutouts.data.copy()
            data[part] = np.where(known[part], median[:, None, None], np.nan)
            covered = _logit(classifier.predict_proba(cutouts.replace(data=data)))
            # A cutout of which nothing is left has nothing that speaks for a halo any more.
            fall = whole - np.where(np.isfinite(covered), covered, 0.0)
            maps[part] = np.where(known[part], fall[:, None, None], np.nan)
    return cutouts.replace(data=maps, unit="")


def _logit(probability):
    probability = np.clip(probability, 1e-300, 1 - 1e-16)
    return np.log(probability) - np.log1p(-probability)
