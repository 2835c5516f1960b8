"""Where the beam of an image comes from, and which beams cannot be true."""

import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from halopy import Beam
from halopy.errors import HaloInputError, HalopyWarning
from halopy.io.fits import read_image
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


# --- the beam -----------------------------------------------------------------------------------

def test_beam_in_degrees(read):
    image = read(FULL | {"BMAJ": 0.0125, "BMIN": 0.01, "BPA": -20.0})
    np.testing.assert_allclose(arcsec(image), (45, 36, -20))
    assert image.meta["beam_source"] == image.beam.source == "header BMAJ"
    assert image.meta["warned"] == []


def test_beam_as_text_is_flagged(read):
    image = read(FULL | {"BMAJ": "1.2500E-02", "BMIN": "1.2500E-02"})
    np.testing.assert_allclose(arcsec(image), (45, 45, 0))
    assert image.beam.source == "header BMAJ (text)"
    assert "beam-from-text" in image.flags


@pytest.mark.parametrize("line", [
    "AIPS   CLEAN BMAJ=  1.2500E-02 BMIN=  1.0000E-02 BPA= -40.24",
    "AIPS   CLEAN BMAJ=1.25E-02 BMIN=1.0E-02 BPA=-40.24",
    "AIPS   CLEAN BMAJ=  1.2500D-02BMIN=  1.0000D-02BPA=-40.24",
    "aips clean bmaj=0.0125 bmin=.01 bpa= -40.24",
])
def test_beam_of_aips_history(read, line):
    image = read(NO_BEAM, history=[line, "AIPS   CLEAN NITER= 100", "PRIMARY BEAM: BMAJ applied elsewhere"])
    np.testing.assert_allclose(arcsec(image), (45, 36, -40.24))
    assert image.beam.source == "HISTORY(AIPS)"
    assert image.meta["warned"] == []


def test_two_aips_beams_the_last_counts(read):
    image = read(NO_BEAM, history=["AIPS   CLEAN BMAJ=  2.0E-02 BMIN=  2.0E-02 BPA=   0.00",
                                   "AIPS   CLEAN BMAJ=  1.25E-02 BMIN=  1.25E-02 BPA=   0.00"])
    assert arcsec(image)[0] == pytest.approx(45)
    assert len(image.meta["warned"]) == 1
    assert "two AIPS CLEAN beams" in image.meta["warned"][0]


def test_beam_of_casa_history(read):
    image = read(NO_BEAM, history=["imager::clean() [] Fitted beam used in", "> restoration: 45.5 by 30.25 (arcsec)",
                                   "       at pa 82.8827 (deg)"])
    np.testing.assert_allclose(arcsec(image), (45.5, 30.25, 82.8827))
    assert image.beam.source == "HISTORY(CASA)"


def test_history_that_is_no_clean_is_ignored(read):
    image = read(NO_BEAM, history=["CONVL BMAJ=  1.25E-02 BMIN=  1.25E-02 BPA=   0.00"])
    assert image.beam is None
    assert image.meta["warned"] == []
    with pytest.raises(HaloInputError, match="no beam"):
        _ = image.beam_area


def test_cleanbmj(read):
    image = read(NO_BEAM | {"CLEANBMJ": 0.0125, "CLEANBMN": 0.01, "CLEANBPA": 3.0})
    np.testing.assert_allclose(arcsec(image), (45, 36, 3))
    assert image.beam.source == "header CLEANBMJ"


def beams(majors, *, name="BEAMS", unit="arcsec"):
    n = len(majors)
    return fits.BinTableHDU.from_columns([
        fits.Column("BMAJ", "E", array=majors, unit=unit), fits.Column("BMIN", "E", array=majors, unit=unit),
        fits.Column("BPA", "E", array=[5.0] * n, unit="deg"), fits.Column("CHAN", "J", array=np.arange(n)),
        fits.Column("POL", "J", array=[0] * n)], name=name)


def test_beams_table(read):
    image = read(NO_BEAM | {"CASAMBM": True}, extra=[beams([45.0])])
    np.testing.assert_allclose(arcsec(image), (45, 45, 5), rtol=1e-6)
    assert image.beam.source == "BEAMS table"
    assert arcsec(read(NO_BEAM, extra=[beams([0.0125], unit="deg")]))[0] == pytest.approx(45)
    # Another table that happens to have these columns is no beam, nor are many channels without a choice.
    assert read(NO_BEAM, extra=[beams([45.0], name="SOURCES")]).beam is None
    assert read(NO_BEAM, extra=[beams([45.0, 60.0])]).beam is None
    cube = np.stack([DATA, DATA])
    image = read(NO_BEAM | {"CTYPE3": "FREQ", "CRVAL3": 1.4e9, "CDELT3": 1e6, "CRPIX3": 1.0}, data=cube, channel=1,
                 extra=[beams([45.0, 60.0])])
    assert arcsec(image)[0] == pytest.approx(60)


