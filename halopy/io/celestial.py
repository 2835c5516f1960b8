"""Where an image lies: its planes, its celestial WCS and its frame, from the header's cards."""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections.abc import Sequence

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from halopy.errors import HaloInputError

__all__ = ["Plane", "choose_plane", "resolve_wcs"]

_PAIRS = {"RA": "DEC", "GLON": "GLAT", "ELON": "ELAT"}
_CTYPE = re.compile(r"(RA|DEC|GLON|GLAT|ELON|ELAT)(?:-+(\w+?)(-SIP)?)?\Z")
_PROJECTIONS = ("AZP SZP TAN STG SIN ARC ZPN ZEA AIR CYP CEA CAR MER COP COE COD COO SFL PAR MOL AIT BON PCO TSC CSC "
                "QSC HPX XPH NCP GLS TPV").split()
_DEGREES = {"": 1.0, "deg": 1.0, "degree": 1.0, "degrees": 1.0, "arcmin": 1 / 60, "arcsec": 1 / 3600,
            "rad": math.degrees(1), "radian": math.degrees(1)}
_STOKES = {1: "I", 2: "Q", 3: "U", 4: "V", -1: "RR", -2: "LL", -3: "RL", -4: "LR",
           -5: "XX", -6: "YY", -7: "XY", -8: "YX"}
_MAX_AXES = 9


@dataclasses.dataclass(frozen=True)
class Plane:
    """The two celestial axes of a file and the plane that was chosen from the others.

    ``longitude`` and ``latitude`` are axis numbers of the header (from 1), ``index`` selects the
    plane from the data, ``pixels`` maps the other axes' numbers to FITS pixels (from 1), ``text``
    says it in words. ``transpose`` is True where the file holds the latitude on the faster axis.
    """

    longitude: int
    latitude: int
    index: tuple
    pixels: dict
    text: str
    frequency_axis: int | None
    channel: int | None
    stokes: str | None

    @property
    def transpose(self):
        return self.latitude < self.longitude


def _celestial_axes(cards, ndim, fail):
    ctypes = {n: cards.text(f"CTYPE{n}").upper() for n in range(1, _MAX_AXES + 1) if f"CTYPE{n}" in cards}
    found = {}
    for n, ctype in ctypes.items():
        match = _CTYPE.match(ctype)
        if not match:
            continue
        if match[1] in found:
            fail(f"two axes are {match[1]}", f"CTYPE{n}")
        if match[2] is None:
            fail(f"CTYPE{n} has no projection", f"CTYPE{n}", hint="correct it, for example to RA---SIN")
        if match[2] not in _PROJECTIONS:
            fail(f"CTYPE{n} names an unknown projection", f"CTYPE{n}", hint="known: " + " ".join(_PROJECTIONS))
        found[match[1]] = n, match[2], match[3] or ""
    for lon, lat in _PAIRS.items():
        if lon in found and lat in found:
            if found[lon][1:] != found[lat][1:]:
                fail("the two celestial axes have different projections", f"CTYPE{found[lat][0]}")
            if max(found[lon][0], found[lat][0]) > ndim:
                fail(f"the celestial axes lie beyond the {ndim} axes of the data",
                     f"CTYPE{max(found[lon][0], found[lat][0])}")
            return found[lon], found[lat], ctypes, lon
        if lon in found or lat in found:
            have, lack = (lon, lat) if lon in found else (lat, lon)
            fail(f"the header has a {have} axis but no {lack} axis", f"CTYPE{found[have][0]}")
    fail("the header has no celestial coordinates (CTYPE such as RA---SIN and DEC--SIN)", "CTYPE1",
         hint="write a WCS into the file first")


