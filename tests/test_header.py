"""What a header means: unit, frequency, frame and WCS, and where each was found."""

import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits

from halopy.errors import HaloInputError, HalopyWarning
from halopy.io.fits import read_image
from halopy.io.header import Cards, parse_unit
from halopy.survey import Survey

NVSS = Survey("nvss-like", 1400 * u.MHz, (45 * u.arcsec, 45 * u.arcsec), 15 * u.arcsec, 0.45 * u.mJy / u.beam)
GLEAM = Survey("gleam-like", 200 * u.MHz, (128 * u.arcsec, 120 * u.arcsec), 28 * u.arcsec, 10 * u.mJy / u.beam,
               zenith=-26.7 * u.deg)
SKY = {"CTYPE1": "RA---SIN", "CRPIX1": 32.5, "CRVAL1": 10.0, "CDELT1": -0.0025,
       "CTYPE2": "DEC--SIN", "CRPIX2": 32.5, "CRVAL2": -30.0, "CDELT2": 0.0025}
FULL = SKY | {"BUNIT": "Jy/beam", "BMAJ": 0.0125, "BMIN": 0.0125, "BPA": 0.0, "RESTFRQ": 1.4e9, "RADESYS": "ICRS"}
DATA = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)


@pytest.fixture
def read(tmp_path):
    """Write a header and read it; warnings are kept in the image's meta for the test."""
    def read(cards, *, data=DATA, history=(), raw=None, extra=(), **settings):
        header = fits.Header()
        for keyword, value in cards.items():
            if value is not None:
                header[keyword] = value
        for line in history:
            header.add_history(line)
        path = tmp_path / "image.fits"
        fits.HDUList([fits.PrimaryHDU(data, header), *extra]).writeto(path, overwrite=True)
        if raw:
            content = path.read_bytes()
            for keyword, value in raw.items():
                place = content.index(f"{keyword:<8}= ".encode())
                content = content[:place] + f"{keyword:<8}= {value}".ljust(80).encode("latin-1") + content[place + 80:]
            path.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            image = read_image(path, **settings)
        assert all(w.category is HalopyWarning for w in caught)
        image.meta["warned"] = [str(w.message) for w in caught]
        return image
    return read


def without(cards, *keywords):
    return {k: v for k, v in cards.items() if k not in keywords}


NO_BEAM = without(FULL, "BMAJ", "BMIN", "BPA")


def arcsec(image):
    return image.beam.major.to_value(u.arcsec), image.beam.minor.to_value(u.arcsec), image.beam.pa.to_value(u.deg)


# --- the unit -----------------------------------------------------------------------------------

@pytest.mark.parametrize(("text", "factor"), [
    ("Jy/beam", 1), ("JY/BEAM", 1), ("Jy/Beam", 1), ("JY/BM", 1), ("jy/bm", 1), ("Jy per beam", 1), ("Jy beam-1", 1),
    ("Jy beam^-1", 1), ("Jy.beam**-1", 1), ("beam-1 Jy", 1), ("JY / BEAM", 1), ("Jansky/beam", 1), ("mJy/beam", 1e-3),
    ("mJy/bm", 1e-3), ("mJy per BEAM", 1e-3), ("uJy/beam", 1e-6), ("Jy/(beam)", 1), ("µJy/beam", 1e-6),
])
def test_spellings_of_jansky_per_beam(text, factor):
    assert parse_unit(text).to(u.Jy / u.beam) == pytest.approx(factor, rel=1e-6)


def test_other_units(read):
    for text, unit in (("JY/PIXEL", u.Jy / u.pix), ("Jy pix-1", u.Jy / u.pix), ("K", u.K), ("kelvin", u.K), ("mK",
                                                                                                             u.mK),
                       ("MJy/sr", u.MJy / u.sr), ("Jy/sr", u.Jy / u.sr)):
        assert parse_unit(text) == unit
        assert read(FULL | {"BUNIT": text}).unit == unit
    # The pixels keep the file's unit.
    image = read(FULL | {"BUNIT": "mJy/beam"})
    np.testing.assert_array_equal(image.data, DATA)


@pytest.mark.parametrize("text", ["counts", "Jy", "m", "furlong", "MJY/BEAM", "'", "Jy/beam/beam"])
def test_unknown_unit(read, text):
    with pytest.raises(HaloInputError, match="Jy/beam, mJy/beam, .*BUNIT"):
        read(FULL | {"BUNIT": text})
    assert read(FULL | {"BUNIT": text}, unit="Jy/beam").meta["unit_source"] == "user"


