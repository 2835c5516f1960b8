"""What the protocol of the talk is worth: augmented images split at random, against whole groups of sky held out.

Usage: python benchmarks/talk_protocol.py [--data FOLDER] [--models NAME ...] [--protocols NAME ...] [--seeds 2]
           [--permutations 5] [--members 16] [--epochs 12] [--seed 20261122]

FOLDER holds the labelled GLEAM images of arXiv:2411.15559 (default: HALOPY_TEST_DATA); the four bands of GLEAM are
used. Three protocols, of one and the same training (no early stopping; 80 % of the data train, the rest is scored):

augmented   images are augmented, then split at random, in the talk's order: copies of an image are on both sides;
            each run is one split, every augmented image of the test part is scored
images      images are split, then augmented: the other bands of a target are on both sides; five folds
groups      whole groups of sky are split (StratifiedGroupKFold), five folds; each image is scored, and each
            target, its bands combined by the mean of their log-odds

With "true" labels, and with labels dealt at random to whole groups of sky, of which nothing can be learnt about
other sky: what a protocol then reports above 0.5 it would report of anything.

The preparation is the talk's. The published images are clipped at 3 sigma; their middle, 64 pixels of the band's own,
is scaled by logarithm and min-max (`LogMinMax`), then turned by multiples of 45 degrees, mirrored, and multiplied by
random factors of 0.9 to 1.3. The talk takes all 16 orientations times 10 factors; ``--members 16`` takes each
orientation once, with a factor of its own; ``--members 160`` each ten times. The networks see these numbers as they
are, not `halopy.learning.inputs.model_input`: that takes pixels for flux densities, divides them by a noise that the
clip has removed, and so undoes the factors. So does ``pca-lr``. ``features-lr`` and ``noise-only`` measure the same
cutouts in Jy/beam, with the same turns and factors: their numbers are relative to the noise of each image.

Intervals are 95 %: of true labels from drawing groups of sky (1000 bootstraps; the value is the mean over the seeds),
of labels at random Student's t over the permutations. One thread (set OMP_NUM_THREADS=1); about 20 minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import QTable, vstack
from scipy.stats import t

from halopy import Augmenter, LogMinMax
from halopy.classify import metrics
from halopy.classify.attention import AttentionClassifier
from halopy.classify.cnn import ConvolutionalClassifier
from halopy.classify.dense import DenseClassifier
from halopy.classify.evaluate import cropped, deal, prepared, report
from halopy.classify.features_lr import FeaturesLR
from halopy.classify.noise_only import NoiseOnly
from halopy.classify.pca_lr import PcaLR
from halopy.classify.scores import combine
from halopy.io.dataset import load_mwa_halos

BANDS = ("gleam-72-103", "gleam-103-134", "gleam-139-170", "gleam-170-231")
SIZE = 64
FOLDS = 5
METRICS = ("accuracy", "precision", "recall", "specificity", "f1", "roc_auc")
PROTOCOLS = ("augmented", "images", "groups")


class AsGiven:
    """Networks that see the scaled pixels as they are."""

    def _inputs(self, cutouts):
        return np.ascontiguousarray(cutouts.data)


class Convolutional(AsGiven, ConvolutionalClassifier):
    pass


class Attention(AsGiven, AttentionClassifier):
    pass


class Dense(AsGiven, DenseClassifier):
    pass


class Pca(PcaLR):
    def _pixels(self, cutouts):
        return np.ascontiguousarray(cutouts.data)


class Features(FeaturesLR):
    """Measures each image once: the same ones come in every fold."""

    known: dict = {}

    def _features(self, cutouts):
        keys = [hash(image.tobytes()) for image in cutouts.data]
        new = [row for row, key in enumerate(keys) if key not in self.known]
        if new:
            self.known.update(zip([keys[row] for row in new], super()._features(cutouts[new]), strict=True))
        return np.array([self.known[key] for key in keys])


NETWORKS = {"cnn": Convolutional, "attention-cnn": Attention, "dense": Dense}
BASELINES = {"features-lr": Features, "pca-lr": Pca, "noise-only": NoiseOnly}
SCALED = (*NETWORKS, "pca-lr")


def model_named(name, epochs):
    # Augmented already; and who stops early by held-out images has looked at them.
    return NETWORKS[name](views=1, augment=False, validation_fraction=0, max_epochs=epochs) if name in NETWORKS \
        else BASELINES[name]()


def load(folder):
    """Return the middles of the images in Jy/beam, and which show a halo; 96 pixels, for turns by 45 degrees."""
    sets = load_mwa_halos(folder, bands=BANDS)
    cutouts, positive = prepared({band: cropped(one, (96, 96)) for band, one in sets.items()}, "group")
    return cutouts, positive


def scaled(cutouts):
    """The talk's scaling. The noise is no longer in the unit of the pixels."""
    table = cutouts.table.copy()
    table.remove_column("rms")
    return LogMinMax()(cutouts.replace(table=table))


def labelled(cutouts, positive):
    table = cutouts.table.copy()
    # What a group was before must not tell on.
    table.remove_columns([name for name in ("also", "grade") if name in table.colnames])
    table["label"] = np.where(positive, "halo", "none")
    return cutouts.replace(table=table)


def at_random(groups, positive, rng):
    """Deal the labels of whole groups anew."""
    _, member = np.unique(groups, return_inverse=True)
    return rng.permutation(np.bincount(member, positive) / np.bincount(member) >= 0.5)[member]


