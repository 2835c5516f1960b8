"""A generator that draws shapelets: what the images of a class are made of, and how that varies."""

from __future__ import annotations

import warnings
from numbers import Real

import numpy as np
from astropy import units as u
from astropy.table import Table

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError, HalopyWarning
from halopy.generative.base import HaloGenerator
from halopy.generative.conditions import CLASSES, class_names, conditions_drawn, given
from halopy.image import FWHM_TO_SIGMA
from halopy.learning.inputs import has_signal, model_input, noise_level, signal_to_noise, values_in
from halopy.simulate.noise import draw_noise
from halopy.uvshapelets.pixels import pixel_shapelets
from halopy.uvshapelets.polar import turn

__all__ = ["ShapeletGenerator"]

SEEN = 4096
"""So many images of the training set are kept, as coefficients."""
NUMBERS = ("snr", "frequency", "beam", "rms", "scatter")
CENTRE = 2.0
"""Beams from the centre within which the brightest pixel makes the S/N."""
COMMON = 3.0
"""Images of all classes that a class of its own is mixed with."""
TRIES = 8
"""Images among which the one of the nearest S/N is taken."""
CLIPPED = 0.5
FEW = 200
"""Pixels beyond the shapelets that are too few to say what the noise is; it is then that of what they leave."""
QUIET = 0.01
"""Least noise of an image, in its rms: what was made without noise has none."""
TINY = 1e-12
MOST = 10.0
"""By how much an image is made brighter, at most, to have a S/N."""


