from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, vstack
from scipy import stats

from halopy import HaloInputError, simulate, surveys
from halopy.simulate import Artefacts, scenes
from halopy.simulate.counts import source_brightness
from halopy.simulate.shapes import components
from halopy.simulate.survey_cutouts import observe
from halopy.survey import Survey

MINE = Survey("mine", 150 * u.MHz, (100 * u.arcsec, 80 * u.arcsec), 20 * u.arcsec, 4 * u.mJy / u.beam,
              zenith=-30 * u.deg)
QUIET = dataclasses.replace(MINE, name="quiet", rms=1e-12 * u.Jy / u.beam)
"""A survey without noise to speak of: its images are the sky, convolved."""
ZENITH = SkyCoord(10 * u.deg, -30 * u.deg)
AREA = np.pi / (4 * np.log(2)) * 100 * 80 / 20**2
"""Pixels of the beam at the zenith."""
CLASSES = ("compact", "halo", "mini-halo", "relic", "phoenix", "radio-galaxy", "orc", "blend")


def a_source(kind, *, east=0.0, north=0.0, flux=0.3, r_e=60.0, length=200.0, axis_ratio=0.4, pa=30.0, seed=5):
    """A scene of one source, in Jy, arcsec and degrees."""
    size = {"r_e": r_e if kind in ("halo", "mini-halo") else np.nan, "length": length}
    return QTable({"cutout": [0], "class": [kind], "main": [True], "east": [east] * u.arcsec, "north": [north] *
                   u.arcsec, "flux": [flux] * u.Jy, "axis_ratio": [axis_ratio], "pa": [pa] * u.deg, "seed": [seed],
                   **{name: [value] * u.arcsec for name, value in size.items()}})


def seen(sources, n=1, *, survey=QUIET, shape=(128, 128), rng=1, **settings):
    return observe(sources, SkyCoord([ZENITH] * n), survey=survey, shape=shape, rng=rng, **settings)


@pytest.fixture(scope="module")
def some():
    """300 cutouts of the default mix, without artefacts."""
    return simulate.cutouts(300, survey=MINE, artefacts=None, rng=1)


