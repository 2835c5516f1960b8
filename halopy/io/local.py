"""Opening a file of this machine, and nothing else: no URL, pipe, device or folder."""

from __future__ import annotations

import contextlib
import errno
import html
import os
import re
import stat
from pathlib import Path

from halopy.errors import HaloInputError

__all__ = ["open_plain", "page_title"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


@contextlib.contextmanager
def open_plain(path):
    """Yield (Path, binary file, size) of a regular local file; anything else is refused unopened."""
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise HaloInputError("a file is named by a str or a path", found=type(path).__name__)
    text = os.fspath(path)
    if _URL.match(text):
        raise HaloInputError("halopy opens paths only, no URL", path=text, hint="download the file first")
    path = Path(text)
    try:
        _refuse_special(path, os.stat(path).st_mode)
        # Non-blocking, because a pipe may have taken the file's place since the look at it.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except HaloInputError:
        raise
    except ValueError as error:
        raise HaloInputError("this cannot be the name of a file", path=repr(text)) from error
    except OSError as error:
        known = {errno.ENOENT: ("there is no such file", "check the spelling"),
                 errno.ENOTDIR: ("there is no such file", "check the spelling"),
                 errno.ELOOP: ("these symbolic links lead in a circle", "remove the links"),
                 errno.EACCES: ("this file may not be read", "check its permissions"),
                 errno.EPERM: ("this file may not be read", "check its permissions")}
        message, hint = known.get(error.errno, (f"this file cannot be opened: {error.strerror}", None))
        raise HaloInputError(message, path=path, hint=hint) from error
    with os.fdopen(handle, "rb") as raw:
        status = os.fstat(raw.fileno())
        _refuse_special(path, status.st_mode)
        yield path, raw, status.st_size


def _refuse_special(path, mode):
    if stat.S_ISDIR(mode):
        raise HaloInputError("this is a folder, not a file", path=path, hint="a CASA image is a folder: exportfits it")
    if stat.S_ISFIFO(mode):
        raise HaloInputError("this is a pipe (FIFO), not a file", path=path, hint="write its content to a file")
    if not stat.S_ISREG(mode):
        raise HaloInputError("this is a device or a socket, not a file", path=path)


def page_title(start):
    """Return the <title> of an HTML page that begins with these bytes, or None if it is none."""
    text = start[:2**16].decode("utf-8", "replace").lstrip("\ufeff \t\r\n").lower()
    if not re.match(r"<(!doctype\s+html|html|head|body|title)\b|<!--|<\?xml[^>]*>\s*(<!doctype\s+html|<html)", text):
        return None
    title = re.search(rb"<title[^>]*>(.{0,2000}?)</title", start, re.IGNORECASE | re.DOTALL)
    text = html.unescape(title[1].decode("utf-8", "replace")) if title else ""
    return " ".join(text.split())[:100]
