"""What a cutout shows: the labels, their grades, and what counts as a halo."""

from __future__ import annotations

import numpy as np

from halopy.errors import HaloInputError

__all__ = ["GRADES", "LABELS", "TALK_CLASSES", "is_positive"]

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
