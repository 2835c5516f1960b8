from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from scipy import stats
from scipy.integrate import quad

from halopy import HaloInputError, simulate
from halopy.simulate.population import (
    PowerMass,
    draw_clusters,
    flux_density,
    halo_radius,
    kpc_to_arcsec,
    relations,
)

SOLAR = 1e14 * u.solMass

# z, M500 in 10^14 solar masses, mJy at 200 MHz by Cuciti+ 2023 (150 MHz) and by Cassano+ 2013 (1.4 GHz),
# arcsec of 1 Mpc and of 150 kpc; alpha -1.3, H0 = 70, Omega_m = 0.3.
TABLE = {
    "A2163": (0.203, 16.1, 2700, 6070, 300, 45),
    "PLCK G287": (0.39, 14.7, 410, 920, 189, 28),
    "A3404": (0.164, 8.0, 355, 690, 355, 53),
    "A3186": (0.127, 6.4, 300, 550, 440, 66),
    "AS1063": (0.348, 11.4, 220, 460, 203, 31),
    "A2744": (0.307, 9.8, 180, 360, 221, 33),
    "RXC J1314": (0.244, 6.7, 79, 147, 260, 39),
    "MACS J2243": (0.447, 10.0, 75, 153, 174, 26),
    "A2721": (0.115, 4.0, 68, 114, 481, 72),
    "A141": (0.230, 5.7, 50, 89, 272, 41),
    "A2496": (0.122, 3.4, 32, 52, 455, 68),
    "MCXC J0145": (0.181, 3.7, 19, 31, 329, 49),
    "GMBCG J357.9": (0.394, 5.9, 16, 29, 188, 28),
}


def luminosity_distance(z):
    """Metres, by an integral of its own: flat, H0 = 70 km/s/Mpc, Omega_m = 0.3."""
    comoving, _ = quad(lambda x: 1 / np.sqrt(0.3 * (1 + x) ** 3 + 0.7), 0, z)
    return (1 + z) * 299792.458 / 70 * comoving * 3.0856775814913673e22


@pytest.mark.parametrize("name", TABLE)
def test_what_gleam_sees_of_known_halos(name):
    z, mass, cuciti, cassano, megaparsec, radius = TABLE[name]
    for relation, expected in (("cuciti+2023", cuciti), ("cassano+2013", cassano)):
        found = simulate.halo_flux(z, mass * SOLAR, 200 * u.MHz, relation=relation).to_value(u.mJy)
        assert found == pytest.approx(expected, rel=0.05)
    # The last digit of the redshift is 0.5 % of the angle for the nearest.
    assert kpc_to_arcsec(1000, z) == pytest.approx(megaparsec, rel=0.006)
    assert kpc_to_arcsec(150, z) == pytest.approx(radius, abs=0.7)


def test_the_power_at_the_pivot():
    # Cuciti+ 2023: 10^(24.5 + 1.10) W/Hz at 10^14.9 solar masses; Cassano+ 2013: 10^(24.5 + 0.125).
    pivot = 10**14.9 * u.solMass
    assert relations["cuciti+2023"].power(pivot).to_value(u.W / u.Hz) == pytest.approx(3.981e25, rel=1e-3)
    assert relations["cassano+2013"].power(pivot).to_value(u.W / u.Hz) == pytest.approx(4.217e24, rel=1e-3)
    assert relations["cassano+2013"].power(2 * pivot, deviation=1).to_value(u.W / u.Hz) == pytest.approx(
        4.217e25 * 2**3.77, rel=1e-3)
    assert all(relation.source for relation in relations.values())


@pytest.mark.parametrize(("z", "alpha"), [(0.1, -1.3), (0.5, -1.0), (0.9, -2.0)])
def test_the_k_correction(z, alpha):
    """P(ν) = 4π D_L² S(ν) (1 + z)^(−α − 1), then the spectrum from 150 to 200 MHz."""
    expected = 1e25 / (4 * np.pi * luminosity_distance(z) ** 2 * (1 + z) ** (-alpha - 1)) / 1e-29 * (200 / 150) ** alpha
    found = flux_density(1e25 * u.W / u.Hz, z, alpha, power_frequency=150 * u.MHz, frequency=200 * u.MHz)
    assert found.to_value(u.mJy) == pytest.approx(expected, rel=2e-3)


def test_the_k_correction_by_hand():
    # z = 0.2: D_L = 980 Mpc = 3.024e25 m, 4 pi D_L^2 = 1.149e52 m2; 1e25 W/Hz / that = 8.70e-28 = 87.0 mJy;
    # times 1.2^(-1.3 + 1) = 0.947: 82.4 mJy.
    found = flux_density(1e25 * u.W / u.Hz, 0.2, -1.3, power_frequency=150 * u.MHz, frequency=150 * u.MHz)
    assert found.to_value(u.mJy) == pytest.approx(82.4, rel=0.003)


