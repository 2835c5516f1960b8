"""The command line: what it writes, prints and returns."""

import importlib.metadata
import re
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

import halopy.cli as cli
from halopy.cutouts import CutoutSet, tangent_wcs
from halopy.errors import HaloInputError, HalopyWarning, MissingExtraError, UnknownModelError
from halopy.image import Beam, ClusterImage
from halopy.io.catalog import read_targets
from halopy.io.detections import blank_detections, read_detections

CENTRE = SkyCoord(3.58, -30.39, unit="deg")
FILES = {"detections.ecsv", "detections.vot", "detections.fits", "detections.reg", "index.html"}


class FakeDetector:
    """Keeps the contract of Detector."""

    warning = None
    error = None
    settings = {}

    def __init__(self, **settings):
        type(self).settings = settings

    @classmethod
    def load(cls, path):
        return cls(path=path)

    def __repr__(self):
        return "FakeDetector()"

    def __call__(self, image, targets=None, *, rng=None):
        if self.error is not None:
            raise self.error
        if self.warning is not None:
            warnings.warn(self.warning, HalopyWarning, stacklevel=2)
            warnings.warn(self.warning, HalopyWarning, stacklevel=2)
            warnings.warn("not for the user", RuntimeWarning, stacklevel=2)
        if targets is None:
            targets = QTable({"name": ["blind 1"], "position": CENTRE.reshape(1)})
        n = len(targets)
        table = blank_detections(targets["name"], targets["position"], image=image.name, status="ok")
        table["p_value"], table["n_controls"] = (np.arange(n)[::-1] + 1) / 250, np.full(n, 249)
        table["r_e"] = np.full(n, 90.0) * u.arcsec
        return table

    def cutouts(self, image, detections):
        n = len(detections)
        return CutoutSet(np.zeros((n, 16, 16)), QTable({
            "name": detections["name"], "position": detections["position"], "pixel_scale": [28.0] * n * u.arcsec}))

    def residuals(self, cutouts):
        return None


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    """Put a fake in the place of halopy.detect, so that these tests are about the command line alone."""
    pytest.importorskip("matplotlib", reason="the page needs matplotlib")
    detector = type("Detector", (FakeDetector,), {})
    module = types.ModuleType("halopy.detect")
    module.Detector = detector
    monkeypatch.setitem(sys.modules, "halopy.detect", module)
    return detector


@pytest.fixture
def field(tmp_path):
    def write(name="field.fits"):
        shape = (60, 70)
        pixels = np.random.default_rng(1).normal(0, 0.008, shape)
        image = ClusterImage(pixels, wcs=tangent_wcs(CENTRE, 28 * u.arcsec, shape), unit=u.Jy / u.beam,
                             beam=Beam(140 * u.arcsec, 120 * u.arcsec), frequency=200 * u.MHz)
        from halopy.io.write import write_image

        write_image(image, tmp_path / name)
        return str(tmp_path / name)

    return write


@pytest.fixture
def targets(tmp_path):
    path = tmp_path / "targets.csv"
    path.write_text("name,ra,dec\nA2744,3.58,-30.39\n<b>near</b>,3.6,-30.35\nfar,100,20\n", encoding="utf-8")
    return str(path)


