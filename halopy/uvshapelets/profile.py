"""Visibilities against the distance in the u-v plane: what a fit is looked at with."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.errors import HaloInputError

__all__ = ["radial_profile"]


def radial_profile(visibilities, models=None, *, n_bins=24):
    """Average the real part of visibilities over annuli of the u-v plane.

    The real part is the flux of what lies at the phase centre, symmetrically about it; other sources beat.

    Parameters
    ----------
    visibilities : Visibilities
        ``n`` of them, with the phase centre on the target (`~halopy.uvshapelets.visibilities.Visibilities.phased_to`).
    models : mapping of str to `~numpy.ndarray`, optional
        Predicted visibilities in Jy, ``(n,)`` complex, by name: they are averaged in the same way.
    n_bins : int, optional
        Annuli of equal width in the logarithm of the distance, default 24; those without data are left out.

    Returns
    -------
    `~astropy.table.QTable`
        ``distance`` (weighted mean, wavelengths), ``n``, ``real`` and ``real_err`` (weighted mean and its standard
        deviation by the weights, Jy), and a column (Jy) for each of the models.

    Raises
    ------
    HaloInputError
        For less than one annulus, a name of a model that is a column's, and where no visibility has weight.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.profile import radial_profile
    >>> from halopy.uvshapelets.templates import ExponentialHalo
    >>> from halopy.uvshapelets.visibilities import Visibilities
    >>> east = np.geomspace(20, 2000, 1000)
    >>> halo = 0.5 * ExponentialHalo(2 * u.arcmin).visibility(east, 0 * east)
    >>> profile = radial_profile(Visibilities(east, 0 * east, 0 * east, halo, 4, 154e6), {"halo": halo}, n_bins=3)
    >>> print(profile["n"].tolist(), profile["real"].round(3), profile["halo"][0].round(3))
    [333, 334, 333] [0.475 0.258 0.02 ] Jy 0.475 Jy
    """
    models = {} if models is None else models
    if n_bins < 1:
        raise HaloInputError("n_bins must be 1 or more", keyword="n_bins", found=n_bins)
    use = np.flatnonzero((visibilities.weight > 0) & (visibilities.distance > 0))
    if not use.size:
        raise HaloInputError("no visibility has weight", keyword="weight")
    distance, weight = visibilities.distance[use], visibilities.weight[use]
    # A little wider than the data, so that the outermost are inside.
    edges = np.geomspace(distance.min() * (1 - 1e-9), distance.max() * (1 + 1e-9), n_bins + 1)
    owner = np.searchsorted(edges, distance) - 1
    number = np.bincount(owner, minlength=n_bins)
    filled = np.flatnonzero(number)
    total = np.bincount(owner, weight)[filled]

    def mean(values):
        return np.bincount(owner, weight * values)[filled] / total

    profile = QTable({"distance": mean(distance), "n": number[filled], "real": mean(visibilities.vis.real[use]) * u.Jy,
                      "real_err": total**-0.5 * u.Jy})
    for name, values in models.items():
        if name in profile.colnames:
            raise HaloInputError("a model cannot have the name of a column", keyword="models", found=name)
        profile[name] = mean(np.real(values)[use]) * u.Jy
    return profile
