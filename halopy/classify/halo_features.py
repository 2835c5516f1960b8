"""What is seen at the target, and at the best halo near it, in numbers: what the ensemble looks at."""

from __future__ import annotations

import numpy as np

from halopy.classify.features import RADII, beam_width, compact_light, described, middle, noise_level
from halopy.classify.matched_filter import MatchedFilter
from halopy.preprocess.subtract import find_compact

__all__ = ["halo_features"]

UNSEEN = ("excess",)
"""What the surroundings of the found centre say that the target's have said."""


def halo_features(cutouts):
    """Describe each cutout about its centre, and about the best halo that the matched filter finds near it.

    A halo may lie off the catalogued centre by a good part of its size, and what is a phoenix or a relic shows in its
    shape about its own centre.

    Parameters
    ----------
    cutouts : CutoutSet
        ``n`` cutouts, not scaled, with the columns of a `~halopy.CutoutMaker`.

    Returns
    -------
    features : `~numpy.ndarray`
        ``(n, k)`` float64; NaN in the rows of cutouts that cannot be scored.
    names : list of str
        Those of `~halopy.classify.features.cutout_features`; ``found_…`` of the image, and
        ``found_residual_…`` of the image without compact sources, about the centre of the best halo;
        ``found_compact`` (compact sources about it); and of the halo itself ``found_snr`` (asinh of the statistic of
        ``matched-filter``), ``found_radius`` (ln of the e-folding radius in beams) and ``found_offset`` (in beams).

    Examples
    --------
    >>> from halopy import simulate
    >>> from halopy.classify.halo_features import halo_features
    >>> features, names = halo_features(simulate.cutouts(2, survey="nvss", rng=1))
    >>> features.shape == (2, len(names))
    True
    """
    width, noise, shape = beam_width(cutouts), noise_level(cutouts), cutouts.data.shape[1:]
    residual, sources = find_compact(cutouts)
    found = MatchedFilter().locate(cutouts, compact=(residual, sources))
    columns = described(cutouts.data, noise, width, whole=True)
    columns |= {f"residual_{name}": values for name, values in described(residual, noise, width).items()}
    columns["compact"] = compact_light(sources, shape, width, noise)
    x, y = (np.nan_to_num(np.asarray(found[name])) for name in ("offset_x", "offset_y"))
    half = int(np.ceil(RADII[-1] * width.max(initial=1))) + 1
    for prefix, data in (("found_", cutouts.data), ("found_residual_", residual)):
        about = described(_windows(data, x, y, half), noise, width, level=middle(data))
        columns |= {prefix + name: values for name, values in about.items() if name not in UNSEEN}
    moved = sources.copy()
    number = sources[:, 0].astype(int)
    moved[:, 1], moved[:, 2] = sources[:, 1] - x[number], sources[:, 2] - y[number]
    columns["found_compact"] = compact_light(moved, shape, width, noise)
    columns["found_snr"], columns["found_radius"] = np.arcsinh(found["snr"]), np.log(found["radius"])
    columns["found_offset"] = np.hypot(x, y) / width
    features = np.stack([np.asarray(column, dtype=float) for column in columns.values()], axis=1)
    features[~np.isfinite(features).all(axis=1)] = np.nan
    return features, list(columns)


def _windows(data, x, y, half):
    """Cut windows of ``2 half`` pixels (one more where the cutout's number is odd) about offsets from the centre.

    An even cutout has its centre between pixels, and so has its window: turned sky gives the turned window. NaN beyond
    the edge.
    """
    padded = np.pad(data, ((0, 0), (half, half), (half, half)), constant_values=np.nan)
    index = []
    for n, offset in zip(data.shape[1:], (y, x), strict=True):
        odd = n % 2
        limit = (n - 2 + odd) / 2
        middle_of = (n - 1) / 2 + np.clip(np.rint(offset), -limit, limit)
        side = 2 * half + odd
        # The window's first pixel in the padded image.
        first = np.rint(middle_of - (side - 1) / 2 + half).astype(int)
        index.append(first[:, None] + np.arange(side))
    return padded[np.arange(len(data))[:, None, None], index[0][:, :, None], index[1][:, None, :]]
