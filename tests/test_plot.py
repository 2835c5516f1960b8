"""Pictures: what is drawn, where, and that nothing global is touched."""

import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy.cutouts import CutoutSet, tangent_wcs
from halopy.errors import HaloInputError, MissingExtraError
from halopy.image import Beam, ClusterImage
from halopy.preprocess.shrink import shrink

pytest.importorskip("matplotlib", reason="plots need matplotlib")

from matplotlib.patches import Circle, Ellipse

from halopy.plot import plot_cutout, plot_image, plot_target
from halopy.plot_axes import bar_length
from halopy.preprocess.cutout import CutoutMaker

CENTRE = SkyCoord(3.58, -30.39, unit="deg")
PIXEL = 28 * u.arcsec


def an_image(shape=(60, 80), **changes):
    pixels = np.random.default_rng(1).normal(0, 0.008, shape).astype(np.float32)
    pixels[shape[0] // 2, shape[1] // 2] = 1
    pixels[:, :5] = np.nan
    settings = {"wcs": tangent_wcs(CENTRE, PIXEL, shape), "unit": u.Jy / u.beam, "name": "A2744",
                "beam": Beam(140 * u.arcsec, 120 * u.arcsec, 20 * u.deg)} | changes
    return ClusterImage(pixels, **settings)


def some_cutouts(n=2, *, rms=0.008 * u.Jy / u.beam):
    data = np.random.default_rng(2).normal(0, 0.008, (n, 64, 64))
    data[:, 28:36, 28:36] += 0.1
    table = QTable({"name": [f"T{i}" for i in range(n)], "position": SkyCoord([CENTRE] * n),
                    "pixel_scale": [28.0] * n * u.arcsec, "beam_major": [140.0] * n * u.arcsec,
                    "beam_minor": [120.0] * n * u.arcsec, "beam_pa": [20.0] * n * u.deg, "rms": [rms] * n})
    return CutoutSet(data, table, unit=u.Jy / u.beam)


def targets(n=3, **columns):
    offsets = np.arange(n) * 3 * u.arcmin
    position = CENTRE.directional_offset_by(0 * u.deg, offsets)
    return QTable({"name": [f"T{i}" for i in range(n)], "position": position} | columns)


def circles(ax):
    return [patch for patch in ax.patches if isinstance(patch, Circle)]


def test_an_image_has_beam_scale_bar_unit_and_grey_blanks():
    ax = plot_image(an_image())
    ax.figure.canvas.draw()
    assert ax.get_title() == "A2744"
    assert "AnchoredSizeBar" in {type(artist).__name__ for artist in ax.artists}
    beam, = (patch for patch in ax.findobj(Ellipse) if not isinstance(patch, Circle))
    # North is up and the angle runs through east, which is to the left: anticlockwise, as in matplotlib.
    np.testing.assert_allclose((beam.height, beam.width, beam.angle), (140 / 28, 120 / 28, 20), rtol=1e-5)
    assert ax.figure.axes[1].get_ylabel() == "mJy / beam"
    shown = ax.images[0]
    assert np.ma.getmaskarray(shown.get_array())[:, :5].all()
    red, green, blue, _ = shown.cmap.get_bad()
    assert red == green == blue
    low, high = shown.get_clim()
    assert low < 0 < high


def test_the_beam_is_drawn_as_the_grid_sees_it():
    image = an_image()
    mirrored = image.wcs.deepcopy()
    mirrored.wcs.cdelt = -mirrored.wcs.cdelt * [1, -1]
    image = image.replace(wcs=mirrored)
    for ax in (plot_image(image), plot_cutout(CutoutMaker(32)(image, CENTRE))):
        beam, = (patch for patch in ax.findobj(Ellipse) if not isinstance(patch, Circle))
        # East is to the right: the same beam, mirrored.
        np.testing.assert_allclose((beam.height, beam.width, beam.angle % 180), (140 / 28, 120 / 28, 160), rtol=1e-4)


def test_nothing_global_is_touched():
    plot_image(an_image())
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_circles_are_three_r_e_at_the_targets():
    ax = plot_image(an_image(), detections=targets(r_e=[56, 112, np.nan] * u.arcsec, p_value=[0.5, 0.004, np.nan]))
    drawn = circles(ax)
    assert [round(c.radius, 6) for c in drawn[:2]] == [6, 12]  # 3 r_e over 28 arcsec a pixel
    assert drawn[2].radius > 0
    np.testing.assert_allclose(drawn[0].center, (39.5, 29.5), atol=1e-3)
    np.testing.assert_allclose(drawn[1].center, (39.5, 29.5 + 180 / 28), atol=1e-2)
    assert [text.get_text() for text in ax.texts] == ["2", "1", "3"]
    assert [t.get_text() for t in plot_image(an_image(), detections=targets(1), marks=["x"]).texts] == ["x"]


def test_targets_outside_are_not_drawn():
    far = QTable({"name": ["a", "b"], "position": SkyCoord([183.58, np.nan], [30.39, np.nan], unit="deg")})
    assert circles(plot_image(an_image(), detections=far)) == []


def test_galactic_images_mark_the_same_sky():
    image = an_image()
    wcs = image.wcs.deepcopy()
    wcs.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    wcs.wcs.radesys = ""
    wcs.wcs.crval = [CENTRE.galactic.l.deg, CENTRE.galactic.b.deg]
    ax = plot_image(image.replace(wcs=wcs), detections=targets(1))
    np.testing.assert_allclose(circles(ax)[0].center, (39.5, 29.5), atol=1e-3)


@pytest.mark.parametrize("snr", [False, True])
def test_a_cutout_has_a_circle_at_its_centre(snr):
    ax = plot_cutout(some_cutouts(), 1, r_e=70 * u.arcsec, snr=snr)
    ax.figure.canvas.draw()
    assert ax.get_title() == "T1"
    np.testing.assert_allclose(circles(ax)[0].center, (31.5, 31.5), atol=1e-6)
    assert round(circles(ax)[0].radius, 6) == 7.5
    assert ax.figure.axes[1].get_ylabel() == ("S/N" if snr else "mJy / beam")


@pytest.mark.parametrize("snr", [False, True])
def test_a_circle_larger_than_the_cutout_leaves_its_edges(snr):
    ax = plot_cutout(some_cutouts(), r_e=900 * u.arcsec, snr=snr)
    ax.figure.canvas.draw()
    assert ax.get_xlim() == ax.get_ylim() == (-0.5, 63.5)


def test_signal_to_noise_is_symmetric_about_zero_and_needs_a_noise():
    low, high = plot_cutout(some_cutouts(), snr=True).images[0].get_clim()
    assert low == -high
    with pytest.raises(HaloInputError, match="signal-to-noise map needs the column 'rms'"):
        plot_cutout(some_cutouts(rms=np.nan * u.Jy / u.beam), snr=True)


def test_a_target_has_the_panels_that_can_be_drawn():
    def titles(figure):
        return [ax.get_title() for ax in figure.axes if ax.get_title()]

    cutouts, unknown = some_cutouts(1), some_cutouts(1, rms=np.nan * u.Jy / u.beam)
    assert titles(plot_target(cutouts, residual=cutouts, r_e=90 * u.arcsec, redshift=0.3)) == [
        "image", "signal to noise", "compact sources removed"]
    assert titles(plot_target(cutouts)) == ["image", "signal to noise"]
    assert titles(plot_target(unknown)) == ["image"]


def test_what_speaks_for_a_halo_is_centred_on_zero():
    cutouts = some_cutouts(1)
    maps = np.zeros((1, 64, 64))
    maps[0, 30, 30], maps[0, 10, 10], maps[0, :4] = 0.5, -2.4, np.nan
    figure = plot_target(cutouts, explanation=cutouts.replace(data=maps, unit=""), r_e=90 * u.arcsec)
    figure.canvas.draw()
    ax = next(ax for ax in figure.axes if ax.get_title() == "speaks for a halo")
    shown, = ax.images
    low, high = shown.get_clim()
    assert -low == high == pytest.approx(2.4)
    # White is zero, red speaks for a halo, blue against it, grey is unknown.
    white, red, blue, grey = (shown.to_rgba(np.ma.masked_invalid([value]))[0][:3] for value in (0, 2.4, -2.4, np.nan))
    assert min(white) > 0.95 and red[0] > red[2] and blue[2] > blue[0] and np.ptp(grey) == 0
    bar = next(bar for bar in figure.findobj(lambda part: getattr(part, "get_ylabel", str)() == "logit"))
    assert [float(tick.get_text().replace("\u2212", "-")) for tick in bar.get_yticklabels()] == [-2, 0, 2]
    assert bar.get_ylim() == (low, high)
    assert [round(circle.radius, 6) for circle in circles(ax)] == [round(270 / 28, 6)]


@pytest.mark.parametrize("value", [0.0, 1e-300, np.nan])
def test_explanations_that_say_nothing(value):
    cutouts = some_cutouts(1, rms=np.nan * u.Jy / u.beam)
    figure = plot_target(cutouts, explanation=cutouts.replace(data=np.full((1, 64, 64), value), unit=""))
    figure.canvas.draw()
    said = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert said == (["image"] if np.isnan(value) else ["image", "speaks for a halo"])


def test_an_explanation_of_another_cutout():
    with pytest.raises(HaloInputError, match="explanation must have the cutout's pixels, .*found .1, 32, 32"):
        plot_target(some_cutouts(1), explanation=CutoutSet(np.zeros((1, 32, 32))))


def test_the_scale_bar_is_physical_where_a_redshift_is_known():
    # 4.66 kpc per arcsec at z = 0.308 for H0 = 67.7, Om = 0.31 (the calculator of Wright 2006).
    length, label = bar_length(1800, 0.308)
    assert label == "2 Mpc"
    assert length == pytest.approx(2000 / 4.66, rel=0.03)
    assert bar_length(1800, None) == (300, "5\u2032")
    assert bar_length(1800, np.nan)[1] == "5\u2032"
    assert bar_length(36000, None)[1] == "2\u00b0"
    assert bar_length(60, None)[1] == "10\u2033"


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_flat_images_are_drawn(value):
    image = an_image()
    plot_image(image.replace(data=np.full(image.shape, value)), title="$100").figure.canvas.draw()


def test_shrinking_keeps_the_mean_and_the_sky():
    image = an_image((1000, 1600), rms=0.008)
    small = shrink(image, max_pixels=400)
    assert small.shape == (250, 400)
    assert small.meta["shape"] == (1000, 1600)
    assert np.nanmean(small.data[:, 5:]) == pytest.approx(np.nanmean(image.data[:, 20:]), rel=1e-4)
    assert np.nanmedian(small.rms) == pytest.approx(0.008)
    x, y = image.wcs.world_to_pixel(CENTRE)
    # The centre of block k of 4 pixels lies at 4 k + 1.5.
    np.testing.assert_allclose(small.wcs.world_to_pixel(CENTRE), ((x - 1.5) / 4, (y - 1.5) / 4), atol=1e-6)
    assert shrink(small) is small


def test_a_missing_matplotlib_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="plots need the module 'matplotlib'"):
        plot_image(an_image())
