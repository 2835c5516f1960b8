"""What the trained generators share: their input, conditions, training, files and samples."""

from __future__ import annotations

import hashlib
import time
import warnings
from abc import abstractmethod
from functools import partial
from numbers import Real

import numpy as np
import torch
from astropy import units as u
from astropy.table import QTable, Table

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, HalopyWarning, NotFittedError
from halopy.generative.base import HaloGenerator
from halopy.generative.conditions import CLASSES, class_names, conditions_drawn, given, network_conditions
from halopy.learning.checkpoint import read_checkpoint, tensors_from, write_checkpoint
from halopy.learning.inputs import filled_size, has_signal, model_input, noise_level, signal_to_noise, values_in
from halopy.learning.threads import one_thread
from halopy.learning.views import dihedral
from halopy.model import encode

__all__ = ["TrainedGenerator"]

CHUNK = 32
"""Images that are made at a time."""
BLOCKS = 40
"""Rows of the history of a full training."""
SEEN = 4096
"""So many images of the training set are remembered by their numbers, for samples to draw from."""
RARE = 64
"""Of a class that has fewer among those, so many are, or all that there are."""
NUMBERS = ("snr", "frequency", "beam", "rms")
CLIPPED = 0.5
CENTRE = 2.0
"""Beams from the centre within which the brightest pixel makes the S/N."""
DROPPED = 0.1
"""How often S/N and frequency are kept from the networks in training, each."""
MARGIN = 0.5
"""How far beyond the compressed values of the training set samples may go."""


