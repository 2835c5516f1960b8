"""FITS files of halopy's own: written the same each time, and opened only where they hold what their headers claim."""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import os
import re

from astropy.io import fits

__all__ = ["open_own", "with_checksums"]

_BLOCK = 2880
_MAX_BYTES = 2**29
_MAX_RATIO = 20
"""Times its size that a longer packed file may unpack to: images with noise in them pack to half."""
_CARD = re.compile(rb" *(BITPIX|NAXIS\d*|PCOUNT|GCOUNT) *= *([^/]*)", re.IGNORECASE)


def with_checksums(hdus):
    """Return HDUs as one list with ``CHECKSUM`` and ``DATASUM``.

    astropy's own ``checksum=True`` writes the time into the comments: no file would be the same as another.
    """
    found = []
    for hdu in hdus:
        if isinstance(hdu, fits.BinTableHDU):  # has its final bytes only when it is written
            buffer = io.BytesIO()
            fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
            buffer.seek(0)
            hdu = fits.open(buffer)[1]
        hdu.add_checksum(when="of this HDU")
        found.append(hdu)
    return fits.HDUList(found)


@contextlib.contextmanager
def open_own(path):
    """Yield a binary stream of a file, if its headers claim no more than there is.

    astropy takes memory and time for what a header claims, before it looks whether it is there. A gzip file is
    unpacked first, up to 512 MiB, or 20 times its size where that is more.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    ValueError
        The file is no FITS file of up to three axes and tables, or is cut short.
    OSError, EOFError, zlib.error
        It cannot be opened or unpacked.
    """
    with open(path, "rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            stream = _unpacked(path)
        stream.seek(0)
        if stream.read(9) != b"SIMPLE  =":
            raise ValueError("it is no FITS file: it does not begin with 'SIMPLE  ='")
        size, place = stream.seek(0, io.SEEK_END), 0
        while place < size:
            stream.seek(place)
            known = _sizes(stream)
            place = stream.tell()
            axes = [known.get(f"NAXIS{n}", -1) for n in range(1, known.get("NAXIS", 0) + 1)]
            pixels = math.prod(axes) if axes else 0
            length = abs(known.get("BITPIX", 0)) // 8 * known.get("GCOUNT", 1) * (known.get("PCOUNT", 0) + pixels)
            if min(axes, default=0) < 0 or not 0 <= length <= size - place:
                raise ValueError(f"it does not hold what its header claims, axes of {axes}")
            place += length + -length % _BLOCK
        stream.seek(0)
        yield stream


def _sizes(stream):
    known = {}
    while block := stream.read(_BLOCK):
        for start in range(0, len(block), 80):
            card = block[start:start + 80]
            if card.startswith(b"END     "):
                return known
            if match := _CARD.match(card):
                keyword = match[1].decode().upper()
                try:
                    value = int(match[2])
                except ValueError:
                    value = -1
                if keyword == "NAXIS" and not 0 <= value <= 3:
                    raise ValueError(f"NAXIS must be a number from 0 to 3, found {match[2].decode('latin-1').strip()}")
                known.setdefault(keyword, value)
    raise ValueError("its header is cut short: there is no END card")


def _unpacked(path):
    data, most = io.BytesIO(), max(_MAX_BYTES, _MAX_RATIO * os.stat(path).st_size)
    with gzip.open(path) as stream:
        while data.tell() <= most and (piece := stream.read(2**20)):
            data.write(piece)
    if data.tell() > most:
        raise ValueError(f"it would unpack to more than {most} bytes")
    return data
