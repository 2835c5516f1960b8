"""Stable Diffusion, from a folder of weights that the user has, taught what halos look like by low-rank adaptation."""

from __future__ import annotations

import hashlib
import warnings
from contextlib import contextmanager
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from astropy import units as u
from peft import LoraConfig
from torch import nn
from torch.nn import functional

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.generative.conditions import CLASSES
from halopy.generative.run import Run
from halopy.generative.trained import CENTRE, TrainedGenerator
from halopy.learning.checkpoint import tensors_from
from halopy.learning.inputs import OWN_GRID, noise_level, signal_to_noise
from halopy.learning.optimiser import AdamW
from halopy.learning.threads import one_thread

__all__ = ["PROMPTS", "StableDiffusion"]

PROMPTS = {
    "halo": "radio halo of a galaxy cluster, confirmed",
    "halo/candidate": "radio halo of a galaxy cluster, candidate",
    "mini-halo": "radio mini-halo of a galaxy cluster, confirmed",
    "mini-halo/candidate": "radio mini-halo of a galaxy cluster, candidate",
    "relic": "radio relic of a galaxy cluster",
    "phoenix": "radio phoenix of a galaxy cluster",
    "radio-galaxy": "radio galaxy",
    "orc": "odd radio circle",
    "blend": "blend of compact radio sources",
    "other": "diffuse radio emission of another kind",
    "none": "galaxy cluster without diffuse radio emission",
    "blank": "radio sky without a galaxy cluster",
}
"""What the text encoder is told of each class, `halopy.generative.conditions.CLASSES`."""

SETTINGS = ("unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json")
WEIGHTS = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL,
           "text_encoder": transformers.CLIPTextModel}
PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0"]
"""Of the attention, in the names of diffusers."""
REMEDY = "the folder as diffusers' save_pretrained writes it, with safetensors and without variant"


