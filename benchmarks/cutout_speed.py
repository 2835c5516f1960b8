"""How fast are cutouts, beside the loops that astronomers write?

Usage: python benchmarks/cutout_speed.py [--size 8192] [-n 10000] [--rounds 5] [--seed 20261127] [--folder FOLDER]
       [--frame icrs]

Makes a sky (noise correlated by a beam of 4 pixels, and sources), writes it as one FITS file, and cuts 64 × 64 pixels
about positions on the sky: pixels as they are, beside `astropy.nddata.Cutout2D`, and resampled to ten pixel scales from
20 to 45 arcsec, beside `reproject.reproject_interp` on a part of the image. halopy does all positions in one call (a
tenth in each of ten calls), with its table; the loops do a part of them, with the same scales. The methods take turns,
and ratios are medians over rounds, with the smallest and the largest, by wall clock and by processor time. In ICRS, the
default, no method has to change frames; in FK5, that of many radio images, all do, and the loops at every position. Set
NUMBA_NUM_THREADS and OMP_NUM_THREADS. What is compiled is compiled before.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS
from reproject import reproject_interp
from scipy.ndimage import gaussian_filter

from halopy import ClusterImage, CutoutMaker

BEAM = 4
PIXEL = 30
SIZE = 64
SCALES = np.linspace(20, 45, 10)


def make_sky(size, frame, rng):
    """Noise of unit rms and sources, both as wide as the beam, on a SIN projection."""
    sigma = BEAM / np.sqrt(8 * np.log(2))
    noise = gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), sigma, mode="wrap")
    points = np.zeros_like(noise)
    n = size * size // 1161
    points[rng.integers(0, size, n), rng.integers(0, size, n)] = 5 / (1 - 0.999 * rng.random(n))
    sky = noise / noise.std() + gaussian_filter(points, sigma, mode="wrap") * (2 * np.pi * sigma**2)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---SIN", "DEC--SIN"], [-PIXEL / 3600, PIXEL / 3600]
    wcs.wcs.crval, wcs.wcs.crpix = [30, -27], [size / 2 + 0.5] * 2
    wcs.wcs.radesys = frame.upper()
    header = wcs.to_header()
    header["BUNIT"], header["BMAJ"], header["BMIN"], header["BPA"] = "JY/BEAM", *[BEAM * PIXEL / 3600] * 2, 0
    return fits.PrimaryHDU(sky.astype(np.float32), header)


def tangent(position, scale):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-scale / 3600, scale / 3600]
    wcs.wcs.crval, wcs.wcs.crpix = [position.ra.deg, position.dec.deg], [(SIZE + 1) / 2] * 2
    wcs.wcs.radesys = position.frame.name.upper()
    return wcs


class Methods:
    """Each returns its cutouts; the loops those of the first positions (of each scale)."""

    def __init__(self, path, positions, loops):
        self.path, self.positions, (self.n_copied, self.n_resampled) = path, positions, loops
        self.image = ClusterImage.read(path)
        self.noisy = self.image.replace(rms=np.ones(self.image.shape, np.float32))
        self.hdus = fits.open(path, memmap=True)
        self.pixels, self.wcs = self.hdus[0].data, WCS(self.hdus[0].header)
        self.parts = np.array_split(np.arange(len(positions)), len(SCALES))

    def copy_loop(self):
        out = np.empty((self.n_copied, SIZE, SIZE), np.float32)
        for i in range(self.n_copied):
            out[i] = Cutout2D(self.pixels, self.positions[i], (SIZE, SIZE), wcs=self.wcs).data
        return out

    def copy(self):
        return CutoutMaker(SIZE)(self.image, self.positions).data

    def copy_with_rms(self):
        return CutoutMaker(SIZE)(self.noisy, self.positions).data

    def copy_with_read(self):
        return CutoutMaker(SIZE)(ClusterImage.read(self.path), self.positions).data

    def resample_loop(self, order, **settings):
        out = []
        for scale, part in zip(SCALES, self.parts, strict=True):
            half = int(np.ceil(1.5 * SIZE / 2 * scale / PIXEL)) + 4
            for position in self.positions[part[:self.n_resampled // len(SCALES)]]:
                cut = Cutout2D(self.pixels, position, 2 * half, wcs=self.wcs)
                out.append(reproject_interp((np.asarray(cut.data, np.float32), cut.wcs), tangent(position, scale),
                                            shape_out=(SIZE, SIZE), return_footprint=False, order=order, **settings))
        return np.array(out)

    def resample(self, order, image=None):
        image = self.image if image is None else image
        return [CutoutMaker(SIZE, pixel_scale=scale * u.arcsec, order=order)(image, self.positions[part]).data
                for scale, part in zip(SCALES, self.parts, strict=True)]

    def resample_with_read(self):
        return self.resample(3, ClusterImage.read(self.path))


def rounds(methods, n):
    """Run all methods in turn; return the wall and processor times of each, ``(n, 2)``."""
    times = {name: [] for name in methods}
    for _ in range(n):
        for name, method in methods.items():
            wall, cpu = time.perf_counter(), time.process_time()
            method()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: np.array(values) for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--loops", type=int, nargs=2, default=(500, 60), help="cutouts of the two loops")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--frame", choices=("icrs", "fk5"), default="icrs")
    parser.add_argument("--folder", help="where to keep the sky; default a temporary folder")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the file states no frequency
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(arguments.folder or temporary) / f"sky-{arguments.size}-{arguments.frame}-{arguments.seed}.fits"
        if not path.exists():
            make_sky(arguments.size, arguments.frame, rng).writeto(path)
        margin = 130
        x, y = np.random.default_rng(arguments.seed).uniform(margin, arguments.size - margin, (2, arguments.n))
        ra, dec = WCS(fits.getheader(path)).all_pix2world(x, y, 0)
        report(Methods(path, SkyCoord(ra, dec, unit="deg", frame=arguments.frame), arguments.loops), arguments)


def report(m, arguments):
    methods = {"Cutout2D": m.copy_loop, "own grid": m.copy, "own grid, with an rms map": m.copy_with_rms,
               "own grid, file read": m.copy_with_read,
               "bilinear": lambda: m.resample_loop("bilinear"), "order=1": lambda: m.resample(1),
               "bicubic": lambda: m.resample_loop("bicubic"), "order=3": lambda: m.resample(3),
               "order=3, file read": m.resample_with_read,
               "bicubic, no round trip": lambda: m.resample_loop("bicubic", roundtrip_coords=False)}
    print(f"{arguments.n} cutouts of {SIZE} x {SIZE} from {arguments.size} x {arguments.size} pixels, "
          f"{arguments.frame.upper()}, {os.environ.get('NUMBA_NUM_THREADS', os.cpu_count())} thread(s)")
    same = (m.copy()[:m.n_copied] == m.copy_loop()).all()
    print(f"own grid: pixels {'identical to' if same else 'DIFFER from'} those of Cutout2D")
    for order, name in ((1, "bilinear"), (3, "bicubic")):
        expected = m.resample_loop(name)
        found = np.concatenate([part[:m.n_resampled // len(SCALES)] for part in m.resample(order)])
        peak = np.abs(expected).max(axis=(1, 2), keepdims=True)
        print(f"order={order}: differs from reproject's {name} by {np.max(np.abs(found - expected) / peak):.0e} of a "
              "cutout's peak, at most")
    times = rounds(methods, arguments.rounds)
    rate = {name: (m.n_copied if name == "Cutout2D" else m.n_resampled // len(SCALES) * len(SCALES)
                   if name.startswith("bi") else arguments.n) / spent for name, spent in times.items()}
    for name, peer, what in (
            ("own grid", "Cutout2D", "Cutout2D in a loop"), ("own grid, with an rms map", "Cutout2D", "the same"),
            ("own grid, file read", "Cutout2D", "the same"), ("order=1", "bilinear", "reproject_interp bilinear"),
            ("order=3", "bicubic", "reproject_interp bicubic"), ("order=3, file read", "bicubic", "the same"),
            ("order=3", "bicubic, no round trip", "the same, roundtrip_coords=False")):
        ratio = rate[name] / rate[peer]
        wall, cpu = (f"{np.median(r):4.0f} ({r.min():.0f} to {r.max():.0f})" for r in ratio.T)
        print(f"{name:26s}{wall:18s} x by wall clock, {cpu:18s} x by processor time: {what}")


if __name__ == "__main__":
    main()
