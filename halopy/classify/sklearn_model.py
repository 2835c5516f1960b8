"""Any scikit-learn estimator as a classifier of halopy."""

from __future__ import annotations

import numpy as np

from halopy.classify.base import Classifier
from halopy.classify.features import cutout_features
from halopy.classify.logistic import training_labels
from halopy.errors import HaloInputError
from halopy.labels import GRADES
from halopy.learning.inputs import has_signal, model_input

__all__ = ["SklearnClassifier"]


class SklearnClassifier(Classifier):
    """Train a scikit-learn estimator on features or pixels of cutouts.

    Parameters
    ----------
    estimator : scikit-learn estimator
        A classifier or pipeline with ``predict_proba`` or ``decision_function``. It is never changed: ``fit``
        trains a clone, whose random states that are None are drawn from ``rng``.
    input : str, optional
        ``"features"`` (default): the numbers of `~halopy.classify.features.cutout_features`; ``"pixels"``:
        those of `~halopy.learning.inputs.model_input`, ``(n, size * size)``.
    size, pixels_per_beam : int, float, optional
        For ``"pixels"``, default 64 and 3.
    grades : sequence of str, optional
        Grades of the halos to learn from, default all; halos of other grades are left out of the training.

    Notes
    -----
    It keeps every promise of `~halopy.classify.Classifier` but one: it cannot be saved. Scikit-learn stores
    its estimators as pickles, which run code when they are read, and halopy reads and writes none. ``fit``
    takes no notice of ``max_seconds``, ``max_images`` and ``checkpoint``.

    A ``decision_function`` is made a probability by 1 / (1 + exp(−x)), which is not calibrated.

    Examples
    --------
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from halopy import simulate
    >>> from halopy.classify.sklearn_model import SklearnClassifier
    >>> model = SklearnClassifier(RandomForestClassifier(n_estimators=10))
    >>> model.fit(simulate.cutouts(40, rng=1), rng=1)
    SklearnClassifier(estimator=RandomForestClassifier(n_estimators=10))
    >>> model.predict_proba(simulate.cutouts(3, rng=2)).shape
    (3,)
    """

    def __init__(self, estimator, *, input="features", size=64, pixels_per_beam=3.0, grades=GRADES):
        self.estimator = estimator
        self.input = input
        self.size = size
        self.pixels_per_beam = pixels_per_beam
        self.grades = grades

    def __eq__(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return _settings(self) == _settings(other)

    __hash__ = object.__hash__

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        from sklearn.base import clone

        if isinstance(self.estimator, type) or not (hasattr(self.estimator, "fit")
                                                    and hasattr(self.estimator, "get_params")):
            raise HaloInputError("estimator must be a scikit-learn estimator", found=repr(self.estimator)[:80],
                                 hint="SklearnClassifier(RandomForestClassifier())")
        if not any(hasattr(self.estimator, name) for name in ("predict_proba", "decision_function")):
            raise HaloInputError("the estimator must have predict_proba or decision_function",
                                 found=type(self.estimator).__name__, hint="a setting such as probability=True")
        positive, used = training_labels(cutouts.table, grades=self.grades)
        numbers = self._numbers(cutouts[used])
        known, positive = np.isfinite(numbers).all(axis=1), positive[used]
        if len({*positive[known].tolist()}) < 2:
            raise HaloInputError("training needs cutouts with and without a halo that can be scored",
                                 found=f"{positive[known].sum()} with, {(~positive[known]).sum()} without")
        model = clone(self.estimator)
        random = [name for name, value in sorted(model.get_params().items())
                  if name.split("__")[-1] == "random_state" and value is None]
        model.set_params(**{name: int(rng.integers(2**31)) for name in random})
        self.model_ = model.fit(numbers[known], positive[known].astype(int))

    def _predict_proba(self, cutouts):
        from scipy.special import expit

        numbers = self._numbers(cutouts)
        known = np.isfinite(numbers).all(axis=1)
        probability = np.full(len(numbers), np.nan)
        if known.any():
            if hasattr(self.model_, "predict_proba"):
                probability[known] = self.model_.predict_proba(numbers[known])[:, 1]
            else:
                probability[known] = expit(self.model_.decision_function(numbers[known]))
        return probability

    def _numbers(self, cutouts):
        """``(n, k)``; NaN in the rows of cutouts that show nothing."""
        if self.input == "features":
            return cutout_features(cutouts)[0]
        if self.input != "pixels":
            raise HaloInputError("input must be 'features' or 'pixels'", found=self.input)
        pixels = model_input(cutouts, size=self.size, pixels_per_beam=self.pixels_per_beam)
        return np.where(has_signal(pixels)[:, None], pixels.reshape(len(pixels), -1), np.nan)

    def save(self, path, *, overwrite=False):
        """Refuse: an estimator can be stored as a pickle only, and a pickle can run code when it is read."""
        raise HaloInputError("a scikit-learn estimator cannot be saved: halopy writes no pickles", path=path,
                             found=type(self.estimator).__name__,
                             hint="features-lr or pca-lr, which can be saved, or training again with the same rng")


def _settings(model):
    # Two estimators are equal where they are one object only: their settings are compared instead.
    settings = {name: repr(value) for name, value in model.params.items()}
    estimator = getattr(model.estimator, "get_params", dict)()
    return settings, type(model.estimator), {name: repr(value) for name, value in estimator.items()}
