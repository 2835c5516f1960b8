"""Figures of an evaluation: curves of all models, reliability, training, flag rates, and pictures of the mistakes.

Like `halopy.plot`, on `matplotlib.figure.Figure` objects and never through pyplot.
"""

from __future__ import annotations

import numpy as np

from halopy.classify.bootstrap import group_bootstrap
from halopy.plot_axes import new_figure, plain_text

__all__ = ["plot_curves", "plot_gallery", "plot_rates", "plot_reliability", "plot_training"]

__doctest_requires__ = {"*": ["matplotlib"]}

# Wong 2011, Nature Methods 8, 441: colours that most colour-blind people tell apart; without the yellow.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
LINES = ("-", "--", "-.", ":")
GRID = np.linspace(0, 1, 201)
BAND_DRAWS = 200
BANDS = 3


def plot_curves(tables, *, prevalences=(0.5, 0.1, 0.01), level=0.95, n=BAND_DRAWS, rng=None):
    """Draw the ROC curve, and the precision-recall curve for several fractions of halos, of all models.

    Parameters
    ----------
    tables : mapping of str to `~astropy.table.QTable`
        Targets that all models could score, as of `halopy.classify.scores.scored`.
    prevalences : sequence of float, optional
        A panel each: the classes are weighed as if this fraction were halos.
    level, n, rng : optional
        Of the bands, see `halopy.classify.bootstrap.group_bootstrap`; the first three models have one.

    Returns
    -------
    `matplotlib.figure.Figure`
    """
    rng = np.random.default_rng(rng)
    ncols = min(4, 1 + len(prevalences))
    figure, axes = _grid(1 + len(prevalences), ncols, 3.5, 3.45)
    shapes = [roc_curve, *(lambda p, y, f, share=share: precision_curve(p, y, share) for share in prevalences)]
    titles = ["ROC", *(f"{100 * share:.3g} % halos" for share in prevalences)]
    for k, (name, table) in enumerate(tables.items()):
        arrays = [np.asarray(table[column]) for column in ("probability", "positive", "fold")]

        def curves(probability, positive, fold):
            return np.array([np.mean([shape(p, positive, f) for p, f in
                                      zip(probability.T, fold.T, strict=True)], axis=0) for shape in shapes])

        if k < BANDS and n > 0:
            value, low, high = group_bootstrap(curves, np.asarray(table["group"]), *arrays, n=n, level=level,
                                               strata=arrays[1], rng=rng)
        else:
            value, low, high = curves(*arrays), None, None
        for i, ax in enumerate(axes):
            ax.plot(GRID, value[i], label=name if i == 0 else None, **_line(k))
            if low is not None:
                ax.fill_between(GRID, low[i], high[i], color=COLOURS[k % len(COLOURS)], alpha=0.13, linewidth=0)
    for i, (ax, title) in enumerate(zip(axes, titles, strict=True)):
        ax.set(title=title, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal",
               xlabel="false-positive rate" if i == 0 else "recall",
               ylabel="recall" if i == 0 else "precision")
        floor = GRID if i == 0 else np.full_like(GRID, prevalences[i - 1])
        ax.plot(GRID, floor, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    _legend(figure, len(tables))
    return figure


def roc_curve(probability, positive, fold):
    """Return the recall at `GRID` false-positive rates: the mean over folds, each by its number of pairs.

    The area under it is then that of `halopy.classify.metrics.roc_auc` within the folds.
    """
    total, pairs = np.zeros_like(GRID), 0
    for one in np.unique(fold):
        here = fold == one
        truth = positive[here]
        weight = truth.sum() * (~truth).sum()
        if weight == 0:
            continue
        order = np.argsort(-probability[here], kind="stable")
        ordered, truth = probability[here][order], truth[order]
        last = np.append(ordered[1:] != ordered[:-1], True)
        found = np.concatenate([[0], np.cumsum(truth)[last] / truth.sum()])
        wrong = np.concatenate([[0], np.cumsum(~truth)[last] / (~truth).sum()])
        # Of points above each other the highest counts.
        total += weight * np.interp(GRID + 2e-9, wrong + 1e-9 * found, found)
        pairs += weight
    return total / pairs if pairs else np.full_like(GRID, np.nan)


def precision_curve(probability, positive, prevalence):
    """Return the precision at `GRID` recalls if a fraction ``prevalence`` were positive, in steps."""
    n_positive, n_negative = positive.sum(), (~positive).sum()
    if n_positive == 0 or n_negative == 0:
        return np.full_like(GRID, np.nan)
    order = np.argsort(-probability, kind="stable")
    ordered, truth = probability[order], positive[order]
    last = np.append(ordered[1:] != ordered[:-1], True)
    found, wrong = np.cumsum(truth)[last] / n_positive, np.cumsum(~truth)[last] / n_negative
    precision = prevalence * found / (prevalence * found + (1 - prevalence) * wrong)
    # The smallest set that reaches a recall.
    return precision[np.minimum(np.searchsorted(found, GRID - 1e-9), len(found) - 1)]


def plot_reliability(diagrams):
    """Draw how often probabilities come true.

    Parameters
    ----------
    diagrams : mapping of str to `~astropy.table.QTable`
        From `halopy.classify.calibrate.calibration`; ``meta["title"]`` is written above, if it is there.

    Returns
    -------
    `matplotlib.figure.Figure`
    """
    figure, axes = _grid(len(diagrams), min(4, len(diagrams)), 3.0, 3.7)
    for k, (ax, (name, table)) in enumerate(zip(axes, diagrams.items(), strict=True)):
        used = table[np.asarray(table["n"]) > 0]
        value, low, high = (np.asarray(used[c], dtype=float) for c in ("fraction", "fraction_low", "fraction_high"))
        size = np.asarray(used["n"], dtype=float) / max(np.sum(table["n"]), 1)
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":", zorder=0)
        ax.vlines(used["probability"], np.fmin(low, value), np.fmax(high, value), color=COLOURS[k % len(COLOURS)],
                  linewidth=1.2)
        ax.scatter(used["probability"], value, s=12 + 300 * size, color=COLOURS[k % len(COLOURS)], alpha=0.8,
                   linewidth=0)
        ax.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal", xlabel="probability", ylabel="fraction halos")
        ax.set_title("\n".join([_short(name), *table.meta.get("title", ())]), fontsize=9)
    return figure


