"""Sources added to images, real or simulated, at given or random places."""

from __future__ import annotations

import hashlib

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.image import ClusterImage
from halopy.simulate.truth import EMPTY, truth_columns
from halopy.tables import stack_sources

__all__ = ["DIFFUSE", "diffuse_part", "inject"]

DIFFUSE = ("halo", "mini-halo", "relic", "phoenix", "orc")
"""The classes of the diffuse part of an image."""
UNITS = {"flux": u.Jy, "r_e": u.arcsec, "length": u.arcsec, "pa": u.deg, "east": u.arcsec, "north": u.arcsec}
"""Of columns without one."""


def inject(image, sources, *, rng=None):
    """Add sources to an image or to cutouts, as its telescope would see them.

    Every source is convolved with the image's beam; its flux is kept. What is added to a real image
    stands on that image's own noise, artefacts and neighbours: training sets of such cutouts are
    honest, and a selection function is the fraction of them that is found again.

    Parameters
    ----------
    image : ClusterImage or CutoutSet
        In Jy/beam or a unit that converts to it, with a beam. Cutouts need the columns
        ``beam_major``, ``beam_minor``, ``beam_pa`` and ``pixel_scale``.
    sources : `~astropy.table.QTable`
        A row a source: ``flux`` (at the image's frequency), and what its shape asks for: ``class``
        (default: ``halo``), ``r_e`` or ``length``, ``axis_ratio``, ``pa``, ``substructure``,
        ``seed``; see `scenes`, whose tables fit. Columns without a unit are in Jy, arcsec and
        degrees.

        Into an image they go at the column ``position``, or, without one, at random places that hold
        data: one place for all rows of a value of ``cutout``, at their offsets ``east`` and
        ``north``. Into cutouts they go at these offsets from the centre of the cutout whose number
        is ``cutout`` (default: row by row), or whose ``name`` both tables have.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator of the random places.

    Returns
    -------
    ClusterImage or CutoutSet
        The same type. ``meta["sources"]`` holds the sources, in an image with their ``position``,
        after those that it held before.
        Pixels without data stay without, and an rms map is not touched. Cutouts with one row marked
        ``main`` each (`scenes`) gain their truth as columns: ``label``, ``flux``, ``r_e``, ``snr``
        and so on, as in `cutouts`. Their ``name`` is what finds a cutout's sources again after rows
        are selected: cutouts without one get it.

    Notes
    -----
    In an image, position angles count from the north of the frame of ``position``, at the source: far
    from the image's centre that is not the centre's north.

    Offsets and position angles in cutouts count from the pixel axes, with +y for north: for a
    random scene that makes no difference, for a source at a given place cut the image after the
    injection.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from halopy import simulate
    >>> image, _ = simulate.field((200, 200), clusters=0, rng=1)
    >>> halo = QTable({"flux": [100] * u.mJy, "r_e": [60] * u.arcsec, "position": image.wcs.pixel_to_world([99], [99])})
    >>> added = simulate.inject(image, halo).data - image.data
    >>> print(f"{np.nansum(added) / image.beam_area * 1000:.1f} mJy")
    100.0 mJy
    """
    if not isinstance(sources, Table) or "flux" not in sources.colnames:
        raise HaloInputError("sources must be a QTable with a column 'flux'",
                             found=getattr(sources, "colnames", type(sources).__name__))
    sources = QTable(sources, copy=True)
    if "class" not in sources.colnames:
        sources["class"] = np.full(len(sources), "halo")
    for name, unit in UNITS.items():
        if name in sources.colnames and getattr(sources[name], "unit", None) is None:
            sources[name] = sources[name] * unit
    rng = np.random.default_rng(rng)
    if isinstance(image, ClusterImage):
        return _into_image(image, sources, rng)
    if isinstance(image, CutoutSet):
        return _into_cutouts(image, sources)
    raise HaloInputError("inject takes a ClusterImage or a CutoutSet", found=type(image).__name__)


