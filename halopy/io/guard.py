"""The pre-flight of a FITS file: raw 2880-byte blocks, looked at before astropy sees them.

astropy and wcslib hang, exhaust the memory or die with some fifteen kinds of exception on broken
files; a walk over the blocks finds every structural fault in milliseconds.

The format is that of Pence et al. 2010, A&A 524, A42 (doi:10.1051/0004-6361/201015362).
"""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import gzip
import io
import math
import os
import re
import zlib
from pathlib import Path

import numpy as np

from halopy.errors import HaloInputError
from halopy.io.header import Cards
from halopy.io.local import open_plain, page_title

__all__ = ["FitsReport", "HDUSummary", "check_fits"]

BLOCK = 2880
MAX_PIXELS = 2**30
MAX_BYTES = 2**31
MAX_HEADER = 10 * 2**20
MAX_HDUS = 1000
# Deflate reaches 1032; real images, even with 98 % exact zeros, stay below 100.
MAX_RATIO = 400
SMALL = 2**26

_OTHER = (
    (b"PK\x03\x04", "a zip archive", "unpack it first"),
    (b"\xfd7zXZ", "an xz file", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it first"),
    (b"\x1f\x9d", "a compress (.Z) file", "unpack it first"),
    (b"\x89HDF", "an HDF5 file", "export the image as FITS"),
    (b"\x89PNG", "a PNG picture", "ask the archive for FITS"),
    (b"\xff\xd8\xff", "a JPEG picture", "ask the archive for FITS"),
    (b"%PDF", "a PDF document", "ask the archive for FITS"),
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself", "git lfs pull"),
    (b"SIMPLE", "a FITS file with a damaged first card", "ask for the file again"),
)
_STRUCTURE = re.compile(r"(SIMPLE|XTENSION|BITPIX|Z?NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|ZBITPIX|ZTILE\d+|ZIMAGE|GROUPS"
                        r"|BSCALE|BZERO|WCSAXES)\Z")
_ORDER = re.compile(r"(A|B|AP|BP)_ORDER\Z")
_WCSAXES = re.compile(r"WCSAXES[A-Z]?\Z")
_COMPRESSIONS = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS")


@dataclasses.dataclass(frozen=True)
class HDUSummary:
    """One header and data unit as the guard saw it.

    ``kind`` is ``"image"``, ``"compressed"`` (a tile-compressed image), ``"table"``, ``"groups"``
    (visibilities) or ``"other"``; ``shape`` is that of the image in numpy order; ``start`` and
    ``size`` are the place of the data in the (decompressed) file, in bytes.
    """

    index: int
    name: str
    kind: str
    shape: tuple[int, ...]
    cards: Cards = dataclasses.field(repr=False)
    start: int
    size: int


@dataclasses.dataclass(frozen=True)
class FitsReport:
    """What `check_fits` found: the HDUs, the compression of the file and what is odd about it."""

    path: Path
    compression: str | None
    hdus: tuple[HDUSummary, ...]
    notes: tuple[str, ...] = ()


def check_fits(path, *, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES):
    """Check that a file is FITS whose structure can be trusted, without loading it.

    Parameters
    ----------
    path : str or path-like
        A plain file on this machine. URLs, folders, pipes and devices are refused unopened.
    max_pixels : int, optional
        Most pixels of one image, default 2**30 (a cube of 16 planes of 8192 x 8192).
    max_bytes : int, optional
        Most bytes that a gzip or bzip2 file may unpack to, default 2 GiB. A plain file has no
        such limit: only the wanted plane is read from it.

    Returns
    -------
    FitsReport

    Raises
    ------
    HaloInputError
        With path, HDU, keyword, the value found and one thing to try.

    Notes
    -----
    Missing padding of the last block is tolerated and noted, since real files often lack it.
    A header may have 10 MiB, a file 1000 HDUs. A compressed file that would unpack to more than
    64 MiB and 400 times its size is refused.

    Examples
    --------
    >>> from halopy.io.guard import check_fits
    >>> check_fits("https://example.org/a.fits")
    Traceback (most recent call last):
    ...
    halopy.errors.HaloInputError: https://example.org/a.fits: halopy opens paths only, no URL; try: ...
    """
    with open_checked(path, max_pixels=max_pixels, max_bytes=max_bytes, keep=False) as (report, _):
        return report


@contextlib.contextmanager
def open_checked(path, *, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES, keep=True):
    """Yield (FitsReport, binary stream of the checked, decompressed bytes)."""
    with open_plain(path) as (path, raw, size):
        magic = raw.read(6)
        raw.seek(0)
        if size == 0:
            raise HaloInputError("this file is empty (0 bytes)", path=path, hint="fetch it again")
        if magic.startswith(b"\x1f\x8b"):
            compression, stream = "gzip", gzip.GzipFile(fileobj=raw)
        elif magic.startswith(b"BZh"):
            compression, stream = "bzip2", bz2.BZ2File(raw)
        else:
            compression, stream = None, raw
        reader = _Reader(stream, path, size, compression, max_bytes, keep)
        hdus, notes = _walk(reader, path, max_pixels)
        yield FitsReport(path, compression, tuple(hdus), tuple(notes)), reader.result()


class _Reader:
    """Forward reading with a cap, over a plain or a compressed stream."""

    def __init__(self, stream, path, size, compression, max_bytes, keep):
        self.stream, self.path, self.size, self.compression = stream, path, size, compression
        self.max_bytes = max_bytes
        self.position = 0
        self.kept = io.BytesIO() if keep and compression else None

    def read(self, count):
        """Return up to ``count`` bytes, fewer only at the end."""
        if self.compression is None:
            data = self.stream.read(count)
        else:
            try:
                data = self.stream.read(min(count, max(self.max_bytes - self.position, 0) + 1))
            except (OSError, EOFError, ValueError, zlib.error) as error:
                raise HaloInputError(f"the {self.compression} stream is damaged or cut short: {error}",
                                     path=self.path, hint="fetch the file again") from error
            if self.position + len(data) > self.max_bytes:
                self.too_large(self.position + len(data))
            if self.kept is not None:
                self.kept.write(data)
        self.position += len(data)
        return data

    def skip(self, count):
        """Move on by ``count`` bytes; return how many there were."""
        if self.compression is None:
            count = max(0, min(count, self.size - self.position))
            self.stream.seek(count, os.SEEK_CUR)
            self.position += count
            return count
        done = 0
        while done < count and (data := self.read(min(count - done, 2**20))):
            done += len(data)
        return done

    def expect(self, count, hdu):
        """Refuse data that cannot be, or should not be, unpacked."""
        total = self.position + count
        if self.compression is None:
            return
        if total > self.max_bytes:
            self.too_large(total, hdu)
        if total > SMALL and total > MAX_RATIO * self.size:
            raise HaloInputError(f"this {self.compression} file of {self.size} bytes claims to unpack to {total} "
                                 f"bytes, more than {MAX_RATIO} times its size", path=self.path, hdu=hdu,
                                 hint="unpack it first if you trust it")

    def too_large(self, total, hdu=None):
        raise HaloInputError(f"this {self.compression} file would unpack to {total} bytes or more, beyond "
                             f"max_bytes = {self.max_bytes}", path=self.path, hdu=hdu, keyword="max_bytes",
                             hint="unpack it first, or raise max_bytes")

    def result(self):
        if self.compression is None:
            self.stream.seek(0)
            return self.stream
        if self.kept is not None:
            self.kept.seek(0)
        return self.kept


def _walk(reader, path, max_pixels):
    hdus, notes = [], []
    block = reader.read(BLOCK)
    if not block.startswith(b"SIMPLE  ="):
        _refuse_other(block + reader.read(2**16), path)
    while True:
        index = len(hdus)
        cards = _read_cards(reader, block, path, index, notes)
        kind, shape, size = _structure(cards, path, index, max_pixels)
        reader.expect(size, index)
        start = reader.position
        there = reader.skip(size)
        if there < size:
            raise HaloInputError(f"the data are cut short: the header promises {size} bytes, the file has {there}",
                                 path=path, hdu=index, keyword="NAXIS", hint="fetch the file again")
        hdus.append(HDUSummary(index, cards.text("EXTNAME"), kind, shape, cards, start, size))
        padding = -size % BLOCK
        if reader.skip(padding) < padding:
            notes.append("the last block is not padded to 2880 bytes")
            return hdus, notes
        block = reader.read(BLOCK)
        if not block:
            return hdus, notes
        if not block.startswith(b"XTENSION"):
            if block.strip(b"\0 "):
                notes.append(f"what follows HDU {index} is no FITS extension and was ignored")
            return hdus, notes
        if len(hdus) >= MAX_HDUS:
            raise HaloInputError(f"this file has more than {MAX_HDUS} HDUs", path=path, hdu=len(hdus))


def _refuse_other(start, path):
    title = page_title(start)
    if title is not None:
        raise HaloInputError(f"this is an HTML page, not FITS; its title is {title!r}", path=path,
                             hint="the archive answered with a page: look at it in a browser")
    for magic, name, hint in _OTHER:
        if start.startswith(magic):
            raise HaloInputError(f"this is {name}, not a FITS image", path=path, hint=hint)
    if b"<VOTABLE" in start[:2000]:
        raise HaloInputError("this is a VOTable, not a FITS image", path=path, hint="halopy.io.catalog.read_targets")
    raise HaloInputError("this is not a FITS file: it does not begin with 'SIMPLE  ='", path=path,
                         found=start[:20].decode("ascii", "replace"))


def _end(block):
    place = block.find(b"END" + b" " * 77)
    while place % 80 and place != -1:
        place = block.find(b"END" + b" " * 77, place + 1)
    return place


def _read_cards(reader, block, path, hdu, notes):
    blocks = []
    while (end := _end(block)) < 0:
        blocks.append(block)
        if len(block) < BLOCK:
            raise HaloInputError("the header is cut short: it has no END card", path=path, hdu=hdu, keyword="END",
                                 hint="fetch the file again")
        if len(blocks) * BLOCK > MAX_HEADER:
            raise HaloInputError(f"the header has no END card within {MAX_HEADER} bytes", path=path, hdu=hdu,
                                 keyword="END")
        block = reader.read(BLOCK)
    cards = Cards(b"".join(blocks) + block[:end])
    if not cards.clean:
        notes.append("the header has characters that are not printable ASCII, read as '?'")
    return cards


def _structure(cards, path, hdu, max_pixels):
    """Check the keywords that say how large things are; return (kind, shape, bytes of data)."""
    def fail(message, keyword, **more):
        raise HaloInputError(message, path=path, hdu=hdu, keyword=keyword, found=cards.get(keyword), **more)

    def integer(keyword, low, high, default=None):
        value = cards.get(keyword, default)
        if keyword not in cards and default is None:
            fail(f"the header has no {keyword}", keyword)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            fail(f"{keyword} must be an integer from {low} to {high}", keyword)
        return value

    def axes(prefix, count, limit):
        shape = tuple(integer(f"{prefix}{n}", 0, 2**62) for n in range(1, count + 1))
        if math.prod(shape) > limit:
            raise HaloInputError(f"the header claims {math.prod(shape)} pixels, more than max_pixels = {limit}",
                                 path=path, hdu=hdu, keyword=f"{prefix}n", found=shape,
                                 hint="raise max_pixels if it is true")
        return shape

    def bitpix(keyword):
        if type(cards.get(keyword)) is not int or cards[keyword] not in (8, 16, 32, 64, -32, -64):
            fail(f"{keyword} must be one of 8, 16, 32, 64, -32, -64", keyword)
        return abs(cards[keyword]) // 8

    for keyword in sorted(cards.conflicts):
        if _STRUCTURE.match(keyword):
            fail(f"the header gives {keyword} twice, with two values", keyword)
    extension = cards.text("XTENSION").upper() if hdu else "IMAGE"
    width = bitpix("BITPIX")
    count = integer("NAXIS", 0, 32)
    table = extension not in ("IMAGE", "IUEIMAGE")
    shape = axes("NAXIS", count, 2**62 if table else max_pixels)
    groups = not table and count > 0 and shape[0] == 0 and cards.get("GROUPS") is True
    pixels = math.prod(shape[1:] if groups else shape) if count else 0
    parameters = integer("PCOUNT", 0, 2**40, 0)
    repeats = integer("GCOUNT", 0, 2**40, 1)
    if not table and not groups and (parameters, repeats) != (0, 1):
        fail("an image has PCOUNT = 0 and GCOUNT = 1", "PCOUNT" if parameters else "GCOUNT")
    size = width * repeats * (parameters + pixels)
    kind = "groups" if groups else "image"
    if table and repeats != 1:
        fail("an extension has GCOUNT = 1", "GCOUNT")
    if table:
        kind = "table" if extension in ("BINTABLE", "TABLE", "A3DTABLE") else "other"
        if kind == "table":
            integer("TFIELDS", 0, 999)
            integer("THEAP", 0, size, 0)
    if kind == "table" and cards.get("ZIMAGE") is True:
        kind = "compressed"
        bitpix("ZBITPIX")
        count = integer("ZNAXIS", 1, 32)
        shape = axes("ZNAXIS", count, max_pixels)
        tile = [integer(f"ZTILE{n}", 1, 2**31, 1) for n in range(1, count + 1)]
        if math.prod(tile) > max(2**24, 4 * math.prod(shape)):
            fail("a tile is larger than the image", "ZTILE1")
        if cards.text("ZCMPTYPE") not in _COMPRESSIONS:
            fail(f"ZCMPTYPE must be one of {', '.join(_COMPRESSIONS)}", "ZCMPTYPE")
    if kind in ("image", "compressed"):
        _check_scaling(cards, fail, integer)
    return kind, tuple(reversed(shape)), size


def _check_scaling(cards, fail, integer):
    for keyword in ("BSCALE", "BZERO"):
        if keyword not in cards:
            continue
        value = cards[keyword]
        # Text that is a number would be multiplied with the pixels by astropy, and fail there.
        if isinstance(value, (bool, str)) or not abs(value) <= 1e30:
            fail(f"{keyword} must be a number up to 1e30", keyword)
        if keyword == "BSCALE" and not abs(value) >= 1e-30:
            fail("BSCALE must not be zero: it multiplies every pixel", keyword)
    if cards.get("BITPIX", 8) > 0 and "BLANK" in cards and "ZIMAGE" not in cards:
        integer("BLANK", -2**63, 2**63 - 1)
    for keyword in cards:
        if _WCSAXES.match(keyword):
            integer(keyword, 0, 32)
        elif _ORDER.match(keyword):
            integer(keyword, 0, 9)


def datasum(stream, start, size):
    """Return the FITS DATASUM of the bytes: the ones' complement sum of its 32-bit words."""
    stream.seek(start)
    total = 0
    while size > 0:
        data = stream.read(min(size, 2**22))
        if not data:
            break
        size -= len(data)
        data += b"\0" * (-len(data) % 4)
        total += int(np.frombuffer(data, ">u4").sum(dtype=np.uint64))
        total = (total & 0xFFFFFFFF) + (total >> 32)
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total
