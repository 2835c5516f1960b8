"""Figures of the quality of generated images: galleries at one stretch, curves with real-against-real bands, pairs.

Like `halopy.plot`, on `matplotlib.figure.Figure` objects and never through pyplot.
"""

from __future__ import annotations

import numpy as np

from halopy.generative.quality.comparison import measured
from halopy.generative.quality.image_features import EDGES, ring_radii, spectrum_frequencies
from halopy.generative.quality.measures import draw_halves, shared_labels
from halopy.plot_axes import asinh_ticks, new_figure, plain_text

__all__ = ["plot_curves", "plot_rows"]

__doctest_requires__ = {"*": ["matplotlib"]}

# Wong 2011, Nature Methods 8, 441: colours that most colour-blind people tell apart; without the yellow and the grey.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
LINES = ("-", "--", "-.", ":")
LOW, HIGH, SOFT = -3, 30, 3
MERGED = 20
"""Bins of the histograms that are one bin of the curve: 0.4 times the noise."""


def plot_rows(rows, *, columns=8, titles=None):
    """Draw images in rows, all on one scale: asinh from −3 to 30 times the noise.

    Parameters
    ----------
    rows : mapping of str to `~numpy.ndarray`
        ``(n, ny, nx)`` in S/N, by what stands before the row; rows may be of different length.
    columns : int, optional
        How many images a row has at most, default 8.
    titles : mapping of str to sequence of str, optional
        What stands above the images of a row.

    Returns
    -------
    `matplotlib.figure.Figure`
    """
    import matplotlib
    from matplotlib.colors import AsinhNorm

    columns = min(columns, max(len(images) for images in rows.values()))
    # The names before the rows and the colours behind them are as wide, however few images there are.
    figure = new_figure(1.25 * columns + 1.5, (1.32 if titles is None else 1.5) * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    cmap = matplotlib.colormaps["inferno"].with_extremes(bad="0.62")
    norm = AsinhNorm(linear_width=SOFT, vmin=LOW, vmax=HIGH)
    shown = None
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for k, ax in enumerate(line):
            ax.set(xticks=[], yticks=[])
            if k >= len(images):
                ax.set_axis_off()
                continue
            shown = ax.imshow(images[k], origin="lower", cmap=cmap, norm=norm, interpolation="nearest")
            if titles is not None and name in titles:
                ax.set_title(plain_text(titles[name][k]), fontsize=7)
        line[0].set_axis_on()
        line[0].set_ylabel(_short(name), fontsize=8)
    ticks = asinh_ticks(norm)
    bar = figure.colorbar(shown, ax=axes, fraction=0.03, pad=0.01, ticks=ticks)
    bar.ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=7)
    bar.set_label("S/N", fontsize=8)
    return figure


def plot_curves(real, generated, size, *, n=100, level=0.95, rng=None):
    """Draw the distribution of pixels, the power spectrum and the radial profiles, with what real images scatter.

    Parameters
    ----------
    real : CutoutSet
        With ``label`` and ``group``.
    generated : mapping of str to CutoutSet
        By name.
    size : int
        Pixels of the common input, see `halopy.generative.quality.common_input.common_size`.
    n : int, optional
        How many halves of the real images are drawn for the bands, default 100.
    level : float, optional
        The bands' probability, default 0.95.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `matplotlib.figure.Figure` or None
        Three panels, and one for the profile of every label that all sets share; None where they share none. Of every
        set the mean of each label is taken, and the mean of those weighted as labels are among the real images. A band
        holds what comes out of halves of the groups of real images.
    """
    rng = np.random.default_rng(rng)
    real = measured(real, size, grouped=True)
    made = {name: measured(cutouts, size) for name, cutouts in generated.items()}
    labels = [label for label in shared_labels(real, real)[0] if all(label in one.labels for one in made.values())]
    if not labels:
        return None
    weights = np.array([(real.labels == label).sum() for label in labels], dtype=float)
    halves = [real.take(draw_halves(real, real, labels, rng)[0]) for _ in range(n)]
    # A half may lack a label whose groups hold others, too.
    halves = [half for half in halves if all(label in half.labels for label in labels)]
    bands = list(zip(*(_curves(half, labels, weights) for half in halves), strict=True))
    curves = {name: _curves(one, labels, weights) for name, one in {"real": real, **made}.items()}
    places = [_middles(), spectrum_frequencies()] + [ring_radii(size)] * (1 + len(labels))
    titles = ["pixels", "power spectrum", "radial profile", *(f"profile: {label}" for label in labels)]
    columns = min(4, len(titles))
    figure = new_figure(3.1 * columns, 2.75 * -(-len(titles) // columns) + 0.4)
    for k, (place, title) in enumerate(zip(places, titles, strict=True)):
        ax = figure.add_subplot(-(-len(titles) // columns), columns, k + 1)
        if bands:
            ends = np.quantile(bands[k], [(1 - level) / 2, (1 + level) / 2], axis=0)
            ax.fill_between(place, *ends, color="0.75", linewidth=0)
        for number, (name, values) in enumerate(curves.items()):
            line = np.where(values[k] > 0, values[k], np.nan) if k == 0 else values[k]
            ax.plot(place, line, color=COLOURS[(number - 1) % len(COLOURS)] if number else "black", linewidth=1.3,
                    linestyle=LINES[max(number - 1, 0) // len(COLOURS) % len(LINES)], label=_short(name))
        _dress(ax, k, title)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5), fontsize=8, frameon=False)
    return figure


def _dress(ax, k, title):
    ax.set_title(plain_text(title), fontsize=9)
    ax.tick_params(labelsize=7)
    if k == 0:
        ax.set(yscale="log", xlim=(-6, 16), ylim=(1e-5, 1), xlabel="brightness", ylabel="share per unit")
    elif k == 1:
        ax.set(yscale="log", xlabel="cycles per beam", ylabel="power")
    else:
        ax.set(xlabel="radius / beams", ylabel="mean brightness", xlim=(0, None))


def _middles():
    edges = EDGES[::MERGED]
    return (edges[1:] + edges[:-1]) / 2


def _curves(one, labels, weights):
    """Return the curves of a set: pixels, power, profile, and the profile of each label."""
    step = (EDGES[1] - EDGES[0]) * MERGED
    parts = [one.take(one.labels == label) for label in labels]
    pixels = np.array([part.histogram.mean(axis=0, dtype=float) for part in parts])
    pixels = pixels.reshape(len(labels), -1, MERGED).sum(axis=2) / step
    power, profile = (np.array([values.mean(axis=0) for values in columns])
                      for columns in ([part.power for part in parts], [part.profile for part in parts]))
    average = [np.average(values, axis=0, weights=weights) for values in (pixels, power, profile)]
    return [average[0], np.exp(average[1]), average[2], *profile]


def _short(text, length=18):
    text = plain_text(text)
    return text if len(text) <= length else text[:length - 1] + "…"
