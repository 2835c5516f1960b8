"""What an image of the common input looks like, in numbers that do not change when it is turned or mirrored.

Everything takes images ``(n, size, size)`` of `halopy.generative.quality.common_input.common_images`: asinh(S/N / 2) on
pixels a third of a beam wide. Brightness is 2 asinh(S/N / 2): S/N where it is faint, and its logarithm where it is
bright. Lengths are in beams (full width at half maximum).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from halopy.generative.quality.common_input import PIXELS_PER_BEAM
from halopy.learning.inputs import signal_to_noise

__all__ = ["EDGES", "THRESHOLDS", "beam_averages", "brightness", "half_light_radius", "image_features", "light",
           "log_power", "minkowski", "pixel_histograms", "power_spectra", "radial_profiles", "ring_radii",
           "spectrum_frequencies"]

THRESHOLDS = (1.0, 2.0, 4.0, 8.0)
"""Of the Minkowski functionals, in S/N."""
CENTRE = 2.0
"""Radius of the central emission's flux, in beams."""
LIGHT = 3.0
"""Radius within which the light of the centre is described, in beams."""
RINGS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0)
"""Edges of the rings of the features' profile, in beams."""
N_FREQUENCIES = 12
UNSEEN = 0.05
"""White noise of this S/N is added to every power: differences below it cannot be seen in any image."""
EDGES = np.linspace(-8, 24, 1601)
"""Of the bins of brightness; what lies outside counts in the outermost ones, S/N of 10⁵ lies inside."""
BEAM_AREA = np.pi / (4 * np.log(2)) * PIXELS_PER_BEAM**2
CHUNK = 128


def brightness(images):
    """Return 2 asinh(S/N / 2), float64: S/N where it is faint."""
    return 2 * np.asarray(images, dtype=float)


@lru_cache(maxsize=8)
def _distance(size):
    """Distance of each pixel from the centre, in beams."""
    offset = np.arange(size) - (size - 1) / 2
    result = np.sqrt(offset[:, None] ** 2 + offset[None] ** 2) / PIXELS_PER_BEAM
    result.flags.writeable = False
    return result


def _ring_means(images, place, n):
    """Return the means of the pixels with each number below n, ``(n_images, n)``; pixels of other numbers are left."""
    inside = (place >= 0) & (place < n)
    counts = np.bincount(place[inside], minlength=n)
    flat = images[:, inside]
    index = (np.arange(len(flat))[:, None] * n + place[inside]).ravel()
    return np.bincount(index, flat.ravel(), minlength=len(flat) * n).reshape(len(flat), n) / np.maximum(counts, 1)


def pixel_histograms(images):
    """Return the share of the pixels in each bin of brightness, ``(n, n_bins)`` float32, see `EDGES`."""
    n_bins = len(EDGES) - 1
    result = np.empty((len(images), n_bins), dtype=np.float32)
    step = EDGES[1] - EDGES[0]
    for i, image in enumerate(images):
        place = np.clip((brightness(image).ravel() - EDGES[0]) / step, 0, n_bins - 1).astype(int)
        result[i] = np.bincount(place, minlength=n_bins) / image.size
    return result


def spectrum_frequencies():
    """Return the frequencies of `power_spectra`, in cycles a beam: the middles of rings up to the corners."""
    edges = np.linspace(0, np.sqrt(0.5), N_FREQUENCIES + 1)
    return (edges[1:] + edges[:-1]) / 2 * PIXELS_PER_BEAM


def power_spectra(images):
    """Return the radially averaged power spectrum of each image's brightness.

    Parameters
    ----------
    images : `~numpy.ndarray`
        ``(n, size, size)``.

    Returns
    -------
    `~numpy.ndarray`
        ``(n, 12)``: the mean power in rings of frequency, see `spectrum_frequencies`. Images are tapered with a Hann
        window, since they are not periodic, and the power of white noise is its variance; of that of the lowest ring
        a tenth or more goes with the mean, which is taken off.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.generative.quality.image_features import power_spectra
    >>> white = np.random.default_rng(1).normal(size=(400, 64, 64)) / 2  # brightness of scatter 1
    >>> bool(np.allclose(power_spectra(white).mean(axis=0)[1:], 1, atol=0.03))
    True
    """
    size = images.shape[-1]
    window = np.hanning(size + 2)[1:-1]
    window = window[:, None] * window
    frequency = np.fft.fftfreq(size)
    radius = np.sqrt(frequency[:, None] ** 2 + frequency**2)
    place = np.minimum((radius / np.sqrt(0.5) * N_FREQUENCIES).astype(int), N_FREQUENCIES - 1)
    place[0, 0] = -1  # the mean is none of the structure
    result = np.empty((len(images), N_FREQUENCIES))
    for start in range(0, len(images), CHUNK):
        part = brightness(images[start:start + CHUNK])
        mean = (part * window).sum(axis=(1, 2)) / window.sum()
        power = np.abs(np.fft.fft2((part - mean[:, None, None]) * window)) ** 2 / (window**2).sum()
        result[start:start + CHUNK] = _ring_means(power, place, N_FREQUENCIES)
    return result


