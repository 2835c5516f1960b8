"""The page of the quality of generated images: self-contained, escaped, with the numbers of the report."""

from __future__ import annotations

import re

import numpy as np
import pytest
from astropy.table import QTable
from pages import Reader

from halopy import simulate
from halopy.errors import HaloInputError
from halopy.generative.quality.measures import MEANINGS
from halopy.generative.quality.reference import gaussian_field, smoothed
from halopy.plot_quality import plot_curves, plot_rows
from halopy.quality_page import _interval, apart, write_quality

pytest.importorskip("matplotlib", reason="the page needs matplotlib")

EVIL = "</script><b>$x$</b><img src=http://evil.example/a.png onerror=alert(1)>"


@pytest.fixture(scope="module")
def sky():
    return simulate.cutouts(48, mix={"halo": 1, "none": 1}, rng=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory, sky):
    training = simulate.cutouts(48, mix={"halo": 1, "none": 1}, rng=2)
    folder = tmp_path_factory.mktemp("quality") / "new" / "folder"
    sets = {EVIL: gaussian_field(training, 48, rng=3), "smoothed": smoothed(training)}
    table = write_quality(folder, sky, sets, training=training, classifier="pca-lr", n=8, max_pictures=3, rng=1)
    return folder, table, (folder / "index.html").read_text(encoding="utf-8")


def test_nothing_is_loaded_from_elsewhere_and_names_are_escaped(made):
    reader = Reader(made[2])
    assert all(a["src"].startswith("data:image/png;base64,") for a in reader.all("img"))
    assert len(reader.all("script")) == 1 and not reader.all("link") and EVIL in reader.words
    assert all(a.get("alt") for a in reader.all("img")) and all(a.get("scope") for a in reader.all("th"))
    assert {a["href"][1:] for a in reader.all("a")} <= {a["id"] for _, a in reader.tags if "id" in a}


def test_every_section_is_there(made):
    assert re.findall(r'<section id="(\w+)"', made[2]) == ["overview", "numbers", "labels", "gallery", "curves",
                                                           "pairs", "legend"]
    # A gallery for each label, the curves, and the pairs of each generator.
    assert made[2].count("<img src=") == 2 + 1 + 2
    assert all(text.split(",")[0].split(";")[0] in made[2] for text in MEANINGS.values())


def test_the_numbers_are_those_of_the_table(made):
    folder, table, text = made
    read = QTable.read(folder / "quality.ecsv")
    assert read["value"].tolist() == pytest.approx(table["value"].tolist(), nan_ok=True)
    assert set(read["generator"]) == {EVIL, "smoothed"} and set(read.meta) == {EVIL, "smoothed"}
    for row in table[table["metric"] == "kid"]:
        assert _interval(row, ("value", "low", "high")) in text
    assert '<span class="bad">' in text
    # What is compared with the real images does not change their halves.
    floors = [table["floor"][(table["metric"] == "trts") & (table["generator"] == name)][0] for name in read.meta]
    assert floors[0] == floors[1]


def test_one_set_without_training_is_a_page_too(tmp_path, sky):
    for name in "ab":
        table = write_quality(tmp_path / name, sky, simulate.cutouts(30, mix={"halo": 1}, rng=4), classifier=None, n=5,
                              rng=3, title="A & B", max_pictures=2)
    text = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    assert "<title>A &amp; B</title>" in text and "pairs" not in re.findall(r'<section id="(\w+)"', text)
    assert set(table["generator"]) == {"generated"} and table.meta["generated"]["left_out"] == ["none"]
    assert text == (tmp_path / "b" / "index.html").read_text(encoding="utf-8")


def test_sets_that_share_no_label_with_each_other_have_no_curves(tmp_path, sky):
    labels = np.asarray(sky.table["label"])
    sets = {"a": sky[labels == "halo"], "b": sky[labels == "none"]}
    write_quality(tmp_path, sky, sets, classifier=None, n=3, max_pictures=1, rng=1)
    assert '<section id="curves">' not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_files_are_not_replaced_unasked(tmp_path, sky):
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(HaloInputError, match=r"index.html: this file exists; try: overwrite=True"):
        write_quality(tmp_path, sky, sky, classifier=None, n=2)
    assert (tmp_path / "index.html").read_text() == "mine"
    write_quality(tmp_path, sky, sky, classifier=None, n=2, max_pictures=1, overwrite=True)
    assert (tmp_path / "index.html").read_text(encoding="utf-8").startswith("<!DOCTYPE")


def test_what_cannot_be_written(tmp_path, sky):
    with pytest.raises(HaloInputError, match="at least one set of generated images"):
        write_quality(tmp_path, sky, {})
    (tmp_path / "file").write_text("")
    with pytest.raises(HaloInputError, match="cannot make this folder"):
        write_quality(tmp_path / "file" / "a", sky, sky, classifier=None, n=2, max_pictures=1)


@pytest.mark.parametrize(("metric", "numbers", "worse"), [
    ("kid", (2, 3, 0, 1), True), ("kid", (0.5, 3, 0, 1), False), ("kid", (-3, -2, 0, 1), False),
    ("coverage", (0.1, 0.2, 0.9, 1), True), ("coverage", (0.95, 1, 0.5, 0.6), False),
    ("nearest_ratio", (1.2, 1.3, 0.9, 1.1), False), ("nearest_ratio", (0, 0.1, 0.9, 1.1), True),
    ("diversity_pixels@halo", (1.2, 1.3, 0.9, 1.1), True), ("diversity_features", (0.2, 0.3, 0.9, 1.1), True),
    ("kid", (np.nan, np.nan, 0, 1), False)])
def test_what_is_worse_than_real(metric, numbers, worse):
    names = ("metric", "low", "high", "floor_low", "floor_high")
    assert apart(QTable(rows=[(metric, *numbers)], names=names)[0]) is worse


@pytest.mark.parametrize(("numbers", "text"), [
    ((0.12345, 0.1, 0.2), "0.123 (0.100 to 0.200)"), ((-0.01, -0.1, 0.2), "−0.010 (−0.100 to 0.200)"),
    ((1234.5, 1000, 2000), "1234 (1000 to 2000)"), ((12.34, 10, 20), "12.3 (10.0 to 20.0)"),
    ((0.5, np.nan, np.nan), "0.500"), ((np.nan, 0, 1), "–")])
def test_intervals_in_words(numbers, text):
    assert _interval(dict(zip("abc", numbers, strict=True)), "abc") == text


def test_the_gallery_has_one_stretch():
    rng = np.random.default_rng(1)
    figure = plot_rows({"real": rng.normal(size=(3, 9, 9)), "made": 100 * rng.normal(size=(2, 9, 9))}, columns=3,
                       titles={"made": ["a", "b"]})
    shown = [ax.images[0] for ax in figure.axes if ax.images]
    assert len(shown) == 5 and {image.get_clim() for image in shown} == {(-3, 30)}
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == ["a", "b"]


def test_the_curves_of_the_same_images_lie_on_each_other(sky):
    figure = plot_curves(sky, {"same": sky}, 30, n=10, rng=1)
    assert [ax.get_title() for ax in figure.axes] == ["pixels", "power spectrum", "radial profile", "profile: halo",
                                                      "profile: none"]
    for ax in figure.axes:
        real, same = (line.get_ydata() for line in ax.lines)
        assert same == pytest.approx(real, nan_ok=True)
