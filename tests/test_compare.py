"""Classifiers × augmentations: the same folds for all, nothing trained on what is scored, every part made once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from comparison import Counts, Remembers, masked, small
from evaluation import Nearest, Share, some

from halopy import Augmenter, classifiers
from halopy.classify.evaluate import cross_validate
from halopy.compare import arms_table, compare_augmentations
from halopy.compare.shared import Task, read_result, work
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.model import group_hashes


@pytest.fixture(autouse=True)
def _forget():
    Remembers.fits.clear()
    Counts.fits.clear()


# ------------------------------------------------------------------------------------------------- the arms

def test_without_augmentation_it_is_cross_validation(tmp_path):
    found = small(tmp_path, seeds=2)["nearest", "none"]
    expected = cross_validate(Nearest(), some(20), folds=4, seeds=2, rng=1)
    np.testing.assert_array_equal(found["probability"], expected["probability"])
    np.testing.assert_array_equal(found["fold"], expected["fold"])
    assert found.meta["model"] == "Nearest()" and found.meta["arm"] == "none"


def test_a_generator_is_trained_once_in_each_fold_on_its_training_part(tmp_path):
    found = small(tmp_path, {"nearest": Nearest(), "share": Share()}, {"none": None, "twin": Remembers()},
                  ratios=(1, 2), max_images=40)
    assert list(found) == [(name, arm) for name in ("nearest", "share") for arm in ("none", "twin x1", "twin x2")]
    assert len(Remembers.fits) == 4
    fold = found["nearest", "none"]["fold"][:, 0]
    group = np.asarray(found["nearest", "none"]["group"])
    for k, fit in enumerate(Remembers.fits):
        assert fit["groups"] == set(group[fold != k])
        # The budget is the length of its training, which its learning rate follows.
        assert fit["n_images"] == fit["max_images"] == 40
    for table in found.values():
        np.testing.assert_array_equal(table["fold"], found["nearest", "none"]["fold"])
    assert [found["share", arm].meta["n_train"] for arm in ("none", "twin x1", "twin x2")] == [15, 30, 45]
    # Each was saved while it was trained, and nothing of that is left.
    assert all(fit["checkpoint"] is not None for fit in Remembers.fits)
    assert not list(tmp_path.rglob("*.checkpoint")) and not list(tmp_path.rglob("*.lock"))


def test_images_of_a_ratio_are_among_those_of_a_larger_one(tmp_path):
    small(tmp_path, {"counts": Counts()}, {"twin": Remembers()}, ratios=(0.5, 1, 2.5))
    half, one, more = (Counts.fits[k]["cutouts"].data for k in (0, 4, 8))
    assert [len(data) for data in (half, one, more)] == [15 + 8, 30, 15 + 38]
    np.testing.assert_array_equal(half[:15], one[:15])
    np.testing.assert_array_equal(more[:30], one)
    assert set(Counts.fits[8]["cutouts"].table["group"][15:]) == {"generated"}


def test_all_arms_begin_alike(tmp_path):
    small(tmp_path, {"counts": Counts()}, {"none": None, "twin": Remembers()}, ratios=(1,), model_images=7)
    draws = [fit["draw"] for fit in Counts.fits]
    # The same first weights and order, as far as a classifier draws them first: arms differ by what they add.
    assert draws[:4] == draws[4:] and len(set(draws)) == 4
    assert {fit["max_images"] for fit in Counts.fits} == {7}


def test_a_classifier_with_a_generator_gets_that_of_the_fold(tmp_path):
    twin = Remembers(noise=0.2)
    small(tmp_path, {"by name": Counts(generator="twin"), "itself": Counts(generator=Remembers(noise=0.2))},
          {"none": None, "twin": twin}, ratios=(1,))
    assert len(Remembers.fits) == 8  # four folds; one under the name of the arm, one under that of its class
    for fit in Counts.fits:
        assert fit["generator"].fitted_ and fit["generator"].noise == 0.2
        real = fit["cutouts"].table["group"] != "generated"
        assert set(fit["generator"].groups_) == set(group_hashes(fit["cutouts"].table["group"][real]))
    assert not twin.fitted_


def test_a_classifier_gets_a_generator_that_needs_no_training_in_a_fold(tmp_path):
    elsewhere = some(6)
    elsewhere.table["group"] = [f"elsewhere {k}" for k in range(6)]
    trained = Remembers().fit(elsewhere)
    small(tmp_path, {"by name": Counts(generator="twin"), "own": Counts(generator="nobody")}, {"twin": trained})
    assert [fit["generator"] for fit in Counts.fits] == [trained] * 4 + ["nobody"] * 4


def test_a_generator_that_is_trained_is_used_as_it_is(tmp_path):
    elsewhere = some(6)
    elsewhere.table["group"] = [f"elsewhere {k}" for k in range(6)]
    trained = Remembers().fit(elsewhere)
    Remembers.fits.clear()
    found = small(tmp_path, augmentations={"twin": trained}, ratios=(1,))
    assert not Remembers.fits and found["nearest", "twin x1"].meta["n_train"] == 30
    assert sum(found["nearest", "twin x1"].meta["seconds"]["generator"]) == 0
    seen = Remembers().fit(some(20)[:3])
    with pytest.raises(HaloInputError, match="Remembers has been trained on 3 of the groups"):
        small(tmp_path, augmentations={"twin": seen})
    # Other sky may be scored by it.
    test = some(20, rng=2)
    test.table["group"] = [f"test {k}" for k in range(20)]
    small(tmp_path, augmentations={"twin": seen}, test=test)


def test_all_arms_see_the_middle_that_an_augmenter_leaves(tmp_path):
    cutouts = some(20)
    cutouts = cutouts.replace(data=np.pad(cutouts.data, [(0, 0), (4, 4), (4, 4)]))
    small(tmp_path, {"counts": Counts()}, {"none": None, "turned": Augmenter(size=6, orientations=8, brightness=None)},
          cutouts=cutouts, size=6)
    assert {fit["cutouts"].shape for fit in Counts.fits} == {(15, 6, 6), (120, 6, 6)}
    assert set(Counts.fits[4]["cutouts"].table["group"]) == set(Counts.fits[0]["cutouts"].table["group"])


def test_another_set_is_scored_by_models_without_its_groups(tmp_path):
    cutouts, test = some(20), some(20, each=2, rng=2)
    test = test.replace(table=test.table[[n for n in test.table.colnames if n != "m500"]])
    found = small(tmp_path, {"counts": Counts()}, cutouts=cutouts, test=test)["counts", "none"]
    np.testing.assert_array_equal(found["name"], test.table["name"])
    assert sum(len(fit["cutouts"]) for fit in Counts.fits) == 60
    for fold, fit in enumerate(Counts.fits):
        scored = set(found["group"][found["fold"][:, 0] == fold])
        assert scored and not scored & set(fit["cutouts"].table["group"])
        # No cutout to be scored is trained on, whatever its group.
        assert np.isin(fit["cutouts"].data.sum(axis=(1, 2)), cutouts.data.sum(axis=(1, 2))).all()


# ------------------------------------------------------------------------------------------------- kept parts

def test_a_second_run_makes_nothing_and_a_lost_part_comes_back_the_same(tmp_path):
    augmentations = {"none": None, "twin": Remembers()}
    first = small(tmp_path, augmentations=augmentations)
    images = {path: CutoutSet.read(path).data for path in tmp_path.rglob("*.fits")}
    again = small(tmp_path, augmentations=augmentations)
    assert len(Remembers.fits) == 4
    lost = sorted((tmp_path / "cells").glob("*twin*"))[1], *sorted((tmp_path / "images").glob("*f2*"))
    for path in lost:
        path.unlink()
    mended = small(tmp_path, augmentations=augmentations)
    assert len(Remembers.fits) == 4
    for arm in first:
        np.testing.assert_array_equal(first[arm]["probability"], again[arm]["probability"])
        np.testing.assert_array_equal(first[arm]["probability"], mended[arm]["probability"])
    assert len(images) == 8
    for path, data in images.items():
        np.testing.assert_array_equal(CutoutSet.read(path).data, data)


def test_more_seeds_use_what_is_there(tmp_path):
    one = small(tmp_path, {"counts": Counts()})
    many = small(tmp_path, {"counts": Counts()}, seeds=3)["counts", "none"]
    assert len(Counts.fits) == 12
    np.testing.assert_array_equal(many["fold"][:, :1], one["counts", "none"]["fold"])


def test_a_row_does_not_depend_on_the_grid(tmp_path):
    one = small(tmp_path / "one", augmentations={"twin": Remembers()}, ratios=(2,))
    many = small(tmp_path / "many", {"share": Share(), "nearest": Nearest()},
                 {"none": None, "other": Remembers(noise=2.0), "twin": Remembers()}, ratios=(3, 2))
    np.testing.assert_array_equal(one["nearest", "twin x2"]["probability"], many["nearest", "twin x2"]["probability"])


@pytest.mark.parametrize("change", [{"rng": 2}, {"max_images": 50}, {"model_images": 3}, {"folds": 5}, {"size": 2},
                                    {"augmentations": {"twin": Remembers(noise=0.3)}}, {"cutouts": some(20, rng=2)},
                                    {"models": {"nearest": Nearest(generator=1)}}, {"cutouts": masked(some(20))}])
def test_what_was_made_from_something_else_is_not_used(tmp_path, change):
    plain = {"augmentations": {"twin": Remembers()}, "ratios": (1,)}
    small(tmp_path, **plain)
    before = set((tmp_path / "cells").iterdir())
    small(tmp_path, **(plain | change))
    assert len(set((tmp_path / "cells").iterdir()) - before) == change.get("folds", 4)


PROGRAM = """
import sys, time
sys.path[:0] = {paths}
from pathlib import Path
from halopy.compare.shared import Task, work
folder = Path(sys.argv[1])
def make(k):
    with open(folder / "log", "a") as stream:
        stream.write(f"{{k}}\\n")
    print(k, flush=True)
    time.sleep(float(sys.argv[2]) if k == 1 else 0.02)
    return {{"k": k}}
