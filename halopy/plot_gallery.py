"""A contact sheet of cutouts."""

from __future__ import annotations

import numpy as np

from halopy.errors import HaloInputError
from halopy.plot_axes import asinh_ticks, new_figure, plain_text

__all__ = ["gallery"]

__doctest_requires__ = {"*": ["matplotlib"]}

LOW, HIGH, LINEAR = -3, 30, 3
"""Ends of the colours, and where they cease to be linear, in units of the noise."""


def gallery(cutouts, *, n=64, columns=8, figure=None):
    """Draw cutouts side by side, all at one stretch: asinh from -3 to 30 times the noise.

    Parameters
    ----------
    cutouts : CutoutSet
        ``(n, ny, nx)``. Pixels are divided by the column ``rms`` of their row. Where a row has none, one noise is
        taken for all: the scatter of the pixels that are drawn and not exactly 0.
    n : int, optional
        So many at most, default 64: the first of each label, as many of one as of another.
    columns : int, optional
        Default 8.
    figure : `matplotlib.figure.Figure`, optional
        Where to draw; default: a new one.

    Returns
    -------
    `matplotlib.figure.Figure`
        Above each cutout stands its label, with its grade where that is not ``confirmed``, and its row.

    Raises
    ------
    HaloInputError
        There are no cutouts, or ``n`` or ``columns`` are less than 1.

    Examples
    --------
    >>> from halopy.plot_gallery import gallery
    >>> from halopy.testing import simulated_cutouts
    >>> figure = gallery(simulated_cutouts(12, rng=1), n=6, columns=3)
    >>> [ax.get_title() for ax in figure.axes[:3]]
    ['0 halo', '1 radio-galaxy', '2 none']
    """
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm

    for name, value in (("n", n), ("columns", columns)):
        if value < 1:
            raise HaloInputError(f"{name} must be 1 or more", found=value)
    if len(cutouts) == 0:
        raise HaloInputError("a gallery needs cutouts", found=0)
    rows = _rows(cutouts, n)
    columns = min(columns, len(rows))
    lines = -(-len(rows) // columns)
    figure = new_figure(1.3 * columns + 0.9, 1.5 * lines) if figure is None else figure
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    norm = AsinhNorm(linear_width=LINEAR, vmin=LOW, vmax=HIGH)
    cmap = colormaps["inferno"].with_extremes(bad="0.62")
    for ax, row, noise in zip(axes, rows, _noise(cutouts[rows]), strict=False):
        shown = ax.imshow(cutouts.data[row] / noise, origin="lower", cmap=cmap, norm=norm, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.set_title(_title(cutouts, row), fontsize=6.5, pad=2)
    for ax in axes[len(rows):]:
        ax.set_axis_off()
    ticks = asinh_ticks(norm)
    bar = figure.colorbar(shown, ax=axes, ticks=ticks, aspect=max(8, 12 * lines), fraction=0.4 / columns, pad=0.01)
    bar.ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=6)
    bar.set_label("pixel over noise", fontsize=7)
    return figure


def _rows(cutouts, n):
    """Return which rows are shown: the first of each label."""
    if "label" not in cutouts.table.colnames:
        return np.arange(min(n, len(cutouts)))
    _, label = np.unique(np.asarray(cutouts.table["label"]).astype(str), return_inverse=True)
    rank = np.zeros(len(cutouts), dtype=int)
    for number in range(label.max() + 1):
        here = label == number
        rank[here] = np.arange(here.sum())
    return np.sort(np.argsort(rank, kind="stable")[:n])


def _noise(cutouts):
    """Return the noise of each row, ``(n,)``, in the unit of the pixels."""
    rms = cutouts.table["rms"] if "rms" in cutouts.table.colnames else np.full(len(cutouts), np.nan)
    rms = np.asarray(np.ma.filled(np.ma.asarray(rms.to_value(cutouts.unit) if hasattr(rms, "to_value") else rms,
                                                dtype=float), np.nan))
    if np.all(np.isfinite(rms) & (rms > 0)):
        return rms
    pixels = cutouts.data[np.isfinite(cutouts.data) & (cutouts.data != 0)].astype(float)
    noise = 1.4826 * np.median(np.abs(pixels - np.median(pixels))) if pixels.size else 0
    return np.full(len(cutouts), noise or 1.0)


def _title(cutouts, row):
    words = [str(row)]
    for name in ("label", "grade"):
        if name in cutouts.table.colnames:
            word = cutouts.table[name][row]
            words.append("" if word is np.ma.masked or str(word) == "confirmed" else plain_text(word))
    return " ".join(word for word in words if word)
