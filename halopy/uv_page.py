"""The page of ``halopy uvdetect``: what was read, where there may be halos, and what that can promise."""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from halopy.cutouts import write_atomically
from halopy.io.candidates import fixed_text, numbers, p_value_text, ranking, rows_of, value_text
from halopy.page import escaped as _e
from halopy.page import flag_legend, flag_list, html_page, picture, sortable_table, verdict
from halopy.plot_uv import plot_amplitude, plot_coverage, plot_test

__all__ = ["FLAGS", "write_uv_page"]

FLAGS = {
    "blended": "a halo at another target reaches here: the two were tested as if each were alone",
    "field-wide": "found by searching the field; the p-value counts every direction and radius that was looked at, and "
    "flux and radius were measured where the S/N is largest",
    "flags-ignored": "flagged visibilities were used, all with the same weight",
    "negative": "the largest S/N is negative: no halo, but a hole, as missing sources or a wrong model of them leave",
    "no-sources": "no point sources were given: those that are there are taken for noise, or for a halo",
    "null-failed": "the same test finds something where no halo can be, in the imaginary part or in Stokes V: noise, "
    "calibration or sources are not what is assumed, and the p-value is not to be trusted",
    "offsets-disagree": "off-positions stand out as much as this one: the p-value is not to be trusted",
    "pointings": "the files have different phase centres: they were added as if one primary beam had seen them all",
    "radius-unknown": "the best radius is at an end of those that were tested, or not known to 50 %: flux and its "
    "error are for that radius",
    "uncalibrated": "the file does not say that its visibilities are calibrated",
}
"""What each flag means, in words."""

STATUS = {"outside": "The position is on the other half of the sky.",
          "error": "The target has no position, or something went wrong; the message was printed when halopy ran."}

PLACES = {"overview": "Overview", "data": "Visibilities", "candidates": "Targets", "targets": "One by one",
          "unscored": "Without a result", "legend": "How to read this page"}

LEGEND = """<section id="legend"><h2>How to read this page</h2><dl class="facts">
<dt>p-value</dt><dd>How often thermal noise, with point sources within their priors, gives a positive S/N this large at
one of the radii; of a field that was searched, anywhere in it. It counts what is in the weights and the catalogue, and
nothing else.</dd>
<dt>verdict</dt><dd>strong: p ≤ 0.01; possible: p ≤ 0.05. It is a sorting aid: one of 100 positions without a halo has
p ≤ 0.01 by chance.</dd>
<dt>imaginary part, Stokes V, off-positions</dt><dd>The same test where there is no halo, or most likely none. Small
p-values there say that something else than noise is in the data.</dd>
<dt>flux density</dt><dd>Of the best-fitting exponential halo, within 3 rₑ (0.80 of it) as in all tables of halopy, and
of the whole; its error knows that rₑ is free, and what the point sources may be.</dd>
<dt>ln Bayes factor</dt><dd>Between a halo and none, for fluxes around 0 with a standard deviation of 100 mJy, all radii
equally likely.</dd>
<dt>95 % limit</dt><dd>The whole flux lies below it with 95 % probability, for a flat prior from 0 and all radii equally
likely.</dd>
<dt>S/N that the sources leave</dt><dd>1 where the point sources cost nothing; small where halo and sources cannot be
told apart: only better priors of their fluxes help.</dd>
<dt>pictures</dt><dd>The mean real part of the visibilities in rings of the u-v plane about the target, with what was
fitted; below, without the point sources; below that, what is left, in units of its error. Beside it the flux at each
radius by itself.</dd></dl>
<h3>What this can promise, and what not</h3><ul>
<li>p-values that hold where the noise is that of the weights, errors that know about missing short spacings, and fluxes
that are not biased by cleaning. There is no gain in sensitivity over the best image (natural weighting, tapered to the
halo); there is one over robust weighting.</li>
<li>No calibration can be undone: a direction-dependent one with an incomplete sky model has taken part of the halo away
before. Inject halos before calibration to know.</li>
<li>Flux densities and limits are apparent ones: the primary beam is not corrected for. Far from the phase centre an
array sees next to nothing, and a low limit there says nothing about the sky.</li>
<li>Sources that are resolved, or missing in the catalogue, end up in the halo. For the MWA they, not thermal noise, are
the limit.</li>
<li>One halo at a time is fitted. Those at other targets with p &lt; 10⁻⁴ are subtracted first, if they are more than
3 rₑ away, and others are not known; errors do not know about them.</li>
<li>The w-term across a halo is neglected: that is fine for halos below 10 arcmin.</li></ul>"""


