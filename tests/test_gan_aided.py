"""The classifier that a generator aids: what each part learns from, what is told to whom, and what is refused."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from halopy import classifiers, generators
from halopy.classify.dense import DenseClassifier
from halopy.classify.evaluate import cross_validate, evaluate, seen_groups
from halopy.classify.gan_aided import GanAided, images_like
from halopy.classify.training import NetworkClassifier
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, HalopyWarning, NotFittedError, PluginError, UnknownModelError
from halopy.generative import HaloGenerator
from halopy.labels import is_positive
from halopy.model import group_hashes
from halopy.preprocess.clip import clip
from halopy.registry import Registry
from halopy.testing import check_classifier, simulated_cutouts

SMALL = {"size": 16, "width": 8, "latent": 4, "batch_size": 4, "n_images": 16}
# So short a training makes no two images that differ, which a generator says.
pytestmark = pytest.mark.filterwarnings("ignore:the generator has collapsed")


class Twin(HaloGenerator):
    """Paints a blob for a halo, at once; its critic sees the middle of an image and its scatter."""

    text_conditions = ("grade",)
    fits = []

    def __init__(self, *, size=16, pixels_per_beam=None, fake=False):
        self.size = size
        self.pixels_per_beam = pixels_per_beam
        self.fake = fake

    def critic_features(self, cutouts):
        middle = slice(self.size // 2 - 2, self.size // 2 + 2)
        shown = np.isfinite(cutouts.data).any(axis=(1, 2)) & (np.nanmax(cutouts.data, axis=(1, 2), initial=-9)
                                                             > np.nanmin(cutouts.data, axis=(1, 2), initial=9))
        data = np.nan_to_num(cutouts.data.astype(float))
        found = np.stack([data[:, middle, middle].mean(axis=(1, 2)), data.std(axis=(1, 2))], axis=1)
        return np.where(shown[:, None], found, np.nan)

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        assert np.isfinite(cutouts.data).all()
        Twin.fits.append({"groups": set(np.asarray(cutouts.table["group"]).tolist()), "n": len(cutouts),
                          "seed": int(rng.integers(2**31)), "max_seconds": max_seconds, "max_images": max_images,
                          "checkpoint": checkpoint, "progress": progress})
        self.level = np.array([cutouts.data.mean()])

    def _sample(self, conditions, rng):
        positive = is_positive(conditions[["label"]])
        self.asked = conditions
        return painted(~positive if self.fake else positive, self.size, rng)

    def _state(self):
        return {"level": self.level} if self.fitted_ else {}

    def _set_state(self, state):
        if state:
            super()._set_state(state)
            self.level = state["level"]


class Plain(HaloGenerator):
    """Needs no training and has no critic."""

    trainable = False

    def _sample(self, conditions, rng):
        return painted(is_positive(conditions[["label"]]), 16, rng)


class Blind(Plain):
    """Cannot be told what to make."""

    conditions = ()


class Worried(Twin):
    """Warns as a generator does."""

    def _fit(self, cutouts, **settings):
        super()._fit(cutouts, **settings)
        warnings.warn("the generator is worried", HalopyWarning, stacklevel=2)


def painted(positive, size, rng):
    """Noise of unit rms, with a blob of four sigma in the middle of some."""
    y, x = np.indices((size, size)) - (size - 1) / 2
    data = rng.normal(size=(len(positive), size, size))
    return data + 4 * np.asarray(positive)[:, None, None] * np.exp(-(x**2 + y**2) / (2 * (size / 8) ** 2))


def blobs(n=40, *, rng=0, shown=True):
    """Every second cutout of 16 × 16 pixels is called a halo, and shows one unless it is not to be ``shown``.

    Two cutouts a group.
    """
    positive = np.arange(n) % 2 == 1
    data = painted(positive & shown, 16, np.random.default_rng(rng))
    table = QTable({"label": np.where(positive, "halo", "none"), "rms": np.ones(n),
                    "group": np.array([f"group {i // 2}" for i in range(n)], dtype=str)})
    return CutoutSet(data, table)


def aided(mode="features", *, generator=None, **settings):
    """A small classifier of blobs."""
    generator = Twin() if generator is None else generator
    if mode == "images":
        settings = {"max_epochs": 4} | settings
    return GanAided(mode=mode, generator=generator, size=16, pixels_per_beam=None, **settings)


def fitted(*arguments, cutouts=None, rng=1, **settings):
    return aided(*arguments, **settings).fit(blobs() if cutouts is None else cutouts, rng=rng, progress=False)


def area(probability, positive):
    """Under the ROC curve: how often a positive is above a negative."""
    difference = probability[positive][:, None] - probability[~positive][None]
    return np.mean((difference > 0) + 0.5 * (difference == 0))


def with_column(cutouts, **columns):
    table = cutouts.table.copy()
    for name, values in columns.items():
        table[name] = values
    return cutouts.replace(table=table)


def elsewhere(cutouts):
    return with_column(cutouts, group=[f"elsewhere {i}" for i in range(len(cutouts))])


@pytest.fixture(autouse=True)
def _no_fits():
    Twin.fits.clear()


# --------------------------------------------------------------------------------------------- contract

def test_it_is_found_by_name():
    assert classifiers["gan-aided"] is GanAided


@pytest.mark.parametrize("settings", [
    {"generator": "sngan"}, {"generator": "cwgan"}, {"mode": "images", "generator": "sngan"},
    {"mode": "images", "generator": "exponential"},
], ids=lambda settings: "-".join(settings.values()))
def test_contract(settings):
    name = settings["generator"]
    small = {"shape": (24, 24), "background": False} if name == "exponential" else SMALL
    generator = generators.create(name, **small)
    check_classifier(classifiers.create("gan-aided", **settings | {"generator": generator}, max_epochs=2, size=16))


@pytest.mark.parametrize(("settings", "small"), [
    ({"mode": "features"}, {"size": 32, "n_images": 160}),
    ({"mode": "images", "max_epochs": 30, "size": 32}, {"size": 32}),
], ids=["features", "images"])
def test_bright_halos_are_told_from_noise_and_sources(settings, small):
    # Halos of 8 to 20 times the noise, and point sources as bright: nearly all can be told.
    train, test = simulated_cutouts(90, rng=1), simulated_cutouts(90, rng=2)
    model = GanAided(generator=generators.create("sngan", **SMALL | small), **settings)
    model.fit(train, rng=1, progress=False)
    assert area(model.predict_proba(test), is_positive(test.table)) > 0.9


@pytest.mark.parametrize("mode", ["features", "images"])
def test_one_seed_one_file(mode, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        model = fitted(mode, generator=generators.create("sngan", **SMALL, pixels_per_beam=None), rng=seed)
        model.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


# ------------------------------------------------------------------------------------- who learns from what

def test_a_generator_by_name_gets_the_settings():
    model = GanAided(generator="sngan", generator_images=8, size=16, pixels_per_beam=None)
    model.fit(blobs(), rng=1, progress=False)
    assert isinstance(model.generator_, generators["sngan"])
    assert (model.generator_.n_images, model.generator_.size, model.generator_.pixels_per_beam) == (8, 16, None)
    assert model.generator_.device == "cpu"
    assert model.history is model.generator_.history
    model = GanAided(generator="sngan", generator_images=None, size=16, pixels_per_beam=None)
    model.fit(blobs(), rng=1, progress=False, max_images=8)
    assert model.generator_.n_images == generators.create("sngan").n_images


def test_features_come_from_a_generator_that_learned_from_all_cutouts_and_no_others():
    model = fitted()
    (fit,) = Twin.fits
    assert fit["groups"] == set(blobs().table["group"]) and fit["n"] == 40
    assert model.groups_ == tuple(group_hashes(blobs().table["group"]))


def test_neither_generator_nor_images_know_the_groups_that_stop_the_network(monkeypatch):
    calls = []
    train = NetworkClassifier._train

    def spy(self, run, inputs, targets, held_out, *limits, **more):
        calls.append((inputs, held_out))
        return train(self, run, inputs, targets, held_out, *limits, **more)

    monkeypatch.setattr(NetworkClassifier, "_train", spy)
    cutouts = blobs()
    fitted("images", generated=2.0)
    ((inputs, held_out),) = calls
    unseen = set(cutouts.table["group"][held_out[:40]])
    # A fifth of the twenty groups; all hold one halo and one other.
    assert len(unseen) == 4 and held_out[:40].sum() == 8
    assert Twin.fits[0]["groups"] == set(cutouts.table["group"]) - unseen
    # Two images for each of the 32 others, and all of them are trained on.
    assert len(inputs) == 40 + 2 * 32 and not held_out[40:].any()


def test_the_network_learns_from_the_images():
    # The cutouts show noise alone, whatever they are called: only the images can tell what a halo is.
    test = blobs(rng=5)
    areas = {}
    for each in (0.0, 4.0):
        model = fitted("images", cutouts=blobs(80, shown=False), generated=each, max_epochs=12)
        areas[each] = area(model.predict_proba(test), is_positive(test.table))
    assert areas[4.0] > 0.95
    assert areas[0.0] < 0.9
    wrong = fitted("images", generator=Twin(fake=True), cutouts=blobs(80, shown=False), generated=4.0, max_epochs=12)
    assert area(wrong.predict_proba(test), is_positive(test.table)) < 0.05


@pytest.mark.parametrize("mode", ["features", "images"])
def test_cutouts_that_are_not_full_are_kept_from_the_generator_alone(mode, monkeypatch):
    cutouts = blobs()
    data = cutouts.data.copy()
    data[::10, 0, 0] = np.nan
    counts = []
    if mode == "images":
        train = NetworkClassifier._train
        monkeypatch.setattr(NetworkClassifier, "_train", lambda self, run, inputs, *rest, **more: (
            counts.append(len(inputs)), train(self, run, inputs, *rest, **more))[1])
    model = fitted(mode, cutouts=cutouts.replace(data=data), generated=0)
    lacking = set(cutouts.table["group"][::10])
    assert Twin.fits[0]["n"] == 36 if mode == "features" else Twin.fits[0]["n"] < 36
    assert counts == ([40] if mode == "images" else [])
    # What is left of their groups may be learned from; and all groups were seen by the classifier.
    assert set(group_hashes(list(lacking))) < set(model.groups_)


@pytest.mark.parametrize("mode", ["features", "images"])
def test_what_shows_nothing_has_no_probability_and_teaches_nothing(mode):
    cutouts = blobs()
    data = cutouts.data.copy()
    data[1], data[3] = np.nan, 0
    model = fitted(mode, cutouts=cutouts.replace(data=data))
    bad = blobs(6, rng=3).data
    bad[0], bad[2] = np.nan, 0
    probability = model.predict_proba(blobs(6, rng=3).replace(data=bad))
    np.testing.assert_array_equal(np.isnan(probability), [True, False, True, False, False, False])
    kept = fitted(mode, cutouts=cutouts[np.setdiff1d(np.arange(40), [1, 3])])
    np.testing.assert_array_equal(kept.predict_proba(cutouts), model.predict_proba(cutouts))


@pytest.mark.parametrize("mode", ["features", "images"])
def test_halos_of_other_grades_are_left_out(mode):
    grade = np.where(np.arange(40) % 8 == 1, "candidate", "confirmed")
    cutouts = with_column(blobs(), grade=grade)
    model = fitted(mode, cutouts=cutouts, grades=("confirmed",))
    other = fitted(mode, cutouts=cutouts[grade == "confirmed"], grades=("confirmed",))
    np.testing.assert_array_equal(model.predict_proba(blobs(rng=2)), other.predict_proba(blobs(rng=2)))
    assert Twin.fits[0]["groups"] == Twin.fits[1]["groups"] and Twin.fits[0]["n"] == Twin.fits[1]["n"]


def test_the_generator_that_is_given_is_left_alone():
    generator = Twin()
    model = fitted(generator=generator)
    assert not generator.fitted_ and model.generator_.fitted_ and model.generator is generator
    trained = Twin().fit(elsewhere(blobs(10)))
    assert fitted(generator=trained).generator_ is trained


def test_warnings_of_the_generator_are_heard_but_that_of_clipped_images():
    with pytest.warns(HalopyWarning, match="the generator is worried"):
        fitted(generator=Worried())
    clipped = clip(blobs(), low=-2.5, high=2.5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = fitted(generator=generators.create("sngan", **SMALL, pixels_per_beam=None), cutouts=clipped)
    assert not any("clipped" in str(one.message) for one in caught)
    assert np.isfinite(model.predict_proba(clipped)).all()


# ------------------------------------------------------------------------------------------ generated images

def test_images_have_the_labels_and_grades_of_the_cutouts():
    cutouts = with_column(blobs(10), grade=["candidate", "confirmed"] * 5)
    generator = Twin().fit(cutouts)
    made = images_like(cutouts, generator, 2.0, rng=1)
    for name in ("label", "grade"):
        np.testing.assert_array_equal(np.sort(generator.asked[name]), np.sort(np.tile(cutouts.table[name], 2)))
    np.testing.assert_array_equal(made.table["label"], generator.asked["label"])
    # Half an image each: of five cutouts drawn at random, and no others.
    assert len(images_like(cutouts, generator, 0.5, rng=1)) == 5
    assert len(images_like(cutouts, generator, 1.5, rng=1)) == 15
    assert len(images_like(cutouts, generator, 0.0, rng=1)) == 0


def test_what_a_generator_cannot_make_is_left_out():
    # The simulator knows no "other"; a trained one knows what it has seen.
    generator = generators.create("exponential", shape=(16, 16))
    cutouts = with_column(blobs(6), label=["halo", "other", "none", "halo", "other", "none"])
    with pytest.warns(HalopyWarning, match="no generated images of 'other': a scene has one of the labels"):
        made = images_like(cutouts, generator, 2.0, rng=1)
    assert sorted(made.table["label"].tolist()) == ["halo"] * 4 + ["none"] * 4
    cutouts = with_column(blobs(6), grade=["confirmed", "candidate"] * 2 + ["confirmed"] * 2)
    generator = generators.create("sngan", **SMALL, pixels_per_beam=None).fit(cutouts[:4], rng=1)
    with pytest.warns(HalopyWarning, match="no generated images of 'halo confirmed': this generator has not seen such"):
        assert len(images_like(cutouts, generator, 1.0, rng=1)) == 5
    with pytest.raises(HaloInputError, match="this generator has not seen such images in its training"):
        images_like(cutouts[5], generator, 1.0, rng=1)


def test_images_that_do_not_say_how_they_were_observed_were_observed_like_their_cutouts():
    cutouts = blobs(10)
    cutouts = with_column(cutouts, rms=np.arange(1, 11) * u.mJy).replace(unit=u.mJy)
    made = images_like(cutouts, Plain(), 1.0, rng=1)
    assert made.unit == u.mJy
    np.testing.assert_array_equal(made.table["rms"], cutouts.table["rms"])
    table = cutouts.table.copy()
    table.remove_column("rms")
    made = images_like(cutouts.replace(table=table), Plain(), 1.0, rng=1)
    # Each has noise of 1, and some a blob on top of it.
    np.testing.assert_allclose(made.table["rms"].value, 1, atol=0.5)


@pytest.mark.parametrize("low", [-3.0, None])
def test_images_are_clipped_as_the_cutouts_are(low):
    made = images_like(clip(blobs(), low=low, high=3.0), Plain(), 1.0, rng=1)
    left = made.data[made.data != 0]
    # The faintest pixels that are left of the cutouts tell the level to about a tenth of the noise.
    assert 3 <= np.abs(left).min() < 3.3
    # Of 40 images of 256 pixels of noise, 14 pixels are below -3 sigma.
    assert (left < 0).any() == (low is not None)
    assert (images_like(blobs(), Plain(), 1.0, rng=1).data != 0).all()


# ------------------------------------------------------------------------------------------------- leakage

@pytest.mark.parametrize("mode", ["features", "images"])
def test_the_generator_is_trained_in_each_fold(mode):
    scores = cross_validate(aided(mode, max_epochs=1), blobs(), folds=4, seeds=1, rng=1)
    assert len(Twin.fits) == 4
    for fold, fit in enumerate(Twin.fits):
        assert fit["groups"].isdisjoint(scores["group"][scores["fold"][:, 0] == fold])


def test_sky_that_the_generator_has_seen_is_not_scored():
    cutouts = blobs()
    generator = Twin().fit(cutouts[:4])
    with pytest.raises(HaloInputError, match="GanAided has been trained on 2 of the groups"):
        cross_validate(aided(generator=generator), cutouts)
    for mode in ("features", "images"):
        model = fitted(mode, generator=generator, cutouts=cutouts[10:])
        # Also where the settings are not looked into.
        assert set(group_hashes(["group 0", "group 1"])) < set(model.groups_)
        with pytest.raises(HaloInputError, match="trained on 1 of the groups that it would be scored on.*group 1"):
            evaluate(model, cutouts[2:10])
        assert len(evaluate(model, cutouts[4:10])) == 6
    # One of other sky is used as it is.
    generator = Twin().fit(elsewhere(cutouts))
    Twin.fits.clear()
    assert len(cross_validate(aided(generator=generator), cutouts, folds=4, seeds=1, rng=1)) == 40
    assert Twin.fits == []


# --------------------------------------------------------------------------------- limits and checkpoints

def test_limits_are_for_each_training(tmp_path):
    aided().fit(blobs(), rng=1, progress=False, max_images=7, max_seconds=100, checkpoint=tmp_path / "run.safetensors")
    expected = {"max_images": 7, "max_seconds": 100, "checkpoint": tmp_path / "run.safetensors", "progress": False}
    assert Twin.fits[0] | expected == Twin.fits[0]
    model = aided("images").fit(blobs(), rng=1, progress=False, max_images=7, max_seconds=100)
    assert Twin.fits[1] | {"max_images": 7, "max_seconds": 80, "checkpoint": None} == Twin.fits[1]
    assert model.history["epoch"].tolist() == [1]
    assert model.history is model.network_.history
    # However little time there is, both parts have seen something.
    assert len(aided("images").fit(blobs(), rng=1, progress=False, max_seconds=0).history) == 1


def test_a_run_continues_to_the_same_bytes(tmp_path, monkeypatch):
    generator = generators.create("sngan", **SMALL, pixels_per_beam=None)
    path = tmp_path / "run.safetensors"

    def run():
        return aided("images", generator=generator).fit(blobs(), rng=1, progress=False, checkpoint=path)

    fitted("images", generator=generator).save(tmp_path / "whole")
    fit = DenseClassifier.fit

    def killed(self, *arguments, **settings):
        fit(self, *arguments, **settings | {"max_images": 50})
        raise KeyboardInterrupt

    monkeypatch.setattr(DenseClassifier, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run-network.safetensors", "run.safetensors", "whole"]
    monkeypatch.setattr(DenseClassifier, "fit", fit)
    run().save(tmp_path / "continued")
    assert (tmp_path / "continued").read_bytes() == (tmp_path / "whole").read_bytes()


def test_without_a_generator_to_train_the_checkpoint_is_the_networks(tmp_path):
    path = tmp_path / "run.safetensors"
    aided("images", generator=Plain()).fit(blobs(), rng=1, progress=False, checkpoint=path)
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors"]
    # Other images make another run.
    with pytest.raises(HaloInputError, match="this checkpoint is of another run, with another.* cutouts"):
        aided("images", generator=Plain(), generated=2).fit(blobs(), rng=1, progress=False, checkpoint=path)


# ------------------------------------------------------------------------------------------------- files

@pytest.mark.parametrize("mode", ["features", "images"])
def test_one_file_holds_all(mode, tmp_path):
    model = GanAided(mode=mode, generator="sngan", generator_images=8, size=16, pixels_per_beam=None, max_epochs=2)
    model.fit(blobs(), rng=1, progress=False)
    model.save(tmp_path / "a.safetensors")
    loaded = GanAided.load(tmp_path / "a.safetensors")
    one, other = (m.generator_.sample(3, label="halo", rng=1) for m in (model, loaded))
    assert one.data.tobytes() == other.data.tobytes()
    assert loaded.generator_.groups_ == model.generator_.groups_ and loaded.groups_ == model.groups_
    assert loaded.history["critic_loss" if mode == "features" else "train_loss"].tolist() == \
        model.history["critic_loss" if mode == "features" else "train_loss"].tolist()
    # The parts are models of their own.
    loaded.generator_.save(tmp_path / "b.safetensors")
    assert generators["sngan"].load(tmp_path / "b.safetensors").groups_ == model.generator_.groups_
    if mode == "images":
        loaded.network_.save(tmp_path / "c.safetensors")
        network = DenseClassifier.load(tmp_path / "c.safetensors")
        np.testing.assert_array_equal(network.predict_proba(blobs(rng=2)), model.predict_proba(blobs(rng=2)))
        assert set(network.groups_) == set(model.groups_)


@pytest.mark.parametrize("mode", ["features", "images"])
def test_a_generator_that_was_trained_before_is_in_the_file_once(mode, tmp_path):
    model = fitted(mode, generator=Twin().fit(elsewhere(blobs(10))))
    model.save(tmp_path / "a.safetensors")
    loaded = GanAided.load(tmp_path / "a.safetensors")
    assert loaded.generator_ is loaded.generator and loaded.generator_.groups_ == model.generator.groups_
    np.testing.assert_array_equal(loaded.predict_proba(blobs()), model.predict_proba(blobs()))
    assert seen_groups(loaded) == seen_groups(model)
    assert not any(name.startswith("trained.generator") for name in model._state())


def test_one_that_was_not_trained_is_saved_as_such(tmp_path):
    aided().save(tmp_path / "a.safetensors")
    loaded = GanAided.load(tmp_path / "a.safetensors")
    assert loaded.history is None
    with pytest.raises(NotFittedError, match="must be trained with fit"):
        loaded.predict_proba(blobs())


def _parts(**trees):
    return np.frombuffer(json.dumps(trees).encode(), dtype=np.uint8)


@pytest.mark.parametrize(("mode", "change", "text"), [
    ("features", lambda state: state.clear(), "a trained classifier has arrays, and this file has none of them"),
    ("features", lambda state: state.pop("parts"), "an array is missing.*parts"),
    ("features", lambda state: state.pop("logistic.bias"), "an array is missing.*logistic.bias"),
    ("features", lambda state: state.update(more=np.zeros(1)), "an array belongs to no part of this classifier.*more"),
    ("features", lambda state: state.update(parts=_parts()), "this file has no trained generator"),
    ("images", lambda state: state.update(parts=_parts(generator=json.loads(bytes(state["parts"]))["generator"])),
     "this file has no trained network"),
])
def test_a_broken_file_is_refused(mode, change, text):
    model = fitted(mode)
    state = model._state()
    change(state)
    broken = aided(mode)
    broken.fitted_ = True
    with pytest.raises(HaloInputError, match=text):
        broken._set_state(state)


# ---------------------------------------------------------------------------------------- what is refused

@pytest.mark.parametrize(("settings", "text"), [
    ({"mode": "pixels"}, "mode must be 'features' or 'images'"),
    ({"C": 0.0}, "C must be positive: the inverse strength of the penalty"),
    ({"generated": -1.0}, "generated must be a number of images for each cutout"),
    ({"generated": np.nan}, "generated must be a number of images for each cutout"),
    ({"generator_images": 0}, "generator_images must be a whole number of 1 or more, or None"),
    ({"generator_images": True}, "generator_images must be a whole number of 1 or more, or None"),
    ({"generator": 3}, "generator must be a name or a generator.*int"),
    ({"generator": DenseClassifier()}, "generator must be a name or a generator.*DenseClassifier"),
    ({"generator": "exponential"}, "needs a generator with a critic.*found 'Exponential'.*cwgan, sngan, or mode"),
    ({"generator": Plain()}, "needs a generator with a critic.*found 'Plain'"),
    ({"mode": "images", "generator": Blind()}, "mode='images' needs a generator that makes images of a label"),
    ({"mode": "images", "max_epochs": 0}, "max_epochs must be a whole number of 1 or more"),
    ({"grades": ("good",)}, "a grade is one of"),
])
def test_settings_that_cannot_be(settings, text):
    model = GanAided(**{"generator": Twin(), "size": 16, "pixels_per_beam": None} | settings)
    with pytest.raises(HaloInputError, match=text):
        model.fit(blobs(), rng=1, progress=False)
    # All of it is said before anything is trained.
    assert Twin.fits == []


def test_a_generator_that_is_not_installed(monkeypatch):
    with pytest.raises(UnknownModelError, match="no model 'cwgen' in halopy.generators; did you mean 'cwgan'"):
        GanAided(generator="cwgen").fit(blobs(), rng=1)
    # Those that cannot be imported are passed over where names are needed.
    load = Registry._load

    def broken(self, entry):
        if entry.name == "cwgan":
            raise PluginError("broken")
        return load(self, entry)

    monkeypatch.setattr(Registry, "_load", broken)
    with pytest.raises(HaloInputError, match="generator one of sngan, or mode='images'"):
        GanAided(generator=Plain()).fit(blobs(), rng=1)


def test_cutouts_that_cannot_be_learned_from():
    halos = blobs()[is_positive(blobs().table)]
    with pytest.raises(HaloInputError, match="training needs cutouts with and without a halo that can be scored"):
        fitted(cutouts=halos)
    data = blobs().data.copy()
    data[:, 0] = np.nan
    with pytest.raises(HaloInputError, match="the generator learns from cutouts full of data, and there are none"):
        fitted(cutouts=blobs().replace(data=data))
    # One that has been trained needs none of them.
    assert len(fitted(generator=Twin().fit(elsewhere(blobs())), cutouts=blobs().replace(data=data)).groups_) == 60


def test_flags_follow_the_grid_that_is_looked_at():
    cutouts = simulated_cutouts(24)
    model = GanAided(generator=Twin(size=64), size=64).fit(cutouts, rng=1)
    other = GanAided(generator=Twin(size=64, pixels_per_beam=3.0), size=64).fit(cutouts, rng=1)
    finer = with_column(cutouts, pixel_scale=cutouts.table["pixel_scale"] / 2)
    # A critic of the cutouts' own pixels has never seen so many of them to a beam.
    assert set(model.flags(finer)) == {"pixels-outside-training"}
    assert set(other.flags(finer)) == {""}
