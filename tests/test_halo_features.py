"""What the ensemble looks at: the halo near the target is described wherever it lies."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from simulated import BEAM, RMS, beam_noise, point_source, some_cutouts

from halopy.classify.halo_features import halo_features
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.image import Beam
from halopy.simulate.diffuse import exponential_halo
from halopy.testing import simulated_cutouts

ROUND = Beam(120 * u.arcsec)
SCALE = ROUND.major / 3
"""Three pixels to a beam, as a `Detector` makes its cutouts."""
SIDE = 97
RADIUS = 2.8
"""e-folding radius in beams of a halo that the matched filter has a template of."""
AWAY = 6
"""Pixels, two beams: a place on the grid of centres of that template."""


def sky(*, x=0.0, y=0.0, n=1, flux=0.0, rng=1, side=SIDE, beam=ROUND):
    """Noise with a halo off the centre by (x, y) pixels."""
    shape, middle = (side, side), (side - 1) / 2
    pixels = RMS * beam_noise(shape, np.random.default_rng(rng), beam=beam, pixel_scale=SCALE, n=n)
    width = np.sqrt(beam.major * beam.minor)
    return pixels + flux * exponential_halo(beam, SCALE, shape, RADIUS * width, x=middle + x, y=middle + y)


def source(peak, x, y):
    return peak * RMS * point_source((SIDE, SIDE), (SIDE - 1) / 2 + x, (SIDE - 1) / 2 + y, beam=ROUND,
                                     pixel_scale=SCALE)


def measured(pixels, *, beam=ROUND, **settings):
    """A dict of ``(n,)`` arrays."""
    features, names = halo_features(some_cutouts(np.asarray(pixels), beam=beam, pixel_scale=SCALE, **settings))
    return dict(zip(names, features.T, strict=True))


def turned(cutouts, view):
    """The same sky on a grid that is turned by quarters, and mirrored from view 4 on."""
    data = np.rot90(cutouts.data, view % 4, (1, 2))
    table = cutouts.table.copy()
    angle = u.Quantity(table["beam_pa"]) + 90 * (view % 4) * u.deg
    table["beam_pa"] = -angle if view >= 4 else angle
    return cutouts.replace(data=data[:, :, ::-1] if view >= 4 else data, table=table)


def test_they_are_finite_and_each_has_a_name():
    features, names = halo_features(simulated_cutouts(12))
    assert features.shape == (12, len(names)) and np.isfinite(features).all()
    assert len(set(names)) == len(names)
    assert {"found_snr", "found_radius", "found_offset", "found_compact", "compact"} <= set(names)


def test_a_halo_beside_the_target_is_described_as_one_at_it():
    """One sky with a halo, seen from the halo's centre and from two beams beside it."""
    whole = sky(flux=2.0, side=SIDE + 2 * AWAY)
    at, beside = whole[:, AWAY:-AWAY, AWAY:-AWAY], whole[:, AWAY:-AWAY, :SIDE]
    found = measured(np.concatenate([at, beside]))
    np.testing.assert_allclose(found["found_offset"], [0, AWAY / 3], atol=1e-9)
    assert found["found_radius"][0] == found["found_radius"][1] == pytest.approx(np.log(RADIUS))
    # The cutouts share most of their sky, and so the level that brightness counts from, but not all of it.
    differences = {name: abs(values[1] - values[0]) for name, values in found.items()}
    about = {name: d for name, d in differences.items() if name.startswith("found_") and name != "found_offset"}
    assert max(about.values()) < 0.03, max(about, key=about.get)
    for name in ("flux_1", "profile_0", "concentration"):
        assert differences[f"found_residual_{name}"] < 0.05 * differences[f"residual_{name}"], name


def test_compact_sources_are_those_about_the_halo():
    # Two beams beyond the halo's centre, four from the target.
    found = measured(sky(x=AWAY, flux=2.0) + source(60, 2 * AWAY, 0))
    assert found["compact"][0] == 0
    assert np.sinh(found["found_compact"][0]) == pytest.approx(60, rel=0.15)
    assert found["found_offset"][0] == pytest.approx(2, abs=0.5)


@pytest.mark.parametrize("view", range(1, 8))
def test_the_eight_views_have_the_same_features(view):
    """Exactly where the centre is a pixel. In cutouts of an even number of pixels it lies between four of them, and
    the windows about what was found lie half a pixel off."""
    pixels = sky(x=AWAY, y=-3, flux=10.0, n=4, beam=BEAM)
    pixels[2] *= 8
    cutouts = some_cutouts(pixels, beam=BEAM, pixel_scale=SCALE)
    first, names = halo_features(cutouts)
    difference = np.abs(halo_features(turned(cutouts, view))[0] - first)
    # Residuals are float32 pixels.
    assert difference.max() < 1e-4, names[difference.max(axis=0).argmax()]


def test_even_cutouts_turned_by_half_a_circle():
    """The centre of an even cutout lies between pixels, and so does that of what is found."""
    cutouts = some_cutouts(sky(x=3, flux=10.0, n=6, side=96), beam=ROUND, pixel_scale=SCALE)
    first, _ = halo_features(cutouts)
    np.testing.assert_allclose(halo_features(turned(cutouts, 2))[0], first, atol=1e-4)


def test_the_unit_does_not_matter():
    pixels = sky(x=3, flux=10.0, n=3) + source(30, -9, 5)
    one, other = measured(pixels), measured(1000 * pixels, rms=1000 * RMS, unit=u.mJy / u.beam)
    for name, values in one.items():
        np.testing.assert_allclose(other[name], values, atol=1e-3, err_msg=name)


def test_rows_of_cutouts_that_hold_nothing():
    pixels = sky(n=5)
    middle = slice(SIDE // 2 - 4, SIDE // 2 + 5)
    pixels[0], pixels[1], pixels[2, middle, middle] = np.nan, 0.0, np.nan
    pixels[3, :, :20] = np.nan
    for rms in (RMS, None):
        features, _ = halo_features(some_cutouts(pixels, beam=ROUND, pixel_scale=SCALE, rms=rms))
        # Of the second only the noise may be known; a row is known as a whole, or not at all.
        known = np.isfinite(features)
        assert (known.all(axis=1) == known.any(axis=1)).all()
        assert known[:, 0].tolist()[2:] == [False, True, True] and not known[0, 0]


def test_no_cutouts():
    features, names = halo_features(simulated_cutouts(3)[:0])
    assert features.shape == (0, len(names))


def test_what_cannot_be_measured():
    with pytest.raises(HaloInputError, match="no column 'beam_major'"):
        halo_features(CutoutSet(np.zeros((2, 16, 16))))
    cutouts = simulated_cutouts(3)
    cutouts.table["beam_major"][1] = np.nan
    with pytest.raises(HaloInputError, match="finite beam and pixel scale"):
        halo_features(cutouts)
