"""What a cutout shows: the labels, their grades, and what counts as a halo."""

from __future__ import annotations

import numpy as np

from halopy.errors import HaloInputError

__all__ = ["CLASSES", "GRADES", "LABELS", "TALK_CLASSES", "classify", "is_positive"]

LABELS = ("halo", "mini-halo", "relic", "phoenix", "radio-galaxy", "orc", "blend", "other", "none", "blank")
"""The values of the column ``label``; ``also`` holds further ones, comma-separated."""

GRADES = ("confirmed", "candidate", "uncertain")
"""The values of the column ``grade``."""

TALK_CLASSES = {
    "H": ("halo", "", "confirmed"),
    "cH": ("halo", "", "candidate"),
    "mH": ("mini-halo", "", "confirmed"),
    "cmH": ("mini-halo", "", "candidate"),
    "cH or mH": ("halo", "mini-halo", "candidate"),
}
"""The classes of arXiv 2411.15559 as (label, also, grade)."""

# "uncertain" is the kind, where a list leaves it open; that there is no halo is what all of them say.
CLASSES = TALK_CLASSES | {
    "cH/mH": ("halo", "mini-halo", "candidate"),
    "N:relic": ("relic", "", "confirmed"),
    "N:relic/phoenix": ("relic", "phoenix", "uncertain"),
    "N:radio galaxy": ("radio-galaxy", "", "confirmed"),
    "N:head-tail": ("radio-galaxy", "", "confirmed"),
    "N:ORC": ("orc", "", "confirmed"),
    "N:other": ("other", "", "uncertain"),
    "halo": ("halo", "", "confirmed"),
    "halo + relic": ("halo", "relic", "confirmed"),
    "halo + double relic": ("halo", "relic", "confirmed"),
    "halo + relic (Coma; mostly resolved out)": ("halo", "relic", "uncertain"),
    "candidate halo": ("halo", "", "candidate"),
    "candidate halo (or mini-halo)": ("halo", "mini-halo", "candidate"),
    "mini-halo": ("mini-halo", "", "confirmed"),
    "candidate mini-halo": ("mini-halo", "", "candidate"),
    "none (relic)": ("relic", "", "confirmed"),
    "none (relics)": ("relic", "", "confirmed"),
    "none (double relic)": ("relic", "", "confirmed"),
    "none (phoenix)": ("phoenix", "", "confirmed"),
    "none (relic/phoenix)": ("relic", "phoenix", "uncertain"),
    "none (phoenix/relic)": ("phoenix", "relic", "uncertain"),
    "none (radio galaxy)": ("radio-galaxy", "", "confirmed"),
    "none (radio galaxy, FR I)": ("radio-galaxy", "", "confirmed"),
    "none (radio galaxy, FR II)": ("radio-galaxy", "", "confirmed"),
    "none (radio galaxy, hybrid)": ("radio-galaxy", "", "confirmed"),
    "none (extended radio galaxy)": ("radio-galaxy", "", "confirmed"),
    "none (tailed radio galaxies)": ("radio-galaxy", "", "confirmed"),
    "none (odd radio circle field)": ("orc", "", "confirmed"),
    "none (other diffuse)": ("other", "", "uncertain"),
    "none (other diffuse or radio galaxy)": ("other", "radio-galaxy", "uncertain"),
    "none (compact sources)": ("none", "", "confirmed"),
    "none (compact sources, strong artefacts)": ("none", "", "uncertain"),
    "none (blank field: file is centred at 98.79 +75.53, not on that cluster)": ("blank", "", "confirmed"),
    "unknown (a visual score only; halos are among the central ones)": ("", "", ""),
    "labelled image set": ("", "", ""),
    "mask (1 = excluded: relics, residuals)": ("", "", ""),
    "catalogue": ("", "", ""),
    "visibilities": ("", "", ""),
    "psf": ("", "", ""),
    "DS9 region": ("", "", ""),
    "": ("", "", ""),
}
"""The words of the paper's list, and those of lists of radio images, as (label, also, grade).

Empty where a word says nothing of what is seen: a catalogue, a beam, a cluster that nobody has judged.
"""


def classify(word):
    """Translate the class that a list gives a target into halopy's labels.

    Parameters
    ----------
    word : str
        One of `CLASSES`: a class of arXiv 2411.15559 such as ``cmH``, or a phrase such as
        ``none (relic)``.

    Returns
    -------
    label, also, grade : str
        ``label`` is one of `LABELS`, ``also`` empty or another one, ``grade`` one of `GRADES`. The
        grade is that of the label: a radio galaxy or a relic that is ``confirmed`` is no halo. All
        three are empty for what is no judged piece of sky (``psf``, ``catalogue``); such rows are
        not positive, and have no place among the negatives either.

    Raises
    ------
    HaloInputError
        For a word that is not in the table.

    Examples
    --------
    >>> from halopy.labels import classify
    >>> classify("cH or mH")
    ('halo', 'mini-halo', 'candidate')
    >>> classify("none (relic)")
    ('relic', '', 'confirmed')
    """
    try:
        return CLASSES[str(word).strip()]
    except KeyError:
        raise HaloInputError("this class has no place among the labels of halopy", found=str(word),
                             hint="one of the keys of halopy.labels.CLASSES") from None


def is_positive(table, *, grades=GRADES, mini_halo=True):
    """Return which rows count as a halo.

    A row is positive where its ``label``, or one of its ``also``, is ``halo`` or ``mini-halo``,
    of one of the ``grades``.

    Parameters
    ----------
    table : `~astropy.table.Table`
        With a column ``label`` and optionally ``also`` and ``grade`` (none: every row counts as
        ``confirmed``).
    grades : sequence of str, optional
        The grades to accept, default all three.
    mini_halo : bool, optional
        Whether mini-halos count, default True.

    Returns
    -------
    `~numpy.ndarray`
        ``(n,)`` bool.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from halopy.labels import is_positive
    >>> table = QTable({"label": ["halo", "mini-halo", "relic"], "grade": ["candidate", "confirmed", "confirmed"]})
    >>> is_positive(table)
    array([ True,  True, False])
    >>> is_positive(table, grades=["confirmed"], mini_halo=False)
    array([False, False, False])
    """
    if "label" not in table.colnames:
        raise HaloInputError("a column 'label' is needed to know what is positive", found=table.colnames)
    if isinstance(grades, str):
        raise HaloInputError("grades must be a sequence", found=grades, hint=f"grades=[{grades!r}]")
    for grade in grades:
        if grade not in GRADES:
            raise HaloInputError(f"a grade is one of {', '.join(GRADES)}", found=grade)
    wanted = {"halo", "mini-halo"} if mini_halo else {"halo"}
    label = np.ma.filled(np.ma.asarray(table["label"]), "").astype(str)
    also = np.full(len(table), "")
    if "also" in table.colnames:
        also = np.ma.filled(np.ma.asarray(table["also"]), "").astype(str)
    unknown = {x.strip() for row in (*label, *also) for x in row.split(",")} - set(LABELS) - {""}
    if unknown:
        raise HaloInputError(f"a label is one of {', '.join(LABELS)}", found=sorted(unknown))
    shown = [wanted & {x.strip() for x in f"{a},{b}".split(",")} for a, b in zip(label, also, strict=True)]
    positive = np.array([bool(x) for x in shown], dtype=bool)
    if "grade" in table.colnames:
        positive &= np.isin(np.ma.filled(np.ma.asarray(table["grade"]), "").astype(str), list(grades))
    elif "confirmed" not in grades:
        positive[:] = False
    return positive
