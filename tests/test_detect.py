"""The whole chain: one row per target, honest p-values, and a reason wherever there is no number."""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy.special import expit
from scipy.stats import binom
from simulated import BEAM, CENTRE, PIXEL, RMS, a_field, an_image

from halopy import Detector
from halopy.classify import Classifier
from halopy.classify.matched_filter import MatchedFilter
from halopy.classify.significance import maxima
from halopy.errors import HaloInputError, NotFittedError, UnknownModelError
from halopy.io.detections import COLUMNS, read_detections, write_detections
from halopy.model import Step, load
from halopy.preprocess.cutout import CutoutMaker
from halopy.preprocess.noise import NoiseEstimator
from halopy.preprocess.scale import LogMinMax, SnrAsinh
from halopy.simulate.diffuse import FLUX_WITHIN_3RE

SHAPE = (240, 220)
FWHM = float((np.sqrt(BEAM.major * BEAM.minor) / PIXEL).to_value(u.one))
HALO = (120.4, 110.3, 1.5, 1.5)
"""x, y, flux (Jy), r_e (beams): a bright halo of some 30 sigma."""
FIELD = a_field(SHAPE, rng=1, halos=[HALO], meta={"path": "field.fits"})
PLACES = [(60.0, 60.0), HALO[:2], (180.0, 150.0)]


def quick(classifier=None, **changes):
    """A detector with few filters and small cutouts."""
    classifier = MatchedFilter(radii=(0.5, 1.0, 2.0), slack=0.5) if classifier is None else classifier
    return Detector(classifier, **({"cutout_maker": CutoutMaker(48, pixels_per_beam=3), "n_controls": 60} | changes))


def targets(image=FIELD, places=PLACES, **columns):
    position = SkyCoord([image.wcs.pixel_to_world(x, y) for x, y in places])
    return QTable({"name": [f"T{i}" for i in range(len(places))], "position": position} | columns)


def text(table):
    stream = io.StringIO()
    table.write(stream, format="ascii.ecsv")
    return stream.getvalue()


def plain(column):
    """The numbers of a column or cell without masks, NaN where masked, in their unit."""
    return np.asarray(getattr(column, "unmasked", column))


def masked(table, name):
    return np.broadcast_to(getattr(table[name], "mask", False), len(table))


MEASURED = [name for name, (kind, *_) in COLUMNS.items()
            if kind is not str and name not in ("ra", "dec", "redshift", "m500", "frequency", "n_controls")]


# ------------------------------------------------------------------------------------------- tables

def test_one_row_per_target_in_their_order():
    wanted = targets(places=PLACES[::-1])
    table = quick()(FIELD, wanted, rng=1)
    assert list(table["name"]) == list(wanted["name"])
    assert (table["position"].separation(wanted["position"]) < 1e-6 * u.arcsec).all()
    assert list(table["status"]) == ["ok"] * 3
    assert table["probability"].argmax() == 1
    for name, (_, unit, _, _) in COLUMNS.items():
        if name in table.colnames and unit is not None:
            assert table[name].unit == unit, name
    assert table.meta["detector"].startswith("Detector(")
    assert table.meta["classifier"].startswith("MatchedFilter(") and table.meta["weights"] == "none"


def test_the_halo_is_measured():
    table = quick()(FIELD, targets(), rng=1)
    row = {name: plain(table[name])[1] for name in MEASURED}
    assert row["probability"] > 0.9
    assert row["p_value"] == pytest.approx(1 / 61)
    assert abs(row["flux"] - 1000 * FLUX_WITHIN_3RE * HALO[2]) < 3 * row["flux_err"]
    # 10 % of the flux scale where no survey is named
    assert row["flux_err"] > 0.09 * row["flux"]
    assert row["r_e"] == pytest.approx(1.5 * FWHM * 40, rel=0.2)
    assert np.hypot(row["offset_east"], row["offset_north"]) < 60
    assert row["rms"] == pytest.approx(RMS, rel=0.1)
    assert row["coverage"] == 1
    assert table["rms_method"][1] == "map" and table["frequency"][1] == 200 * u.MHz


def test_offsets_point_from_the_target_to_the_halo():
    """The target lies two beams west and one beam south of the halo."""
    place = (HALO[0] + 2 * FWHM, HALO[1] - FWHM)
    table = quick(MatchedFilter(radii=(1.0, 1.5, 2.0), slack=2.0))(FIELD, targets(places=[place]), rng=1)
    beam = FWHM * PIXEL.to_value(u.arcsec)
    assert plain(table["offset_east"])[0] == pytest.approx(2 * beam, abs=0.5 * beam)
    assert plain(table["offset_north"])[0] == pytest.approx(beam, abs=0.5 * beam)


