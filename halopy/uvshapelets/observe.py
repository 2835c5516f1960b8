"""Simulated visibilities: an array, a sky of known models, thermal noise; and a UVFITS file of them."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.constants import c
from astropy.coordinates import SkyCoord

from halopy.errors import HaloInputError
from halopy.uvshapelets.visibilities import Visibilities

__all__ = ["observe", "tracks"]

LIGHT = c.to_value(u.m / u.s)


def tracks(layout, *, declination, hour_angles):
    """Return the baselines of a layout as seen from a source that the sky carries over it.

    Parameters
    ----------
    layout : Layout
        The array.
    declination : `~astropy.units.Quantity`
        Of the source.
    hour_angles : `~astropy.units.Quantity`
        ``(t,)``; negative before the meridian.

    Returns
    -------
    `~astropy.units.Quantity`
        ``(3, t, b)``: u, v, w in metres of every time and baseline (`Layout.baselines`).

    Raises
    ------
    HaloInputError
        If the source is below the horizon at any of the times.

    Notes
    -----
    Thompson, Moran & Swenson 2017, doi 10.1007/978-3-319-44431-4, chapter 4; the Earth's axis stands still.
    """
    hour = np.atleast_1d(u.Quantity(hour_angles).to_value(u.rad))
    dec, latitude = u.Quantity(declination).to_value(u.rad), layout.latitude.to_value(u.rad)
    if (sine := np.sin(latitude) * np.sin(dec) + np.cos(latitude) * np.cos(dec) * np.cos(hour)).min() <= 0:
        raise HaloInputError("the source must be above the horizon at every hour angle", keyword="hour_angles",
                             found=f"elevation {np.degrees(np.arcsin(sine.min())):.1f} deg")
    east, north, up = layout.baselines.to_value(u.m).T
    x, z = up * np.cos(latitude) - north * np.sin(latitude), north * np.cos(latitude) + up * np.sin(latitude)
    sin, cos = np.sin(hour)[:, None], np.cos(hour)[:, None]
    return np.array([x * sin + east * cos,
                     z * np.cos(dec) - np.sin(dec) * (x * cos - east * sin),
                     z * np.sin(dec) + np.cos(dec) * (x * cos - east * sin)]) * u.m


def observe(models, layout, *, centre, hour_angles, frequency, noise=None, points=None, rng=None):
    """Simulate what an array measures of a sky: the sum of its parts, and thermal noise.

    Parameters
    ----------
    models : iterable of (flux, model)
        ``flux`` in Jy (a Quantity, or a number), and any object with ``visibility(u, v, w)`` that returns ``(n,)``
        complex for 1 Jy, such as `~halopy.uvshapelets.templates.ExponentialHalo`. May be empty.
    layout : Layout
        The array, for example ``layouts["mwa-1"]``.
    centre : `~astropy.coordinates.SkyCoord`
        The phase centre.
    hour_angles : `~astropy.units.Quantity`
        ``(t,)`` of the phase centre.
    frequency : `~astropy.units.Quantity`
        Of the channels, one or ``(f,)``.
    noise : `~astropy.units.Quantity`, optional
        σ of the real part of one visibility in Jy (that of the imaginary part is the same). None (default): no noise,
        and weights of 1.
    points : tuple of array_like, optional
        ``(l, m, flux)``, ``(j,)`` each: direction cosines to the east and north of the phase centre, and fluxes in Jy.
        Their phases are exact anywhere on the sky.
    rng : int or `~numpy.random.Generator`, optional

    Returns
    -------
    Visibilities
        By time, baseline and channel, the last fastest. There is no primary beam and no smearing.

    Raises
    ------
    HaloInputError
        If the centre sets, the noise is not positive, or a point lies beyond the horizon of the phase centre.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.coordinates import SkyCoord
    >>> from halopy.uvshapelets.layouts import layouts
    >>> from halopy.uvshapelets.observe import observe
    >>> observe([], layouts["mwa-1"], centre=SkyCoord(30, -27, unit="deg"), hour_angles=[-1, 1] * u.hourangle,
    ...         frequency=154 * u.MHz, noise=2 * u.Jy, points=([0.01], [0], [1.5]), rng=1)
    <Visibilities: 16,256, |u| 4 to 1473 wavelengths, 154 MHz, about 02h00m00s -27d00m00s>
    """
    rng = np.random.default_rng(rng)
    hertz = np.atleast_1d(u.Quantity(frequency).to_value(u.Hz))
    metres = tracks(layout, declination=centre.icrs.dec, hour_angles=hour_angles).to_value(u.m)
    uvw = (metres[..., None] * (hertz / LIGHT)).reshape(3, -1)
    vis = np.zeros(uvw.shape[1], complex)
    for flux, model in models:
        vis += u.Quantity(flux, u.Jy).value * model.visibility(*uvw)
    if points is not None:
        vis += _points(uvw, *(np.atleast_1d(np.asarray(values, float)) for values in points))
    weight = 1.0
    if noise is not None:
        sigma = u.Quantity(noise).to_value(u.Jy)
        if not (np.isfinite(sigma) and sigma > 0):
            raise HaloInputError("noise must be positive; None for no noise", keyword="noise", found=str(noise))
        vis += sigma * (rng.standard_normal(vis.size) + 1j * rng.standard_normal(vis.size))
        weight = sigma**-2
    each = hertz[0] if len(hertz) == 1 else np.tile(hertz, metres[0].size)
    hours = np.atleast_1d(u.Quantity(hour_angles).to_value(u.hourangle))
    return Visibilities(*uvw, vis, weight, each, SkyCoord(centre.icrs.ra, centre.icrs.dec),
                        {"layout": layout.name, "hour_angles": hours.tolist(), "simulated": True})


def _points(uvw, east, north, flux):
    square = east**2 + north**2
    if not (square < 1).all():
        raise HaloInputError("l² + m² of a point must be below 1", keyword="points", found=float(square.max()))
    below = -square / (1 + np.sqrt(1 - square))
    vis = np.zeros(uvw.shape[1], complex)
    for direction, jansky in zip(np.stack([east, north, below], axis=1), flux, strict=True):
        vis += jansky * np.exp(-2j * np.pi * (direction @ uvw))
    return vis
