"""A bank of halo templates, fitted to many cutouts at once."""

from __future__ import annotations

import functools

import numpy as np
from astropy import units as u

from halopy.image import Beam
from halopy.simulate.diffuse import FLUX_WITHIN_3RE, exponential_halo

__all__ = ["Bank", "Fit", "bank_for", "correlated_variance", "robust_scatter", "template"]

INNER, LEAST, OUTER, WIDEST = 3.0, 2.0, 2.0, 13.0
"""A template reaches to INNER r_e (LEAST beams at least); the level is taken out to OUTER times
that, WIDEST beams at most."""
MIN_SUPPORT = 0.5
"""Fraction of a template's support that must hold data."""
REFINE, CLIMB, CLIMB_BEAMS = 12, 20, 2.0
"""How many pixels a measured centre may lie beyond those searched, the longest climb to it in steps, and
in beams: what lies farther off is another source."""
FINE = 8
"""Radii per octave that are measured."""
EXCESS_RADIUS = 1.0
"""The excess scatter is measured with templates up to this many beams: for wider ones a cutout
holds too few independent places, and the halo itself fills too many of them."""


def template(beam, pixel_scale, radius, shape, *, x=None, y=None):
    """Return a template and its support, both ``(ny, nx)``.

    ``radius`` is the e-folding radius in beams; the template is in Jy/beam for a halo of 1 Jy.
    """
    fwhm = np.sqrt(beam.major * beam.minor)
    halo = exponential_halo(beam, pixel_scale, shape, radius * fwhm, x=x, y=y)
    x = (shape[1] - 1) / 2 if x is None else x
    y = (shape[0] - 1) / 2 if y is None else y
    distance = np.hypot(np.arange(shape[1])[None] - x, np.arange(shape[0])[:, None] - y)
    reach = min(OUTER * max(INNER * radius, LEAST), WIDEST)
    support = distance <= reach * (fwhm / pixel_scale).to_value(u.one)
    return np.where(support, halo, 0.0), support


@functools.lru_cache(maxsize=8)
def bank_for(major, minor, pa, scale, shape, radii, slack):
    """Return the `Bank` of these settings (arcsec, deg), made once."""
    return Bank(Beam(major * u.arcsec, minor * u.arcsec, pa * u.deg), scale * u.arcsec, shape, radii, slack)


