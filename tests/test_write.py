"""Writing images: the round trip, what stands in the file, and what is refused."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halopy import Beam, ClusterImage
from halopy.cutouts import tangent_wcs
from halopy.errors import HaloInputError, HalopyWarning
from halopy.io.fits import read_image, write_image
from halopy.survey import Survey

NVSS = Survey("nvss-like", 1400 * u.MHz, (45 * u.arcsec, 45 * u.arcsec), 15 * u.arcsec, 0.45 * u.mJy / u.beam)
SKY = {"CTYPE1": "RA---SIN", "CRPIX1": 20.5, "CRVAL1": 10.0, "CDELT1": -0.0025,
       "CTYPE2": "DEC--SIN", "CRPIX2": 16.5, "CRVAL2": -30.0, "CDELT2": 0.0025}
FULL = SKY | {"BUNIT": "Jy/beam", "BMAJ": 0.0125, "BMIN": 0.0125, "BPA": 0.0, "RESTFRQ": 1.4e9, "RADESYS": "ICRS"}
OTHER = {"CTYPE3": "FREQ", "CRVAL3": 1.4e9, "CDELT3": 1e6, "CRPIX3": 1.0, "CTYPE4": "STOKES", "CRVAL4": 1.0}
DATA = np.random.default_rng(1).normal(size=(32, 40)).astype(np.float32)


def header(cards):
    result = fits.Header()
    for keyword, value in cards.items():
        if value is not None:
            result[keyword] = value
    return result


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.fits"


@pytest.fixture
def write(path):
    def write(data, cards, *extra, **settings):
        fits.HDUList([fits.PrimaryHDU(data, header(cards)), *extra]).writeto(path, overwrite=True, **settings)
        return path
    return write


def make(data=DATA, **changes):
    wcs = tangent_wcs(SkyCoord(3.58, -30.39, unit="deg"), 28 * u.arcsec, data.shape)
    known = {"wcs": wcs, "unit": u.Jy / u.beam, "beam": Beam(140 * u.arcsec, 120 * u.arcsec, -33 * u.deg),
             "frequency": 200 * u.MHz, "name": "A2744"}
    return ClusterImage(data, **(known | changes))


def assert_equal(a, b):
    np.testing.assert_array_equal(a.data, b.data)
    for name in ("rms", "background"):
        one, two = getattr(a, name), getattr(b, name)
        assert (one is None) == (two is None)
        if one is not None:
            np.testing.assert_array_equal(one, two)
    assert (a.unit, a.name, a.flags) == (b.unit, b.name, b.flags)
    assert (a.beam is None) == (b.beam is None)
    if a.beam is not None:
        for name in ("major", "minor", "pa"):
            assert u.isclose(getattr(a.beam, name), getattr(b.beam, name), rtol=1e-12, atol=1e-12 * u.deg)
        assert a.beam.source == b.beam.source
    assert (a.frequency is None) == (b.frequency is None)
    assert a.frequency is None or u.isclose(a.frequency, b.frequency, rtol=1e-12)
    corners = np.array([0, a.shape[1] - 1]), np.array([0, a.shape[0] - 1])
    assert (a.wcs.pixel_to_world(*corners).separation(b.wcs.pixel_to_world(*corners)) < 1e-3 * a.pixel_scale).all()


UNITS = st.sampled_from([u.Jy / u.beam, u.mJy / u.beam, u.uJy / u.beam, u.Jy / u.pix, u.Jy / u.sr, u.K, u.mK,
                         u.dimensionless_unscaled, u.Unit("2.5 Jy/beam")])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16), shape=st.tuples(st.integers(2, 12), st.integers(2, 12)), unit=UNITS,
       name=st.text(max_size=90),
       flags=st.lists(st.text(max_size=30), unique=True, max_size=4), maps=st.booleans(),
       axes=st.none() | st.tuples(st.floats(1e-3, 1e4), st.floats(0.01, 1), st.floats(-180, 180)),
       source=st.text(max_size=80), frequency=st.none() | st.floats(1e-3, 1e6))
def test_round_trip(tmp_path, seed, shape, unit, name, flags, maps, axes, source, frequency):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=shape).astype(np.float32)
    data[rng.random(shape) < 0.2] = np.nan
    data[0, 0] = 1
    beam = None if axes is None else Beam(axes[0] * u.arcsec, axes[0] * axes[1] * u.arcsec, axes[2] * u.deg, source)
    image = make(data, unit=unit, name=name, flags=flags, beam=beam,
                 frequency=None if frequency is None else frequency * u.MHz,
                 rms=abs(data) if maps else None, background=data / 7 if maps else None)
    path = tmp_path / "round.fits"
    write_image(image, path, overwrite=True)
    again = read_image(path)
    assert_equal(image, again)
    assert again.meta["checksum"] == "verified"
    # And once more: nothing grows or drifts.
    write_image(again, path, overwrite=True)
    assert_equal(image, read_image(path))


def test_what_is_written(path):
    image = make(rms=np.full(DATA.shape, 0.1), background=np.zeros(DATA.shape))
    image.write(path)
    with fits.open(path, checksum=True) as hdus:
        head = hdus[0].header
        assert [h.name for h in hdus] == ["PRIMARY", "RMS", "BACKGROUND"]
        assert (head["BUNIT"], head["OBJECT"], head["RESTFRQ"], head["FREQ"]) == ("Jy/beam", "A2744", 2e8, 2e8)
        assert (head["BMAJ"] * 3600, head["BMIN"] * 3600, head["BPA"]) == pytest.approx((140, 120, -33))
        assert "CHECKSUM" in head
        assert "written by halopy" in str(head["HISTORY"])
        assert hdus["RMS"].header["BUNIT"] == "Jy/beam"
        assert WCS(head).has_celestial
    make(unit=u.mJy / u.beam).write(path, overwrite=True)
    assert fits.getheader(path)["BUNIT"] == "mJy/beam"
    make(unit=u.Jy / u.pix).write(path, overwrite=True)
    assert fits.getheader(path)["BUNIT"] == "Jy/pixel"


def test_a_frequency_that_is_none_makes_it_a_file_like_any_other(path):
    make().write(path)
    raw = path.read_bytes()
    place = raw.index(b"RESTFRQ = ")
    path.write_bytes(raw[:place] + f"RESTFRQ = {-1.0:>20}".ljust(80).encode() + raw[place + 80:])
    with pytest.warns(HalopyWarning, match="halopy wrote this file, and RESTFRQ has been changed since"):
        image = read_image(path)
    assert image.name == "image" and image.frequency == 200 * u.MHz  # of FREQ, which it has, too


@pytest.mark.parametrize(("keyword", "value", "unit", "major"), [
    ("BUNIT", "mJy/beam", u.mJy / u.beam, None), ("BUNIT", "Jy/sr", u.Jy / u.sr, None), ("BMAJ", 0.1, None, 360)])
def test_a_header_that_was_changed_since_is_believed(path, keyword, value, unit, major):
    written = make()
    written.write(path)
    with fits.open(path) as hdus:
        hdus[0].header[keyword] = value
        hdus.writeto(path, overwrite=True, checksum=True)
    with pytest.warns(HalopyWarning, match=f"halopy wrote this file, and {keyword} has been changed since"):
        image = read_image(path)
    assert image.unit == (unit or written.unit)
    assert image.beam.major.to_value(u.arcsec) == pytest.approx(major or written.beam.major.to_value(u.arcsec))


def test_a_unit_that_was_made_unknown_is_refused(path):
    make().write(path)
    with fits.open(path) as hdus:
        hdus[0].header["BUNIT"] = "apples"
        hdus.writeto(path, overwrite=True, checksum=True)
    with pytest.raises(HaloInputError, match="unit"):
        read_image(path)


def test_a_header_of_equal_meaning_in_other_digits_is_ours(path):
    make(name="mine").write(path)
    with fits.open(path) as hdus:
        hdus[0].header["BMAJ"] = hdus[0].header["BMAJ"] * (1 + 1e-13)
        hdus.writeto(path, overwrite=True, checksum=True)
    assert read_image(path).name == "mine"


def test_a_map_of_another_shape_is_refused(path):
    make(rms=np.full(DATA.shape, 0.1)).write(path)
    with fits.open(path) as hdus:
        fits.HDUList([hdus[0], fits.ImageHDU(np.ones((2, 3), np.float32), name="RMS")]).writeto(path, overwrite=True)
    with pytest.raises(HaloInputError, match="rms map must have the shape of the image") as told:
        read_image(path)
    assert str(told.value).startswith(f"{path}: ")


def test_original_cards_are_kept_and_dropped_axes_are_not(write, path, tmp_path):
    cards = FULL | OTHER | {"TELESCOP": "MWA", "DATE-OBS": "2014-12-17", "PC3_3": 1.0, "CROTA3": 0.0}
    source = write(DATA[None, None], cards)
    with fits.open(source, mode="update") as hdus:
        hdus[0].header.add_history("imaged with care")
    out = tmp_path / "out.fits"
    image = read_image(source)
    image.write(out)
    head = fits.getheader(out)
    assert (head["TELESCOP"], head["DATE-OBS"]) == ("MWA", "2014-12-17")
    assert "imaged with care" in list(head["HISTORY"])
    assert not {"CTYPE3", "CRVAL4", "PC3_3", "CROTA3", "CDELT3"} & set(head)
    assert head["NAXIS"] == 2
    assert_equal(image, read_image(out))


def test_values_that_are_not_finite_are_left_out(path, monkeypatch):
    image = make()
    broken = fits.Header([*header(SKY).cards, ("RADESYS", "ICRS")])
    monkeypatch.setattr(image.wcs, "to_header", lambda relax: _Cards(broken, "LATPOLE", float("nan")))
    image.write(path)
    head = fits.getheader(path)
    assert "LATPOLE" not in head
    assert "halopy: LATPOLE was not finite and is left out" in list(head["HISTORY"])


class _Cards:
    """A header with one value that FITS cannot hold."""

    def __init__(self, header, keyword, value):
        self.cards = [*header.cards, type("Card", (), {"keyword": keyword, "value": value, "comment": ""})()]


def test_refused_writes(path, tmp_path):
    image = make()
    image.write(path)
    before = path.read_bytes()
    with pytest.raises(HaloInputError, match="this file exists.*overwrite=True"):
        image.write(path)
    assert path.read_bytes() == before
    with pytest.raises(HaloInputError, match="cannot write here"):
        image.write(tmp_path / "absent" / "a.fits")
    for wrong in ("https://example.org/a.fits", 3):
        with pytest.raises(HaloInputError, match="a path of this machine"):
            image.write(wrong)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.fits"]


def test_gzip_is_written_by_its_ending(tmp_path):
    image = make()
    image.write(tmp_path / "a.fits.gz")
    assert (tmp_path / "a.fits.gz").read_bytes().startswith(b"\x1f\x8b")
    assert_equal(image, read_image(tmp_path / "a.fits.gz"))


OWN = dataclasses.replace(NVSS, name="own \u00e9", flux_scale=0.25)


@pytest.mark.parametrize(("survey", "flux_scale"), [("nvss", 0.03), ("sumss", 0.03), (NVSS, 0.1), (OWN, 0.25)])
def test_survey_and_noise_method_are_kept(write, tmp_path, survey, flux_scale):
    """NVSS and SUMSS give their flux scales as good to 3 %; a survey of the user's own brings its own number."""
    image = read_image(write(DATA, FULL), survey=survey, beam=45 * u.arcsec, frequency=1400 * u.MHz)
    name = survey if isinstance(survey, str) else survey.name
    assert (image.meta["survey"], image.meta["flux_scale"]) == (name, flux_scale)
    assert "rms_method" not in image.meta
    image = image.replace(rms=0.1, meta=image.meta | {"rms_method": "map"})
    for generation in range(2):
        image.write(tmp_path / f"{generation}.fits")
        image = read_image(tmp_path / f"{generation}.fits")
        assert (image.meta["survey"], image.meta["flux_scale"], image.meta["rms_method"]) == (name, flux_scale, "map")
        assert "(map)" in repr(image)
    # The survey that is named when reading counts.
    with pytest.warns(HalopyWarning, match="the file says that it is of .*, not of tgss"):
        renamed = read_image(tmp_path / "1.fits", survey="tgss")
    assert (renamed.meta["survey"], renamed.meta["flux_scale"]) == ("tgss", 0.1)


