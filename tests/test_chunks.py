"""Sets of simulated cutouts in numbered files: resumed, extended, refused."""

from __future__ import annotations

import dataclasses
import json
import weakref

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable

from halopy import CutoutSet, simulate, surveys
from halopy.cutouts import tangent_wcs
from halopy.errors import HaloInputError
from halopy.image import Beam, ClusterImage
from halopy.io.cache import alone_in
from halopy.simulate import chunks
from halopy.simulate.population import PowerMass

SMALL = {"shape": (8, 10), "faintest": 100 * u.mJy}


def write(folder, n=10, **changes):
    return simulate.write_cutouts(folder, n, **({"chunk": 4, "settings": SMALL, "rng": 3} | changes))


@pytest.fixture
def counted(monkeypatch):
    """The sizes of the sets that the simulator is asked for; it never finds an earlier one in memory."""
    asked, alive = [], []

    def cutouts(n, **settings):
        assert [made() for made in alive] == [None] * len(alive)
        asked.append(n)
        made = simulate.cutouts(n, **settings)
        alive.append(weakref.ref(made))
        return made

    cutouts.__signature__ = __import__("inspect").signature(simulate.cutouts)
    monkeypatch.setattr(chunks, "cutouts", cutouts)
    return asked


def test_files_of_one_set(tmp_path, counted):
    paths = write(tmp_path / "new" / "set")
    assert [path.name for path in paths] == ["cutouts-00000.fits", "cutouts-00001.fits", "cutouts-00002.fits"]
    assert counted == [4, 4, 2]
    plan = json.loads((tmp_path / "new" / "set" / "cutouts.json").read_text())
    assert (plan["n"], plan["chunk"], plan["seed"]) == (10, 4, 3)
    assert plan["settings"]["shape"] == "(8, 10)" and plan["settings"]["faintest"] == "100.0 mJy"
    sets = list(simulate.read_cutouts(tmp_path / "new" / "set"))
    assert [made.shape for made in sets] == [(4, 8, 10), (4, 8, 10), (2, 8, 10)]
    joined = sets[0].join(*sets[1:])
    assert len(set(joined.table["name"])) == 10
    sources = joined.meta["sources"]
    np.testing.assert_array_equal(np.asarray(joined.table["name"])[sources["cutout"]], sources["name"])
    # File k is what default_rng([seed, k]) draws, whatever came before.
    alone = simulate.cutouts(4, **SMALL, rng=np.random.default_rng([3, 1]))
    np.testing.assert_array_equal(sets[1].data, alone.data)


def test_an_interrupted_run_goes_on_with_the_same_bytes(tmp_path, counted):
    whole = [path.read_bytes() for path in write(tmp_path / "whole")]

    def stop(items):
        for k in items:
            if k == 1:
                raise KeyboardInterrupt
            yield k

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "part", progress=stop)
    with pytest.raises(HaloInputError, match="2 of 3 files are missing.*cutouts-00001.fits.*goes on where it stopped"):
        simulate.read_cutouts(tmp_path / "part")
    counted.clear()
    paths = write(tmp_path / "part")
    assert counted == [4, 2]
    # The checksum cards of FITS hold the time of writing.
    for path, expected in zip(paths, whole, strict=True):
        made, other = CutoutSet.read(path), CutoutSet.read(tmp_path / "whole" / path.name)
        assert made.data.tobytes() == other.data.tobytes() and len(path.read_bytes()) == len(expected)
        assert all((made.meta["sources"][n] == other.meta["sources"][n]).all() for n in ("name", "seed", "flux"))
    counted.clear()
    assert write(tmp_path / "part") == paths and counted == []


def test_what_a_killed_writer_has_left_is_removed(tmp_path):
    paths = write(tmp_path)
    paths[1].unlink()
    for name in (".cutouts-00001.fits-abcdefgh.fits", ".cutouts.json-abcdefgh.json"):
        (tmp_path / name).write_text("half")
    with alone_in(tmp_path), pytest.raises(HaloInputError, match="another process writes into this folder"):
        write(tmp_path)
    write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"cutouts.json", *(path.name for path in paths)}


