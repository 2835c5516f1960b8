"""The diffusion model: its loss, its score, what its samples follow, what it is held to in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.table import QTable
from simulated import beam_noise
from torch import nn

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, NotFittedError
from halopy.generative import diffusion as diffusion_module
from halopy.generative.conditions import CLASSES, N_NUMBERS
from halopy.generative.diffusion import Diffusion, denoised, denoising_loss
from halopy.generative.run import Run
from halopy.generative.unet import UNet
from halopy.learning.optimiser import AdamW
from halopy.model import group_hashes

TINY = {"size": 16, "pixels_per_beam": None, "width": 8, "batch_size": 8, "n_images": 48, "steps": 3}


def spots(n=40, *, rng=0, contrast=20.0):
    """Every second cutout has a spot in the middle of white noise; two cutouts a group."""
    rng = np.random.default_rng(rng)
    y, x = np.indices((16, 16)) - 7.5
    bright = np.arange(n) % 2 == 1
    data = rng.normal(size=(n, 16, 16))
    data[bright] += (contrast * rng.uniform(0.5, 2, bright.sum()))[:, None, None] * np.exp(-(x**2 + y**2) / 8)
    return CutoutSet(data, QTable({"label": np.where(bright, "halo", "none"), "rms": np.ones(n),
                                   "group": (np.arange(n) // 2).astype(str)}))


def fitted(cutouts=None, *, rng=1, max_images=None, **changes):
    return Diffusion(**TINY | changes).fit(spots() if cutouts is None else cutouts, rng=rng, progress=False,
                                           max_images=max_images)


def centres(made):
    """The mean S/N of the four pixels in the middle of each image."""
    return made.data[:, 7:9, 7:9].mean(axis=(1, 2))


@pytest.fixture(scope="module")
def trained():
    """Trained for as long as it takes to tell bright from faint, some seconds."""
    return fitted(n_images=2400, batch_size=16, learning_rate=4e-3, average=0.95, validation_fraction=0, steps=8)


@pytest.fixture(scope="module")
def tiny():
    return fitted()


@pytest.fixture
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


# -------------------------------------------------------------------------------- network and loss

def network(size=16, channels=1, **changes):
    return UNet(**{"channels": channels, "size": size, "width": 8, "n_conditions": N_NUMBERS, "dropout": 0.1} | changes)


def stirred(net):
    """A network that does not answer with zeros any more."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return net.eval()


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(("size", "fold", "channels"), [(16, 2, 1), (32, 2, 1), (48, 2, 1), (16, 1, 4)])
def test_images_of_any_size(size, fold, channels):
    """No norm is made for one grid: what a network for 16 pixels has, one for 48 has in the same shape."""
    made = stirred(network(size, channels, fold=fold))(torch.randn(3, channels, size, size), torch.zeros(3),
                                                       torch.zeros(3, N_NUMBERS))
    assert made.shape == (3, channels, size, size)
    first, own = ({name: p.shape for name, p in network(n, channels, fold=fold).named_parameters()} for n in (16, size))
    assert all(first[name] == shape for name, shape in own.items())


@pytest.mark.usefixtures("seeded")
def test_an_image_does_not_look_at_the_others():
    net, images = stirred(network()), torch.randn(5, 1, 16, 16)
    level, told = torch.randn(5), torch.randn(5, N_NUMBERS)
    together = net(images, level, told)
    alone = torch.cat([net(images[i:i + 1], level[i:i + 1], told[i:i + 1]) for i in range(5)])
    assert together.detach().numpy() == pytest.approx(alone.detach().numpy(), abs=1e-5)
    turned = net(images.flip(0), level.flip(0), told.flip(0)).flip(0)
    assert together.detach().numpy() == pytest.approx(turned.detach().numpy(), abs=1e-5)


@pytest.mark.usefixtures("seeded")
def test_the_network_listens():
    net, images = stirred(network()), torch.randn(1, 1, 16, 16)
    plain = net(images, torch.zeros(1), torch.zeros(1, N_NUMBERS))
    assert (net(images, torch.ones(1), torch.zeros(1, N_NUMBERS)) - plain).abs().max() > 1e-4
    for k in range(N_NUMBERS):
        told = torch.zeros(1, N_NUMBERS)
        told[0, k] = 1
        assert (net(images, torch.zeros(1), told) - plain).abs().max() > 1e-4