def test_a_flat_photon_index_needs_no_correction():
    """At alpha −1 the band's shift and its narrowing cancel."""
    found = flux_density(1e25 * u.W / u.Hz, 0.7, -1.0, power_frequency=1 * u.GHz, frequency=1 * u.GHz)
    assert found.to_value(u.W / u.m**2 / u.Hz) == pytest.approx(
        1e25 / (4 * np.pi * luminosity_distance(0.7) ** 2), rel=2e-3)


def test_a_relation_of_ones_own():
    steep = PowerMass(610 * u.MHz, 24.0, 0.0, 0.2, pivot=5e14 * u.solMass)
    assert steep.power(3e14 * u.solMass).to_value(u.W / u.Hz) == pytest.approx(1e24)
    one = simulate.halo_flux(0.2, 5 * SOLAR, 610 * u.MHz, relation=steep, alpha=-1.0)
    assert one.to_value(u.mJy) == pytest.approx(1e24 / (4 * np.pi * luminosity_distance(0.2) ** 2) / 1e-29, rel=2e-3)


def test_sizes_follow_one_emissivity():
    """log P1.4 = 23.52 + 3 log(r_e / 100 kpc), Murgia+ 2009 as used for injections; 40 to 400 kpc."""
    assert halo_radius(10**23.52) == pytest.approx(100)
    assert halo_radius(8 * 10**23.52) == pytest.approx(200)
    assert halo_radius(10**23.52, deviation=0.1) == pytest.approx(125.9, rel=1e-3)
    np.testing.assert_allclose(halo_radius([1e20, 1e28]), [40, 400])


class TestClusters:
    drawn = draw_clusters(40_000, rng=1)

    def test_they_look_like_those_that_planck_found(self):
        """PSZ2 with redshift and mass (arXiv 1502.01598): median and 16-84 %."""
        redshift, mass = self.drawn["redshift"], self.drawn["m500"].to_value(SOLAR)
        assert np.median(redshift) == pytest.approx(0.22, abs=0.015)
        np.testing.assert_allclose(np.quantile(redshift, [0.16, 0.84]), [0.085, 0.40], atol=0.02)
        assert np.median(mass) == pytest.approx(4.74, rel=0.04)
        # The least massive sixth: 1,086 clusters tell it to 3 %, and the fit is not perfect there.
        np.testing.assert_allclose(np.quantile(mass, [0.16, 0.84]), [2.77, 6.65], rtol=0.08)

    def test_they_stay_where_the_fit_holds(self):
        assert self.drawn["redshift"].min() >= 0.02 and self.drawn["redshift"].max() <= 0.9
        assert self.drawn["m500"].min() > 0.3 * SOLAR and self.drawn["m500"].max() < 40 * SOLAR

    def test_far_clusters_are_massive(self):
        """A survey limited by its signal sees only the massive ones far away."""
        assert stats.spearmanr(self.drawn["redshift"], self.drawn["m500"].value).statistic > 0.6

    def test_against_the_catalogue(self, real_data):
        # Bytes 168-176 and 178-186 of PSZ2 at CDS (J/A+A/594/A27): redshift and mass.
        lines = (real_data / "catalogues" / "psz2.dat.txt").read_text().splitlines()
        fields = [(line[167:176].strip(), line[177:186].strip()) for line in lines]
        z, mass = np.array([pair for pair in fields if all(pair)], dtype=float).T
        kept = (z >= 0.02) & (z <= 0.9) & (mass > 0)
        assert kept.sum() > 1000
        assert stats.ks_2samp(z[kept], self.drawn["redshift"]).pvalue > 1e-3
        assert stats.ks_2samp(mass[kept], self.drawn["m500"].to_value(SOLAR)).pvalue > 1e-3

    def test_same_rng_same_bytes(self):
        one, two, other = (draw_clusters(50, rng=seed) for seed in (3, 3, 4))
        assert (one == two).all()
        assert not (one["redshift"] == other["redshift"]).any()
        assert len(draw_clusters(0, rng=1)) == 0


def test_what_cannot_be():
    with pytest.raises(HaloInputError, match=r"relation must be a PowerMass or the name of one.*'cuciti\+2023'"):
        simulate.halo_flux(0.2, 5 * SOLAR, 200 * u.MHz, relation="cuciti")
    for z in (0, -0.1, np.nan, 25):
        with pytest.raises(HaloInputError, match="redshift must lie between 0 and 20"):
            simulate.halo_flux(z, 5 * SOLAR, 200 * u.MHz)
    for numbers in ((np.nan, 3, 0.3), (24, np.inf, 0.3), (24, 3, -0.1), (24, 3, np.nan)):
        with pytest.raises(HaloInputError, match="finite numbers and a scatter that is not negative"):
            PowerMass(150 * u.MHz, *numbers)
    with pytest.raises(TypeError):
        relations["mine"] = relations["cuciti+2023"]
