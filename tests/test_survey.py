from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from halopy import HaloInputError, surveys

NAMES = """gleam-72-103 gleam-103-134 gleam-139-170 gleam-170-231 gleam-x-170-231 mwa2-88 mwa2-118 mwa2-154 mwa2-185
    mwa2-216 nvss sumss tgss racs-low racs-mid lotss-6 lotss-20 mgcls-8 mgcls-15 vlssr""".split()


def at(dec):
    return SkyCoord(10, dec, unit="deg")


def test_the_presets():
    assert list(surveys) == NAMES
    assert len(surveys) == len(NAMES)
    assert "nvss" in repr(surveys)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_source_and_a_sensible_size(name):
    survey = surveys[name]
    assert survey.name == name
    assert {"frequency", "beam", "pixel_scale", "rms", "flux_scale"} <= set(survey.sources)
    assert all(survey.sources.values())
    assert 50 * u.MHz < survey.frequency < 2 * u.GHz
    # Images sample their beam with two to eight pixels, MGCLS at 15" with twelve.
    assert 2 < min(survey.beam) / survey.pixel_scale < 13
    assert 0 < survey.rms.to_value(u.Jy / u.beam) < 0.2
    assert 0 < survey.flux_scale <= 0.1
    assert survey.beam_at().source == f"survey {name}"


def test_a_misspelt_name_is_answered():
    with pytest.raises(HaloInputError, match=r"no survey is called 'gleam-170-230'.*try: 'gleam-170-231'"):
        surveys["gleam-170-230"]
    with pytest.raises(HaloInputError, match="no survey is called 7"):
        surveys[7]


def test_published_beams():
    # TGSS: 25", and 25" x 25"/cos(dec - 19 deg) south of 19 deg, arXiv 1603.04368.
    assert surveys["tgss"].beam_at(at(60)).major == 25 * u.arcsec
    beam = surveys["tgss"].beam_at(at(-41))
    assert beam.major.to_value(u.arcsec) == pytest.approx(50)
    assert beam.minor.to_value(u.arcsec) == pytest.approx(25)
    # SUMSS: 45" x 45" cosec |dec|, astro-ph/0303188.
    assert surveys["sumss"].beam_at(at(-30)).major.to_value(u.arcsec) == pytest.approx(90)
    assert surveys["sumss"].beam_at(at(-90)).major.to_value(u.arcsec) == pytest.approx(45)
    # NVSS: 45" everywhere, 0.45 mJy/beam, AJ 115, 1693.
    assert surveys["nvss"].beam_at(at(-39)) == surveys["nvss"].beam_at(at(80))
    assert surveys["nvss"].rms == 0.45 * u.mJy / u.beam
    # RACS-mid: 8.1" to 47.5" over the sky up to dec +49 deg, arXiv 2306.07194.
    assert 30 * u.arcsec < surveys["racs-mid"].beam_at(at(49)).major < 48 * u.arcsec


@pytest.mark.parametrize("dec", [-70, -26.7, 10])
def test_gleam_against_its_paper(dec):
    # arXiv 1505.06041: about 2.5' x 2.2'/cos(dec + 26.7 deg) at 154 MHz.
    paper = 2.5 * 2.2 / np.cos(np.radians(dec + 26.7)) * u.arcmin**2
    beam = surveys["gleam-139-170"].beam_at(at(dec))
    assert (beam.major * beam.minor / paper).to_value(u.one) == pytest.approx(1, abs=0.25)


def test_the_wider_axis_is_the_major_one():
    gleam = surveys["gleam-170-231"]
    assert gleam.beam_at(at(-26.7)).pa == 90 * u.deg
    assert gleam.beam_at(at(25)).pa == 0 * u.deg


@given(st.floats(-90, 90))
def test_a_beam_never_shrinks_away_from_the_zenith(dec):
    for survey in surveys.values():
        here, zenith = survey.beam_at(at(dec)), survey.beam_at()
        assert here.area >= zenith.area * (1 - 1e-9)
        assert np.isfinite(here.major)


def test_one_position_only():
    with pytest.raises(HaloInputError, match="beam_at takes one position"):
        surveys["nvss"].beam_at(SkyCoord([1, 2], [3, 4], unit="deg"))
    with pytest.raises(HaloInputError, match="beam_at takes one position"):
        surveys["tgss"].beam_at(SkyCoord([1, 2], [3, 4], unit="deg"))


