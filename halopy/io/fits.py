"""Reading and describing radio images in FITS; registers ``ClusterImage.read`` and ``.write``."""

from __future__ import annotations

import contextlib
import re
import warnings

import numpy as np
from astropy import units as u
from astropy.io import fits, registry
from astropy.wcs.utils import proj_plane_pixel_scales

from halopy import survey as presets
from halopy.errors import HaloInputError, HalopyWarning
from halopy.image import ClusterImage
from halopy.io.beam import read_beams_table, resolve_beam
from halopy.io.celestial import choose_plane, resolve_wcs
from halopy.io.guard import MAX_BYTES, MAX_PIXELS, datasum, open_checked
from halopy.io.header import Cards, Findings, resolve_frequency, resolve_unit
from halopy.io.tiles import check_tiles
from halopy.io.write import read_own, write_image

__all__ = ["choose_hdu", "describe", "read_image", "write_image"]


def read_image(path, *, survey=None, beam=None, unit=None, frequency=None, hdu=None, plane=None, stokes=None,
               channel=None, name=None, zeros_are_blank=False, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES):
    """Read a radio image from a FITS file, whatever its dialect.

    What the file leaves open is filled from the survey, if one is named; what was found, and
    where, stands in ``meta``. An argument given here always wins over the file.

    Parameters
    ----------
    path : str or path-like
        FITS, plain or gzip or bzip2 or tile-compressed, on this machine.
    survey : str or Survey, optional
        A name in `halopy.surveys`, or a `~halopy.survey.Survey`. It fills a missing beam,
        frequency and unit, and replaces a beam or frequency in the header that is more than 20 %
        off (flags ``beam-from-survey``, ``frequency-from-survey``, ``unit-assumed``).
    beam : Beam or `~astropy.units.Quantity`, optional
        The synthesised beam. An image without one can be read; detection needs it.
    unit : str or `~astropy.units.Unit`, optional
        Of the pixels. Where BUNIT is empty and neither a survey nor a beam in the header implies
        Jy/beam, it must be given.
    frequency : `~astropy.units.Quantity`, optional
        Centre of the band.
    hdu : int or str, optional
        Number or name of the HDU. Default: the only image, else ``SCI``, else the primary.
    plane : int or sequence of int, optional
        Index along an axis that is neither sky nor of length 1, see `halopy.io.celestial.choose_plane`.
        Default: what the survey says of its cubes (MGCLS: 0); else such a file is refused.
    stokes, channel : str, int, optional
        The plane by Stokes parameter and by spectral channel.
    name : str, optional
        Default: the file's name without its endings (OBJECT lies in too many files; it is kept
        in ``meta["object"]``).
    zeros_are_blank : bool, optional
        Take exact zeros for pixels without data, default False.
    max_pixels, max_bytes : int, optional
        Limits of `halopy.io.guard.check_fits`.

    Returns
    -------
    ClusterImage
        In the file's unit. ``meta`` holds ``path``, ``hdu``, ``plane``, ``beam_source``,
        ``frequency_source``, ``unit_source``, ``frame_source``, ``survey``, ``object``, ``stokes``,
        ``header`` (text), ``repairs`` (list), ``blanked`` and ``zeros`` (fractions of the pixels)
        and ``checksum`` (``"verified"``, ``"mismatch"`` or ``"not-verifiable"``); where they are
        known ``flux_scale`` (of the survey) and ``rms_method`` (of the rms map that halopy wrote).
        An image without any data has the flag ``all-blank``.

    Raises
    ------
    HaloInputError
        For anything that cannot be read; with path, HDU, keyword and a hint.

    Warns
    -----
    HalopyWarning
        Once per cause: contradicting frames, a beam that cannot be true, no frequency ...

    Examples
    --------
    >>> from halopy import ClusterImage
    >>> image = ClusterImage.read("nvss_a119.fits", survey="nvss")  # doctest: +SKIP
    >>> image.beam, image.meta["beam_source"]  # doctest: +SKIP
    (Beam(45" x 45", pa 0 deg, header BMAJ (text)), 'header BMAJ (text)')
    """
    survey = presets.surveys[survey] if isinstance(survey, str) else survey
    if survey is not None and not isinstance(survey, presets.Survey):
        raise HaloInputError("survey must be a name or a halopy.survey.Survey", found=repr(survey))
    if survey is not None and plane is None and stokes is None and channel is None:
        plane = survey.plane
    findings = Findings()
    with open_checked(path, max_pixels=max_pixels, max_bytes=max_bytes) as (report, stream):
        for note in report.notes:
            findings.repair(note)
        chosen = choose_hdu(report, hdu)
        cards, where = chosen.cards, {"path": report.path, "hdu": chosen.index}
        own, changed = read_own(cards)
        if changed:
            findings.warn("own", f"halopy wrote this file, and {', '.join(changed)} has been changed since: its header "
                                 "is read like any other's")
        elif own is not None and survey is not None and own.get("survey") not in (None, survey.name):
            findings.warn("survey", f"the file says that it is of {own['survey']}, not of {survey.name}")
        what = choose_plane(cards, chosen.shape, plane=plane, stokes=stokes, channel=channel, **where)
        shape = tuple(n for n, i in zip(chosen.shape, what.index, strict=True) if isinstance(i, slice))
        wcs, frame_source = resolve_wcs(cards, what, shape[::-1] if what.transpose else shape, findings, **where)
        checksum = _checksum(chosen, stream, findings, **where)
        if chosen.kind == "compressed":
            check_tiles(chosen, stream, path=report.path)
        stream.seek(0)
        with _astropy(findings, **where):
            hdus = fits.open(stream, memmap=False, lazy_load_hdus=True)
            data = _pixels(hdus[chosen.index], what)
            table = _beams_table(report, hdus, what.channel)
            maps = {"rms": "RMS", "background": "BACKGROUND"} if own is not None else {}
            maps = {k: _map(report, hdus, extension) for k, extension in maps.items()}
    zeros = float(np.mean(data == 0))
    if zeros_are_blank:
        data[data == 0] = np.nan
    blanked = 1 - np.count_nonzero(np.isfinite(data)) / data.size
    if blanked == 1:
        findings.flag("all-blank")
    known, kept = cards, own or {}
    if own is not None:
        # A file of ours says itself what is known, and what is not: nothing is searched or judged.
        known = Cards(b"")
        unit = kept["unit"] if unit is None else unit
        frequency = kept["frequency"] if frequency is None else frequency
        findings.flags[:0] = kept["flags"]
    if beam is None and kept.get("beam") is not None:
        beam = kept["beam"]
    else:
        beam = resolve_beam(known, findings, beam=beam, survey=survey, position=_centre(wcs, data.shape),
                            table=table, shape=data.shape,
                            pixel_scale=np.sqrt(np.prod(proj_plane_pixel_scales(wcs))) * u.deg)
    has_beam = beam is not None and not beam.source.startswith("survey")
    if own is not None and unit is kept["unit"]:
        unit_source = "BUNIT"
    else:
        unit, unit_source = resolve_unit(known, findings, unit=unit, survey=survey, has_beam=has_beam, **where)
    frequency, frequency_source = resolve_frequency(
        known, findings, frequency=frequency, survey=survey, axis=None if own else what.frequency_axis,
        pixel=what.pixels.get(what.frequency_axis))
    if own is not None and frequency is None:
        findings.warnings.pop("frequency", None)
    elif own is not None and frequency_source == "user" and kept["frequency"] is not None:
        frequency_source = "RESTFRQ"
    if what.stokes not in (None, "I") and stokes is None:
        findings.warn("stokes", f"the header says that this is Stokes {what.stokes}, not the total intensity I")
    _emit(report.path, findings)
    meta = {
        **{k: str(v) if k == "path" else v for k, v in where.items()}, "plane": what.text, "stokes": what.stokes,
        "object": cards.text("OBJECT"), "survey": kept.get("survey") if survey is None else survey.name,
        "beam_source": None if beam is None else beam.source, "frequency_source": frequency_source,
        "unit_source": unit_source, "frame_source": frame_source, "repairs": findings.repairs,
        "blanked": blanked, "zeros": zeros, "checksum": checksum,
        "header": "\n".join(cards.lines),
    }
    flux_scale = kept.get("flux_scale") if survey is None else survey.flux_scale
    if flux_scale is not None:
        meta["flux_scale"] = flux_scale
    if kept.get("rms_method") is not None and maps["rms"] is not None:
        meta["rms_method"] = kept["rms_method"]
    stem = re.sub(r"(\.fits|\.fit|\.fts|\.gz|\.fz|\.bz2)+\Z", "", report.path.name, flags=re.IGNORECASE)
    name = kept.get("name", stem) if name is None else name
    try:
        return ClusterImage(data, wcs=wcs, unit=unit, beam=beam, frequency=frequency, name=name, flags=findings.flags,
                            meta=meta, **maps)
    except HaloInputError as error:  # a map of another shape than the image
        error.path = report.path
        raise


