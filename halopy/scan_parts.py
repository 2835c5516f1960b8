"""What a search of many images has found so far, kept image by image, so that a stopped search goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import warnings
from multiprocessing.connection import wait
from pathlib import Path

from astropy.io import fits
from astropy.table import QTable

from halopy.cutouts import CutoutSet, remove_unfinished, write_atomically
from halopy.errors import HaloInputError, HalopyWarning, PluginError
from halopy.image import ClusterImage
from halopy.io.cache import alone_in
from halopy.io.fits import read_image
from halopy.io.write import write_image
from halopy.own_fits import open_own, with_checksums
from halopy.tables import table_hdu, table_of

__all__ = ["Part", "Parts", "apart", "unfinished"]

FOLDER, PLAN = "unfinished", "search.json"
PLUGIN, UNKEPT = 3, 4
"""Exit codes of a process: a plugin cannot be used; the results of the image cannot be kept."""


@dataclasses.dataclass
class Part:
    """What the search of one image gave.

    Parameters
    ----------
    name : str
        Of the image.
    rows : list of int, optional
        The numbers of the targets inside it; None for a blind search.
    failure, reason : str, optional
        Why the image could not be searched; why there is no result in it.
    table : `~astropy.table.QTable`, optional
        A row for each target inside, without the columns that are those of the targets.
    carried : list of str
        The names of those columns.
    best : list of int
        The rows of the table that pictures are made of.
    cutouts, residuals : CutoutSet, optional
        Of these rows.
    image, significance : ClusterImage, optional
        The image, averaged down; the map of a blind search.
    """

    name: str
    rows: list | None = None
    failure: str | None = None
    reason: str | None = None
    table: QTable | None = None
    carried: list = dataclasses.field(default_factory=list)
    best: list = dataclasses.field(default_factory=list)
    cutouts: CutoutSet | None = None
    residuals: CutoutSet | None = None
    image: ClusterImage | None = None
    significance: ClusterImage | None = None


class Parts:
    """A folder of parts. Each is there as a whole or not at all.

    Parameters
    ----------
    folder : path-like
        It must be there.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def path(self, number):
        """The folder of one part."""
        return self.folder / f"{number:05d}"

    def read(self, number):
        """Return a part; None where it is not there, or damaged, and has to be made again."""
        path = self.path(number)
        if not path.is_dir():
            return None
        try:
            part = Part(**json.loads((path / "part.json").read_text(encoding="utf-8")))
            known = part.table
            part.table = None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HalopyWarning)  # it was said when the image was read
                for name in ("image", "significance"):
                    if (meta := getattr(part, name)) is not None:
                        image = read_image(path / f"{name}.fits")
                        setattr(part, name, image.replace(meta=_joined(meta, image.meta)))
            for name in ("cutouts", "residuals"):
                if (path / f"{name}.fits").exists():
                    setattr(part, name, CutoutSet.read(path / f"{name}.fits"))
            if (path / "table.fits").exists():
                with open_own(path / "table.fits") as stream, fits.open(stream, memmap=False) as hdus:
                    part.table = table_of(hdus["TABLE"])
                part.table.meta.update(known)
        except Exception:  # whatever is wrong with it, it can be made again
            shutil.rmtree(path, ignore_errors=True)
            return None
        return part

    def write(self, number, part):
        """Keep a part.

        Raises
        ------
        HaloInputError
            There is no place for it, or it holds what no FITS file can.
        """
        path = self.path(number)
        temporary = path.with_name(f".{path.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        said = {name: getattr(part, name) for name in ("name", "rows", "failure", "reason", "carried", "best")}
        try:
            temporary.mkdir()
            for name in ("cutouts", "residuals"):
                if getattr(part, name) is not None:
                    getattr(part, name).write(temporary / f"{name}.fits")
            for name in ("image", "significance"):
                if getattr(part, name) is not None:
                    write_image(getattr(part, name), temporary / f"{name}.fits")
                    said[name] = _plain(getattr(part, name).meta)
            if part.table is not None:
                said["table"] = {key: value for key, value in _plain(part.table.meta).items() if value is not None}
                hdus = with_checksums([fits.PrimaryHDU(), table_hdu(part.table, "TABLE")])
                write_atomically(temporary / "table.fits", lambda file: hdus.writeto(file))
            write_atomically(temporary / "part.json", lambda file: Path(file).write_text(json.dumps(said), "utf-8"))
            shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
        except HaloInputError:
            raise
        except Exception as error:  # columns of a catalogue or of a plugin may be of any kind
            raise HaloInputError(f"the results of this image cannot be kept: {error}", path=path) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _plain(meta):
    """What JSON can hold; None for the rest."""
    held = {key: value if isinstance(value, (str, int, float)) else None for key, value in meta.items()}
    return held | ({"shape": list(meta["shape"])} if "shape" in meta else {})


def _joined(held, read):
    """The meta that an image had: writing and reading it adds to its header."""
    meta = {key: read.get(key) if value is None else value for key, value in held.items()}
    return meta | ({"shape": tuple(held["shape"])} if "shape" in held else {})


def apart(search, parts, number, *, path, seconds):
    """Search an image in a process of its own, which may hang or die.

    Parameters
    ----------
    search : callable
        Returns a `Part`. A failed one is returned, but not kept.
    parts : Parts
        Where the process leaves it.
    number : int
    path : path-like
        Of the image, for the message.
    seconds : float
        Time after which the process is ended.

    Returns
    -------
    Part

    Raises
    ------
    HaloInputError
        The system has no ``fork``; the part cannot be kept.
    PluginError
        As it was raised in the other process.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise HaloInputError("a limit of time needs a system with fork, such as Linux", found=sys.platform)

    def work():
        _end_with_the_parent(seconds)
        try:
            part = search()
        except PluginError:
            os._exit(PLUGIN)
        try:
            parts.write(number, part)
        except HaloInputError as error:
            with contextlib.suppress(HaloInputError):
                parts.write(number, Part("", failure=str(error)))
            os._exit(UNKEPT)

    child = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    child.start()
    try:
        child.join(seconds)
        alive = child.is_alive()
    finally:
        child.kill()
        child.join()
    part = parts.read(number)
    if part is not None and part.failure is not None:
        shutil.rmtree(parts.path(number), ignore_errors=True)
    if child.exitcode == UNKEPT:
        raise HaloInputError(f"the results of {path} cannot be kept" if part is None else part.failure)
    if part is not None:
        return part
    if child.exitcode == PLUGIN:
        return search()  # which raises it here
    what = f"took longer than {seconds:g} s" if alive else f"ended its process ({_death(child.exitcode)})"
    return Part("", failure=str(HaloInputError(f"the search {what}", path=path)))


def _end_with_the_parent(seconds):
    """Let the parent alone end this process, but let it end with the parent, too, however that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal interrupts both
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + 10)  # ends what never lets the thread below run
    parent = multiprocessing.parent_process().sentinel
    if "torch" in sys.modules:  # the other threads that it may have had are not in this process: it would wait for them
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=lambda: wait([parent]) and os.kill(os.getpid(), signal.SIGKILL), daemon=True).start()


