"""Figures of a search in visibilities: against the distance in the u-v plane, the coverage, and what was tested.

Like `halopy.plot`, on `matplotlib.figure.Figure` objects and never through pyplot.
"""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError
from halopy.plot_axes import new_figure

__all__ = ["plot_amplitude", "plot_coverage", "plot_test"]

__doctest_requires__ = {"*": ["matplotlib"]}

# Wong 2011, Nature Methods 8, 441: colours that most colour-blind people tell apart.
HALO, SOURCES, TOTAL = "#d55e00", "#009e73", "#0072b2"
MOST_POINTS = 20000
HALF = np.sqrt(2 ** (2 / 3) - 1) / (2 * np.pi)
"""The distance at which an exponential halo has half of its flux, times r_e."""


def plot_amplitude(profile, *, title=None):
    """Draw visibilities against the distance in the u-v plane, with what was fitted to them.

    Parameters
    ----------
    profile : `~astropy.table.QTable`
        From `~halopy.uvshapelets.profile.radial_profile`, with the models ``halo`` and, if there are point sources,
        ``sources``.
    title : str, optional

    Returns
    -------
    `matplotlib.figure.Figure`
        From above: the mean real part with halo, point sources and their sum; what is left without the point
        sources, with the halo; what is left without either, in units of its error.

    Raises
    ------
    HaloInputError
        If there is no model ``halo``.
    """
    if "halo" not in profile.colnames:
        raise HaloInputError("a profile is drawn with its model", keyword="profile", found=profile.colnames,
                             hint='radial_profile(visibilities, {"halo": ...})')
    distance = np.asarray(profile["distance"])
    real, error, halo = (profile[name].to_value(u.Jy) for name in ("real", "real_err", "halo"))
    sources = profile["sources"].to_value(u.Jy) if "sources" in profile.colnames else None
    figure = new_figure(5.6, 5.4 if sources is None else 6.8)
    heights = (3, 1.2) if sources is None else (2.4, 2.6, 1.2)
    axes = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    bars = {"fmt": "o", "color": "black", "markersize": 3.5, "elinewidth": 1, "zorder": 3}
    if sources is not None:
        ax = axes[0]
        ax.errorbar(distance, real, error, label="visibilities", **bars)
        ax.plot(distance, halo + sources, color=TOTAL, label="halo + point sources")
        ax.plot(distance, sources, color=SOURCES, linestyle="--", label="point sources")
        ax.plot(distance, halo, color=HALO, linestyle="-.", label="halo")
        ax.set_ylabel("mean real part (Jy)")
        ax.legend(fontsize=7, frameon=False, ncols=2)
    left = real if sources is None else real - sources
    axes[-2].errorbar(distance, left, error, label="visibilities" if sources is None else "without the point sources",
                      **bars)
    axes[-2].plot(distance, halo, color=HALO, label="halo")
    axes[-2].set_ylabel("mean real part (Jy)")
    axes[-2].legend(fontsize=7, frameon=False)
    axes[-1].errorbar(distance, (left - halo) / error, 1, **bars)
    axes[-1].set(ylabel="residual (σ)", xlabel="distance in the u-v plane (wavelengths)", xscale="log")
    for ax in axes:
        ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    axes[-1].set_ylim(*(np.array([-1, 1]) * max(4.0, 1.15 * np.abs((left - halo) / error).max() + 1)))
    if title:
        axes[0].set_title(title, fontsize=10)
    return figure


