"""Where an image's synthesised beam comes from, in order of trust."""

from __future__ import annotations

import math
import re

from astropy import units as u

from halopy.errors import HaloInputError
from halopy.image import Beam

__all__ = ["resolve_beam"]

_NUMBER = r"\s*=?\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][+-]?\d+)?)"
_AIPS = re.compile(rf"AIPS\s+CLEAN\s+BMAJ{_NUMBER}\s*BMIN{_NUMBER}(?:\s*BPA{_NUMBER})?", re.IGNORECASE)
_CASA = re.compile(rf"restoration:{_NUMBER}\s*by{_NUMBER}\s*\(arcsec\)(?:[\s>]*at\s*pa{_NUMBER})?", re.IGNORECASE)
_MIN_PIXELS, _MAX_PIXELS = 1.5, 50
_TOLERANCE = 0.2


def resolve_beam(cards, findings, *, beam=None, survey=None, position=None, pixel_scale=None, shape=None, table=()):
    """Return the `Beam` of an image, or None where nothing says what it is.

    The order is: the user's ``beam``; BMAJ, BMIN, BPA (degrees; text that is a number counts); a
    BEAMS table; CLEANBMJ, CLEANBMN, CLEANBPA; the HISTORY of AIPS CLEAN (the last one) or of CASA;
    the survey. A beam that cannot be true falls through to the next: it must be finite, have
    0 < BMIN <= BMAJ, be smaller than the image and 1.5 to 50 pixels across. Where the user names
    a survey and the header differs from its beam by more than 20 %, the survey's is taken.

    Parameters
    ----------
    cards : Cards
    findings : Findings
        Takes the flags ``beam-from-survey`` and ``beam-from-text``.
    beam : Beam or `~astropy.units.Quantity`, optional
        The user's word; it always wins, with a warning where it cannot be true.
    survey : Survey, optional
    position : `~astropy.coordinates.SkyCoord`, optional
        Centre of the image.
    pixel_scale : `~astropy.units.Quantity`, optional
        Angle of a pixel.
    shape : tuple of int, optional
        ``(ny, nx)``.
    table : sequence of tuple, optional
        (major, minor, pa) in degrees from a BEAMS table.
    """
    if beam is not None:
        beam = _users(beam)
        reason = _refusal(*(a.to_value(u.deg) for a in (beam.major, beam.minor, beam.pa)), pixel_scale, shape)
        if reason is not None:
            findings.warn("user beam", f"the given beam ({beam!r}) is used, but hardly true: {reason}; try: check that "
                                       "it is a full width at half maximum in the right unit, and that of this image")
        return beam
    preset = None if survey is None else survey.beam_at(position)
    found = refused = None
    for major, minor, pa, source in _candidates(cards, findings, table):
        reason = _refusal(major, minor, pa, pixel_scale, shape)
        if reason is None:
            found = Beam(major * u.deg, min(minor, major) * u.deg, pa * u.deg, source)
            if minor > major:
                findings.repair(f"{source}: BMIN exceeds BMAJ by rounding, both set to BMAJ")
            if "text" in source:
                findings.flag("beam-from-text")
            break
        findings.repair(f"{source}: beam not used, {reason}")
        refused = refused or (major, source, reason)
    if preset is not None and (found is None or _differs(found, preset)):
        if found is not None:
            findings.warn("beam", f"the header's beam ({found!r}) is more than {_TOLERANCE:.0%} off that of the "
                                  f"survey, which is used: {preset!r}; try: beam= if the header is right")
        findings.flag("beam-from-survey")
        return preset
    if found is None and refused is not None:
        major, source, reason = refused
        hint = "beam=Beam(45 * u.arcsec), or survey="
        if major is not None and major > 0.5:
            hint = f"BMAJ is in degrees; {major:g} looks like arcsec: give beam=Beam({major:g} * u.arcsec)"
        findings.warn("beam", f"the beam in the file cannot be true ({source}: {reason}); the image has none; "
                              f"try: {hint}")
    return found


def _users(beam):
    if isinstance(beam, Beam):
        return beam
    if isinstance(beam, u.Quantity):
        return Beam(beam)
    raise HaloInputError("beam must be a halopy.Beam or an angle", found=repr(beam), hint="beam=Beam(45 * u.arcsec)")