@pytest.mark.usefixtures("seeded")
def test_without_noise_there_is_nothing_to_take_off():
    net, images = stirred(network()), torch.randn(4, 1, 16, 16)
    for sigma in (1e-3, 1e-5):
        made = denoised(net, images, torch.full((4,), sigma), torch.zeros(4, N_NUMBERS))
        assert made.detach().numpy() == pytest.approx(images.numpy(), abs=20 * sigma)


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("sigma", [0.02, 0.3, 1.0, 7.0, 50.0])
def test_the_loss_is_one_at_the_start(sigma):
    """At every level alike: a new network answers with zeros, and the image is that expected of normal pixels."""
    images, noise = torch.randn(2, 300, 1, 16, 16)
    loss = denoising_loss(network(), images, torch.full((300,), sigma), noise, torch.zeros(300, N_NUMBERS))
    # 76,800 pixels whose squares scatter by sqrt(2): 0.5 %.
    assert float(loss.detach()) == pytest.approx(1, abs=0.02)


@pytest.mark.usefixtures("seeded")
def test_the_preconditioning_of_the_paper():
    """Table 1 of arXiv:2206.00364 for data of deviation 1, with a network that only adds one."""
    x, sigma = torch.randn(3, 1, 4, 4, dtype=torch.float64), torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    heard = []

    def net(images, level, told):
        heard.append((images, level))
        return images + 1

    made = denoised(net, x, sigma, None)
    s = sigma[:, None, None, None]
    scaled = x / (s**2 + 1) ** 0.5
    assert torch.allclose(heard[0][0], scaled) and torch.allclose(heard[0][1], sigma.log() / 4)
    assert torch.allclose(made, x / (s**2 + 1) + s / (s**2 + 1) ** 0.5 * (scaled + 1))


def test_the_loss_falls():
    """Below 1, the loss of what knows no more than the deviation of the pixels, where pixels go together."""
    data = beam_noise((16, 16), np.random.default_rng(1), n=64)
    cutouts = CutoutSet(data, QTable({"label": ["none"] * 64, "rms": np.ones(64), "group": np.arange(64).astype(str)}))
    history = fitted(cutouts, n_images=1600, batch_size=16, learning_rate=5e-3, average=0.9).history
    assert history["train_loss"][:3].mean() == pytest.approx(1, abs=0.15)
    assert history["train_loss"][-10:].mean() < 0.8
    assert history["validation_loss"][-1] < 0.8


# ------------------------------------------------------------------------------- what samples follow

def test_brightness_follows_the_label(trained):
    halo, none = (trained.sample(32, label=label, rng=3) for label in ("halo", "none"))
    assert centres(halo).mean() > 8 and abs(centres(none).mean()) < 2
    # The bright ones are bright in the middle, not everywhere.
    assert abs(halo.data[:, :4, :4].mean()) < 2


def test_brightness_follows_the_snr(trained):
    means = [centres(trained.sample(32, conditions=QTable({"label": ["halo"] * 32, "snr": np.full(32, snr)}),
                                    rng=3)).mean() for snr in (8.0, 20.0, 60.0)]
    assert means[0] < means[1] < means[2]


def test_images_of_one_condition_differ(trained):
    made = trained.sample(16, conditions=QTable({"label": ["halo"] * 16, "snr": np.full(16, 20.0)}), rng=3)
    assert made.data.std(axis=0).min() > 0.2


def test_guidance_makes_classes_more_different(trained):
    """What sets a class apart is what guidance goes along."""
    apart = []
    for guidance in (0.0, 1.0):
        trained.guidance = guidance
        made = [trained.compressed(trained.sample(32, label=label, rng=3)) for label in ("halo", "none")]
        apart.append(made[0][:, 7:9, 7:9].mean() - made[1][:, 7:9, 7:9].mean())
    trained.guidance = 0.0
    assert apart[1] > apart[0] > 0


