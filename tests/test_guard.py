"""The guard: every broken file gets one error of its own, fast, and nothing but plain files is opened."""

import bz2
import gzip
import io
import os
import socket
import time

import numpy as np
import pytest
from astropy.io import fits

from halopy.errors import HaloInputError, HalopyWarning
from halopy.io.fits import read_image
from halopy.io.guard import check_fits, datasum

SKY = {"CTYPE1": "RA---SIN", "CRPIX1": 16.0, "CRVAL1": 10.0, "CDELT1": -0.01,
       "CTYPE2": "DEC--SIN", "CRPIX2": 16.0, "CRVAL2": -30.0, "CDELT2": 0.01,
       "BUNIT": "JY/BEAM", "BMAJ": 0.04, "BMIN": 0.03, "BPA": 20.0, "RESTFRQ": 2e8}


def card(keyword, value):
    return f"{keyword:<8}= {value:>20}".ljust(80).encode()


def raw_header(*cards, first="SIMPLE"):
    """A padded header of raw cards: what astropy would refuse to write."""
    start = card("SIMPLE", "T") if first == "SIMPLE" else b"XTENSION= 'IMAGE   '".ljust(80)
    text = start + b"".join(card(k, v) for k, v in cards) + b"END".ljust(80)
    return text + b" " * (-len(text) % 2880)


def image_bytes(data=None, *, checksum=False, **changes):
    data = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32) if data is None else data
    header = fits.Header()
    for keyword, value in (SKY | changes).items():
        header[keyword] = value
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(data, header)]).writeto(buffer, checksum=checksum)
    return buffer.getvalue()


def compressed_bytes(method, *, checksum):
    data = np.abs(np.random.default_rng(0).normal(size=(32, 32)) * 100).astype(np.int16)
    header = fits.Header()
    for keyword, value in SKY.items():
        header[keyword] = value
    buffer = io.BytesIO()
    hdu = fits.CompImageHDU(data, header, compression_type=method, tile_shape=(16, 16))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer, checksum=checksum)
    return buffer.getvalue(), data


def set_card(raw, keyword, value):
    """Overwrite the last card of this keyword."""
    place = raw.rindex(f"{keyword:<8}= ".encode())
    return raw[:place] + card(keyword, value) + raw[place + 80:]


def refused(path, match, **found):
    start = time.perf_counter()
    with pytest.raises(HaloInputError, match=match) as caught:
        read_image(path)
    assert time.perf_counter() - start < 1
    assert str(path) in str(caught.value)
    for name, value in found.items():
        assert getattr(caught.value, name) == value
    return caught.value


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.fits"


# --- paths --------------------------------------------------------------------------------------

@pytest.mark.parametrize("url", ["https://example.org/a.fits", "s3://bucket/a.fits", "file:///etc/passwd", "ftp://a/b"])
def test_url_is_refused(url):
    with pytest.raises(HaloInputError, match="paths only"):
        check_fits(url)


def test_paths_that_are_no_plain_file(tmp_path):
    refused(tmp_path, "folder, not a file")
    refused(tmp_path / "absent.fits", "no such file")
    (tmp_path / "plain").write_text("x")
    refused(tmp_path / "plain" / "a.fits", "no such file")
    os.mkfifo(tmp_path / "pipe.fits")
    refused(tmp_path / "pipe.fits", r"pipe \(FIFO\)")
    (tmp_path / "a.fits").symlink_to(tmp_path / "b.fits")
    (tmp_path / "b.fits").symlink_to(tmp_path / "a.fits")
    refused(tmp_path / "a.fits", "links lead in a circle")
    refused(tmp_path / ("x" * 300), "cannot be opened: .*too long")
    refused("/dev/null", "device or a socket")
    for wrong in (3, b"a.fits", None):
        with pytest.raises(HaloInputError, match="named by a str or a path"):
            check_fits(wrong)
    with pytest.raises(HaloInputError, match="cannot be the name of a file"):
        check_fits("a\0.fits")


