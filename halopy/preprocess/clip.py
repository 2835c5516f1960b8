"""Clipping: set everything between two thresholds to exactly zero."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.image import ClusterImage

__all__ = ["clip"]


def clip(image, *, low=None, high=3.0, mean=None):
    """Set pixels with ``low < I < high`` to exactly 0, and keep all others.

    Clipping at 3 sigma is the first step of the recipe of arXiv:2411.15559. It deletes most of the
    light of a faint halo together with the noise, so halopy's own models work without it.

    Parameters
    ----------
    image : ClusterImage or CutoutSet
        What to clip. Numbers of sigma need an image with an rms map (`NoiseEstimator`), or cutouts
        with a column ``rms``.
    low, high : float or `~astropy.units.Quantity`, optional
        A number counts local sigmas from ``mean``; a Quantity is a flux threshold in the image's
        unit or one that converts to it. ``low=None`` (default) has no lower end: one-sided,
        ``I < mean + 3 sigma``, as the recipe is written. ``low=-3`` is two-sided,
        ``|I| < 3 sigma``, which is how the cutouts released with it were made.
    mean : float or `~astropy.units.Quantity`, optional
        The level that sigmas are counted from, a scalar or anything that broadcasts to the pixels.
        Default: the image's background map where it has one, and 0 (the mean of an
        interferometer's image) where it has none. ``np.nanmean(image.data)`` is the recipe's.

    Returns
    -------
    ClusterImage or CutoutSet
        The same type. Pixels without data stay NaN; a pixel on a threshold survives, as does one
        whose rms is not known. ``meta["clip"]`` holds the thresholds; an image has the flag ``clipped``,
        cutouts get a new column ``zeros`` if they had one.

    Raises
    ------
    HaloInputError
        Thresholds that cannot be used, or numbers of sigma where no rms is known.

    References
    ----------
    Mishra et al. 2024, arXiv:2411.15559.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from halopy import CutoutSet, clip
    >>> cutouts = CutoutSet([[[-5.0, -1.0, 2.0, 3.0, 7.0]]], QTable({"rms": [1.0]}))
    >>> clip(cutouts).data
    array([[[0., 0., 0., 3., 7.]]], dtype=float32)
    >>> clip(cutouts, low=-3).data
    array([[[-5.,  0.,  0.,  3.,  7.]]], dtype=float32)
    >>> clip(cutouts, high=4 * u.dimensionless_unscaled).data
    array([[[0., 0., 0., 0., 7.]]], dtype=float32)
    """
    if not isinstance(image, (ClusterImage, CutoutSet)):
        raise HaloInputError("clip takes a ClusterImage or a CutoutSet", found=type(image).__name__)
    if high is None:
        raise HaloInputError("high must be a number of sigmas or a flux: without it everything above low would be "
                             "deleted", hint="high=3")
    lower = -np.inf if low is None else _threshold(image, low, mean, "low")
    upper = _threshold(image, high, mean, "high")
    if np.any(lower >= upper):
        raise HaloInputError("low must lie below high", found=f"{low}, {high}", hint="low=-3, high=3")
    inside = (image.data > lower) & (image.data < upper)
    data = np.where(inside, np.float32(0), image.data)
    meta = image.meta | {"clip": {"low": low, "high": high}}
    if isinstance(image, ClusterImage):
        return image.replace(data=data, flags=(*image.flags, "clipped"), meta=meta)
    table = image.table.copy()
    if "zeros" in table.colnames:
        valid = np.isfinite(data).sum(axis=(1, 2))
        table["zeros"] = np.where(valid, (data == 0).sum(axis=(1, 2)) / np.maximum(valid, 1), np.nan)
    return image.replace(data=data, table=table, meta=meta)


def _threshold(image, value, mean, name):
    if isinstance(value, u.Quantity):
        level = _flux(image, value, name)
        if not np.isfinite(level).all():
            raise HaloInputError(f"{name} must be finite", found=str(value))
        return level
    if not isinstance(value, (int, float, np.integer, np.floating)) or not np.isfinite(value):
        raise HaloInputError(f"{name} must be a number of sigmas or a flux", found=str(value), hint=f"{name}=3")
    if mean is not None:
        level = _flux(image, mean, "mean")
    else:
        background = getattr(image, "background", None)
        level = np.float64(0) if background is None else background.astype(np.float64)
    return level + value * _rms(image)


def _flux(image, value, name):
    if not isinstance(value, u.Quantity):
        return np.asarray(value, dtype=np.float64)
    try:
        return np.asarray(value.to_value(image.unit), dtype=np.float64)
    except u.UnitConversionError as error:
        raise HaloInputError(f"{name} must be in the unit of the pixels, {image.unit}", found=str(value)) from error


def _rms(image):
    if isinstance(image, CutoutSet):
        rms = image.column("rms")
        return (_flux(image, rms, "the column 'rms'") if isinstance(rms, u.Quantity)
                else np.asarray(rms, dtype=np.float64))[:, None, None]
    if image.rms is None:
        raise HaloInputError("clipping at a number of sigmas needs an rms map", path=image.meta.get("path"),
                             hint="NoiseEstimator()(image) first, or high=0.03 * u.Jy / u.beam")
    return image.rms.astype(np.float64)
