"""A set of cutouts: pixels of one shape, and a table with one row each."""

from __future__ import annotations

import glob
import html
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, vstack
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS, Sip

from halopy.errors import HaloInputError
from halopy.own_fits import open_own, with_checksums
from halopy.tables import joined_sources, table_hdu, table_of

__all__ = ["CutoutSet"]

NAME_KEPT = 40


class CutoutSet:
    """Cutouts of one shape, with one table row each.

    Parameters
    ----------
    data : array-like
        ``(n, ny, nx)``; stored as float32, NaN where there is no data.
    table : `~astropy.table.QTable`, optional
        ``n`` rows. Columns that halopy knows: ``name``, ``position`` (SkyCoord), ``image``,
        ``x0``, ``y0`` (pixel of the image under pixel 0, 0), ``pixel_scale``, ``beam_major``,
        ``beam_minor``, ``beam_pa`` (from +y towards −x), ``frequency``, ``rms``, ``coverage``, ``label``, ``also``,
        ``grade``, ``group``; any other may stand beside them.
    unit : `~astropy.units.Unit`, optional
        Unit of the pixels, default dimensionless.
    meta : mapping, optional
        ``meta["wcs"]`` maps the column ``image`` to a FITS header (text) of that image's WCS.
        ``meta["sources"]`` is a QTable of the sources that were simulated in the cutouts or injected
        into them, a row a source: ``name`` is that of its cutout, ``cutout`` the row of its cutout
        when the set was made. Selecting rows leaves meta as it is: names still match, rows need not.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> from halopy import CutoutSet
    >>> table = QTable({"name": ["a", "b", "c"], "group": ["1", "1", "2"]})
    >>> cutouts = CutoutSet(np.zeros((3, 64, 64)), table)
    >>> cutouts
    <CutoutSet 3 x (64, 64), columns name group>
    >>> train, test = cutouts.split(test_fraction=0.5, rng=1)
    >>> sorted(set(train.table["group"]) & set(test.table["group"]))
    []
    """

    def __init__(self, data, table=None, *, unit=u.dimensionless_unscaled, meta=None):
        data = np.asarray(data)
        if data.ndim != 3 or data.dtype.kind not in "fiu":
            raise HaloInputError("a CutoutSet has pixels of shape (n, ny, nx)", found=f"{data.shape} {data.dtype}",
                                 hint="np.stack(list_of_cutouts)")
        table = QTable() if table is None else QTable(table)
        if len(table.colnames) and len(table) != len(data):
            raise HaloInputError(f"the table must have one row per cutout, {len(data)}", found=len(table))
        self.data = np.ascontiguousarray(data, dtype=np.float32)
        self.table = table
        self.unit = u.Unit(unit)
        self.meta = dict(meta or {})

    def __len__(self):
        return len(self.data)

    @property
    def shape(self):
        """``(n, ny, nx)``."""
        return self.data.shape

    def __repr__(self):
        unit = "" if self.unit == u.dimensionless_unscaled else f" {self.unit}"
        columns = " ".join(self.table.colnames) or "none"
        return f"<CutoutSet {len(self)} x {self.data.shape[1:]}{unit}, columns {columns}>"

    def _repr_html_(self):
        return f"<pre>{html.escape(repr(self))}</pre>{self.table._repr_html_()}"

    def __getitem__(self, rows):
        """Select rows: an index, a slice, a bool mask or a list of indices; always a CutoutSet."""
        if isinstance(rows, (int, np.integer)):
            rows = [int(rows)]
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.size == 0:
                rows = rows.astype(int)
        table = self.table[rows] if len(self.table.colnames) else None
        return self.replace(data=self.data[rows], table=table)

    def replace(self, **changes):
        """Return a copy with ``data``, ``table``, ``unit`` or ``meta`` changed."""
        settings = {"data": self.data, "table": self.table, "unit": self.unit, "meta": self.meta}
        unknown = set(changes) - set(settings)
        if unknown:
            raise TypeError(f"CutoutSet.replace has no argument {sorted(unknown)[0]!r}")
        return CutoutSet(**(settings | changes))

    def column(self, name):
        """Return a column of the table, or say which are there."""
        if name not in self.table.colnames:
            raise HaloInputError(f"these cutouts have no column {name!r}", found=self.table.colnames)
        return self.table[name]

    def wcs(self, row):
        """Return the `~astropy.wcs.WCS` of one cutout.

        On the image's own grid it is the image's WCS, shifted; a resampled cutout has a tangential
        projection about its position.
        """
        # Sets with different columns can be joined: what a row lacks is masked there.
        names = {"x0", "y0", "image", "position", "pixel_scale", "augmented_from"} & set(self.table.colnames)
        known = {name: self.table[name][row] for name in names}
        known = {name: value for name, value in known.items() if not np.any(getattr(value, "mask", False))}
        headers = self.meta.get("wcs", {})
        if "augmented_from" in known:
            raise HaloInputError("augmented cutouts carry no WCS: they are turned, mirrored or enlarged",
                                 found=int(row), hint="the wcs of the cutout in the row 'augmented_from'")
        if {"x0", "y0", "image"} <= set(known) and str(known["image"]) in headers:
            wcs = WCS(fits.Header.fromstring(headers[str(known["image"])], sep="\n"))
            corner = np.array([known["x0"], known["y0"]], dtype=float)
            wcs.wcs.crpix -= corner
            if wcs.sip is not None:
                wcs.sip = Sip(wcs.sip.a, wcs.sip.b, wcs.sip.ap, wcs.sip.bp, wcs.sip.crpix - corner)
            wcs.pixel_shape = self.data.shape[:0:-1]
            return wcs
        if {"position", "pixel_scale"} <= set(known):
            return tangent_wcs(known["position"], known["pixel_scale"], self.data.shape[1:])
        raise HaloInputError("these cutouts carry no WCS: they have neither a position and pixel scale nor a "
                             "place in an image", found=self.table.colnames)

    def sky_offsets(self, x, y):
        """Turn offsets in pixels from the cutouts' centres into offsets on the sky from their positions.

        Parameters
        ----------
        x, y : array-like
            ``(n,)`` pixels from the centre, ``(n - 1) / 2``, of each cutout.

        Returns
        -------
        east, north : `~astropy.units.Quantity`
            ``(n,)``, arcsec. A resampled cutout has its position at its centre, and north up. On an
            image's own grid the image's WCS is followed, and the offset counts from the column
            ``position``, which lies within half a pixel of the centre (from the centre itself
            without such a column). NaN where x, y or the WCS is.

        Examples
        --------
        >>> import numpy as np
        >>> from astropy import units as u
        >>> from halopy import CutoutSet
        >>> cutouts = CutoutSet(np.zeros((1, 64, 64)), {"pixel_scale": [30] * u.arcsec})
        >>> [float(offset.value[0]) for offset in cutouts.sky_offsets([2.0], [1.0])]
        [-60.0, 30.0]
        """
        x, y = (np.broadcast_to(np.asarray(offset, dtype=float), len(self)) for offset in (x, y))
        scale = self.column("pixel_scale")
        if "augmented_from" in self.table.colnames and len(self):
            self.wcs(0)  # says why there is none
        east, north = (np.array(u.Quantity(o * scale).to_value(u.arcsec)) for o in (-x, y))
        for rows in self._own_grids():
            wcs = self.wcs(rows[0])
            shift = [np.asarray(self.table[name][rows], dtype=float) for name in ("x0", "y0")]
            centre = [(n - 1) / 2 + s - s[0] for n, s in zip(self.data.shape[:0:-1], shift, strict=True)]
            sky = wcs.pixel_to_world(centre[0] + x[rows], centre[1] + y[rows]).icrs
            if "position" in self.table.colnames:
                origin = SkyCoord(self.table["position"][rows]).icrs
            else:
                origin = wcs.pixel_to_world(*centre).icrs
            east[rows], north[rows] = (o.to_value(u.arcsec) for o in origin.spherical_offsets_to(sky))
        return east * u.arcsec, north * u.arcsec

    def _own_grids(self):
        """Yield the rows of each image whose own pixels they are."""
        if not {"x0", "y0", "image"} <= set(self.table.colnames):
            return
        missing = np.any([np.broadcast_to(getattr(self.table[name], "mask", False), len(self))
                          for name in ("x0", "y0", "image")], axis=0)
        images = np.asarray(self.table["image"]).astype(str)
        for name in self.meta.get("wcs", {}):
            rows = np.flatnonzero((images == name) & ~missing)
            if rows.size:
                yield rows

    def split(self, *, by="group", test_fraction=0.25, rng=None):
        """Split into training and test sets that share no value of a column.

        Parameters
        ----------
        by : str, optional
            The column that stays whole on one side, default ``"group"``: cutouts of one piece of
            sky in both sets would make any classifier look better than it is.
        test_fraction : float, optional
            Fraction of the groups in the test set, default 0.25; at least one group on each side.
        rng : int or `~numpy.random.Generator`, optional
            Seed or generator.

        Returns
        -------
        train, test : CutoutSet
        """
        rng = np.random.default_rng(rng)
        if by == "group" and by not in self.table.colnames:
            raise HaloInputError("a split needs the sky group of each cutout, in a column 'group'",
                                 found=self.table.colnames,
                                 hint="from halopy.io.catalog import sky_groups; "
                                      "cutouts.table['group'] = sky_groups(cutouts.table['position'])")
        groups = np.unique(np.asarray(self.column(by)))
        if not 0 < test_fraction < 1:
            raise HaloInputError("test_fraction must lie between 0 and 1", found=test_fraction)
        if len(groups) < 2:
            raise HaloInputError(f"a split needs at least two values of {by!r}", found=list(groups))
        n_test = int(np.clip(round(test_fraction * len(groups)), 1, len(groups) - 1))
        test = np.isin(np.asarray(self.table[by]), rng.permutation(groups)[:n_test])
        return self[~test], self[test]

    def join(self, *others):
        """Return one set of these cutouts and of ``others`` (same shape and unit).

        Their sources are stacked, without those of cutouts that are no longer there, and the column
        ``cutout`` counts in the joined set. What one of the tables of sources has no column for is
        NaN, empty text, 0 or False there. A name must stand for the same sources in all sets.
        """
        for other in others:
            if other.data.shape[1:] != self.data.shape[1:] or other.unit != self.unit:
                raise HaloInputError("only cutouts of one shape and unit can be joined, "
                                     f"{self.data.shape[1:]} {self.unit}", found=f"{other.data.shape[1:]} {other.unit}")
        tables, headers = [], {}
        for cutouts in (self, *others):
            renamed = {}
            for name, header in cutouts.meta.get("wcs", {}).items():
                # The four bands of a cluster are four images, and may all bear its name.
                new, number = name, 2
                while headers.setdefault(new, header) != header:
                    new, number = f"{name} ({number})", number + 1
                renamed[name] = new
            tables.append(cutouts.table)
            if any(old != new for old, new in renamed.items()):
                tables[-1] = cutouts.table.copy()
                tables[-1]["image"] = [renamed.get(str(name), str(name)) for name in cutouts.table["image"]]
        table = vstack(tables, metadata_conflicts="silent") if any(t.colnames for t in tables) else None
        sources = joined_sources([self, *others])
        # What generators that made some of these have seen stays known.
        seen = sorted(set().union(*(cutouts.meta.get("seen_groups", ()) for cutouts in (self, *others))))
        sources |= {"seen_groups": seen} if seen else {}
        return self.replace(data=np.concatenate([c.data for c in (self, *others)]), table=table,
                            meta=self.meta | ({"wcs": headers} if headers else {}) | sources)

    def write(self, path, *, overwrite=False):
        """Write a FITS file: the pixels as a cube, the table, the sources and the WCS headers behind it.

        The file appears under its name only when it is complete.
        """
        path = Path(path)
        if path.exists() and not overwrite:
            raise HaloInputError("this file exists", path=path, hint="overwrite=True")
        primary = fits.PrimaryHDU(self.data)
        primary.header["BUNIT"] = self.unit.to_string("fits") if self.unit != u.dimensionless_unscaled else ""
        primary.header["HALOPY"] = ("CutoutSet", "n, ny, nx; one row of the table each")
        hdus = [primary]
        for name, table in (("CUTOUTS", self.table), ("SOURCES", self.meta.get("sources"))):
            if table is not None and table.colnames:
                hdus.append(table_hdu(table, name))
        if headers := self.meta.get("wcs"):
            columns = {"image": [name.encode() for name in headers],
                       "header": [header.encode() for header in headers.values()]}
            hdus.append(fits.BinTableHDU.from_columns(
                [fits.Column(name, f"{max(1, *map(len, texts))}A", array=texts) for name, texts in columns.items()],
                name="WCS"))
        if seen := self.meta.get("seen_groups"):
            hdus.append(fits.BinTableHDU.from_columns([fits.Column("group", "16A", array=list(seen))], name="SEEN"))
        write_atomically(path, lambda temporary: with_checksums(hdus).writeto(temporary))

    @classmethod
    def read(cls, path):
        """Read what `write` wrote."""
        path = Path(path)
        try:
            # astropy leaves a file open that it cannot read, and only warns of a wrong checksum.
            with open_own(path) as stream, warnings.catch_warnings(action="error", category=AstropyUserWarning), \
                    fits.open(stream, memmap=False, checksum=True) as hdus:
                if hdus[0].header.get("HALOPY") != "CutoutSet" or hdus[0].data is None:
                    raise HaloInputError("this file was not written by CutoutSet.write", path=path)
                data, unit = hdus[0].data, u.Unit(hdus[0].header["BUNIT"])
                names = [h.name for h in hdus]
                table = table_of(hdus["CUTOUTS"]) if "CUTOUTS" in names else None
                meta = {"sources": table_of(hdus["SOURCES"])} if "SOURCES" in names else {}
                if "SEEN" in names:
                    meta["seen_groups"] = [str(group) for group in hdus["SEEN"].data["group"]]
                if "WCS" in names:
                    meta["wcs"] = {str(r["image"]): str(r["header"]) for r in QTable.read(hdus["WCS"])}
        except HaloInputError:
            raise
        except Exception as error:  # astropy answers a bad file with some fifteen kinds of exception
            raise HaloInputError(f"cannot read a CutoutSet: {error}", path=path) from error
        return cls(data, table, unit=unit, meta=meta)


