"""Noise has the rms, the distribution and the autocorrelation that the physics of an interferometer gives it."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from scipy import ndimage, special, stats
from simulated import BEAM, PIXEL, an_image, axes, on_grid, turned_wcs

from halopy.errors import HaloInputError
from halopy.image import Beam, ClusterImage
from halopy.simulate import noise as module
from halopy.simulate.noise import draw_noise

COVARIANCE = BEAM.covariance(PIXEL)
LONG = Beam(240 * u.arcsec, 110 * u.arcsec, 60 * u.deg)
CORRELATIONS = {"psf": 1, "smoothed": np.sqrt(2), 1.2: 1.2}
LAG = 12


def autocorrelation(noise, lag=LAG):
    """Mean products of pixels (dx, dy) apart: ``(2 lag + 1, 2 lag + 1)``, of noise whose mean is known to be zero."""
    ny, nx = noise.shape[1:]
    padded = (ny + lag, nx + lag)
    power = np.mean([np.abs(np.fft.rfft2(part, padded)) ** 2 for part in noise], axis=0)
    pairs = np.fft.irfft2(np.abs(np.fft.rfft2(np.ones((ny, nx)), padded)) ** 2, padded)
    lags = np.ix_(np.arange(-lag, lag + 1), np.arange(-lag, lag + 1))
    return (np.fft.irfft2(power, padded) / np.maximum(pairs, 1))[lags]


def lags(lag=LAG):
    y, x = np.mgrid[-lag:lag + 1, -lag:lag + 1]
    return x, y


def gaussian(beam, wider=1, pixel_scale=PIXEL, lag=LAG):
    """The Gaussian beam on the pixels of an autocorrelation."""
    (a, b), (along, across) = axes(beam, pixel_scale)
    x, y = lags(lag)
    return np.exp(-0.5 * (((along[0] * x + along[1] * y) / a) ** 2
                          + ((across[0] * x + across[1] * y) / b) ** 2) / wider**2)


def error(expected, noise):
    """The standard error of an autocorrelation: √(2 Σ ρ² / N), by Bartlett's formula, for the pairs that there are."""
    n, ny, nx = noise.shape
    reach = expected.shape[0] // 2
    pairs = n * max(ny - reach, ny // 4) * max(nx - reach, nx // 4)
    return np.sqrt(2 * (expected**2).sum() / pairs)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("beam", [BEAM, LONG], ids=repr)
def test_the_autocorrelation_of_noise_is_the_beam_or_root_two_wider(beam, correlation):
    """Natural weights: the power spectrum is the transform of the PSF. A Gaussian convolved with itself is √2 wider."""
    noise = draw_noise(2500, (48, 56), beam.covariance(PIXEL), rng=1, correlation=correlation)
    expected = gaussian(beam, CORRELATIONS[correlation])
    assert error(expected, noise) < 0.005
    np.testing.assert_allclose(autocorrelation(noise), expected, atol=5 * error(expected, noise))


@pytest.mark.parametrize("shape", [(40, 1), (1, 40), (5, 4)])
def test_columns_that_are_their_own_mirror_image_keep_their_power(shape):
    """In an image narrower than the beam nearly all of the power is in the column of zero frequency."""
    noise = draw_noise(20000, shape, COVARIANCE, rng=2).astype(float)
    reach = [min(size - 1, 6) for size in shape]
    expected = gaussian(BEAM)
    for dy in range(reach[0] + 1):
        for dx in range(reach[1] + 1):
            products = noise[:, dy:, dx:] * noise[:, :shape[0] - dy, :shape[1] - dx]
            scatter = products.mean(axis=(1, 2)).std() / np.sqrt(len(noise))
            assert products.mean() == pytest.approx(expected[LAG + dy, LAG + dx], abs=5 * scatter), (dy, dx)


@pytest.mark.parametrize("beam", [Beam(60 * u.arcsec), Beam(80 * u.arcsec, 40 * u.arcsec, 30 * u.deg)], ids=repr)
def test_a_beam_that_is_not_sampled_still_correlates_neighbours(beam):
    """Power above the sampling limit folds back: at whole pixels the autocorrelation remains that of the beam."""
    noise = draw_noise(2500, (40, 40), beam.covariance(PIXEL), rng=3)
    expected = gaussian(beam, lag=4)
    np.testing.assert_allclose(autocorrelation(noise, 4), expected, atol=5 * error(expected, noise))


@pytest.mark.parametrize("beam", [Beam(15 * u.arcsec), Beam(90 * u.arcsec), BEAM, Beam(10 * u.arcmin)], ids=repr)
@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_the_rms_is_one(beam, correlation):
    """Over 1500 source-free cutouts within 1 %, or within its standard error of √(Σ ρ² / 2N) if that is larger."""
    noise = draw_noise(1500, (64, 63), beam.covariance(PIXEL), rng=4, correlation=correlation)
    assert noise.dtype == np.float32
    assert noise.shape == (1500, 64, 63)
    expected = gaussian(beam, CORRELATIONS[correlation], lag=60)
    scatter = np.sqrt((expected**2).sum() / noise.size / 2)
    assert scatter < 0.015
    assert np.sqrt(np.mean(noise.astype(float) ** 2)) == pytest.approx(1, abs=max(0.01, 4 * scatter))
    # The same everywhere in the image.
    assert np.ptp(noise.std(axis=0)) < 10 / np.sqrt(2 * len(noise))


@pytest.mark.parametrize("shape", [(12, 12), (13, 17)])
@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_opposite_edges_know_nothing_of_each_other(shape, correlation):
    """The grid is periodic; were it no larger than the image, its edges would be neighbours and correlated by 0.9."""
    noise = draw_noise(30000, shape, Beam(100 * u.arcsec).covariance(PIXEL), rng=5, correlation=correlation)
    for first, last in ((noise[:, 0], noise[:, -1]), (noise[:, :, 0], noise[:, :, -1])):
        products = (first * last).mean(axis=1)
        scatter = products.std() / np.sqrt(len(noise))
        assert scatter < 0.004
        assert abs(products.mean()) < 1e-3 + 4 * scatter


def test_pixels_are_normal():
    noise = draw_noise(800, (64, 64), COVARIANCE, rng=6)
    # Twelve pixels are four beams: what is left is independent.
    sample = noise[:, ::12, ::12].ravel()
    assert stats.kstest(sample, "norm").pvalue > 0.01


def test_every_row_may_have_a_beam_of_its_own():
    beams = [BEAM, Beam(100 * u.arcsec), LONG]
    which = np.arange(4500) % 3
    covariances = np.array([beam.covariance(PIXEL) for beam in beams])[which]
    noise = draw_noise(4500, (40, 40), covariances, rng=7)
    for i, beam in enumerate(beams):
        own = noise[which == i]
        np.testing.assert_allclose(autocorrelation(own, 8), gaussian(beam, lag=8),
                                   atol=5 * error(gaussian(beam, lag=8), own))


def test_the_same_beam_in_every_row_is_one_beam():
    one = draw_noise(20, (30, 31), COVARIANCE, rng=8)
    each = draw_noise(20, (30, 31), np.broadcast_to(COVARIANCE, (20, 2, 2)), rng=8)
    np.testing.assert_array_equal(one, each)


@pytest.mark.parametrize("own", [False, True], ids=["one beam", "own beams"])
def test_the_bytes_do_not_depend_on_how_many_are_drawn_at_once(own, monkeypatch):
    covariances = COVARIANCE * np.linspace(1, 1.3, 50)[:, None, None] if own else COVARIANCE
    noise = draw_noise(50, (33, 30), covariances, rng=9)
    for block in (1, 10_000, 2**24):
        monkeypatch.setattr(module, "BLOCK", block)
        np.testing.assert_array_equal(draw_noise(50, (33, 30), covariances, rng=9), noise)
    if not own:
        np.testing.assert_array_equal(draw_noise(7, (33, 30), covariances, rng=9), noise[:7])


def test_same_rng_same_bytes():
    first, again, other = (draw_noise(5, (20, 20), COVARIANCE, rng=seed) for seed in (10, 10, 11))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    rng = np.random.default_rng(10)
    np.testing.assert_array_equal(draw_noise(5, (20, 20), COVARIANCE, rng=rng), first)
    assert not np.array_equal(draw_noise(5, (20, 20), COVARIANCE, rng=rng), first)


def test_a_field():
    noise = draw_noise(1, (1000, 1100), COVARIANCE, rng=12)
    assert noise.std() == pytest.approx(1, abs=0.02)
    expected = gaussian(BEAM)
    np.testing.assert_allclose(autocorrelation(noise), expected, atol=5 * error(expected, noise))


def test_none_at_all():
    assert draw_noise(0, (20, 21), COVARIANCE, rng=1).shape == (0, 20, 21)
    assert draw_noise(0, (20, 21), np.empty((0, 2, 2)), rng=1).shape == (0, 20, 21)


# A dirty beam with sidelobes: a ring in the u-v plane, smoothed. Its transform is positive, as of any weights.

FINE = 8 * u.arcsec
SIGMA, RING = 150, 1 / 240


def dirty(x, y):
    """A dirty beam at arcseconds west and north: main lobe of 85 arcsec FWHM, 0.8 as wide along x, sidelobes -0.2."""
    r = np.hypot(x / 0.8, y)
    return special.j0(2 * np.pi * RING * r) * np.exp(-0.5 * (r / SIGMA) ** 2)


def dirty_beam(x=85.0, y=85.0, n=171, pixel_scale=FINE):
    rows, columns = np.indices((n, n)) - np.array([y, x])[:, None, None]
    scale = pixel_scale.to_value(u.arcsec)
    return an_image(dirty(scale * columns, scale * rows), pixel_scale=pixel_scale, beam=None)


def dirty_autocorrelation(scale=20):
    x, y = lags()
    return dirty(scale * x, scale * y)


@pytest.mark.parametrize("centre", [(85, 85), (82.4, 86.3)])
def test_the_autocorrelation_of_noise_is_the_dirty_beam(centre):
    psf = dirty_beam(*centre)
    assert psf.data.min() < -0.2
    noise = draw_noise(2500, (40, 48), None, rng=13, psf=psf, pixel_scale=20 * u.arcsec)
    expected = dirty_autocorrelation()
    np.testing.assert_allclose(autocorrelation(noise), expected, atol=5 * error(expected, noise))
    # Twice as coarse: the same noise seen at every second pixel.
    noise = draw_noise(2500, (40, 48), None, rng=13, psf=psf, pixel_scale=40 * u.arcsec)
    expected = dirty_autocorrelation(40)
    np.testing.assert_allclose(autocorrelation(noise), expected, atol=5 * error(expected, noise))


def test_a_psf_on_a_turned_grid_is_turned_north_up():
    psf = on_grid(dirty_beam(), turned_wcs((171, 171), scale=FINE, turn=50, aspect=1.2), (171, 171))
    noise = draw_noise(2500, (40, 40), None, rng=14, psf=psf, pixel_scale=20 * u.arcsec)
    expected = dirty_autocorrelation()
    np.testing.assert_allclose(autocorrelation(noise), expected, atol=5 * error(expected, noise) + 0.005)


def test_a_psf_may_peak_between_its_pixels():
    """Four pixels to its main lobe, half a pixel off: the brightest pixel is 6 % fainter than the peak."""
    psf = dirty_beam(40.5, 40.5, n=82, pixel_scale=20 * u.arcsec)
    noise = draw_noise(2500, (40, 48), None, rng=18, psf=psf, pixel_scale=20 * u.arcsec)
    expected = dirty_autocorrelation()
    np.testing.assert_allclose(autocorrelation(noise), expected, atol=5 * error(expected, noise))


def test_negative_power_is_none():
    """A PSF with a bowl has weights below zero at short baselines; noise has none there, and is without the bowl."""
    scale, (narrow, wide), part = 20, (60, 300), 0.15
    rows, columns = np.indices((401, 401)) - 200
    r = 8 * np.hypot(rows, columns)
    psf = an_image(np.exp(-0.5 * (r / narrow) ** 2) - part * np.exp(-0.5 * (r / wide) ** 2), pixel_scale=FINE)
    noise = draw_noise(2500, (64, 64), None, rng=19, psf=psf, pixel_scale=scale * u.arcsec)
    # Its transform in one piece, on a grid of 1/6000 of a cycle an arcsecond.
    q = np.fft.fftfreq(300, scale)
    q2 = 2 * np.pi**2 * (q[:, None] ** 2 + q**2)
    power = narrow**2 * np.exp(-q2 * narrow**2) - part * wide**2 * np.exp(-q2 * wide**2)
    assert power[0, 0] < -2 * power.max()
    expected = np.fft.ifft2(np.maximum(power, 0)).real
    expected = np.roll(expected, (LAG, LAG), (0, 1))[:2 * LAG + 1, :2 * LAG + 1] / expected[0, 0]
    np.testing.assert_allclose(autocorrelation(noise), expected, atol=5 * error(expected, noise) + 0.01)


def test_white_noise_smoothed_by_a_psf():
    """For a Gaussian PSF √2 wider, whatever the description of the Gaussian."""
    rows, columns = np.indices((151, 151)) - 75
    (a, b), (along, across) = axes(BEAM, FINE)
    psf = an_image(np.exp(-0.5 * (((along[0] * columns + along[1] * rows) / a) ** 2
                                  + ((across[0] * columns + across[1] * rows) / b) ** 2)), pixel_scale=FINE)
    noise = draw_noise(2500, (48, 48), None, rng=15, psf=psf, pixel_scale=PIXEL, correlation="smoothed")
    expected = gaussian(BEAM, np.sqrt(2))
    np.testing.assert_allclose(autocorrelation(noise), expected, atol=5 * error(expected, noise))


def test_a_psf_larger_than_the_image_ends_beyond_the_image():
    """Sidelobes as far apart as the image is wide are in its noise; a PSF of any size costs no more than that."""
    noise = draw_noise(20000, (16, 16), None, rng=16, psf=dirty_beam(), pixel_scale=20 * u.arcsec)
    expected = dirty_autocorrelation()[6:19, 6:19]
    np.testing.assert_allclose(autocorrelation(noise, 6), expected, atol=5 * error(expected, noise))


@pytest.mark.parametrize("robust", ["r0.0", "r2.0"])
def test_noise_of_a_real_dirty_beam(real_data, robust):
    """GLEAM-X, 154 MHz: 5 standard errors, and 0.01 for what a PSF cut off at 450 arcsec holds of negative power."""
    # Its header's beam, 64 pixels, is more than the reader believes of an image; it is not looked at.
    psf = ClusterImage.read(real_data / "mwa-psf" / f"gleamx_psf_1202216384_{robust}.fits.gz",
                            beam=Beam(40 * u.arcsec))
    noise = draw_noise(4000, (64, 64), None, rng=17, psf=psf, pixel_scale=28 * u.arcsec)
    x, y = (axis * 28 / 1.8 for axis in lags())
    sides = [ndimage.map_coordinates(psf.data.astype(float), [250 + s * y, 250 + s * x], order=1) for s in (-1, 1)]
    expected = np.mean(sides, axis=0)
    inside = np.hypot(x, y) < 0.79 * 249
    difference = autocorrelation(noise) - expected
    assert expected[inside].min() < -0.02
    assert np.abs(difference[inside]).max() < 5 * error(expected, noise) + 0.01


@pytest.mark.parametrize(("n", "shape"), [(-1, (5, 5)), (1.5, (5, 5)), (1, (5,)), (1, (0, 5)), (1, (5, 2.5)), (1, 5)])
def test_sizes_that_cannot_be(n, shape):
    with pytest.raises(HaloInputError, match=r"n must be a whole number and shape two of them, \(ny, nx\).*found"):
        draw_noise(n, shape, COVARIANCE)


def test_a_correlation_that_is_not_known():
    with pytest.raises(HaloInputError, match=r"one of psf, smoothed, or a width in beams \(found 'white'\)"):
        draw_noise(1, (5, 5), COVARIANCE, correlation="white")


@pytest.mark.parametrize("width", [0, -1, np.inf, np.nan, 1j])
def test_a_width_that_cannot_be(width):
    with pytest.raises(HaloInputError, match="or a width in beams"):
        draw_noise(1, (5, 5), COVARIANCE, correlation=width)


@pytest.mark.parametrize("beam", [np.eye(3), 2.0, np.ones((3, 2, 2)), None])
def test_covariances_of_a_wrong_shape(beam):
    with pytest.raises(HaloInputError, match=r"beam_covariance must have the shape \(2, 2\) or \(2, 2, 2\)"):
        draw_noise(2, (5, 5), beam)


@pytest.mark.parametrize("beam", [[[1, 2], [2, 1]], [[1, 0.5], [0, 1]], np.full((2, 2), np.nan), np.zeros((2, 2)),
                                  np.diag([np.inf, 1]), np.diag([0.009, 1])])
def test_covariances_that_are_no_beam(beam):
    with pytest.raises(HaloInputError, match=r"symmetric with eigenvalues above 0.01 square pixels"):
        draw_noise(2, (5, 5), beam)


def test_a_psf_that_is_no_image():
    with pytest.raises(HaloInputError, match="psf must be a ClusterImage .*ndarray"):
        draw_noise(1, (5, 5), None, psf=np.ones((5, 5)), pixel_scale=PIXEL)


def test_a_psf_without_the_pixel_scale_of_the_noise():
    with pytest.raises(HaloInputError, match="a psf needs the pixel_scale of the noise"):
        draw_noise(1, (5, 5), None, psf=dirty_beam())


@pytest.mark.parametrize("data", [np.zeros((9, 9)), -np.eye(9), np.full((9, 9), np.nan),
                                  np.arange(81.0).reshape(9, 9)])
def test_a_psf_without_a_peak(data):
    with pytest.raises(HaloInputError, match="a psf needs a positive peak away from its border"):
        draw_noise(1, (5, 5), None, psf=an_image(data), pixel_scale=PIXEL)


def test_a_psf_smaller_than_its_main_lobe():
    with pytest.raises(HaloInputError, match=r"fall below half of its peak well within its border.*6\.\d pixels away"):
        draw_noise(1, (64, 64), None, psf=dirty_beam()[80:91, 80:91], pixel_scale=5 * u.arcsec)
