"""The beam of an image from its own compact sources."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halopy.io.source_beam import measure_beam


@settings(deadline=None, max_examples=25)
@given(major=st.floats(4.0, 8.0), ratio=st.floats(0.55, 0.95), pa=st.floats(0, 179.9))
def test_any_ellipse_is_found(major, ratio, pa):
    # None touches another; the centres lie anywhere on their pixels.
    grid = [(25 + 50 * (k // 3), 25 + 50 * (k % 3)) for k in range(9)]
    places = grid + np.random.default_rng(3).uniform(-0.5, 0.5, (9, 2))
    y, x = np.mgrid[:150, :150]
    angle = np.radians(pa)
    image = np.zeros((150, 150))
    for a, b in places:
        # From +y towards -x.
        along = -np.sin(angle) * (x - a) + np.cos(angle) * (y - b)
        across = np.cos(angle) * (x - a) + np.sin(angle) * (y - b)
        image += np.exp(-4 * np.log(2) * ((along / major) ** 2 + (across / (ratio * major)) ** 2))
    found = measure_beam(image, major * np.sqrt(ratio), floor=0.1)
    assert found is not None
    assert found[0] == pytest.approx(major, rel=1e-3) and found[1] == pytest.approx(ratio * major, rel=1e-3)
    assert abs((found[2] - pa + 90) % 180 - 90) < 0.2


def test_extended_sources_do_not_widen_the_beam():
    y, x = np.mgrid[:200, :200]
    centres = [(30 + 45 * i, 30 + 45 * j) for i in range(4) for j in range(4)]
    image = sum(np.exp(-4 * np.log(2) * ((x - a) ** 2 + (y - b) ** 2) / (5.0 if k % 2 else 7.5) ** 2)
                for k, (a, b) in enumerate(centres))
    major, minor, _, n = measure_beam(image, 5.0, floor=0.1)
    assert (major, minor, n) == (pytest.approx(5, abs=0.01), pytest.approx(5, abs=0.01), 8)


def test_no_beam_without_sources():
    assert measure_beam(np.zeros((100, 100)), 5.0, floor=0.1) is None
    assert measure_beam(np.ones((10, 10)), 5.0, floor=0.1) is None
    assert measure_beam(np.full((100, 100), np.nan), 5.0, floor=0.1) is None
