"""What ``halopy uvdetect`` does: halos from visibilities, in the tables of ``halopy detect``, and a page."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import Column

from halopy.cli_models import angle
from halopy.errors import HaloInputError
from halopy.io.candidates import candidates_text, printable
from halopy.io.catalog import read_targets
from halopy.io.detections import blank_detections, masked_column, write_detections
from halopy.uv_page import write_uv_page
from halopy.uvshapelets.detect import RADII, detect_halo
from halopy.uvshapelets.fit import NormalEquations
from halopy.uvshapelets.nuisance import Confusion, direction_cosines
from halopy.uvshapelets.profile import radial_profile
from halopy.uvshapelets.search import search_halos
from halopy.uvshapelets.sources import read_sources
from halopy.uvshapelets.templates import ExponentialHalo
from halopy.uvshapelets.visibilities import Visibilities

__all__ = ["uvdetect"]

WITHIN = 1 - 4 * np.exp(-3)
"""The part of an exponential halo's flux that lies within 3 r_e."""
CERTAIN = 1e-4
"""A halo with a smaller p-value is subtracted before other targets are tested."""
FAILED = 1e-3
"""A null test with a smaller p-value has failed."""
SPREAD = 0.1
"""Turns of phase across a cell up to which what a source shows there is not averaged away: 1.6 % of it is."""
OWN = {
    "p_value": "Probability that noise gives such a positive S/N or a larger one at any radius (blind: and anywhere)",
    "snr": "Signal-to-noise ratio of the halo at the best radius, signed",
    "flux": "Flux density of the best-fitting exponential halo within 3 r_e",
    "r_e": "e-folding radius of the best-fitting exponential halo",
    "compact_flux": "Flux density of the point sources within 3 r_e, as fitted",
}
EXTRA = {
    "total_flux": (u.mJy, "Flux density of the whole halo: flux is 0.80 of it"),
    "total_flux_err": (u.mJy, "Uncertainty of total_flux, r_e being free"),
    "r_e_err": (u.arcsec, "Uncertainty of r_e"),
    "limit_95": (u.mJy, "95 % upper limit of total_flux, all radii of the bank equally likely"),
    "ln_bayes": (None, "Logarithm of the Bayes factor between a halo and none"),
    "p_imaginary": (None, "p-value of the same test on the imaginary part, where there can be no halo"),
    "p_stokes_v": (None, "p-value of the same test on Stokes V"),
    "p_offsets": (None, "Fraction of off-positions with an S/N of a larger modulus, (b + 1)/(n + 1)"),
    "sources_keep": (None, "Part of the S/N that is left when the point sources are marginalised"),
}


