"""Generated images beside real ones: observed like them, on their pixels, in their unit."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from astropy.utils.masked import Masked
from evaluation import Copies, Nearest, some

from halopy import CutoutSet
from halopy.classify.evaluate import cross_validate
from halopy.classify.generated import images_like, trained_copy
from halopy.errors import HaloInputError, HalopyWarning
from halopy.generative import HaloGenerator
from halopy.learning.inputs import noise_level, resampled

WIDTH = 5.0
"""Pixels of the beam of generated images."""


class Sources(HaloGenerator):
    """A point source of 50 times the noise, which is an rms of 2 mJy / beam."""

    optional_conditions = ("frequency",)
    trainable = False

    def __init__(self, *, size=41, unit="mJy / beam"):
        self.size = size
        self.unit = unit

    def _sample(self, conditions, rng):
        self.asked = conditions
        n = len(conditions)
        table = QTable({"rms": np.full(n, 2) * u.Unit(self.unit), "snr": np.full(n, 50.0),
                        "flux": np.ones(n) * u.Jy} | observed(n, WIDTH, frequency=150))
        return CutoutSet(np.tile(100 * beam(self.size, WIDTH), (n, 1, 1)), table, unit=u.Unit(self.unit))


def beam(size, width):
    y, x = np.indices((size, size)) - (size - 1) / 2
    return np.exp(-4 * np.log(2) * (x**2 + y**2) / width**2)


def observed(n, width, *, frequency, arcsec=30):
    scale = np.full(n, arcsec) * u.arcsec
    return {"pixel_scale": scale, "beam_major": width * scale, "beam_minor": width * scale,
            "beam_pa": np.zeros(n) * u.deg, "frequency": np.full(n, frequency) * u.MHz}


def cutouts(n=4, *, size=32, width=3.0, unit=u.Jy / u.beam):
    """Noise of 0.01 to 0.04 Jy / beam, on pixels of which three are a beam."""
    rms = np.linspace(0.01, 0.04, n)
    table = QTable({"label": ["halo", "none"] * (n // 2), "group": [f"g{i}" for i in range(n)],
                    "rms": (rms * u.Jy / u.beam).to(unit)} | observed(n, width, frequency=200, arcsec=20))
    data = np.random.default_rng(1).normal(size=(n, size, size)) * rms[:, None, None]
    return CutoutSet((data * u.Jy / u.beam).to_value(unit), table, unit=unit)


@pytest.mark.parametrize("unit", [u.Jy / u.beam, u.mJy / u.beam])
@pytest.mark.parametrize("size", [16, 17])
def test_an_image_has_the_noise_the_beam_and_the_pixels_of_its_cutout(unit, size):
    real = cutouts(size=size, unit=unit)
    made = images_like(real, Sources(), 1.0, rng=1)
    assert made.unit == unit and made.shape == real.shape
    # A point source is as wide as the beam that its table tells, and 50 times the noise of its cutout.
    expected = 50 * beam(size, 3.0) * real.table["rms"].to_value(unit)[:, None, None]
    np.testing.assert_allclose(made.data, expected, atol=0.005 * expected.max())
    for name in ("rms", "pixel_scale", "beam_major", "beam_minor", "beam_pa", "frequency", "label"):
        np.testing.assert_array_equal(made.table[name], real.table[name])
    assert set(made.table["group"]) == {"generated"}
    # What an image shows of flux is another one at another noise and beam.
    assert "flux" not in made.table.colnames and (made.table["snr"] == 50).all()


def test_beyond_an_image_there_is_no_data():
    made = images_like(cutouts(size=40), Sources(size=41), 1.0, rng=1)
    # 41 pixels of a fifth of a beam reach over 24 of a third.
    assert (np.isfinite(made.data).sum(axis=(1, 2)) == 24**2).all()
    assert np.isfinite(made.data[:, 8:-8, 8:-8]).all()


def test_the_frequency_of_a_cutout_is_asked_for():
    generator = Sources()
    images_like(cutouts(), generator, 1.0, rng=1)
    np.testing.assert_array_equal(generator.asked["frequency"], np.full(4, 200) * u.MHz)


def test_pixels_are_kept_where_no_beam_is_known():
    real = cutouts(size=32)
    bare = real.replace(table=real.table["label", "group", "rms"])
    made = images_like(bare, Sources(size=34), 1.0, rng=1)
    expected = 50 * beam(34, WIDTH)[1:-1, 1:-1] * bare.table["rms"].value[:, None, None]
    np.testing.assert_allclose(made.data, expected, rtol=1e-5, atol=1e-9)
    # How the images were observed is known of them alone.
    assert (made.table["beam_major"] == 150 * u.arcsec).all()


def test_masked_beams_are_no_beams():
    real = cutouts(size=32)
    table = real.table.copy()
    for name in ("beam_major", "beam_minor"):
        table[name] = Masked(table[name], mask=np.arange(4) == 2)
    made = images_like(real.replace(table=table), Sources(size=34), 1.0, rng=1)
    np.testing.assert_allclose(made.data[0], 0.5 * beam(34, WIDTH)[1:-1, 1:-1], rtol=1e-5, atol=1e-9)


def test_without_an_rms_the_scatter_is_the_noise():
    real = cutouts()
    bare = real.replace(table=real.table[[name for name in real.table.colnames if name != "rms"]])
    made = images_like(bare, Sources(), 1.0, rng=1)
    np.testing.assert_allclose(made.table["rms"].value, noise_level(bare))
    np.testing.assert_allclose(made.table["rms"].value, real.table["rms"].value, rtol=0.1)


def test_splines_are_exact_on_cubics():
    x = np.arange(12.0)
    image = ((x - 4) ** 3 / 50 - x)[None, None, :] * np.ones((1, 5, 1))
    new = resampled(image, np.array([2.0]), (5, 21))
    place = (np.arange(21) - 10) / 2 + 5.5
    np.testing.assert_allclose(new[0, 2], (place - 4) ** 3 / 50 - place, atol=1e-12)
    # Within 3 % pixels stay what they are.
    np.testing.assert_array_equal(resampled(image, np.array([1.02]), (5, 12)), image)


def test_a_generator_learns_from_cutouts_full_of_data():
    real = some(20)
    data = real.data.copy()
    data[3, 0, 0], data[5] = np.nan, 7.0
    Copies.fits.clear()
    scores = cross_validate(Nearest(), real.replace(data=data), folds=4, seeds=1, generator=Copies(), rng=1)
    assert len(Copies.fits) == 4 and np.isfinite(scores["probability"]).all()
    seen = set().union(*Copies.fits)
    assert real.table["group"][3] not in seen and len(seen) == 19
    with pytest.raises(HaloInputError, match="learns from cutouts full of data, and there are none"):
        trained_copy(Copies(), real.replace(data=np.full(real.shape, np.nan)), rng=1)


def test_a_generator_of_networks_learns_from_what_it_can_see(recwarn):
    from halopy import generators

    real = cutouts(6)
    data = real.data.copy()
    data[0] = 5.0
    small = generators.create("sngan", size=16, width=8, latent=4, batch_size=4, n_images=8)
    model = trained_copy(small, real.replace(data=data), rng=1)
    assert len(model.groups_) == 5 and not small.fitted_
    assert all("collapsed" in str(w.message) for w in recwarn if w.category is HalopyWarning)
