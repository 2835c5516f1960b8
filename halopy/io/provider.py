"""The contract of an archive: a `Provider` says where the image of a position lies."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError, ProviderError
from halopy.io.footprints import in_footprint
from halopy.model import Step

__all__ = ["Location", "Provider"]


@dataclasses.dataclass(frozen=True)
class Location:
    """Where an image lies.

    Parameters
    ----------
    address : str or `~pathlib.Path`
        The URL of a FITS file, or a file of this machine.
    sha256 : str, optional
        What the file must have, where the archive says it.
    plane : int, optional
        The plane of a cube that is the total intensity.
    """

    address: str | Path
    sha256: str | None = None
    plane: int | None = None


class Provider(Step, ABC):
    """An archive, asked for the image of a survey at a position.

    A subclass has a ``name``, settings in its constructor, and `locate`. Everything else is done once for all of
    them by `halopy.io.archive.fetch`: the download with its retries, the cache, the checks of what has come, and
    the beam and unit of the survey where the header lacks them. Other packages add archives by the entry-point
    group ``halopy.archives``.

    Examples
    --------
    >>> from halopy.io.provider import Location, Provider
    >>> class Mirror(Provider):
    ...     name = "mirror"
    ...     def __init__(self, *, server="https://example.org"):
    ...         self.server = server
    ...     def locate(self, position, survey, size, *, transfer):
    ...         return Location(f"{self.server}/{survey.name}/{position.ra.deg:.3f}.fits")
    >>> Mirror(server="https://example.net")
    Mirror(server='https://example.net')
    """

    name = ""
    """The key of this archive in ``survey.archives``, and in its messages."""

    online = True
    """Whether it needs the network."""

    any_survey = False
    """Whether it may hold any survey, or only those whose ``archives`` name it."""

    @abstractmethod
    def locate(self, position, survey, size, *, transfer):
        """Say where the image is.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord`
            One position, ICRS.
        survey : Survey
        size : `~astropy.units.Quantity`
            Angle: the side of the field.
        transfer : Transfer
            For a provider that has to ask first.

        Returns
        -------
        Location

        Raises
        ------
        ProviderError
            The archive has no such image, or does not answer.
        """

    def covers(self, position, survey):
        """Say without the network whether the archive has an image of a position.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord`
        survey : Survey

        Returns
        -------
        bool or None
            None: only the archive knows.
        """
        if not self.holds(survey):
            return False
        return in_footprint(position, survey)

    def holds(self, survey):
        """Say whether the archive has a survey at all."""
        return self.any_survey or self.name in survey.archives

    def survey_name(self, survey):
        """Return a survey's name at this archive.

        Raises
        ------
        ProviderError
            It has none.
        """
        if self.name not in survey.archives:
            raise ProviderError(f"this archive does not have the survey {survey.name!r}", cause="unknown",
                                provider=self.name, hint=", ".join(survey.archives) or "provider='folder'")
        return survey.archives[self.name]


def degrees(position):
    """Return right ascension and declination as text, in degrees."""
    return f"{position.icrs.ra.deg:.6f}", f"{position.icrs.dec.deg:.6f}"


def pixels_across(survey, size, *, most):
    """Return how many of a survey's pixels a field is wide.

    Raises
    ------
    HaloInputError
        More than ``most``.
    """
    count = int(np.ceil((size / survey.pixel_scale).to_value(u.one)))
    if count > most:
        raise HaloInputError(f"a field of {survey.name} has at most {most} pixels a side here", found=count,
                             keyword="size", hint=f"size={(most * survey.pixel_scale).to_value(u.deg):.3g} * u.deg")
    return count


def at_most(size, limit, name):
    """Refuse a field that is larger than the archive takes."""
    if size > limit:
        raise HaloInputError(f"{name} gives fields of at most {limit:g} a side", found=f"{size:g}", keyword="size",
                             hint=f"size={limit.value:g} * u.{limit.unit}")