def choose_plane(cards, shape, *, plane=None, stokes=None, channel=None, path=None, hdu=None):
    """Choose the two-axis plane of an image; axes of length 1 choose themselves.

    Parameters
    ----------
    cards : Cards
    shape : tuple of int
        Of the data, numpy order.
    plane : int or sequence of int, optional
        Index from 0 along the one long axis that ``stokes`` and ``channel`` leave open; one index
        for each, slowest first, where there are several.
    stokes : str, optional
        ``"I"``, ``"Q"``, ``"U"``, ``"V"``, ``"XX"`` ...
    channel : int, optional
        Index from 0 along the spectral axis.
    path, hdu : optional
        For errors.

    Returns
    -------
    Plane

    Raises
    ------
    HaloInputError
        Without celestial axes; or where a longer axis is left open: the message lists the planes.
    """
    def fail(message, keyword, *, found=None, hint=None):
        raise HaloInputError(message, path=path, hdu=hdu, keyword=keyword, hint=hint,
                             found=cards.get(keyword) if found is None else found)

    ndim = len(shape)
    lon, lat, ctypes, _ = _celestial_axes(cards, ndim, fail)
    others = [n for n in range(ndim, 0, -1) if n not in (lon[0], lat[0])]
    length = {n: shape[ndim - n] for n in others}
    stokes_axis = next((n for n in ctypes if ctypes[n] == "STOKES"), None)
    frequency_axis = next((n for n in ctypes if ctypes[n].startswith("FREQ")), None)
    velocity = [n for n in others if re.match(r"VELO|VRAD|VOPT|FELO|WAVE|CHAN", ctypes.get(n, ""))]
    spectral = frequency_axis or next(iter(velocity), None)
    chosen = {n: 0 for n in others if length[n] == 1}

    def choose(axis, index, name, allowed):
        if axis not in length:
            if index != 0:
                fail(f"the image has no axis for {name}=", "NAXIS", found=ndim)
        elif isinstance(index, bool) or not isinstance(index, (int, np.integer)) or not 0 <= index < length[axis]:
            fail(f"{name} must be {allowed or f'an integer from 0 to {length[axis] - 1}'}", f"NAXIS{axis}", found=index)
        else:
            chosen[axis] = int(index)

    if stokes is not None:
        names = _stokes_names(cards, stokes_axis, length.get(stokes_axis, 1))
        if str(stokes).upper() not in names:
            fail(f"the image has no plane Stokes {stokes}", f"CTYPE{stokes_axis}" if stokes_axis else "CTYPE3",
                 found=names, hint="leave stokes= out if the header is wrong")
        choose(stokes_axis, names.index(str(stokes).upper()), "stokes", None)
    if channel is not None:
        choose(spectral, channel, "channel", None)
    is_open = [n for n in others if n not in chosen]
    if plane is not None:
        indices = list(plane) if isinstance(plane, Sequence) and not isinstance(plane, str) else [plane]
        if not is_open and set(map(str, indices)) == {"0"}:
            indices = []
        if len(indices) != len(is_open):
            fail(f"plane= needs {len(is_open)} number(s), for the axes longer than 1 that are still open", "NAXIS",
                 found=plane)
        for axis, index in zip(is_open, indices, strict=True):
            choose(axis, index, "plane", None)
    elif is_open:
        planes = "; ".join(_list_planes(cards, n, length[n], ctypes) for n in is_open)
        fail(f"this image has more than one plane: {planes}",
             f"NAXIS{is_open[0]}", found=shape, hint="plane=0, or stokes= and channel=")
    index = tuple(slice(None) if ndim - k not in length else chosen[ndim - k] for k in range(ndim))
    names = _stokes_names(cards, stokes_axis, length.get(stokes_axis, 1))
    words = [f"{ctypes.get(n) or f'axis {n}'} {chosen[n]} of {length[n]}" for n in others if length[n] > 1]
    return Plane(lon[0], lat[0], index, {n: chosen[n] + 1 for n in others}, ", ".join(words), frequency_axis,
                 chosen.get(frequency_axis), names[chosen.get(stokes_axis, 0)] if names else None)


