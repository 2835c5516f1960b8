"""Shapelet models of other programs, exactly: WODEN, hyperdrive and the RTS, SAGECal, GalSim and lenstronomy.

Each ``to_`` returns the other program's numbers by name, which the ``from_`` beside it takes. All of them are
for the conventions of `ShapeletBasis`: coefficients in Jy/rad, exp(−2πi(ul + vm)), l to the east, m to the north.
"""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError
from halopy.image import FWHM_TO_SIGMA
from halopy.uvshapelets.basis import ShapeletBasis
from halopy.uvshapelets.polar import turn

__all__ = ["from_galsim", "from_lenstronomy", "from_sagecal", "from_woden", "to_galsim", "to_lenstronomy",
           "to_sagecal", "to_woden"]


def to_woden(basis, coefficients, *, flux=1.0):
    """Return a component as WODEN, hyperdrive and the RTS write it (as SHAMFI fits it).

    Parameters
    ----------
    basis : ShapeletBasis
        Of any kind.
    coefficients : array_like
        ``(basis.size,)`` in Jy/rad.
    flux : float, optional
        The component's flux density in Jy in the source list, which multiplies its coefficients. Default 1.

    Returns
    -------
    dict
        ``major``, ``minor`` (Quantities, FWHM of the Gaussian of order 0; arcmin in WODEN and the RTS, arcsec in
        hyperdrive), ``pa`` (Quantity), ``n1``, ``n2``, ``coefficients`` (``(K,)`` each) and ``flux``.

    Notes
    -----
    V_there = flux · Σ c i^(n1+n2) h_n1(x) h_n2(y), h_n = H_n exp(−x²/2) / √(2^n n!), with the sky in exp(+2πi(ul +
    vm)) and the second axis mirrored. Hence V = V_there*, and
    coefficient = flux · c · (−1)^n2 / (2 √(πβ1β2)).

    References
    ----------
    Line+ 2020, PASA 37, e027, arXiv 2005.09316.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.basis import ShapeletBasis
    >>> from halopy.uvshapelets.convert import from_woden, to_woden
    >>> basis = ShapeletBasis(1, 3 * u.arcmin)
    >>> component = to_woden(basis, [400.0, 0.0, -30.0])
    >>> print(component["major"].round(3), component["coefficients"].round(4))
    7.064 arcmin [1.2374 0.     0.0928]
    >>> from_woden(**component)
    (ShapeletBasis(n_max=1, beta=180", kind='cartesian': 3 functions), array([400.,   0., -30.]))
    """
    n1, n2 = basis.cartesian.orders.T
    major, minor = ((scale / FWHM_TO_SIGMA * u.rad).to(u.arcmin) for scale in basis.scales)
    factor = 2 * np.sqrt(np.pi * basis.scales[0] * basis.scales[1]) / _flux(flux)
    return {"major": major, "minor": minor, "pa": basis.pa, "n1": n1, "n2": n2, "flux": flux,
            "coefficients": basis.to_cartesian(coefficients) * factor * np.where(n2 % 2, -1.0, 1.0)}


def from_woden(major, minor, pa, n1, n2, coefficients, *, flux=1.0):
    """Return the basis and the coefficients of a component of WODEN, hyperdrive or the RTS.

    Parameters
    ----------
    major, minor, pa : `~astropy.units.Quantity`
        Full widths at half maximum along the position angle and across it.
    n1, n2, coefficients : array_like
        ``(k,)``: orders and values, in any sequence; those of one order add up.
    flux : float, optional
        The component's flux density in Jy. Default 1.

    Returns
    -------
    basis : ShapeletBasis
        Cartesian, up to the largest n1 + n2.
    coefficients : `~numpy.ndarray`
        ``(basis.size,)`` in Jy/rad.
    """
    n1, n2, values = _listed(n1, n2, coefficients)
    basis = ShapeletBasis(int((n1 + n2).max()), major * FWHM_TO_SIGMA, beta_minor=minor * FWHM_TO_SIGMA, pa=pa)
    factor = _flux(flux) / (2 * np.sqrt(np.pi * basis.scales[0] * basis.scales[1]))
    return basis, _gathered(basis, n1, n2, factor * values * np.where(n2 % 2, -1.0, 1.0))


