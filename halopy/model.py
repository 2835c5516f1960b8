"""What steps and models share: settings, repr, and one safetensors file.

A *step* is constructed with settings that are stored under their own names, and is called on a
value. A *model* is a step that can hold arrays. Either is saved as one ``.safetensors`` file whose
header holds the settings as JSON. Nothing in such a file is executed: classes are looked up among
those already known, never imported by a name in a file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
from pathlib import Path

import numpy as np
from astropy import units as u
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialised

from halopy.cutouts import write_atomically
from halopy.errors import HaloInputError, PluginError

__all__ = ["Model", "Step", "group_hashes"]

SCHEMA = 1


class Step:
    """Settings stored under their own names; one verb; a repr that could be typed.

    Subclasses define ``__init__`` with keyword settings that it stores unchanged, and
    ``__call__``.
    """

    _known: dict[str, type] = {}

    def __init_subclass__(cls, **keywords):
        super().__init_subclass__(**keywords)
        Step._known[cls.__name__] = cls

    @property
    def params(self):
        """The constructor's settings, by name."""
        names = [p.name for p in inspect.signature(type(self).__init__).parameters.values()
                 if p.name != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        return {name: getattr(self, name) for name in names}

    def __repr__(self):
        defaults = {p.name: p.default for p in inspect.signature(type(self).__init__).parameters.values()}
        shown = [f"{name}={_text(value)}" for name, value in self.params.items()
                 if not _same(value, defaults[name])]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __eq__(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return encode(self) == encode(other)

    __hash__ = object.__hash__


class Model(Step):
    """A step that may hold arrays and is saved as one safetensors file.

    Subclasses with arrays override ``_state`` (a dict of numpy arrays) and ``_set_state``.
    """

    groups_: tuple[str, ...] = ()
    """Hashes of the sky groups this model has been trained on."""

    def _state(self):
        return {}

    def _set_state(self, state):
        pass

    def save(self, path, *, overwrite=False):
        """Write settings, arrays and training groups as one ``.safetensors`` file."""
        save(self, path, overwrite=overwrite)

    @property
    def weights_id(self):
        """Sixteen hexadecimal digits that tell the arrays of this model from any others; empty where it has none."""
        state = self._state()
        if not state:
            return ""
        digest = hashlib.sha256()
        for name in sorted(state):
            array = np.ascontiguousarray(state[name])
            digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
        return digest.hexdigest()[:16]

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Returns
        -------
        Model
            An instance of this class.
        """
        model = load(path)
        if not isinstance(model, cls):
            raise HaloInputError(f"this file holds a {type(model).__name__}, not a {cls.__name__}", path=path)
        return model


def group_hashes(groups):
    """Hash the names of sky groups, so that a model can say what it has seen without naming it."""
    return sorted({hashlib.sha256(str(g).encode()).hexdigest()[:16] for g in np.unique(np.asarray(groups))})


def save(step, path, *, overwrite=False):
    """Write a step or model as one safetensors file."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise HaloInputError("this file exists", path=path, hint="overwrite=True")
    arrays = {}
    text = json.dumps({"schema": SCHEMA, "halopy": importlib.metadata.version("halopy-radio"),
                       "step": encode(step, arrays)})
    # safetensors refuses a file without any array.
    arrays.setdefault("empty", np.zeros(0, np.float32))
    # safetensors' own save_file makes a private file, by way of one more temporary file.
    content = serialised(arrays, metadata={"halopy": text})
    write_atomically(path, lambda temporary: Path(temporary).write_bytes(content))


def load(path):
    """Read what `save` wrote."""
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as stream:
            text = (stream.metadata() or {}).get("halopy")
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise HaloInputError("there is no such file", path=path, hint="check the spelling") from error
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:  # numpy has no bfloat16
        raise HaloInputError(f"not a readable safetensors file: {error}", path=path,
                             hint="halopy loads nothing else: pickles and .pt files can run code") from error
    try:
        header = json.loads(text or "")
        schema, tree = header["schema"], header["step"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HaloInputError("this safetensors file was not written by halopy", path=path) from error
    if schema != SCHEMA:
        raise HaloInputError(f"this file was written for schema {schema}, this halopy reads {SCHEMA}", path=path,
                             hint="a newer halopy")
    arrays.pop("empty", None)
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise HaloInputError("the weights must be finite", path=path, keyword=name)
    try:
        step = decode(tree, arrays)
    except HaloInputError as error:
        error.path = path
        raise
    except PluginError:
        raise  # a package is missing, and the file may be right
    # What cannot be built: torch has no memory for such a network, or not its device.
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
        raise HaloInputError(f"the settings in this file do not fit this halopy: {error}", path=path) from error
    if arrays:
        raise HaloInputError("this file holds arrays that no step asks for", path=path, found=sorted(arrays))
    return step


def encode(value, arrays=None, prefix=""):
    """Turn settings into JSON; arrays of models go to the dict ``arrays``."""
    if isinstance(value, Step):
        tree = {"step": type(value).__name__,
                "params": {k: encode(v, arrays, f"{prefix}{k}.") for k, v in value.params.items()}}
        if isinstance(value, Model):
            model_name = getattr(value, "registry_name_", None)
            if model_name:
                tree["model"] = list(model_name)
            state = value._state()
            tree["arrays"] = sorted(state)
            tree["groups"] = list(value.groups_)
            if getattr(value, "trainable", False):
                # Some models are trained and have no arrays.
                tree["fitted"] = bool(getattr(value, "fitted_", False))
            # The ranges of what a classifier was trained on; older files and other models have none.
            if getattr(value, "trained_on_", None):
                tree["trained_on"] = {name: list(limits) for name, limits in value.trained_on_.items()}
            if arrays is not None:
                arrays.update({f"{prefix}{k}": np.ascontiguousarray(v) for k, v in state.items()})
        return tree
    if isinstance(value, u.Quantity):
        return {"quantity": [encode(value.value), value.unit.to_string()]}
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [encode(v, arrays, f"{prefix}{i}.") for i, v in enumerate(value)]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    raise HaloInputError(f"a {type(value).__name__} cannot be saved in a model file", found=repr(value)[:80])


def decode(tree, arrays, prefix=""):
    """Turn what `encode` made back into settings, steps and models."""
    if isinstance(tree, list):
        return [decode(v, arrays, f"{prefix}{i}.") for i, v in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    if "quantity" in tree:
        value, unit = tree["quantity"]
        return u.Quantity(value, unit)
    cls = _class_of(tree)
    step = cls(**{k: decode(v, arrays, f"{prefix}{k}.") for k, v in tree["params"].items()})
    if isinstance(step, Model):
        missing = [name for name in tree["arrays"] if prefix + name not in arrays]
        if missing:
            raise HaloInputError("arrays are missing in this file", keyword=missing[0], found=sorted(arrays))
        # Older files do not say whether a model was trained; one that was has groups.
        fitted = tree.get("fitted", bool(tree["groups"] or tree["arrays"])) is True
        if getattr(step, "trainable", False):
            step.fitted_ = fitted
        step._set_state({name: arrays.pop(prefix + name) for name in tree["arrays"]})
        step.groups_ = tuple(tree["groups"])
        if "trained_on" in tree:
            step.trained_on_ = {name: (float(low), float(high)) for name, (low, high) in tree["trained_on"].items()}
        if getattr(step, "trainable", False):
            step.fitted_ = fitted
        if "model" in tree:
            step.registry_name_ = tuple(tree["model"])
    return step


def _class_of(tree):
    if "model" in tree:
        from halopy.registry import Registry  # the registry stands on this module

        group, name = tree["model"]
        return Registry.of(group)[name]
    if tree["step"] not in Step._known:
        from halopy.registry import Registry

        # A model that was made by its class, not by its name, is none the less installed under one.
        Registry.import_class(tree["step"])
    if tree["step"] not in Step._known:
        raise HaloInputError("this file needs a step that is not known here", found=tree["step"],
                             hint="import the package that defines it first")
    return Step._known[tree["step"]]


def _text(value):
    value = tuple(value) if isinstance(value, list) else value  # a file gives lists for tuples
    return f"{value.value:g} {value.unit}" if isinstance(value, u.Quantity) and value.isscalar else repr(value)


def _same(a, b):
    a, b = (tuple(value) if isinstance(value, list) else value for value in (a, b))
    try:
        return bool(np.all(a == b)) and type(a) is type(b)
    except (ValueError, TypeError, u.UnitsError):
        return False
