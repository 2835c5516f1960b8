"""Pictures of images and cutouts, as a radio astronomer wants to see them.

Everything is drawn on `matplotlib.figure.Figure` objects, never through pyplot: nothing global is
touched, and no display is needed.
"""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError, MissingExtraError
from halopy.io.candidates import centres, numbers, printable, ranking, strength
from halopy.preprocess.project import SkyToPixel
from halopy.preprocess.shrink import shrink

__all__ = ["plot_cutout", "plot_image", "plot_target"]

# matplotlib and matplotlib's projections are optional: the examples are skipped without them.
__doctest_requires__ = {"*": ["matplotlib"]}

MARKS = {"strong": "#d00000", "possible": "#b45f00", "weak": "#1f5fbf", "unscored": "#6a3d9a"}


def plot_image(image, *, ax=None, detections=None, marks=None, redshift=None, title=None, cmap="Greys", limits=None):
    """Draw an image with its beam, a scale bar and, if given, the targets in it.

    Parameters
    ----------
    image : ClusterImage
        Images over 800 pixels a side are averaged down first.
    ax : `~astropy.visualization.wcsaxes.WCSAxes`, optional
        Where to draw; a new figure by default. An axes must have the WCS of ``shrink(image)``.
    detections : `~astropy.table.QTable`, optional
        Each row is a circle of 3 r_e with its rank beside it.
    marks : sequence of str, optional
        What to write beside each row instead of its rank.
    redshift : float, optional
        The scale bar is in kpc then (Planck 2018 cosmology).
    title : str, optional
        Default: the image's name.
    cmap : str, optional
        Default ``"Greys"``.
    limits : tuple of float, optional
        Lowest and highest value shown, in the image's unit.

    Returns
    -------
    `~astropy.visualization.wcsaxes.WCSAxes`
        ``ax.figure`` is the figure.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.wcs import WCS
    >>> from halopy import Beam, ClusterImage
    >>> from halopy.plot import plot_image
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-28 / 3600, 28 / 3600]
    >>> image = ClusterImage(np.eye(50), wcs=wcs, unit=u.Jy / u.beam, beam=Beam(2 * u.arcmin), name="A2744")
    >>> plot_image(image).get_title()
    'A2744'
    """
    image = shrink(image)
    if ax is None:
        ax = _figure(6.4, 5.6).add_subplot(projection=image.wcs)
    level = _level(image.data, image.rms)
    _draw(ax, image.data, image.unit, level=level, limits=limits, cmap=cmap)
    ax.set_title(_text(image.name if title is None else title), fontsize=10)
    scale = image.pixel_scale.to_value(u.arcsec)
    beam = image.pixel_beam
    if beam is not None:
        axes = beam.major.to_value(u.arcsec), beam.minor.to_value(u.arcsec), beam.pa.to_value(u.deg)
        _beam(ax, axes, colour="black")
    _scale_bar(ax, image.shape[1] * scale, scale, redshift, colour="black")
    if detections is not None and len(detections):
        _mark(ax, image, detections, scale, marks)
    return ax