def choose_hdu(report, hdu):
    """Return the summary of the image HDU to read."""
    images = [h for h in report.hdus if h.kind in ("image", "compressed") and len(h.shape) >= 2 and 0 not in h.shape]
    listed = "; ".join(f"{h.index} {h.name or '(no name)'} {h.kind} {h.shape}" for h in report.hdus[:20])
    if hdu is not None:
        named = [h for h in report.hdus if h.index == hdu or (isinstance(hdu, str) and h.name.upper() == hdu.upper())]
        if not named:
            raise HaloInputError(f"there is no HDU {hdu!r}", path=report.path, found=listed)
        if named[0] not in images:
            raise HaloInputError("this HDU holds no image", path=report.path, hdu=named[0].index, found=listed)
        return named[0]
    if not images:
        kinds = {h.kind for h in report.hdus}
        message = f"this file holds {'visibilities, no image' if 'groups' in kinds else 'no image of two axes'}"
        hint = "halopy.io.catalog.read_targets reads tables" if "table" in kinds else None
        raise HaloInputError(message, path=report.path, found=listed, hint=hint)
    preferred = [h for h in images if h.name.upper() == "SCI"] + [h for h in images if h.index == 0]
    if len(images) > 1 and not preferred:
        raise HaloInputError("this file holds several images", path=report.path, found=listed,
                             hint=f"hdu={images[0].index}")
    return preferred[0] if preferred else images[0]


