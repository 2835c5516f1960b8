"""The generators that ship: their files are those of their cards, and the page says what the cards say."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from importlib.resources import files

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from halopy.registry import generators

DATA = files("halopy") / "data"
NAMES = ("cwgan", "diffusion")


def card_of(name):
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=NAMES)
def shipped(request):
    return request.param, generators.pretrained(request.param), card_of(request.param)


@pytest.fixture
def tools(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "tools"))
    yield
    for name in ("make_generator_cards", "train_generators"):
        sys.modules.pop(name, None)


def test_the_file_is_that_of_the_card(shipped):
    name, model, card = shipped
    content = (DATA / f"{name}.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    # Each is under 12 MB, so that the package stays small.
    assert len(content) < 12e6
    assert (repr(model), model.weights_id) == (card["model"], card["weights"])
    assert len(model.groups_) == card["simulated"]["groups"]
    assert int(model.history["images"][-1]) == card["images"]


def test_it_makes_every_label_it_was_trained_on(shipped):
    _, model, card = shipped
    labels = [label for label, share in card["simulated"]["labels"].items() if share]
    wanted = QTable({"label": labels, "snr": np.full(len(labels), np.nan),
                     "frequency": np.full(len(labels), 200) * u.MHz})
    if hasattr(model, "steps"):
        model.steps = 2
    made = model.sample(len(labels), conditions=wanted, rng=1)
    assert made.unit == u.Jy / u.beam and np.isfinite(made.data).all()
    # GLEAM's rms between 170 and 231 MHz is 8 to 13 mJy, GLEAM-X's ten times less.
    assert set(made.table["group"]) == {"generated"}
    assert (made.table["rms"] > 0.3 * u.mJy / u.beam).all() and (made.table["rms"] < 60 * u.mJy / u.beam).all()


def test_halos_are_as_bright_as_they_are_asked_to_be(shipped):
    _, model, _ = shipped
    if hasattr(model, "steps"):
        # With guidance what is asked for is followed more closely.
        model.steps, model.guidance = 10, 1.0
    snr = np.repeat([5.0, 50.0], 12)
    made = model.sample(24, conditions=QTable({"label": ["halo"] * 24, "snr": snr}), rng=1)
    y, x = np.indices(made.shape[1:]) - (made.shape[1] - 1) / 2
    found = made.data[:, np.hypot(x, y) <= 6].max(axis=1) / made.table["rms"].to_value(made.unit)
    assert np.median(found[12:]) > 2 * np.median(found[:12])


def test_usable_means_that_nothing_speaks_against_it(shipped, tools):
    from train_generators import failures

    _, _, card = shipped
    names = card["columns"]
    tables = {name: [{"metric": metric, **dict(zip(names, row, strict=True))} for metric, row in rows.items()]
              for name, rows in card["measures"].items()}
    assert failures(tables) == card["why"]
    assert card["status"] == ("experimental" if card["why"] else "usable")


def test_the_page_is_made_from_the_cards(repository, tools):
    from make_generator_cards import page

    text = (repository / "docs" / "generator_cards.rst").read_text(encoding="utf-8")
    assert text == page()
    assert set(re.findall(r"^(\w+)\n-+$", text, re.M)) == set(NAMES)
