"""The matched filter at every pixel of an image, for a search without targets.

scipy is imported inside the functions that need it: ``import halopy`` must stay light.
"""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.classify.bank import (
    EXCESS_RADIUS,
    INNER,
    LEAST,
    MIN_SUPPORT,
    OUTER,
    WIDEST,
    correlated_variance,
    robust_scatter,
    template,
)
from halopy.errors import HaloInputError
from halopy.preprocess.subtract import subtract_compact

__all__ = ["maxima", "significance"]


def significance(image, matched_filter):
    """Return the best signal-to-noise ratio over the bank of a matched filter at every pixel.

    Parameters
    ----------
    image : ClusterImage
        With a beam and an rms map.
    matched_filter : `~halopy.classify.matched_filter.MatchedFilter`
        Its ``radii``, ``threshold``, ``leftover`` and ``soft`` are used.

    Returns
    -------
    ClusterImage
        Dimensionless; NaN where half a template or more has no data.
    """
    from scipy.signal import oaconvolve

    if image.beam is None or image.rms is None:
        raise HaloInputError("a significance map needs an image with a beam and an rms map",
                             path=image.meta.get("path"), hint="NoiseEstimator()(image)")
    residual = subtract_compact(image, threshold=matched_filter.threshold).data.astype(float)
    valid = image.valid & (image.rms > 0)
    if not valid.any():
        raise HaloInputError("no usable pixels", path=image.meta.get("path"))
    with np.errstate(invalid="ignore"):
        error = image.rms * np.sqrt(1 + (matched_filter.leftover * (image.data - residual) / image.rms) ** 2)
    error = np.where(valid, error, 1.0)
    rms = np.where(valid, image.rms, 1.0)
    level = np.median(residual[valid])
    soft = matched_filter.soft
    pixels = np.where(valid, soft * np.arcsinh((residual - level) / error / soft) * rms / error, 0.0)
    weight = np.where(valid, (rms / error) ** 2, 0.0)

    beam = image.pixel_beam
    fwhm = float((np.sqrt(beam.major * beam.minor) / image.pixel_scale).to_value(u.one))
    best, excess = np.full(image.shape, -np.inf), 1.0
    for radius in sorted(matched_filter.radii):
        half = int(np.ceil(min(OUTER * max(INNER * radius, LEAST), WIDEST) * fwhm)) + 1
        halo, support = template(beam, image.pixel_scale, radius, (2 * half + 1,) * 2)
        zero_sum = np.where(support, halo - halo[support].mean(), 0.0)
        noise = np.sqrt(correlated_variance(zero_sum, beam, image.pixel_scale))
        # The sums of `Bank.search`, at every pixel; templates are even, so no flip is needed.
        area = oaconvolve(weight, support.astype(float), mode="same")
        in_halo = oaconvolve(weight, halo, mode="same")
        mean = in_halo / np.maximum(area, 1e-6)
        signal = oaconvolve(pixels, halo, mode="same") - mean * oaconvolve(pixels, support.astype(float), mode="same")
        power = oaconvolve(weight, halo**2, mode="same") - mean * in_halo
        whole = (zero_sum**2).sum()
        usable = valid & (area >= MIN_SUPPORT * support.sum()) & (power > 0.05 * whole)
        score = np.where(usable, signal / (noise * np.sqrt(np.where(usable, power, whole) / whole)), np.nan)
        if radius <= EXCESS_RADIUS or best.max() == -np.inf:
            excess = max(1.0, float(robust_scatter(score.reshape(1, -1))[0]))
        best = np.fmax(best, score / excess)
    return image.replace(data=np.where(np.isfinite(best), best, np.nan), unit=u.dimensionless_unscaled, rms=None,
                         background=None)


def maxima(image, *, threshold, separation, most):
    """Return (x, y, value) of the highest pixels, no two within ``separation`` pixels."""
    from scipy.ndimage import maximum_filter

    data = np.where(image.valid, image.data, -np.inf)
    window = 2 * max(1, int(separation / 2)) + 1
    y, x = np.nonzero((data == maximum_filter(data, window)) & (data >= threshold))
    order = np.argsort(-data[y, x], kind="stable")
    kept = []
    for index in order:
        if all(np.hypot(x[index] - x[k], y[index] - y[k]) >= separation for k in kept):
            kept.append(index)
        if len(kept) == most:
            break
    kept = np.array(kept, dtype=int)
    return x[kept], y[kept], data[y[kept], x[kept]]
