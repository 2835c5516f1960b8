"""Noise: six ways to measure the rms of an image, and what is left to do where it was clipped away.

Imports of scipy, photutils, regions and matplotlib stand inside the functions that need them:
``import halopy`` must stay light.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from halopy.errors import HaloInputError, UnusableImageError
from halopy.image import ClusterImage
from halopy.model import Step
from halopy.preprocess.noise_maps import overlapping_boxes, tiled_boxes, whole_cells
from halopy.preprocess.patches import boxes_at, emptiest_boxes, region_pixels
from halopy.preprocess.project import SkyToPixel
from halopy.preprocess.zeros import (
    CLIPPED_ZEROS,
    UNDERCLIPPED_ZEROS,
    has_hole,
    noise_of_clipped,
    noise_of_underclipped,
)

__all__ = ["NoiseEstimator"]

MAPS = ("map", "overlapping")
METHODS = (*MAPS, "clipped", "residual", "patches", "from_map")
REACH = 6
"""Boxes around a position: the spline through the mesh forgets those beyond, to 0.27^6 of their difference."""


class NoiseEstimator(Step):
    """Measure the noise of an image; called on it, returns it with an rms map.

    Parameters
    ----------
    method : str, optional
        ``"map"`` (default)
            Local rms and background over boxes: the median and the scaled median absolute deviation of
            sigma-clipped pixels on a mesh, interpolated (the design of SExtractor [1]_, the numbers of
            `~photutils.background.Background2D`). Positive everywhere, NaN where the image is.
        ``"overlapping"``
            Mean and standard deviation of the clipped pixels of boxes that overlap, on a grid six times as
            fine (the geometry and statistics of BANE [2]_): it follows steeper changes, and believes more in
            faint sources.
        ``"clipped"``
            One number: a Gaussian fitted to the histogram of the iteratively clipped image
            (arXiv 2411.15559, "noise I").
        ``"residual"``
            The same fit to the histogram of ``residual``, an image from which a source finder
            has taken all sources (arXiv 2411.15559, "noise I").
        ``"patches"``
            One number: the mean standard deviation of at least five patches without sources
            (arXiv 2411.15559, "noise II", done there by hand in DS9).
        ``"from_map"``
            The user's own maps, see `from_map`.
    box : `~astropy.units.Quantity` or int, optional
        Size of a box or patch: an angle or pixels. Default 24 beams for maps (wider than any
        halo worth finding, which must not enter its own noise), 8 beams for ``"patches"``; never
        more than half of the image.
    sigma : float, optional
        Clipping threshold, default 3.
    patches : path, SkyCoord or int, optional
        For ``"patches"``: a DS9 region file, the centres, or how many of the emptiest boxes halopy
        chooses (default 5). Boxes are ranked by peak over scatter, which does not prefer quiet
        ones.
    residual : path or ClusterImage, optional
        For ``"residual"``.
    rms_map, background_map : path or ClusterImage, optional
        For ``"from_map"``.
    clip_sigma : float, optional
        At how many sigma a clipped image was clipped, default 3.

    Notes
    -----
    **Clipped images.** Where more than half of the pixels are exactly zero no method can see the
    noise. The rms is then min \\|non-zero\\| / ``clip_sigma`` where the distribution has an edge there
    (``rms_method`` ``"clip-edge"``), else the survey preset's (``"preset"``); the image gets the flag
    ``clipped``. Where 5 to 50 % are zero, a low threshold t has cut a hole into the noise; from the
    zeroed fraction f of Gaussian noise, sigma = t / (sqrt(2) erfinv(f)) (``"zeros"``, flag
    ``clipped-low``). Where the noise lies about a negative level, which that formula does not know,
    sigma is the distance between the quantiles at minus two and minus one sigma (``"wing"``). Where up
    to half of the pixels are zero and there is no hole, the zeros are blanks, as of a mosaic's border: they
    take no part, and have no rms (NaN).

    References
    ----------
    .. [1] Bertin & Arnouts 1996, A&AS 117, 393, doi:10.1051/aas:1996164
    .. [2] Hancock, Trott & Hurley-Walker 2018, PASA 35, e011, doi:10.1017/pasa.2018.3

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.wcs import WCS
    >>> from halopy import Beam, ClusterImage, NoiseEstimator
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-1 / 120, 1 / 120]
    >>> pixels = np.random.default_rng(1).normal(0, 0.01, (200, 200))
    >>> image = ClusterImage(pixels, wcs=wcs, unit=u.Jy / u.beam, beam=Beam(2 * u.arcmin))
    >>> noise = NoiseEstimator(method="map", box=20 * u.arcmin)
    >>> noise
    NoiseEstimator(box=20 arcmin)
    >>> print(f"{np.median(noise(image).rms):.3f}")
    0.010
    """

    def __init__(self, method="map", *, box=None, sigma=3.0, patches=5, residual=None, rms_map=None,
                 background_map=None, clip_sigma=3.0):
        self.method = method
        self.box = box
        self.sigma = sigma
        self.patches = patches
        self.residual = residual
        self.rms_map = rms_map
        self.background_map = background_map
        self.clip_sigma = clip_sigma

    @classmethod
    def from_map(cls, rms, background=None):
        """Use the rms (and background) maps that BANE, PyBDSF or the user made.

        Parameters
        ----------
        rms, background : path or ClusterImage
            On the pixel grid of the images to come, in any unit that converts to theirs.

        Returns
        -------
        NoiseEstimator
        """
        return cls("from_map", rms_map=rms, background_map=background)

    def __call__(self, image):
        """Return the image with ``rms``, ``background`` and ``meta["rms_method"]`` set.

        Parameters
        ----------
        image : ClusterImage

        Returns
        -------
        ClusterImage

        Raises
        ------
        HaloInputError
            The image holds no noise (all NaN, constant, all zero), or a setting does not fit it.
        """
        from halopy.preprocess.boxes import count_zeros, two_values

        if self.method not in METHODS:
            raise HaloInputError(f"method is one of {', '.join(METHODS)}", found=self.method)
        if not (self.sigma > 0 and self.clip_sigma > 0):
            raise HaloInputError("sigma and clip_sigma must be positive", found=(self.sigma, self.clip_sigma))
        path = image.meta.get("path")
        least, greatest = two_values(image.data)
        if np.isnan(least):
            raise UnusableImageError("no usable pixels: all are NaN", path=path)
        if least == greatest:
            raise UnusableImageError("no noise: the image is constant", path=path, found=least)
        if self.method == "from_map":
            return self._from_map(image)
        zeros = count_zeros(image.data)
        n = np.count_nonzero(image.valid) if zeros else image.data.size
        if zeros > CLIPPED_ZEROS * n:
            rms, method = noise_of_clipped(image, self.clip_sigma)
            return _with_noise(image, rms, None, method, ("clipped",))
        measured = image
        if zeros:
            if not has_hole(image.data, zeros):
                measured = image.replace(data=np.where(image.data == 0, np.nan, image.data))
            elif zeros > UNDERCLIPPED_ZEROS * n and self.method != "residual":
                rms, method = noise_of_underclipped(image.data[image.valid], zeros / n)
                return _with_noise(image, rms, None, method, ("clipped-low",))
        if self.method in MAPS:
            background, rms = self._maps(measured)
            return _with_noise(image, rms, background, self.method)
        if self.method == "patches":
            return _with_noise(image, np.where(measured.valid, self._patches(measured), np.nan), None, "patches")
        source = _as_image(self.residual, image, "residual") if self.method == "residual" else measured
        mean, rms = self._histogram_fit(source.data[source.valid] * source.unit.to(image.unit))[:2]
        return _with_noise(image, np.where(measured.valid, rms, np.nan), np.full(image.shape, mean), self.method)

    def at(self, image, positions):
        """Return background and rms at sky positions only.

        Where a map would be made and the positions are few, only their surroundings are measured: the
        numbers are those of the map, to what boxes more than six boxes away weigh, fill or bound in it.

        Parameters
        ----------
        image : ClusterImage
        positions : `~astropy.coordinates.SkyCoord`
            One, or an array of any shape.

        Returns
        -------
        background, rms : `~astropy.units.Quantity`
            Of that shape, in the unit of the image; NaN off the image, and a background of NaN where none is measured.

        Raises
        ------
        HaloInputError
            As of a call.

        Examples
        --------
        >>> import numpy as np
        >>> from astropy import units as u
        >>> from astropy.wcs import WCS
        >>> from halopy import Beam, ClusterImage, NoiseEstimator
        >>> wcs = WCS(naxis=2)
        >>> wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-1 / 120, 1 / 120]
        >>> pixels = np.random.default_rng(1).normal(0, 0.01, (200, 200))
        >>> image = ClusterImage(pixels, wcs=wcs, unit=u.Jy / u.beam, beam=Beam(2 * u.arcmin))
        >>> background, rms = NoiseEstimator(box=10).at(image, wcs.pixel_to_world([50, 900], [60, 60]))
        >>> print(rms.round(2))
        [0.01  nan] Jy / beam
        """
        x, y = np.atleast_1d(*SkyToPixel(image.wcs, image.shape)(positions.icrs.ra.deg, positions.icrs.dec.deg))
        with np.errstate(invalid="ignore"):
            inside = (x > -0.5) & (y > -0.5) & (x < image.shape[1] - 0.5) & (y < image.shape[0] - 0.5)
        found = np.full((2, *inside.shape), np.nan)
        if inside.any():
            found[:, inside] = self._at(image, *(np.rint(place[inside]).astype(int) for place in (x, y)))
        return tuple(values.reshape(positions.shape) * image.unit for values in found)

    def _at(self, image, x, y):
        box = self._box_pixels(image, beams=24) if self.method in MAPS else np.inf
        box = whole_cells(box) if self.method == "overlapping" else box
        if len(x) * ((2 * REACH + 1) * box)**2 <= image.data.size and not (image.data == 0).any():
            with suppress(UnusableImageError):  # no noise so near: the map has it from farther away
                return np.transpose([self._near(image, box, a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)])
        measured = self(image)
        background = np.full(len(x), np.nan) if measured.background is None else measured.background[y, x]
        return background, measured.rms[y, x]

    def _near(self, image, box, x, y):
        left, bottom = (max(0, (c // box - REACH) * box) for c in (x, y))
        part = type(self)(**(self.params | {"box": box}))(
            image[bottom:(y // box + REACH + 1) * box, left:(x // box + REACH + 1) * box])
        return part.background[y - bottom, x - left], part.rms[y - bottom, x - left]

    def _maps(self, image):
        box = self._box_pixels(image, beams=24)
        try:
            if self.method == "overlapping":
                return overlapping_boxes(image.data, box, sigma=self.sigma)
            return tiled_boxes(image.data, tuple(min(box, n) for n in image.shape), sigma=self.sigma)
        except UnusableImageError as error:
            error.path = image.meta.get("path")
            raise

    def _patches(self, image):
        size = self._box_pixels(image, beams=8)
        if isinstance(self.patches, (int, np.integer)):
            patches = emptiest_boxes(image, size, int(self.patches))
        elif isinstance(self.patches, SkyCoord):
            patches = boxes_at(image, self.patches, size)
        else:
            patches = region_pixels(self.patches, image)
        if len(patches) < 5:
            raise HaloInputError("the noise of patches needs at least 5 of them", found=len(patches),
                                 hint="a smaller box, or more patches")
        values = [p[np.isfinite(p)] for p in patches]
        for number, patch in enumerate(values):
            if patch.size < 10 or patch.std() == 0:
                raise HaloInputError(f"patch {number} holds no noise", found=f"{patch.size} pixels")
        return float(np.mean([patch.std(dtype=float) for patch in values]))

    def _histogram_fit(self, pixels):
        """Return mean, rms, bin edges, counts and the fitted amplitude."""
        from astropy.stats import sigma_clip
        from scipy.optimize import curve_fit

        kept = np.asarray(sigma_clip(pixels.astype(float), sigma=self.sigma, maxiters=20, masked=False))
        centre, spread = np.median(kept), kept.std()
        if spread == 0:
            raise UnusableImageError("no noise: the clipped pixels are constant", found=float(centre))
        n_bins = int(np.clip(np.sqrt(kept.size), 11, 201))
        counts, edges = np.histogram(kept, bins=n_bins)
        middle = (edges[1:] + edges[:-1]) / 2

        def gaussian(x, amplitude, mean, rms):
            return amplitude * np.exp(-0.5 * ((x - mean) / rms) ** 2)

        try:
            (amplitude, mean, rms), _ = curve_fit(gaussian, middle, counts, p0=(counts.max(), centre, spread),
                                                  sigma=np.sqrt(counts + 1.0), maxfev=2000)
        except RuntimeError as error:
            raise HaloInputError(f"no Gaussian fits the histogram of these pixels: {error}",
                                 hint="method='map'") from error
        return float(mean), float(abs(rms)), edges, counts, float(amplitude)

    def _from_map(self, image):
        if self.rms_map is None:
            raise HaloInputError("method 'from_map' needs the rms map", hint="NoiseEstimator.from_map(rms)")
        rms = _as_image(self.rms_map, image, "rms map")
        values = rms.data * np.float32(rms.unit.to(image.unit))
        if not (values[np.isfinite(values)] > 0).all():
            raise HaloInputError("an rms map must be positive", path=rms.meta.get("path"),
                                 found=float(np.nanmin(values)))
        background = None
        if self.background_map is not None:
            level = _as_image(self.background_map, image, "background map")
            background = level.data * np.float32(level.unit.to(image.unit))
        return _with_noise(image, values, background, "from_map")

    def _box_pixels(self, image, *, beams):
        if isinstance(self.box, u.Quantity):
            if not self.box.unit.is_equivalent(u.deg):
                raise HaloInputError("a noise box is an angle or pixels", found=str(self.box), keyword="box")
            box = (self.box / image.pixel_scale).to_value(u.one)
        elif self.box is not None:
            box = self.box
        elif image.beam is not None:
            box = beams * np.sqrt(image.beam_area * 4 * np.log(2) / np.pi)
        else:
            box = min(image.shape) / 8
        if not np.isfinite(box) or box < 4:
            raise HaloInputError("a noise box must be at least 4 pixels wide", found=float(box), keyword="box")
        return int(round(np.clip(box, 4, max(4, min(image.shape) // 2))))

    def plot(self, image):
        """Draw the histogram with its fit, and the log-normalised image.

        Parameters
        ----------
        image : ClusterImage

        Returns
        -------
        `~matplotlib.figure.Figure`
        """
        from matplotlib.figure import Figure

        measured = self(image)
        rms = float(np.nanmedian(measured.rms))
        mean = 0.0 if measured.background is None else float(np.nanmedian(measured.background))
        shown = image
        if self.method == "residual":
            shown = _as_image(self.residual, image, "residual")
        pixels = shown.data[shown.valid] * shown.unit.to(image.unit)
        unit, factor = image.unit, 1.0
        if image.unit.is_equivalent(u.mJy / u.beam):
            unit, factor = u.mJy / u.beam, image.unit.to(u.mJy / u.beam)

        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        window = pixels[np.abs(pixels - mean) < 6 * rms]
        counts, edges, _ = left.hist(factor * window, bins=100, color="0.75", label="pixels")
        inside = np.abs((edges[1:] + edges[:-1]) / 2 / factor - mean) < 1.5 * rms
        x = np.linspace(edges[0], edges[-1], 400)
        shape = np.exp(-0.5 * ((x / factor - mean) / rms) ** 2)
        middle = np.exp(-0.5 * (((edges[1:] + edges[:-1]) / 2 / factor - mean) / rms) ** 2)
        height = counts[inside].sum() / max(middle[inside].sum(), 1e-9)
        left.plot(x, height * shape, color="C3",
                  label=f"rms {factor * rms:.3g} {unit}\n({measured.meta['rms_method']})")
        left.set(xlabel=str(unit), ylabel="pixels", yscale="log", ylim=(0.5, 3 * max(counts.max(), 1)))
        left.legend(frameon=False, loc="upper right")
        level = np.log10(1 + np.clip((image.data - mean) / rms, 0, None))
        top = max(float(np.nanpercentile(level, 99.7)), 0.1)
        drawn = right.imshow(level, origin="lower", cmap="inferno", vmin=0, vmax=top)
        figure.colorbar(drawn, ax=right, label="log10(1 + S/N)")
        right.set(xlabel="x (pixels)", ylabel="y (pixels)", title=image.name)
        return figure


def _as_image(source, image, what):
    if source is None:
        raise HaloInputError(f"method {what!r} needs the {what}", hint=f"NoiseEstimator({what!r}, {what}=path)")
    other = source
    if not isinstance(source, ClusterImage):
        other = ClusterImage.read(source, beam=image.beam, frequency=image.frequency, unit=None)
    if other.shape != image.shape:
        raise HaloInputError(f"the {what} must have the shape of the image, {image.shape}",
                             path=other.meta.get("path"), found=other.shape)
    corner = [[0, 0], [image.shape[1] - 1, image.shape[0] - 1]]
    # The two grids must agree on the sky, or the noise would belong to other pixels.
    shift = np.hypot(*(np.asarray(other.wcs.all_world2pix(image.wcs.all_pix2world(corner, 0), 0)) - corner).T)
    if not (shift < 0.5).all():
        raise HaloInputError(f"the {what} lies elsewhere on the sky than the image", path=other.meta.get("path"),
                             found=f"off by {np.max(shift):.1f} pixels")
    if not other.unit.is_equivalent(image.unit):
        raise HaloInputError(f"the {what} must be in a unit like the image's, {image.unit}",
                             path=other.meta.get("path"), found=str(other.unit))
    return other


def _with_noise(image, rms, background, method, flags=()):
    if method not in MAPS:  # which have it so
        rms = np.where(image.valid, rms, np.float32(np.nan))
    return image.replace(rms=rms, background=background, flags=(*image.flags, *flags),
                         meta={**image.meta, "rms_method": method})
