"""Metrics against hand-computed tables and scikit-learn; intervals against their own promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from halopy.classify import metrics
from halopy.classify.bootstrap import group_bootstrap, paired_difference
from halopy.errors import HaloInputError

# Ten targets: at 0.5, four of five halos are found, and one of five others is flagged.
PROBABILITY = np.array([0.9, 0.8, 0.7, 0.5, 0.3, 0.6, 0.4, 0.2, 0.1, 0.0])
POSITIVE = np.arange(10) < 5


def test_a_confusion_table_by_hand():
    assert metrics.confusion(PROBABILITY, POSITIVE).tolist() == [[4, 1], [1, 4]]
    assert metrics.confusion(PROBABILITY, POSITIVE, 0.75).tolist() == [[5, 0], [3, 2]]
    assert metrics.precision(PROBABILITY, POSITIVE) == metrics.recall(PROBABILITY, POSITIVE) == 0.8
    assert metrics.specificity(PROBABILITY, POSITIVE) == metrics.accuracy(PROBABILITY, POSITIVE) == 0.8
    assert metrics.recall(PROBABILITY, POSITIVE, 0.75) == 0.4
    assert metrics.balanced_accuracy(PROBABILITY, POSITIVE, 0.75) == pytest.approx(0.7)
    assert metrics.f1(PROBABILITY, POSITIVE, 0.75) == pytest.approx(2 * 1 * 0.4 / 1.4)


def test_what_cannot_be_computed_is_nan():
    assert np.isnan(metrics.precision([0.1, 0.2], [True, False]))
    assert np.isnan(metrics.recall([0.9], [False])) and np.isnan(metrics.specificity([0.9], [True]))
    assert np.isnan(metrics.roc_auc([0.9, 0.1], [True, True])) and np.isnan(metrics.roc_auc([], []))
    assert np.isnan(metrics.average_precision([0.9], [False])) and np.isnan(metrics.brier([], []))
    assert np.isnan(metrics.recall_at_false_positive_rate([0.9], [True]))
    assert np.isnan(metrics.calibration_error([], []))
    assert metrics.f1([0.1], [True]) == 0


def test_the_precision_of_the_seed_falls_with_the_prevalence():
    # Bayes with the published recall 0.93 and specificity 0.97: 0.93 p / (0.93 p + 0.03 (1 - p)).
    found = metrics.precision_at_prevalence(0.93, 0.97, [0.5, 0.1, 0.01, 0.001])
    assert found == pytest.approx([0.96875, 0.775, 0.23846, 0.03009], abs=5e-5)
    # At the set's own share of halos it is the precision itself.
    assert metrics.precision_at_prevalence(0.8, 0.8, 0.5) == pytest.approx(metrics.precision(PROBABILITY, POSITIVE))


def test_roc_area_of_separable_tied_and_random_probabilities():
    assert metrics.roc_auc([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]) == 1
    assert metrics.roc_auc([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0]) == 0
    assert metrics.roc_auc(np.full(10, 0.3), POSITIVE) == 0.5
    rng = np.random.default_rng(1)
    n = 4000
    # Standard deviation of a random area: sqrt((2 m + 1) / (12 m m)) with m in each class (Mann & Whitney 1947).
    assert abs(metrics.roc_auc(rng.random(n), np.arange(n) < n / 2) - 0.5) < 5 * np.sqrt((n + 1) / (3 * n**2))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_curves_agree_with_scikit_learn(rows):
    probability, positive = np.array([p / 6 for p, _ in rows]), np.array([y for _, y in rows])
    if positive.all() or not positive.any():
        return
    assert metrics.roc_auc(probability, positive) == pytest.approx(reference.roc_auc_score(positive, probability))
    expected = reference.average_precision_score(positive, probability)
    assert metrics.average_precision(probability, positive) == pytest.approx(expected)
    assert metrics.brier(probability, positive) == pytest.approx(reference.brier_score_loss(positive, probability))
    assert metrics.f1(probability, positive) == pytest.approx(reference.f1_score(positive, probability >= 0.5))
    (tn, fp), (fn, tp) = reference.confusion_matrix(positive, probability >= 0.5, labels=[False, True])
    assert metrics.confusion(probability, positive).tolist() == [[tn, fp], [fn, tp]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_the_roc_area_within_folds_is_that_of_all_pairs_of_a_fold(seed, folds):
    rng = np.random.default_rng(seed)
    probability, positive, fold = rng.integers(0, 4, 30) / 4, rng.random(30) < 0.4, rng.integers(0, folds, 30)
    pairs = [(a > b) + (a == b) / 2 for a, f in zip(probability[positive], fold[positive], strict=True)
             for b, g in zip(probability[~positive], fold[~positive], strict=True) if f == g]
    expected = np.mean(pairs) if pairs else np.nan
    assert metrics.roc_auc(probability, positive, within=fold) == pytest.approx(expected, nan_ok=True)


def test_pooled_folds_of_a_constant_look_worse_than_they_are():
    # Each fold is given the share of halos in the others: more halos here, fewer there.
    fold, positive = np.repeat([0, 1], 10), np.tile(np.arange(10), 2) < np.repeat([6, 4], 10)
    constant = np.where(fold == 0, 0.4, 0.6)
    assert metrics.roc_auc(constant, positive) < 0.5
    assert metrics.roc_auc(constant, positive, within=fold) == 0.5


def test_average_precision_at_another_prevalence():
    # Copies of the negatives make halos rare: nine for each is a share of 10 % in a balanced set.
    many = np.concatenate([PROBABILITY[POSITIVE], np.tile(PROBABILITY[~POSITIVE], 9)])
    expected = metrics.average_precision(many, np.arange(len(many)) < 5)
    assert metrics.average_precision(PROBABILITY, POSITIVE, prevalence=0.1) == pytest.approx(expected)
    assert metrics.average_precision(np.full(10, 0.5), POSITIVE, prevalence=0.01) == pytest.approx(0.01)


def test_recall_at_a_false_positive_rate():
    # One of five negatives may be flagged at 20 %: all above 0.4, four of the five halos.
    assert metrics.recall_at_false_positive_rate(PROBABILITY, POSITIVE, 0.2) == 0.8
    assert metrics.recall_at_false_positive_rate(PROBABILITY, POSITIVE, 0.01) == 0.6
    assert metrics.recall_at_false_positive_rate(PROBABILITY, POSITIVE, 1) == 1
    assert metrics.recall_at_false_positive_rate(np.full(10, 0.5), POSITIVE, 0.2) == 0


def test_brier_of_perfect_and_constant_probabilities():
    assert metrics.brier(POSITIVE.astype(float), POSITIVE) == 0
    assert metrics.brier(np.full(10, 0.5), POSITIVE) == 0.25
    assert metrics.brier(np.full(10, 0.2), POSITIVE) == pytest.approx((0.64 + 0.04) / 2)


def test_the_reliability_diagram_counts_every_target_once():
    table = metrics.reliability(PROBABILITY, POSITIVE, bins=2)
    assert table["n"].tolist() == [5, 5]
    assert table["fraction"].tolist() == [0.2, 0.8]
    assert table["probability"].tolist() == pytest.approx([0.2, 0.7])
    assert metrics.calibration_error(PROBABILITY, POSITIVE, bins=2) == pytest.approx(0.05)
    assert metrics.reliability([1.0, 0.0], [True, False], bins=4)["n"].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(("call", "text"), [
    (lambda: metrics.roc_auc([0.5], [True, False]), "one shape"),
    (lambda: metrics.brier([np.nan, 0.5], [True, False]), "every probability must be finite"),
    (lambda: metrics.precision_at_prevalence(0.9, 0.9, 2), "a prevalence must lie between 0 and 1"),
    (lambda: metrics.average_precision([0.5], [True], prevalence=-1), "the prevalence must lie between 0 and 1"),
    (lambda: metrics.recall_at_false_positive_rate([0.5, 0.4], [True, False], 2), "the false-positive rate must"),
    (lambda: metrics.reliability([0.5], [True], bins=0), "bins must be a whole number"),
    (lambda: metrics.reliability([3.0], [True]), "needs probabilities between 0 and 1"),
    (lambda: group_bootstrap(np.mean, [1, 2], [1.0]), "must have a row for each"),
    (lambda: group_bootstrap(np.mean, [1, 2], [1.0, 2.0], n=0), "n must be a whole number of draws"),
    (lambda: group_bootstrap(np.mean, [1, 2], [1.0, 2.0], level=1), "the level of an interval"),
])
def test_bad_input_is_refused(call, text):
    with pytest.raises(HaloInputError, match=text):
        call()


def _coverage(interval, n_trials, rng):
    hits = 0
    for _ in range(n_trials):
        groups = np.repeat(np.arange(30), 4)
        # Rows of one group share most of their value: 120 rows know no more than some 30.
        values = rng.normal(size=30)[groups] + 0.3 * rng.normal(size=120)
        low, high = interval(groups, values, rng)
        hits += low <= 0 <= high
    return hits / n_trials


def test_intervals_by_group_cover_the_truth():
    rng = np.random.default_rng(3)

    def by_group(groups, values, rng):
        return group_bootstrap(np.mean, groups, values, n=200, rng=rng)[1:]

    def by_row(groups, values, rng):
        return group_bootstrap(np.mean, np.arange(len(values)), values, n=200, rng=rng)[1:]

    # Percentiles of 30 groups cover a little less than their level; 200 trials know it to 2 %.
    assert 0.88 <= _coverage(by_group, 200, rng) <= 0.99
    assert _coverage(by_row, 100, rng) < 0.8


def test_strata_keep_both_classes():
    groups = np.arange(12)
    positive = groups < 2
    value, low, high = group_bootstrap(lambda y: float(y.sum()), groups, positive, strata=positive, n=50, rng=1)
    assert (value, low, high) == (2, 2, 2)
    values = group_bootstrap(lambda p, y: metrics.roc_auc(p, y), groups, groups / 12, positive, strata=positive, n=50,
                             rng=1)
    assert np.isfinite(values).all()


def test_a_bootstrap_of_several_numbers_repeats_with_its_seed():
    groups, values = np.array(["b", "a", "c", "a"]), np.arange(4.0)
    one, two = (group_bootstrap(lambda x: np.array([x.mean(), np.nan]), groups, values, n=40, rng=7) for _ in range(2))
    assert np.array_equal(one[1], two[1], equal_nan=True) and one[1].shape == (2,)
    assert np.isnan(one[1][1]) and one[1][0] < one[0][0] < one[2][0]


def test_one_group_has_no_interval():
    value, low, high = group_bootstrap(np.mean, ["a", "a"], np.array([1.0, 3.0]))
    assert value == 2 and np.isnan(low) and np.isnan(high)


def test_a_paired_difference_is_narrower_than_two_intervals():
    rng = np.random.default_rng(5)
    positive = np.arange(60) % 2 == 0
    shared = rng.normal(size=60) + positive
    first, second = shared + 0.3 * positive, shared
    difference, low, high = paired_difference(metrics.roc_auc, np.arange(60), positive, first, second, n=300, rng=1)
    assert 0 < low < difference < high
    _, a, b = group_bootstrap(metrics.roc_auc, np.arange(60), first, positive, n=300, strata=positive, rng=1)
    assert high - low < (b - a) / 2
    assert paired_difference(metrics.roc_auc, np.arange(60), positive, first, first, n=20, rng=1) == (0, 0, 0)
