"""What simulated_sky.py measures of images, and the distances between sets of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy import fft, ndimage, optimize

SPLITS = ROUNDS = 200
EDGES = np.arange(-5, 5.001, 0.02)
"""Of the histogram of pixels, in units of the noise; what lies beyond is counted at its ends."""
RADII = np.arange(0, 4.01, 0.25)
"""Of radial profiles, in beams."""
PERIODS = (10, 5, 3, 2, 1.4, 1)
"""Limits of the scales of the power spectrum, in beams."""
FLUXES = (3, 6, 12, 30, 100, np.inf)
"""Limits of the bins of peaks, mJy/beam."""
SIGMAS = (5, 10, 30, 100, np.inf)
"""The same for clipped images, in sigma."""
RINGS = ((1.4, 2), (2, 4))
"""In beams: the rings about bright sources in which pixels are counted."""
LOGS = np.linspace(np.log10(3), np.log10(300), 201)


# Autocorrelation

def autocorrelation(z, good, covariance):
    """Return radius (beams) and autocorrelation of all lags within three beams; ``z`` is 0 where not ``good``."""
    reach = int(3 * np.linalg.det(covariance) ** 0.25 * 2.3548)
    shape = [fft.next_fast_len(n + reach + 1, real=True) for n in z.shape]
    products, pairs = (fft.irfft2(np.abs(fft.rfft2(plane, shape)) ** 2, shape) for plane in (z, good.astype(float)))
    y, x = np.indices((2 * reach + 1,) * 2) - reach
    values = (products / np.maximum(pairs, 1))[y, x]
    return radius(values.shape, reach, reach, covariance).ravel(), (values / values[reach, reach]).ravel()


def radius(shape, x, y, covariance):
    """Distance of all pixels from one of them, in beams."""
    dy, dx = np.indices(shape) - np.array([y, x])[:, None, None]
    inverse = np.linalg.inv(covariance)
    return np.sqrt(inverse[0, 0] * dx**2 + inverse[1, 1] * dy**2 + 2 * inverse[0, 1] * dx * dy) / 2.3548


def width(r, profile):
    """Width of a Gaussian fitted to the core, in units of the beam's: 1 for ``psf``, √2 for ``smoothed``."""
    core = r < 0.8
    fitted, _ = optimize.curve_fit(lambda r, s: np.exp(-4 * np.log(2) * (r / s) ** 2), r[core], profile[core], 1.2)
    return float(fitted[0])


def acf_distance(first, second):
    """Rms difference of two autocorrelations within a beam and a half."""
    near = first["r"] < 1.5
    return np.sqrt(np.mean((first["acf"] - second["acf"])[near] ** 2))


def lag_products(images, reach):
    """Mean product of pixels at all lags up to ``reach``, relative to that at lag 0; images of known mean 0."""
    n = images.shape[1]
    size = fft.next_fast_len(n + reach, real=True)
    power = (np.abs(fft.rfft2(images.astype(float), (size, size))) ** 2).mean(axis=0)
    products = fft.irfft2(power, (size, size))
    y, x = np.indices((2 * reach + 1,) * 2) - reach
    values = products[y, x] / ((n - np.abs(y)) * (n - np.abs(x)))
    return values / values[reach, reach]


def half_width(values):
    """Radius in pixels of the area above one half, as if that was a circle."""
    fine = ndimage.zoom(values, 8, order=3, grid_mode=True, mode="nearest")
    return np.sqrt((fine > 0.5).sum() / np.pi) / 8


# Cutouts

def summary(data, per_beam, pixel_scale):
    """Measure the cutouts ``(n, ny, nx)`` (mJy/beam) of one field; ``per_beam``: pixels to a beam."""
    level = np.median(data, axis=(1, 2), keepdims=True)
    rms = 1.4826 * np.median(np.abs(data - level), axis=(1, 2), keepdims=True)
    for _ in range(3):
        kept = np.abs(data - level) < 3 * rms
        level = np.nanmedian(np.where(kept, data, np.nan), axis=(1, 2), keepdims=True)
        rms = 1.4826 * np.nanmedian(np.where(kept, np.abs(data - level), np.nan), axis=(1, 2), keepdims=True)
    z = (data - level) / rms
    step = round(per_beam)
    area = data.size * pixel_scale.to_value(u.deg) ** 2
    peak = peaks(data - level, per_beam)
    strong = peak & (z > 5)
    profiles, rings = [], []
    for cutout, noise in zip(data - level, rms.ravel(), strict=True):
        profile, ring = about_brightest(cutout, noise, per_beam)
        profiles += profile
        rings += ring
    return {"n": len(data), "pixels": histogram(z), "sparse": histogram(z[:, ::step, ::step]), "size": z.size,
            "high": (z > 5).sum(), "low": (z < -5).sum(), "rms": rms.ravel(), "level": level.ravel(),
            "scale": pixel_scale.to_value(u.arcsec), "profiles": profiles, "rings": rings, "area": area,
            "power": power(z, per_beam), "faint power": power(np.clip(z, -5, 5), per_beam),
            "counts": np.histogram((data - level)[strong], FLUXES)[0].astype(float)}


