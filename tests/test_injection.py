from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table, vstack
from simulated import BEAM, CENTRE, JY_PER_BEAM, PIXEL, an_image, point_source, some_cutouts, turned_wcs

from halopy import Augmenter, Beam, ClusterImage, CutoutSet, HaloInputError, simulate
from halopy.cutouts import tangent_wcs
from halopy.simulate import scenes

CLASSES = ("compact", "halo", "mini-halo", "relic", "phoenix", "radio-galaxy", "orc", "blend")
TAN = ("RA---TAN", "DEC--TAN")
GRIDS = {"north up": {}, "tangential": {"ctype": TAN}, "turned": {"turn": 40.0}, "mirrored": {"east": 1},
         "south up": {"north": -1}, "turned and mirrored": {"turn": 115.0, "east": 1, "ctype": TAN},
         "upside down": {"turn": 180.0}, "oblong": {"turn": -25.0, "aspect": 1.4}}


def a_source(kind="halo", position=CENTRE, *, flux=0.3, pa=30.0, seed=5, r_e=150.0, length=600.0, axis_ratio=0.4):
    size = {"r_e": r_e if kind in ("halo", "mini-halo") else np.nan, "length": length}
    return QTable({"class": [kind], "position": SkyCoord([position]), "flux": [flux] * u.Jy, "axis_ratio": [axis_ratio],
                   "pa": [pa] * u.deg, "seed": [seed], **{k: [v] * u.arcsec for k, v in size.items()}})


def empty(wcs, shape=(240, 240), *, beam=BEAM, **settings):
    return ClusterImage(np.zeros(shape), wcs=wcs, unit=JY_PER_BEAM, beam=beam, **settings)


def on_sky(image, about):
    """Flux in Jy, mean east and north, and covariance in arcsec² of the light, by the WCS alone."""
    data = image.data.astype(float)
    y, x = np.nonzero(np.abs(data) > 1e-5 * np.nanmax(data))
    weight = data[y, x]
    sky = image.wcs.pixel_to_world(x, y).transform_to(about.frame)
    east, north = (offset.to_value(u.arcsec) for offset in about.spherical_offsets_to(sky))
    centre = [np.sum(weight * axis) / weight.sum() for axis in (east, north)]
    covariance = np.cov(np.stack([east, north]), aweights=weight)
    return np.nansum(data) / image.beam_area, centre, covariance


def angle_of(covariance):
    """Position angle of the major axis in degrees, from north through east."""
    return np.degrees(0.5 * np.arctan2(2 * covariance[0, 1], covariance[1, 1] - covariance[0, 0])) % 180


def turned_by(found, expected):
    return abs((found - expected + 90) % 180 - 90)