def plot_coverage(visibilities, *, radii=(1, 2, 4, 8) * u.arcmin):
    """Draw which parts of the u-v plane were measured, and what halos show there.

    Parameters
    ----------
    visibilities : Visibilities
        Of more than 20,000 a part is drawn.
    radii : `~astropy.units.Quantity`, optional
        E-folding radii. Default: 1, 2, 4 and 8 arcmin.

    Returns
    -------
    `matplotlib.figure.Figure`
        Left: the u-v plane, each visibility and its mirror; dashed: where a halo of the smallest and the largest radius
        has half of its flux. Right: the share of the weight by distance, and the share of their flux that halos have
        there.

    Raises
    ------
    HaloInputError
        If no visibility has weight.
    """
    use = np.flatnonzero((visibilities.weight > 0) & (visibilities.distance > 0))
    if not use.size:
        raise HaloInputError("no visibility has weight", keyword="weight")
    radii = np.sort(u.Quantity(radii).reshape(-1))
    shown = use[::-(-use.size // MOST_POINTS)]
    east, north, distance = visibilities.u[shown], visibilities.v[shown], visibilities.distance[use]
    figure = new_figure(9.4, 4.4)
    left, right = figure.subplots(1, 2)
    from matplotlib.patches import Circle

    left.scatter(np.concatenate([east, -east]), np.concatenate([north, -north]), s=1, color=TOTAL, alpha=0.35,
                 linewidth=0, rasterized=True)
    reach = 1.05 * distance.max()
    for r_e in radii[[0, -1]]:
        left.add_patch(Circle((0, 0), HALF / r_e.to_value(u.rad), fill=False, linestyle="--", edgecolor=HALO))
    # East is to the left on the sky, and so is u.
    left.set(xlim=(reach, -reach), ylim=(-reach, reach), aspect="equal", xlabel="u (wavelengths)",
             ylabel="v (wavelengths)")
    edges = np.geomspace(distance.min() * (1 - 1e-9), distance.max() * (1 + 1e-9), 41)
    weight = visibilities.weight[use]
    right.hist(distance, edges, weights=weight / weight.sum(), color="0.8", label="weight")
    right.set(xscale="log", xlabel="distance in the u-v plane (wavelengths)", ylabel="share of the weight")
    flux = right.twinx()
    q = np.geomspace(edges[0], edges[-1], 200)
    for k, r_e in enumerate(radii):
        flux.plot(q, (1 + (2 * np.pi * r_e.to_value(u.rad) * q) ** 2) ** -1.5, color=HALO,
                  linestyle=("-", "--", "-.", ":")[k % 4], label=f"halo, r$_e$ = {_angle(r_e)}")
    flux.set(ylim=(0, 1.05), ylabel="visibility / flux")
    flux.legend(fontsize=8, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def plot_test(found):
    """Draw what was tested: the flux at each radius of the bank, and the S/N of off-positions.

    Parameters
    ----------
    found : HaloDetection
        From `~halopy.uvshapelets.detect.detect_halo`.

    Returns
    -------
    `matplotlib.figure.Figure`
        The second panel is there only if there were off-positions.
    """
    radii, flux, error = found.radii, found.flux_by_radius.to_value(u.mJy), found.flux_err_by_radius.to_value(u.mJy)
    offsets = np.asarray(found.offset_snr)
    figure = new_figure(4.2, 6.0 if offsets.size else 3.4)
    axes = np.atleast_1d(figure.subplots(2 if offsets.size else 1))
    ax = axes[0]
    ax.errorbar(radii.to_value(u.arcsec), flux, error, fmt="o", color="black", markersize=3.5, elinewidth=1,
                label="r$_e$ held there")
    # An error of the radius that is not known is drawn as none.
    ax.errorbar([found.r_e.to_value(u.arcsec)], [found.flux.to_value(u.mJy)], [found.flux_err.to_value(u.mJy)],
                [np.nan_to_num(found.r_e_err.to_value(u.arcsec))], fmt="D", color=HALO, markersize=5, label="best")
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.set(xscale="log", xlabel="r$_e$ (arcsec)", ylabel="flux density (mJy)")
    low, high = radii[[0, -1]].to_value(u.arcsec)
    ticks = [t for t in (10, 30, 60, 120, 240, 480, 960) if 0.9 * low <= t <= 1.1 * high] or [low]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.legend(fontsize=7, frameon=False)
    if offsets.size:
        axes[1].hist(offsets, bins=max(10, int(np.sqrt(offsets.size))), color="0.75", label="off-positions")
        axes[1].axvline(found.snr, color=HALO, label="target")
        axes[1].set(xlabel="S/N of the best radius", ylabel="number")
        axes[1].legend(fontsize=7, frameon=False)
    return figure


def _angle(value):
    arcsec = value.to_value(u.arcsec)
    return f"{arcsec / 60:.3g}′" if arcsec >= 60 else f"{arcsec:.3g}″"
