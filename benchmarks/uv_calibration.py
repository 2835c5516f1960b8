"""Is the detector of halos in visibilities calibrated? p-values under the null, fluxes of injected halos.

Usage: python benchmarks/uv_calibration.py [--draws 2000] [--seeds 12] [--snr 20] [--layout mwa-1]

A snapshot of the MWA of phase I at 154 MHz. For r_e of 60, 120, 240 and 480 arcsec, and 0, 3 and 10 point sources
at random places inside 3 r_e (50 to 500 mJy, priors of 10 %), drawn anew for each seed:

- null: no halo, source fluxes drawn from their priors. The p-value of the default bank must be uniform.
- injected: a halo of the S/N asked for, measured with r_e known, and with r_e free, 2^¼ from the bank's radii.
- wrong priors: every source brighter than expected by 2 of its standard deviations; the bias of the halo's flux
  must be the analytic one, Re(tᴴΣ⁻¹Pδ) / tᴴΣ⁻¹t.

Draws are made of the sufficient statistics Re(XᴴWV), which are Gaussian of covariance Re(XᴴWX): the same as drawing
visibilities (tests/test_uv_fit.py shows it, and the last lines here do it that way).
"""

from __future__ import annotations

import argparse

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy.interpolate import CubicSpline
from scipy.stats import binom, kstest

from halopy.uvshapelets.bank import Bank
from halopy.uvshapelets.detect import RADII
from halopy.uvshapelets.fit import NormalEquations
from halopy.uvshapelets.layouts import layouts
from halopy.uvshapelets.nuisance import PointSources, marginalised
from halopy.uvshapelets.null import maximum_p_value, square_root
from halopy.uvshapelets.observe import observe
from halopy.uvshapelets.templates import ExponentialHalo

SIZES = (60, 120, 240, 480)
SOURCES = (0, 3, 10)
BANK = Bank(RADII.to_value(u.rad))
NOISE = 10.0
"""Jy per visibility: with 16,256 of them 0.08 Jy for a point source."""


def coverage(layout):
    return observe([], layouts[layout], centre=SkyCoord(30, -27, unit="deg"), hour_angles=[-0.5, 0.5] * u.hourangle,
                   frequency=154 * u.MHz, noise=NOISE * u.Jy, rng=0)


def draw_sources(n, r_e, rng):
    radius, angle = 3 * (r_e * u.arcsec).to_value(u.rad) * np.sqrt(rng.uniform(size=n)), rng.uniform(0, 2 * np.pi, n)
    flux = np.exp(rng.uniform(np.log(0.05), np.log(0.5), n))
    return PointSources(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), flux * u.Jy,
                        0.1 * flux * u.Jy)


class Case:
    """The statistics of one set of sources; draws of them."""

    def __init__(self, vis, r_e, n_sources, rng):
        self.rng, self.n = rng, len(RADII)
        self.sources = draw_sources(n_sources, r_e, rng)
        self.parts = [*map(ExponentialHalo, RADII), self.sources]
        equations = NormalEquations(*self.parts).update(vis)
        self.full, self.prior = equations.normal, equations.prior
        self.root = square_root(self.full)
        self.normal, _ = marginalised(self.full, equations.vector, *self.prior)
        self.vis = vis

    def response(self, r_e):
        """What a halo of 1 Jy adds to the statistics."""
        model = ExponentialHalo(r_e * u.arcsec).visibility(self.vis.u, self.vis.v)
        return NormalEquations(*self.parts).update(self.vis._replace(vis=model)).vector

    def draw(self, n, halo=0.0, deviations=None):
        """Return vectors, the sources marginalised; ``(n_radii, n)``. ``deviations`` of the fluxes in standard ones."""
        if deviations is None:
            deviations = self.rng.standard_normal((len(self.sources), n))
        flux = np.zeros((len(self.full), n))
        flux[self.n:] = (self.prior[0] + (self.prior[1] * deviations.T)).T
        vector = self.root @ self.rng.standard_normal((len(self.full), n)) + self.full @ flux
        return marginalised(self.full, (vector.T + halo).T, *self.prior)[1]

    def p_values(self, vectors):
        grid = np.linspace(0, 7, 57)
        law = CubicSpline(grid, np.log(maximum_p_value(grid, BANK.correlation(self.normal), n_draws=20000,
                                                       rng=self.rng)))
        return np.exp(law(np.abs(BANK.snr(self.normal, vectors)).max(axis=0)))


def pull(flux, err, truth):
    """Return the mean's deviation in standard errors, the bias in per cent, and the width of the pull."""
    return ((flux.mean() - truth) / (flux.std() / np.sqrt(flux.size)), 100 * (flux.mean() / truth - 1),
            np.std((flux - truth) / err))


