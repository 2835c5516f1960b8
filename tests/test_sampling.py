"""Samplers, on data for which the expected image is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy.table import QTable

from halopy import simulate
from halopy.errors import HaloInputError
from halopy.generative import diffusion as diffusion_module
from halopy.generative.conditions import CLASSES, N_NUMBERS, conditions_drawn, network_conditions
from halopy.generative.diffusion import Diffusion
from halopy.generative.quality import report
from halopy.generative.quality.reference import gaussian_field
from halopy.generative.sampling import ancestral, ddpm_levels, heun, karras_levels
from halopy.testing import simulated_cutouts

DEVIATION = 0.7
N = (40, 1, 64, 64)
"""160,000 pixels: their deviation scatters by 1 / sqrt(2 n) = 0.2 %."""


def of_noise(deviation=DEVIATION):
    """The expected image of normal pixels with noise: E[x0 | x] = x s² / (s² + σ²)."""
    return lambda x, sigma: x * (deviation**2 / (deviation**2 + sigma**2))


def drawn(deviation, shape=N, seed=1):
    return deviation * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear_schedule():
    """β from 0.0001 to 0.02 in 1000 steps, and the share of the image that is left (Ho+ 2020, section 4)."""
    beta = np.linspace(1e-4, 0.02, 1000)
    return beta, np.cumprod(1 - beta)


# ------------------------------------------------------------------------------------------- noise levels

@pytest.mark.parametrize(("n", "low", "high", "rho"), [
    (18, 0.002, 80.0, 7.0), (18, 0.01, 80.0, 7.0), (5, 0.1, 3.0, 3.0)])
def test_levels_of_karras(n, low, high, rho):
    """Equation 5 of arXiv:2206.00364."""
    levels = karras_levels(n, low=low, high=high, rho=rho).numpy()
    i = np.arange(n)
    assert levels[:-1] == pytest.approx((high**(1 / rho) + i / (n - 1) * (low**(1 / rho) - high**(1 / rho)))**rho)
    assert levels[0] == pytest.approx(high) and levels[-2] == pytest.approx(low) and levels[-1] == 0
    assert (np.diff(levels) < 0).all()


def test_one_level_is_the_highest():
    assert karras_levels(1, low=0.01, high=80.0).tolist() == pytest.approx([80.0, 0.0])
    assert ddpm_levels(1).tolist() == pytest.approx([157.4, 0.0], rel=1e-3)


def test_levels_of_a_variance_that_grows_linearly():
    beta, left = linear_schedule()
    levels = ddpm_levels(1000).numpy()
    # x_t = sqrt(ᾱ) x_0 + sqrt(1 − ᾱ) ε over sqrt(ᾱ) is the image with noise of this deviation.
    assert levels[:-1] == pytest.approx(np.sqrt((1 - left) / left)[::-1])
    assert levels[-1] == 0 and levels[0] == pytest.approx(157, abs=0.5)
    assert levels[-2] == pytest.approx(np.sqrt(beta[0] / (1 - beta[0]))) == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("n", [2, 10, 250])
def test_fewer_levels_are_some_of_the_thousand(n):
    levels = ddpm_levels(n).numpy()
    assert len(levels) == n + 1 and (np.diff(levels) < 0).all()
    assert np.isin(levels[:-1], ddpm_levels(1000).numpy()).all()
    assert levels[[0, -2]] == pytest.approx(ddpm_levels(1000).numpy()[[0, -2]])


# ------------------------------------------------------------------------------------------- Heun's steps

@pytest.mark.parametrize(("n", "tolerance"), [(18, 0.05), (72, 0.006)])
def test_heun_makes_images_of_the_right_deviation(n, tolerance):
    """Few steps make what is a little too wide: by 4 % with 18, and a sixteenth of that with four times as many."""
    made = heun(of_noise(), drawn(80.0), karras_levels(n, low=0.01, high=80.0))
    assert float(made.std()) == pytest.approx(DEVIATION, rel=tolerance)


def test_heun_follows_the_probability_flow():
    """For normal pixels the flow is known: x(σ) is in proportion to sqrt(s² + σ²) (Karras+ 2022, equation 1)."""
    start = drawn(80.0, (1, 1, 8, 8))
    right = start * np.sqrt(DEVIATION**2 / (DEVIATION**2 + 80.0**2))
    made = heun(of_noise(), start, karras_levels(200, low=0.002, high=80.0))
    assert made.numpy() == pytest.approx(right.numpy(), rel=1e-3)


def test_heun_is_of_second_order():
    """Twice the steps, a quarter of the error; a method of first order would halve it."""
    def error(n):
        levels = torch.tensor(np.geomspace(80.0, 0.1, n + 1))
        made = float(heun(of_noise(), torch.ones(1, dtype=torch.float64), levels))
        return abs(made / np.sqrt((DEVIATION**2 + 0.1**2) / (DEVIATION**2 + 80.0**2)) - 1)

    errors = [error(n) for n in (40, 80, 160)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(("n", "calls"), [(1, 1), (2, 3), (18, 35)])
def test_heun_looks_at_every_level_twice_but_the_last(n, calls):
    seen = []

    def denoise(x, sigma):
        seen.append(sigma)
        return x * 0

    heun(denoise, drawn(80.0, (1, 1, 4, 4)), karras_levels(n, low=0.01, high=80.0))
    assert len(seen) == calls and min(seen) > 0


def test_heun_draws_nothing():
    levels, start = karras_levels(6, low=0.01, high=80.0), drawn(80.0, (2, 1, 8, 8))
    before = torch.get_rng_state()
    assert torch.equal(heun(of_noise(), start, levels), heun(of_noise(), start, levels))
    assert torch.equal(torch.get_rng_state(), before)


# -------------------------------------------------------------------------------------- ancestral sampling

def test_ancestral_makes_images_of_the_right_deviation():
    levels = ddpm_levels(1000)
    shape = (10, 1, 64, 64)
    made = ancestral(of_noise(), drawn(float(levels[0]), shape), levels, generator=torch.Generator().manual_seed(2))
    # 40,000 pixels scatter by 0.35 %. The posterior's variance is that of a known image, a little too small.
    assert float(made.std()) == pytest.approx(DEVIATION, rel=0.02)


def test_the_variance_after_every_step():
    """With few steps the posterior's variance is too small by what is unknown of the image; the sum is known."""
    levels = ddpm_levels(1000)
    seen = []

    def denoise(x, sigma):
        seen.append((sigma, float(x.var())))
        return of_noise()(x, sigma)

    ancestral(denoise, drawn(float(levels[0]), (4, 1, 64, 64)), levels, generator=torch.Generator().manual_seed(3))
    sigma, variance = np.transpose(seen)
    assert sigma == pytest.approx(levels[:-1].numpy())
    # 16,384 pixels: 1.1 % of the variance, four times that for the worst of a thousand, and the steps' own 1 %.
    assert variance == pytest.approx(DEVIATION**2 + sigma**2, rel=0.055)


