"""Halos in visibilities that were observed: sources modelled, halos injected, the noise of Stokes V."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy.stats import kstest

from halopy.errors import HalopyWarning
from halopy.uvshapelets.detect import detect_halo
from halopy.uvshapelets.fit import NormalEquations
from halopy.uvshapelets.nuisance import PointSources, direction_cosines
from halopy.uvshapelets.null import off_positions
from halopy.uvshapelets.templates import ExponentialHalo
from halopy.uvshapelets.visibilities import Visibilities

pytest.importorskip("pyuvdata", reason="the extra uv is not installed")

SOURCES = SkyCoord([17.070, 20.108, 19.2125], [-16.073, -15.345, -20.8686], unit="deg")
"""The brightest compact sources of the field, to a part of an arcminute; two are 3C 38 and PKS 0114-21."""


@pytest.fixture(scope="module")
def read(real_data):
    path = real_data / "visibilities" / "mwa_1133866760_uvceti_154MHz.uvfits"

    def read(stokes):
        with pytest.warns(HalopyWarning, match="does not say that its visibilities are calibrated"):
            return Visibilities.read(path, ignore_flags=True, stokes=stokes)
    return read


@pytest.fixture(scope="module")
def snapshot(read):
    return read("I")


def _places(vis, lm):
    """The positions of direction cosines."""
    angle, position_angle = np.arcsin(np.hypot(*lm.T)), np.arctan2(*lm.T)
    return vis.centre.directional_offset_by(position_angle * u.rad, angle * u.rad)


def test_the_brightest_sources_are_modelled(snapshot):
    halo = ExponentialHalo(2 * u.arcmin)
    equations = NormalEquations(halo, PointSources(direction_cosines(SOURCES, snapshot.centre))).update(snapshot)
    flux, err = equations.fluxes(equations.solve())
    # 43 Jy a visibility, 58,916 of them: 0.18 Jy.
    assert err == pytest.approx(0.18, abs=0.02)
    assert (flux > 30 * err).all()
    model = PointSources(SOURCES, flux * u.Jy).about(snapshot.centre)
    left = snapshot._replace(vis=snapshot.vis - model.predict(snapshot.u, snapshot.v, snapshot.w))
    before, after = (np.sum(vis.weight * np.abs(vis.vis) ** 2) for vis in (snapshot, left))
    # chi2 falls by the sum of the squares of their S/N, less what they have in common.
    assert before - after == pytest.approx(np.sum((flux / err) ** 2), rel=0.2)


@pytest.mark.parametrize("size", [2, 8] * u.arcmin)
def test_an_injected_halo_adds_its_flux_and_its_significance(snapshot, size):
    lm = np.array([[0.05, -0.04]])
    place = _places(snapshot, lm)[0]
    sources = PointSources(SOURCES)
    halo = 8 * ExponentialHalo(size, centre=tuple(lm[0])).visibility(snapshot.u, snapshot.v, snapshot.w)
    empty, found = (detect_halo(snapshot._replace(vis=snapshot.vis + sky), place, sources=sources, radii=[2, 4, 8]
                                * u.arcmin, rng=0) for sky in (0, halo))
    column = int(np.flatnonzero(found.radii == size)[0])
    added = (found.flux_by_radius - empty.flux_by_radius)[column]
    # At a known radius the estimate is linear; rotating to the place is exact but for the halo's own w-term.
    assert added.to_value(u.Jy) == pytest.approx(8, rel=0.01)
    assert found.p_value < 1e-6
    assert abs(found.flux_err_by_radius[column] - empty.flux_err_by_radius[column]) < 1e-9 * u.Jy


def test_the_noise_of_stokes_v_is_what_the_p_values_say(read):
    # Nothing is circularly polarised here at this level: what is left are noise, weights and the bank's null.
    vis = read("V")
    places = _places(vis, off_positions(60, 0.02, 0.16, np.random.default_rng(1)))
    found = [detect_halo(vis, place, radii=[1, 2, 4, 8] * u.arcmin, rng=k) for k, place in enumerate(places)]
    assert kstest([one.p_value for one in found], "uniform").pvalue > 0.001
    snr = np.array([one.flux_by_radius / one.flux_err_by_radius for one in found])
    assert 0.75 < snr.std() < 1.3
