"""What an array can see of a halo, what its weighting in an image costs, and what point sources cost.

Usage: python benchmarks/uv_limits.py [--hours 6] [--times 7] [--draws 10] [--seed 0]

Layouts that ship, thermal noise alike in all visibilities, no data: signal-to-noise ratios are sums over the coverage.

- Coverage: the S/N of a halo over that of a point source of the same flux, both by matched filter; and the part of its
  flux that a halo shows on the shortest baseline.
- Weighting: the S/N of the best circular aperture (of nine radii, or the peak) on a dirty image, over that of the
  matched filter: natural weights, the same with a Gaussian taper of FWHM 2 r_e, and Briggs' robust weights, whose
  cells are 1 / field.
- Sources: the S/N of the matched filter that is left when J point sources, at random within 3 r_e, are marginalised:
  their fluxes free, or with priors whose error is half of that of the halo's flux without sources. Median of the draws.
"""

from __future__ import annotations

import argparse

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy.special import j1

from halopy.uvshapelets.layouts import layouts
from halopy.uvshapelets.nuisance import marginalised
from halopy.uvshapelets.observe import observe
from halopy.uvshapelets.templates import ExponentialHalo, phase

ARRAYS = {"mwa-1": (154, -27, 20), "mwa-2-extended": (154, -27, 20), "mwa-2-compact": (154, -27, 20),
          "lofar-hba": (144, 53, 5), "meerkat": (1280, -31, 2)}
"""MHz, declination and field in degrees."""
RADII = np.array([60, 120, 240, 480, 900]) * u.arcsec
APERTURES = (0, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 6)
"""Radii in r_e; 0: the peak."""
NUMBERS = (1, 3, 10, 30)


def briggs(east, north, robust, cell):
    """Return robust weights (Briggs 1995) of visibilities of weight 1."""
    # A visibility and its mirror are one measurement in two cells.
    u2, v2 = np.concatenate([east, -east]), np.concatenate([north, -north])
    _, owner, density = np.unique(np.rint(np.stack([u2, v2]) / cell).astype(np.int64), axis=1, return_inverse=True,
                                  return_counts=True)
    f2 = (5 * 10.0**-robust) ** 2 / ((density.astype(float) ** 2).sum() / density.sum())
    return 1 / (1 + density[owner.ravel()[:east.size]] * f2)


def imaged(weight, distance, halo, r_e):
    """Return the S/N of the best aperture on a dirty image, for noise of 1."""
    best = 0.0
    for radius in APERTURES:
        x = 2 * np.pi * distance * radius * r_e
        used = weight * (2 * j1(x) / x if radius else 1.0)
        best = max(best, abs(used @ halo) / np.sqrt(used @ used))
    return best


def left(vis, halo, r_e, n, rng, prior):
    """Return the part of the S/N that n sources within 3 r_e leave."""
    radius, angle = 3 * r_e * np.sqrt(rng.uniform(size=n)), rng.uniform(0, 2 * np.pi, n)
    points = phase(vis.u[:, None], vis.v[:, None], None, radius * np.cos(angle), radius * np.sin(angle))
    columns = np.concatenate([halo[:, None] + 0j, points], axis=1)
    normal = columns.real.T @ columns.real + columns.imag.T @ columns.imag
    kept, _ = marginalised(normal, np.zeros(n + 1), np.zeros(n), np.full(n, prior * normal[0, 0] ** -0.5))
    return np.sqrt(kept[0, 0] / normal[0, 0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=6)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    head = "".join(f"{r_e:8.0f}" for r_e in RADII.value)
    seen = {}
    for name, (frequency, dec, _) in ARRAYS.items():
        seen[name] = observe([], layouts[name], centre=SkyCoord(30, dec, unit="deg"), frequency=frequency * u.MHz,
                             hour_angles=np.linspace(-0.5, 0.5, given.times) * given.hours * u.hourangle)
    print(f"r_e (arcsec){'':24}{head}")
    for name, vis in seen.items():
        distance = vis.distance
        short, matched, rows = [], [], {"natural": [], "natural, taper": [], "Briggs 0": [], "Briggs -0.5": []}
        cell = 1 / np.radians(ARRAYS[name][2])
        weights = {robust: briggs(vis.u, vis.v, robust, cell) for robust in (0, -0.5)}
        for r_e in RADII.to_value(u.rad):
            halo = ExponentialHalo(r_e * u.rad).visibility(vis.u, vis.v).real
            best = np.sqrt(halo @ halo)
            matched.append(best / np.sqrt(len(vis)))
            short.append(halo.max())
            taper = np.exp(-2 * (np.pi * distance * 2 * r_e / 2.35482) ** 2)
            for row, weight in zip(rows.values(), (np.ones_like(halo), taper, *weights.values()), strict=True):
                row.append(imaged(weight, distance, halo, r_e) / best)
        print(f"{name}, {distance.min():.1f} to {distance.max():.0f} wavelengths, {len(vis)} visibilities")
        for text, row in {"S/N over that of a point": matched, "flux on the shortest": short, **rows}.items():
            print(f"  {text:<34}" + "".join(f"{value:8.3f}" for value in row))
    print(f"\nS/N that point sources within 3 r_e leave{'':6}" + "".join(f"{n:8d}" for n in NUMBERS))
    for name, r_e in (("mwa-1", 120 * u.arcsec), ("mwa-1", 240 * u.arcsec), ("meerkat", 60 * u.arcsec)):
        vis, rng = seen[name], np.random.default_rng(given.seed)
        vis = vis.select(np.arange(0, len(vis), max(len(vis) // 30000, 1)))
        halo = ExponentialHalo(r_e).visibility(vis.u, vis.v).real
        for text, prior in (("free", np.inf), ("priors", 0.5)):
            row = [np.median([left(vis, halo, r_e.to_value(u.rad), n, rng, prior) for _ in range(given.draws)])
                   for n in NUMBERS]
            print(f"  {name + ', ' + str(r_e) + ', ' + text:<45}" + "".join(f"{value:8.2f}" for value in row))


if __name__ == "__main__":
    main()
