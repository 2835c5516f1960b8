"""The weights that ship: they are those of their card, and the card says what they have seen."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from importlib.resources import files

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from halopy import simulate
from halopy.classify.ensemble import Ensemble
from halopy.io.catalog import load_targets
from halopy.model import group_hashes
from halopy.registry import classifiers

DATA = files("halopy") / "data"
PLACES = {"mwa-gleam/": "gleam", "nvss/nvss_": "nvss"}
"""Where the real images lie, and what the card calls their survey."""


@pytest.fixture(scope="module")
def card():
    return json.loads((DATA / "ensemble.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model():
    return classifiers.pretrained("ensemble")


@pytest.fixture(scope="module")
def seen(card):
    """The real targets that it was trained on: (name, survey)."""
    pairs = [re.fullmatch(r"(.+) \((\w+)\)", text) for targets in card["real"].values() for text in targets]
    assert all(pairs)
    return {pair.groups() for pair in pairs}


def plain(name):
    """A name without what differs between lists: MACS J2243.4-0935 is macsj2243.3-0935 in another one."""
    name = re.sub(r"[^a-z0-9.+-]", "", name.lower()).replace("abell", "a")
    return re.sub(r"^(a)0+(?=\d)", r"\1", name)


def test_the_file_is_that_of_the_card(card):
    content = (DATA / "ensemble.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert len(content) < 2e6


def test_it_loads(model, card):
    assert isinstance(model, Ensemble) and repr(model) == card["model"]
    assert {name: list(limits) for name, limits in model.trained_on_.items()} == card["range"]
    assert model.temperature_ == card["temperature"]


def test_it_tells_halos_from_blank_sky(model):
    """Bright halos, in a survey that it knows; how good it is otherwise is measured elsewhere."""
    mix, place = {"halo": 0.5, "blank": 0.5}, SkyCoord(np.full(40, 30.0), np.full(40, -27.0), unit="deg")
    cutouts = simulate.cutouts(40, survey="gleam-x-170-231", mix=mix, positions=place, rng=3)
    halo = np.asarray(cutouts.table["label"]) == "halo"
    seen = ~halo | (np.asarray(cutouts.table["snr"]) > 5)
    probability = model.predict_proba(cutouts)
    assert np.isfinite(probability).all()
    # The area under the ROC curve: how often a halo is above a blank field.
    assert (probability[halo & seen][:, None] > probability[~halo]).mean() > 0.9


def test_every_group_it_has_seen_is_on_the_card(model, card):
    named = group_hashes([*card["real"], *(name for names in card["also"].values() for name in names)])
    unnamed = set(model.groups_) - set(named)
    assert set(named) <= set(model.groups_)
    assert len(unnamed) == card["simulated"]["groups"]


def test_it_knows_its_sky_under_the_names_of_each_survey(model, card):
    """Groups of several surveys are named anew: what was trained on must not be scored under another name."""
    for survey in ("gleam", "nvss"):
        assert card["also"][survey] and set(group_hashes(card["also"][survey])) <= set(model.groups_)


def test_the_card_names_its_sources(card, seen):
    assert {survey for _, survey in seen} == set(card["sources"]) <= set(PLACES.values())
    assert all(text.count("MIT") for text in card["sources"].values())


def test_it_has_seen_no_target_but_those_that_it_may(card, seen, real_data):
    """Real sky is that of the images in the folder's index; the published list has targets without an image there."""
    with open(real_data / "index.csv", encoding="utf-8") as stream:
        rows = [(survey, row) for row in csv.DictReader(stream) for place, survey in PLACES.items()
                if row["file"].startswith(place)]
    listed = {survey: {plain(row["target"]) for s, row in rows if s == survey} for survey in PLACES.values()}
    targets = load_targets()
    places = SkyCoord([float(row["ra"]) for _, row in rows], [float(row["dec"]) for _, row in rows], unit="deg")
    # Names differ between the lists, places do not.
    position = SkyCoord(targets["position"]).icrs
    near = position.match_to_catalog_sky(places)[1].arcmin < 10
    known = {plain(name) for name in targets["name"][near]}
    for name, survey in seen:
        assert plain(name) in listed[survey] | known, name
    assert not {plain(name) for name in targets["name"][~near]} & {plain(name) for name, _ in seen}
    # Nor any other sky: groups that are real have the places of these images.
    assert len(seen) <= len({(survey, row["target"]) for survey, row in rows})


def test_the_documentation_names_every_training_target(seen, repository):
    text = (repository / "docs" / "ensemble.rst").read_text(encoding="utf-8")
    missing = [name for name, _ in sorted(seen) if name not in text and name.replace("_", " ") not in text]
    assert not missing
