"""The archives, each against replies of the kind that it gives."""

from __future__ import annotations

import re

import numpy as np
import pytest
from archive_server import A2744, QUICK, ArchiveServer, good, image_bytes, packed, page, votable
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table

from halopy import surveys
from halopy.errors import HaloInputError, PluginError, ProviderError, UnknownModelError
from halopy.io.archive import covers, fetch, providers
from halopy.io.provider import Location, Provider

GLEAM = surveys["gleam-170-231"]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HALOPY_OFFLINE", raising=False)
    with ArchiveServer() as started:
        yield started


@pytest.fixture
def ask(tmp_path):
    def fetched(provider, survey="gleam-170-231", size=20 * u.arcmin, position=A2744, **keywords):
        return fetch(position, survey=survey, size=size, provider=provider, cache=tmp_path / "cache", transfer=QUICK,
                     **keywords)

    return fetched


def asked(server, path):
    return next(query for seen, query in server.seen if seen == path)


def test_the_archives_are_found_by_name():
    assert {"casda", "datacentral", "folder", "gleam-vo", "hips2fits", "lofar", "skyview"} <= set(providers)
    for name in providers:
        assert issubclass(providers[name], Provider) and providers[name].name == name
    with pytest.raises(UnknownModelError, match="no archive 'skyvew' in halopy.archives; did you mean 'skyview'"):
        providers["skyvew"]
    with pytest.raises(TypeError):
        providers["mine"] = Provider


def test_skyview(server, ask):
    # SkyView's own form of a request, and an image of the kind that it makes: no beam, no unit.
    url = server.answers("/cgi-bin/images", good(image_bytes()))
    image = ask(providers.create("skyview", server=url))
    query = asked(server, "/cgi-bin/images")
    assert query["survey"] == "GLEAM 170-231 MHz" and query["return"] == "FITS"
    assert query["position"] == "3.580000,-30.390000" and query["coordinates"] == "J2000.0"
    # 20 arcmin are 42.9 pixels of 28 arcsec: 43 of them are 0.334444 deg.
    assert query["pixels"] == "43,43" and query["size"] == "0.334444,0.334444"
    assert image.beam.source == "survey gleam-170-231"
    assert image.beam.major.to_value(u.arcsec) == pytest.approx(133, rel=0.01)
    assert image.unit == u.Jy / u.beam and image.frequency == 200.5 * u.MHz
    assert image.flags == ("beam-from-survey", "unit-assumed")
    assert image.name == "J001419-302324"
    assert image.meta["provider"] == "skyview" and image.meta["url"].startswith(url)
    assert re.fullmatch(r"[0-9a-f]{64}", image.meta["sha256"]) and image.meta["retrieved"].endswith("+00:00")


def test_where_it_came_from_is_written_into_the_file(server, ask, tmp_path):
    from astropy.io import fits

    image = ask(providers.create("skyview", server=server.answers("/s", good(image_bytes()))))
    image.write(tmp_path / "a.fits")
    history = " ".join(fits.getheader(tmp_path / "a.fits")["HISTORY"])
    assert "fetched from skyview" in history and image.meta["sha256"] in history.replace(" ", "")


def test_a_field_of_too_many_pixels(ask):
    with pytest.raises(HaloInputError, match=r"at most 4000 pixels a side.*found 7715.*size=31.1"):
        ask("skyview", size=60 * u.deg)


def test_hips2fits(server, ask):
    url = server.answers("/hips2fits", good(packed(image_bytes())))
    image = ask(providers.create("hips2fits", server=url))
    query = asked(server, "/hips2fits")
    # The full identifier: of a keyword that fits several HiPS, the service picks one at random.
    assert query["hips"] == "ov-gso/P/GLEAM/170-231" and query["format"] == "fits"
    assert (query["width"], query["height"], query["fov"]) == ("43", "43", "0.334444")
    assert (query["ra"], query["dec"], query["coordsys"]) == ("3.580000", "-30.390000", "icrs")
    assert image.beam is not None and image.meta["provider"] == "hips2fits"


@pytest.mark.parametrize("name", ["GLEAM", "GLEAM*", "GLEAM 170-231", "P/GLEAM", ""])
def test_a_hips_is_never_named_by_a_keyword(ask, name):
    survey = GLEAM.__class__(**{**{f: getattr(GLEAM, f) for f in GLEAM.__dataclass_fields__},
                                "archives": {"hips2fits": name}})
    with pytest.raises(HaloInputError, match="full identifier"):
        ask("hips2fits", survey=survey)


