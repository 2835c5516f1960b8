"""HTTP as archives speak it: each trap one ProviderError with its cause, bounded in time and attempts."""

from __future__ import annotations

import email.utils
import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from archive_server import (
    QUICK,
    ArchiveServer,
    chunked,
    chunked_half,
    closes,
    good,
    half,
    half_unannounced,
    image_bytes,
    page,
)

from halopy.errors import HaloInputError, ProviderError
from halopy.io.guard import check_fits
from halopy.io.transfer import Transfer, public_url, with_query

BODY = image_bytes()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ArchiveServer() as started:
        yield started


def save(url, path, *, transfer=QUICK, **keywords):
    return transfer.save(url, path, **keywords)


def failure(url, path, **keywords):
    with pytest.raises(ProviderError) as caught:
        save(url, path, check=check_fits, **keywords)
    assert not path.exists()
    return caught.value


def test_a_file_arrives_whole(server, tmp_path):
    for reply in (good(BODY), chunked(BODY)):
        url = server.answers("/a.fits", reply)
        receipt = save(url, tmp_path / "a.fits", check=check_fits)
        assert (tmp_path / "a.fits").read_bytes() == BODY
        assert (receipt.url, receipt.size) == (url, len(BODY))
        assert receipt.sha256 == hashlib.sha256(BODY).hexdigest()


@pytest.mark.parametrize(("trap", "cause", "text", "attempts"), [
    ((500, {}, b"oh no"), "status", "answered 500 .*'oh no'.*3 attempts", 3),
    (page("Down for maintenance", 503), "status", "503 Service Unavailable: 'Down for maintenance'", 3),
    ((404, {}, b""), "status", "answered 404 Not Found", 1),
    ((403, {}, b""), "status", "403", 1),
    ((204, {}, b""), "status", "204", 1),
    (page("No suitable mosaic found"), "html", "HTML page, 'No suitable mosaic found'", 1),
    ((200, {}, b'{"title": "Bad request"}'), "format", "does not begin with 'SIMPLE", 1),
    ((200, {}, b""), "empty", "0 bytes", 3),
    (half(BODY), "truncated", "cut short: .* of ", 3),
    (half_unannounced(BODY), "truncated", "data are cut short", 3),
    (chunked_half, "truncated", "cut short", 3),
    (closes, "connection", "connection failed", 3),
    ((302, {"Location": "file:///etc/hostname"}, b""), "scheme", "only http and https are allowed, found 'file'", 1),
    ((302, {"Location": "ftp://127.0.0.1/a.fits"}, b""), "scheme", "found 'ftp'", 1),
    ((301, {"Location": "data:text/plain,SIMPLE"}, b""), "scheme", "found 'data'", 1),
    ((302, {"Location": "/a.fits"}, b""), "redirect", "more than 5 times", 1),
    ((302, {}, b""), "redirect", "more than 5 times", 1),
    ((302, {"Location": "http://[::1/a"}, b""), "redirect", "what is no URL", 1),
])
def test_traps(server, tmp_path, trap, cause, text, attempts):
    url = server.answers("/a.fits", trap)
    error = failure(url, tmp_path / "a.fits")
    assert error.cause == cause and error.attempts == attempts
    assert error.url == url
    with pytest.raises(ProviderError, match=text):
        raise error
    if cause != "redirect":
        assert server.count("/a.fits") == attempts


def test_a_hang_ends(server, tmp_path):
    quick = Transfer(attempts=2, wait=0, timeout=0.2)
    for trap in (server.hangs, server.hangs_within):
        begin = time.monotonic()
        error = failure(server.answers("/a.fits", trap), tmp_path / "a.fits", transfer=quick)
        assert error.cause == "timeout" and "no answer within 0.2 s" in str(error)
        assert time.monotonic() - begin < 2


def test_a_drip_ends(server, tmp_path):
    # A byte now and then never runs into the time-out of a silent connection.
    slow = Transfer(attempts=1, wait=0, timeout=0.5, deadline=0.3)
    error = failure(server.answers("/a.fits", server.drips), tmp_path / "a.fits", transfer=slow)
    assert error.cause == "timeout" and "longer than 0.3 s" in str(error)


def test_what_passes_is_tried_again(server, tmp_path):
    url = server.answers("/a.fits", (500, {}, b""), half(BODY), good(BODY))
    assert save(url, tmp_path / "a.fits", check=check_fits).size == len(BODY)
    assert server.count("/a.fits") == 3


