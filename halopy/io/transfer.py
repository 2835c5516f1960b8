"""Getting bytes over HTTP: bounded in time, size and number of attempts, polite, and with one kind of error."""

from __future__ import annotations

import dataclasses
import email.utils
import functools
import hashlib
import http.client
import importlib.metadata
import io
import logging
import math
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from halopy.errors import HaloInputError, ProviderError
from halopy.io.local import page_title

__all__ = ["Receipt", "Transfer", "public_url"]

_log = logging.getLogger(__name__)

MAX_REDIRECTS = 5
_SECRET = re.compile(r"token|signature|credential|password|secret|api_?key|access_?key|\Asig\Z|\Aauth",
                     re.IGNORECASE)
_REDIRECTS = (301, 302, 303, 307, 308)
# Time-out of the request, too early, too many requests; and all of 5xx, where the server blames itself.
_PASSING = (408, 425, 429)
# What the readers say of a file whose end is missing or whose bytes were changed on the way.
_DAMAGED = re.compile(r"cut short|damaged|cannot be read")


@dataclasses.dataclass(frozen=True)
class Receipt:
    """What arrived: ``url`` (the last one of a redirect), ``sha256`` and ``size`` in bytes."""

    url: str
    sha256: str
    size: int


class _Failed(Exception):
    """One attempt failed; ``passing`` says whether another one may do better, ``wait`` when (seconds)."""

    def __init__(self, message, cause, *, passing=False, wait=None, hint=None):
        super().__init__(message)
        self.message, self.cause, self.passing, self.wait, self.hint = message, cause, passing, wait, hint


