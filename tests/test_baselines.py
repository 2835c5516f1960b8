"""The baselines: each sees what it says it sees, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st

from halopy.classify.features_lr import FeaturesLR
from halopy.classify.logistic import Logistic, training_labels
from halopy.classify.noise_only import NoiseOnly, noise_features
from halopy.classify.pca_lr import PcaLR
from halopy.classify.prevalence import Prevalence
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, NotFittedError
from halopy.labels import is_positive
from halopy.preprocess.augment import Augmenter
from halopy.registry import classifiers
from halopy.testing import check_classifier, simulated_cutouts

MODELS = {"features-lr": FeaturesLR, "noise-only": NoiseOnly, "pca-lr": PcaLR, "prevalence": Prevalence}
LEARNERS = [FeaturesLR(), PcaLR(n_components=10), NoiseOnly()]


@pytest.fixture(scope="module")
def train():
    return simulated_cutouts(80, rng=1)


@pytest.fixture(scope="module")
def test():
    return simulated_cutouts(60, rng=2)


def area(probability, positive):
    """Under the ROC curve: how often a positive is above a negative."""
    difference = probability[positive][:, None] - probability[~positive][None]
    return np.mean((difference > 0) + 0.5 * (difference == 0))


def with_column(cutouts, **columns):
    table = cutouts.table.copy()
    for name, values in columns.items():
        table[name] = values
    return cutouts.replace(table=table)


# --------------------------------------------------------------------------------------------- contract

@pytest.mark.parametrize("name", MODELS)
def test_they_are_found_by_name(name):
    assert classifiers[name] is MODELS[name]


@pytest.mark.parametrize("model", [FeaturesLR(noise=True, compact=False), NoiseOnly(), PcaLR(), Prevalence()], ids=repr)
def test_contract(model):
    check_classifier(model)


@pytest.mark.parametrize("model", [cls() for cls in MODELS.values()], ids=repr)
def test_one_without_training_is_saved_as_such(model, test, tmp_path):
    model.save(tmp_path / "a.safetensors")
    with pytest.raises(NotFittedError, match="must be trained with fit"):
        type(model).load(tmp_path / "a.safetensors").predict_proba(test)


# ------------------------------------------------------------------------------------------ what they see

@pytest.mark.parametrize("model", LEARNERS[:2], ids=repr)
def test_bright_halos_are_told_from_noise_and_sources(model, train, test):
    # Halos of 8 to 30 times the noise, and point sources as bright: nearly all can be told.
    model = type(model)(**model.params).fit(train, rng=1)
    assert area(model.predict_proba(test), is_positive(test.table)) > 0.9


@pytest.mark.parametrize("model", LEARNERS, ids=repr)
def test_labels_without_meaning_teach_nothing(model, train, test):
    labels = np.random.default_rng(3).permutation(np.asarray(train.table["label"]))
    model = type(model)(**model.params).fit(with_column(train, label=labels), rng=1)
    # The expectation is 0.5; 30 against 30 scatter by 0.075.
    assert abs(area(model.predict_proba(test), is_positive(test.table)) - 0.5) < 0.3


def test_features_lr_does_not_care_for_the_view(train, test):
    model = FeaturesLR().fit(train)
    views = Augmenter(orientations=8, brightness=None)(test[:5])
    probability = model.predict_proba(views).reshape(5, 8)
    np.testing.assert_allclose(probability, np.tile(model.predict_proba(test[:5])[:, None], 8), atol=1e-4)


def test_noise_only_sees_no_sky(train, test):
    positive = is_positive(train.table)
    deep = with_column(train, rms=np.where(positive, 0.006, 0.008) * u.Jy / u.beam)
    model = NoiseOnly().fit(deep)
    rms = np.random.default_rng(1).uniform(0.006, 0.008, len(test))
    probability = model.predict_proba(with_column(test, rms=rms * u.Jy / u.beam))
    # The deeper the image the likelier the halo, whatever the image shows.
    assert (np.diff(probability[np.argsort(rms)]) < 0).all()
    np.testing.assert_array_equal(
        probability, model.predict_proba(with_column(test, rms=rms * u.Jy / u.beam).replace(data=-test.data[::-1])))
    # One noise for all says nothing: everyone has the share of halos.
    np.testing.assert_allclose(NoiseOnly().fit(train).predict_proba(test), positive.mean(), atol=1e-6)


def test_noise_features():
    data = np.full((3, 10, 10), 0.004)
    data[0, :, :5] = 0
    data[1, :2] = np.nan
    data[2] = np.nan
    unit = u.Jy / u.beam
    cutouts = CutoutSet(data, {"rms": [1, 10, 10] * u.mJy / u.beam}, unit=unit)
    np.testing.assert_allclose(noise_features(cutouts), [[-3, 0.5, 0], [-2, 0, 0.2], [np.nan] * 3], atol=1e-12)
    milli = CutoutSet(1000 * data, cutouts.table, unit=u.mJy / u.beam)
    np.testing.assert_allclose(noise_features(milli), noise_features(cutouts), atol=1e-12)
    assert noise_features(cutouts[:0]).shape == (0, 3)


def test_prevalence(train, test):
    model = Prevalence().fit(train)
    assert set(model.predict_proba(test)) == {is_positive(train.table).mean()}
    assert np.isnan(model.predict_proba(test.replace(data=np.full(test.shape, np.nan)))).all()


def test_a_whole_image_of_components(train, test):
    # With as many components as there are cutouts, whatever varies among them is kept.
    model = PcaLR(n_components=500).fit(train, rng=1)
    assert model.components_.shape == (len(train) - 1, 64 * 64)
    gram = model.components_ @ model.components_.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-4)
    assert np.isnan(model.predict_proba(test.replace(data=np.full(test.shape, np.nan)))).all()


def test_equal_images_have_no_components(train, test):
    same = train.replace(data=np.repeat(train.data[:1], len(train), axis=0))
    model = PcaLR(n_components=2).fit(same, rng=1)
    np.testing.assert_allclose(model.logistic_(np.zeros((1, 2))), is_positive(train.table).mean(), atol=1e-3)
    assert np.isfinite(model.predict_proba(test)).all()


def test_a_file_is_small(train, tmp_path):
    PcaLR().fit(train).save(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_size < 2e6


# --------------------------------------------------------------------------------------- labels and grades

@pytest.mark.parametrize("model", LEARNERS, ids=repr)
def test_halos_of_other_grades_are_left_out(model, train, test):
    grade = np.where(np.arange(len(train)) % 2 == 0, "candidate", "confirmed")
    graded = with_column(train, grade=grade)
    doubtful = is_positive(train.table) & (grade == "candidate")
    params = model.params | {"grades": ("confirmed",)}
    first = type(model)(**params).fit(graded, rng=1).predict_proba(test)
    second = type(model)(**params).fit(graded[~doubtful], rng=1).predict_proba(test)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("model", [cls() for cls in MODELS.values()], ids=repr)
def test_what_cannot_be_learnt_from(model, train):
    fresh = type(model)(**model.params)
    labels = np.asarray(train.table["label"]).copy()
    labels[3] = ""
    with pytest.raises(HaloInputError, match="every training cutout needs a label, 1 of 80 have none"):
        fresh.fit(with_column(train, label=labels))
    with pytest.raises(HaloInputError, match="a grade is one of"):
        type(model)(grades=("good",)).fit(train)
    if not isinstance(model, Prevalence):
        with pytest.raises(HaloInputError, match="training needs cutouts with and without a halo"):
            fresh.fit(train[is_positive(train.table)])
        with pytest.raises(HaloInputError, match="training needs cutouts with and without a halo"):
            fresh.fit(train.replace(data=np.full(train.shape, np.nan)))
        with pytest.raises(HaloInputError, match="C must be positive"):
            type(model)(C=0).fit(train)


def test_settings_that_cannot_be(train):
    with pytest.raises(HaloInputError, match="n_components must be a positive whole number"):
        PcaLR(n_components=0).fit(train)
    with pytest.raises(HaloInputError, match="training needs at least one cutout that counts"):
        Prevalence(grades=("confirmed",)).fit(
            with_column(train, grade=["candidate"] * len(train))[is_positive(train.table)])


def test_a_halo_without_grade_is_no_counterexample(train):
    graded = with_column(train, grade=[""] * len(train))
    positive, used = training_labels(graded.table)
    assert not positive.any()
    np.testing.assert_array_equal(used, ~is_positive(train.table))


def test_masked_labels_are_no_labels(train):
    one, other = train[:2], train[2:4]
    table = other.table.copy()
    table.remove_column("label")
    with pytest.raises(HaloInputError, match="every training cutout needs a label, 2 of 4"):
        training_labels(one.join(other.replace(table=table)).table)


# ------------------------------------------------------------------------------------------- the logistic

def test_the_logistic_is_where_its_error_is_least():
    rng = np.random.default_rng(1)
    features = rng.normal(3, [1, 50, 0.01], (300, 3))
    positive = rng.random(300) < 1 / (1 + np.exp(-(features[:, 0] - 3)))
    C = 0.5
    model = Logistic.fit(features, positive, C=C)
    # Derivatives of C * cross entropy + |w|^2 / 2 by the bias and by the weights vanish.
    wrong = model(features) - positive
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    assert abs(wrong.sum()) < 1e-3
    np.testing.assert_allclose(C * wrong @ standard, -model.weights, atol=1e-3)
    # The true slope is 1 a standard deviation; 300 draws know it to about 0.13, and the penalty pulls a little.
    assert model.weights[0] == pytest.approx(1, abs=0.45)


def test_what_does_not_vary_has_no_weight():
    rng = np.random.default_rng(2)
    features = np.stack([rng.normal(size=50), np.full(50, 0.1)], axis=1)
    model = Logistic.fit(features, features[:, 0] > 0, C=1.0)
    assert model.weights[1] == 0
    assert np.isfinite(model(np.array([[0.0, 1e9]]))).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_probability_rises_strictly(values):
    values = np.unique(np.round(values, 3))
    model = Logistic(np.zeros(1), np.ones(1), np.ones(1), np.zeros(1))
    probability = model(values[:, None])
    assert (np.diff(probability) > 0).all() and (probability > 0).all() and (probability < 1).all()


def test_weights_of_other_features():
    model = Logistic(np.zeros(2), np.ones(2), np.ones(2), np.zeros(1))
    with pytest.raises(HaloInputError, match="this model was trained on 2 numbers a cutout"):
        model(np.zeros((4, 3)))


def test_weights_have_an_identity(tmp_path):
    """A result says which weights made it: the same file, the same digits; other training, others."""
    one, other = (classifiers.create("features-lr", compact=False).fit(simulated_cutouts(24, rng=k)) for k in (1, 2))
    one.save(tmp_path / "one.safetensors")
    assert len(one.weights_id) == 16 and one.weights_id != other.weights_id
    assert classifiers["features-lr"].load(tmp_path / "one.safetensors").weights_id == one.weights_id
    assert classifiers.create("features-lr").weights_id == ""
