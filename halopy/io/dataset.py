"""The labelled MWA set of arXiv 2411.15559: load it, judge it (`audit`), fetch it."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.image import Beam, ClusterImage
from halopy.io.audit import audit
from halopy.io.catalog import load_targets, sky_groups
from halopy.io.clip_level import find_clip
from halopy.io.dataset_fetch import fetch_mwa_halos
from halopy.io.mwa_names import find_mwa_files, target_key
from halopy.io.source_beam import measure_beam
from halopy.labels import classify
from halopy.survey import surveys

__all__ = ["audit", "fetch_mwa_halos", "load_mwa_halos"]

NEAR = 10 * u.arcmin
"""An image whose name no target bears belongs to the target within this of its centre."""

BESIDE = 0.5 * u.deg
"""An image whose middle is farther than this from its target shows other sky."""

SOURCE_SNR = 12
"""Sources that show the beam are this many times brighter than the noise."""

# Briggs robust 2 widens the MWA-2 beam up to 1.6 times (halopy.survey), each axis.
_WIDENING = 0.25


def load_mwa_halos(folder, *, bands=None, groups_within=1.5 * u.deg, progress=None):
    """Load the labelled MWA images, one `CutoutSet` a band, at their own size and pixels.

    Parameters
    ----------
    folder : path-like
        A checkout of ``mishraashu6566/Radio-Halos-Classification-with-MWA``, what `fetch_mwa_halos` made, or
        a folder with an ``index.csv`` that gives each file's place in the repository, see
        `halopy.io.mwa_names.find_mwa_files`.
    bands : str or sequence of str, optional
        The bands to load, by the names of their survey presets: ``"gleam-72-103"``, ``"gleam-103-134"``,
        ``"gleam-139-170"``, ``"gleam-170-231"`` (300 x 300 pixels), ``"mwa2-88"``, ``"mwa2-118"``,
        ``"mwa2-154"``, ``"mwa2-185"``, ``"mwa2-216"`` (200 x 200 pixels). Default: all that are there.
    groups_within : `~astropy.units.Quantity`, optional
        Radius of `halopy.io.catalog.sky_groups`, default 1.5°. The groups are of all targets of the set and
        of what else the folder shows, whichever bands are loaded, and so are the same in every band.
    progress : callable, optional
        Called with an iterable, of the files, and returning it, such as `tqdm.tqdm`.

    Returns
    -------
    dict of str to CutoutSet
        In Jy/beam, also where a header says mJy/beam, by band. An image smaller than the largest of its band is
        padded with NaN so that its target comes as near the middle as it can. ``wcs(row)`` is that of the image.
        Columns besides those of `CutoutSet`:

        - ``name`` of the target in `halopy.io.catalog.load_targets`, else as the file spells it; ``label``,
          ``also``, ``grade`` and ``conflict`` from there. ``position`` is the centre of the pixels, and
          ``offset`` its distance from the target's position (NaN where that is not known);
        - ``repository_class`` (1 halo, 0 none, -1 not said), ``split`` (``train``, ``test`` or empty) and
          ``path`` of the file in the repository. The MWA-2 files are all called ``…_Halo.fits``, those of
          class 0 in GLEAM too;
        - ``beam_major``, ``beam_minor``, ``beam_pa`` fitted to the compact sources of the image, where
          there are three or more; ``beam_source`` says so, or what stands in their place;
        - ``clip_level`` (Jy/beam), ``clip_sides``, ``zeros``, ``rms`` (Jy/beam) and ``rms_source``, see
          `halopy.io.clip_level.find_clip`;
        - ``band``, ``robust`` (Briggs, of MWA-2), ``header_lacks`` (of beam, unit and frequency).

    Raises
    ------
    HaloInputError
        No such folder, band or image; a file cannot be read (the message names it), or is not of its band.

    References
    ----------
    Mishra, Tolley, Krishna & Kneib, arXiv 2411.15559. The images are under the MIT licence.

    Examples
    --------
    >>> from halopy.io.dataset import load_mwa_halos
    >>> sets = load_mwa_halos("Radio-Halos-Classification-with-MWA")  # doctest: +SKIP
    >>> sets["gleam-170-231"].shape  # doctest: +SKIP
    (46, 300, 300)
    """
    files = find_mwa_files(folder, bands=bands)
    targets = load_targets()
    images = [_read(file) for file in (progress(files) if progress is not None else files)]
    rows = [_match(file, _middle(image), targets) for file, image in zip(files, images, strict=True)]
    groups = _groups(images, rows, targets, groups_within, _strangers(folder, files, targets))
    sets = {}
    for band in dict.fromkeys(file.band for file in files):
        here = [i for i, file in enumerate(files) if file.band == band]
        sets[band] = _set([files[i] for i in here], [images[i] for i in here], [rows[i] for i in here],
                          groups[here], targets)
    return sets


def _read(file):
    image = ClusterImage.read(file.path, survey=file.band, name=_stem(file))
    preset = surveys[file.band].pixel_scale
    if abs((image.pixel_scale / preset).to_value(u.one) - 1) > 0.05:
        raise HaloInputError(f"images of {file.band} have pixels of {preset.value:g} arcsec", path=file.path,
                             found=f"{image.pixel_scale.to_value(u.arcsec):.4g} arcsec")
    if not image.unit.is_equivalent(u.Jy / u.beam):
        raise HaloInputError("the images of the MWA set are in Jy/beam", path=file.path, found=str(image.unit))
    return image


def _stem(file):
    """The image's key: the band, and the file's name, which alone is not unique over the folders."""
    name = file.source.rsplit("/", 1)[-1]
    return name.removesuffix(".gz").removesuffix(".fits")


def _middle(image):
    ny, nx = image.shape
    return image.wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2).icrs


def _match(file, middle, targets):
    """Return the row of the target that an image shows, None where it is not among them."""
    keys = [target_key(name) for name in targets["name"]]
    key = target_key(file.target)
    if key in keys:
        return keys.index(key)
    distance = middle.separation(targets["position"])
    # MWA-2 files cut names short: psz1g287 for PSZ1 G287.95-32.98.
    begun = [i for i, k in enumerate(keys) if len(key) >= 6 and k.startswith(key) and distance[i] < BESIDE]
    if len(begun) == 1:
        return begun[0]
    nearest = int(np.argmin(distance))
    return nearest if distance[nearest] < NEAR else None


def _strangers(folder, files, targets):
    """Return the middles of the folder's further images that bear no target's name, and show none."""
    keys = {target_key(name) for name in targets["name"]}
    read = {file.path for file in files}
    further = [file for file in find_mwa_files(folder) if file.path not in read and target_key(file.target) not in keys]
    middles = [_middle(_read(file)) for file in further]
    return [m for file, m in zip(further, middles, strict=True) if _match(file, m, targets) is None]


def _groups(images, rows, targets, radius, others):
    """Groups of the images, among all targets and all other sky."""
    known, middles = targets["position"].icrs, [_middle(image) for image in images]
    unknown = [i for i, row in enumerate(rows) if row is None or middles[i].separation(known[row]) > BESIDE]
    others = [middles[i] for i in unknown] + others
    sky = SkyCoord([*known.ra.deg, *(p.ra.deg for p in others)], [*known.dec.deg, *(p.dec.deg for p in others)],
                   unit="deg")
    names = np.asarray(sky_groups(sky, radius))
    place = {image: len(targets) + k for k, image in enumerate(unknown)}
    return np.array([names[place.get(i, row)] for i, row in enumerate(rows)])


def _set(files, images, rows, groups, targets):
    shape = tuple(max(image.shape[axis] for image in images) for axis in (0, 1))
    data = np.full((len(images), *shape), np.nan, dtype=np.float32)
    keys = _unique([image.name for image in images])
    records, headers = [], {}
    for i, (file, image, row) in enumerate(zip(files, images, rows, strict=True)):
        position = None if row is None else targets["position"][row].icrs
        y0, x0 = _corner(image, shape, position)
        ny, nx = image.shape
        data[i, y0:y0 + ny, x0:x0 + nx] = image.unit.to(u.Jy / u.beam) * image.data
        headers[keys[i]] = image.wcs.to_header(relax=True).tostring(sep="\n", endcard=False, padding=False)
        centre = image.wcs.pixel_to_world((shape[1] - 1) / 2 - x0, (shape[0] - 1) / 2 - y0).icrs
        offset = np.nan if position is None else centre.separation(position).to_value(u.arcmin)
        records.append({"name": _spoken(file.target) if row is None else str(targets["name"][row]),
                        "image": keys[i], "x0": -x0, "y0": -y0, "ra": centre.ra.deg, "dec": centre.dec.deg,
                        "offset": offset} | _measured(file, image) | _labels(file, row, targets))
    table = QTable(rows=records)
    units = {"pixel_scale": u.arcsec, "beam_major": u.arcsec, "beam_minor": u.arcsec, "beam_pa": u.deg,
             "frequency": u.MHz, "rms": u.Jy / u.beam, "clip_level": u.Jy / u.beam, "offset": u.arcmin}
    for name, unit in units.items():
        table[name] = table[name] * unit
    table["group"] = groups
    table["coverage"] = np.isfinite(data).mean(axis=(1, 2))
    table.add_column(SkyCoord(table["ra"], table["dec"], unit="deg"), name="position", index=1)
    table.remove_columns(["ra", "dec"])
    return CutoutSet(data, table, unit=u.Jy / u.beam, meta={"wcs": headers})


def _unique(names):
    seen, unique = {}, []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _corner(image, shape, position):
    """Return where the image's pixel 0, 0 comes to lie, y and x: its target as near the middle as can be."""
    free = np.array(shape) - image.shape
    if position is None:
        return (int(n) for n in free // 2)
    x, y = image.wcs.world_to_pixel(position)
    wanted = (np.array(shape) - 1) / 2 - [float(y), float(x)]
    return (int(n) for n in np.clip(np.rint(np.where(np.isfinite(wanted), wanted, free / 2)), 0, free))


def _measured(file, image):
    factor = image.unit.to(u.Jy / u.beam)
    clip = find_clip(image.data)
    beam = _beam(file, image, clip)
    return {"pixel_scale": image.pixel_scale.to_value(u.arcsec),
            "beam_major": beam.major.to_value(u.arcsec), "beam_minor": beam.minor.to_value(u.arcsec),
            "beam_pa": beam.pa.to_value(u.deg), "beam_source": beam.source,
            "frequency": image.frequency.to_value(u.MHz), "band": file.band, "robust": file.robust,
            "clip_level": factor * clip.level, "clip_sides": clip.sides, "zeros": clip.zeros,
            "rms": factor * clip.rms, "rms_source": clip.rms_source,
            "header_lacks": " ".join(_lacking(image))}


def _lacking(image):
    return [word for word in ("beam", "unit", "frequency") if str(image.meta[f"{word}_source"]).startswith("survey")]


def _beam(file, image, clip):
    """The beam on the pixel grid: of the header, of the image's sources, else of the survey."""
    if not image.beam.source.startswith("survey"):
        return image.pixel_beam
    robust = 0.0 if np.isnan(file.robust) else file.robust
    scale = image.pixel_scale.to_value(u.arcsec)
    width = np.sqrt(image.beam.major * image.beam.minor).to_value(u.arcsec) / scale * (1 + _WIDENING * robust)
    found = measure_beam(image.data, width, floor=SOURCE_SNR * clip.rms) if clip.rms > 0 else None
    if found is not None:
        major, minor, pa, n = found
        return Beam(major * scale * u.arcsec, minor * scale * u.arcsec, pa * u.deg, f"{n} sources of the image")
    if file.beam is not None:
        return Beam(*(width * u.arcsec for width in file.beam), image.pixel_beam.pa,
                    "the folder's index, angle of the survey")
    robust = f", which is for robust 0, not {robust:g}" if robust else ""
    return Beam(image.pixel_beam.major, image.pixel_beam.minor, image.pixel_beam.pa, image.beam.source + robust)


def _labels(file, row, targets):
    own = {"repository_class": file.repository_class, "split": file.split, "path": file.source}
    if row is None:
        # Not among the 46: the name says "Halo" of whatever is diffuse.
        label, also, grade = classify(file.described) if file.described else ("other", "", "uncertain")
        return {"label": label, "also": also, "grade": grade, "conflict": ""} | own
    return {name: str(targets[name][row]) for name in ("label", "also", "grade", "conflict")} | own


def _spoken(name):
    """Abell S0112 for abells0112; any other name as it is."""
    key = target_key(name)
    if key.startswith("abell") and key[5:].lstrip("s").isdigit():
        return f"Abell {key[5:].upper()}"
    return name
