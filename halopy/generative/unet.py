"""The network of the diffusion models."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["UNet"]

GROUP = 8
"""Channels that are normalised together."""
SPOTS, SPOT = 4, 0.1
"""Channels with a spot at the centre, and its Gaussian width over that of the image."""
ATTENTION = 12
"""Grids of so many pixels or less a side have attention: there every pixel can look at every other at little cost."""


class UNet(nn.Module):
    """A U-shaped network of residual blocks that is told the noise level and the conditions.

    What it is told is of the centre of the image, and convolutions do not know where that is: the conditions enter
    as a spot at the centre, too.

    Parameters
    ----------
    channels : int
        Of the images.
    size : int
        Pixels a side, a multiple of ``4 * fold``.
    width : int
        Channels at the first level, a multiple of 8.
    n_conditions : int
        Numbers that it is told.
    dropout : float
    fold : int, optional
        Images enter as ``fold`` x ``fold`` pixels in as many channels, default 2, which makes it three times as fast.

    References
    ----------
    Ronneberger et al. 2015, arXiv:1505.04597; Ho et al. 2020, arXiv:2006.11239 (residual blocks and attention);
    Shi et al. 2016, arXiv:1609.05158 (pixels into channels).
    """

    def __init__(self, channels, size, width, n_conditions, dropout, fold=2):
        super().__init__()
        self.fold = fold
        widths, inner = (width, 2 * width, 2 * width), 4 * width
        self.register_buffer("frequencies", torch.exp(torch.linspace(-2, 3, width)))
        self.level = nn.Linear(2 * width, inner)
        self.conditions = nn.Linear(n_conditions, inner)
        self.embed = nn.Linear(inner, inner)
        self.spots = nn.Linear(n_conditions, SPOTS)
        self.register_buffer("spot", _spot(size // fold))
        self.first = nn.Conv2d(fold**2 * channels + SPOTS, width, 3, padding=1)
        self.down, self.up, left, side = nn.ModuleList(), nn.ModuleList(), [width], size // fold
        before = width
        for k, now in enumerate(widths):
            self.down.append(_Block(before, now, inner, dropout, attention=side <= ATTENTION))
            left.append(now)
            before = now
            if k < len(widths) - 1:
                side //= 2
        self.middle = _Block(before, before, inner, dropout)
        for now in reversed(widths):
            self.up.append(_Block(before + left.pop(), now, inner, dropout))
            before = now
        self.last = nn.Sequential(nn.GroupNorm(before // GROUP, before), nn.SiLU(),
                                  _silent(nn.Conv2d(before, fold**2 * channels, 3, padding=1)))

    def forward(self, images, level, conditions):
        """Return ``(n, channels, size, size)`` of as many images, levels ``(n,)`` and conditions ``(n, k)``."""
        angles = level[:, None] * self.frequencies
        told = self.level(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.conditions(conditions)
        told = functional.silu(self.embed(functional.silu(told)))
        spots = (1 + self.spots(conditions))[:, :, None, None] * self.spot
        x = torch.cat([functional.pixel_unshuffle(images, self.fold), spots], dim=1)
        x = self.first(x.contiguous(memory_format=torch.channels_last))
        kept = []
        for k, block in enumerate(self.down):
            x = block(functional.avg_pool2d(x, 2) if k else x, told)
            kept.append(x)
        x = self.middle(x, told)
        for k, block in enumerate(self.up):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0) if k else x, kept.pop()], dim=1), told)
        return functional.pixel_shuffle(self.last(x), self.fold)


def _spot(size):
    """Return a Gaussian at the centre of ``(size, size)`` pixels."""
    x = (torch.arange(size) - (size - 1) / 2) / (SPOT * size)
    return torch.exp(-0.5 * (x**2 + x[:, None] ** 2))


class _Block(nn.Module):
    """Two convolutions, scaled and shifted by what the network is told, beside a way past them."""

    def __init__(self, before, now, told, dropout, attention=False):
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(before // GROUP, before), nn.SiLU(),
                                   nn.Conv2d(before, now, 3, padding=1))
        self.told = nn.Linear(told, 2 * now)
        self.norm = nn.GroupNorm(now // GROUP, now)
        self.second = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), _silent(nn.Conv2d(now, now, 3, padding=1)))
        self.past = nn.Conv2d(before, now, 1) if before != now else nn.Identity()
        self.attention = _Attention(now) if attention else nn.Identity()

    def forward(self, x, told):
        scale, shift = self.told(told)[:, :, None, None].chunk(2, dim=1)
        return self.attention(self.past(x) + self.second(self.norm(self.first(x)) * (1 + scale) + shift))


class _Attention(nn.Module):
    """Every pixel looks at every other."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(channels // GROUP, channels)
        self.ask = nn.Conv2d(channels, 3 * channels, 1)
        self.answer = _silent(nn.Conv2d(channels, channels, 1))

    def forward(self, x):
        query, key, value = self.ask(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        found = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        return x + self.answer(found.reshape(x.shape).contiguous(memory_format=torch.channels_last))


def _silent(layer):
    """Let a layer begin with zeros: a new block changes nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
