"""The labelled MWA set: names of the files, and loading."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from mwa_set import FILES, GLEAM, MWA2, RMS, SIZE, clipped, make, sky, write

from halopy import HaloInputError, is_positive
from halopy.io.catalog import load_targets
from halopy.io.dataset import load_mwa_halos
from halopy.io.mwa_names import BANDS, find_mwa_files, parse_name, target_key
from halopy.survey import surveys


@pytest.fixture(scope="module")
def targets():
    return load_targets()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, targets):
    return make(tmp_path_factory.mktemp("repository"), targets)


@pytest.fixture(scope="module")
def sets(folder):
    return load_mwa_halos(folder)


# --- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target", "band", "robust", "split", "number"), [
    ("GLEAM-Data/TRAIN_DATA_0/3c 136.1_GLEAM_72-103MHz_clipped.fits", "3C 136.1", "gleam-72-103", None, "train", 0),
    ("GLEAM-Data/TRAIN_DATA_1/abell_0141_Gleam103-134_clipped.fits", "Abell 0141", "gleam-103-134", None, "train", 1),
    ("GLEAM-Data/TRAIN_DATA_1/abell_s1063Gleam139-170_clipped.fits", "Abell S1063", "gleam-139-170", None, "train", 1),
    ("GLEAM-Data/TEST_DATA_0/ngc 326_GLEAM_170-231MHz_clipped.fits", "NGC 326", "gleam-170-231", None, "test", 0),
    ("GLEAM-Data/TEST_DATA_0/aqrcc 087_Gleam103-134_clipped.fits", "AqrCC 087", "gleam-103-134", None, "test", 0),
    ("GLEAM-Data/TEST_DATA_1/plck G287.0+32.9_Gleam72-103_clipped.fits", "PLCK G287.0+32.9", "gleam-72-103", None,
     "test", 1),
    ("GLEAM-Data/TRAIN_DATA_0/pks 2014-55_GLEAM_72-103MHz_clipped.fits", "PKS 2014-55", "gleam-72-103", None,
     "train", 0),
    ("Halo-data/TEST_DATA_1/rxc j0137.2-0912_Gleam72-103_clipped.fits", "RXC J0137.2-0912", "gleam-72-103", None,
     "test", 1),
    (f"{MWA2}/abell0122field1118mhzr0.0_Halo.fits", "Abell 0122", "mwa2-118", 0.0, "", 1),
    (f"{MWA2}/abell0550field11154mhzr1.0_Halo.fits", "Abell 0550", "mwa2-154", 1.0, "", 1),
    (f"{MWA2}/abell2680field2216mhzr0.5_Halo.fits", "Abell 2680", "mwa2-216", 0.5, "", 1),
    (f"{MWA2}/abell0141mwa288mhzbriggs0_Halo.fits", "Abell 0141", "mwa2-88", 0.0, "", 1),
    (f"{MWA2}/abell0141mwa2118mhzbriggs2_Halo.fits", "Abell 0141", "mwa2-118", 2.0, "", 1),
])
def test_names_of_the_repository(source, target, band, robust, split, number):
    file = parse_name(source)
    assert target_key(file.target) == target_key(target)
    assert (file.band, file.split, file.repository_class) == (band, split, number)
    assert np.isnan(file.robust) if robust is None else file.robust == robust
    assert parse_name(source + ".gz").band == band


@pytest.mark.parametrize("source", ["a.fits", "GLEAM-Data/TRAIN_DATA_0/x_Gleam1-2_clipped.fits",
                                    "Additional_sources_classified_true/matched_sources_with_serial.fits",
                                    f"{MWA2}/abell0122field1118mhzr0.0_Halo.png", ""])
def test_other_names_are_no_images_of_the_set(source):
    assert parse_name(source) is None


def test_every_band_is_a_survey_preset():
    assert set(BANDS) <= set(surveys)


# --- loading -----------------------------------------------------------------------------------------------


def test_one_set_a_band_in_their_order(sets):
    assert list(sets) == ["gleam-72-103", "gleam-170-231", "mwa2-216"]
    assert [len(s) for s in sets.values()] == [1, 5, 2]
    for band, cutouts in sets.items():
        assert cutouts.unit == u.Jy / u.beam
        assert set(cutouts.table["band"]) == {band}
        assert np.all(cutouts.table["frequency"] == surveys[band].frequency)


def test_labels_are_those_of_the_targets(sets, targets):
    rows = {str(row["name"]): row for row in targets}
    for cutouts in sets.values():
        for row in cutouts.table:
            for name in ("label", "also", "grade", "conflict", "group"):
                assert row[name] == rows[row["name"]][name]
    gleam = sets["gleam-170-231"].table
    assert dict(zip(gleam["name"], gleam["repository_class"], strict=True)) == {
        "Abell 0141": 1, "Abell S1063": 1, "ORC 2": 0, "ORC 3": 0, "ORC 5": 0}
    assert dict(zip(gleam["name"], gleam["split"], strict=True))["ORC 2"] == "test"


def test_classes_of_both_sets_are_kept_side_by_side(sets):
    row = next(row for row in sets["mwa2-216"].table if row["name"] == "Abell 0168")
    # Filed under class 0 in GLEAM, and called "Halo" in the MWA-2 folder.
    assert row["repository_class"] == 1 and row["label"] == "relic" and row["robust"] == 2


def test_one_sky_is_one_group(sets):
    gleam = sets["gleam-170-231"].table
    group = dict(zip(gleam["name"], gleam["group"], strict=True))
    assert group["ORC 2"] == group["ORC 3"]  # 0.030 deg apart
    assert group["ORC 5"] == group["Abell 0141"]  # 0.747 deg apart
    assert group["Abell S1063"] not in (group["ORC 2"], group["ORC 5"])
    train, test = sets["gleam-170-231"].split(test_fraction=0.4, rng=0)
    assert not set(train.table["group"]) & set(test.table["group"])


def test_groups_do_not_depend_on_what_is_loaded(folder, sets):
    alone = load_mwa_halos(folder, bands="mwa2-216")["mwa2-216"]
    assert list(alone.table["group"]) == list(sets["mwa2-216"].table["group"])


def test_the_wcs_puts_the_target_where_it_is(sets, targets):
    cutouts = sets["gleam-170-231"]
    middle = (SIZE - 1) / 2
    for i, name in enumerate(cutouts.table["name"]):
        x, y = cutouts.wcs(i).world_to_pixel(targets["position"][targets["name"] == name][0])
        assert abs(x - middle) < 0.01 and abs(y - middle) < 0.01
    assert np.all(cutouts.table["offset"] < 1 * u.arcsec)
    assert np.all(cutouts.table["coverage"] == 1)


def test_the_clip_is_seen(sets):
    table = sets["gleam-170-231"].table
    level = table["clip_level"].to_value(u.Jy / u.beam)
    # No pixel lies below the threshold, and among 1000 above it the smallest is near.
    assert np.all((level >= 3 * RMS * 0.9999) & (level < 3 * RMS * 1.03))
    assert set(table["clip_sides"]) == {"two"}
    assert np.allclose(table["rms"].to_value(u.Jy / u.beam), RMS, rtol=0.03)
    assert np.all((table["zeros"] > 0.85) & (table["zeros"] < 1))


def test_the_beam_is_measured_on_the_clipped_image(sets):
    table = sets["gleam-170-231"].table
    assert all("sources of the image" in source for source in table["beam_source"])
    scale = 28 * u.arcsec
    assert np.allclose((table["beam_major"] / (4.8 * scale)).value, 1, atol=0.06)
    assert np.allclose((table["beam_minor"] / (4.2 * scale)).value, 1, atol=0.06)


def test_the_header_lacks(sets):
    assert set(sets["gleam-170-231"].table["header_lacks"]) == {"beam unit frequency"}


def test_sets_can_be_written_and_joined(sets, tmp_path):
    cutouts = sets["gleam-170-231"]
    cutouts.write(tmp_path / "set.fits")
    again = type(cutouts).read(tmp_path / "set.fits")
    assert again.table["clip_level"].unit == u.Jy / u.beam and again.wcs(2).to_header() == cutouts.wcs(2).to_header()
    joined = sets["gleam-72-103"].join(cutouts)
    assert len(joined) == 6 and joined.wcs(0).wcs.cdelt[1] == pytest.approx(56 / 3600)


def test_a_beam_in_the_header_is_used(tmp_path, targets):
    image = clipped(sky(np.random.default_rng(1)), 3 * RMS)
    write(tmp_path / FILES[0][0], image, targets["position"][0], 28, BMAJ=140 / 3600, BMIN=120 / 3600, BPA=10.0,
          BUNIT="JY/BEAM")
    table = load_mwa_halos(tmp_path)["gleam-170-231"].table
    assert table["beam_major"][0].value == pytest.approx(140) and table["header_lacks"][0] == "frequency"


def test_few_sources_leave_the_beam_of_the_survey(tmp_path, targets):
    image = clipped(sky(np.random.default_rng(1), sources=1), 3 * RMS)
    write(tmp_path / FILES[7][0], image, targets["position"][0], 9.59)
    row = load_mwa_halos(tmp_path)["mwa2-216"].table[0]
    assert row["beam_source"] == "survey mwa2-216, which is for robust 0, not 2"
    assert row["beam_major"].value < 60


def test_unequal_files_are_padded_about_their_target(tmp_path, targets):
    """An image cut at the west edge of its mosaic keeps its target in the middle of the padded square."""
    positions = dict(zip(map(str, targets["name"]), targets["position"], strict=True))
    image = clipped(sky(np.random.default_rng(1), size=SIZE), 3 * RMS)
    write(tmp_path / FILES[6][0], image, positions["Abell 0141"], 9.59)
    write(tmp_path / MWA2 / "abell2751field1216mhzr2.0_Halo.fits", image[:, :100], positions["Abell 2751"], 9.59,
          CRPIX1=(SIZE + 1) / 2)
    cutouts = load_mwa_halos(tmp_path)["mwa2-216"]
    assert cutouts.shape == (2, SIZE, SIZE)
    i = list(cutouts.table["name"]).index("Abell 2751")
    assert np.isnan(cutouts.data[i, :, 100:]).all() and np.isfinite(cutouts.data[i, :, :100]).all()
    assert cutouts.table["coverage"][i] == pytest.approx(100 / SIZE)
    assert cutouts.table["offset"][i] < 1 * u.arcsec
    x, y = cutouts.wcs(i).world_to_pixel(positions["Abell 2751"])
    assert abs(x - (SIZE - 1) / 2) < 0.01 and abs(y - (SIZE - 1) / 2) < 0.01
    # Cut at the other side, the pixels move to the right.
    write(tmp_path / MWA2 / "abell2751field1216mhzr2.0_Halo.fits", image[:, 50:], positions["Abell 2751"], 9.59,
          CRPIX1=(SIZE + 1) / 2 - 50)
    cutouts = load_mwa_halos(tmp_path)["mwa2-216"]
    assert np.isnan(cutouts.data[i, :, :50]).all() and cutouts.table["x0"][i] == -50


def test_a_target_outside_the_list_is_other_and_uncertain(tmp_path, targets):
    image = clipped(sky(np.random.default_rng(1)), 3 * RMS)
    write(tmp_path / MWA2 / "abells0112field6118mhzr0.0_Halo.fits", image, SkyCoord(14.44, -66.83, unit="deg"), 17.42)
    row = load_mwa_halos(tmp_path)["mwa2-118"].table[0]
    assert (row["name"], row["label"], row["grade"]) == ("Abell S0112", "other", "uncertain")
    assert np.isnan(row["offset"]) and row["group"] not in set(targets["group"])


def test_milli_jansky_become_jansky(tmp_path, targets):
    image = clipped(sky(np.random.default_rng(1)), 3 * RMS)
    write(tmp_path / FILES[0][0], 1000 * image, targets["position"][0], 28, BUNIT="mJy/beam")
    cutouts = load_mwa_halos(tmp_path)["gleam-170-231"]
    assert cutouts.unit == u.Jy / u.beam and np.allclose(cutouts.data[0], image, rtol=1e-5)
    assert cutouts.table["clip_level"][0].to_value(u.Jy / u.beam) == pytest.approx(3 * RMS, rel=0.03)


def test_a_name_cut_short_counts_only_near_its_target(tmp_path, targets):
    image = clipped(sky(np.random.default_rng(1)), 3 * RMS)
    near = targets["position"][targets["name"] == "PSZ1 G287.95-32.98"][0]
    write(tmp_path / MWA2 / "psz1g287field9118mhzr0.0_Halo.fits", image,
          near.directional_offset_by(0 * u.deg, 13 * u.arcmin), 17.42)
    write(tmp_path / MWA2 / "abell_014field9118mhzr0.0_Halo.fits", image, SkyCoord(110, -24, unit="deg"), 17.42)
    table = load_mwa_halos(tmp_path)["mwa2-118"].table
    assert set(table["name"]) == {"PSZ1 G287.95-32.98", "Abell 014"}
    assert dict(zip(table["label"], np.isnan(table["offset"]), strict=True)) == {"halo": False, "other": True}


def test_sky_that_is_not_the_targets_has_its_own_group(tmp_path, targets):
    """Under the name of Abell 122, the sky of Abell 2163: what it shows decides where it may be split."""
    image = clipped(sky(np.random.default_rng(1)), 3 * RMS)
    for name, shown in (("abell_0122", "Abell 2163"), ("abell_2163", "Abell 2163")):
        position = targets["position"][targets["name"] == shown][0]
        write(tmp_path / GLEAM / f"TRAIN_DATA_1/{name}_Gleam170-231_clipped.fits", image, position, 28)
    table = load_mwa_halos(tmp_path)["gleam-170-231"].table
    assert set(table["name"]) == {"Abell 0122", "Abell 2163"} and len(set(table["group"])) == 1


def test_other_sky_has_one_group_in_bands_that_are_loaded_apart(tmp_path):
    """The bands' pixels, and so their middles, are not the same."""
    image = clipped(sky(np.random.default_rng(1)), 3 * RMS)
    for band, pixel, dec in ((118, 17.42, -66.833), (154, 13.42, -66.827)):
        write(tmp_path / MWA2 / f"abells0112field6{band}mhzr0.0_Halo.fits", image, SkyCoord(14.44, dec, unit="deg"),
              pixel)
    apart = [load_mwa_halos(tmp_path, bands=band)[band].table["group"][0] for band in ("mwa2-118", "mwa2-154")]
    assert apart[0] == apart[1]


