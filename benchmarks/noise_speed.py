"""How fast and how right are maps of background and noise, beside those of sep, photutils, BANE and PyBDSF?

Usage: python benchmarks/noise_speed.py [--sizes 2048 8192] [--rounds 5] [--only REGEX] [--folder FOLDER]
           [--seed 20261127] [--no-memory]

The sky: noise of a beam of four pixels whose strength is known at every pixel (it varies by a factor of nearly three
over some hundred pixels), a background of a fifth of it, and point sources, one in 1,161 pixels, of 5 to 10,000 sigma
with dN/dS ~ S^-2; float32, with a header of a sky image. Errors are those of the rms against the known one, over every
third pixel of every third row: the median of its absolute value, the median, and the 99th percentile.

Boxes have 64 pixels, or 96 every 16 where BANE's geometry is said, or what the row says. "map" and "overlapping" are
`NoiseEstimator` of these methods as users call it (two maps, masks and checks); "at 30 places" is `NoiseEstimator.at`.
sep is needed; other peers that are not installed are left out: AegeanTools (BANE), bdsf (PyBDSF). halopy uses as many
threads as NUMBA_NUM_THREADS says, BANE and PyBDSF are given as many.

Methods are run in alternating rounds; those slower than a minute once. Ratios to sep are medians over the rounds,
with the smallest and the largest, of wall clock and of processor time (children counted). Memory: the largest of a
fresh process while the method runs, beyond what it held with the image, in units of the image (each map is 1).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from numba import config
from scipy.ndimage import gaussian_filter

from halopy import ClusterImage, NoiseEstimator

FWHM = 4.0


def true_noise(n):
    """``(n, n)`` standard deviations of the noise, in Jy/beam."""
    y, x = np.mgrid[:n, :n].astype(np.float32)
    hill = np.exp(-((x - 0.3 * n)**2 + (y - 0.6 * n)**2) / 700**2)
    waves = np.sin(2 * np.pi * x / 1500) * np.cos(2 * np.pi * y / 1900)
    return (0.01 * (1 + 0.4 * waves + 0.3 * hill)).astype(np.float32)


def make_sky(path, n, seed):
    """Write the image."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.standard_normal((n, n), dtype=np.float32), FWHM / 2.3548, mode="wrap", truncate=5)
    truth = true_noise(n)
    image = noise / noise.std(dtype=float) * truth
    y, x = np.mgrid[:n, :n].astype(np.float32)
    image += 0.002 * np.sin(2 * np.pi * (x + y / 2) / 2100)
    count = n * n // 1161
    snr = 1 / (1 / 5 - rng.random(count) * (1 / 5 - 1e-4))
    offset = np.arange(-20, 21)
    for s, a, b in zip(snr, *rng.uniform(0, n - 1, (2, count)), strict=True):
        j, i = (int(round(c)) + offset for c in (b, a))
        j, i = j[(j >= 0) & (j < n)], i[(i >= 0) & (i < n)]
        profile = [np.exp(-0.5 * ((k - c) * 2.3548 / FWHM)**2) for k, c in ((j, b), (i, a))]
        image[j[0]:j[-1] + 1, i[0]:i[-1] + 1] += s * truth[int(b), int(a)] * np.outer(*profile)
    header = fits.Header({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRVAL1": 30.0, "CRVAL2": -27.0,
                          "CRPIX1": n / 2, "CRPIX2": n / 2, "CDELT1": -30 / 3600, "CDELT2": 30 / 3600,
                          "CUNIT1": "deg", "CUNIT2": "deg", "BUNIT": "Jy/beam", "BMAJ": 120 / 3600, "BMIN": 120 / 3600,
                          "BPA": 0.0, "RADESYS": "FK5", "EQUINOX": 2000.0, "FREQ": 2e8})
    fits.PrimaryHDU(image.astype(np.float32), header=header).writeto(path)


def methods(path, image):
    """Name to a function that returns the rms, of all that is installed."""
    import sep

    places = image.wcs.pixel_to_world(*np.random.default_rng(1).uniform(0, len(image.data) - 1, (2, 30)))
    known = {
        "read the pixels": lambda: np.add.reduce(image.data, axis=None) and None,
        "sep": lambda: sep.Background(image.data, bw=64, bh=64, fw=3, fh=3).rms(),
        "halopy map, 64": lambda: NoiseEstimator(box=64)(image).rms,
        "halopy overlapping, 132": lambda: NoiseEstimator("overlapping", box=132)(image).rms,
        "halopy overlapping, 96 (BANE's geometry)": lambda: NoiseEstimator("overlapping", box=96)(image).rms,
        "halopy at 30 places, 64": lambda: NoiseEstimator(box=64).at(image, places) and None,
        "photutils, standard deviation": lambda: photutils(image.data, "StdBackgroundRMS"),
        "photutils, MAD": lambda: photutils(image.data, "MADStdBackgroundRMS"),
    }
    with contextlib.suppress(ImportError):
        from AegeanTools import BANE

        BANE.logger.setLevel(logging.ERROR)
        known["BANE, 96 every 16"] = lambda: BANE.filter_image(str(path), out_base=None, step_size=(16, 16),
                                                               box_size=(96, 96), cores=config.NUMBA_NUM_THREADS)[1]
    with contextlib.suppress(ImportError):
        import bdsf  # noqa: F401

        known["PyBDSF, 96 every 32"] = lambda: pybdsf(path)
    return known


