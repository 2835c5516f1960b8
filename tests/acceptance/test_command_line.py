"""What a user can type: unknown keys, wrong types, odd names, large and hostile tables."""

from __future__ import annotations

import csv
import time

import pytest
from made import FULL, QUICK, TARGETS, image

from halopy.io.catalog import read_targets
from halopy.io.detections import read_detections

NAMES = [
    "a b.fits",
    "quote'\"`.fits",
    ";rm -rf ~.fits",
    "$(touch x).fits",
    "na\u00efve \U0001f30c.fits",
    "-o.fits",
    "a\nb.fits",
]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--noise", "nosuch"], "nosuch"),
        (["--classifier", "no-such-model"], "no model 'no-such-model'"),
        (["--n-controls", "-3"], "n_controls must be a whole number"),
        (["--beam", "wide"], "--beam takes one to three numbers"),
        (["--beam", "inf"], "inf"),
        (["--frequency", "inf"], "frequency must be one positive frequency"),
        (["--frequency", "-5"], "frequency must be one positive frequency"),
        (["--unit", "furlong"], "furlong"),
        (["--survey", "gleam-170-232"], "try: 'gleam-170-231'"),
        (["--plane", "5"], "plane"),
        (["--hdu", "9"], "no HDU 9"),
        (["--time-limit", "0"], "time_limit must be a positive number"),
        (["--time-limit", "inf"], "time_limit must be a positive number of seconds, up to 1000000 (found inf)"),
        (["--targets", "none.csv"], "no such file"),
    ],
)
def test_a23_settings_are_named(refused, tmp_path, arguments, text):
    image(tmp_path / "a.fits", FULL)
    assert text in refused("detect", "a.fits", "-o", "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a23_usage(halopy, tmp_path):
    for arguments in (
        ["detect", "a.fits"],
        ["detect", "a.fits", "-o", "out", "--nosuch"],
        ["nosuch"],
        ["detect", "a.fits", "-o", "out", "--seed", "x"],
        [],
    ):
        done = halopy(*arguments)
        assert done.code == 2 and "error: " in done.err
        assert not list(tmp_path.iterdir())


def test_a23_odd_paths_are_paths(halopy, tmp_path):
    """No shell sees them, and nothing is written beside the folder that was named."""
    for name in NAMES:
        image(tmp_path / name, FULL)
    (tmp_path / "t.csv").write_text(TARGETS)
    done = halopy("detect", *QUICK, "--quiet", "-o", "out put;", "--", *NAMES, seconds=30)
    assert done.code == 0
    assert {path.name for path in tmp_path.iterdir()} == {*NAMES, "t.csv", "out put;"}
    assert len(read_detections(tmp_path / "out put;" / "detections.ecsv")) == len(NAMES)


def test_a23_names_that_are_code(halopy, tmp_path):
    """Formulas, markup and paths in a name stay text, in files and in the page."""
    image(tmp_path / "a.fits", FULL)
    names = [
        "=cmd|' /C calc'!A0",
        "</script><script>alert(1)</script>",
        "../../etc/passwd",
        "<img src=x onerror=alert(1)>",
        "a}; circle(0,0,9",
        "{{7*7}}",
    ]
    with open(tmp_path / "t.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([["name", "ra", "dec"], *([name, 10, -30] for name in names)])
    done = halopy("detect", "a.fits", *QUICK, "-o", "out", seconds=20)
    assert done.code == 0
    assert list(read_detections(tmp_path / "out" / "detections.vot")["name"]) == names
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<img src=x" not in page and page.count("&lt;/script&gt;") >= 1
    assert {path.name for path in tmp_path.iterdir()} == {"a.fits", "t.csv", "out"}
    assert (tmp_path / "out" / "detections.reg").read_text().count("\n") == 2 + len(names)


@pytest.mark.slow
def test_a23_a_table_of_a_million_rows(tmp_path):
    """Read in ten seconds of processor time, like the tenth of it in test_catalog.py in one."""
    path = tmp_path / "t.csv"
    path.write_text("name,ra,dec\n" + "\n".join(f"N{i},{i * 0.00036:.5f},{i * 1e-5 - 5:.5f}" for i in range(10**6)))
    before = time.process_time()
    assert len(read_targets(path)) == 10**6
    assert time.process_time() - before < 10
