"""What a classifier was trained on, in numbers, and what lies outside of it.

A model that has only seen beams of two arcminutes says something about any other cutout as well. It
cannot know that it should not; its flags can.
"""

from __future__ import annotations

import numpy as np
from astropy import units as u

__all__ = ["outside", "training_range"]

# So far beyond the range counts as inside: the next field of a survey is no other survey.
TOLERANCE = 0.1
# Pixels per beam that hold all there is in an image, see `halopy.CutoutMaker`.
SAMPLED = 2.5


def training_range(table, known=None):
    """Return the smallest and the largest value of what a model is sensitive to.

    Parameters
    ----------
    table : `~astropy.table.Table`
        That of the training cutouts.
    known : dict, optional
        The range of an earlier training that is continued: the two are joined.

    Returns
    -------
    dict
        ``(lowest, highest)`` by name, of what the columns tell: ``beam`` (geometric mean of the full widths
        at half maximum, arcsec), ``frequency`` (MHz), ``pixels_per_beam``.

    Examples
    --------
    >>> from halopy.classify.domain import outside, training_range
    >>> from halopy.testing import simulated_cutouts
    >>> table = simulated_cutouts(3).table
    >>> known = training_range(table)
    >>> known["frequency"]
    (200.5, 200.5)
    >>> table["frequency"][2] *= 7
    >>> outside(known, table).tolist()
    ['', '', 'frequency-outside-training']
    """
    found = dict(known or {})
    for name, values in _sensitive(table).items():
        values = values[np.isfinite(values) & (values > 0)]
        if values.size:
            low, high = found.get(name, (np.inf, 0.0))
            found[name] = (min(low, float(values.min())), max(high, float(values.max())))
    return found


def outside(known, table, *, own_grid=False):
    """Return what lies outside of a training range by more than a tenth.

    Parameters
    ----------
    known : dict
        What `training_range` returned.
    table : `~astropy.table.Table`
        That of ``n`` cutouts. What it does not tell is no reason for a flag.
    own_grid : bool, optional
        The model sees the cutouts' own pixels: more of them to a beam than in training are as strange to it as
        fewer. Default False: it works relative to the beam, and 2.5 pixels to a beam are always enough.

    Returns
    -------
    `~numpy.ndarray`
        ``(n,)`` of str, space-separated: ``beam-outside-training``, ``frequency-outside-training``,
        ``pixels-outside-training``.
    """
    words = [[] for _ in range(len(table))]
    values = _sensitive(table)
    for name, flag in (("beam", "beam"), ("frequency", "frequency"), ("pixels_per_beam", "pixels")):
        if name not in known:
            continue
        low, high = known[name]
        low, high = low * (1 - TOLERANCE), high * (1 + TOLERANCE)
        if flag == "pixels" and not own_grid:
            low, high = min(low, SAMPLED), np.inf
        wrong = (values[name] < low) | (values[name] > high)
        for row in np.flatnonzero(wrong):
            words[row].append(f"{flag}-outside-training")
    return np.array([" ".join(row) for row in words], dtype=str)


def _sensitive(table):
    """Return ``(n,)`` float by name, NaN where it is not known."""
    major, minor, scale = (_numbers(table, name, u.arcsec) for name in ("beam_major", "beam_minor", "pixel_scale"))
    with np.errstate(invalid="ignore", divide="ignore"):
        beam = np.sqrt(major * minor)
        return {"beam": beam, "frequency": _numbers(table, "frequency", u.MHz), "pixels_per_beam": beam / scale}


def _numbers(table, name, unit):
    if name not in table.colnames:
        return np.full(len(table), np.nan)
    values = table[name].astype(float)
    own = getattr(values, "unit", None) or unit
    values = values.filled(np.nan) if hasattr(values, "filled") else values
    values = np.asarray(getattr(values, "value", values), dtype=float)
    return values * own.to(unit) if own.is_equivalent(unit) else np.full(len(table), np.nan)
