"""Make docs/images/evaluation-page.png: the top of a page of an evaluation, of simulated sky.

    python tools/make_evaluation_page.py FOLDER

writes the page into FOLDER, and the picture of it where a Chromium is on the path. It takes some minutes.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

from PIL import Image

from halopy import classifiers, simulate
from halopy.classify.evaluate import cross_validate
from halopy.evaluation_page import write_evaluation

MODELS = {"cnn": {"width": 8, "max_epochs": 15, "views": 1}, "features-lr": {}, "matched-filter": {}}
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "evaluation-page.png"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    cutouts = simulate.cutouts(400, survey="gleam-x-170-231", mix={"halo": 3, "none": 2, "radio-galaxy": 1, "blank": 1},
                               rng=1)
    scores = {name: cross_validate(classifiers.create(name, **settings), cutouts, folds=3, seeds=2, rng=1)
              for name, settings in MODELS.items()}
    page = folder / "index.html"
    write_evaluation(page, scores, baseline="matched-filter", cutouts=cutouts, n=500, rng=1)
    print(page)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium: no picture")
        return
    shot = folder / "page.png"
    subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
                    "--disable-background-networking", "--no-first-run", "--disable-component-update", "--disable-sync",
                    "--disable-quic", "--hide-scrollbars", "--window-size=1240,2900", f"--screenshot={shot}",
                    page.as_uri()], check=True, capture_output=True)
    picture = Image.open(shot).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    picture.save(PICTURE, optimize=True)
    print(f"{PICTURE}, {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