def to_sagecal(basis, coefficients, *, flux=1.0):
    """Return a source as SAGECal and shapeletGUI write it.

    Parameters
    ----------
    basis, coefficients
        As for `to_woden`.
    flux : float, optional
        The source's flux density in Jy in the sky model, which multiplies its modes. Default 1.

    Returns
    -------
    dict
        ``n0``, ``beta`` and ``modes`` (``(n0²,)``, n1 fastest) of the file .fits.modes; ``ex``, ``ey``, ``ep`` (eX, eY,
        eP) and ``flux`` of the sky model.

    Notes
    -----
    As its source code has it: modes of f(−l, m) with functions √(√π / 2) φ_n, multiplied by 2π / (eX eY), and the sky
    in exp(+2πi(ul + vm)); the file's beta is 2π times the scale in radians; n2 counts along the position angle eP, with
    the scale beta / eY, and n1 along eP + 90 deg, with beta / eX.

    References
    ----------
    Yatawatta 2011, arXiv 1101.2830 (the modes).
    """
    n = basis.n_max
    first, second = basis.scales
    ex = first / second
    along, across = basis.cartesian.orders.T
    modes = np.zeros((n + 1, n + 1))
    modes[along, across] = (basis.to_cartesian(coefficients) * np.where(across % 2, -1.0, 1.0)
                            * 2 * ex * np.sqrt(first * second / np.pi) / _flux(flux))
    return {"n0": n + 1, "beta": 2 * np.pi * first, "modes": modes.ravel(), "ex": ex, "ey": 1.0,
            "ep": u.Quantity(basis.pa).to_value(u.rad), "flux": flux}


def from_sagecal(n0, beta, modes, *, ex=1.0, ey=1.0, ep=0.0, flux=1.0):
    """Return the basis and the coefficients of a source of SAGECal; the parameters are what `to_sagecal` returns.

    Returns
    -------
    basis : ShapeletBasis
        Cartesian, up to the largest n1 + n2 whose mode is not 0.
    coefficients : `~numpy.ndarray`
        ``(basis.size,)`` in Jy/rad.

    Examples
    --------
    >>> from halopy.uvshapelets.convert import from_sagecal
    >>> from_sagecal(1, 0.01, [2.0])
    (ShapeletBasis(n_max=0, beta=328.281", kind='cartesian': 1 functions), array([1113.66559937]))
    """
    modes = np.asarray(modes, dtype=float)
    if modes.shape != (n0 * n0,):
        raise HaloInputError("SAGECal has n0 * n0 modes", found=f"n0 {n0}, shape {modes.shape}")
    along, across = np.divmod(np.arange(n0 * n0), n0)
    kept = (modes != 0) | (along + across == 0)
    along, across, values = _listed(along[kept], across[kept], modes[kept])
    scale = beta / (2 * np.pi) * u.rad
    basis = ShapeletBasis(int((along + across).max()), scale / ey, beta_minor=scale / ex, pa=ep * u.rad)
    factor = _flux(flux) * np.sqrt(np.pi / (basis.scales[0] * basis.scales[1])) / (2 * ex * ey)
    return basis, _gathered(basis, along, across, values * factor * np.where(across % 2, -1.0, 1.0))


