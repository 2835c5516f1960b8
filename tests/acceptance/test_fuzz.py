"""A minute of broken FITS files: each is read, or refused with a HaloInputError that names it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of processes are those of Linux")
def test_fuzz_of_all_readers_of_fits(repository):
    """No hang, no other exception, no death, no more than 1 GiB; HALOPY_FUZZ_SECONDS says for how long (60)."""
    seconds = os.environ.get("HALOPY_FUZZ_SECONDS", "60")
    done = subprocess.run(
        [sys.executable, repository / "benchmarks" / "fuzz.py", "--seconds", seconds, "--seed", "9"],
        capture_output=True,
        text=True,
        timeout=600 + 10 * float(seconds),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {kind: int(number) for number, kind in re.findall(r"^ *(\d+)  (\w+)$", done.stdout, re.MULTILINE)}
    # Both happen: what is changed is neither all harmless nor all broken.
    assert set(counts) == {"read", "HaloInputError"} and min(counts.values()) > 0