def histogram(z):
    middle = np.clip(z, EDGES[0] + 1e-6, EDGES[-1] - 1e-6)
    return np.histogram(middle, EDGES)[0].astype(float)


def peaks(data, per_beam):
    """Pixels that are the largest within 0.7 beams."""
    reach = int(np.ceil(0.7 * per_beam))
    y, x = np.indices((2 * reach + 1,) * 2) - reach
    window = np.hypot(y, x) <= 0.7 * per_beam
    window = window[None] if data.ndim == 3 else window
    return data == ndimage.maximum_filter(data, footprint=window, mode="nearest")


def about_brightest(cutout, noise, per_beam):
    """Radial profile about the brightest pixel over its peak, and the scatter at 1.5 to 4 beams over the peak."""
    y, x = np.unravel_index(np.argmax(cutout), cutout.shape)
    peak = cutout[y, x]
    if peak < 20 * noise:
        return [], []
    yy, xx = np.indices(cutout.shape)
    r = np.hypot(yy - y, xx - x) / per_beam
    which = np.digitize(r, RADII + 0.125)
    number = np.bincount(which.ravel(), minlength=len(RADII) + 1)[:len(RADII)]
    total = np.bincount(which.ravel(), cutout.ravel(), minlength=len(RADII) + 1)[:len(RADII)]
    profile = np.where(number > 0, total / np.maximum(number, 1), np.nan) / peak
    if peak < 100 * noise:
        return [profile], []
    around = cutout[(r > 1.5) & (r < 4)]
    scatter = 1.4826 * np.median(np.abs(around - np.median(around)))
    return [profile], [np.sqrt(max(scatter**2 - noise**2, 0)) / peak]


def power(z, per_beam):
    """Mean power per scale, ``(n, scales)``, with a Hann window."""
    n = z.shape[-1]
    window = np.hanning(n)[:, None] * np.hanning(n)
    spectrum = np.abs(fft.fft2(z * window)) ** 2 / (window**2).sum()
    k = np.hypot(*np.meshgrid(fft.fftfreq(n), fft.fftfreq(n), indexing="ij")) * per_beam
    columns = [spectrum[..., (k >= 1 / long) & (k < 1 / short)].mean(axis=-1)
               for long, short in pairwise(PERIODS)]
    return np.stack(columns, axis=-1)


def pooled(fields):
    """The distributions of some fields, each a list of one or more records, together."""
    fields = [record for field in fields for record in field]
    spectra = np.concatenate([f["power"] for f in fields]), np.concatenate([f["faint power"] for f in fields])
    pixels, sparse = (sum(f[name] for f in fields) for name in ("pixels", "sparse"))
    profiles = [p for f in fields for p in f["profiles"]]
    size = sum(f["size"] for f in fields)
    return {"pixels": pixels / pixels.sum(), "sparse": sparse / sparse.sum(),
            "profile": np.nanmedian(profiles, axis=0), "power": np.median(spectra[0], axis=0),
            "faint power": np.median(spectra[1], axis=0), "rings": np.median([r for f in fields for r in f["rings"]]),
            "counts": (sum(f["counts"] for f in fields) + 0.5) / sum(f["area"] for f in fields),
            "high": sum(f["high"] for f in fields) / size, "low": sum(f["low"] for f in fields) / size,
            "rms": np.median(np.concatenate([f["rms"] for f in fields])),
            "level": np.median(np.concatenate([f["level"] for f in fields]))}


