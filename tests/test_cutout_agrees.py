"""CutoutMaker beside the tools that astronomers use, and with more than one thread."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import Cutout2D
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from halopy.cutouts import CutoutSet
from halopy.image import Beam, ClusterImage
from halopy.preprocess.augment import Augmenter
from halopy.preprocess.cutout import CutoutMaker


@pytest.fixture(scope="module")
def image():
    """A beam of 4 pixels, with holes far from its middle."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---SIN", "DEC--SIN"], [-30 / 3600, 30 / 3600]
    wcs.wcs.crval, wcs.wcs.crpix = [30, -27], [200.5, 150.5]
    data = gaussian_filter(np.random.default_rng(0).normal(size=(300, 400)), 1.7)
    data[:20], data[:, 350:] = np.nan, 0
    return ClusterImage(data, wcs=wcs, unit=u.Jy / u.beam, beam=Beam(120 * u.arcsec), rms=np.abs(data) + 1)


def positions(image, n, margin=-40):
    x, y = np.random.default_rng(1).uniform(margin, [[400 - margin], [300 - margin]], (2, n))
    return image.wcs.pixel_to_world(x, y)


@pytest.mark.parametrize("size", [64, 33])
def test_pixels_are_those_of_cutout2d(image, size):
    sky = positions(image, 100)
    cutouts = CutoutMaker(size)(image, sky)
    found = 0
    for i, position in enumerate(sky):
        if cutouts.table["coverage"][i] > 0:
            expected = Cutout2D(image.data, position, size, wcs=image.wcs, mode="partial", fill_value=np.nan)
            np.testing.assert_array_equal(cutouts.data[i], expected.data)
            found += 1
    assert found > 50


@pytest.mark.parametrize(("order", "name"), [(1, "bilinear"), (3, "bicubic")])
@pytest.mark.parametrize("scale", [20, 41])
def test_resampled_pixels_are_those_of_reproject(image, order, name, scale):
    reproject = pytest.importorskip("reproject")
    sky = image.wcs.pixel_to_world([120.3, 210.0, 180.9], [130.8, 160.0, 149.1])
    cutouts = CutoutMaker(64, pixel_scale=scale * u.arcsec, order=order)(image, sky)
    part = image[60:260, 60:300]
    for i in range(3):
        expected, _ = reproject.reproject_interp((part.data.astype(float), part.wcs), cutouts.wcs(i),
                                                 shape_out=(64, 64), order=name)
        # The design's limit is 1e-3 of the peak; here it is the control points' and float32's rounding.
        assert np.abs(cutouts.data[i] - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("settings", [{}, {"pixel_scale": 25 * u.arcsec}, {"pixel_scale": 25 * u.arcsec, "order": 1},
                                      {"pixel_scale": 25 * u.arcsec, "order": 2}, {"pixels_per_beam": 3.5}])
def test_threads_change_no_byte(image, settings, monkeypatch):
    numba = pytest.importorskip("numba")
    many = []
    for threads in (1, 2):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        cutouts = CutoutMaker(32, **settings)(image, positions(image, 600))
        many.append([cutouts.data.tobytes()] + [np.asarray(cutouts.table[name]).tobytes()
                                                for name in ("rms", "coverage", "zeros")])
    assert many[0] == many[1]


def test_threads_change_no_byte_of_augmented_cutouts(image, monkeypatch):
    numba = pytest.importorskip("numba")
    cutouts = CutoutMaker(100)(image, positions(image, 20))
    many = []
    for threads in (1, 2):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
        out = Augmenter(zoom=(0.9, 1.3), brightness=2)(cutouts, rng=3)
        many.append((out.data.tobytes(), out.table["coverage"].tolist()))
    assert many[0] == many[1]
    assert many[0][1] == np.isfinite(out.data).mean(axis=(1, 2)).tolist()


def test_the_same_cutout_alone_or_among_many(image):
    sky = positions(image, 300)
    for settings in ({}, {"pixel_scale": 25 * u.arcsec}):
        make = CutoutMaker(32, **settings)
        many = make(image, sky)
        for i in (0, 100, 299):
            np.testing.assert_array_equal(make(image, sky[i]).data[0], many.data[i])


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_of_an_image_in_memory_does_not_matter(image, order):
    sky = positions(image, 5)
    data = np.array(image.data, order=order)
    data.flags.writeable = False
    other = ClusterImage(data, wcs=image.wcs, unit=image.unit, beam=image.beam)
    for settings in ({}, {"pixel_scale": 25 * u.arcsec}):
        make = CutoutMaker(32, **settings)
        np.testing.assert_array_equal(make(other, sky).data, make(image, sky).data)


@pytest.mark.parametrize("place", [(0.0, 0.0), (7.3, -5.1)])
def test_flux_of_a_beam_is_kept_at_every_angle_and_zoom(place):
    # A source as wide as a beam of 4 pixels. Surface brightness is kept, so that flux grows as the square of the zoom.
    y, x = np.indices((100, 100)) - 49.5
    source = CutoutSet(np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * (4 / 2.3548) ** 2))[None])
    out = Augmenter(brightness_range=(1, 1), zoom=(0.9, 1.3))(source, rng=0)
    assert len(out) == 160 and len(np.unique(out.table["zoom"])) == 10
    flux = out.data.sum(axis=(1, 2), dtype=float) / out.table["zoom"] ** 2
    np.testing.assert_allclose(flux, source.data.sum(dtype=float), rtol=0.01)
