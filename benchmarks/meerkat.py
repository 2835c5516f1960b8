"""How good are the models on MeerKAT's cluster survey, simulated, and on a JVLA image?

Usage: python benchmarks/meerkat.py [--data FOLDER] [--weights FILE] [--fields 24] [--seed 20261127]

Simulated fields of ``mgcls-15`` (3072 × 3072 pixels of 1.25 arcsec, a beam of 15 arcsec) with sources, artefacts and
four clusters each. At random places apart from these and from each other, halos of known flux and e-folding radius are
injected; as many places are left blank. All are scored by `halopy.Detector` with ``ensemble`` and with
``matched-filter``; controls keep 16 beams from all of them, so that none lies on a halo. "S/N" is that of a filter that
knows a halo's place and size, in noise that was smoothed by the beam; catalogued centres are off by a quarter of the
radius on each axis. Intervals are 95 %, by bootstrap over fields. The ensemble has been trained on other cutouts that
were simulated for this survey: what is new to it here is the way through whole images, not the kind of sky.

With ``--data``: the JVLA image of Abell 2744 at 1.5 GHz (13 arcsec), whose compact sources look subtracted. Flags say
what lies outside of the range that a model was trained on.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, vstack

from halopy import ClusterImage, Detector, classifiers, simulate, surveys
from halopy.classify.bootstrap import group_bootstrap, paired_difference
from halopy.classify.ensemble import Ensemble
from halopy.classify.metrics import roc_auc
from halopy.simulate.diffuse import FLUX_WITHIN_3RE, exponential_halo

SURVEY = "mgcls-15"
SHAPE = (3072, 3072)
RADII = (0.5, 1.0, 2.0, 4.0)
"""e-folding radii in beams: a halo of 150 kpc at redshift 0.3 has 2.2."""
SNR = (6, 12, 25)
APART = 30
"""Beams between any two places."""
EXCLUSION = 16
"""Beams between a control and any place."""
FOUND = 0.02
"""The largest p-value of what counts as found."""


def flux_of(snr, radius, beam, rms):
    """Return the total flux (Jy) of a halo of this S/N and radius (beams) on noise smoothed by the beam (Jy/beam)."""
    width = np.sqrt(beam.major * beam.minor)
    side = 2 * int(3 * max(8 * radius, 4)) + 1
    halo = exponential_halo(beam, width / 3, (side, side), radius * width)
    return snr * rms * np.sqrt(2 * beam.area_pixels(width / 3) / (halo**2).sum())


def places(image, truth, n, rng):
    """Draw ``n`` pixel positions apart from each other and from the clusters."""
    apart = APART * float(image.beam.major / image.pixel_scale)
    taken = list(zip(*image.wcs.world_to_pixel(truth["position"][truth["main"]]), strict=True))
    found = []
    while len(found) < n:
        place = tuple(rng.uniform(apart / 2, size - 1 - apart / 2) for size in image.shape[::-1])
        if all(np.hypot(place[0] - x, place[1] - y) > apart for x, y in taken):
            found.append(place)
            taken.append(place)
    return np.array(found).T


def a_field(number, rng):
    """Return a field with halos in it, and its targets: halos first, then as many blank places."""
    image, truth = simulate.field(SHAPE, survey=SURVEY, clusters=4, rng=rng)
    radius, snr = (grid.ravel() for grid in np.meshgrid(RADII, SNR))
    n = len(radius)
    x, y = places(image, truth, 2 * n, rng)
    flux = np.array([flux_of(s, r, image.beam, surveys[SURVEY].rms.to_value(u.Jy / u.beam))
                     for s, r in zip(snr, radius, strict=True)])
    r_e = radius * np.sqrt(image.beam.major * image.beam.minor)
    away = rng.normal(0, 0.25, (2, n)) * float(image.beam.major / image.pixel_scale) * radius
    halos = QTable({"flux": flux * u.Jy, "r_e": r_e,
                    "position": image.wcs.pixel_to_world(x[:n] + away[0], y[:n] + away[1])})
    targets = QTable({"name": [f"field {number} place {i}" for i in range(2 * n)],
                      "position": image.wcs.pixel_to_world(x, y).icrs, "field": np.full(2 * n, number),
                      "injected": np.arange(2 * n) < n, "radius": np.append(radius, np.full(n, np.nan)),
                      "ideal": np.append(snr, np.full(n, np.nan)), "true": np.append(flux, np.full(n, np.nan)) * u.Jy})
    return simulate.inject(image, halos), targets


def scored(models, n_fields, seed):
    """Return the detections of every model, one table each."""
    found = {name: [] for name in models}
    for number in range(n_fields):
        rng = np.random.default_rng([seed, number])
        image, targets = a_field(number, rng)
        for name, model in models.items():
            found[name].append(Detector(model, exclusion=EXCLUSION)(image, targets, rng=seed))
    return {name: vstack(tables, metadata_conflicts="silent") for name, tables in found.items()}


def cell(value, low, high, digits=2, sign=""):
    return f"{value:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def show(found, seed):
    """Print what was found."""
    ok = np.all([np.asarray(t["status"]) == "ok" for t in found.values()], axis=0)
    found = {name: table[ok] for name, table in found.items()}
    truth = next(iter(found.values()))
    halo, field, ideal, radius = (np.asarray(truth[name]) for name in ("injected", "field", "ideal", "radius"))
    print(f"{len(set(field))} fields, {halo.sum()} halos, {(~halo).sum()} blank places, {(~ok).sum()} not scored")
    print(f"{'':34s}" + "".join(f"{name:>24s}" for name in found))
    score = {name: np.asarray(table["probability"], dtype=float) for name, table in found.items()}
    p_value = {name: np.asarray(table["p_value"], dtype=float) for name, table in found.items()}

    def bootstrap(statistic, rows, *arrays):
        return group_bootstrap(statistic, field[rows], *(array[rows] for array in arrays), n=1000, rng=seed)

    def line(title, statistic, rows, values, *arrays):
        cells = [cell(*bootstrap(statistic, rows, values[name], *arrays)) for name in found]
        print(f"{title:34s}" + "".join(f"{text:>24s}" for text in cells), flush=True)

    line("AUC halo/blank", roc_auc, np.isfinite(field), score, halo)
    difference = paired_difference(roc_auc, field, halo, *score.values(), n=1000, rng=seed)
    print(f"{'  difference':34s}{cell(*difference, digits=3, sign='+'):>24s}")
    surer = {name: values >= 0.5 for name, values in score.items()}
    hit = {name: values <= FOUND for name, values in p_value.items()}
    for title, values in (("probability >= 0.5", surer), (f"p <= {FOUND}", hit)):
        line(f"{title}, blank places", np.mean, ~halo, values)
        line(f"{title}, halos", np.mean, halo, values)
    for r in RADII:
        for s in SNR:
            line(f"  r_e = {r:g} beams, S/N {s}", np.mean, (radius == r) & (ideal == s), hit)
    ratio = np.asarray((truth["flux"] / truth["true"]).filled(np.nan).to_value(u.one)) / FLUX_WITHIN_3RE
    print("measured / true flux within 3 r_e, median (the same filter measures for both)")
    for s in SNR:
        print(f"  S/N {s:<3d}" + "".join(
            f"  r_e {r:g}: {cell(*bootstrap(np.median, (radius == r) & (ideal == s), ratio))}" for r in RADII))
    for name, table in found.items():
        words = Counter(word for flags in table["flags"] for word in str(flags).split())
        share = ", ".join(f"{word} {n / len(table):.0%}" for word, n in words.most_common())
        print(f"flags, {name}: {share or 'none'}")


def jvla(models, folder, seed):
    """Score Abell 2744 in the JVLA image."""
    with open(folder / "index.csv", encoding="utf-8") as stream:
        row = next(r for r in csv.DictReader(stream) if r["file"] == "clusters-other/a2744_jvla_1.5GHz.fits.gz")
    image = ClusterImage.read(folder / row["file"])
    target = QTable({"name": ["A2744"], "position": SkyCoord([float(row["ra"])], [float(row["dec"])], unit="deg")})
    print(f"\nJVLA, {row['target']} ({row['cls']}), {image.frequency.to(u.GHz):.2f}, {image.beam!r}, "
          f"{image.shape[0]} x {image.shape[1]} pixels of {image.pixel_scale:.1f}")
    for name, model in models.items():
        found = Detector(model)(image, target, rng=seed)[0]
        print(f"  {name:16s}probability {found['probability']:.3f}, p {found['p_value']:.3f} of "
              f"{found['n_controls']} controls, S/N {found['snr']:.1f}, "
              f"flux {found['flux'].to(u.mJy):.1f} +- {found['flux_err'].to(u.mJy):.1f}, "
              f"r_e {found['r_e']:.0f}, flags: {found['flags'] or 'none'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("HALOPY_TEST_DATA"))
    parser.add_argument("--weights", help="default: those that ship")
    parser.add_argument("--fields", type=int, default=24, help="simulated fields; 0: none")
    parser.add_argument("--seed", type=int, default=20261127)
    arguments = parser.parse_args()
    ensemble = Ensemble.load(arguments.weights) if arguments.weights else classifiers.pretrained("ensemble")
    models = {"ensemble": ensemble, "matched-filter": classifiers.create("matched-filter")}
    print(f"{SURVEY}, seed {arguments.seed}")
    if arguments.fields:
        show(scored(models, arguments.fields, arguments.seed), arguments.seed)
    if arguments.data:
        jvla(models, Path(arguments.data), arguments.seed)


if __name__ == "__main__":
    main()
