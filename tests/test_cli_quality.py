"""``halopy quality``: what is handed to the page, what is said, and what is refused."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

import halopy.cli as cli
from halopy import CutoutSet
from halopy.testing import simulated_cutouts


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        said, errors = capsys.readouterr()
        return code, said, errors

    return run


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    path = tmp_path_factory.mktemp("quality") / "train.fits"
    simulated_cutouts(24, rng=1).write(path)
    return path


@pytest.fixture
def judged(monkeypatch):
    """What the page was asked to show, instead of the page."""
    asked = []
    monkeypatch.setitem(sys.modules, "halopy.quality_page", types.SimpleNamespace(
        write_quality=lambda *arguments, **settings: asked.append((arguments, settings))))
    return asked


def test_generated_images_are_judged(run, train, tmp_path, judged):
    for name, seed in (("a.fits", 2), ("b.fits", 3), ("again/a.fits", 4)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        simulated_cutouts(12, rng=seed).write(tmp_path / name)
    command = ["quality", "--real", train, "--generated", tmp_path / "a.fits", tmp_path / "b.fits",
               tmp_path / "again" / "a.fits", "-o", tmp_path / "out"]
    code, said, errors = run(*command)
    assert (code, errors) == (0, "")
    assert said.splitlines() == ["24 real images, 12 of a, 12 of b, 12 of a-2", "",
                                 f"{tmp_path / 'out' / 'index.html'}: the page to look at"]
    (folder, real, generated), settings = judged[0]
    assert str(folder) == str(tmp_path / "out") and settings == {"overwrite": False, "rng": 0}
    assert np.array_equal(real.data, CutoutSet.read(train).data)
    assert list(generated) == ["a", "b", "a-2"]
    assert np.array_equal(generated["a-2"].data, CutoutSet.read(tmp_path / "again" / "a.fits").data)
    assert run(*command, "--training", train, tmp_path / "b.fits", "--classifier", "pca-lr", "--seed",
               "3", "--overwrite", "--quiet") == (0, "", "")
    settings = judged[1][1]
    assert len(settings.pop("training")) == 36
    assert settings == {"overwrite": True, "rng": 3, "classifier": "pca-lr"}


@pytest.mark.parametrize(("more", "text"), [
    (["--classifier", "pca"], "did you mean 'pca-lr'?"),
    (["--classifier", "exponential"], "exponential is a generator, not a classifier"),
    (["--seed", "-1"], "--seed must be 0 or more"), (["--generated", "gone.fits"], "gone.fits"),
    (["-o", "there"], "index.html: this file exists; try: --overwrite, or another folder")])
def test_what_cannot_be_judged(run, train, tmp_path, monkeypatch, judged, more, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "index.html").write_text("mine")
    code, said, errors = run("quality", "--real", train, "--generated", train, "-o",
                             "out", *more)
    assert (code, said) == (2, "") and text in errors and len(errors.splitlines()) == 1 and judged == []