def diffuse_part(image, sources=None):
    """Return the diffuse sources alone, as the telescope sees them: no noise, no compact sources.

    Parameters
    ----------
    image : ClusterImage or CutoutSet
        Simulated, or injected into.
    sources : `~astropy.table.QTable`, optional
        Default: ``image.meta["sources"]``.

    Returns
    -------
    ClusterImage or CutoutSet
        The same type, with the halos, mini-halos, relics, phoenixes and rings of ``sources``.

    Examples
    --------
    >>> from halopy import simulate
    >>> cutouts = simulate.cutouts(4, mix={"halo": 1}, rng=1)
    >>> halos = simulate.diffuse_part(cutouts)
    >>> halos.shape
    (4, 64, 64)
    """
    sources = image.meta.get("sources") if sources is None else sources
    if sources is None:
        raise HaloInputError("the diffuse part of an image needs its sources", found=list(image.meta),
                             hint="diffuse_part(image, sources)")
    if isinstance(image, CutoutSet) and "augmented_from" in image.table.colnames:
        raise HaloInputError("augmented cutouts are turned, mirrored or enlarged: their sources no longer fit",
                             hint="diffuse_part before the Augmenter")
    empty = np.where(np.isfinite(image.data), np.float32(0), np.float32(np.nan))
    kept = {"meta": {k: v for k, v in image.meta.items() if k != "sources"}}
    if isinstance(image, CutoutSet):
        sources = _kept(sources, *_rows(image, sources))
    part = inject(image.replace(data=empty, **kept), sources[np.isin(np.asarray(sources["class"]), DIFFUSE)])
    # What the table says about the whole scene stays true.
    return part.replace(table=image.table) if isinstance(image, CutoutSet) else part


def _into_image(image, sources, rng):
    from halopy.simulate.paint import paint_components
    from halopy.simulate.shapes import components

    if image.beam is None:
        raise HaloInputError("injecting sources needs the beam", path=image.meta.get("path"),
                             hint="read the image with beam=Beam(...) or survey=...")
    factor = _factor(image)
    if "position" not in sources.colnames:
        if {"ra", "dec"} <= set(sources.colnames):
            raise HaloInputError("sources have their places in a column 'position'", found="ra and dec",
                                 hint="sources['position'] = SkyCoord(sources['ra'], sources['dec'])")
        sources["position"] = _places(image, sources, rng)
    nowhere = ~np.isfinite(sources["position"].spherical.lon.deg + sources["position"].spherical.lat.deg)
    if nowhere.any():
        raise HaloInputError(f"row {np.argmax(nowhere)}: a source to be injected needs a position",
                             found=f"{nowhere.sum()} without")
    x, y = image.wcs.world_to_pixel(sources["position"])
    shown = np.isfinite(x) & np.isfinite(y) & ~np.isin(np.asarray(sources["class"]), EMPTY)
    model = np.zeros((1, *image.shape), np.float32)
    parts = _turned(components(sources[shown]), image, sources["position"][shown], x[shown], y[shown])
    paint_components(model, parts, x[shown], y[shown], np.zeros(shown.sum(), int),
                     image.pixel_beam.covariance(image.pixel_scale), jacobian=image.pixels_per_sky)
    return image.replace(data=image.data + factor * model[0], meta=_with(image.meta, sources))


def _turned(parts, image, positions, x, y):
    """Turn Gaussians, as the painter knows one north for the whole image: that of its centre."""
    positions, step = SkyCoord(positions), image.pixel_scale
    ahead, none = np.full(len(x), step.value) * step.unit, np.zeros(len(x)) * step.unit
    local = [np.stack(image.wcs.world_to_pixel(positions.spherical_offsets_by(*offset))) - (x, y)
             for offset in ((ahead, none), (none, ahead))]
    turn = np.linalg.inv(image.pixels_per_sky) @ np.stack(local, axis=-1).transpose(1, 0, 2) / step.to_value(u.arcsec)
    # At the border of the sky a neighbour may have no pixel.
    turn = np.where(np.isfinite(turn).all(axis=(1, 2), keepdims=True), turn, np.eye(2))[parts["source"]]
    east, north, cee, cen, cnn = (parts[name] for name in ("east", "north", "cee", "cen", "cnn"))
    offset = (turn @ np.stack([east, north], axis=-1)[..., None])[..., 0]
    covariance = turn @ np.stack([cee, cen, cen, cnn], axis=-1).reshape(-1, 2, 2) @ turn.transpose(0, 2, 1)
    turned = parts.copy()
    turned["east"], turned["north"] = offset.T
    turned["cee"], turned["cen"], turned["cnn"] = (covariance[:, i, j] for i, j in ((0, 0), (0, 1), (1, 1)))
    return turned


