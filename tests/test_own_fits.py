"""Files of halopy's own that others have broken, and that are the same whenever they are written."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable

from halopy import CutoutSet, HaloInputError, own_fits
from halopy.io.detections import blank_detections, read_detections, write_detections
from halopy.own_fits import open_own, with_checksums


@pytest.fixture
def path(tmp_path):
    table = QTable({"name": ["a", "b"], "pixel_scale": [28.0, 28.0] * u.arcsec})
    CutoutSet(np.ones((2, 8, 8)), table, unit=u.Jy / u.beam).write(tmp_path / "set.fits")
    return tmp_path / "set.fits"


def change(path, keyword, value, *, last=False):
    raw = path.read_bytes()
    key = f"{keyword:<8}= ".encode()
    place = raw.rindex(key) if last else raw.index(key)
    path.write_bytes(raw[:place] + f"{keyword:<8}= {value:>20}".ljust(80).encode() + raw[place + 80:])


@pytest.mark.parametrize(("keyword", "value", "last"), [
    ("NAXIS", 10**9, False), ("NAXIS", 10**9, True), ("NAXIS", "'3'", False), ("NAXIS", -1, False),
    ("NAXIS1", 10**12, False), ("NAXIS2", 10**12, True), ("NAXIS1", -8, False), ("NAXIS1", "'x'", False),
    ("BITPIX", -10**9, False), ("PCOUNT", 10**12, True), ("GCOUNT", 10**12, True), ("naxis1", 10**12, None)])
def test_nothing_is_taken_for_what_is_only_claimed(path, keyword, value, last):
    """astropy takes an hour for NAXIS = 1000000000, and 233 TiB for NAXIS1 = 1000000000000."""
    if last is None:  # astropy reads this spelling, too, where it stands first
        raw = path.read_bytes()
        end = raw.index(b"END" + b" " * 77 + b" " * 80)
        path.write_bytes(raw[:80] + f"{keyword}= {value}".ljust(80).encode() + raw[80:end + 80] + raw[end + 160:])
    else:
        change(path, keyword, value, last=last)
    with pytest.raises(HaloInputError, match="must be a number from 0 to 3|does not hold what its header") as told:
        CutoutSet.read(path)
    assert told.value.path == path


def test_files_that_end_too_early(path):
    raw = path.read_bytes()
    path.write_bytes(raw[:400])
    with pytest.raises(HaloInputError, match="no END card"):
        CutoutSet.read(path)
    path.write_bytes(b"<html>")
    with pytest.raises(HaloInputError, match="cannot read a CutoutSet: it is no FITS file"):
        CutoutSet.read(path)
    path.write_bytes(raw[:3000])
    with pytest.raises(HaloInputError, match="does not hold what its header claims"):
        CutoutSet.read(path)


def test_packed_files(path, monkeypatch):
    packed = path.with_name("set.fits.gz")
    whole = CutoutSet.read(path)
    whole.write(packed)
    assert packed.read_bytes().startswith(b"\x1f\x8b")
    np.testing.assert_array_equal(CutoutSet.read(packed).data, whole.data)
    packed.write_bytes(gzip.compress(path.read_bytes())[:-20])
    with pytest.raises(HaloInputError, match="cannot read a CutoutSet: Compressed file ended"):
        CutoutSet.read(packed)
    monkeypatch.setattr(own_fits, "_MAX_BYTES", 4000)
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with open_own(packed) as stream:  # it is longer, but not more than 20 times what it is packed
        assert stream.read() == path.read_bytes()
    monkeypatch.setattr(own_fits, "_MAX_RATIO", 1)
    with pytest.raises(ValueError, match="unpack to more than 4000 bytes"), open_own(packed):
        pass


def test_detections_that_only_claim(tmp_path):
    found = blank_detections(["A1"], SkyCoord([3], [-30], unit="deg"))
    path = write_detections(found, tmp_path)["fits"]
    change(path, "NAXIS", 10**9, last=True)
    with pytest.raises(HaloInputError, match="NAXIS must be an integer"):
        read_detections(path)


def test_checksums_are_right_and_without_a_time():
    def written():
        table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])
        buffer = io.BytesIO()
        with_checksums([fits.PrimaryHDU(np.eye(3)), table]).writeto(buffer)
        return buffer.getvalue()

    with fits.open(io.BytesIO(written()), checksum=True) as hdus:  # astropy warns where one is wrong
        assert all({"CHECKSUM", "DATASUM"} <= set(hdu.header) for hdu in hdus)
        assert {hdu.header.comments["CHECKSUM"] for hdu in hdus} == {"of this HDU"}
