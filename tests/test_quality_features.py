"""What is measured of an image: discs, beams and white noise of known properties, and nothing that a turn changes."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.generative.quality.common_input import (
    PIXELS_PER_BEAM,
    check_clipped_alike,
    check_set,
    common_cutouts,
    common_images,
    common_size,
)
from halopy.generative.quality.image_features import (
    EDGES,
    beam_averages,
    brightness,
    half_light_radius,
    image_features,
    light,
    minkowski,
    pixel_histograms,
    power_spectra,
    radial_profiles,
    ring_radii,
    spectrum_frequencies,
)
from halopy.generative.quality.memorisation import view_of
from halopy.image import FWHM_TO_SIGMA
from halopy.testing import simulated_cutouts

SIZE = 64


def distance(x=0.0, y=0.0):
    offset = np.arange(SIZE) - (SIZE - 1) / 2
    return np.hypot(offset[:, None] - y, offset - x)


def seen(snr):
    """The common input of an S/N image."""
    return np.arcsinh(np.asarray(snr, dtype=float)[None] / 2)


# ----------------------------------------------------------------------------------------- the common input

def test_the_part_of_the_sky_that_all_show():
    cutouts = simulated_cutouts(6)
    # 64 pixels of 28 arcsec are 14.07 beams of 127.4 arcsec: 42 pixels of a third of a beam, and the next even number.
    assert common_size(cutouts) == 42
    table = cutouts.table.copy()
    table["pixel_scale"] = np.sqrt(table["beam_major"] * table["beam_minor"]) / PIXELS_PER_BEAM
    own = cutouts.replace(table=table)
    assert common_size(own) == 64 and common_size(own, cutouts) == 42
    images, rows = common_images(cutouts, 42)
    assert (images != 0).all() and rows.tolist() == list(range(6))
    table["pixel_scale"] = 5 * u.arcsec
    with pytest.raises(HaloInputError, match=r"at least four beams wide .*found '2.* beams'"):
        common_size(cutouts.replace(table=table))


def test_images_that_are_compared_are_cutouts_too():
    cutouts = simulated_cutouts(6)
    cutouts.data[2] = np.nan
    made = common_cutouts(cutouts, 42)
    assert len(made) == 5 and made.table["label"].tolist() == cutouts.table["label"][[0, 1, 3, 4, 5]].tolist()
    # They are in S/N already, on the grid of the input: once more changes nothing.
    assert common_images(made, 42)[0] == pytest.approx(common_images(cutouts, 42)[0], abs=1e-5)


@pytest.mark.parametrize(("cutouts", "text"), [
    ([1], "real must be a CutoutSet"), (CutoutSet(np.zeros((1, 8, 8)), {"label": ["halo"]}), "needs the column"),
    (simulated_cutouts(3)[[]], "must hold images")])
def test_what_cannot_be_compared(cutouts, text):
    with pytest.raises(HaloInputError, match=text):
        check_set(cutouts, "real")


def test_clipped_images_are_not_compared_with_others():
    cutouts = simulated_cutouts(6)
    clipped = cutouts.replace(data=np.where(cutouts.data > 0.024, cutouts.data, 0))
    check_clipped_alike(clipped, clipped)
    with pytest.raises(HaloInputError, match=r"must be clipped alike .*halopy.clip both"):
        check_clipped_alike(cutouts, clipped)


# ---------------------------------------------------------------------------------------------- measures

def test_the_power_of_white_noise_is_flat_and_its_variance():
    white = np.random.default_rng(1).normal(scale=3.0, size=(200, SIZE, SIZE))
    power = power_spectra(white / 2).mean(axis=0)
    assert power[1:] == pytest.approx(9, rel=0.06)
    # What the mean takes away lies in the lowest ring.
    assert 0.7 < power[0] / 9 < 1


def test_a_wave_has_its_power_in_its_ring():
    x = np.arange(SIZE)
    wave = np.broadcast_to(np.sin(2 * np.pi * x / 4), (SIZE, SIZE))  # 4 pixels: 0.75 cycles a beam
    power = power_spectra(wave[None] / 2)[0]
    assert power.argmax() == np.argmin(np.abs(spectrum_frequencies() - 0.75))


def test_noise_smoothed_by_the_beam_has_the_power_of_the_beam():
    from scipy.ndimage import gaussian_filter

    sigma = PIXELS_PER_BEAM * FWHM_TO_SIGMA
    white = np.random.default_rng(1).normal(size=(200, SIZE, SIZE))
    power = power_spectra(gaussian_filter(white, (0, sigma, sigma), mode="wrap") / 2).mean(axis=0)
    frequency = spectrum_frequencies()[1:5]
    expected = np.exp(-4 * np.pi**2 * sigma**2 * (frequency / PIXELS_PER_BEAM) ** 2)
    assert power[1:5] == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("radius", [8.0, 12.5])
def test_the_minkowski_functionals_of_discs_and_rings(radius):
    disc = seen(5.0 * (distance() < radius))
    area, perimeter, euler = (values[0] for values in minkowski(disc, (1.0, 3.0, 8.0)))
    assert area[:2] == pytest.approx(np.pi * radius**2 / PIXELS_PER_BEAM**2, rel=0.04)
    assert perimeter[:2] == pytest.approx(2 * np.pi * radius / PIXELS_PER_BEAM, rel=0.06)
    assert euler.tolist() == [1, 1, 0] and area[2] == perimeter[2] == 0
    two = seen(5.0 * ((distance(-16) < 6) | (distance(16) < 6)))
    assert minkowski(two, (3.0,))[2][0, 0] == 2
    ring = seen(5.0 * ((distance() < radius) & (distance() > 4)))
    _, border, euler = (values[0, 0] for values in minkowski(ring, (3.0,)))
    assert euler == 0 and border == pytest.approx(2 * np.pi * (radius + 4) / PIXELS_PER_BEAM, rel=0.06)


def test_the_flux_and_the_size_of_a_point_source():
    # 20 times the noise at the peak is a flux of 20 times the noise, and half of a Gaussian lies within half its FWHM.
    source = 20 * np.exp(-0.5 * (distance() / PIXELS_PER_BEAM / FWHM_TO_SIGMA) ** 2)
    found = {name: values[0] for name, values in light(seen(source)).items()}
    assert found["flux_centre"] == pytest.approx(20, rel=0.01) and found["flux_total"] == pytest.approx(20, rel=0.01)
    assert found["size"] == pytest.approx(0.5, abs=0.06) and found["peak"] == pytest.approx(source.max())
    assert found["concentration"] == pytest.approx(1 - 2.0**-4, abs=0.03)
    even = {name: values[0] for name, values in light(seen(np.ones((SIZE, SIZE)))).items()}
    assert even["gini"] == pytest.approx(0, abs=1e-9)
    assert 0.5 < found["gini"] < 1
    assert even["size"] == pytest.approx(3 / np.sqrt(2), abs=0.05)
    assert half_light_radius(seen(-source)) == 0


def test_profiles_blocks_and_histograms():
    slope = seen(distance() / PIXELS_PER_BEAM * 0.02)  # faint, so that brightness is S/N
    assert radial_profiles(slope)[0] == pytest.approx(0.02 * ring_radii(SIZE), abs=4e-3)
    assert beam_averages(seen(np.full((SIZE, SIZE), 0.1)))[0] == pytest.approx(0.1, abs=1e-3)
    images = np.random.default_rng(1).normal(size=(3, SIZE, SIZE))
    shares = pixel_histograms(images)
    assert shares.sum(axis=1) == pytest.approx(1, abs=1e-5)
    middle = (EDGES[1:] + EDGES[:-1]) / 2
    assert shares @ middle == pytest.approx(brightness(images).mean(axis=(1, 2)), abs=0.02)
    far = pixel_histograms(np.array([[[-100.0, 100.0]]]))[0]
    assert far[0] == far[-1] == 0.5


def test_an_empty_image_and_a_small_one_have_finite_features():
    features, names = image_features(np.zeros((2, SIZE, SIZE)))
    assert np.isfinite(features).all() and len(names) == len(set(names)) == features.shape[1]
    assert np.isfinite(image_features(np.zeros((1, 12, 12)))[0]).all()
    assert image_features(np.zeros((0, 12, 12)))[0].shape[0] == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), view=st.integers(0, 7), size=st.sampled_from([24, 34, 64]))
def test_turned_and_mirrored_images_have_the_same_features(seed, view, size):
    images = np.random.default_rng(seed).normal(size=(2, size, size))
    turned = view_of(images, view)
    for measure in (lambda x: image_features(x)[0], power_spectra, radial_profiles, pixel_histograms):
        assert measure(turned) == pytest.approx(measure(images), rel=1e-6, abs=1e-8)
