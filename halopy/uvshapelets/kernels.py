"""The compiled loops of the shapelets: predicted visibilities, and moments of visibilities, weights and pixels.

Both walk through the points in blocks that stay in the processor's nearest cache, with Hermite functions by
their three-term recurrence, ordered even before odd. What they compile is compiled at the first call and written to no
disk; they release the interpreter's lock, so that threads may share out chunks. Callers check what they hand over.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["moments", "parity_moments", "predict", "weight_moments"]

PREDICT_BLOCK = 64
MOMENT_BLOCK = 2048
FAR = 1400.0
"""Where x² + y² is larger, φ_i(x) φ_j(y) is less than 1e-100 for i + j up to 300; exp(−700) does not underflow yet."""


def predict(coefficients, x, y):
    """Sum shapelets of even i + j into the real part and of odd i + j into the imaginary part, at every point.

    Parameters
    ----------
    coefficients : `~numpy.ndarray`
        ``(n + 1, n + 1)`` float: of φ_i(x) φ_j(y). Those of i + j > n are not looked at.
    x, y : array_like
        ``(n_points,)``: for example 2πβu and 2πβv.

    Returns
    -------
    `~numpy.ndarray`
        ``(n_points,)`` complex128.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.uvshapelets.kernels import predict
    >>> print(predict(np.array([[1.0, 2.0], [0.0, 0.0]]), [0.0], [1.0]).round(4))
    [0.3422+0.9679j]
    """
    x, y = _vector(x), _vector(y)
    n = len(coefficients) - 1
    order = _even_first(n)
    result = np.empty((x.size, 2))
    _predict(np.ascontiguousarray(coefficients[np.ix_(order, order)], dtype=float), x, y, result)
    return result.view(complex)[:, 0]


def moments(n, x, y, values):
    """Sum φ_i(x_k) φ_j(y_k) values_k over k.

    Parameters
    ----------
    n : int
        Largest order.
    x, y : array_like
        ``(n_points,)``: for example 2πβu and 2πβv.
    values : array_like
        ``(n_points,)``, real, or one number for all.

    Returns
    -------
    `~numpy.ndarray`
        ``(n + 1, n + 1)`` float64.

    Examples
    --------
    >>> from halopy.uvshapelets.kernels import moments
    >>> print(moments(1, [0.0], [1.0], [2.0]).round(4))
    [[0.6844 0.9679]
     [0.     0.    ]]
    """
    return parity_moments(n, x, y, values, values)


def weight_moments(n, x, y, weight):
    """Sum φ_i(x_k) φ_j(y_k) weight_k over k for even i + j; the others are returned as 0.

    The normal matrix of shapelets needs no others: the visibilities of functions of even order are real, those of odd
    order imaginary. Half the work of `moments`, with the same parameters.
    """
    return parity_moments(n, x, y, weight, None)


def parity_moments(n, x, y, even, odd):
    """Sum φ_i(x_k) φ_j(y_k) even_k over k where i + j is even, and odd_k in its place where i + j is odd.

    The adjoint of `predict`: ``even`` and ``odd`` are the real and imaginary parts of visibilities.

    Parameters
    ----------
    n, x, y
        As for `moments`.
    even, odd : array_like or None
        ``(n_points,)``, real, or one number for all. None stands for zeros, and costs nothing.

    Returns
    -------
    `~numpy.ndarray`
        ``(n + 1, n + 1)`` float64.
    """
    x, y = _vector(x), _vector(y)
    even, odd = (None if values is None else np.broadcast_to(values, x.shape) for values in (even, odd))
    split = n // 2 + 1
    sums = np.zeros((n + 1, n + 1))
    p, q = np.empty((2, n + 1, min(MOMENT_BLOCK, x.size)))
    for start in range(0, x.size, MOMENT_BLOCK):
        part = slice(start, start + MOMENT_BLOCK)
        size = x[part].size
        # The recurrence carries a factor of the first row on to all others.
        alone = even is not None and odd is None
        p[0, :size] = np.exp(-0.5 * x[part] ** 2) * (even[part] / np.sqrt(np.pi) if alone else 1 / np.sqrt(np.pi))
        q[0, :size] = np.exp(-0.5 * y[part] ** 2)
        _fill(p, x[part], size)
        _fill(q, y[part], size)
        if even is not None:
            weighted = p[:, :size] if alone else p[:, :size] * even[part]
            sums[:split, :split] += weighted[:split] @ q[:split, :size].T
            sums[split:, split:] += weighted[split:] @ q[split:, :size].T
        if odd is not None:
            weighted = p[:, :size] * odd[part]
            sums[:split, split:] += weighted[:split] @ q[split:, :size].T
            sums[split:, :split] += weighted[split:] @ q[:split, :size].T
    order = _even_first(n)
    result = np.empty_like(sums)
    result[np.ix_(order, order)] = sums
    return result


def _vector(values):
    # A copy of what is read-only: numba would compile once more for it.
    values = np.ascontiguousarray(values, dtype=float)
    return values if values.flags.writeable else values.copy()


def _even_first(n):
    return np.r_[0:n + 1:2, 1:n + 1:2]


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _fill(table, x, size):
    """Carry φ_0(x) in the first row on to all orders, the even ones in the first rows, the odd ones after them."""
    n = len(table) - 1
    odd = n // 2 + 1
    if n > 0:
        low, high = table[0], table[odd]
        root = np.sqrt(2.0)
        for i in range(size):
            high[i] = root * x[i] * low[i]
    for m in range(1, n):
        a, b = np.sqrt(2.0 / (m + 1)), np.sqrt(m / (m + 1.0))
        lower = table[(m - 1) // 2 + odd * ((m - 1) % 2)]
        middle = table[m // 2 + odd * (m % 2)]
        upper = table[(m + 1) // 2 + odd * ((m + 1) % 2)]
        for i in range(size):
            upper[i] = a * x[i] * middle[i] - b * lower[i]


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _predict(coefficients, x, y, result):
    n = len(coefficients) - 1
    odd = n // 2 + 1
    p, q = np.zeros((n + 1, PREDICT_BLOCK)), np.zeros((n + 1, PREDICT_BLOCK))
    # The last block may be filled in part: what is left of the one before it is worked on in vain.
    xs, ys, part = np.zeros(PREDICT_BLOCK), np.zeros(PREDICT_BLOCK), np.zeros(PREDICT_BLOCK)
    total = np.empty((2, PREDICT_BLOCK))
    q[0] = 1.0
    for start in range(0, len(x), PREDICT_BLOCK):
        size = min(PREDICT_BLOCK, len(x) - start)
        for i in range(size):
            radius2 = x[start + i] ** 2 + y[start + i] ** 2
            near = radius2 < FAR
            xs[i] = x[start + i] if near else 0.0
            ys[i] = y[start + i] if near else 0.0
            # The Gaussian of both axes at once, on one of them.
            p[0, i] = np.exp(-0.5 * radius2) / np.sqrt(np.pi) if near else 0.0
        _fill(p, xs, PREDICT_BLOCK)
        _fill(q, ys, PREDICT_BLOCK)
        total[:] = 0.0
        for a in range(n + 1):
            order = 2 * a if a < odd else 2 * (a - odd) + 1
            for parity in range(2):
                # Rows of the parity that makes order + j even (or odd), up to j = n - order.
                j_odd = (order + parity) % 2
                first = odd * j_odd
                last = first + (n - order - j_odd) // 2 + 1
                if last <= first:
                    continue
                part[:] = 0.0
                b = first
                while b + 4 <= last:
                    c0, c1, c2, c3 = (coefficients[a, b], coefficients[a, b + 1], coefficients[a, b + 2],
                                      coefficients[a, b + 3])
                    q0, q1, q2, q3 = q[b], q[b + 1], q[b + 2], q[b + 3]
                    for i in range(PREDICT_BLOCK):
                        part[i] += c0 * q0[i] + c1 * q1[i] + c2 * q2[i] + c3 * q3[i]
                    b += 4
                while b < last:
                    c0, q0 = coefficients[a, b], q[b]
                    for i in range(PREDICT_BLOCK):
                        part[i] += c0 * q0[i]
                    b += 1
                row, sums = p[a], total[parity]
                for i in range(PREDICT_BLOCK):
                    sums[i] += row[i] * part[i]
        for i in range(size):
            result[start + i, 0] = total[0, i]
            result[start + i, 1] = total[1, i]
