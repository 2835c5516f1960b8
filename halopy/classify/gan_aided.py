"""A classifier that a generator of images aids: with what its critic has learned to see, or with its images."""

from __future__ import annotations

import dataclasses
import inspect
import json
import time
from pathlib import Path

import numpy as np
import torch

from halopy.classify.base import Classifier
from halopy.classify.dense import DenseClassifier
from halopy.classify.domain import outside
from halopy.classify.generated import images_like, trained_copy
from halopy.classify.held_out import validation_rows
from halopy.classify.logistic import Logistic, training_labels
from halopy.errors import HaloInputError, PluginError
from halopy.labels import GRADES, is_positive
from halopy.learning.inputs import has_signal, model_input
from halopy.model import Model, decode, encode
from halopy.registry import generators

__all__ = ["GanAided"]

GENERATOR_TIME = 0.8
"""The part of ``max_seconds`` that is the generator's where a network is to be trained after it."""


class GanAided(Classifier):
    """Logistic regression on what a trained critic sees, or the dense network with generated images added.

    Parameters
    ----------
    mode : {"features", "images"}, optional
        ``"features"`` (default): logistic regression on the features of the generator's critic, the network that has
        learned to tell real images from made ones. ``"images"``: the network ``dense``, trained with the cutouts and
        with images that the generator makes.
    generator : str or HaloGenerator, optional
        A name in `halopy.generators`, default ``"cwgan"``: ``fit`` trains it on its own cutouts and on nothing else.
        A generator that is trained is used as it is, and the groups that it has seen count among those of the
        classifier; of one that is not, ``fit`` trains a copy. Features need a critic (``cwgan`` and ``sngan`` have
        one); images can be those of any generator, ``exponential`` too, which needs no training.
    generator_images : int or None, optional
        How many images are shown in the training of a generator that is given by its name, default 20,000; None: as
        many as is its own default, which takes hours.
    generated : float, optional
        For ``"images"``: how many images are made like each cutout, with its label and grade, default 1. So they have
        the shares of labels of the cutouts, and none of a label that is not there. What the generator cannot make is
        left out, with a warning.
    C : float, optional
        For ``"features"``: inverse strength of the L2 penalty on the weights of standardised features, default 0.1.
    grades : sequence of str, optional
        Grades of the halos to learn from, default all; halos of other grades are left out of all training.
    max_epochs : int, optional
        For ``"images"``: of the dense network, default 60. Its other settings are its defaults.
    size : int, optional
        Pixels a side of what the network and a generator given by its name see, default 64.
    pixels_per_beam : float or None, optional
        Their scale, default 3; None: the cutouts' own grid.
    device : str, optional
        Their device of torch, default ``"cpu"``.

    Attributes
    ----------
    generator_ : HaloGenerator
        The trained generator; it is saved with the classifier.
    logistic_ : Logistic
        With ``"features"``: the regression.
    network_ : DenseClassifier
        With ``"images"``: the network.
    history : `~astropy.table.QTable` or None
        Of the training of the network, or with ``"features"`` of the generator.

    Notes
    -----
    A generator learns from cutouts full of data only: those with pixels without are left out of its training, not of
    the classifier's. Cutouts that are clipped may be used, too: images are then clipped at their level, whatever the
    generator makes.

    The network stops by its loss on a fifth of the groups (`~halopy.classify.training.NetworkClassifier`); a generator
    that is trained for it does not learn from them, and no generated image is among them. Halos and the others weigh
    the same.

    ``fit`` hands ``max_images`` and ``progress`` to each of its trainings, the generator's and the network's. The
    generator has all of ``max_seconds``, or four fifths where a network follows. ``checkpoint`` is the generator's;
    that of the network has ``-network`` at the end of its name, unless the generator is not trained.
    The regression is one exact solution.

    References
    ----------
    Radford, Metz & Chintala 2015, arXiv:1511.06434 (classification by a critic's features); Rustige et al. 2023,
    RASTI 2, 264, arXiv:2212.08504 (images of a Wasserstein GAN to train networks of radio galaxies).

    Examples
    --------
    >>> from halopy import classifiers
    >>> classifiers.create("gan-aided", generator="sngan", generator_images=50_000)
    GanAided(generator='sngan', generator_images=50000)
    >>> from halopy.testing import simulated_cutouts
    >>> model = classifiers.create("gan-aided", mode="images", generator="exponential", max_epochs=2, size=32)
    >>> model = model.fit(simulated_cutouts(12), rng=1, progress=False)
    >>> model.predict_proba(simulated_cutouts(3, rng=2)).shape
    (3,)
    """

    history = None

    def __init__(self, *, mode="features", generator="cwgan", generator_images=20_000, generated=1.0, C=0.1,
                 grades=GRADES, max_epochs=60, size=64, pixels_per_beam=3.0, device="cpu"):
        self.mode = mode
        self.generator = generator
        self.generator_images = generator_images
        self.generated = generated
        self.C = C
        self.grades = grades
        self.max_epochs = max_epochs
        self.size = size
        self.pixels_per_beam = pixels_per_beam
        self.device = device

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        start = time.monotonic()
        # What cannot be used is said before the long training.
        self._check()
        generator, network = self._new_generator(), self._new_network()
        seeds = [int(seed) for seed in rng.integers(2**63, size=4)]
        positive, used = training_labels(cutouts.table, grades=self.grades)
        used &= self._shows(cutouts, generator if network is None else network)
        cutouts, positive = cutouts[used], positive[used]
        if len(set(positive.tolist())) < 2:
            raise HaloInputError("training needs cutouts with and without a halo that can be scored",
                                 found=f"{positive.sum()} with, {(~positive).sum()} without")
        learned = np.ones(len(cutouts), dtype=bool)
        if network is not None:
            groups = np.ma.filled(np.ma.asarray(cutouts.table["group"]), "").astype(str)
            network.held_out = validation_rows(positive.astype(np.float32), groups, network.validation_fraction,
                                               np.random.default_rng(seeds[0]))
            learned = ~network.held_out
        trains = generator.trainable and not generator.fitted_
        if trains:
            seconds = max_seconds if network is None or max_seconds is None else GENERATOR_TIME * max_seconds
            generator = trained_copy(generator, cutouts[learned], rng=seeds[1], progress=progress, max_seconds=seconds,
                                 max_images=max_images, checkpoint=checkpoint)
        if network is None:
            self.logistic_ = Logistic.fit(generator.critic_features(cutouts), positive, C=self.C)
        else:
            made = images_like(cutouts[learned], generator, self.generated, rng=seeds[2])
            network.add(made)
            if checkpoint is not None and trains:
                path = Path(checkpoint)
                checkpoint = path.with_name(f"{path.stem}-network{path.suffix}")
            left = None if max_seconds is None else max(0.0, max_seconds - (time.monotonic() - start))
            network.fit(cutouts, rng=seeds[3], progress=progress, max_seconds=left, max_images=max_images,
                        checkpoint=checkpoint)
            self.network_ = network.plain()
            self.network_.groups_ = tuple(sorted({*network.groups_, *generator.groups_}))
        self.generator_ = generator
        self.groups_ = tuple(sorted({*self.groups_, *generator.groups_}))
        self._remember()

    def _predict_proba(self, cutouts):
        if self.mode == "images":
            return self.network_.predict_proba(cutouts)
        return self.logistic_(self.generator_.critic_features(cutouts))

    def _flags(self, cutouts):
        sees = self.generator_ if self.mode == "features" else self
        return outside(self.trained_on_, cutouts.table, own_grid=getattr(sees, "pixels_per_beam", 0) is None)

    def _check(self):
        if self.mode not in ("features", "images"):
            raise HaloInputError("mode must be 'features' or 'images'", found=self.mode)
        if not (np.isfinite(self.C) and self.C > 0):
            raise HaloInputError("C must be positive: the inverse strength of the penalty", found=self.C, hint="C=0.1")
        if not (np.isfinite(self.generated) and self.generated >= 0):
            raise HaloInputError("generated must be a number of images for each cutout", found=self.generated)
        n = self.generator_images
        if n is not None and (isinstance(n, bool) or not (isinstance(n, (int, np.integer)) and n >= 1)):
            raise HaloInputError("generator_images must be a whole number of 1 or more, or None", found=n)

    def _new_generator(self):
        """Return the generator as it is given, or a new one of its name."""
        generator = self.generator
        if isinstance(generator, str):
            settings = {"n_images": self.generator_images, "size": self.size, "device": self.device,
                        "pixels_per_beam": self.pixels_per_beam}
            if self.generator_images is None:
                del settings["n_images"]
            known = inspect.signature(generators[generator].__init__).parameters
            generator = generators.create(generator, **{name: settings[name] for name in settings if name in known})
        if not _generates(generator):
            raise HaloInputError("generator must be a name or a generator", found=type(generator).__name__,
                                 hint='generator="cwgan", or generators.create("cwgan")')
        if self.mode == "features" and not hasattr(generator, "critic_features"):
            raise HaloInputError("mode='features' needs a generator with a critic", found=type(generator).__name__,
                                 hint=f"generator one of {', '.join(_with_critic())}, or mode='images'")
        if self.mode == "images" and "label" not in generator.conditions:
            raise HaloInputError("mode='images' needs a generator that makes images of a label",
                                 found=generator.conditions)
        return generator

    def _new_network(self):
        """Return the network for generated images; None where features are asked for."""
        if self.mode == "features":
            return None
        network = _Aided(size=self.size, pixels_per_beam=self.pixels_per_beam, grades=self.grades,
                         max_epochs=self.max_epochs, device=self.device)
        network._check()
        return network

    def _shows(self, cutouts, part):
        """Return which cutouts show anything to the generator or the network."""
        grid = {name: getattr(part, name, getattr(self, name)) for name in ("size", "pixels_per_beam")}
        return has_signal(model_input(cutouts, **grid))

    def _remember(self):
        self.history = getattr(self.network_ if self.mode == "images" else self.generator_, "history", None)

    def _state(self):
        if not self.fitted_:
            return {}
        parts = {} if self.generator_ is self.generator else {"generator": self.generator_}
        arrays = {}
        if self.mode == "images":
            parts["network"] = self.network_
        else:
            arrays = {f"logistic.{name}": array for name, array in self.logistic_.state().items()}
        trees = {name: encode(part, arrays, f"trained.{name}.") for name, part in parts.items()}
        arrays["parts"] = np.frombuffer(json.dumps(trees).encode(), dtype=np.uint8)
        return arrays

    def _set_state(self, state):
        if not state:
            if self.fitted_:
                raise HaloInputError("a trained classifier has arrays, and this file has none of them")
            return
        self._check()
        arrays = dict(state)
        names = ["parts"]
        if self.mode == "features":
            names += [f"logistic.{field.name}" for field in dataclasses.fields(Logistic)]
        for name in names:
            if name not in arrays:
                raise HaloInputError("an array is missing", keyword=name, found=sorted(arrays)[:3])
        trees, *numbers = (arrays.pop(name) for name in names)
        parts = {name: decode(tree, arrays, f"trained.{name}.")
                 for name, tree in json.loads(trees.astype(np.uint8).tobytes()).items()}
        self.generator_ = parts.pop("generator", self.generator)
        if not _generates(self.generator_) or self.generator_.trainable and not self.generator_.fitted_:
            raise HaloInputError("this file has no trained generator", keyword="parts")
        if self.mode == "features":
            self.logistic_ = Logistic(*numbers)
        else:
            self.network_ = parts.pop("network", None)
            if not (isinstance(self.network_, DenseClassifier) and self.network_.fitted_):
                raise HaloInputError("this file has no trained network", keyword="parts")
        if arrays or parts:
            raise HaloInputError("an array belongs to no part of this classifier", keyword=sorted([*arrays, *parts])[0])
        self._remember()
        super()._set_state(state)


