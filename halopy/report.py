"""One self-contained HTML page of the candidates: no network, nothing loaded from elsewhere."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from astropy import units as u

from halopy.cutouts import write_atomically
from halopy.io.candidates import fixed_text, p_value_text, ranking, rows_of, texts, value_text
from halopy.page import escaped as _e
from halopy.page import flag_legend, flag_list, html_page, sortable_table, verdict
from halopy.page import picture as _picture

__all__ = ["FLAGS", "write_page"]

MAX_MAPS = 12

FLAGS = {
    "all-blank": "no pixel of the file holds data",
    "blind": "found by searching the whole image for its score, and therefore without a p-value",
    "beam-from-survey": "the file gives no beam (or one that contradicts the survey); the survey's beam was used",
    "beam-from-text": "the beam stood in the header as text, not as a number",
    "beam-outside-training": "the beam is wider or narrower than any in the classifier's training",
    "checksum-mismatch": "the file's own checksum does not match its content",
    "clipped": "faint pixels of the image are set to zero: its noise cannot be measured, S/N and flux are uncertain",
    "clipped-low": "the faintest pixels are set to zero; the noise was estimated from how many they are",
    "few-controls": "few control positions fit into the image: the smallest possible p-value is large",
    "frequency-from-survey": "the file's frequency contradicts the survey; the survey's was used",
    "frequency-outside-training": "the frequency is higher or lower than any in the classifier's training",
    "no-controls": "no control position fits into the image: there is no p-value",
    "no-p-value": "the control positions are almost empty, as in a clipped image: there is no p-value",
    "not-verifiable": "the file's checksum could not be verified",
    "off-centre": "the emission was measured more than its e-folding radius (and a beam) away from the position",
    "partial": "part of the cutout holds no data",
    "pixels-outside-training": "fewer pixels per beam than any in the classifier's training (or more, if it does not "
    "resample)",
    "survey-outside-training": "the classifier was trained on images of other surveys",
    "unit-assumed": "the file gives no unit; Jy/beam was assumed",
}
"""What each flag means, in words."""

MOST_LISTED = 5000
"""Rows without a result that the page shows."""

STATUS = {
    "outside": "The position lies outside every image.",
    "unusable": "There is too little data around the position, or no noise in the image, to measure anything.",
    "error": "The target has no position, or something went wrong; the message was printed when halopy ran.",
}
"""What each status other than ``ok`` means, in words."""

PLACES = {"overview": "Overview", "candidates": "Candidates", "targets": "Targets", "unscored": "Without a result",
          "legend": "How to read this page"}


def write_page(path, detections, *, images, cutouts, residuals=None, explanations=None, title="Radio halo candidates",
               max_panels=200, progress=None):
    """Write one HTML page that shows every candidate.

    Parameters
    ----------
    path : path-like
        The ``.html`` file; it appears only when it is complete.
    detections : `~astropy.table.QTable`
        ``n`` rows; ``detections.meta`` with short texts is shown as what was run.
    images : sequence of ClusterImage
        What was searched; the first twelve are drawn. `halopy.preprocess.shrink.shrink` keeps memory small.
    cutouts, residuals, explanations : CutoutSet or sequence, optional
        ``cutouts[i]`` is the cutout of row ``i``, as a CutoutSet of one row; a sequence may hold None.
        Residuals are cutouts with the compact sources removed, explanations maps in logits of what speaks for
        a halo, see `halopy.plot.plot_target`.
    title : str, optional
        Heading of the page.
    max_panels : int, optional
        Pictures are drawn for so many of the best candidates, default 200.
    progress : callable, optional
        Called with an iterable of the targets that are drawn and returning it, such as `tqdm.tqdm`.

    Raises
    ------
    HaloInputError
        The file cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    order = ranking(detections)
    status = texts(detections, "status")
    scored = [int(i) for i in order if status[i] in ("", "ok")]
    missing = [int(i) for i in order if status[i] not in ("", "ok")]
    if len(missing) > MOST_LISTED:  # a catalogue of the whole sky: what no image covers comes last
        missing = sorted(missing, key=lambda i: status[i] == "outside")[:MOST_LISTED]
    rows = dict(zip(scored + missing, rows_of(detections[scored + missing]), strict=True))
    drawn = scored[:max_panels]
    rank = {int(row): k + 1 for k, row in enumerate(order)}
    sections = [_overview(detections, rows, scored, rank, images), _table(rows, scored, rank, drawn)]
    articles, explained = [], False
    for row in progress(drawn) if progress is not None else drawn:
        pictures = [_one(given, row) for given in (cutouts, residuals, explanations)]
        explained |= pictures[2] is not None
        articles.append(_article(rows[row], rank[row], *pictures))
    if articles:
        said = ""
        if len(drawn) < len(scored):
            said = (f'<p class="note">Pictures are shown for the {len(drawn)} best of {len(scored)} targets; '
                    "the table above and the files hold all of them.</p>")
        sections.append(f'<section id="targets"><h2>Targets</h2>{said}{"".join(articles)}</section>')
    sections.append(_unscored(rows, missing, len(detections) - len(scored)))
    sections.append(_legend(rows.values(), images, explained))
    page = html_page(title, "".join(sections), places=PLACES, footer="The numbers are in detections.ecsv, .vot and "
                     ".fits, regions for DS9 in detections.reg.")
    write_atomically(path, lambda temporary: Path(temporary).write_text(page, encoding="utf-8"))


