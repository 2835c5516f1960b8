"""Tables of a comparison: those of the report, with the luck of trainings, power and cost."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import QTable
from comparison import Remembers, Shy, small
from evaluation import Mean, Nearest, Share

from halopy.classify.evaluate import compare
from halopy.classify.sklearn_model import SklearnClassifier
from halopy.compare import arms_table, costs_table
from halopy.compare.tables import _of_trainings, detectable


def test_the_table_is_that_of_the_report(tmp_path):
    scores = small(tmp_path, {"nearest": Nearest(), "share": Share()}, {"none": None, "twin": Remembers()}, seeds=2)
    table = arms_table(scores, n=100, rng=1)
    assert table["metric"][:4].tolist() == ["accuracy", "roc_auc", "brier", "recall@false_positive_rate=1%"]
    tables = {"none": scores["nearest", "none"], "twin": scores["nearest", "twin x2"]}
    seed = int(np.random.default_rng(1).integers(2**31))
    expected = compare(tables, baseline="none", prevalences=(), n=100, rng=seed)
    rows = {(row["model"], row["metric"]): row for row in expected}
    for row in table[table["classifier"] == "nearest"]:
        other = rows["none" if row["arm"] == "none" else "twin", row["metric"]]
        assert row["value"] == other["value"]
        assert np.isnan(row["difference"]) if row["arm"] == "none" else row["difference"] == other["difference"]
        if row["arm"] != "none":
            # Wider by what the trainings scatter, and by nothing where they do not.
            assert row["difference_low"] <= other["difference_low"] + 1e-12
            assert (row["difference_low"] == pytest.approx(other["difference_low"])) == (row["training_error"] == 0)
    assert table.meta["n_differences"] == 8 and table.meta["baseline"] == "none"
    beyond = (table["difference_low"] > 0) | (table["difference_high"] < 0)
    assert table.meta["n_beyond_zero"] == beyond.sum()


def test_classifiers_alone_are_compared_with_the_first(tmp_path):
    scores = small(tmp_path, {"mean": Mean(), "share": Share()})
    table = arms_table(scores, metrics=["roc_auc"], n=50, rng=1)
    assert table["classifier"].tolist() == ["mean", "share"] and set(table["arm"]) == {"none"}
    assert np.isnan(table["difference"][0]) and table["difference"][1] == table["value"][1] - table["value"][0]
    assert table.meta["baseline"] == "mean none"


def test_the_luck_of_trainings_is_in_the_interval_of_a_difference():
    # 400 targets of two arms that are alike, 5 folds dealt twice: a training moves all of a fold by a fifth of what
    # tells single targets apart, which is four times as much as the mean of all targets is known to.
    rng, beyond = np.random.default_rng(1), np.zeros((3, 2000), dtype=bool)
    for k, luck in enumerate((0.0, 0.2, 0.5)):
        for j in range(2000):
            targets = rng.normal(size=400)
            cells = np.array([rng.permutation(targets).reshape(5, 80).mean(axis=1) for _ in range(2)])
            cells += luck * rng.normal(size=cells.shape)
            _, wider = _of_trainings(cells, 0.05, 0.95)
            beyond[k, j] = abs(cells.mean()) > np.hypot(1.96 * 0.05, wider)
    # Without it, 5, 21 and 55 % would be.
    np.testing.assert_allclose(beyond.mean(axis=1), 0.05, atol=0.015)


def test_targets_that_a_model_cannot_score_count_nowhere(tmp_path):
    scores = small(tmp_path, {"mean": Mean(), "shy": Shy()})
    assert np.isnan(scores["shy", "none"]["probability"][:, 0]).sum() == 2
    table = arms_table(scores, n=20, rng=1)
    assert table.meta["n_unscored"] == 2
    assert (table["n_positive"] + table["n_negative"] == 18).all()


def test_estimators_of_scikit_learn_are_told_apart_by_their_settings(tmp_path):
    from sklearn.tree import DecisionTreeClassifier

    models = {f"tree {depth}": SklearnClassifier(DecisionTreeClassifier(max_depth=depth), input="pixels", size=4,
                                                 pixels_per_beam=None) for depth in (1, 2)}
    found = small(tmp_path, models)
    assert len(list((tmp_path / "cells").iterdir())) == 8 and len(found) == 2


def test_what_can_be_found_is_what_the_power_of_a_test_says():
    # McNemar: with a tenth of the targets discordant, 2.4 points of accuracy need about 1,400 of them (Connor 1987).
    n, discordant, difference = 1400, 0.1, 0.024
    error = np.sqrt((discordant - difference**2) / n)
    assert detectable(2 * 1.959964 * error) == pytest.approx(difference, rel=0.02)
    # Four of five repeats: a normal of that mean is beyond 1.96 errors in 80 %.
    found = np.random.default_rng(1).normal(float(detectable(2 * 1.959964)), 1, 40000)
    assert (found > 1.959964).mean() == pytest.approx(0.8, abs=0.01)


def test_costs_are_in_trainings_without_augmentation():
    def table(generator, images, training):
        return QTable(meta={"n_train": 10, "seconds": {"generator": generator, "images": images, "training": training}})

    costs = costs_table({("a", "none"): table([0, 0], [0, 0], [1, 3]), ("a", "x"): table([8, 8], [1, 1], [4, 4])})
    assert [costs[name].tolist() for name in ("generator", "images", "training")] == [[0, 4], [0, 0.5], [1, 2]]
