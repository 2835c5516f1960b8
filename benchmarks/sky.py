"""Simulated blank fields for the benchmarks: compact sources and noise."""

from __future__ import annotations

import dataclasses

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from halopy import simulate, surveys


def field(survey, rng, *, size=300, sources=True):
    """Return a blank field of a survey at RA 30, Dec -27 deg, with at least three pixels a beam.

    Compact sources follow the counts at 154 MHz (Franzen+ 2019, arXiv 1812.00666), some are doubles;
    the noise is correlated as that of the survey. Without ``sources`` there is noise alone.
    """
    survey = surveys[survey]
    position = SkyCoord(30 * u.deg, -27 * u.deg)
    survey = dataclasses.replace(survey, pixel_scale=min(survey.pixel_scale, survey.beam_at(position).minor / 3))
    image, _ = simulate.field((size, size), survey=survey, position=position, clusters=0,
                              faintest=None if sources else np.inf * u.Jy, artefacts=None, rng=rng)
    return image.replace(name=survey.name, meta={"survey": survey.name})
