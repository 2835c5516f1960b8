"""The report: at the floor for images of the same sky, off it for what a bad generator does."""

from __future__ import annotations

import numpy as np
import pytest

from halopy import simulate
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.generative.quality.comparison import measured
from halopy.generative.quality.measures import MEANINGS, draw_halves, report, shared_labels
from halopy.generative.quality.reference import gaussian_field, smoothed
from halopy.testing import simulated_cutouts

MIX = {"halo": 2, "radio-galaxy": 1, "none": 1}
DISTANCES = ("pixel_wasserstein", "power_spectrum", "radial_profile", "minkowski_area", "minkowski_perimeter",
             "minkowski_euler", "flux_centre", "flux_total", "size", "kid", "frechet")


def rows(table):
    return {row["metric"]: row for row in table}


@pytest.fixture(scope="module")
def real():
    return simulate.cutouts(160, mix=MIX, rng=1)


@pytest.fixture(scope="module")
def good():
    return simulate.cutouts(160, mix=MIX, rng=2)


@pytest.fixture(scope="module")
def at_floor(real, good):
    return report(real, good, classifier=None, n=40, rng=1)


def test_images_of_the_same_sky_are_at_the_floor(at_floor):
    for name, row in rows(at_floor).items():
        assert row["low"] <= row["floor_high"] and row["high"] >= row["floor_low"], name
    found = rows(at_floor)
    assert found["kid"]["low"] < 0.05 and found["kid"]["floor_low"] < 0 < found["kid"]["floor_high"]
    for name in ("density", "diversity_features", "diversity_pixels"):
        assert found[name]["value"] == pytest.approx(1, abs=0.15) == found[name]["floor"]
    assert found["coverage"]["floor"] == pytest.approx(0.97, abs=0.03)


def test_what_the_table_holds(at_floor, real):
    assert at_floor.colnames == ["metric", "value", "low", "high", "floor", "floor_low", "floor_high", "meaning"]
    names = at_floor["metric"].tolist()
    assert set(DISTANCES) | {"density", "coverage", "radial_profile@halo", "diversity_pixels@none"} <= set(names)
    assert len(names) == len(set(names)) and {name.partition("@")[0] for name in names} <= set(MEANINGS)
    for row in at_floor:
        assert row["low"] <= row["value"] <= row["high"] and row["floor_low"] <= row["floor"] <= row["floor_high"]
    meta = at_floor.meta
    assert meta["labels"] == ["halo", "none", "radio-galaxy"] and meta["left_out"] == []
    assert meta["groups"] == 160 and meta["draws"] == 40 and meta["level"] == 0.95 and 60 < meta["images"] <= 80
    assert meta["size"] % 2 == 0 and meta["pixels_per_beam"] == 3


@pytest.mark.parametrize("worse", [smoothed, lambda cutouts: gaussian_field(cutouts, len(cutouts), rng=3)])
def test_blurred_images_and_gaussian_fields_are_told_from_real_ones(good, real, worse):
    found = rows(report(real, worse(good), classifier=None, n=30, rng=1))
    for name in ("kid", "frechet", "power_spectrum", "pixel_wasserstein", "minkowski_perimeter"):
        assert found[name]["low"] > found[name]["floor_high"], name
    assert found["coverage"]["high"] < found["coverage"]["floor_low"]


def test_twice_the_flux_is_seen_where_the_flux_is_measured(real, good):
    table = good.table.copy()
    table["rms"] = table["rms"] / 2
    found = rows(report(real, good.replace(table=table), classifier=None, n=20, rng=1))
    for name in ("pixel_wasserstein", "minkowski_area"):
        assert found[name]["low"] > found[name]["floor_high"], name
    # Fluxes of real images scatter by more than a factor of two.
    for name in ("flux_centre", "flux_total"):
        assert found[name]["value"] > 1.5 * found[name]["floor"], name


def test_a_collapsed_set_is_caught(real):
    one = {label: real[np.asarray(real.table["label"]) == label][0] for label in MIX}
    rng = np.random.default_rng(1)
    data = np.concatenate([one[label].data for label in np.asarray(real.table["label"])])
    jitter = rng.normal(scale=0.02, size=data.shape) * real.table["rms"].value[:, None, None]
    found = rows(report(real, real.replace(data=data + jitter), classifier=None, n=20, rng=1))
    for name in ("diversity_features", "diversity_pixels", "diversity_pixels@halo"):
        assert found[name]["high"] < 0.5 * found[name]["floor_low"], name
    assert found["coverage"]["high"] < found["coverage"]["floor_low"]


def test_five_images_of_each_label_drawn_again_and_again_are_caught(real, good):
    rng = np.random.default_rng(1)
    labels = np.asarray(good.table["label"])
    few = np.concatenate([rng.choice(np.flatnonzero(labels == label)[:5], 40) for label in MIX])
    found = rows(report(real, good[few], classifier=None, n=20, rng=1))
    assert found["coverage"]["high"] < found["coverage"]["floor_low"]
    assert found["kid"]["value"] > found["kid"]["floor"]


def test_copies_and_utility_are_in_the_table(real, good):
    table = report(real, good, training=good, classifier="pca-lr", n=20, rng=1)
    found = rows(table)
    assert found["nearest_ratio"]["value"] == 0 and found["copies"]["value"] == 1
    assert found["nearest_ratio"]["floor"] == pytest.approx(1, abs=0.1)
    assert found["tstr"]["floor"] == found["trts"]["floor"] and 0 < found["tstr"]["value"] < 1


