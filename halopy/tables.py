"""Tables that go with pixels: sources stacked, and tables in FITS files as they were."""

from __future__ import annotations

import io

import numpy as np
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, vstack

from halopy.errors import HaloInputError

__all__ = ["joined_sources", "stack_sources", "table_hdu", "table_of"]


def joined_sources(sets):
    """Return ``{"sources": the sources of all sets}``, or nothing where none has any."""
    tables, before, earlier = [], 0, []
    sets = list(sets)
    if all(cutouts.meta.get("sources") is None for cutouts in sets):
        return {}
    for cutouts in sets:
        own, known = _names(cutouts), set()
        for other, others in earlier:
            shared = own & others
            one, two = (_fluxes(of, shared) for of in (other, cutouts))
            if one != two:
                raise HaloInputError("a name must stand for the same sources in all sets that are joined",
                                     found=next(name for name in sorted(shared) if one[name] != two[name]),
                                     hint="other names in cutouts.table['name'] before the injection")
            known |= shared
        earlier.append((cutouts, own))
        sources = cutouts.meta.get("sources")
        if sources is not None and len(cutouts):
            sources = QTable(sources, copy=True)
            names = cutouts.table["name"] if "name" in cutouts.table.colnames else []
            if "name" in sources.colnames and np.isin(names, sources["name"]).any():
                # Rows may have been selected since: the names say where a source belongs now.
                names, first = np.unique(np.asarray(names).astype(str), return_index=True)
                own = np.asarray(sources["name"]).astype(str)
                at = np.minimum(np.searchsorted(names, own), len(names) - 1)
                sources["cutout"] = first[at]
                # Of a cutout that is in another set, too, the sources are there already.
                sources = sources[(names[at] == own) & ~np.isin(own, sorted(known))]
                sources = sources[np.argsort(sources["cutout"], kind="stable")]
            if "cutout" in sources.colnames:
                sources["cutout"] = sources["cutout"] + before
            tables.append(sources)
        before += len(cutouts)
    return {"sources": stack_sources(tables)} if tables else {}


def _names(cutouts):
    return set(np.asarray(cutouts.table["name"]).astype(str).tolist() if "name" in cutouts.table.colnames else ())


def _fluxes(cutouts, names):
    """What tells the sources of one cutout from those of another: their fluxes, in order, for each of the names."""
    found = {name: [] for name in names}
    sources = cutouts.meta.get("sources")
    if names and sources is not None and {"name", "flux"} <= set(sources.colnames):
        own = np.asarray(sources["name"]).astype(str)
        here = np.isin(own, sorted(names))
        for name, flux in zip(own[here].tolist(), np.asarray(sources["flux"])[here].tolist(), strict=True):
            found[name].append(flux)
    return found


def stack_sources(tables):
    """Return one table of the rows of all; what one of them lacks is NaN, empty text, 0 or False there."""
    joined = vstack(tables, metadata_conflicts="silent")
    for name in joined.colnames:
        if np.any(getattr(joined[name], "mask", False)) and isinstance(joined[name], np.ndarray):
            joined[name] = joined[name].filled({"f": np.nan, "U": ""}.get(joined[name].dtype.kind, 0))
    return joined


def table_hdu(table, name):
    """Return a table as an HDU, such that `table_of` gives it back as it was."""
    table = table.copy()
    table.meta = {}
    for column in table.colnames:
        values = table[column]
        if not isinstance(values, np.ndarray):
            continue
        masked = hasattr(values, "mask")
        if values.dtype.kind == "U":
            text = np.ma.filled(np.ma.asarray(values), "")
            if not all(value.isascii() for value in text.flat):
                text = np.strings.encode(text, "utf-8")  # FITS knows ASCII only; astropy reads UTF-8
                table[column] = MaskedColumn(text, mask=values.mask) if masked else text
        if masked:
            # A mask of its own: NaN and empty text are values, and shall not come back as missing.
            table[column].info.serialize_method["fits"] = "data_mask"
    buffer = io.BytesIO()
    table.write(buffer, format="fits")
    hdu = fits.open(io.BytesIO(buffer.getvalue()))[1]
    hdu.name = name
    return hdu


def table_of(hdu):
    """Return the QTable in an HDU that `CutoutSet.write` wrote, as it was: text as text, NaN as NaN."""
    table = QTable.read(hdu, mask_invalid=False)
    table.meta = {}
    for name in table.colnames:
        values = table[name]
        if isinstance(values, np.ndarray) and values.dtype.kind == "S":
            text = np.strings.decode(np.ma.getdata(values), "utf-8")
            table[name] = MaskedColumn(text, mask=values.mask) if hasattr(values, "mask") else text
        elif isinstance(values, np.ndarray) and not values.dtype.isnative:
            table[name] = values.astype(values.dtype.newbyteorder("="))
    return table
