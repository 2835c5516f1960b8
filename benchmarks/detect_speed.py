"""Where does ``halopy detect`` spend its time, and how does it grow with targets, pixels and images?

Usage: python benchmarks/detect_speed.py [--size 8192] [--targets 10 100 1000 10000] [--sides 512 2048 8192]
           [--images 10 100 1000] [--small-controls 50] [--rounds 3] [--folder FOLDER] [--seed 20261127]

The sky of ``noise_speed.py``. First one image with so many targets at random places; then images of so many pixels a
side with 100 targets; then images of 256 x 256 pixels cut from it, with a target at the centre of each and
``--small-controls`` control positions. Every run is a process of its own, with the default detector, that calls the
command line's function; processor time, of all threads. Lines of a table take turns in rounds, but those that take
longer than five minutes of the processor are measured once; of each the run with the median time is shown.

- shares of the stages, in per cent of the whole: imports and what is compiled at first use are a part of the stage that
  needs them, "rest" is all that has no name (above all imports);
- the whole over the floor, which is reading the bytes of the images (in the page cache) in the same process;
- the whole over the median of the first line: how it grows, with the smallest and the largest over the rounds;
- first: when the first row was on disk, in per cent of the whole (wall clock, but for the first imports): for one image
  all rows come at once;
- memory: the largest of the process, over the bytes of the image (the largest, of many).
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS
from noise_speed import make_sky

SMALL, SLOW = 256, 300
STAGES = {
    "reading": ("halopy.cli", "_read"), "noise": ("halopy.preprocess.noise", "NoiseEstimator.__call__"),
    "controls": ("halopy.detect", "Detector.control_positions"),
    "cutouts": ("halopy.preprocess.cutout", "CutoutMaker.__call__"),
    "fluxes": ("halopy.classify.matched_filter", "MatchedFilter.measure"),
    "classifier": ("halopy.detect", "Detector._scores"), "explaining": ("halopy.scan", "_explanations"),
    "keeping": ("halopy.scan_parts", "Parts.write"), "tables": ("halopy.io.detections", "write_detections"),
    "page": ("halopy.report", "write_page")}


def run(arguments):
    """Run the command with a clock at the door of each stage; in a process of its own."""
    spent, stack, first = dict.fromkeys(STAGES, 0.0), [], []

    def timed(name, function):
        @functools.wraps(function)
        def wrapped(*given, **keywords):
            now = time.process_time()
            if stack:
                spent[stack[-1][0]] += now - stack[-1][1]
            stack.append([name, now])
            try:
                return function(*given, **keywords)
            finally:
                now = time.process_time()
                spent[name] += now - stack.pop()[1]
                if stack:
                    stack[-1][1] = now
                if name in ("keeping", "tables") and not first:
                    first.append(time.perf_counter() - begun)
        return wrapped

    images = arguments[:arguments.index("--targets")]
    files = [file for path in map(Path, images) for file in (sorted(path.glob("*.fits")) if path.is_dir() else [path])]
    reads = []
    for _ in range(5):
        begun = time.process_time()
        for file in files:
            np.fromfile(file, dtype=">f4")
        reads.append(time.process_time() - begun)
    floor, begun = statistics.median(reads), time.perf_counter()
    for name, (module, attribute) in STAGES.items():
        owner = __import__(module, fromlist=["_"])
        *inner, last = attribute.split(".")
        for part in inner:
            owner = getattr(owner, part)
        setattr(owner, last, timed(name, getattr(owner, last)))
    from halopy.cli import main

    code = main(["detect", *arguments, "--overwrite", "--quiet"])
    total = time.process_time() - sum(reads)
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    print(json.dumps({"code": code, "total": total, "floor": floor, "peak": peak, "spent": spent,
                      "first": first[0] / (time.perf_counter() - begun)}))


def measured(*arguments):
    """What `run` finds, in a fresh process."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import detect_speed; detect_speed.run(sys.argv[2:])"
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent), *map(str, arguments)],
                          capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def targets(path, wcs, x, y):
    """Write a list of targets at pixels."""
    sky = wcs.pixel_to_world(x, y).icrs
    QTable({"name": [f"T{i}" for i in range(len(x))], "ra": sky.ra.deg, "dec": sky.dec.deg}).write(path, overwrite=True)


