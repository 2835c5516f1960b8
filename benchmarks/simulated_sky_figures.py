"""The figures of docs/simulate.rst: classes, simulated beside real cutouts, distributions."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import sky_statistics as measure
from matplotlib import patheffects, ticker
from PIL import Image

from halopy import simulate

matplotlib.use("Agg")
from matplotlib import pyplot as plt

MIDDLES = (measure.EDGES[1:] + measure.EDGES[:-1]) / 2
DPI = 100
LEVELS, TOP = 28, 30.0
"""Colours of a picture, and the brightness of the last, in units of the noise."""
COLOURS = {"real": "black", "psf": "tab:orange", "preset": "tab:blue"}


def save(figure, path, colours=256):
    """Write a small PNG: with as few colours as it needs."""
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    with Image.open(path) as image:
        image.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


class Sheet:
    """Pictures of one size in rows, each pixel of them a whole number of the figure's."""

    def __init__(self, rows, columns, size, zoom, *, left=24, gap=3):
        self.side, self.zoom, self.gap, self.left, self.rows = size * zoom, zoom, gap, left, rows
        self.width, self.height = left + columns * (self.side + gap), rows * (self.side + gap)
        self.figure = plt.figure(figsize=(self.width / DPI, self.height / DPI))

    def show(self, row, column, z, text=""):
        """Draw an image in units of its noise, white where it holds nothing."""
        x, y = self.left + column * (self.side + self.gap), (self.rows - 1 - row) * (self.side + self.gap)
        level = (np.arcsinh(z / 2) + np.arcsinh(1)) / (np.arcsinh(1) + np.arcsinh(TOP / 2))
        colours = matplotlib.colormaps["inferno"].resampled(LEVELS)(np.clip(level, 0, 0.999))
        self.figure.figimage(np.kron(colours, np.ones((self.zoom, self.zoom, 1))), x, y, origin="lower")
        label = self.figure.text((x + 4) / self.width, (y + 7) / self.height, text, color="white", fontsize=8.5)
        label.set_path_effects([patheffects.withStroke(linewidth=2, foreground="black")])

    def name(self, row, text):
        y = (self.rows - 0.5 - row) * (self.side + self.gap)
        self.figure.text(0.45 * self.left / self.width, y / self.height, text, rotation=90, ha="center", va="center",
                         fontsize=9.5)


def classes(path, survey, seed):
    """A row of eight cutouts of each class; their middle 40 pixels."""
    sheet = Sheet(len(simulate.MIX), 8, 40, 2)
    for row, label in enumerate(simulate.MIX):
        cutouts = simulate.cutouts(8, survey=survey, mix={label: 1}, shape=(40, 40),
                                   artefacts=simulate.Artefacts(borders=0), rng=[seed, row])
        rms = cutouts.table["rms"][0].to_value(cutouts.unit)
        sheet.name(row, label)
        for column, (data, redshift) in enumerate(zip(cutouts.data, cutouts.table["redshift"], strict=True)):
            sheet.show(row, column, data / rms, f"{redshift:.2f}" if np.isfinite(redshift) else "")
    save(sheet.figure, path, 64)


def beside(path, found):
    """Five real NVSS and five real GLEAM cutouts, simulated ones below each."""
    sheet = Sheet(5, 5, 64, 2)
    for row, (some, name) in enumerate(zip(found["shown"], ("NVSS, real", "simulated, psf", "sim., preset"),
                                           strict=True)):
        sheet.name(row, name)
        for column, data in enumerate(some[::8][:5]):
            sheet.show(row, column, data / (1.4826 * np.median(np.abs(data - np.median(data)))))
    sheet.name(3, "GLEAM, real")
    sheet.name(4, "simulated")
    for column, name in enumerate(("abell0141", "abell2744", "abell3365", "abell0133", "abell0550")):
        target = next(t for t in found["targets"] if t["name"] == name)
        kind = target["class"].removeprefix("none (").removesuffix(")")
        for row, image, text in ((3, target["z"], f"A{int(name[5:])}: {kind}"), (4, target["shown"], target["label"])):
            sheet.show(row, column, np.kron(image, np.ones((2, 2))), text)
    save(sheet.figure, path, 64)


