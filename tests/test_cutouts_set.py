"""CutoutSet: selection, splitting, joining, files, WCS; write_atomically."""

from __future__ import annotations

import os
import stat
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import turned_wcs

from halopy.cutouts import CutoutSet, tangent_wcs, write_atomically
from halopy.errors import HaloInputError
from halopy.image import Beam, ClusterImage
from halopy.preprocess.cutout import CutoutMaker


def make_cutouts(scale=28, value=1.0, name="A2744", make=None):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---SIN", "DEC--SIN"], [-scale / 3600, scale / 3600]
    wcs.wcs.crval, wcs.wcs.crpix = [3.6, -30.4], [50.3, 49.1]
    data = np.full((100, 100), float(value))
    data[3, 4] = np.nan
    image = ClusterImage(data, wcs=wcs, unit=u.Jy / u.beam, beam=Beam(140 * u.arcsec), frequency=200 * u.MHz, name=name,
                         rms=0.02)
    table = QTable({"name": ["é", "b", "c"], "label": ["halo", "none", "none"], "group": ["1", "2", "2"]})
    table["position"] = wcs.pixel_to_world([50, 20, 70.2], [50, 20, 60.9])
    return (make or CutoutMaker(32))(image, table)


def test_it_holds_what_it_was_given():
    cutouts = CutoutSet(np.ones((2, 3, 4), dtype=">f8"), unit="Jy", meta={"a": 1})
    assert cutouts.data.dtype == np.dtype("float32") and cutouts.shape == (2, 3, 4) and len(cutouts) == 2
    assert repr(cutouts) == "<CutoutSet 2 x (3, 4) Jy, columns none>"
    assert "&lt;CutoutSet 3 x (32, 32)" in make_cutouts()._repr_html_()
    other = cutouts.replace(unit=u.K)
    assert other.unit == u.K and cutouts.unit == u.Jy and other.meta == {"a": 1}


@pytest.mark.parametrize("data", [np.ones((3, 3)), np.ones((1, 3, 3), dtype=complex), ["a"]])
def test_pixels_of_another_kind_are_refused(data):
    with pytest.raises(HaloInputError, match=r"pixels of shape \(n, ny, nx\)"):
        CutoutSet(data)


def test_a_row_for_each_cutout():
    with pytest.raises(HaloInputError, match="one row per cutout, 2"):
        CutoutSet(np.ones((2, 3, 3)), QTable({"name": ["a"]}))
    with pytest.raises(TypeError, match="no argument 'pixels'"):
        CutoutSet(np.ones((2, 3, 3))).replace(pixels=1)
    with pytest.raises(HaloInputError, match="have no column 'rms'"):
        CutoutSet(np.ones((2, 3, 3))).column("rms")


def test_rows_are_selected_together():
    cutouts = make_cutouts()
    for rows in (1, np.int64(1), slice(1, 2), [1], np.array([False, True, False])):
        part = cutouts[rows]
        assert part.table["name"].tolist() == ["b"]
        np.testing.assert_array_equal(part.data, cutouts.data[1:2])
    assert len(cutouts[[]]) == 0 and len(cutouts[-1]) == 1
    assert len(CutoutSet(np.ones((3, 2, 2)))[[0, 2]]) == 2