def uvdetect(arguments, *, progress=None):
    """Run ``halopy uvdetect``.

    Parameters
    ----------
    arguments : `argparse.Namespace`
        As the command line's parser makes it.
    progress : callable, optional
        Called with an iterable of the targets and returning it, such as `tqdm.tqdm`.

    Returns
    -------
    text : str
        What to tell the user.
    failures : list of str
        A line for each target that could not be tested.
    ending : str
        ``"ok"`` or ``"partly"``.
    """
    folder = Path(arguments.output)
    page = folder / "index.html"
    for path in (page, *(folder / f"detections.{ending}" for ending in ("ecsv", "vot", "fits", "reg"))):
        if path.exists() and not arguments.overwrite:
            raise HaloInputError("this file exists", path=path, hint="--overwrite, or another folder")
    settings = _settings(arguments)
    targets = None if arguments.targets is None else read_targets(arguments.targets)
    sources = None if arguments.sources is None else read_sources(arguments.sources)
    whole, files = _read(arguments, "I")
    stokes_v = _read(arguments, "V")[0] if arguments.stokes_v else None
    rng = np.random.default_rng(arguments.seed)
    searched = None
    if targets is None:
        corner = np.sqrt(2) * settings["search_radius"].to_value(u.rad)
        searched = search_halos(_binned(whole, arguments.bin, sources, corner), radius=settings["search_radius"],
                                sources=sources, rng=rng, **({"radii": settings["radii"]} if arguments.radii else {}))
        targets = searched[["position"]]
        if len(searched):
            targets = read_targets(targets)
        else:
            targets["name"] = np.array([], dtype=str)
    position = targets["position"].icrs
    status = ["error" if np.isnan(place.ra) else "outside" if place.separation(whole.centre) > 90 * u.deg else "ok"
              for place in position]
    measured, failures = [None] * len(targets), [f"{name}: the position is missing" for name, state in zip(
        targets["name"], status, strict=True) if state == "error"]
    numbers, blended = [k for k, state in enumerate(status) if state == "ok"], set()
    for k in numbers if progress is None else progress(numbers):
        try:
            measured[k] = _measure(whole, stokes_v, position[k], (), sources, settings, arguments, rng)
        except HaloInputError as error:
            status[k] = "error"
            failures.append(f"{printable(targets['name'][k])}: {error}")
    # What is certain at one target is no noise of the others: they are tested again without it. The weakest comes
    # first: what it seemed to be may have been a sidelobe of the others, and is then not subtracted from them.
    certain = _certain(measured, position)
    for k in [*reversed(certain), *(k for k in numbers if measured[k] and k not in certain)]:
        near = {j for j in certain if j != k and position[j].separation(position[k]) < 3 * certain[j].r_e}
        blended |= {k} if near else set()
        others = [(position[j], found) for j, found in certain.items() if j not in {k} | near]
        if others:
            measured[k] = _measure(whole, stokes_v, position[k], others, sources, settings, arguments, rng)
        if k in certain:
            certain[k] = measured[k][0]
            if not _is_certain(certain[k]):
                del certain[k]
    table = _table(targets, measured, status, searched, _mean_frequency(whole), files, blended, arguments)
    written = write_detections(table, folder)
    write_uv_page(page, table, measured, visibilities=whole, files=files, sources=sources, radii=settings["radii"])
    text = "\n".join([candidates_text(table), f"\n{page}: the page to look at", *map(str, written.values())])
    return text, failures, "partly" if failures else "ok"


def _settings(arguments):
    """Return what the options say, with units."""
    if arguments.offsets < 0 or arguments.seed < 0:
        raise HaloInputError("--offsets and --seed must be 0 or more", found=min(arguments.offsets, arguments.seed))
    if arguments.bin is not None and not 0 < arguments.bin < np.inf:
        raise HaloInputError("--bin must be positive", found=arguments.bin, hint="--bin 2, in wavelengths")
    radii = RADII
    if arguments.radii:
        radii = u.Quantity([angle("--radii", text) for text in arguments.radii]).to(u.arcsec)
        if not (radii[0] > 0 and (np.diff(radii) > 0).all()):
            raise HaloInputError("--radii must be positive and ascending", found=" ".join(arguments.radii))
    if arguments.confusion is not None and arguments.targets is None:
        raise HaloInputError("--confusion needs --targets: the p-value of a search of the field does not know of it",
                             hint="search without it, then --targets with what was found")
    confusion = None if arguments.confusion is None else _flux("--confusion", arguments.confusion)
    return {"radii": radii, "confusion": confusion, "search_radius": angle("--search-radius", arguments.search_radius)}


def _flux(option, text):
    try:
        value = u.Quantity(text)
        if not (value.isscalar and value.unit.is_equivalent(u.Jy) and 0 * u.Jy < value < np.inf * u.Jy):
            raise TypeError
    except (TypeError, ValueError):
        raise HaloInputError(f"{option} takes a positive flux density", found=text, hint=f"{option} 20mJy") from None
    return value


def _read(arguments, stokes):
    """Return the visibilities of all files together, about the phase centre of the first; and what each file is."""
    weights = arguments.weights
    if weights not in ("scatter", "file"):
        weights = _flux("--weights", weights)
    parts, files = [], []
    places = [Path(path).resolve() for path in arguments.files]
    if len(set(places)) < len(places):
        raise HaloInputError("a file is given twice", found=", ".join(map(str, arguments.files)))
    for path in arguments.files:
        mine = []
        for piece in Visibilities.read_chunks(path, weights=weights, ignore_flags=arguments.ignore_flags,
                                              max_distance=arguments.max_distance, field=arguments.field,
                                              column=arguments.column, stokes=stokes):
            mine.append(piece)
            centre = (parts[0] if parts else piece).centre
            parts.append(piece if piece.centre is centre else piece.phased_to(centre))
        files.append(_about(mine))
    return Visibilities.join(parts), files


