"""A folder of FITS files as an archive: which of them are images, and which one shows a position."""

from __future__ import annotations

import math
import os
import re
import warnings
from pathlib import Path

import numpy as np

from halopy.cutouts import write_atomically
from halopy.errors import HaloInputError, HalopyWarning, ProviderError
from halopy.io.cache import file_lock, sha256_of
from halopy.io.celestial import choose_plane, resolve_wcs
from halopy.io.fits import choose_hdu, read_image
from halopy.io.guard import open_checked
from halopy.io.header import Findings, resolve_frequency
from halopy.io.provider import Location, Provider
from halopy.io.votable import ONE_READER

__all__ = ["DataCentral", "Folder", "images_in"]

_FITS = re.compile(r"\.(fits|fit|fts)(\.gz|\.fz|\.bz2)?\Z", re.IGNORECASE)
# Linear and circular polarisation beside the total intensity, as MGCLS and others name them; gain tables.
_NOT_INTENSITY = re.compile(r"([QUV]Pol[n.]|_pol_[QUV]_|[._-][QUV]\.|SNTab)", re.IGNORECASE)
# Maps of the noise, of the background and of the beam beside an image, as BANE and the archives name them.
_BESIDE = re.compile(r"[._-](rms|bkg|weights?|noisemap|psf)\.", re.IGNORECASE)
_OWN = re.compile(r"(significance(-\d+)?|diffuse|detections)\.fits\Z")
_ONE_PLANE = re.compile(r"[._]1pln(?=\.)", re.IGNORECASE)


def images_in(folder, *, survey=None):
    """List the images of total intensity in a folder, by their names.

    Left out are maps of Stokes Q, U and V, of the noise, background, weights and beam (``_rms``, ``_bkg``,
    ``_weights``, ``_psf``), gain tables, the maps and the table that halopy itself writes, and, of MGCLS: cubes
    beside a file of their first plane alone (``Abell_85_1pln.fits.gz`` beside ``Abell_85.fits.gz``), frequency cubes
    (``fcube``), and for the surveys ``mgcls-8`` and ``mgcls-15`` the images of the other resolution.

    Parameters
    ----------
    folder : path-like
        Folders inside it are not looked into.
    survey : str or Survey, optional

    Returns
    -------
    list of `~pathlib.Path`
        Sorted by name.

    Raises
    ------
    HaloInputError
        There is no such folder, or no image in it.
    """
    folder = Path(folder)
    try:
        with os.scandir(folder) as entries:
            files = sorted(entry.name for entry in entries if entry.is_file())
    except OSError as error:
        raise HaloInputError(f"this folder cannot be read: {error.strerror}", path=folder) from error
    name = getattr(survey, "name", survey) or ""
    found = [f for f in files if _FITS.search(f) and not f.startswith(".")]
    kept = [f for f in found if not is_left_out(f)]
    if name.startswith("mgcls-"):
        kept = [f for f in kept if ("_15arcsec" in f) == (name == "mgcls-15")]
    alone = {_stem(_ONE_PLANE.sub("", f)) for f in kept if _ONE_PLANE.search(f)}
    kept = [f for f in kept if _ONE_PLANE.search(f) or _stem(f) not in alone]
    if not kept:
        what = f"no image{' of ' + name if name else ''}"
        raise HaloInputError(f"this folder holds {what}", path=folder, hint="another folder, or another survey",
                             found=f"{len(files)} files" + (f", such as {files[0]}" if files else ""))
    return [folder / f for f in kept]


def is_left_out(name):
    """Say whether a file's name alone tells that it is no image of total intensity."""
    return bool(_NOT_INTENSITY.search(name) or _BESIDE.search(name) or _OWN.match(name) or "_fcube" in name)


def _stem(name):
    """A name without its endings; ``.Fix`` is one of MGCLS's."""
    return re.sub(r"\.Fix\Z", "", _FITS.sub("", name), flags=re.IGNORECASE)


