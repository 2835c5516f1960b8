"""Which column is what: UCDs, units and spellings of the catalogues that people have."""

import io
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table

from halopy.errors import HaloInputError, HalopyWarning
from halopy.io.catalog import load_targets, read_targets

# Abell 2744 and the Bullet cluster.
RA, DEC = [3.578, 104.626], [-30.389, -55.947]


@pytest.fixture
def write(tmp_path):
    def write(text, name):
        path = tmp_path / name
        path.write_text(text)
        return path
    return write


def check(targets):
    assert list(targets["name"]) == ["A2744", "Bullet"]
    assert (targets["position"].separation(SkyCoord(RA, DEC, unit="deg")) < 1 * u.arcsec).all()


def votable(fields, *rows):
    """A VOTable as VizieR writes it: each field a (name, datatype, UCD, unit)."""
    head = "".join(f'<FIELD name="{n}" datatype="{d}"{" arraysize=" + chr(34) + "*" + chr(34) if d == "char" else ""}'
                   f'{f" ucd={chr(34)}{c}{chr(34)}" if c else ""}{f" unit={chr(34)}{unit}{chr(34)}" if unit else ""}/>'
                   for n, d, c, unit in fields)
    body = "".join("<TR>" + "".join(f"<TD>{cell}</TD>" for cell in row) + "</TR>" for row in rows)
    return ('<?xml version="1.0" encoding="UTF-8"?><VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
            f'<RESOURCE><TABLE name="t">{head}<DATA><TABLEDATA>{body}</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>')


PSZ2 = [("Name", "char", "meta.id;meta.main", ""), ("GLON", "double", "pos.galactic.lon", "deg"),
        ("GLAT", "double", "pos.galactic.lat", "deg"), ("RAJ2000", "double", "pos.eq.ra;meta.main", "deg"),
        ("DEJ2000", "double", "pos.eq.dec;meta.main", "deg"), ("SNR", "float", "stat.snr", ""),
        ("MCXC", "char", "meta.id", ""), ("z", "float", "src.redshift", ""), ("MSZ", "float", "phys.mass", "10+14Msun"),
        ("E_MSZ", "float", "stat.error", "10+14Msun")]
PSZ2_ROWS = [("PSZ2 G008.94-81.22", 8.9378, -81.2202, 3.5591, -30.3876, 16.6, "J0014.3-3023", 0.307, 9.836, 0.395),
             ("PSZ2 G139.18+56.37", 139.1794, 56.3732, 175.6, 55.0, 8.0, "", -1, 0, 0),
             ("PSZ2 G000.00+00.00", 0, 0, 266.405, -28.936, 5.0, "", "", "", "")]


def test_psz2_as_vizier_gives_it(write):
    """J/A+A/594/A27: MSZ in 1e14 Msun; z = -1 and MSZ = 0 where there is none, empty in some outputs."""
    targets = read_targets(write(votable(PSZ2, *PSZ2_ROWS), "psz2.vot"))
    assert targets.colnames[:4] == ["name", "position", "redshift", "m500"]
    assert list(targets["name"]) == [row[0] for row in PSZ2_ROWS]
    np.testing.assert_allclose(targets["position"].ra.deg, [3.5591, 175.6, 266.405])
    np.testing.assert_allclose(targets["redshift"], [0.307, np.nan, np.nan], rtol=1e-6)
    np.testing.assert_allclose(targets["m500"].to_value(1e14 * u.Msun), [9.836, np.nan, np.nan], rtol=1e-6)
    assert {"GLON", "GLAT", "MCXC", "SNR"} <= set(targets.colnames)
    # The same in memory, units as quantities, as the archive gives it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = QTable.read(io.BytesIO(votable(PSZ2, *PSZ2_ROWS).encode()), format="votable")
    again = read_targets(table)
    np.testing.assert_allclose(again["m500"].value, targets["m500"].value)
    np.testing.assert_allclose(again["redshift"], targets["redshift"])


