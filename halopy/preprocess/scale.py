"""Scalings of pixel values for models, each with its inverse."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.model import Step

__all__ = ["LogMinMax", "SnrAsinh"]


class _Scaling(Step):
    """Scale cutouts to numbers around [0, 1], and back."""

    def __call__(self, cutouts):
        """Return scaled cutouts, dimensionless.

        Parameters
        ----------
        cutouts : CutoutSet
            ``(n, ny, nx)``, not scaled yet.

        Returns
        -------
        CutoutSet
            ``meta["scale_unit"]`` holds the unit for `inverse`.
        """
        _check(cutouts)
        if "scale_unit" in cutouts.meta:
            raise HaloInputError("these cutouts are scaled already", found=cutouts.meta["scale_unit"],
                                 hint="the inverse() of the step that scaled them")
        if self.fill is not None and not np.isfinite(self.fill):
            raise HaloInputError("fill must be a finite number, or None", found=self.fill)
        data = np.where(np.isfinite(cutouts.data), cutouts.data, np.nan).astype(np.float64)
        scaled, columns = self._scale(cutouts, data)
        if self.fill is not None:
            scaled = np.where(np.isnan(scaled), self.fill, scaled)
        table = cutouts.table.copy()
        for name, column in columns.items():
            table[name] = column
        return CutoutSet(scaled, table, meta=cutouts.meta | {"scale_unit": cutouts.unit.to_string()})

    def inverse(self, cutouts):
        """Return cutouts in the unit they had before.

        Parameters
        ----------
        cutouts : CutoutSet
            What the step returned, or new cutouts with the same columns. Numbers outside [0, 1]
            are extrapolated.

        Returns
        -------
        CutoutSet
        """
        _check(cutouts)
        with np.errstate(over="ignore"):
            data = self._unscale(cutouts, cutouts.data.astype(np.float64)).astype(np.float32)
        table = cutouts.table.copy()
        table.remove_columns([name for name in ("scale_min", "scale_max") if name in table.colnames])
        meta = {key: value for key, value in cutouts.meta.items() if key != "scale_unit"}
        return CutoutSet(data, table if table.colnames else None, unit=self._unit(cutouts), meta=meta)

    def _unit(self, cutouts):
        # A file keeps the columns of a table, not the meta.
        column = cutouts.table[self.unit_column] if self.unit_column in cutouts.table.colnames else None
        return u.Unit(cutouts.meta.get("scale_unit", getattr(column, "unit", None) or cutouts.unit))


class LogMinMax(_Scaling):
    """Logarithmic and min-max normalisation of each cutout by itself, to [0, 1].

    With t = (I − min) / (max − min), the scaled value is log(1 + d t) / log(1 + d), where d is the
    ``dynamic_range``. The logarithm is taken of the height above the cutout's own minimum, so
    negative pixels need no special case, the scaling is strictly monotonic, and only ``min``
    and ``max`` are needed to undo it: the columns ``scale_min`` and ``scale_max``.

    Parameters
    ----------
    dynamic_range : float, optional
        d, default 1000: below (max − min) / d the scaling is linear.
    fill : float, optional
        The scaled value of pixels without data. Default None: they stay NaN, and can be told from
        others by `inverse`. Filled pixels come back as that value's flux.

    Notes
    -----
    A cutout loses its absolute brightness to the two columns: multiplied by any factor, it is
    scaled to the same pixels. The brightness factors of `Augmenter` are therefore undone by this
    scaling whatever the order; `SnrAsinh` keeps them.

    A cutout of one value is scaled to 0, one without data stays without.

    References
    ----------
    Mishra et al. 2024, arXiv:2411.15559 (log and min-max normalisation). The logarithm is that of
    SAOImage DS9 and `astropy.visualization.LogStretch`.

    Examples
    --------
    >>> from halopy import CutoutSet, LogMinMax
    >>> cutouts = CutoutSet([[[-1.0, 0.0, 9.0]]])
    >>> scale = LogMinMax()
    >>> scaled = scale(cutouts)
    >>> scaled.data.round(3)
    array([[[0.   , 0.668, 1.   ]]], dtype=float32)
    >>> scale.inverse(scaled).data.round(3)
    array([[[-1.,  0.,  9.]]], dtype=float32)
    """

    unit_column = "scale_min"

    def __init__(self, *, dynamic_range=1000.0, fill=None):
        self.dynamic_range = dynamic_range
        self.fill = fill

    def _depth(self):
        if not (np.isfinite(self.dynamic_range) and self.dynamic_range > 0):
            raise HaloInputError("dynamic_range must be positive", found=self.dynamic_range, hint="dynamic_range=1000")
        return self.dynamic_range

    def _scale(self, cutouts, data):
        depth = self._depth()
        valid = np.isfinite(data)
        low = np.min(data, axis=(1, 2), where=valid, initial=np.inf)
        high = np.max(data, axis=(1, 2), where=valid, initial=-np.inf)
        low, high = np.where(valid.any(axis=(1, 2)), [low, high], np.nan)
        width = np.where(high > low, high - low, 1)[:, None, None]
        scaled = np.log1p(depth * (data - low[:, None, None]) / width) / np.log1p(depth)
        return scaled, {"scale_min": u.Quantity(low, cutouts.unit), "scale_max": u.Quantity(high, cutouts.unit)}

    def _unscale(self, cutouts, scaled):
        depth = self._depth()
        low, high = (np.asarray(cutouts.column(name), dtype=np.float64)[:, None, None]
                     for name in ("scale_min", "scale_max"))
        return low + (high - low) * np.expm1(scaled * np.log1p(depth)) / depth


class SnrAsinh(_Scaling):
    """Inverse hyperbolic sine of the signal to noise, on one scale for all cutouts.

    The scaled value is asinh(S / a) / asinh(c / a), with S = I / rms, a = ``softening`` and c =
    ``ceiling``: linear in the noise, logarithmic in the sources, 0 for no signal and 1 for S = c.

    Parameters
    ----------
    softening : float, optional
        The signal to noise up to which the scaling is about linear, default 2.
    ceiling : float, optional
        The signal to noise that is scaled to 1, default 1000. Brighter pixels lie above 1: nothing is cut off.
    fill : float, optional
        The scaled value of pixels without data, default None: they stay NaN.

    Notes
    -----
    The column ``rms`` (in the cutouts' unit) is needed here and by `inverse`.

    References
    ----------
    Lupton, Gunn & Szalay 1999, AJ 118, 1406 (doi:10.1086/301004), for the inverse hyperbolic sine.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from halopy import CutoutSet, SnrAsinh
    >>> cutouts = CutoutSet([[[-0.02, 0.0, 0.02, 20.0]]], QTable({"rms": [0.02]}))
    >>> scale = SnrAsinh()
    >>> scale(cutouts).data.round(3)
    array([[[-0.07,  0.  ,  0.07,  1.  ]]], dtype=float32)
    >>> scale.inverse(scale(cutouts)).data.round(4)
    array([[[-0.02,  0.  ,  0.02, 20.  ]]], dtype=float32)
    """

    unit_column = "rms"

    def __init__(self, *, softening=2.0, ceiling=1000.0, fill=None):
        self.softening = softening
        self.ceiling = ceiling
        self.fill = fill

    def _scale(self, cutouts, data):
        top = self._top()
        return np.arcsinh(data / (self.softening * self._rms(cutouts, cutouts.unit))) / top, {}

    def _unscale(self, cutouts, scaled):
        return np.sinh(scaled * self._top()) * self.softening * self._rms(cutouts, self._unit(cutouts))

    def _top(self):
        for name in ("softening", "ceiling"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise HaloInputError(f"{name} must be positive", found=getattr(self, name))
        return np.arcsinh(self.ceiling / self.softening)

    def _rms(self, cutouts, unit):
        if "rms" not in cutouts.table.colnames:
            raise HaloInputError("SnrAsinh needs a column 'rms'", found=cutouts.table.colnames,
                                 hint="NoiseEstimator()(image) before CutoutMaker, or LogMinMax")
        rms = cutouts.table["rms"]
        rms = np.array(rms.to_value(unit) if isinstance(rms, u.Quantity) else rms, dtype=np.float64)
        bad = ~(rms > 0) & np.isfinite(cutouts.data).any(axis=(1, 2))
        if bad.any():
            raise HaloInputError(f"the rms of a cutout must be positive, {bad.sum()} of {len(rms)} are not",
                                 found=rms[bad][0], hint="NoiseEstimator()(image) before CutoutMaker")
        return np.where(rms > 0, rms, np.nan)[:, None, None]


def _check(cutouts):
    if not isinstance(cutouts, CutoutSet):
        raise HaloInputError("a scaling takes a CutoutSet", found=type(cutouts).__name__, hint="CutoutSet(array)")
