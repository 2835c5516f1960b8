"""What others say of the files that halopy writes: fitsverify, STILTS and DS9."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
from astropy import units as u
from made import FULL, NO_BEAM, PIXELS, QUICK, TARGETS, image

from halopy import ClusterImage, CutoutSet
from halopy.io.detections import read_detections
from halopy.testing import simulated_cutouts

pytestmark = pytest.mark.peers


def needs(*programs):
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"these programs are not installed: {', '.join(missing)}")


@pytest.fixture
def results(halopy, tmp_path):
    """A search of two images, at a target and blindly, with names that are hard to write."""
    image(tmp_path / "one.fits", FULL, PIXELS)
    image(tmp_path / "two.fits", FULL | {"OBJECT": "A&B'C", "BUNIT": "mJy/beam"}, PIXELS * 1000)
    (tmp_path / "t.csv").write_text(TARGETS + "{B} 2;#,10.02,-30.01\nfar \u03b4,200,10\nlost,,\n", encoding="utf-8")
    done = halopy("detect", "one.fits", "two.fits", *QUICK, "-o", "out", seconds=30)
    assert done.code == 5
    image(tmp_path / "bright.fits", FULL, PIXELS + 40 * np.exp(-((np.mgrid[0:64, 0:64] - 30) ** 2).sum(0) / 60))
    done = halopy("detect", "bright.fits", "--classifier", "matched-filter", "-o", "blind", seconds=30)
    assert done.code == 0
    return tmp_path


@needs("fitsverify")
def test_a25_fitsverify_passes_every_file_written(results, halopy):
    assert halopy("simulate", "-n", 5, "--size", 16, "--faintest", 50, "-o", "set", seconds=30).code == 0
    assert halopy("simulate", "--field", 96, "--clusters", 2, "--faintest", 50, "-o", "field", seconds=60).code == 0
    full = ClusterImage.read(results / "one.fits")
    full.replace(rms=np.ones(full.shape), background=full.data, flags=["a" * 90, "b"]).write(
        results / "out" / "maps.fits"
    )
    bare = ClusterImage.read(image(results / "bare.fits", NO_BEAM | {"BUNIT": "K"}), frequency=1 * u.GHz)
    bare.write(results / "out" / "bare.fits")
    simulated_cutouts(3).write(results / "out" / "cutouts.fits")
    CutoutSet(np.zeros((2, 4, 5))).write(results / "out" / "pixels.fits")
    written = [path for name in ("out", "blind", "set", "field") for path in sorted((results / name).glob("*.fits"))]
    assert {"detections.fits", "significance.fits", "cutouts-00000.fits"} <= {path.name for path in written}
    for path in written:
        done = subprocess.run(["fitsverify", path], capture_output=True, text=True, timeout=60)
        said = " ".join(done.stdout.split())
        # Sky coordinates are columns with a point in their name, by astropy's convention: a warning.
        known = re.findall(r"Warning: Column #\d+: Name .position\.(?:ra|dec). contains character '\.'", said)
        assert f"found {len(known)} warning(s) and 0 error(s)" in said, said
        assert not known or path.name.startswith("cutouts")


@needs("stilts")
def test_a25_votlint_passes_the_table(results):
    for name in ("out", "blind"):
        done = subprocess.run(
            ["stilts", "votlint", results / name / "detections.vot"], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0 and not re.search("ERROR|WARNING", done.stdout + done.stderr), done.stdout
    done = subprocess.run(
        ["stilts", "tpipe", f"in={results / 'out' / 'detections.vot'}", "cmd=meta name units ucd", "ofmt=csv"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    units = {row.split(",")[0]: row.split(",")[1] for row in done.stdout.splitlines()[1:]}
    known = {"flux": "mJy", "ra": "deg", "r_e": "arcsec", "rms": "Jy.beam**-1"}
    assert {name: units[name] for name in known} == known


@needs("ds9", "xvfb-run")
def test_a25_ds9_reads_the_regions(results):
    """It loads an image and our regions without a window, and saves as many circles at the same places."""
    out = results / "saved.reg"
    subprocess.run(
        [
            "xvfb-run",
            "-a",
            "ds9",
            results / "one.fits",
            "-regions",
            results / "out" / "detections.reg",
            "-regions",
            "system",
            "wcs",
            "-regions",
            "sky",
            "icrs",
            "-regions",
            "skyformat",
            "degrees",
            "-regions",
            "save",
            out,
            "-exit",
        ],
        capture_output=True,
        timeout=300,
        check=True,
    )
    saved = re.findall(r"circle\(([\d.]+),(-?[\d.]+),([\d.]+)", out.read_text())
    written = re.findall(r"circle\(([\d.]+),(-?[\d.]+),([\d.]+)", (results / "out" / "detections.reg").read_text())
    found = read_detections(results / "out" / "detections.ecsv")
    assert len(written) == int(np.isfinite(found["position"].ra.deg).sum())
    saved, written = (np.array(rows, dtype=float)[:, :2] for rows in (saved, written))
    # What lies at the other side of the sky has no place on this image.
    written = written[abs(written[:, 0] - 10) < 5]
    assert len(saved) == len(written) == len(found) - 2
    np.testing.assert_allclose(saved, written, atol=1e-4)
