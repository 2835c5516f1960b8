"""Files that are none, that lie about their size, that are cut short or damaged: refused in a second."""

from __future__ import annotations

import bz2
import gzip
import os

import numpy as np
import pytest
from astropy.io import fits
from made import FULL, PIXELS, QUICK, TARGETS, compressed, content, image, raw_header

from halopy.io.detections import read_detections
from halopy.io.guard import check_fits

PAGE = b"<!DOCTYPE html><html><head><title>No suitable mosaic found</title></head></html>"
SQUARE = {"BITPIX": -32, "NAXIS": 2, "NAXIS1": 10, "NAXIS2": 10}


@pytest.fixture
def told(refused, tmp_path):
    """Write a file of these bytes, and return why ``halopy inspect`` refuses it within a second."""

    def run(raw, name="image.fits"):
        path = tmp_path / name
        path.write_bytes(raw)
        text = refused("inspect", path, seconds=1)
        assert text.startswith(f"{path}: ")
        return text

    return run


def test_a01_a_billion_axes(told):
    assert "NAXIS must be an integer" in told(raw_header(*(SQUARE | {"NAXIS": 10**9}).items()) + b"\0" * 2880)


def test_a02_a_million_million_pixels(told):
    text = told(raw_header(*(SQUARE | {"NAXIS1": 10**6, "NAXIS2": 10**6}).items()) + b"\0" * 2880)
    assert "claims 1000000000000 pixels, more than max_pixels" in text


def test_a03_four_gibibytes_in_four_megabytes(told):
    # A gzip file may have many members: 64 of 64 MiB.
    zeros = gzip.compress(b"\0" * 2**26, 1)
    claim = gzip.compress(raw_header(*(SQUARE | {"NAXIS1": 2**15, "NAXIS2": 2**15}).items()))
    assert "max_bytes" in told(claim + 64 * zeros)
    claim = gzip.compress(raw_header(*(SQUARE | {"NAXIS1": 10000, "NAXIS2": 10000}).items()))
    assert "more than 400 times its size" in told(claim + zeros[: 2**18])


def test_row_29_a04_each_with_a_message_of_its_own(told, refused, tmp_path):
    whole = content()
    texts = [
        told(whole[: 2880 + 4000]),
        told(whole[:1000]),
        told(b""),
        told(PAGE),
        told(gzip.compress(whole)[:-30]),
        told(bz2.compress(whole)[:-30]),
    ]
    (tmp_path / "folder.fits").mkdir()
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "a.fits").symlink_to(tmp_path / "b.fits")
    (tmp_path / "b.fits").symlink_to(tmp_path / "a.fits")
    texts += [
        refused("inspect", tmp_path / name, seconds=1)
        for name in ("folder.fits", "pipe.fits", "a.fits", "none.fits", "/dev/null")
    ]
    texts = [text.partition(": ")[2] for text in texts]
    assert len(set(texts)) == len(texts)
    for text, part in zip(
        texts,
        (
            "promises 16384 bytes, the file has 4000",
            "no END card",
            "empty (0 bytes)",
            "its title is 'No suitable mosaic found'",
            "gzip stream",
            "bzip2 stream",
            "a folder",
            "a pipe",
            "lead in a circle",
            "no such file",
            "a device",
        ),
        strict=True,
    ):
        assert part in text


@pytest.mark.parametrize("method", ["RICE_1", "GZIP_1", "HCOMPRESS_1", "PLIO_1"])
def test_a05_flipped_bits_of_a_tile_are_never_silent(told, halopy, tmp_path, method):
    path = tmp_path / "a.fits"
    for checksum in (True, False):
        raw, _ = compressed(method, checksum=checksum)
        path.write_bytes(raw)
        flags = halopy("inspect", path).out
        assert ("verified" in flags) == checksum and ("not-verifiable" in flags) == (not checksum)
        hdu = check_fits(path).hdus[1]
        broken = bytearray(raw)
        broken[hdu.start + hdu.size - 40] ^= 0x15
        if checksum:
            assert "their sum is not DATASUM" in told(bytes(broken))


