"""``halopy train --generator`` and ``generate``: what is written, what is said, and what is refused."""

from __future__ import annotations

import importlib
import sys
import textwrap

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

import halopy.cli as cli
from halopy import CutoutSet, classifiers, clip, generators
from halopy.errors import MissingExtraError
from halopy.generative import HaloGenerator
from halopy.registry import Registry
from halopy.testing import simulated_cutouts

SKETCH = """
import numpy as np
from astropy.table import QTable
from pathlib import Path

from halopy import CutoutSet
from halopy.generative import HaloGenerator


class Sketch(HaloGenerator):
    '''The mean image of each label, scaled, with noise.'''

    optional_conditions = ("snr",)
    text_conditions = ("grade",)
    sampling_settings = ("noise",)
    stop = False

    def __init__(self, *, noise=1.0, epochs=7):
        self.noise = noise
        self.epochs = epochs

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        if checkpoint is not None:
            Path(checkpoint).write_bytes(b"a state")
        if Sketch.stop:
            raise KeyboardInterrupt
        label = np.asarray(cutouts.table["label"])
        self.means = {name: np.nanmean(cutouts.data[label == name], axis=0) for name in ("halo", "none")}
        epochs = np.arange(self.epochs if max_images is None else 1)
        self.history = QTable({"epoch": epochs, "critic_loss": 1e-5 * rng.random(len(epochs)),
                               "validation_loss": 5.0 - epochs, "word": ["fine"] * len(epochs)})

    def _sample(self, conditions, rng):
        snr = np.asarray(conditions["snr"]) if "snr" in conditions.colnames else np.ones(len(conditions))
        mean = np.array([self.means[name] for name in conditions["label"]])
        return np.nan_to_num(snr, nan=1)[:, None, None] * mean + rng.normal(0, self.noise, mean.shape)

    def _state(self):
        return getattr(self, "means", {})

    def _set_state(self, state):
        super()._set_state(state)
        self.means = state
"""

NEEDY = "import no_such_package\n" + SKETCH

SHIPS = SKETCH + """
    @classmethod
    def pretrained(cls):
        from halopy.testing import simulated_cutouts

        return cls(epochs=1).fit(simulated_cutouts(12, rng=3), rng=3)
"""


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    """Distributions with generators, as an installer would leave them."""
    site = tmp_path_factory.mktemp("site")
    entries = {"sketch": "cli_sketch:Sketch", "sketch-shipped": "cli_sketch_ships:Sketch",
               "needy": "cli_sketch_needs:Sketch [more, of-it]"}
    for module, code in (("cli_sketch", SKETCH), ("cli_sketch_ships", SHIPS), ("cli_sketch_needs", NEEDY)):
        (site / f"{module}.py").write_text(textwrap.dedent(code))
    info = site / "halopy_sketches-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: halopy-sketches\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("\n".join(["[halopy.generators]", *(f"{k} = {v}" for k, v in
                                                                              entries.items())]) + "\n")
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    yield
    sys.path.remove(str(site))
    for module in ("cli_sketch", "cli_sketch_ships", "cli_sketch_needs"):
        sys.modules.pop(module, None)


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        said, errors = capsys.readouterr()
        return code, said, errors

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory, installed):
    folder = tmp_path_factory.mktemp("generators")
    cutouts = simulated_cutouts(24, rng=1)
    cutouts.write(folder / "train.fits")
    generators.create("sketch", noise=0.002).fit(cutouts, rng=1).save(folder / "sketch.safetensors")
    generators.create("sketch").save(folder / "untrained.safetensors")
    generators.create("exponential", artefacts=False).save(folder / "clean.safetensors")
    classifiers.create("prevalence").fit(cutouts).save(folder / "prevalence.safetensors")
    return folder


def labels(path):
    return np.asarray(CutoutSet.read(path).table["label"]).astype(str).tolist()


# ------------------------------------------------------------------------------------------------- train

