"""What a FITS header says, read from its 80-byte cards: values, brightness unit, frequency.

The cards are parsed here and not by astropy or wcslib, which would hang or run out of memory on
some broken headers; wcslib later sees a small clean header only.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError

__all__ = ["Cards", "Findings", "parse_unit", "resolve_frequency", "resolve_unit"]

_INTEGER = re.compile(r"[+-]?\d+\Z")
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([EeDd][+-]?\d+)?\Z")
_PRINTABLE = bytes(c if 32 <= c < 127 else ord("?") for c in range(256))


@dataclasses.dataclass
class Findings:
    """What was met while a file was read: repairs, flags, and one warning per cause."""

    repairs: list = dataclasses.field(default_factory=list)
    flags: list = dataclasses.field(default_factory=list)
    warnings: dict = dataclasses.field(default_factory=dict)

    def repair(self, text):
        """Note something that was read differently from how it stands in the file."""
        if text not in self.repairs:
            self.repairs.append(text)

    def warn(self, cause, text):
        """Note a warning; a second one of the same cause is dropped."""
        self.warnings.setdefault(cause, text)

    def flag(self, name):
        """Note what a user of the numbers has to know."""
        if name not in self.flags:
            self.flags.append(name)


class Cards(Mapping):
    """Read-only view of the raw cards of one header; the first of two cards of a name counts.

    Parameters
    ----------
    raw : bytes
        The header's 80-byte cards up to END.

    Examples
    --------
    >>> from halopy.io.header import Cards
    >>> cards = Cards(b"BMAJ    = '1.2500E-02'".ljust(80) + b"BITPIX  =                  -32".ljust(80))
    >>> cards["BMAJ"], cards["BITPIX"], cards.number("BMAJ")
    ('1.2500E-02', -32, 0.0125)
    """

    def __init__(self, raw):
        self.clean = not raw.translate(None, bytes(range(32, 127)))
        text = raw.translate(_PRINTABLE).decode("ascii")
        self.lines = [text[i:i + 80].rstrip() for i in range(0, len(text), 80)]
        self.history, self._raw, self.conflicts = [], {}, set()
        last = None
        for line in self.lines:
            if line.startswith("HISTORY"):
                self.history.append(line[8:])
            elif line.startswith("CONTINUE") and last is not None:
                self._raw[last] = _join(self._raw[last], line[8:].strip())
            else:
                sign = line.find("=", 0, 9)
                if sign < 1 or line[sign + 1:sign + 2] not in ("", " "):
                    continue
                last = line[:sign].strip().upper()
                value = line[sign + 1:].strip()
                if last in self._raw:
                    if _value(value) != _value(self._raw[last]):
                        self.conflicts.add(last)
                    last = None
                else:
                    self._raw[last] = value

    def __getitem__(self, keyword):
        return _value(self._raw[keyword])

    def __contains__(self, keyword):
        return keyword in self._raw

    def __iter__(self):
        return iter(self._raw)

    def __len__(self):
        return len(self._raw)

    def text(self, keyword):
        """Return a value as stripped text, ``""`` where there is none."""
        value = self.get(keyword, "")
        return "" if isinstance(value, bool) else str(value).strip()

    def number(self, keyword):
        """Return a finite float, also from text that is a number, else None."""
        value = self.get(keyword)
        if isinstance(value, str):
            value = value.strip()
            value = _real(value) if _REAL.match(value) else None
        if value is None or isinstance(value, bool) or not abs(value) < 1e300:
            return None
        return float(value)


def _join(first, second):
    if first.rstrip().endswith("&'") and second.startswith("'"):
        return first.rstrip()[:-2] + second[1:]
    return first


def _real(text):
    return float(text.upper().replace("D", "E"))


def _value(raw):
    if raw.startswith("'"):
        match = re.match(r"'((?:[^']|'')*)'?", raw)
        return match[1].replace("''", "'").rstrip()
    token = raw.split("/", 1)[0].strip()
    if token in ("T", "F"):
        return token == "T"
    if _INTEGER.match(token):
        return int(token)
    if _REAL.match(token):
        return _real(token)
    return token


_PREFIX = {"": 1, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9, "micro": 1e-6, "milli": 1e-3}
_JANSKY = r"(?P<prefix>m|u|µ|μ|n|micro|milli|)(?:jy|jansky|janskies|janskys)"
_PER = {"beam": r"(?:beam|bm|b)", "pix": r"(?:pixel|pix|px)", "sr": r"(?:sr|steradian)"}
_KNOWN = "Jy/beam, mJy/beam, uJy/beam, Jy/pixel, Jy/sr, MJy/sr, K, mK"


def _patterns():
    for name, per in _PER.items():
        for shape in (rf"{_JANSKY}(?:/|per|\*)?{per}", rf"{_JANSKY}[*.]?{per}(?:\^|\*\*)?\(?-1\)?",
                      rf"{per}(?:\^|\*\*)?\(?-1\)?[*.]?{_JANSKY}", rf"{_JANSKY}/\(?{per}\)?"):
            yield name, re.compile(shape + r"\Z")


_SPELLINGS = tuple(_patterns())


def parse_unit(text):
    """Return the brightness unit that a BUNIT spelling means.

    Parameters
    ----------
    text : str or `~astropy.units.Unit`
        Case and spaces do not matter: ``JY/BEAM``, ``Jy/Beam``, ``JY/BM``, ``Jy per beam``,
        ``Jy beam^-1``, ``beam-1 Jy``, ``mJy/bm``, ``JY/PIXEL``, ``K`` ...

    Returns
    -------
    `~astropy.units.Unit`
        Flux density per beam, per pixel or per solid angle, or temperature.

    Raises
    ------
    HaloInputError
        With the list of known units.

    Examples
    --------
    >>> from halopy.io.header import parse_unit
    >>> parse_unit("JY/BEAM"), parse_unit("mJy per bm"), parse_unit("Kelvin")
    (Unit("Jy / beam"), Unit("mJy / beam"), Unit("K"))
    """
    if isinstance(text, u.UnitBase):
        unit = text
    else:
        raw = str(text).strip()
        squeezed = re.sub(r"[\s_]+", "", raw)
        unit = _spelt(squeezed)
    for known in (u.Jy / u.beam, u.Jy / u.pix, u.Jy / u.sr, u.K):
        if unit is not None and unit.is_equivalent(known):
            return unit
    hint = "unit='Jy/beam'"
    if not isinstance(text, u.UnitBase) and squeezed.startswith("MJY/B"):
        hint = "unit='mJy/beam': MJY in capitals may be milli or mega"
    raise HaloInputError("an image needs a brightness unit that halopy knows: " + _KNOWN, keyword="BUNIT",
                         found=str(text), hint=hint)


def _spelt(squeezed):
    # Capital M is mega in FITS, milli in old all-capital headers: only the unambiguous are taken.
    if squeezed.lower() in ("k", "kelvin", "degk", "k(tb)"):
        return u.K
    for name, pattern in _SPELLINGS:
        first_lower = squeezed if squeezed.startswith("M") else squeezed.lower()
        if match := pattern.match(first_lower):
            prefix = match["prefix"].replace("micro", "u").replace("milli", "m").replace("µ", "u").replace("μ", "u")
            return u.Unit(prefix + "Jy") / getattr(u, name)
    try:
        return u.Unit(squeezed, format="fits", parse_strict="raise")
    except (ValueError, TypeError):
        return None


def resolve_unit(cards, findings, *, unit=None, survey=None, has_beam=False, path=None, hdu=None):
    """Return (unit, source): the user's, else BUNIT, else Jy/beam where a survey or a beam implies it.

    Parameters
    ----------
    cards : Cards
    findings : Findings
        Takes the flag ``unit-assumed`` where BUNIT is missing.
    unit : str or `~astropy.units.Unit`, optional
        The user's word; it always wins.
    survey : Survey, optional
        Survey images are in Jy/beam.
    has_beam : bool, optional
        Whether the header gives a beam: a restored radio image.
    path, hdu : optional
        For the error.

    Raises
    ------
    HaloInputError
        BUNIT is unknown; or it is missing and nothing tells what the pixels are.
    """
    if unit is not None:
        return parse_unit(unit), "user"
    text = cards.text("BUNIT")
    if text:
        try:
            return parse_unit(text), "BUNIT"
        except HaloInputError as error:
            error.path, error.hdu = path, hdu
            raise
    if survey is not None:
        findings.flag("unit-assumed")
        return u.Jy / u.beam, f"survey {survey.name}"
    if has_beam:
        findings.flag("unit-assumed")
        findings.warn("unit", "the header has no BUNIT; it has a beam, so Jy/beam is assumed; try: unit='Jy/beam'")
        return u.Jy / u.beam, "assumed"
    raise HaloInputError("nothing tells the unit of these pixels: the header has no BUNIT and no beam", path=path,
                         hdu=hdu, keyword="BUNIT", hint="unit='Jy/beam', or survey='gleam-170-231'")


_HERTZ = {"": 1.0, "hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}
_KEYWORDS = ("RESTFRQ", "RESTFREQ", "FREQ", "FREQ0", "FREQUENC")


def resolve_frequency(cards, findings, *, frequency=None, survey=None, axis=None, pixel=None):
    """Return (frequency in MHz or None, source).

    The order is: the user's, the FREQ axis at the chosen channel, RESTFRQ, RESTFREQ, FREQ, FREQ0,
    the survey. A header value more than 20 % off the band of the survey that the user named gives
    way to the survey, as the beam does: template headers carry both wrong together.

    Parameters
    ----------
    cards : Cards
    findings : Findings
    frequency : `~astropy.units.Quantity`, optional
        The user's word.
    survey : Survey, optional
    axis : int, optional
        Number of the FREQ axis in the header.
    pixel : float, optional
        FITS pixel (from 1) on that axis; None: the reference pixel.
    """
    if frequency is not None:
        try:
            value = u.Quantity(frequency).to(u.MHz, equivalencies=u.spectral())
            usable = value.isscalar and np.isfinite(value) and value > 0
        except (u.UnitsError, TypeError):
            usable = False
        if not usable:
            raise HaloInputError("frequency must be one positive frequency", found=str(frequency),
                                 hint="frequency=200 * u.MHz")
        return value, "user"
    found = source = None
    for value, name in _frequencies(cards, findings, axis, pixel):
        # A value in MHz under a keyword that is in Hz would be far below any radio band.
        if value is not None and 1e6 <= value <= 1e13:
            found, source = value / 1e6 * u.MHz, name
            break
        if value is not None:
            findings.repair(f"{name} {value:g} Hz is no radio frequency and is not used")
    if survey is not None:
        band = survey.frequency.to(u.MHz)
        if found is None:
            return band, f"survey {survey.name}"
        if not math.isclose(found.value, band.value, rel_tol=0.2):
            findings.flag("frequency-from-survey")
            findings.repair(f"frequency {found.value:g} MHz ({source}) replaced by that of {survey.name}")
            return band, f"survey {survey.name}"
    if found is None:
        findings.warn("frequency", "the header has no frequency; try: frequency=200 * u.MHz or survey=")
    return found, source


def _frequencies(cards, findings, axis, pixel):
    if axis is not None:
        value, reference, step = (cards.number(f"{k}{axis}") for k in ("CRVAL", "CRPIX", "CDELT"))
        scale = _HERTZ.get(cards.text(f"CUNIT{axis}").lower())
        if scale is None:
            findings.repair(f"CUNIT{axis} is no unit of frequency; the axis is not used")
        elif value is not None:
            if pixel is not None and reference is not None and step is not None:
                value += (pixel - reference) * step
            yield value * scale, f"FREQ axis {axis}"
    for keyword in _KEYWORDS:
        yield cards.number(keyword), keyword