def test_hips2fits_says_no_in_json(server, ask):
    # https://github.com/astropy/astroquery: the service answers errors in JSON; astroquery fails on HTML there.
    said = b'{"title": "Bad request", "description": "HiPS not found"}'
    provider = providers.create("hips2fits", server=server.answers("/h", (400, {}, said)))
    with pytest.raises(ProviderError, match="hips2fits: the server answered 400 .*HiPS not found"):
        ask(provider)


SIAP = ("freq", "accref", "title")


def test_gleam_postage_stamps(server, ask):
    beam = {"BMAJ": 140 / 3600, "BMIN": 120 / 3600, "BPA": 10.0, "BUNIT": "Jy/beam"}
    link = server.answers("/gleam_postage/GLEAMCUTOUT", good(image_bytes(**beam)))
    rows = [("072-080", link + "?freq=072-080", "x"), ("170-231", link + "?freq=170-231&amp;ra=3.58", "x")]
    url = server.answers("/q/siap.xml", good(votable(SIAP, rows), "text/xml"))
    image = ask(providers.create("gleam-vo", server=url))
    query = asked(server, "/q/siap.xml")
    assert query["pos"] == "3.580000,-30.390000" and query["freq"] == "170-231" and query["proj_opt"] == "ZEA"
    assert float(query["size"]) == pytest.approx(1 / 3)
    assert asked(server, "/gleam_postage/GLEAMCUTOUT") == {"freq": "170-231", "ra": "3.58"}
    # The mosaic's own beam, where it says one.
    assert image.beam.major.to_value(u.arcsec) == pytest.approx(140) and "survey" not in image.beam.source


@pytest.mark.parametrize(("reply", "cause", "text"), [
    (good(votable(SIAP, [])), "empty", "lists no image of 170-231 MHz here"),
    (good(votable(SIAP, [("072-080", "http://127.0.0.1/x", "")])), "empty", "lists no image"),
    (good(votable(("freq",), [("170-231",)])), "empty", "lists no image"),
    (good(votable(SIAP, [("170-231", "", "x")])), "empty", "lists no image"),
    (good(votable(SIAP, [], info='<INFO name="QUERY_STATUS" value="ERROR">no rows found</INFO>')), "service",
     "service reports an error: no rows found"),
    (good(votable(SIAP, [])[:-30]), "truncated", "VOTable is cut short"),
    (page("Proxy error"), "html", "HTML page, 'Proxy error'"),
    (good(b"no rows found"), "format", "not a VOTable"),
    (good(votable(SIAP, []).replace(b"<TABLEDATA>", b'<STREAM href="file:///etc/hostname">')
          .replace(b"</TABLEDATA>", b"</STREAM>")), "format", "wants to load something from elsewhere"),
    (good(votable(SIAP, []).replace(b"<VOTABLE", b'<!DOCTYPE x [<!ENTITY a "b">]><VOTABLE', 1)), "format",
     "wants to load something from elsewhere"),
    (good(votable(SIAP, [("170-231", "file:///etc/hostname", "")])), "scheme", "found 'file'"),
    (good(votable(SIAP, [("x", "y", "z")]).replace(b"</TD>", b"</TQ>", 1)), "format", "cannot be read"),
])
def test_gleam_postage_stamps_that_do_not_come(server, ask, tmp_path, reply, cause, text):
    provider = providers.create("gleam-vo", server=server.answers("/q", reply))
    with pytest.raises(ProviderError, match=text) as caught:
        ask(provider)
    assert caught.value.cause == cause and caught.value.provider == "gleam-vo"
    assert not list((tmp_path / "cache").rglob("*.fits")) and not list((tmp_path / "cache").rglob("*.json"))


def test_gleam_postage_stamps_are_small(ask):
    with pytest.raises(HaloInputError, match="at most 5 deg a side"):
        ask("gleam-vo", size=6 * u.deg)


@pytest.mark.parametrize(("survey", "file"), [("lotss-6", "dr2-cutout.fits"), ("lotss-20", "dr2-low-cutout.fits")])
def test_lotss(server, ask, survey, file):
    position = SkyCoord(194.95, 27.98, unit="deg")
    pixels = surveys[survey].pixel_scale
    server.answers(f"/{file}", good(image_bytes(position, pixel_scale=pixels, BUNIT="JY/BEAM")))
    image = ask(providers.create("lofar", server=server.url + "/"), survey=survey, position=position, size=3 * u.arcmin)
    # Separated by a space: for a comma the service answers with a web page.
    assert asked(server, f"/{file}") == {"pos": "194.950000 27.980000", "size": "3.0000"}
    assert image.beam.major == surveys[survey].beam[0]


