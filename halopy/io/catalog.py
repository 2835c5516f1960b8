"""Tables of targets: name and position from CSV, ECSV, VOTable or FITS, in the usual spellings."""

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
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table

from halopy.errors import HaloInputError, HalopyWarning
from halopy.io.guard import check_fits
from halopy.io.local import open_plain, page_title

__all__ = ["read_targets"]

_MAX_BYTES = 2**30
_NAMES = ("name", "target", "targetname", "object", "objectname", "source", "sourcename", "cluster", "clustername",
          "mainid", "id", "identifier", "psz2", "mcxc")
_RA = ("ra", "radeg", "raj2000", "raj2000deg", "radegj2000", "raicrs", "rightascension", "rahms", "raepoch2000")
_DEC = ("dec", "de", "decl", "declination", "decdeg", "dedeg", "decj2000", "dej2000", "dej2000deg", "decicrs", "deicrs",
        "decdegj2000", "decdms", "dedms")
_REDSHIFT = ("redshift", "z", "zspec", "zbest")
_MASS = ("m500", "m5001e14", "m500msz", "msz")
_TEXT = ("name", "label", "also", "grade", "group", "status")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([EeDd][+-]?\d+)?\Z")
_SEXAGESIMAL = re.compile(r"([+\-\u2212]?)\s*(\d{1,3})\s*([hd:°\s])\s*(\d{1,2}(?:\.\d*)?)\s*"
                          r"(?:[m:'′\s]\s*(?:(\d{1,2}(?:\.\d*)?)\s*[s\"″]?)?)?\Z", re.IGNORECASE)
_MISSING = ("", "-", "--", "nan", "null", "none", "n/a", "...")


def read_targets(path_or_table):
    """Read a table of sky positions to look at.

    Parameters
    ----------
    path_or_table : str, path-like or `~astropy.table.Table`
        CSV (also with tabs, semicolons, bars or blanks between the cells), ECSV, VOTable or FITS,
        plain or gzip or bzip2; told apart by their content. Nothing is fetched from a network.

        Needed: a column ``position`` (SkyCoord), or right ascension and declination under one of
        their usual names (``ra``, ``RA_deg``, ``RAJ2000``, ``_RAJ2000``, ``dec``, ``DEJ2000`` ...;
        taken as ICRS). Numbers are degrees unless the column has another unit; ``12 34 56.7``,
        ``12:34:56`` and ``12h34m56s`` are hours in right ascension. A name is made from the
        position where there is no column ``name``, ``target``, ``cluster``, ``id`` ...

    Returns
    -------
    `~astropy.table.QTable`
        ``name`` (text), ``position`` (SkyCoord, ICRS), ``redshift`` (from ``z`` or ``redshift``)
        and ``m500`` (1e14 solar masses; a number without unit between 0.01 and 100 is one
        already) where they are given, and every other column as it is. One row per row of the
        table: an empty or NaN coordinate makes both NaN, and a target without a position.

    Raises
    ------
    HaloInputError
        Names the columns that were found, or the row (from 1) and the value that is wrong: text
        that is no angle, or an angle that is none of the sky.

    Warns
    -----
    HalopyWarning
        Once a table, with the row and the value, where a coordinate is missing.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from halopy.io.catalog import read_targets
    >>> targets = read_targets(Table({"Cluster": ["A2744", "Bullet"], "RA": ["00 14 19", "06:58:29"],
    ...                               "DE": ["-30 23 19", "-55:56:48"], "z": [0.306, 0.296]}))
    >>> targets.colnames
    ['name', 'position', 'redshift']
    >>> targets["position"].ra.deg.round(3)
    array([  3.579, 104.621])
    """
    if isinstance(path_or_table, Table):
        return _targets(path_or_table, None)
    table, path = _read(path_or_table)
    return _targets(table, path)