class Bank:
    """Templates of all radii at all allowed centres, as matrices.

    With weights w and data d, a template t is fitted with a free level over its support; all sums
    that this needs are products of the matrices with the stacked cutouts.
    """

    def __init__(self, beam, scale, shape, radii, slack):
        self.beam, self.scale, self.shape = beam, scale, shape
        self.radii = np.array(radii, dtype=float)
        self.fwhm = float((np.sqrt(beam.major * beam.minor) / scale).to_value(u.one))
        self.beam_area = beam.area_pixels(scale)
        octaves = np.log2(self.radii.max() / self.radii.min())
        fine = np.geomspace(self.radii.min(), self.radii.max(), int(np.ceil(FINE * octaves)) + 1)
        self.fine = np.unique(np.round(np.concatenate([self.radii, fine]), 6))
        every = np.concatenate([self.radii, self.fine])
        whole = [self._whole(radius) for radius in every]
        self.noise, self.power, self.size = (np.array(column) for column in zip(*whole, strict=True))
        self.reach = int(slack * self.radii.max() * self.fwhm) + REFINE
        # A template elsewhere is another window of a larger one: centres differ by whole pixels.
        larger = tuple(n + 2 * self.reach for n in shape)
        self.large = [template(beam, scale, radius, larger) for radius in every]
        rows = [(k, dx, dy) for k, radius in enumerate(self.radii)
                for dx, dy in _offsets(slack * radius * self.fwhm, radius * self.fwhm / 3)]
        self.which, self.dx, self.dy = np.array(rows).T
        self.halo, self.support = self._templates(self.which, self.dx, self.dy)

    def _whole(self, radius):
        """Noise, power and number of pixels of a template that is nowhere cut off."""
        half = int(np.ceil(WIDEST * self.fwhm)) + 1
        halo, support = template(self.beam, self.scale, radius, (2 * half + 1,) * 2)
        zero_sum = np.where(support, halo - halo[support].mean(), 0.0)
        return np.sqrt(correlated_variance(zero_sum, self.beam, self.scale)), (zero_sum**2).sum(), support.sum()

    def search(self, data, rms, error, soft):
        """Return the best halo of each cutout over all radii and centres.

        Parameters
        ----------
        data, error : `~numpy.ndarray`
            ``(n, ny * nx)``: pixels without compact sources, and their errors.
        rms : `~numpy.ndarray`
            ``(n,)``.
        soft : float
            S/N beyond which pixels are compressed.

        Returns
        -------
        fit : Fit
            The weighted pixels, for `measure`.
        snr : `~numpy.ndarray`
            ``(n,)``; NaN where nothing can be scored.
        best : `~numpy.ndarray`
            ``(n,)``: the index of the best row of ``which``, ``dx``, ``dy``.
        """
        fit = Fit(data, rms, error, soft)
        fit.excess = self._excess(fit.pixels, fit.valid)
        score = self._fit(fit, self.halo, self.support, self.which)[0]
        best = score.argmax(axis=1)
        snr = score[np.arange(len(data)), best]
        return fit, np.where(np.isfinite(snr), snr, np.nan), best

    def _fit(self, fit, halo, support, which):
        """Return score, mean of the template under the weights, power and noise; ``(n, templates)`` each."""
        weight, weighted = fit.weight.astype(np.float32), (fit.weight * fit.pixels).astype(np.float32)
        area, in_halo = weight @ support.T, weight @ halo.T
        mean = in_halo / np.maximum(area, 1e-6)
        signal = weighted @ halo.T - mean * (weighted @ support.T)
        power = weight @ (halo**2).T - mean * in_halo
        whole = self.power[which]
        usable = (area >= MIN_SUPPORT * self.size[which]) & (power > 0.05 * whole)
        power = np.where(usable, power, whole)
        # A template that has lost weight has lost signal in proportion, noise as the square root.
        noise = self.noise[which] * np.sqrt(power / whole) * fit.excess[:, which]
        return np.where(usable, signal / noise, -np.inf), mean, power, noise

    def measure(self, fit, best, sources, leftover):
        """Measure the halo of each cutout: from the best centre uphill, averaged over the radii that fit there.

        Parameters
        ----------
        fit, best
            From `search`.
        sources : `~numpy.ndarray`
            Removed sources: rows of (cutout, x, y, peak, error).
        leftover : float
            Error of a removed source as a fraction of its peak.

        Returns
        -------
        dict of `~numpy.ndarray`
            ``(n,)`` each; NaN where nothing can be scored.
        """
        names = ("r_e", "offset_x", "offset_y", "flux", "flux_noise", "flux_subtraction", "compact_flux",
                 "compact_flux_err")
        result = {name: np.full(len(best), np.nan) for name in names}
        for row, index in enumerate(best):
            part = fit[[row]]
            _, dx, dy, score = self._uphill(part, int(self.dx[index]), int(self.dy[index]))
            if not np.isfinite(score):
                continue
            weights, flux, noise, response, halo = self._radii(part, dx, dy)
            if part.excess.max() > 1:  # a bright halo is a part of the scatter over its own cutout
                left = np.where(part.valid, part.offset - (weights * flux) @ halo, 0.0)
                part.excess = self._excess(left / part.rms[:, None], part.valid)
                weights, flux, noise, response, _ = self._radii(part, dx, dy)
            radius = np.exp(weights @ np.log(self.fine))
            best_flux = weights @ flux
            # The radius is uncertain too: its part of the error is the scatter of the flux over the radii.
            noise = np.sqrt(weights @ (noise**2 + (flux - best_flux) ** 2))
            own = sources[sources[:, 0] == row]
            left, compact, compact_err = self._sources(own, leftover, weights @ response, radius, dx, dy)
            values = (radius * self.fwhm * self.scale.to_value(u.arcsec), dx, dy, FLUX_WITHIN_3RE * best_flux,
                      FLUX_WITHIN_3RE * noise, FLUX_WITHIN_3RE * left, compact, compact_err)
            for name, value in zip(names, values, strict=True):
                result[name][row] = value
        return result

    def _radii(self, part, dx, dy):
        """Fit every radius at one centre; return weights that sum to 1, fluxes, their noise, responses, templates.

        Pixels count in full here, not compressed. A radius is weighted by exp(Δ/2), where Δ is what it
        takes off the sum of squares over the widest support, less what it would take off noise, in units
        of the latter: the S/N that is best for the search would prefer a sharper template, because
        noise is correlated.
        """
        which = len(self.radii) + np.arange(len(self.fine))
        halo, support = self._templates(which, np.full(len(which), dx), np.full(len(which), dy))
        plain = part[:]
        plain.pixels = part.offset / part.rms[:, None]
        plain.excess = np.full((1, which[-1] + 1), part.excess.max())
        widest = np.broadcast_to(support.max(axis=0), support.shape)
        score, _, power, noise = (values[0] for values in self._fit(plain, halo, widest, which))
        own_score, mean, own_power, own_noise = (values[0] for values in self._fit(plain, halo, support, which))
        usable = np.isfinite(own_score) & np.isfinite(score)
        chance = noise**2 / power
        score = np.where(usable, score, 0)
        gain = np.where(usable, (score * np.abs(score) - 1) * chance, -np.inf)
        top = gain.argmax()
        weights = np.exp((gain - gain[top]) / chance[top] / 2)
        response = np.where(support > 0, halo - mean[:, None], 0.0) * part.weight[0] / own_power[:, None]
        noise = part.rms[0] * own_noise / own_power
        return weights / weights.sum(), response @ part.offset[0], noise, response, halo

    def _uphill(self, part, dx, dy):
        """Climb from a centre to the best radius and centre near it; return (radius index, dx, dy, score)."""
        step = max(1, int(round(self.fwhm / 2)))
        found = (0, dx, dy, -np.inf)
        start = np.array([dx, dy])
        for _ in range(CLIMB):
            a, b = (np.clip(c + step * np.array([-1, 0, 1]), -self.reach, self.reach) for c in found[1:3])
            k, x, y = (grid.ravel() for grid in np.meshgrid(np.arange(len(self.radii)), a, b, indexing="ij"))
            near = np.hypot(x - start[0], y - start[1]) <= CLIMB_BEAMS * self.fwhm
            k, x, y = k[near], x[near], y[near]
            score = self._fit(part, *self._templates(k, x, y), k)[0][0]
            top = score.argmax()
            if not score[top] > found[3] * (1 + 1e-9) + 1e-9:
                if step == 1:
                    break
                step = max(1, step // 2)
                continue
            found = (int(k[top]), int(x[top]), int(y[top]), float(score[top]))
        return found

    def _templates(self, which, dx, dy):
        """Templates and supports, ``(n, ny * nx)`` float32, at centres off the middle by whole pixels."""
        ny, nx = self.shape
        windows = [(k, slice(self.reach - y, self.reach - y + ny), slice(self.reach - x, self.reach - x + nx))
                   for k, x, y in zip(which, dx, dy, strict=True)]
        return tuple(np.stack([self.large[k][i][ys, xs].ravel() for k, ys, xs in windows]).astype(np.float32)
                     for i in (0, 1))

    def _sources(self, sources, leftover, response, radius, dx, dy):
        """Error of the flux from the removed sources of one cutout, and what was removed within the halo.

        A source whose peak is off by δ leaves a beam of height δ, which changes the fitted flux by
        δ times the beam's area times the fit's response at its place.
        """
        _, x, y, peak, error = sources.T
        error = np.hypot(error, leftover * peak)
        column = np.clip(np.rint(x), 0, self.shape[1] - 1).astype(int)
        row = np.clip(np.rint(y), 0, self.shape[0] - 1).astype(int)
        change = error * self.beam_area * response[row * self.shape[1] + column]
        distance = np.hypot(x - (self.shape[1] - 1) / 2 - dx, y - (self.shape[0] - 1) / 2 - dy)
        inside = distance <= max(INNER * radius, 1.0) * self.fwhm
        return np.sqrt((change**2).sum()), peak[inside].sum(), np.sqrt((error[inside] ** 2).sum())

    @functools.cached_property
    def _narrow(self):
        """Templates whose scatter is measured: number, transforms of zero-sum template and support, and its size."""
        found = []
        for k in np.flatnonzero(self.radii <= max(EXCESS_RADIUS, self.radii.min())):
            halo, support = template(self.beam, self.scale, self.radii[k], self.shape)
            zero_sum = np.where(support, halo - halo[support].mean(), 0.0)
            found.append((k, *(np.conj(np.fft.rfft2(plane)) for plane in (zero_sum, support.astype(float))),
                          support.sum()))
        return found

    def _excess(self, pixels, valid):
        """Scatter of each template over each cutout, in units of beam-correlated noise; at least 1."""
        shape = self.shape
        spectrum = np.fft.rfft2(pixels.reshape(-1, *shape))
        gaps = not valid.all()
        cover = np.fft.rfft2(valid.reshape(-1, *shape).astype(float)) if gaps else None
        excess = np.ones((len(pixels), len(self.radii)))
        for k, zero_sum, support, size in self._narrow:
            score = np.fft.irfft2(spectrum * zero_sum, shape) / self.noise[k]
            score = score.reshape(len(pixels), -1)
            if gaps:
                seen = np.fft.irfft2(cover * support, shape) / size
                score[seen.reshape(score.shape) < 0.8] = np.nan
            excess[:, k] = np.maximum(robust_scatter(score), 1.0)
        widest = np.flatnonzero(self.radii <= max(EXCESS_RADIUS, self.radii.min()))
        widest = widest[np.argmax(self.radii[widest])]
        wider = self.radii > self.radii[widest]
        excess[:, wider] = excess[:, [widest]]
        return excess


class Fit:
    """Pixels ready to be fitted: in units of the rms, compressed, with weights."""

    def __init__(self, data, rms, error, soft):
        known = np.isfinite(rms) & (rms > 0)
        self.valid = np.isfinite(data) & known[:, None]
        self.rms = np.where(known, rms, 1.0)
        self.offset = np.where(self.valid, data - _median(data)[:, None], 0.0)
        error = np.where(self.valid, error, 1.0)
        self.pixels = soft * np.arcsinh(self.offset / error / soft) * error / self.rms[:, None]
        self.weight = np.where(self.valid, (self.rms[:, None] / error) ** 2, 0.0)
        self.excess = None

    def __getitem__(self, rows):
        part = object.__new__(Fit)
        part.__dict__ = {name: values[rows] for name, values in self.__dict__.items()}
        return part


def correlated_variance(weights, beam, pixel_scale):
    """Variance of a weighted sum over white noise that was smoothed by the beam, of unit rms."""
    ny, nx = (2 * n for n in weights.shape)
    v, w = np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)[None]
    covariance = 2 * beam.covariance(pixel_scale)
    form = covariance[0, 0] * w**2 + covariance[1, 1] * v**2 + 2 * covariance[0, 1] * w * v
    spectrum = 2 * np.pi * np.sqrt(np.linalg.det(covariance)) * np.exp(-2 * np.pi**2 * form)
    power = np.abs(np.fft.rfft2(weights, (ny, nx))) ** 2 * spectrum
    power[:, 1:(nx + 1) // 2] *= 2  # the half of the spectrum that rfft leaves out
    return float(power.sum() / (ny * nx))


def robust_scatter(data):
    """Scaled median absolute deviation of each row, 0 for a row without data."""
    return 1.4826 * _median(np.abs(data - _median(data)[:, None]))


def _median(data):
    if np.isfinite(data).all():
        return np.median(data, axis=1) if data.shape[1] else np.zeros(len(data))
    kept = [values[np.isfinite(values)] for values in data]
    return np.array([np.median(values) if values.size else 0.0 for values in kept])


def _offsets(radius, step):
    """Centres on a grid of whole pixels within ``radius``, the middle first."""
    step = max(1, int(round(step)))
    reach = int(radius // step)
    grid = [(i * step, j * step) for j in range(-reach, reach + 1) for i in range(-reach, reach + 1)
            if np.hypot(i * step, j * step) <= radius + 1e-9]
    return sorted(grid, key=lambda p: np.hypot(*p))
