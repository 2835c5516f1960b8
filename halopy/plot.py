"""Pictures of images and cutouts, as a radio astronomer wants to see them.

Everything is drawn on `matplotlib.figure.Figure` objects, never through pyplot: nothing global is
touched, and no display is needed.
"""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError
from halopy.io.candidates import centres, numbers, ranking, strength
from halopy.plot_axes import (
    asinh_ticks,
    colour_bar,
    draw_beam,
    draw_circle,
    draw_scale_bar,
    finish,
    new_figure,
    outlined,
    plain_text,
)
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
        ax = new_figure(6.4, 5.6).add_subplot(projection=image.wcs)
    level = _level(image.data, image.rms)
    _draw(ax, image.data, image.unit, level=level, limits=limits, cmap=cmap)
    ax.set_title(plain_text(image.name if title is None else title), fontsize=10)
    scale = image.pixel_scale.to_value(u.arcsec)
    beam = image.pixel_beam
    if beam is not None:
        axes = beam.major.to_value(u.arcsec), beam.minor.to_value(u.arcsec), beam.pa.to_value(u.deg)
        draw_beam(ax, axes, colour="black")
    draw_scale_bar(ax, image.shape[1] * scale, scale, redshift, colour="black")
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
        ax = new_figure(5, 4.2).add_subplot(projection=cutouts.wcs(row))
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
    ax.set_title(plain_text(name if title is None else title), fontsize=10)
    _furnish(ax, cutouts, row, r_e=r_e, centre=centre, redshift=redshift, colour=colour)
    return ax


def _furnish(ax, cutouts, row, *, r_e, centre, redshift, colour):
    """Draw the beam, a scale bar and the circle of 3 r_e of a cutout."""
    known, shape = cutouts.table[row], cutouts.shape[1:]
    scale = _value(cutouts, known, "pixel_scale", u.arcsec)
    axes = [_value(cutouts, known, f"beam_{part}", unit)
            for part, unit in (("major", u.arcsec), ("minor", u.arcsec), ("pa", u.deg))]
    if np.isfinite(scale):
        if np.isfinite(axes[:2]).all():
            draw_beam(ax, axes, colour=colour)
        draw_scale_bar(ax, shape[1] * scale, scale, redshift, colour=colour)
        if r_e is not None and np.isfinite(r_e) and r_e > 0:
            draw_circle(ax, _centre(cutouts, row, shape, centre), 3 * u.Quantity(r_e).to_value(u.arcsec) / scale,
                        colour=colour)


def plot_target(cutout, *, residual=None, explanation=None, r_e=None, centre=None, redshift=None):
    """Draw one target in a row of panels: image, S/N, without compact sources, and what speaks for a halo.

    Parameters
    ----------
    cutout : CutoutSet
        One row.
    residual : CutoutSet, optional
        The same cutout with compact sources removed.
    explanation : CutoutSet, optional
        One map of the same pixels in logits, positive where something speaks for a halo, as
        `halopy.classify.training.NetworkClassifier.explain` returns it. Contours are those of the cutout at
        3, 12, 48, ... times its noise.
    r_e, centre, redshift : optional
        See `plot_cutout`.

    Returns
    -------
    `matplotlib.figure.Figure`
        One to four panels; the signal-to-noise panel is left out where no noise is known.

    Raises
    ------
    HaloInputError
        The explanation has other pixels than the cutout.
    """
    if explanation is not None and explanation.shape != cutout.shape:
        raise HaloInputError(f"the explanation must have the cutout's pixels, {cutout.shape}", found=explanation.shape)
    level = _rms(cutout, cutout.table[0])
    panels = [("image", cutout)]
    if level > 0:
        panels.append(("signal to noise", cutout))
    if residual is not None and np.isfinite(residual.data).any():
        panels.append(("compact sources removed", residual))
    if explanation is not None and np.isfinite(explanation.data).any():
        panels.append(("speaks for a halo", explanation))
    # Placed by hand, in inches: matplotlib's layout engine would take longer than all the drawing.
    left, side, step, bottom, height = 0.8, 2.85, 3.75, 0.5, 3.65
    width = left + step * len(panels)
    figure = new_figure(width, height, layout=None)
    wcs = cutout.wcs(0)
    for i, (title, shown) in enumerate(panels):
        ax = figure.add_axes([(left + step * i) / width, bottom / height, side / width, side / height], projection=wcs)
        if shown is explanation:
            _draw_logits(ax, shown.data[0], cutout.data[0] / (level if level > 0 else np.nan))
            ax.set_title(title, fontsize=10)
            _furnish(ax, cutout, 0, r_e=r_e, centre=centre, redshift=redshift, colour="black")
        else:
            plot_cutout(shown, ax=ax, r_e=r_e, centre=centre, redshift=redshift, title=title,
                        snr=title == "signal to noise")
        if i:
            ax.coords[1].set_ticklabel_visible(False)
            ax.coords[1].set_axislabel("")
    return figure


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
    colour_bar(ax, shown, label, ticks=asinh_ticks(norm))
    finish(ax)


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
    colour_bar(ax, shown, "S/N", ticks=[-step for step in reversed(steps)] + [0, *steps])
    finish(ax)


def _centre(cutouts, row, shape, centre):
    if centre is None and "position" in cutouts.table.colnames:
        centre = cutouts.table["position"][row]
    if centre is not None:
        x, y = cutouts.wcs(row).world_to_pixel(centre)
        if np.isfinite(x) and np.isfinite(y):
            return float(x), float(y)
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2


def _draw_logits(ax, data, snr):
    import matplotlib

    # White is zero: it speaks neither for a halo nor against one.
    peak = float(np.nanmax(np.abs(data))) or 1.0
    shown = ax.imshow(data, origin="lower", cmap=matplotlib.colormaps["RdBu_r"].with_extremes(bad="0.62"), vmin=-peak,
                      vmax=peak, interpolation="nearest")
    levels = [level for level in 3.0 * 4 ** np.arange(5) if np.isfinite(snr).any() and level < np.nanmax(snr)]
    if levels:
        ax.contour(snr, levels=levels, colors="0.35", linewidths=0.6)
    rounded = np.outer(10.0 ** np.arange(-9, 9), (1, 2, 5)).ravel()
    step = rounded[max(np.searchsorted(rounded, peak, side="right") - 1, 0)]
    colour_bar(ax, shown, "logit", ticks=[-step, 0, step])
    finish(ax)


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
        effects = outlined(MARKS[kind], 3)
        ax.add_patch(Circle((x[row], y[row]), size, fill=False, edgecolor=MARKS[kind], linewidth=1.4,
                            path_effects=effects))
        ax.annotate(plain_text(marks[row]), (x[row] + 0.75 * size, y[row] + 0.75 * size), color=MARKS[kind],
                    fontsize=8, fontweight="bold", path_effects=effects, clip_on=True)