class TestImages:
    @pytest.mark.parametrize("kind", CLASSES)
    @pytest.mark.parametrize("grid", ["north up", "turned and mirrored", "oblong"])
    def test_flux_is_kept(self, kind, grid):
        image = simulate.inject(empty(turned_wcs((240, 240), **GRIDS[grid])), a_source(kind))
        assert image.data.sum(dtype=float) / image.beam_area == pytest.approx(0.3, rel=1e-3)

    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize("pa", [30.0, 120.0])
    def test_shapes_lie_on_the_sky_as_their_row_says(self, grid, pa):
        """An exponential disc has the variance 3 r_e² an axis; the beam adds its own on the sky."""
        wcs = turned_wcs((240, 240), **GRIDS[grid])
        _, centre, covariance = on_sky(simulate.inject(empty(wcs), a_source(pa=pa)), CENTRE)
        np.testing.assert_allclose(centre, 0, atol=0.5)
        sine, cosine = np.sin(np.radians(30)), np.cos(np.radians(30))
        along, across = np.array([sine, cosine]), np.array([cosine, -sine])
        covariance = covariance - (140 / 2.35482) ** 2 * np.outer(along, along) \
            - (120 / 2.35482) ** 2 * np.outer(across, across)
        assert turned_by(angle_of(covariance), pa) < 0.3
        minor, major = np.sqrt(np.linalg.eigvalsh(covariance))
        assert minor / major == pytest.approx(0.4, rel=0.02)
        assert minor * major == pytest.approx(3 * 150**2, rel=0.03)

    @pytest.mark.parametrize("grid", GRIDS)
    def test_a_relic_lies_across_its_direction_and_bends_around_the_centre(self, grid):
        wcs = turned_wcs((240, 240), **GRIDS[grid])
        image = simulate.inject(empty(wcs, beam=Beam(90 * u.arcsec)),
                                a_source("relic", pa=70, length=1200, axis_ratio=0.1))
        _, _, covariance = on_sky(image, CENTRE)
        assert turned_by(angle_of(covariance), 160) < 12
        # Its ends hang back towards the centre of the cluster, which lies against pa: skewed to that side.
        data = image.data.astype(float)
        sky = wcs.pixel_to_world(*np.meshgrid(np.arange(240), np.arange(240)))
        east, north = (offset.to_value(u.arcsec) for offset in CENTRE.spherical_offsets_to(sky))
        outwards = east * np.sin(np.radians(70)) + north * np.cos(np.radians(70))
        middle = np.sum(data * outwards) / data.sum()
        assert middle < 0 and np.sum(data * (outwards - middle) ** 3) < 0

    @pytest.mark.parametrize("offset", [(0, 0), (7, 6), (-8, 3)])
    def test_far_from_the_centre_north_is_north_there(self, offset):
        """At declination −60° meridians lean by 10° seven degrees from the centre."""
        centre = SkyCoord(10, -60, unit="deg")
        place = centre.spherical_offsets_by(*(offset * u.deg))
        wcs = tangent_wcs(centre, PIXEL, (1800, 1800))
        image = simulate.inject(empty(wcs, (1800, 1800), beam=Beam(120 * u.arcsec)), a_source(position=place))
        flux, middle, covariance = on_sky(image, place)
        assert flux == pytest.approx(0.3, rel=1e-3)
        np.testing.assert_allclose(middle, 0, atol=2)
        assert turned_by(angle_of(covariance), 30) < 0.4

    @pytest.mark.parametrize("kind", ["compact", "halo"])
    @pytest.mark.parametrize("frame", ["icrs", "galactic", "fk5"])
    def test_they_land_on_their_positions(self, kind, frame):
        """Pixel centroids to 0.05 pixel, whatever the frames of the position and of the image."""
        centre = CENTRE.galactic if frame == "galactic" else CENTRE
        ctype = ("GLON-SIN", "GLAT-SIN") if frame == "galactic" else TAN
        wcs = turned_wcs((240, 240), turn=20, centre=centre, ctype=ctype)
        if frame == "fk5":
            wcs.wcs.radesys = "FK5"
        position = wcs.pixel_to_world(151.3, 88.8).icrs
        data = simulate.inject(empty(wcs), a_source(kind, position, r_e=60, axis_ratio=1)).data.astype(float)
        y, x = np.indices(data.shape)
        assert (data * x).sum() / data.sum() == pytest.approx(151.3, abs=0.05)
        assert (data * y).sum() / data.sum() == pytest.approx(88.8, abs=0.05)

    def test_angles_count_from_the_north_of_the_positions_frame(self):
        wcs = turned_wcs((240, 240), centre=CENTRE.galactic, ctype=("GLON-SIN", "GLAT-SIN"))
        for place in (CENTRE, CENTRE.galactic):
            image = simulate.inject(empty(wcs, beam=Beam(100 * u.arcsec)), a_source(position=place))
            assert turned_by(angle_of(on_sky(image, place)[2]), 30) < 0.3

    def test_a_point_is_the_beam(self):
        """Against a Gaussian written for the tests."""
        image = an_image(np.zeros((101, 101)))
        position = image.wcs.pixel_to_world(60.2, 40.7)
        added = simulate.inject(image, a_source("compact", position)).data
        np.testing.assert_allclose(added, 0.3 * point_source((101, 101), 60.2, 40.7), atol=2e-6)

    def test_random_places_hold_data_and_keep_the_scene_together(self):
        data = np.full((400, 400), np.nan)
        data[100:130, 250:300] = 0
        image = an_image(data)
        rows = QTable({"cutout": np.repeat(np.arange(300), 3), "east": np.tile([0, 300, -100], 300) * u.arcsec,
                       "north": np.tile([0, 50, 400], 300) * u.arcsec, "class": np.full(900, "compact"),
                       "flux": np.full(900, 0.1) * u.Jy})
        found = simulate.inject(image, rows, rng=1)
        places = found.meta["sources"]["position"].reshape(300, 3)
        x, y = image.wcs.world_to_pixel(places[:, 0])
        assert np.isfinite(data[np.rint(y).astype(int), np.rint(x).astype(int)]).all()
        assert len(np.unique(np.rint(x))) > 30 and len(np.unique(np.rint(y))) > 20
        for i, (east, north) in ((1, (300, 50)), (2, (-100, 400))):
            offsets = places[:, 0].spherical_offsets_to(places[:, i])
            np.testing.assert_allclose(offsets[0].to_value(u.arcsec), east, atol=1e-3)
            np.testing.assert_allclose(offsets[1].to_value(u.arcsec), north, atol=1e-3)
        same, other = (simulate.inject(image, rows, rng=seed) for seed in (1, 2))
        np.testing.assert_array_equal(found.data, same.data)
        assert not np.array_equal(found.data, other.data, equal_nan=True)

    def test_what_stays(self):
        """No data stays no data, maps and inputs are not touched, the image keeps the rest of itself."""
        data = np.random.default_rng(1).normal(size=(200, 200))
        data[90:95] = np.nan
        image = an_image(data, rms=np.full(data.shape, 0.5), background=np.ones(data.shape), meta={"a": 1})
        before, sources = image.data.copy(), a_source()
        found = simulate.inject(image, sources)
        np.testing.assert_array_equal(image.data, before)
        np.testing.assert_array_equal(np.isnan(found.data), np.isnan(before))
        assert (found.rms == 0.5).all() and (found.background == 1).all()
        assert (found.name, found.beam, found.meta["a"]) == (image.name, image.beam, 1)
        assert "sources" not in image.meta and len(found.meta["sources"]) == 1
        assert sources.colnames == a_source().colnames
        assert found.data[100, 100] > before[100, 100]

    def test_other_units(self):
        image = an_image(np.zeros((200, 200)))
        milli = an_image(np.zeros((200, 200)), unit=u.mJy / u.beam)
        one, two = (simulate.inject(i, a_source()).data for i in (image, milli))
        np.testing.assert_allclose(two, 1000 * one, rtol=1e-6)
        in_milli = a_source()
        in_milli["flux"] = in_milli["flux"].to(u.mJy)
        np.testing.assert_array_equal(simulate.inject(image, in_milli).data, one)

    def test_a_halo_is_the_default(self):
        bare = QTable({"flux": [0.3] * u.Jy, "r_e": [150] * u.arcsec, "position": SkyCoord([CENTRE])})
        image = an_image(np.zeros((200, 200)))
        np.testing.assert_array_equal(simulate.inject(image, bare).data,
                                      simulate.inject(image, a_source(axis_ratio=1.0)).data)

    def test_places_without_a_pixel(self):
        """Beyond the edge, on the other half of the sky; rows that stand for a place."""
        image = an_image(np.zeros((100, 100)))
        away = vstack([a_source("compact", CENTRE.spherical_offsets_by(20 * u.deg, 0 * u.deg)),
                       a_source("halo", SkyCoord(CENTRE.ra + 180 * u.deg, -CENTRE.dec)), a_source("none")])
        assert (simulate.inject(image, away).data == 0).all()
        assert (simulate.inject(image, away[:0]).data == 0).all()

    def test_a_position_that_is_none(self):
        image = an_image(np.zeros((60, 60)))
        sources = vstack([a_source(), a_source(position=SkyCoord(np.nan * u.deg, np.nan * u.deg))])
        with pytest.raises(HaloInputError, match=r"row 1: a source to be injected needs a position \(found '1 without"):
            simulate.inject(image, sources)