class _Aided(DenseClassifier):
    """The dense network with images added to its training, which are never among those held out."""

    def add(self, made):
        """Add a CutoutSet to the images that the network will be trained with."""
        inputs = self._inputs(made)
        usable = has_signal(inputs)
        self.added = inputs[usable], is_positive(made.table[["label"]])[usable].astype(np.float32)

    def plain(self):
        """Return the trained network as one that needs no such images."""
        network = DenseClassifier(**self.params)
        network._set_state(self._state())
        network.trained_on_, network.fitted_ = self.trained_on_, True
        return network

    def _train(self, run, inputs, targets, held_out, *limits, **more):
        images, labels = self.added
        inputs = torch.cat([inputs, self._tensor(images)])
        targets = torch.cat([targets, torch.as_tensor(labels, device=self.device)])
        held_out = np.append(self.held_out, np.zeros(len(images), dtype=bool))
        super()._train(run, inputs, targets, held_out, *limits, **more)

    def _token(self, seed, inputs, targets, groups):
        images, labels = self.added
        return super()._token(seed, np.concatenate([inputs, images]), np.append(targets, labels), groups)


def _generates(model):
    # The contract itself stands in the other room of this floor.
    return isinstance(model, Model) and hasattr(model, "sample")


def _with_critic():
    """Return the names of the installed generators that have a critic."""
    found = []
    for name in generators:
        try:
            if hasattr(generators[name], "critic_features"):
                found.append(name)
        except PluginError:
            continue
    return found
