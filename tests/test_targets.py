"""The 46 targets with their conflicts, catalogues by name, and which positions share a piece of sky."""

from __future__ import annotations

import csv
import importlib.util
import sys
import time
import types

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.utils.masked import Masked
from hypothesis import given, settings
from hypothesis import strategies as st

from halopy import CutoutSet, HaloInputError, is_positive
from halopy.io.catalog import load_catalog, load_targets, sky_groups
from halopy.labels import GRADES, LABELS, classify


@pytest.fixture(scope="module")
def targets():
    return load_targets()


def row(targets, name):
    return targets[targets["name"] == name][0]


def test_the_talks_list(targets):
    """arXiv 2411.15559: 23 targets with a halo: 10 H, 9 cH, one "cH or mH", and 3 mH or cmH; as many without."""
    assert len(targets) == len(set(targets["name"])) == 46
    talk = targets[targets["in_talk"]]
    assert talk["talk_number"].tolist() == list(range(1, 24))
    assert (targets["talk_number"][~targets["in_talk"]] == 0).all()
    words, counts = np.unique(talk["paper_class"], return_counts=True)
    assert dict(zip(words, counts, strict=True)) == {"H": 10, "cH": 9, "cH or mH": 1, "cmH": 2, "mH": 1}
    assert (is_positive(targets) == targets["in_talk"]).all()
    assert is_positive(targets, grades=["confirmed"], mini_halo=False).sum() == 10
    # The public folders: 18 + 18 targets to train with, 5 + 5 to test with.
    folders, counts = np.unique(targets["repository_split"], return_counts=True)
    assert dict(zip(folders, counts, strict=True)) == {"TEST_DATA_0": 5, "TEST_DATA_1": 5, "TRAIN_DATA_0": 18,
                                                       "TRAIN_DATA_1": 18}
    assert (np.char.endswith(targets["repository_split"].astype(str), "1") == targets["in_talk"]).all()


def test_labels_are_the_classes(targets):
    for target in targets:
        label, also, grade = classify(target["paper_class"])
        assert (target["label"], target["grade"]) == (label, grade)
        assert set(filter(None, also.split(", "))) <= set(target["also"].split(", "))
        assert target["label"] in LABELS
        assert target["grade"] in GRADES


def test_every_value_has_a_source(targets):
    assert np.isfinite(targets["position"].ra).all()
    assert (targets["position_source"] != "").all()
    assert (targets["label_source"] != "").all()
    assert ((targets["redshift_source"] != "") == np.isfinite(targets["redshift"])).all()
    known = np.isfinite(targets["m500"])
    for column in ("m500_source", "psz2_name"):
        assert ((targets[column] != "") == known).all()
    for column in ("m500_err_up", "m500_err_lo"):
        assert (np.isfinite(targets[column]) == known).all()
    # 27 masses of PSZ2; 15 redshifts of nobody knows where, 4 of none.
    assert known.sum() == 27
    assert (targets["redshift_source"] == "memory").sum() == 15
    assert np.isnan(targets["redshift"]).sum() == 4
    for column in ("redshift", "label"):
        marked = np.array([column in text.split(",") for text in targets["from_memory"]])
        assert (marked == np.array(["memory" in text for text in targets[f"{column}_source"]]) & (
            True if column == "redshift" else ~targets["in_talk"])).all()
    assert {"paper", "paper_version", "data_source", "note"} <= set(targets.colnames)
    assert all(t.startswith("arXiv:") for t in targets["paper"])
    assert targets["m500"].unit == 1e14 * u.Msun


