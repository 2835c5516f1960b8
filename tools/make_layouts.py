"""Make halopy/data/layouts.ecsv: where the antennas of some arrays stand, as east, north and up in metres.

Usage: python tools/make_layouts.py FOLDER [OUT]  (default of OUT: halopy/data)

FOLDER holds, unpacked side by side, the packages ``lofarantpos`` 0.8, ``simms`` 3.0.2 and ``tools21cm`` 2.4.3 (the
source distribution); pyuvdata 3.2.4 and PyYAML are imported. Which tiles made up the MWA's configurations is read off
the observations named below.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pyuvdata
import yaml
from astropy import units as u
from astropy.coordinates import EarthLocation
from astropy.table import Table

from halopy.cutouts import write_atomically

MWA = EarthLocation.from_geodetic(116.67081524 * u.deg, -26.70331941 * u.deg, 377.827 * u.m)
SKA_LOW = EarthLocation.from_geodetic(116.764448 * u.deg, -26.824722 * u.deg, 365 * u.m)
GROUPS = {"mwa-1": [*range(1, 17)], "mwa-2-compact": [1, 2, 3, 4, 6, 8, 9],
          "mwa-2-extended": [5, 7, *range(10, 17)]}
MWA_SOURCE = "pyuvdata 3.2.4, mwa_ant_pos.csv (BSD-2-Clause); up is the height less 377 m; "
SOURCES = {
    "mwa-1": MWA_SOURCE + "the 128 tiles of 2013 to 2016",
    "mwa-2-compact": MWA_SOURCE + "the tiles of observation 1254670392",
    "mwa-2-extended": MWA_SOURCE + "the tiles of observation 1202815152",
    "lofar-hba": "lofarantpos 0.8, etrs-phase-centres.csv (Apache-2.0): HBA fields of the stations in the Netherlands",
    "meerkat": "simms 3.0.2, skamid.geodetic.yaml (package GPL-3.0; positions are facts): M000 to M063",
    "ska-low": "tools21cm 2.4.3, skalow_AA4_layout.txt (MIT), 512 stations of stage AA4, planned",
}


def local(ecef, location):
    """East, north, up (n, 3) in metres about a location, of geocentric positions (n, 3) in metres."""
    lon, lat = location.lon.rad, location.lat.rad
    east = [-np.sin(lon), np.cos(lon), 0]
    north = [-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)]
    centre = u.Quantity(location.geocentric).to_value(u.m)
    return (ecef - centre) @ np.array([east, north, np.cross(east, north)]).T


def layouts(folder):
    """Yield name, location, names of the antennas, their positions (n, 3)."""
    data = Path(pyuvdata.__file__).parent / "data"
    with open(data / "mwa_ant_pos.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # The file's x, y, z are offsets from the array's centre along the geocentric axes.
    offsets = np.array([[float(row[axis]) for axis in "xyz"] for row in rows])
    enu = local(offsets + u.Quantity(MWA.geocentric).to_value(u.m), MWA) - [0, 0, 377]
    tiles = dict(zip((row["names"] for row in rows), enu, strict=True))
    for name, groups in GROUPS.items():
        members = [f"Tile{group:02d}{number}" for group in groups for number in range(1, 9)]
        members += [f"Hex{arm}{n:02d}" for arm in "ES" for n in range(1, 37)] if name == "mwa-2-compact" else []
        members += [f"LB{arm}{n}" for arm in "ABCDEFG" for n in range(1, 9)] if name == "mwa-2-extended" else []
        yield name, MWA, members, np.array([tiles[member] for member in members])

    with open(folder / "lofarantpos/share/lofarantpos/etrs-phase-centres.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["STATION"][:2] in ("CS", "RS") and "HBA" in row["FIELD"]]
    # Core stations have two fields, which are stations of their own; "HBA" is both of them together.
    rows = [row for row in rows if row["STATION"][:2] == "RS" or row["FIELD"] in ("HBA0", "HBA1")]
    ecef = np.array([[float(row[f"ETRS-{axis}"]) for axis in "XYZ"] for row in rows])
    names = [row["STATION"] + row["FIELD"] for row in rows]
    core = EarthLocation.from_geocentric(*ecef[names.index("CS002HBA0")], unit=u.m)
    yield "lofar-hba", core, names, local(ecef, core)

    with open(folder / "simms/telescope/layouts/skamid.geodetic.yaml", encoding="utf-8") as file:
        table = yaml.safe_load(file)
    names = table["subarray"]["meerkat"]
    places = np.array([table["antlocations"][table["antnames"].index(name)] for name in names])
    there = EarthLocation.from_geodetic(places[:, 0] * u.deg, places[:, 1] * u.deg, places[:, 2] * u.m)
    yield "meerkat", there[0], names, local(np.stack(u.Quantity(there.geocentric).to_value(u.m), axis=-1), there[0])

    enu = np.loadtxt(folder / "tools21cm-2.4.3/src/tools21cm/input_data/skalow_AA4_layout.txt")
    yield "ska-low", SKA_LOW, [f"S{n:03d}" for n in range(1, 1 + len(enu))], enu


def make(folder, out):
    columns, meta = {name: [] for name in ("array", "antenna", "east", "north", "up")}, {}
    for name, location, antennas, enu in layouts(folder):
        columns["array"] += [name] * len(antennas)
        columns["antenna"] += antennas
        for axis, values in zip(("east", "north", "up"), enu.T.round(2) + 0.0, strict=True):
            columns[axis] += values.tolist()
        meta[name] = {"latitude": round(location.lat.deg, 7), "longitude": round(location.lon.deg, 7),
                      "height": round(location.height.to_value(u.m), 1), "source": SOURCES[name]}
    table = Table(columns)
    for axis in ("east", "north", "up"):
        table[axis].unit = u.m
    table.meta = {"arrays": meta}
    write_atomically(out / "layouts.ecsv", lambda path: table.write(path, format="ascii.ecsv", overwrite=True))


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parents[1] / "halopy" / "data")