def plot_training(histories):
    """Draw the losses of every training run, their mean and the middle 68 %.

    Parameters
    ----------
    histories : mapping of str to list
        ``meta["history"]`` of `halopy.classify.evaluate.cross_validate`, by model.

    Returns
    -------
    `matplotlib.figure.Figure`
    """
    figure, axes = _grid(len(histories), min(3, len(histories)), 3.9, 3.0)
    for ax, (name, runs) in zip(axes, histories.items(), strict=True):
        # Generators count the images that they were shown.
        count = "images" if "images" in runs[0]["curve"] else "epoch"
        columns = [c for c in runs[0]["curve"] if "loss" in c] or [c for c in runs[0]["curve"] if c != count]
        for k, column in enumerate(columns[:4]):
            curves = [(np.asarray(run["curve"].get(count, np.arange(len(run["curve"][column])) + 1)),
                       np.asarray(run["curve"][column], dtype=float)) for run in runs if column in run["curve"]]
            places = np.unique(np.concatenate([place for place, _ in curves]))
            values = np.full((len(curves), len(places)), np.nan)
            for row, (place, curve) in enumerate(curves):
                values[row, np.searchsorted(places, place)] = curve
            # Runs end at their own places: the mean is of those that go on.
            colour = COLOURS[k]
            ax.plot(places, np.nanmean(values, axis=0), color=colour, linewidth=1.6, marker="." if len(places) == 1
                    else None, label=column.replace("_", " "))
            if len(curves) > 1:
                ax.fill_between(places, *np.nanpercentile(values, [16, 84], axis=0), color=colour, alpha=0.2,
                                linewidth=0)
        ax.set(xlabel=count, ylabel="loss" if "loss" in columns[0] else "")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_title(f"{_short(name)}: {len(runs)} run{'s' if len(runs) > 1 else ''}", fontsize=9)
        ax.legend(fontsize=7, frameon=False)
    return figure