def test_a_full_set_can_be_made_longer(tmp_path, counted):
    write(tmp_path / "set", 8)
    before = (tmp_path / "set" / "cutouts-00001.fits").read_bytes()
    counted.clear()
    assert len(write(tmp_path / "set", 11)) == 3 and counted == [3]
    assert (tmp_path / "set" / "cutouts-00001.fits").read_bytes() == before
    assert sum(map(len, simulate.read_cutouts(tmp_path / "set"))) == 11
    with pytest.raises(HaloInputError, match=r"a set of 11 cutouts cannot be made longer.* \(12 would be\)"):
        write(tmp_path / "set", 12)
    with pytest.raises(HaloInputError, match="made with n 11, not 8; try: another folder"):
        write(tmp_path / "set", 8)


@pytest.mark.parametrize(("changes", "text"), [
    ({"chunk": 5}, "chunk 4, not 5"), ({"rng": 4}, "seed 3, not 4"),
    ({"settings": SMALL | {"survey": "nvss"}}, "survey 'gleam-170-231', not 'nvss'"),
    ({"settings": {"shape": (8, 10)}}, "faintest 100.0 mJy, not None"),
    ({"settings": SMALL | {"artefacts": simulate.Artefacts(stripes=0)}},
     r"artefacts Artefacts\(sidelobes=0.005, stripes=0.2, .*, not Artefacts\(sidelobes=0.005, stripes=0, ")])
def test_another_set_in_the_folder_is_refused_with_what_differs(tmp_path, changes, text):
    write(tmp_path)
    with pytest.raises(HaloInputError, match=f"the cutouts in this folder were made with .*{text}"):
        write(tmp_path, **changes)
    # What is written out and what is the default are the same.
    write(tmp_path, settings=SMALL | {"survey": "gleam-170-231", "mix": None})


def test_another_version_is_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / "cutouts.json"
    path.write_text(path.read_text().replace('"halopy": "', '"halopy": "9'))
    with pytest.raises(HaloInputError, match="made with halopy 9"):
        write(tmp_path)


