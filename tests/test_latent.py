"""Diffusion in the codes of an autoencoder: what comes back, the two parts of the training, what is refused."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from halopy.errors import HaloInputError, NotFittedError, UnknownModelError
from halopy.generative.latent import LatentDiffusion, _Autoencoder
from halopy.registry import generators
from halopy.testing import simulated_cutouts

SMALL = {"size": 16, "width": 8, "n_images": 160, "batch_size": 8, "steps": 3, "validation_fraction": 0.3}


@pytest.fixture(scope="module")
def cutouts():
    return simulated_cutouts(24)


@pytest.fixture(scope="module")
def trained(cutouts):
    return LatentDiffusion(**SMALL, first_part=0.5).fit(cutouts, rng=1)


def test_first_the_autoencoder_learns_then_the_diffusion(trained):
    history = trained.history
    first = np.asarray(history["images"]) <= 80
    assert (history["autoencoder_loss"][first] > 0).all() and (history["autoencoder_loss"][~first] == 0).all()
    assert (history["train_loss"][first] == 0).all() and (history["train_loss"][~first] > 0).all()
    assert (history["validation_loss"][~first] > 0).all()


def test_the_autoencoder_stays_as_it_is_in_the_second_part(cutouts):
    short, long = (LatentDiffusion(**SMALL, first_part=0.5).fit(cutouts, rng=1, max_images=n) for n in (88, 160))
    states = [model._networks["autoencoder"].state_dict() for model in (short, long)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_autoencoder_learns_to_give_images_back():
    torch.manual_seed(1)
    network = _Autoencoder(4, 8)
    images = torch.nn.functional.avg_pool2d(torch.randn(16, 1, 36, 36), 5, stride=1, padding=0)
    images = images / images.std()
    from halopy.learning.optimiser import AdamW

    optimiser, losses = AdamW(network, 3e-3), []
    for _ in range(120):
        loss = network.loss(images)
        losses.append(float(loss.detach()))
        optimiser.step(loss)
    # One number for each image's mean would leave a loss of about 1.
    assert losses[-1] < 0.5 * losses[0]
    codes = network.encode(images).detach()
    assert codes.shape == (16, 4, 8, 8)
    # Codes are divided by a running mean of their deviation, so that diffusion finds data of deviation 1.
    assert 0.5 < float(codes.std()) < 2


def test_codes_and_images(trained, cutouts):
    codes = trained.encoded(cutouts)
    assert codes.shape == (24, 4, 4, 4) and np.isfinite(codes).all()
    images = trained.decoded(codes)
    assert images.shape == trained.compressed(cutouts).shape == (24, 16, 16)
    assert trained.encoded(cutouts[:0]).shape == (0, 4, 4, 4) and trained.decoded(codes[:0]).shape == (0, 16, 16)
    assert trained.score(codes[:2], 1.0).shape == (2, 4, 4, 4)
    # At very high noise nothing is known but the noise.
    noisy = 1e3 * np.random.default_rng(1).normal(size=(2, 4, 4, 4))
    assert np.allclose(trained.score(noisy, 1e3) * 1e6, -noisy, rtol=0.05, atol=20)


@pytest.mark.parametrize("at", [40, 120])
def test_a_killed_run_goes_on_to_the_same_bytes(cutouts, tmp_path, at):
    whole = LatentDiffusion(**SMALL, first_part=0.5).fit(cutouts, rng=1)
    path = tmp_path / "run.safetensors"
    # What ends before there is anything to sample from says so, and its state is kept none the less.
    early = pytest.raises(HaloInputError, match="ended before the diffusion model learnt.*found '40 images")
    with early if at < 80 else nullcontext():
        LatentDiffusion(**SMALL, first_part=0.5).fit(cutouts, rng=1, max_images=at, checkpoint=path)
    again = LatentDiffusion(**SMALL, first_part=0.5).fit(cutouts, rng=1, checkpoint=path)
    assert again.weights_id == whole.weights_id


@pytest.mark.parametrize(("settings", "text"), [
    ({"channels": 1}, "channels must be a whole number of 2 or more .found 1"),
    ({"channels": 4.0}, "channels must be a whole number"), ({"first_part": 0}, "first_part must be between 0 and 1"),
    ({"first_part": 1}, "first_part must be between 0 and 1"),
])
def test_settings_that_cannot_be(cutouts, settings, text):
    with pytest.raises(HaloInputError, match=text):
        LatentDiffusion(**(SMALL | settings)).fit(cutouts, rng=1)


def test_what_is_no_code(trained):
    with pytest.raises(HaloInputError, match=r"codes are finite and have the shape \(n, 4, 4, 4\)"):
        trained.decoded(np.zeros((2, 16, 16)))
    with pytest.raises(HaloInputError, match="codes are finite"):
        trained.decoded(np.full((1, 4, 4, 4), np.nan))
    with pytest.raises(HaloInputError, match=r"score takes finite images of shape \(n, 4, 4, 4\)"):
        trained.score(np.zeros((2, 16, 16)), 1.0)
    with pytest.raises(NotFittedError, match="LatentDiffusion must be trained"):
        LatentDiffusion().decoded(np.zeros((1, 4, 16, 16)))


def test_no_weights_ship():
    with pytest.raises(UnknownModelError, match="'latent-diffusion' .* ships no weights"):
        generators.pretrained("latent-diffusion")
    assert not generators.ready("latent-diffusion").fitted_
