"""``halopy uvdetect``: visibilities in files, detections in tables, and what is refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

pytest.importorskip("pyuvdata", reason="the extra uv is not installed")

import halopy.cli as cli
from halopy.io.candidates import numbers
from halopy.io.detections import read_detections
from halopy.uvshapelets.detect import detect_halo
from halopy.uvshapelets.layouts import Layout, layouts
from halopy.uvshapelets.nuisance import direction_cosines
from halopy.uvshapelets.observe import observe
from halopy.uvshapelets.read import offline
from halopy.uvshapelets.templates import ExponentialHalo
from halopy.uvshapelets.visibilities import Visibilities
from halopy.uvshapelets.write import uvdata, write_uvfits

CENTRE = SkyCoord(30, -27, unit="deg")
HERE, THERE, EMPTY = (SkyCoord(ra, dec, unit="deg") for ra, dec in ((30.3, -27.1), (29.2, -26.4), (30.9, -26.3)))
ARRAY = Layout("part", layouts["mwa-1"].positions[::4], layouts["mwa-1"].latitude, layouts["mwa-1"].longitude)
FILES = ("index.html", "detections.ecsv", "detections.vot", "detections.fits", "detections.reg")
RADII = ("--radii", "2arcmin", "3arcmin", "4arcmin")


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = cli.main(["uvdetect", *map(str, arguments)])
        said, errors = capsys.readouterr()
        return code, said, errors

    return run


def field(halos=(), points=(), noise=1 * u.Jy, seed=1):
    """Visibilities of halos (position, flux) of r_e = 3 arcmin, and of points (position, flux)."""
    models = [(flux, ExponentialHalo(3 * u.arcmin, centre=tuple(direction_cosines(place, CENTRE))))
              for place, flux in halos]
    sky = np.array([(*direction_cosines(place, CENTRE), flux.to_value(u.Jy)) for place, flux in points])
    return observe(models, ARRAY, centre=CENTRE, hour_angles=np.linspace(-1, 1, 5) * u.hourangle, noise=noise,
                   frequency=[150, 155] * u.MHz, points=None if not len(sky) else tuple(sky.T), rng=seed)


@pytest.fixture
def written(tmp_path):
    def written(name="field.uvfits", **settings):
        write_uvfits(field(**settings), tmp_path / name, ARRAY)
        return tmp_path / name

    return written


@pytest.fixture
def targets(tmp_path):
    def targets(**places):
        path = tmp_path / "targets.ecsv"
        QTable({"name": list(places), "position": SkyCoord(list(places.values()))}).write(path, overwrite=True)
        return path

    return targets


def table_of(folder="out"):
    return read_detections(f"{folder}/detections.ecsv")


def test_a_halo_at_a_position(run, written, targets):
    path, out = written(halos=[(HERE, 0.6 * u.Jy)]), "out"
    code, said, errors = run(path, "--targets", targets(halo=HERE), "-o", out, "--weights", "file")
    assert (code, errors) == (0, "")
    assert "halo" in said and all(f"out/{name}" in said for name in FILES)
    found = detect_halo(Visibilities.read(path, weights="file"), HERE, rng=0)
    row = table_of()[0]
    # Half of the p-value for either sign; the flux within 3 r_e of I ∝ exp(−r/r_e) is 1 − 4/e³ of the whole.
    assert row["p_value"] == pytest.approx(found.p_value / 2, rel=1e-9) and row["p_value"] < 1e-6
    assert row["snr"] == pytest.approx(found.snr) and row["n_controls"] is np.ma.masked
    assert row["total_flux"].to_value(u.Jy) == pytest.approx(found.flux.value)
    assert float(row["flux"] / row["total_flux"]) == pytest.approx(0.800852, rel=1e-5)
    assert float(row["flux_err"] / row["total_flux_err"]) == pytest.approx(0.800852, rel=1e-5)
    assert abs(row["total_flux"] - 600 * u.mJy) < 3 * row["total_flux_err"]
    assert abs(row["r_e"] - 180 * u.arcsec) < 3 * row["r_e_err"]
    assert row["limit_95"] > row["total_flux"] - row["total_flux_err"]
    assert row["image"] == "field.uvfits" and row["frequency"].to_value(u.MHz) == pytest.approx(152.5)
    assert np.isnan(numbers(table_of(), "probability")).all() and row["flags"] == "no-sources"
    assert not np.ma.is_masked(row["p_imaginary"]) and row["p_stokes_v"] is np.ma.masked
    page = Path("out/index.html").read_text(encoding="utf-8")
    assert "halo" in page and "strong" in page


def test_positions_without_a_result(run, written, tmp_path):
    (tmp_path / "list.csv").write_text("name,ra,dec\nhalo,30.3,-27.1\nbelow,210,27\nnowhere,,\n")
    code, _, errors = run(written(), "--targets", tmp_path / "list.csv", "-o", "out", "--weights", "1Jy", *RADII)
    assert code == 5 and "error: nowhere: the position is missing" in errors
    assert table_of()["status"].tolist() == ["ok", "outside", "error"]
    assert np.isnan(numbers(table_of(), "p_value")[1:]).all() and np.isfinite(numbers(table_of(), "p_value")[0])


def test_a_hole_is_no_halo(run, written, targets):
    code, *_ = run(written(halos=[(HERE, -0.6 * u.Jy)]), "--targets", targets(hole=HERE), "-o", "out", "--weights",
                   "file", *RADII, "--quiet")
    row = table_of()[0]
    assert code == 0 and row["snr"] < -4 and row["p_value"] > 0.999 and "negative" in row["flags"].split()


def test_files_are_added(run, written, targets):
    paths = [written(f"{seed}.uvfits", halos=[(HERE, 0.6 * u.Jy)], seed=seed) for seed in (1, 2)]
    for name, files in {"one": paths[:1], "both": paths}.items():
        assert run(*files, "--targets", targets(halo=HERE), "-o", name, "--weights", "file", *RADII, "--quiet") == (
            0, "", "")
    one, both = table_of("one")[0], table_of("both")[0]
    assert both["image"] == "1.uvfits and 1 more"
    assert both["limit_95"] < one["limit_95"] and both["snr"] > one["snr"]
    # Twice the data, 1/√2 of the error of a flux whose radius is held.
    errors = [detect_halo([Visibilities.read(path, weights="file") for path in files], HERE, rng=0,
                          radii=3 * u.arcmin).flux_err.value for files in (paths[:1], paths)]
    assert errors[1] == pytest.approx(errors[0] / np.sqrt(2))


def test_point_sources_are_marginalised(run, written, targets, tmp_path):
    near = SkyCoord(30.32, -27.08, unit="deg")
    points = [(near, 1 * u.Jy), (EMPTY, 3 * u.Jy)]
    QTable({"position": SkyCoord([near, EMPTY]), "flux": [1000, 3000] * u.mJy, "flux_err": [50, 150] * u.mJy}).write(
        tmp_path / "sources.ecsv")
    path = written(halos=[(HERE, 0.6 * u.Jy)], points=points)
    base = (path, "--targets", targets(halo=HERE), "--weights", "file", *RADII, "--quiet")
    assert run(*base, "-o", "without")[0] == run(*base, "-o", "with", "--sources", tmp_path / "sources.ecsv")[0] == 0
    without, row = table_of("without")[0], table_of("with")[0]
    assert without["total_flux"] > 1000 * u.mJy
    assert abs(row["total_flux"] - 600 * u.mJy) < 3 * row["total_flux_err"]
    assert row["compact_flux"].to_value(u.mJy) == pytest.approx(1000, abs=150)
    assert 0 < row["sources_keep"] < 1 and row["flags"] == "" and table_of("with").meta["sources"].endswith(".ecsv")
    confused = run(*base, "-o", "confused", "--sources", tmp_path / "sources.ecsv", "--confusion", "50mJy")
    assert confused == (0, "", "")
    assert table_of("confused")[0]["total_flux_err"] > row["total_flux_err"]


def test_a_certain_halo_is_subtracted_from_the_others(run, written, targets):
    close = HERE.directional_offset_by(0 * u.deg, 4 * u.arcmin)
    path = written(halos=[(HERE, 20 * u.Jy)], noise=0.5 * u.Jy)
    code, *_ = run(path, "--targets", targets(halo=HERE, empty=EMPTY, close=close), "-o", "out", "--weights", "file",
                   *RADII, "--quiet")
    rows = {row["name"]: row for row in table_of()}
    assert code == 0 and rows["halo"]["p_value"] < 1e-10
    # By itself the sidelobes of the bright one are what is found there.
    alone = detect_halo(Visibilities.read(path, weights="file"), EMPTY, radii=[2, 3, 4] * u.arcmin, rng=0)
    assert abs(alone.snr) > 4 and abs(rows["empty"]["snr"]) < 4
    assert "blended" in rows["close"]["flags"].split() and "blended" not in rows["empty"]["flags"].split()


def test_what_was_a_sidelobe_is_not_subtracted(run, written, targets):
    """At 20 Jy the sidelobes elsewhere are certain too, by themselves: the halo's flux must not feel them."""
    path = written(halos=[(HERE, 20 * u.Jy)], noise=0.5 * u.Jy)
    vis = Visibilities.read(path, weights="file")
    alone = {name: detect_halo(vis, place, radii=[2, 3, 4] * u.arcmin, rng=0)
             for name, place in {"halo": HERE, "empty": EMPTY, "there": THERE}.items()}
    assert any(one.snr > 0 and one.p_value < 1e-6 for name, one in alone.items() if name != "halo")
    run(path, "--targets", targets(halo=HERE, empty=EMPTY, there=THERE), "-o", "out", "--weights", "file", *RADII,
        "--quiet")
    rows = {row["name"]: row for row in table_of()}
    assert rows["halo"]["total_flux"].to_value(u.Jy) == pytest.approx(alone["halo"].flux.value, rel=1e-12)
    assert max(abs(rows[name]["snr"]) for name in ("empty", "there")) < 4


