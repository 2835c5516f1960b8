"""LogMinMax and SnrAsinh: ranges, order of pixels, inverses."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.preprocess.scale import LogMinMax, SnrAsinh

pixels = arrays(np.float32, (3, 4, 5), elements=st.one_of(
    st.floats(-1e4, 1e4, width=32), st.floats(-2**-10, 2**-10, width=32), st.just(np.nan), st.just(0.0)))


def make(data, rms=None):
    return CutoutSet(data, None if rms is None else QTable({"rms": rms}), unit=u.Jy / u.beam)


@settings(max_examples=100, deadline=None)
@given(data=pixels, dynamic_range=st.floats(0.1, 1e5))
def test_property_log_min_max_is_undone(data, dynamic_range):
    scale = LogMinMax(dynamic_range=dynamic_range)
    scaled = scale(make(data))
    valid = np.isfinite(scaled.data)
    np.testing.assert_array_equal(valid, np.isfinite(data))
    assert scaled.unit == u.dimensionless_unscaled and ((scaled.data >= 0) & (scaled.data <= 1))[valid].all()
    back = scale.inverse(scaled)
    assert back.unit == u.Jy / u.beam and "scale_min" not in back.table.colnames and "scale_unit" not in back.meta
    for before, after in zip(data, back.data, strict=True):
        if np.isfinite(before).any():
            # float32 has 24 bits, of the scaled and of the unscaled pixels.
            width = np.nanmax(before) - np.nanmin(before)
            np.testing.assert_allclose(after, before, atol=3e-6 * width + 1e-6 * np.nanmax(np.abs(before)) + 1e-30)


@settings(max_examples=100, deadline=None)
@given(data=pixels, rms=arrays(np.float64, 3, elements=st.floats(1e-4, 10)), softening=st.floats(0.1, 20))
def test_property_snr_asinh_is_undone(data, rms, softening):
    scale = SnrAsinh(softening=softening)
    scaled = scale(make(data, rms))
    back = scale.inverse(scaled)
    assert back.unit == u.Jy / u.beam
    np.testing.assert_allclose(back.data, data, rtol=2e-5, atol=1e-12)


@given(data=pixels)
@settings(max_examples=30, deadline=None)
def test_property_order_of_pixels_is_kept(data):
    order = np.argsort(data[0].ravel())
    for scaled in (LogMinMax()(make(data)), SnrAsinh()(make(data, np.ones(3)))):
        values = scaled.data[0].ravel()[order]
        assert (np.diff(values[np.isfinite(values)]) >= 0).all()


def test_log_min_max_fills_zero_to_one_and_is_logarithmic_above():
    # log(1 + 1000 t) / log(1001), by hand.
    scaled = LogMinMax()(make([[[-2.0, -1.0, 0.0, 8.0]]]))
    expected = np.log(1 + 1000 * np.array([0, 0.1, 0.2, 1])) / np.log(1001)
    np.testing.assert_allclose(scaled.data[0, 0], expected, rtol=1e-6)
    assert scaled.table["scale_min"][0] == -2 * u.Jy / u.beam and scaled.table["scale_max"][0] == 8 * u.Jy / u.beam


def test_log_min_max_undoes_brightness():
    # Stated in Augmenter's documentation too: per-image normalisation makes that augmentation a no-op.
    data = np.random.default_rng(1).normal(size=(1, 8, 8))
    np.testing.assert_allclose(LogMinMax()(make(1.2 * data)).data, LogMinMax()(make(data)).data, atol=1e-6)
    bright = SnrAsinh()(make(1.2 * data, [1.0])).data
    assert np.abs(bright - SnrAsinh()(make(data, [1.0])).data).max() > 0.01


def test_constant_and_missing_cutouts():
    data = np.array([[[3.0, 3.0]], [[np.nan, np.nan]], [[np.nan, 1.0]]])
    scale = LogMinMax()
    scaled = scale(make(data))
    np.testing.assert_array_equal(scaled.data, [[[0, 0]], [[np.nan, np.nan]], [[np.nan, 0]]])
    np.testing.assert_array_equal(scale.inverse(scaled).data, data)
    asinh = SnrAsinh()
    table = [1.0, np.nan, 1.0]
    np.testing.assert_allclose(asinh.inverse(asinh(make(data, table))).data, data, rtol=1e-6)


def test_fill():
    data = [[[np.nan, 1.0, 2.0]]]
    assert LogMinMax(fill=0.5)(make(data)).data.tolist() == [[[0.5, 0, 1]]]
    assert SnrAsinh(fill=0.0)(make(data, [1.0])).data[0, 0, 0] == 0
    with pytest.raises(HaloInputError, match="fill must be a finite number"):
        LogMinMax(fill=np.nan)(make(data))


def test_snr_asinh_is_one_scale_for_all():
    data = np.array([[[0.0, 1.0, 1000.0, -3.0]], [[0.0, 2.0, 2000.0, -6.0]]])
    scaled = SnrAsinh()(make(data, [1.0, 2.0]))
    np.testing.assert_array_equal(scaled.data[0], scaled.data[1])
    np.testing.assert_allclose(scaled.data[0, 0], np.arcsinh([0, 0.5, 500, -1.5]) / np.arcsinh(500), rtol=1e-6)
    milli = CutoutSet(data, QTable({"rms": [1000.0, 2000.0] * u.mJy / u.beam}), unit=u.Jy / u.beam)
    np.testing.assert_allclose(SnrAsinh()(milli).data, scaled.data, rtol=1e-6)


def test_a_file_between_scaling_and_unscaling(tmp_path):
    data = np.random.default_rng(1).normal(size=(2, 4, 4))
    cutouts = CutoutSet(data, QTable({"rms": [1.0, 2.0] * u.Jy / u.beam}), unit=u.Jy / u.beam)
    for i, scale in enumerate((LogMinMax(), SnrAsinh())):
        scale(cutouts).write(tmp_path / f"{i}.fits")
        back = scale.inverse(CutoutSet.read(tmp_path / f"{i}.fits"))
        assert back.unit == u.Jy / u.beam
        np.testing.assert_allclose(back.data, data, rtol=1e-4, atol=1e-5)


def test_errors():
    cutouts = make([[[1.0, 2.0]], [[3.0, 4.0]]])
    with pytest.raises(HaloInputError, match="SnrAsinh needs a column 'rms'"):
        SnrAsinh()(cutouts)
    for rms in ([1.0, np.nan], [0.0, 1.0], [1.0, -1.0]):
        with pytest.raises(HaloInputError, match="must be positive, 1 of 2 are not"):
            SnrAsinh()(make(cutouts.data, rms))
    for settings_ in ({"softening": 0}, {"ceiling": -1}, {"ceiling": np.inf}):
        with pytest.raises(HaloInputError, match=f"{next(iter(settings_))} must be positive"):
            SnrAsinh(**settings_)(make(cutouts.data, [1.0, 1.0]))
    with pytest.raises(HaloInputError, match="dynamic_range must be positive"):
        LogMinMax(dynamic_range=0)(cutouts)
    with pytest.raises(HaloInputError, match="these cutouts are scaled already"):
        LogMinMax()(LogMinMax()(cutouts))
    with pytest.raises(HaloInputError, match="have no column 'scale_min'"):
        LogMinMax().inverse(cutouts)
    for verb in (LogMinMax(), LogMinMax().inverse):
        with pytest.raises(HaloInputError, match="a scaling takes a CutoutSet"):
            verb(cutouts.data)
    assert cutouts.table.colnames == [] and cutouts.meta == {}
