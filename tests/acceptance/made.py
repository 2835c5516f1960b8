"""Files for the cases, each far below 50 kB unless the case is about size."""

from __future__ import annotations

import io

import numpy as np
from astropy.io import fits

SKY = {
    "CTYPE1": "RA---SIN",
    "CRPIX1": 32.5,
    "CRVAL1": 10.0,
    "CDELT1": -0.0025,
    "CTYPE2": "DEC--SIN",
    "CRPIX2": 32.5,
    "CRVAL2": -30.0,
    "CDELT2": 0.0025,
}
FULL = SKY | {"BUNIT": "Jy/beam", "BMAJ": 0.0125, "BMIN": 0.01, "BPA": 20.0, "RESTFRQ": 1.4e9, "RADESYS": "ICRS"}
NO_BEAM = {k: v for k, v in FULL.items() if k not in ("BMAJ", "BMIN", "BPA")}
PIXELS = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
CLEAN = "AIPS   CLEAN BMAJ=  1.2500E-02 BMIN=  1.0000E-02 BPA=  20.00"
TARGETS = "name,ra,dec\nA1,10,-30\n"
QUICK = ("--targets", "t.csv", "--classifier", "matched-filter", "--n-controls", "0")
"""What is not about a classifier or p-values needs neither."""


def header(cards, history=()):
    result = fits.Header()
    for keyword, value in cards.items():
        if value is not None:
            result[keyword] = value
    for line in history:
        result.add_history(line)
    return result


def content(cards=FULL, data=PIXELS, *extra, history=(), raw=None, checksum=False):
    """The bytes of a FITS file; ``raw`` replaces the values of cards by text as it is."""
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(data, header(cards, history)), *extra]).writeto(buffer, checksum=checksum)
    found = buffer.getvalue()
    for keyword, value in (raw or {}).items():
        place = found.index(f"{keyword:<8}= ".encode())
        found = found[:place] + f"{keyword:<8}= {value}".ljust(80).encode("latin-1") + found[place + 80 :]
    return found


def image(path, *arguments, **settings):
    """Write a FITS image and return its path."""
    path.write_bytes(content(*arguments, **settings))
    return path


def raw_header(*cards):
    """A padded header of raw cards: what astropy would refuse to write."""
    lines = ["SIMPLE  =                    T", *(f"{k:<8}= {v:>20}" for k, v in cards), "END"]
    text = "".join(line.ljust(80) for line in lines).encode()
    return text + b" " * (-len(text) % 2880)


def compressed(method, *, checksum):
    """A tile-compressed image of whole numbers, and its pixels."""
    data = np.abs(PIXELS * 100).astype(np.int16)
    buffer = io.BytesIO()
    hdu = fits.CompImageHDU(data, header(FULL), compression_type=method, tile_shape=(16, 16))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer, checksum=checksum)
    return buffer.getvalue(), data


def without_path(text):
    """What ``halopy inspect`` says, but for the lines that name the file."""
    return [line for line in text.splitlines() if not line.startswith(("image", "file"))]
