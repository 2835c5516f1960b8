"""Diffusion: a network that takes noise off images, at every level of noise."""

from __future__ import annotations

from importlib.resources import as_file, files
from numbers import Real

import numpy as np
import torch

from halopy.errors import HaloInputError
from halopy.generative.conditions import N_NUMBERS, class_names, given, network_conditions
from halopy.generative.run import Run
from halopy.generative.sampling import ancestral, ddpm_levels, heun, karras_levels
from halopy.generative.trained import CHUNK, TrainedGenerator
from halopy.generative.unet import UNet
from halopy.learning.checkpoint import copied
from halopy.learning.optimiser import AdamW
from halopy.learning.threads import one_thread

__all__ = ["Diffusion"]

STEPS = {"heun": 18, "ancestral": 1000}
LOW, HIGH, RHO = 0.02, 80.0, 10.0
"""The noise levels of Heun's sampler, over the standard deviation of the images, and how they are spaced. In 18 steps
normal images of deviation 0.1 to 1 come out with a deviation that is right within 4 % (7 % with 0.01, 80 and 7 of
Karras+ 2022)."""
MEAN, SPREAD = -0.2, 1.7
"""Of the logarithm of the noise levels in training. Sources are up to fifteen deviations bright: where they are, and
how bright, is decided at levels above 3, which need more of the training than in photographs (-0.5 and 1.2 in these
units, Karras+ 2022)."""
TRIALS = 4
"""Noise levels at which each held-out image is tried."""
TRIED = 256
"""So many held-out images are tried after each block."""