def _places(image, sources, rng):
    """A random place that holds data for each scene, and the positions of its sources about it."""
    y, x = np.nonzero(image.valid)
    if not y.size:
        raise HaloInputError("there is no pixel with data to inject at", path=image.meta.get("path"))
    scene = np.asarray(sources["cutout"]) if "cutout" in sources.colnames else np.arange(len(sources))
    scenes, number = np.unique(scene, return_inverse=True)
    chosen = rng.integers(0, y.size, scenes.size)
    x, y = (axis[chosen] + rng.uniform(-0.5, 0.5, scenes.size) for axis in (x, y))
    centre = SkyCoord(image.wcs.pixel_to_world(x, y)[number])
    return centre.spherical_offsets_by(*(_offset(sources, name) for name in ("east", "north")))


def _into_cutouts(cutouts, sources):
    from halopy.simulate.paint import paint_components
    from halopy.simulate.shapes import components

    if "position" in sources.colnames:
        raise HaloInputError("sources go into cutouts at offsets from their centres, not at positions",
                             found=sources.colnames, hint="inject into the image, then cut it")
    n = len(cutouts)
    for name in ("east", "north"):
        sources[name] = _offset(sources, name)
    index, row = _rows(cutouts, sources)
    if len(sources) and not len(index) and n:
        raise HaloInputError("none of the sources has the name of a cutout", found=str(sources["name"][0]),
                             hint="without the column 'name' they go by the column 'cutout', or row by row")
    kept, sources = _kept(sources, index, row), sources[index]
    covariance, scale = _beams(cutouts)
    x = (cutouts.shape[2] - 1) / 2 - _offset(sources, "east").to_value(u.arcsec) / scale[row]
    y = (cutouts.shape[1] - 1) / 2 + _offset(sources, "north").to_value(u.arcsec) / scale[row]
    drawn = ~np.isin(np.asarray(sources["class"]), EMPTY)
    parts = components(sources[drawn])
    parts["source"] = np.flatnonzero(drawn)[parts["source"]]
    main = np.asarray(sources["main"], dtype=bool) if "main" in sources.colnames else np.zeros(len(sources), bool)
    model = np.zeros(cutouts.shape, np.float32)
    first = main[parts["source"]]
    paint_components(model, parts[first], x, y, row, covariance, scale)
    peak = model.max(axis=(1, 2)) if n else np.zeros(0)
    paint_components(model, parts[~first], x, y, row, covariance, scale)
    factor = _factor(cutouts)
    table = cutouts.table
    if main.any() and np.array_equal(row[main], np.arange(n)):
        table = table.copy()
        fwhm = np.sqrt(u.Quantity(table["beam_major"]) * u.Quantity(table["beam_minor"])).to_value(u.arcsec)
        for name, values in truth_columns(sources, parts, row, fwhm).items():
            table[name] = values
        if "rms" in table.colnames:
            table["snr"] = peak * factor / u.Quantity(table["rms"], cutouts.unit).to_value(cutouts.unit)
    data = cutouts.data + factor * model
    if "name" not in table.colnames and cutouts.meta.get("sources") is None:
        table = table.copy()
        # Of the pixels and their place: the same input, the same names.
        table["name"] = np.array([f"inj-{hashlib.sha256(pixels.tobytes() + str(i).encode()).hexdigest()[:12]}"
                                  for i, pixels in enumerate(data)], dtype="U16")
    # Names that are there twice say nothing, unless the sources came by them.
    if "name" in table.colnames and ("name" in sources.colnames or len(np.unique(table["name"])) == n):
        kept["name"] = np.asarray(table["name"]).astype(str)[kept["cutout"]]
    return cutouts.replace(data=data, table=table, meta=_with(cutouts.meta, kept))


