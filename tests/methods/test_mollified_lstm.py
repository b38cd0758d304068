"""Mollified gates: a bag of hours at first, an LSTM at last, the definition in between."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.mollified_lstm import mollified_gates, mollified_states
from mimic_reg.models.base import recur
from tests.methods.fits import make_fit
from tests.networks import create

CONTRACT = {"share": 0.6}

LENGTHS = torch.tensor([6, 1, 4])
UNITS, CHANNELS = 3, 5


@pytest.fixture(scope="module")
def model():
    generator = torch.Generator().manual_seed(0)
    return create("lstm", shape=(CHANNELS,), generator=generator, units=UNITS).double()


@pytest.fixture(scope="module")
def x():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 6, CHANNELS, generator=generator, dtype=torch.float64)


def by_hand(lstm, x, lengths, m):
    """The oracle: last states and last cells, sample by sample, direction by direction."""
    states, cells = [], []
    for sample, length in zip(x, lengths, strict=True):
        for suffix in ("", "_reverse"):
            W, U, bias = (
                getattr(lstm, f"{name}_l0{suffix}").chunk(4)
                for name in ("weight_ih", "weight_hh", "bias_ih")
            )
            hours = range(length) if not suffix else reversed(range(length))
            h = c = torch.zeros(UNITS, dtype=x.dtype)
            candidates = []
            for position, hour in enumerate(hours, start=1):
                i, f, g, o = (W[k] @ sample[hour] + U[k] @ h + bias[k] for k in range(4))
                i = m / position + (1 - m) * i.sigmoid()
                f = m * (1 - 1 / position) + (1 - m) * f.sigmoid()
                o = m + (1 - m) * o.sigmoid()
                candidates.append(g.tanh())
                c = f * c + i * candidates[-1]
                h = o * c.tanh()
            states.append(h)
            cells.append((c, torch.stack(candidates).mean(0)))
    return torch.stack(states).view(len(x), -1), cells


@pytest.mark.parametrize("m", [1.0, 0.7, 0.0])
def test_it_equals_its_definition(model, x, m):
    lstm = model.trunk.recurrence.lstm
    expected, cells = by_hand(lstm, x, LENGTHS, m)
    assert (mollified_states(lstm, x, LENGTHS, m) - expected).abs().max() < 1e-12
    bag_of_hours = max((cell - mean).abs().max() for cell, mean in cells) < 1e-15
    assert bag_of_hours == (m == 1)


def test_at_0_it_is_the_lstm(model, x):
    lstm = model.trunk.recurrence.lstm
    got = mollified_states(lstm, x, LENGTHS, 0.0)
    assert (got - recur(lstm, x, LENGTHS)).abs().max() < 1e-12


def test_the_gates_at_the_first_and_second_hour():
    half = torch.tensor(0.5)
    assert [gate.item() for gate in mollified_gates(half, half, half, 1, 1.0)] == [1, 0, 1]
    assert [gate.item() for gate in mollified_gates(half, half, half, 2, 1.0)] == [0.5, 0.5, 1]
    assert [gate.item() for gate in mollified_gates(half, half, half, 2, 0.0)] == [0.5] * 3


def test_m_falls_over_its_share_and_epochs_before_are_not_selected():
    fit = make_fit(epoch_steps=5, max_epochs=4)
    method, model = methods.create("mollified_lstm", share=0.5), create("lstm", units=2)
    method.prepare(model, fit)
    found, eligible = [], []
    for fit.epoch in range(4):
        for _ in range(5):
            found.append(method.m)
            fit.step += 1
            method.tick("step", fit)
        fit.eligible = fit.started = True
        method.tick("before_validation", fit)
        method.tick("epoch_end", fit)
        eligible.append((fit.eligible, fit.started))
    assert found == pytest.approx([1 - step / 10 for step in range(10)] + [0] * 10)
    assert eligible == [(False, False), (True, True), (True, True), (True, True)]


def test_models_without_a_recurrence_are_refused():
    with pytest.raises(InputError, match="no LSTM"):
        methods.create("mollified_lstm").prepare(create("dnn"), make_fit())
    with pytest.raises(InputError, match="share"):
        methods.create("mollified_lstm", share=1.0)
