"""Model files that are broken, foreign or hostile, and processes that are killed while they write them."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import stat
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from halopy import Detector, cli
from halopy.classify import Classifier
from halopy.classify.cnn import ConvolutionalClassifier
from halopy.cutouts import remove_unfinished, write_atomically
from halopy.errors import HaloInputError, MissingExtraError
from halopy.model import Model
from halopy.registry import Registry, classifiers
from halopy.testing import simulated_cutouts

TINY = {"size": 16, "pixels_per_beam": None, "width": 4, "views": 1, "batch_size": 8, "max_epochs": 1}


def train(name="cnn", *, checkpoint=None, **changes):
    model = classifiers.create(name, **TINY | changes)
    return model.fit(simulated_cutouts(12), rng=1, progress=False, checkpoint=checkpoint)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained model, the checkpoint of its run, and models of another width and another kind."""
    folder = tmp_path_factory.mktemp("models")
    train(checkpoint=folder / "run.safetensors").save(folder / "model.safetensors")
    train(width=6).save(folder / "wide.safetensors")
    train("dense").save(folder / "dense.safetensors")
    return folder


def content(path):
    with safe_open(path, framework="numpy") as stream:
        return stream.metadata(), {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118


# ---------------------------------------------------------------------------------- pickles under any name

class Bomb:
    """What runs code when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def zipped(bomb):
    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(2), "state": bomb}, stream)
    return stream.getvalue()


PICKLES = {"pickle": lambda bomb: pickle.dumps(bomb, protocol=4), "old pickle": lambda bomb: pickle.dumps(bomb, 0),
           "torch.save": zipped}
DOORS = {
    "Model.load": (HaloInputError, lambda path: Model.load(path)),
    "Classifier.load": (HaloInputError, lambda path: Classifier.load(path)),
    "Detector.load": (HaloInputError, lambda path: Detector.load(path)),
    "checkpoint": (HaloInputError, lambda path: train(checkpoint=path)),
}


@pytest.mark.parametrize("ending", ["safetensors", "pt", "ckpt", "joblib", "pkl"])
@pytest.mark.parametrize("kind", PICKLES)
def test_no_pickle_is_loaded(tmp_path, kind, ending):
    marker, path = tmp_path / "marker", tmp_path / f"model.{ending}"
    path.write_bytes(PICKLES[kind](Bomb(marker)))
    before = path.read_bytes()
    for door, (error, load) in DOORS.items():
        with pytest.raises(error, match="not a readable (safetensors file|checkpoint)") as told:
            load(path)
        assert str(told.value).startswith(f"{path}: ") and told.value.hint, door
    assert not marker.exists() and path.read_bytes() == before
    # The trap is real: whoever unpickles it springs it.
    if kind != "torch.save":
        pickle.loads(before)
        assert marker.exists()


@pytest.mark.parametrize("option", ["--classifier", "--detector"])
@pytest.mark.parametrize("ending", ["safetensors", "pt", "ckpt", "joblib"])
def test_no_pickle_is_loaded_by_the_command_line(tmp_path, repository, capsys, option, ending):
    marker, path, out = tmp_path / "marker", tmp_path / f"model.{ending}", tmp_path / "out"
    path.write_bytes(zipped(Bomb(marker)))
    image = repository / "halopy" / "data" / "demo.fits"
    assert cli.main(["detect", str(image), option, str(path), "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and str(path) in said and len(said.splitlines()) == 1
    assert not marker.exists() and not out.exists()


# --------------------------------------------------------------------------------- what does not fit together

def test_weights_of_another_network(folder, tmp_path):
    """The settings of one file over the arrays of another."""
    metadata, _ = content(folder / "model.safetensors")
    for other, text in (("wide", r"must have the shape \(4, .*\(weight\.[\w.]+, found \(6, "),
                        ("dense", r"missing .*\(weight\.")):
        path = tmp_path / f"{other}.safetensors"
        save_file(content(folder / f"{other}.safetensors")[1], path, metadata=metadata)
        with pytest.raises(HaloInputError, match=text) as told:
            ConvolutionalClassifier.load(path)
        assert str(told.value).startswith(f"{path}: ")


KEY = "weight.features.0.bias"
BREAKS = {
    "missing": lambda arrays: arrays.pop(KEY),
    "shape": lambda arrays: arrays.update({KEY: np.zeros((4, 1), np.float32)}),
    "NaN": lambda arrays: arrays[KEY].__setitem__(2, np.nan),
    "infinite": lambda arrays: arrays[KEY].__setitem__(2, -np.inf),
    "whole numbers": lambda arrays: arrays.update({KEY: np.zeros(4, np.int32)}),
    "extra": lambda arrays: arrays.update({"weight.features.9.bias": arrays[KEY]}),
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_message_names_the_file_and_the_array(folder, tmp_path, name):
    metadata, arrays = content(folder / "model.safetensors")
    BREAKS[name](arrays)
    path = tmp_path / "broken.safetensors"
    save_file(arrays, path, metadata=metadata)
    with pytest.raises(HaloInputError) as told:
        Classifier.load(path)
    text = str(told.value)
    assert text.startswith(f"{path}: ") and ("weight.features.9.bias" if name == "extra" else KEY) in text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_numbers_that_numpy_does_not_know(folder, tmp_path, dtype):
    from safetensors.torch import save_file as save_tensors

    path = tmp_path / "model.safetensors"
    for source, load in (("model", Classifier.load), ("run", lambda path: train(checkpoint=path))):
        metadata, arrays = content(folder / f"{source}.safetensors")
        arrays = {name: torch.from_numpy(array) for name, array in arrays.items()}
        name = next(name for name in arrays if name.endswith(KEY.removeprefix("weight")))
        save_tensors(arrays | {name: arrays[name].to(dtype)}, path, metadata=metadata)
        with pytest.raises(HaloInputError, match="not a readable"):
            load(path)


@pytest.mark.parametrize(("change", "text"), [
    (lambda header: header.update(schema=99), "written for schema 99, this halopy reads 1.*a newer halopy"),
    (lambda header: header["step"].update(model=["os", "system"]), "no registry 'os'"),
    (lambda header: header["step"].update(model=["halopy.classifiers", "gone"]), "no model 'gone'"),
    # No machine has the memory for it.
    (lambda header: header["step"]["params"].update(width=10**12), "settings in this file do not fit this halopy"),
    (lambda header: header["step"]["params"].update(device="nowhere"), "device must be one that torch has"),
    (lambda header: header["step"].update(groups=None), "settings in this file do not fit this halopy"),
])
def test_a_header_that_does_not_fit(folder, tmp_path, change, text):
    metadata, arrays = content(folder / "model.safetensors")
    header = json.loads(metadata["halopy"])
    change(header)
    path = tmp_path / "model.safetensors"
    save_file(arrays, path, metadata={"halopy": json.dumps(header)})
    with pytest.raises(HaloInputError, match=text) as told:
        Classifier.load(path)
    assert told.value.path == path


def test_a_header_without_a_bottom(folder, tmp_path):
    path = tmp_path / "model.safetensors"
    for key, source, load in (("halopy", "model", Classifier.load),
                              ("halopy-checkpoint", "run", lambda path: train(checkpoint=path))):
        save_file(content(folder / f"{source}.safetensors")[1], path, metadata={key: "[" * 100_000})
        with pytest.raises(HaloInputError, match="not written by halopy|no checkpoint of halopy"):
            load(path)


def test_a_missing_package_is_no_fault_of_the_file(folder, monkeypatch):
    def missing(self, name):
        raise MissingExtraError("needs the module 'torch'")

    monkeypatch.setattr(Registry, "__getitem__", missing)
    with pytest.raises(MissingExtraError, match="needs the module 'torch'"):
        Classifier.load(folder / "model.safetensors")


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, 100, 0.5, -1])
def test_files_that_end_too_early(folder, tmp_path, cut):
    path = tmp_path / "cut.safetensors"
    for source, load in (("model", Classifier.load), ("run", lambda path: train(checkpoint=path))):
        whole = (folder / f"{source}.safetensors").read_bytes()
        path.write_bytes(whole[:int(cut * len(whole)) if isinstance(cut, float) else cut])
        with pytest.raises(HaloInputError, match="not a readable") as told:
            load(path)
        assert told.value.path == path


@pytest.mark.parametrize("length", [2**63 - 1, 2**64 - 1, 10**9])
def test_a_header_that_claims_to_be_huge(folder, tmp_path, length):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + (folder / "model.safetensors").read_bytes()[8:])
    with pytest.raises(HaloInputError, match="not a readable safetensors file"):
        Classifier.load(path)


# -------------------------------------------------------------------------------------------- being killed

# Each run but the last kills itself with SIGKILL at a random step of writing a random checkpoint.
KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from halopy import classifiers
from halopy.testing import simulated_cutouts

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
cutouts = simulated_cutouts(12)
rng = np.random.default_rng(5)

def fit(checkpoint=None):
    model = classifiers.create("cnn", size=16, pixels_per_beam=None, width=4, views=1, batch_size=8,
                               max_epochs=3 * kills + 1, patience=10**6, augment=True)
    return model.fit(cutouts, rng=1, progress=False, checkpoint=checkpoint)

def trap(place, number):
    left = {"left": number}
    def at(here):
        left["left"] -= here == place
        if left["left"] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    fsync, replace = os.fsync, os.replace
    def write_bytes(self, content):
        with open(self, "wb") as stream:
            at("empty")
            stream.write(content[:len(content) // 2])
            stream.flush()
            at("half")
            stream.write(content[len(content) // 2:])
    def synced(handle):
        at("written")
        fsync(handle)
    def moved(*paths):
        at("synced")
        replace(*paths)
        at("moved")
    Path.write_bytes, os.fsync, os.replace = write_bytes, synced, moved

fit().save(folder / "whole.safetensors")
for _ in range(kills):
    place, number = str(rng.choice(["empty", "half", "written", "synced", "moved"])), int(rng.integers(1, 4))
    child = os.fork()
    if child == 0:
        trap(place, number)
        fit(folder / "run.safetensors")
        os._exit(0)
    print(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(list(folder.iterdir())), flush=True)
fit(folder / "run.safetensors").save(folder / "model.safetensors")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork")
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_training_that_is_killed_continues_to_the_same_bytes(tmp_path, kills):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(kills)], capture_output=True, text=True,
                          timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    codes, counts = np.array([line.split() for line in done.stdout.splitlines()], dtype=int).T
    assert codes.tolist() == [9] * kills
    assert counts.max() > 2  # some have left half a file behind
    assert {path.name for path in tmp_path.iterdir()} == {"run.safetensors", "whole.safetensors", "model.safetensors"}
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_only_what_was_left_of_this_file_is_removed(tmp_path):
    """Temporary files of other files, and names that only look alike, stay."""
    left = []

    def dying(temporary):
        left.append(temporary)
        open(temporary, "wb").close()
        os.link(temporary, f"{temporary}.kept")
        raise KeyboardInterrupt

    path = tmp_path / "run [1].safetensors"
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, dying)
    os.rename(f"{left[0]}.kept", left[0])  # as if the process had not had the time to clear up
    others = ["run [1].safetensors", ".run [2].safetensors-abcdefgh.safetensors",
              ".run [1].safetensors-abc.safetensors", "run [1].safetensors-abcdefgh.safetensors",
              ".run 1.safetensors-abcdefgh.safetensors"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    remove_unfinished(path)
    assert {item.name for item in tmp_path.iterdir()} == set(others)
    # Of two long names the temporary files may begin alike.
    long = tmp_path / ("x" * 41)
    kept = tmp_path / f".{'x' * 40}-abcdefgh.tmp"
    kept.write_bytes(b"")
    remove_unfinished(long)
    assert kept.exists()


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_model_files_have_the_mode_of_any_new_file(tmp_path):
    (tmp_path / "other").write_bytes(b"")
    train(checkpoint=tmp_path / "run.safetensors").save(tmp_path / "model.safetensors")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1 and not [p for p in tmp_path.iterdir() if re.match(r"\.", p.name)]