def test_the_flux_scale_of_the_survey():
    named = FIELD.replace(meta={"survey": "nvss"})
    ours, theirs = (quick()(i, targets(), rng=1)[1]["flux_err"] for i in (FIELD, named))
    assert theirs < ours


def test_targets_in_any_form():
    columns = {"redshift": [0.1, 0.2, 0.3], "label": ["halo", "none", "relic"],
               "m500": [1, 2, 3] * u.Unit("1e14 solMass"), "own": [7, 8, 9]}
    wanted = targets(**columns)
    table = quick()(FIELD, wanted, rng=1)
    for name in columns:
        assert list(table[name]) == list(wanted[name])
    plain = Table({"Cluster": list(wanted["name"]), "RA": wanted["position"].ra.deg, "DE": wanted["position"].dec.deg,
                   "z": columns["redshift"]})
    other = quick()(FIELD, plain, rng=1)
    np.testing.assert_array_equal(other["probability"], table["probability"])
    assert list(other["redshift"]) == columns["redshift"] and list(other["name"]) == ["T0", "T1", "T2"]
    sky = quick()(FIELD, wanted["position"], rng=1)
    np.testing.assert_array_equal(sky["p_value"], table["p_value"])
    one = quick()(FIELD, wanted["position"][1], rng=1)
    assert len(one) == 1 and one["name"][0].startswith("00h13m")
    galactic = quick()(FIELD, wanted["position"].galactic, rng=1)
    np.testing.assert_allclose(galactic["probability"], table["probability"], rtol=1e-3)
    with pytest.raises(HaloInputError, match="no rows"):
        quick()(FIELD, wanted[:0], rng=1)


def test_the_table_goes_to_files_and_back(tmp_path):
    places = [*PLACES, (10_000.0, 50.0)]
    table = quick()(FIELD, targets(places=places), rng=1)
    paths = write_detections(table, tmp_path)
    for ending in ("ecsv", "vot", "fits"):
        back = read_detections(paths[ending])
        for name in ("probability", "p_value", "flux", "snr"):
            np.testing.assert_array_equal(masked(back, name), masked(table, name))
            np.testing.assert_allclose(u.Quantity(back[name][:3]).value, u.Quantity(table[name][:3]).value)
        assert list(back["status"]) == list(table["status"])


def test_nothing_that_is_given_is_changed():
    image, wanted = a_field((100, 100), rng=2), targets(places=[(110.0, 120.0)])
    before, columns = image.data.tobytes(), text(wanted)
    detector = quick(CentreOfCutout(), scaling=SnrAsinh())
    shown = repr(detector)
    detector(image, wanted, rng=np.random.default_rng(1))
    assert image.data.tobytes() == before and image.rms is None and "rms_method" not in image.meta
    assert text(wanted) == columns
    assert repr(detector) == shown


def test_the_same_seed_gives_the_same_bytes():
    wanted = targets()
    first = text(quick()(FIELD, wanted, rng=5))
    assert text(quick()(FIELD, wanted, rng=5)) == first
    assert text(quick()(FIELD, wanted, rng=np.random.default_rng(5))) == first
    assert text(quick()(FIELD, wanted, rng=6)) != first
    positions = [quick().control_positions(FIELD, rng=seed) for seed in (5, 5, 6)]
    assert (positions[0].ra == positions[1].ra).all() and not (positions[0].ra == positions[2].ra).any()


# ----------------------------------------------------------------------------------------- p-values

def test_p_values_of_blank_sky_are_uniform():
    """P(p <= x) = x, for 320 positions on eight fields of noise and faint sources with 199 controls each.

    40 positions share their controls, which widens the binomial scatter by sqrt(1 + 40 / 199).
    """
    rng = np.random.default_rng(7)
    detector = quick(MatchedFilter(radii=(0.5, 1.5), slack=0.5), n_controls=199, exclusion=0.0,
                     cutout_maker=CutoutMaker(36, pixels_per_beam=3))
    p = []
    for _ in range(8):
        sources = list(zip(*rng.uniform(0, 300, (2, 60)), rng.pareto(1.5, 60) * 5 * RMS, strict=True))
        image = a_field((300, 300), rng=rng, sources=sources).replace(rms=RMS)
        table = detector(image, detector.control_positions(image, n=40, rng=rng), rng=rng)
        assert (table["n_controls"] >= 195).all()
        p.extend(plain(table["p_value"])[~masked(table, "p_value")])
    p, n = np.array(p), len(p)
    # At the very edge more than half of a filter may have no data.
    assert n > 310 and p.min() >= 1 / 200 and p.max() <= 1
    for x in (0.05, 0.1, 0.5):
        low, high = (n * x + np.sqrt(1 + 40 / 199) * (binom.ppf(q, n, x) - n * x) for q in (0.005, 0.995))
        assert low <= (p <= x).sum() <= high