def test_the_main_position_by_its_ucd(write):
    """VizieR's computed _RAJ2000 stands before the catalogue's own; other centres stand beside it."""
    fields = [("_RAJ2000", "double", "pos.eq.ra", "deg"), ("_DEJ2000", "double", "pos.eq.dec", "deg"),
              ("alpha", "char", "pos.eq.ra;meta.main", "&quot;h:m:s&quot;"),
              ("delta", "char", "pos.eq.dec;meta.main", "&quot;d:m:s&quot;"),
              ("MCXC", "char", "meta.id;meta.main", ""), ("OName", "char", "meta.id", ""),
              ("zval", "double", "src.redshift", ""), ("M", "double", "phys.mass", "10+14Msun")]
    row = (10.0, 10.0, "00 14 18.72", "-30 23 20.4", "J0014.3-3023", "A2744", 0.306, 8.8)
    targets = read_targets(write(votable(fields, row), "mcxc.vot"))
    assert targets["position"][0].separation(SkyCoord(RA[0], DEC[0], unit="deg")) < 1 * u.arcsec
    assert targets["name"][0] == "J0014.3-3023"
    assert targets["redshift"][0] == 0.306
    assert targets["m500"][0].to_value(1e14 * u.Msun) == pytest.approx(8.8)


def test_the_words_of_1999_and_of_fits(write, tmp_path):
    fields = [("x", "double", "POS_EQ_RA_MAIN", "deg"), ("y", "double", "POS_EQ_DEC_MAIN", "deg"),
              ("No", "char", "ID_MAIN", ""), ("v", "double", "REDSHIFT_HC", "")]
    targets = read_targets(write(votable(fields, (RA[0], DEC[0], "A2744", 0.3)), "old.vot"))
    assert (targets["name"][0], targets["redshift"][0]) == ("A2744", 0.3)
    hdu = fits.table_to_hdu(Table({"x": RA, "y": DEC, "no": ["A2744", "Bullet"]}))
    for number, ucd in enumerate(("pos.eq.ra;meta.main", "pos.eq.dec;meta.main", "meta.id;meta.main"), start=1):
        hdu.header[f"TUCD{number}"] = ucd
    hdu.writeto(tmp_path / "t.fits")
    check(read_targets(tmp_path / "t.fits"))
    # The number in TUCDn is the column's in the file: taken for that in a selection, the declination would be the name.
    chosen = Table.read(tmp_path / "t.fits")["no", "x", "y"]
    with pytest.raises(HaloInputError, match="no column for right ascension and declination"):
        read_targets(chosen)
    chosen.rename_columns(["no", "x", "y"], ["name", "ra", "dec"])
    check(read_targets(chosen["dec", "name", "ra"]))


def test_erass1_as_vizier_gives_it(write):
    """J/A+A/685/A106: masses in 1e13 Msun; the best redshift, not those that only some clusters have."""
    fields = [("Name", "char", "meta.id;meta.main", ""), ("RAdeg", "double", "pos.eq.ra;meta.main", "deg"),
              ("DEdeg", "double", "pos.eq.dec;meta.main", "deg"), ("RABCG", "double", "pos.eq.ra", "deg"),
              ("DEBCG", "double", "pos.eq.dec", "deg"), ("zspec", "double", "src.redshift", ""),
              ("zBest", "double", "src.redshift", ""), ("M500", "double", "phys.mass", "10+13Msun"),
              ("MGas500", "double", "phys.mass", "10+11Msun")]
    row = ("1eRASS J104026.7-470355", 160.11, -47.06, 160.2, -47.1, "", 0.061, 55.5, 300)
    targets = read_targets(write(votable(fields, row), "erass.vot"))
    assert targets["redshift"][0] == 0.061
    assert targets["m500"][0].to_value(1e14 * u.Msun) == pytest.approx(5.55)
    assert targets["position"][0].ra.deg == pytest.approx(160.11)
    # The file of the collaboration: BEST_Z, and RA in degrees.
    table = Table({"NAME": ["a"], "RA": [160.11], "DEC": [-47.06], "RA_BCG": [1.0], "Z_SPEC": [0.2], "BEST_Z": [0.061],
                   "M500": [55.5]})
    with pytest.raises(HaloInputError, match="M500 has no unit, and no cluster has more than 50e14.*55.5.*1e13 Msun"):
        read_targets(table)
    table["M500"].unit = "1e13 Msun"
    assert read_targets(table)["redshift"][0] == 0.061
    assert read_targets(table)["m500"][0].to_value(1e14 * u.Msun) == pytest.approx(5.55)


