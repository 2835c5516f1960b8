"""Region files in the dialects that other tools write."""

from __future__ import annotations

import numpy as np
import pytest
from made import FULL, image
from simulated import RMS, a_field

from halopy import ClusterImage, NoiseEstimator
from halopy.errors import HaloInputError

CIRCLES = [(40, 40), (40, 150), (150, 40), (150, 150), (95, 95), (20, 95)]


@pytest.mark.parametrize(
    ("frame", "end", "head"),
    [
        ("icrs", "\n", True),
        ("icrs", "\r\n", True),
        ("fk5", "\n", False),
        ("image", "\n", True),
        ("image", "\r\n", False),
    ],
)
def test_row_37_dialects_that_are_read(tmp_path, frame, end, head):
    """DOS lines, no header line, the frame ``image`` (which counts pixels from 1): all mean the same patches."""
    field = a_field((200, 200), rng=3)
    lines = ["# Region file format: DS9 version 4.1"] if head else []
    lines.append(frame)
    for x, y in CIRCLES:
        sky = field.wcs.pixel_to_world(x, y)
        lines.append(f"circle({x + 1},{y + 1},12)" if frame == "image" else f'circle({sky.ra.deg},{sky.dec.deg},480")')
    path = tmp_path / "sky.reg"
    path.write_bytes((end.join(lines) + end).encode())
    rms = float(np.median(NoiseEstimator("patches", patches=path)(field).rms))
    assert rms == pytest.approx(RMS, rel=0.2)


def test_row_37_what_is_no_region_file(tmp_path):
    path = tmp_path / "sky.reg"
    path.write_bytes(b"\x89PNG circle(")
    read = ClusterImage.read(image(tmp_path / "a.fits", FULL))
    with pytest.raises(HaloInputError, match="sky.reg"):
        NoiseEstimator("patches", patches=path)(read)
