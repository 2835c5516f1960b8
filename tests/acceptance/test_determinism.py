"""The same command gives the same bytes, whichever process runs it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from made import FULL, PIXELS, TARGETS, image
from test_stopped_runs import same_bytes


def test_a25_same_seed_same_bytes_in_another_process(halopy, tmp_path):
    """Sets and dicts of text have another order there: nothing that is written may depend on it, nor on the time."""
    bump = 40 * np.exp(-((np.mgrid[0:64, 0:64] - 30) ** 2).sum(0) / 60)
    for name in ("one", "two"):
        image(tmp_path / f"{name}.fits", FULL, PIXELS + bump)
    (tmp_path / "t.csv").write_text(TARGETS + "A2,10.02,-30.01\n")
    for what, options in (("at", ["--targets", "t.csv"]), ("blind", [])):
        command = ["detect", "one.fits", "two.fits", *options, "--classifier", "matched-filter", "--n-controls", "20"]
        assert halopy(*command, "-o", f"here-{what}", seconds=30).code == 0
        environment = os.environ | {"PYTHONHASHSEED": "77", "MPLBACKEND": "Agg"}
        subprocess.run(
            [sys.executable, "-m", "halopy", *command, "-o", f"there-{what}", "--quiet"],
            cwd=tmp_path,
            env=environment,
            check=True,
            timeout=600,
        )
        same_bytes(tmp_path / f"here-{what}", tmp_path / f"there-{what}")