def test_no_survey_has_no_flux_scale(write, tmp_path):
    image = read_image(write(DATA, FULL))
    assert image.meta["survey"] is None and "flux_scale" not in image.meta
    image.write(tmp_path / "out.fits")
    again = read_image(tmp_path / "out.fits")
    assert again.meta["survey"] is None and not {"flux_scale", "rms_method"} & set(again.meta)


def test_an_image_of_blanks_is_written_and_read(path):
    write_image(make(np.full_like(DATA, np.nan)), path)
    image = read_image(path)
    assert image.flags == ("all-blank",) and not image.valid.any()


def test_own_beam_is_not_judged_again(path):
    """What was warned of when the beam was given is not told at each reading of the file."""
    make(beam=Beam(10 * u.deg)).write(path)
    assert read_image(path).beam.major == 10 * u.deg
    with pytest.warns(HalopyWarning, match="hardly true"):
        read_image(path, beam=20 * u.deg)


def test_own_file_takes_what_the_user_says(path):
    make(beam=None, frequency=None).write(path)
    image = read_image(path)
    assert (image.beam, image.frequency) == (None, None)
    image = read_image(path, survey=NVSS, unit="mJy/beam")
    assert (image.beam.source, image.frequency, image.unit) == ("survey nvss-like", 1400 * u.MHz, u.mJy / u.beam)
    # A damaged note makes it a file like any other.
    path.write_bytes(path.read_bytes().replace(b"HALOMETA= '{", b"HALOMETA= '["))
    with pytest.warns(HalopyWarning):
        assert read_image(path, unit="Jy/beam").name == "image"
