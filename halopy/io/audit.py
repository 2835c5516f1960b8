"""What is wrong with a labelled set of images, before anything is trained on it."""

from __future__ import annotations

import hashlib

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy.errors import HaloInputError
from halopy.io.catalog import load_targets
from halopy.io.clip_level import CLEAN
from halopy.labels import is_positive

__all__ = ["audit"]

MEANING = {
    "not-clipped": "all noise is left: not made like the others, which a classifier can learn instead of halos",
    "under-clipped": "noise is left where other images have zeros; rms comes from the zeros or the negative wing",
    "sky-in-two-groups": "the whole images share sky though their groups differ: cut smaller, or use larger groups",
    "sky-in-train-and-test": "the repository's own split shows a model its test sky in training; split by group",
    "halo-in-negative": "a target with a halo lies in an image without one in its middle: cut smaller than that",
    "label-conflict": "something speaks against the label, or against the use of the target: choose, or leave it out",
    "target-not-covered": "no pixel holds data where the target is: the image shows something beside it",
    "off-position": "the middle of the pixels is not the target; cut at the target's position",
    "duplicate": "the same pixels under two names: keep one",
    "header": "a reader has to be told these; halopy takes them from the survey and from the sources in the image",
    "beam-not-measured": "too few sources show the beam: what stands in its place is named",
    "pixel-scale": "cutouts of equal pixels are of unequal sky: resample before bands are mixed",
    "padded": "part of the image lies off the edge of its mosaic and is NaN",
    "noise-by-class": "what noise alone tells about the class: a classifier must do better than this",
}
"""Every kind of finding, and what it means."""


def audit(sets, *, targets=None, cutout=64):
    """Look for what would spoil training on a labelled set, or make its results look too good.

    Parameters
    ----------
    sets : mapping of str to CutoutSet
        What `halopy.io.dataset.load_mwa_halos` returned.
    targets : `~astropy.table.QTable`, optional
        Everything known to be or not to be a halo, with ``name``, ``position``, ``label``; default
        `halopy.io.catalog.load_targets`.
    cutout : int, optional
        Pixels of the cutouts to be used, default 64 as in arXiv 2411.15559; shared sky is given for the whole
        images and for cutouts of this size.

    Returns
    -------
    `~astropy.table.QTable`
        A row a finding, sorted by kind as in `MEANING`: ``kind``, ``band`` (several joined by " & "), ``name``
        (of the target, two joined by " & ", or how many images), ``value``, ``found`` (in words), ``meaning``.
        The value is: of ``not-clipped`` and ``under-clipped`` the fraction of pixels that are not zero; of the
        two of shared sky the shared fraction of the whole images; of ``halo-in-negative``,
        ``target-not-covered`` and ``off-position`` arcminutes from the middle; of ``padded`` the fraction
        without data; of ``pixel-scale`` the ratio of the largest pixel to the smallest; of ``noise-by-class``
        the area under the ROC curve of the clip level, between 0.5 and 1; else NaN.

    Examples
    --------
    >>> from halopy.io.dataset import audit, load_mwa_halos
    >>> findings = audit(load_mwa_halos("Radio-Halos-Classification-with-MWA"))  # doctest: +SKIP
    >>> findings[findings["kind"] == "under-clipped"]  # doctest: +SKIP
    """
    targets = load_targets() if targets is None else targets
    if not hasattr(sets, "items"):
        raise HaloInputError("audit takes the mapping of bands to CutoutSets", found=type(sets).__name__,
                             hint="audit(load_mwa_halos(folder))")
    findings = []
    for band, cutouts in sets.items():
        table = cutouts.table
        lack = [name for name in ("name", "position", "label", "group", "zeros", "clip_level") if
                name not in table.colnames]
        if lack:
            raise HaloInputError(f"the cutouts of {band} have no column {lack[0]!r}", found=table.colnames,
                                 hint="audit is for what load_mwa_halos returns")
        rows = [*_clips(table), *_shared(cutouts, cutout), *_halos_in_negatives(cutouts, targets),
                *_uncovered(cutouts, targets), *_positions(table), *_headers(table), *_beams(table),
                *_padded(table), *_noise_by_class(table)]
        findings += [(kind, band, *rest) for kind, *rest in rows]
    findings += [*_conflicts(sets), *_duplicates(sets), *_scales(sets, cutout)]
    order = list(MEANING)
    findings.sort(key=lambda row: order.index(row[0]))
    columns = [list(column) for column in zip(*findings, strict=True)] if findings else [[]] * 5
    kinds, bands, names, values, found = columns
    table = QTable({"kind": np.array(kinds, dtype=str), "band": np.array(bands, dtype=str),
                    "name": np.array(names, dtype=str), "value": np.array(values, dtype=float),
                    "found": np.array(found, dtype=str),
                    "meaning": np.array([MEANING[kind] for kind in kinds], dtype=str)})
    table["value"].info.format = ".3g"
    return table


