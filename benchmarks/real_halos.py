"""Halo centres against control positions in the NVSS fields: the matched filter and a ten-line statistic.

Usage: python benchmarks/real_halos.py [--data FOLDER] [--classifier NAME] [--seed 20261122] [--disc 3]

FOLDER holds ``index.csv`` and ``nvss/`` (default: HALOPY_TEST_DATA). Eight fields with a halo, seven
without; 35 control positions an image, at least 10' from its centre and 6' from each other. Nothing
is tuned per image. Intervals are 95 %, by bootstrap over images.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy.signal import fftconvolve

from halopy import ClusterImage, CutoutMaker, NoiseEstimator, classifiers

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from real_sky import controls

ROUNDS = 4000


def ten_lines(image, positions, disc=3.0):
    """Mask above 5 sigma, mean over a disc (diameter in arcmin), in units of its robust scatter over the image."""
    data, valid = image.data.astype(float), image.valid
    sigma = 1.4826 * np.median(np.abs(data[valid] - np.median(data[valid])))
    kept = valid & (data < 5 * sigma)
    radius = (disc / 2 * u.arcmin / image.pixel_scale).to_value(u.one)
    grid = np.arange(-int(radius), int(radius) + 1)
    window = (np.hypot(grid[:, None], grid) <= radius).astype(float)
    count = fftconvolve(kept.astype(float), window, mode="same")
    mean = fftconvolve(np.where(kept, data, 0), window, mode="same") / np.maximum(count, 1)
    mean[(count < 0.3 * window.sum()) | ~valid] = np.nan
    score = (mean - np.nanmedian(mean)) / (1.4826 * np.nanmedian(np.abs(mean - np.nanmedian(mean))))
    x, y = (np.rint(c).astype(int) for c in image.wcs.world_to_pixel(positions))
    return score[y, x]


def auc(positive, negative):
    positive, negative = (a[np.isfinite(a)] for a in (positive, negative))
    return np.mean((positive[:, None] > negative) + 0.5 * (positive[:, None] == negative))


def recall(positive, negative, rate=0.01):
    positive, negative = (a[np.isfinite(a)] for a in (positive, negative))
    return np.mean(positive > np.quantile(negative, 1 - rate))


def interval(values):
    low, high = np.nanquantile(values, [0.025, 0.975])
    return f"[{low:+.2f}, {high:+.2f}]" if low < 0 else f"[{low:.2f}, {high:.2f}]"


def measure(folder, name, seed, disc):
    """Return one record per field: its scores at the centre and at the controls, by both statistics."""
    rng = np.random.default_rng(seed)
    with open(folder / "index.csv", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["file"].startswith("nvss/nvss_")]
    model = classifiers.ready(name)
    records = []
    for row in rows:
        image = NoiseEstimator()(ClusterImage.read(folder / row["file"], survey="nvss"))
        centre = SkyCoord(float(row["ra"]), float(row["dec"]), unit="deg")
        places = controls(image, centre, rng)
        places = SkyCoord([centre.ra.deg, *places.ra.deg], [centre.dec.deg, *places.dec.deg], unit="deg")
        cutouts = CutoutMaker(96, pixels_per_beam=3)(image, places)
        score = model.statistic(cutouts) if hasattr(model, "statistic") else model.predict_proba(cutouts)
        compact = classifiers.create("matched-filter").residual(cutouts).data
        yy, xx = np.indices(compact.shape[1:]) - (compact.shape[1] - 1) / 2
        near = np.hypot(yy, xx) * u.Quantity(cutouts.table["pixel_scale"])[0] <= 3 * u.arcmin
        removed = np.nansum((cutouts.data - compact)[:, near], axis=1)
        records.append({"name": row["target"], "halo": row["cls"].startswith("halo"), "compact": removed,
                        name: score, "ten lines": ten_lines(image, places, disc)})
    return records


def matched(records, method):
    """Scores of the five controls of each halo field whose compact flux is nearest to the centre's."""
    kept = [r[method][1:][np.argsort(np.abs(r["compact"][1:] - r["compact"][0]), kind="stable")[:5]]
            for r in records if r["halo"]]
    return np.concatenate(kept)


def figures(records, method):
    halos = np.array([r[method][0] for r in records if r["halo"]])
    others = np.array([r[method][0] for r in records if not r["halo"]])
    sky = np.concatenate([r[method][1:] for r in records])
    values = {"AUC halo/control": auc(halos, sky), "recall at 1 % false positives": recall(halos, sky)}
    values["AUC, controls matched in compact flux"] = auc(halos, matched(records, method))
    values["AUC halo/non-halo"] = auc(halos, others)
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("HALOPY_TEST_DATA"))
    parser.add_argument("--classifier", default="matched-filter")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--disc", type=float, default=3.0, help="diameter of the plain mean, arcmin")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data FOLDER, or the environment variable HALOPY_TEST_DATA")
    records = measure(Path(arguments.data), arguments.classifier, arguments.seed, arguments.disc)
    methods = [arguments.classifier, "ten lines"]
    value = {method: figures(records, method) for method in methods}

    rng = np.random.default_rng(arguments.seed)
    halos, others = ([r for r in records if r["halo"] is kind] for kind in (True, False))
    draws = {method: {name: [] for name in value[method]} for method in methods}
    for _ in range(ROUNDS):
        sample = [halos[i] for i in rng.integers(len(halos), size=len(halos))]
        sample += [others[i] for i in rng.integers(len(others), size=len(others))]
        for method in methods:
            for name, number in figures(sample, method).items():
                draws[method][name].append(number)

    n = sum(len(r["ten lines"]) - 1 for r in records)
    print(f"{len(halos)} halos, {len(others)} fields without, {n} controls; seed {arguments.seed}; "
          f"intervals 95 %, {ROUNDS} bootstraps over images\n")
    print(f"{'':40s}" + "".join(f"{m:>24s}" for m in methods) + f"{'difference':>26s}")
    for name in value[methods[0]]:
        cells = [f"{value[m][name]:.3f} {interval(draws[m][name])}" for m in methods]
        difference = np.array(draws[methods[0]][name]) - np.array(draws[methods[1]][name])
        cells.append(f"{value[methods[0]][name] - value[methods[1]][name]:+.3f} {interval(difference)}")
        print(f"{name:40s}{cells[0]:>24s}{cells[1]:>24s}{cells[2]:>26s}")

    print()
    for method in methods:
        level = np.nanquantile(np.concatenate([r[method][1:] for r in records]), 0.99)
        missed = [f"{r['name']} ({r[method][0]:.2f})" for r in halos if not r[method][0] > level]
        print(f"{method}: 1 % of the controls above {level:.2f}; missed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