def test_the_other_sampler_makes_the_same_kind_of_images(trained):
    trained.sampler, trained.steps = "ancestral", 100
    halo, none = (trained.sample(16, label=label, rng=3) for label in ("halo", "none"))
    trained.sampler, trained.steps = "heun", 8
    assert centres(halo).mean() > 8 and abs(centres(none).mean()) < 2


# ----------------------------------------------------------------------------------------- the score

def test_the_score_is_that_of_the_denoised_image(tiny):
    x = np.random.default_rng(1).normal(size=(3, 16, 16)) * 1.5
    with torch.inference_mode():
        image = denoised(tiny._networks["denoiser"], torch.as_tensor(x, dtype=torch.float32)[:, None],
                         torch.full((3,), 0.7), torch.zeros(3, N_NUMBERS))[:, 0].double().numpy()
    assert tiny.score(x, 0.7) == pytest.approx((image - x) / 0.7**2, abs=1e-5)
    assert tiny.score(x, 0.7).shape == (3, 16, 16) and tiny.score(x[:0], 0.7).shape == (0, 16, 16)


def test_under_strong_noise_the_score_is_that_of_noise(trained):
    """The density is that of the noise then, exp(−x² / 2σ²), and images of deviation 1 do not count."""
    x = 1000 * np.random.default_rng(1).normal(size=(2, 16, 16))
    assert trained.score(x, 1000.0) * 1000**2 == pytest.approx(-x, abs=10)


def test_the_score_points_to_what_is_likelier(trained):
    """Up the density: an image of the training set comes back from where noise has moved it to."""
    image = trained.compressed(spots())[:20]
    noise = np.random.default_rng(1).normal(size=image.shape)
    score = trained.score(image + 0.5 * noise, 0.5, conditions=spots().table[:20])
    assert (score * noise).sum() < 0
    moved = image + 0.5 * noise + 0.5**2 * score
    assert ((moved - image) ** 2).mean() < 0.8 * 0.5**2


def test_scores_of_many_images(tiny):
    x = np.random.default_rng(1).normal(size=(40, 16, 16))
    together = tiny.score(x, 2.0)
    assert together == pytest.approx(np.concatenate([tiny.score(x[k:k + 1], 2.0) for k in range(40)]), abs=1e-5)


def test_what_is_known_changes_the_score(trained):
    x = np.random.default_rng(1).normal(size=(1, 16, 16))
    tables = [None, QTable({"label": ["halo"]}), QTable({"label": ["none"]}),
              QTable({"label": ["halo"], "snr": [50.0]}), QTable({"label": ["halo"], "snr": [np.nan]}),
              QTable({"label": ["halo"], "frequency": [300] * u.MHz})]
    scores = [trained.score(x, 3.0, conditions=table).tobytes() for table in tables]
    assert scores[1] == scores[4] and len(set(scores)) == 5


@pytest.mark.parametrize(("x", "sigma", "conditions", "text"), [
    (np.zeros((2, 8, 8)), 1.0, None, r"score takes finite images of shape \(n, 16, 16\) .found \(2, 8, 8\)"),
    (np.zeros((16, 16)), 1.0, None, r"score takes finite images .*found \(16, 16\)"),
    (np.full((2, 16, 16), np.nan), 1.0, None, "score takes finite images"),
    (np.zeros((2, 16, 16)), 0, None, "sigma must be one positive number .found 0"),
    (np.zeros((2, 16, 16)), np.nan, None, "sigma must be one positive number"),
    (np.zeros((2, 16, 16)), np.inf, None, "sigma must be one positive number"),
    (np.zeros((2, 16, 16)), 1.0, QTable({"label": ["halo"]}), "conditions must have 2 rows .found 1"),
    (np.zeros((1, 16, 16)), 1.0, QTable({"label": ["x"]}), "a label is one of"),
    (np.zeros((1, 16, 16)), 1.0, QTable({"label": ["halo"], "snr": [-1.0]}), "the condition snr must be positive"),
    (np.zeros((1, 16, 16)), 1.0, QTable({"label": ["halo"], "frequency": [2.0]}), "frequency needs the unit MHz"),
])
def test_scores_that_cannot_be(tiny, x, sigma, conditions, text):
    with pytest.raises(HaloInputError, match=text):
        tiny.score(x, sigma, conditions=conditions)
    with pytest.raises(NotFittedError, match="must be trained"):
        Diffusion(**TINY).score(x, sigma)


