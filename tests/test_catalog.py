"""Tables of targets: every usual spelling of a column and of an angle, and errors with row and value."""

import bz2
import gzip
import time

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table

from halopy.errors import HaloInputError, HalopyWarning
from halopy.io.catalog import read_targets

# Abell 2744 and the Bullet cluster, degrees and sexagesimal.
RA, DEC = [3.578, 104.626], [-30.389, -55.947]


@pytest.fixture
def write(tmp_path):
    def write(text, name="targets.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path
    return write


def check(targets, names=("A2744", "Bullet"), tolerance=1 * u.arcsec):
    assert isinstance(targets, QTable)
    assert list(targets["name"]) == list(names)
    assert targets["position"].frame.name == "icrs"
    assert (targets["position"].separation(SkyCoord(RA, DEC, unit="deg")) < tolerance).all()


@pytest.mark.parametrize(("name", "ra", "dec"), [
    ("name", "ra", "dec"), ("Name", "RA", "DEC"), ("target", "ra_deg", "dec_deg"), ("Cluster", "RAJ2000", "DEJ2000"),
    ("object", "_RAJ2000", "_DEJ2000"), ("main_id", "RA_ICRS", "DE_ICRS"), ("id", "RA (deg)", "Dec (deg)"),
    ("source name", "RightAscension", "Declination"), ("NAME", "RAdeg", "DEdeg"),
])
def test_column_names(write, name, ra, dec):
    check(read_targets(write(f"{name},{ra},{dec}\nA2744,{RA[0]},{DEC[0]}\nBullet,{RA[1]},{DEC[1]}\n")))


@pytest.mark.parametrize(("ra", "dec"), [
    (("00 14 18.72", "06 58 30.24"), ("-30 23 20.4", "-55 56 49.2")),
    (("00:14:18.72", "06:58:30.24"), ("-30:23:20.4", "-55:56:49.2")),
    (("00h14m18.72s", "6h58m30.24s"), ("-30d23m20.4s", "-55d56m49.2s")),
    (("0h14.312m", "06h58.504m"), ("-30:23.34", "\u221255\u00b056\u203249.2\u2033")),
    (("3d34m40.8s", "104d37m33.6s"), ("-30.389", "-55.947")),
    (("3.578", "06:58:30.24"), ("-30.389", "-55 56 49.2")),
])
def test_sexagesimal(write, ra, dec):
    """Hours in right ascension unless it says degrees (the IAU convention)."""
    check(read_targets(write(f"name,ra,dec\nA2744,{ra[0]},{dec[0]}\nBullet,{ra[1]},{dec[1]}\n")))


def test_minus_zero_degrees(write):
    targets = read_targets(write("name,ra,dec\na,00:00:00,-00:30:00\nb,360,90\nc,-10,-90\n"))
    np.testing.assert_allclose(targets["position"].dec.deg, [-0.5, 90, -90])
    np.testing.assert_allclose(targets["position"].ra.deg, [0, 0, 350])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " ", " , "])
def test_delimiters(write, delimiter):
    rows = [("name", "ra", "dec"), ("A2744", RA[0], DEC[0]), ("Bullet", RA[1], DEC[1])]
    check(read_targets(write("\n".join(delimiter.join(map(str, r)) for r in rows))))
    check(read_targets(write("# " + "\r\n".join(delimiter.join(map(str, r)) for r in rows) + "\r\n\r\n# end\n")))


def table():
    return QTable({"name": ["A2744", "Bullet"], "ra": RA * u.deg, "dec": DEC * u.deg, "z": [0.306, 0.296],
                   "label": ["halo", "halo"], "grade": ["confirmed", "confirmed"], "group": ["1", "2"],
                   "flux": [1.0, 2.0] * u.mJy})


@pytest.mark.parametrize(("name", "form"), [("t.ecsv", "ascii.ecsv"), ("t.vot", "votable"), ("t.fits", "fits")])
def test_formats_by_content(tmp_path, name, form):
    path = tmp_path / name
    table().write(path, format=form)
    for pack, ending in ((bytes, ""), (gzip.compress, ".gz"), (bz2.compress, ".bz2")):
        other = tmp_path / f"any-name{ending}"
        other.write_bytes(pack(path.read_bytes()))
        targets = read_targets(other)
        check(targets)
        assert targets.colnames == ["name", "position", "redshift", "label", "grade", "group", "flux"]
        np.testing.assert_allclose(targets["redshift"], [0.306, 0.296])
        assert list(targets["label"]) == ["halo", "halo"]
        assert targets["flux"].unit == u.mJy


