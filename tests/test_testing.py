"""Every model of our own keeps the contract; models that break it are found out."""

from __future__ import annotations

import inspect
import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from halopy import classifiers, generators
from halopy.classify import Classifier
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.generative import HaloGenerator
from halopy.testing import check_classifier, check_generator, simulated_cutouts


def _ours(registry):
    """The models that halopy's own distribution declares, whatever else is installed."""
    import importlib.metadata

    points = importlib.metadata.distribution("halopy-radio").entry_points
    return sorted({entry.name for entry in points if entry.group == registry.group})


SMALL = {"size": 16, "width": 8, "n_images": 96, "batch_size": 8}
"""Settings with which generators that learn do it in a moment."""


@pytest.mark.parametrize("name", [name for name in _ours(classifiers) if name != "gan-aided"])
def test_our_classifiers(name):
    check_classifier(name)


# stable-diffusion needs weights, and gan-aided a generator: tests of their own make them.
@pytest.mark.parametrize("name", [name for name in _ours(generators) if name != "stable-diffusion"])
def test_our_generators(name):
    known = inspect.signature(generators[name].__init__).parameters
    settings = SMALL if "width" in known else {}
    check_generator(generators.create(name, **settings, **({"steps": 3} if "steps" in known else {})))


@pytest.fixture
def example(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "tests" / "example_plugin"))
    import halopy_example

    yield halopy_example
    sys.modules.pop("halopy_example", None)


def test_the_examples(example):
    check_classifier(example.CentralPeak(half=4.0))
    check_generator(example.Rings(radius=12.0))


def test_simulated_cutouts():
    cutouts = simulated_cutouts(30, rng=2)
    assert cutouts.unit == u.Jy / u.beam
    assert cutouts.data.tobytes() == simulated_cutouts(30, rng=2).data.tobytes()
    labels = np.asarray(cutouts.table["label"])
    noise = cutouts.data[labels == "none"]
    assert noise.std() == pytest.approx(cutouts.table["rms"][0].value, rel=0.1)
    # Neighbours are correlated on the beam: exp(-2 ln 2 (pixel / FWHM)^2) for a Gaussian beam.
    correlation = np.mean(noise[:, :, 1:] * noise[:, :, :-1]) / np.mean(noise**2)
    assert correlation == pytest.approx(np.exp(-2 * np.log(2) * (28 / 122) ** 2), abs=0.03)
    # A halo stands out at the centre by 8 sigma or more.
    assert (cutouts.data[labels == "halo", 30:34, 30:34].max(axis=(1, 2)) > 5 * 0.008).all()
    assert len(simulated_cutouts(0)) == 0


class Good(Classifier):
    """Learns the mean brightness of its cutouts."""

    def __init__(self, *, scale=0.01):
        self.scale = scale
        self.level = np.zeros(1, np.float32)

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        self.level = np.array([cutouts.data.mean() + 1e-6 * rng.normal()], np.float32)

    def _predict_proba(self, cutouts):
        mean = cutouts.data.astype(float).mean(axis=(1, 2))
        return 1 / (1 + np.exp(-np.clip((mean - self.level[0]) / self.scale, -30, 30)))

    def _state(self):
        return {"level": self.level}

    def _set_state(self, state):
        super()._set_state(state)
        self.level = state["level"]


class KeepsNothing(Good):
    def _set_state(self, state):
        self.fitted_ = True


class ChangesSettings(Good):
    def __init__(self, *, scale=0.01):
        super().__init__(scale=scale)
        self.scale = 2 * scale


class TakesAnything(Good):
    def __init__(self, **settings):
        super().__init__()
        self.settings = settings


class ComparesWithinTheBatch(Good):
    def _predict_proba(self, cutouts):
        mean = np.nan_to_num(cutouts.data).mean(axis=(1, 2))
        return (mean >= mean.mean()).astype(float)


class WritesIntoItsInput(Good):
    def _predict_proba(self, cutouts):
        cutouts.data *= 2
        return super()._predict_proba(cutouts)


