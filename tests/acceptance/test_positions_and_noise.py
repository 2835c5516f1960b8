"""Noise, cutouts and positions where other tools hang, shift or lose flux; most is called from beside the code."""

from __future__ import annotations

import tracemalloc

import numpy as np
import test_cutout
import test_noise
from made import FULL, PIXELS, QUICK, image

from halopy import ClusterImage, NoiseEstimator
from halopy.io.detections import read_detections

test_row_19_borders_without_data = test_noise.test_a_border_without_data_stays_without
test_row_22_rms_is_positive = test_noise.test_rms_is_positive_beside_a_cliff
test_row_24_one_missing_pixel = test_cutout.test_one_missing_pixel_stays_with_its_neighbours
test_row_25_flux_of_resampled_pixels = test_cutout.test_data_per_pixel_keep_the_total_flux
test_row_26_outside_and_partial = test_cutout.test_edges_are_nan_and_counted
test_rows_27_a13_registration_and_flux = test_cutout.test_registration_and_flux_at_100_sub_pixel_positions
test_a12_seams_and_poles = test_cutout.test_right_ascension_zero_and_the_poles
test_a12_the_pole_itself = test_cutout.test_the_pole_itself_is_not_turned


def test_row_19_a_border_of_nan_in_a_search(halopy, tmp_path):
    data = PIXELS.copy()
    data[:14] = data[:, -9:] = np.nan
    image(tmp_path / "a.fits", FULL, data)
    (tmp_path / "t.csv").write_text("name,ra,dec\nA1,10,-30\n")
    assert halopy("detect", "a.fits", *QUICK, "-o", "out").code == 0
    found = read_detections(tmp_path / "out" / "detections.ecsv")
    assert list(found["status"]) == ["ok"] and 0.8 < found["rms"][0].value < 1.2


def test_row_23_a_wide_mosaic_ends_in_bounded_memory(tmp_path):
    """40,000 pixels wide: the map takes the memory of a dozen such images, and is right to 10 %."""
    rng = np.random.default_rng(3)
    small = ClusterImage.read(image(tmp_path / "a.fits", FULL))
    mosaic = small.replace(data=rng.normal(size=(64, 40_000)).astype(np.float32))
    tracemalloc.start()
    try:
        rms = NoiseEstimator("map")(mosaic).rms
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert abs(np.median(rms) - 1) < 0.1
    assert peak < 12 * mosaic.data.nbytes


def test_row_26_a12_where_a_target_can_lie(halopy, tmp_path):
    """In the image, on its edge, off it, behind the projection, at the other side of right ascension 0, at a pole."""
    image(tmp_path / "seam.fits", FULL | {"CRVAL1": 0.0, "CRVAL2": 0.0})
    image(tmp_path / "pole.fits", FULL | {"CRVAL2": -90.0})
    rows = {
        "seam": (359.99, 0.0),
        "edge": (359.9215, 0.0),
        "off": (1.0, 0.0),
        "behind": (180.0, 0.0),
        "pole": (77.0, -90.0),
    }
    text = "".join(f"{name},{ra},{dec}\n" for name, (ra, dec) in rows.items())
    (tmp_path / "t.csv").write_text("name,ra,dec\n" + text)
    done = halopy("detect", "seam.fits", "pole.fits", *QUICK, "-o", "out", seconds=20)
    assert done.code == 0
    found = read_detections(tmp_path / "out" / "detections.ecsv")
    status = dict(zip(found["name"], found["status"], strict=True))
    assert status == {"seam": "ok", "edge": "ok", "off": "outside", "behind": "outside", "pole": "ok"}
    flags = dict(zip(found["name"], found["flags"], strict=True))
    assert "partial" in flags["edge"].split()
