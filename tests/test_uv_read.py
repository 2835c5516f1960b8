"""Files of visibilities: three formats give the same numbers, and what is wrong with a file is said."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.io import fits
from astropy.utils import iers

pyuvdata = pytest.importorskip("pyuvdata", reason="the extra uv is not installed")

from halopy.errors import HaloInputError, HalopyWarning  # noqa: E402
from halopy.uvshapelets.read import offline  # noqa: E402
from halopy.uvshapelets.visibilities import Visibilities  # noqa: E402

CENTRE = SkyCoord(30, -27, unit="deg")
HERE = EarthLocation.from_geodetic(116.67 * u.deg, -26.7 * u.deg, 377 * u.m)
N_ANTENNAS, N_TIMES, N_CHANNELS = 6, 4, 8
SIGMA = 2.0


def observation(hands=("xx", "yy"), n_times=N_TIMES, n_channels=N_CHANNELS, centre="sidereal", day=2457000.5,
                **changes):
    """Noise of SIGMA in Stokes I, all baselines and the autos, in pyuvdata's own container."""
    rng = np.random.default_rng(0)
    first, second = np.triu_indices(N_ANTENNAS)
    entry = {"cat_name": "field", "cat_type": centre}
    if centre == "sidereal":
        entry |= {"cat_lon": CENTRE.ra.rad, "cat_lat": CENTRE.dec.rad, "cat_frame": "icrs", "cat_epoch": 2000.0}
    with offline(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pyuvdata.UVData.new(
            freq_array=1.5e8 + 8e4 * np.arange(n_channels), channel_width=8e4, polarization_array=list(hands),
            times=np.repeat(day + np.arange(n_times) / 8640, len(first)), integration_time=10.0,
            do_blt_outer=False,
            antpairs=np.tile(np.stack([first, second], axis=1), (n_times, 1)), vis_units="Jy", empty=True,
            update_telescope_from_known=False, phase_center_catalog={0: entry},
            telescope=pyuvdata.Telescope.new(
                "array", HERE, instrument="array", antenna_positions=rng.normal(scale=300, size=(N_ANTENNAS, 3)),
                antenna_names=[f"a{n}" for n in range(N_ANTENNAS)], antenna_numbers=np.arange(N_ANTENNAS),
                feeds=["x", "y"], x_orientation="east", mount_type="fixed"))
        data.set_uvws_from_antenna_positions()
    data.polarization_array = np.array(data.polarization_array)
    shape = data.data_array.shape
    # One hand has sqrt 2 of the noise of their mean.
    sigma = SIGMA * (np.sqrt(2) if len(hands) > 1 else 1)
    data.data_array = sigma * (rng.normal(size=shape) + 1j * rng.normal(size=shape))
    data.nsample_array = np.full(shape, 5.0)
    data.flag_array = np.zeros(shape, bool)
    for name, value in changes.items():
        setattr(data, name, value)
    return data


def write(data, kind, name="file"):
    data = copy.deepcopy(data)
    with offline(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = f"{name}.{kind}"
        replace = {} if kind == "uvfits" else {"clobber": True}
        getattr(data, f"write_{kind}")(path, run_check_acceptability=False, **replace)
    return path


def ordered(vis):
    order = np.lexsort((vis.u, vis.frequency if np.ndim(vis.frequency) else vis.v))
    return {name: getattr(vis, name)[order] for name in ("u", "v", "w", "vis", "weight")}


def excluded(**counts):
    return {"auto": 0, "flagged": 0, "not finite": 0, "zero": 0, "far": 0, **counts}


@pytest.fixture(scope="module")
def noise():
    return observation()


@pytest.fixture(params=["uvfits", "uvh5", "ms"])
def kind(request):
    if request.param == "ms":
        pytest.importorskip("casacore", reason="Measurement Sets need python-casacore")
    return request.param


def test_the_formats_give_the_same_numbers(kind, noise):
    # Acceptance test 13, and against pyuvdata's arrays: our baseline points the other way (see the next test).
    data = copy.deepcopy(noise)
    data.flag_array[9, 2, 0] = data.flag_array[10, 3, 1] = True
    vis = Visibilities.read(write(data, kind), weights="file")
    cross = data.ant_1_array != data.ant_2_array
    keep = cross[:, None] & ~data.flag_array.any(axis=2)
    assert len(vis) == keep.sum() == N_TIMES * N_CHANNELS * 15 - 2
    frequency = np.broadcast_to(data.freq_array, keep.shape)[keep]
    uvw = (-data.uvw_array[:, None] * data.freq_array[:, None] / 299792458.0)[keep].T
    truth = ordered(Visibilities(*uvw, data.data_array.mean(axis=2)[keep], 10.0, frequency))
    read = ordered(vis)
    for name in ("u", "v", "w"):
        assert np.allclose(read[name], truth[name], rtol=0, atol=1e-6), name
    # UVFITS and Measurement Sets hold single precision.
    assert np.allclose(read["vis"], truth["vis"], rtol=1e-6, atol=1e-6)
    # Var((XX + YY) / 2) is a half of that of one: weights of 5 make 10.
    assert np.allclose(read["weight"], 10)
    assert vis.centre.separation(CENTRE) < 0.1 * u.mas
    assert vis.meta["excluded"] == excluded(auto=N_TIMES * N_CHANNELS * 6, flagged=2)
    assert vis.meta["format"] == kind and vis.meta["unit"] == "Jy" and vis.meta["n_channels"] == N_CHANNELS


def test_a_source_shows_where_it_is(kind, noise):
    # pyuvdata phases by itself to a source's place, where its visibilities are made 1; read about the first centre,
    # they must be those of the measurement equation there. This fixes the sign of u, v and w.
    source = SkyCoord(31.5, -26, unit="deg")
    data = copy.deepcopy(noise)
    with offline():
        data.phase(lon=source.ra.rad, lat=source.dec.rad, phase_frame="icrs", cat_name="source")
        data.data_array[...] = 1
        data.phase(lon=CENTRE.ra.rad, lat=CENTRE.dec.rad, phase_frame="icrs", cat_name="field")
    vis = Visibilities.read(write(data, kind), weights=1 * u.Jy)
    dra = (source.ra - CENTRE.ra).rad
    east = np.cos(source.dec.rad) * np.sin(dra)
    north = (np.sin(source.dec.rad) * np.cos(CENTRE.dec.rad)
             - np.cos(source.dec.rad) * np.sin(CENTRE.dec.rad) * np.cos(dra))
    fringe = np.exp(-2j * np.pi * (vis.u * east + vis.v * north + vis.w * (np.sqrt(1 - east**2 - north**2) - 1)))
    # pyuvdata's apparent places know of aberration within the field: 1e-4 of 1.7 degrees and of 500 wavelengths.
    assert np.abs(vis.vis - fringe).max() < 0.01
    assert np.abs(vis.phased_to(source).vis - 1).max() < 0.01
    assert np.abs(vis.vis - 1).max() > 1.5


@pytest.mark.parametrize("hands", [("xx", "yy"), ("rr", "ll"), ("pI",), ("xx", "yy", "xy", "yx"), ("pQ", "pI")])
def test_stokes_i(hands):
    data = observation(hands)
    vis = Visibilities.read(write(data, "uvh5"), weights="file")
    index = [hands.index("pI")] if "pI" in hands else [0, 1]
    cross = data.ant_1_array != data.ant_2_array
    assert np.allclose(vis.vis, data.data_array[cross][..., index].mean(axis=2).ravel())
    assert np.allclose(vis.weight, 5 * len(index))


@pytest.mark.parametrize("hands", [("rr", "ll"), ("xx", "yy", "xy", "yx"), ("pI", "pV")])
def test_stokes_v(hands):
    # Hamaker & Bregman 1996, doi 10.1051/aas:1996147: RR = I + V, LL = I - V; XX = I + Q, XY = U + iV, YX = U - iV.
    data = observation(hands)
    rng = np.random.default_rng(3)
    i, q, u_, v = rng.normal(size=(4, data.Nblts, N_CHANNELS)) + 1j * rng.normal(size=(4, data.Nblts, N_CHANNELS))
    product = {"rr": i + v, "ll": i - v, "xx": i + q, "yy": i - q, "xy": u_ + 1j * v, "yx": u_ - 1j * v,
               "pI": i, "pV": v}
    data.data_array = np.stack([product[hand] for hand in hands], axis=-1)
    path, cross = write(data, "uvh5"), data.ant_1_array != data.ant_2_array
    for stokes, truth in (("I", i), ("V", v)):
        vis = Visibilities.read(path, stokes=stokes, weights="file")
        assert np.allclose(vis.vis, truth[cross].ravel()) and vis.meta["stokes"] == stokes
        assert np.allclose(vis.weight, 5 if "pI" in hands else 10)


def test_a_file_in_which_stokes_i_is_the_sum(noise):
    vis = Visibilities.read(write(observation(pol_convention="sum"), "uvh5"), weights="file")
    assert np.allclose(vis.vis, 2 * Visibilities.read(write(noise, "uvh5"), weights="file").vis)
    assert np.allclose(vis.weight, 2.5)


@pytest.mark.parametrize("size", [40, 333, 10**6])
def test_pieces_are_the_whole(kind, size, noise):
    path = write(noise, kind)
    whole, pieces = Visibilities.read(path), list(Visibilities.read_chunks(path, size=size))
    assert len(pieces) == (1 if size == 10**6 else len(pieces)) and max(map(len, pieces)) <= max(size, N_CHANNELS)
    joined = Visibilities.join(pieces)
    for name in ("u", "v", "w", "vis", "weight", "frequency"):
        assert np.array_equal(getattr(joined, name), getattr(whole, name))
    for name, count in whole.meta["excluded"].items():
        assert sum(piece.meta["excluded"][name] for piece in pieces) == count


def test_the_scatter_is_the_noise(kind):
    # A few thousand differences know the noise to some per cent; a source at the phase centre is no noise.
    data = observation(n_channels=64)
    data.data_array += 500
    vis = Visibilities.read(write(data, kind))
    assert np.allclose(vis.weight, SIGMA**-2, rtol=0.08)
    assert np.allclose(vis.weight, vis.weight[0]) and "scatter" in vis.meta["weights"]


@pytest.mark.parametrize(("n_channels", "bands"), [(2, 1), (2, 2), (4, 2)])
def test_the_scatter_of_few_channels(n_channels, bands):
    # Bands are far apart: a source that changes from one to the other is no noise.
    data = observation(n_times=60, n_channels=bands * n_channels)
    band = np.arange(bands * n_channels) // n_channels
    data.freq_array += 20e6 * band
    data.data_array += 500 * (1 + band[:, None])
    assert np.allclose(Visibilities.read(write(data, "uvh5")).weight, SIGMA**-2, rtol=0.1)


def test_the_scatter_of_two_times():
    # Re² + Im² of a difference, which has twice the variance, is 2 ln 2 times that in the median.
    data = observation(n_times=2, n_channels=1)
    data.data_array[:] = 500 + 3j * (data.time_array > data.time_array.min())[:, None, None]
    assert np.allclose(Visibilities.read(write(data, "uvh5")).weight, 4 * np.log(2) / 9)


def test_relative_weights_are_kept(noise):
    data = copy.deepcopy(noise)
    better = np.arange(data.Nblts) % 3 == 0
    data.nsample_array[better] *= 9
    data.data_array[better] /= 3
    vis = Visibilities.read(write(data, "uvh5"))
    assert np.allclose(np.unique(vis.weight.round(6)), np.array([1, 9]) * SIGMA**-2, rtol=0.1)


def test_given_noise(noise):
    data = copy.deepcopy(noise)
    data.nsample_array[::2] *= 4
    assert np.allclose(Visibilities.read(write(data, "uvh5"), weights=500 * u.mJy).weight, 4)


def test_what_is_left_out_is_counted(noise):
    data = copy.deepcopy(noise)
    crosses = np.flatnonzero(data.ant_1_array != data.ant_2_array)
    data.data_array[crosses[0], 0, 0] = 0
    data.data_array[crosses[1], 1, 1] = np.nan
    data.flag_array[crosses[2], 2, 0] = True
    data.nsample_array[crosses[3], 3, 1] = 0
    path = write(data, "uvh5")
    vis = Visibilities.read(path)
    assert vis.meta["excluded"] == excluded(auto=6 * N_TIMES * N_CHANNELS, flagged=2, zero=1) | {"not finite": 1}
    everything = Visibilities.read(path, ignore_flags=True)
    assert everything.meta["excluded"]["flagged"] == 1 and len(everything) == len(vis) + 1
    near = Visibilities.read(path, max_distance=200)
    assert len(near) + near.meta["excluded"]["far"] == len(vis) and 0 < near.distance.max() <= 200


@pytest.mark.parametrize("suffix", ["", "--", "---SIN"])
def test_dialects_of_uvfits(suffix, noise):
    path = write(noise, "uvfits")
    plain = Visibilities.read(path)
    with fits.open(path, mode="update") as hdus:
        for number in range(1, hdus[0].header["PCOUNT"] + 1):
            name = hdus[0].header[f"PTYPE{number}"]
            if name in ("UU", "VV", "WW"):
                hdus[0].header[f"PTYPE{number}"] = name + suffix
    dialect = Visibilities.read(path)
    for name in ("u", "v", "w", "vis", "weight"):
        assert np.array_equal(getattr(dialect, name), getattr(plain, name))


def test_flagged_by_negative_weights(noise):
    # In UVFITS a flag is the sign of the weight. The moduli differ, and say nothing about the noise.
    path = write(noise, "uvfits")
    with fits.open(path, mode="update") as hdus:
        weights = hdus[0].data["DATA"][..., 2]
        weights[...] = -np.abs(weights) * np.random.default_rng(0).uniform(1, 100, weights.shape)
    with pytest.raises(HaloInputError, match="every visibility is flagged .*480 flagged.*ignore_flags=True .--ig"):
        Visibilities.read(path)
    vis = Visibilities.read(path, ignore_flags=True)
    assert len(vis) == 480 and vis.meta["ignored_flags"]
    assert vis.meta["weights"] == "alike, scaled by the scatter of differences"
    assert np.allclose(vis.weight, SIGMA**-2, rtol=0.2)


def test_an_observation_after_the_last_table_of_the_earths_rotation(kind):
    # Of the year 2039: astropy's own settings refuse it.
    assert len(Visibilities.read(write(observation(day=2466000.5), kind))) == 480


def test_phase_centres_have_names(noise):
    data = copy.deepcopy(noise)
    with offline():
        data.phase(lon=0.6, lat=-0.4, phase_frame="icrs", cat_name="other",
                   select_mask=data.time_array > np.median(data.time_array))
    path = write(data, "uvh5")
    with pytest.raises(HaloInputError, match=r"field must name one of the phase centres .*'field', 'other'"):
        Visibilities.read(path)
    other = Visibilities.read(path, field="other", size=50)
    assert other.centre.ra.rad == pytest.approx(0.6) and len(other) == 240
    assert Visibilities.read(path, field="field").centre.separation(CENTRE) < 1 * u.mas


def test_visibilities_that_are_not_phased_are():
    # At the zenith of the mean time the sidereal time is the right ascension, and the latitude the declination, but for
    # precession from J2000 to 2014 and aberration (20 arcsec).
    data = observation(centre="unprojected")
    vis = Visibilities.read(write(data, "uvh5"))
    assert vis.centre.dec.deg == pytest.approx(-26.7, abs=0.25)
    assert vis.centre.ra.deg == pytest.approx(np.degrees(data.lst_array.mean()), abs=0.25)
    assert np.allclose(vis.u**2 + vis.v**2 + vis.w**2, np.sum(
        (data.uvw_array[data.ant_1_array != data.ant_2_array, None] * data.freq_array[:, None] / 299792458) ** 2,
        axis=2).ravel())


def test_the_file_may_not_be_calibrated(noise):
    data = copy.deepcopy(noise)
    data.vis_units = "uncalib"
    with pytest.warns(HalopyWarning, match="does not say that its visibilities are calibrated"):
        assert Visibilities.read(write(data, "uvh5")).meta["unit"] == "uncalib"


def spoilt(name):
    data = observation(("xx", "yy", "xy", "yx"))
    if name == "kelvin":
        data.vis_units = "K str"
    elif name == "cross hands":
        data.select(polarizations=["xy", "yx"])
    elif name == "galactic":
        data.phase_center_catalog[0] |= {"cat_frame": "galactic", "cat_epoch": None}
    elif name == "zeros":
        data.data_array[...] = 0
    elif name == "zeros, flagged":
        data.data_array[data.ant_1_array < 2] = 0
        data.flag_array[...] = True
    elif name == "one channel a baseline":
        data.flag_array[:, 1:] = True
    return write(data, "uvh5")


@pytest.mark.parametrize(("name", "text"), [
    ("kelvin", "visibilities must be in Jy .*'K str'"),
    ("cross hands", r"Stokes I needs pI, or xx and yy, or rr and ll \(polarization, found 'xy and yx'"),
    ("galactic", "fixed on the sky, in ICRS or FK5 J2000 .*galactic"),
    ("zeros", "no visibility can be used .*480 zero"),
    ("zeros, flagged", "every visibility is flagged"),
    ("one channel a baseline", "scatter needs two neighbouring channels, or two times, with data .*weights=2 "),
])
def test_files_of_no_use(name, text):
    path = spoilt(name)
    with pytest.raises(HaloInputError, match=text):
        Visibilities.read(path)


def test_one_time_and_one_channel():
    path = write(observation(n_times=1, n_channels=1), "uvh5")
    with pytest.raises(HaloInputError, match="scatter needs two neighbouring channels"):
        Visibilities.read(path)
    assert len(Visibilities.read(path, weights=2 * u.Jy)) == 15


@pytest.mark.parametrize(("settings", "text"), [
    ({"size": 0}, "size must be at least 1"), ({"max_distance": 0}, "max_distance must be positive"),
    ({"weights": "natural"}, "weights must be 'scatter', 'file' or a positive noise in Jy"),
    ({"weights": 2}, "weights must be 'scatter', 'file' or"), ({"weights": 2 * u.m}, "weights must be 'scatter'"),
    ({"weights": np.inf * u.Jy}, "weights must be 'scatter', 'file' or"),
    ({"weights": -2 * u.Jy}, "weights must be 'scatter', 'file' or"),
    ({"weights": [1, 2] * u.Jy}, "weights must be 'scatter', 'file' or"),
    ({"stokes": "Q"}, "stokes must be 'I' or 'V' .*'Q'"),
    ({"stokes": "V"}, "Stokes V needs pV, or rr and ll, or xy and yx"),
    ({"field": "b"}, "field must name one of the phase centres .*found 'b'.*'field'"),
])
def test_settings_that_cannot_be(settings, text, noise):
    path = write(noise, "uvh5")
    with pytest.raises(HaloInputError, match=text):
        Visibilities.read(path, **settings)


def test_files_that_are_none(tmp_path):
    with pytest.raises(HaloInputError, match=r"there is no such file"):
        Visibilities.read("a.uvfits")
    (tmp_path / "b.tgz").write_bytes(b"\x1f\x8b")
    with pytest.raises(HaloInputError, match="this is none of them; try: unpack it first"):
        Visibilities.read("b.tgz")
    with pytest.raises(HaloInputError, match="this is none of them"):
        Visibilities.read(tmp_path)
    fits.PrimaryHDU(np.zeros((3, 3))).writeto("c.fits")
    with pytest.raises(HaloInputError, match="pyuvdata cannot read this file"):
        Visibilities.read("c.fits")


def test_a_measurement_set_without_casacore(tmp_path, monkeypatch):
    (tmp_path / "a.ms").mkdir()
    (tmp_path / "a.ms" / "table.dat").touch()

    def missing(*args, **kwargs):
        raise ImportError("casacore is not installed")

    monkeypatch.setattr("halopy.uvshapelets.read.UVData.from_file", missing)
    with pytest.raises(HaloInputError, match="Measurement Sets need python-casacore; try: pip install python-casacore"):
        Visibilities.read("a.ms")


def test_the_settings_of_astropy_are_left_alone(noise):
    sites = EarthLocation.__dict__.get("_site_registry")
    names = ("auto_download", "auto_max_age", "iers_degraded_accuracy")
    before = [getattr(iers.conf, name) for name in names]
    path = write(noise, "uvh5")
    with offline():
        assert not iers.conf.auto_download
        assert EarthLocation.of_site("MWA").lat.deg == pytest.approx(-26.7033, abs=1e-4)
    Visibilities.read(path)
    with pytest.raises(ZeroDivisionError), offline():
        1 / 0  # noqa: B018
    assert EarthLocation.__dict__.get("_site_registry") is sites
    assert [getattr(iers.conf, name) for name in names] == before
