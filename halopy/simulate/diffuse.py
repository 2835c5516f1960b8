"""Diffuse sources, as the telescope sees them."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError

__all__ = ["FLUX_WITHIN_3RE", "exponential_halo"]

FLUX_WITHIN_3RE = 1 - 4 * np.exp(-3)
"""The part of an exponential halo's flux that lies within three e-folding radii, 0.801."""


def exponential_halo(beam, pixel_scale, shape, r_e, *, x=None, y=None):
    """Return a beam-convolved exponential halo of unit total flux.

    The sky brightness is I0 exp(-r / r_e) with 2 π I0 r_e² = 1 (Murgia+ 2009, arXiv 0901.1943); its
    transform 1 / (1 + (2 π r_e q)²)^1.5 is multiplied by the beam's, so that neither the cusp nor
    a halo far smaller than a pixel suffers from sampling.

    Parameters
    ----------
    beam : Beam
    pixel_scale : `~astropy.units.Quantity`
        Angle of a pixel; the beam should be at least two pixels wide.
    shape : tuple of int
        ``(ny, nx)``.
    r_e : `~astropy.units.Quantity`
        The e-folding radius, an angle.
    x, y : float, optional
        Pixel of the centre, default the centre of the image.

    Returns
    -------
    `~numpy.ndarray`
        ``(ny, nx)``: Jy/beam for a halo of 1 Jy.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy import Beam
    >>> from halopy.simulate.diffuse import exponential_halo
    >>> beam = Beam(2 * u.arcmin)
    >>> halo = exponential_halo(beam, 30 * u.arcsec, (200, 200), 1.5 * u.arcmin)
    >>> print(f"{halo.sum() / beam.area_pixels(30 * u.arcsec):.3f} Jy")
    1.000 Jy
    """
    radius = float((r_e / pixel_scale).to_value(u.one))
    if not (np.isfinite(radius) and radius >= 0):
        raise HaloInputError("r_e must be a finite angle, not negative", found=str(r_e))
    x = (shape[1] - 1) / 2 if x is None else x
    y = (shape[0] - 1) / 2 if y is None else y
    covariance = beam.covariance(pixel_scale)
    # The exponential's tail must not come back from the other side: at 12 r_e it is 1e-5 of the centre.
    margin = int(np.ceil(12 * radius + 5 * np.sqrt(covariance.trace())))
    ny, nx = (n + margin for n in shape)
    v, w = np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)[None]
    transform = (1 + (2 * np.pi * radius) ** 2 * (v**2 + w**2)) ** -1.5
    form = covariance[0, 0] * w**2 + covariance[1, 1] * v**2 + 2 * covariance[0, 1] * w * v
    transform = transform * np.exp(-2 * np.pi**2 * form) * np.exp(-2j * np.pi * (w * x + v * y))
    return beam.area_pixels(pixel_scale) * np.fft.irfft2(transform, (ny, nx))[:shape[0], :shape[1]]
