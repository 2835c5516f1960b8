"""How good generated images are: real ones beside them in every measure, and what a generator has to beat."""

from halopy.generative.quality.measures import report
from halopy.generative.quality.memorisation import nearest
from halopy.generative.quality.reference import gaussian_field, smoothed

__all__ = ["gaussian_field", "nearest", "report", "smoothed"]
