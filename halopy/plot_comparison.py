"""Figure of a comparison of augmentations: how far each arm is from none, on the same sky.

Like `halopy.plot`, on `matplotlib.figure.Figure` objects and never through pyplot.
"""

from __future__ import annotations

import re

import numpy as np

from halopy.errors import HaloInputError
from halopy.plot_axes import new_figure, plain_text

__all__ = ["plot_differences"]

__doctest_requires__ = {"*": ["matplotlib"]}

# Wong 2011, Nature Methods 8, 441: colours that most colour-blind people tell apart.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
TITLES = {"roc_auc": "ROC area", "accuracy": "accuracy", "brier": "Brier score (less is better)",
          "recall@false_positive_rate=1%": "recall at 1 % false positives"}


def plot_differences(table, *, metrics=None):
    """Draw the difference of each arm from the baseline with its interval: a panel a metric, a line an arm.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        From `halopy.compare.arms_table`.
    metrics : sequence of str, optional
        Default: those of the table, in its order.

    Returns
    -------
    `matplotlib.figure.Figure`
        The grey band reaches as far as a true difference can lie from 0 and still be missed in one repeat of five.

    Raises
    ------
    HaloInputError
        There are no differences, or none of such a metric.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from halopy.plot_comparison import plot_differences
    >>> table = QTable({"classifier": ["cnn", "cnn"], "arm": ["none", "cwgan x2"], "metric": ["roc_auc", "roc_auc"],
    ...                 "difference": [float("nan"), 0.02], "difference_low": [float("nan"), -0.01],
    ...                 "difference_high": [float("nan"), 0.05], "detectable": [float("nan"), 0.04]})
    >>> plot_differences(table).axes[0].get_title()
    'ROC area'
    """
    shown = table[np.isfinite(table["difference"])]
    metrics = list(dict.fromkeys(shown["metric"].tolist())) if metrics is None else list(metrics)
    lacking = [name for name in metrics if name not in set(shown["metric"].tolist())]
    if lacking or not metrics:
        raise HaloInputError("there are no differences to draw", keyword=lacking[0] if lacking else None,
                             found=sorted(set(table["metric"].tolist())))
    pairs = list(dict.fromkeys(zip(shown["classifier"].tolist(), shown["arm"].tolist(), strict=True)))
    place, y = {}, 0.0
    for k, pair in enumerate(pairs):
        y -= 1.0 if k == 0 or pairs[k - 1][0] == pair[0] else 1.8
        place[pair] = y
    kinds = list(dict.fromkeys(_kind(arm) for _, arm in pairs))
    colour = {kind: COLOURS[k % len(COLOURS)] for k, kind in enumerate(kinds)}
    figure = new_figure(2.4 + 2.3 * len(metrics), 1.1 + 0.21 * -y)
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for ax, metric in zip(axes, metrics, strict=True):
        ax.axvline(0, color="0.4", linewidth=0.8)
        for row in shown[shown["metric"] == metric]:
            at, value = place[row["classifier"], row["arm"]], float(row["difference"])
            tint = colour[_kind(row["arm"])]
            if np.isfinite(row["detectable"]):
                ax.fill_betweenx([at - 0.5, at + 0.5], -row["detectable"], row["detectable"], color="0.93", linewidth=0)
            low, high = float(row["difference_low"]), float(row["difference_high"])
            beyond = low > 0 or high < 0
            ax.plot([low, high], [at, at], color=tint, linewidth=1.4)
            ax.plot(value, at, "o", color=tint, markersize=4.5, markerfacecolor=tint if beyond else "white")
        ax.set_title(TITLES.get(metric, metric.replace("_", " ")), fontsize=8.5)
        ax.tick_params(axis="x", labelsize=7)
        ax.locator_params(axis="x", nbins=5)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel("difference", fontsize=7.5)
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
    names = [arm if not classifier else f"{classifier}: {arm}" for classifier, arm in pairs]
    axes[0].set_yticks([place[pair] for pair in pairs], [plain_text(name) for name in names], fontsize=7)
    axes[0].set_ylim(y - 0.8, -0.2)
    return figure


def _kind(arm):
    """Return the augmentation of an arm, without its ratio."""
    return re.sub(r" x[\d.e+-]+$", "", arm)
