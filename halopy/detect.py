"""The whole chain as one object: from an image and positions to a table of halo candidates."""

from __future__ import annotations

import functools
import importlib.metadata

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, vstack
from astropy.wcs import WCS

from halopy.classify.base import Classifier
from halopy.errors import HaloInputError, UnusableImageError
from halopy.image import Beam, ClusterImage
from halopy.io.catalog import read_targets
from halopy.io.detections import blank_detections, masked_column
from halopy.model import Model
from halopy.preprocess.controls import control_pixels
from halopy.preprocess.cutout import CutoutMaker
from halopy.preprocess.noise import NoiseEstimator
from halopy.preprocess.project import SkyToPixel
from halopy.preprocess.threads import one_blas_thread
from halopy.preprocess.units import in_jansky_per_beam
from halopy.registry import classifiers
from halopy.survey import surveys

__all__ = ["Detector"]

MIN_CONTROLS = 50
TOGETHER = 1000
ZEROS = 0.95


class Detector(Model):
    """Find halos at given positions, or blindly; called on an image, returns a table.

    Noise, cutouts, scaling and classifier are one object that is saved as one file, so that a
    detection cannot be prepared differently from the training.

    Parameters
    ----------
    classifier : str or Classifier, optional
        A name in `halopy.classifiers` (a model with shipped weights comes with them), or a model.
        Default ``"ensemble"``.
    noise : NoiseEstimator, optional
        Default: ``NoiseEstimator()`` for an image without an rms map.
    cutout_maker : CutoutMaker, optional
        Default: 96 × 96 pixels, three to a beam, up to four where it is elongated.
    scaling : optional
        A step that is applied to the cutouts before the classifier sees them, such as
        `~halopy.SnrAsinh`. Default None.
    n_controls : int, optional
        Control positions drawn in an image, default 250; fewer where they would overlap (two beams
        apart on average). Below 50 the flag ``few-controls`` is set.
    exclusion : float, optional
        Controls keep this far from every target, in beams, default 8; down to a quarter of it where
        there would be fewer than 50 otherwise.
    min_snr : float, optional
        Blind search: the lowest maximum of the significance map that is reported, default 5.
    max_candidates : int, optional
        Blind search: the largest number of candidates, default 50.

    Notes
    -----
    **p-values.** Controls are drawn uniformly over the part of the image that holds data, and
    scored like a target, by the same classifier. p = (1 + number of controls that score at least as
    high) / (1 + number of controls): under the hypothesis that nothing distinguishes the target from
    the rest of the image, P(p ≤ x) ≤ x. It says nothing about what stands out: a relic or a tailed
    galaxy does so as well as a halo. A position found by the blind search has no p-value, because
    it was chosen for its score (flag ``blind``). p-values are masked where the controls are at least
    95 % exact zeros (clipped images).

    **Fluxes** are those of the best-fitting exponential halo within 3 r_e; ``flux_err`` is the
    quadratic sum of noise (of beam-correlated noise under the fit, and its excess over the cutout),
    the survey's flux scale (10 % where no survey is named) and the error of the compact sources
    that were removed.

    Examples
    --------
    >>> from halopy import Detector
    >>> Detector("matched-filter", n_controls=100)
    Detector(classifier='matched-filter', n_controls=100)
    """

    def __init__(self, classifier="ensemble", *, noise=None, cutout_maker=None, scaling=None, n_controls=250,
                 exclusion=8.0, min_snr=5.0, max_candidates=50):
        self.classifier = classifier
        self.noise = noise
        self.cutout_maker = cutout_maker
        self.scaling = scaling
        self.n_controls = n_controls
        self.exclusion = exclusion
        self.min_snr = min_snr
        self.max_candidates = max_candidates

    @one_blas_thread()
    def __call__(self, image, targets=None, *, rng=None):
        """Score targets in an image.

        Parameters
        ----------
        image : ClusterImage
            With a beam, in Jy/beam or a unit that converts to it.
        targets : `~astropy.table.QTable` or `~astropy.coordinates.SkyCoord`, optional
            Whatever `halopy.io.catalog.read_targets` understands; at least name, ra and dec. None:
            a blind search.
        rng : int or `~numpy.random.Generator`, optional
            Seed or generator of the control positions.

        Returns
        -------
        `~astropy.table.QTable`
            One row per target, in the order of the targets; see `halopy.io.detections.COLUMNS`.
            What is not known is masked, and ``status`` says why.
        """
        if targets is None:
            return self.search(image, rng=rng)[0]
        rng = np.random.default_rng(rng)
        self._check()
        targets = _as_targets(targets)
        try:
            image = self.prepare(image)
        except UnusableImageError as error:
            blank = blank_detections(targets["name"], targets["position"], image=image.name, status="unusable")
            return self._finish(blank, targets, image, error=str(error))
        return self._finish(self._score(image, targets, rng, blind=False), targets, image)

    @one_blas_thread()
    def search(self, image, *, rng=None):
        """Search a whole image.

        Parameters
        ----------
        image : ClusterImage
        rng : int or `~numpy.random.Generator`, optional
            Seed or generator.

        Returns
        -------
        detections : `~astropy.table.QTable`
            One row per maximum of the significance map above ``min_snr``, the highest first. They
            are named after their positions and have no p-value.
        significance : ClusterImage
            The signal-to-noise ratio of the best halo at every pixel.
        """
        rng = np.random.default_rng(rng)
        self._check()
        image = self.prepare(image)
        significance = self._filter().significance(image)
        targets = self._candidates(image, significance)
        return self._finish(self._score(image, targets, rng, blind=True), targets, image), significance

    def prepare(self, image):
        """Return the image in Jy/beam with an rms map, as it is scored: exact zeros without noise are no data."""
        if not isinstance(image, ClusterImage):
            raise HaloInputError("a Detector takes a ClusterImage", found=type(image).__name__,
                                 hint='ClusterImage.read("image.fits")')
        if image.beam is None:
            raise HaloInputError("detection needs the beam of the image", path=image.meta.get("path"), keyword="beam",
                                 hint="read it with beam=Beam(...) or survey=...")
        # Noise maps belong to the image as it came, in its own unit: what this noise has prepared is left alone.
        if image.meta.get("prepared") == repr(self.noise):
            return image
        if image.rms is None or self.noise is not None:
            image = (self.noise or NoiseEstimator())(image)
        # As of a mosaic's border. Without zeros no mask is needed.
        if not image.data.all() and (blank := (image.data == 0) & np.isnan(image.rms)).any():
            image = image.replace(data=np.where(blank, np.float32(np.nan), image.data))
        return in_jansky_per_beam(image.replace(meta={**image.meta, "prepared": repr(self.noise)}))

    def cutouts(self, image, targets):
        """Return the cutouts of targets (a table with ``position``, such as the detections) as they are scored."""
        image = self.prepare(image)
        return self._maker(image)(image, targets)

    @one_blas_thread()
    def residuals(self, cutouts):
        """Return cutouts without compact sources, as the fluxes are measured."""
        return self._filter().residual(cutouts)

    @one_blas_thread()
    def explanations(self, cutouts):
        """Return what in each cutout speaks for a halo, in logits; None where the classifier does not tell.

        A classifier that tells has a method ``explain(cutouts)``, such as that of the networks.
        """
        model = self._model()
        if not hasattr(model, "explain"):
            return None
        maps = model.explain(cutouts if self.scaling is None else self.scaling(cutouts))
        if getattr(maps, "shape", None) != cutouts.shape:
            raise HaloInputError(f"explain must return a map of each cutout, {cutouts.shape}",
                                 found=getattr(maps, "shape", type(maps).__name__), keyword=type(model).__name__)
        return maps

    def warm_up(self):
        """Load the classifier and compile what is compiled: a process that is forked then need not do it again."""
        self._model(), self._filter()
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-1 / 60, 1 / 60]
        pixels = np.random.default_rng(1).normal(size=(64, 64))
        pixels[0, 0] = np.nan
        image = self.prepare(ClusterImage(pixels, wcs=wcs, unit=u.Jy / u.beam, beam=Beam(3 * u.arcmin)))
        self.cutouts(image, QTable({"position": wcs.pixel_to_world([5.0], [5.0]).icrs}))

    def _check(self):
        if not (isinstance(self.n_controls, (int, np.integer)) and self.n_controls >= 0):
            raise HaloInputError("n_controls must be a whole number, not negative", found=self.n_controls)
        for name in ("noise", "cutout_maker", "scaling"):
            if not (getattr(self, name) is None or callable(getattr(self, name))):
                raise HaloInputError(f"{name} must be a step, not its settings", found=repr(getattr(self, name)),
                                     hint="NoiseEstimator('map'), CutoutMaker(96), SnrAsinh()")
        numbers = self.exclusion, self.max_candidates, self.min_snr
        if not (all(isinstance(number, (int, float, np.number)) for number in numbers)
                and self.exclusion >= 0 and self.max_candidates > 0 and np.isfinite(self.min_snr)):
            raise HaloInputError("exclusion must not be negative, max_candidates positive, min_snr finite",
                                 found=numbers)
        if self.scaling is not None and _is_matched_filter(self._model()):
            raise HaloInputError("the matched filter takes no scaling: it needs pixels in units of flux",
                                 found=repr(self.scaling), hint="scaling=None")

    def _model(self):
        if isinstance(self.classifier, Classifier):
            return self.classifier
        return _named(self.classifier, classifiers[self.classifier])

    def _filter(self):
        """The matched filter that measures flux and size, whatever classifies."""
        model = self._model()
        return model if _is_matched_filter(model) else classifiers.create("matched-filter")

    def _maker(self, image):
        # Three pixels to the geometric mean of the axes leave an elongated beam too few across.
        sampling = max(3.0, float(2.55 * np.sqrt(image.beam.major / image.beam.minor).to_value(u.one)))
        return self.cutout_maker or CutoutMaker(96, pixels_per_beam=sampling)

    def _scores(self, model, cutouts):
        """The probabilities, and what targets and controls are ranked by: the statistic, where a model has one."""
        if self.scaling is None:
            usable = np.ones(len(cutouts), dtype=bool)
        else:  # a scaling may refuse what has no data and no rms: that is one target's fate, not all of theirs
            usable = np.isfinite(cutouts.data).any(axis=(1, 2)) & (u.Quantity(cutouts.table["rms"]).value > 0)
        probability, rank = np.full((2, len(cutouts)), np.nan)
        if usable.any():
            scaled = cutouts[usable] if self.scaling is None else self.scaling(cutouts[usable])
            # Probabilities crowd at 1, and ties count against a target.
            if callable(getattr(model, "statistic", None)) and callable(getattr(model, "probability", None)):
                rank[usable] = model.statistic(scaled)
                probability[usable] = model.probability(rank[usable])
            else:
                probability[usable] = model.predict_proba(scaled)
                rank[usable] = model.statistic(scaled) if hasattr(model, "statistic") else probability[usable]
        return probability, rank

    def _looked_at(self, image, position, model):
        """Return what is measured at positions, a row each."""
        matched = model if _is_matched_filter(model) else self._filter()
        cutouts = self._maker(image)(image, QTable({"position": position}))
        measured = matched.measure(cutouts)
        if model is matched:
            measured["probability"], measured["rank"] = model.probability(measured["snr"]), measured["snr"]
        else:
            measured["probability"], measured["rank"] = self._scores(model, cutouts)
        measured["east"], measured["north"] = cutouts.sky_offsets(measured["offset_x"], measured["offset_y"])
        measured["rms"], measured["coverage"] = u.Quantity(cutouts.table["rms"], image.unit), cutouts.table["coverage"]
        measured["own_flags"] = np.array(model.flags(cutouts), dtype=object)
        return measured

    def _score(self, image, targets, rng, blind):
        model, position = self._model(), targets["position"]
        # Some at a time: memory does not grow with a catalogue of the whole sky.
        measured = vstack([self._looked_at(image, position[start:start + TOGETHER], model)
                           for start in range(0, max(len(targets), 1), TOGETHER)])
        probability, rank = (np.asarray(measured[name]) for name in ("probability", "rank"))
        inside = _on_image(image, targets["position"])
        usable = inside & np.isfinite(probability)
        p_value, n_controls, crowded = np.full(len(targets), np.nan), 0, []
        if not blind:
            p_value[usable], n_controls, crowded = self._p_values(image, model, targets["position"][inside],
                                                                  rank[usable], rng)
        scale = image.meta.get("flux_scale")
        if scale is None:
            scale = surveys[image.meta["survey"]].flux_scale if image.meta.get("survey") in surveys else 0.1
        flux_err = np.sqrt(measured["flux_noise"] ** 2 + measured["flux_subtraction"] ** 2
                           + (scale * measured["flux"]) ** 2)
        values = {
            "probability": probability, "p_value": p_value, "n_controls": np.full(len(targets), n_controls),
            "snr": measured["snr"], "rms": measured["rms"],
            "flux": measured["flux"], "flux_err": flux_err, "r_e": measured["r_e"],
            "offset_east": measured["east"], "offset_north": measured["north"], "coverage": measured["coverage"],
            "compact_flux": measured["compact_flux"], "compact_flux_err": measured["compact_flux_err"],
        }
        detections = blank_detections(targets["name"], targets["position"], image=image.name, status="ok")
        for name, column in values.items():
            detections[name] = masked_column(name, column, usable)
        known = np.isfinite(targets["position"].ra.deg)
        detections["status"] = np.select([usable, inside, known], ["ok", "unusable", "outside"], "error")
        detections["rms_method"] = np.where(usable, str(image.meta.get("rms_method", "given")), "")
        beam = np.sqrt(image.beam.major * image.beam.minor)
        far = np.hypot(measured["east"], measured["north"]) > np.maximum(measured["r_e"], beam)
        detections["flags"] = [
            " ".join([*image.flags, *(["blind"] if blind else crowded), *(["partial"] if c < 1 - 1e-9 else []),
                      *(["off-centre"] if off else []), *own.split()]) if ok else " ".join(image.flags if near else [])
            for c, off, ok, near, own in zip(measured["coverage"], far, usable, inside, measured["own_flags"],
                                             strict=True)]
        return detections

    def _p_values(self, image, model, targets, rank, rng):
        """Rank targets among controls; return p-values, the number of controls, and flags."""
        controls = self.control_positions(image, targets, rng=rng)
        if len(controls) == 0:
            return np.nan, 0, ["no-controls"]
        cutouts = self._maker(image)(image, QTable({"position": controls}))
        score = model.statistic(cutouts) if _is_matched_filter(model) else self._scores(model, cutouts)[1]
        score = np.sort(score[np.isfinite(score)])
        flags = ["few-controls"] if len(score) < MIN_CONTROLS else []
        if len(score) == 0 or float(np.nanmean(cutouts.table["zeros"])) >= ZEROS:
            return np.nan, len(score), [*flags, "no-p-value"]
        above = len(score) - np.searchsorted(score, rank, side="left")
        return (1 + above) / (1 + len(score)), len(score), flags

    def control_positions(self, image, targets=(), *, n=None, rng=None):
        """Draw control positions, uniformly over the pixels around which there is enough data.

        Parameters
        ----------
        image : ClusterImage
        targets : `~astropy.coordinates.SkyCoord`, optional
            Positions to keep away from.
        n : int, optional
            How many, default ``n_controls``; fewer where they would overlap.
        rng : int or `~numpy.random.Generator`, optional
            Seed or generator.

        Returns
        -------
        `~astropy.coordinates.SkyCoord`
        """
        fwhm = float((np.sqrt(image.beam.major * image.beam.minor) / image.pixel_scale).to_value(u.one))
        x, y = (np.zeros(0),) * 2
        if len(targets):
            x, y = SkyToPixel(image.wcs, image.shape)(targets.icrs.ra.deg, targets.icrs.dec.deg)
        wanted = self.n_controls if n is None else n
        x, y = control_pixels(image.valid, x, y, n=wanted, few=MIN_CONTROLS, fwhm=fwhm, exclusion=self.exclusion,
                              rng=np.random.default_rng(rng))
        return image.wcs.pixel_to_world(x, y).icrs if len(x) else SkyCoord([], [], unit="deg")

    def _candidates(self, image, significance):
        """Positions of the maxima of the significance map."""
        from halopy.classify.significance import maxima

        fwhm = float((np.sqrt(image.beam.major * image.beam.minor) / image.pixel_scale).to_value(u.one))
        x, y, _ = maxima(significance, threshold=self.min_snr, separation=4 * fwhm,
                         most=self.max_candidates)
        if len(x) == 0:
            return _no_targets()
        position = image.wcs.pixel_to_world(x, y).icrs
        names = ["J" + p.ra.to_string(u.hour, sep="", precision=0, pad=True)[:6]
                 + p.dec.to_string(u.deg, sep="", precision=0, pad=True, alwayssign=True)[:7] for p in position]
        return QTable({"name": names, "position": position})

    def _finish(self, detections, targets, image, error=None):
        for name in targets.colnames:
            if name not in detections.colnames:
                detections[name] = targets[name]
        if image.frequency is not None and len(detections):
            detections["frequency"] = np.full(len(detections), image.frequency.to_value(u.MHz)) * u.MHz
        detections.meta = {"halopy": importlib.metadata.version("halopy-radio"), "detector": repr(self),
                           "classifier": repr(self._model()), "weights": self._model().weights_id or "none"}
        if error is not None:
            detections.meta["error"] = error
        return detections


@functools.lru_cache(maxsize=4)
def _named(name, kind):
    """Return the model of a name: weights are read once for each class that bears it."""
    return classifiers.ready(name)


def _is_matched_filter(model):
    return type(model) is classifiers["matched-filter"]


def _as_targets(targets):
    if isinstance(targets, SkyCoord):
        targets = targets.reshape(-1) if targets.isscalar else targets.ravel()
        targets = QTable({"name": [p.to_string("hmsdms", precision=0) for p in targets], "position": targets})
    return read_targets(targets)


def _no_targets():
    return QTable({"name": np.array([], dtype=str), "position": SkyCoord([], [], unit="deg")})


def _on_image(image, positions):
    x, y = SkyToPixel(image.wcs, image.shape)(positions.icrs.ra.deg, positions.icrs.dec.deg)
    return (x >= -0.5) & (x < image.shape[1] - 0.5) & (y >= -0.5) & (y < image.shape[0] - 0.5)
