"""Training of the networks: what is held out, what repeats, what continues after a crash, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from astropy.table import QTable
from safetensors import safe_open
from safetensors.numpy import save_file

from halopy.classify.base import Classifier
from halopy.classify.cnn import ConvolutionalClassifier
from halopy.classify.dense import DenseClassifier
from halopy.classify.held_out import COLUMNS, validation_rows
from halopy.classify.prevalence import Prevalence
from halopy.classify.run import Run
from halopy.classify.training import NetworkClassifier
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, NotFittedError

TINY = {"size": 16, "pixels_per_beam": None, "width": 4, "views": 1, "batch_size": 8, "max_epochs": 4}


def blobs(n=40, *, size=16, rng=0, contrast=4.0, groups=None):
    """Every second cutout has a blob in the middle of white noise; two cutouts a group."""
    rng = np.random.default_rng(rng)
    y, x = np.indices((size, size)) - (size - 1) / 2
    label = np.where(np.arange(n) % 2, "halo", "none")
    data = rng.normal(size=(n, size, size))
    data[1::2] += contrast * np.exp(-(x**2 + y**2) / (2 * (size / 8) ** 2))
    groups = np.arange(n) % (n // 2) if groups is None else groups
    return CutoutSet(data, QTable({"label": label, "group": np.asarray(groups).astype(str), "rms": np.ones(n)}))


def saved(model, folder, name="model.safetensors"):
    model.save(folder / name, overwrite=True)
    return (folder / name).read_bytes()


class Crash(Exception):
    pass


def crash_after(monkeypatch, epochs):
    """Die in the middle of the epoch after so many."""
    steps = {"left": epochs * 4 + 2}
    step = Run.step

    def dying(self, *arguments):
        steps["left"] -= 1
        if steps["left"] < 0:
            raise Crash
        return step(self, *arguments)

    monkeypatch.setattr(Run, "step", dying)


# -------------------------------------------------------------------------------------- held-out groups

@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_no_group_is_on_both_sides(fraction):
    rng = np.random.default_rng(1)
    groups = rng.integers(30, size=200)
    targets = (groups % 3 == 0).astype(np.float32)
    held_out = validation_rows(targets, groups, fraction, np.random.default_rng(2))
    assert set(groups[held_out]) & set(groups[~held_out]) == set()
    assert set(targets[held_out]) == set(targets[~held_out]) == {0, 1}


def test_a_fifth_of_the_groups_of_each_kind():
    groups = np.repeat(np.arange(50), 3)
    targets = (groups < 10).astype(np.float32)
    held_out = validation_rows(targets, groups, 0.2, np.random.default_rng(1))
    assert len(set(groups[held_out & (targets == 1)])) == 2
    assert len(set(groups[held_out & (targets == 0)])) == 8


@pytest.mark.parametrize(("groups", "targets"), [
    ([0, 0, 1, 1], [1, 1, 0, 0]),     # one group of each kind
    ([0, 1, 1], [1, 1, 0]),           # without group 1 there is no other
    ([0, 0], [1, 0]),
])
def test_training_keeps_both_kinds(groups, targets):
    targets = np.array(targets, dtype=np.float32)
    held_out = validation_rows(targets, np.array(groups), 0.5, np.random.default_rng(1))
    assert set(targets[~held_out]) == {0, 1}


def test_nothing_held_out():
    model = ConvolutionalClassifier(**TINY, validation_fraction=0).fit(blobs(), rng=1, progress=False)
    assert model.history.colnames == ["epoch", "train_loss", "train_accuracy"]
    assert model.history["epoch"].tolist() == [1, 2, 3, 4]


def test_it_stops_when_held_out_groups_no_longer_gain():
    # Labels that mean nothing: no epoch can go on to do better on groups that were not seen.
    cutouts = blobs(contrast=0.0)
    settings = TINY | {"max_epochs": 60, "learning_rate": 0.01, "augment": False, "width": 8}
    model = ConvolutionalClassifier(**settings, patience=3).fit(cutouts, rng=1, progress=False)
    loss = model.history["validation_loss"]
    assert len(loss) < 60
    assert len(loss) - 1 - np.flatnonzero(loss == loss.min())[-1] == 3


def test_the_best_epoch_is_kept(monkeypatch):
    kept = []
    end = Run.end_epoch

    def spy(self, row, images):
        end(self, row, images)
        kept.append({k: v.clone() for k, v in self.network.state_dict().items()})

    monkeypatch.setattr(Run, "end_epoch", spy)
    settings = TINY | {"max_epochs": 8, "learning_rate": 0.02, "augment": False}
    model = ConvolutionalClassifier(**settings).fit(blobs(contrast=0.3), rng=1, progress=False)
    best = int(np.argmin(model.history["validation_loss"]))
    for name, tensor in model._module.state_dict().items():
        assert torch.equal(tensor, kept[best][name]), name


def test_halos_of_other_grades_are_left_out():
    cutouts = blobs()
    cutouts.table["grade"] = np.where(np.arange(40) % 4 == 1, "candidate", "confirmed")
    model = ConvolutionalClassifier(**TINY, grades=["confirmed"])
    _, targets, groups = model._examples(cutouts)
    assert (targets == 1).sum() == 10 and (targets == 0).sum() == 20
    assert len(groups) == 30


# ------------------------------------------------------------------------------------------ the same bytes

def test_one_seed_one_file(tmp_path):
    cutouts = blobs()
    first, second, other = (ConvolutionalClassifier(**TINY).fit(cutouts, rng=rng, progress=False) for rng in (1, 1, 2))
    assert saved(first, tmp_path) == saved(second, tmp_path)
    assert saved(first, tmp_path) != saved(other, tmp_path)


def test_the_optimiser_is_adamw():
    """Against torch's own, whose formula is that of the paper."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(1)
    mine, theirs = (torch.nn.Sequential(torch.nn.Linear(5, 1), torch.nn.Flatten(0)) for _ in range(2))
    theirs.load_state_dict(mine.state_dict())
    run = Run(mine, 0.01, 0.1)
    adamw = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(10):
        images, targets = torch.randn(8, 5), (torch.rand(8) > 0.5).float()
        run.step(images, targets, torch.ones(2))
        adamw.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(theirs(images), targets).backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        adamw.step()
    torch.set_rng_state(torch_state)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert a.detach().numpy() == pytest.approx(b.detach().numpy(), abs=1e-6)


