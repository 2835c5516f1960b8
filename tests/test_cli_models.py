"""``halopy train``, ``evaluate`` and ``finetune``: what is written, what is said, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from evaluation import some

import halopy.cli as cli
from halopy import CutoutSet, classifiers, simulate
from halopy.classify import Classifier, training
from halopy.cli_models import _curve, settings_of, trained_model
from halopy.errors import HaloInputError, UnknownModelError
from halopy.testing import simulated_cutouts

SMALL = ["--set", "max_epochs=2", "width=4", "views=1"]


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        said, errors = capsys.readouterr()
        return code, said, errors

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Cutouts of two pieces of sky, and models that were trained on the first."""
    folder = tmp_path_factory.mktemp("models")
    for name, seed in (("train", 1), ("test", 2)):
        cutouts = simulated_cutouts(24, rng=seed)
        for column in ("name", "group"):
            cutouts.table[column] = [f"{name} {value}" for value in cutouts.table[column]]
        cutouts.write(folder / f"{name}.fits")
    train = CutoutSet.read(folder / "train.fits")
    classifiers.create("cnn", max_epochs=2, width=4, views=1).fit(train, rng=1, progress=False).save(
        folder / "cnn.safetensors")
    classifiers.create("features-lr").fit(train).save(folder / "features.safetensors")
    return folder


# ------------------------------------------------------------------------------------------------- train

def test_a_model_is_trained_and_can_be_read(run, files, tmp_path):
    path = tmp_path / "m.safetensors"
    code, said, errors = run("train", "--classifier", "cnn", "--cutouts", files / "train.fits", "-o", path, *SMALL)
    assert (code, errors) == (0, "")
    assert "validation_loss" in said and "kept: epoch" in said and said.splitlines()[-1] == str(path)
    assert "24 cutouts of 8 groups; the model has seen 8 groups" in said
    model = Classifier.load(path)
    assert model.fitted_ and model.params["width"] == 4 and len(model.history) == 2
    # The same command makes the same bytes, as the same seed does.
    again = tmp_path / "again.safetensors"
    assert run("train", "--classifier", "cnn", "--cutouts", files / "train.fits", "-o", again, *SMALL, "--quiet") == (
        0, "", "")
    assert again.read_bytes() == path.read_bytes()
    run("train", "--classifier", "cnn", "--cutouts", files / "train.fits", "-o", again, *SMALL, "--overwrite",
        "--seed", "5")
    assert again.read_bytes() != path.read_bytes()


def test_folders_of_simulated_sky_and_files_are_joined(run, files, tmp_path):
    simulate.write_cutouts(tmp_path / "sky", 12, chunk=8, settings={"mix": {"halo": 1, "blank": 1}}, rng=1)
    code, said, _ = run("train", "--classifier", "prevalence", "--cutouts", tmp_path / "sky", files / "train.fits",
                        "-o", tmp_path / "m.safetensors")
    assert code == 0 and "36 cutouts of 20 groups" in said
    CutoutSet(np.ones((2, 5, 5)), QTable({"label": ["halo", "none"], "group": ["1", "2"]})).write(tmp_path / "odd.fits")
    code, _, errors = run("train", "--classifier", "prevalence", "--cutouts", files / "train.fits",
                          tmp_path / "odd.fits", "-o", tmp_path / "n.safetensors")
    assert code == 2 and "only cutouts of one shape and unit can be joined" in errors and "one size and unit" in errors


