"""Spline interpolation of a plane that has pixels without data."""

from __future__ import annotations

import numpy as np

__all__ = ["Interpolator"]

# Where the spline filter's response, 0.268^n, has fallen below a part in ten million.
MARGIN = 13
# Of the bilinear weight; below it a missing pixel is only touched by rounding of the coordinates.
TOUCHED = 1e-3


class Interpolator:
    """Interpolate one plane at fractional pixels; a missing pixel never spreads beyond its neighbours.

    A spline filter is global: one NaN makes the whole plane NaN. Missing pixels are therefore
    filled with their nearest valid neighbour before filtering, and every point that has a missing
    pixel among the four around it is set to NaN afterwards. Points outside the centres of the
    outermost pixels are NaN too: nothing is extrapolated.

    Parameters
    ----------
    plane : `~numpy.ndarray`
        ``(ny, nx)``, NaN where there is no data.
    order : int, optional
        Order of the spline, 0 (nearest) to 5, default 3 (cubic).
    smooth : float, optional
        Standard deviation, in pixels, of a Gaussian applied first; default 0.

    References
    ----------
    Unser 1999, IEEE Signal Processing Magazine 16, 22 (doi:10.1109/79.799930), for the spline filter.
    """

    def __init__(self, plane, *, order=3, smooth=0.0):
        from scipy import ndimage

        plane = np.asarray(plane, dtype=np.float64)
        missing = ~np.isfinite(plane)
        self.shape = plane.shape
        self.order = order
        self.missing = missing.astype(np.float32) if missing.any() else None
        self.empty = bool(missing.all())
        if self.missing is not None and not self.empty:
            nearest = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
            plane = plane[tuple(nearest)]
        if smooth > 0:
            plane = ndimage.gaussian_filter(plane, smooth, mode="nearest")
        # SciPy evaluates splines near an edge as if mirrored there, so the filter has to do the same.
        needs_filter = order > 1 and not self.empty
        self.coefficients = ndimage.spline_filter(plane, order, mode="mirror") if needs_filter else plane

    def __call__(self, x, y):
        """Return the values at pixels ``x``, ``y`` (arrays of one shape; NaN gives NaN), as float64."""
        from scipy import ndimage

        result = np.full(np.shape(x), np.nan)
        ny, nx = self.shape
        with np.errstate(invalid="ignore"):
            inside = (x >= -TOUCHED) & (x <= nx - 1 + TOUCHED) & (y >= -TOUCHED) & (y <= ny - 1 + TOUCHED)
        if self.empty or not inside.any():
            return result
        points = np.array([y[inside], x[inside]])
        values = ndimage.map_coordinates(self.coefficients, points, order=self.order, mode="mirror", prefilter=False)
        if self.missing is not None:
            values[ndimage.map_coordinates(self.missing, points, order=1, mode="mirror") > TOUCHED] = np.nan
        result[inside] = values
        return result
