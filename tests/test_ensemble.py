"""The ensemble: its members, what repeats, what must not change it, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy import units as u

from halopy.classify.ensemble import N_FEATURES, Ensemble
from halopy.classify.halo_features import halo_features
from halopy.classify.run import Run
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, NotFittedError
from halopy.model import group_hashes
from halopy.testing import check_classifier, simulated_cutouts

TINY = {"n_numeric": 1, "n_convolutional": 1, "max_epochs": 2, "width": 8, "views": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def sky():
    return simulated_cutouts(60)


@pytest.fixture(scope="module")
def trained(sky):
    """One that has learnt something; tests leave it as it is."""
    settings = TINY | {"n_numeric": 2, "max_epochs": 8, "learning_rate": 3e-3, "views": 8, "width": 16}
    return Ensemble(**settings).fit(sky, rng=1, progress=False)


def tiny(cutouts, *, rng=1, checkpoint=None, **settings):
    return Ensemble(**TINY | settings).fit(cutouts, rng=rng, progress=False, checkpoint=checkpoint)


def saved(model, folder):
    model.save(folder / "model.safetensors", overwrite=True)
    return (folder / "model.safetensors").read_bytes()


def new_sky(n=24):
    """Cutouts of groups that the others are not of."""
    cutouts = simulated_cutouts(n, rng=7)
    cutouts.table["group"] = [f"new {i // 3}" for i in range(n)]
    return cutouts


# ----------------------------------------------------------------------------------------- the contract

def test_contract():
    check_classifier(Ensemble(**TINY | {"max_epochs": 1}))


def test_the_numbers_are_those_of_the_features(sky):
    assert len(halo_features(sky[:1])[1]) == N_FEATURES


def test_one_seed_one_file(sky, tmp_path):
    assert saved(tiny(sky), tmp_path) == saved(tiny(sky), tmp_path) != saved(tiny(sky, rng=2), tmp_path)


def test_a_file_gives_the_same_model(sky, trained, tmp_path):
    content = saved(trained, tmp_path)
    loaded = Ensemble.load(tmp_path / "model.safetensors")
    assert saved(loaded, tmp_path) == content
    assert loaded.predict_proba(sky).tobytes() == trained.predict_proba(sky).tobytes()
    assert loaded.groups_ == trained.groups_ and loaded.trained_on_ == trained.trained_on_ != {}


def test_it_learns(trained):
    cutouts = simulated_cutouts(60, rng=9)
    halo = np.asarray(cutouts.table["label"]) == "halo"
    probability = trained.predict_proba(cutouts)
    # The area under the ROC curve: how often a halo is above another cutout.
    assert (probability[halo][:, None] > probability[~halo]).mean() > 0.9


def test_the_statistic_ranks_as_the_probability(sky, trained):
    statistic, probability = trained.statistic(sky), trained.predict_proba(sky)
    np.testing.assert_array_equal(trained.probability(statistic), probability)
    order = np.argsort(statistic)
    assert (np.diff(probability[order]) >= 0).all() and len(set(probability)) == len(set(statistic))


def test_cutouts_of_several_beams(sky, trained):
    other = sky[:6].replace(table=sky[:6].table.copy())
    other.table["pixel_scale"] = other.table["pixel_scale"] * 0.8
    together = trained.predict_proba(other.join(sky[:6]))
    alone = np.concatenate([trained.predict_proba(part) for part in (other, sky[:6])])
    np.testing.assert_allclose(together, alone, atol=1e-5)


# ------------------------------------------------------------------------------------------ the members

@pytest.mark.parametrize("views", [1, 8])
def test_the_logit_is_the_mean_of_the_members(sky, trained, views, monkeypatch):
    monkeypatch.setattr(trained, "views", views)
    members = trained.members(sky)
    assert members.shape == (60, 3)
    np.testing.assert_allclose(members.mean(axis=1), trained.logit(sky), atol=1e-6)
    # Each has weights of its own.
    assert all(np.ptp(members[:, i] - members[:, j]) > 1e-3 for i, j in ((0, 1), (0, 2), (1, 2)))


def test_members_that_see_the_numbers_do_not_see_the_views(sky, trained, monkeypatch):
    eight = trained.members(sky)
    monkeypatch.setattr(trained, "views", 1)
    one = trained.members(sky)
    np.testing.assert_allclose(one[:, :2], eight[:, :2], atol=1e-6)
    assert np.abs(one[:, 2] - eight[:, 2]).max() > 1e-4


@pytest.mark.parametrize(("n_numeric", "n_convolutional"), [(2, 0), (0, 2)])
def test_one_kind_of_member_is_enough(sky, n_numeric, n_convolutional):
    model = tiny(sky, n_numeric=n_numeric, n_convolutional=n_convolutional, max_epochs=1)
    assert model.members(sky).shape == (60, 2)
    assert np.isfinite(model.predict_proba(sky)).all()


# ---------------------------------------------------------------------------------------- explanations

@pytest.mark.parametrize("method", ["grad-cam", "occlusion", None])
def test_explanations(sky, trained, method, monkeypatch):
    # Occlusion asks the whole model once for each of 64 patches.
    monkeypatch.setattr(trained, "views", 1)
    cutouts = sky[:1].replace(data=sky[:1].data.copy())
    cutouts.data[0, :10] = np.nan
    maps = trained.explain(cutouts, method=method)
    assert maps.shape == cutouts.shape and maps.unit == u.dimensionless_unscaled
    assert maps.table.colnames == cutouts.table.colnames
    assert np.isnan(maps.data[0, :10]).all() and np.isfinite(maps.data[0, 14:50, 14:50]).all()
    assert np.ptp(maps.data[0, 14:50, 14:50]) > 0


def test_the_default_is_by_the_pixels_where_a_member_sees_them(sky, trained):
    np.testing.assert_array_equal(trained.explain(sky[:2]).data, trained.explain(sky[:2], method="grad-cam").data)
    assert trained.explain(sky[:0]).shape == (0, 64, 64)


def test_without_pixels_patches_are_covered(sky):
    model = tiny(sky, n_convolutional=0, max_epochs=1)
    one = sky[:1]
    maps = model.explain(one).data[0]
    # A patch has one value.
    assert all(np.ptp(maps[8 * i:8 * i + 8, :8]) == 0 for i in range(8)) and np.ptp(maps) > 0
    with pytest.raises(HaloInputError, match="Grad-CAM needs a member with convolutions .*n_convolutional=0"):
        model.explain(one, method="grad-cam")
    with pytest.raises(HaloInputError, match="method must be 'grad-cam' or 'occlusion'"):
        model.explain(one, method="lime")


# ----------------------------------------------------------------------------- what must not change it

def turned(cutouts, view):
    data = np.rot90(cutouts.data, view % 4, (1, 2))
    table = cutouts.table.copy()
    angle = u.Quantity(table["beam_pa"]) + 90 * (view % 4) * u.deg
    table["beam_pa"] = -angle if view >= 4 else angle
    return cutouts.replace(data=data[:, :, ::-1] if view >= 4 else data, table=table)


@pytest.mark.parametrize("size", [63, 64])
def test_orientation_does_not_matter(sky, trained, size):
    """Views are averaged, and the matched filter's grid of centres has their symmetry, in odd and even cutouts."""
    cutouts = sky[:12].replace(data=sky.data[:12, :size, :size])
    expected = trained.logit(cutouts)
    for view in (1, 2, 4, 6):
        np.testing.assert_allclose(trained.logit(turned(cutouts, view)), expected, atol=1e-3)


