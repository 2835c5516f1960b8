"""The training of a generator as a run that goes on from block to block of images."""

from __future__ import annotations

import torch

from halopy.learning.checkpoint import copied

__all__ = ["Run"]

WARM_UP = 10


class Run:
    """The state of a training run: networks, optimisers, averaged weights, and the history.

    Parameters
    ----------
    networks : dict
        Torch modules by name.
    optimisers : dict
        An `~halopy.learning.optimiser.AdamW` of each network that is trained.
    averaged : str
        The network whose weights are averaged over the steps; the average is what samples.
    rates : dict, optional
        By how much the learning rate of a network is multiplied, 1 where it is not there.
    decay : float
        Of the average: nearly the last ``1 / (1 - decay)`` steps count.

    Attributes
    ----------
    average, best : dict
        The averaged weights, now and at their best.
    images, stale : int
        How many images were shown, and how many blocks went by since the best.
    rows : list
        The history.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364 (averaged weights); the decay grows from 0.1 as the run does.
    """

    def __init__(self, networks, optimisers, averaged, decay, rates=None):
        self.networks, self.optimisers = networks, optimisers
        self.averaged, self.decay, self.rates = averaged, decay, rates or {}
        self.average = copied(networks[averaged].state_dict())
        self.best = copied(self.average)
        self.rows = []
        self.images = self.stale = 0

    @property
    def device(self):
        return next(self.networks[self.averaged].parameters()).device

    @property
    def counts(self):
        """Numbers that a run goes on from."""
        steps = {f"{name}-steps": optimiser.steps for name, optimiser in self.optimisers.items()}
        return {"images": self.images, "stale": self.stale} | steps

    @counts.setter
    def counts(self, values):
        self.images, self.stale = values["images"], values["stale"]
        for name, optimiser in self.optimisers.items():
            optimiser.steps = values[f"{name}-steps"]

    def tensors(self):
        """Return the tensors of a run, which a checkpoint keeps, in groups."""
        networks = {f"network.{name}": network.state_dict() for name, network in self.networks.items()}
        moments = {f"moment.{name}": optimiser.moments for name, optimiser in self.optimisers.items()}
        return networks | moments | {"average": self.average, "best": self.best}

    def step(self, name, loss):
        """Take one step of a network down the gradient of a loss; returns the loss as a number."""
        self.optimisers[name].step(loss)
        if name == self.averaged:
            steps = self.optimisers[name].steps
            decay = min(self.decay, (steps + 1) / (steps + WARM_UP))
            with torch.no_grad():
                for key, tensor in self.networks[name].state_dict().items():
                    self.average[key].lerp_(tensor, 1 - decay)
        return float(loss.detach())

    def learning_rate(self, value):
        """Set the learning rate of all optimisers."""
        for name, optimiser in self.optimisers.items():
            optimiser.learning_rate = value * self.rates.get(name, 1)

    def keep(self):
        """Keep the averaged weights as the best ones."""
        self.best, self.stale = copied(self.average), 0