def test_what_cannot_be_taught_is_left_out(real, good):
    halos = [cutouts[np.asarray(cutouts.table["label"]) == "halo"] for cutouts in (real, good)]
    assert "tstr" not in report(*halos, n=3, rng=1)["metric"]


def test_the_same_seed_gives_the_same_table(real, good):
    first, second = (report(real, good, training=good, classifier="pca-lr", n=5, rng=3) for _ in range(2))
    assert first["value"].tolist() == second["value"].tolist() and first["low"].tolist() == second["low"].tolist()
    assert report(real, good, classifier=None, n=5, rng=4)["value"][0] != first["value"][0]


# ------------------------------------------------------------------------------------------------- halves

def some(labels, groups):
    cutouts = simulated_cutouts(len(labels))
    cutouts.table["label"], cutouts.table["group"] = labels, groups
    return measured(cutouts, 42, grouped=True)


def test_halves_share_no_group_and_all_sides_have_the_same_labels():
    groups = [f"g{i // 4}" for i in range(48)]
    labels = ["halo" if i // 4 % 3 else "none" for i in range(48)]
    real, made = some(labels, groups), some(["halo"] * 30 + ["none"] * 18, ["x"] * 48)
    for seed in range(20):
        first, second, drawn = draw_halves(real, made, ["halo", "none"], np.random.default_rng(seed))
        assert not set(real.groups[first]) & set(real.groups[second])
        assert len(set(first)) == len(first) == len(second) == len(drawn) == len(set(drawn))
        counts = [sorted(labels.tolist()) for labels in (real.labels[first], real.labels[second], made.labels[drawn])]
        assert counts[0] == counts[1] == counts[2] and len(set(counts[0])) == 2
        assert len(first) >= 15


def test_no_draw_is_larger_than_is_needed(monkeypatch):
    monkeypatch.setattr("halopy.generative.quality.measures.MOST", 10)
    real = some(["halo"] * 40, [str(i) for i in range(40)])
    assert [len(part) for part in draw_halves(real, real, ["halo"], np.random.default_rng(1))] == [10] * 3


def test_labels_that_one_side_lacks_are_left_out(real, good):
    labels = np.asarray(good.table["label"])
    table = report(real, good[labels != "none"], classifier=None, n=3, rng=1)
    assert table.meta["labels"] == ["halo", "radio-galaxy"] and table.meta["left_out"] == ["none"]
    one_group = some(["halo", "halo", "none", "none"], ["a", "a", "b", "c"])
    assert shared_labels(one_group, one_group) == (["none"], ["halo"])


def test_bands_of_a_cluster_do_not_move_the_kernel_distance():
    sky = simulate.cutouts(60, mix={"halo": 1, "none": 1}, rng=5)
    bands = sky.join(sky, sky)  # three bands that look the same
    found = rows(report(bands, simulate.cutouts(120, mix={"halo": 1, "none": 1}, rng=6), classifier=None, n=60, rng=1))
    assert found["kid"]["floor_low"] < 0 < found["kid"]["floor_high"]
    assert found["kid"]["low"] < found["kid"]["floor_high"]


def test_images_without_data_do_not_count(real, good):
    holes = good.replace(data=np.where(np.arange(len(good))[:, None, None] < 5, np.nan, good.data))
    table = report(real, holes, classifier=None, n=3, rng=1)
    assert np.isfinite(np.asarray(table["value"])).all()


@pytest.mark.parametrize(("change", "text"), [
    ({"n": 0}, "n must be a whole number of draws"), ({"n": 2.5}, "n must be a whole number of draws"),
    ({"level": 1}, "level of an interval must lie between 0 and 1"),
    ({"real": CutoutSet(np.zeros((1, 8, 8)))}, "real needs the column"),
    ({"generated": "cwgan"}, "generated must be a CutoutSet")])
def test_what_cannot_be_reported(real, change, text):
    with pytest.raises(HaloInputError, match=text):
        report(**({"real": real, "generated": real, "n": 3, "classifier": None} | change))


def test_very_few_images(real, good):
    halos = [cutouts[np.asarray(cutouts.table["label"]) == "halo"] for cutouts in (real, good)]
    table = report(halos[0][:4], halos[1][:4], n=3, rng=1)
    assert table.meta["images"] == 2 and np.isfinite(rows(table)["kid"]["value"])
    with pytest.raises(HaloInputError, match=r"must be two images at least .*found '3 real and 9 generated images'"):
        report(halos[0][:3], halos[1][:9], n=3, rng=1)


def test_sets_that_have_nothing_in_common(real, good):
    labels = np.asarray(real.table["label"])
    with pytest.raises(HaloInputError, match=r"must share a label.*real: halo; generated: none"):
        report(real[labels == "halo"], good[np.asarray(good.table["label"]) == "none"], n=3)
    table = real.table.copy()
    table.remove_column("group")
    with pytest.raises(HaloInputError, match=r"real needs the column\(s\) group"):
        report(real.replace(table=table), good)
    clipped = good.replace(data=np.where(good.data > 1, good.data, 0))
    with pytest.raises(HaloInputError, match="must be clipped alike"):
        report(real, clipped)
    with pytest.raises(HaloInputError, match="a set of images must hold data"):
        report(real, good.replace(data=np.full(good.shape, np.nan)))
