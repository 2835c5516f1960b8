"""Is there a halo at a position? The answer from visibilities, without an image."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError
from halopy.uvshapelets.bank import Bank
from halopy.uvshapelets.fit import NormalEquations, pieces
from halopy.uvshapelets.nuisance import Confusion
from halopy.uvshapelets.null import Imaginary, maximum_p_value, off_positions
from halopy.uvshapelets.templates import ExponentialHalo

__all__ = ["RADII", "HaloDetection", "detect_halo"]

RADII = 30 * 2 ** (np.arange(11) / 2) * u.arcsec
"""The bank's e-folding radii: from 30 arcsec to 16 arcmin in steps of √2."""


@dataclasses.dataclass(frozen=True, eq=False)
class HaloDetection:
    """What visibilities say about a halo at one position.

    Attributes
    ----------
    p_value : float
        Probability that noise alone (and sources within their priors) gives a S/N of this modulus or more, for the best
        of the bank's radii: of the bank's own null.
    snr : float
        Signed S/N at the best radius of the bank.
    ln_bayes : float
        Logarithm of the Bayes factor between a halo and none.
    flux, flux_err : `~astropy.units.Quantity`
        Total flux with r_e free.
    flux_held, flux_held_err : `~astropy.units.Quantity`
        With r_e held at its best value.
    r_e, r_e_err : `~astropy.units.Quantity`
        E-folding radius; the error is NaN where the best one is at an end of the bank, and ``flux_err`` is then
        ``flux_held_err``.
    limit_95 : `~astropy.units.Quantity`
        95 % upper limit of the flux, for a flat prior from 0 and all radii of the bank equally likely. Give one
        radius for the limit of a halo of that size.
    p_imaginary : float
        The p-value of the same test on the imaginary part of the visibilities, where no halo at the position can be,
        and little of other sources where baselines point in all directions: a check of noise and weights.
    p_stokes_v : float
        The p-value of the same test on Stokes V; NaN if there is none.
    p_offsets : float
        (1 + number of off-positions with a larger \\|S/N\\|) / (1 + their number); NaN if there are none.
    offset_snr : `~numpy.ndarray`
        The off-positions' S/N.
    radii, flux_by_radius, flux_err_by_radius : `~astropy.units.Quantity`
        Each radius of the bank by itself.
    n_visibilities : int
        How many had weight.
    """

    p_value: float
    snr: float
    ln_bayes: float
    flux: u.Quantity
    flux_err: u.Quantity
    flux_held: u.Quantity
    flux_held_err: u.Quantity
    r_e: u.Quantity
    r_e_err: u.Quantity
    limit_95: u.Quantity
    p_imaginary: float
    p_stokes_v: float
    p_offsets: float
    offset_snr: np.ndarray = dataclasses.field(repr=False)
    radii: u.Quantity = dataclasses.field(repr=False)
    flux_by_radius: u.Quantity = dataclasses.field(repr=False)
    flux_err_by_radius: u.Quantity = dataclasses.field(repr=False)
    n_visibilities: int