def test_a_run_ends_after_so_many_images_and_continues(run, files, tmp_path):
    command = ["train", "--classifier", "cnn", "--cutouts", files / "train.fits", *SMALL]
    run(*command, "-o", tmp_path / "whole.safetensors")
    state = ["--checkpoint", tmp_path / "run.safetensors"]
    # A fifth of eight groups is held out: two, with halos; the others are an epoch.
    code, _, _ = run(*command, "-o", tmp_path / "short.safetensors", *state, "--max-images", "1")
    assert code == 0 and len(Classifier.load(tmp_path / "short.safetensors").history) == 1
    assert run(*command, "-o", tmp_path / "rest.safetensors", *state)[0] == 0
    assert (tmp_path / "rest.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert run(*command, "-o", tmp_path / "short.safetensors", "--overwrite", "--max-seconds", "0")[0] == 0


def never(*arguments, **keywords):
    raise AssertionError("this must not be reached")


def test_a_learning_curve_of_any_columns():
    class Model:
        history = QTable({"step": [1, 2, 3, 4, 5, 6], "rate": np.full(6, 2e-5), "time": np.arange(6.0) * u.s,
                          "images": [100000] * 6, "said": list("abcdef")})

    lines = _curve(Model())
    assert lines[0].split() == ["step", "rate", "time", "(s)", "images", "said"] and lines[1].strip() == "..."
    assert [line.split() for line in lines[2:]] == [[str(k), "2.000e-05", f"{k - 1}.0000", "100000", "abcdef"[k - 1]]
                                                    for k in range(2, 7)]
    # One width for head and cells.
    assert len({len(line) for line in [lines[0], *lines[2:]]}) == 1


def test_the_best_epoch_of_a_learning_curve():
    class Model:
        history = QTable({"epoch": [0, 1, 2], "validation_loss": [0.5, 0.25, np.nan]})

    assert _curve(Model())[-1] == "lowest: epoch 1, with a loss of 0.2500 on held-out groups"
    Model.history["validation_loss"] = np.nan
    assert _curve(Model())[-1].split() == ["2", "nan"]
    Model.history = QTable()
    assert _curve(Model()) == []


@pytest.mark.parametrize("command", [["train", "--classifier", "cnn"], ["finetune", "--model", "cnn.safetensors"]])
def test_what_is_there_is_not_overwritten_and_nothing_is_trained_for_it(run, files, tmp_path, monkeypatch, command):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"mine")
    monkeypatch.setattr(training.NetworkClassifier, "_fit", never)
    monkeypatch.setattr(CutoutSet, "read", never)
    monkeypatch.chdir(files)
    code, said, errors = run(*command, "--cutouts", "train.fits", "-o", path)
    assert (code, said) == (2, "") and "this file exists; try: --overwrite" in errors
    assert path.read_bytes() == b"mine"
    code, _, errors = run(*command, "--cutouts", "train.fits", "-o", tmp_path / "no" / "m.safetensors")
    assert code == 2 and "a file in a folder that exists" in errors
    code, _, errors = run(*command, "--cutouts", "train.fits", "-o", "x.safetensors", "--seed", "-1")
    assert code == 2 and "--seed must be 0 or more" in errors


def test_the_state_of_a_run_is_not_written_where_the_model_goes(run, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training.NetworkClassifier, "_fit", never)
    code, _, errors = run("train", "--classifier", "cnn", "--cutouts", files / "train.fits", "-o", "m.safetensors",
                          "--checkpoint", tmp_path / "m.safetensors")
    assert code == 2 and "--checkpoint and --output must be two files" in errors


@pytest.mark.parametrize(("texts", "settings"), [
    ([], {}), (["width=8", "dropout = 0.5"], {"width": 8, "dropout": 0.5}), (["augment=False"], {"augment": False}),
    (["pixels-per-beam=None"], {"pixels_per_beam": None}), (["grades=['confirmed']"], {"grades": ["confirmed"]}),
    (["device=cuda:0"], {"device": "cuda:0"}), (["device=~/a-1.5/b"], {"device": "~/a-1.5/b"}),
    (["width=8", "width=6"], {"width": 6})])
def test_settings_are_python_literals(texts, settings):
    assert settings_of(classifiers["cnn"], texts, "cnn") == settings


@pytest.mark.parametrize(("text", "error"), [
    ("widths=8", r"cnn has no setting 'widths'; it has size, .*learning_rate.*--set width=8"),
    ("width", "--set takes settings and values .found 'width'"),
    ("width=__import__('os').getcwd()", "--set takes a value as Python writes it .width"),
    ("width=", "--set takes a value as Python writes it")])
def test_settings_that_are_none(text, error):
    with pytest.raises(HaloInputError, match=error):
        settings_of(classifiers["cnn"], [text], "cnn")


@pytest.mark.parametrize(("more", "text"), [
    (["--classifier", "matched-filter"], "matched-filter needs no training"),
    (["--classifier", "cnnn"], "cnnn"),
    (["--classifier", "cnn", "--set", "depth=3"], "cnn has no setting 'depth'"),
    (["--classifier", "cnn", "--set", "width=1"], "width must be a whole number of 2 or more"),
    (["--classifier", "cnn", "--set", "device=nowhere"], "device must be one that torch has on this machine"),
    (["--classifier", "cnn", "--set", "grades=confirmed"], "grades must be a sequence (found 'confirmed')"),
    (["--classifier", "cnn", "--max-images", "0"], "--max-images must be 1 or more"),
    (["--classifier", "cnn", "--max-seconds", "nan"], "--max-seconds must be 0 or more")])