@pytest.mark.parametrize("n", [3, 10, 100])
def test_the_noise_is_added_whatever_the_steps(n):
    """Of one known image every step has exactly its noise: raised in name only, the variance would fall behind."""
    image, levels, seen = drawn(1.0, seed=5), ddpm_levels(n), []

    def denoise(x, sigma):
        seen.append((sigma, float((x - image).std())))
        return image

    start = image + drawn(float(levels[0]))
    made = ancestral(denoise, start, levels, generator=torch.Generator().manual_seed(4))
    assert all(deviation == pytest.approx(sigma, rel=0.01) for sigma, deviation in seen) and len(seen) == n
    assert torch.equal(made, image)


def test_a_step_is_that_of_the_paper():
    """Equations 6 and 7 of arXiv:2006.11239, in the paper's variable sqrt(ᾱ) times ours."""
    beta, left = linear_schedule()
    levels = ddpm_levels(1000)
    t = 400
    now, after = (levels[999 - k:1000 - k] for k in (t, t - 1))
    x, image = drawn(float(now), (2, 1, 8, 8)), drawn(1.0, (2, 1, 8, 8), seed=3)
    made = ancestral(lambda *_: image, x, torch.cat([now, after]), generator=torch.Generator().manual_seed(7))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(7)).double()
    mean = (np.sqrt(left[t - 1]) * beta[t] / (1 - left[t]) * image
            + np.sqrt(1 - beta[t]) * (1 - left[t - 1]) / (1 - left[t]) * np.sqrt(left[t]) * x)
    spread = np.sqrt((1 - left[t - 1]) / (1 - left[t]) * beta[t])
    assert made.numpy() == pytest.approx(((mean + spread * noise) / np.sqrt(left[t - 1])).numpy(), rel=1e-9)


