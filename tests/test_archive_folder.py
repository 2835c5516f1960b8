"""Folders of FITS files: MGCLS with its names and cubes, and the releases of Data Central."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
from archive_server import A2744, QUICK, image_bytes
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits

from halopy import ClusterImage, surveys
from halopy.cutouts import tangent_wcs
from halopy.errors import HaloInputError, HalopyWarning, ProviderError
from halopy.io.archive import covers, fetch, providers
from halopy.io.folder import images_in

A13, A133 = SkyCoord(3.38, -19.50, unit="deg"), SkyCoord(15.67, -21.88, unit="deg")
PIXEL = 1.25 * u.arcsec


def a_cube(path, position, *, planes=16, level=1.0, beam=7.8, **cards):
    """A cube as MGCLS DR1 has them: plane 0 the intensity, 1 the spectral index, then the channels.

    The axes are those of Obit's MFImage: SPECLNMF, then STOKES.
    """
    shape = (60, 64)
    pixels = np.random.default_rng(1).normal(0, 4e-6, (1, planes, *shape))
    pixels[0, 0] += level  # so that a test knows which plane it got
    if planes > 1:
        pixels[0, 1] = -0.7
    header = tangent_wcs(position, PIXEL, shape).to_header()
    header["WCSAXES"] = 4
    header.update({"CTYPE3": "SPECLNMF", "CRPIX3": 1.0, "CRVAL3": 1.0, "CDELT3": 1.0, "CTYPE4": "STOKES",
                   "CRPIX4": 1.0, "CRVAL4": 1.0, "CDELT4": 1.0, "BUNIT": "JY/BEAM", "BMAJ": beam / 3600,
                   "BMIN": beam / 3600, "BPA": 0.0, "RESTFREQ": 1.28e9} | cards)
    hdu = fits.PrimaryHDU(pixels.astype(np.float32), header=header)
    if path.name.endswith(".gz"):
        with gzip.open(path, "wb", compresslevel=1) as stream:
            hdu.writeto(stream)
    else:
        hdu.writeto(path)
    return path


# Names as they stand in public scripts that read MGCLS DR1.
BASIC = {"Abell_133.fits.gz": (A133, 16), "Abell_13.fits.gz": (A13, 16), "J0014.3-3022.Fix.fits.gz": (A2744, 16)}


@pytest.fixture
def mgcls(tmp_path):
    folder = tmp_path / "basic_products"
    folder.mkdir()
    for level, (name, (position, planes)) in enumerate(BASIC.items(), 1):
        a_cube(folder / name, position, planes=planes, level=float(level))
    for stokes, name in ((2, "Abell_13.QPoln.fits.gz"), (3, "Abell_13.UPoln.fits.gz"), (4, "Abell_13.VPoln.fits")):
        a_cube(folder / name, A13, planes=1, level=99.0, CRVAL4=float(stokes))
    (folder / "Abell_13.SNTab.fits").write_bytes(b"a gain table")
    (folder / "README.txt").write_text("what it is")
    return folder


def test_plane_0_of_the_cube_that_shows_the_position(mgcls):
    provider = providers.create("folder", path=mgcls)
    # Abell_13 is the beginning of Abell_133: the sky decides, not the name.
    for (name, (position, _)), level in zip(BASIC.items(), (1, 2, 3), strict=True):
        image = fetch(position, survey="mgcls-8", size=1 * u.arcmin, provider=provider)
        assert image.meta["path"].endswith(name) and image.shape == (48, 48)
        assert np.median(image.data) == pytest.approx(level, abs=1e-4)
        assert image.meta["plane"] == "SPECLNMF 0 of 16" and image.beam.major.to_value(u.arcsec) == pytest.approx(7.8)
        assert (image.unit, image.meta["provider"]) == (u.Jy / u.beam, "folder")
        x, y = image.wcs.world_to_pixel(position)
        assert abs(x - 23.5) <= 0.51 and abs(y - 23.5) <= 0.51


def test_the_survey_says_which_plane(mgcls):
    path = mgcls / "Abell_13.fits.gz"
    assert ClusterImage.read(path, survey="mgcls-8").meta["plane"] == "SPECLNMF 0 of 16"
    assert np.median(ClusterImage.read(path, survey="mgcls-8", plane=1).data) == pytest.approx(-0.7)
    with pytest.raises(HaloInputError, match="more than one plane.*plane=0"):
        ClusterImage.read(path)
    # Other surveys say nothing of cubes.
    with pytest.raises(HaloInputError, match="more than one plane"):
        ClusterImage.read(path, survey="nvss")


def test_names(tmp_path):
    names = ["Abell_85.fits.gz", "Abell_85_1pln.fits.gz", "Abell_209.Fix.fits.gz", "Abell_209.1pln.fits.gz",
             "J0431.4-6126.Fix.fits.gz", "Abell_13.fits", "Abell_133_1pln.fits.gz", "Abell_2811B.fits.gz",
             "Bullet_aFix_pol_I_15arcsec_5pln_cor.fits.gz", "Bullet_aFix_pol_I_Farcsec_5pln_cor.fits.gz",
             "Bullet_aFix_pol_I_15arcsec_fcube_cor.fits.gz", "Bullet_aFix_pol_Q_15arcsec_fcube_cor.fits.gz",
             "Abell_85.QPoln.fits.gz", "Abell_85_U.fits", "Abell_85.SNTab.fits.gz", "notes.txt", ".hidden.fits",
             "significance.fits", "significance-12.fits", "Virgo_QSO.fits"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.fits").mkdir()
    high = ["Abell_133_1pln.fits.gz", "Abell_13.fits", "Abell_209.1pln.fits.gz", "Abell_2811B.fits.gz",
            "Abell_85_1pln.fits.gz", "Bullet_aFix_pol_I_Farcsec_5pln_cor.fits.gz", "J0431.4-6126.Fix.fits.gz",
            "Virgo_QSO.fits"]
    low = ["Bullet_aFix_pol_I_15arcsec_5pln_cor.fits.gz"]
    assert sorted(p.name for p in images_in(tmp_path, survey="mgcls-8")) == sorted(high)
    assert [p.name for p in images_in(tmp_path, survey=surveys["mgcls-15"])] == low
    assert sorted(p.name for p in images_in(tmp_path)) == sorted(high + low)


def test_folders_without_images(tmp_path):
    with pytest.raises(HaloInputError, match="this folder holds no image.*found '0 files'"):
        images_in(tmp_path)
    (tmp_path / "a_Q.fits").write_bytes(b"")
    with pytest.raises(HaloInputError, match="no image of mgcls-8.*such as a_Q.fits"):
        images_in(tmp_path, survey="mgcls-8")
    with pytest.raises(HaloInputError, match="folder cannot be read: No such file"):
        images_in(tmp_path / "none")


def test_outside(mgcls):
    far = SkyCoord(100, 20, unit="deg")
    provider = providers.create("folder", path=mgcls)
    with pytest.raises(ProviderError, match="folder: no image in .* shows this position") as caught:
        fetch(far, survey="mgcls-8", provider=provider)
    assert caught.value.cause == "outside"
    # The other half of the sky has no pixels, and is no error.
    for position, expected in ((far, False), (A13, True), (SkyCoord(183.38, 19.5, unit="deg"), False)):
        assert covers(position, survey="mgcls-8", provider=provider) == {"folder": expected}


def test_files_that_cannot_be_used_are_counted(mgcls):
    (mgcls / "Abell_3.fits").write_bytes(b"<html><title>Busy</title></html>")
    (mgcls / "Abell_4.fits").write_bytes(image_bytes(A133)[:3000])
    provider = providers.create("folder", path=mgcls)
    assert fetch(A13, survey="mgcls-8", size=1 * u.arcmin, provider=provider).shape == (48, 48)
    with pytest.raises(ProviderError, match=r"2 files could not be used, the first: .*Abell_3.fits: this is an HTML"):
        fetch(SkyCoord(100, 20, unit="deg"), survey="mgcls-8", provider=provider)
    # Without the survey's word the planes of a cube are not guessed at.
    for path in mgcls.glob("Abell_[34].fits"):
        path.unlink()
    with pytest.raises(ProviderError, match="more than one plane"):
        fetch(A13, survey="nvss", provider=provider)


def test_the_header_can_say_that_it_is_not_the_intensity(tmp_path):
    a_cube(tmp_path / "Abell_13.fits", A13, planes=1, CRVAL4=2.0)
    with pytest.raises(ProviderError, match="Stokes Q, not the total intensity"):
        fetch(A13, survey="mgcls-8", provider=providers.create("folder", path=tmp_path))


def test_the_nearest_of_several(tmp_path):
    here = SkyCoord(3.58, -30.39, unit="deg")
    for name, offset in (("a.fits", 8), ("b.fits", 2), ("c.fits", -6)):
        position = here.directional_offset_by(0 * u.deg, offset * u.arcmin)
        (tmp_path / name).write_bytes(image_bytes(position, seed=offset + 10))
    provider = providers.create("folder", path=tmp_path)
    assert fetch(here, size=5 * u.arcmin, provider=provider).meta["path"].endswith("b.fits")
    (tmp_path / "d.fits").write_bytes(image_bytes(here.directional_offset_by(0 * u.deg, 2 * u.arcmin), seed=5))
    with pytest.warns(HalopyWarning, match=r"b\.fits and d\.fits show the same sky: the first is taken"):
        fetch(here, size=5 * u.arcmin, provider=provider)


def test_a_file_that_changes_is_looked_at_again(tmp_path):
    provider = providers.create("folder", path=tmp_path)
    (tmp_path / "a.fits").write_bytes(image_bytes(A13))
    assert provider.covers(A2744, surveys["nvss"]) is False
    (tmp_path / "a.fits").write_bytes(image_bytes(A2744))
    os.utime(tmp_path / "a.fits", (1, 1))
    assert provider.covers(A2744, surveys["nvss"]) is True


def test_the_field_is_cut_as_far_as_the_image_reaches(tmp_path):
    (tmp_path / "a.fits").write_bytes(image_bytes())  # 40 x 50 pixels of 28 arcsec
    provider = providers.create("folder", path=tmp_path)
    whole = fetch(A2744, size=3 * u.deg, provider=provider)
    assert whole.shape == (40, 50)
    assert fetch(A2744, size=280 * u.arcsec, provider=provider).shape == (10, 10)
    edge = whole.wcs.pixel_to_world(1.2, 38.3)
    cut = fetch(edge, size=280 * u.arcsec, provider=provider)
    np.testing.assert_array_equal(cut.data, whole.data[34:40, :7])
    np.testing.assert_allclose(cut.wcs.world_to_pixel(edge), (1.2, 4.3), atol=1e-6)


def test_data_central_files_are_remembered(tmp_path):
    path = tmp_path / "A2744_200MHz.fits"
    path.write_bytes(image_bytes())
    provider = providers.create("datacentral", path=tmp_path)
    image = fetch(A2744, size=10 * u.arcmin, provider=provider)
    record = (tmp_path / "halopy-sha256.txt").read_text()
    # As sha256sum -c reads it.
    assert record == f"{image.meta['sha256']}  A2744_200MHz.fits\n"
    fetch(A2744, size=10 * u.arcmin, provider=provider)
    assert (tmp_path / "halopy-sha256.txt").read_text() == record
    path.write_bytes(image_bytes(seed=2))
    with pytest.raises(ProviderError, match=r"datacentral: .*A2744_200MHz.fits has changed: its sha256 is") as caught:
        fetch(A2744, size=10 * u.arcmin, provider=provider)
    assert caught.value.cause == "sha256"
    # A folder that may not be written to: the record lies elsewhere.
    elsewhere = providers.create("datacentral", path=tmp_path, record=tmp_path / "record.txt")
    assert fetch(A2744, size=10 * u.arcmin, provider=elsewhere).meta["provider"] == "datacentral"
    assert "A2744_200MHz.fits" in (tmp_path / "record.txt").read_text()


def test_a_folder_asks_no_network(tmp_path, monkeypatch):
    (tmp_path / "a.fits").write_bytes(image_bytes())
    monkeypatch.setenv("HALOPY_OFFLINE", "1")
    monkeypatch.setattr(type(QUICK), "_open", None)
    provider = providers.create("folder", path=tmp_path)
    assert fetch(A2744, size=5 * u.arcmin, provider=provider, cache=tmp_path / "cache").name == "J001419-302324"
    assert not (tmp_path / "cache").exists()


def test_halopy_detect_over_a_folder_of_mgcls(tmp_path, capsys):
    """Generated files with the archive's names, cubes and axes; no real image of MGCLS has been measured."""
    from astropy.table import QTable
    from simulated import beam_noise, point_source

    from halopy.cli import main
    from halopy.image import Beam
    from halopy.io.detections import read_detections
    from halopy.simulate.diffuse import exponential_halo

    beam, shape, rms = Beam(15 * u.arcsec), (220, 220), 1e-5
    folder = tmp_path / "enhanced_products"
    folder.mkdir()
    rng = np.random.default_rng(1)
    where = {"Abell_13": (A13, 0.0), "Abell_133": (A133, 0.03), "Bullet": (SkyCoord(104.65, -55.95, unit="deg"), 0.03)}
    for name, (position, flux) in where.items():
        scale = 3 * u.arcsec
        pixels = rms * beam_noise(shape, rng, beam=beam, pixel_scale=scale)
        pixels += flux * exponential_halo(beam, scale, shape, 20 * u.arcsec, x=109.5, y=109.5)
        pixels += 1e-3 * point_source(shape, 60, 160, beam=beam, pixel_scale=scale)
        cube = np.concatenate([pixels[None], np.full((1, *shape), -0.7),
                               rms * 4 * rng.standard_normal((14, *shape))])[None]
        header = tangent_wcs(position, scale, shape).to_header()
        header.update({"WCSAXES": 4, "CTYPE3": "SPECLNMF", "CRPIX3": 1.0, "CRVAL3": 1.0, "CDELT3": 1.0,
                       "CTYPE4": "STOKES", "CRPIX4": 1.0, "CRVAL4": 1.0, "CDELT4": 1.0, "BUNIT": "JY/BEAM",
                       "BMAJ": 15 / 3600, "BMIN": 15 / 3600, "BPA": 0.0})
        fits.writeto(folder / f"{name}_aFix_pol_I_15arcsec_5pln_cor.fits", cube.astype(np.float32), header)
        fits.writeto(folder / f"{name}_aFix_pol_Q_15arcsec_fcube_cor.fits", cube[:, :3].astype(np.float32), header)
        (folder / f"{name}_aFix_pol_I_Farcsec_5pln_cor.fits.gz").write_bytes(b"the other resolution")
    targets = tmp_path / "targets.ecsv"
    QTable({"name": list(where), "ra": [p.ra for p, _ in where.values()],
            "dec": [p.dec for p, _ in where.values()]}).write(targets)
    out = tmp_path / "out"
    arguments = ["detect", str(folder), "--targets", str(targets), "-o", str(out), "--n-controls", "40", "--quiet"]
    # Without the survey nobody has said which plane it is.
    assert main(arguments) == 5
    assert capsys.readouterr().err.count("more than one plane") == 3
    assert main([*arguments, "--survey", "mgcls-15", "--overwrite"]) == 0
    found = read_detections(out / "detections.ecsv")
    assert set(found["status"]) == {"ok"}
    assert {row["name"]: row["image"] for row in found} == \
        {name: f"{name}_aFix_pol_I_15arcsec_5pln_cor" for name in where}
    p_value = {row["name"]: row["p_value"] for row in found}
    flux = {row["name"]: row["flux"].to_value(u.Jy) for row in found}
    # The two halos of 30 mJy are the best of their images, and are measured; blank sky is not.
    assert p_value["Abell_133"] == p_value["Bullet"] == pytest.approx(1 / 41) and p_value["Abell_13"] > 0.05
    assert flux["Abell_133"] == pytest.approx(0.03, rel=0.3) and flux["Bullet"] == pytest.approx(0.03, rel=0.3)


