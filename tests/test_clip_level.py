"""How an image was clipped, and the noise that the clip hides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mwa_set import clipped

from halopy.io.clip_level import find_clip


@settings(deadline=None, max_examples=25)
@given(threshold=st.floats(0.15, 1.35), rms=st.floats(1e-4, 10))
def test_noise_is_found_from_the_zeros(threshold, rms):
    """Of Gaussian noise a share erf(t / √2 σ) lies within ±t."""
    noise = np.random.default_rng(7).normal(0, rms, 90000)
    clip = find_clip(clipped(noise, threshold * rms).reshape(300, 300))
    assert clip.rms_source == "zeros" and clip.rms == pytest.approx(rms, rel=0.03)


def test_a_clip_at_three_sigma():
    noise = np.random.default_rng(7).normal(0, 2.0, (300, 300))
    clip = find_clip(clipped(noise, 6.0))
    assert clip.rms == pytest.approx(2.0, rel=0.01) and clip.rms_source == "clip level / 3"
    assert find_clip(np.where(noise < 6, 0, noise)).sides == "one"


def test_no_clip_and_a_negative_level():
    noise = np.random.default_rng(7).normal(0, 2.0, (300, 300))
    for image in (noise, clipped(noise - 3, 1.0)):
        clip = find_clip(image)
        assert clip.rms_source == "wing" and clip.rms == pytest.approx(2.0, rel=0.05)


def test_nothing_but_zeros_or_blanks():
    assert np.isnan(find_clip(np.zeros((5, 5))).rms) and find_clip(np.zeros((5, 5))).zeros == 1
    assert np.isnan(find_clip(np.full((5, 5), np.nan)).zeros)
