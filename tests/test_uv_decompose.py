"""Shapelets of an image."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from uv_images import CENTRE, offsets, sky_image, sky_wcs

from halopy.errors import HaloInputError, HalopyWarning
from halopy.image import Beam, ClusterImage
from halopy.uvshapelets.basis import ShapeletBasis
from halopy.uvshapelets.decompose import decompose

# Pixels are float32.
SINGLE = 1e-6


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=SINGLE * np.abs(expected).max())


def drawn(basis, seed=0):
    return np.random.default_rng(seed).normal(size=basis.size)


@pytest.mark.parametrize("kind", ["cartesian", "polar", "monopole"])
@pytest.mark.parametrize(("rotation", "pa"), [(0, 0), (90, 0), (0, 90), (30, 30), (30, 0), (0, 50)])
def test_an_image_of_shapelets_gives_them_back(kind, rotation, pa):
    """Rows and columns parallel to the axes (either way round) or not: two ways of summing, one result."""
    basis = ShapeletBasis(8, 70 * u.arcsec, beta_minor=50 * u.arcsec, pa=pa * u.deg, kind=kind)
    coefficients = drawn(basis)
    image = sky_image(basis, coefficients, 101, 10 * u.arcsec, rotation=rotation)
    found = decompose(image, 8, beta=basis.beta, beta_minor=basis.beta_minor, pa=basis.pa, kind=kind)
    close(found.coefficients, coefficients)
    assert np.abs(found.residual.data).max() < SINGLE * np.abs(image.data).max() * 3
    assert found.flux == pytest.approx(basis.flux(coefficients), abs=SINGLE * np.abs(coefficients).sum() * 1e-3)
    assert found.covariance is None and found.flux_err is None
    assert found.centre.separation(CENTRE) < 1e-6 * u.arcsec


def test_the_centre_moves_the_shapelets():
    basis = ShapeletBasis(6, 60 * u.arcsec)
    coefficients = drawn(basis)
    east, north = offsets(121, 10 * u.arcsec)
    # Two pixels to the south; to the east, north would be another direction.
    south = north + 2 * (10 * u.arcsec).to_value(u.rad)
    image = ClusterImage(basis.image(east, south) @ coefficients, wcs=sky_wcs(121, 10 * u.arcsec), unit=u.Jy / u.sr)
    close(decompose(image, 6, beta=60 * u.arcsec, centre=image.wcs.pixel_to_world(60, 58)).coefficients, coefficients)


def test_the_scale_is_found():
    """The Gaussian's own: there it is one coefficient, and anywhere else more than there are."""
    basis = ShapeletBasis(0, 80 * u.arcsec)
    image = sky_image(basis, [1.0], 101, 10 * u.arcsec)
    found = decompose(image, 2)
    assert found.basis.beta.to_value(u.arcsec) == pytest.approx(80, rel=1e-2)
    assert found.flux == pytest.approx(basis.flux([1.0]), rel=1e-4)


def test_units_are_those_of_the_flux():
    """A Gaussian of 2 Jy in Jy/beam, mJy/beam and Jy/pixel."""
    basis = ShapeletBasis(0, 80 * u.arcsec)
    coefficients = 2 / basis.flux_vector
    image = sky_image(basis, coefficients, 101, 10 * u.arcsec)
    beam = Beam(50 * u.arcsec, 40 * u.arcsec)
    per_beam = beam.area.to_value(u.sr)
    per_pixel = ((10 * u.arcsec) ** 2).to_value(u.sr)
    for unit, factor in ((u.Jy / u.beam, per_beam), (u.mJy / u.beam, 1e3 * per_beam), (u.Jy / u.pix, per_pixel)):
        other = image.replace(data=image.data.astype(float) * factor, unit=unit, beam=beam)
        assert decompose(other, 2, beta=80 * u.arcsec).flux == pytest.approx(2, rel=1e-5)
    with pytest.raises(HaloInputError, match="this image has no beam"):
        decompose(image.replace(unit=u.Jy / u.beam), 2, beta=80 * u.arcsec)
    with pytest.raises(HaloInputError, match="shapelets need an image in Jy/beam, Jy/pixel or Jy/sr"):
        decompose(image.replace(unit=u.K), 2, beta=80 * u.arcsec)


