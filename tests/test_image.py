from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

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