@pytest.mark.parametrize("kind", [ConvolutionalClassifier, DenseClassifier])
@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_a_killed_run_continues_to_the_same_bytes(tmp_path, monkeypatch, kind, epochs):
    cutouts, path = blobs(), tmp_path / "run.safetensors"
    whole = saved(kind(**TINY).fit(cutouts, rng=1, progress=False), tmp_path)
    with monkeypatch.context() as patch:
        crash_after(patch, epochs)
        with pytest.raises(Crash):
            kind(**TINY).fit(cutouts, rng=1, progress=False, checkpoint=path)
    assert path.exists() == (epochs > 0)
    resumed = kind(**TINY).fit(cutouts, rng=1, progress=False, checkpoint=path)
    assert saved(resumed, tmp_path) == whole
    # What is finished stays as it is, without another step.
    monkeypatch.setattr(Run, "step", None)
    again = kind(**TINY).fit(cutouts, rng=1, progress=False, checkpoint=path)
    assert saved(again, tmp_path) == whole


@pytest.mark.parametrize("images", [1, 33, 64, 70])
def test_a_run_stopped_by_images_continues_to_the_same_bytes(tmp_path, images):
    cutouts, path = blobs(), tmp_path / "run.safetensors"
    whole = saved(ConvolutionalClassifier(**TINY).fit(cutouts, rng=1, progress=False), tmp_path)
    short = ConvolutionalClassifier(**TINY).fit(cutouts, rng=1, progress=False, max_images=images, checkpoint=path)
    assert saved(short, tmp_path) != whole
    once_more = ConvolutionalClassifier(**TINY).fit(cutouts, rng=1, progress=False, max_images=images, checkpoint=path)
    assert saved(once_more, tmp_path) == saved(short, tmp_path)
    resumed = ConvolutionalClassifier(**TINY).fit(cutouts, rng=1, progress=False, checkpoint=path)
    assert saved(resumed, tmp_path) == whole


