"""The adversarial generators: what the critic measures, what the painter makes of it, and who notices a collapse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy.table import QTable
from torch import nn

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, HalopyWarning, NotFittedError
from halopy.generative import gan
from halopy.generative.conditions import CLASSES, N_NUMBERS
from halopy.generative.gan import SpectralGAN, WassersteinGAN, gradient_penalty
from halopy.generative.gan_networks import Critic, Painter
from halopy.generative.run import Run
from halopy.testing import simulated_cutouts

TINY = {"size": 16, "pixels_per_beam": None, "width": 8, "batch_size": 8, "n_images": 48, "latent": 8, "shift": 1}
KINDS = [WassersteinGAN, SpectralGAN]


def spots(n=40):
    """Every second cutout has a spot of some brightness in the middle of white noise."""
    rng = np.random.default_rng(0)
    y, x = np.indices((16, 16)) - 7.5
    bright = np.arange(n) % 2 == 1
    data = rng.normal(size=(n, 16, 16))
    data[bright] += rng.uniform(10, 40, bright.sum())[:, None, None] * np.exp(-(x**2 + y**2) / 8)
    return CutoutSet(data, QTable({"label": np.where(bright, "halo", "none"), "rms": np.ones(n),
                                   "group": (np.arange(n) // 2).astype(str)}))


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


@pytest.fixture
def no_monitor(monkeypatch):
    monkeypatch.setattr(gan, "COLLAPSED", 0.0)


@pytest.fixture(scope="module")
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gan, "COLLAPSED", 0.0)
        return {kind: kind(**TINY).fit(spots(), rng=1, progress=False) for kind in KINDS}


def told(n=1, label="halo"):
    conditions = torch.zeros(n, N_NUMBERS)
    conditions[:, CLASSES.index(label)] = 1
    return conditions


def numbers(tensor):
    return tensor.detach().double().numpy()


# ------------------------------------------------------------------------------------ what they play for

class Linear(nn.Module):
    """A critic whose slope is the same everywhere."""

    def __init__(self, slope):
        super().__init__()
        self.slope = nn.Parameter(torch.as_tensor(slope))

    def forward(self, images, conditions):
        return (self.slope * images).sum(dim=(1, 2, 3))


@pytest.mark.parametrize("norm", [0.0, 0.2, 1.0, 3.0])
def test_the_penalty_of_a_plane_is_known(norm):
    """(‖a‖ − 1)² for a critic a · x, whatever the images (Gulrajani+ 2017, equation 3)."""
    slope = torch.randn(1, 6, 6)
    critic = Linear(slope / slope.norm() * norm)
    penalty = gradient_penalty(critic, torch.randn(5, 1, 6, 6), torch.randn(5, 1, 6, 6), None)
    assert float(penalty.detach()) == pytest.approx((norm - 1) ** 2, abs=1e-5)
    # Its own gradient is 2 (‖a‖ − 1) a / ‖a‖; at 0, where the root has no slope, it must be finite.
    gradient, = torch.autograd.grad(penalty, critic.slope)
    assert numbers(gradient) == pytest.approx(numbers(2 * (norm - 1) * critic.slope / max(norm, 1e-9)), abs=1e-5)


def test_the_penalty_is_taken_between_real_and_made_images():
    """Each image has a place of its own on the line from a real to a made one."""
    seen, real, step = [], torch.randn(2000, 1, 2, 2), torch.randn(2000, 1, 2, 2)

    def critic(images, conditions):
        seen.append(images.detach())
        return images.square().sum(dim=(1, 2, 3)) / 2

    penalty = gradient_penalty(critic, real, real + step, None)
    share = ((seen[0] - real) * step).sum(dim=(1, 2, 3)) / step.square().sum(dim=(1, 2, 3))
    assert numbers(seen[0]) == pytest.approx(numbers(real + share[:, None, None, None] * step), abs=1e-4)
    # Even between 0 and 1: mean 1/2, deviation sqrt(1/12); 2000 of them.
    assert share.min() > -1e-4 and share.max() < 1 + 1e-4
    assert float(share.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(share.std()) == pytest.approx(12**-0.5, abs=0.02)
    # The slope of x² / 2 is x.
    expected = ((seen[0].square().sum(dim=(1, 2, 3)).sqrt() - 1) ** 2).mean()
    assert float(penalty.detach()) == pytest.approx(float(expected), rel=1e-4)


def test_the_losses_of_the_critic():
    real, made = torch.full((4, 1, 2, 2), 0.5), torch.full((4, 1, 2, 2), -0.25)
    critic = Linear(torch.ones(1, 2, 2))  # says 2 of real images and −1 of made ones; its slope has the norm 2
    loss = WassersteinGAN(penalty=7.0)._critic_loss(critic, real, made, None)
    assert float(loss.detach()) == pytest.approx(-1 - 2 + 7 * (2 - 1) ** 2, abs=1e-4)
    # The hinge is at ±1: what is beyond, on the right side, is no loss (Lim & Ye 2017).
    for pair, hinge in (((real, made), 0), ((made, real), 2 + 3), ((0 * real, 0 * made), 2)):
        assert float(SpectralGAN()._critic_loss(critic, *pair, None).detach()) == pytest.approx(hinge)


@pytest.mark.parametrize(("kind", "changes", "steps"), [(WassersteinGAN, {}, 5), (WassersteinGAN, {"n_critic": 2}, 2),
                                                        (SpectralGAN, {}, 1)])
@pytest.mark.usefixtures("no_monitor")
def test_steps_of_the_critic(monkeypatch, kind, changes, steps):
    names, step = [], Run.step
    monkeypatch.setattr(Run, "step", lambda self, name, loss: names.append(name) or step(self, name, loss))
    model = kind(**TINY | changes | {"n_images": 24}).fit(spots(), rng=1, progress=False)
    assert {optimiser.decay for optimiser in model._run().optimisers.values()} == {(0.0, 0.9)}
    assert names == (["critic"] * steps + ["painter"]) * 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_critic_learns_to_tell_them_apart(kind):
    """Real images have a spot, made ones do not; the scores of the two come to lie apart."""
    model = kind(**TINY | {"learning_rate": 2e-3})
    run = model._run()
    real = torch.as_tensor(model._inputs(spots(80))[1::2])[:, None]
    critic, losses = run.networks["critic"].train(), []
    for _ in range(25):
        made = torch.randn(8, 1, 16, 16)
        losses.append(run.step("critic", model._critic_loss(critic, real[torch.randint(20, (8,))], made, told(8))))
    assert np.mean(losses[-5:]) < losses[0] - 0.2
    critic.eval()
    scores = [numbers(critic(images, told(len(images)))) for images in (real[20:], torch.randn(20, 1, 16, 16))]
    assert (scores[0][:, None] > scores[1]).mean() > 0.95


# ------------------------------------------------------------------------------------------- the networks

@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("spectral", [False, True])
def test_networks_of_any_size(size, spectral):
    """A norm over fixed planes, LayerNorm([32, 32]), would freeze the size."""
    painter, critic = Painter(size, 8, 5, N_NUMBERS, 2.0), Critic(size, 8, N_NUMBERS, spectral=spectral)
    images = painter(painter.draw(3), told(3))
    assert images.shape == (3, 1, size, size)
    assert critic(images, told(3)).shape == (3,) and critic.features(images).shape == (3, 32)


@pytest.mark.parametrize("spectral", [False, True])
def test_the_critic_looks_at_one_image_at_a_time(spectral):
    """The score of an image is its own; a batch that is indexed with its labels would mix them up."""
    critic = Critic(16, 8, N_NUMBERS, spectral=spectral).eval()
    images, conditions = torch.randn(6, 1, 16, 16), torch.cat([told(3), told(3, "none")])
    together = numbers(critic(images, conditions))
    alone = np.concatenate([numbers(critic(images[k:k + 1], conditions[k:k + 1])) for k in range(6)])
    assert together == pytest.approx(alone, abs=1e-5)
    other = images.clone()
    other[1:] *= 5
    assert numbers(critic(other, conditions))[0] == pytest.approx(together[0], abs=1e-5)
    # The label changes what is asked of the image, and not which image is looked at.
    assert np.abs(numbers(critic(images, conditions.flip(0))) - together).min() > 1e-6
    same = images[:1].expand(6, -1, -1, -1)
    assert len(np.unique(numbers(critic(same, conditions)).round(5))) == 2


@pytest.mark.parametrize("spectral", [False, True])
def test_the_critic_takes_both_sides(spectral):
    """Its score is not cut off at 0, as by a ReLU on the last layer; nor are the painter's pixels."""
    critic, painter = Critic(16, 8, N_NUMBERS, spectral=spectral), Painter(16, 8, 8, N_NUMBERS, 0.0)
    scores = numbers(critic(5 * torch.randn(300, 1, 16, 16), torch.randn(300, N_NUMBERS)))
    assert scores.min() < 0 < scores.max()
    pixels = numbers(painter(painter.draw(100), torch.randn(100, N_NUMBERS)))
    assert pixels.min() < 0 < pixels.max()