def test_the_unit_does_not_matter(sky, trained):
    table = sky.table.copy()
    table["rms"] = table["rms"].to(u.mJy / u.beam)
    milli = CutoutSet(1000 * sky.data, table, unit=u.mJy / u.beam)
    np.testing.assert_allclose(trained.predict_proba(milli), trained.predict_proba(sky), atol=1e-4)


def test_cutouts_that_hold_nothing(sky, trained):
    bad = sky[:6].replace(data=sky.data[:6].copy())
    bad.data[0], bad.data[1], bad.data[2] = np.nan, 0.0, 2.0
    bad.data[3, :, :32], bad.data[4, 28:36, 28:36] = np.nan, np.nan
    for part in (bad, bad[:1], bad[1:2]):
        probability = trained.predict_proba(part)
        assert ((probability >= 0) & (probability <= 1) | np.isnan(probability)).all()
    probability = trained.predict_proba(bad)
    assert np.isnan(probability[:3]).all() and np.isfinite(probability[[3, 5]]).all()
    np.testing.assert_array_equal(np.isnan(trained.members(bad)).any(axis=1), np.isnan(probability))
    assert np.isnan(trained.explain(bad).data[0]).all()
    assert trained.predict_proba(sky[:0]).shape == (0,) and trained.members(sky[:0]).shape == (0, 3)