@settings(max_examples=60, deadline=None)
@given(groups=st.lists(st.integers(0, 8), min_size=2, max_size=40).filter(lambda g: len(set(g)) > 1),
       fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_property_a_split_never_shares_a_group(groups, fraction, seed):
    cutouts = CutoutSet(np.arange(float(len(groups)))[:, None, None], QTable({"group": groups}))
    train, test = cutouts.split(test_fraction=fraction, rng=seed)
    assert not set(train.table["group"]) & set(test.table["group"])
    assert len(train) and len(test)
    assert sorted([*train.data.ravel(), *test.data.ravel()]) == list(range(len(groups)))
    again, _ = cutouts.split(test_fraction=fraction, rng=seed)
    np.testing.assert_array_equal(again.data, train.data)


def test_a_split_needs_groups():
    cutouts = make_cutouts()
    with pytest.raises(HaloInputError, match="have no column 'cluster'"):
        cutouts.split(by="cluster")
    with pytest.raises(HaloInputError, match="between 0 and 1"):
        cutouts.split(test_fraction=1.0)
    with pytest.raises(HaloInputError, match="at least two values of 'group'"):
        cutouts[1:].split()


def test_join():
    a, b = make_cutouts(), make_cutouts(value=2, name="A13")
    both = a.join(b, b[:1])
    assert len(both) == 7
    assert both.data[3, 16, 16] == 2 and both.data[0, 16, 16] == 1
    assert sorted(both.meta["wcs"]) == ["A13", "A2744"]
    assert len(CutoutSet(np.ones((1, 2, 2))).join(CutoutSet(np.ones((2, 2, 2))))) == 3
    for other in (CutoutSet(np.ones((1, 32, 32))), CutoutSet(np.ones((1, 31, 32)), unit=a.unit)):
        with pytest.raises(HaloInputError, match="only cutouts of one shape and unit"):
            a.join(other)


def test_images_of_one_name_keep_their_own_wcs_when_joined():
    bands = [make_cutouts(scale=scale) for scale in (28, 34, 56)]
    both = bands[0].join(*bands[1:], bands[0])
    sky = bands[0].table["position"][0]
    for k, band in enumerate([*bands, bands[0]]):
        for i in range(3):
            joined, own = both.wcs(3 * k + i), band.wcs(i)
            np.testing.assert_allclose(joined.world_to_pixel(sky), own.world_to_pixel(sky), atol=1e-9)
    assert len(both.meta["wcs"]) == 3
    assert bands[1].table["image"].tolist() == ["A2744"] * 3


def test_a_joined_row_has_the_wcs_it_had():
    own, resampled = make_cutouts(), make_cutouts(make=CutoutMaker(32, pixel_scale=30 * u.arcsec))
    both = own.join(resampled)
    sky = SkyCoord(3.7, -30.5, unit="deg")
    np.testing.assert_allclose(both.wcs(1).world_to_pixel(sky), own.wcs(1).world_to_pixel(sky), atol=1e-9)
    np.testing.assert_allclose(both.wcs(4).world_to_pixel(sky), resampled.wcs(1).world_to_pixel(sky), atol=1e-9)


def test_tangent_wcs_has_its_position_at_the_centre():
    for shape in ((64, 64), (33, 20)):
        for dec in (-90, -30.4, 0, 89.99, 90):
            centre = SkyCoord(3.6, dec, unit="deg")
            wcs = tangent_wcs(centre, 28 * u.arcsec, shape)
            middle = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
            np.testing.assert_allclose(wcs.world_to_pixel(centre), middle, atol=1e-6)
            assert wcs.pixel_to_world(*middle).separation(centre) < 1e-6 * u.arcsec
            # North is up: a pixel further up along the centre's meridian.
            up = wcs.pixel_to_world(middle[0], middle[1] + 1)
            assert up.separation(centre).to_value(u.arcsec) == pytest.approx(28, rel=1e-6)
            if abs(dec) < 89:
                assert centre.position_angle(up).wrap_at("180d").to_value(u.deg) == pytest.approx(0, abs=1e-6)


def test_no_wcs():
    with pytest.raises(HaloInputError, match="these cutouts carry no WCS"):
        CutoutSet(np.ones((1, 3, 3)), QTable({"name": ["a"]})).wcs(0)
    augmented = make_cutouts()
    augmented.table["augmented_from"] = [0, 1, 2]
    with pytest.raises(HaloInputError, match="augmented cutouts carry no WCS"):
        augmented.wcs(0)


@pytest.mark.parametrize("make", [CutoutMaker(32), CutoutMaker(32, pixel_scale=30 * u.arcsec)])
def test_a_file_gives_back_what_was_written(tmp_path, make):
    cutouts = make_cutouts(make=make)
    path = tmp_path / "set.fits"
    cutouts.write(path)
    back = CutoutSet.read(path)
    np.testing.assert_array_equal(back.data, cutouts.data)
    assert back.unit == cutouts.unit and back.data.dtype.isnative
    assert back.table.colnames == cutouts.table.colnames
    for name in ("name", "label", "group", "image", "coverage"):
        assert back.table[name].tolist() == cutouts.table[name].tolist()
    for name in ("rms", "beam_major", "frequency", "pixel_scale"):
        assert u.allclose(back.table[name], cutouts.table[name])
    assert back.table["position"].separation(cutouts.table["position"]).max() < 1e-6 * u.arcsec
    for i in range(3):
        np.testing.assert_allclose(back.wcs(i).pixel_to_world(3, 4).ra.deg, cutouts.wcs(i).pixel_to_world(3, 4).ra.deg,
                                   rtol=1e-12)
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
    with pytest.raises(HaloInputError, match="this file exists"):
        cutouts.write(path)
    cutouts[:1].write(path, overwrite=True)
    assert len(CutoutSet.read(path)) == 1


def test_text_that_is_not_ascii(tmp_path):
    cutouts = make_cutouts(name="Äbell 1")
    cutouts.write(tmp_path / "set.fits")
    back = CutoutSet.read(tmp_path / "set.fits")
    assert back.table["name"].tolist() == ["é", "b", "c"] and list(back.meta["wcs"]) == ["Äbell 1"]
    sky = cutouts.table["position"][0]
    np.testing.assert_allclose(back.wcs(0).world_to_pixel(sky), cutouts.wcs(0).world_to_pixel(sky), atol=1e-9)


def test_bare_pixels_are_written_too(tmp_path):
    CutoutSet(np.ones((2, 3, 3))).write(tmp_path / "bare.fits")
    back = CutoutSet.read(tmp_path / "bare.fits")
    assert back.unit == u.dimensionless_unscaled and back.table.colnames == [] and back.meta == {}


def test_an_empty_set_is_written_too(tmp_path):
    cutouts = make_cutouts()[[]]
    cutouts.write(tmp_path / "none.fits")
    back = CutoutSet.read(tmp_path / "none.fits")
    assert back.shape == (0, 32, 32) and back.table.colnames == cutouts.table.colnames


def test_foreign_and_broken_files(tmp_path):
    fits.PrimaryHDU(np.ones((2, 3, 3))).writeto(tmp_path / "foreign.fits")
    with pytest.raises(HaloInputError, match="not written by CutoutSet.write"):
        CutoutSet.read(tmp_path / "foreign.fits")
    (tmp_path / "text.fits").write_text("<html>")
    for name in ("text.fits", "absent.fits"):
        with pytest.raises(HaloInputError, match="cannot read a CutoutSet"):
            CutoutSet.read(tmp_path / name)
    cutouts = make_cutouts()
    cutouts.write(tmp_path / "cut.fits")
    content = (tmp_path / "cut.fits").read_bytes()
    (tmp_path / "flipped.fits").write_bytes(content[:4000] + bytes([content[4000] ^ 1]) + content[4001:])
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.raises(HaloInputError, match="cannot read a CutoutSet: .*verification failed"):
            CutoutSet.read(tmp_path / "flipped.fits")
    (tmp_path / "cut.fits").write_bytes(content[:5000])
    with pytest.raises(HaloInputError, match="cannot read a CutoutSet"):
        CutoutSet.read(tmp_path / "cut.fits")


def test_write_atomically_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(temporary):
        with open(temporary, "w") as stream:
            stream.write("half")
        raise OSError("no space left")

    with pytest.raises(HaloInputError, match="cannot write this file: no space left"):
        write_atomically(path, fail)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]

    def stop(temporary):
        open(temporary, "w").close()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, stop)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]

    def new(temporary):
        with open(temporary, "w") as stream:
            stream.write("new")

    old_mask = os.umask(0o022)
    try:
        write_atomically(path, new)
    finally:
        os.umask(old_mask)
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file.txt"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(HaloInputError, match="cannot write here"):
        write_atomically(tmp_path / "absent" / "file.txt", new)


