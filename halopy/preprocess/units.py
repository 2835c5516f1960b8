"""Units of images."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError

__all__ = ["in_jansky_per_beam"]


def in_jansky_per_beam(image):
    """Return an image in Jy/beam: from Jy/pixel, Jy/sr or K, or another spelling of its own unit.

    Parameters
    ----------
    image : ClusterImage
        With a beam; for K with a frequency.

    Returns
    -------
    ClusterImage
    """
    wanted = u.Jy / u.beam
    per_pixel = u.Jy / u.pix
    if image.unit.is_equivalent(wanted):
        factor = image.unit.to(wanted)
    elif image.unit.is_equivalent(per_pixel):
        factor = image.unit.to(per_pixel) * image.beam_area
    elif image.unit.is_equivalent(u.K) and image.frequency is not None:
        factor = (1 * image.unit).to_value(u.Jy, u.brightness_temperature(image.frequency, image.beam.area))
    elif image.unit.is_equivalent(u.Jy / u.sr):
        factor = image.unit.to(u.Jy / u.sr) * image.beam.area.to_value(u.sr)
    else:
        raise HaloInputError("detection needs an image in Jy/beam, Jy/pixel, Jy/sr or K (with a frequency)",
                             path=image.meta.get("path"), keyword="BUNIT", found=str(image.unit))
    if factor == 1 and image.unit == wanted:
        return image
    planes = {name: None if plane is None else plane * np.float32(factor)
              for name, plane in (("data", image.data), ("rms", image.rms), ("background", image.background))}
    return image.replace(unit=wanted, **planes)
