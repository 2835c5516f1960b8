"""Simulated visibilities in a file of their own, so that they can be read like an observation's."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import EarthLocation
from pyuvdata import Telescope, UVData

from halopy.errors import HaloInputError
from halopy.uvshapelets.read import offline

__all__ = ["uvdata", "write_uvfits"]

# An epoch at which the axes of the Earth and of ICRS agree: those of `halopy.uvshapelets.observe` always do.
EPOCH = 2451545.0
SIDEREAL_DAY = 0.99726956633
SIDEREAL_TIME_OF_EPOCH = 280.46061837
"""At Greenwich, mean, in degrees."""


def write_uvfits(visibilities, path, layout, *, overwrite=False):
    """Write what `~halopy.uvshapelets.observe.observe` returned as a UVFITS file.

    Its weights go into the file as they are (``weights="file"`` reads them back), the date is that of the year 2000.

    Parameters
    ----------
    visibilities : Visibilities
        Whole, as simulated.
    path : str or path-like
        Where to.
    layout : Layout
        That they were simulated with.
    overwrite : bool, optional
        Replace a file that is there, default False.

    Raises
    ------
    HaloInputError
        If the visibilities are not those of a simulation with this layout, or the file is there already.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.coordinates import SkyCoord
    >>> from halopy.uvshapelets.layouts import layouts
    >>> from halopy.uvshapelets.observe import observe
    >>> from halopy.uvshapelets.visibilities import Visibilities
    >>> from halopy.uvshapelets.write import write_uvfits
    >>> simulated = observe([], layouts["mwa-1"], centre=SkyCoord(30, -27, unit="deg"), frequency=154 * u.MHz,
    ...                     hour_angles=[-1, 1] * u.hourangle, points=([0.01], [0], [1.5]))
    >>> write_uvfits(simulated, "simulated.uvfits", layouts["mwa-1"])
    >>> Visibilities.read("simulated.uvfits", weights="file")
    <Visibilities: 16,256, |u| 4 to 1473 wavelengths, 154 MHz, about 02h00m00s -27d00m00s>
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise HaloInputError("the file is there already", path=str(path), hint="overwrite=True")
    data = uvdata(visibilities, layout)
    with offline(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write_uvfits(str(path), run_check_acceptability=False)


def uvdata(visibilities, layout):
    """Return simulated visibilities as a `pyuvdata.UVData`, which writes other formats too; see `write_uvfits`."""
    hours = visibilities.meta.get("hour_angles")
    n_baselines = layout.pairs.shape[1]
    n_channels = len(visibilities) // (max(len(hours or ()), 1) * n_baselines)
    if not hours or visibilities.meta.get("layout") != layout.name or (
            n_channels * len(hours) * n_baselines != len(visibilities)):
        raise HaloInputError(f"only what observe() returned for the layout {layout.name} can be written, whole",
                             keyword="visibilities", found=f"layout {visibilities.meta.get('layout')}, "
                                                           f"{len(visibilities)} visibilities")
    shape = (len(hours) * n_baselines, n_channels)
    hertz = np.broadcast_to(visibilities.frequency, len(visibilities))[:n_channels]
    centre = visibilities.centre.icrs
    lst = (centre.ra.deg + 15 * np.array(hours) - layout.longitude.to_value(u.deg)) % 360
    times = EPOCH + (lst - SIDEREAL_TIME_OF_EPOCH) / 360 * SIDEREAL_DAY
    location = EarthLocation.from_geodetic(layout.longitude, layout.latitude, layout.height)
    first, second = layout.pairs
    with offline(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        telescope = Telescope.new(
            layout.name, location, instrument=layout.name, antenna_positions=_geocentric_offsets(layout),
            antenna_names=list(layout.antennas), antenna_numbers=np.arange(1, len(layout) + 1), mount_type="fixed")
        data = UVData.new(
            freq_array=hertz.astype(float), channel_width=float(np.diff(hertz)[0]) if n_channels > 1 else 1e6,
            polarization_array=["pI"], times=np.repeat(times, n_baselines), integration_time=1.0, telescope=telescope,
            antpairs=np.tile(np.stack([first + 1, second + 1], axis=1), (len(hours), 1)), do_blt_outer=False,
            phase_center_catalog={0: {"cat_name": "simulated", "cat_type": "sidereal", "cat_lon": centre.ra.rad,
                                      "cat_lat": centre.dec.rad, "cat_frame": "icrs", "cat_epoch": 2000.0}},
            data_array=visibilities.vis.reshape(*shape, 1).copy(), vis_units="Jy",
            flag_array=(visibilities.weight == 0).reshape(*shape, 1),
            nsample_array=visibilities.weight.reshape(*shape, 1).copy(), update_telescope_from_known=False,
            check_kw={"run_check_acceptability": False})
        # pyuvdata's baseline runs from the first antenna to the second.
        data.uvw_array = -visibilities.lengths.value.reshape(3, *shape)[:, :, 0].T
    return data


def _geocentric_offsets(layout):
    lon, lat = layout.longitude.to_value(u.rad), layout.latitude.to_value(u.rad)
    east = np.array([-np.sin(lon), np.cos(lon), 0])
    up = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    return layout.positions.to_value(u.m) @ np.array([east, np.cross(up, east), up])
