"""The shapes of sources: their fluxes, profiles, sizes and directions on the sky."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from halopy.errors import HaloInputError
from halopy.image import FWHM_TO_SIGMA, Beam
from halopy.simulate.diffuse import exponential_halo
from halopy.simulate.paint import paint_components
from halopy.simulate.shapes import CLASSES, components

EXTENDED = CLASSES[1:]
SEEDS = range(300)


def one(kind, **columns):
    defaults = {"class": [kind], "flux": [1.0], "r_e": [100.0], "length": [100.0]}
    return components(defaults | {name: [value] for name, value in columns.items()})


def picture(gaussians, beam, scale, shape, x=None, y=None):
    n = gaussians["source"].max() + 1
    pixels = np.zeros((1, *shape), np.float32)
    x, y = (shape[1] - 1) / 2 if x is None else x, (shape[0] - 1) / 2 if y is None else y
    paint_components(pixels, gaussians, [x] * n, [y] * n, [0] * n, beam.covariance(scale * u.arcsec), scale)
    return pixels[0].astype(float)


def flux(pixels, beam, scale):
    return pixels.sum() / beam.area_pixels(scale * u.arcsec)


def brightness(gaussians, east, north):
    """Of the sky, Jy per square arcsec."""
    total = np.zeros(np.broadcast(east, north).shape)
    for g in gaussians:
        c = np.array([[g["cee"], g["cen"]], [g["cen"], g["cnn"]]])
        a, b, _, d = np.linalg.inv(c).ravel()
        de, dn = east - g["east"], north - g["north"]
        total += g["flux"] / (2 * np.pi * np.sqrt(np.linalg.det(c))) * np.exp(
            -0.5 * (a * de**2 + 2 * b * de * dn + d * dn**2))
    return total


def moments(gaussians):
    """Covariance on the sky (east, north), about the flux's own centre."""
    w, e, n = gaussians["flux"] / gaussians["flux"].sum(), gaussians["east"], gaussians["north"]
    e, n = e - w @ e, n - w @ n
    cee, cen, cnn = w @ (gaussians["cee"] + e * e), w @ (gaussians["cen"] + e * n), w @ (gaussians["cnn"] + n * n)
    return np.array([[cee, cen], [cen, cnn]])


def position_angle(matrix):
    """Of the major axis, degrees from north through east, 0 to 180."""
    east, north = np.linalg.eigh(matrix)[1][:, 1]
    return np.rad2deg(np.arctan2(east, north)) % 180


def fwhm(profile, step):
    """Between the outermost crossings of half the maximum."""
    above = np.flatnonzero(profile >= profile.max() / 2)
    return (above[-1] - above[0]) * step


def reach(gaussians, pa):
    """From the lowest to the highest half-maximum edge of the Gaussians along a direction (degrees)."""
    e, n = np.sin(np.deg2rad(pa)), np.cos(np.deg2rad(pa))
    half = np.sqrt(2 * np.log(2) * (e**2 * gaussians["cee"] + 2 * e * n * gaussians["cen"] + n**2 * gaussians["cnn"]))
    middle = e * gaussians["east"] + n * gaussians["north"]
    return (middle - half).min(), (middle + half).max()


def diameter(gaussians):
    return max(high - low for low, high in (reach(gaussians, pa) for pa in range(0, 180, 3)))


# --- flux

@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("substructure", [0, 0.7])
def test_the_gaussians_add_up_to_the_flux(kind, substructure):
    n = 50
    gaussians = components({"class": [kind] * n, "flux": np.linspace(0.001, 10, n), "r_e": 60, "length": 200,
                            "axis_ratio": 0.4, "pa": np.arange(n) * 7.0, "substructure": substructure,
                            "seed": np.arange(n)})
    total = np.bincount(gaussians["source"], gaussians["flux"])
    np.testing.assert_allclose(total, np.linspace(0.001, 10, n), rtol=1e-13)
    assert (np.diff(gaussians["source"]) >= 0).all()


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("substructure", [0, 0.7])
def test_the_painted_picture_has_the_flux(kind, substructure):
    """Sum of pixels over the beam's area, to 1e-4, on an image that holds all of the source."""
    beam, scale = Beam(133 * u.arcsec, 122 * u.arcsec, 20 * u.deg), 28
    source = one(kind, flux=0.37, r_e=90, length=500, axis_ratio=0.5, pa=33, substructure=substructure, seed=8)
    pixels = picture(source, beam, scale, (220, 221), x=108.3, y=111.9)
    assert flux(pixels, beam, scale) == pytest.approx(0.37, rel=1e-4)


