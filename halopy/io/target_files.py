"""Files of tables: CSV, ECSV, VOTable and FITS, told apart by their content."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import re
import warnings
import zlib

import numpy as np
from astropy.table import QTable, Table

from halopy.errors import HaloInputError
from halopy.io.guard import check_fits
from halopy.io.local import open_plain, page_title
from halopy.io.target_columns import ANGLES, MISSING, NUMBER, TEXT, key

__all__ = ["read_table"]

_MAX_BYTES = 2**30


def read_table(path):
    """Read the table in a file, told apart by its content; nothing is fetched from a network.

    Parameters
    ----------
    path : str or path-like
        CSV (also with tabs, semicolons, bars or blanks between the cells), ECSV, VOTable or FITS,
        plain or gzip or bzip2.

    Returns
    -------
    table : `~astropy.table.Table`
        Columns as they are in the file; text that may be a name stays text.
    path : `~pathlib.Path`

    Raises
    ------
    HaloInputError
        Where it is no table, or one that is damaged.
    """
    with open_plain(path) as (path, raw, _):
        data = _unpack(raw, path)
    start = data[:2**16].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        raise HaloInputError("this file is empty", path=path)
    title = page_title(start)
    if title is not None:
        raise HaloInputError(f"this is an HTML page, not a table; its title is {title!r}", path=path,
                             hint="the archive answered with a page: look at it in a browser")
    if start.startswith(b"SIMPLE"):
        return _read_fits(path, data), path
    if b"<VOTABLE" in start[:4000]:
        return _read_votable(path, data), path
    if start.startswith(b"# %ECSV"):
        with _astropy(path):
            return QTable.read(_text(data).splitlines(), format="ascii.ecsv"), path
    if b"\0" in start:
        raise HaloInputError("this is neither CSV, ECSV, VOTable nor FITS", path=path,
                             found=start[:20].decode("ascii", "replace"))
    return _read_csv(path, _text(data)), path


def _unpack(raw, path):
    stream = raw
    magic = raw.read(3)
    raw.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        stream = gzip.GzipFile(fileobj=raw)
    elif magic == b"BZh":
        stream = bz2.BZ2File(raw)
    data = bytearray()
    try:
        # In pieces: a reader that is asked for all at once takes the memory for all that there might be.
        while len(data) <= _MAX_BYTES and (piece := stream.read(2**20)):
            data += piece
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise HaloInputError(f"the compressed stream is damaged or cut short: {error}", path=path) from error
    if len(data) > _MAX_BYTES:
        raise HaloInputError(f"a table may have {_MAX_BYTES} bytes", path=path)
    return bytes(data)


def _text(data):
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


@contextlib.contextmanager
def _astropy(path):
    """Turn whatever a reader of astropy raises into one error; its warnings are about units and style."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except HaloInputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise HaloInputError(f"this table cannot be read: {type(error).__name__}: {text}", path=path) from error


def _read_fits(path, data):
    report = check_fits(path, max_bytes=_MAX_BYTES)
    tables = [h for h in report.hdus if h.kind == "table"]
    if not tables:
        raise HaloInputError("this FITS file holds no table", path=path, hint="ClusterImage.read reads images")
    with _astropy(path):
        table = Table.read(io.BytesIO(data), format="fits", hdu=tables[0].index, character_as_bytes=False)
    # FITS has no place for UCDs, other programs write TUCDn: n is lost as soon as columns are chosen.
    for number, column in enumerate(table.colnames, start=1):
        if f"TUCD{number}" in table.meta:
            table[column].info.meta = (table[column].info.meta or {}) | {"ucd": table.meta.pop(f"TUCD{number}")}
    return table


def _read_votable(path, data):
    # A VOTable may name a URL that holds its rows, and XML may define entities: neither is followed.
    for pattern, what in ((rb"<[\w:]*STREAM\b[^>]*\bhref", "refers to its rows by a link"),
                          (rb"<!(DOCTYPE|ENTITY)", "defines XML entities")):
        if re.search(pattern, data, re.IGNORECASE):
            raise HaloInputError(f"this VOTable {what}, which halopy does not follow", path=path,
                                 hint="save it with its rows inside")
    with _astropy(path):
        return Table.read(io.BytesIO(data), format="votable", table_id=0, use_names_over_ids=True)


def _read_csv(path, text):
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise HaloInputError("this table is empty", path=path)
    # '# name,ra,dec' above the rows is a header that another program has commented out.
    first = _header(lines, first)
    lines[first] = lines[first].lstrip("# \t")
    delimiter = _delimiter(lines[first])
    names, rows, places = None, [], []
    try:
        reader = csv.reader(lines[first:], delimiter=delimiter, skipinitialspace=True)
        for cells in reader:
            if not any(cells) or cells[0].startswith("#"):
                continue
            cells = [c.strip() for c in cells] if delimiter != " " else [c for c in cells if c]
            if names is None:
                names = cells
                continue
            if len(cells) != len(names):
                raise HaloInputError(f"row {len(rows) + 1} has {len(cells)} cells, the header {len(names)}",
                                     path=path, found=delimiter.join(cells)[:80],
                                     hint="put a cell with a delimiter in double quotes")
            rows.append(cells)
            places.append(reader.line_num)
    except csv.Error as error:
        raise HaloInputError(f"row {len(rows) + 1} cannot be read: {error}", path=path) from error
    if not rows:
        raise HaloInputError("this table has no rows", path=path, found=names)
    if len(set(names)) < len(names):
        raise HaloInputError("two columns have the same name", path=path, found=names)
    columns = zip(*rows, strict=True)
    names = [n or f"column{i}" for i, n in enumerate(names, start=1)]
    return Table({n: _convert(n, c) for n, c in zip(names, columns, strict=True)})


def _delimiter(line):
    return next((d for d in ",\t;|" if d in line), " ")


def _header(lines, first):
    """Return the line of the column names: the last of the comments above the rows where it has their cells."""
    comment = first if lines[first].lstrip().startswith("#") else None
    for i in range(first, len(lines)):
        if lines[i].lstrip().startswith("#"):
            comment = i
        elif lines[i].strip():
            break
    else:
        return first
    if comment is None:
        return i
    delimiter = _delimiter(lines[i])
    above, below = (next(csv.reader([lines[k].lstrip("# \t")], delimiter=delimiter, skipinitialspace=True), [])
                    for k in (comment, i))
    return comment if len(above) == len(below) and any(re.match(r"[+-]?\d", c) for c in below) else i


def _convert(name, cells):
    """Numbers where every cell is one; names such as 1E0657 and 007 stay text."""
    text = np.array(cells, dtype=str)
    if key(name) in TEXT:
        return text
    if not all(NUMBER.match(c) or c.lower() in MISSING for c in cells) or all(c.lower() in MISSING for c in cells):
        return text
    if any(re.match(r"[+-]?0\d", c) for c in cells) and key(name) not in ANGLES:
        return text
    numbers = np.array(["nan" if c.lower() in MISSING else c.upper().replace("D", "E") for c in cells]).astype(float)
    if np.isinf(numbers).any():
        return text
    if all(re.match(r"[+-]?\d{1,15}\Z", c) for c in cells):
        return numbers.astype(np.int64)
    return numbers
