"""Does augmentation help? Five classifiers with classical, generated and simulated images, on the same folds.

Usage: python benchmarks/augmentations.py {gleam,injected} -o FOLDER [--data FOLDER] [--folds 5] [--seeds 2]
       [--budget 30000] [--seed 20261128] [--classifiers NAME ...] [--only none] [--parts] [--rst FILE]
       [--figure FILE] [--gallery FILE]

- ``gleam``: the labelled GLEAM targets in four bands (``--data``: a folder with ``index.csv`` and ``mwa-gleam/``;
  default: HALOPY_TEST_DATA), in groups of sky; bands of a target are combined.
- ``injected``: 320 simulated cutouts of GLEAM and GLEAM-X at 170-231 MHz to train with, and 4096 to score, of
  another population (docs/benchmarks.rst says in what it differs); each is sky of its own.

Arms: the cutouts alone; the 160-fold classical set; two images for each cutout of ``cwgan`` and of ``diffusion``,
trained in every fold on its training part with ``--budget`` images shown, and of ``exponential``, the simulator; one
and three for ``dense`` and ``cnn``. ``gan-aided`` uses the critic of the fold's ``cwgan``. A classifier is shown
16,000 images at most, in whichever arm. ``--only none``: the classifiers alone, also those that need no generator.

FOLDER keeps every part: a stopped run goes on, and several that are started alike share the work. It ends with
``arms.ecsv``, ``costs.ecsv`` and ``index.html``, and prints the tables.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from halopy import Augmenter, CutoutSet, classifiers, generators
from halopy.classify.evaluate import cropped
from halopy.compare import arms_table, compare_augmentations, costs_table
from halopy.comparison_page import write_comparison
from halopy.errors import HalopyWarning
from halopy.learning.inputs import noise_level
from halopy.plot_comparison import plot_differences
from halopy.plot_quality import plot_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import real_sky
import training_sky

MWA = {"gleam-170-231": 1, "gleam-x-170-231": 1}
N_TRAIN, N_TEST, BLOCK = 320, 4096, 16
MODEL_IMAGES = 16_000
SEEN = 32
"""Pixels of a third of a beam that networks and generators see: eleven beams, so that they can learn in minutes."""
SIZE = {"gleam": 50, "injected": 32}
"""The same in pixels of the cutouts; classical augmentation needs the square root of two times as many."""
CWGAN = {"size": SEEN, "width": 16, "n_critic": 3, "learning_rate": 1e-3}
DIFFUSION = {"size": SEEN, "width": 24}
"""Chosen on simulated training sky: with their defaults both need more images than there is time for in each fold."""
NETWORKS = ("dense", "cnn", "attention-cnn")
ALONE = ("prevalence", "noise-only", "features-lr", "pca-lr", "matched-filter")


def gleam(folder):
    """Return the labelled GLEAM targets, four bands each, as one set."""
    sets = real_sky.gleam(folder)
    for band, cutouts in sets.items():
        table = cutouts.table.copy()
        table["group"] = real_sky.groups_of(cutouts)
        sets[band] = cutouts.replace(table=table)
    return real_sky.joined(sets), None


def injected(seed):
    """Return simulated cutouts to train with, and others to score."""
    # Not clipped: clipping acts on real and generated images alike, and hides the faint halos of both.
    same = training_sky.Population(clipped=0.0)
    # A block shares a beam and a declination: small blocks, so that few cutouts have many.
    blocks = [training_sky.cutouts(BLOCK, names=MWA, population=same, rng=[seed, 0, k]) for k in
              range(N_TRAIN // BLOCK)]
    train = blocks[0].join(*blocks[1:])
    shifted = training_sky.Population(**(vars(training_sky.SHIFTED) | {"clipped": 0.0}))
    test = training_sky.cutouts(N_TEST, names=MWA, population=shifted, rng=[seed, 1])
    return own_groups(cropped(train, (48, 48)), "training sky"), own_groups(cropped(test, (48, 48)), "test sky")


def own_groups(cutouts, name):
    """Every simulated cutout is sky of its own."""
    table = cutouts.table.copy()
    table["group"] = table["name"] = [f"{name} {k}" for k in range(len(table))]
    return cutouts.replace(table=table)


def models(chosen):
    """Return the classifiers with their default settings, on as many pixels as all arms show."""
    settings = {name: {"size": SEEN} for name in NETWORKS}
    settings["gan-aided"] = {"generator": generators.create("cwgan", **CWGAN)}
    return {name: classifiers.create(name, **settings.get(name, {})) for name in chosen}


def arms(sky, only):
    """Return the augmentations."""
    found = {"none": None, "classical": Augmenter(size=SIZE[sky]), "cwgan": generators.create("cwgan", **CWGAN),
             "diffusion": generators.create("diffusion", **DIFFUSION),
             "physical": generators.create("exponential", shape=(80, 80))}
    return {name: found[name] for name in only or found}


def rst(table, costs):
    """Return the table as reStructuredText: a line an arm, differences below the values."""
    rows = {(row["classifier"], row["arm"], row["metric"]): row for row in table}
    metrics = {"accuracy": "accuracy", "roc_auc": "ROC area", "brier": "Brier score",
               "recall@false_positive_rate=1%": "recall at 1 % FP"}
    cost = {(row["classifier"], row["arm"]): row["generator"] + row["images"] + row["training"] for row in costs}
    lines = [".. list-table::", "   :header-rows: 1", ""]
    before = None
    for pair in [None, *dict.fromkeys(pair[:2] for pair in rows)]:
        if pair is None:
            cells = ["classifier", "arm", *metrics.values(), "cost"]
        else:
            cells = ["" if pair[0] == before else pair[0], pair[1], *(cell(rows[*pair, metric]) for metric in metrics),
                     f"{cost[pair]:.0f}" if cost[pair] >= 10 else f"{cost[pair]:.1f}"]
            before = pair[0]
        lines += [f"   {'*' if k == 0 else ' '} - {text}".rstrip() for k, text in enumerate(cells)]
    return "\n".join(lines) + "\n"


def cell(row):
    """Return a value, and the difference with its interval, bold where that leaves out 0."""
    text = f"{row['value']:.3f}"
    if not np.isfinite(row["difference"]):
        return f"{text} ({row['low']:.2f} to {row['high']:.2f})"
    low, high = row["difference_low"], row["difference_high"]
    difference = f"{row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
    return f"{text}; **{difference}**" if low > 0 or high < 0 else f"{text}; {difference}"


def gallery(cutouts, scores, size):
    """Draw halos of the training set, and of each generator in the first fold."""
    sets = {"trained on": cutouts}
    for table in scores.values():
        if table.meta["example"] is not None:
            sets.setdefault(table.meta["augmentation"], CutoutSet.read(table.meta["example"]))
    rows = {}
    for name, one in sets.items():
        halos = cropped(one[np.flatnonzero(one.table["label"] == "halo")[:8]], (size, size))
        rows[name] = halos.data / noise_level(halos)[:, None, None]
    return plot_rows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sky", choices=["gleam", "injected"])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=os.environ.get("HALOPY_TEST_DATA"))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budget", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=20261128)
    parser.add_argument("--classifiers", nargs="+")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--parts", action="store_true", help="make the parts and stop: for further processes")
    parser.add_argument("--rst", type=Path, help="write the table for the documentation")
    parser.add_argument("--figure", type=Path, help="draw the differences")
    parser.add_argument("--gallery", type=Path, help="draw halos of the first fold, a row for each generator")
    arguments = parser.parse_args()
    if arguments.sky == "gleam" and arguments.data is None:
        parser.error("gleam needs --data FOLDER or HALOPY_TEST_DATA")
    alone = arguments.only == ["none"]
    chosen = arguments.classifiers or [*(ALONE if alone else ()), *NETWORKS, "gan-aided", "ensemble"]
    cutouts, test = gleam(arguments.data) if arguments.sky == "gleam" else injected(arguments.seed)
    with warnings.catch_warnings():
        # Said once here instead of in every fold: what a generator of few images cannot make is left out.
        warnings.simplefilter("ignore", HalopyWarning)
        scores = compare_augmentations(
            cutouts, models(chosen), arms(arguments.sky, arguments.only), folder=arguments.output,
            test=test, ratios={name: (1, 2, 3) if name in ("dense", "cnn") else (2,) for name in chosen},
            folds=arguments.folds, seeds=arguments.seeds, size=SIZE[arguments.sky], max_images=arguments.budget,
            model_images=MODEL_IMAGES, rng=arguments.seed)
    if arguments.parts:
        return
    n = 2000 if arguments.sky == "gleam" else 500
    table = arms_table(scores, n=n, rng=arguments.seed, progress=tqdm)
    costs = costs_table(scores)
    table.write(arguments.output / "arms.ecsv", overwrite=True)
    costs.write(arguments.output / "costs.ecsv", overwrite=True)
    write_comparison(arguments.output / "index.html", scores, table, cutouts=cutouts,
                     title=f"Does augmentation help? ({arguments.sky})", overwrite=True)
    if arguments.rst is not None:
        arguments.rst.write_text(rst(table, costs), encoding="utf-8")
    if arguments.figure is not None:
        plot_differences(table).savefig(arguments.figure, dpi=80)
    if arguments.gallery is not None:
        gallery(cutouts, scores, SIZE[arguments.sky]).savefig(arguments.gallery, dpi=70)
    first = table[0]
    print(f"{arguments.sky}: {len(cutouts)} cutouts to train with, {first['n_positive']} targets with a halo and "
          f"{first['n_negative']} without to score, in {first['n_groups']} groups; {arguments.folds} folds, "
          f"{arguments.seeds} seeds, torch {torch.__version__}, {torch.get_num_threads()} thread(s)")
    for metric in dict.fromkeys(table["metric"].tolist()):
        print(f"\n{metric}")
        rows = table[table["metric"] == metric]
        rows.pprint_all()
    print(f"\n{table.meta['n_beyond_zero']} of {table.meta['n_differences']} differences leave out 0; "
          f"{0.05 * table.meta['n_differences']:.1f} would by chance\n")
    costs.pprint_all()
    for metric in dict.fromkeys(table["metric"].tolist()):
        found = np.asarray(table["detectable"])[table["metric"] == metric]
        found = found[np.isfinite(found) & (found > 0)]
        if found.size:
            print(f"{metric}: the smallest true difference that four of five repeats would find: "
                  f"{found.min():.3f} to {found.max():.3f}")


if __name__ == "__main__":
    main()