def plot_cutout(cutouts, row=0, *, ax=None, r_e=None, centre=None, redshift=None, title=None, snr=False,
                cmap="inferno", limits=None):
    """Draw one cutout with its beam, a scale bar and, if given, a circle of 3 r_e.

    Parameters
    ----------
    cutouts : CutoutSet
        With a WCS, or with the columns ``position`` and ``pixel_scale``.
    row : int, optional
        Which one, default the first.
    ax : `~astropy.visualization.wcsaxes.WCSAxes`, optional
        Where to draw, with the WCS of this cutout; a new figure by default.
    r_e : `~astropy.units.Quantity`, optional
        e-folding radius (an angle) of the emission: a circle of three times it is drawn.
    centre : `~astropy.coordinates.SkyCoord`, optional
        Centre of that circle, default the column ``position``.
    redshift : float, optional
        The scale bar is in kpc then (Planck 2018 cosmology).
    title : str, optional
        Default: the column ``name``.
    snr : bool, optional
        Divide by the column ``rms`` and draw contours at 3, 6, 12, ... (dashed: -3), default False.
    cmap : str, optional
        Default ``"inferno"``; with ``snr`` it is always a diverging map about zero.
    limits : tuple of float, optional
        Lowest and highest value shown, in the cutouts' unit.

    Returns
    -------
    `~astropy.visualization.wcsaxes.WCSAxes`

    Raises
    ------
    HaloInputError
        ``snr`` is asked for where no noise is known.
    """
    data, known = cutouts.data[row], cutouts.table[row]
    if ax is None:
        ax = _figure(5, 4.2).add_subplot(projection=cutouts.wcs(row))
    rms = _rms(cutouts, known)
    if snr and not rms > 0:
        raise HaloInputError("a signal-to-noise map needs the column 'rms' of the cutouts", found=rms,
                             hint="CutoutMaker on an image with a noise map, see NoiseEstimator")
    if snr:
        _draw_snr(ax, data / rms)
        colour = "black"
    else:
        _draw(ax, data, cutouts.unit, level=_level(data, rms), limits=limits, cmap=cmap)
        colour = "white"
    name = known["name"] if "name" in cutouts.table.colnames else ""
    ax.set_title(_text(name if title is None else title), fontsize=10)
    scale = _value(cutouts, known, "pixel_scale", u.arcsec)
    axes = [_value(cutouts, known, f"beam_{part}", unit)
            for part, unit in (("major", u.arcsec), ("minor", u.arcsec), ("pa", u.deg))]
    if np.isfinite(scale):
        if np.isfinite(axes[:2]).all():
            _beam(ax, axes, colour=colour)
        _scale_bar(ax, data.shape[1] * scale, scale, redshift, colour=colour)
        if r_e is not None and np.isfinite(r_e) and r_e > 0:
            _circle(ax, _centre(cutouts, row, data.shape, centre), 3 * u.Quantity(r_e).to_value(u.arcsec) / scale,
                    colour="white" if not snr else "black")
    return ax


def plot_target(cutout, *, residual=None, r_e=None, centre=None, redshift=None):
    """Draw one target in a row of panels: image, signal-to-noise ratio, and without compact sources.

    Parameters
    ----------
    cutout : CutoutSet
        One row.
    residual : CutoutSet, optional
        The same cutout with compact sources removed.
    r_e, centre, redshift : optional
        See `plot_cutout`.

    Returns
    -------
    `matplotlib.figure.Figure`
        Two or three panels; the signal-to-noise panel is left out where no noise is known.
    """
    level = _rms(cutout, cutout.table[0])
    panels = [("image", cutout, False)]
    if level > 0:
        panels.append(("signal to noise", cutout, True))
    if residual is not None and np.isfinite(residual.data).any():
        panels.append(("compact sources removed", residual, False))
    # Placed by hand, in inches: matplotlib's layout engine would take longer than all the drawing.
    left, side, step, bottom, height = 0.8, 2.85, 3.75, 0.5, 3.65
    width = left + step * len(panels)
    figure = _figure(width, height, layout=None)
    wcs = cutout.wcs(0)
    for i, (title, shown, snr) in enumerate(panels):
        ax = figure.add_axes([(left + step * i) / width, bottom / height, side / width, side / height], projection=wcs)
        plot_cutout(shown, ax=ax, r_e=r_e, centre=centre, redshift=redshift, title=title, snr=snr)
        if i:
            ax.coords[1].set_ticklabel_visible(False)
            ax.coords[1].set_axislabel("")
    return figure


