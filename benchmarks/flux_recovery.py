"""Are fluxes and their errors right? Halos injected into simulated fields, measured by the matched filter.

Usage: python benchmarks/flux_recovery.py [--survey gleam-x-170-231] [--seed 20261122]

For each e-folding radius and ideal S/N: the median of measured over true flux within 3 r_e, and the
scatter of (measured - true) / error, with and without compact sources in the field. Centres are off
by a quarter of r_e. Intervals are 95 %, by bootstrap over fields.
"""

from __future__ import annotations

import argparse

import numpy as np
from astropy import units as u
from sky import field

from halopy import CutoutMaker, NoiseEstimator, classifiers
from halopy.image import Beam
from halopy.simulate.diffuse import FLUX_WITHIN_3RE, exponential_halo

FIELDS, POSITIONS = 12, 12


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", default="gleam-x-170-231")
    parser.add_argument("--seed", type=int, default=20261122)
    arguments = parser.parse_args()
    model = classifiers.create("matched-filter")
    print(f"{arguments.survey}, {FIELDS} fields of {POSITIONS}, seed {arguments.seed}")
    heads = ("r_e / beam", 12), ("ideal S/N", 11), ("flux ratio", 24), ("pull scatter", 24), ("median S/N", 12)
    print("field   " + "".join(f"{text:>{width}s}" for text, width in heads))
    for sources in (False, True):
        for radius in (0.5, 1.0, 2.0):
            for snr in (6, 12, 25):
                rng = np.random.default_rng(arguments.seed)
                ratio, pull, found = [], [], []
                for _ in range(FIELDS):
                    image = NoiseEstimator()(field(arguments.survey, rng, sources=sources))
                    cutouts = CutoutMaker(96, pixels_per_beam=3)(
                        image, image.wcs.pixel_to_world(*rng.uniform(60, 239, (2, POSITIONS))))
                    data, scale = cutouts.data.copy(), cutouts.table["pixel_scale"][0]
                    beam = Beam(*(cutouts.table[f"beam_{name}"][0] for name in ("major", "minor", "pa")))
                    r_e = radius * np.sqrt(beam.major * beam.minor)
                    flux = []
                    for i in range(POSITIONS):
                        dx, dy = rng.normal(0, 0.25 * float((r_e / scale).to_value(u.one)), 2)
                        halo = exponential_halo(beam, scale, data.shape[1:], r_e, x=47.5 + dx, y=47.5 + dy)
                        rms = u.Quantity(cutouts.table["rms"]).value[i]
                        flux.append(snr * rms / np.sqrt((halo**2).sum() / (2 * beam.area_pixels(scale))))
                        data[i] += flux[-1] * halo
                    measured = model.measure(cutouts.replace(data=data))
                    true = FLUX_WITHIN_3RE * np.array(flux)
                    value = measured["flux"].to_value(u.Jy)
                    error = np.hypot(measured["flux_noise"], measured["flux_subtraction"]).to_value(u.Jy)
                    ratio.append(value / true)
                    pull.append((value - true) / error)
                    found.append(measured["snr"])
                ratio, pull = np.array(ratio), np.array(pull)
                draws = [rng.integers(FIELDS, size=FIELDS) for _ in range(500)]
                cells = []
                for values, statistic in ((ratio, np.nanmedian), (pull, np.nanstd)):
                    low, high = np.quantile([statistic(values[d]) for d in draws], [0.025, 0.975])
                    cells.append(f"{statistic(values):.2f} [{low:.2f}, {high:.2f}]")
                print(f"{'sources' if sources else 'noise':8s}{radius:12g}{snr:11d}{cells[0]:>24s}{cells[1]:>24s}"
                      f"{np.nanmedian(found):12.1f}")


if __name__ == "__main__":
    main()
