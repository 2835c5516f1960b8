"""A classifier and a generator in a distribution of their own."""

import numpy as np

from halopy.classify import Classifier
from halopy.generative import HaloGenerator


class CentralPeak(Classifier):
    """Grows with the brightest pixel of the central quarter, in units of the noise."""

    trainable = False

    def __init__(self, *, half=5.0):
        self.half = half

    def _predict_proba(self, cutouts):
        _, ny, nx = cutouts.shape
        centre = cutouts.data[:, ny // 4 : ny - ny // 4, nx // 4 : nx - nx // 4]
        known = np.isfinite(centre).all(axis=(1, 2))
        snr = np.where(known, np.nan_to_num(centre).max(axis=(1, 2)) / cutouts.table["rms"].value, np.nan)
        return 1 / (1 + np.exp(self.half - np.clip(snr, -30, 30)))


class Rings(HaloGenerator):
    """Thin rings, like odd radio circles, on white noise of rms 1."""

    trainable = False

    def __init__(self, *, radius=10.0, peak=8.0):
        self.radius = radius
        self.peak = peak

    def _sample(self, conditions, rng):
        y, x = np.indices((64, 64)) - 31.5
        ring = self.peak * np.exp(-0.5 * (np.hypot(x, y) - self.radius) ** 2)
        return ring + rng.normal(size=(len(conditions), 64, 64))
