"""Pictures of visibilities: what is drawn is what was measured."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u

pytest.importorskip("matplotlib", reason="plots need matplotlib")

from halopy.errors import HaloInputError
from halopy.plot_uv import plot_amplitude, plot_coverage, plot_test
from halopy.uvshapelets.detect import detect_halo
from halopy.uvshapelets.profile import radial_profile
from halopy.uvshapelets.templates import ExponentialHalo
from halopy.uvshapelets.visibilities import Visibilities

HALO = ExponentialHalo(3 * u.arcmin)


def measured(n=3000, weight=100.0, seed=0):
    rng = np.random.default_rng(seed)
    east, north = rng.normal(0, 300, (2, n))
    noise = weight**-0.5 * (rng.normal(size=(n, 2)) @ [1, 1j])
    return Visibilities(east, north, 0 * east, 0.5 * HALO.visibility(east, north) + noise, weight, 154e6)


def lines(ax):
    return {line.get_label(): line.get_ydata() for line in ax.lines}


def test_amplitudes_and_residuals():
    vis = measured()
    points = 2.0 + 0 * vis.u
    vis = Visibilities(vis.u, vis.v, vis.w, vis.vis + points, vis.weight, vis.frequency)
    profile = radial_profile(vis, {"halo": 0.5 * HALO.visibility(vis.u, vis.v), "sources": points})
    figure = plot_amplitude(profile, title="A halo")
    top, middle, bottom = figure.axes
    assert top.get_title() == "A halo"
    drawn = lines(top)
    assert np.allclose(drawn["halo + point sources"], drawn["halo"] + drawn["point sources"])
    assert np.allclose(drawn["point sources"], 2)
    left = middle.containers[0].lines[0].get_ydata()
    assert np.allclose(left, profile["real"].value - 2)
    # Residuals in units of their errors: a mean square of 1.
    residual = bottom.containers[0].lines[0].get_ydata()
    assert np.mean(residual**2) == pytest.approx(1, abs=3 * np.sqrt(2 / len(residual)))
    assert len(plot_amplitude(profile["distance", "real", "real_err", "halo"]).axes) == 2


def test_a_profile_without_its_halo():
    with pytest.raises(HaloInputError, match="a profile is drawn with its model"):
        plot_amplitude(radial_profile(measured()))


def test_coverage():
    vis = measured()
    figure = plot_coverage(vis, radii=[8, 2] * u.arcmin)
    plane, share, flux = figure.axes
    points = plane.collections[0].get_offsets()
    assert len(points) == 2 * len(vis) and np.allclose(points.mean(axis=0), 0)
    # Half of the flux: (1 + x²)^(−3/2) = ½ at x = 2π q r_e.
    circles = [circle.radius for circle in plane.patches]
    expected = np.sqrt(2 ** (2 / 3) - 1) / (2 * np.pi * ([2, 8] * u.arcmin).to_value(u.rad))
    assert circles == pytest.approx(expected.tolist())
    assert sum(patch.get_height() for patch in share.patches) == pytest.approx(1)
    assert [text.get_text() for text in flux.get_legend().get_texts()] == ["halo, r$_e$ = 2′", "halo, r$_e$ = 8′"]
    many = measured(50001)
    assert len(plot_coverage(many).axes[0].collections[0].get_offsets()) <= 2 * 20000


def test_coverage_of_nothing():
    vis = measured()
    with pytest.raises(HaloInputError, match="no visibility has weight"):
        plot_coverage(Visibilities(vis.u, vis.v, vis.w, vis.vis, 0.0, vis.frequency))


@pytest.mark.parametrize("n_offsets", [0, 8])
def test_what_was_tested(n_offsets):
    found = detect_halo(measured(), radii=[1, 2, 4] * u.arcmin, n_offsets=n_offsets, rng=0)
    axes = plot_test(found).axes
    assert len(axes) == (2 if n_offsets else 1)
    flux = axes[0].containers[0].lines[0].get_ydata()
    assert np.allclose(flux, found.flux_by_radius.to_value(u.mJy))
    if n_offsets:
        assert sum(patch.get_height() for patch in axes[1].patches) == n_offsets


def test_one_radius():
    assert plot_test(detect_halo(measured(), radii=7 * u.arcsec, rng=0)).axes[0].get_xticks().tolist() == [7]
