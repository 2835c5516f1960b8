"""Simulated sky for the tests, written without halopy's own formulae where those are under test."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.wcs import WCS

from halopy.cutouts import CutoutSet, tangent_wcs
from halopy.image import Beam, ClusterImage
from halopy.simulate.diffuse import exponential_halo

CENTRE = SkyCoord(3.58, -30.39, unit="deg")
PIXEL = 40 * u.arcsec
BEAM = Beam(140 * u.arcsec, 120 * u.arcsec, 30 * u.deg)
RMS = 0.008
JY_PER_BEAM = u.Jy / u.beam


def axes(beam, pixel_scale):
    """Standard deviations in pixels, and unit vectors (x, y) of the major and the minor axis.

    North is +y and east is −x; the position angle runs from north through east.
    """
    sigma = [(axis / pixel_scale).to_value(u.one) / 2.3548200450309493 for axis in (beam.major, beam.minor)]
    angle = beam.pa.to_value(u.rad)
    return sigma, ((-np.sin(angle), np.cos(angle)), (np.cos(angle), np.sin(angle)))


def point_source(shape, x, y, *, beam=BEAM, pixel_scale=PIXEL):
    """A beam of unit peak at (x, y)."""
    (a, b), (along, across) = axes(beam, pixel_scale)
    dy, dx = np.arange(shape[0])[:, None] - y, np.arange(shape[1])[None] - x
    return np.exp(-0.5 * (((along[0] * dx + along[1] * dy) / a) ** 2 + ((across[0] * dx + across[1] * dy) / b) ** 2))


def beam_noise(shape, rng, *, beam=BEAM, pixel_scale=PIXEL, n=None):
    """White noise convolved with the beam, of unit rms: ``shape``, or ``(n, *shape)``."""
    (a, b), (along, across) = axes(beam, pixel_scale)
    # The margin keeps one edge from being correlated with the opposite one.
    padded = [int(size + np.ceil(8 * a)) for size in shape]
    v, w = np.fft.fftfreq(padded[0])[:, None], np.fft.rfftfreq(padded[1])[None]
    form = (a * (along[0] * w + along[1] * v)) ** 2 + (b * (across[0] * w + across[1] * v)) ** 2
    transfer = np.exp(-2 * np.pi**2 * form)
    stack = rng.standard_normal((1 if n is None else n, *padded))
    smooth = np.fft.irfft2(np.fft.rfft2(stack) * transfer, padded)[:, :shape[0], :shape[1]]
    # Convolved with a Gaussian of area 1, white noise keeps 1 / (4 π σa σb) of its variance (Parseval).
    smooth *= np.sqrt(4 * np.pi * a * b)
    return smooth[0] if n is None else smooth


def an_image(pixels, *, pixel_scale=PIXEL, **settings):
    """A ClusterImage about `CENTRE`, in Jy/beam."""
    pixels = np.asarray(pixels)
    settings = {"unit": JY_PER_BEAM, "beam": BEAM, "frequency": 200 * u.MHz, "name": "simulated"} | settings
    return ClusterImage(pixels, wcs=tangent_wcs(CENTRE, pixel_scale, pixels.shape), **settings)


def a_field(shape=(300, 300), *, rng, rms=RMS, beam=BEAM, pixel_scale=PIXEL, sources=(), halos=(), **settings):
    """An image of beam-correlated noise.

    ``sources``: rows of x, y, flux (Jy); ``halos``: rows of x, y, flux (Jy), r_e (geometric mean beams).
    """
    pixels = rms * beam_noise(shape, np.random.default_rng(rng), beam=beam, pixel_scale=pixel_scale)
    for x, y, flux in sources:
        pixels += flux * point_source(shape, x, y, beam=beam, pixel_scale=pixel_scale)
    for x, y, flux, r_e in halos:
        pixels += flux * exponential_halo(beam, pixel_scale, shape, r_e * np.sqrt(beam.major * beam.minor), x=x, y=y)
    return an_image(pixels, pixel_scale=pixel_scale, beam=beam, **settings)


def turned_wcs(shape=(300, 300), *, scale=PIXEL, turn=0.0, east=-1, north=1, aspect=1.0, centre=CENTRE,
               ctype=("RA---SIN", "DEC--SIN")):
    """A WCS turned by CROTA2 (degrees); ``east=1`` mirrors, ``north=-1`` puts south up, ``aspect`` is width / height.

    The celestial standard (Greisen & Calabretta 2002, section 6.1) is CD = CDELT · PC with CROTA2.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ctype
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [centre.spherical.lon.deg, centre.spherical.lat.deg]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    a, b = east * scale.to_value(u.deg) * aspect**0.5, north * scale.to_value(u.deg) / aspect**0.5
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    wcs.wcs.cd = [[a * cos, -b * sin], [a * sin, b * cos]]
    return wcs


def on_grid(image, wcs, shape):
    """The same sky on another grid, in another frame or none: spline interpolation of a well sampled image."""
    from scipy.ndimage import map_coordinates

    sky = wcs.pixel_to_world(*np.meshgrid(np.arange(shape[1]), np.arange(shape[0])))
    x, y = image.wcs.world_to_pixel(sky)
    pixels = map_coordinates(image.data.astype(float), [y, x], order=3, cval=np.nan)
    return image.replace(data=pixels, wcs=wcs, rms=None)


def some_cutouts(pixels, *, beam=BEAM, pixel_scale=PIXEL, rms=RMS, unit=JY_PER_BEAM):
    """A CutoutSet of ``(n, ny, nx)`` pixels with the columns that a CutoutMaker writes; rms None: no column."""
    n = len(pixels)
    table = QTable({"name": np.array([f"T{i}" for i in range(n)], dtype=str),
                    "pixel_scale": np.full(n, pixel_scale.to_value(u.arcsec)) * u.arcsec,
                    "beam_major": np.full(n, beam.major.to_value(u.arcsec)) * u.arcsec,
                    "beam_minor": np.full(n, beam.minor.to_value(u.arcsec)) * u.arcsec,
                    "beam_pa": np.full(n, beam.pa.to_value(u.deg)) * u.deg})
    if rms is not None:
        table["rms"] = np.full(n, rms) * unit
    return CutoutSet(pixels, table, unit=unit)
