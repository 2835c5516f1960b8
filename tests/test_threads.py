"""Work shared out among threads: all of it is done once, errors come out, and no thread stays."""

import contextlib
import gc
import threading
import time
import weakref

import numba
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from halopy.preprocess.threads import bands, in_threads, one_blas_thread


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)


@given(n=st.integers(0, 60), threads=st.integers(1, 9))
def test_every_part_is_worked_on_once(n, threads):
    done = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        in_threads(done.append, range(n))
        rows = [row for band in bands(n) for row in range(band.start, band.stop)]
    assert sorted(done) == rows == list(range(n))


def test_each_thread_begins_with_a_stretch_of_its_own():
    both, seen = threading.Barrier(2, timeout=60), {}

    def work(part):
        first = threading.get_ident() not in seen
        seen.setdefault(threading.get_ident(), []).append(part)
        if first:
            both.wait()

    in_threads(work, range(8))
    assert {parts[0] for parts in seen.values()} == {0, 4}


@pytest.mark.parametrize("in_caller", [True, False])
@pytest.mark.parametrize("kind", [IndexError, KeyboardInterrupt])
def test_an_error_comes_out_and_what_has_not_begun_is_left_undone(in_caller, kind):
    both, begun, before = threading.Barrier(2, timeout=60), [], threading.active_count()

    def work(part):
        begun.append(part)
        if part in (0, 50):
            both.wait()
            if (threading.current_thread() is threading.main_thread()) == in_caller:
                raise kind("of the work")
        time.sleep(0.2)

    with pytest.raises(kind, match="of the work"):
        in_threads(work, range(100))
    assert len(begun) < 100
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt("can't start new thread")])
def test_a_thread_that_does_not_start(error, monkeypatch):
    start, before = threading.Thread.start, threading.active_count()

    def one_only(thread):
        start(thread)
        raise error

    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 3)
    monkeypatch.setattr(threading.Thread, "start", one_only)
    with pytest.raises(type(error), match="can't start new thread"):
        in_threads(lambda part: None, range(5))
    assert threading.active_count() == before


def test_an_error_that_was_caught_keeps_nothing():
    class Plane:
        pass

    plane = Plane()
    known = weakref.ref(plane)

    def work(part, plane=plane):
        raise ValueError("of the work")

    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            in_threads(work, range(1))
        del plane, work
        assert known() is None
    finally:
        gc.enable()


def test_linear_algebra_is_held_to_one_thread():
    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before = threads()
    with one_blas_thread():
        assert threads() == {1}
    assert threads() == before