def test_p_counts_the_controls_that_score_as_high():
    """p = (1 + number of controls with at least the target's score) / (1 + number of controls)."""
    detector = quick(n_controls=99)
    prepared = detector.prepare(FIELD)
    wanted = targets()
    table = detector(FIELD, wanted, rng=3)
    controls = detector.control_positions(prepared, wanted["position"], rng=3)
    score = detector.classifier.predict_proba(detector.cutouts(FIELD, QTable({"position": controls})))
    for row in table:
        assert row["p_value"] == pytest.approx((1 + (score >= row["probability"] - 1e-12).sum()) / 100, abs=0.011)
        assert row["n_controls"] == 99


def test_controls_keep_away_from_targets_and_gaps():
    data = FIELD.data.copy()
    data[:, 150:] = np.nan
    image = FIELD.replace(data=data)
    wanted = targets()[:2]
    controls = quick(n_controls=500, exclusion=8.0).control_positions(image, wanted["position"], rng=1)
    assert len(controls) > 100
    for position in wanted["position"]:
        assert controls.separation(position).min() > 8 * FWHM * PIXEL - PIXEL
    x, y = image.wcs.world_to_pixel(controls)
    assert x.max() < 150.5 and x.min() > -0.5 and y.min() > -0.5 and y.max() < 239.5
    assert np.isfinite(data[np.rint(y).astype(int), np.rint(x).astype(int)]).all()
    assert len(quick().control_positions(image, n=7, rng=1)) == 7


def test_controls_do_not_overlap_more_than_the_sky_allows():
    """Two beams apart on average: 240 x 220 pixels have room for about 1250."""
    n = len(quick(n_controls=10**6).control_positions(FIELD, rng=1))
    assert n == pytest.approx(240 * 220 / (2 * FWHM) ** 2, rel=0.05)


def test_few_controls_are_said_to_be_few():
    small = a_field((44, 44), rng=2)
    table = quick()(small, small.wcs.pixel_to_world([22], [22]), rng=1)
    assert 0 < table["n_controls"][0] < 50
    assert "few-controls" in table["flags"][0].split() and not masked(table, "p_value")[0]
    enough = quick()(FIELD, targets(), rng=1)
    assert not any("controls" in flags for flags in enough["flags"])


def test_without_controls_there_is_no_p_value():
    for detector in (quick(n_controls=0), quick(exclusion=1e3)):
        table = detector(FIELD, targets(), rng=1)
        assert masked(table, "p_value").all() and not masked(table, "probability").any()
        assert all("no-controls" in flags.split() for flags in table["flags"])
        assert (table["n_controls"] == 0).all()


# ------------------------------------------------------------------------------ what cannot be scored

def test_targets_outside_and_without_data():
    data = FIELD.data.copy()
    data[:, :60] = np.nan
    places = [(20.0, 100.0), (-500.0, 50.0), (120.0, 200.0), (100.0, 238.0)]
    wanted = targets(places=places)
    far = SkyCoord([*wanted["position"], CENTRE.directional_offset_by(0 * u.deg, 179.9 * u.deg)])
    table = quick()(FIELD.replace(data=data), far, rng=1)
    assert list(table["status"]) == ["unusable", "outside", "ok", "ok", "outside"]
    for name in MEASURED:
        assert list(masked(table, name)) == [True, True, False, False, True], name
    assert "partial" in table["flags"][3].split() and table["coverage"][3] < 1
    assert list(table["flags"][[0, 1, 4]]) == [""] * 3


@pytest.mark.parametrize("data", [np.full(SHAPE, np.nan), np.zeros(SHAPE), np.full(SHAPE, 0.3)],
                         ids=["NaN", "zero", "constant"])
