"""The truth about cutouts, from the sources in them."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError

__all__ = ["COMPACT", "EMPTY", "blends", "truth_columns"]

COMPACT = ("compact", "blend")
EMPTY = ("none", "blank")
"""Classes of rows that stand for a place, not for a source."""
COLUMNS = ("redshift", "m500", "flux", "r_e", "length")


def truth_columns(sources, parts, row, fwhm):
    """Return the columns that a cutout's table has about its scene.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        With one row marked ``main`` for each cutout, in the order of the cutouts.
    parts : `~numpy.ndarray`
        The Gaussians of the sources, from `halopy.simulate.shapes.components`.
    row : `~numpy.ndarray`
        The cutout of each source.
    fwhm : `~numpy.ndarray`
        ``(n,)`` beams of the cutouts, arcsec.

    Returns
    -------
    dict
        ``label``, ``also``, ``redshift``, ``m500``, ``flux``, ``r_e``, ``length``, ``blends``.
    """
    n = len(fwhm)
    main = np.asarray(sources["main"], dtype=bool)
    if not np.array_equal(row[main], np.arange(n)):
        raise HaloInputError("the sources need one main row for each cutout, in their order",
                             found=f"{main.sum()} main rows, {n} cutouts")
    target = sources[main]
    kind = np.asarray(sources["class"])
    label = kind[main]
    also = np.full(n, "", dtype="U40")
    others = ~main & (kind != "compact")
    for name in np.unique(kind[others]):
        has = np.unique(row[others & (kind == name)])
        has = has[label[has] != name]
        also[has] = np.char.add(np.where(also[has] == "", "", np.char.add(also[has], ",")), name)
    columns = {"label": label, "also": also}
    columns |= {name: target[name] for name in COLUMNS if name in target.colnames}
    return columns | {"blends": blends(sources, parts, row, target, fwhm)}


def blends(sources, parts, row, target, fwhm):
    """Return how many compact sources lie within a beam, its geometric mean width, of each main source."""
    source = parts["source"]
    compact = np.isin(np.asarray(sources["class"])[source], COMPACT)
    source, parts = source[compact], parts[compact]
    row = row[source]
    apart = [u.Quantity(sources[name]).to_value(u.arcsec)[source] + parts[name]
             - u.Quantity(target[name]).to_value(u.arcsec)[row] for name in ("east", "north")]
    return np.bincount(row, np.hypot(*apart) <= fwhm[row], minlength=len(target)).astype(int)