def full_draws(vis, n, rng):
    """p-values and fluxes from draws of visibilities, one by one, through the public path."""
    case = Case(vis, 120, 3, rng)
    truth = 20 / np.sqrt(case.normal[4, 4])
    sky = truth * ExponentialHalo(120 * u.arcsec).visibility(vis.u, vis.v)
    columns = np.stack([part.visibility(vis.u, vis.v, vis.w) for part in case.parts[:-1]], axis=1)
    points = case.sources.visibility(vis.u, vis.v, vis.w)
    columns = np.concatenate([columns, points], axis=1) * vis.weight[:, None]
    stacked = np.concatenate([columns.real, columns.imag]).T.copy()
    null, injected = np.empty((2, len(case.full), n))
    for k in range(n):
        noise = NOISE * rng.standard_normal((2, len(vis)))
        flux = case.prior[0] + case.prior[1] * rng.standard_normal(len(case.sources))
        data = noise[0] + 1j * noise[1] + points @ flux
        null[:, k] = stacked @ np.concatenate([data.real, data.imag])
        data = data + sky
        injected[:, k] = stacked @ np.concatenate([data.real, data.imag])
    p = case.p_values(marginalised(case.full, null, *case.prior)[1])
    flux, err = BANK.held(case.normal, marginalised(case.full, injected, *case.prior)[1], np.full(n, BANK.radii[4]))
    return p, pull(flux, err, truth)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--snr", type=float, default=20.0)
    parser.add_argument("--layout", default="mwa-1")
    arguments = parser.parse_args()
    n, good = arguments.draws, True
    vis = coverage(arguments.layout)
    print(f"{vis}; {n} draws each")
    by_seed, by_case = {}, {}
    for seed in range(arguments.seeds):
        for number, (r_e, n_sources) in enumerate((r, s) for r in SIZES for s in SOURCES):
            case = Case(vis, r_e, n_sources, np.random.default_rng([seed, number]))
            p = case.p_values(case.draw(n))
            by_seed.setdefault(seed, []).append(p)
            row = by_case.setdefault((r_e, n_sources), {"p": [], "known": [], "free": [], "wrong": [], "bias": []})
            row["p"].append(p)
            for name, size in (("known", r_e), ("free", r_e * 2**0.25)):
                radius = (size * u.arcsec).to_value(u.rad)
                truth = arguments.snr * BANK.held(case.normal, np.zeros(case.n), radius)[1]
                vectors = case.draw(n, truth * case.response(size))
                if name == "known":
                    flux, err = BANK.held(case.normal, vectors, np.full(n, radius))
                else:
                    measured = BANK.measure(case.normal, vectors)
                    flux, err = measured.flux, measured.flux_err
                row[name].append((flux / truth, err / truth))
            if n_sources:
                radius = np.full(n, (r_e * u.arcsec).to_value(u.rad))
                flux, err = BANK.held(case.normal, case.draw(n, deviations=np.full((n_sources, n), 2.0)), radius)
                shift = case.full[:, case.n:] @ (2 * case.prior[1])
                expected = BANK.held(case.normal, marginalised(case.full, shift, 0 * case.prior[0], case.prior[1])[1],
                                     radius[0])[0]
                row["wrong"].append((flux - expected) / err)
                row["bias"].append(expected / err[0])

    print("\nKS p-values of uniform p under the null, by seed (columns) and case")
    print(f"{'r_e':>4} {'n':>3} " + " ".join(f"{seed:>7}" for seed in by_seed) + "   p < 0.01, all seeds")
    for (r_e, n_sources), row in by_case.items():
        every = np.concatenate(row["p"])
        low, high = binom.interval(0.99, every.size, 0.01)
        count = int((every < 0.01).sum())
        print(f"{r_e:4} {n_sources:3} " + " ".join(f"{kstest(p, 'uniform').pvalue:7.4f}" for p in row["p"])
              + f"   {count} of {every.size}; binomial 99 %: {low:.0f} to {high:.0f}"
              + ("" if low <= count <= high else "   OUTSIDE"))
    ks, tails = [], []
    for p in by_seed.values():
        every = np.concatenate(p)
        ks.append(kstest(every, "uniform").pvalue)
        tails.append(int((every < 0.01).sum()))
    low, high = binom.interval(0.99, every.size, 0.01)
    print("all cases " + " ".join(f"{value:7.4f}" for value in ks))
    print("p < 0.01 " + " ".join(f"{value:7d}" for value in tails) + f"   binomial 99 %: {low:.0f} to {high:.0f}")
    smallest = min(kstest(p, "uniform").pvalue for row in by_case.values() for p in row["p"])
    good &= min(*ks, smallest) > 0.01 / 12 and all(low <= value <= high for value in tails)
    print(f"smallest KS p of a seed: {min(ks):.4f}, of all {len(ks) * len(by_case)} cells: {smallest:.5f} "
          f"(must exceed {0.01 / 12:.5f})")

    print(f"\nFluxes of halos of S/N {arguments.snr:g}: deviation of the mean in standard errors (worst seed; "
          "all seeds), bias of all in per cent, width of the pull")
    for (r_e, n_sources), row in by_case.items():
        line = f"{r_e:4} {n_sources:3} "
        for name in ("known", "free"):
            each = [pull(flux, err, 1.0) for flux, err in row[name]]
            worst = max((value[0] for value in each), key=abs)
            pooled = pull(*(np.concatenate(values) for values in zip(*row[name], strict=True)), 1.0)
            good &= max(abs(worst), abs(pooled[0])) < 3 and all(0.9 < value[2] < 1.1 for value in each)
            line += f"  {name}: {worst:+.2f}; {pooled[0]:+.2f}  {pooled[1]:+.3f} %  {pooled[2]:.3f}"
        if n_sources:
            every = np.concatenate(row["wrong"])
            deviation = every.mean() * np.sqrt(every.size)
            good &= abs(deviation) < 3
            line += (f"  priors wrong by 2 sigma: bias {np.mean(row['bias']):+.2f} errors, measured less analytic "
                     f"{deviation:+.2f} standard errors")
        print(line)

    p, (deviation, bias, width) = full_draws(vis, n, np.random.default_rng(99))
    pvalue = kstest(p, "uniform").pvalue
    good &= pvalue > 0.01 and abs(deviation) < 3 and 0.9 < width < 1.1
    print(f"\nVisibilities drawn one by one (120 arcsec, 3 sources): KS p {pvalue:.3f}, p < 0.01: {(p < 0.01).sum()} "
          f"of {n}; flux {deviation:+.2f} standard errors, bias {bias:+.3f} %, pull {width:.3f}")
    print("calibrated" if good else "NOT calibrated")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
