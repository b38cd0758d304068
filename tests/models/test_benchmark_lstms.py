"""The benchmark's LSTMs: which hours and channels each layer reads, on paths by hand."""

import pytest
import torch
from torch import nn

from mimic_reg.models._recurrent import Layer
from mimic_reg.samples.variables import measured, variables
from mimic_reg.store.spec import Channel
from tests.networks import channels, create


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_layer_of_two_directions_is_torch_s_packed_one():
    layer = Layer(3, 4, seeded(), bidirectional=True)
    lstm = nn.LSTM(3, 2, batch_first=True, bidirectional=True)
    parts = (("ahead", ""), ("back", "_reverse"))
    lstm.load_state_dict(
        {
            f"{n}{suffix}": p
            for part, suffix in parts
            for n, p in getattr(layer, part).named_parameters()
        }
    )
    x, lengths = torch.randn(4, 6, 3, generator=seeded(1)), torch.tensor([6, 1, 4, 2])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)
    got = layer(x, lengths)
    for row, hours in enumerate(lengths):
        torch.testing.assert_close(got[row, :hours], expected[row, :hours], atol=1e-6, rtol=1e-5)


def test_variables_of_the_benchmark():
    found = variables(channels(76))
    assert len(found) == 17
    names = [v.name for v in found]
    eyes = found[names.index("Glascow coma scale eye opening")]
    assert (len(eyes.categories), eyes.values, eyes.measured) == (8, (), 1)
    assert sorted(p for v in found for p in v.channels) == list(range(76))
    assert sum(len(v.values) + len(v.categories) for v in found) == 59


def test_where_a_variable_was_measured_with_either_flag_or_none():
    kinds = {"a": "observed", "b": "missing"}
    given = [Channel(name=v, kind="continuous", variable=v) for v in "abc"]
    given += [Channel(name=f"{k} {v}", kind=k, variable=v) for v, k in kinds.items()]
    x = torch.tensor([[[9.0, 9, 9, 1, 1], [9, 9, 9, 0, 0]]])
    assert measured(x, variables(given)).tolist() == [[[True, False, True], [False, True, True]]]


def test_each_variable_s_lstm_reads_its_own_channels():
    model = create("channel_wise_lstm", shape=(4,), generator=seeded(), units=2)
    seen = []
    model.trunk.concatenated.register_forward_hook(lambda module, x, y: seen.append(y))
    x = torch.randn(1, 3, 4, generator=seeded(1))
    for changed in (x, x + torch.tensor([0, 0, 0, 1.0]), x + torch.tensor([0, 1.0, 0, 0])):
        model(changed, torch.tensor([3]))
    first, flag, second = seen
    # x0 and its flag are the first variable, with two units; then come x1 and x2
    assert (first != flag).any(1).tolist() == [[True, True, False, False, False, False]]
    assert (first != second).any(1).tolist() == [[False, False, True, True, False, False]]


@pytest.mark.parametrize(
    ("name", "settings"),
    [("standard_lstm", {"units": 6, "depth": 3}), ("channel_wise_lstm", {"units": 2, "depth": 2})],
)
def test_deep_models_train_all_their_layers(name, settings):
    model = create(name, shape=(3,), generator=seeded(), **settings)
    model(torch.randn(2, 4, 3, generator=seeded(1)), torch.tensor([4, 2])).sum().backward()
    for parameter in filter(lambda p: p.requires_grad, model.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