def _stokes_names(cards, axis, length):
    if axis is None:
        return []
    value, reference, step = (cards.number(f"{k}{axis}") for k in ("CRVAL", "CRPIX", "CDELT"))
    if value is None:
        return []
    codes = [value + (i + 1 - (1 if reference is None else reference)) * (1 if step is None else step)
             for i in range(min(length, 1000))]
    return [_STOKES.get(round(c) if abs(c) < 100 else 0, "?") for c in codes]


def _list_planes(cards, axis, length, ctypes):
    text = f"axis {axis} ({ctypes.get(axis) or 'no CTYPE'}) has {length} planes, 0 to {length - 1}"
    if ctypes.get(axis) == "STOKES" and (names := _stokes_names(cards, axis, min(length, 8))):
        text += ": " + ", ".join(f"{i} = {name}" for i, name in enumerate(names))
    return text


def resolve_wcs(cards, plane, shape, findings, *, path=None, hdu=None):
    """Return (celestial `~astropy.wcs.WCS` of two axes, frame source).

    wcslib sees a fresh header of the celestial cards alone, longitude first.

    Parameters
    ----------
    cards : Cards
    plane : Plane
    shape : tuple of int
        ``(ny, nx)`` of the plane, latitude first.
    findings : Findings
    path, hdu : optional
        For errors.

    Raises
    ------
    HaloInputError
        Naming the keyword: a value that is no number, a singular CDELT, PC or CD, an unknown
        unit or frame.

    References
    ----------
    Calabretta & Greisen 2002, A&A 395, 1077 (doi:10.1051/0004-6361:20021327).
    """
    def fail(message, keyword, *, found=None, hint=None):
        raise HaloInputError(message, path=path, hdu=hdu, keyword=keyword, hint=hint,
                             found=cards.get(keyword) if found is None else found)

    def number(keyword, default=None):
        if keyword not in cards:
            if default is None:
                fail(f"the header has no {keyword}: the position of the image is unknown", keyword)
            return default
        value = cards.number(keyword)
        if value is None:
            fail(f"{keyword} must be a finite number", keyword, found=str(cards[keyword]))
        if isinstance(cards[keyword], str):
            findings.repair(f"{keyword} is text, read as {value:g}")
        return value

    axes = (plane.longitude, plane.latitude)
    header = fits.Header()
    scale = {}
    for new, old in enumerate(axes, start=1):
        unit = cards.text(f"CUNIT{old}").lower()
        if unit not in _DEGREES:
            fail(f"CUNIT{old} must be an angle", f"CUNIT{old}")
        scale[old] = _DEGREES[unit]
        header[f"CTYPE{new}"] = cards.text(f"CTYPE{old}").upper()
        header[f"CUNIT{new}"] = "deg"
        header[f"CRPIX{new}"] = number(f"CRPIX{old}")
        header[f"CRVAL{new}"] = number(f"CRVAL{old}") * scale[old]
    if not abs(header["CRVAL2"]) <= 90 or not abs(header["CRVAL1"]) <= 720:
        fail("the reference position is not on the sky", f"CRVAL{axes[0] if abs(header['CRVAL2']) <= 90 else axes[1]}")
    _linear(cards, plane, header, scale, number, fail, findings)
    for keyword in ("LONPOLE", "LATPOLE"):
        if keyword in cards:
            header[keyword] = number(keyword)
    for keyword in cards:
        if match := re.fullmatch(r"PV([1-9])_(\d{1,2})", keyword):
            if int(match[1]) in axes:
                header[f"PV{axes.index(int(match[1])) + 1}_{int(match[2])}"] = number(keyword)
        elif re.fullmatch(r"(A|B|AP|BP)_(ORDER|\d_\d)", keyword) and header["CTYPE1"].endswith("-SIP"):
            if axes != (1, 2):
                fail("SIP distortion needs the celestial axes first", keyword)
            value = number(keyword)
            header[keyword] = int(value) if keyword.endswith("ORDER") else value
        elif re.fullmatch(r"(CPDIS|CQDIS|D2IMDIS)[1-9]", keyword):
            fail("distortion tables are not supported", keyword, hint="resample the image without distortion")
    source = _frame(cards, header, findings, fail)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            wcs = WCS(header, naxis=2)
            wcs.wcs.set()
            wcs.pixel_shape = (shape[1], shape[0])
            wcs.all_pix2world([[0.0, 0.0], [shape[1] / 2, shape[0] / 2]], 0)
    except Exception as error:  # wcslib has a dozen kinds of its own
        text = " ".join(str(error).split())[:200]
        raise HaloInputError(f"the celestial coordinates cannot be used: {text}", path=path, hdu=hdu,
                             keyword=f"CTYPE{axes[0]}", found=header["CTYPE1"]) from error
    for warning in caught:
        findings.repair("wcs: " + " ".join(str(warning.message).split()))
    return wcs, source


