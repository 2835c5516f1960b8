"""What ``halopy compare`` does: classifiers × augmentations, a table, a table of costs, and a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halopy.cli_models import angle, cutouts_in, model_class, settings_of
from halopy.compare import arms_table, compare_augmentations, costs_table
from halopy.comparison_page import write_comparison
from halopy.cutouts import write_atomically
from halopy.errors import HaloInputError
from halopy.preprocess.augment import Augmenter
from halopy.registry import classifiers, generators

__all__ = ["compare"]

NONE, CLASSICAL = "none", "classical"
SHOWN = {"accuracy": "accuracy", "roc_auc": "ROC area", "brier": "Brier",
         "recall@false_positive_rate=1%": "recall at 1 % FP"}


def compare(arguments, *, progress=None):
    """Run ``halopy compare``.

    Parameters
    ----------
    arguments : `argparse.Namespace`
        As the command line's parser makes it.
    progress : callable, optional
        Called with an iterable of what is compared and returning it, such as `tqdm.tqdm`.

    Returns
    -------
    str
        What to tell the user.
    """
    folder = Path(arguments.output)
    paths = [folder / name for name in ("arms.ecsv", "costs.ecsv", "index.html")]
    for path in paths:
        if path.exists() and not arguments.overwrite:
            raise HaloInputError("this file exists", path=path, hint="--overwrite (what is in the folder is not made "
                                                                     "again), or another folder")
    if arguments.draws < 1:
        raise HaloInputError("--draws must be 1 or more", found=arguments.draws)
    settings = _settings(arguments)
    models = {name: classifiers.create(name, **settings_of(model_class("classifier", name), settings[name], name))
              for name in arguments.classifier}
    augmentations = {name: _augmentation(name, settings[name], arguments.size) for name in arguments.augmentation}
    by = angle("--by", arguments.by) if arguments.by[:1].isdigit() or arguments.by[:1] in ".+-" else arguments.by
    cutouts = cutouts_in(arguments.cutouts)
    test = None if arguments.test is None else cutouts_in(arguments.test)
    scores = compare_augmentations(
        cutouts, models, augmentations, folder=folder, test=test, ratios=tuple(arguments.ratio), folds=arguments.folds,
        seeds=arguments.seeds, by=by, size=arguments.size, max_images=arguments.max_images,
        model_images=arguments.model_images, progress=False if arguments.quiet else None, rng=arguments.seed)
    table = arms_table(scores, n=arguments.draws, progress=progress, rng=arguments.seed)
    costs = costs_table(scores)
    for path, one in zip(paths, (table, costs), strict=False):
        write_atomically(path, lambda temporary, one=one: one.write(temporary, format="ascii.ecsv", overwrite=True))
    write_comparison(paths[2], scores, table, cutouts=cutouts, overwrite=True)
    return "\n".join([*_lines(table), f"\n{paths[2]}: the page to look at", *map(str, paths[:2])])


def _settings(arguments):
    """Return the texts of ``--set NAME.KEY=VALUE`` by name."""
    found = {name: [] for name in (*arguments.classifier, *arguments.augmentation)}
    for text in arguments.set:
        name, dot, setting = text.partition(".")
        if not dot or "=" in name:
            raise HaloInputError("--set takes a name, a setting and a value", found=text, hint="--set cnn.width=8")
        if name not in found:
            raise HaloInputError("--set names what is not compared", found=name, hint=", ".join(found))
        found[name].append(setting)
    return found


def _augmentation(name, texts, size):
    if name == NONE:
        if texts:
            raise HaloInputError("none has no settings", found=texts[0])
        return None
    if name == CLASSICAL:
        settings = settings_of(Augmenter, texts, name)
        if size is None and "size" not in settings:
            raise HaloInputError("classical augmentation turns cutouts, and makes smaller ones than it is given",
                                 keyword="--size", hint="--size N, with N at most 0.7 of the pixels of a cutout")
        return Augmenter(**({"size": size} | settings))
    return generators.create(name, **settings_of(model_class("generator", name), texts, name))


def _lines(table):
    """Return the numbers of all arms, with the difference of the ROC area; a line an arm."""
    rows = {(row["classifier"], row["arm"], row["metric"]): row for row in table}
    arms = list(dict.fromkeys((classifier, arm) for classifier, arm, _ in rows))
    width = [max(len(text) for text in column) for column in zip(*arms, ("classifier", "arm"), strict=True)]
    heads = [*SHOWN.values(), f"ROC area minus {table.meta['baseline']}"]
    lines = ["  ".join(f"{text:<{n}}" for text, n in zip(("classifier", "arm"), width, strict=True)) + "  "
             + "".join(f"{head:<18}" for head in heads).rstrip()]
    for arm in arms:
        cells = [f"{rows[*arm, metric]['value']:.3f}" if np.isfinite(rows[*arm, metric]["value"]) else "-"
                 for metric in SHOWN]
        row = rows[*arm, "roc_auc"]
        cells.append(f"{row['difference']:+.3f} ({row['difference_low']:+.3f} to {row['difference_high']:+.3f})"
                     if np.isfinite(row["difference"]) else "")
        lines.append("  ".join(f"{text:<{n}}" for text, n in zip(arm, width, strict=True)) + "  "
                     + "".join(f"{cell:<18}" for cell in cells).rstrip())
    first, meta = table[0], table.meta
    lines.append(f"\n{first['n_positive']} targets with a halo and {first['n_negative']} without, in "
                 f"{first['n_groups']} groups; {meta['n_unscored']} could not be scored by all")
    if meta["n_differences"]:
        lines.append(f"the intervals of {meta['n_beyond_zero']} of {meta['n_differences']} differences leave out 0; "
                     f"{(1 - meta['level']) * meta['n_differences']:.1f} do so by chance")
        power = np.asarray(table["detectable"])[table["metric"] == "roc_auc"]
        power = power[np.isfinite(power) & (power > 0)]
        if power.size:
            lines.append(f"a difference in ROC area is found in four of five repeats from {np.median(power):.3f} on")
    return lines
