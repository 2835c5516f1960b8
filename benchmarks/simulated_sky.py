"""Simulated sky against real sky: noise, NVSS, GLEAM. How far apart, and how far apart real sky is from itself.

Usage: python benchmarks/simulated_sky.py [--data FOLDER] [--figures FOLDER] [--seed 20261122]

FOLDER holds ``index.csv``, ``nvss/``, ``mwa-gleam/``, ``mwa-other/`` and ``mwa-psf/`` (default: HALOPY_TEST_DATA).
Nothing of the simulator is tuned here. Whatever is measured is measured by the same code on both. A
distance stands beside the same distance between two halves of the real fields: for each of 200
random splits A, B of the fields the distance between A and B, and that between B and simulated
twins of A, one for each field. Intervals in brackets are 95 %, by bootstrap over fields.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import sky_statistics as measure
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy import ndimage, stats

from halopy import Beam, ClusterImage, NoiseEstimator, simulate, surveys
from halopy.simulate.noise import draw_noise

BANDS = ("gleam-72-103", "gleam-103-134", "gleam-139-170", "gleam-170-231")
AWAY = 8 * u.arcmin
TWINS, SCENES = 4, 20
"""Simulated twins of each field, and scenes of each target."""
OVERFULL = 0.15
"""Images of which more than this survived their clip: it failed there."""


def read_index(folder, start):
    with open(folder / "index.csv", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["file"].startswith(start)]


def survey_of(image, name):
    """The survey with the pixels of an image."""
    return dataclasses.replace(surveys[name], pixel_scale=image.pixel_scale)


# Noise

def noise_of(image):
    """Return the autocorrelation (see `measure.autocorrelation`) and the moments of the part without sources."""
    covariance = image.pixel_beam.covariance(image.pixel_scale)
    noisy = NoiseEstimator()(image)
    z = (noisy.data - noisy.background) / noisy.rms
    width = np.linalg.det(covariance) ** 0.25 * 2.3548
    good = np.isfinite(z)
    far = ndimage.distance_transform_edt(~(good & ((z > 3) | (z < -5)))) > 1.2 * width
    far &= ndimage.distance_transform_edt(~(good & (z > 30))) > 3 * width
    good &= far
    values = z[good] - z[good].mean()
    r, profile = measure.autocorrelation(np.where(good, z - z[good].mean(), 0), good, covariance)
    return {"r": r, "acf": profile, "width": measure.width(r, profile), "skewness": stats.skew(values),
            "kurtosis": stats.kurtosis(values), "used": good.mean(), "rms": float(np.nanmedian(noisy.rms))}


def noise_like(image, survey, rng):
    """Return the same for noise alone, of each kind, and for a simulated field with sources and artefacts."""
    covariance = image.pixel_beam.covariance(image.pixel_scale)
    measured = {}
    kinds = {"psf": "psf", "smoothed": "smoothed", "preset": survey.noise_width}
    for kind, correlation in kinds.items():
        data = draw_noise(1, image.shape, covariance, correlation=correlation, rng=rng)[0]
        measured[kind] = noise_of(image.replace(data=np.where(image.valid, data, np.nan), rms=None))
    centre = image.wcs.pixel_to_world((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    for kind, correlation in kinds.items():
        field, _ = simulate.field(image.shape, survey=survey, position=SkyCoord(centre).icrs, clusters=0,
                                  correlation=correlation, rng=rng)
        measured[f"field, {kind}"] = noise_of(field)
    return measured


def noise_table(title, real, twins, rng):
    """``real``: one record a field; ``twins``: for each a list of simulated ones (dicts by kind)."""
    print(f"{title}\n{'':16s}{'width / beam':>26s}{'rms from real':>26s}{'skewness':>26s}{'kurtosis':>26s}")
    rows = {"real": [[r] for r in real]} | {kind: [[t[kind] for t in twin] for twin in twins] for kind in twins[0][0]}
    for kind, fields in rows.items():
        cells = []
        for name in ("width", "off", "skewness", "kurtosis"):
            if name == "off":
                values = [measure.acf_distance(r, s) for r, field in zip(real, fields, strict=True) for s in field]
            else:
                values = [s[name] for field in fields for s in field]
            cells.append(" " if kind == "real" and name == "off" else measure.mean_and_interval(values, rng))
        print(f"{kind:16s}" + "".join(f"{cell:>26s}" for cell in cells))
    print()


def noise(folder, seed):
    rng = np.random.default_rng(seed)
    image = ClusterImage.read(folder / "mwa-other/gleamx_field1_170-200MHz.fits")
    real = noise_of(image)
    survey = dataclasses.replace(survey_of(image, "gleam-x-170-231"), zenith=None,
                                 beam=u.Quantity([image.beam.major, image.beam.minor]))
    twins = [noise_like(image, survey, rng) for _ in range(16)]
    noise_table(f"GLEAM-X field, {real['used']:.0%} of it without sources; intervals: over 16 simulated fields",
                [real] * len(twins), [[t] for t in twins], rng)
    gleamx = real, twins[0]
    y, x = np.unravel_index(np.nanargmax(image.data), image.shape)
    r = measure.radius(image.shape, x, y, image.pixel_beam.covariance(image.pixel_scale))
    rings = [image.data[(r > inner) & (r < inner + 0.5)] for inner in (1.5, 2, 2.5)]
    print(f"its brightest source, {image.data[y, x] / real['rms']:.0f} sigma: median at 1.5-2, 2-2.5, 2.5-3 beams "
          + ", ".join(f"{100 * np.median(ring) / image.data[y, x]:+.3f} %" for ring in rings) + " of the peak\n")
    real, twins = [], []
    for row in read_index(folder, "nvss/nvss_"):
        image = ClusterImage.read(folder / row["file"], survey="nvss")
        real.append(noise_of(image))
        twins.append([noise_like(image.replace(beam=Beam(45 * u.arcsec)), survey_of(image, "nvss"), rng)])
    noise_table("NVSS, 15 fields", real, twins, rng)
    width = np.array([r["width"] for r in real])
    print(f"width in the NVSS fields: {width.min():.2f} to {width.max():.2f}; psf noise 1, smoothed noise 1.41; rms "
          f"{1e3 * np.median([r['rms'] for r in real]):.2f} mJy/beam (median; preset "
          f"{surveys['nvss'].rms.to_value(u.mJy / u.beam):.2f})\n")
    dirty_beams(folder, rng)
    return {"gleamx": gleamx, "nvss": (real, twins)}


def dirty_beams(folder, rng):
    """Noise drawn with psf=: is its autocorrelation the dirty beam?"""
    print("MWA dirty beams, 13 arcsec pixels, 400 images of 48 x 48; within 15 pixels (195 arcsec)")
    scale, reach = 13 * u.arcsec, 15
    for path in sorted((folder / "mwa-psf").glob("*.fits.gz")):
        psf = ClusterImage.read(path)
        found = draw_noise(400, (48, 48), None, psf=psf, pixel_scale=scale, rng=rng)
        lag = np.arange(-reach, reach + 1)
        measured = measure.lag_products(found, reach)
        y, x = np.meshgrid(lag, lag, indexing="ij")
        row, column = np.unravel_index(np.nanargmax(psf.data), psf.shape)
        step = float(scale / psf.pixel_scale)
        plane = np.nan_to_num(psf.data)
        wanted = sum(ndimage.map_coordinates(plane, [row + s * y * step, column + s * x * step], order=1)
                     for s in (1, -1)) / 2
        print(f"  {path.name[:-8]:30s} half-width {measure.half_width(wanted) * scale:.1f}, of the noise "
              f"{measure.half_width(measured) * scale:.1f}; lowest {wanted.min():+.3f}, {measured.min():+.3f}; "
              f"rms difference {np.sqrt(np.mean((measured - wanted) ** 2)):.4f}")
    print()


# NVSS

def tiles(image, target, size=64):
    """Cut an image into squares that hold no NaN and lie away from the target; in units of their noise."""
    ny, nx = image.shape
    kept = []
    for y in range(0, ny - size + 1, size):
        for x in range(0, nx - size + 1, size):
            tile = image.data[y:y + size, x:x + size]
            corner = np.array([[x, x + size - 1, x, x + size - 1, x + size / 2], [y, y, y + size - 1, y + size - 1,
                                                                              y + size / 2]])
            away = SkyCoord(image.wcs.pixel_to_world(*corner)).icrs.separation(target).min()
            if np.isfinite(tile).all() and away > AWAY + 0 * u.deg:
                kept.append(tile)
    return np.array(kept)


def nvss(folder, seed):
    rng = np.random.default_rng([seed, 1])
    real, twin, preset, shown = [], [], [], None
    for row in read_index(folder, "nvss/nvss_"):
        image = ClusterImage.read(folder / row["file"], survey="nvss")
        cut = tiles(image, SkyCoord(float(row["ra"]), float(row["dec"]), unit="deg"))
        survey = survey_of(image, "nvss")
        per_beam = float(45 * u.arcsec / image.pixel_scale)
        for records, kind in ((twin, "psf"), (preset, None)):
            records.append([])
            for _ in range(TWINS):
                made = simulate.cutouts(len(cut), survey=survey, mix={"blank": 1}, correlation=kind, rng=rng)
                made = made[np.isfinite(made.data).all(axis=(1, 2))].data
                records[-1].append(measure.summary(made * 1e3, per_beam, image.pixel_scale))
            if row["target"] == "A773":
                shown = (*(shown or [cut]), made)
        real.append([measure.summary(cut * 1e3, per_beam, image.pixel_scale)])
    n = [sum(f["n"] for field in fields for f in field) for fields in (real, twin)]
    print(f"NVSS, blank sky: {n[0]} real cutouts of 15 fields; {n[1]} simulated with each noise, {TWINS} twins a "
          "field\n")
    sets = {"simulated, psf": twin, "simulated, preset": preset}
    measure.print_values({"real": real} | sets, rng, "mJy/beam")
    measure.print_distances(real, sets, rng)
    fine = [field[0]["scale"] < 10 for field in real]
    for title, kept in (("7.5", fine), ("15", [not f for f in fine])):
        ours, theirs = (measure.pooled([f for f, k in zip(fields, kept, strict=True) if k])["profile"][4]
                        for fields in (twin, real))
        print(f"profile at one beam, {sum(kept)} fields of {title} arcsec pixels: {theirs:.4f}, simulated {ours:.4f}")
    print()
    return {"nvss cutouts": (real, twin, preset), "shown": shown}


# GLEAM

def clipped(image):
    """Return threshold, and the image in units of a third of it: what its authors took for sigma."""
    nonzero = np.abs(image.data[np.isfinite(image.data) & (image.data != 0)])
    return float(nonzero.min()), image.data / (nonzero.min() / 3)


def gleam(folder, seed):
    rng = np.random.default_rng([seed, 2])
    out = {}
    index = read_index(folder, "mwa-gleam/")
    print("GLEAM: the images were clipped at a threshold t by hand; sigma = t / 3. Outside 16 arcmin of the targets\n")
    for band in BANDS:
        low, high = band.split("-")[1:]
        real, images, failed = [], [], []
        for row in [r for r in index if f"_{int(low):03d}-{high}MHz" in r["file"]]:
            image = ClusterImage.read(folder / row["file"], survey=band)
            if np.mean(image.data != 0) > OVERFULL:
                failed.append(row["target"])
                continue
            threshold, z = clipped(image)
            yy, xx = np.indices(image.shape) - (image.shape[0] - 1) / 2
            outside = np.hypot(yy, xx) * image.pixel_scale > 16 * u.arcmin
            per_beam = float(np.sqrt(image.beam.major * image.beam.minor) / image.pixel_scale)
            real.append([measure.summary_of_clipped(z, outside, per_beam, image.pixel_scale)])
            target = SkyCoord(float(row["ra"]), float(row["dec"]), unit="deg")
            images.append((image, target, threshold, outside, per_beam))
        # How many of its own sigmas Gaussian noise lies from a threshold that so few pixels fall below.
        deep = stats.norm.isf(np.median([r[0]["negative"] for r in real]))
        variants = {"t = 3 rms": (3.0, False), f"t = {deep:.1f} rms, level off": (deep, True)}
        sets = {name: [] for name in variants}
        levels = []
        for name, (k, level_off) in variants.items():
            for image, target, threshold, outside, per_beam in images:
                survey = dataclasses.replace(survey_of(image, band), rms=threshold / k * u.Jy / u.beam)
                sets[name].append([])
                for _ in range(TWINS):
                    made, _ = simulate.field(image.shape, survey=survey, position=target, clusters=0, rng=rng)
                    level = measure.level(made.data)
                    z = (made.data - level * level_off) / (threshold / 3)
                    z[np.abs(z) < 3] = 0
                    sets[name][-1].append(measure.summary_of_clipped(z, outside, per_beam, image.pixel_scale))
                    levels.append(level / (threshold / k))
        print(f"{band}: {len(real)} images; left out, clip failed: {', '.join(failed) or 'none'}; t / 3: median "
              f"{1e3 * np.median([i[2] for i in images]) / 3:.1f} mJy/beam (preset "
              f"{surveys[band].rms.to_value(u.mJy / u.beam):.1f}); level of the simulated images: "
              f"{np.median(levels):.2f} rms")
        measure.print_values_of_clipped({"real": real} | sets, rng)
        measure.print_distances(real, sets, rng, pooled=measure.pooled_clipped, distances=measure.distances_clipped)
        out[band] = real, *sets.values()
    return out


def around_targets(folder, seed):
    """The same targets simulated: label, redshift, mass, place and noise of each real one."""
    rng = np.random.default_rng([seed, 3])
    kinds = {"relic": "relic", "phoenix": "phoenix", "radio galaxy": "radio-galaxy", "circle": "orc"}
    records = []
    for row in [r for r in read_index(folder, "mwa-gleam/") if "_170-231MHz" in r["file"]]:
        image = ClusterImage.read(folder / row["file"], survey="gleam-170-231")
        threshold, z = clipped(image)
        if np.mean(image.data != 0) > OVERFULL:
            continue
        halo = not row["cls"].startswith("none")
        label = "halo" if halo else next((v for k, v in kinds.items() if k in row["cls"]), "none")
        label = "mini-halo" if row["cls"] == "candidate mini-halo" else label
        clusters = None
        if row["z"] and row["m500_sz"]:
            clusters = measure.cluster_table(row)
        target = SkyCoord([float(row["ra"])], [float(row["dec"])], unit="deg")
        survey = dataclasses.replace(survey_of(image, "gleam-170-231"), rms=threshold / 3 * u.Jy / u.beam)
        made = simulate.cutouts(SCENES, survey=survey, mix={label: 1}, clusters=clusters, clip=(-3, 3), shape=(32, 32),
                                positions=target[np.zeros(SCENES, int)],
                                artefacts=simulate.Artefacts(borders=0), rng=rng)
        centre = z[134:166, 134:166]
        records.append({"name": row["target"], "halo": halo, "z": centre,
                        "class": row["cls"], "label": label,
                        "real": measure.about_target(centre, image),
                        "twins": [measure.about_target(c / (threshold / 3), image) for c in made.data],
                        "shown": made.data[0] / (threshold / 3)})
    print("GLEAM 170-231 MHz, around the targets (label, redshift, mass, place and threshold of each, "
          f"{SCENES} scenes a target)\n{'':36s}{'n':>4s}{'real':>24s}{'simulated':>24s}{'KS p':>8s}")
    for title, kept in (("halo or candidate", lambda r: r["halo"]), ("no halo", lambda r: not r["halo"])):
        some = [r for r in records if kept(r)]
        for name, unit in (("survivors", "pixels within 5' that survive"), ("peak", "peak within 2 beams / sigma"),
                           ("flux", "flux within 5' / (sigma/beam)")):
            a = np.array([r["real"][name] for r in some])
            b = np.array([[t[name] for t in r["twins"]] for r in some])
            p = stats.ks_2samp(a, b.ravel()).pvalue
            print(f"{title + ', ' + name:36s}{len(some):4d}{measure.median_and_interval(a[:, None], rng):>24s}"
                  f"{measure.median_and_interval(b, rng):>24s}{p:8.3f}  {unit}")
    print()
    return {"targets": records}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("HALOPY_TEST_DATA"))
    parser.add_argument("--figures", type=Path, help="write the figures of the docs into this folder")
    parser.add_argument("--seed", type=int, default=20261122)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data FOLDER, or the environment variable HALOPY_TEST_DATA")
    folder = Path(arguments.data)
    print(f"seed {arguments.seed}\n")
    found = {}
    for part in (noise, nvss, gleam, around_targets):
        found |= part(folder, arguments.seed)
    if arguments.figures:
        from simulated_sky_figures import write_figures

        write_figures(arguments.figures, found, arguments.seed)


if __name__ == "__main__":
    main()
