"""Runs that are killed, that meet a full disk, a read-only folder or another run; and batches with faults in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import test_generator_faults
import test_model_faults
from made import FULL, NO_BEAM, PIXELS, compressed, image, raw_header
from test_generator_faults import whole  # noqa: F401 (a fixture)

from halopy.io.detections import read_detections

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork")

test_a18_a_training_killed_while_it_writes = (
    test_model_faults.test_a_training_that_is_killed_continues_to_the_same_bytes
)
test_a18_leftovers_of_other_files_stay = test_model_faults.test_only_what_was_left_of_this_file_is_removed
test_a19_a_full_disk_leaves_the_older_checkpoint = test_generator_faults.test_a_full_disk_leaves_the_older_checkpoint

# Runs one command to its end; then starts it, kills it at a random moment, and starts it again, so many times. The
# processes are forks of one that has imported everything.
KILLED = """
import json, os, shutil, signal, sys, time
from pathlib import Path
import numpy as np
from halopy import cli
import halopy.detect, halopy.report, halopy.scan, halopy.simulate.survey_cutouts, halopy.simulate.chunks

whole, killed, kills, seed = json.loads(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(seed)

def start(arguments):
    child = os.fork()
    if child == 0:
        os._exit(cli.main(arguments))
    return child

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def state(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*")
            if path.is_file()}

begin = time.monotonic()
assert end(start(whole)) == 0
length, done, ends = time.monotonic() - begin, 0, 0
while done < kills:
    child = start(killed)
    time.sleep(rng.uniform(0, 0.7 * length))
    os.kill(child, signal.SIGKILL)
    if end(child) == -signal.SIGKILL:
        done += 1
    else:  # it was done before: another one is begun
        assert state(killed[-1]) == state(whole[-1])
        ends += 1
        shutil.rmtree(killed[-1])
code = end(start(killed))
if code == 2:  # the last kill came when everything was written, and nothing is replaced unasked
    assert not (Path(killed[-1]) / "unfinished").exists()
else:
    assert code == 0
print(done, ends, code)
"""


def killed_at_random(tmp_path, command, *, kills, folders):
    """Run a command whole and with kills in between; return what the script says: kills, ends, last exit code."""
    once, often = ([*command, "-o", str(folder)] for folder in folders)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(once), json.dumps(often), str(kills), "7"],
        capture_output=True,
        text=True,
        timeout=3000,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()[-3:]]


def same_bytes(one, two):
    """Both folders hold files of the same names and bytes, and nothing that was left by the way."""
    files = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (one, two)
    ]
    assert files[0].keys() == files[1].keys() and len(files[0]) > 1
    assert [str(name) for name in files[0] if files[0][name] != files[1][name]] == []


@needs_fork
@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_rows_35_a18_a_search_killed_at_random_moments(tmp_path, kills):
    for number in range(5):
        image(tmp_path / f"{number}.fits", FULL | {"CRVAL1": 10.0 + number}, PIXELS + number * PIXELS[::-1])
    command = [
        "detect",
        *(f"{number}.fits" for number in range(5)),
        "--classifier",
        "matched-filter",
        "--n-controls",
        "20",
        "--quiet",
    ]
    told = killed_at_random(tmp_path, command, kills=kills, folders=(tmp_path / "whole", tmp_path / "killed"))
    assert told[0] == kills
    same_bytes(tmp_path / "whole", tmp_path / "killed")


@needs_fork
@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_rows_35_a18_a_simulation_killed_at_random_moments(tmp_path, kills):
    command = ["simulate", "-n", "60", "--chunk", "6", "--size", "16", "--faintest", "50", "--quiet"]
    told = killed_at_random(tmp_path, command, kills=kills, folders=(tmp_path / "whole", tmp_path / "killed"))
    assert told[0] == kills
    same_bytes(tmp_path / "whole", tmp_path / "killed")


# ------------------------------------------------------------------------------------------ disks and neighbours


@pytest.fixture
def disk(tmp_path):
    """Mount a file system of some kB, or one that is read-only; the test is skipped where that is not allowed."""
    mounted = []

    def mount(name, *options):
        folder = tmp_path / name
        folder.mkdir()
        if (
            not sys.platform.startswith("linux")
            or subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode
        ):
            pytest.skip("needs Linux, and the right to mount a file system")
        mounted.append(folder)
        return folder

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", str(folder)], check=True)


def test_a19_a_full_disk(disk, refused, tmp_path):
    """40 kB are not enough: the error says so, and the old page is as it was."""
    image(tmp_path / "a.fits", FULL)
    folder = disk("out", "-t", "tmpfs", "-o", "size=40k", "tmpfs")
    old = b"an older page" * 100
    (folder / "index.html").write_bytes(old)
    text = refused("detect", "a.fits", "--classifier", "matched-filter", "--n-controls", 0, "-o", "out", "--overwrite")
    assert "No space left on device" in text and "check the disk space" in text
    assert (folder / "index.html").read_bytes() == old
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a19_a_read_only_folder(disk, refused, tmp_path):
    image(tmp_path / "a.fits", FULL)
    folder = disk("out", "-t", "tmpfs", "-o", "ro", "tmpfs")
    for output in ("out", "out/deeper"):
        text = refused("detect", "a.fits", "--n-controls", 0, "-o", output)
        assert "Read-only file system" in text and str(folder.name) in text
    assert "Read-only" in refused("simulate", "-n", "3", "-o", "out/set")


def test_a19_results_that_are_there(halopy, refused, tmp_path):
    image(tmp_path / "a.fits", FULL)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "detections.ecsv").write_text("mine")
    assert "this file exists" in refused("detect", "a.fits", "-o", "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"detections.ecsv"}
    (tmp_path / "file").write_text("no folder")
    assert "cannot make this folder" in refused("detect", "a.fits", "-o", "file")


@needs_fork
def test_a19_two_processes_on_one_output(tmp_path):
    """Of two that begin at once one is refused, and the results are those of one alone."""
    for number in range(2):
        image(tmp_path / f"{number}.fits", FULL)
    command = ["detect", "0.fits", "1.fits", "--classifier", "matched-filter", "--n-controls", "0", "--quiet", "-o"]
    code = (
        "import os, sys\nfrom halopy import cli\nimport halopy.detect, halopy.report, halopy.scan\n"
        "children = []\nfor _ in range(2):\n    child = os.fork()\n    if child == 0:\n"
        "        os._exit(cli.main(sys.argv[1:] + ['both']))\n    children.append(child)\n"
        "codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]\n"
        "print(*sorted(codes), cli.main(sys.argv[1:] + ['alone']))"
    ).replace("\\\n", "\n")
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
    )
    assert done.stdout.split() == ["0", "2", "0"], done.stderr
    assert "another process writes into this folder" in done.stderr or "this file exists" in done.stderr
    same_bytes(tmp_path / "both", tmp_path / "alone")


# --------------------------------------------------------------------------------------------------- batches

BAD = {
    "html": b"<!DOCTYPE html><title>503</title>",
    "empty": b"",
    "no-fits": b"hello" * 50,
    "axes": raw_header(("BITPIX", -32), ("NAXIS", 10**9)) + b"\0" * 2880,
    "pixels": raw_header(("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", 10**6), ("NAXIS2", 10**6)),
    "tile": compressed("PLIO_1", checksum=True)[0][:-3000],
}
PLUGIN = """
import os, signal, time
import numpy as np
from halopy.classify import Classifier

class Odd(Classifier):
    trainable = False

    def _predict_proba(self, cutouts):
        level = float(np.nanmedian(cutouts.data))
        if level > 900:
            time.sleep(10_000)
        if level > 90:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full(len(cutouts), 0.5)
"""


def batch(folder, n, every, *, sleeper):
    """Write ``n`` images of which one in ``every`` is bad in a known way; return {name: what has to become of it}."""
    expected = {}
    cards = FULL | {"BMAJ": 0.0125, "BMIN": 0.0125}
    for number in range(n):
        name, which = f"{number:03d}", (number // every) % 10
        which = 0 if which == 9 and not sleeper else which
        path = folder / f"{name}.fits"
        expected[name] = "ok"
        data = PIXELS[:40, :40] + np.float32(number * 1e-3)
        if number % every != 1:
            image(path, cards, data)
        elif which < 6:
            path.write_bytes(list(BAD.values())[which])
            del expected[name]
            expected[path.name] = "error"
        elif which == 6:
            image(path, NO_BEAM, data)
            del expected[name]
            expected[path.name] = "error"
        elif which == 7:
            image(path, cards, data * np.nan)
            expected[name] = "unusable"
        else:  # one that kills its process, one that sleeps for ever
            image(path, cards, data + (100 if which == 8 else 1000))
            del expected[name]
            expected[path.name] = "error"
    return expected


@needs_fork
@pytest.mark.parametrize(("n", "every"), [(20, 2), pytest.param(200, 10, marks=pytest.mark.slow)])
def test_row_38_a20_a_batch_with_bad_ones_in_it(tmp_path, n, every):
    """One row an image, each with its status; the sleeper is ended, the dead are buried, and the rest is right."""
    limit = 120 if n == 200 else 600  # the short batch has nobody who sleeps: see test_scan_parts.py
    expected = batch(tmp_path, n, every, sleeper=n == 200)
    (tmp_path / "t.csv").write_text("name,ra,dec\nA1,10,-30\n")
    site = tmp_path / "site"
    (site / "halopy_odd-1.dist-info").mkdir(parents=True)
    (site / "halopy_odd_plugin.py").write_text(PLUGIN)
    (site / "halopy_odd-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: halopy-odd\nVersion: 1\n")
    (site / "halopy_odd-1.dist-info" / "entry_points.txt").write_text(
        "[halopy.classifiers]\nodd = halopy_odd_plugin:Odd\n"
    )
    names = sorted(path.name for path in tmp_path.glob("*.fits"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "halopy",
            "detect",
            *names,
            "--targets",
            "t.csv",
            "--classifier",
            "odd",
            "--n-controls",
            "0",
            "--time-limit",
            str(limit),
            "--quiet",
            "-o",
            "out",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=3000,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
        },
    )
    assert done.returncode == 5, done.stderr
    found = read_detections(tmp_path / "out" / "detections.ecsv")
    assert len(found) == n and dict(zip(found["image"], found["status"], strict=True)) == expected
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == sum(status == "error" for status in expected.values())
    for name, status in expected.items():
        if status == "error":
            assert sum(line.startswith(f"error: {name}: ") for line in errors) == 1, name
    assert any(f"took longer than {limit} s" in line for line in errors) == (n == 200)
    assert any("ended its process (signal 9)" in line for line in errors)
    assert "Traceback" not in done.stderr