def test_a_compact_source_is_a_point():
    source = one("compact", flux=0.2)
    assert len(source) == 1
    assert source[0].item() == (0, 0, 0, 0.2, 0, 0, 0)


@pytest.mark.parametrize("kind", [kind for kind in EXTENDED if kind != "blend"])
def test_covariances_are_positive_definite(kind):
    n = 100
    g = components({"class": [kind] * n, "flux": 1, "r_e": 5, "length": 9, "axis_ratio": 0.1, "pa": np.arange(n) * 11.0,
                    "seed": np.arange(n), "substructure": 1})
    assert (g["cee"] > 0).all()
    assert (g["cee"] * g["cnn"] > g["cen"] ** 2).all()


# --- halos

def test_four_fifths_of_a_halo_lie_within_three_radii():
    """1 - 4 e^-3 = 80.1 % (Murgia+ 2009), to 1e-3; the beam adds its own width, so it is kept small."""
    beam, radius = Beam(3 * u.arcsec), 40
    pixels = picture(one("halo", r_e=radius), beam, 1, (1001, 1001))
    y, x = np.indices(pixels.shape) - 500
    assert flux(pixels[np.hypot(x, y) <= 3 * radius], beam, 1) == pytest.approx(1 - 4 * np.exp(-3), abs=1e-3)


