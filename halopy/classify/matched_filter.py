"""The matched filter: how much an exponential halo stands out once compact sources are gone."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.classify.bank import bank_for, robust_scatter
from halopy.classify.base import Classifier
from halopy.classify.significance import significance
from halopy.errors import HaloInputError
from halopy.preprocess.subtract import beam_groups, find_compact, subtract_compact

__all__ = ["MatchedFilter"]

CHUNK = 128
RESULTS = ("snr", "r_e", "offset_x", "offset_y", "flux", "flux_noise", "flux_subtraction", "compact_flux",
           "compact_flux_err")


class MatchedFilter(Classifier):
    """A bank of beam-convolved exponential halos, compact sources removed; needs no training.

    The statistic is the best signal-to-noise ratio over the bank and over centres within ``slack``
    e-folding radii of the target: a halo's centre is uncertain by a fraction of its own size. Each
    template is fitted together with a level, out to twice its own reach. Three things keep what is
    no halo from counting: pixels where a bright compact source was removed have a larger error,
    ``leftover`` times what was removed; pixels beyond ``soft`` times their error are compressed, so
    that a double's bridge or a sidelobe cannot outweigh many faint pixels; and the noise of a
    template is that of beam-correlated noise times the excess scatter that the template shows over
    the whole cutout.

    Parameters
    ----------
    radii : sequence of float, optional
        e-folding radii in beams (geometric mean FWHM), default (0.35, 0.7, 1.4, 2.8, 5.6).
    slack : float, optional
        How far from the target the centre may lie, in e-folding radii, default 0.75.
    threshold : float, optional
        For `~halopy.subtract_compact`, default 5.
    leftover : float, optional
        Error of a removed source as a fraction of its brightness, default 0.2.
    soft : float, optional
        Pixels beyond this S/N are compressed, soft · asinh(S/N / soft), default 2.
    slope, intercept : float, optional
        probability = 1 / (1 + exp(−slope · S/N − intercept)).

    Notes
    -----
    ``slope`` and ``intercept`` were fitted once, on simulated sky with as many halos as blank and
    blended fields, by ``benchmarks/fit_logistic.py``. They are no calibration for any survey: the
    p-values of a `~halopy.Detector` are.
    ``radii``, ``slack``, ``leftover`` and ``soft`` were chosen on the fifteen NVSS fields of
    ``benchmarks/real_halos.py`` and on halos injected into them.

    References
    ----------
    Sommer & Basu 2014, MNRAS 437, 2163, arXiv 1307.3049 (compact-source removal and diffuse
    templates at low resolution); Murgia+ 2009, A&A 499, 679, arXiv 0901.1943 (the profile).

    Examples
    --------
    >>> from halopy import classifiers
    >>> classifiers.create("matched-filter", slack=0)
    MatchedFilter(slack=0)
    """

    trainable = False

    def __init__(self, *, radii=(0.35, 0.7, 1.4, 2.8, 5.6), slack=0.75, threshold=5.0, leftover=0.2, soft=2.0,
                 slope=3.414, intercept=-7.709):
        self.radii = radii
        self.slack = slack
        self.threshold = threshold
        self.leftover = leftover
        self.soft = soft
        self.slope = slope
        self.intercept = intercept

    def _predict_proba(self, cutouts):
        return self.probability(self.statistic(cutouts))

    def probability(self, snr):
        """Return the logistic of the statistic, whose argument rises beyond 8 as ln(1 + S/N - 8) only.

        Double precision has no room between a probability and 1 for what a plain logistic gives
        beyond an S/N of 15, and a stronger halo must not have the same probability as a weaker one.
        """
        from scipy.special import expit

        snr = np.asarray(snr, dtype=float)
        return expit(self.slope * np.minimum(snr, 8) + np.log1p(np.maximum(snr, 8) - 8) + self.intercept)

    def statistic(self, cutouts):
        """Return the best S/N of each cutout, ``(n,)``; NaN where nothing can be scored."""
        return np.asarray(self.locate(cutouts)["snr"])

    def locate(self, cutouts, *, compact=None):
        """Return the best halo of each cutout as the search finds it, on its grid of sizes and centres.

        Parameters
        ----------
        cutouts, compact
            As of `measure`, which goes on from here.

        Returns
        -------
        `~astropy.table.QTable`
            ``n`` rows: ``snr`` (the statistic; NaN where nothing can be scored), ``radius`` (e-folding, in beams),
            ``offset_x`` and ``offset_y`` (pixels).
        """
        result = {name: np.full(len(cutouts), np.nan) for name in ("snr", "radius", "offset_x", "offset_y")}
        for bank, rows, _, snr, best, _ in self._search(cutouts, compact):
            for name, values in (("snr", snr), ("radius", bank.radii[bank.which[best]]), ("offset_x", bank.dx[best]),
                                 ("offset_y", bank.dy[best])):
                result[name][rows] = np.where(np.isfinite(snr), values, np.nan)
        return QTable(result)

    def residual(self, cutouts):
        """Return the cutouts without their compact sources, as `measure` sees them."""
        return subtract_compact(cutouts, threshold=self.threshold)

    def significance(self, image):
        """Return the best S/N over the bank at every pixel of an image; see `halopy.classify.significance`."""
        self._check()
        return significance(image, self)

    def measure(self, cutouts, *, compact=None):
        """Measure the best halo in each cutout.

        Parameters
        ----------
        cutouts : CutoutSet
            ``n`` cutouts with the columns of `~halopy.CutoutMaker`. Where ``rms`` is missing or
            not finite, it is taken from the residual.
        compact : tuple, optional
            What `halopy.preprocess.subtract.find_compact` returned for these cutouts and this
            ``threshold``, where it is known already.

        Returns
        -------
        `~astropy.table.QTable`
            ``n`` rows: ``snr`` (the statistic; NaN where nothing can be scored), ``r_e``,
            ``offset_x``, ``offset_y`` (of the best centre from the cutout's, pixels), ``flux``
            within 3 r_e, ``flux_noise`` and ``flux_subtraction`` (its errors from noise and from
            the removed compact sources), ``compact_flux`` and ``compact_flux_err`` (removed within
            3 r_e, or one beam if that is more).
        """
        result = {name: np.full(len(cutouts), np.nan) for name in RESULTS}
        for bank, rows, fit, snr, best, sources in self._search(cutouts, compact):
            result["snr"][rows] = snr
            for name, values in bank.measure(fit, best, sources, self.leftover).items():
                result[name][rows] = values
        flux_unit = cutouts.unit * u.beam if u.beam in cutouts.unit.bases else cutouts.unit
        units = {name: flux_unit for name in RESULTS if "flux" in name} | {"r_e": u.arcsec}
        return QTable({name: values * units[name] if name in units else values for name, values in result.items()})

    def _search(self, cutouts, compact=None):
        """Yield the best halos of the cutouts that share a beam."""
        self._check()
        residual, sources = find_compact(cutouts, threshold=self.threshold) if compact is None else compact
        rms = np.full(len(cutouts), np.nan)
        if "rms" in cutouts.table.colnames:
            if not u.Quantity(cutouts.table["rms"]).unit.is_equivalent(cutouts.unit):
                raise HaloInputError(f"the rms must be in a unit like the pixels', {str(cutouts.unit)!r}",
                                     found=str(cutouts.table["rms"].unit), hint="cutouts that are not scaled")
            rms = np.array(u.Quantity(cutouts.table["rms"], cutouts.unit).value, dtype=float)
        for beam, scale, rows in beam_groups(cutouts):
            bank = bank_for(beam.major.to_value(u.arcsec), beam.minor.to_value(u.arcsec), beam.pa.to_value(u.deg),
                            scale.to_value(u.arcsec), cutouts.data.shape[1:], tuple(self.radii), self.slack)
            own = sources[np.isin(sources[:, 0], rows)].copy()
            own[:, 0] = np.searchsorted(rows, own[:, 0])
            for start in range(0, len(rows), CHUNK):
                part = rows[start:start + CHUNK]
                data = residual[part].reshape(len(part), -1).astype(float)
                level = rms[part]
                level = np.where(np.isfinite(level) & (level > 0), level, robust_scatter(data))
                removed = np.abs(cutouts.data[part].reshape(len(part), -1) - data)
                with np.errstate(divide="ignore", invalid="ignore"):
                    error = level[:, None] * np.sqrt(1 + (self.leftover * removed / level[:, None]) ** 2)
                here = own[(own[:, 0] >= start) & (own[:, 0] < start + CHUNK)].copy()
                here[:, 0] -= start
                yield bank, part, *bank.search(data, level, error, self.soft), here

    def _check(self):
        radii = np.asarray(self.radii, dtype=float)
        if radii.ndim != 1 or radii.size == 0 or not (np.isfinite(radii) & (radii > 0)).all():
            raise HaloInputError("radii must be positive numbers of beams", found=self.radii)
        if not (self.slack >= 0 and self.leftover >= 0 and min(self.threshold, self.soft, self.slope) > 0):
            raise HaloInputError("slack and leftover must not be negative, threshold, soft and slope must be positive",
                                 found=(self.slack, self.leftover, self.threshold, self.soft, self.slope))