GRIDS = [{}, {"east": 1}, {"north": -1}, {"turn": 40}, {"turn": 190, "east": 1}, {"aspect": 1.5},
         {"ctype": ("GLON-SIN", "GLAT-SIN")}]


@pytest.mark.parametrize("make", [CutoutMaker(32), CutoutMaker((31, 40), pixel_scale=30 * u.arcsec)], ids=repr)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_offsets_on_the_sky(grid, make):
    """A place 100 arcsec east and 60 arcsec north of each target is found there from its pixel."""
    image = ClusterImage(np.ones((200, 200)), wcs=turned_wcs((200, 200), **grid), unit=u.Jy / u.beam, name="A2744")
    position = image.wcs.pixel_to_world([99.5, 60, 130.2], [99.5, 70, 140.9]).icrs
    cutouts = make(image, position)
    place = position.spherical_offsets_by(100 * u.arcsec, 60 * u.arcsec)
    x, y = np.transpose([cutouts.wcs(i).world_to_pixel(place[i]) for i in range(3)])
    ny, nx = cutouts.shape[1:]
    east, north = cutouts.sky_offsets(x - (nx - 1) / 2, y - (ny - 1) / 2)
    assert east.unit == north.unit == u.arcsec
    np.testing.assert_allclose(east.value, 100, atol=0.01)
    np.testing.assert_allclose(north.value, 60, atol=0.01)
    nothing = cutouts.sky_offsets(np.nan, y)
    assert np.isnan(nothing[0].value).all()


