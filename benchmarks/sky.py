"""Simulated fields for the benchmarks: compact sources and beam-correlated noise."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from halopy import ClusterImage, surveys
from halopy.preprocess.subtract import beam_image


def field(survey, rng, *, size=300, sources=True):
    """Return a blank field of a survey: noise with the beam's autocorrelation and compact sources.

    The sources have the slope of the 154 MHz counts at these fluxes, dN/dS ~ S^-1.6, and the density
    of science at low frequency: 48 per square degree above 10 mJy at 154 MHz (Franzen+ 2019, arXiv
    1812.00666), scaled with S ~ frequency^-0.8. A quarter of them are doubles.
    """
    survey = surveys[survey]
    beam = survey.beam_at(SkyCoord(30 * u.deg, -27 * u.deg))
    scale = min(survey.pixel_scale, beam.minor / 3)
    shape = (size, size)
    white = np.fft.rfft2(rng.normal(size=shape))
    kernel = np.fft.rfft2(np.fft.ifftshift(beam_image(beam, scale, shape, x=size // 2, y=size // 2)))
    noise = np.fft.irfft2(white * kernel, shape)
    rms = survey.rms.to_value(u.Jy / u.beam)
    sky = noise * rms / noise.std()
    if sources:
        faintest = 2 * rms
        above = 48 * (faintest / 0.010 * (survey.frequency.to_value(u.MHz) / 154) ** 0.8) ** -0.6
        number = rng.poisson(above * (size * scale.to_value(u.deg)) ** 2)
        flux = np.minimum(faintest * (1 - rng.uniform(size=number)) ** (-1 / 0.6), 1000 * rms)
        width = float((beam.major / scale).to_value(u.one))
        places, kinds = rng.uniform(0, size - 1, (2, number)), rng.uniform(size=number)
        for peak, x, y, kind in zip(flux, *places, kinds, strict=True):
            if kind < 0.25:
                dx, dy = rng.normal(0, 0.5 * width, 2)
                sky += 0.5 * peak * beam_image(beam, scale, shape, x=x + dx, y=y + dy)
                sky += 0.5 * peak * beam_image(beam, scale, shape, x=x - dx, y=y - dy)
            else:
                sky += peak * beam_image(beam, scale, shape, x=x, y=y)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.crval, wcs.wcs.crpix = [30.0, -27.0], [(size + 1) / 2] * 2
    wcs.wcs.cdelt = [-scale.to_value(u.deg), scale.to_value(u.deg)]
    return ClusterImage(sky, wcs=wcs, unit=u.Jy / u.beam, beam=beam, frequency=survey.frequency, name=survey.name,
                        meta={"survey": survey.name})
