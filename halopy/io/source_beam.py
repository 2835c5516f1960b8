"""The synthesised beam of an image without one in its header, from its own compact sources."""

from __future__ import annotations

import numpy as np

from halopy.image import FWHM_TO_SIGMA

__all__ = ["measure_beam"]

MAX_SOURCES = 80
MIN_SOURCES = 3
# A Gaussian's core: far from its foot, where neighbours, noise and the clip are.
CORE = 0.35
# Sources wider than the narrow ones by this in area are taken for extended.
EXTENDED = 1.2


def measure_beam(data, width, *, floor):
    """Measure the beam as the Gaussian of the brightest isolated compact sources.

    The logarithm of a Gaussian is a quadratic form: it is fitted to the core of each source by weighted least
    squares (Caruana et al. 1986, doi:10.1021/ac00297a041, with the weights of Guo 2011, doi:10.1109/MSP.2011.941846).
    A clip that sets faint pixels to zero does not touch the cores.

    Parameters
    ----------
    data : `~numpy.ndarray`
        ``(ny, nx)`` pixels.
    width : float
        Expected full width at half maximum in pixels; sources are searched and judged on this scale.
    floor : float
        Sources fainter than this are not used: some 20 times the noise.

    Returns
    -------
    tuple or None
        Major and minor full widths at half maximum in pixels, position angle in degrees from +y towards −x,
        and the number of sources; None where fewer than three sources can be used.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.io.source_beam import measure_beam
    >>> y, x = np.mgrid[:100, :100]
    >>> sky = sum(np.exp(-((x - a) ** 2 + 2 * (y - b) ** 2) / 18) for a, b in [(20, 20), (50, 70), (75, 30)])
    >>> [round(float(n), 2) for n in measure_beam(sky, 6.0, floor=0.1)]
    [7.06, 5.0, 90.0, 3.0]
    """
    forms = np.array([form for x, y in _peaks(data, width, floor) if (form := _fit(data, x, y, width)) is not None])
    if len(forms) < MIN_SOURCES:
        return None
    area = np.sqrt(np.linalg.det(forms))
    narrow = area < EXTENDED * np.sort(area)[len(area) // 5]
    if narrow.sum() < MIN_SOURCES:
        return None
    values, vectors = np.linalg.eigh(np.median(forms[narrow], axis=0))
    minor, major = np.sqrt(values) / FWHM_TO_SIGMA
    x, y = vectors[:, 1]
    return major, minor, np.degrees(np.arctan2(-x, y)) % 180, int(narrow.sum())


def _peaks(data, width, floor):
    """Yield the pixels (x, y) of isolated maxima, the brightest first."""
    reach = int(np.ceil(2 * width))
    inner = data[reach:-reach, reach:-reach]
    if inner.size == 0:
        return
    y, x = np.nonzero(inner > floor)
    order = np.argsort(inner[y, x])[::-1]
    dy, dx = np.mgrid[-reach:reach + 1, -reach:reach + 1]
    distance = np.hypot(dx, dy)
    around, near = distance > 1.25 * width, distance <= 1.25 * width
    taken = np.zeros(data.shape, dtype=bool)
    n = 0
    for i in order:
        row, column = y[i] + reach, x[i] + reach
        if taken[row, column]:
            continue
        window = (slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1))
        taken[window] |= near
        stamp, peak = data[window], data[row, column]
        if not np.isfinite(stamp).all() or np.max(stamp[near]) > peak:
            continue
        if np.abs(stamp[around]).max() > max(0.25 * peak, floor / 3):
            continue
        yield column, row
        n += 1
        if n == MAX_SOURCES:
            return


def _fit(data, column, row, width):
    """Return the ``(2, 2)`` covariance of the Gaussian at a maximum, None where it is none."""
    reach = int(np.ceil(width))
    stamp = data[row - reach:row + reach + 1, column - reach:column + reach + 1].astype(float)
    y, x = np.mgrid[-reach:reach + 1, -reach:reach + 1]
    core = (stamp > CORE * data[row, column]) & (np.hypot(x, y) <= width)
    if core.sum() < 7:
        return None
    s, x, y = stamp[core], x[core], y[core]
    terms = np.stack([np.ones_like(s), x, y, x * x, 2 * x * y, y * y], axis=1)
    # Noise of equal size on every pixel is noise of 1/S on the logarithm.
    a = np.linalg.lstsq(terms * s[:, None], np.log(s) * s, rcond=None)[0]
    form = -2 * np.array([[a[3], a[4]], [a[4], a[5]]])
    if not np.isfinite(form).all() or np.linalg.eigvalsh(form)[0] <= 0:
        return None
    shift = np.linalg.solve(form, a[1:3])
    return np.linalg.inv(form) if np.hypot(*shift) < 1.5 else None
