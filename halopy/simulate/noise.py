"""Noise with the power spectrum of an interferometer's image."""

from __future__ import annotations

import itertools
import operator

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError
from halopy.image import ClusterImage
from halopy.preprocess.interpolate import Interpolator

__all__ = ["draw_noise"]

FAINTEST = 1e-6
"""Modes of less power than this, relative to the strongest, are left out."""
WRAP = 1e-3
"""How far opposite edges of an image may be correlated."""
NARROWEST = 0.01
"""Square pixels: a Gaussian of less variance holds no two pixels, and its power folds over too many times."""
LARGEST = 1.25
"""Of the image's size: the radius up to which a psf counts."""
TAPER = 0.8
"""Of that radius, or of the psf's own border: where its taper begins."""
BLOCK = 2**18
"""Pixels of the padded grids that are worked on at once: they fit in a processor's cache."""
CORRELATIONS = {"psf": 1.0, "smoothed": np.sqrt(2)}
"""Width of the autocorrelation of the noise in beams."""


def draw_noise(n, shape, beam_covariance, *, rng=None, correlation="psf", psf=None, pixel_scale=None):
    """Return images of Gaussian noise of unit rms, correlated from pixel to pixel as in an interferometer's image.

    The noise of visibilities is independent from one to the next. In the image it is therefore
    stationary, and its power spectrum is the square of the weights in the u-v plane divided by the
    density of visibilities there; the PSF is the transform of the weights. Natural weights are that
    density: the power spectrum is the transform of the PSF, the noise's autocorrelation the PSF
    itself (``correlation="psf"``). Cleaning leaves that as it is. Where the density is even and a
    Gaussian taper makes the beam, the power is the taper squared: the noise is white noise smoothed by
    the beam (``"smoothed"``), its autocorrelation the beam convolved with itself, √2 wider. That is
    the form of confusion by sources too faint to be seen, too. Robust weights lie in between: a number
    is the width of a Gaussian autocorrelation in beams.

    Normals are drawn on the half plane of a periodic grid and times the square root of the power
    taken to the image by one real transform. The grid is so much larger than the image that
    opposite edges share less than a thousandth, and the rms is exact in the mean over many images.

    Parameters
    ----------
    n : int
        How many.
    shape : tuple of int
        ``(ny, nx)``.
    beam_covariance : array-like
        ``(2, 2)``, or ``(n, 2, 2)`` for a beam each, in square pixels: `Beam.covariance`. Not looked
        at, and may be None, where ``psf`` is given.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator. The images do not depend on how many are drawn at once.
    correlation : str or float, optional
        ``"psf"`` (default), ``"smoothed"``, or the width of the autocorrelation in beams: 1 and √2
        are the same as the names.
    psf : ClusterImage, optional
        A dirty beam, north up or not, its peak anywhere away from its border; instead of the
        Gaussian. It is interpolated to ``pixel_scale``, made point-symmetric, and of what its
        transform holds nothing negative is kept: no noise has such a power. Beyond its border it is
        zero; a cosine takes its outer fifth there, as a step would be seen in the noise. Nothing
        beyond 1.25 times the size of the image is used.
    pixel_scale : `~astropy.units.Quantity`, optional
        Angle of a pixel of the noise, north up: needed with ``psf``.

    Returns
    -------
    `~numpy.ndarray`
        ``(n, ny, nx)`` float32.

    Raises
    ------
    HaloInputError
        For a number, shape or correlation that cannot be, a beam that is no beam, or a PSF without
        a peak or smaller than its main lobe.

    References
    ----------
    Thompson, Moran & Swenson 2017, Interferometry and Synthesis in Radio Astronomy, section 6.2
    (doi:10.1007/978-3-319-44431-4); Condon 1997, PASP 109, 166 (doi:10.1086/133871) for what
    correlated noise does to measured sources.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy import Beam
    >>> from halopy.simulate.noise import draw_noise
    >>> beam = Beam(140 * u.arcsec, 120 * u.arcsec).covariance(28 * u.arcsec)
    >>> noise = draw_noise(500, (64, 64), beam, rng=1)
    >>> noise.shape, noise.std().round(2)
    ((500, 64, 64), np.float32(1.0))
    """
    rng = np.random.default_rng(rng)
    n, shape = _size(n, shape)
    width = CORRELATIONS.get(correlation, correlation) if isinstance(correlation, str) else correlation
    if isinstance(width, (str, complex)) or not 0 < width < np.inf:
        raise HaloInputError(f"correlation must be one of {', '.join(CORRELATIONS)}, or a width in beams",
                             found=correlation)
    if psf is None:
        spectrum = _GaussianSpectrum(width**2 * _covariances(beam_covariance, n), shape)
    elif not isinstance(correlation, str):
        raise HaloInputError("a psf says itself how far the noise is correlated", found=f"correlation={correlation}",
                             hint="correlation='psf'")
    else:
        spectrum = _PsfSpectrum(psf, pixel_scale, shape, correlation)
    noise = np.empty((n, *shape), dtype=np.float32)
    step = max(1, BLOCK // (spectrum.padded[0] * spectrum.padded[1]))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        noise[rows] = _draw(rows.stop - rows.start, shape, spectrum, spectrum.amplitude(rows), rng)
    return noise


def _draw(n, shape, spectrum, amplitude, rng):
    """Return ``(n, ny, nx)`` images of the modes that a spectrum keeps: normals times their amplitude."""
    from scipy import fft

    (ny, nx), above, below, width = spectrum.padded, spectrum.above, spectrum.below, spectrum.width
    normals = rng.standard_normal((n, above + below, width, 2), dtype=np.float32)
    modes = normals.view(np.complex64)[..., 0]
    modes *= amplitude
    if above + below < ny:
        kept = modes
        modes = np.zeros((n, ny, width), dtype=np.complex64)
        modes[:, :above] = kept[:, :above]
        modes[:, ny - below:] = kept[:, above:]
    # One irfft2 in two steps: columns without power need no first, rows beyond the image no second transform.
    columns = fft.ifft(modes, axis=1, norm="forward", overwrite_x=True)[:, :shape[0]]
    return fft.irfft(columns, nx, axis=2, norm="forward")[:, :, :shape[1]]


class _Spectrum:
    """The grid of the noise and the modes on it that have power: rows ``above`` and ``below`` zero, ``width`` columns.

    Parameters
    ----------
    padded : tuple of int
        ``(ny, nx)`` of the periodic grid.
    highest : tuple of float
        Along y and x, in cycles a pixel: no power lies beyond.
    """

    def __init__(self, padded, highest):
        ny, nx = self.padded = padded
        self.above = min(int(highest[0] * ny) + 1, (ny + 1) // 2)
        self.below = min(int(highest[0] * ny), ny // 2)
        self.width = min(int(highest[1] * nx) + 1, nx // 2 + 1)
        rows = np.concatenate([np.arange(self.above), np.arange(-self.below, 0)])
        self.rows = (rows / ny).astype(np.float32)[:, None]
        self.columns = (np.arange(self.width) / nx).astype(np.float32)
        # A real transform takes the real part of the columns that are their own mirror image: half of
        # their power is lost. All others stand for two modes.
        self.own = np.zeros(self.width, dtype=bool)
        self.own[0] = True
        self.own[nx // 2:] = nx % 2 == 0

    def _to_amplitude(self, power):
        """Turn ``(..., rows, columns)`` power into the amplitude of real normals, for unit variance, in place."""
        power *= np.where(self.own, np.float32(1), np.float32(0.5))
        total = power.sum(axis=-2, dtype=np.float64) @ np.where(self.own, 1.0, 4.0)
        power /= total[..., None, None].astype(np.float32)
        return np.sqrt(power, out=power)


class _GaussianSpectrum(_Spectrum):
    """The transform of Gaussians; ``(1, 2, 2)`` covariances if they are all the same."""

    def __init__(self, covariances, shape):
        from scipy import fft

        self.covariances = covariances
        reach = np.sqrt(2 * np.log(1 / WRAP) * self.covariances[:, [1, 0], [1, 0]].max(axis=0, initial=0))
        padded = tuple(fft.next_fast_len(size + int(np.ceil(r)), real=True)
                       for size, r in zip(shape, reach, strict=True))
        # Along an axis a Gaussian falls below FAINTEST where its profile maximised over the other axis does.
        inverse = np.linalg.inv(self.covariances)[:, [1, 0], [1, 0]]
        highest = np.sqrt(np.log(1 / FAINTEST) / (2 * np.pi**2) * inverse.max(axis=0, initial=0))
        super().__init__(padded, highest)
        narrowest = np.linalg.eigvalsh(self.covariances).min(initial=np.inf)
        # Power beyond the sampling limit folds back: where it is not negligible it belongs to the autocorrelation.
        self.folds = 0
        while np.exp(-2 * np.pi**2 * (self.folds + 0.5) ** 2 * narrowest) > FAINTEST:
            self.folds += 1

    def amplitude(self, rows):
        covariances = self.covariances if len(self.covariances) == 1 else self.covariances[rows]
        xx, yy, xy = (-2 * np.pi**2 * covariances[:, i, j].astype(np.float32)[:, None, None]
                      for i, j in ((0, 0), (1, 1), (0, 1)))
        power = None
        turns = range(-self.folds, self.folds + 1)
        for i, j in itertools.product(turns, turns):
            v, w = self.rows + np.float32(i), self.columns + np.float32(j)
            form = (2 * xy * v) * w
            form += yy * v**2
            form += xx * w**2
            np.exp(form, out=form)
            power = form if power is None else np.add(power, form, out=power)
        return self._to_amplitude(power)


class _PsfSpectrum(_Spectrum):
    """The transform of a dirty beam, sampled at the pixels of the noise."""

    def __init__(self, psf, pixel_scale, shape, correlation):
        from scipy import fft

        profile, radius = _sampled_psf(psf, pixel_scale, LARGEST * max(shape))
        padded = tuple(fft.next_fast_len(size + int(np.ceil(radius)), real=True) for size in shape)
        y, x = (np.fft.fftfreq(size, 1 / size) for size in padded)
        power = fft.rfft2(profile(x[None], y[:, None])).real
        power = np.maximum(power, 0) ** (2 if correlation == "smoothed" else 1)
        v, w = np.nonzero(power > FAINTEST * power.max())
        super().__init__(padded, (np.abs(np.fft.fftfreq(padded[0])[v]).max(), w.max() / padded[1]))
        power = power[np.r_[:self.above, padded[0] - self.below:padded[0]], :self.width]
        self.modes = self._to_amplitude(power.astype(np.float32))

    def amplitude(self, rows):
        return self.modes


def _sampled_psf(psf, pixel_scale, largest):
    """Return the psf as a function of pixel offsets x and y, and the radius (pixels, up to ``largest``) of its end."""
    if not isinstance(psf, ClusterImage):
        raise HaloInputError("psf must be a ClusterImage", found=type(psf).__name__,
                             hint="ClusterImage.read(path)")
    if pixel_scale is None:
        raise HaloInputError("a psf needs the pixel_scale of the noise", hint="pixel_scale=28 * u.arcsec")
    data = np.where(psf.valid, psf.data, 0).astype(np.float64)
    row, column = np.unravel_index(np.argmax(data), data.shape)
    border = min(row, data.shape[0] - 1 - row, column, data.shape[1] - 1 - column)
    if border < 2 or not data[row, column] > 0:
        raise HaloInputError("a psf needs a positive peak away from its border", path=psf.meta.get("path"),
                             found=f"{data[row, column]:g} at row {row}, column {column} of {data.shape}")
    plane = Interpolator(data)
    row, column = row + _vertex(data[row - 1:row + 2, column]), column + _vertex(data[row, column - 1:column + 2])
    # Columns: one pixel of the noise to the west, and to the north.
    scale = pixel_scale.to_value(u.rad)
    sky_per_pixel = np.radians(psf.wcs.pixel_scale_matrix)[[psf.wcs.wcs.lng, psf.wcs.wcs.lat]]
    step = np.linalg.solve(sky_per_pixel, [[-scale, 0], [0, scale]])
    # A circle in the psf's pixels is an ellipse here if those are oblong; the shortest way to the border counts.
    radius = min((border - 1) / np.linalg.norm(step, 2), largest)
    peak = plane(np.array([column]), np.array([row]))[0]

    def profile(x, y):
        distance = np.hypot(x, y)
        inside = distance < radius
        x, y = (np.broadcast_to(c, distance.shape)[inside] for c in (x, y))
        dx, dy = step @ np.array([x, y])
        # The transform of noise power is real: of a psf that is not quite symmetric its symmetric part counts.
        values = (plane(column + dx, row + dy) + plane(column - dx, row - dy)) / (2 * peak)
        fraction = np.clip((distance[inside] / radius - TAPER) / (1 - TAPER), 0, 1)
        if (np.abs(values[fraction > 0]) > 0.5).any():
            raise HaloInputError("a psf must fall below half of its peak well within its border and the size of the "
                                 "image", path=psf.meta.get("path"), found=f"a border {radius:.1f} pixels away")
        result = np.zeros(distance.shape)
        result[inside] = values * np.cos(np.pi / 2 * fraction) ** 2
        return result

    return profile, radius


def _vertex(values):
    """Return where the parabola through three values, the middle one the largest, has its top."""
    left, middle, right = values
    return 0.5 * (left - right) / (left - 2 * middle + right)


def _size(n, shape):
    try:
        count, (ny, nx) = operator.index(n), map(operator.index, shape)
    except (TypeError, ValueError):
        count = ny = nx = -1
    if count < 0 or ny < 1 or nx < 1:
        raise HaloInputError("n must be a whole number and shape two of them, (ny, nx), all positive",
                             found=f"n={n!r}, shape={shape!r}")
    return count, (ny, nx)


def _covariances(beam_covariance, n):
    """Return ``(n, 2, 2)`` float64, or ``(1, 2, 2)`` if all are the same."""
    covariances = np.asarray(beam_covariance, dtype=np.float64)
    if covariances.shape not in ((2, 2), (n, 2, 2)):
        raise HaloInputError(f"beam_covariance must have the shape (2, 2) or ({n}, 2, 2)", found=covariances.shape,
                             hint="beam.covariance(pixel_scale)")
    covariances = covariances.reshape(-1, 2, 2)
    symmetric = np.isfinite(covariances).all() and np.allclose(covariances, covariances.transpose(0, 2, 1), rtol=1e-6)
    if not (symmetric and (np.linalg.eigvalsh(covariances) > NARROWEST).all()):
        raise HaloInputError(f"beam_covariance must be symmetric with eigenvalues above {NARROWEST} square pixels",
                             found=str(covariances[0]), hint="beam.covariance(pixel_scale)")
    return covariances[:1] if (covariances == covariances[:1]).all() else covariances