def test_a_folder_that_is_no_set(tmp_path):
    with pytest.raises(HaloInputError, match=r"has no cutouts.json"):
        simulate.read_cutouts(tmp_path)
    (tmp_path / "cutouts-00007.fits").write_text("somebody's")
    with pytest.raises(HaloInputError, match="holds cutouts, but no cutouts.json"):
        write(tmp_path)
    for text in ("{", "[]", '{"n": 0, "chunk": 1, "settings": {}}', '{"n": "4", "chunk": 1, "settings": {}}'):
        (tmp_path / "cutouts.json").write_text(text)
        with pytest.raises(HaloInputError, match="was not written by write_cutouts"):
            write(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(HaloInputError, match="cannot make this folder"):
        write(tmp_path / "file" / "set")


def test_files_that_do_not_hold_what_they_should(tmp_path):
    path = write(tmp_path)[1]
    content = path.read_bytes()
    for damaged in (b"", b"no FITS", content[:3000], content[:-2880]):
        path.write_bytes(damaged)
        with pytest.raises(HaloInputError, match=r"cutouts-00001.fits: this file cannot be read.*delete it"):
            write(tmp_path)
        with pytest.raises(HaloInputError, match="cannot be read"):
            simulate.read_cutouts(tmp_path)
    simulate.cutouts(3, **SMALL, rng=1).write(path, overwrite=True)
    with pytest.raises(HaloInputError, match=r"cutouts-00001.fits: this file must hold 4 cutouts \(found 3\)"):
        write(tmp_path)
    fits.PrimaryHDU(np.zeros((4, 8, 10))).writeto(path, overwrite=True)
    with pytest.raises(HaloInputError, match="must hold 4 cutouts .*no CutoutSet"):
        write(tmp_path)


@pytest.mark.parametrize(("changes", "text"), [
    ({"n": 0}, "n must be a whole number, 1 or more"), ({"n": 2.0}, "n must be a whole number"),
    ({"chunk": 0}, "chunk must be a whole number, 1 or more"), ({"rng": -1}, "must be a whole number, 0 or more"),
    ({"rng": np.random.default_rng(1)}, "the seed of the set, so that it can be continued, must be a whole"),
    ({"settings": {"rng": 1}}, r"settings are those of simulate.cutouts: survey, mix.*write_cutouts\(..., rng="),
    ({"settings": {"beam": 1}}, "settings are those of simulate.cutouts: survey, mix, shape.*found 'beam'"),
    ({"settings": {"mix": object()}}, "a setting of this type cannot be described in cutouts.json"),
    ({"settings": {"positions": SkyCoord([1], [2], unit="deg")}}, "positions must be a SkyCoord of 10"),
    ({"settings": {"survey": "glem"}}, "no survey is called 'glem'")])
def test_arguments_that_cannot_be_leave_no_set(tmp_path, changes, text):
    with pytest.raises(HaloInputError, match=text):
        write(tmp_path / "set", **changes)
    # So that the right arguments are not refused afterwards.
    assert not (tmp_path / "set" / "cutouts.json").exists()


def test_positions_are_shared_out(tmp_path):
    positions = SkyCoord(np.arange(10.0), np.linspace(-60, 0, 10), unit="deg")
    write(tmp_path, settings=SMALL | {"positions": positions})
    sets = simulate.read_cutouts(tmp_path)
    dec = np.concatenate([made.table["position"].dec.deg for made in sets])
    np.testing.assert_allclose(dec, positions.dec.deg)
    with pytest.raises(HaloInputError, match=r"positions SkyCoord [0-9a-f]{64}, not SkyCoord [0-9a-f]{64}"):
        write(tmp_path, settings=SMALL | {"positions": positions[::-1]})


def test_settings_are_told_apart():
    """The text of two settings is the same only if the settings are."""
    nvss = surveys["nvss"]
    psf = ClusterImage(np.eye(5), wcs=tangent_wcs(SkyCoord(1, 2, unit="deg"), 9 * u.arcsec, (5, 5)), unit="Jy",
                       beam=Beam(20 * u.arcsec))
    clusters = QTable({"redshift": [0.1, 0.2], "m500": [3, 4] * u.Unit("1e14 solMass"), "name": ["a", "b"]})
    other = clusters.copy()
    other["m500"] = [3, 4] * u.Unit("1e13 solMass")
    values = [None, "nvss", nvss, dataclasses.replace(nvss, rms=nvss.rms * (1 + 1e-12)), 1, 1.0, True, (1, 2), (2, 1),
              3 * u.mJy, 3 * u.Jy, 0.1 * u.mJy, (0.1 + 1e-16) * 3 * u.mJy, {"halo": 1, "none": 2},
              {"none": 2, "halo": 1}, clusters, clusters[::-1], other, psf, psf.replace(data=2 * psf.data),
              psf.replace(beam=Beam(21 * u.arcsec)), PowerMass(1 * u.GHz, 25, 3, 0.3), PowerMass(1 * u.GHz, 25, 3, 0.4),
              SkyCoord([1, 2], [3, 4], unit="deg"), SkyCoord([1, 2], [3, 5], unit="deg"), [3, 4] * u.mJy, [3, 4] * u.Jy,
              np.float64(1.5)]
    texts = [chunks._text(value) for value in values]
    assert len(set(texts)) == len(texts)
    with np.printoptions(precision=1):
        assert [chunks._text(value) for value in values] == texts
    assert chunks._text(clusters.copy()) == chunks._text(clusters) and chunks._text([1, 2]) == chunks._text((1, 2))
    assert chunks._text(np.int64(4)) == "4"
