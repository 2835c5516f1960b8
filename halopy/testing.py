"""The contracts of classifiers and generators as executable checks, for the authors of plugins.

Call them from a test of your own package; they need no pytest and no network::

    from halopy.testing import check_classifier

    def test_contract():
        check_classifier("my-classifier")
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy.classify.base import Classifier
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, HalopyWarning, NotFittedError
from halopy.generative.base import HaloGenerator
from halopy.registry import classifiers, generators

__all__ = ["check_classifier", "check_generator", "simulated_cutouts"]

SHAPE = (64, 64)
PIXEL = 28.0
BEAM = (133.0, 122.0)
RMS = 0.008


def check_classifier(model, *, cutouts=None):
    """Check that a classifier keeps the contract of `halopy.classify.Classifier`.

    Parameters
    ----------
    model : str or Classifier
        A name in `halopy.classifiers`, or an instance that has not been trained.
    cutouts : CutoutSet, optional
        At least eight cutouts with columns ``label`` and ``group``; default: simulated ones of
        64 × 64 pixels, from `simulated_cutouts`.

    Raises
    ------
    AssertionError
        The first promise that is not kept, in words.

    Examples
    --------
    >>> from halopy.testing import check_classifier
    >>> check_classifier("matched-filter")
    """
    model = _instance(model, classifiers, Classifier)
    cutouts = simulated_cutouts() if cutouts is None else cutouts
    _check_settings(model)
    _check_fit(model, cutouts, lambda m: m.predict_proba(cutouts), ("label", "group"))
    fitted = _fitted(model, cutouts)
    before = cutouts.data.tobytes()
    with _unseeded(model, "predict_proba"):
        probability = _run(model, "predict_proba", lambda: fitted.predict_proba(cutouts))
    _require(cutouts.data.tobytes() == before, model, "predict_proba must not change its input")
    _check_probability(model, "predict_proba", probability, len(cutouts))
    _require(np.isfinite(probability).all(), model, "predict_proba must be finite for cutouts full of data")
    _check_batches(model, fitted, cutouts, probability)
    _check_bad_cutouts(model, fitted, cutouts, probability)
    _check_repeats(model, cutouts, lambda m: m.predict_proba(cutouts))
    _check_file(model, fitted, lambda m: m.predict_proba(cutouts))


def check_generator(model, *, cutouts=None, conditions=None):
    """Check that a generator keeps the contract of `halopy.generative.HaloGenerator`.

    Parameters
    ----------
    model : str or HaloGenerator
        A name in `halopy.generators`, or an instance that has not been trained.
    cutouts : CutoutSet, optional
        At least eight cutouts to train on, with the columns of the generator's ``conditions`` and
        ``group``; default: `simulated_cutouts`.
    conditions : `~astropy.table.QTable`, optional
        At least two rows to sample with; default: the first rows of the cutouts' table. Needed
        where the generator has conditions that the cutouts have no column for.

    Raises
    ------
    AssertionError
        The first promise that is not kept, in words.
    """
    model = _instance(model, generators, HaloGenerator)
    cutouts = simulated_cutouts() if cutouts is None else cutouts
    conditions = _conditions(model, cutouts) if conditions is None else QTable(conditions)
    n = len(conditions)

    def sample(m, rng=5):
        return m.sample(n, conditions=conditions, rng=rng)

    _check_settings(model)
    _check_fit(model, cutouts, sample, (*model.conditions, "group"))
    fitted = _fitted(model, cutouts)
    before = conditions.copy()
    with _unseeded(model, "sample"):
        made = _run(model, "sample", lambda: sample(fitted))
    _require(_same_table(conditions, before), model, "sample must not change its conditions")
    _require(made.data.shape[0] == n and np.isfinite(made.data).all(), model,
             f"sample must make {n} images of finite pixels, got shape {made.data.shape}")
    _require(all(name in made.table.colnames for name in model.conditions), model,
             f"the table of sample must have the conditions {model.conditions}, got {made.table.colnames}")
    _require(set(made.table["group"]) == {"generated"}, model, "the group of generated images must be 'generated'")
    _require(made.data.tobytes() == sample(fitted).data.tobytes(), model, "the same rng must make the same bytes")
    _require(made.data.tobytes() != sample(fitted, rng=6).data.tobytes(), model,
             "another rng must make other images")
    for few in (0, 1):
        images = _run(model, f"sample({few})", lambda few=few: fitted.sample(few, conditions=conditions[:few], rng=5))
        _require(images.data.shape == (few, *made.data.shape[1:]), model,
                 f"sample({few}) must have shape {(few, *made.data.shape[1:])}, got {images.data.shape}")
    if model.conditions:
        lacking = QTable({"other": np.zeros(2)})
        _expect(model, HaloInputError, "sample without its condition columns",
                lambda: fitted.sample(2, conditions=lacking, rng=5))
    _check_optional(model, fitted, conditions)
    _check_repeats(model, cutouts, lambda m: sample(m).data)
    _check_file(model, fitted, lambda m: sample(m).data)


def simulated_cutouts(n=24, *, rng=1):
    """Make a small labelled set of cutouts: noise, pairs of point sources, exponential halos.

    Good for tests of code, not for science: the noise is smooth on the beam and nothing else.

    Parameters
    ----------
    n : int, optional
        How many cutouts, default 24: a third each of ``halo``, ``radio-galaxy`` and ``none``, in
        ``n / 3`` groups.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator, default 1.

    Returns
    -------
    CutoutSet
        ``(n, 64, 64)`` in Jy/beam, with the columns that `halopy.CutoutMaker` writes, ``label``
        and ``group``.

    Examples
    --------
    >>> from halopy.testing import simulated_cutouts
    >>> simulated_cutouts(6).shape
    (6, 64, 64)
    """
    rng = np.random.default_rng(rng)
    labels = np.array(["halo", "radio-galaxy", "none"])[np.arange(n) % 3]
    y, x = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None] - 1) / 2
    # A Gaussian of the beam in Fourier space; its axes are north-south and east-west.
    sigma = np.array(BEAM) / PIXEL / np.sqrt(8 * np.log(2))
    v, h = np.meshgrid(*(np.fft.fftfreq(size) for size in SHAPE), indexing="ij")
    beam = np.exp(-2 * np.pi**2 * ((sigma[0] * v) ** 2 + (sigma[1] * h) ** 2))
    data = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, *SHAPE))) * beam).real
    data *= RMS / data.std() if n else 1
    for image, label in zip(data, labels, strict=True):
        if label == "halo":
            model = np.exp(-np.hypot(x, y) / rng.uniform(1.5, 3))
        elif label == "radio-galaxy":
            model = np.zeros(SHAPE)
            for _ in range(2):
                model[tuple(rng.integers(28, 36, size=2))] += 1
        else:
            continue
        model = np.fft.ifft2(np.fft.fft2(model) * beam).real
        image += model * RMS * rng.uniform(8, 20) / model.max()
    position = SkyCoord(rng.uniform(0, 360, n), rng.uniform(-60, 0, n), unit="deg")
    table = QTable({
        "name": np.array([f"simulated {i}" for i in range(n)], dtype=str), "position": position,
        "image": np.full(n, "simulated"), "pixel_scale": np.full(n, PIXEL) * u.arcsec,
        "beam_major": np.full(n, BEAM[0]) * u.arcsec, "beam_minor": np.full(n, BEAM[1]) * u.arcsec,
        "beam_pa": np.zeros(n) * u.deg, "frequency": np.full(n, 200.5) * u.MHz,
        "rms": np.full(n, RMS) * u.Jy / u.beam, "coverage": np.ones(n), "zeros": np.zeros(n),
        "label": labels, "group": np.array([f"group {i // 3}" for i in range(n)], dtype=str)})
    return CutoutSet(data, table, unit=u.Jy / u.beam)


def _instance(model, registry, base):
    if isinstance(model, str):
        model = registry.create(model)
    _require(isinstance(model, base), model,
             f"a model must be an instance of {base.__name__}; give a name or an object")
    return model


def _check_settings(model):
    parameters = [p for p in inspect.signature(type(model).__init__).parameters.values() if p.name != "self"]
    # A class without an __init__ of its own shows object's, which takes anything and keeps nothing.
    if type(model).__init__ is not object.__init__:
        loose = [p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        _require(not loose, model, f"the constructor must name its settings, got {loose}")
    params = _run(model, "params", lambda: model.params)
    copy = _run(model, "the constructor with its own params", lambda: type(model)(**params))
    for name, value in params.items():
        stored = getattr(copy, name)
        same = stored is value or _same(stored, value)
        _require(same, model, f"the constructor must store {name!r} unchanged, gave {value!r}, found {stored!r}")
    _require(repr(model).startswith(type(model).__name__ + "("), model,
             f"repr must show the class and its settings, got {model!r}")


def _check_fit(model, cutouts, use, columns):
    if not model.trainable:
        student = _new(model)
        returned = _run(model, "fit", lambda: student.fit(cutouts, rng=1, progress=False))
        _require(returned is student, model, "fit must return self")
        return
    _expect(model, NotFittedError, "a model that was not trained", lambda: use(_new(model)))
    for name in columns:
        table = cutouts.table.copy()
        table.remove_column(name)
        _expect(model, HaloInputError, f"fit without a column {name!r}",
                lambda table=table: _new(model).fit(cutouts.replace(table=table), rng=1, progress=False))
    before, table = cutouts.data.tobytes(), cutouts.table.copy()
    student = _new(model)
    with _unseeded(model, "fit"):
        returned = _run(model, "fit", lambda: student.fit(cutouts, rng=1, progress=False, max_images=4 * len(cutouts)))
    _require(returned is student, model, "fit must return self")
    _require(cutouts.data.tobytes() == before and _same_table(cutouts.table, table), model,
             "fit must not change its input")
    _require(len(student.groups_) == len(set(cutouts.table["group"])), model,
             "fit must leave the groups it was trained on in groups_")


def _check_probability(model, what, probability, n):
    _require(isinstance(probability, np.ndarray) and probability.shape == (n,), model,
             f"{what} must return an array of shape ({n},), got {getattr(probability, 'shape', type(probability))}")
    finite = probability[np.isfinite(probability)]
    _require(((finite >= 0) & (finite <= 1)).all(), model, f"{what} must lie in [0, 1], got {finite}")


def _check_batches(model, fitted, cutouts, probability):
    for few in (0, 1):
        part = _run(model, f"predict_proba of {few} cutouts", lambda few=few: fitted.predict_proba(cutouts[:few]))
        _check_probability(model, f"predict_proba of {few} cutouts", part, few)
    alone = np.concatenate([fitted.predict_proba(cutouts[i]) for i in range(len(cutouts))])
    turned = fitted.predict_proba(cutouts[np.arange(len(cutouts))[::-1]])[::-1]
    for other in (alone, turned):
        _require(np.allclose(other, probability, rtol=1e-4, atol=1e-5), model,
                 "a probability must depend on its own cutout alone, not on what else is in the batch: "
                 f"largest difference {np.max(np.abs(other - probability)):.2g}")


def _check_bad_cutouts(model, fitted, cutouts, probability):
    data = cutouts.data.copy()
    data[0], data[1], data[2] = np.nan, 0.0, 1.0
    data[3, :, : data.shape[2] // 2] = np.nan
    bad = cutouts.replace(data=data)
    result = _run(model, "predict_proba of cutouts that are all NaN, all zero, constant, or half NaN",
                  lambda: fitted.predict_proba(bad))
    _check_probability(model, "predict_proba of bad cutouts", result, len(bad))
    _require(np.allclose(result[4:], probability[4:], rtol=1e-4, atol=1e-5), model,
             "bad cutouts must not change the probabilities of the others")


def _check_repeats(model, cutouts, use):
    results = [_run(model, "a second fit", lambda: use(_fitted(model, cutouts, rng=3))).tobytes() for _ in range(2)]
    _require(results[0] == results[1], model, "fit with the same rng must give the same bytes")


def _check_file(model, fitted, use):
    expected = use(fitted)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        _run(model, "save", lambda: fitted.save(path))
        loaded = _run(model, "load", lambda: type(model).load(path))
    _require(loaded == fitted, model, f"save and load must keep the settings, saved {fitted!r}, loaded {loaded!r}")
    _require(tuple(loaded.groups_) == tuple(fitted.groups_), model, "save and load must keep groups_")
    result = _run(model, "the loaded model", lambda: use(loaded))
    _require(result.tobytes() == expected.tobytes(), model,
             "a loaded model must give the same numbers as the saved one")


def _check_optional(model, fitted, conditions):
    """NaN in an optional condition is the same as no such column; what was drawn can be asked for."""
    needed = conditions[[name for name in conditions.colnames if name not in model.optional_conditions]]

    def sample(**given):
        table = needed.copy()
        for name, values in given.items():
            table[name] = values
        return fitted.sample(len(table), conditions=table, rng=5)

    made = _run(model, "sample", sample)
    for name in model.optional_conditions:
        drawn = made.table[name] if name in made.table.colnames else np.full(len(made), np.nan)
        unit = 1 if getattr(drawn, "unit", None) is None else drawn.unit
        nothing, infinite = {name: np.full(len(made), np.nan) * unit}, {name: np.full(len(made), np.inf) * unit}
        free = _run(model, f"sample with {name} = NaN", partial(sample, **nothing))
        _require(free.data.tobytes() == made.data.tobytes(), model,
                 f"NaN in the optional condition {name!r} must be the same as no such column")
        _expect(model, HaloInputError, f"sample with an infinite {name}", partial(sample, **infinite))
        again = _run(model, f"sample with the {name} that it drew", partial(sample, **{name: drawn}))
        _require(np.isfinite(again.data).all(), model, f"sample with a given {name} must make finite pixels")
        _require(np.array_equal(again.table[name], drawn, equal_nan=True), model,
                 f"the table of sample must have the {name} that was asked for")


def _conditions(model, cutouts):
    missing = [name for name in model.conditions if name not in cutouts.table.colnames]
    _require(not missing, model, f"give check_generator conditions= with the column(s) {missing}")
    return cutouts.table[list(model.conditions)][:6] if model.conditions else QTable({"label": ["halo"] * 6})


def _new(model):
    copy = type(model)(**model.params)
    if hasattr(model, "registry_name_"):
        copy.registry_name_ = model.registry_name_
    return copy


def _fitted(model, cutouts, *, rng=1):
    if not model.trainable:
        return _new(model)
    return _new(model).fit(cutouts, rng=rng, progress=False, max_images=4 * len(cutouts))


def _same(a, b):
    try:
        return bool(np.all(a == b))
    except (ValueError, TypeError, u.UnitsError):
        return False


def _same_table(a, b):
    return a.colnames == b.colnames and all(
        np.array_equal(a[c].ra.deg, b[c].ra.deg) if isinstance(a[c], SkyCoord) else np.array_equal(a[c], b[c])
        for c in a.colnames)


class _unseeded:
    """Nothing inside may draw from, or seed, the global generators of numpy and torch."""

    def __init__(self, model, what):
        self.model, self.what = model, what

    def _states(self):
        name, keys, *rest = np.random.get_state()  # noqa: NPY002 (looked at, never drawn from)
        states = {"numpy": (name, keys.tobytes(), *rest)}
        if "torch" in sys.modules:
            states["torch"] = sys.modules["torch"].random.get_rng_state().numpy().tobytes()
        return states

    def __enter__(self):
        self.before = self._states()

    def __exit__(self, *error):
        if error[0] is None:
            after = self._states()
            for name, state in self.before.items():
                _require(after[name] == state, self.model,
                         f"{self.what} must leave {name}'s global random generator alone; use the rng it is given")


def _run(model, what, function):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HalopyWarning)
            return function()
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{_name(model)}: {what} raised {type(error).__name__}: {error}") from error


def _expect(model, kind, what, function):
    try:
        function()
    except kind:
        return
    except Exception as error:
        raise AssertionError(f"{_name(model)}: {what} must raise {kind.__name__}, "
                             f"raised {type(error).__name__}: {error}") from error
    raise AssertionError(f"{_name(model)}: {what} must raise {kind.__name__}, raised nothing")


def _require(condition, model, text):
    if not condition:
        raise AssertionError(f"{_name(model)}: {text}")


def _name(model):
    return getattr(model, "registry_name_", ("", type(model).__name__))[1]
