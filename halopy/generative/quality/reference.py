"""Sets of images that a generator has to beat: training images that are blurred, and Gaussian random fields."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.generative.quality.common_input import PIXELS_PER_BEAM, check_set, common_images, common_size
from halopy.image import FWHM_TO_SIGMA
from halopy.learning.inputs import noise_level, signal_to_noise

__all__ = ["gaussian_field", "smoothed"]

KEPT = ("label", "also", "grade", "beam_pa", "frequency")


def smoothed(cutouts):
    """Smooth images by their beam: what a generator makes that leaves the fine structure out.

    Parameters
    ----------
    cutouts : CutoutSet
        ``n`` images with ``beam_major``, ``beam_minor`` and ``pixel_scale``.

    Returns
    -------
    CutoutSet
        The same images convolved with a round Gaussian of the beam's mean width, without renormalising peaks. The
        table is that of the originals, **with their beam and rms**: the set claims to be what it is not, as a blurred
        generator's does. ``group`` stays too, since it is the same sky. Pixels without data stay without.

    Examples
    --------
    >>> from halopy.generative.quality.reference import smoothed
    >>> from halopy.testing import simulated_cutouts
    >>> cutouts = simulated_cutouts(6)
    >>> bool(smoothed(cutouts).data.std() < cutouts.data.std())
    True
    """
    from scipy.ndimage import gaussian_filter

    check_set(cutouts, "cutouts")
    table = cutouts.table
    width = (np.sqrt(table["beam_major"] * table["beam_minor"]) / table["pixel_scale"]).to_value(u.one) * FWHM_TO_SIGMA
    data = np.empty_like(cutouts.data)
    for i, image in enumerate(cutouts.data):
        known = np.isfinite(image)
        weight = gaussian_filter(known.astype(float), width[i])
        total = gaussian_filter(np.where(known, image, 0).astype(float), width[i])
        data[i] = np.where(known, total / np.where(known, weight, 1), np.nan)
    return cutouts.replace(data=data)


def gaussian_field(cutouts, n, *, rng=None):
    """Draw Gaussian random fields with the mean image and the power spectrum of images of their label.

    Mean and power are those of asinh(S/N / 2), so that a field has bright pixels as well; phases are random, so that
    nothing is left of what makes sources.

    Parameters
    ----------
    cutouts : CutoutSet
        Training images with ``label``, ``beam_major``, ``beam_minor`` and ``pixel_scale``, not scaled.
    n : int
        How many images to draw; labels, beam, frequency and rms are those of training images drawn at random.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    CutoutSet
        ``(n, size, size)`` in the unit of the training images, on pixels of a third of a beam, with ``size`` from
        `halopy.generative.quality.common_input.common_size`, and ``group`` = ``"generated"``.

    Examples
    --------
    >>> from halopy.generative.quality.reference import gaussian_field
    >>> from halopy.testing import simulated_cutouts
    >>> gaussian_field(simulated_cutouts(12), 5, rng=1)
    <CutoutSet 5 x (42, 42) Jy / beam, columns ...>
    """
    rng = np.random.default_rng(rng)
    check_set(cutouts, "cutouts")
    if not isinstance(n, (int, np.integer)) or n < 0:
        raise HaloInputError("n must be a whole number of images", found=n)
    size = common_size(cutouts)
    images, kept = common_images(cutouts, size)
    if not len(kept):
        raise HaloInputError("cutouts must hold images with data", found=0)
    chosen = rng.integers(len(kept), size=n)
    labels = np.asarray(cutouts.table["label"]).astype(str)[kept]
    pixels = np.empty((n, size, size))
    for label in np.unique(labels[chosen]):
        rows = np.flatnonzero(labels[chosen] == label)
        mean, amplitude = _fitted(images[labels == label])
        white = np.fft.fft2(rng.normal(size=(len(rows), size, size)))
        pixels[rows] = mean + np.fft.ifft2(white * amplitude).real
    rows = kept[chosen]
    rms = noise_level(cutouts)[rows]
    table = QTable({name: cutouts.table[name][rows] for name in KEPT if name in cutouts.table.colnames})
    beam = np.sqrt(cutouts.table["beam_major"][rows] * cutouts.table["beam_minor"][rows]).to(u.arcsec)
    table["beam_major"], table["beam_minor"], table["pixel_scale"] = beam, beam, beam / PIXELS_PER_BEAM
    table["rms"] = rms * cutouts.unit
    table["group"] = np.full(n, "generated")
    return CutoutSet(signal_to_noise(pixels) * rms[:, None, None], table, unit=cutouts.unit)


def _fitted(images):
    """Return the mean image over all eight views, and the amplitude of each frequency about it."""
    images = images.astype(float)
    mean = _symmetric(images.mean(axis=0))
    # Images are not periodic: without the window, what is cut off at their edges would leak to high frequencies.
    window = np.hanning(len(mean) + 2)[1:-1]
    window = window[:, None] * window
    power = (np.abs(np.fft.fft2((images - mean) * window)) ** 2).mean(axis=0) / (window**2).sum()
    # Views of the spectrum, whose frequency 0 stands in the middle of an odd array.
    wide = np.fft.fftshift(power)
    wide = np.pad(wide, ((0, 1), (0, 1)), mode="wrap") if mean.shape[0] % 2 == 0 else wide
    wide = _symmetric(wide)[:mean.shape[0], :mean.shape[1]]
    return mean, np.sqrt(np.fft.ifftshift(wide))


def _symmetric(plane):
    turned = [np.rot90(plane, k) for k in range(4)]
    return np.mean([*turned, *(view[:, ::-1] for view in turned)], axis=0)
