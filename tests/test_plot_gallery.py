"""The contact sheet: what is shown of a set, at one stretch."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import QTable

from halopy import CutoutSet
from halopy.errors import HaloInputError
from halopy.plot_gallery import gallery


def test_a_gallery_shows_some_of_each_label_at_one_stretch():
    table = QTable({"label": ["halo"] * 50 + ["none"] * 2, "grade": ["confirmed"] * 49 + ["candidate"] * 3,
                    "rms": np.linspace(1, 2, 52)})
    data = np.arange(52.0)[:, None, None] * np.ones((52, 8, 8))
    figure = gallery(CutoutSet(data, table), n=6, columns=4)
    axes = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in axes] == ["0 halo", "1 halo", "2 halo", "3 halo", "50 none candidate",
                                               "51 none candidate"]
    for ax, row in zip(axes, (0, 1, 2, 3, 50, 51), strict=True):
        assert np.allclose(ax.images[0].get_array(), row / table["rms"][row], rtol=1e-6)
    assert {(ax.images[0].norm.vmin, ax.images[0].norm.vmax) for ax in axes} == {(-3, 30)}


def test_a_gallery_without_the_noise():
    # The pixels' own scatter, 5, is the noise of all; those that were clipped have no say.
    data = np.random.default_rng(1).normal(0, 5, (4, 64, 64))
    data[0] = 0
    figure = gallery(CutoutSet(data))
    assert [ax.get_title() for ax in figure.axes[:4]] == ["0", "1", "2", "3"]
    assert np.std(figure.axes[1].images[0].get_array()) == pytest.approx(1, rel=0.05)
    gallery(CutoutSet(np.zeros((1, 8, 8)), QTable({"rms": [0.0]})))
    gallery(CutoutSet(np.full((1, 8, 8), np.nan)))


@pytest.mark.parametrize(("settings", "text"), [({"n": 0}, "n must be 1 or more .found 0"),
                                                ({"columns": 0}, "columns must be 1 or more")])
def test_galleries_of_nothing(settings, text):
    with pytest.raises(HaloInputError, match=text):
        gallery(CutoutSet(np.zeros((1, 8, 8))), **settings)
    with pytest.raises(HaloInputError, match="a gallery needs cutouts"):
        gallery(CutoutSet(np.zeros((0, 8, 8))))
