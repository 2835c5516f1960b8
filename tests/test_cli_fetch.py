"""``halopy fetch``: images of a list of targets, resumed, counted, and told."""

from __future__ import annotations

import io
import sys
import threading

import numpy as np
import pytest
from archive_server import A2744, ArchiveServer, good, image_bytes, page
from astropy.coordinates import SkyCoord
from astropy.table import Table

import halopy.cli as cli
from halopy import ClusterImage, cli_fetch
from halopy.errors import MissingExtraError, ProviderError
from halopy.io import archive
from halopy.io.cache import sha256_of
from halopy.io.folder import images_in
from halopy.io.providers import SkyView
from halopy.io.transfer import Transfer

POSITIONS = {"A2744": A2744, "A13": SkyCoord(3.38, -19.50, unit="deg"), "A 133/b": SkyCoord(15.67, -21.88, unit="deg")}


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A SkyView on this machine; what is quick in tests is polite outside."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HALOPY_OFFLINE", raising=False)
    monkeypatch.setenv("HALOPY_CACHE", str(tmp_path / "cache"))
    with ArchiveServer() as started:
        monkeypatch.setattr(SkyView.__init__, "__kwdefaults__", {"server": started.url + "/s", "sampler": "LI"})
        monkeypatch.setattr(Transfer.__init__, "__defaults__", (2, 0.0, 60.0, 1.0, 5.0, 2, 2**31))
        yield started


