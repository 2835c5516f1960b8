"""Augmenter: the 16 orientations, what is kept and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.preprocess.augment import Augmenter

SIGMA = 3 / np.sqrt(8 * np.log(2))
"""Of a beam of 3 pixels, the least that images usually have."""


def sky(n=2, size=96, seed=0, **columns):
    return CutoutSet(np.random.default_rng(seed).normal(size=(n, size, size)), QTable(columns) if columns else None,
                     unit=u.Jy / u.beam)


def source(x, y, size=96, major=SIGMA, minor=SIGMA, pa=0.0):
    """A Gaussian at offset x, y from the centre; pa in degrees counter-clockwise from +y."""
    yy, xx = np.indices((size, size)) - (size - 1) / 2
    angle = np.radians(pa)
    along = -(xx - x) * np.sin(angle) + (yy - y) * np.cos(angle)
    across = (xx - x) * np.cos(angle) + (yy - y) * np.sin(angle)
    return CutoutSet(np.exp(-(along / major) ** 2 / 2 - (across / minor) ** 2 / 2)[None])


def moments(data):
    yy, xx = np.indices(data.shape) - (data.shape[0] - 1) / 2
    total = data.sum(dtype=float)
    return total, (xx * data).sum() / total, (yy * data).sum() / total


def test_the_talks_set_is_160_fold():
    many = Augmenter()(sky(2), rng=1)
    assert many.shape == (320, 64, 64) and many.unit == u.Jy / u.beam
    table = many.table
    assert sorted(set(table["orientation"])) == list(range(16))
    for row in range(2):
        mine = table["augmented_from"] == row
        assert mine.sum() == 160 and len(np.unique(table["brightness"][mine])) == 10
    assert (table["brightness"] >= 0.9).all() and (table["brightness"] <= 1.3).all() and (table["zoom"] == 1).all()
    assert len(np.unique(table["brightness"])) == 20


def test_right_angles_and_mirrors_move_pixels_and_change_none():
    cutouts = sky(1)
    crop = cutouts.data[0, 16:80, 16:80]
    out = Augmenter(brightness=None)(cutouts)
    views = {0: crop, 2: np.rot90(crop, -1), 4: np.rot90(crop, 2), 6: np.rot90(crop, 1), 8: np.fliplr(crop),
             10: np.rot90(np.fliplr(crop), -1), 12: np.flipud(crop), 14: np.rot90(np.fliplr(crop), 1)}
    for k, expected in views.items():
        np.testing.assert_array_equal(out.data[k], expected)
    eight = Augmenter(brightness=None, orientations=8)(cutouts)
    np.testing.assert_array_equal(eight.data, out.data[::2])
    np.testing.assert_array_equal(Augmenter(brightness=None, orientations=4)(cutouts).data, out.data[:8:2])
    np.testing.assert_array_equal(Augmenter(brightness=None, orientations=1, size=96)(cutouts).data, cutouts.data)
    bright = Augmenter(orientations=8, brightness=3)(cutouts, rng=2)
    factor = bright.table["brightness"].value.astype(np.float32)[:, None, None]
    np.testing.assert_array_equal(bright.data, np.repeat(eight.data, 3, axis=0) * factor)


@pytest.mark.parametrize("size", [64, 63])
def test_a_source_goes_where_its_orientation_says_and_keeps_its_flux(size):
    x, y = 14.3, 5.8
    cutouts = source(x, y, size=size + 32)
    total = cutouts.data.sum(dtype=float)
    out = Augmenter(brightness=None, size=size)(cutouts)
    for k in range(16):
        angle = np.radians(45 * (k % 8))
        sign = -1 if k >= 8 else 1
        expected = sign * x * np.cos(angle) - y * np.sin(angle), sign * x * np.sin(angle) + y * np.cos(angle)
        flux, *place = moments(out.data[k])
        np.testing.assert_allclose(place, expected, atol=0.02)
        assert flux == pytest.approx(total, rel=0.01)


def test_the_peak_of_a_beam_is_kept_at_every_angle():
    # Per beam, the flux of a point source is its peak. At odd size it sits on a pixel of every orientation.
    out = Augmenter(brightness=None, size=63)(source(0, 0, size=95))
    np.testing.assert_allclose(out.data.max(axis=(1, 2)), 1, rtol=0.01)


def test_position_angles_follow():
    cutouts = source(0, 0, major=6, minor=2, pa=30)
    cutouts = cutouts.replace(table=QTable({"beam_pa": [30.0] * u.deg}))
    out = Augmenter(brightness=None)(cutouts)
    for data, pa in zip(out.data, out.table["beam_pa"].to_value(u.rad), strict=True):
        yy, xx = np.indices(data.shape) - 31.5
        xy, xx_yy = (data * xx * yy).sum(), (data * (yy**2 - xx**2)).sum()
        measured = 0.5 * np.arctan2(-2 * xy, xx_yy)
        assert np.cos(2 * (measured - pa)) == pytest.approx(1, abs=1e-3)


def test_corners_show_the_real_surroundings():
    # On a plane, any turned pixel can be computed by hand; constant fill or reflection would show.
    yy, xx = np.indices((96, 96)) - 47.5
    out = Augmenter(brightness=None)(CutoutSet((xx + 3 * yy)[None]))
    yy, xx = np.indices((64, 64)) - 31.5
    for k in range(16):
        angle = -np.radians(45 * (k % 8))
        sx = (xx * np.cos(angle) - yy * np.sin(angle)) * (-1 if k >= 8 else 1)
        sy = xx * np.sin(angle) + yy * np.cos(angle)
        # Spline edges (mirrored) are felt, faintly, three pixels from the border.
        np.testing.assert_allclose(out.data[k], sx + 3 * sy, atol=0.02)


def test_missing_pixels_stay_few():
    cutouts = source(0, 0)
    cutouts.data[0, 40, 50] = np.nan
    cutouts.table["coverage"] = [95 / 96]
    out = Augmenter(brightness=None)(cutouts)
    missing = np.isnan(out.data).sum(axis=(1, 2))
    assert (missing[::2] == 1).all() and (missing >= 1).all() and (missing <= 4).all()
    np.testing.assert_allclose(out.table["coverage"], 1 - missing / 64**2)


def test_the_table_follows():
    cutouts = sky(2, group=["A2744", "A13"], label=["halo", "none"], rms=[1.0, 2.0] * u.Jy / u.beam, x0=[1, 2],
                  y0=[1, 2], image=["a", "a"], position=SkyCoord([1, 2], [3, 4], unit="deg"),
                  pixel_scale=[28.0, 28.0] * u.arcsec)
    cutouts.meta["wcs"] = {"a": ""}
    out = Augmenter(brightness=4, zoom=(0.95, 1.1))(cutouts, rng=3)
    table = out.table
    assert not {"x0", "y0", "image"} & set(table.colnames) and "wcs" not in out.meta and "wcs" in cutouts.meta
    first = table["augmented_from"] == 0
    assert set(table["group"][first]) == {"A2744"} and set(table["label"][~first]) == {"none"}
    assert u.allclose(table["rms"], np.where(first, 1, 2) * table["brightness"] * u.Jy / u.beam)
    assert u.allclose(table["pixel_scale"], 28 * u.arcsec / table["zoom"])
    with pytest.raises(HaloInputError, match="augmented cutouts carry no WCS"):
        out.wcs(5)
    assert "orientation" not in cutouts.table.colnames


def test_zoom_magnifies():
    cutouts = source(6.0, 0.0, major=3, minor=3)
    out = Augmenter(brightness=None, orientations=4, zoom=(1.25, 1.25))(cutouts, rng=1)
    flux, x, y = moments(out.data[0])
    # Surface brightness is kept, so the sum grows with the area.
    assert flux == pytest.approx(cutouts.data.sum() * 1.25**2, rel=0.01)
    np.testing.assert_allclose((x, y), (7.5, 0), atol=0.02)
    drawn = Augmenter(zoom=(0.95, 1.05), draw=8)(cutouts, rng=1).table["zoom"]
    assert len(np.unique(drawn)) == 8 and drawn.min() >= 0.95 and drawn.max() <= 1.05


def test_draw():
    out = Augmenter(draw=20, brightness=10)(sky(3), rng=1)
    assert out.shape == (60, 64, 64) and len(np.unique(out.table["brightness"])) == 60
    for row in range(3):
        drawn = out.table["orientation"][out.table["augmented_from"] == row]
        assert sorted(set(drawn[:16])) == list(range(16))
    assert (Augmenter(draw=2, brightness=None)(sky(3), rng=1).table["brightness"] == 1).all()


def test_the_same_seed_gives_the_same_bytes():
    for step in (Augmenter(brightness=2), Augmenter(draw=5, zoom=(0.95, 1.2))):
        one, two, other = (step(sky(1), rng=seed) for seed in (7, np.random.default_rng(7), 8))
        assert one.data.tobytes() == two.data.tobytes() != other.data.tobytes()
        assert one.table["brightness"].tolist() == two.table["brightness"].tolist()


def test_nothing_in_nothing_out():
    assert Augmenter()(sky(2)[[]]).shape == (0, 64, 64)
    assert Augmenter(draw=3)(sky(2, group=["a", "b"])[[]], rng=1).shape == (0, 64, 64)


@pytest.mark.parametrize(("settings", "size", "needed", "hint"), [
    ({}, 90, 92, 96), ({}, 64, 92, 96), ({"size": 63}, 87, 89, 89), ({"zoom": (0.8, 1.2)}, 96, 114, 128),
    ({"orientations": 8}, 62, 64, 64)])
def test_too_small_cutouts_say_how_large(settings, size, needed, hint):
    with pytest.raises(HaloInputError, match=rf"need cutouts of {needed} or more.*CutoutMaker\({hint}\)"):
        Augmenter(**settings)(sky(1, size=size))
    assert len(Augmenter(brightness=None, **settings)(sky(1, size=needed), rng=1)) > 0
    assert len(Augmenter(brightness=None, **settings)(sky(1, size=hint), rng=1)) > 0


@pytest.mark.parametrize(("settings", "message"), [
    ({"orientations": 3}, "orientations must be 1, 4, 8 or 16"),
    ({"brightness": 0}, "brightness must be a positive whole number"),
    ({"draw": 2.5}, "draw must be a positive whole number"),
    ({"brightness_range": (1.3, 0.9)}, "brightness_range must be two positive numbers"),
    ({"zoom": (0, 1)}, "zoom must be two positive numbers"),
    ({"size": 0}, "size must be a positive whole number"),
    ({"size": 63}, "both be even or both be odd, size is 63")])
def test_bad_settings(settings, message):
    with pytest.raises(HaloInputError, match=message):
        Augmenter(**settings)(sky(1))


def test_only_cutouts():
    with pytest.raises(HaloInputError, match="an Augmenter takes a CutoutSet"):
        Augmenter()(np.ones((2, 96, 96)))
    assert repr(Augmenter(draw=3)) == "Augmenter(draw=3)"
