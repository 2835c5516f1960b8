"""Fetching and keeping: what enters the cache, what never does, and many processes at once."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import re
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from archive_server import (
    A2744,
    QUICK,
    ArchiveServer,
    closes,
    good,
    half,
    half_unannounced,
    image_bytes,
    page,
    votable,
)
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from halopy import ClusterImage, surveys
from halopy.errors import HaloInputError, HalopyWarning, ProviderError
from halopy.io import cache as cache_module
from halopy.io.archive import fetch, fetch_catalog, providers
from halopy.io.cache import Cache, file_lock, is_offline, safe_name, sha256_of
from halopy.io.transfer import Transfer

BODY = image_bytes()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HALOPY_OFFLINE", raising=False)
    with ArchiveServer() as started:
        yield started


@pytest.fixture
def ask(server, tmp_path):
    """Fetch from a SkyView that answers so."""
    def fetched(*replies, cache=tmp_path / "cache", **keywords):
        if replies:
            server.answers("/s", *replies)
        provider = providers.create("skyview", server=server.url + "/s")
        settings = {"size": 20 * u.arcmin, "provider": provider, "cache": cache, "transfer": QUICK} | keywords
        return fetch(settings.pop("position", A2744), **settings)

    return fetched


def kept(folder):
    """What lies in a cache, but for the locks."""
    return sorted(p.suffix for p in Path(folder).rglob("*") if p.is_file() and p.suffix != ".lock")


def test_what_has_come_is_not_fetched_again(ask, server, tmp_path):
    first = ask(good(BODY))
    again = ask()
    assert server.count("/s") == 1 and kept(tmp_path / "cache") == [".fits", ".json"]
    np.testing.assert_array_equal(first.data, again.data)
    assert first.meta == again.meta
    assert Path(again.meta["path"]).read_bytes() == BODY
    ask(refresh=True)
    assert server.count("/s") == 2
    # Another place, size or survey is another image.
    ask(size=21 * u.arcmin)
    ask(position=SkyCoord(3.59, -30.39, unit="deg"))
    ask(survey="gleam-139-170")
    assert server.count("/s") == 5


TRAPS = {"500": (500, {}, b""), "404": (404, {}, b""), "html": page("Busy"), "zero bytes": (200, {}, b""),
         "half": half(BODY), "half, no length": half_unannounced(BODY), "closed": closes,
         "file": (302, {"Location": "file:///etc/hostname"}, b""), "table": good(votable(("a",), [])),
         "zeros": good(image_bytes(pixels=np.zeros((20, 20)))),
         "blank": good(image_bytes(pixels=np.full((20, 20), np.nan))),
         "elsewhere": good(image_bytes(SkyCoord(100, 20, unit="deg")))}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_failure_is_never_kept(ask, server, tmp_path, trap):
    with pytest.raises(ProviderError) as caught:
        ask(TRAPS[trap])
    assert caught.value.cause and caught.value.provider == "skyview" and "skyview: " in str(caught.value)
    assert kept(tmp_path / "cache") == []
    # The archive is well again, and so is the next answer.
    assert ask(good(BODY)).shape == (40, 50)


def test_a_hang_is_never_kept(ask, server, tmp_path):
    with pytest.raises(ProviderError, match="no answer within 0.2 s"):
        ask(server.hangs, transfer=Transfer(attempts=1, timeout=0.2))
    assert kept(tmp_path / "cache") == []


def test_a_failure_leaves_what_was_there(ask, tmp_path):
    ask(good(BODY))
    for trap in TRAPS.values():
        with pytest.raises(ProviderError):
            ask(trap, refresh=True)
    assert kept(tmp_path / "cache") == [".fits", ".json"]
    assert sha256_of(ask().meta["path"]) == ask().meta["sha256"]


@pytest.mark.parametrize(("reply", "text"), [
    (TRAPS["zeros"], "the value 0 everywhere: the survey has not looked there"),
    (TRAPS["blank"], "no pixel with data: the survey has not looked there"),
    (TRAPS["elsewhere"], "shows another part of the sky"),
    (good(image_bytes(SkyCoord(183.58, 30.39, unit="deg"))), "part of the sky|does not show the position"),
    (good(image_bytes(pixels=np.ones((3, 20, 20)))), "more than one plane")])
def test_images_that_are_not_what_was_asked_for(ask, server, reply, text):
    with pytest.raises(ProviderError, match=text) as caught:
        ask(reply)
    # Asking again would bring the same.
    assert caught.value.cause in ("outside", "format") and server.count("/s") == 1


def test_a_damaged_file_in_the_cache_is_fetched_again(ask, server, tmp_path):
    path = Path(ask(good(BODY)).meta["path"])
    for damage in (lambda: path.write_bytes(BODY[:3000]), lambda: path.write_bytes(BODY[:-1] + b"x"), path.unlink,
                   lambda: next((tmp_path / "cache").rglob("*.json")).write_text("{"),
                   lambda: next((tmp_path / "cache").rglob("*.json")).write_text('{"file": "../../etc/passwd"}')):
        before = server.count("/s")
        damage()
        assert ask().shape == (40, 50) and server.count("/s") == before + 1
        assert path.read_bytes() == BODY


def test_a_killed_process_leaves_no_entry(ask, server, tmp_path):
    ask(good(BODY))
    next((tmp_path / "cache").rglob("*.json")).unlink()  # killed after the file, before its record
    ask()
    assert server.count("/s") == 2


def test_offline(ask, server, monkeypatch):
    with pytest.raises(ProviderError, match="not in the cache, and halopy is offline") as caught:
        ask(good(BODY), offline=True)
    assert caught.value.cause == "offline" and server.seen == []
    monkeypatch.setenv("HALOPY_OFFLINE", "1")
    with pytest.raises(ProviderError, match="halopy is offline"):
        ask()
    with pytest.raises(ProviderError, match="halopy is offline"):
        fetch_catalog("VIII/100/gleamegc", server=server.url + "/v")
    assert server.seen == []
    assert ask(offline=False).shape == (40, 50)
    assert ask().shape == (40, 50)  # from the cache
    with pytest.raises(ProviderError, match="halopy is offline"):
        ask(refresh=True)


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("yes", True), ("0", False), ("", False),
                                                 ("false", False)])
def test_what_offline_means(monkeypatch, value, expected):
    monkeypatch.setenv("HALOPY_OFFLINE", value)
    assert is_offline() is expected
    assert is_offline(True) and not is_offline(False)


def test_nothing_goes_out_before_something_is_fetched(monkeypatch):
    import socket

    def refuse(*arguments):
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    from halopy.io.archive import covers

    covers(A2744)
    providers.create("skyview").locate(A2744, surveys["nvss"], 1 * u.deg, transfer=None)


def test_the_default_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HALOPY_CACHE", str(tmp_path / "mine"))
    assert Cache().path == tmp_path / "mine" and Cache(tmp_path).path == tmp_path
    monkeypatch.delenv("HALOPY_CACHE")
    assert Cache().path.name == "halopy" and Cache().path.is_absolute()
    assert repr(Cache()) == "Cache()" and repr(Cache("a")) == "Cache('a')"


def test_a_cache_that_cannot_be(ask, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HaloInputError, match=r"cannot make the cache folder.*cache=, or HALOPY_CACHE"):
        ask(good(BODY), cache=tmp_path / "file" / "cache")


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0,
                    reason="the superuser may write anywhere")
def test_a_lock_that_cannot_be(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(HaloInputError, match="cannot write here"), file_lock(tmp_path / "x.lock"):
        pass
    tmp_path.chmod(0o700)


def test_a_lock_in_no_folder(tmp_path):
    with pytest.raises(HaloInputError, match="cannot write here"), file_lock(tmp_path / "none" / "x.lock"):
        pass


def test_a_lock_excludes(tmp_path):
    inside, most = 0, 0

    def work(_):
        nonlocal inside, most
        with file_lock(tmp_path / "x.lock"):
            inside += 1
            most = max(most, inside)
            threading.Event().wait(0.005)
            inside -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(12)))
    assert most == 1
    # One that is never freed does not stop the world: files move into place whole without it too.
    with file_lock(tmp_path / "y.lock"), file_lock(tmp_path / "y.lock", timeout=0.05):
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="a system without fcntl")

    def unknown(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with file_lock(tmp_path / "x.lock"), file_lock(tmp_path / "x.lock"):
        pass
    assert cache_module._LONGEST_LOCK > 0


def test_threads_at_once(ask, server):
    server.answers("/s", good(BODY))
    with ThreadPoolExecutor(6) as pool:
        images = list(pool.map(lambda _: ask(), range(6)))
    # One fetched, five waited for it.
    assert server.count("/s") == 1
    assert all(image.meta["sha256"] == images[0].meta["sha256"] for image in images)


def _in_a_process(url, folder, results):
    provider = providers.create("skyview", server=url)
    image = fetch(A2744, size=20 * u.arcmin, provider=provider, cache=folder, transfer=QUICK)
    results.put((os.getpid(), float(np.nansum(image.data)), image.meta["sha256"]))


@pytest.mark.skipif(sys.platform != "linux", reason="uses fork, to be quick")
def test_processes_at_once(server, tmp_path):
    # As on a cluster of computers: every worker wants the same file, and the archive's files differ in a date.
    counter = iter(range(100))

    def dated(handler):
        body = image_bytes(**{"DATE": f"2026-01-{next(counter) + 1:02d}"})
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    url = server.answers("/s", dated)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads, in newer Pythons
        workers = [context.Process(target=_in_a_process, args=(url, tmp_path, results)) for _ in range(4)]
        for worker in workers:
            worker.start()
    found = [results.get(timeout=20) for _ in workers]
    for worker in workers:
        worker.join(20)
        assert worker.exitcode == 0
    assert len({pid for pid, _, _ in found}) == 4
    assert len({digest for _, _, digest in found}) == 1 and server.count("/s") == 1
    record = json.loads(next(tmp_path.rglob("*.json")).read_text())
    assert sha256_of(tmp_path / "skyview" / record["file"]) == record["sha256"] == found[0][2]


@pytest.mark.parametrize(("keywords", "text"), [
    ({"position": (3.58, -30.39)}, "position must be one SkyCoord"),
    ({"position": SkyCoord([3.58], [-30.39], unit="deg")}, "position must be one SkyCoord"),
    ({"position": SkyCoord(np.nan, -30.39, unit="deg")}, r"the position is unknown \(NaN\)"),
    ({"size": 2}, "size must be an angle"), ({"size": 2 * u.m}, "size must be an angle"),
    ({"size": 0 * u.deg}, "size must lie between 0 and 60 degrees"),
    ({"size": np.nan * u.deg}, "size must lie between 0 and 60 degrees"),
    ({"size": [1, 2] * u.deg}, "size must be an angle"),
    ({"survey": "gleam"}, "no survey is called 'gleam'"), ({"survey": 3}, "survey must be a name or"),
    ({"provider": 3}, "provider must be a name or a Provider.*skyview"),
    ({"provider": None, "survey": "mwa2-88"}, "knows no archive of images of mwa2-88.*'folder'")])
def test_what_cannot_be_asked_for(ask, server, keywords, text):
    with pytest.raises(HaloInputError, match=text):
        ask(**keywords)
    assert server.seen == []


def test_the_survey_chooses_the_archive(monkeypatch, tmp_path):
    asked = []

    def locate(self, position, survey, size, *, transfer):
        asked.append((self.name, survey.name))
        raise ProviderError("stop")

    monkeypatch.setattr(providers["skyview"], "locate", locate)
    monkeypatch.setattr(providers["lofar"], "locate", locate)
    for survey in ("gleam-170-231", "lotss-20"):
        with pytest.raises(ProviderError, match="stop"):
            fetch(A2744, survey=survey, cache=tmp_path)
    assert asked == [("skyview", "gleam-170-231"), ("lofar", "lotss-20")]


def test_the_frame_of_the_position_does_not_matter(ask, server):
    ask(good(BODY))
    ask(position=A2744.galactic)
    assert server.count("/s") == 1
    query = server.seen[0][1]
    assert query["position"] == "3.580000,-30.390000"


def test_names():
    assert safe_name("A 2744/\u00e9: x") == "A_2744_x"
    assert safe_name("../..") == safe_name("") == "unnamed"
    assert len(safe_name("x" * 300)) == 80


@given(st.text())
def test_no_name_leaves_the_folder(text):
    name = safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9+-][A-Za-z0-9.+_-]*", name)
    assert Path("folder", name).parent == Path("folder") and safe_name(name) == name


@dataclasses.dataclass
class Catalogue:
    """VizieR's answer to a request for a table."""

    rows: list
    info: str = ""

    def reply(self):
        return good(votable(("Name", "zsp"), self.rows, info=self.info), "text/xml")


