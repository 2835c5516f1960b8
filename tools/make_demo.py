"""Make the field of ``halopy demo``: simulated sky as the extended MWA sees it, with its truth.

Usage: python tools/make_demo.py [FOLDER]  (default: halopy/data)

Gaussian beams with the slope of the source counts (Franzen+ 2019, arXiv 1812.00666, dN/dS ~ S^-1.6
at these fluxes), doubles, exponential halos and noise with the autocorrelation of the beam. Nothing
of it is real.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.wcs import WCS

from halopy import ClusterImage, surveys
from halopy.cutouts import write_atomically
from halopy.preprocess.subtract import beam_image
from halopy.simulate.diffuse import exponential_halo

SEED, SHAPE = 20261122, (420, 420)
HALOS = [  # name, x, y, total flux in mJy, r_e in arcsec, redshift
    ("Demo 1", 120.0, 300.0, 160.0, 75.0, 0.15),
    ("Demo 2", 310.0, 290.0, 70.0, 50.0, 0.25),
    ("Demo 3", 215.0, 205.0, 35.0, 40.0, 0.35),
]
OTHERS = [("Demo 4", 100.0, 110.0, "none", 0.20), ("Demo 5", 300.0, 115.0, "radio-galaxy", 0.10)]


def make(folder):
    rng = np.random.default_rng(SEED)
    survey = surveys["gleam-x-170-231"]
    scale = 20 * u.arcsec
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.crval, wcs.wcs.crpix = [30.0, -27.0], [(n + 1) / 2 for n in SHAPE]
    wcs.wcs.cdelt = [-scale.to_value(u.deg), scale.to_value(u.deg)]
    beam = survey.beam_at(SkyCoord(30 * u.deg, -27 * u.deg))

    white = np.fft.rfft2(rng.normal(size=SHAPE))
    kernel = np.fft.rfft2(np.fft.ifftshift(beam_image(beam, scale, SHAPE, x=SHAPE[1] // 2, y=SHAPE[0] // 2)))
    noise = np.fft.irfft2(white * kernel, SHAPE)
    sky = noise * survey.rms.to_value(u.Jy / u.beam) / noise.std()

    n_sources = 260
    flux = 0.004 * (1 - rng.uniform(size=n_sources)) ** (-1 / 0.6)
    for peak, x, y in zip(np.minimum(flux, 3.0), *rng.uniform(0, SHAPE[0] - 1, (2, n_sources)), strict=True):
        sky += peak * beam_image(beam, scale, SHAPE, x=x, y=y)
    for _, x, y, total, r_e, _ in HALOS:
        sky += total / 1000 * exponential_halo(beam, scale, SHAPE, r_e * u.arcsec, x=x, y=y)
    for dx, dy, peak in ((-3.5, 1.5, 0.120), (0.0, 0.0, 0.015), (3.8, -1.2, 0.090)):
        sky += peak * beam_image(beam, scale, SHAPE, x=OTHERS[1][1] + dx, y=OTHERS[1][2] + dy)

    image = ClusterImage(sky, wcs=wcs, unit=u.Jy / u.beam, beam=beam, frequency=survey.frequency,
                         name="demo (simulated)")
    image.write(folder / "demo.fits", overwrite=True)
    rows = [(n, x, y, "halo", z) for n, x, y, _, _, z in HALOS] + OTHERS
    positions = wcs.pixel_to_world([r[1] for r in rows], [r[2] for r in rows])
    table = QTable({"name": [r[0] for r in rows], "ra": positions.ra.round(5), "dec": positions.dec.round(5),
                    "label": [r[3] for r in rows], "redshift": [r[4] for r in rows],
                    "true_flux": np.array([h[3] for h in HALOS] + [0] * len(OTHERS)) * u.mJy,
                    "true_r_e": np.array([h[4] for h in HALOS] + [0] * len(OTHERS)) * u.arcsec})
    table.meta["comments"] = ["The simulated field of halopy demo; made by tools/make_demo.py. Nothing of it is real."]
    write_atomically(folder / "demo_targets.ecsv", lambda path: table.write(path, format="ascii.ecsv", overwrite=True))


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "halopy" / "data")