@dataclasses.dataclass(frozen=True)
class Transfer:
    """How halopy behaves on the network.

    Only http and https are spoken, certificates are always verified, and redirects are followed to those two
    alone, never from https to http. What may pass (5xx, 408, 429, a time-out, a reply that is cut short) is
    tried again after a wait that doubles; what does not pass (404, an HTML page) is not. Proxies are taken from
    the usual environment variables.

    Parameters
    ----------
    attempts : int, optional
        Most requests for one thing, default 3.
    wait : float, optional
        Seconds before the second attempt, default 2; doubled each time. ``Retry-After`` of a reply counts instead,
        if it is longer.
    longest_wait : float, optional
        Where a server asks to wait longer than so many seconds, halopy gives up, default 60.
    timeout : float, optional
        Seconds without a byte after which a reply is given up, default 60.
    deadline : float, optional
        Seconds that one reply may take in all, default 900.
    per_host : int, optional
        Most requests to one host at a time from this process, default 2.
    max_bytes : int, optional
        Largest reply, default 2 GiB.

    Examples
    --------
    >>> from halopy.io.transfer import Transfer
    >>> Transfer(attempts=5, timeout=120.0).attempts
    5
    >>> Transfer().get("file:///etc/hostname")
    Traceback (most recent call last):
    ...
    halopy.errors.ProviderError: only http and https are allowed, found 'file' (file:///etc/hostname)
    """

    attempts: int = 3
    wait: float = 2.0
    longest_wait: float = 60.0
    timeout: float = 60.0
    deadline: float = 900.0
    per_host: int = 2
    max_bytes: int = 2**31

    def __post_init__(self):
        for name in ("attempts", "timeout", "deadline", "per_host", "max_bytes"):
            if not 0 < getattr(self, name) < math.inf:
                raise HaloInputError(f"{name} must be positive and finite", found=getattr(self, name))
        if not (self.wait >= 0 and self.longest_wait >= 0):
            raise HaloInputError("waits must not be negative", found=(self.wait, self.longest_wait))

    def get(self, url, *, params=None, max_bytes=2**26, check=None):
        """Return a short reply, such as a table.

        Parameters
        ----------
        url : str
        params : mapping, optional
            The query, added to the URL.
        max_bytes : int, optional
            Default 64 MiB.
        check : callable, optional
            Called with the bytes; a HaloInputError that it raises says that the reply is no good.

        Returns
        -------
        bytes

        Raises
        ------
        ProviderError
        """
        url = with_query(url, params)

        def once():
            sink = io.BytesIO()
            self._receive(url, sink, min(max_bytes, self.max_bytes))
            body = sink.getvalue()
            if check is not None:
                _judge(lambda: check(body), body)
            return body

        return self._try(url, once)

    def save(self, url, path, *, sha256=None, check=None):
        """Write a reply to a file.

        Parameters
        ----------
        url : str
        path : path-like
            Where to write; after an error there is no such file.
        sha256 : str, optional
            What the file must have.
        check : callable, optional
            Called with the path; a HaloInputError that it raises says that the reply is no good.

        Returns
        -------
        Receipt

        Raises
        ------
        ProviderError
        """
        path = Path(path)

        def once():
            with open(path, "wb") as sink:
                receipt = self._receive(url, sink, self.max_bytes)
            if sha256 is not None and receipt.sha256 != sha256.lower():
                raise _Failed(f"the file has the sha256 {receipt.sha256}, not {sha256}", "sha256", passing=True,
                              hint="find out whether the archive has a new version")
            if check is not None:
                with open(path, "rb") as stream:
                    start = stream.read(2**16)
                _judge(lambda: check(path), start)
            return receipt

        try:
            return self._try(url, once)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _try(self, url, once):
        wait = self.wait
        for attempt in range(1, self.attempts + 1):
            try:
                return once()
            except _Failed as failure:
                pause = max(wait, failure.wait or 0)
                patient = pause <= self.longest_wait
                if not failure.passing or attempt == self.attempts or not patient:
                    message = failure.message
                    if failure.passing and not patient and failure.wait:
                        message += f", and asks to wait {failure.wait:.0f} s"
                    hint = failure.hint or ("again later" if failure.passing else None)
                    raise ProviderError(message, cause=failure.cause, url=public_url(url), attempts=attempt,
                                        hint=hint) from failure.__cause__
                _log.info("%s: %s; attempt %d of %d in %.3g s", public_url(url), failure.message, attempt + 1,
                          self.attempts, pause)
                time.sleep(pause)
                wait *= 2

    def _receive(self, url, sink, limit):
        """One attempt: follow redirects, write the body to ``sink``."""
        end = time.monotonic() + self.deadline
        for _ in range(MAX_REDIRECTS + 1):
            parts = _checked(url)
            try:
                with _place(parts.netloc.lower(), self.per_host), self._open(url) as reply:
                    if reply.status not in _REDIRECTS:
                        return self._read(reply, url, sink, limit, end)
                    target = _joined(url, reply.headers.get("Location"))
            except (OSError, http.client.HTTPException) as error:
                raise _network(error, self.timeout) from error
            if parts.scheme == "https" and urllib.parse.urlsplit(target).scheme == "http":
                raise _Failed(f"the server redirects from https to http, to {public_url(target)}", "redirect")
            url = target
        raise _Failed(f"the server redirects more than {MAX_REDIRECTS} times", "redirect")

    def _open(self, url):
        version = importlib.metadata.version("halopy-radio")
        request = urllib.request.Request(_quoted(url), headers={"User-Agent": f"halopy/{version}", "Accept": "*/*"})
        return _opener().open(request, timeout=self.timeout)

    def _read(self, reply, url, sink, limit, end):
        if reply.status != 200:
            raise _status(reply)
        expected, digest, size = reply.length, hashlib.sha256(), 0
        if expected is not None and expected > limit:
            raise _Failed(f"the reply has {expected} bytes, more than {limit}", "large", hint="a smaller field")
        # read1 returns after each packet, so that a server that drips cannot outlast the deadline.
        while chunk := reply.read1(2**16):
            size += len(chunk)
            if size > limit:
                raise _Failed(f"the reply has more than {limit} bytes", "large", hint="a smaller field")
            if time.monotonic() > end:
                raise _Failed(f"the reply took longer than {self.deadline:g} s", "timeout", passing=True)
            digest.update(chunk)
            try:
                sink.write(chunk)
            except OSError as error:  # a full disk is no fault of the network
                raise HaloInputError(f"the download cannot be written: {error.strerror}",
                                     path=getattr(sink, "name", None), hint="check the disk space") from error
        if expected is not None and size < expected:
            raise _Failed(f"the reply was cut short: {size} of {expected} bytes", "truncated", passing=True)
        if size == 0:
            raise _Failed("the reply is empty (0 bytes)", "empty", passing=True)
        return Receipt(public_url(url), digest.hexdigest(), size)


