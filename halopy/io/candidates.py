"""Order candidates, and put their numbers into words: what tables, pictures and pages share."""

from __future__ import annotations

import unicodedata

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

__all__ = ["candidates_text", "centres", "p_value_text", "ranking", "strength", "value_text"]


def plain(values):
    """Return a column as ``(n,)`` float, in its own unit, NaN where it is masked."""
    bare = values.unmasked if hasattr(values, "unmasked") else np.ma.getdata(values)
    bare = np.array(getattr(bare, "value", bare), dtype=float)
    bare[np.broadcast_to(np.asarray(getattr(values, "mask", False)), bare.shape)] = np.nan
    return bare


def centres(detections):
    """Return where the emission was measured (`~astropy.coordinates.SkyCoord`): the position where it was not."""
    east, north = (np.nan_to_num(numbers(detections, f"offset_{side}", u.arcsec)) for side in ("east", "north"))
    position = detections["position"].icrs
    moved = (east != 0) | (north != 0)
    if not moved.any():
        return position
    there = position[moved].spherical_offsets_by(east[moved] * u.arcsec, north[moved] * u.arcsec)
    ra, dec = position.ra.deg.copy(), position.dec.deg.copy()
    ra[moved], dec[moved] = there.ra.deg, there.dec.deg
    return SkyCoord(ra, dec, unit="deg")


def numbers(detections, name, unit=None):
    """Return one column of detections as ``(n,)`` float in ``unit``, all NaN where there is no such column."""
    if name not in detections.colnames:
        return np.full(len(detections), np.nan)
    column = detections[name]
    values = plain(column)
    own = getattr(column, "unit", None)
    return values * own.to(unit) if unit is not None and own is not None else values


def texts(detections, name):
    """Return one column of detections as a list of printable str, empty where it is masked or absent."""
    if name not in detections.colnames:
        return [""] * len(detections)
    return [printable(value) for value in np.ma.filled(np.ma.asarray(detections[name]).astype(object), "")]


