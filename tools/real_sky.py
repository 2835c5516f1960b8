"""The real images that halopy may be trained and measured on, as labelled cutouts with joint groups of sky.

FOLDER holds ``index.csv``, ``mwa-gleam/`` and ``nvss/``: GLEAM cutouts of 26 targets in four bands, clipped as
published (arXiv 2411.15559), and 15 NVSS fields.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from halopy import ClusterImage, CutoutMaker, NoiseEstimator
from halopy.io.catalog import sky_groups
from halopy.io.dataset import load_mwa_halos
from halopy.labels import classify

BANDS = ("gleam-72-103", "gleam-103-134", "gleam-139-170", "gleam-170-231")
SIDE = 96
"""Pixels of all cutouts: 20 beams of GLEAM, 32 of NVSS."""
WITHIN = 1.5 * u.deg
COLUMNS = ("name", "position", "image", "survey", "label", "also", "group", "pixel_scale", "beam_major", "beam_minor",
           "beam_pa", "frequency", "rms", "coverage")
"""What cutouts keep when surveys are joined."""


def gleam(folder):
    """Return ``{band: CutoutSet}`` of the GLEAM targets."""
    sets = {}
    for band, cutouts in load_mwa_halos(folder, bands=list(BANDS)).items():
        low = [(n - SIDE) // 2 for n in cutouts.shape[1:]]
        data = cutouts.data[:, low[0]:low[0] + SIDE, low[1]:low[1] + SIDE]
        table = cutouts.table.copy()
        for name, step in (("x0", low[1]), ("y0", low[0])):
            table[name] = table[name] + step
        table["survey"] = np.full(len(table), band)
        sets[band] = cutouts.replace(data=data.copy(), table=table)
    return sets


def nvss(folder, *, n_controls=35, apart=6, rng=20261122):
    """Return the cutouts of the NVSS fields: the target of each, and control positions away from it.

    Columns besides those of a `halopy.CutoutMaker`: ``label``, ``also``, ``name``, ``field``, ``centre`` (of the field,
    not a control).
    """
    rng = np.random.default_rng(rng)
    made = []
    for row in _rows(folder):
        image = NoiseEstimator()(ClusterImage.read(Path(folder) / row["file"], survey="nvss"))
        centre = SkyCoord(float(row["ra"]), float(row["dec"]), unit="deg")
        places = controls(image, centre, rng, n=n_controls, apart=apart * u.arcmin)
        places = SkyCoord([centre.ra.deg, *places.ra.deg], [centre.dec.deg, *places.dec.deg], unit="deg")
        cutouts = CutoutMaker(SIDE, pixels_per_beam=3)(image, places)
        label, also, _ = classify(re.sub(r" \((general knowledge|source repo tables|coordinates in the file)\)$", "",
                                         row["cls"]))
        table, n = cutouts.table.copy(), len(places)
        table["label"] = [label, *["blank"] * (n - 1)]
        table["also"] = [also, *[""] * (n - 1)]
        table["name"] = [row["target"], *[f"{row['target']} control {i}" for i in range(1, n)]]
        table["field"], table["survey"] = np.full(n, row["target"]), np.full(n, "nvss")
        table["centre"] = np.arange(n) == 0
        made.append(cutouts.replace(table=table, meta={}))
    return made[0].join(*made[1:])


def groups_of(cutouts):
    """Return the groups of sky of one survey alone, as `halopy.io.catalog.sky_groups` names them."""
    return np.asarray(sky_groups(SkyCoord(cutouts.table["position"]).icrs, WITHIN)).tolist()


def joint_groups(sets, fields):
    """Give both surveys groups of sky that are the same where they share it; return them changed."""
    first = next(iter(sets.values()))
    centres = np.flatnonzero(np.asarray(fields.table["centre"]))
    places = [SkyCoord(t["position"]).icrs for t in (first.table, fields.table[centres])]
    together = SkyCoord(*(np.concatenate([getattr(p, angle).deg for p in places]) for angle in ("ra", "dec")),
                        unit="deg")
    groups = np.asarray(sky_groups(together, WITHIN))
    own = groups[:len(first)]
    of_field = dict(zip(fields.table["field"][centres].tolist(), groups[len(first):], strict=True))
    grouped = {}
    for band, cutouts in sets.items():
        table = cutouts.table.copy()
        table["group"] = own
        grouped[band] = cutouts.replace(table=table)
    table = fields.table.copy()
    # All of a field is one piece of sky: its controls lie within degrees of its target.
    table["group"] = [of_field[name] for name in fields.table["field"]]
    return grouped, fields.replace(table=table)


def joined(sets, fields=None):
    """Return one CutoutSet of all bands, and of the NVSS cutouts where there are any."""
    parts = [*sets.values(), *([] if fields is None else [fields])]
    names = [name for name in COLUMNS if all(name in part.table.colnames for part in parts)]
    parts = [part.replace(table=part.table[names], meta={}) for part in parts]
    return parts[0].join(*parts[1:])


def controls(image, centre, rng, *, n=35, apart=6 * u.arcmin, away=10 * u.arcmin):
    """Draw positions that hold data, away from the centre and apart from each other."""
    found = SkyCoord([], [], unit="deg")
    for _ in range(20000):
        if len(found) == n:
            break
        x, y = rng.uniform(0, image.shape[1] - 1), rng.uniform(0, image.shape[0] - 1)
        if not image.valid[round(y), round(x)]:
            continue
        place = image.wcs.pixel_to_world(x, y).icrs
        if place.separation(centre) >= away and (len(found) == 0 or place.separation(found).min() >= apart):
            found = SkyCoord([*found.ra.deg, place.ra.deg], [*found.dec.deg, place.dec.deg], unit="deg")
    return found


def _rows(folder):
    with open(Path(folder) / "index.csv", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["file"].startswith("nvss/nvss_")]
