"""Sky that a generator has seen stays seen, whatever becomes of its images."""

from __future__ import annotations

import numpy as np
import pytest

from halopy import CutoutSet
from halopy.classify.evaluate import evaluate
from halopy.classify.held_out import validation_rows
from halopy.errors import HaloInputError, HalopyWarning
from halopy.generative import HaloGenerator
from halopy.model import group_hashes
from halopy.registry import classifiers, generators
from halopy.testing import simulated_cutouts


@pytest.fixture(scope="module")
def cutouts():
    return simulated_cutouts(24)


@pytest.fixture(scope="module")
def generator(cutouts):
    return generators.create("sngan", size=16, width=8, n_images=16, batch_size=8).fit(cutouts[:18], rng=1)


def test_images_bring_the_groups_of_their_generator(cutouts, generator, tmp_path):
    made = generator.sample(4, conditions=cutouts.table["label",][:4], rng=1)
    assert made.meta["seen_groups"] == list(generator.groups_) == group_hashes(cutouts.table["group"][:18])
    made.write(tmp_path / "made.fits")
    read = CutoutSet.read(tmp_path / "made.fits")
    assert read.meta["seen_groups"] == made.meta["seen_groups"]
    real = cutouts.replace(data=cutouts.data[:, 24:40, 24:40])
    both = real[18:].join(read)
    assert both.meta["seen_groups"] == made.meta["seen_groups"]
    assert read.join(real[18:]).meta["seen_groups"] == made.meta["seen_groups"]
    model = classifiers.create("features-lr").fit(both, rng=1)
    assert set(generator.groups_) <= set(model.groups_)
    # Its own six cutouts are of groups that the generator has not seen; of the twelve before it has seen all.
    with pytest.raises(HaloInputError, match="has been trained on .* of the groups"):
        evaluate(model, real[:12])
    other = generators.create("sngan", size=16, pixels_per_beam=None, width=8, n_images=16, batch_size=8)
    assert set(generator.groups_) <= set(other.fit(both, rng=1).groups_)


def test_an_untrained_generator_has_seen_nothing():
    assert "seen_groups" not in generators.create("exponential").sample(2, rng=1).meta


def test_generated_images_take_nothing_else_from_real_ones(cutouts, generator):
    made = generator.sample(4, conditions=cutouts.table[:4], rng=1)
    assert not {"position", "name", "image", "coverage", "zeros"} & set(made.table.colnames)


def test_generated_images_are_not_scored_by_another_column(cutouts):
    table = cutouts.table.copy()
    table["group"] = ["generated"] * 12 + ["a"] * 12
    with pytest.raises(HaloInputError, match="generated cutouts cannot be scored"):
        evaluate(classifiers.create("matched-filter"), cutouts.replace(table=table), by="name")


def test_generated_images_are_never_held_out():
    groups = np.repeat(["a", "b", "c", "d", "generated"], 4)
    targets = np.tile([0.0, 1.0], 10)
    for seed in range(40):
        held = validation_rows(targets, groups, 0.4, np.random.default_rng(seed))
        assert held.any() and "generated" not in set(groups[held])


def test_a_generator_of_another_machine_is_used_on_this_one(generator, tmp_path):
    made = generator.sample(2, rng=1).data
    generator.device = "nowhere"
    generator.save(tmp_path / "far.safetensors")
    with pytest.raises(HaloInputError, match="device must be one that torch has on this machine .found 'nowhere'"):
        generator.sample(2, rng=1)
    generator.device = "cpu"
    with pytest.warns(HalopyWarning, match="this machine has no device 'nowhere', .* used on 'cpu'"):
        model = HaloGenerator.load(tmp_path / "far.safetensors")
    assert model.device == "cpu" and np.array_equal(model.sample(2, rng=1).data, made)
