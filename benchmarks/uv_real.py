"""Real visibilities: sources found, halos injected and recovered, p-values of empty sky, and dirty images beside them.

Usage: python benchmarks/uv_real.py DATA_FOLDER [--seed 0] [--sources 10] [--deep 100] [--positions 8]
    [--offsets 200] [--confused 20]

DATA_FOLDER holds visibilities/mwa_1133866760_uvceti_154MHz.uvfits: 2 s and 11 channels of the MWA of phase I, every
visibility flagged by its weight of -1; the flags are ignored, the noise is the scatter between channels.

- The brightest point sources are looked for in a dirty image of the residual, their places refined on the
  visibilities, the fluxes of all fitted again after each.
- p-values of the public path (`detect_halo`) at random places of the field, away from the sources: in Stokes V, which
  is noise; with the brightest sources marginalised; with many more subtracted before. What is not modelled is still
  in the sky, and these p-values know of thermal noise alone; so also with the S/N over its scatter at other places,
  and with `Confusion` (source counts, no primary beam).
- Exponential halos injected at random places, through the same path; and in dirty images of the same data, natural and
  Briggs -0.5, by the best of five apertures (in hindsight), with the scatter of the same apertures over the field.

An image of a snapshot of a flat array is one Fourier transform: w = a u + b v, so that a direction lies at
l + a (n - 1) and m + b (n - 1). Imaging is linear: the image of an injection is that of the data plus that of the halo.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import CartesianRepresentation, SkyCoord
from scipy import fft
from scipy.optimize import minimize
from scipy.stats import binom, kstest

from halopy.uvshapelets.detect import RADII, detect_halo
from halopy.uvshapelets.nuisance import Confusion, PointSources
from halopy.uvshapelets.null import maximum_p_value
from halopy.uvshapelets.templates import ExponentialHalo, phase
from halopy.uvshapelets.visibilities import Visibilities

FILE = "visibilities/mwa_1133866760_uvceti_154MHz.uvfits"
KNOWN = {"3C 38": SkyCoord(20.108, -15.345, unit="deg"), "PKS 0114-21": SkyCoord(19.2125, -20.8686, unit="deg")}
SIDE, PIXEL = 2048, np.radians(1.1 / 60)
FIELD = np.radians(12)
SIZES = (2, 4, 8) * u.arcmin
FLUXES = (2, 4, 8)
APERTURES = (0.75, 1.0, 1.5, 2.0, 3.0)
"""Radii, in r_e and a beam in quadrature."""


class Imager:
    """Dirty images of one set of coordinates by nearest cells, in Jy per beam."""

    def __init__(self, vis, robust=None):
        design = np.stack([vis.u, vis.v], axis=1)
        self.slope = np.linalg.lstsq(design, vis.w, rcond=None)[0]
        self.flatness = np.std(vis.w - design @ self.slope)
        step = 1 / (SIDE * PIXEL)
        # V(-u) is the conjugate of V(u): half a plane is enough.
        self.sign = np.where(vis.v < 0, -1.0, 1.0)
        column, row = (np.rint(self.sign * axis / step).astype(int) for axis in (vis.u, vis.v))
        self.cell = row * SIDE + column % SIDE
        self.weight = vis.weight.copy()
        if robust is not None:
            density = np.bincount(self.cell, self.weight, SIDE * SIDE)
            factor = (5 * 10**-robust) ** 2 / (np.sum(density**2) / self.weight.sum())
            self.weight /= 1 + density[self.cell] * factor
        beam = self(np.ones(len(vis)))
        middle = SIDE // 2
        # The curvature of the peak, as a round Gaussian.
        drop = 1 - np.mean([beam[middle, middle + 1], beam[middle + 1, middle], beam[middle, middle - 1],
                            beam[middle - 1, middle]])
        self.sigma = PIXEL / np.sqrt(2 * drop)
        self.beam_pixels = 2 * np.pi * (self.sigma / PIXEL) ** 2

    def __call__(self, vis):
        values = self.weight * np.where(self.sign < 0, np.conj(vis), vis)
        grid = (np.bincount(self.cell, values.real, SIDE * SIDE)
                + 1j * np.bincount(self.cell, values.imag, SIDE * SIDE)).reshape(SIDE, SIDE)[:SIDE // 2 + 1]
        # Rows are v from 0; axis 0 is then the halved one of a real transform.
        grid[0] = 0.5 * (grid[0] + np.conj(np.roll(grid[0, ::-1], 1)))
        grid[1:] *= 0.5
        image = fft.irfft2(grid, (SIDE, SIDE), axes=(1, 0)) * SIDE**2 / self.weight.sum()
        return fft.fftshift(image)

    def pixel(self, l, m):  # noqa: E741
        """Return (x, y) of directions."""
        bend = np.sqrt(1 - l**2 - m**2) - 1
        return SIDE // 2 + (l + self.slope[0] * bend) / PIXEL, SIDE // 2 + (m + self.slope[1] * bend) / PIXEL

    def directions(self, x, y):
        place = (np.array([x, y]) - SIDE // 2) * PIXEL
        l, m = place  # noqa: E741
        for _ in range(20):
            bend = np.sqrt(1 - l**2 - m**2) - 1
            l, m = place[0] - self.slope[0] * bend, place[1] - self.slope[1] * bend  # noqa: E741
        return float(l), float(m)


def find_sources(vis, n):
    """Return directions ``(n, 2)``, fluxes and errors of the brightest points, and the visibilities without them."""
    imager = Imager(vis)
    y, x = (np.indices((SIDE, SIDE)) - SIDE // 2) * PIXEL
    inside = np.hypot(x, y) < 1.2 * FIELD
    places, columns, flux, residual = [], [], [], vis.vis

    def fitted():
        root = np.sqrt(vis.weight)[:, None]
        a = np.stack(columns, axis=1) * root
        normal = (a.conj().T @ a).real
        return np.linalg.solve(normal, (a.conj().T @ (vis.vis * root[:, 0])).real), np.linalg.inv(normal)

    def refined(start, values):
        scale = PIXEL / 2

        def loss(offset):
            point = phase(vis.u, vis.v, vis.w, *(start + scale * offset))
            return -np.real(np.vdot(point, vis.weight * values)) / vis.weight.sum()

        return start + scale * minimize(loss, [0.0, 0.0], method="Nelder-Mead",
                                        options={"xatol": 0.02, "fatol": 1e-4, "maxfev": 60}).x

    while len(places) < n:
        image = imager(residual) * inside
        # Several a round, the brightest down to 0.7 of it, so that their sidelobes are none of them.
        found = 0
        top = image.max()
        while len(places) < n and found < max(1, n // 10):
            y0, x0 = np.unravel_index(np.argmax(image), image.shape)
            if image[y0, x0] < 0.7 * top:
                break
            image[max(y0 - 10, 0):y0 + 11, max(x0 - 10, 0):x0 + 11] = 0
            places.append(refined(np.array(imager.directions(x0, y0)), residual))
            columns.append(phase(vis.u, vis.v, vis.w, *places[-1]))
            found += 1
        flux, covariance = fitted()
        residual = vis.vis - np.stack(columns, axis=1) @ flux
    order = np.argsort(flux)[::-1]
    return (np.array(places)[order], flux[order], np.sqrt(np.diag(covariance))[order],
            vis._replace(vis=residual))


def empty_places(n, away_from, least, radius, rng):
    """Draw directions in the field, ``least`` radians away from others."""
    places = []
    while len(places) < n:
        r, angle = radius * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        place = r * np.array([np.cos(angle), np.sin(angle)])
        if np.hypot(*(np.asarray(away_from) - place).T).min() > least:
            places.append(place)
    return np.array(places)


def sky(places, centre):
    """Return the positions of direction cosines ``(n, 2)``."""
    l, m = np.asarray(places).T  # noqa: E741
    frame = centre.skyoffset_frame()
    return SkyCoord(CartesianRepresentation(np.sqrt(1 - l**2 - m**2), l, m), frame=frame).icrs


def aperture_sums(image, radius):
    """Return the sums over a disc about every pixel."""
    distance = np.minimum(np.arange(SIDE), SIDE - np.arange(SIDE))
    disc = np.hypot.outer(distance, distance) <= radius
    return fft.irfft2(fft.rfft2(image) * fft.rfft2(disc.astype(float)).real, image.shape)


def aperture_sum(image, radius, x, y):
    """Return the sum over a disc about one pixel."""
    reach = int(radius) + 1
    away = np.arange(-reach, reach + 1)
    return image[y - reach:y + reach + 1, x - reach:x + reach + 1][np.hypot.outer(away, away) <= radius].sum()


def robust_scatter(values):
    return 1.4826 * np.median(np.abs(values - np.median(values)))


def report_p(name, p):
    low, high = binom.interval(0.99, len(p), 0.05)
    print(f"{name}: KS p {kstest(p, 'uniform').pvalue:.2g}; median p {np.median(p):.3f}; p < 0.05: {(p < 0.05).sum()}, "
          f"< 0.01: {(p < 0.01).sum()}, < 0.001: {(p < 0.001).sum()} of {len(p)} (uniform: {low:.0f} to {high:.0f} "
          "below 0.05)")


def rescaled(snr):
    """Return p-values from the S/N by radius of places, with the scatter and the correlation of the other half."""
    half, p = len(snr) // 2, np.empty(len(snr))
    for here, other in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        scale = np.array([robust_scatter(z) for z in snr[other].T])
        correlation = np.corrcoef(snr[other].T)
        p[here] = maximum_p_value(np.abs(snr[here] / scale).max(axis=1), correlation, rng=0)
    return p


def read(folder, stokes="I"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Visibilities.read(Path(folder) / FILE, ignore_flags=True, stokes=stokes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sources", type=int, default=10)
    parser.add_argument("--deep", type=int, default=100)
    parser.add_argument("--positions", type=int, default=8)
    parser.add_argument("--offsets", type=int, default=200)
    parser.add_argument("--confused", type=int, default=20, help="places at which confusion is tried")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    vis, stokes_v = read(arguments.data), read(arguments.data, "V")
    centre = vis.centre
    print(f"{vis}; noise {vis.weight[0] ** -0.5:.1f} Jy a visibility, {vis.weight.sum() ** -0.5:.3f} Jy for a point; "
          f"seed {arguments.seed}; numpy's and numba's threads are those of the environment (run with one)")

    start = time.process_time()
    places, flux, err, _ = find_sources(vis, arguments.sources)
    print(f"\nThe {len(flux)} brightest points ({time.process_time() - start:.1f} CPU-s; apparent fluxes)")
    for place, value, error in zip(places, flux, err, strict=True):
        position = sky([place], centre)[0]
        name = next((f"{name}, {position.separation(at).arcsec:.0f} arcsec away" for name, at in KNOWN.items()
                     if position.separation(at) < 3 * u.arcmin), "")
        print(f"  {position.to_string('hmsdms', precision=0)}  {value:6.2f} +- {error:.2f} Jy  {name}")
    ten = PointSources(places, flux * u.Jy, err * u.Jy)
    many, deep_flux, _, deep = find_sources(vis, arguments.deep)
    without = vis._replace(vis=vis.vis - ten.predict(vis.u, vis.v, vis.w))
    chi2 = [np.sum(vis.weight * np.abs(data.vis) ** 2) / (2 * len(vis)) for data in (vis, without, deep)]
    print(f"with {arguments.deep} points the faintest has {deep_flux[-1]:.2f} Jy; reduced chi2 {chi2[0]:.3f} before, "
          f"{chi2[1]:.3f} without the {len(flux)}, {chi2[2]:.3f} without all")
    ten = PointSources(sky(places, centre), flux * u.Jy, err * u.Jy)

    off = empty_places(arguments.offsets, places, np.radians(1), 0.8 * FIELD, rng)
    p, snr, p_deep, snr_deep, p_v, snr_v, timed = [], [], [], [], [], [], 0.0
    for place in sky(off, centre):
        start = time.process_time()
        found = detect_halo(vis, place, sources=ten, rng=arguments.seed)
        timed += time.process_time() - start
        for data, p_values, ratios in ((None, p, snr), (deep, p_deep, snr_deep), (stokes_v, p_v, snr_v)):
            found = found if data is None else detect_halo(data, place, rng=arguments.seed)
            p_values.append(found.p_value)
            ratios.append((found.flux_by_radius / found.flux_err_by_radius).value)
    snr, snr_deep, snr_v = np.array(snr), np.array(snr_deep), np.array(snr_v)
    print(f"\np-values at {len(off)} places, 1 deg and more from the {len(flux)} sources; one costs "
          f"{timed / len(off):.2f} CPU-s")
    report_p("  Stokes V, where the sky is empty", np.array(p_v))
    report_p(f"  {len(flux)} sources marginalised", np.array(p))
    report_p(f"  {arguments.deep} sources subtracted", np.array(p_deep))
    report_p(f"  {arguments.deep} sources, S/N over its scatter at the other half of the places", rescaled(snr_deep))
    for name, values in (("Stokes V", snr_v), (f"{len(flux)} sources", snr), (f"{arguments.deep} sources", snr_deep)):
        print(f"  scatter of the S/N by radius (arcmin), {name}: "
              + ", ".join(f"{r:.3g} {robust_scatter(z):.2f}" for r, z in zip(RADII.to_value(u.arcmin), values.T,
                                                                              strict=True)))
    if arguments.confused:
        confusion = Confusion(deep_flux[-1] * u.Jy, frequency=154.3 * u.MHz, radius=1.2 * FIELD * u.rad)
        start = time.process_time()
        found = [detect_halo(deep, place, confusion=confusion, rng=arguments.seed)
                 for place in sky(off[:arguments.confused], centre)]
        spent = (time.process_time() - start) / len(found)
        report_p(f"  {arguments.deep} sources and Confusion below them ({spent:.1f} CPU-s each)",
                 np.array([one.p_value for one in found]))
        thermal = detect_halo(deep, sky(off[:1], centre)[0], rng=arguments.seed).flux_err_by_radius
        print("  errors with it over thermal ones, by radius: "
              + ", ".join(f"{x:.2f}" for x in np.median([one.flux_err_by_radius / thermal for one in found], axis=0)))

    targets = empty_places(arguments.positions, np.concatenate([places, many]), np.radians(0.4), 0.6 * FIELD, rng)
    print(f"\nHalos injected at {len(targets)} places, through detect_halo, {len(flux)} sources marginalised; medians; "
          "the S/N over its scatter at the places above is in brackets")
    print("  r_e   flux   flux, r_e free (pull rms)   flux, r_e held (bias, pull rms)   S/N         p < 0.001")
    uv_snr = {}
    for size in SIZES:
        column = int(np.argmin(np.abs(RADII - size)))
        spread = robust_scatter(snr[:, column])
        for amount in FLUXES:
            rows = []
            for place in targets:
                halo = ExponentialHalo(size, centre=tuple(place)).visibility(vis.u, vis.v, vis.w)
                found = detect_halo(vis._replace(vis=vis.vis + amount * halo), sky([place], centre)[0], sources=ten,
                                    rng=arguments.seed)
                held, error = (getattr(found, name)[column].value for name in ("flux_by_radius", "flux_err_by_radius"))
                rows.append((found.flux.value, (found.flux.value - amount) / found.flux_err.value, held,
                             (held - amount) / error, held / error, found.p_value, amount / error))
            free, pull, held, held_pull, z, p_value, clean = np.array(rows).T
            uv_snr[size, amount] = np.median(clean), np.median(clean) / spread
            print(f"  {size:.0f} {amount:5.1f}   {np.median(free):6.2f} ({np.sqrt(np.mean(pull**2)):.2f})"
                  f"              {held.mean():6.2f} ({100 * (held.mean() / amount - 1):+.0f} %, "
                  f"{np.sqrt(np.mean(held_pull**2)):.2f})           {np.median(z):5.1f} ({np.median(z) / spread:4.1f})"
                  f"   {(p_value < 0.001).sum()} of {len(targets)}")

    print(f"\nThe same in dirty images of the data less the {len(flux)} sources")
    residual = vis._replace(vis=vis.vis - ten.about(centre).predict(vis.u, vis.v, vis.w))
    for name, robust in (("natural", None), ("Briggs -0.5", -0.5)):
        start = time.process_time()
        imager = Imager(vis, robust)
        made = time.process_time() - start
        start = time.process_time()
        image, noise = imager(residual.vis), imager(stokes_v.vis)
        spent = (time.process_time() - start) / 2
        print(f" {name}: beam {np.degrees(imager.sigma) * 60 * 2.355:.1f} arcmin (curvature), departure from flat "
              f"{imager.flatness:.2f} wavelengths; weights {made:.2f}, an image {spent:.2f} CPU-s")
        x, y = (np.rint(axis).astype(int) for axis in imager.pixel(*off.T))
        tx, ty = (np.rint(axis).astype(int) for axis in imager.pixel(*targets.T))
        for size in SIZES:
            r_e = size.to_value(u.rad)
            halos = [imager(ExponentialHalo(size, centre=tuple(place)).visibility(vis.u, vis.v, vis.w))
                     for place in targets]
            best, quiet = None, 0.0
            for scale in APERTURES:
                radius = scale * np.hypot(r_e, imager.sigma * 2.355) / PIXEL
                start = time.process_time()
                sums = aperture_sums(image, radius)
                cost = time.process_time() - start
                spread = robust_scatter(sums[y, x])
                each = np.array([aperture_sum(halo, radius, a, b) for halo, a, b in zip(halos, tx, ty, strict=True)])
                inside = 1 - (1 + radius * PIXEL / r_e) * np.exp(-radius * PIXEL / r_e)
                quiet = max(quiet, np.median(each) / robust_scatter(aperture_sums(noise, radius)[y, x]))
                row = (np.median(each) / spread, scale, np.median(each) / imager.beam_pixels, inside,
                       sums[ty, tx] / np.median(each), cost)
                best = row if best is None or row[0] > best[0] else best
            unit, scale, gain, inside, offset, cost = best
            print(f"  {size:.0f}: best aperture {scale} ({cost:.2f} CPU-s), holds {inside:.2f} of the halo and shows "
                  f"{gain:.2f} of its flux (bias {100 * (gain / inside - 1):+.0f} %)")
            print(f"    over the scatter of Stokes V (thermal; the best aperture for that): S/N a Jy {quiet:.2f}, u-v "
                  f"{uv_snr[size, FLUXES[0]][0] / FLUXES[0]:.2f}")
            for amount in FLUXES:
                thermal, empirical = uv_snr[size, amount]
                print(f"    {amount:4.0f} Jy: S/N {unit * amount:5.1f}; u-v {empirical:5.1f} over its own scatter "
                      f"(ratio {empirical / (unit * amount):.2f}), {thermal:5.1f} over thermal noise; flux calibrated "
                      f"by the injection {amount + offset.mean():.2f} +- {offset.std() / np.sqrt(len(offset)):.2f} Jy")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