def show(label, runs, base, size):
    """Print one line."""
    found = middle(runs)
    ratios = [run["total"] / middle(base)["total"] for run in runs]
    growth = f"{found['total'] / middle(base)['total']:7.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    shares = "".join(f"{100 * value / found['total']:6.1f}" for value in found["spent"].values())
    rest = 100 * (1 - sum(found["spent"].values()) / found["total"])
    print(f"{label:>8s} {shares}{rest:6.1f}  {found['total'] / found['floor']:8.0f} {growth:25s}"
          f"{100 * found['first']:6.0f} {found['peak'] / size:7.1f}", flush=True)


def middle(runs):
    """The run with the median time."""
    return sorted(runs, key=lambda run: run["total"])[len(runs) // 2]


def cut(path, data, header, y, x, side):
    """Write a part of an image."""
    own = header.copy()
    own["CRPIX1"], own["CRPIX2"] = header["CRPIX1"] - x, header["CRPIX2"] - y
    fits.PrimaryHDU(data[y:y + side, x:x + side], header=own).writeto(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--targets", type=int, nargs="*", default=[10, 100, 1000, 10000])
    parser.add_argument("--sides", type=int, nargs="*", default=[512, 2048, 8192])
    parser.add_argument("--images", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--small-controls", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--seed", type=int, default=20261127)
    arguments = parser.parse_args()
    path = Path(arguments.folder) / f"noise-{arguments.size}-{arguments.seed}.fits"
    if not path.exists():
        make_sky(path, arguments.size, arguments.seed)
    data, header = fits.getdata(path), fits.getheader(path)
    wcs = WCS(header)
    head = "".join(f"{name[:5]:>6s}" for name in (*STAGES, "rest"))

    def table(title, counts, lines):
        if counts:
            print(f"\n{title}: shares in % of the processor's time\n{'':>8s} {head}   / floor  growth"
                  f"{'first  memory':>32s}")
        runs, sizes = {count: [] for count in counts}, {}
        for _ in range(arguments.rounds):
            for count, found in runs.items():
                if found and found[0]["total"] > SLOW:
                    continue
                with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
                    given, sizes[count], *more = lines(count, Path(place))
                    found.append(measured(given, "--targets", Path(place) / "targets.csv", "-o", Path(place) / "out",
                                          *more))
        for count, found in runs.items():
            show(str(count), found, runs[counts[0]], sizes[count])

    def of_targets(count, place):
        rng = np.random.default_rng([arguments.seed, count])
        targets(place / "targets.csv", wcs, *rng.uniform(100, arguments.size - 100, (2, count)))
        return path, data.nbytes

    def of_pixels(side, place):
        cut(place / "image.fits", data, header, 0, 0, side)
        targets(place / "targets.csv", wcs, *np.random.default_rng([arguments.seed, side]).uniform(0, side, (2, 100)))
        return place / "image.fits", 4 * side**2

    def of_images(count, place):
        (place / "small").mkdir()
        y, x = (SMALL * part for part in np.divmod(np.arange(count), arguments.size // SMALL))
        for b, a in zip(y.tolist(), x.tolist(), strict=True):
            cut(place / "small" / f"{b:05d}-{a:05d}.fits", data, header, b, a, SMALL)
        targets(place / "targets.csv", wcs, x + SMALL / 2, y + SMALL / 2)
        return place / "small", 4 * SMALL**2, "--n-controls", arguments.small_controls

    table(f"targets in an image of {arguments.size} x {arguments.size}", arguments.targets, of_targets)
    table("side of an image with 100 targets", arguments.sides, of_pixels)
    table(f"images of {SMALL} x {SMALL}, a target in each", arguments.images, of_images)


if __name__ == "__main__":
    main()