class DrawsGlobally(Good):
    def _fit(self, cutouts, **settings):
        np.random.normal()  # noqa: NPY002 (the mistake this is about)
        super()._fit(cutouts, **settings)


class StumblesOnNan(Good):
    def _predict_proba(self, cutouts):
        if np.isnan(cutouts.data).any():
            raise ValueError("NaN here")
        return super()._predict_proba(cutouts)


class ForgetsItsSeed(Good):
    def _fit(self, cutouts, *, rng, **settings):
        super()._fit(cutouts, rng=np.random.default_rng(), **settings)


class ReturnsAColumn(Good):
    def _predict_proba(self, cutouts):
        return super()._predict_proba(cutouts)[:, None]


class LeavesOneOut(Good):
    def _predict_proba(self, cutouts):
        return np.where(np.arange(len(cutouts)) == 0, np.nan, super()._predict_proba(cutouts))


class ReturnsNothing(Good):
    def fit(self, *arguments, **settings):
        super().fit(*arguments, **settings)


class NeedsNoTraining(Good):
    def predict_proba(self, cutouts):
        self.fitted_ = True
        return super().predict_proba(cutouts)


class NeedsNoGroups(Good):
    def fit(self, cutouts, **settings):
        table = QTable(cutouts.table, copy=True)
        table["group"] = ["one"] * len(table)
        return super().fit(cutouts.replace(table=table), **settings)


def test_a_good_classifier():
    check_classifier(Good())


@pytest.mark.parametrize(("cls", "text"), [
    (KeepsNothing, "a loaded model must give the same numbers"),
    (ChangesSettings, "the constructor must store 'scale' unchanged"),
    (TakesAnything, r"the constructor must name its settings, got \['settings'\]"),
    (ComparesWithinTheBatch, "must depend on its own cutout alone"),
    (WritesIntoItsInput, "predict_proba must not change its input"),
    (DrawsGlobally, "fit must leave numpy's global random generator alone"),
    (StumblesOnNan, "all NaN, all zero, constant, or half NaN raised ValueError: NaN here"),
    (ForgetsItsSeed, "fit with the same rng must give the same bytes"),
    (ReturnsAColumn, r"predict_proba raised ValueError: ReturnsAColumn._predict_proba must return shape \(24,\)"),
    (LeavesOneOut, "must be finite for cutouts full of data"),
    (ReturnsNothing, "fit must return self"),
    (NeedsNoTraining, "a model that was not trained must raise NotFittedError, raised nothing"),
    (NeedsNoGroups, "fit without a column 'group' must raise HaloInputError, raised nothing"),
])
def test_a_classifier_that_breaks_its_promise(cls, text):
    with pytest.raises(AssertionError, match=f"{cls.__name__}: .*{text}"):
        check_classifier(cls())


class Blobs(HaloGenerator):
    trainable = False

    def _sample(self, conditions, rng):
        return rng.normal(size=(len(conditions), 8, 8))


class ByBrightness(Blobs):
    conditions = ("label", "peak_snr")


class OfSomePeak(Blobs):
    """Peaks that may be asked for."""

    optional_conditions = ("peak",)

    def _sample(self, conditions, rng):
        n = len(conditions)
        peak = rng.uniform(5, 9, n)
        if "peak" in conditions.colnames:
            peak = np.where(np.isnan(conditions["peak"]), peak, conditions["peak"])
        data = rng.normal(size=(n, 8, 8))
        data[:, 4, 4] = peak
        return CutoutSet(data, QTable({"peak": peak, "own": np.arange(n)}), unit="Jy", meta={"made": "so"})


class ForgetsNan(OfSomePeak):
    def _sample(self, conditions, rng):
        made = super()._sample(conditions, rng)
        return made.replace(data=made.data + ("peak" in conditions.colnames))


class BreaksWhenAsked(OfSomePeak):
    def _sample(self, conditions, rng):
        made = super()._sample(conditions, rng)
        asked = "peak" in conditions.colnames and np.isfinite(conditions["peak"]).any()
        return made.replace(data=made.data + (np.nan if asked else 0))


