"""Model files that are hostile, broken or meant for other images; and plugins that are broken."""

from __future__ import annotations

import json

import numpy as np
import pytest
import test_domain
import test_model_faults
import test_registry
from made import FULL, TARGETS, image
from safetensors import safe_open
from safetensors.numpy import save_file
from test_domain import trained  # noqa: F401 (a fixture)
from test_model_faults import folder  # noqa: F401
from test_registry import install  # noqa: F401

from halopy import classifiers
from halopy.io.detections import read_detections
from halopy.testing import simulated_cutouts

test_a15_pickles_under_any_name = test_model_faults.test_no_pickle_is_loaded
test_a16_the_array_is_named = test_model_faults.test_the_message_names_the_file_and_the_array
test_a16_weights_of_another_network = test_model_faults.test_weights_of_another_network
test_a16_later_schema_and_settings = test_model_faults.test_a_header_that_does_not_fit
test_a17_flags_of_a_trained_model = test_domain.test_a_model_says_what_it_was_not_trained_for
test_a21_broken_plugins = test_registry.test_a_broken_plugin_names_its_distribution_and_harms_nobody
test_a21_a_missing_extra = test_registry.test_a_missing_dependency_is_named
test_a21_one_name_twice = test_registry.test_a_name_taken_twice
test_a21_strict_for_plugin_authors = test_registry.test_strict_mode_raises_for_plugin_authors


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A small trained model, and broken copies of its file."""
    place = tmp_path_factory.mktemp("models")
    model = classifiers.create("features-lr").fit(simulated_cutouts(24), rng=1)
    model.save(place / "good.safetensors")
    with safe_open(place / "good.safetensors", framework="numpy") as stream:
        text, arrays = stream.metadata()["halopy"], {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    name = next(name for name in sorted(arrays) if arrays[name].dtype.kind == "f" and arrays[name].size > 1)
    later = json.dumps(json.loads(text) | {"schema": 99})
    for kind, header, changed in (
        ("missing", text, {k: v for k, v in arrays.items() if k != name}),
        ("extra", text, arrays | {"more": arrays[name]}),
        ("nan", text, arrays | {name: arrays[name] * np.nan}),
        ("later", later, arrays),
        ("foreign", "{}", arrays),
    ):
        save_file(changed, place / f"{kind}.safetensors", metadata={"halopy": header})
    whole = (place / "good.safetensors").read_bytes()
    (place / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (place / "page.safetensors").write_bytes(b"<!DOCTYPE html><title>Sign in</title>")
    (place / "pointer.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    return place, name


def test_a15_a16_files_that_are_no_model_of_halopy(refused, models, tmp_path):
    place, name = models
    image(tmp_path / "a.fits", FULL)
    for kind, text in (
        ("missing", name),
        ("extra", "more"),
        ("nan", name),
        ("later", "schema 99"),
        ("foreign", "halopy"),
        ("cut", "not a readable safetensors"),
        ("page", "not a readable"),
        ("pointer", "not a readable"),
    ):
        path = place / f"{kind}.safetensors"
        said = refused("detect", "a.fits", "--classifier", path, "-o", "out")
        assert said.startswith(f"{path}: ") and text in said, said
        assert not (tmp_path / "out").exists()


def test_a15_pickles_at_the_command_line(refused, tmp_path):
    marker = tmp_path / "marker"
    image(tmp_path / "a.fits", FULL)
    for ending in ("safetensors", "pt", "ckpt", "joblib"):
        for option in ("--classifier", "--detector"):
            path = tmp_path / f"model{option}.{ending}"
            path.write_bytes(test_model_faults.zipped(test_model_faults.Bomb(marker)))
            assert str(path) in refused("detect", "a.fits", option, path, "-o", "out")
            assert not marker.exists() and not (tmp_path / "out").exists()


def test_a17_an_image_unlike_the_training_is_flagged(halopy, models, tmp_path):
    """Simulated at 200 MHz with beams of minutes, asked about 1400 MHz and 45 arcsec."""
    image(tmp_path / "a.fits", FULL)
    (tmp_path / "t.csv").write_text(TARGETS)
    done = halopy(
        "detect",
        "a.fits",
        "--targets",
        "t.csv",
        "--classifier",
        models[0] / "good.safetensors",
        "--n-controls",
        0,
        "-o",
        "out",
    )
    assert done.code == 0
    assert "a.fits: 1 of 1 targets are unlike what the classifier was trained on, by beam and frequency" in done.err
    flags = read_detections(tmp_path / "out" / "detections.ecsv")["flags"][0].split()
    assert "frequency-outside-training" in flags and "beam-outside-training" in flags