class TestCutouts:
    beam = Beam(140 * u.arcsec, 110 * u.arcsec, 30 * u.deg)

    def blank(self, n=2, **settings):
        return some_cutouts(np.zeros((n, 81, 81)), beam=self.beam, **settings)

    @pytest.mark.parametrize("kind", CLASSES)
    def test_flux_is_kept(self, kind):
        source = a_source(kind)["class", "flux", "r_e", "length", "axis_ratio", "pa", "seed"]
        source["cutout"], source["east"], source["north"] = [1], [100] * u.arcsec, [-60] * u.arcsec
        data = simulate.inject(self.blank(), source).data.astype(float)
        assert (data[0] == 0).all()
        assert data[1].sum() / self.beam.area_pixels(PIXEL) == pytest.approx(0.3, rel=2e-3)

    def test_each_cutout_has_its_beam_and_scale(self):
        cutouts = self.blank(3)
        cutouts.table["beam_pa"] = [0, 45, 100] * u.deg
        cutouts.table["pixel_scale"] = [40, 30, 50] * u.arcsec
        points = QTable({"class": ["compact"] * 3, "flux": [1, 2, 3] * u.Jy, "east": [120, 0, 0] * u.arcsec})
        data = simulate.inject(cutouts, points).data
        for i, (pa, scale, x) in enumerate(((0, 40, 37), (45, 30, 40), (100, 50, 40))):
            beam = Beam(140 * u.arcsec, 110 * u.arcsec, pa * u.deg)
            expected = (i + 1) * point_source((81, 81), x, 40, beam=beam, pixel_scale=scale * u.arcsec)
            np.testing.assert_allclose(data[i], expected, atol=1e-5)

    def test_truth_comes_with_scenes(self):
        """What simulate.cutouts says of a scene is said of one that is injected."""
        made = simulate.cutouts(40, artefacts=None, rng=3)
        bare = made.replace(data=np.zeros(made.shape), table=made.table["name", "beam_major", "beam_minor", "beam_pa",
                                                                        "pixel_scale", "rms"], meta={})
        found = simulate.inject(bare, made.meta["sources"])
        for name in ("label", "also", "blends", "redshift", "flux", "r_e", "length"):
            np.testing.assert_array_equal(np.asarray(found.table[name]), np.asarray(made.table[name]))
        np.testing.assert_allclose(found.table["snr"], made.table["snr"], rtol=1e-5)
        assert "label" not in bare.table.colnames
        np.testing.assert_array_equal(found.meta["sources"]["cutout"], made.meta["sources"]["cutout"])

    def test_main_rows_without_offsets(self):
        rows = QTable({"flux": [5, 7] * u.mJy, "r_e": [80, 90] * u.arcsec, "main": [True, True]})
        found = simulate.inject(self.blank(), rows)
        assert list(found.table["label"]) == ["halo", "halo"]
        np.testing.assert_allclose(found.table["snr"], found.data.max(axis=(1, 2)) / 0.008, rtol=1e-5)

    def test_units(self):
        milli = self.blank(unit=u.mJy / u.beam, rms=8)
        point = QTable({"class": ["compact"] * 2, "flux": [0.016, 0.024] * u.Jy, "main": [True, True]})
        found = simulate.inject(milli, point)
        np.testing.assert_allclose(found.data.max(axis=(1, 2)), [16, 24], rtol=1e-5)
        np.testing.assert_allclose(found.table["snr"], [2, 3], rtol=1e-5)

    def test_no_data_and_inputs_stay(self):
        cutouts = self.blank()
        cutouts.data[0, :5] = np.nan
        before = cutouts.data.copy()
        found = simulate.inject(cutouts, QTable({"flux": [1, 1] * u.Jy, "r_e": [90, 90] * u.arcsec}))
        np.testing.assert_array_equal(cutouts.data, before)
        np.testing.assert_array_equal(np.isnan(found.data), np.isnan(before))
        assert "sources" not in cutouts.meta

    def test_none(self):
        nothing = self.blank(0)
        rows = QTable({"flux": [] * u.Jy, "r_e": [] * u.arcsec})
        assert simulate.inject(nothing, rows).shape == (0, 81, 81)
        rows["cutout"] = np.zeros(0, int)
        assert (simulate.inject(self.blank(), rows).data == 0).all()