class TestNoise:
    @pytest.mark.parametrize("correlation", ["psf", "smoothed"])
    def test_of_source_free_cutouts(self, correlation):
        """Rms within 1 % over 1,200 of them; the autocorrelation that was chosen."""
        positions = SkyCoord([ZENITH] * 1200)
        cutouts = simulate.cutouts(1200, survey=MINE, mix={"blank": 1}, positions=positions, faintest=np.inf * u.Jy,
                                   correlation=correlation, artefacts=None, shape=(48, 48), rng=2)
        assert (cutouts.meta["sources"]["class"] == "blank").all()
        noise = cutouts.data.astype(float)
        assert noise.std() == pytest.approx(0.004, rel=0.01)
        assert abs(noise.mean()) < 0.01 * 0.004
        assert (cutouts.table["rms"] == 4 * u.mJy / u.beam).all()
        # The PSF itself, or the beam convolved with itself: twice the variance.
        wider = {"psf": 1, "smoothed": 2}[correlation]
        for dx, dy in ((2, 0), (0, 2), (4, 0), (0, 4), (3, 3), (8, 0)):
            found = np.mean(noise[:, dy:, dx:] * noise[:, :48 - dy, :48 - dx]) / noise.var()
            # 100" by 80", 20" a pixel, the wider axis east-west at the zenith.
            expected = np.exp(-4 * np.log(2) * ((dx * 20 / 100) ** 2 + (dy * 20 / 80) ** 2) / wider)
            assert found == pytest.approx(expected, abs=0.015)

    def test_sky_and_noise_add_up(self):
        """The same noise with and without sources: the difference is the sky of a survey without noise."""
        sources = scenes(["halo", "relic", "blend", "none"] * 5, survey=MINE, extent=40 * u.arcmin, rng=3)
        dark = sources.copy()
        dark["flux"] *= 0
        lit, unlit, sky = (seen(table, 20, survey=survey, shape=(64, 64))
                           for table, survey in ((sources, MINE), (dark, MINE), (sources, QUIET)))
        np.testing.assert_allclose(lit.data - unlit.data, sky.data, atol=1e-6, rtol=1e-5)
        assert sky.data.max() > 0.05

    def test_artefacts(self):
        """Every edge without data, and rms that rises with stripes: 0 to 2 rms, uniform, adds 4/3 in variance."""
        dirty = Artefacts(sidelobes=0, stripes=2, gradient=0, ripple=0, borders=1)
        blank = scenes(["blank"] * 600, rng=1)
        cutouts = seen(blank, 600, survey=MINE, shape=(48, 48), artefacts=dirty)
        valid = np.isfinite(cutouts.data)
        assert (~valid.all(axis=(1, 2))).all() and valid[:, 24, 24].all()
        np.testing.assert_allclose(cutouts.table["coverage"], valid.mean(axis=(1, 2)))
        assert np.nanvar(cutouts.data) / 0.004**2 == pytest.approx(1 + 4 / 3, rel=0.1)


    def test_the_level_of_the_faint_sources(self):
        """What is too faint to be cleaned, 0.65 to 5 sigma, adds no mean to the sky."""
        blank = scenes(["blank"] * 1500, survey=MINE, rng=3)
        noise = seen(blank, 1500, survey=MINE, shape=(48, 48))
        beam_area = AREA * (20 / 3600) ** 2
        expected = source_brightness(0.65 * 4 * u.mJy, 20 * u.mJy, MINE.frequency).value * beam_area
        assert 0.05 * 0.004 < expected < 0.3 * 0.004
        assert noise.data.mean(dtype=float) == pytest.approx(-expected, abs=0.01 * 0.004)
        sky = scenes(["blank"] * 1500, survey=MINE, extent=30 * u.arcmin, rng=4)
        faint = sky[(sky["flux"] < 20 * u.mJy)]
        mean = faint["flux"].sum().to_value(u.Jy) / (1500 * 0.25) * beam_area
        # The halves of doubles above the limit are among them.
        assert expected < mean < 1.08 * expected

    def test_of_a_survey_that_was_measured(self):
        """Between the beam and √2 of it: NVSS has 1.27, GLEAM-X 1.12 (benchmarks/simulated_sky.py)."""
        for name, width in (("nvss", 1.27), ("gleam-x-170-231", 1.12), ("gleam-170-231", 1.0)):
            own, named = (simulate.cutouts(2, survey=name, correlation=c, rng=1) for c in (None, width))
            assert own.data.tobytes() == named.data.tobytes()


class TestSky:
    @pytest.mark.parametrize("kind", CLASSES)
    def test_flux_is_kept(self, kind):
        """The sum over the pixels, divided by the beam's area, is the flux density."""
        cutout = seen(a_source(kind, east=33.0, north=-17.0))
        assert cutout.data.sum(dtype=float) / AREA == pytest.approx(0.3, rel=1e-3)

    def test_a_point_is_the_beam_at_its_place(self):
        cutout = seen(a_source("compact", east=47.0, north=-31.0), shape=(65, 65)).data[0].astype(float)
        dy, dx = np.indices((65, 65)) - 32.0
        # East is to the left; 100" east-west, 80" north-south.
        expected = 0.3 * np.exp(-4 * np.log(2) * (((dx * 20 + 47) / 100) ** 2 + ((dy * 20 + 31) / 80) ** 2))
        np.testing.assert_allclose(cutout, expected, atol=1e-6)

    def test_a_long_halo_lies_along_its_angle(self):
        image = seen(a_source("halo", axis_ratio=0.4, pa=30, r_e=100), shape=(200, 200)).data[0].astype(float)
        y, x = np.indices(image.shape) - 99.5
        east, north = -x * 20, y * 20
        moments = [np.sum(image * a * b) / image.sum() for a, b in ((east, east), (east, north), (north, north))]
        # An exponential disc has the variance 3 r_e^2 an axis; the beam's is taken off.
        ee, en, nn = moments[0] - (100 / 2.35482) ** 2, moments[1], moments[2] - (80 / 2.35482) ** 2
        assert np.degrees(0.5 * np.arctan2(2 * en, nn - ee)) == pytest.approx(30, abs=0.3)
        minor, major = np.sqrt(np.linalg.eigvalsh([[ee, en], [en, nn]]))
        assert minor / major == pytest.approx(0.4, rel=0.02)
        assert minor * major == pytest.approx(3 * 100**2, rel=0.03)

    def test_what_lies_beyond_the_edge_shines_into_the_cutout(self, some):
        sources = some.meta["sources"]
        field = np.isnan(sources["redshift"]) & ~sources["main"]
        assert np.abs(sources["east"][field]).max() > 32 * 20 * u.arcsec + 150 * u.arcsec
        outside = seen(a_source("compact", east=650.0), shape=(64, 64)).data[0]
        # A pixel east of the edge, half a pixel from the middle of a row; the beam is 100" by 80".
        assert outside[:, 0].max() == pytest.approx(0.3 * 2 ** (-4 * ((20 / 100) ** 2 + (10 / 80) ** 2)), rel=1e-3)


