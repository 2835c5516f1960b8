"""What every picture of `halopy.plot` has beside its pixels: axes, colour bar, beam, scale bar, circles."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.errors import MissingExtraError
from halopy.io.candidates import printable

__all__ = ["asinh_ticks", "bar_length", "colour_bar", "draw_beam", "draw_circle", "draw_scale_bar", "finish",
           "new_figure", "outlined", "plain_text"]


def asinh_ticks(norm):
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


def colour_bar(ax, shown, label, *, ticks):
    """Draw the colours beside the picture, with ticks at these values and no others."""
    if ax.figure.get_layout_engine() is None:  # a figure without a layout makes no room by itself
        bar = ax.figure.colorbar(shown, cax=ax.inset_axes([1.025, 0, 0.05, 1]), ticks=ticks)
    else:
        bar = ax.figure.colorbar(shown, ax=ax, fraction=0.046, pad=0.02, ticks=ticks)
    bar.ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=7)
    bar.set_label(label, fontsize=8)


def finish(ax):
    """Fix the edges of the picture, and name the axes of the sky."""
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


def outlined(colour, width=2.4):
    """Return path effects that keep a line or text in ``colour`` readable on any picture."""
    from matplotlib.patheffects import Normal, withStroke

    contrast = "black" if colour == "white" else "white"
    return [withStroke(linewidth=width, foreground=contrast, alpha=0.7), Normal()]


def draw_beam(ax, axes, *, colour):
    """Draw the beam as the pixel grid sees it: astropy turns it from +y, whatever the WCS, in mean pixels."""
    from astropy.visualization.wcsaxes import add_beam

    major, minor, angle = axes
    add_beam(ax, major=major * u.arcsec, minor=minor * u.arcsec, angle=(angle if np.isfinite(angle) else 0) * u.deg,
             frame=False, facecolor="none", edgecolor=colour, linewidth=1.2, hatch="/////")
    _outline_last(ax, colour)


def draw_scale_bar(ax, width, scale, redshift, *, colour):
    """Draw a bar of a round length, in a picture ``width`` arcsec wide with pixels of ``scale`` arcsec."""
    from astropy.visualization.wcsaxes import add_scalebar

    length, label = bar_length(width, redshift)
    add_scalebar(ax, length * u.arcsec, label=label, color=colour, size_vertical=width / scale / 300)
    _outline_last(ax, colour)


def _outline_last(ax, colour):
    from matplotlib.patches import Patch
    from matplotlib.text import Text

    for part in ax.artists[-1].findobj(lambda artist: isinstance(artist, (Patch, Text))):
        part.set_path_effects(outlined(colour))


def bar_length(width, redshift):
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


def draw_circle(ax, centre, radius, *, colour):
    """Draw a dashed circle; ``centre`` (x, y) and ``radius`` in pixels."""
    from matplotlib.patches import Circle

    ax.add_patch(Circle(centre, radius, fill=False, edgecolor=colour, linewidth=1.2, linestyle="--",
                        path_effects=outlined(colour)))


def new_figure(width, height, layout="constrained"):
    """Return a figure of so many inches, without pyplot."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError("plots need the module 'matplotlib', which is not installed; "
                                "install it with: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout=layout)


def plain_text(text):
    """Return text that matplotlib writes as it is, 48 characters of it."""
    # matplotlib takes text between dollar signs for mathematics.
    text = printable(text).replace("$", r"\$")
    return text if len(text) <= 48 else text[:47] + "…"
