"""The networks: the contract, their sizes, that they learn, that they say why."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import PIXEL, RMS, beam_noise, point_source, some_cutouts

from halopy.classify.attention import AttentionClassifier
from halopy.classify.cnn import ConvolutionalClassifier
from halopy.classify.dense import DenseClassifier
from halopy.classify.explain import occlusion
from halopy.errors import HaloInputError, NotFittedError
from halopy.learning.views import augmented, dihedral, undihedral
from halopy.registry import classifiers
from halopy.testing import check_classifier, simulated_cutouts

NAMES = ["cnn", "attention-cnn", "dense"]
KINDS = [ConvolutionalClassifier, AttentionClassifier, DenseClassifier]


def sources(n, *, rng=0):
    """Every second cutout has a source of 12 σ in the middle of noise."""
    pixels = RMS * beam_noise((64, 64), np.random.default_rng(rng), n=n)
    pixels[1::2] += 12 * RMS * point_source((64, 64), 31.5, 31.5)
    cutouts = some_cutouts(pixels)
    cutouts.table["label"] = np.where(np.arange(n) % 2, "halo", "none")
    cutouts.table["group"] = (np.arange(n) // 2).astype(str)
    return cutouts


@pytest.fixture(scope="module")
def trained():
    cutouts = sources(120)
    return {name: classifiers.create(name, max_epochs=12, learning_rate=3e-3).fit(cutouts, rng=1, progress=False)
            for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    check_classifier(name)


# From the layers: kernel² · in · out + out of a convolution, in · out + out of a full layer.
CNN = (25 * 16 + 16) + (9 * 16 * 32 + 32) + (9 * 32 * 48 + 48) + (9 * 48 * 24 + 24) + (16 * 24 * 48 + 48) + 49
DENSE = (4096 * 250 + 250) + 3 * (250 * 250 + 250) + 251


@pytest.mark.parametrize(("kind", "least", "most"), [
    (ConvolutionalClassifier, 45_000, 55_000), (AttentionClassifier, 30_000, 40_000), (DenseClassifier, DENSE, DENSE),
    (ConvolutionalClassifier, CNN, CNN)])
def test_sizes(kind, least, most):
    assert least <= sum(p.numel() for p in kind()._network().parameters()) <= most


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [16, 33, 64])
def test_any_size(kind, size):
    assert kind(size=size, width=8)._network()(torch.zeros(3, 1, size, size)).shape == (3,)


@pytest.mark.parametrize("name", NAMES)
def test_they_learn(trained, name):
    cutouts = sources(100, rng=5)
    positive = np.arange(100) % 2 == 1
    probability = trained[name].predict_proba(cutouts)
    # The area under the ROC curve: how often a halo is above another cutout.
    assert (probability[positive][:, None] > probability[~positive]).mean() > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_a_probability_is_of_one_cutout_alone(trained, name):
    cutouts = sources(70, rng=6)
    together = trained[name].predict_proba(cutouts)
    alone = np.concatenate([trained[name].predict_proba(cutouts[i]) for i in range(70)])
    assert together == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_seen_nothing_said(trained, name):
    cutouts = sources(4)
    cutouts.data[0], cutouts.data[1], cutouts.data[2] = np.nan, 0.0, 3.0
    assert np.isnan(trained[name].predict_proba(cutouts)).tolist() == [True, True, True, False]


@pytest.mark.parametrize("name", NAMES)
def test_orientation_does_not_matter(trained, name):
    cutouts = sources(6)
    turned = cutouts.replace(data=np.rot90(cutouts.data, 1, (1, 2))[:, ::-1])
    assert trained[name].predict_proba(turned) == pytest.approx(trained[name].predict_proba(cutouts), abs=1e-5)


@given(st.lists(st.integers(-10**6, 10**6), min_size=2, max_size=20, unique=True), st.floats(0.2, 5))
@settings(max_examples=30, deadline=None)
def test_probabilities_never_tie(logits, temperature):
    model = ConvolutionalClassifier()
    model.temperature_ = temperature
    probability = model.probability(np.sort(logits))
    assert (np.diff(probability) > 0).all() and 0 < probability[0] and probability[-1] < 1


def test_the_temperature_softens():
    model = ConvolutionalClassifier()
    model.temperature_ = 2.0
    # sigmoid(ln 9) = 0.9; the logit of half that is ln 3, and sigmoid(ln 3) = 0.75.
    assert model.probability(np.log(9)) == pytest.approx(0.75)


# ---------------------------------------------------------------------------------------------- views

def test_views_are_eight_and_can_be_undone():
    images = torch.arange(9.0).reshape(1, 1, 3, 3)
    seen = [dihedral(images, k) for k in range(8)]
    assert len({tuple(x.flatten().tolist()) for x in seen}) == 8
    assert all(torch.equal(undihedral(x, k), images) for k, x in enumerate(seen))


def test_augmentation_moves_and_brightens_a_little():
    images = torch.zeros(200, 1, 15, 15)
    images[:, 0, 7, 7] = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        seen = augmented(images)
    assert ((seen != 0).sum((1, 2, 3)) == 1).all()
    peak = seen.amax((1, 2, 3))
    assert 0.9 <= peak.min() < 0.95 and 1.05 < peak.max() <= 1.1
    places = {(int(i) // 15 - 7, int(i) % 15 - 7) for i in seen.flatten(1).argmax(1)}
    assert places == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


# ------------------------------------------------------------------------------------------ explanations

@pytest.mark.parametrize(("name", "method"), [(n, m) for n in NAMES for m in ("grad-cam", "occlusion", None)
                                              if (n, m) != ("dense", "grad-cam")])
def test_explanations_point_at_the_source(trained, name, method):
    cutouts = sources(2, rng=7)[1]
    maps = trained[name].explain(cutouts, method=method)
    assert maps.shape == cutouts.shape and maps.unit == u.dimensionless_unscaled
    assert maps.table.colnames == cutouts.table.colnames
    centre = maps.data[0, 24:40, 24:40]
    assert np.nanmax(maps.data[0]) == np.nanmax(centre) > 0


def test_a_map_has_the_cutouts_wcs(trained):
    cutouts = simulated_cutouts(3)
    maps = trained["cnn"].explain(cutouts)
    assert maps.wcs(1).wcs.crval == pytest.approx(cutouts.wcs(1).wcs.crval)
    assert maps.wcs(1).pixel_shape == (64, 64)


def test_no_map_where_there_is_no_data(trained):
    cutouts = sources(2)
    cutouts.data[0], cutouts.data[1, :20] = np.nan, np.nan
    for method in ("grad-cam", "occlusion"):
        maps = trained["cnn"].explain(cutouts, method=method).data
        assert np.isnan(maps[0]).all() and np.isnan(maps[1, :20]).all() and np.isfinite(maps[1, 30]).all()


def test_explain_none(trained):
    assert trained["cnn"].explain(sources(2)[:0]).shape == (0, 64, 64)


def test_occlusion_works_with_any_classifier():
    maps = occlusion(classifiers.create("matched-filter"), sources(2), patches=3)
    assert maps.data[1, 32, 32] == maps.data[1].max()


def test_what_cannot_be_explained(trained):
    with pytest.raises(HaloInputError, match="Grad-CAM needs a network with convolutions .*method='occlusion'"):
        trained["dense"].explain(sources(2), method="grad-cam")
    with pytest.raises(HaloInputError, match="method must be 'grad-cam' or 'occlusion'"):
        trained["cnn"].explain(sources(2), method="lime")
    with pytest.raises(NotFittedError, match="must be trained"):
        ConvolutionalClassifier().explain(sources(2))
    with pytest.raises(NotFittedError, match="must be trained"):
        ConvolutionalClassifier().logit(sources(2))
    with pytest.raises(HaloInputError, match="occlusion takes a CutoutSet"):
        occlusion(trained["cnn"], np.zeros((2, 64, 64)))
    with pytest.raises(HaloInputError, match="patches must be a positive whole number"):
        occlusion(trained["cnn"], sources(2), patches=0)


def test_the_width_of_tokens_is_shared_by_the_heads():
    with pytest.raises(HaloInputError, match="width must be a multiple of 4"):
        AttentionClassifier(width=6).fit(sources(8), rng=1, progress=False)


def test_it_needs_no_grid_of_its_own():
    cutouts = sources(8)
    assert u.Quantity(cutouts.table["pixel_scale"][0]) == PIXEL
    model = ConvolutionalClassifier(pixels_per_beam=None, max_epochs=1).fit(cutouts, rng=1, progress=False)
    assert np.isfinite(model.predict_proba(cutouts)).all()
