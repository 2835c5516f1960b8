"""The sky that the shipped classifier is trained on (tools/training_sky.py)."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from astropy import units as u

from halopy import simulate


@pytest.fixture(scope="module")
def training_sky(repository):
    sys.path.insert(0, str(repository / "tools"))
    try:
        import training_sky
    finally:
        sys.path.remove(str(repository / "tools"))
    return training_sky


@pytest.fixture(scope="module")
def cutouts(training_sky):
    return training_sky.cutouts(200, rng=1)


def test_the_same_seed_makes_the_same_sky(training_sky, cutouts):
    again = training_sky.cutouts(200, rng=1)
    assert again.data.tobytes() == cutouts.data.tobytes() and list(again.table["group"]) == list(cutouts.table["group"])
    other = training_sky.cutouts(200, rng=2)
    assert not set(other.table["group"]) & set(cutouts.table["group"])


def test_a_block_is_a_group_of_one_beam_and_survey(training_sky, cutouts):
    groups = np.asarray(cutouts.table["group"])
    assert sorted(np.unique(groups, return_counts=True)[1]) == [200 - training_sky.BLOCK, training_sky.BLOCK]
    for group in np.unique(groups):
        rows = cutouts.table[groups == group]
        assert len(set(rows["survey"])) == len(set(rows["beam_major"].value)) == 1
    width = np.sqrt(cutouts.table["beam_major"] * cutouts.table["beam_minor"]) / cutouts.table["pixel_scale"]
    np.testing.assert_allclose(width.to_value(u.one), training_sky.PIXELS_PER_BEAM)


def test_clipped_cutouts_are_mostly_zero_and_know_their_noise(training_sky):
    made = training_sky.cutouts(64, names={"gleam-170-231": 1}, rng=5)
    clipped = training_sky._clipped(made, np.random.default_rng(1))
    # Gaussian noise clipped at 2.5 to 4 sigma on both sides: 99 % and more is zero where there are no sources.
    assert np.median((clipped.data == 0).mean(axis=(1, 2))) > 0.9
    kept = np.abs(clipped.data[(clipped.data != 0) & np.isfinite(clipped.data)])
    level = 3 * clipped.table["rms"].to_value(clipped.unit)
    assert kept.min() >= level.min() * (1 - 1e-6)


def test_injected_flux_is_what_the_table_says(training_sky):
    blank = training_sky.cutouts(40, names={"nvss": 1}, rng=3)
    quiet = blank.replace(data=np.zeros_like(blank.data))
    made = training_sky.inject_into(quiet, share=0.5, radii=(0.3, 1.0), rng=4)
    halo = np.asarray(made.table["label"]) == "halo"
    assert 10 <= halo.sum() <= 30 and set(made.table["label"]) == {"halo", "blank"}
    area = (np.pi / (4 * np.log(2)) * made.table["beam_major"] * made.table["beam_minor"]
            / made.table["pixel_scale"] ** 2).to_value(u.one)
    flux = made.data.sum(axis=(1, 2)) / area
    np.testing.assert_allclose(flux[halo], made.table["flux"][halo].to_value(u.Jy), rtol=0.02)
    assert np.all(made.data[~halo] == 0) and np.isnan(made.table["flux"][~halo].value).all()


def test_halos_lie_off_their_centres_by_a_part_of_their_size_at_most(training_sky):
    """At any redshift the scatter of a merger counts up to the halo's own radius."""
    away = training_sky.off_centre(np.full(4000, 60.0), np.full(4000, 0.02), np.random.default_rng(1))
    assert away.std() == pytest.approx(60 * np.hypot(0.25, 1), rel=0.05)
    far = training_sky.off_centre(np.full(4000, 60.0), np.full(4000, 0.8), np.random.default_rng(1))
    # 150 kpc at a redshift of 0.8 are 20 arcsec (H0 = 70 km/s/Mpc, Omega_m = 0.3).
    assert far.std() == pytest.approx(np.hypot(15, 20), rel=0.05)


def test_the_shifted_population_differs_in_shape_and_mix(training_sky):
    same, shifted = training_sky.SAME, training_sky.SHIFTED
    assert shifted.relation in simulate.relations and shifted.relation != same.relation
    total = [sum(p.mix.values()) for p in (same, shifted)]
    for label in ("radio-galaxy", "phoenix", "blend"):
        assert shifted.mix[label] == pytest.approx(1.5 * same.mix[label])
    assert shifted.mix["halo"] / total[1] < same.mix["halo"] / total[0]