def sky(handler, *, missing=()):
    """The part of the sky that was asked for."""
    import urllib.parse

    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(handler.path).query))
    position = SkyCoord(*map(float, query["position"].split(",")), unit="deg")
    away = any(position.separation(POSITIONS[name]).deg < 0.1 for name in missing)
    body = b"" if away else image_bytes(position, seed=int(position.ra.deg * 10))
    handler.send_response(503 if away else 200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def targets(tmp_path):
    def write(rows=None, name="targets.csv"):
        rows = [(n, p.ra.deg, p.dec.deg) for n, p in POSITIONS.items()] if rows is None else rows
        path = tmp_path / name
        path.write_text("name,ra,dec\n" + "".join(f"{n},{ra},{dec}\n" for n, ra, dec in rows), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def run(tmp_path, capsys):
    def run(*more, targets):
        code = cli.main(["fetch", "--targets", targets, "-o", str(tmp_path / "out"), "--size", "20arcmin", *more])
        said, errors = capsys.readouterr()
        return code, said, errors

    return run


def table_in(folder):
    return Table.read(folder / "fetched.ecsv", format="ascii.ecsv")


def test_images_of_a_list(server, targets, run, tmp_path):
    server.answers("/s", sky)
    code, said, errors = run(targets=targets())
    out = tmp_path / "out"
    assert (code, errors) == (0, "")
    assert said == f"3 of 3 images of gleam-170-231 in {out}\n{out / 'fetched.ecsv'}\n"
    assert sorted(p.name for p in out.iterdir()) == ["A13.fits", "A2744.fits", "A_133_b.fits", "fetched.ecsv"]
    table = table_in(out)
    assert table.colnames == ["name", "ra", "dec", "file", "provider", "url", "sha256", "status", "message"]
    assert table["name"].tolist() == list(POSITIONS) and set(table["status"]) == {"ok"}
    assert dict(table.meta) == {"survey": "gleam-170-231", "size": "0.333333 deg", "provider": "skyview",
                                "folder": "none"}
    for row in table:
        image = ClusterImage.read(out / row["file"])
        x, y = image.wcs.world_to_pixel(POSITIONS[row["name"]])
        assert abs(x - 24.5) < 1 and abs(y - 19.5) < 1 and image.name == row["name"]
        # The beam and the unit of the survey are in the file: nothing has to be said again.
        assert image.beam.source == "survey gleam-170-231" and str(image.unit) == "Jy / beam"
        assert row["sha256"] == sha256_of(out / row["file"]) and row["url"].startswith(server.url)


def test_what_is_there_is_kept(server, targets, run, tmp_path):
    server.answers("/s", sky)
    run(targets=targets())
    out = tmp_path / "out"
    stamps = {p.name: p.stat().st_mtime_ns for p in out.glob("*.fits")}
    (out / "A13.fits").write_bytes((out / "A13.fits").read_bytes()[:-100])
    code, said, _ = run(targets=targets([*((n, p.ra.deg, p.dec.deg) for n, p in POSITIONS.items()), ("new", 40, -20)]))
    assert code == 0 and "4 of 4 images" in said and "2 of them from before" in said
    assert table_in(out)["status"].tolist() == ["kept", "ok", "kept", "ok"]
    for name in ("A2744.fits", "A_133_b.fits"):
        assert (out / name).stat().st_mtime_ns == stamps[name]
    # The one that was cut short came from the cache, not from the archive again.
    assert len(server.seen) == 4
    # Another target under the same name is another target.
    code, _, _ = run(targets=targets([("A2744", 50, -30)]))
    assert code == 0 and len(server.seen) == 5
    assert run("--quiet", targets=targets([("A2744", 50, -30)])) == (0, "", "")


def test_the_folder_remembers_what_it_holds(server, targets, run, tmp_path):
    server.answers("/s", sky)
    run(targets=targets())
    for more, text in ((["--survey", "gleam-139-170"], "with the survey gleam-170-231"),
                       (["--size", "1"], "with the size 0.333333 deg"),
                       (["--provider", "hips2fits"], "with the provider skyview")):
        code, _, errors = run(*more, targets=targets())
        assert code == 2 and text in errors and "--overwrite" in errors
    code, said, _ = run("--survey", "gleam-139-170", "--overwrite", targets=targets())
    assert code == 0 and "3 of 3 images of gleam-139-170" in said
    seen = len(server.seen)
    assert run("--survey", "gleam-139-170", "--overwrite", targets=targets())[0] == 0
    assert len(server.seen) == seen + 3
    (tmp_path / "out" / "fetched.ecsv").write_text("what")
    code, _, errors = run(targets=targets())
    assert code == 2 and "this table cannot be read" in errors


def test_files_of_the_user_are_left_alone(server, targets, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "A2744.fits").write_bytes(b"mine")
    code, _, errors = run(targets=targets())
    assert code == 2 and "A2744.fits: this file exists, and no earlier halopy fetch has written it" in errors
    assert (tmp_path / "out" / "A2744.fits").read_bytes() == b"mine" and server.seen == []


def test_some_fail(server, targets, run, tmp_path):
    server.answers("/s", lambda handler: sky(handler, missing=["A13"]))
    code, said, errors = run(targets=targets())
    assert code == 5 and "2 of 3 images" in said
    assert errors.splitlines() == [errors.strip()] and errors.startswith("error: A13: skyview: the server answered 503")
    table = table_in(tmp_path / "out")
    assert table["status"].tolist() == ["ok", "network", "ok"] and "503" in table["message"][1]
    assert not (tmp_path / "out" / "A13.fits").exists()
    # Later, when the archive is well again, only what is missing is asked for.
    server.answers("/s", sky)
    server.seen.clear()
    assert run(targets=targets())[0] == 0
    assert len(server.seen) == 1 and table_in(tmp_path / "out")["status"].tolist() == ["kept", "ok", "kept"]


def test_all_fail(server, targets, run):
    server.answers("/s", page("Closed for ever"))
    code, said, errors = run(targets=targets())
    assert code == 4 and "0 of 3 images" in said
    assert len(errors.splitlines()) == 3 and "HTML page, 'Closed for ever'" in errors


def test_offline(server, targets, run, monkeypatch):
    server.answers("/s", sky)
    code, _, errors = run("--offline", targets=targets())
    assert code == 4 and "halopy is offline" in errors and server.seen == []
    monkeypatch.setenv("HALOPY_OFFLINE", "1")
    assert run(targets=targets())[0] == 4 and server.seen == []
    monkeypatch.delenv("HALOPY_OFFLINE")
    assert run(targets=targets())[0] == 0


def test_targets_without_a_position_or_an_image(server, targets, run, tmp_path):
    server.answers("/s", good(image_bytes(pixels=np.zeros((20, 20)))))
    code, _, errors = run(targets=targets([("lost", "", ""), ("A2744", 3.58, -30.39)]))
    # No network is to blame.
    assert code == 5 and "lost: this target has no position" in errors and "has not looked there" in errors
    assert table_in(tmp_path / "out")["status"].tolist() == ["error", "outside"]


def test_names_of_files(server, targets, run, tmp_path):
    server.answers("/s", sky)
    rows = [("../../etc/x", 3.58, -30.39), ("a b", 3.6, -30.39), ("a/b", 3.5, -30.39), ("A_B", 3.4, -30.39),
            ("\u2609", 3.3, -30.39)]
    assert run(targets=targets(rows))[0] == 0
    table = table_in(tmp_path / "out")
    assert table["name"].tolist() == [name for name, _, _ in rows]
    # Also on a file system that does not tell A from a.
    assert table["file"].tolist() == ["etc_x.fits", "a_b.fits", "a_b-2.fits", "A_B-3.fits", "unnamed.fits"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*table["file"], "fetched.ecsv"}


def test_a_folder_as_the_archive(targets, run, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "field.fits").write_bytes(image_bytes(A2744))
    code, said, errors = run("--folder", str(mine), targets=targets())
    assert code == 5 and "1 of 3 images" in said and errors.count("shows this position") == 2
    assert table_in(tmp_path / "out")["status"].tolist() == ["ok", "outside", "outside"]
    assert table_in(tmp_path / "out")["provider"][0] == "folder"
    code, _, _ = run("--folder", str(mine), "--provider", "datacentral", "--overwrite",
                     targets=targets([("A2744", 3.58, -30.39)]))
    assert code == 0 and (mine / "halopy-sha256.txt").exists()


@pytest.mark.parametrize(("more", "text"), [
    (["--jobs", "0"], "--jobs must be 1 or more"), (["--size", "wide"], "--size takes an angle.*--size 90arcmin"),
    (["--size", "2 m"], "--size takes an angle"), (["--size", "-1"], "size must lie between 0 and 60 degrees"),
    (["--survey", "gleam"], "no survey is called 'gleam'"), (["--provider", "skyvew"], "no archive 'skyvew'"),
    (["--provider", "folder"], "--provider folder needs a folder.*--folder DIR"),
    (["--provider", "skyview", "--folder", "."], "--folder is for the providers folder and datacentral"),
    (["--survey", "mwa2-88"], "knows no archive of images of mwa2-88"),
    (["--folder", "no-such-folder"], "this folder cannot be read"),
    (["--provider", "lofar", "--survey", "lotss-20", "--size", "3"], "at most 120 arcmin a side")])
def test_what_cannot_be_asked_for(server, targets, run, more, text):
    import re

    code, said, errors = run(*more, targets=targets())
    assert code == 2 and said == "" and re.search(text, errors) and len(errors.splitlines()) == 1
    assert server.seen == []


def test_a_folder_that_cannot_be_made(targets, run, tmp_path):
    (tmp_path / "out").write_text("")
    code, _, errors = run("--folder", str(tmp_path), targets=targets())
    assert code == 2 and "cannot make this folder" in errors


def test_many_at_a_time_are_polite(server, targets, run):
    def slow(handler):
        threading.Event().wait(0.03)
        sky(handler)

    server.answers("/s", slow)
    rows = [(f"t{n}", 3 + n, -30) for n in range(8)]
    assert run("--jobs", "6", targets=targets(rows))[0] == 0
    assert len(server.seen) == 8 and server.most <= 2


def test_progress(server, targets, run, monkeypatch):
    pytest.importorskip("tqdm")
    server.answers("/s", sky)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run(targets=targets())[0] == 0
    assert "3/3" in terminal.getvalue() or "0/3" in terminal.getvalue()


def test_a_stopped_run_can_be_continued(server, targets, run, tmp_path, monkeypatch):
    server.answers("/s", sky)
    true, count = archive.fetch, []

    def stops(*arguments, **keywords):
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt
        return true(*arguments, **keywords)

    monkeypatch.setattr(cli_fetch.archive, "fetch", stops)
    assert run("--jobs", "1", targets=targets())[0] == 130
    status = table_in(tmp_path / "out")["status"].tolist()
    assert status[:2] == ["ok", "waiting"]
    monkeypatch.setattr(cli_fetch.archive, "fetch", true)
    assert run(targets=targets())[0] == 0
    assert table_in(tmp_path / "out")["status"][0] == "kept"


@pytest.mark.parametrize(("error", "code", "text"), [
    (ZeroDivisionError("oh"), 5, "error: A2744: ZeroDivisionError: oh\n"),
    (MissingExtraError("needs pooch"), 3, "error: needs pooch\n"),
    (ProviderError("no\nanswer", cause="timeout"), 4, "error: A2744: no answer\n")])
def test_errors_of_one_target(targets, run, monkeypatch, error, code, text):
    def fails(*arguments, **keywords):
        raise error

    monkeypatch.setattr(cli_fetch.archive, "fetch", fails)
    found, _, errors = run(targets=targets([("A2744", 3.58, -30.39)]))
    assert (found, errors) == (code, text)


def test_files_of_the_user_beside_fetched_ones(server, targets, run, tmp_path):
    server.answers("/s", sky)
    run(targets=targets([("A13", 3.38, -19.50)]))
    (tmp_path / "out" / "A2744.fits").write_bytes(b"mine")
    code, _, errors = run(targets=targets([("A13", 3.38, -19.50), ("A2744", 3.58, -30.39)]))
    assert code == 2 and "A2744.fits: this file exists, and no earlier halopy fetch has written it" in errors
    assert (tmp_path / "out" / "A2744.fits").read_bytes() == b"mine"


def test_another_folder_is_another_archive(targets, run, tmp_path):
    one = targets([("A2744", 3.58, -30.39)])
    for seed, name in enumerate(("first", "second"), 1):
        (tmp_path / name).mkdir()
        (tmp_path / name / "field.fits").write_bytes(image_bytes(A2744, seed=seed))
    assert run("--folder", str(tmp_path / "first"), targets=one)[0] == 0
    code, _, errors = run("--folder", str(tmp_path / "second"), targets=one)
    assert code == 2 and "were fetched with the folder" in errors
    # Images of the user are never written over by what is cut out of them.
    code, _, errors = run("--folder", str(tmp_path / "out"), "--overwrite", targets=one)
    assert code == 2 and "would be written into the folder that they are taken from" in errors


def test_names_that_a_search_would_leave_out(targets, run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "field.fits").write_bytes(image_bytes(A2744))
    names = ["Leo V", "significance", "A1_rms"]
    assert run("--folder", str(tmp_path / "mine"), targets=targets([(n, 3.58, -30.39) for n in names]))[0] == 0
    assert [p.name for p in images_in(tmp_path / "out")] == ["A1_rms_field.fits", "Leo_V_field.fits",
                                                             "significance_field.fits"]


def test_an_interruption_does_not_wait_for_the_archive(targets, run, tmp_path, monkeypatch):
    asked, never = threading.Event(), threading.Event()

    def hangs(*arguments, **keywords):
        asked.set()
        never.wait(20)
        raise ProviderError("too late")

    def stopped(items):
        assert asked.wait(10)
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(archive, "fetch", hangs)
    monkeypatch.setattr(cli, "_bar", lambda *arguments: stopped)
    assert run(targets=targets())[0] == 130
    assert not never.is_set() and set(table_in(tmp_path / "out")["status"]) == {"waiting"}
    never.set()