FULL = Catalogue([("PSZ2 G000.04+45.13", "0.1"), ("PSZ2 G000.13+78.04", "0.2")]).reply()
EMPTY = Catalogue([]).reply()
NOTHING = good(votable(("a",), []).replace(b"<TABLE>", b"<!--").replace(b"</TABLE>", b"-->"), "text/xml")


def catalogue(server, tmp_path, *replies, table_id="J/A+A/594/A27/psz2", **keywords):
    if replies:
        server.answers("/v", *replies)
    settings = {"server": server.url + "/v", "cache": tmp_path / "cache", "transfer": QUICK} | keywords
    return fetch_catalog(table_id, **settings)


def test_a_catalogue(server, tmp_path):
    table = catalogue(server, tmp_path, FULL)
    query = server.seen[0][1]
    # Without this VizieR gives 50 rows; and the + of A+A is no blank.
    assert query["-out.max"] == "unlimited" and query["-source"] == "J/A+A/594/A27/psz2" and query["-out"] == "*"
    assert table["Name"].tolist() == ["PSZ2 G000.04+45.13", "PSZ2 G000.13+78.04"]
    assert table.meta["table_id"] == "J/A+A/594/A27/psz2" and len(table.meta["sha256"]) == 64
    assert len(catalogue(server, tmp_path)) == 2 and server.count("/v") == 1
    catalogue(server, tmp_path, columns=["Name", "MSZ"])
    assert server.seen[-1][1]["-out"] == "Name,MSZ"