def photutils(data, name):
    """As in the tutorials, with the settings of sep."""
    from astropy.stats import SigmaClip
    from photutils import background

    return background.Background2D(data, 64, filter_size=3, sigma_clip=SigmaClip(sigma=3.0, maxiters=10),
                                   bkg_estimator=background.MedianBackground(),
                                   bkg_rms_estimator=getattr(background, name)()).background_rms


def pybdsf(path):
    """PyBDSF up to its rms map: no islands are looked for."""
    from bdsf import collapse, mylogger, preprocess, readimage, rmsimage
    from bdsf.image import Image

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        mylogger.init_logger(os.path.join(folder, "log"), quiet=True)
        image = Image({"filename": str(path), "rms_map": True, "rms_box": (96, 32), "quiet": True, "frequency": 2e8,
                       "ncores": config.NUMBA_NUM_THREADS, "outdir": folder})
        image.log = ""
        for step in (readimage.Op_readimage, collapse.Op_collapse, preprocess.Op_preprocess, rmsimage.Op_rmsimage):
            step()(image)
    return np.squeeze(image.rms_arr).T


def processor():
    """Processor seconds of this process and its children."""
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, (resource.RUSAGE_SELF,
                                                                               resource.RUSAGE_CHILDREN)))


def memory(path, name, kind):
    """The largest memory while a method runs, beyond that before it, over the image's."""
    code = ("import sys, resource; sys.path.insert(0, sys.argv[1]); import noise_speed as n; "
            "print(n.extra_memory(sys.argv[2], sys.argv[3]))")
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent), str(path), name],
                          capture_output=True, text=True)
    return done.stdout.split()[-1] if done.returncode == 0 else kind


def extra_memory(path, name):
    """In a process of its own: see `memory`."""
    image = ClusterImage.read(path)
    method = methods(path, image)[name]
    small = image[:300, :300]  # a box in its corner has too few pixels, so that what fills it is imported, too
    with contextlib.suppress(Exception):  # what is compiled or imported at the first call is no memory of the work
        methods(path, small)[name]()
    Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text
    before = int(re.search(r"VmRSS:\s+(\d+)", status())[1])
    kept = method()
    peak = int(re.search(r"VmHWM:\s+(\d+)", status())[1])
    del kept
    return f"{(peak - before) * 1024 / image.data.nbytes:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--no-memory", action="store_true")
    arguments = parser.parse_args()
    print(f"{config.NUMBA_NUM_THREADS} threads, seed {arguments.seed}")
    for n in arguments.sizes:
        path = Path(arguments.folder) / f"noise-{n}-{arguments.seed}.fits"
        if not path.exists():
            make_sky(path, n, arguments.seed)
        image = ClusterImage.read(path)
        known = {name: method for name, method in methods(path, image).items()
                 if name == "sep" or re.search(arguments.only, name)}
        spent, last, slow = {name: [] for name in known}, {}, set()
        for number in range(arguments.rounds + 1):
            for name, method in known.items():
                if name in slow:
                    continue
                wall, own = time.perf_counter(), processor()
                last[name] = method()
                wall, own = time.perf_counter() - wall, processor() - own
                if wall > 60:
                    slow.add(name)
                if number or wall > 60:
                    spent[name].append((wall, own))
        truth = true_noise(n)
        print(f"\n{n} x {n} pixels: time of sep over that of the method (smallest to largest), wall clock and "
              "processor;\nmemory beyond the image; error of the rms in %: median absolute, median, 99th percentile")
        for name in known:
            ratios = [[sep[k] / own[k] for sep, own in zip(spent["sep"], spent[name], strict=False)] for k in (0, 1)]
            text = "  ".join(f"{statistics.median(r):7.3g} ({min(r):.3g} to {max(r):.3g})".ljust(26) for r in ratios)
            error, used = "", "-" if arguments.no_memory else memory(path, name, "-")
            if last[name] is not None:
                e = 100 * (last[name] / truth - 1)[::3, ::3]
                error = f"{np.nanmedian(np.abs(e)):5.2f} {np.nanmedian(e):6.2f} {np.nanpercentile(np.abs(e), 99):6.2f}"
            print(f"  {name:42s} {text} {used:>6s}  {error}", flush=True)
        ours = "halopy overlapping, 96 (BANE's geometry)"
        for name in sorted({"BANE, 96 every 16", "PyBDSF, 96 every 32"} & set(known) if ours in known else ()):
            wall, own = (statistics.median(one[k] for one in spent[name])
                         / statistics.median(one[k] for one in spent[ours]) for k in (0, 1))
            print(f"  {name}: {wall:.0f} times halopy with BANE's geometry by wall clock, {own:.0f} by processor")


if __name__ == "__main__":
    main()
