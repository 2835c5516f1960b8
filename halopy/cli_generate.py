"""What ``halopy generate`` and ``quality`` do: images of a generator, and how far they are from real ones."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.cli_models import cutouts_in, model_class, settings_of
from halopy.cutouts import write_atomically
from halopy.errors import HaloInputError, HalopyWarning, UnknownModelError
from halopy.generative.base import HaloGenerator
from halopy.io.candidates import printable
from halopy.io.target_files import read_table
from halopy.labels import GRADES, LABELS
from halopy.model import load
from halopy.plot_gallery import gallery
from halopy.preprocess.clip import clip
from halopy.registry import classifiers, generators

__all__ = ["generate", "quality"]

UNITS = {"frequency": u.MHz, "rms": u.Jy / u.beam}
"""Of the conditions that are given as bare numbers."""

SHOWN = 64


def generate(arguments):
    """Run ``halopy generate``.

    Parameters
    ----------
    arguments : `argparse.Namespace`
        As the command line's parser makes it.

    Returns
    -------
    str
        What to tell the user.
    """
    path = Path(arguments.output)
    picture = path.with_suffix(".png")
    _check(arguments, path, picture)
    asked = _asked(arguments) if arguments.conditions is None else _table(arguments)
    model = _settled(_generator(arguments.model), arguments.set, arguments.model)
    made = _made(model, len(asked), _known(model, asked, arguments), arguments)
    # The file says by itself what made it.
    table = made.table.copy()
    table["generator"] = np.full(len(made), f"{type(model).__name__} {model.weights_id}".strip())
    made = made.replace(table=table)
    made.write(path, overwrite=arguments.overwrite)
    # The images are safe before they are drawn.
    figure = gallery(made, n=SHOWN)
    write_atomically(picture, lambda temporary: figure.savefig(temporary, format="png", dpi=110))
    return "\n".join([*_summary(made, model, arguments.model), "", str(path),
                      f"{picture}: the first of each label"])


def quality(arguments):
    """Run ``halopy quality``: arguments and result as of `generate`."""
    from halopy.quality_page import write_quality

    page = Path(arguments.output) / "index.html"
    if page.exists() and not arguments.overwrite:
        raise HaloInputError("this file exists", path=page, hint="--overwrite, or another folder")
    if arguments.seed < 0:
        raise HaloInputError("--seed must be 0 or more", found=arguments.seed)
    settings = {}
    if arguments.classifier is not None:
        model_class("classifier", arguments.classifier)
        settings["classifier"] = arguments.classifier
    generated = {}
    for file in map(Path, arguments.generated):
        name, number = file.stem, 2
        while name in generated:
            name, number = f"{file.stem}-{number}", number + 1
        generated[name] = cutouts_in([file])
    if arguments.training is not None:
        settings["training"] = cutouts_in(arguments.training)
    real = cutouts_in(arguments.real)
    write_quality(arguments.output, real, generated, overwrite=arguments.overwrite, rng=arguments.seed, **settings)
    sizes = ", ".join(f"{len(cutouts)} of {printable(name)}" for name, cutouts in generated.items())
    return f"{len(real)} real images, {sizes}\n\n{page}: the page to look at"


def _check(arguments, path, picture):
    """Say before anything is made what would keep it from being written."""
    if path.is_dir() or not path.parent.is_dir() or path == picture:
        raise HaloInputError("the images are a file in a folder that exists, with a picture (.png) beside it",
                             path=path, hint="samples.fits")
    for made in (path, picture):
        if made.exists() and not arguments.overwrite:
            raise HaloInputError("this file exists", path=made, hint="--overwrite, or another name")
    for option in ("model", "conditions"):
        given = getattr(arguments, option)
        if given is not None and Path(given).resolve() in (path.resolve(), picture.resolve()):
            raise HaloInputError(f"--{option} and --output must be two files", path=path)
    if arguments.seed < 0:
        raise HaloInputError("--seed must be 0 or more", found=arguments.seed)
    if arguments.clip_low is not None and arguments.clip_high is None:
        raise HaloInputError("--clip-low needs an upper end too", found=arguments.clip_low,
                             hint=f"--clip-low {arguments.clip_low:g} --clip-high {abs(arguments.clip_low):g}")


def _generator(name):
    """Return the generator of a file, the one of a name whose weights ship, or one that needs no training."""
    if Path(name).is_file() or (name not in generators and Path(name).suffix):
        model = load(name)
        if not isinstance(model, HaloGenerator):
            raise HaloInputError(f"this file holds a {type(model).__name__}, which makes no images", path=name,
                                 hint="a file of halopy train --generator")
        return model
    if name in classifiers and name not in generators:
        raise HaloInputError(f"{name} is a classifier, and makes no images",
                             hint=f"one of the generators: {', '.join(generators)}")
    if not generators[name].trainable:
        return generators.create(name)
    try:
        return generators.pretrained(name)
    except UnknownModelError:
        raise HaloInputError(f"{name} must be trained before it makes images",
                             hint=f"halopy train --generator {name} --cutouts PATH -o {name}.safetensors, then --model "
                                  f"{name}.safetensors") from None


def _settled(model, texts, name):
    """Return the model with other settings: any of one that is not trained, else those of the sampling."""
    free = None if not model.trainable else getattr(model, "sampling_settings", ())
    for key, value in settings_of(type(model), texts, name).items():
        if free is not None and key not in free:
            raise HaloInputError(f"{key} is a setting of the training, and that is done", found=value,
                                 hint=f"--set for {', '.join(free)}" if free else "without --set")
        setattr(model, key, value)
    return model


def _asked(arguments):
    """Return the conditions that the options name: so many images of each label."""
    if arguments.number is None:
        raise HaloInputError("-n says how many images of each label are made", hint="-n 100")
    if arguments.number < 1:
        raise HaloInputError("-n must be 1 or more", found=arguments.number)
    labels = arguments.label or ["halo"]
    if len(set(labels)) < len(labels):
        raise HaloInputError("--label names each label once", found=" ".join(labels), hint="a larger -n")
    for label in labels:
        if label not in LABELS:
            raise HaloInputError(f"--label takes labels: {', '.join(LABELS)}", found=label)
    table = QTable({"label": np.repeat(labels, arguments.number)})
    if arguments.grade is not None:
        if arguments.grade not in GRADES:
            raise HaloInputError(f"--grade is one of {', '.join(GRADES)}", found=arguments.grade)
        table["grade"] = [arguments.grade] * len(table)
    for name in ("snr", "frequency", "rms"):
        value = getattr(arguments, name)
        if value is not None:
            table[name] = np.full(len(table), value) if name == "snr" else _column(name, value, len(table))
    return table


def _column(name, value, n):
    """Return ``n`` times what an option says, with its unit."""
    try:
        quantity = u.Quantity(value)
    except (TypeError, ValueError):
        quantity = u.Quantity([])
    if not quantity.isscalar:
        raise HaloInputError(f"--{name} takes a number with a unit", found=value, hint=f"--{name} 20mJy/beam")
    unit = UNITS[name] if quantity.unit == u.dimensionless_unscaled else quantity.unit
    return np.full(n, quantity.value) * unit


def _table(arguments):
    """Return the conditions in a file, a row an image."""
    for name in ("label", "grade", "snr", "frequency", "rms", "number"):
        if getattr(arguments, name) is not None:
            option = "-n" if name == "number" else f"--{name}"
            raise HaloInputError(f"--conditions says what each image is to be, {option} says it for all",
                                 found=getattr(arguments, name), hint="one of the two")
    read, path = read_table(arguments.conditions)
    table = QTable(read)
    if len(table) == 0:
        raise HaloInputError("this table has no rows", path=path)
    return table


def _known(model, table, arguments):
    """Return the columns that are conditions of a model, or None; an option that is no condition is an error."""
    known = dict.fromkeys((*model.conditions, *model.optional_conditions, *getattr(model, "text_conditions", ())))
    has = f"it has {', '.join(known) or 'none'}"
    left = [name for name in table.colnames if name not in known]
    for name in left:
        if arguments.conditions is None and getattr(arguments, name) is not None:
            raise HaloInputError(f"{arguments.model} has no condition {name!r}; {has}", found=getattr(arguments, name),
                                 hint=f"without --{name}")
    if left and arguments.conditions is not None:
        warnings.warn(f"{arguments.conditions}: not used, as {arguments.model} has no such conditions: "
                      f"{', '.join(left)}; {has}", HalopyWarning, stacklevel=2)
    missing = [name for name in model.conditions if name not in table.colnames]
    if missing:
        raise HaloInputError(f"{arguments.model} needs the condition {missing[0]!r}", path=arguments.conditions,
                             found=table.colnames, hint="--conditions with such a column")
    if len(left) == len(table.colnames):
        return None
    return QTable({name: _plain(table[name], name) for name in table.colnames if name in known})


def _plain(column, name):
    """Return text as plain text, and numbers without a unit with that of their condition."""
    kind = getattr(column, "dtype", np.dtype(float)).kind
    if kind in "OSU":
        return [printable(text) for text in np.ma.filled(np.ma.asarray(column).astype(object), "")]
    if name in UNITS and kind in "iuf" and getattr(column, "unit", None) is None:
        return np.ma.filled(np.ma.asarray(column).astype(float), np.nan) * UNITS[name]
    return column


def _made(model, n, conditions, arguments):
    """Return the images that are asked for, clipped where that is."""
    def sample(n):
        try:
            return model.sample(n, conditions=None if conditions is None else conditions[:n], rng=arguments.seed)
        except HaloInputError as error:
            error.path = arguments.conditions if error.path is None else error.path
            raise

    if arguments.clip_high is None:
        return sample(n)
    ends = {"low": arguments.clip_low, "high": arguments.clip_high}
    # What cannot be clipped is said before all of them are made.
    clip(sample(1), **ends)
    return clip(sample(n), **ends)


def _summary(made, model, name):
    """Return lines: how many of which label, in which unit, by which model and weights."""
    labels, counts = [], []
    if "label" in made.table.colnames:
        labels, counts = np.unique(np.asarray(made.table["label"]).astype(str), return_counts=True)
    shares = ", ".join(f"{count} {label}" for label, count in zip(labels, counts, strict=True))
    _, ny, nx = made.shape
    unit = "no unit" if made.unit == u.dimensionless_unscaled else str(made.unit)
    weights = f"weights {model.weights_id}" if model.weights_id else "no weights"
    return [f"{len(made)} images of {ny} x {nx} pixels ({unit}): {shares or 'no labels'}",
            f"made by {type(model).__name__} ({name}, {weights})"]