class TestTruth:
    def test_the_table(self, some):
        main = some.meta["sources"][some.meta["sources"]["main"]]
        table = some.table
        np.testing.assert_array_equal(table["label"], main["class"])
        np.testing.assert_array_equal(table["name"], main["name"])
        for name in ("flux", "r_e", "length", "redshift", "m500"):
            np.testing.assert_array_equal(np.asarray(table[name]), np.asarray(main[name]))
        assert len(set(table["name"])) == len(set(table["group"])) == 300
        assert (table["pixel_scale"] == 20 * u.arcsec).all() and (table["frequency"] == 150 * u.MHz).all()
        assert some.unit == u.Jy / u.beam and set(table["image"]) == {"simulated mine"}
        empty = np.isin(table["label"], ["none", "blank"])
        assert (table["flux"][empty] == 0).all() and (table["snr"][empty] == 0).all()
        assert np.isnan(table["redshift"][table["label"] == "blank"]).all()

    def test_snr_is_the_peak_of_the_main_source_alone(self, some):
        sources = some.meta["sources"]
        alone = observe(sources[sources["main"]], some.table["position"], survey=QUIET, shape=(64, 64), rng=1)
        np.testing.assert_allclose(some.table["snr"], alone.data.max(axis=(1, 2)) / 0.004, rtol=1e-4, atol=1e-6)

    def test_blends_by_counting(self, some):
        sources = some.meta["sources"]
        for i, label in enumerate(some.table["label"]):
            here = sources[sources["cutout"] == i]
            main = here[here["main"]]
            compact = here[here["class"] == "compact"]
            apart = np.hypot(compact["east"] - main["east"], compact["north"] - main["north"]).to_value(u.arcsec)
            fwhm = np.sqrt(some.table["beam_major"][i] * some.table["beam_minor"][i]).to_value(u.arcsec)
            expected = np.sum(apart <= fwhm)
            if label == "blend":
                parts = components(main)
                expected += np.sum(np.hypot(parts["east"], parts["north"]) <= fwhm)
            assert some.table["blends"][i] == expected

    def test_other_diffuse_sources_are_named(self):
        cutouts = simulate.cutouts(300, mix={"halo": 1}, artefacts=None, rng=4)
        sources = cutouts.meta["sources"]
        with_relic = np.unique(sources["cutout"][sources["class"] == "relic"])
        np.testing.assert_array_equal(np.flatnonzero(cutouts.table["also"] == "relic"), with_relic)
        # One in seven or so.
        assert 0.08 < with_relic.size / 300 < 0.24
        assert set(cutouts.table["also"]) == {"", "relic"}

    def test_the_mix(self):
        labels = simulate.cutouts(600, mix={"halo": 2, "blank": 1}, shape=(8, 8), rng=5).table["label"]
        assert set(labels) == {"halo", "blank"}
        assert stats.binomtest(int(np.sum(labels == "halo")), 600, 2 / 3).pvalue > 0.01

    def test_clusters_to_draw_from(self):
        table = QTable({"redshift": [0.1, 0.3], "m500": [8e14, 5e14] * u.solMass})
        found = simulate.cutouts(40, mix={"halo": 1}, clusters=table, shape=(8, 8), rng=1).table
        assert set(zip(found["redshift"], found["m500"].to_value(1e14 * u.solMass).round(6), strict=True)) == {
            (0.1, 8.0), (0.3, 5.0)}