def _one(cutouts, row):
    found = None if cutouts is None else cutouts[row]
    return found if found is not None and np.isfinite(found.data).any() else None


def _overview(detections, rows, scored, rank, images):
    kinds = [rows[i]["strength"] for i in scored]
    with_p = sum(np.isfinite(rows[i]["p_value"]) for i in scored)
    cards = [(len(scored), "target scored" if len(scored) == 1 else "targets scored"),
             (kinds.count("strong"), "strong"), (kinds.count("possible"), "possible"),
             (len(detections) - len(scored), "without a result")]
    text = "".join(f'<div class="card"><b>{n}</b><span>{label}</span></div>' for n, label in cards)
    chance = ""
    if with_p:
        chance = (f"<p>A p-value is the fraction of control positions in the same image that score at least as high. "
                  f"Among {with_p} targets without any halo about {0.01 * with_p:.2g} would be “strong” "
                  f"(p ≤ 0.01) and {0.05 * with_p:.2g} have p ≤ 0.05 by chance.</p>")
    facts = [("halopy", importlib.metadata.version("halopy-radio"))]
    facts += [(key.replace("_", " "), value) for key, value in detections.meta.items()
              if isinstance(value, (str, int, float)) and key != "halopy"]
    listed = "".join(f"<dt>{_e(key)}</dt><dd>{_e(value)}</dd>" for key, value in facts)
    return (f'<section id="overview"><h2>Overview</h2><div class="cards">{text}</div>{chance}'
            f'<details><summary>What was run</summary><dl class="facts">{listed}</dl></details>'
            f"{_images(detections, rank, images)}</section>")


def _images(detections, rank, images):
    from halopy.plot import plot_image

    lines, maps = [], []
    names = np.array(texts(detections, "image"))
    for i, image in enumerate(images):
        shape = image.meta.get("shape", image.shape)
        beam = "unknown"
        if image.beam is not None:
            major, minor = image.beam.major.to_value(u.arcsec), image.beam.minor.to_value(u.arcsec)
            beam = f"{major:.4g}″ × {minor:.4g}″, {image.beam.pa.to_value(u.deg):.0f}° ({_e(image.beam.source)})"
        frequency = "unknown" if image.frequency is None else f"{image.frequency.to_value(u.MHz):g} MHz"
        rms = "–"
        if image.rms is not None and np.isfinite(image.rms).any():
            level = np.nanmedian(image.rms) * image.unit
            if level.unit.is_equivalent(u.mJy / u.beam):
                rms = f"{level.to_value(u.mJy / u.beam):.3g} mJy/beam"
            else:
                rms = f"{level:.3g}"
            if "rms_method" in image.meta:
                rms += f" ({image.meta['rms_method']})"
        lines.append(f'<tr><th scope="row">{_e(image.name)}</th><td class="n">{(names == image.name).sum()}</td>'
                     f"<td>{shape[1]} × {shape[0]}, {image.pixel_scale.to_value(u.arcsec):.3g}″</td><td>{beam}</td>"
                     f"<td>{frequency}</td><td>{_e(rms)}</td><td>{_e(' '.join(image.flags)) or '–'}</td></tr>")
        if i < MAX_MAPS:
            inside = np.flatnonzero(names == image.name)
            here = detections[inside]
            figure = plot_image(image, detections=here, marks=[rank[int(row)] for row in inside]).figure
            alt = f"Map of {image.name} with {len(here)} targets marked"
            maps.append(f"<figure>{_picture(figure, alt)}</figure>")
    if not lines:
        return ""
    said = f'<p class="note">Maps are shown for the first {MAX_MAPS} of {len(images)} images.</p>' if len(
        images) > MAX_MAPS else ""
    return ('<h3>Images</h3><div class="wide"><table><thead><tr><th scope="col">image</th><th scope="col">targets</th>'
            '<th scope="col">pixels</th><th scope="col">beam, position angle</th><th scope="col">frequency</th>'
            '<th scope="col">noise (median)</th><th scope="col">flags</th></tr></thead>'
            f'<tbody>{"".join(lines)}</tbody></table></div>{said}<div class="maps">{"".join(maps)}</div>')


