"""The page of a comparison of augmentations: differences, numbers, power, cost, and what the images look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halopy.compare.tables import costs_table
from halopy.cutouts import CutoutSet, write_atomically
from halopy.errors import HaloInputError
from halopy.evaluation_tables import interval, metric_name
from halopy.learning.inputs import noise_level
from halopy.page import escaped, html_page, picture
from halopy.plot_comparison import plot_differences
from halopy.plot_quality import plot_rows

__all__ = ["write_comparison"]

__doctest_requires__ = {"*": ["matplotlib"]}

PLACES = {"overview": "overview", "differences": "differences", "numbers": "numbers", "power": "power",
          "cost": "cost", "images": "images", "legend": "how to read this page"}
LOWER_IS_BETTER = ("brier", "calibration_error")
COLUMNS = 8


def write_comparison(path, scores, table, *, cutouts=None, title="Does augmentation help?", overwrite=False):
    """Write the page of a comparison.

    Parameters
    ----------
    path : path-like
        Of the page, ``.html``.
    scores : mapping of (str, str) to `~astropy.table.QTable`
        From `halopy.compare.compare_augmentations`.
    table : `~astropy.table.QTable`
        From `halopy.compare.arms_table`, of these scores.
    cutouts : CutoutSet, optional
        What was trained on: shown beside generated images.
    title : str, optional
        Heading of the page.
    overwrite : bool, optional
        Whether a page that is there may be replaced, default False.

    Raises
    ------
    HaloInputError
        The file exists or cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise HaloInputError("this file exists", path=path, hint="overwrite=True, or another name")
    sections = [_overview(scores, table), _differences(table), _numbers(table), _power(table), _cost(scores),
                _images(scores, cutouts), _legend(table)]
    first = next(iter(scores.values())).meta
    footer = escaped(f"{first['folds']} folds, dealt {first['seeds']} times, seed {first['rng']}. Images shown in a "
                     f"training: of a generator {_budget(first['max_images'])}, of a classifier "
                     f"{_budget(first['model_images'])}.")
    text = html_page(title, "".join(sections), places=PLACES, footer=footer)
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


def _budget(number):
    return "as many as they want" if number is None else f"{number:,} at most"


def _overview(scores, table):
    first, meta = table[0], table.meta
    cards = [(len({name for name, _ in scores}), "classifiers"), (len({arm for _, arm in scores}), "arms"),
             (first["n_positive"], "targets with a halo"), (first["n_negative"], "targets without"),
             (first["n_groups"], "groups of sky")]
    text = "".join(f'<div class="card"><b>{count}</b><span>{label}</span></div>' for count, label in cards)
    chance = (1 - meta["level"]) * meta["n_differences"]
    said = (f"<p>{meta['n_differences']} differences from {escaped(meta['baseline'])}: the interval of "
            f"{meta['n_beyond_zero']} leaves out 0. If nothing made any difference, about {chance:.0f} would.</p>")
    if meta["n_unscored"]:
        said += f"<p>{meta['n_unscored']} targets could not be scored by all, and count nowhere.</p>"
    lines = []
    for row in table[(table["difference_low"] > 0) | (table["difference_high"] < 0)]:
        better = (row["difference"] > 0) != (row["metric"] in LOWER_IS_BETTER)
        lines.append(f'<li>{escaped(row["classifier"])}, {escaped(row["arm"])}: {escaped(metric_name(row["metric"]))} '
                     f'<span class="{"good" if better else "bad"}">{_difference(row)}</span></li>')
    listed = f"<ul>{''.join(lines)}</ul>" if lines else ""
    return f'<section id="overview"><h2>Overview</h2><div class="cards">{text}</div>{said}{listed}</section>'


def _differences(table):
    if not np.isfinite(table["difference"]).any():
        return ""
    alt = f"Differences of all arms from {table.meta['baseline']}, with their intervals, a panel for each metric"
    return ('<section id="differences"><h2>Differences on the same sky</h2><p>Filled: the interval leaves out 0. '
            "Grey: true differences in there are missed more often than in one repeat of five.</p>"
            f"<figure>{picture(plot_differences(table), alt)}</figure></section>")


def _numbers(table):
    metrics = list(dict.fromkeys(table["metric"].tolist()))
    rows = {(row["classifier"], row["arm"], row["metric"]): row for row in table}
    lines, before = [], None
    for classifier, arm in dict.fromkeys(zip(table["classifier"].tolist(), table["arm"].tolist(), strict=True)):
        cells = "".join(_cell(rows[classifier, arm, metric], metric) for metric in metrics)
        kind = ' class="first"' if classifier != before else ""
        lines.append(f'<tr{kind}><th scope="row">{escaped(classifier)}</th><td>{escaped(arm)}</td>{cells}</tr>')
        before = classifier
    heads = "".join(f'<th scope="col">{escaped(metric_name(metric))}{" ↓" if metric in LOWER_IS_BETTER else ""}</th>'
                    for metric in metrics)
    return ('<section id="numbers"><h2>Numbers</h2><p>Means over the seeds; second line: the difference from '
            f"{escaped(table.meta['baseline'])}.</p>"
            + _wide(f'<th scope="col">classifier</th><th scope="col">arm</th>{heads}', lines) + "</section>")