class TrainedGenerator(HaloGenerator):
    """A generator made of networks, which learns from labelled cutouts of full (not clipped) sky.

    Networks see S/N on a grid relative to the beam, compressed by asinh (`~halopy.learning.inputs.model_input`), and
    samples go the way back. A subclass writes ``_run`` (networks and optimisers), ``_step`` (one step of the training)
    and ``_paint`` (conditions to images).

    Notes
    -----
    Conditions: ``label``; optionally a column of text ``grade`` (a halo that is not ``confirmed`` is a candidate, a
    class of its own); and numbers, where they are given:

    - ``snr``: the brightest pixel within two beams of the centre, over the rms.
    - ``frequency``: a quantity; the nearest one of the training set lends beam and rms.
    - ``rms``: what S/N is multiplied with, in the unit of the training set.

    What is not given is taken from a random image of the training set of the same class; a large set is remembered in
    part, rare classes with up to 64 images each. Samples are in the unit of the training set, on a grid of
    ``pixels_per_beam``, and full sky; `halopy.clip` clips them as it does real ones. Images are shown turned and
    mirrored in training, so the beam of a sample is round, with the area of that of the image.

    The same rng gives the same bytes on one machine. ``fit(checkpoint=path)`` writes the state after every block of
    images, forty in a training, and continues from it to the same bytes; the rng has to be a seed, the same one.

    The weights are rounded to half precision at the end of the training, and saved so.
    """

    optional_conditions = ("snr", "frequency", "rms")
    text_conditions = ("grade",)
    sampling_settings = ("device",)
    history = None
    _columns = ()
    """What a row of the history has besides ``images``."""
    _least = 16
    """Images have a multiple of so many pixels a side."""

    @abstractmethod
    def _run(self):
        """Return a new `halopy.generative.run.Run`."""

    @abstractmethod
    def _step(self, run, images, conditions):
        """Take a step with images ``(n, 1, size, size)`` and conditions ``(n, k)``; return numbers for the history."""

    @abstractmethod
    def _paint(self, networks, conditions, generator):
        """Return images ``(n, 1, size, size)`` for conditions ``(n, k)``."""

    def _end_block(self, run, images, conditions, train, test):
        """Return further numbers for the history, and whether the training goes on; rows of ``test`` are held out."""
        run.keep()
        return [], True

    def _held_out(self, groups, classes, rng):
        """Return which images are not trained on, ``(n,)`` bool."""
        return np.zeros(len(groups), dtype=bool)

    def compressed(self, cutouts):
        """Return cutouts as the networks see them, ``(n, size, size)`` float32 of standard deviation 1 in training."""
        self._check_trained()
        if not isinstance(cutouts, CutoutSet):
            raise HaloInputError("networks see a CutoutSet", found=type(cutouts).__name__, hint="CutoutSet(array)")
        return self._inputs(cutouts) / np.float32(self._scale)

    def _inputs(self, cutouts):
        return model_input(cutouts, size=self.size, pixels_per_beam=self.pixels_per_beam)

    def _check_trained(self):
        if not self.fitted_:
            raise NotFittedError(f"{type(self).__name__} must be trained with fit() or loaded before it is used")
        self._to_device()

    def _to_device(self):
        """Bring the networks to the device that is set now."""
        self._check()
        for network in self._networks.values():
            network.to(self.device)

    def _check(self):
        least = {"size": 16, "width": 8, "batch_size": 1, "n_images": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not (isinstance(value, (int, np.integer)) and value >= low):
                raise HaloInputError(f"{name} must be a whole number of {low} or more", found=value)
        for name, step in (("size", self._least), ("width", 8)):
            if getattr(self, name) % step:
                raise HaloInputError(f"{name} must be a multiple of {step}", found=getattr(self, name))
        if not (isinstance(self.learning_rate, Real) and 0 < self.learning_rate < np.inf):
            raise HaloInputError("learning_rate must be a positive number", found=self.learning_rate)
        if not _has(self.device):
            raise HaloInputError("device must be one that torch has on this machine", found=self.device,
                                 hint="device='cpu'")

    def _examples(self, cutouts):
        """Return the images ``(n, size, size)``, and a table of what they are."""
        empty = ~np.isfinite(cutouts.data).all(axis=(1, 2))
        if empty.any() or not len(cutouts):
            raise HaloInputError("a generator learns from cutouts full of data",
                                 found=f"{empty.sum()} of {len(cutouts)} have pixels without",
                                 hint="cutouts[np.isfinite(cutouts.data).all(axis=(1, 2))]")
        if np.median((cutouts.data == 0).mean(axis=(1, 2))) > CLIPPED:
            warnings.warn("most pixels of these cutouts are 0: they are clipped. A generator spends what it can do on "
                          "the gap between 0 and the clip level; train it on full sky, and clip real and generated "
                          "images alike afterwards (halopy.clip)", HalopyWarning, stacklevel=4)
        filled = filled_size(cutouts, pixels_per_beam=self.pixels_per_beam)
        if (filled < self.size).any():
            fitting = filled.min() // self._least * self._least
            warnings.warn(f"{(filled < self.size).sum()} of {len(cutouts)} cutouts do not fill the {self.size} pixels "
                          f"a side of the images, the smallest {filled.min()} of them: the generator learns the empty "
                          "frame around them as well. Train it on larger cutouts" +
                          (f", or with size={fitting}" if fitting else ""), HalopyWarning, stacklevel=4)
        inputs = self._inputs(cutouts)
        if not has_signal(inputs).all():
            raise HaloInputError("a generator learns from cutouts that show something",
                                 found=f"{(~has_signal(inputs)).sum()} of {len(cutouts)} are of one value",
                                 hint="leave them out")
        n, table = len(cutouts), cutouts.table
        y, x = np.indices(inputs.shape[1:]) - (self.size - 1) / 2
        near = np.hypot(x, y) <= CENTRE * (self.pixels_per_beam or 3)
        seen = Table({"class": class_names(table), "snr": signal_to_noise(inputs[:, near].max(axis=1)),
                      "frequency": np.full(n, np.nan), "beam": np.full(n, np.nan), "rms": noise_level(cutouts)})
        if "frequency" in table.colnames:
            seen["frequency"] = values_in(table["frequency"], u.MHz)
        if self.pixels_per_beam is not None:
            seen["beam"] = np.sqrt(values_in(table["beam_major"], u.arcsec) * values_in(table["beam_minor"], u.arcsec))
        return inputs, seen

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        self._check()
        seed = int(rng.integers(2**63))
        inputs, seen = self._examples(cutouts)
        groups = np.ma.filled(np.ma.asarray(cutouts.table["group"]), "").astype(str)
        held_out = self._held_out(groups, np.asarray(seen["class"]), np.random.default_rng(seed))
        self._scale = float(inputs[~held_out].std())
        self._limits = float(inputs.min()) - MARGIN, float(inputs.max()) + MARGIN
        order = np.random.default_rng(seed).permutation(len(seen))
        self._seen, self._unit = seen[_remembered(np.asarray(seen["class"]), order)], cutouts.unit
        for name in NUMBERS:
            # As a file keeps them.
            self._seen[name] = _known(np.nan_to_num(self._seen[name]))
        told = network_conditions(seen["class"], seen["snr"], seen["frequency"])
        devices = [] if torch.device(self.device).type == "cpu" else [torch.device(self.device)]
        with torch.random.fork_rng(devices=devices), one_thread():
            torch.manual_seed(seed)
            run = self._run()
            token = self._token(seed, inputs, told, groups)
            save = None
            if checkpoint is not None:
                read_checkpoint(checkpoint, run, token)
                save = partial(write_checkpoint, checkpoint, run, token)
            images = torch.as_tensor(inputs / np.float32(self._scale), device=self.device)[:, None]
            self._train(run, images, torch.as_tensor(told, device=self.device), held_out, progress, max_seconds,
                        max_images, save)
        self._adopt(run)

    def _adopt(self, run):
        """Take over the best weights of a run, rounded to half precision, and its history."""
        run.networks[run.averaged].load_state_dict(run.best)
        for network in run.networks.values():
            with torch.no_grad():
                for tensor in network.state_dict().values():
                    tensor.copy_(tensor.half())
        self._networks = {name: network.eval() for name, network in run.networks.items()}
        self._rows = np.array(run.rows, dtype=float).reshape(-1, 1 + len(self._columns))
        self.history = self._table(self._rows)

    def _table(self, rows):
        """Return the history as a table."""
        return QTable([rows[:, 0].astype(int), *rows[:, 1:].T], names=("images", *self._columns))

    def _train(self, run, images, conditions, held_out, progress, max_seconds, max_images, save):
        from tqdm import tqdm

        train, test = (torch.as_tensor(np.flatnonzero(x), device=self.device) for x in (~held_out, held_out))
        total = self.n_images if max_images is None else min(self.n_images, max_images)
        block = max(self.batch_size, self.n_images // BLOCKS)
        start, spent, on = time.monotonic(), False, not self._stopped(run)
        bar = tqdm(total=self.n_images, initial=run.images, desc="images", leave=False, unit="image",
                   disable=None if progress is None else not progress)
        with bar:
            while on and not spent and run.images < total:
                numbers, shown = [], 0
                while shown < block and run.images < total and not spent:
                    run.learning_rate(self.learning_rate * min(1, 20 * (run.images + 1) / self.n_images))
                    # With replacement, so that a run can be continued from a count alone.
                    rows = train[torch.randint(len(train), (self.batch_size,)).to(self.device)]
                    numbers.append(self._step(run, _turned(images[rows]), _kept(conditions[rows])))
                    run.images, shown = run.images + self.batch_size, shown + self.batch_size
                    bar.update(self.batch_size)
                    spent = max_seconds is not None and time.monotonic() - start >= max_seconds
                numbers = np.mean(numbers, axis=0).tolist()
                if not np.isfinite(numbers).all():
                    raise HaloInputError("the loss must stay finite", found=f"{numbers[0]} after {run.images} images",
                                         hint="a lower learning_rate")
                more, on = self._end_block(run, images, conditions, train, test)
                run.rows.append([run.images, *numbers, *more])
                # A part of a block is no place to continue from to the same bytes.
                if save is not None and not spent and (shown >= block or run.images >= self.n_images):
                    save()

    def _stopped(self, run):
        """Whether a run that is continued had come to its end."""
        return False

    def _sample(self, conditions, rng):
        self._to_device()
        n = len(conditions)
        asked = {name: given(conditions, name, unit) for name, unit in
                 (("snr", u.one), ("frequency", u.MHz), ("rms", self._unit))}
        classes = class_names(conditions)
        rows = conditions_drawn(classes, asked["snr"], asked["frequency"], self._seen, rng)
        values = {name: np.asarray(self._seen[name], dtype=float)[rows] for name in NUMBERS}
        for name, numbers in asked.items():
            values[name] = np.where(np.isnan(numbers), values[name], numbers)
        told = torch.as_tensor(network_conditions(classes, values["snr"], values["frequency"]), device=self.device)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        made = [np.zeros((0, self.size, self.size))]
        with torch.inference_mode(), one_thread():
            for start in range(0, n, CHUNK):
                painted = self._paint(self._networks, told[start:start + CHUNK], generator)[:, 0]
                made.append(painted.double().cpu().numpy())
        snr = signal_to_noise(np.clip(np.concatenate(made) * self._scale, *self._limits))
        table = conditions.copy()
        for name, unit in (("snr", None), ("frequency", u.MHz), ("rms", self._unit)):
            table[name] = values[name] if unit is None else values[name] * unit
        if self.pixels_per_beam is not None:
            beam = values["beam"] * u.arcsec
            table["beam_major"], table["beam_minor"], table["beam_pa"] = beam, beam, np.zeros(n) * u.deg
            table["pixel_scale"] = beam / self.pixels_per_beam
        return CutoutSet(snr * values["rms"][:, None, None], table, unit=self._unit)

    def _token(self, seed, inputs, told, groups):
        """Return what tells this run from any other."""
        data = hashlib.sha256()
        for array in (inputs, told):
            data.update(np.ascontiguousarray(array).tobytes())
        data.update("\n".join(groups).encode())
        # How it will sample says nothing of how it is trained.
        settings = {k: encode(v) for k, v in self.params.items() if k not in self.sampling_settings}
        return {"model": type(self).__name__, "settings": settings, "cutouts": data.hexdigest(), "rng": seed}

    def _state(self):
        if self.history is None:
            return {}
        arrays = {f"weight.{part}.{name}": tensor.detach().cpu().half().contiguous().numpy()
                  for part, network in self._networks.items() for name, tensor in network.state_dict().items()}
        place = {name: k for k, name in enumerate(CLASSES)}
        arrays["seen.class"] = np.array([place[name] for name in self._seen["class"]], dtype=np.int16)
        for name in NUMBERS:
            arrays[f"seen.{name}"] = np.nan_to_num(np.asarray(self._seen[name], dtype=np.float32))
        arrays["history"] = self._rows
        arrays["pixels"] = np.array([self._scale, *self._limits])
        arrays["unit"] = np.frombuffer(self._unit.to_string().encode() or b" ", dtype=np.uint8).copy()
        return arrays

    def _set_state(self, state):
        if not state:
            if self.fitted_:
                raise HaloInputError("a trained generator has weights, and this file has none of them")
            return
        if not _has(self.device):
            warnings.warn(f"this machine has no device {self.device!r}, on which the generator was trained; it is used "
                          "on 'cpu'", HalopyWarning, stacklevel=2)
            self.device = "cpu"
        self._check()
        state = dict(state)
        names = [f"seen.{name}" for name in ("class", *NUMBERS)]
        for name in (*names, "history", "pixels", "unit"):
            if name not in state:
                raise HaloInputError("an array is missing", keyword=name, found=sorted(state)[:3])
        seen = [np.asarray(state.pop(name)) for name in names]
        history, pixels = (np.asarray(state.pop(name), dtype=float) for name in ("history", "pixels"))
        unit = np.asarray(state.pop("unit"))
        if len({column.shape for column in seen}) > 1 or seen[0].ndim != 1 or not len(seen[0]):
            raise HaloInputError("what was seen in the training must be columns of one length", keyword="seen.class",
                                 found=[column.shape for column in seen])
        if seen[0].dtype.kind != "i" or seen[0].min() < 0 or seen[0].max() >= len(CLASSES):
            raise HaloInputError(f"classes are numbers from 0 to {len(CLASSES) - 1}", keyword="seen.class")
        if history.ndim != 2 or history.shape[1] != 1 + len(self._columns):
            raise HaloInputError(f"the history has {1 + len(self._columns)} columns", keyword="history",
                                 found=history.shape)
        if pixels.shape != (3,) or not pixels[0] > 0 or not pixels[1] < pixels[2]:
            raise HaloInputError("pixels must be a positive scale and two limits", keyword="pixels", found=pixels)
        try:
            self._unit = u.Unit(unit.astype(np.uint8).tobytes().decode().strip())
        except ValueError as error:
            raise HaloInputError("this is no unit", keyword="unit", found=unit.tolist()[:20]) from error
        with torch.random.fork_rng(devices=[]):
            networks = self._run().networks
        for part, network in networks.items():
            weights = {k: state.pop(k) for k in list(state) if k.startswith(f"weight.{part}.")}
            network.load_state_dict(tensors_from(weights, f"weight.{part}.", network.state_dict()))
        if state:
            raise HaloInputError("an array belongs to no part of this generator", keyword=sorted(state)[0])
        self._networks = {name: network.eval() for name, network in networks.items()}
        self._seen = Table([np.array(CLASSES)[seen[0]], *map(_known, seen[1:])], names=("class", *NUMBERS))
        self._rows, self._scale, self._limits = history, float(pixels[0]), tuple(pixels[1:].tolist())
        self.history = self._table(history)
        super()._set_state(state)


def _has(device):
    """Return whether torch has a device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError):
        return False
    return True


def _remembered(classes, order):
    """Return which rows are remembered, in a random order that is given: the first ones, and some of rare classes."""
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order[:SEEN]] = True
    for name in np.unique(classes):
        chosen[order[classes[order] == name][:RARE]] = True
    return np.flatnonzero(chosen)


def _known(numbers):
    """Return numbers of which 0 stands for unknown in a file as they are used."""
    numbers = np.asarray(numbers, dtype=np.float32)
    return np.where(numbers == 0, np.float32(np.nan), numbers)


def _turned(images):
    """Return each image ``(n, 1, size, size)`` turned and mirrored at random, with torch's generator."""
    views = torch.randint(8, (len(images),)).tolist()
    return torch.stack([dihedral(image, view) for image, view in zip(images, views, strict=True)])


def _kept(conditions):
    """Return conditions without some S/N and frequencies, so that networks can do without them."""
    conditions = conditions.clone()
    for k in (len(CLASSES), len(CLASSES) + 2):
        lost = (torch.rand(len(conditions)) < DROPPED).to(conditions.device)
        conditions[:, k:k + 2][lost] = 0
    return conditions
