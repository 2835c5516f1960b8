"""Writing a ClusterImage as FITS, so that reading it gives the same image again."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import re
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits

from halopy.cutouts import write_atomically
from halopy.errors import HaloInputError
from halopy.image import Beam
from halopy.own_fits import with_checksums

__all__ = ["read_own", "write_image"]

# Cards of the original that describe its axes, its scaling or what is written anew.
_NOT_COPIED = re.compile(
    r"(SIMPLE|XTENSION|EXTEND|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK|BUNIT|CHECKSUM|DATASUM|END|EXTNAME"
    r"|EXTVER|INHERIT|DATAMIN|DATAMAX|BMAJ|BMIN|BPA|CLEANBM[JN]|CLEANBPA|CASAMBM|RESTFRE?Q|FREQ.*|RADE(C|)SYS|EQUINOX|EPOCH"
    r"|OBJECT|HALOPY|HALOMETA|LONGSTRN|LONPOLE|LATPOLE|WCSAXES|MJDREF.*|Z(IMAGE|TENSION|SIMPLE|BITPIX|NAXIS.*|TILE.*"
    r"|CMPTYPE|NAME\d|VAL\d|QUANTIZ|DITHER0|HECKSUM|DATASUM|PCOUNT|GCOUNT|EXTEND|BLANK|SCALE|ZERO|MASKCMP|BLOCKED)"
    r"|T(FIELDS|TYPE\d+|FORM\d+|UNIT\d+|DIM\d+|HEAP)|THEAP|(WCSNAME|CNAME|CTYPE|CUNIT|CRPIX|CRVAL|CDELT|CROTA|CRDER|CSYER)\d*[A-Z]?"
    r"|(PC|CD|PV|PS)\d+_\d+[A-Z]?|PC\d{6}|(A|B|AP|BP)_(ORDER|DMAX|\d_\d)|COMMENT|HISTORY|CONTINUE|HIERARCH|)\Z")
_STATED = ("BUNIT", "BMAJ", "BMIN", "BPA", "RESTFRQ")
_KEPT = {"survey": str, "flux_scale": float, "rms_method": str}


def write_image(image, path, *, overwrite=False):
    """Write a `ClusterImage` as a FITS file that any radio tool reads.

    The file appears under its name only when it is complete. It holds the pixels as float32 with
    ``BUNIT`` (``Jy/beam``), ``BMAJ``, ``BMIN``, ``BPA`` (degrees), ``RESTFRQ`` and ``FREQ`` (Hz),
    the observation's cards and HISTORY of the file it was read from, ``CHECKSUM`` and ``DATASUM``;
    the rms and background as image extensions ``RMS`` and ``BACKGROUND``. Cards whose value is
    not finite are left out and named in HISTORY.

    Parameters
    ----------
    image : ClusterImage
    path : str or path-like
        An ending ``.gz`` compresses.
    overwrite : bool, optional
        Replace an existing file, default False.

    Raises
    ------
    HaloInputError
        The file exists, or cannot be written.

    Examples
    --------
    >>> image.write("a2744.fits", overwrite=True)  # doctest: +SKIP
    """
    if not isinstance(path, (str, os.PathLike)) or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path)):
        raise HaloInputError("an image is written to a path of this machine", path=str(path))
    path = Path(path)
    if path.exists() and not overwrite:
        raise HaloInputError("this file exists", path=path, hint="overwrite=True")
    with warnings.catch_warnings():
        # Cards of the original that break the standard are dropped or mended; nothing to tell twice.
        warnings.simplefilter("ignore")
        hdus = [fits.PrimaryHDU(image.data, header=_header(image))]
        for name, plane in (("RMS", image.rms), ("BACKGROUND", image.background)):
            if plane is not None:
                hdus.append(fits.ImageHDU(np.asarray(plane, dtype=np.float32), name=name))
                hdus[-1].header["BUNIT"] = _unit_text(image.unit)
        hdulist = fits.HDUList(hdus)
        hdulist.verify("fix")
        write_atomically(path, lambda temporary: with_checksums(hdulist).writeto(temporary, output_verify="fix"))


def _header(image):
    header, dropped = fits.Header(), []
    copied, history = _original(image.meta.get("header", ""), dropped)
    for keyword, value, comment in copied:
        _put(header, dropped, keyword, value, comment)
    for card in image.wcs.to_header(relax=True).cards:
        _put(header, dropped, card.keyword, card.value, card.comment)
    _put(header, dropped, "BUNIT", _unit_text(image.unit))
    if image.beam is not None:
        for keyword, angle in (("BMAJ", image.beam.major), ("BMIN", image.beam.minor), ("BPA", image.beam.pa)):
            _put(header, dropped, keyword, float(angle.to_value(u.deg)), "[deg] synthesised beam")
    if image.frequency is not None:
        for keyword in ("RESTFRQ", "FREQ"):
            _put(header, dropped, keyword, float(image.frequency.to_value(u.Hz)), "[Hz] centre of the band")
    header["OBJECT"] = _ascii(image.name)[:68]
    header["HALOPY"] = ("ClusterImage", "written by halopy")
    unit = image.unit.to_string("generic") if image.unit is not None else ""
    known = {"name": image.name, "flags": list(image.flags), "unit": unit,
             "beam": None if image.beam is None else image.beam.source, "frequency": image.frequency is not None,
             "cards": {keyword: header[keyword] for keyword in _STATED if keyword in header},
             **{key: kind(image.meta[key]) for key, kind in _KEPT.items() if image.meta.get(key) is not None}}
    header["LONGSTRN"] = ("OGIP 1.0", "long texts are continued")
    # Quotes and ampersands have a meaning of their own in long FITS strings.
    header["HALOMETA"] = json.dumps(known).replace("'", "\\u0027").replace("&", "\\u0026")
    for line in history:
        header.add_history(line)
    header.add_history(f"written by halopy {importlib.metadata.version('halopy-radio')}")
    for text in (*image.meta.get("repairs", ()), *(f"{k} was not finite and is left out" for k in dropped)):
        header.add_history(_ascii(f"halopy: {text}"))
    return header


def _ascii(text):
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _put(header, dropped, keyword, value, comment=""):
    if isinstance(value, float) and not math.isfinite(value):
        dropped.append(keyword)
        return
    try:
        header[keyword] = (value, comment)
    except ValueError:
        dropped.append(keyword)


def _original(text, dropped):
    """Return the cards (keyword, value, comment) to carry over, and the HISTORY lines; name what is not finite."""
    copied, history = [], []
    for line in text.split("\n"):
        keyword = line[:8].strip()
        if keyword == "HISTORY" and not line[8:].startswith((" written by halopy", " halopy: ")):
            history.append(line[8:].strip())
        if _NOT_COPIED.match(keyword) or line[8:10] != "= " or not re.fullmatch(r"[A-Z0-9_-]{1,8}", keyword):
            continue
        if re.match(r"\s*[+-]?(nan|inf(inity)?)\s*(/|\Z)", line[9:], re.IGNORECASE):
            dropped.append(keyword)
            continue
        try:
            card = fits.Card.fromstring(line)
            continued = isinstance(card.value, str) and card.value.endswith("&")
            if isinstance(card.value, (bool, int, float, str)) and not continued:
                copied.append((card.keyword, card.value, card.comment))
        except (ValueError, TypeError, fits.VerifyError):
            continue
    return copied, history


def _unit_text(unit):
    if unit is None:
        return ""
    for per, name in ((u.beam, "beam"), (u.pix, "pixel")):
        for prefix in ("", "m", "u", "n"):
            if unit == u.Unit(prefix + "Jy") / per:
                return f"{prefix}Jy/{name}"
    try:
        return unit.to_string("fits")
    except ValueError:
        return unit.to_string("generic")


def read_own(cards):
    """Return what `write_image` noted in a header: name, flags, unit, beam, frequency, survey; else None.

    Parameters
    ----------
    cards : Cards

    Returns
    -------
    dict or None
        None for a file from elsewhere, or where the note was damaged.
    list of str
        Cards that say something else than they did when the note was written: it holds no longer, and is None.
    """
    if cards.text("HALOPY") != "ClusterImage":
        return None, []
    try:
        known = json.loads(cards.text("HALOMETA"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            unit = u.Unit(str(known["unit"]))
        # A note of an earlier version holds no cards.
        changed = _changed(cards, {"BUNIT": _unit_text(unit)} | known.get("cards", {}))
        if changed:
            return None, changed
        beam = frequency = None
        if known["beam"] is not None:
            major, minor, pa = (u.Quantity(cards.number(k), u.deg) for k in ("BMAJ", "BMIN", "BPA"))
            beam = Beam(major, minor, pa, str(known["beam"]))
        if known["frequency"]:
            frequency = u.Quantity(cards.number("RESTFRQ") * 1e-6, u.MHz)
            if not frequency > 0:
                return None, []
        result = {"name": str(known["name"]), "flags": [str(f) for f in known["flags"]], "beam": beam,
                  "unit": unit, "frequency": frequency}
        result |= {key: str(known[key]) for key in ("survey", "rms_method") if key in known}
        if 0 <= float(known.get("flux_scale", math.nan)) < math.inf:
            result["flux_scale"] = float(known["flux_scale"])
        return result, []
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, []


def _changed(cards, stated):
    """The cards that another program has changed since they were stated."""
    found = []
    for keyword, value in stated.items():
        if isinstance(value, str):
            same = cards.text(keyword) == value.strip()
        else:
            number = cards.number(keyword)
            same = number is not None and math.isclose(number, value, rel_tol=1e-9)
        found += [] if same else [keyword]
    return found