@pytest.mark.parametrize(
    ("keyword", "value"), [("BSCALE", 0), ("BSCALE", "'abc'"), ("BSCALE", "1e308"), ("BITPIX", 7), ("NAXIS1", -5)]
)
def test_a06_the_keyword_is_named(told, keyword, value):
    text = told(raw_header(*(SQUARE | {keyword: value}).items()) + b"\0" * 2880)
    assert f"{keyword}, found" in text


def clipped():
    """Zeros, and islands of emission: what a survey leaves that was clipped at three times its noise."""
    y, x = np.mgrid[0:64, 0:64]
    islands = sum(
        np.exp(-((x - a) ** 2 + (y - b) ** 2) / 12) for a, b in ((12, 14), (40, 20), (20, 50), (50, 48), (32, 32))
    )
    return np.where(islands > 0.3, islands, 0).astype(np.float32)


def test_rows_20_21_a07_images_without_anything_to_measure(halopy, tmp_path):
    """One batch: a row each, without a probability, and the good image is searched."""
    kinds = {
        "nan": PIXELS * np.nan,
        "zero": PIXELS * 0,
        "constant": PIXELS * 0 + 3,
        "clipped": clipped(),
        "good": PIXELS,
    }
    for name, data in kinds.items():
        image(tmp_path / f"{name}.fits", FULL, data.astype(np.float32))
    (tmp_path / "t.csv").write_text(TARGETS)
    names = [f"{name}.fits" for name in kinds]
    done = halopy("detect", *names, *QUICK, "-o", "out", seconds=30)
    assert done.code == 0
    found = read_detections(tmp_path / "out" / "detections.ecsv")
    status = dict(zip(found["image"], found["status"], strict=True))
    assert status == {"nan": "unusable", "zero": "unusable", "constant": "unusable", "clipped": "ok", "good": "ok"}
    known = dict(zip(found["image"], ~np.ma.getmaskarray(np.ma.asarray(found["probability"])), strict=True))
    assert known == {name: name in ("clipped", "good") for name in kinds}
    for name, text in (("nan", "no usable pixels"), ("zero", "no noise"), ("constant", "no noise")):
        assert any(f"{name}.fits" in line and text in line for line in done.err.splitlines()), done.err
    # Alone it is one message, too.
    assert halopy("detect", "nan.fits", "--targets", "t.csv", "-o", "alone").err.count("\n") == 1


def test_a14_one_image_in_six_encodings(halopy, tmp_path):
    """Noise and score do not depend on how the pixels were written: to rounding, or to the step of the integers."""
    step = 1e-3
    stored = np.round(PIXELS / step).astype(np.int16)
    stored[0, 0] = -32768
    exact = np.where(stored == -32768, np.nan, stored * step)
    files = {
        "little": content(FULL, exact.astype("<f4")),
        "big": content(FULL, exact.astype(">f4")),
        "double": content(FULL, exact),
    }
    scaled = content(FULL | {"BLANK": -32768, "XSCALE": 1.0}, stored).replace(b"XSCALE  =", b"BSCALE  =")
    place = scaled.index(b"BSCALE  =")
    files["scaled"] = scaled[:place] + f"BSCALE  = {step:>20}".ljust(80).encode() + scaled[place + 80 :]
    files["gzip"] = gzip.compress(files["little"])
    (tmp_path / "scaled.fits").write_bytes(files["scaled"])
    with fits.open(tmp_path / "scaled.fits", do_not_scale_image_data=True) as hdus:
        header = hdus[0].header.copy()
        packed = fits.CompImageHDU(hdus[0].data, header, compression_type="RICE_1", do_not_scale_image_data=True)
        packed.header["BSCALE"] = step
        fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "rice.fits")
    for name, raw in files.items():
        (tmp_path / f"{name}.fits").write_bytes(raw)
    (tmp_path / "t.csv").write_text(TARGETS)
    names = [*files, "rice"]
    done = halopy("detect", *(f"{name}.fits" for name in names), *QUICK, "-o", "out", seconds=30)
    assert done.code == 0, done.err
    found = read_detections(tmp_path / "out" / "detections.ecsv")
    assert list(found["image"]) == names
    for column in ("rms", "snr", "probability", "flux"):
        values = np.asarray(found[column], dtype=float)
        np.testing.assert_allclose(values, values[0], rtol=1e-5, err_msg=column)