# ---------------------------------------------------------------------------------------- the training

def marked(n=40, n_groups=20):
    """Noise whose brightest pixel tells which image it is, whichever way it is turned."""
    rng = np.random.default_rng(2)
    data, groups = np.clip(rng.normal(size=(n, 16, 16)), -3, 3), np.arange(n) % n_groups
    data[:, 5, 9] = 10 + np.arange(n)
    return CutoutSet(data, QTable({"label": ["none"] * n, "rms": np.ones(n), "group": groups.astype(str)}))


def groups_shown(monkeypatch, cutouts, **changes):
    """The groups that the loss is taken of in training, and when the weights are judged; where the bright pixel was."""
    shown, places, plain = {True: set(), False: set()}, set(), diffusion_module.denoising_loss
    tops, groups = Diffusion(**TINY)._inputs(cutouts).max(axis=(1, 2)), cutouts.table["group"].astype(int)

    def spy(net, images, *others):
        places.update(images.flatten(1).argmax(dim=1).tolist())
        for top in images.amax((1, 2, 3)).tolist():
            shown[net.training].add(int(groups[np.abs(tops - top * model._scale).argmin()]))
        return plain(net, images, *others)

    monkeypatch.setattr(diffusion_module, "denoising_loss", spy)
    model = Diffusion(**TINY | {"n_images": 400, "batch_size": 40} | changes)
    model.fit(cutouts, rng=1, progress=False)
    return shown[True], shown[False], places


@pytest.mark.parametrize(("fraction", "held_out"), [(0.1, 2), (0.01, 1), (0.5, 10), (0, 0)])
def test_no_group_is_on_both_sides(monkeypatch, fraction, held_out):
    """Weights that are chosen on the images they were trained on are those that know them by heart."""
    trained_on, judged_on, _ = groups_shown(monkeypatch, marked(), validation_fraction=fraction)
    assert not trained_on & judged_on and len(judged_on) == held_out
    assert trained_on | judged_on == set(range(20))


def test_few_groups_are_all_trained_on(monkeypatch):
    """And shown in all eight views: turned by right angles, and mirrored."""
    trained_on, judged_on, places = groups_shown(monkeypatch, marked(n_groups=4), validation_fraction=0.5)
    assert trained_on == set(range(4)) and not judged_on
    assert {divmod(k, 16) for k in places} == {(y, x) for a, b in ((5, 9), (9, 5)) for y in (a, 15 - a)
                                               for x in (b, 15 - b)}


@pytest.mark.parametrize("rng", range(4))
def test_no_class_is_held_out_whole(rng):
    """What a network has never been shown it cannot make."""
    cutouts = spots(20)
    cutouts.table["label"] = ["relic"] * 2 + ["halo", "none"] * 9
    model, told = Diffusion(**TINY | {"n_images": 400, "validation_fraction": 0.5}), []
    model._step = lambda run, images, conditions: told.append(conditions) or [0.0]
    model.fit(cutouts, rng=rng, progress=False)
    assert torch.cat(told)[:, CLASSES.index("relic")].any()


def test_the_best_weights_are_kept(monkeypatch):
    kept, end = [], Diffusion._end_block

    def spy(self, run, *others):
        kept.append({name: tensor.clone() for name, tensor in run.average.items()})
        return end(self, run, *others)

    monkeypatch.setattr(Diffusion, "_end_block", spy)
    model = fitted(n_images=480, learning_rate=0.02, average=0.5, validation_fraction=0.3)
    best = int(np.argmin(model.history["validation_loss"]))
    for name, tensor in model._networks["denoiser"].state_dict().items():
        assert torch.equal(tensor, kept[best][name].half().float()), name
    # Not the last ones, or nothing was chosen here.
    assert best < len(kept) - 1


