"""What a search keeps so that it can go on, and what it does in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import subprocess
import sys
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
    image = a_field((30, 40), rng=1, name="field", meta={"shape": (3000, 4000), "rms_method": "map"})
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
    assert again.image.name == "field"
    assert again.image.meta == part.image.meta == {"shape": (3000, 4000), "rms_method": "map"}
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


def test_columns_of_the_targets_may_be_of_any_kind(tmp_path):
    """The targets are at hand: what no FITS file can hold need not be kept with the results."""

    class Handing(FakeDetector):
        def __call__(self, image, wanted=None, *, rng=None):
            table = super().__call__(image, wanted, rng=rng)
            for name in set(wanted.colnames) - set(table.colnames):
                table[name] = wanted[name]
            return table

    wanted = targets()
    wanted["gr\u00f6\u00dfe"] = [1.5, 2.5, 3.5, 4.5]
    wanted["odd"] = np.array([None, "a", (1, 2), {}], dtype=object)
    whole = scan(["a", "b"], Handing(), read=read, targets=wanted)
    kept = scan(["a", "b"], Handing(), read=read, targets=wanted, parts=Parts(tmp_path))
    for found in (whole, kept):
        assert list(found.detections["gr\u00f6\u00dfe"]) == [1.5, 1.5, 2.5, 3.5, 4.5]
        assert list(found.detections["odd"]) == [None, None, "a", (1, 2), {}]
        assert found.detections.colnames == whole.detections.colnames


def test_a_failed_image_takes_no_name_from_the_next(tmp_path):
    """Whether the search of an image fails may change from one start to the next; names that are kept may not."""

    class Failing(FakeDetector):
        def __call__(self, image, wanted=None, *, rng=None):
            if len(wanted) == 1:  # that is image a
                raise ValueError("odd")
            return super().__call__(image, wanted, rng=rng)

    found = scan(["a", "b"], Failing(), read=read, targets=targets(), parts=Parts(tmp_path))
    assert [image.name for image in found.images] == ["field"]
    again = scan(["a", "b"], FakeDetector(), read=read, targets=targets(), parts=Parts(tmp_path))
    assert len({image.name for image in again.images}) == 2


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
        if self.fail is not None:  # a pipe
            os.write(self.fail, b"x")
        time.sleep(10_000)


@needs_fork
def test_a_search_that_dies_is_a_row():
    found = scan(["a", "b", "none"], Dying(), read=read, targets=targets(), time_limit=600)
    assert found.failures == ["a: the search ended its process (signal 9)", "none: there is no such file"]
    assert sorted(found.detections["status"]) == ["error", "error", "ok", "ok", "outside", "outside"]


class Warm(FakeDetector):
    """Loads what takes long once; that fails in the end, as a broken plugin does."""

    loaded = 0

    def warm_up(self):
        self.loaded += os.getpid()
        raise ZeroDivisionError

    def __call__(self, image, wanted=None, *, rng=None):
        assert self.loaded == os.getppid()
        return super().__call__(image, wanted, rng=rng)


@needs_fork
def test_what_takes_long_is_loaded_once():
    found = scan(["a", "b"], Warm(), read=read, targets=targets(), time_limit=600)
    assert not found.failures
    cold = Warm()
    cold.warm_up = None  # it cannot be called
    with pytest.raises(HaloInputError, match="AssertionError"):
        scan(["a"], cold, read=read, targets=targets(), time_limit=600)


@needs_fork
def test_a_search_that_sleeps_is_ended():
    found = scan(["a", "b"], Sleeping(), read=read, targets=targets(), time_limit=1)
    assert found.failures == ["a: the search took longer than 1 s", "b: the search took longer than 1 s"]
    with pytest.raises(HaloInputError, match="^a: the search took longer than 0.5 s"):
        scan(["a"], Sleeping(), read=read, targets=targets(), time_limit=0.5)


@needs_fork
@pytest.mark.parametrize("ended", [signal.SIGKILL, signal.SIGTERM])
def test_no_search_outlives_the_one_who_started_it(tmp_path, ended):
    """Or it would hold the folder against all that come after, for ever where it hangs."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        scan(["a", "b"], Sleeping(theirs), read=read, targets=targets(), parts=Parts(tmp_path), time_limit=600)
        os._exit(0)
    os.close(theirs)
    assert os.read(ours, 1) == b"x"  # the search is on
    os.kill(child, ended)
    os.waitpid(child, 0)
    # The end of the pipe: nobody is left who could write into it.
    assert select.select([ours], [], [], 60)[0] and os.read(ours, 1) == b""
    os.close(ours)


