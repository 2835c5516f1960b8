from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM
from astropy.table import MaskedColumn, QTable
from scipy import stats
from scipy.integrate import quad
from test_counts import per_square_degree

from halopy import HaloInputError, simulate, surveys
from halopy.simulate.population import draw_clusters
from halopy.simulate.sources import MIX, draw_labels

SOLAR = 1e14 * u.solMass
COSMOLOGY = FlatLambdaCDM(70, 0.3)
GLEAM = surveys["gleam-170-231"]


def clusters(n, z=0.2, mass=5.0):
    return QTable({"redshift": np.full(n, z), "m500": np.full(n, mass) * SOLAR})


def mains(sources):
    return sources[sources["main"]]


def distance_kpc(sources):
    apart = np.hypot(sources["east"], sources["north"]).to_value(u.arcsec)
    return apart / COSMOLOGY.arcsec_per_kpc_proper(sources["redshift"]).value


@pytest.fixture(scope="module")
def many():
    labels = np.repeat(list(MIX), 300)
    return labels, simulate.scenes(labels, rng=1)


class TestLabels:
    @pytest.mark.parametrize("mix", [None, {"halo": 3, "none": 1}, {"relic": 0.2, "blank": 0.0, "blend": 0.6}])
    def test_the_mix_is_obeyed(self, mix):
        shares = simulate.MIX if mix is None else mix
        labels = draw_labels(20_000, mix, rng=1)
        wanted = {name: share for name, share in shares.items() if share > 0}
        assert set(labels) == set(wanted)
        observed = [np.sum(labels == name) for name in wanted]
        expected = np.array(list(wanted.values())) / sum(wanted.values()) * 20_000
        assert stats.chisquare(observed, expected).pvalue > 0.01

    def test_the_default_shares_add_up(self):
        assert sum(simulate.MIX.values()) == pytest.approx(1)

    @pytest.mark.parametrize(("mix", "text"), [
        ({"halos": 1}, "mix takes the labels halo, mini-halo.*found 'halos'"),
        ({"halo": -1, "none": 2}, "must not be negative, nor all 0"),
        ({"halo": 0}, "must not be negative, nor all 0"),
        ({"halo": np.nan}, "must not be negative, nor all 0"),
        ({}, "must not be negative, nor all 0"),
        ({"halo": "much"}, "must not be negative, nor all 0.*much"),
        (["halo"], "mix must be a mapping of labels to shares.*found 'list'"),
    ])
    def test_what_is_no_mix(self, mix, text):
        with pytest.raises(HaloInputError, match=text):
            draw_labels(5, mix)