def test_an_image_without_noise_has_no_probabilities(data):
    table = quick()(FIELD.replace(data=data), targets(label=["halo"] * 3), rng=1)
    assert list(table["status"]) == ["unusable"] * 3
    for name in MEASURED:
        assert masked(table, name).all(), name
    assert "no noise" in table.meta["error"] or "no usable pixels" in table.meta["error"]
    assert list(table["label"]) == ["halo"] * 3
    with pytest.raises(HaloInputError, match="no noise|no usable pixels"):
        quick()(FIELD.replace(data=data))


def test_a_clipped_image_has_no_p_values():
    """At 3 sigma nothing is left of blank sky, and every target that is not blank would seem special."""
    clipped = FIELD.replace(data=np.where(np.abs(FIELD.data) < 3 * RMS, 0, FIELD.data))
    table = quick()(clipped, targets(), rng=1)
    assert list(table["status"]) == ["ok"] * 3 and not masked(table, "probability").any()
    assert masked(table, "p_value").all() and (table["n_controls"] == 60).all()
    assert all({"clipped", "no-p-value"} <= set(flags.split()) for flags in table["flags"])
    assert plain(table["rms"]) == pytest.approx(RMS, rel=0.03)
    assert (table["rms_method"] == "clip-edge").all()
    assert table["snr"].argmax() == 1 and table["snr"][1] > 5


def test_an_rms_that_is_given_is_used():
    table = quick()(FIELD.replace(rms=2 * RMS), targets(), rng=1)
    assert plain(table["rms"]) == pytest.approx(2 * RMS)
    assert (table["rms_method"] == "given").all()
    measured = quick(noise=NoiseEstimator("clipped"))(FIELD.replace(rms=2 * RMS), targets(), rng=1)
    assert plain(measured["rms"]) == pytest.approx(RMS, rel=0.05)
    assert (measured["rms_method"] == "clipped").all()


# -------------------------------------------------------------------------------------------- units

def twins():
    area = BEAM.area_pixels(FIELD.pixel_scale)
    kelvin = (1 * u.Jy).to_value(u.K, u.brightness_temperature(200 * u.MHz, BEAM.area))
    return {"mJy/beam": FIELD.replace(data=1000 * FIELD.data, unit=u.mJy / u.beam),
            "Jy/pixel": FIELD.replace(data=FIELD.data / area, unit=u.Jy / u.pix),
            "K": FIELD.replace(data=kelvin * FIELD.data, unit=u.K),
            "mK": FIELD.replace(data=1000 * kelvin * FIELD.data, unit=u.mK)}


@pytest.mark.parametrize("unit", twins())
def test_the_unit_of_the_image_does_not_matter(unit):
    ours, theirs = (quick()(i, targets(), rng=1) for i in (FIELD, twins()[unit]))
    for name in ("snr", "p_value", "flux", "flux_err", "rms", "r_e"):
        np.testing.assert_allclose(u.Quantity(theirs[name]).value, u.Quantity(ours[name]).value, rtol=2e-3)


def test_rms_and_background_follow_the_unit():
    image = twins()["mJy/beam"].replace(rms=1000 * RMS, background=np.full(SHAPE, 3.0))
    prepared = quick().prepare(image)
    assert prepared.unit == u.Jy / u.beam
    np.testing.assert_allclose(prepared.rms, RMS)
    np.testing.assert_allclose(prepared.background, 0.003)


@pytest.mark.parametrize("image", [FIELD.replace(unit=u.m), FIELD.replace(unit=u.K, frequency=None)])
@pytest.mark.parametrize("where", [None, targets()], ids=["blind", "targets"])
def test_a_unit_that_says_nothing(image, where):
    with pytest.raises(HaloInputError, match=r"field.fits: detection needs an image in Jy/beam, .*K .*BUNIT"):
        quick()(image, where)


def test_without_a_beam_nothing_is_detected():
    for where in (None, targets()):
        with pytest.raises(HaloInputError, match=r"field.fits: detection needs the beam .*beam=Beam\("):
            quick()(FIELD.replace(beam=None), where)


# --------------------------------------------------------------------------------------------- blind

def test_a_blind_search_finds_the_halo():
    table, significance = quick().search(FIELD, rng=1)
    same = quick()(FIELD, rng=1)
    assert text(same) == text(table)
    assert len(table) == 1
    found = FIELD.wcs.pixel_to_world(*HALO[:2])
    assert table["position"][0].separation(found) < FWHM * PIXEL
    ra = found.ra.to_string(u.hour, sep="", precision=0, pad=True)
    assert table["name"][0].startswith(f"J{ra[:4]}") and table["name"][0][7:10] == "-30"
    assert masked(table, "p_value").all() and "blind" in table["flags"][0].split()
    assert significance.shape == FIELD.shape and significance.unit == u.dimensionless_unscaled
    assert np.nanmax(significance.data) > 5