def test_cells_do_not_make_halos_of_what_is_far(run, written, targets, tmp_path):
    """A halo is subtracted before averaging; sources that cells would average away are refused, as is such a field."""
    path = written(halos=[(HERE, 20 * u.Jy)], points=[(EMPTY, 20 * u.Jy)], noise=0.5 * u.Jy)
    QTable({"position": SkyCoord([EMPTY]), "flux": [20] * u.Jy, "flux_err": [0.02] * u.Jy}).write(
        tmp_path / "sources.ecsv")
    away = CENTRE.directional_offset_by(180 * u.deg, 50 * u.deg)
    base = (path, "--weights", "file", "--bin", "4", *RADII, "--quiet", "-o", "out", "--overwrite")
    code, _, errors = run(*base, "--targets", targets(halo=HERE, away=away), "--sources", tmp_path / "sources.ecsv")
    assert code == 5 and re.search(
        r"away: the cells of --bin average away what is 50.* deg off.*found 4.0.; try: --bin 0.13", errors), errors
    assert table_of()["status"].tolist() == ["ok", "error"]
    write_uvfits(field(halos=[(HERE, 20 * u.Jy)], noise=0.5 * u.Jy), path, ARRAY, overwrite=True)
    assert run(*base, "--targets", targets(halo=HERE, away=away))[0] == 0
    assert abs(table_of()["snr"][1]) < 4
    code, _, errors = run(*base, "--search-radius", "5deg")
    assert code == 2 and "the cells of --bin average away what is 7.1 deg off" in errors