def write_uv_page(path, detections, measured, *, visibilities, files, sources=None, radii=(1, 2, 4, 8) * u.arcmin,
                  title="Radio halos in visibilities"):
    """Write one HTML page that shows every target.

    Parameters
    ----------
    path : path-like
        The ``.html`` file; it appears only when it is complete.
    detections : `~astropy.table.QTable`
        ``n`` rows, as ``halopy uvdetect`` writes them; ``detections.meta`` is shown as what was run.
    measured : sequence
        ``n`` pairs of a `~halopy.uvshapelets.detect.HaloDetection` and the table of
        `~halopy.uvshapelets.profile.radial_profile`; None where there is no result.
    visibilities : Visibilities
        What was searched; its coverage is drawn.
    files : sequence of dict
        What each file is: ``file``, ``format``, ``telescope``, ``centre``, ``n``, ``excluded``, ``distance``,
        ``frequency`` (MHz), ``weights``, ``noise`` (Jy), ``unit``, ``notes``.
    sources : PointSources, optional
        Those that were marginalised.
    radii : `~astropy.units.Quantity`, optional
        Of the halos; the first and last, and two between them, are drawn beside the coverage.
    title : str, optional
        Heading of the page.

    Raises
    ------
    HaloInputError
        The file cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    order, rows = ranking(detections), rows_of(detections)
    names = ("total_flux", "total_flux_err", "r_e_err", "limit_95", "ln_bayes", "p_imaginary", "p_stokes_v",
             "p_offsets", "sources_keep")
    extra = {name: numbers(detections, name) for name in names}
    for k, row in enumerate(rows):
        row.update({name: extra[name][k] for name in names})
    known = [int(k) for k in order if measured[k] is not None]
    rank = {int(row): number for number, row in enumerate(order, 1)}
    articles = "".join(_article(rows[k], rank[k], *measured[k], files[0]["centre"]) for k in known)
    met = {flag for row in rows for flag in row["flags"].split()}
    sections = [_overview(detections, rows, known, sources), _data(files, visibilities, radii),
                _table(rows, known, rank),
                f'<section id="targets"><h2>One by one</h2>{articles}</section>' if articles else "",
                _unscored(rows, [int(k) for k in order if measured[k] is None]),
                f"{LEGEND}{flag_legend(met, FLAGS)}</section>"]
    page = html_page(title, "".join(sections), places=PLACES, footer="The numbers are in detections.ecsv, .vot and "
                     ".fits, regions for DS9 in detections.reg. Visibilities are an experimental part of halopy.")
    write_atomically(path, lambda temporary: Path(temporary).write_text(page, encoding="utf-8"))


def _overview(detections, rows, known, sources):
    kinds = [rows[k]["strength"] for k in known]
    cards = [(len(known), "target tested" if len(known) == 1 else "targets tested"), (kinds.count("strong"), "strong"),
             (kinds.count("possible"), "possible"), (len(rows) - len(known), "without a result")]
    text = "".join(f'<div class="card"><b>{n}</b><span>{label}</span></div>' for n, label in cards)
    if sources is None:
        said = "No point sources were given."
    else:
        free = int(np.isinf(sources.flux_err).sum())
        said = (f"{len(sources)} point sources, together {value_text(sources.flux.to_value(u.Jy).sum(), unit='Jy')}, "
                f"are marginalised{f'; the flux densities of {free} are free' if free else ''}.")
    facts = [("halopy", importlib.metadata.version("halopy-radio"))]
    facts += [(key.replace("_", " "), value) for key, value in detections.meta.items()
              if isinstance(value, (str, int, float)) and key != "halopy"]
    facts += [("written", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")]
    listed = "".join(f"<dt>{_e(key)}</dt><dd>{_e(value)}</dd>" for key, value in facts)
    return (f'<section id="overview"><h2>Overview</h2><div class="cards">{text}</div><p>{said}</p>'
            f'<details><summary>What was run</summary><dl class="facts">{listed}</dl></details></section>')


def _data(files, visibilities, radii):
    lines = []
    for file in files:
        low, high = file["frequency"]
        left = ", ".join(f"{n:,} {name}" for name, n in file["excluded"].items() if n) or "none"
        notes = "".join(f"<li>{_e(note)}</li>" for note in file["notes"])
        notes = f"<details><summary>{len(file['notes'])} remarks of the reader</summary><ul>{notes}</ul></details>" if (
            notes) else ""
        lines.append(
            f'<tr><th scope="row">{_e(file["file"])}{notes}</th><td>{_e(file["format"])}, {_e(file["telescope"])}</td>'
            f'<td>{_e(file["centre"].to_string("hmsdms", precision=0))}</td><td class="n">{file["n"]:,}</td>'
            f'<td>{_e(left)}</td><td class="n">{file["distance"][0]:.0f} to {file["distance"][1]:.0f}</td>'
            f'<td class="n">{f"{low:.1f}" if high - low < 0.05 else f"{low:.1f} to {high:.1f}"}</td>'
            f'<td class="n">{value_text(file["noise"])}</td><td>{_e(file["weights"])}</td></tr>')
    heads = ("file", "kind", "phase centre (ICRS)", "visibilities", "left out", "distance (wavelengths)",
             "frequency (MHz)", "noise (Jy)", "weights")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    some = np.unique(np.linspace(0, len(radii) - 1, 4).round().astype(int))
    coverage = picture(plot_coverage(visibilities, radii=radii[some]), "Coverage of the u-v plane, and halos in it")
    return (f'<section id="data"><h2>Visibilities</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
            f'<tbody>{"".join(lines)}</tbody></table></div><figure>{coverage}</figure><p class="note">Left: every '
            "visibility and its mirror; within the dashed circles a halo of the largest and the smallest radius keeps "
            "half of its flux. Right: the share of the weight by distance (grey), and of their flux that halos show "
            "there. The noise is that of the real part of one visibility.</p></section>")


def _table(rows, known, rank):
    if not known:
        return '<section id="candidates"><h2>Targets</h2><p class="note">Nothing was found, or tested.</p></section>'
    heads = ("rank", "name", "verdict", "p-value", "S/N", "ln Bayes", "flux density", "rₑ", "95 % limit", "flags")
    table = []
    for k in known:
        r = rows[k]
        table.append([
            (rank[k], str(rank[k])), (r["name"], f'<a href="#t{rank[k]}">{_e(r["name"])}</a>'),
            (rank[k], verdict(r["strength"])), (r["p_value"], p_value_text(r["p_value"], np.nan)),
            (r["snr"], fixed_text(r["snr"], 1)), (r["ln_bayes"], fixed_text(r["ln_bayes"], 1)),
            (r["flux"], value_text(r["flux"], r["flux_err"], "mJy")), (r["r_e"], _radius(r)),
            (r["limit_95"], value_text(r["limit_95"], unit="mJy")), (r["flags"], _e(r["flags"]) or "–")])
    return (f'<section id="candidates"><h2>Targets</h2><p>Ordered by p-value. A heading sorts the table.</p>'
            f"{sortable_table(heads, table)}</section>")


def _radius(r):
    return value_text(r["r_e"], r["r_e_err"], "″")


def _article(r, rank, found, profile, centre):
    place = SkyCoord(r["ra"], r["dec"], unit="deg")
    where = place.to_string("hmsdms", sep=":", precision=1)
    facts = [
        ("p-value", p_value_text(r["p_value"], np.nan)), ("S/N", fixed_text(r["snr"], 1)),
        ("ln Bayes factor", fixed_text(r["ln_bayes"], 1)),
        ("flux density within 3 rₑ", value_text(r["flux"], r["flux_err"], "mJy")),
        ("of the whole halo", value_text(r["total_flux"], r["total_flux_err"], "mJy")), ("rₑ", _radius(r)),
        ("95 % limit of the whole", value_text(r["limit_95"], unit="mJy")),
        ("p of the imaginary part", p_value_text(r["p_imaginary"], np.nan)),
        ("p of Stokes V", p_value_text(r["p_stokes_v"], np.nan)),
        ("p by off-positions", p_value_text(r["p_offsets"], len(found.offset_snr))),
        ("point sources within 3 rₑ", value_text(r["compact_flux"], unit="mJy") + (
            f" ({profile.meta['n_compact']})" if "n_compact" in profile.meta else "")),
        ("S/N that the sources leave", fixed_text(r["sources_keep"], 2)),
        ("position (ICRS)", where), ("from the phase centre", f"{place.separation(centre).deg:.2f} deg"),
        ("visibilities", f"{found.n_visibilities:,}, {r['frequency']:.4g} MHz"),
    ]
    listed = "".join(f"<div><dt>{_e(key)}</dt><dd>{_e(value)}</dd></div>" for key, value in facts)
    pictures = (picture(plot_amplitude(profile), f"{r['name']}: visibilities against distance, and what was fitted"),
                picture(plot_test(found), f"{r['name']}: flux at each radius"))
    shown = "".join(f"<figure>{one}</figure>" for one in pictures)
    return (f'<article id="t{rank}"><h3><span class="rank">{rank}</span> {_e(r["name"])} {verdict(r["strength"])}</h3>'
            f'<div class="maps">{shown}</div><dl class="numbers">{listed}</dl>{flag_list(r["flags"], FLAGS)}</article>')


def _unscored(rows, missing):
    lines = "".join(f'<tr><th scope="row">{_e(rows[k]["name"])}</th><td>{_e(rows[k]["status"])}</td>'
                    f'<td>{_e(STATUS.get(rows[k]["status"], ""))}</td></tr>' for k in missing)
    return ('<section id="unscored"><h2>Without a result</h2><div class="wide"><table><thead><tr><th scope="col">name'
            f'</th><th scope="col">status</th><th scope="col">why</th></tr></thead><tbody>{lines}</tbody></table></div>'
            "</section>") if lines else ""
