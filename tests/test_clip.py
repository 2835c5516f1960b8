"""clip: one-sided and two-sided, in sigma and in flux, and what the published cutouts show."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from astropy.wcs import WCS

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.image import Beam, ClusterImage
from halopy.preprocess.clip import clip

UNIT = u.Jy / u.beam


def make(data, **settings):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-28 / 3600, 28 / 3600]
    return ClusterImage(np.atleast_2d(data), wcs=wcs, unit=UNIT, beam=Beam(140 * u.arcsec), **settings)


VALUES = [-9.0, -6.0, -1.0, 0.0, 2.0, 5.5, 6.0, 9.0, np.nan]


def test_one_sided_and_two_sided():
    image = make(VALUES, rms=2.0, flags=["beam-from-survey"])
    one = clip(image)
    np.testing.assert_array_equal(one.data[0], [0, 0, 0, 0, 0, 0, 6, 9, np.nan])
    two = clip(image, low=-3)
    np.testing.assert_array_equal(two.data[0], [-9, -6, 0, 0, 0, 0, 6, 9, np.nan])
    assert two.flags == ("beam-from-survey", "clipped") and two.meta["clip"] == {"low": -3, "high": 3.0}
    assert clip(two).flags == two.flags
    assert image.flags == ("beam-from-survey",) and image.data[0, 2] == -1 and "clip" not in image.meta
    np.testing.assert_array_equal(two.rms, image.rms)


def test_fluxes_need_no_rms_and_convert():
    image = make(VALUES)
    np.testing.assert_array_equal(clip(image, high=5800 * u.mJy / u.beam).data[0], [0, 0, 0, 0, 0, 0, 6, 9, np.nan])
    both = clip(image, low=-2 * UNIT, high=3 * UNIT)
    np.testing.assert_array_equal(both.data[0], [-9, -6, 0, 0, 0, 5.5, 6, 9, np.nan])
    mixed = clip(make(VALUES, rms=2.0), low=-7 * UNIT, high=1)
    np.testing.assert_array_equal(mixed.data[0], [-9, 0, 0, 0, 2, 5.5, 6, 9, np.nan])


def test_sigmas_count_from_the_background_or_a_mean():
    background = make(VALUES, rms=2.0, background=1.0)
    np.testing.assert_array_equal(clip(background, low=-3).data[0], [-9, -6, 0, 0, 0, 0, 0, 9, np.nan])
    image = make(VALUES, rms=2.0)
    # The recipe's I < mean + 3 sigma, with the plain mean, here 0.8125.
    talk = clip(image, mean=np.nanmean(image.data))
    np.testing.assert_array_equal(talk.data, clip(image, mean=812.5 * u.mJy / u.beam).data)
    np.testing.assert_array_equal(talk.data[0], [0, 0, 0, 0, 0, 0, 0, 9, np.nan])


def test_sigma_is_local():
    image = make(np.ones((1, 3)), rms=[[0.1, 1.0, np.nan]])
    # Where the noise is not known nothing is deleted.
    np.testing.assert_array_equal(clip(image).data, [[1, 0, 1]])


def test_pure_noise_leaves_the_tail_of_a_gaussian():
    noise = np.random.default_rng(1).normal(size=(300, 300))
    left = np.count_nonzero(clip(make(noise, rms=1.0)).data) / noise.size
    # 1 - Phi(3) = 0.00135.
    assert left == pytest.approx(0.00135, abs=4 * np.sqrt(0.00135 / noise.size))
    both = np.count_nonzero(clip(make(noise, rms=1.0), low=-3).data) / noise.size
    assert both == pytest.approx(0.0027, abs=4 * np.sqrt(0.0027 / noise.size))


def test_cutouts():
    data = [[[-4.0, 2.0, 4.0, np.nan]], [[-4.0, 2.0, 4.0, 7.0]], [[np.nan] * 4]]
    table = QTable({"rms": [1.0, 2.0, np.nan] * UNIT, "zeros": [0.0, 0.0, np.nan]})
    cutouts = CutoutSet(data, table, unit=UNIT)
    out = clip(cutouts, low=-3)
    np.testing.assert_array_equal(out.data, [[[-4, 0, 4, np.nan]], [[0, 0, 0, 7]], [[np.nan] * 4]])
    np.testing.assert_allclose(out.table["zeros"], [1 / 3, 3 / 4, np.nan])
    assert out.meta["clip"] == {"low": -3, "high": 3.0} and cutouts.table["zeros"][0] == 0
    bare = cutouts.replace(table=QTable({"rms": [1.0, 2.0, np.nan]}))
    np.testing.assert_array_equal(clip(bare, low=-3).data, out.data)


def test_errors():
    image = make(VALUES, rms=1.0)
    with pytest.raises(HaloInputError, match="needs an rms map"):
        clip(make(VALUES))
    with pytest.raises(HaloInputError, match="no column 'rms'"):
        clip(CutoutSet(np.ones((1, 2, 2))))
    with pytest.raises(HaloInputError, match="clip takes a ClusterImage or a CutoutSet"):
        clip(np.ones((2, 2)))
    with pytest.raises(HaloInputError, match="high must be a number of sigmas or a flux"):
        clip(image, high=None)
    for low, high in ((3, 3), (4, -4), (1 * UNIT, 0.5 * UNIT)):
        with pytest.raises(HaloInputError, match="low must lie below high"):
            clip(image, low=low, high=high)
    for high in (np.nan, np.inf, "3", [3, 4]):
        with pytest.raises(HaloInputError, match="high must be a number of sigmas or a flux"):
            clip(image, high=high)
    with pytest.raises(HaloInputError, match="low must be finite"):
        clip(image, low=np.nan * UNIT)
    with pytest.raises(HaloInputError, match="high must be in the unit of the pixels"):
        clip(image, high=3 * u.K)


def test_the_released_cutouts_are_clipped_on_both_sides(real_data):
    """The released images follow |I| < t -> 0, although the text of arXiv:2411.15559 has a one-sided formula."""
    pytest.importorskip("halopy.io.fits")
    ratios = []
    for path in sorted((real_data / "mwa-gleam").glob("*_170-231MHz.fits.gz")):
        image = ClusterImage.read(path, survey="gleam-170-231")
        values = image.data[image.valid & (image.data != 0)]
        if (values < 0).sum() < 20 or values.size > 0.15 * image.data.size:
            continue  # nothing negative survives, or the threshold was hardly above the noise
        edge = np.abs(values).min()
        ratios.append(-values[values < 0].max() / values[values > 0].min())
        two = clip(image, low=-edge * image.unit, high=edge * image.unit)
        np.testing.assert_array_equal(two.data, image.data)
        one = clip(image, high=edge * image.unit)
        assert np.count_nonzero(one.data < 0) == 0 < np.count_nonzero(image.data < 0)
    assert len(ratios) >= 10
    # Both tails begin at the same threshold, as far as the spacing of a few thousand pixels tells.
    assert np.median(ratios) == pytest.approx(1, abs=0.005)
    assert np.ptp(np.percentile(ratios, [10, 90])) < 0.05
