"""Stable Diffusion with a tiny pipeline of random weights: what is learnt, kept and refused, and the scale."""

from __future__ import annotations

import json
import shutil
import socket
import string
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.table import QTable
from safetensors.torch import load_file, save_file

from halopy import cli, generators
from halopy.errors import HaloInputError, MissingExtraError, NotFittedError
from halopy.generative.conditions import CLASSES
from halopy.learning.inputs import model_input, signal_to_noise
from halopy.model import load
from halopy.testing import check_generator, simulated_cutouts

SETTINGS = {"size": 16, "pixels_per_beam": None, "magnification": 1, "rank": 2, "batch_size": 8, "n_images": 80,
            "steps": 2, "learning_rate": 0.01}
SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A pipeline of the layout of Stable Diffusion 1, but for its size."""
    diffusers, transformers, _ = (pytest.importorskip(name, reason="needs the extra halopy-radio[diffusers]")
                                  for name in ("diffusers", "transformers", "peft"))
    folder = tmp_path_factory.mktemp("pipeline")
    letters = [*string.ascii_lowercase, ",", "-"]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(words)}))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=16, norm_num_groups=4,
            attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")).save_pretrained(folder / "unet")
        diffusers.AutoencoderKL(
            sample_size=16, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2).save_pretrained(folder / "vae")
        transformers.CLIPTextModel(transformers.CLIPTextConfig(
            vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            **ends)).save_pretrained(folder / "text_encoder")
    transformers.utils.logging.enable_progress_bar()
    diffusers.PNDMScheduler(**SCHEDULE, skip_prk_steps=True, steps_offset=1).save_pretrained(folder / "scheduler")
    return folder


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "copy")


@pytest.fixture(scope="module")
def cutouts():
    cutouts = simulated_cutouts(12)
    cutouts.table["grade"] = ["confirmed"] * 6 + ["candidate"] * 6
    return cutouts


def create(folder, **changes):
    return generators.create("stable-diffusion", folder=folder, **SETTINGS | changes)


@pytest.fixture(scope="module")
def trained(tiny, cutouts):
    return create(tiny).fit(cutouts, rng=1, progress=False)


def change(path, **values):
    """Change a file of settings."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def rewrite(path, function):
    """Change the weights in a file."""
    save_file(function(load_file(path)), path, metadata={"format": "pt"})


def same(made, other):
    return made.data.tobytes() == other.data.tobytes()


IDENTITY = SimpleNamespace(
    config=SimpleNamespace(latent_channels=3), decode=lambda codes: SimpleNamespace(sample=codes),
    encode=lambda images: SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: images)))
"""An autoencoder that makes codes of images by leaving them as they are."""


class Oracle:
    """A network that knows the one image there is, and so the noise on it."""

    def __init__(self, codes, scheduler):
        self.codes, self.scheduler = codes, scheduler

    def __call__(self, codes, times, told):
        kept = self.scheduler.alphas_cumprod[times].reshape(-1, 1, 1, 1)
        noise = (codes - kept.sqrt() * self.codes) / (1 - kept).sqrt()
        if self.scheduler.config.prediction_type == "v_prediction":  # Salimans & Ho 2022, arXiv:2202.00512
            return SimpleNamespace(sample=kept.sqrt() * noise - (1 - kept).sqrt() * self.codes)
        return SimpleNamespace(sample=noise)


def test_the_extra_is_named_where_it_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.delitem(sys.modules, "halopy.generative.stable_diffusion", raising=False)
    assert "stable-diffusion" in generators
    with pytest.raises(MissingExtraError, match=r"which is not .* pip install \"halopy-radio\[diffusers\]"):
        generators.create("stable-diffusion")
    simulated_cutouts(3).write(tmp_path / "cutouts.fits")
    assert cli.main(["train", "--generator", "stable-diffusion", "--cutouts", str(tmp_path / "cutouts.fits"),
                     "-o", str(tmp_path / "model.safetensors")]) == 3
    assert 'pip install "halopy-radio[diffusers]"' in capsys.readouterr().err


def test_the_contract(tiny):
    check_generator(create(tiny, batch_size=6), cutouts=simulated_cutouts(9))


def test_it_learns_to_predict_the_noise(tiny, cutouts):
    loss = create(tiny, n_images=640, rank=4).fit(cutouts, rng=1, progress=False).history["train_loss"]
    # Who predicts nothing has a loss of 1, the variance of the noise.
    assert loss[:3].mean() > 1.03 and loss[-10:].mean() < 0.98


