from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from scipy import stats
from scipy.integrate import quad

from halopy import HaloInputError
from halopy.simulate.counts import draw_compact, draw_fluxes, source_brightness, source_counts, source_density

MHZ_154 = 154 * u.MHz


def euclidean(flux):
    """S^2.5 dN/dS in Jy^1.5/sr, Franzen+ 2019 (arXiv 1812.00666), written out."""
    s = np.log10(flux)
    return 10 ** (3.52 + 0.307 * s - 0.388 * s**2 - 0.0404 * s**3 + 0.0351 * s**4 + 0.006 * s**5)


def per_square_degree(low, high=75.0):
    """Sources per square degree between two flux densities in Jy."""
    number, _ = quad(lambda log: euclidean(np.exp(log)) * np.exp(-1.5 * log), np.log(low), np.log(high), limit=200)
    return number * (np.pi / 180) ** 2


def log_cdf(low):
    """The distribution function of ln S above a limit, as an interpolated table."""
    grid = np.linspace(np.log(1e-4), np.log(75), 200_001)
    number = euclidean(np.exp(grid)) * np.exp(-1.5 * grid)
    below = np.concatenate([[0], np.cumsum((number[1:] + number[:-1]) / 2 * np.diff(grid))])
    start = np.interp(np.log(low), grid, below)
    return lambda log: (np.interp(log, grid, below) - start) / (below[-1] - start)


@pytest.mark.parametrize("millijansky", [1, 10, 100, 1000, 10_000])
def test_the_polynomial(millijansky):
    flux = millijansky / 1000
    found = source_counts(millijansky * u.mJy)
    assert found.to_value(1 / (u.Jy * u.sr)) == pytest.approx(euclidean(flux) * flux**-2.5, rel=1e-6)


def test_at_one_jansky_only_the_constant_is_left():
    assert source_counts(1 * u.Jy).value == pytest.approx(10**3.52)


@pytest.mark.parametrize(("millijansky", "expected"),
                         [(5, 80), (10, 48), (30, 22.5), (50, 15.5), (100, 9.0), (1000, 0.72)])
def test_densities_above_a_flux(millijansky, expected):
    """To the last digit that is given: sources per square degree at 154 MHz."""
    found = source_density(millijansky * u.mJy).to_value(u.deg**-2)
    assert found == pytest.approx(expected, rel=0.012)
    assert found == pytest.approx(per_square_degree(millijansky / 1000), rel=1e-3)


def test_a_2_arcmin_beam_holds_six_hundredths_of_a_source():
    area = np.pi / (4 * np.log(2)) * (2 * u.arcmin) ** 2
    assert (source_density(10 * u.mJy) * area).to_value(u.one) == pytest.approx(0.061, abs=0.0006)


@pytest.mark.parametrize("frequency", [74, 200, 843, 1400])
def test_at_another_frequency_the_fluxes_shift_by_the_index(frequency):
    at_154 = 20 * (frequency / 154) ** 0.8
    found = source_density(20 * u.mJy, frequency * u.MHz).to_value(u.deg**-2)
    assert found == pytest.approx(per_square_degree(at_154 / 1000), rel=1e-3)


@pytest.mark.parametrize("faintest", [0.1, 2, 30])
def test_drawn_fluxes_follow_the_counts(faintest):
    """Kolmogorov and Smirnov, against an integral of the polynomial of its own."""
    area = 30_000 / per_square_degree(faintest / 1000)
    row, flux, _ = draw_compact([area], faintest * u.mJy, MHZ_154, np.random.default_rng(1))
    assert (row == 0).all()
    assert flux.min() >= faintest / 1000 * (1 - 1e-6)
    assert abs(len(flux) - 30_000) < 4 * np.sqrt(30_000)
    assert stats.kstest(np.log(flux), log_cdf(faintest / 1000)).pvalue > 0.01
    same = draw_fluxes(20_000, faintest * u.mJy, MHZ_154, np.random.default_rng(2))
    assert stats.kstest(np.log(same), log_cdf(faintest / 1000)).pvalue > 0.01


def test_numbers_are_poissonian_and_follow_the_area():
    rng = np.random.default_rng(3)
    area = np.tile([0.1, 0.4], 4000)
    row, *_ = draw_compact(area, 10 * u.mJy, MHZ_154, rng)
    number = np.bincount(row, minlength=area.size).reshape(-1, 2)
    for column, expected in zip(number.T, (0.1 * 48.4, 0.4 * 48.4), strict=True):
        assert column.mean() == pytest.approx(expected, rel=0.02)
        assert column.var() / column.mean() == pytest.approx(1, abs=0.1)