class TestScenes:
    def test_each_has_one_main_row_with_its_label(self, many):
        labels, sources = many
        main = mains(sources)
        np.testing.assert_array_equal(main["cutout"], np.arange(len(labels)))
        np.testing.assert_array_equal(main["class"], labels)
        assert (np.diff(sources["cutout"]) >= 0).all()

    def test_nothing_shines_where_there_is_nothing(self, many):
        main = mains(many[1])
        empty = np.isin(main["class"], ["none", "blank"])
        assert (main["flux"][empty] == 0).all()
        assert (main["flux"][~empty] > 0).all()

    def test_blank_sky_has_no_cluster(self, many):
        labels, sources = many
        blank = labels[sources["cutout"]] == "blank"
        assert blank.sum() == 300, "one row each, as no field was asked for"
        assert np.isnan(sources["redshift"][blank]).all() and np.isnan(sources["m500"][blank]).all()
        assert np.isfinite(sources["redshift"][~blank]).all()

    def test_every_class_has_the_size_that_it_needs(self, many):
        sources = many[1]
        for name in np.unique(sources["class"]):
            rows = sources[sources["class"] == name]
            has_r_e, has_length = name in ("halo", "mini-halo"), name not in ("halo", "mini-halo", "compact", "none",
                                                                                "blank")
            assert (np.isfinite(rows["r_e"]) == has_r_e).all() and (np.isfinite(rows["length"]) == has_length).all()
            assert ((rows["axis_ratio"] > 0) & (rows["axis_ratio"] <= 1)).all()
        assert len(np.unique(sources["seed"])) == len(sources)

    def test_a_relic_lies_in_the_direction_of_its_angle(self, many):
        relics = many[1][many[1]["class"] == "relic"]
        angle = np.degrees(np.arctan2(relics["east"], relics["north"])).to_value(u.deg) % 360
        assert np.abs((angle - relics["pa"].to_value(u.deg) + 180) % 360 - 180).max() < 1e-6
        # 0.5-3 Mpc from the centre, 0.5-2 Mpc long, axis ratios of 3 to 10: for most of them.
        away = distance_kpc(relics)
        assert np.mean((away > 500) & (away < 3000)) > 0.9
        long = relics["length"].to_value(u.arcsec) / COSMOLOGY.arcsec_per_kpc_proper(relics["redshift"]).value
        assert np.mean((long > 300) & (long < 2500)) > 0.9
        assert (1 / relics["axis_ratio"]).min() >= 3 - 1e-9 and (1 / relics["axis_ratio"]).max() <= 10 + 1e-9

    def test_compact_sources_are_small_at_the_survey(self, many):
        orcs = mains(many[1])
        orcs = orcs[orcs["class"] == "orc"]
        assert ((orcs["length"] > 50 * u.arcsec) & (orcs["length"] < 90 * u.arcsec)).all()

    def test_inputs_are_not_changed(self):
        table = clusters(3)
        before = table.copy()
        labels = ["halo", "none", "relic"]
        simulate.scenes(labels, clusters=table, rng=1)
        assert (table == before).all() and labels == ["halo", "none", "relic"]

    def test_same_rng_same_bytes(self):
        one, two, other = (simulate.scenes(["halo", "relic", "blend"] * 5, extent=30 * u.arcmin, rng=seed)
                           for seed in (5, 5, 6))
        for name in one.colnames:
            np.testing.assert_array_equal(np.asarray(one[name]), np.asarray(two[name]))
        assert not np.array_equal(mains(one)["seed"], mains(other)["seed"])

    def test_no_scene(self):
        none = simulate.scenes([], extent=1 * u.deg, rng=1)
        assert len(none) == 0 and "flux" in none.colnames

    @pytest.mark.parametrize(("settings", "text"), [
        ({"labels": ["halo", "star"]}, "a scene has one of the labels.*found 'star'"),
        ({"labels": "halo"}, "labels must be a sequence of labels"),
        ({"survey": "gleam"}, "no survey is called 'gleam'"),
        ({"survey": 200 * u.MHz}, "survey must be the name of a survey or a halopy.survey.Survey"),
        ({"clusters": clusters(2)}, "clusters must have a row for each label.*2 rows, 1 labels"),
        ({"clusters": [0.2]}, "QTable with columns redshift and m500.*found 'list'"),
        ({"clusters": QTable({"z": [0.2], "m500": [5] * SOLAR})}, r"QTable with columns redshift and m500.*'z'"),
        ({"clusters": QTable({"redshift": [0.2], "m500": [5e14]})}, "the column m500 must be a mass"),
        ({"survey": dataclasses.replace(GLEAM, rms=0 * u.Jy / u.beam)}, "needs an rms and a pixel scale above 0"),
        ({"clusters": clusters(1, z=np.nan)}, "every cluster needs a redshift above 0.001 and a positive mass"),
        ({"clusters": clusters(1, z=0)}, "every cluster needs a redshift above 0.001 and a positive mass"),
        ({"clusters": clusters(1, mass=-5)}, "every cluster needs a redshift above 0.001 and a positive mass"),
        ({"relation": "basu"}, "relation must be a PowerMass or the name of one"),
        ({"faintest": 20 * u.Jy}, "faintest source must lie between"),
        ({"faintest": 5}, "faintest must be one flux density, with its unit.*found '5'"),
        ({"faintest": [5, 5] * u.mJy}, "faintest must be one flux density"),
        ({"clusters": QTable({"redshift": MaskedColumn([0.2], mask=[True]), "m500": [5] * SOLAR})},
         "every cluster needs a redshift above 0.001 and a positive mass.*redshift nan.*row 0"),
        ({"clusters": QTable({"redshift": ["near"], "m500": [5] * SOLAR})}, "the column redshift must hold numbers"),
    ])
    def test_what_cannot_be(self, settings, text):
        with pytest.raises(HaloInputError, match=text):
            simulate.scenes(**({"labels": ["none"]} | settings))

    def test_blank_sky_asks_no_cluster(self):
        assert len(simulate.scenes(["blank"], clusters=clusters(1, z=np.nan), rng=1)) == 1


