"""Every classifier on real sky that it has not seen: GLEAM targets in four bands, NVSS targets and control positions.

Usage: python benchmarks/real_evaluation.py --weights ensemble-simulated.safetensors [--data FOLDER] [--folds 5]
    [--seeds 5] [--tuning-seeds 2] [--seed 20261127] [--scores FOLDER]

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
from astropy.table import QTable
from scipy.optimize import linear_sum_assignment
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

from halopy import classifiers
from halopy.classify import metrics
from halopy.classify.base import Classifier
from halopy.classify.bootstrap import group_bootstrap
from halopy.classify.ensemble import Ensemble
from halopy.classify.evaluate import cross_validate
from halopy.classify.features import noise_level
from halopy.classify.logistic import Logistic, training_labels
from halopy.classify.scores import scored as scored_targets
from halopy.classify.sklearn_model import SklearnClassifier
from halopy.cutouts import write_atomically
from halopy.errors import HalopyWarning
from halopy.labels import is_positive

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import real_sky
from injected_halos import Remembering
from train_ensemble import extra, tuned

DISPUTED = ("Abell 3186", "Abell 0122")
"""A double relic and a dead radio galaxy, by the papers that the list of halos cites."""
LITERATURE = {"A1656": 530, "A2254": 33.7, "A2319": 153, "A2744": 57.1, "A665": 43.1, "A773": 12.7,
              "MACS_J2243.3-0935": 3.1, "RXC_J1314.4-2515": 20.3}
"""Flux densities of the halos at 1.4 GHz in mJy (from memory: Feretti et al. 2012, arXiv 1205.1919, and papers cited
there; MACS J2243 scaled from 610 MHz)."""


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


def models(base):
    """Return every model by name; the baselines first."""
    made = {"prevalence": classifiers.create("prevalence"), "noise-only": classifiers.create("noise-only"),
            "pca-lr": classifiers.create("pca-lr"), "features-lr": classifiers.create("features-lr"),
            "matched-filter": classifiers.create("matched-filter"), "eight numbers": EightNumbers(),
            "forest on pixels": SklearnClassifier(RandomForestClassifier(n_estimators=200), input="pixels")}
    made |= {name: classifiers.create(name, max_epochs=25) for name in ("cnn", "attention-cnn", "dense")}
    return made | {"ensemble, simulated": Fixed(base)}


def scores_of(survey, name, model, cutouts, folder, **settings):
    """Return the scores of a model; those that a stopped run has left in the folder are read."""
    path = None if folder is None else folder / f"{survey}-{name.replace(', ', '-').replace(' ', '-')}.ecsv"
    if path is not None and path.exists():
        return QTable.read(path, format="ascii.ecsv")
    table = cross_validate(model, cutouts, **settings)
    if path is not None:
        table.meta.pop("history", None)
        write_atomically(path, lambda temporary: table.write(temporary, format="ascii.ecsv"))
    return table


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


def numbers(probability, positive, fold, pooled):
    """Return AUC, accuracy, Brier score and recall at 1 % false positives, ``(4,)``, mean over the seeds."""
    return np.mean([[metrics.roc_auc(p, positive, within=None if pooled else f), np.mean((p >= 0.5) == positive),
                     metrics.brier(p, positive), metrics.recall_at_false_positive_rate(p, positive, 0.01)]
                    for p, f in zip(probability.T, fold.T, strict=True)], axis=0)


def show(scores, title, rng, pooled=False):
    """Print a line a model: metrics with their intervals, and the difference in AUC to the best baseline."""
    tables, unscored = scored_targets(scores, "name")
    names, first = list(tables), next(iter(tables.values()))
    positive, groups = np.asarray(first["positive"]), np.asarray(first["group"])
    columns = [np.asarray(table[name]) for table in tables.values() for name in ("probability", "fold")]

    def statistic(positive, *columns):
        return np.array([numbers(columns[2 * k], positive, columns[2 * k + 1], pooled) for k in range(len(names))])

    value = statistic(positive, *columns)
    baselines = [k for k, name in enumerate(names) if name in BASELINES]
    best = max(baselines, key=lambda k: value[k, 0])

    def with_difference(*arrays):
        found = statistic(*arrays)
        return np.column_stack([found, found[:, 0] - found[best, 0]])

    value, low, high = group_bootstrap(with_difference, groups, positive, *columns, n=1000, strata=positive, rng=rng)
    print(f"\n{title}: {positive.sum()} halos, {(~positive).sum()} others, {len(np.unique(groups))} groups; "
          f"{unscored} not scored; best baseline: {names[best]}")
    print(f"{'':20s}{'AUC':>20s}{'accuracy':>20s}{'Brier':>20s}{'recall at 1 % FP':>20s}{'AUC less best':>24s}")
    for k, name in enumerate(names):
        cells = "".join(f"{value[k, m]:>7.3f} [{low[k, m]:.2f}, {high[k, m]:.2f}]" for m in range(4))
        difference = f"{value[k, 4]:+.3f} [{low[k, 4]:+.2f}, {high[k, 4]:+.2f}]"
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
    parser.add_argument("--tuning-seeds", type=int, default=2, help="of the ensemble that is tuned in every fold")
    parser.add_argument("--scores", type=Path, help="folder where the scores are kept, so that a stopped run goes on")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data FOLDER, or the environment variable HALOPY_TEST_DATA")
    warnings.simplefilter("ignore", HalopyWarning)
    base, kept = Ensemble.load(arguments.weights), arguments.scores
    base.__class__ = Remembering  # it only remembers: weights and settings stay
    if kept is not None:
        # Scores of other weights or settings are not these.
        settings = f"{arguments.folds} {arguments.seeds} {arguments.tuning_seeds} {arguments.seed} {base.weights_id}"
        kept = kept / hashlib.blake2b(settings.encode(), digest_size=6).hexdigest()
        kept.mkdir(parents=True, exist_ok=True)
    scored = partial(scores_of, folder=kept, folds=arguments.folds, rng=arguments.seed)
    sets, fields = real_sky.joint_groups(real_sky.gleam(arguments.data), real_sky.nvss(arguments.data))
    print(f"{arguments.folds} folds x {arguments.seeds} seeds ({arguments.tuning_seeds} where tuned), seed "
          f"{arguments.seed}, one thread; intervals 95 %")

    many = real_sky.joint_groups(sets, real_sky.nvss(arguments.data, n_controls=120, apart=3))[1]
    Tuned.beside = extra(many, seed=arguments.seed)
    both = scored("both", "ensemble, tuned", Tuned(base), real_sky.joined(sets, fields), seeds=arguments.tuning_seeds,
                  progress=partial(tqdm, disable=None))
    in_nvss = np.asarray(both["survey"]) == "nvss"

    scores = {name: scored("gleam", name, model, sets, seeds=arguments.seeds) for name, model in models(base).items()}
    scores["ensemble, tuned"] = both[~in_nvss]
    show(scores, "GLEAM, four bands combined", arguments.seed)
    show(scores, "the same, pairs of all folds", arguments.seed, pooled=True)
    show(rows_of(scores, lambda t: ~np.isin(t["name"], DISPUTED)), "GLEAM without A3186 and A0122", arguments.seed)
    pairs = matched(sets)
    show(rows_of(scores, lambda t: np.isin(t["name"], list(pairs))), "GLEAM, clip level and declination matched",
         arguments.seed)
    for band in sets:
        part = rows_of(scores, lambda t, band=band: np.asarray(t["survey"]) == band)
        show({k: part[k] for k in part if k.startswith(("ensemble", "matched", "features"))}, band, arguments.seed)

    scores = {name: scored("nvss", name, model, fields, seeds=arguments.seeds) for name, model in models(base).items()}
    scores["ensemble, tuned"] = both[in_nvss]
    show(rows_of(scores, lambda t: np.asarray(t["positive"]) | (np.asarray(t["label"]) == "blank")),
         "NVSS, halos and controls", arguments.seed, pooled=True)
    centres = np.asarray(fields.table["name"])[np.asarray(fields.table["centre"])]
    show(rows_of(scores, lambda t: np.isin(t["name"], centres)), "NVSS, halos and other targets", arguments.seed,
         pooled=True)
    missed(scores, fields)


if __name__ == "__main__":
    main()
