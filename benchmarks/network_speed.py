"""How fast are the networks on one thread, and do they find less for it?

Usage: python benchmarks/network_speed.py [--bench FOLDER] [--models NAME ...] [--rounds 7] [--seeds 3] [--epochs 20]
           [--n 4000] [--seed 20261122]

Baseline is the eager network of the peers' benchmark of inference: 3 × 3 convolutions of 16, 32, 64 and 48 channels
with batch normalisation, max pooling after the first three, the mean over all pixels, one logit. With ``--bench``, the
folder of that benchmark, its own class is timed, once it is seen to give the same numbers as the one written here.

Speed: images of 64 × 64 pixels per processor second, one view, plain torch, one thread (set OMP_NUM_THREADS=1):
"network" is the module alone on a batch, at once or so many images at a time as halopy does it; "whole" is
``predict_proba`` of a batch of simulated cutouts, with `halopy.learning.inputs.model_input`, which takes longer where
each cutout has a beam of its own, as here at random declinations, than where all have that of one image ("one beam").
All are measured in alternating rounds; medians over the rounds, of the ratio to the baseline as well, with its smallest
and largest.

AUC: all are trained with one recipe (the settings of `halopy.classify.training.NetworkClassifier`, one view) on the
same ``n`` cutouts, simulated for GLEAM-X at 170-231 MHz in the default mix, where whatever names a cutout has a peak
of 2 to 30 times the noise: brightness tells nothing. They score as many others, each a group of its own. The intervals
are 95 %: of an AUC and of its difference to the baseline on the same cutouts, by bootstrap over these; of
"all", of the mean over the trainings.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from astropy.table import QTable
from torch import nn

from halopy import classifiers, generators
from halopy.classify.bootstrap import group_bootstrap, paired_difference
from halopy.classify.metrics import roc_auc
from halopy.classify.training import CHUNK, NetworkClassifier
from halopy.labels import is_positive
from halopy.learning.inputs import model_input
from halopy.simulate.sources import draw_labels

BATCHES = (256, 1024)
SURVEY = "gleam-x-170-231"
SNR = (2, 30)
OURS = ("cnn", "attention-cnn", "dense")
EAGER = "eager baseline"


class Eager(NetworkClassifier):
    """The baseline, with torch's own start and layout."""

    def _network(self):
        return _Eager()

    def _build(self):
        return self._network().to(self.device)


class _Eager(nn.Module):

    def __init__(self, widths=(16, 32, 64, 48)):
        super().__init__()
        layers, channels = [], 1
        for number, width in enumerate(widths):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
                       nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] if number < 3 else []
            channels = width
        self.features = nn.Sequential(*layers)
        self.last = nn.Linear(channels, 1)

    def head(self, features):
        return self.last(features.mean((2, 3)))[:, 0]

    def forward(self, images):
        return self.head(self.features(images))