def _figure(width, height, layout="constrained"):
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError("plots need the module 'matplotlib', which is not installed; "
                                "install it with: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout=layout)


def _text(text):
    # matplotlib takes text between dollar signs for mathematics.
    text = printable(text).replace("$", r"\$")
    return text if len(text) <= 48 else text[:47] + "…"


def _value(cutouts, known, name, unit):
    if name not in cutouts.table.colnames or np.ma.is_masked(known[name]):
        return np.nan
    value = known[name]
    value = getattr(value, "unmasked", value) if not np.any(getattr(value, "mask", False)) else np.nan
    return float(value.to_value(unit)) if isinstance(value, u.Quantity) else float(value)


def _rms(cutouts, known):
    return _value(cutouts, known, "rms", cutouts.unit)


def _level(data, rms):
    """Return the noise that sets the stretch: the rms map's, else a robust one of the pixels."""
    if rms is not None:
        known = np.asarray(rms, dtype=float)
        known = known[np.isfinite(known) & (known > 0)]
        if known.size:
            return float(np.median(known))
    # Clipped images are mostly exact zeros, which say nothing on the noise.
    pixels = data[np.isfinite(data) & (data != 0)].astype(float)
    if pixels.size == 0:
        return 1.0
    return float(1.4826 * np.median(np.abs(pixels - np.median(pixels)))) or float(np.abs(pixels).max()) or 1.0


def _draw(ax, data, unit, *, level, limits, cmap):
    import matplotlib
    from astropy.visualization import AsinhStretch, ImageNormalize

    factor = 1.0
    if unit.is_equivalent(u.mJy / u.beam):
        factor, unit = unit.to(u.mJy / u.beam), u.mJy / u.beam
    data, level = data * factor, level * factor
    finite = data[np.isfinite(data)]
    if limits is not None:
        low, high = (factor * float(limit) for limit in limits)
    else:
        low = -2 * level
        high = max(5 * level, float(np.percentile(finite, 99.8)) if finite.size else 0)
    # Linear up to about 1.5 rms and logarithmic above: faint diffuse emission can be seen beside bright sources.
    softening = float(np.clip(1.5 * level / (high - low), 1e-4, 1))
    norm = ImageNormalize(vmin=low, vmax=high, stretch=AsinhStretch(softening), clip=False)
    shown = ax.imshow(data, origin="lower", cmap=matplotlib.colormaps[cmap].with_extremes(bad="0.62"), norm=norm,
                      interpolation="nearest")
    label = {u.mJy / u.beam: "mJy / beam", u.dimensionless_unscaled: ""}.get(unit, unit.to_string())
    _colour_bar(ax, shown, label, ticks=_ticks(norm))
    _finish(ax)


def _draw_snr(ax, data):
    import matplotlib

    finite = data[np.isfinite(data)]
    # White is zero; what is brighter than 30 is compact, and its contours tell how bright.
    peak = float(np.clip(finite.max() if finite.size else 0, 8, 30))
    norm = matplotlib.colors.AsinhNorm(linear_width=3, vmin=-peak, vmax=peak)
    shown = ax.imshow(data, origin="lower", cmap=matplotlib.colormaps["RdBu_r"].with_extremes(bad="0.62"), norm=norm,
                      interpolation="nearest")
    levels = [level for level in 3.0 * 2 ** np.arange(9) if finite.size and level < finite.max()]
    if levels:
        ax.contour(data, levels=levels, colors="black", linewidths=0.7)
    if finite.size and finite.min() < -3:
        ax.contour(data, levels=[-3], colors="black", linewidths=0.7, linestyles="dashed")
    steps = [step for step in (3, 10, 30) if step <= peak]
    _colour_bar(ax, shown, "S/N", ticks=[-step for step in reversed(steps)] + [0, *steps])
    _finish(ax)


def _ticks(norm):
    """Return round values that stand apart on the stretched colour bar."""
    low, high = float(norm.vmin), float(norm.vmax)
    powers = 10.0 ** np.arange(np.floor(np.log10(max(abs(low), high))) - 4, np.ceil(np.log10(max(abs(low), high))) + 1)
    candidates = [0.0] + [m * power for power in powers for m in (1, 3)]
    candidates = [v for v in (*candidates, *(-v for v in candidates[1:])) if low <= v <= high]
    kept = []
    for value in sorted(candidates, key=lambda v: (v != 0, -abs(v))):
        place = float(norm(value))
        if all(abs(place - float(norm(k))) > 0.11 for k in kept):
            kept.append(value)
    return sorted(kept)


def _colour_bar(ax, shown, label, *, ticks):
    if ax.figure.get_layout_engine() is None:  # a figure without a layout makes no room by itself
        bar = ax.figure.colorbar(shown, cax=ax.inset_axes([1.025, 0, 0.05, 1]), ticks=ticks)
    else:
        bar = ax.figure.colorbar(shown, ax=ax, fraction=0.046, pad=0.02, ticks=ticks)
    bar.ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=7)
    bar.set_label(label, fontsize=8)


def _finish(ax):
    # Contours, circles and the beam must not move the edges of the picture.
    ax.autoscale(False)
    ax.set(xlim=(-0.5, ax.images[0].get_array().shape[1] - 0.5), ylim=(-0.5, ax.images[0].get_array().shape[0] - 0.5))
    if not hasattr(ax, "coords"):
        return
    frame = ax.wcs.wcs.radesys or "ICRS"
    for coordinate, name in zip(ax.coords, ("RA", "Dec"), strict=True):
        if ax.wcs.wcs.lngtyp == "RA":
            coordinate.set_axislabel(f"{name} ({frame})", fontsize=8, minpad=0.5)
        coordinate.set_ticklabel(size=7, exclude_overlapping=True)
        coordinate.set_ticks(number=4)
        coordinate.set_ticks_position("bl")