def test_what_cannot_be_trained(run, files, tmp_path, more, text):
    code, _, errors = run("train", *more, "--cutouts", files / "train.fits", "-o", tmp_path / "m.safetensors")
    assert code == 2 and text in errors and len(errors.splitlines()) == 1
    assert not (tmp_path / "m.safetensors").exists()


def test_the_kind_of_a_model(run, files, tmp_path):
    # What trains generators is in test_cli_generate.py.
    command = ["train", "--classifier", "prevalence", "--cutouts", files / "train.fits", "-o", tmp_path / "m"]
    assert run(*command, "--kind", "classifier")[0] == 0
    assert "do not go together" in run(*command, "--kind", "generator", "--overwrite")[2]


@pytest.mark.parametrize(("more", "text"), [
    (["--generator", "cwgan", "--classifier", "cnn"], "not allowed with argument"),
    (["--kind", "generator"], "one of the arguments --classifier --generator is required"),
    (["--kind", "teapot", "--generator", "cwgan"], "invalid choice: 'teapot'")])
def test_one_model_is_trained(run, files, tmp_path, more, text):
    code, _, errors = run("train", *more, "--cutouts", files / "train.fits", "-o", tmp_path / "m.safetensors")
    assert code == 2 and text in errors


def test_the_cutouts_are_not_replaced_by_the_model(run, files, tmp_path):
    CutoutSet.read(files / "train.fits").write(tmp_path / "c.fits")
    before = (tmp_path / "c.fits").read_bytes()
    code, _, errors = run("train", "--classifier", "prevalence", "--cutouts", tmp_path / "c.fits", "-o",
                          tmp_path / "c.fits", "--overwrite")
    assert code == 2 and "--cutouts and --output must be two files" in errors
    assert (tmp_path / "c.fits").read_bytes() == before


# ---------------------------------------------------------------------------------------------- evaluate

def test_cross_validation_with_all_baselines(run, files, tmp_path):
    folder = tmp_path / "out"
    code, said, errors = run("evaluate", "--classifier", "pca-lr", "--cutouts", files / "train.fits", "-o", folder,
                             "--folds", "2", "--seeds", "1", "--draws", "10")
    assert (code, errors) == (0, "")
    models = ["pca-lr", "prevalence", "noise-only", "features-lr", "matched-filter"]
    assert [line.split()[0] for line in said.splitlines()[1:6]] == models
    assert "8 targets with a halo and 16 without, in 8 groups" in said
    assert {path.name for path in folder.iterdir()} == {"index.html", "report.ecsv",
                                                        *(f"scores-{name}.ecsv" for name in models)}
    scores = QTable.read(folder / "scores-pca-lr.ecsv", format="ascii.ecsv")
    assert scores["probability"].shape == (24, 1) and isinstance(scores["position"], SkyCoord)
    report = QTable.read(folder / "report.ecsv", format="ascii.ecsv")
    assert list(dict.fromkeys(report["model"].tolist())) == models and report.meta["baseline"] == "matched-filter"
    # What no information goes into is worth 0.5 within a fold.
    rows = report[(report["model"] == "prevalence") & (report["metric"] == "roc_auc")]
    assert rows["value"][0] == 0.5
    assert "<h2>Numbers</h2>" in (folder / "index.html").read_text(encoding="utf-8")


def test_held_out_cutouts_and_trained_models(run, files, tmp_path):
    command = ["evaluate", "--model", files / "cnn.safetensors", files / "features.safetensors", "--cutouts",
               files / "test.fits", "-o", tmp_path / "out", "--draws", "10"]
    code, said, errors = run(*command)
    assert (code, errors) == (0, "")
    assert [line.split()[0] for line in said.splitlines()[1:4]] == ["cnn", "features", "matched-filter"]
    assert "baseline: matched-filter alone; prevalence, noise-only, features-lr, pca-lr need training" in said
    scores = QTable.read(tmp_path / "out" / "scores-cnn.ecsv", format="ascii.ecsv")
    expected = Classifier.load(files / "cnn.safetensors").predict_proba(CutoutSet.read(files / "test.fits"))
    assert np.array_equal(scores["probability"][:, 0], expected)
    assert "Training curves of cnn" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    code, _, errors = run(*command)
    assert code == 2 and "this file exists; try: --overwrite, or another folder" in errors
    code, said, _ = run(*command, "--overwrite", "--no-baselines", "--baseline", "features", "--threshold", "0.3",
                        "--quiet")
    assert (code, said) == (0, "")
    report = QTable.read(tmp_path / "out" / "report.ecsv", format="ascii.ecsv")
    assert set(report["model"]) == {"cnn", "features"} and report.meta["baseline"] == "features"
    assert np.nanmax(report["threshold"]) == 0.3