def _about(pieces):
    meta = dict(pieces[-1].meta)
    total = {name: sum(piece.meta["excluded"][name] for piece in pieces) for name in meta["excluded"]}
    distance = [limit for piece in pieces for limit in (piece.distance.min(), piece.distance.max())]
    frequency = [limit for piece in pieces for limit in (np.min(piece.frequency), np.max(piece.frequency))]
    noise = np.median(np.concatenate([piece.weight for piece in pieces])) ** -0.5
    return meta | {"excluded": total, "n": sum(map(len, pieces)), "distance": (min(distance), max(distance)),
                   "frequency": (min(frequency) / 1e6, max(frequency) / 1e6), "noise": noise,
                   "centre": pieces[0].centre}


def _mean_frequency(visibilities):
    return np.average(np.broadcast_to(visibilities.frequency, len(visibilities)), weights=visibilities.weight) * u.Hz


def _binned(visibilities, cell, sources, field=0.0):
    """Return them averaged over cells, where that is asked for and leaves sources, and a field, what they are."""
    if cell is None:
        return visibilities
    far = field
    if sources is not None:
        far = max(far, np.hypot(*sources.about(visibilities.centre).position.T).max())
    if far * cell > SPREAD:
        raise HaloInputError(f"the cells of --bin average away what is {np.degrees(np.arcsin(min(far, 1))):.1f} deg "
                             "off, as a source or the edge of the field is", found=cell,
                             hint=f"--bin {SPREAD / far:.2g}, or without that")
    return visibilities.binned(cell)


def _is_certain(found):
    return found.snr > 0 and found.p_value < CERTAIN


def _certain(measured, position):
    """Return the halos that are there, by target; of several within 3 r_e of the strongest, that one."""
    found = {k: one[0] for k, one in enumerate(measured) if one and _is_certain(one[0])}
    kept = {}
    for k in sorted(found, key=lambda k: -found[k].snr):
        if not any(position[j].separation(position[k]) < 3 * other.r_e for j, other in kept.items()):
            kept[k] = found[k]
    return kept


def _measure(whole, stokes_v, position, others, sources, settings, arguments, rng):
    """Return the detection at a position, and the visibilities against their distance with what was fitted."""
    here = whole.phased_to(position)
    for place, other in others:
        halo = ExponentialHalo(other.r_e, centre=tuple(direction_cosines(place, here.centre)))
        model = other.flux_held.value * halo.visibility(here.u, here.v, here.w)
        here = dataclasses.replace(here, vis=here.vis - model)
    here = _binned(here, arguments.bin, sources)
    confusion = None
    if settings["confusion"] is not None:
        confusion = Confusion(settings["confusion"], frequency=_mean_frequency(whole),
                              resolution=settings["radii"][0])
    found = detect_halo(
        here, radii=settings["radii"], sources=sources, confusion=confusion,
        stokes_v=None if stokes_v is None else _binned(stokes_v.phased_to(position), arguments.bin, None),
        n_offsets=arguments.offsets, offset_radius=max(2 * u.deg, 8 * settings["radii"][-1]), rng=rng)
    halo = ExponentialHalo(found.r_e)
    models, meta = {"halo": found.flux_held.value * halo.visibility(here.u, here.v)}, {}
    if sources is not None:
        points = sources.about(here.centre)
        equations = NormalEquations(halo, points).update(here)
        flux, _ = equations.fluxes(equations.solve())
        models["sources"] = sum(f * point for f, point in _each(points, flux, here))
        near = np.hypot(*points.position.T) < 3 * found.r_e.to_value(u.rad)
        meta = {"compact_flux": float(flux[near].sum()), "n_compact": int(near.sum()),
                "sources_keep": float(np.sqrt(equations.reduced()[0][0, 0] / equations.normal[0, 0]))}
    profile = radial_profile(here, models)
    profile.meta.update(meta)
    return found, profile