def _clips(table):
    for row in table:
        kept = 1 - float(row["zeros"])
        if kept > CLEAN:
            level = row["clip_level"].to_value(u.mJy / u.beam)
            kind = "not-clipped" if kept > 0.99 else "under-clipped"
            yield kind, _called(row), kept, f"{kept:.0%} of the pixels are not zero, level {level:.3g} mJy/beam"


def _called(row):
    robust = row["robust"] if "robust" in row.colnames else np.nan
    return str(row["name"]) + (f", robust {robust:g}" if np.isfinite(robust) else "")


def _shared(cutouts, size):
    table = cutouts.table
    sky = SkyCoord(table["position"])
    scale = table["pixel_scale"].to_value(u.deg)
    ny, nx = cutouts.data.shape[1:]
    names, groups = (np.asarray(table[name]).astype(str) for name in ("name", "group"))
    split = np.asarray(table["split"]).astype(str) if "split" in table.colnames else np.full(len(table), "")
    seen = set()
    for i in range(len(table) - 1):
        east, north = (np.abs(o.to_value(u.deg)) for o in sky[i].spherical_offsets_to(sky[i + 1:]))
        widths = (scale[i] + scale[i + 1:]) / 2
        whole = _overlap(east / (nx * widths), north / (ny * widths))
        central = _overlap(east / (size * widths), north / (size * widths))
        for j in np.flatnonzero((whole > 0) & (names[i + 1:] != names[i])):
            k = i + 1 + j
            name = " & ".join(sorted((names[i], names[k])))
            kinds = ["sky-in-two-groups"] if groups[i] != groups[k] else []
            kinds += ["sky-in-train-and-test"] if {split[i], split[k]} == {"train", "test"} else []
            for kind in kinds:
                if (kind, name) not in seen:
                    seen.add((kind, name))
                    yield (kind, name, float(whole[j]), f"{sky[i].separation(sky[k]).deg:.3f} deg apart; "
                           f"{whole[j]:.0%} of the images, {central[j]:.0%} of {size} pixels")


def _overlap(x, y):
    return np.clip(1 - x, 0, None) * np.clip(1 - y, 0, None)


def _halos_in_negatives(cutouts, targets):
    table = cutouts.table
    halos = targets[is_positive(targets)]
    sky = halos["position"].icrs
    ny, nx = cutouts.data.shape[1:]
    seen = set()
    for i in np.flatnonzero(~is_positive(table)):
        wcs, row = cutouts.wcs(int(i)), table[int(i)]
        distance = row["position"].separation(sky)
        # Far from the tangent point a projection folds back.
        for k in np.flatnonzero(distance < 20 * u.deg):
            x, y = wcs.world_to_pixel(sky[k])
            inside = np.isfinite([x, y]).all() and -0.5 <= x < nx - 0.5 and -0.5 <= y < ny - 0.5
            if inside and (str(row["name"]), k) not in seen:
                seen.add((str(row["name"]), k))
                halo = halos[int(k)]
                grade = f", {halo['grade']}" if "grade" in halos.colnames else ""
                yield ("halo-in-negative", str(row["name"]), distance[k].to_value(u.arcmin),
                       f"{halo['name']} ({halo['label']}{grade}) {distance[k].deg:.3f} deg from the middle")


def _conflicts(sets):
    """Each target once, whichever bands show it."""
    texts, bands = {}, {}
    for band, cutouts in sets.items():
        table = cutouts.table
        for row, halo in zip(table, is_positive(table), strict=True):
            label = ", ".join(str(row[name]) for name in ("label", "grade") if name in table.colnames)
            if "conflict" in table.colnames and row["conflict"]:
                texts[str(row["name"]), f"{label}: {row['conflict']}"] = bands.setdefault(str(row["name"]), [])
            if "repository_class" in table.colnames and row["repository_class"] == 1 - halo:
                called = "with" if row["repository_class"] else "without"
                key = str(row["name"]), f"{label}; the repository files it among those {called} a halo"
                texts.setdefault(key, []).append(band)
            bands.setdefault(str(row["name"]), []).append(band)
    for (name, text), where in texts.items():
        yield "label-conflict", " & ".join(dict.fromkeys(where)), name, np.nan, text