@pytest.mark.parametrize("beam", [None, Beam(60 * u.arcsec), Beam(250 * u.arcsec)])
@pytest.mark.parametrize("kind", ["cartesian", "polar"])
def test_the_covariance_is_that_of_the_pixels(beam, kind):
    """Aᵀ C A, for pixels of rms 1 whose correlation C is none, or the beam."""
    n, pixel = 41, 20 * u.arcsec
    basis = ShapeletBasis(4, 80 * u.arcsec, beta_minor=60 * u.arcsec, kind=kind)
    unit = u.Jy / u.sr if beam is None else u.Jy / u.beam
    blank = ClusterImage(np.zeros((n, n)), wcs=sky_wcs(n, pixel), unit=unit, beam=beam, rms=np.ones((n, n)))
    found = decompose(blank, 4, beta=basis.beta, beta_minor=basis.beta_minor, kind=kind)
    east, north = (axis.ravel() for axis in offsets(n, pixel))
    per_steradian, correlation = 1.0, np.eye(n * n)
    if beam is not None:
        per_steradian = 1 / beam.area.to_value(u.sr)
        sigma = beam.major.to_value(u.rad) / np.sqrt(8 * np.log(2))
        square = np.subtract.outer(east, east) ** 2 + np.subtract.outer(north, north) ** 2
        correlation = np.exp(-square / (2 * sigma**2))
    functions = basis.image(east, north) * pixel.to_value(u.rad) ** 2 * per_steradian
    expected = functions.T @ correlation @ functions
    # What the edges cut off.
    np.testing.assert_allclose(found.covariance, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert found.flux_err == pytest.approx(np.sqrt(basis.flux_vector @ expected @ basis.flux_vector), rel=1e-4)


def test_missing_pixels_are_told():
    basis = ShapeletBasis(2, 60 * u.arcsec)
    image = sky_image(basis, drawn(basis), 81, 10 * u.arcsec)
    data = image.data.copy()
    data[0, :3] = np.nan
    with pytest.warns(HalopyWarning, match="3 pixels without data count as 0"):
        found = decompose(image.replace(data=data), 2, beta=60 * u.arcsec)
    assert np.isnan(found.residual.data[0, :3]).all() and np.isfinite(found.residual.data[1:]).all()


def test_pixels_that_do_not_resolve_and_images_that_cut_off():
    """Pixels up to β/√n resolve order n; wider ones mix the orders."""
    basis = ShapeletBasis(25, 100 * u.arcsec)
    coefficients = drawn(basis)
    fine = sky_image(basis, coefficients, 101, 19.9 * u.arcsec)
    close(decompose(fine, 25, beta=basis.beta).coefficients, coefficients)
    coarse = sky_image(basis, coefficients, 101, 20.1 * u.arcsec)
    with pytest.raises(HaloInputError, match=r"pixels must be smaller than beta / sqrt\(n_max\)"):
        decompose(coarse, 25, beta=basis.beta)
    with pytest.warns(HalopyWarning, match="they are cut off"):
        decompose(coarse, 20, beta=400 * u.arcsec)
    with pytest.raises(HaloInputError, match="no beta resolves the shapelets and keeps them within the image"):
        decompose(coarse[:20, :20], 100)


def test_what_cannot_be_decomposed():
    image = sky_image(ShapeletBasis(0, 60 * u.arcsec), [1.0], 41, 20 * u.arcsec)
    with pytest.raises(HaloInputError, match="beta_minor needs beta beside it"):
        decompose(image, 2, beta_minor=3 * u.arcsec)
    with pytest.raises(HaloInputError, match="centre must be one SkyCoord"):
        decompose(image, 2, beta=60 * u.arcsec, centre=(50, -37))
    # Most of this image lies beyond the edge of the celestial sphere.
    wcs = sky_wcs(41, 20 * u.deg)
    with pytest.raises(HaloInputError, match="the image shows no sky at its middle or its edges"):
        decompose(ClusterImage(np.ones((41, 41)), wcs=wcs, unit=u.Jy / u.sr), 2, beta=60 * u.arcsec)