work([Task(folder / f"{{k}}.json", lambda k=k: make(k), (folder / "0.json",) if k else ()) for k in range(6)],
     progress=False)
"""


def _start(folder, pause):
    repository = str(Path(__file__).parents[1])
    return subprocess.Popen([sys.executable, "-c", PROGRAM.format(paths=[repository]), str(folder), str(pause)],
                            stdout=subprocess.PIPE, text=True)


def test_processes_share_the_work_and_a_killed_one_is_replaced(tmp_path):
    first = _start(tmp_path, 600)
    while first.stdout.readline().strip() != "1":
        assert first.poll() is None
    # While the first is at it, another makes all the rest, and waits for it.
    second = _start(tmp_path, 0)
    end = time.monotonic() + 60
    while not all((tmp_path / f"{k}.json").exists() for k in (0, 2, 3, 4, 5)):
        assert time.monotonic() < end and second.poll() is None
        time.sleep(0.05)
    assert not (tmp_path / "1.json").exists() and second.poll() is None
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert second.wait(timeout=60) == 0
    first.stdout.close()
    second.stdout.close()
    assert sorted((tmp_path / "log").read_text().split()) == ["0", "1", "1", "2", "3", "4", "5"]
    assert [read_result(tmp_path / f"{k}.json") for k in range(6)] == [{"k": k} for k in range(6)]


def test_a_part_that_fails_leaves_the_others(tmp_path):
    def fails():
        raise ValueError("no such luck")

    tasks = [Task(tmp_path / "a.json", lambda: {"a": 1}), Task(tmp_path / "b.json", fails)]
    with pytest.raises(ValueError, match="no such luck"):
        work(tasks, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


# ------------------------------------------------------------------------------------------------- refusals

@pytest.mark.parametrize(("change", "message"), [
    ({"folds": 1}, "folds must be a whole number, 2 or more"),
    ({"seeds": 0}, "seeds must be a whole number, 1 or more"),
    ({"rng": np.random.default_rng(1)}, "rng must be a whole number, 0 or more"),
    ({"max_images": 0}, "max_images must be a whole number, 1 or more"),
    ({"model_images": 1.5}, "model_images must be a whole number"), ({"size": 0}, "size must be a whole number"),
    ({"models": [Nearest()]}, "models must be a mapping of names, one at least"),
    ({"augmentations": []}, "augmentations must be a mapping of names"),
    ({"augmentations": {"x": len}}, "an augmentation is None, a step such as an Augmenter, or a generator"),
    ({"models": {"x": Remembers()}}, "an evaluation takes a Classifier"),
    ({"augmentations": {"x": Remembers()}, "ratios": (0,)}, "a ratio must be a positive number of images"),
    ({"cutouts": {"band": some(20)}, "test": some(20)}, "with test, both must be a CutoutSet with cutouts"),
    ({"test": some(20)[:0]}, "with test, both must be a CutoutSet with cutouts"),
    ({"cutouts": some(20)[:2], "test": some(20)}, "every training part needs cutouts with and without a halo"),
    ({"size": 3}, "size must be less than the cutouts' by an even number of pixels"),
    ({"size": 6}, "size must be less than the cutouts' by an even number of pixels"),
    ({"augmentations": {"x": Remembers()}, "ratios": 2}, "ratios must be a sequence of numbers, or a mapping"),
    ({"augmentations": {"x": Remembers()}, "ratios": {"cnn": [1]}}, "ratios must be a sequence of numbers, or a map"),
    ({"augmentations": {"x": Remembers(), "x x2": None}}, "two arms have the same name"),
    ({"folder": "file/under"}, "cannot make this folder")])
def test_what_cannot_be_compared_is_refused(tmp_path, change, message):
    (tmp_path / "file").write_text("")
    settings = {"models": {"nearest": Nearest()}, "augmentations": {"none": None}, "cutouts": some(20), "folds": 4,
                "seeds": 1, "rng": 1, "folder": ""} | change
    folder, cutouts = tmp_path / settings.pop("folder"), settings.pop("cutouts")
    with pytest.raises(HaloInputError, match=message):
        compare_augmentations(cutouts, settings.pop("models"), settings.pop("augmentations"), folder=folder, **settings)


def test_a_part_that_is_no_result_is_named(tmp_path):
    small(tmp_path)
    path = sorted((tmp_path / "cells").iterdir())[0]
    for text in ("{", "[]", '{"probability": [0.5]}'):
        path.write_text(text)
        with pytest.raises(HaloInputError, match="not a result of a comparison.*delete it") as info:
            small(tmp_path)
        assert info.value.path == path


def test_a_folder_where_no_lock_can_be_made_is_named(tmp_path):
    (tmp_path / "a.lock").mkdir()
    with pytest.raises(HaloInputError, match="cannot write here"):
        work([Task(tmp_path / "a.json", dict)], progress=False)


def test_tables_of_nothing_are_refused(tmp_path):
    with pytest.raises(HaloInputError, match="arms_table takes the scores of compare_augmentations"):
        arms_table({})
    with pytest.raises(HaloInputError, match="a metric of halopy.classify.report is needed.*roc_auc"):
        arms_table(small(tmp_path), metrics=["luck"], n=10)


def test_mappings_of_bands_are_joined(tmp_path):
    bands = {"low": some(20), "high": some(20, rng=1, signal=2.0)}
    found = small(tmp_path, cutouts=bands)["nearest", "none"]
    assert len(found) == 40 and set(found["band"]) == {"low", "high"}
    assert len(arms_table({("nearest", "none"): found}, n=10, rng=1)) == 4


def test_networks_and_shipped_generators_go_through(tmp_path):
    from halopy import generators
    from halopy.testing import simulated_cutouts

    cutouts = simulated_cutouts(18)
    found = compare_augmentations(
        cutouts, {"dense": classifiers.create("dense", size=16, width=8, max_epochs=2)},
        {"sngan": generators.create("sngan", size=16, width=8, latent=4, batch_size=4)}, folder=tmp_path, ratios=(1,),
        folds=3, seeds=1, max_images=8, model_images=32, progress=False)
    table = found["dense", "sngan x1"]
    assert np.isfinite(table["probability"]).all()
    made = CutoutSet.read(table.meta["example"])
    assert made.unit == cutouts.unit and made.shape[1:] == cutouts.shape[1:]
