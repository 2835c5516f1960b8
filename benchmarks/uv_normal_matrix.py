"""How fast is the normal matrix of shapelets by moments, and does a stream of visibilities need more memory than one?

Usage: python benchmarks/uv_normal_matrix.py [--n 1000000] [--n-max 10 20] [--rounds 3] [--chunks 20] [--bench FOLDER]
           [--seed 20261127]

One thread (set OMP_NUM_THREADS, OPENBLAS_NUM_THREADS and NUMBA_NUM_THREADS to 1), processor time. Of ``n`` baselines
drawn from a Gaussian over the shapelets' support, with weights, in alternating rounds (medians, with the smallest and
largest ratio):

- moments: `weight_moments` and the expansion to the matrix;
- dsyrk: the real blocks of even and of odd orders by BLAS, of tabulated functions, chunk by chunk; and the part of it
  that is spent in BLAS alone, as if the functions cost nothing;
- with ``--bench``, the folder of the peers' benchmark, its own function for the same, ``direct_r``;
- zgemm: the complex matrix product (of ``n`` / 20, scaled).

Then a stream: ``chunks`` chunks of ``n`` visibilities through `NormalEquations.update` (matrix, data vector and their
number; drawing them is not counted): time a visibility in the first and second half, what 10⁹ would take, and the
largest memory of the process after the second chunk and after all. The same for the bank of halos of `detect_halo`.
"""

from __future__ import annotations

import argparse
import ast
import resource
import statistics
import time
from pathlib import Path

import numba
import numpy as np
from astropy import units as u
from scipy.linalg.blas import dsyrk

from halopy.uvshapelets.basis import ShapeletBasis
from halopy.uvshapelets.detect import RADII
from halopy.uvshapelets.fit import NormalEquations, _expanded
from halopy.uvshapelets.hermite import hermite
from halopy.uvshapelets.kernels import weight_moments
from halopy.uvshapelets.templates import ExponentialHalo
from halopy.uvshapelets.visibilities import Visibilities

BETA = 3 * u.arcmin
CHUNK = 16384


def draw(n, n_max, rng):
    width = np.sqrt(2 * n_max + 1) / (2 * np.pi * BETA.to_value(u.rad)) / 2
    return rng.normal(0, width, n), rng.normal(0, width, n), rng.uniform(0.5, 2, n)


def by_moments(basis, east, north, weight):
    x, y = basis.scaled(east, north)
    return _expanded(basis, weight_moments(2 * basis.n_max, np.sqrt(2) * x, np.sqrt(2) * y, weight))