class Folder(Provider):
    """The FITS files of a folder. The image of a position is found by its WCS, never by its name.

    Of several images that show a position, the one whose centre is nearest is taken; those that have data there go
    before those that are blank there, and those of the survey's frequency before those of another one, with which
    comes a warning. Headers are read once for as long as the object lives and the file does not change; of gzip
    files that takes a while.

    Parameters
    ----------
    path : path-like, optional
        Default: the folder in which Python runs.

    Examples
    --------
    >>> from halopy.io.archive import providers
    >>> providers.create("folder", path="mgcls/basic_products")
    Folder(path='mgcls/basic_products')
    """

    name = "folder"
    online = False
    any_survey = True

    def __init__(self, path="."):
        self.path = path

    def covers(self, position, survey):
        return bool(self._shown(position, survey)[0])

    def locate(self, position, survey, size, *, transfer):
        found, unusable = self._nearest(position, survey)
        if found is None:
            more = f"; {len(unusable)} files could not be used, the first: {unusable[0]}" if unusable else ""
            raise ProviderError(f"no image in {self.path} shows this position{more}", cause="outside",
                                provider=self.name)
        return Location(found)

    def _shown(self, position, survey):
        """([(distance of the centre, path, MHz if not the survey's) of each image], why files cannot be used)."""
        shown, unusable = [], []
        for path in images_in(self.path, survey=survey):
            seen = self._look(path, survey)
            if isinstance(seen, str):
                unusable.append(seen)
                continue
            wcs, shape, centre, frequency = seen
            with np.errstate(all="ignore"):  # the other half of the sky has no pixels
                x, y = (float(v) for v in wcs.world_to_pixel(position))
            if -0.5 <= x < shape[1] - 0.5 and -0.5 <= y < shape[0] - 0.5:
                # A folder may hold all bands of a survey: the sky alone does not tell them apart.
                other = None if frequency is None or math.isclose(
                    frequency, survey.frequency.to_value("MHz"), rel_tol=0.2) else frequency
                shown.append((position.separation(centre).arcsec, path, other))
        return sorted(shown, key=lambda one: (one[2] is not None, *one[:2])), unusable

    def _nearest(self, position, survey):
        """(path of the image, reasons why files could not be used)."""
        shown, unusable = self._shown(position, survey)
        if len(shown) > 1:
            shown.sort(key=lambda one: (one[2] is not None, _is_blank(one[1], survey, position)))
        if shown and shown[0][2] is not None:
            warnings.warn(f"{shown[0][1].name} is at {shown[0][2]:g} MHz, not at the {survey.frequency:g} of "
                          f"{survey.name}", HalopyWarning, stacklevel=4)
        if len(shown) > 1 and abs(shown[1][0] - shown[0][0]) < 1 and shown[0][2] == shown[1][2]:
            warnings.warn(f"{shown[0][1].name} and {shown[1][1].name} show the same sky: the first is taken",
                          HalopyWarning, stacklevel=4)
        return (shown[0][1] if shown else None), unusable

    def _look(self, path, survey):
        """(WCS, shape, centre, MHz or None) of an image, or the reason why it cannot be used."""
        status = path.stat()
        key, stamp = (str(path), survey.plane), (status.st_mtime_ns, status.st_size)
        seen = self.__dict__.setdefault("_seen", {})
        if key not in seen or seen[key][0] != stamp:
            try:
                seen[key] = (stamp, _frame_of(path, survey.plane))
            except HaloInputError as error:
                seen[key] = (stamp, str(error))
        return seen[key][1]


def _frame_of(path, plane):
    with ONE_READER, open_checked(path, keep=False) as (report, _):
        chosen = choose_hdu(report, None)
        where = {"path": report.path, "hdu": chosen.index}
        what = choose_plane(chosen.cards, chosen.shape, plane=plane, **where)
        if what.stokes not in (None, "I"):
            raise HaloInputError(f"this is Stokes {what.stokes}, not the total intensity", **where)
        shape = tuple(n for n, i in zip(chosen.shape, what.index, strict=True) if isinstance(i, slice))
        shape = shape[::-1] if what.transpose else shape
        wcs, _ = resolve_wcs(chosen.cards, what, shape, Findings(), **where)
        centre = wcs.pixel_to_world((shape[1] - 1) / 2, (shape[0] - 1) / 2).icrs
        axis = what.frequency_axis
        found, _ = resolve_frequency(chosen.cards, _Quiet(), axis=axis, pixel=what.pixels.get(axis))
    if not np.isfinite(centre.ra.deg):
        raise HaloInputError("the centre of this image is not on the sky", **where)
    return wcs, shape, centre, None if found is None else found.to_value("MHz")


class _Quiet(Findings):
    """A file of the folder that is only looked at has nothing to warn of."""

    def warn(self, *arguments, **keywords):
        pass


def _is_blank(path, survey, position):
    """Whether an image has no data at a position."""
    try:
        with ONE_READER, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = read_image(path, survey=survey)
        x, y = (round(float(v)) for v in image.wcs.world_to_pixel(position))
        return not image.valid[y, x]
    except (HaloInputError, IndexError):
        return True


class DataCentral(Folder):
    """A release of Data Central that you have downloaded yourself, as a folder.

    Data Central has no interface that a program could ask, and publishes no checksums: halopy writes down the sha256
    of each file when it first uses it, and refuses a file that has changed since.

    Parameters
    ----------
    path : path-like, optional
        Default: the folder in which Python runs.
    record : path-like, optional
        The file of checksums, as ``sha256sum -c`` reads it; default ``halopy-sha256.txt`` in the folder.

    References
    ----------
    https://dmc.datacentral.org.au: the images of arXiv 2106.12281 and 2411.15559
    """

    name = "datacentral"

    def __init__(self, path=".", *, record=None):
        super().__init__(path)
        self.record = record

    def locate(self, position, survey, size, *, transfer):
        location = super().locate(position, survey, size, transfer=transfer)
        return Location(location.address, sha256=self._known(location.address))

    def _known(self, file):
        """Return the recorded sha256 of a file; write it down, if it is used for the first time."""
        record = Path(self.path) / "halopy-sha256.txt" if self.record is None else Path(self.record)
        with file_lock(record.with_name(f".{record.name}.lock")):
            lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
            known = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
            if file.name not in known:
                digest = sha256_of(file)
                text = "\n".join([*lines, f"{digest}  {file.name}"]) + "\n"
                write_atomically(record, lambda path: Path(path).write_text(text, encoding="utf-8"))
                return digest
        return known[file.name]