def test_every_class_has_a_sentence_of_its_own(tiny):
    from halopy.generative.stable_diffusion import PROMPTS

    assert set(PROMPTS) == set(CLASSES) and len(set(PROMPTS.values())) == len(CLASSES)
    assert all("confirmed" in PROMPTS[name] and "candidate" in PROMPTS[name + "/candidate"]
               for name in ("halo", "mini-halo"))


def test_labels_grades_and_guidance_change_what_is_made(trained, monkeypatch):
    asked = QTable({"label": ["halo", "none", "radio-galaxy", "halo"], "grade": ["confirmed"] * 3 + ["candidate"]})
    made = trained.sample(4, conditions=asked, rng=1)
    assert made.table["label"].tolist() == list(asked["label"]) and set(made.table["group"]) == {"generated"}
    halos = trained.sample(4, label="halo", rng=1)
    np.testing.assert_array_equal(made.data[0], halos.data[0])
    assert all(np.abs(made.data[k] - halos.data[k]).max() > 0 for k in (1, 2, 3))
    monkeypatch.setattr(trained, "guidance", 2.0)
    assert not same(trained.sample(4, label="halo", rng=1), halos)


def test_text_is_left_out_as_often_as_asked(tiny, cutouts):
    model = create(tiny, label_dropout=0.5).fit(cutouts, rng=1, progress=False, max_images=8)
    told, base, conditions = [], model._base, torch.eye(len(CLASSES))[:1].expand(400, -1)
    base.unet = lambda codes, times, texts: told.append(texts) or SimpleNamespace(sample=codes)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model._step(SimpleNamespace(step=lambda name, loss: float(loss)), torch.zeros(400, 1, 16, 16), conditions)
    untold = (told[0] == base.untold).all(dim=(1, 2))
    # Five standard deviations of a binomial.
    assert abs(int(untold.sum()) - 200) < 50 and (told[0][~untold] == base.texts[0]).all()


def test_the_same_rng_gives_the_same_bytes(tiny, cutouts, trained):
    again = create(tiny).fit(cutouts, rng=1, progress=False)
    assert again.weights_id == trained.weights_id
    assert create(tiny).fit(cutouts, rng=2, progress=False).weights_id != trained.weights_id
    assert same(again.sample(3, rng=4), trained.sample(3, rng=4))
    assert same(again.fit(cutouts, rng=1, progress=False).sample(3, rng=4), trained.sample(3, rng=4))


def test_a_killed_run_goes_on_to_the_same_bytes(tiny, copy, cutouts, trained, tmp_path):
    run = tmp_path / "run.safetensors"
    create(tiny).fit(cutouts, rng=1, progress=False, checkpoint=run, max_images=40)
    # The same files in another folder, and other samples, are the same run.
    model = create(copy, steps=1).fit(cutouts, rng=1, progress=False, checkpoint=run)
    assert model.weights_id == trained.weights_id
    change(copy / "scheduler" / "scheduler_config.json", beta_end=0.013)
    with pytest.raises(HaloInputError, match="checkpoint is of another run, with another base"):
        create(copy).fit(cutouts, rng=1, progress=False, checkpoint=run)


def test_a_training_ends_when_it_should(tiny, cutouts):
    for settings, n in (({"max_images": 16}, 16), ({"max_seconds": 0}, 8)):
        assert create(tiny).fit(cutouts, rng=1, progress=False, **settings).history["images"][-1] == n


def test_a_refit_that_is_interrupted_leaves_what_was_learnt(tiny, cutouts, monkeypatch):
    model = create(tiny).fit(cutouts, rng=1, progress=False, max_images=16)
    before = model.sample(2, rng=1)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model), "_end_block", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(cutouts, rng=2, progress=False)
    assert same(model.sample(2, rng=1), before)


def test_the_base_stays_as_it_is(tiny, trained):
    base = load_file(tiny / "unet" / "diffusion_pytorch_model.safetensors")
    # peft puts what it adapts one level down.
    own = {name.replace(".base_layer", ""): tensor for name, tensor in trained._base.unet.state_dict().items()
           if "lora" not in name}
    assert set(own) == set(base) and all(torch.equal(own[name], base[name]) for name in base)
    learnt = [name for name in trained._state() if name.startswith("weight")]
    assert all(".lora_" in name.replace("-", ".") for name in learnt)
    # A and B for the four projections, of self- and of cross-attention, in all four transformers of this network.
    assert len(learnt) == 2 * 4 * 2 * 4


