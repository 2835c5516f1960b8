"""Run a detector over many images and one list of targets."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
import warnings
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import QTable, vstack

from halopy.errors import HaloInputError, HalopyWarning, NotFittedError, PluginError, UnknownModelError
from halopy.io.candidates import printable, ranking, texts
from halopy.io.detections import COLUMNS, blank_detections
from halopy.preprocess.project import SkyToPixel
from halopy.preprocess.shrink import shrink
from halopy.scan_parts import Part, Parts, apart

__all__ = ["Scan", "one_line", "scan"]

LONGEST = 1e6
"""Seconds that an image may be given: some systems wait for no longer than 25 days."""


@dataclasses.dataclass
class Scan:
    """What `scan` found.

    Parameters
    ----------
    detections : `~astropy.table.QTable`
        One row per image and covered target, and one per target or image without a result.
    images : list of ClusterImage
        The images that could be read, averaged down for drawing; those of which no map is drawn have one pixel, with
        the median of their noise.
    cutouts, residuals, explanations : list
        One entry per row: a CutoutSet of one row, or None; there are some for the best rows of all only. Explanations
        are what speaks for a halo, in logits.
    failures : list of str
        What went wrong, one line each.
    significance : list of ClusterImage
        Of a blind search: the significance map of each image.
    """

    detections: QTable
    images: list
    cutouts: list
    residuals: list
    failures: list
    significance: list = dataclasses.field(default_factory=list)
    explanations: list = dataclasses.field(default_factory=list)

    def __repr__(self):
        return f"<Scan of {len(self.images)} images, {len(self.detections)} rows, {len(self.failures)} failures>"


def scan(paths, detector, *, read, targets=None, max_pictures=200, max_maps=12, parts=None, time_limit=None,
         progress=None, rng=None):
    """Run a detector over many images.

    Each image is searched at the targets that lie inside it, with the same ``rng``: its results do
    not depend on the other images. An image that fails gives one row with the status ``error`` and
    does not stop the others; the failure of a single image is raised. A target that no image covers
    gives one row with the status ``outside``, one without a position (NaN) a row with ``error``.

    Parameters
    ----------
    paths : sequence of path-like
        The images.
    detector : Detector
        Called as ``detector(image, targets, rng=rng)``; anything with its methods will do.
    read : callable
        Called with a path, returns a ClusterImage; for example ``ClusterImage.read``.
    targets : `~astropy.table.QTable`, optional
        With ``name`` and ``position``; None: each image is searched blindly.
    max_pictures : int, optional
        Cutouts are kept, and the classifier is asked what speaks for a halo, in so many of the best rows, default
        200: those of which `halopy.report.write_page` draws pictures.
    max_maps : int, optional
        So many images are kept to be drawn, default 12.
    parts : Parts, optional
        Where the results of each image are kept until all are done, and taken from if they are there.
    time_limit : float, optional
        Seconds after which an image is given up. Each image is searched in a process of its own then, which may also
        die without harm to the others (Linux and other systems with ``fork``).
    progress : callable, optional
        Called with an iterable and returning it, such as `tqdm.tqdm`.
    rng : int, optional
        Seed.

    Returns
    -------
    Scan

    Raises
    ------
    HaloInputError
        There is nothing to search; the results of an image cannot be kept.

    Warns
    -----
    HalopyWarning
        No target lies in an image; an image without a result, and why; one unlike those that the classifier was
        trained on; a picture that cannot be made.
    """
    paths = list(paths)
    if not paths or (targets is not None and len(targets) == 0):
        raise HaloInputError("a search needs at least one image, and a list of targets that is not empty",
                             hint="no targets at all: a blind search")
    if time_limit is not None:
        if not 0 < time_limit <= LONGEST:
            raise HaloInputError(f"time_limit must be a positive number of seconds, up to {LONGEST:.0f}",
                                 found=time_limit)
        if parts is None:
            with tempfile.TemporaryDirectory() as folder:
                return scan(paths, detector, read=read, targets=targets, max_pictures=max_pictures, max_maps=max_maps,
                            parts=Parts(folder), time_limit=time_limit, progress=progress, rng=rng)
        # Or each process would load and compile for itself. What fails here fails there, and is told then.
        with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
            detector.warm_up()
    tables, pictures, images, failures, maps, reasons, names = [], [], [], [], [], [], set()
    covered = np.zeros(0 if targets is None else len(targets), dtype=bool)
    for number, path in enumerate(progress(paths) if progress is not None else paths):
        search = functools.partial(_search, path, detector, read, targets, names, max_pictures, rng)
        part = _part(search, path, number, parts, time_limit, names, alone=len(paths) == 1)
        if part.failure is not None:
            failures.append(part.failure)
            name = _unused(printable(Path(path).name), names)
            names.add(name)
            tables.append(blank_detections([name], SkyCoord([np.nan], [np.nan], unit="deg"), image=name,
                                           status="error"))
            pictures.append((None, None))
            continue
        names.add(part.name)
        if part.rows is not None:
            covered[part.rows] = True
        if part.table is not None:
            for column in part.carried:
                part.table[column] = targets[column][part.rows]
            tables.append(part.table)
            shown = {row: k for k, row in enumerate(part.best)}
            pictures += [tuple(None if kept is None or row not in shown else kept[shown[row]]
                               for kept in (part.cutouts, part.residuals)) for row in range(len(part.table))]
            if sum(pair[0] is not None for pair in pictures) > 2 * max_pictures:
                tables = [_stack(tables)]
                pictures = _of_the_best(pictures, tables[0], max_pictures)
        if part.significance is not None:
            maps.append(part.significance)
        if part.reason is not None:
            reasons.append(part.reason)
        images.append(part.image if len(images) < max_maps else _one_pixel(part.image))
    if not covered.all():
        missing = targets[~covered]
        if images and not covered.any() and (known := int(_known(missing["position"]).sum())):
            warnings.warn(f"none of {known} targets lies in an image: are their positions in degrees?", HalopyWarning,
                          stacklevel=2)
        table = blank_detections(missing["name"], missing["position"], status="outside")
        table["status"] = np.where(_known(missing["position"]), "outside", "error")
        for column in missing.colnames:
            if column not in table.colnames:
                table[column] = missing[column]
        tables.append(table)
        pictures += [(None, None)] * len(missing)
    detections = _stack(tables)
    if reasons:
        detections.meta["error"] = "; ".join(reasons)
    pictures = _of_the_best(pictures, detections, max_pictures)
    cutouts = [c for c, _ in pictures]
    explanations = _explanations(detector, detections, cutouts)
    return Scan(detections, images, cutouts, [r for _, r in pictures], failures, maps, explanations)


def _part(search, path, number, parts, time_limit, names, *, alone):
    """Take what is known of an image, or search it."""
    keep = parts is not None and not alone
    part = parts.read(number) if keep else None
    # Another image has the name by now where one failed before that does not fail any more.
    if part is not None and part.name not in names:
        return part
    if alone and time_limit is None:
        return search()

    def attempt():
        try:
            return search()
        except PluginError:
            raise  # a missing package is missing for every image
        except Exception as error:  # one bad image must never stop the others
            return Part("", failure=one_line(error, path))

    if time_limit is not None:
        part = apart(attempt, parts, number, path=path, seconds=time_limit)
        if alone and part.failure is not None:
            raise HaloInputError(part.failure)
        return part
    part = attempt()
    if keep and part.failure is None:
        parts.write(number, part)
        # What is written and read again is the same whether the search was stopped in between or not.
        part = parts.read(number) or part
    return part


def _search(path, detector, read, targets, names, max_pictures, rng):
    image = read(path)
    image = image.replace(name=_unused(image.name or Path(path).name, names))
    rows = None if targets is None else _inside(image, targets["position"])
    part = Part(image.name, rows=None if rows is None else rows.tolist())
    if rows is None or len(rows):
        image = _prepared(detector, image)
        if rows is None and hasattr(detector, "search"):
            part.table, part.significance = detector.search(image, rng=rng)
        else:
            part.table = detector(image, None if rows is None else targets[rows], rng=rng)
        if rows is not None and len(part.table) == len(rows):
            # They may be of any kind, and are at hand.
            part.carried = [name for name in targets.colnames
                            if name in part.table.colnames and name not in (*COLUMNS, "position")]
            part.table.remove_columns(part.carried)
        reason = part.table.meta.pop("error", None)
        if reason is not None:
            part.reason = _with_place(printable(reason), path)
            warnings.warn(part.reason, HalopyWarning, stacklevel=2)
        else:
            _warn_of_strangers(part.table, path)
            part.best = sorted(ranking(part.table)[:max_pictures].tolist())
            part.cutouts, part.residuals = _pictures(detector, image, part.table[part.best])
    part.image = shrink(image.replace(background=None))
    return part


def _of_the_best(pictures, detections, most):
    """The pictures, without those of rows that are not among the best: memory does not grow with the images."""
    best = set(ranking(detections)[:most].tolist())
    return [pair if row in best else (None, None) for row, pair in enumerate(pictures)]


def _one_pixel(image):
    """The middle of an image, with the median of its noise."""
    y, x = (n // 2 for n in image.shape)
    known = image.rms is not None and np.isfinite(image.rms).any()
    return image[y:y + 1, x:x + 1].replace(data=image.data[y:y + 1, x:x + 1].copy(),
                                           rms=np.full((1, 1), np.nanmedian(image.rms)) if known else None,
                                           meta={"shape": image.shape} | image.meta)


def _warn_of_strangers(table, path):
    """Say that an image is unlike those that the classifier was trained on; the flags say it of each row."""
    kinds = [[flag for flag in flags.split() if flag.endswith("-outside-training")] for flags in texts(table, "flags")]
    found = sorted({flag.removesuffix("-outside-training") for flags in kinds for flag in flags})
    if found:
        warnings.warn(f"{printable(str(path))}: {sum(map(bool, kinds))} of {len(kinds)} targets are unlike what the "
                      f"classifier was trained on, by {' and '.join(found)}; they are flagged", HalopyWarning,
                      stacklevel=3)


def one_line(error, path=None):
    """Return an error as one line for a user: its kind is told only where halopy did not expect it."""
    known = isinstance(error, (HaloInputError, UnknownModelError, NotFittedError, PluginError))
    text = printable(str(error)) if known else f"{type(error).__name__}: {printable(str(error))}"
    return text if path is None or getattr(error, "path", None) is not None else f"{printable(str(path))}: {text}"


def _with_place(text, path):
    return text if text.startswith(str(path)) else f"{printable(str(path))}: {text}"


def _prepared(detector, image):
    """The image with its noise, so that it is measured once; as it is where it has none (the detector says so)."""
    try:
        return detector.prepare(image)
    except (AttributeError, HaloInputError):
        return image


def _inside(image, position):
    """Return the numbers of the positions inside an image."""
    known = np.flatnonzero(_known(position))
    sky = position[known].icrs
    x, y = SkyToPixel(image.wcs, image.shape)(sky.ra.deg, sky.dec.deg)
    return known[(x >= -0.5) & (x < image.shape[1] - 0.5) & (y >= -0.5) & (y < image.shape[0] - 0.5)]


def _known(position):
    return np.isfinite(position.icrs.ra.deg) & np.isfinite(position.icrs.dec.deg)


def _pictures(detector, image, table):
    """Return the cutouts and residuals of the rows; None where there are none."""
    if len(table) == 0:
        return None, None
    try:
        cutouts = detector.cutouts(image, table)
        return cutouts, detector.residuals(cutouts)
    except HaloInputError as error:  # the numbers stand without the pictures
        warnings.warn(f"no pictures of {image.name}: {one_line(error)}", HalopyWarning, stacklevel=3)
        return None, None


def _explanations(detector, detections, cutouts):
    """Return what speaks for a halo in each cutout; None where there is none."""
    found, failed = [None] * len(cutouts), []
    if not hasattr(detector, "explanations"):
        return found
    scored = [row for row in ranking(detections) if detections["status"][row] == "ok" and cutouts[row] is not None]
    for row in scored:
        try:
            found[row] = detector.explanations(cutouts[row])
        except Exception as error:  # a plugin may raise anything; numbers and other pictures stand without it
            failed.append(f"{printable(detections['name'][row])}: {one_line(error)}")
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        warnings.warn(f"no explanation of {failed[0]}{more}", HalopyWarning, stacklevel=3)
    return found


def _unused(name, names):
    unused, count = name, 1
    while unused in names:
        count += 1
        unused = f"{name} ({count})"
    return unused


def _stack(tables):
    bare = []
    for table in tables:
        # Frames and velocities that catalogues bring along cannot be stacked, and are not needed.
        position = table["position"].icrs
        table = QTable(table, copy=False)
        table["position"] = SkyCoord(position.ra, position.dec, frame="icrs")
        bare.append(table)
    filled = [table for table in bare if len(table)] or bare[:1]
    return vstack(filled, metadata_conflicts="silent")
