"""Classifiers × augmentations: every arm on the same folds, everything that learns trained within them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from halopy.classify.evaluate import check_model, cropped, deal, fresh, prepared, refuse_seen, score_table, takes_rng
from halopy.classify.generated import images_like, trained_copy
from halopy.compare.shared import Task, read_result, work
from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.io.cache import safe_name
from halopy.model import Model, Step, encode, load

__all__ = ["compare_augmentations"]


def compare_augmentations(cutouts, models, augmentations, *, folder, test=None, ratios=(2,), folds=5, seeds=2,
                          by="group", size=None, max_images=None, model_images=None, progress=None, rng=0):
    """Cross-validate classifiers with augmentations of their training parts.

    All arms are trained and scored on the same folds. A generator that is not trained is trained once in every fold, on
    the real training part alone, and its images serve all classifiers. So is one that is the setting ``generator`` of a
    classifier, or that ``augmentations`` has under the name that this setting is; under any other name, the classifier
    makes and trains its own.

    Every part lies in ``folder`` when it is done, under a name that depends on all that it was made from: a run that
    was stopped goes on, a larger grid uses what is there, and several processes that do the same share the work.

    Parameters
    ----------
    cutouts : CutoutSet or mapping of str to CutoutSet
        As of `halopy.classify.evaluate.cross_validate`.
    models : mapping of str to Classifier
        Their settings are used.
    augmentations : mapping of str to object
        None (the cutouts as they are), an `halopy.Augmenter` or other step, or a generator.
    folder : path-like
        For the parts.
    test : CutoutSet, optional
        What is scored instead of the held-out cutouts: each by the models that were trained without its group.
        Its groups are dealt together with those of the cutouts.
    ratios : sequence of float, optional
        How many images generators add for each real one, default ``(2,)``; or a mapping of names of ``models`` to such.
        The images of a whole ratio are among those of a larger one.
    folds, seeds, by : optional
        As of `halopy.classify.evaluate.cross_validate`; default 5 folds, dealt 2 times.
    size : int, optional
        Pixels of the middle of the cutouts that classifiers see in all arms; default: all. An augmenter needs more
        than it makes, and its set is cut to this size as well; generators see what their own settings say.
    max_images : int, optional
        The budget of every generator: so many images are shown in its training, and its setting ``n_images`` is so
        many; default: its own.
    model_images : int, optional
        So many images are shown in the training of a classifier at most; default: until it ends by its own rule.
    progress : bool, optional
        Whether a bar is shown; default: on a terminal.
    rng : int, optional
        Seed, default 0. It deals the same folds as in `halopy.classify.evaluate.cross_validate`.

    Returns
    -------
    dict of (str, str) to `~astropy.table.QTable`
        Of classifier and arm (``"none"``, ``"cwgan x2"``): scores as of
        `halopy.classify.evaluate.cross_validate`. ``meta`` has ``classifier``, ``arm``, ``augmentation``,
        ``ratio``, ``n_train`` (mean over the folds), ``example`` (a file of generated images, or None) and
        ``seconds``, of the processor: a list a fold of ``generator``, ``images`` and ``training`` each.

    Raises
    ------
    HaloInputError
        As of `halopy.classify.evaluate.cross_validate`; a setting that cannot be used; a training part without both
        classes; a folder that cannot be written, or a part in it that cannot be read.

    Examples
    --------
    >>> from halopy import classifiers, generators
    >>> from halopy.compare import arms_table, compare_augmentations
    >>> from halopy.testing import simulated_cutouts
    >>> scores = compare_augmentations(
    ...     simulated_cutouts(24), {"pca-lr": classifiers.create("pca-lr")},
    ...     {"none": None, "physical": generators.create("exponential")}, folder="arms", folds=3, seeds=1)
    >>> list(scores)
    [('pca-lr', 'none'), ('pca-lr', 'physical x2')]
    >>> arms_table(scores, n=50, rng=1).colnames[:4]
    ['classifier', 'arm', 'metric', 'value']
    """
    grid = _Grid(cutouts, test, models, augmentations, folds, seeds, by, size, max_images, model_images, rng,
                 Path(folder))
    arms = [(name, augmentation, ratio) for name in models for augmentation, step in augmentations.items()
            for ratio in (_ratios(ratios, name) if _generates(step) else (None,))]
    names = [(name, arm_name(augmentation, ratio)) for name, augmentation, ratio in arms]
    if len(set(names)) < len(names):
        raise HaloInputError("two arms have the same name", found=str(max(names, key=names.count)),
                             hint="other names of augmentations")
    cells = {arm: [grid.cell(*arm, seed, part) for seed, part in grid.parts] for arm in arms}
    work(list(grid.tasks.values()), progress=progress)
    return {(name, arm_name(augmentation, ratio)): grid.scores(name, augmentation, ratio, found)
            for (name, augmentation, ratio), found in cells.items()}


def arm_name(augmentation, ratio):
    """Return what an arm is called: the augmentation, and the ratio of a generator."""
    return augmentation if ratio is None else f"{augmentation} x{ratio:g}"


def _ratios(ratios, name):
    if isinstance(ratios, Mapping):
        ratios = ratios.get(name)
    if not isinstance(ratios, (list, tuple, np.ndarray)):
        raise HaloInputError("ratios must be a sequence of numbers, or a mapping of the name of each model to one",
                             keyword=str(name), found=ratios, hint="ratios=(1, 2)")
    for ratio in ratios:
        if not (np.isfinite(ratio) and ratio > 0):
            raise HaloInputError("a ratio must be a positive number of images for each real one", found=ratio)
    return tuple(dict.fromkeys(ratios))


def _settings(model):
    """Return what tells the settings of a model from others."""
    try:
        return encode(model)
    except HaloInputError:  # an estimator of scikit-learn cannot be saved
        return [type(model).__name__, repr(model.params)]


def _generates(step):
    return isinstance(step, Model) and hasattr(step, "sample")


class _Grid:
    """The tasks of a comparison: generators, their images, and cells, each of one seed and fold."""

    def __init__(self, cutouts, test, models, augmentations, folds, seeds, by, size, max_images, model_images, rng,
                 folder):
        for name, value, least in (("folds", folds, 2), ("seeds", seeds, 1), ("rng", rng, 0), ("size", size, 1),
                                   ("max_images", max_images, 1), ("model_images", model_images, 1)):
            optional = name in ("size", "max_images", "model_images")
            if not (optional and value is None or isinstance(value, (int, np.integer)) and value >= least):
                raise HaloInputError(f"{name} must be a whole number, {least} or more", found=value)
        for what, given in (("models", models), ("augmentations", augmentations)):
            if not isinstance(given, Mapping) or not given:
                raise HaloInputError(f"{what} must be a mapping of names, one at least", found=type(given).__name__)
        for name, step in augmentations.items():
            if not (step is None or isinstance(step, Step) and (_generates(step) or callable(step))):
                raise HaloInputError("an augmentation is None, a step such as an Augmenter, or a generator",
                                     keyword=str(name), found=type(step).__name__)
        for model in models.values():
            check_model(model)
        everything = cutouts if test is None else _joined(cutouts, test)
        self.cutouts, self.positive = prepared(everything, by)
        free = np.array(self.cutouts.shape[1:]) - (0 if size is None else size)
        if size is not None and ((free < 0).any() or (free % 2).any()):
            raise HaloInputError("size must be less than the cutouts' by an even number of pixels, or all of it",
                                 keyword="size", found=f"{size} of {self.cutouts.shape[1:]}")
        n = len(self.cutouts) if test is None else len(self.cutouts) - len(test)
        self.trains, self.tests = (np.ones(len(self.cutouts), bool) for _ in range(2))
        self.trains[n:], self.tests[:n] = False, test is None
        refuse_seen([*map(fresh, models.values()), *augmentations.values()], self.cutouts[self.tests])
        groups = np.asarray(self.cutouts.table["group"]).astype(str)
        base = np.random.default_rng(rng).integers(2**31, size=seeds).tolist()
        self.deals = [[(train[self.trains[train]], test[self.tests[test]]) for train, test in
                       deal(self.positive, groups, folds, seed)] for seed in base]
        self.parts = [(seed, part) for seed in range(seeds) for part in range(folds)]
        if any(len(np.unique(self.positive[train])) < 2 for parts in self.deals for train, _ in parts):
            raise HaloInputError("every training part needs cutouts with and without a halo",
                                 found=f"{folds} folds", hint="fewer folds, or more groups to train with")
        self.models, self.augmentations = models, augmentations
        self.shape = self.cutouts.shape[1:] if size is None else (size, size)
        self.max_images, self.model_images, self.rng = max_images, model_images, int(rng)
        self.folds, self.seeds, self.folder, self.tasks = folds, seeds, folder, {}
        data = hashlib.sha256(self.cutouts.data.tobytes())
        for name in self.cutouts.table.colnames:
            column = self.cutouts.table[name]
            if isinstance(column, np.ndarray):
                data.update(f"{name} {np.asarray(getattr(column, 'value', column)).astype(str).tolist()}".encode())
                if np.any(getattr(column, "mask", False)):
                    data.update(np.asarray(column.mask).tobytes())
        self.base = {"halopy": importlib.metadata.version("halopy-radio"), "cutouts": data.hexdigest(),
                     "trained": int(self.trains.sum()), "rng": self.rng, "folds": folds, "unit": str(self.cutouts.unit)}

    def _path(self, kind, name, seed, part, made_from):
        text = json.dumps([kind, self.base, seed, part, made_from], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.folder / kind / f"{safe_name(name)}-s{seed}f{part}-{digest}.json"

    def _seed(self, *place):
        return int(np.random.SeedSequence([self.rng, *place]).generate_state(1)[0])

    def generator(self, name, generator, seed, part):
        """Plan the training of a generator on a training part; return what it is, and where it lies or None."""
        if not generator.trainable or generator.fitted_:
            return [encode(generator), getattr(generator, "weights_id", "")], None
        generator = fresh(generator)
        if self.max_images is not None and "n_images" in generator.params:
            generator.n_images = self.max_images
        what = [encode(generator), self.max_images]
        path = self._path("generators", name, seed, part, what)
        if path not in self.tasks:
            self.tasks[path] = Task(path, partial(self._train, generator, seed, part, path))
        return what, path

    def images(self, name, each, batch, seed, part):
        """Plan a batch of images like a training part; return what it is and where it lies."""
        what, path = self.generator(name, self.augmentations[name], seed, part)
        what = [what, each, batch]
        made = self._path("images", name, seed, part, what)
        if made not in self.tasks:
            self.tasks[made] = Task(made, partial(self._paint, name, path, each, batch, seed, part, made),
                                    () if path is None else (path,))
        return what, made

    def cell(self, name, augmentation, ratio, seed, part):
        """Plan the training of a classifier on a training part, and return where its scores will lie."""
        model, step, needs = fresh(self.models[name]), self.augmentations[augmentation], []
        what = [_settings(model), self.model_images, list(map(int, self.shape))]
        aid = None
        inner = model.params.get("generator")
        inner = self.augmentations.get(inner) if isinstance(inner, str) else inner
        if _generates(inner):
            _, called = getattr(inner, "registry_name_", (None, type(inner).__name__))
            inside, aid = self.generator(called, inner, seed, part)
            what.append(inside)
            model.generator = inner
            needs += [] if aid is None else [aid]
        batches = []
        if ratio is not None:
            for batch in range(int(np.ceil(ratio))):
                inside, path = self.images(augmentation, float(min(1.0, ratio - batch)), batch, seed, part)
                what.append(inside)
                batches.append(path)
        elif step is not None:
            what.append(encode(step))
        path = self._path("cells", f"{name}-{arm_name(augmentation, ratio)}", seed, part, what)
        if path not in self.tasks:
            self.tasks[path] = Task(path, partial(self._score, model, step, aid, batches, seed, part),
                                    (*needs, *batches))
        return path

    def _train(self, generator, seed, part, path):
        train, _ = self.deals[seed][part]
        start, checkpoint = time.process_time(), path.with_suffix(".checkpoint")
        trained = trained_copy(generator, self.cutouts[train], rng=self._seed(seed, part, 0), progress=False,
                               max_images=self.max_images, checkpoint=checkpoint)
        trained.save(path.with_suffix(".safetensors"), overwrite=True)
        checkpoint.unlink(missing_ok=True)
        return {"seconds": time.process_time() - start, "n": len(train)}

    def _paint(self, name, path, each, batch, seed, part, made):
        train, _ = self.deals[seed][part]
        generator = self.augmentations[name] if path is None else load(path.with_suffix(".safetensors"))
        start = time.process_time()
        images = images_like(self.cutouts[train], generator, each, rng=self._seed(seed, part, 1, batch))
        images.write(made.with_suffix(".fits"), overwrite=True)
        return {"seconds": time.process_time() - start, "n": len(images),
                "generator": None if path is None else str(path.relative_to(self.folder))}

    def _score(self, model, step, aid, batches, seed, part):
        rows, test = self.deals[seed][part]
        train, rng = self.cutouts[rows], np.random.default_rng([self.rng, seed, part, 2])
        if aid is not None:
            model.generator = load(aid.with_suffix(".safetensors"))
        start = time.process_time()
        if batches:
            train = train.join(*(CutoutSet.read(path.with_suffix(".fits")) for path in batches))
        elif step is not None:
            train = step(train, rng=rng) if takes_rng(step) else step(train)
        train = cropped(train, self.shape)
        if model.trainable:
            model.fit(train, rng=self._seed(seed, part, 3), progress=False, max_images=self.model_images)
            refuse_seen([model], self.cutouts[test])
        seconds = time.process_time() - start
        found = model.predict_proba(cropped(self.cutouts[test], self.shape))
        return {"seconds": seconds, "n": len(train), "images": [str(path.relative_to(self.folder)) for path in batches],
                "aid": None if aid is None else str(aid.relative_to(self.folder)),
                "probability": [float(p) if np.isfinite(p) else None for p in found]}

    def scores(self, name, augmentation, ratio, paths):
        """Return the table of scores of an arm."""
        tested = np.flatnonzero(self.tests)
        place = np.full(len(self.cutouts), -1)
        place[tested] = np.arange(len(tested))
        probability = np.full((len(tested), self.seeds), np.nan)
        fold = np.zeros((len(tested), self.seeds), dtype=int)
        seconds, n_train, example = {"generator": [], "images": [], "training": []}, [], None
        for (seed, part), path in zip(self.parts, paths, strict=True):
            rows = place[self.deals[seed][part][1]]
            cell = read_result(path, ("probability", "images", "aid", "seconds", "n"))
            probability[rows, seed] = [np.nan if p is None else p for p in cell["probability"]]
            fold[rows, seed] = part
            images = [read_result(self.folder / one, ("seconds", "generator")) for one in cell["images"]]
            made_by = {one["generator"] for one in images} | {cell["aid"]}
            trained = [read_result(self.folder / one, ("seconds",)) for one in made_by - {None}]
            seconds["generator"].append(sum(one["seconds"] for one in trained))
            seconds["images"].append(sum(one["seconds"] for one in images))
            seconds["training"].append(cell["seconds"])
            if example is None and cell["images"]:
                example = str((self.folder / cell["images"][0]).with_suffix(".fits"))
            n_train.append(cell["n"])
        meta = {"classifier": name, "arm": arm_name(augmentation, ratio), "augmentation": augmentation, "ratio": ratio,
                "model": repr(self.models[name]), "folds": self.folds, "seeds": self.seeds, "rng": self.rng,
                "max_images": self.max_images, "model_images": self.model_images, "n_train": float(np.mean(n_train)),
                "seconds": seconds, "example": example}
        return score_table(self.cutouts[tested], self.positive[tested], probability, fold, meta)


def _joined(cutouts, test):
    for one in (cutouts, test):
        if not isinstance(one, CutoutSet) or len(one) == 0:
            raise HaloInputError("with test, both must be a CutoutSet with cutouts", found=type(one).__name__)
    return cutouts.join(test)
