"""Views of a plane about its centre, turned by 45 degrees and magnified, compiled.

This module imports numba and is itself imported inside functions, so that ``import halopy`` stays light.
What it compiles is compiled at the first call and written to no disk.
"""

from __future__ import annotations

import numba
import numpy as np

from halopy.preprocess.spline import PAD, check, spline_coefficients

__all__ = ["orient", "turned_views"]

ONE, THREE, SIXTH = np.float32(1), np.float32(3), np.float32(1 / 6)


def turned_views(plane, zoom, tilted, views):
    """Interpolate views of a plane about its centre with one cubic spline.

    Turned by 45 degrees or not, a view is a part of a lattice along the axes of the plane. It is interpolated along x
    for each column of the lattice, and then along y for each pixel.

    Parameters
    ----------
    plane : `~numpy.ndarray`
        ``(height, width)`` float32, C-contiguous, NaN where there is no data; the views must lie on it.
    zoom : `~numpy.ndarray`
        ``(k,)`` float64: by how much each view is magnified.
    tilted : `~numpy.ndarray`
        ``(k,)`` bool: whether it is turned by 45 degrees, counter-clockwise with y up.
    views : `~numpy.ndarray`
        ``(k, 2, n, n)`` float32: the views, and the same transposed, are written here. NaN where a missing pixel is
        among the four around a point.

    Returns
    -------
    `~numpy.ndarray`
        ``(k,)``: how many pixels of each view hold data.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.preprocess.turn import turned_views
    >>> plane = np.add.outer(np.zeros(40), np.arange(40)).astype(np.float32)
    >>> views = np.empty((1, 2, 2, 2), np.float32)
    >>> turned_views(plane, np.array([2.0]), np.array([False]), views).tolist(), views[0, 0].round(4).tolist()
    ([4], [[19.25, 19.75], [19.25, 19.75]])
    """
    n, (height, width) = views.shape[2], plane.shape
    spline, missing, _ = spline_coefficients(plane, np.array([[[0, width], [0, height]]]), True)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    start, weights = np.empty((2, 2 * n), np.uint64), np.empty((2, 2 * n, 4), np.float32)
    _turn(spline[0], centre, zoom, tilted, start, weights, np.empty((2 * n, spline.shape[2]), np.float32), views)
    if missing[0]:
        offset = (np.arange(n) - (n - 1) / 2) / zoom[:, None]
        x, y = np.broadcast_arrays(offset[:, None, :], offset[:, :, None])
        turned = np.where(tilted[:, None, None], [(x + y) / np.sqrt(2), (y - x) / np.sqrt(2)], [x, y])
        points = turned.swapaxes(0, 1) + centre[:, None, None]
        data = views[:, 0].copy()
        check(plane, points, np.repeat(missing, len(views)), data, np.zeros((len(views), 3), np.int64))
        views[:, 0], views[:, 1] = data, data.swapaxes(1, 2)
    return np.isfinite(views[:, 0]).sum(axis=(1, 2)) if missing[0] else np.full(len(views), n * n)


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _turn(spline, centre, zoom, tilted, start, w, lines, views):
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    size = views.shape[2]
    for i in range(len(views)):
        # Turned back, clockwise with y up, a pixel in row r and column c comes from (c + r, r - c) / √2.
        n = 2 * size - 1 if tilted[i] else size
        step = np.sqrt(0.5) / zoom[i] if tilted[i] else 1 / zoom[i]
        for axis in range(2):
            for k in range(n):
                position = centre[axis] + (k - (n - 1) / 2) * step
                start[axis, k] = np.int64(np.floor(position)) + (PAD - 1)
                t = np.float32(position - np.floor(position))
                s = ONE - t
                w[axis, k, 0], w[axis, k, 3] = s * s * s * SIXTH, t * t * t * SIXTH
                w[axis, k, 1] = (ONE + THREE * s * (ONE + t * s)) * SIXTH
                w[axis, k, 2] = (ONE + THREE * t * (ONE + t * s)) * SIXTH
        for k in range(n):
            x = start[0, k]
            w0, w1, w2, w3 = w[0, k, 0], w[0, k, 1], w[0, k, 2], w[0, k, 3]
            for y in range(spline.shape[1]):
                lines[k, y] = (w0 * spline[x, y] + w1 * spline[x + one, y] + w2 * spline[x + two, y]
                               + w3 * spline[x + three, y])
        for r in range(size):
            for c in range(size):
                j, k = (c + r, r - c + size - 1) if tilted[i] else (c, r)
                y = start[1, k]
                value = (w[1, k, 0] * lines[j, y] + w[1, k, 1] * lines[j, y + one] + w[1, k, 2] * lines[j, y + two]
                         + w[1, k, 3] * lines[j, y + three])
                views[i, 0, r, c] = views[i, 1, c, r] = value


@numba.njit(nogil=True, error_model="numpy")
def orient(views, view, transposed, rows, columns, factor, data):
    """Write turned, mirrored and multiplied copies of views.

    Parameters
    ----------
    views : `~numpy.ndarray`
        ``(k, 2, n, n)`` float32, C-contiguous, as all arrays here: views, and the same transposed.
    view, transposed : `~numpy.ndarray`
        ``(m,)`` int64: which of the views each copy is of.
    rows, columns : `~numpy.ndarray`
        ``(m,)`` bool: whether the order of its rows, and columns, is reversed.
    factor : `~numpy.ndarray`
        ``(m,)`` float32: what it is multiplied by.
    data : `~numpy.ndarray`
        ``(m, n, n)`` float32: the copies are written here.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.preprocess.turn import orient
    >>> view = np.arange(4, dtype=np.float32).reshape(2, 2)
    >>> data = np.empty((1, 2, 2), np.float32)
    >>> orient(np.array([[view, view.T]]), np.array([0]), np.array([1]), np.array([True]), np.array([False]),
    ...        np.ones(1, np.float32), data)
    >>> data.tolist()
    [[[1.0, 3.0], [0.0, 2.0]]]
    """
    m, n = data.shape[:2]
    for i in range(m):
        source, times = views[view[i], transposed[i]], factor[i]
        for r in range(n):
            row, line = source[n - 1 - r if rows[i] else r], data[i, r]
            if columns[i]:
                last = np.uint64(n - 1)
                for c in range(np.uint64(n)):
                    line[c] = row[last - c] * times
            else:
                for c in range(n):
                    line[c] = row[c] * times
