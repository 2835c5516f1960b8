"""Control positions: where an image is looked at to learn what it shows without a target."""

from __future__ import annotations

import numpy as np

from halopy.preprocess.threads import bands, in_threads

__all__ = ["control_pixels"]

MIN_COVERAGE = 0.5


def control_pixels(valid, x, y, *, n, few, fwhm, exclusion, rng):
    """Draw positions uniformly over the pixels around which there is enough data, away from targets.

    A control needs data in its own pixel and over half of a square of twelve beams. Where many targets leave less
    sky than ``few`` controls need, controls come closer to them, down to a quarter of ``exclusion``.

    Parameters
    ----------
    valid : `~numpy.ndarray`
        ``(ny, nx)`` bool.
    x, y : `~numpy.ndarray`
        Pixels of the targets; they may lie outside or be NaN.
    n : int
        How many; fewer where they would lie within two beams of each other on average.
    few : int
        A number to come closer to targets for.
    fwhm : float
        Of the beam, in pixels.
    exclusion : float
        In beams.
    rng : `~numpy.random.Generator`

    Returns
    -------
    x, y : `~numpy.ndarray`
        Of any place within the pixels that were drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.preprocess.controls import control_pixels
    >>> valid = np.ones((60, 60), dtype=bool)
    >>> x, y = control_pixels(valid, [30], [30], n=5, few=5, fwhm=3, exclusion=8, rng=np.random.default_rng(1))
    >>> print((np.hypot(x - 30, y - 30) > 23).all())
    True
    """
    free = valid & _surrounded(valid, max(1, int(round(12 * fwhm))))
    for share in (1.0, 0.5, 0.25):
        allowed, reach = free.copy(), share * exclusion * fwhm
        for a, b in zip(x, y, strict=True):
            if not (np.isfinite(a) and np.isfinite(b)):
                continue
            ys, xs = (slice(max(0, int(c - reach)), max(0, int(c + reach) + 2)) for c in (b, a))
            rows, columns = np.ogrid[:valid.shape[0], :valid.shape[1]]
            allowed[ys, xs] &= np.hypot(rows[ys] - b, columns[:, xs] - a) > reach
        in_row = np.cumsum(np.count_nonzero(allowed, axis=1))
        drawn = min(n, int(in_row[-1] / (2 * fwhm)**2))
        if drawn >= min(n, few):
            break
    if drawn == 0:
        return np.zeros(0), np.zeros(0)
    place = rng.choice(in_row[-1], drawn, replace=False)
    row = np.searchsorted(in_row, place, side="right")
    column = [np.flatnonzero(allowed[j])[k] for j, k in
              zip(row, place - np.concatenate([[0], in_row])[row], strict=True)]
    jitter = rng.uniform(-0.5, 0.5, (2, drawn))
    return column + jitter[0], row + jitter[1]


def _surrounded(valid, window):
    """Which pixels have data in half of the square of ``window`` pixels about them; nothing lies outside the image."""
    from scipy.ndimage import uniform_filter1d

    if valid.all():  # then all that matters is how near the border is
        small = tuple(min(n, 2 * window + 1) for n in valid.shape)
        if small != valid.shape:
            near = [np.arange(n) if n == m else np.minimum(np.arange(n), window)
                    + np.maximum(np.arange(n) - (n - 1 - window), 0) for n, m in zip(valid.shape, small, strict=True)]
            return _surrounded(np.ones(small, dtype=bool), window)[np.ix_(*near)]
    share = valid.astype(np.float32)

    def work(part):
        uniform_filter1d(share[part], window, axis=axis, mode="constant", output=share[part])

    for axis in (0, 1):
        in_threads(work, [(slice(None), band) if axis == 0 else band for band in bands(valid.shape[1 - axis])])
    return share >= MIN_COVERAGE