@pytest.mark.parametrize("axis_ratio", [1, 0.4])
@pytest.mark.parametrize("r_e", [40, 120, 500])
def test_a_halos_transform(r_e, axis_ratio):
    """V(q) = S / (1 + (2 pi r_e q)^2)^1.5, in the ellipse's own axes, once the beam is divided out."""
    beam, scale, n, pa = Beam(120 * u.arcsec), 30, 1024, np.deg2rad(25)
    pixels = picture(one("halo", r_e=r_e, axis_ratio=axis_ratio, pa=25), beam, scale, (n, n), x=n // 2, y=n // 2)
    transform = np.fft.fft2(np.fft.ifftshift(pixels)) / beam.area_pixels(scale * u.arcsec)
    v, w = np.fft.fftfreq(n, scale)[:, None], -np.fft.fftfreq(n, scale)[None]
    c = beam.covariance(1 * u.arcsec)[0, 0]
    response = np.exp(-2 * np.pi**2 * c * (v**2 + w**2))
    seen = response > 0.1
    along, across = w * np.sin(pa) + v * np.cos(pa), w * np.cos(pa) - v * np.sin(pa)
    q2 = along**2 / axis_ratio + across**2 * axis_ratio
    expected = (1 + (2 * np.pi * r_e) ** 2 * q2) ** -1.5
    np.testing.assert_allclose((transform / response)[seen], expected[seen], atol=1e-3)


@pytest.mark.parametrize(("r_e", "tolerance"), [(5, 1e-4), (60, 1e-4), (120, 1e-4), (240, 1e-4), (600, 3e-4)])
def test_halos_by_gaussians_and_by_transform_agree(r_e, tolerance):
    """To 3e-5 of the peak for beams as wide as r_e and 1.3e-4 for r_e of five beams; the transform is periodic."""
    beam, scale, n = Beam(120 * u.arcsec), 40, 301
    other = exponential_halo(beam, scale * u.arcsec, (n, n), r_e * u.arcsec, x=149.3, y=150.8)
    pixels = picture(one("mini-halo", r_e=r_e), beam, scale, (n, n), x=149.3, y=150.8)
    assert np.abs(pixels - other).max() < tolerance * other.max()


@settings(max_examples=30)
@given(axis_ratio=st.floats(0.1, 0.9), pa=st.floats(0, 179))
def test_an_elliptical_halo(axis_ratio, pa):
    """The variance along an axis of e-folding radius a is 3 a^2; r_e is the geometric mean of the two."""
    matrix = moments(one("halo", r_e=50, axis_ratio=axis_ratio, pa=pa))
    minor, major = np.linalg.eigvalsh(matrix)
    assert np.sqrt(minor / major) == pytest.approx(axis_ratio, rel=1e-6)
    assert np.sqrt(minor * major) == pytest.approx(3 * 50**2, rel=2e-3)
    assert (position_angle(matrix) - pa + 90) % 180 == pytest.approx(90, abs=1e-3)


def test_position_angles_run_from_north_through_east():
    """At 0 deg north (+y) is the major axis, at 90 deg east (-x); at 45 deg it lies in the quadrant north-east."""
    beam = Beam(60 * u.arcsec)
    for pa, (dx, dy), (ox, oy) in ((0, (0, 8), (8, 0)), (90, (8, 0), (0, 8)), (45, (-6, 6), (6, 6))):
        pixels = picture(one("halo", r_e=100, axis_ratio=0.3, pa=pa), beam, 30, (65, 65))
        assert pixels[32 + dy, 32 + dx] > 2 * pixels[32 + oy, 32 + ox]


@pytest.mark.parametrize("rms", [0.3, 1, 2.5])
def test_substructure_leaves_brightness_positive(rms):
    """Everywhere on the sky, before any beam."""
    axis = np.linspace(-600, 600, 49)
    for seed in range(8):
        source = one("halo", substructure=rms, seed=seed, axis_ratio=0.7, pa=20)
        assert brightness(source, axis[:, None], axis).min() > 0


def test_substructure_is_a_lognormal_field_times_the_profile():
    """The logarithm of picture over smooth picture: mean shift aside, an rms that grows with the setting."""
    axis = np.linspace(-150, 150, 13)
    smooth = brightness(one("halo"), axis[:, None], axis)
    found = []
    for rms in (0.1, 0.2, 0.4):
        ratio = [brightness(one("halo", substructure=rms, seed=seed), axis[:, None], axis) / smooth
                 for seed in range(40)]
        found.append(np.std(np.log(ratio)))
        # The Gaussians that carry the field smooth it, so that some of the variance is lost, not most.
        assert 0.6 * rms < found[-1] < 1.1 * rms
    assert found[2] / found[0] == pytest.approx(4, rel=0.15)


def test_substructure_has_more_power_on_large_scales():
    """A field of k^-11/3: its change over 0.6 r_e is less than that over 2 r_e."""
    near, far = [], []
    for seed in range(60):
        source = one("halo", substructure=0.5, seed=seed)
        middle, close, distant = brightness(source, np.array([0, 60, 200]), 0) / brightness(
            one("halo"), np.array([0, 60, 200]), 0)
        near.append(np.log(close / middle))
        far.append(np.log(distant / middle))
    assert np.std(near) < 0.7 * np.std(far)


# --- relics

RELIC = {"length": 300.0, "axis_ratio": 0.1}


def relics():
    return [one("relic", **RELIC, seed=seed, pa=seed * 1.2) for seed in SEEDS]


def along_and_out(gaussians, pa):
    """Positions in the direction of pa, and across it, in units of the length."""
    e, n = np.sin(np.deg2rad(pa)), np.cos(np.deg2rad(pa))
    return ((gaussians["east"] * e + gaussians["north"] * n) / RELIC["length"],
            (gaussians["east"] * n - gaussians["north"] * e) / RELIC["length"])


def circle(gaussians, pa):
    """Radius of the circle through the first, the middle and the last Gaussian; they are on one by construction."""
    out, across = along_and_out(gaussians, pa)
    chord, sagitta = np.hypot(out[0] - out[-1], across[0] - across[-1]) / 2, -(out[0] + out[-1]) / 2
    return (chord**2 + sagitta**2) / (2 * sagitta)


def test_a_relic_bends_around_the_side_opposite_to_pa():
    for seed, relic in zip(SEEDS, relics(), strict=True):
        out, across = along_and_out(relic, seed * 1.2)
        assert out.max() == pytest.approx(0, abs=1e-9)
        assert (out[[0, -1]] < -0.1).all()
        assert across[0] * across[-1] < 0
        assert 0.6 <= circle(relic, seed * 1.2) <= 1.5


def test_a_relic_is_perpendicular_to_pa():
    for pa in range(0, 180, 15):
        assert (position_angle(moments(one("relic", **RELIC, seed=pa, pa=pa))) - pa) % 180 == pytest.approx(90, abs=15)


def test_a_relics_length():
    """The mean brightness along the arc has the half-width that was asked for."""
    profiles, s = [], np.linspace(-1.2, 1.2, 481)
    for seed, relic in zip(SEEDS, relics(), strict=True):
        out, across = along_and_out(relic, seed * 1.2)
        radius = circle(relic, seed * 1.2)
        position = radius * np.arctan2(across, out + radius)
        sigma = np.sqrt(np.linalg.eigvalsh(moments(relic[7:8]))[1]) / RELIC["length"]
        profiles.append((relic["flux"] * np.exp(-0.5 * ((s[:, None] - position) / sigma) ** 2)).sum(1))
    assert fwhm(np.mean(profiles, axis=0), 0.005) == pytest.approx(1, abs=0.07)
    # Uneven, but one piece: no single one is the mean.
    assert min(np.corrcoef(np.mean(profiles, axis=0), p)[0, 1] for p in profiles) < 0.95


@pytest.mark.parametrize("axis_ratio", [0.1, 0.3])
def test_a_relics_thickness(axis_ratio):
    offsets = np.arange(-150, 150, 0.5)
    for seed in range(10):
        relic = one("relic", length=300, axis_ratio=axis_ratio, pa=60, seed=seed)
        profile = brightness(relic, offsets * np.sin(np.pi / 3), offsets * np.cos(np.pi / 3))
        assert fwhm(profile, 0.5) == pytest.approx(300 * axis_ratio, rel=0.06)


# --- radio galaxies, phoenixes, rings

@pytest.fixture(scope="module")
def radio_galaxies():
    """A list a shape: doubles, tails and X-shapes, told apart by how many Gaussians they have."""
    shapes = {}
    for seed in range(400):
        galaxy = one("radio-galaxy", seed=seed, pa=30)
        shapes.setdefault(len(galaxy), []).append(galaxy)
    return [shapes[n] for n in (5, 9, 7)]


def test_the_mix_of_radio_galaxies(radio_galaxies):
    """55, 35 and 10 %; three binomial sigma of 400 are 0.075, 0.072, 0.045."""
    doubles, tails, x_shapes = (len(shape) / 400 for shape in radio_galaxies)
    assert doubles == pytest.approx(0.55, abs=0.075)
    assert tails == pytest.approx(0.35, abs=0.072)
    assert x_shapes == pytest.approx(0.10, abs=0.045)


def test_a_double_is_as_long_as_it_should_be(radio_galaxies):
    for double in radio_galaxies[0]:
        assert diameter(double) == pytest.approx(100, rel=0.06)
        low, high = reach(double, 30)
        assert low < -25
        assert high > 25
        assert abs((position_angle(moments(double)) - 30 + 90) % 180 - 90) < 20
    bent = [abs((position_angle(moments(double)) - 30 + 90) % 180 - 90) for double in radio_galaxies[0]]
    assert np.median(bent) > 0.5


def test_a_doubles_lobes_are_unequal(radio_galaxies):
    ratios = []
    for double in radio_galaxies[0]:
        side = double["east"] * 0.5 + double["north"] * np.sqrt(0.75)
        ratios.append(np.log(double["flux"][side > 1].sum() / double["flux"][side < -1].sum()))
    assert np.std(ratios) > 0.3
    assert abs(np.mean(ratios)) < 0.15


def test_a_tail_begins_bright_and_fades_along_pa(radio_galaxies):
    for tail in radio_galaxies[1]:
        side = tail["east"] * 0.5 + tail["north"] * np.sqrt(0.75)
        assert brightness(tail, np.zeros(1), np.zeros(1))[0] > 3 * brightness(tail, tail["east"][-1], tail["north"][-1])
        assert (side >= -1e-9).all()
        assert tail["flux"][1:].argmax() == 0
        assert 70 < diameter(tail) < 106
        ends = np.hypot(np.diff(tail["east"]), np.diff(tail["north"])).sum()
        # Along the bent tail, with half a head (FWHM 0.06) and half a last Gaussian (0.16).
        assert ends + 3 + 8 == pytest.approx(100, rel=0.02)


def test_an_x_is_a_double_with_wings_across(radio_galaxies):
    for x_shape in radio_galaxies[2]:
        assert diameter(x_shape) == pytest.approx(100, rel=0.06)
        wings = max(abs(np.cross([np.sin(np.pi / 6), np.cos(np.pi / 6), 0], [g["east"], g["north"], 0])[2])
                    for g in x_shape)
        assert wings > 10


def test_a_phoenix_stays_within_its_circle():
    shapes = [one("phoenix", seed=seed) for seed in range(100)]
    assert {len(phoenix) for phoenix in shapes} == {3, 4, 5, 6, 7}
    for phoenix in shapes:
        edge = max(np.hypot(g["east"], g["north"])
                   + np.sqrt(np.linalg.eigvalsh([[g["cee"], g["cen"]], [g["cen"], g["cnn"]]])[1]) / FWHM_TO_SIGMA / 2
                   for g in phoenix)
        assert edge == pytest.approx(50, rel=1e-6)


def test_a_blend_is_two_to_five_points_within_its_circle():
    blends = [one("blend", seed=seed) for seed in range(100)]
    assert {len(blend) for blend in blends} == {2, 3, 4, 5}
    for blend in blends:
        assert np.hypot(blend["east"], blend["north"]).max() <= 50
        assert all((blend[name] == 0).all() for name in ("cee", "cen", "cnn"))
        assert (blend["flux"] > 0).all()


def test_a_ring_has_a_hole():
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)[:, None]
    radius = np.linspace(0, 100, 101)
    for seed in range(20):
        ring = brightness(one("orc", length=100, seed=seed), radius * np.sin(angle), radius * np.cos(angle))
        profile = ring.mean(axis=0)
        assert radius[profile.argmax()] == pytest.approx(50, abs=2)
        assert 0 < profile[0] < profile.max() / 3
        assert profile[100] < 0.01 * profile.max()
        assert 0.1 < np.std(ring[:, 50]) / profile[50] < 0.8


