"""Surveys: frequency, beam, pixel scale, rms and the names under which archives hold them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError
from halopy.image import Beam

__all__ = ["Survey", "surveys"]


@dataclasses.dataclass(frozen=True)
class Survey:
    """One band of one survey.

    Parameters
    ----------
    name : str
        For example ``"gleam-170-231"``.
    frequency : `~astropy.units.Quantity`
        Centre of the band.
    beam : tuple of `~astropy.units.Quantity`
        Full widths at half maximum, east-west and north-south, at the zenith.
    pixel_scale : `~astropy.units.Quantity`
        Of the images that the archive hands out.
    rms : `~astropy.units.Quantity`
        Typical noise, per beam.
    zenith : `~astropy.units.Quantity`, optional
        Declination at which an array on the ground sees its full north-south extent: the
        north-south beam grows as 1/cos(dec − zenith). None (default): the beam is the same
        everywhere.
    flux_scale : float, optional
        Relative uncertainty of the flux scale, default 0.1.
    sources : mapping, optional
        The source of each number.
    archives : mapping, optional
        The survey's name at each archive.
    """

    name: str
    frequency: u.Quantity
    beam: tuple[u.Quantity, u.Quantity]
    pixel_scale: u.Quantity
    rms: u.Quantity
    zenith: u.Quantity | None = None
    flux_scale: float = 0.1
    sources: Mapping = dataclasses.field(default_factory=dict, repr=False)
    archives: Mapping = dataclasses.field(default_factory=dict, repr=False)

    def beam_at(self, position=None):
        """Return the `Beam` at a sky position (`~astropy.coordinates.SkyCoord`; None: the zenith)."""
        east, north = self.beam
        if self.zenith is not None and position is not None:
            distance = np.clip(abs((position.icrs.dec - self.zenith).to_value(u.deg)), 0, 80)
            north = north / np.cos(np.radians(distance))
        source = f"survey {self.name}"
        if north >= east:
            return Beam(north, east, 0 * u.deg, source)
        return Beam(east, north, 90 * u.deg, source)


class _Surveys(Mapping):
    """Read-only mapping; a misspelt name is answered with the nearest."""

    def __init__(self, presets):
        self._presets = MappingProxyType({s.name: s for s in presets})

    def __getitem__(self, name):
        if name not in self._presets:
            near = difflib.get_close_matches(str(name), self._presets, n=1, cutoff=0.4)
            raise HaloInputError(f"no survey is called {name!r}", hint=f"{near[0]!r}" if near else None,
                                 found=f"known: {', '.join(self._presets)}")
        return self._presets[name]

    def __iter__(self):
        return iter(self._presets)

    def __len__(self):
        return len(self._presets)

    def __repr__(self):
        return f"<surveys: {', '.join(self)}>"
