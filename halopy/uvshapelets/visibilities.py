"""Visibilities as a value: coordinates in wavelengths, Stokes I, weights; rotated, selected, binned, joined."""

from __future__ import annotations

import dataclasses

import numpy as np
from astropy import units as u
from astropy.constants import c
from astropy.coordinates import SkyCoord

from halopy.errors import HaloInputError, MissingExtraError

__all__ = ["Visibilities"]

LIGHT = c.to_value(u.m / u.s)
COORDINATES = ("u", "v", "w")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Visibilities:
    """Visibilities of Stokes I, one a baseline, time and channel.

    V(u, v, w) = ∫ I(l, m) exp(−2πi (ul + vm + w(n − 1))) dl dm, with l to the east and m to the north of the phase
    centre, n = √(1 − l² − m²), and I the mean of the two parallel-hand correlations: an unpolarised source of 1 Jy at
    the phase centre has V = 1 Jy (Thompson, Moran & Swenson 2017, doi 10.1007/978-3-319-44431-4).

    Parameters
    ----------
    u, v, w : array_like or `~astropy.units.Quantity`
        ``(n,)`` each, in wavelengths; as lengths they are divided by the wavelength.
    vis : array_like
        ``(n,)`` complex, in Jy.
    weight : array_like
        ``(n,)`` in Jy⁻²: 1 / σ², where σ is the noise of the real part, which is that of the imaginary part; 0 where
        flagged. A number serves all.
    frequency : float, array_like or `~astropy.units.Quantity`
        In Hz, one or ``(n,)``.
    centre : `~astropy.coordinates.SkyCoord`, optional
        The phase centre; None (default): not known, and `phased_to` is not possible.
    meta : dict, optional
        Where they come from and what was done to them.

    Raises
    ------
    HaloInputError
        For arrays that are not of one length, coordinates or weighted visibilities that are not finite, negative
        weights, a frequency that is not positive, a centre that is not one position.

    Examples
    --------
    >>> from astropy.coordinates import SkyCoord
    >>> from halopy.uvshapelets.visibilities import Visibilities
    >>> centre = SkyCoord(30, -27, unit="deg")
    >>> vis = Visibilities([10, 200], [0, 50], [0, 5], [1, 1j], [4, 4], 154e6, centre)
    >>> vis
    <Visibilities: 2, |u| 10 to 206 wavelengths, 154 MHz, about 02h00m00s -27d00m00s>
    >>> moved = vis.phased_to(SkyCoord(30.5, -27, unit="deg"))
    >>> len(moved.select(moved.distance < 100))
    1
    """

    u: np.ndarray
    v: np.ndarray
    w: np.ndarray
    vis: np.ndarray
    weight: np.ndarray
    frequency: float | np.ndarray
    centre: SkyCoord | None = None
    meta: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        frequency = u.Quantity(self.frequency, u.Hz, dtype=float).value
        if not (np.isfinite(frequency) & (frequency > 0)).all():
            raise HaloInputError("frequency must be positive", keyword="frequency", found=np.min(frequency))
        vis = np.asarray(self.vis, complex)
        n = vis.size
        weight = np.asarray(self.weight, float)
        weight = np.full(n, float(weight)) if weight.ndim == 0 else weight
        shapes = {"vis": vis.shape, **{name: np.shape(getattr(self, name)) for name in COORDINATES},
                  "weight": weight.shape, "frequency": frequency.shape or (n,)}
        for name, shape in shapes.items():
            if shape != (n,):
                raise HaloInputError(f"the arrays must be one-dimensional and of one length, {n}", keyword=name,
                                     found=f"shape {shape}")
        arrays = {name: _wavelengths(name, getattr(self, name), frequency) for name in COORDINATES}
        arrays |= {"vis": vis, "weight": weight, "frequency": frequency if frequency.ndim else float(frequency)}
        for name in COORDINATES:
            if not np.isfinite(arrays[name]).all():
                raise HaloInputError("u, v and w must be finite", keyword=name)
        if not (np.isfinite(weight) & (weight >= 0)).all():
            raise HaloInputError("weights must be finite, not negative", keyword="weight", found=float(weight.min()),
                                 hint="0 for flagged visibilities")
        if not np.isfinite(vis[weight > 0]).all():
            raise HaloInputError("visibilities of positive weight must be finite", keyword="vis",
                                 hint="weight 0 where there is no data")
        if self.centre is not None and not (isinstance(self.centre, SkyCoord) and self.centre.isscalar):
            raise HaloInputError("centre must be one SkyCoord", keyword="centre", found=type(self.centre).__name__)
        for name, array in arrays.items():
            object.__setattr__(self, name, array)

    def __len__(self):
        return self.vis.size

    def __repr__(self):
        if not len(self):
            return "<Visibilities: none>"
        distance, megahertz = self.distance, np.unique([np.min(self.frequency), np.max(self.frequency)]) / 1e6
        parts = [f"{len(self):,}", f"|u| {distance.min():.0f} to {distance.max():.0f} wavelengths",
                 " to ".join(f"{value:g}" for value in megahertz.round(3)) + " MHz"]
        if self.centre is not None:
            parts.append(f"about {self.centre.icrs.to_string('hmsdms', precision=0)}")
        return f"<Visibilities: {', '.join(parts)}>"

    @property
    def distance(self):
        """Distance from the origin of the u-v plane, ``(n,)`` in wavelengths."""
        return np.hypot(self.u, self.v)

    @property
    def lengths(self):
        """The coordinates as lengths: a `~astropy.units.Quantity` in metres, ``(3, n)``."""
        return np.array([self.u, self.v, self.w]) * (LIGHT / np.asarray(self.frequency)) * u.m

    def phased_to(self, position):
        """Rotate to another phase centre: exact, for any angle.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord`
            The new centre.

        Returns
        -------
        Visibilities
            (u, v, w) along the axes of the new centre, and the visibilities times exp(2πi (w' − w)): a source at the
            new centre has no phase.

        Raises
        ------
        HaloInputError
            Where the phase centre is not known, or ``position`` is not one position.
        """
        if self.centre is None:
            raise HaloInputError("the phase centre of these visibilities is not known", keyword="centre",
                                 hint="Visibilities(..., centre=SkyCoord(...))")
        if not (isinstance(position, SkyCoord) and position.isscalar):
            raise HaloInputError("position must be one SkyCoord", keyword="position", found=type(position).__name__)
        rotation = _axes(position) @ _axes(self.centre).T
        uvw = rotation @ np.array([self.u, self.v, self.w])
        turn = np.exp(2j * np.pi * (uvw[2] - self.w))
        return self._replace(u=uvw[0], v=uvw[1], w=uvw[2], vis=self.vis * turn, centre=position.icrs)

    def select(self, mask):
        """Keep some: a boolean mask ``(n,)``, indices or a slice."""
        each = {name: getattr(self, name)[mask] for name in (*COORDINATES, "vis", "weight")}
        if np.ndim(self.frequency):
            each["frequency"] = self.frequency[mask]
        return self._replace(**each)

    def binned(self, cell):
        """Average over square cells of the u-v plane.

        V(−u) is the conjugate of V(u), so all are brought to one half of the plane first. A cell holds the weighted
        means of visibility, u, v, w and frequency, and the sum of the weights.

        Parameters
        ----------
        cell : float
            Width of the cells in wavelengths.

        Returns
        -------
        Visibilities
            One a cell that has weight. Binning the joined bins of parts gives what binning the whole gives.

        Raises
        ------
        HaloInputError
            For a width that is not positive.

        Notes
        -----
        Of the χ² by which it is detected, a Gaussian of width β (radians, at the phase centre) loses the part
        (2πβ · cell)² / 12 < 0.1 (2πβ · cell)² on an evenly covered plane, an exponential halo (2π r_e · cell)² / 8:
        the mean square of the template's gradient over that of the template, times cell² / 12. Sources far from the
        phase centre are averaged away, for good 1 / cell from it: rotate with `phased_to` before. What shares a cell
        shares its w: 2π \\|δw\\| β² ≪ 1 is needed, which holds for every halo below 10 arcmin.
        """
        if not (np.isfinite(cell) and cell > 0):
            raise HaloInputError("the width of a cell must be positive", keyword="cell", found=cell)
        use = np.flatnonzero(self.weight > 0)
        sign = np.where((self.v[use] < 0) | ((self.v[use] == 0) & (self.u[use] < 0)), -1.0, 1.0)
        weight = self.weight[use]
        uvw = [sign * getattr(self, name)[use] for name in COORDINATES]
        owner = _cells(uvw[0], uvw[1], cell)
        total = np.bincount(owner, weight)
        filled = np.flatnonzero(total)
        total = total[filled]

        def mean(values):
            return np.bincount(owner, weight * values)[filled] / total

        vis = self.vis[use]
        frequency = mean(self.frequency[use]) if np.ndim(self.frequency) else self.frequency
        return self._replace(**dict(zip(COORDINATES, map(mean, uvw), strict=True)),
                             vis=mean(vis.real) + 1j * mean(sign * vis.imag), weight=total, frequency=frequency,
                             meta={**self.meta, "cell": float(cell)})

    @classmethod
    def join(cls, parts):
        """Put parts of one observation, with one phase centre, one after the other.

        Raises
        ------
        HaloInputError
            If there is no part, or their phase centres differ.
        """
        parts = list(parts)
        if not parts:
            raise HaloInputError("there are no visibilities to join")
        first = parts[0]
        for part in parts[1:]:
            part._check_centre(first)
        frequencies = {part.frequency for part in parts if not np.ndim(part.frequency)}
        if len(frequencies) == 1 and not any(np.ndim(part.frequency) for part in parts):
            frequency = first.frequency
        else:
            frequency = np.concatenate([np.broadcast_to(part.frequency, len(part)) for part in parts])
        each = {name: np.concatenate([getattr(part, name) for part in parts])
                for name in (*COORDINATES, "vis", "weight")}
        return first._replace(frequency=frequency, **each)

    @classmethod
    def read(cls, path, **settings):
        """Read a file whole; `read_chunks` says what the settings are.

        Returns
        -------
        Visibilities
            Its ``meta["excluded"]`` counts what was left out of the whole file.
        """
        parts = list(cls.read_chunks(path, **settings))
        excluded = {name: sum(part.meta["excluded"][name] for part in parts) for name in parts[0].meta["excluded"]}
        whole = cls.join(parts)
        return whole._replace(meta={**whole.meta, "excluded": excluded})

    @classmethod
    def read_chunks(cls, path, *, size=2**20, weights="scatter", ignore_flags=False, max_distance=None, field=None,
                    column="DATA", stokes="I"):
        """Read a file piece by piece: UVFITS, UVH5 or a Measurement Set, by pyuvdata.

        Auto-correlations, flagged and zero visibilities and those that are not finite are left out and counted in
        ``meta["excluded"]`` of each piece.

        Parameters
        ----------
        path : str or path-like
            The file or, for a Measurement Set, the folder. pyuvdata reads a Measurement Set whole at first.
        size : int, optional
            About how many visibilities (baselines × times × channels) are in memory at once, default 2²⁰.
        weights : str or `~astropy.units.Quantity`, optional
            ``"scatter"`` (default): relative weights from the file, brought to 1 / σ² by one factor for the file, which
            comes from the scatter of the differences between neighbouring channels (or times, where there is one
            channel). ``"file"``: the file's are believed to be 1 / σ² in Jy⁻² for each of the parallel hands. A
            Quantity: σ of the real part of a visibility of Stokes I.
        ignore_flags : bool, optional
            Take flagged data too, default False. Some calibrated files are flagged throughout: in UVFITS all their
            weights are negative. A weight that was written as a flag says little about the noise, so ``"scatter"``
            then gives all visibilities the same weight.
        max_distance : float, optional
            Leave out baselines longer than this in the u-v plane, in wavelengths.
        field : str, optional
            The name of the phase centre, where the file has more than one.
        column : str, optional
            Of a Measurement Set: ``"DATA"`` (default), ``"CORRECTED_DATA"`` or ``"MODEL_DATA"``.
        stokes : str, optional
            ``"I"`` (default), or ``"V"``: where the sky has next to none, a null test with the same noise.

        Yields
        ------
        Visibilities

        Raises
        ------
        HaloInputError
            For a file that cannot be read or holds nothing that can be used, and for settings that cannot be.
        MissingExtraError
            If pyuvdata is not installed.
        """
        try:
            from halopy.uvshapelets.read import pieces
        except ModuleNotFoundError as error:
            raise MissingExtraError("reading visibilities needs pyuvdata: pip install 'halopy-radio[uv]'") from error
        for piece in pieces(path, size=size, weights=weights, ignore_flags=ignore_flags, max_distance=max_distance,
                            field=field, column=column, stokes=stokes):
            yield cls(**piece)

    def _check_centre(self, other):
        if self.centre is other.centre:
            return
        if self.centre is None or other.centre is None or other.centre.separation(self.centre) > 1 * u.mas:
            raise HaloInputError("parts with different phase centres cannot be joined", keyword="centre",
                                 hint="part.phased_to(position) first")

    def _replace(self, **changes):
        return dataclasses.replace(self, **{"meta": dict(self.meta), **changes})


def _wavelengths(name, values, frequency):
    if getattr(values, "unit", None) is None or values.unit == u.one:
        return np.asarray(values, float)
    try:
        return values.to_value(u.m).astype(float) * frequency / LIGHT
    except u.UnitConversionError as error:
        raise HaloInputError("u, v and w must be in wavelengths or lengths", keyword=name,
                             found=str(values.unit)) from error


def _cells(u_, v, cell):
    """Number the cells that points lie in; numbers may be of empty cells, but of few for so many points."""
    column, row = (np.floor(values / cell).astype(np.int64) for values in (u_, v))
    if not column.size:
        return column
    column -= column.min()
    row -= row.min()
    key = row * (column.max() + 1) + column
    return key if key.max() < max(4 * key.size, 2**16) else np.unique(key, return_inverse=True)[1]


def _axes(position):
    """Unit vectors east, north and towards a position, as rows ``(3, 3)``."""
    ra, dec = position.icrs.ra.rad, position.icrs.dec.rad
    return np.array([[-np.sin(ra), np.cos(ra), 0],
                     [-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)],
                     [np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)]])
