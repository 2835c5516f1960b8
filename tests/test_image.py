from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from simulated import CENTRE, PIXEL, tangent_wcs, turned_wcs

from halopy import Beam, ClusterImage, HaloInputError

JY = u.Jy / u.beam


def sky(scale=28.0, shape=(40, 50)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval, wcs.wcs.crpix = [3.58, -30.39], [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    return wcs


@pytest.fixture
def image():
    data = np.arange(2000.0).reshape(40, 50)
    return ClusterImage(data, wcs=sky(), unit=JY, beam=Beam(133 * u.arcsec, 122 * u.arcsec, 90 * u.deg),
                        frequency=0.2005 * u.GHz, name="A2744", rms=0.01, background=data / 10)


class TestBeam:
    def test_area_is_the_integral_of_the_gaussian(self):
        beam = Beam(50 * u.arcsec, 30 * u.arcsec, 20 * u.deg)
        y, x = np.indices((401, 401)) - 200
        covariance = beam.covariance(1 * u.arcsec)
        inverse = np.linalg.inv(covariance)
        gauss = np.exp(-0.5 * (inverse[0, 0] * x**2 + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y**2))
        assert gauss.sum() == pytest.approx(beam.area.to_value(u.arcsec**2), rel=1e-6)
        assert beam.area_pixels(2 * u.arcsec) == pytest.approx(gauss.sum() / 4, rel=1e-6)

    def test_the_position_angle_runs_from_north_through_east(self):
        # East is towards smaller x on the sky; a beam along north-east grows as x falls and y rises.
        assert Beam(60 * u.arcsec, 20 * u.arcsec, 45 * u.deg).covariance(1 * u.arcsec)[0, 1] < 0
        along_north = Beam(60 * u.arcsec, 20 * u.arcsec).covariance(1 * u.arcsec)
        fwhm = np.sqrt(np.diag(along_north) * 8 * np.log(2))
        np.testing.assert_allclose(fwhm, [20, 60])

    @given(st.floats(1, 1000), st.floats(0.05, 1), st.floats(-720, 720))
    def test_area_does_not_depend_on_the_angle(self, major, ratio, pa):
        beam = Beam(major * u.arcsec, major * ratio * u.arcsec, pa * u.deg)
        determinant = np.linalg.det(beam.covariance(1 * u.arcsec))
        assert 2 * np.pi * np.sqrt(determinant) == pytest.approx(beam.area.to_value(u.arcsec**2), rel=1e-6)

    def test_round_by_default(self):
        beam = Beam(45 * u.arcsec)
        assert beam.minor == 45 * u.arcsec
        assert beam.source == "user"
        assert beam == Beam(45 * u.arcsec, 45 * u.arcsec)

    def test_rounding_does_not_make_minor_the_larger(self):
        beam = Beam(45 * u.arcsec, 45 * (1 + 1e-9) * u.arcsec)
        assert beam.minor <= beam.major

    @pytest.mark.parametrize(("arguments", "text"), [
        ((45,), "major must be a single angle"),
        ((45 * u.Jy,), "major must be a single angle"),
        (([45, 50] * u.arcsec,), "major must be a single angle"),
        ((45 * u.arcsec, 3 * u.m), "minor must be a single angle"),
        ((45 * u.arcsec, 45 * u.arcsec, 3 * u.s), "pa must be a single angle"),
        ((np.nan * u.arcsec,), "must be finite"),
        ((0 * u.arcsec,), "0 < minor <= major"),
        ((-1 * u.arcsec,), "0 < minor <= major"),
        ((30 * u.arcsec, 45 * u.arcsec), "0 < minor <= major"),
    ])
    def test_what_is_no_beam(self, arguments, text):
        with pytest.raises(HaloInputError, match=text):
            Beam(*arguments)


class TestClusterImage:
    def test_values(self, image):
        assert image.shape == (40, 50)
        assert image.data.dtype == np.float32
        assert image.frequency == 200.5 * u.MHz
        assert image.pixel_scale.to_value(u.arcsec) == pytest.approx(28)
        # pi / (4 ln 2) x 133" x 122" / (28")^2
        assert image.beam_area == pytest.approx(23.45, abs=0.01)
        assert image.valid.all()
        assert (image.rms == np.float32(0.01)).all()

    def test_input_is_not_changed_and_infinities_are_no_data(self):
        data = np.zeros((4, 5))
        data[1, 2], data[2, 3] = np.inf, 1e300
        before = data.copy()
        image = ClusterImage(data, wcs=sky(), unit=JY)
        np.testing.assert_array_equal(data, before)
        assert np.isnan(image.data[1, 2])
        assert np.isnan(image.data[2, 3])
        assert image.valid.sum() == 18

    @pytest.mark.parametrize("dtype", [">f4", ">f8", "<i2", ">i4", "u1"])
    def test_every_kind_of_number_becomes_native_float32(self, dtype):
        image = ClusterImage(np.arange(20).reshape(4, 5).astype(dtype), wcs=sky(), unit=JY)
        assert image.data.dtype == np.dtype("=f4")
        np.testing.assert_array_equal(image.data.ravel(), np.arange(20))

    def test_a_slice_keeps_the_sky(self, image):
        part = image[5:25, 10:40]
        assert part.shape == (20, 30)
        assert part.rms.shape == part.background.shape == (20, 30)
        whole = image.wcs.pixel_to_world(10 + 3.3, 5 + 7.7)
        assert part.wcs.pixel_to_world(3.3, 7.7).separation(whole) < 1e-6 * u.arcsec
        np.testing.assert_array_equal(part.data, image.data[5:25, 10:40])
        for name in ("name", "beam", "frequency", "unit"):
            assert getattr(part, name) == getattr(image, name)

    @given(st.integers(0, 38), st.integers(0, 48), st.floats(0, 10), st.floats(0, 10))
    def test_any_corner(self, y0, x0, dy, dx):
        image = ClusterImage(np.zeros((40, 50)), wcs=sky(), unit=JY)
        expected = image.wcs.pixel_to_world(x0 + dx, y0 + dy)
        found = image[y0:, x0:].wcs.pixel_to_world(dx, dy)
        assert found.separation(expected) < 1e-6 * u.arcsec

    @pytest.mark.parametrize("item", [np.s_[::2], np.s_[3], np.s_[:, :, 1:2], np.s_[[1, 2]], np.s_[1:2, None]])
    def test_a_slice_of_another_kind(self, image, item):
        with pytest.raises(HaloInputError, match="cut with slices of step 1"):
            image[item]

    def test_an_empty_slice(self, image):
        with pytest.raises(HaloInputError, match="slice of the image is empty"):
            image[30:30]

    def test_replace(self, image):
        other = image.replace(name="B", flags=("clipped", "clipped"))
        assert (other.name, image.name) == ("B", "A2744")
        assert other.flags == ("clipped",)
        np.testing.assert_array_equal(other.rms, image.rms)
        with pytest.raises(TypeError, match="no argument 'nme'"):
            image.replace(nme="B")

    def test_repr_says_what_counts(self, image):
        text = repr(image)
        assert str(image) == text
        for part in ("'A2744'", "(40, 50)", 'pixel 28"', 'beam 133" x 122" (user)', "200.5 MHz", "rms 10 mJy / beam"):
            assert part in text
        bare = repr(ClusterImage(np.zeros((4, 5)), wcs=sky(), unit=JY, flags=["clipped"]))
        for part in ("no beam", "frequency unknown", "rms not estimated", "flags clipped"):
            assert part in bare
        assert "&lt;ClusterImage" in image._repr_html_()

    def test_no_beam_no_area(self):
        with pytest.raises(HaloInputError, match=r"this image has no beam; try: read it with beam=Beam"):
            _ = ClusterImage(np.zeros((4, 5)), wcs=sky(), unit=JY).beam_area

    def test_what_is_no_image(self):
        with pytest.raises(HaloInputError, match=r"two axes \(found \(1, 1, 4, 5\)\)"):
            ClusterImage(np.zeros((1, 1, 4, 5)), wcs=sky(), unit=JY)
        with pytest.raises(HaloInputError, match="two axes"):
            ClusterImage(np.zeros((0, 5)), wcs=sky(), unit=JY)
        with pytest.raises(HaloInputError, match="pixels must be real numbers"):
            ClusterImage(np.zeros((4, 5), complex), wcs=sky(), unit=JY)

    def test_what_is_no_sky(self):
        cube = WCS(naxis=3)
        cube.wcs.ctype = ["RA---SIN", "DEC--SIN", "FREQ"]
        for wcs in (None, WCS(naxis=2), cube):
            with pytest.raises(HaloInputError, match="needs a celestial WCS of two axes"):
                ClusterImage(np.zeros((4, 5)), wcs=wcs, unit=JY)

    def test_a_beam_is_a_beam(self):
        with pytest.raises(HaloInputError, match="beam must be a halopy.Beam"):
            ClusterImage(np.zeros((4, 5)), wcs=sky(), unit=JY, beam=45 * u.arcsec)

    @pytest.mark.parametrize("name", ["rms", "background"])
    def test_maps_have_the_shape_of_the_image(self, name):
        with pytest.raises(HaloInputError, match=f"the {name} map must have the shape"):
            ClusterImage(np.zeros((4, 5)), wcs=sky(), unit=JY, **{name: np.zeros((5, 4))})


def on(wcs, beam, shape=(300, 300)):
    return ClusterImage(np.zeros(shape), wcs=wcs, unit=JY, beam=beam)


class TestPixelBeam:
    beam = Beam(180 * u.arcsec, 90 * u.arcsec, 30 * u.deg, source="header BMAJ")

    def test_north_up_it_is_the_beam(self, image):
        assert image.pixel_beam is image.beam
        for wcs in (turned_wcs(), turned_wcs(ctype=("RA---TAN", "DEC--TAN")), tangent_wcs(CENTRE, PIXEL, (300, 300))):
            assert on(wcs, self.beam).pixel_beam is self.beam
        assert image.replace(beam=None).pixel_beam is None

    @given(st.floats(-360, 360), st.sampled_from([(-1, 1), (1, 1), (-1, -1), (1, -1)]),
           st.floats(0.5, 2), st.floats(0, 180))
    def test_it_is_what_the_sky_shows(self, turn, signs, aspect, pa):
        """A pixel offset has the Gaussian's exponent that its place on the sky has, and the area is kept."""
        wcs = turned_wcs(turn=turn, east=signs[0], north=signs[1], aspect=aspect)
        beam = Beam(180 * u.arcsec, 90 * u.arcsec, pa * u.deg)
        image = on(wcs, beam)
        seen = image.pixel_beam
        assert seen.area_pixels(image.pixel_scale) == pytest.approx(image.beam_area, rel=1e-3)
        assert seen.minor <= seen.major
        inverse = np.linalg.inv(seen.covariance(image.pixel_scale))
        for x, y in ((1, 0), (0, 1), (1, 1), (1, -1)):
            # A step of half a pixel from the reference pixel: along the sky's east and north, by the CD matrix.
            east, north = wcs.wcs.cd @ [x, y] * 3600
            along = east * np.sin(np.radians(pa)) + north * np.cos(np.radians(pa))
            across = east * np.cos(np.radians(pa)) - north * np.sin(np.radians(pa))
            expected = 8 * np.log(2) * ((along / 180) ** 2 + (across / 90) ** 2)
            # Within the thousandth below which a grid counts as north-up, for an axis ratio of two.
            assert np.array([x, y]) @ inverse @ [x, y] == pytest.approx(expected, rel=0.01)

    @given(st.floats(0.1, 359))
    def test_its_angle_turns_with_the_grid_and_mirrors(self, turn):
        def angle(beam):
            return beam.pa.to_value(u.deg)

        def same(a, b):
            return abs((a - b + 90) % 180 - 90) < 0.01

        seen = on(turned_wcs(turn=turn), self.beam).pixel_beam
        assert u.allclose([seen.major, seen.minor], [self.beam.major, self.beam.minor], rtol=1e-5)
        assert seen.source == "header BMAJ"
        # North lies CROTA2 clockwise of +y, where east is to the left.
        north = np.linalg.solve(turned_wcs(turn=turn).wcs.cd, [0, 1])
        assert same(angle(seen), 30 + np.degrees(np.arctan2(-north[0], north[1])))
        for mirror in ({"east": 1}, {"north": -1}):
            assert same(angle(on(turned_wcs(**mirror), self.beam).pixel_beam), -30)
        assert same(angle(on(turned_wcs(east=1, north=-1), self.beam).pixel_beam), 30)

    def test_oblong_pixels(self):
        """A round beam on pixels twice as wide as high is twice as high as wide, in pixels."""
        seen = on(turned_wcs(aspect=2), Beam(120 * u.arcsec)).pixel_beam
        assert (seen.major / seen.minor).to_value(u.one) == pytest.approx(2, rel=1e-5)
        assert seen.pa.to_value(u.deg) % 180 == pytest.approx(0, abs=1e-6)
        round_ = on(turned_wcs(turn=33, east=1), Beam(120 * u.arcsec)).pixel_beam
        assert round_.minor == round_.major and u.allclose(round_.major, 120 * u.arcsec)

    def test_a_galactic_image_has_its_own_north(self):
        wcs = turned_wcs(centre=CENTRE.galactic, ctype=("GLON-SIN", "GLAT-SIN"))
        assert on(wcs, self.beam).pixel_beam is self.beam
        swapped = wcs.deepcopy()
        swapped.wcs.ctype, swapped.wcs.crval = ["GLAT-SIN", "GLON-SIN"], wcs.wcs.crval[::-1]
        # x falls with latitude and y rises with longitude: north is −x, where pa is 90, and east +y, where it is 0.
        assert on(swapped, self.beam).pixel_beam.pa.to_value(u.deg) == pytest.approx(60, abs=0.01)

    @pytest.mark.parametrize("centre", [(0.0, -20.0), (180.0, 0.0), (40.0, 90.0), (40.0, -90.0), (123.0, 89.99)])
    def test_seams_and_poles(self, centre):
        wcs = tangent_wcs(SkyCoord(*centre, unit="deg"), PIXEL, (300, 300))
        seen = on(wcs, self.beam).pixel_beam
        assert u.allclose([seen.major, seen.minor], [self.beam.major, self.beam.minor], rtol=1e-3)
        assert seen.pa.to_value(u.deg) == pytest.approx(30, abs=0.05)

    def test_a_cylindrical_map_far_from_its_equator(self):
        """At latitude 60 degrees a pixel of a CAR map is half as wide as it is high (Calabretta & Greisen 2002)."""
        wcs = turned_wcs(ctype=("RA---CAR", "DEC--CAR"), centre=SkyCoord(0, 0, unit="deg"))
        wcs.wcs.crpix = [150.5, 150.5 - 60 / PIXEL.to_value(u.deg)]
        seen = on(wcs, Beam(120 * u.arcsec)).pixel_beam
        assert u.allclose([seen.major, seen.minor], [240, 120] * u.arcsec, rtol=1e-3)
        assert seen.pa.to_value(u.deg) == pytest.approx(90, abs=0.1)

    def test_a_centre_without_sky_leaves_the_reference_pixel(self):
        wcs = turned_wcs(turn=40, scale=1 * u.deg)
        wcs.wcs.crpix = [-400.0, -400.0]
        seen = on(wcs, Beam(20 * u.deg, 10 * u.deg, 30 * u.deg)).pixel_beam
        near = on(turned_wcs(turn=40), self.beam).pixel_beam
        assert seen.pa.to_value(u.deg) == pytest.approx(near.pa.to_value(u.deg), abs=0.1)


class TestPixelsPerSky:
    @given(st.floats(-360, 360), st.sampled_from([(-1, 1), (1, 1), (-1, -1), (1, -1)]), st.floats(0.5, 2),
           st.sampled_from([("RA---SIN", "DEC--SIN"), ("RA---TAN", "DEC--TAN")]))
    def test_it_is_the_inverse_of_the_cd_matrix(self, turn, signs, aspect, ctype):
        """CD (Greisen & Calabretta 2002) takes pixels to degrees of east and north at the reference point."""
        wcs = turned_wcs(turn=turn, east=signs[0], north=signs[1], aspect=aspect, ctype=ctype)
        found = on(wcs, None).pixels_per_sky
        np.testing.assert_allclose(found @ (wcs.wcs.cd * 3600), np.eye(2), atol=1e-5)

    @pytest.mark.parametrize("centre", [(0.0, -20.0), (180.0, 0.0), (40.0, 90.0), (40.0, -90.0), (123.0, 89.99)])
    def test_north_up_at_seams_and_poles(self, centre):
        """East is to the left and north is up, 40" a pixel."""
        image = on(tangent_wcs(SkyCoord(*centre, unit="deg"), PIXEL, (301, 301)), None, (301, 301))
        np.testing.assert_allclose(image.pixels_per_sky * 40, [[-1, 0], [0, 1]], atol=1e-3)

    @given(st.floats(-60, 60), st.floats(0, 360))
    def test_a_small_step_on_the_sky(self, turn, direction):
        image = on(turned_wcs(turn=turn, aspect=1.3), None)
        centre = image.wcs.pixel_to_world(149.5, 149.5)
        step = 20 * np.array([np.sin(np.radians(direction)), np.cos(np.radians(direction))])
        x, y = image.wcs.world_to_pixel(centre.spherical_offsets_by(*(step * u.arcsec)))
        np.testing.assert_allclose([x - 149.5, y - 149.5], image.pixels_per_sky @ step, atol=1e-4)

    def test_the_axes_of_an_image_of_galactic_coordinates(self):
        wcs = turned_wcs(centre=CENTRE.galactic, ctype=("GLON-SIN", "GLAT-SIN"))
        np.testing.assert_allclose(on(wcs, None).pixels_per_sky * 40, [[-1, 0], [0, 1]], atol=1e-5)

    def test_a_centre_without_sky_leaves_the_reference_pixel(self):
        wcs = turned_wcs(turn=40, scale=1 * u.deg)
        wcs.wcs.crpix = [-400.0, -400.0]
        expected = np.linalg.inv(turned_wcs(turn=40, scale=1 * u.deg).wcs.cd * 3600)
        np.testing.assert_allclose(on(wcs, None).pixels_per_sky, expected, rtol=1e-4)