class TestDiffusePart:
    made = simulate.cutouts(60, artefacts=None, rng=5)

    def test_diffuse_compact_and_noise_add_up(self):
        sources = self.made.meta["sources"]
        compact = sources[np.isin(sources["class"], ["compact", "blend", "radio-galaxy"])]
        zero = self.made.replace(data=np.zeros(self.made.shape), meta={})
        noise = self.made.data - simulate.diffuse_part(self.made).data - simulate.inject(zero, compact).data
        # GLEAM at 170-231 MHz: 7.7 mJy/beam. 60 cutouts hold about 10,000 independent beams.
        assert noise.std() == pytest.approx(0.0077, rel=0.02)
        assert abs(noise).max() < 6 * 0.0077

    @pytest.mark.parametrize("rows", [slice(10, 20), [3], [5, 5, 0], np.arange(60)[::-1], slice(0, 0)])
    def test_of_a_selection(self, rows):
        whole, part = simulate.diffuse_part(self.made), simulate.diffuse_part(self.made[rows])
        np.testing.assert_array_equal(part.data, whole.data[rows])

    def test_the_table_still_tells_of_the_whole_scene(self):
        halos = simulate.cutouts(20, mix={"halo": 1}, artefacts=None, rng=1)
        part = simulate.diffuse_part(halos)
        assert halos.table["blends"].sum() > 0
        for name in ("label", "also", "blends", "snr", "flux"):
            np.testing.assert_array_equal(part.table[name], halos.table[name])
        alone = halos.table["also"] == ""
        np.testing.assert_allclose((part.data.max(axis=(1, 2)) / 0.0077)[alone], halos.table["snr"][alone], rtol=1e-4)

    def test_a_cutout_that_is_there_twice(self):
        """As in an oversampled training set: it gets its sources twice, not the double of them, however often."""
        halos = simulate.cutouts(3, mix={"halo": 1}, artefacts=None, rng=1)
        twice = halos[[2, 0, 2]]
        zero = twice.replace(data=np.zeros(twice.shape), meta={})
        once = simulate.inject(zero, halos.meta["sources"])
        again = simulate.inject(zero, once.meta["sources"])
        np.testing.assert_array_equal(once.data[0], once.data[2])
        np.testing.assert_array_equal(once.data, again.data)
        np.testing.assert_array_equal(simulate.diffuse_part(once).data, simulate.diffuse_part(halos).data[[2, 0, 2]])

    def test_cutouts_without_names(self):
        blank = some_cutouts(np.zeros((3, 40, 40)))
        blank = blank.replace(table=blank.table[[name for name in blank.table.colnames if name != "name"]])
        halos = simulate.inject(blank, QTable({"flux": [1, 2, 4] * u.Jy, "r_e": [60, 60, 60] * u.arcsec}))
        part = simulate.diffuse_part(halos[[2, 0]])
        np.testing.assert_array_equal(part.data, halos.data[[2, 0]])

    def test_of_joined_sets(self):
        """Each cutout has its own sources, and has them once."""
        halos = simulate.cutouts(3, mix={"halo": 1}, rng=1)
        joined = halos.join(halos[[1]])
        np.testing.assert_array_equal(simulate.diffuse_part(joined).data,
                                      simulate.diffuse_part(halos).data[[0, 1, 2, 1]])
        for other in (simulate.inject(halos, scenes(["halo"] * 3, rng=2)), halos.replace(meta={})):
            with pytest.raises(HaloInputError, match="a name must stand for the same sources"):
                halos.join(other)

    def test_only_the_diffuse_classes(self):
        diffuse = np.isin(self.made.table["label"], ["halo", "mini-halo", "relic", "phoenix", "orc"])
        light = simulate.diffuse_part(self.made).data.max(axis=(1, 2))
        assert (light[~diffuse] == 0).all() and (light[diffuse] > 0).mean() > 0.9

    def test_after_a_file(self, tmp_path):
        self.made.write(tmp_path / "cutouts.fits")
        back = CutoutSet.read(tmp_path / "cutouts.fits")
        sources = back.meta.get("sources", self.made.meta["sources"])
        np.testing.assert_allclose(simulate.diffuse_part(back, sources).data, simulate.diffuse_part(self.made).data,
                                   atol=1e-7)

    def test_of_an_image(self):
        data = np.random.default_rng(1).normal(size=(200, 200))
        data[:20] = np.nan
        both = vstack([a_source(), a_source("compact", CENTRE.spherical_offsets_by(500 * u.arcsec, 0 * u.arcsec))])
        image = simulate.inject(an_image(data), both)
        part = simulate.diffuse_part(image)
        alone = simulate.inject(an_image(np.zeros((200, 200))), a_source()).data
        np.testing.assert_array_equal(part.data[20:], alone[20:])
        assert np.isnan(part.data[:20]).all()

    def test_what_has_no_sources(self):
        with pytest.raises(HaloInputError, match=r"needs its sources.*try: diffuse_part\(image, sources\)"):
            simulate.diffuse_part(an_image(np.zeros((9, 9))))
        with pytest.raises(HaloInputError, match="augmented cutouts are turned.*before the Augmenter"):
            simulate.diffuse_part(Augmenter(draw=1, size=40)(self.made, rng=1))