def test_waits_double_and_retry_after_is_honoured(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("halopy.io.transfer.time.sleep", waits.append)
    polite = Transfer(attempts=4, wait=2, timeout=0.4)
    failure(server.answers("/a.fits", (503, {}, b"")), tmp_path / "a.fits", transfer=polite)
    assert waits == [2, 4, 8]
    waits.clear()
    failure(server.answers("/b.fits", (429, {"Retry-After": "30"}, b"")), tmp_path / "b.fits", transfer=polite)
    assert waits == [30, 30, 30]
    waits.clear()
    now = int(time.time())
    monkeypatch.setattr("halopy.io.transfer.time.time", lambda: now)
    date = email.utils.formatdate(now + 20, usegmt=True)
    failure(server.answers("/c.fits", (503, {"Retry-After": date}, b"")), tmp_path / "c.fits",
            transfer=Transfer(attempts=2, timeout=0.4))
    assert waits == [20]
    waits.clear()
    error = failure(server.answers("/d.fits", (503, {"Retry-After": "3600"}, b"")), tmp_path / "d.fits",
                    transfer=polite)
    assert waits == [] and "asks to wait 3600 s" in str(error) and error.attempts == 1
    # A date that is none is not heard.
    for number, text in enumerate(("soon", "\u00b2")):  # a digit to Python, no number to float()
        failure(server.answers(f"/e{number}.fits", (503, {"Retry-After": text}, b"")), tmp_path / "e.fits",
                transfer=polite)
        assert waits == [2, 4, 8]
        waits.clear()


def test_a_wrong_sha256(server, tmp_path):
    right = hashlib.sha256(BODY).hexdigest()
    url = server.answers("/a.fits", good(BODY))
    assert save(url, tmp_path / "a.fits", sha256=right.upper()).sha256 == right
    error = failure(url, tmp_path / "b.fits", sha256="0" * 64)
    assert error.cause == "sha256" and f"the sha256 {right}, not 000" in str(error)


def test_too_much(server, tmp_path):
    small = Transfer(wait=0, timeout=0.4, max_bytes=1000)
    for number, reply in enumerate((good(BODY), chunked(BODY))):
        error = failure(server.answers(f"/{number}.fits", reply), tmp_path / "a.fits", transfer=small)
        assert error.cause == "large" and "more than 1000" in str(error) and error.attempts == 1


def test_nobody_listens(tmp_path):
    with ArchiveServer() as server:
        url = server.url
    assert failure(f"{url}/a.fits", tmp_path / "a.fits").cause == "connection"


@pytest.mark.parametrize(("url", "text"), [
    ("file:///etc/hostname", "found 'file'"), ("ftp://127.0.0.1/x", "found 'ftp'"), ("/etc/hostname", "found ''"),
    ("http:///x", "names no host"), ("http://[::1/x", "no URL"), ("http://127.0.0.1:x/", "no URL")])
def test_urls_that_are_none(tmp_path, url, text):
    error = failure(url, tmp_path / "a")
    assert error.cause == "scheme" and text in str(error)


def test_https_is_not_left(server, tmp_path, monkeypatch):
    replies = iter([(302, {"Location": "http://127.0.0.1/a.fits"})])

    class Reply:
        def __init__(self, status, headers):
            self.status, self.headers = status, headers

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(Transfer, "_open", lambda self, url: Reply(*next(replies)))
    error = failure("https://example.org/a.fits", tmp_path / "a.fits")
    assert error.cause == "redirect" and "from https to http" in str(error)


def test_a_redirect_within_http_is_followed(server, tmp_path):
    server.answers("/real/a.fits", good(BODY))
    url = server.answers("/a.fits", (302, {"Location": "real/a.fits"}, b""))
    assert save(url, tmp_path / "a.fits").url == server.url + "/real/a.fits"


def test_links_with_spaces(server, tmp_path):
    server.answers("/a%20b.fits", good(BODY))
    assert save(f"{server.url}/a b.fits", tmp_path / "a.fits").size == len(BODY)


def test_only_so_many_at_a_time(server):
    def slowly(handler):
        time.sleep(0.05)
        handler.send_response(200)
        handler.send_header("Content-Length", "1")
        handler.end_headers()
        handler.wfile.write(b"x")

    url = server.answers("/a", slowly)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: Transfer().get(url), range(10))) == [b"x"] * 10
    assert server.most <= 2
    server.most = 0
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Transfer(per_host=6).get(url), range(12)))
    assert 2 < server.most <= 6


def test_secrets_are_not_told(server, tmp_path):
    query = "?id=3&X-Amz-Signature=abc&token=t&X-Amz-Credential=c&AWSAccessKeyId=abc&sig=abc"
    url = server.answers("/a.fits", (404, {}, b"")) + query
    error = failure(url, tmp_path / "a.fits")
    assert error.url == f"{server.url}/a.fits?id=3"
    assert public_url("https://me:secret@example.org/a?b=c#d") == "https://example.org/a?b=c"


def test_a_check_of_a_short_reply(server):
    def none(body):
        raise HaloInputError("no good", keyword="WORD")

    with pytest.raises(ProviderError, match=r"cannot be used: no good \(WORD\)"):
        QUICK.get(server.answers("/a", good(b"x")), check=none)
    with pytest.raises(ProviderError, match="3 bytes, more than 2"):
        QUICK.get(server.answers("/b", good(b"xyz")), max_bytes=2)


def test_queries():
    assert with_query("http://a/b", {"pos": "1.5 -2", "n": "A+A/1"}) == "http://a/b?pos=1.5%20-2&n=A%2BA/1"
    assert with_query("http://a/b?c=d", {"e": 1}) == "http://a/b?c=d&e=1"
    assert with_query("http://a/b", None) == "http://a/b"


@pytest.mark.parametrize("settings", [{"attempts": 0}, {"timeout": float("inf")}, {"deadline": -1}, {"per_host": 0},
                                      {"wait": -1}, {"max_bytes": 0}])
def test_settings_that_cannot_be(settings):
    with pytest.raises(HaloInputError, match="must be positive and finite|must not be negative"):
        Transfer(**settings)


def test_a_full_disk_is_no_fault_of_the_network(server, tmp_path, monkeypatch):
    import builtins

    true_open = builtins.open

    class Full:
        name = "a.fits"

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def write(self, data):
            raise OSError(28, "No space left on device")

    path = tmp_path / "a.fits"
    monkeypatch.setattr(builtins, "open", lambda file, *a, **k: Full() if file == path else true_open(file, *a, **k))
    with pytest.raises(HaloInputError, match="cannot be written: No space left"):
        save(server.answers("/a.fits", good(BODY)), path)


def test_no_thread_is_left(server, tmp_path):
    before = threading.active_count()
    save(server.answers("/a.fits", good(BODY)), tmp_path / "a.fits")
    assert threading.active_count() <= before + 1  # the server's own
