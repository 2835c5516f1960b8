"""Catalogues of point sources: units, what is free, and what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table

from halopy.errors import HaloInputError, HalopyWarning
from halopy.uvshapelets.sources import read_sources

PLACES = {"ra": [30.0, 30.1, 30.2], "dec": [-27.0, -27.1, -27.2]}


def test_units_are_read_from_a_file(tmp_path):
    QTable(PLACES | {"flux": [100, 20, 3] * u.mJy, "flux_err": [5, 0, 0.2] * u.mJy}).write(tmp_path / "s.ecsv")
    sources = read_sources(tmp_path / "s.ecsv")
    assert sources.flux.to_value(u.Jy).tolist() == pytest.approx([0.1, 0.02, 0.003])
    assert sources.flux_err.to_value(u.Jy).tolist() == pytest.approx([0.005, 0, 0.0002])
    assert sources.position.separation(SkyCoord(PLACES["ra"], PLACES["dec"], unit="deg")).max() < 1 * u.mas


def test_what_has_no_error_is_free():
    assert np.isinf(read_sources(QTable(PLACES | {"flux": [1, 2, 3] * u.Jy})).flux_err).all()
    flux = MaskedColumn([1.0, 2.0, 3.0], mask=[False, True, False], unit="Jy")
    error = MaskedColumn([0.1, 0.2, 0.3], mask=[False, True, True], unit="Jy")
    sources = read_sources(Table(PLACES | {"flux": flux, "flux_err": error}))
    assert sources.flux.value.tolist() == [1, 0, 3] and sources.flux_err.value.tolist() == [0.1, np.inf, np.inf]


def test_numbers_without_a_unit_are_jansky(tmp_path):
    (tmp_path / "s.csv").write_text("ra,dec,flux\n30,-27,0.5\n")
    with pytest.warns(HalopyWarning, match="the column flux of the sources has no unit: it is taken for Jy"):
        assert read_sources(tmp_path / "s.csv").flux.to_value(u.Jy).tolist() == [0.5]


@pytest.mark.parametrize(("table", "text"), [
    (QTable(PLACES), "a catalogue of sources needs a column flux"),
    (QTable(PLACES | {"flux": [1, 2, 3] * u.m}), "flux must be a flux density .unit, found 'm'"),
    (QTable(PLACES | {"flux": [1, np.nan, 3] * u.Jy, "flux_err": [1, 1, 1] * u.Jy}),
     "a flux with an error must be there .flux, found 'none in row 2'"),
])
def test_what_is_refused(table, text):
    with pytest.raises(HaloInputError, match=text):
        read_sources(table)


def test_a_source_without_a_position():
    table = QTable({"ra": [30, np.nan], "dec": [-27, -27], "flux": [1, 2] * u.Jy})
    with pytest.warns(HalopyWarning), pytest.raises(HaloInputError, match="every source needs a position.*row 2"):
        read_sources(table)


def test_an_empty_catalogue():
    with pytest.raises(HaloInputError, match="this table has no rows"):
        read_sources(QTable({"ra": [], "dec": [], "flux": [] * u.Jy}))
