"""Random labels cannot be learnt, unless the test sky was shown in training; and splits that share sky are found."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from evaluation import Copies, Mean, Nearest, some

from halopy import simulate
from halopy.classify.leakage import KINDS, audit_split, leakage_probe
from halopy.errors import HaloInputError
from halopy.preprocess.augment import Augmenter


def _row(table, split, labels):
    return table[(table["split"] == split) & (table["labels"] == labels)][0]


def test_a_memoriser_leaks_where_groups_straddle_and_not_where_they_do_not():
    # Four bands that look alike, and nothing that tells a halo: what is above 0.5 is memory.
    cutouts = some(24, each=4, signal=0, likeness=4, rng=5)
    table = leakage_probe(Nearest(), cutouts, permutations=8, folds=4, rng=1)
    assert list(zip(table["split"], table["labels"], strict=True)) == [
        ("group", "true"), ("group", "random"), ("image", "true"), ("image", "random")]
    image, group = _row(table, "image", "random"), _row(table, "group", "random")
    assert image["leaks"] and image["roc_auc"] > 0.9 and image["accuracy"] > 0.9
    assert not group["leaks"] and group["low"] < 0.5 < group["high"]
    assert not _row(table, "image", "true")["leaks"], "only what was learnt from random labels is known to leak"


def test_augmentation_before_the_split_leaks():
    cutouts = some(24, signal=0, rng=2)
    table = leakage_probe(Nearest(), cutouts, permutations=4, folds=4, rng=1, augmenter=lambda c: c.join(c, c))
    assert _row(table, "augmented", "random")["leaks"]
    # With one cutout a group, images that are not augmented cannot leak.
    assert abs(_row(table, "image", "random")["roc_auc"] - 0.5) < 0.2


def test_what_can_be_learnt_is_learnt_from_the_true_labels_alone():
    table = leakage_probe(Mean(), some(40, signal=8), permutations=5, folds=4, rng=1)
    assert _row(table, "group", "true")["roc_auc"] > 0.9
    # One standard deviation of a random area of 20 against 20 is 0.09; five runs have 0.04.
    assert abs(_row(table, "group", "random")["roc_auc"] - 0.5) < 0.16


def test_the_probe_repeats_with_its_seed_and_needs_two_permutations():
    cutouts = some(16, each=2)
    one, two = (leakage_probe(Nearest(), cutouts, permutations=2, folds=3, rng=4) for _ in range(2))
    assert np.array_equal(one["roc_auc"], two["roc_auc"])
    with pytest.raises(HaloInputError, match="permutations must be a whole number, 2 or more"):
        leakage_probe(Mean(), cutouts, permutations=1)


def _sky(*rows, seed=1):
    """Cutouts of (name, group, right ascension, declination)."""
    names, groups, ra, dec = zip(*rows, strict=True)
    cutouts = some(len(rows), rng=seed)
    return cutouts.replace(table=QTable({"name": list(names), "group": list(groups),
                                         "position": SkyCoord(list(ra), list(dec), unit="deg")}))


def test_a_clean_split_has_no_findings():
    train, test = _sky(("a", "1", 10, -30), ("b", "2", 20, -30)), _sky(("c", "3", 30, -30), seed=2)
    table = audit_split(train, test, models=[Mean(), None])
    assert len(table) == 0 and table.colnames == ["kind", "train", "test", "separation", "meaning"]


def test_one_target_under_two_names_is_found():
    # ORC 2 and ORC 3 of the public MWA set are 0.03 deg apart; across 0 h they are still neighbours.
    train = _sky(("ORC 3", "x", 359.99, -30), ("far", "y", 100, 0))
    test = _sky(("ORC 2", "z", 0.02, -30), seed=2)
    table = audit_split(train, test, same=2 * u.arcmin)
    assert table["kind"].tolist() == ["two-names"] and table["train"][0] == "ORC 3" and table["test"][0] == "ORC 2"
    assert table["separation"][0].to_value(u.arcmin) == pytest.approx(1.8 * np.cos(np.radians(30)), abs=2e-3)
    assert table["meaning"][0] == KINDS["two-names"]
    # At the default of one arcminute they are two targets of one sky.
    assert audit_split(train, test)["kind"].tolist() == ["shared-sky"]
    assert len(audit_split(train, test, radius=0.01 * u.deg)) == 0


def test_groups_and_pixels_on_both_sides_are_found():
    train, test = _sky(("a", "1", 10, -30)), _sky(("c", "1", 200, -30), seed=2)
    assert audit_split(train, test)["kind"].tolist() == ["same-group"]
    copy = test.replace(data=train.data)
    table = audit_split(train, copy)
    assert table["kind"].tolist() == ["same-pixels"]
    blank = np.full_like(train.data, np.nan)
    assert audit_split(train.replace(data=blank), test.replace(data=blank))["kind"].tolist() == ["same-group"]


def test_a_generator_that_saw_the_test_sky_is_found():
    cutouts = some(8)
    generator = Copies().fit(cutouts[:6])
    table = audit_split(cutouts[:4], cutouts[5:], radius=1 * u.deg, models=[Nearest(generator=generator), generator])
    assert table["kind"].tolist() == ["model-saw-test"] * 2
    assert table["train"].tolist() == ["Nearest", "Copies"] and set(table["test"]) == {"group 5"}


def test_generated_images_are_no_test_sky():
    test = _sky(("made", "generated", 200, -30), seed=2)
    assert audit_split(_sky(("a", "1", 10, -30)), test)["kind"].tolist() == ["generated-in-test"]


@pytest.mark.parametrize(("settings", "text"), [
    ({"radius": 1.5}, "radius must be an angle"), ({"same": -1 * u.deg}, "same must be an angle")])
def test_angles_are_angles(settings, text):
    with pytest.raises(HaloInputError, match=text):
        audit_split(some(4), some(4), **settings)


def test_an_audit_needs_to_know_the_sky():
    bare = some(4).replace(table=None)
    with pytest.raises(HaloInputError, match="needs a column 'group' or 'position'"):
        audit_split(some(4), bare)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_and_mirrored_copies_are_found(turns, mirrored):
    train, test = _sky(("a", "1", 10, -30), ("b", "2", 20, -30)), _sky(("c", "3", 200, -30), seed=2)
    image = train.data[1, :, ::-1] if mirrored else train.data[1]
    table = audit_split(train, test.replace(data=np.rot90(image, turns)[None]))
    assert list(zip(table["kind"], table["train"], table["test"], strict=True)) == [
        ("turned-copy" if turns or mirrored else "same-pixels", "b", "c")]


def test_augmented_copies_are_found_by_their_column():
    train = _sky(("a", "1", 10, -30))
    copies = _sky(("a", "x", 10, -30), seed=2)
    assert audit_split(train, copies)["kind"].tolist() == ["same-name"]
    copies.table["augmented_from"] = [7]
    assert audit_split(train, copies)["kind"].tolist() == ["augmented-copy"]
    assert audit_split(copies, train)["kind"].tolist() == ["augmented-copy"]
    # A real augmentation, of cutouts whose groups were mixed up after it.
    cutouts = some(4)
    made = Augmenter(draw=2, size=2, orientations=4)(cutouts, rng=1)
    made.table["group"] = [f"new {row}" for row in range(len(made))]
    table = audit_split(made[::2], made[1::2], radius=1 * u.arcmin)
    assert set(table["kind"]) == {"augmented-copy"} and set(table["train"]) == set(cutouts.table["name"])


def test_one_name_at_two_places_is_two_targets():
    assert len(audit_split(_sky(("a", "1", 10, -30)), _sky(("a", "2", 200, -30), seed=2))) == 0
    for cutouts in (train := _sky(("a", "1", 10, -30)), test := _sky(("a", "2", 200, -30), seed=2)):
        cutouts.table.remove_column("position")
    assert audit_split(train, test)["kind"].tolist() == ["same-name"]


def test_simulated_cutouts_share_no_sky_with_their_neighbours():
    train = _sky(("a", "sim-1", 10, -30), ("b", "sim-2", 200, -30))
    for near in (_sky(("c", "sim-3", 10.1, -30), seed=2), _sky(("A2744", "J1", 200.1, -30), seed=3)):
        assert len(audit_split(train, near)) == len(audit_split(near, train)) == 0
    # One scene on both sides is one, two at one place are odd, and real sky is as near as it is.
    assert audit_split(train, train)["kind"].tolist() == ["same-pixels", "same-pixels"]
    assert audit_split(train, _sky(("c", "sim-3", 10, -30), seed=2))["kind"].tolist() == ["two-names"]
    real = _sky(("A", "J1", 200.1, -30), seed=3), _sky(("B", "J2", 200.2, -30), seed=4)
    assert audit_split(*real)["kind"].tolist() == ["shared-sky"]
    # What halopy simulates has such groups.
    assert np.char.startswith(simulate.cutouts(2, rng=1).table["group"], "sim-").all()


def test_models_can_have_names():
    cutouts = some(8)
    table = audit_split(cutouts[:4], cutouts[5:], radius=1 * u.deg, models={"mine.safetensors": Nearest().fit(cutouts)})
    assert set(table["train"]) == {"mine.safetensors"}
