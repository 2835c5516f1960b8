"""Broken FITS files by the thousand: every one is read, or refused with a HaloInputError.

    python benchmarks/fuzz.py -n 10000

Valid files of many kinds are made, their cards, bytes and lengths changed at random, and each is given to
the function of halopy that reads such files. It may answer or raise a HaloInputError. Any other exception,
more than 8 seconds of processor time (a minute of any time), 1 GiB of memory beyond what the process began
with, and a process that dies are faults: they are counted by kind, and the exit code is 1. File number K of
a seed is always the same; ``--first K -n 1 --keep DIR`` makes it again.
"""

from __future__ import annotations

import argparse
import bz2
import collections
import gzip
import io
import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable

from halopy import Beam, ClusterImage, CutoutSet
from halopy.cutouts import tangent_wcs
from halopy.errors import HaloInputError
from halopy.io.catalog import read_targets
from halopy.io.detections import blank_detections, read_detections, write_detections
from halopy.io.fits import describe, read_image

LIMIT = 8
"""Seconds of processor time for one file."""

STUCK = 60
"""Seconds of any time after which a process that waits for something is ended."""

MEMORY = 2**30
FINE = ("read", "HaloInputError")

SKY = {"CTYPE1": "RA---SIN", "CRPIX1": 16.0, "CRVAL1": 10.0, "CDELT1": -0.01,
       "CTYPE2": "DEC--SIN", "CRPIX2": 16.0, "CRVAL2": -30.0, "CDELT2": 0.01,
       "BUNIT": "JY/BEAM", "BMAJ": 0.04, "BMIN": 0.03, "BPA": 20.0, "RESTFRQ": 2e8}
VALUES = ["0", "-1", "3", "999", "1000000000", "9" * 20, "1E308", "1E400", "NaN", "'abc'", "''", "T", "F", "", "1D5",
          "45.0", "1E-320", "'FREQ'", "'J2000'", "'unclosed", "(1,2)", "2147483647", "-2147483648", "'RA---XYZ'", "16",
          "'1PB(9)'", "'99999999E'", "'(1,2,3)'", "4294967296"]
KEYWORDS = ["NAXIS", "NAXIS1", "WCSAXES", "A_ORDER", "BSCALE", "BZERO", "BLANK", "PV2_1", "LONPOLE", "CD1_1", "PC1_2",
            "CROTA2", "RADESYS", "EPOCH", "PCOUNT", "GCOUNT", "BITPIX", "CUNIT1", "DATASUM", "HALOMETA", "CTYPE3",
            "BUNIT", "XTENSION", "TFORM1", "TDIM1", "TSCAL1", "TZERO1", "TNULL1", "THEAP", "ZTILE1", "ZQUANTIZ",
            "ZSCALE", "EXTNAME", "SIMPLE", "END", "CONTINUE", "INHERIT", "CPDIS1", "PS1_0", "CROTA1"]