def theirs(folder, network):
    """Return the network of the peers' benchmark with the weights of this one, and see that they agree."""
    # The script reads its command line when it is imported: of its text, the one class is taken.
    tree = ast.parse((folder / "bench_infer.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Net"]
    scope = {"nn": nn}
    exec(compile(tree, str(folder / "bench_infer.py"), "exec"), scope)
    other = scope["Net"]()
    other.load_state_dict(dict(zip(other.state_dict(), network.state_dict().values(), strict=True)))
    other = nn.Sequential(other, nn.Flatten(0)).eval()
    images = torch.rand(8, 1, 64, 64)
    with torch.inference_mode():
        difference = (other(images) - network(images)).abs().max()
    if not difference < 1e-5:
        sys.exit(f"the network of {folder} is another one: logits differ by {difference:g}")
    return other


def simulated(n, rng):
    """Return cutouts in which halos and what is mistaken for them are as bright."""
    rng = np.random.default_rng(rng)
    label = draw_labels(n, rng=rng)
    snr = np.exp(rng.uniform(*np.log(SNR), n))
    snr[np.isin(label, ["none", "blank"])] = np.nan
    return generators.create("exponential", survey=SURVEY).sample(n, conditions=QTable({"label": label, "snr": snr}),
                                                                  rng=rng)


def one_beam(cutouts):
    table = cutouts.table.copy()
    for name in ("beam_major", "beam_minor", "beam_pa"):
        table[name] = table[name][0]
    return cutouts.replace(table=table)


def models(names, **settings):
    return {EAGER: Eager(views=1, **settings)} | {name: classifiers.create(name, views=1, **settings) for name in names}


def alternating(runs, rounds, repeats):
    """Return the processor seconds of so many repeats of every run, in every round; a first one warms up."""
    seconds = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            for _ in range(repeats):
                run()
            if number:
                seconds[name].append(time.process_time() - start)
    return seconds


def speed(cutouts, names, rounds, bench):
    """Print the table of speeds."""
    # An epoch makes them usable; what the weights are does not matter.
    trained = {name: model.fit(cutouts[:128], rng=1, progress=False)
               for name, model in models(names, max_epochs=1).items()}
    modules = {name: model._module.eval() for name, model in trained.items()}
    if bench is not None:
        modules[EAGER] = theirs(bench, modules[EAGER])
    print(f"{'':26s}{'parameters':>12s}{'images / CPU s':>16s}{'x eager, median [lowest, highest]':>36s}")
    for batch in BATCHES:
        some, repeats = cutouts[:batch], max(BATCHES) // batch
        images = torch.as_tensor(model_input(some))[:, None]

        def network(module, images=images):
            with torch.inference_mode():
                module(images)

        def chain(some):
            runs = {name: partial(model.predict_proba, some) for name, model in trained.items()}
            return runs | {"(model_input alone)": partial(model_input, some)}

        work = {"network": {name: partial(network, module) for name, module in modules.items()},
                f"network, {CHUNK} at a time": {name: partial(model._logits, modules[name], images) for name, model in
                                                trained.items()},
                "whole, many beams": chain(some), "whole, one beam": chain(one_beam(some))}
        for what, runs in work.items():
            seconds = alternating(runs, rounds, repeats)
            print(f"{what}, batch {batch}")
            for name, spent in seconds.items():
                ratio = [a / b for a, b in zip(seconds[EAGER], spent, strict=True)]
                size = f"{sum(p.numel() for p in modules[name].parameters()):,d}" if name in modules else ""
                print(f"  {name:24s}{size:>12s}{batch * repeats / statistics.median(spent):>16,.0f}"
                      f"{f'{statistics.median(ratio):.1f} [{min(ratio):.1f}, {max(ratio):.1f}]':>36s}", flush=True)


def mean_auc(probability, positive):
    return np.mean([roc_auc(column, positive) for column in probability.T])


def figures(positive, probability, baseline, seed):
    groups = np.arange(len(positive))
    value = group_bootstrap(lambda p, y: mean_auc(p, y), groups, probability, positive, n=1000, strata=positive,
                            rng=seed)
    cells = ["{:.4f} [{:.4f}, {:.4f}]".format(*value)]
    if baseline is not None:
        cells.append("{:+.4f} [{:+.4f}, {:+.4f}]".format(
            *paired_difference(mean_auc, groups, positive, probability, baseline, n=1000, rng=seed)))
    return "".join(f"{cell:>28s}" for cell in cells)


def found(train, test, names, epochs, seeds, seed):
    """Print the table of AUC."""
    positive = is_positive(test.table)
    print(f"{'':30s}{'epochs':>8s}{'CPU s':>8s}{'AUC':>28s}{'difference to eager':>28s}")
    scores, baseline = {}, None
    for name, model in models(names, max_epochs=epochs).items():
        total = 0
        for number in range(seeds):
            start = time.process_time()
            model.fit(train, rng=seed + number, progress=False)
            spent = time.process_time() - start
            total += spent
            scores.setdefault(name, []).append(model.predict_proba(test)[:, None])
            of_eager = scores[EAGER][number] if baseline is not None else None
            print(f"  {f'{name}, training {number + 1}':28s}{len(model.history):>8d}{spent:>8.0f}"
                  + figures(positive, scores[name][-1], of_eager, seed), flush=True)
        joined = np.hstack(scores[name])
        print(f"  {f'{name}, all':28s}{'':8s}{total:>8.0f}" + figures(positive, joined, baseline, seed), flush=True)
        baseline = joined if baseline is None else baseline


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, help="folder of the peers' benchmark")
    parser.add_argument("--models", nargs="+", default=OURS, choices=OURS)
    parser.add_argument("--rounds", type=int, default=7, help="0: no speed")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network; 0: speed only")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--n", type=int, default=4000, help="cutouts to train on, and to score")
    parser.add_argument("--seed", type=int, default=20261122)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, test = (simulated(arguments.n, [arguments.seed, part]) for part in (0, 1))
    if arguments.rounds:
        print(f"one thread, torch {torch.__version__}, {arguments.rounds} alternating rounds")
        cutouts = simulated(max(BATCHES), [arguments.seed, 2])
        speed(cutouts, arguments.models, arguments.rounds, arguments.bench)
    if arguments.seeds:
        n_halos = is_positive(test.table).sum()
        print(f"\n{SURVEY}, {arguments.n} simulated cutouts to train on, {arguments.n} to score ({n_halos} with a "
              f"halo), at most {arguments.epochs} epochs, seed {arguments.seed}")
        found(train, test, arguments.models, arguments.epochs, arguments.seeds, arguments.seed)


if __name__ == "__main__":
    main()
