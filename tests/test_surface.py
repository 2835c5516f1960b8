"""The names a user sees; a change here is a change of the API."""

from __future__ import annotations

import importlib.metadata

import halopy

API = [
    "Augmenter",
    "Beam",
    "ClusterImage",
    "CutoutMaker",
    "CutoutSet",
    "Detector",
    "HaloInputError",
    "LogMinMax",
    "NoiseEstimator",
    "SnrAsinh",
    "classifiers",
    "clip",
    "generators",
    "is_positive",
    "subtract_compact",
    "surveys",
]


def test_the_api():
    assert halopy.__all__ == API
    assert len(API) <= 16


def test_every_name_is_there_and_documented():
    for name in API:
        assert getattr(halopy, name).__doc__, name


def test_the_version_is_the_distributions():
    assert halopy.__version__ == importlib.metadata.version("halopy-radio")
