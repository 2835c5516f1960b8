"""What a trained generator is told of an image: its class, its S/N, its frequency; and what it draws of them."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from halopy.errors import HaloInputError
from halopy.labels import GRADES, LABELS

__all__ = ["CLASSES", "N_NUMBERS", "class_names", "conditions_drawn", "given", "network_conditions", "numbers"]

CANDIDATE = "/candidate"
CLASSES = tuple(name for label in LABELS
                for name in ((label, label + CANDIDATE) if label.endswith("halo") else (label,)))
"""Labels, and those of halos that are no more than candidates."""
N_NUMBERS = len(CLASSES) + 4
"""How many numbers a network gets: one of each class, and two of the S/N and of the frequency: value, and known."""

SNR = 10.0
FREQUENCY = 200.0
"""MHz. Numbers are logarithms over these, and a factor of three is about 1."""


def class_names(table):
    """Return the class of each row, ``(n,)`` of `CLASSES`: its label, and whether it is a candidate.

    Parameters
    ----------
    table : `~astropy.table.Table`
        With ``label`` and optionally ``grade``; a halo of a grade other than ``confirmed`` is a candidate, one
        without a grade is not.
    """
    if "label" not in table.colnames:
        raise HaloInputError("conditions need a column 'label'", found=table.colnames)
    label = np.ma.filled(np.ma.asarray(table["label"]), "").astype(object)
    unknown = sorted(set(label) - set(LABELS))
    if unknown:
        raise HaloInputError(f"a label is one of {', '.join(LABELS)}", found=str(unknown[0]))
    if "grade" in table.colnames:
        grade = np.ma.filled(np.ma.asarray(table["grade"]), "").astype(str)
        odd = sorted(set(grade) - set(GRADES) - {""})
        if odd:
            raise HaloInputError(f"a grade is one of {', '.join(GRADES)}", found=str(odd[0]))
        candidate = np.isin(grade, GRADES[1:]) & np.array([str(x).endswith("halo") for x in label], dtype=bool)
        label[candidate] += CANDIDATE
    return label.astype(str)


def network_conditions(classes, snr, frequency):
    """Return what a network is told, ``(n, N_NUMBERS)`` float32.

    Parameters
    ----------
    classes : array-like of str
        ``(n,)`` of `CLASSES`.
    snr, frequency : array-like
        ``(n,)``; frequency in MHz. NaN is unknown: value and "known" are 0.
    """
    result = np.zeros((len(classes), N_NUMBERS), dtype=np.float32)
    place = {name: k for k, name in enumerate(CLASSES)}
    result[np.arange(len(classes)), [place[name] for name in classes]] = 1
    for k, (values, unit) in enumerate(((snr, SNR), (frequency, FREQUENCY))):
        known = np.isfinite(values) & (np.asarray(values) > 0)
        value = np.log(np.where(known, values, unit) / unit)
        result[:, len(CLASSES) + 2 * k], result[:, len(CLASSES) + 2 * k + 1] = value, known
    return result


def conditions_drawn(classes, snr, frequency, seen, rng):
    """Choose an image of the training set for each that is to be made: it has what was not asked for.

    Parameters
    ----------
    classes, snr, frequency : array-like
        What is asked for, ``(n,)``; NaN is drawn.
    seen : `~astropy.table.Table`
        Of the training set: ``class``, ``snr``, ``frequency`` and others.
    rng : `~numpy.random.Generator`

    Returns
    -------
    rows : `~numpy.ndarray`
        ``(n,)`` rows of ``seen``: of the same class and, where one is asked for, of the nearest frequency.

    Raises
    ------
    HaloInputError
        A class that was not in the training set.
    """
    known = np.asarray(seen["class"])
    lacking = sorted(set(classes) - set(known))
    if lacking:
        raise HaloInputError("this generator has not seen such images in its training",
                             found=str(lacking[0]), hint=f"one of {', '.join(sorted(set(known)))}; what stands "
                                                         "after a stroke is a grade")
    rows = np.zeros(len(classes), dtype=int)
    for i, name in enumerate(classes):
        here = np.flatnonzero(known == name)
        if np.isfinite(frequency[i]) and np.isfinite(seen["frequency"][here]).any():
            away = np.abs(np.log(np.asarray(seen["frequency"])[here] / frequency[i]))
            here = here[away <= np.nanmin(away) + 1e-9]
        rows[i] = rng.choice(here)
    return rows


def given(conditions, name, unit):
    """Return a condition as numbers in a unit, ``(n,)``; NaN where it is to be drawn.

    Raises
    ------
    HaloInputError
        It has no such unit, or is not positive.
    """
    if name not in conditions.colnames:
        return np.full(len(conditions), np.nan)
    column = numbers(conditions[name], name)
    own = getattr(column, "unit", None)
    # A column of nothing but NaN asks for nothing, and needs no unit.
    if own is None and np.isnan(column).all():
        return np.array(column, dtype=float)
    if not (own or u.one).is_equivalent(unit):
        what = f"the unit {unit}, or one that converts to it" if u.Unit(unit) != u.one else "no unit"
        raise HaloInputError(f"the condition {name} needs {what}", keyword=name, found=str(own or "none"),
                             hint=f"[...] * u.Unit('{unit}')" if u.Unit(unit) != u.one else "plain numbers")
    values = u.Quantity(column).to_value(unit)
    # An S/N of 0 is what cutouts without a source have.
    wrong = values < 0 if name == "snr" else values <= 0
    if wrong.any():
        raise HaloInputError(f"the condition {name} must be positive, or NaN where it is to be drawn", keyword=name,
                             found=float(values[wrong][0]))
    return np.array(values, dtype=float)


def numbers(column, name):
    """Return a column of finite numbers, and NaN for what is to be drawn."""
    unit = getattr(column, "unit", None)
    try:
        mask = np.array(np.broadcast_to(getattr(column, "mask", False), len(column)))
        values = np.array(getattr(column, "unmasked", column), dtype=float)
    except (TypeError, ValueError):
        raise HaloInputError("an optional condition must be a column of numbers", keyword=name,
                             found=str(getattr(column, "dtype", type(column).__name__))) from None
    values[mask] = np.nan
    if values.ndim != 1 or np.isinf(values).any():
        raise HaloInputError("an optional condition must be finite, or NaN where it is to be drawn", keyword=name,
                             found=values[np.isinf(values)][0] if values.ndim == 1 else f"shape {values.shape}")
    return values if unit is None else values * unit