# --- the table

@pytest.mark.parametrize("kind", EXTENDED)
def test_a_row_always_draws_the_same_picture(kind):
    """Whatever stands around it, and another seed draws another, where there is anything to draw."""
    settings = {"r_e": 60, "length": 200, "axis_ratio": 0.4, "pa": 10, "substructure": 0.5}
    alone = one(kind, **settings, seed=12)
    among = components({"class": ["compact", "orc", kind, "halo"], "flux": 1, "seed": [1, 2, 12, 3]} | settings)
    among = among[among["source"] == 2]
    names = ["east", "north", "flux", "cee", "cen", "cnn"]
    assert np.array_equal(alone[names], among[names])
    assert not np.array_equal(alone[names], one(kind, **settings, seed=13)[names])


@pytest.mark.parametrize("kind", EXTENDED)
def test_a_source_turns_with_pa_and_grows_with_size(kind):
    small = one(kind, r_e=50, length=100, pa=20, seed=3, axis_ratio=0.4, substructure=0.4)
    large = one(kind, r_e=100, length=200, pa=110, seed=3, axis_ratio=0.4, substructure=0.4)
    np.testing.assert_allclose(large["east"], 2 * small["north"], atol=1e-9)
    np.testing.assert_allclose(large["north"], -2 * small["east"], atol=1e-9)
    np.testing.assert_allclose(large["cee"], 4 * small["cnn"], rtol=1e-9)
    np.testing.assert_allclose(large["cen"], -4 * small["cen"], rtol=1e-9, atol=1e-9)


