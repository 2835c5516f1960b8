"""Make docs/generator_cards.rst from the cards of the generators that ship, and the pictures of their samples.

Usage: python tools/make_generator_cards.py [--pictures]

The page holds the numbers that ``tools/train_generators.py`` measured and wrote to ``halopy/data/NAME.json``.
``--pictures`` draws docs/images/NAME-samples.png as well: simulated sky that the generator has not seen, and below it
images of the same labels.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "generator_cards.rst"
NAMES = ("diffusion", "cwgan")
SEED = 20261129
EACH, COLUMNS = 6, 12
SHOWN = ("halo", "mini-halo", "relic", "phoenix", "radio-galaxy", "orc", "blend", "none")

INTRODUCTION = """The generators that ship: model cards
=====================================

.. This page is made by tools/make_generator_cards.py from halopy/data/*.json.

Two trained generators come with weights, ``generators.pretrained("diffusion")`` and ``generators.pretrained("cwgan")``.
Both have learnt from **simulated sky alone**: GLEAM in four bands, GLEAM-X and NVSS as the simulator makes them, full
sky, with artefacts (``tools/train_generators.py``, ``tools/training_sky.py``). So any real sky can be scored by what is
made with them, and so they know nothing that the simulator does not know. For images like a survey's own, train one on
that survey, or judge these against it first (:doc:`quality`, and the tables of real sky in :doc:`benchmarks`).

A generator is called *usable* if its kernel distance to other simulated sky is below that of the training images
smoothed by their beam and below that of a Gaussian random field fitted to them, intervals apart; if its images are no
nearer to training images than other sky is, within the interval; and if the images of a label are as different from
each other as real ones, within 20 %. Otherwise it is *experimental*. "Real" in the tables below is simulated sky that
was not in the training; :doc:`quality` says what each measure is.
"""

CARD = """
{name}
{line}

**{status}**{why}

``{model}``, {parameters} numbers in half precision, {megabytes:.1f} MB{critic}. Trained on {cutouts:,} cutouts in
{groups} groups of one beam each; {images:,} images were shown, in {minutes} minutes on {device}.
``{command}`` repeats it; seed, versions and all measures stand in ``halopy/data/{name}.json``. SHA-256 of the weights:
``{sha256}``.

The S/N that halos are asked to have (3 to 100) and that they have are correlated by {snr_correlation} (Spearman): what
is asked for is {word}.

.. image:: images/{name}-samples.png
   :alt: Rows of simulated cutouts that the generator has not seen, below each a row of generated ones of its labels
   :width: 100%

First, third, fifth row and so on: simulated sky that it has not seen. Below each: generated images of the same labels
and frequencies.

.. table:: {name} against simulated sky that it has not seen, {draws}; intervals 95 %
   :widths: auto

{table}

{told}
"""
WORDS = {"kid": "kernel distance (KID)", "nearest_ratio": "nearest ratio", "copies": "copies",
         "diversity_features": "diversity, features", "diversity_pixels": "diversity, pixels",
         "pixel_wasserstein": "pixel Wasserstein distance", "power_spectrum": "power spectrum",
         "radial_profile": "radial profile", "flux_centre": "flux of the centre", "size": "half-light radius",
         "tstr": "trained on generated, tested on real", "trts": "trained on real, tested on generated"}


def number(row, first):
    return "-" if row is None else f"{row[first]:.2f} ({row[first + 1]:.2f} to {row[first + 2]:.2f})"


def table(card):
    """Return the measures as an rst table."""
    measures = card["measures"]
    head = ["measure", "generated", "real", "smoothed", "Gaussian field"]
    rows = [[WORDS[name], number(row, 0), number(row, 3), *(number(measures[other].get(name), 0)
                                                            for other in ("smoothed", "gaussian-field"))]
            for name, row in measures["generator"].items() if name in WORDS]
    widths = [max(len(cells[k]) for cells in (head, *rows)) for k in range(len(head))]
    rule = "  ".join("=" * width for width in widths)
    lines = [rule, "  ".join(map(str.ljust, head, widths)).rstrip(), rule,
             *("  ".join(map(str.ljust, cells, widths)).rstrip() for cells in rows), rule]
    return "\n".join("   " + line for line in lines)


def told_by(card):
    """Return in words by which measures generated images are still told from real ones."""
    apart = [WORDS[name] for name, row in card["measures"]["generator"].items()
             if name in WORDS and (row[1] > row[5] or row[2] < row[4])]
    return (f"Intervals are apart from those of real images in: {', '.join(apart)}." if apart else
            "No measure tells it from real images with so many of them.")


def section(name):
    """Return the section of the page about one generator."""
    path = ROOT / "halopy" / "data" / f"{name}.safetensors"
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    why = (": " + "; ".join(card["why"]) + ".") if card["why"] else " in simulated sky, by the three conditions above."
    return CARD.format(
        name=name, line="-" * len(name), status=card["status"].capitalize(), why=why, table=table(card),
        model=card["model"], parameters=f"{card['parameters']:,}", megabytes=path.stat().st_size / 1e6,
        critic=", with the critic" if name == "cwgan" else "", cutouts=card["simulated"]["cutouts"],
        groups=card["simulated"]["groups"], images=card["images"], minutes=card["minutes"],
        device="one thread of a processor that did other work as well" if card["device"] == "cpu" else "a GPU",
        command=card["command"], snr_correlation=card["snr_correlation"],
        word="followed loosely; measure what came out" if card["snr_correlation"] < 0.8 else "followed",
        told=told_by(card), sha256=card["sha256"], draws=card["judged"])


def page():
    """Return the text of the page."""
    return INTRODUCTION + "".join(section(name) for name in NAMES)


def picture(name):
    """Draw real cutouts and generated ones of the same labels, rows in turn."""
    import train_generators

    from halopy import CutoutSet, generators
    from halopy.plot_gallery import gallery

    sky = train_generators.sky(2048, rng=SEED)
    label = np.asarray(sky.table["label"])
    rows = np.concatenate([np.flatnonzero(label == shown)[:EACH] for shown in SHOWN])
    real, low = sky[rows], (sky.shape[1] - 64) // 2
    made = generators.pretrained(name).sample(len(rows), conditions=real.table["label", "frequency"], rng=SEED)
    pixels = [part / cutouts.table["rms"].to_value(cutouts.unit)[:, None, None] for part, cutouts in
              ((real.data[:, low:low + 64, low:low + 64], real), (made.data, made))]
    order = np.arange(2 * len(rows)).reshape(2, -1, COLUMNS).transpose(1, 0, 2).ravel()
    both = CutoutSet(np.concatenate(pixels)[order], {"label": np.tile(label[rows], 2)[order]})
    figure = gallery(both, n=len(both), columns=COLUMNS)
    path = ROOT / "docs" / "images" / f"{name}-samples.png"
    figure.savefig(path, dpi=60)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", action="store_true")
    if parser.parse_args().pictures:
        for name in NAMES:
            picture(name)
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
