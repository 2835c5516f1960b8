"""Halos straight from visibilities: shapelets that are fitted and tested where they are measured (experimental)."""

from halopy.uvshapelets.basis import ShapeletBasis
from halopy.uvshapelets.detect import detect_halo
from halopy.uvshapelets.fit import NormalEquations
from halopy.uvshapelets.nuisance import PointSources
from halopy.uvshapelets.templates import ExponentialHalo, GaussianHalo
from halopy.uvshapelets.visibilities import Visibilities

__all__ = ["ExponentialHalo", "GaussianHalo", "NormalEquations", "PointSources", "ShapeletBasis", "Visibilities",
           "detect_halo"]