@pytest.mark.parametrize("unit", ["10+14Msun", "1e14 solMass", "10^14 Msun", "10**14 Msun", "1E14 Msun"])
def test_units_of_mass(unit):
    table = Table({"ra": [1.0], "dec": [2.0], "m500": [9.8]})
    table["m500"].unit = u.Unit(unit, parse_strict="silent")
    assert read_targets(table)["m500"][0].to_value(1e14 * u.Msun) == pytest.approx(9.8)


def test_a_mass_that_is_none():
    table = Table({"ra": [1.0], "dec": [2.0], "m500": [9.8]})
    table["m500"].unit = "km"
    with pytest.raises(HaloInputError, match="the unit of m500 must be one of mass.*found 'km'"):
        read_targets(table)
    # Logarithms are told by their unit.
    table = QTable({"ra": [1.0], "dec": [2.0], "m500": [14.0] * u.dex(u.Msun)})
    assert read_targets(table)["m500"][0].to_value(1e14 * u.Msun) == pytest.approx(1)


def test_z_may_be_a_filter():
    table = QTable({"ra": [1.0], "dec": [2.0], "z": [18.0] * u.mag, "M200": [3e14] * u.Msun})
    table["M200"].info.meta = {"ucd": "phys.mass"}
    assert read_targets(table).colnames == ["name", "position", "z", "M200"]


@pytest.mark.parametrize(("longitude", "latitude"), [("GLON", "GLAT"), ("l", "b"), ("gal_lon", "gal_lat")])
def test_galactic(longitude, latitude):
    """The pole is at 12h51.4m +27°07.7′, the centre at 17h45.6m -28°56′ (Blaauw et al. 1960)."""
    targets = read_targets(Table({longitude: [0.0, 0.0], latitude: [90.0, 0.0]}))
    expected = SkyCoord(["12h51.4m +27d07.7m", "17h45.6m -28d56.2m"])
    assert (targets["position"].separation(expected) < 1 * u.arcmin).all()
    assert targets["position"].frame.name == "icrs"
    # Both systems given: the equatorial one is taken, the other stays.
    targets = read_targets(Table({longitude: [0.0], latitude: [0.0], "ra": [10.0], "dec": [20.0]}))
    assert targets["position"].ra.deg == pytest.approx(10)
    assert longitude in targets.colnames
    with pytest.raises(HaloInputError, match=f"row 1: {latitude} must be an angle of -90 to 90"):
        read_targets(Table({longitude: [0.0], latitude: [91.0]}))


def test_columns_found_by_their_unit():
    table = QTable({"alpha": np.array(RA) / 15 * u.hourangle, "delta": DEC * u.deg, "name": ["A2744", "Bullet"]})
    check(read_targets(table))
    table = Table({"name": ["A2744", "Bullet"], "ra": np.array(RA) / 15, "dec": DEC})
    table["ra"].unit = "h"
    check(read_targets(table))
    # Two columns of degrees could both be the declination.
    table = QTable({"alpha": [1] * u.hourangle, "delta": [1] * u.deg, "other": [2] * u.deg})
    with pytest.raises(HaloInputError, match=r"no column for right ascension and declination.*'alpha', 'delta'"):
        read_targets(table)


@pytest.mark.parametrize("unit", ["km", "s", "Jy"])
def test_units_that_are_no_angle(unit):
    table = Table({"ra": [1.0], "dec": [2.0]})
    table["ra"].unit = unit
    with pytest.raises(HaloInputError, match=f"the unit of ra must be one of angle.*found '{unit}'"):
        read_targets(table)


