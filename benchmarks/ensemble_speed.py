"""Where does the ensemble spend its time, and how much of ``halopy detect`` is it?

Usage: python benchmarks/ensemble_speed.py [--weights FILE] [--n 256] [--targets 1000] [--rounds 5] [--seed 20261127]

One thread (set OMP_NUM_THREADS=1), processor time. One simulated GLEAM-X field of 1536 × 1536 pixels; cutouts at
random positions, as a `halopy.Detector` makes them.

Parts: the steps of ``predict_proba`` one by one, on ``n`` cutouts, in alternating rounds; medians over the rounds. A
share is that of the whole in the same round, so that a busy machine changes it little; "x matched filter" is against
``predict_proba`` of ``matched-filter`` on the same cutouts, with the smallest and the largest of the rounds. Parts are
timed apart from each other: their sum differs from the whole by what lies between them.

Detector: an image, so many targets and 250 controls, with ``ensemble`` and with ``matched-filter``, in alternating
rounds. Fluxes are measured by the matched filter in both. What a step spends is counted where it is called.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from contextlib import ExitStack
from functools import partial
from unittest import mock

import numpy as np
import torch
from astropy.table import QTable
from network_speed import alternating

from halopy import CutoutMaker, Detector, NoiseEstimator, classifiers, simulate
from halopy.classify import halo_features as features
from halopy.classify.ensemble import Ensemble, _images
from halopy.classify.matched_filter import MatchedFilter
from halopy.classify.training import CHUNK
from halopy.learning.inputs import model_input
from halopy.preprocess.subtract import find_compact

SHAPE = (1536, 1536)
SURVEY = "gleam-x-170-231"
STEPS = {"noise map": (NoiseEstimator, "__call__"), "cutouts": (CutoutMaker, "__call__"),
         "measuring fluxes": (MatchedFilter, "measure"), "predict_proba": (None, "_predict_proba"),
         "statistic": (None, "statistic")}
"""Of a Detector; None: of the classifier."""


class Known:
    """A matched filter that has searched already."""

    def __init__(self, found):
        self.found = found

    def locate(self, cutouts, *, compact=None):
        return self.found


def described(cutouts, compact, found):
    """Measure the features alone: compact sources and the best halo are known."""
    with mock.patch.object(features, "find_compact", return_value=compact), \
            mock.patch.object(features, "MatchedFilter", return_value=Known(found)):
        features.halo_features(cutouts)


def chunks(member, seen):
    with torch.inference_mode():
        for start in range(0, len(seen), CHUNK):
            member(seen[start:start + CHUNK])


def parts(model, cutouts):
    """Return the steps of ``predict_proba`` by name, and how often each is taken."""
    compact = find_compact(cutouts)
    found = MatchedFilter().locate(cutouts, compact=compact)
    rows, network = model._tensor(model._inputs(cutouts)), model._module.eval()
    numbers = (rows[:, 0, 0, model.size**2:] - network.mean) / network.scale
    runs = {"compact sources": (1, partial(find_compact, cutouts)),
            "matched filter's search": (1, partial(MatchedFilter().locate, cutouts, compact=compact)),
            "features": (1, partial(described, cutouts, compact, found)),
            "model_input": (1, partial(model_input, cutouts))}
    if model.n_numeric:
        runs["numeric member, a view"] = model.n_numeric * model.views, partial(chunks, network.numeric[0], numbers)
    if model.n_convolutional:
        runs["convolutional member, a view"] = (model.n_convolutional * model.views,
                                                partial(chunks, network.convolutional[0], _images(rows)))
    return runs


def speed(model, cutouts, rounds):
    steps = parts(model, cutouts)
    runs = {name: run for name, (_, run) in steps.items()}
    runs |= {"whole": partial(model.predict_proba, cutouts),
             "matched-filter": partial(MatchedFilter().predict_proba, cutouts)}
    seconds = alternating(runs, rounds, 1)

    def ratio(a, b, times=1):
        return [times * x / y for x, y in zip(seconds[a], seconds[b], strict=True)]

    print(f"{len(cutouts)} cutouts of {cutouts.shape[1]} x {cutouts.shape[2]}, one beam; {model!r}, "
          f"{sum(p.numel() for p in model._module.parameters()):,d} parameters; {rounds} rounds")
    print(f"{'':32s}{'images / CPU s':>16s}{'times':>7s}{'share':>8s}{'x matched filter':>24s}")
    for name in runs:
        times = steps[name][0] if name in steps else 1
        share = f"{statistics.median(ratio(name, 'whole', times)):.0%}" if name != "matched-filter" else ""
        against = ratio(name, "matched-filter", times)
        print(f"  {name:30s}{len(cutouts) / statistics.median(seconds[name]):>16,.0f}{times:>7d}{share:>8s}"
              f"{f'{statistics.median(against):.2f} [{min(against):.2f}, {max(against):.2f}]':>24s}")


def timed(spent, name, method):
    @functools.wraps(method)
    def run(*arguments, **settings):
        start = time.process_time()
        try:
            return method(*arguments, **settings)
        finally:
            spent[name] = spent.get(name, 0) + time.process_time() - start
    return run


def detect(model, image, targets, seed):
    """Return the seconds of each step of a Detector, and of the whole."""
    spent, classifier = {}, type(model)
    with ExitStack() as stack:
        for name, (kind, verb) in STEPS.items():
            if kind is None and classifier is MatchedFilter and verb != "statistic":
                continue  # it asks for S/N alone
            kind = kind or classifier
            stack.enter_context(mock.patch.object(kind, verb, timed(spent, name, getattr(kind, verb))))
        start = time.process_time()
        Detector(model)(image, targets, rng=seed)
        spent["whole"] = time.process_time() - start
    return spent


def share_of_detect(model, image, targets, rounds, seed):
    models = {"ensemble": model, "matched-filter": classifiers.create("matched-filter")}
    runs = {name: [] for name in models}
    for number in range(rounds + 1):
        for name, one in models.items():
            spent = detect(one, image, targets, seed)
            if number:  # a first round warms up
                runs[name].append(spent)
    whole = [r["whole"] for r in runs["matched-filter"]]
    print(f"\nDetector on {image.shape[0]} x {image.shape[1]} pixels, {len(targets)} targets, "
          f"{Detector().n_controls} controls; {rounds} rounds")
    print(f"{'':24s}" + "".join(f"{name:>18s}" for name in models))
    for step in [*STEPS, "rest"]:
        cells = ""
        for spent in runs.values():
            # The whole is one of the values.
            value = [r.get(step, 2 * r["whole"] - sum(r.values()) if step == "rest" else 0) / r["whole"] for r in spent]
            cells += f"{f'{statistics.median(value):.0%}' if max(value) else '':>18s}"
        print(f"  {step:22s}{cells}")
    cells = ""
    for spent in runs.values():
        against = [r["whole"] / w for r, w in zip(spent, whole, strict=True)]
        cells += f"{f'{statistics.median(against):.1f} [{min(against):.1f}, {max(against):.1f}]':>18s}"
    print(f"  {'whole, x matched filter':22s}{cells}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="default: those that ship")
    parser.add_argument("--n", type=int, default=256, help="cutouts")
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=20261127)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(arguments.seed)
    model = Ensemble.load(arguments.weights) if arguments.weights else classifiers.pretrained("ensemble")
    image = simulate.field(SHAPE, survey=SURVEY, rng=rng)[0]
    x, y = (rng.uniform(0.02, 0.98, arguments.targets) * (size - 1) for size in SHAPE[::-1])
    targets = QTable({"name": [f"T{i}" for i in range(arguments.targets)],
                      "position": image.wcs.pixel_to_world(x, y).icrs})
    print(f"{SURVEY}, one thread, torch {torch.__version__}, seed {arguments.seed}")
    if arguments.n:
        speed(model, Detector(model).cutouts(image, targets[:arguments.n]), arguments.rounds)
    if arguments.targets:
        share_of_detect(model, image, targets, max(1, arguments.rounds // 2), arguments.seed)


if __name__ == "__main__":
    main()
