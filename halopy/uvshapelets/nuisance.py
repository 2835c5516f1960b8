"""What is in the sky beside the halo: point sources of a catalogue, and those too faint for one.

Their fluxes are not fitted and subtracted but marginalised: the halo's error knows what they might be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy.linalg import cho_factor, cho_solve, cholesky

from halopy.errors import HaloInputError
from halopy.simulate.counts import ALPHA, FREQUENCY, faintest_at_154, source_counts
from halopy.uvshapelets.templates import phase

__all__ = ["Confusion", "PointSources", "confused", "direction_cosines", "marginalised"]

N_DIRECTIONS = 24


@dataclass(frozen=True, eq=False)
class PointSources:
    """Point sources of known positions, with what is known of their fluxes.

    Parameters
    ----------
    position : `~astropy.coordinates.SkyCoord` or array_like
        ``(n,)`` positions, or ``(n, 2)`` direction cosines (l to the east, m to the north) from the phase centre, in
        radians.
    flux : `~astropy.units.Quantity`
        ``(n,)`` expected fluxes, apparent (times the primary beam) where the visibilities are. Default 0 Jy.
    flux_err : `~astropy.units.Quantity`
        ``(n,)`` standard deviations of the Gaussian priors; infinite: free (default), 0: known.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.nuisance import PointSources
    >>> sources = PointSources(np.deg2rad([[0.0, 0.0], [0.5, 0.0]]), [0.3, 0.1] * u.Jy, [30, 10] * u.mJy)
    >>> print(sources.predict([0, 57.3], [0, 0]).real.round(3))
    [0.4 0.2]
    """

    position: SkyCoord | np.ndarray
    flux: u.Quantity = 0 * u.Jy
    flux_err: u.Quantity = np.inf * u.Jy

    def __post_init__(self):
        if not isinstance(self.position, SkyCoord):
            lm = np.asarray(self.position, dtype=float)
            if lm.ndim != 2 or lm.shape[1] != 2 or not (np.sum(lm**2, axis=1) < 1).all():
                raise HaloInputError("position must be a SkyCoord or direction cosines (n, 2) inside the unit circle",
                                     keyword="position", found=f"shape {lm.shape}")
            object.__setattr__(self, "position", lm)
        elif self.position.isscalar:
            object.__setattr__(self, "position", self.position.reshape(1))
        for name in ("flux", "flux_err"):
            value = u.Quantity(getattr(self, name), u.Jy)
            if value.shape not in ((), (len(self),)):
                raise HaloInputError(f"{name} must be one number or {len(self)}, one a source", keyword=name,
                                     found=f"shape {value.shape}")
            object.__setattr__(self, name, np.broadcast_to(value, (len(self),), subok=True))
        if not np.isfinite(self.flux).all():
            raise HaloInputError("flux must be finite", keyword="flux", hint="flux_err=np.inf * u.Jy where not known")
        if not (self.flux_err >= 0).all():
            raise HaloInputError("flux_err must not be negative", keyword="flux_err", found=str(self.flux_err.min()))

    def __len__(self):
        return len(self.position)

    def __repr__(self):
        return f"<PointSources: {len(self)}, {np.sum(self.flux):.4g}>"

    def about(self, centre):
        """Return them with direction cosines from a phase centre; as they are where they have them already."""
        if not isinstance(self.position, SkyCoord):
            return self
        if centre is None:
            raise HaloInputError("sources with sky positions need visibilities whose phase centre is known",
                                 keyword="centre", hint="Visibilities(..., centre=SkyCoord(...))")
        return PointSources(direction_cosines(self.position, centre), self.flux, self.flux_err)

    def visibility(self, u, v, w=None):
        """Return the visibilities ``(n, n_sources)`` of each source with 1 Jy."""
        u, v = np.asarray(u, dtype=float)[:, None], np.asarray(v, dtype=float)[:, None]
        return phase(u, v, None if w is None else np.asarray(w, dtype=float)[:, None], *self.position.T)

    def predict(self, u, v, w=None):
        """Return the visibilities ``(n,)`` of all of them with the expected fluxes, Jy."""
        return self.visibility(u, v, w) @ self.flux.to_value("Jy")


def direction_cosines(position, centre):
    """Return (l, m) of positions from a phase centre, ``(n, 2)``; not for the other half of the sky."""
    ra, dec = position.icrs.ra.rad, position.icrs.dec.rad
    ra0, dec0 = centre.icrs.ra.rad, centre.icrs.dec.rad
    east = np.cos(dec) * np.sin(ra - ra0)
    north = np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra - ra0)
    if not (np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra - ra0) > 0).all():
        raise HaloInputError("a source lies 90 deg or more from the phase centre", keyword="position")
    return np.stack([east, north], axis=-1)


@dataclass(frozen=True)
class Confusion:
    """The noise of sources too faint for a catalogue, from source counts.

    Unresolved sources at random positions add Cov(V_i, V_j) = σ_s² ∫ A² exp(−2πi (u_i − u_j) · l) dl to the noise of
    the visibilities, σ_s² = ∫ S² dN/dS dS, A the primary beam. The sums that are kept of visibilities have its
    projection, σ_s² ∫ A² d dᵀ dl with d(l) what a source of 1 Jy at l adds to them, and that integral is taken
    over cells of the sky around the halo, finer towards the middle (`confused`). The mean of the sources is
    that of the sky, which an interferometer does not see.

    Parameters
    ----------
    brightest : `~astropy.units.Quantity`
        Flux density, at ``frequency``, up to which sources are not in the catalogue.
    faintest : `~astropy.units.Quantity`, optional
        Where the counts are cut off, default 0.1 mJy at 154 MHz; the sum is over bright sources, it does not matter.
    frequency : `~astropy.units.Quantity`, optional
        Default 154 MHz.
    resolution : `~astropy.units.Quantity`, optional
        The smallest e-folding radius of interest, default 30 arcsec: the innermost cell is a disc of a quarter of it.
    radius : `~astropy.units.Quantity`, optional
        How far the cells reach, default 1 deg.
    beam : `~astropy.units.Quantity`, optional
        Full width at half maximum of the primary beam, a Gaussian around the phase centre. Default: none.
    centre : tuple of float, optional
        Direction cosines (l, m) of the halo from the phase centre, in radians, default (0, 0).

    References
    ----------
    Franzen et al. 2019, PASA 36, e004, arXiv 1812.00666 (the counts).

    Examples
    --------
    A matched filter for a halo has the effective area 8π r_e², and sees this much of it:

    >>> import numpy as np
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.nuisance import Confusion
    >>> rms = Confusion(20 * u.mJy).rms * np.sqrt(8 * np.pi * (120 * u.arcsec) ** 2)
    >>> print(rms.to(u.mJy).round(1))
    14.1 mJy
    """

    brightest: u.Quantity
    faintest: u.Quantity | None = None
    frequency: u.Quantity = FREQUENCY
    resolution: u.Quantity = 30 * u.arcsec
    radius: u.Quantity = 1 * u.deg
    beam: u.Quantity | None = None
    centre: tuple = (0.0, 0.0)

    def __post_init__(self):
        if not 0 < self.resolution < self.radius <= 90 * u.deg:
            raise HaloInputError("resolution must be smaller than radius, and both positive", keyword="resolution",
                                 found=f"{self.resolution} and {self.radius}")

    @property
    def rms(self):
        """σ_s, in Jy / sr^½ at the frequency."""
        scale = float((self.frequency / FREQUENCY).to_value(u.one)) ** ALPHA
        faintest = 0.1 * u.mJy * scale if self.faintest is None else self.faintest
        low, high = (faintest_at_154(limit, self.frequency) for limit in (faintest, self.brightest))
        log_flux = np.linspace(np.log(low), np.log(high), 2001)
        flux = np.exp(log_flux)
        second = np.trapezoid(source_counts(flux * u.Jy).value * flux**3, log_flux)
        return scale * np.sqrt(max(second, 0.0)) * u.Jy / u.sr**0.5

    def cells(self):
        """Return the cells as `PointSources`, of flux 0 and error A σ_s √area."""
        inner, outer = self.resolution.to_value(u.rad) / 4, self.radius.to_value(u.rad)
        edges = np.geomspace(inner, outer, 1 + int(np.ceil(np.log(outer / inner) * N_DIRECTIONS / (2 * np.pi))))
        # The middles by area; every other ring turned by half a cell.
        middle = np.sqrt((edges[1:] ** 2 + edges[:-1] ** 2) / 2)
        angle = 2 * np.pi * (np.arange(N_DIRECTIONS) + 0.5 * (np.arange(middle.size) % 2)[:, None]) / N_DIRECTIONS
        lm = np.concatenate([[[0.0, 0.0]], np.stack([middle[:, None] * np.cos(angle), middle[:, None] * np.sin(angle)],
                                                    axis=-1).reshape(-1, 2)])
        area = np.concatenate([[np.pi * inner**2], np.repeat(np.pi * np.diff(edges**2) / N_DIRECTIONS, N_DIRECTIONS)])
        lm += self.centre
        gain = np.ones(len(lm))
        if self.beam is not None:
            gain = np.exp(-4 * np.log(2) * np.sum(lm**2, axis=1) / self.beam.to_value(u.rad) ** 2)
        return PointSources(lm, 0 * u.Jy, self.rms.value * gain * np.sqrt(area) * u.Jy)


def marginalised(normal, vector, flux, flux_err):
    """Marginalise the last columns of normal equations, with Gaussian priors (the Schur complement).

    With columns T that stay and P that go, and priors of mean μ and variance S: A − C D⁻¹ Cᵀ and
    h_T − C μ − C D⁻¹ (h_P − P'μ), where C = Re(Tᴴ W P) and D = Re(Pᴴ W P) + S⁻¹. It is what the noise
    covariance W⁻¹ + P S Pᵀ leads to (the identity of Woodbury), and free fluxes are its limit.

    Parameters
    ----------
    normal : `~numpy.ndarray`
        ``(n, n)``.
    vector : `~numpy.ndarray`
        ``(n,)`` or ``(n, n_draws)``.
    flux, flux_err : array_like
        ``(n_gone,)`` means and standard deviations of the priors of the last columns; an error of 0 fixes a flux, an
        infinite one leaves it free.

    Returns
    -------
    normal, vector : `~numpy.ndarray`
        Of the first columns alone.

    Raises
    ------
    HaloInputError
        Where free fluxes cannot be told apart.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.uvshapelets.nuisance import marginalised
    >>> marginalised(np.array([[4.0, 2.0], [2.0, 4.0]]), np.array([3.0, 4.0]), [0.0], [np.inf])
    (array([[3.]]), array([1.]))
    """
    flux, flux_err = np.asarray(flux, dtype=float), np.asarray(flux_err, dtype=float)
    if flux.size == 0:
        return normal, vector
    keep = len(normal) - flux.size
    if flux.any():
        vector = (vector.T - normal[:, keep:] @ flux).T
    # A source of infinite error and one that is known have no other place in common.
    vary = keep + np.flatnonzero(flux_err > 0)
    cross = normal[:keep, vary]
    inner = normal[np.ix_(vary, vary)] + np.diag(1 / np.square(flux_err[flux_err > 0]))
    scale = np.sqrt(np.diag(inner))
    try:
        if not scale.all():
            raise np.linalg.LinAlgError
        factor = cholesky(inner / np.outer(scale, scale), lower=True)
        if (np.diag(factor) < 1e-6).any():
            raise np.linalg.LinAlgError
    except np.linalg.LinAlgError as error:
        raise HaloInputError("fluxes of sources that are free cannot be told apart by these visibilities",
                             keyword="flux_err", hint="a finite flux_err, or one of two that coincide") from error
    gain = (cho_solve((factor, True), cross.T / scale[:, None]) / scale[:, None]).T
    return normal[:keep, :keep] - gain @ cross.T, vector[:keep] - gain @ vector[vary]


def confused(normal, vector, cross, flux_err):
    """Give normal equations the noise of confusion.

    The sums h have the covariance N of thermal noise, and N + Q with the confusion, Q = C S Cᵀ. The best use
    that can be made of them is that of the normal equations N (N + Q)⁻¹ N and N (N + Q)⁻¹ h.

    Parameters
    ----------
    normal : `~numpy.ndarray`
        ``(n, n)``, which may be singular.
    vector : `~numpy.ndarray`
        ``(n,)`` or ``(n, n_draws)``.
    cross : `~numpy.ndarray`
        ``(n, n_cells)``: C, what 1 Jy in each cell adds to the sums.
    flux_err : array_like
        ``(n_cells,)`` standard deviations of the cells' fluxes, in Jy.

    Returns
    -------
    normal, vector : `~numpy.ndarray`

    Examples
    --------
    A source as bright as the noise, in the place of the model:

    >>> import numpy as np
    >>> from halopy.uvshapelets.nuisance import confused
    >>> confused(np.array([[1.0]]), np.array([3.0]), np.array([[1.0]]), [1.0])
    (array([[0.5]]), array([1.5]))
    """
    diagonal = np.diag(normal)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    values, vectors = np.linalg.eigh(normal / np.outer(scale, scale))
    # What the model's columns have in common to rounding is no information.
    seen = values > 1e-12 * values[-1]
    root = scale[:, None] * vectors[:, seen] * np.sqrt(values[seen])
    inverse = vectors[:, seen] / np.sqrt(values[seen]) / scale[:, None]
    noise = inverse.T @ (cross * flux_err)
    inner = cho_factor(np.eye(len(noise)) + noise @ noise.T)
    return root @ cho_solve(inner, root.T), root @ cho_solve(inner, inverse.T @ vector)
