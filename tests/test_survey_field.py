from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table, vstack
from scipy import stats
from test_counts import per_square_degree

from halopy import HaloInputError, simulate, surveys
from halopy.simulate import Artefacts
from halopy.simulate.shapes import components
from halopy.survey import Survey

MINE = Survey("mine", 154 * u.MHz, (100 * u.arcsec, 80 * u.arcsec), 25 * u.arcsec, 4 * u.mJy / u.beam,
              zenith=-30 * u.deg)
QUIET = dataclasses.replace(MINE, name="quiet", rms=1e-12 * u.Jy / u.beam)
CENTRE = SkyCoord(40.0, -60.0, unit="deg")


def some_clusters(**columns):
    return QTable({"redshift": [0.1, 0.2, 0.3], "m500": [8e14, 5e14, 6e14] * u.solMass, **columns})


@pytest.fixture(scope="module")
def one():
    """A field of 400 x 300 pixels, 5 square degrees, down to 5 mJy."""
    return simulate.field((400, 300), survey=MINE, position=CENTRE, clusters=12, faintest=5 * u.mJy, artefacts=None,
                          rng=1)


class TestSources:
    def test_their_number(self, one):
        """Franzen+ 2019: 80 per square degree above 5 mJy at 154 MHz; pairs count once."""
        image, truth = one
        x, y = image.wcs.world_to_pixel(truth["position"])
        field = (truth["class"] == "compact") & (truth["name"] == "") & (x > 0) & (x < 299) & (y > 0) & (y < 399)
        number = len(np.unique(truth["alpha"][field]))
        expected = per_square_degree(0.005) * 400 * 300 * (25 / 3600) ** 2
        # A pair on the border counts with its half inside.
        assert number == pytest.approx(expected, abs=4 * np.sqrt(expected))
        assert stats.kstest(x[field] / 299, "uniform").pvalue > 0.01
        assert stats.kstest(y[field] / 399, "uniform").pvalue > 0.01
        assert np.isnan(truth["redshift"][field]).all()
        # Those beyond the edge shine into the image.
        assert np.sum((truth["name"] == "") & ((y < -2) | (y > 401))) > 5

    def test_they_shine_where_the_truth_says(self):
        """Bright, lonely compact sources: the centroid of their light, to a tenth of a pixel; their flux."""
        image, truth = simulate.field((500, 500), survey=QUIET, position=CENTRE, clusters=0, faintest=100 * u.mJy,
                                      artefacts=None, rng=2)
        x, y = image.wcs.world_to_pixel(truth["position"])
        lonely = 0
        for i in np.flatnonzero((x > 15) & (x < 484) & (y > 15) & (y < 484)):
            if np.sum(np.hypot(x - x[i], y - y[i]) < 24) > 1:
                continue
            left, low = int(x[i]) - 10, int(y[i]) - 10
            part = image.data[low:low + 21, left:left + 21].astype(float)
            v, w = np.indices(part.shape)
            assert (part * w).sum() / part.sum() + left == pytest.approx(x[i], abs=0.1)
            assert (part * v).sum() / part.sum() + low == pytest.approx(y[i], abs=0.1)
            assert part.sum() / image.beam_area == pytest.approx(truth["flux"][i].to_value(u.Jy), rel=2e-3)
            lonely += 1
        assert lonely > 20

    def test_far_from_the_centre(self):
        """2,048 pixels of 25": 8° from the centre of a field at declination −60°."""
        places = SkyCoord([CENTRE.spherical_offsets_by(6 * u.deg, 5.5 * u.deg),
                           CENTRE.spherical_offsets_by(-5 * u.deg, -6 * u.deg), CENTRE])
        image, truth = simulate.field((2048, 2048), survey=QUIET, position=CENTRE, faintest=3 * u.Jy, artefacts=None,
                                      clusters=some_clusters(position=places, label=["mini-halo"] * 3), rng=3)
        main = truth[truth["main"]]
        assert (main["position"].separation(places) < 1e-6 * u.arcsec).all()
        again = simulate.inject(image.replace(data=np.zeros(image.shape), meta={}), main)
        for place in places:
            x, y = image.wcs.world_to_pixel(place)
            left, low = int(x) - 20, int(y) - 20
            part = again.data[low:low + 41, left:left + 41].astype(float)
            v, w = np.indices(part.shape)
            assert (part * w).sum() / part.sum() + left == pytest.approx(x, abs=0.1)
            assert (part * v).sum() / part.sum() + low == pytest.approx(y, abs=0.1)

    def test_blends_by_counting(self, one):
        """Compact sources within a beam, √(major · minor), of each source; a source is no neighbour of its own."""
        image, truth = one
        fwhm = np.sqrt(image.beam.major * image.beam.minor)
        compact = truth[truth["class"] == "compact"]
        blend = truth["class"] == "blend"
        for row in truth[np.flatnonzero(~blend)[:150]]:
            if np.all(row["position"].separation(truth["position"][blend]) > 2 * fwhm):
                near = np.sum(row["position"].separation(compact["position"]) < fwhm)
                assert row["blends"] == near - (row["class"] == "compact")

    def test_a_blend_counts_its_own_parts(self):
        """As a cutout's does: two to five, unless some of them lie farther away than a beam."""
        _, truth = simulate.field((400, 400), survey=MINE, clusters=20, mix={"blend": 1}, faintest=2 * u.Jy, rng=1)
        main = truth[truth["main"]]
        for row, number in zip(main, main["blends"], strict=True):
            parts = components(QTable(row))
            inside = np.hypot(parts["east"], parts["north"]) <= np.sqrt(100 * 80)
            assert inside.sum() <= number
        assert np.median(main["blends"]) >= 2

    def test_the_image_is_sky_and_noise(self, one):
        """What is left without the sources of the truth is noise of the survey's rms."""
        image, truth = one
        sky = simulate.inject(image.replace(data=np.zeros(image.shape), meta={}), truth)
        left = image.data - sky.data
        # 5,000 beams: 1 % of rms; the beam is wider here than at the zenith.
        assert left.std() == pytest.approx(0.004, rel=0.05)
        assert abs(left).max() < 6 * 0.004

    def test_the_diffuse_part(self, one):
        image, truth = one
        part = simulate.diffuse_part(image)
        diffuse = truth[np.isin(truth["class"], ["halo", "mini-halo", "relic", "phoenix", "orc"])]
        assert 0 < len(diffuse) < 40
        expected = simulate.inject(image.replace(data=np.zeros(image.shape), meta={}), diffuse)
        np.testing.assert_array_equal(part.data, expected.data)


