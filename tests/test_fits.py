"""Reading and writing images: planes, HDUs, blanks, scaling, the round trip, and real files."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits, registry

from halopy import Beam, ClusterImage
from halopy import survey as presets
from halopy.cutouts import tangent_wcs
from halopy.errors import HaloInputError, HalopyWarning
from halopy.io.fits import describe, read_image
from halopy.survey import Survey

NVSS = Survey("nvss-like", 1400 * u.MHz, (45 * u.arcsec, 45 * u.arcsec), 15 * u.arcsec, 0.45 * u.mJy / u.beam)
SKY = {"CTYPE1": "RA---SIN", "CRPIX1": 20.5, "CRVAL1": 10.0, "CDELT1": -0.0025,
       "CTYPE2": "DEC--SIN", "CRPIX2": 16.5, "CRVAL2": -30.0, "CDELT2": 0.0025}
FULL = SKY | {"BUNIT": "Jy/beam", "BMAJ": 0.0125, "BMIN": 0.0125, "BPA": 0.0, "RESTFRQ": 1.4e9, "RADESYS": "ICRS"}
DATA = np.random.default_rng(1).normal(size=(32, 40)).astype(np.float32)

TEST_DATA = Path(os.environ.get("HALOPY_TEST_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
needs_data = pytest.mark.skipif(not (TEST_DATA / "nvss").is_dir(),
                                reason="the set of real images is not there; HALOPY_TEST_DATA names its folder")


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


@pytest.fixture
def plain(tmp_path):
    """The two-axis twin of the images below."""
    twin = tmp_path / "plain.fits"
    fits.PrimaryHDU(DATA, header(FULL)).writeto(twin)
    return read_image(twin)


def same(image, plain):
    np.testing.assert_array_equal(image.data, plain.data)
    y, x = np.mgrid[0:plain.shape[0]:8, 0:plain.shape[1]:8]
    distance = image.wcs.pixel_to_world(x, y).separation(plain.wcs.pixel_to_world(x, y))
    assert np.nanmax(distance / plain.pixel_scale) < 0.1


def moved(order):
    """The cards of FULL with RA, DEC, FREQ, STOKES on the axes named by ``order``."""
    cards = {k: v for k, v in FULL.items() if not k[-1].isdigit()}
    axes = {"RA": {k[:-1]: v for k, v in SKY.items() if k.endswith("1")},
            "DEC": {k[:-1]: v for k, v in SKY.items() if k.endswith("2")},
            "FREQ": {"CTYPE": "FREQ", "CRVAL": 1.4e9, "CDELT": 1e6, "CRPIX": 1.0, "CUNIT": "Hz"},
            "STOKES": {"CTYPE": "STOKES", "CRVAL": 1.0, "CDELT": 1.0, "CRPIX": 1.0}}
    for n, name in enumerate(order, start=1):
        cards |= {f"{k}{n}": v for k, v in axes[name].items()}
    return cards


# --- planes -------------------------------------------------------------------------------------

@pytest.mark.parametrize("order", [("RA", "DEC"), ("RA", "DEC", "FREQ"), ("RA", "DEC", "FREQ", "STOKES"),
                                   ("RA", "DEC", "STOKES", "FREQ"), ("STOKES", "FREQ", "RA", "DEC"),
                                   ("FREQ", "RA", "STOKES", "DEC"), ("DEC", "RA"), ("FREQ", "DEC", "RA")])
def test_axes_of_length_one_in_any_order(write, plain, order):
    data = DATA if order.index("RA") < order.index("DEC") else DATA.T
    shape = [1] * len(order)
    sky = sorted(order.index(n) for n in ("RA", "DEC"))
    shape[len(order) - 1 - sky[0]], shape[len(order) - 1 - sky[1]] = data.shape[1], data.shape[0]
    image = read_image(write(data.reshape(shape), moved(order)))
    same(image, plain)
    assert image.frequency == 1400 * u.MHz


def test_more_axes_in_the_wcs_than_in_the_data(write, plain):
    cards = moved(("RA", "DEC", "FREQ", "STOKES"))
    same(read_image(write(DATA, cards)), plain)
    same(read_image(write(DATA[None, None], cards | {"CDELT4": 0.0, "CDELT3": 0.0, "CROTA3": None})), plain)
    same(read_image(write(DATA[None], cards | {"WCSAXES": 4})), plain)


def test_cube_needs_a_plane(write, plain):
    """MGCLS cubes: plane 0 is Stokes I, plane 1 the spectral index, 2 to 15 are channels."""
    cube = np.stack([DATA + n for n in range(16)])
    path = write(cube, moved(("RA", "DEC", "FREQ")))
    with pytest.raises(HaloInputError, match=r"axis 3 \(FREQ\) has 16 planes, 0 to 15.*plane=0") as caught:
        read_image(path)
    assert caught.value.keyword == "NAXIS3"
    image = read_image(path, plane=0)
    same(image, plain)
    assert image.meta["plane"] == "FREQ 0 of 16"
    image = read_image(path, channel=3)
    np.testing.assert_array_equal(image.data, cube[3])
    assert image.frequency == 1403 * u.MHz
    for wrong in ({"plane": 16}, {"plane": -1}, {"plane": True}, {"channel": 1.0}):
        with pytest.raises(HaloInputError, match="an integer from 0 to 15"):
            read_image(path, **wrong)
    with pytest.raises(HaloInputError, match="plane= needs 1 number"):
        read_image(path, plane=(0, 1))
    with pytest.raises(HaloInputError, match="an integer from 0 to 15"):
        read_image(path, plane="0")
    with pytest.raises(HaloInputError, match="no plane Stokes I"):
        read_image(path, plane=0, stokes="I")


def test_stokes_planes(write, plain):
    path = write(np.stack([DATA, DATA + 1, DATA + 2, DATA + 3])[:, None], moved(("RA", "DEC", "FREQ", "STOKES")))
    with pytest.raises(HaloInputError, match="0 = I, 1 = Q, 2 = U, 3 = V"):
        read_image(path)
    same(read_image(path, stokes="I"), plain)
    np.testing.assert_array_equal(read_image(path, stokes="u").data, DATA + 2)
    with pytest.warns(HalopyWarning, match="Stokes V"):
        image = read_image(path, plane=3)
    assert image.meta["stokes"] == "V"
    with pytest.raises(HaloInputError, match="no plane Stokes XX"):
        read_image(path, stokes="XX")
    both = np.arange(4, dtype=np.float32).reshape(2, 2, 1, 1) + DATA
    path = write(both, moved(("RA", "DEC", "FREQ", "STOKES")))
    np.testing.assert_array_equal(read_image(path, plane=(0, 1)).data, both[0, 1])
    np.testing.assert_array_equal(read_image(path, stokes="I", channel=1).data, both[0, 1])
    with pytest.raises(HaloInputError, match="plane= needs 2"):
        read_image(path, plane=0)
    with pytest.raises(HaloInputError, match="no axis for channel="):
        read_image(write(DATA, FULL), channel=1)


# --- HDUs ---------------------------------------------------------------------------------------

def test_which_hdu(write, plain, path):
    other = fits.ImageHDU(DATA + 1, header(FULL), name="WEIGHT")
    same(read_image(write(DATA, FULL, other)), plain)
    np.testing.assert_array_equal(read_image(path, hdu=1).data, DATA + 1)
    np.testing.assert_array_equal(read_image(path, hdu="weight").data, DATA + 1)
    same(read_image(write(None, {}, other, fits.ImageHDU(DATA, header(FULL), name="SCI"))), plain)
    write(None, {}, other, fits.ImageHDU(DATA, header(FULL), name="B"))
    with pytest.raises(HaloInputError, match=r"several images .*1 WEIGHT image \(32, 40\); 2 B.*hdu=1"):
        read_image(path)
    with pytest.raises(HaloInputError, match="no HDU 7"):
        read_image(path, hdu=7)
    with pytest.raises(HaloInputError, match="this HDU holds no image"):
        read_image(path, hdu=0)
    write(None, {}, fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])]))
    with pytest.raises(HaloInputError, match=r"no image of two axes.*read_targets"):
        read_image(path)
    write(DATA[0], {})
    with pytest.raises(HaloInputError, match="no image of two axes"):
        read_image(path)


def test_visibilities_are_no_image(path):
    group = fits.GroupData(np.zeros((3, 1, 1, 3), np.float32), parnames=["UU"], pardata=[np.zeros(3)], bitpix=-32)
    fits.HDUList([fits.GroupsHDU(group)]).writeto(path)
    with pytest.raises(HaloInputError, match="visibilities, no image"):
        read_image(path)


# --- pixels -------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
def test_floats_of_any_kind(write, plain, dtype):
    image = read_image(write(DATA.astype(dtype), FULL))
    same(image, plain)
    assert image.data.dtype == np.dtype(np.float32)
    assert image.data.dtype.isnative


def test_scaled_integers_and_blank(write, plain):
    scale, zero = 2.5e-4, 0.125
    stored = np.round((DATA - zero) / scale).astype(np.int16)
    stored[3, 4] = -32768
    hdu = fits.PrimaryHDU(stored, header(FULL | {"BLANK": -32768}))
    hdu.header["BSCALE"], hdu.header["BZERO"] = scale, zero
    path = write(DATA, FULL)
    raw = bytearray(hdu.header.tostring().encode() + stored.astype(">i2").tobytes())
    path.write_bytes(raw + b"\0" * (-len(raw) % 2880))
    image = read_image(path)
    assert np.isnan(image.data[3, 4])
    assert image.valid.sum() == DATA.size - 1
    np.testing.assert_allclose(image.data[image.valid], plain.data[image.valid], atol=scale / 2 * 1.01)
    assert image.meta["blanked"] == pytest.approx(1 / DATA.size)
    # Without scaling, BLANK counts too.
    image = read_image(write(np.arange(1280, dtype=np.int32).reshape(32, 40), FULL | {"BLANK": 7}))
    assert np.isnan(image.data[0, 7])
    assert image.data[0, 8] == 8


def test_blanks(write):
    data = DATA.copy()
    data[0, :4] = np.nan, np.inf, -np.inf, 0
    image = read_image(write(data, FULL))
    assert np.isnan(image.data[0, :3]).all()
    assert image.data[0, 3] == 0
    assert (image.meta["blanked"], image.meta["zeros"]) == pytest.approx((3 / DATA.size, 1 / DATA.size))
    image = read_image(write(data, FULL), zeros_are_blank=True)
    assert np.isnan(image.data[0, 3])
    assert image.meta["blanked"] == pytest.approx(4 / DATA.size)
    assert "all-blank" not in image.flags
    # An image without any data is one of many images of a run: it is read, and says so.
    for image in (read_image(write(np.full_like(DATA, np.nan), FULL)),
                  read_image(write(np.zeros_like(DATA), FULL), zeros_are_blank=True)):
        assert not image.valid.any()
        assert (image.flags, image.meta["blanked"]) == (("all-blank",), 1)
        assert "no usable pixels: every pixel is blank" in describe(image)
        assert "no usable pixels" in describe(image.replace(rms=image.data))
    assert "constant" in describe(read_image(write(np.zeros_like(DATA), FULL)))


# --- the door -----------------------------------------------------------------------------------

def test_read_through_the_registry(write, path, monkeypatch):
    monkeypatch.setattr(presets, "surveys", {"nvss": NVSS}, raising=False)
    write(DATA, SKY | {"OBJECT": "template"})
    image = ClusterImage.read(path, survey="nvss")
    assert image.beam.source == "survey nvss-like"
    assert (image.name, image.meta["object"], image.meta["survey"]) == ("image", "template", "nvss-like")
    assert ClusterImage.read(str(path), survey=NVSS, name="A2744").name == "A2744"
    assert "fits" in registry.get_formats(ClusterImage, readwrite="Read")["Format"]
    assert registry.identify_format("write", ClusterImage, "a.fits", None, [], {}) == ["fits"]
    with pytest.raises(HaloInputError, match="survey must be a name or"):
        ClusterImage.read(path, survey=3)
    with pytest.raises(HaloInputError, match="paths only"):
        ClusterImage.read("https://example.org/a.fits")


def test_one_warning_per_cause(write):
    cards = FULL | {"BMAJ": 45.0, "BMIN": 45.0, "RESTFRQ": None, "EQUINOX": 1950.0}
    path = write(DATA, cards | {"FILLER": -1})
    path.write_bytes(path.read_bytes().replace(b"FILLER  =", b"BLANK   ="))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = read_image(path)
    assert [w.category for w in caught] == [HalopyWarning] * 3
    assert len({str(w.message) for w in caught}) == 3
    assert any("BLANK" in r for r in image.meta["repairs"])


def test_astropy_errors_become_ours(write, path):
    write(DATA, FULL)
    path.write_bytes(path.read_bytes().replace(b"SIMPLE  =                    T", b"SIMPLE  =                    F"))
    with pytest.raises(HaloInputError, match="the pixels cannot be read"):
        read_image(path)


# --- describing ---------------------------------------------------------------------------------

def make(data=DATA, **changes):
    wcs = tangent_wcs(SkyCoord(3.58, -30.39, unit="deg"), 28 * u.arcsec, data.shape)
    known = {"wcs": wcs, "unit": u.Jy / u.beam, "beam": Beam(140 * u.arcsec, 120 * u.arcsec, -33 * u.deg),
             "frequency": 200 * u.MHz, "name": "A2744"}
    return ClusterImage(data, **(known | changes))


def test_describe(write):
    cards = {"BMAJ": "1.25E-02", "EQUINOX": "J2000", "RADESYS": None, "OBJECT": "Coma"}
    text = describe(read_image(write(DATA, FULL | cards)))
    for part in ("image, 40 x 32 pixels", "HDU 0", "Coma", '9"', "FK5 (EQUINOX)", "5 pixels across",
                 "28.33 pixels in area",
                 "header BMAJ (text)", "1400 MHz (RESTFRQ)", "Jy / beam (BUNIT)", "0.00% of the pixels",
                 "not estimated",
                 "beam-from-text", "EQUINOX = 'J2000' is text, read as 2000"):
        assert part in text, part
    text = describe(make(beam=None, frequency=None, rms=np.full(DATA.shape, 0.25)))
    for part in ("none; give beam=", "unknown", "median rms 0.25"):
        assert part in text, part


# --- real files ---------------------------------------------------------------------------------

@needs_data
def test_real_nvss_images_have_the_nvss_beam():
    """45 arcsec (Condon et al. 1998, AJ 115, 1693), whether the header is text, false or silent."""
    files = sorted((TEST_DATA / "nvss").glob("*.fits"))
    assert len(files) == 15
    for file in files:
        image = read_image(file, survey=NVSS)
        assert image.beam.major.to_value(u.arcsec) == pytest.approx(45, rel=1e-3), file
        assert image.beam.minor.to_value(u.arcsec) == pytest.approx(45, rel=1e-3), file
        assert image.frequency == 1400 * u.MHz
        assert image.unit == u.Jy / u.beam
        assert 7 < image.pixel_scale.to_value(u.arcsec) < 16
        describe(image)


@needs_data
@pytest.mark.parametrize("folder", ["mwa-gleam", "mwa2-cutouts", "mwa-other", "clusters-other", "other-surveys"])
def test_real_images_read(folder, tmp_path):
    bare = Survey("bare", 180 * u.MHz, (130 * u.arcsec, 120 * u.arcsec), 28 * u.arcsec, 10 * u.mJy / u.beam)
    first = Survey("first", 1400 * u.MHz, (5.4 * u.arcsec, 5.4 * u.arcsec), 1.8 * u.arcsec, 0.15 * u.mJy / u.beam)
    files = sorted((TEST_DATA / folder).glob("*.fits*"))
    assert files
    for file in files[:20]:
        survey = bare if folder.startswith(("mwa-gleam", "mwa2")) else first if "first" in file.name else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*Stokes V", HalopyWarning)  # the header of one is wrong
            image = read_image(file, survey=survey)
        assert image.beam is not None
        assert image.frequency is not None
        image.write(tmp_path / "again.fits", overwrite=True)
        again = read_image(tmp_path / "again.fits")
        same(again, image)
        assert again.beam.source == image.beam.source