def test_time_ends_a_run():
    model = ConvolutionalClassifier(**TINY | {"max_epochs": 10**6}).fit(blobs(), rng=1, progress=False, max_seconds=0)
    assert len(model.history) == 1


def test_threads_and_generators_are_left_alone():
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    ConvolutionalClassifier(**TINY).fit(blobs(), rng=1, progress=False).predict_proba(blobs())
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads


# ------------------------------------------------------------------------------------------- broken files

@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    ConvolutionalClassifier(**TINY).fit(blobs(), rng=1, progress=False, max_images=40,
                                        checkpoint=folder / "run.safetensors").save(folder / "model.safetensors")
    return folder


def edited(source, target, change):
    with safe_open(source, framework="numpy") as stream:
        metadata, arrays = stream.metadata(), {k: stream.get_tensor(k) for k in stream.keys()}  # noqa: SIM118
    change(arrays, metadata)
    save_file(arrays, target, metadata=metadata)
    return target


def header(metadata, **changes):
    metadata["halopy-checkpoint"] = json.dumps(json.loads(metadata["halopy-checkpoint"]) | changes)


BREAKS = {
    "NaN": (lambda a, m: a["network.rest.4.bias"].fill(np.nan), "must be finite .network.rest.4.bias"),
    "shape": (lambda a, m: a.update({"best.features.0.bias": np.zeros(3, np.float32)}),
              r"must have the shape \(4,\) .best.features.0.bias, found \(3,\)"),
    "missing": (lambda a, m: a.pop("moment.1.features.0.bias"), "is missing .moment.1.features.0.bias"),
    "extra": (lambda a, m: a.update({"network.odd": np.zeros(3)}), "belongs to no part of this network .network.odd"),
    "history": (lambda a, m: a.pop("history"), "is missing .history"),
    "random": (lambda a, m: a.update(random=np.zeros(3, np.uint8)), "no state of a random generator"),
    "schema": (lambda a, m: header(m, schema=99), "this checkpoint has schema 99"),
    "token": (lambda a, m: header(m, token=None), "of another run"),
    "no header": (lambda a, m: m.clear() or m.update(other="x"), "no checkpoint of halopy"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_checkpoint_is_refused(files, tmp_path, name):
    change, text = BREAKS[name]
    path = edited(files / "run.safetensors", tmp_path / "broken.safetensors", change)
    before = path.read_bytes()
    with pytest.raises(HaloInputError, match=text) as error:
        ConvolutionalClassifier(**TINY).fit(blobs(), rng=1, progress=False, checkpoint=path)
    assert error.value.path is not None and path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95pickle", None])
def test_what_is_no_safetensors_file_is_refused(files, tmp_path, content):
    path = tmp_path / "run.safetensors"
    path.write_bytes((files / "run.safetensors").read_bytes()[:-100] if content is None else content)
    with pytest.raises(HaloInputError, match="not a readable checkpoint"):
        ConvolutionalClassifier(**TINY).fit(blobs(), rng=1, progress=False, checkpoint=path)


def test_a_model_is_no_checkpoint(files):
    with pytest.raises(HaloInputError, match="no checkpoint of halopy"):
        ConvolutionalClassifier(**TINY).fit(blobs(), rng=1, progress=False, checkpoint=files / "model.safetensors")


@pytest.mark.parametrize(("kind", "changes", "cutouts", "rng", "what"), [
    (ConvolutionalClassifier, {"learning_rate": 0.1}, blobs(), 1, "settings"),
    (ConvolutionalClassifier, {}, blobs(rng=5), 1, "cutouts"),
    (ConvolutionalClassifier, {}, blobs(groups=np.arange(40)), 1, "cutouts"),
    (ConvolutionalClassifier, {}, blobs(), 2, "rng"),
    (DenseClassifier, {}, blobs(), 1, "model"),
])
def test_a_checkpoint_of_another_run_is_refused(files, kind, changes, cutouts, rng, what):
    with pytest.raises(HaloInputError, match=f"of another run, with another {what}"):
        kind(**TINY | changes).fit(cutouts, rng=rng, progress=False, checkpoint=files / "run.safetensors")


MODEL_BREAKS = {
    "NaN": (lambda a, m: a["weight.rest.4.bias"].fill(np.nan), "weights must be finite .weight.rest.4.bias"),
    "shape": (lambda a, m: a.update({"weight.rest.4.bias": np.zeros(5, np.float32)}),
              r"must have the shape .* .weight.rest.4.bias, found \(5,\)"),
    "missing": (lambda a, m: a.pop("weight.rest.4.bias"), "missing .* .weight.rest.4.bias"),
    "extra": (lambda a, m: a.update({"weight.odd": np.zeros(3, np.float32)}), "no step asks for"),
    "temperature": (lambda a, m: a.update(temperature=np.zeros(1)), "one positive number"),
    "history": (lambda a, m: a.update(history=np.zeros(1)), "three or five columns"),
    "architecture": (lambda a, m: m.update(halopy=m["halopy"].replace('"width": 4', '"width": 6')),
                     "must have the shape"),
    "class": (lambda a, m: m.update(halopy=m["halopy"].replace("ConvolutionalClassifier", "DenseClassifier")),
              "belongs to no part of this network|is missing"),
    "settings": (lambda a, m: m.update(halopy=m["halopy"].replace('"width": 4', '"width": -4')),
                 "width must be a whole number"),
    "no temperature": (lambda a, m: m.update(halopy=m["halopy"].replace('"temperature", ', "")) or a.pop("temperature"),
                       "an array is missing .temperature"),
}


@pytest.mark.parametrize("name", MODEL_BREAKS)
def test_a_broken_model_is_refused(files, tmp_path, name):
    change, text = MODEL_BREAKS[name]
    path = edited(files / "model.safetensors", tmp_path / "broken.safetensors", change)
    with pytest.raises(HaloInputError, match=text) as error:
        NetworkClassifier.load(path)
    assert error.value.path == path


def test_a_truncated_model_is_refused(files, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((files / "model.safetensors").read_bytes()[:-10])
    with pytest.raises(HaloInputError, match="not a readable safetensors file"):
        ConvolutionalClassifier.load(path)


def test_a_model_that_was_not_trained_can_be_saved(tmp_path):
    ConvolutionalClassifier(width=6).save(tmp_path / "new.safetensors")
    loaded = ConvolutionalClassifier.load(tmp_path / "new.safetensors")
    with pytest.raises(NotFittedError, match="must be trained"):
        loaded.predict_proba(blobs())


def test_a_loaded_model_has_its_history_and_temperature(tmp_path):
    model = ConvolutionalClassifier(**TINY).fit(blobs(), rng=1, progress=False)
    model.temperature_ = 2.5
    model.save(tmp_path / "m.safetensors")
    loaded = ConvolutionalClassifier.load(tmp_path / "m.safetensors")
    assert loaded.temperature_ == 2.5
    assert loaded.history.colnames == model.history.colnames == list(COLUMNS)
    assert all(np.array_equal(loaded.history[c], model.history[c]) for c in COLUMNS)


# ------------------------------------------------------------------------------------------ what is refused

@pytest.mark.parametrize(("changes", "text"), [
    ({"size": 8}, "size must be a whole number of 16 or more"),
    ({"width": 1}, "width must be a whole number of 2 or more"),
    ({"max_epochs": 0}, "max_epochs must be a whole number of 1 or more"),
    ({"batch_size": 2.5}, "batch_size must be a whole number"),
    ({"patience": True}, "patience must be a whole number"),
    ({"views": 3}, "views must be 1, 4 or 8"),
    ({"learning_rate": 0}, "learning_rate must be positive"),
    ({"weight_decay": -1}, "weight_decay must not be negative"),
    ({"dropout": 1}, r"must be in \[0, 1\)"),
    ({"validation_fraction": 1.0}, r"must be in \[0, 1\)"),
])
def test_settings_that_cannot_be(changes, text):
    with pytest.raises(HaloInputError, match=text):
        ConvolutionalClassifier(**TINY | changes).fit(blobs(), rng=1, progress=False)


def test_one_kind_alone_teaches_nothing():
    with pytest.raises(HaloInputError, match="cutouts with halos and cutouts without .found '0 halos among 20"):
        ConvolutionalClassifier(**TINY).fit(blobs()[::2], rng=1, progress=False)


def test_no_label_is_no_example():
    cutouts = blobs()
    cutouts.table["label"][3] = ""
    with pytest.raises(HaloInputError, match="every training cutout needs a label, 1 of "):
        ConvolutionalClassifier(**TINY).fit(cutouts, rng=1, progress=False)


def test_a_loss_that_bursts_is_said():
    with pytest.raises(HaloInputError, match="the loss must stay finite .*lower learning_rate"):
        ConvolutionalClassifier(**TINY | {"learning_rate": 1e30}).fit(blobs(), rng=1, progress=False)


# ------------------------------------------------------------------------------------ continuing the training

@pytest.fixture(scope="module")
def trained():
    return ConvolutionalClassifier(**TINY).fit(blobs(), rng=1, progress=False)


def new_sky(n=40, **settings):
    """Cutouts of groups that no other cutouts here are of."""
    return blobs(n, groups=np.arange(n) % (n // 2) + 1000, rng=7, **settings)


def weights(model):
    return {name: tensor.clone() for name, tensor in model._module.state_dict().items()}


def test_finetuning_starts_from_the_weights_and_leaves_the_model_alone(trained, tmp_path):
    before = saved(trained, tmp_path)
    start = trained.finetune(new_sky(), max_images=0, progress=False, rng=1)
    assert all(torch.equal(tensor, weights(trained)[name]) for name, tensor in weights(start).items())
    assert start.history["epoch"].tolist() == [0]
    tuned = trained.finetune(new_sky(), progress=False, rng=1)
    assert saved(trained, tmp_path) == before
    assert any(not torch.equal(tensor, weights(trained)[name]) for name, tensor in weights(tuned).items())
    assert tuned.params == trained.params and tuned is not trained and type(tuned) is type(trained)
    assert tuned.history["epoch"].tolist() == [0, 1, 2, 3, 4]


def test_a_finetuned_model_has_seen_the_groups_of_both_trainings(trained):
    tuned = trained.finetune(new_sky(), max_epochs=1, progress=False, rng=1)
    assert set(trained.groups_) < set(tuned.groups_)
    assert len(tuned.groups_) == len(trained.groups_) + 20


def test_finetuning_repeats_and_is_saved(trained, tmp_path):
    trained.temperature_ = 2.0
    tuned, again, other = (trained.finetune(new_sky(), progress=False, rng=rng) for rng in (1, 1, 2))
    trained.temperature_ = 1.0
    assert saved(tuned, tmp_path) == saved(again, tmp_path) != saved(other, tmp_path)
    # A temperature belongs to the weights that it was fitted to.
    assert tuned.temperature_ == 1.0
    loaded = ConvolutionalClassifier.load(tmp_path / "model.safetensors")
    assert loaded.fitted_ and loaded.history["epoch"][0] == 0 and loaded.groups_ == other.groups_


def test_finetuning_goes_in_steps_of_a_tenth(trained):
    """The first step of Adam is of the length of the learning rate for every weight (Kingma & Ba 2015, section 2.1)."""
    def longest(**settings):
        tuned = trained.finetune(new_sky(), max_images=8, progress=False, rng=1, **settings)
        return max(float((tensor - weights(trained)[name]).abs().max()) for name, tensor in weights(tuned).items())

    trained.validation_fraction = 0
    usual, long = longest(), longest(learning_rate=0.05)
    trained.validation_fraction = 0.2
    # The decay of the weights adds a hundredth of the learning rate for a weight of one.
    assert usual == pytest.approx(TINY.get("learning_rate", 1e-3) / 10, rel=0.05)
    assert long == pytest.approx(0.05, rel=0.05)


def test_no_epoch_that_is_worse_than_the_start_is_kept(trained):
    # Steps that burst what was learnt: the held-out groups tell.
    tuned = trained.finetune(new_sky(), learning_rate=3.0, progress=False, rng=1)
    loss = tuned.history["validation_loss"]
    assert loss[0] < loss[1:].min()
    assert all(torch.equal(tensor, weights(trained)[name]) for name, tensor in weights(tuned).items())


def test_new_groups_are_held_out_where_there_are_any():
    groups = np.repeat(np.arange(40), 2)
    targets = (groups % 2).astype(np.float32)
    for new in (groups >= 30, groups >= 0):
        held_out = validation_rows(targets, groups, 0.2, np.random.default_rng(1), new)
        assert held_out.any() and set(held_out[~new].tolist()) <= {False}
    # Where all are known, they are better than none.
    assert validation_rows(targets, groups, 0.2, np.random.default_rng(1), groups < 0).any()


@pytest.mark.parametrize(("model", "cutouts", "error", "text"), [
    (ConvolutionalClassifier(**TINY), blobs(), NotFittedError, "must be trained"),
    (None, "cutouts", HaloInputError, "takes a CutoutSet"),
    (None, CutoutSet(np.ones((2, 16, 16))), HaloInputError, "training needs a column 'label'"),
])
def test_what_cannot_be_finetuned(trained, model, cutouts, error, text):
    with pytest.raises(error, match=text):
        (model or trained).finetune(cutouts, progress=False)


# ------------------------------------------------------------------------------------------ trained, or not

class Threshold(Classifier):
    """Training leaves it without any array."""

    def __init__(self, *, level=0.0):
        self.level = level

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        pass

    def _predict_proba(self, cutouts):
        return np.where(cutouts.data.mean(axis=(1, 2)) > self.level, 0.9, 0.1)


@pytest.mark.parametrize("kind", [Threshold, Prevalence, ConvolutionalClassifier])
def test_a_file_says_whether_a_model_was_trained(kind, tmp_path):
    settings = TINY if kind is ConvolutionalClassifier else {}
    kind(**settings).save(tmp_path / "new.safetensors")
    new = kind.load(tmp_path / "new.safetensors")
    assert not new.fitted_
    with pytest.raises(NotFittedError, match="must be trained"):
        new.predict_proba(blobs())
    kind(**settings).fit(blobs(), rng=1, progress=False).save(tmp_path / "trained.safetensors")
    assert kind.load(tmp_path / "trained.safetensors").predict_proba(blobs()).shape == (40,)


@pytest.mark.parametrize("kind", [Threshold, Prevalence])
def test_older_files_do_not_say_it(kind, tmp_path):
    def older(arrays, metadata):
        tree = json.loads(metadata["halopy"])
        assert tree["step"].pop("fitted") in (True, False)
        metadata["halopy"] = json.dumps(tree)

    for model, fitted in ((kind(), False), (kind().fit(blobs(), rng=1), True)):
        model.save(tmp_path / "m.safetensors", overwrite=True)
        edited(tmp_path / "m.safetensors", tmp_path / "m.safetensors", older)
        assert kind.load(tmp_path / "m.safetensors").fitted_ is fitted


def test_a_trained_network_without_weights_is_refused(tmp_path):
    ConvolutionalClassifier(**TINY).save(tmp_path / "new.safetensors")
    path = edited(tmp_path / "new.safetensors", tmp_path / "odd.safetensors",
                  lambda a, m: m.update(halopy=m["halopy"].replace('"fitted": false', '"fitted": true')))
    with pytest.raises(HaloInputError, match="a trained network has weights"):
        ConvolutionalClassifier.load(path)
