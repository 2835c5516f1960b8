"""Reading UVFITS, UVH5 and Measurement Sets with pyuvdata, piece by piece and without a network.

`halopy.uvshapelets.visibilities.Visibilities.read_chunks` is the door; here the file is opened, Stokes I (or V) is
formed and the weights are made what they should be.
"""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.constants import c
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.coordinates.sites import SiteRegistry
from astropy.time import Time
from astropy.utils import iers
from pyuvdata import UVData
from pyuvdata.utils import polnum2str

from halopy.errors import HaloInputError, HalopyWarning

__all__ = ["offline", "pieces"]

LIGHT = c.to_value(u.m / u.s)
# By the numbers of AIPS: pI and pV, RR and LL, XX and YY, XY and YX.
STOKES = {"I": ({1: 1}, {-5: 0.5, -6: 0.5}, {-1: 0.5, -2: 0.5}),
          "V": ({4: 1}, {-1: 0.5, -2: -0.5}, {-7: -0.5j, -8: 0.5j})}
REASONS = ("auto", "flagged", "not finite", "zero", "far")
SAMPLE = 2**19
"""How many visibilities the scatter is measured from, at most."""
QUIET = {"check_autos": False, "run_check_acceptability": False, "keep_all_metadata": False}
# The table of the Earth's rotation that is installed, whatever its age: it matters for sidereal times only.
IERS = {"auto_download": False, "auto_max_age": None, "iers_degraded_accuracy": "warn"}
# pyuvdata looks telescopes up in a list of sites that astropy downloads; the MWA is the one it needs from there.
MWA = EarthLocation.from_geodetic(116.67081524 * u.deg, -26.70331941 * u.deg, 377.827 * u.m)


@contextlib.contextmanager
def offline():
    """Keep astropy from the network for the time of a with statement; afterwards all is as it was."""
    before = {name: vars(EarthLocation)[name] for name in ("_site_registry",) if name in vars(EarthLocation)}
    if not before.get("_site_registry"):
        EarthLocation._site_registry = SiteRegistry()
        EarthLocation._site_registry.add_site(["MWA", "Murchison Widefield Array"], MWA)
    try:
        with contextlib.ExitStack() as stack:
            for name, value in IERS.items():
                stack.enter_context(iers.conf.set_temp(name, value))
            yield
    finally:
        del EarthLocation._site_registry
        for name, value in before.items():
            setattr(EarthLocation, name, value)