def distributions(path, found):
    """Pixels, autocorrelation, profile, spectrum, counts of NVSS; counts of GLEAM."""
    real, twin, preset = found["nvss cutouts"]
    sets = {name: measure.pooled(fields) for name, fields in
            (("real", real), ("psf", twin), ("preset", preset))}
    figure, grid = plt.subplots(2, 3, figsize=(8.2, 5.4), layout="constrained")
    (histogram, correlation, profile), (power, counts, gleam) = grid
    for name, p in sets.items():
        style = {"color": COLOURS[name], "lw": 1.3, "label": name if name == "real" else f"simulated, {name}"}
        step = p["pixels"].reshape(-1, 10).sum(axis=1) / 0.2
        histogram.step(MIDDLES.reshape(-1, 10).mean(axis=1)[1:-1], step[1:-1], where="mid", **style)
        profile.plot(measure.RADII, p["profile"], **style)
        middle = np.sqrt(np.multiply(measure.PERIODS[1:], measure.PERIODS[:-1]))
        power.plot(middle, p["power"], marker="o", ms=3, **style)
        counts.plot(measure.FLUXES[:-1], p["counts"], marker="o", ms=3, **style)
    histogram.set(yscale="log", xlabel="pixel / $\\sigma$", ylabel="probability density", title="NVSS pixels")
    profile.set(yscale="log", ylim=(3e-4, 1.3), xlabel="radius / beam", ylabel="brightness / peak",
                title="NVSS profile")
    power.set(xscale="log", yscale="log", xlabel="period / beam", ylabel="power / $\\sigma^2$", title="NVSS spectrum",
              xticks=[1, 2, 5], xticklabels=["1", "2", "5"])
    counts.set(xscale="log", yscale="log", xlabel="peak, mJy/beam (lower edge)", ylabel="peaks per deg$^2$",
               title="NVSS peaks", xticks=[3, 10, 100], xticklabels=["3", "10", "100"])
    fields, twins = found["nvss"]
    edges = np.arange(0, 2.6, 0.15)
    for name in COLOURS:
        records = fields if name == "real" else [t[0][name] for t in twins]
        r, values = (np.concatenate([f[key] for f in records]) for key in ("r", "acf"))
        which = np.digitize(r, edges)
        mean = [values[which == i].mean() for i in range(1, len(edges))]
        at = [r[which == i].mean() for i in range(1, len(edges))]
        correlation.plot(at, mean, color=COLOURS[name], lw=1.3)
    correlation.axhline(0, color="0.7", lw=0.6)
    correlation.set(xlabel="lag / beam", ylabel="autocorrelation", title="NVSS noise")
    low = np.array(measure.SIGMAS[:-1])
    for shift, (band, (real, twin, _)) in enumerate((b, v) for b, v in found.items() if b.startswith("gleam-")):
        for fields, style in ((real, "-"), (twin, "--")):
            gleam.plot(low, measure.pooled_clipped(fields)["counts"], style, color=plt.get_cmap("plasma")(shift / 3.7),
                       lw=1.3, label=band[6:] + " MHz" if style == "-" else None)
    gleam.set(xscale="log", yscale="log", xlabel="peak / $\\sigma$ (lower edge)", ylabel="peaks per deg$^2$",
              title="GLEAM peaks (dashed: sim.)", xticks=[5, 10, 30, 100], xticklabels=["5", "10", "30", "100"])
    for axes, ticks in ((counts, (2, 5, 10)), (gleam, (0.2, 0.5, 1, 2, 5))):
        axes.set(yticks=ticks, yticklabels=[f"{tick:g}" for tick in ticks])
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    for axes in grid.flat:
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.tick_params(labelsize=8.5)
        axes.title.set_fontsize(10)
    histogram.legend(fontsize=8, loc="lower center", frameon=False)
    gleam.legend(fontsize=8, frameon=False)
    save(figure, path, 200)


def write_figures(folder, found, seed):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    classes(folder / "simulate-gleam.png", "gleam-170-231", seed)
    classes(folder / "simulate-gleam-x.png", "gleam-x-170-231", seed)
    beside(folder / "simulate-real.png", found)
    distributions(folder / "simulate-distributions.png", found)
