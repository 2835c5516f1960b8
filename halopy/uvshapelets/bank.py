"""Halos of many sizes at once: what their normal equations say about flux, size and evidence."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr

from halopy.errors import HaloInputError

__all__ = ["Bank", "Measured"]

N_GRID = 401
CERTAIN = 0.5
"""The error of ln r_e up to which errors are small enough to be propagated."""


@dataclass(frozen=True)
class Measured:
    """What a bank measures, for each draw: arrays in the shape of the draws.

    Attributes
    ----------
    snr : `~numpy.ndarray`
        The signed S/N of largest modulus among the bank's radii.
    r_e, r_e_err : `~numpy.ndarray`
        Radians, between the bank's radii; the error is NaN at the bank's ends.
    flux, flux_err : `~numpy.ndarray`
        Jy, with r_e free; at the bank's ends, and where r_e is not known to 50 %, with r_e held.
    flux_held, flux_held_err : `~numpy.ndarray`
        Jy, with r_e held at its best value.
    """

    snr: np.ndarray
    r_e: np.ndarray
    r_e_err: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    flux_held: np.ndarray
    flux_held_err: np.ndarray


class Bank:
    """Exponential halos with a set of e-folding radii, and every radius between them.

    The visibilities of an exponential halo of radius r, and their derivatives by ln r, are combinations Σ a_k(r) t_k of
    those of the bank: to 2e-4 of the flux for radii in steps of √2, to 1e-2 for steps of 2. So the normal equations
    of the bank are those of any r.

    Parameters
    ----------
    radii : array_like
        ``(n,)`` e-folding radii in radians, ascending.
    """

    def __init__(self, radii):
        self.radii = np.atleast_1d(np.asarray(radii, dtype=float))
        if self.radii.ndim != 1 or not ((self.radii > 0).all() and (np.diff(self.radii) > 0).all()):
            raise HaloInputError("radii must be positive and ascending", keyword="radii")
        self.grid = np.geomspace(self.radii[0], self.radii[-1], N_GRID) if len(self.radii) > 1 else self.radii
        self._q, self._inverse = _interpolator(tuple(self.radii.tolist()))

    def combination(self, r_e):
        """Return a(r), and its first two derivatives by ln r, ``(3, n, *r.shape)``."""
        s2 = (2 * np.pi * np.multiply.outer(self._q, r_e)) ** 2
        base = 1 + s2
        derivatives = (base**-1.5, -3 * s2 * base**-2.5, (9 * s2 - 6) * s2 * base**-3.5)
        return np.array([np.tensordot(self._inverse, values, 1) for values in derivatives])

    def snr(self, normal, vector):
        """Return the S/N at each radius, ``(n,)`` or ``(n, n_draws)``."""
        return (np.transpose(vector) / np.sqrt(np.diag(normal))).T

    def correlation(self, normal):
        """Return the correlation of the S/N where there is no halo, ``(n, n)``."""
        scale = 1 / np.sqrt(np.diag(normal))
        return scale[:, None] * normal * scale

    def held(self, normal, vector, r_e):
        """Return flux and error in Jy for a radius that is known."""
        a = self.combination(r_e)[0]
        information = np.einsum("i...,ij,j...->...", a, normal, a)
        return np.einsum("i...,i...->...", a, vector) / information, information**-0.5

    def measure(self, normal, vector):
        """Measure flux and radius.

        Parameters
        ----------
        normal : `~numpy.ndarray`
            ``(n, n)``, the nuisance marginalised.
        vector : `~numpy.ndarray`
            ``(n,)`` or ``(n, n_draws)``.

        Returns
        -------
        Measured

        Notes
        -----
        Flux and ln r_e are those of the largest likelihood, between the ends of the bank, less their bias to second
        order in the errors, −½ C Jᵀ W tr(C H) (Box 1971, J. R. Stat. Soc. B 33, 171,
        doi 10.1111/j.2517-6161.1971.tb00871.x), where C is their covariance, J and H the first and second derivatives.
        """
        draws = vector.reshape(len(self.radii), -1)
        snr = self.snr(normal, draws)
        column = np.arange(draws.shape[1])
        best = snr[np.abs(snr).argmax(axis=0), column]
        shapes = self.combination(self.grid)[0]
        information = np.einsum("ig,ij,jg->g", shapes, normal, shapes)
        likelihood = (shapes.T @ draws) ** 2 / information[:, None]
        peak = likelihood.argmax(axis=0)
        inside = (peak > 0) & (peak < len(self.grid) - 1)
        log_r = np.log(self.grid[peak])
        if inside.any():
            lower, middle, upper = (likelihood[peak[inside] + step, column[inside]] for step in (-1, 0, 1))
            step = np.log(self.grid[1] / self.grid[0])
            log_r[inside] += 0.5 * step * (lower - upper) / (lower - 2 * middle + upper)
        a, first, second = self.combination(np.exp(log_r))
        held, held_err = self.held(normal, draws, np.exp(log_r))
        slopes = np.array([a, held * first])
        fisher = np.einsum("pid,ij,qjd->dpq", slopes, normal, slopes)
        determinant = np.linalg.det(fisher)
        usable = inside & (determinant > 0)
        fisher[~usable] = np.eye(2)
        covariance = np.linalg.inv(fisher)
        usable &= covariance[:, 1, 1] < CERTAIN**2
        curved = 2 * covariance[:, 0, 1] * first + covariance[:, 1, 1] * held * second
        bias = -0.5 * np.einsum("dpq,qid,ij,jd->pd", covariance, slopes, normal, curved)
        # The mean of r_e is above exp of that of ln r_e by half the variance.
        log_r[usable] -= (bias[1] + 0.5 * covariance[:, 1, 1])[usable]
        r_e = np.exp(log_r).clip(self.radii[0], self.radii[-1])
        results = (best, r_e, np.where(usable, r_e * np.sqrt(covariance[:, 1, 1]), np.nan),
                   np.where(usable, held - bias[0], held), np.where(usable, np.sqrt(covariance[:, 0, 0]), held_err),
                   held, held_err)
        return Measured(*(values.reshape(vector.shape[1:]) for values in results))

    def ln_bayes(self, normal, vector, flux_prior):
        """Return the logarithm of the Bayes factor between a halo and none.

        The prior of the flux is a Gaussian of mean 0 and standard deviation ``flux_prior`` (Jy), that of the radius
        gives every radius of the bank the same probability.
        """
        information = np.diag(normal)
        shrunk = 1 + flux_prior**2 * information
        each = 0.5 * (vector.T**2 * flux_prior**2 / shrunk - np.log(shrunk))
        return np.logaddexp.reduce(each, axis=-1) - np.log(len(self.radii))

    def limit(self, normal, vector, level=0.95):
        """Return the flux in Jy below which the true one lies with a probability.

        The prior is flat for fluxes from 0, and gives every radius of the bank the same probability.
        """
        error = np.diag(normal) ** -0.5
        snr = vector * error

        def log_above(flux):
            return np.logaddexp.reduce(np.log(error) + 0.5 * snr**2 + log_ndtr(snr - flux / error))

        target = log_above(0.0) + np.log(1 - level)
        return brentq(lambda flux: log_above(flux) - target, 0.0, float(((np.maximum(snr, 0) + 9) * error).max()),
                      xtol=1e-9 * float(error.min()))


@functools.lru_cache(maxsize=32)
def _interpolator(radii):
    """Return distances q in the u-v plane, and the matrix that turns values there into combinations of the bank's."""
    # Evenly in ln q, from where all visibilities are 1 to where they all are gone.
    q = np.geomspace(1e-3 / radii[-1], 1e2 / radii[0], 600) / (2 * np.pi)
    columns = (1 + (2 * np.pi * np.multiply.outer(q, radii)) ** 2) ** -1.5
    return q, np.linalg.pinv(columns, rcond=1e-12)
