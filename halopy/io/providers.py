"""The archives that halopy knows: SkyView, hips2fits, the GLEAM postage stamps, LoTSS cutouts and CASDA."""

from __future__ import annotations

import fnmatch
import re
import urllib.parse

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from halopy.errors import HaloInputError, ProviderError
from halopy.io.provider import Location, Provider, at_most, degrees, pixels_across
from halopy.io.transfer import with_query
from halopy.io.votable import check_whole, tables_of

__all__ = ["Casda", "GleamVO", "Hips2Fits", "Lofar", "SkyView"]


class SkyView(Provider):
    """NASA's SkyView: any of its surveys, resampled to a tangential grid of the survey's pixels.

    Its images carry no beam; the survey fills it.

    Parameters
    ----------
    server : str, optional
    sampler : str, optional
        SkyView's word for the interpolation, default ``"LI"`` (linear).

    References
    ----------
    McGlynn, Scollick & White 1998, IAU Symp. 179, 465; https://skyview.gsfc.nasa.gov
    """

    name = "skyview"

    def __init__(self, *, server="https://skyview.gsfc.nasa.gov/cgi-bin/images", sampler="LI"):
        self.server = server
        self.sampler = sampler

    def locate(self, position, survey, size, *, transfer):
        name = self.survey_name(survey)
        count = pixels_across(survey, size, most=4000)
        side = f"{(count * survey.pixel_scale).to_value(u.deg):.6f}"
        return Location(with_query(self.server, {
            "position": ",".join(degrees(position)), "survey": name, "coordinates": "J2000.0", "projection": "Tan",
            "pixels": f"{count},{count}", "size": f"{side},{side}", "sampler": self.sampler, "return": "FITS"}))


class Hips2Fits(Provider):
    """The CDS's hips2fits: a HiPS resampled to a grid of the survey's pixels.

    The full identifier of the HiPS is sent: of a keyword that fits several, the service picks one at random.
    HiPS are resampled twice, which changes the noise from pixel to pixel; they carry no beam, the survey fills it.

    Parameters
    ----------
    server : str, optional

    References
    ----------
    Boch et al. 2020, ASPC 527, 121; https://alasky.cds.unistra.fr/hips-image-services/hips2fits
    """

    name = "hips2fits"

    def __init__(self, *, server="https://alasky.cds.unistra.fr/hips-image-services/hips2fits"):
        self.server = server

    def locate(self, position, survey, size, *, transfer):
        name = self.survey_name(survey)
        if not re.fullmatch(r"[\w.-]+/[PC]/[\w./-]+", name):
            raise HaloInputError("a HiPS must be named by its full identifier, authority/P/name", keyword="hips2fits",
                                 found=name, hint="'ov-gso/P/GLEAM/170-231'")
        count = pixels_across(survey, size, most=7000)
        ra, dec = degrees(position)
        return Location(with_query(self.server, {
            "hips": name, "width": count, "height": count, "projection": "TAN", "coordsys": "icrs", "ra": ra,
            "dec": dec, "fov": f"{(count * survey.pixel_scale).to_value(u.deg):.6f}", "format": "fits"}))


class GleamVO(Provider):
    """The postage stamps of GLEAM: cut from the mosaics, in their own pixels and with their beam.

    Parameters
    ----------
    server : str, optional
        It speaks plain http only.
    projection : str, optional
        ``"ZEA"`` (default: as the mosaics are), ``"ZEA_regrid"`` or ``"SIN"``.

    References
    ----------
    Hurley-Walker et al. 2017, arXiv 1610.08318; http://gleam-vo.icrar.org
    """

    name = "gleam-vo"

    def __init__(self, *, server="http://gleam-vo.icrar.org/gleam_postage/q/siap.xml", projection="ZEA"):
        self.server = server
        self.projection = projection

    def locate(self, position, survey, size, *, transfer):
        band = self.survey_name(survey)
        at_most(size, 5 * u.deg, "the GLEAM postage stamp service")
        reply = transfer.get(self.server, check=check_whole, params={
            "pos": ",".join(degrees(position)), "size": f"{size.to_value(u.deg):.6f}", "freq": band,
            "proj_opt": self.projection})
        try:
            tables = tables_of(reply)
        except HaloInputError as error:
            raise ProviderError(f"the list of images cannot be used: {error.message}", cause="format",
                                url=self.server) from error
        for row in _rows(tables, "accref"):
            # The service may list bands that were not asked for: the band stands in the row or in the link.
            if any(band in str(value) for value in row.values()):
                return Location(str(row["accref"]))
        raise ProviderError(f"the archive lists no image of {band} MHz here", cause="empty", url=self.server)