def test_pointings(run, written, tmp_path, targets):
    """Two files with different phase centres are added, and that is said; the same file twice is refused."""
    other = uvdata(field(seed=2), ARRAY)
    with offline():
        other.phase(lon=THERE.ra.rad, lat=THERE.dec.rad, phase_frame="icrs", cat_name="other")
        other.write_uvh5(str(tmp_path / "other.uvh5"), run_check_acceptability=False)
    first = written()
    base = ("--targets", targets(a=HERE), "-o", "out", "--weights", "file", *RADII, "--quiet")
    assert run(first, "other.uvh5", *base)[0] == 0
    assert "pointings" in table_of()["flags"][0].split()
    code, _, errors = run(first, first, *base, "--overwrite")
    assert code == 2 and "a file is given twice" in errors


def test_a_field_is_searched(run, written):
    code, _, errors = run(written(halos=[(HERE, 1 * u.Jy)]), "-o", "out", "--weights", "file", "--radii", "3arcmin",
                          "4.5arcmin", "--search-radius", "30arcmin")
    table = table_of()
    assert (code, errors) == (0, "") and len(table) == 1
    assert table["position"][0].separation(HERE) < 3 * u.arcmin
    assert "field-wide" in table["flags"][0] and table["p_value"][0] < 1e-4 and table.meta["search"] == "blind"


def test_an_empty_field(run, written):
    code, said, _ = run(written(), "-o", "out", "--weights", "file", "--radii", "5arcmin", "--search-radius",
                        "20arcmin")
    assert code == 0 and said.startswith("no candidates") and len(table_of()) == 0
    assert "Nothing was found" in Path("out/index.html").read_text(encoding="utf-8")


def test_nulls(run, targets, tmp_path):
    """Stokes V, off-positions and binned visibilities; a halo in Stokes V is none."""
    vis, circular = field(halos=[(HERE, 0.6 * u.Jy)]), field(halos=[(HERE, 2 * u.Jy)], noise=None).vis
    data = uvdata(vis, ARRAY)
    shape = data.data_array.shape
    # RR = I + V and LL = I − V, numbers −1 and −2 of AIPS.
    data.polarization_array, data.Npols = np.array([-1, -2]), 2
    data.data_array = np.concatenate([(vis.vis + sign * circular).reshape(shape) for sign in (1, -1)], axis=2)
    data.flag_array = np.zeros(data.data_array.shape, bool)
    data.nsample_array = np.full(data.data_array.shape, 0.5)
    data.telescope.feed_array = np.array([["r", "l"]] * len(ARRAY))
    data.telescope.feed_angle = np.zeros((len(ARRAY), 2))
    data.telescope.Nfeeds = 2
    with offline():
        data.write_uvfits(str(tmp_path / "rl.uvfits"), run_check_acceptability=False)
    assert run("rl.uvfits", "--targets", targets(halo=HERE), "-o", "out", "--weights", "file", "--stokes-v", "--bin",
               "1", "--offsets", "19", *RADII, "--quiet") == (0, "", "")
    row = table_of()[0]
    assert row["p_stokes_v"] < 1e-6 and "null-failed" in row["flags"].split()
    assert row["p_offsets"] == pytest.approx(1 / 20) and row["snr"] > 5
    assert table_of().meta["bin"] == 1.0


