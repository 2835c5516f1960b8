"""Tables of detections on disk: ECSV, VOTable, FITS and DS9 regions."""

from __future__ import annotations

import importlib.metadata
import unicodedata
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.utils.masked import Masked

from halopy.cutouts import write_atomically
from halopy.errors import HaloInputError
from halopy.io.candidates import centres, numbers, plain, printable, strength, texts
from halopy.io.guard import check_fits
from halopy.io.local import open_plain
from halopy.own_fits import with_checksums

__all__ = ["COLUMNS", "blank_detections", "masked_column", "read_detections", "write_detections"]

COLUMNS = {
    "name": (str, None, "Name of the target", "meta.id;meta.main"),
    "ra": (float, u.deg, "Right ascension, ICRS", "pos.eq.ra;meta.main"),
    "dec": (float, u.deg, "Declination, ICRS", "pos.eq.dec;meta.main"),
    "label": (str, None, "What the target is known to be", "src.class"),
    "redshift": (float, None, "Redshift of the target", "src.redshift"),
    "m500": (float, u.solMass, "Mass within r500", "phys.mass"),
    "image": (str, None, "Name of the image", "meta.id;obs.image"),
    "probability": (float, None, "Probability that a halo is there, by the classifier", "stat.probability"),
    "p_value": (float, None, "Fraction of control positions that score at least as high, (b + 1)/(n + 1)",
                "stat.probability"),
    "n_controls": (int, None, "Number of control positions behind p_value", "meta.number"),
    "snr": (float, None, "Signal-to-noise ratio of the extended emission", "stat.snr"),
    "rms": (float, u.Jy / u.beam, "Local noise of the image", "stat.stdev;phot.flux.density"),
    "rms_method": (str, None, "How the noise was estimated", "meta.note"),
    "flux": (float, u.mJy, "Flux density of the extended emission within 3 r_e", "phot.flux.density;em.radio"),
    "flux_err": (float, u.mJy, "Uncertainty of flux", "stat.error;phot.flux.density;em.radio"),
    "r_e": (float, u.arcsec, "e-folding radius of the extended emission", "phys.angSize"),
    "offset_east": (float, u.arcsec, "From the target to the centre of the extended emission, east", "pos.angDistance"),
    "offset_north": (float, u.arcsec, "From the target to the centre of the extended emission, north",
                     "pos.angDistance"),
    "coverage": (float, None, "Fraction of the cutout that holds data", "stat.value;arith.ratio"),
    "compact_flux": (float, u.mJy, "Flux density of the compact sources removed within 3 r_e",
                     "phot.flux.density;em.radio"),
    "compact_flux_err": (float, u.mJy, "Uncertainty of compact_flux", "stat.error;phot.flux.density;em.radio"),
    "frequency": (float, u.MHz, "Centre of the band", "em.freq"),
    "status": (str, None, "ok, or why there is no result: outside, unusable, error", "meta.code.status"),
    "flags": (str, None, "What a user of the numbers has to know, space-separated", "meta.code.qual"),
}
"""Columns on disk: type, unit, description and UCD. In memory ``position`` stands for ``ra`` and ``dec``."""

_OPTIONAL = ("label", "redshift", "m500")
# Near those of the page's maps, of the eight that DS9 and CARTA know.
_COLOURS = {"strong": "red", "possible": "yellow", "weak": "blue", "unscored": "magenta"}