def log_power(spectra):
    """Return the logarithm of power, to which that of noise that nobody sees is added."""
    return np.log(spectra + UNSEEN**2)


def ring_radii(size):
    """Return the radii of `radial_profiles`, in beams: the middles of rings half a beam wide, up to the edge."""
    n = int(size / 2 / PIXELS_PER_BEAM / 0.5)
    return (np.arange(n) + 0.5) * 0.5


def radial_profiles(images):
    """Return the mean brightness of each image in rings half a beam wide, ``(n, n_rings)``, see `ring_radii`."""
    place = (_distance(images.shape[-1]) / 0.5).astype(int)
    return _ring_means(brightness(images), place, len(ring_radii(images.shape[-1])))


def minkowski(images, thresholds=THRESHOLDS):
    """Return the Minkowski functionals of what is brighter than some S/N.

    Parameters
    ----------
    images : `~numpy.ndarray`
        ``(n, size, size)``.
    thresholds : sequence of float, optional
        S/N, default (1, 2, 4, 8).

    Returns
    -------
    area, perimeter, euler : `~numpy.ndarray`
        ``(n, n_thresholds)`` each, in square beams, in beams, and pieces less holes. Pixels touch by their sides; the
        perimeter is π/4 of the length of their sides, which is right on average over directions, and the edge of the
        image is no border.

    References
    ----------
    Mecke, Buchert & Wagner 1994, A&A 288, 697, arXiv astro-ph/9312028.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.generative.quality.image_features import minkowski
    >>> ring = np.zeros((1, 64, 64))
    >>> ring[0, 20:44, 20:44], ring[0, 28:36, 28:36] = 3, 0
    >>> [int(number) for number in minkowski(ring)[2][0]]  # one piece with one hole, at each threshold
    [0, 0, 0, 0]
    """
    limits = np.arcsinh(np.asarray(thresholds) / 2)
    area, perimeter, euler = np.empty((3, len(images), len(limits)))
    for k, limit in enumerate(limits):
        above = np.asarray(images) > limit
        down, across = above[:, 1:] & above[:, :-1], above[:, :, 1:] & above[:, :, :-1]
        count, pairs = _count(above), _count(down) + _count(across)
        changes = _count(above[:, 1:] ^ above[:, :-1]) + _count(above[:, :, 1:] ^ above[:, :, :-1])
        area[:, k] = count / PIXELS_PER_BEAM**2
        perimeter[:, k] = np.pi / 4 * changes / PIXELS_PER_BEAM
        euler[:, k] = count - pairs + _count(across[:, 1:] & across[:, :-1])
    return area, perimeter, euler


def _count(mask):
    return mask.sum(axis=(1, 2))


def light(images):
    """Return how much light there is and how it is spread, ``(n,)`` each, by name.

    ``flux_centre``, ``flux_total``: the sum of the S/N within two beams and in all, over the beam's area: the flux
    density in units of rms × beam. ``peak``: the largest S/N within two beams. ``size``: `half_light_radius`.
    ``concentration``: what share of the light within three beams lies within one. ``gini``: how unequally it is
    spread over the pixels, 0 alike and 1 in one of them (Lotz+ 2004, arXiv astro-ph/0311352).
    """
    images = np.asarray(images)
    distance = _distance(images.shape[-1])
    snr = signal_to_noise(images)
    central, lit = distance <= CENTRE, distance <= LIGHT
    positive = np.maximum(snr[:, lit], 0)
    total = positive.sum(axis=1)
    some = np.where(total > 0, total, 1)
    ordered = np.sort(positive, axis=1)
    rank = 2 * np.arange(1, ordered.shape[1] + 1) - ordered.shape[1] - 1
    inner = positive[:, distance[lit] <= 1].sum(axis=1)
    return {"flux_centre": snr[:, central].sum(axis=1) / BEAM_AREA, "flux_total": snr.sum(axis=(1, 2)) / BEAM_AREA,
            "peak": snr[:, central].max(axis=1), "size": half_light_radius(images), "concentration": inner / some,
            "gini": (rank * ordered).sum(axis=1) / (some * (ordered.shape[1] - 1))}


