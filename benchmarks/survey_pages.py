"""Run ``halopy detect`` on one image of every kind in the data folder, and write the pages to look at.

Usage: python benchmarks/survey_pages.py [--data FOLDER] [-o OUT]

GLEAM in four bands and MWA-2 (clipped, bare headers), GLEAM-X, a JVLA image and NVSS fields, at the
positions of ``clusters.csv`` and ``index.csv``. Prints what was found in one line per target.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy.cli import main as halopy
from halopy.io.detections import read_detections

RUNS = {
    "gleam-72-103": ("mwa-gleam/*_072-103MHz.fits.gz", "gleam-72-103"),
    "gleam-103-134": ("mwa-gleam/*_103-134MHz.fits.gz", "gleam-103-134"),
    "gleam-139-170": ("mwa-gleam/*_139-170MHz.fits.gz", "gleam-139-170"),
    "gleam-170-231": ("mwa-gleam/*_170-231MHz.fits.gz", "gleam-170-231"),
    "mwa2-118": ("mwa2-cutouts/*_118MHz_robust0*.fits.gz", "mwa2-118"),
    "mwa2-154": ("mwa2-cutouts/*_154MHz_robust0*.fits.gz", "mwa2-154"),
    "mwa2-216": ("mwa2-cutouts/*_216MHz_robust0*.fits.gz", "mwa2-216"),
    "nvss": ("nvss/nvss_*.fits", "nvss"),
    "jvla": ("clusters-other/a2744_jvla_1.5GHz.fits.gz", None),
    "gleam-x": ("mwa-other/gleamx_field1_170-200MHz.fits", None),
}


def targets(folder, path):
    """Write the positions of the clusters of the data folder as a table; return its path."""
    rows = []
    with open(folder / "clusters.csv", encoding="utf-8") as stream:
        rows += [(r["name"], float(r["ra_deg"]), float(r["dec_deg"])) for r in csv.DictReader(stream)]
    with open(folder / "index.csv", encoding="utf-8") as stream:
        rows += [(r["target"], float(r["ra"]), float(r["dec"])) for r in csv.DictReader(stream)
                 if r["file"].startswith("nvss/nvss_")]
    kept = []
    for row in rows:  # one name for one place: the lists overlap
        place = SkyCoord(row[1], row[2], unit="deg")
        if all(place.separation(SkyCoord(k[1], k[2], unit="deg")).arcmin > 3 for k in kept):
            kept.append(row)
    QTable(rows=kept, names=("name", "ra", "dec")).write(path, format="ascii.csv", overwrite=True)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("HALOPY_TEST_DATA"))
    parser.add_argument("-o", "--output", type=Path, default=Path("survey-pages"))
    parser.add_argument("--only", choices=RUNS)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data FOLDER, or the environment variable HALOPY_TEST_DATA")
    arguments.output.mkdir(parents=True, exist_ok=True)
    table = targets(Path(arguments.data), arguments.output / "targets.csv")
    for name, (pattern, survey) in RUNS.items():
        if arguments.only not in (None, name):
            continue
        images = sorted(str(path) for path in Path(arguments.data).glob(pattern))
        command = ["detect", *images, "-o", str(arguments.output / name), "--overwrite", "--quiet"]
        command += ["--survey", survey] if survey else []
        command += ["--targets", str(table)] if name != "gleam-x" else []
        code = halopy(command)
        found = read_detections(arguments.output / name / "detections.ecsv")
        ok = found[found["status"] == "ok"]
        print(f"\n{name}: {len(images)} images, exit {code}, {len(ok)} targets scored")
        columns = ["name", "image", "snr", "p_value", "flux", "flux_err", "rms_method", "flags"]
        ok = ok[columns]
        for column in ("snr", "p_value", "flux", "flux_err"):
            ok[column].info.format = ".3g"
        print("\n".join(ok.pformat(max_lines=-1, max_width=-1)))


if __name__ == "__main__":
    main()
