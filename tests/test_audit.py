"""What is wrong with a labelled set: each kind of finding, on images made to show it."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from mwa_set import GLEAM, MWA2, RMS, clipped, make, sky, write

from halopy import HaloInputError
from halopy.io.audit import MEANING
from halopy.io.catalog import load_targets
from halopy.io.dataset import audit, load_mwa_halos


@pytest.fixture(scope="module")
def targets():
    return load_targets()


@pytest.fixture(scope="module")
def findings(tmp_path_factory, targets):
    folder = make(tmp_path_factory.mktemp("repository"), targets)
    positions = dict(zip(map(str, targets["name"]), targets["position"], strict=True))
    noise = sky(np.random.default_rng(99))
    # The faults that are in the public set, made here.
    write(folder / f"{GLEAM}/TRAIN_DATA_1/abell_2254_Gleam170-231_clipped.fits", noise, positions["Abell 2254"], 28)
    write(folder / f"{GLEAM}/TRAIN_DATA_0/orc 4_GLEAM_170-231MHz_clipped.fits", clipped(noise, RMS), positions["ORC 4"],
          28)
    write(folder / f"{GLEAM}/TEST_DATA_1/abell_2744_Gleam170-231_clipped.fits", clipped(noise, 3 * RMS),
          positions["Abell 2744"], 28)
    # Of the image of another target a copy.
    write(folder / f"{GLEAM}/TRAIN_DATA_0/abell_2751_Gleam170-231_clipped.fits", clipped(noise, 3 * RMS),
          positions["Abell 2751"], 28)
    off = SkyCoord(positions["Abell 0168"]).directional_offset_by(0 * u.deg, 10 * u.arcmin)
    write(folder / f"{MWA2}/abell0168field3216mhzr2.0_Halo.fits", clipped(noise, 3 * RMS), off, 9.59)
    part = clipped(sky(np.random.default_rng(5)), 3 * RMS)[:, :60]
    write(folder / f"{MWA2}/abell2751field1216mhzr2.0_Halo.fits", part, positions["Abell 2751"], 9.59, CRPIX1=75.5)
    return audit(load_mwa_halos(folder))


def of(findings, kind, band="gleam-170-231"):
    chosen = findings[(findings["kind"] == kind) & (findings["band"] == band)]
    return {str(row["name"]): row for row in chosen}


def test_every_finding_has_a_meaning(findings):
    assert findings.colnames == ["kind", "band", "name", "value", "found", "meaning"]
    assert all(row["meaning"] == MEANING[row["kind"]] for row in findings)
    order = [list(MEANING).index(kind) for kind in findings["kind"]]
    assert order == sorted(order)


def test_images_that_were_not_clipped_at_three_sigma(findings):
    assert set(of(findings, "not-clipped")) == {"Abell 2254"}
    low = of(findings, "under-clipped")
    assert set(low) == {"ORC 4"}
    # Of Gaussian noise 31.7 % lie beyond one sigma; sources add a little.
    assert 0.31 < low["ORC 4"]["value"] < 0.45 and "level 8 mJy/beam" in low["ORC 4"]["found"]


def test_sky_of_the_test_set_in_the_training_set(findings):
    shared = of(findings, "sky-in-train-and-test")
    assert set(shared) == {"ORC 2 & ORC 3", "Abell 2744 & Abell 2751"}
    # 0.030 deg of a 1.17 deg image, nearly along one axis: 1 - 0.030 / 1.17.
    assert shared["ORC 2 & ORC 3"]["value"] == pytest.approx(1 - 0.030 / 1.1667, abs=0.005)
    assert shared["ORC 2 & ORC 3"]["found"].startswith("0.030 deg apart; 97% of the images, 94% of 64 pixels")
    assert "1.080 deg apart" in shared["Abell 2744 & Abell 2751"]["found"]
    assert "0% of 64 pixels" in shared["Abell 2744 & Abell 2751"]["found"]


def test_groups_that_keep_shared_sky_together_are_not_reported(findings):
    assert of(findings, "sky-in-two-groups") == {}


def test_sky_in_two_groups_is(tmp_path, targets):
    make(tmp_path, targets)
    shared = of(audit(load_mwa_halos(tmp_path, groups_within=0.01 * u.deg)), "sky-in-two-groups")
    assert set(shared) == {"ORC 2 & ORC 3", "Abell 0141 & ORC 5"}


def test_halos_beside_a_target_without(findings):
    inside = of(findings, "halo-in-negative")
    # Abell 141 is 0.731 deg east of ORC 5: beyond the half-width of these images, 0.583 deg.
    assert set(inside) == set()


def test_a_halo_within_the_image_of_another(tmp_path, targets):
    positions = dict(zip(map(str, targets["name"]), targets["position"], strict=True))
    image = clipped(sky(np.random.default_rng(1), size=200), 3 * RMS)
    write(tmp_path / f"{GLEAM}/TRAIN_DATA_0/orc 5_GLEAM_170-231MHz_clipped.fits", image, positions["ORC 5"], 28)
    row = of(audit(load_mwa_halos(tmp_path)), "halo-in-negative")["ORC 5"]
    assert row["value"] == pytest.approx(0.747 * 60, abs=0.05)
    assert row["found"] == "Abell 0141 (halo, confirmed) 0.747 deg from the middle"


def test_conflicts_of_labels(findings):
    rows = findings[findings["kind"] == "label-conflict"]
    filed = {str(r["name"]): str(r["band"]) for r in rows if "files it among those with a halo" in r["found"]}
    # Relics, called "Halo" in the folder of MWA-2, and in class 0 of GLEAM.
    assert filed == {"Abell 0168": "mwa2-216", "Abell 2751": "mwa2-216"}
    said = {str(r["name"]): r for r in rows if "; the repository" not in r["found"]}
    assert said["Abell 2751"]["band"] == "gleam-170-231 & mwa2-216"
    assert len(said) == sum("; the repository" not in r["found"] for r in rows)


def test_images_beside_their_target(findings):
    found = of(findings, "off-position", "mwa2-216")
    assert set(found) == {"Abell 0168, robust 2"}
    assert found["Abell 0168, robust 2"]["value"] == pytest.approx(10, abs=0.01)
    uncovered = of(findings, "target-not-covered", "mwa2-216")
    assert set(uncovered) == {"Abell 2751, robust 2"}
    assert of(findings, "padded", "mwa2-216")["Abell 2751, robust 2"]["value"] == pytest.approx(0.6)


def test_an_image_of_the_other_side_of_the_sky(tmp_path, targets):
    image = clipped(sky(np.random.default_rng(1)), 3 * RMS)
    write(tmp_path / f"{GLEAM}/TRAIN_DATA_1/abell_0122_Gleam170-231_clipped.fits", image,
          SkyCoord(243.942, -6.147, unit="deg"), 28)
    row = of(audit(load_mwa_halos(tmp_path)), "target-not-covered")["Abell 0122"]
    assert row["value"] > 120 * 60 and row["found"].endswith("deg away")


def test_the_same_pixels_twice(findings):
    assert set(of(findings, "duplicate")) == {
        "abell_2744_Gleam170-231_clipped & abell_2751_Gleam170-231_clipped"}
    other = of(findings, "duplicate", "mwa2-216")
    assert [row["found"][-15:] for row in other.values()] == [", gleam-170-231"]


def test_headers_and_pixels(findings):
    assert of(findings, "header")["9 of 9 images"]["found"] == "no beam, no unit, no frequency"
    scales = findings[findings["kind"] == "pixel-scale"]
    assert len(scales) == 1 and scales["value"][0] == pytest.approx(2)
    assert scales["found"][0] == "64 pixels are 1.00 deg at 72-103 MHz, 0.50 deg at 170-231 MHz"


def test_noise_that_tells_the_class(tmp_path, targets):
    """Negatives with twice the noise of every positive: the noise alone is a perfect classifier."""
    files = ((f"{GLEAM}/TRAIN_DATA_1/abell_0141_Gleam170-231_clipped.fits", 3),
             (f"{GLEAM}/TRAIN_DATA_1/abell_2254_Gleam170-231_clipped.fits", 3),
             (f"{GLEAM}/TRAIN_DATA_0/orc 4_GLEAM_170-231MHz_clipped.fits", 6),
             (f"{GLEAM}/TRAIN_DATA_0/orc 5_GLEAM_170-231MHz_clipped.fits", 6))
    make(tmp_path, targets, [])
    positions = {"abell_0141": "Abell 0141", "abell_2254": "Abell 2254", "orc 4_GLEA": "ORC 4", "orc 5_GLEA": "ORC 5"}
    known = dict(zip(map(str, targets["name"]), targets["position"], strict=True))
    for seed, (source, factor) in enumerate(files):
        image = sky(np.random.default_rng(seed), rms=RMS * factor / 3)
        write(tmp_path / source, clipped(image, factor * RMS), known[positions[source.split("/")[-1][:10]]], 28)
    row = of(audit(load_mwa_halos(tmp_path)), "noise-by-class")["2 with, 2 without"]
    assert row["value"] == 1 and "24 mJy/beam with, 48 without" in row["found"]


def test_beams_that_were_not_measured(tmp_path, targets):
    position = targets["position"][0]
    write(tmp_path / f"{MWA2}/abell0141mwa2216mhzbriggs0_Halo.fits",
          clipped(sky(np.random.default_rng(1), sources=1), 3 * RMS), position, 9.59)
    assert "from survey mwa2-216" in of(audit(load_mwa_halos(tmp_path)), "beam-not-measured", "mwa2-216")[
        "Abell 0141, robust 0"]["found"]


def test_what_is_no_set_is_refused(tmp_path, targets):
    with pytest.raises(HaloInputError, match=r"audit takes the mapping of bands to CutoutSets.*list"):
        audit([])
    cutouts = next(iter(load_mwa_halos(make(tmp_path, targets), bands="mwa2-216").values()))
    table = cutouts.table.copy()
    table.remove_column("zeros")
    with pytest.raises(HaloInputError, match="the cutouts of mwa2-216 have no column 'zeros'"):
        audit({"mwa2-216": cutouts.replace(table=table)})
    assert len(audit({})) == 0


# --- the real images ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(real_data):
    return audit(load_mwa_halos(real_data))


def test_the_known_faults_of_the_real_images(real):
    """Those that were counted on the public set, as far as its images are here."""
    gleam = np.char.startswith(np.asarray(real["band"]), "gleam")
    bad = real[gleam & np.isin(real["kind"], ["not-clipped", "under-clipped"])]
    known = {(str(row["name"]), str(row["band"])): row["value"] for row in bad}
    for name, band, kept in (("Abell 2254", "gleam-103-134", 1.00), ("ORC 4", "gleam-72-103", 0.95),
                             ("ORC 4", "gleam-103-134", 0.66), ("PSZ1 G287.95-32.98", "gleam-170-231", 0.63),
                             ("PSZ1 G287.95-32.98", "gleam-139-170", 0.54), ("Abell 0122", "gleam-170-231", 0.54),
                             ("3C 315", "gleam-103-134", 0.51)):
        assert known[name, band] == pytest.approx(kept, abs=0.006)
    # 17 of the 184 images of the whole set are above 0.15.
    assert 7 < len(bad) <= 17
    assert list(real["name"][real["kind"] == "not-clipped"]) == ["Abell 2254"]


def test_shared_sky_of_the_real_images(real):
    split = real[real["kind"] == "sky-in-train-and-test"]
    assert "Abell 2744 & Abell 2751" in set(split["name"])
    beside = {(str(row["name"]), row["found"].split(" (")[0]) for row in real[real["kind"] == "halo-in-negative"]}
    assert {("Abell 2751", "Abell 2744"), ("ORC 5", "Abell 0141")} <= beside


def test_headers_and_noise_of_the_real_images(real):
    headers = real[real["kind"] == "header"]
    assert len(headers) == 9 and set(headers["found"]) == {"no beam, no unit, no frequency"}
    noise = real[(real["kind"] == "noise-by-class") & (real["band"] == "gleam-170-231")]
    # On the whole public set the clip threshold alone reaches an AUC of 0.69 (grouped) to 0.73 (its own split).
    assert 0.6 < noise["value"][0] < 0.85


def test_the_target_that_the_real_mosaic_does_not_reach(real):
    uncovered = real[real["kind"] == "target-not-covered"]
    assert set(uncovered["name"]) == {"Abell 2751, robust 2"}