def test_offsets_in_sets_of_many_kinds():
    own, new = make_cutouts(), make_cutouts(make=CutoutMaker(32, pixel_scale=28 * u.arcsec), name="B")
    mixed = own.join(new)
    east, north = mixed.sky_offsets(np.full(6, 3.0), np.full(6, -2.0))
    # On its own grid a target lies up to half a pixel from the centre.
    np.testing.assert_allclose(east.to_value(u.arcsec), -84, atol=15)
    np.testing.assert_allclose(north.to_value(u.arcsec), -56, atol=15)
    np.testing.assert_allclose(east[3:].to_value(u.arcsec), -84, rtol=1e-6)
    bare = CutoutSet(np.zeros((2, 8, 8)), {"pixel_scale": [10, 20] * u.arcsec})
    assert bare.sky_offsets([1, 1], [0, 1])[0].to_value(u.arcsec).tolist() == [-10, -20]
    own.table.remove_column("position")
    np.testing.assert_allclose(own.sky_offsets(0, 0)[0].value, 0, atol=1e-6)
    np.testing.assert_allclose(own.sky_offsets(1, 0)[0].value, -28, rtol=1e-3)
    assert len(own[[]].sky_offsets([], [])[0]) == 0
    with pytest.raises(HaloInputError, match="no column 'pixel_scale'"):
        CutoutSet(np.zeros((2, 8, 8))).sky_offsets(0, 0)
    own.table["augmented_from"] = [0, 1, 2]
    with pytest.raises(HaloInputError, match="augmented cutouts carry no WCS"):
        own.sky_offsets(0, 0)


def with_sources(n=3, first=1, name="a", **columns):
    names = [f"{name}{i} é" for i in range(n)]
    cutout = np.repeat(np.arange(n), 2)
    sources = QTable({
        "cutout": cutout, "class": ["halo", "compact"] * n, "main": [True, False] * n,
        "flux": np.linspace(1, 7, 2 * n) / 3 * u.mJy, "r_e": [np.nan, 60.1] * n * u.arcsec,
        "m500": np.full(2 * n, 1 / 3) * u.Unit("1e14 solMass"), "alpha": np.full(2 * n, np.nan),
        "seed": 2**62 - np.arange(2 * n), "note": [""] * 2 * n, "name": np.array(names)[cutout]})
    for column, value in columns.items():
        sources[column] = value
    return CutoutSet(np.full((n, 4, 4), float(first)), QTable({"name": names, "r_e": [np.nan] * n * u.arcsec}),
                     unit="Jy", meta={"sources": sources})