def test_lotss_beyond_two_degrees_is_not_asked_for(ask):
    # Above 120 arcmin the service answers with an HTML page and status 200.
    with pytest.raises(HaloInputError, match="at most 120 arcmin a side"):
        ask("lofar", survey="lotss-20", size=121 * u.arcmin)


def test_lotss_outside_its_mosaics(server, ask):
    server.answers("/dr2-low-cutout.fits", page("LOFAR Surveys - login"))
    with pytest.raises(ProviderError, match="HTML page, 'LOFAR Surveys - login'"):
        ask(providers.create("lofar", server=server.url + "/"), survey="lotss-20")


class Session:
    """What astroquery's Casda gives to its user, once it is logged in."""

    def __init__(self, server, rows, *, links=None, error=None, logged_in=True):
        self.server, self.rows, self.error, self.logged_in = server, rows, error, logged_in
        self.links = [f"{server.url}/casda/cutout.fits.checksum", f"{server.url}/casda/cutout.fits?id=3"] \
            if links is None else links
        self.cut = None

    def authenticated(self):
        return self.logged_in

    def query_region(self, position, *, radius):
        if self.error is not None:
            raise self.error
        return Table(rows=self.rows, names=("obs_collection", "filename", "s_ra", "s_dec", "access_url"))

    def cutout(self, table, *, coordinates, height, width):
        self.cut = [str(name) for name in table["filename"]]
        return self.links


RACS = "The Rapid ASKAP Continuum Survey"
ROWS = [("WALLABY", "RACS-DR1_0000-31A.fits", 3.58, -30.39, "x"), (RACS, "RACS-DR1_0000-31A.fits", 0.0, -31.0, "x"),
        (RACS, "RACS-DR1_0017-31A.fits", 4.0, -31.0, "x"), (RACS, "image.i.RACS_0017-31.fits", 3.58, -30.39, "x")]


def test_casda(server, ask):
    server.answers("/casda/cutout.fits", good(image_bytes(pixel_scale=2.5 * u.arcsec, BUNIT="Jy/beam")))
    session = Session(server, ROWS)
    image = ask(providers.create("casda", session=session), survey="racs-low", size=2 * u.arcmin)
    # Two tiles and two resolutions show the position: the convolved tile whose centre is nearest.
    assert session.cut == ["RACS-DR1_0017-31A.fits"]
    assert image.beam.major == 25 * u.arcsec and image.meta["provider"] == "casda"


def test_casda_needs_a_login(server, ask):
    for provider in ("casda", providers.create("casda", session=Session(server, ROWS, logged_in=False))):
        with pytest.raises(ProviderError, match=r"registered users only.*session\.login") as caught:
            ask(provider, survey="racs-low")
        assert caught.value.cause == "login"


@pytest.mark.parametrize(("keywords", "cause", "text"), [
    ({"rows": ROWS[:1]}, "empty", "lists no image"),
    ({"rows": ROWS, "links": []}, "empty", "has staged no file"),
    ({"rows": ROWS, "error": ValueError("Data staging job did not complete")}, "service", "ValueError: Data staging"),
    ({"rows": ROWS, "error": TimeoutError("slow")}, "timeout", "did not list its images"),
    ({"rows": ROWS, "links": ["file:///etc/hostname"]}, "scheme", "found 'file'")])
def test_casda_fails(server, ask, keywords, cause, text):
    session = Session(server, keywords.pop("rows"), **keywords)
    with pytest.raises(ProviderError, match=text) as caught:
        ask(providers.create("casda", session=session), survey="racs-low")
    assert (caught.value.cause, caught.value.provider) == (cause, "casda")


def test_presigned_links_keep_their_signature(server, ask):
    # astroquery 0.4.11 hands them out unquoted (astroquery#3636); what is quoted already must stay as it is.
    server.answers("/casda/c.fits", good(image_bytes(pixel_scale=2.5 * u.arcsec, BUNIT="Jy/beam")))
    for credential in ("AB/20260101/x+y=", "AB%2F20260101%2Fx%2By%3D"):
        session = Session(server, ROWS, links=[f"{server.url}/casda/c.fits?X-Amz-Credential={credential}&id=3"])
        image = ask(providers.create("casda", session=session), survey="racs-low", size=2 * u.arcmin, refresh=True)
        assert server.seen[-1][1] == {"X-Amz-Credential": "AB/20260101/x+y=", "id": "3"}
        # What a header or a cache tells has no signature in it.
        assert image.meta["url"].endswith("/casda/c.fits?id=3")