def test_an_empty_catalogue_is_asked_for_twice(server, tmp_path):
    # A busy VizieR answers with an empty table (astroquery#3632): the second answer counts.
    for number, empty in enumerate((EMPTY, NOTHING)):
        assert len(catalogue(server, tmp_path, empty, FULL, table_id=f"I/{number}/t")) == 2
    for empty in (EMPTY, NOTHING):
        server.seen.clear()
        with pytest.raises(ProviderError, match=r"vizier: the answer has no rows, twice \(2 attempts") as caught:
            catalogue(server, tmp_path, empty, table_id="I/3/t")
        assert caught.value.cause == "empty" and server.count("/v") == 2
    assert len(list((tmp_path / "cache").rglob("*.vot"))) == 2
    assert len(catalogue(server, tmp_path, FULL, table_id="I/3/t")) == 2


@pytest.mark.parametrize(("reply", "cause", "text"), [
    (page("VizieR is closed"), "html", "'VizieR is closed'"), ((503, {}, b""), "status", "503"),
    (half(FULL[2]), "truncated", "cut short"), (half_unannounced(FULL[2]), "truncated", "VOTable is cut short"),
    (Catalogue([], '<INFO name="QUERY_STATUS" value="ERROR"><![CDATA[too busy]]></INFO>').reply(), "service",
     "reports an error: too busy"),
    (Catalogue([("a", "1")], '<INFO name="QUERY_STATUS" value="OVERFLOW"/>').reply(), "truncated", "left out rows"),
    (good(FULL[2].replace(b"</TABLE>", b"</TABLE>" + FULL[2][FULL[2].index(b"<TABLE>"):FULL[2].index(b"</RES")])),
     "format", "names 2 tables"),
    (good(b"#\n# asu-tsv"), "format", "not a VOTable")])
