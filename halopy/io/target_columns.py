"""What the columns of somebody's table mean: position, name, redshift and mass by UCD, spelling and unit."""

from __future__ import annotations

import re
import warnings

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy.errors import HaloInputError, HalopyWarning

__all__ = ["degrees_of", "position_names", "targets_of"]

_NAMES = ("name", "target", "targetname", "object", "objectname", "source", "sourcename", "cluster", "clustername",
          "mainid", "id", "identifier", "psz2", "mcxc")
_RA = ("ra", "radeg", "raj2000", "raj2000deg", "radegj2000", "raicrs", "rightascension", "rahms", "raepoch2000")
_DEC = ("dec", "de", "decl", "declination", "decdeg", "dedeg", "decj2000", "dej2000", "decj2000deg", "dej2000deg",
        "decdegj2000", "dedegj2000", "decicrs", "deicrs", "decdms", "dedms", "decepoch2000", "deepoch2000")
_SYSTEMS = (  # frame; UCD and spellings of the longitude, of the latitude
    ("icrs", ("pos.eq.ra", _RA), ("pos.eq.dec", _DEC)),
    ("galactic", ("pos.galactic.lon", ("glon", "galacticlongitude", "gallon", "l")),
     ("pos.galactic.lat", ("glat", "galacticlatitude", "gallat", "b"))),
)
# The best of several redshifts before those that only some clusters have (eRASS1: BEST_Z, VizieR's zBest).
_REDSHIFT = ("redshift", "z", "bestz", "zbest", "zcl", "zspec")
_MASS = ("m500", "m5001e14", "m500msz", "msz", "m500c", "m500sz", "m500x")
_OTHER_MASS = re.compile("200|2500|vir|gas|star|bcg|log|err|^e_", re.IGNORECASE)
_HEAVIEST = 50

TEXT = (*_NAMES, "label", "also", "grade", "group", "status")
ANGLES = _RA + _DEC
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([EeDd][+-]?\d+)?\Z")
MISSING = ("", "-", "--", "nan", "null", "none", "n/a", "...")
_SEXAGESIMAL = re.compile(r"([+\-\u2212]?)\s*(\d{1,3})\s*([hd:°\s])\s*(\d{1,2}(?:\.\d*)?)\s*"
                          r"(?:[m:'′\s]\s*(?:(\d{1,2}(?:\.\d*)?)\s*[s\"″]?)?)?\Z", re.IGNORECASE)


