"""A convolutional stem and one block of attention."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from halopy.classify.training import NetworkClassifier
from halopy.errors import HaloInputError

__all__ = ["AttentionClassifier"]

HEADS = 4


class AttentionClassifier(NetworkClassifier):
    """Three convolutions make 8 × 8 tokens, which look at each other with four heads; 0.036 million parameters.

    The settings are those of `~halopy.classify.training.NetworkClassifier`; ``width`` (default 48, a
    multiple of 4) is the length of a token.

    References
    ----------
    Vaswani et al. 2017, arXiv:1706.03762 (multi-head attention); Xiao et al. 2021, arXiv:2106.14881
    (why the stem is convolutional).

    Examples
    --------
    >>> from halopy import classifiers
    >>> classifiers.create("attention-cnn", max_epochs=20)
    AttentionClassifier(max_epochs=20)
    """

    default_width = 48

    def _network(self):
        return _Network(self.width or self.default_width, self.size, self.dropout)

    def _check(self):
        super()._check()
        if self.width is not None and self.width % HEADS:
            raise HaloInputError(f"width must be a multiple of {HEADS}, the number of heads", found=self.width)


class _Network(nn.Module):

    def __init__(self, width, size, dropout):
        super().__init__()
        channels = (1, max(1, width // 3), max(1, 2 * width // 3), width)
        self.features = nn.Sequential(*(
            x for a, b in pairwise(channels)
            for x in (nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU())))
        self.place = nn.Parameter(0.02 * torch.randn((-(-size // 8)) ** 2, width))
        self.before, self.between, self.after = (nn.LayerNorm(width) for _ in range(3))
        self.project = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(2 * width, 1)

    def head(self, features):
        tokens = features.flatten(2).transpose(1, 2) + self.place
        n, length, width = tokens.shape
        query, key, value = (x.reshape(n, length, HEADS, -1).transpose(1, 2)
                             for x in self.project(self.before(tokens)).chunk(3, dim=2))
        seen = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.dropout(self.join(seen.transpose(1, 2).reshape(n, length, width)))
        tokens = tokens + self.dropout(self.mix(self.between(tokens)))
        tokens = self.after(tokens)
        # The mean alone would hide a single token among the others.
        return self.last(torch.cat([tokens.mean(1), tokens.amax(1)], dim=1))[:, 0]

    def forward(self, images):
        return self.head(self.features(images))
