"""Make docs/images/uv-amplitude.png and uv-coverage.png: the tutorial of docs/uvshapelets.rst, on simulated sky.

    python tools/make_uv_figures.py

takes seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from PIL import Image

from halopy.plot_uv import plot_amplitude, plot_coverage
from halopy.uvshapelets.detect import detect_halo
from halopy.uvshapelets.fit import NormalEquations
from halopy.uvshapelets.layouts import layouts
from halopy.uvshapelets.nuisance import PointSources
from halopy.uvshapelets.observe import observe
from halopy.uvshapelets.profile import radial_profile
from halopy.uvshapelets.templates import ExponentialHalo

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def main():
    rng = np.random.default_rng(5)
    lm = rng.uniform(-0.02, 0.02, (12, 2))
    flux = 0.1 * rng.uniform(0.05, 1, 12) ** -0.7
    vis = observe([(0.35, ExponentialHalo(3 * u.arcmin))], layouts["mwa-1"], centre=SkyCoord(30, -27, unit="deg"),
                  hour_angles=[-1, 0, 1] * u.hourangle, frequency=154 * u.MHz, noise=1 * u.Jy, points=(*lm.T, flux),
                  rng=1)
    sources = PointSources(lm, flux * rng.normal(1, 0.05, 12) * u.Jy, 0.05 * flux * u.Jy)
    found = detect_halo(vis, sources=sources, rng=1)
    print(found)
    halo = ExponentialHalo(found.r_e)
    equations = NormalEquations(halo, sources).update(vis)
    fitted, _ = equations.fluxes(equations.solve())
    profile = radial_profile(vis, {"halo": found.flux_held.value * halo.visibility(vis.u, vis.v),
                                   "sources": sources.visibility(vis.u, vis.v, vis.w) @ fitted})
    for name, figure in {"amplitude": plot_amplitude(profile), "coverage": plot_coverage(vis)}.items():
        path = IMAGES / f"uv-{name}.png"
        figure.savefig(path, dpi=100)
        Image.open(path).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path, path.stat().st_size // 1024, "kB")


if __name__ == "__main__":
    main()