@contextlib.contextmanager
def _astropy(findings, *, path, hdu):
    """Keep astropy's warnings as repairs, and turn whatever it raises into one error."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            yield
        except HaloInputError:
            raise
        except Exception as error:  # some fifteen kinds, from TypeError to CfitsioException
            text = " ".join(str(error).split())[:200]
            raise HaloInputError(f"the pixels cannot be read: {type(error).__name__}: {text}", path=path, hdu=hdu,
                                 hint="fetch the file again") from error
    for warning in caught:
        findings.repair("fits: " + " ".join(str(warning.message).split())[:300])


def _pixels(hdu, what):
    """Read one plane: the rest of a cube stays on the disk."""
    # An index in place of a slice gives another shape on trailing axes of length 1 (astropy 8.0).
    ranges = tuple(i if isinstance(i, slice) else slice(i, i + 1) for i in what.index)
    data = np.asarray(hdu.section[ranges])
    data = data[tuple(i if isinstance(i, slice) else 0 for i in what.index)].astype(np.float32)
    return np.ascontiguousarray(data.T) if what.transpose else data


def _map(report, hdus, extension):
    named = [h for h in report.hdus if h.name == extension and h.kind == "image"]
    return np.asarray(hdus[named[0].index].data, dtype=np.float32) if named else None


def _beams_table(report, hdus, channel):
    named = [h for h in report.hdus if h.kind == "table" and h.name.upper() == "BEAMS"]
    if not named:
        return ()
    table = hdus[named[0].index]
    names = table.columns.names
    return read_beams_table(table.data, names, dict(zip(names, table.columns.units, strict=True)), channel=channel)


def _checksum(chosen, stream, findings, *, path, hdu):
    text = chosen.cards.text("DATASUM")
    if not text.isdigit() or chosen.size > 2**29 and chosen.kind == "image":
        if chosen.kind == "compressed":
            findings.flag("not-verifiable")
        return "not-verifiable"
    found = datasum(stream, chosen.start, chosen.size)
    if found == int(text) or {found, int(text)} == {0, 2**32 - 1}:
        return "verified"
    if chosen.kind == "compressed":
        # A flipped bit in a PLIO tile decompresses to wrong numbers without any other sign.
        raise HaloInputError("the compressed pixels are damaged: their sum is not DATASUM", path=path, hdu=hdu,
                             keyword="DATASUM", found=found, hint="fetch the file again")
    findings.flag("checksum-mismatch")
    findings.warn("checksum", f"DATASUM is {text}, the data sum up to {found}: they were changed after it was written")
    return "mismatch"


def _centre(wcs, shape):
    """Sky position of the image's centre, None where it cannot be projected."""
    try:
        centre = wcs.pixel_to_world((shape[1] - 1) / 2, (shape[0] - 1) / 2).icrs
    except Exception:  # a half-sky projection answers in several ways
        return None
    return centre if np.isfinite(centre.ra) and np.isfinite(centre.dec) else None