def blank_detections(name, position, *, image="", status="outside"):
    """Return a table of detections whose measured columns are all masked.

    Parameters
    ----------
    name : sequence of str
        ``(n,)`` names; may be empty.
    position : `~astropy.coordinates.SkyCoord`
        ``(n,)`` positions; NaN where there is none.
    image, status : str, optional
        The same for every row.

    Returns
    -------
    `~astropy.table.QTable`
        ``n`` rows with every column of `COLUMNS` but the optional ``label``, ``redshift``, ``m500``.

    Examples
    --------
    >>> from astropy.coordinates import SkyCoord
    >>> from halopy.io.detections import blank_detections
    >>> table = blank_detections(["A1"], SkyCoord([10], [-20], unit="deg"))
    >>> print(table["status"][0], table["flux"].unit)
    outside mJy
    """
    n = len(name)
    table = Table({"name": np.array(list(name), dtype=str)})
    for column, (kind, unit, description, _) in COLUMNS.items():
        if column in ("name", "ra", "dec", *_OPTIONAL):
            continue
        if kind is str:
            value = {"image": image, "status": status}.get(column, "")
            table[column] = Column(np.full(n, value, dtype=f"U{max(len(value), 1)}"), description=description)
        else:
            table[column] = MaskedColumn(np.full(n, np.nan if kind is float else 0, dtype=kind), unit=unit,
                                         mask=np.ones(n, dtype=bool), description=description)
    table = QTable(table)
    table.add_column(position.icrs, name="position", index=1)
    return table


def masked_column(name, values, usable):
    """Return a measured column of `COLUMNS` with its type, unit and description.

    Parameters
    ----------
    name : str
        One of `COLUMNS`.
    values : array-like or `~astropy.units.Quantity`
        ``(n,)``, in a unit that converts to the column's.
    usable : array-like
        ``(n,)`` bool; what is not usable or not finite is masked.

    Returns
    -------
    `~astropy.table.MaskedColumn` or `~astropy.utils.masked.Masked`

    Examples
    --------
    >>> from astropy import units as u
    >>> from halopy.io.detections import masked_column
    >>> masked_column("flux", [0.1, 0.2] * u.Jy, [True, False])
    <MaskedQuantity [100.,   ———] mJy>
    """
    kind, unit, description, _ = COLUMNS[name]
    if unit is None:
        values = np.asarray(values, dtype=kind)
        return MaskedColumn(values, mask=~(np.isfinite(values) & usable), description=description)
    values = u.Quantity(values).to(unit)
    column = Masked(values, mask=~(np.isfinite(values.value) & usable))
    column.info.description = description
    return column


def write_detections(detections, folder, *, overwrite=True):
    """Write detections as ``detections.ecsv``, ``.vot``, ``.fits`` and ``.reg`` (DS9).

    Each file appears under its name only when it is complete. What is unknown is masked (ECSV,
    VOTable), NaN (FITS) or empty text. FITS tables hold ASCII only: other letters are replaced there.

    Parameters
    ----------
    detections : `~astropy.table.QTable`
        With ``name`` and ``position``; further columns are kept.
    folder : path-like
        Made where it does not exist.
    overwrite : bool, optional
        Default True.

    Returns
    -------
    dict
        The path of each file, by its ending: ``ecsv``, ``vot``, ``fits``, ``reg``.

    Raises
    ------
    HaloInputError
        The folder cannot be made, a file exists or cannot be written.
    """
    folder = Path(folder)
    for name in ("name", "position"):
        if name not in detections.colnames:
            raise HaloInputError(f"detections need a column {name!r}", found=detections.colnames)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HaloInputError(f"cannot make this folder: {error.strerror}", path=folder) from error
    paths = {ending: folder / f"detections.{ending}" for ending in ("ecsv", "vot", "fits", "reg")}
    for path in paths.values():
        if path.exists() and not overwrite:
            raise HaloInputError("this file exists", path=path, hint="overwrite=True, or another folder")
    flat = _flatten(detections)
    write_atomically(paths["ecsv"], lambda path: flat.write(path, format="ascii.ecsv", overwrite=True))
    write_atomically(paths["vot"], lambda path: _votable(flat).to_xml(path))
    write_atomically(paths["fits"], lambda path: with_checksums(_hdus(flat)).writeto(path))
    regions = _regions(detections)
    write_atomically(paths["reg"], lambda path: Path(path).write_text(regions, encoding="utf-8"))
    return paths


