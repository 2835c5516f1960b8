"""Train a generator that ships with halopy, judge it, and write it with its card.

Usage: python tools/train_generators.py NAME -o FOLDER [-n 16384] [--images N] [--seed 20261127] [--device cpu]
    [--checkpoint FILE] [--judge]

NAME is ``cwgan`` or ``diffusion``. Writes ``NAME.safetensors`` and ``NAME.json`` (what it was trained on, and the
measures by which it is called usable or experimental) to the output folder. A stopped run with ``--checkpoint`` is
continued by the same command. ``--judge`` measures the weights in FOLDER again, and writes their card.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from astropy.table import QTable
from scipy.stats import spearmanr
from tqdm import tqdm

from halopy import generators
from halopy.generative.quality import report
from halopy.generative.quality.reference import gaussian_field, smoothed
from halopy.generative.trained import CENTRE
from halopy.learning.inputs import model_input

sys.path.insert(0, str(Path(__file__).parent))

import training_sky

SURVEYS = {"gleam-72-103": 1, "gleam-103-134": 1, "gleam-139-170": 1, "gleam-170-231": 2, "gleam-x-170-231": 2,
           "nvss": 2}
"""The surveys, and the share of each."""
POPULATION = dataclasses.replace(training_sky.SAME, clipped=0.0)
SETTINGS = {"cwgan": {"n_images": 90_000}, "diffusion": {"width": 48, "n_images": 100_000}}
JUDGED = 2048
"""Cutouts of other sky, and as many images of the generator, that it is judged by."""
METRICS = ("kid", "nearest_ratio", "copies", "diversity_features", "diversity_pixels", "pixel_wasserstein",
           "power_spectrum", "radial_profile", "flux_centre", "size", "tstr", "trts")


def sky(n, *, rng, progress=None):
    """Return ``n`` simulated cutouts of full sky, without those that hold pixels without data."""
    made = training_sky.cutouts(n, population=POPULATION, names=SURVEYS, rng=rng, progress=progress)
    return made[np.isfinite(made.data).all(axis=(1, 2))]


def alike(model, cutouts, *, rng):
    """Return an image for each of the cutouts, of its label and frequency; the S/N is drawn."""
    return model.sample(len(cutouts), conditions=cutouts.table["label", "frequency"], rng=rng)


def judged(model, train, *, seed, n=JUDGED, draws=100):
    """Return measures of a generator and of what it has to beat, and what follows from them.

    Returns
    -------
    tables : dict of `~astropy.table.QTable`
        Of the generator, and of the training images ``smoothed`` by their beam and a ``gaussian-field`` fitted to them.
    failed : list of str
        What keeps it from being called usable, in words.
    """
    fresh = sky(n, rng=seed + 1)
    sets = {"generator": alike(model, fresh, rng=seed)}
    rows = np.random.default_rng(seed).choice(len(train), min(n, len(train)), replace=False)
    sets |= {"smoothed": smoothed(train[np.sort(rows)]), "gaussian-field": gaussian_field(train, n, rng=seed)}
    tables = {name: report(fresh, made, training=train, n=draws, rng=seed,
                           classifier="features-lr" if name == "generator" else None) for name, made in sets.items()}
    return tables, failures(tables)


def followed(model, *, seed, n=256):
    """Return the rank correlation of the S/N that halos are asked to have, 3 to 100, and that they have."""
    snr = np.geomspace(3, 100, n)
    made = model.sample(n, conditions=QTable({"label": ["halo"] * n, "snr": snr}), rng=seed)
    images = model_input(made, size=model.size, pixels_per_beam=model.pixels_per_beam)
    y, x = np.indices(images.shape[1:]) - (model.size - 1) / 2
    near = np.hypot(x, y) <= CENTRE * model.pixels_per_beam
    return round(float(spearmanr(snr, images[:, near].max(axis=1)).statistic), 2)


def failures(tables):
    """Return in words why a generator is not usable; nothing where it is."""
    row = {name: {r["metric"]: r for r in table} for name, table in tables.items()}
    own, failed = row["generator"], []
    for name in ("smoothed", "gaussian-field"):
        if not own["kid"]["high"] < row[name]["kid"]["low"]:
            failed.append(f"its kernel distance, {own['kid']['value']:.2f}, is not below that of {name}, "
                          f"{row[name]['kid']['value']:.2f}")
    if not own["nearest_ratio"]["high"] >= 1:
        failed.append("its images are nearer to training images than real ones are: "
                      f"{own['nearest_ratio']['value']:.2f}")
    for name in ("diversity_features", "diversity_pixels"):
        if not 0.8 <= own[name]["value"] <= 1.2:
            failed.append(f"{name} is {own[name]['value']:.2f} of that of real images, not within 20 %")
    return failed


def card(model, tables, failed, *, n, seed, minutes, device, command):
    """Return what the model was trained on and what was measured of it, as a dict for JSON."""
    measures = {name: {r["metric"]: [round(float(r[c]), 4) for c in table.colnames[1:7]] for r in table
                       if r["metric"] in METRICS} for name, table in tables.items()}
    own = tables["generator"].meta
    return {
        "model": repr(model), "weights": model.weights_id, "halopy": importlib.metadata.version("halopy-radio"),
        "torch": torch.__version__, "python": platform.python_version(), "threads": 1, "device": device,
        "parameters": sum(array.size for name, array in model._state().items() if name.startswith("weight.")),
        "command": command, "seed": seed, "minutes": minutes, "images": int(model.history["images"][-1]),
        "simulated": {"cutouts": n, "groups": len(model.groups_), "surveys": SURVEYS, "labels": training_sky.MIX},
        "columns": ["value", "low", "high", "floor", "floor_low", "floor_high"], "measures": measures,
        "snr_correlation": followed(model, seed=seed),
        "judged": f"{own['images']} images a side in each of {own['draws']} draws",
        "status": "experimental" if failed else "usable", "why": failed}


def trained(arguments, train):
    """Train a generator, write its weights, and return the minutes that it took."""
    settings = SETTINGS[arguments.name] | ({"n_images": arguments.images} if arguments.images else {})
    start = time.monotonic()
    model = generators.create(arguments.name, device=arguments.device, **settings)
    model.fit(train, rng=arguments.seed, checkpoint=arguments.checkpoint)
    # What ships must run where there is no GPU.
    model.device = "cpu"
    model.save(arguments.output / f"{arguments.name}.safetensors", overwrite=True)
    return round((time.monotonic() - start) / 60)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(SETTINGS))
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-n", type=int, default=16384)
    parser.add_argument("--images", type=int)
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--judge", action="store_true")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    seed = arguments.seed
    path = arguments.output / f"{arguments.name}.safetensors"
    train = sky(arguments.n, rng=seed, progress=partial(tqdm, disable=None, desc="sky"))
    if arguments.judge:
        known = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        minutes, device, command = (known[name] for name in ("minutes", "device", "command"))
    else:
        minutes, device = trained(arguments, train), arguments.device
        command = f"python tools/train_generators.py {arguments.name} -o OUTPUT -n {arguments.n} --seed {seed}"
        command += f" --images {arguments.images}" if arguments.images else ""
    model = generators[arguments.name].load(path)
    tables, failed = judged(model, train, seed=seed)
    facts = card(model, tables, failed, n=len(train), seed=seed, minutes=minutes, device=device, command=command)
    facts["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for name, table in tables.items():
        print(name)
        for row in table:
            print(f"{row['metric']:32} {row['value']:8.3f} [{row['low']:.3f}, {row['high']:.3f}]   floor "
                  f"{row['floor']:.3f} [{row['floor_low']:.3f}, {row['floor_high']:.3f}]")
    print(path, f"{path.stat().st_size / 1e6:.2f} MB:", facts["status"], *failed, sep="\n  ")


if __name__ == "__main__":
    main()
