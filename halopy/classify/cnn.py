"""A small convolutional network."""

from __future__ import annotations

from torch import nn

from halopy.classify.training import NetworkClassifier

__all__ = ["ConvolutionalClassifier", "ConvolutionalNetwork"]


class ConvolutionalClassifier(NetworkClassifier):
    """Four convolutions and a hidden layer, as LeNet, with 0.05 million parameters.

    Each convolution takes every second pixel instead of pooling afterwards, which is what makes it
    fast: most of the work of a network of this size is in its first layers. The hidden layer sees
    where in the cutout a feature is, as a halo is at the centre.

    The settings are those of `~halopy.classify.training.NetworkClassifier`; ``width`` (default 16) is
    the number of channels of the first convolution.

    References
    ----------
    LeCun et al. 1998, Proc. IEEE 86, 2278, doi:10.1109/5.726791; Springenberg et al. 2015,
    arXiv:1412.6806 (strides in place of pooling).

    Examples
    --------
    >>> from halopy import classifiers
    >>> classifiers.create("cnn", views=1)
    ConvolutionalClassifier(views=1)
    """

    default_width = 16

    def _network(self):
        return ConvolutionalNetwork(self.width or self.default_width, self.size, self.dropout)


class ConvolutionalNetwork(nn.Module):
    """The network of `ConvolutionalClassifier`, for images of ``size`` pixels: ``(n, 1, size, size)`` to ``(n,)``."""

    def __init__(self, width, size, dropout):
        super().__init__()
        channels = (1, width, 2 * width, 3 * width, max(1, 3 * width // 2))
        kernels = (5, 3, 3, 3)
        convolutions = [nn.Conv2d(a, b, k, stride=2, padding=k // 2)
                        for a, b, k in zip(channels[:-1], channels[1:], kernels, strict=True)]
        left = -(-size // 16)
        # Everything up to the last convolution: its 8 x 8 pixels are what Grad-CAM can tell apart.
        self.features = nn.Sequential(*(x for c in convolutions[:3] for x in (c, nn.ReLU())))
        self.rest = nn.Sequential(convolutions[3], nn.ReLU(), nn.Flatten(), nn.Dropout(dropout),
                                  nn.Linear(channels[-1] * left**2, 3 * width), nn.ReLU(), nn.Linear(3 * width, 1))

    def head(self, features):
        return self.rest(features)[:, 0]

    def forward(self, images):
        return self.head(self.features(images))
