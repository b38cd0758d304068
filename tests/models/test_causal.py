"""Causal models: one pass over a stay is the prediction of each of its hours by itself."""

import math

import pytest
import torch
from torch.nn import functional as F

from mimic_reg import models
from mimic_reg.models.base import at_hours
from mimic_reg.models.causal_transformer import mean_until_now
from tests.models.test_models import CAUSAL, PRETRAINED
from tests.networks import create

LENGTHS = [9, 4, 1]
SMALL = {
    "causal_lstm": {"units": 5},
    "gru": {"units": 5},
    "tcn": {"channels": 6, "blocks": 2},
    "causal_transformer": {"blocks": 2, "heads": 2, "key_size": 4, "positional_encoding": True},
    "gru_d": {"units": 5},
}
ONE_WAY = {
    "standard_lstm": {"units": 3, "depth": 2, "bidirectional": False},
    "channel_wise_lstm": {"units": 3, "size": 2, "depth": 2, "bidirectional": False},
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_causal_models_are_known():
    hourly = set(models.names()) - PRETRAINED - {"dnn", "cnn"}
    assert [n for n in sorted(hourly) if create(n, generator=seeded()).causal] == CAUSAL
    assert SMALL.keys() == set(CAUSAL)


@pytest.fixture(params=[*CAUSAL, *ONE_WAY])
def model(request):
    settings = (SMALL | ONE_WAY)[request.param]
    made = create(request.param, 2, shape=(3,), generator=seeded(), **settings)
    assert made.causal
    return made


def test_one_pass_is_the_prediction_of_each_prefix_by_itself(model):
    """Also with other padding, and whatever other stays are in the batch."""
    x = torch.randn(3, 12, 3, generator=seeded(1))
    places = [(row, hours) for row, most in enumerate(LENGTHS) for hours in range(1, most + 1)]
    with torch.no_grad():
        together = model(x, torch.tensor(places))
        alone = torch.cat(
            [model(x[row : row + 1, :hours], torch.tensor([hours])) for row, hours in places]
        )
        later = x.clone()
        for row, most in enumerate(LENGTHS):
            later[row, most:] = 1e3
        changed = model(later, torch.tensor(places))
    assert together.shape == (sum(LENGTHS), 2)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(changed, together, atol=1e-6, rtol=1e-5)


def test_the_loss_of_all_hours_has_the_gradients_of_the_prefixes(model):
    x = torch.randn(1, 6, 3, generator=seeded(2))
    hours = torch.arange(1, 7)
    prefixes = torch.stack([F.pad(x[0, :h], (0, 0, 0, 6 - int(h))) for h in hours])
    gradients = []
    for batch, lengths in ((x, torch.stack([hours * 0, hours], 1)), (prefixes, hours)):
        model.zero_grad()
        (model(batch, lengths).sigmoid() ** 2).sum().backward()
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
        )
    one, other = gradients
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-6, rtol=1e-4, msg=name)


def test_states_at_hours():
    states = torch.arange(12.0).view(2, 3, 2)
    assert at_hours(states, torch.tensor([3, 1])).tolist() == [[4, 5], [6, 7]]
    places = torch.tensor([[1, 3], [0, 1], [1, 1]])
    assert at_hours(states, places).tolist() == [[10, 11], [0, 1], [6, 7]]


def constant(module, value):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def test_a_unit_of_the_lstm_by_hand():
    """All weights 1/2, biases 0: gates s(1/2 x + 1/2 h), candidate tanh of it."""
    trunk = create("causal_lstm", shape=(1,), units=1, generator=seeded()).trunk
    constant(trunk, 0.5)
    with torch.no_grad():
        trunk.recurrence.bias_ih_l0.zero_()
        trunk.recurrence.bias_hh_l0.zero_()
        got = trunk(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[0, 1], [0, 2]]))

    def step(x, h, c):
        a = 0.5 * x + 0.5 * h
        gate = 1 / (1 + math.exp(-a))
        c = gate * c + gate * math.tanh(a)
        return gate * math.tanh(c), c

    first, c = step(1.0, 0.0, 0.0)
    assert first == pytest.approx(0.174270, abs=1e-6)
    second, _ = step(2.0, first, c)
    assert got.flatten().tolist() == pytest.approx([first, second], abs=1e-6)


def test_a_unit_of_the_gru_by_hand():
    """All weights 1/2, biases 0: h' = (1 - z) n + z h, the reset gate after the product."""
    trunk = create("gru", shape=(1,), units=1, generator=seeded()).trunk
    constant(trunk, 0.5)
    with torch.no_grad():
        trunk.recurrence.bias_ih_l0.zero_()
        trunk.recurrence.bias_hh_l0.zero_()
        got = trunk(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[0, 1], [0, 2]]))

    def step(x, h):
        gate = 1 / (1 + math.exp(-0.5 * x - 0.5 * h))
        new = math.tanh(0.5 * x + gate * 0.5 * h)
        return (1 - gate) * new + gate * h

    first = step(1.0, 0.0)
    assert first == pytest.approx(0.174468, abs=1e-6)
    assert got.flatten().tolist() == pytest.approx([first, step(2.0, first)], abs=1e-6)


def test_convolutions_of_the_tcn_by_hand():
    """Kernel 2, two blocks, one channel, all weights 1, biases 0.

    First block: y = x + x before, z = y + y before, out = z + x. Second: the same of out, two hours
    before instead of one.
    """
    model = create("tcn", shape=(1,), channels=1, blocks=2, kernel=2, generator=seeded())
    constant(model.trunk, 1.0)
    with torch.no_grad():
        for block in model.trunk.blocks:
            block.first.bias.zero_()
            block.second.bias.zero_()
        x = torch.tensor([[[1.0], [0.0], [2.0], [0.0]]])
        one = model.trunk.blocks[0](x).flatten().tolist()
        lengths = torch.tensor([[0, h] for h in range(1, 5)])
        two = model.trunk(x, lengths).flatten().tolist()
    # y = 1 1 2 2, z = 1 2 3 4, out = z + x = 2 2 5 4
    assert one == [2, 2, 5, 4]
    # y = 2 2 7 6, z = 2 2 9 8, and out again: 4 4 14 12
    assert two == [4, 4, 14, 12]


def test_means_until_now_by_hand():
    x = torch.tensor([[[2.0], [4.0], [9.0]]])
    assert mean_until_now(x).flatten().tolist() == [2, 3, 5]
