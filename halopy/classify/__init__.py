"""Classifiers, found through `halopy.classifiers`; the contract is `Classifier`."""

from halopy.classify.base import Classifier

__all__ = ["Classifier"]
