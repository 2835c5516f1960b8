"""The optimiser, against torch's own and against what its papers say of single steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from halopy.learning.optimiser import AdamW


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


class Place(nn.Module):
    """Two numbers."""

    def __init__(self, values=(0.5, -0.2)):
        super().__init__()
        self.at = nn.Parameter(torch.tensor(values))


@pytest.mark.parametrize("decay", [(0.9, 0.999), (0.0, 0.9)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_is_adamw(decay, weight_decay):
    """Against torch's, with gradients so small that none is cut."""
    mine, theirs = (nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)) for _ in range(2))
    theirs.load_state_dict(mine.state_dict())
    optimiser = AdamW(mine, 0.01, weight_decay=weight_decay, decay=decay)
    adamw = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=decay, weight_decay=weight_decay)
    for _ in range(30):
        x, y = torch.randn(16, 6), torch.randn(16, 2)
        optimiser.step(0.1 * nn.functional.mse_loss(mine(x), y))
        adamw.zero_grad()
        (0.1 * nn.functional.mse_loss(theirs(x), y)).backward()
        assert nn.utils.clip_grad_norm_(theirs.parameters(), 1.0) < 1
        adamw.step()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert a.detach().numpy() == pytest.approx(b.detach().numpy(), abs=1e-6)


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_the_first_step_is_as_long_as_the_learning_rate(scale):
    """Whatever the gradient (Kingma & Ba 2015, section 2.1)."""
    network = Place()
    AdamW(network, 0.003).step(scale * (network.at * torch.tensor([1.0, -2.0])).sum())
    assert network.at.tolist() == pytest.approx([0.5 - 0.003, -0.2 + 0.003], abs=1e-6)


@pytest.mark.parametrize(("scale", "norm"), [(0.1, 0.5), (0.2, 1.0), (1.0, 1.0), (50.0, 1.0)])
def test_gradients_are_no_longer_than_one(scale, norm):
    network = Place()
    optimiser = AdamW(network, 0.0, decay=(0.0, 0.0))
    optimiser.step(scale * (network.at * torch.tensor([3.0, -4.0])).sum())
    # Without memory the first moment is the gradient itself; 3 and 4 make 5.
    assert optimiser.moments["1.at"].tolist() == pytest.approx([0.6 * norm, -0.8 * norm])
    assert optimiser.moments["2.at"].tolist() == pytest.approx([0.36 * norm**2, 0.64 * norm**2])


def test_weights_decay_beside_the_gradient():
    """Decoupled: by the rate times the decay, whatever the gradient's moments (Loshchilov & Hutter 2019)."""
    network = Place()
    optimiser = AdamW(network, 0.1, weight_decay=0.5)
    optimiser.step(0 * network.at.sum())
    assert network.at.tolist() == pytest.approx([0.5 * 0.95, -0.2 * 0.95])
    assert optimiser.steps == 1


def test_it_finds_the_lowest_place():
    network = Place((3.0, -3.0))
    optimiser = AdamW(network, 0.1)
    for _ in range(400):
        optimiser.step(((network.at - torch.tensor([1.0, 2.0])) ** 2).sum())
    assert network.at.tolist() == pytest.approx([1.0, 2.0], abs=0.05)


def test_a_moment_of_each_parameter():
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    moments = AdamW(network, 0.1).moments
    assert set(moments) == {f"{i}.{name}" for name, _ in network.named_parameters() for i in (1, 2)}
    assert all(not moment.any() for moment in moments.values())


def test_the_learning_rate_can_change_on_the_way():
    network = Place()
    optimiser = AdamW(network, 0.1)
    optimiser.learning_rate = 0.001
    optimiser.step(network.at.sum())
    assert network.at.tolist() == pytest.approx([0.499, -0.201], abs=1e-6)