class TestHalos:
    n = 4000

    def log_power(self, sources):
        """log10 of the 150 MHz power in W/Hz, from the fluxes at 200.5 MHz."""
        alpha = sources["alpha"]
        distance = COSMOLOGY.luminosity_distance(sources["redshift"]).to_value(u.m)
        at_150 = sources["flux"].to_value(u.Jy) * 1e-26 * (150 / 200.5) ** alpha
        return np.log10(4 * np.pi * distance**2 * at_150 * (1 + sources["redshift"]) ** (-alpha - 1))

    def test_the_scatter_about_the_relation(self):
        """Cuciti+ 2023: 10^25.6 W/Hz (M / 10^14.9)^3.55 at 150 MHz, with 0.35 dex."""
        table = draw_clusters(self.n, rng=2)
        halos = mains(simulate.scenes(["halo"] * self.n, clusters=table, rng=2))
        expected = 25.6 + 3.55 * (np.log10(table["m500"].to_value(u.solMass)) - 14.9)
        away = self.log_power(halos) - expected
        assert away.std() == pytest.approx(0.35, abs=0.02)
        assert away.mean() == pytest.approx(0, abs=0.02)
        assert stats.normaltest(away).pvalue > 0.01

    def test_one_emissivity(self):
        """log P1.4 = 23.52 + 3 log(r_e / 100 kpc) within 0.3 dex of power, and 40-400 kpc."""
        halos = mains(simulate.scenes(["halo"] * self.n, rng=3))
        power = self.log_power(halos) + halos["alpha"] * np.log10(1400 / 150)
        kpc = halos["r_e"].to_value(u.arcsec) / COSMOLOGY.arcsec_per_kpc_proper(halos["redshift"]).value
        assert kpc.min() > 39.9 and kpc.max() < 400.1
        free = (kpc > 60) & (kpc < 300)
        away = np.log10(kpc / 100) - (power - 23.52) / 3
        assert np.median(away[free]) == pytest.approx(0, abs=0.02)
        assert stats.median_abs_deviation(away[free], scale="normal") == pytest.approx(0.1, abs=0.02)

    def test_they_lie_near_their_centres(self):
        """Off by three tenths of r_e on each axis: within it for all but one in 250, exp(-1 / 0.18)."""
        halos = mains(simulate.scenes(["halo"] * self.n, rng=5))
        away = (np.hypot(halos["east"], halos["north"]) / halos["r_e"]).to_value(u.one)
        assert np.mean(away < 1) > 0.98
        assert np.median(away) == pytest.approx(0.3 * 1.1774, rel=0.06)

    def test_a_relation_without_scatter(self):
        relation = simulate.PowerMass(1400 * u.MHz, 24.6, 3.0, 0.0)
        halos = mains(simulate.scenes(["halo"] * 50, clusters=clusters(50), relation=relation, rng=1))
        expected = simulate.halo_flux(0.2, 5 * SOLAR, GLEAM.frequency, relation=relation, alpha=halos["alpha"])
        np.testing.assert_allclose(halos["flux"].to_value(u.mJy), expected.to_value(u.mJy))

    def test_spectra(self):
        """George+ 2017 (arXiv 1701.06742) found -1.13 +- 0.21; faint halos are often steeper (2406.12005)."""
        light, heavy = (mains(simulate.scenes(["halo"] * 3000, clusters=clusters(3000, mass=mass), rng=4))["alpha"]
                        for mass in (3, 8))
        for alpha in (light, heavy):
            assert -1.45 < np.median(alpha) < -1.1
            assert alpha.min() >= -2.2 and alpha.max() <= -0.8
        assert np.mean(light < -1.6) > 1.5 * np.mean(heavy < -1.6)


