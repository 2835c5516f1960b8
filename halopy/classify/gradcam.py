"""Gradient-weighted class activation maps."""

from __future__ import annotations

import numpy as np
import torch

from halopy.learning.views import dihedral, undihedral

__all__ = ["grad_cam"]


def grad_cam(network, images, views=1):
    """Return where the features of a convolutional network speak for a halo, and where against.

    Each feature is multiplied with the gradient of the logit with respect to it, at its own place,
    and summed over the channels; several views are turned back and averaged. (The first Grad-CAM takes the
    mean gradient over all places, which says little of a network that knows places: a halo is at the
    centre.)

    Parameters
    ----------
    network : `torch.nn.Module`
        With two parts: ``features`` makes ``(n, channels, ny, nx)`` of the images, ``head`` makes
        ``(n,)`` logits of those.
    images : `torch.Tensor`
        ``(n, 1, size, size)``.
    views : int, optional
        How many of the eight orientations to average, default 1.

    Returns
    -------
    `~numpy.ndarray`
        ``(n, size, size)`` float64: parts of the logit, per pixel of the features.

    References
    ----------
    Draelos & Carin 2020, arXiv:2011.08891 (gradients at their own place); Selvaraju et al. 2017,
    arXiv:1610.02391.
    """
    network.eval()
    total = np.zeros((len(images), *images.shape[2:]))
    for view in range(views):
        with torch.no_grad():
            features = network.features(dihedral(images, view))
        features.requires_grad_(True)
        # An image's logit depends on its own features alone, so the gradient of the sum is that of each.
        gradient, = torch.autograd.grad(network.head(features).sum(), features)
        with torch.no_grad():
            maps = (gradient * features).sum(1, keepdim=True)
            maps = torch.nn.functional.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False)
            total += undihedral(maps[:, 0], view).double().cpu().numpy()
    return total / views