def test_it_stops_when_held_out_groups_no_longer_gain(tmp_path):
    # White noise: there is nothing to learn of other images.
    cutouts, path = spots(10, contrast=0.0), tmp_path / "run.safetensors"
    settings = {"n_images": 1600, "learning_rate": 0.02, "average": 0.5, "validation_fraction": 0.3, "patience": 4,
                "dropout": 0.0}
    model = Diffusion(**TINY | settings).fit(cutouts, rng=1, progress=False, checkpoint=path)
    loss = model.history["validation_loss"]
    assert len(loss) < 40 and len(loss) - 1 - int(np.argmin(loss)) == 4
    # Where it has stopped it stays.
    again = Diffusion(**TINY | settings).fit(cutouts, rng=1, progress=False, checkpoint=path)
    assert again.history["images"].tolist() == model.history["images"].tolist()


def test_the_groups_it_was_judged_on_count_as_seen():
    assert list(fitted(validation_fraction=0.3).groups_) == group_hashes(spots().table["group"])


def test_noise_levels_and_what_is_told(monkeypatch):
    """ln σ is normal; a tenth of the S/N and frequencies is not told, and label_dropout of all."""
    levels, told = [], []

    def spy(net, images, sigma, noise, conditions):
        levels.append(sigma.log())
        told.append(conditions)
        assert 0.5 < float(noise.std()) < 1.5
        return 0 * net.first.weight.sum() + 1

    monkeypatch.setattr(diffusion_module, "denoising_loss", spy)
    monkeypatch.setattr(diffusion_module.AdamW, "step", lambda self, loss: None)
    cutouts = spots()
    cutouts.table["frequency"] = np.full(40, 100) * u.MHz
    fitted(cutouts, n_images=8000, batch_size=200, label_dropout=0.3, validation_fraction=0)
    levels, told = torch.cat(levels), torch.cat(told)
    n = len(told)
    assert float(levels.mean()) == pytest.approx(diffusion_module.MEAN, abs=4 * diffusion_module.SPREAD / n**0.5)
    assert float(levels.std()) == pytest.approx(diffusion_module.SPREAD, rel=4 / (2 * n) ** 0.5)
    classes = told[:, :len(CLASSES)].sum(dim=1)
    assert set(classes.tolist()) == {0.0, 1.0}
    assert float((classes == 0).float().mean()) == pytest.approx(0.3, abs=4 * (0.21 / n) ** 0.5)
    known = told[classes == 1]
    frequency = known[:, len(CLASSES) + 3]
    assert float((frequency == 0).float().mean()) == pytest.approx(0.1, abs=4 * (0.09 / len(known)) ** 0.5)
    # A value that is not told is 0 as well, not its last one.
    assert not told[classes == 0].any() and not known[frequency == 0][:, len(CLASSES) + 2].any()


@pytest.mark.usefixtures("seeded")
def test_the_average_of_the_weights():
    """Decay from 0.1 upwards, so that the start is soon forgotten (Karras+ 2022 and what it builds on)."""
    net = nn.Linear(3, 1)
    run = Run({"net": net}, {"net": AdamW(net, 0.1)}, "net", 0.7)
    average = net.weight.detach().clone()
    for step in range(1, 30):
        run.step("net", (net(torch.randn(8, 3)) ** 2).mean())
        decay = min(0.7, (step + 1) / (step + 10))
        average = decay * average + (1 - decay) * net.weight.detach()
        assert torch.allclose(run.average["weight"], average, atol=1e-6)
    assert not torch.equal(run.best["weight"], run.average["weight"])
    run.keep()
    assert torch.equal(run.best["weight"], run.average["weight"])


@pytest.mark.parametrize(("changes", "text"), [
    ({"sampler": "euler"}, "sampler must be one of heun, ancestral .found 'euler'"),
    ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"), ({"label_dropout": -0.1}, r"label_dropout must be in \[0, 1\)"),
    ({"validation_fraction": 1.0}, r"validation_fraction must be in \[0, 1\)"),
    ({"guidance": -1.0}, "guidance must be 0 or more"), ({"guidance": np.nan}, "guidance must be 0 or more"),
    ({"steps": 0}, "steps must be a whole number of 1 or more"), ({"steps": 2.0}, "steps must be a whole number"),
    ({"patience": 0}, "patience must be a whole number of 1 or more"),
    ({"sampler": "ancestral", "steps": 1001}, "the ancestral sampler has 1000 steps at most .found 1001"),
])
def test_settings_that_cannot_be(changes, text):
    with pytest.raises(HaloInputError, match=text):
        fitted(**changes)
