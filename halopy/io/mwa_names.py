"""The files of the labelled MWA set: what their names say, and where they lie in a folder."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
from pathlib import Path

from halopy.errors import HaloInputError
from halopy.survey import surveys

__all__ = ["BANDS", "MwaFile", "chosen_bands", "find_mwa_files", "parse_name", "target_key"]

BANDS = ("gleam-72-103", "gleam-103-134", "gleam-139-170", "gleam-170-231",
         "mwa2-88", "mwa2-118", "mwa2-154", "mwa2-185", "mwa2-216")
"""The bands of the set, by the names of their survey presets."""

REPOSITORY = "mishraashu6566/Radio-Halos-Classification-with-MWA"
INDEX = "index.csv"

# One file is called abell_s1063Gleam103-134_clipped.fits, some have MHz behind the band, some GLEAM in capitals.
_GLEAM = re.compile(r"(?P<target>.+?)[_ ]*gleam[_ ]*(?P<band>\d+-\d+)(?:mhz)?_clipped\.fits(?:\.gz)?\Z", re.IGNORECASE)
# Between the target and the frequency stands the number of a field, or "mwa2": abell0122field1118mhzr0.0 is field 1.
_MWA2 = re.compile(r"(?P<target>.+?)(?:field\d+?|mwa2)(?P<band>88|118|154|185|216)mhz"
                   r"(?:r|briggs)(?P<robust>\d+(?:\.\d)?)_halo\.fits(?:\.gz)?\Z", re.IGNORECASE)
_WIDTHS = re.compile(r"(\d+\.?\d*) ?x ?(\d+\.?\d*)")
_FOLDER = re.compile(r"(?P<split>train|test)_data_(?P<number>[01])\Z", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class MwaFile:
    """One image of the set, as its name describes it.

    ``path`` is the file, ``source`` its path in the repository, ``target`` the target as the file
    spells it, ``band`` one of `BANDS`, ``robust`` the Briggs robustness (NaN for GLEAM), ``split``
    ``"train"``, ``"test"`` or ``""``, ``repository_class`` 1 (halo), 0 (no halo) or -1 (not said),
    ``described`` the class in words and ``beam`` the full widths in arcsec that an index gives (else empty, None).
    """

    path: Path
    source: str
    target: str
    band: str
    robust: float
    split: str
    repository_class: int
    described: str = ""
    beam: tuple[float, float] | None = None


def parse_name(source, *, path=None, described=""):
    """Return what a path in the repository says of its image, None where it names no image of the set.

    Parameters
    ----------
    source : str
        The path in the repository, with ``/``; at least the folder and the file.
    path : path-like, optional
        The file on this machine, default ``source``.
    described : str, optional
        The class in words.

    Returns
    -------
    MwaFile or None

    Examples
    --------
    >>> from halopy.io.mwa_names import parse_name
    >>> file = parse_name("GLEAM-Data/TRAIN_DATA_1/abell_s1063Gleam103-134_clipped.fits")
    >>> file.target, file.band, file.split, file.repository_class
    ('abell_s1063', 'gleam-103-134', 'train', 1)
    >>> file = parse_name("Central_clipped_images/abell0550field11118mhzr1.0_Halo.fits")
    >>> file.target, file.band, file.robust
    ('abell0550', 'mwa2-118', 1.0)
    """
    *folders, name = str(source).split("/")
    path = Path(source if path is None else path)
    if match := _GLEAM.match(name):
        band = "gleam-" + "-".join(str(int(edge)) for edge in match["band"].split("-"))
        folder = _FOLDER.match(folders[-1]) if folders else None
        split, number = (folder["split"].lower(), int(folder["number"])) if folder else ("", -1)
        if band in BANDS:
            return MwaFile(path, str(source), match["target"], band, float("nan"), split, number, described)
    elif match := _MWA2.match(name):
        return MwaFile(path, str(source), match["target"], f"mwa2-{match['band']}", float(match["robust"]), "", 1,
                       described)
    return None


def target_key(name):
    """Return a target's name without case, blanks and underscores, to compare spellings.

    Examples
    --------
    >>> from halopy.io.mwa_names import target_key
    >>> target_key("abell_0141") == target_key("Abell 0141")
    True
    """
    return re.sub(r"[^0-9a-z.+-]", "", str(name).lower())


def find_mwa_files(folder, *, bands=None):
    """Find the images of the set in a folder.

    Parameters
    ----------
    folder : path-like
        A checkout of the repository or what `halopy.io.dataset.fetch_mwa_halos` made (names as in the
        repository, at any depth), or a folder with an ``index.csv`` whose columns ``file`` and ``source_path``
        give each file's place there and in the repository (``cls``: its class in words, ``beam_arcsec``: its
        beam, as 133x121).
    bands : str or sequence of str, optional
        Names in `BANDS`, default all.

    Returns
    -------
    list of MwaFile
        In the order of the bands, then of the names.

    Raises
    ------
    HaloInputError
        There is no such folder, or it holds no image of the set, or of one of the bands; an index names a
        file that is not there.
    """
    bands = chosen_bands(bands)
    root = Path(folder)
    if not root.is_dir():
        raise HaloInputError("the images are read from a folder, and this is none", path=root)
    index = root / INDEX
    found = _indexed(index) if index.is_file() else _walked(root)
    wanted = [file for file in found if file.band in bands]
    for band in bands if wanted and len(bands) < len(BANDS) else ():
        if not any(file.band == band for file in wanted):
            raise HaloInputError(f"this folder holds no image of {band}", path=root,
                                 found=sorted({file.band for file in found}, key=BANDS.index))
    if not wanted:
        raise HaloInputError("this folder holds no image of the MWA set" if not found else
                             f"this folder holds no image of {', '.join(bands)}", path=root,
                             found=sorted({file.band for file in found}, key=BANDS.index),
                             hint="a checkout of " + REPOSITORY + ", or fetch_mwa_halos(folder)")
    return sorted(wanted, key=lambda file: (BANDS.index(file.band), target_key(file.target), file.robust, file.source))


def chosen_bands(bands):
    bands = BANDS if bands is None else (bands,) if isinstance(bands, str) else tuple(dict.fromkeys(bands))
    if not bands:
        raise HaloInputError("choose one or more bands", found=list(bands), hint=f"one of {', '.join(BANDS)}")
    for band in bands:
        if band not in BANDS:
            near = band if band in surveys else surveys[band].name  # a misspelt one raises, and names the nearest
            raise HaloInputError(f"the MWA set has no band {near!r}", found=f"bands: {', '.join(BANDS)}")
    return bands


def _walked(root):
    found = {}
    for path in sorted(p for p in root.rglob("*") if p.name.lower().endswith((".fits", ".fits.gz"))):
        if path.name.startswith("."):  # macOS leaves ._twins of other files
            continue
        source = "/".join(path.relative_to(root).parts)
        # The folder itself may be TRAIN_DATA_0.
        file = parse_name(f"{root.resolve().name}/{source}", path=path)
        if file is not None:
            file = dataclasses.replace(file, source=source)
            # A file and its packed twin are one image.
            found.setdefault(os.fspath(path).removesuffix(".gz"), file)
    return list(found.values())


def _indexed(index):
    with open(index, encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        lack = {"file", "source_path"} - set(rows.fieldnames or ())
        if lack:
            raise HaloInputError(f"an {INDEX} of the MWA set needs a column {sorted(lack)[0]!r}", path=index,
                                 found=rows.fieldnames)
        found = []
        for row in rows:
            if row.get("source") and row["source"] != REPOSITORY:
                continue
            file = parse_name(row["source_path"], path=index.parent / row["file"], described=row.get("cls") or "")
            if file is not None:
                beam = _WIDTHS.match(row.get("beam_arcsec") or "")
                beam = None if beam is None else tuple(sorted(map(float, beam.groups()), reverse=True))
                found.append(dataclasses.replace(file, beam=beam))
    for file in found:
        if not file.path.is_file():
            raise HaloInputError(f"{INDEX} names a file that is not there", path=file.path)
    return found
