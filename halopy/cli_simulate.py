"""What ``halopy simulate`` does: cutouts in numbered files, or a field with its truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy import simulate as sky
from halopy.cutouts import remove_unfinished, write_atomically
from halopy.errors import HaloInputError
from halopy.io.cache import alone_in
from halopy.tables import table_of

__all__ = ["simulate"]

FIELD_FILES = ("field.fits", "diffuse.fits", "truth.ecsv", "targets.ecsv")


def simulate(arguments, *, progress=None):
    """Run ``halopy simulate``.

    Parameters
    ----------
    arguments : `argparse.Namespace`
        As the command line's parser makes it.
    progress : callable, optional
        Called with an iterable and returning it, such as `tqdm.tqdm`.

    Returns
    -------
    str
        What to tell the user; empty where he asked for quiet.
    """
    only = {"number": ("size", "chunk"), "field": ("clusters", "overwrite")}
    for mode, names in only.items():
        for name in names:
            value = getattr(arguments, name)
            # A number of 0 equals False, but was asked for.
            if getattr(arguments, mode) is None and not (value is None or value is False):
                raise HaloInputError(f"--{name} belongs to {'-n' if mode == 'number' else '--field'}", found=value)
    settings = _settings(arguments)
    return (_field if arguments.number is None else _cutouts)(arguments, settings, progress)


def _settings(arguments):
    settings = {"survey": arguments.survey}
    if arguments.mix is not None:
        settings["mix"] = _mix(arguments.mix)
    if arguments.faintest is not None:
        settings["faintest"] = arguments.faintest * u.mJy
    if arguments.relation is not None:
        settings["relation"] = arguments.relation
    if arguments.clean:
        settings["artefacts"] = None
    if arguments.clip_high is not None:
        settings["clip"] = (arguments.clip_low, arguments.clip_high)
    elif arguments.clip_low is not None:
        raise HaloInputError("--clip-low needs an upper end too", found=arguments.clip_low,
                             hint=f"--clip-low {arguments.clip_low:g} --clip-high {abs(arguments.clip_low):g}")
    if arguments.seed < 0:
        raise HaloInputError("--seed must be 0 or more", found=arguments.seed)
    return settings


def _mix(text):
    shares = [part.partition("=") for part in text.split(",")]
    try:
        mix = {label.strip(): float(share) for label, _, share in shares}
    except ValueError:
        mix = {}
    if len(mix) != len(shares):
        raise HaloInputError("--mix takes a share for each label, once", found=text, hint="--mix halo=0.5,none=0.5")
    return mix


def _shape(option, text):
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) not in (1, 2) or min(sizes) < 1:
        raise HaloInputError(f"{option} takes one or two numbers of pixels", found=text, hint=f"{option} 64")
    return sizes[0], sizes[-1]


def _cutouts(arguments, settings, progress):
    if arguments.size is not None:
        settings["shape"] = _shape("--size", arguments.size)
    chunk = {} if arguments.chunk is None else {"chunk": arguments.chunk}
    paths = sky.write_cutouts(arguments.output, arguments.number, settings=settings, rng=arguments.seed,
                              progress=progress, **chunk)
    if arguments.quiet:
        return ""
    columns = [_columns(path) for path in paths]
    files = [str(paths[0])] if len(paths) == 1 else [f"{paths[0]} to {paths[-1].name}, {len(paths)} files"]
    files.append(str(Path(arguments.output) / "cutouts.json"))
    return "\n".join([*_summary(*(np.concatenate(parts) for parts in zip(*columns, strict=True))), "", *files])


def _columns(path):
    """Label, flux and S/N of the cutouts in a file, without their pixels."""
    from astropy.io import fits

    with fits.open(path) as hdus:
        table = table_of(hdus["CUTOUTS"])
    return np.asarray(table["label"]), table["flux"].to_value(u.mJy), np.asarray(table["snr"])


def _field(arguments, settings, progress):
    folder = Path(arguments.output)
    for name in FIELD_FILES:
        if (folder / name).exists() and not arguments.overwrite:
            raise HaloInputError("this file exists", path=folder / name, hint="--overwrite, or another folder")
    if arguments.clusters is not None:
        settings["clusters"] = arguments.clusters
    image, truth = sky.field(_shape("--field", arguments.field), rng=arguments.seed, **settings)
    main = truth[truth["main"]]
    position = main["position"].icrs
    targets = QTable({"name": main["name"], "ra": position.ra.to(u.deg), "dec": position.dec.to(u.deg),
                      "label": main["class"], "redshift": main["redshift"]})
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HaloInputError(f"cannot make this folder: {error.strerror}", path=folder) from error
    with alone_in(folder):
        for name in FIELD_FILES:
            remove_unfinished(folder / name)
        image.write(folder / "field.fits", overwrite=True)
        sky.diffuse_part(image).write(folder / "diffuse.fits", overwrite=True)
        for name, table in (("truth.ecsv", truth), ("targets.ecsv", targets)):
            write_atomically(folder / name, lambda temporary, table=table: table.write(temporary, format="ascii.ecsv"))
    if arguments.quiet:
        return ""
    summary = _summary(np.asarray(main["class"]), main["flux"].to_value(u.mJy))
    return "\n".join([*summary, "", *(str(folder / name) for name in FIELD_FILES)])


def _summary(label, flux, snr=None):
    """A line for each label: how many, and the medians of flux and S/N."""
    lines = [f"{'label':<14}{'number':>10}{'flux / mJy':>14}" + (f"{'S/N':>10}" if snr is not None else "")]
    for name in [name for name in sky.MIX if (label == name).any()]:
        here = label == name
        empty = not (flux[here] > 0).any()
        line = f"{name:<14}{here.sum():>10}" + (f"{'-':>14}" if empty else f"{np.median(flux[here]):>14.1f}")
        if snr is not None:
            line += f"{'-':>10}" if empty else f"{np.median(snr[here]):>10.1f}"
        lines.append(line)
    return lines
