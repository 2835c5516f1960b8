"""The blind search: every direction is the test of one direction, and the p-value counts all of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy.stats import kstest

from halopy.errors import HaloInputError
from halopy.uvshapelets.fit import NormalEquations
from halopy.uvshapelets.nuisance import PointSources
from halopy.uvshapelets.search import _Field, search_halos
from halopy.uvshapelets.templates import ExponentialHalo
from halopy.uvshapelets.visibilities import Visibilities

CENTRE = SkyCoord(30, -27, unit="deg")
STEP = (60 * u.arcsec).to_value(u.rad)
RADII = [60, 120] * u.arcsec


def observed(n=400, seed=0, w=0.0, halo=0.0, place=(0.0, 0.0), sources=None, noise=1.0):
    rng = np.random.default_rng(seed)
    distance, angle = 250 * np.exp(rng.normal(size=n)), rng.uniform(0, 2 * np.pi, n)
    east, north, height = distance * np.cos(angle), distance * np.sin(angle), rng.normal(0, w, n)
    sky = halo * ExponentialHalo(2 * u.arcmin, centre=place).visibility(east, north, height)
    if sources is not None:
        sky = sky + sources.predict(east, north, height)
    return Visibilities(east, north, height, sky + noise * (rng.normal(size=(n, 2)) @ [1, 1j]), noise**-2.0, 154e6,
                        CENTRE)


def test_each_direction_is_the_test_of_one_direction():
    """The same vector and information as normal equations with the halo there, sources and w-term included."""
    sources = PointSources([[1e-3, 5e-4], [-2e-3, 0], [0, 1e-3]], [0.5, 0.3, 1] * u.Jy, [0.05, np.inf, 0] * u.Jy)
    vis = observed(w=100.0, halo=0.5, sources=sources)
    field = _Field(STEP * np.arange(-3, 4), [ExponentialHalo(r) for r in RADII])
    field.update(vis, [sources])
    vector, information = field.reduced(NormalEquations(sources).update(vis))
    for a, b in ((0, 6), (3, 3), (5, 1)):
        place = (field.axis[a], field.axis[b])
        for r, r_e in enumerate(RADII):
            normal, expected = NormalEquations(ExponentialHalo(r_e, centre=place), sources).update(vis).reduced()
            assert information[r, a, b] == pytest.approx(normal[0, 0], rel=1e-5)
            assert vector[r, a, b] == pytest.approx(expected[0], abs=1e-4 * normal[0, 0] ** 0.5)


def test_a_halo_is_found_where_it_is():
    place = (4 * STEP, -7 * STEP)
    sources = PointSources(SkyCoord([30.1], [-27.1], unit="deg"), [2] * u.Jy, 0.1 * u.Jy)
    vis = observed(n=2000, halo=0.7, place=place, noise=0.5, sources=sources.about(CENTRE))
    found = search_halos(vis, radius=12 * u.arcmin, radii=RADII, sources=sources, n_draws=100, rng=0)
    assert len(found) == 1
    row = found[0]
    assert abs(row["l"] - place[0] * u.rad) < 1.5 * STEP * u.rad
    assert abs(row["m"] - place[1] * u.rad) < 1.5 * STEP * u.rad
    assert row["p_value"] < 1e-9 and row["r_e"] == 120 * u.arcsec
    assert abs(row["flux"] - 0.7 * u.Jy) < 4 * row["flux_err"]
    there = PointSources(row["position"]).about(CENTRE).position[0]
    assert np.allclose(there, [row["l"].value, row["m"].value], atol=1e-9)
    chunks = (vis.select(slice(start, start + 700)) for start in range(0, 2000, 700))
    again = search_halos(chunks, radius=12 * u.arcmin, radii=RADII, sources=sources, n_draws=100, rng=0)
    for name in ("l", "m", "snr", "flux", "p_value"):
        assert np.allclose(np.array(again[name]), np.array(found[name]), rtol=1e-6)


def test_the_p_value_counts_the_directions():
    """In noise alone, p of the most significant candidate is uniform, though its S/N is not that of one test (0.67)."""
    p, snr = [], []
    for seed in range(50):
        found = search_halos(observed(seed=seed), radius=8 * u.arcmin, radii=RADII, max_p=1.0, n_draws=40, rng=seed)
        p.append(found["p_value"][0])
        snr.append(abs(found["snr"][0]))
    assert kstest(p, "uniform").pvalue > 1e-3
    assert np.median(snr) > 2


def test_the_sidelobes_of_a_bright_halo_are_no_candidates():
    """At a S/N of 600 what is left of them is less than noise, across the whole field and with a w-term."""
    place = (18 * STEP, -18 * STEP)
    vis = observed(n=2000, w=100.0, halo=20.0, place=place, noise=0.5)
    pieces = [vis.select(slice(start, start + 500)) for start in range(0, 2000, 500)]
    for given in (vis, pieces):
        found = search_halos(given, radius=20 * u.arcmin, radii=RADII, n_draws=100, rng=0)
        assert len(found) == 1 and found["snr"][0] > 500
        assert np.allclose([found["l"][0].value, found["m"][0].value], place)


def test_noise_gives_no_candidates():
    found = search_halos(dataclasses.replace(observed(seed=1), centre=None), radius=8 * u.arcmin, radii=RADII,
                         max_p=1e-4, rng=0)
    assert len(found) == 0 and "position" not in found.colnames


def test_what_cannot_be_searched():
    with pytest.raises(HaloInputError, match="radius must be larger than the first of radii"):
        search_halos(observed(), radius=0.5 * u.arcmin)
    with pytest.raises(HaloInputError, match="and at most 10 deg .radius, found '11.0 deg'"):
        search_halos(observed(), radius=11 * u.deg)
    with pytest.raises(HaloInputError, match="too many directions and radii .*5,764,801 directions, 2 radii"):
        search_halos(observed(), radius=10 * u.deg, radii=[30, 60] * u.arcsec)
    moved = observed().phased_to(SkyCoord(31, -27, unit="deg"))
    with pytest.raises(HaloInputError, match="parts with different phase centres cannot be joined"):
        search_halos([observed(), moved], radius=8 * u.arcmin, radii=RADII)
    for nothing in ([], observed().select(slice(0, 0))):
        with pytest.raises(HaloInputError, match="no visibility has weight"):
            search_halos(nothing)
