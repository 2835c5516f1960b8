from __future__ import annotations

import csv

import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable
from hypothesis import given
from hypothesis import strategies as st

from halopy import HaloInputError, is_positive
from halopy.labels import CLASSES, GRADES, LABELS, TALK_CLASSES, classify


def _talk_table(classes):
    rows = [TALK_CLASSES[c] for c in classes]
    return QTable(rows=rows, names=("label", "also", "grade"))


def test_the_23_targets_of_the_paper_are_positive():
    # arXiv 2411.15559: 10 H, 9 cH, one "cH or mH", one mH, two cmH.
    table = _talk_table(["H"] * 10 + ["cH"] * 9 + ["cH or mH", "mH", "cmH", "cmH"])
    assert is_positive(table).sum() == 23
    assert is_positive(table, grades=["confirmed"]).sum() == 11
    assert is_positive(table, grades=["confirmed"], mini_halo=False).sum() == 10
    assert is_positive(table, mini_halo=False).sum() == 20


def test_also_counts():
    table = QTable({"label": ["relic", "relic"], "also": ["phoenix, halo", ""]})
    assert is_positive(table).tolist() == [True, False]


def test_without_a_grade_a_label_is_confirmed():
    table = QTable({"label": ["halo"]})
    assert is_positive(table, grades=["confirmed"]).tolist() == [True]
    assert is_positive(table, grades=["candidate"]).tolist() == [False]


def test_masked_is_unknown():
    table = QTable({"label": MaskedColumn(["halo", "halo"], mask=[False, True])})
    assert is_positive(table).tolist() == [True, False]


def test_no_rows():
    assert is_positive(QTable({"label": np.array([], dtype=str)})).shape == (0,)


def test_no_label_column():
    with pytest.raises(HaloInputError, match="column 'label' is needed"):
        is_positive(QTable({"name": ["a"]}))


def test_unknown_label():
    with pytest.raises(HaloInputError, match=r"a label is one of halo, mini-halo.*found \['halos'\]"):
        is_positive(QTable({"label": ["halos"]}))


def test_grades_are_a_sequence():
    with pytest.raises(HaloInputError, match=r"grades must be a sequence .found 'confirmed'.*grades=\['confirmed'\]"):
        is_positive(QTable({"label": ["halo"]}), grades="confirmed")


def test_unknown_grade():
    with pytest.raises(HaloInputError, match="a grade is one of confirmed"):
        is_positive(QTable({"label": ["halo"]}), grades=["sure"])


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS), st.sampled_from(GRADES)), min_size=1))
def test_accepting_more_never_loses_a_row(rows):
    table = QTable(rows=rows, names=("label", "also", "grade"))
    everything = is_positive(table)
    for grade in GRADES:
        assert not (is_positive(table, grades=[grade]) & ~everything).any()
    assert not (is_positive(table, mini_halo=False) & ~everything).any()


# As the lists of images and clusters spell them.
HALOS = ["H", "cH", "mH", "cmH", "cH or mH", "cH/mH", "halo", "halo + relic", "halo + double relic", "candidate halo",
         "halo + relic (Coma; mostly resolved out)", "candidate halo (or mini-halo)", "mini-halo",
         "candidate mini-halo"]
OTHERS = ["N:relic", "N:relic/phoenix", "N:radio galaxy", "N:head-tail", "N:ORC", "N:other", "none (relic)",
          "none (relics)", "none (double relic)", "none (phoenix)", "none (relic/phoenix)", "none (phoenix/relic)",
          "none (radio galaxy)", "none (radio galaxy, FR I)", "none (radio galaxy, FR II)",
          "none (radio galaxy, hybrid)", "none (extended radio galaxy)", "none (tailed radio galaxies)",
          "none (odd radio circle field)", "none (other diffuse)", "none (other diffuse or radio galaxy)",
          "none (compact sources)", "none (compact sources, strong artefacts)",
          "none (blank field: file is centred at 98.79 +75.53, not on that cluster)"]
UNJUDGED = ["psf", "catalogue", "visibilities", "", "DS9 region", "labelled image set",
            "mask (1 = excluded: relics, residuals)",
            "unknown (a visual score only; halos are among the central ones)"]


def _table(words):
    return QTable(rows=[classify(w) for w in words], names=("label", "also", "grade"))


def test_every_class_has_its_place():
    assert sorted(HALOS + OTHERS + UNJUDGED) == sorted(CLASSES)
    assert is_positive(_table(HALOS)).all()
    assert not is_positive(_table(OTHERS)).any()
    assert not is_positive(_table(UNJUDGED)).any()
    for label, also, grade in map(classify, HALOS + OTHERS):
        assert label in LABELS
        assert also in (*LABELS, "")
        assert grade in GRADES
    assert {classify(w) for w in UNJUDGED} == {("", "", "")}


@pytest.mark.parametrize(("word", "expected"), [
    ("cH or mH", ("halo", "mini-halo", "candidate")), ("cH/mH", ("halo", "mini-halo", "candidate")),
    (" H ", ("halo", "", "confirmed")), ("N:head-tail", ("radio-galaxy", "", "confirmed")),
    ("N:ORC", ("orc", "", "confirmed")), ("none (phoenix/relic)", ("phoenix", "relic", "uncertain")),
    ("none (compact sources)", ("none", "", "confirmed")),
])
def test_classify(word, expected):
    assert classify(word) == expected


def test_a_word_that_nobody_knows():
    with pytest.raises(HaloInputError, match=r"no place among the labels.*found 'HALO\?'.*halopy.labels.CLASSES"):
        classify("HALO?")


@pytest.mark.parametrize(("name", "column", "rows"), [("clusters.csv", "class", 46), ("index.csv", "cls", 216)])
def test_every_row_of_the_real_lists(real_data, name, column, rows):
    with open(real_data / name, newline="", encoding="utf-8") as stream:
        words = [row[column] for row in csv.DictReader(stream)]
    assert len(words) == rows
    positive = is_positive(_table(words))
    # "mask (1 = excluded: relics ...)" and "unknown (... halos are among ...)" are no class of their image.
    no_halo = ("none", "N:", "mask", "unknown")
    expected = [not w.startswith(no_halo) and w.endswith(("H", "halo", "relic", "out)", "halo)")) for w in words]
    assert positive.tolist() == expected
