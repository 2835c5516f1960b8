"""Tables of the page of an evaluation, as HTML: every number with its interval."""

from __future__ import annotations

import numpy as np

from halopy.page import escaped

__all__ = ["breakdown_table", "confusion_tables", "interval", "main_table", "metric_name", "mistakes_table"]

NAMES = {"roc_auc": "ROC area", "roc_auc_pooled": "ROC area, folds pooled", "average_precision": "average precision",
         "recall@false_positive_rate=1%": "recall at 1 % false positives", "f1": "F1",
         "balanced_accuracy": "balanced accuracy", "brier": "Brier score", "calibration_error": "calibration error"}
LOWER_IS_BETTER = ("brier", "calibration_error")
COUNTS = ("true_positives", "false_positives", "false_negatives", "true_negatives")


def metric_name(metric):
    """Return what the page calls a metric of `halopy.classify.report.compare`."""
    name, at, share = metric.partition("@")
    if metric in NAMES or not at:
        return NAMES.get(metric, name.replace("_", " "))
    return f"{NAMES.get(name, name.replace('_', ' '))} at {share.replace('%', ' %')} halos"


def interval(value, low, high, digits=3):
    """Return ``0.812 (0.755–0.861)``; a dash for what is not known."""
    if not np.isfinite(value):
        return "–"
    if not (np.isfinite(low) and np.isfinite(high)):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def main_table(table, baseline):
    """Return every metric of every model, and its difference to the baseline where there are others.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        From `halopy.classify.report.compare`.
    baseline : str

    Returns
    -------
    str
    """
    models = list(dict.fromkeys(table["model"].tolist()))
    rows = {(row["model"], row["metric"]): row for row in table}
    metrics = [m for m in dict.fromkeys(table["metric"].tolist()) if m not in COUNTS]
    lines = []
    for metric in metrics:
        cells = [_cell(rows[model, metric], metric, model == baseline) for model in models]
        lines.append(f'<tr><th scope="row">{escaped(metric_name(metric))}'
                     f'{" ↓" if metric in LOWER_IS_BETTER else ""}</th>{"".join(cells)}</tr>')
    heads = "".join(f'<th scope="col">{escaped(m)}{" (baseline)" if m == baseline and len(models) > 1 else ""}</th>'
                    for m in models)
    return _wide(f'<th scope="col">metric</th>{heads}', lines)


def _cell(row, metric, is_baseline):
    text = interval(row["value"], row["low"], row["high"])
    if not is_baseline and np.isfinite(row["difference"]):
        low, high = row["difference_low"], row["difference_high"]
        kind = ""
        if low > 0 or high < 0:
            kind = " good" if (low > 0) != (metric in LOWER_IS_BETTER) else " bad"
        ends = f" ({_signed(low)} to {_signed(high)})" if np.isfinite(low) else ""
        text += f'<br><span class="difference{kind}">{_signed(row["difference"])}{ends}</span>'
    return f'<td class="n">{text}</td>'


def _signed(number):
    return f"{number:+.3f}".replace("-", "−")


def confusion_tables(table, threshold):
    """Return a small table for each model: halo or not, flagged or not.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        From `halopy.classify.report.compare`.
    threshold : float

    Returns
    -------
    str
    """
    rows = {(row["model"], row["metric"]): row for row in table}
    made = []
    for model in dict.fromkeys(table["model"].tolist()):
        def cell(metric, model=model):
            row = rows[model, metric]
            digits = 0 if float(row["value"]).is_integer() else 1
            return f'<td class="n">{interval(row["value"], row["low"], row["high"], digits)}</td>'

        made.append(f'<table class="matrix"><caption>{escaped(model)}</caption><thead><tr><td></td>'
                    '<th scope="col">flagged</th><th scope="col">not flagged</th></tr></thead><tbody>'
                    f'<tr><th scope="row">halo</th>{cell("true_positives")}{cell("false_negatives")}</tr>'
                    f'<tr><th scope="row">no halo</th>{cell("false_positives")}{cell("true_negatives")}</tr>'
                    "</tbody></table>")
    return (f"<p>Flagged: a probability of at least {threshold:g}. Numbers of targets, the mean over the seeds.</p>"
            f'<div class="matrices">{"".join(made)}</div>')


def breakdown_table(tables, what):
    """Return recall, specificity, fraction flagged and ROC area of parts of the targets, for every model.

    Parameters
    ----------
    tables : mapping of str to `~astropy.table.QTable`
        From `halopy.classify.breakdown.breakdown`, by model.
    what : str
        What the parts are, as the heading of their column.

    Returns
    -------
    str
    """
    heads = (what, "targets", "groups", "with halo", "model", "recall", "specificity", "flagged", "ROC area")
    lines = []
    for part in range(len(next(iter(tables.values())))):
        for k, (model, table) in enumerate(tables.items()):
            row = table[part]
            first = "".join(f'<td class="n">{row[c]}</td>' for c in ("n_targets", "n_groups", "n_positive"))
            start = f'<th scope="row">{escaped(_part(row))}</th>{first}' if k == 0 else "<td></td>" * 4
            numbers = "".join(f'<td class="n">{interval(row[c], row[f"{c}_low"], row[f"{c}_high"], 2)}</td>'
                              for c in ("recall", "specificity", "flag_rate", "roc_auc"))
            lines.append(f'<tr{" class=first" if k == 0 else ""}>{start}<td>{escaped(model)}</td>{numbers}</tr>')
    return _wide("".join(f'<th scope="col">{escaped(head)}</th>' for head in heads), lines)


def _part(row):
    if "low" not in row.colnames:
        return str(row[0]).strip() or "–"
    low, high = (float(getattr(row[end], "value", row[end])) for end in ("low", "high"))
    unit = getattr(row["low"], "unit", None)
    low, high, word = (low / 1e14, high / 1e14, " × 10¹⁴ M☉") if str(unit) == "solMass" else (
        low, high, f" {unit}" if unit else "")
    if not np.isfinite(low):
        return f"below {high:g}{word}"
    return f"{low:g} to {high:g}{word}" if np.isfinite(high) else f"{low:g} and more{word}"


def mistakes_table(wrong, others, n):
    """Return the first ``n`` targets that a model gets wrong, and who else does.

    Parameters
    ----------
    wrong : `~astropy.table.QTable`
        From `halopy.classify.breakdown.mistakes`.
    others : sequence of list of str
        For each of them, the other models that are wrong there.
    n : int

    Returns
    -------
    str
    """
    shown = [name for name in ("name", "group", "label", "grade", "survey", "band") if name in wrong.colnames]
    lines = []
    for row, also in list(zip(wrong, others, strict=True))[:n]:
        cells = [str(row[name]) if not np.ma.is_masked(row[name]) else "–" for name in shown]
        cells = [f"<td>{escaped(text)}</td>" for text in cells[1:]] if cells else []
        first = f'<th scope="row">{escaped(row[shown[0]])}</th>' if shown else ""
        lines.append(f"<tr>{first}{''.join(cells)}<td>{row['kind']}</td>"
                     f'<td class="n">{row["mean_probability"]:.3f}</td><td class="n">{100 * row["wrong"]:.0f} %</td>'
                     f"<td>{escaped(', '.join(also)) or '–'}</td></tr>")
    heads = (*shown, "kind", "mean probability", "seeds that are wrong", "wrong too")
    return _wide("".join(f'<th scope="col">{head}</th>' for head in heads), lines)


def _wide(head, lines):
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