def _candidates(cards, findings, table):
    """Yield (major, minor, pa, source) in degrees; None where a value is no number."""
    if "BMAJ" in cards:
        yield _triple(cards, "BMAJ", "BMIN", "BPA")
    for major, minor, pa in table:
        yield major, minor, pa, "BEAMS table"
    if "CLEANBMJ" in cards:
        yield _triple(cards, "CLEANBMJ", "CLEANBMN", "CLEANBPA")
    aips = [m for line in cards.history for m in _AIPS.findall(line)]
    if aips:
        if _numbers(aips[0]) != _numbers(aips[-1]):
            findings.warn("history", f"HISTORY holds two AIPS CLEAN beams, BMAJ {aips[0][0]} and {aips[-1][0]} deg; "
                                     "the last is used; try: beam=")
        yield *_numbers(aips[-1]), "HISTORY(AIPS)"
    casa = _CASA.findall(" ".join(line.strip() for line in cards.history))
    if casa:
        major, minor, pa = _numbers(casa[-1])
        yield major / 3600, minor / 3600, pa, "HISTORY(CASA)"


def _numbers(texts):
    return tuple(float(text.upper().replace("D", "E") or 0) for text in texts)


def _triple(cards, *keywords):
    major, minor, pa = (cards.number(k) for k in keywords)
    source = f"header {keywords[0]}"
    if isinstance(cards.get(keywords[0]), str):
        source += " (text)"
    if keywords[1] not in cards:
        minor = major
    return major, minor, 0.0 if keywords[2] not in cards else pa, source


def _refusal(major, minor, pa, pixel_scale, shape):
    if major is None or minor is None:
        return "it is not a number"
    if not (math.isfinite(major) and math.isfinite(minor)):
        return "it is not finite"
    if minor <= 0 or major <= 0:
        return f"it must be positive, found {major:g} x {minor:g} deg"
    if minor > major * (1 + 1e-6):
        return f"BMIN {minor:g} exceeds BMAJ {major:g}"
    if pa is None or not abs(pa) <= 360:
        return "its position angle is not a number of degrees up to 360"
    if pixel_scale is None:
        return None
    scale = pixel_scale.to_value(u.deg)
    if major >= scale * max(shape):
        return f"{major:g} deg is larger than the image"
    if not _MIN_PIXELS <= minor / scale or not major / scale <= _MAX_PIXELS:
        return (f"{major:g} x {minor:g} deg is {major / scale:.3g} x {minor / scale:.3g} pixels, "
                f"outside {_MIN_PIXELS:g} to {_MAX_PIXELS:g}")
    return None


def _differs(found, preset):
    return any(abs((a / b).to_value(u.one) - 1) > _TOLERANCE
               for a, b in ((found.major, preset.major), (found.minor, preset.minor)))


def read_beams_table(rows, columns, units, *, channel=None):
    """Return the (major, minor, pa) in degrees that a BEAMS table holds for a channel.

    Parameters
    ----------
    rows : `~numpy.ndarray`
        Structured rows.
    columns : sequence of str
        Their names.
    units : mapping
        Unit text per column; arcsec and deg are the convention where it is missing.
    channel : int, optional
        Channel of the chosen plane, from 0. Without it a table of several different beams is not
        used.
    """
    names = {name.upper(): name for name in columns}
    if not {"BMAJ", "BMIN"} <= set(names) or len(rows) == 0:
        return ()
    if len(rows) > 1 and channel is not None and "CHAN" in names:
        rows = rows[rows[names["CHAN"]] == channel]
    if len(rows) == 0:
        return ()

    def values(name, default):
        if name not in names:
            return [0.0] * len(rows)
        return (rows[names[name]] * u.Unit(units.get(names[name]) or default)).to_value(u.deg).astype(float).tolist()

    beams = list(zip(values("BMAJ", "arcsec"), values("BMIN", "arcsec"), values("BPA", "deg"), strict=True))
    if any(not math.isclose(b[0], beams[0][0], rel_tol=0.01) for b in beams):
        return ()
    return (beams[0],)
