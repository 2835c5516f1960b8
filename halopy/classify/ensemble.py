"""Several networks that look at a cutout's pixels and at what was measured of it; the model with weights that ships."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np
import torch
from torch import nn

from halopy.classify.cnn import ConvolutionalNetwork
from halopy.classify.gradcam import grad_cam
from halopy.classify.halo_features import halo_features
from halopy.classify.training import CHUNK, NetworkClassifier
from halopy.errors import HaloInputError
from halopy.labels import GRADES
from halopy.learning.inputs import has_signal, model_input
from halopy.learning.threads import one_thread
from halopy.learning.views import augmented, dihedral

__all__ = ["Ensemble"]

N_FEATURES = 97
"""How many numbers `halo_features` makes."""
FAR = 6.0
"""Numbers count up to so many standard deviations: nothing can be learnt from what lies farther out."""


class Ensemble(NetworkClassifier):
    """The mean of several members: some see the pixels, the others what was measured.

    The pixels are those of `~halopy.learning.inputs.model_input`, seen by members like ``cnn``; the
    numbers those of `~halopy.classify.halo_features.halo_features`, which know the matched filter, compact sources
    and shapes, seen by small fully connected members. All are trained at once, each by its own loss; their logits
    are averaged. Everything is in units of the noise and of the beam, so that one model serves many surveys.

    Parameters
    ----------
    n_numeric, n_convolutional : int, optional
        How many members see the numbers, and the pixels; default 4 and 3.
    width, dropout : int, float, optional
        Of the members that see the numbers, default 128 units in the first layer and 0.2.
    grades, views, max_epochs, batch_size, learning_rate, weight_decay, patience, validation_fraction, device
        As of the other networks (`~halopy.classify.training.NetworkClassifier`); default 24 epochs, 64 cutouts a
        batch, a tenth of the groups held out.

    Notes
    -----
    ``classifiers.pretrained("ensemble")`` has the weights that ship with halopy. They were trained on simulated
    sky, on halos injected into control positions of NVSS fields, and on the labelled GLEAM and NVSS targets that
    the model card in the documentation names, by ``tools/train_ensemble.py``.

    References
    ----------
    Lakshminarayanan et al. 2017, arXiv:1612.01474 (ensembles of networks).

    Examples
    --------
    >>> from halopy import classifiers, simulate
    >>> ensemble = classifiers.pretrained("ensemble")
    >>> ensemble.predict_proba(simulate.cutouts(3, survey="nvss", rng=1)).shape
    (3,)
    """

    _convolutional_part = "convolutional"
    size = 64
    pixels_per_beam = 3.0
    augment = True
    default_width = 128

    def __init__(self, *, n_numeric=4, n_convolutional=3, width=None, dropout=0.2, grades=GRADES, views=8,
                 max_epochs=24, batch_size=64, learning_rate=1e-3, weight_decay=0.01, patience=8,
                 validation_fraction=0.1, device="cpu"):
        self.n_numeric = n_numeric
        self.n_convolutional = n_convolutional
        self.width = width
        self.dropout = dropout
        self.grades = grades
        self.views = views
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.device = device

    @classmethod
    def pretrained(cls):
        """Return the ensemble with the weights that ship with halopy."""
        with as_file(files("halopy") / "data" / "ensemble.safetensors") as path:
            return cls.load(path)

    def statistic(self, cutouts):
        """Return the mean logit of the members, ``(n,)``; NaN where nothing can be scored."""
        return self.logit(cutouts)

    def members(self, cutouts):
        """Return the logit of each member, ``(n, n_numeric + n_convolutional)``; NaN where nothing can be scored.

        Their scatter tells how far the members agree.
        """
        self._check_use(cutouts)
        inputs = self._inputs(cutouts)
        result = np.full((len(inputs), self.n_numeric + self.n_convolutional), np.nan)
        rows = np.flatnonzero(has_signal(inputs))
        with torch.inference_mode(), one_thread():
            for part in np.split(rows, range(CHUNK, len(rows), CHUNK)):
                images = self._tensor(inputs[part])
                logits = [self._module.each(self._view(images, k)).double() for k in range(self.views)]
                result[part] = (sum(logits) / self.views).cpu().numpy()
        return result

    def explain(self, cutouts, *, method=None):
        """Show what in each cutout speaks for a halo, by the members that see the pixels.

        Parameters and result are those of `halopy.classify.training.NetworkClassifier.explain`: ``"grad-cam"``
        (default) or ``"occlusion"``, which asks all members.
        """
        if not self.n_convolutional and method == "grad-cam":
            raise HaloInputError("Grad-CAM needs a member with convolutions", found="n_convolutional=0",
                                 hint="method='occlusion'")
        if method is None and not self.n_convolutional:
            method = "occlusion"
        return super().explain(cutouts, method=method)

    def _maps(self, inputs):
        images = _images(self._tensor(inputs))
        return sum(grad_cam(member, images, self.views) for member in self._module.convolutional) / self.n_convolutional

    def _inputs(self, cutouts):
        """Pixels and numbers in one row each, ``(n, 1, size² + k)`` float32; all 0 where nothing can be scored."""
        pixels = model_input(cutouts, size=self.size, pixels_per_beam=self.pixels_per_beam)
        numbers = halo_features(cutouts)[0]
        inputs = np.concatenate([pixels.reshape(len(pixels), self.size**2), numbers], axis=1, dtype=np.float32)
        inputs[~(has_signal(pixels) & np.isfinite(numbers).all(axis=1))] = 0
        return inputs[:, None]

    def _examples(self, cutouts):
        inputs, targets, groups = super()._examples(cutouts)
        numbers = inputs[:, 0, self.size**2:].astype(float)
        self._standard = numbers.mean(axis=0), numbers.std(axis=0) + 1e-6
        return inputs, targets, groups

    def _network(self):
        mean, scale = getattr(self, "_standard", (np.zeros(N_FEATURES), np.ones(N_FEATURES)))
        return _Network(self.n_numeric, self.n_convolutional, self.width or self.default_width, self.dropout, mean,
                        scale)

    def _augmented(self, batch):
        return _with_images(batch, augmented(_images(batch)))

    def _view(self, batch, view):
        return _with_images(batch, dihedral(_images(batch), view)) if view else batch

    def _check(self):
        super()._check()
        for name in ("n_numeric", "n_convolutional"):
            value = getattr(self, name)
            if isinstance(value, bool) or not (isinstance(value, (int, np.integer)) and value >= 0):
                raise HaloInputError(f"{name} must be a whole number, not negative", found=value)
        if not self.n_numeric + self.n_convolutional:
            raise HaloInputError("an ensemble needs at least one member", found="n_numeric=0, n_convolutional=0")


class _Network(nn.Module):

    def __init__(self, n_numeric, n_convolutional, width, dropout, mean, scale):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))
        k = len(mean)
        self.numeric = nn.ModuleList(nn.Sequential(
            nn.Linear(k, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width // 2), nn.GELU(),
            nn.Dropout(dropout), nn.Linear(width // 2, 1)) for _ in range(n_numeric))
        self.convolutional = nn.ModuleList(ConvolutionalNetwork(16, Ensemble.size, 0.1) for _ in range(n_convolutional))

    def each(self, rows):
        """Return the logit of each member, ``(n, members)``."""
        numbers = ((rows[:, 0, 0, Ensemble.size**2:] - self.mean) / self.scale).clamp(-FAR, FAR)
        images = _images(rows)
        return torch.stack([*(member(numbers)[:, 0] for member in self.numeric),
                            *(member(images) for member in self.convolutional)], dim=1)

    def forward(self, rows):
        logits = self.each(rows)
        # In training each member answers for itself.
        return logits if self.training else logits.mean(dim=1)


def _images(rows):
    size = Ensemble.size
    return rows[:, 0, 0, :size**2].reshape(-1, 1, size, size)


def _with_images(rows, images):
    return torch.cat([images.flatten(1), rows[:, 0, 0, Ensemble.size**2:]], dim=1)[:, None, None]