POSITION = {"position": SkyCoord([CENTRE, CENTRE])}
ROWS = QTable({"flux": [1, 1] * u.Jy, "r_e": [60, 60] * u.arcsec})


@pytest.mark.parametrize(("image", "sources", "text"), [
    (an_image(np.zeros((9, 9))), [1, 2], "sources must be a QTable with a column 'flux'.*found 'list'"),
    (an_image(np.zeros((9, 9))), ROWS[["r_e"]], "sources must be a QTable with a column 'flux'"),
    (np.zeros((9, 9)), ROWS, "inject takes a ClusterImage or a CutoutSet.*found 'ndarray'"),
    (an_image(np.zeros((9, 9)), beam=None), ROWS, "injecting sources needs the beam.*try: read the image with beam"),
    (an_image(np.zeros((9, 9)), unit=u.K), ROWS, "sources go into images in Jy/beam.*in_jansky_per_beam"),
    (an_image(np.full((9, 9), np.nan)), ROWS, "no pixel with data to inject at"),
    (an_image(np.zeros((9, 9))), QTable(dict(ROWS.columns) | {"ra": [1, 2] * u.deg, "dec": [1, 2] * u.deg}),
     "sources have their places in a column 'position'.*SkyCoord"),
    (some_cutouts(np.zeros((2, 9, 9))), QTable(dict(ROWS.columns) | POSITION), "offsets from their centres, not at"),
    (some_cutouts(np.zeros((3, 9, 9))), ROWS, "without a column 'cutout'.*2 sources, 3 cutouts"),
    (some_cutouts(np.zeros((2, 9, 9))), QTable(dict(ROWS.columns) | {"cutout": [0, 2]}), "number the cutouts, 0 to 1"),
    (some_cutouts(np.zeros((2, 9, 9))), QTable(dict(ROWS.columns) | {"cutout": [-1, 0]}), "number the cutouts, 0 to 1"),
    (some_cutouts(np.zeros((2, 9, 9))), QTable(dict(ROWS.columns) | {"cutout": [0.0, 1]}), "number the cutouts, 0 to"),
    (some_cutouts(np.zeros((2, 9, 9))), QTable(dict(ROWS.columns) | {"name": ["A", "B"]}),
     "none of the sources has the name of a cutout.*found 'A'"),
    (some_cutouts(np.zeros((2, 9, 9)), unit=u.K), ROWS, "sources go into images in Jy/beam"),
])
def test_what_cannot_be(image, sources, text):
    with pytest.raises(HaloInputError, match=text):
        simulate.inject(image, sources, rng=1)