def test_weights_that_ship_are_judged_by_name(run, files, tmp_path, monkeypatch):
    # A folder of that name is not a file of a model.
    (tmp_path / "ensemble").mkdir()
    monkeypatch.chdir(tmp_path)
    code, said, errors = run("evaluate", "--model", "ensemble", files / "cnn.safetensors", "--cutouts",
                             files / "test.fits", "-o", "out", "--draws", "5")
    assert (code, errors) == (0, "")
    assert [line.split()[0] for line in said.splitlines()[1:4]] == ["ensemble", "cnn", "matched-filter"]
    scores = QTable.read(tmp_path / "out" / "scores-ensemble.ecsv", format="ascii.ecsv")
    expected = classifiers.pretrained("ensemble").predict_proba(CutoutSet.read(files / "test.fits"))
    assert np.array_equal(scores["probability"][:, 0], expected, equal_nan=True)


def test_a_model_that_has_seen_a_group_is_not_judged(run, files, tmp_path):
    code, said, errors = run("evaluate", "--model", files / "cnn.safetensors", "--cutouts", files / "test.fits",
                             files / "train.fits", "-o", tmp_path / "out")
    assert (code, said) == (2, "") and "cnn: ConvolutionalClassifier has been trained on 8 of the groups" in errors
    assert not (tmp_path / "out" / "index.html").exists()


