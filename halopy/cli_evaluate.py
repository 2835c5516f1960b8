"""What ``halopy evaluate`` does: tables of scores, a table of numbers, and a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halopy.classify.evaluate import cross_validate
from halopy.classify.evaluate import evaluate as held_out
from halopy.classify.report import compare
from halopy.cli_models import angle, cutouts_in, settings_of, trained_model
from halopy.cutouts import write_atomically
from halopy.errors import HaloInputError
from halopy.evaluation_page import PREVALENCES, write_evaluation
from halopy.io.cache import safe_name
from halopy.registry import classifiers

__all__ = ["evaluate"]

BASELINES = ("prevalence", "noise-only", "features-lr", "pca-lr", "matched-filter")
UNTRAINED = "matched-filter"
SHOWN = {"roc_auc": "ROC area", "average_precision@1%": "AP at 1 % halos", "recall": "recall",
         "specificity": "specificity", "brier": "Brier"}


def evaluate(arguments, *, progress=None):
    """Run ``halopy evaluate``.

    Parameters
    ----------
    arguments : `argparse.Namespace`
        As the command line's parser makes it.
    progress : callable, optional
        Called with an iterable of the folds of each model and returning it, such as `tqdm.tqdm`.

    Returns
    -------
    str
        What to tell the user.
    """
    _check(arguments)
    models = _trained(arguments) if arguments.model else _untrained(arguments)
    baseline = arguments.baseline or (UNTRAINED if UNTRAINED in models else next(iter(models)))
    if baseline not in models:
        raise HaloInputError("--baseline must be one of the models", found=baseline, hint=", ".join(models))
    folder = Path(arguments.output)
    paths = {name: folder / f"scores-{safe_name(name)}.ecsv" for name in models}
    report, page = folder / "report.ecsv", folder / "index.html"
    for path in (*paths.values(), report, page):
        if path.exists() and not arguments.overwrite:
            raise HaloInputError("this file exists", path=path, hint="--overwrite, or another folder")
    by = _by(arguments.by)
    cutouts = cutouts_in(arguments.cutouts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HaloInputError(f"cannot make this folder: {error.strerror}", path=folder) from error
    scores = {}
    for name, model in models.items():
        if arguments.model:
            scores[name] = _held_out(name, model, cutouts, by)
        else:
            scores[name] = cross_validate(model, cutouts, folds=5 if arguments.folds is None else arguments.folds,
                                          seeds=5 if arguments.seeds is None else arguments.seeds, by=by,
                                          progress=progress, rng=arguments.seed)
        _write(scores[name], paths[name])
    table = compare(scores, baseline=baseline, threshold=arguments.threshold, prevalences=PREVALENCES,
                    n=arguments.draws, rng=arguments.seed)
    _write(table, report)
    write_evaluation(page, scores, table=table, baseline=baseline, cutouts=cutouts, threshold=arguments.threshold,
                     n=arguments.draws, rng=arguments.seed)
    lines = _lines(table, baseline)
    if arguments.model and not arguments.no_baselines:
        others = ", ".join(name for name in BASELINES if name != UNTRAINED)
        lines.append(f"baseline: {UNTRAINED} alone; {others} need training: --classifier compares with them")
    return "\n".join([*lines, f"\n{page}: the page to look at", str(report), *map(str, paths.values())])


def _check(arguments):
    if arguments.seed < 0:
        raise HaloInputError("--seed must be 0 or more", found=arguments.seed)
    if not 0 <= arguments.threshold <= 1:
        raise HaloInputError("--threshold must be a probability", found=arguments.threshold, hint="--threshold 0.5")
    if arguments.draws < 1:
        raise HaloInputError("--draws must be 1 or more", found=arguments.draws)
    if arguments.model:
        for name in ("folds", "seeds", "set"):
            if getattr(arguments, name):
                raise HaloInputError(f"--{name} belongs to --classifier: a trained model is not trained again",
                                     found=getattr(arguments, name))


def _trained(arguments):
    """Return the models of files by the names of the files, and the baseline that needs no training."""
    models = {}
    for file in map(Path, arguments.model):
        name, number = file.stem, 2
        while name in models or name == UNTRAINED and not arguments.no_baselines:
            name, number = f"{file.stem}-{number}", number + 1
        models[name] = trained_model(str(file))
    return models if arguments.no_baselines else models | {UNTRAINED: classifiers.create(UNTRAINED)}


def _untrained(arguments):
    models = {}
    for name in arguments.classifier:
        models[name] = classifiers.create(name, **settings_of(classifiers[name], arguments.set, name))
    others = () if arguments.no_baselines else BASELINES
    return models | {name: classifiers.create(name) for name in others if name not in models}


def _by(text):
    """Return a column, or the angle of sky groups where there is a digit at the front."""
    return angle("--by", text) if text[:1].isdigit() or text[:1] in ".+-" else text


def _held_out(name, model, cutouts, by):
    try:
        scores = held_out(model, cutouts, by=by)
    except HaloInputError as error:
        error.message = f"{name}: {error.message}"
        raise
    curve = getattr(model, "history", None)
    if hasattr(curve, "colnames"):
        columns = {name: np.asarray(curve[name]).tolist() for name in curve.colnames}
        scores.meta["history"] = [{"seed": 0, "fold": 0, "curve": columns}]
    return scores


def _write(table, path):
    write_atomically(path, lambda temporary: table.write(temporary, format="ascii.ecsv", overwrite=True))


def _lines(table, baseline):
    """Return the main table: a line a model, with the difference of its ROC area to the baseline."""
    rows = {(row["model"], row["metric"]): row for row in table}
    models = list(dict.fromkeys(table["model"].tolist()))
    width = max(len("model"), *map(len, models))
    heads = [*SHOWN.values()]
    heads.insert(1, "minus the baseline")
    lines = [f"{'model':<{width}}  " + "".join(f"{head:<25}" for head in heads).rstrip()]
    for model in models:
        cells = [_cell(rows[model, metric], "value", ("low", "high")) for metric in SHOWN]
        cells.insert(1, "the baseline" if model == baseline else
                     _cell(rows[model, "roc_auc"], "difference", ("difference_low", "difference_high"), sign="+"))
        lines.append(f"{model:<{width}}  " + "".join(f"{cell:<25}" for cell in cells).rstrip())
    first = table[0]
    lines.append(f"\n{first['n_positive']} targets with a halo and {first['n_negative']} without, in "
                 f"{first['n_groups']} groups; {table.meta['n_unscored']} could not be scored")
    return lines


def _cell(row, value, ends, sign=""):
    if not np.isfinite(row[value]):
        return "-"
    text = f"{row[value]:{sign}.2f}"
    return text if not np.isfinite(row[ends[0]]) else \
        f"{text} ({row[ends[0]]:{sign}.2f} to {row[ends[1]]:{sign}.2f})"