def test_scenes_fit_into_images():
    """The table of scenes goes in as it is, and comes back with positions."""
    sources = scenes(["halo", "relic", "blank"], rng=1)
    found = simulate.inject(an_image(np.zeros((300, 300))), sources, rng=2)
    assert len(found.meta["sources"]) == len(sources) and "position" in found.meta["sources"].colnames
    assert found.data.max() > 0


def test_columns_without_units_are_jansky_arcsec_and_degrees():
    image = an_image(np.zeros((40, 40)))
    at = {"position": image.wcs.pixel_to_world([20.0], [20.0]), "axis_ratio": [0.5]}
    bare = Table({"flux": [0.1], "r_e": [60.0], "pa": [30.0]} | at)
    made = simulate.inject(image, bare)
    full = QTable({"flux": [100] * u.mJy, "r_e": [1] * u.arcmin, "pa": [30] * u.deg} | at)
    np.testing.assert_allclose(made.data, simulate.inject(image, full).data, rtol=1e-5, atol=1e-9)
    # Beside others that have units.
    assert simulate.inject(made, full).meta["sources"]["flux"].to_value(u.mJy).tolist() == pytest.approx([100, 100])


def test_positions_of_another_frame_join_those_before():
    image = empty(tangent_wcs(CENTRE, 10 * u.arcsec, (200, 200)), (200, 200), beam=Beam(40 * u.arcsec))
    once = simulate.inject(image, a_source("relic"))
    both = simulate.inject(once, a_source("relic", CENTRE.galactic, pa=80.0))
    # What was drawn from its own frame is drawn the same from the frame of the others.
    np.testing.assert_allclose(simulate.diffuse_part(both).data, both.data, atol=1e-3 * both.data.max())