def test_more_than_one_position_a_row():
    with pytest.raises(HaloInputError, match=r"a row has one position.*\(1, 2\)"):
        read_targets(Table({"ra": [[1.0, 2.0]], "dec": [[3.0, 4.0]]}))


@pytest.mark.parametrize(("ra", "dec"), [
    ("RA (J2000) [deg]", "Dec (J2000) [deg]"), ("raj2000deg", "decj2000deg"), ("RA_epoch2000", "Dec_epoch2000"),
    ("RAdeg_J2000", "DEdeg_J2000"), ("RA_ICRS", "DE_ICRS")])
def test_right_ascension_and_declination_are_spelt_alike(ra, dec):
    assert read_targets(Table({ra: [10.0], dec: [-20.0]}))["position"].dec.deg[0] == -20


def test_positions_of_1950_are_not_taken(write):
    """Precession is 0.6° in 50 years: B1950 read as J2000 would miss every image."""
    fields = [("RAB1950", "double", "pos.eq.ra;meta.main", "deg"), ("DEB1950", "double", "pos.eq.dec;meta.main", "deg")]
    with pytest.raises(HaloInputError, match=r"no column for right ascension and declination.*'RAB1950'"):
        read_targets(write(votable(fields, (1, 2)), "old.vot"))


def test_masked_columns_with_units():
    table = QTable({"ra": MaskedColumn([1.0, 2.0], mask=[False, True], unit="deg"), "dec": [1, 2] * u.deg,
                    "M500": MaskedColumn([3.0, 4.0], mask=[True, False], unit="1e14 Msun"),
                    "z": MaskedColumn([0.1, 0.2], mask=[True, False])})
    with pytest.warns(HalopyWarning, match="row 2"):
        targets = read_targets(table)
    assert np.isnan(targets["position"].ra.deg).tolist() == [False, True]
    assert np.isnan(targets["m500"].value).tolist() == [True, False]
    assert np.isnan(targets["redshift"]).tolist() == [True, False]


def test_names_that_round_to_24_hours():
    assert read_targets(Table({"ra": [359.9999], "dec": [-0.0001]}))["name"][0] == "J000000-000000"


def test_the_real_psz2(real_data):
    """The 1653 sources of A&A 594, A27, cut by the bytes that its ReadMe gives; its two systems are one sky."""
    path = real_data / "catalogues" / "psz2.dat.txt"
    if not path.is_file():
        pytest.skip("no PSZ2 here")
    lines = path.read_text("latin-1").splitlines()
    table = Table({n: [line[a - 1:b] for line in lines] for n, a, b in (
        ("Name", 6, 23), ("GLON", 25, 35), ("GLAT", 37, 47), ("RAdeg", 49, 59), ("DEdeg", 61, 71), ("z", 168, 176),
        ("MSZ", 178, 186))})
    targets = read_targets(table)
    assert len(targets) == 1653
    galactic = read_targets(table["Name", "GLON", "GLAT"])
    assert (galactic["position"].separation(targets["position"]) < 1 * u.arcsec).all()
    # 1653 detections, of which 1094 have a redshift; A2163 is the heaviest.
    assert np.isfinite(targets["redshift"]).sum() == np.isfinite(targets["m500"]).sum() == 1094
    assert targets["name"][np.nanargmax(targets["m500"])] == "PSZ2 G006.76+30.45"
    known = dict(zip(targets["name"], targets, strict=True))
    ours = load_targets()
    for row in ours[ours["psz2_name"] != ""]:
        theirs = known[row["psz2_name"]]
        assert row["m500"].value == pytest.approx(theirs["m500"].value, abs=0.0006)
        assert row["redshift"] == pytest.approx(theirs["redshift"], abs=0.0001)
        assert row["position"].separation(theirs["position"]) < 8.5 * u.arcmin