def read_detections(path):
    """Read what `write_detections` wrote: ``.ecsv``, ``.vot`` or ``.fits``.

    Returns
    -------
    `~astropy.table.QTable`
        With ``position`` (`~astropy.coordinates.SkyCoord`) in place of ``ra`` and ``dec``.

    Raises
    ------
    HaloInputError
        The ending is another, or the file cannot be read.
    """
    path = Path(path)
    formats = {".ecsv": "ascii.ecsv", ".vot": "votable", ".fits": "fits"}
    if path.suffix.lower() not in formats:
        raise HaloInputError("detections are read from .ecsv, .vot or .fits", path=path, found=path.suffix)
    try:
        if path.suffix.lower() == ".fits":
            check_fits(path)
        with open_plain(path) as (_, stream, _):
            kind = formats[path.suffix.lower()]
            source = stream.read().decode("utf-8").splitlines() if kind == "ascii.ecsv" else stream
            flat = Table.read(source, format=kind)
        if not {"name", "ra", "dec"} <= set(flat.colnames):
            raise HaloInputError("this is no table of detections: name, ra and dec are needed", path=path,
                                 found=flat.colnames)
        position = SkyCoord(plain(flat["ra"]), plain(flat["dec"]), unit="deg", frame="icrs")
    except HaloInputError:
        raise
    except Exception as error:  # astropy answers a bad file with some fifteen kinds of exception
        raise HaloInputError(f"cannot read these detections: {error}", path=path) from error
    for name in flat.colnames:
        column = flat[name]
        if column.dtype.kind in "OSU":
            flat[name] = np.array([printable(v) for v in np.ma.filled(np.ma.asarray(column).astype(object), "")], str)
        elif column.dtype.kind == "f" and np.isnan(np.ma.filled(column, np.nan)).any():
            flat[name] = MaskedColumn(column, mask=np.isnan(np.ma.filled(column, np.nan)))
        flat[name].description = " ".join((column.description or _description(name)).split())
        flat[name].meta.clear()
    index = flat.colnames.index("ra")
    flat.remove_columns(["ra", "dec"])
    flat.meta = {k: v for k, v in flat.meta.items() if k.islower()}
    detections = QTable(flat)
    detections.add_column(position, name="position", index=index)
    return detections


def _description(name):
    return COLUMNS[name][2] if name in COLUMNS else ""


def _flatten(detections):
    """Return a plain Table with masked columns, units, descriptions and UCDs."""
    flat = Table()
    for name in detections.colnames:
        column = detections[name]
        if name == "position":
            for axis, values in (("ra", column.icrs.ra.deg), ("dec", column.icrs.dec.deg)):
                flat[axis] = _number(np.asarray(values, dtype=float), u.deg)
        elif isinstance(column, SkyCoord) or getattr(column, "ndim", 1) != 1:
            continue
        elif not isinstance(column, np.ndarray):  # times
            flat[name] = np.array([printable(value) for value in column], dtype=str)
        elif column.dtype.kind == "f":
            values, unit = plain(column), getattr(column, "unit", None)
            wanted = COLUMNS.get(name, (None, None))[1]
            if unit is not None and wanted is not None and unit.is_equivalent(wanted):
                values, unit = values * unit.to(wanted), wanted
            flat[name] = _number(values, unit if _writable(unit) else None)
        elif column.dtype.kind in "iub":
            values = np.ma.asarray(column)
            flat[name] = MaskedColumn(values, dtype=bool if column.dtype.kind == "b" else np.int64)
        else:
            flat[name] = np.array(texts(detections, name), dtype=str)
    for name in flat.colnames:
        own = detections[name].info.description if name in detections.colnames else None
        flat[name].description = own or _description(name) or f"Column {name} of the targets"
        if name in COLUMNS:
            flat[name].meta["ucd"] = COLUMNS[name][3]
    flat.meta = {str(k): v for k, v in detections.meta.items() if isinstance(v, (str, int, float))}
    flat.meta["halopy"] = importlib.metadata.version("halopy-radio")
    return flat