def test_layers_of_the_spectral_critic_have_a_gain_of_one():
    critic = Critic(16, 8, N_NUMBERS, spectral=True).train()
    for _ in range(100):
        critic(torch.randn(2, 1, 16, 16), told(2))
    gains = [float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) for layer in critic.modules()
             if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(gains) == 7 and gains == pytest.approx([1] * 7, abs=0.02)


def test_nothing_that_is_made_is_narrower_than_the_smoothing():
    """A single pixel becomes a Gaussian of that width, and brightness is kept."""
    painter = Painter(32, 8, 8, N_NUMBERS, 4.0)
    spot = torch.zeros(1, 1, 32, 32)
    spot[0, 0, 16, 16] = 1
    painter.last.forward = lambda x: spot
    image = numbers(painter(painter.draw(1), told()))[0, 0]
    assert image.sum() == pytest.approx(1, abs=1e-4)
    # Half as bright half a width away.
    assert image[16, 18] / image[16, 16] == pytest.approx(0.5, abs=0.01)
    assert image[14, 16] == pytest.approx(image[16, 18]) and image[16, 14] == pytest.approx(image[16, 18])


def test_the_painter_paints_one_image_at_a_time():
    painter = Painter(16, 8, 8, N_NUMBERS, 0.0)
    random, conditions = painter.draw(4), torch.cat([told(2), told(2, "none")])
    together = numbers(painter(random, conditions))
    alone = [numbers(painter([part[k:k + 1] for part in random], conditions[k:k + 1]))[0] for k in range(4)]
    assert together == pytest.approx(np.array(alone), abs=1e-5)


