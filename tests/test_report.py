"""The page: self-contained, escaped, complete and readable in a browser."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import vstack
from pages import Reader

from halopy.cutouts import CutoutSet, tangent_wcs
from halopy.image import Beam, ClusterImage
from halopy.io.detections import blank_detections
from halopy.page import picture
from halopy.report import FLAGS, write_page

pytest.importorskip("matplotlib", reason="the page needs matplotlib")

EVIL = "</script><b>x</b><img src=http://evil.example/a.png onerror=alert(1)>\"'"
NAMES = ["Abell 2744", EVIL, "Pers\u00e9us"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def scene():
    rng = np.random.default_rng(3)
    centre = SkyCoord(3.58, -30.39, unit="deg")
    image = ClusterImage(rng.normal(0, 0.008, (120, 140)), wcs=tangent_wcs(centre, 28 * u.arcsec, (120, 140)),
                         unit=u.Jy / u.beam, beam=Beam(140 * u.arcsec, 120 * u.arcsec), frequency=200 * u.MHz,
                         rms=0.008, name="field <1>", flags=("beam-from-survey",), meta={"rms_method": "map"})
    position = centre.directional_offset_by([0, 40, 80] * u.deg, [0, 8, 12] * u.arcmin)
    table = blank_detections(NAMES, position, image=image.name, status="ok")
    for name, values in {"probability": [0.5, 0.99, 0.2], "p_value": [0.3, 1 / 250, 0.9], "n_controls": [249] * 3,
                         "snr": [3.0, 12.0, 0.4], "coverage": [1.0, 1.0, 0.5], "flux": [30, 364.61, 2] * u.mJy,
                         "flux_err": [10, 13.12, 9] * u.mJy, "r_e": [90, 120, 60] * u.arcsec,
                         "rms": [8, 8, 8] * u.mJy / u.beam, "redshift": [0.3, 0.3, np.nan],
                         "flags": ["", "clipped few-controls", "a-new-flag"]}.items():
        table[name] = values
    cutouts = CutoutSet(rng.normal(0, 0.008, (3, 32, 32)), {
        "name": NAMES, "position": position, "rms": [0.008] * 3 * u.Jy / u.beam, "pixel_scale": [28.0] * 3 * u.arcsec,
        "beam_major": [140.0] * 3 * u.arcsec, "beam_minor": [120.0] * 3 * u.arcsec, "beam_pa": [0.0] * 3 * u.deg},
        unit=u.Jy / u.beam)
    return image, table, cutouts


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    image, table, cutouts = scene()
    lost = blank_detections(["far away"], SkyCoord([100], [20], unit="deg"))
    table = vstack([table, lost], metadata_conflicts="silent")
    table.meta["detector"] = "Detector(classifier=<&>)"
    path = tmp_path_factory.mktemp("page") / "index.html"
    write_page(path, table, images=[image], cutouts=[cutouts[0], cutouts[1], None, None],
               residuals=[None, cutouts[1], None, None])
    return path


def test_nothing_is_loaded_from_elsewhere(page):
    text = page.read_text()
    reader = Reader(text)
    assert all(a["src"].startswith("data:image/png;base64,") for a in reader.all("img"))
    assert not reader.all("link") and not reader.all("iframe")
    assert all("src" not in a for a in reader.all("script"))
    assert "url(" not in text and "@import" not in text
    links = [a["href"] for a in reader.all("a") if not a["href"].startswith("#")]
    hosts = {re.match("https://([^/]+)/", link)[1] for link in links}
    assert hosts == {"simbad.cds.unistra.fr", "ned.ipac.caltech.edu", "aladin.cds.unistra.fr"}
    policy = next(a["content"] for a in reader.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "img-src data:;" in policy


def test_names_are_escaped_everywhere(page):
    reader = Reader(page.read_text())
    assert len(reader.all("script")) == 1
    assert not [a for a in reader.all("img") if "onerror" in a]
    assert EVIL in reader.words
    assert f"{EVIL}: image, signal to noise, compact sources removed" in [a["alt"] for a in reader.all("img")]
    assert "field <1>" in reader.words
    assert any("Detector(classifier=<&>)" in word for word in reader.words)


def test_the_best_candidate_stands_first_with_its_numbers(page):
    text = page.read_text()
    row = re.search(r"<tbody>(<tr><td data-v.*?</tr>)", text, re.S)[1]
    for said in ("strong", "0.0040 (1/250)", "0.990", "12.0", "365 \u00b1 13 mJy", "120\u2033", "clipped few-controls"):
        assert said in row
    # 120 arcsec at z = 0.3 are 551 kpc for H0 = 67.7, Om = 0.31 (4.59 kpc per arcsec).
    kpc = int(re.search(r"120\u2033 = (\d+) kpc", text)[1])
    assert kpc == pytest.approx(551, rel=0.01)
    assert "Planck 2018" in text


def test_flags_and_missing_rows_are_explained(page):
    text = page.read_text()
    assert FLAGS["few-controls"] in text
    assert "<code>a-new-flag</code></li>" in text
    unscored = text[text.index('id="unscored"'):]
    assert "far away" in unscored and "outside every image" in unscored


def test_accessible(page):
    reader = Reader(page.read_text())
    assert reader.all("html")[0]["lang"] == "en"
    assert len(reader.all("title")) == len(reader.all("h1")) == len(reader.all("main")) == 1
    assert all(a.get("alt") for a in reader.all("img"))
    assert all(a.get("scope") for a in reader.all("th"))
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in reader.all("a") if a["href"].startswith("#")} <= set(ids)


def contrast(first, second):
    def luminance(colour):
        if len(colour) == 4:
            colour = "#" + "".join(2 * c for c in colour[1:])
        channels = np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_colours_have_enough_contrast(page):
    # WCAG 2.1, 1.4.3: at least 4.5 for text.
    schemes = re.findall(r":root\{([^}]*)\}", page.read_text())
    assert len(schemes) == 3  # light, dark, print
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+):(#\w+)", scheme))
        for name in set(colours) - {"bg", "band", "line"}:
            assert contrast(colours[name], colours["bg"]) >= 4.5, name


def test_pictures_are_limited_with_a_word(tmp_path):
    image, table, cutouts = scene()
    path = tmp_path / "index.html"
    write_page(path, table, images=[image] * 14, cutouts=cutouts, max_panels=1, title="A & B")
    text = path.read_text()
    assert text.count("<article") == 1
    assert "Pictures are shown for the 1 best of 3 targets" in text
    assert "Maps are shown for the first 12 of 14 images" in text
    assert "<title>A &amp; B</title>" in text


@pytest.mark.parametrize("bbox", [None, "tight"])
def test_a_picture_has_the_size_of_its_figure_whatever_the_users_settings(bbox):
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.1, 3.33))
    figure.subplots()
    with rc_context({"savefig.bbox": bbox}):
        text = picture(figure, "a line")
    assert 'width="393" height="319" alt="a line"' in text


def test_what_no_image_covers_is_not_listed_by_the_million(tmp_path, monkeypatch):
    monkeypatch.setattr("halopy.report.MOST_LISTED", 2)
    image, table, _ = scene()
    place = SkyCoord([100] * 3, [20] * 3, unit="deg")
    lost = blank_detections(["far", "farther", "broken"], place)
    lost["status"] = ["outside", "outside", "error"]
    write_page(tmp_path / "page.html", vstack([lost, table], metadata_conflicts="silent"), images=[image], cutouts=None)
    text = (tmp_path / "page.html").read_text()
    assert "2 of 3 are listed" in text and ">broken<" in text and ">far<" in text and ">farther<" not in text
    assert "<b>3</b><span>without a result" in text


def test_explanations_are_drawn_and_explained(page, tmp_path):
    image, table, cutouts = scene()
    maps = cutouts.replace(data=np.full(cutouts.shape, 0.5), unit="")
    path = tmp_path / "index.html"
    write_page(path, table, images=[image], cutouts=cutouts, explanations=[maps[0], None, None])
    reader = Reader(path.read_text())
    said = {a["alt"].split(": ")[0]: a["alt"].split(": ")[-1] for a in reader.all("img")}
    assert said["Abell 2744"] == "image, signal to noise, speaks for a halo"
    assert said[NAMES[2]] == "image, signal to noise"
    assert any("red raises the logit" in word for word in reader.words)
    # Where there is none, nothing is said of it.
    assert "speaks for a halo" not in page.read_text()


def test_an_empty_search_is_a_page(tmp_path):
    image, table, _ = scene()
    write_page(tmp_path / "index.html", table[:0], images=[image], cutouts=None)
    assert "No target could be scored" in (tmp_path / "index.html").read_text()
    write_page(tmp_path / "none.html", table[:0], images=[], cutouts=[])
    assert (tmp_path / "none.html").exists()


def browse(page, folder, *options):
    profile = folder / "profile"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
               "--disable-background-networking", "--no-first-run", "--disable-component-update", "--disable-sync",
               "--disable-quic", "--disable-dev-shm-usage", "--window-size=1200,1600", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the path")
def test_in_a_browser(page, tmp_path):
    from PIL import Image

    shot = tmp_path / "shot.png"
    browse(page, tmp_path, f"--screenshot={shot}")
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.std() > 10
    assert (pixels.reshape(-1, 3).std(axis=1) > 40).mean() > 0.01  # the coloured pictures are there

    # The page's own script is the only one that runs; a copy that is let to run a click sorts by S/N.
    text = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text())
    click = '<script>document.querySelectorAll(".sortable th button")[5].click()</script></body>'
    copy = tmp_path / "copy.html"
    copy.write_text(text.replace("</body>", click))
    before, after = (browse(path, tmp_path, "--dump-dom").stdout for path in (page, copy))
    assert "&lt;/script&gt;&lt;b&gt;x" in before and "<b>x</b>" not in before
    assert ranks(before) == ["1", "2", "3"]
    assert ranks(after) == ["3", "2", "1"]


def ranks(dom):
    body = dom[dom.index('class="sortable"'):dom.index('id="targets"')]
    return re.findall(r'<tr><td[^>]*>(\d+)</td>', body)