def test_targets_in_an_image(field, targets, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["detect", field(), "--targets", targets, "-o", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == FILES
    table = read_detections(out / "detections.ecsv")
    status = dict(zip(table["name"], table["status"], strict=True))
    assert status == {"A2744": "ok", "<b>near</b>": "ok", "far": "outside"}
    assert table.meta["detector"] == "FakeDetector()" and table.meta["seed"] == 0
    said, errors = capsys.readouterr()
    lines = said.splitlines()
    assert lines[1].split()[:3] == ["1", "<b>near</b>", "0.0040"]
    assert lines[3].split()[1] == "far" and "outside" in lines[3]
    assert "index.html" in said and errors == ""


def test_results_are_not_overwritten_unasked(field, tmp_path, capsys):
    arguments = ["detect", field(), "-o", str(tmp_path / "out"), "--quiet"]
    assert cli.main(arguments) == 0
    assert capsys.readouterr() == ("", "")
    assert cli.main(arguments) == 2
    assert "this file exists" in capsys.readouterr().err
    assert cli.main([*arguments, "--overwrite"]) == 0


def test_the_demo_replaces_no_results_of_others(field, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["detect", field(), "-o", str(out), "--quiet"]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert cli.main(["demo", "-o", str(out)]) == 2
    assert "these results are not the demo's" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_seed_is_not_negative(field, tmp_path, capsys):
    assert cli.main(["detect", field(), "-o", str(tmp_path / "out"), "--seed", "-3"]) == 2
    assert "--seed must be 0 or more" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_maps_of_an_earlier_search_are_results_too(field, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("significance-2.fits", "significance.fits", "significance-of-mine.fits"):
        (out / name).write_bytes(b"an older search")
    arguments = ["detect", field(), "-o", str(out), "--quiet"]
    assert cli.main(arguments) == 2
    assert "significance-2.fits: this file exists" in capsys.readouterr().err
    assert cli.main([*arguments, "--overwrite"]) == 0
    # What the new search does not write would be taken for its result; the user's own file is none.
    assert {path.name for path in out.iterdir()} == FILES | {"significance-of-mine.fits"}


def test_a_target_without_a_position_is_told_and_kept(field, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("name,ra,dec\nA2744,3.58,-30.39\nlost,,\n", encoding="utf-8")
    out = tmp_path / "out"
    assert cli.main(["detect", field(), "--targets", str(tmp_path / "t.csv"), "-o", str(out), "--quiet"]) == 5
    assert "row 2 (lost) has no position" in capsys.readouterr().err
    table = read_detections(out / "detections.ecsv")
    assert dict(zip(table["name"], table["status"], strict=True)) == {"A2744": "ok", "lost": "error"}


def test_several_images_go_on_past_a_bad_one(field, targets, tmp_path, capsys):
    bad = tmp_path / "bad name \u00e9.fits"
    bad.write_bytes(b"not a FITS file")
    out = tmp_path / "out"
    images = [field("one.fits"), str(bad), field("two.fits")]
    assert cli.main(["detect", *images, "--targets", targets, "-o", str(out)]) == 5
    said, errors = capsys.readouterr()
    assert errors.startswith("error: ") and "bad name \u00e9.fits" in errors and len(errors.splitlines()) == 1
    table = read_detections(out / "detections.vot")
    assert sorted(table["status"]) == ["error", "ok", "ok", "ok", "ok", "outside"]
    assert (out / "index.html").exists() and "Traceback" not in said + errors


def test_one_bad_image_is_one_line_and_2(tmp_path, capsys):
    assert cli.main(["detect", str(tmp_path / "none.fits"), "-o", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and "none.fits" in errors and len(errors.splitlines()) == 1


@pytest.mark.parametrize(("error", "code", "text"), [
    (HaloInputError("no beam", hint="--beam"), 2, "error: no beam; try: --beam\n"),
    (UnknownModelError("no model 'x'"), 2, "error: no model 'x'\n"),
    (MissingExtraError("needs torch"), 3, "error: needs torch\n"),
    (KeyboardInterrupt(), 130, "interrupted\n"),
    (ZeroDivisionError("oh"), 1, "error: ZeroDivisionError: oh; run again with --debug to see where\n")])
def test_exit_codes(field, fake, tmp_path, capsys, error, code, text):
    fake.error = error
    assert cli.main(["detect", field(), "-o", str(tmp_path / "out")]) == code
    assert capsys.readouterr().err == text


def test_debug_gives_the_traceback(field, fake, tmp_path):
    fake.error = ZeroDivisionError("oh")
    with pytest.raises(ZeroDivisionError, match="oh"):
        cli.main(["detect", field(), "-o", str(tmp_path / "out"), "--debug"])


def test_warnings_are_one_line_each_and_once(field, fake, tmp_path, capsys):
    fake.warning = "the beam was\nguessed"
    assert cli.main(["detect", field("a.fits"), field("b.fits"), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    assert capsys.readouterr().err == "warning: the beam was guessed\n"


def test_a_closed_pipe_is_no_error(field, tmp_path, monkeypatch):
    class Closed:
        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(AttributeError):
        sys.stdout.fileno()
    monkeypatch.setattr(Closed, "fileno", lambda self: (_ for _ in ()).throw(OSError()), raising=False)
    assert cli.main(["inspect", field()]) == 0


def test_reading_options_reach_the_reader(field, tmp_path, capsys):
    assert cli.main(["inspect", field(), "--beam", "150,130,20"]) == 0
    said = capsys.readouterr().out
    assert "150" in said and "130" in said
    assert cli.main(["inspect", field("b.fits"), "--beam", "wide"]) == 2
    assert "--beam takes one to three numbers" in capsys.readouterr().err
    assert cli.main(["inspect", field("c.fits"), "--survey", "gleam-170-232"]) == 2
    assert "gleam-170-231" in capsys.readouterr().err


def test_detector_settings(field, fake, tmp_path, capsys):
    out = ["-o", str(tmp_path / "out"), "--quiet", "--overwrite"]
    assert cli.main(["detect", field(), "--noise", "clipped", "--n-controls", "50", *out]) == 0
    assert fake.settings["n_controls"] == 50 and fake.settings["noise"].method == "clipped"
    assert cli.main(["detect", field("b.fits"), "--rms-map", field("rms.fits"), *out]) == 0
    assert fake.settings["noise"].method == "from_map"
    assert cli.main(["detect", field("c.fits"), "--detector", "d.safetensors", *out]) == 0
    assert fake.settings == {"path": "d.safetensors"}
    assert cli.main(["detect", field("d.fits"), "--detector", "d.safetensors", "--n-controls", "9", *out]) == 2
    assert "brings its own settings" in capsys.readouterr().err
    assert cli.main(["detect", field("e.fits"), "--rms-map", "x.fits", "--noise", "map", *out]) == 2
    assert "estimated or read, not both" in capsys.readouterr().err
    assert cli.main(["detect", field("f.fits"), field("g.fits"), "--rms-map", "x.fits", *out]) == 2
    assert "belongs to one image" in capsys.readouterr().err
    assert cli.main(["detect", field("h.fits"), "--classifier", "no-such-model", *out]) == 2
    assert "no-such-model" in capsys.readouterr().err


def test_odd_paths(field, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    field("-odd na\u00efve \U0001f30c.fits")
    assert cli.main(["detect", "-o", "out folder", "--quiet", "--", "-odd na\u00efve \U0001f30c.fits"]) == 0
    assert {path.name for path in (tmp_path / "out folder").iterdir()} == FILES


def test_usage_errors_and_version_return_their_code(capsys):
    assert cli.main([]) == 2
    assert cli.main(["detect", "x.fits"]) == 2
    assert "-o/--output" in capsys.readouterr().err
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"halopy {importlib.metadata.version('halopy-radio')}\n"
    assert cli.main(["detect", "--help"]) == 0
    assert "exit codes:" in capsys.readouterr().out


def test_help_loads_nothing_heavy():
    code = ("import sys; from halopy.cli import main; main(['--help']); "
            "print(sorted({'torch', 'matplotlib', 'photutils', 'reproject', 'regions'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_module_is_a_command():
    done = subprocess.run([sys.executable, "-m", "halopy", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()[0]) == (0, "halopy")


SIMULATED = ["--size", "16,20", "--faintest", "50", "--mix", "halo=0.5, none=0.5"]


def test_simulated_cutouts(tmp_path, capsys):
    from halopy import simulate

    out = tmp_path / "set"
    arguments = ["simulate", "-n", "50", "-o", str(out), "--chunk", "30", "--seed", "4", *SIMULATED]
    assert cli.main(arguments) == 0
    said, errors = capsys.readouterr()
    assert {path.name for path in out.iterdir()} == {"cutouts-00000.fits", "cutouts-00001.fits", "cutouts.json"}
    sets = list(simulate.read_cutouts(out))
    assert [made.shape for made in sets] == [(30, 16, 20), (20, 16, 20)] and errors == ""
    table = sets[0].join(sets[1]).table
    lines = [line.split() for line in said.splitlines()]
    assert lines[0] == ["label", "number", "flux", "/", "mJy", "S/N"]
    halos = table[table["label"] == "halo"]
    assert lines[1][:2] == ["halo", str(len(halos))]
    assert float(lines[1][2]) == pytest.approx(np.median(halos["flux"].to_value(u.mJy)), abs=0.051)
    assert float(lines[1][3]) == pytest.approx(np.median(halos["snr"]), abs=0.051)
    assert lines[2] == ["none", str(50 - len(halos)), "-", "-"]
    assert "cutouts-00000.fits to cutouts-00001.fits, 2 files" in said
    # Again: nothing is left to do. Longer, or from another seed: refused.
    assert cli.main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert cli.main([*arguments, "--seed", "5"]) == 2
    assert "seed 4, not 5" in capsys.readouterr().err


def test_simulated_cutouts_can_be_clean_and_clipped(tmp_path, capsys):
    out = ["-o", str(tmp_path), "--quiet", "--survey", "gleam-x-170-231", *SIMULATED]
    assert cli.main(["simulate", "-n", "9", *out, "--clean", "--clip-high", "3", "--relation", "cassano+2013"]) == 0
    made = CutoutSet.read(tmp_path / "cutouts-00000.fits")
    # Nothing survives between the survey's rms and three times that, and there are no edges without data.
    assert np.isfinite(made.data).all()
    assert not ((made.data > 0) & (made.data < 0.999 * 3 * made.table["rms"][0].value)).any()
    assert (made.table["frequency"] == 200.5 * u.MHz).all() and made.table["rms"][0].to_value(u.mJy / u.beam) < 2


@pytest.mark.parametrize(("arguments", "text"), [
    (["-n", "0"], "n must be a whole number, 1 or more"),
    (["-n", "5", "--chunk", "0"], "chunk must be a whole number"),
    (["-n", "5", "--seed", "-1"], "--seed must be 0 or more"),
    (["-n", "5", "--size", "64,64,64"], "--size takes one or two numbers of pixels"),
    (["-n", "5", "--size", "big"], "--size takes one or two"),
    (["--field", "0"], "--field takes one or two numbers of pixels"),
    (["-n", "5", "--mix", "halo"], "--mix takes a share for each label, once"),
    (["-n", "5", "--mix", "halo=1,halo=2"], "--mix takes a share for each label, once"),
    (["-n", "5", "--mix", "star=1"], "mix takes the labels halo, mini-halo"),
    (["-n", "5", "--survey", "gleam-170"], "no survey is called 'gleam-170'"),
    (["-n", "5", "--relation", "x"], "relation must be a PowerMass or the name of one"),
    (["-n", "5", "--clip-low", "-3"], "--clip-low needs an upper end too.*--clip-low -3 --clip-high 3"),
    (["-n", "5", "--clusters", "3"], "--clusters belongs to --field"),
    (["-n", "5", "--clusters", "0"], "--clusters belongs to --field"),
    (["-n", "5", "--overwrite"], "--overwrite belongs to --field"),
    (["--field", "64", "--size", "64"], "--size belongs to -n"),
    (["--field", "64", "--chunk", "64"], "--chunk belongs to -n"),
    (["--field", "64", "--clusters", "-1"], "clusters must be a number")])
def test_simulations_that_cannot_be(tmp_path, capsys, arguments, text):
    out = tmp_path / "out"
    assert cli.main(["simulate", "-o", str(out), *arguments]) == 2
    errors = capsys.readouterr().err
    assert re.search(text, errors) and errors.startswith("error: ") and len(errors.splitlines()) == 1
    assert not out.exists() or not list(out.iterdir())


def test_what_to_simulate_must_be_said(tmp_path, capsys):
    assert cli.main(["simulate", "-o", str(tmp_path)]) == 2
    assert "one of the arguments -n/--number --field is required" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert cli.main(["simulate", "--field", "64", "-o", str(tmp_path / "file" / "out")]) == 2
    assert "cannot make this folder" in capsys.readouterr().err


def test_a_simulated_field_can_be_searched(tmp_path, capsys, monkeypatch):
    monkeypatch.undo()  # the true detector
    out = tmp_path / "field"
    arguments = ["simulate", "--field", "220,240", "--clusters", "3", "--seed", "2", "-o", str(out), "--clean",
                 "--survey", "gleam-x-170-231"]
    assert cli.main(arguments) == 0
    said, errors = capsys.readouterr()
    assert errors == "" and str(out / "targets.ecsv") in said
    assert {path.name for path in out.iterdir()} == {"field.fits", "diffuse.fits", "truth.ecsv", "targets.ecsv"}
    image, diffuse = (ClusterImage.read(out / name) for name in ("field.fits", "diffuse.fits"))
    assert image.shape == diffuse.shape == (220, 240) and image.unit == u.Jy / u.beam
    truth = QTable.read(out / "truth.ecsv")
    assert truth["main"].sum() == 3 and len(truth) > 10
    targets = read_targets(out / "targets.ecsv")
    assert targets["name"].tolist() == ["cluster 1", "cluster 2", "cluster 3"]
    assert (targets["redshift"] > 0).all() and set(targets["label"]) <= set(truth["class"])
    assert targets["position"].separation(truth["position"][truth["main"]]).max() < 0.01 * u.arcsec
    assert cli.main(["detect", str(out / "field.fits"), "--targets", str(out / "targets.ecsv"), "-o", str(out),
                     "--n-controls", "20", "--quiet"]) == 0
    found = read_detections(out / "detections.ecsv")
    assert set(found["name"]) == set(targets["name"])
    capsys.readouterr()
    assert cli.main(arguments) == 2
    assert "field.fits: this file exists; try: --overwrite" in capsys.readouterr().err
    pixels = image.data
    assert cli.main([*arguments, "--overwrite", "--quiet"]) == 0
    np.testing.assert_array_equal(ClusterImage.read(out / "field.fits").data, pixels)
