"""halopy: find radio halos of galaxy clusters in low-resolution survey images."""

from importlib.metadata import version

from halopy.cutouts import CutoutSet
from halopy.detect import Detector
from halopy.errors import HaloInputError
from halopy.image import Beam, ClusterImage
from halopy.io import fits as _fits  # registers the FITS format of ClusterImage  # noqa: F401
from halopy.labels import is_positive
from halopy.preprocess.augment import Augmenter
from halopy.preprocess.clip import clip
from halopy.preprocess.cutout import CutoutMaker
from halopy.preprocess.noise import NoiseEstimator
from halopy.preprocess.scale import LogMinMax, SnrAsinh
from halopy.preprocess.subtract import subtract_compact
from halopy.registry import classifiers, generators
from halopy.survey import surveys

__version__ = version("halopy-radio")

__all__ = [
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
