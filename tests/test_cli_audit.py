"""``halopy audit``: what is found, and with which exit code it ends."""

from __future__ import annotations

import re

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from evaluation import Copies, some

import halopy.cli as cli
from halopy import CutoutSet, classifiers


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        said, errors = capsys.readouterr()
        return code, said, errors

    return run


def sky(folder, name, *, names, groups, ra, seed=1, data=None):
    cutouts = some(len(names), rng=seed)
    table = QTable({"name": names, "group": groups, "label": np.full(len(names), "halo"),
                    "position": SkyCoord(ra, np.full(len(names), -30.0), unit="deg")})
    cutouts = cutouts.replace(table=table, **({} if data is None else {"data": data}))
    cutouts.write(folder / name)
    return cutouts


def test_a_clean_split(run, tmp_path):
    sky(tmp_path, "train.fits", names=["A13"], groups=["1"], ra=[10.0])
    sky(tmp_path, "test.fits", names=["A85"], groups=["2"], ra=[50.0], seed=2)
    assert run("audit", "--train", tmp_path / "train.fits", "--test", tmp_path / "test.fits") == (
        0, "nothing found: 1 cutouts to train on and 1 to judge with share nothing\n", "")


def test_one_cluster_under_two_names(run, tmp_path):
    """As the cluster of A520, which PSZ2 calls G195.75-24.32."""
    sky(tmp_path, "train.fits", names=["A520", "far"], groups=["1", "2"], ra=[73.54, 200.0])
    sky(tmp_path, "test.fits", names=["PSZ2 G195.75-24.32"], groups=["3"], ra=[73.545], seed=2)
    code, said, errors = run("audit", "--train", tmp_path / "train.fits", "--test", tmp_path / "test.fits", "-o",
                             tmp_path / "found.ecsv")
    assert code == 5 and errors == ""
    # 0.005 deg of right ascension at -30 deg are 0.26 arcmin.
    assert re.search(r"two-names: A520 and PSZ2 G195.75-24.32, 0.26 arcmin apart: .*give both one group", said)
    assert "far" not in said and "1 two-names" in said
    table = QTable.read(tmp_path / "found.ecsv", format="ascii.ecsv")
    assert table["kind"].tolist() == ["two-names"] and table["separation"].unit == u.arcmin
    code, _, errors = run("audit", "--train", tmp_path / "train.fits", "--test", tmp_path / "test.fits", "-o",
                          tmp_path / "found.ecsv")
    assert code == 2 and "this file exists" in errors


def test_augmented_copies(run, tmp_path):
    train = sky(tmp_path, "train.fits", names=["A520", "A13"], groups=["1", "2"], ra=[73.54, 10.0])
    # The same pixels turned by a right angle, under a name and at a place that do not tell.
    sky(tmp_path, "turned.fits", names=["new"], groups=["9"], ra=[300.0], data=np.rot90(train.data[0])[None])
    code, said, _ = run("audit", "--train", tmp_path / "train.fits", "--test", tmp_path / "turned.fits")
    assert code == 5 and "turned-copy: A520 and new" in said and "split first, then augment" in said
    # Brighter and turned: the pixels do not tell, the column does.
    made = sky(tmp_path, "x.fits", names=["A13"], groups=["9"], ra=[10.0], data=1.1 * np.rot90(train.data[1])[None])
    made.table["augmented_from"] = [1]
    made.write(tmp_path / "augmented.fits")
    code, said, _ = run("audit", "--train", tmp_path / "train.fits", "--test", tmp_path / "augmented.fits")
    assert code == 5 and "augmented-copy: A13 and A13" in said


@pytest.mark.parametrize("kind", ["generator", "classifier"])
def test_models_that_were_made_from_a_test_cluster(run, tmp_path, kind):
    train = sky(tmp_path, "train.fits", names=["A520", "A13"], groups=["1", "2"], ra=[73.54, 10.0])
    sky(tmp_path, "test.fits", names=["A85"], groups=["3"], ra=[100.0], seed=2)
    both = train.join(CutoutSet.read(tmp_path / "test.fits"))
    both.table["label"] = ["halo", "none", "halo"]
    model = Saved().fit(both) if kind == "generator" else classifiers.create("prevalence").fit(both)
    model.save(tmp_path / "made.safetensors")
    code, said, _ = run("audit", "--train", tmp_path / "train.fits", "--test", tmp_path / "test.fits", "--model",
                        tmp_path / "made.safetensors")
    assert code == 5 and re.search(r"model-saw-test: .*made.safetensors and group 3 \(A85\)", said)


class Saved(Copies):
    """A generator that leaves its images out of its file."""

    def _state(self):
        return {}


def test_many_findings_are_counted(run, tmp_path):
    names = [f"A{n}" for n in range(300)]
    for name, seed in (("train.fits", 1), ("test.fits", 2)):
        sky(tmp_path, name, names=names, groups=names, ra=np.arange(300.0), seed=seed)
    command = ["audit", "--train", tmp_path / "train.fits", "--test", tmp_path / "test.fits", "--radius"]
    code, said, _ = run(*command, "1arcmin")
    assert code == 5 and "... and 100 more" in said and "300 same-name" in said
    code, _, errors = run(*command, "wide")
    assert code == 2 and "--radius takes an angle" in errors