# ------------------------------------------------------------------------------------ training, in parts

def test_finetuning(sky, trained, tmp_path):
    before = saved(trained, tmp_path)
    start = trained.finetune(new_sky(), max_images=0, progress=False, rng=1)
    # The numbers keep their scale: that of the first training.
    np.testing.assert_array_equal(start.logit(sky), trained.logit(sky))
    tuned, again = (trained.finetune(new_sky(), max_epochs=2, learning_rate=1e-3, progress=False, rng=1) for _ in "ab")
    assert saved(tuned, tmp_path) == saved(again, tmp_path) != before
    assert saved(trained, tmp_path) == before
    assert set(tuned.groups_) == set(trained.groups_) | set(group_hashes(new_sky().table["group"]))
    assert tuned.params == trained.params and tuned.history["epoch"].tolist() == [0, 1, 2]


def test_a_killed_run_continues_to_the_same_bytes(sky, tmp_path, monkeypatch):
    whole, path, step, left = saved(tiny(sky), tmp_path), tmp_path / "run.safetensors", Run.step, [5]

    def dying(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            tiny(sky, checkpoint=path)
    assert path.exists()
    assert saved(tiny(sky, checkpoint=path), tmp_path) == whole


def test_threads_and_generators_are_left_alone(sky):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    tiny(sky, max_epochs=1).members(sky[:2])
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads


# --------------------------------------------------------------------------------------- what is refused

@pytest.mark.parametrize(("changes", "text"), [
    ({"n_numeric": -1}, "n_numeric must be a whole number, not negative .found -1"),
    ({"n_numeric": True}, "n_numeric must be a whole number, not negative"),
    ({"n_convolutional": 1.5}, "n_convolutional must be a whole number, not negative"),
    ({"n_convolutional": None}, "n_convolutional must be a whole number, not negative"),
    ({"n_numeric": 0, "n_convolutional": 0}, "an ensemble needs at least one member"),
    ({"width": 1}, "width must be a whole number of 2 or more"),
    ({"max_epochs": 0}, "max_epochs must be a whole number of 1 or more"),
    ({"batch_size": 0}, "batch_size must be a whole number of 1 or more"),
    ({"patience": 0}, "patience must be a whole number of 1 or more"),
    ({"views": 2}, "views must be 1, 4 or 8"),
    ({"learning_rate": 0}, "learning_rate must be positive"),
    ({"dropout": 1}, r"must be in \[0, 1\)"),
    ({"validation_fraction": 1}, r"must be in \[0, 1\)")])
def test_settings_that_cannot_be(sky, changes, text):
    with pytest.raises(HaloInputError, match=text):
        tiny(sky[:6], **changes)


def test_cutouts_that_cannot_be_used(sky, trained):
    with pytest.raises(HaloInputError, match="a grid relative to the beam needs the columns beam_major"):
        trained.predict_proba(CutoutSet(sky.data[:2], unit=sky.unit))
    with pytest.raises(HaloInputError, match="a classifier takes a CutoutSet .*ndarray"):
        trained.predict_proba(sky.data)
    with pytest.raises(HaloInputError, match="rms must be in a unit like the pixels"):
        trained.predict_proba(CutoutSet(sky.data[:2], sky.table[:2]))


@pytest.mark.parametrize("use", ["statistic", "members", "explain", "logit"])
def test_it_must_be_trained(sky, use):
    with pytest.raises(NotFittedError, match="must be trained"):
        getattr(Ensemble(**TINY), use)(sky[:2])