def _table(rows, scored, rank, drawn):
    if not scored:
        return '<section id="candidates"><h2>Candidates</h2><p class="note">No target could be scored.</p></section>'
    heads = ("rank", "name", "verdict", "p-value", "probability", "S/N", "flux density", "rₑ", "image", "flags")
    table, linked = [], set(drawn)
    for row in scored:
        r = rows[row]
        name = f'<a href="#t{rank[row]}">{_e(r["name"])}</a>' if row in linked else _e(r["name"])
        table.append([
            (rank[row], str(rank[row])), (r["name"], name), (rank[row], verdict(r["strength"])),
            (r["p_value"], p_value_text(r["p_value"], r["n_controls"])),
            (r["probability"], fixed_text(r["probability"], 3)), (r["snr"], fixed_text(r["snr"], 1)),
            (r["flux"], value_text(r["flux"], r["flux_err"], "mJy")), (r["r_e"], fixed_text(r["r_e"], 0, "″")),
            (r["image"], _e(r["image"])), (r["flags"], _e(r["flags"]) or "–")])
    return (f'<section id="candidates"><h2>Candidates</h2><p>Ordered by p-value, then probability. A heading sorts the '
            f'table.</p>{sortable_table(heads, table)}</section>')


def _links(r):
    ra, dec = f"{r['ra']:.5f}", f"{r['dec']:+.5f}"
    pages = (
        ("SIMBAD", "https://simbad.cds.unistra.fr/simbad/sim-coo?",
         {"Coord": f"{ra} {dec}", "CooFrame": "ICRS", "Radius": "5", "Radius.unit": "arcmin"}),
        ("NED", "https://ned.ipac.caltech.edu/conesearch?",
         {"search_type": "Near Position Search", "in_csys": "Equatorial", "in_equinox": "J2000",
          "ra": f"{ra}d", "dec": f"{dec}d", "radius": "5"}),
        ("Aladin", "https://aladin.cds.unistra.fr/AladinLite/?", {"target": f"{ra} {dec}", "fov": "0.5"}),
    )
    return " · ".join(f'<a href="{_e(address + urlencode(query))}" target="_blank" rel="noopener noreferrer">{name}</a>'
                      for name, address, query in pages)


def _offset(r):
    if not np.isfinite(r["offset_east"]):
        return "–"
    distance = np.hypot(r["offset_east"], r["offset_north"])
    if distance < 0.5:
        return "the position"
    sides = [f"{abs(v):.0f}″ {name[int(v < 0)]}" for v, name in ((r["offset_north"], "NS"), (r["offset_east"], "EW"))
             if abs(v) >= 0.5]
    return f"{', '.join(sides)} of it"


