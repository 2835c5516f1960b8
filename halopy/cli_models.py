"""What ``halopy train``, ``finetune`` and ``audit`` do."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from pathlib import Path

import numpy as np
from astropy import units as u

from halopy.classify.base import Classifier
from halopy.classify.leakage import audit_split
from halopy.cutouts import CutoutSet, write_atomically
from halopy.errors import HaloInputError
from halopy.io.candidates import printable
from halopy.model import load
from halopy.registry import classifiers, generators
from halopy.simulate.chunks import read_cutouts

__all__ = ["angle", "audit", "cutouts_in", "finetune", "model_class", "settings_of", "train", "trained_model"]

LAST_EPOCHS = 5
MAX_LINES = 200
REGISTRIES = {"classifier": classifiers, "generator": generators}
USE = {"classifier": "halopy detect --classifier {}", "generator": "halopy generate --model {}"}


def train(arguments):
    """Run ``halopy train``.

    Parameters
    ----------
    arguments : `argparse.Namespace`
        As the command line's parser makes it.

    Returns
    -------
    str
        What to tell the user.
    """
    given = "classifier" if arguments.generator is None else "generator"
    name = getattr(arguments, given)
    if arguments.kind not in (None, given):
        hint = f"--{arguments.kind} {name}" if name in REGISTRIES[arguments.kind] else f"--{given} {name} alone"
        raise HaloInputError(f"--kind {arguments.kind} and --{given} do not go together", found=name, hint=hint)
    _check_output(arguments)
    if arguments.checkpoint is not None and _same_file(arguments.checkpoint, arguments.output):
        raise HaloInputError("--checkpoint and --output must be two files", path=arguments.output)
    kind = model_class(given, name)
    model = REGISTRIES[given].create(name, **settings_of(kind, arguments.set, name))
    if not model.trainable:
        raise HaloInputError(f"{name} needs no training", hint=USE[given].format(name))
    cutouts = cutouts_in(arguments.cutouts)
    try:
        model.fit(cutouts, rng=arguments.seed, progress=False if arguments.quiet else None,
                  max_seconds=arguments.max_seconds, max_images=arguments.max_images, checkpoint=arguments.checkpoint)
    except KeyboardInterrupt:
        if arguments.checkpoint is None or not Path(arguments.checkpoint).is_file():
            raise
        raise KeyboardInterrupt(f"the same command goes on from {arguments.checkpoint}") from None
    return _saved(model, cutouts, arguments)


def finetune(arguments):
    """Run ``halopy finetune``: arguments and result as of `train`."""
    _check_output(arguments)
    model = trained_model(arguments.model)
    if not hasattr(model, "finetune"):
        raise HaloInputError(f"the training of a {type(model).__name__} cannot be continued", path=arguments.model,
                             hint="halopy train, on all cutouts")
    settings = {name: getattr(arguments, name) for name in ("learning_rate", "max_epochs")}
    settings = {name: value for name, value in settings.items() if value is not None}
    known = inspect.signature(model.finetune).parameters
    for name in settings:
        if name not in known:
            raise HaloInputError(f"a {type(model).__name__} takes no --{name.replace('_', '-')}", found=settings[name])
    cutouts = cutouts_in(arguments.cutouts)
    tuned = model.finetune(cutouts, rng=arguments.seed, progress=False if arguments.quiet else None,
                           max_seconds=arguments.max_seconds, max_images=arguments.max_images, **settings)
    return _saved(tuned, cutouts, arguments)


def audit(arguments):
    """Run ``halopy audit``.

    Parameters
    ----------
    arguments : `argparse.Namespace`
        As the command line's parser makes it.

    Returns
    -------
    text : str
        What to tell the user.
    ending : str
        ``"ok"``, or ``"partly"`` where something was found.
    """
    path = None if arguments.output is None else Path(arguments.output)
    if path is not None and path.exists() and not arguments.overwrite:
        raise HaloInputError("this file exists", path=path, hint="--overwrite, or another name")
    radius = angle("--radius", arguments.radius)
    models = {str(file): _model(file) for file in arguments.model}
    sets = [cutouts_in(paths) for paths in (arguments.train, arguments.test)]
    found = audit_split(*sets, radius=radius, models=models)
    if path is not None:
        write_atomically(path, lambda temporary: found.write(temporary, format="ascii.ecsv", overwrite=True))
    n_train, n_test = map(len, sets)
    if len(found) == 0:
        return f"nothing found: {n_train} cutouts to train on and {n_test} to judge with share nothing", "ok"
    lines = [_finding(row, sets[1]) for row in found[:MAX_LINES]]
    if len(found) > MAX_LINES:
        lines.append(f"... and {len(found) - MAX_LINES} more; -o FILE writes all of them")
    kinds, counts = np.unique(found["kind"], return_counts=True)
    total = ", ".join(f"{count} {kind}" for kind, count in zip(kinds, counts, strict=True))
    lines.append(f"\n{len(found)} found between {n_train} cutouts to train on and {n_test} to judge with: {total}")
    return "\n".join(lines + ([] if path is None else [str(path)])), "partly"


def model_class(kind, name):
    """Return the class of a name among the classifiers or the generators, or say that it is one of the others."""
    (other,) = set(REGISTRIES) - {kind}
    if name not in REGISTRIES[kind] and name in REGISTRIES[other]:
        raise HaloInputError(f"{name} is a {other}, not a {kind}", hint=f"--{other} {name}")
    return REGISTRIES[kind][name]


def trained_model(name):
    """Return the classifier of a file, or the one of a name whose weights ship."""
    if Path(name).suffix or Path(name).is_file():
        return Classifier.load(name)
    return classifiers.pretrained(name)


def _model(name):
    """Return the model of a file, or the classifier or generator of a name whose weights ship."""
    if Path(name).is_file():
        return load(name)
    return generators.pretrained(name) if name in generators else trained_model(name)


def cutouts_in(paths):
    """Return one CutoutSet of files of `CutoutSet.write` and folders of ``halopy simulate``."""
    sets = []
    for path in map(Path, paths):
        sets += list(read_cutouts(path)) if path.is_dir() else [CutoutSet.read(path)]
    try:
        return sets[0].join(*sets[1:])
    except HaloInputError as error:
        error.hint = "one command for each, or cutouts of one size and unit"
        raise


def settings_of(kind, texts, name):
    """Return the settings of a class from ``key=value`` texts, with values as Python writes them.

    A bare word or path is text.
    """
    known = [p.name for p in inspect.signature(kind.__init__).parameters.values()
             if p.name != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise HaloInputError("--set takes settings and values", found=text, hint="--set width=8")
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise HaloInputError(f"{name} has no setting {key!r}; it has {', '.join(known) or 'none'}",
                                 hint=f"--set {near[0]}={value}" if near else None)
        try:
            settings[key] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            if not re.fullmatch(r"[A-Za-z/~.][\w.:+/~-]*", value.strip()):
                raise HaloInputError("--set takes a value as Python writes it", keyword=key, found=value,
                                     hint=f"--set \"{key}=['confirmed', 'candidate']\", {key}=0.1 or {key}=None"
                                     ) from None
            settings[key] = value.strip()
    return settings


def angle(option, text):
    """Return the angle that an option holds; a bare number is in degrees."""
    try:
        value = u.Quantity(text)
        value = value * u.deg if value.unit == u.dimensionless_unscaled else value
        if not (value.isscalar and value.unit.is_equivalent(u.deg) and value >= 0 * u.deg):
            raise TypeError
    except (TypeError, ValueError):
        raise HaloInputError(f"{option} takes an angle", found=text, hint=f"{option} 1.5deg") from None
    return value


def _check_output(arguments):
    """Say before a long training what would keep its result from being written."""
    path = Path(arguments.output)
    if path.exists() and not arguments.overwrite:
        raise HaloInputError("this file exists", path=path, hint="--overwrite, or another name")
    if path.is_dir() or not path.parent.is_dir():
        raise HaloInputError("the model is a file in a folder that exists", path=path, hint="model.safetensors")
    if any(_same_file(path, given) for given in arguments.cutouts):
        raise HaloInputError("--cutouts and --output must be two files", path=path)
    if arguments.seed < 0:
        raise HaloInputError("--seed must be 0 or more", found=arguments.seed)
    if arguments.max_images is not None and arguments.max_images < 1:
        raise HaloInputError("--max-images must be 1 or more", found=arguments.max_images)
    if arguments.max_seconds is not None and not arguments.max_seconds >= 0:
        raise HaloInputError("--max-seconds must be 0 or more", found=arguments.max_seconds)


def _same_file(one, other):
    return Path(one).resolve() == Path(other).resolve()


def _saved(model, cutouts, arguments):
    model.save(arguments.output, overwrite=arguments.overwrite)
    groups = len(np.unique(np.asarray(cutouts.table["group"]).astype(str)))
    return "\n".join([*_curve(model),
                      f"{len(cutouts)} cutouts of {groups} groups; the model has seen {len(model.groups_)} groups",
                      str(arguments.output)])


def _curve(model):
    """Return lines with the end of the learning curve, and its best epoch."""
    history = getattr(model, "history", None)
    if not hasattr(history, "colnames") or len(history) == 0:
        return []
    names = history.colnames
    units = [getattr(history[name], "unit", None) for name in names]
    heads = [f"{name} ({unit})" if unit else name for name, unit in zip(names, units, strict=True)]
    lines = ["  ".join(f"{head:>19}" for head in heads)]
    lines += ["  ".join(f"{_number(row[name]):>{max(19, len(head))}}" for name, head in zip(names, heads, strict=True))
              for row in history[-LAST_EPOCHS:]]
    if len(history) > LAST_EPOCHS:
        lines.insert(1, f"{'...':>{max(19, len(heads[0]))}}")
    loss = np.asarray(history["validation_loss"] if {"epoch", "validation_loss"} <= set(names) else [], dtype=float)
    if np.isfinite(loss).any():
        best = history[int(np.flatnonzero(loss == np.nanmin(loss))[-1])]
        # Which weights a generator keeps is its own affair.
        word = "kept" if isinstance(model, Classifier) else "lowest"
        lines.append(f"{word}: epoch {best['epoch']}, with a loss of {best['validation_loss']:.4f} on held-out groups")
    return lines


def _number(value):
    """Return a cell of a learning curve: whole numbers and text as they are."""
    value = getattr(value, "value", value)
    if isinstance(value, (float, np.floating)):
        small = value != 0 and abs(value) < 1e-3
        return f"{value:.3e}" if small or abs(value) >= 1e9 else f"{value:.4f}"
    return str(value)


def _finding(row, test):
    """Return one line: what was found, between whom, and what to do."""
    left, right = (printable(row[name]) for name in ("train", "test"))
    if row["kind"] == "model-saw-test" and "name" in test.table.colnames:
        here = np.asarray(test.table["group"]).astype(str) == row["test"]
        names = sorted(set(np.asarray(test.table["name"])[here].astype(str).tolist()))
        right = f"group {right} ({', '.join(map(printable, names[:5]))}{', ...' if len(names) > 5 else ''})"
    distance = f", {row['separation'].to_value(u.arcmin):.3g} arcmin apart" if np.isfinite(row["separation"]) else ""
    return f"{row['kind']}: {' and '.join(part for part in (left, right) if part)}{distance}: {row['meaning']}"
