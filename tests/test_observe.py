"""Artefacts are as strong as asked, where they belong, and leave fluxes and centres alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import axes

from halopy.errors import HaloInputError
from halopy.image import Beam
from halopy.simulate import observe as module
from halopy.simulate.observe import Artefacts, add_artefacts, blank_borders, bright_parts, rms_gradient
from halopy.simulate.shapes import components

PIXEL = 28 * u.arcsec
ROUND = Beam(130 * u.arcsec)
FWHM = 130 / 28
COVARIANCE = ROUND.covariance(PIXEL)
NONE = Artefacts(sidelobes=0, stripes=0, gradient=0, ripple=0, borders=0)


def empty(n, shape=(64, 64)):
    return np.zeros((n, *shape), dtype=np.float32)


def only(**settings):
    return dataclasses.replace(NONE, **settings)


# Settings


def test_the_defaults():
    assert Artefacts() == Artefacts(sidelobes=0.005, stripes=0.2, gradient=0.2, ripple=0.2, borders=0.03)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Artefacts().stripes = 1


@pytest.mark.parametrize("name", ["sidelobes", "stripes", "gradient", "ripple", "borders"])
@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, "0.2", None, (0.1, 0.2)])
def test_settings_that_cannot_be(name, value):
    with pytest.raises(HaloInputError, match=f"^{name} must be a finite number, 0 or more"):
        Artefacts(**{name: value})


def test_settings_with_an_upper_limit():
    with pytest.raises(HaloInputError, match=r"gradient must be .* and less than 2 \(found 2\)"):
        Artefacts(gradient=2)
    with pytest.raises(HaloInputError, match=r"borders must be .* not above 1, a probability \(found 1.5\)"):
        Artefacts(borders=1.5)
    with pytest.raises(HaloInputError, match="gradient must be .* and less than 2"):
        rms_gradient(1, (5, 5), 2.0)
    with pytest.raises(HaloInputError, match="borders must be .* a probability"):
        blank_borders(empty(1), -1)
    assert Artefacts(gradient=1.999, borders=1, stripes=5).borders == 1


# The gradient of the noise


@pytest.mark.parametrize("shape", [(64, 64), (20, 51), (1, 40), (1, 1)])
@pytest.mark.parametrize("amplitude", [0, 0.2, 1.999])
def test_the_gradient_has_the_mean_one_and_the_change_asked_for(shape, amplitude):
    factor = rms_gradient(2000, shape, amplitude, rng=1)
    assert factor.shape == (2000, *shape)
    assert factor.dtype == np.float32
    np.testing.assert_allclose(factor.mean(axis=(1, 2), dtype=float), 1, atol=1e-6)
    assert factor.min() > 0
    change = np.ptp(factor, axis=(1, 2))
    assert change.max() <= amplitude + 1e-6
    if min(shape) > 1:
        # Uniform between 0 and the amplitude: a mean of one half, known to 1 / √(12 n).
        assert change.mean() == pytest.approx(amplitude / 2, abs=0.03 * amplitude + 1e-6)


def test_the_gradient_is_a_plane_of_any_direction():
    factor = rms_gradient(4000, (32, 32), 0.4, rng=2)
    rows, columns = np.diff(factor, axis=1), np.diff(factor, axis=2)
    assert np.ptp(rows, axis=(1, 2)).max() < 1e-6
    assert np.ptp(columns, axis=(1, 2)).max() < 1e-6
    angle = np.arctan2(rows[:, 0, 0], columns[:, 0, 0])
    # Both means are zero within 1 / √(2 n) = 0.011.
    assert abs(np.exp(1j * angle).mean()) < 0.05
    assert abs(np.exp(2j * angle).mean()) < 0.05


# Stripes


def test_the_rms_of_stripes():
    """Uniform between 0 and the amplitude in units of the rms of the image, over whole periods."""
    rms = np.linspace(1, 3, 200)
    pixels = empty(200, (200, 256))
    add_artefacts(pixels, rms, COVARIANCE, None, only(stripes=0.3), rng=3)
    strength = pixels.std(axis=(1, 2)) / rms
    assert strength.max() < 0.3 * 1.05
    # The mean of 200 uniform numbers is known to 0.3 / √(12 · 200) = 0.006.
    assert strength.mean() == pytest.approx(0.15, abs=0.02)
    assert (strength < 0.05).any() and (strength > 0.25).any()


def test_stripes_are_one_plane_wave_of_two_to_ten_beams():
    size = 256
    pixels = empty(40, (size, size))
    add_artefacts(pixels, 1, COVARIANCE, None, only(stripes=1), rng=4)
    window = np.hanning(size)[:, None] * np.hanning(size)
    power = np.abs(np.fft.rfft2(pixels * window)) ** 2
    v, w = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    for image in power:
        row, column = np.unravel_index(image.argmax(), image.shape)
        period = 1 / np.hypot(v[row, 0], w[0, column]) / FWHM
        assert 1.8 < period < 11.5
        near = np.hypot((v - v[row] + 0.5) % 1 - 0.5, w - w[0, column]) < 4 / size
        mirrored = np.hypot((v + v[row] + 0.5) % 1 - 0.5, w + w[0, column]) < 4 / size
        assert image[near | mirrored].sum() > 0.99 * image.sum()


# Ripple


def test_the_rms_of_the_ripple():
    """That of many images: amplitudes uniform up to A have the mean square A² / 3."""
    pixels = empty(4000)
    add_artefacts(pixels, 2.0, COVARIANCE, None, only(ripple=0.5), rng=5)
    # An image of 14 beams holds few waves of 8 to 32: about one independent value each, so 3 % of the rms.
    assert np.sqrt(np.mean(pixels.astype(float) ** 2)) == pytest.approx(2 * 0.5 / np.sqrt(3), rel=0.06)
    assert pixels.mean() == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("beam", [ROUND, Beam(260 * u.arcsec)], ids=repr)
def test_the_ripple_is_smooth(beam):
    size, fwhm = 512, (beam.major / PIXEL).to_value(u.one)
    pixels = empty(10, (size, size))
    add_artefacts(pixels, 1, beam.covariance(PIXEL), None, only(ripple=1), rng=6)
    window = np.hanning(size)[:, None] * np.hanning(size)
    power = (np.abs(np.fft.fft2(pixels * window)) ** 2).sum(axis=0)
    scale = 1 / np.maximum(np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)), 1e-9) / fwhm
    assert power[scale < 7].sum() < 2e-3 * power.sum()
    assert power[scale < 16].sum() > 0.2 * power.sum()


# Sidelobes


def one_source(n=1, peak=1000.0, x=100.0, y=100.0, shape=(201, 201), beam=ROUND, rng=7, sidelobes=0.01):
    pixels = empty(n, shape)
    bright = (np.arange(n), np.full(n, x), np.full(n, y), np.full(n, peak))
    add_artefacts(pixels, 1e-3, beam.covariance(PIXEL), bright, only(sidelobes=sidelobes), rng=rng)
    return pixels


def test_rings_are_as_bright_as_asked_and_of_either_sign():
    rings = one_source(1000, x=32, y=32, shape=(65, 65))
    extreme = np.abs(rings).max(axis=(1, 2)) / 1000
    assert extreme.max() < 0.01 * 1.001
    assert extreme.mean() == pytest.approx(0.005, rel=0.08)
    # The first ring, 1.3 beams from the source, decides on the sign.
    first = rings[:, 32, 32 + round(1.3 * FWHM)]
    assert (np.abs(first) > 0.9 * extreme * 1000).all()
    assert 0.4 < np.mean(first > 0) < 0.6


@pytest.mark.parametrize("beam", [ROUND, Beam(180 * u.arcsec, 110 * u.arcsec, 35 * u.deg)], ids=repr)
def test_rings_leave_the_core_alone_and_have_no_flux(beam):
    rings = one_source(beam=beam, x=100.3, y=99.8)[0]
    (a, b), (along, across) = axes(beam, PIXEL)
    dy, dx = np.indices(rings.shape) - np.array([99.8, 100.3])[:, None, None]
    distance = np.hypot((along[0] * dx + along[1] * dy) / a, (across[0] * dx + across[1] * dy) / b) / 2.35482
    assert np.abs(rings).max() > 0
    assert (rings[distance < 0.89] == 0).all()
    assert (rings[distance > 6.01] == 0).all()
    # Elliptical, as the beam: along a ring the brightness is the same.
    for radius in (1.3, 1.9, 2.6):
        ring = rings[np.abs(distance - radius) < 0.02]
        assert np.ptp(ring) < 0.25 * np.abs(ring).max()
    assert abs(rings.sum()) < 2e-3 * np.abs(rings).sum()


def test_rings_alternate_as_those_of_a_filled_aperture():
    """J1 is zero at 7.016, 10.173 and 13.324; 2 J1(x) / x is one half at 2.215, half a beam from the centre."""
    profile = one_source(beam=Beam(1200 * u.arcsec), x=0, y=0, shape=(1, 300))[0, 0]
    change = np.flatnonzero(profile[:-1] * profile[1:] < 0) + 0.5
    expected = np.array([7.016, 10.173, 13.324]) / (2 * 2.215) * 1200 / 28
    np.testing.assert_allclose(change[:3], expected, atol=1)
    tops = [np.abs(part).max() for part in np.split(profile, change.astype(int) + 1)]
    assert (np.diff(tops) < 0).all()


def test_rings_of_a_source_outside_reach_into_the_image():
    assert np.abs(one_source(x=-10, y=30, shape=(64, 64))).max() > 0
    assert np.abs(one_source(x=-6.1 * FWHM, y=30, shape=(64, 64))).max() == 0
    assert np.abs(one_source(x=30, y=64 + 6.1 * FWHM, shape=(64, 64))).max() == 0
    whole, part = one_source(), one_source(x=20, y=30, shape=(64, 70))
    np.testing.assert_array_equal(part[0], whole[0, 70:134, 80:150])


def test_rings_are_drawn_in_the_image_of_their_source_only():
    pixels = empty(4)
    bright = ([2, 2, 0], [20, 40, 10], [20, 50, 60], [500, 800, 900])
    add_artefacts(pixels, 1, COVARIANCE, bright, only(sidelobes=0.02), rng=8)
    assert [bool(image.any()) for image in pixels] == [True, False, True, False]


def test_rings_that_nobody_could_see_are_left_out():
    pixels = empty(100)
    bright = (np.arange(100), np.full(100, 30), np.full(100, 30), np.full(100, 19.0))
    add_artefacts(pixels, 1, COVARIANCE, bright, only(sidelobes=0.005), rng=9)
    assert not pixels.any()


@pytest.mark.parametrize("bright", [None, ([], [], [], []), (np.empty(0, int), *np.empty((3, 0)))])
def test_no_bright_sources(bright):
    pixels = empty(3)
    add_artefacts(pixels, 1, COVARIANCE, bright, only(sidelobes=0.1), rng=10)
    assert not pixels.any()


@pytest.mark.parametrize("bright", [
    ([0], [1], [1]), ([0], [1], [1, 2], [5]), ([3], [1], [1], [5]), ([-1], [1], [1], [5]), ([0.5], [1], [1], [5]),
    ([0], [np.nan], [1], [5]), ([0], [1], [1], [np.inf]), ([0], ["x"], [1], [5]), 7, ([[0]], [[1]], [[1]], [[5]])])
def test_bright_sources_of_a_wrong_form(bright):
    with pytest.raises(HaloInputError, match=r"bright must be four columns of one length, row \(below 3\), x, y"):
        add_artefacts(empty(3), 1, COVARIANCE, bright, Artefacts())


# All of them


@pytest.mark.parametrize("pixels", [np.zeros((5, 5)), np.zeros((2, 5, 5), dtype=int), [[[0.0]]]])
def test_pixels_of_a_wrong_form(pixels):
    with pytest.raises(HaloInputError, match=r"artefacts are added to an array of floats, \(n, ny, nx\)"):
        add_artefacts(pixels, 1, COVARIANCE, None, Artefacts())


def test_no_artefacts_change_nothing():
    pixels = np.random.default_rng(11).standard_normal((4, 30, 30)).astype(np.float32)
    before = pixels.copy()
    add_artefacts(pixels, 1, COVARIANCE, ([0], [5], [5], [1e4]), NONE, rng=11)
    assert not blank_borders(pixels, 0, rng=11).any()
    np.testing.assert_array_equal(pixels, before)


def test_they_are_added_to_what_is_there():
    pixels, alone = np.full((4, 30, 30), 7.0), empty(4, (30, 30))
    for images in (pixels, alone):
        add_artefacts(images, 1, COVARIANCE, ([0], [5], [5], [1e4]), Artefacts(), rng=12)
    np.testing.assert_allclose(pixels, alone + 7.0, atol=1e-5)


def test_same_rng_same_bytes_however_many_at_once(monkeypatch):
    def images(n, seed=13):
        pixels = empty(n, (40, 41))
        covariances = COVARIANCE * np.linspace(1, 1.2, 50)[:n, None, None]
        add_artefacts(pixels, 1, covariances, ([3], [10.5], [20], [900]), Artefacts(), rng=seed)
        return pixels * rms_gradient(n, (40, 41), 0.2, rng=seed)

    pixels = images(50)
    np.testing.assert_array_equal(images(50), pixels)
    np.testing.assert_array_equal(images(7), pixels[:7])
    assert not np.array_equal(images(50, 14), pixels)
    monkeypatch.setattr(module, "BLOCK", 3)
    np.testing.assert_array_equal(images(50), pixels)


def test_an_empty_set():
    pixels = empty(0)
    add_artefacts(pixels, 1, COVARIANCE, ([], [], [], []), Artefacts(), rng=1)
    assert blank_borders(pixels, 0.5, rng=1).shape == (0,)
    assert rms_gradient(0, (5, 6), 0.1, rng=1).shape == (0, 5, 6)


# Borders


@given(ny=st.integers(1, 70), nx=st.integers(1, 70), seed=st.integers(0, 1000))
@settings(max_examples=60)
def test_the_centre_always_has_data(ny, nx, seed):
    pixels = empty(40, (ny, nx))
    blank = blank_borders(pixels, 1, rng=seed)
    assert blank.all() == (min(ny, nx) >= 4)
    np.testing.assert_array_equal(np.isnan(pixels).any(axis=(1, 2)), blank)
    for y in {(ny - 1) // 2, ny // 2}:
        for x in {(nx - 1) // 2, nx // 2}:
            assert np.isfinite(pixels[:, y, x]).all()
    # At most a quarter along each of two edges.
    assert np.isnan(pixels).mean(axis=(1, 2)).max() <= 7 / 16


def test_borders_are_as_frequent_as_asked_and_on_all_sides():
    pixels = empty(20000, (16, 20))
    blank = blank_borders(pixels, 0.03, rng=15)
    # 600 expected, a standard deviation of 24.
    assert blank.sum() == pytest.approx(600, abs=100)
    missing = np.isnan(pixels[blank])
    sides = np.array([missing[:, 0].all(axis=1), missing[:, -1].all(axis=1),
                      missing[:, :, 0].all(axis=1), missing[:, :, -1].all(axis=1)])
    # One side in two thirds of the cases, two in the others: each of the four in a third of them.
    np.testing.assert_allclose(sides.mean(axis=1), 1 / 3, atol=0.08)
    assert set(sides.sum(axis=0)) == {1, 2}
    corners = sides[:, sides.sum(axis=0) == 2]
    assert {tuple(np.flatnonzero(corner)) for corner in corners.T} == {(0, 2), (0, 3), (1, 2), (1, 3)}
    widths = missing[sides[0] & ~sides[2] & ~sides[3]].all(axis=2).sum(axis=1)
    assert set(widths) == {1, 2, 3, 4}


def test_same_rng_same_borders():
    first, again = empty(100), empty(100)
    blank_borders(first, 0.5, rng=16)
    blank_borders(again, 0.5, rng=16)
    np.testing.assert_array_equal(first, again)


def test_what_has_rings():
    """Peaks after the beam: a point keeps its flux, a Gaussian as wide as the beam has half of it, in Jy/beam."""
    covariance = np.array([[[9.0, 0], [0, 4.0]], [[4.0, 0], [0, 4.0]]])
    parts = components({"class": ["compact", "compact", "compact"], "flux": [2.0, 0.1, 1.0]})
    # The beam of the second image: 4 square pixels of 2 arcsec.
    parts["cee"][2] = parts["cnn"][2] = 16.0
    parts["east"][2], parts["north"][2] = 4.0, 6.0
    row, x, y, peak = bright_parts(parts, [10.0, 11.0, 12.0], [20.0, 21.0, 22.0], [0, 0, 1], covariance, 2.0, 0.3)
    assert row.tolist() == [0, 1]
    np.testing.assert_allclose(peak, [2.0, 0.5])
    np.testing.assert_allclose([x, y], [[10, 12 - 2], [20, 22 + 3]])
    assert len(bright_parts(parts, [10.0] * 3, [20.0] * 3, [0, 0, 1], covariance, 2.0, np.inf)[0]) == 0