def test_a_blind_search_of_noise_finds_nothing():
    table = quick(min_snr=8.0)(a_field(SHAPE, rng=3), rng=1)
    assert len(table) == 0 and {"probability", "flux", "status"} <= set(table.colnames)


def test_no_more_than_the_best_candidates():
    few = quick(min_snr=1.0, max_candidates=3)
    table = few(FIELD, rng=1)
    assert len(table) == 3
    assert table["position"][0].separation(FIELD.wcs.pixel_to_world(*HALO[:2])) < FWHM * PIXEL


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), threshold=st.floats(-1, 3), separation=st.floats(1, 15), most=st.integers(1, 30))
def test_maxima_are_high_apart_and_sorted(seed, threshold, separation, most):
    pixels = np.random.default_rng(seed).normal(size=(40, 50))
    pixels[:, :5] = np.nan
    image = an_image(pixels)
    x, y, value = maxima(image, threshold=threshold, separation=separation, most=most)
    assert len(x) <= most
    np.testing.assert_array_equal(image.data[y, x], value)
    assert (value >= threshold).all() and (np.diff(value) <= 0).all()
    apart = np.hypot(x[:, None] - x, y[:, None] - y)[np.triu_indices(len(x), 1)]
    assert (apart >= separation).all()
    top = np.nanmax(image.data)
    assert (top < threshold and len(x) == 0) or value[0] == top


# -------------------------------------------------------------------------- other classifiers and files