class TestSnr:
    def test_it_is_obeyed_and_scales_the_flux(self):
        sources = vstack([scenes(["halo", "mini-halo", "orc", "none"], survey=MINE, clusters=near(4), rng=2)])
        wanted = [5.0, np.nan, 20.0, 7.0]
        plain, asked = (seen(sources, 4, survey=MINE, snr=snr) for snr in (None, wanted))
        snr = plain.table["snr"]
        np.testing.assert_allclose(asked.table["snr"], [5, snr[1], 20, 0], rtol=1e-4)
        factor = asked.table["flux"][:3] / plain.table["flux"][:3]
        np.testing.assert_allclose(factor, [5 / snr[0], 1, 20 / snr[2]], rtol=1e-4)
        truth = asked.meta["sources"]
        np.testing.assert_array_equal(truth["flux"][truth["main"]], asked.table["flux"])
        # Nothing but the main sources is scaled.
        np.testing.assert_array_equal(truth["flux"][~truth["main"]], plain.meta["sources"]["flux"][~truth["main"]])
        # And the pixels follow the flux.
        again = seen(truth, 4, survey=MINE)
        np.testing.assert_allclose(again.data, asked.data, atol=1e-6)

    def test_the_sources_given_stay_as_they_are(self):
        sources = scenes(["halo"], rng=1)
        before = sources.copy()
        seen(sources, snr=[50.0])
        assert sources.colnames == before.colnames
        np.testing.assert_array_equal(sources["flux"], before["flux"])


def near(n):
    return QTable({"redshift": np.full(n, 0.1), "m500": np.full(n, 6e14) * u.solMass})


class TestClip:
    def test_one_and_two_sides(self):
        plain, one, two = (simulate.cutouts(20, survey=MINE, clip=clip, rng=6) for clip in (None, (None, 3), (-3, 3)))
        valid = np.isfinite(plain.data)
        for clipped, kept in ((one, plain.data >= 0.012), (two, np.abs(plain.data) >= 0.012)):
            np.testing.assert_array_equal(clipped.data[valid], np.where(kept, plain.data, 0)[valid])
            assert np.isnan(clipped.data[~valid]).all()
        assert one.data[valid].min() == 0 > two.data[valid].min()
        assert one.meta["clip"] == {"low": None, "high": 3}


class TestSurveys:
    @pytest.mark.parametrize("survey", ["gleam-170-231", "nvss", "tgss", MINE])
    def test_the_beam_is_that_of_the_place(self, survey):
        positions = SkyCoord([10, 100, 200], [-70, -30, 30], unit="deg")
        cutouts = simulate.cutouts(3, survey=survey, positions=positions.galactic, shape=(16, 16), rng=1)
        survey = surveys[survey] if isinstance(survey, str) else survey
        for row, position in zip(cutouts.table, positions, strict=True):
            beam = survey.beam_at(position)
            for name in ("major", "minor", "pa"):
                assert u.isclose(row[f"beam_{name}"], getattr(beam, name), rtol=1e-9)
            assert row["position"].separation(position) < 1e-6 * u.arcsec

    def test_random_places_are_even_on_the_sphere(self):
        position = simulate.cutouts(3000, survey=MINE, mix={"blank": 1}, shape=(4, 4), artefacts=None,
                                    faintest=5 * u.Jy, rng=7).table["position"]
        low, high = np.sin(np.radians([-80, 20]))
        assert stats.kstest((np.sin(position.dec.rad) - low) / (high - low), "uniform").pvalue > 0.01
        assert stats.kstest(position.ra.deg / 360, "uniform").pvalue > 0.01

    @pytest.mark.parametrize("name", ["gleam-72-103", "gleam-x-170-231", "mwa2-216", "racs-low", "lotss-20", "vlssr"])
    def test_presets(self, name):
        cutouts = simulate.cutouts(4, survey=name, shape=(40, 30), rng=1)
        assert cutouts.shape == (4, 40, 30)
        assert (cutouts.table["frequency"] == surveys[name].frequency).all()


