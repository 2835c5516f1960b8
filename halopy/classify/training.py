"""What the networks share: settings, training, checkpoints, prediction."""

from __future__ import annotations

import copy
import hashlib
import logging
import time
from abc import abstractmethod
from functools import partial

import numpy as np
import torch
from torch import nn

from halopy.classify.base import Classifier, check_training
from halopy.classify.domain import training_range
from halopy.classify.explain import occlusion
from halopy.classify.gradcam import grad_cam
from halopy.classify.held_out import class_weights, history_table, loss_and_accuracy, unseen, validation_rows
from halopy.classify.logistic import training_labels
from halopy.classify.network_settings import check_settings
from halopy.classify.run import Run
from halopy.errors import HaloInputError
from halopy.labels import GRADES
from halopy.learning.checkpoint import read_checkpoint, tensors_from, write_checkpoint
from halopy.learning.inputs import cutout_grid, has_signal, model_input
from halopy.learning.threads import one_thread
from halopy.learning.views import augmented, dihedral
from halopy.model import group_hashes

__all__ = ["NetworkClassifier"]

logger = logging.getLogger(__name__)

# Logits beyond this are compressed, so that double precision still tells their probabilities apart.
LINEAR = 8.0
CHUNK = 64


class NetworkClassifier(Classifier):
    """A network that sees cutouts in units of the noise on a grid relative to the beam.

    Trained with binary cross-entropy in which halos and the others weigh the same, so a probability
    is that of a sample with as many halos as others. The weights of the epoch that does best on held-out
    groups are kept. A subclass writes ``_network``, which makes the torch module, and has a ``default_width``.

    Parameters
    ----------
    size : int, optional
        Pixels of the input, default 64; see `~halopy.learning.inputs.model_input`.
    pixels_per_beam : float or None, optional
        Scale of the input, default 3; None: the cutouts' own grid.
    width : int, optional
        How wide the network is; None (default): its own ``default_width``.
    dropout : float, optional
        Fraction of the features that is dropped in training, default 0.1.
    grades : sequence of str, optional
        The grades of halos to train on, default all three. Halos of other grades are left out: they
        are no examples of anything else either.
    views : int, optional
        Whose logits are averaged for each cutout: 8 (default; turned by right angles and mirrored, so
        that a probability does not depend on the orientation), 4 (turned only) or 1.
    max_epochs : int, optional
        Default 60.
    batch_size : int, optional
        Default 32.
    learning_rate, weight_decay : float, optional
        Of AdamW, default 0.001 and 0.01.
    patience : int, optional
        Stop after so many epochs without a lower loss on the held-out groups, default 10.
    validation_fraction : float, optional
        Fraction of the groups, of those with halos and of those without, that is held out, default
        0.2; at least one of each where there are two. 0: none, and the last epoch's weights are kept.
    augment : bool, optional
        Show randomly turned, mirrored, shifted (2 pixels at most) and brighter or fainter (10 %) images
        in training, default True.
    device : str, optional
        A device of torch, default ``"cpu"``.

    Attributes
    ----------
    history : `~astropy.table.QTable`
        A row an epoch: ``epoch``, ``train_loss``, ``train_accuracy`` (of the images as they were shown) and,
        where groups were held out, ``validation_loss`` and ``validation_accuracy``.
    temperature_ : float
        Logits are divided by it before they become probabilities; 1 after training.

    Notes
    -----
    The same rng gives the same bytes on one machine: networks train and predict on one thread.

    ``fit(checkpoint=path)`` writes the state after every epoch, and continues from it to the same
    bytes; the rng has to be a seed, the same one. A file of other settings, cutouts or seed is refused.

    References
    ----------
    Loshchilov & Hutter 2019, arXiv:1711.05101 (AdamW); He et al. 2015, arXiv:1502.01852 (the weights at the
    start); Guo et al. 2017, arXiv:1706.04599 (temperature).
    """

    default_width = 16
    history = None
    temperature_ = 1.0
    _augmented, _view = staticmethod(augmented), staticmethod(dihedral)
    _convolutional_part = "features"

    def __init__(self, *, size=64, pixels_per_beam=3.0, width=None, dropout=0.1, grades=GRADES, views=8, max_epochs=60,
                 batch_size=32, learning_rate=1e-3, weight_decay=0.01, patience=10, validation_fraction=0.2,
                 augment=True, device="cpu"):
        self.size = size
        self.pixels_per_beam = pixels_per_beam
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
        self.augment = augment
        self.device = device

    @abstractmethod
    def _network(self):
        """Return a new torch module that turns ``(n, 1, size, size)`` into ``(n,)`` logits.

        A convolutional one has two parts, ``features`` and ``head``, for `explain`.
        """

    def explain(self, cutouts, *, method=None):
        """Show what in each cutout speaks for a halo.

        Parameters
        ----------
        cutouts : CutoutSet
            ``(n, ny, nx)``.
        method : {"grad-cam", "occlusion"}, optional
            Gradient-weighted class activation, or by how much the logit falls when a patch of the cutout
            is covered (`~halopy.classify.explain.occlusion`). None (default): the first where the network
            has convolutions.

        Returns
        -------
        CutoutSet
            Maps on the cutouts' own pixels, in logits, positive where something speaks for a halo, with the
            cutouts' table, so that `~halopy.CutoutSet.wcs` fits them; NaN where the network sees nothing.

        References
        ----------
        Selvaraju et al. 2017, arXiv:1610.02391 (Grad-CAM), in the form of Draelos & Carin 2020,
        arXiv:2011.08891; Zeiler & Fergus 2014, arXiv:1311.2901 (occlusion).
        """
        self._check_use(cutouts)
        convolutional = hasattr(self._module, self._convolutional_part)
        if method is None:
            method = "grad-cam" if convolutional else "occlusion"
        if method == "occlusion":
            return occlusion(self, cutouts)
        if method != "grad-cam":
            raise HaloInputError("method must be 'grad-cam' or 'occlusion'", found=method)
        if not convolutional:
            raise HaloInputError("Grad-CAM needs a network with convolutions", found=type(self).__name__,
                                 hint="method='occlusion'")
        inputs = self._inputs(cutouts)
        with one_thread():
            maps = [self._maps(inputs[i:i + CHUNK]) for i in range(0, len(inputs), CHUNK)]
        maps = np.concatenate([np.zeros((0, self.size, self.size)), *maps])
        maps[~has_signal(inputs)] = np.nan
        return cutouts.replace(data=cutout_grid(maps, cutouts, pixels_per_beam=self.pixels_per_beam), unit="")

    def logit(self, cutouts):
        """Return the network's logits before calibration, ``(n,)``; NaN where there is nothing to see."""
        self._check_use(cutouts)
        inputs = self._inputs(cutouts)
        usable = has_signal(inputs)
        result = np.full(len(inputs), np.nan)
        result[usable] = self._logits(self._module, inputs[usable])
        return result

    def probability(self, logit):
        """Return the logistic of logit / temperature, whose argument grows as a logarithm beyond 8.

        Double precision has no room between 1 and what a plain logistic makes of a logit of 37, and a
        stronger halo must not have the same probability as a weaker one.
        """
        z = np.asarray(logit, dtype=float) / self.temperature_
        far = np.maximum(np.abs(z) - LINEAR, 0)
        return 1 / (1 + np.exp(-(np.clip(z, -LINEAR, LINEAR) + np.sign(z) * np.log1p(far))))

    def _predict_proba(self, cutouts):
        return self.probability(self.logit(cutouts))

    def finetune(self, cutouts, *, learning_rate=None, max_epochs=None, progress=None, max_seconds=None,
                 max_images=None, rng=None):
        """Continue the training on new labelled cutouts, from the weights that this model has.

        Groups of the new cutouts are held out as in `fit`, of those that the model has not seen where there are any,
        and the weights of the best epoch are kept: those of the start, if no epoch is better.

        Parameters
        ----------
        cutouts : CutoutSet
            With columns ``label`` and ``group``.
        learning_rate : float, optional
            Default a tenth of the setting ``learning_rate``, so that a few new cutouts do not undo what was learnt
            from many. That is a custom, not the best value for your cutouts: the history tells.
        max_epochs : int, optional
            Default the setting ``max_epochs``.
        progress, max_seconds, max_images, rng : optional
            As of `fit`.

        Returns
        -------
        NetworkClassifier
            A new model; this one stays as it is. It has the settings of this one and the groups of both trainings.
            Its ``history`` is that of this training alone, with the weights at the start as epoch 0; its
            ``temperature_`` is 1, for one that was fitted to the old weights says nothing of the new ones.

        Raises
        ------
        NotFittedError
            This model has not been trained.
        HaloInputError
            As of `fit`.
        """
        rng = np.random.default_rng(rng)
        check_training(cutouts)
        self._check_use(cutouts)
        tuned = copy.deepcopy(self)
        tuned.learning_rate = self.learning_rate / 10 if learning_rate is None else learning_rate
        tuned.max_epochs = self.max_epochs if max_epochs is None else max_epochs
        tuned._fit(cutouts, rng=rng, progress=progress, max_seconds=max_seconds, max_images=max_images,
                   checkpoint=None, start=self)
        tuned.learning_rate, tuned.max_epochs = self.learning_rate, self.max_epochs
        tuned.groups_ = tuple(sorted({*self.groups_, *group_hashes(cutouts.table["group"]),
                                      *cutouts.meta.get("seen_groups", ())}))
        tuned.trained_on_ = training_range(cutouts.table, self.trained_on_)
        return tuned

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint, start=None):
        self._check()
        seed = int(rng.integers(2**63))
        inputs, targets, groups = self._examples(cutouts)
        new = None if start is None else unseen(groups, start.groups_)
        held_out = validation_rows(targets, groups, self.validation_fraction, np.random.default_rng(seed), new)
        devices = [] if torch.device(self.device).type == "cpu" else [torch.device(self.device)]
        with torch.random.fork_rng(devices=devices), one_thread():
            torch.manual_seed(seed)
            run = Run(self._build(), self.learning_rate, self.weight_decay)
            if start is not None:
                run.network.load_state_dict(start._module.state_dict())
                run.best = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
            token = self._token(seed, inputs, targets, groups)
            if checkpoint is not None:
                read_checkpoint(checkpoint, run, token)
            save = None if checkpoint is None else partial(write_checkpoint, checkpoint, run, token)
            self._train(run, self._tensor(inputs), torch.as_tensor(targets, device=self.device), held_out, progress,
                        max_seconds, max_images, save, from_start=start is not None)
        run.network.load_state_dict(run.best)
        self._module = run.network.eval()
        self._rows, self.temperature_ = np.array(run.rows, dtype=float), 1.0
        self.history = history_table(self._rows)

    def _train(self, run, inputs, targets, held_out, progress, max_seconds, max_images, save, from_start=False):
        from tqdm import tqdm

        train, test = (torch.as_tensor(np.flatnonzero(x), device=self.device) for x in (~held_out, held_out))
        weight = class_weights(targets[train])

        def row(epoch, logits, rows):
            numbers = [epoch, *loss_and_accuracy(logits, targets[rows], weight)]
            if len(test):
                found = torch.as_tensor(self._logits(run.network, inputs[test], views=1)).float()
                # Held-out groups are balanced by themselves: their mixture is not that of the others.
                numbers += loss_and_accuracy(found, targets[test].cpu(), class_weights(targets[test].cpu()))
            if not np.isfinite(numbers).all():
                raise HaloInputError("the loss must stay finite", found=f"{numbers[1]} in epoch {epoch}",
                                     hint="a lower learning_rate")
            return numbers

        if from_start:
            logits = torch.as_tensor(self._logits(run.network, inputs[train], views=1), device=self.device).float()
            run.rows.append(row(0, logits, train))
        start, spent = time.monotonic(), bool(run.rows) and max_images is not None and run.images >= max_images
        bar = tqdm(total=self.max_epochs, initial=run.epoch, desc="epochs", leave=False,
                   disable=None if progress is None else not progress)
        with bar:
            while not (spent or run.epoch >= self.max_epochs or run.stale >= self.patience):
                order = train[torch.randperm(len(train)).to(self.device)]
                logits = torch.zeros(len(train), device=self.device)
                seen, images = 0, run.images
                while seen < len(order) and not spent:
                    batch = order[seen:seen + self.batch_size]
                    shown = self._augmented(inputs[batch]) if self.augment else inputs[batch]
                    logits[seen:seen + len(batch)] = run.step(shown, targets[batch], weight)
                    seen, images = seen + len(batch), images + len(batch)
                    spent = (max_images is not None and images >= max_images
                             or max_seconds is not None and time.monotonic() - start >= max_seconds)
                run.end_epoch(row(run.epoch + 1, logits[:seen], order[:seen]), images)
                # A part of an epoch is no place to continue from to the same bytes.
                if seen == len(order) and save is not None:
                    save()
                bar.update()

    def _examples(self, cutouts):
        """Return inputs, targets and groups of the cutouts that can be trained on."""
        positive, used = training_labels(cutouts.table, grades=self.grades)
        inputs = self._inputs(cutouts)
        usable = has_signal(inputs) & used
        if not usable.all():
            logger.info("%d of %d cutouts are left out: they are empty, or halos of another grade", (~usable).sum(),
                        len(usable))
        targets = positive[usable].astype(np.float32)
        if len(set(targets)) < 2:
            raise HaloInputError("training needs cutouts with halos and cutouts without",
                                 found=f"{int(targets.sum())} halos among {len(targets)}",
                                 hint="halopy.simulate.cutouts for more")
        groups = np.ma.filled(np.ma.asarray(cutouts.table["group"]), "").astype(str)[usable]
        return inputs[usable], targets, groups

    def _inputs(self, cutouts):
        return model_input(cutouts, size=self.size, pixels_per_beam=self.pixels_per_beam)

    def _maps(self, inputs):
        return grad_cam(self._module, self._tensor(inputs), self.views)

    def _tensor(self, inputs):
        return torch.as_tensor(inputs, device=self.device)[:, None]

    def _build(self):
        network = self._network()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                # torch's own start lets the signal fade from layer to layer.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        return network.to(device=self.device, memory_format=torch.channels_last)

    def _logits(self, network, inputs, views=None):
        """Return the mean logit of the views of each image, ``(n,)`` float64."""
        network.eval()
        inputs = inputs if torch.is_tensor(inputs) else self._tensor(inputs)
        views, result = self.views if views is None else views, [np.zeros(0)]
        with torch.inference_mode(), one_thread():
            for start in range(0, len(inputs), CHUNK):
                part = inputs[start:start + CHUNK]
                logits = [network(self._view(part, k)).double() for k in range(views)]
                result.append((sum(logits) / views).cpu().numpy())
        return np.concatenate(result)

    def _token(self, seed, inputs, targets, groups):
        """Return what tells this run from any other."""
        data = hashlib.sha256()
        for array in (inputs, targets):
            data.update(np.ascontiguousarray(array).tobytes())
        settings = {k: list(v) if isinstance(v, tuple) else v for k, v in self.params.items() if k != "device"}
        data.update("\n".join(groups).encode())
        return {"model": type(self).__name__, "settings": settings, "cutouts": data.hexdigest(), "rng": seed}

    def _check(self):
        check_settings(self)

    def _state(self):
        if self.history is None:
            return {}
        weights = {f"weight.{k}": v.detach().cpu().contiguous().numpy() for k, v in self._module.state_dict().items()}
        return weights | {"history": self._rows, "temperature": np.array([self.temperature_])}

    def _set_state(self, state):
        if not state:
            if self.fitted_:
                raise HaloInputError("a trained network has weights, and this file has none of them")
            return
        self._check()
        state, extra = dict(state), {}
        for name in ("history", "temperature"):
            if name not in state:
                raise HaloInputError("an array is missing", keyword=name, found=sorted(state))
            extra[name] = np.asarray(state.pop(name), dtype=float)
        if extra["temperature"].shape != (1,) or not extra["temperature"][0] > 0:
            raise HaloInputError("the temperature must be one positive number", keyword="temperature",
                                 found=extra["temperature"])
        if extra["history"].ndim != 2 or extra["history"].shape[1] not in (3, 5):
            raise HaloInputError("the history has three or five columns", keyword="history",
                                 found=extra["history"].shape)
        with torch.random.fork_rng(devices=[]):
            network = self._build()
        network.load_state_dict(tensors_from(state, "weight.", network.state_dict()))
        self._module = network.eval()
        self._rows, self.temperature_ = extra["history"], float(extra["temperature"][0])
        self.history = history_table(self._rows)
        super()._set_state(state)
