"""The check of a tile-compressed image before its tiles are handed to a decompressor in C.

astropy's HCOMPRESS decoder writes beyond the tile where the stream claims more pixels than the
header does: a damaged or hostile file would corrupt the memory of the process. Nothing but a
consistent set of tiles reaches a decoder here.

The convention is that of Pence, White & Seaman 2010 and section 10 of the FITS standard 4.0.
"""

from __future__ import annotations

import itertools
import math
import re

import numpy as np

from halopy.errors import HaloInputError

__all__ = ["check_tiles"]

_WIDTHS = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_FORM = re.compile(r"(\d*)([LXBAIJEKDCMPQ])([LXBAIJEKDCM]?)")
_PARAMETERS = {"BLOCKSIZE": (1, 4096), "BYTEPIX": (1, 8), "SMOOTH": (0, 1)}
_HCOMPRESS = b"\xdd\x99"


def check_tiles(chosen, stream, *, path):
    """Check the table of a tile-compressed image: rows, descriptors, parameters, HCOMPRESS headers.

    Parameters
    ----------
    chosen : HDUSummary
        Of the kind ``"compressed"``.
    stream : binary file
        The checked bytes of the file.
    path : path-like
        For errors.

    Raises
    ------
    HaloInputError
        Naming the keyword or column that does not fit.
    """
    cards = chosen.cards

    def fail(message, keyword, found=None):
        raise HaloInputError(message, path=path, hdu=chosen.index, keyword=keyword,
                             found=cards.get(keyword) if found is None else found, hint="fetch the file again")

    shape = chosen.shape[::-1]
    tile = [min(cards.get(f"ZTILE{n}", shape[0] if n == 1 else 1), shape[n - 1]) for n in range(1, len(shape) + 1)]
    counts = [math.ceil(length / step) for length, step in zip(shape, tile, strict=True)]
    rows = cards.get("NAXIS2", 0)
    if cards.get("NAXIS") != 2 or rows != math.prod(counts):
        fail(f"the table of tiles must have {math.prod(counts)} rows, one for each tile", "NAXIS2")
    for n in range(1, 100):
        if f"ZNAME{n}" not in cards:
            break
        name, value = cards.text(f"ZNAME{n}"), cards.get(f"ZVAL{n}")
        low, high = _PARAMETERS.get(name, (-1e9, 1e9))
        if isinstance(value, (bool, str)) or value is None or not low <= value <= high:
            fail(f"the compression parameter {name} must be a number from {low:g} to {high:g}", f"ZVAL{n}")
        if name == "BYTEPIX" and value not in (1, 2, 4, 8) or name in _PARAMETERS and not isinstance(value, int):
            fail(f"the compression parameter {name} is out of its range", f"ZVAL{n}")
    table = _descriptors(chosen, stream, fail)
    if cards.text("ZCMPTYPE") == "HCOMPRESS_1" and "COMPRESSED_DATA" in table:
        sizes = [[min(step, length - i * step) for i in range(count)]
                 for length, step, count in zip(shape, tile, counts, strict=True)]
        pixels = (math.prod(reversed(size)) for size in itertools.product(*reversed(sizes)))
        for (length, place), expected in zip(table["COMPRESSED_DATA"], pixels, strict=True):
            if length:
                _check_hcompress(stream, place, length, expected, fail)


def _descriptors(chosen, stream, fail):
    """Return {column: (n, 2) array of length in bytes and place in the file} of the variable columns."""
    cards = chosen.cards
    width, rows = cards["NAXIS1"], cards["NAXIS2"]
    stream.seek(chosen.start)
    data = np.frombuffer(stream.read(width * rows), np.uint8).reshape(rows, width)
    heap = chosen.start + cards.get("THEAP", width * rows)
    end = chosen.start + chosen.size
    found, offset = {}, 0
    for n in range(1, cards["TFIELDS"] + 1):
        match = _FORM.match(cards.text(f"TFORM{n}").upper())
        if not match:
            fail("a column of the table of tiles has no known format", f"TFORM{n}")
        repeat, kind, element = int(match[1] or 1), match[2], match[3]
        size = (repeat + 7) // 8 if kind == "X" else repeat * _WIDTHS[kind]
        if kind in "PQ" and repeat:
            if repeat > 1 or element not in _WIDTHS or offset + size > width:
                fail("a column of the table of tiles has no known format", f"TFORM{n}")
            pair = np.ascontiguousarray(data[:, offset:offset + size]).view(">i4" if kind == "P" else ">i8")
            pair = pair.astype(np.int64)
            if (pair < 0).any() or (pair > 2**40).any():
                fail("a tile has a negative or huge place", f"TTYPE{n}")
            pair = np.stack([pair[:, 0] * _WIDTHS[element], pair[:, 1] + heap], axis=1)
            if (pair.sum(axis=1)[pair[:, 0] > 0] > end).any():
                fail("a tile lies beyond the end of the data", f"TTYPE{n}")
            found[cards.text(f"TTYPE{n}").upper()] = pair
        offset += size
    if offset != width:
        fail("the columns of the table of tiles do not add up to NAXIS1", "NAXIS1")
    return found


def _check_hcompress(stream, place, length, expected, fail):
    stream.seek(int(place))
    start = stream.read(min(int(length), 25))
    if len(start) < 25 or not start.startswith(_HCOMPRESS):
        fail("an HCOMPRESS tile does not begin as one", "ZCMPTYPE")
    ny, nx = np.frombuffer(start, ">i4", 2, 2).astype(object)
    if nx <= 0 or ny <= 0 or nx * ny != expected:
        fail(f"an HCOMPRESS tile must have {expected} pixels", "ZTILE1", f"{ny} x {nx}")
    if max(start[22:25]) > 64:
        fail("an HCOMPRESS tile has more bits than a number", "ZCMPTYPE", list(start[22:25]))