class ChecksNothing(OfSomePeak):
    def sample(self, n, *, conditions=None, **settings):
        if conditions is not None and "peak" in conditions.colnames:
            conditions = conditions.copy()
            conditions["peak"][np.isinf(conditions["peak"])] = np.nan
        return super().sample(n, conditions=conditions, **settings)


class TakesItBack(OfSomePeak):
    def sample(self, n, **settings):
        made = super().sample(n, **settings)
        made.table["peak"] = -made.table["peak"]
        return made


class MakesNoneOfNone(Blobs):
    def _sample(self, conditions, rng):
        return np.stack([rng.normal(size=(8, 8)) for _ in range(len(conditions))])


class HasItsOwnSeed(Blobs):
    def _sample(self, conditions, rng):
        return np.random.default_rng(0).normal(size=(len(conditions), 8, 8))


class HasNoSeed(Blobs):
    def _sample(self, conditions, rng):
        return np.random.default_rng().normal(size=(len(conditions), 8, 8))


class HasHoles(Blobs):
    def _sample(self, conditions, rng):
        return np.full((len(conditions), 8, 8), np.nan)


def test_a_good_generator():
    check_generator(Blobs())
    check_generator(ByBrightness(), conditions=QTable({"label": ["halo", "orc"], "peak_snr": [3.0, 4.0]}))
    check_generator(OfSomePeak())


def test_what_is_asked_for_and_what_is_drawn():
    """Given values are kept, NaN and masked ones are drawn; what the generator adds stays beside them."""
    wanted = QTable({"label": ["halo"] * 3, "peak": np.ma.MaskedArray([6, 7, 8], mask=[False, True, False])})
    made = OfSomePeak().sample(3, conditions=wanted, rng=1)
    assert made.unit == u.Jy and made.meta == {"made": "so"} and made.table["own"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(made.table["peak"], made.data[:, 4, 4], rtol=1e-6)
    assert made.table["peak"][0] == 6 and made.table["peak"][2] == 8 and 5 <= made.table["peak"][1] <= 9
    assert set(made.table["group"]) == {"generated"} and made.table["label"].tolist() == ["halo"] * 3
    free = OfSomePeak().sample(3, label="relic", rng=1)
    assert set(free.table["label"]) == {"relic"} and (free.table["peak"] <= 9).all()


@pytest.mark.parametrize(("peak", "text"), [
    (["a", "b"], "must be a column of numbers"), ([1.0, np.inf], "must be finite, or NaN where it is to be drawn"),
    (np.ones((2, 2)), "must be finite, or NaN")])
def test_optional_conditions_that_cannot_be(peak, text):
    with pytest.raises(HaloInputError, match=text):
        OfSomePeak().sample(2, conditions=QTable({"label": ["halo", "none"], "peak": peak}))


@pytest.mark.parametrize(("cls", "text"), [
    (ByBrightness, r"give check_generator conditions= with the column\(s\) \['peak_snr'\]"),
    (MakesNoneOfNone, r"sample\(0\) raised ValueError"),
    (HasItsOwnSeed, "another rng must make other images"),
    (HasNoSeed, "the same rng must make the same bytes"),
    (HasHoles, "must make 6 images of finite pixels"),
    (ForgetsNan, "NaN in the optional condition 'peak' must be the same as no such column"),
    (BreaksWhenAsked, "sample with a given peak must make finite pixels"),
    (ChecksNothing, "sample with an infinite peak must raise HaloInputError, raised nothing"),
    (TakesItBack, "the table of sample must have the peak that was asked for"),
])
def test_a_generator_that_breaks_its_promise(cls, text):
    with pytest.raises(AssertionError, match=f"{cls.__name__}: .*{text}"):
        check_generator(cls())


def test_the_other_kind_of_model():
    with pytest.raises(AssertionError, match="must be an instance of HaloGenerator"):
        check_generator(Good())