def _read(path):
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
    try:
        data = stream.read(_MAX_BYTES + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise HaloInputError(f"the compressed stream is damaged or cut short: {error}", path=path) from error
    if len(data) > _MAX_BYTES:
        raise HaloInputError(f"a table may have {_MAX_BYTES} bytes", path=path)
    return data


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
        return Table.read(io.BytesIO(data), format="fits", hdu=tables[0].index, character_as_bytes=False)


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
    lines[first] = lines[first].lstrip("# \t")
    delimiter = next((d for d in ",\t;|" if d in lines[first]), " ")
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


def _convert(name, cells):
    """Numbers where every cell is one; names such as 1E0657 and 007 stay text."""
    text = np.array(cells, dtype=str)
    if _key(name) in _NAMES + _TEXT:
        return text
    if not all(_NUMBER.match(c) or c.lower() in _MISSING for c in cells) or all(c.lower() in _MISSING for c in cells):
        return text
    if any(re.match(r"[+-]?0\d", c) for c in cells) and _key(name) not in _RA + _DEC:
        return text
    numbers = np.array(["nan" if c.lower() in _MISSING else c.upper().replace("D", "E") for c in cells]).astype(float)
    if np.isinf(numbers).any():
        return text
    if all(re.match(r"[+-]?\d{1,15}\Z", c) for c in cells):
        return numbers.astype(np.int64)
    return numbers


def _key(name):
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _find(table, names):
    keys = {}
    for column in table.colnames:
        keys.setdefault(_key(column), column)
    return next((keys[n] for n in names if n in keys), None)


def _targets(table, path):
    if len(table) == 0:
        raise HaloInputError("this table has no rows", path=path, found=table.colnames)
    used, result = set(), QTable()
    position = next((c for c in table.colnames if isinstance(table[c], SkyCoord)), None)
    if position is not None:
        sky = table[position].icrs
        ra, dec = (np.ma.filled(np.ma.masked_array(getattr(a, "unmasked", a).deg, getattr(a, "mask", False)), np.nan)
                   for a in (sky.ra, sky.dec))
        used.add(position)
        # Positions made in Python say themselves that they are unknown; an empty cell of a file may be a slip.
        cells = None if path is None else ((position, ra, ra), (position, dec, dec))
    else:
        ra, dec = _find(table, _RA), _find(table, _DEC)
        if ra is None or dec is None:
            lack = " and ".join(n for n, c in (("right ascension", ra), ("declination", dec)) if c is None)
            raise HaloInputError(f"this table has no column for {lack}", path=path, found=table.colnames,
                                 hint="call the columns name, ra, dec")
        used |= {ra, dec}
        values = _angles(table[ra], ra, path, 360, 15.0), _angles(table[dec], dec, path, 90, 1.0)
        cells = tuple((c, table[c], v) for c, v in zip((ra, dec), values, strict=True))
        ra, dec = values
    missing = ~(np.isfinite(ra) & np.isfinite(dec))
    sky = SkyCoord(np.where(missing, np.nan, ra), np.where(missing, np.nan, dec), unit="deg")
    name = _find(table, _NAMES)
    if name is not None and _key(name) in ("source", "object", "cluster") and table[name].dtype.kind in "iuf":
        name = None  # a running number, as Aegean's
    if name is None:
        result["name"] = _names(sky)
    else:
        result["name"] = _texts(table[name])
        used.add(name)
    if cells is not None and missing.any():
        _warn_of_missing(result["name"], missing, cells, path)
    result["position"] = sky
    for wanted, spellings, convert in (("redshift", _REDSHIFT, _numbers), ("m500", _MASS, _mass)):
        column = _find(table, spellings)
        if column is not None and column not in used:
            result[wanted] = convert(table[column], column, path)
            used.add(column)
    for column in table.colnames:
        if column in used:
            continue
        values = _texts(table[column]) if column in _TEXT else table[column]
        result[column if column not in result.colnames else f"{column}_"] = values
    return result


def _texts(column):
    values = np.ma.filled(np.ma.asarray(column).astype(object), "")
    values = (v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)
    return np.array([v.strip() for v in values], dtype=str)


def _names(sky):
    hours = sky.ra.to_string(u.hourangle, sep="", precision=0, pad=True)
    degrees = sky.dec.to_string(u.deg, sep="", precision=0, pad=True, alwayssign=True)
    known = np.isfinite(sky.ra) & np.isfinite(sky.dec)
    return np.array([f"J{h}{d}" if k else f"row {row}"
                     for row, (h, d, k) in enumerate(zip(hours, degrees, known, strict=True), start=1)])


def _warn_of_missing(names, missing, cells, path):
    row = int(np.argmax(missing))
    column, value = next((c, texts[row]) for c, texts, degrees in cells if not np.isfinite(degrees[row]))
    value = "" if value is np.ma.masked else str(value).strip()
    more = f" (and {missing.sum() - 1} more rows)" if missing.sum() > 1 else ""
    place = "" if path is None else f"{path}: "
    warnings.warn(f"{place}row {row + 1} ({names[row]}) has no position: {column} is {value!r}{more}; "
                  "such targets are kept, and not searched", HalopyWarning, stacklevel=4)


def _numbers(column, name, path):
    values = np.ma.asarray(column)
    if values.dtype.kind in "OUS":
        text = _texts(column)
        bad = [i for i, t in enumerate(text) if not _NUMBER.match(t) and t.lower() not in _MISSING]
        if bad:
            raise HaloInputError(f"row {bad[0] + 1}: {name} is no number", path=path, keyword=name,
                                 found=str(text[bad[0]]))
        return np.array(["nan" if t.lower() in _MISSING else t.upper().replace("D", "E") for t in text]).astype(float)
    return np.ma.filled(values.astype(float), np.nan)


def _mass(column, name, path):
    unit = getattr(column, "unit", None)
    values = _numbers(column.value if isinstance(column, u.Quantity) else column, name, path)
    if unit is not None and u.Unit(unit).is_equivalent(u.Msun):
        values = (values * u.Unit(unit)).to_value(1e14 * u.Msun)
    elif np.nanmedian(values) > 1e10 if np.isfinite(values).any() else False:
        values = values / 1e14
    return u.Quantity(values, 1e14 * u.Msun)


def _angles(column, name, path, limit, hour):
    """Return degrees, NaN where a cell is empty; raise with the row and the value of the first that is no angle."""
    unit = getattr(column, "unit", None)
    unit = u.Unit(unit, parse_strict="silent") if unit is not None else None
    masked = np.ma.getmaskarray(np.ma.asarray(column.value if isinstance(column, u.Quantity) else column))
    if column.dtype.kind in "OUS":
        text = _texts(column)
        empty = masked | np.array([t.lower() in _MISSING for t in text])
        plain = all(_NUMBER.match(t) for t in text[~empty])
        degrees = np.array([np.nan if e else _cell(t, hour) for t, e in zip(text, empty, strict=True)])
        angular = plain and unit is not None and unit.is_equivalent(u.deg)
    else:
        text = np.asarray(column)
        degrees = _numbers(column.value if isinstance(column, u.Quantity) else column, name, path)
        empty = masked | np.isnan(degrees)
        angular = unit is not None and unit.is_equivalent(u.deg)
    if angular:
        degrees = (degrees * unit).to_value(u.deg)
    lowest = -90 if limit == 90 else -180
    bad = ~empty & ~((degrees >= lowest) & (degrees <= limit))
    if bad.any():
        row = int(np.argmax(bad))
        allowed = f"{lowest} to {limit} degrees"
        raise HaloInputError(f"row {row + 1}: {name} must be an angle of {allowed}", path=path, keyword=name,
                             found=str(text[row]))
    return np.where(empty, np.nan, degrees)


def _cell(text, hour):
    """Degrees of one cell, NaN where it is no angle; sexagesimal counts ``hour`` degrees a unit."""
    if _NUMBER.match(text):
        return float(text)
    match = _SEXAGESIMAL.match(text)
    if not match:
        return np.nan
    sign, whole, mark, minutes, seconds = match.groups()
    minutes, seconds = float(minutes), float(seconds or 0)
    if minutes >= 60 or seconds >= 60 or ("." in match[4] and seconds):
        return np.nan
    factor = 1.0 if mark.lower() in "d°" else 15.0 if mark.lower() == "h" else hour
    value = (int(whole) + minutes / 60 + seconds / 3600) * factor
    return -value if sign in ("-", "\u2212") and sign else value