class TestBeamWidths:
    def test_east_west_first(self):
        """Of an array on the ground only the north-south baselines shorten: by cos(dec - zenith)."""
        east, north = surveys["gleam-170-231"].beam_widths([-86.7, -26.7, 33.3] * u.deg)
        np.testing.assert_allclose(east.to_value(u.arcsec), 133)
        np.testing.assert_allclose(north.to_value(u.arcsec), [244, 122, 244], rtol=1e-9)

    @pytest.mark.parametrize("name", NAMES)
    def test_an_array_of_them_is_what_beam_at_says(self, name):
        declination = np.linspace(-90, 90, 13)
        east, north = surveys[name].beam_widths(declination * u.deg)
        assert east.shape == north.shape == (13,)
        for dec, wide, high in zip(declination, east, north, strict=True):
            beam = surveys[name].beam_at(at(dec))
            assert u.allclose([beam.major, beam.minor], [max(wide, high), min(wide, high)], rtol=1e-12)
            assert beam.pa == (0 if high >= wide else 90) * u.deg

    def test_shapes_and_the_zenith(self):
        mwa = surveys["mwa2-118"]
        assert mwa.beam_widths() == mwa.beam
        east, north = mwa.beam_widths(SkyCoord([[1, 2, 3]], [[-26.7, -26.7, 80]], unit="deg").dec)
        assert east.shape == north.shape == (1, 3)
        assert north[0, 0] == mwa.beam[1] < north[0, 2]
        east, north = mwa.beam_widths(-26.7 * u.deg)
        assert east.isscalar and u.isclose(north, mwa.beam[1])
        assert all(width.size == 0 for width in mwa.beam_widths([] * u.deg))

    def test_where_it_does_not_grow(self):
        for name, dec in (("nvss", 80), ("tgss", 60), ("lotss-6", 70)):
            survey = surveys[name]
            assert u.allclose(survey.beam_widths([dec, dec] * u.deg), u.Quantity([survey.beam[0]] * 2)[:, None])

    def test_it_stays_finite_at_the_horizon(self):
        # 1 / cos(80 deg) = 5.76: nothing is observed beyond.
        north = surveys["gleam-170-231"].beam_widths([53.3, 63.3, 90] * u.deg)[1]
        np.testing.assert_allclose(north.to_value(u.arcsec), 122 * 5.7588, rtol=1e-4)


@pytest.fixture(scope="module")
def measured(real_data):
    """(preset, dec, area of the preset over the area measured) of every GLEAM and robust 0 MWA-2 image."""
    rows = []
    with open(real_data / "index.csv", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            beam = [float(x) for x in re.findall(r"[\d.]+", row["beam_arcsec"])[:2]]
            if match := re.search(r"_gleam_(\d+)-(\d+)MHz", row["file"]):
                name = f"gleam-{int(match[1])}-{int(match[2])}"
            elif match := re.search(r"_mwa2_(\d+)MHz_robust0(?:\.0)?\.fits", row["file"]):
                name = f"mwa2-{int(match[1])}"
            else:
                continue
            if len(beam) == 2:
                model = surveys[name].beam_at(at(float(row["dec"])))
                ratio = (model.major * model.minor).to_value(u.arcsec**2) / np.prod(beam)
                rows.append((name, float(row["dec"]), ratio))
    return rows


def test_mwa_beams_against_measured_ones(measured):
    assert len(measured) > 120
    south = np.array([ratio for name, dec, ratio in measured if name.startswith("gleam") and dec < 10])
    phase2 = np.array([ratio for name, dec, ratio in measured if name.startswith("mwa2")])
    assert abs(south - 1).max() < 0.1
    assert abs(phase2 - 1).max() < 0.25
    # North of +19 deg the fits to a handful of sources in shallow, clipped images scatter; of 16
    # three find a beam more than 25 % smaller than the preset's, none a larger one.
    north = np.array([ratio for name, dec, ratio in measured if name.startswith("gleam") and dec >= 10])
    assert (abs(north - 1) < 0.25).mean() >= 0.8
    assert abs(np.median(north) - 1) < 0.15
