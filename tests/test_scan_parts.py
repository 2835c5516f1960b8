"""What a search keeps so that it can go on, and what it does in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from simulated import a_field
from test_scan import FakeDetector, read, targets

from halopy import CutoutSet, HaloInputError
from halopy.errors import MissingExtraError
from halopy.io.detections import blank_detections, write_detections
from halopy.scan import scan
from halopy.scan_parts import Part, Parts, apart, unfinished

needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")


def a_part():
    image = a_field((30, 40), rng=1, name="field", meta={"shape": (3000, 4000)})
    table = blank_detections(
        ["A1", "hé"], SkyCoord([3.5, np.nan], [-30, np.nan], unit="deg"), image="field", status="ok"
    )
    table["snr"] = [1.5, np.nan]
    table["redshift"] = np.ma.array([0.1, 0.0], mask=[False, True])
    table.meta = {"detector": "FakeDetector()", "seed": 3}
    cutouts = CutoutSet(np.ones((2, 8, 8)), QTable({"name": ["A1", "hé"]}))
    return Part(
        "field",
        rows=[0, 3],
        reason="told",
        table=table,
        cutouts=cutouts,
        residuals=None,
        image=image,
        significance=image.replace(data=image.data / 3),
    )


def test_a_part_is_what_it_was(tmp_path):
    part = a_part()
    Parts(tmp_path).write(7, part)
    again = Parts(tmp_path).read(7)
    assert (again.name, again.rows, again.reason, again.failure, again.residuals) == (
        "field",
        [0, 3],
        "told",
        None,
        None,
    )
    assert again.table.colnames == part.table.colnames and again.table.meta == part.table.meta
    for folder, table in (("one", part.table), ("two", again.table)):
        write_detections(table, tmp_path / folder)
    for name in ("detections.ecsv", "detections.vot", "detections.fits", "detections.reg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    np.testing.assert_array_equal(again.cutouts.data, part.cutouts.data)
    np.testing.assert_array_equal(again.significance.data, part.significance.data)
    assert again.image.meta["shape"] == (3000, 4000) and again.image.name == "field"
    assert Parts(tmp_path).read(8) is None


def test_a_damaged_part_is_made_again(tmp_path):
    parts = Parts(tmp_path)
    for name in ("part.json", "table.fits", "image.fits"):
        parts.write(0, a_part())
        file = parts.path(0) / name
        file.write_bytes(file.read_bytes()[:100])
        assert parts.read(0) is None and not parts.path(0).exists()


def test_what_cannot_be_kept(tmp_path):
    part = a_part()
    part.table["odd"] = np.array([object(), object()])
    with pytest.raises(HaloInputError, match="results of this image cannot be kept"):
        Parts(tmp_path).write(0, part)
    assert not list(tmp_path.iterdir())


def test_a_search_goes_on_where_it_was_stopped(tmp_path):
    class Stopped(FakeDetector):
        def __call__(self, image, wanted=None, *, rng=None):
            if len(self.calls) == 1:
                raise KeyboardInterrupt
            return super().__call__(image, wanted, rng=rng)

    parts, whole = Parts(tmp_path), scan(["a", "b"], FakeDetector(), read=read, targets=targets(), rng=7)
    with pytest.raises(KeyboardInterrupt):
        scan(["a", "b"], Stopped(), read=read, targets=targets(), parts=parts, rng=7)
    detector = FakeDetector()
    found = scan(["a", "b"], detector, read=read, targets=targets(), parts=parts, rng=7)
    assert detector.calls == [("field (2)", ["both", "only b"], 7)]
    for folder, table in (("one", whole.detections), ("two", found.detections)):
        write_detections(table, tmp_path / folder)
    assert (tmp_path / "one" / "detections.ecsv").read_bytes() == (tmp_path / "two" / "detections.ecsv").read_bytes()
    assert [image.name for image in found.images] == ["field", "field (2)"]
    assert [c is not None for c in found.cutouts] == [c is not None for c in whole.cutouts]


def test_an_image_that_failed_is_tried_again(tmp_path):
    parts = Parts(tmp_path)
    found = scan(["a", "b"], FakeDetector(ValueError("odd")), read=read, targets=targets(), parts=parts)
    assert found.failures == ["a: ValueError: odd", "b: ValueError: odd"]
    assert scan(["a", "b"], FakeDetector(), read=read, targets=targets(), parts=parts).failures == []


# ------------------------------------------------------------------------------------ processes of their own


class Dying(FakeDetector):
    def __call__(self, image, wanted=None, *, rng=None):
        if len(wanted) == 1:  # that is image a
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(image, wanted, rng=rng)


class Sleeping(FakeDetector):
    def __call__(self, image, wanted=None, *, rng=None):
        time.sleep(10_000)


@needs_fork
def test_a_search_that_dies_is_a_row():
    found = scan(["a", "b", "none"], Dying(), read=read, targets=targets(), time_limit=600)
    assert found.failures == ["a: the search ended its process (signal 9)", "none: there is no such file"]
    assert sorted(found.detections["status"]) == ["error", "error", "ok", "ok", "outside", "outside"]


@needs_fork
def test_a_search_that_sleeps_is_ended():
    found = scan(["a", "b"], Sleeping(), read=read, targets=targets(), time_limit=1)
    assert found.failures == ["a: the search took longer than 1 s", "b: the search took longer than 1 s"]
    with pytest.raises(HaloInputError, match="^a: the search took longer than 0.5 s"):
        scan(["a"], Sleeping(), read=read, targets=targets(), time_limit=0.5)


@needs_fork
def test_what_is_raised_apart():
    with pytest.raises(MissingExtraError, match="needs torch"):
        scan(["a", "b"], FakeDetector(MissingExtraError("needs torch")), read=read, time_limit=600)
    found = scan(["a", "b"], FakeDetector(ZeroDivisionError("oh")), read=read, time_limit=600)
    assert found.failures == ["a: ZeroDivisionError: oh", "b: ZeroDivisionError: oh"]


def test_limits_that_are_none(tmp_path, monkeypatch):
    for limit in (0, -1, float("nan")):
        with pytest.raises(HaloInputError, match="time_limit must be a positive number"):
            scan(["a"], FakeDetector(), read=read, time_limit=limit)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(HaloInputError, match="needs a system with fork"):
        apart(a_part, Parts(tmp_path), 0, path="a.fits", seconds=1)


# ------------------------------------------------------------------------------------------- the folder of a run


def test_a_run_that_ends_leaves_nothing(tmp_path):
    out = tmp_path / "out"
    with unfinished(out, {"seed": 1}, results=[out / "a"], overwrite=False) as parts:
        assert parts.folder.is_dir()
    assert not out.exists()
    with pytest.raises(ValueError, match="early"), unfinished(out, {}, results=[out / "a"], overwrite=False):
        raise ValueError("early")
    assert not out.exists()


def stopped(run, work):
    with run as parts:
        work(parts)
        raise KeyboardInterrupt


def test_a_run_that_was_stopped_is_continued_by_its_equal_alone(tmp_path):
    out = tmp_path / "out"
    result = out / "a.ecsv"
    run = unfinished(out, {"seed": 1}, results=[result], overwrite=False)
    with pytest.raises(KeyboardInterrupt):
        stopped(run, lambda parts: result.write_text("half of the results"))
    (out / ".a.ecsv-abcdefgh.ecsv").write_text("what a killed writer leaves")
    with (
        pytest.raises(HaloInputError, match="other settings was stopped here.*seed, found 1.*--overwrite"),
        unfinished(out, {"seed": 2}, results=[result], overwrite=False),
    ):
        pass
    with unfinished(out, {"seed": 1}, results=[result], overwrite=False) as parts:
        parts.path(0).mkdir()
        assert {path.name for path in out.iterdir()} == {"a.ecsv", "unfinished", "unfinished.lock"}
    assert {path.name for path in out.iterdir()} == {"a.ecsv"}
    with (
        pytest.raises(HaloInputError, match="this file exists"),
        unfinished(out, {"seed": 1}, results=[result], overwrite=False),
    ):
        pass
    with unfinished(out, {"seed": 1}, results=[result], overwrite=True):
        pass
    assert {path.name for path in out.iterdir()} == {"a.ecsv"}


def test_a_run_that_is_given_up(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        stopped(unfinished(out, {"seed": 1}, results=[], overwrite=False), lambda parts: parts.write(0, Part("a")))
    (out / "unfinished" / "search.json").write_text("{")
    with (
        pytest.raises(HaloInputError, match="other settings"),
        unfinished(out, {"seed": 1}, results=[], overwrite=False),
    ):
        pass
    with unfinished(out, {"seed": 2}, results=[], overwrite=True) as parts:
        assert parts.read(0) is None
        assert json.loads((parts.folder / "search.json").read_text()) == {"seed": 2}


def test_two_runs_in_one_folder(tmp_path):
    with (
        unfinished(tmp_path, {}, results=[], overwrite=False),
        pytest.raises(HaloInputError, match="another process searches into this folder"),
        unfinished(tmp_path, {}, results=[], overwrite=True),
    ):
        pass
    # The lock of one that was killed is none.
    (tmp_path / "unfinished.lock").write_bytes(b"")
    with unfinished(tmp_path, {}, results=[], overwrite=False):
        pass
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(HaloInputError, match="cannot make this folder"),
        unfinished(tmp_path / "file", {}, results=[], overwrite=False),
    ):
        pass
    (tmp_path / "a" / "unfinished.lock").mkdir(parents=True)
    with (
        pytest.raises(HaloInputError, match="cannot write here"),
        unfinished(tmp_path / "a", {}, results=[], overwrite=False),
    ):
        pass
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "unfinished").write_text("")
    with (
        pytest.raises(HaloInputError, match="cannot write here"),
        unfinished(tmp_path / "b", {}, results=[], overwrite=False),
    ):
        pass
