"""The frame of the pages that halopy writes: one file, no network, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.metadata
import io
import math
from importlib.resources import files

from halopy.io.candidates import printable

__all__ = ["escaped", "flag_legend", "flag_list", "html_page", "picture", "sortable_table", "verdict"]

WORDS = {"strong": "strong", "possible": "possible", "weak": "no detection", "unscored": "not scored"}


def escaped(text):
    """Return text that is safe in HTML, also in an attribute."""
    return html.escape(printable(text), quote=True)


def picture(figure, alt, *, dpi=96):
    """Return a figure as an inline image; a palette of 256 colours makes it less than half the size."""
    from matplotlib import rc_context
    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    with rc_context({"savefig.bbox": None}):  # a user's "tight" would change the size
        figure.savefig(buffer, format="rgba", dpi=dpi)
    width, height = (int(inches * dpi) for inches in figure.get_size_inches())
    image = Image.frombuffer("RGBA", (width, height), buffer.getvalue()).convert("RGB")
    image = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    data = base64.b64encode(small.getvalue()).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{escaped(alt)}">'


def verdict(strength):
    """Return a strength of `halopy.io.candidates.strength` as a coloured word."""
    return f'<span class="tag {strength}">{WORDS[strength]}</span>'


def sortable_table(heads, rows):
    """Return a table that its headings sort, and that is sorted by ``rank`` at first.

    Parameters
    ----------
    heads : sequence of str
        Plain text.
    rows : sequence
        Of cells, pairs of what they are sorted by (text or a number) and their HTML.

    Returns
    -------
    str
    """
    lines = []
    for row in rows:
        cells = ((escaped(key if isinstance(key, str) else repr(float(key)) if math.isfinite(key) else ""),
                  "" if isinstance(key, str) else " class=n", text) for key, text in row)
        lines.append("<tr>" + "".join(f'<td data-v="{key}"{kind}>{text}</td>' for key, kind, text in cells) + "</tr>")
    head = "".join(f'<th scope="col"{" aria-sort=ascending" if h == "rank" else ""}>'
                   f'<button type="button">{escaped(h)}</button></th>' for h in heads)
    return (f'<div class="wide"><table class="sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody>'
            "</table></div>")


def flag_list(flags, meanings):
    """Return flags, separated by spaces, as a list with what each means; nothing where there are none."""
    items = "".join(f"<li><code>{escaped(flag)}</code>{escaped(': ' + meanings[flag]) if flag in meanings else ''}</li>"
                    for flag in flags.split())
    return f'<ul class="flags">{items}</ul>' if items else ""


def flag_legend(flags, meanings):
    """Return what each of a set of flags means, with a heading; nothing where there are none."""
    items = "".join(f"<dt><code>{escaped(flag)}</code></dt><dd>{escaped(meanings.get(flag, 'see the documentation'))}"
                    "</dd>" for flag in sorted(flags))
    return f'<h3>Flags on this page</h3><dl class="facts">{items}</dl>' if items else ""


def html_page(title, body, *, places, footer):
    """Return a page of HTML.

    Parameters
    ----------
    title : str
        Heading of the page, plain text.
    body : str
        HTML: sections with an id.
    places : mapping of str to str
        Ids of sections and what they are called in the line of links at the top; those that are not there are left out.
    footer : str
        HTML, behind the name and version of halopy.

    Returns
    -------
    str
    """
    style, script = ((files("halopy") / "data" / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing may be loaded, even if a name slipped through the escaping: only this script, style and inline images.
    policy = (f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
              "base-uri 'none'; form-action 'none'")
    nav = " · ".join(f'<a href="#{name}">{text}</a>' for name, text in places.items()
                     if f'<section id="{name}">' in body)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">
<title>{escaped(title)}</title><style>{style}</style></head>
<body><header><h1>{escaped(title)}</h1><nav aria-label="Sections">{nav}</nav></header><main>{body}</main>
<footer>Written by halopy {escaped(importlib.metadata.version("halopy-radio"))}. {footer}</footer>
<script>{script}</script></body></html>
"""
