"""Catalogues of point sources, as what is marginalised beside a halo."""

from __future__ import annotations

import warnings

import numpy as np
from astropy import units as u
from astropy.table import Table

from halopy.errors import HaloInputError, HalopyWarning
from halopy.io.candidates import plain
from halopy.io.catalog import read_targets
from halopy.uvshapelets.nuisance import PointSources

__all__ = ["read_sources"]


def read_sources(path_or_table):
    """Read a catalogue of point sources.

    Parameters
    ----------
    path_or_table : str, path-like or `~astropy.table.Table`
        Positions as `~halopy.io.catalog.read_targets` takes them, and the columns ``flux`` and ``flux_err``: the
        apparent flux densities (times the primary beam) where the visibilities are, and the standard deviations of
        their priors. A flux without an error is free; an error of 0 holds it. A number without a unit is in Jy.

    Returns
    -------
    PointSources

    Raises
    ------
    HaloInputError
        Where a position is missing, there is no column ``flux`` or no row, a flux with an error is missing, or the unit
        is none of flux density.

    Warns
    -----
    HalopyWarning
        Where a column has no unit.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from halopy.uvshapelets.sources import read_sources
    >>> read_sources(QTable({"ra": [30.0, 30.1], "dec": [-27.0, -27.2], "flux": [120, 40] * u.mJy,
    ...                      "flux_err": [6, 4] * u.mJy}))
    <PointSources: 2, 0.16 Jy>
    """
    path = None if isinstance(path_or_table, Table) else str(path_or_table)
    table = read_targets(path_or_table)
    if "flux" not in table.colnames:
        raise HaloInputError("a catalogue of sources needs a column flux", path=path, found=table.colnames)
    position = table["position"]
    if np.isnan(position.ra).any():
        raise HaloInputError("every source needs a position", path=path,
                             found=f"none in row {int(np.argmax(np.isnan(position.ra))) + 1}")
    flux = _jansky(table["flux"], "flux", path)
    error = _jansky(table["flux_err"], "flux_err", path) if "flux_err" in table.colnames else np.full(len(flux), np.nan)
    error[np.isnan(error)] = np.inf
    if (lost := np.isnan(flux) & np.isfinite(error)).any():
        raise HaloInputError("a flux with an error must be there", path=path, keyword="flux",
                             found=f"none in row {int(np.argmax(lost)) + 1}")
    return PointSources(position, np.nan_to_num(flux) * u.Jy, error * u.Jy)


def _jansky(column, name, path):
    values, unit = plain(column), getattr(column, "unit", None)
    if unit is None:
        warnings.warn(f"the column {name} of the sources has no unit: it is taken for Jy", HalopyWarning, stacklevel=3)
        return values
    try:
        return values * u.Unit(unit).to(u.Jy)
    except (u.UnitConversionError, ValueError) as error:
        raise HaloInputError(f"{name} must be a flux density", path=path, keyword="unit", found=str(unit)) from error
