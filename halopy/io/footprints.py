"""Where the surveys have looked, as far as it can be said without asking them."""

from __future__ import annotations

import numpy as np

__all__ = ["in_footprint"]

# Lowest and highest declination (ICRS, degrees) of the images; whether the Galactic plane (|b| < 10 deg) is left out.
_LIMITS = {
    "gleam": (-90, 30, False),     # arXiv 1505.06041
    "gleam-x": (-90, 30, None),    # arXiv 2204.12762: so far in parts
    "nvss": (-40, 90, False),      # Condon et al. 1998, AJ 115, 1693
    "sumss": (-90, -30, True),     # Mauch et al. 2003, astro-ph/0303188
    "tgss": (-53, 90, False),      # arXiv 1603.04368
    "vlssr": (-30, 90, False),     # arXiv 1404.0694
    "racs-low": (-90, 41, False),  # arXiv 2012.00747
    "racs-mid": (-90, 49, False),  # arXiv 2306.07194
    "lotss": (0, 90, None),        # arXiv 2202.11733: two regions of the northern sky
    "mgcls": (-90, 10, None),      # arXiv 2111.05673: 115 fields
    "mwa2": (-90, 30, None),       # arXiv 2106.12281: fields
}


def in_footprint(position, survey):
    """Say whether a survey has looked at a position.

    Parameters
    ----------
    position : `~astropy.coordinates.SkyCoord`
        One position.
    survey : Survey

    Returns
    -------
    bool or None
        None: it cannot be said from the declination and Galactic latitude alone. True does not promise an image
        without gaps.

    Examples
    --------
    >>> from astropy.coordinates import SkyCoord
    >>> from halopy import surveys
    >>> from halopy.io.footprints import in_footprint
    >>> coma = SkyCoord(194.95, 27.98, unit="deg")
    >>> in_footprint(coma, surveys["gleam-170-231"]), in_footprint(coma, surveys["sumss"])
    (True, False)
    """
    # The longest name wins: gleam-x is not gleam.
    known = sorted((name for name in _LIMITS if survey.name == name or survey.name.startswith(f"{name}-")), key=len)
    declination = position.icrs.dec.deg
    if not np.isfinite(declination) or not known:
        return None
    low, high, no_plane = _LIMITS[known[-1]]
    if not low <= declination <= high:
        return False
    if no_plane is None:
        return None
    return not (no_plane and abs(position.galactic.b.deg) < 10)
