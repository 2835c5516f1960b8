"""How fast is augmentation, beside the usual recipe: scipy's rotate, a flip, and scipy's zoom?

Usage: python benchmarks/augment_speed.py [-n 200] [--rounds 5] [--seed 20261127]

Cutouts become 160 images of 64 × 64 pixels each. The zoom set has 16 orientations at 10 zooms from 0.9 to 1.3; halopy
cuts it from 100 × 100 pixels, so that corners show real sky, and interpolates once, with a cubic spline. The recipe has
96 × 96 pixels, and interpolates twice, linearly. The brightness set is `halopy.Augmenter()`: 16 orientations and 10
factors. The methods take turns; ratios are medians over the rounds, with the smallest and the largest. Set
NUMBA_NUM_THREADS=1 for one thread. What is compiled is compiled before.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from scipy import ndimage

from halopy import Augmenter, CutoutSet

SIZE = 64
SIGMA = 4 / np.sqrt(8 * np.log(2))
ZOOM = (0.9, 1.3)


def recipe(plane):
    out = np.empty((160, SIZE, SIZE), np.float32)
    views = ((z, flip, angle) for z in np.linspace(*ZOOM, 10) for flip in (False, True) for angle in range(0, 360, 45))
    for i, (zoom, flip, angle) in enumerate(views):
        view = ndimage.rotate(plane, angle, reshape=False, order=1)
        view = ndimage.zoom(view[:, ::-1] if flip else view, zoom, order=1)
        start = (len(view) - SIZE) // 2
        out[i] = view[start:start + SIZE, start:start + SIZE]
    return out


def flux_error():
    """Return by how much the flux of a source as wide as a beam of 4 pixels is off, divided by the zoom squared."""
    y, x = np.indices((100, 100)) - 49.5
    source = CutoutSet(np.exp(-((x - 7.3) ** 2 + (y + 5.1) ** 2) / (2 * SIGMA**2))[None])
    flux = source.data.sum(dtype=float)
    out = Augmenter(brightness_range=(1, 1), zoom=ZOOM)(source, rng=0)
    kept = out.data.sum(axis=(1, 2), dtype=float) / out.table["zoom"] ** 2 / flux
    return np.abs(kept - 1).max()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=200, help="cutouts; the recipe has one a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=20261127)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((1024, 1024), dtype=np.float32), SIGMA)
    corners = rng.integers(0, 1024 - 100, (arguments.n, 2))
    cutouts = CutoutSet(np.stack([noise[y:y + 100, x:x + 100] for y, x in corners]))
    zooms, brightness = Augmenter(brightness_range=(1, 1), zoom=ZOOM), Augmenter()
    methods = {"recipe": lambda: recipe(cutouts.data[0, 2:98, 2:98]), "zoom set": lambda: zooms(cutouts, rng=0),
               "brightness set": lambda: brightness(cutouts, rng=0)}
    times = {name: [] for name in methods}
    zooms(cutouts[:1], rng=0)
    for _ in range(arguments.rounds):
        for name, method in methods.items():
            wall, cpu = time.perf_counter(), time.process_time()
            method()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    print(f"{arguments.n} cutouts to 160 x {SIZE} x {SIZE}, {os.environ.get('NUMBA_NUM_THREADS', os.cpu_count())} "
          f"thread(s), {arguments.rounds} rounds")
    images = {name: 1 if name == "recipe" else arguments.n for name in methods}
    rate = {name: images[name] / np.array(spent) for name, spent in times.items()}
    for name in ("zoom set", "brightness set"):
        ratio = rate[name] / rate["recipe"]
        wall, cpu = (f"{np.median(r):4.0f} ({r.min():.0f} to {r.max():.0f})" for r in ratio.T)
        print(f"{name:16s}{wall:18s} x by wall clock, {cpu:18s} x by processor time: scipy rotate, flip, zoom")
    print(f"flux of a source of 4 pixels FWHM, over zoom squared, at every angle and zoom: off by {flux_error():.1e}")


if __name__ == "__main__":
    main()