def test_a_file_goes_with_its_base_and_no_other(trained, copy, tmp_path):
    path, expected = tmp_path / "model.safetensors", trained.sample(3, rng=2)
    trained.save(path)
    assert same(load(path).sample(3, rng=2), expected)
    moved = load(path)
    moved.folder = tmp_path / "nowhere"
    assert load(path).weights_id == moved.weights_id and moved.groups_ == trained.groups_
    with pytest.raises(HaloInputError, match="needs a folder of its weights: halopy has none and downloads nothing"):
        moved.sample(1)
    moved.folder = copy
    assert same(moved.sample(3, rng=2), expected)
    moved.save(tmp_path / "again.safetensors")
    assert same(load(tmp_path / "again.safetensors").sample(3, rng=2), expected)
    rewrite(copy / "vae" / "diffusion_pytorch_model.safetensors", lambda all_: {k: 1.001 * v for k, v in all_.items()})
    other = load(tmp_path / "again.safetensors")
    for use in (lambda: other.sample(1), lambda: other.round_trip(simulated_cutouts(3))):
        with pytest.raises(HaloInputError, match="trained on another Stable Diffusion than the one in this folder"):
            use()


@pytest.mark.parametrize("magnification", [1, 3])
def test_pixels_keep_their_scale(tiny, cutouts, magnification):
    """With an autoencoder that loses nothing, what goes in comes out: in Jy/beam, above the level."""
    data = cutouts.data[:, 24:40, 24:40].copy()
    data[0, 8, 8] = 4.0  # 500 times the noise
    data[1] += 0.1
    small = cutouts.replace(data=data)
    model = create(tiny, magnification=magnification).fit(small, rng=1, progress=False, max_images=8)
    model._base.vae = IDENTITY
    back = model.round_trip(small)
    level = np.median(data, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(back.data, data - level, rtol=1e-4, atol=1e-4 * 0.008)
    assert back.unit == small.unit
    np.testing.assert_allclose(model.compressed(back), model.compressed(small), atol=1e-4)


def test_a_round_trip_is_on_the_grid_of_the_samples(tiny, cutouts):
    model = create(tiny, pixels_per_beam=2.0).fit(cutouts, rng=1, progress=False, max_images=8)
    back = model.round_trip(cutouts[:5])
    beam = np.sqrt(133 * 122) * u.arcsec
    assert back.shape == (5, 16, 16) and back.unit == u.Jy / u.beam and np.isfinite(back.data).all()
    np.testing.assert_allclose(back.table["pixel_scale"], beam / 2)
    np.testing.assert_allclose(model.sample(2, rng=1).table["pixel_scale"], beam / 2, rtol=1e-6)
    assert len(model.round_trip(cutouts[:0])) == 0
    # 4.55 pixels a beam are near enough to 4.5 to stay.
    own = create(tiny, pixels_per_beam=4.5).fit(cutouts, rng=1, progress=False, max_images=8).round_trip(cutouts[:2])
    np.testing.assert_array_equal(own.table["pixel_scale"], cutouts.table["pixel_scale"][:2])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance", [0.0, 3.0])
def test_noise_and_velocity_are_predicted_as_the_pipeline_does(copy, cutouts, prediction, guidance):
    """A network that knows the image has no loss, and samples of it are that image at its S/N and rms."""
    scheduler = copy / "scheduler" / "scheduler_config.json"
    change(scheduler, _class_name="DDIMScheduler", prediction_type=prediction, set_alpha_to_one=True)
    data = np.repeat(cutouts.data[:1, 24:40, 24:40], 12, axis=0)
    one = cutouts.replace(data=data)
    model = create(copy, steps=5, guidance=guidance).fit(one, rng=1, progress=False, max_images=8)
    base = model._base
    base.vae, base.factor = IDENTITY, 1
    image = torch.as_tensor(model.compressed(one[:1]))[:, None]
    base.unet = Oracle(model._encode(image), base.scheduler)
    with torch.random.fork_rng():
        run = SimpleNamespace(step=lambda name, loss: float(loss))
        assert model._step(run, image.expand(6, -1, -1, -1), torch.ones(6, len(CLASSES)))[0] < 1e-6
    made = model.sample(3, label="none", rng=1)
    np.testing.assert_allclose(made.data, data[:3] - np.median(data[0]), rtol=1e-3, atol=1e-3 * 0.008)
    # Two beams of three pixels: six pixels from the centre.
    y, x = np.indices((16, 16)) - 7.5
    brightest = (data[0] - np.median(data[0]))[np.hypot(x, y) <= 6].max() / 0.008
    np.testing.assert_allclose(made.table["snr"], brightest, rtol=1e-3)
    double = model.sample(3, conditions=QTable({"label": ["none"] * 3, "rms": [0.016] * 3 * u.Jy / u.beam}), rng=1)
    np.testing.assert_allclose(double.data, 2 * made.data, rtol=1e-5)


def test_samples_say_what_they_are(trained, cutouts):
    asked = QTable({"label": ["halo"] * 3, "frequency": [150, np.nan, 200.5] * u.MHz, "snr": [50.0, 50, 50]})
    made = trained.sample(3, conditions=asked, rng=1)
    np.testing.assert_array_equal(made.table["frequency"], [150, 200.5, 200.5] * u.MHz)
    np.testing.assert_allclose(made.table["rms"], 0.008 * u.Jy / u.beam, rtol=1e-6)
    # S/N cannot be asked for: what there is, is said.
    assert "snr" not in trained.optional_conditions and (made.table["snr"] < 50).all()
    seen = signal_to_noise(model_input(cutouts, size=16, pixels_per_beam=None))
    assert (made.data / 0.008 < 2 * seen.max()).all()
    with pytest.raises(HaloInputError, match="has not seen such images in its training.*'relic'"):
        trained.sample(1, label="relic")


def test_published_names_of_weights_are_read(copy, cutouts, trained):
    """Files of 2022 have older names of some weights; and may be of half precision."""
    rewrite(copy / "text_encoder" / "model.safetensors",
            lambda all_: {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in all_.items()}
            | {"text_model.embeddings.position_ids": torch.arange(77)[None]})
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        rewrite(copy / "vae" / "diffusion_pytorch_model.safetensors",
                lambda all_, new=new, old=old: {name.replace(new, old): tensor for name, tensor in all_.items()})
    model = create(copy).fit(cutouts, rng=1, progress=False)
    assert same(model.sample(2, rng=1), trained.sample(2, rng=1))
    for part in ("unet", "vae", "text_encoder"):
        (file,) = (copy / part).glob("*.safetensors")
        rewrite(file, lambda all_: {k: v.half() if v.is_floating_point() else v for k, v in all_.items()})
    model = create(copy).fit(cutouts, rng=1, progress=False, max_images=8)
    assert {p.dtype for p in model._base.unet.parameters()} == {torch.float32}
    assert np.isfinite(model.sample(1, rng=1).data).all()


def test_nothing_is_downloaded_drawn_or_said(tiny, cutouts, monkeypatch, capfd, tmp_path):
    from transformers.utils import logging

    def refuse(*arguments, **settings):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    create(tiny).fit(cutouts, rng=1, progress=False, max_images=8).sample(1, rng=1)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert not (tmp_path / "cache").exists()


def pickled(path):
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


def without_one(path):
    rewrite(path, lambda all_: {name: tensor for name, tensor in all_.items() if name != "conv_norm_out.weight"})


def truncated(path):
    path.write_bytes(path.read_bytes()[:100])


def changed(**settings):
    """Other settings in a file, or in a folder another network of the same class."""
    def harm(path):
        if path.is_file():
            change(path, **settings)
            return
        config = json.loads((path / "config.json").read_text()) | settings
        with torch.random.fork_rng():
            getattr(sys.modules["diffusers"], config["_class_name"]).from_config(config).save_pretrained(path)
    return harm


FIVE = {"block_out_channels": [4] * 5, "down_block_types": ["DownEncoderBlock2D"] * 5,
        "up_block_types": ["UpDecoderBlock2D"] * 5}
UNET, SCHEDULER = "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"


@pytest.mark.parametrize(("name", "harm", "text"), [
    ("unet", shutil.rmtree, r"no pipeline of Stable Diffusion: it has no unet/config.json .*'vae'\]\); try: the fold"),
    (SCHEDULER, Path.unlink, "it has no scheduler/scheduler_config.json"),
    ("tokenizer", shutil.rmtree, "it has no tokenizer/vocab.json"),
    (UNET, pickled, "weights in unet must be safetensors, for pickled ones can run code .*diffusion_pytorch_model.bin"),
    ("text_encoder/model.safetensors", lambda path: path.rename(path.with_name("model.fp16.safetensors")),
     r"weights in text_encoder must be safetensors.*model.fp16.safetensors'\]\); try: .*without variant"),
    ("vae/diffusion_pytorch_model.safetensors", truncated, "this pipeline cannot be read: "),
    ("text_encoder/model.safetensors", truncated, "this pipeline cannot be read: "),
    ("tokenizer/vocab.json", truncated, "this pipeline cannot be read: "),
    ("unet/config.json", truncated, "this pipeline cannot be read: "),
    ("text_encoder/config.json", changed(hidden_size=8), "this pipeline cannot be read: "),
    (UNET, without_one, "weights are missing in this folder .*found 'unet conv_norm_out.weight'"),
    (SCHEDULER, changed(prediction_type="sample"), "prediction_type must be epsilon or v_prediction in .*'sample'"),
    ("unet", changed(in_channels=9), "in_channels must be 4 in Stable Diffusion 1 or 2 .*found 9"),  # inpainting's
    ("unet", changed(addition_embed_type="text"), "addition_embed_type must be None .*'text'"),  # as of XL
    ("unet", changed(class_embed_type="timestep"), "class_embed_type must be None .*'timestep'"),
    ("unet", changed(cross_attention_dim=32), "cross_attention_dim must be 16 .*found 32"),
    ("vae", changed(**FIVE), "size times magnification must be a multiple of 32 in this .*found 16"),
])
def test_a_folder_that_cannot_be_used(copy, cutouts, name, harm, text):
    harm(copy / name)
    with pytest.raises(HaloInputError, match=text):
        create(copy).fit(cutouts, rng=1, progress=False)


@pytest.mark.parametrize(("settings", "text"), [
    ({"folder": None}, "needs a folder of its weights: .*try: folder='/path/to/a/pipeline'"),
    ({"folder": "stabilityai/stable-diffusion"}, "stabilityai/stable-diffusion: .*downloads nothing"),
    ({"rank": 0}, "rank must be a whole number of 1 or more"), ({"steps": 2.5}, "steps must be a whole number"),
    ({"magnification": True}, "magnification must be a whole number"), ({"average": 1.0}, r"average must be in \[0, 1"),
    ({"label_dropout": -0.1}, r"label_dropout must be in \[0, 1"), ({"guidance": -1}, r"guidance must be in \[0, inf"),
    ({"size": 20}, "size must be a multiple of 16"), ({"device": "abacus"}, "device must be one that torch has"),
])
def test_settings_that_cannot_be(tiny, cutouts, settings, text):
    with pytest.raises(HaloInputError, match=text):
        create(**{"folder": tiny} | settings).fit(cutouts, rng=1)


@pytest.mark.parametrize(("changes", "text"), [
    ({"base": None}, "the hash of the base must be 32 bytes"),
    ({"base": np.zeros(16, np.uint8)}, "the hash of the base must be 32 bytes"),
    ({"weight.other.x": np.zeros(3, np.float16)}, "belongs to no part of this generator"),
    ({"pixels": None}, "an array is missing .*pixels"),
])
def test_a_file_that_is_broken(trained, changes, text):
    state = {name: array for name, array in (trained._state() | changes).items() if array is not None}
    with pytest.raises(HaloInputError, match=text):
        create(trained.folder)._set_state(state)


@pytest.mark.parametrize(("changes", "text"), [
    ({"rank": 3}, r"an array must have the shape \(3, 8\)"), ({"steps": 1001}, "this pipeline has 1000 steps at most")])
def test_settings_that_the_base_does_not_fit(trained, changes, text):
    model = create(trained.folder, **changes)
    model._set_state(trained._state())
    with pytest.raises(HaloInputError, match=text):
        model.sample(1)


def test_a_path_is_a_folder_too_and_training_comes_first(tiny, cutouts):
    model = create(tiny)
    assert isinstance(tiny, Path) and model == create(str(tiny)) and model.params["folder"] == str(tiny)
    with pytest.raises(NotFittedError, match="StableDiffusion must be trained"):
        model.round_trip(cutouts)