def test_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.fits")
        refused("s.fits", "device or a socket")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable(path):
    path.write_bytes(image_bytes())
    path.chmod(0)
    refused(path, "may not be read")


# --- not FITS -----------------------------------------------------------------------------------

@pytest.mark.parametrize(("content", "match"), [
    (b"", r"empty \(0 bytes\)"),
    (b"<!DOCTYPE html>\n<html><head><title>Not\n found &amp; gone</title></head></html>",
     "its title is 'Not found & gone'"),
    (b"  <html><body>504</body></html>", "HTML page"),
    (b"PK\x03\x04" + b"0" * 100, "zip archive"),
    (b"\x89HDF\r\n" + b"0" * 100, "HDF5"),
    (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
    (b'<?xml version="1.0"?><VOTABLE version="1.4">', "VOTable"),
    (b"hello", "not a FITS file: it does not begin"),
    (b"SIMPLE = T", "damaged first card"),
    (b"\0" * 5760, "not a FITS file"),
])
def test_not_fits(path, content, match):
    path.write_bytes(content)
    refused(path, match)
    if content:
        path.write_bytes(gzip.compress(content))
        refused(path, match)


# --- structure ----------------------------------------------------------------------------------

SQUARE = (("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", 10), ("NAXIS2", 10))


@pytest.mark.parametrize(("keyword", "value"), [
    ("NAXIS", 1000000000), ("NAXIS", -1), ("NAXIS", "'2'"), ("NAXIS", "2.0"), ("NAXIS", 33), ("NAXIS1", -5),
    ("NAXIS1", "'abc'"), ("NAXIS2", "T"), ("NAXIS1", "9" * 30), ("BITPIX", 7), ("BITPIX", "'-32'"), ("BITPIX", "8.0"),
    ("PCOUNT", -1),
    ("PCOUNT", 100), ("GCOUNT", 0), ("GCOUNT", "1E99"), ("BSCALE", 0), ("BSCALE", "'abc'"), ("BSCALE", "1e308"),
    ("BSCALE", "NaN"), ("BZERO", "Inf"), ("BZERO", "'0'"), ("WCSAXES", 100000), ("WCSAXES", "'2'"),
    ("A_ORDER", 1000000),
    ("BP_ORDER", -1),
])
def test_bad_value_names_the_keyword(path, keyword, value):
    values = dict(SQUARE) | {keyword: value}
    path.write_bytes(raw_header(*values.items()) + b"\0" * 2880)
    error = refused(path, keyword, keyword=keyword, hdu=0)
    assert error.found is not None


def test_text_blank_and_missing_axis(path):
    path.write_bytes(raw_header(("BITPIX", 16), *SQUARE[1:], ("BLANK", "'x'")) + b"\0" * 2880)
    refused(path, "BLANK must be an integer", keyword="BLANK")
    path.write_bytes(raw_header(("BITPIX", -32), ("NAXIS", 4), *SQUARE[2:], ("NAXIS3", 1)) + b"\0" * 2880)
    refused(path, "no NAXIS4", keyword="NAXIS4")
    path.write_bytes(raw_header(*SQUARE, ("NAXIS1", 11)) + b"\0" * 2880)
    refused(path, "NAXIS1 twice", keyword="NAXIS1")
    # 'NAXIS1=  5' with the sign in another column and in small letters is read by astropy.
    path.write_bytes(raw_header(*SQUARE[:2]).replace(b"END" + b" " * 157, b"naxis1= -5".ljust(80) + b"END" + b" " * 77))
    refused(path, "NAXIS1 must be", keyword="NAXIS1")


def test_more_pixels_than_allowed(path):
    path.write_bytes(raw_header(*SQUARE[:2], ("NAXIS1", 1000000), ("NAXIS2", 1000000)) + b"\0" * 2880)
    refused(path, "1000000000000 pixels, more than max_pixels")
    path.write_bytes(image_bytes())
    with pytest.raises(HaloInputError, match="max_pixels = 1000"):
        check_fits(path, max_pixels=1000)
    assert check_fits(path, max_pixels=1024).hdus[0].shape == (32, 32)


@pytest.mark.parametrize(("keyword", "value", "match"), [
    ("ZNAXIS1", 10**12, "more than max_pixels"), ("ZTILE1", 2 * 10**9, "larger than the image"),
    ("ZTILE1", 0, "ZTILE1 must be"), ("ZBITPIX", 7, "ZBITPIX must be"), ("ZNAXIS", 10**9, "ZNAXIS must be"),
    ("TFIELDS", 1000, "TFIELDS must be"), ("ZCMPTYPE", "'XYZ'", "ZCMPTYPE must be"), ("PCOUNT", 10**9, "cut short"),
    ("GCOUNT", 0, "an extension has GCOUNT = 1"),
])
def test_compressed_structure(path, keyword, value, match):
    path.write_bytes(set_card(compressed_bytes("RICE_1", checksum=False)[0], keyword, value))
    refused(path, match, hdu=1)


def test_truncation(path):
    raw = image_bytes()
    path.write_bytes(raw[:2880 + 4000])
    refused(path, "promises 4096 bytes, the file has 4000", hdu=0)
    path.write_bytes(raw[:1000])
    refused(path, "no END card")
    path.write_bytes(raw[:2880].replace(b"END     ", b"COMMENT "))
    refused(path, "no END card")
    path.write_bytes(raw[:80] + b"COMMENT".ljust(80) * (11 * 2**20 // 80))
    refused(path, "no END card within 10485760 bytes")


def test_missing_padding_is_tolerated(path):
    raw = image_bytes()
    path.write_bytes(raw[:2880 + 4096])
    report = check_fits(path)
    assert report.notes == ("the last block is not padded to 2880 bytes",)
    image = read_image(path)
    np.testing.assert_array_equal(image.data, np.frombuffer(raw[2880:2880 + 4096], ">f4").reshape(32, 32))
    assert "the last block is not padded to 2880 bytes" in image.meta["repairs"]


def test_trailing_bytes_are_noted(path):
    path.write_bytes(image_bytes() + b"rubbish")
    assert "no FITS extension" in check_fits(path).notes[0]
    path.write_bytes(image_bytes() + b"\0" * 2880)
    assert check_fits(path).notes == ()


def test_too_many_hdus(path):
    empty = raw_header(("BITPIX", 8), ("NAXIS", 0), first="XTENSION")
    path.write_bytes(raw_header(("BITPIX", 8), ("NAXIS", 0)) + 1001 * empty)
    refused(path, "more than 1000 HDUs")


# --- compression --------------------------------------------------------------------------------

@pytest.mark.parametrize(("pack", "name"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2")])
def test_compressed_files_read_the_same(tmp_path, path, pack, name):
    path.write_bytes(image_bytes())
    other = tmp_path / "image.fits.gz"
    other.write_bytes(pack(image_bytes()))
    np.testing.assert_array_equal(read_image(path).data, read_image(other).data)
    assert check_fits(other).compression == name
    other.write_bytes(pack(image_bytes())[:-30])
    refused(other, f"the {name} stream is damaged or cut short")


def test_gzip_bombs(path):
    # 4 GiB of zeros in 4 MB was 39 s and a MemoryError; here the same in a header's promise and in the stream.
    header = raw_header(*SQUARE[:2], ("NAXIS1", 2**15), ("NAXIS2", 2**15))
    path.write_bytes(gzip.compress(header + b"\0" * 2**22))
    refused(path, "max_bytes", keyword="max_bytes")
    header = raw_header(*SQUARE[:2], ("NAXIS1", 10000), ("NAXIS2", 10000))
    path.write_bytes(gzip.compress(header + b"\0" * 2**22))
    refused(path, "more than 400 times its size")
    path.write_bytes(gzip.compress(image_bytes()))
    with pytest.raises(HaloInputError, match="max_bytes = 5000"):
        check_fits(path, max_bytes=5000)
    path.write_bytes(gzip.compress(b"SIMPLE  =".ljust(80) + b" " * 2**24))
    refused(path, "no END card within")


def test_large_image_within_the_limits(path):
    # 8192 x 8192 float32 is legitimate; a sparse file costs no disk.
    with path.open("wb") as stream:
        stream.write(raw_header(*SQUARE[:1], ("NAXIS", 4), ("NAXIS1", 8192), ("NAXIS2", 8192), ("NAXIS3", 1),
                                ("NAXIS4", 1)))
        stream.truncate(2880 + 4 * 8192**2)
    start = time.perf_counter()
    assert check_fits(path).hdus[0].shape == (1, 1, 8192, 8192)
    assert time.perf_counter() - start < 1


# --- tiles --------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"])
def test_damaged_tile_is_never_silent(path, method):
    raw, data = compressed_bytes(method, checksum=True)
    path.write_bytes(raw)
    image = read_image(path)
    np.testing.assert_array_equal(image.data, data)
    assert image.meta["checksum"] == "verified"
    hdu = check_fits(path).hdus[1]
    broken = bytearray(raw)
    broken[hdu.start + hdu.size - 40] ^= 0x15
    path.write_bytes(broken)
    refused(path, "their sum is not DATASUM", keyword="DATASUM")
    unsigned, _ = compressed_bytes(method, checksum=False)
    path.write_bytes(unsigned)
    assert "not-verifiable" in read_image(path).flags


def test_tiles_that_do_not_fit(path):
    # Tiles smaller than their HCOMPRESS stream corrupt the memory of the process in astropy 8.0.2.
    raw, _ = compressed_bytes("HCOMPRESS_1", checksum=False)
    path.write_bytes(set_card(raw, "ZTILE1", 9))
    refused(path, "must have 8 rows, one for each tile", keyword="NAXIS2")
    path.write_bytes(set_card(set_card(raw, "ZTILE1", 9), "ZNAXIS1", 18))
    refused(path, "tile must have 144 pixels", keyword="ZTILE1")
    place = raw.index(b"\xdd\x99")
    path.write_bytes(raw[:place] + b"\0\0" + raw[place + 2:])
    refused(path, "does not begin as one")
    path.write_bytes(raw[:place + 22] + b"\xff" + raw[place + 23:])
    refused(path, "more bits than a number")
    raw, _ = compressed_bytes("RICE_1", checksum=False)
    path.write_bytes(set_card(raw, "ZVAL1", 0))
    refused(path, "BLOCKSIZE must be", keyword="ZVAL1")
    path.write_bytes(set_card(raw, "ZVAL2", 3))
    refused(path, "BYTEPIX is out of its range", keyword="ZVAL2")
    path.write_bytes(set_card(raw, "TFORM1", "'Y'"))
    refused(path, "no known format", keyword="TFORM1")
    path.write_bytes(set_card(raw, "TFORM1", "'16A'"))
    refused(path, "do not add up to NAXIS1", keyword="NAXIS1")
    path.write_bytes(set_card(raw, "TFORM1", "'2PB(9)'"))
    refused(path, "no known format", keyword="TFORM1")
    start = check_fits_start(raw, path)
    path.write_bytes(raw[:start] + b"\x00\xff\xff\xff" + raw[start + 4:])
    refused(path, "beyond the end of the data")
    path.write_bytes(raw[:start] + b"\xff" + raw[start + 1:])
    refused(path, "negative or huge place")


def check_fits_start(raw, path):
    path.write_bytes(raw)
    return check_fits(path).hdus[1].start


def test_datasum_is_that_of_the_standard(path):
    raw = image_bytes(checksum=True)
    path.write_bytes(raw)
    with path.open("rb") as stream:
        hdu = check_fits(path).hdus[0]
        assert datasum(stream, hdu.start, hdu.size) == int(fits.getheader(path)["DATASUM"])
    broken = bytearray(raw)
    broken[hdu.start + 5] ^= 1
    path.write_bytes(broken)
    with pytest.warns(HalopyWarning, match="DATASUM"):
        assert "checksum-mismatch" in read_image(path).flags
