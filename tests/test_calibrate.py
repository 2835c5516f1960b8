"""A known temperature is found again; sets of answers cover what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import QTable
from evaluation import Mean, Nearest, some
from hypothesis import given, settings
from hypothesis import strategies as st

from halopy.classify import metrics
from halopy.classify.calibrate import (
    apply_temperature,
    calibrate,
    calibration,
    conformal_sets,
    cross_conformal,
    fit_temperature,
)
from halopy.classify.evaluate import cross_validate, evaluate
from halopy.errors import HaloInputError, HalopyWarning


def _truth(n, rng, scale=2.0):
    """Log-odds, and truths that come true as often as they say."""
    odds = scale * rng.normal(size=n)
    return odds, rng.random(n) < 1 / (1 + np.exp(-odds))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature):
    odds, positive = _truth(6000, np.random.default_rng(1))
    told = 1 / (1 + np.exp(-odds * temperature))
    found = fit_temperature(told, positive, np.arange(6000))
    # Fisher information of log T at T = 1 is n E[p (1 - p) z²], some 0.3 n here: 2.4 % of scatter.
    assert found == pytest.approx(temperature, rel=0.08)
    calm = apply_temperature(told, found)
    assert metrics.calibration_error(calm, positive) < 0.03
    assert metrics.roc_auc(calm, positive) == pytest.approx(metrics.roc_auc(told, positive), abs=1e-9)


def test_every_group_weighs_the_same():
    # A group of many rows that are all wrong must not outweigh what the others say.
    odds, positive = _truth(400, np.random.default_rng(2))
    told = 1 / (1 + np.exp(-odds))
    many = np.concatenate([told, np.full(50, 0.99)]), np.concatenate([positive, np.zeros(50, bool)])
    groups = np.concatenate([np.arange(400), np.full(50, 400)])
    assert fit_temperature(*many, groups) < 1.3 < fit_temperature(*many)


def test_a_temperature_that_the_targets_do_not_tell():
    with pytest.warns(HalopyWarning, match="separated entirely, which tells no temperature"):
        assert fit_temperature([0.6, 0.7, 0.3, 0.4], [1, 1, 0, 0]) == 1
    with pytest.warns(HalopyWarning, match="tell nothing of the targets"):
        assert fit_temperature([0.6, 0.7, 0.3, 0.4], [0, 0, 1, 1]) == 20


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 10))
def test_a_temperature_keeps_the_order(first, second, temperature):
    one, two = apply_temperature([first, second], temperature)
    assert 0 <= one <= 1 and (one - two) * (first - second) >= 0
    # Near 1 double precision has no room for the odds: 0.99999 at a temperature of 0.25 is 1 - 1e-20.
    if one < 1 - 1e-9 or first == 1:
        assert apply_temperature([one], 1 / temperature)[0] == pytest.approx(first, abs=1e-6)


def test_the_ends_of_probability_stay():
    assert apply_temperature([0, 0.5, 1], 3).tolist() == [0, 0.5, 1]
    assert np.isnan(apply_temperature([np.nan], 3)[0])


class Warm(Mean):
    """A logistic of the mean pixel with a temperature."""

    temperature_ = 1.0

    def _predict_proba(self, cutouts):
        return apply_temperature(super()._predict_proba(cutouts), self.temperature_)


def test_a_model_is_calibrated_on_a_copy():
    # Means of 16 pixels have a scatter of 1/4, halos are brighter by 1/4: the true slope is 4, whatever is said.
    cutouts = some(3000, signal=1.0, rng=3)
    cutouts = cutouts.replace(data=cutouts.data - 0.125)
    model = Warm(slope=12.0)
    calibrated = calibrate(model, cutouts)
    assert model.temperature_ == 1 and calibrated.temperature_ == pytest.approx(3, rel=0.2)
    # They are used up: neither a second temperature nor a score can be had of them.
    for use in (calibrate, evaluate):
        with pytest.raises(HaloInputError, match="has been trained on"):
            use(calibrated, cutouts)
    cutouts.table["group"] = [f"other {group}" for group in cutouts.table["group"]]
    again = calibrate(calibrated, cutouts)
    assert again.temperature_ == pytest.approx(calibrated.temperature_, rel=1e-3)
    with pytest.raises(HaloInputError, match="only a model with an attribute temperature_"):
        calibrate(Mean(), cutouts)
    seen = Nearest().fit(cutouts[:4])
    seen.temperature_ = 1.0
    with pytest.raises(HaloInputError, match="has been trained on"):
        calibrate(seen, cutouts[:4])


def test_the_diagram_of_true_probabilities_lies_on_its_diagonal():
    odds, positive = _truth(2000, np.random.default_rng(4))
    told = 1 / (1 + np.exp(-odds))
    table = calibration(_scores(told, positive), bins=5, n=100, rng=1)
    assert (table["fraction_low"] - 0.02 <= table["probability"]).all()
    assert (table["probability"] <= table["fraction_high"] + 0.02).all() and table["n"].sum() == 2000
    value, low, high = table.meta["calibration_error"]
    assert 0 < low <= high < 0.06 and value == pytest.approx(metrics.calibration_error(told, positive, bins=5))


def _scores(probability, positive, groups=None, fold=None):
    n = len(probability)
    return QTable({"group": np.arange(n) if groups is None else groups, "positive": positive,
                   "probability": np.asarray(probability)[:, None],
                   "fold": (np.zeros(n, int) if fold is None else fold)[:, None]})


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_conformal_sets_cover_what_they_promise(coverage):
    # Groups of unlike sizes whose rows share their error: rows are not exchangeable, groups are.
    rng = np.random.default_rng(5)
    hit, plain = [], []
    for _ in range(250):
        sizes = rng.integers(1, 9, 31)
        member = np.repeat(np.arange(31), sizes)
        odds = 2 * rng.normal(size=len(member))
        positive = rng.random(len(member)) < 1 / (1 + np.exp(-odds))
        told = 1 / (1 + np.exp(-(odds + 1.5 * rng.normal(size=31)[member]) * 2))
        new = member == 30
        sets = conformal_sets(told[~new], positive[~new], member[~new], told[new], coverage=coverage)
        hit.append(sets[np.arange(new.sum()), positive[new].astype(int)].mean())
        plain.append(sets.all(axis=1).mean())
    # At least as promised, within three standard errors; and not by giving both answers always.
    assert np.mean(hit) > coverage - 3 * np.std(hit) / np.sqrt(250)
    assert np.mean(plain) < 0.9


def test_few_groups_exclude_nothing():
    # Nine groups or more are needed for 90 %: the new one is one of ten.
    told, positive = np.full(8, 0.99), np.ones(8, bool)
    assert conformal_sets(told, positive, np.arange(8), [0.99], coverage=0.9).all()
    assert conformal_sets(np.full(9, 0.99), np.ones(9, bool), np.arange(9), [0.99]).tolist() == [[False, True]]
    # Many rows of few groups are no more groups.
    assert conformal_sets(np.full(800, 0.99), np.ones(800, bool), np.arange(800) % 8, [0.99]).all()


def test_what_cannot_be_scored_can_be_anything():
    assert conformal_sets(np.full(20, 0.9), np.ones(20, bool), np.arange(20), [np.nan]).tolist() == [[True, True]]


def test_cross_conformal_sets_of_cross_validated_targets():
    scores = cross_validate(Mean(slope=4), some(120, signal=4.0), seeds=2, rng=1)
    table = cross_conformal(scores, coverage=0.8, n=100, rng=1)
    assert table["sets"].shape == (120, 2, 2)
    value, low, high = table.meta["coverage"]
    # The scatter of a fraction of 0.8 among 120 is 0.037.
    assert low < value < high and abs(value - 0.8) < 0.12 and table.meta["nominal"] == 0.8
    with pytest.raises(HaloInputError, match="need two folds or more"):
        cross_conformal(_scores([0.1, 0.9], [False, True]))


@pytest.mark.parametrize(("call", "text"), [
    (lambda: fit_temperature([0.1, 0.2], [1, 1]), "needs targets of both classes"),
    (lambda: fit_temperature([0.1, 0.2], [1, 0], [1]), "every target must have a group"),
    (lambda: apply_temperature([0.1], 0), "a temperature must be a positive number"),
    (lambda: conformal_sets([0.1], [1], [1, 2], [0.1]), "groups must have shape"),
    (lambda: conformal_sets([0.1], [1], [1], [0.1], coverage=1), "the coverage must lie between 0 and 1"),
])
def test_bad_input_is_refused(call, text):
    with pytest.raises(HaloInputError, match=text):
        call()
