"""Cross-validation, the guard of groups, bands combined, and tables of numbers with intervals."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from evaluation import Copies, Mean, Nearest, Share, some

from halopy import Augmenter, classifiers, simulate
from halopy.classify.evaluate import (
    breakdown,
    combine,
    compare,
    compare_models,
    cross_validate,
    evaluate,
    false_positives,
    mistakes,
    refuse_seen,
    report,
    seen_groups,
)
from halopy.errors import HaloInputError


def _value(table, metric, column="value"):
    return table[table["metric"] == metric][column][0]


def test_every_cutout_is_scored_once_a_seed_by_a_model_without_its_group():
    cutouts = some(20, each=3)
    scores = cross_validate(Nearest(), cutouts, folds=4, seeds=3, rng=1)
    assert scores["probability"].shape == scores["fold"].shape == (60, 3)
    assert np.isfinite(scores["probability"]).all()
    for seed in range(3):
        assert set(scores["fold"][:, seed]) == {0, 1, 2, 3}
        for group in set(scores["group"]):
            assert len(set(scores["fold"][scores["group"] == group, seed])) == 1
    assert (scores["fold"][:, 0] != scores["fold"][:, 1]).any()
    assert scores.meta["model"] == "Nearest()"
    assert len(scores.meta["history"]) == 12
    assert scores.meta["history"][0]["curve"] == {"epoch": [1, 2], "loss": [1.0, 0.5]}


def test_the_share_of_halos_is_alike_in_all_folds():
    scores = cross_validate(Mean(), some(40, share=0.25), folds=5, seeds=1, rng=1)
    for fold in range(5):
        assert scores["positive"][scores["fold"][:, 0] == fold].sum() == 2


def test_the_same_seed_gives_the_same_table():
    cutouts = some()
    one, two, other = (cross_validate(Nearest(), cutouts, seeds=2, rng=rng) for rng in (3, 3, 4))
    assert np.array_equal(one["probability"], two["probability"]) and np.array_equal(one["fold"], two["fold"])
    assert not np.array_equal(one["fold"], other["fold"])


def test_the_model_given_is_not_trained_and_cutouts_do_not_change():
    model, cutouts = Nearest(), some()
    before = cutouts.data.copy()
    cross_validate(model, cutouts, seeds=1, rng=1)
    assert not model.fitted_ and model.groups_ == ()
    assert np.array_equal(cutouts.data, before) and "positive" not in cutouts.table.colnames


def test_augmentation_sees_the_training_part_only():
    cutouts, seen = some(20), []

    def twice(train):
        seen.append(set(train.table["group"]))
        return train.join(train)

    scores = cross_validate(Nearest(), cutouts, folds=4, seeds=1, augmenter=twice, rng=1)
    assert len(scores) == 20 and len(seen) == 4
    for fold, groups in enumerate(seen):
        assert groups == set(scores["group"][scores["fold"][:, 0] != fold])


def test_an_augmenter_of_halopy_repeats_with_the_seed():
    cutouts = some(12)
    cutouts = cutouts.replace(data=np.pad(cutouts.data, [(0, 0), (5, 5), (5, 5)]))
    one, two = (cross_validate(Nearest(), cutouts, folds=3, seeds=1, augmenter=Augmenter(size=8), rng=2)
                for _ in range(2))
    # The nearest of 8 × 8 pixels is found for 14 × 14 ones, of which the middle is scored.
    assert np.array_equal(one["probability"], two["probability"])
    with pytest.raises(HaloInputError, match="by an even number of pixels"):
        cross_validate(Nearest(), cutouts, folds=3, augmenter=lambda train: train.replace(data=train.data[:, 1:, 1:]))


def test_a_generator_is_trained_in_each_fold():
    Copies.fits.clear()
    scores = cross_validate(Nearest(), some(20), folds=4, seeds=1, generator=Copies(), rng=1)
    assert len(Copies.fits) == 4
    for fold, groups in enumerate(Copies.fits):
        assert set(groups) == set(scores["group"][scores["fold"][:, 0] != fold])


def test_a_generator_that_saw_a_group_is_refused():
    cutouts = some(20)
    generator = Copies().fit(cutouts[:4])
    with pytest.raises(HaloInputError, match="Copies has been trained on 4 of the groups"):
        cross_validate(Nearest(), cutouts, generator=generator)
    # Also where it is a setting of the model.
    with pytest.raises(HaloInputError, match="Nearest has been trained on 4 of the groups"):
        cross_validate(Nearest(generator=generator), cutouts)
    # One of other sky is used as it is.
    other = cutouts.replace(table=QTable(cutouts.table, copy=True))
    other.table["group"] = [f"elsewhere {i}" for i in range(20)]
    Copies.fits.clear()
    trained = Copies().fit(other)
    assert len(cross_validate(Nearest(), cutouts, generator=trained, seeds=1, rng=1)) == 20
    assert len(Copies.fits) == 1


def test_a_group_that_the_model_has_seen_is_not_scored():
    cutouts = some(20)
    model = Nearest().fit(cutouts[:10])
    with pytest.raises(HaloInputError, match="trained on 1 of the groups that it would be scored on.*group 9"):
        evaluate(model, cutouts[9:])
    assert evaluate(model, cutouts[10:])["probability"].shape == (10, 1)
    assert len(seen_groups([model, None, Nearest(generator=model)])) == 10
    assert seen_groups({"a": 1}) == set()
    refuse_seen([None, Mean()], cutouts)


def test_groups_made_of_positions_do_not_hide_what_was_seen():
    cutouts = some(20)
    model = Nearest().fit(cutouts[:10])
    with pytest.raises(HaloInputError, match="has been trained on"):
        evaluate(model, cutouts[9:], by=1 * u.deg)
    # 10° apart along -30°: all are one group of friends of friends at 20°.
    with pytest.raises(HaloInputError, match="folds need at least"):
        cross_validate(Mean(), cutouts, by=20 * u.deg)
    scores = cross_validate(Mean(), cutouts, by=1 * u.deg, rng=1)
    assert len(set(scores["group"])) == 20 and set(scores["group_before"]) == set(cutouts.table["group"])


def test_another_column_can_be_the_group():
    scores = cross_validate(Mean(), some(10, each=2), by="name", folds=2, rng=1)
    assert set(scores["group"]) == {f"cluster {i}" for i in range(10)}


def test_bands_of_a_mapping_are_joined():
    cutouts = some(20)
    scores = cross_validate(Mean(), {"low": cutouts, "high": cutouts}, folds=4, seeds=1, rng=1)
    assert set(scores["band"]) == {"low", "high"} and len(scores) == 40
    assert len(combine(scores)) == 20


def _bare(cutouts, *columns):
    table = cutouts.table.copy()
    table.remove_columns(columns)
    return cutouts.replace(table=table)


def _with(cutouts, **columns):
    table = cutouts.table.copy()
    for name, values in columns.items():
        table[name] = values
    return cutouts.replace(table=table)


@pytest.mark.parametrize(("change", "settings", "text"), [
    (lambda c: _bare(c, "label"), {}, "no column 'label'"),
    (lambda c: _bare(c, "group"), {}, "no column 'group'"),
    (lambda c: _with(c, label=["", *c.table["label"][1:]]), {}, "every cutout that is scored needs a label"),
    (lambda c: _with(c, group=["generated", *c.table["group"][1:]]), {}, "generated cutouts cannot be scored"),
    (lambda c: _with(c, augmented_from=np.arange(20)), {}, "augmented cutouts cannot be scored"),
    (lambda c: _with(c, group=np.ma.masked_equal(np.arange(20), 3)), {}, "every cutout that is scored needs a group"),
    (lambda c: c, {"folds": 1}, "folds must be a whole number, 2 or more"),
    (lambda c: c, {"seeds": 0}, "seeds must be a whole number, 1 or more"),
    (lambda c: c, {"folds": 12}, "12 folds need at least 12 groups with halos"),
    (lambda c: c, {"generated": -1}, "generated must be a number of images"),
    (lambda c: c[:0], {}, "at least one cutout"),
    (lambda c: {}, {}, "at least one set of cutouts"),
    (lambda c: c.data, {}, "takes a CutoutSet"),
])
def test_what_cannot_be_judged_honestly_is_refused(change, settings, text):
    with pytest.raises(HaloInputError, match=text):
        cross_validate(Mean(), change(some(20)), **settings)


def test_a_training_part_of_one_class_is_refused():
    # Two groups hold a halo, but both come into one fold, against the larger group without.
    lopsided = _with(some(7), label=["none", "halo", "none", "none", "halo", "halo", "halo"],
                     group=["a", "a", "b", "b", "c", "c", "c"])
    with pytest.raises(HaloInputError, match="every training part needs halos and others"):
        cross_validate(Share(), lopsided, folds=2, rng=1)


def test_only_a_classifier_is_judged():
    with pytest.raises(HaloInputError, match="an evaluation takes a Classifier"):
        evaluate("cnn", some())


def _scores(probability, positive, **columns):
    probability = np.asarray(probability, dtype=float)
    probability = probability[:, None] if probability.ndim == 1 else probability
    table = {"group": [f"g{i}" for i in range(len(probability))], "positive": np.asarray(positive, dtype=bool),
             "probability": probability, "fold": np.zeros(probability.shape, dtype=int)}
    return QTable(table | columns)


def test_bands_are_combined_by_the_mean_of_their_log_odds():
    # Odds of 9 and of 1: their geometric mean is 3. One that could not be scored does not count.
    scores = _scores([[0.9], [0.2], [0.5], [0.3], [np.nan], [np.nan]], [1, 0, 1, 0, 0, 1],
                     name=["a", "b", "a", "c", "b", "d"], rms=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    scores["group"] = ["1", "2", "1", "3", "2", "4"]
    targets = combine(scores)
    assert targets["name"].tolist() == ["a", "b", "c", "d"]
    assert targets["n_cutouts"].tolist() == [2, 2, 1, 1]
    assert targets["probability"][:, 0].tolist() == pytest.approx([0.75, 0.2, 0.3, np.nan], nan_ok=True)
    assert "rms" not in targets.colnames, "the noise of one band is not that of the target"
    assert len(combine(scores, by=None)) == 6 and "rms" in combine(scores, by=None).colnames
    # Targets of one name in two groups, and those without a name, are not one.
    scores["name"] = ["", "", "", "x", "y", "x"]
    assert len(combine(scores)) == 6


def test_probabilities_of_0_and_1_can_be_combined():
    scores = _scores([0.0, 1.0, 0.0], [1, 1, 1], name=["a", "a", "a"], group=["1"] * 3)
    assert 0 <= combine(scores)["probability"][0, 0] < 1e-4


@pytest.mark.parametrize(("scores", "by", "text"), [
    (_scores([0.1, 0.2], [0, 1], name=["a", "a"], group=["1", "1"]), "name", "agree on whether there is a halo"),
    (_scores([0.1, 0.2], [0, 0], name=["a", "a"], group=["1", "1"], fold=[[0], [1]]), "name", "lie in one fold"),
    (_scores([0.1], [0]), "target", "no column 'target' to combine by"),
    (QTable({"probability": [0.1]}), None, "a table of scores has a column 'fold'"),
    (_scores([0.1], [0])[:0], None, "must have shape"),
])
def test_what_is_no_target_is_refused(scores, by, text):
    with pytest.raises(HaloInputError, match=text):
        combine(scores, by=by)


PROBABILITY = [0.9, 0.8, 0.7, 0.5, 0.3, 0.6, 0.4, 0.2, 0.1, 0.0]


def test_a_report_states_each_number_with_its_interval():
    table = report(_scores(PROBABILITY, np.arange(10) < 5), n=200, rng=1)
    for metric, expected in {"accuracy": 0.8, "precision": 0.8, "recall": 0.8, "specificity": 0.8, "f1": 0.8,
                             "true_positives": 4, "false_positives": 1, "false_negatives": 1, "true_negatives": 4,
                             "precision@10%": 0.08 / (0.08 + 0.18), "precision@1%": 0.008 / (0.008 + 0.198),
                             "recall@false_positive_rate=1%": 0.6, "roc_auc": 22 / 25}.items():
        assert _value(table, metric) == pytest.approx(expected), metric
        assert _value(table, metric, "low") <= expected <= _value(table, metric, "high"), metric
    assert set(table["n_groups"]) == {10} and set(table["n_positive"]) == {5} and set(table["n_negative"]) == {5}
    assert _value(table, "recall", "threshold") == 0.5 and np.isnan(_value(table, "brier", "threshold"))
    assert np.isnan(table["spread"]).all()
    strict = report(_scores(PROBABILITY, np.arange(10) < 5), threshold=0.75, n=20, rng=1)
    assert _value(strict, "recall") == 0.4 and _value(strict, "specificity") == 1


def test_seeds_are_averaged_and_their_spread_is_told():
    table = report(_scores(np.column_stack([[0.9, 0.1, 0.8, 0.2], [0.1, 0.9, 0.8, 0.2]]), [1, 0, 1, 0]), n=20, rng=1)
    assert _value(table, "accuracy") == pytest.approx((1 + 0.5) / 2)
    assert _value(table, "accuracy", "spread") == pytest.approx(np.std([1, 0.5], ddof=1))


def test_eight_of_eight_are_not_a_certainty():
    # Clopper & Pearson: eight of eight leave a fraction down to 0.025^(1/8) = 63 %.
    table = report(_scores([0.9] * 8 + [0.1] * 8, [1] * 8 + [0] * 8), n=50, rng=1)
    assert _value(table, "recall") == _value(table, "recall", "high") == 1
    assert _value(table, "recall", "low") == pytest.approx(0.6306, abs=1e-4)
    none = report(_scores([0.1] * 16, [1] * 8 + [0] * 8), n=50, rng=1)
    assert _value(none, "recall", "high") == pytest.approx(1 - 0.6306, abs=1e-4)


def test_unscored_targets_are_counted_apart():
    table = report(_scores([*PROBABILITY, np.nan], [*(np.arange(10) < 5), True]), n=20, rng=1)
    assert table.meta["n_unscored"] == 1 and _value(table, "recall") == 0.8
    with pytest.raises(HaloInputError, match="none of the targets has a probability"):
        report(_scores([np.nan, np.nan], [0, 1]))


def test_models_are_compared_on_the_same_targets():
    cutouts = some(40, signal=4.0)
    models = {"share": Share(), "mean": Mean(), "turned": Mean(slope=-1.0)}
    table = compare_models(models, cutouts, baseline="share", seeds=2, n=200, rng=1)
    rows = {name: table[(table["model"] == name) & (table["metric"] == "roc_auc")][0] for name in models}
    assert rows["share"]["value"] == 0.5
    assert rows["share"]["difference"] == rows["share"]["difference_high"] == 0
    assert rows["mean"]["difference"] == pytest.approx(rows["mean"]["value"] - 0.5)
    assert 0 < rows["mean"]["difference_low"] < rows["mean"]["difference_high"] <= 0.5
    assert rows["turned"]["value"] == pytest.approx(1 - rows["mean"]["value"])
    assert rows["turned"]["difference_high"] < 0
    assert table.meta["baseline"] == "share"


def test_a_comparison_needs_the_same_cutouts_and_a_baseline():
    one, two = _scores(PROBABILITY, np.arange(10) < 5), _scores(PROBABILITY, np.arange(10) < 4)
    with pytest.raises(HaloInputError, match="compared on the same cutouts"):
        compare({"one": one, "two": two})
    with pytest.raises(HaloInputError, match="the baseline must be one of the models"):
        compare({"one": one}, baseline="two")
    with pytest.raises(HaloInputError, match="compare takes a mapping"):
        compare(one)
    with pytest.raises(HaloInputError, match="compare_models takes a mapping"):
        compare_models(Mean(), some())


def test_a_model_that_cannot_score_a_target_takes_it_from_all():
    one = _scores(PROBABILITY, np.arange(10) < 5)
    two = _scores([np.nan, *PROBABILITY[1:]], np.arange(10) < 5)
    table = compare({"one": one, "two": two}, n=20, rng=1)
    assert set(table["n_positive"]) == {4} and table.meta["n_unscored"] == 1
    assert np.all(np.nan_to_num(table["difference"]) == 0)


def test_flag_rate_against_mass():
    positive = np.arange(10) < 5
    scores = _scores(PROBABILITY, positive, m500=np.arange(10) * 1e14 * u.solMass)
    table = breakdown(scores, "m500", bins=[0, 4, 8, 20] * (1e14 * u.solMass), n=50, rng=1)
    assert table["n_targets"].tolist() == [4, 4, 2]
    assert table["flag_rate"].tolist() == [1, 0.25, 0]
    assert table["low"].unit == u.solMass and table["flag_rate_high"][2] == pytest.approx(1 - 0.025**0.5)
    assert np.isnan(table["recall"][2]) and table["recall"][1] == 0
    with pytest.raises(HaloInputError, match="bins are needed"):
        breakdown(scores, "m500")
    with pytest.raises(HaloInputError, match="two or more rising edges"):
        breakdown(scores, "m500", bins=[2, 1])
    with pytest.raises(HaloInputError, match="no column 'survey'"):
        breakdown(scores, "survey")


def test_a_band_is_judged_alone_where_cutouts_are_not_combined():
    scores = cross_validate(Mean(), some(20, each=2), seeds=1, rng=1)
    table = breakdown(scores, "band", combine=None, n=20, rng=1)
    assert table["band"].tolist() == ["band 0", "band 1"] and table["n_targets"].tolist() == [20, 20]
    with pytest.raises(HaloInputError, match="their cutouts differ in it"):
        breakdown(scores, "band")


def test_false_positives_per_square_degree():
    # Cutouts of 4 × 4 pixels of 0.25° are 1 deg² each.
    cutouts = some(20, signal=0)
    scores = evaluate(Mean(), cutouts)
    assert scores["area"].to_value(u.deg**2) == pytest.approx(1)
    blank = np.asarray(scores["label"]) == "blank"
    value, low, high = false_positives(scores, n=100, rng=1)
    assert value.to_value(1 / u.deg**2) == pytest.approx((scores["probability"][blank] >= 0.5).mean())
    assert low <= value <= high
    value, _, high = false_positives(scores, threshold=1.0, rng=1)
    assert value == 0 / u.deg**2 and high > 0 / u.deg**2
    with pytest.raises(HaloInputError, match="no sky without a halo"):
        false_positives(scores, labels=("relic",))
    scores.remove_column("area")
    with pytest.raises(HaloInputError, match="the area on the sky is not known"):
        false_positives(scores)


def test_the_wrong_ones_are_named_the_worst_first():
    names = [f"t{i}" for i in range(10)]
    table = mistakes(_scores(PROBABILITY, np.arange(10) < 5, name=names))
    assert table["name"].tolist() == ["t4", "t5"] and table["kind"].tolist() == ["missed", "false"]
    assert table["mean_probability"].tolist() == [0.3, 0.6]


def test_the_matched_filter_on_simulated_sky():
    # One position has one beam, and so one bank of templates.
    positions = SkyCoord(np.full(60, 30.0), np.full(60, -27.0), unit="deg")
    cutouts = simulate.cutouts(60, mix={"halo": 1, "blank": 1}, positions=positions, rng=3)
    seen = cutouts[(cutouts.table["label"] == "blank") | (cutouts.table["snr"] > 4)]
    scores = cross_validate(classifiers.create("matched-filter"), seen, folds=3, seeds=2, rng=1)
    table = report(scores, n=100, rng=1)
    assert _value(table, "roc_auc") > 0.8
    # A model that does not learn does not depend on the folds.
    assert np.array_equal(scores["probability"][:, 0], scores["probability"][:, 1])