def plot_rates(rates, *, xlabel):
    """Draw the fraction that is flagged in bins of a number.

    Parameters
    ----------
    rates : mapping of str to tuple of `~astropy.table.QTable`
        By model: breakdowns of the targets with halos and of those without; None where there are none.
    xlabel : str

    Returns
    -------
    `matplotlib.figure.Figure`
    """
    figure, axes = _grid(len(rates), min(4, len(rates)), 3.0, 2.9)
    for ax, (name, parts) in zip(axes, rates.items(), strict=True):
        for k, (table, word) in enumerate(zip(parts, ("with a halo", "without"), strict=True)):
            if table is None:
                continue
            low, high = (np.asarray([getattr(x, "value", x) for x in table[c]], dtype=float) for c in ("low", "high"))
            middle = (low + high) / 2 + (k - 0.5) * 0.08 * (high - low)
            value, *ends = (np.asarray(table[f"flag_rate{end}"], dtype=float) for end in ("", "_low", "_high"))
            errors = [np.clip(np.nan_to_num(e), 0, None) for e in (value - ends[0], ends[1] - value)]
            ax.errorbar(middle, value, yerr=errors, xerr=(high - low) / 2, fmt="os"[k], color=COLOURS[k], markersize=4,
                        linewidth=1.1, label=word)
        ax.set(ylim=(-0.04, 1.04), xlabel=xlabel, ylabel="fraction flagged")
        ax.set_title(_short(name), fontsize=9)
    axes[0].legend(fontsize=7, frameon=False, loc="best")
    return figure


def plot_gallery(cutouts, titles, *, columns=6):
    """Draw cutouts side by side, all on one scale: asinh from -3 to 30 times the noise.

    Parameters
    ----------
    cutouts : CutoutSet
        ``(n, ny, nx)``; without a column ``rms`` the noise is that of the pixels.
    titles : sequence of str
        ``n``, of one or two lines.
    columns : int, optional
        Default 6.

    Returns
    -------
    `matplotlib.figure.Figure`
    """
    import matplotlib
    from matplotlib.colors import AsinhNorm

    figure, axes = _grid(len(cutouts), min(columns, len(cutouts)), 1.85, 2.2)
    cmap = matplotlib.colormaps["inferno"].with_extremes(bad="0.62")
    for row, (ax, title) in enumerate(zip(axes, titles, strict=True)):
        ax.imshow(cutouts.data[row] / _noise(cutouts, row), origin="lower", cmap=cmap, interpolation="nearest",
                  norm=AsinhNorm(linear_width=3, vmin=-3, vmax=30))
        ax.set(xticks=[], yticks=[])
        ax.set_title("\n".join(_short(line, 26) for line in title.split("\n")), fontsize=7)
    return figure


def _noise(cutouts, row):
    if "rms" in cutouts.table.colnames:
        rms = cutouts.table["rms"][row]
        rms = rms.to_value(cutouts.unit) if hasattr(rms, "to_value") else rms
        if np.isfinite(float(rms)) and float(rms) > 0:
            return float(rms)
    pixels = cutouts.data[row][np.isfinite(cutouts.data[row])].astype(float)
    pixels = pixels[pixels != 0]
    return 1.4826 * float(np.median(np.abs(pixels - np.median(pixels)))) if pixels.size > 1 else 1.0


def _grid(n, columns, width, height):
    """Return a figure and ``n`` axes in rows."""
    rows = -(-n // columns)
    made = new_figure(columns * width, rows * height)
    return made, [made.add_subplot(rows, columns, k + 1) for k in range(n)]


def _line(k):
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": LINES[k // len(COLOURS) % len(LINES)], "linewidth": 1.5}


def _legend(figure, n):
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, [_short(label) for label in labels], loc="outside lower center", ncols=min(n, 5), fontsize=8,
                  frameon=False)


def _short(text, length=40):
    text = plain_text(text)
    return text if len(text) <= length else text[:length - 1] + "…"
