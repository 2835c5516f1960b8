"""Injected halos by the thousand: recall against S/N, flux and size at 1 % false positives.

Usage: python benchmarks/injected_halos.py [--data FOLDER] [--weights FILE ...] [--tune] [-n 4096] [--seed 20261201]
       [--figure FILE]

``--weights``: files of tools/train_ensemble.py, named by their file (default: the weights that ship with halopy); each
stands beside the matched filter, and beside two models that are trained here. Everything is done twice, with a
population like that of the training ("same") and with another ("shifted"; docs/benchmarks.rst says in what it differs).

- Simulated MWA sky: ``-n`` cutouts of each population, GLEAM (some of them clipped) and GLEAM-X at 170-231 MHz.
- NVSS, with ``--data FOLDER`` (``index.csv``, ``mwa-gleam/``, ``nvss/``; default: HALOPY_TEST_DATA): control positions
  of 15 fields, each as it is, with a halo twice, and once with something else that is extended. Weights that have
  seen one of the fields are refused: give ``ensemble-simulated.safetensors``. ``--tune``: the first such ensemble goes
  on with real targets and with halos injected into the fields, as the one that ships; the fields are dealt into five
  parts, and each is scored by an ensemble that was tuned without it.

A positive is a halo of an ideal S/N of 3 or more: that of a filter that knows place, size and shape of a smooth round
halo, in noise alone. "Empty" is what holds compact sources only. Intervals are 95 %, by drawing groups of fields (NVSS)
or cutouts. What a model cannot score counts as not found.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path

import numpy as np
from astropy import units as u

from halopy import classifiers, simulate
from halopy.classify.ensemble import Ensemble
from halopy.classify.evaluate import refuse_seen
from halopy.errors import HaloInputError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import real_sky
import training_sky
from injected_scores import FIRST, Scores, by_survey, draw, ideal, show
from train_ensemble import extra, tuned

POPULATIONS = {"same": training_sky.SAME, "shifted": training_sky.SHIFTED}
MWA = {"gleam-170-231": 1, "gleam-x-170-231": 1}
N_TRAINING = 6144
"""Simulated cutouts of all surveys, for the models that come without weights."""
HALOS_EACH = 2
"""Halos that each control position gets, one after the other."""
FOLDS = 5
REMEMBERED: dict[bytes, np.ndarray] = {}


class Remembering(Ensemble):
    """An ensemble that measures a cutout once, whichever model or fold asks."""

    def _inputs(self, cutouts):
        names = ("rms", "beam_major", "beam_minor", "pixel_scale")
        numbers = np.column_stack([np.asarray(cutouts.table[name].value, dtype=float) for name in names])
        keys = [hashlib.blake2b(image.tobytes() + row.tobytes()).digest()
                for image, row in zip(cutouts.data, numbers, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in REMEMBERED]
        if new:
            REMEMBERED.update(zip([keys[i] for i in new], super()._inputs(cutouts[new]), strict=True))
        return np.stack([REMEMBERED[key] for key in keys]) if keys else super()._inputs(cutouts)


def baselines(seed):
    """Return the matched filter, and two models trained on simulated sky of the same population."""
    sky = training_sky.cutouts(N_TRAINING, rng=[seed, 0])
    models = {FIRST: classifiers.create(FIRST), "features-lr": classifiers.create("features-lr"),
              "cnn": classifiers.create("cnn", max_epochs=15, views=8)}
    return {name: model.fit(sky, rng=seed, progress=False) for name, model in models.items()}


def ensembles(paths):
    """Return the ensembles by the names of their files."""
    if not paths:
        found = {"ensemble": classifiers.pretrained("ensemble")}
    else:
        found = {path.stem: Ensemble.load(path) for path in paths}
    for model in found.values():
        model.__class__ = Remembering  # it only remembers: weights and settings stay
    return found


def simulated(models, n, seed):
    """Return the scores of both populations in simulated MWA sky; every cutout is a group."""
    found = {}
    for k, (name, population) in enumerate(POPULATIONS.items()):
        cutouts = training_sky.cutouts(n, names=MWA, population=population, rng=[seed, 1, k])
        refuse_seen(list(models.values()), cutouts)
        # Of an image that is not clipped no pixel is exactly 0.
        clipped = (cutouts.data == 0).mean(axis=(1, 2)) > 0.5
        sky = np.char.add(np.asarray(cutouts.table["survey"]).astype(str), np.where(clipped, ", clipped", ""))
        scores = Scores.of({key: model.predict_proba for key, model in models.items()}, cutouts, sky)
        scores.group = np.arange(n).astype(str)
        found[name] = scores
    return found


def controls(folder, n):
    """Return labelled cutouts of GLEAM and of the fields, with groups of sky that are joint to both."""
    return real_sky.joint_groups(real_sky.gleam(folder), real_sky.nvss(folder, n_controls=n, apart=3))


def with_halos(cutouts, population, rng):
    """Put a halo into each cutout: as in training, or by the shifted population."""
    if population is training_sky.SAME:
        return training_sky.inject_into(cutouts, share=1.0, rng=rng)
    return scenes(cutouts, np.full(len(cutouts), "halo"), population, rng)


def with_others(cutouts, population, rng):
    """Put something that is no halo into each cutout, with the shares of the population."""
    mix = {k: share for k, share in population.mix.items() if k not in ("halo", "mini-halo", "none", "blank")}
    return scenes(cutouts, simulate.sources.draw_labels(len(cutouts), mix, rng=rng), population, rng)


def scenes(cutouts, labels, population, rng):
    """Inject simulated scenes, with their central galaxies and companions.

    As in `training_sky.cutouts`, half of what the labels name is as bright as its physics says, the rest by S/N.
    """
    n, halo = len(cutouts), labels == "halo"
    beam = np.sqrt(cutouts.table["beam_major"] * cutouts.table["beam_minor"]).to_value(u.arcsec)
    extent = max(cutouts.shape[1:]) * cutouts.table["pixel_scale"][0]
    sources = simulate.scenes(labels, survey="nvss", clusters=training_sky.clusters(n, rng), extent=extent,
                              relation=population.relation, faintest=np.inf * u.Jy, rng=rng)
    main = np.flatnonzero(sources["main"])
    peak = np.asarray(simulate.inject(cutouts, sources).table["snr"])
    drawn = np.exp(rng.uniform(*np.log(population.peaks), n)) / peak
    if halo.any():
        rows, width = main[halo], beam[halo]
        size = sources["r_e"][rows].to_value(u.arcsec) / width * np.exp(rng.normal(0, population.scatter, halo.sum()))
        size = np.clip(size, *population.radii)
        sources["r_e"][rows] = size * width * u.arcsec
        away = training_sky.off_centre(size * width, np.asarray(sources["redshift"])[rows], rng)
        sources["east"][rows], sources["north"][rows] = away * u.arcsec
        for name in ("axis_ratio", "substructure"):
            sources[name][rows] = rng.uniform(*getattr(population, name), halo.sum())
        flux = sources["flux"][rows].to_value(u.Jy) / cutouts.table["rms"][halo].to_value(u.Jy / u.beam)
        # By the ideal S/N of their flux: the peak of a substructured halo says less.
        drawn[halo] = np.exp(rng.uniform(*np.log(population.ideal), halo.sum())) / ideal(flux, size)
    physical = (rng.uniform(size=n) < 0.5) | ~np.isfinite(drawn)
    sources["flux"][main] = sources["flux"][main] * np.where(physical, 1.0, drawn)
    return simulate.inject(cutouts, sources).replace(meta={})


def nvss(models, sets, fields, seed, base=None):
    """Return the scores of both populations in the NVSS fields."""
    plain = fields[~np.asarray(fields.table["centre"])]
    refuse_seen(list(models.values()), plain)
    score = {name: model.predict_proba for name, model in models.items()}
    if base is not None:
        score["ensemble, tuned"] = in_folds(base, sets, fields, seed)
    empty, found = Scores.of(score, plain, "nvss"), {}
    for k, (name, population) in enumerate(POPULATIONS.items()):
        rng = np.random.default_rng([seed, 2, k])
        made = [with_halos(plain, population, rng) for _ in range(HALOS_EACH)] + [with_others(plain, population, rng)]
        found[name] = sum((Scores.of(score, cutouts, "nvss") for cutouts in made), start=empty)
    return found


def in_folds(base, sets, fields, seed):
    """Return a function that scores each cutout by an ensemble that was tuned without its group."""
    groups = np.unique(np.asarray(fields.table["group"]).astype(str))
    dealt = np.random.default_rng([seed, 3]).permutation(groups)
    part = {str(group): k % FOLDS for k, group in enumerate(dealt)}
    real = real_sky.joined(sets, fields[np.asarray(fields.table["centre"])])
    beside = extra(fields, seed=seed)
    members = []
    for fold in range(FOLDS):
        train = np.array([part.get(str(group)) != fold for group in real.table["group"]])
        members.append(tuned(base, real[train], beside, rng=seed))

    def score(cutouts):
        fold = np.array([part[str(group)] for group in cutouts.table["group"]])
        result = np.full(len(cutouts), np.nan)
        for k, member in enumerate(members):
            refuse_seen([member], cutouts[fold == k])
            result[fold == k] = member.predict_proba(cutouts[fold == k])
        return result

    return score


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("HALOPY_TEST_DATA"))
    parser.add_argument("--weights", type=Path, nargs="+")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("-n", type=int, default=4096)
    parser.add_argument("--controls", type=int, default=100, help="positions in each NVSS field")
    parser.add_argument("--seed", type=int, default=20261201)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    networks, unseen = ensembles(arguments.weights), {}
    if arguments.data:
        sets, fields = controls(arguments.data, arguments.controls)
        for name, model in networks.items():
            try:
                refuse_seen([model], fields)
                unseen[name] = model
            except HaloInputError:
                print(f"{name}: not scored in the NVSS fields, it has been trained on some of them")
        if not unseen:
            parser.error("the NVSS fields need weights that have not seen them: --weights "
                         "ensemble-simulated.safetensors; or no --data and no HALOPY_TEST_DATA")
    first, seed = baselines(arguments.seed), arguments.seed
    mwa = simulated(first | networks, arguments.n, seed)
    skies = {"simulated MWA sky": mwa}
    show(f"simulated MWA sky, {arguments.n} cutouts of each population, seed {seed}", mwa, seed)
    by_survey(mwa, seed)
    if arguments.data:
        base = next(iter(unseen.values())) if arguments.tune else None
        skies["NVSS"] = nvss(first | unseen, sets, fields, seed, base)
        n_fields, n_groups = (len(np.unique(fields.table[name])) for name in ("field", "group"))
        show(f"halos injected into {n_fields} NVSS fields ({n_groups} groups), seed {seed}", skies["NVSS"], seed,
             by_flux=True)
    if arguments.figure:
        draw(arguments.figure, skies, seed)


if __name__ == "__main__":
    main()