def _cell(row, metric):
    text = interval(row["value"], row["low"], row["high"])
    if np.isfinite(row["difference"]):
        low, high = row["difference_low"], row["difference_high"]
        kind = ""
        if low > 0 or high < 0:
            kind = " good" if (low > 0) != (metric in LOWER_IS_BETTER) else " bad"
        text += f'<br><span class="difference{kind}">{_difference(row)}</span>'
    return f'<td class="n">{text}</td>'


def _difference(row):
    text = f"{row['difference']:+.3f} ({row['difference_low']:+.3f} to {row['difference_high']:+.3f})"
    return text.replace("-", "−")


def _power(table):
    lines = []
    for metric in dict.fromkeys(table["metric"].tolist()):
        found = np.asarray(table["detectable"])[table["metric"] == metric]
        found = found[np.isfinite(found) & (found > 0)]
        if found.size:
            lines.append(f'<tr><th scope="row">{escaped(metric_name(metric))}</th><td class="n">{np.median(found):.3f}'
                         f'</td><td class="n">{found.min():.3f}</td><td class="n">{found.max():.3f}</td></tr>')
    if not lines:
        return ""
    heads = "".join(f'<th scope="col">{text}</th>' for text in ("metric", "median arm", "best arm", "worst arm"))
    return ('<section id="power"><h2>What could have been found</h2><p>The smallest true difference that four of five '
            f"repeats of this comparison would find, on other sky of the same size.</p>{_wide(heads, lines)}</section>")


def _cost(scores):
    lines = []
    for row in costs_table(scores):
        cells = "".join(f'<td class="n">{row[name]:.1f}</td>' for name in ("generator", "images", "training"))
        lines.append(f'<tr><th scope="row">{escaped(row["classifier"])}</th><td>{escaped(row["arm"])}</td>'
                     f'<td class="n">{row["n_train"]:.0f}</td>{cells}</tr>')
    heads = "".join(f'<th scope="col">{text}</th>' for text in
                    ("classifier", "arm", "images", "training the generator", "making images", "training"))
    return ('<section id="cost"><h2>Cost</h2><p>Time of the processor, in trainings of the same classifier without '
            "augmentation. A generator and its images serve all classifiers, and count for each of them here.</p>"
            f"{_wide(heads, lines)}</section>")


def _images(scores, cutouts):
    sets = {} if cutouts is None else {"real": cutouts}
    for table in scores.values():
        example = table.meta["example"]
        if example is not None and table.meta["augmentation"] not in sets and Path(example).is_file():
            sets[table.meta["augmentation"]] = CutoutSet.read(example)
    if len(sets) < 1 + (cutouts is not None):
        return ""
    found = []
    for label in dict.fromkeys(np.asarray(next(iter(sets.values())).table["label"]).astype(str).tolist()):
        rows = {}
        for name, one in sets.items():
            here = np.flatnonzero(np.asarray(one.table["label"]).astype(str) == label)[:COLUMNS]
            if here.size:
                rows[name] = one.data[here] / noise_level(one[here])[:, None, None]
        if len(rows) > 1:
            alt = f"Images labelled {label}, a row each: {', '.join(rows)}"
            found.append(f"<h3>{escaped(label)}</h3><figure>{picture(plot_rows(rows, columns=COLUMNS), alt)}</figure>")
    return ('<section id="images"><h2>Images</h2><p>The first of each label; generated ones are those of the first '
            "fold, observed like the cutouts of its training part. One stretch: asinh from −3 to 30 times the "
            f"noise.</p>{''.join(found)}</section>")


def _legend(table):
    return f"""<section id="legend"><h2>How to read this page</h2><dl class="facts">
<dt>arm</dt><dd>What was added to the training part of each fold: nothing, an augmenter's set, or images of a generator,
“x2” for two an image. Generators that learn were trained on that training part alone. What is scored is never
augmented.</dd>
<dt>intervals</dt><dd>{100 * table.meta['level']:g} %. Of a value by drawing groups of sky: what other sky may do. Of a
difference by drawing the same groups for both, and wider by what other trainings may do: by how far the folds and seeds
scatter beyond what their sky explains.</dd>
<dt>many differences</dt><dd>Of the intervals {100 - 100 * table.meta['level']:g} % leave out 0 by chance. A single one
that does so, among many, is no finding.</dd>
</dl></section>"""


def _wide(heads, lines):
    return (f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>')