def test_another_generator_makes_other_images():
    levels, start = ddpm_levels(10), drawn(157.0, (2, 1, 8, 8))
    one, same, other = (ancestral(of_noise(), start, levels, generator=torch.Generator().manual_seed(seed))
                        for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


# ------------------------------------------------------------------------------ what is told, and drawn

def test_what_a_network_is_told():
    """One number a class, whatever else is in the set; logarithms over 10 and over 200 MHz; what is not known is 0."""
    told = network_conditions(["none", "halo"], np.array([20.0, np.nan]), np.array([np.nan, 100.0]))
    assert told.shape == (2, N_NUMBERS) and told.dtype == np.float32
    assert told[:, :len(CLASSES)].argmax(axis=1).tolist() == [CLASSES.index("none"), CLASSES.index("halo")]
    assert told[:, :len(CLASSES)].sum(axis=1).tolist() == [1, 1]
    assert told[:, len(CLASSES):].tolist() == pytest.approx(np.array([[np.log(2), 1, 0, 0], [0, 0, -np.log(2), 1]]))
    assert network_conditions(["halo"], np.zeros(1), np.zeros(1))[0, len(CLASSES):].tolist() == [0, 0, 0, 0]


def test_what_is_not_asked_for_is_drawn_from_the_class():
    seen = QTable({"class": ["halo", "none", "halo", "halo"], "frequency": [100.0, 200.0, 200.0, np.nan]})
    free = np.full(300, np.nan)
    rows = conditions_drawn(["halo"] * 300, free, free, seen, np.random.default_rng(1))
    # Each of three rows 100 times in 300, ± 8.
    assert np.bincount(rows, minlength=4).tolist() == pytest.approx([100, 0, 100, 100], abs=30)
    rows = conditions_drawn(["halo"] * 300, free, np.full(300, 190.0), seen, np.random.default_rng(1))
    assert set(rows.tolist()) == {2}


# ------------------------------------------------------------------------------------ in the model

@pytest.fixture(scope="module")
def tiny():
    settings = {"size": 16, "width": 8, "batch_size": 8, "n_images": 8, "steps": 3}
    return Diffusion(**settings).fit(simulated_cutouts(9), rng=1, progress=False)


@pytest.mark.parametrize(("settings", "calls"), [
    ({"steps": 5}, 9), ({"steps": None}, 35), ({"steps": 5, "guidance": 0.5}, 18),
    ({"steps": 5, "sampler": "ancestral"}, 5), ({"steps": 5, "sampler": "ancestral", "guidance": 0.1}, 10)])
def test_settings_of_sampling_can_be_changed(tiny, monkeypatch, settings, calls):
    count, plain = [], diffusion_module.denoised
    monkeypatch.setattr(diffusion_module, "denoised", lambda *a: count.append(1) or plain(*a))
    before = tiny.params
    for name, value in settings.items():
        assert name in tiny.sampling_settings
        setattr(tiny, name, value)
    made = tiny.sample(2, rng=1)
    for name, value in before.items():
        setattr(tiny, name, value)
    assert len(count) == calls and np.isfinite(made.data).all()
    tiny.steps = 0
    with pytest.raises(HaloInputError, match="steps must be a whole number of 1 or more"):
        tiny.sample(1, rng=1)
    tiny.steps = 3


def test_ancestral_sampling_has_a_thousand_steps(tiny, monkeypatch):
    heard = []
    monkeypatch.setattr(diffusion_module, "denoised", lambda network, x, sigma, told: heard.append(sigma[0]) or 0 * x)
    tiny.sampler, tiny.steps = "ancestral", None
    tiny.sample(1, rng=1)
    tiny.sampler, tiny.steps = "heun", 3
    assert len(heard) == 1000
    assert float(heard[0]) == pytest.approx(157, abs=0.5) and float(heard[-1]) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.slow
def test_it_beats_a_gaussian_random_field():
    """Trained for two minutes, its kernel distance is less than half of that of fields with the same power."""
    def sky(n, rng):
        return simulate.cutouts(n, mix={"halo": 1, "none": 1}, artefacts=None, rng=rng)

    def distance(made):
        table = report(fresh, made, classifier=None, n=20, rng=1)
        return table[table["metric"] == "kid"][0]

    train, fresh = sky(600, 1), sky(400, 2)
    model = Diffusion(size=32, width=16, n_images=48_000, learning_rate=2e-3, average=0.99, patience=40)
    made = model.fit(train, rng=1, progress=False).sample(400, conditions=fresh.table["label", "frequency"], rng=1)
    own, field = distance(made), distance(gaussian_field(train, 400, rng=1))
    assert own["high"] < 0.5 * field["low"]
    assert own["value"] < 0.5 * field["value"]
