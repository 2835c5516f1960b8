"""Shapelets of cutouts: what is the same for turned sky, what noise makes of them, and the two models made of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from halopy import classifiers, generators
from halopy.classify.evaluate import cross_validate
from halopy.classify.pca_lr import PcaLR
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, HalopyWarning
from halopy.image import FWHM_TO_SIGMA
from halopy.learning.inputs import model_input, signal_to_noise
from halopy.simulate.noise import draw_noise
from halopy.testing import check_classifier, check_generator, simulated_cutouts
from halopy.uvshapelets.pixels import PixelShapelets, pixel_shapelets
from halopy.uvshapelets.polar import turn
from halopy.uvshapelets.shapelet_generator import ShapeletGenerator
from halopy.uvshapelets.shapelet_lr import ShapeletLR

SHAPELETS = pixel_shapelets(12, 0.9, 64, 3.0)


@pytest.fixture(scope="module")
def train():
    return simulated_cutouts(240, rng=1)


@pytest.fixture(scope="module")
def generator(train):
    return ShapeletGenerator().fit(train, rng=1)


def coefficients(cutouts):
    return SHAPELETS.project(signal_to_noise(model_input(cutouts)))


def spectrum(cutouts):
    """The mean square of the coefficients of each order, in units of the noise."""
    white = np.linalg.solve(np.linalg.cholesky(SHAPELETS.noise), coefficients(cutouts).T)
    return np.array([np.mean(white[SHAPELETS.orders[:, 0] == n] ** 2) for n in range(13)])


def of(cutouts, label):
    return cutouts[np.asarray(cutouts.table["label"]) == label]


def area(probability, positive):
    """Under the ROC curve: how often a positive is above a negative."""
    difference = probability[positive][:, None] - probability[~positive][None]
    return np.mean((difference > 0) + 0.5 * (difference == 0))


# ---------------------------------------------------------------------------------------- shapelets on pixels

def test_shapelets_are_orthonormal_on_pixels():
    # Band-limited functions that vanish at the border: sums over pixels are integrals.
    gram = SHAPELETS.functions.T @ SHAPELETS.functions / 9
    assert np.abs(gram - np.eye(91)).max() < 1e-12
    image = SHAPELETS.image(np.eye(91))
    assert np.abs(SHAPELETS.project(image) - np.eye(91)).max() < 1e-12


def test_moments_are_those_of_a_gaussian():
    y, x = (np.indices((64, 64)) - 31.5) / 3
    found = SHAPELETS.project(np.exp(-(x**2 + y**2) / (2 * 0.9**2))[None])[0]
    assert found @ SHAPELETS.flux == pytest.approx(2 * np.pi * 0.9**2, rel=1e-9)
    # <r^2> of a round Gaussian is 2 sigma^2.
    assert found @ SHAPELETS.second_moment == pytest.approx(2 * np.pi * 0.9**2 * 2 * 0.9**2, rel=1e-9)


def test_noise_correlated_as_the_beam_has_the_covariance_that_is_said():
    n = 2000
    noise = draw_noise(n, (64, 64), (3 * FWHM_TO_SIGMA) ** 2 * np.eye(2), rng=1).astype(float)
    white = np.linalg.solve(np.linalg.cholesky(SHAPELETS.noise), SHAPELETS.project(noise).T)
    # The floor of a hundredth takes some; the mean of n chi-squares of 91 degrees scatters by sqrt(2 * 91 / n).
    assert np.mean(np.sum(white**2, axis=0)) == pytest.approx(91, abs=5 * np.sqrt(2 * 91 / n) + 0.02 * 91)
    assert np.abs(white @ white.T / n - np.eye(91))[~np.eye(91, dtype=bool)].max() < 6 / np.sqrt(n)


def test_whitening_does_not_mind_how_the_sky_is_turned():
    root = np.linalg.cholesky(SHAPELETS.noise)
    vector = np.random.default_rng(1).normal(size=91)
    assert np.abs(root @ turn(vector, 12, 0.7) - turn(root @ vector, 12, 0.7)).max() < 1e-12
    mirror = np.where(SHAPELETS.orders[:, 1] < 0, -1.0, 1.0)
    assert np.abs(root @ (mirror * vector) - mirror * (root @ vector)).max() < 1e-12
    assert np.abs(SHAPELETS.turned_mean(SHAPELETS.noise) - SHAPELETS.noise).max() < 1e-15


@pytest.mark.parametrize(("settings", "text"), [
    ((12, -1.0, 64, 3.0), "beta must be a positive number of beams"),
    ((12, 0.5, 64, 3.0), "beta must be from 0.833 to 2.13 beams for n_max 12"),
    ((12, 2.5, 64, 3.0), "the pixels must resolve the shapelets and hold them"),
    ((-1, 0.9, 64, 3.0), "n_max must be a whole number")])
def test_shapelets_need_pixels_that_resolve_and_hold_them(settings, text):
    with pytest.raises(HaloInputError, match=re.escape(text)):
        PixelShapelets(*settings)


# ------------------------------------------------------------------------------------------------- shapelet-lr

def test_the_models_are_found_by_name():
    assert classifiers["shapelet-lr"] is ShapeletLR
    assert generators["shapelet"] is ShapeletGenerator


@pytest.mark.parametrize("model", [ShapeletLR(), ShapeletLR(n_max=4, beta=1.0, C=1.0)], ids=repr)
def test_contract_of_the_classifier(model):
    check_classifier(model)


def test_features_are_those_of_turned_and_mirrored_sky(train):
    some = train[:6]
    expected, names = ShapeletLR().features(some)
    assert expected.shape == (6, len(names)) and len(set(names)) == len(names)
    for data in (np.rot90(some.data, axes=(1, 2)), some.data[:, ::-1], np.swapaxes(some.data, 1, 2)):
        assert np.abs(ShapeletLR().features(some.replace(data=data))[0] - expected).max() < 1e-5


def test_features_of_noise_are_of_order_one():
    noise = draw_noise(300, (64, 64), (3 * FWHM_TO_SIGMA) ** 2 * np.eye(2), rng=2)
    beam = np.full(300, 90) * u.arcsec
    table = QTable({"beam_major": beam, "beam_minor": beam, "pixel_scale": beam / 3, "rms": np.ones(300)})
    features, names = ShapeletLR().features(CutoutSet(noise, table))
    signed = np.sinh(features[:, [not re.fullmatch(r"c_\d+_\d+", name) for name in names]])
    # The level is the median of the image, which takes a part of the largest scales.
    assert (signed.std(axis=0) < 1.2).all() and (signed.std(axis=0) > 0.6).all()


def test_what_shows_nothing_has_no_probability(train):
    model = ShapeletLR().fit(train[:60])
    data = train.data[:3].copy()
    data[0], data[1] = np.nan, 1.0
    assert np.isnan(model.predict_proba(train[:3].replace(data=data))).tolist() == [True, True, False]
    assert np.isnan(model.features(train[:3].replace(data=data))[0][:2]).all()


def test_shapelets_tell_halos_from_points_and_empty_sky(train):
    scores = {}
    for model in (ShapeletLR(), PcaLR()):
        table = cross_validate(model, train, seeds=1, rng=1)
        scores[type(model)] = area(np.asarray(table["probability"]), np.asarray(table["positive"]))
    # The share of halos, which prevalence gives, is 0.5; principal components of 64 x 64 pixels have to learn from
    # the images what a turn is.
    assert scores[ShapeletLR] > 0.9
    assert scores[ShapeletLR] > scores[PcaLR]


@pytest.mark.parametrize("model", [ShapeletLR(pixels_per_beam=None), ShapeletGenerator(pixels_per_beam=None)], ids=repr)
def test_a_scale_in_beams_needs_a_beam(model, train):
    with pytest.raises(HaloInputError, match="the scale of the shapelets is one in beams"):
        model.fit(train[:30])


# --------------------------------------------------------------------------------------------------- generator

@pytest.mark.parametrize("model", [ShapeletGenerator(), ShapeletGenerator(n_max=4, beta=1.0, smoothing=1)], ids=repr)
def test_contract_of_the_generator(model):
    check_generator(model)


@pytest.mark.parametrize("label", ["halo", "radio-galaxy"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
def test_samples_have_the_spectrum_of_the_training_set(generator, train, label, smoothing):
    # Turned images have the moments of the images, and so has a Gaussian field that is made of their moments.
    model = ShapeletGenerator(smoothing=smoothing)
    model._set_state(generator._state())
    real, made = spectrum(of(train, label)), spectrum(model.sample(400, label=label, rng=2))
    # Where images are mostly noise, samples have that of the beam, whatever the noise of the images is correlated as.
    stands = real > 2
    # Eighty images scatter by some 15 % in each order; the energy falls by two orders of magnitude.
    assert np.abs(np.log(made / real)[stands]).max() < 2 * 0.15
    assert stands.sum() > 2 and real.max() / real.min() > 50


def test_samples_have_no_preferred_direction(generator):
    made = coefficients(generator.sample(600, label="radio-galaxy", rng=5))
    turned = SHAPELETS.orders[:, 1] != 0
    deviation = made[:, turned].mean(axis=0) / (made[:, turned].std(axis=0) / np.sqrt(600))
    # 84 of them.
    assert np.abs(deviation).max() < 4.5


def test_what_is_asked_for_is_made(generator):
    snr = np.repeat([6.0, 12.0, 40.0], 20)
    made = generator.sample(60, conditions=QTable({"label": ["halo"] * 60, "snr": snr, "rms": np.full(60, 0.1) * u.Jy
                                                   / u.beam}), rng=6)
    assert made.unit == u.Jy / u.beam
    y, x = np.indices((64, 64)) - 31.5
    peak = made.data[:, np.hypot(x, y) <= 6].max(axis=1) / 0.1
    assert np.abs(peak / snr - 1).max() < 1e-5
    halo, none = (generator.sample(40, label=label, rng=7) for label in ("halo", "none"))
    model = ShapeletLR().fit(simulated_cutouts(120, rng=8))
    assert model.predict_proba(halo).mean() > 0.6 > 0.2 > model.predict_proba(none).mean()


def test_noise_of_samples_is_that_of_the_training_set(generator, train):
    made, real = generator.sample(80, label="none", rng=8), of(train, "none")
    # What has data: these cutouts are smaller than the grid of the samples.
    corner = [signal_to_noise(model_input(cutouts))[:, 12:24, 12:24] for cutouts in (made, real)]
    assert corner[0].std() == pytest.approx(corner[1].std(), rel=0.1)
    # exp(-1/(2 sigma^2)), the beam's own shape, for a beam of three pixels.
    neighbours = np.mean(corner[0][:, 1:] * corner[0][:, :-1]) / np.mean(corner[0] ** 2)
    assert neighbours == pytest.approx(np.exp(-0.5 / (3 * FWHM_TO_SIGMA) ** 2), abs=0.03)


def test_bright_images_come_back_turned_without_smoothing(train):
    halos, rng = of(train, "halo")[:12], np.random.default_rng(1)
    y, x = np.indices((64, 64)) - 31.5
    ellipses = [np.exp(-((x - dx) / a) ** 2 - ((y - dy) / b) ** 2)
                for a, b, dx, dy in rng.uniform([3, 5, -3, -3], [5, 9, 3, 3], (12, 4))]
    bright = halos.replace(data=100 * np.array(ellipses) + of(train, "none").data[:12])
    model = ShapeletGenerator(smoothing=0.0).fit(bright)
    known, made = coefficients(bright), coefficients(model.sample(30, label="halo", rng=9))
    n, m = SHAPELETS.orders.T
    partner = n * (n + 2) - np.arange(91)
    # The moduli, of the orders up to 4, tell which image it was.
    modulus = [np.hypot(c, np.where(m == 0, 0, c[:, partner]))[:, n <= 4] for c in (known, made)]
    away = np.linalg.norm(modulus[1][:, None] - modulus[0], axis=2) / np.linalg.norm(modulus[0], axis=1)
    assert away.min(axis=1).max() < 0.02
    assert len(set(away.argmin(axis=1))) > 6


def test_a_generator_carries_what_it_has_seen(generator, train, tmp_path):
    generator.save(tmp_path / "shapelet.safetensors")
    loaded = ShapeletGenerator.load(tmp_path / "shapelet.safetensors")
    assert loaded.groups_ == generator.groups_ and len(loaded.groups_) == 80
    assert loaded.sample(2, rng=1).meta["seen_groups"] == list(generator.groups_)
    assert loaded.sample(3, rng=1).data.tobytes() == generator.sample(3, rng=1).data.tobytes()


def test_candidates_are_a_class_of_their_own(train):
    table = train.table.copy()
    table["grade"] = np.where(np.arange(len(table)) % 2, "candidate", "confirmed")
    model = ShapeletGenerator().fit(train.replace(table=table))
    made = model.sample(2, conditions=QTable({"label": ["halo", "halo"], "grade": ["candidate", "confirmed"]}), rng=1)
    assert len(made) == 2
    with pytest.raises(HaloInputError, match="this generator has not seen such images"):
        model.sample(1, label="relic")


def test_cutouts_that_nothing_can_be_learnt_from(train):
    gaps, flat, clipped = (train[:24].replace(data=train.data[:24].copy()) for _ in range(3))
    gaps.data[3, 0, 0] = np.nan
    with pytest.raises(HaloInputError, match="a generator learns from cutouts full of data"):
        ShapeletGenerator().fit(gaps)
    flat.data[3] = 1.0
    with pytest.raises(HaloInputError, match="a generator learns from cutouts that show something"):
        ShapeletGenerator().fit(flat)
    clipped.data[clipped.data < 1.5 * 8e-3] = 0
    with pytest.warns(HalopyWarning, match="most pixels of these cutouts are 0"):
        assert np.isfinite(ShapeletGenerator().fit(clipped).sample(2, label="halo", rng=1).data).all()


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, "much"])
def test_smoothing_is_a_fraction(smoothing, train):
    with pytest.raises(HaloInputError, match="smoothing must be from 0 to 1"):
        ShapeletGenerator(smoothing=smoothing).fit(train[:24])


@pytest.mark.parametrize(("change", "text"), [
    ({"coefficients": None}, "the arrays are not those of this generator"),
    ({"coefficients": np.zeros((240, 90), np.float32)}, "there must be 91 coefficients an image"),
    ({"seen.rms": np.zeros(3, np.float32)}, "and one number of each kind"),
    ({"seen.class": np.full(240, 99, np.int16)}, "classes are numbers from 0 to"),
    ({"unit": np.frombuffer(b"nonsense", np.uint8)}, "this is no unit")])
def test_files_that_are_no_generator(generator, change, text):
    state = {name: array for name, array in (generator._state() | change).items() if array is not None}
    with pytest.raises(HaloInputError, match=text):
        ShapeletGenerator()._set_state(state)