def _matrix(cards, number, findings):
    """Return {(i, j): value} and the kind, ``PC`` or ``CD``, from all spellings of the keywords."""
    found = {"PC": {}, "CD": {}}
    for keyword in cards:
        match = re.fullmatch(r"(PC|CD)0*([1-9])_0*([1-9])", keyword) or re.fullmatch(r"(PC)00([1-9])00([1-9])", keyword)
        if match:
            found[match[1]].setdefault((int(match[2]), int(match[3])), number(keyword))
            if "_0" in keyword or keyword.startswith("PC0"):
                findings.repair("old spelling of the PC matrix, such as PC01_01")
    return found


def _linear(cards, plane, header, scale, number, fail, findings):
    axes = (plane.longitude, plane.latitude)
    found = _matrix(cards, number, findings)
    step = [0.0, 0.0]
    if not found["CD"] or f"CDELT{axes[0]}" in cards:
        for k, n in enumerate(axes):
            if f"CDELT{n}" not in cards and not found["CD"]:
                fail(f"the header has no CDELT{n}: the size of a pixel is unknown", f"CDELT{n}")
            step[k] = number(f"CDELT{n}", 0.0) * scale[n]
    if not found["CD"] and not (step[0] and step[1]):
        fail("CDELT must not be zero: it is the size of a pixel", f"CDELT{axes[step[0] != 0]}")
    units = np.array([scale[n] for n in axes])
    cd = np.array([[found["CD"].get((i, j), 0.0) for j in axes] for i in axes]) * units[:, None]
    pc = np.array([[found["PC"].get((i, j), float(i == j)) for j in axes] for i in axes])
    rotation = number(f"CROTA{axes[1]}", 0.0) or number(f"CROTA{axes[0]}", 0.0)
    if found["CD"]:
        if found["PC"] and not np.allclose(pc * np.array(step)[:, None], cd, rtol=1e-4, atol=1e-4 * np.abs(cd).max()):
            fail("the header has both a CD and a PC matrix, and they differ", f"CD{axes[0]}_{axes[0]}")
        matrix, kind = cd, "CD"
    else:
        if found["PC"] and rotation and not np.allclose(pc, _rotation(rotation, step), atol=1e-6):
            findings.warn("rotation", f"the header has a PC matrix and CROTA = {rotation:g}; the matrix is used")
        elif not found["PC"] and rotation:
            pc = _rotation(rotation, step)
        matrix, kind = pc * np.array(step)[:, None], "PC"
    size = np.sqrt(abs(np.linalg.det(matrix)))
    if not 1e-9 < size < 60:
        keyword = f"{kind}{axes[0]}_{axes[0]}" if found[kind] else f"CDELT{axes[0]}"
        fail("the pixel scale, from CDELT and the PC or CD matrix, must lie between 1e-9 and 60 deg", keyword,
             found=f"{size:g} deg")
    for other, pixel in plane.pixels.items():
        # A coupled third axis would move the image on the sky; tiny terms are rounding.
        reference = cards.number(f"CRPIX{other}") or 0.0
        for k, i in enumerate(axes):
            term = found[kind].get((i, other), 0.0) * (scale[i] if kind == "CD" else step[k])
            if abs(term * (pixel - reference)) > 0.05 * size:
                fail(f"axis {other} is coupled with the sky", f"{kind}{i}_{other}", found=found[kind][(i, other)])
    if found["CD"]:
        step = [-size if np.linalg.det(matrix) < 0 else size, size]
    for i in (0, 1):
        header[f"CDELT{i + 1}"] = step[i]
        for j in (0, 1):
            header[f"PC{i + 1}_{j + 1}"] = matrix[i, j] / step[i]


