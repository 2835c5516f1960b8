"""Tables of detections on disk, and how candidates are ordered."""

import io

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table, vstack
from astropy.time import Time
from astropy.utils.masked import Masked
from hypothesis import given
from hypothesis import strategies as st

from halopy.errors import HaloInputError
from halopy.io.candidates import candidates_text, numbers, p_value_text, ranking, strength, value_text
from halopy.io.detections import COLUMNS, blank_detections, read_detections, write_detections

NAMES = ["Abell 2744", "</script><b>x", "Pers\u00e9us {a;b} #1", "line\nbreak\x1b[31m"]


@pytest.fixture
def detections():
    unknown = [False, False, True, False]
    table = blank_detections(NAMES, SkyCoord([3.58, 10, 49.95, 200], [-30.39, -20, 41.51, 5], unit="deg"),
                             image="field", status="ok")
    table["redshift"] = MaskedColumn([0.308, 0.2, 0.018, 0.1], mask=[False, True, False, False])
    table["m500"] = [9.8, 1, 6, np.nan] * u.Unit("1e14 solMass")
    table["probability"] = MaskedColumn([0.2, 0.99, 0.5, 0.4], mask=unknown)
    table["p_value"] = MaskedColumn([0.5, 0.004, 0.1, 0.02], mask=unknown)
    table["n_controls"] = MaskedColumn([249, 249, 0, 249], mask=unknown)
    table["snr"] = [1.5, 12.0, np.nan, 4.0]
    table["flux"] = Masked([40.0, 364.61, 0, 90], mask=unknown) * u.mJy
    table["flux_err"] = [30.0, 13.12, np.nan, 21] * u.mJy
    table["r_e"] = [120, 90, np.nan, 100] * u.arcsec
    table["rms"] = [8.0, 8.0, 8.0, 8.0] * u.mJy / u.beam
    table["flags"] = ["", "clipped few-controls", "", "partial"]
    return table


@pytest.mark.parametrize("ending", ["ecsv", "vot", "fits"])
def test_round_trip_keeps_values_units_and_what_is_unknown(detections, tmp_path, ending):
    back = read_detections(write_detections(detections, tmp_path)[ending])
    assert back.colnames == detections.colnames
    assert back["position"].separation(detections["position"]).max() < 1e-9 * u.deg
    for name in detections.colnames:
        if name != "position" and detections[name].dtype.kind == "f":
            unit = COLUMNS[name][1]
            np.testing.assert_allclose(numbers(back, name, unit), numbers(detections, name, unit), rtol=1e-12)
            assert getattr(back[name], "unit", None) == unit
            assert back[name].info.description == COLUMNS[name][2]
    assert list(back["flags"]) == list(detections["flags"])
    assert np.ma.getmaskarray(np.ma.asarray(back["n_controls"])).tolist() == [False, False, True, False]
    assert back["name"][1] == "</script><b>x"
    assert back["name"][3] == "line break [31m"


def test_fits_and_votable_are_valid(detections, tmp_path):
    from astropy.io import votable

    paths = write_detections(detections, tmp_path)
    assert votable.validate(paths["vot"], output=io.StringIO())
    table = votable.parse(paths["vot"], verify="exception").get_first_table()
    assert {f.name: f.ucd for f in table.fields}["ra"] == "pos.eq.ra;meta.main"
    assert all(f.description for f in table.fields)
    with fits.open(paths["fits"], checksum=True) as hdus:
        hdus.verify("exception")
        header = hdus[1].header
        columns = {header[f"TTYPE{i}"]: i for i in range(1, header["TFIELDS"] + 1)}
        assert header[f"TUCD{columns['dec']}"] == "pos.eq.dec;meta.main"
        assert header[f"TUNIT{columns['flux']}"] == "mJy"
        assert {"CHECKSUM", "DATASUM"} <= set(header)
        assert np.isnan(hdus[1].data["flux"][2])


def test_fits_replaces_letters_that_it_cannot_hold(detections, tmp_path):
    paths = write_detections(detections, tmp_path)
    assert read_detections(paths["fits"])["name"][2] == "Perseus {a;b} #1"
    assert read_detections(paths["vot"])["name"][2] == "Pers\u00e9us {a;b} #1"


def test_ecsv_holds_plain_ra_and_dec_columns(detections, tmp_path):
    flat = Table.read(write_detections(detections, tmp_path)["ecsv"], format="ascii.ecsv")
    assert flat["ra"].unit == u.deg
    np.testing.assert_allclose(flat["dec"], detections["position"].dec.deg)


def test_region_file_is_read_back_by_regions(detections, tmp_path):
    from regions import Regions

    path = write_detections(detections, tmp_path)["reg"]
    text = path.read_text()
    assert text.startswith("# Region file format: DS9")
    assert "\nicrs\n" in text
    circles = Regions.read(path, format="ds9")
    assert len(circles) == 4
    np.testing.assert_allclose([c.radius.to_value(u.arcsec) for c in circles], [360, 270, 60, 300], rtol=1e-4)
    assert [c.visual["facecolor"] for c in circles] == ["blue", "red", "magenta", "yellow"]
    assert circles[2].meta["text"] == "Pers\u00e9us (a,b) no. 1"
    assert all("\n" not in c.meta["text"] for c in circles)