def _each(points, flux, here):
    """Yield flux and visibilities of one source after the other: all at once may not fit into memory."""
    for k, jansky in enumerate(flux):
        one = type(points)(points.position[k:k + 1])
        yield jansky, one.visibility(here.u, here.v, here.w)[:, 0]


def _table(targets, measured, status, searched, frequency, files, blended, arguments):
    """Return the table of detections."""
    name = files[0]["file"] if len(files) == 1 else f"{files[0]['file']} and {len(files) - 1} more"
    table = blank_detections(targets["name"], targets["position"], image=name)
    table["status"] = np.array(status, dtype="U7")
    known = np.array([one is not None for one in measured], dtype=bool)

    def column(value):
        return np.array([np.nan if one is None else value(*one) for one in measured], dtype=float)

    if searched is None:
        both, snr = column(lambda found, _: found.p_value), column(lambda found, _: found.snr)
    else:
        both, snr = np.asarray(searched["p_value"]), np.asarray(searched["snr"])
    # Noise has either sign as often, whatever the modulus: a positive S/N this large has half the p-value.
    values = {"p_value": np.where(snr > 0, both / 2, 1 - both / 2), "snr": snr,
              "flux": WITHIN * column(lambda found, _: found.flux.value) * u.Jy,
              "flux_err": WITHIN * column(lambda found, _: found.flux_err.value) * u.Jy,
              "r_e": column(lambda found, _: found.r_e.to_value(u.arcsec)) * u.arcsec,
              "compact_flux": column(lambda _, profile: profile.meta.get("compact_flux", np.nan)) * u.Jy,
              "frequency": np.full(len(table), frequency.value) * frequency.unit}
    for key, value in values.items():
        table[key] = masked_column(key, value, known)
        if key in OWN:
            table[key].info.description = OWN[key]
    for key, (unit, description) in EXTRA.items():
        if key == "sources_keep":
            value = column(lambda _, profile: profile.meta.get("sources_keep", np.nan))
        else:
            attribute = {"total_flux": "flux", "total_flux_err": "flux_err"}.get(key, key)
            value = column(lambda found, _, attribute=attribute: u.Quantity(getattr(found, attribute)).value)
        if unit is u.mJy:
            value = value * 1000
        table[key] = Column(value) if unit is None else value * unit
        table[key].info.description = description
    table["flags"] = np.array([" ".join(_flags(one, arguments, files, searched is not None, k in blended))
                               for k, one in enumerate(measured)], dtype=str)
    table["flags"].info.description = "What a user of the numbers has to know, space-separated"
    table.meta.update(
        visibilities=", ".join(str(file["file"]) for file in files), weights=files[0]["weights"], seed=arguments.seed,
        search="blind" if searched is not None else f"{len(targets)} targets")
    for option in ("sources", "confusion", "max_distance", "bin"):
        if getattr(arguments, option) is not None:
            table.meta[option] = getattr(arguments, option)
    return table


def _flags(one, arguments, files, blind, blended):
    if one is None:
        return
    found, _ = one
    if blind:
        yield "field-wide"
    if blended:
        yield "blended"
    if found.snr < 0:
        yield "negative"
    if np.isnan(found.r_e_err):
        yield "radius-unknown"
    if min(found.p_imaginary, np.nan_to_num(found.p_stokes_v, nan=1)) < FAILED:
        yield "null-failed"
    # Of few off-positions none may stand out as much, and the p-value by them be large all the same.
    if found.p_value < 0.01 and found.p_offsets > max(0.05, 1 / (1 + arguments.offsets)):
        yield "offsets-disagree"
    if arguments.sources is None:
        yield "no-sources"
    if arguments.ignore_flags:
        yield "flags-ignored"
    if any(file["centre"].separation(files[0]["centre"]) > 1 * u.arcmin for file in files):
        yield "pointings"
    if any(file["unit"] == "uncalib" for file in files):
        yield "uncalibrated"
