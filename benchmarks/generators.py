"""How good generated images are: shipped generators against the simulator, simple baselines and real sky.

Usage: python benchmarks/generators.py [--data FOLDER] [--model NAME=FILE ...] [-n 2048] [--draws 100]
    [--seed 20261128] [-o FOLDER]

Simulated: ``n`` cutouts of sky that no generator has seen (that of ``tools/train_generators.py``, another seed) against
as many images of each generator with the same labels and frequencies, against the training images smoothed by their
beam, a Gaussian random field fitted to them, and other cutouts of the same simulator. Real, with ``--data``
(``index.csv``, ``mwa-gleam/``, ``nvss/``): the labelled GLEAM cutouts, clipped as published, against images that are
clipped in the same way; and NVSS targets and control positions, full sky. Every measure stands beside its floor, real
against real for the same number of images. ``-o`` writes the tables, and a page of each comparison.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from astropy import units as u

from halopy import clip, generators
from halopy.generative import HaloGenerator
from halopy.generative.quality import report
from halopy.generative.quality.reference import gaussian_field, smoothed
from halopy.quality_page import write_quality

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import real_sky
import train_generators

SHOWN = ("kid", "frechet", "pixel_wasserstein", "power_spectrum", "radial_profile", "minkowski_euler", "flux_centre",
         "size", "density", "coverage", "diversity_features", "diversity_pixels", "nearest_ratio", "copies", "tstr",
         "trts")
NAMES = ("diffusion", "cwgan")
OTHER = ("other",)
"""Labels that the simulator does not make."""


def alike(model, real, rng):
    """Return images with the labels and the frequencies of real ones."""
    conditions = real.table["label", "frequency"]
    if isinstance(model, str):
        return simulator(real, rng)
    return model.sample(len(real), conditions=conditions, rng=rng)


def simulator(real, rng):
    """Return cutouts of the population that the shipped generators have learnt from, with the labels of real ones."""
    made = train_generators.sky(3 * len(real), rng=rng)
    label, wanted = np.asarray(made.table["label"]), np.asarray(real.table["label"])
    near = made.table["frequency"].to_value(u.MHz)
    rows = []
    for name, frequency in zip(wanted, real.table["frequency"].to_value(u.MHz), strict=True):
        here = np.flatnonzero(label == name)
        away = np.abs(np.log(near[here] / frequency))
        rows.append(int(np.random.default_rng([int(rng), len(rows)]).choice(here[away <= away.min() + 1e-9])))
    return made[rows]


def gleam(folder):
    """Return the labelled GLEAM cutouts of all bands, without those whose label the simulator does not make."""
    real = real_sky.joined(real_sky.gleam(folder))
    return real[~np.isin(np.asarray(real.table["label"]), OTHER)]


def clipped_alike(made):
    """Clip images as the real ones are: at three times the noise, on both sides, with the rms as it is."""
    return clip(made, low=-3, high=3)


def nvss(folder):
    """Return the NVSS targets and control positions that are full of data."""
    fields = real_sky.nvss(folder, n_controls=35)
    full = np.isfinite(fields.data).all(axis=(1, 2)) & ~np.isin(np.asarray(fields.table["label"]), OTHER)
    fields = fields[full]
    table = fields.table.copy()
    table["group"] = [str(name) for name in table["field"]]
    return fields.replace(table=table)


def show(title, tables):
    print(f"\n{title}\n" + " " * 20 + "".join(f"{name:>28}" for name in tables) + f"{'floor':>28}")
    first = next(iter(tables.values()))
    print(f"{first.meta['images']} images a side, {first.meta['groups']} groups, labels {first.meta['labels']}")
    for metric in SHOWN:
        cells = []
        for table in tables.values():
            row = table[table["metric"] == metric]
            cells.append(f"{row['value'][0]:.3f} [{row['low'][0]:.3f}, {row['high'][0]:.3f}]" if len(row) else "-")
            if len(row):
                floor = f"{row['floor'][0]:.3f} [{row['floor_low'][0]:.3f}, {row['floor_high'][0]:.3f}]"
        if any(cell != "-" for cell in cells):
            print(f"{metric:20}" + "".join(f"{cell:>28}" for cell in cells) + f"{floor:>28}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", nargs="+", default=[], metavar="NAME=FILE")
    parser.add_argument("-n", type=int, default=2048)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20261128)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    seed, draws = arguments.seed, arguments.draws
    models = {name: generators.pretrained(name) for name in NAMES}
    for text in arguments.model:
        name, _, path = text.partition("=")
        models[name] = HaloGenerator.load(path)
    models["simulator"] = "simulator"

    def compare(title, real, sets, **more):
        show(title, {name: report(real, made, n=draws, rng=seed, **more) for name, made in sets.items()})
        if arguments.output is not None:
            folder = arguments.output / title.split(",")[0].replace(" ", "-")
            write_quality(folder, real, sets, rng=seed, overwrite=True)

    fresh, train = train_generators.sky(arguments.n, rng=seed), train_generators.sky(arguments.n, rng=seed + 1)
    sets = {name: alike(model, fresh, seed + 2) for name, model in models.items()}
    sets |= {"smoothed": smoothed(train), "gaussian-field": gaussian_field(train, arguments.n, rng=seed)}
    compare("simulated sky, full", fresh, sets, training=train)
    if arguments.data is None:
        return
    real = gleam(arguments.data)
    sets = {name: clipped_alike(alike(model, real, seed + 3)) for name, model in models.items()}
    compare("real GLEAM, clipped", real, sets)
    real = nvss(arguments.data)
    sets = {name: alike(model, real, seed + 4) for name, model in models.items()}
    compare("real NVSS, full", real, sets)


if __name__ == "__main__":
    main()
