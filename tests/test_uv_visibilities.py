"""Visibilities as a value: rotation, selection, bins. What is expected is geometry, or the measurement equation."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from halopy.errors import HaloInputError, MissingExtraError
from halopy.uvshapelets.visibilities import Visibilities

CENTRE = SkyCoord(30, -27, unit="deg")


def random_set(n=200, centre=CENTRE, seed=0, scale=500.0):
    rng = np.random.default_rng(seed)
    vis = rng.normal(size=n) + 1j * rng.normal(size=n)
    return Visibilities(*rng.normal(scale=scale, size=(3, n)), vis, rng.uniform(0.5, 2, n), rng.uniform(1e8, 2e8, n),
                        centre)


def cosines(position, centre):
    """l, m, n by the orthographic projection, Greisen & Calabretta 2002, doi 10.1051/0004-6361:20021327, eqs 66-67."""
    dra, dec, dec0 = (position.ra - centre.ra).rad, position.dec.rad, centre.dec.rad
    return (np.cos(dec) * np.sin(dra), np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(dra),
            np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(dra))


def point(position, centre, u_, v, w):
    east, north, towards = cosines(position, centre)
    return np.exp(-2j * np.pi * (u_ * east + v * north + w * (towards - 1)))


@given(ra=st.floats(0, 360), dec=st.floats(-89, 89), source=st.floats(0, 80), angle=st.floats(0, 360))
def test_a_source_at_the_new_centre_has_no_phase(ra, dec, source, angle):
    # 80 degrees away, the phase of the measurement equation is exact: nothing is small here.
    centre = SkyCoord(ra, dec, unit="deg")
    position = centre.directional_offset_by(angle * u.deg, source * u.deg)
    base = random_set(centre=centre)
    vis = point(position, centre, base.u, base.v, base.w)
    moved = Visibilities(base.u, base.v, base.w, vis, 1, 1e8, centre).phased_to(position)
    assert np.abs(moved.vis - 1).max() < 1e-9
    assert moved.centre.separation(position) < 1e-6 * u.arcsec


@given(ra=st.floats(29, 31), dec=st.floats(-28, -26))
def test_rotation_moves_every_source_to_its_new_cosines(ra, dec):
    other, base = SkyCoord(ra, dec, unit="deg"), random_set()
    source = SkyCoord(30.4, -26.8, unit="deg")
    vis = point(source, CENTRE, base.u, base.v, base.w)
    moved = Visibilities(base.u, base.v, base.w, vis, 1, 1e8, CENTRE).phased_to(other)
    assert np.abs(moved.vis - point(source, other, moved.u, moved.v, moved.w)).max() < 1e-9


def test_a_small_offset_is_a_phase_ramp():
    # Acceptance test 12: for an offset of arcseconds, u and v stay, and V times exp(2 pi i (ul + vm)) is the rotation.
    base = random_set(scale=100)
    moved = base.phased_to(CENTRE.directional_offset_by(30 * u.deg, 20 * u.arcsec))
    east, north, _ = cosines(moved.centre, CENTRE)
    assert np.allclose(east, np.sin(np.radians(30)) * np.radians(20 / 3600), rtol=1e-6)
    ramp = np.exp(2j * np.pi * (base.u * east + base.v * north))
    # w (n - 1) is 2 pi * 400 * 5e-9 here.
    assert np.abs(moved.vis - base.vis * ramp).max() < 1e-4
    assert np.abs(moved.u - base.u).max() < 0.1


def test_rotation_there_and_back():
    base = random_set()
    back = base.phased_to(SkyCoord(100, 40, unit="deg")).phased_to(CENTRE)
    for name in ("u", "v", "w", "vis"):
        assert np.allclose(getattr(back, name), getattr(base, name), rtol=0, atol=1e-8)
    moved = base.phased_to(SkyCoord(100, 40, unit="deg"))
    assert np.allclose(moved.u**2 + moved.v**2 + moved.w**2, base.u**2 + base.v**2 + base.w**2)
    assert np.array_equal(moved.weight, base.weight)


def test_lengths_and_wavelengths():
    # Acceptance test 12: 300 m at the frequency whose wavelength is 2 m are 150 wavelengths.
    vis = Visibilities([300] * u.m, [0.2] * u.km, [0.0] * u.m, [1], 1, 299.792458 / 2 * u.MHz)
    assert np.allclose([vis.u, vis.v, vis.w], [[150], [100], [0]], rtol=1e-15)
    assert vis.frequency == 149896229
    assert np.allclose(vis.lengths, [[300], [200], [0]] * u.m)
    base = random_set()
    again = Visibilities(*base.lengths, base.vis, base.weight, base.frequency * u.Hz)
    for name in ("u", "v", "w", "frequency"):
        assert np.allclose(getattr(again, name), getattr(base, name), rtol=1e-14)


def test_select():
    base = random_set()
    near = base.select(base.distance < 300)
    assert 0 < len(near) < len(base) and (near.distance < 300).all()
    assert len(near.frequency) == len(near)
    assert len(base.select(slice(0, 3))) == len(base.select([5, 6, 7])) == 3
    one = Visibilities([1, 2], [0, 0], [0, 0], [1, 2], 1, 1e8).select([True, False])
    assert one.frequency == 1e8 and one.vis == [1]
    assert repr(one.select([False])) == "<Visibilities: none>"


def test_repr():
    assert repr(random_set(1000)).startswith("<Visibilities: 1,000, |u| ")
    assert repr(Visibilities([3, 0], [4, 1], [0, 0], [1, 1], 1, [1e8, 2e8])) == (
        "<Visibilities: 2, |u| 1 to 5 wavelengths, 100 to 200 MHz>")


@pytest.mark.parametrize(("template", "factor"), [
    (lambda x: np.exp(-x**2 / 2), 1 / 12), (lambda x: (1 + x**2) ** -1.5, 1 / 8)])
@pytest.mark.parametrize("step", [0.05, 0.1, 0.2, 0.4])
def test_what_binning_loses(template, factor, step):
    # x = 2 pi beta u. Evenly covered, a cell of width s takes s^2 / 12 of the template's mean square gradient: integral
    # of |grad T|^2 over that of T^2 is 1 (Gaussian) or 3/2 (exponential), so s^2 / 12 or s^2 / 8 of chi^2.
    beta = np.radians(2 / 60)
    x, y = np.random.default_rng(1).uniform(-5, 5, (2, 400_000))
    unit = 1 / (2 * np.pi * beta)
    vis = Visibilities(x * unit, y * unit, 0 * x, template(np.hypot(x, y)), 1, 1e8)
    bins = vis.binned(step * unit)
    shape = template(bins.distance / unit)
    chi2 = np.sum(bins.weight * bins.vis.real * shape) ** 2 / np.sum(bins.weight * shape**2)
    loss = 1 - chi2 / np.sum(vis.vis.real**2)
    # With few in a cell their mean is nearer to them: k of them keep 1 / k of the loss.
    filled = 1 - len(bins) / len(vis)
    assert loss == pytest.approx(factor * step**2 * filled, rel=0.1)
    if factor == 1 / 12:
        assert loss < 0.1 * step**2


def test_bins_hold_weighted_means_of_one_half_plane():
    vis = Visibilities([1, -2, 30], [1, -2, -1], [3, 4, 5], [1 + 1j, 2 - 3j, 5j], [1, 3, 2], [1e8, 2e8, 3e8], CENTRE,
                       {"file": "a"})
    bins = vis.binned(10)
    assert len(bins) == 2 and bins.meta == {"file": "a", "cell": 10.0}
    order = np.argsort(-bins.u)
    # (1 * (1, 1) + 3 * (2, 2)) / 4, the conjugate of what lies at -u; the third is turned to (-30, 1).
    assert np.allclose(bins.u[order], [1.75, -30]) and np.allclose(bins.v[order], [1.75, 1])
    assert np.allclose(bins.w[order], [(3 - 12) / 4, -5])
    assert np.allclose(bins.vis[order], [(1 + 1j + 3 * (2 + 3j)) / 4, -5j])
    assert np.allclose(bins.weight[order], [4, 2])
    assert np.allclose(bins.frequency[order], [1.75e8, 3e8])


@given(st.floats(1, 300), st.integers(1, 199))
def test_bins_of_parts_are_the_bins_of_the_whole(cell, cut):
    base = random_set()
    base = Visibilities(base.u, base.v, base.w, base.vis, base.weight * (base.u > -400), base.frequency, CENTRE)
    whole = base.binned(cell)
    parts = Visibilities.join([base.select(slice(0, cut)).binned(cell), base.select(slice(cut, None)).binned(cell)])
    again = parts.binned(cell)
    assert whole.weight.sum() == pytest.approx(base.weight.sum())
    assert len(again) == len(whole)
    for name in ("u", "v", "w", "vis", "weight"):
        assert np.allclose(getattr(again, name), getattr(whole, name), rtol=1e-9, atol=1e-9)


def test_join():
    base = random_set()
    whole = Visibilities.join([base.select(slice(0, 50)), base.select(slice(50, None))])
    for name in ("u", "v", "w", "vis", "weight", "frequency"):
        assert np.array_equal(getattr(whole, name), getattr(base, name))
    one = Visibilities([1], [0], [0], [1], 1, 1e8)
    assert Visibilities.join([one, one]).frequency == 1e8
    assert np.array_equal(Visibilities.join([one, Visibilities([1], [0], [0], [1], 1, 2e8)]).frequency, [1e8, 2e8])


def test_nothing_is_changed_in_place():
    base = random_set()
    before = {name: getattr(base, name).copy() for name in ("u", "v", "w", "vis", "weight")}
    base.phased_to(SkyCoord(31, -27, unit="deg")).meta["x"] = 1
    base.binned(20)
    assert all(np.array_equal(getattr(base, name), values) for name, values in before.items())
    assert base.meta == {}


@pytest.mark.parametrize(("changes", "text"), [
    ({"u": [1, 2]}, r"one-dimensional and of one length, 1 \(u, found 'shape \(2,\)'"),
    ({"vis": [[1]], "u": [[1]]}, "one-dimensional and of one length"),
    ({"weight": [1, 2]}, r"of one length, 1 \(weight"),
    ({"frequency": [1e8, 1e8]}, r"of one length, 1 \(frequency"),
    ({"frequency": 0}, "frequency must be positive"),
    ({"w": [np.nan]}, r"u, v and w must be finite \(w\)"),
    ({"u": [1] * u.s}, "must be in wavelengths or lengths"),
    ({"weight": [-1]}, "weights must be finite, not negative .*0 for flagged"),
    ({"weight": [np.inf]}, "weights must be finite, not negative"),
    ({"vis": [np.nan]}, "visibilities of positive weight must be finite"),
    ({"centre": (30, -27)}, "centre must be one SkyCoord"),
    ({"centre": SkyCoord([1, 2], [3, 4], unit="deg")}, "centre must be one SkyCoord"),
])
def test_what_cannot_be(changes, text):
    good = {"u": [1], "v": [1], "w": [1], "vis": [1], "weight": 1, "frequency": 1e8}
    with pytest.raises(HaloInputError, match=text):
        Visibilities(**{**good, **changes})


def test_flagged_data_may_be_anything():
    vis = Visibilities([1, 2], [1, 1], [0, 0], [np.nan, 1], [0, 1], 1e8)
    assert vis.binned(5).vis == [1]
    assert len(vis.select([True, False]).binned(5)) == 0


def test_bins_of_a_few_that_lie_far_apart():
    # 10^12 cells between them.
    bins = Visibilities([0, 1e6, 1e6], [0, 1e6, 1e6], [0, 0, 0], [1, 2, 4], 1, 1e8).binned(1)
    assert bins.vis.tolist() == [1, 3]


def test_what_methods_refuse():
    base = random_set()
    with pytest.raises(HaloInputError, match="phase centre of these visibilities is not known"):
        random_set(centre=None).phased_to(CENTRE)
    with pytest.raises(HaloInputError, match="position must be one SkyCoord"):
        base.phased_to(SkyCoord([1], [2], unit="deg"))
    for cell in (0, -1, np.nan):
        with pytest.raises(HaloInputError, match="width of a cell must be positive"):
            base.binned(cell)
    with pytest.raises(HaloInputError, match="no visibilities to join"):
        Visibilities.join([])
    for other in (random_set(centre=None), random_set(centre=SkyCoord(31, -27, unit="deg"))):
        with pytest.raises(HaloInputError, match="different phase centres cannot be joined"):
            Visibilities.join([base, other])


def test_reading_without_pyuvdata(monkeypatch):
    monkeypatch.delitem(sys.modules, "halopy.uvshapelets.read", raising=False)
    monkeypatch.setitem(sys.modules, "pyuvdata", None)
    with pytest.raises(MissingExtraError, match=r"needs pyuvdata: pip install 'halopy-radio\[uv\]'"):
        Visibilities.read("a.uvfits")