def test_sources_survive_a_file(tmp_path):
    cutouts = with_sources()
    cutouts.write(tmp_path / "set.fits")
    back = CutoutSet.read(tmp_path / "set.fits")
    for made, read in ((cutouts.meta["sources"], back.meta["sources"]), (cutouts.table, back.table)):
        assert read.colnames == made.colnames and read.meta == {}
        for name in made.colnames:
            assert type(read[name]) is type(made[name]), name
            # Not big-endian, as FITS has it, and text as text: what looks into arrays would stumble.
            assert read[name].dtype == made[name].dtype
            assert getattr(read[name], "unit", None) == getattr(made[name], "unit", None)
            np.testing.assert_array_equal(np.asarray(read[name]), np.asarray(made[name]))
    empty = cutouts.replace(meta={"sources": cutouts.meta["sources"][:0]})
    empty.write(tmp_path / "empty.fits")
    assert len(CutoutSet.read(tmp_path / "empty.fits").meta["sources"]) == 0


def test_what_a_joined_table_lacks_is_masked_in_a_file_too(tmp_path):
    cutouts = CutoutSet(np.zeros((2, 4, 4)), {"name": ["é", ""], "x": [np.nan, 1], "q": [np.nan, 2] * u.Jy})
    joined = cutouts.join(CutoutSet(np.zeros((1, 4, 4)), {"k": [5]}))
    joined.write(tmp_path / "set.fits")
    back = CutoutSet.read(tmp_path / "set.fits").table
    for name, masked in (("name", [0, 0, 1]), ("x", [0, 0, 1]), ("q", [0, 0, 1]), ("k", [1, 1, 0])):
        assert back[name].mask.tolist() == [bool(m) for m in masked], name
    assert back["name"][:2].tolist() == ["é", ""] and np.isnan(back["x"][0])


def test_joined_sources_count_in_the_joined_set():
    a, b = with_sources(3), with_sources(2, name="b", tilt=[1.0, 2, 3, 4])
    bare = CutoutSet(np.ones((2, 4, 4)), {"name": ["c", "d"]}, unit="Jy")
    joined = bare.join(a, b)
    sources = joined.meta["sources"]
    assert sources["cutout"].tolist() == [2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert np.isnan(sources["tilt"][:6]).all() and sources["tilt"][6:].tolist() == [1, 2, 3, 4]
    assert not any(hasattr(sources[name], "mask") and np.any(sources[name].mask) for name in sources.colnames)
    assert a.meta["sources"]["cutout"].tolist() == [0, 0, 1, 1, 2, 2]
    assert "sources" not in bare.join(bare).meta
    assert b.join(bare).meta["sources"]["cutout"].tolist() == [0, 0, 1, 1]


def test_sources_follow_selected_rows_by_name_when_joined():
    a, b = with_sources(3), with_sources(2, name="b")
    part = a[[2, 0]]
    assert len(part.meta["sources"]) == 6
    joined = part.join(b)
    sources = joined.meta["sources"]
    assert sources["cutout"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_array_equal(np.asarray(joined.table["name"])[sources["cutout"]], sources["name"])
    assert len(a[[]].join(b).meta["sources"]) == 4
    # Without names there is only the order.
    nameless = CutoutSet(np.ones((1, 4, 4)), unit="Jy", meta={"sources": QTable({"cutout": [0], "flux": [1] * u.Jy})})
    assert nameless.join(nameless).meta["sources"]["cutout"].tolist() == [0, 1]


def test_simulated_cutouts_are_the_same_after_a_file(tmp_path):
    from halopy import simulate

    cutouts = simulate.cutouts(20, rng=1, shape=(16, 16))
    cutouts.write(tmp_path / "set.fits")
    back = CutoutSet.read(tmp_path / "set.fits")
    np.testing.assert_array_equal(simulate.diffuse_part(back).data, simulate.diffuse_part(cutouts).data)


def test_a_split_without_groups_says_where_they_come_from():
    cutouts = CutoutSet(np.zeros((3, 4, 4)), QTable({"name": ["a", "b", "c"]}))
    with pytest.raises(HaloInputError, match="needs the sky group of each cutout.*sky_groups"):
        cutouts.split()
