"""Spline interpolation of a plane on many small grids, compiled.

The values are those of `halopy.preprocess.interpolate.Interpolator` for orders 1 and 3, in float32.
This module imports numba and is itself imported inside functions, so that ``import halopy`` stays light.
What it compiles is compiled at the first call and written to no disk.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from halopy.preprocess.interpolate import MARGIN, TOUCHED
from halopy.preprocess.project import CONTROL

__all__ = ["PAD", "check", "resample", "spline_coefficients"]

POLE = np.float32(np.sqrt(3) - 2)
# Terms of the filter's first value: 0.268^18 is 5e-11.
START = 18
# Mirrored pixels around the coefficients, so that every point has four by four of them.
PAD = 2
TOGETHER, CACHE = 16, 2**17
NAN, ZERO, ONE, GAIN = (np.float32(x) for x in (np.nan, 0, 1, 6))
END = POLE / (POLE * POLE - ONE)
THREE, SIXTH = np.float32(3), np.float32(1 / 6)


def resample(plane, control, rows, columns, data, *, order=3):
    """Interpolate a plane on grids that are polynomials of control points.

    Parameters
    ----------
    plane : `~numpy.ndarray`
        ``(height, width)`` float32, C-contiguous, NaN where there is no data.
    control : `~numpy.ndarray`
        ``(n, 2, 5, 5)`` float64: x and y of the control points of each grid, in pixels of the plane.
    rows, columns : `~numpy.ndarray` or None
        ``(ny, 5)`` and ``(5, nx)`` float64, C-contiguous: a grid is ``rows @ control @ columns``. None: ``control``
        is ``(n, 2, ny, nx)``, the grids themselves.
    data : `~numpy.ndarray`
        ``(n, ny, nx)`` float32: the values are written here. NaN where a missing pixel is among the four around a
        point, and off the plane.
    order : int, optional
        1 or 3 (default).

    Returns
    -------
    `~numpy.ndarray`
        ``(n, 3)``: how many values there are, how many of the nearest pixels of the plane hold data, and how many of
        these are exactly zero.

    Notes
    -----
    A few grids at a time are located, the parts of the plane that they see are filtered, and evaluated.

    References
    ----------
    Unser 1999, IEEE Signal Processing Magazine 16, 22 (doi:10.1109/79.799930), for the spline filter.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.preprocess.spline import resample
    >>> plane = np.add.outer(np.zeros(40), np.arange(40)).astype(np.float32)
    >>> control = np.array([[[[19.5, 20.5]] * 2, [[19.0, 19.0], [20.0, 20.0]]]])
    >>> data = np.empty((1, 2, 2), np.float32)
    >>> resample(plane, control, None, None, data).tolist(), data[0].round(4).tolist()
    ([[4, 4, 0]], [[19.5, 20.5], [19.5, 20.5]])
    """
    n, ny, nx = data.shape
    counts = np.empty((n, 3), np.int64)
    boxes = _boxes(plane, control, rows, columns, MARGIN if order == 3 else 2)
    largest = int(((boxes[:, :, 1] - boxes[:, :, 0]).max(axis=0) + 2 * PAD).prod())
    # A few at a time, for the processor's cache. Memory asked for again and again costs more than what is done in it.
    together = min(max(CACHE // largest, 1), TOGETHER, n)
    space = np.empty((2, together * largest), np.float32)
    line, corners, weights = np.empty((2, nx)), np.empty((2, nx), np.uint64), np.empty((8, nx), np.float32)
    polynomial = rows is not None
    matrices = (rows, columns) if polynomial else np.empty((2, 0, 0))
    for start in range(0, n, together):
        some = slice(start, start + together)
        coefficients, missing, zeros = spline_coefficients(plane, boxes[some], order == 3, space)
        _evaluate(control[some], *matrices, polynomial, boxes[some], missing, order == 3, coefficients, line, weights,
                  corners, data[some], counts[some])
        if missing.any() or zeros.any() or (counts[some, 0] < ny * nx).any():
            with np.errstate(invalid="ignore"):
                points = rows @ control[some] @ columns if polynomial else control[some]
            check(plane, points, missing, data[some], counts[some])
    return counts


def _boxes(plane, control, rows, columns, margin):
    """Return ``(n, 2, 2)``: of what grids see of a plane, the first pixel and the last plus one, along x and y."""
    if rows is None:
        positions = control.reshape(len(control), 2, -1)
    else:
        # A grid does not fold: its extremes are near some of its outermost pixels.
        along, across = (np.linspace(0, n - 1, 17).astype(np.int64) for n in (len(rows), columns.shape[1]))
        y = np.concatenate([along, along, np.repeat(along[[0, -1]], 17)])
        x = np.concatenate([np.repeat(across[[0, -1]], 17), across, across])
        with np.errstate(invalid="ignore"):
            weights = (rows[y].T[:, None] * columns[:, x]).reshape(-1, len(x))
            positions = (control.reshape(-1, len(weights)) @ weights).reshape(len(control), 2, -1)
    size = np.array(plane.shape[::-1])
    low, high = (extreme.reduce(positions, axis=2) for extreme in (np.fmin, np.fmax))
    # Grids without any position have an empty box.
    low, high = (np.nan_to_num(np.clip(limit, -1, size), nan=-1 - margin) for limit in (low, high))
    low = np.maximum(np.floor(low).astype(np.int64) - margin, 0)
    high = np.minimum(np.ceil(high).astype(np.int64) + margin + 1, size)
    return np.stack([low, np.maximum(low, high)], axis=2)


def spline_coefficients(plane, boxes, cubic, space=None):
    """Return coefficients of boxes of a plane, and the numbers of pixels in them that are missing, or zero.

    The coefficients, ``(n, nx + 4, ny + 4)`` or more, have x before y and two more at every edge. They lie in
    ``space``, if that is given: ``(2, k)`` with room for them.
    """
    width, height = (boxes[:, :, 1] - boxes[:, :, 0]).max(axis=0) + 2 * PAD
    needed = len(boxes) * width * height
    space = np.empty((2, needed), np.float32) if space is None else space
    parts = space[0, :needed].reshape(len(boxes), height, width)
    coefficients = space[1, :needed].reshape(len(boxes), width, height)
    missing, zeros = np.zeros((2, len(boxes)), np.int64)
    _copy(plane, boxes.astype(np.uint64), parts, missing, zeros)
    if missing.any():
        _fill(parts, boxes, missing, np.empty((height, width), np.int64))
    _filter(parts, boxes, cubic, np.empty(max(width, height), np.float32), coefficients)
    return coefficients, missing, zeros


@numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc"})
def _copy(plane, boxes, parts, missing, zeros):
    """Copy boxes of a plane, and count their pixels that are missing or zero; unsigned numbers make it fast."""
    for i in range(len(boxes)):
        x0, x1, y0, y1 = boxes[i, 0, 0], boxes[i, 0, 1], boxes[i, 1, 0], boxes[i, 1, 1]
        for y in range(y1 - y0):
            n_missing, n_zeros = ZERO, ZERO
            for x in range(x1 - x0):
                value = plane[y0 + y, x0 + x]
                parts[i, y, x] = value
                n_missing += ZERO if value - value == 0 else ONE
                n_zeros += ONE if value == 0 else ZERO
            missing[i] += np.int64(n_missing)
            zeros[i] += np.int64(n_zeros)


@numba.njit(nogil=True, error_model="numpy")
def _fill(parts, boxes, missing, nearest):
    """Give missing pixels the value of the nearest one; of several, the leftmost, and of these the lowest."""
    for i in range(len(parts)):
        part, nx, ny = parts[i], boxes[i, 0, 1] - boxes[i, 0, 0], boxes[i, 1, 1] - boxes[i, 1, 0]
        if missing[i] == 0 or missing[i] == nx * ny:
            continue
        # The nearest row with data in the same column.
        for x in range(nx):
            last = -1
            for y in range(ny):
                last = y if part[y, x] - part[y, x] == 0 else last
                nearest[y, x] = last
            last = -1
            for y in range(ny - 1, -1, -1):
                last = y if nearest[y, x] == y else last
                if last >= 0 and (nearest[y, x] < 0 or last - y < y - nearest[y, x]):
                    nearest[y, x] = last
        for y in range(ny):
            for x in range(nx):
                if nearest[y, x] == y:
                    continue
                best, column, k = nx * nx + ny * ny, nx, 0
                while k < nx and k * k <= best:
                    for other in range(x - k, x + k + 1, 2 * k + (k == 0)):
                        if 0 <= other < nx and nearest[y, other] >= 0:
                            distance = k * k + (nearest[y, other] - y) ** 2
                            if distance < best or (distance == best and other < column):
                                best, column = distance, other
                    k += 1
                part[y, x] = part[nearest[y, column], column]


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _filter(parts, boxes, cubic, line, coefficients):
    """Turn pixels into coefficients: along y in the part, which is changed, and along x in the turned array."""
    for i in range(len(parts)):
        for axis in range(2):
            n, other = boxes[i, 1 - axis, 1] - boxes[i, 1 - axis, 0], boxes[i, axis, 1] - boxes[i, axis, 0]
            c, first = parts[i], 0
            if axis == 1:
                # Coefficients are mirrored where the pixels are.
                c, first = coefficients[i], PAD
                for x in range(n):
                    for y in range(other):
                        c[x + PAD, y + PAD] = parts[i, y, x]
                    for k in range(1, PAD + 1):
                        step = k % max(2 * other - 2, 1)
                        step = min(step, 2 * other - 2 - step)
                        c[x + PAD, PAD - k] = parts[i, step, x]
                        c[x + PAD, PAD + other - 1 + k] = parts[i, other - 1 - step, x]
                other += 2 * PAD
            if cubic and n > 1:
                # The recursion comes in over the mirrored rows before the first.
                for y in range(START, -1, -1):
                    row = y % (2 * n - 2)
                    row = first + min(row, 2 * n - 2 - row)
                    for x in range(other):
                        line[x] = (GAIN * c[row, x] + POLE * line[x]) if y < START else ZERO
                for x in range(other):
                    c[first, x] = line[x]
                for y in range(first + 1, first + n):
                    for x in range(other):
                        c[y, x] = GAIN * c[y, x] + POLE * c[y - 1, x]
                last = first + n - 1
                for x in range(other):
                    line[x] = END * (POLE * c[last, x] + c[last - 1, x])
                for y in range(last, first - 1, -1):
                    for x in range(other):
                        line[x] = c[y, x] = POLE * (line[x] - c[y, x])
        for k in range(1, PAD + 1):
            step = k % max(2 * n - 2, 1)
            step = min(step, 2 * n - 2 - step)
            for y in range(other if n else 0):
                coefficients[i, PAD - k, y] = coefficients[i, PAD + step, y]
                coefficients[i, PAD + n - 1 + k, y] = coefficients[i, PAD + n - 1 - step, y]


@intrinsic
def _sum_4x4(context, array, x, y, u0, u1, u2, u3, v0, v1, v2, v3):
    """Sum 4 x 4 elements of a C-contiguous float32 array from [x, y] on, weighted by u along x and v along y.

    In vectors of four, which the compiler does not find by itself: this sum is half of the time of all.
    """

    def generate(context, builder, signature, arguments):
        plane = context.make_array(signature.args[0])(context, builder, arguments[0])
        x, y, u, v = arguments[1], arguments[2], arguments[3:7], arguments[7:]
        whole, lane, four = ir.IntType(64), ir.IntType(32), ir.VectorType(ir.FloatType(), 4)
        undefined, stride = ir.Constant(four, ir.Undefined), builder.extract_value(plane.strides, 0)
        address = builder.add(builder.mul(x, stride), builder.mul(y, ir.Constant(whole, 4)))
        address = builder.add(builder.ptrtoint(plane.data, whole), address)
        total = ir.Constant(four, [0.0] * 4)
        for weight in u:
            row = builder.load(builder.inttoptr(address, four.as_pointer()), align=4)
            weight = builder.insert_element(undefined, weight, lane(0))
            weight = builder.shuffle_vector(weight, undefined, ir.Constant(ir.VectorType(lane, 4), [0] * 4))
            total = builder.fadd(total, builder.fmul(row, weight, flags=("contract",)), flags=("contract",))
            address = builder.add(address, stride)
        value = ir.Constant(ir.FloatType(), 0.0)
        for k, weight in enumerate(v):
            term = builder.fmul(builder.extract_element(total, lane(k)), weight, flags=("contract",))
            value = builder.fadd(value, term, flags=("contract",))
        return value

    return numba.float32(array, x, y, *[numba.float32] * 8), generate


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _evaluate(control, rows, columns, polynomial, boxes, missing, cubic, coefficients, line, w, corners, data, counts):
    """Evaluate splines of boxes of a plane at the pixels of grids, and count the values."""
    straight, curved = (ZERO, SIXTH) if cubic else (ONE, ZERO)
    factor = np.empty(CONTROL)
    n, ny, nx = data.shape
    for i in range(n):
        spline, x0, x1, y0, y1 = coefficients[i], boxes[i, 0, 0], boxes[i, 0, 1], boxes[i, 1, 0], boxes[i, 1, 1]
        empty = missing[i] == (x1 - x0) * (y1 - y0)
        valid = 0
        for r in range(ny):
            for axis in range(2):
                if polynomial:
                    for b in range(CONTROL):
                        factor[b] = (rows[r, 0] * control[i, axis, 0, b] + rows[r, 1] * control[i, axis, 1, b]
                                     + rows[r, 2] * control[i, axis, 2, b] + rows[r, 3] * control[i, axis, 3, b]
                                     + rows[r, 4] * control[i, axis, 4, b])
                    to, (f0, f1, f2, f3, f4) = line[axis], factor
                    for c in range(nx):
                        to[c] = (f0 * columns[0, c] + f1 * columns[1, c] + f2 * columns[2, c] + f3 * columns[3, c]
                                 + f4 * columns[4, c])
                else:
                    for c in range(nx):
                        line[axis, c] = control[i, axis, r, c]
            for c in range(nx):
                x, y = line[0, c] - x0, line[1, c] - y0
                inside = ((x >= -TOUCHED) & (x <= x1 - x0 - 1 + TOUCHED) & (y >= -TOUCHED)
                          & (y <= y1 - y0 - 1 + TOUCHED) & (not empty))
                x = x if inside else 0.0
                y = y if inside else 0.0
                # The first of four coefficients is that of the pixel before.
                corners[0, c], corners[1, c] = np.int64(np.floor(x)) + (PAD - 1), np.int64(np.floor(y)) + (PAD - 1)
                w[0, c], w[4, c] = x - np.floor(x) if inside else NAN, y - np.floor(y)
            for a in (0, 4):
                for c in range(nx):
                    t = w[a, c]
                    s = ONE - t
                    # Of the line between two pixels, or of the cubic spline.
                    w[a, c] = curved * (s * s * s)
                    w[a + 1, c] = straight * s + curved * (ONE + THREE * s * (ONE + t * s))
                    w[a + 2, c] = straight * t + curved * (ONE + THREE * t * (ONE + t * s))
                    w[a + 3, c] = curved * (t * t * t)
            for c in range(nx):
                value = _sum_4x4(spline, corners[0, c], corners[1, c], w[0, c], w[1, c], w[2, c], w[3, c], w[4, c],
                                 w[5, c], w[6, c], w[7, c])
                data[i, r, c] = value
                valid += value == value
        counts[i, 0], counts[i, 1], counts[i, 2] = valid, ny * nx, 0


@numba.njit(nogil=True, error_model="numpy")
def check(plane, points, missing, data, counts):
    """Remove the values that missing pixels touch, by more than rounding, and count the nearest pixels."""
    height, width = plane.shape
    for i in range(len(data)):
        counts[i, 1] = 0
        for r in range(data.shape[1]):
            for c in range(data.shape[2]):
                x, y = points[i, 0, r, c], points[i, 1, r, c]
                if x > -0.5 and y > -0.5 and x < width - 0.5 and y < height - 0.5:
                    value = plane[int(np.rint(y)), int(np.rint(x))]
                    counts[i, 1] += value - value == 0
                    counts[i, 2] += value == 0
                if missing[i] and data[i, r, c] == data[i, r, c]:
                    column, row, share = int(np.floor(x)), int(np.floor(y)), 0.0
                    for a in range(4):
                        # Beyond an edge comes the pixel before it.
                        j, k = abs(column + a % 2), abs(row + a // 2)
                        j, k = j if j < width else max(width - 2, 0), k if k < height else max(height - 2, 0)
                        if plane[k, j] - plane[k, j] != 0:
                            share += abs(1 - a % 2 - x + column) * abs(1 - a // 2 - y + row)
                    if share > TOUCHED:
                        data[i, r, c] = NAN
                        counts[i, 0] -= 1