def test_rows_without_position_and_empty_tables_are_written(detections, tmp_path):
    lost = blank_detections(["bad.fits"], SkyCoord([np.nan], [np.nan], unit="deg"), image="bad.fits", status="error")
    paths = write_detections(vstack([detections, lost], metadata_conflicts="silent"), tmp_path / "a")
    assert paths["reg"].read_text().count("circle(") == 4
    for ending in ("ecsv", "vot", "fits"):
        assert np.isnan(read_detections(paths[ending])["position"].ra.deg[4])
    paths = write_detections(detections[:0], tmp_path / "b")
    for ending in ("ecsv", "vot", "fits"):
        assert len(read_detections(paths[ending])) == 0
    assert paths["reg"].read_text().startswith("# Region file format: DS9")


def test_units_that_no_format_knows_do_not_stop_the_files(detections, tmp_path):
    detections["odd"] = np.ones(4) * u.def_unit("furlong_of_mine", 201.168 * u.m)
    back = read_detections(write_detections(detections, tmp_path)["vot"])
    np.testing.assert_allclose(back["odd"], 1)


def test_columns_of_a_catalogue_with_names_and_times(detections, tmp_path):
    """FITS names columns in ASCII, and no two alike; the other formats keep the names."""
    detections["gr\u00f6\u00dfe"] = np.arange(len(detections))
    detections["gro_e"] = 1.0
    detections["seen"] = Time(np.full(len(detections), 55000.0), format="mjd")
    write_detections(detections, tmp_path)
    assert read_detections(tmp_path / "detections.ecsv").colnames[-3:] == ["gr\u00f6\u00dfe", "gro_e", "seen"]
    found = read_detections(tmp_path / "detections.fits")
    assert found.colnames[-3:] == ["gro_e_2", "gro_e", "seen"]
    assert list(found["gro_e_2"]) == list(range(len(detections))) and found["seen"][0] == "55000.0"


def test_errors(detections, tmp_path):
    write_detections(detections, tmp_path)
    with pytest.raises(HaloInputError, match="this file exists"):
        write_detections(detections, tmp_path, overwrite=False)
    with pytest.raises(HaloInputError, match="detections need a column 'position'"):
        write_detections(QTable({"name": ["a"]}), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(HaloInputError, match="cannot make this folder"):
        write_detections(detections, tmp_path / "file")
    with pytest.raises(HaloInputError, match=r"read from \.ecsv, \.vot or \.fits"):
        read_detections(tmp_path / "detections.csv")
    with pytest.raises(HaloInputError, match="there is no such file"):
        read_detections(tmp_path / "none.fits")
    (tmp_path / "bad.vot").write_text("<html>not a table</html>")
    with pytest.raises(HaloInputError, match="cannot read these detections"):
        read_detections(tmp_path / "bad.vot")
    Table({"name": ["a"]}).write(tmp_path / "other.ecsv")
    with pytest.raises(HaloInputError, match="name, ra and dec are needed"):
        read_detections(tmp_path / "other.ecsv")


def test_ranking_is_by_p_value_then_probability_with_unknown_last(detections):
    assert ranking(detections).tolist() == [1, 3, 0, 2]
    assert strength(detections) == ["weak", "strong", "unscored", "possible"]
    without = QTable({"probability": [0.5, 0.95, np.nan, 0.1]})
    assert ranking(without).tolist() == [1, 0, 3, 2]
    assert strength(without) == ["possible", "strong", "unscored", "weak"]


@given(st.lists(st.floats(0, 1) | st.just(np.nan), max_size=30))
def test_ranking_is_a_permutation_that_sorts(values):
    values = np.array(values, dtype=float)
    ranked = values[ranking(QTable({"p_value": values}))]
    known = ranked[np.isfinite(ranked)]
    assert (np.diff(known) >= 0).all()
    assert np.isnan(ranked[len(known):]).all()


def test_p_value_text():
    # The empirical p-value of b controls above, of n, is (b + 1) / (n + 1): Davison & Hinkley 1997, eq. 4.11.
    assert p_value_text(1 / 250, 249) == "0.0040 (1/250)"
    assert p_value_text(0.5, np.nan) == "0.50"
    assert p_value_text(np.nan, 249) == "\u2013"
    assert p_value_text(0.123456, 10) == "0.12"
    assert p_value_text(3.2e-7, np.nan) == "3.2e-07"


@pytest.mark.parametrize(("value", "error", "text"), [
    (364.61, 13.12, "365 \u00b1 13"), (0.5, 0.012, "0.500 \u00b1 0.012"), (12345.6, 789, "12,346 \u00b1 789"),
    (3.14159, np.nan, "3.14"), (np.nan, 1, "\u2013"), (-2.0, 1.5, "-2.0 \u00b1 1.5")])
def test_value_text_keeps_two_digits_of_the_error(value, error, text):
    assert value_text(value, error) == text


def test_candidates_text_is_readable_and_safe_for_a_terminal(detections):
    text = candidates_text(detections)
    lines = text.splitlines()
    assert len(lines) == 5
    assert "\x1b" not in text
    assert lines[1].split()[:2] == ["1", "</script><b>x"]
    assert "0.0040 (1/250)" in lines[1] and "365 \u00b1 13 mJy" in lines[1]
    assert "and 2 more" in candidates_text(detections, max_rows=2)
    assert candidates_text(detections[:0]) == "no candidates"