def test_missing_unit(read):
    image = read(without(FULL, "BUNIT"))
    assert (image.unit, image.flags) == (u.Jy / u.beam, ("unit-assumed",))
    assert "no BUNIT" in image.meta["warned"][0]
    image = read(NO_BEAM | {"BUNIT": " "}, survey=NVSS)
    assert image.unit == u.Jy / u.beam
    assert "unit-assumed" in image.flags
    assert image.meta["warned"] == []
    with pytest.raises(HaloInputError, match="nothing tells the unit.*unit='Jy/beam'"):
        read(without(NO_BEAM, "BUNIT"))
    assert read(without(NO_BEAM, "BUNIT"), unit=u.mJy / u.beam).unit == u.mJy / u.beam


# --- the frequency ------------------------------------------------------------------------------

FREQUENCY_AXIS = {"CTYPE3": "FREQ", "CRVAL3": 1.5e9, "CDELT3": 1e6, "CRPIX3": 1.0, "CUNIT3": "Hz"}


@pytest.mark.parametrize(("cards", "megahertz", "source"), [
    (FREQUENCY_AXIS, 1500, "FREQ axis 3"),
    (FREQUENCY_AXIS | {"CRVAL3": 1.5, "CDELT3": 0.001, "CUNIT3": "GHz"}, 1500, "FREQ axis 3"),
    (FREQUENCY_AXIS | {"CTYPE3": "VELO-LSR"}, 1400, "RESTFRQ"),
    ({}, 1400, "RESTFRQ"),
    ({"RESTFRQ": None, "RESTFREQ": 1.3e9, "FREQ": 1e9}, 1300, "RESTFREQ"),
    ({"RESTFRQ": 0.0, "FREQ": "1.2E+09"}, 1200, "FREQ"),
    ({"RESTFRQ": None, "FREQ0": 1.1e9}, 1100, "FREQ0"),
])
def test_frequency(read, cards, megahertz, source):
    image = read(FULL | cards)
    assert image.frequency.to_value(u.MHz) == pytest.approx(megahertz)
    assert image.meta["frequency_source"] == source


def test_frequency_missing_or_given(read):
    image = read(without(FULL, "RESTFRQ"))
    assert image.frequency is None
    assert "no frequency" in image.meta["warned"][0]
    image = read(without(FULL, "RESTFRQ"), survey=NVSS)
    assert (image.frequency, image.meta["warned"]) == (1400 * u.MHz, [])
    assert read(FULL, frequency=1.5 * u.GHz).frequency == 1500 * u.MHz
    # A frequency in MHz where the keyword is in Hz is not believed.
    image = read(FULL | {"RESTFRQ": 154.0})
    assert image.frequency is None
    for wrong in (3, -1 * u.MHz, "x", [1, 2] * u.MHz):
        with pytest.raises(HaloInputError, match="one positive frequency"):
            read(FULL, frequency=wrong)


def test_template_header_gives_way_to_the_survey(read):
    # Five published NVSS images carry BMAJ = 9.98 arcsec and 325 MHz of a simulated observation.
    image = read(FULL | {"BMAJ": 2.772961722480e-03, "BMIN": 2.552167309655e-03, "RESTFRQ": 3.25e8}, survey=NVSS)
    assert arcsec(image) == (45, 45, 0)
    assert image.frequency == 1400 * u.MHz
    assert set(image.flags) == {"beam-from-survey", "frequency-from-survey"}


# --- frame and WCS ------------------------------------------------------------------------------

@pytest.mark.parametrize(("cards", "frame", "source"), [
    ({}, "icrs", "default ICRS"), ({"RADESYS": "ICRS"}, "icrs", "RADESYS"), ({"RADESYS": "FK5"}, "fk5", "RADESYS"),
    ({"EQUINOX": 2000.0}, "fk5", "EQUINOX"), ({"EQUINOX": "J2000"}, "fk5", "EQUINOX"),
    ({"EPOCH": 2000.0}, "fk5", "EPOCH"),
    ({"EQUINOX": "2000.0"}, "fk5", "EQUINOX"), ({"EQUINOX": 1950.0}, "fk4", "EQUINOX"),
    ({"EPOCH": 1950.0}, "fk4", "EPOCH"),
    ({"EQUINOX": "B1950"}, "fk4", "EQUINOX"), ({"RADESYS": "J2000"}, "fk5", "RADESYS"),
    ({"RADECSYS": "FK5"}, "fk5", "RADECSYS"),
    ({"EPOCH": 2014.5}, "icrs", "default ICRS"), ({"RADESYS": "ICRS", "EQUINOX": 2000.0}, "icrs", "RADESYS"),
])
def test_frame(read, cards, frame, source):
    image = read(without(FULL, "RADESYS") | cards)
    position = image.wcs.pixel_to_world(31.5, 31.5)
    assert position.frame.name == frame
    assert image.meta["frame_source"] == source
    assert image.meta["warned"] == []
    # The reference position, in the frame that the header means.
    expected = SkyCoord(10, -30, unit="deg", frame=frame)
    assert position.separation(expected.transform_to(position.frame)) < 0.9 * u.arcsec