def printable(text):
    """Return a text without control characters: none is allowed in XML, and a terminal obeys them."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in str(text)).strip()


def strength(detections):
    """Say how strong each candidate is.

    Parameters
    ----------
    detections : `~astropy.table.QTable`
        ``n`` rows.

    Returns
    -------
    list of str
        ``strong`` where the p-value is at most 0.01, ``possible`` up to 0.05, else ``weak``; without
        a p-value by the probability, at least 0.9 or 0.5; ``unscored`` without either.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from halopy.io.candidates import strength
    >>> strength(QTable({"probability": [0.99, 0.2], "p_value": [0.004, 0.6]}))
    ['strong', 'weak']
    """
    p_value, probability = numbers(detections, "p_value"), numbers(detections, "probability")
    found = []
    for p, q in zip(p_value, probability, strict=True):
        if np.isfinite(p):
            found.append("strong" if p <= 0.01 else "possible" if p <= 0.05 else "weak")
        elif np.isfinite(q):
            found.append("strong" if q >= 0.9 else "possible" if q >= 0.5 else "weak")
        else:
            found.append("unscored")
    return found


def ranking(detections):
    """Return the row numbers from the best candidate to the worst.

    By p-value, then probability, then signal-to-noise ratio; rows without come last, in their order.

    Returns
    -------
    `~numpy.ndarray`
        ``(n,)`` int.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from halopy.io.candidates import ranking
    >>> ranking(QTable({"p_value": [0.5, float("nan"), 0.01]})).tolist()
    [2, 0, 1]
    """
    keys = [np.nan_to_num(numbers(detections, name) * sign, nan=np.inf)
            for name, sign in (("snr", -1), ("probability", -1), ("p_value", 1))]
    return np.lexsort(keys)


def rows_of(detections):
    """Return one dict of plain values per row: the page needs no units below this point."""
    columns = {name: texts(detections, name) for name in
               ("name", "image", "label", "rms_method", "status", "flags")}
    columns |= {name: numbers(detections, name, unit) for name, unit in (
        ("redshift", None), ("m500", u.solMass), ("probability", None), ("p_value", None), ("n_controls", None),
        ("snr", None), ("rms", u.mJy / u.beam), ("flux", u.mJy), ("flux_err", u.mJy), ("r_e", u.arcsec),
        ("offset_east", u.arcsec), ("offset_north", u.arcsec), ("coverage", None), ("compact_flux", u.mJy),
        ("compact_flux_err", u.mJy), ("frequency", u.MHz))}
    columns["strength"] = strength(detections)
    position = detections["position"].icrs
    columns["ra"], columns["dec"] = np.asarray(position.ra.deg, float), np.asarray(position.dec.deg, float)
    middle = centres(detections)
    columns["centre_ra"], columns["centre_dec"] = np.asarray(middle.ra.deg, float), np.asarray(middle.dec.deg, float)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def candidates_text(detections, *, max_rows=50):
    """Return the candidates as a table of text, the best first.

    Parameters
    ----------
    detections : `~astropy.table.QTable`
        ``n`` rows.
    max_rows : int, optional
        Default 50; how many are left out is said.

    Returns
    -------
    str
        One line per row below a line of headings.
    """
    order = ranking(detections)
    rows = rows_of(detections[order[:max_rows]])
    several = len({*texts(detections, "image")} - {""}) > 1
    lines = [["", "name", *(["image"] if several else []), "p-value", "probability", "S/N", "flux density", "r_e",
              "status", "flags"]]
    for rank, r in enumerate(rows, 1):
        lines.append([str(rank), _short(r["name"]), *([_short(r["image"])] if several else []),
                      p_value_text(r["p_value"], r["n_controls"]), fixed_text(r["probability"], 3),
                      fixed_text(r["snr"], 1), value_text(r["flux"], r["flux_err"], "mJy"),
                      fixed_text(r["r_e"], 0, '"'), r["status"], r["flags"]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)
    if len(order) == 0:
        return "no candidates"
    return text if len(order) <= max_rows else f"{text}\n... and {len(order) - max_rows} more in the files"


def _short(text):
    return text if len(text) <= 32 else text[:31] + "…"


def p_value_text(p_value, n_controls):
    """Return a p-value as text, with the counts behind it.

    Examples
    --------
    >>> from halopy.io.candidates import p_value_text
    >>> p_value_text(0.004, 249)
    '0.0040 (1/250)'
    """
    if not np.isfinite(p_value):
        return "–"
    text = f"{p_value:.2f}" if p_value >= 0.1 else f"{p_value:.4f}" if p_value >= 1e-4 else f"{p_value:.1e}"
    if np.isfinite(n_controls) and n_controls > 0:
        for total in (n_controls + 1, n_controls):
            if abs(p_value * total - round(p_value * total)) < 1e-6 * total:
                return f"{text} ({round(p_value * total):d}/{int(total):d})"
    return text


def value_text(value, error=np.nan, unit=""):
    """Return a value with its error to two digits of the error, ``–`` where it is unknown.

    Examples
    --------
    >>> from halopy.io.candidates import value_text
    >>> value_text(364.61, 13.12, "mJy")
    '365 ± 13 mJy'
    """
    if not np.isfinite(value):
        return "–"
    unit = f" {unit}" if unit else ""
    if not np.isfinite(error) or error <= 0:
        return f"{value:.3g}{unit}" if abs(value) < 1000 else f"{value:,.0f}{unit}"
    digits = max(0, 1 - int(np.floor(np.log10(error))))
    return f"{value:,.{digits}f} ± {error:,.{digits}f}{unit}"


def fixed_text(value, digits, unit=""):
    """Return a value to a number of digits, ``–`` where it is unknown."""
    return f"{value:.{digits}f}{unit}" if np.isfinite(value) else "–"
