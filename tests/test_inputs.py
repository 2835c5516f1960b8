"""What models see: the same sky is the same input, whatever its beam, pixels and unit; and it is finite always."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import BEAM, JY_PER_BEAM, PIXEL, RMS, beam_noise, point_source, some_cutouts

from halopy.errors import HaloInputError
from halopy.image import Beam
from halopy.learning.inputs import cutout_grid, has_signal, model_input

BEAM_PIXELS = float((np.sqrt(BEAM.major * BEAM.minor) / PIXEL).to_value(u.one))
ROUND = Beam(120 * u.arcsec)


def sky(shape, pixel_scale, beam, *, flux=0.3):
    """Two point sources, placed in units of the beam, on the sky."""
    per_beam = (np.sqrt(beam.major * beam.minor) / pixel_scale).to_value(u.one)
    middle = [(n - 1) / 2 for n in shape]
    return sum(f * point_source(shape, middle[1] + x * per_beam, middle[0] + y * per_beam, beam=beam,
                                pixel_scale=pixel_scale) for f, x, y in ((flux, 0.4, -0.2), (flux / 3, -2.1, 1.3)))


def test_pixels_are_in_units_of_the_noise():
    pixels = np.zeros((1, 64, 64))
    pixels[0, 32, 32] = 100 * RMS
    seen = model_input(some_cutouts(pixels + 5.0), pixels_per_beam=None)[0]
    assert seen.dtype == np.float32
    assert seen[32, 32] == pytest.approx(np.arcsinh(50), rel=1e-4)
    assert seen[0, 0] == 0


@pytest.mark.parametrize(("pixel_scale", "n"), [(40, 96), (24, 160), (15, 256)])
def test_the_same_sky_in_other_pixels(pixel_scale, n):
    # In the asinh of S/N, 1 % of a bright pixel is a difference of 0.01.
    reference = model_input(some_cutouts([sky((128, 128), 30 * u.arcsec, ROUND)], beam=ROUND,
                                         pixel_scale=30 * u.arcsec), size=48)
    scale = pixel_scale * u.arcsec
    other = model_input(some_cutouts([sky((n, n), scale, ROUND)], beam=ROUND, pixel_scale=scale), size=48)
    assert np.max(np.abs(other - reference)) < 0.01 * reference.max()


def test_another_survey_of_the_same_shape():
    # A beam three times smaller and sources three times closer, at the same S/N.
    small = Beam(40 * u.arcsec)
    wide = model_input(some_cutouts([sky((64, 64), 40 * u.arcsec, ROUND)], beam=ROUND))
    near = model_input(some_cutouts([sky((64, 64), 40 / 3 * u.arcsec, small)], beam=small,
                                    pixel_scale=40 / 3 * u.arcsec))
    assert near == pytest.approx(wide, abs=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_another_unit_and_another_level(factor, level):
    pixels = sky((64, 64), PIXEL, BEAM) + RMS * beam_noise((64, 64), np.random.default_rng(2))
    first = model_input(some_cutouts([pixels]))
    other = model_input(some_cutouts([(pixels + level * RMS) * factor], rms=RMS * factor))
    # The pixels are float32: a level of 100 σ leaves the noise five digits.
    assert other == pytest.approx(first, abs=1e-3)


def test_the_unit_of_the_noise_is_converted():
    cutouts = some_cutouts([sky((64, 64), PIXEL, BEAM)])
    other = cutouts.replace(table=cutouts.table.copy())
    other.table["rms"] = other.table["rms"].to(u.mJy / u.beam)
    assert np.array_equal(model_input(other), model_input(cutouts))


def test_without_rms_the_scatter_counts():
    noise = RMS * beam_noise((64, 64), np.random.default_rng(1), n=3)
    known, unknown = (model_input(some_cutouts(noise, rms=rms)) for rms in (RMS, None))
    # A cutout has some 200 beams: its scatter is good to 5 to 10 %, and with it each of its pixels.
    assert np.all(np.abs(unknown.std(axis=(1, 2)) / known.std(axis=(1, 2)) - 1) < 0.25)
    some = some_cutouts(noise)
    some.table["rms"][1] = np.nan * JY_PER_BEAM
    assert np.array_equal(model_input(some)[1], unknown[1])


def test_without_rms_a_clipped_image_has_a_scale():
    # More than half of the pixels are exactly zero: their median deviation is no noise.
    clipped = np.zeros((1, 64, 64))
    clipped[0, 30:34, 30:34] = np.linspace(3, 9, 16).reshape(4, 4)
    seen = model_input(some_cutouts(clipped, rms=None), pixels_per_beam=None)
    assert 0.1 < seen.max() < 5


def test_larger_cutouts_are_cropped_and_smaller_ones_padded():
    pixels = np.random.default_rng(1).normal(size=(1, 80, 80))
    seen = model_input(some_cutouts(pixels), size=64, pixels_per_beam=None)
    inner = model_input(some_cutouts(pixels[:, 8:-8, 8:-8]), size=64, pixels_per_beam=None)
    assert np.array_equal(seen, inner)
    small = model_input(some_cutouts(pixels[:, 24:-24, 24:-24]), size=64, pixels_per_beam=None)[0]
    assert (small[:16] == 0).all() and (small[-16:] == 0).all() and (small[16:-16, 16:-16] != 0).any()


@pytest.mark.parametrize("n", [63, 64])
def test_the_centre_stays_the_centre(n):
    centre = (n - 1) / 2
    seen = model_input(some_cutouts([point_source((n, n), centre, centre)]))[0]
    assert seen == pytest.approx(seen[::-1, ::-1], abs=1e-5)
    assert seen.max() == seen[31:33, 31:33].max()


@pytest.mark.parametrize("rms", [RMS, None, np.nan, 0.0])
@pytest.mark.parametrize("pixels_per_beam", [3.0, None])
def test_broken_cutouts_are_finite(rms, pixels_per_beam):
    pixels = np.ones((7, 64, 64)) * np.arange(64)
    pixels[0], pixels[1], pixels[2] = np.nan, 0, 1
    pixels[3, :, :40] = np.nan
    pixels[4, 5, 5] = np.inf
    pixels[5] = np.where(pixels[5] > 30, 3e38, -3e38)
    seen = model_input(some_cutouts(pixels, rms=rms), pixels_per_beam=pixels_per_beam)
    assert np.isfinite(seen).all()
    assert has_signal(seen).tolist() == [False, False, False, True, True, True, True]


def test_pixels_without_data_are_the_level():
    pixels = RMS * beam_noise((64, 64), np.random.default_rng(1))
    pixels[:, :20] = np.nan
    assert (model_input(some_cutouts([pixels]), pixels_per_beam=None)[0, :, :20] == 0).all()


def test_none_and_one_pixel():
    assert model_input(some_cutouts(np.zeros((0, 64, 64)))).shape == (0, 64, 64)
    assert (model_input(some_cutouts(np.ones((1, 1, 1)))) == 0).all()


def test_a_masked_rms_is_none():
    cutouts = some_cutouts(RMS * beam_noise((64, 64), np.random.default_rng(1), n=2))
    from astropy.utils.masked import Masked

    masked = cutouts.table.copy()
    masked["rms"] = Masked(masked["rms"], mask=[False, True])
    seen = model_input(cutouts.replace(table=masked))
    assert np.array_equal(seen[0], model_input(cutouts)[0])
    assert np.array_equal(seen[1], model_input(some_cutouts(cutouts.data, rms=None))[1])


@pytest.mark.parametrize("pixels_per_beam", [3.0, BEAM_PIXELS, None])
def test_maps_return_to_the_cutouts_pixels(pixels_per_beam):
    # A plane of constant slope is what linear interpolation keeps.
    cutouts = some_cutouts(np.random.default_rng(1).normal(size=(2, 50, 60)))
    cutouts.data[1, 20:25] = np.nan
    slope = np.tile((np.arange(96) - 47.5), (2, 96, 1))
    back = cutout_grid(slope, cutouts, pixels_per_beam=pixels_per_beam)
    factor = 1 if pixels_per_beam is None else pixels_per_beam / BEAM_PIXELS
    assert back.shape == cutouts.shape
    assert back[0, 25] == pytest.approx((np.arange(60) - 29.5) * factor, rel=1e-3, abs=1e-6)
    assert np.isnan(back[1, 20:25]).all() and np.isfinite(back[1, 30]).all()


def test_what_the_model_does_not_see_has_no_map():
    cutouts = some_cutouts(np.random.default_rng(1).normal(size=(1, 64, 64)))
    back = cutout_grid(np.ones((1, 32, 32)), cutouts, pixels_per_beam=None)[0]
    assert np.isfinite(back[16:48, 16:48]).all() and np.isfinite(back).sum() == 32**2


@pytest.mark.parametrize(("given", "text"), [
    ({"size": 0}, "size must be a positive whole number"),
    ({"size": 6.5}, "size must be a positive whole number"),
    ({"pixels_per_beam": 0}, "pixels_per_beam must be a positive number, or None"),
    ({"pixels_per_beam": np.nan}, "pixels_per_beam must be a positive number, or None"),
])
def test_settings_that_cannot_be(given, text):
    with pytest.raises(HaloInputError, match=text):
        model_input(some_cutouts(np.zeros((1, 64, 64))), **given)


def test_a_grid_relative_to_the_beam_needs_a_beam():
    cutouts = some_cutouts(np.zeros((1, 64, 64)))
    unknown = cutouts.replace(table=cutouts.table.copy())
    unknown.table["beam_major"] = [np.nan] * u.arcsec
    with pytest.raises(HaloInputError, match="every cutout needs a finite beam and pixel scale .*pixels_per_beam=None"):
        model_input(unknown)
    with pytest.raises(HaloInputError, match="a grid relative to the beam needs the columns"):
        model_input(cutouts.replace(table=cutouts.table[["name"]]))


def test_scaled_cutouts_are_refused():
    with pytest.raises(HaloInputError, match="the rms must be in a unit like the pixels'"):
        model_input(some_cutouts(np.zeros((1, 64, 64))).replace(unit=u.dimensionless_unscaled))