def _outlined(colour, width=2.4):
    """Return path effects that keep a line or text in ``colour`` readable on any picture."""
    from matplotlib.patheffects import Normal, withStroke

    contrast = "black" if colour == "white" else "white"
    return [withStroke(linewidth=width, foreground=contrast, alpha=0.7), Normal()]


def _beam(ax, axes, *, colour):
    """Draw the beam as the pixel grid sees it: astropy turns it from +y, whatever the WCS, in mean pixels."""
    from astropy.visualization.wcsaxes import add_beam

    major, minor, angle = axes
    add_beam(ax, major=major * u.arcsec, minor=minor * u.arcsec, angle=(angle if np.isfinite(angle) else 0) * u.deg,
             frame=False, facecolor="none", edgecolor=colour, linewidth=1.2, hatch="/////")
    _outline_last(ax, colour)


def _scale_bar(ax, width, scale, redshift, *, colour):
    from astropy.visualization.wcsaxes import add_scalebar

    length, label = _bar_length(width, redshift)
    add_scalebar(ax, length * u.arcsec, label=label, color=colour, size_vertical=width / scale / 300)
    _outline_last(ax, colour)


def _outline_last(ax, colour):
    from matplotlib.patches import Patch
    from matplotlib.text import Text

    for part in ax.artists[-1].findobj(lambda artist: isinstance(artist, (Patch, Text))):
        part.set_path_effects(_outlined(colour))


def _bar_length(width, redshift):
    """Return length (arcsec) and label of a scale bar for a picture ``width`` arcsec wide."""
    steps = np.outer(10.0 ** np.arange(-2, 6), (1, 2, 5)).ravel()
    if redshift is not None and np.isfinite(redshift) and redshift > 0:
        from astropy.cosmology import Planck18

        per_kpc = Planck18.arcsec_per_kpc_proper(redshift).value
        kpc = steps[np.searchsorted(steps, 0.3 * width / per_kpc) - 1]
        return kpc * per_kpc, f"{kpc / 1000:g} Mpc" if kpc >= 1000 else f"{kpc:g} kpc"
    arcsec = np.array([1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000, 36000])
    length = arcsec[max(np.searchsorted(arcsec, 0.3 * width) - 1, 0)]
    if length >= 3600:
        return length, f"{length / 3600:g}°"
    return length, f"{length / 60:g}′" if length >= 60 else f"{length:g}″"


def _centre(cutouts, row, shape, centre):
    if centre is None and "position" in cutouts.table.colnames:
        centre = cutouts.table["position"][row]
    if centre is not None:
        x, y = cutouts.wcs(row).world_to_pixel(centre)
        if np.isfinite(x) and np.isfinite(y):
            return float(x), float(y)
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2


def _circle(ax, centre, radius, *, colour):
    from matplotlib.patches import Circle

    ax.add_patch(Circle(centre, radius, fill=False, edgecolor=colour, linewidth=1.2, linestyle="--",
                        path_effects=_outlined(colour)))


def _mark(ax, image, detections, scale, marks):
    from matplotlib.patches import Circle

    if marks is None:
        marks = np.argsort(ranking(detections)) + 1
    radius = 3 * numbers(detections, "r_e", u.arcsec) / scale
    smallest = 0.012 * max(image.shape)
    position = centres(detections)
    x, y = SkyToPixel(image.wcs, image.shape)(position.ra.deg, position.dec.deg)
    for row, kind in enumerate(strength(detections)):
        if not (np.isfinite(x[row]) and -0.5 <= x[row] < image.shape[1] and -0.5 <= y[row] < image.shape[0]):
            continue
        size = max(radius[row], smallest) if np.isfinite(radius[row]) else smallest
        effects = _outlined(MARKS[kind], 3)
        ax.add_patch(Circle((x[row], y[row]), size, fill=False, edgecolor=MARKS[kind], linewidth=1.4,
                            path_effects=effects))
        ax.annotate(_text(marks[row]), (x[row] + 0.75 * size, y[row] + 0.75 * size), color=MARKS[kind], fontsize=8,
                    fontweight="bold", path_effects=effects, clip_on=True)
