"""The layouts that ship, against what others measured with them and published of them."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u

from halopy.errors import HaloInputError
from halopy.uvshapelets.layouts import Layout, layouts
from halopy.uvshapelets.observe import tracks


@pytest.mark.parametrize(("name", "n", "latitude", "shortest", "longest"), [
    # MWA: Tingay+ 2013 (arXiv 1206.6945), Wayth+ 2018 (1809.06466): 3 km, 5.3 km, the hexagons within some 700 m.
    ("mwa-1", 128, -26.70, (7, 9), (2600, 3000)),
    ("mwa-2-compact", 128, -26.70, (7, 9), (500, 800)),
    ("mwa-2-extended", 128, -26.70, (12, 20), (5200, 5500)),
    # LOFAR: van Haarlem+ 2013 (1305.3550): up to about 120 km in the Netherlands; 24 x 2 + 14 fields, of 30 and 41 m.
    ("lofar-hba", 62, 52.91, (30, 70), (115e3, 125e3)),
    # MeerKAT: Jonas & MeerKAT team 2016 (doi 10.22323/1.277.0001): 64 dishes, 29 m to 7.7 km.
    ("meerkat", 64, -30.71, (29, 30), (7600, 7800)),
    # SKA-Low: 512 stations of 38 m, about 74 km.
    ("ska-low", 512, -26.82, (38, 45), (70e3, 76e3))])
def test_what_is_known_of_the_arrays(name, n, latitude, shortest, longest):
    layout = layouts[name]
    length = np.linalg.norm(layout.baselines.to_value(u.m), axis=1)
    assert len(layout) == len(set(layout.antennas)) == n
    assert layout.latitude.to_value(u.deg) == pytest.approx(latitude, abs=0.01)
    assert shortest[0] < length.min() < shortest[1] and longest[0] < length.max() < longest[1]
    assert layout.source
    # The ground is flat but for the curvature of the Earth: r^2 / 2R below the plane.
    east, north, up = layout.positions.to_value(u.m).T
    assert np.ptp(up + (east**2 + north**2) / 2 / 6.371e6) < 100


def test_layouts_of_the_mwa_share_tiles():
    one, compact, extended = (dict(zip(layouts[name].antennas, layouts[name].positions.value.tolist(), strict=True))
                              for name in ("mwa-1", "mwa-2-compact", "mwa-2-extended"))
    # Wayth+ 2018: 72 hexagon tiles or 56 long-baseline tiles take the place of as many of phase I.
    assert (len(one.keys() & compact.keys()), len(one.keys() & extended.keys())) == (56, 72)
    assert not compact.keys() & extended.keys()
    for other in (compact, extended):
        assert all(one[name] == other[name] for name in one.keys() & other.keys())
    # Tile011, Tile104 and LBE4 in the observations' own metadata, east and north in metres.
    assert one["Tile011"][:2] == [-149.79, 265.81]
    assert extended["LBE4"] == pytest.approx([2238.17, 408.81, -5.5], abs=0.01)


@pytest.mark.parametrize(("name", "megahertz", "declination", "hours", "expected"), [
    # Independent runs with positions from other packages (the MWA's metafits, an ENU file of MeerKAT, a LOFAR antenna
    # list up to 60 km): shortest and median |u| in wavelengths, and the part below 100; 3 and 4 hours either way.
    ("mwa-1", 154, -27, 3, (3.1, 303, 0.18)), ("mwa-2-extended", 154, -27, 3, (6.2, 881, 0.012)),
    ("mwa-2-compact", 154, -27, 3, (3.1, 76, 0.78)), ("meerkat", 1280, -30, 4, (86, 3935, 5e-5)),
    ("lofar-hba", 144, 50, 4, (17, 764, 0.043))])
def test_coverage(name, megahertz, declination, hours, expected):
    layout = layouts[name]
    uvw = tracks(layout, declination=declination * u.deg, hour_angles=np.linspace(-hours, hours, 25) * u.hourangle)
    near = np.hypot(*layout.positions.to_value(u.km).T[:2]) < 60
    assert near.sum() == (61 if name == "lofar-hba" else len(layout))
    distance = np.hypot(*uvw[:2].to_value(u.m))[:, near[layout.pairs].all(axis=0)].ravel() * megahertz / 299.792458
    assert distance.min() == pytest.approx(expected[0], rel=0.1)
    assert np.median(distance) == pytest.approx(expected[1], rel=0.06)
    assert (distance < 100).mean() == pytest.approx(expected[2], rel=0.3)


def test_the_mapping():
    assert list(layouts) == ["mwa-1", "mwa-2-compact", "mwa-2-extended", "lofar-hba", "meerkat", "ska-low"]
    assert len(layouts) == 6 and repr(layouts).startswith("<layouts: mwa-1, ")
    with pytest.raises(HaloInputError, match="no layout is called 'mwa-3' .*known: mwa-1, .*try: 'mwa-1'"):
        layouts["mwa-3"]


def test_a_layout_of_ones_own():
    layout = Layout("triangle", [[0, 0, 0], [3, 0, 0], [3, 4, 0]] * u.km, 10 * u.deg, 20 * u.deg)
    assert layout.antennas == ("1", "2", "3")
    assert layout.pairs.T.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert layout.baselines.to_value(u.km).tolist() == [[-3, 0, 0], [-3, -4, 0], [0, -4, 0]]
    assert repr(layout) == "<Layout triangle: 3 antennas, baselines of 3000.0 m to 5.0 km, latitude 10.0 deg>"


@pytest.mark.parametrize(("positions", "antennas", "text"), [
    ([[0, 0, 0]] * u.m, (), "positions must be finite lengths"),
    ([[0, 0], [1, 1]] * u.m, (), "positions must be finite"),
    ([[0, 0, 0], [1, 0, 0]] * u.deg, (), "positions must be finite lengths.*'deg"),
    ([[0, 0, 0], [np.nan, 0, 0]] * u.m, (), "positions must be finite"),
    ([[0, 0, 0], [1, 0, 0]], (), "positions must be finite lengths.*no unit"),
    ([[0, 0, 0], [1, 0, 0]] * u.m, ("a",), "one name an antenna, 2 .*found 1")])
def test_what_a_layout_cannot_be(positions, antennas, text):
    with pytest.raises(HaloInputError, match=text):
        Layout("x", positions, 0 * u.deg, 0 * u.deg, antennas=antennas)
