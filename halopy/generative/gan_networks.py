"""The two networks of an adversarial generator."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from halopy.image import FWHM_TO_SIGMA

__all__ = ["Critic", "Painter"]

GROUP = 8
SLOPE = 0.2
SMALLEST = 16
"""How many times the painter's first grid is smaller than the image."""


class Painter(nn.Module):
    """Turns latent numbers and conditions into images.

    From a coarse grid on, each level has twice as many pixels. Every level gets noise of its own besides the latent
    numbers: the noise of a radio image is made of noise. At the end the image is smoothed, for nothing in it is
    narrower than the beam; what an upsampled grid leaves between its pixels would be.

    Parameters
    ----------
    size : int
        Pixels a side, a multiple of 16.
    width : int
        Channels of the last level, a multiple of 8.
    latent : int
        How many latent numbers.
    n_conditions : int
    smooth : float
        Pixels: full width at half maximum of the last smoothing; 0: none.

    References
    ----------
    Karras et al. 2019, arXiv:1812.04948 (latent numbers that scale and shift the levels, noise at every level).
    """

    def __init__(self, size, width, latent, n_conditions, smooth):
        super().__init__()
        self.latent, self.start, inner = latent, size // SMALLEST, 4 * width
        self.told = nn.Sequential(nn.Linear(latent + n_conditions, inner), nn.LeakyReLU(SLOPE),
                                  nn.Linear(inner, inner), nn.LeakyReLU(SLOPE))
        self.first = nn.Linear(inner, 4 * width * self.start**2)
        widths = (4 * width, 4 * width, 2 * width, width)
        self.levels = nn.ModuleList(_Level(a, b, inner) for a, b in zip(widths, (*widths[1:], width), strict=True))
        self.last = nn.Sequential(nn.GroupNorm(width // GROUP, width), nn.LeakyReLU(SLOPE),
                                  nn.Conv2d(width, 4 * GROUP, 3, padding=1), nn.PixelShuffle(2), nn.LeakyReLU(SLOPE),
                                  nn.Conv2d(GROUP, 1, 3, padding=1))
        self.register_buffer("beam", _beam(smooth))

    def draw(self, n, generator=None):
        """Return the random numbers of ``n`` images: the latent ones, and the noise of each level."""
        like = next(self.parameters())
        shapes = [(n, self.latent)] + [(n, 1, side, side) for side in (self.start * 2**k for k in range(4))]
        return [torch.randn(shape, generator=generator).to(like.device) for shape in shapes]

    def forward(self, random, conditions):
        told = self.told(torch.cat([random[0], conditions], dim=1))
        x = self.first(told).reshape(len(told), -1, self.start, self.start)
        x = x.contiguous(memory_format=torch.channels_last)
        for k, (level, noise) in enumerate(zip(self.levels, random[1:], strict=True)):
            x = level(functional.interpolate(x, scale_factor=2.0) if k else x, told, noise)
        reach = len(self.beam) // 2
        image = functional.pad(self.last(x), (reach,) * 4, mode="replicate")
        return functional.conv2d(functional.conv2d(image, self.beam[None, None, :, None]), self.beam[None, None, None])


def _beam(width):
    """Return a Gaussian of sum 1, of as many pixels as it reaches in three deviations."""
    sigma = max(width, 1e-3) * FWHM_TO_SIGMA
    x = torch.arange(-round(3 * sigma), round(3 * sigma) + 1)
    beam = torch.exp(-0.5 * (x / sigma) ** 2)
    return beam / beam.sum()


class _Level(nn.Module):

    def __init__(self, before, now, told):
        super().__init__()
        self.norm = nn.GroupNorm(before // GROUP, before)
        self.told = nn.Linear(told, 2 * before)
        self.first = nn.Conv2d(before, now, 3, padding=1)
        self.loudness = nn.Parameter(torch.full((now, 1, 1), 0.1))
        self.second = nn.Sequential(nn.LeakyReLU(SLOPE), nn.Conv2d(now, now, 3, padding=1))
        self.past = nn.Conv2d(before, now, 1) if before != now else nn.Identity()

    def forward(self, x, told, noise):
        scale, shift = self.told(told)[:, :, None, None].chunk(2, dim=1)
        inner = functional.leaky_relu(self.norm(x) * (1 + scale) + shift, SLOPE)
        return (self.past(x) + self.second(self.first(inner) + self.loudness * noise)) / 2**0.5


class Critic(nn.Module):
    """Tells how real images look for what they are said to show.

    No layer mixes the images of a batch, as the gradient penalty demands.

    Parameters
    ----------
    size, width, n_conditions
        As of `Painter`.
    spectral : bool
        Whether each layer is divided by its largest singular value.

    References
    ----------
    Miyato & Koyama 2018, arXiv:1802.05637 (conditions as a projection); Miyato et al. 2018, arXiv:1802.05957 (spectral
    norm).
    """

    def __init__(self, size, width, n_conditions, *, spectral):
        super().__init__()
        limited = spectral_norm if spectral else (lambda layer: layer)
        widths = (4, width, 2 * width, 4 * width, 4 * width)
        layers = [x for k, (a, b) in enumerate(pairwise(widths))
                  for x in (limited(nn.Conv2d(a, b, 4 if k else 3, stride=2 if k else 1, padding=1)),
                            nn.LeakyReLU(SLOPE))]
        side = size // SMALLEST
        self.layers = nn.Sequential(*layers, nn.Flatten(), limited(nn.Linear(4 * width * side**2, 4 * width)),
                                    nn.LeakyReLU(SLOPE))
        self.score = limited(nn.Linear(4 * width, 1))
        self.conditions = limited(nn.Linear(n_conditions, 4 * width))

    def features(self, images):
        """Return what it sees in images, ``(n, 4 * width)``, before it knows what they are said to show."""
        return self.layers(functional.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last))

    def forward(self, images, conditions):
        features = self.features(images)
        return self.score(features)[:, 0] + (self.conditions(conditions) * features).sum(dim=1) / features.shape[1]**0.5
