"""Are the p-values p-values? On simulated blank sky, and on the NVSS fields away from their centres.

Usage: python benchmarks/p_values.py [--classifier NAME|FILE] [--data FOLDER] [--fields 16] [--seed 20261122]

At positions that are no controls, p < x must occur as often as x, within what a binomial allows with
99 %. In every simulated field 20 positions are drawn at random over the part of the field that a
control may take; in an NVSS field 20 positions at least 10' from its centre. Each is scored by itself, so
that the exclusion zone is its own.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy.stats import binom
from sky import field

from halopy import ClusterImage, Detector
from halopy.classify import Classifier

LEVELS = (0.1, 0.05, 0.02)


def p_values(image, rng, n, classifier, away=None):
    """Return the p-values of ``n`` random positions, one Detector call each."""
    detector = Detector(classifier, n_controls=150)
    image = detector.prepare(image)
    found = []
    while len(found) < n:
        # The same law as the controls': uniform over the pixels that have enough data around them.
        place = detector.control_positions(image, rng=rng, n=1)
        if away is not None and (place.separation(away[0]) < away[1]).any():
            continue
        found.append(float(detector(image, place, rng=rng)["p_value"].filled(np.nan)[0]))
    return found


def report(name, values):
    values = np.array(values)
    values = values[np.isfinite(values)]
    print(f"{name}: {len(values)} positions")
    good = True
    for level in LEVELS:
        low, high = binom.interval(0.99, len(values), level)
        count = int((values < level).sum())
        good &= low <= count <= high
        print(f"  p < {level:4}: {count} ({count / len(values):.3f}); binomial 99 %: {low:.0f} to {high:.0f}"
              f"{'' if low <= count <= high else '   OUTSIDE'}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classifier", default="ensemble", help="a name, or a .safetensors file")
    parser.add_argument("--data", type=Path, default=os.environ.get("HALOPY_TEST_DATA"))
    parser.add_argument("--fields", type=int, default=16)
    parser.add_argument("--seed", type=int, default=20261122)
    arguments = parser.parse_args()
    classifier, rng = arguments.classifier, np.random.default_rng(arguments.seed)
    if classifier.endswith(".safetensors"):
        classifier = Classifier.load(classifier)
    good = True
    for survey in ("gleam-170-231", "gleam-x-170-231"):
        values = []
        for _ in range(arguments.fields // 2):
            values += p_values(field(survey, rng), rng, 20, classifier)
        good &= report(f"simulated blank sky, {survey}, {arguments.fields // 2} fields", values)
    if arguments.data is not None:
        folder, values = Path(arguments.data), []
        with open(folder / "index.csv", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if row["file"].startswith("nvss/nvss_")]
        for row in rows:
            image = ClusterImage.read(folder / row["file"], survey="nvss")
            centre = SkyCoord(float(row["ra"]), float(row["dec"]), unit="deg")
            values += p_values(image, rng, 20, classifier, away=(centre, 10 * u.arcmin))
        good &= report(f"NVSS, {len(rows)} fields", values)
    print("all within the binomial's 99 %" if good else "NOT all within the binomial's 99 %")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
