"""A bank of halo templates, fitted to many cutouts at once."""

from __future__ import annotations

import functools

import numpy as np
from astropy import units as u

from halopy.image import Beam
from halopy.simulate.diffuse import FLUX_WITHIN_3RE, exponential_halo

__all__ = ["Bank", "bank_for", "correlated_variance", "robust_scatter", "template"]

INNER, LEAST, OUTER, WIDEST = 3.0, 2.0, 2.0, 13.0
"""A template reaches to INNER r_e (LEAST beams at least); the level is taken out to OUTER times
that, WIDEST beams at most."""
MIN_SUPPORT = 0.5
"""Fraction of a template's support that must hold data."""
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
        whole = [self._whole(radius) for radius in self.radii]
        self.noise, self.power, self.size = (np.array(column) for column in zip(*whole, strict=True))
        middle = (np.array(shape[::-1]) - 1) / 2
        rows = [(k, dx, dy, *template(beam, scale, radius, shape, x=middle[0] + dx, y=middle[1] + dy))
                for k, radius in enumerate(self.radii)
                for dx, dy in _offsets(slack * radius * self.fwhm, radius * self.fwhm / 3)]
        self.which = np.array([r[0] for r in rows])
        self.dx, self.dy = (np.array([r[i] for r in rows], dtype=float) for i in (1, 2))
        self.halo = np.stack([r[3].ravel() for r in rows]).astype(np.float32)
        self.support = np.stack([r[4].ravel() for r in rows]).astype(np.float32)

    def _whole(self, radius):
        """Noise, power and number of pixels of a template that is nowhere cut off."""
        half = int(np.ceil(WIDEST * self.fwhm)) + 1
        halo, support = template(self.beam, self.scale, radius, (2 * half + 1,) * 2)
        zero_sum = np.where(support, halo - halo[support].mean(), 0.0)
        return np.sqrt(correlated_variance(zero_sum, self.beam, self.scale)), (zero_sum**2).sum(), support.sum()

    def search(self, data, rms, error, soft, sources, leftover):
        """Return the best halo of each cutout.

        Parameters
        ----------
        data, error : `~numpy.ndarray`
            ``(n, ny * nx)``: pixels without compact sources, and their errors.
        rms : `~numpy.ndarray`
            ``(n,)``.
        soft : float
            S/N beyond which pixels are compressed.
        sources : `~numpy.ndarray`
            Removed sources: rows of (cutout, x, y, peak, error).
        leftover : float
            Error of a removed source as a fraction of its peak.

        Returns
        -------
        dict of `~numpy.ndarray`
            ``(n,)`` each; NaN where nothing can be scored.
        """
        valid = np.isfinite(data) & (np.isfinite(rms) & (rms > 0))[:, None]
        offset = np.where(valid, data - _median(data)[:, None], 0.0)
        error = np.where(valid, error, 1.0)
        rms = np.where(np.isfinite(rms) & (rms > 0), rms, 1.0)
        pixels = soft * np.arcsinh(offset / error / soft) * error
        weight = np.where(valid, (rms[:, None] / error) ** 2, 0.0)
        excess = self._excess(np.where(valid, pixels / rms[:, None], 0.0), valid)

        weight32, weighted = weight.astype(np.float32), (weight * pixels / rms[:, None]).astype(np.float32)
        area, in_halo = weight32 @ self.support.T, weight32 @ self.halo.T
        mean = in_halo / np.maximum(area, 1e-6)
        signal = weighted @ self.halo.T - mean * (weighted @ self.support.T)
        power = weight32 @ (self.halo**2).T - mean * in_halo
        whole = self.power[self.which]
        usable = (area >= MIN_SUPPORT * self.size[self.which]) & (power > 0.05 * whole)
        power = np.where(usable, power, whole)
        # A template that has lost weight has lost signal in proportion, noise as the square root.
        noise = self.noise[self.which] * np.sqrt(power / whole) * excess[:, self.which]
        score = np.where(usable, signal / noise, -np.inf)
        best = score.argmax(axis=1)
        rows = np.arange(len(data))
        found = usable[rows, best]

        halo = np.where(self.support[best] > 0, self.halo[best] - mean[rows, best, None], 0.0) * weight
        amplitude = (halo * offset).sum(axis=1) / power[rows, best]
        spread = rms * noise[rows, best] / power[rows, best]
        left, compact = self._sources(sources, leftover, halo / power[rows, best, None], best)
        result = {
            "snr": score[rows, best],
            "r_e": self.radii[self.which[best]] * self.fwhm * self.scale.to_value(u.arcsec),
            "offset_x": self.dx[best], "offset_y": self.dy[best],
            "flux": FLUX_WITHIN_3RE * amplitude, "flux_noise": FLUX_WITHIN_3RE * spread,
            "flux_subtraction": FLUX_WITHIN_3RE * left, "compact_flux": compact[0], "compact_flux_err": compact[1],
        }
        return {name: np.where(found, values, np.nan) for name, values in result.items()}

    def _sources(self, sources, leftover, response, best):
        """Error of the flux from the removed sources, and what was removed within the halo.

        A source whose peak is off by δ leaves a beam of height δ, which changes the fitted flux by
        δ times the beam's area times the fit's response at its place.
        """
        n = len(best)
        number, x, y, peak, error = sources.T
        number = number.astype(int)
        error = np.hypot(error, leftover * peak)
        column = np.clip(np.rint(x), 0, self.shape[1] - 1).astype(int)
        row = np.clip(np.rint(y), 0, self.shape[0] - 1).astype(int)
        change = error * self.beam_area * response[number, row * self.shape[1] + column]
        middle = (np.array(self.shape[::-1]) - 1) / 2
        distance = np.hypot(x - middle[0] - self.dx[best[number]], y - middle[1] - self.dy[best[number]])
        inside = distance <= np.maximum(INNER * self.radii[self.which[best[number]]], 1.0) * self.fwhm
        left = np.sqrt(np.bincount(number, change**2, minlength=n))
        flux = np.bincount(number, peak * inside, minlength=n)
        return left, (flux, np.sqrt(np.bincount(number, error**2 * inside, minlength=n)))

    def _excess(self, pixels, valid):
        """Scatter of each template over each cutout, in units of beam-correlated noise; at least 1."""
        shape = self.shape
        spectrum = np.fft.rfft2(pixels.reshape(-1, *shape))
        gaps = not valid.all()
        cover = np.fft.rfft2(valid.reshape(-1, *shape).astype(float)) if gaps else None
        excess = np.ones((len(pixels), len(self.radii)))
        for k in np.flatnonzero(self.radii <= max(EXCESS_RADIUS, self.radii.min())):
            halo, support = template(self.beam, self.scale, self.radii[k], shape)
            zero_sum = np.where(support, halo - halo[support].mean(), 0.0)
            score = np.fft.irfft2(spectrum * np.conj(np.fft.rfft2(zero_sum)), shape) / self.noise[k]
            score = score.reshape(len(pixels), -1)
            if gaps:
                seen = np.fft.irfft2(cover * np.conj(np.fft.rfft2(support.astype(float))), shape) / support.sum()
                score[seen.reshape(score.shape) < 0.8] = np.nan
            excess[:, k] = np.maximum(robust_scatter(score), 1.0)
        widest = np.flatnonzero(self.radii <= max(EXCESS_RADIUS, self.radii.min()))
        widest = widest[np.argmax(self.radii[widest])]
        wider = self.radii > self.radii[widest]
        excess[:, wider] = excess[:, [widest]]
        return excess


def correlated_variance(weights, beam, pixel_scale):
    """Variance of a weighted sum over noise of unit rms that has the autocorrelation of the beam."""
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