def distances(a, b):
    """The distances between two sets of fields."""
    step = EDGES[1] - EDGES[0]
    return {"pixels, Wasserstein / sigma": np.abs(np.cumsum(a["pixels"] - b["pixels"])).sum() * step,
            "pixels a beam apart, KS": np.abs(np.cumsum(a["sparse"] - b["sparse"])).max(),
            "profile, rms / peak": np.sqrt(np.mean((a["profile"] - b["profile"]) ** 2)),
            "power, rms of ln ratio": np.sqrt(np.mean(np.log(a["power"] / b["power"]) ** 2)),
            "faint power, rms of ln ratio": np.sqrt(np.mean(np.log(a["faint power"] / b["faint power"]) ** 2)),
            "counts, rms of ln ratio": np.sqrt(np.mean(np.log(a["counts"] / b["counts"]) ** 2))}


def print_values(sets, rng, unit):
    """Print what each set is, with intervals."""
    table = _Table(sets, pooled, rng)
    for title, name, factor in ((f"rms, {unit}", "rms", 1), (f"level, {unit}", "level", 1),
                                ("pixels above 5 sigma, %", "high", 100), ("pixels below -5 sigma, %", "low", 100),
                                ("scatter at 1.5-4 beams / peak, %", "rings", 100)):
        table.line(title, lambda p, name=name, factor=factor: factor * p[name])
    table.bins("peaks", FLUXES, unit + ", per deg2", "counts")
    for i in (2, 4, 6, 8, 12):
        table.line(f"profile at {RADII[i]} beams / peak", lambda p, i=i: p["profile"][i])
    table.bins("power", PERIODS, "beams, sigma2", "power")
    table.bins("faint power", PERIODS, "beams, sigma2", "faint power")
    print("  (faint power: pixels limited to within 5 sigma first)\n")


class _Table:
    """Lines of a statistic of several sets of fields, with intervals by bootstrap."""

    def __init__(self, sets, pooled, rng):
        self.draws = [[pooled([f[i] for i in rng.integers(len(f), size=len(f))]) for _ in range(ROUNDS)]
                      for f in sets.values()]
        self.values = [pooled(f) for f in sets.values()]
        print(f"{'':36s}" + "".join(f"{name:>32s}" for name in sets))

    def line(self, title, get):
        cells = []
        for value, draws in zip(self.values, self.draws, strict=True):
            low, high = np.quantile([get(d) for d in draws], [0.025, 0.975])
            cells.append(f"{get(value):.3g} [{low:.3g}, {high:.3g}]")
        print(f"{title:36s}" + "".join(f"{cell:>32s}" for cell in cells))

    def bins(self, title, limits, unit, name):
        for i, (first, second) in enumerate(pairwise(limits)):
            low, high = sorted((first, second))
            span = f"{low}-{high}" if np.isfinite(high) else f"> {low}"
            self.line(f"{title}, {span} {unit}", lambda p, i=i: p[name][i])