def test_catalogues_that_do_not_come(server, tmp_path, reply, cause, text):
    with pytest.raises(ProviderError, match=text) as caught:
        catalogue(server, tmp_path, reply)
    assert (caught.value.cause, caught.value.provider) == (cause, "vizier")
    assert kept(tmp_path / "cache") == []


@pytest.mark.parametrize(("keywords", "text"), [
    ({"table_id": "gleam"}, "named like VIII/100"), ({"table_id": "VIII/1&-out=x y"}, "named like VIII/100"),
    ({"columns": "Name"}, r"columns=\['Name'\]")])
def test_catalogues_that_cannot_be_asked_for(server, tmp_path, keywords, text):
    with pytest.raises(HaloInputError, match=text):
        catalogue(server, tmp_path, **keywords)
    assert server.seen == []


@pytest.mark.remote_data
def test_remote_vizier(tmp_path):
    # 1653 clusters, Planck Collaboration XXVII 2016, arXiv 1502.01598.
    assert len(fetch_catalog("J/A+A/594/A27/psz2", cache=tmp_path)) == 1653


def test_an_image_that_was_fetched_can_be_written_and_read(ask, tmp_path):
    image = ask(good(BODY), name="A2744")
    image.write(tmp_path / "a.fits")
    again = ClusterImage.read(tmp_path / "a.fits")
    assert again.beam.source == "survey gleam-170-231" and again.name == "A2744" and again.unit == image.unit


def test_another_band_than_asked_for_is_said(ask):
    with pytest.warns(HalopyWarning, match="skyview, A2744: frequency 87.5 MHz .* replaced.*is it the band"):
        image = ask(good(image_bytes(RESTFRQ=87.5e6)), name="A2744")
    assert image.frequency == 200.5 * u.MHz and "frequency-from-survey" in image.flags
    assert ask(good(image_bytes(RESTFRQ=200e6)), name="A2744", refresh=True).frequency == 200 * u.MHz