def test_halopy_detect_over_an_empty_folder(tmp_path, capsys):
    from halopy.cli import main

    assert main(["detect", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "this folder holds no image" in capsys.readouterr().err


def test_the_band_of_the_survey_before_the_others(tmp_path):
    # The four bands of GLEAM lie on the same grid: by the sky alone the first name would be taken, 88 MHz as 200.5.
    for name, frequency in (("A_072-103.fits", 88e6), ("A_170-231.fits", 200.5e6)):
        (tmp_path / name).write_bytes(image_bytes(seed=int(frequency / 1e6), RESTFRQ=frequency))
    provider = providers.create("folder", path=tmp_path)
    image = fetch(A2744, survey="gleam-170-231", size=5 * u.arcmin, provider=provider)
    assert image.meta["path"].endswith("A_170-231.fits") and "frequency-from-survey" not in image.flags
    (tmp_path / "A_170-231.fits").unlink()
    with pytest.warns(HalopyWarning, match="A_072-103.fits is at 88 MHz, not at the 200.5 MHz of gleam-170-231"):
        fetch(A2744, survey="gleam-170-231", size=5 * u.arcmin, provider=provider)


def test_images_without_data_at_the_position(tmp_path):
    pixels = np.random.default_rng(1).normal(0, 8e-3, (40, 50))
    pixels[:, 10:] = np.nan
    (tmp_path / "a.fits").write_bytes(image_bytes(pixels=pixels))
    provider = providers.create("folder", path=tmp_path)
    with pytest.raises(ProviderError, match="folder: the image has no pixel with data") as caught:
        fetch(A2744, size=5 * u.arcmin, provider=provider)
    assert caught.value.cause == "outside"
    # A mosaic further off that has data there is better than a blank one whose centre is near.
    (tmp_path / "b.fits").write_bytes(image_bytes(A2744.directional_offset_by(0 * u.deg, 6 * u.arcmin)))
    assert fetch(A2744, size=5 * u.arcmin, provider=provider).meta["path"].endswith("b.fits")


def test_maps_beside_an_image_are_none(tmp_path):
    for name in ("A.fits", "A-rms.fits", "A_bkg.fits", "A_rms.fits.gz", "A.weights.fits", "A_psf.fits",
                 "detections.fits", "alarms.fits"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in images_in(tmp_path)] == ["A.fits", "alarms.fits"]
