"""What all trained generators promise: the contract, their conditions, their units, what they refuse."""

from __future__ import annotations

import ast
import importlib.util

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.table import MaskedColumn, QTable
from torch import nn

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, HalopyWarning, NotFittedError
from halopy.generative import trained as trained_module
from halopy.generative.conditions import CLASSES, class_names
from halopy.generative.diffusion import Diffusion
from halopy.labels import LABELS
from halopy.learning.inputs import model_input
from halopy.model import Step, group_hashes
from halopy.registry import generators
from halopy.testing import check_generator, simulated_cutouts

TINY = {"size": 16, "width": 8, "batch_size": 8, "n_images": 48}
MORE = {"cwgan": {"latent": 8}, "sngan": {"latent": 8}, "diffusion": {"steps": 3},
        "ancestral": {"steps": 4, "sampler": "ancestral"}}
NAMES = list(MORE)
JY = u.Jy / u.beam


def new(name, **changes):
    settings = TINY | MORE[name] | changes
    return generators.create(name if name in generators else "diffusion", **settings)


def sky(n=24):
    """Noise with a halo, a radio galaxy or neither in it, at two frequencies that differ in beam and rms."""
    cutouts = simulated_cutouts(n)
    table, low = cutouts.table, np.arange(n) % 6 < 3
    table["frequency"] = np.where(low, 100.0, 200.0) * u.MHz
    table["beam_major"] = table["beam_minor"] = np.where(low, 150.0, 120.0) * u.arcsec
    table["rms"] = np.where(low, 0.02, 0.008) * JY
    table["grade"] = np.where(np.arange(n) % 12 < 6, "confirmed", "candidate")
    return cutouts


@pytest.fixture(autouse=True, scope="module")
def _no_monitor():
    """Adversarial generators of so few steps have not learnt to vary yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("halopy.generative.gan.COLLAPSED", 0.0)
        yield


@pytest.fixture(scope="module")
def models():
    return {name: new(name).fit(sky(), rng=1, progress=False) for name in NAMES}


def asked(n, **columns):
    return QTable({"label": ["halo"] * n} | columns)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    check_generator(new(name), cutouts=simulated_cutouts(9))


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_one_file(models, name, tmp_path):
    for k, rng in enumerate((1, 2)):
        new(name).fit(sky(), rng=rng, progress=False).save(tmp_path / f"{k}")
    models[name].save(tmp_path / "first")
    first, same, other = ((tmp_path / x).read_bytes() for x in ("first", "0", "1"))
    assert first == same and first != other


@pytest.mark.parametrize("name", NAMES)
def test_a_generator_counts_nothing(models, name):
    """One that steps through a cycle of its own, from call to call, makes other images the second time."""
    first, _, again = (models[name].sample(5, label=label, rng=3) for label in ("halo", "none", "halo"))
    assert first.data.tobytes() == again.data.tobytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 65])
def test_any_number_of_images(models, name, n):
    made = models[name].sample(n, rng=1)
    assert made.shape == (n, 16, 16) and np.isfinite(made.data).all()
    assert len({image.tobytes() for image in made.data}) == n


def test_the_chunk_does_not_matter(models, monkeypatch):
    """Heun's steps draw nothing but their start, which goes on from chunk to chunk."""
    whole = models["diffusion"].sample(20, rng=1)
    monkeypatch.setattr(trained_module, "CHUNK", 7)
    parts = models["diffusion"].sample(20, rng=1)
    assert parts.table["snr"].tolist() == whole.table["snr"].tolist()
    assert parts.data == pytest.approx(whole.data, rel=1e-3, abs=1e-3 * whole.data.std())


# ----------------------------------------------------------------------------------- what samples are

