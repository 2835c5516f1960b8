"""Visibilities against their distance: weighted means that say how well they are known."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u

from halopy.errors import HaloInputError
from halopy.uvshapelets.profile import radial_profile
from halopy.uvshapelets.visibilities import Visibilities


def some(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    east, north = rng.normal(0, 300, (2, n))
    weight = rng.uniform(0.5, 2, n) * (rng.uniform(size=n) > 0.1)
    noise = np.where(weight > 0, weight, 1) ** -0.5 * (rng.normal(size=(n, 2)) @ [1, 1j])
    return Visibilities(east, north, 0 * east, noise + 0.3, weight, 154e6)


def test_sums_are_kept():
    vis = some()
    profile = radial_profile(vis)
    # Weights add up, and the mean over all is that of the annuli by their weights.
    weight = profile["real_err"].to_value(u.Jy) ** -2
    assert weight.sum() == pytest.approx(vis.weight.sum())
    assert profile["n"].sum() == (vis.weight > 0).sum()
    assert (weight * profile["real"].value).sum() == pytest.approx((vis.weight * vis.vis.real).sum())
    assert (np.diff(profile["distance"]) > 0).all()


def test_errors_are_standard_deviations():
    profile = radial_profile(some(200000), n_bins=400)
    pull = (profile["real"].value - 0.3) / profile["real_err"].value
    n = len(pull)
    assert abs(pull.mean()) < 4 / np.sqrt(n) and pull.std() == pytest.approx(1, abs=4 / np.sqrt(2 * n))


def test_models_are_averaged_as_the_data_are():
    vis = some()
    profile = radial_profile(vis, {"again": vis.vis, "two": 2 + 5j + 0 * vis.vis})
    assert np.allclose(profile["again"].value, profile["real"].value)
    assert np.allclose(profile["two"].value, 2)


@pytest.mark.parametrize(("settings", "text"), [
    ({"n_bins": 0}, "n_bins must be 1 or more"),
    ({"models": {"real": np.zeros(4000)}}, "a model cannot have the name of a column")])
def test_settings_that_are_refused(settings, text):
    with pytest.raises(HaloInputError, match=text):
        radial_profile(some(), **settings)


def test_nothing_with_weight():
    with pytest.raises(HaloInputError, match="no visibility has weight"):
        radial_profile(Visibilities([1.0], [0.0], [0.0], [1.0], 0.0, 154e6))
