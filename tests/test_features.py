"""Features of a cutout: what they are worth on shapes that are known, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import BEAM, PIXEL, RMS, beam_noise, point_source, some_cutouts

from halopy.classify.features import cutout_features, described, middle, noise_level
from halopy.classify.matched_filter import MatchedFilter
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.image import Beam
from halopy.preprocess.augment import Augmenter
from halopy.simulate.diffuse import exponential_halo

SHAPE = (64, 64)
ROUND = Beam(160 * u.arcsec)
WIDTH = 4.0
"""Of `ROUND`, in pixels of `PIXEL`."""


def features_of(pixels, *, beam=ROUND, compact=False, **settings_):
    """A dict of ``(n,)`` arrays."""
    values, names = cutout_features(some_cutouts(np.asarray(pixels), beam=beam, **settings_), compact=compact)
    return dict(zip(names, values.T, strict=True))


def offsets(shape=SHAPE):
    y, x = np.indices(shape)
    return x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2


def disc(radius, x=0.0, y=0.0):
    dx, dy = offsets()
    return (np.hypot(dx - x, dy - y) <= radius).astype(float)


def sky(*, scale=1, n=3, noise=1.0, rng=1):
    """Noise, a halo, an arc and compact sources on pixels ``scale`` times finer, about one centre."""
    pixel, shape = PIXEL / scale, (63 * scale, 63 * scale)
    middle = (shape[0] - 1) / 2
    images = noise * RMS * beam_noise(shape, np.random.default_rng(rng), beam=BEAM, pixel_scale=pixel, n=n)
    images += exponential_halo(BEAM, pixel, shape, 140 * u.arcsec, x=middle + 1.3 * scale, y=middle) * 0.6
    for x, y, peak in ((3.2, 5.1, 0.2), (-11.4, 6.3, 0.5), (9.7, -14.2, 0.08)):
        images += peak * point_source(shape, middle + x * scale, middle + y * scale, beam=BEAM, pixel_scale=pixel)
    return images, pixel


# ------------------------------------------------------------------------------------------ invariance

@pytest.mark.parametrize(("compact", "tolerance"), [(False, 1e-11), (True, 1e-4)])
def test_the_eight_views_have_the_same_features(compact, tolerance):
    images, pixel = sky()
    images[1, 20:30, 35:50] = np.nan
    images[2] *= 20
    cutouts = some_cutouts(images, beam=BEAM, pixel_scale=pixel)
    views = Augmenter(orientations=8, brightness=None, size=63)(cutouts)
    first, _ = cutout_features(cutouts, compact=compact)
    turned, names = cutout_features(views, compact=compact)
    # Residuals are float32 pixels: what rounding leaves differs from view to view.
    for view in range(8):
        difference = np.abs(turned[view::8] - first)
        assert difference.max() < tolerance, names[difference.max(axis=0).argmax()]


def test_the_same_sky_on_finer_pixels_has_nearly_the_same_features():
    fine, pixel = sky(scale=3, n=8)
    pixels = fine[:, 1::3, 1::3]
    first, _ = cutout_features(some_cutouts(pixels, beam=BEAM, pixel_scale=PIXEL))
    second, _ = cutout_features(some_cutouts(fine, beam=BEAM, pixel_scale=pixel))
    other, _ = cutout_features(some_cutouts(0.02 * pixels[::-1, ::-1], beam=BEAM, pixel_scale=PIXEL))
    difference = np.sqrt(np.mean((second - first) ** 2, axis=0))
    # In asinh(S/N), shares and beams: a hundredth or less where another sky differs by some tenths to ones. Which
    # pixel is the brightest hangs on the grid a little more.
    assert np.median(difference) < 0.02 and difference.max() < 0.2
    assert np.sqrt(np.mean((second - first) ** 2)) < 0.3 * np.sqrt(np.mean((other - first) ** 2))


@settings(max_examples=15, deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(-3, 3))
def test_neither_unit_nor_level_matters(factor, level):
    pixels = sky(n=2)[0]
    expected, _ = cutout_features(some_cutouts(pixels), compact=False)
    found, _ = cutout_features(some_cutouts(factor * (pixels + level * RMS), rms=factor * RMS), compact=False)
    # The pixels are float32.
    close = np.isclose(found, expected, rtol=1e-3, atol=1e-3)
    assert close.mean() > 0.99


def test_what_lies_beyond_six_beams_does_not_count():
    pixels = RMS * beam_noise(SHAPE, np.random.default_rng(2), beam=ROUND, n=2)
    pixels[1] = pixels[0]
    pixels[1] += 0.3 * disc(1, x=30, y=-30)
    first, second = np.array(list(features_of(pixels).values())).T
    # The median of all pixels, and their scatter, are that of the whole cutout.
    np.testing.assert_allclose(first, second, atol=0.02)


# --------------------------------------------------------------------------------------- known shapes

def test_the_functionals_of_discs():
    ring = disc(12) - disc(6)
    images = [disc(8), disc(4, x=-10) + disc(4, x=10) + disc(4, y=10), ring]
    shape = features_of([4 * RMS * image for image in images])
    seen = np.pi * (6 * WIDTH) ** 2
    np.testing.assert_allclose(shape["area_3"], [np.sum(image) / seen for image in images], rtol=0.01)
    # 2 pi R of all circles, over the area in square beams, in beams; a disc of pixels has ragged edges.
    border = 2 * np.pi * np.array([8, 3 * 4, 12 + 6]) / WIDTH / (seen / WIDTH**2)
    np.testing.assert_allclose(shape["perimeter_3"], border, rtol=0.06)
    np.testing.assert_allclose(shape["euler_3"] * seen / WIDTH**2, [1, 3, 0], atol=0.02)
    assert (shape["area_5"] == 0).all() and (shape["euler_5"] == 0).all() and (shape["perimeter_5"] == 0).all()


def test_the_edge_of_what_is_looked_at_is_no_border():
    shape = features_of([np.where(offsets()[0] > 0, 20, -1) * RMS])
    # The straight border through the middle, of 12 beams; pi/4 is for all directions alike.
    assert shape["perimeter_5"][0] == pytest.approx(np.pi / 4 * 12 / (np.pi * 36), rel=0.05)


def test_the_flux_of_a_point_source():
    snr = np.array([5.0, 50.0])
    shape = features_of([s * RMS * point_source(SHAPE, 31.5, 31.5, beam=ROUND) for s in snr])
    # Within 1, 2, 3 beams lie 15/16, and nearly all, of a Gaussian beam; noise adds as the root of the beams there.
    for radius, share in ((1, 15 / 16), (2, 1), (3, 1)):
        beams = np.pi * radius**2 * 4 * np.log(2) / np.pi
        np.testing.assert_allclose(np.sinh(shape[f"flux_{radius}"]), share * snr / np.sqrt(beams), rtol=0.04)
    np.testing.assert_allclose(shape["concentration"], 15 / 16, atol=0.02)
    # The nearest pixels lie half a diagonal from the centre.
    np.testing.assert_allclose(shape["peak_offset"], np.sqrt(0.5) / WIDTH)
    np.testing.assert_allclose(np.sinh(shape["peak"]), snr * 2 ** (-4 * 0.5 / WIDTH**2), rtol=1e-3)


def test_the_profile_follows_the_brightness():
    x, y = offsets()
    shape = features_of([RMS * np.sinh(np.maximum(8 - np.hypot(x, y) / WIDTH, 0))], beam=ROUND)
    # asinh(S/N) falls by one a beam: a node shows the mean radius of a tent about it, of weight r.
    assert shape["profile_0"][0] == pytest.approx(8 - 0.25, abs=0.1)
    r = np.linspace(0, 6, 6001)
    for inner, node, outer in ((0, 0.5, 1), (0.5, 1, 1.5), (1, 1.5, 2), (1.5, 2, 3), (2, 3, 4.5)):
        tent = np.interp(r, [inner, node, outer], [0, 1, 0], left=0, right=0) * r
        assert shape[f"profile_{node:g}"][0] == pytest.approx(8 - np.sum(tent * r) / np.sum(tent), abs=0.05)


def test_second_moments():
    x, y = offsets()
    a, b = 1.0 * WIDTH, 0.5 * WIDTH
    u_, v = x * np.cos(0.6) + y * np.sin(0.6), y * np.cos(0.6) - x * np.sin(0.6)
    small = 0.6
    images = [np.exp(-0.5 * ((u_ / a / small) ** 2 + (v / b / small) ** 2)), np.exp(-0.5 * (x**2 + y**2) / b**2)]
    shape = features_of([100 * RMS * image for image in images])
    np.testing.assert_allclose(shape["ellipticity"], [(a**2 - b**2) / (a**2 + b**2), 0], atol=0.01)
    np.testing.assert_allclose(shape["size"], [small * np.hypot(1, 0.5), np.sqrt(2) * 0.5], rtol=0.01)


def test_gini_and_m20_of_extremes():
    x, y = offsets()
    spike = ((x == 0.5) & (y == 0.5)).astype(float)
    core = 100 * disc(2) + 0.5 * disc(11.9)
    ring = disc(11.9) - disc(9)
    shape = features_of([9 * RMS * image for image in (spike, disc(30), core, ring)])
    # One pixel has it all, or all have the same (Lotz+ 2004, section 2.1).
    np.testing.assert_allclose(shape["gini"][:2], [1, 0], atol=1e-6)
    assert shape["m20"][2] < -0.8 and shape["m20"][3] == pytest.approx(0, abs=0.05)


def test_compact_sources_are_told_from_a_halo():
    halo = exponential_halo(ROUND, PIXEL, SHAPE, 160 * u.arcsec) * 1.0
    source = 0.4 * point_source(SHAPE, 32.3, 31.1, beam=ROUND)
    noise = RMS * beam_noise(SHAPE, np.random.default_rng(5), beam=ROUND, n=3)
    shape = features_of(noise + np.array([np.zeros(SHAPE), source, source + halo]), compact=True)
    assert shape["flux_2"][1] > shape["flux_2"][0] + 2
    assert shape["residual_flux_2"][1] == pytest.approx(shape["residual_flux_2"][0], abs=0.7)
    assert shape["residual_flux_2"][2] > shape["residual_flux_2"][1] + 1
    assert shape["compact"][0] == 0
    assert np.sinh(shape["compact"][1]) == pytest.approx(0.4 / RMS, rel=0.1)


def test_the_matched_filter_can_be_one_of_them():
    cutouts = some_cutouts(RMS * beam_noise(SHAPE, np.random.default_rng(4), n=3))
    features, names = cutout_features(cutouts, matched_filter=True)
    assert names[-1] == "matched_filter"
    np.testing.assert_allclose(np.sinh(features[:, -1]), MatchedFilter().statistic(cutouts))


def test_brightness_counts_from_the_level():
    """The median of the image, or what is given, as for a window that is cut out of it."""
    images, _ = sky()
    width, noise = np.full(3, 3.5), np.full(3, RMS)
    first = described(images, noise, width)
    for name, values in described(images, noise, width, level=middle(images)).items():
        np.testing.assert_array_equal(values, first[name])
    for name, values in described(images + 5, noise, width, level=middle(images) + 5).items():
        np.testing.assert_allclose(values, first[name], atol=1e-9, err_msg=name)
    lower = described(images, noise, width, level=middle(images) - RMS)
    assert (lower["flux_2"] > first["flux_2"]).all() and (lower["peak"] > first["peak"]).all()
    # Of a window about a halo the halo itself is the median.
    window = images[:, 21:42, 21:42]
    own, given = described(window, noise, width), described(window, noise, width, level=middle(images))
    assert (own["flux_2"] < given["flux_2"]).all()
    np.testing.assert_allclose(given["flux_2"], first["flux_2"], atol=1e-9)
    assert "area_3" not in first and "area_3" in described(images, noise, width, whole=True)


def test_the_middle():
    data = np.array([[[1, 2, np.nan, 30.0]], np.full((1, 4), np.nan)])
    assert middle(data).tolist() == [2, 0]


# -------------------------------------------------------------------------------------------- bad input

def test_bad_cutouts():
    data = RMS * beam_noise(SHAPE, np.random.default_rng(3), n=6)
    data[0], data[1], data[2] = np.nan, 0, 1
    data[3, :, :32] = np.inf
    data[4, 26:38, 26:38] = np.nan
    for rms in (RMS, None):
        features, names = cutout_features(some_cutouts(data, rms=rms))
        assert features.shape == (6, len(names)) and len(set(names)) == len(names)
        # Nothing is known of the sky at the centre of the first and the fifth.
        assert np.isnan(features).all(axis=1).tolist() == [True, False, False, False, True, False]
        assert np.isfinite(features[[1, 2, 3, 5]]).all()


def test_no_cutouts():
    features, names = cutout_features(some_cutouts(np.zeros((0, 64, 64))))
    assert features.shape == (0, len(names))


def test_the_noise():
    rng = np.random.default_rng(6)
    data = rng.normal(3, 0.02, (4, 64, 64))
    data[1] = np.where(rng.random((64, 64)) < 0.05, 0.3 + rng.random((64, 64)), 0)
    data[2] = 5
    data[3] = np.nan
    found = noise_level(some_cutouts(data, rms=None))
    assert found[0] == pytest.approx(0.02, rel=0.05)
    # Clipped at three times the noise: the faintest pixel that is left tells.
    assert found[1] == pytest.approx(0.1, rel=0.05)
    assert np.isnan(found[2:]).all()
    np.testing.assert_allclose(noise_level(some_cutouts(data, rms=RMS)), RMS)
    mixed = some_cutouts(data[:1], rms=RMS).join(some_cutouts(data[:1], rms=None))
    np.testing.assert_allclose(noise_level(mixed), [RMS, found[0]])


def test_what_cannot_be_measured():
    cutouts = some_cutouts(np.zeros((2, 16, 16)))
    with pytest.raises(HaloInputError, match="features are measured on a CutoutSet"):
        cutout_features(np.zeros((2, 16, 16)))
    with pytest.raises(HaloInputError, match="no column 'beam_major'"):
        cutout_features(CutoutSet(np.zeros((2, 16, 16))))
    with pytest.raises(HaloInputError, match="finite beam and pixel scale"):
        cutout_features(some_cutouts(np.zeros((2, 16, 16)), pixel_scale=0 * u.arcsec))
    with pytest.raises(HaloInputError, match="rms must be in a unit like the pixels"):
        cutout_features(CutoutSet(cutouts.data, cutouts.table))
