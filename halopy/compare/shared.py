"""Work that several processes share through a folder, and that goes on where it was stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from halopy.cutouts import write_atomically
from halopy.errors import HaloInputError
from halopy.io.cache import try_lock

__all__ = ["Task", "read_result", "work"]

PAUSE = 0.5
"""Seconds between two looks for work that another process is to finish."""


@dataclass(frozen=True)
class Task:
    """Something to be made once.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file, ``.json``, that says that it was made; files beside it are written before it.
    make : callable
        Makes it, and returns what the file says, a dict.
    needs : tuple of `~pathlib.Path`
        Files that must be there before.
    """

    path: Path
    make: Callable
    needs: tuple = ()


def work(tasks, *, progress=None):
    """Make all that is not there yet; other processes may do the same at the same time.

    A task is locked while it is made, by a lock that ends with the process. So each is made once, a process that
    was killed leaves nothing to clear up, and what it had not finished is made by another.

    Parameters
    ----------
    tasks : sequence of Task
        In an order in which one process could make them.
    progress : bool, optional
        Whether a bar is shown; default: on a terminal.
    """
    from tqdm import tqdm

    folder = {task.path.parent for task in tasks}
    for path in folder:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HaloInputError(f"cannot make this folder: {error.strerror}", path=path) from error
    left = [task for task in tasks if not task.path.exists()]
    with tqdm(total=len(tasks), initial=len(tasks) - len(left), unit="part", leave=False,
              disable=None if progress is None else not progress) as bar:
        while left:
            made = False
            for task in left:
                if task.path.exists() or not all(path.exists() for path in task.needs):
                    continue
                with _locked(task.path) as held:
                    if held and not task.path.exists():
                        bar.set_description(task.path.stem.rpartition("-")[0])
                        _write(task.path, task.make())
                        bar.update()
                        made = True
            done = len(left)
            left = [task for task in left if not task.path.exists()]
            if not made and left:
                bar.update(done - len(left))
                time.sleep(PAUSE)
        bar.update(len(tasks) - bar.n)


def read_result(path, keys=()):
    """Return what a task that was made says, a dict with these keys.

    Raises
    ------
    HaloInputError
        The file is not one of a task.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        return result | {key: result[key] for key in keys}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise HaloInputError(f"not a result of a comparison: {error}", path=path,
                             hint="delete it: the next run makes it again") from error


def _write(path, result):
    text = json.dumps(result, allow_nan=False)
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


@contextmanager
def _locked(path):
    """Try to hold the lock of a task; gives whether it is held."""
    lock = path.with_suffix(".lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise HaloInputError(f"cannot write here: {error.strerror}", path=lock) from error
    held = False
    try:
        held = try_lock(handle)
        yield held
    finally:
        os.close(handle)
        if held:
            # Who opened it before makes at worst the same file once more.
            with suppress(OSError):
                lock.unlink()
