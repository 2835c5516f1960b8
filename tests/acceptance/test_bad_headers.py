"""Headers as they are found in the wild: what is understood of them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import test_write
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from made import CLEAN, FULL, NO_BEAM, PIXELS, QUICK, SKY, TARGETS, content, image, without_path

from halopy import ClusterImage, CutoutMaker
from halopy.io import celestial

HISTORY = "(HISTORY(AIPS))"
AXES = {
    "CTYPE3": "FREQ",
    "CRVAL3": 1.4e9,
    "CDELT3": 1e6,
    "CRPIX3": 1.0,
    "CTYPE4": "STOKES",
    "CRVAL4": 1.0,
    "CDELT4": 1.0,
    "CRPIX4": 1.0,
}


@pytest.fixture
def inspect(halopy, tmp_path):
    """Write an image of these cards, and return what ``halopy inspect`` says of it."""

    def run(*arguments, options=(), **settings):
        done = halopy("inspect", image(tmp_path / "image.fits", *arguments, **settings), *options)
        assert done.code == 0, done.err
        return done

    return run


@pytest.fixture
def refuse(refused, tmp_path):
    """Write an image, and return why ``halopy inspect`` refuses it; the message names the file."""

    def run(*arguments, options=(), **settings):
        path = image(tmp_path / "image.fits", *arguments, **settings)
        text = refused("inspect", path, *options, seconds=1)
        assert text.startswith(f"{path}: ")
        return text

    return run


def line(done, name):
    return next(text[12:] for text in done.out.splitlines() if text.startswith(f"{name:<12}"))


BEAM = '45" x 36", pa 20 deg '


# ---------------------------------------------------------------------------------------------------- the beam


@pytest.mark.parametrize(
    "text",
    [
        CLEAN,
        "AIPS   CLEAN BMAJ=1.25E-02 BMIN=1.0E-02 BPA=20.00",
        "AIPS   CLEAN BMAJ=  1.2500D-02BMIN=  1.0000D-02BPA=20.0",
    ],
)
def test_row_01_beam_only_in_aips_history(inspect, text):
    assert line(inspect(NO_BEAM, history=[text]), "beam").startswith(BEAM + HISTORY)


def test_row_02_later_history_that_is_no_clean(inspect):
    done = inspect(NO_BEAM, history=[CLEAN, "CONVL BMAJ=  9.9E-02 BMIN=  9.9E-02", "BMAJ was applied"])
    assert line(done, "beam").startswith(BEAM + HISTORY) and done.err == ""


@pytest.mark.parametrize("cards", [NO_BEAM, NO_BEAM | AXES | {"CRVAL4": 4.0}], ids=["row_03", "row_04_stokes_v"])
def test_rows_03_04_no_beam_is_not_invented(inspect, refused, tmp_path, cards):
    assert line(inspect(cards), "beam").startswith("none; give beam=")
    assert "beam=Beam(...)" in refused("detect", "image.fits", "-o", "out") and not (tmp_path / "out").exists()
    done = inspect(cards | {"RESTFRQ": 1.4e9}, options=["--survey", "nvss"])
    assert "(survey nvss)" in line(done, "beam") and "beam-from-survey" in line(done, "flags")
    done = inspect(FULL, options=["--survey", "nvss", "--beam", "60"])
    assert line(done, "beam").startswith('60" x 60", pa 0 deg (user)')


def test_row_05_rounding_and_not_a_number(inspect):
    done = inspect(FULL | {"BMIN": 0.0125 * (1 + 1e-9)})
    assert line(done, "beam").startswith('45" x 45"') and "exceeds BMAJ by rounding" in done.out
    for settings in ({"raw": {"BMAJ": "                 NaN"}}, {}):
        done = inspect(FULL | ({} if settings else {"BMAJ": "NaN"}), **settings)
        assert line(done, "beam").startswith("none") and "not a number" in done.err


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        ({"BMAJ": 0.0, "BMIN": 0.0}, "must be positive"),
        ({"BMAJ": -0.01}, "must be positive"),
        ({"BMAJ": "abc"}, "not a number"),
        ({"BMAJ": 45.0, "BMIN": 45.0}, "BMAJ is in degrees; 45 looks like arcsec"),
        ({"BMAJ": 0.0125, "BMIN": 0.02}, "exceeds BMAJ"),
    ],
)
def test_row_06_a08_beams_that_cannot_be_true(inspect, refused, cards, why):
    done = inspect(FULL | cards)
    assert line(done, "beam").startswith("none") and why in done.err
    assert "detection needs the beam" in refused("detect", "image.fits", "-o", "out")
    assert line(inspect(FULL | cards, history=[CLEAN]), "beam").startswith(BEAM + HISTORY)
    assert line(inspect(FULL | cards, options=["--beam", "60,50,10"]), "beam").startswith('60" x 50", pa 10 deg (user)')


def test_row_07_a08_beams_table(inspect):
    def table(name):
        return fits.BinTableHDU.from_columns(
            [
                fits.Column("BMAJ", "E", array=[45.0], unit="arcsec"),
                fits.Column("BMIN", "E", array=[36.0], unit="arcsec"),
            ],
            name=name,
        )

    assert line(inspect(NO_BEAM, PIXELS, table("BEAMS")), "beam").startswith('45" x 36", pa 0 deg (BEAMS table)')
    assert line(inspect(NO_BEAM, PIXELS, table("SOURCES")), "beam").startswith("none")


def test_a08_order_of_trust(inspect):
    two = [CLEAN.replace("1.2500E-02", "2.0000E-02"), CLEAN]
    done = inspect(NO_BEAM, history=two)
    assert line(done, "beam").startswith(BEAM + HISTORY) and "two AIPS CLEAN beams" in done.err
    clean = {"CLEANBMJ": 0.0125, "CLEANBMN": 0.01, "CLEANBPA": 20.0}
    assert line(inspect(NO_BEAM | clean, history=two), "beam").startswith(BEAM + "(header CLEANBMJ)")
    assert line(inspect(FULL | {"CLEANBMJ": 0.02}, history=two), "beam").startswith(BEAM + "(header BMAJ)")


# ---------------------------------------------------------------------------------------------------- the unit

SPELLINGS = {
    "JY/BEAM": 1,
    "Jy/Beam": 1,
    "JY/BM": 1,
    "Jy per beam": 1,
    "Jy beam-1": 1,
    "beam-1 Jy": 1,
    "Jy.beam**-1": 1,
    "JY / BEAM": 1,
    "Jansky/beam": 1,
    "mJy/bm": 1e-3,
    "mJy/beam": 1e-3,
    "uJy/beam": 1e-6,
}


def test_rows_08_09_a09_spellings_of_the_unit(halopy, tmp_path):
    """One unit in twelve spellings; what is written is ``Jy/beam``, or the like with a prefix."""
    for number, (text, factor) in enumerate(SPELLINGS.items()):
        path = image(tmp_path / f"{number}.fits", FULL | {"BUNIT": text})
        assert halopy("inspect", path).err == ""
        read = ClusterImage.read(path)
        assert (1 * read.unit).to_value(u.Jy / u.beam) == pytest.approx(factor, rel=1e-6)
        read.write(tmp_path / f"out-{number}.fits")
        written = fits.getheader(tmp_path / f"out-{number}.fits")["BUNIT"]
        assert written == {1: "Jy/beam", 1e-3: "mJy/beam", 1e-6: "uJy/beam"}[factor]


def test_a09_units_that_say_nothing(refuse, inspect):
    for text in ("counts", "furlong"):
        assert "Jy/beam, mJy/beam, uJy/beam, Jy/pixel, Jy/sr, MJy/sr, K, mK (HDU 0, BUNIT" in refuse(
            FULL | {"BUNIT": text}
        )
    assert "nothing tells the unit" in refuse(NO_BEAM | {"BUNIT": None})
    assert line(inspect(FULL | {"BUNIT": "K"}), "unit") == "K (BUNIT)"
    assert "assumed" in line(inspect(FULL | {"BUNIT": ""}), "unit")


# ------------------------------------------------------------------------------------------ axes, sky and frame


def test_row_10_a10_four_axes_in_both_orders(inspect, tmp_path):
    plain = without_path(inspect(FULL).out)
    assert [
        text
        for text in without_path(inspect(FULL | AXES, PIXELS[None, None]).out)
        if "plane" not in text and "frequency" not in text
    ] == [text for text in plain if "frequency" not in text]
    first = {
        f"{key}{n}": AXES[f"{key}{m}"] for n, m in ((1, 4), (2, 3)) for key in ("CTYPE", "CRVAL", "CDELT", "CRPIX")
    }
    first |= {f"{key[:-1]}{int(key[-1]) + 2}": value for key, value in SKY.items()}
    first |= {k: v for k, v in FULL.items() if k not in SKY} | {"TELESCOP": "MWA"}
    image(tmp_path / "first.fits", first, PIXELS[:, :, None, None], history=["imaged with care"])
    read = ClusterImage.read(tmp_path / "first.fits")
    np.testing.assert_array_equal(read.data, PIXELS)
    assert read.wcs.pixel_to_world(31.5, 31.5).separation(SkyCoord(10, -30, unit="deg")) < 0.1 * read.pixel_scale
    read.write(tmp_path / "out.fits")
    written = fits.getheader(tmp_path / "out.fits")
    assert written["NAXIS"] == 2 and written["TELESCOP"] == "MWA" and "imaged with care" in list(written["HISTORY"])


def test_row_11_a10_more_axes_in_the_wcs_than_in_the_data(inspect, refuse):
    plain = line(inspect(FULL), "centre")
    assert line(inspect(FULL | AXES | {"CDELT4": 0.0}), "centre") == plain
    assert line(inspect(FULL | AXES | {"CDELT3": 0.0, "CDELT4": 0.0}, PIXELS[None]), "centre") == plain
    assert "NAXIS4" in refuse(FULL | AXES, PIXELS[None, None], raw={"NAXIS4": "'none'"})


def test_row_12_a11_numbers_that_are_none(refuse):
    for raw in ("'NaN'", "                 NaN", "'abc'"):
        assert "CRVAL1 must be a finite number" in refuse(FULL, raw={"CRVAL1": raw})


def test_row_13_old_spellings(inspect):
    plain = line(inspect(FULL), "centre")
    old = {"PC01_01": 1.0, "PC01_02": 0.0, "PC02_01": 0.0, "PC02_02": 1.0}
    assert line(inspect(FULL | old), "centre") == plain
    assert line(inspect(FULL | AXES | {"CROTA2": 0.0, "CROTA4": 0.0}, PIXELS[None, None]), "centre") == plain


@pytest.mark.parametrize(
    ("cards", "keyword"),
    [
        ({"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"}, "CTYPE1"),
        ({"CTYPE2": "STOKES"}, "CTYPE1"),
        ({"CTYPE1": "RA---TAN"}, "CTYPE2"),
        ({"CDELT1": 0.0}, "CDELT1"),
        ({"CDELT2": None}, "CDELT2"),
        ({"CTYPE1": None, "CTYPE2": None}, "CTYPE1"),
    ],
)
def test_row_14_a11_sky_that_is_none(refuse, cards, keyword):
    assert keyword in refuse(FULL | cards)


@pytest.mark.parametrize(
    ("cards", "frame", "warns"),
    [
        ({}, "ICRS (default ICRS)", False),
        ({"EQUINOX": 2000.0}, "FK5 (EQUINOX)", False),
        ({"EPOCH": 1950.0}, "FK4 (EPOCH)", False),
        ({"EQUINOX": "J2000"}, "FK5 (EQUINOX)", False),
        ({"RADESYS": "J2000"}, "FK5 (RADESYS)", False),
        ({"RADESYS": "FK4", "EQUINOX": 2000.0}, "FK4 (RADESYS)", True),
    ],
)
def test_row_15_a11_frames(inspect, cards, frame, warns):
    done = inspect({k: v for k, v in FULL.items() if k != "RADESYS"} | cards)
    assert line(done, "frame").startswith(frame)
    assert ("contradicts" in done.err) == warns and done.err.count("\n") == warns


def test_row_16_a11_ncp_keeps_the_flux(tmp_path):
    """A source of 2.5 beams, drawn where its sky falls in each projection, has the flux of its integral in both."""
    fluxes = []
    for projection in ("SIN", "NCP"):
        cards = FULL | {
            "CTYPE1": f"RA---{projection}",
            "CTYPE2": f"DEC--{projection}",
            "CRVAL2": 40.0,
            "BMIN": 0.0125,
            "CRPIX1": 40.5,
            "CRPIX2": -60.0,
        }
        blank = ClusterImage.read(image(tmp_path / "a.fits", cards, np.zeros((80, 80), np.float32)))
        y, x = np.mgrid[0:80, 0:80]
        sigma = 2.5 * blank.beam.major / 2.3548200450309493
        centre = blank.wcs.pixel_to_world(40, 40)
        drawn = np.exp(-0.5 * (centre.separation(blank.wcs.pixel_to_world(x, y)) / sigma).to_value(u.one) ** 2)
        cutout = CutoutMaker(70, pixel_scale=9 * u.arcsec)(blank.replace(data=drawn), centre.reshape(1))
        fluxes.append(np.nansum(cutout.data) * (9 * u.arcsec) ** 2 / blank.beam.area)
    # A Gaussian of unit peak and 2.5 times the beam's width has 2.5² times its integral.
    assert [float(flux.to_value(u.one)) for flux in fluxes] == pytest.approx([6.25, 6.25], rel=0.01)


def test_row_17_text_that_is_not_ascii(inspect):
    done = inspect(FULL | {"OBSERVER": "x" * 20}, raw={"OBSERVER": "'M\xfcller\n  '"})
    assert "not printable ASCII" in done.out and line(done, "centre") == line(inspect(FULL), "centre")


def test_row_18_values_that_fits_cannot_hold(tmp_path):
    cards = FULL | {"XNOISE": 1.0, "XGAIN": 2.0}
    read = ClusterImage.read(image(tmp_path / "a.fits", cards, raw={"XNOISE": "                 NaN"}))
    read.write(tmp_path / "out.fits")
    written = fits.getheader(tmp_path / "out.fits")
    assert "XNOISE" not in written and written["XGAIN"] == 2
    assert any("XNOISE was not finite and is left out" in text for text in written["HISTORY"])


test_row_18_coordinates_that_are_not_finite = test_write.test_values_that_are_not_finite_are_left_out
path = test_write.path


def test_row_32_no_frequency(inspect, halopy, tmp_path):
    done = inspect(FULL | {"RESTFRQ": None})
    assert line(done, "frequency") == "unknown" and "the header has no frequency" in done.err
    (tmp_path / "t.csv").write_text(TARGETS)
    assert halopy("detect", "image.fits", *QUICK, "-o", "out").code == 0


def test_row_33_a10_a_cube_whose_planes_differ(inspect, refuse):
    cube = np.stack([PIXELS[::4, ::4] + n for n in range(16)])
    text = refuse(FULL | AXES, cube)
    assert "axis 3 (FREQ) has 16 planes, 0 to 15" in text and "plane=0" in text
    assert line(inspect(FULL | AXES, cube, options=["--survey", "mgcls-8"]), "plane") == "FREQ 0 of 16"
    assert line(inspect(FULL | AXES, cube, options=["--plane", "3"]), "plane") == "FREQ 3 of 16"


def test_row_34_wcslib_sees_few_cards(monkeypatch, tmp_path):
    """A header of three thousand cards, some of which corrupt the memory of wcslib, is not handed to it."""
    seen = []
    real = celestial.WCS
    monkeypatch.setattr(celestial, "WCS", lambda header, **settings: seen.append(header) or real(header, **settings))
    cards = FULL | {f"K{n}": n for n in range(3000)} | {"TPD1": 1, "DP1": "NAXES: 2", "CQDIS9": "x", "WCSNAMEZ": "z"}
    path = tmp_path / "a.fits"
    path.write_bytes(content(cards | {"CQDIS9": None}))
    ClusterImage.read(path)
    assert [len(header) <= 40 for header in seen] == [True]
    assert {key.rstrip("0123456789_") for key in seen[0]} <= {
        "CTYPE",
        "CUNIT",
        "CRPIX",
        "CRVAL",
        "CDELT",
        "PC",
        "RADESYS",
    }
