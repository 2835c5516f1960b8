from __future__ import annotations

import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable
from hypothesis import given
from hypothesis import strategies as st

from halopy import HaloInputError, is_positive
from halopy.labels import GRADES, LABELS, TALK_CLASSES


def _talk_table(classes):
    rows = [TALK_CLASSES[c] for c in classes]
    return QTable(rows=rows, names=("label", "also", "grade"))


def test_the_23_targets_of_the_paper_are_positive():
    # arXiv 2411.15559: 10 H, 9 cH, one "cH or mH", 3 mH or cmH.
    table = _talk_table(["H"] * 10 + ["cH"] * 9 + ["cH or mH"] + ["mH"] * 2 + ["cmH"])
    assert is_positive(table).sum() == 23
    assert is_positive(table, grades=["confirmed"]).sum() == 12
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
