"""The physical simulator as a generator: the baseline that trained generators have to beat."""

from __future__ import annotations

import dataclasses

import numpy as np
from astropy import units as u

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.generative.base import HaloGenerator
from halopy.generative.conditions import given
from halopy.simulate.injection import inject
from halopy.simulate.observe import Artefacts
from halopy.simulate.population import relations
from halopy.simulate.sources import scenes
from halopy.simulate.survey_cutouts import MARGIN, check_form, observe, random_positions
from halopy.survey import surveys

__all__ = ["Exponential"]

RMS_SLOPE = -2.0
"""Of the rms with frequency: 41, 20, 13 and 7.7 mJy/beam in the bands of GLEAM from 88 to 200 MHz."""


class Exponential(HaloGenerator):
    """Cutouts by the physics that is known: halos exp(−r / r_e), and what is mistaken for them.

    Nothing is trained: `halopy.simulate` draws clusters, the sources their label asks for, and what a
    survey sees of them. What learns from real images should make better ones than this.

    Parameters
    ----------
    survey : str, optional
        A name in `halopy.surveys`, default ``"gleam-170-231"``.
    shape : tuple of int, optional
        ``(ny, nx)``, default (64, 64).
    relation : str, optional
        The power-mass relation of the halos, a name in `halopy.simulate.relations`, default
        ``"cuciti+2023"``.
    faintest : `~astropy.units.Quantity`, optional
        Flux density of the faintest compact source, at the frequency of the cutout. Default: 0.65 of
        the rms.
    background : bool, optional
        Whether there are noise and other sources, default True. False: what the label names and
        nothing else, without noise.
    artefacts : bool, optional
        Whether there are sidelobe rings, stripes, ripple and uneven noise (`Artefacts`), default
        True. Every pixel holds data. Without background there are none.

    Notes
    -----
    Conditions: ``label`` (any but ``other``), and where they are given:

    - ``frequency``: fluxes follow from the spectra of the sources, the beam and the pixel scale go as
      1/frequency, as those of one array do, and the rms as frequency⁻², as it does from one band of
      GLEAM to the next. Cutouts of one frequency are made together: few frequencies are faster than
      many. Default: the survey's.
    - ``snr``: the peak, over the rms, of what the label names, after the beam. Without meaning for
      ``none`` and ``blank``.
    - ``size``: the angle ``r_e`` (e-folding radius) of halos and mini-halos, ``length`` of all others.

    The cutouts have the columns and ``meta["sources"]`` of `halopy.simulate.cutouts`, and ``size``.

    References
    ----------
    Murgia+ 2009, A&A 499, 679, arXiv 0901.1943 (the profile); see `halopy.simulate.scenes` for the rest.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from halopy import generators
    >>> exponential = generators.create("exponential")
    >>> exponential.sample(3, label="relic", rng=1)
    <CutoutSet 3 x (64, 64) Jy / beam, columns ...>
    >>> wanted = QTable({"label": ["halo", "none"], "snr": [8, float("nan")], "size": [90, 90] * u.arcsec})
    >>> print(exponential.sample(2, conditions=wanted, rng=1).table["label", "snr", "r_e"])
    label snr   r_e
              arcsec
    ----- --- ------
     halo 8.0   90.0
     none 0.0    nan
    """

    optional_conditions = ("frequency", "snr", "size")
    trainable = False

    def __init__(self, *, survey="gleam-170-231", shape=(64, 64), relation="cuciti+2023", faintest=None,
                 background=True, artefacts=True):
        self.survey = survey
        self.shape = shape
        self.relation = relation
        self.faintest = faintest
        self.background = background
        self.artefacts = artefacts

    def _sample(self, conditions, rng):
        survey = self._survey()
        n = len(conditions)
        frequency = given(conditions, "frequency", u.MHz)
        size = given(conditions, "size", u.arcsec)
        snr = given(conditions, "snr", u.one)
        frequency = np.where(np.isnan(frequency), survey.frequency.to_value(u.MHz), frequency)
        labels = np.asarray(conditions["label"]).astype(str)
        bands, number = np.unique(frequency, return_inverse=True)
        rows = [np.flatnonzero(number == k) for k in range(len(bands))] or [np.arange(0)]
        # An empty set is one of the survey's own frequency, without a row.
        bands = bands * u.MHz if n else survey.frequency.reshape(1)
        made = [self._band(labels[here], snr[here], size[here], _scaled(survey, band), rng)
                for band, here in zip(bands, rows, strict=True)]
        return _in_order(made, np.concatenate(rows)) if len(made) > 1 else made[0]

    def _survey(self):
        # Anything but names could not be saved with the model.
        for name, known in (("survey", surveys), ("relation", relations)):
            if not isinstance(getattr(self, name), str):
                raise HaloInputError(f"{name} must be a name: {', '.join(known)}", keyword=name,
                                     found=type(getattr(self, name)).__name__,
                                     hint="simulate.cutouts takes any" if name == "survey" else None)
        return surveys[self.survey]

    def _band(self, labels, snr, size, survey, rng):
        """Return the cutouts of one frequency."""
        check_form(self.shape)
        n, shape = len(labels), tuple(self.shape)
        positions = random_positions(n, survey, rng)
        widest = max(width.max(initial=0 * u.deg) for width in survey.beam_widths(positions.icrs.dec))
        extent = max(shape) * survey.pixel_scale + 2 * MARGIN * widest
        sources = scenes(labels, survey=survey, relation=self.relation, faintest=self.faintest, extent=extent, rng=rng)
        if not self.background:
            sources = sources[sources["main"]]
        _resize(sources, size)
        artefacts = Artefacts(borders=0) if self.artefacts and self.background else None
        made = observe(sources, positions, survey=survey, shape=shape, faintest=self.faintest, artefacts=artefacts,
                       snr=snr, rng=rng)
        if not self.background:
            # The same sources again, on nothing.
            made = inject(made.replace(data=np.zeros_like(made.data), meta={}), made.meta["sources"])
        table = made.table.copy()
        table["size"] = np.where(np.isnan(table["r_e"]), table["length"], table["r_e"])
        return made.replace(table=table)


def _scaled(survey, frequency):
    """Return what a survey would be at another frequency."""
    if frequency == survey.frequency:
        return survey
    ratio = (frequency / survey.frequency).to_value(u.one)
    return dataclasses.replace(survey, frequency=frequency, beam=tuple(width / ratio for width in survey.beam),
                               pixel_scale=survey.pixel_scale / ratio, rms=survey.rms * ratio**RMS_SLOPE)


def _resize(sources, size):
    """Give the main sources their sizes, in place."""
    main = np.flatnonzero(sources["main"])
    wanted = size[np.asarray(sources["cutout"])[main]]
    for name in ("r_e", "length"):
        drawn = sources[name][main].to_value(u.arcsec)
        changed = np.isfinite(wanted) & np.isfinite(drawn)
        rows, factor = main[changed], (wanted / drawn)[changed]
        sources[name][rows] = wanted[changed] * u.arcsec
        if name == "r_e":
            # A halo lies off the centre by a part of its size.
            sources["east"][rows] *= factor
            sources["north"][rows] *= factor


def _in_order(sets, rows):
    """Join sets, such that each cutout comes to its row."""
    joined = sets[0].join(*sets[1:])
    sources = joined.meta["sources"]
    sources["cutout"] = rows[sources["cutout"]]
    sources = sources[np.argsort(sources["cutout"], kind="stable")]
    joined = joined[np.argsort(rows)]
    return CutoutSet(joined.data, joined.table, unit=joined.unit, meta=joined.meta | {"sources": sources})