def with_query(url, params):
    """Return a URL with a query; spaces as %20, which every server takes."""
    if not params:
        return url
    return url + ("&" if "?" in url else "?") + urllib.parse.urlencode(
        params, safe="/,*", quote_via=urllib.parse.quote)


def public_url(url):
    """Return a URL without what must not be told: passwords, signatures and tokens.

    Examples
    --------
    >>> from halopy.io.transfer import public_url
    >>> public_url("https://me:x@example.org/a.fits?id=3&X-Amz-Signature=1f2e")
    'https://example.org/a.fits?id=3'
    """
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return str(url)[:200]
    query = "&".join(part for part in parts.query.split("&") if not _SECRET.search(part.partition("=")[0]))
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def _checked(url):
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise _Failed(f"this is no URL: {error}", "scheme") from error
    if parts.scheme not in ("http", "https"):
        raise _Failed(f"only http and https are allowed, found {parts.scheme!r}", "scheme")
    if not host:
        raise _Failed("this URL names no host", "scheme")
    return parts


def _joined(url, location):
    try:
        return urllib.parse.urljoin(url, location or "")
    except ValueError as error:
        raise _Failed(f"the server redirects to what is no URL: {error}", "redirect") from error


def _quoted(url):
    """Archives hand out links with spaces in them."""
    return urllib.parse.quote(url.strip(), safe="%/:=&?~+!$,;'@()*[]|")


_places, _places_lock = {}, threading.Lock()


def _place(host, count):
    with _places_lock:
        return _places.setdefault((host, count), threading.BoundedSemaphore(count))


@functools.cache
def _opener():
    """An opener of http and https alone: no file:, ftp: or data:, and redirects are ours to judge."""
    context = ssl.create_default_context()
    try:
        import certifi
    except ModuleNotFoundError:
        pass
    else:  # some Pythons come without certificates of their own
        context.load_verify_locations(certifi.where())
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), urllib.request.HTTPHandler(),
                    urllib.request.HTTPSHandler(context=context)):
        opener.add_handler(handler)
    return opener


def _network(error, timeout):
    """Turn what urllib, http.client and the sockets raise into one failure."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return _Failed(f"no answer within {timeout:g} s", "timeout", passing=True)
    if isinstance(reason, http.client.IncompleteRead):
        return _Failed("the reply was cut short", "truncated", passing=True)
    if isinstance(reason, socket.gaierror):
        return _Failed(f"the host cannot be found: {reason.strerror or reason}", "connection",
                       hint="check the network, and the spelling of the server")
    if isinstance(reason, ssl.SSLError):
        return _Failed(f"the connection is not secure: {reason}", "connection",
                       hint="check the clock and the certificates of this machine")
    if isinstance(reason, http.client.InvalidURL):
        return _Failed(f"this is no URL: {reason}", "scheme")
    text = " ".join(str(getattr(reason, "strerror", None) or reason).split()) or type(reason).__name__
    return _Failed(f"the connection failed: {text[:200]}", "connection", passing=True)


def _status(reply):
    start = reply.read1(2**16)
    title = page_title(start)
    if title is None:
        title = " ".join(start[:300].decode("utf-8", "replace").split())[:120]
        title = "".join(c for c in title if c.isprintable())
    said = f": {title!r}" if title else ""
    passing = reply.status in _PASSING or 500 <= reply.status < 600
    return _Failed(f"the server answered {reply.status} {reply.reason}{said}", "status", passing=passing,
                   wait=_retry_after(reply.headers.get("Retry-After")))


def _retry_after(text):
    """Seconds of a Retry-After header (RFC 9110, section 10.2.3): a number, or a date."""
    if not text:
        return None
    if re.fullmatch(r"\s*[0-9]+\s*", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _judge(check, start):
    """Run a check of a reply; one that is damaged may arrive whole next time."""
    try:
        check()
    except HaloInputError as error:
        title = page_title(start)
        if title is not None:
            raise _Failed(f"the server answered with an HTML page, {title!r}", "html",
                          hint="open the address in a browser") from error
        # The path in the error is that of a temporary file, which says nothing to a user.
        text = error.message + (f" ({error.keyword})" if error.keyword else "")
        damaged = bool(_DAMAGED.search(error.message))
        raise _Failed(f"the reply cannot be used: {text}", "truncated" if damaged else "format",
                      passing=damaged) from error