def _writable(unit):
    try:
        return unit is not None and bool(unit.to_string("vounit") and unit.to_string("fits"))
    except ValueError:  # units of magnitudes, or of a user's own
        return False


def _number(values, unit):
    # Plain numbers where nothing is missing: a column without masked rows reads back as one.
    missing = np.isnan(values)
    return MaskedColumn(values, mask=missing, unit=unit) if missing.any() else Column(values, unit=unit)


def _votable(flat):
    from astropy.io.votable.exceptions import VOWarning
    from astropy.io.votable.tree import CooSys, Resource, TableElement, VOTableFile

    votable = VOTableFile(version="1.4")
    resource = Resource()
    votable.resources.append(resource)
    resource.coordinate_systems.append(CooSys(ID="icrs", system="ICRS"))
    bare = flat.copy()
    bare.meta = {}
    with warnings.catch_warnings(action="ignore", category=VOWarning):  # an ID has fewer letters than a name
        table = TableElement.from_table(votable, bare)
    table.name = "detections"
    table.description = "Radio halo candidates; " + "; ".join(
        f"{k}: {printable(v)}" for k, v in flat.meta.items() if not isinstance(v, float))
    for field in table.fields:
        if field.name in ("ra", "dec"):
            field.ref = "icrs"
    resource.tables.append(table)
    return votable


def _hdus(flat):
    ascii_only = flat.copy()
    ascii_only.meta = {}
    for name in flat.colnames:
        if flat[name].dtype.kind == "U":
            ascii_only[name] = np.array([_ascii(v) for v in flat[name]], dtype=str)
            if not len(flat):
                ascii_only[name] = np.array([], dtype="U1")
    ascii_only.rename_columns(flat.colnames, _ascii_names(flat.colnames))
    table = fits.table_to_hdu(ascii_only)
    table.name = "DETECTIONS"
    for i, name in enumerate(flat.colnames, 1):
        table.header[f"TCOMM{i}"] = _ascii(flat[name].description)
        if "ucd" in flat[name].meta:
            table.header[f"TUCD{i}"] = flat[name].meta["ucd"]
    table.header["LONGSTRN"] = ("OGIP 1.0", "long texts are continued")
    table.header["RADESYS"] = "ICRS"
    table.header["CREATOR"] = f"halopy {flat.meta['halopy']}"
    return fits.HDUList([fits.PrimaryHDU(), table])


def _ascii_names(names):
    found = []
    for name in names:
        known, count = _ascii(name).replace("?", "_"), 1
        while known in found or (known != name and known in names):
            count += 1
            known = f"{_ascii(name).replace('?', '_')}_{count}"
        found.append(known)
    return found


def _ascii(text):
    letters = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return letters.encode("ascii", "replace").decode()


def _regions(detections):
    # regions.Regions writes the properties in another order in each process.
    radius = 3 * numbers(detections, "r_e", u.arcsec)
    lines = ["# Region file format: DS9 halopy", "icrs"]
    position = centres(detections)
    for name, ra, dec, r, kind in zip(texts(detections, "name"), position.ra.deg, position.dec.deg, radius,
                                      strength(detections), strict=True):
        if not (np.isfinite(ra) and np.isfinite(dec)):
            continue
        size = (r if np.isfinite(r) and r > 0 else 60) / 3600
        # Braces end a text and semicolons a region in DS9.
        text = name.translate(str.maketrans({"{": "(", "}": ")", ";": ",", "#": "no. "}))
        lines.append(f"circle({ra:.7f},{dec:.7f},{size:.7f}) "
                     f"# color={_COLOURS[kind]} width=2 text={{{text}}}")
    return "\n".join(lines) + "\n"