@pytest.mark.parametrize("name", NAMES)
def test_columns_and_units(models, name):
    made = models[name].sample(6, label="none", rng=1)
    table = made.table
    assert made.unit == JY and made.data.dtype == np.float32
    assert set(table.colnames) == set("label snr frequency rms beam_major beam_minor beam_pa pixel_scale group".split())
    assert set(table["label"]) == {"none"} and set(table["group"]) == {"generated"}
    assert table["rms"].unit == JY and table["frequency"].unit == u.MHz
    assert set(table["frequency"].to_value(u.MHz)) <= {100.0, 200.0}
    # A round beam, and three pixels of it.
    assert (table["beam_major"] == table["beam_minor"]).all() and not table["beam_pa"].value.any()
    assert (table["beam_major"] / table["pixel_scale"]).to_value(u.one) == pytest.approx(3)
    low = table["frequency"] < 150 * u.MHz
    assert table["beam_major"].to_value(u.arcsec) == pytest.approx(np.where(low, 150, 120))
    assert table["rms"].to_value(JY) == pytest.approx(np.where(low, 0.02, 0.008))


def test_the_cutouts_own_grid():
    cutouts = CutoutSet(np.random.default_rng(1).normal(size=(8, 16, 16)),
                        QTable({"label": ["halo"] * 8, "group": list("abcdefgh")}))
    made = new("diffusion", pixels_per_beam=None).fit(cutouts, rng=1, progress=False).sample(3, rng=1)
    assert made.unit == u.dimensionless_unscaled
    assert set(made.table.colnames) == {"label", "snr", "frequency", "rms", "group"}
    # The rms was not said: it is the scatter of the pixels, and the frequency is not known.
    assert made.table["rms"].value == pytest.approx(1, abs=0.3) and np.isnan(made.table["frequency"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_groups(models, name):
    assert list(models[name].groups_) == group_hashes(sky().table["group"])


def test_what_goes_in_comes_out(monkeypatch):
    """No minimum or maximum of the single image is lost: pixels come back in Jy/beam, above their level."""
    cutouts, settings = sky(6), {"pixels_per_beam": None, "size": 64, "validation_fraction": 0}
    model = new("diffusion", **settings).fit(cutouts, rng=1, progress=False, max_images=0)
    images = torch.as_tensor(model.compressed(cutouts))[:, None]
    assert float(images.std()) == pytest.approx(1, abs=1e-3)
    monkeypatch.setattr(Diffusion, "_paint", lambda *_: images)
    made = model.sample(6, conditions=cutouts.table["label", "rms"], rng=1)
    level = np.median(cutouts.data, axis=(1, 2), keepdims=True)
    assert made.data == pytest.approx(cutouts.data - level, rel=1e-3, abs=1e-3 * 0.008)


def test_samples_stay_near_the_brightness_of_the_training_set(models, monkeypatch):
    """What a network invents far off would be 1e30 once the compression is undone."""
    monkeypatch.setattr(Diffusion, "_paint", lambda *_: torch.full((2, 1, 16, 16), 1e4))
    made = models["diffusion"].sample(2, conditions=asked(2, rms=[1, 1] * JY), rng=1)
    brightest = model_input(sky(), size=16).max()
    assert made.data.max() == pytest.approx(2 * np.sinh(brightest + 0.5), rel=1e-5)


# -------------------------------------------------------------------------------------- conditions

@pytest.mark.parametrize("name", NAMES)
def test_other_labels_make_other_images(models, name):
    """The very same numbers, and two labels the other way round."""
    numbers = {"snr": [9.0, 9.0], "frequency": [200, 200] * u.MHz, "rms": [1, 1] * JY}
    pairs = [models[name].sample(2, conditions=QTable({"label": labels} | numbers), rng=1).data
             for labels in (["halo", "none"], ["none", "halo"])]
    assert not np.array_equal(pairs[0][0], pairs[1][0]) and not np.array_equal(pairs[0][1], pairs[1][1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("column", "one", "other"), [
    ("snr", [5.0], [50.0]), ("frequency", [100] * u.MHz, [200] * u.MHz), ("grade", ["confirmed"], ["candidate"])])
def test_every_condition_is_alive(models, name, column, one, other):
    numbers = {"snr": [9.0], "frequency": [200] * u.MHz, "rms": [1] * JY, "grade": ["confirmed"]}
    first, second = (models[name].sample(1, conditions=asked(1, **numbers | {column: value}), rng=1)
                     for value in (one, other))
    assert first.data.tobytes() != second.data.tobytes()
    assert first.table[column] == one and second.table[column] == other


@pytest.mark.parametrize("name", NAMES)
def test_pixels_go_with_the_rms(models, name):
    made = [models[name].sample(3, conditions=asked(3, rms=rms), rng=2)
            for rms in ([1, 1, 1] * JY, [2, 1, 4] * JY, [2000, 1000, 4000] * u.mJy / u.beam)]
    assert np.array_equal(made[1].data, made[0].data * np.array([2, 1, 4], dtype=np.float32)[:, None, None])
    assert made[2].data == pytest.approx(made[1].data) and made[2].unit == JY


def test_the_nearest_frequency_lends_beam_and_rms(models):
    wanted = [60, 130, 150, 1400] * u.MHz  # on a logarithmic scale 141 lies in the middle of 100 and 200
    table = models["diffusion"].sample(4, conditions=asked(4, frequency=wanted), rng=1).table
    assert table["frequency"].to_value(u.MHz).tolist() == wanted.value.tolist()
    assert table["beam_major"].to_value(u.arcsec).tolist() == [150, 150, 120, 120]
    assert table["rms"].to_value(JY) == pytest.approx([0.02, 0.02, 0.008, 0.008])
    table = models["diffusion"].sample(4, conditions=asked(4, frequency=wanted.to(u.kHz)), rng=1).table
    assert table["frequency"].to_value(u.MHz) == pytest.approx(wanted.value)


def test_a_grade_makes_a_class():
    """Candidates are drawn from candidates; a halo without a grade counts as confirmed."""
    cutouts = sky()
    candidate = cutouts.table["grade"] == "candidate"
    cutouts.table["rms"][candidate] = 0.5 * JY
    model = new("diffusion").fit(cutouts, rng=1, progress=False)
    grades = ["confirmed", "candidate", "", "candidate"]
    rms = model.sample(4, conditions=asked(4, grade=grades), rng=1).table["rms"].to_value(JY)
    assert (rms > 0.1).tolist() == [False, True, False, True]
    # What is no halo has no class of its own for it.
    with_grade = QTable({"label": ["none"] * 8, "grade": ["candidate"] * 8})
    assert set(model.sample(8, conditions=with_grade, rng=1).table["rms"].to_value(JY) > 0.1) == {True, False}


def test_classes():
    table = QTable({"label": ["halo", "halo", "mini-halo", "none", "halo"],
                    "grade": MaskedColumn(["confirmed", "candidate", "candidate", "candidate", "x"],
                                          mask=[0, 0, 0, 0, 1])})
    assert class_names(table).tolist() == ["halo", "halo/candidate", "mini-halo/candidate", "none", "halo"]
    assert class_names(table["label",]).tolist() == ["halo", "halo", "mini-halo", "none", "halo"]
    assert set(LABELS) < set(CLASSES) and len(set(CLASSES)) == len(CLASSES)


@pytest.mark.parametrize("name", ["sngan", "diffusion"])
def test_pictures_and_conditions_stay_together(name, monkeypatch):
    """In every batch, a bright image has the condition of the bright ones: none is looked up by another's place."""
    cutouts, seen = sky(), []
    rows = np.asarray(cutouts.table["label"]) == "halo"
    cutouts.data[rows] *= 50
    model = new(name)

    def spy(run, images, conditions):
        seen.append((images.amax((1, 2, 3)), conditions[:, [CLASSES.index(x) for x in ("halo", "halo/candidate")]]))
        return [0.0] * (len(model._columns) - 1)

    monkeypatch.setattr(model, "_step", spy)
    model.fit(cutouts, rng=1, progress=False)
    brightest, halo = (torch.cat(parts) for parts in zip(*seen, strict=True))
    # Halos of 3 σ or more are 50 times that, asinh(75) = 5; what they are made of stays below 20 σ, asinh(10) = 3.
    assert ((brightest * model._scale > 4) == halo.any(dim=1)).all() and 0 < halo.any(dim=1).sum() < len(halo)


def test_numbers_of_masked_rows_are_drawn(models):
    masked = asked(3, snr=MaskedColumn([50.0, 50.0, 50.0], mask=[0, 1, 0]))
    snr = models["diffusion"].sample(3, conditions=masked, rng=1).table["snr"]
    assert snr[0] == snr[2] == 50 and snr[1] != 50


@pytest.mark.parametrize(("columns", "text"), [
    ({"snr": [-1.0]}, "the condition snr must be positive.* .snr, found -1.0"),
    ({"frequency": [0] * u.MHz}, "the condition frequency must be positive.* found 0.0"),
    ({"rms": [-1] * JY}, "the condition rms must be positive"),
    ({"frequency": [200.0]}, "the condition frequency needs the unit MHz.*try: .* u.Unit"),
    ({"rms": [1] * u.K}, "the condition rms needs the unit Jy / beam"),
    ({"snr": [3] * u.Jy}, "the condition snr .*found 'Jy'"),
    ({"snr": [np.inf]}, "must be finite"),
    ({"snr": ["bright"]}, "must be a column of numbers"),
    ({"grade": ["sure"]}, "a grade is one of confirmed.*found 'sure'"),
    ({"label": ["galaxy"]}, "a label is one of .*found 'galaxy'"),
    ({"label": ["relic"]}, "has not seen such images in its training .found 'relic'.*"
                           "one of halo, halo/candidate, none, radio-galaxy"),
])
def test_conditions_that_cannot_be(models, columns, text):
    with pytest.raises(HaloInputError, match=text):
        models["diffusion"].sample(1, conditions=QTable({"label": ["halo"]} | columns), rng=1)


# --------------------------------------------------------------------------------- what is trained on

def spoilt(**changes):
    """Cutouts of which some pixels or labels are something else."""
    cutouts = sky()
    for name, (rows, value) in changes.items():
        (cutouts.data if name == "pixels" else cutouts.table[name])[rows] = value
    return cutouts


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("cutouts", "text"), [
    (spoilt(pixels=((3, 0, 0), np.nan)), "cutouts full of data .found '1 of 24 have pixels without"),
    (sky()[:0], "cutouts full of data .found '0 of 0 "),
    (spoilt(pixels=(slice(2), 7.0)), "that show something .found '2 of 24 are of one value'.*leave them out"),
    (spoilt(label=(2, "")), "a label is one of"), (sky().data, "trained on a CutoutSet .found 'ndarray'"),
])
def test_what_cannot_be_learnt_from(name, cutouts, text):
    with pytest.raises(HaloInputError, match=text):
        new(name).fit(cutouts, rng=1, progress=False)


@pytest.mark.parametrize(("n", "changes", "text"), [
    (-1, {}, "n must be a whole number of images .found -1"), (2.0, {}, "n must be a whole number of images"),
    (1, {"label": "halo", "conditions": asked(1)}, "give either label or conditions, not both"),
    (2, {"conditions": asked(1)}, "conditions must have 2 rows .found 1"),
    (1, {"conditions": QTable({"snr": [1.0]})}, r"Diffusion.sample needs condition column\(s\) \['label'\]"),
])
def test_samples_that_cannot_be(models, n, changes, text):
    with pytest.raises(HaloInputError, match=text):
        models["diffusion"].sample(n, **changes)


def test_clipped_cutouts_are_said_to_be():
    cutouts = sky()
    clipped = cutouts.replace(data=np.where(cutouts.data > 0.01, cutouts.data, 0))
    with pytest.warns(HalopyWarning, match="are clipped.*train it on full sky"):
        new("diffusion").fit(clipped, rng=1, progress=False)


def test_masked_frequencies_are_not_known():
    cutouts = simulated_cutouts(12)
    cutouts.table["frequency"] = MaskedColumn(np.where(np.arange(12) % 2, 100.0, 999.0), mask=np.arange(12) % 2 == 0,
                                              unit=u.MHz)
    made = new("diffusion").fit(cutouts, rng=1, progress=False).sample(30, label="none", rng=1)
    known = made.table["frequency"].to_value(u.MHz)
    assert set(known[np.isfinite(known)]) == {100.0} and np.isnan(known).any()


# ------------------------------------------------------------------------------------- the training

@pytest.mark.parametrize("name", NAMES)
def test_history(models, name):
    history = models[name].history
    assert history.colnames[0] == "images" and all(np.isfinite(history[c]).all() for c in history.colnames)
    assert history["images"].tolist() == [8, 16, 24, 32, 40, 48]


@pytest.mark.parametrize("name", NAMES)
def test_images_and_time_end_a_training(name):
    for limit, shown in (({"max_images": 20}, [24]), ({"max_seconds": 0}, [8]), ({"max_images": 0}, [])):
        model = new(name, n_images=10**6).fit(sky(), rng=1, progress=False, **limit)
        assert model.history["images"].tolist() == shown
        assert np.isfinite(model.sample(3, rng=1).data).all() and model.groups_


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_bursts_is_said(name):
    with pytest.raises(HaloInputError, match="the loss must stay finite .*lower learning_rate"):
        new(name, learning_rate=1e30).fit(sky(), rng=1, progress=False)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_the_file(models, name, tmp_path):
    """Half precision holds every number of the networks that sample, before and after a file."""
    models[name].save(tmp_path / "model.safetensors")
    loaded = type(models[name]).load(tmp_path / "model.safetensors")
    for part, network in models[name]._networks.items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, tensor.half().float()), key
            assert torch.equal(tensor, loaded._networks[part].state_dict()[key]), key
    assert loaded.history.colnames == models[name].history.colnames
    assert all(np.array_equal(loaded.history[c], models[name].history[c]) for c in loaded.history.colnames)


def test_generators_and_threads_are_left_alone():
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    for name in NAMES:
        new(name).fit(sky(), rng=1, progress=False).sample(3, rng=1)
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads


def test_not_trained():
    for use in (lambda model: model.sample(1), lambda model: model.compressed(sky())):
        with pytest.raises(NotFittedError, match="must be trained"):
            use(new("cwgan"))


@pytest.mark.parametrize(("changes", "text"), [
    ({"size": 8}, "size must be a whole number of 16 or more .found 8"),
    ({"size": 24}, "size must be a multiple of 16 .found 24"),
    ({"width": 4}, "width must be a whole number of 8 or more"), ({"width": 12}, "width must be a multiple of 8"),
    ({"batch_size": 0}, "batch_size must be a whole number of 1"), ({"batch_size": True}, "batch_size must be a whole"),
    ({"n_images": 2.5}, "n_images must be a whole number"),
    ({"learning_rate": 0}, "learning_rate must be a positive number"),
    ({"learning_rate": np.nan}, "learning_rate must be a positive number"),
    ({"device": "nowhere"}, "device must be one that torch has .*device='cpu'"),
    ({"average": 1.0}, r"average must be in \[0, 1\)"),
])
@pytest.mark.parametrize("name", ["cwgan", "sngan", "diffusion"])
def test_settings_that_cannot_be(name, changes, text):
    with pytest.raises(HaloInputError, match=text):
        new(name, **changes).fit(sky(), rng=1, progress=False)


# ------------------------------------------------------------- what is wrong in other packages, and not here

MODULES = ["trained", "run", "conditions", "diffusion", "gan", "gan_networks", "unet", "sampling"]


@pytest.mark.parametrize("name", MODULES)
def test_no_network_is_built_at_import(repository, monkeypatch, name):
    built = []
    monkeypatch.setattr(Step, "_known", dict(Step._known))
    monkeypatch.setattr(nn.Module, "__init__", lambda self, *a, **k: built.append(type(self)))
    state = torch.get_rng_state()
    spec = importlib.util.spec_from_file_location(f"again_{name}", repository / f"halopy/generative/{name}.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert not built and torch.equal(torch.get_rng_state(), state)


def test_no_error_of_a_user_is_an_assert(repository):
    """python -O leaves them out."""
    found = [f"{path.name}:{node.lineno}" for path in sorted((repository / "halopy").rglob("*.py"))
             for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Assert)]
    assert found == []