@pytest.mark.parametrize(("name", "text"), [
    ("Abell 3186", "double relic in arXiv:2106.12281"), ("Abell 0122", "dead radio galaxy in arXiv:1707.03517v1"),
    ("Abell 2811", "new halo in arXiv:1707.03517v1"), ("Abell S1121", "new halo in arXiv:1707.03517v1"),
    ("ORC 2", "same sky as ORC 3"), ("ORC 3", "same sky as ORC 2"), ("ORC 5", "Abell 141"), ("Abell 0141", "ORC 5"),
    ("Abell 2744", "Abell 2751"), ("Abell 2751", "Abell 2744"),
    *((n, "does not cover it") for n in ("Abell 3186", "Abell 3399", "PSZ1 G287.95-32.98", "MCXC J0145.2-6033",
                                         "RXC J0137.2-0912")),
    *((n, "among the halos of the paper's generator") for n in (
        "Abell 0168", "Abell 0550", "Abell 1631", "Abell 2751", "Abell 3164", "Abell 3365", "Abell S0405",
        "Abell S1099", "AqrCC 087")),
    *((n, "not a cluster") for n in ("3C 136.1", "3C 315", "NGC 326", "PKS 2014-55", "ORC 1", "ORC 2", "ORC 3",
                                     "ORC 4", "ORC 5")),
])
def test_known_conflicts(targets, name, text):
    assert text in row(targets, name)["conflict"]


def test_the_rest_has_no_conflict(targets):
    assert (targets["conflict"] != "").sum() == 28
    assert (~targets["is_cluster"]).sum() == 9
    assert not (~targets["is_cluster"] & targets["in_talk"]).any()


def test_which_rows_the_cited_paper_covers(targets):
    """arXiv 1707.03517 searched 45° x 45° around 0h -27° (its abstract)."""
    cited = targets[targets["paper"] == "arXiv:1707.03517"]
    east, north = SkyCoord(0 * u.deg, -27 * u.deg).spherical_offsets_to(cited["position"])
    outside = (abs(east) > 22.5 * u.deg) | (abs(north) > 22.5 * u.deg)
    assert outside.sum() == 5
    assert (outside == np.array(["does not cover it" in text for text in cited["conflict"]])).all()


def test_sky_that_targets_share(targets):
    for a, b, degrees in (("ORC 2", "ORC 3", 0.030), ("ORC 5", "Abell 0141", 0.747),
                          ("Abell 2744", "Abell 2751", 1.080)):
        a, b = row(targets, a), row(targets, b)
        assert a["position"].separation(b["position"]).deg == pytest.approx(degrees, abs=0.0006)
        assert a["group"] == b["group"]
        assert f"{degrees:.3f} deg" in a["conflict"]
        assert f"{degrees:.3f} deg" in b["conflict"]
    # These three pairs, and Abell 550 with Abell 3365, 1.39 degrees apart.
    assert len(set(targets["group"])) == 42


