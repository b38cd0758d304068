"""The variational LSTM against `nn.LSTM`, a loop over samples, and its definition."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.variational_lstm import (
    Patterns,
    draw_patterns,
    variational_states,
)
from mimic_reg.models.base import recur
from tests.methods.fits import make_fit
from tests.networks import create

CONTRACT = {"rate": 0.4}

LENGTHS = torch.tensor([6, 1, 4])
UNITS, CHANNELS = 5, 76


@pytest.fixture(scope="module")
def model():
    return create("lstm", generator=torch.Generator().manual_seed(0), units=UNITS)


@pytest.fixture(scope="module")
def lstm(model):
    return model.trunk.recurrence.lstm


@pytest.fixture(scope="module")
def x():
    return torch.randn(3, 6, CHANNELS, generator=torch.Generator().manual_seed(1))


def drawn(lstm, x, rate=0.5, tied=False):
    return draw_patterns(lstm, x, rate, tied, torch.Generator().manual_seed(2))


def by_hand(lstm, x, lengths, patterns):
    """The oracle: sample by sample, direction by direction, gate by gate."""
    rows = []
    for b, length in enumerate(lengths):
        states = []
        for d, suffix in enumerate(("", "_reverse")):
            W, U, bias = (
                getattr(lstm, f"{name}_l0{suffix}").chunk(4)
                for name in ("weight_ih", "weight_hh", "bias_ih")
            )
            h = c = torch.zeros(UNITS)
            hours = range(length) if d == 0 else reversed(range(length))
            for t in hours:
                gates = []
                for k in range(4):
                    m_x = patterns.x[d, k % patterns.x.shape[1], b]
                    m_h = patterns.h[d, k % patterns.h.shape[1], b]
                    gates.append(W[k] @ (x[b, t] * m_x) + U[k] @ (h * m_h) + bias[k])
                i, f, g, o = gates
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            states.append(h)
        rows.append(torch.cat(states) * patterns.out[b])
    return torch.stack(rows)


@pytest.mark.parametrize("tied", [False, True])
def test_it_equals_its_definition(lstm, x, tied):
    patterns = drawn(lstm, x, tied=tied)
    got = variational_states(lstm, x, LENGTHS, patterns)
    assert (got - by_hand(lstm, x, LENGTHS, patterns)).abs().max() < 1e-6


def test_without_dropping_it_is_the_lstm(lstm, x):
    got = variational_states(lstm, x, LENGTHS, drawn(lstm, x, rate=0.0))
    assert (got - recur(lstm, x, LENGTHS)).abs().max() < 3e-7


def test_patterns_are_per_sample_direction_and_gate(lstm, x):
    patterns = drawn(lstm, x)
    assert patterns.x.shape == (2, 4, 3, CHANNELS)
    assert patterns.h.shape == (2, 4, 3, UNITS)
    assert patterns.out.shape == (3, 2 * UNITS)
    flat = patterns.x.flatten(0, 2)
    assert len({tuple(row) for row in flat.tolist()}) == 24
    assert set(flat.unique().tolist()) == {0.0, 2.0}
    tied = drawn(lstm, x, tied=True)
    assert tied.x.shape == (2, 1, 3, CHANNELS)
    assert tied.h.shape == (2, 1, 3, UNITS)


def test_one_hour_is_not_touched_by_the_recurrent_pattern(lstm, x):
    ones = torch.ones(3, dtype=torch.int64)
    patterns = drawn(lstm, x)
    without = Patterns(patterns.x, torch.ones_like(patterns.h), patterns.out)
    got = variational_states(lstm, x[:, :1], ones, patterns)
    assert torch.equal(got, variational_states(lstm, x[:, :1], ones, without))
    more = variational_states(lstm, x, LENGTHS, patterns)
    assert not torch.equal(more, variational_states(lstm, x, LENGTHS, without))


def test_padding_is_not_read(lstm, x):
    patterns = drawn(lstm, x)
    other = x.clone()
    other[1, 1:] = 99.0
    got = variational_states(lstm, other, LENGTHS, patterns)
    assert torch.equal(got, variational_states(lstm, x, LENGTHS, patterns))


def test_the_model_keeps_its_parameters_and_evaluates_plainly(x):
    generator = torch.Generator().manual_seed(0)
    model = create("lstm", generator=generator, units=UNITS)
    names = list(model.state_dict())
    plain = model.eval()(x, LENGTHS)
    model = methods.create("variational_lstm").prepare(model, make_fit())
    assert list(model.state_dict()) == names
    assert torch.equal(model.eval()(x, LENGTHS), plain)
    assert not torch.equal(model.train()(x, LENGTHS), model(x, LENGTHS))


def test_models_without_a_recurrence_are_refused():
    with pytest.raises(InputError, match="no LSTM"):
        methods.create("variational_lstm").prepare(create("dnn"), make_fit())
    with pytest.raises(InputError, match="rate"):
        methods.create("variational_lstm", rate=1.0)