class TestImage:
    def test_what_it_says_of_itself(self, one):
        image, _ = one
        assert image.shape == (400, 300) and image.unit == u.Jy / u.beam and image.frequency == 154 * u.MHz
        assert image.beam == MINE.beam_at(CENTRE)
        assert image.name == "simulated mine" and image.meta["survey"] == "mine" and image.rms is None
        assert u.isclose(image.pixel_scale, 25 * u.arcsec, rtol=1e-6)
        assert image.wcs.pixel_to_world(149.5, 199.5).separation(CENTRE) < 1e-3 * u.arcsec

    def test_truth_is_in_the_image(self, one):
        image, truth = one
        for name in ("name", "flux", "class"):
            np.testing.assert_array_equal(image.meta["sources"][name], truth[name])

    def test_clip(self):
        plain, one, two = (simulate.field((100, 100), survey=MINE, position=CENTRE, clip=clip, rng=5)[0]
                           for clip in (None, (None, 3), (-3, 3)))
        valid = plain.valid
        np.testing.assert_array_equal(one.data[valid], np.where(plain.data >= 0.012, plain.data, 0)[valid])
        np.testing.assert_array_equal(two.data[valid], np.where(abs(plain.data) >= 0.012, plain.data, 0)[valid])
        assert one.flags == ("clipped",) and one.meta["clip"] == {"low": None, "high": 3} and one.rms is None
        assert len(simulate.diffuse_part(one).meta["sources"]) <= 8

    def test_edges_without_data(self):
        bad = Artefacts(sidelobes=0, stripes=0, gradient=0, ripple=0, borders=1)
        image, _ = simulate.field((100, 80), survey=MINE, artefacts=bad, rng=6)
        assert 0.3 < image.valid.mean() < 1 and image.valid[50, 40]
        assert np.isnan(simulate.diffuse_part(image).data[~image.valid]).all()

    def test_presets(self):
        for name in ("gleam-170-231", "nvss", "gleam-x-170-231"):
            image, _ = simulate.field((64, 48), survey=name, rng=7)
            assert image.shape == (64, 48) and image.frequency == surveys[name].frequency

    def test_same_rng_same_bytes(self):
        (one, a), (two, b), (other, _) = (simulate.field((64, 64), rng=seed) for seed in (8, 8, 9))
        np.testing.assert_array_equal(one.data, two.data)
        assert a.colnames == b.colnames
        for name in set(a.colnames) - {"position"}:
            np.testing.assert_array_equal(np.asarray(a[name]), np.asarray(b[name]))
        assert (a["position"].ra == b["position"].ra).all()
        assert not np.array_equal(one.data, other.data, equal_nan=True)