@needs_fork
def test_torch_does_not_wait_for_threads_that_are_not_there(tmp_path):
    """Where it has computed with two threads before, it hangs in a forked process that does so again."""
    pytest.importorskip("torch", reason="needs torch")
    code = (
        "import sys, torch; from halopy.scan_parts import Part, Parts, apart\n"
        "torch.set_num_threads(2)\n"
        "def search():\n    x = torch.ones(800, 800); return Part(str(float((x @ x + x)[0, 0])))\n"
        "print(search().name, apart(search, Parts(sys.argv[1]), 0, path='a', seconds=60).name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=600)
    assert done.stdout.split() == ["801.0", "801.0"], done.stderr


@needs_fork
def test_results_that_cannot_be_kept_apart(tmp_path, monkeypatch):
    def full(self, number, part):
        if part.failure is None or not told:
            raise HaloInputError("the disk is full", path="x")
        return write(self, number, part)

    write, told = Parts.write, True
    monkeypatch.setattr(Parts, "write", full)
    with pytest.raises(HaloInputError, match="^x: the disk is full"):
        scan(["a", "b"], FakeDetector(), read=read, targets=targets(), parts=Parts(tmp_path), time_limit=600)
    assert not list(tmp_path.iterdir())
    told = False
    with pytest.raises(HaloInputError, match="the results of a cannot be kept"):
        scan(["a", "b"], FakeDetector(), read=read, targets=targets(), parts=Parts(tmp_path), time_limit=600)


@needs_fork
def test_what_is_raised_apart():
    with pytest.raises(MissingExtraError, match="needs torch"):
        scan(["a", "b"], FakeDetector(MissingExtraError("needs torch")), read=read, time_limit=600)
    found = scan(["a", "b"], FakeDetector(ZeroDivisionError("oh")), read=read, time_limit=600)
    assert found.failures == ["a: ZeroDivisionError: oh", "b: ZeroDivisionError: oh"]


def test_limits_that_are_none(tmp_path, monkeypatch):
    for limit in (0, -1, float("nan"), float("inf"), 1e300):
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
        pytest.raises(HaloInputError, match="other settings or files was stopped here.*seed, found 1.*--overwrite"),
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
        stopped(
            unfinished(out, {"seed": 1, "files": {"a.fits": [1, 2]}}, results=[], overwrite=False),
            lambda parts: parts.write(0, Part("a")),
        )
    with (
        pytest.raises(HaloInputError, match=r"other settings or files.*\(a.fits, found \[1, 2\]\)"),
        unfinished(out, {"seed": 1, "files": {"a.fits": [1, 3]}}, results=[], overwrite=False),
    ):
        pass
    (out / "unfinished" / "search.json").write_text("{")
    with (
        pytest.raises(HaloInputError, match="other settings"),
        unfinished(out, {"seed": 1}, results=[], overwrite=False),
    ):
        pass
    with unfinished(out, {"seed": 2}, results=[], overwrite=True) as parts:
        assert parts.read(0) is None
        assert json.loads((parts.folder / "search.json").read_text()) == {"seed": 2}


def test_what_is_not_ours_stays(tmp_path):
    (tmp_path / "unfinished" / "00000").mkdir(parents=True)  # what is left of a run that was killed at its very end
    (tmp_path / "unfinished" / "symphony.txt").write_text("mine")
    (tmp_path / "a.ecsv").write_text("done")
    with (
        pytest.raises(HaloInputError, match="this file exists"),
        unfinished(tmp_path, {}, results=[tmp_path / "a.ecsv"], overwrite=False),
    ):
        pass
    with unfinished(tmp_path, {}, results=[], overwrite=False):
        pass
    assert [path.name for path in (tmp_path / "unfinished").iterdir()] == ["symphony.txt"]


def test_two_runs_in_one_folder(tmp_path):
    with (
        unfinished(tmp_path, {}, results=[], overwrite=False),
        pytest.raises(HaloInputError, match="another process writes into this folder"),
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