def test_units_of_a_table():
    table = QTable({"class": ["halo", "relic", "compact"], "flux": [100, 200, 300] * u.mJy,
                    "r_e": [1, np.nan, np.nan] * u.arcmin, "length": [np.nan, 0.1, np.nan] * u.deg,
                    "axis_ratio": [0.5, 0.2, np.nan], "pa": [np.pi / 4, np.pi / 2, np.nan] * u.rad, "seed": [0, 5, 0]})
    plain = {"class": ["halo", "relic", "compact"], "flux": [0.1, 0.2, 0.3], "r_e": [60, 0, 0], "length": [0, 360, 0],
             "axis_ratio": [0.5, 0.2, 1], "pa": [45, 90, 0], "seed": [0, 5, 0]}
    for a, b in zip(components(table), components(plain), strict=True):
        np.testing.assert_allclose(a.item(), b.item(), rtol=1e-12, atol=1e-9)


def test_masked_values_are_missing_values():
    table = Table({"class": ["compact", "halo"], "flux": [1.0, 1.0],
                   "r_e": MaskedColumn([5.0, 60.0], mask=[True, False], unit="arcsec"),
                   "pa": MaskedColumn([5.0, 60.0], mask=[True, True], unit="deg")})
    assert np.array_equal(components(table)[1:], components(
        {"class": ["compact", "halo"], "flux": 1, "r_e": 60, "pa": 0})[1:])
    table["r_e"].mask = True
    with pytest.raises(HaloInputError, match="row 1: this class needs a finite, positive r_e"):
        components(table)


