"""What is wrong with the public labelled MWA set, and how well its beams and clip levels are measured.

Usage: python benchmarks/mwa_audit.py --data FOLDER

FOLDER: a checkout of github.com/mishraashu6566/Radio-Halos-Classification-with-MWA, or a folder with an
``index.csv`` of its files (default: HALOPY_TEST_DATA). With an index, beams are compared with those in it.
"""

from __future__ import annotations

import argparse
import csv
import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from astropy import units as u

from halopy.errors import HalopyWarning
from halopy.io.dataset import audit, load_mwa_halos


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = os.environ.get("HALOPY_TEST_DATA")
    parser.add_argument("--data", default=known, required=known is None)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", HalopyWarning)
    sets = load_mwa_halos(arguments.data)
    for band, cutouts in sets.items():
        fitted = sum(str(source).endswith("of the image") for source in cutouts.table["beam_source"])
        groups = len(set(cutouts.table["group"]))
        print(f"{band:15s}{len(cutouts):4d} images, {groups:3d} groups, beam fitted in {fitted}")
    findings = audit(sets)
    print("\nfindings")
    for kind, number in Counter(findings["kind"]).items():
        print(f"  {kind:24s}{number:4d}")
    for row in findings[findings["kind"] == "noise-by-class"]:
        print(f"  noise alone, {row['band']}: {row['found']}")
    index = Path(arguments.data) / "index.csv"
    if not index.exists():
        return
    with open(index, encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if "x" in row["beam_arcsec"]]
    listed = {row[key]: row["beam_arcsec"].split()[0] for row in rows for key in ("file", "source_path")}
    print("\nbeam area, fitted / listed")
    for band, cutouts in sets.items():
        ratio = []
        for row in cutouts.table:
            if str(row["path"]) in listed and str(row["beam_source"]).endswith("of the image"):
                major, minor = map(float, listed[str(row["path"])].split("x"))
                area = (row["beam_major"] * row["beam_minor"]).to_value(u.arcsec**2)
                ratio.append(area / (major * minor))
        if ratio:
            print(f"  {band:15s}{len(ratio):4d} images: median {np.median(ratio):.3f}, "
                  f"{np.mean(np.abs(np.log(ratio)) < np.log(1.12)):.0%} within 12 %")


if __name__ == "__main__":
    main()