def test_a_generator_is_trained_and_can_be_read(run, files, tmp_path):
    path = tmp_path / "m.safetensors"
    command = ["train", "--kind", "generator", "--generator", "sketch", "--cutouts", files / "train.fits", "-o", path]
    code, said, errors = run(*command, "--set", "noise=0.5", "--seed", "1")
    assert (code, errors) == (0, "")
    lines = said.splitlines()
    # The head, dots for what is left out, and the last five epochs, whatever the columns hold.
    assert lines[0].split() == ["epoch", "critic_loss", "validation_loss", "word"] and lines[1].strip() == "..."
    assert [line.split()[0] for line in lines[2:7]] == ["2", "3", "4", "5", "6"]
    assert all(float(line.split()[1]) > 0 and line.endswith("fine") for line in lines[2:7])
    assert lines[7] == "lowest: epoch 6, with a loss of -1.0000 on held-out groups"
    assert "24 cutouts of 8 groups; the model has seen 8 groups" in said and lines[-1] == str(path)
    assert HaloGenerator.load(path).params == {"noise": 0.5, "epochs": 7}
    # Without --kind, it is what the name is given as.
    code, said, _ = run(*command[:1], *command[3:], "--overwrite", "--max-images", "1")
    assert code == 0 and "..." not in said


def test_a_stopped_training_says_how_to_go_on(run, files, tmp_path, monkeypatch):
    monkeypatch.setattr(generators["sketch"], "stop", True)
    command = ["train", "--generator", "sketch", "--cutouts", files / "train.fits", "-o", tmp_path / "m.safetensors"]
    assert run(*command) == (130, "", "interrupted\n")
    state = tmp_path / "state.safetensors"
    code, _, errors = run(*command, "--checkpoint", state)
    assert code == 130 and errors == f"interrupted: the same command goes on from {state}\n"
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize(("more", "code", "text"), [
    (["--kind", "generator", "--classifier", "sketch"], 2,
     "--kind generator and --classifier do not go together (found 'sketch'); try: --generator sketch"),
    (["--kind", "classifier", "--generator", "sketch"], 2,
     "--kind classifier and --generator do not go together (found 'sketch'); try: --generator sketch alone"),
    (["--classifier", "sketch"], 2, "sketch is a generator, not a classifier; try: --generator sketch"),
    (["--generator", "cnn"], 2, "cnn is a classifier, not a generator; try: --classifier cnn"),
    (["--generator", "sketsh"], 2, "no model 'sketsh' in halopy.generators; did you mean 'sketch'?"),
    (["--generator", "exponential"], 2, "exponential needs no training; try: halopy generate --model exponential"),
    (["--generator", "sketch", "--set", "depth=1"], 2, "sketch has no setting 'depth'; it has noise, epochs"),
    (["--generator", "needy"], 3, 'needs the module \'no_such_package\', which is not installed; '
                                  'pip install "halopy-sketches[more, of-it]"')])
def test_what_cannot_be_trained(run, files, tmp_path, more, code, text):
    found, said, errors = run("train", *more, "--cutouts", files / "train.fits", "-o", tmp_path / "m.safetensors")
    assert (found, said) == (code, "") and text in errors and len(errors.splitlines()) == 1
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize("column", ["label", "group"])
def test_a_generator_needs_its_columns(run, files, tmp_path, column):
    cutouts = CutoutSet.read(files / "train.fits")
    cutouts.table.remove_column(column)
    cutouts.write(tmp_path / "c.fits")
    code, _, errors = run("train", "--generator", "sketch", "--cutouts", tmp_path / "c.fits", "-o", tmp_path / "m")
    assert code == 2 and f"training this generator needs a column '{column}'" in errors


def test_the_sky_that_a_generator_has_seen_is_found(run, files):
    for model in (files / "sketch.safetensors", "sketch-shipped"):
        code, said, _ = run("audit", "--train", files / "train.fits", "--test", files / "train.fits", "--model", model)
        assert code == 5 and "model-saw-test" in said


# ---------------------------------------------------------------------------------------------- generate