def test_a_survey_that_an_archive_does_not_have(ask):
    with pytest.raises(ProviderError, match="skyview: this archive does not have the survey 'mgcls-15'") as caught:
        ask("skyview", survey="mgcls-15")
    assert caught.value.cause == "unknown"
    for name in ("skyview", "hips2fits", "gleam-vo", "lofar", "casda"):
        provider = providers.create(name)
        survey = surveys["mwa2-88"]
        assert provider.covers(A2744, survey) is False
        with pytest.raises(ProviderError, match="does not have the survey"):
            provider.locate(A2744, survey, 1 * u.deg, transfer=QUICK)


def test_every_survey_with_an_archive_can_be_asked_for():
    # The names of science go out as they are: none is lost between the survey and the request.
    for survey in surveys.values():
        for name in {"skyview", "hips2fits", "lofar"} & set(survey.archives):
            location = providers.create(name).locate(A2744, survey, 10 * u.arcmin, transfer=None)
            assert location.address.startswith("https://")
            wanted = survey.archives[name].replace(" ", "%20").replace("(", "%28").replace(")", "%29")
            assert wanted in location.address


def test_coverage():
    everywhere = {"gleam-170-231": (29, 31), "nvss": (-39, -41), "tgss": (-52, -54), "vlssr": (-29, -31),
                  "racs-low": (40, 42)}
    for survey, (inside, outside) in everywhere.items():
        for dec, expected in ((inside, True), (outside, False)):
            answers = covers(SkyCoord(10, dec, unit="deg"), survey=survey)
            assert answers and set(answers.values()) == {expected}, (survey, dec)
    # SUMSS leaves the Galactic plane out.
    assert covers(SkyCoord(0, -45, unit="deg"), survey="sumss") == {"skyview": True}
    assert covers(SkyCoord(120, 0, unit="deg", frame="galactic"), survey="sumss") == {"skyview": False}
    assert covers(SkyCoord(300, 0, unit="deg", frame="galactic"), survey="sumss") == {"skyview": False}
    # Where the footprint is a patchwork only the archive knows.
    assert covers(SkyCoord(194.95, 27.98, unit="deg"), survey="lotss-20") == {"lofar": None}
    assert covers(A2744, survey="lotss-20") == {"lofar": False}
    assert covers(A2744, provider="lofar") == {"lofar": False}
    assert covers(A2744, survey="mwa2-88") == {}


class Mirror(Provider):
    """A third party's archive, as the page shows it."""

    name = "mirror"

    def __init__(self, *, server):
        self.server = server

    def locate(self, position, survey, size, *, transfer):
        return Location(f"{self.server}/{survey.name}.fits")


def test_an_archive_of_ones_own(server, ask):
    provider = Mirror(server=server.url)
    with pytest.raises(ProviderError, match="mirror: this archive does not have the survey"):
        ask(provider)
    survey = GLEAM.__class__(**{**{f: getattr(GLEAM, f) for f in GLEAM.__dataclass_fields__},
                                "archives": {"mirror": "anything"}})
    server.answers("/gleam-170-231.fits", good(image_bytes()))
    assert ask(provider, survey=survey).meta["provider"] == "mirror"
    assert repr(provider) == f"Mirror(server={server.url!r})"

    class Wrong(Mirror):
        def locate(self, position, survey, size, *, transfer):
            return Location(None)

    with pytest.raises(ProviderError, match="must name a URL"):
        ask(Wrong(server=""), survey=survey)


def test_an_archive_must_be_one(monkeypatch):
    import importlib.metadata

    entry = importlib.metadata.EntryPoint("broken", "halopy.image:Beam", "halopy.archives")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    with pytest.raises(PluginError, match="archive 'broken' .* must be a subclass of halopy.io.provider.Provider"):
        providers["broken"]


# What the archives answer today. None of these has been run where halopy is developed: there is no network there.

@pytest.mark.remote_data
@pytest.mark.parametrize("name", ["skyview", "hips2fits", "gleam-vo"])
def test_remote_gleam(tmp_path, name):
    image = fetch(A2744, size=1 * u.deg, provider=name, cache=tmp_path)
    assert image.beam is not None and image.unit == u.Jy / u.beam
    x, y = image.wcs.world_to_pixel(A2744)
    assert 0 < x < image.shape[1] and 0 < y < image.shape[0]
    assert np.nanmax(image.data) > 0.1  # the field has sources of more than 0.1 Jy


@pytest.mark.remote_data
def test_remote_lotss(tmp_path):
    image = fetch(SkyCoord(194.95, 47.0, unit="deg"), survey="lotss-20", size=20 * u.arcmin, cache=tmp_path)
    assert image.beam.major.to_value(u.arcsec) == pytest.approx(20, rel=0.05)