def run(make, protocol, whole, many, positive, seed):
    """Return a table of the scores of what one run has held out."""
    groups = np.asarray(whole.table["group"]).astype(str)
    origin = np.asarray(many.table["augmented_from"])
    whole, many = labelled(whole, positive), labelled(many, positive[origin])
    rng = np.random.default_rng(seed)
    if protocol == "augmented":
        train, test = deal(positive[origin], np.arange(len(many)).astype(str), FOLDS, seed)[0]
        probability = make().fit(many[train], rng=rng, progress=False).predict_proba(many[test])
        origin = origin[test]
        fold = np.zeros(len(test), dtype=int)
    else:
        probability, fold = np.full(len(whole), np.nan), np.zeros(len(whole), dtype=int)
        kept = np.arange(len(whole)).astype(str) if protocol == "images" else groups
        for part, (train, test) in enumerate(deal(positive, kept, FOLDS, seed)):
            model = make().fit(many[np.isin(origin, train)], rng=rng, progress=False)
            probability[test], fold[test] = model.predict_proba(whole[test]), part
        origin = np.arange(len(whole))
    return QTable({"name": np.asarray(whole.table["name"])[origin].astype(str), "group": groups[origin],
                   "positive": positive[origin], "probability": probability[:, None], "fold": fold[:, None]})


def numbers(scores):
    """Return the metrics of one run."""
    probability, fold = np.asarray(scores["probability"])[:, 0], np.asarray(scores["fold"])[:, 0]
    known = np.isfinite(probability)
    probability, fold, positive = probability[known], fold[known], np.asarray(scores["positive"])[known]
    values = [getattr(metrics, name)(probability, positive) for name in METRICS[:-1]]
    return [*values, metrics.roc_auc(probability, positive, within=fold)]


def over_runs(tables):
    """Return mean, low and high of each metric, by Student's t over the runs."""
    values = np.array([numbers(table) for table in tables], dtype=float)
    n = np.isfinite(values).sum(axis=0)
    mean, half = np.nanmean(values, axis=0), np.full(len(METRICS), np.nan)
    several = n > 1
    half[several] = (t.ppf(0.975, n - 1) * np.nanstd(values, axis=0, ddof=1) / np.sqrt(n))[several]
    return mean, np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)


def over_groups(tables, protocol, seed):
    """Return value, low and high of each metric, from drawing groups of sky."""
    if protocol == "augmented":
        # Each run has held out other images; those of one run are compared with each other.
        joined = vstack([table["name", "group", "positive", "probability"] for table in tables])
        joined["fold"] = np.repeat(np.arange(len(tables)), [len(table) for table in tables])[:, None]
    else:
        joined = tables[0].copy()
        for name in ("probability", "fold"):
            joined[name] = np.hstack([np.asarray(table[name]) for table in tables])
    found = report(joined, combine=None, n=1000, rng=seed)
    rows = [found["metric"].tolist().index(name) for name in METRICS]
    return tuple(np.asarray(found[name])[rows] for name in ("value", "low", "high"))


def line(name, found):
    return f"{name:39s}" + "".join(f"{v:6.2f} [{a:4.2f}, {b:4.2f}]" for v, a, b in zip(*found, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("HALOPY_TEST_DATA"))
    parser.add_argument("--models", nargs="+", default=[*NETWORKS, *BASELINES], choices=[*NETWORKS, *BASELINES])
    parser.add_argument("--protocols", nargs="+", default=PROTOCOLS, choices=PROTOCOLS)
    parser.add_argument("--seeds", type=int, default=2, help="runs with the true labels")
    parser.add_argument("--permutations", type=int, default=5, help="runs with labels at random")
    parser.add_argument("--members", type=int, default=16, help="augmented copies of each image")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=20261122)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data FOLDER, or the environment variable HALOPY_TEST_DATA")
    sky, positive = load(arguments.data)
    groups = np.asarray(sky.table["group"]).astype(str)
    augmenter = Augmenter(draw=arguments.members, size=SIZE)
    # Each image is augmented by itself, so that this can be done before a split as well as after.
    sets = [{kind: (cropped(cutouts, (SIZE, SIZE)), augmenter(cutouts, rng=arguments.seed + number))
             for kind, cutouts in (("sky", sky), ("scaled", scaled(sky)))} for number in range(arguments.seeds)]
    found = {}
    for labels, runs in (("true", arguments.seeds), ("random", arguments.permutations)):
        for number in range(runs):
            seed = arguments.seed + number
            truth = positive if labels == "true" else at_random(groups, positive, np.random.default_rng(seed))
            for name in arguments.models:
                data = sets[number % arguments.seeds]["scaled" if name in SCALED else "sky"]
                for protocol in arguments.protocols:
                    table = run(partial(model_named, name, arguments.epochs), protocol, *data, truth, seed)
                    found.setdefault((name, protocol, labels), []).append(table)
                print(f"{labels} labels, seed {seed}: {name}, {time.process_time():.0f} s", file=sys.stderr, flush=True)

    n_targets = len(set(sky.table["name"].tolist()))
    print(f"{len(sky)} images of {n_targets} targets in {len(set(groups))} groups of sky, {positive.sum()} with halo; "
          f"{arguments.members}\naugmented copies each, {arguments.epochs} epochs, {arguments.seeds} runs with true "
          f"labels, {arguments.permutations} with labels at random, seed {arguments.seed}")
    for name in arguments.models:
        print(f"\n{name:39s}" + "".join(f"{metric.replace('roc_auc', 'AUC'):^20s}" for metric in METRICS).rstrip())
        for protocol in arguments.protocols:
            views = {protocol: lambda table: table}
            if protocol == "groups":
                views = {"groups, each image": lambda table: table, "groups, bands combined": combine}
            for what, view in views.items():
                for labels in ("true", "random"):
                    tables = [view(table) for table in found[name, protocol, labels]]
                    print(line(f"{what}, {labels} labels", over_groups(tables, protocol, arguments.seed)
                               if labels == "true" else over_runs(tables)))


if __name__ == "__main__":
    main()
