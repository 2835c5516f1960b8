"""Simulated visibilities: the tracks, the sum of the sky, the noise, and the file of them."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from halopy.errors import HaloInputError
from halopy.uvshapelets.layouts import Layout, layouts
from halopy.uvshapelets.observe import observe, tracks
from halopy.uvshapelets.visibilities import Visibilities

CENTRE = SkyCoord(30, -27, unit="deg")
CROSS = Layout("cross", [[0, 0, 0], [-100, 0, 0], [0, -100, 0], [0, 0, -100]] * u.m, -27 * u.deg, 116 * u.deg)
SPREAD = Layout("spread", np.random.default_rng(0).normal(scale=500, size=(10, 3)) * u.m, -27 * u.deg, 116 * u.deg)
HOURS = [-1, 0, 2] * u.hourangle


class Gaussian:
    """A model as `observe` asks for it, of 1 Jy."""

    def visibility(self, u_, v, w=None):
        return np.exp(-(u_**2 + v**2) / 2e4) + 0j


def test_baselines_at_the_zenith():
    # On the meridian, overhead: east is u, north is v, up is w.
    uvw = tracks(CROSS, declination=-27 * u.deg, hour_angles=0 * u.deg)
    assert uvw.shape == (3, 1, 6)
    assert np.allclose(uvw[:, 0, :3].to_value(u.m), 100 * np.eye(3), atol=1e-10)


def test_a_source_at_the_pole_goes_round():
    # Seen from the pole of the sky an east-west baseline keeps its length and turns by the hour angle.
    uvw = tracks(CROSS, declination=-90 * u.deg, hour_angles=[0, 6] * u.hourangle)[:, :, 0].to_value(u.m)
    assert np.allclose(uvw, [[100, 0], [0, -100], [0, 0]], atol=1e-10)


@given(st.floats(-60, 5), st.floats(-5, 5))
def test_w_is_the_projection_on_the_source(declination, hours):
    # w / |b| is the cosine between baseline and source; for "up" that is the sine of the elevation.
    lat, dec, hour = np.radians([-27, declination, 15 * hours])
    sine = np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(hour)
    if sine <= 0:
        return
    uvw = tracks(CROSS, declination=declination * u.deg, hour_angles=hours * u.hourangle)[:, 0].to_value(u.m)
    assert uvw[2, 2] == pytest.approx(100 * sine, abs=1e-9)
    # East: of a source in the west it points away.
    assert uvw[2, 0] == pytest.approx(-100 * np.cos(dec) * np.sin(hour), abs=1e-9)
    assert np.allclose(np.linalg.norm(uvw, axis=0)[:3], 100)


def test_a_source_that_sets():
    # The celestial north pole is as far below the southern horizon as the latitude.
    with pytest.raises(HaloInputError, match=r"above the horizon at every hour angle .*elevation -27.0 deg"):
        tracks(CROSS, declination=90 * u.deg, hour_angles=[0, 1] * u.deg)


def test_the_sky_is_a_sum_of_its_parts():
    settings = {"centre": CENTRE, "hour_angles": HOURS, "frequency": [150, 160] * u.MHz}
    vis = observe([(2 * u.Jy, Gaussian()), (500 * u.mJy, Gaussian()), (0.5, Gaussian())], CROSS,
                  points=([0.1, 0], [-0.2, 0], [2, 1]), **settings)
    assert len(vis) == 3 * 6 * 2 and vis.centre.separation(CENTRE) == 0
    assert vis.frequency[:4].tolist() == [150e6, 160e6, 150e6, 160e6]
    # The same baseline is longer in wavelengths of a higher frequency.
    assert np.allclose(vis.u[1::2], vis.u[::2] * 160 / 150)
    fringe = np.exp(-2j * np.pi * (0.1 * vis.u - 0.2 * vis.v + (np.sqrt(0.95) - 1) * vis.w))
    assert np.allclose(vis.vis, 3 * Gaussian().visibility(vis.u, vis.v) + 2 * fringe + 1, atol=1e-12)
    assert np.array_equal(vis.weight, np.ones(36))


def test_points_are_where_they_were_put():
    # Rotated to the place of the source by `phased_to`, which knows nothing of l and m, its phase is 0.
    source = CENTRE.directional_offset_by(70 * u.deg, 25 * u.deg)
    offset = CENTRE.skyoffset_frame()
    frame = source.transform_to(offset)
    east = np.cos(frame.lat) * np.sin(frame.lon)
    vis = observe([], layouts["mwa-1"], centre=CENTRE, hour_angles=[-1, 1] * u.hourangle, frequency=154 * u.MHz,
                  points=(east, np.sin(frame.lat), 3))
    assert vis.frequency == 154e6
    assert np.abs(vis.phased_to(source).vis - 3).max() < 1e-7


def test_noise():
    settings = {"centre": CENTRE, "hour_angles": HOURS, "frequency": 154 * u.MHz, "noise": 3 * u.Jy}
    vis = observe([], layouts["mwa-1"], rng=4, **settings)
    n = len(vis)
    assert np.allclose(vis.weight, 1 / 9)
    for part in (vis.vis.real, vis.vis.imag):
        assert part.std() == pytest.approx(3, rel=4 / np.sqrt(2 * n))
        assert abs(part.mean()) < 4 * 3 / np.sqrt(n)
    assert abs(np.mean(vis.vis.real * vis.vis.imag)) < 4 * 9 / np.sqrt(n)
    assert np.array_equal(observe([], layouts["mwa-1"], rng=4, **settings).vis, vis.vis)
    assert not np.array_equal(observe([], layouts["mwa-1"], rng=5, **settings).vis, vis.vis)


@pytest.mark.parametrize(("changes", "text"), [
    ({"noise": 0 * u.Jy}, "noise must be positive; None for no noise"),
    ({"points": ([0.9], [0.9], [1])}, r"l² \+ m² of a point must be below 1"),
    ({"hour_angles": 12 * u.hourangle}, "above the horizon at every hour angle")])
def test_what_cannot_be_observed(changes, text):
    with pytest.raises(HaloInputError, match=text):
        observe([], CROSS, **{"centre": CENTRE, "hour_angles": HOURS, "frequency": 154 * u.MHz, **changes})


class TestFile:
    """Simulated visibilities written and read."""

    @pytest.fixture(autouse=True)
    def _needs_pyuvdata(self):
        pytest.importorskip("pyuvdata", reason="the extra uv is not installed")

    @staticmethod
    def simulated(**changes):
        return observe([(2, Gaussian())], SPREAD, **{
            "centre": CENTRE, "hour_angles": HOURS, "frequency": [150, 151] * u.MHz, "noise": 2 * u.Jy,
            "points": ([0.1], [0.05], [2]), "rng": 1, **changes})

    @pytest.mark.parametrize("changes", [{}, {"frequency": 154 * u.MHz, "hour_angles": 0 * u.deg, "noise": None}])
    def test_round_trip(self, changes):
        from halopy.uvshapelets.write import write_uvfits

        vis = self.simulated(**changes)
        write_uvfits(vis, "a.uvfits", SPREAD)
        read = Visibilities.read("a.uvfits", weights="file")
        assert read.centre.separation(CENTRE) < 0.01 * u.mas and read.meta["unit"] == "Jy"
        for name in ("u", "v", "w", "vis", "weight", "frequency"):
            assert np.allclose(getattr(read, name), getattr(vis, name), rtol=1e-6, atol=1e-6), name

    @pytest.mark.parametrize(("name", "dec"), [("mwa-1", -27), ("lofar-hba", 50), ("meerkat", -60)])
    def test_pyuvdata_sees_the_same_tracks(self, name, dec):
        # From the antennas' places and the sidereal time of the file; the aberration of light (20 arcsec), which tracks
        # leaves out, turns its baselines by 1e-4.
        from halopy.uvshapelets.read import offline
        from halopy.uvshapelets.write import uvdata

        vis = observe([], layouts[name], centre=SkyCoord(200, dec, unit="deg"), hour_angles=HOURS, frequency=1 * u.GHz)
        data = uvdata(vis, layouts[name])
        ours = data.uvw_array.copy()
        with offline():
            data.set_uvws_from_antenna_positions()
        length = np.linalg.norm(ours, axis=1).max()
        assert np.abs(data.uvw_array - ours).max() < 1.2e-4 * length
        assert np.allclose(-ours.T, vis.lengths.value)
        # They are copies: what is done to them is not done to the visibilities.
        data.data_array += 1
        assert not vis.vis.any()

    def test_what_cannot_be_written(self):
        from halopy.uvshapelets.write import write_uvfits

        vis = self.simulated()
        write_uvfits(vis, "a.uvfits", SPREAD)
        with pytest.raises(HaloInputError, match="the file is there already; try: overwrite=True"):
            write_uvfits(vis, "a.uvfits", SPREAD)
        write_uvfits(vis, "a.uvfits", SPREAD, overwrite=True)
        for wrong, layout in ((vis, CROSS), (vis.select(slice(0, 100)), SPREAD),
                              (Visibilities([1], [0], [0], [1], 1, 1e8, CENTRE), SPREAD)):
            with pytest.raises(HaloInputError, match=f"what observe.. returned for the layout {layout.name} can be"):
                write_uvfits(wrong, "b.uvfits", layout)
