"""Beam areas of the GLEAM and MWA-2 presets against those measured on real images.

Usage: python benchmarks/survey_beams.py [--data FOLDER]

FOLDER holds ``index.csv``, whose column ``beam_arcsec`` has the beam fitted to compact sources of each
image. Printed: the ratio preset over measured area, its median with a 95 % bootstrap interval over
targets, and its extremes.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from halopy import surveys


def rows(folder):
    """Yield (set, target, ratio) of every image with a measured beam."""
    with open(folder / "index.csv", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            beam = re.fullmatch(r"(\d+)x(\d+) measured", row["beam_arcsec"])
            gleam = re.search(r"_gleam_(\d+)-(\d+)MHz", row["file"])
            mwa2 = re.search(r"_mwa2_(\d+)MHz_robust0(\.0)?\.fits", row["file"])
            if beam is None or not (gleam or mwa2):
                continue
            dec = float(row["dec"])
            if gleam:
                name = f"gleam-{int(gleam[1])}-{int(gleam[2])}"
                kind = "GLEAM south of +10 deg" if dec < 10 else "GLEAM north of +19 deg"
            else:
                name = kind = f"mwa2-{int(mwa2[1])}"
            preset = surveys[name].beam_at(SkyCoord(0, dec, unit="deg"))
            yield kind, row["target"], float((preset.major * preset.minor).to_value(u.arcsec**2)
                                             / (float(beam[1]) * float(beam[2])))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("HALOPY_TEST_DATA"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data FOLDER, or the environment variable HALOPY_TEST_DATA")
    rng = np.random.default_rng(20261122)
    found = list(rows(Path(arguments.data)))
    for kind in sorted({row[0] for row in found}):
        by_target = {}
        for _, target, ratio in (row for row in found if row[0] == kind):
            by_target.setdefault(target, []).append(ratio)
        groups = list(by_target.values())
        every = np.concatenate(groups)
        draws = [np.median(np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))]))
                 for _ in range(2000)]
        low, high = np.quantile(draws, [0.025, 0.975])
        print(f"{kind:24s}{len(every):4d} images: median {np.median(every):.2f} [{low:.2f}, {high:.2f}], "
              f"{every.min():.2f} to {every.max():.2f}, {np.sum(abs(every - 1) > 0.25)} beyond 25 %")


if __name__ == "__main__":
    main()
