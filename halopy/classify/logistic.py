"""Logistic regression on standardised numbers, kept as arrays."""

from __future__ import annotations

import dataclasses

import numpy as np

from halopy.errors import HaloInputError
from halopy.labels import GRADES, is_positive

__all__ = ["Logistic", "training_labels"]

KNEE = 8.0


@dataclasses.dataclass(frozen=True)
class Logistic:
    """probability = 1 / (1 + exp(−weights · (x − mean) / scale − bias)).

    Parameters
    ----------
    mean, scale, weights : `~numpy.ndarray`
        ``(k,)`` float64.
    bias : `~numpy.ndarray`
        ``(1,)`` float64.

    Notes
    -----
    Beyond 8 on either side the exponent grows as a logarithm only: double precision has no room between 1 and
    what a plain logistic gives beyond 37, and a stronger case must not have the same probability as a weaker.

    Examples
    --------
    >>> import numpy as np
    >>> from halopy.classify.logistic import Logistic
    >>> features = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> logistic = Logistic.fit(features, np.array([False, False, True, True]), C=1.0)
    >>> logistic(np.array([[1.5], [np.nan]]))
    array([0.5, nan])
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    @classmethod
    def fit(cls, features, positive, *, C):
        """Return the logistic with the least penalised error; rows with NaN do not count.

        Parameters
        ----------
        features : `~numpy.ndarray`
            ``(n, k)``.
        positive : `~numpy.ndarray`
            ``(n,)`` bool.
        C : float
            Inverse strength of the L2 penalty, as in `sklearn.linear_model.LogisticRegression`.

        Raises
        ------
        HaloInputError
            ``C`` is not positive, or the cutouts that can be scored are not of both kinds.
        """
        if not (np.isfinite(C) and C > 0):
            raise HaloInputError("C must be positive: the inverse strength of the penalty", found=C, hint="C=0.1")
        from sklearn.linear_model import LogisticRegression

        features = np.asarray(features, dtype=float)
        known = np.isfinite(features).all(axis=1)
        features, positive = features[known], np.asarray(positive, dtype=bool)[known]
        if positive.all() or not positive.any():
            raise HaloInputError("training needs cutouts with and without a halo that can be scored",
                                 found=f"{positive.sum()} with, {(~positive).sum()} without")
        mean, scale = features.mean(axis=0), features.std(axis=0)
        # What does not vary teaches nothing, but for the rounding of its mean.
        constant = scale <= 1e-9 * np.maximum(np.abs(mean), 1e-9)
        scale = np.where(constant, 1.0, scale)
        standard = np.where(constant, 0.0, (features - mean) / scale)
        model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-8, max_iter=500).fit(standard, positive)
        return cls(mean, scale, model.coef_[0].astype(float), model.intercept_.astype(float))

    def __call__(self, features):
        """Return the probability of each row, ``(n,)``; NaN where one of its numbers is."""
        from scipy.special import expit

        if features.shape[1] != len(self.weights):
            raise HaloInputError(f"this model was trained on {len(self.weights)} numbers a cutout",
                                 found=features.shape[1], hint="train it again with this version of halopy")
        exponent = ((features - self.mean) / self.scale) @ self.weights + self.bias[0]
        size = np.abs(exponent)
        return expit(np.sign(exponent) * (np.minimum(size, KNEE) + np.log1p(np.maximum(size, KNEE) - KNEE)))

    def state(self):
        """Return the arrays by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def training_labels(table, *, grades=GRADES):
    """Return which rows show a halo, and which can be trained on.

    Parameters
    ----------
    table : `~astropy.table.Table`
        With a column ``label``, optionally ``also`` and ``grade``.
    grades : sequence of str, optional
        The grades of halos that count, default all. A halo of another grade is neither a halo nor a
        counterexample: it is left out.

    Returns
    -------
    positive, used : `~numpy.ndarray`
        ``(n,)`` bool each.

    Raises
    ------
    HaloInputError
        A row has no label: nobody has judged it, so it is no counterexample either.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from halopy.classify.logistic import training_labels
    >>> table = QTable({"label": ["halo", "halo", "none"], "grade": ["confirmed", "candidate", "confirmed"]})
    >>> training_labels(table, grades=["confirmed"])
    (array([ True, False, False]), array([ True, False,  True]))
    """
    label = np.ma.filled(np.ma.asarray(table["label"]), "").astype(str)
    empty = np.char.strip(label) == ""
    if empty.any():
        raise HaloInputError(f"every training cutout needs a label, {empty.sum()} of {len(empty)} have none",
                             keyword="label", hint="cutouts[cutouts.table['label'] != '']")
    # Without the grades, every halo is one: also one whose grade is empty or unknown.
    halo = is_positive(table[[name for name in table.colnames if name in ("label", "also")]])
    positive = is_positive(table, grades=grades)
    return positive, positive | ~halo
