"""What the settings of a network must be."""

from __future__ import annotations

import numpy as np
import torch

from halopy.errors import HaloInputError

__all__ = ["check_settings"]


def check_settings(network):
    """Raise an error that names the setting of a `halopy.classify.training.NetworkClassifier` that cannot be used."""
    whole = {"size": 16, "max_epochs": 1, "batch_size": 1, "patience": 1}
    if network.width is not None:
        whole["width"] = 2
    for name, least in whole.items():
        value = getattr(network, name)
        if isinstance(value, bool) or not (isinstance(value, (int, np.integer)) and value >= least):
            raise HaloInputError(f"{name} must be a whole number of {least} or more", found=value)
    if network.views not in (1, 4, 8):
        raise HaloInputError("views must be 1, 4 or 8", found=network.views)
    if not (0 < network.learning_rate < np.inf and 0 <= network.weight_decay < np.inf):
        raise HaloInputError("learning_rate must be positive, weight_decay must not be negative",
                             found=(network.learning_rate, network.weight_decay))
    if not (0 <= network.dropout < 1 and 0 <= network.validation_fraction < 1):
        raise HaloInputError("dropout and validation_fraction must be in [0, 1)",
                             found=(network.dropout, network.validation_fraction))
    try:
        torch.empty(0, device=network.device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise HaloInputError("device must be one that torch has on this machine", found=network.device,
                             hint="device='cpu'") from error