def test_tables_and_positions(tmp_path):
    check(read_targets(table()))
    check(read_targets(Table(table())))
    position = QTable({"name": ["A2744", "Bullet"], "where": SkyCoord(RA, DEC, unit="deg").galactic})
    check(read_targets(position))
    position.write(tmp_path / "t.ecsv")
    check(read_targets(tmp_path / "t.ecsv"))
    again = read_targets(read_targets(table()))
    assert again.colnames == read_targets(table()).colnames
    # Positions that are NaN in Python are meant; in a file they are told.
    position["where"] = SkyCoord([1, np.nan], [1, 1], unit="deg")
    assert np.isnan(read_targets(position)["position"].dec.deg).tolist() == [False, True]
    position.write(tmp_path / "t.ecsv", overwrite=True)
    with pytest.warns(HalopyWarning, match=r"t.ecsv: row 2 \(Bullet\) has no position: where is 'nan'"):
        targets = read_targets(tmp_path / "t.ecsv")
    assert np.isnan(targets["position"].ra.deg).tolist() == [False, True]


def test_units_of_columns():
    for ra, dec in ((np.array(RA) / 15 * u.hourangle, DEC * u.deg), (np.radians(RA) * u.rad, np.radians(DEC) * u.rad),
                    (np.array(RA) * 60 * u.arcmin, np.array(DEC) * 3600 * u.arcsec)):
        check(read_targets(QTable({"name": ["A2744", "Bullet"], "ra": ra, "dec": dec})))


def test_mass_and_redshift(write):
    targets = read_targets(write("name,ra,dec,redshift,m500\na,1,2,0.3,9.8\nb,1,2,,\n"))
    assert targets["m500"].unit == 1e14 * u.Msun
    assert targets["m500"][0].to_value(1e14 * u.Msun) == pytest.approx(9.8)
    assert np.isnan(targets["redshift"][1])
    assert np.isnan(targets["m500"][1])
    for mass in ([9.8e14] * u.Msun, [9.8e14]):
        targets = read_targets(QTable({"name": ["a"], "ra": [1.0], "dec": [2.0], "M500": mass}))
        assert targets["m500"][0].to_value(1e14 * u.Msun) == pytest.approx(9.8)
    with pytest.raises(HaloInputError, match="row 2: z is no number.*'about 1'"):
        read_targets(write("name,ra,dec,z\na,1,2,0.3\nb,1,2,about 1\n"))


def test_names_stay_text(write):
    """1E0657 is no number and 007 no seven; formulas and tags are text like any other."""
    names = ["1E0657", "007", "1e400", '=cmd|"/c calc"!A1', "</script>", "Abell 2744, north", "Gro\u00dfer", "",
             "1E0657"]
    rows = "\n".join('"{}",1,2,{}'.format(n.replace('"', '""'), "01") for n in names)
    targets = read_targets(write(f"name,ra,dec,group\n{rows}\n"))
    assert list(targets["name"]) == names
    assert list(targets["group"]) == ["01"] * len(names)
    # Latin-1 of old programs.
    assert read_targets(write("name,ra,dec\nGro\u00dfer,1,2\n".encode("latin-1")))["name"][0] == "Gro\u00dfer"
    # Other columns keep their values: text where one cell is none or too large for a number.
    targets = read_targets(write("name,ra,dec,n,x,other,empty,code\na,1,2,3,1.5,1E0657,,01\nb,1,2,4,,9,,02\n"))
    assert targets["n"].dtype.kind == "i"
    assert np.isnan(targets["x"][1])
    assert list(targets["other"]) == ["1E0657", "9"]
    assert list(targets["code"]) == ["01", "02"]


def test_names_are_made_from_positions(write):
    targets = read_targets(write(f"ra,dec\n{RA[0]},{DEC[0]}\n{RA[1]},{DEC[1]}\n"))
    assert list(targets["name"]) == ["J001419-302320", "J065830-555649"]
    targets = read_targets(Table({"source": [0, 0], "ra": RA, "dec": DEC}))
    assert list(targets["name"]) == ["J001419-302320", "J065830-555649"]


@pytest.mark.parametrize(("ra", "dec", "keyword", "found"), [
    ("x", "2", "ra", "'x'"), ("361", "2", "ra", "361"), ("12:61:00", "2", "ra", "12:61:00"),
    ("25:00:00", "2", "ra", "25:00"),
    ("1", "91", "dec", "91"), ("1", "-90:00:01", "dec", "-90:00:01"), ("1", "unknown", "dec", "'unknown'"),
    ("1e999", "2", "ra", "1e999"), ("", "91", "dec", "91"),
])
def test_bad_positions_name_row_and_value(write, ra, dec, keyword, found):
    with pytest.raises(HaloInputError, match=f"row 2: {keyword} must be an angle") as caught:
        read_targets(write(f"name,ra,dec\na,1,2\nb,{ra},{dec}\n"))
    assert caught.value.keyword == keyword
    assert found in str(caught.value)


@pytest.mark.parametrize(("ra", "dec", "column", "value"), [
    ("", "2", "ra", ""), ("nan", "2", "ra", "nan"), ("1", "--", "dec", ""), ("1", "NULL", "dec", ""),
    ("", "", "ra", ""), ("12:00:00", "", "dec", ""), ("", "-30:00:00", "ra", ""),
])
def test_a_target_without_a_position_is_a_row_like_the_others(write, ra, dec, column, value):
    """Rows out = rows in: one target that nobody has placed never stops the others."""
    text = rf"targets.csv: row 2 \(b\) has no position: {column} is '.*'; such"
    with pytest.warns(HalopyWarning, match=text) as told:
        targets = read_targets(write(f"name,ra,dec\na,1,2\nb,{ra},{dec}\nc,3,4\n"))
    assert len(told) == 1
    assert list(targets["name"]) == ["a", "b", "c"]
    np.testing.assert_array_equal(targets["position"].ra.deg, [1, np.nan, 3])
    np.testing.assert_array_equal(targets["position"].dec.deg, [2, np.nan, 4])


