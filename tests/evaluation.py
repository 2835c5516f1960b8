"""Small classifiers with known behaviour, and cutouts to judge them by."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy.classify import Classifier
from halopy.cutouts import CutoutSet
from halopy.generative import HaloGenerator
from halopy.labels import is_positive


class Mean(Classifier):
    """The logistic of the mean pixel; nothing is learnt."""

    trainable = False

    def __init__(self, *, slope=1.0):
        self.slope = slope

    def _predict_proba(self, cutouts):
        return 1 / (1 + np.exp(-self.slope * cutouts.data.mean(axis=(1, 2), dtype=float)))


class Nearest(Classifier):
    """Gives the answer of the most similar training image: it remembers, and learns nothing."""

    def __init__(self, *, generator=None):
        self.generator = generator

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        self.seen, self.answers = cutouts.data.reshape(len(cutouts), -1), is_positive(cutouts.table)
        self.n_seen = len(cutouts)
        self.history = QTable({"epoch": [1, 2], "loss": [1.0, 0.5]})

    def _predict_proba(self, cutouts):
        own = cutouts.data.reshape(len(cutouts), -1)
        distance = ((own[:, None] - self.seen[None]) ** 2).sum(axis=2)
        return np.where(self.answers[distance.argmin(axis=1)], 0.9, 0.1)


class Share(Classifier):
    """The share of halos in training, for everything."""

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        self.share = is_positive(cutouts.table).mean()

    def _predict_proba(self, cutouts):
        return np.full(len(cutouts), self.share)


class Copies(HaloGenerator):
    """Gives training images back."""

    fits = []

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        self.data = cutouts.data
        type(self).fits.append(sorted(set(np.asarray(cutouts.table["group"]).tolist())))

    def _sample(self, conditions, rng):
        return self.data[rng.integers(len(self.data), size=len(conditions))]


def some(n_groups=20, each=1, *, signal=1.0, likeness=0.0, share=0.5, rng=1):
    """Cutouts of 4 × 4 pixels, ``each`` of a group; halos are brighter by ``signal`` sigma of the mean.

    Cutouts of a group share a pattern of ``likeness`` sigmas: they look alike, whatever they are.
    """
    rng = np.random.default_rng(rng)
    member = np.repeat(np.arange(n_groups), each)
    positive = (rng.permutation(n_groups) < share * n_groups)[member]
    data = rng.normal(size=(len(member), 4, 4)) + likeness * rng.normal(size=(n_groups, 4, 4))[member]
    data += signal / 4 * positive[:, None, None]
    number = np.tile(np.arange(each), n_groups)
    table = QTable({
        "name": np.array([f"cluster {g}" for g in member]), "group": np.array([f"group {g}" for g in member]),
        "label": np.where(positive, "halo", np.where(member % 2 == 0, "blank", "none")),
        "band": np.array([f"band {b}" for b in number]), "m500": (1.0 + member % 8) * 1e14 * u.solMass,
        "pixel_scale": np.full(len(member), 0.25) * u.deg,
        "position": SkyCoord(10.0 * member % 360, np.full(len(member), -30.0), unit="deg")})
    return CutoutSet(data, table)