def by_blocks(basis, east, north, weight):
    """Return the matrix, and the processor time of BLAS alone."""
    n1, n2 = basis.orders.T
    parity = basis.orders.sum(axis=1) % 2
    places = [np.flatnonzero(parity == value) for value in (0, 1)]
    sums = [np.zeros((place.size, place.size), order="F") for place in places]
    blas = 0.0
    tables = [np.empty((place.size, CHUNK)) for place in places]
    for start in range(0, east.size, CHUNK):
        part = slice(start, start + CHUNK)
        x, y = basis.scaled(east[part], north[part])
        first, second = hermite(basis.n_max, x) * np.sqrt(weight[part]), hermite(basis.n_max, y)
        for k, place in enumerate(places):
            table = tables[k][:, :x.size]
            for row, (a, b) in enumerate(zip(n1[place], n2[place], strict=True)):
                np.multiply(first[a], second[b], out=table[row])
            begin = time.process_time()
            sums[k] = dsyrk(1.0, table.T, beta=1.0, c=sums[k], trans=1, overwrite_c=1)
            blas += time.process_time() - begin
    normal = np.zeros((basis.size, basis.size))
    signs = (-1.0) ** ((basis.orders.sum(axis=1) + 1) // 2)
    for place, total in zip(places, sums, strict=True):
        normal[np.ix_(place, place)] = np.triu(total) + np.triu(total, 1).T
    scale = 2 * np.pi * BETA.to_value(u.rad)
    return normal * np.outer(signs, signs) * scale**2, blas


def by_complex(basis, east, north, weight):
    normal = np.zeros((basis.size, basis.size))
    for start in range(0, east.size, CHUNK):
        part = slice(start, start + CHUNK)
        table = basis.visibility(east[part], north[part])
        normal += ((table.conj().T * weight[part]) @ table).real
    return normal


def peers(folder, basis, east, north, weight):
    """Return the peers' function, which reads what it needs from where it stands."""
    tree = ast.parse((folder / "b_eval.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body
                 if isinstance(node, ast.FunctionDef) and node.name in ("direct_r", "nb_basis")]
    x, y = basis.scaled(east, north)
    even, odd = (np.flatnonzero(basis.orders.sum(axis=1) % 2 == parity) for parity in (0, 1))
    n1, n2 = (np.ascontiguousarray(order) for order in basis.orders.T)
    scope = {"np": np, "nb": numba, "dsyrk": dsyrk, "x": x, "y": y, "sw": np.sqrt(weight), "n1": n1, "n2": n2,
             "nm": basis.n_max, "Nr": x.size, "pe": even, "po": odd}
    exec(compile(tree, "b_eval.py", "exec"), scope)
    scope["nb_basis"](x[:10], y[:10], n1, n2, basis.n_max)
    return scope["direct_r"]


def timed(method, *arguments):
    start = time.process_time()
    result = method(*arguments)
    return time.process_time() - start, result


def matrices(n, n_max, rounds, bench, rng):
    basis = ShapeletBasis(n_max, BETA)
    data = draw(n, n_max, rng)
    by_moments(basis, *(values[:CHUNK] for values in data))
    ratios = {"dsyrk": [], "BLAS of it alone": [], "zgemm": [], **({"dsyrk of the peers": []} if bench else {})}
    theirs = peers(bench, basis, *data) if bench else None
    for _ in range(rounds):
        fast, one = timed(by_moments, basis, *data)
        slow, (two, blas) = timed(by_blocks, basis, *data)
        few = [values[:n // 20] for values in data]
        slowest, three = timed(by_complex, basis, *few)
        others = [slow, blas, 20 * slowest, *([timed(theirs)[0]] if bench else [])]
        for name, seconds in zip(ratios, others, strict=True):
            ratios[name].append(seconds / fast)
    error = np.abs(one - two).max() / np.abs(two).max()
    few_error = np.abs(by_moments(basis, *few) - three).max() / np.abs(three).max()
    print(f"n_max {n_max} ({basis.size} functions), {n:,} visibilities: largest difference {error:.1e} of dsyrk, "
          f"{few_error:.1e} of zgemm, of the largest element")
    for name, values in ratios.items():
        print(f"  {name:18} / moments: {statistics.median(values):6.1f} ({min(values):.1f} to {max(values):.1f})")


def stream(name, equations, n, n_max, chunks, rng):
    seconds, memory = [], []
    for _ in range(chunks):
        east, north, weight = draw(n, n_max, rng)
        vis = Visibilities(east, north, np.zeros(n), rng.normal(size=(n, 2)) @ [1, 1j], weight, 154e6)
        seconds.append(timed(equations.update, vis)[0])
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    half = len(seconds) // 2
    first, second = (statistics.median(part) / n * 1e9 for part in (seconds[:half], seconds[half:]))
    stored = sum(value.size for value in vars(equations).values() if isinstance(value, np.ndarray))
    print(f"{name}: {chunks} chunks of {n:,}: {first:.0f} and {second:.0f} ns a visibility in the first and second "
          f"half, 10^9 in {sum(seconds) / n / chunks * 1e9 / 3600:.2f} processor hours;\n  largest memory "
          f"{memory[1]:.0f} MB after two chunks, {memory[-1]:.0f} MB after all; {stored:,} numbers kept")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--n-max", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--bench", type=Path)
    parser.add_argument("--seed", type=int, default=20261127)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    for n_max in options.n_max:
        matrices(options.n, n_max, options.rounds, options.bench, rng)
    n_max = max(options.n_max)
    stream(f"shapelets of n_max {n_max}", NormalEquations(ShapeletBasis(n_max, BETA)), options.n, n_max,
           options.chunks, rng)
    stream(f"bank of {len(RADII)} halos", NormalEquations(*map(ExponentialHalo, RADII)), options.n, n_max,
           options.chunks, rng)


if __name__ == "__main__":
    main()
