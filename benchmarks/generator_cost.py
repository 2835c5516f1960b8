"""What a generator costs: processor time of a training image and of a sample, beside a network that classifies.

Usage: python benchmarks/generator_cost.py [--images 320] [--samples 64] [--rounds 5] [--device cpu] [--seed 20261127]

All on one thread (set OMP_NUM_THREADS=1), 64 × 64 pixels, default settings or those of the shipped weights; networks
are not trained to any use. "training": milliseconds of processor time for each image that is shown (a GAN's is a step
of the painter with all of the critic's, over the batch); "sample": for each image that is made. Ratios are to the
training of ``cnn``, an image, in the same round; the median over the rounds, with the smallest and largest. Of
``latent-diffusion`` it is the second part of its training, that of the diffusion model.
"floor": floating-point operations of one pass of the network, counted by torch, over the rate that a product of
matrices reaches on this thread; "of it": how far the sampler is from that.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from halopy import classifiers, generators
from halopy.learning.threads import one_thread
from halopy.testing import simulated_cutouts

MODELS = {"diffusion": ("diffusion", {"width": 48}), "diffusion, width 32": ("diffusion", {}),
          "diffusion, 8 steps": ("diffusion", {"width": 48, "steps": 8}), "cwgan": ("cwgan", {}),
          "sngan": ("sngan", {}), "latent-diffusion": ("latent-diffusion", {"first_part": 1e-9})}


def clock(device):
    """Processor seconds; of a GPU the time until it has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def took(work, device):
    start = clock(device)
    work()
    return clock(device) - start


def matrix_rate(n=2048, rounds=5):
    """Return the operations a second that a product of matrices reaches on one thread."""
    a, b = torch.rand(n, n), torch.rand(n, n)
    with one_thread():
        best = min(took(lambda: a @ b, "cpu") for _ in range(rounds))
    return 2 * n**3 / best


def passes(model):
    """Return how often the network sees an image to make a sample, and the operations of one pass for an image."""
    told = torch.zeros(16, 16)
    networks = model._networks
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        if "painter" in networks:
            painter = networks["painter"]
            painter(painter.draw(16), told[:, :painter.told[0].in_features - painter.latent])
            count = 1
        else:
            network = networks["denoiser"]
            shape = model._shape()
            network(torch.zeros(16, *shape), torch.zeros(16), torch.zeros(16, network.conditions.in_features))
            count = 2 * model._n_steps() - 1
    return count, counter.get_total_flops() / 16


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=20261127)
    arguments = parser.parse_args()
    if arguments.device == "cpu" and torch.get_num_threads() != 1:
        sys.exit("set OMP_NUM_THREADS=1")
    cutouts = simulated_cutouts(48, rng=arguments.seed)
    device, seed = arguments.device, arguments.seed

    def training(registry, name, settings, images=arguments.images):
        model = registry.create(name, device=device, **settings)

        def shown(images):
            # The first images pay for what is made once.
            return took(lambda: model.fit(cutouts, rng=seed, max_images=images, progress=False), device)

        few, many = shown(32), shown(32 + images)
        return 1e3 * (many - few) / images, model

    rates, rows = 0, {name: [] for name in MODELS}
    for _ in range(arguments.rounds):
        rates = max(rates, matrix_rate())
        # An image costs so little that the clock needs many of them.
        base, _ = training(classifiers, "cnn", {"validation_fraction": 0.0, "max_epochs": 1000, "patience": 1000},
                           50 * arguments.images)
        for name, (kind, settings) in MODELS.items():
            per_image, model = training(generators, kind, settings)
            made = took(lambda model=model: model.sample(arguments.samples, label="halo", rng=seed), device)
            rows[name].append((per_image, 1e3 * made / arguments.samples, base, *passes(model)))
    print(f"matrix product {rates / 1e9:.0f} GFLOP/s, torch {torch.__version__}, {device}, one thread; "
          f"cnn: {statistics.median(r[2] for r in rows['diffusion']):.2f} ms a training image")
    print(f"{'':22} {'training ms':>12} {'over cnn':>20} {'sample ms':>10} {'a second':>9} {'passes':>7} "
          f"{'GFLOP a pass':>13} {'floor ms':>9} {'of it':>6}")
    for name, found in rows.items():
        ratio = sorted(r[0] / r[2] for r in found)
        sample, count, operations = statistics.median(r[1] for r in found), found[0][3], found[0][4]
        floor = 1e3 * count * operations / rates
        print(f"{name:22} {statistics.median(r[0] for r in found):12.1f} {statistics.median(ratio):7.0f} "
              f"[{ratio[0]:4.0f}, {ratio[-1]:4.0f}] {sample:10.1f} {1e3 / sample:9.1f} {count:7} "
              f"{operations / 1e9:13.3f} {floor:9.2f} {floor / sample:6.0%}")


if __name__ == "__main__":
    main()