def pieces(path, *, size, weights, ignore_flags, max_distance, field, column, stokes):
    """Yield what makes up a `Visibilities`, piece by piece, as dictionaries."""
    if size < 1:
        raise HaloInputError("size must be at least 1", keyword="size", found=size)
    if max_distance is not None and not max_distance > 0:
        raise HaloInputError("max_distance must be positive", keyword="max_distance", found=max_distance)
    if stokes not in STOKES:
        raise HaloInputError("stokes must be 'I' or 'V'", keyword="stokes", found=stokes)
    file = _File(path, field, column, stokes, ignore_flags)
    factor, alike, text = _factor(weights, file)
    counts, held = dict.fromkeys(REASONS, 0), None
    for first in range(0, file.n_rows, step := max(size // file.n_channels, 1)):
        part = file.rows(np.arange(first, min(first + step, file.n_rows)))
        out, left_out = _flat(part, max_distance)
        counts = {name: counts[name] + left_out[name] for name in REASONS}
        if not out["vis"].size:
            continue
        if held is not None:
            yield held
        if not np.isfinite(factor):
            raise _no_scatter(path)
        out["weight"] = factor * (np.sign(out["weight"]) if alike else out["weight"])
        held = {**out, "centre": file.centre,
                "meta": {**file.meta, "weights": text, "ignored_flags": bool(ignore_flags), "notes": tuple(file.notes)}}
        held["meta"]["excluded"], counts = counts, dict.fromkeys(REASONS, 0)
    if held is None:
        raise _nothing(path, counts, ignore_flags)
    # The last piece answers for what was left out after it.
    held["meta"]["excluded"] = {name: held["meta"]["excluded"][name] + counts[name] for name in REASONS}
    yield held


class _File:
    """A file of visibilities whose rows (a baseline at a time, all channels) can be asked for."""

    def __init__(self, path, field, column, stokes, ignore_flags):
        self.path, self.stokes, self.ignore_flags = Path(path), stokes, ignore_flags
        self.kind = _kind(self.path)
        self.notes = []
        self.settings = {"data_column": column, "ignore_single_chan": False} if self.kind == "ms" else {}
        # pyuvdata has no partial reading of Measurement Sets.
        self.whole = self._open() if self.kind == "ms" else None
        about = self.whole or self._open(read_data=False)
        self.selected = _field_rows(about, field, self.path)
        self.n_rows, self.n_channels = len(self.selected), about.Nfreqs
        self.times = about.time_array[self.selected]
        self.centre, self.unprojected = _centre(about, self.selected[0], self.path)
        if about.vis_units not in ("Jy", "uncalib"):
            raise HaloInputError("visibilities must be in Jy", path=str(self.path), keyword="unit",
                                 found=about.vis_units)
        if about.vis_units == "uncalib":
            warnings.warn(f"{self.path.name}: the file does not say that its visibilities are calibrated; fluxes are "
                          "in its own unit", HalopyWarning, stacklevel=4)
        self.meta = {"file": self.path.name, "format": self.kind, "telescope": about.telescope.name,
                     "unit": about.vis_units, "stokes": stokes, "n_times": len(np.unique(self.times)),
                     "n_channels": about.Nfreqs}

    def rows(self, rows):
        """Return some rows as `_stokes` does; what pyuvdata remarks is added to the notes."""
        rows = self.selected[rows]
        data = self.whole.select(blt_inds=rows, inplace=False, run_check=False) if self.whole else self._open(
            blt_inds=rows)
        if self.unprojected:
            with offline(), self._noting():
                data.phase(lon=self.centre.ra.rad, lat=self.centre.dec.rad, phase_frame="icrs", cat_name="halopy")
        return _stokes(data, self.stokes, self.ignore_flags, self.path)

    def _open(self, **settings):
        with offline(), self._noting():
            try:
                return UVData.from_file(str(self.path), file_type=self.kind, **QUIET, **self.settings, **settings)
            except ImportError as error:
                raise HaloInputError("Measurement Sets need python-casacore", path=str(self.path),
                                     hint="pip install python-casacore") from error
            except Exception as error:
                raise HaloInputError("pyuvdata cannot read this file", path=str(self.path),
                                     found=f"{type(error).__name__}: {error}") from error

    @contextlib.contextmanager
    def _noting(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        self.notes += [note for note in dict.fromkeys(str(w.message) for w in caught) if note not in self.notes]


def _kind(path):
    if not path.exists():
        raise HaloInputError("there is no such file", path=str(path))
    if path.is_dir():
        if (path / "table.dat").exists():
            return "ms"
    else:
        with open(path, "rb") as file:
            start = file.read(8)
        if start == b"\x89HDF\r\n\x1a\n":
            return "uvh5"
        if start.startswith(b"SIMPLE"):
            return "uvfits"
    raise HaloInputError("visibilities are read from UVFITS, UVH5 and Measurement Sets; this is none of them",
                         path=str(path), hint="unpack it first" if path.suffix in (".tgz", ".gz", ".tar") else None)


def _field_rows(about, field, path):
    names = {number: entry["cat_name"] for number, entry in about.phase_center_catalog.items()}
    there = [number for number in names if np.any(about.phase_center_id_array == number)]
    chosen = [number for number in there if field in (None, names[number])]
    if len(chosen) != 1:
        raise HaloInputError("field must name one of the phase centres", path=str(path), keyword="field", found=field,
                             hint=", ".join(repr(names[number]) for number in there))
    return np.flatnonzero(about.phase_center_id_array == chosen[0])


def _centre(about, row, path):
    """Return the phase centre (ICRS), and whether the file's visibilities are still to be phased to it."""
    entry = about.phase_center_catalog[about.phase_center_id_array[row]]
    kind, frame = entry["cat_type"], entry.get("cat_frame")
    if kind == "unprojected":
        with offline():
            time = Time(np.mean([about.time_array.min(), about.time_array.max()]), format="jd")
            zenith = SkyCoord(alt=90 * u.deg, az=0 * u.deg, frame="altaz", obstime=time,
                              location=about.telescope.location)
            return SkyCoord(zenith.icrs.ra, zenith.icrs.dec), True
    if kind != "sidereal" or frame not in ("icrs", "fk5") or entry.get("cat_epoch") not in (None, 2000.0):
        raise HaloInputError("the phase centre must be fixed on the sky, in ICRS or FK5 J2000", path=str(path),
                             found=f"{kind}, {frame}, {entry.get('cat_epoch')}", hint="UVData.phase of pyuvdata")
    return SkyCoord(float(entry["cat_lon"]), float(entry["cat_lat"]), unit="rad", frame=frame).icrs, False


def _stokes(data, stokes, ignore_flags, path):
    """Form a Stokes parameter: visibility, weight (0: flagged), zeros, ``(rows, channels)``; the rows' coordinates."""
    there = data.polarization_array.tolist()
    products = next((products for products in STOKES[stokes] if set(products) <= set(there)), None)
    if products is None:
        raise HaloInputError(f"Stokes {stokes} needs {', or '.join(map(_names, STOKES[stokes]))}", path=str(path),
                             keyword="polarization", found=_names(there))
    share = np.array(list(products.values()))
    if len(share) == 2 and data.pol_convention == "sum":
        share = 2 * share
    index = [there.index(product) for product in products]
    each = data.data_array[:, :, index].astype(complex)
    weight = np.abs(data.nsample_array[:, :, index].astype(float))
    flagged = (data.flag_array[:, :, index] & (not ignore_flags)).any(axis=2) | (weight == 0).any(axis=2)
    with np.errstate(divide="ignore"):
        weight = 1 / (np.abs(share) ** 2 / weight).sum(axis=2)
    # The baseline of pyuvdata runs from the first antenna to the second; ours does not.
    return {"vis": each @ share, "weight": np.where(flagged, 0, weight), "zero": (each == 0).any(axis=2),
            "uvw": -data.uvw_array, "frequency": data.freq_array,
            "antennas": np.array([data.ant_1_array, data.ant_2_array]), "time": data.time_array}


def _names(products):
    return " and ".join(polnum2str(list(products)))


def _flat(part, max_distance):
    """Leave out what is of no use; return the rest as ``(n,)`` arrays, and how many were left out for what."""
    frequency = np.broadcast_to(part["frequency"], part["vis"].shape)
    uvw = part["uvw"].T[:, :, None] * (frequency / LIGHT)
    reasons = {"auto": np.broadcast_to((part["antennas"][0] == part["antennas"][1])[:, None], frequency.shape),
               "flagged": part["weight"] == 0, "not finite": ~np.isfinite(part["vis"]), "zero": part["zero"],
               "far": np.hypot(uvw[0], uvw[1]) > (np.inf if max_distance is None else max_distance)}
    keep, counts = np.ones(frequency.shape, bool), {}
    for name, reason in reasons.items():
        counts[name] = int((keep & reason).sum())
        keep &= ~reason
    out = dict(zip("uvw", uvw[:, keep], strict=True))
    return {**out, "vis": part["vis"][keep], "weight": part["weight"][keep], "frequency": frequency[keep]}, counts


def _factor(weights, file):
    """Return what the file's weights are multiplied with, whether all are taken for alike first, and this in words."""
    if isinstance(weights, str):
        if weights == "file":
            return 1.0, False, "the file's, taken for 1 / variance"
        if weights == "scatter":
            return _scatter(file), file.ignore_flags, (
                "alike" if file.ignore_flags else "relative from the file") + ", scaled by the scatter of differences"
    else:
        sigma = u.Quantity(weights)
        if sigma.unit.is_equivalent(u.Jy) and sigma.isscalar and 0 < sigma.value < np.inf:
            return sigma.to_value(u.Jy) ** -2, True, f"alike, from a noise of {sigma}"
    raise HaloInputError("weights must be 'scatter', 'file' or a positive noise in Jy", keyword="weights",
                         found=str(weights))


def _scatter(file):
    """Return the factor that makes the weights 1 / variance, from differences in which the sky is mostly gone.

    The second difference of neighbouring channels takes away what is linear in frequency; of two channels, or two
    times of one baseline, the first one is all there is. The median serves, so that some bad data do no harm.
    """
    if file.n_channels > 1:
        n = min(file.n_rows, max(SAMPLE // file.n_channels, 1))
        part = file.rows(np.unique(np.linspace(0, file.n_rows - 1, n).astype(int)))
        cross = part["antennas"][0] != part["antennas"][1]
        vis, weight = part["vis"][cross].T, part["weight"][cross].T
        gaps = np.abs(np.diff(part["frequency"]))
        near = gaps <= 1.5 * gaps.min()
    else:
        vis, weight = _two_times(file)
        near = np.ones(len(vis) - 1, dtype=bool)
    if file.ignore_flags:
        weight = np.sign(weight)
    if not near.any():
        raise _no_scatter(file.path)
    # Channels with a gap between them, as between bands, are no neighbours.
    stencil, first = (1, -1), np.flatnonzero(near)
    if (near[1:] & near[:-1]).any():
        stencil, first = (1, -2, 1), np.flatnonzero(near[1:] & near[:-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = sum(share * vis[first + i] for i, share in enumerate(stencil))
        variance = sum(share**2 / weight[first + i] for i, share in enumerate(stencil))
        square = np.abs(difference) ** 2 / variance
    square = square[np.isfinite(square) & (square > 0)]
    # Re² + Im² of unit variance has the median 2 ln 2. Where all is flagged, that is said by `pieces`.
    return float(2 * np.log(2) / np.median(square)) if len(square) else np.nan


def _two_times(file):
    """Visibilities and weights, ``(times, baselines)``, of the baselines that two neighbouring times share."""
    times = np.unique(file.times)
    first = max(len(times) // 2 - 1, 0)
    parts = [file.rows(np.flatnonzero(file.times == time)) for time in times[first:first + 2]]
    rows = [{pair: i for i, pair in enumerate(zip(*part["antennas"].tolist(), strict=True)) if pair[0] != pair[1]}
            for part in parts]
    shared = sorted(set.intersection(*map(set, rows)))
    chosen = [[row[pair] for pair in shared] for row in rows]
    return tuple(np.array([part[name][some, 0] for part, some in zip(parts, chosen, strict=True)])
                 for name in ("vis", "weight"))


def _no_scatter(path):
    return HaloInputError("the scatter needs two neighbouring channels, or two times, with data", path=str(path),
                          keyword="weights", hint="weights='file', or the noise: weights=2 * u.Jy")


def _nothing(path, counts, ignore_flags):
    left = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    if counts["flagged"] and not ignore_flags:
        return HaloInputError("every visibility is flagged" if not counts["zero"] else "no visibility can be used",
                              path=str(path), found=left,
                              hint="ignore_flags=True (--ignore-flags), if the data are known to be good; weights "
                                   "then come from their scatter")
    return HaloInputError("no visibility can be used", path=str(path), found=left)
