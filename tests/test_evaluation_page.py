"""The page of an evaluation: self-contained, escaped, complete, with the numbers of the report; and its curves."""

from __future__ import annotations

import re

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from evaluation import Mean, Nearest, some
from pages import Reader

from halopy.classify.evaluate import compare, cross_validate, evaluate
from halopy.classify.metrics import average_precision, roc_auc
from halopy.errors import HaloInputError
from halopy.evaluation_page import PREVALENCES, write_evaluation
from halopy.evaluation_tables import interval, metric_name
from halopy.plot_evaluation import GRID, plot_gallery, plot_training, precision_curve, roc_curve

pytest.importorskip("matplotlib", reason="the page needs matplotlib")

EVIL = "</script><b>x</b><img src=http://evil.example/a.png onerror=alert(1)>\"'"


def sky(n_groups=24, each=2):
    """Two bands of every cluster, in two surveys, with grades and S/N."""
    cutouts = some(n_groups, each=each, signal=2)
    table = cutouts.table
    member = np.arange(len(cutouts)) // each
    table["image"] = np.where(member % 2, "field of gleam-170-231", "field of gleam-x-170-231")
    table["grade"] = np.where(table["label"] == "halo", np.where(member % 3 == 0, EVIL, "confirmed"), "")
    table["snr"] = np.where(table["label"] == "halo", 4.0 + member % 5, 0.0)
    table["rms"] = np.ones(len(cutouts))
    return cutouts


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    cutouts = sky()
    models = {"mean <1>": Mean(slope=8), "nearest": Nearest(), "flat": Mean(slope=0)}
    scores = {name: cross_validate(model, cutouts, folds=3, seeds=2, rng=1) for name, model in models.items()}
    table = compare(scores, baseline="flat", prevalences=PREVALENCES, n=40, rng=1)
    path = tmp_path_factory.mktemp("page") / "index.html"
    write_evaluation(path, scores, table=table, baseline="flat", cutouts=cutouts, n=20, rng=1)
    return path, scores, table, cutouts


def test_nothing_is_loaded_from_elsewhere_and_names_are_escaped(made):
    text = made[0].read_text(encoding="utf-8")
    reader = Reader(text)
    assert all(a["src"].startswith("data:image/png;base64,") for a in reader.all("img"))
    assert len(reader.all("script")) == 1 and not reader.all("link") and "@import" not in text
    assert not [a for a in reader.all("img") if "onerror" in a]
    assert "mean <1>" in reader.words and EVIL in reader.words
    assert all(a.get("alt") for a in reader.all("img")) and all(a.get("scope") for a in reader.all("th"))
    assert {a["href"][1:] for a in reader.all("a")} <= {a["id"] for _, a in reader.tags if "id" in a}


def test_every_section_is_there(made):
    text = made[0].read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', text) == [
        "overview", "numbers", "curves", "matrix", "reliability", "training", "parts", "mass", "blank", "mistakes",
        "legend"]
    for part in ("By survey", "By band", "By grade", "By label", "By S/N", "gleam-x-170-231", "band 1"):
        assert part in text
    # Bands differ between the cutouts of a target, surveys do not.
    assert text.count("Of single cutouts") == 1
    assert "<b>24</b><span>targets</span>" in text and "<b>24</b><span>groups</span>" in text


def test_the_numbers_are_those_of_the_report(made):
    path, _, table, _ = made
    text = path.read_text(encoding="utf-8")
    for row in table:
        if row["metric"] in ("roc_auc", "average_precision@1%", "brier", "calibration_error"):
            assert interval(row["value"], row["low"], row["high"]) in text
    row = next(r for r in table if r["model"] == "mean <1>" and r["metric"] == "roc_auc")
    assert f"{row['difference']:+.3f}" in text and "flat (baseline)" in text
    counts = {r["metric"]: r["value"] for r in table if r["model"] == "nearest"}
    matrix = text[text.index("<caption>nearest"):]
    matrix = [float(number) for number in re.findall(r'<td class="n">([\d.]+)', matrix)[:4]]
    assert matrix == pytest.approx([counts[name] for name in ("true_positives", "false_negatives", "false_positives",
                                                              "true_negatives")], abs=0.05)


def test_the_mistakes_are_those_of_the_first_model_that_is_no_baseline(made):
    path, _, _, _ = made
    text = path.read_text(encoding="utf-8")
    assert "<h2>Mistakes of mean &lt;1&gt;</h2>" in text
    section = text[text.index('id="mistakes"'):]
    listed = section[section.index("<h3>List</h3>"):]
    rows = listed[:listed.index("</table>")].count("<tr>") - 1
    assert f"{section.count('missed</td>')} halos are missed" in section and rows > 0
    assert "Flagged without a halo" in section or "Halos that were missed" in section


def test_one_table_is_a_page_too_and_what_is_not_known_is_left_out(tmp_path):
    cutouts = some(12, signal=8)
    cutouts.table = cutouts.table["name", "group", "label"]
    cutouts.table["label"] = np.where(cutouts.table["label"] == "halo", "halo", "none")
    write_evaluation(tmp_path / "a.html", evaluate(Mean(slope=1), cutouts), n=5, title="A & B", rng=1)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<title>A &amp; B</title>" in text and "(baseline)" not in text.replace("model (baseline)", "")
    assert not {"training", "mass", "blank"} & set(re.findall(r'<section id="(\w+)"', text))
    assert "a little too narrow" in text