@pytest.mark.parametrize("cards", [
    {"RADESYS": "ICRS", "EQUINOX": 1950.0}, {"RADESYS": "FK5", "EQUINOX": 1950.0},
    {"RADESYS": "FK4", "EQUINOX": 2000.0},
    {"RADESYS": "J2000", "EQUINOX": 1950.0},
])
def test_contradicting_frames_warn_once(read, cards):
    warned = read(FULL | cards).meta["warned"]
    assert len(warned) == 1
    assert "contradicts EQUINOX" in warned[0]


@pytest.mark.parametrize(("cards", "keyword", "match"), [
    ({"CRVAL1": "NaN"}, "CRVAL1", "CRVAL1 must be a finite number"),
    ({"CRVAL2": "abc"}, "CRVAL2", "CRVAL2 must be a finite number"),
    ({"CRPIX1": "x"}, "CRPIX1", "finite number"),
    ({"CRVAL1": None}, "CRVAL1", "no CRVAL1"),
    ({"CDELT1": 0.0}, "CDELT1", "CDELT must not be zero"),
    ({"CDELT2": 0.0}, "CDELT2", "CDELT must not be zero"),
    ({"CDELT1": None}, "CDELT1", "size of a pixel is unknown"),
    ({"CDELT1": 1e9}, "CDELT1", "pixel scale"),
    ({"CTYPE2": "STOKES"}, "CTYPE1", "RA axis but no DEC axis"),
    ({"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, "CTYPE1", "no celestial coordinates"),
    ({"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"}, "CTYPE1", "unknown projection"),
    ({"CTYPE1": "RA", "CTYPE2": "DEC"}, "CTYPE1", "no projection"),
    ({"CTYPE2": "DEC--TAN"}, "CTYPE2", "different projections"),
    ({"CTYPE3": "RA---SIN"}, "CTYPE3", "two axes are RA"),
    ({"CTYPE1": "FREQ", "CTYPE3": "RA---SIN"}, "CTYPE3", "beyond the 2 axes"),
    ({"CRVAL2": 95.0}, "CRVAL2", "not on the sky"),
    ({"CUNIT1": "parsec"}, "CUNIT1", "must be an angle"),
    ({"PC1_1": 1.0, "PC1_2": 1.0, "PC2_1": 1.0, "PC2_2": 1.0}, "PC1_1", "pixel scale"),
    ({"CD1_1": -1.0, "CD2_2": 1.0, "PC1_1": 1.0}, "CD1_1", "both a CD and a PC"),
    ({"PC1_3": 5.0, "CRPIX3": 7.0, "CTYPE3": "FREQ", "data": DATA[None]}, "PC1_3", "coupled with the sky"),
    ({"RADESYS": "GALACTIC"}, "RADESYS", "must be ICRS"),
    ({"EQUINOX": "soon"}, "EQUINOX", "must be a year"),
    ({"LONPOLE": "x"}, "LONPOLE", "finite number"),
    ({"CTYPE1": "RA---ZPN", "CTYPE2": "DEC--ZPN", "PV2_1": 0.0}, "CTYPE1", "cannot be used"),
    ({"CPDIS1": "LOOKUP"}, "CPDIS1", "distortion tables"),
])
def test_bad_coordinates_name_the_keyword(read, cards, keyword, match):
    cards = dict(cards)
    data = cards.pop("data", DATA)
    with pytest.raises(HaloInputError, match=match) as caught:
        read(FULL | cards, data=data)
    assert caught.value.keyword == keyword


def test_number_as_nan_token(read):
    with pytest.raises(HaloInputError, match="CRVAL1 must be a finite number"):
        read(FULL, raw={"CRVAL1": "                 NaN"})


def test_numeric_text_in_the_wcs_is_read_and_noted(read):
    image = read(FULL | {"CRVAL1": "1.0E+01"})
    assert image.wcs.wcs.crval[0] == 10
    assert "CRVAL1 is text, read as 10" in image.meta["repairs"]


def same_positions(a, b):
    """No change of position of more than a tenth of a pixel anywhere."""
    y, x = np.mgrid[0:64:21, 0:64:21]
    return (a.wcs.pixel_to_world(x, y).separation(b.wcs.pixel_to_world(x, y)) < 0.1 * a.pixel_scale).all()


def test_matrix_spellings(read):
    """30 degrees of rotation written in five ways is one image (Calabretta & Greisen 2002, section 6.1)."""
    cos, sin, step = np.cos(np.radians(30)), np.sin(np.radians(30)), 0.0025
    pc = (cos, sin, -sin, cos)  # CDELT1 < 0 turns the sign of the mixed terms
    names = ("1_1", "1_2", "2_1", "2_2")
    plain = read(FULL | {f"PC{n}": v for n, v in zip(names, pc, strict=True)})
    angle = (plain.wcs.pixel_to_world(31.5, 31.5).position_angle(plain.wcs.pixel_to_world(31.5, 40))).to_value(u.deg)
    assert abs((angle + 180) % 360 - 180) == pytest.approx(30, abs=0.1)
    for other in (
        {f"PC0{n[0]}_0{n[2]}": v for n, v in zip(names, pc, strict=True)},
        {f"PC00{n[0]}00{n[2]}": v for n, v in zip(names, pc, strict=True)},
        {"CROTA2": 30.0}, {"CROTA1": 30.0},
        {"CDELT1": None, "CDELT2": None} | {f"CD{n}": v * s for n, v, s in zip(names, pc, (-step, -step, step, step),
                                                                             strict=True)},
    ):
        image = read(FULL | other)
        assert same_positions(image, plain)
        assert image.pixel_scale.to_value(u.arcsec) == pytest.approx(9)


def test_matrix_wins_over_crota(read):
    image = read(FULL | {"PC1_1": 1.0, "PC2_2": 1.0, "CROTA2": 30.0})
    assert "CROTA" in image.meta["warned"][0]
    assert same_positions(image, read(FULL))


def test_units_of_the_axes(read):
    arcminutes = {"CUNIT1": "arcmin", "CUNIT2": "arcmin",
                  "CRVAL1": 600.0, "CRVAL2": -1800.0, "CDELT1": -0.15, "CDELT2": 0.15}
    assert same_positions(read(FULL | arcminutes), read(FULL))


def test_ncp_is_sin_about_the_pole(read):
    # NCP is SIN with PV2_1 = 0, PV2_2 = cot(dec): Calabretta & Greisen 2002, section 5.1.5.
    ncp = read(FULL | {"CTYPE1": "RA---NCP", "CTYPE2": "DEC--NCP", "CRVAL2": 40.0})
    sin = read(FULL | {"CRVAL2": 40.0, "PV2_1": 0.0, "PV2_2": 1 / np.tan(np.radians(40))})
    assert same_positions(ncp, sin)
    plain = read(FULL | {"CRVAL2": 40.0})
    assert ncp.data.sum() == plain.data.sum()


def test_galactic_and_sip(read):
    image = read(FULL | {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR"})
    assert image.wcs.pixel_to_world(31.5, 31.5).frame.name == "galactic"
    sip = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-3}
    image = read(FULL | sip)
    # One pixel of 0.001 x 30^2 along x, 30 pixels from the reference.
    plain = read(FULL | {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    shift = image.wcs.pixel_to_world(61.5, 31.5).separation(plain.wcs.pixel_to_world(61.5, 31.5))
    assert (shift / image.pixel_scale).to_value(u.one) == pytest.approx(0.9, rel=0.01)
    third = {k + "3": FULL[k + "1"] for k in ("CRPIX", "CRVAL", "CDELT")} | {"CTYPE3": "RA---TAN-SIP"}
    with pytest.raises(HaloInputError, match="celestial axes first"):
        read(FULL | sip | {"CTYPE1": "STOKES", "CRVAL1": 1.0} | third, data=DATA[:, :, None])


def test_non_ascii_text_is_read(read):
    image = read(FULL | {"OBSERVER": "x" * 20}, raw={"OBSERVER": "'M\xfcller\n  '"})
    assert "printable ASCII" in image.meta["repairs"][0]
    assert same_positions(image, read(FULL))


def test_cards():
    cards = Cards(b"".join(c.ljust(80) for c in (
        b"A       = 'it''s / text' / comment", b"B       =  1.5D3 / x", b"C       = T", b"A       = 2", b"COMMENT = 5",
        b"LONG    = 'abc&'", b"CONTINUE  'def' / y", b"HISTORY one", b"D       = 1_000", b"E       = 'unclosed",
        b"nothing",
        b"F       = 1E999")))
    assert cards["A"] == "it's / text"
    assert cards["B"] == 1500
    assert cards["C"] is True
    assert cards["LONG"] == "abcdef"
    assert cards["D"] == "1_000"
    assert cards["E"] == "unclosed"
    assert cards.history == ["one"]
    assert cards.conflicts == {"A"}
    assert (cards.number("C"), cards.number("D"), cards.number("F"), cards.number("absent")) == (None,) * 4
    assert "absent" not in cards
    assert len(cards) == 8
