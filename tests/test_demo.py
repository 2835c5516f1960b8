"""The packaged demonstration, with the real detector."""

from importlib.resources import files

from halopy.cli import main
from halopy.io.detections import read_detections


def test_demo_shows_candidates(tmp_path, capsys):
    assert (files("halopy") / "data" / "demo.fits").is_file()
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 0
    said = capsys.readouterr().out
    assert "simulated field" in said and "index.html" in said
    table = read_detections(tmp_path / "demo" / "detections.fits")
    assert "ok" in set(table["status"])
    assert (tmp_path / "demo" / "index.html").stat().st_size > 10_000