def half_light_radius(images):
    """Return the radius, in beams, that holds half of the positive S/N within three beams; 0 without any, ``(n,)``.

    It is that of a circle as large as the pixels which hold it.
    """
    images = np.asarray(images)
    distance = _distance(images.shape[-1])
    lit = distance <= LIGHT
    # Pixels of one distance come in together: a turned image has the same radius.
    _, place, counts = np.unique(np.round(distance[lit], 9), return_inverse=True, return_counts=True)
    radii = np.concatenate([[0], np.sqrt(np.cumsum(counts) / np.pi) / PIXELS_PER_BEAM])
    positive = np.maximum(signal_to_noise(images[:, lit]), 0)
    index = (np.arange(len(images))[:, None] * len(counts) + place).ravel()
    shells = np.bincount(index, positive.ravel(), minlength=len(images) * len(counts))
    growth = np.cumsum(np.pad(shells.reshape(len(images), len(counts)), ((0, 0), (1, 0))), axis=1)
    half = growth[:, -1] / 2
    last = np.minimum((growth < half[:, None]).sum(axis=1), len(counts))
    rows, before = np.arange(len(images)), np.maximum(last - 1, 0)
    step = growth[rows, last] - growth[rows, before]
    share = np.where(step > 0, (half - growth[rows, before]) / np.where(step > 0, step, 1), 0)
    return radii[before] + share * (radii[last] - radii[before])


def beam_averages(images):
    """Return the mean brightness of squares of a beam within three beams of the centre, ``(n, k)``."""
    side = int(PIXELS_PER_BEAM)
    n = images.shape[-1] // side
    first = (images.shape[-1] - n * side) // 2
    cut = brightness(images[:, first:first + n * side, first:first + n * side])
    blocks = cut.reshape(len(images), n, side, n, side).mean(axis=(2, 4))
    offset = np.arange(n) - (n - 1) / 2
    return blocks[:, np.hypot(offset[:, None], offset) <= LIGHT]


def image_features(images):
    """Describe each image by numbers that do not depend on its orientation.

    Parameters
    ----------
    images : `~numpy.ndarray`
        ``(n, size, size)`` from `halopy.generative.quality.common_input.common_images`.

    Returns
    -------
    features : `~numpy.ndarray`
        ``(n, k)`` float64, finite.
    names : list of str
        ``k`` names: ``area_t``, ``perimeter_t``, ``euler_t`` of `minkowski` at each threshold (logarithms of
        1 + the first two, asinh of the third); ``ring_r``, the mean brightness in rings that begin at r beams;
        ``power_f``, the logarithm of the power at f cycles a beam, two rings of `power_spectra` each; ``scatter`` and
        ``skewness`` of the brightness of all pixels; and `light`, with asinh of fluxes and of the peak.

    Examples
    --------
    >>> from halopy.generative.quality.common_input import common_images
    >>> from halopy.generative.quality.image_features import image_features
    >>> from halopy.testing import simulated_cutouts
    >>> images, _ = common_images(simulated_cutouts(6), 42)
    >>> features, names = image_features(images)
    >>> features.shape == (6, len(names))
    True
    """
    parts = [_features(images[start:start + CHUNK]) for start in range(0, max(len(images), 1), CHUNK)]
    return np.concatenate([np.stack(list(part.values()), axis=1) for part in parts]), list(parts[0])


def _features(images):
    area, perimeter, euler = minkowski(images)
    result = {}
    for k, threshold in enumerate(THRESHOLDS):
        result[f"area_{threshold:g}"] = np.log1p(area[:, k])
        result[f"perimeter_{threshold:g}"] = np.log1p(perimeter[:, k])
        result[f"euler_{threshold:g}"] = np.arcsinh(euler[:, k])
    seen = brightness(images)
    distance = _distance(images.shape[-1])
    # A small image ends before the outermost rings do.
    n_rings = sum(start < distance.max() for start in RINGS[:-1])
    place = np.searchsorted(RINGS, distance, side="right") - 1
    means = _ring_means(seen, np.where(distance < RINGS[n_rings], place, -1), n_rings)
    result |= {f"ring_{RINGS[k]:g}": means[:, k] for k in range(n_rings)}
    power, frequencies = power_spectra(images), spectrum_frequencies()
    power, frequencies = (power[:, ::2] + power[:, 1::2]) / 2, (frequencies[::2] + frequencies[1::2]) / 2
    result |= {f"power_{f:.2f}": column for f, column in zip(frequencies, log_power(power).T, strict=True)}
    centred = seen - seen.mean(axis=(1, 2), keepdims=True)
    scatter = np.sqrt((centred**2).mean(axis=(1, 2)))
    result["scatter"] = np.log(scatter + UNSEEN)
    result["skewness"] = (centred**3).mean(axis=(1, 2)) / (scatter + UNSEEN) ** 3
    spread = light(images)
    return result | {name: np.arcsinh(values) if "flux" in name or name == "peak" else values
                     for name, values in spread.items()}
