"""What was done to an image whose faint pixels are exact zeros: the threshold, and the noise that it hides."""

from __future__ import annotations

import dataclasses

import numpy as np

__all__ = ["CLEAN", "CLIP_SIGMA", "Clip", "find_clip"]

CLIP_SIGMA = 3.0
"""The labelled MWA images were meant to be clipped at this many times the noise (arXiv 2411.15559)."""

CLEAN = 0.15
"""Above this fraction of pixels that are not zero an image was clipped below `CLIP_SIGMA`: noise is left in it."""

# As in the noise estimator: with fewer zeros than this, or noise about a negative level, their number says nothing.
_ZEROS = 0.05
_NEGATIVE = 0.7


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip as its image shows it.

    ``level`` is the smallest absolute value that is not zero, in the image's unit; ``sides`` is
    ``"two"`` where negative pixels are left, else ``"one"``; ``zeros`` is the fraction of zeros among
    the pixels with data; ``rms`` the noise before the clip, and ``rms_source`` how that was found:
    ``"clip level / 3"``, ``"zeros"`` or ``"wing"``.
    """

    level: float
    sides: str
    zeros: float
    rms: float
    rms_source: str


def find_clip(data):
    """Return how an image was clipped.

    With few pixels left (`CLEAN`), the noise is the level over `CLIP_SIGMA`. With more, part of the noise is
    left: a share *z* of zeros under a threshold *t* means σ = t / (√2 erf⁻¹ z) for Gaussian noise about zero.
    Where most pixels that are left are negative, or hardly any is zero, it is the distance of the 2.3 % and
    the 15.9 % quantile, which sources do not reach.

    Parameters
    ----------
    data : `~numpy.ndarray`
        ``(ny, nx)`` pixels; NaN has no say.

    Returns
    -------
    Clip
        All NaN, with ``sides`` and ``rms_source`` empty, where no pixel differs from zero.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.io.clip_level import find_clip
    >>> noise = np.random.default_rng(1).normal(0, 5, (300, 300))
    >>> clip = find_clip(np.where(abs(noise) < 4, 0, noise))
    >>> round(clip.level, 1), clip.sides, round(clip.rms, 1), clip.rms_source
    (4.0, 'two', 5.0, 'zeros')
    """
    pixels = data[np.isfinite(data)]
    kept = pixels[pixels != 0]
    if kept.size == 0:
        return Clip(np.nan, "", 1.0 if pixels.size else np.nan, np.nan, "")
    zeros = 1 - kept.size / pixels.size
    level = float(np.abs(kept).min())
    sides = "two" if (kept < 0).any() else "one"
    if 1 - zeros <= CLEAN:
        return Clip(level, sides, zeros, level / CLIP_SIGMA, f"clip level / {CLIP_SIGMA:g}")
    if zeros < _ZEROS or np.mean(kept < 0) > _NEGATIVE:
        two, one = np.quantile(pixels, (0.02275, 0.15866))
        if one > two:
            return Clip(level, sides, zeros, float(one - two), "wing")
    from scipy.special import erfinv

    return Clip(level, sides, zeros, level / float(np.sqrt(2) * erfinv(max(zeros, 1 / pixels.size))), "zeros")
