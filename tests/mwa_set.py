"""A small set of images with the names, headers and clip of the public repository."""

from __future__ import annotations

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits

from halopy.survey import surveys

GLEAM = "GLEAM-Data"
MWA2 = "Data_for_Gen_Model_Evaluation/Central_clipped_images"
RMS = 0.008
SIZE = 150
FILES = (
    (f"{GLEAM}/TRAIN_DATA_1/abell_0141_Gleam170-231_clipped.fits", "Abell 0141"),
    (f"{GLEAM}/TRAIN_DATA_1/abell_s1063Gleam170-231_clipped.fits", "Abell S1063"),
    (f"{GLEAM}/TRAIN_DATA_0/orc 5_GLEAM_170-231MHz_clipped.fits", "ORC 5"),
    (f"{GLEAM}/TEST_DATA_0/orc 2_GLEAM_170-231MHz_clipped.fits", "ORC 2"),
    (f"{GLEAM}/TRAIN_DATA_0/orc 3_GLEAM_170-231MHz_clipped.fits", "ORC 3"),
    (f"{GLEAM}/TRAIN_DATA_1/macs j2243.3-0935_Gleam72-103_clipped.fits", "MACS J2243.4-0935"),
    (f"{MWA2}/abell0141mwa2216mhzbriggs0_Halo.fits", "Abell 0141"),
    (f"{MWA2}/abell0168field3216mhzr2.0_Halo.fits", "Abell 0168"),
)


def sky(rng, *, size=SIZE, major=4.8, minor=4.2, pa=110.0, rms=RMS, sources=14):
    """Noise of the beam's scale and compact sources with the beam, in Jy/beam; widths in pixels."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal((size, size)), np.sqrt(major * minor) / 2.355)
    image = rms * noise / noise.std()
    y, x = np.mgrid[:size, :size]
    angle = np.radians(pa)
    # North is +y, east is -x: the position angle runs from +y towards -x.
    for flux in rng.uniform(0.5, 3, sources):
        dx, dy = x - rng.uniform(5, size - 5), y - rng.uniform(5, size - 5)
        along, across = -np.sin(angle) * dx + np.cos(angle) * dy, np.cos(angle) * dx + np.sin(angle) * dy
        image = image + flux * np.exp(-4 * np.log(2) * ((along / major) ** 2 + (across / minor) ** 2))
    return image


def clipped(image, threshold):
    """As in the repository: pixels below the threshold, of either sign, are zero."""
    return np.where(np.abs(image) < threshold, 0, image)


def write(path, image, position, pixel_arcsec, **cards):
    """A file with the repository's header: a WCS in FK5, and nothing else."""
    header = fits.Header()
    ny, nx = image.shape
    fk5 = SkyCoord(position).fk5
    for key, value in {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": fk5.ra.deg, "CRVAL2": fk5.dec.deg,
                       "CRPIX1": (nx + 1) / 2, "CRPIX2": (ny + 1) / 2, "CDELT1": -pixel_arcsec / 3600,
                       "CDELT2": pixel_arcsec / 3600, "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "FK5",
                       "EQUINOX": 2000.0, **cards}.items():
        header[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.writeto(path, image.astype(">f4"), header, overwrite=True)


def make(folder, targets, files=FILES):
    """Write a folder as the repository's; every image is clipped at three times `RMS`."""
    from halopy.io.mwa_names import parse_name

    positions = dict(zip(map(str, targets["name"]), targets["position"], strict=True))
    for number, (source, name) in enumerate(files):
        band = parse_name(source).band
        image = clipped(sky(np.random.default_rng(number)), 3 * RMS)
        write(folder / source, image, positions[name], surveys[band].pixel_scale.value)
    return folder