def test_every_random_number_counts():
    """The latent ones, and the noise of each of the four levels."""
    painter = Painter(32, 8, 8, N_NUMBERS, 0.0)
    random = painter.draw(1)
    assert [tuple(part.shape) for part in random] == [(1, 8), *((1, 1, n, n) for n in (2, 4, 8, 16))]
    plain = numbers(painter(random, told()))
    for k in range(5):
        others = [part + (i == k) for i, part in enumerate(random)]
        assert np.abs(numbers(painter(others, told())) - plain).max() > 1e-6


def test_both_sides_are_shifted_at_random():
    """By up to four pixels each way, and what was outside is 0."""
    model = WassersteinGAN(**TINY | {"shift": 4})
    images = torch.zeros(400, 1, 16, 16)
    images[:, 0, 7, 8] = 1
    for moved in model._shifted(images, images.clone()):
        assert (moved.sum(dim=(1, 2, 3)) == 1).all()
        places = [divmod(int(k), 16) for k in moved.flatten(1).argmax(dim=1)]
        assert {y - 7 for y, _ in places} == {x - 8 for _, x in places} == set(range(-4, 5))
    assert WassersteinGAN(**TINY | {"shift": 0})._shifted(images)[0] is images


@pytest.mark.parametrize(("kind", "changes"), [
    (WassersteinGAN, {"n_images": 300, "learning_rate": 4e-3, "average": 0.8, "n_critic": 3}),
    (SpectralGAN, {"n_images": 1200, "batch_size": 16, "learning_rate": 2e-3, "average": 0.9})])
@pytest.mark.usefixtures("no_monitor")
def test_brightness_follows_the_label(kind, changes):
    model = kind(**TINY | changes).fit(spots(), rng=1, progress=False)
    halo, none = (model.sample(32, label=label, rng=3).data[:, 7:9, 7:9].mean() for label in ("halo", "none"))
    assert halo > 5 and halo > none + 5


