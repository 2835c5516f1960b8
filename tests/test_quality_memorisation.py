"""Copies are found, however they are turned; other sky of the same kind is none."""

from __future__ import annotations

import numpy as np
import pytest

from halopy import simulate
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.generative.quality.common_input import common_size
from halopy.generative.quality.memorisation import memorisation, nearest, view_of
from halopy.testing import simulated_cutouts


@pytest.fixture(scope="module")
def sky():
    return simulate.cutouts(90, mix={"halo": 1, "radio-galaxy": 1, "none": 1}, rng=1)


@pytest.fixture(scope="module")
def other():
    return simulate.cutouts(90, mix={"halo": 1, "radio-galaxy": 1, "none": 1}, rng=2)


def rows(table):
    return {row["metric"]: row for row in table}


def test_views():
    image = np.arange(9).reshape(3, 3)
    seen = {view_of(image, k).tobytes() for k in range(8)}
    assert len(seen) == 8 and np.array_equal(view_of(image, 0), image)
    assert np.array_equal(view_of(image, 4), image[:, ::-1])
    torch = pytest.importorskip("torch")
    views = pytest.importorskip("halopy.learning.views")
    for k in range(8):
        assert np.array_equal(view_of(image, k), views.dihedral(torch.as_tensor(image), k).numpy())


def test_the_view_that_fits_is_found(sky):
    order = np.random.default_rng(1).permutation(len(sky))
    view = np.arange(len(sky)) % 8
    turned = sky[order].replace(data=np.stack([view_of(image, k) for image, k in
                                               zip(sky.data[order], view, strict=True)]))
    index, found, distance = nearest(turned, sky)
    assert index.tolist() == order.tolist() and found.tolist() == view.tolist()
    assert distance.max() < 1e-3


@pytest.mark.parametrize("view", [0, 3, 6])
def test_copies_have_a_ratio_of_0(sky, view):
    copies = sky.replace(data=np.ascontiguousarray(view_of(sky.data, view)))
    found = rows(memorisation(copies, sky, n=30, rng=1))
    assert found["nearest_ratio"]["high"] < 0.01 and found["copies"]["low"] > 0.99
    # Without real images of other sky the floor is what defines both.
    assert found["nearest_ratio"]["floor"] == 1 and found["copies"]["floor"] == pytest.approx(0.05, abs=0.01)


def test_copies_with_noise_of_their_own_and_a_shift_are_found(sky):
    rng = np.random.default_rng(1)
    noise = simulate.cutouts(len(sky), mix={"blank": 1}, artefacts=None, rng=5).data / 2
    shifted = sky.replace(data=np.roll(sky.data, 1, axis=2) * rng.uniform(0.95, 1.05, (len(sky), 1, 1)) + noise)
    found = rows(memorisation(shifted, sky, n=30, rng=1))
    assert found["nearest_ratio"]["high"] < found["nearest_ratio"]["floor_low"]
    assert found["copies"]["low"] > 0.3


def test_other_sky_has_a_ratio_of_1(sky, other):
    third = simulate.cutouts(60, mix={"halo": 1, "radio-galaxy": 1, "none": 1}, rng=3)
    found = rows(memorisation(other, sky, real=third, n=60, rng=1))
    for name in ("value", "floor"):
        assert found["nearest_ratio"][name] == pytest.approx(1, abs=0.1)
        assert found["copies"][name] == pytest.approx(0.05, abs=0.08)
    assert found["nearest_ratio"]["low"] < 1.05 and found["nearest_ratio"]["high"] > 0.95
    assert found["nearest_ratio"]["low"] < found["nearest_ratio"]["value"] < found["nearest_ratio"]["high"]


def test_bands_of_one_cluster_do_not_count_as_near(sky, other):
    # Four times the same sky: the nearest real image would be a band of the same cluster.
    bands = sky.join(sky, sky, sky)
    found = rows(memorisation(other, bands, n=20, rng=1))
    assert found["nearest_ratio"]["value"] == pytest.approx(
        rows(memorisation(other, sky, n=20, rng=1))["nearest_ratio"]["value"], abs=0.02)


def test_a_mix_of_other_labels_is_no_copy(sky, other):
    # Fields without a source are nearer to anything than bright ones: that is their label's, not a copy's.
    empty = other[np.asarray(other.table["label"]) == "none"]
    assert rows(memorisation(empty, sky, n=20, rng=1))["nearest_ratio"]["value"] == pytest.approx(1, abs=0.12)


def test_real_images_of_the_training_sky_are_no_floor(sky, other):
    found = rows(memorisation(other, sky, real=sky[:50], n=20, rng=1))
    assert found["nearest_ratio"]["floor"] == 1


def test_images_without_data_have_no_nearest(sky):
    made = sky[:4]
    made = made.replace(data=np.where(np.arange(4)[:, None, None] == 1, np.nan, made.data))
    index, _, distance = nearest(made, sky)
    assert index.tolist() == [0, -1, 2, 3] and np.isnan(distance[1])


def test_the_same_seed_gives_the_same_numbers(sky, other):
    first, second = (memorisation(other, sky, n=10, rng=4) for _ in range(2))
    assert first["low"].tolist() == second["low"].tolist()


def test_large_sets_are_drawn_from(sky, other, monkeypatch):
    monkeypatch.setattr("halopy.generative.quality.memorisation.MOST", 40)
    monkeypatch.setattr("halopy.generative.quality.memorisation.CHUNK", 32)
    found = rows(memorisation(other, sky, real=other, n=20, rng=1))
    assert found["nearest_ratio"]["value"] == pytest.approx(1, abs=0.2)
    assert common_size(sky) == common_size(other)
    assert (nearest(sky, sky)[0] == np.arange(len(sky))).all()


def test_what_cannot_be_searched(sky):
    nothing = sky[:3].replace(data=np.full(sky[:3].shape, np.nan))
    one = simulated_cutouts(3)
    for call, text in ((lambda: nearest(sky, nothing), "training must hold images with data"),
                       (lambda: nearest(CutoutSet(sky.data), sky), "generated needs the column"),
                       (lambda: memorisation(nothing, sky, n=2), "a set of images must hold data"),
                       (lambda: memorisation(one, one, n=2), "training needs at least two groups")):
        with pytest.raises(HaloInputError, match=text):
            call()
