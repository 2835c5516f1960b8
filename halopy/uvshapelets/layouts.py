"""Where the antennas of an array stand: the layouts that simulated visibilities are made with."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from functools import cache
from importlib import resources

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.errors import HaloInputError

__all__ = ["Layout", "layouts"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Layout:
    """An array of antennas.

    Parameters
    ----------
    name : str
        For example ``"mwa-1"``.
    positions : `~astropy.units.Quantity`
        ``(n, 3)``, lengths to the east, to the north and up in the plane that touches the Earth at the array.
    latitude, longitude : `~astropy.units.Quantity`
        Geodetic, of the array.
    height : `~astropy.units.Quantity`, optional
        Above the ellipsoid, default 0 m.
    antennas : sequence of str, optional
        Their names; default: ``"1"``, ``"2"``, …
    source : str, optional
        Where the positions come from.

    Raises
    ------
    HaloInputError
        For positions that are not two or more triples of finite lengths, or names that are not as many.

    Examples
    --------
    >>> from halopy.uvshapelets.layouts import layouts
    >>> list(layouts)
    ['mwa-1', 'mwa-2-compact', 'mwa-2-extended', 'lofar-hba', 'meerkat', 'ska-low']
    >>> layouts["mwa-1"]
    <Layout mwa-1: 128 antennas, baselines of 7.7 m to 2.9 km, latitude -26.7 deg>
    """

    name: str
    positions: u.Quantity
    latitude: u.Quantity
    longitude: u.Quantity
    height: u.Quantity = 0 * u.m
    antennas: tuple = ()
    source: str = ""

    def __post_init__(self):
        positions = u.Quantity(self.positions)
        if (not positions.unit.is_equivalent(u.m) or positions.ndim != 2 or positions.shape[1] != 3
                or len(positions) < 2 or not np.isfinite(positions).all()):
            raise HaloInputError("positions must be finite lengths, east, north and up of two or more antennas",
                                 keyword="positions",
                                 found=f"{positions.unit.to_string() or 'no unit'}, shape {positions.shape}")
        antennas = tuple(self.antennas) or tuple(str(number) for number in range(1, len(positions) + 1))
        if len(antennas) != len(positions):
            raise HaloInputError(f"there must be one name an antenna, {len(positions)}", keyword="antennas",
                                 found=len(antennas))
        object.__setattr__(self, "positions", positions.to(u.m))
        object.__setattr__(self, "antennas", antennas)

    def __len__(self):
        return len(self.positions)

    def __repr__(self):
        length = np.linalg.norm(self.baselines, axis=1)
        return (f"<Layout {self.name}: {len(self)} antennas, baselines of {length.min():.1f} to "
                f"{length.max().to(u.km):.1f}, latitude {self.latitude.to_value(u.deg):.1f} deg>")

    @property
    def pairs(self):
        """The two antennas of each baseline: indices, ``(2, n (n − 1) / 2)``, the first the smaller."""
        return np.array(np.triu_indices(len(self), 1))

    @property
    def baselines(self):
        """Position of the first less that of the second antenna of each pair: ``(n (n − 1) / 2, 3)``."""
        first, second = self.pairs
        return self.positions[first] - self.positions[second]


@cache
def _table():
    with resources.as_file(resources.files("halopy") / "data" / "layouts.ecsv") as path:
        return QTable.read(path, format="ascii.ecsv")


class _Layouts(Mapping):
    """Read-only mapping over the table that ships; a misspelt name is answered with the nearest."""

    names = ("mwa-1", "mwa-2-compact", "mwa-2-extended", "lofar-hba", "meerkat", "ska-low")

    def __getitem__(self, name):
        if name not in self.names:
            near = difflib.get_close_matches(str(name), self.names, n=1, cutoff=0.4)
            raise HaloInputError(f"no layout is called {name!r}", hint=f"{near[0]!r}" if near else None,
                                 found=f"known: {', '.join(self.names)}")
        table = _table()
        about = table.meta["arrays"][name]
        rows = table[table["array"] == name]
        return Layout(name, np.stack([rows[axis] for axis in ("east", "north", "up")], axis=1),
                      about["latitude"] * u.deg, about["longitude"] * u.deg, about["height"] * u.m,
                      tuple(rows["antenna"].tolist()), about["source"])

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)

    def __repr__(self):
        return f"<layouts: {', '.join(self)}>"


layouts = _Layouts()
"""The layouts that ship, by name: MWA phase I, phase II compact and extended, LOFAR's HBA in the Netherlands, MeerKAT,
and SKA-Low as planned."""