def key(name):
    """Return a column's name without case, blanks and marks: ``_RAJ2000`` and ``RA (J2000)`` are one."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def targets_of(table, path):
    """Return the targets in a table; see `halopy.io.catalog.read_targets`."""
    if len(table) == 0:
        raise HaloInputError("this table has no rows", path=path, found=table.colnames)
    used, result, ucds = set(), QTable(), _ucds(table)
    position = next((c for c in table.colnames if isinstance(table[c], SkyCoord)), None)
    if position is not None:
        ra, dec = degrees_of(table[position])
        used.add(position)
        # Positions made in Python say themselves that they are unknown; an empty cell of a file may be a slip.
        cells = None if path is None else ((position, ra, ra), (position, dec, dec))
        frame = "icrs"
    else:
        frame, names = _position_columns(table, ucds, path)
        used |= set(names)
        ra, dec = (_angles(table[c], c, path, limit, hour)
                   for c, limit, hour in zip(names, (360, 90), (15.0 if frame == "icrs" else 1.0, 1.0), strict=True))
        cells = tuple((c, table[c], v) for c, v in zip(names, (ra, dec), strict=True))
    if ra.ndim != 1:
        raise HaloInputError("a row has one position", path=path, found=ra.shape)
    missing = ~(np.isfinite(ra) & np.isfinite(dec))
    sky = SkyCoord(np.where(missing, np.nan, ra), np.where(missing, np.nan, dec), unit="deg", frame=frame).icrs
    name = _find(table, ucds, "meta.id", _NAMES, single=False, text=True)
    if name is not None and key(name) in ("source", "object", "cluster") and table[name].dtype.kind in "iuf":
        name = None  # a running number, as Aegean's
    if name is None:
        result["name"] = position_names(sky)
    else:
        result["name"] = _texts(table[name])
        used.add(name)
    if cells is not None and missing.any():
        _warn_of_missing(result["name"], missing, cells, path)
    result["position"] = sky
    for wanted, ucd, spellings, convert in (("redshift", "src.redshift", _REDSHIFT, _redshift),
                                            ("m500", "phys.mass", _MASS, _mass)):
        column = _find(table, ucds, ucd, spellings)
        if column is not None and column not in used:
            result[wanted] = convert(table[column], column, path)
            used.add(column)
    for column in table.colnames:
        if column in used:
            continue
        values = _texts(table[column]) if column in TEXT else table[column]
        result[column if column not in result.colnames else f"{column}_"] = values
    return result


def _ucds(table):
    """Return (UCD, whether it is the main one) of each column that has one.

    The words of 1999 (``POS_EQ_RA_MAIN``) are turned into today's.
    """
    result = {}
    for column in table.colnames:
        meta = getattr(table[column].info, "meta", None) or {}
        ucd = str(meta.get("ucd") or "").strip().lower()
        # A position of 1950 bears the same UCD as one of 2000.
        if not ucd or "1950" in column or "1875" in column:
            continue
        first, *others = ucd.split(";")
        main = "meta.main" in others or first.endswith("_main")
        first = first.removesuffix("_main").replace("_", ".")
        first = {"id": "meta.id", "redshift.hc": "src.redshift", "pos.gal.lon": "pos.galactic.lon",
                 "pos.gal.lat": "pos.galactic.lat"}.get(first, first)
        result[column] = first, main
    return result


def _find(table, ucds, ucd, spellings, *, single=True, text=False):
    """Return the column that its UCD calls the main one, or has a usual name, or alone has the UCD."""
    def fits(column):
        if text:
            return table[column].dtype.kind in "OUS"
        unit = getattr(table[column], "unit", None)
        # z is a filter, too, and there are other masses than M500.
        return not (ucd == "src.redshift" and unit not in (None, u.dimensionless_unscaled)
                    or ucd == "phys.mass" and _OTHER_MASS.search(column))

    same = [c for c, (first, _) in ucds.items() if first == ucd and fits(c)]
    main = next((c for c in same if ucds[c][1]), None)
    if main is not None:
        return main
    keys = {}
    for column in table.colnames:
        keys.setdefault(key(column), column)
    usual = next((keys[s] for s in spellings if s in keys and (text or fits(keys[s]))), None)
    if usual is not None or not single or len(same) != 1:
        return usual
    return same[0]


def _position_columns(table, ucds, path):
    """Return the frame and the two columns of a position."""
    found = {}
    for frame, *axes in _SYSTEMS:
        found[frame] = tuple(_find(table, ucds, ucd, spellings) for ucd, spellings in axes)
        if None not in found[frame]:
            return frame, found[frame]
    hours = [c for c in table.colnames if _is_unit(table[c], u.hourangle, "h:m:s")]
    degrees = [c for c in table.colnames if c not in hours and _is_unit(table[c], u.deg, "d:m:s")]
    ra, dec = found["icrs"]
    if len(hours) == 1 and ra is None and (dec is not None or len(degrees) == 1):
        return "icrs", (hours[0], dec if dec is not None else degrees[0])
    lack = " and ".join(n for n, c in (("right ascension", ra), ("declination", dec)) if c is None)
    raise HaloInputError(f"this table has no column for {lack}", path=path, found=table.colnames,
                         hint="call the columns name, ra, dec")


def _is_unit(column, unit, text):
    own = getattr(column, "unit", None)
    return own is not None and (own == unit or own.to_string().strip('"').lower() == text)


def _texts(column):
    values = np.ma.filled(np.ma.asarray(column).astype(object), "")
    values = (v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)
    return np.array([v.strip() for v in values], dtype=str)


def degrees_of(sky):
    """Return right ascension and declination (ICRS) in degrees, NaN where a position is masked."""
    sky = sky.icrs
    return tuple(np.ma.filled(np.ma.masked_array(getattr(a, "unmasked", a).deg, getattr(a, "mask", False)), np.nan)
                 for a in (sky.ra, sky.dec))


def position_names(sky, *, precision=0):
    """Return ``JHHMMSS-DDMMSS`` of positions (``row n`` where there is none), rounded.

    Parameters
    ----------
    sky : `~astropy.coordinates.SkyCoord`
        ``(n,)``, ICRS.
    precision : int, optional
        Decimals of the seconds, default 0.

    Returns
    -------
    `~numpy.ndarray`
        ``(n,)`` text.
    """
    hours = sky.ra.to_string(u.hourangle, sep="", precision=precision, pad=True)
    degrees = sky.dec.to_string(u.deg, sep="", precision=precision, pad=True, alwayssign=True)
    known = np.isfinite(sky.ra) & np.isfinite(sky.dec)
    # Rounding may reach 24 hours.
    hours = (f"00{h[2:]}" if h.startswith("24") else h for h in hours)
    return np.array([f"J{h}{d}" if k else f"row {row}"
                     for row, (h, d, k) in enumerate(zip(hours, degrees, known, strict=True), start=1)], dtype=str)


def _warn_of_missing(names, missing, cells, path):
    row = int(np.argmax(missing))
    column, value = next((c, texts[row]) for c, texts, degrees in cells if not np.isfinite(degrees[row]))
    value = "" if value is np.ma.masked else str(value).strip()
    more = f" (and {missing.sum() - 1} more rows)" if missing.sum() > 1 else ""
    place = "" if path is None else f"{path}: "
    warnings.warn(f"{place}row {row + 1} ({names[row]}) has no position: {column} is {value!r}{more}; "
                  "such targets are kept, and not searched", HalopyWarning, stacklevel=4)


def _numbers(column, name, path):
    values = np.ma.asarray(column.value if isinstance(column, u.Quantity) else column)
    if values.dtype.kind in "OUS":
        text = _texts(column)
        bad = [i for i, t in enumerate(text) if not NUMBER.match(t) and t.lower() not in MISSING]
        if bad:
            raise HaloInputError(f"row {bad[0] + 1}: {name} is no number", path=path, keyword=name,
                                 found=str(text[bad[0]]))
        return np.array(["nan" if t.lower() in MISSING else t.upper().replace("D", "E") for t in text]).astype(float)
    return np.ma.filled(values.astype(float), np.nan)


def _redshift(column, name, path):
    values = _numbers(column, name, path)
    # PSZ2 writes -1 where a redshift is unknown; below it light would come from beyond the end of time.
    return np.where(values > -1, values, np.nan)


def _mass(column, name, path):
    values = _numbers(column, name, path)
    values = np.where(values > 0, values, np.nan)  # PSZ2 writes 0 where there is none
    unit = getattr(column, "unit", None)
    unit = unit if unit is None or unit.is_equivalent(u.Msun) else _mass_unit(unit, name, path)
    if unit is not None:
        values = unit.to(1e14 * u.Msun, values)
    elif np.isfinite(values).any() and np.nanmedian(values) > 1e10:
        values = values / 1e14
    elif np.isfinite(values).any() and np.nanmax(values) > _HEAVIEST:
        raise HaloInputError(f"{name} has no unit, and no cluster has more than {_HEAVIEST}e14 solar masses",
                             path=path, keyword=name, found=float(np.nanmax(values)),
                             hint=f'table["{name}"].unit = "1e13 Msun", say')
    return u.Quantity(values, 1e14 * u.Msun)


def _mass_unit(unit, name, path):
    """Return the mass that a unit of another dialect means; None where it says nothing."""
    text = unit.to_string().strip()
    if text in ("", "---"):
        return None
    for form in (None, "cds"):
        known = u.Unit(text.replace("^", "**"), format=form, parse_strict="silent")
        if known.is_equivalent(u.Msun):
            return known
    raise HaloInputError(f"the unit of {name} must be one of mass", path=path, keyword=name, found=text,
                         hint="1e14 Msun")


def _angles(column, name, path, limit, hour):
    """Return degrees, NaN where a cell is empty; raise with the row and the value of the first that is no angle."""
    unit = getattr(column, "unit", None)
    unit = u.Unit(unit, parse_strict="silent") if unit is not None else None
    unit = u.hourangle if unit is not None and unit == u.hour else unit
    if unit is not None and not unit.is_equivalent(u.deg) and unit.physical_type not in ("dimensionless", "unknown"):
        raise HaloInputError(f"the unit of {name} must be one of angle", path=path, keyword=name, found=str(unit),
                             hint="deg")
    masked = np.ma.getmaskarray(np.ma.asarray(column.value if isinstance(column, u.Quantity) else column))
    if column.dtype.kind in "OUS":
        text = _texts(column)
        empty = masked | np.array([t.lower() in MISSING for t in text])
        plain = all(NUMBER.match(t) for t in text[~empty])
        degrees = np.array([np.nan if e else _cell(t, hour) for t, e in zip(text, empty, strict=True)])
        angular = plain and unit is not None and unit.is_equivalent(u.deg)
    else:
        text = np.asarray(column)
        degrees = _numbers(column, name, path)
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
    if NUMBER.match(text):
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
