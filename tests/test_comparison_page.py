"""The page of a comparison, its figure, and ``halopy compare``."""

from __future__ import annotations

import re

import numpy as np
import pytest
from astropy.table import QTable
from evaluation import Share, some
from pages import Reader
from test_evaluation_page import EVIL

import halopy.cli as cli
from halopy import classifiers, generators
from halopy.compare import arms_table, compare_augmentations
from halopy.comparison_page import write_comparison
from halopy.errors import HaloInputError
from halopy.plot_comparison import plot_differences
from halopy.testing import simulated_cutouts

pytest.importorskip("matplotlib", reason="the page needs matplotlib")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Scores of two classifiers with simulated images, and the cutouts."""
    cutouts = simulated_cutouts(24)
    scores = compare_augmentations(
        cutouts, {"mean": classifiers.create("pca-lr", size=16), EVIL: Share()},
        {"none": None, "physical": generators.create("exponential", shape=(80, 80))},
        folder=tmp_path_factory.mktemp("parts"), folds=3, seeds=1, progress=False)
    return scores, arms_table(scores, n=50, rng=1), cutouts


def test_the_page_has_all_numbers_and_loads_nothing(compared, tmp_path):
    scores, table, cutouts = compared
    write_comparison(tmp_path / "page.html", scores, table, cutouts=cutouts, title=EVIL)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Reader(text)
    words = " ".join(" ".join(page.words).split())
    for row in table:
        assert f"{row['value']:.3f}" in words
    n, beyond = table.meta["n_differences"], table.meta["n_beyond_zero"]
    assert f"{n} differences from none: the interval of {beyond} leaves out 0" in words
    assert [tag["id"] for tag in page.all("section")] == ["overview", "differences", "numbers", "power", "cost",
                                                          "images", "legend"]
    assert all(tag["src"].startswith("data:image/png;base64,") for tag in page.all("img"))
    assert not page.all("script")[1:] and "<b>x</b>" not in text and not page.all("link")
    # Real ones and generated ones, a picture for each label.
    assert len(page.all("img")) == 1 + len(set(cutouts.table["label"]))
    assert re.search(r"3 folds, dealt 1 times, seed 0", words)
    with pytest.raises(HaloInputError, match="this file exists"):
        write_comparison(tmp_path / "page.html", scores, table)


def test_numbers_stand_where_they_belong(compared, tmp_path):
    scores, table, cutouts = compared
    write_comparison(tmp_path / "page.html", scores, table)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    lines = re.findall("<tr.*?</tr>", text[text.index('id="numbers"'):text.index('id="power"')], flags=re.DOTALL)
    row = next(line for line in lines if ">mean<" in line and "physical x2" in line)
    cells = re.findall(r"<td class=.n.>(.*?)</td>", row)
    for cell, one in zip(cells, table[(table["classifier"] == "mean") & (table["arm"] == "physical x2")], strict=True):
        assert cell.startswith(f"{one['value']:.3f} ")
        assert f"{one['difference']:+.3f}".replace("-", "−") in cell
    # Without a column of the noise, it is that of the pixels.
    bare = cutouts.replace(table=cutouts.table[[n for n in cutouts.table.colnames if n != "rms"]])
    write_comparison(tmp_path / "bare.html", scores, table, cutouts=bare)


def test_a_page_of_classifiers_alone_has_no_images(compared, tmp_path):
    scores = {arm: table for arm, table in compared[0].items() if arm[1] == "none"}
    write_comparison(tmp_path / "page.html", scores, arms_table(scores, n=20, rng=1), overwrite=True)
    page = Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "images" not in [tag["id"] for tag in page.all("section")] and len(page.all("img")) == 1
    one = {arm: table for arm, table in scores.items() if arm[0] == "mean"}
    write_comparison(tmp_path / "page.html", one, arms_table(one, n=20, rng=1), overwrite=True)
    page = Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [tag["id"] for tag in page.all("section")] == ["overview", "numbers", "cost", "legend"]


def test_each_difference_is_drawn_where_it_is():
    table = QTable({"classifier": ["cnn"] * 3, "arm": ["none", "cwgan x1", "cwgan x2"], "metric": ["brier"] * 3,
                    "difference": [np.nan, -0.02, 0.01], "difference_low": [np.nan, -0.03, -0.01],
                    "difference_high": [np.nan, -0.01, 0.03], "detectable": [np.nan, 0.03, 0.05]})
    (ax,) = plot_differences(table).axes
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in points] == [-0.02, 0.01]
    # Filled where the interval leaves out 0; one colour for one augmentation.
    assert [line.get_markerfacecolor() == line.get_color() for line in points] == [True, False]
    assert points[0].get_color() == points[1].get_color()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["cnn: cwgan x1", "cnn: cwgan x2"]
    with pytest.raises(HaloInputError, match="there are no differences to draw.*roc_auc"):
        plot_differences(table, metrics=["roc_auc"])
    with pytest.raises(HaloInputError, match="there are no differences to draw"):
        plot_differences(table[:1])


# ------------------------------------------------------------------------------------------------- the command

@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = cli.main(["compare", *map(str, arguments)])
        said, errors = capsys.readouterr()
        return code, said, errors

    return run


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    path = tmp_path_factory.mktemp("sky") / "sky.fits"
    some(24).write(path)
    return path


def test_the_command_writes_tables_and_a_page(run, tmp_path):
    simulated_cutouts(18).write(tmp_path / "sky.fits")
    command = ["--cutouts", tmp_path / "sky.fits", "--classifier", "pca-lr", "--augmentation", "none", "classical",
               "exponential", "--set", "classical.orientations=4", "classical.brightness=None",
               "exponential.shape=(80, 80)", "pca-lr.size=16", "--ratio", "1", "--size", "44", "--folds", "3",
               "--seeds", "1", "--draws", "20", "-o", tmp_path / "out"]
    code, said, errors = run(*command)
    assert (code, errors) == (0, "")
    lines = said.splitlines()
    assert lines[0].split()[:2] == ["classifier", "arm"] and [line.split()[1] for line in lines[1:4]] == [
        "none", "classical", "exponential"]
    assert "differences leave out 0" in said and "four of five repeats" in said
    table = QTable.read(tmp_path / "out" / "arms.ecsv")
    assert len(table) == 12 and len(QTable.read(tmp_path / "out" / "costs.ecsv")) == 3
    assert Reader((tmp_path / "out" / "index.html").read_text(encoding="utf-8")).all("img")
    code, _, errors = run(*command)
    assert code == 2 and "this file exists" in errors
    code, said, errors = run(*command, "--overwrite", "--quiet")
    assert (code, said, errors) == (0, "", "")
    again = QTable.read(tmp_path / "out" / "arms.ecsv")
    for name in ("value", "low", "difference"):
        np.testing.assert_array_equal(again[name], table[name])


def test_the_command_scores_another_set(run, sky, tmp_path):
    some(12, rng=2).write(tmp_path / "test.fits")
    code, said, errors = run("--cutouts", sky, "--test", tmp_path / "test.fits", "--classifier", "prevalence",
                             "--folds", "3", "--draws", "5", "-o", tmp_path / "out")
    assert (code, errors) == (0, "")
    assert "6 targets with a halo and 6 without, in 12 groups" in said and "leave out" not in said


@pytest.mark.parametrize(("more", "message"), [
    (["--set", "width=8"], "--set takes a name, a setting and a value"),
    (["--set", "cnn.width=8"], "--set names what is not compared.*prevalence, none"),
    (["--set", "none.width=8"], "none has no settings"), (["--draws", "0"], "--draws must be 1 or more"),
    (["--augmentation", "classical"], "classical augmentation turns cutouts.*0.7 of the pixels"),
    (["--augmentation", "cnn"], "cnn is a classifier, not a generator"),
    (["--set", "prevalence.width=8"], "prevalence has no setting 'width'"),
    (["--ratio", "-1", "--augmentation", "exponential"], "a ratio must be a positive number"),
    (["--folds", "1"], "folds must be a whole number, 2 or more")])
def test_what_the_command_refuses(run, sky, tmp_path, more, message):
    code, _, errors = run("--cutouts", sky, "--classifier", "prevalence", "-o", tmp_path / "out", *more)
    assert code == 2 and re.search(message, errors)
    assert not (tmp_path / "out" / "arms.ecsv").exists()
