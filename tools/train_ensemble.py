"""Train the ensemble that ships with halopy, and write it with its card.

Usage: python tools/train_ensemble.py -o FOLDER [--data FOLDER | --fetch FOLDER] [-n 24576] [--seed 20261127]
    [--checkpoint FILE]

Without ``--data`` and ``--fetch`` it learns from simulated sky alone. ``--data FOLDER`` (``index.csv``, ``mwa-gleam/``,
``nvss/``) goes on from there with halos injected into control positions of the NVSS fields, and with the labelled GLEAM
and NVSS targets. ``--fetch FOLDER`` downloads the GLEAM images (MIT licence; their SHA-256 are known) to FOLDER and
goes on with them alone.

Writes ``ensemble.safetensors``, ``ensemble.json`` (what it was trained on, by name) and
``ensemble-simulated.safetensors`` (before the real sky) to the output folder.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import platform
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from halopy.classify.calibrate import calibrate
from halopy.classify.ensemble import Ensemble
from halopy.classify.evaluate import evaluate, report
from halopy.io.dataset import fetch_mwa_halos
from halopy.model import group_hashes

sys.path.insert(0, str(Path(__file__).parent))

import real_sky
import training_sky

REPEATS = 4
"""A real target of known class counts as so many simulated ones."""
REPLAY = 4096
"""Simulated cutouts among the real ones, so that what was learnt is kept."""
TUNING = {"learning_rate": 1e-4, "max_epochs": 4}
SOURCES = {
    "gleam": "github.com/mishraashu6566/Radio-Halos-Classification-with-MWA (MIT): GLEAM, Hurley-Walker et al. 2017",
    "nvss": "github.com/jakgel/clusterbuster (MIT): NVSS, Condon et al. 1998"}


def simulated(n, seed, *, checkpoint=None, progress=None):
    """Return an ensemble that has learnt from ``n`` simulated cutouts, calibrated on an eighth as many others."""
    sky = training_sky.cutouts(n, rng=seed, progress=progress)
    model = Ensemble().fit(sky, rng=seed, checkpoint=checkpoint, progress=None if progress is not None else False)
    return calibrate(model, training_sky.cutouts(held_back(n), rng=seed + 1))


def held_back(n):
    """Return how many cutouts a temperature is fitted to, beside a training with ``n``."""
    return max(n // 8, 256)


def extra(fields, n_replay=REPLAY, *, seed):
    """Return what is shown beside real targets: injections into NVSS control cutouts, and simulated sky."""
    parts = [training_sky.cutouts(n_replay, rng=seed + 2)]
    if fields is not None:
        parts += [training_sky.inject_into(fields[~np.asarray(fields.table["centre"])], rng=seed + k) for k in (3, 4)]
    return parts[0].join(*parts[1:])


def tuned(base, real, beside, *, rng=None):
    """Return the ensemble after it has gone on with labelled real cutouts, and with what is ``beside`` them (`extra`).

    Of the real sky beside them only that of the groups of ``real`` is shown.
    """
    groups = np.asarray(beside.table["group"]).astype(str)
    known = np.isin(groups, np.asarray(real.table["group"]).astype(str))
    beside = beside[known | np.char.startswith(groups, "training sky")]
    targets = np.flatnonzero(np.asarray(real.table["label"]) != "blank")
    rows = np.concatenate([np.arange(len(real)), np.repeat(targets, REPEATS - 1)])
    return base.finetune(real[rows].join(beside), rng=rng, progress=False, **TUNING)


def other_names(sets, fields=None):
    """Return the groups of the real sky as each survey alone names them: the model knows them under those, too."""
    first = next(iter(sets.values()))
    names = {"gleam": sorted({*np.asarray(first.table["group"]).tolist(), *real_sky.groups_of(first)})}
    if fields is not None:
        names["nvss"] = sorted(set(real_sky.groups_of(fields[np.asarray(fields.table["centre"])])))
    return names


def card(model, *, n, seed, gleam=None, nvss=None, command):
    """Return what the model was trained on, as a dict for JSON."""
    groups = {}
    for name, table in (("gleam", gleam), ("nvss", nvss)):
        if table is not None:
            for target, group in sorted({(str(a), str(b)) for a, b in table}):
                groups.setdefault(group, []).append(f"{target} ({name})")
    # Of the training and of the temperature; tuning shows more, and has a temperature of its own.
    skies = [n, held_back(n), *([REPLAY, held_back(n)] if groups else [])]
    blocks = sum(-(-size // training_sky.BLOCK) for size in skies)
    return {
        "model": repr(model), "halopy": importlib.metadata.version("halopy-radio"), "torch": torch.__version__,
        "python": platform.python_version(), "threads": 1, "command": command, "seed": seed,
        "simulated": {"cutouts": n, "groups": blocks, "surveys": training_sky.SURVEYS, "labels": training_sky.MIX},
        "real": groups, "sources": {k: v for k, v in SOURCES.items() if any(f"({k})" in t for g in groups.values()
                                                                             for t in g)},
        "range": {name: list(limits) for name, limits in model.trained_on_.items()},
        "temperature": model.temperature_}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data", type=Path)
    where.add_argument("--fetch", type=Path)
    parser.add_argument("-n", type=int, default=24576)
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--checkpoint", type=Path)
    arguments = parser.parse_args()
    n, seed = arguments.n, arguments.seed
    arguments.output.mkdir(parents=True, exist_ok=True)
    bar = partial(tqdm, disable=None)

    model = simulated(n, seed, checkpoint=arguments.checkpoint, progress=bar)
    model.save(arguments.output / "ensemble-simulated.safetensors", overwrite=True)
    gleam = nvss = None
    also = {}
    if arguments.fetch is not None:
        fetch_mwa_halos(arguments.fetch, bands=list(real_sky.BANDS), progress=bar)
    if arguments.data or arguments.fetch:
        sets, fields = real_sky.gleam(arguments.data or arguments.fetch), None
        if arguments.data:
            fields = real_sky.nvss(arguments.data, n_controls=120, apart=3)
        also = other_names(sets, fields)
        if arguments.data:
            sets, fields = real_sky.joint_groups(sets, fields)
        real = real_sky.joined(sets, None if fields is None else fields[np.asarray(fields.table["centre"])])
        model = tuned(model, real, extra(fields, seed=seed), rng=seed)
        model = calibrate(model, training_sky.cutouts(held_back(n), rng=seed + 5))
        model.groups_ = tuple(sorted({*model.groups_, *group_hashes(np.concatenate(list(also.values())))}))
        first = next(iter(sets.values())).table
        gleam = zip(first["name"], first["group"], strict=True)
        nvss = None if fields is None else zip(fields.table["field"], fields.table["group"], strict=True)
    path = arguments.output / "ensemble.safetensors"
    model.save(path, overwrite=True)
    data = "" if not (arguments.data or arguments.fetch) else " --data FOLDER" if arguments.data else " --fetch FOLDER"
    facts = card(model, n=n, seed=seed, gleam=gleam, nvss=nvss,
                 command=f"python tools/train_ensemble.py -o OUTPUT{data} -n {n} --seed {seed}")
    facts["also"] = also
    facts["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (arguments.output / "ensemble.json").write_text(text, encoding="utf-8")
    table = report(evaluate(model, training_sky.cutouts(2048, rng=seed + 6)), n=500, rng=seed)
    for row in table[np.isin(table["metric"], ["roc_auc", "accuracy", "brier", "calibration_error"])]:
        print(f"simulated sky, {row['metric']}: {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    print(path, f"{path.stat().st_size / 1e6:.2f} MB, sha256 {facts['sha256']}")


if __name__ == "__main__":
    main()