def _rows(tables, needed):
    """Rows, as dicts with lower-case names, of those tables that have a column."""
    for table in tables:
        names = {name.lower(): name for name in table.colnames}
        if needed in names:
            for row in table:
                found = {low: row[name] for low, name in names.items()}
                if not np.ma.is_masked(found[needed]) and str(found[needed]).strip():
                    yield {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}


class Lofar(Provider):
    """The cutouts of LoTSS, second data release: at 6″, and at 20″, which shows halos best.

    Parameters
    ----------
    server : str, optional

    References
    ----------
    Shimwell et al. 2022, arXiv 2202.11733; https://lofar-surveys.org
    """

    name = "lofar"

    def __init__(self, *, server="https://lofar-surveys.org/"):
        self.server = server

    def locate(self, position, survey, size, *, transfer):
        page = self.survey_name(survey)
        # Beyond 120 arcmin, and for a comma between the coordinates, the answer is a web page.
        at_most(size, 120 * u.arcmin, "the LoTSS cutout service")
        return Location(with_query(urllib.parse.urljoin(self.server, page), {
            "pos": " ".join(degrees(position)), "size": f"{size.to_value(u.arcmin):.4f}"}))


class Casda(Provider):
    """CASDA, the archive of ASKAP: RACS-low as convolved to 25″. It gives images to registered users only.

    Parameters
    ----------
    session : `astroquery.casda.CasdaClass`, optional
        One that is logged in. halopy never sees a password.

    References
    ----------
    McConnell et al. 2020, arXiv 2012.00747; https://research.csiro.au/casda

    Examples
    --------
    >>> from astroquery.casda import Casda  # doctest: +SKIP
    >>> session = Casda()  # doctest: +SKIP
    >>> session.login(username="me@example.org")  # doctest: +SKIP
    >>> provider = providers.create("casda", session=session)  # doctest: +SKIP
    >>> image = fetch(position, survey="racs-low", provider=provider)  # doctest: +SKIP
    """

    name = "casda"
    COLLECTION = "The Rapid ASKAP Continuum Survey"

    def __init__(self, *, session=None):
        self.session = session

    def locate(self, position, survey, size, *, transfer):
        pattern = self.survey_name(survey)
        session = self.session
        if session is None or not getattr(session, "authenticated", lambda: True)():
            raise ProviderError(
                "CASDA gives images to registered users only: it needs a session that is logged in", cause="login",
                hint="from astroquery.casda import Casda; session = Casda(); session.login(username=...); "
                     "provider=providers.create('casda', session=session)")
        # A field is chosen by the distance of its centre: tiles overlap, and one has the position at its edge.
        table = self._ask("list its images", lambda: session.query_region(position, radius=size / 2))
        rows = [] if table is None else [
            i for i, row in enumerate(table)
            if str(row["obs_collection"]) == self.COLLECTION and fnmatch.fnmatchcase(str(row["filename"]), pattern)]
        if not rows:
            raise ProviderError(f"the archive lists no image {pattern} here", cause="empty")
        table = table[rows]
        if {"s_ra", "s_dec"} <= set(table.colnames):
            centres = SkyCoord(np.ma.filled(table["s_ra"], np.nan), np.ma.filled(table["s_dec"], np.nan), unit="deg")
            distances = np.nan_to_num(centres.separation(position).deg, nan=np.inf)
            table = table[np.argsort(distances, kind="stable")]
        links = self._ask("cut out the image", lambda: session.cutout(
            table[:1], coordinates=position, height=size, width=size))
        links = [link for link in links or () if not urllib.parse.urlsplit(link).path.endswith(".checksum")]
        if not links:
            raise ProviderError("the archive has staged no file", cause="empty")
        return Location(_quoted_again(links[0]))

    def _ask(self, what, ask):
        try:
            return ask()
        except Exception as error:  # astroquery, requests and pyvo raise what they like
            text = " ".join(str(error).split())[:200]
            late = "timeout" in type(error).__name__.lower()
            raise ProviderError(f"CASDA did not {what}: {type(error).__name__}: {text}",
                                cause="timeout" if late else "service", hint="again later") from error


def _quoted_again(link):
    """Undo that astroquery 0.4.11 unquotes pre-signed links, whose signatures then hold no more (astroquery#3636)."""
    parts = urllib.parse.urlsplit(link)
    pairs = [pair.partition("=") for pair in parts.query.split("&")] if parts.query else []
    query = "&".join(name + mark + urllib.parse.quote(urllib.parse.unquote(value), safe="")
                     for name, mark, value in pairs)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
