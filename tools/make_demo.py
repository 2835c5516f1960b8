"""Make the field of ``halopy demo``: simulated sky as the extended MWA sees it, with its truth.

Usage: python tools/make_demo.py [FOLDER]  (default: halopy/data)

Nothing of it is real.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy import simulate, surveys
from halopy.cutouts import write_atomically

SEED, SHAPE, CENTRE = 20261122, (420, 420), SkyCoord(30 * u.deg, -27 * u.deg)
SOURCES = [  # name, x, y, class, total flux in mJy, r_e or length in arcsec, redshift
    ("Demo 1", 120.0, 300.0, "halo", 160.0, 75.0, 0.15),
    ("Demo 2", 310.0, 290.0, "halo", 70.0, 50.0, 0.25),
    ("Demo 3", 215.0, 205.0, "halo", 35.0, 40.0, 0.35),
    ("Demo 4", 240.0, 290.0, "none", 0.0, np.nan, 0.20),
    ("Demo 5", 300.0, 115.0, "radio-galaxy", 220.0, 160.0, 0.10),
]


def make(folder):
    survey = dataclasses.replace(surveys["gleam-x-170-231"], pixel_scale=20 * u.arcsec)
    blank, _ = simulate.field(SHAPE, survey=survey, position=CENTRE, clusters=0, faintest=2 * u.mJy,
                              artefacts=simulate.Artefacts(borders=0), rng=SEED)
    name, x, y, kind, flux, size, redshift = map(np.array, zip(*SOURCES, strict=True))
    halo = kind == "halo"
    sources = QTable({"name": name, "position": blank.wcs.pixel_to_world(x, y), "class": kind, "flux": flux * u.mJy,
                      "r_e": np.where(halo, size, np.nan) * u.arcsec,
                      "length": np.where(halo, np.nan, size) * u.arcsec, "seed": np.full(len(name), 1)})
    image = simulate.inject(blank, sources).replace(name="demo (simulated)", meta={})
    image.write(folder / "demo.fits", overwrite=True)
    table = QTable({"name": name, "ra": sources["position"].ra.round(5), "dec": sources["position"].dec.round(5),
                    "label": kind, "redshift": redshift, "true_flux": np.where(halo, flux, 0) * u.mJy,
                    "true_r_e": np.where(halo, size, 0) * u.arcsec})
    table.meta["comments"] = ["The simulated field of halopy demo; made by tools/make_demo.py. Nothing of it is real."]
    write_atomically(folder / "demo_targets.ecsv", lambda path: table.write(path, format="ascii.ecsv", overwrite=True))


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "halopy" / "data")