def print_distances(real, sets, rng, pooled=pooled, distances=distances):
    """Print the distances of simulated from real, beside those of real from real."""
    found = []
    for _ in range(SPLITS):
        order = rng.permutation(len(real))
        first, second = order[:len(order) // 2], order[len(order) // 2:]
        other = pooled([real[i] for i in second])
        found.append([distances(pooled([[source[i][rng.integers(len(source[i]))]] for i in first]), other)
                      for source in (real, *sets.values())])
    print(f"\n{'distance from real':36s}" + "".join(f"{name:>32s}" for name in ("real", *sets)))
    for name in found[0][0]:
        columns = np.array([[d[name] for d in several] for several in found])
        limit = np.quantile(columns[:, 0], 0.975)
        cells = []
        for i, column in enumerate(columns.T):
            low, middle, high = np.quantile(column, [0.025, 0.5, 0.975])
            sign = " " if i == 0 else "=" if middle <= limit else "!"
            cells.append(f"{middle:.3f} [{low:.3f}, {high:.3f}] {sign}")
        print(f"{name:36s}" + "".join(f"{cell:>32s}" for cell in cells))
    print("  (= agrees: the median is not above the interval of real from real; ! differs)\n")


# Clipped images

def summary_of_clipped(z, outside, per_beam, pixel_scale):
    """Measure one clipped image, in units of a third of its threshold, where ``outside``."""
    pixels = z[outside & np.isfinite(z)]
    high = pixels[pixels > 0]
    peak = peaks(np.nan_to_num(z), per_beam) & outside & (z >= 5)
    spectrum = power(np.clip(np.nan_to_num(z), -10, 10)[None], per_beam)
    area = pixels.size * pixel_scale.to_value(u.deg) ** 2
    rings = np.zeros((2, 3))
    yy, xx = np.indices(z.shape)
    for y, x in np.argwhere(peak & (z > 200)):
        r = np.hypot(yy - y, xx - x) / per_beam
        for ring, (inner, outer) in zip(rings, RINGS, strict=True):
            around = z[(r > inner) & (r < outer)]
            ring += (around < 0).sum(), (around > 0).sum(), around.size
    return {"rings": rings, "survivors": np.mean(pixels != 0), "negative": np.mean(pixels < 0), "area": area,
            "power": spectrum,
            "bright": np.histogram(np.clip(np.log10(high), LOGS[0] + 1e-6, LOGS[-1] - 1e-6), LOGS)[0].astype(float),
            "counts": np.histogram(z[peak], SIGMAS)[0].astype(float)}


def pooled_clipped(fields):
    fields = [record for field in fields for record in field]
    bright = sum(f["bright"] for f in fields)
    rings = sum(f["rings"] for f in fields)
    return {"rings": 100 * rings[:, :2] / np.maximum(rings[:, 2:], 1), "bright": bright / bright.sum(),
            "survivors": np.median([f["survivors"] for f in fields]),
            "negative": np.median([f["negative"] for f in fields]),
            "power": np.median(np.concatenate([f["power"] for f in fields]), axis=0),
            "counts": (sum(f["counts"] for f in fields) + 0.5) / sum(f["area"] for f in fields)}


def distances_clipped(a, b):
    return {"surviving share, |ln ratio|": abs(np.log(a["survivors"] / b["survivors"])),
            "survivors, Wasserstein / dex": np.abs(np.cumsum(a["bright"] - b["bright"])).sum() * (LOGS[1] - LOGS[0]),
            "power, rms of ln ratio": np.sqrt(np.mean(np.log(a["power"] / b["power"]) ** 2)),
            "peaks, rms of ln ratio": np.sqrt(np.mean(np.log(a["counts"] / b["counts"]) ** 2))}


def print_values_of_clipped(sets, rng):
    table = _Table(sets, pooled_clipped, rng)
    table.line("pixels that survive, %", lambda p: 100 * p["survivors"])
    table.line("pixels below -t, %", lambda p: 100 * p["negative"])
    table.bins("peaks", SIGMAS, "sigma, per deg2", "counts")
    table.bins("power", PERIODS, "beams, sigma2", "power")
    print("about peaks above 200 sigma:")
    for i, (inner, outer) in enumerate(RINGS):
        for j, sign in enumerate(("below -t", "above t")):
            table.line(f"pixels {sign}, {inner}-{outer} beams, %", lambda p, i=i, j=j: p["rings"][i, j])


def level(data):
    """Return the median of the pixels within three sigma of it: the image without what is bright."""
    kept = data[np.isfinite(data)]
    for _ in range(5):
        middle = np.median(kept)
        kept = kept[np.abs(kept - middle) < 3 * 1.4826 * np.median(np.abs(kept - middle))]
    return np.median(kept)


def about_target(z, image):
    """Survivors within 5', peak within two beams, and flux within 5', of a clipped cutout in sigma."""
    yy, xx = np.indices(z.shape) - (z.shape[0] - 1) / 2
    r = np.hypot(yy, xx) * image.pixel_scale
    near = r < 5 * u.arcmin
    z = np.nan_to_num(z)
    return {"survivors": np.mean(z[near] != 0), "peak": z[r < 2 * image.beam.major].max(),
            "flux": z[near].sum() / image.beam_area}


def cluster_table(row):
    return QTable({"redshift": [float(row["z"])], "m500": [float(row["m500_sz"]) * 1e14] * u.solMass})


# Intervals

def mean_and_interval(values, rng):
    values = np.asarray(values, dtype=float)
    draws = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(ROUNDS)]
    return f"{values.mean():.3f} [{', '.join(f'{q:.3f}' for q in np.quantile(draws, [0.025, 0.975]))}]"


def median_and_interval(values, rng):
    """``values``: a row a target, any number of columns."""
    draws = [np.median(values[rng.integers(len(values), size=len(values))]) for _ in range(ROUNDS)]
    return f"{np.median(values):.3g} [{', '.join(f'{q:.3g}' for q in np.quantile(draws, [0.025, 0.975]))}]"