def _with(meta, sources):
    """Return ``meta`` with sources, after those that were there."""
    before = meta.get("sources")
    if before is not None and "position" in before.colnames and len(before):
        sources = _in_frame(sources, SkyCoord(before["position"]))
    return meta | {"sources": sources if before is None else stack_sources([before, sources])}


def _in_frame(sources, other):
    """Return sources with positions in the frame of other ones, and their angles from its north."""
    position = SkyCoord(sources["position"])
    if position.is_equivalent_frame(other):
        return sources
    moved = position.transform_to(other)
    turn = moved.position_angle(position.directional_offset_by(0 * u.deg, 1 * u.arcsec).transform_to(other))
    sources = QTable(sources, copy=True)
    sources["position"] = moved
    sources["pa"] = (sources["pa"] if "pa" in sources.colnames else 0 * u.deg) + turn
    return sources


def _rows(cutouts, sources):
    """Which sources lie in these cutouts, and in which; in the order of the cutouts."""
    n = len(cutouts)
    if "name" in sources.colnames and "name" in cutouts.table.colnames:
        # A selection may hold a cutout more than once, or not at all.
        names = np.asarray(cutouts.table["name"]).astype(str)
        order = np.argsort(names, kind="stable")
        wanted = np.asarray(sources["name"]).astype(str)
        first, last = (np.searchsorted(names[order], wanted, side) for side in ("left", "right"))
        index = np.repeat(np.arange(len(sources)), last - first)
        row = order[np.arange(len(index)) + np.repeat(last - np.cumsum(last - first), last - first)]
    elif "cutout" not in sources.colnames:
        if len(sources) != n:
            raise HaloInputError("without a column 'cutout' the sources must have a row for each cutout",
                                 found=f"{len(sources)} sources, {n} cutouts")
        index, row = np.arange(n), np.arange(n)
    else:
        index, row = np.arange(len(sources)), np.asarray(sources["cutout"])
        if row.dtype.kind not in "iu" or (row.size and not (row.min() >= 0 and row.max() < n)):
            raise HaloInputError(f"the column 'cutout' must number the cutouts, 0 to {n - 1}",
                                 found=f"{row.min()} to {row.max()}")
    order = np.argsort(row, kind="stable")
    return index[order], row[order]


def _kept(sources, index, row):
    """The sources that lie in cutouts, once each, with the number of one."""
    index, first = np.unique(index, return_index=True)
    sources = sources[index]
    sources["cutout"] = row[first]
    return sources


def _beams(cutouts):
    """The beam's covariance in square pixels ``(n, 2, 2)``, and the pixel scale in arcsec ``(n,)``."""
    from halopy.preprocess.subtract import beam_groups

    covariance, scale = np.zeros((len(cutouts), 2, 2)), np.zeros(len(cutouts))
    for beam, pixel_scale, rows in beam_groups(cutouts):
        covariance[rows], scale[rows] = beam.covariance(pixel_scale), pixel_scale.to_value(u.arcsec)
    return covariance, scale


def _offset(sources, name):
    return u.Quantity(sources[name]) if name in sources.colnames else np.zeros(len(sources)) * u.arcsec


def _factor(image):
    """What 1 Jy/beam is in the image's unit."""
    try:
        return np.float32((1 * u.Jy / u.beam).to_value(image.unit))
    except u.UnitConversionError as error:
        raise HaloInputError("sources go into images in Jy/beam", found=str(image.unit),
                             hint="halopy.preprocess.units.in_jansky_per_beam(image)") from error