# ------------------------------------------------------------------------------------------- diversity

def scripted(monkeypatch, values):
    """A training whose diversity is known, block by block; returns the averaged weights of each."""
    values, kept = iter(values), []

    def measured(self, run, *others):
        kept.append({name: tensor.clone() for name, tensor in run.average.items()})
        return next(values), "halo"

    monkeypatch.setattr(SpectralGAN, "_diversity", measured)
    monkeypatch.setattr(gan, "EARLY", 0)
    return kept


def fit(**changes):
    """A training of eight blocks."""
    return SpectralGAN(**TINY | {"n_images": 64} | changes).fit(spots(), rng=1, progress=False)


def has(model, weights):
    return all(torch.equal(tensor, weights[name].half().float())
               for name, tensor in model._networks["painter"].state_dict().items())


def test_a_painter_that_varies_is_left_alone(monkeypatch):
    kept = scripted(monkeypatch, [0.01, 0.3, 0.5, 0.9, 0.25, 0.9, 0.9, 1.5])
    model = fit()
    assert model.history["images"].tolist() == [8, 16, 24, 32, 40, 48, 56, 64] and has(model, kept[-1])
    assert model.history["diversity"].tolist() == [0.01, 0.3, 0.5, 0.9, 0.25, 0.9, 0.9, 1.5]


def test_after_a_collapse_the_weights_before_are_kept(monkeypatch):
    kept = scripted(monkeypatch, [0.01, 0.3, 0.5, 0.9, 0.1, 0.9, 0.9, 0.9])
    with pytest.warns(HalopyWarning, match="has collapsed after 40 images: what it makes of 'halo' differs .* by 0.1 .*"
                                           "must by 0.2; .* the weights of 32 images are kept"):
        model = fit()
    assert model.history["images"].tolist() == [8, 16, 24, 32, 40] and has(model, kept[3])
    assert np.isfinite(model.sample(2, rng=1).data).all()


def test_a_painter_that_never_varies_is_stopped_after_a_quarter(monkeypatch):
    scripted(monkeypatch, [0.01] * 8)
    with pytest.warns(HalopyWarning, match="collapsed after 16 images.*training has stopped, it never varied more"):
        model = fit()
    assert model.history["images"].tolist() == [8, 16]
    assert np.isfinite(model.sample(2, rng=1).data).all()


def test_a_dip_at_the_start_does_not_cost_the_weights_before(monkeypatch):
    """It has varied a little, and may do so again; until then nothing better is thrown away."""
    kept = scripted(monkeypatch, [0.1, 0.3, *[0.1] * 6])
    with pytest.warns(HalopyWarning, match="after 64 images.* the weights of 16 images are kept"):
        model = fit(n_images=256)
    assert len(model.history) == 8 and has(model, kept[1])


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_a_class_is_noticed(monkeypatch, kind):
    """What was seen in a trial: perfect images, each class one and the same."""
    forward = Painter.forward

    def one(self, random, conditions):
        return forward(self, [part[:1].expand_as(part) * 0 for part in random], (conditions > 0.5).float())

    monkeypatch.setattr(Painter, "forward", one)
    monkeypatch.setattr(gan, "EARLY", 0)
    with pytest.warns(HalopyWarning, match="has collapsed after 16 images.*the training has stopped"):
        model = kind(**TINY | {"n_images": 64}).fit(spots(), rng=1, progress=False)
    assert len(model.history) == 2 and max(model.history["diversity"]) < 1e-3


def test_a_collapsed_training_is_not_continued(monkeypatch, tmp_path):
    settings = TINY | {"n_images": 64}
    scripted(monkeypatch, [0.9, 0.1])
    with pytest.warns(HalopyWarning, match="collapsed after 16 images"):
        SpectralGAN(**settings).fit(spots(), rng=1, progress=False, checkpoint=tmp_path / "run.safetensors")
    again = SpectralGAN(**settings).fit(spots(), rng=1, progress=False, checkpoint=tmp_path / "run.safetensors")
    assert again.history["images"].tolist() == [8, 16]


