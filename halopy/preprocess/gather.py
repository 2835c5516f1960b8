"""Pixels of a plane copied to where they are wanted, compiled.

This module imports numba and is itself imported inside functions, so that ``import halopy`` stays light.
What it compiles is compiled at the first call and written to no disk.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["crop", "nearest"]

NAN, ZERO, ONE = (np.float32(x) for x in (np.nan, 0, 1))


@numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc"})
def crop(plane, x0, y0, data, counts):
    """Copy rectangles out of a plane.

    Parameters
    ----------
    plane : `~numpy.ndarray`
        ``(height, width)`` float32, C-contiguous, as all arrays here.
    x0, y0 : `~numpy.ndarray`
        ``(n,)`` int64: the pixel of the plane under pixel 0, 0 of each rectangle; may lie outside.
    data : `~numpy.ndarray`
        ``(n, ny, nx)`` float32: the pixels are written here, NaN outside the plane.
    counts : `~numpy.ndarray`
        ``(n, 2)`` int64: the number of finite pixels, and of exact zeros, is written here.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.preprocess.gather import crop
    >>> plane, data, counts = np.eye(4, dtype=np.float32), np.empty((1, 2, 2), np.float32), np.empty((1, 2), int)
    >>> crop(plane, np.array([3]), np.array([2]), data, counts)
    >>> data.tolist(), counts.tolist()
    ([[[0.0, nan], [1.0, nan]]], [[2, 1]])
    """
    height, width = plane.shape
    n, ny, nx = data.shape
    for i in range(n):
        # The columns of the rectangle that lie on the plane.
        left = min(max(-x0[i], 0), nx)
        right = max(min(width - x0[i], nx), left)
        # Indices without a sign cannot count from the end, and leave the compiler a plain loop.
        start, first, between = np.uint64(max(x0[i], 0)), np.uint64(left), np.uint64(right - left)
        counts[i, 0] = counts[i, 1] = 0
        for r in range(ny):
            there = 0 <= y0[i] + r < height
            if not there or right - left < nx:
                for c in range(nx):
                    data[i, r, c] = NAN
            if there:
                y, valid, zeros = np.uint64(y0[i] + r), ZERO, ZERO
                for c in range(between):
                    value = plane[y, start + c]
                    data[i, r, first + c] = value
                    valid += ONE if value - value == 0 else ZERO
                    zeros += ONE if value == 0 else ZERO
                counts[i, 0] += np.int64(valid)
                counts[i, 1] += np.int64(zeros)


@numba.njit(nogil=True, error_model="numpy")
def nearest(plane, x, y, values):
    """Look up the nearest pixels of a plane.

    Parameters
    ----------
    plane : `~numpy.ndarray`
        ``(height, width)`` float32, C-contiguous, as all arrays here.
    x, y : `~numpy.ndarray`
        ``(n, ny, nx)`` float64: positions in pixels.
    values : `~numpy.ndarray`
        ``(n, ny, nx)`` float32: the pixels are written here, NaN off the plane.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.preprocess.gather import nearest
    >>> values = np.empty((1, 1, 2), np.float32)
    >>> nearest(np.eye(4, dtype=np.float32), np.array([[[1.6, 7.0]]]), np.array([[[2.3, 0.0]]]), values)
    >>> values.tolist()
    [[[1.0, nan]]]
    """
    height, width = plane.shape
    for i in range(x.shape[0]):
        for r in range(x.shape[1]):
            for c in range(x.shape[2]):
                a, b = x[i, r, c], y[i, r, c]
                inside = a > -0.5 and b > -0.5 and a < width - 0.5 and b < height - 0.5
                values[i, r, c] = plane[int(np.rint(b)), int(np.rint(a))] if inside else NAN