def _rotation(angle, step):
    # AIPS: one angle, turning the latitude axis; the ratio of the steps makes it a PC matrix.
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cos, -sin * step[1] / step[0]], [sin * step[0] / step[1], cos]])


def _frame(cards, header, findings, fail):
    """Set RADESYS and EQUINOX of the clean header; return where they come from.

    A text such as 'J2000' counts as FK5 2000 and 'B1950' as FK4 1950. Without RADESYS an equinox
    of 1984 or later is FK5, an earlier one FK4; nothing at all is ICRS (Calabretta & Greisen 2002,
    section 3.1).
    """
    if not header["CTYPE1"].startswith("RA"):
        return "CTYPE"
    keyword = next((k for k in ("EQUINOX", "EPOCH") if cards.text(k)), None)
    equinox = None if keyword is None else _year(cards, keyword)
    if keyword == "EPOCH" and equinox not in (1950.0, 2000.0):
        findings.repair(f"EPOCH = {cards['EPOCH']} is no equinox and is not used")
        keyword = equinox = None
    elif keyword and equinox is None:
        fail("EQUINOX must be a year such as 2000.0 or 1950.0", keyword)
    elif keyword and isinstance(cards[keyword], str):
        findings.repair(f"{keyword} = {cards[keyword]!r} is text, read as {equinox:g}")
    name = next((k for k in ("RADESYS", "RADECSYS") if cards.text(k)), None)
    system = cards.text(name).upper() if name else ""
    if system in ("J2000", "J2000.0", "B1950", "B1950.0"):
        implied = 2000.0 if system.startswith("J") else 1950.0
        if equinox not in (None, implied):
            findings.warn("frame", f"{name} = {system!r} contradicts {keyword} = {equinox:g}; {name} is used")
        findings.repair(f"{name} = {system!r} read as {'FK5' if implied == 2000 else 'FK4'}")
        system, equinox = "FK5" if implied == 2000 else "FK4", implied
    elif system and system not in ("ICRS", "FK5", "FK4", "FK4-NO-E"):
        fail(f"{name} must be ICRS, FK5, FK4 or FK4-NO-E", name)
    elif system and equinox is not None and (equinox >= 1984) != (not system.startswith("FK4")):
        findings.warn("frame", f"{name} = {system!r} contradicts {keyword} = {equinox:g}; positions may be off by "
                               f"half a degree: the file is read as {system}; try: correct the header")
    source = name or keyword or "default ICRS"
    if not system:
        system = "ICRS" if equinox is None else "FK5" if equinox >= 1984 else "FK4"
    header["RADESYS"] = system
    if system != "ICRS":
        header["EQUINOX"] = equinox if equinox is not None else (2000.0 if system == "FK5" else 1950.0)
    return source


def _year(cards, keyword):
    year = cards.number(keyword)
    if year is None and (match := re.fullmatch(r"[JB]?(\d{4}(?:\.\d*)?)", cards.text(keyword).upper())):
        year = float(match[1])
    return year if year is not None and 1800 <= year <= 2200 else None