def make_seeds():
    """Return {name: (bytes, door)}: valid files, and which function reads them."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(32, 32)).astype(np.float32)
    counts = np.abs(pixels * 100).astype(np.int16)
    beams = fits.BinTableHDU.from_columns([fits.Column(name, "E", array=[144.0], unit="arcsec")
                                           for name in ("BMAJ", "BMIN")], name="BEAMS")
    four = {"CTYPE3": "FREQ", "CRVAL3": 2e8, "CDELT3": 1e6, "CTYPE4": "STOKES", "CRVAL4": 1.0}
    sip = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-3}
    images = {
        "float32": _image(pixels, checksum=True), "float64": _image(pixels.astype(float)),
        "int16": _image(counts, BLANK=-1), "4-D": _image(np.ones((1, 1, 16, 16)) * np.arange(16.0), **four),
        "SIP": _image(pixels, **sip), "CD": _image(pixels, CD1_1=-0.01, CD2_2=0.01, CDELT1=None, CDELT2=None),
        "HISTORY": _image(pixels, BMAJ=None, HISTORY="AIPS   CLEAN BMAJ=  4.0E-02 BMIN=  3.0E-02 BPA=  20.00"),
        "BEAMS": _image(pixels, beams, BMAJ=None, CASAMBM=True),
        "SCI": _file(fits.PrimaryHDU(), fits.ImageHDU(counts, name="WHT"),
                     fits.ImageHDU(pixels, _header(), name="SCI")),
        "own": _written(lambda path: _cluster_image(pixels).write(path)),
    }
    images |= {method: _file(fits.PrimaryHDU(), fits.CompImageHDU(data, _header(), compression_type=method, **more))
               for method, data, more in (("RICE_1", counts, {}), ("GZIP_1", pixels, {}), ("GZIP_2", pixels, {}),
                                          ("HCOMPRESS_1", counts, {"tile_shape": (16, 16)}), ("PLIO_1", counts, {}),
                                          ("NOCOMPRESS", counts, {}))}
    images |= {"gzip": gzip.compress(images["float32"]), "bzip2": bz2.compress(images["float32"])}
    doors = {"image": (images, lambda path: describe(read_image(path)))}
    table = QTable({"name": ["a", "b"], "position": SkyCoord([3.0, 4.0], [-30.0, -31.0], unit="deg"),
                    "pixel_scale": [28.0, 28.0] * u.arcsec})
    cutouts = CutoutSet(np.stack([pixels, pixels]), table, unit=u.Jy / u.beam,
                        meta={"wcs": {"a": _header().tostring("\n")}, "sources": table})
    doors["cutouts"] = {"cutouts": _written(lambda path: cutouts.write(path))}, CutoutSet.read
    found = blank_detections(table["name"], table["position"], status="ok")
    with tempfile.TemporaryDirectory() as folder:
        detections = Path(write_detections(found, folder)["fits"]).read_bytes()
    doors["detections"] = {"detections": detections}, read_detections
    doors["targets"] = {"targets": detections}, read_targets
    return {f"{door} {name}": (raw, read) for door, (files, read) in doors.items() for name, raw in files.items()}


def _header(**changes):
    header = fits.Header()
    for keyword, value in (SKY | changes).items():
        if value is not None:
            header[keyword] = value
    return header


def _image(data, *extra, checksum=False, **changes):
    return _file(fits.PrimaryHDU(data, _header(**changes)), *extra, checksum=checksum)


def _file(*hdus, checksum=False):
    buffer = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(buffer, checksum=checksum)
    return buffer.getvalue()


def _written(write):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.fits"
        write(path)
        return path.read_bytes()


def _cluster_image(pixels):
    wcs = tangent_wcs(SkyCoord(3.58, -30.39, unit="deg"), 28 * u.arcsec, pixels.shape)
    return ClusterImage(pixels, wcs=wcs, unit=u.Jy / u.beam, beam=Beam(140 * u.arcsec), frequency=200 * u.MHz,
                        rms=abs(pixels) + 1, background=pixels / 7)


def mutate(raw, choose):
    """Change cards, bytes or the length of a file."""
    raw = bytearray(raw)
    for _ in range(choose.choice([1, 1, 2, 4])):
        cards = [i for i in range(0, len(raw) - 79, 80) if raw[i + 8:i + 10] == b"= "]
        kind = choose.random()
        sizes = [i for i in cards if raw[i:i + 5] in (b"NAXIS", b"BITPI", b"PCOUN", b"GCOUN", b"TFIEL", b"TFORM")]
        if kind < 0.1 and sizes:
            place = choose.choice(sizes)
            raw[place + 8:place + 80] = f"= {choose.choice(VALUES):>20}".ljust(72).encode()
        elif kind < 0.4 and cards:
            place = choose.choice(cards)
            raw[place + 8:place + 80] = ("= " + choose.choice(VALUES)).ljust(72).encode()
        elif kind < 0.6 and cards:
            place = choose.choice(cards)
            raw[place:place + 80] = f"{choose.choice(KEYWORDS):<8}= {choose.choice(VALUES):>20}".ljust(80).encode()[:80]
        elif kind < 0.7 and cards:
            one, two = choose.choice(cards), choose.choice(cards)
            raw[one:one + 80], raw[two:two + 80] = raw[two:two + 80], raw[one:one + 80]
        elif kind < 0.85:
            for _ in range(choose.choice([1, 20])):
                raw[choose.randrange(len(raw))] = choose.randrange(256)
        elif kind < 0.93:
            del raw[choose.randrange(1, len(raw)):]
        else:
            place = choose.randrange(len(raw))
            del raw[place:place + choose.choice([1, 80, 2880])]
        raw = raw or bytearray(b" ")
    return bytes(raw)


def make(number, seed, seeds):
    """Return (name, bytes, door) of one file."""
    choose = random.Random(seed * 10**9 + number)
    name = choose.choice(sorted(seeds))
    raw, read = seeds[name]
    if name.endswith(("gzip", "bzip2")) and choose.random() < 0.5:
        # Broken within, and packed as it should be.
        pack, unpack = (gzip.compress, gzip.decompress) if name.endswith("gzip") else (bz2.compress, bz2.decompress)
        return name, pack(mutate(unpack(raw), choose)), read
    return name, mutate(raw, choose), read


def _worker(numbers, seed, seeds, path, results):
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, also within a library in C
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    warnings.simplefilter("ignore")
    for number in numbers:
        name, raw, read = make(number, seed, seeds)
        path.write_bytes(raw)
        results.send((number, name, None))
        signal.setitimer(signal.ITIMER_PROF, LIMIT)
        try:
            read(path)
            outcome = "read"
        except HaloInputError as error:
            outcome = "HaloInputError" if str(path) in str(error) else "HaloInputError without the path"
        except Exception as error:
            outcome = type(error).__name__
        signal.setitimer(signal.ITIMER_PROF, 0)
        results.send((number, name, outcome))
    results.close()


def run(seeds, *, seed=0, first=0, n=None, seconds=None, jobs=2, keep=None):
    """Give files to halopy, in ``jobs`` processes; return a Counter of (kind of file, outcome)."""
    counts, end = collections.Counter(), None if seconds is None else time.monotonic() + seconds
    last = sys.maxsize if n is None else first + n
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        workers = {job: _start(context, range(first + job, last, jobs), seed, seeds, Path(folder) / f"{job}.fits")
                   for job in range(jobs)}
        while workers:
            for job, worker in list(workers.items()):
                current = _follow(worker, counts, end)
                if current == "finished":
                    del workers[job]
                elif current is not None:  # it died over this file; another goes on behind it
                    number, name, outcome = current
                    counts[name, outcome] += 1
                    print(f"{name}: {outcome}, file {number} of seed {seed}", flush=True)
                    rest = range(number + jobs, last, jobs)
                    workers[job] = _start(context, rest, seed, seeds, Path(folder) / f"{job}.fits")
            time.sleep(0.05)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for number in range(first, last if n is not None else first):
            (keep / f"{number}.fits").write_bytes(make(number, seed, seeds)[1])
    return counts


def _start(context, numbers, seed, seeds, path):
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_worker, args=(numbers, seed, seeds, path, send), daemon=True)
    process.start()
    send.close()
    return {"process": process, "results": receive, "file": None, "since": time.monotonic()}


def _follow(worker, counts, end):
    """Take what a process has to tell; return "finished", or what it died over."""
    process, ended = worker["process"], False
    while worker["results"].poll():
        try:
            number, name, outcome = worker["results"].recv()
        except EOFError:
            ended = True
            break
        worker["since"] = time.monotonic()
        worker["file"] = (number, name) if outcome is None else None
        if outcome is not None:
            counts[name, outcome] += 1
            if outcome not in FINE:
                print(f"{name}: {outcome}, file {number}", flush=True)
    if end is not None and time.monotonic() > end and worker["file"] is None or ended and worker["file"] is None:
        process.kill()
        process.join()
        return "finished"
    stuck = worker["file"] is not None and time.monotonic() - worker["since"] > STUCK
    if stuck:
        process.kill()
    if not (ended or stuck):
        return None
    process.join()
    kind = {-signal.SIGPROF: "hang", -signal.SIGKILL: "hang"}.get(process.exitcode, f"exit {process.exitcode}")
    return *worker["file"], kind


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, help="so many files")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--seed", type=int, default=0, help="other files (default 0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first file (default 0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the files there, too")
    arguments = parser.parse_args()
    if arguments.n is None and arguments.seconds is None:
        parser.error("-n or --seconds says how much is tried")
    counts = run(make_seeds(), **vars(arguments))
    total = collections.Counter()
    for (_, outcome), number in counts.items():
        total[outcome] += number
    for outcome, number in total.most_common():
        print(f"{number:8d}  {outcome}")
    print(f"{sum(total.values()):8d}  files of {len({name for name, _ in counts})} kinds, seed {arguments.seed}")
    return int(any(outcome not in FINE for outcome in total))


if __name__ == "__main__":
    sys.exit(main())
