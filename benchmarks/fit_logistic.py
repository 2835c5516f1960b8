"""Fit the two constants of the matched filter's logistic, on simulated sky.

Usage: python benchmarks/fit_logistic.py

Half of the positions hold a halo: r_e log-uniform over 0.25 to 2.5 beams, total flux log-uniform so
that the ideal S/N lies between 2 and 20, the centre off by a quarter of r_e (Rayleigh). The other
half is the same sky without it: noise, compact sources, doubles.
"""

from __future__ import annotations

import numpy as np
from astropy import units as u
from sklearn.linear_model import LogisticRegression
from sky import field

from halopy import CutoutMaker, NoiseEstimator, classifiers
from halopy.image import Beam
from halopy.simulate.diffuse import exponential_halo

SEED, FIELDS, POSITIONS = 20261122, 8, 60


def main():
    rng = np.random.default_rng(SEED)
    statistic, truth, survey_of = [], [], []
    for survey in ("gleam-139-170", "gleam-170-231", "gleam-x-170-231", "nvss"):
        for _ in range(FIELDS):
            image = NoiseEstimator()(field(survey, rng))
            places = image.wcs.pixel_to_world(*rng.uniform(60, 239, (2, POSITIONS)))
            cutouts = CutoutMaker(96, pixels_per_beam=3)(image, places)
            data, scale = cutouts.data.copy(), cutouts.table["pixel_scale"][0]
            beam = Beam(cutouts.table["beam_major"][0], cutouts.table["beam_minor"][0], cutouts.table["beam_pa"][0])
            fwhm = np.sqrt(beam.major * beam.minor)
            halo = np.arange(POSITIONS) % 2 == 0
            for i in np.flatnonzero(halo):
                r_e = fwhm * np.exp(rng.uniform(np.log(0.25), np.log(2.5)))
                dx, dy = rng.normal(0, 0.25 * float((r_e / scale).to_value(u.one)), 2)
                template = exponential_halo(beam, scale, data.shape[1:], r_e, x=47.5 + dx, y=47.5 + dy)
                rms = u.Quantity(cutouts.table["rms"]).value[i]
                unit_snr = np.sqrt((template**2).sum() / (2 * beam.area_pixels(scale))) / rms
                data[i] += np.exp(rng.uniform(np.log(2), np.log(20))) / unit_snr * template
            statistic.append(classifiers.create("matched-filter").statistic(cutouts.replace(data=data)))
            truth.append(halo)
            survey_of += [survey] * POSITIONS
    statistic, truth, survey_of = np.concatenate(statistic), np.concatenate(truth), np.array(survey_of)
    model = LogisticRegression(C=1e6).fit(statistic[:, None], truth)
    print(f"{len(truth)} positions, seed {SEED}")
    print(f"slope {model.coef_[0, 0]:.3f}  intercept {model.intercept_[0]:.3f}")
    for survey in dict.fromkeys(survey_of):
        here = survey_of == survey
        blank, halos = statistic[here & ~truth], statistic[here & truth]
        print(f"{survey:18s} blank: median {np.median(blank):.2f}, 99 % {np.quantile(blank, 0.99):.2f}; "
              f"halos: median {np.median(halos):.2f}")


if __name__ == "__main__":
    main()
