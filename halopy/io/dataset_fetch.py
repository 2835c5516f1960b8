"""Download the labelled MWA set, file by file, each with its hash."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import logging
import time
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from astropy.table import QTable

from halopy.errors import HaloInputError, ProviderError
from halopy.io.mwa_names import BANDS, chosen_bands, parse_name

__all__ = ["COMMIT", "fetch_mwa_halos", "mwa_registry"]

COMMIT = "ef0009a4cae58b1a44a309a1fbb11abe5578b2a8"
"""The commit of the repository whose files are fetched."""

BASE_URL = f"https://raw.githubusercontent.com/mishraashu6566/Radio-Halos-Classification-with-MWA/{COMMIT}/"
ATTEMPTS = 3
PAUSE = 2.0
"""Seconds before a second attempt; twice that before a third."""
MAX_BYTES = 2**24
_TIMEOUT = 60
_PASSING = (429, 500, 502, 503, 504)

log = logging.getLogger(__name__)


def mwa_registry():
    """Return the files of the set whose content is known.

    Returns
    -------
    `~astropy.table.QTable`
        ``path`` in the repository, ``bytes``, ``sha256``; ``meta`` names repository, commit and licence.

    Examples
    --------
    >>> from halopy.io.dataset_fetch import mwa_registry
    >>> registry = mwa_registry()
    >>> len(registry), registry.meta["licence"]
    (163, 'MIT')
    """
    with importlib.resources.as_file(importlib.resources.files("halopy") / "data" / "mwa_halos.ecsv") as path:
        return QTable.read(path, format="ascii.ecsv")


def fetch_mwa_halos(folder, *, bands=None, base_url=BASE_URL, registry=None, progress=None):
    """Download the images of the labelled MWA set, by name, from their public repository.

    Only files whose SHA-256 halopy knows are fetched: 104 of the 184 of GLEAM and 59 of the 129 of MWA-2. The
    whole set comes with a checkout of the repository. A file enters the folder under its name only when its hash
    is right, and files that are there with the right hash are kept: a call that was broken off can be repeated.

    Parameters
    ----------
    folder : path-like
        Where to; the files lie in it as in the repository, and `halopy.io.dataset.load_mwa_halos` reads it.
    bands : str or sequence of str, optional
        As in `halopy.io.dataset.load_mwa_halos`, default all.
    base_url : str, optional
        What stands before the paths; default the repository at `COMMIT`. A mirror must hold the same bytes.
    registry : `~astropy.table.Table`, optional
        ``path`` and ``sha256`` of the files, default `mwa_registry`.
    progress : callable, optional
        Called with an iterable, of the files, and returning it, such as `tqdm.tqdm`.

    Returns
    -------
    list of `~pathlib.Path`
        The files, in the order of the registry.

    Raises
    ------
    ProviderError
        A file could not be fetched, or is not what it was: ``cause`` is ``"status"``, ``"connection"``,
        ``"timeout"``, ``"large"`` or ``"sha256"``. Nothing of it is left behind; those before it stay.
    HaloInputError
        A band is unknown, the registry lacks a hash, or the folder cannot be written.

    Examples
    --------
    >>> from halopy.io.dataset import fetch_mwa_halos
    >>> paths = fetch_mwa_halos("mwa-halos", bands="gleam-170-231")  # doctest: +SKIP
    """
    chosen = chosen_bands(bands)
    registry = mwa_registry() if registry is None else registry
    wanted = [(path, sha256) for path, sha256 in _entries(registry)
              if len(chosen) == len(BANDS) or getattr(parse_name(path), "band", None) in chosen]
    folder = Path(folder)
    paths = []
    for path, sha256 in progress(wanted) if progress is not None else wanted:
        file = folder.joinpath(*PurePosixPath(path).parts)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            present = file.is_file() and _sha256(file) == sha256
        except OSError as error:
            raise HaloInputError(f"cannot use this folder: {error.strerror}", path=folder) from error
        if not present:
            _download(base_url.rstrip("/") + "/" + quote(path), file, sha256)
        paths.append(file)
    return paths


def _entries(registry):
    for path, sha256 in zip(registry["path"], registry["sha256"], strict=True):
        path, sha256 = str(path), str(sha256).lower()
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise HaloInputError("every file of the registry needs its SHA-256, 64 hexadecimal digits", path=path,
                                 found=sha256)
        parts = PurePosixPath(path).parts
        if not parts or ".." in parts or path.startswith("/") or "\\" in path or ":" in parts[0]:
            raise HaloInputError("the registry's paths lie inside the folder", found=path)
        yield path, sha256


def _sha256(path):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(url, file, sha256):
    """Fetch one file under its name, or raise and leave nothing."""
    import pooch
    import requests

    for attempt in range(1, ATTEMPTS + 1):
        if attempt > 1:
            time.sleep(PAUSE * 2 ** (attempt - 2))
        try:
            with _quiet(pooch.get_logger()):
                # An old file under the name has another hash: pooch replaces it, atomically.
                pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=file.name, path=file.parent, downloader=_get)
            return
        except requests.HTTPError as error:
            status = error.response.status_code
            failure = ProviderError(f"the server answered {status}", cause="status", provider="mwa-halos", url=url,
                                    attempts=attempt, hint="later" if status in _PASSING else "base_url= of a mirror")
            passing, reason = status in _PASSING, error
        except requests.Timeout as error:
            failure = ProviderError(f"no answer within {_TIMEOUT} seconds", cause="timeout", provider="mwa-halos",
                                    url=url, attempts=attempt, hint="later")
            passing, reason = True, error
        except requests.RequestException as error:
            failure = ProviderError(f"the connection failed: {error}", cause="connection", provider="mwa-halos",
                                    url=url, attempts=attempt, hint="later")
            passing, reason = True, error
        except ValueError as error:  # what pooch raises for a wrong hash
            failure = ProviderError("this is not the file that was published: its SHA-256 differs", cause="sha256",
                                    provider="mwa-halos", url=url, attempts=attempt,
                                    hint="base_url= of the repository itself")
            passing, reason = False, error
        except OSError as error:
            raise HaloInputError(f"cannot write this file: {error.strerror}", path=file) from error
        log.info("%s", failure)
        if not passing:
            break
    raise failure from reason


def _get(url, path, _):
    """Write the body of a reply to a file: pooch's downloader, but closing a connection that broke off."""
    import requests

    with requests.get(url, stream=True, timeout=_TIMEOUT) as response, open(path, "wb") as stream:
        response.raise_for_status()
        written = 0
        for part in response.iter_content(2**16):
            written += stream.write(part)
            if written > MAX_BYTES:
                raise ProviderError(f"the reply is longer than {MAX_BYTES / 2**20:g} MiB; the images have 0.4",
                                    cause="large", provider="mwa-halos", url=url)


@contextlib.contextmanager
def _quiet(logger):
    """Keep pooch from writing every address and hash to the terminal."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