class CentreOfCutout(Classifier):
    """A third party's: how bright the middle of the cutout is."""

    trainable = False

    def __init__(self, *, gain=1.0):
        self.gain = gain

    def _predict_proba(self, cutouts):
        ny, nx = cutouts.data.shape[1:]
        middle = cutouts.data[:, ny // 2 - 2:ny // 2 + 2, nx // 2 - 2:nx // 2 + 2]
        return expit(self.gain * middle.mean(axis=(1, 2)))


@pytest.mark.parametrize("scaling", [None, SnrAsinh(), LogMinMax()], ids=repr)
def test_a_third_partys_classifier(scaling):
    detector = quick(CentreOfCutout(gain=5.0), scaling=scaling)
    table = detector(FIELD, targets(), rng=1)
    assert table["probability"].argmax() == 1
    assert table["p_value"][1] == pytest.approx(1 / 61)
    cutouts = detector.cutouts(FIELD, targets())
    expected = detector.classifier.predict_proba(cutouts if scaling is None else scaling(cutouts))
    np.testing.assert_allclose(table["probability"], expected)
    # Flux and size are those of the matched filter, whatever classifies, and know no scaling.
    by_filter = quick("matched-filter")(FIELD, targets(), rng=1)
    np.testing.assert_allclose(table["flux"].value, by_filter["flux"].value)
    np.testing.assert_allclose(table["snr"], by_filter["snr"])


@pytest.mark.parametrize("scaling", [None, SnrAsinh(), LogMinMax()], ids=repr)
def test_one_bad_target_does_not_spoil_the_others(scaling):
    places = [*PLACES, (-500.0, 50.0)]
    table = quick(CentreOfCutout(), scaling=scaling)(FIELD, targets(places=places), rng=1)
    assert list(table["status"]) == ["ok"] * 3 + ["outside"]
    alone = quick(CentreOfCutout(), scaling=scaling)(FIELD, targets(), rng=1)
    np.testing.assert_array_equal(plain(table["probability"])[:3], plain(alone["probability"]))


def test_a_matched_filter_wants_pixels_as_they_are():
    with pytest.raises(HaloInputError, match="matched filter takes no scaling.*found 'SnrAsinh"):
        quick(scaling=SnrAsinh())(FIELD, targets())


@pytest.mark.parametrize("detector", [
    Detector("matched-filter", n_controls=5), quick(),
    quick(CentreOfCutout(), scaling=SnrAsinh(), noise=NoiseEstimator("clipped", sigma=2.5)),
    quick(CentreOfCutout(gain=2.0), scaling=LogMinMax(dynamic_range=100)),
    quick(noise=NoiseEstimator(box=40 * u.arcmin), exclusion=4.0, min_snr=6.0, max_candidates=5),
], ids=repr)
def test_a_detector_is_saved_whole(detector):
    detector.save("detector.safetensors")
    loaded = Detector.load("detector.safetensors")
    assert loaded == detector and repr(loaded) == repr(detector)
    assert text(loaded(FIELD, targets(), rng=1)) == text(detector(FIELD, targets(), rng=1))
    with pytest.raises(HaloInputError, match="this file exists.*overwrite=True"):
        detector.save("detector.safetensors")
    detector.save("detector.safetensors", overwrite=True)


def test_a_file_with_an_unknown_step(monkeypatch):
    quick(CentreOfCutout()).save("detector.safetensors")
    monkeypatch.delitem(Step._known, "CentreOfCutout")
    with pytest.raises(HaloInputError, match="detector.safe.*a step that is not known.*'CentreOfCutout'.*import the"):
        Detector.load("detector.safetensors")


def test_a_file_of_another_halopy():
    quick().save("detector.safetensors")
    from safetensors import safe_open

    with safe_open("detector.safetensors", framework="numpy") as stream:
        header = stream.metadata()["halopy"]
    for old, new, match in (("exclusion", "exclude", "settings in this file do not fit this halopy"),
                            ('"schema": 1', '"schema": 99', "written for schema 99")):
        assert old in header
        save_file(load_file("detector.safetensors"), "other.safetensors", metadata={"halopy": header.replace(old, new)})
        with pytest.raises(HaloInputError, match=f"other.safetensors.*{match}|{match}.*other.safetensors|{match}"):
            Detector.load("other.safetensors")
    MatchedFilter().save("filter.safetensors")
    with pytest.raises(HaloInputError, match="this file holds a MatchedFilter, not a Detector"):
        Detector.load("filter.safetensors")
    assert load("filter.safetensors") == MatchedFilter()


# --------------------------------------------------------------------------------------- wrong input

@pytest.mark.parametrize(("settings_", "text_"), [
    ({"n_controls": -1}, "n_controls must be a whole number, not negative .*-1"), ({"n_controls": 2.5}, "whole number"),
    ({"exclusion": -1.0}, "exclusion must not be negative"), ({"max_candidates": 0}, "max_candidates positive"),
    ({"min_snr": np.nan}, "min_snr finite"), ({"exclusion": "8"}, "exclusion must not be negative"),
    ({"min_snr": None}, "min_snr finite"), ({"noise": "map"}, "noise must be a step, not its settings .*'map'"),
    ({"cutout_maker": 64}, "cutout_maker must be a step")])
def test_settings_that_cannot_be_used(settings_, text_):
    for where in (targets(), None):
        with pytest.raises(HaloInputError, match=text_):
            quick(**settings_)(FIELD, where)


def test_input_that_cannot_be_used():
    with pytest.raises(HaloInputError, match=r"a Detector takes a ClusterImage .*ndarray.*ClusterImage.read\("):
        quick()(FIELD.data, targets())
    with pytest.raises(HaloInputError, match="a Detector takes a ClusterImage"):
        quick()("field.fits")
    with pytest.raises(HaloInputError, match="(?i)ra|dec"):
        quick()(FIELD, Table({"name": ["a"]}))
    with pytest.raises(UnknownModelError, match="no model 'matched-filer' .*did you mean 'matched-filter'"):
        Detector("matched-filer")(FIELD, targets())
    with pytest.raises(TypeError, match="classfier"):
        Detector(classfier="matched-filter")


def test_a_classifier_that_is_not_trained_says_so():
    class Trainable(CentreOfCutout):
        trainable = True

    with pytest.raises(NotFittedError, match="Trainable must be trained"):
        quick(Trainable())(FIELD, targets())


def test_repr_shows_what_was_set():
    assert repr(Detector()) == "Detector()"
    assert repr(quick(scaling=SnrAsinh())).startswith(
        "Detector(classifier=MatchedFilter(radii=(0.5, 1.0, 2.0), slack=0.5), cutout_maker=CutoutMaker(size=48")


def test_residuals_are_what_the_fluxes_are_measured_on():
    image = a_field(SHAPE, rng=1, sources=[(100, 100, 0.5)])
    cutouts = quick().cutouts(image, targets(places=[(100.0, 100.0)]))
    assert cutouts.data.max() > 0.4 and quick().residuals(cutouts).data.max() < 0.05