def test_groups_of_sky(run, tmp_path):
    # Twelve pairs; the cutouts of a pair are a degree apart, and named as two groups.
    cutouts = some(24)
    cutouts.table["position"] = SkyCoord(20.0 * (np.arange(24) // 2) + np.arange(24) % 2, np.full(24, 0.0), unit="deg")
    label = np.where(np.arange(24) // 2 % 2, "halo", "none")
    cutouts.table["label"] = label
    cutouts.write(tmp_path / "pairs.fits")
    command = ["evaluate", "--classifier", "prevalence", "--no-baselines", "--cutouts", tmp_path / "pairs.fits",
               "--folds", "3", "--seeds", "1", "--draws", "5"]
    for by, groups in (("1.5deg", 12), ("0.5 deg", 24), ("name", 24)):
        code, said, errors = run(*command, "-o", tmp_path / f"out {groups} {by}", "--by", by)
        assert code == 0 and f"in {groups} groups" in said, errors
    assert "no column 'nme'" in run(*command, "-o", tmp_path / "x", "--by", "nme")[2]


def test_what_needs_both_classes_has_no_number(run, files, tmp_path):
    cutouts = CutoutSet.read(files / "test.fits")
    cutouts[np.asarray(cutouts.table["label"]) == "halo"].write(tmp_path / "halos.fits")
    code, said, _ = run("evaluate", "--model", files / "cnn.safetensors", "--cutouts", tmp_path / "halos.fits", "-o",
                        tmp_path / "out", "--draws", "5")
    assert code == 0 and "nan" not in said
    # Neither an area nor its difference; the recall is known.
    assert re.match(r"cnn +- +- +1\.00 .*\d\.\d\d .*- +\d\.\d\d", said.splitlines()[1])


@pytest.mark.parametrize(("more", "text"), [
    (["--classifier", "pca-lr", "--baseline", "cnn"], "--baseline must be one of the models"),
    (["--classifier", "pca-lr", "--threshold", "2"], "--threshold must be a probability"),
    (["--classifier", "pca-lr", "--draws", "0"], "--draws must be 1 or more"),
    (["--classifier", "pca-lr", "--folds", "0"], "folds must be a whole number, 2 or more"),
    (["--classifier", "pca-lr", "--seeds", "0"], "seeds must be a whole number, 1 or more"),
    (["--classifier", "pca-lr", "--seed", "-1"], "--seed must be 0 or more"),
    (["--classifier", "pca-lr", "--by", "1 Jy"], "--by takes an angle"),
    (["--classifier", "pca-lr", "--set", "depth=1"], "pca-lr has no setting 'depth'"),
    (["--classifier", "pca-lr", "--folds", "100"], "100 folds need at least 100 groups"),
    (["--model", "cnn.safetensors", "--folds", "3"], "--folds belongs to --classifier"),
    (["--model", "train.fits"], "not a readable safetensors file"),
    (["--model", "gone.safetensors"], "gone.safetensors: there is no such file"),
    (["--model", "cnn.safetensors", "--classifier", "cnn"], "not allowed with argument"), ([], "one of the arguments")])
def test_what_cannot_be_evaluated(run, files, tmp_path, monkeypatch, more, text):
    monkeypatch.chdir(files)
    code, said, errors = run("evaluate", *more, "--cutouts", "test.fits", "-o", tmp_path / "out")
    assert (code, said) == (2, "") and text in errors


def test_a_folder_that_cannot_be_made(run, files, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, errors = run("evaluate", "--classifier", "prevalence", "--cutouts", files / "test.fits", "-o",
                          tmp_path / "file" / "out")
    assert code == 2 and "cannot make this folder" in errors


# ---------------------------------------------------------------------------------------------- finetune

def test_the_training_of_a_model_is_continued(run, files, tmp_path):
    path, before = tmp_path / "new.safetensors", (files / "cnn.safetensors").read_bytes()
    code, said, errors = run("finetune", "--model", files / "cnn.safetensors", "--cutouts", files / "test.fits", "-o",
                             path, "--max-epochs", "1", "--learning-rate", "0.001")
    assert (code, errors) == (0, "") and "24 cutouts of 8 groups; the model has seen 16 groups" in said
    model = Classifier.load(path)
    assert model.history["epoch"].tolist() == [0, 1] and model.params["max_epochs"] == 2
    assert (files / "cnn.safetensors").read_bytes() == before
    # It has now seen both, and is judged on neither.
    code, _, errors = run("evaluate", "--model", path, "--cutouts", files / "train.fits", "-o", tmp_path / "out")
    assert code == 2 and "has been trained on 8 of the groups" in errors


def test_models_that_cannot_be_continued(run, files, tmp_path):
    code, _, errors = run("finetune", "--model", files / "features.safetensors", "--cutouts", files / "test.fits", "-o",
                          tmp_path / "new.safetensors")
    assert code == 2 and "the training of a FeaturesLR cannot be continued; try: halopy train" in errors


class PlainModel(Classifier):
    """A model whose ``finetune`` takes what every such method takes, and no more."""

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        pass

    def _predict_proba(self, cutouts):
        return np.full(len(cutouts), 0.5)

    def finetune(self, cutouts, *, rng=None, progress=None, max_seconds=None, max_images=None):
        assert (rng, max_seconds, max_images) == (3, 5.0, 7)
        return PlainModel().fit(cutouts)


def test_any_model_with_the_method_can_be_continued(run, files, tmp_path):
    PlainModel().fit(CutoutSet.read(files / "train.fits")).save(tmp_path / "plain.safetensors")
    command = ["finetune", "--model", tmp_path / "plain.safetensors", "--cutouts", files / "test.fits", "-o",
               tmp_path / "new.safetensors", "--seed", "3", "--max-seconds", "5", "--max-images", "7"]
    code, said, errors = run(*command)
    assert code == 0 and "24 cutouts of 8 groups" in said, errors
    code, _, errors = run(*command, "--overwrite", "--learning-rate", "0.1")
    assert code == 2 and "a PlainModel takes no --learning-rate" in errors


# ------------------------------------------------------------------------------------------------- weights by name

def test_a_trained_model_searches_images(run, files, tmp_path, repository):
    # A model keeps the name that it was given with -o.
    (tmp_path / "mine").write_bytes((files / "cnn.safetensors").read_bytes())
    code, _, errors = run("detect", repository / "halopy" / "data" / "demo.fits", "--targets",
                          repository / "halopy" / "data" / "demo_targets.ecsv", "--n-controls", "0",
                          "--classifier", tmp_path / "mine", "-o", tmp_path / "out")
    assert code == 0, errors
    assert "ConvolutionalClassifier" in (tmp_path / "out" / "detections.ecsv").read_text(encoding="utf-8")


def test_a_network_without_weights_cannot_search(run, repository, tmp_path):
    code, _, errors = run("detect", repository / "halopy" / "data" / "demo.fits", "--classifier", "cnn", "-o",
                          tmp_path / "out")
    assert code == 2 and "cnn must be trained before it searches; try: halopy train --classifier cnn" in errors


def test_weights_that_ship_have_a_name():
    assert trained_model("ensemble").fitted_
    with pytest.raises(UnknownModelError, match="'cnn' in halopy.classifiers ships no weights"):
        trained_model("cnn")
