"""How fast are simulated cutouts, and where does the time go?

Usage: python benchmarks/simulate_speed.py [--survey gleam-170-231] [-n 4096] [--seed 20261122]

One thread (set OMP_NUM_THREADS=1). Cutouts of 64 × 64 pixels, the default mix and artefacts; for GLEAM
at 170-231 MHz the compact sources reach down to 5 mJy. The best of five runs, by processor time, after
a first one that compiles. The profile is of one more run.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time

import numpy as np
from astropy import units as u

from halopy import simulate, surveys

PARTS = {"scenes": "what the sky holds", "components": "sources to Gaussians", "paint_components": "painting",
         "draw_noise": "noise", "rms_gradient": "artefacts: rms", "add_artefacts": "artefacts: rings, waves",
         "truth_columns": "truth columns"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", default="gleam-170-231")
    parser.add_argument("-n", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=20261122)
    arguments = parser.parse_args()
    faintest = 5 * u.mJy if arguments.survey == "gleam-170-231" else None

    def run():
        return simulate.cutouts(arguments.n, survey=surveys[arguments.survey], faintest=faintest, rng=arguments.seed)

    cutouts = run()
    sources = len(cutouts.meta["sources"]) / arguments.n
    seconds = []
    for _ in range(5):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    rate = arguments.n / np.array(seconds)
    print(f"{arguments.survey}, {arguments.n} cutouts of 64 x 64, {sources:.0f} sources each, seed {arguments.seed}")
    print(f"{rate.max():.0f} cutouts a core-second (best of five; median {np.median(rate):.0f})")
    with cProfile.Profile() as profile:
        run()
    stats = pstats.Stats(profile).stats
    total = sum(row[2] for row in stats.values())
    for name, what in PARTS.items():
        spent = sum(row[3] for key, row in stats.items() if key[2] == name and "simulate" in key[0])
        print(f"  {what:26s}{spent / total:6.0%}")


if __name__ == "__main__":
    main()
