"""The LSTM against torch's packed sequences, and its start against Keras's."""

import math

import pytest
import torch

from mimic_reg.models.base import recur, reverse
from tests.networks import create

UNITS = 256


@pytest.fixture(scope="module")
def model():
    return create("lstm", generator=torch.Generator().manual_seed(0))


def packed_states(lstm, x, lengths):
    """The oracle: h_n of a packed sequence, forward and backward."""
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x, lengths, batch_first=True, enforce_sorted=False
    )
    _, (state, _) = lstm(packed)
    return torch.cat([state[0], state[1]], dim=1)


@pytest.mark.parametrize("lengths", [[5, 5, 5], [5, 1, 3], [2, 2, 2], [1, 1, 1]])
def test_last_states_are_those_of_a_packed_sequence(model, lengths):
    lstm = model.trunk.recurrence.lstm
    x, lengths = torch.randn(3, 5, 76), torch.tensor(lengths)
    expected = packed_states(lstm, x, lengths)
    got = recur(lstm, x, lengths)
    assert (got - expected).abs().max() < 1e-6
    direction = torch.randn_like(got)
    for parameter in [lstm.weight_hh_l0, lstm.weight_ih_l0_reverse, lstm.bias_ih_l0_reverse]:
        (a,) = torch.autograd.grad((got * direction).sum(), parameter, retain_graph=True)
        (b,) = torch.autograd.grad((expected * direction).sum(), parameter, retain_graph=True)
        assert (a - b).abs().max() < 1e-5


def test_reverse():
    x = torch.arange(8.0).view(2, 4, 1)
    assert reverse(x, torch.tensor([4, 2]))[..., 0].tolist() == [[3, 2, 1, 0], [5, 4, 4, 4]]


def test_starts_as_keras_does(model):
    lstm = model.trunk.recurrence.lstm
    for suffix in ("", "_reverse"):
        weight = getattr(lstm, f"weight_ih_l0{suffix}")
        limit = math.sqrt(6 / (76 + 4 * UNITS))
        assert limit * 0.999 < weight.abs().max() <= limit
        recurrent = getattr(lstm, f"weight_hh_l0{suffix}")  # Keras's kernel, transposed
        assert torch.allclose(recurrent.T @ recurrent, torch.eye(UNITS), atol=1e-5)
        bias = getattr(lstm, f"bias_ih_l0{suffix}")
        assert bias[UNITS : 2 * UNITS].eq(1).all()  # gates i, f, g, o
        assert bias.sum() == UNITS
    assert model.head.bias.eq(0).all()


def test_the_second_bias_is_zero_and_frozen(model):
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == [f"trunk.recurrence.lstm.bias_hh_l0{s}" for s in ("", "_reverse")]
    assert all(model.get_parameter(name).eq(0).all() for name in frozen)
    model(torch.randn(2, 3, 76), torch.tensor([3, 2])).sum().backward()
    assert all(model.get_parameter(name).grad is None for name in frozen)
    assert model.trunk.recurrence.lstm.bias_ih_l0.grad.ne(0).any()
    model.zero_grad()
