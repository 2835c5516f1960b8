"""Sets of simulated cutouts that do not fit in memory: numbered files, written one by one."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import inspect
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning

from halopy.cutouts import CutoutSet, remove_unfinished, write_atomically
from halopy.errors import HaloInputError
from halopy.image import ClusterImage
from halopy.io.cache import alone_in
from halopy.own_fits import open_own
from halopy.simulate.survey_cutouts import cutouts

__all__ = ["read_cutouts", "write_cutouts"]

SCHEMA = 1
PLAN = "cutouts.json"


def write_cutouts(folder, n, *, chunk=8192, settings=None, rng=0, progress=None):
    """Simulate any number of cutouts, and write them to numbered files as they come.

    Only one file's cutouts are in memory at a time. A run that was stopped goes on where it stopped when
    it is called again with the same arguments, and what it makes does not depend on where that was: file
    k is drawn from ``default_rng([seed, k])``. More cutouts can be asked for later where ``n`` was a
    multiple of ``chunk``.

    Parameters
    ----------
    folder : str or path-like
        Where to write; made where it is not there. It gets ``cutouts-00000.fits`` and so on
        (`CutoutSet.write`), and ``cutouts.json``, which says how they were made.
    n : int
        How many cutouts in all.
    chunk : int, optional
        Cutouts a file, default 8192: 140 MB of 64 × 64 pixels, and about 40 MB of sources.
    settings : mapping, optional
        Keyword arguments of `halopy.simulate.cutouts`, without ``rng``.
    rng : int, optional
        Seed, default 0. It must be an integer: a generator could not be asked for the same numbers
        again.
    progress : callable, optional
        Called with an iterable, of the numbers of the files, and returning it, such as `tqdm.tqdm`.

    Returns
    -------
    list of `~pathlib.Path`
        The files, in order.

    Raises
    ------
    HaloInputError
        For a folder that holds cutouts made in another way (the error names the difference), a file in it
        that cannot be read, a setting that is unknown, or cannot be described in ``cutouts.json``; for one into
        which another process writes.

    Examples
    --------
    >>> import tempfile
    >>> from halopy import simulate
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = simulate.write_cutouts(folder, 100, chunk=40, settings={"mix": {"halo": 1, "none": 1}}, rng=1)
    ...     [len(cutouts) for cutouts in simulate.read_cutouts(folder)]
    [40, 40, 20]
    """
    for name, value, least in (("n", n, 1), ("chunk", chunk, 1), ("rng", rng, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            what = "the seed of the set, so that it can be continued," if name == "rng" else name
            raise HaloInputError(f"{what} must be a whole number, {least} or more", found=value, keyword=name)
    n, chunk, seed = int(n), int(chunk), int(rng)
    settings = dict(settings or {})
    plan = {"schema": SCHEMA, "halopy": importlib.metadata.version("halopy-radio"), "n": n, "chunk": chunk,
            "seed": seed, "settings": _described(settings)}
    positions = settings.get("positions")
    if positions is not None and np.shape(positions) != (n,):
        raise HaloInputError(f"positions must be a SkyCoord of {n} positions", found=np.shape(positions))
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HaloInputError(f"cannot make this folder: {error.strerror}", path=folder) from error
    with alone_in(folder):
        remove_unfinished(folder / PLAN)
        known = _compared(folder, plan)
        if not known and any(folder.glob("cutouts-*.fits")):
            raise HaloInputError(f"this folder holds cutouts, but no {PLAN} that says which", path=folder,
                                 hint="another folder")
        paths, numbers = _paths(folder, n, chunk), _numbers(n, chunk)
        for k in progress(range(len(paths))) if progress is not None else range(len(paths)):
            if paths[k].exists():
                _check(paths[k], numbers[k])
                continue
            here = {} if positions is None else {"positions": positions[k * chunk:k * chunk + numbers[k]]}
            made = cutouts(numbers[k], rng=np.random.default_rng([seed, k]), **(settings | here))
            if not known:
                # Not before it is known that the settings can be used.
                _write_plan(folder, plan)
                known = True
            remove_unfinished(paths[k])
            made.write(paths[k])
            del made  # or it would be in memory beside the next one
    return paths


def read_cutouts(folder):
    """Read what `write_cutouts` wrote, one file at a time.

    Parameters
    ----------
    folder : str or path-like

    Returns
    -------
    iterator of CutoutSet
        In order; each is read when it is asked for.

    Raises
    ------
    HaloInputError
        At once, for a folder that is none of `write_cutouts` or not complete.

    Examples
    --------
    >>> for cutouts in simulate.read_cutouts("training-set"):  # doctest: +SKIP
    ...     print(len(cutouts))
    """
    folder = Path(folder)
    plan = _read_plan(folder)
    if plan is None:
        raise HaloInputError(f"this folder has no {PLAN}: write_cutouts has not written it", path=folder)
    paths = _paths(folder, plan["n"], plan["chunk"])
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise HaloInputError(f"{len(missing)} of {len(paths)} files are missing", path=folder, found=missing[0],
                             hint="write_cutouts with the same arguments goes on where it stopped")
    for path, number in zip(paths, _numbers(plan["n"], plan["chunk"]), strict=True):
        _check(path, number)
    return (CutoutSet.read(path) for path in paths)


def _paths(folder, n, chunk):
    return [folder / f"cutouts-{k:05d}.fits" for k in range(-(-n // chunk))]


def _numbers(n, chunk):
    """How many cutouts each file holds."""
    return [min(chunk, n - start) for start in range(0, n, chunk)]


def _compared(folder, plan):
    """Whether the folder has a plan, which is then the same, or a shorter one that is made longer."""
    old = _read_plan(folder)
    if old is None:
        return False
    differ = [f"{name} {old.get(name)}, not {plan[name]}" for name in ("schema", "halopy", "chunk", "seed")
              if old.get(name) != plan[name]]
    was, now = dict(old.get("settings", {})), plan["settings"]
    differ += [f"{name} {was.get(name)}, not {now.get(name)}" for name in {**now, **was}
               if was.get(name) != now.get(name)]
    if differ or plan["n"] < old["n"]:
        differ = differ or [f"n {old['n']}, not {plan['n']}"]
        raise HaloInputError("the cutouts in this folder were made with " + "; ".join(differ), path=folder,
                             hint="another folder")
    if plan["n"] > old["n"]:
        if old["n"] % plan["chunk"]:
            full = -(-old["n"] // plan["chunk"]) * plan["chunk"]
            raise HaloInputError(f"a set of {old['n']} cutouts cannot be made longer, as its last file is not full "
                                 f"({full} would be)", path=folder, hint="another folder")
        _write_plan(folder, plan)
    return True


def _read_plan(folder):
    path = folder / PLAN
    if not path.exists():
        return None
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if min(plan["n"], plan["chunk"]) < 1 or not isinstance(plan["settings"], dict):
            raise ValueError("n and chunk must be positive, settings a table")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise HaloInputError(f"this file was not written by write_cutouts: {error}", path=path) from error
    return plan


def _write_plan(folder, plan):
    def write(temporary):
        Path(temporary).write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")

    write_atomically(folder / PLAN, write)


def _check(path, number):
    """See by its headers that a file is complete and holds as many cutouts as it should."""
    try:
        # astropy only warns of a file that was cut short.
        with open_own(path) as stream, warnings.catch_warnings(action="error", category=AstropyUserWarning), \
                fits.open(stream, memmap=False) as hdus:
            header = hdus[0].header
            found = header["NAXIS3"] if header.get("HALOPY") == "CutoutSet" else "no CutoutSet"
            len(hdus)
    except Exception as error:  # astropy answers a bad file with some fifteen kinds of exception
        raise HaloInputError(f"this file cannot be read: {error}", path=path, hint="delete it, and write it again"
                             ) from error
    if found != number:
        raise HaloInputError(f"this file must hold {number} cutouts", path=path, found=found,
                             hint="delete it, and write it again")


def _described(settings):
    """All arguments of the simulator as text that is the same only if they are."""
    known = {name: parameter.default for name, parameter in inspect.signature(cutouts).parameters.items()
             if name not in ("n", "rng")}
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise HaloInputError(f"settings are those of simulate.cutouts: {', '.join(known)}", found=unknown[0],
                             hint=f"write_cutouts(..., {unknown[0]}=...)" if unknown[0] in ("n", "rng") else None)
    return {name: _text(settings.get(name, default)) for name, default in known.items()}


def _text(value):
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, u.Quantity) and value.isscalar:
        return f"{float(value.value)!r} {value.unit}"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, Mapping):
        # In their order, which decides what is drawn.
        return "{" + ", ".join(f"{_text(name)}: {_text(part)}" for name, part in value.items()) + "}"
    if dataclasses.is_dataclass(value):
        parts = (f"{f.name}={_text(getattr(value, f.name))}" for f in dataclasses.fields(value) if f.repr)
        return f"{type(value).__name__}({', '.join(parts)})"
    return f"{type(value).__name__} {_digest(value)}"


def _digest(value):
    """A sha256 of what a table, positions or an image hold."""
    if isinstance(value, SkyCoord):
        position = value.icrs
        arrays = [position.ra.deg, position.dec.deg]
    elif isinstance(value, ClusterImage):
        arrays = [value.data, value.wcs.to_header_string(relax=True), str(value.unit), repr(value.beam)]
    elif isinstance(value, QTable):
        arrays = [part for name in value.colnames for part in (name, _digest(value[name]))]
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biufUS":
        value = np.ma.filled(value)
        arrays = [str(getattr(value, "unit", None)), value.dtype.str, str(value.shape), np.asarray(value)]
    else:
        raise HaloInputError(f"a setting of this type cannot be described in {PLAN}", found=type(value).__name__)
    digest = hashlib.sha256()
    for array in arrays:
        part = array.encode() if isinstance(array, str) else np.ascontiguousarray(array).tobytes()
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()
