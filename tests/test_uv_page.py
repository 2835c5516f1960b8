"""The page of a search in visibilities: self-contained, escaped, and with every number that was measured."""

from __future__ import annotations

import re

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

pytest.importorskip("matplotlib", reason="the page needs matplotlib")

from pages import Reader

from halopy.io.detections import blank_detections
from halopy.uv_page import FLAGS, write_uv_page
from halopy.uvshapelets.detect import detect_halo
from halopy.uvshapelets.nuisance import PointSources
from halopy.uvshapelets.profile import radial_profile
from halopy.uvshapelets.templates import ExponentialHalo
from halopy.uvshapelets.visibilities import Visibilities

EVIL = "</script><img src=http://evil.example/a.png onerror=alert(1)>\"'"
CENTRE = SkyCoord(30, -27, unit="deg")
RADII = [1, 2, 3, 4] * u.arcmin


def visibilities():
    rng = np.random.default_rng(0)
    east, north = rng.normal(0, 300, (2, 2000))
    vis = 0.5 * ExponentialHalo(2 * u.arcmin).visibility(east, north) + rng.normal(0, 1, (2000, 2)) @ [1, 1j]
    return Visibilities(east, north, 0 * east, vis, 1.0, 154e6, CENTRE)


def page(tmp_path, flags=("", "negative odd-one", "")):
    vis = visibilities()
    found = detect_halo(vis, radii=RADII, n_offsets=9, rng=0)
    profile = radial_profile(vis, {"halo": found.flux_held.value * ExponentialHalo(found.r_e).visibility(vis.u, vis.v)})
    profile.meta.update(compact_flux=0.123, n_compact=2)
    table = blank_detections(["plain", EVIL, "lost"], SkyCoord([30, 30, 30], [-27, -27, 27], unit="deg"), status="ok")
    for name, values in {"p_value": [0.5, 3.2e-7, np.nan], "snr": [0.1, 6.25, np.nan], "flux": [1, 400, np.nan] * u.mJy,
                         "flux_err": [9, 65, np.nan] * u.mJy, "r_e": [60, 118, np.nan] * u.arcsec,
                         "status": ["ok", "ok", "outside"], "flags": list(flags),
                         "total_flux": [1.2, 499, np.nan] * u.mJy, "limit_95": [20, 612, np.nan] * u.mJy,
                         "ln_bayes": [-1.1, 15.44, np.nan], "sources_keep": [0.87, 0.87, np.nan],
                         "compact_flux": [123, 123, np.nan] * u.mJy, "p_imaginary": [0.4, 0.4, np.nan]}.items():
        table[name] = values
    file = {"file": "<a>.uvfits", "format": "uvfits", "telescope": "MWA", "centre": CENTRE, "n": 2000,
            "excluded": {"flagged": 12, "auto": 0}, "distance": (3.0, 900.0), "frequency": (150.0, 155.0),
            "weights": "alike", "noise": 1.0, "unit": "Jy", "notes": ("a remark",)}
    sources = PointSources(np.zeros((2, 2)), [0.1, 0.023] * u.Jy, [0.01, np.inf] * u.Jy)
    path = tmp_path / "index.html"
    write_uv_page(path, table, [(found, profile), (found, profile), None], visibilities=vis, files=[file],
                  sources=sources, radii=RADII)
    return path.read_text(encoding="utf-8")


def test_the_page_loads_nothing_and_escapes_everything(tmp_path):
    text = page(tmp_path)
    read = Reader(text)
    images = [attributes for tag, attributes in read.tags if tag == "img"]
    assert len(images) == 5 and all(image["src"].startswith("data:image/png;base64,") for image in images)
    assert all(image["alt"] for image in images)
    assert not [tag for tag, attributes in read.tags if tag in ("link", "iframe") or "onerror" in attributes]
    assert EVIL in "".join(read.words) and "<a>.uvfits" in "".join(read.words)
    assert "default-src 'none'" in text


def test_numbers_and_their_order(tmp_path):
    words = re.sub(r"\s+", " ", " ".join(Reader(page(tmp_path)).words))
    assert words.index(EVIL) < words.index("plain")
    for said in ("3.2e-07", "6.2", "400 ± 65 mJy", "612 mJy", "15.4", "0.87", "123 mJy (2)", "12 flagged", "a remark",
                 "150.0 to 155.0", "2 point sources, together 0.123 Jy, are marginalised; the flux densities of 1 are "
                 "free", "other half of the sky", "no detection", "strong",
                 "from the phase centre 0.00 deg"):
        assert said in words, said


def test_flags_are_explained(tmp_path):
    text = page(tmp_path)
    assert FLAGS["negative"] in text and "see the documentation" in text
    assert FLAGS["no-sources"] not in text


def test_every_link_leads_somewhere(tmp_path):
    read = Reader(page(tmp_path))
    ids = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    links = {attributes["href"] for tag, attributes in read.tags if tag == "a"}
    assert links and links <= {f"#{name}" for name in ids}


def test_the_legend_says_what_cannot_be_promised(tmp_path):
    words = re.sub(r"\s+", " ", " ".join(Reader(page(tmp_path, ("", "", ""))).words))
    for said in ("No calibration can be undone", "the primary beam is not corrected for", "not thermal noise"):
        assert said in words
    assert "Flags on this page" not in words