def _death(code):
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


@contextlib.contextmanager
def unfinished(folder, plan, *, results, overwrite):
    """Hold a folder for one search, and give the `Parts` of an equal one that was stopped.

    The parts lie in the folder ``unfinished`` until the search is done. A search that is stopped in any way, even
    by ``kill -9``, is continued by the same call.

    Parameters
    ----------
    folder : path-like
        Made where it does not exist.
    plan : dict
        What the results depend on, for JSON.
    results : sequence of path-like
        Files that must not be there, unless they are left of the stopped search.
    overwrite : bool
        Whether they may be replaced, and a stopped search be given up.

    Raises
    ------
    HaloInputError
        Another process is at work in the folder, a result is there, or what was stopped is another search.
    """
    folder = Path(folder)
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HaloInputError(f"cannot make this folder: {error.strerror}", path=folder) from error
    parts = folder / FOLDER
    try:
        with alone_in(folder):
            _begin(parts, json.loads(json.dumps(plan, default=str)), results, overwrite)
            try:
                yield Parts(parts)
            except BaseException:
                if not any(parts.glob("[0-9]*")) and not any(path.exists() for path in results):
                    _clear(parts)  # there is nothing to go on with
                raise
            _clear(parts)
    finally:
        if new:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def _begin(parts, plan, results, overwrite):
    path, old = parts / PLAN, None
    if path.exists():
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            old = {}
    if old is not None and old != plan and not overwrite:
        keyword, was = _difference(old, plan)
        raise HaloInputError("a search with other settings or files was stopped here", path=parts.parent,
                             keyword=keyword, found=was,
                             hint="the same command as then, --overwrite to give it up, or another folder")
    if old is None or old != plan:
        _clear(parts)
        for result in results:
            if result.exists() and not overwrite:
                raise HaloInputError("this file exists", path=result, hint="--overwrite, or another folder")
        try:
            parts.mkdir(exist_ok=True)
        except OSError as error:
            raise HaloInputError(f"cannot write here: {error.strerror}", path=parts) from error
        write_atomically(path, lambda file: Path(file).write_text(json.dumps(plan), encoding="utf-8"))
    for result in results:
        remove_unfinished(result)


def _difference(old, new):
    """Return the first name under which two plans differ, and what the old one has there."""
    name = next(name for name in {**new, **old} if new.get(name) != old.get(name))
    was, now = old.get(name), new.get(name)
    return _difference(was, now) if isinstance(was, dict) and isinstance(now, dict) else (name, was)


def _clear(parts):
    """Remove what a search has left, the plan last: until then it can go on. What is not ours stays."""
    if parts.is_dir():
        for path in parts.iterdir():
            if re.fullmatch(r"\.?\d{5,}", path.name):
                shutil.rmtree(path, ignore_errors=True)
        remove_unfinished(parts / PLAN)
        with contextlib.suppress(OSError):
            (parts / PLAN).unlink(missing_ok=True)
            parts.rmdir()
