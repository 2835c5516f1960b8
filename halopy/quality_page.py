"""One self-contained HTML page on the quality of generated images, and its table beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.table import QTable, vstack

from halopy.cutouts import write_atomically
from halopy.errors import HaloInputError
from halopy.generative.quality.common_input import common_cutouts, common_size
from halopy.generative.quality.measures import MEANINGS, report
from halopy.generative.quality.memorisation import nearest, view_of
from halopy.page import escaped, html_page, picture
from halopy.plot_quality import plot_curves, plot_rows

__all__ = ["apart", "write_quality"]

PLACES = {"overview": "Overview", "numbers": "Numbers", "labels": "Numbers by label", "gallery": "Images",
          "curves": "Curves", "pairs": "Nearest training images", "legend": "How to read this page"}
HIGHER_IS_BETTER = ("density", "coverage", "nearest_ratio", "tstr")
NEITHER = ("diversity_features", "diversity_pixels", "trts")
BAND_DRAWS = 100


def write_quality(folder, real, generated, *, training=None, classifier="features-lr", n=200, level=0.95,
                  title="Quality of generated images", max_pictures=8, overwrite=False, rng=None):
    """Write a page that compares generated images with real ones, and the table of all its numbers.

    Parameters
    ----------
    folder : path-like
        Made if it is not there; ``index.html`` and ``quality.ecsv`` appear in it when they are complete.
    real : CutoutSet
        As for `halopy.generative.quality.measures.report`.
    generated : CutoutSet or mapping of str to CutoutSet
        Of one generator, or of several by their names.
    training : CutoutSet, optional
        What the generators were trained on: then the page shows the training images that the generated ones are most
        like.
    classifier : str or None, optional
        As for `halopy.generative.quality.measures.report`, default ``"features-lr"``.
    n : int, optional
        How many times images are drawn, default 200; at most 100 times for the bands of the curves.
    level : float, optional
        The intervals' probability, default 0.95.
    title : str, optional
        Heading of the page.
    max_pictures : int, optional
        Pictures of each label and set, default 8.
    overwrite : bool, optional
        Whether files that are there may be replaced, default False.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator.

    Returns
    -------
    `~astropy.table.QTable`
        That of `halopy.generative.quality.measures.report` of each generator, one below the other, with a column
        ``generator``; ``meta`` of each by its name.

    Raises
    ------
    HaloInputError
        The sets cannot be compared, a file exists, or the folder cannot be written.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> from halopy import simulate
    >>> from halopy.generative.quality.reference import gaussian_field
    >>> from halopy.quality_page import write_quality
    >>> real = simulate.cutouts(40, mix={"halo": 1, "blank": 1}, rng=1)
    >>> fields = {"Gaussian fields": gaussian_field(real, 40, rng=2)}
    >>> table = write_quality("quality", real, fields, classifier=None, n=10, rng=1)
    >>> table.colnames[:3]
    ['generator', 'metric', 'value']
    """
    rng = np.random.default_rng(rng)
    folder = Path(folder)
    page, numbers = folder / "index.html", folder / "quality.ecsv"
    for path in (page, numbers):
        if path.exists() and not overwrite:
            raise HaloInputError("this file exists", path=path, hint="overwrite=True, or another folder")
    generated = dict(generated) if isinstance(generated, Mapping) else {"generated": generated}
    if not generated:
        raise HaloInputError("a page of quality needs at least one set of generated images", found="an empty mapping")
    # The same halves of the sky for all generators: their numbers then differ by the generators alone.
    seed = int(rng.integers(2**32))
    tables = {name: report(real, one, training=training, classifier=classifier, n=n, level=level, rng=seed)
              for name, one in generated.items()}
    # All pictures show the same piece of sky; the numbers of each generator are of what it shares with the real images.
    size = common_size(real, *generated.values())
    figure = plot_curves(real, generated, size, n=min(n, BAND_DRAWS), level=level, rng=rng)
    sections = [_overview(real, tables, generated, level, n), _numbers(tables), _labels(tables),
                _gallery(real, generated, size, max_pictures, rng), _curves(figure, generated),
                "" if training is None else _pairs(generated, training, max_pictures), _legend(level)]
    text = html_page(title, "".join(sections), places=PLACES, footer="The numbers are made with "
                     "halopy.generative.quality.report; they are in quality.ecsv beside this page.")
    table = _stacked(tables)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HaloInputError(f"cannot make this folder: {error.strerror}", path=folder) from error
    write_atomically(numbers, lambda path: table.write(path, format="ascii.ecsv", overwrite=True))
    write_atomically(page, lambda path: Path(path).write_text(text, encoding="utf-8"))
    return table


def _stacked(tables):
    parts = []
    for name, table in tables.items():
        part = QTable(table, meta={})
        part.add_column([name] * len(part), name="generator", index=0)
        parts.append(part)
    table = vstack(parts)
    table.meta = {name: dict(one.meta) for name, one in tables.items()}
    return table


def apart(row):
    """Return whether a value is worse than real images are, such that the intervals of both share nothing.

    Parameters
    ----------
    row : `~astropy.table.Row`
        Of `halopy.generative.quality.measures.report`.

    Returns
    -------
    bool
        More is worse, but for shares and ratios that are best when large, and for those of which both are bad.
    """
    name = row["metric"].partition("@")[0]
    above, below = row["low"] > row["floor_high"], row["high"] < row["floor_low"]
    if name in NEITHER:
        return bool(above or below)
    return bool(below if name in HIGHER_IS_BETTER else above)


def _overview(real, tables, generated, level, n):
    groups = len(set(np.asarray(real.table["group"]).tolist()))
    cards = [(len(real), "real images"), (groups, "groups of sky"), (len(generated), "generators" if len(generated) > 1
                                                                    else "generator")]
    text = "".join(f'<div class="card"><b>{count}</b><span>{label}</span></div>' for count, label in cards)
    lines = []
    for name, table in tables.items():
        meta = table.meta
        left = ", ".join(meta["left_out"]) or "–"
        worse = sum(apart(row) for row in table if "@" not in row["metric"])
        total = sum("@" not in row["metric"] for row in table)
        lines.append(f'<tr><th scope="row">{escaped(name)}</th><td class="n">{len(generated[name])}</td>'
                     f'<td class="n">{meta["images"]}</td><td class="n">{meta["size"]}</td>'
                     f"<td>{escaped(', '.join(meta['labels']))}</td><td>{escaped(left)}</td>"
                     f'<td class="n">{worse} of {total}</td></tr>')
    heads = ("generator", "images", "a side in each draw", "pixels", "labels compared", "labels left out",
             "measures worse than real")
    return (f'<section id="overview"><h2>Overview</h2><div class="cards">{text}</div>'
            f"<p>Intervals hold {100 * level:g} % of what {n} draws give.</p>"
            + _table(heads, lines) + "</section>")


def _numbers(tables):
    metrics = [m for m in MEANINGS if any(m in table["metric"] for table in tables.values())]
    lines = [f'<tr><th scope="row">{_name(metric)}</th>{_cells(tables, metric)}'
             f"<td>{escaped(MEANINGS[metric])}</td></tr>" for metric in metrics]
    table = _table(("measure", *tables, "what it is"), lines)
    return ('<section id="numbers"><h2>Numbers</h2><p>Second line: the floor, what real images give against real '
            "images of other sky, as many of them. Red: worse than the floor, and the two intervals share nothing. "
            f"↓ less is better; ↑ more is better.</p>{table}</section>")


def _labels(tables):
    metrics = dict.fromkeys(m for table in tables.values() for m in table["metric"].tolist() if "@" in m)
    if not metrics:
        return ""
    lines = [f'<tr><th scope="row">{_name(metric)}</th>{_cells(tables, metric)}</tr>' for metric in metrics]
    return (f'<section id="labels"><h2>Numbers by label</h2>{_table(("measure", *tables), lines)}</section>')


def _table(heads, lines):
    head = "".join(f'<th scope="col">{escaped(text)}</th>' for text in heads)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _name(metric):
    name, _, label = metric.partition("@")
    sign = "" if name in NEITHER or name == "density" else " ↑" if name in HIGHER_IS_BETTER else " ↓"
    words = {"minkowski_euler": "Minkowski Euler number", "kid": "kernel distance (KID)",
             "frechet": "Fréchet distance", "size": "half-light radius",
             "tstr": "trained on generated, tested on real", "trts": "trained on real, tested on generated"}
    return escaped(words.get(name, name.replace("_", " ").replace("minkowski", "Minkowski")
                             .replace("pixel wasserstein", "pixel Wasserstein distance"))
                   + (f": {label}" if label else "")) + sign


def _cells(tables, metric):
    cells = []
    for table in tables.values():
        rows = table[table["metric"] == metric]
        if not len(rows) or not np.isfinite(rows["value"][0]):
            cells.append('<td class="n">–</td>')
            continue
        row = rows[0]
        kind = ' class="bad"' if apart(row) else ""
        cells.append(f'<td class="n"><span{kind}>{_interval(row, ("value", "low", "high"))}</span><br>'
                     f'<span class="difference">{_interval(row, ("floor", "floor_low", "floor_high"))}</span></td>')
    return "".join(cells)


def _interval(row, names):
    value, low, high = (float(row[name]) for name in names)
    if not np.isfinite(value):
        return "–"
    digits = int(np.clip(2 - np.floor(np.log10(max(abs(value), 0.01))), 0, 3))
    text = f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})" if np.isfinite(low) else f"{value:.{digits}f}"
    return text.replace("-", "−")


def _gallery(real, generated, size, most, rng):
    sets = {"real": common_cutouts(real, size)} | {name: common_cutouts(one, size) for name, one in generated.items()}
    found = []
    for label in dict.fromkeys(np.asarray(sets["real"].table["label"]).astype(str).tolist()):
        rows = {}
        for name, one in sets.items():
            here = np.flatnonzero(np.asarray(one.table["label"]).astype(str) == label)
            chosen = np.sort(rng.permutation(here)[:most])
            if chosen.size:
                rows[name] = one.data[chosen]
        if len(rows) > 1:
            alt = f"Images labelled {label}, a row each: {', '.join(rows)}"
            shown = picture(plot_rows(rows, columns=most), alt)
            found.append(f"<h3>{escaped(label)}</h3><figure>{shown}</figure>")
    return ('<section id="gallery"><h2>Images</h2><p>Drawn at random, in one stretch: asinh from −3 to 30 times the '
            f"noise. Pixels are a third of a beam.</p>{''.join(found)}</section>")


def _curves(figure, generated):
    if figure is None:
        return ""
    alt = f"Pixel distribution, power spectrum and radial profiles of real images and of {', '.join(generated)}"
    return ('<section id="curves"><h2>Curves</h2><p>Black: real images; grey: the range of halves of them that share '
            "no sky. Brightness is 2 asinh(S/N / 2), S/N where it is faint. Profiles are means over images about the "
            f"centre; of all sets, labels count as among the real images.</p><figure>{picture(figure, alt)}</figure>"
            "</section>")


def _pairs(generated, training, most):
    found = []
    for name, one in generated.items():
        index, view, distance = nearest(one, training)
        known = np.flatnonzero(index >= 0)
        size = common_size(one, training)
        made = common_cutouts(one[known], size)
        # Of empty fields all are alike: the distance counts relative to what there is to be seen.
        order = np.argsort(distance[known] / np.arcsinh(made.data / 2).std(axis=(1, 2)), kind="stable")[:most]
        made, closest = made[order], known[order]
        seen = common_cutouts(training[index[closest]], size)
        turned = np.stack([view_of(image, k) for image, k in zip(seen.data, view[closest], strict=True)])
        labels = (np.asarray(part.table["label"]).astype(str) for part in (made, seen))
        titles = {name: [f"{label}: {d:.2f}" for label, d in zip(next(labels), distance[closest], strict=True)],
                  "training": list(next(labels))}
        alt = f"The {len(closest)} images of {name} that are most like a training image, and those"
        shown = picture(plot_rows({name: made.data, "training": turned}, columns=most, titles=titles), alt)
        found.append(f"<h3>{escaped(name)}</h3><figure>{shown}</figure>")
    return ('<section id="pairs"><h2>Nearest training images</h2><p>The generated images that are most like a '
            "training image, for what there is to be seen in them, and that image below, turned and mirrored to fit. "
            "Above each its label and the distance, in units of the noise, after smoothing by a beam. Copies would "
            f"show the same sources in the same places.</p>{''.join(found)}</section>")


def _legend(level):
    return f"""<section id="legend"><h2>How to read this page</h2><dl class="facts">
<dt>floor</dt><dd>Real images are dealt into two halves that share no sky, and compared as if one half were generated.
No generator can be better than that on average; one that is within its range cannot be told from real images by this
measure, with this many images.</dd>
<dt>intervals</dt><dd>{100 * level:g} % of what comes out when other halves of the sky, and other generated images, are
drawn.</dd>
<dt>common input</dt><dd>All images come to S/N on pixels of a third of a beam, and to the piece of sky that all of them
show. The measures look at every label as often in each set.</dd>
<dt>no single number</dt><dd>Blurred images have the right fluxes, copies have the right everything but the distance to
the training set, a collapsed set has the right mean. A good generator is near the floor in every row.</dd>
</dl></section>"""