def to_galsim(basis, coefficients):
    """Return the arguments of ``galsim.Shapelet``, x to the east and y to the north.

    Parameters
    ----------
    basis, coefficients
        As for `to_woden`; the basis must be circular.

    Returns
    -------
    dict
        ``sigma`` (arcsec), ``order`` and ``bvec`` (Jy).

    Notes
    -----
    GalSim's functions are exp(imφ) with φ from x towards y, and b_pq = 2√π β · (coefficient of the complex polar
    shapelet): b_00 is the flux of the Gaussian. Its documentation has 1/√π in place of the 1/(2√π) of its code.

    References
    ----------
    Bernstein & Jarvis 2002, AJ 123, 583, doi:10.1086/338085.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.basis import ShapeletBasis
    >>> from halopy.uvshapelets.convert import to_galsim
    >>> print(to_galsim(ShapeletBasis(0, 10 * u.arcsec), [5819.0])["bvec"].round(4))
    [1.0001]
    """
    polar, values = _northern(basis, coefficients)
    bvec = []
    for n in range(basis.n_max + 1):
        row = values[n * (n + 1) // 2:(n + 1) * (n + 2) // 2]
        for m in range(n, 0, -2):
            # φ counts from the east, the position angle from the north: exp(imφ) = i^m exp(−imθ).
            b = (row[(n + m) // 2] + 1j * row[(n - m) // 2]) / np.sqrt(2) * (-1j) ** m
            bvec += [b.real, b.imag]
        bvec += [row[n // 2]] if n % 2 == 0 else []
    scale = polar.scales[0]
    return {"sigma": np.degrees(scale) * 3600, "order": basis.n_max,
            "bvec": 2 * np.sqrt(np.pi) * scale * np.array(bvec)}


def from_galsim(sigma, order, bvec):
    """Return the basis and the coefficients of a ``galsim.Shapelet``; the parameters are what `to_galsim` returns.

    Returns
    -------
    basis : ShapeletBasis
        Polar, at position angle 0.
    coefficients : `~numpy.ndarray`
        ``(basis.size,)`` in Jy/rad.
    """
    basis = ShapeletBasis(order, sigma * u.arcsec, kind="polar")
    bvec = np.asarray(bvec, dtype=float)
    if bvec.shape != (basis.size,):
        raise HaloInputError(f"an order of {order} has {basis.size} numbers in bvec", found=f"shape {bvec.shape}")
    values = np.empty(basis.size)
    numbers = iter(bvec)
    for n in range(order + 1):
        row = values[n * (n + 1) // 2:(n + 1) * (n + 2) // 2]
        for m in range(n, 0, -2):
            complex_value = (next(numbers) + 1j * next(numbers)) * np.sqrt(2) * 1j**m
            row[(n + m) // 2], row[(n - m) // 2] = complex_value.real, complex_value.imag
        if n % 2 == 0:
            row[n // 2] = next(numbers)
    return basis, values / (2 * np.sqrt(np.pi) * basis.scales[0])


def to_lenstronomy(basis, coefficients):
    """Return the arguments of lenstronomy's ``ShapeletSet.function`` after x (to the east) and y (to the north).

    Parameters
    ----------
    basis, coefficients
        As for `to_woden`; the basis must be circular.

    Returns
    -------
    dict
        ``amp`` (``(K,)`` Jy/sr, n1 of x), ``n_max`` and ``beta`` (arcsec).

    Notes
    -----
    Its functions are φ_n1(x/β) φ_n2(y/β) without 1/β: coefficient = β · amp.

    References
    ----------
    Birrer, Amara & Refregier 2015, ApJ 813, 102, arXiv 1504.07629.

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy.uvshapelets.basis import ShapeletBasis
    >>> from halopy.uvshapelets.convert import from_lenstronomy, to_lenstronomy
    >>> basis = ShapeletBasis(1, 1 * u.rad)
    >>> there = to_lenstronomy(basis, [1.0, 2.0, 3.0])
    >>> print(there["amp"])
    [1. 3. 2.]
    >>> from_lenstronomy(**there)[1]
    array([1., 2., 3.])
    """
    polar, values = _northern(basis, coefficients)
    amp = polar.cartesian.from_square(polar.square(values).T) / polar.scales[0]
    return {"amp": amp, "n_max": basis.n_max, "beta": np.degrees(polar.scales[0]) * 3600}


def from_lenstronomy(amp, n_max, beta):
    """Return the basis and the coefficients of lenstronomy's; the parameters are what `to_lenstronomy` returns.

    Returns
    -------
    basis : ShapeletBasis
        Cartesian, at position angle 0.
    coefficients : `~numpy.ndarray`
        ``(basis.size,)`` in Jy/rad.
    """
    basis = ShapeletBasis(n_max, beta * u.arcsec)
    return basis, basis.from_square(basis.square(amp).T) * basis.scales[0]


def _northern(basis, coefficients):
    """Return a circular polar basis of position angle 0 and the coefficients in it."""
    if not np.isclose(*basis.scales, rtol=1e-12):
        raise HaloInputError("GalSim and lenstronomy have circular shapelets only", found=repr(basis),
                             hint="to_woden")
    polar = ShapeletBasis(basis.n_max, basis.beta, kind="polar")
    values = polar.from_cartesian(basis.to_cartesian(coefficients))
    return polar, turn(values, basis.n_max, -u.Quantity(basis.pa).to_value(u.rad))


def _flux(flux):
    if not (np.isfinite(flux) and flux != 0):
        raise HaloInputError("flux must be finite and not 0", found=flux)
    return flux


def _listed(n1, n2, values):
    n1, n2 = (np.asarray(n, dtype=int) for n in (n1, n2))
    values = np.asarray(values, dtype=float)
    if not (n1.ndim == 1 and n1.size and n1.shape == n2.shape == values.shape and min(n1.min(), n2.min()) >= 0):
        raise HaloInputError("n1, n2 and the coefficients must be lists of one length, the orders not negative",
                             found=f"shapes {n1.shape}, {n2.shape}, {values.shape}")
    return n1, n2, values


def _gathered(basis, n1, n2, values):
    square = np.zeros((basis.n_max + 1, basis.n_max + 1))
    np.add.at(square, (n1, n2), values)
    return basis.from_square(square)
