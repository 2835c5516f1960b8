"""Shapelets on the pixels that a model sees: a grid of so many pixels a beam, in units of the noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError
from halopy.image import FWHM_TO_SIGMA
from halopy.uvshapelets.basis import ShapeletBasis

__all__ = ["PixelShapelets", "pixel_shapelets"]

FLOOR = 0.01
"""Noise that does not come from the sky (rounding, interpolation), as a part of the variance of a mean coefficient."""

UNTOUCHED = 0.01
"""The part of a pixel's own value that its projection has, below which the shapelets do not reach it."""


class PixelShapelets:
    """Circular polar shapelets about the middle of a square grid; lengths are in beams.

    Parameters
    ----------
    n_max : int
        Largest order.
    beta : float
        Scale in beams (full widths at half maximum).
    size : int
        Pixels a side.
    pixels_per_beam : float

    Raises
    ------
    HaloInputError
        For a scale that is not positive, shapelets that the pixels do not resolve, or that reach beyond the grid.

    Attributes
    ----------
    orders : `~numpy.ndarray`
        ``(K, 2)``: n and m of each function.
    functions : `~numpy.ndarray`
        ``(size², K)``, in 1/beam.
    flux, second_moment : `~numpy.ndarray`
        ``(K,)``: ∫ I and ∫ I r² of each function, r from the middle.
    beyond : `~numpy.ndarray`
        ``(size, size)`` bool: pixels that the shapelets do not reach.
    noise : `~numpy.ndarray`
        ``(K, K)``: covariance of the coefficients of noise of rms 1 that is correlated as the beam. It is the same for
        sky that is turned or mirrored.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.uvshapelets.pixels import PixelShapelets
    >>> shapelets = PixelShapelets(4, 1.0, 32, 3.0)
    >>> y, x = (np.indices((32, 32)) - 15.5) / 3
    >>> found = shapelets.project(np.exp(-(x**2 + y**2) / 2)[None])
    >>> print(f"{found[0, 0]:.4f}, flux {found[0] @ shapelets.flux:.4f}")
    1.7725, flux 6.2832
    """

    def __init__(self, n_max, beta, size, pixels_per_beam):
        if not 0 < beta < np.inf:
            raise HaloInputError("beta must be a positive number of beams", keyword="beta", found=beta)
        # The basis wants angles: a beam stands for a radian.
        basis = ShapeletBasis(n_max, beta * u.rad, kind="polar")
        pixel = 1 / pixels_per_beam
        edge = np.sqrt(2 * n_max + 1)
        # The finest waves take three pixels.
        if not edge / (2 * pixels_per_beam) <= beta <= size / (2 * pixels_per_beam * edge):
            raise HaloInputError("the pixels must resolve the shapelets and hold them: beta must be from "
                                 f"{edge / (2 * pixels_per_beam):.3g} to {size / (2 * pixels_per_beam * edge):.3g} "
                                 f"beams for n_max {n_max}", keyword="beta", found=beta, hint="a smaller n_max")
        y, x = (np.indices((size, size)) - (size - 1) / 2) * pixel
        self.n_max, self.size, self.orders = basis.n_max, size, basis.orders
        self.functions = basis.image(x, y).reshape(size**2, basis.size)
        self._inverse = np.linalg.pinv(self.functions)
        leverage = np.einsum("pk,kp->p", self.functions, self._inverse)
        self.beyond = (leverage < UNTOUCHED).reshape(size, size)
        self.flux = self.functions.sum(axis=0) * pixel**2
        self.second_moment = (x**2 + y**2).ravel() @ self.functions * pixel**2
        distance = np.arange(size) * pixel
        correlation = np.exp(-np.subtract.outer(distance, distance) ** 2 / (2 * FWHM_TO_SIGMA**2))
        rows = self._inverse.reshape(-1, size, size)
        noise = self.turned_mean(np.tensordot(correlation @ rows @ correlation, rows, ((1, 2), (1, 2))))
        self.noise = noise + FLOOR * np.trace(noise) / basis.size * np.eye(basis.size)

    def project(self, images):
        """Return the coefficients ``(n, K)`` of images ``(n, size, size)``, by least squares."""
        return images.reshape(len(images), -1) @ self._inverse.T

    def image(self, coefficients):
        """Return images ``(n, size, size)`` of coefficients ``(n, K)``."""
        return (coefficients @ self.functions.T).reshape(-1, self.size, self.size)

    def turned_mean(self, matrix):
        """Return the mean of a matrix ``(K, K)`` of coefficients over all turns and mirrors of the sky."""
        n, m = self.orders.T
        partner = n * (n + 2) - np.arange(len(n))
        return np.where(np.equal.outer(m, m), 0.5 * (matrix + matrix[np.ix_(partner, partner)]), 0.0)


@lru_cache(maxsize=8)
def pixel_shapelets(n_max, beta, size, pixels_per_beam):
    """Return `PixelShapelets`, kept from one call to the next."""
    return PixelShapelets(n_max, beta, size, pixels_per_beam)