def _emit(path, findings):
    for text in findings.warnings.values():
        warnings.warn(f"{path}: {text}", HalopyWarning, stacklevel=3)
        findings.repair(text)


def describe(image):
    """Return a text of several lines: what halopy understood of an image, and from where.

    Parameters
    ----------
    image : ClusterImage

    Returns
    -------
    str

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from halopy import Beam, ClusterImage
    >>> from halopy.cutouts import tangent_wcs
    >>> from halopy.io.fits import describe
    >>> from astropy.coordinates import SkyCoord
    >>> wcs = tangent_wcs(SkyCoord(3.58, -30.39, unit="deg"), 28 * u.arcsec, (50, 60))
    >>> image = ClusterImage(np.eye(50, 60), wcs=wcs, unit=u.Jy / u.beam, beam=Beam(140 * u.arcsec), name="A2744")
    >>> print(describe(image).splitlines()[0])
    image       A2744, 60 x 50 pixels (nx x ny)
    """
    meta, data, unit = image.meta, image.data, image.unit
    valid = image.valid
    scale = image.pixel_scale.to_value(u.arcsec)
    centre = _centre(image.wcs, image.shape)
    beam = "none; give beam= or survey="
    if image.beam is not None:
        across = image.beam.major.to_value(u.arcsec) / scale
        beam = (f'{image.beam.major.to_value(u.arcsec):.4g}" x {image.beam.minor.to_value(u.arcsec):.4g}", '
                f"pa {image.beam.pa.to_value(u.deg):.4g} deg ({image.beam.source}); "
                f"{across:.3g} pixels across, {image.beam_area:.4g} pixels in area")
    rows = {
        "image": f"{image.name or '(no name)'}, {image.shape[1]} x {image.shape[0]} pixels (nx x ny)",
        "file": f"{meta['path']}, HDU {meta.get('hdu', 0)}" if "path" in meta else "",
        "object": meta.get("object", ""),
        "plane": meta.get("plane", ""),
        "centre": "not on the sky" if centre is None else centre.to_string("hmsdms", precision=1) + " (ICRS)",
        "pixel": f'{scale:.4g}", field ' + " x ".join(f"{scale * n / 60:.4g}'" for n in image.shape[::-1]),
        "frame": f"{image.wcs.wcs.radesys or image.wcs.wcs.ctype[0][:4]}"
                 + (f" ({meta['frame_source']})" if meta.get("frame_source") else "") + f", {image.wcs.wcs.ctype[0]}",
        "beam": beam,
        "frequency": "unknown" if image.frequency is None else f"{image.frequency.value:g} MHz"
                     + (f" ({meta['frequency_source']})" if meta.get("frequency_source") else ""),
        "unit": f"{unit}" + (f" ({meta['unit_source']})" if meta.get("unit_source") else ""),
        "survey": meta.get("survey") or "",
        "blank": f"{1 - valid.mean():.2%} of the pixels; exact zeros {np.mean(data == 0):.2%}",
        "range": f"{np.nanmin(data):.4g} to {np.nanmax(data):.4g} {unit}" if valid.any() else "no pixels",
        "noise": "not estimated" if image.rms is None or not np.isfinite(image.rms).any()
                 else f"median rms {np.nanmedian(image.rms):.4g} {unit}",
        "checksum": meta.get("checksum", ""),
        "flags": ", ".join(image.flags) or "none",
    }
    lines = [f"{name:<11} {text}" for name, text in rows.items() if text]
    lines += [f"{'repair':<11} {text}" for text in meta.get("repairs", ())]
    if not valid.any():
        lines.append(f"{'beware':<11} no usable pixels: every pixel is blank; try: another plane or HDU")
    if valid.any() and np.nanmin(data) == np.nanmax(data):
        lines.append(f"{'beware':<11} the image is constant: it has no noise")
    return "\n".join(lines)


def _identify(origin, path, stream, *args, **keywords):
    return isinstance(path, str) and bool(re.search(r"\.(fits|fit|fts|fits\.gz|fits\.fz)\Z", path, re.IGNORECASE))


registry.register_reader("fits", ClusterImage, read_image, force=True)
registry.register_writer("fits", ClusterImage, write_image, force=True)
registry.register_identifier("fits", ClusterImage, _identify, force=True)
