"""What a model was trained on: recorded, saved, and said where a cutout lies outside of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from halopy.classify import Classifier
from halopy.classify.domain import outside, training_range
from halopy.errors import HaloInputError, NotFittedError
from halopy.registry import classifiers
from halopy.report import FLAGS
from halopy.testing import simulated_cutouts


def table(*, beam=(100.0, 200.0), frequency=(150.0, 200.0), pixel=(20.0, 50.0)):
    return QTable({"beam_major": np.array(beam) * u.arcsec, "beam_minor": np.array(beam) / 60 * u.arcmin,
                   "frequency": np.array(frequency) * u.MHz, "pixel_scale": np.array(pixel) * u.arcsec})


def words(known, **changes):
    values = {"beam": 140.0, "frequency": 170.0, "pixel": 30.0} | changes
    return outside(known, table(**{name: [value] for name, value in values.items()}))[0]


def test_the_range_is_from_the_smallest_to_the_largest():
    known = training_range(table())
    assert known.keys() == {"beam", "frequency", "pixels_per_beam"}
    assert known["beam"] == pytest.approx((100, 200)) and known["frequency"] == (150, 200)
    assert known["pixels_per_beam"] == pytest.approx((4, 5))
    # A training that is continued widens it.
    wider = training_range(table(frequency=(1400, 1400)), known)
    assert wider["frequency"] == (150, 1400) and wider["beam"] == known["beam"]


@pytest.mark.parametrize(("changes", "said"), [
    ({}, ""),
    ({"frequency": 1400.0}, "frequency-outside-training"),
    ({"frequency": 134.0}, "frequency-outside-training"),
    ({"frequency": 219.0}, ""), ({"frequency": 136.0}, ""),  # within a tenth
    ({"beam": 45.0, "pixel": 9.0}, "beam-outside-training"),
    ({"beam": 300.0, "pixel": 60.0}, "beam-outside-training"),
    ({"pixel": 50.0}, ""),                       # 2.8 pixels to the beam sample it
    ({"pixel": 70.0}, "pixels-outside-training"),  # 2 do not
    ({"pixel": 5.0}, ""),
    ({"beam": 300.0, "frequency": 60.0, "pixel": 200.0},
     "beam-outside-training frequency-outside-training pixels-outside-training"),
    ({"frequency": np.nan, "pixel": np.nan}, ""),
])
def test_what_is_outside(changes, said):
    assert words(training_range(table()), **changes) == said
    assert all(word in FLAGS for word in said.split())


def test_pixels_as_they_are_must_be_like_those_of_the_training():
    known = training_range(table())
    for pixel, said in ((30.0, ""), (50.0, "pixels-outside-training"), (5.0, "pixels-outside-training")):
        assert outside(known, table(beam=[140.0], frequency=[170.0], pixel=[pixel]), own_grid=True)[0] == said


@given(st.floats(1, 1e4), st.floats(0.92, 1.08))
def test_the_training_itself_is_inside(frequency, factor):
    known = training_range(table(frequency=(frequency, frequency)))
    assert outside(known, table(frequency=(frequency * factor,) * 2)).tolist() == ["", ""]
    assert outside(known, table(frequency=(frequency * 1.2, frequency / 1.2))).tolist() == [
        "frequency-outside-training"] * 2


def test_what_is_not_known_is_no_reason_for_a_flag():
    assert training_range(QTable({"label": ["halo"]})) == {}
    assert outside(training_range(table()), QTable({"label": ["halo", "none"]})).tolist() == ["", ""]
    assert outside({}, table()).tolist() == ["", ""]
    assert outside(training_range(table()), table()[:0]).shape == (0,)
    masked = table()
    masked["frequency"] = MaskedColumn([1400.0, 170.0], mask=[True, False], unit=u.MHz)
    assert outside(training_range(table()), masked).tolist() == ["", ""]
    assert training_range(masked)["frequency"] == (170, 170)
    odd = table()
    odd["frequency"] = [1, 2] * u.arcsec
    assert "frequency" not in training_range(odd)
    bare = table()
    bare["frequency"] = [150.0, 1400.0]  # MHz where no unit is given
    assert outside(training_range(table()), bare).tolist() == ["", "frequency-outside-training"]


# ----------------------------------------------------------------------------------------------- models

@pytest.fixture(scope="module")
def trained():
    return classifiers.create("features-lr").fit(simulated_cutouts(12))


def elsewhere(cutouts, **factors):
    changed = cutouts.table.copy()
    for name, factor in factors.items():
        changed[name] = changed[name] * factor
    return cutouts.replace(table=changed)


@pytest.mark.parametrize(("factors", "said"), [
    ({}, ""), ({"frequency": 7}, "frequency-outside-training"),
    ({"beam_major": 3, "beam_minor": 3}, "beam-outside-training"), ({"pixel_scale": 2}, "pixels-outside-training")])
def test_a_model_says_what_it_was_not_trained_for(trained, factors, said):
    cutouts = elsewhere(simulated_cutouts(3), **factors)
    flags = trained.flags(cutouts)
    assert flags.shape == (3,) and flags.dtype.kind == "U" and set(flags.tolist()) == {said}
    # It answers all the same.
    assert np.isfinite(trained.predict_proba(cutouts)).all()


def test_models_that_are_not_trained(trained):
    cutouts = simulated_cutouts(3)
    assert classifiers.create("matched-filter").flags(elsewhere(cutouts, frequency=7)).tolist() == [""] * 3
    assert trained.flags(cutouts[:0]).shape == (0,)
    with pytest.raises(NotFittedError, match="must be trained"):
        classifiers.create("features-lr").flags(cutouts)
    with pytest.raises(HaloInputError, match="takes a CutoutSet"):
        trained.flags("cutouts")


class Odd(Classifier):
    trainable = False

    def __init__(self, *, answer=None):
        self.answer = answer

    def _predict_proba(self, cutouts):
        return np.full(len(cutouts), 0.5)

    def _flags(self, cutouts):
        return self.answer


def test_flags_of_a_plugin():
    assert Odd(answer=["survey-outside-training", ""]).flags(simulated_cutouts(2)).tolist() == [
        "survey-outside-training", ""]
    assert Odd(answer=[]).flags(simulated_cutouts(3)[:0]).dtype.kind == "U"


@pytest.mark.parametrize("answer", [None, "odd", ["odd"], [["a", "b"]], [1, 2], [True, False], [None, "odd"]])
def test_flags_that_are_none(answer):
    with pytest.raises(ValueError, match="Odd._flags must return 2 str, got"):
        Odd(answer=answer).flags(simulated_cutouts(2))


# ------------------------------------------------------------------------------------------------ files

def test_the_range_is_saved(trained, tmp_path):
    trained.save(tmp_path / "m.safetensors")
    loaded = Classifier.load(tmp_path / "m.safetensors")
    assert loaded.trained_on_ == trained.trained_on_ and loaded.trained_on_["frequency"] == (200.5, 200.5)
    far = elsewhere(simulated_cutouts(3), frequency=7)
    assert loaded.flags(far).tolist() == trained.flags(far).tolist()


def rewritten(path, change):
    with safe_open(path, framework="numpy") as stream:
        header = json.loads(stream.metadata()["halopy"])
        arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    change(header["step"])
    save_file(arrays, path, metadata={"halopy": json.dumps(header)})
    return path


def test_a_file_of_before_has_no_range(trained, tmp_path):
    trained.save(tmp_path / "m.safetensors")
    loaded = Classifier.load(rewritten(tmp_path / "m.safetensors", lambda step: step.pop("trained_on")))
    assert loaded.trained_on_ == {}
    assert loaded.flags(elsewhere(simulated_cutouts(3), frequency=7)).tolist() == [""] * 3


@pytest.mark.parametrize("value", [3, [1, 2], {"beam": 3}, {"beam": ["a", "b"]}, {"beam": [1, 2, 3]}])
def test_a_range_that_is_none(trained, tmp_path, value):
    trained.save(tmp_path / "m.safetensors")
    rewritten(tmp_path / "m.safetensors", lambda step: step.update(trained_on=value))
    with pytest.raises(HaloInputError, match="settings in this file do not fit this halopy"):
        Classifier.load(tmp_path / "m.safetensors")


def test_a_new_training_has_its_own_range():
    model = classifiers.create("noise-only").fit(elsewhere(simulated_cutouts(12), frequency=7))
    model.fit(simulated_cutouts(12, rng=2))
    assert model.trained_on_["frequency"] == (200.5, 200.5)
