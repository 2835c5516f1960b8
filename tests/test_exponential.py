"""The generator `exponential`: the simulator's physics under the contract of a generator."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy import generators, simulate, surveys
from halopy.errors import HaloInputError
from halopy.generative.exponential import Exponential
from halopy.model import load
from halopy.simulate.survey_cutouts import observe


def sample(labels, *, rng=1, settings=None, **columns):
    table = QTable({"label": labels, **columns})
    return Exponential(**(settings or {})).sample(len(table), conditions=table, rng=rng)


CLEAN = {"background": False}


def test_it_is_found_by_its_name_and_needs_no_training():
    model = generators.create("exponential", background=False)
    assert isinstance(model, Exponential) and not model.trainable
    assert repr(model) == "Exponential(background=False)"
    assert len(model.fit(None).sample(2, label="orc", rng=1)) == 2


def test_what_is_made_is_what_the_simulator_makes():
    made = Exponential().sample(50, rng=1)
    assert made.shape == (50, 64, 64) and made.unit == u.Jy / u.beam and np.isfinite(made.data).all()
    assert set(made.table["label"]) == {"halo"} and set(made.table["group"]) == {"generated"}
    like = simulate.cutouts(5, rng=1)
    assert set(like.table.colnames) | {"size"} == set(made.table.colnames)
    assert set(like.meta["sources"].colnames) == set(made.meta["sources"].colnames)
    assert made.table["snr"].max() > 0 and (made.table["rms"] == surveys["gleam-170-231"].rms).all()
    # The same sources on nothing: the halo alone, or with a relic beside it, which may be brighter.
    peak = simulate.diffuse_part(made).data.max(axis=(1, 2)) / made.table["rms"].value
    alone = made.table["also"] == ""
    np.testing.assert_allclose(peak[alone], made.table["snr"][alone], rtol=1e-4)
    assert alone.sum() > 30 and (peak > made.table["snr"] * 0.9999).all()


def test_the_peak_is_the_one_asked_for():
    labels = ["halo", "relic", "radio-galaxy", "orc", "mini-halo", "phoenix", "blend"]
    made = sample(labels, snr=np.arange(7) + 5.0, settings=CLEAN)
    peak = made.data.max(axis=(1, 2)) / made.table["rms"].value
    np.testing.assert_allclose(peak, np.arange(7) + 5, rtol=1e-5)
    np.testing.assert_array_equal(made.table["snr"], np.arange(7) + 5.0)
    # The flux is scaled with the picture: all of it, over the beam, is in the image of a small source.
    small = sample(["halo"] * 20, snr=np.full(20, 9.0), size=np.full(20, 30) * u.arcsec, settings=CLEAN)
    beam = np.pi / 4 / np.log(2) * small.table["beam_major"] * small.table["beam_minor"] / small.table["pixel_scale"]**2
    total = small.data.sum(axis=(1, 2)) / beam.to_value(u.one) * 1e3
    np.testing.assert_allclose(total, small.table["flux"].to_value(u.mJy), rtol=0.01)
    with_sky = sample(["none", "halo"], snr=[7.0, np.nan])
    assert with_sky.table["snr"][1] > 0 and with_sky.table["flux"][0] == 0


def test_size_is_the_radius_of_halos_and_the_length_of_others():
    made = sample(["halo", "relic", "mini-halo", "none"], size=[120, 400, np.nan, 50] * u.arcsec, snr=[5, 5, 5, 5.0])
    np.testing.assert_allclose(made.table["r_e"][0], 120 * u.arcsec)
    np.testing.assert_allclose(made.table["length"][1], 400 * u.arcsec)
    assert 0 < made.table["r_e"][2].value < 600 and made.table["size"][2] == made.table["r_e"][2]
    # exp(-r / r_e) convolved with the beam: the second moment on each axis is 3 r_e^2 + sigma_beam^2 (r_e the geometric
    # mean, the ellipse's axes multiply), here of clean halos over a box that holds all of them.
    clean = sample(["halo"] * 10, size=np.full(10, 60) * u.arcsec, settings=CLEAN | {"shape": (96, 96)})
    y, x = np.indices((96, 96)) - 47.5
    for image, row in zip(clean.data.astype(float), clean.table, strict=True):
        weight = image / image.sum()
        centre = [(weight * a).sum() for a in (x, y)]
        dx, dy = x - centre[0], y - centre[1]
        moments = np.array([[(weight * a * b).sum() for a in (dx, dy)] for b in (dx, dy)]) * row["pixel_scale"].value**2
        beam = np.diag([(row[n].value / np.sqrt(8 * np.log(2)))**2 for n in ("beam_minor", "beam_major")])
        turned = beam[::-1, ::-1] if row["beam_pa"].value == 90 else beam
        assert np.linalg.det(moments - turned)**0.25 == pytest.approx(np.sqrt(3) * 60, rel=0.1)


def test_another_frequency_changes_what_an_array_sees():
    made = sample(["halo"] * 6, frequency=[100.25, 200.5, np.nan, 100.25, 200.5, np.nan] * u.MHz)
    survey = surveys["gleam-170-231"]
    np.testing.assert_array_equal(made.table["frequency"], [100.25, 200.5, 200.5, 100.25, 200.5, 200.5] * u.MHz)
    ratio = np.array([2, 1, 1, 2, 1, 1])
    np.testing.assert_allclose(made.table["pixel_scale"] / survey.pixel_scale, ratio)
    # About the four bands of GLEAM: 40.9, 20.0, 12.6 and 7.7 mJy/beam at 88, 118, 154 and 200 MHz.
    np.testing.assert_allclose(made.table["rms"] / survey.rms, ratio**2)
    for band in ("gleam-72-103", "gleam-103-134", "gleam-139-170"):
        there = sample(["none"], frequency=surveys[band].frequency.reshape(1)).table
        assert (there["rms"][0] / surveys[band].rms).to_value(u.one) == pytest.approx(1, abs=0.15)
        assert (there["pixel_scale"][0] / surveys[band].pixel_scale).to_value(u.one) == pytest.approx(1, abs=0.15)
    sources = made.meta["sources"]
    assert (np.diff(sources["cutout"]) >= 0).all()
    names = np.asarray(made.table["name"])[sources["cutout"]]
    np.testing.assert_array_equal(names, sources["name"])
    assert (made.table["beam_major"][[0, 3]].to_value(u.arcsec) > 2 * 133 * 0.999).all()


def test_fluxes_follow_the_spectra():
    """The halos of one set of clusters: steep spectra are brighter at long wavelengths."""
    n = 60
    fluxes = [np.median(sample(["halo"] * n, frequency=np.full(n, f) * u.MHz, settings=CLEAN, rng=3).table["flux"])
              for f in (100, 200)]
    # Mean spectral index -1.2 and steeper (George+ 2017, arXiv 1701.06742): a factor of 2^1.2 to 2^1.5.
    assert 2**1.0 < (fluxes[0] / fluxes[1]).to_value(u.one) < 2**1.7


def test_without_background_there_is_one_source():
    made = sample(["halo", "none", "relic"], settings=CLEAN)
    assert made.data[1].max() == made.data[1].min() == 0
    assert len(made.meta["sources"]) == 3 and made.table["also"].tolist() == [""] * 3
    assert made.table["blends"].tolist() == [0, 0, 0]
    assert (made.data >= 0).all()
    assert len(Exponential(background=False).sample(0)) == 0


def test_artefacts_can_be_left_out():
    """Noise with the beam's own correlation and nothing else has the survey's rms."""
    made = Exponential(artefacts=False, faintest=1 * u.Jy).sample(300, label="blank", rng=2)
    assert np.median(made.data.std(axis=(1, 2))) == pytest.approx(made.table["rms"][0].value, rel=0.05)
    assert made.data.tobytes() != Exponential(faintest=1 * u.Jy).sample(300, label="blank", rng=2).data.tobytes()


def test_it_is_saved_with_its_settings(tmp_path):
    model = generators.create("exponential", survey="nvss", shape=(32, 40), faintest=2 * u.mJy, artefacts=False)
    model.save(tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    assert back == model and back.sample(3, rng=1).shape == (3, 32, 40)
    assert back.sample(3, rng=1).data.tobytes() == model.sample(3, rng=1).data.tobytes()


@pytest.mark.parametrize(("settings", "text"), [
    ({"survey": surveys["nvss"]}, "survey must be a name: gleam-72-103, .*found 'Survey'"),
    ({"relation": simulate.relations["cuciti+2023"]}, "relation must be a name: cassano.*found 'PowerMass'"),
    ({"survey": "gleam"}, "no survey is called 'gleam'"), ({"relation": "x"}, "relation must be a PowerMass or"),
    ({"shape": 64}, "shape must be two whole numbers"), ({"faintest": 5}, "faintest must be one flux density")])
def test_settings_that_cannot_be(settings, text):
    with pytest.raises(HaloInputError, match=text):
        Exponential(**settings).sample(1)


@pytest.mark.parametrize(("columns", "text"), [
    ({"frequency": [200.0]}, "the condition frequency needs the unit MHz"),
    ({"size": [1] * u.Jy}, "the condition size needs the unit arcsec.*found 'Jy'"),
    ({"size": [0] * u.arcsec}, "the condition size must be positive"),
    ({"snr": [-1.0]}, "the condition snr must be positive"),
    ({"label": ["other"]}, "a scene has one of the labels")])
def test_conditions_that_cannot_be(columns, text):
    table = {"label": ["halo"]} | columns
    with pytest.raises(HaloInputError, match=text):
        sample(**{"labels": table.pop("label")}, **table)


def test_the_rings_of_a_blend_are_of_what_is_seen():
    """Faint enough it has none: what remains is what the same cutout has without sidelobes."""
    scene = simulate.scenes(["blend"], faintest=np.inf * u.Jy, rng=1)[:1]
    scene["flux"] = 50 * u.Jy
    position = SkyCoord([0], [-27], unit="deg")
    both = [observe(scene, position, survey=surveys["gleam-170-231"], shape=(64, 64), snr=[1.0], rng=1,
                    artefacts=simulate.Artefacts(sidelobes=sidelobes, borders=0)).data for sidelobes in (0.005, 0)]
    np.testing.assert_array_equal(*both)
