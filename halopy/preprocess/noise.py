"""Noise: five ways to measure the rms of an image, and what is left to do where it was clipped away.

Imports of scipy, photutils, regions and matplotlib stand inside the functions that need them:
``import halopy`` must stay light.
"""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from halopy.errors import HaloInputError, UnusableImageError
from halopy.image import ClusterImage
from halopy.model import Step
from halopy.survey import surveys

__all__ = ["NoiseEstimator"]

METHODS = ("map", "clipped", "residual", "patches", "from_map")
CLIPPED_ZEROS = 0.5
"""Above this fraction of exact zeros an image counts as clipped."""
UNDERCLIPPED_ZEROS = 0.05
"""Above this fraction the hole that a low clip leaves in the distribution would bias a fit."""
NEGATIVE = 0.7
"""Above this fraction of negative pixels the noise that is left does not lie about zero."""


class NoiseEstimator(Step):
    """Measure the noise of an image; called on it, returns it with an rms map.

    Parameters
    ----------
    method : str, optional
        ``"map"`` (default)
            Local rms and background over boxes: the scaled median absolute deviation of
            sigma-clipped pixels on a mesh, interpolated (photutils `~photutils.background.Background2D`;
            the design of SExtractor [1]_ and BANE [2]_). Positive everywhere, NaN where the image is.
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
        Size of a box or patch: an angle or pixels. Default 24 beams for ``"map"`` (wider than any
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
    sigma is the distance between the quantiles at minus two and minus one sigma (``"wing"``).

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
        if self.method not in METHODS:
            raise HaloInputError(f"method is one of {', '.join(METHODS)}", found=self.method)
        if not (self.sigma > 0 and self.clip_sigma > 0):
            raise HaloInputError("sigma and clip_sigma must be positive", found=(self.sigma, self.clip_sigma))
        pixels = image.data[image.valid]
        path = image.meta.get("path")
        if pixels.size == 0:
            raise UnusableImageError("no usable pixels: all are NaN", path=path)
        if pixels.min() == pixels.max():
            raise UnusableImageError("no noise: the image is constant", path=path, found=float(pixels.min()))
        if self.method == "from_map":
            return self._from_map(image)
        zeros = float(np.mean(pixels == 0))
        if zeros > CLIPPED_ZEROS:
            rms, method = self._of_clipped(image, pixels)
            return _with_noise(image, rms, None, method, ("clipped",))
        if zeros > UNDERCLIPPED_ZEROS and self.method != "residual":
            rms, method = _of_underclipped(pixels, zeros)
            return _with_noise(image, rms, None, method, ("clipped-low",))
        if self.method == "map":
            background, rms = self._map(image)
            return _with_noise(image, rms, background, "map")
        if self.method == "patches":
            return _with_noise(image, self._patches(image), None, "patches")
        if self.method == "residual":
            residual = _as_image(self.residual, image, "residual")
            pixels = residual.data[residual.valid] * residual.unit.to(image.unit)
        mean, rms = self._histogram_fit(pixels)[:2]
        return _with_noise(image, rms, np.full(image.shape, mean), self.method)

    def _map(self, image):
        from astropy.stats import SigmaClip
        from photutils.background import Background2D, MADStdBackgroundRMS, MedianBackground

        box = self._box_pixels(image, beams=24)
        pixels = image.data.astype(np.float64)
        background = Background2D(
            pixels, (min(box, image.shape[0]), min(box, image.shape[1])), coverage_mask=~image.valid,
            fill_value=np.nan, exclude_percentile=80, filter_size=3,
            sigma_clip=SigmaClip(sigma=self.sigma, maxiters=10), bkg_estimator=MedianBackground(sigma_clip=None),
            bkg_rms_estimator=MADStdBackgroundRMS(sigma_clip=None))
        mesh = background.background_rms_mesh
        positive = mesh[mesh > 0]
        if positive.size == 0:
            raise UnusableImageError("no noise: more than half of the pixels of every box are equal",
                                 path=image.meta.get("path"), hint="a larger box")
        # The spline between a noisy and a quiet box may overshoot, below zero even (PyBDSF issue 215).
        return background.background, np.clip(background.background_rms, positive.min(), positive.max())

    def _patches(self, image):
        size = self._box_pixels(image, beams=8)
        if isinstance(self.patches, (int, np.integer)):
            patches = emptiest_boxes(image, size, int(self.patches))
        elif isinstance(self.patches, SkyCoord):
            patches = boxes_at(image, self.patches, size)
        else:
            patches = _region_pixels(self.patches, image)
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

    def _of_clipped(self, image, pixels):
        level = np.sort(np.abs(pixels[pixels != 0]))
        # A clip leaves a wall: many pixels just above the threshold, none below. A faint tail has none.
        wall = np.searchsorted(level, 1.1 * level[0]) / level.size
        if level.size >= 20 and wall > 0.02:
            return float(level[0]) / self.clip_sigma, "clip-edge"
        if image.meta.get("survey") in surveys:
            preset = surveys[image.meta["survey"]].rms
            if preset.unit.is_equivalent(image.unit):
                return float(preset.to_value(image.unit)), "preset"
        raise UnusableImageError("this image is clipped and no threshold can be seen in it, so its noise is unknown",
                             path=image.meta.get("path"), hint="survey=, or NoiseEstimator.from_map(rms)")

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


def emptiest_boxes(image, size, n):
    """Return the pixels of the ``n`` boxes with the least peak over scatter, and so the fewest sources."""
    ny, nx = (length // size for length in image.shape)
    boxes = [image.data[j * size:(j + 1) * size, i * size:(i + 1) * size].ravel() for j in range(ny) for i in range(nx)]
    boxes = [b for b in boxes if np.isfinite(b).mean() > 0.9 and np.nanmin(b) < np.nanmedian(b)]
    peaks = []
    for b in boxes:
        median = np.nanmedian(b)
        # The scatter from the lower half is blind to sources, which are positive.
        scatter = np.sqrt(np.nanmean((b[b < median] - median) ** 2))
        peaks.append((np.nanmax(b) - median) / scatter)
    return [boxes[k] for k in np.argsort(peaks)[:n]]


def boxes_at(image, positions, size):
    """Return the pixels of boxes about sky positions."""
    x, y = np.atleast_1d(*image.wcs.world_to_pixel(positions))
    boxes = []
    for number, (a, b) in enumerate(zip(x, y, strict=True)):
        if not (np.isfinite(a) and np.isfinite(b) and 0 <= a < image.shape[1] and 0 <= b < image.shape[0]):
            raise HaloInputError(f"patch {number} lies outside the image", path=image.meta.get("path"),
                                 found=positions.ravel()[number].to_string("hmsdms"))
        i, j = (max(0, int(round(c - (size - 1) / 2))) for c in (a, b))
        boxes.append(image.data[j:j + size, i:i + size].ravel())
    return boxes


def _region_pixels(path, image):
    from regions import Regions, SkyRegion

    try:
        regions = Regions.read(str(path), format="ds9")
    except Exception as error:  # the parser answers a bad file with many kinds of exception
        raise HaloInputError(f"cannot read this DS9 region file: {error}", path=path) from error
    patches = []
    for number, region in enumerate(regions):
        pixel_region = region.to_pixel(image.wcs) if isinstance(region, SkyRegion) else region
        try:
            values = pixel_region.to_mask().get_values(image.data)
        except NotImplementedError as error:
            raise HaloInputError(f"region {number} has no area", path=path, found=type(region).__name__) from error
        if values is None or values.size == 0:
            raise HaloInputError(f"region {number} lies outside the image", path=path)
        patches.append(values)
    return patches


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


def _of_underclipped(pixels, zeros):
    from scipy.special import erfinv

    kept = pixels[pixels != 0]
    if np.mean(kept < 0) > NEGATIVE:
        # Sources are positive, so noise about a negative level is what remains; below it nothing was zeroed.
        two, one = np.quantile(pixels, (0.02275, 0.15866))
        return float(one - two), "wing"
    return float(np.abs(kept).min() / (np.sqrt(2) * erfinv(zeros))), "zeros"


def _with_noise(image, rms, background, method, flags=()):
    rms = np.where(image.valid, rms, np.nan)
    return image.replace(rms=rms, background=background, flags=(*image.flags, *flags),
                         meta={**image.meta, "rms_method": method})
