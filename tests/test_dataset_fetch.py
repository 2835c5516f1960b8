"""Downloading the labelled MWA set: names, hashes, failures; from a server on this machine."""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest
from astropy.table import Table
from mwa_set import FILES, make

from halopy.errors import HaloInputError, ProviderError
from halopy.io import dataset_fetch
from halopy.io.catalog import load_targets
from halopy.io.dataset import fetch_mwa_halos, load_mwa_halos
from halopy.io.dataset_fetch import BASE_URL, COMMIT, mwa_registry
from halopy.io.mwa_names import BANDS, parse_name


class Server(ThreadingHTTPServer):
    """Serves ``files`` (path: bytes); ``faults`` (path: list of what goes wrong, one a request) come first."""

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.asked = files, {}, []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = unquote(self.path).removeprefix("/commit/")
        self.server.asked.append(path)
        faults = self.server.faults.get(path, [])
        fault = faults.pop(0) if faults else None
        body = self.server.files.get(path)
        status = fault if isinstance(fault, int) else 200 if body is not None else 404
        body = body if status == 200 else b"<html><title>No</title></html>"
        if fault == "other":
            body = body[::-1]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            self.connection.close()
            return
        self.wfile.write(body[: len(body) // 2] if fault == "truncated" else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("repository"), load_targets())
    return {source: (folder / source).read_bytes() for source, _ in FILES}


@pytest.fixture
def server(content, monkeypatch):
    monkeypatch.setattr(dataset_fetch, "PAUSE", 0.0)
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = f"http://127.0.0.1:{server.server_address[1]}/commit"
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def registry(content):
    return Table({"path": list(content), "sha256": [hashlib.sha256(body).hexdigest() for body in content.values()]})


def everything(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_all_files_arrive_and_load(server, registry, content, tmp_path):
    paths = fetch_mwa_halos(tmp_path / "set", base_url=server.url, registry=registry)
    assert [p.relative_to(tmp_path / "set").as_posix() for p in paths] == list(content)
    assert everything(tmp_path / "set") == content
    # Names with blanks and a plus travel as they are.
    assert sorted(server.asked) == sorted(content)
    assert sum(len(cutouts) for cutouts in load_mwa_halos(tmp_path / "set").values()) == len(FILES)


def test_what_is_there_is_kept(server, registry, content, tmp_path):
    first, second = list(content)[:2]
    for path, body in ((first, content[first]), (second, b"half of it")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(body)
    before = (tmp_path / first).stat().st_mtime_ns
    fetch_mwa_halos(tmp_path, base_url=server.url, registry=registry)
    assert first not in server.asked and second in server.asked
    assert everything(tmp_path) == content and (tmp_path / first).stat().st_mtime_ns == before
    server.asked.clear()
    fetch_mwa_halos(tmp_path, base_url=server.url, registry=registry)
    assert server.asked == []


def test_bands_are_chosen_and_progress_is_told(server, registry, tmp_path):
    seen = []
    paths = fetch_mwa_halos(tmp_path, bands="mwa2-216", base_url=server.url + "/", registry=registry,
                            progress=lambda files: [seen.append(f) or f for f in files])
    assert len(paths) == len(seen) == 2 and all("216mhz" in path.name for path in paths)
    with pytest.raises(HaloInputError, match="the MWA set has no band 'nvss'"):
        fetch_mwa_halos(tmp_path, bands="nvss", base_url=server.url, registry=registry)


def test_another_content_is_refused(server, registry, content, tmp_path):
    bad = list(content)[2]
    server.faults[bad] = ["other"] * 5
    with pytest.raises(ProviderError, match="its SHA-256 differs") as caught:
        fetch_mwa_halos(tmp_path, base_url=server.url, registry=registry)
    assert caught.value.cause == "sha256" and caught.value.attempts == 1
    assert caught.value.url.endswith(bad.replace(" ", "%20"))
    # Those before it stay, of it and of temporary files there is nothing.
    assert set(everything(tmp_path)) == set(list(content)[:2])
    server.faults.clear()
    server.asked.clear()
    fetch_mwa_halos(tmp_path, base_url=server.url, registry=registry)
    assert everything(tmp_path) == content and len(server.asked) == len(content) - 2


def test_a_wrong_file_that_was_there_survives_a_failure(server, registry, content, tmp_path):
    path = next(iter(content))
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"mine")
    server.faults[path] = ["other"]
    with pytest.raises(ProviderError):
        fetch_mwa_halos(tmp_path, base_url=server.url, registry=registry)
    assert everything(tmp_path) == {path: b"mine"}


def test_a_file_that_is_not_there(server, registry, content, tmp_path):
    lost = next(iter(content))
    server.files = {path: body for path, body in content.items() if path != lost}
    with pytest.raises(ProviderError, match=r"mwa-halos: the server answered 404 \(") as caught:
        fetch_mwa_halos(tmp_path, base_url=server.url, registry=registry)
    assert caught.value.cause == "status" and server.asked == [lost]
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("fault", [503, "truncated", "reset"])
def test_a_passing_fault_is_tried_again(server, registry, content, tmp_path, fault):
    path = next(iter(content))
    server.faults[path] = [fault, fault]
    fetch_mwa_halos(tmp_path, base_url=server.url, registry=registry)
    assert server.asked.count(path) == 3 and everything(tmp_path) == content


@pytest.mark.parametrize(("fault", "cause"), [(503, "status"), ("truncated", "connection"), ("reset", "connection")])
def test_a_lasting_fault_ends(server, registry, content, tmp_path, fault, cause):
    path = next(iter(content))
    server.faults[path] = [fault] * 9
    with pytest.raises(ProviderError, match="3 attempts") as caught:
        fetch_mwa_halos(tmp_path, base_url=server.url, registry=registry)
    assert caught.value.cause == cause and server.asked == [path] * 3
    assert everything(tmp_path) == {}


def test_a_reply_without_end(server, registry, content, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_fetch, "MAX_BYTES", 2**15)
    with pytest.raises(ProviderError, match="longer than 0.03125 MiB") as caught:
        fetch_mwa_halos(tmp_path, base_url=server.url, registry=registry)
    assert caught.value.cause == "large" and everything(tmp_path) == {}


def test_no_server(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_fetch, "PAUSE", 0.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        with pytest.raises(ProviderError, match="the connection failed"):
            fetch_mwa_halos(tmp_path, base_url=f"http://127.0.0.1:{taken.getsockname()[1]}", registry=registry)


def test_a_server_that_says_nothing(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_fetch, "PAUSE", 0.0)
    monkeypatch.setattr(dataset_fetch, "_TIMEOUT", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ProviderError, match="no answer within") as caught:
            fetch_mwa_halos(tmp_path, base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", registry=registry)
    assert caught.value.cause == "timeout"


@pytest.mark.parametrize("path", ["../evil.fits", "/etc/evil.fits", "a/../../evil.fits", "C:/evil.fits", "a\\b.fits"])
def test_paths_stay_in_the_folder(tmp_path, path):
    registry = Table({"path": [path], "sha256": ["0" * 64]})
    with pytest.raises(HaloInputError, match="the registry's paths lie inside the folder"):
        fetch_mwa_halos(tmp_path, base_url="http://127.0.0.1:9", registry=registry)


def test_hashes_are_mandatory(tmp_path):
    for sha256 in ("", "None", "0" * 63, "g" * 64):
        with pytest.raises(HaloInputError, match="needs its SHA-256"):
            fetch_mwa_halos(tmp_path, registry=Table({"path": ["a.fits"], "sha256": [sha256]}))


def test_a_folder_that_cannot_be_made(tmp_path, registry):
    (tmp_path / "file").write_text("")
    with pytest.raises(HaloInputError, match="cannot use this folder"):
        fetch_mwa_halos(tmp_path / "file", registry=registry)


def test_a_file_that_cannot_be_written(server, registry, content, tmp_path):
    (tmp_path / next(iter(content))).mkdir(parents=True)
    with pytest.raises(HaloInputError, match="cannot write this file"):
        fetch_mwa_halos(tmp_path, base_url=server.url, registry=registry)


def test_the_registry_that_ships():
    registry = mwa_registry()
    assert registry.meta["commit"] == COMMIT and COMMIT in BASE_URL and BASE_URL.startswith("https://")
    files = [parse_name(path) for path in registry["path"]]
    assert {file.band for file in files} == set(BANDS)
    assert sum(file.band.startswith("gleam") for file in files) == 104 and len(files) == 163
    assert len(set(registry["path"])) == len(set(registry["sha256"])) == 163
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in registry["sha256"])


def test_the_registry_is_that_of_the_real_files(real_data):
    with open(real_data / "index.csv", encoding="utf-8") as stream:
        place = {row["source_path"]: row["file"] for row in csv.DictReader(stream)}
    registry = mwa_registry()
    for row in registry[::20]:
        body = gzip.decompress((real_data / place[row["path"]]).read_bytes())
        assert hashlib.sha256(body).hexdigest() == row["sha256"] and len(body) == row["bytes"].value


@pytest.mark.remote_data
def test_one_file_of_the_real_repository(tmp_path):
    paths = fetch_mwa_halos(tmp_path, registry=mwa_registry()[:1])
    assert load_mwa_halos(tmp_path) and paths[0].is_file()