def test_no_sources_are_no_gaussians():
    assert len(components({"class": [], "flux": []})) == 0


def test_columns_that_are_missing():
    with pytest.raises(HaloInputError, match=r"the sources need a column class \(found 'flux'"):
        components({"flux": [1.0]})
    with pytest.raises(HaloInputError, match=r"the sources need a column flux \(found 'class'"):
        components({"class": ["compact"]})
    with pytest.raises(HaloInputError, match="row 0: this class needs a finite, positive r_e .*nan"):
        components({"class": ["halo"], "flux": [1.0]})
    with pytest.raises(HaloInputError, match="row 0: this class needs a finite, positive length .*nan"):
        components({"class": ["orc"], "flux": [1.0], "r_e": [60]})


def test_an_unknown_class():
    with pytest.raises(HaloInputError, match="row 1: class must be one of compact, halo, .*'Halo'"):
        components({"class": ["halo", "Halo"], "flux": 1, "r_e": 1})


@pytest.mark.parametrize(("kind", "name", "value", "message"), [
    ("compact", "flux", np.nan, "flux must be finite"),
    ("halo", "flux", np.inf, "flux must be finite"),
    ("halo", "r_e", 0, "needs a finite, positive r_e"),
    ("mini-halo", "r_e", -5, "needs a finite, positive r_e"),
    ("halo", "r_e", np.inf, "needs a finite, positive r_e"),
    ("relic", "length", np.nan, "needs a finite, positive length"),
    ("phoenix", "length", 0, "needs a finite, positive length"),
    ("halo", "axis_ratio", 0, r"axis_ratio must lie in \(0, 1\]"),
    ("halo", "axis_ratio", np.nan, r"axis_ratio must lie in \(0, 1\]"),
    ("relic", "axis_ratio", 1.01, r"axis_ratio must lie in \(0, 1\]"),
    ("radio-galaxy", "pa", np.nan, "pa must be finite"),
    ("halo", "substructure", -0.1, "substructure must be finite, not negative"),
    ("mini-halo", "substructure", np.nan, "substructure must be finite, not negative"),
    ("orc", "seed", -1, "seed must not be negative"),
])
def test_values_that_cannot_be(kind, name, value, message):
    columns = {"class": ["compact", kind], "flux": [1, 1], "r_e": [9, 9], "length": [9, 9]}
    columns[name] = [{"axis_ratio": 1, "pa": 0, "substructure": 0, "seed": 0}.get(name, 9), value]
    with pytest.raises(HaloInputError, match=f"row 1: .*{message}") as error:
        components(columns)
    assert error.value.keyword == name


def test_columns_of_another_kind():
    with pytest.raises(HaloInputError, match=r"the column r_e must be in a unit like arcsec .*kpc"):
        components({"class": ["halo"], "flux": [1], "r_e": [100] * u.kpc})
    with pytest.raises(HaloInputError, match=r"the column flux must be in a unit like Jy .*beam"):
        components({"class": ["halo"], "flux": [1] * u.Jy / u.beam, "r_e": [100]})
    with pytest.raises(HaloInputError, match=r"the column pa must hold one value a source: 1 .*\(2,\)"):
        components({"class": ["halo"], "flux": [1], "r_e": [1], "pa": [1, 2]})
    with pytest.raises(HaloInputError, match="seed must be integers .*float64"):
        components({"class": ["orc"], "flux": [1], "length": [1], "seed": [0.5]})
