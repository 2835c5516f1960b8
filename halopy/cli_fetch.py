"""What ``halopy fetch`` does: the image of each target into a folder, and a table of what came from where."""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table

from halopy.cutouts import write_atomically
from halopy.errors import HaloInputError, PluginError, ProviderError
from halopy.io import archive
from halopy.io.cache import safe_name, sha256_of
from halopy.io.candidates import printable
from halopy.io.catalog import read_targets
from halopy.io.folder import Folder, is_left_out
from halopy.io.votable import ONE_READER
from halopy.survey import surveys

__all__ = ["fetch"]

TABLE = "fetched.ecsv"
_COLUMNS = {"name": str, "ra": float, "dec": float, "file": str, "provider": str, "url": str, "sha256": str,
            "status": str, "message": str}
_GOOD = ("ok", "kept")
_SETTINGS = ("survey", "size", "provider", "folder")
_PAUSE = 2.0


def fetch(arguments, *, progress=None):
    """Run ``halopy fetch``.

    Parameters
    ----------
    arguments : `argparse.Namespace`
        As the command line's parser makes it.
    progress : callable, optional
        Called with an iterable that has a length and returning it, such as `tqdm.tqdm`.

    Returns
    -------
    text : str
        What to tell the user.
    failures : list of str
        What went wrong, one line each.
    ending : str
        ``"ok"``; ``"network"``: no image could be had, and the network or an archive is to blame; ``"partly"``.
    """
    if arguments.jobs < 1:
        raise HaloInputError("--jobs must be 1 or more", found=arguments.jobs)
    targets = read_targets(arguments.targets)
    survey, size, provider = surveys[arguments.survey], _size(arguments.size), _provider(arguments)
    folder = Path(arguments.output)
    settings = {"survey": survey.name, "size": f"{size.to_value(u.deg):.6g} deg", "provider": provider.name
                if provider is not None else next(iter(survey.archives), "none"),
                "folder": str(Path(provider.path).resolve()) if isinstance(provider, Folder) else "none"}
    if isinstance(provider, Folder) and folder.resolve() == Path(provider.path).resolve():
        raise HaloInputError("the images would be written into the folder that they are taken from", path=folder,
                             hint="another folder for --output")
    rows = _rows(targets, folder, settings, arguments.overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HaloInputError(f"cannot make this folder: {error.strerror}", path=folder) from error

    def one(row):
        position = SkyCoord(row["ra"], row["dec"], unit="deg")
        return _fetched(row, folder, lambda: archive.fetch(
            position, survey=survey, size=size, provider=provider, cache=arguments.cache, name=row["name"],
            offline=arguments.offline or None, refresh=arguments.overwrite))

    errors = _all(rows, one, folder, settings, arguments.jobs, progress)
    status = [row["status"] for row in rows]
    if errors and len(errors) == len(rows) and all(isinstance(error, HaloInputError) for error in errors):
        raise errors[0]  # what no target can have is a wrong option
    had = sum(word in _GOOD for word in status)
    failures = [f"{printable(row['name'])}: {row['message']}" for row in rows if row["status"] not in _GOOD]
    kept = f", {status.count('kept')} of them from before" if "kept" in status else ""
    text = f"{had} of {len(rows)} images of {survey.name} in {folder}{kept}\n{folder / TABLE}"
    if not had and "network" in status:
        return text, failures, "network"
    return text, failures, "partly" if failures else "ok"


def _size(text):
    try:
        size = u.Quantity(text)
        size = size * u.deg if size.unit == u.dimensionless_unscaled else size
        if not size.unit.is_equivalent(u.deg):
            raise TypeError
    except (TypeError, ValueError):
        raise HaloInputError("--size takes an angle", found=text, hint="--size 90arcmin") from None
    return size


def _provider(arguments):
    name, folder = arguments.provider, arguments.folder
    if name is None and folder is None:
        return None
    kind = archive.providers["folder" if name is None else name]
    if issubclass(kind, Folder):
        if folder is None:
            raise HaloInputError(f"--provider {name} needs a folder", hint="--folder DIR")
        return kind(path=folder)
    if folder is not None:
        raise HaloInputError("--folder is for the providers folder and datacentral", found=name)
    return kind()


def _rows(targets, folder, settings, overwrite):
    """One row a target: to be fetched, or kept from an earlier run into this folder."""
    before = {} if overwrite else _before(folder, settings)
    rows, taken = [], set()
    for name, position in zip(targets["name"], targets["position"].icrs, strict=True):
        stem, count = safe_name(name), 1
        # A search over this folder must not take Leo_V.fits for a map of Stokes V.
        stem += "_field" if is_left_out(f"{stem}.fits") else ""
        while (file := stem if count == 1 else f"{stem}-{count}").lower() in taken:
            count += 1
        taken.add(file.lower())
        row = dict.fromkeys(_COLUMNS, "") | {"name": str(name), "ra": position.ra.deg, "dec": position.dec.deg,
                                             "file": f"{file}.fits", "provider": settings["provider"]}
        old = None if before is None else before.get(row["file"])
        if old is not None and _still_good(old, row, folder):
            row |= {key: old[key] for key in ("provider", "url", "sha256", "message")} | {"status": "kept"}
        elif not overwrite and (folder / row["file"]).exists() and (before is None or not _ours(folder / row["file"])):
            raise HaloInputError("this file exists, and no earlier halopy fetch has written it",
                                 path=folder / row["file"], hint="another folder, or --overwrite")
        elif not np.isfinite(row["ra"] + row["dec"]):
            row |= {"status": "error", "message": "this target has no position", "file": ""}
        rows.append(row)
    return rows


def _before(folder, settings):
    """The good rows of an earlier run, by file; None where there was none."""
    path = folder / TABLE
    if not path.exists():
        return None
    try:
        table = Table.read(path, format="ascii.ecsv")
        found = {key: str(table.meta[key]) for key in _SETTINGS}
        rows = [{key: kind(row[key]) for key, kind in _COLUMNS.items()} for row in table.filled("")]
    except Exception as error:  # the reader raises many kinds
        raise HaloInputError(f"this table cannot be read: {' '.join(str(error).split())[:200]}", path=path,
                             hint="another folder, or --overwrite") from error
    for key, value in found.items():
        if value != settings[key]:
            raise HaloInputError(f"the images in this folder were fetched with the {key} {value}", path=path,
                                 found=settings[key], hint="another folder, or --overwrite")
    return {row["file"]: row for row in rows if row["status"] in _GOOD}


def _still_good(old, row, folder):
    same = abs(old["dec"] - row["dec"]) < 1e-4 and abs(old["ra"] - row["ra"]) < 1e-4 and old["name"] == row["name"]
    try:
        return same and sha256_of(folder / old["file"]) == old["sha256"]
    except OSError:
        return False


def _ours(path):
    """Whether `fetch` has written a file: the user may have put images of his own beside them."""
    with open(path, "rb") as stream:
        return b"HISTORY fetched from " in stream.read(2**20)


def _fetched(row, folder, ask):
    """Fill in a row; return the error that was met, if any."""
    try:
        image = ask()
        path = folder / row["file"]
        with ONE_READER:
            image.write(path, overwrite=True)
        row.update(provider=image.meta["provider"], url=image.meta["url"], sha256=sha256_of(path), status="ok")
    except ProviderError as error:
        row.update(url=str(error.url or ""), status="outside" if error.cause == "outside" else "network",
                   message=printable(str(error)))
        return error
    except PluginError:
        raise  # a missing package is missing for every target
    except Exception as error:  # one bad target must never stop the others
        text = printable(str(error))
        known = isinstance(error, HaloInputError)
        row.update(status="error", message=text if known else f"{type(error).__name__}: {text}")
        return error
    return None


def _all(rows, one, folder, settings, jobs, progress):
    """Fetch what is missing; the table is safe at any time, so that a stopped run can be continued."""
    missing = [row for row in rows if not row["status"]]
    for row in missing:
        row["status"] = "waiting"
    _write(rows, folder, settings)
    errors, last = [], time.monotonic()
    waiting, done = queue.SimpleQueue(), queue.SimpleQueue()
    for row in missing:
        waiting.put(row)
    # Daemons, which a pool has not: after an interruption nobody shall wait for a server that does not answer.
    for _ in range(min(jobs, len(missing))):
        threading.Thread(target=_work, args=(waiting, done, one), daemon=True).start()
    finished = _Counted((done.get() for _ in missing), len(missing))
    try:
        for error, fatal in finished if progress is None else progress(finished):
            if fatal is not None:
                raise fatal
            if error is not None:
                errors.append(error)
            if time.monotonic() - last > _PAUSE:
                _write(rows, folder, settings)
                last = time.monotonic()
    finally:
        while _next(waiting) is not None:
            pass
        _write(rows, folder, settings)
    return errors


def _work(waiting, done, one):
    """Take rows until there are none; what is done is (the error of the row, the error that ends everything)."""
    while (row := _next(waiting)) is not None:
        try:
            done.put((one(row), None))
        except BaseException as error:  # it is raised where the results are counted
            done.put((None, error))


def _next(waiting):
    try:
        return waiting.get_nowait()
    except queue.Empty:
        return None


class _Counted:
    """An iterator whose length is known, for a progress bar."""

    def __init__(self, items, count):
        self.items, self.count = items, count

    def __iter__(self):
        return iter(self.items)

    def __len__(self):
        return self.count


def _write(rows, folder, settings):
    table = Table({key: np.array([row[key] for row in rows], dtype=kind) for key, kind in _COLUMNS.items()},
                  meta=dict(settings))
    for key in ("ra", "dec"):
        table[key].unit = "deg"
    write_atomically(folder / TABLE, lambda temporary: table.write(temporary, format="ascii.ecsv"))
