"""Every classifier on real sky that it has not seen: GLEAM targets in four bands, NVSS targets and control positions.

Usage: python benchmarks/real_evaluation.py --weights ensemble-simulated.safetensors [--data FOLDER] [--folds 5]
    [--seeds 5] [--seed 20261127] [--only gleam|nvss] [--no-networks] [--no-tuning]

FOLDER holds ``index.csv``, ``mwa-gleam/`` and ``nvss/`` (default: HALOPY_TEST_DATA). Groups are connected pieces of
sky, joined across both surveys; whatever learns from these images is trained without the group that it is scored on.
Bands of a target are combined before it is counted. Intervals are 95 %, by drawing groups.

- "ensemble, simulated" has been trained on simulated sky alone: it has seen none of these images, and is not trained
  again. What the simulated sky holds was chosen with a look at its results on these images, though.
- "ensemble, tuned" goes on from there with the labels of the training part of each fold.
- "forest on pixels" and "eight numbers" are models like those of published figures: a random forest on 64 x 64 pixels,
  and logistic regression on six numbers of the central brightness, the noise and the share of negative pixels.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy.optimize import linear_sum_assignment
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

from halopy import classifiers
from halopy.classify.base import Classifier
from halopy.classify.ensemble import Ensemble
from halopy.classify.evaluate import compare, cross_validate
from halopy.classify.features import noise_level
from halopy.classify.logistic import Logistic, training_labels
from halopy.classify.sklearn_model import SklearnClassifier
from halopy.errors import HalopyWarning
from halopy.labels import is_positive

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import real_sky
from train_ensemble import extra, tuned

DISPUTED = ("Abell 3186", "Abell 0122")
"""A double relic and a dead radio galaxy, by the papers that the list of halos cites."""
LITERATURE = {"A1656": 530, "A2254": 33.7, "A2319": 153, "A2744": 57.1, "A665": 43.1, "A773": 12.7,
              "MACS_J2243.3-0935": 3.1, "RXC_J1314.4-2515": 20.3}
"""Flux densities of the halos at 1.4 GHz in mJy (from memory: Feretti et al. 2012, arXiv 1205.1919, and papers cited
there; MACS J2243 scaled from 610 MHz)."""
REMEMBERED: dict[str, np.ndarray] = {}


class EightNumbers(Classifier):
    """Logistic regression on six numbers of the central brightness, the noise and the share of negative pixels."""

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        positive, used = training_labels(cutouts.table)
        self.logistic_ = Logistic.fit(self._numbers(cutouts[used]), positive[used], C=1.0)

    def _predict_proba(self, cutouts):
        return self.logistic_(self._numbers(cutouts))

    def _numbers(self, cutouts):
        ny, nx = cutouts.shape[1:]
        y, x = np.indices((ny, nx)) - np.array([(ny - 1) / 2, (nx - 1) / 2])[:, None, None]
        radius = np.hypot(y, x)
        data, noise = np.nan_to_num(cutouts.data.astype(float)), noise_level(cutouts)
        inner, outer = data[:, radius <= 4], data[:, (radius > 4) & (radius <= 12)]
        numbers = [np.arcsinh(v / noise) for v in (inner.max(axis=1), inner.mean(axis=1), outer.max(axis=1),
                                                   outer.mean(axis=1), inner.std(axis=1))]
        wide = data[:, radius <= 32]
        return np.column_stack([*numbers, (wide != 0).mean(axis=1), np.log(noise), (wide < 0).mean(axis=1)])


class Fixed(Classifier):
    """A trained model that no fold trains again."""

    trainable = False

    def __init__(self, model=None):
        self.model = model

    def _predict_proba(self, cutouts):
        return self.model.predict_proba(cutouts)


class Tuned(Classifier):
    """Goes on from a trained ensemble with the training part, and a share of the sky that it was trained on."""

    beside = None

    def __init__(self, base=None):
        self.base = base

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        self.model_ = tuned(self.base, cutouts, self.beside, rng=rng)

    def _predict_proba(self, cutouts):
        return self.model_.predict_proba(cutouts)


class Remembering(Ensemble):
    """An ensemble that measures a cutout once, whichever fold asks."""

    def _inputs(self, cutouts):
        keys = [hashlib.blake2b(plane.tobytes()).hexdigest() for plane in cutouts.data]
        new = [i for i, key in enumerate(keys) if key not in REMEMBERED]
        if new:
            REMEMBERED.update(zip([keys[i] for i in new], super()._inputs(cutouts[new]), strict=True))
        return np.stack([REMEMBERED[key] for key in keys])


def remembering(path):
    """Return the ensemble of a file as one that remembers."""
    model = Ensemble.load(path)
    made = Remembering(**model.params)
    made._set_state(model._state())
    made.groups_, made.trained_on_, made.fitted_ = model.groups_, model.trained_on_, True
    return made


def models(base, networks):
    """Return every model by name; the baselines first."""
    made = {"prevalence": classifiers.create("prevalence"), "noise-only": classifiers.create("noise-only"),
            "pca-lr": classifiers.create("pca-lr"), "features-lr": classifiers.create("features-lr"),
            "matched-filter": classifiers.create("matched-filter"), "eight numbers": EightNumbers(),
            "forest on pixels": SklearnClassifier(RandomForestClassifier(n_estimators=200), input="pixels")}
    if networks:
        made |= {name: classifiers.create(name, max_epochs=25) for name in ("cnn", "attention-cnn", "dense")}
    return made | {"ensemble, simulated": Fixed(base)}


BASELINES = ("prevalence", "noise-only", "pca-lr", "features-lr", "matched-filter", "eight numbers", "forest on pixels")


def matched(sets):
    """Return the names of halos and others that pair off in clip level and declination."""
    table = next(iter(sets.values())).table
    level = np.mean([np.log(u.Quantity(s.table["clip_level"]).value) for s in sets.values()], axis=0)
    declination = SkyCoord(table["position"]).icrs.dec.deg
    positive = is_positive(table)
    one, two = np.flatnonzero(positive), np.flatnonzero(~positive)
    apart = np.abs(level[one][:, None] - level[two]) / 0.35, np.abs(declination[one][:, None] - declination[two]) / 20
    distance = np.maximum(*apart)
    a, b = linear_sum_assignment(np.minimum(distance, 10))
    near = distance[a, b] <= 1
    return {str(table["name"][i]) for i in (*one[a[near]], *two[b[near]])}


def show(scores, title, rng, pooled=False):
    """Print a line a model: metrics with their intervals, and the difference in AUC to the best baseline."""
    auc = "roc_auc_pooled" if pooled else "roc_auc"
    first = compare(scores, n=2, rng=rng)
    value = {row["model"]: row["value"] for row in first if row["metric"] == auc}
    best = max((name for name in BASELINES if np.isfinite(value.get(name, np.nan))), key=value.get)
    table = compare(scores, baseline=best, n=1000, rng=rng)
    one = table[0]
    print(f"\n{title}: {one['n_positive']} halos, {one['n_negative']} others, {one['n_groups']} groups; "
          f"{table.meta['n_unscored']} not scored; best baseline: {best}")
    print(f"{'':20s}{'AUC':>20s}{'accuracy':>20s}{'Brier':>20s}{'recall at 1 % FP':>20s}{'AUC less best':>24s}")
    for name in scores:
        rows = {row["metric"]: row for row in table[table["model"] == name]}
        cells = "".join(f"{rows[m]['value']:>7.3f} [{rows[m]['low']:.2f}, {rows[m]['high']:.2f}]"
                        for m in (auc, "accuracy", "brier", "recall@false_positive_rate=1%"))
        row = rows[auc]
        difference = f"{row['difference']:+.3f} [{row['difference_low']:+.2f}, {row['difference_high']:+.2f}]"
        print(f"{name:20s}{cells}{difference:>24s}", flush=True)


def rows_of(scores, keep):
    return {name: table[keep(table)] for name, table in scores.items()}


def missed(scores, fields):
    """Print which halos lie below the level that 1 % of the controls exceed, and how far a filter would see them."""
    measured = classifiers.create("matched-filter").measure(fields)
    for name in ("matched-filter", "ensemble, simulated", "ensemble, tuned"):
        if name not in scores:
            continue
        table = scores[name]
        mean = np.mean(np.asarray(table["probability"]), axis=1)
        centre = np.asarray(fields.table["centre"])
        level = np.nanquantile(mean[~centre], 0.99)
        halos = np.flatnonzero(centre & is_positive(fields.table))
        below = [f"{fields.table['name'][i]} (p = {mean[i]:.2f}; S/N "
                 f"{LITERATURE[fields.table['name'][i]] / measured['flux_noise'][i].to_value(u.mJy):.0f} at "
                 f"{LITERATURE[fields.table['name'][i]]:g} mJy)" for i in halos if not mean[i] > level]
        print(f"{name}: {len(halos) - len(below)} of {len(halos)} above the level of 1 % of the controls, {level:.3f}; "
              f"missed: {', '.join(below) or 'none'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("HALOPY_TEST_DATA"))
    parser.add_argument("--weights", type=Path, required=True, help="ensemble-simulated.safetensors")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--only", choices=("gleam", "nvss"))
    parser.add_argument("--no-networks", action="store_true")
    parser.add_argument("--no-tuning", action="store_true")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data FOLDER, or the environment variable HALOPY_TEST_DATA")
    warnings.simplefilter("ignore", HalopyWarning)
    settings = {"folds": arguments.folds, "seeds": arguments.seeds, "rng": arguments.seed}
    sets, fields = real_sky.joint_groups(real_sky.gleam(arguments.data), real_sky.nvss(arguments.data))
    base = remembering(arguments.weights)
    print(f"{arguments.folds} folds x {arguments.seeds} seeds, seed {arguments.seed}, one thread; intervals 95 %")

    tuned_scores = None
    if not arguments.no_tuning:
        many = real_sky.nvss(arguments.data, n_controls=120, apart=3)
        many = real_sky.joint_groups(sets, many)[1]
        Tuned.beside = extra(many, seed=arguments.seed)
        tuned_scores = cross_validate(Tuned(base), real_sky.joined(sets, fields), progress=partial(tqdm, disable=None),
                                      **settings)
    if arguments.only != "nvss":
        scores = {name: cross_validate(model, sets, **settings)
                  for name, model in models(base, not arguments.no_networks).items()}
        if tuned_scores is not None:
            scores["ensemble, tuned"] = tuned_scores[np.asarray(tuned_scores["survey"]) != "nvss"]
        show(scores, "GLEAM, four bands combined", arguments.seed)
        show(scores, "the same, pairs of all folds", arguments.seed, pooled=True)
        show(rows_of(scores, lambda t: ~np.isin(t["name"], DISPUTED)), "GLEAM without A3186 and A0122", arguments.seed)
        pairs = matched(sets)
        show(rows_of(scores, lambda t: np.isin(t["name"], list(pairs))), "GLEAM, clip level and declination matched",
             arguments.seed)
        for band in sets:
            part = rows_of(scores, lambda t, band=band: np.asarray(t["survey"]) == band)
            show({k: part[k] for k in part if k.startswith(("ensemble", "matched", "features"))}, band, arguments.seed)
    if arguments.only != "gleam":
        scores = {name: cross_validate(model, fields, **settings)
                  for name, model in models(base, not arguments.no_networks).items()}
        if tuned_scores is not None:
            scores["ensemble, tuned"] = tuned_scores[np.asarray(tuned_scores["survey"]) == "nvss"]
        show(rows_of(scores, lambda t: t["positive"] | (np.asarray(t["label"]) == "blank")), "NVSS, halos and controls",
             arguments.seed, pooled=True)
        centres = np.asarray(fields.table["name"])[np.asarray(fields.table["centre"])]
        show(rows_of(scores, lambda t: np.isin(t["name"], centres)), "NVSS, halos and other targets", arguments.seed,
             pooled=True)
        missed(scores, fields)


if __name__ == "__main__":
    main()
