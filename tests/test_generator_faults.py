"""Trainings of generators that are killed, and their files when they are broken, foreign or hostile."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from safetensors import safe_open
from safetensors.numpy import save_file

from halopy.errors import HaloInputError, NotFittedError
from halopy.generative import HaloGenerator
from halopy.generative.conditions import CLASSES
from halopy.generative.run import Run
from halopy.model import Model
from halopy.registry import generators
from halopy.testing import simulated_cutouts

TINY = {"size": 16, "width": 8, "batch_size": 8, "n_images": 48}
MORE = {"cwgan": {"latent": 8, "n_critic": 2}, "sngan": {"latent": 8}, "diffusion": {"steps": 3}}
NAMES = list(MORE)
STEPS = {"cwgan": 3, "sngan": 2, "diffusion": 1}
"""Of all networks, for one batch."""


def fit(name, *, cutouts=None, rng=1, checkpoint=None, max_images=None, **changes):
    model = generators.create(name, **TINY | MORE[name] | changes)
    return model.fit(simulated_cutouts(15) if cutouts is None else cutouts, rng=rng, progress=False,
                     checkpoint=checkpoint, max_images=max_images)


def content(model, folder):
    model.save(folder / "content.safetensors", overwrite=True)
    return (folder / "content.safetensors").read_bytes()


def edited(source, target, change):
    with safe_open(source, framework="numpy") as stream:
        metadata, arrays = stream.metadata(), {k: stream.get_tensor(k) for k in stream.keys()}  # noqa: SIM118
    change(arrays, metadata)
    save_file(arrays, target, metadata=metadata)
    return target


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Of each generator a model, and the checkpoint of its run after half of it."""
    folder = tmp_path_factory.mktemp("files")
    for name in NAMES:
        fit(name, checkpoint=folder / f"{name}-run.safetensors", max_images=24).save(folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of each generator whose training nothing came in between."""
    return {name: content(fit(name), tmp_path_factory.mktemp(name)) for name in NAMES}


# -------------------------------------------------------------------------------------- being killed

class Crash(Exception):
    pass


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batches", [0, 1, 4])
def test_a_killed_training_continues_to_the_same_bytes(tmp_path, monkeypatch, whole, name, batches):
    """It dies in the middle of a batch, where that has a middle."""
    path, left, step = tmp_path / "run.safetensors", [batches * STEPS[name] + STEPS[name] // 2], Run.step

    def dying(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise Crash
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", dying)
        with pytest.raises(Crash):
            fit(name, checkpoint=path)
    assert path.exists() == (batches > 0)
    assert content(fit(name, checkpoint=path), tmp_path) == whole[name]
    # What is finished stays as it is, without another step.
    monkeypatch.setattr(Run, "step", None)
    assert content(fit(name, checkpoint=path), tmp_path) == whole[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("images", [0, 20])
def test_a_training_stopped_by_images_continues_to_the_same_bytes(tmp_path, whole, name, images):
    path = tmp_path / "run.safetensors"
    short = content(fit(name, checkpoint=path, max_images=images), tmp_path)
    assert short != whole[name] and content(fit(name, checkpoint=path, max_images=images), tmp_path) == short
    assert content(fit(name, checkpoint=path), tmp_path) == whole[name]


@pytest.mark.parametrize(("name", "images"), [("sngan", 24), ("diffusion", 8), ("diffusion", 40)])
def test_a_part_of_a_block_is_no_place_to_go_on_from(tmp_path, name, images):
    """Blocks of two batches; what ends within one goes on from the block before."""
    path, settings = tmp_path / "run.safetensors", {"n_images": 640}
    whole = content(fit(name, max_images=64, **settings), tmp_path)
    fit(name, checkpoint=path, max_images=images, **settings)
    assert content(fit(name, checkpoint=path, max_images=64, **settings), tmp_path) == whole


@pytest.mark.parametrize("name", NAMES)
def test_time_ends_a_training_and_it_goes_on(tmp_path, whole, name):
    path = tmp_path / "run.safetensors"
    model = generators.create(name, **TINY | MORE[name])
    model.fit(simulated_cutouts(15), rng=1, progress=False, max_seconds=0, checkpoint=path)
    assert len(model.history) == 1 and np.isfinite(model.sample(2, rng=1).data).all()
    assert content(fit(name, checkpoint=path), tmp_path) == whole[name]


@pytest.mark.parametrize(("name", "place"), [("cwgan", "write"), ("diffusion", "write"), ("sngan", "move")])
def test_a_full_disk_leaves_the_older_checkpoint(tmp_path, monkeypatch, whole, name, place):
    path = tmp_path / "run.safetensors"
    fit(name, checkpoint=path, max_images=16)
    before = path.read_bytes()

    def full(self, data):
        with open(self, "wb") as stream:
            stream.write(data[:1000])
        raise OSError(28, "No space left on device")

    def refused(*paths):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((Path, "write_bytes", full) if place == "write" else (os, "replace", refused)))
        with pytest.raises(HaloInputError, match="cannot write this file: .*No space left.* check the disk space"):
            fit(name, checkpoint=path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    assert content(fit(name, checkpoint=path), tmp_path) == whole[name]


# The child is killed with SIGKILL at some step; what it had written is what the next one goes on from.
KILLED = """
import os, signal, sys
from pathlib import Path
from halopy import generators
from halopy.generative.run import Run
from halopy.testing import simulated_cutouts

folder, cutouts = Path(sys.argv[1]), simulated_cutouts(15)

def fit(name, checkpoint=None):
    model = generators.create(name, size=16, width=8, batch_size=8, n_images=160)
    return model.fit(cutouts, rng=1, progress=False, checkpoint=checkpoint)

step = Run.step
for name in ("diffusion", "sngan", "cwgan"):
    run, model = (folder / f"{name}-{what}.safetensors" for what in ("run", "model"))
    fit(name).save(folder / f"{name}-whole.safetensors")
    for after in (1, 7, 2, 9):
        child = os.fork()
        if child == 0:
            count = []
            def dying(self, *arguments):
                count.append(1)
                if len(count) > after:
                    os.kill(os.getpid(), signal.SIGKILL)
                return step(self, *arguments)
            Run.step = dying
            fit(name, run)
            os._exit(0)
        print(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    fit(name, run).save(model)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork")
def test_a_process_that_is_killed(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, timeout=300,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["9"] * 12
    for name in NAMES:
        whole, model = ((tmp_path / f"{name}-{what}.safetensors").read_bytes() for what in ("whole", "model"))
        assert whole == model


# ------------------------------------------------------------------------------------ broken checkpoints

def other(**changes):
    """The same cutouts with another first value of a column, or with one brighter pixel."""
    cutouts = simulated_cutouts(15)
    for name, value in changes.items():
        if name == "pixel":
            cutouts.data[3, 32, 32] += value
        else:
            cutouts.table[name][0] = value
    return cutouts


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("changes", "what"), [
    ({"rng": 2}, "rng"), ({"learning_rate": 1e-3}, "settings"), ({"average": 0.5}, "settings"),
    ({"cutouts": simulated_cutouts(12)}, "cutouts"), ({"cutouts": other(label="none")}, "cutouts"),
    ({"cutouts": other(pixel=1)}, "cutouts"), ({"cutouts": other(group="group 4")}, "cutouts"),
    ({"cutouts": simulated_cutouts(12), "rng": 2}, "cutouts, rng"),
])
def test_a_checkpoint_of_another_training(files, name, changes, what):
    path = files / f"{name}-run.safetensors"
    with pytest.raises(HaloInputError, match=f"of another run, with another {what}; .*settings, cutouts and rng"):
        fit(name, checkpoint=path, **changes)


@pytest.mark.parametrize(("name", "cut"), [("cwgan", 0), ("sngan", 7), ("sngan", 100), ("diffusion", -1)])
def test_a_checkpoint_that_ends_too_early(files, tmp_path, name, cut):
    path = tmp_path / "run.safetensors"
    path.write_bytes((files / f"{name}-run.safetensors").read_bytes()[:cut])
    with pytest.raises(HaloInputError, match="not a readable checkpoint.* delete it to start again") as told:
        fit(name, checkpoint=path)
    assert told.value.path == path


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_checkpoint(files, tmp_path, name):
    path = tmp_path / "run.safetensors"
    path.write_text("images,loss\n8,1.0\n", encoding="utf-8")
    with pytest.raises(HaloInputError, match="not a readable checkpoint"):
        fit(name, checkpoint=path)
    with pytest.raises(HaloInputError, match="no checkpoint of halopy.*Model.load reads a trained model"):
        fit(name, checkpoint=files / f"{name}.safetensors")
    with pytest.raises(HaloInputError, match="no checkpoint of halopy|another model"):
        fit(name, checkpoint=files / f"{NAMES[NAMES.index(name) - 1]}-run.safetensors")
    with pytest.raises(HaloInputError, match="was not written by halopy"):
        generators[name].load(files / f"{name}-run.safetensors")


CHECKPOINT_BREAKS = {
    "NaN": (lambda a, m, k: a[f"network.{k}"].fill(np.nan), "must be finite .network.{}"),
    "shape": (lambda a, m, k: a.update({f"best.{k}": np.zeros(3, np.float32)}), "must have the shape .* .best.{}"),
    "missing": (lambda a, m, k: a.pop(f"average.{k}"), "is missing .average.{}"),
    "extra": (lambda a, m, k: a.update({"best.odd": np.zeros(3, np.float32)}), "no part of this network .best.odd"),
    "history": (lambda a, m, k: a.pop("history"), "is missing .history"),
    "random": (lambda a, m, k: a.update(random=np.zeros(3, np.uint8)), "no state of a random generator"),
    "schema": (lambda a, m, k: m.update({"halopy-checkpoint": json.dumps(json.loads(m["halopy-checkpoint"])
                                                                        | {"schema": 99})}), "has schema 99"),
}


@pytest.mark.parametrize("name", ["cwgan", "diffusion"])
@pytest.mark.parametrize("fault", CHECKPOINT_BREAKS)
def test_a_broken_checkpoint(files, tmp_path, name, fault):
    change, text = CHECKPOINT_BREAKS[fault]
    part, key = ("denoiser", "first.bias") if name == "diffusion" else ("painter", "first.bias")
    names = {"NaN": f"{part}.{key}"}
    path = edited(files / f"{name}-run.safetensors", tmp_path / "run.safetensors",
                  lambda a, m: change(a, m, names.get(fault, key)))
    with pytest.raises(HaloInputError, match=text.format(names.get(fault, key))) as told:
        fit(name, checkpoint=path)
    assert told.value.path == path


# ---------------------------------------------------------------------------------------- broken models

def header(metadata, change):
    tree = json.loads(metadata["halopy"])
    change(tree["step"])
    metadata["halopy"] = json.dumps(tree)


def without_arrays(arrays, metadata):
    arrays.clear()
    arrays["empty"] = np.zeros(0, np.float32)
    header(metadata, lambda step: step.update(arrays=[]))


def with_array(arrays, metadata):
    arrays["weight.odd"] = np.zeros(3, np.float32)
    header(metadata, lambda step: step["arrays"].append("weight.odd"))


def without(name):
    def change(arrays, metadata):
        del arrays[name]
        header(metadata, lambda step: step["arrays"].remove(name))
    return change


def put(name, values):
    return lambda arrays, metadata: arrays.update({name: np.array(values)})


MODEL_BREAKS = {
    "NaN": (lambda a, m: a["weight.{}"].fill(np.nan), "the weights must be finite .weight.{}"),
    "infinite": (lambda a, m: a["weight.{}"].fill(np.inf), "the weights must be finite .weight.{}"),
    "shape": (lambda a, m: a.update({"weight.{}": np.zeros(3, np.float16)}), r"must have the shape .*found \(3,\)"),
    "whole numbers": (lambda a, m: a.update({"weight.{}": a["weight.{}"].astype(np.int16)}), "must be finite"),
    "gone": (lambda a, m: a.pop("weight.{}"), "arrays are missing in this file .weight.{}"),
    "not listed": (lambda a, m: a.update({"weight.odd": np.zeros(3, np.float32)}), "arrays that no step asks for"),
    "extra": (with_array, "belongs to no part of this generator .weight.odd"),
    "nothing": (without_arrays, "a trained generator has weights, and this file has none"),
    **{name: (without(name), f"an array is missing .{name}")
       for name in ("seen.class", "seen.snr", "seen.beam", "history", "pixels", "unit")},
    "classes": (put("seen.class", np.full(15, len(CLASSES), np.int16)), "classes are numbers from 0 to"),
    "negative": (put("seen.class", np.full(15, -1, np.int16)), "classes are numbers from 0 to"),
    "lengths": (put("seen.rms", np.ones(4, np.float32)), "must be columns of one length"),
    "none seen": (lambda a, m: a.update({k: v[:0] for k, v in a.items() if k.startswith("seen.")}), "of one length"),
    "history": (put("history", np.zeros((3, 9))), r"the history has \d columns .history, found \(3, 9\)"),
    "flat history": (put("history", np.zeros(6)), "the history has"),
    "scale": (put("pixels", [0.0, -1.0, 1.0]), "pixels must be a positive scale and two limits"),
    "limits": (put("pixels", [1.0, 2.0, 1.0]), "pixels must be a positive scale and two limits"),
    "pixels": (put("pixels", [1.0, 2.0]), "pixels must be a positive scale and two limits"),
    "unit": (put("unit", np.frombuffer(b"furlong", np.uint8)), "this is no unit .unit"),
    "no text": (put("unit", np.array([255, 254], np.uint8)), "this is no unit"),
    "width": (lambda a, m: header(m, lambda step: step["params"].update(width=16)), "must have the shape"),
    "setting": (lambda a, m: header(m, lambda step: step["params"].update(width=-8)), "width must be a whole number"),
    "memory": (lambda a, m: header(m, lambda step: step["params"].update(width=8 * 10**12)), "do not fit this halopy"),
}


@pytest.mark.parametrize("name", ["sngan", "diffusion"])
@pytest.mark.parametrize("fault", MODEL_BREAKS)
def test_a_broken_model(files, tmp_path, name, fault):
    key = "denoiser.first.bias" if name == "diffusion" else "painter.first.bias"

    def change(arrays, metadata):
        arrays["weight.{}"] = arrays.pop(f"weight.{key}")
        MODEL_BREAKS[fault][0](arrays, metadata)
        if "weight.{}" in arrays:
            arrays[f"weight.{key}"] = arrays.pop("weight.{}")

    path = edited(files / f"{name}.safetensors", tmp_path / "broken.safetensors", change)
    with pytest.raises(HaloInputError, match=MODEL_BREAKS[fault][1].replace("{}", key)) as told:
        HaloGenerator.load(path)
    assert told.value.path == path


def test_the_weights_of_another_generator(files, tmp_path):
    """The settings of one file over the arrays of another."""
    with safe_open(files / "diffusion.safetensors", framework="numpy") as stream:
        metadata = stream.metadata()
    path = edited(files / "sngan.safetensors", tmp_path / "odd.safetensors", lambda a, m: m.update(metadata))
    with pytest.raises(HaloInputError, match="arrays are missing in this file .weight.denoiser"):
        HaloGenerator.load(path)
    with pytest.raises(HaloInputError, match="holds a SpectralGAN, not a Diffusion"):
        generators["diffusion"].load(files / "sngan.safetensors")


@pytest.mark.parametrize(("name", "cut"), [("cwgan", 0), ("sngan", 7), ("sngan", 100), ("diffusion", -1)])
def test_a_model_that_ends_too_early(files, tmp_path, name, cut):
    path = tmp_path / "model.safetensors"
    path.write_bytes((files / f"{name}.safetensors").read_bytes()[:cut])
    with pytest.raises(HaloInputError, match="not a readable safetensors file"):
        generators[name].load(path)


class Bomb:
    """What runs code when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("ending", ["safetensors", "pt", "ckpt", "joblib"])
def test_no_pickle_is_loaded(tmp_path, ending):
    path, marker = tmp_path / f"model.{ending}", tmp_path / "marker"
    path.write_bytes(pickle.dumps(Bomb(marker)))
    for load in (HaloGenerator.load, Model.load, lambda path: fit("diffusion", checkpoint=path)):
        with pytest.raises(HaloInputError, match="not a readable (safetensors file|checkpoint)"):
            load(path)
    assert not marker.exists()


def test_a_training_set_of_any_unit(tmp_path):
    """The unit is part of the file, also where it is none."""
    cutouts = simulated_cutouts(15)
    for factor, unit in ((1e3, u.mJy / u.beam), (1.0, u.dimensionless_unscaled), (1.0, u.Jy / u.sr)):
        table = cutouts.table.copy()
        table["rms"] = table["rms"].value * factor * unit
        model = fit("diffusion", cutouts=cutouts.replace(data=cutouts.data * factor, table=table, unit=unit))
        model.save(tmp_path / "m.safetensors", overwrite=True)
        made = HaloGenerator.load(tmp_path / "m.safetensors").sample(2, rng=1)
        assert made.unit == unit and made.table["rms"].value == pytest.approx(0.008 * factor)


def test_a_model_that_was_not_trained_can_be_saved(tmp_path):
    generators.create("cwgan", width=16).save(tmp_path / "new.safetensors")
    loaded = HaloGenerator.load(tmp_path / "new.safetensors")
    assert loaded.width == 16 and loaded.history is None
    with pytest.raises(NotFittedError, match="must be trained"):
        loaded.sample(1)