def test_at_200_mhz_with_the_scatter_of_the_spectra():
    """Each source has an index of its own: the counts at 200 MHz are those of 154 MHz smeared in ln S."""
    rng = np.random.default_rng(4)
    shift, limit = np.log(200 / 154), 0.02
    _, flux, alpha = draw_compact([1500.0], limit * u.Jy, 200 * u.MHz, rng)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    smeared = sum(w * per_square_degree(limit * np.exp(-(-0.8 + 0.22 * t) * shift))
                  for t, w in zip(nodes, weights / weights.sum(), strict=True))
    assert len(flux) == pytest.approx(1500 * smeared, rel=4 / np.sqrt(len(flux)))
    # Flat spectra pass the limit more easily than steep ones, by a little at 200 MHz.
    assert alpha.mean() == pytest.approx(-0.8, abs=0.02)
    assert alpha.std() == pytest.approx(0.22, abs=0.005)
    at_154 = flux * np.exp(-alpha * shift)
    bright = at_154 > 0.04
    assert stats.kstest(np.log(at_154[bright]), log_cdf(0.04)).pvalue > 0.01


def test_at_1400_mhz_no_flat_source_is_forgotten():
    """The scatter of 0.22 becomes 0.49 in ln S: sources far below the limit's equivalent at 154 MHz count."""
    limit, shift = 0.003, np.log(1400 / 154)
    _, flux, _ = draw_compact([2000.0], limit * u.Jy, 1400 * u.MHz, np.random.default_rng(5))
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    smeared = sum(w * per_square_degree(limit * np.exp(-(-0.8 + 0.22 * t) * shift), 75)
                  for t, w in zip(nodes, weights / weights.sum(), strict=True))
    assert len(flux) == pytest.approx(2000 * smeared, rel=0.01 + 3 / np.sqrt(len(flux)))


def test_no_area_no_source():
    row, flux, alpha = draw_compact(np.zeros(5), 5 * u.mJy, MHZ_154, np.random.default_rng(1))
    assert row.size == flux.size == alpha.size == 0
    assert all(column.size == 0 for column in draw_compact([9.0], np.inf * u.Jy, MHZ_154, np.random.default_rng(1)))
    assert draw_compact([], 5 * u.mJy, MHZ_154, np.random.default_rng(1))[0].size == 0


def test_same_rng_same_bytes():
    draws = [draw_compact([3.0], 5 * u.mJy, 200 * u.MHz, np.random.default_rng(seed)) for seed in (7, 7, 8)]
    for one, two in zip(*draws[:2], strict=True):
        np.testing.assert_array_equal(one, two)
    assert draws[2][1].sum() != draws[0][1].sum()


def test_what_is_not_known():
    for flux in ([0.05] * u.mJy, [1, 80] * u.Jy, np.nan * u.Jy):
        with pytest.raises(HaloInputError, match=r"source counts are known from 0.1 mJy to 75 Jy"):
            source_counts(flux)
    for faintest, frequency in ((0.05 * u.mJy, MHZ_154), (11 * u.Jy, MHZ_154), (10 * u.uJy, 1400 * u.MHz),
                                (np.nan * u.Jy, MHZ_154)):
        with pytest.raises(HaloInputError, match="faintest source must lie between 0.1 mJy and 10 Jy"):
            source_density(faintest, frequency)
        with pytest.raises(HaloInputError, match="faintest source must lie between"):
            draw_compact([1.0], faintest, frequency, np.random.default_rng(1))


def test_the_brightness_of_the_faint_sources():
    """The integral of S dN/dS by a quadrature of its own, in Jy / deg²; at another frequency each source has -0.8."""
    expected = quad(lambda log: euclidean(np.exp(log)) * np.exp(-0.5 * log), np.log(0.005), np.log(0.04))[0]
    expected *= np.radians(1) ** 2
    brightness = source_brightness(5 * u.mJy, 40 * u.mJy)
    assert brightness.to_value(u.Jy / u.deg**2) == pytest.approx(expected, rel=1e-3)
    scale = (200 / 154) ** -0.8
    moved = source_brightness(5 * scale * u.mJy, 40 * scale * u.mJy, 200 * u.MHz)
    assert moved.to_value(u.Jy / u.deg**2) == pytest.approx(expected * scale, rel=1e-3)
    assert source_brightness(40 * u.mJy, 5 * u.mJy) == source_brightness(np.inf * u.Jy, 40 * u.mJy) == 0 * moved
