"""Images of known shapelets, for the tests."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from halopy.image import ClusterImage

CENTRE = SkyCoord(50.0, -37.0, unit="deg")


def sky_wcs(n, pixel, *, rotation=0.0, projection="SIN"):
    """East to the left, the middle of n × n pixels at `CENTRE`; turned by ``rotation`` degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{projection}", f"DEC--{projection}"]
    wcs.wcs.crval = [CENTRE.ra.deg, CENTRE.dec.deg]
    wcs.wcs.crpix = [(n + 1) / 2] * 2
    scale = pixel.to_value(u.deg)
    wcs.wcs.cdelt = [-scale, scale]
    angle = np.radians(rotation)
    wcs.wcs.pc = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return wcs


def offsets(n, pixel, rotation=0.0):
    """Direction cosines east and north of the pixels of a SIN projection, which are those of its plane."""
    axis = (np.arange(n) - (n - 1) / 2) * pixel.to_value(u.rad)
    x, y = np.meshgrid(axis, axis)
    angle = np.radians(rotation)
    return -(np.cos(angle) * x - np.sin(angle) * y), np.sin(angle) * x + np.cos(angle) * y


def sky_image(basis, coefficients, n, pixel, *, rotation=0.0, **settings):
    """Return the sum of shapelets as a `ClusterImage` in Jy/sr."""
    brightness = basis.image(*offsets(n, pixel, rotation)) @ coefficients
    return ClusterImage(brightness, wcs=sky_wcs(n, pixel, rotation=rotation), unit=u.Jy / u.sr, **settings)