class StableDiffusion(TrainedGenerator):
    """Stable Diffusion 1 or 2, fine-tuned on cutouts with low-rank adaptation (LoRA).

    The weights of Stable Diffusion are the user's, in a folder on this machine: halopy has none and downloads nothing.

    Parameters
    ----------
    folder : str or path, optional
        A pipeline as diffusers saves it, with the folders ``unet``, ``vae``, ``text_encoder``, ``tokenizer`` and
        ``scheduler``, and its weights as safetensors. It is needed to train and to sample, not to load a file.
    rank : int, optional
        Of the matrices that are added to those of the attention, default 8.
    size, pixels_per_beam, label_dropout, guidance, device : optional
        As of `~halopy.generative.diffusion.Diffusion`; diffusers' ``guidance_scale`` is one more than ``guidance``.
    magnification : int, optional
        Each pixel is so many pixels of the pipeline a side, default 8: 64 become the 512 of Stable Diffusion 1.
    n_images, batch_size, learning_rate, average : optional
        As of `~halopy.generative.diffusion.Diffusion`, default 20,000, 4, 0.0001 and 0.99.
    steps : int, optional
        Noise levels of the sampler, default 30.

    Attributes
    ----------
    history : `~astropy.table.QTable`
        ``images`` shown, ``train_loss`` (mean squared error of the noise, or velocity, that the network predicts).

    Notes
    -----
    What is said in `~halopy.generative.trained.TrainedGenerator` holds, but for these: the class is told by a sentence,
    one of `PROMPTS`; S/N is no condition, and the column ``snr`` of samples is measured on them; a given frequency
    lends beam and rms only.

    Compressed S/N is brought to [-1, 1] by a range that is saved, and the same in all three colours; the mean of the
    colours goes the way back. The autoencoder was made for photographs: `round_trip` shows what it alone makes of
    cutouts.

    The file holds what was learnt, and a hash of the folder's files; with another base than the one it was trained on
    it makes no images. ``folder``, ``steps``, ``guidance`` and ``device`` can be changed later on.

    References
    ----------
    Rombach et al. 2022, arXiv:2112.10752 (Stable Diffusion); Hu et al. 2021, arXiv:2106.09685 (LoRA); Song et al. 2020,
    arXiv:2010.02502 (the sampler, DDIM); Lin et al. 2023, arXiv:2305.08891 (its steps begin where there is only noise);
    Ho & Salimans 2022, arXiv:2207.12598 (guidance without a classifier).

    Examples
    --------
    >>> from halopy import generators
    >>> generators.create("stable-diffusion", folder="stable-diffusion-v1-5", rank=4)
    StableDiffusion(folder='stable-diffusion-v1-5', rank=4)
    """

    optional_conditions = ("frequency", "rms")
    sampling_settings = ("folder", "steps", "guidance", "device")
    width = 8  # TrainedGenerator checks it of all; there is none here.
    _columns = ("train_loss",)
    _base = None
    _shapes = None

    def __init__(self, *, folder=None, rank=8, size=64, pixels_per_beam=3.0, magnification=8, n_images=20_000,
                 batch_size=4, learning_rate=1e-4, average=0.99, label_dropout=0.1, steps=30, guidance=0.0,
                 device="cpu"):
        self.folder = folder
        self.rank = rank
        self.size = size
        self.pixels_per_beam = pixels_per_beam
        self.magnification = magnification
        self.n_images = n_images
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.average = average
        self.label_dropout = label_dropout
        self.steps = steps
        self.guidance = guidance
        self.device = device

    @property
    def params(self):
        """The constructor's settings, by name; the folder as text."""
        return super().params | {"folder": None if self.folder is None else str(self.folder)}

    def round_trip(self, cutouts):
        """Return what the autoencoder alone makes of cutouts: nothing that is generated can be finer.

        Parameters
        ----------
        cutouts : CutoutSet
            ``n`` cutouts, with what `~halopy.learning.inputs.model_input` needs of them.

        Returns
        -------
        CutoutSet
            ``(n, size, size)`` in the unit of the cutouts, on the grid of the samples and with the level (median) taken
            off. ``generator.compressed`` makes both of them comparable, pixel by pixel.
        """
        self._check_trained()
        self._attach()
        images = torch.as_tensor(self.compressed(cutouts), device=self.device)[:, None]
        made = [np.zeros((0, self.size, self.size))]
        with torch.inference_mode(), one_thread():
            for start in range(0, len(images), self.batch_size):
                part = self._decode(self._encode(images[start:start + self.batch_size]))
                made.append(part[:, 0].double().cpu().numpy())
        snr = signal_to_noise(np.clip(np.concatenate(made) * self._scale, *self._limits))
        rms, table = noise_level(cutouts), cutouts.table.copy()
        table["rms"] = rms * cutouts.unit
        if self.pixels_per_beam is not None:
            own, beam = u.Quantity(table["pixel_scale"]), np.sqrt(table["beam_major"] * table["beam_minor"])
            scale = (beam / self.pixels_per_beam).to(own.unit)
            table["pixel_scale"] = np.where(np.abs(scale / own - 1) <= OWN_GRID, own, scale)
        return CutoutSet(snr * rms[:, None, None], table, unit=cutouts.unit)

    def _check(self):
        super()._check()
        for name in ("rank", "magnification", "steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not (isinstance(value, (int, np.integer)) and value >= 1):
                raise HaloInputError(f"{name} must be a whole number of 1 or more", found=value)
        for name, most in (("average", 1), ("label_dropout", 1), ("guidance", np.inf)):
            if not 0 <= getattr(self, name) < most:
                raise HaloInputError(f"{name} must be in [0, {most})", found=getattr(self, name))

    def _read(self, expected=None):
        """Return the pipeline of the folder, with new matrices in its attention."""
        files = _files(self.folder)
        fingerprint = _fingerprint(files)
        if expected is not None and fingerprint != expected:
            raise HaloInputError("this generator was trained on another Stable Diffusion than the one in this folder",
                                 path=self.folder, found=fingerprint[:16],
                                 hint=f"the folder with the very files of then, {expected[:16]}")
        base = _Pipeline(Path(self.folder).expanduser(), self.rank, self.device)
        self._fingerprint, base.place = fingerprint, (str(self.folder), self.device)
        if self.size * self.magnification % base.multiple:
            raise HaloInputError(f"size times magnification must be a multiple of {base.multiple} in this pipeline",
                                 found=self.size * self.magnification, hint="magnification=8")
        return base

    def _attach(self):
        """Have the pipeline at hand, with what was learnt in it."""
        self._check()
        learnt, base = self._networks["adapter"], self._base
        if base is None or base.adapter is not learnt or base.place != (str(self.folder), self.device):
            with torch.random.fork_rng(devices=[]), one_thread():
                base = self._read(self._fingerprint)
            weights = {name: tensor.detach().cpu().numpy() for name, tensor in learnt.state_dict().items()}
            base.adapter.load_state_dict(tensors_from(weights, "", base.adapter.state_dict()))
            self._base, self._networks = base, {"adapter": base.adapter}
        if self.steps > base.n_times:
            raise HaloInputError(f"this pipeline has {base.n_times} steps at most", found=self.steps)

    def _run(self):
        if self._shapes is None:
            self._base = self._read()
            adapter = self._base.adapter
        else:
            adapter = _adapter({name: nn.Parameter(torch.zeros(shape)) for name, shape in self._shapes.items()})
        return Run({"adapter": adapter}, {"adapter": AdamW(adapter, self.learning_rate)}, "adapter", self.average)

    def _step(self, run, images, conditions):
        base = self._base
        with torch.no_grad():
            codes = self._encode(images)
        noise = torch.randn(codes.shape).to(codes)
        times = torch.randint(base.n_times, (len(codes),)).to(codes.device)
        blind = (torch.rand(len(codes)) < self.label_dropout).to(codes.device)
        told = torch.where(blind[:, None, None], base.untold, base.told(conditions))
        velocity = base.scheduler.config.prediction_type == "v_prediction"
        target = base.scheduler.get_velocity(codes, noise, times) if velocity else noise
        predicted = base.unet(base.scheduler.add_noise(codes, noise, times), times, told).sample
        return [run.step("adapter", functional.mse_loss(predicted, target))]

    def _paint(self, networks, conditions, generator):
        base, made = self._base, []
        side = self.size * self.magnification // base.factor
        noise = torch.randn((len(conditions), base.vae.config.latent_channels, side, side), generator=generator)
        base.scheduler.set_timesteps(self.steps)
        for codes, told in zip(noise.to(conditions.device).split(self.batch_size),
                               base.told(conditions).split(self.batch_size), strict=True):
            for time in base.scheduler.timesteps.tolist():
                predicted = base.unet(codes, time, told).sample
                if self.guidance:
                    untold = base.unet(codes, time, base.untold.expand_as(told)).sample
                    predicted = predicted + self.guidance * (predicted - untold)
                codes = base.scheduler.step(predicted, time, codes).prev_sample
            made.append(self._decode(codes))
        return torch.cat(made)

    def _encode(self, images):
        """Return the codes of images ``(n, 1, size, size)`` of deviation 1, as the pipeline's network knows them."""
        low, high = self._limits
        images = (2 * (images * self._scale - low) / (high - low) - 1).clamp(-1, 1)
        images = images.repeat_interleave(self.magnification, -1).repeat_interleave(self.magnification, -2)
        return self._base.vae.encode(images.expand(-1, 3, -1, -1)).latent_dist.mode() * self._base.scale

    def _decode(self, codes):
        """Return the images of codes, as `_encode` takes them."""
        low, high = self._limits
        images = self._base.vae.decode(codes / self._base.scale).sample.mean(dim=1, keepdim=True)
        images = functional.avg_pool2d(images, self.magnification)
        return ((images + 1) / 2 * (high - low) + low) / self._scale

    def _sample(self, conditions, rng):
        self._attach()
        made = super()._sample(conditions[[name for name in conditions.colnames if name != "snr"]], rng)
        y, x = np.indices(made.shape[1:]) - (self.size - 1) / 2
        near = np.hypot(x, y) <= CENTRE * (self.pixels_per_beam or 3)
        made.table["snr"] = made.data[:, near].max(axis=1).astype(float) / made.table["rms"].value
        return made

    def _token(self, seed, inputs, told, groups):
        token = super()._token(seed, inputs, told, groups)
        # A run goes on with the same files in another folder.
        settings = {name: value for name, value in token["settings"].items() if name not in self.sampling_settings}
        return token | {"settings": settings, "base": self._fingerprint}

    def _state(self):
        state = super()._state()
        if state:
            state["base"] = np.frombuffer(bytes.fromhex(self._fingerprint), dtype=np.uint8).copy()
        return state

    def _set_state(self, state):
        state = dict(state)
        if state:
            base = np.asarray(state.pop("base", ()))
            if base.shape != (32,) or base.dtype != np.uint8:
                raise HaloInputError("the hash of the base must be 32 bytes", keyword="base", found=base.shape)
            self._fingerprint = base.tobytes().hex()
        prefix = "weight.adapter."
        self._shapes = {k.removeprefix(prefix): v.shape for k, v in state.items() if k.startswith(prefix)}
        try:
            super()._set_state(state)
        finally:
            self._shapes = None


class _Pipeline:
    """The parts of a pipeline, of which only the adapter is trained."""

    def __init__(self, folder, rank, device):
        # What is read must not depend on chance, nor the numbers drawn afterwards on how it is read.
        with _quiet(), torch.random.fork_rng(devices=[]), torch.no_grad():
            try:
                parts = [kind.from_pretrained(folder / part, local_files_only=True, use_safetensors=True,
                                              output_loading_info=True) for part, kind in WEIGHTS.items()]
                tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
                # Codes, unlike pixels, go beyond 1.
                self.scheduler = diffusers.DDIMScheduler.from_pretrained(
                    folder / "scheduler", local_files_only=True, clip_sample=False, timestep_spacing="trailing")
            except Exception as error:  # tokenizers raises nothing narrower
                raise HaloInputError(f"this pipeline cannot be read: {error}", path=folder, hint=REMEDY) from error
            lost = [f"{part} {name}" for part, (_, told) in zip(WEIGHTS, parts, strict=True)
                    for name in told["missing_keys"]]
            if lost:
                raise HaloInputError("weights are missing in this folder", path=folder, found=min(lost), hint=REMEDY)
            # The files may be of half precision, in which nothing can be learnt on a CPU.
            unet, vae, text = (part.float().eval().requires_grad_(False) for part, _ in parts)
            _judge(folder, unet, vae, text, self.scheduler)
            tokens = tokenizer([*(PROMPTS[name] for name in CLASSES), ""], padding="max_length", truncation=True,
                               max_length=text.config.max_position_embeddings, return_tensors="pt")
            texts = text(tokens.input_ids).last_hidden_state.to(device)
        self.texts, self.untold = texts[:-1], texts[-1]
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=PROJECTIONS))
        self.unet, self.vae = unet.to(device), vae.to(device)
        self.adapter = _adapter({name: p for name, p in unet.named_parameters() if p.requires_grad})
        self.scale, self.n_times = vae.config.scaling_factor, self.scheduler.config.num_train_timesteps
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.multiple = self.factor * 2 ** (len(unet.config.block_out_channels) - 1)

    def told(self, conditions):
        """Return what the network is told of the classes that conditions ``(n, k)`` begin with."""
        return self.texts[conditions[:, :len(CLASSES)].argmax(dim=1)]


