"""The sets that a generator has to beat, and what generated images are worth to a classifier."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from sklearn.metrics import roc_auc_score

from halopy import simulate
from halopy.errors import HaloInputError
from halopy.generative.quality import utility as utility_module
from halopy.generative.quality.common_input import common_images, common_size
from halopy.generative.quality.image_features import power_spectra, radial_profiles
from halopy.generative.quality.reference import gaussian_field, smoothed
from halopy.generative.quality.utility import both_kinds, utility
from halopy.image import FWHM_TO_SIGMA
from halopy.testing import simulated_cutouts


def test_a_point_source_smoothed_by_the_beam_is_half_as_high_and_as_bright():
    cutouts = simulated_cutouts(3)
    width = np.sqrt(133.0 * 122.0) / 28 * FWHM_TO_SIGMA
    y, x = np.indices((64, 64)) - 31
    cutouts = cutouts.replace(data=np.broadcast_to(np.exp(-(x**2 + y**2) / (2 * width**2)), cutouts.shape))
    made = smoothed(cutouts)
    assert made.data.max(axis=(1, 2)) == pytest.approx(0.5, abs=0.01)
    assert made.data.sum() == pytest.approx(cutouts.data.sum(), rel=1e-3)
    assert (made.table["rms"] == cutouts.table["rms"]).all()
    assert made.table["group"].tolist() == cutouts.table["group"].tolist() and made.unit == cutouts.unit


def test_smoothing_keeps_gaps_and_does_not_spread_them():
    cutouts = simulated_cutouts(3)
    data = np.ones(cutouts.shape)
    data[:, :10] = np.nan
    made = smoothed(cutouts.replace(data=data))
    assert np.isnan(made.data[:, :10]).all() and made.data[:, 10:] == pytest.approx(1, abs=1e-6)


@pytest.fixture(scope="module")
def sky():
    return simulate.cutouts(150, mix={"halo": 1, "none": 1}, artefacts=None, rng=1)


def test_fields_have_the_power_and_the_mean_of_their_label(sky):
    made = gaussian_field(sky, 400, rng=2)
    size = common_size(sky)
    assert made.shape == (400, size, size) and common_size(made) == size
    for label in ("halo", "none"):
        real, fields = (common_images(one[np.asarray(one.table["label"]) == label], size)[0] for one in (sky, made))
        ratio = power_spectra(fields).mean(axis=0) / power_spectra(real).mean(axis=0)
        assert ratio[1:8] == pytest.approx(1, abs=0.35)
        profiles = [radial_profiles(images).mean(axis=0) for images in (real, fields)]
        # The level is the median: it takes the little from fields that it leaves to images with few bright pixels.
        assert profiles[1] - profiles[1][-1] == pytest.approx(profiles[0] - profiles[0][-1], abs=0.5)


def test_the_table_of_fields(sky):
    made = gaussian_field(sky, 40, rng=2)
    assert set(made.table["label"]) == {"halo", "none"} and set(made.table["group"]) == {"generated"}
    assert made.unit == sky.unit and made.table["rms"].unit == u.Jy / u.beam
    width = made.table["beam_major"] / made.table["pixel_scale"]
    assert width.to_value(u.one) == pytest.approx(3)
    assert np.median(made.data.std(axis=(1, 2)) / made.table["rms"].value) == pytest.approx(
        np.nanmedian(np.nanstd(sky.data, axis=(1, 2)) / sky.table["rms"].value), rel=0.5)
    assert gaussian_field(sky, 3, rng=5).data.tobytes() == gaussian_field(sky, 3, rng=5).data.tobytes()
    assert gaussian_field(sky, 3, rng=5).data.tobytes() != gaussian_field(sky, 3, rng=6).data.tobytes()
    assert len(gaussian_field(sky, 0)) == 0


def test_what_no_field_can_be_fitted_to(sky):
    for call, text in ((lambda: gaussian_field(sky, -1), "n must be a whole number of images"),
                       (lambda: gaussian_field(sky[:2].replace(data=np.full(sky[:2].shape, np.nan)), 3),
                        "cutouts must hold images with data"),
                       (lambda: smoothed(sky[[]]), "cutouts must hold images")):
        with pytest.raises(HaloInputError, match=text):
            call()


# ---------------------------------------------------------------------------------------------- utility

def bright(n, rng):
    """Halos that can be told from what is none."""
    cutouts = simulated_cutouts(n, rng=rng)
    cutouts.table["group"] = [f"{rng} {i // 2}" for i in range(n)]
    return cutouts


def test_images_of_the_same_kind_teach_as_much_and_shuffled_labels_nothing():
    real, good = bright(120, 1), bright(120, 2)
    found = {row["metric"]: row for row in utility(real, good, n=50, rng=1)}
    assert found["trtr"]["value"] > 0.8
    for name in ("tstr", "trts"):
        assert found[name]["value"] == pytest.approx(found["trtr"]["value"], abs=0.1)
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
    shuffled = good.replace(table=good.table.copy())
    shuffled.table["label"] = np.random.default_rng(1).permutation(np.asarray(good.table["label"]))
    worse = {row["metric"]: row for row in utility(real, shuffled, n=50, rng=1)}
    assert worse["tstr"]["high"] < found["trtr"]["low"]
    assert worse["trts"]["value"] == pytest.approx(0.5, abs=0.15)
    # The halves of the real images are those of the seed, whatever they are compared with.
    assert worse["trtr"]["value"] == found["trtr"]["value"]


def test_the_area_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    truth = rng.random(80) < 0.4
    score = np.round(rng.normal(truth), 1)
    score[3] = np.nan
    known = np.isfinite(score)
    value, low, high = utility_module._area([(np.arange(80), truth, score)], np.arange(80), 200, 0.95, rng)
    assert value == pytest.approx(roc_auc_score(truth[known], score[known]))
    assert low < value < high


def test_a_classifier_does_not_see_a_group_on_both_sides(monkeypatch):
    seen = []

    class Spy:
        def fit(self, cutouts, **settings):
            self.groups = set(cutouts.table["group"])
            return self

        def predict_proba(self, cutouts):
            seen.append(self.groups & set(cutouts.table["group"]))
            return np.linspace(0, 1, len(cutouts))

    monkeypatch.setattr(utility_module.classifiers, "create", lambda name: Spy(), raising=False)
    utility(bright(48, 1), bright(48, 2), classifier="spy", splits=3, n=5, rng=1)
    assert len(seen) == 18 and not any(seen)


def test_utility_needs_both_kinds():
    real = bright(24, 1)
    halos = real[np.asarray(real.table["label"]) == "halo"]
    assert both_kinds(real, real) and not both_kinds(real, halos) and not both_kinds(halos, real)
    with pytest.raises(HaloInputError, match="utility needs halos and others, of four groups each"):
        utility(real, halos)