@pytest.fixture(scope="module")
def members():
    test = TestCompact
    sources = simulate.scenes(["none"] * test.n, survey=test.survey, clusters=clusters(test.n, test.z),
                              faintest=test.limit * u.mJy, rng=6)
    return merged(sources[sources["class"] == "compact"])


class TestCompact:
    """Sources about clusters of one redshift, down to 2 mJy at 154 MHz."""

    n, z, limit = 1500, 0.3, 2.0
    survey = dataclasses.replace(GLEAM, name="mine", frequency=154 * u.MHz)

    @staticmethod
    def excess(r):
        """Massardi & De Zotti 2004, lengths at H0 = 65: 4 within 0.1 Mpc, a beta-model beyond, continuous."""
        core, scale = 100 * 65 / 70, 700 * 65 / 70
        if r < core:
            return 4.0
        return 4 * ((1 + (r / scale) ** 2) / (1 + (core / scale) ** 2)) ** (-1.5 * 1.65 + 0.5)

    def field_per_kpc2(self):
        per_degree = COSMOLOGY.arcsec_per_kpc_proper(self.z).value / 3600
        return per_square_degree(self.limit / 1000) * per_degree**2

    def test_their_number(self, members):
        """(factor − 1) times the density of the field, integrated over the profile out to 1.58 Mpc."""
        area, _ = quad(lambda r: 2 * np.pi * r * self.excess(r), 0, 1700 * 65 / 70, points=[100 * 65 / 70])
        expected = self.n * self.field_per_kpc2() * area
        # The brightest galaxies, which lie within a few times 20 kpc, are no part of the excess.
        galaxies = 0.6 * self.n
        assert len(members) - galaxies == pytest.approx(expected, abs=4 * np.sqrt(expected + 0.24 * self.n))

    def test_five_times_the_field_in_the_core(self, members):
        """Where no brightest galaxy is: 90 to 93 kpc is little, so the profile from 120 to 600 kpc stands beside it."""
        away = distance_kpc(members)
        for low, high in ((70, 93), (120, 300), (300, 700), (700, 1500)):
            area, _ = quad(lambda r: 2 * np.pi * r * self.excess(r), low, high)
            expected = self.n * self.field_per_kpc2() * area
            found = np.sum((away > low) & (away < high))
            assert found == pytest.approx(expected, abs=4 * np.sqrt(expected) + 2), (low, high)

    def test_brightest_galaxies(self):
        """28 of 59 clusters have one that shines (Kale+ 2015); 90 % of the relaxed, 30 % of the merging ones."""
        def share(label):
            sources = simulate.scenes([label] * 2000, faintest=8 * u.Jy, clusters=clusters(2000), rng=7)
            near = sources[(sources["class"] == "compact")]
            return np.unique(near["cutout"][distance_kpc(near) < 150]).size / 2000

        assert share("mini-halo") == pytest.approx(1, abs=0.001)
        assert share("none") == pytest.approx(0.6, abs=0.04)
        assert share("halo") == pytest.approx(0.3, abs=0.04)

    def test_the_field(self):
        """Uniform over the square that was asked for, as dense as the counts."""
        sources = simulate.scenes(["blank"] * 400, survey=self.survey, faintest=5 * u.mJy, extent=1 * u.deg, rng=8)
        found = merged(sources[sources["class"] == "compact"])
        expected = 400 * per_square_degree(0.005)
        assert len(found) == pytest.approx(expected, abs=4 * np.sqrt(expected))
        for name in ("east", "north"):
            # The centre of a pair's flux lies in the square; one of the pair may not.
            assert abs(found[name]).max() <= 0.5 * u.deg
            assert stats.kstest(found[name].to_value(u.deg) + 0.5, "uniform").pvalue > 0.01
        assert np.isnan(found["redshift"]).all()

    def test_doubles_keep_the_flux_and_its_centre(self):
        """The pairs' shares: 10, 20 and 30 % below 50 mJy, below 300 mJy and above."""
        sources = simulate.scenes(["blank"] * 1500, survey=self.survey, faintest=20 * u.mJy, extent=1 * u.deg, rng=9)
        sources = sources[sources["class"] == "compact"]
        found = merged(sources)
        flux = found["flux"].to_value(u.mJy)
        for low, high, share in ((20, 50, 0.1), (50, 300, 0.2), (300, 1e5, 0.3)):
            here = found["parts"][(flux > low) & (flux < high)] == 2
            assert here.mean() == pytest.approx(share, abs=4 * np.sqrt(share / here.size))
        # Of the sums, none is fainter than the limit; of the parts, some are.
        assert flux.min() >= 20 * (1 - 1e-6) > sources["flux"].to_value(u.mJy).min()
        apart = found["apart"][found["parts"] == 2]
        assert np.median(apart) == pytest.approx(35, rel=0.1)
        assert np.log(apart).std() == pytest.approx(0.7, abs=0.05)

    def test_the_default_limit_follows_the_rms(self):
        """0.65 of the rms: 5 mJy for GLEAM at 170-231 MHz (7.7 mJy/beam)."""
        for name in ("gleam-170-231", "nvss"):
            survey = surveys[name]
            sources = simulate.scenes(["blank"] * 30, survey=survey, extent=1 * u.deg, rng=10)
            single = merged(sources[sources["class"] == "compact"])
            limit = 0.65 * survey.rms.to_value(u.mJy / u.beam)
            assert single["flux"].to_value(u.mJy).min() == pytest.approx(limit, rel=0.05)

    def test_an_infinite_limit_leaves_none_but_brightest_galaxies(self):
        sources = simulate.scenes(list(MIX) * 20, faintest=np.inf * u.Jy, extent=1 * u.deg, rng=11)
        compact = sources[sources["class"] == "compact"]
        assert np.bincount(compact["cutout"]).max() == 1 and (distance_kpc(compact) < 150).all()
        blends = sources[sources["class"] == "blend"]
        assert len(blends) == 20 and (blends["flux"] > 4 * 0.65 * 7.6 * u.mJy).all()

    @pytest.mark.parametrize("name", list(surveys))
    def test_every_preset_has_a_limit_that_the_counts_reach(self, name):
        simulate.scenes(["halo", "blend"], survey=name, rng=1)


def merged(compact):
    """Pairs as one source: two rows with one spectral index. Adds how many parts, and how far they are apart."""
    _, first, number = np.unique(compact["alpha"], return_index=True, return_inverse=True)
    flux = np.bincount(number, compact["flux"].to_value(u.mJy))
    out = QTable(compact[first])
    for name in ("east", "north"):
        out[name] = np.bincount(number, (compact["flux"] * compact[name]).value) / flux * u.arcsec
    out["flux"] = flux * u.mJy
    out["parts"] = np.bincount(number)
    # The distance of the first part from the centre of flux, times the whole over the other's flux.
    offset = np.hypot(*(compact[name][first] - out[name] for name in ("east", "north"))).to_value(u.arcsec)
    rest = flux - compact["flux"][first].to_value(u.mJy)
    out["apart"] = offset * flux / np.where(rest > 0, rest, np.inf)
    return out
