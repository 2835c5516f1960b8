"""The training of a classifier as a run that goes on from epoch to epoch."""

from __future__ import annotations

from torch import nn

from halopy.learning.checkpoint import copied
from halopy.learning.optimiser import AdamW

__all__ = ["Run"]


class Run:
    """The state of a training run: network, optimiser, the best weights so far, and the history.

    Parameters
    ----------
    network : `torch.nn.Module`
        Turns images into logits, ``(n,)``, or ``(n, members)`` where several are trained at once.
    learning_rate, weight_decay : float
        Of AdamW.
    """

    def __init__(self, network, learning_rate, weight_decay):
        self.network = network
        self.optimiser = AdamW(network, learning_rate, weight_decay=weight_decay)
        self.best = copied(network.state_dict())
        self.rows = []
        self.epoch = self.images = self.stale = 0

    @property
    def device(self):
        return next(self.network.parameters()).device

    @property
    def counts(self):
        """Numbers that a run goes on from."""
        return {"epoch": self.epoch, "images": self.images, "stale": self.stale, "steps": self.optimiser.steps}

    @counts.setter
    def counts(self, values):
        self.epoch, self.images, self.stale, self.optimiser.steps = (
            values[name] for name in ("epoch", "images", "stale", "steps"))

    def tensors(self):
        """Return the tensors of a run, which a checkpoint keeps, in groups."""
        return {"network": self.network.state_dict(), "best": self.best, "moment": self.optimiser.moments}

    def step(self, images, targets, weight):
        """Take one step down the gradient; returns the logits, of several members their mean."""
        self.network.train()
        logits = self.network(images)
        members = logits.reshape(len(targets), -1)
        loss = nn.functional.binary_cross_entropy_with_logits(
            members, targets[:, None].expand_as(members), weight=weight[targets.long()][:, None])
        self.optimiser.step(loss)
        return members.detach().mean(dim=1)

    def end_epoch(self, row, images):
        """Count an epoch, and keep its weights if it is the best; without held-out groups the last is."""
        self.rows.append(row)
        self.epoch, self.images = self.epoch + 1, images
        losses = [r[3] for r in self.rows] if len(row) > 3 else []
        if not losses or losses[-1] <= min(losses):
            self.best, self.stale = copied(self.network.state_dict()), 0
        else:
            self.stale += 1