def test_a_page_without_mistakes(tmp_path):
    cutouts = some(12, signal=60)
    shifted = cutouts.replace(data=cutouts.data - 7.5)
    write_evaluation(tmp_path / "a.html", evaluate(Mean(slope=4), shifted), cutouts=shifted, n=5, rng=1)
    assert "Every target is on the right side of 0.5" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_the_same_rng_draws_the_same_page(tmp_path):
    scores = evaluate(Mean(), some(12))
    for name in "ab":
        write_evaluation(tmp_path / f"{name}.html", scores, n=10, rng=3)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize(("change", "text"), [
    ({"scores": {}}, "at least one table of scores"), ({"baseline": "x"}, "the baseline must be one of the models"),
    ({"cutouts": some(3)}, "cutouts must be those that were scored"),
    ({"table": QTable({"model": ["x"]})}, "table must be from compare"),
    ({"scores": QTable({"a": [1]})}, "a table of scores has a column 'probability'")])
def test_what_cannot_be_shown(tmp_path, change, text):
    settings = {"scores": {"a": evaluate(Mean(), some(8))}, "n": 3} | change
    with pytest.raises(HaloInputError, match=text):
        write_evaluation(tmp_path / "a.html", settings.pop("scores"), **settings)
    assert not (tmp_path / "a.html").exists()


# ------------------------------------------------------------------------------------------------- curves

def drawn(n=4000, rng=1):
    rng = np.random.default_rng(rng)
    positive = rng.random(n) < 0.4
    probability = np.round(1 / (1 + np.exp(-rng.normal(positive * 1.5, 1))), 2)
    return probability, positive, rng.integers(3, size=n)


def test_the_area_under_the_roc_curve_is_the_number_beside_it():
    probability, positive, fold = drawn()
    # Folds with zero points of their own: the pooled curve would be another.
    probability = (probability + fold) / 3
    area = np.trapezoid(roc_curve(probability, positive, fold), GRID)
    assert area == pytest.approx(roc_auc(probability, positive, within=fold), abs=2e-3)
    assert abs(area - roc_auc(probability, positive)) > 0.05


@pytest.mark.parametrize("prevalence", PREVALENCES)
def test_the_area_under_the_precision_curve_is_the_average_precision(prevalence):
    probability, positive, _ = drawn()
    area = np.trapezoid(precision_curve(probability, positive, prevalence), GRID)
    assert area == pytest.approx(average_precision(probability, positive, prevalence=prevalence), abs=0.02)


def test_a_perfect_and_an_uninformed_classifier():
    positive = np.arange(40) % 2 == 0
    fold = np.zeros(40, dtype=int)
    assert roc_curve(positive * 1.0, positive, fold) == pytest.approx(1)
    assert roc_curve(np.full(40, 0.5), positive, fold) == pytest.approx(GRID, abs=1e-6)
    for prevalence in PREVALENCES:
        assert precision_curve(positive * 1.0, positive, prevalence) == pytest.approx(1)
        assert precision_curve(np.full(40, 0.5), positive, prevalence) == pytest.approx(prevalence)
    one_class = np.ones(40, dtype=bool)
    assert np.isnan(roc_curve(positive * 1.0, one_class, fold)).all()
    assert np.isnan(precision_curve(positive * 1.0, one_class, 0.5)).all()


def test_training_runs_that_end_at_their_own_epochs():
    runs = [{"seed": 0, "fold": k, "curve": {"epoch": list(range(1, n + 1)), "train_loss": [1.0 + k] * n}}
            for k, n in enumerate((2, 3))]
    line = plot_training({"a": runs}).axes[0].lines[0]
    # The third epoch is that of the second run alone.
    assert line.get_xdata().tolist() == [1, 2, 3] and line.get_ydata().tolist() == [1.5, 1.5, 2.0]


def test_training_runs_of_a_generator_are_drawn_over_images():
    runs = [{"seed": 0, "fold": 0, "curve": {"images": [5000, 10000], "critic_loss": [2.0, 1.0], "diversity": [0, 1]}}]
    axes = plot_training({"a": runs}).axes[0]
    assert axes.get_xlabel() == "images" and axes.lines[0].get_xdata().tolist() == [5000, 10000]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["critic loss"]


def test_the_gallery_has_one_stretch():
    cutouts = some(8)
    cutouts.data[3] = np.nan
    figure = plot_gallery(cutouts, [f"target {k}" for k in range(8)])
    assert {ax.images[0].get_clim() for ax in figure.axes} == {(-3, 30)}
    cutouts.table["rms"] = np.full(8, 2.0)
    shown = plot_gallery(cutouts, [""] * 8).axes[0].images[0].get_array()
    assert np.asarray(shown) == pytest.approx(cutouts.data[0] / 2)
    with_unit = cutouts.replace(unit=u.mJy / u.beam)
    with_unit.table["rms"] = np.full(8, 0.002) * u.Jy / u.beam
    assert np.asarray(plot_gallery(with_unit, [""] * 8).axes[0].images[0].get_array()) == pytest.approx(
        cutouts.data[0] / 2)


@pytest.mark.parametrize(("numbers", "text"), [
    ((0.5, 0.25, 0.75), "0.500 (0.250–0.750)"), ((0.5, np.nan, np.nan), "0.500"), ((np.nan, 0, 1), "–")])
def test_intervals_in_words(numbers, text):
    assert interval(*numbers) == text


@pytest.mark.parametrize(("metric", "name"), [
    ("roc_auc", "ROC area"), ("precision@1%", "precision at 1 % halos"), ("recall", "recall"),
    ("average_precision@50%", "average precision at 50 % halos"),
    ("recall@false_positive_rate=1%", "recall at 1 % false positives")])
def test_metrics_in_words(metric, name):
    assert metric_name(metric) == name