def test_images_of_the_simulator(run, tmp_path):
    path = tmp_path / "samples.fits"
    code, said, errors = run("generate", "--model", "exponential", "--label", "halo", "relic", "-n", "3", "--snr", "8",
                             "-o", path)
    assert (code, errors) == (0, "")
    assert said.splitlines()[:2] == ["6 images of 64 x 64 pixels (Jy / beam): 3 halo, 3 relic",
                                     "made by Exponential (exponential, no weights)"]
    assert str(path) in said and str(tmp_path / "samples.png") in said
    made = CutoutSet.read(path)
    wanted = QTable({"label": ["halo"] * 3 + ["relic"] * 3, "snr": np.full(6, 8.0)})
    expected = generators.create("exponential").sample(6, conditions=wanted, rng=0)
    assert np.array_equal(made.data, expected.data) and made.unit == expected.unit
    assert labels(path) == wanted["label"].tolist() and set(made.table["group"]) == {"generated"}
    assert np.allclose(made.table["snr"], 8) and set(made.table["generator"]) == {"Exponential"}
    assert (tmp_path / "samples.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_file(run, tmp_path):
    command = ["generate", "--model", "exponential", "-n", "2", "-o"]
    for name, more in (("a", []), ("b", ["--quiet"]), ("c", ["--seed", "1"])):
        code, said, _ = run(*command, tmp_path / f"{name}.fits", *more)
        assert code == 0 and (said == "") == (name == "b")
    assert labels(tmp_path / "a.fits") == ["halo"] * 2  # what is made where no label is given
    one, same, other = ((tmp_path / f"{name}.{end}").read_bytes() for name, end in (("a", "png"), ("b", "png"),
                                                                                    ("c", "png")))
    assert one == same != other


def test_settings_and_clipping(run, tmp_path):
    path = tmp_path / "s.fits"
    assert run("generate", "--model", "exponential", "-n", "2", "-o", path, "--frequency", "100", "--set",
               "shape=(32, 40)", "artefacts=False", "--clip-low", "-3", "--clip-high", "3")[0] == 0
    made = CutoutSet.read(path)
    assert made.shape == (2, 32, 40)
    assert u.allclose(made.table["frequency"], 100 * u.MHz)
    whole = generators.create("exponential", shape=(32, 40), artefacts=False).sample(
        2, conditions=QTable({"label": ["halo"] * 2, "frequency": [100, 100] * u.MHz}), rng=0)
    assert np.array_equal(made.data, clip(whole, low=-3, high=3).data)
    assert 0.5 < np.mean(made.data == 0) < 1


def test_a_trained_generator(run, files, tmp_path):
    path = tmp_path / "s.fits"
    command = ["generate", "--model", files / "sketch.safetensors", "--label", "none", "-n", "4", "-o", path]
    code, said, errors = run(*command, "--snr", "2", "--grade", "candidate")
    assert (code, errors) == (0, "")
    model = HaloGenerator.load(files / "sketch.safetensors")
    assert set(CutoutSet.read(path).table["generator"]) == {f"Sketch {model.weights_id}"}
    assert f"made by Sketch ({files / 'sketch.safetensors'}, weights {model.weights_id})" in said
    assert "4 images of 64 x 64 pixels (no unit): 4 none" in said
    made = CutoutSet.read(path)
    assert set(made.table["grade"]) == {"candidate"} and set(made.table["snr"]) == {2.0}
    # Noise of 0.002 in 4 images: 0.001 about twice the mean.
    assert np.std(made.data.mean(axis=0) - 2 * model.means["none"]) == pytest.approx(0.001, rel=0.1)
    # How it samples can be set, how it was trained cannot.
    assert run(*command, "--overwrite", "--set", "noise=0")[0] == 0
    assert np.array_equal(CutoutSet.read(path).data[3], model.means["none"])
    code, _, errors = run(*command, "--overwrite", "--set", "epochs=3")
    assert code == 2
    assert "epochs is a setting of the training, and that is done (found 3); try: --set for noise" in errors


def test_weights_that_ship(run, tmp_path):
    path = tmp_path / "s.fits"
    code, said, errors = run("generate", "--model", "sketch-shipped", "-n", "1", "-o", path)
    assert (code, errors) == (0, "") and "weights " in said
    assert np.array_equal(CutoutSet.read(path).data, generators.pretrained("sketch-shipped").sample(1, rng=0).data)


def test_a_saved_simulator_takes_every_setting(run, files, tmp_path):
    path = tmp_path / "s.fits"
    assert run("generate", "--model", files / "clean.safetensors", "-n", "1", "-o", path, "--set",
               "background=False")[0] == 0
    expected = generators.create("exponential", artefacts=False, background=False).sample(1, rng=0)
    assert np.array_equal(CutoutSet.read(path).data, expected.data)


@pytest.mark.parametrize("kind", ["ecsv", "csv", "fits"])
def test_a_table_of_conditions(run, tmp_path, kind):
    table = QTable({"label": ["relic", "halo", "none"], "frequency": [100, 200, np.nan], "snr": [6, 9, np.nan]})
    expected = QTable(table, copy=True)
    expected["frequency"] = expected["frequency"] * u.MHz
    given = tmp_path / f"wanted.{kind}"
    if kind == "csv":  # numbers without units
        table.write(given, format="ascii.csv")
    else:
        expected.write(given)
    path = tmp_path / "s.fits"
    code, said, errors = run("generate", "--model", "exponential", "--conditions", given, "-o", path)
    assert (code, errors) == (0, "") and "3 images" in said and "1 halo, 1 none, 1 relic" in said
    made = CutoutSet.read(path)
    assert np.array_equal(made.data, generators.create("exponential").sample(3, conditions=expected, rng=0).data)
    assert u.allclose(made.table["frequency"][:2], [100, 200] * u.MHz)


def test_cutouts_are_a_table_of_conditions_too(run, files, tmp_path):
    # A simulated twin of each; what the simulator is not asked for is said.
    code, _, errors = run("generate", "--model", "exponential", "--conditions", files / "train.fits", "-o",
                          tmp_path / "s.fits")
    assert code == 0 and errors.startswith("warning: ") and len(errors.splitlines()) == 1
    assert "not used, as exponential has no such conditions: " in errors and "rms" in errors
    assert labels(tmp_path / "s.fits") == labels(files / "train.fits")


@pytest.mark.parametrize(("more", "text"), [
    ([], "-n says how many images of each label are made; try: -n 100"),
    (["-n", "0"], "-n must be 1 or more (found 0)"),
    (["-n", "1", "--label", "halo", "halo"], "--label names each label once (found 'halo halo'); try: a larger -n"),
    (["-n", "1", "--label", "teapot"], "--label takes labels: halo, mini-halo, "),
    (["-n", "1", "--grade", "good"], "--grade is one of confirmed, candidate, uncertain (found 'good')"),
    (["-n", "1", "--grade", "candidate"],
     "exponential has no condition 'grade'; it has label, frequency, snr, size (found 'candidate'); try: without"),
    (["-n", "1", "--rms", "20mJy/beam"], "exponential has no condition 'rms'"),
    (["-n", "1", "--rms", "loud"], "--rms takes a number with a unit (found 'loud'); try: --rms 20mJy/beam"),
    (["-n", "1", "--snr", "-2"], "the condition snr must be positive"),
    (["-n", "1", "--snr", "inf"], "an optional condition must be finite"),
    (["-n", "1", "--set", "shape=3"], "shape must be two whole numbers"),
    (["-n", "1", "--set", "width=3"], "exponential has no setting 'width'; it has survey, shape"),
    (["-n", "1", "--clip-low", "-3"], "--clip-low needs an upper end too"),
    (["-n", "1", "--clip-low", "3", "--clip-high", "-3"], "low must lie below high"),
    (["-n", "1", "--seed", "-1"], "--seed must be 0 or more"),
    (["-n", "1", "--conditions", "no.ecsv"], "-n says it for all (found 1); try: one of the two"),
    (["--label", "halo", "--conditions", "no.ecsv"], "--label says it for all"),
    (["--conditions", "no.ecsv"], "no.ecsv: there is no such file")])
def test_what_cannot_be_made(run, tmp_path, more, text):
    code, said, errors = run("generate", "--model", "exponential", *more, "-o", tmp_path / "s.fits")
    assert (code, said) == (2, "") and text in errors and len(errors.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("model", "code", "text"), [
    ("prevalence.safetensors", 2, "prevalence.safetensors: this file holds a Prevalence, which makes no images; "
                                  "try: a file of halopy train --generator"),
    ("train.fits", 2, "train.fits: not a readable safetensors file"),
    ("gone.safetensors", 2, "gone.safetensors: there is no such file"),
    ("untrained.safetensors", 2, "must be trained"),
    ("cnn", 2, "cnn is a classifier, and makes no images; try: one of the generators: cwgan, "),
    ("sketsh", 2, "no model 'sketsh' in halopy.generators; did you mean 'sketch'?"),
    ("sketch", 2, "sketch must be trained before it makes images; try: halopy train --generator sketch --cutouts PATH"),
    ("needy", 3, 'pip install "halopy-sketches[more, of-it]"')])
def test_models_that_make_no_images(run, files, tmp_path, monkeypatch, model, code, text):
    monkeypatch.chdir(files)
    found, said, errors = run("generate", "--model", model, "-n", "1", "-o", tmp_path / "s.fits")
    assert (found, said) == (code, "") and text in errors and len(errors.splitlines()) == 1


@pytest.mark.parametrize(("content", "text"), [
    ("label,snr\n", "this table has no rows"),
    ("snr\n5\n", "exponential needs the condition 'label' (found ['snr']); try: --conditions with such a column"),
    ("label\nteapot\n", "a label is one of halo, "),
    ("label,frequency\nhalo,-5\n", "the condition frequency must be positive"),
    ("label,frequency\nhalo,low\n", "an optional condition must be a column of numbers")])
def test_tables_that_ask_for_nothing_that_can_be_made(run, tmp_path, content, text):
    table = tmp_path / "wanted.csv"
    table.write_text(content)
    code, _, errors = run("generate", "--model", "exponential", "--conditions", table, "-o", tmp_path / "s.fits")
    assert code == 2 and errors.startswith(f"error: {table}: ") and text in errors
    assert len(errors.splitlines()) == 1 and not (tmp_path / "s.fits").exists()


def never(*arguments, **keywords):
    raise AssertionError("this must not be reached")


def test_nothing_is_replaced_and_nothing_is_made_for_it(run, files, tmp_path, monkeypatch):
    monkeypatch.setattr(HaloGenerator, "sample", never)
    monkeypatch.setattr("halopy.cli_generate.load", never)
    model = files / "sketch.safetensors"
    command = ["generate", "--model", model, "-n", "1", "-o"]
    for name in ("a.fits", "b.png"):
        (tmp_path / name).write_bytes(b"mine")
    for path, text in ((tmp_path / "a.fits", "a.fits: this file exists; try: --overwrite"),
                       (tmp_path / "b.fits", "b.png: this file exists; try: --overwrite"),
                       (tmp_path / "c.png", "with a picture (.png) beside it"),
                       (tmp_path, "a file in a folder that exists"),
                       (tmp_path / "no" / "a.fits", "a file in a folder that exists")):
        code, _, errors = run(*command, path)
        assert code == 2 and text in errors
    before = model.read_bytes()
    code, _, errors = run(*command, model, "--overwrite")
    assert code == 2 and "--model and --output must be two files" in errors and model.read_bytes() == before
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.fits": b"mine", "b.png": b"mine"}


def test_clipping_needs_the_noise_and_says_so_at_once(run, files, tmp_path, monkeypatch):
    made = []
    sample = HaloGenerator.sample
    monkeypatch.setattr(HaloGenerator, "sample", lambda self, n, **more: made.append(n) or sample(self, n, **more))
    code, _, errors = run("generate", "--model", files / "sketch.safetensors", "-n", "50", "-o", tmp_path / "s.fits",
                          "--clip-high", "3")
    assert code == 2 and "these cutouts have no column 'rms'" in errors and made == [1]


# ------------------------------------------------------------------------------------------------- extra

def test_a_model_whose_extra_is_missing_is_listed_and_not_broken(monkeypatch, recwarn):
    assert "needy" in list(generators) and "cli_sketch_needs" not in sys.modules
    with pytest.raises(MissingExtraError, match=r"model 'needy' \(from halopy-sketches 1.2\) needs the module "
                                                r"'no_such_package', .*; pip install \"halopy-sketches\[more, of-it\]"):
        generators["needy"]
    # That is no fault of its author.
    monkeypatch.setenv("HALOPY_STRICT_PLUGINS", "1")
    table = generators.info()
    state = dict(zip(table["name"], table["state"], strict=True))
    assert state["sketch"] == "ok" and 'pip install "halopy-sketches[more, of-it]"' in state["needy"]
    assert len(recwarn) == 0


def test_a_class_is_found_by_its_name_where_its_entry_names_an_extra():
    # Such a file names the class alone: the model was not made by its registered name.
    with pytest.raises(MissingExtraError, match="no_such_package"):
        Registry.import_class("Sketch")
