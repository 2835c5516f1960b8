"""One self-contained HTML page of an evaluation: every model, every number with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.classify.breakdown import breakdown, false_positives, mistakes
from halopy.classify.calibrate import calibration
from halopy.classify.report import compare
from halopy.classify.scores import combine as combined
from halopy.classify.scores import scored
from halopy.cutouts import write_atomically
from halopy.errors import HaloInputError
from halopy.evaluation_tables import (
    breakdown_table,
    confusion_tables,
    interval,
    main_table,
    mistakes_table,
)
from halopy.page import escaped, html_page, picture
from halopy.plot_evaluation import plot_curves, plot_gallery, plot_rates, plot_reliability, plot_training
from halopy.survey import surveys

__all__ = ["write_evaluation"]

PLACES = {"overview": "Overview", "numbers": "Numbers", "curves": "Curves", "matrix": "Confusion matrix",
          "reliability": "Reliability", "training": "Training", "parts": "Parts of the targets", "mass": "Mass",
          "blank": "Blank sky", "mistakes": "Mistakes", "legend": "How to read this page"}
PREVALENCES = (0.5, 0.1, 0.01)
SNR_BINS = (0, 3, 5, 10, 20, np.inf)
MASS_BINS = (0, 2, 4, 6, 8, 10, 18) * (1e14 * u.solMass)
MOST_PARTS = 15
PART_DRAWS = 300
MOST_LISTED = 100


def write_evaluation(path, scores, *, table=None, baseline=None, cutouts=None, threshold=0.5, combine="name",
                     level=0.95, n=1000, title="Evaluation of classifiers", max_pictures=36, rng=None):
    """Write one HTML page that shows what models are worth, and where they are wrong.

    Parameters
    ----------
    path : path-like
        The ``.html`` file; it appears only when it is complete.
    scores : `~astropy.table.QTable` or mapping of str to `~astropy.table.QTable`
        From `halopy.classify.evaluate`, by the names of the models; of the same cutouts in the same order. The first
        that is not the baseline is the one whose mistakes are shown.
    table : `~astropy.table.QTable`, optional
        From `halopy.classify.report.compare` of these scores with the prevalences 0.5, 0.1 and 0.01, if it is there.
    baseline : str, optional
        The model that the others are compared with, default the first.
    cutouts : CutoutSet, optional
        What was scored, a row a score: then the mistakes are shown as pictures, too.
    threshold : float, optional
        The probability from which on a target counts as flagged, default 0.5.
    combine : str or None, optional
        What is one target, see `halopy.classify.scores.combine`.
    level : float, optional
        The intervals' probability, default 0.95.
    n : int, optional
        How many times groups are drawn for an interval, default 1000; of parts of the targets and of reliability
        at most 300 times.
    title : str, optional
        Heading of the page.
    max_pictures : int, optional
        Pictures of the worst mistakes, half of them missed halos, default 36.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Raises
    ------
    HaloInputError
        The scores are not of the same cutouts, ``cutouts`` are others, the baseline is none of the models, ``table``
        is of other models, or the file cannot be written.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> from halopy import classifiers
    >>> from halopy.classify.evaluate import evaluate
    >>> from halopy.evaluation_page import write_evaluation
    >>> from halopy.testing import simulated_cutouts
    >>> cutouts = simulated_cutouts(24)
    >>> scores = {"matched-filter": evaluate(classifiers.create("matched-filter"), cutouts)}
    >>> write_evaluation("index.html", scores, cutouts=cutouts, n=20, rng=1)
    """
    rng = np.random.default_rng(rng)
    scores = {"model": scores} if not isinstance(scores, Mapping) else dict(scores)
    if not scores:
        raise HaloInputError("an evaluation needs at least one table of scores", found="an empty mapping")
    baseline = next(iter(scores)) if baseline is None else baseline
    if table is None:
        table = compare(scores, baseline=baseline, combine=combine, threshold=threshold, prevalences=PREVALENCES,
                        level=level, n=n, rng=rng)
    elif "difference" not in table.colnames or list(dict.fromkeys(table["model"].tolist())) != list(scores):
        raise HaloInputError("table must be from compare, of the models of the scores", found=table.colnames,
                             hint="leave it out")
    if cutouts is not None and len(cutouts) != len(next(iter(scores.values()))):
        raise HaloInputError("cutouts must be those that were scored",
                             found=f"{len(cutouts)} cutouts and {len(next(iter(scores.values())))} scores")
    scores = {name: _with_columns(one) for name, one in scores.items()}
    targets, unscored = scored(scores, combine)
    draw = {"level": level, "n": n, "rng": rng}
    few = draw | {"n": min(n, PART_DRAWS), "threshold": threshold}
    sections = [
        _overview(scores, targets, unscored, baseline, threshold, level, n), _numbers(table, baseline, level),
        _curves(targets, level, n, rng),
        f'<section id="matrix"><h2>Confusion matrix</h2>{confusion_tables(table, threshold)}</section>',
        _reliability(targets, table, draw), _training(scores), _parts(scores, combine, few),
        _mass(targets, few), _blank(targets, few | {"n": n}),
        _mistakes(scores, targets, cutouts, baseline, threshold, max_pictures), _legend(level)]
    page = html_page(title, "".join(sections), places=PLACES, footer="The numbers are made with halopy.classify.report "
                     "and halopy.classify.breakdown from the tables of scores.")
    write_atomically(path, lambda temporary: Path(temporary).write_text(page, encoding="utf-8"))


def _with_columns(table):
    """Return the scores with what the page needs beside: the row, and survey and band where they can be told."""
    table = QTable(table, copy=False)
    table["row"] = np.arange(len(table))
    if "survey" not in table.colnames and "image" in table.colnames:
        images = _words(table["image"])
        known = sorted(surveys, key=len, reverse=True)
        found = np.array([next((name for name in known if name in image), "") for image in images])
        if (found != "").all():
            table["survey"] = found
    if "band" not in table.colnames and "frequency" in table.colnames:
        frequency = u.Quantity(getattr(table["frequency"], "unmasked", table["frequency"])).to_value(u.MHz)
        if np.isfinite(frequency).all():
            table["band"] = np.array([f"{number:.0f} MHz" for number in frequency])
    return table


def _words(column):
    column = np.ma.asarray(column)
    return np.ma.filled(column, "" if column.dtype.kind in "US" else None).astype(str)


def _overview(scores, targets, unscored, baseline, threshold, level, n):
    first = next(iter(targets.values()))
    positive, groups = np.asarray(first["positive"]), len(np.unique(np.asarray(first["group"])))
    cards = [(len(scores), "model" if len(scores) == 1 else "models"), (len(first), "targets"), (groups, "groups"),
             (int(positive.sum()), "with a halo"), (unscored, "not scored")]
    text = "".join(f'<div class="card"><b>{count}</b><span>{label}</span></div>' for count, label in cards)
    lines = []
    for name, table in scores.items():
        meta = table.meta
        how = "held out" if meta.get("folds", 1) == 1 else f"{meta['folds']} folds"
        runs = len(meta.get("history", ())) or "–"
        lines.append(f'<tr><th scope="row">{escaped(name)}{" (baseline)" if name == baseline else ""}</th>'
                     f"<td>{escaped(meta.get('model', '–'))}</td><td>{how}</td>"
                     f'<td class="n">{np.shape(table["probability"])[1]}</td><td class="n">{runs}</td>'
                     f'<td class="n">{len(table)}</td></tr>')
    labels = ""
    if "label" in first.colnames:
        words, counts = np.unique(_words(first["label"]), return_counts=True)
        labels = "<p>" + ", ".join(f"{count} {escaped(word) or 'without a label'}"
                                   for word, count in zip(words, counts, strict=True)) + ".</p>"
    small = ("" if groups >= 40 else "<p>With fewer than about forty groups these intervals are a little too narrow, "
             "and small differences cannot be shown.</p>")
    return (f'<section id="overview"><h2>Overview</h2><div class="cards">{text}</div>{labels}'
            f"<p>Flagged from a probability of {threshold:g} on. Intervals hold {100 * level:g} %, from drawing whole "
            f"groups {n} times.</p>{small}<div class=wide><table><thead><tr><th scope=col>model</th>"
            "<th scope=col>settings</th><th scope=col>evaluation</th><th scope=col>seeds</th>"
            "<th scope=col>training runs</th><th scope=col>cutouts</th></tr></thead>"
            f"<tbody>{''.join(lines)}</tbody></table></div></section>")


def _numbers(table, baseline, level):
    several = len(set(table["model"].tolist())) > 1
    said = (f"Second line: the difference to {escaped(baseline)} on the same targets, with its interval; "
            "green is better and red worse where the interval does not hold 0. " if several else "")
    return (f'<section id="numbers"><h2>Numbers</h2><p>Each with its {100 * level:g} % interval. {said}'
            f"↓: lower is better.</p>{main_table(table, baseline)}</section>")


def _curves(targets, level, n, rng):
    figure = plot_curves(targets, prevalences=PREVALENCES, level=level, n=min(n, 200), rng=rng)
    shares = ", ".join(f"{100 * p:g} %" for p in PREVALENCES)
    alt = f"ROC curve, and precision against recall where {shares} of the targets have a halo, of {', '.join(targets)}"
    return (f'<section id="curves"><h2>Curves</h2><p>The mean over seeds and folds; precision as it would be where '
            f"{shares} of the targets have a halo. Bands are intervals, of the first three models. Dotted: "
            f"guessing.</p><figure>{picture(figure, alt)}</figure></section>")


def _reliability(targets, table, draw):
    rows = {(row["model"], row["metric"]): row for row in table}
    diagrams = {}
    for name, one in targets.items():
        diagram = calibration(one, combine=None, **draw | {"n": min(draw["n"], PART_DRAWS)})
        brier, error = (rows[name, metric] for metric in ("brier", "calibration_error"))
        diagram.meta["title"] = [f"{word} {interval(row['value'], row['low'], row['high'])}"
                                 for word, row in (("Brier", brier), ("error", error))]
        diagrams[name] = diagram
    alt = f"Fraction of halos against probability of {', '.join(targets)}"
    return ('<section id="reliability"><h2>Reliability</h2><p>How often a probability comes true; the size of a dot '
            "is the share of the targets. The Brier score is the mean squared error of the probabilities: 0 is "
            "perfect, 0.25 is saying 0.5 of everything.</p>"
            f"<figure>{picture(plot_reliability(diagrams), alt)}</figure></section>")


def _training(scores):
    histories = {name: table.meta["history"] for name, table in scores.items() if table.meta.get("history")}
    if not histories:
        return ""
    alt = f"Training curves of {', '.join(histories)}"
    return ('<section id="training"><h2>Training</h2><p>Line: the mean of the training runs; band: the middle 68 % of '
            "them. Runs end at their own epochs.</p>"
            f"<figure>{picture(plot_training(histories), alt)}</figure></section>")


def _parts(scores, combine, few):
    found = []
    for column, what, bins in (("survey", "survey", None), ("band", "band", None), ("grade", "grade", None),
                               ("label", "label", None), ("snr", "S/N", SNR_BINS)):
        first = next(iter(scores.values()))
        if column not in first.colnames:
            continue
        own = combine if column in combined(first, by=combine).colnames else None
        chosen = scored(scores, own)[0]
        values = next(iter(chosen.values()))[column]
        if bins is None and (values.dtype.kind == "f" or not 1 < len(np.unique(_words(values))) <= MOST_PARTS):
            continue
        tables = {name: breakdown(one, column, bins=bins, combine=None, **few) for name, one in chosen.items()}
        if len(next(iter(tables.values()))) < 2:
            continue
        note = "" if own == combine else '<p class="note">Of single cutouts: those of one target differ in this.</p>'
        found.append(f"<h3>By {what}</h3>{note}{breakdown_table(tables, what)}")
    return f'<section id="parts"><h2>Parts of the targets</h2>{"".join(found)}</section>' if found else ""


def _mass(targets, few):
    first = next(iter(targets.values()))
    if "m500" not in first.colnames or not isinstance(first["m500"], u.Quantity):
        return ""
    unit = first["m500"].unit
    if not unit.is_equivalent(u.solMass) or not (np.isfinite(first["m500"]) & (first["m500"] > 0 * unit)).any():
        return ""
    rates = {}
    for name, table in targets.items():
        positive = np.asarray(table["positive"])
        parts = [breakdown(table[rows], "m500", bins=MASS_BINS, combine=None, **few) if rows.any() else None
                 for rows in (positive, ~positive)]
        for part in parts:
            for end in ("low", "high") if part is not None and len(part) else ():
                part[end] = part[end].to_value(1e14 * u.solMass)
        rates[name] = tuple(part if part is not None and len(part) else None for part in parts)
    alt = f"Fraction flagged against M500 of {', '.join(targets)}"
    return ('<section id="mass"><h2>Mass</h2><p>The fraction flagged of clusters with and without a halo against '
            "M<sub>500</sub>, with intervals.</p>"
            f"<figure>{picture(plot_rates(rates, xlabel='M500 / 10¹⁴ M☉'), alt)}</figure></section>")


def _blank(targets, few):
    lines = []
    for name, table in targets.items():
        try:
            numbers = [x.to_value(1 / u.deg**2) for x in false_positives(table, combine=None, **few)]
        except HaloInputError:  # no blank sky, or its area is not known
            return ""
        lines.append(f'<tr><th scope="row">{escaped(name)}</th><td class="n">{interval(*numbers, 3)}</td></tr>')
    first = next(iter(targets.values()))
    blank = first[_words(first["label"]) == "blank"]
    area = blank["area"].to_value(u.deg**2).sum()
    return ('<section id="blank"><h2>Blank sky</h2>'
            f"<p>Flagged targets per square degree of {len(blank)} cutouts of blank sky, {area:.3g} deg². A cutout is "
            "judged at its centre alone: a search at every beam flags more.</p>"
            '<div class="wide"><table><thead><tr><th scope="col">model</th><th scope="col">false positives per deg²'
            f'</th></tr></thead><tbody>{"".join(lines)}</tbody></table></div></section>')


def _mistakes(scores, targets, cutouts, baseline, threshold, most):
    shown = next((name for name in targets if name != baseline), baseline)
    wrong = mistakes(targets[shown], combine=None, threshold=threshold)
    head = f'<section id="mistakes"><h2>Mistakes of {escaped(shown)}</h2>'
    if len(wrong) == 0:
        return f"{head}<p>Every target is on the right side of {threshold:g}.</p></section>"
    keys = _keys(wrong)
    also = {name: set(_keys(mistakes(table, combine=None, threshold=threshold))) for name, table in targets.items()
            if name != shown}
    others = [[name for name, found in also.items() if key in found] for key in keys]
    kinds = wrong["kind"].tolist()
    said = (f"<p>{kinds.count('missed')} halos are missed, {kinds.count('false')} targets without one are flagged, by "
            "the mean probability over the seeds; the worst first.</p>")
    figures = ""
    if cutouts is not None and most > 0:
        said += ("<p>Pictures in one stretch: asinh from −3 to 30 times the noise. Before the name, the mean "
                 "probability.</p>")
        first = {}
        for row, key in enumerate(_keys(scores[shown], with_row="row" in wrong.colnames)):
            first.setdefault(key, row)
        for kind, word in (("missed", "Halos that were missed"), ("false", "Flagged without a halo")):
            rows = [i for i, own in enumerate(kinds) if own == kind][:max(1, most // 2)]
            if rows:
                cut = cutouts[[first[keys[i]] for i in rows]]
                titles = [_caption(wrong[i]) for i in rows]
                alt = f"{word}, {len(rows)} of {kinds.count(kind)}: " + ", ".join(t.replace("\n", " ") for t in titles)
                figures += f"<h3>{word}</h3><figure>{picture(plot_gallery(cut, titles), alt)}</figure>"
    rest = f'<p class="note">The first {MOST_LISTED} of {len(wrong)}.</p>' if len(wrong) > MOST_LISTED else ""
    return f"{head}{said}{figures}<h3>List</h3>{rest}{mistakes_table(wrong, others, MOST_LISTED)}</section>"


def _keys(table, with_row=True):
    """Return what tells the targets apart: name and group, and the row where every cutout is a target."""
    names = ("name", "group", *(("row",) if with_row else ()))
    return list(zip(*(_words(table[name]) for name in names if name in table.colnames), strict=True))


def _caption(target):
    names = target.colnames
    label = str(target["label"]) if "label" in names and not np.ma.is_masked(target["label"]) else ""
    name = str(target["name"]) if "name" in names else f"group {target['group']}"
    return f"{target['mean_probability']:.2f}  {name}\n{label}"


def _legend(level):
    return f"""<section id="legend"><h2>How to read this page</h2><dl class="facts">
<dt>target</dt><dd>All cutouts of one name and group, such as the bands of a cluster, are one target: the mean of their
log-odds counts.</dd>
<dt>intervals</dt><dd>{100 * level:g} % of what comes out when whole groups of sky are drawn with replacement. Where
every group agrees, the interval of a fraction is that of so many groups (Clopper &amp; Pearson 1934).</dd>
<dt>difference</dt><dd>Model minus baseline with the same groups drawn for both. Two intervals overlap long before the
difference is in doubt: look at the difference.</dd>
<dt>ROC area</dt><dd>How often a target with a halo is above one without; only targets of one fold are compared. 0.5 is
guessing.</dd>
<dt>at 1 % halos</dt><dd>What precision would be where one target in a hundred has a halo; surveys are more like that
than like a training set.</dd>
<dt>average precision</dt><dd>The area under the precision-recall curve; that of guessing is the fraction of halos.</dd>
<dt>calibration error</dt><dd>Mean distance of the reliability diagram from its diagonal; never 0 for a finite set.</dd>
</dl></section>"""