def test_many_without_a_position_are_told_once(write):
    with pytest.warns(HalopyWarning, match=r"row 1 \(row 1\) .* ra is 'nan' \(and 2 more rows\)") as told:
        targets = read_targets(write(f"ra,dec\n,2\nnan,nan\n{RA[0]},{DEC[0]}\n3,\n"))
    assert len(told) == 1
    assert list(targets["name"]) == ["row 1", "row 2", "J001419-302320", "row 4"]


def test_masked_positions():
    masked = Table({"name": ["a", "b"], "ra": np.ma.array([1.0, 2.0], mask=[False, True]), "dec": [1.0, 2.0]})
    with pytest.warns(HalopyWarning, match=r"row 2 \(b\) has no position: ra is ''"):
        targets = read_targets(masked)
    assert np.isnan(targets["position"].ra.deg).tolist() == [False, True]
    # Whatever a masked cell holds is no value.
    masked["ra"].data.data[1] = 1000
    with pytest.warns(HalopyWarning, match="row 2"):
        assert len(read_targets(masked)) == 2


@pytest.mark.parametrize(("text", "match"), [
    ("", "this file is empty"), ("  \n \n", "this file is empty"), ("name,ra,dec\n", "no rows"),
    ("name,ra,dec\n# a,1,2\n", "no rows"), ("name,x,y\na,1,2\n", r"right ascension and declination.*'name', 'x', 'y'"),
    ("name,ra,y\na,1,2\n", "no column for declination"), ("name,ra,dec\na,1\n", "row 1 has 2 cells, the header 3"),
    ("name,ra,dec\na,1,2\nb,c,1,2\n", "row 2 has 4 cells"),
    ("name,ra,ra,dec\na,1,1,2\n", "two columns have the same name"),
    ("<html><title>Service busy</title></html>", "its title is 'Service busy'"), ("\x00\x01\x02", "neither CSV, ECSV"),
    ("name,ra,dec\n" + "a" * 200000 + ",1,2", "row 1 cannot be read"),
    ("# %ECSV 1.0\n# ---\nrubbish: [", "cannot be read"),
    ("<?xml version='1.0'?><VOTABLE><RESOURCE>", "cannot be read"),
    ("SIMPLE  =", "no END card"),
])
def test_files_that_are_no_table(write, text, match):
    with pytest.raises(HaloInputError, match=match) as caught:
        read_targets(write(text))
    assert "targets.csv" in str(caught.value)


@pytest.mark.parametrize("above", ["# my clusters\n", "# a, b, c, of three cells\n#\n", "# my, own, list\n",
                                   "\n# my clusters\n# name,ra,dec\n#\n"])
def test_comments_above_the_header(write, above):
    text = above + "name,ra,dec\nA,10,20\n"
    targets = read_targets(write(text))
    assert targets["name"].tolist() == ["A"] and targets["position"].ra.deg.tolist() == [10]
    # The last of them is the header where no other is there.
    assert read_targets(write("# my clusters\n# name,ra,dec\nA,10,20\n"))["name"].tolist() == ["A"]


def test_nothing_is_fetched_or_expanded(write):
    linked = '<?xml version="1.0"?><VOTABLE><RESOURCE><TABLE><DATA><BINARY><STREAM href="http://127.0.0.1:9/x"/>'
    with pytest.raises(HaloInputError, match="rows by a link"):
        read_targets(write(linked))
    with pytest.raises(HaloInputError, match="XML entities"):
        read_targets(write('<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><VOTABLE>'))
    for url in ("https://example.org/t.csv", "file:///etc/passwd"):
        with pytest.raises(HaloInputError, match="paths only"):
            read_targets(url)
    with pytest.raises(HaloInputError, match="named by a str or a path"):
        read_targets([1, 2])


def test_damaged_archives_and_images(write, tmp_path):
    with pytest.raises(HaloInputError, match="damaged or cut short"):
        read_targets(write(gzip.compress(b"name,ra,dec\na,1,2\n")[:-9]))
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "image.fits")
    with pytest.raises(HaloInputError, match="no table.*ClusterImage.read"):
        read_targets(tmp_path / "image.fits")


def test_a_large_list(write):
    """A tenth of a million rows in a few seconds: the time grows with the rows, not faster."""
    n = 100_000
    rows = "\n".join(f"s{i},{i * 0.0036:.4f},{i * 1e-4 - 5:.4f},0.2" for i in range(n))
    start = time.perf_counter()
    targets = read_targets(write("name,ra,dec,z\n" + rows))
    assert time.perf_counter() - start < 10
    assert len(targets) == n