def tangent_wcs(position: SkyCoord, pixel_scale, shape):
    """Tangential WCS whose central pixel edge or centre, ``(n - 1) / 2``, lies at ``position``."""
    wcs = WCS(naxis=2)
    scale = u.Quantity(pixel_scale).to_value(u.deg)
    centre = position.icrs
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [centre.ra.deg, centre.dec.deg]
    # The default, 0 at the pole itself and 180 elsewhere, would turn a cutout there upside down.
    wcs.wcs.lonpole = 180
    wcs.wcs.cdelt = [-scale, scale]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.pixel_shape = shape[::-1]
    return wcs


def remove_unfinished(path):
    """Remove the temporary files that killed writers of a file have left beside it; nobody may be writing it."""
    path = Path(path)
    # Of longer names the temporary files share a beginning with those of other files.
    if len(path.name) <= NAME_KEPT:
        for left in path.parent.glob(f".{glob.escape(path.name)}-????????{glob.escape(path.suffix or '.tmp')}"):
            left.unlink(missing_ok=True)


def write_atomically(path, write):
    """Call ``write(temporary_path)`` beside ``path`` and move the complete file there."""
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:NAME_KEPT]}-", suffix=path.suffix or ".tmp",
                                             dir=path.parent)
        os.close(handle)
        # The file is written as the user's umask wants it, not with the private mode of mkstemp.
        os.unlink(temporary)
    except OSError as error:
        raise HaloInputError(f"cannot write here: {error.strerror}", path=path) from error
    try:
        write(temporary)
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise HaloInputError(f"cannot write this file: {error}", path=path,
                             hint="check the disk space and the permissions") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
