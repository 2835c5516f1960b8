"""Visibilities that were observed: signs, weights and flags as observatories write them."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from halopy.errors import HaloInputError, HalopyWarning
from halopy.uvshapelets.visibilities import Visibilities

pytest.importorskip("pyuvdata", reason="the extra uv is not installed")


@pytest.fixture(scope="module")
def snapshot(real_data):
    path = real_data / "visibilities" / "mwa_1133866760_uvceti_154MHz.uvfits"
    with pytest.raises(HaloInputError, match="every visibility is flagged"), pytest.warns(HalopyWarning):
        Visibilities.read(path)
    with pytest.warns(HalopyWarning, match="does not say that its visibilities are calibrated"):
        return Visibilities.read(path, ignore_flags=True)


def test_a_real_snapshot_of_the_mwa(snapshot):
    # 105 tiles, 11 channels of 80 kHz, 2 s; one tile is dead, its 104 baselines hold zeros. UV Ceti is there.
    assert len(snapshot) == (105 * 104 // 2 - 104) * 11
    assert snapshot.meta["excluded"] == {"auto": 105 * 11, "flagged": 0, "not finite": 0, "zero": 104 * 11, "far": 0}
    assert snapshot.centre.separation(SkyCoord(24.75, -17.95, unit="deg")) < 1 * u.arcmin
    assert snapshot.frequency.min() == 153.875e6 and np.ptp(snapshot.frequency) == pytest.approx(0.8e6)
    # A tile's system equivalent flux density is some 20,000 to 60,000 Jy: over sqrt(2 dnu dt) 25 to 75 Jy in Stokes I.
    assert 25 < snapshot.weight[0] ** -0.5 < 75


@pytest.mark.parametrize(("name", "ra", "dec"), [
    # To an arcminute; both are bright, and compact at this resolution.
    ("3C 38", 20.108, -15.345), ("PKS 0114-21", 19.2125, -20.8686)])
def test_sources_of_the_real_snapshot_are_where_they_are(snapshot, name, ra, dec):
    # Five and six degrees from the phase centre: with the sign of u, v or w wrong nothing is there (the mirrored sky is
    # empty, and w (n - 1) is several turns).
    vis = snapshot.phased_to(SkyCoord(ra, dec, unit="deg"))
    east, north = np.radians(np.array([(0, 0), (2, 0), (-2, 0), (0, 2), (0, -2), (30, 30)]) / 60).T
    image = [np.sum(vis.weight * vis.vis * np.exp(2j * np.pi * (vis.u * x + vis.v * y))).real / vis.weight.sum()
             for x, y in zip(east, north, strict=True)]
    noise = vis.weight.sum() ** -0.5
    assert image[0] > 30 * noise
    assert image[0] > max(image[1:])


def test_a_real_measurement_set(real_data, tmp_path):
    pytest.importorskip("casacore", reason="Measurement Sets need python-casacore")
    with tarfile.open(real_data / "visibilities" / "mwa_1090008640_birli_trunc.ms.tgz") as archive:
        archive.extractall(tmp_path, filter="data")
    path = next(tmp_path.glob("**/table.dat")).parent
    while (path.parent / "table.dat").exists():
        path = path.parent
    with pytest.warns(HalopyWarning, match="does not say that its visibilities are calibrated"):
        vis = Visibilities.read(path)
    # The field EoR0, 768 channels of 40 kHz; 9 rows.
    assert vis.meta["n_channels"] == 768 and vis.meta["telescope"] == "MWA"
    assert vis.centre.separation(SkyCoord(0, -27, unit="deg")) < 1 * u.arcmin
    assert vis.frequency.min() == pytest.approx(167.055e6, abs=0.1e6)
    assert sum(vis.meta["excluded"].values()) + len(vis) == 9 * 768