class TestClusters:
    def test_random_ones(self, one):
        image, truth = one
        main = truth[truth["main"]]
        assert sorted(main["name"]) == sorted(f"cluster {i}" for i in range(1, 13))
        assert "blank" not in main["class"]
        x, y = image.wcs.world_to_pixel(truth["position"][truth["main"] & np.isin(truth["class"], ["none", "blend"])])
        # Those in the middle of their cluster lie in the inner four fifths.
        assert ((x >= 29) & (x <= 270) & (y >= 39) & (y <= 360)).all()
        named = truth[truth["name"] != ""]
        assert np.isfinite(named["redshift"]).all() and set(named["name"]) == set(main["name"])

    def test_given_ones_are_obeyed(self):
        offsets = ((0.2, 0), (-0.3, 0.1), (0, 0))
        places = SkyCoord([CENTRE.spherical_offsets_by(*(offset * u.deg)) for offset in offsets])
        table = some_clusters(position=places.galactic, label=["mini-halo", "none", "orc"], name=["A85", "A13", "ORC"])
        before = table.copy()
        _, truth = simulate.field((200, 200), survey=MINE, position=CENTRE, clusters=table, rng=1)
        main = truth[truth["main"]]
        assert list(main["name"]) == ["A85", "A13", "ORC"]
        assert list(main["class"]) == ["mini-halo", "none", "orc"]
        # None of these three lies off its cluster's centre.
        assert (main["position"].separation(places) < 1e-6 * u.arcsec).all()
        np.testing.assert_array_equal(main["redshift"], table["redshift"])
        np.testing.assert_allclose(main["m500"].to_value(u.solMass), [8e14, 5e14, 6e14])
        np.testing.assert_allclose(main["flux"][1].value, 0)
        assert table.colnames == before.colnames and (table["label"] == before["label"]).all()

    def test_a_mix(self):
        _, truth = simulate.field((64, 64), clusters=20, mix={"relic": 1}, faintest=1 * u.Jy, rng=1)
        assert list(truth["class"][truth["main"]]) == ["relic"] * 20

    def test_a_relic_points_away_from_its_cluster(self):
        table = some_clusters(label=["relic"] * 3, position=SkyCoord([CENTRE] * 3))
        _, truth = simulate.field((300, 300), survey=MINE, position=CENTRE, clusters=table, artefacts=None, rng=2)
        relics = truth[truth["class"] == "relic"]
        angle = CENTRE.position_angle(relics["position"])
        apart = (angle - relics["pa"]).wrap_at(180 * u.deg)
        assert abs(apart).max() < 0.1 * u.deg

    def test_one_beyond_the_edge_stays_in_the_truth(self):
        table = some_clusters(label=["mini-halo"] * 3, position=SkyCoord(
            [CENTRE, CENTRE.spherical_offsets_by(5 * u.deg, 0 * u.deg), CENTRE]))
        _, truth = simulate.field((100, 100), survey=MINE, position=CENTRE, clusters=table, rng=2)
        assert truth["main"].sum() == 3

    def test_none(self):
        image, truth = simulate.field((64, 64), survey=MINE, clusters=0, rng=1)
        assert not truth["main"].any() and set(truth["class"]) == {"compact"} and (truth["name"] == "").all()
        assert (simulate.diffuse_part(image).data[image.valid] == 0).all()


@pytest.mark.parametrize(("settings", "text"), [
    ({"shape": 64}, r"shape must be two whole numbers \(ny, nx\)"),
    ({"shape": (64, 0)}, "shape must be two whole numbers"),
    ({"clip": 3}, r"clip must be two numbers of sigmas, \(low, high\)"),
    ({"survey": "gleam"}, "no survey is called 'gleam'"),
    ({"position": SkyCoord([1], [2], unit="deg")}, "beam_at takes one position"),
    ({"clusters": -1}, "clusters must be a number, or a QTable with columns redshift and m500.*found -1"),
    ({"clusters": 2.5}, "clusters must be a number, or a QTable"),
    ({"clusters": Table({"redshift": [0.1]})}, "clusters must be a number, or a QTable"),
    ({"artefacts": True}, "artefacts must be an Artefacts, or None.*found 'bool'"),
    ({"clusters": some_clusters(label=["halo", "star", "none"])}, "a scene has one of the labels.*found 'star'"),
    ({"position": CENTRE,
      "clusters": some_clusters(position=SkyCoord([CENTRE, CENTRE, SkyCoord(220, 60, unit="deg")]))},
     "every cluster must lie on the field's half of the sky.*found 'cluster 3'"),
    ({"mix": {"halos": 1}}, "mix takes the labels"),
    ({"correlation": "white"}, "correlation must be one of psf, smoothed"),
])
def test_what_cannot_be(settings, text):
    with pytest.raises(HaloInputError, match=text):
        simulate.field(**({"shape": (32, 32), "rng": 1} | settings))


def test_fields_differ_only_by_their_noise():
    """The sky of two seeds is another; that of the truth, injected again, the same."""
    image, truth = simulate.field((96, 96), survey=QUIET, clusters=2, artefacts=None, faintest=5 * u.mJy, rng=4)
    again = simulate.inject(image.replace(data=np.zeros(image.shape), meta={}), vstack([truth]))
    np.testing.assert_allclose(again.data, image.data, atol=1e-9)


def test_an_astropy_table_of_clusters_will_do():
    plain = simulate.field((40, 40), clusters=Table(some_clusters()), rng=1)[0]
    np.testing.assert_array_equal(plain.data, simulate.field((40, 40), clusters=some_clusters(), rng=1)[0].data)
