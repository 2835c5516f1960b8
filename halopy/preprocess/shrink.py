"""Average an image down."""

from __future__ import annotations

import numpy as np

__all__ = ["shrink"]


def shrink(image, *, max_pixels=800):
    """Average an image down so that no side is longer than ``max_pixels``.

    Parameters
    ----------
    image : ClusterImage
        Any size.
    max_pixels : int, optional
        Default 800.

    Returns
    -------
    ClusterImage
        The image itself where it is small enough. ``meta["shape"]`` is the shape it had.
    """
    step = int(np.ceil(max(image.shape) / max_pixels))
    if step <= 1:
        return image
    ny, nx = (n // step for n in image.shape)
    if ny == 0 or nx == 0:
        return image
    planes = {name: None if plane is None else _mean_of_blocks(plane, step, ny, nx)
              for name, plane in (("data", image.data), ("rms", image.rms), ("background", image.background))}
    every = slice(None, None, step)
    return image.replace(wcs=image.wcs.slice((every, every)), meta={"shape": image.shape} | image.meta, **planes)


def _mean_of_blocks(plane, step, ny, nx):
    # Row by row of blocks: all at once would take twice the memory of the plane.
    return np.concatenate([_mean_of_row(plane[j * step:(j + 1) * step, :nx * step].reshape(1, step, nx, step))
                           for j in range(ny)])


def _mean_of_row(blocks):
    valid = np.isfinite(blocks)
    count = valid.sum((1, 3))
    total = np.where(valid, blocks, 0).sum((1, 3), dtype=float)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