class TestRng:
    def test_same_rng_same_bytes(self):
        one, two, other = (simulate.cutouts(30, rng=rng) for rng in (8, np.random.default_rng(8), 9))
        np.testing.assert_array_equal(one.data, two.data)
        for first, second in ((one.table, two.table), (one.meta["sources"], two.meta["sources"])):
            assert first.colnames == second.colnames
            for name in first.colnames:
                if name == "position":
                    assert (first[name].ra == second[name].ra).all() and (first[name].dec == second[name].dec).all()
                else:
                    np.testing.assert_array_equal(np.asarray(first[name]), np.asarray(second[name]))
        assert not np.array_equal(one.data, other.data, equal_nan=True)
        assert not set(one.table["name"]) & set(other.table["name"])

    def test_inputs_are_not_changed(self):
        table, mix = near(3), {"halo": 1, "none": 1}
        before = table.copy()
        simulate.cutouts(5, clusters=table, mix=mix, shape=(8, 8), rng=1)
        assert (table == before).all() and mix == {"halo": 1, "none": 1}


@pytest.mark.parametrize("clip", [None, (None, 3)])
def test_no_cutout(clip):
    none = simulate.cutouts(0, shape=(20, 30), clip=clip, rng=1)
    assert none.shape == (0, 20, 30) and len(none.meta["sources"]) == 0
    assert none.table.colnames == simulate.cutouts(1, clip=clip, rng=1).table.colnames


@pytest.mark.parametrize(("settings", "text"), [
    ({"n": -1}, "n must be a whole number of cutouts"),
    ({"n": 2.0}, "n must be a whole number of cutouts"),
    ({"shape": 64}, r"shape must be two whole numbers \(ny, nx\).*try: shape=\(64, 64\)"),
    ({"shape": (0, 64)}, "shape must be two whole numbers"),
    ({"shape": (64, 64, 3)}, "shape must be two whole numbers"),
    ({"clip": 3}, r"clip must be two numbers of sigmas, \(low, high\).*both sides"),
    ({"clip": (3, -3)}, "low must lie below high"),
    ({"survey": "gleam"}, "no survey is called 'gleam'"),
    ({"positions": SkyCoord([1], [2], unit="deg")}, "positions must be a SkyCoord of 2 positions"),
    ({"positions": [(1, 2), (3, 4)]}, "positions must be a SkyCoord of 2 positions.*found 'list'"),
    ({"clusters": near(0)}, "clusters must have at least one row"),
    ({"clusters": [0.1]}, "clusters must be a QTable with columns redshift and m500"),
    ({"mix": {"halos": 1}}, "mix takes the labels"),
    ({"relation": "mine"}, "relation must be a PowerMass or the name of one"),
    ({"faintest": 1 * u.uJy}, "faintest source must lie between"),
    ({"correlation": "white"}, "correlation must be one of psf, smoothed"),
    ({"artefacts": {"stripes": 1}}, "artefacts must be an Artefacts, or None.*found 'dict'"),
    ({"faintest": "5 cm"}, "faintest must be one flux density, with its unit"),
])
def test_what_cannot_be(settings, text):
    with pytest.raises(HaloInputError, match=text):
        simulate.cutouts(**({"n": 2, "rng": 1} | settings))


def test_each_cutout_has_one_main_source():
    sources = scenes(["halo", "none"], rng=1)
    for wrong in (sources[~sources["main"]], vstack([sources, sources]), sources[sources["cutout"] == 0]):
        with pytest.raises(HaloInputError, match="one main row for each cutout, in their order"):
            seen(wrong[np.argsort(wrong["cutout"], kind="stable")], 2)
