"""Classifiers and generators that remember what they were given, and a small comparison of them."""

from __future__ import annotations

import numpy as np
from astropy.utils.masked import Masked
from evaluation import Mean, Nearest, some

from halopy.classify import Classifier
from halopy.compare import compare_augmentations
from halopy.generative import HaloGenerator


class Remembers(HaloGenerator):
    """Gives training images back, with a little noise; it can be saved."""

    fits = []

    def __init__(self, *, n_images=100, noise=0.1):
        self.n_images = n_images
        self.noise = noise

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        self.data = cutouts.data.copy()
        self.fits.append({"groups": set(cutouts.table["group"].tolist()), "n_images": self.n_images,
                          "max_images": max_images, "checkpoint": checkpoint})

    def _sample(self, conditions, rng):
        rows = rng.integers(len(self.data), size=len(conditions))
        return self.data[rows] + rng.normal(0, self.noise, (len(rows), *self.data.shape[1:]))

    def _state(self):
        return {"data": self.data} if self.fitted_ else {}

    def _set_state(self, state):
        super()._set_state(state)
        self.data = state["data"]


class Counts(Classifier):
    """Remembers what it was trained with; its probability depends on nothing else."""

    fits = []

    def __init__(self, *, generator=None):
        self.generator = generator

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        self.fits.append({"cutouts": cutouts, "max_images": max_images, "draw": int(rng.integers(2**31)),
                          "generator": self.generator})

    def _predict_proba(self, cutouts):
        return np.full(len(cutouts), 0.5)


class Shy(Mean):
    """Cannot score two of the cutouts."""

    def _predict_proba(self, cutouts):
        shy = np.isin(np.asarray(cutouts.table["name"]), ["cluster 3", "cluster 4"])
        return np.where(shy, np.nan, super()._predict_proba(cutouts))


def small(folder, models=None, augmentations=None, cutouts=None, **settings):
    settings = {"folds": 4, "seeds": 1, "rng": 1, "progress": False} | settings
    return compare_augmentations(some(20) if cutouts is None else cutouts, models or {"nearest": Nearest()},
                                 augmentations or {"none": None}, folder=folder, **settings)


def masked(cutouts):
    """The same cutouts; of one, nobody knows the mass."""
    table = cutouts.table.copy()
    table["m500"] = Masked(table["m500"], mask=np.arange(len(table)) == 3)
    return cutouts.replace(table=table)
