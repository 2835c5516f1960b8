"""What more than one test file needs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository():
    """The checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data():
    """The folder of real images (HALOPY_TEST_DATA); the test is skipped where there is none."""
    folder = Path(os.environ.get("HALOPY_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "index.csv").is_file():
        pytest.skip("no real images here: HALOPY_TEST_DATA names their folder")
    return folder


# ---------------------------------------- the command line in a process of its own, with the limits of every case

# One process for all cases, because starting costs more than most of them.
SERVER = """
import contextlib, io, json, os, resource, sys, time
from halopy import cli
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    folder, arguments = json.loads(line)
    os.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    before = time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    print(json.dumps([code, out.getvalue(), err.getvalue(), time.process_time() - before,
                      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]), file=answers, flush=True)
"""
EXIT = {0, 2, 3, 4, 5}
SECONDS = 10
"""Of processor time, which a busy machine does not change."""
STUCK = 1800
"""Of any time: a stop for what hangs."""
MEMORY = 1e9


@dataclasses.dataclass
class Done:
    """What a command answered: exit code, both outputs, processor time in seconds, peak memory in bytes."""

    code: int
    out: str
    err: str
    seconds: float
    memory: float


@pytest.fixture(scope="session")
def _server():
    environment = os.environ | {"MPLBACKEND": "Agg", "COLUMNS": "200"}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        yield process
        process.stdin.close()


def _states(folder):
    """The sha256 of every plain file of a folder."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def halopy(_server, tmp_path):
    """Run a command of halopy under the rule of all cases; returns `Done`.

    An exit code of the documented ones, one line for each error, no traceback, ten seconds, 1 GB, and every file that
    was there before unchanged (unless ``overwrite``).
    """

    def run(*arguments, seconds=SECONDS, overwrite=False):
        before = _states(tmp_path)
        _server.stdin.write(json.dumps([str(tmp_path), [str(a) for a in arguments]]).encode() + b"\n")
        _server.stdin.flush()
        if not select.select([_server.stdout], [], [], STUCK)[0]:
            _server.kill()
            pytest.fail(f"no end after {STUCK} s")
        done = Done(*json.loads(_server.stdout.readline()))
        assert done.code in EXIT, done.err
        assert "Traceback" not in done.out + done.err
        begin = ("error: ", "warning: ", "usage: ", "halopy ", "halopy: ", " ")
        assert all(line.startswith(begin) for line in done.err.splitlines())
        assert not done.code or "error: " in done.err or "warning: " in done.err
        assert done.seconds < seconds and done.memory < MEMORY
        assert overwrite or _states(tmp_path).items() >= before.items()
        return done

    return run


@pytest.fixture
def refused(halopy):
    """Run a command that has to be refused, and return what it says: one line, exit code 2."""

    def run(*arguments, seconds=SECONDS):
        done = halopy(*arguments, seconds=seconds)
        errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert done.code == 2 and len(errors) == 1, done
        return errors[0].removeprefix("error: ")

    return run