class Diffusion(TrainedGenerator):
    """Conditional diffusion with the preconditioning of Karras+ 2022, and one of two samplers.

    Parameters
    ----------
    size : int, optional
        Pixels a side, default 64; a multiple of 16.
    pixels_per_beam : float or None, optional
        Scale of the images, default 3; None: the cutouts' own grid.
    width : int, optional
        Channels of the network's first level, default 32; a multiple of 8.
    dropout : float, optional
        Default 0.1.
    n_images : int, optional
        How many images are shown in a training, default 200,000; the same ones again and again.
    batch_size, learning_rate : int, float, optional
        Default 16 and 0.0004; the learning rate rises over the first twentieth of the training.
    average : float, optional
        Decay of the averaged weights, default 0.999.
    label_dropout : float, optional
        How often the network is told nothing in training, which guidance needs; default 0.1.
    validation_fraction, patience : float, int, optional
        The fraction of the groups that is held out, default 0.1 where there are five or more. The weights that do best
        on them are kept, and the training stops after so many fortieths of ``n_images`` without a better loss on them
        (default 10): what is learnt after that are the images themselves. 0: nothing is held out.
    sampler : {"heun", "ancestral"}, optional
        Heun's steps along the probability flow (Karras+ 2022), default; or the steps of DDPM (Ho+ 2020).
    steps : int, optional
        Noise levels of the sampler, default 18 for Heun's, 1000 for DDPM's.
    guidance : float, optional
        How far images are pushed away from what the network makes of no condition, default 0. More makes images
        more typical of their class, and less different from each other.
    device : str, optional
        A device of torch, default ``"cpu"``.

    Attributes
    ----------
    history : `~astropy.table.QTable`
        ``images`` shown, ``train_loss``, ``validation_loss`` (of the averaged weights on held-out groups; 0 where there
        are none).

    Notes
    -----
    Conditions and samples are those of `~halopy.generative.trained.TrainedGenerator`. The model of arXiv:2411.15559
    samples as ``Diffusion(sampler="ancestral")``. ``sampler``, ``steps`` and ``guidance`` can be changed later on.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364; Ho et al. 2020, arXiv:2006.11239; Ho & Salimans 2022, arXiv:2207.12598
    (guidance without a classifier).

    Examples
    --------
    >>> from halopy import generators
    >>> generators.create("diffusion", width=16, steps=12)
    Diffusion(width=16, steps=12)
    """

    sampling_settings = ("sampler", "steps", "guidance", "device")
    _columns = ("train_loss", "validation_loss")

    def __init__(self, *, size=64, pixels_per_beam=3.0, width=32, dropout=0.1, n_images=200_000, batch_size=16,
                 learning_rate=4e-4, average=0.999, label_dropout=0.1, validation_fraction=0.1, patience=10,
                 sampler="heun", steps=None, guidance=0.0, device="cpu"):
        self.size = size
        self.pixels_per_beam = pixels_per_beam
        self.width = width
        self.dropout = dropout
        self.n_images = n_images
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.average = average
        self.label_dropout = label_dropout
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.sampler = sampler
        self.steps = steps
        self.guidance = guidance
        self.device = device

    @classmethod
    def pretrained(cls):
        """Return the generator with the weights that ship with halopy; its model card is in the documentation."""
        with as_file(files("halopy") / "data" / "diffusion.safetensors") as path:
            return cls.load(path)

    def score(self, x, sigma, *, conditions=None):
        """Return the gradient of the logarithm of the density of images with noise: what a prior has to tell.

        Parameters
        ----------
        x : `~numpy.ndarray`
            ``(n, size, size)`` images as `compressed` makes them, plus noise.
        sigma : float
            The standard deviation of that noise, in the same unit.
        conditions : `~astropy.table.Table`, optional
            ``n`` rows with ``label`` and optionally ``grade``, ``snr`` and ``frequency``; default: nothing is known.

        Returns
        -------
        `~numpy.ndarray`
            ``(n, size, size)``: (D − x) / σ², with D the image that the network expects.

        References
        ----------
        Karras et al. 2022, arXiv:2206.00364, equation 3.
        """
        self._check_trained()
        x = np.asarray(x, dtype=np.float32)
        shape = tuple(n for n in self._shape() if n > 1)
        if x.shape[1:] != shape or not np.isfinite(x).all():
            raise HaloInputError(f"score takes finite images of shape (n, {', '.join(map(str, shape))})", found=x.shape)
        if not (isinstance(sigma, Real) and 0 < sigma < np.inf):
            raise HaloInputError("sigma must be one positive number", found=sigma)
        if conditions is None:
            told = np.zeros((len(x), N_NUMBERS), dtype=np.float32)
        elif len(conditions) != len(x):
            raise HaloInputError(f"conditions must have {len(x)} rows", found=len(conditions))
        else:
            told = network_conditions(class_names(conditions), *(given(conditions, name, unit) for name, unit in
                                                                 (("snr", ""), ("frequency", "MHz"))))
        images = torch.as_tensor(x, device=self.device).reshape(-1, *self._shape())
        told = torch.as_tensor(told, device=self.device)
        made = [np.zeros((0, *self._shape()))]
        with torch.inference_mode(), one_thread():
            for part, known in zip(images.split(CHUNK), told.split(CHUNK), strict=True) if len(x) else ():
                image = denoised(self._networks["denoiser"], part, torch.full((len(part),), float(sigma)).to(part),
                                 known)
                made.append(((image - part).double() / sigma**2).cpu().numpy())
        return np.concatenate(made).reshape(x.shape)

    def _check(self):
        super()._check()
        if self.sampler not in STEPS:
            raise HaloInputError(f"sampler must be one of {', '.join(STEPS)}", found=self.sampler)
        for name, most in (("dropout", 1), ("label_dropout", 1), ("validation_fraction", 1), ("average", 1)):
            if not (isinstance(getattr(self, name), Real) and 0 <= getattr(self, name) < most):
                raise HaloInputError(f"{name} must be in [0, {most})", found=getattr(self, name))
        if not (isinstance(self.guidance, Real) and 0 <= self.guidance < np.inf):
            raise HaloInputError("guidance must be 0 or more", found=self.guidance)
        for name, value in (("steps", self._n_steps()), ("patience", self.patience)):
            if isinstance(value, bool) or not (isinstance(value, (int, np.integer)) and value >= 1):
                raise HaloInputError(f"{name} must be a whole number of 1 or more", found=value)
        if self.sampler == "ancestral" and self._n_steps() > STEPS["ancestral"]:
            raise HaloInputError(f"the ancestral sampler has {STEPS['ancestral']} steps at most", found=self.steps)

    def _n_steps(self):
        return STEPS[self.sampler] if self.steps is None else self.steps

    def _network(self):
        return UNet(1, self.size, self.width, N_NUMBERS, self.dropout)

    def _run(self):
        network = self._network().to(device=self.device, memory_format=torch.channels_last)
        return Run({"denoiser": network}, {"denoiser": AdamW(network, self.learning_rate)}, "denoiser", self.average)

    def _step(self, run, images, conditions):
        network = run.networks["denoiser"].train()
        blind = (torch.rand(len(images)) < self.label_dropout).to(images.device)
        sigma = (MEAN + SPREAD * torch.randn(len(images))).exp().to(images.device)
        noise = torch.randn(images.shape).to(images.device)
        conditions = torch.where(blind[:, None], 0.0, conditions)
        return [run.step("denoiser", denoising_loss(network, images, sigma, noise, conditions))]

    def _held_out(self, groups, classes, rng):
        names, result = np.unique(groups), np.zeros(len(groups), dtype=bool)
        if len(names) < 5 or self.validation_fraction == 0:
            return result
        n = max(1, round(self.validation_fraction * len(names)))
        for name in rng.permutation(names):
            # Of a class that is held out whole nothing would be learnt.
            more = result | (groups == name)
            if n and set(classes[~more]) == set(classes):
                result, n = more, n - 1
        return result

    def _end_block(self, run, images, conditions, train, test):
        if not len(test):
            run.keep()
            return [0.0], True
        test = test[::-(-len(test) // TRIED)]
        network = run.networks["denoiser"]
        trained = copied(network.state_dict())
        network.load_state_dict(run.average)
        loss = self._held_out_loss(network.eval(), images[test], conditions[test])
        network.load_state_dict(trained)
        if loss <= min((row[-1] for row in run.rows if row[-1]), default=np.inf):
            run.keep()
        else:
            run.stale += 1
        return [loss], run.stale < self.patience

    def _stopped(self, run):
        return run.stale >= self.patience

    def _held_out_loss(self, network, images, conditions):
        """Return the loss at fixed levels and with fixed noise, so that it changes with the weights alone."""
        generator, losses = torch.Generator().manual_seed(0), []
        with torch.inference_mode():
            for part, known in zip(images.split(CHUNK), conditions.split(CHUNK), strict=True):
                for quantile in (torch.arange(TRIALS) + 0.5) / TRIALS:
                    level = MEAN + SPREAD * torch.special.ndtri(quantile)
                    noise = torch.randn(part.shape, generator=generator).to(part.device)
                    sigma = level.exp().expand(len(part)).to(part.device)
                    losses.append(float(denoising_loss(network, part, sigma, noise, known)) * len(part) / TRIALS)
        return sum(losses) / len(images)

    def _paint(self, networks, conditions, generator):
        noise = torch.randn((len(conditions), *self._shape()), generator=generator).to(conditions.device)
        return self._flow(networks["denoiser"], noise, conditions, generator)

    def _shape(self):
        return 1, self.size, self.size

    def _flow(self, network, noise, conditions, generator):
        self._check()
        nothing = torch.zeros_like(conditions)

        def denoise(x, sigma):
            level = torch.full((len(x),), sigma).to(x)
            image = denoised(network, x, level, conditions)
            if self.guidance:
                image = image + self.guidance * (image - denoised(network, x, level, nothing))
            return image

        if self.sampler == "heun":
            levels = karras_levels(self._n_steps(), low=LOW, high=HIGH, rho=RHO)
            return heun(denoise, noise * float(levels[0]), levels)
        levels = ddpm_levels(self._n_steps())
        return ancestral(denoise, noise * float(levels[0]), levels, generator=generator)


def denoised(network, x, sigma, conditions):
    """Return the image that is expected of images ``(n, ...)`` with noise ``sigma (n,)``, for data of deviation 1.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364, table 1 (the preconditioning).
    """
    level = sigma[:, None, None, None]
    total = (1 + level**2).sqrt()
    return x / total**2 + level / total * network(x / total, sigma.log() / 4, conditions)


def denoising_loss(network, images, sigma, noise, conditions):
    """Return the mean squared error of denoised images, weighted so that all levels count alike at the start."""
    level = sigma[:, None, None, None]
    image = denoised(network, images + level * noise, sigma, conditions)
    return ((1 + 1 / level**2) * (image - images) ** 2).mean()
