"""What a training run is judged by: groups held out, classes that weigh the same, and a row an epoch."""

from __future__ import annotations

import numpy as np
import torch
from astropy.table import QTable
from torch import nn

from halopy.model import group_hashes

__all__ = ["COLUMNS", "class_weights", "history_table", "loss_and_accuracy", "unseen", "validation_rows"]

COLUMNS = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


def validation_rows(targets, groups, fraction, rng, new=None):
    """Return which rows are held out, ``(n,)`` bool: a fraction of the groups with halos, and of those without.

    ``new``, ``(n,)`` bool, says which rows a model has not been trained on before: where there are any, only those
    are held out.
    """
    if new is not None and new.any():
        held_out = np.zeros(len(targets), dtype=bool)
        held_out[new] = validation_rows(targets[new], groups[new], fraction, rng)
        return held_out
    names, inverse = np.unique(groups, return_inverse=True)
    with_halo = np.bincount(inverse, weights=targets) > 0
    chosen = np.zeros(len(names), dtype=bool)
    for kind in (with_halo, ~with_halo):
        # Generated images are no sky of their own: to stop by them would be to stop by the generator.
        here = rng.permutation(np.flatnonzero(kind & (names != "generated")))
        if len(here) > 1 and fraction > 0:
            chosen[here[:min(len(here) - 1, max(1, round(fraction * len(here))))]] = True
    # Groups can hold halos and others; what is left to train on must still have both.
    left = targets[~chosen[inverse]]
    return chosen[inverse] if len(set(left)) == 2 else np.zeros(len(targets), dtype=bool)


def unseen(groups, hashes):
    """Return which rows, ``(n,)`` bool, are of groups that are none of those with these hashes."""
    names, inverse = np.unique(groups, return_inverse=True)
    return np.array([group_hashes([name])[0] not in set(hashes) for name in names], dtype=bool)[inverse]


def class_weights(targets):
    """Return the weights of the two classes, with which both count the same and the mean is 1."""
    counts = torch.stack([(targets == 0).sum(), (targets == 1).sum()])
    return len(targets) / (2 * counts.clamp(min=1).float())


def loss_and_accuracy(logits, targets, weight):
    """Return the weighted cross-entropy of logits, and the fraction of them on the right side of 0."""
    loss = nn.functional.binary_cross_entropy_with_logits(logits, targets, weight=weight[targets.long()])
    return [float(loss), float(((logits > 0) == (targets > 0.5)).float().mean())]


def history_table(rows):
    """Return a table of the epochs from ``(n, 3)`` or, with groups held out, ``(n, 5)`` numbers."""
    table = QTable({name: rows[:, i] for i, name in enumerate(COLUMNS[:rows.shape[1]])})
    table["epoch"] = table["epoch"].astype(int)
    return table
