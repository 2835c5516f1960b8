"""All measures of two sets of images at once: what `halopy.generative.quality` draws again and again."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from halopy.errors import HaloInputError
from halopy.generative.quality.common_input import common_images
from halopy.generative.quality.image_features import (
    EDGES,
    beam_averages,
    image_features,
    light,
    log_power,
    minkowski,
    pixel_histograms,
    power_spectra,
    radial_profiles,
)
from halopy.generative.quality.set_distances import (
    density_coverage,
    frechet_distance,
    kernel_distance,
    mean_distance,
    principal_components,
    standardised,
    wasserstein,
)

__all__ = ["Comparison", "Measured", "measured"]

N_FUNCTIONALS = 3
NUMBERS = ("flux_centre", "flux_total", "size")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured of each image of a set; a row an image. ``take`` selects rows."""

    labels: np.ndarray
    groups: np.ndarray
    images: np.ndarray
    features: np.ndarray
    histogram: np.ndarray
    power: np.ndarray
    profile: np.ndarray
    numbers: np.ndarray
    blocks: np.ndarray

    def take(self, rows):
        """Return the same of some of the images."""
        return Measured(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def __len__(self):
        return len(self.labels)


def measured(cutouts, size, *, grouped=False):
    """Measure every image of a set that holds data.

    Parameters
    ----------
    cutouts : CutoutSet
        With ``label``.
    size : int
        Pixels of the common input, from `halopy.generative.quality.common_input.common_size` of all sets that are
        compared.
    grouped : bool, optional
        Whether images of one ``group`` are one piece of sky, as real ones are; default False: each image is its own.

    Returns
    -------
    Measured
    """
    images, rows = common_images(cutouts, size)
    if not len(rows):
        raise HaloInputError("a set of images must hold data", found=0)
    table = cutouts.table
    groups = np.asarray(table["group"]).astype(str)[rows] if grouped else np.arange(len(rows))
    spread = light(images)
    numbers = [*(values for functional in minkowski(images) for values in functional.T),
               *(np.arcsinh(spread[name]) for name in ("flux_centre", "flux_total")), spread["size"]]
    return Measured(labels=np.asarray(table["label"]).astype(str)[rows], groups=groups, images=images,
                    features=image_features(images)[0], histogram=pixel_histograms(images),
                    power=log_power(power_spectra(images)), profile=radial_profiles(images),
                    numbers=np.stack(numbers, axis=1), blocks=beam_averages(images))


class Comparison:
    """All measures of two sets of images, in units of the scatter of all real images.

    Parameters
    ----------
    real : Measured
        All real images.
    labels : sequence of str
        Those that are measured on their own.
    n : int
        About how many images there will be a side, see
        `~halopy.generative.quality.set_distances.principal_components`.
    """

    def __init__(self, real, labels, n):
        self.real = real
        self.labels = labels
        self.scatter = np.maximum(real.numbers.std(axis=0), 1e-9)
        self.axes = principal_components(standardised(real.features, real.features), n)

    def __call__(self, real, made):
        """Return all measures of some real images and as many others, by name; with ``@`` those of a label."""
        x, y = (standardised(part.features, self.real.features) for part in (real, made))
        numbers = wasserstein(real.numbers, made.numbers) / self.scatter
        functionals = numbers[:-len(NUMBERS)].reshape(N_FUNCTIONALS, -1).mean(axis=1)
        shares = [np.cumsum(part.histogram.mean(axis=0, dtype=float)) for part in (real, made)]
        result = {"pixel_wasserstein": np.abs(shares[0] - shares[1]).sum() * (EDGES[1] - EDGES[0]),
                  "power_spectrum": _apart(real.power, made.power),
                  "radial_profile": _apart(real.profile, made.profile)}
        result |= zip(("minkowski_area", "minkowski_perimeter", "minkowski_euler"), functionals, strict=True)
        result |= zip(NUMBERS, numbers[-len(NUMBERS):], strict=True)
        result["kid"] = kernel_distance(x, y, first_groups=real.groups, second_groups=made.groups)
        result["frechet"] = frechet_distance(x @ self.axes, y @ self.axes)
        result["density"], result["coverage"] = density_coverage(x, y, groups=real.groups)
        of_label = {name: np.full(len(self.labels), np.nan)
                    for name in ("radial_profile", "diversity_features", "diversity_pixels")}
        counts = np.zeros(len(self.labels))
        for k, label in enumerate(self.labels):
            own, other = real.labels == label, made.labels == label
            counts[k] = own.sum()
            if counts[k] < 2:
                continue
            of_label["radial_profile"][k] = _apart(real.profile[own], made.profile[other])
            of_label["diversity_features"][k] = (mean_distance(y[other], groups=made.groups[other])
                                                 / mean_distance(x[own], groups=real.groups[own]))
            of_label["diversity_pixels"][k] = _scatter(made.blocks[other]) / _scatter(real.blocks[own])
        for name in ("diversity_features", "diversity_pixels"):
            known = np.isfinite(of_label[name])
            result[name] = np.average(of_label[name][known], weights=counts[known]) if known.any() else np.nan
        return result | {f"{name}@{label}": value for name, values in of_label.items()
                         for label, value in zip(self.labels, values, strict=True)}


def _apart(first, second):
    """Return the mean distance of two mean curves."""
    return np.abs(first.mean(axis=0) - second.mean(axis=0)).mean()


def _scatter(blocks):
    """Return the scatter of each pixel over the set, root mean square over the pixels."""
    return np.sqrt(blocks.var(axis=0, ddof=1).mean())