def test_few_off_positions_do_not_disagree(run, written, targets):
    """Of three none stands out as much; p cannot be less than 1/4."""
    assert run(written(halos=[(HERE, 2 * u.Jy)]), "--targets", targets(halo=HERE), "-o", "out", "--weights", "file",
               "--offsets", "3", *RADII, "--quiet")[0] == 0
    row = table_of()[0]
    assert row["p_offsets"] == pytest.approx(1 / 4) and row["flags"] == "no-sources"


def test_sources_that_are_left_out_show_at_off_positions(run, written, targets):
    bright = [(SkyCoord(ra, dec, unit="deg"), 20 * u.Jy) for ra, dec in ((30.3, -26.8), (29.6, -27.3), (30.9, -27.4))]
    assert run(written(points=bright), "--targets", targets(none=EMPTY), "-o", "out", "--weights", "file", "--offsets",
               "19", *RADII, "--quiet")[0] == 0
    row = table_of()[0]
    assert row["p_offsets"] > 0.05 and {"offsets-disagree", "no-sources"} <= set(row["flags"].split())


def test_flagged_visibilities(run, tmp_path, targets):
    data = uvdata(field(), ARRAY)
    data.flag_array[:] = True
    with offline():
        data.write_uvfits(str(tmp_path / "flagged.uvfits"), run_check_acceptability=False)
    base = ("flagged.uvfits", "--targets", targets(a=HERE), "-o", "out", *RADII, "--max-distance", "500")
    code, _, errors = run(*base)
    assert code == 2 and "every visibility is flagged" in errors
    assert run(*base, "--ignore-flags", "--quiet")[0] == 0
    assert "flags-ignored" in table_of()["flags"][0]


def test_sources_that_cannot_be_told_apart(run, written, targets, tmp_path):
    QTable({"position": SkyCoord([EMPTY, EMPTY]), "flux": [1, 1] * u.Jy}).write(tmp_path / "free.ecsv")
    code, _, errors = run(written(), "--targets", targets(a=HERE), "--sources", tmp_path / "free.ecsv", "-o", "out",
                          "--weights", "file", *RADII)
    assert code == 5 and errors.startswith("error: a: fluxes of sources that are free cannot be told apart")
    assert table_of()["status"].tolist() == ["error"]


@pytest.mark.parametrize(("options", "text"), [
    (["--offsets", "-1"], "--offsets and --seed must be 0 or more .found -1"),
    (["--bin", "0"], "--bin must be positive .found 0.0.; try: --bin 2"),
    (["--radii", "3arcmin", "2arcmin"], "--radii must be positive and ascending .found .3arcmin 2arcmin."),
    (["--radii", "3Jy"], "--radii takes an angle"),
    (["--confusion", "3arcmin"], "--confusion takes a positive flux density .found .3arcmin."),
    (["--bin", "inf"], "--bin must be positive .found inf."),
    (["--weights", "infJy"], "--weights takes a positive flux density .found .infJy."),
    (["--weights", "guess"], "--weights takes a positive flux density .found .guess."),
])
def test_options_that_are_refused(run, targets, options, text):
    code, _, errors = run("none.uvfits", "--targets", targets(a=HERE), "-o", "out", *options)
    assert code == 2
    assert re.search(text, errors), errors


def test_a_search_knows_nothing_of_confusion(run):
    code, _, errors = run("none.uvfits", "--confusion", "20mJy", "-o", "out")
    assert code == 2 and "--confusion needs --targets" in errors


def test_results_are_not_overwritten(run, written, targets, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "detections.vot").write_text("mine")
    base = (written(), "--targets", targets(a=HERE), "-o", "out", "--weights", "file", *RADII, "--quiet")
    code, _, errors = run(*base)
    assert code == 2 and "detections.vot: this file exists; try: --overwrite" in errors
    assert run(*base, "--overwrite") == (0, "", "")


def test_without_the_extra(run, targets, monkeypatch):
    monkeypatch.setitem(sys.modules, "halopy.uvshapelets.read", None)
    code, _, errors = run("field.uvfits", "--targets", targets(a=HERE), "-o", "out")
    assert code == 3 and "halopy-radio[uv]" in errors


def test_no_file(run, targets):
    code, _, errors = run("none.uvfits", "--targets", targets(a=HERE), "-o", "out")
    assert code == 2 and "none.uvfits: there is no such file" in errors