def test_a_packed_folder_with_an_index(tmp_path, folder, targets):
    import gzip

    rows = []
    for number, (source, _) in enumerate(FILES):
        (tmp_path / f"{number}.fits.gz").write_bytes(gzip.compress((folder / source).read_bytes()))
        rows.append({"file": f"{number}.fits.gz", "cls": "none (relic)", "source_path": source,
                     "beam_arcsec": "63x60 measured"})
    rows.append({"file": "absent.csv", "cls": "catalogue", "source_path": "tables/absent.csv", "beam_arcsec": ""})
    with open(tmp_path / "index.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    packed, plain = load_mwa_halos(tmp_path), load_mwa_halos(folder)
    for band, cutouts in plain.items():
        assert np.array_equal(packed[band].data, cutouts.data)
        assert list(packed[band].table["path"]) == list(cutouts.table["path"])
        assert list(packed[band].table["name"]) == list(cutouts.table["name"])
    (tmp_path / "3.fits.gz").unlink()
    with pytest.raises(HaloInputError, match=re.escape("3.fits.gz: index.csv names a file that is not there")):
        load_mwa_halos(tmp_path)
    (tmp_path / "index.csv").write_text("file,cls\na,b\n")
    with pytest.raises(HaloInputError, match="needs a column 'source_path'"):
        load_mwa_halos(tmp_path)


def test_twins_are_read_once_and_hidden_files_never(tmp_path, folder):
    import gzip

    path = tmp_path / FILES[0][0]
    path.parent.mkdir(parents=True)
    path.write_bytes((folder / FILES[0][0]).read_bytes())
    (path.parent / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    (path.parent / f"._{path.name}").write_bytes(b"Mac OS X")
    (file,) = find_mwa_files(tmp_path)
    assert file.path == path and file.source == FILES[0][0]
    # The folder of one class alone says as much.
    assert find_mwa_files(path.parent)[0].repository_class == 1


def test_progress_sees_the_files(folder):
    seen = []
    load_mwa_halos(folder, bands=["mwa2-216"], progress=lambda files: [seen.append(f.band) or f for f in files])
    assert seen == ["mwa2-216"] * 2


# --- what is refused ---------------------------------------------------------------------------------------


def test_folders_without_images(tmp_path, folder):
    with pytest.raises(HaloInputError, match="read from a folder, and this is none"):
        load_mwa_halos(tmp_path / "none")
    with pytest.raises(HaloInputError, match=r"holds no image of the MWA set.*fetch_mwa_halos"):
        load_mwa_halos(tmp_path)
    with pytest.raises(HaloInputError, match=r"holds no image of mwa2-88.*gleam-72-103"):
        load_mwa_halos(folder, bands="mwa2-88")
    with pytest.raises(HaloInputError, match="holds no image of mwa2-88"):
        load_mwa_halos(folder, bands=["mwa2-88", "mwa2-216"])


def test_bands_that_are_none(folder):
    with pytest.raises(HaloInputError, match=r"no survey is called 'gleam-170'.*'gleam-170-231'"):
        load_mwa_halos(folder, bands="gleam-170")
    with pytest.raises(HaloInputError, match="the MWA set has no band 'nvss'"):
        load_mwa_halos(folder, bands="nvss")
    with pytest.raises(HaloInputError, match="choose one or more bands"):
        load_mwa_halos(folder, bands=[])


@pytest.mark.parametrize(("content", "text"), [
    (b"", "empty"), (b"<html><title>Not here</title>", "HTML"),
    (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
    (None, "cut short"),
])
def test_a_bad_file_is_named(tmp_path, folder, content, text):
    source = FILES[0][0]
    good = (folder / source).read_bytes()
    path = tmp_path / source
    path.parent.mkdir(parents=True)
    path.write_bytes(good[:40000] if content is None else content)
    with pytest.raises(HaloInputError, match=text) as caught:
        load_mwa_halos(tmp_path)
    assert path.name in str(caught.value)


def test_pixels_of_another_band_are_refused(tmp_path, targets):
    write(tmp_path / FILES[0][0], clipped(sky(np.random.default_rng(1)), 3 * RMS), targets["position"][0], 44)
    with pytest.raises(HaloInputError, match=r"images of gleam-170-231 have pixels of 28 arcsec.*44 arcsec"):
        load_mwa_halos(tmp_path)


def test_another_unit_is_refused(tmp_path, targets):
    image = clipped(sky(np.random.default_rng(1)), 3 * RMS)
    write(tmp_path / FILES[0][0], image, targets["position"][0], 28, BUNIT="K")
    with pytest.raises(HaloInputError, match="the images of the MWA set are in Jy/beam"):
        load_mwa_halos(tmp_path)


# --- the real images ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_sets(real_data):
    return load_mwa_halos(real_data)


def test_the_real_images_load(real_sets, targets):
    assert {band: s.shape[1:] for band, s in real_sets.items()} == \
        {band: (300, 300) if band.startswith("gleam") else (200, 200) for band in BANDS}
    assert [len(real_sets[band]) for band in BANDS] == [26] * 4 + [1, 19, 16, 12, 11]
    for band in BANDS[:4]:
        table = real_sets[band].table
        assert set(table["name"]) <= set(targets["name"])
        assert np.all(table["offset"] < 1 * u.arcsec)
        # Positive in the repository is positive here: the classes were taken over, and conflicts marked.
        differs = is_positive(table) != (table["repository_class"] == 1)
        assert all(table["conflict"][i] for i in np.flatnonzero(differs))


def test_real_clip_levels_and_beams_agree_with_the_index(real_sets, real_data):
    with open(real_data / "index.csv", encoding="utf-8") as stream:
        index = {row["source_path"]: row for row in csv.DictReader(stream)}
    ratio = {"GLEAM": [], "MWA-2": []}
    for cutouts in real_sets.values():
        for row in cutouts.table:
            noted = index[row["path"]]
            level = float(re.search(r"\|S\| < ([\d.]+) mJy", noted["notes"])[1])
            assert row["clip_level"].to_value(u.mJy / u.beam) == pytest.approx(level, abs=0.006)
            beam = re.fullmatch(r"(\d+)x(\d+) measured", noted["beam_arcsec"])
            if beam and "of the image" in row["beam_source"]:
                area = (row["beam_major"] * row["beam_minor"]).to_value(u.arcsec**2)
                ratio["GLEAM" if "gleam" in row["band"] else "MWA-2"].append(area / (int(beam[1]) * int(beam[2])))
    assert len(ratio["GLEAM"]) >= 95 and len(ratio["MWA-2"]) >= 25
    for found in ratio.values():
        assert abs(np.median(found) - 1) < 0.06
        # In the few images that disagree more, the beam of the neighbouring bands, scaled, is on our side.
        assert np.mean(np.abs(np.array(found) - 1) < 0.12) > 0.94


def test_the_folder_finds_what_it_holds(real_data):
    assert len(find_mwa_files(real_data)) == 163
    assert {f.source.split("/")[0] for f in find_mwa_files(real_data)} == {GLEAM, MWA2.split("/")[0]}


def test_the_headers_of_the_real_images(real_data):
    file = find_mwa_files(real_data, bands="gleam-170-231")[0]
    assert not {"BMAJ", "BUNIT", "FREQ"} & set(fits.getheader(file.path))
