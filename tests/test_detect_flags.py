"""What a detection says of its classifier: its flags, and what speaks for a halo."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from simulated import a_field

from halopy import Detector
from halopy.classify import Classifier
from halopy.errors import HaloInputError
from halopy.preprocess.cutout import CutoutMaker
from halopy.preprocess.scale import SnrAsinh

FIELD = a_field((160, 160), rng=1, halos=[(80.0, 80.0, 1.5, 1.5)])
PLACES = FIELD.wcs.pixel_to_world([80.0, 50.0, -500.0], [80.0, 110.0, 10.0])


class Talker(Classifier):
    """Has flags, and explains."""

    trainable = False

    def __init__(self, *, words=""):
        self.words = words

    def _predict_proba(self, cutouts):
        centre = cutouts.data[:, 16:32, 16:32].mean(axis=(1, 2), dtype=float)
        return 1 / (1 + np.exp(-np.clip(centre, -10, 10)))

    def _flags(self, cutouts):
        return np.full(len(cutouts), self.words)

    def explain(self, cutouts):
        return cutouts.replace(data=cutouts.data - np.nanmedian(cutouts.data), unit="")


class Mute(Talker):
    def explain(self, cutouts):
        return "the middle"


def detector(classifier, **changes):
    return Detector(classifier, **({"cutout_maker": CutoutMaker(48, pixels_per_beam=3), "n_controls": 60} | changes))


def test_flags_of_the_classifier_stand_behind_those_of_the_measurement():
    plain = detector(Talker())(FIELD, PLACES, rng=1)
    said = detector(Talker(words="  beam-outside-training  odd "))(FIELD, PLACES, rng=1)
    assert list(plain["status"]) == list(said["status"]) == ["ok", "ok", "outside"]
    for before, after in zip(plain["flags"][:2], said["flags"][:2], strict=True):
        assert after.split() == [*before.split(), "beam-outside-training", "odd"] and "  " not in after
    assert said["flags"][2] == plain["flags"][2] == ""


def test_controls_have_no_say_in_it():
    """p-values are those of the scores, whatever the flags."""
    plain, said = (detector(Talker(words=words))(FIELD, PLACES, rng=1) for words in ("", "odd"))
    assert plain["p_value"][:2].tolist() == said["p_value"][:2].tolist()


@pytest.mark.parametrize("scaling", [None, SnrAsinh()], ids=repr)
def test_explanations_are_of_what_the_classifier_sees(scaling):
    chain = detector(Talker(), scaling=scaling)
    cutouts = chain.cutouts(FIELD, chain(FIELD, PLACES, rng=1)[:2])
    maps = chain.explanations(cutouts)
    seen = cutouts if scaling is None else scaling(cutouts)
    assert maps.data == pytest.approx(Talker().explain(seen).data)
    assert maps.wcs(1).wcs.crval == pytest.approx(cutouts.wcs(1).wcs.crval)


def test_a_classifier_that_does_not_explain():
    chain = detector("matched-filter")
    assert chain.explanations(chain.cutouts(FIELD, chain(FIELD, PLACES, rng=1)[:2])) is None


def test_what_is_no_explanation():
    chain = detector(Mute())
    with pytest.raises(HaloInputError, match=r"explain must return a map of each cutout, \(2, 48, 48\).*Mute.*'str'"):
        chain.explanations(chain.cutouts(FIELD, chain(FIELD, PLACES, rng=1)[:2]))


def test_many_targets_are_looked_at_some_at_a_time(monkeypatch):
    image = a_field((300, 300), rng=1, halos=[(150, 150, 1, 2)])
    targets = image.wcs.pixel_to_world([150.0, 40.0, 900.0, 200.0, 90.0], [150.0, 60.0, 20.0, 80.0, 290.0])
    whole = Detector("matched-filter", n_controls=60)(image, targets, rng=1)
    monkeypatch.setattr("halopy.detect.TOGETHER", 2)
    seen = []
    called = CutoutMaker.__call__

    def spied(maker, image, positions):
        seen.append(len(positions))
        return called(maker, image, positions)

    monkeypatch.setattr(CutoutMaker, "__call__", spied)
    parts = Detector("matched-filter", n_controls=60)(image, targets, rng=1)
    assert seen[:3] == [2, 2, 1]
    assert whole.colnames == parts.colnames
    for name in ("name", "status", "flags"):
        assert list(whole[name]) == list(parts[name])
    for name in ("snr", "probability", "p_value", "flux", "flux_err", "r_e", "rms", "offset_east", "coverage"):
        first, second = (np.ma.filled(np.ma.asarray(getattr(t[name], "value", t[name]), dtype=float), np.nan)
                         for t in (whole, parts))
        np.testing.assert_allclose(second, first, rtol=1e-5, err_msg=name)


def test_warm_up_compiles_what_a_search_needs():
    """In a process of its own: here it is compiled already."""
    code = ("from halopy import Detector; Detector('matched-filter').warm_up(); "
            "from halopy.preprocess import boxes, gather, spline; "
            "print([bool(f.signatures) for f in (boxes._clipped, boxes._evaluate, gather.nearest, spline._fill, "
            "spline._filter, spline._evaluate, spline.check)])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([True] * 7)
