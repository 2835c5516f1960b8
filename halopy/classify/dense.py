"""A fully connected network."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from halopy.classify.training import NetworkClassifier

__all__ = ["DenseClassifier"]

HIDDEN = 4


class DenseClassifier(NetworkClassifier):
    """Four hidden layers of 250 units on the bare pixels, 1.2 million parameters.

    It knows nothing of what is next to what, and shows what a network without convolutions can do.

    The settings are those of `~halopy.classify.training.NetworkClassifier`; ``width`` (default 250) is
    the number of units of a hidden layer.

    References
    ----------
    Rustige et al. 2023, RASTI 2, 264, arXiv:2212.08504 (a network of these layers on radio galaxies).

    Examples
    --------
    >>> from halopy import classifiers
    >>> classifiers.create("dense", dropout=0.3)
    DenseClassifier(dropout=0.3)
    """

    default_width = 250

    def _network(self):
        width = self.width or self.default_width
        widths = (self.size**2, *(width,) * HIDDEN)
        layers = [x for a, b in pairwise(widths)
                  for x in (nn.Linear(a, b), nn.LeakyReLU(), nn.Dropout(self.dropout))]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, 1), nn.Flatten(0))