def _uncovered(cutouts, targets):
    known = {str(name): position for name, position in zip(targets["name"], targets["position"], strict=True)}
    ny, nx = cutouts.data.shape[1:]
    for i, row in enumerate(cutouts.table):
        position = known.get(str(row["name"]))
        if position is None:
            continue
        distance = row["position"].separation(position)
        # Far from the tangent point a projection folds back.
        if distance > 20 * u.deg:
            yield ("target-not-covered", _called(row), distance.to_value(u.arcmin), f"{distance.deg:.0f} deg away")
            continue
        x, y = (np.rint(value) for value in cutouts.wcs(i).world_to_pixel(position))
        if not (0 <= x < nx and 0 <= y < ny and np.isfinite(cutouts.data[i, int(y), int(x)])):
            yield ("target-not-covered", _called(row), distance.to_value(u.arcmin),
                   f"pixel x {x:.0f}, y {y:.0f} of {nx} x {ny} holds no data")


def _positions(table):
    if "offset" not in table.colnames:
        return
    for row in table:
        if row["offset"] > max(row["beam_major"], 2 * row["pixel_scale"]):
            yield ("off-position", _called(row), row["offset"].to_value(u.arcmin),
                   f"{row['offset'].to_value(u.arcmin):.1f} arcmin from the target's position")


def _headers(table):
    if "header_lacks" in table.colnames:
        for lacks, n in zip(*np.unique(np.asarray(table["header_lacks"]), return_counts=True), strict=True):
            if lacks:
                yield "header", f"{n} of {len(table)} images", np.nan, f"no {', no '.join(str(lacks).split())}"


def _beams(table):
    if "beam_source" in table.colnames:
        for row in table:
            if str(row["beam_source"]).startswith(("survey", "the folder's index")):
                widths = f"{row['beam_major'].value:.3g} x {row['beam_minor'].value:.3g} arcsec"
                yield "beam-not-measured", _called(row), np.nan, f"{widths} from {row['beam_source']}"


def _padded(table):
    for row in table:
        if "coverage" in table.colnames and row["coverage"] < 0.999:
            yield "padded", _called(row), 1 - float(row["coverage"]), f"{row['coverage']:.0%} of the pixels hold data"


def _noise_by_class(table):
    level = table["clip_level"].to_value(u.mJy / u.beam)
    positive, known = is_positive(table), np.isfinite(level)
    with_halo, without = level[positive & known], level[~positive & known]
    if len(with_halo) < 2 or len(without) < 2:
        return
    difference = without[:, None] - with_halo[None]
    area = float(np.mean((difference > 0) + 0.5 * (difference == 0)))
    yield ("noise-by-class", f"{len(with_halo)} with, {len(without)} without", max(area, 1 - area),
           f"AUC {max(area, 1 - area):.2f} of the clip level: median {np.median(with_halo):.3g} mJy/beam with, "
           f"{np.median(without):.3g} without a halo")


def _duplicates(sets):
    first = {}
    for band, cutouts in sets.items():
        for pixels, row in zip(cutouts.data, cutouts.table, strict=True):
            values = pixels[np.isfinite(pixels)]
            if not values.any():
                continue
            key = (values.size, hashlib.sha256(values.tobytes()).hexdigest())
            other = first.setdefault(key, (band, str(row["image"])))
            if other != (band, str(row["image"])):
                yield ("duplicate", band, f"{other[1]} & {row['image']}", np.nan,
                       f"all {values.size} pixels are equal" + (f", {other[0]}" if other[0] != band else ""))


def _scales(sets, size):
    for kind in dict.fromkeys(band.split("-")[0] for band in sets):
        scales = {b: c.table["pixel_scale"].to_value(u.arcsec) for b, c in sets.items() if b.split("-")[0] == kind}
        values = np.concatenate(list(scales.values()))
        if values.size and values.max() > 1.02 * values.min():
            sizes = ", ".join(f"{np.median(s) * size / 3600:.2f} deg at {b.split('-', 1)[1]} MHz"
                              for b, s in scales.items() if s.size)
            yield ("pixel-scale", " & ".join(scales), "all images", float(values.max() / values.min()),
                   f"{size} pixels are {sizes}")