def detect_halo(visibilities, centre=None, *, radii=RADII, sources=None, confusion=None, flux_prior=0.1 * u.Jy,
                stokes_v=None, n_offsets=0, offset_radius=2 * u.deg, rng=None):
    """Test for an exponential halo at a position, with its flux free in sign and its radius free within a bank.

    Parameters
    ----------
    visibilities : Visibilities or iterable of Visibilities
        In Jy; they are seen once, and what is kept of them does not grow with their number.
    centre : `~astropy.coordinates.SkyCoord`, optional
        Where. Default: their phase centre.
    radii : `~astropy.units.Quantity`, optional
        E-folding radii of the bank, ascending; in steps of √2 for the radii between them to be right to 2e-4 of
        the flux. Default: 30 arcsec to 16 arcmin.
    sources : PointSources, optional
        The point sources of the field, marginalised with their priors. Sources without a sky position are placed from
        ``centre``.
    confusion : Confusion, optional
        The sources that are not among them.
    flux_prior : `~astropy.units.Quantity`, optional
        Standard deviation of a halo's flux for the Bayes factor, default 0.1 Jy.
    stokes_v : Visibilities or iterable of Visibilities, optional
        The same observation in Stokes V.
    n_offsets : int, optional
        Number of off-positions for the empirical p-value, default 0. Each costs as much as the target: bin the
        visibilities first.
    offset_radius : `~astropy.units.Quantity`, optional
        They lie between 4 times the largest radius and this from the centre, default 2 deg.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator of off-positions and p-values.

    Returns
    -------
    HaloDetection

    Notes
    -----
    The statistic is the generalised likelihood ratio, max_r z_r² with z_r = t_rᴴ Σ⁻¹ V / √(t_rᴴ Σ⁻¹ t_r), where t_r are
    the visibilities of a halo of radius r and Σ is the covariance of noise, confusion and uncertain sources. Without
    a halo the z_r are Gaussian with the correlation t_rᴴ Σ⁻¹ t_s / √(...), whatever the sky's true sources are within
    their priors, and the p-value follows from that by `~halopy.uvshapelets.null.maximum_p_value`, which is good to a
    few per cent of itself at any S/N.

    Raises
    ------
    HaloInputError
        Where there are no visibilities with weight, or none that tell a halo from the sources; where ``centre`` is not
        given and they have different phase centres.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.detect import detect_halo
    >>> from halopy.uvshapelets.templates import ExponentialHalo
    >>> from halopy.uvshapelets.visibilities import Visibilities
    >>> rng = np.random.default_rng(0)
    >>> east, north = rng.normal(0, 500, (2, 2000))
    >>> noise = rng.normal(0, 1, (2000, 2)) @ [1, 1j]
    >>> halo = 0.5 * ExponentialHalo(2 * u.arcmin).visibility(east, north)
    >>> found = detect_halo(Visibilities(east, north, 0 * east, halo + noise, 1, 154e6), rng=0)
    >>> print(round(found.snr, 1), found.p_value < 1e-6, found.p_imaginary > 0.01)
    6.3 True True
    """
    rng = np.random.default_rng(rng)
    radii = u.Quantity(radii, u.arcsec).reshape(-1)
    bank = Bank(radii.to_value(u.rad))
    halos = [ExponentialHalo(r) for r in radii]
    chunks = _rotated(visibilities, centre)
    first = next(chunks, None)
    if first is None:
        raise HaloInputError("there are no visibilities")
    sources = None if sources is None else sources.about(first.centre)
    nuisance = [part for part in (sources, confusion) if part is not None]
    target = NormalEquations(*halos, *map(Imaginary, halos), *nuisance)
    inner, outer = 4 * bank.radii[-1], u.Quantity(offset_radius).to_value(u.rad)
    if n_offsets and not inner < outer < 1:
        raise HaloInputError("offset_radius must be more than 4 times the largest radius, and less than 1 rad",
                             keyword="offset_radius", found=str(offset_radius))
    places = off_positions(n_offsets, inner, outer, rng)
    offsets = [NormalEquations(*(ExponentialHalo(r, centre=tuple(place)) for r in radii), *_moved(nuisance, place))
               for place in places]
    for chunk in itertools.chain([first], chunks):
        for equations in (target, *offsets):
            equations.update(chunk)
    if not target.n_visibilities:
        raise HaloInputError("no visibility has weight", keyword="weight")

    n = len(radii)
    normal, vector = target.reduced()
    kept = np.diag(normal)[:n] / np.diag(target.normal)[:n]
    if not (kept > 1e-9).all():
        raise HaloInputError("these visibilities cannot tell a halo from the sources", keyword="sources",
                             hint="finite flux_err, fewer sources, or larger radii")
    real, imaginary = (normal[k:k + n, k:k + n] for k in (0, n))
    measured = bank.measure(real, vector[:n])
    p_stokes_v = np.nan
    if stokes_v is not None:
        equations = NormalEquations(*halos).update(_rotated(stokes_v, centre))
        p_stokes_v = _p_value(bank, equations.normal, equations.vector, rng)
    offset_snr = np.array([_largest(bank.snr(*equations.reduced())) for equations in offsets])
    above = int((np.abs(offset_snr) >= abs(measured.snr)).sum())
    flux_err = np.diag(real) ** -0.5
    return HaloDetection(
        p_value=_p_value(bank, real, vector[:n], rng), snr=float(measured.snr),
        ln_bayes=float(bank.ln_bayes(real, vector[:n], u.Quantity(flux_prior).to_value(u.Jy))),
        **{name: float(getattr(measured, name)) * u.Jy for name in ("flux", "flux_err", "flux_held", "flux_held_err")},
        **{name: (float(getattr(measured, name)) * u.rad).to(u.arcsec) for name in ("r_e", "r_e_err")},
        limit_95=bank.limit(real, vector[:n]) * u.Jy, p_imaginary=_p_value(bank, imaginary, vector[n:], rng),
        p_stokes_v=p_stokes_v, p_offsets=(1 + above) / (1 + n_offsets) if n_offsets else np.nan, offset_snr=offset_snr,
        radii=radii, flux_by_radius=vector[:n] * flux_err**2 * u.Jy, flux_err_by_radius=flux_err * u.Jy,
        n_visibilities=target.n_visibilities)


def _rotated(visibilities, centre):
    if centre is None:
        return pieces(visibilities)
    parts = [visibilities] if hasattr(visibilities, "vis") else visibilities
    return pieces(part.phased_to(centre) for part in parts)


def _moved(nuisance, place):
    """Return the nuisance as it is at another position: the confusion's cells follow it, the catalogue stays."""
    return [dataclasses.replace(part, centre=tuple(place)) if isinstance(part, Confusion) else part
            for part in nuisance]


def _largest(snr):
    return float(snr[np.abs(snr).argmax()])


def _p_value(bank, normal, vector, rng):
    return maximum_p_value(np.abs(bank.snr(normal, vector)).max(), bank.correlation(normal), rng=rng)
