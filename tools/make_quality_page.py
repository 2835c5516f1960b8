"""Make docs/images/quality-page.png: the top of a page of the quality of generated images, of simulated sky.

    python tools/make_quality_page.py FOLDER

writes the page into FOLDER, and the picture of it where a Chromium is on the path. It takes half a minute.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

from astropy.table import QTable
from PIL import Image

from halopy import generators, simulate
from halopy.generative.quality.reference import gaussian_field, smoothed
from halopy.quality_page import write_quality

MIX = {"halo": 2, "radio-galaxy": 1, "none": 1}
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "quality-page.png"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    real, training = (simulate.cutouts(300, mix=MIX, rng=seed) for seed in (1, 5))
    conditions = QTable({"label": real.table["label"]})
    sets = {"exponential": generators.create("exponential").sample(300, conditions=conditions, rng=3),
            "smoothed": smoothed(training), "Gaussian field": gaussian_field(training, 300, rng=2)}
    write_quality(folder, real, sets, training=training, overwrite=True, rng=1)
    print(folder / "index.html")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium: no picture")
        return
    shot = folder / "page.png"
    subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                    f"--user-data-dir={folder / 'browser'}", f"--screenshot={shot}", "--window-size=1240,1700",
                    (folder / "index.html").as_uri()], check=True, capture_output=True)
    Image.open(shot).convert("RGB").quantize(256).save(PICTURE, optimize=True)
    print(PICTURE)


if __name__ == "__main__":
    main()