def _article(r, rank, cutout, residual, explanation):
    from astropy.coordinates import SkyCoord

    r_e = r["r_e"] * u.arcsec if np.isfinite(r["r_e"]) else None
    if cutout is None:
        picture = '<p class="note">There is no cutout.</p>'
    else:
        from halopy.plot import plot_target

        centre = SkyCoord(r["centre_ra"], r["centre_dec"], unit="deg")
        figure = plot_target(cutout, residual=residual, explanation=explanation, r_e=r_e, centre=centre,
                             redshift=r["redshift"])
        alt = f"{r['name']}: {', '.join(ax.get_title() for ax in figure.axes if ax.get_title())}"
        picture = f"<figure>{_picture(figure, alt)}</figure>"
    where = SkyCoord(r["ra"], r["dec"], unit="deg")
    facts = [
        ("p-value", p_value_text(r["p_value"], r["n_controls"])),
        ("probability", fixed_text(r["probability"], 3)),
        ("S/N", fixed_text(r["snr"], 1)),
        ("flux density within 3 rₑ", value_text(r["flux"], r["flux_err"], "mJy")),
        ("rₑ", _radius(r)),
        ("compact sources removed", value_text(r["compact_flux"], r["compact_flux_err"], "mJy")),
        ("local noise", value_text(r["rms"], unit="mJy/beam")
         + (f" ({r['rms_method']})" if r["rms_method"] and np.isfinite(r["rms"]) else "")),
        ("coverage", f"{100 * r['coverage']:.0f} %" if np.isfinite(r["coverage"]) else "–"),
        ("position (ICRS)", where.to_string("hmsdms", sep=":", precision=1)),
        ("measured at", _offset(r)),
        ("image", r["image"] + (f", {r['frequency']:g} MHz" if np.isfinite(r["frequency"]) else "")),
    ]
    if np.isfinite(r["redshift"]):
        facts.append(("redshift", f"{r['redshift']:.4g}"))
    if np.isfinite(r["m500"]):
        facts.append(("M500", f"{r['m500'] / 1e14:.2f} × 10¹⁴ M☉"))
    if r["label"]:
        facts.append(("known as", r["label"]))
    listed = "".join(f"<div><dt>{_e(key)}</dt><dd>{_e(value)}</dd></div>" for key, value in facts)
    return (f'<article id="t{rank}"><h3><span class="rank">{rank}</span> {_e(r["name"])} {verdict(r["strength"])}</h3>'
            f'{picture}<dl class="numbers">{listed}</dl>{flag_list(r["flags"], FLAGS)}'
            f'<p class="links">At this position: {_links(r)}</p></article>')


def _radius(r):
    if not np.isfinite(r["r_e"]):
        return "–"
    text = f"{r['r_e']:.0f}″"
    if np.isfinite(r["redshift"]) and r["redshift"] > 0:
        from astropy.cosmology import Planck18

        text += f" = {r['r_e'] / Planck18.arcsec_per_kpc_proper(r['redshift']).value:.0f} kpc"
    return text


def _unscored(rows, missing, n):
    if not missing:
        return ""
    lines = []
    for row in missing:
        r = rows[row]
        place = f"{r['ra']:.4f}, {r['dec']:+.4f}" if np.isfinite(r["ra"]) and np.isfinite(r["dec"]) else "–"
        lines.append(f'<tr><th scope="row">{_e(r["name"])}</th><td>{place}</td><td>{_e(r["image"]) or "–"}</td>'
                     f"<td>{_e(r['status'])}</td><td>{_e(STATUS.get(r['status'], ''))} "
                     f"{_e('; '.join(FLAGS.get(f, f) for f in r['flags'].split()))}</td></tr>")
    said = f'<p class="note">{len(missing)} of {n} are listed; the files hold all of them.</p>'
    return (f'<section id="unscored"><h2>Without a result</h2>{said if len(missing) < n else ""}'
            '<div class="wide"><table><thead><tr>'
            '<th scope="col">name</th><th scope="col">RA, Dec (deg)</th><th scope="col">image</th>'
            '<th scope="col">status</th><th scope="col">why</th></tr></thead>'
            f'<tbody>{"".join(lines)}</tbody></table></div></section>')


def _legend(rows, images, explained):
    met = {flag for r in rows for flag in r["flags"].split()} | {flag for i in images for flag in i.flags}
    speaks = ("<dt>speaks for a halo</dt><dd>What the classifier goes by: red raises the logit of its probability, "
              "blue lowers it; grey it does not see. Lines: 3, 12, 48, … times the noise. This explains the number, "
              "not the sky: what is red need not be a halo.</dd>") if explained else ""
    return f"""<section id="legend"><h2>How to read this page</h2><dl class="facts">
<dt>verdict</dt><dd>strong: p ≤ 0.01; possible: p ≤ 0.05; without a p-value: probability of at least 0.9 or 0.5. It is a
sorting aid: look at the pictures before you believe it.</dd>
<dt>pictures</dt><dd>From the left: the image on an asinh scale; divided by the local noise, contours at 3, 6, 12, …
times the noise, dashed at −3; the image after the compact sources were removed. Dashed circle: 3 rₑ about the
place of the measurement. Hatched ellipse: the beam (full width at half maximum). Grey: no data. North is up, east to
the left.</dd>{speaks}
<dt>flux density</dt><dd>Of the best-fitting exponential halo within 3 rₑ; the error holds the noise, the survey's flux
scale and the removed compact sources.</dd>
<dt>rₑ</dt><dd>e-folding radius of an exponential profile; kpc for the Planck 2018 cosmology.</dd></dl>
{flag_legend(met, FLAGS)}</section>"""
