"""Training sets of generators: cutouts that are smaller than the images, and classes of few of them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st

from halopy.cutouts import CutoutSet
from halopy.errors import HalopyWarning
from halopy.generative.trained import RARE, SEEN
from halopy.learning.inputs import filled_size, model_input
from halopy.registry import generators
from halopy.testing import simulated_cutouts

TINY = {"size": 16, "width": 8, "batch_size": 8, "n_images": 8, "steps": 2, "validation_fraction": 0}


def fit(cutouts, *, rng=1, **settings):
    return generators.create("diffusion", **TINY | settings).fit(cutouts, rng=rng, progress=False)


# ------------------------------------------------------------------------------------------- the empty frame

def test_cutouts_that_do_not_fill_the_images():
    """64 pixels of 28 arcsec under beams of 127.4 arcsec are 42 of a third of a beam; four times as wide, 64."""
    cutouts = simulated_cutouts(6)
    cutouts.table["pixel_scale"][:2] *= 4
    with pytest.warns(HalopyWarning, match="^4 of 6 cutouts do not fill the 64 pixels a side of the images, the "
                                           "smallest 42 of them: .* empty frame .* larger cutouts, or with size=32$"):
        model = fit(cutouts, size=64)
    filled = (model.compressed(cutouts) != 0).any(axis=1).sum(axis=1)
    assert filled.tolist() == [64, 64, 42, 42, 42, 42]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(cutouts, size=32)


def test_no_size_fits_the_smallest_cutouts():
    with pytest.warns(HalopyWarning, match="6 of 6 .* 16 pixels .* the smallest 12 of them: .* on larger cutouts$"):
        fit(CutoutSet(np.random.default_rng(1).normal(size=(6, 12, 20)),
                      QTable({"label": ["halo"] * 6, "group": list("abcdef")})), pixels_per_beam=None)


# ----------------------------------------------------------------------------------------------- rare classes

def rare(n):
    """Noise of 6000 cutouts: three of them are ORCs, ``n`` relics, each with an rms of its own."""
    label = np.full(6000, "none", dtype=object)
    label[[0, 3000, 5999]], label[100:100 + n] = "orc", "relic"
    data = np.random.default_rng(1).normal(size=(6000, 16, 16)).astype(np.float32)
    return CutoutSet(data, QTable({"label": label.astype(str), "rms": 1 + np.arange(6000) / 6000,
                                   "group": (np.arange(6000) // 100).astype(str)}))


@pytest.mark.parametrize("rng", [1, 2])
def test_a_rare_class_is_remembered(rng, tmp_path):
    """A third of 6000 images is forgotten; with 3 of a class, all are kept with a probability of 0.3 only."""
    cutouts = rare(400)
    model = fit(cutouts, rng=rng, pixels_per_beam=None)
    model.save(tmp_path / "model")
    expected = cutouts.table["rms"][np.asarray(cutouts.table["label"]) == "orc"]
    for one in (model, type(model).load(tmp_path / "model")):
        made = one.sample(60, label="orc", rng=1)
        assert sorted(set(np.asarray(made.table["rms"]))) == pytest.approx(expected)
    # Of 400 relics about 270 are among the images that are remembered, and that is enough of them.
    names, n = np.unique(model._seen["class"], return_counts=True)
    counts = dict(zip(names.tolist(), n.tolist(), strict=True))
    assert SEEN <= len(model._seen) <= SEEN + 3 and counts["orc"] == 3
    # Without replacement: a deviation of sqrt(400 * 0.68 * 0.32) = 9.
    assert abs(counts["relic"] - 400 * SEEN / 6000) < 45


def test_as_many_of_a_rare_class_as_are_needed(monkeypatch):
    monkeypatch.setattr("halopy.generative.trained.SEEN", 60)
    names, n = np.unique(fit(rare(400), pixels_per_beam=None)._seen["class"], return_counts=True)
    assert dict(zip(names.tolist(), n.tolist(), strict=True)) == {"none": RARE, "orc": 3, "relic": RARE}


def test_a_small_set_is_remembered_whole():
    cutouts = simulated_cutouts(12)
    assert fit(cutouts)._seen["class"].tolist() == cutouts.table["label"].tolist()


# ------------------------------------------------------------------------------------------------- the history

@pytest.mark.parametrize("name", ["diffusion", "sngan"])
def test_images_are_counted_in_whole_numbers(name, tmp_path, monkeypatch):
    monkeypatch.setattr("halopy.generative.gan.COLLAPSED", 0.0)
    settings = {key: TINY[key] for key in ("size", "width", "batch_size", "n_images")}
    model = generators.create(name, **settings).fit(simulated_cutouts(6), rng=1, progress=False)
    model.save(tmp_path / "model")
    for history in (model.history, type(model).load(tmp_path / "model").history):
        assert history["images"].dtype.kind == "i" and history["images"].tolist() == [8]
        assert all(history[column].dtype == np.float64 for column in history.colnames[1:])


# --------------------------------------------------------------------------------------- how far cutouts reach

def test_the_filled_part():
    cutouts = simulated_cutouts(3)
    assert filled_size(cutouts).tolist() == [42] * 3 and filled_size(cutouts[:0]).tolist() == []
    # Their own pixels, and those within 3 % of the wanted scale, which are kept.
    assert filled_size(cutouts, pixels_per_beam=None).tolist() == [64] * 3
    beam = np.sqrt(cutouts.table["beam_major"] * cutouts.table["beam_minor"])
    cutouts.table["pixel_scale"] = beam / 3 * [1.02, 0.98, 2]
    assert filled_size(cutouts).tolist() == [64, 64, 127]
    cutouts.table["pixel_scale"] = 1e-3 * u.arcsec
    assert filled_size(cutouts).tolist() == [1, 1, 1]


@given(st.integers(2, 40), st.floats(10, 200))
def test_no_more_and_no_less_is_filled(n, pixel_scale):
    """A square of so many pixels has no empty frame, one of the next size has."""
    cutouts = simulated_cutouts(1)
    cutouts.table["pixel_scale"] = pixel_scale * u.arcsec
    cutouts = CutoutSet(cutouts.data[:, :n, :n], cutouts.table, unit=cutouts.unit)
    size = int(filled_size(cutouts)[0])
    for pixels, full in ((size, True), (size + 1, False)):
        shown = model_input(cutouts, size=pixels)[0]
        # The level, a pixel of 0, may be in the middle.
        assert np.all([edge.any() for edge in (shown[0], shown[-1], shown[:, 0], shown[:, -1])]) == (full and size > 1)
