"""How fast are shapelets predicted and decomposed, and what do they leave of Fornax A?

Usage: python benchmarks/uv_speed.py [--n 1000000] [--slow 20000] [--n-max 20 50] [--rounds 5] [--bench FOLDER]
           [--data FOLDER] [--orders 10 20 30 50 86] [--seed 20261127]

One thread (set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1), processor time. All methods are measured in alternating
rounds; ratios are medians over the rounds, with the smallest and the largest.

Prediction: Re and Im of all visibilities of one sum of Cartesian shapelets of n1 + n2 up to n_max, of ``n`` baselines
drawn from a Gaussian over the shapelets' support.

- per mode: scipy's Hermite polynomials, one shapelet after the other, as SHAMFI's direct basis does;
- look-up table: WODEN's, hyperdrive's and SHAMFI's scheme: functions tabulated at 10001 arguments from -50 to 50,
  interpolated linearly, one shapelet after the other;
- numpy: recurrence and two matrix products a chunk;
- with w: `ShapeletBasis.predict` with the w-term.

The first two are slow and work on ``--slow`` baselines; their time is scaled to ``n``. With ``--bench``, the folder of
the peers' benchmark, its own functions ``naive`` and ``lut`` are timed as well. The error is the largest difference to
the values of the numpy method, which are exact to rounding, in units of the largest visibility.

Fornax A (with ``--data``): mwa-other/fornaxA_mwa_185MHz.fits decomposed by `decompose`, its scale searched for: number
of coefficients, residual energy (sum of squares over that of the image, and the same within the pixels above 5 % of the
peak), largest residual over the peak, flux over that of the image; then the time of `decompose` at that scale, with its
residual image, against ``ShapeletSet.decomposition`` of lenstronomy (where it is installed), which returns
coefficients alone; and the largest difference of the coefficients.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from scipy.special import eval_hermite, gammaln

from halopy import ClusterImage
from halopy.errors import HalopyWarning
from halopy.uvshapelets.basis import ShapeletBasis
from halopy.uvshapelets.convert import from_lenstronomy
from halopy.uvshapelets.decompose import decompose
from halopy.uvshapelets.hermite import hermite

PHASES = np.array([1, -1j, -1, 1j])
CHUNK = 8192


def alternating(methods, rounds):
    """Return the processor seconds of each method in each round; a first round is not counted."""
    seconds = {name: [] for name in methods}
    for number in range(rounds + 1):
        for name, method in methods.items():
            start = time.process_time()
            method()
            if number:
                seconds[name].append(time.process_time() - start)
    return seconds


def ratio(seconds, name, baseline, scale=1.0):
    """Return the median, the smallest and the largest ratio as text."""
    ratios = [scale * a / b for a, b in zip(seconds[name], seconds[baseline], strict=True)]
    return f"{statistics.median(ratios):8.1f} ({min(ratios):.1f} to {max(ratios):.1f})"


def per_mode(x, y, orders, values):
    """Sum one shapelet after the other, each by its polynomials."""
    total = np.zeros(x.size, complex)
    for (n1, n2), value in zip(orders, values, strict=True):
        norm = np.exp(-0.5 * ((n1 + n2) * np.log(2) + gammaln(n1 + 1) + gammaln(n2 + 1))) / np.sqrt(np.pi)
        total += value * norm * np.exp(-(x**2 + y**2) / 2) * eval_hermite(n1, x) * eval_hermite(n2, y)
    return total


def look_up(x, y, orders, values, table):
    """Sum one shapelet after the other, each from the table."""
    total = np.zeros(x.size, complex)
    px, py = x / 0.01 + 5000, y / 0.01 + 5000
    ix, iy = px.astype(int), py.astype(int)
    fx, fy = px - ix, py - iy
    for (n1, n2), value in zip(orders, values, strict=True):
        low, other = table[n1, ix], table[n2, iy]
        total += value * (low + (table[n1, ix + 1] - low) * fx) * (other + (table[n2, iy + 1] - other) * fy)
    return total


def separable(x, y, square):
    """Sum over both axes at once."""
    total = np.empty(x.size, complex)
    for start in range(0, x.size, CHUNK):
        part = slice(start, start + CHUNK)
        p, q = hermite(len(square) - 1, x[part]), hermite(len(square) - 1, y[part])
        total.real[part] = np.einsum("an,an->n", p, square.real @ q)
        total.imag[part] = np.einsum("an,an->n", p, square.imag @ q)
    return total


def theirs(folder, names, scope):
    """Return functions of the peers' benchmark, which read what they need from ``scope``."""
    tree = ast.parse((folder / "b_eval.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    exec(compile(tree, str(folder / "b_eval.py"), "exec"), scope)
    return [scope[name] for name in names]


def prediction(n_max, options):
    rng = np.random.default_rng(options.seed)
    basis = ShapeletBasis(n_max, 3 * u.arcmin)
    beta = basis.scales[0]
    uv = rng.normal(0, np.sqrt(2 * n_max + 1) / (4 * np.pi * beta), (2, options.n))
    w = rng.normal(0, 100, options.n)
    orders = basis.orders
    coefficients = rng.normal(size=basis.size) * np.exp(-orders.sum(axis=1) / 8)
    values = coefficients * PHASES[orders.sum(axis=1) % 4] * 2 * np.pi * beta
    square = np.zeros((n_max + 1, n_max + 1), complex)
    square[tuple(orders.T)] = values
    x, y = basis.scaled(*uv)
    few = slice(0, options.slow)
    table = hermite(n_max, np.linspace(-50, 50, 10001))
    methods = {"halopy": lambda: basis.predict(coefficients, *uv),
               "numpy": lambda: separable(x, y, square),
               "with w": lambda: basis.predict(coefficients, *uv, w),
               "look-up table": lambda: look_up(x[few], y[few], orders, values, table),
               "per mode": lambda: per_mode(x[few], y[few], orders, values)}
    if options.bench:
        scope = {"np": np, "eval_hermite": eval_hermite, "gammaln": gammaln, "Ns": options.slow, "x": x, "y": y,
                 "O": orders, "c": coefficients * 2 * np.pi * beta, "ph": PHASES[orders.sum(axis=1) % 4], "tab": table}
        methods["look-up table, b_eval.py"], methods["per mode, b_eval.py"] = theirs(
            options.bench, ("lut", "naive"), scope)
    exact = separable(x, y, square)
    seconds = alternating(methods, options.rounds)
    print(f"\nprediction, n_max {n_max}: {basis.size} shapelets, {options.n} baselines; time over halopy's")
    for name, method in methods.items():
        result = method()
        error = np.abs(result - exact[:result.size]).max() / np.abs(exact).max()
        text = f"error {error:.0e}" if name != "with w" else ""
        print(f"  {name:26s} {ratio(seconds, name, 'halopy', options.n / result.size)}  {text}")


def fornax(options):
    with warnings.catch_warnings():
        # Its header says Stokes V; the picture is that of Stokes I.
        warnings.simplefilter("ignore", HalopyWarning)
        image = ClusterImage.read(options.data / "mwa-other" / "fornaxA_mwa_185MHz.fits")
    data = image.data.astype(float)
    flux = data.sum() / image.beam_area
    bright = data > 0.05 * data.max()
    print(f"\nFornax A, {image.shape[1]} x {image.shape[0]} pixels")
    print("  n_max  coefficients  beta/arcsec  residual energy  (bright pixels)  largest/peak   flux  "
          "lenstronomy's time over halopy's")
    for n_max in options.orders:
        found = decompose(image, n_max)
        left = found.residual.data.astype(float)
        energy, energy_bright = (np.sum(left[part] ** 2) / np.sum(data[part] ** 2) for part in (..., bright))
        print(f"  {n_max:5d} {found.basis.size:13d} {found.basis.beta.to_value(u.arcsec):12.1f}"
              f" {energy:16.1e} {energy_bright:16.1e}"
              f" {np.abs(left).max() / data.max():13.3f} {found.flux / flux:6.3f} "
              f"{against_lenstronomy(image, found, options.rounds)}", flush=True)


def against_lenstronomy(image, found, rounds):
    try:
        from lenstronomy.LightModel.Profiles.shapelets import ShapeletSet
    except ImportError:
        return "(not installed)"
    n_max, beta = found.basis.n_max, found.basis.beta.to_value(u.arcsec)
    scale = image.pixel_scale.to_value(u.arcsec)
    # East is to the left.
    x, y = (axis.ravel() for axis in np.meshgrid(*((np.arange(n) - (n - 1) / 2) * scale * sign
                                                   for n, sign in zip(image.shape[::-1], (-1, 1), strict=True))))
    methods = {"halopy": lambda: decompose(image, n_max, beta=found.basis.beta),
               "lenstronomy": lambda: ShapeletSet().decomposition(image.data.ravel(), x, y, n_max, beta, scale)}
    seconds = alternating(methods, rounds if n_max <= 30 else 1)
    amp = methods["lenstronomy"]() / image.beam.area.to_value(u.sr)
    difference = np.abs(from_lenstronomy(amp, n_max, beta)[1] - found.coefficients).max()
    return (f"{ratio(seconds, 'lenstronomy', 'halopy')}, coefficients differ by "
            f"{difference / np.abs(found.coefficients).max():.0e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--slow", type=int, default=20_000)
    parser.add_argument("--n-max", type=int, nargs="*", default=[20, 50])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bench", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--orders", type=int, nargs="*", default=[10, 20, 30, 50, 86])
    parser.add_argument("--seed", type=int, default=20261127)
    options = parser.parse_args()
    for n_max in options.n_max:
        prediction(n_max, options)
    if options.data:
        fornax(options)


if __name__ == "__main__":
    main()
