"""Scikit-learn estimators as classifiers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import AffinityPropagation
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from halopy.classify.sklearn_model import SklearnClassifier
from halopy.errors import HaloInputError
from halopy.labels import is_positive
from halopy.testing import check_classifier, simulated_cutouts


@pytest.fixture(scope="module")
def cutouts():
    return simulated_cutouts(60, rng=1)


def forest():
    return RandomForestClassifier(n_estimators=5)


@pytest.mark.parametrize("model", [
    SklearnClassifier(make_pipeline(StandardScaler(), forest())),
    SklearnClassifier(LinearSVC(), input="pixels"),
], ids=["features", "pixels"])
def test_contract_but_for_the_file(model):
    # Saving is the last thing that is checked: all other promises are kept when this is said.
    with pytest.raises(AssertionError, match=r"save raised HaloInputError: .*halopy writes no pickles"):
        check_classifier(model)


def test_it_is_not_saved(cutouts, tmp_path):
    model = SklearnClassifier(forest()).fit(cutouts, rng=1)
    with pytest.raises(HaloInputError, match="cannot be saved: halopy writes no pickles"):
        model.save(tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["features", "pixels"])
def test_it_learns(kind, cutouts):
    test = simulated_cutouts(60, rng=2)
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    probability = SklearnClassifier(estimator, input=kind).fit(cutouts).predict_proba(test)
    positive = is_positive(test.table)
    assert np.median(probability[positive]) > np.quantile(probability[~positive], 0.9)


def test_the_estimator_is_left_alone(cutouts):
    estimator = forest()
    model = SklearnClassifier(estimator).fit(cutouts, rng=1)
    assert model.estimator is estimator and not hasattr(estimator, "classes_") and estimator.random_state is None


def test_random_states_come_from_rng(cutouts):
    def trained(random_state, rng):
        model = SklearnClassifier(RandomForestClassifier(n_estimators=5, random_state=random_state))
        return model.fit(cutouts, rng=rng).predict_proba(cutouts).tolist()

    assert trained(None, 1) == trained(None, 1) != trained(None, 2)
    assert trained(7, 1) == trained(7, 2)


def test_cutouts_without_data(cutouts):
    data = cutouts.data.copy()
    data[0] = np.nan
    for kind in ("features", "pixels"):
        model = SklearnClassifier(forest(), input=kind).fit(cutouts, rng=1)
        probability = model.predict_proba(cutouts.replace(data=data))
        assert np.isnan(probability).tolist() == [True] + [False] * 59
        assert np.isnan(model.predict_proba(cutouts.replace(data=data)[:1])).all()


def test_equality_and_repr():
    assert SklearnClassifier(forest()) == SklearnClassifier(forest())
    assert SklearnClassifier(forest()) != SklearnClassifier(RandomForestClassifier(n_estimators=6))
    assert SklearnClassifier(forest()) != SklearnClassifier(forest(), input="pixels")
    assert SklearnClassifier(forest()) != "forest"
    assert repr(SklearnClassifier(forest(), input="pixels")) == (
        "SklearnClassifier(estimator=RandomForestClassifier(n_estimators=5), input='pixels')")


def test_what_cannot_be_used(cutouts):
    for estimator in (RandomForestClassifier, "forest"):
        with pytest.raises(HaloInputError, match="estimator must be a scikit-learn estimator"):
            SklearnClassifier(estimator).fit(cutouts)
    with pytest.raises(HaloInputError, match="must have predict_proba or decision_function"):
        SklearnClassifier(AffinityPropagation()).fit(cutouts)
    with pytest.raises(HaloInputError, match="input must be 'features' or 'pixels'"):
        SklearnClassifier(forest(), input="image").fit(cutouts)
    with pytest.raises(HaloInputError, match="training needs cutouts with and without a halo"):
        SklearnClassifier(forest()).fit(cutouts[~is_positive(cutouts.table)])
