"""The compiled part of noise maps: statistics of boxes, and the surface through them.

Imported inside functions, so that ``import halopy`` stays light. Rows of boxes are shared out among threads
(`halopy.preprocess.threads.in_threads`); no result depends on their number.
"""

from __future__ import annotations

import numba
import numpy as np

from halopy.preprocess.threads import bands, in_threads

__all__ = ["box_statistics", "cell_moments", "count_zeros", "surfaces", "two_values"]

MAD_TO_SIGMA = 1.482602218505602
MAX_ITERATIONS = 10
BLOCK = 1024


def box_statistics(data, box, *, sigma=3.0, min_fraction=0.2):
    """Median and scaled median absolute deviation of the sigma-clipped pixels of boxes that tile an image.

    What stays lies within ``sigma`` standard deviations of the median of what stays, as in
    `astropy.stats.SigmaClip`. The pixels of a box are sorted once, and all else is read off.

    Parameters
    ----------
    data : `~numpy.ndarray`
        ``(ny, nx)`` float32, NaN where there is none.
    box : tuple of int
        ``(height, width)`` of a box. Those at the upper and right border may hang over.
    sigma : float, optional
    min_fraction : float, optional
        Boxes of which less than this fraction is left are NaN.

    Returns
    -------
    median, rms : `~numpy.ndarray`
        One number a box, float64.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.preprocess.boxes import box_statistics
    >>> median, rms = box_statistics(np.arange(16, dtype=np.float32).reshape(4, 4), (4, 2))
    >>> print(median, rms.round(2))
    [[6.5 8.5]] [[5.93 5.93]]
    """
    height, width = box
    shape = tuple(-(-n // b) for n, b in zip(data.shape, box, strict=True))
    median, rms = np.empty((2, *shape))
    fewest = min_fraction * height * width - 1e-6
    whole, rest = divmod(data.shape[1], width)

    def work(band):
        pixels = np.empty((shape[1], height, width), dtype=np.float32)
        for row in range(band.start, band.stop):
            part = data[row * height:(row + 1) * height]
            pixels[:whole, :len(part)] = part[:, :whole * width].reshape(len(part), whole, width).transpose(1, 0, 2)
            pixels[whole:, :len(part), :rest] = part[:, whole * width:]
            pixels[whole:, :, rest:] = pixels[:, len(part):] = np.nan
            boxes = pixels.reshape(shape[1], -1)
            boxes.sort(axis=1)  # NaN last
            _clipped(boxes, sigma, fewest, median[row], rms[row])

    in_threads(work, bands(shape[0]))
    return median, rms


def cell_moments(data, cell, centre, half_width):
    """Number, sum and sum of squares of the pixels of each cell that lie near a level, about that level.

    Parameters
    ----------
    data : `~numpy.ndarray`
        ``(ny, nx)`` float32.
    cell : int
        Pixels of the side of a cell.
    centre, half_width : `~numpy.ndarray`
        Of the interval that counts, one a cell, float32.

    Returns
    -------
    `~numpy.ndarray`
        ``(3, cells along y, cells along x)`` float32.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.preprocess.boxes import cell_moments
    >>> pixels = np.array([[1, 2], [3, 50]], dtype=np.float32)
    >>> print(cell_moments(pixels, 2, np.full((1, 1), 2, np.float32), np.full((1, 1), 5, np.float32)).ravel())
    [3. 0. 2.]
    """
    moments = np.empty((3, *centre.shape), dtype=np.float32)
    in_threads(lambda band: _moments(data, band.start, band.stop, cell, centre, half_width, moments),
               bands(len(centre)))
    return moments


def count_zeros(data):
    """Return the number of exact zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.preprocess.boxes import count_zeros
    >>> count_zeros(np.array([[0, np.nan], [-2, 5]], dtype=np.float32))
    1
    """
    found = []
    in_threads(lambda band: found.append(np.count_nonzero(data[band] == 0)), bands(len(data)))
    return int(sum(found))


def two_values(data):
    """Return two values that are there, the lower first; the same where all pixels are the same, NaN without data.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.preprocess.boxes import two_values
    >>> two_values(np.array([[np.nan, np.nan], [-2, 5], [9, 9]], dtype=np.float32))
    (-2.0, 5.0)
    """
    least = greatest = np.nan
    for row in data:
        if np.isnan(row).all():
            continue
        least, greatest = np.fmin(least, np.nanmin(row)), np.fmax(greatest, np.nanmax(row))
        if least < greatest:
            break
    return float(least), float(greatest)


def surfaces(meshes, data, cell, bounds):
    """The cubic splines through meshes of values, at every pixel of an image.

    Parameters
    ----------
    meshes : sequence of `~numpy.ndarray`
        One value for the centre of each cell, finite.
    data : `~numpy.ndarray`
        ``(ny, nx)``: where it is NaN the surfaces are NaN.
    cell : tuple of int
        ``(height, width)`` of a cell in pixels.
    bounds : sequence of tuple of float
        Of each mesh; what goes beyond is set to them: between a noisy and a quiet cell a spline overshoots.

    Returns
    -------
    list of `~numpy.ndarray`
        ``(ny, nx)`` float32 each.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.preprocess.boxes import surfaces
    >>> print(surfaces([np.array([[1.0, 2.0]])], np.zeros((1, 4), np.float32), (1, 2), [(-9, 9)])[0].round(2))
    [[0.86 1.23 1.77 2.14]]
    """
    from scipy.ndimage import spline_filter

    # Mirrored about the border of the image, which lies half a cell outside the outermost centres.
    coefficients = np.stack([np.pad(spline_filter(np.asarray(mesh, dtype=float), mode="reflect"), 2, mode="symmetric")
                             for mesh in meshes]).astype(np.float32, order="C")
    results = [np.empty(data.shape, dtype=np.float32) for _ in meshes]
    rows, columns = (_taps(n) for n in cell)
    given = coefficients, rows, columns.T, data, np.array(bounds, dtype=np.float32), tuple(results)
    in_threads(lambda band: _evaluate(band.start, band.stop, *given), bands(-(-data.shape[0] // cell[0])))
    return results


def _taps(n):
    """Weights ``(n, 4)`` of the cubic B-spline at each pixel of a cell; its first half begins a node further back."""
    place = (np.arange(n) + 0.5) / n - 0.5
    t = (place - np.floor(place))[:, None]
    return np.hstack([(1 - t)**3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t)**3 - 6 * (1 - t)**2 + 4, t**3]
                     ).astype(np.float32) / 6


@numba.njit(nogil=True, error_model="numpy")
def _clipped(pixels, sigma, fewest, median, rms):
    for i in range(len(pixels)):
        x = pixels[i]
        low, high = 0, len(x)
        while low < high:  # the first NaN
            middle = (low + high) // 2
            if np.isnan(x[middle]):
                high = middle
            else:
                low = middle + 1
        low, high = 0, low
        median[i] = rms[i] = np.nan
        if high == 0:
            continue
        pivot = np.float64(x[high // 2])
        total, squares = _sums(x[:high], pivot)
        most = squares
        level = _middle(x, low, high)
        for _ in range(MAX_ITERATIONS):
            n = high - low
            mean = total / n
            reach = sigma * np.sqrt(max(squares / n - mean * mean, 0.0))
            before = n
            while x[low] < level - reach:
                total -= x[low] - pivot
                squares -= (x[low] - pivot)**2
                low += 1
            while x[high - 1] > level + reach:
                total -= x[high - 1] - pivot
                squares -= (x[high - 1] - pivot)**2
                high -= 1
            if high - low == before:
                break
            level = _middle(x, low, high)
            if squares < 1e-6 * most:  # what the sums have lost with the brightest pixels
                total, squares = _sums(x[low:high], pivot)
                most = squares
        n = high - low
        if n > fewest:
            median[i] = level
            rms[i] = MAD_TO_SIGMA / 2 * (_distance(x, low, high, level, (n - 1) // 2)
                                              + _distance(x, low, high, level, n // 2))


@numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _sums(x, pivot):
    total, squares = 0.0, 0.0
    for i in range(len(x)):
        d = x[i] - pivot
        total += d
        squares += d * d
    return total, squares


@numba.njit(nogil=True, error_model="numpy")
def _middle(x, low, high):
    n = high - low
    return (np.float64(x[low + (n - 1) // 2]) + np.float64(x[low + n // 2])) / 2


@numba.njit(nogil=True, error_model="numpy")
def _distance(x, low, high, level, k):
    """The distance from a level to the (k + 1)-th nearest of sorted numbers: they and all nearer are neighbours."""
    high -= k + 1
    while low < high:
        middle = (low + high) // 2
        if level - x[middle] > x[middle + k + 1] - level:
            low = middle + 1
        else:
            high = middle
    return max(level - x[low], x[low + k] - level)


@numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _moments(data, first, last, cell, centre, half_width, moments):
    together = BLOCK // cell + 1  # cells whose sums stay in the nearest cache
    level, reach, n, total, squares = np.empty((5, together * cell), dtype=np.float32)
    for row in range(first, last):
        for start in range(0, centre.shape[1], together):
            cells = min(together, centre.shape[1] - start)
            for i in range(cells):
                level[i * cell:(i + 1) * cell] = centre[row, start + i]
                reach[i * cell:(i + 1) * cell] = half_width[row, start + i]
            n[:], total[:], squares[:] = 0, 0, 0
            for y in range(row * cell, min((row + 1) * cell, data.shape[0])):
                line = data[y, start * cell:(start + cells) * cell]
                for x in range(len(line)):
                    d = line[x] - level[x]
                    near = (d < reach[x]) & (d > -reach[x])  # never for NaN
                    d = d if near else np.float32(0)
                    n[x] += np.float32(1) if near else np.float32(0)
                    total[x] += d
                    squares[x] += d * d
            for i in range(cells):
                part = slice(i * cell, (i + 1) * cell)
                moments[0, row, start + i] = n[part].sum()
                moments[1, row, start + i] = total[part].sum()
                moments[2, row, start + i] = squares[part].sum()


@numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _evaluate(first, last, coefficients, rows, columns, data, bounds, results):
    n, height = len(results), len(rows)
    lines = np.empty((n, 4, coefficients.shape[2] * columns.shape[1]), dtype=np.float32)
    made = first  # rows of coefficients that have been evaluated along x; the last four are kept
    for y in range(first * height, min(last * height, len(data))):
        i = y % height
        top = y // height + (2 * i + 1 >= height)
        made = max(made, top)
        while made < top + 4:
            for k in range(n):
                _along_x(coefficients[k, made], columns, lines[k, made % 4])
            made += 1
        pixels = data[y]
        for k in range(n):
            one, two, three, four = (lines[k, top % 4], lines[k, (top + 1) % 4], lines[k, (top + 2) % 4],
                                     lines[k, (top + 3) % 4])
            a, b, c, d = rows[i]
            low, high = bounds[k]
            line = results[k][y]
            for x in range(len(line)):
                value = a * one[x] + b * two[x] + c * three[x] + d * four[x]
                value = low if value < low else value
                value = high if value > high else value
                line[x] = value if pixels[x] == pixels[x] else np.float32(np.nan)


@numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _along_x(nodes, weights, line):
    width = weights.shape[1]
    half = width // 2  # pixels left of the centre of a cell; the others lie between the next nodes
    for cell in range(len(nodes) - 4):
        part = line[cell * width:(cell + 1) * width]
        for x in range(half):
            part[x] = (weights[0, x] * nodes[cell] + weights[1, x] * nodes[cell + 1]
                       + weights[2, x] * nodes[cell + 2] + weights[3, x] * nodes[cell + 3])
        for x in range(half, width):
            part[x] = (weights[0, x] * nodes[cell + 1] + weights[1, x] * nodes[cell + 2]
                       + weights[2, x] * nodes[cell + 3] + weights[3, x] * nodes[cell + 4])
