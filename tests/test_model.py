from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from halopy import HaloInputError
from halopy.classify.features_lr import FeaturesLR
from halopy.model import Model, Step, decode, encode, group_hashes, load, save


class Smooth(Step):
    def __init__(self, width=3 * u.arcmin, *, sigma=3.0, size=(64, 64), mode=None):
        self.width = width
        self.sigma = sigma
        self.size = size
        self.mode = mode


class Line(Model):
    def __init__(self, *, degree=1, before=None):
        self.degree = degree
        self.before = before
        self.weights = np.zeros(0, np.float32)

    def _state(self):
        return {"weights": self.weights}

    def _set_state(self, state):
        self.weights = state["weights"]


@pytest.fixture
def line():
    model = Line(degree=2, before=Smooth(2 * u.arcmin))
    model.weights = np.array([1.5, -2.5], np.float32)
    model.groups_ = tuple(group_hashes(["A2744", "A141"]))
    return model


def rewrite(path, change, **arrays):
    """Change the header of a model file."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as stream:
        header = json.loads(stream.metadata()["halopy"])
        kept = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    change(header)
    save_file({k: v for k, v in (kept | arrays).items() if v is not None}, path,
              metadata={"halopy": json.dumps(header)})


class TestStep:
    def test_repr_shows_what_was_set(self):
        assert repr(Smooth()) == "Smooth()"
        assert repr(Smooth(5 * u.arcmin, sigma=4.0)) == "Smooth(width=5 arcmin, sigma=4.0)"
        assert repr(Smooth(180 * u.arcsec)) == "Smooth()"

    def test_params(self):
        assert Smooth(sigma=4.0).params == {"width": 3 * u.arcmin, "sigma": 4.0, "size": (64, 64), "mode": None}

    def test_equality_is_that_of_the_settings(self):
        assert Smooth() == Smooth()
        assert Smooth() != Smooth(sigma=4.0)
        assert Smooth() != "Smooth()"
        # JSON has no tuples.
        assert Smooth(size=[64, 64]) == Smooth(size=(64, 64))

    def test_a_setting_that_cannot_be_saved(self):
        with pytest.raises(HaloInputError, match="a function cannot be saved in a model file"):
            encode(Smooth(mode=lambda x: x))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3), max_leaves=5)


class TestFile:
    def test_round_trip(self, line, tmp_path):
        line.save(tmp_path / "line.safetensors")
        copy = Line.load(tmp_path / "line.safetensors")
        assert copy == line
        assert copy.before == line.before
        assert copy.groups_ == line.groups_
        assert copy.weights.tobytes() == line.weights.tobytes()

    @given(json_values)
    def test_any_setting_round_trips(self, value):
        step = Smooth(mode=value)
        assert decode(json.loads(json.dumps(encode(step))), {}).mode == value

    @given(st.floats(-1e9, 1e9), st.sampled_from(["arcsec", "MHz", "Jy / beam", ""]))
    def test_any_quantity_round_trips(self, value, unit):
        step = Smooth(value * u.Unit(unit))
        assert decode(json.loads(json.dumps(encode(step))), {}).width == step.width

    def test_an_array_of_quantities_is_a_setting(self):
        step = Smooth([1, 2] * u.arcmin)
        np.testing.assert_array_equal(decode(encode(step), {}).width.value, [1, 2])

    def test_a_step_without_arrays(self, tmp_path):
        save(Smooth(sigma=2.5), tmp_path / "smooth.safetensors")
        assert load(tmp_path / "smooth.safetensors") == Smooth(sigma=2.5)

    def test_groups_are_hashed(self):
        # SHA-256 of "A2744", first 16 hex digits.
        assert group_hashes(["A2744", "A2744"]) == ["df44ae0da6bb1c68"]

    def test_no_overwriting_unasked(self, line, tmp_path):
        path = tmp_path / "line.safetensors"
        line.save(path)
        with pytest.raises(HaloInputError, match="this file exists.*try: overwrite=True"):
            line.save(path)
        line.save(path, overwrite=True)

    def test_another_class(self, tmp_path):
        save(Smooth(), tmp_path / "smooth.safetensors")
        with pytest.raises(HaloInputError, match="holds a Smooth, not a Line"):
            Line.load(tmp_path / "smooth.safetensors")


class TestBadFile:
    @pytest.mark.parametrize("content", [
        b"", b"\x80\x04K\x01.", b"PK\x03\x04", b"\xff" * 100, b"\x08" + 7 * b"\0" + b"{}"])
    def test_no_safetensors(self, content, tmp_path):
        # Among them a pickle, and the zip file of torch.save.
        path = tmp_path / "model.safetensors"
        path.write_bytes(content)
        with pytest.raises(HaloInputError, match=r"not a readable safetensors file|not written by halopy"):
            load(path)

    def test_no_file(self, tmp_path):
        with pytest.raises(HaloInputError, match="there is no such file; try: check the spelling"):
            load(tmp_path / "none.safetensors")

    def test_cut_off(self, line, tmp_path):
        path = tmp_path / "line.safetensors"
        line.save(path)
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(HaloInputError, match="not a readable safetensors file"):
            load(path)

    def test_another_programs(self, tmp_path):
        save_file({"a": np.zeros(2, np.float32)}, tmp_path / "other.safetensors")
        with pytest.raises(HaloInputError, match="not written by halopy"):
            load(tmp_path / "other.safetensors")

    def test_a_later_schema(self, line, tmp_path):
        line.save(tmp_path / "m")
        rewrite(tmp_path / "m", lambda header: header.update(schema=99))
        with pytest.raises(HaloInputError, match="written for schema 99, this halopy reads 1"):
            load(tmp_path / "m")

    def test_weights_that_are_not_finite(self, line, tmp_path):
        line.save(tmp_path / "m")
        rewrite(tmp_path / "m", lambda header: None, weights=np.array([1, np.nan], np.float32))
        with pytest.raises(HaloInputError, match=r"weights must be finite \(weights\)"):
            load(tmp_path / "m")

    def test_a_missing_array(self, line, tmp_path):
        line.save(tmp_path / "m")
        rewrite(tmp_path / "m", lambda header: None, weights=None, empty=np.zeros(0, np.float32))
        with pytest.raises(HaloInputError, match=r"arrays are missing in this file \(weights"):
            load(tmp_path / "m")

    def test_an_array_too_many(self, line, tmp_path):
        line.save(tmp_path / "m")
        rewrite(tmp_path / "m", lambda header: None, more=np.zeros(2, np.float32))
        with pytest.raises(HaloInputError, match="arrays that no step asks for.*more"):
            load(tmp_path / "m")

    def test_an_unknown_step(self, line, tmp_path):
        line.save(tmp_path / "m")
        rewrite(tmp_path / "m", lambda header: header["step"].update(step="os.system"))
        with pytest.raises(HaloInputError, match=r"needs a step that is not known here.*os\.system"):
            load(tmp_path / "m")

    @pytest.mark.parametrize("change", [
        lambda h: h["step"]["params"].update(color="red"),
        lambda h: h["step"].update(params=None),
        lambda h: h["step"].pop("arrays"),
        lambda h: h["step"]["params"]["before"]["params"]["width"].update(quantity=[1, "no such unit"]),
    ])
    def test_settings_that_do_not_fit(self, line, tmp_path, change):
        line.save(tmp_path / "m")
        rewrite(tmp_path / "m", change)
        with pytest.raises(HaloInputError, match="settings in this file do not fit this halopy"):
            load(tmp_path / "m")


def test_a_model_made_by_its_class_is_found_again(tmp_path):
    """In a process that has not imported the class: it is one of the installed models."""
    FeaturesLR().save(tmp_path / "model.safetensors")
    code = ("from halopy.model import load, Step; assert 'FeaturesLR' not in Step._known; "
            f"print(type(load({str(tmp_path / 'model.safetensors')!r})).__name__)")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.stdout.strip() == "FeaturesLR", told.stderr