class ShapeletGenerator(HaloGenerator):
    """Cutouts of shapelets, drawn from what labelled cutouts of full (not clipped) sky are made of, and noise.

    Experimental. Trained in seconds, on few images, and without a network.

    Parameters
    ----------
    n_max : int, optional
        Largest order, default 12.
    beta : float, optional
        Scale in beams, default 0.9: with ``n_max`` 12 the shapelets reach 4.5 beams from the centre, and resolve the
        beam.
    smoothing : float, optional
        From 0, turned images of the training set as far as they stand out of the noise, to 1, a Gaussian field; default
        0.3.
    size : int, optional
        Pixels of the square images, default 64.
    pixels_per_beam : float, optional
        Their grid, default 3.

    Notes
    -----
    Images are projected onto polar shapelets about their centre (`~halopy.learning.inputs.model_input` without its
    compression). The coefficients of image i are modelled as a_i t_i + noise: the noise is that of rms 1 (of what lies
    beyond the shapelets), correlated as the beam; a_i² is the energy in excess of it; and the shapes t_i of a
    class are Gaussian, with mean and covariance from the weighted moments of its images, less those of the noise, the
    same for all orientations, and mixed with those of all classes where the images are few. To make an image, one of
    the class is turned at random and mirrored, its shape drawn from the posterior distribution given its coefficients
    (the shape itself where it is bright, the class where it is faint), replaced in part by a draw from the class
    (``smoothing``: a smoothed bootstrap), times a_i, and given new noise.

    What lies beyond the shapelets is noise: neighbours and artefacts farther than about five beams from the centre
    are not made.

    Conditions: ``label``; optionally ``grade`` (a halo that is not ``confirmed`` is a class of its own), ``frequency``,
    ``rms``, and ``snr``, the brightest pixel within two beams of the centre, over the rms. An S/N is met exactly but
    where noise alone exceeds it. What is not given is that of an image of the training set of the same class.

    ``max_seconds``, ``max_images`` and ``checkpoint`` have no effect on ``fit``.

    References
    ----------
    Refregier 2003, MNRAS 338, 35, arXiv astro-ph/0105178; Massey et al. 2004, MNRAS 348, 214, arXiv
    astro-ph/0301449 (simulated images from shapelets of real galaxies); Silverman & Young 1987, Biometrika 74, 469,
    doi 10.1093/biomet/74.3.469 (the smoothed bootstrap).

    Examples
    --------
    >>> from halopy import generators
    >>> from halopy.testing import simulated_cutouts
    >>> shapelet = generators.create("shapelet").fit(simulated_cutouts(60), rng=1)
    >>> shapelet.sample(2, label="halo", rng=1)
    <CutoutSet 2 x (64, 64) Jy / beam, columns label snr frequency rms ...>
    """

    optional_conditions = ("snr", "frequency", "rms")
    text_conditions = ("grade",)
    sampling_settings = ("smoothing",)

    def __init__(self, *, n_max=12, beta=0.9, smoothing=0.3, size=64, pixels_per_beam=3.0):
        self.n_max = n_max
        self.beta = beta
        self.smoothing = smoothing
        self.size = size
        self.pixels_per_beam = pixels_per_beam

    def _shapelets(self):
        if not (isinstance(self.smoothing, Real) and 0 <= self.smoothing <= 1):
            raise HaloInputError("smoothing must be from 0 to 1", keyword="smoothing", found=self.smoothing)
        if not isinstance(self.pixels_per_beam, Real):
            raise HaloInputError("the scale of the shapelets is one in beams: pixels_per_beam must be a number",
                                 keyword="pixels_per_beam", found=self.pixels_per_beam)
        return pixel_shapelets(self.n_max, self.beta, self.size, self.pixels_per_beam)

    def _central(self):
        y, x = np.indices((self.size, self.size)) - (self.size - 1) / 2
        return np.hypot(x, y) <= CENTRE * self.pixels_per_beam

    def _fit(self, cutouts, *, rng, progress, max_seconds, max_images, checkpoint):
        shapelets = self._shapelets()
        empty = ~np.isfinite(cutouts.data).all(axis=(1, 2))
        if empty.any() or not len(cutouts):
            raise HaloInputError("a generator learns from cutouts full of data",
                                 found=f"{empty.sum()} of {len(cutouts)} have pixels without",
                                 hint="cutouts[np.isfinite(cutouts.data).all(axis=(1, 2))]")
        if np.median((cutouts.data == 0).mean(axis=(1, 2))) > CLIPPED:
            warnings.warn("most pixels of these cutouts are 0: they are clipped, and their noise is not that of the "
                          "sky; train on full sky, and clip real and generated images alike afterwards (halopy.clip)",
                          HalopyWarning, stacklevel=3)
        cutouts = cutouts[np.sort(rng.permutation(len(cutouts))[:SEEN])]
        inputs = model_input(cutouts, size=self.size, pixels_per_beam=self.pixels_per_beam)
        if not has_signal(inputs).all():
            raise HaloInputError("a generator learns from cutouts that show something",
                                 found=f"{(~has_signal(inputs)).sum()} of {len(cutouts)} are of one value",
                                 hint="leave them out")
        pixels, table = signal_to_noise(inputs), cutouts.table
        coefficients = shapelets.project(pixels)
        scatter = [_scatter(image[shown & shapelets.beyond] if (shown & shapelets.beyond).sum() > FEW else left[shown])
                   for image, left, shown in
                   # A cutout that is smaller than the grid stands in the middle of zeros.
                   zip(pixels, pixels - shapelets.image(coefficients), inputs != 0, strict=True)]
        beam = np.sqrt(values_in(table["beam_major"], u.arcsec) * values_in(table["beam_minor"], u.arcsec))
        frequency = (values_in(table["frequency"], u.MHz) if "frequency" in table.colnames
                     else np.full(len(table), np.nan))
        columns = (pixels[:, self._central()].max(axis=1), frequency, beam, noise_level(cutouts),
                   np.maximum(scatter, QUIET))
        self._unit = cutouts.unit
        self._learn(class_names(table), [_known(np.nan_to_num(column)) for column in columns],
                    coefficients.astype(np.float32))

    def _learn(self, classes, columns, coefficients):
        """Take over what is kept of the training set, and make the model of it."""
        shapelets = self._shapelets()
        self._seen = Table([classes, *columns], names=("class", *NUMBERS))
        self._coefficients = coefficients
        self._root = np.linalg.cholesky(shapelets.noise)
        scatter = np.asarray(self._seen["scatter"], dtype=float)
        # In units of the noise: its covariance is then 1, and turning still mixes ±m of one order alone.
        self._white = np.linalg.solve(self._root, (coefficients / scatter[:, None]).T).T
        n = self._white.shape[1]
        energy = np.maximum(np.sum(self._white**2, axis=1) - n, 0.0)
        self._amplitude = np.sqrt(energy)
        # Shapes of faint images are known badly, and the energy of none at all scatters by √(2n).
        weight = (energy / (energy + np.sqrt(2 * n))) ** 2
        inverse = 1 / np.maximum(energy, 1.0)

        def moments(here):
            first = np.where(shapelets.orders[:, 1] == 0, (weight * np.sqrt(inverse))[here] @ self._white[here], 0.0)
            each = (weight * inverse)[here]
            second = (self._white[here].T * each) @ self._white[here] - each.sum() * np.eye(n)
            return weight[here].sum(), first, shapelets.turned_mean(second)

        every = moments(slice(None))
        share = COMMON / max(every[0], COMMON)
        self._models = {}
        for name in sorted(set(classes)):
            own = moments(np.asarray(classes) == name)
            total, first, second = (mine + share * common for mine, common in zip(own, every, strict=True))
            mean = first / max(total, TINY)
            variance, modes = np.linalg.eigh(second / max(total, TINY) - np.outer(mean, mean))
            self._models[name] = mean @ modes, np.maximum(variance, 0.0), modes

    def _sample(self, conditions, rng):
        shapelets, n = self._shapelets(), len(conditions)
        asked = {name: given(conditions, name, unit) for name, unit in
                 (("snr", u.one), ("frequency", u.MHz), ("rms", self._unit))}
        classes = class_names(conditions)
        rows = self._rows(classes, asked, rng)
        values = {name: np.asarray(self._seen[name], dtype=float)[rows] for name in NUMBERS}
        for name in ("frequency", "rms"):
            values[name] = np.where(np.isnan(asked[name]), values[name], asked[name])
        coefficients = self._coefficients_drawn(classes, rows, rng)
        noise = draw_noise(n, (self.size, self.size), (self.pixels_per_beam * FWHM_TO_SIGMA) ** 2 * np.eye(2), rng=rng)
        pixels = np.empty((n, self.size, self.size))
        central = self._central()
        for i in range(n):
            sky = shapelets.image(coefficients[i][None])[0] * values["scatter"][i]
            grain = noise[i] * values["scatter"][i]
            factor = 1.0
            if np.isfinite(asked["snr"][i]):
                # The least factor by which some pixel reaches the S/N.
                bright = central & (sky > 0)
                factor = np.min((asked["snr"][i] - grain[bright]) / sky[bright], initial=MOST).clip(0)
            pixels[i] = factor * sky + grain
        values["snr"] = np.where(np.isnan(asked["snr"]), pixels[:, central].max(axis=1, initial=0.0), asked["snr"])
        table = conditions.copy()
        for name, unit in (("snr", None), ("frequency", u.MHz), ("rms", self._unit)):
            table[name] = values[name] if unit is None else values[name] * unit
        beam = values["beam"] * u.arcsec
        table["beam_major"], table["beam_minor"], table["beam_pa"] = beam, beam, np.zeros(n) * u.deg
        table["pixel_scale"] = beam / self.pixels_per_beam
        return CutoutSet(pixels * values["rms"][:, None, None], table, unit=self._unit)

    def _rows(self, classes, asked, rng):
        """Choose an image of the training set for each, of a S/N like that which is asked for."""
        tries = np.array([conditions_drawn(classes, asked["snr"], asked["frequency"], self._seen, rng)
                          for _ in range(TRIES)]).reshape(TRIES, len(classes))
        away = np.abs(np.log(np.maximum(np.asarray(self._seen["snr"])[tries], QUIET) / np.maximum(asked["snr"], QUIET)))
        return tries[np.argmin(np.nan_to_num(away), axis=0), np.arange(len(classes))]

    def _coefficients_drawn(self, classes, rows, rng):
        """Return coefficients ``(n, K)`` like those of images of the training set, in units of the noise."""
        n, size = len(rows), self._white.shape[1]
        m = self._shapelets().orders[:, 1]
        angle, mirrored = rng.uniform(0, 2 * np.pi, n), rng.integers(2, size=n) == 1
        normals = rng.standard_normal((2, n, size))
        result = np.empty((n, size))
        for i, (name, row) in enumerate(zip(classes, rows, strict=True)):
            mean, variance, modes = self._models[name]
            seen = turn(self._white[row], self.n_max, angle[i])
            seen = np.where(mirrored[i] & (m < 0), -seen, seen) @ modes
            amplitude = self._amplitude[row]
            # The posterior of the shape: prior and noise are independent from mode to mode.
            gain = variance / (amplitude**2 * variance + 1)
            shape = amplitude * gain * (seen - amplitude * mean) + np.sqrt(gain) * normals[0, i]
            shape = np.sqrt(1 - self.smoothing**2) * shape + self.smoothing * np.sqrt(variance) * normals[1, i]
            result[i] = amplitude * (modes @ (mean + shape))
        return result @ self._root.T

    def _state(self):
        if not self.fitted_:
            return {}
        place = {name: k for k, name in enumerate(CLASSES)}
        arrays = {f"seen.{name}": np.nan_to_num(np.asarray(self._seen[name], dtype=np.float32)) for name in NUMBERS}
        return arrays | {"seen.class": np.array([place[name] for name in self._seen["class"]], dtype=np.int16),
                         "coefficients": self._coefficients,
                         "unit": np.frombuffer(self._unit.to_string().encode() or b" ", dtype=np.uint8).copy()}

    def _set_state(self, state):
        if not state:
            return
        names = [f"seen.{name}" for name in NUMBERS]
        if set(state) != {*names, "seen.class", "coefficients", "unit"}:
            raise HaloInputError("the arrays are not those of this generator", found=sorted(state))
        classes, coefficients = np.asarray(state["seen.class"]), np.asarray(state["coefficients"])
        columns = [np.asarray(state[name]) for name in names]
        shape = (len(classes), len(self._shapelets().orders))
        if coefficients.shape != shape or not len(classes) or any(c.shape != shape[:1] for c in columns):
            raise HaloInputError(f"there must be {shape[1]} coefficients an image, and one number of each kind",
                                 keyword="coefficients", found=coefficients.shape)
        if classes.dtype.kind != "i" or classes.min() < 0 or classes.max() >= len(CLASSES):
            raise HaloInputError(f"classes are numbers from 0 to {len(CLASSES) - 1}", keyword="seen.class")
        try:
            self._unit = u.Unit(np.asarray(state["unit"]).astype(np.uint8).tobytes().decode().strip())
        except ValueError as error:
            raise HaloInputError("this is no unit", keyword="unit", found=state["unit"].tolist()[:20]) from error
        self._learn(np.array(CLASSES)[classes], [_known(column) for column in columns], coefficients)
        super()._set_state(state)


def _scatter(pixels):
    return 1.4826 * np.median(np.abs(pixels - np.median(pixels)))


def _known(numbers):
    """Return numbers of which 0 stands for unknown in a file as they are used."""
    numbers = np.asarray(numbers, dtype=np.float32)
    return np.where(numbers == 0, np.float32(np.nan), numbers)
