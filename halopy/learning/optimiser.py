"""Adam with decoupled weight decay, written out: torch's own imports torch's compiler, which takes seconds."""

from __future__ import annotations

import torch

__all__ = ["AdamW"]

EPSILON = 1e-8


class AdamW:
    """Take steps down gradients, each scaled to a norm of 1 at most.

    Parameters
    ----------
    network : `torch.nn.Module`
        Whose parameters are changed.
    learning_rate : float
    weight_decay : float, optional
        Default 0.
    decay : tuple of float, optional
        Decay rates of the two moments, default (0.9, 0.999).

    Attributes
    ----------
    moments : dict
        Tensors by name: ``1.<parameter>`` and ``2.<parameter>``.
    steps : int
        How many were taken.

    References
    ----------
    Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2; Kingma & Ba 2015, arXiv:1412.6980.
    """

    def __init__(self, network, learning_rate, *, weight_decay=0.0, decay=(0.9, 0.999)):
        self.network = network
        self.learning_rate, self.weight_decay, self.decay = learning_rate, weight_decay, decay
        self.moments = {f"{i}.{name}": torch.zeros_like(p) for name, p in network.named_parameters() for i in (1, 2)}
        self.steps = 0

    def step(self, loss):
        """Take one step down the gradient of a loss."""
        names, parameters = zip(*self.network.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, parameters)
        self.steps += 1
        first, second = self.decay
        with torch.no_grad():
            # One odd batch must not throw the network far off.
            norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
                gradient = gradient / norm.clamp(min=1)
                mean = self.moments[f"1.{name}"].lerp_(gradient, 1 - first)
                square = self.moments[f"2.{name}"].lerp_(gradient.square(), 1 - second)
                scale = (square / (1 - second ** self.steps)).sqrt() + EPSILON
                parameter.mul_(1 - self.learning_rate * self.weight_decay)
                parameter.sub_(self.learning_rate / (1 - first ** self.steps) * mean / scale)
