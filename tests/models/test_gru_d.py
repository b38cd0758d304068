"""GRU-D, by hand: hours since a measurement, faded values, faded states."""

import math

import pytest
import torch

from mimic_reg.models.gru_d import hours_since, last_measured
from mimic_reg.store.spec import Channel
from tests.networks import create

MEASURED = torch.tensor([[0, 1, 0, 0, 1]], dtype=torch.bool)[..., None]


def test_hours_since_and_last_measurement():
    """Che et al.: d(0) = 0, d(t) = 1 after a measurement, d(t - 1) + 1 otherwise."""
    assert hours_since(MEASURED).flatten().tolist() == [0, 1, 1, 2, 3]
    x = torch.tensor([[9.0, 4, 8, 7, 6]])[..., None]  # what stands in hours without one is ignored
    assert last_measured(x, MEASURED).flatten().tolist() == [0, 4, 4, 4, 6]


def test_two_steps_by_hand():
    """One value, measured in hour 0 alone; every weight 1/2, every bias 0."""
    flag = Channel(name="f", kind="missing", variable="x")
    channels = (Channel(name="x", kind="continuous", variable="x"), flag)
    trunk = create("gru_d", shape=(2,), cohort_channels=channels, units=1).trunk
    with torch.no_grad():
        for name, parameter in trunk.named_parameters():
            parameter.fill_(0.0 if "bias" in name else 0.5)
        x = torch.tensor([[[2.0, 0.0], [77.0, 1.0], [-5.0, 1.0]]])
        got = trunk(x, torch.tensor([[0, 1], [0, 2], [0, 3]])).flatten().tolist()

    def step(value, measured, since, h):
        h *= math.exp(-0.5 * since)
        gate = 1 / (1 + math.exp(-(0.5 * value + 0.5 * measured + 0.5 * h)))
        new = math.tanh(0.5 * value + 0.5 * measured + 0.5 * gate * h)
        return (1 - gate) * h + gate * new

    first = step(2.0, 1, 0, 0.0)
    assert first == pytest.approx(0.740026, abs=1e-6)  # s(1.5) tanh(1.5)
    second = step(2 * math.exp(-0.5), 0, 1, first)
    third = step(2 * math.exp(-1), 0, 2, second)
    assert got == pytest.approx([first, second, third], abs=1e-6)