def _adapter(parameters):
    """Return the weights that are learnt as a network, apart from the one that they are part of."""
    network = nn.Module()
    for name, parameter in parameters.items():
        network.register_parameter(name.replace(".", "-"), parameter)
    return network


def _judge(folder, unet, vae, text, scheduler):
    """Say where parts are not those of Stable Diffusion 1 or 2."""
    wanted = {"in_channels": (unet, [vae.config.latent_channels]), "addition_embed_type": (unet, [None]),
              "cross_attention_dim": (unet, [text.config.hidden_size]), "class_embed_type": (unet, [None]),
              "prediction_type": (scheduler, ["epsilon", "v_prediction"])}
    for name, (part, values) in wanted.items():
        if part.config[name] not in values:
            raise HaloInputError(f"with these parts {name} must be {' or '.join(map(str, values))} in Stable Diffusion "
                                 "1 or 2", path=folder, found=part.config[name], hint="a text-to-image pipeline")


def _files(folder):
    """Return the files of a pipeline that are read, or say what is missing."""
    folder = None if folder is None else Path(folder).expanduser()
    if folder is None or not folder.is_dir():
        raise HaloInputError("Stable Diffusion needs a folder of its weights: halopy has none and downloads nothing",
                             path=folder, keyword="folder", hint="folder='/path/to/a/pipeline' that is on this machine")
    files = [folder / name for name in SETTINGS]
    files += sorted(path for path in (folder / "tokenizer").glob("*") if path.suffix in (".json", ".txt"))
    lacking = [name for name in SETTINGS if not (folder / name).is_file()]
    if not {"tokenizer.json", "vocab.json"} & {path.name for path in files}:
        lacking.append("tokenizer/vocab.json")
    if lacking:
        raise HaloInputError(f"this folder is no pipeline of Stable Diffusion: it has no {lacking[0]}", path=folder,
                             found=sorted(entry.name for entry in folder.iterdir())[:8], hint=REMEDY)
    for part in WEIGHTS:
        # A name with a further dot is that of a variant, such as model.fp16.safetensors.
        weights = sorted(path for path in (folder / part).glob("*.safetensors") if "." not in path.stem)
        if not weights:
            raise HaloInputError(f"the weights in {part} must be safetensors, for pickled ones can run code",
                                 path=folder, found=sorted(path.name for path in (folder / part).iterdir())[:8],
                                 hint=REMEDY)
        files += weights
    return files


def _fingerprint(files):
    """Return what tells a pipeline from any other: a hash of all that is read, a second for a gigabyte or two."""
    result = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            result.update(f"{path.parent.name}/{path.name}".encode() + hashlib.file_digest(stream, "sha256").digest())
    return result.hexdigest()


@contextmanager
def _quiet():
    """Keep diffusers and transformers from drawing bars and speaking of old settings while they read."""
    logs = [library.utils.logging for library in (diffusers, transformers)]
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for log in logs:
            log.set_verbosity_error()
            log.disable_progress_bar()
        try:
            yield
        finally:
            for log, (verbosity, bar) in zip(logs, before, strict=True):
                log.set_verbosity(verbosity)
                if bar:
                    log.enable_progress_bar()
