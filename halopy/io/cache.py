"""The cache of downloaded files: whole, checked, and safe with many processes at work in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path

from halopy.cutouts import write_atomically
from halopy.errors import HaloInputError

__all__ = ["Cache", "alone_in", "file_lock", "is_offline", "safe_name", "sha256_of", "try_lock"]

_LONGEST_LOCK = 1800.0
_FOLDER_LOCK = "unfinished.lock"


class Cache:
    """A folder of downloaded files, each with a record of what it is and where it came from.

    A file gets its name, which holds part of its sha256, only when it is complete and checked; the record that
    points to it is written after it, in one step. A process that is killed leaves no entry, and two that fetch
    the same thing at once cannot mix their files. What is found is compared with the recorded sha256: a file
    that was changed or cut short counts as not there. Failures are never kept.

    Parameters
    ----------
    folder : path-like, optional
        Default: the environment variable ``HALOPY_CACHE``, else halopy's folder among the user's caches
        (``~/.cache/halopy`` on Linux). It is made when the first file is kept.

    Examples
    --------
    >>> from halopy.io.cache import Cache
    >>> Cache("mine").find("skyview", "nothing-yet") is None
    True
    """

    def __init__(self, folder=None):
        self.folder = folder

    def __repr__(self):
        return "Cache()" if self.folder is None else f"Cache({str(self.folder)!r})"

    @property
    def path(self):
        """The folder that is meant."""
        if self.folder is not None:
            return Path(self.folder)
        if os.environ.get("HALOPY_CACHE"):
            return Path(os.environ["HALOPY_CACHE"])
        import pooch

        return Path(pooch.os_cache("halopy"))

    def _record(self, provider, key):
        return self.path / safe_name(provider) / f"{key}.json"

    def find(self, provider, key):
        """Return (path, record) of what is kept under a key, or None.

        Parameters
        ----------
        provider, key : str

        Returns
        -------
        tuple or None
        """
        path = self._record(provider, key)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            file = path.parent / Path(str(record["file"])).name
            if file.stat().st_size != record["size"] or sha256_of(file) != record["sha256"]:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return file, record

    @contextlib.contextmanager
    def lock(self, provider, key):
        """Hold a key, so that other processes and threads wait instead of fetching the same thing again."""
        folder = self._folder(provider)
        with file_lock(folder / f"{key}.lock"):
            yield

    def add(self, provider, key, fetch, *, suffix=".fits"):
        """Fetch a file and keep it.

        Parameters
        ----------
        provider, key : str
        fetch : callable
            Called with a path to write to; returns a dict that is kept as the record, with ``sha256``. What it
            raises leaves no trace.
        suffix : str, optional
            Ending of the file's name, default ``".fits"``.

        Returns
        -------
        tuple
            (path, record)
        """
        folder = self._folder(provider)
        result = {}

        def write(temporary):
            result["record"] = fetch(temporary)
            result["size"] = os.stat(temporary).st_size

        # The name depends on the content, which is known only after the download.
        holding = folder / f"{key}.{os.getpid()}-{time.monotonic_ns()}.part"
        try:
            write_atomically(holding, write)
            record = result["record"] | {"size": result["size"]}
            file = folder / f"{key}-{record['sha256'][:12]}{suffix}"
            os.replace(holding, file)
        finally:
            holding.unlink(missing_ok=True)
        record["file"] = file.name
        text = json.dumps(record, indent=1, sort_keys=True) + "\n"
        write_atomically(self._record(provider, key), lambda path: Path(path).write_text(text, encoding="utf-8"))
        return file, record

    def _folder(self, provider):
        folder = self._record(provider, "").parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HaloInputError(f"cannot make the cache folder: {error.strerror}", path=folder,
                                 hint="cache=, or HALOPY_CACHE") from error
        return folder


def is_offline(offline=None):
    """Say whether the network is forbidden: by the argument, else by the environment variable ``HALOPY_OFFLINE``."""
    if offline is not None:
        return bool(offline)
    return os.environ.get("HALOPY_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def safe_name(text, *, longest=80):
    """Return a text as part of a file's name on any system: letters, digits, point, plus, hyphen, underscore."""
    name = re.sub(r"[^A-Za-z0-9.+-]+", "_", str(text)).strip("._")[:longest]
    return name or "unnamed"


def sha256_of(path):
    """Return the sha256 of a file, in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def file_lock(path, *, timeout=_LONGEST_LOCK):
    """Hold a file against other processes and threads.

    The lock ends with the process, however that ends. Where the file system knows no locks the work goes on
    without: files are moved into place whole, so that all that is lost is the saving of a second download.

    Parameters
    ----------
    path : path-like
        Made if need be, and left there: removing a lock file would let two hold it.
    timeout : float, optional
        Seconds after which the work goes on without the lock, default 1800.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise HaloInputError(f"cannot write here: {error.strerror}", path=path) from error
    try:
        end, pause = time.monotonic() + timeout, 0.01
        while not try_lock(handle) and time.monotonic() < end:
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
        yield
    finally:
        os.close(handle)  # which frees the lock


@contextlib.contextmanager
def alone_in(folder):
    """Hold a folder for one run that writes into it.

    Parameters
    ----------
    folder : path-like
        It must be there. A lock file lies in it as long as the run lasts; that of a killed one is none.

    Raises
    ------
    HaloInputError
        Another process holds it, or nothing can be written there.
    """
    path = Path(folder) / _FOLDER_LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise HaloInputError(f"cannot write here: {error.strerror}", path=folder) from error
    try:
        if not (try_lock(handle) and _is_at(handle, path)):
            raise HaloInputError("another process writes into this folder", path=folder,
                                 hint="wait for it, or another folder")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _is_at(handle, path):
    """Whether an open file is still there: one that its last holder has removed is no lock any more."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def try_lock(handle):
    """Lock an open file without waiting; return whether it is held, or cannot be locked on this file system at all."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
