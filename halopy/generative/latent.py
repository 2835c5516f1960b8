"""Diffusion among the codes of an autoencoder, both from scratch."""

from __future__ import annotations

from numbers import Real

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from halopy.errors import HaloInputError
from halopy.generative.conditions import N_NUMBERS
from halopy.generative.diffusion import Diffusion
from halopy.generative.run import Run
from halopy.generative.trained import CHUNK
from halopy.generative.unet import UNet
from halopy.learning.optimiser import AdamW
from halopy.learning.threads import one_thread

__all__ = ["LatentDiffusion"]

FACTOR = 4
"""How many times the codes are smaller than the images, a side."""
DIVERGENCE = 1e-4
"""Weight of how far codes are from normal ones."""
FORGET = 0.01


class LatentDiffusion(Diffusion):
    """An autoencoder that makes codes of images, a quarter as wide, and a diffusion model of the codes.

    For the first part of the training the autoencoder learns, then it stays as it is and the diffusion model learns.

    Parameters
    ----------
    size, pixels_per_beam, width, dropout, n_images, batch_size, learning_rate, average, label_dropout : optional
        As of `~halopy.generative.diffusion.Diffusion`.
    channels : int, optional
        Numbers of a code, for each 4 x 4 pixels, default 4.
    first_part : float, optional
        The part of the training in which the autoencoder learns, default 0.3.
    validation_fraction, patience, sampler, steps, guidance, device : optional
        As of `~halopy.generative.diffusion.Diffusion`.

    Attributes
    ----------
    history : `~astropy.table.QTable`
        ``images`` shown; ``autoencoder_loss``, the mean squared error of pixels of deviation 1 and a little more;
        ``train_loss`` and ``validation_loss`` of the diffusion model; each is 0 while it does not learn.

    Notes
    -----
    `score` takes codes, as `encoded` makes them. At 64 pixels a code costs as much as it saves: this is here for larger
    images, and for comparison.

    References
    ----------
    Rombach et al. 2022, arXiv:2112.10752; Kingma & Welling 2014, arXiv:1312.6114 (the autoencoder).

    Examples
    --------
    >>> from halopy import generators
    >>> generators.create("latent-diffusion", channels=8)
    LatentDiffusion(channels=8)
    """

    pretrained = None
    _columns = ("autoencoder_loss", "train_loss", "validation_loss")

    def __init__(self, *, size=64, pixels_per_beam=3.0, width=32, channels=4, first_part=0.3, dropout=0.1,
                 n_images=200_000, batch_size=16, learning_rate=4e-4, average=0.999, label_dropout=0.1,
                 validation_fraction=0.1, patience=10, sampler="heun", steps=None, guidance=0.0, device="cpu"):
        super().__init__(size=size, pixels_per_beam=pixels_per_beam, width=width, dropout=dropout, n_images=n_images,
                         batch_size=batch_size, learning_rate=learning_rate, average=average,
                         label_dropout=label_dropout, validation_fraction=validation_fraction, patience=patience,
                         sampler=sampler, steps=steps, guidance=guidance, device=device)
        self.channels = channels
        self.first_part = first_part

    def encoded(self, cutouts):
        """Return the codes of cutouts, ``(n, channels, size / 4, size / 4)`` float32."""
        images = torch.as_tensor(self.compressed(cutouts), device=self.device)[:, None]
        made = [np.zeros((0, *self._shape()), dtype=np.float32)]
        with torch.inference_mode(), one_thread():
            for part in images.split(CHUNK) if len(images) else ():
                made.append(self._networks["autoencoder"].encode(part).cpu().numpy())
        return np.concatenate(made)

    def decoded(self, codes):
        """Return the images of codes, ``(n, size, size)`` float32, as `compressed` makes them of cutouts."""
        self._check_trained()
        codes = np.asarray(codes, dtype=np.float32)
        if codes.shape[1:] != self._shape() or not np.isfinite(codes).all():
            raise HaloInputError(f"codes are finite and have the shape (n, {', '.join(map(str, self._shape()))})",
                                 found=codes.shape)
        made = [np.zeros((0, self.size, self.size), dtype=np.float32)]
        with torch.inference_mode(), one_thread():
            for part in torch.as_tensor(codes, device=self.device).split(CHUNK) if len(codes) else ():
                made.append(self._networks["autoencoder"].decode(part)[:, 0].cpu().numpy())
        return np.concatenate(made)

    def _check(self):
        super()._check()
        if isinstance(self.channels, bool) or not (isinstance(self.channels, (int, np.integer)) and self.channels >= 2):
            raise HaloInputError("channels must be a whole number of 2 or more", found=self.channels)
        if not (isinstance(self.first_part, Real) and 0 < self.first_part < 1):
            raise HaloInputError("first_part must be between 0 and 1", found=self.first_part)

    def _shape(self):
        return self.channels, self.size // FACTOR, self.size // FACTOR

    def _network(self):
        return UNet(self.channels, self.size // FACTOR, self.width, N_NUMBERS, self.dropout, fold=1)

    def _run(self):
        run = super()._run()
        autoencoder = _Autoencoder(self.channels, self.width).to(device=self.device, memory_format=torch.channels_last)
        networks = {"autoencoder": autoencoder, **run.networks}
        optimisers = {"autoencoder": AdamW(autoencoder, self.learning_rate), **run.optimisers}
        return Run(networks, optimisers, "denoiser", self.average)

    def _step(self, run, images, conditions):
        autoencoder = run.networks["autoencoder"]
        if self._first(run):
            return [run.step("autoencoder", autoencoder.train().loss(images)), 0.0]
        with torch.no_grad():
            codes = autoencoder.eval().encode(images)
        return [0.0, *super()._step(run, codes, conditions)]

    def _adopt(self, run):
        if not run.optimisers["denoiser"].steps:
            raise HaloInputError("the training has ended before the diffusion model learnt anything",
                                 found=f"{run.images} images, of which the autoencoder needs "
                                       f"{round(self.first_part * self.n_images)}",
                                 hint="a smaller n_images, or more time")
        super()._adopt(run)

    def _first(self, run):
        return run.images < self.first_part * self.n_images

    def _end_block(self, run, images, conditions, train, test):
        if self._first(run) or not run.optimisers["denoiser"].steps:
            run.keep()
            return [0.0], True
        if not len(test):
            return super()._end_block(run, images, conditions, train, test)
        with torch.no_grad():
            encode = run.networks["autoencoder"].eval().encode
            codes = torch.cat([encode(part) for part in images[test].split(CHUNK)])
        rows = torch.arange(len(codes))
        return super()._end_block(run, codes, conditions[test], rows[:0], rows)

    def _paint(self, networks, conditions, generator):
        return networks["autoencoder"].decode(super()._paint(networks, conditions, generator))


class _Autoencoder(nn.Module):
    """Images to codes of deviation 1, and back."""

    def __init__(self, channels, width):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4, width, 3, padding=1), _Residual(width),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), _Residual(2 * width), nn.SiLU(),
            nn.Conv2d(2 * width, 2 * channels, 3, padding=1))
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, 2 * width, 3, padding=1), _Residual(2 * width), nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, width, 3, padding=1), _Residual(width), nn.SiLU(),
            nn.Conv2d(width, 4, 3, padding=1), nn.PixelShuffle(2))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))

    def encode(self, images):
        """Return the codes that are expected of images."""
        return self._codes(images)[0] / self.deviation

    def decode(self, codes):
        """Return the images of codes."""
        return self.decoder((codes * self.deviation).contiguous(memory_format=torch.channels_last))

    def loss(self, images):
        """Return the error of what comes back, and a little of the codes' divergence from normal ones."""
        codes, spread = self._codes(images)
        with torch.no_grad():
            # What codes are divided by is followed while the autoencoder learns, and then stays.
            self.deviation.lerp_(codes.std(dim=(0, 2, 3))[:, None, None].clamp(min=1e-3), FORGET)
        drawn = codes + (spread / 2).exp() * torch.randn(codes.shape).to(codes.device)
        divergence = (codes**2 + spread.exp() - 1 - spread).mean() / 2
        return functional.mse_loss(self.decoder(drawn), images) + DIVERGENCE * divergence

    def _codes(self, images):
        """Return the means of codes, and the logarithms of their variances."""
        codes, spread = self.encoder(images.contiguous(memory_format=torch.channels_last)).chunk(2, dim=1)
        return codes, spread.clamp(-20, 10)


class _Residual(nn.Module):

    def __init__(self, channels):
        super().__init__()
        self.inner = nn.Sequential(nn.GroupNorm(channels // 8, channels), nn.SiLU(),
                                   nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(),
                                   nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x):
        return x + self.inner(x)