@pytest.mark.parametrize(("cards", "reason"), [
    ({"BMAJ": 0.0, "BMIN": 0.0}, "must be positive"),
    ({"BMAJ": -0.0125, "BMIN": -0.0125}, "must be positive"),
    ({"BMAJ": "abc"}, "not a number"),
    ({"BMAJ": "NaN"}, "not a number"),
    ({"BMAJ": 45.0, "BMIN": 45.0}, "45 looks like arcsec"),
    ({"BMAJ": 0.75, "BMIN": 0.75}, "larger than the image"),
    ({"BMAJ": 0.0125, "BMIN": 0.02}, "exceeds BMAJ"),
    ({"BMAJ": 0.15, "BMIN": 0.15}, "60 x 60 pixels"),
    ({"BMAJ": 0.003, "BMIN": 0.003}, "1.2 x 1.2 pixels"),
    ({"BPA": "x"}, "position angle"),
])
def test_a_beam_that_cannot_be_true(read, cards, reason):
    image = read(FULL | cards)
    assert image.beam is None
    assert len(image.meta["warned"]) == 1
    assert reason in image.meta["warned"][0]
    # It falls through to the next source, to the survey, and always to the user.
    history = ["AIPS   CLEAN BMAJ=  1.25E-02 BMIN=  1.0E-02 BPA=   0.00"]
    assert read(FULL | cards, history=history).beam.source == "HISTORY(AIPS)"
    image = read(FULL | cards, survey=NVSS)
    assert (image.beam.source, image.meta["warned"]) == ("survey nvss-like", [])
    assert read(FULL | cards, beam=Beam(60 * u.arcsec)).beam == Beam(60 * u.arcsec)


def test_not_a_number_beam_is_missing(read):
    image = read(FULL, raw={"BMAJ": "                 NaN"})
    assert image.beam is None


def test_minor_above_major_by_rounding(read):
    image = read(FULL | {"BMAJ": 0.0125, "BMIN": 0.0125 * (1 + 1e-9)})
    assert arcsec(image)[:2] == pytest.approx((45, 45))
    assert any("rounding" in r for r in image.meta["repairs"])


def test_survey_beam(read):
    image = read(NO_BEAM, survey=NVSS)
    assert (arcsec(image), image.flags) == ((45, 45, 0), ("beam-from-survey",))
    assert image.meta["warned"] == []
    # Within 20 % the header is right; beyond, the survey that the user named.
    assert read(FULL | {"BMAJ": 0.0140}, survey=NVSS).beam.source == "header BMAJ"
    image = read(FULL | {"BMAJ": 0.0200}, survey=NVSS)
    assert image.beam.source == "survey nvss-like"
    assert "more than 20%" in image.meta["warned"][0]
    # The beam of an array on the ground is taken at the image's place: 1/cos(zenith distance).
    image = read(NO_BEAM | {"CRVAL2": 13.3}, survey=GLEAM, frequency=200 * u.MHz)
    assert arcsec(image)[0] == pytest.approx(120 / np.cos(np.radians(40)), rel=1e-3)


def test_user_beam_wins(read):
    image = read(FULL, beam=60 * u.arcsec, survey=NVSS)
    assert image.beam == Beam(60 * u.arcsec)
    assert (image.flags, image.meta["beam_source"]) == ((), "user")
    with pytest.raises(HaloInputError, match=r"beam must be a halopy.Beam or an angle"):
        read(FULL, beam=60)


@pytest.mark.parametrize(("beam", "reason"), [
    (Beam(45 * u.deg), "larger than the image"), (Beam(540 * u.arcsec), "60 x 60 pixels"),
    (Beam(45 * u.arcsec, 9 * u.arcsec), "5 x 1 pixels, outside 1.5 to 50"), (0.01 * u.arcsec, "outside 1.5 to 50"),
])
def test_user_beam_that_cannot_be_true_is_used_and_told(read, beam, reason):
    """9 arcsec a pixel, 64 pixels: the same rule as for a beam in a header, but the user has the last word."""
    image = read(FULL, beam=beam)
    assert image.beam == (beam if isinstance(beam, Beam) else Beam(beam))
    assert len(image.meta["warned"]) == 1
    assert reason in image.meta["warned"][0] and "full width at half maximum" in image.meta["warned"][0]
