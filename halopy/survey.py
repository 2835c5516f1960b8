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
    grows_north : bool, optional
        Whether the beam grows north of the zenith as well, default True. TGSS keeps it round there.
    flux_scale : float, optional
        Relative uncertainty of the flux scale, default 0.1.
    noise_width : float, optional
        Width of the autocorrelation of the noise, in beams: 1 under natural weights (the default), √2 for
        white noise smoothed by the beam.
    plane : int, optional
        Which plane of the survey's cubes is the total intensity, where its archive hands out cubes; None
        (default): it does not, or nobody has said so.
    sources : mapping, optional
        The source of each number.
    archives : mapping, optional
        The survey's name at each archive.

    Examples
    --------
    >>> from astropy.coordinates import SkyCoord
    >>> from halopy import surveys
    >>> gleam = surveys["gleam-170-231"]
    >>> gleam.beam_at(SkyCoord(3.58, -30.39, unit="deg"))
    Beam(133" x 122.3", pa 90 deg, survey gleam-170-231)
    >>> gleam.beam_at(SkyCoord(83.6, 22.0, unit="deg"))
    Beam(184.8" x 133", pa 0 deg, survey gleam-170-231)
    """

    name: str
    frequency: u.Quantity
    beam: tuple[u.Quantity, u.Quantity]
    pixel_scale: u.Quantity
    rms: u.Quantity
    zenith: u.Quantity | None = None
    grows_north: bool = True
    flux_scale: float = 0.1
    noise_width: float = 1.0
    plane: int | None = None
    sources: Mapping = dataclasses.field(default_factory=dict, repr=False)
    archives: Mapping = dataclasses.field(default_factory=dict, repr=False)

    def beam_at(self, position=None):
        """Return the `Beam` at a sky position.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord`, optional
            One position; None (default): the zenith.

        Returns
        -------
        Beam
            Its ``source`` is ``"survey <name>"``.
        """
        if position is not None and not position.isscalar:
            raise HaloInputError("beam_at takes one position", found=f"{position.size} positions",
                                 hint="[survey.beam_at(p) for p in positions]")
        east, north = self.beam_widths(None if position is None else position.icrs.dec)
        source = f"survey {self.name}"
        if north >= east:
            return Beam(north, east, 0 * u.deg, source)
        return Beam(east, north, 90 * u.deg, source)

    def beam_widths(self, declination=None):
        """Return the full widths at half maximum, east-west and north-south, at declinations.

        Parameters
        ----------
        declination : `~astropy.units.Quantity`, optional
            An angle or an array of them; None (default): the zenith.

        Returns
        -------
        east, north : `~astropy.units.Quantity`
            Of the shape of ``declination``.
        """
        east, north = self.beam
        if declination is None:
            return east, north
        distance = np.zeros(np.shape(declination)) * u.deg if self.zenith is None else declination - self.zenith
        distance = distance.to_value(u.deg)
        grows = (distance < 0) | self.grows_north
        # Nothing is observed so near the horizon; the limit keeps the beam finite.
        growth = np.where(grows, 1 / np.cos(np.radians(np.minimum(np.abs(distance), 80))), 1.0)
        return east * np.ones(growth.shape), north * growth


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

    def __contains__(self, name):
        return name in self._presets

    def __repr__(self):
        return f"<surveys: {', '.join(self)}>"


def _preset(name, frequency, beam, pixel_scale, rms, sources, **settings):
    """MHz, arcsec (east-west, north-south), arcsec, mJy/beam."""
    defaults = dict.fromkeys(("flux_scale", "noise_width"), "the default of halopy")
    return Survey(name, frequency * u.MHz, tuple(u.Quantity(beam, u.arcsec)), pixel_scale * u.arcsec,
                  rms * u.mJy / u.beam, sources=defaults | sources, **settings)


_MWA = -26.7 * u.deg
_MEMORY = "(from memory)"

_GLEAM_SOURCES = {
    "frequency": "middle of the band, arXiv 1610.08318",
    "beam": "Gaussian fits to bright compact sources in the SkyView images of the release of arXiv 2411.15559; "
            "growth as 1/cos(dec + 26.7 deg) from arXiv 1505.06041, which gives 2.5' x 2.2' at 154 MHz",
    "pixel_scale": "SkyView images in the release of arXiv 2411.15559",
    "rms": "a third of the clip threshold, median of the halo fields in the release of arXiv 2411.15559",
    "flux_scale": "below 10 %, arXiv 1610.08318",
}


def _gleam(low, high, beam, pixel_scale, rms):
    band = f"{low:03d}-{high:03d}"
    return _preset(f"gleam-{low}-{high}", (low + high) / 2, beam, pixel_scale, rms, _GLEAM_SOURCES, zenith=_MWA,
                   archives={"skyview": f"GLEAM {low}-{high} MHz", "hips2fits": f"ov-gso/P/GLEAM/{band}",
                             "gleam-vo": band, "vizier": "VIII/100/gleamegc"})


def _mwa2(frequency, beam, pixel_scale, rms, rms_source):
    return _preset(f"mwa2-{frequency}", frequency, beam, pixel_scale, rms, {
        "frequency": "arXiv 2106.12281",
        "beam": "Gaussian fits to bright compact sources near dec -26 deg in the robust 0 images of the release of "
                "arXiv 2411.15559 (robust 2: up to 1.6 times wider)",
        "pixel_scale": "images in the release of arXiv 2411.15559",
        "rms": rms_source}, zenith=_MWA)


_MEASURED = "median over the robust 0 images of the release of arXiv 2411.15559, from the share of pixels set to zero"

surveys = _Surveys([
    _gleam(72, 103, (290, 262), 56, 40.9),
    _gleam(103, 134, (209, 194), 44, 20.0),
    _gleam(139, 170, (160, 149), 34, 12.6),
    _gleam(170, 231, (133, 122), 28, 7.7),
    _preset("gleam-x-170-231", 200.5, (56, 56), 12.78, 1.27, {
        "frequency": "middle of the band, arXiv 2204.12762",
        "beam": "56\", second data release, PASA 2024 (Ross et al.); growth with declination as for GLEAM, not checked",
        "pixel_scale": "header of a 170-200 MHz GLEAM-X image; other products may differ",
        "rms": f"1.27 mJy/beam, arXiv 2204.12762 {_MEMORY}",
        "noise_width": "one 170-200 MHz GLEAM-X image, benchmarks/simulated_sky.py"}, zenith=_MWA, noise_width=1.12,
        archives={"vizier": "VIII/110/catalog, VIII/113/catalog2"}),
    _mwa2(88, (141, 127), 23.48, 5.5, "not measured: the value at 118 MHz times (118 / 88)**0.7"),
    _mwa2(118, (106, 95), 17.42, 4.5, _MEASURED),
    _mwa2(154, (82, 72), 13.39, 3.1, _MEASURED),
    _mwa2(185, (64, 61), 11.17, 2.6, _MEASURED),
    _mwa2(216, (56, 48), 9.59, 2.3, _MEASURED),
    _preset("nvss", 1400, (45, 45), 15, 0.45, {
        "frequency": "Condon et al. 1998, AJ 115, 1693", "beam": "Condon et al. 1998, AJ 115, 1693",
        "pixel_scale": "headers of NVSS images", "rms": "Condon et al. 1998, AJ 115, 1693",
        "flux_scale": f"3 % {_MEMORY}", "noise_width": "15 images, benchmarks/simulated_sky.py"}, flux_scale=0.03,
        noise_width=1.27, archives={"skyview": "NVSS", "vizier": "VIII/65/nvss"}),
    _preset("sumss", 843, (45, 45), 11, 1.0, {
        "frequency": "Mauch et al. 2003, astro-ph/0303188",
        "beam": "45\" x 45\" cosec |dec|, Mauch et al. 2003, astro-ph/0303188",
        "pixel_scale": f"11\" {_MEMORY}", "rms": "1 mJy, CDS VIII/81B",
        "flux_scale": "internally 3 %, Mauch et al. 2003, astro-ph/0303188"},
        # cosec |dec| is 1 / cos(dec + 90 deg): the beam of an east-west array is round at the pole.
        zenith=-90 * u.deg, flux_scale=0.03, archives={"skyview": "SUMSS 843 MHz", "vizier": "VIII/81B/sumss212"}),
    _preset("tgss", 150, (25, 25), 6.2, 3.5, {
        "frequency": "arXiv 1603.04368",
        "beam": "25\", and 25\" x 25\" / cos(dec - 19 deg) south of 19 deg, arXiv 1603.04368",
        "pixel_scale": f"6.2\" {_MEMORY}", "rms": "median 3.5 mJy/beam, HEASARC GMRTAS150M",
        "flux_scale": "about 10 %, arXiv 1603.04368"}, zenith=19 * u.deg, grows_north=False,
        archives={"skyview": "TGSS ADR1", "hips2fits": "astron.nl/P/tgssadr", "vizier": "J/A+A/598/A78"}),
    _preset("racs-low", 887.5, (25, 25), 2.5, 0.3, {
        "frequency": "arXiv 2109.00956", "beam": "images convolved to 25\" for the catalogue, arXiv 2109.00956",
        "pixel_scale": f"2.5\" {_MEMORY}", "rms": f"0.3 mJy/beam {_MEMORY}"},
        archives={"casda": "RACS-DR1_*A.fits"}),
    _preset("racs-mid", 1367.5, (9.3, 10.0), 2.0, 0.198, {
        "frequency": "arXiv 2306.07194",
        "beam": "median 11.2\" x 9.3\" (PASA 41, e003), the north-south width brought to the zenith with the median "
                "declination; 8.1\" to 47.5\" over the sky, arXiv 2306.07194",
        "pixel_scale": f"2\" {_MEMORY}", "rms": "median 198 uJy/beam, arXiv 2306.07194"}, zenith=_MWA,
        archives={"vizier": "J/other/PASA/41.3"}),
    _preset("lotss-6", 144, (6, 6), 1.5, 0.083, {
        "frequency": "arXiv 2202.11733", "beam": "arXiv 2202.11733", "pixel_scale": "headers of LoTSS images",
        "rms": "median 83 uJy/beam, arXiv 2202.11733", "flux_scale": "about 10 %, arXiv 2202.11733"},
        archives={"lofar": "dr2-cutout.fits", "hips2fits": "astron.nl/P/lotss_dr2_high",
                  "vizier": "J/A+A/659/A1"}),
    _preset("lotss-20", 144, (20, 20), 4.5, 0.15, {
        "frequency": "arXiv 2202.11733", "beam": "arXiv 2202.11733", "pixel_scale": f"4.5\" {_MEMORY}",
        "rms": f"0.15 mJy/beam {_MEMORY}", "flux_scale": "about 10 %, arXiv 2202.11733"},
        archives={"lofar": "dr2-low-cutout.fits"}),
    _preset("mgcls-8", 1280, (7.8, 7.8), 1.25, 0.004, {
        "frequency": f"1.28 GHz {_MEMORY}; 900-1670 MHz, arXiv 2111.05673", "beam": "arXiv 2111.05673",
        "pixel_scale": f"1.25\" {_MEMORY}", "rms": "3-5 uJy/beam, arXiv 2111.05673"}, plane=0),
    _preset("mgcls-15", 1280, (15, 15), 1.25, 0.01, {
        "frequency": f"1.28 GHz {_MEMORY}; 900-1670 MHz, arXiv 2111.05673", "beam": "arXiv 2111.05673",
        "pixel_scale": f"1.25\" {_MEMORY}", "rms": "6-15 uJy/beam, arXiv 2111.05673"}, plane=0),
    _preset("vlssr", 73.8, (75, 75), 20, 100, {
        "frequency": "arXiv 1404.0694", "beam": "arXiv 1404.0694", "pixel_scale": f"20\" {_MEMORY}",
        "rms": "0.1 Jy/beam, arXiv 1404.0694"}, archives={"skyview": "VLSSr", "vizier": "VIII/97"}),
])
"""The presets, by name."""