def test_the_table_is_what_its_script_makes(repository, targets, tmp_path):
    spec = importlib.util.spec_from_file_location("make_targets", repository / "tools" / "make_targets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.table().write(tmp_path / "clusters.ecsv", format="ascii.ecsv", delimiter=",")
    assert (tmp_path / "clusters.ecsv").read_text() == (repository / "halopy" / "data" / "clusters.ecsv").read_text()


def test_the_gathered_list_agrees(real_data, targets):
    with open(real_data / "clusters.csv", newline="", encoding="utf-8") as stream:
        gathered = list(csv.DictReader(stream))
    assert [g["name"] for g in gathered] == list(targets["name"])
    for ours, theirs in zip(targets, gathered, strict=True):
        def number(column, theirs=theirs):
            return float(theirs[column] or "nan")
        assert ours["position"].ra.deg == pytest.approx(number("ra_deg"), abs=1e-9)
        assert ours["position"].dec.deg == pytest.approx(number("dec_deg"), abs=1e-9)
        np.testing.assert_equal(float(ours["redshift"]), number("z"))
        for column, name in (("m500", "m500_1e14"), ("m500_err_up", "m500_err_up"), ("m500_err_lo", "m500_err_lo")):
            assert ours[column].to_value(1e14 * u.Msun) == pytest.approx(number(name), abs=1e-9, nan_ok=True)
        assert ours["paper"] == f"arXiv:{theirs['paper_arxiv']}"
        assert ours["talk_number"] == int(theirs["in_seed"] or 0)
        assert ours["repository_split"] == theirs["repo_split"]
        assert ours["psz2_name"] == theirs["psz2_name"]
        assert classify(theirs["class"]) == classify(ours["paper_class"])
        assert ("redshift" in ours["from_memory"].split(",")) == ("z: memory" in theirs["value_source"])


# Catalogues by name: VizieR's tables and columns.
@pytest.fixture
def archive(monkeypatch):
    """In place of the archive: gives a table, and notes what it was asked for."""
    stub = types.ModuleType("halopy.io.archive")
    stub.asked, stub.tables = [], {}

    def fetch_catalog(table_id, *, columns=None, cache=None):
        stub.asked.append((table_id, columns, cache))
        return stub.tables[table_id]

    stub.fetch_catalog = fetch_catalog
    monkeypatch.setitem(sys.modules, "halopy.io.archive", stub)
    return stub


def positions():
    return {"RAJ2000": [3.5783] * u.deg, "DEJ2000": [-30.3834] * u.deg}


@pytest.mark.parametrize(("name", "table_id", "columns", "first", "mass"), [
    ("psz2", "J/A+A/594/A27/psz2", {"Name": ["PSZ2 G008.94-81.22"], "z": [0.307], "MSZ": [9.836] * (1e14 * u.Msun)},
     "PSZ2 G008.94-81.22", 9.836),
    ("PSZ2", "J/A+A/594/A27/psz2", {"PSZ2": ["G008.94-81.22"], "z": [0.307], "MSZ": [9.836]},
     "PSZ2 G008.94-81.22", 9.836),
    ("mcxc-ii", "J/A+A/688/A187/mcxcii", {"MCXC": ["J0014.3-3023"], "OName": ["A2744"], "z": [0.3066],
                                          "M500": [7.3] * (1e14 * u.Msun)}, "MCXC J0014.3-3023", 7.3),
    ("MCXC_II", "J/A+A/688/A187/mcxcii", {"MCXC": ["J0014.3-3023"], "z": [0.3066], "M500": [7.3]},
     "MCXC J0014.3-3023", 7.3),
    ("erass1", "J/A+A/685/A106/emain", {"Name": ["1eRASS J001418.0-302259"], "zBest": [0.307],
                                        "M500": [98.0] * (1e13 * u.Msun)}, "1eRASS J001418.0-302259", 9.8),
    ("erass1", "J/A+A/685/A106/emain", {"Name": ["J001418.0-302259"], "zspec": [np.nan], "zBest": [0.307],
                                        "M500": [98.0]}, "1eRASS J001418.0-302259", 9.8),
])
def test_catalogues_by_name(archive, tmp_path, name, table_id, columns, first, mass):
    archive.tables[table_id] = QTable(columns | positions(), meta={"sha256": "0123"})
    targets = load_catalog(name, cache=tmp_path)
    (asked, wanted, folder), = archive.asked
    assert (asked, folder) == (table_id, tmp_path)
    assert wanted[0] == "*"
    assert {"z", "zBest"} & set(wanted)
    assert targets.colnames[:4] == ["name", "position", "redshift", "m500"]
    assert targets["name"][0] == first
    assert targets["redshift"][0] == pytest.approx(0.307, abs=0.001)
    assert targets["m500"][0].to_value(1e14 * u.Msun) == pytest.approx(mass)
    assert targets["position"][0].ra.deg == pytest.approx(3.5783)
    assert targets.meta["vizier"] == table_id
    assert "arXiv:" in targets.meta["reference"]
    assert targets.meta["sha256"] == "0123"


def test_catalogues_that_are_not(archive):
    with pytest.raises(HaloInputError, match="a catalogue is one of psz2, mcxc-ii, erass1.*'abell'"):
        load_catalog("abell")
    archive.tables["J/A+A/594/A27/psz2"] = QTable({"Name": ["a"]} | positions())
    with pytest.raises(HaloInputError, match=r"A27/psz2 has no column for redshift and m500.*'RAJ2000'"):
        load_catalog("psz2")


@pytest.mark.remote_data
@pytest.mark.parametrize(("name", "rows"), [("psz2", 1653), ("mcxc-ii", 2221), ("erass1", 12247)])
def test_the_real_catalogues(name, rows, tmp_path):
    """As many clusters as their papers count, with masses of clusters."""
    targets = load_catalog(name, cache=tmp_path)
    assert len(targets) == rows
    assert 0.3 < np.nanmedian(targets["m500"].to_value(1e14 * u.Msun)) < 6
    assert 0.05 < np.nanmedian(targets["redshift"]) < 0.5


# Groups of sky.
def friends_of_friends(position, radius):
    """The same by its definition: grow each group until no friend is left."""
    near = position[:, None].separation(position[None]) <= radius
    number = np.full(len(position), -1)
    for start in range(len(position)):
        if number[start] < 0:
            members = np.zeros(len(position), dtype=bool)
            members[start] = True
            while (grown := near[members].any(axis=0)).sum() > members.sum():
                members = grown
            number[members] = start
    return number


def same_partition(a, b):
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


@st.composite
def skies(draw):
    """Positions that crowd at a pole, at the seam or anywhere."""
    pole = draw(st.sampled_from([(0, 0), (10, 90), (200, -90), (359.9, 30)]))
    n = draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    size = draw(st.sampled_from([0.01, 3.0, 20.0]))
    rng = np.random.default_rng(seed)
    return SkyCoord(*pole, unit="deg").directional_offset_by(rng.uniform(0, 360, n) * u.deg,
                                                             size * np.sqrt(rng.uniform(0, 1, n)) * u.deg)


@settings(max_examples=60, deadline=None)
@given(skies(), st.sampled_from([0.002, 0.3, 1.5]), st.randoms())
def test_groups_by_their_definition(position, radius, random):
    groups = sky_groups(position, radius * u.deg)
    assert same_partition(groups, friends_of_friends(position, radius * u.deg))
    order = random.sample(range(len(position)), len(position))
    assert (sky_groups(position[order], radius * u.deg) == groups[order]).all()
    # A group without the others is named as it was among them.
    one = groups == groups[0]
    assert set(sky_groups(position[one], radius * u.deg)) == {groups[0]}


def test_a_chain_is_one_group():
    """Transitive: the ends are 8° apart, each step 1°."""
    chain = SkyCoord(np.r_[0:9, 12] * u.deg, np.zeros(10) * u.deg)
    assert sky_groups(chain).tolist() == ["J000000+000000"] * 9 + ["J004800+000000"]


def test_the_seam_and_the_poles():
    assert len(set(sky_groups(SkyCoord([359.5, 0.5], [0, 0], unit="deg")))) == 1
    assert len(set(sky_groups(SkyCoord([0, 90, 180, 270], [89.5] * 4, unit="deg")))) == 1
    assert len(set(sky_groups(SkyCoord([0, 180], [-89.9, -89.9], unit="deg")))) == 1
    # The same step in right ascension is no step at all at the pole, and 60° at the equator.
    assert len(set(sky_groups(SkyCoord([0, 60, 0, 60], [0, 0, 90, 90], unit="deg")))) == 3


def test_members_that_meet_though_their_neighbours_do_not():
    """Two crowds of 0.8° each, 1.4° apart at their near ends, 3° at the far ones."""
    ra = np.r_[np.linspace(0, 0.8, 50), np.linspace(2.2, 3.0, 50)]
    assert len(set(sky_groups(SkyCoord(ra, np.zeros(100), unit="deg")))) == 1
    assert len(set(sky_groups(SkyCoord(ra, np.zeros(100), unit="deg"), 1.39 * u.deg))) == 2


def test_any_frame_and_the_name():
    position = SkyCoord([16.404928, 15.602083], [-24.680541, -24.843917], unit="deg")
    assert sky_groups(position).tolist() == sky_groups(position.galactic).tolist() == ["J010224-245038"] * 2
    assert set(sky_groups(position, 0.5 * u.deg)) == {"J010224-245038", "J010537-244050"}
    # Closer than a second of time: more digits keep the names apart.
    close = SkyCoord([10.0, 10.001], [20.0, 20.0], unit="deg")
    assert len(set(sky_groups(close, 1 * u.arcsec))) == 2


def test_distances_have_no_say():
    """Half a degree apart, at 10 and at 1000 Mpc: one piece of sky; 20 degrees apart in the next room: two."""
    for distance, ra, number in (([10, 1000] * u.Mpc, [10, 10.5], 1), ([1e-6, 1e-6] * u.pc, [10, 30], 2)):
        groups = sky_groups(SkyCoord(ra * u.deg, [1, 1] * u.deg, distance=distance))
        assert len(set(groups)) == number


def test_masked_positions_are_none():
    ra, dec = (Masked([10.0, 20.0] * u.deg, mask=[False, True]) for _ in range(2))
    assert sky_groups(SkyCoord(ra, dec)).tolist() == ["J004000+100000", "no position"]


def test_none_one_and_unknown():
    none = sky_groups(SkyCoord([], [], unit="deg"))
    assert none.shape == (0,)
    assert none.dtype.kind == "U"
    assert sky_groups(SkyCoord([10.0], [20.0], unit="deg")).tolist() == ["J004000+200000"]
    position = SkyCoord([np.nan, 10, np.nan], [1, 20, np.nan], unit="deg")
    assert sky_groups(position).tolist() == ["no position", "J004000+200000", "no position"]
    assert sky_groups(position[[0, 2]]).tolist() == ["no position"] * 2


@pytest.mark.parametrize("position", [[(1, 2)], SkyCoord(1, 2, unit="deg"), SkyCoord([[1]], [[2]], unit="deg")])
def test_positions_that_are_not(position):
    with pytest.raises(HaloInputError, match=r"needs a SkyCoord of shape \(n,\)"):
        sky_groups(position)


@pytest.mark.parametrize("radius", [1.5, None, 0 * u.deg, -1 * u.deg, np.nan * u.deg, np.inf * u.deg, 1 * u.m,
                                    [1, 2] * u.deg])
def test_radii_that_are_not(radius):
    with pytest.raises(HaloInputError, match="radius of a group must be an angle"):
        sky_groups(SkyCoord([1], [2], unit="deg"), radius)


def test_a_whole_sky_in_one_group():
    assert len(set(sky_groups(SkyCoord([0, 180, 90], [0, 0, 80], unit="deg"), 200 * u.deg))) == 1


@pytest.mark.parametrize("crowded", [False, True])
def test_many_positions(crowded):
    """10^5 in seconds, whether over the sky or 2000 cutouts of each of 50 targets: 10^8 pairs, never made."""
    rng = np.random.default_rng(1)
    n = 100_000
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    if crowded:
        ra, dec = np.linspace(0, 350, 50)[rng.integers(0, 50, n)] + rng.uniform(0, 0.5, n), rng.uniform(-0.2, 0.2, n)
    start = time.perf_counter()
    groups = sky_groups(SkyCoord(ra, dec, unit="deg"), 1.5 * u.deg if crowded else 0.2 * u.deg)
    assert time.perf_counter() - start < 10
    assert (len(set(groups)) == 50) is crowded


def test_a_split_by_sky_shares_none(targets):
    """The pattern of the page: groups of sky, then `CutoutSet.split`; no test target within 1.5° of a training one."""
    table = QTable({"position": targets["position"], "label": targets["label"]})
    table["group"] = sky_groups(table["position"])
    train, test = CutoutSet(np.zeros((46, 4, 4)), table).split(rng=3)
    apart = train.table["position"][:, None].separation(test.table["position"][None])
    assert apart.min() > 1.5 * u.deg
    assert len(test) >= 8