def test_diversity_is_that_of_images_not_of_their_noise():
    images = torch.randn(200, 1, 16, 16)
    # Averaged over 8 x 8 pixels noise is an eighth; what is the same in all images counts for nothing.
    assert gan.diversity(images) == pytest.approx(1 / 8, rel=0.1)
    assert gan.diversity(images + 5 * torch.randn(1, 1, 16, 16)) == pytest.approx(1 / 8, rel=0.1)
    assert gan.diversity(images + torch.randn(200, 1, 1, 1)) == pytest.approx((1 + 1 / 64) ** 0.5, rel=0.1)
    assert gan.diversity(torch.ones(5, 1, 16, 16)) == 0


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_diversity_is_measured_against_real_images_of_the_class(monkeypatch, factor, expected):
    model = SpectralGAN(**TINY)
    run, conditions = model._run(), torch.cat([told(40), told(40, "none")])
    real = torch.randn(80, 1, 1, 1) * torch.ones(80, 1, 16, 16)

    def paint(self, networks, conditions, generator):
        # The class without a halo varies as real images do, the other one less.
        rows = slice(0, len(conditions)) if conditions[0, CLASSES.index("halo")] else slice(40, 40 + len(conditions))
        return real[rows] * (factor if rows.start == 0 else 1.0)

    monkeypatch.setattr(SpectralGAN, "_paint", paint)
    least, name = model._diversity(run, real, conditions, torch.arange(80))
    assert least == pytest.approx(expected, abs=1e-5) and (name == "halo" or factor == 1)


# ------------------------------------------------------------------------------------ the critic's features

@pytest.mark.parametrize("kind", KINDS)
def test_features_of_the_critic(tiny, kind):
    cutouts = spots(35)
    features = tiny[kind].critic_features(cutouts)
    assert features.shape == (35, 32) and features.dtype == np.float64 and np.isfinite(features).all()
    assert np.ptp(features, axis=0).max() > 0
    alone = np.concatenate([tiny[kind].critic_features(cutouts[k]) for k in range(35)])
    assert features == pytest.approx(alone, abs=1e-5)
    for k in range(4):
        turned = cutouts.replace(data=np.rot90(cutouts.data, k, (1, 2))[:, :, ::-1])
        assert tiny[kind].critic_features(turned) == pytest.approx(features, abs=1e-5)
    assert tiny[kind].critic_features(cutouts[:0]).shape == (0, 32)
    cutouts.data[0], cutouts.data[2] = 3.0, np.nan
    assert np.isnan(tiny[kind].critic_features(cutouts)[:4]).all(axis=1).tolist() == [True, False, True, False]


def test_features_of_another_survey():
    """The critic looks at pixels a third of a beam wide, whatever those of the cutouts are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gan, "COLLAPSED", 0.0)
        model = SpectralGAN(**TINY | {"pixels_per_beam": 3.0}).fit(simulated_cutouts(12), rng=1, progress=False)
    cutouts = simulated_cutouts(5)
    before = model.critic_features(cutouts)
    for name in ("beam_major", "beam_minor", "pixel_scale"):
        cutouts.table[name] = cutouts.table[name] / 4
    assert model.critic_features(cutouts) == pytest.approx(before, abs=1e-5)


def test_no_features_before_the_training():
    with pytest.raises(NotFittedError, match="must be trained"):
        WassersteinGAN(**TINY).critic_features(spots())


@pytest.mark.parametrize(("kind", "changes", "text"), [
    (WassersteinGAN, {"latent": 0}, "latent must be a whole number of 1 or more"),
    (SpectralGAN, {"latent": 2.5}, "latent must be a whole number"),
    (SpectralGAN, {"shift": -1}, "shift must be a whole number of 0 or more"),
    (WassersteinGAN, {"n_critic": 0}, "n_critic must be a whole number of 1 or more"),
    (WassersteinGAN, {"penalty": np.inf}, "penalty must be 0 or more"),
    (WassersteinGAN, {"penalty": -1.0}, "penalty must be 0 or more"),
])
def test_settings_that_cannot_be(kind, changes, text):
    with pytest.raises(HaloInputError, match=text):
        kind(**TINY | changes).fit(spots(), rng=1, progress=False)
