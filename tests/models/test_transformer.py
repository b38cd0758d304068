"""The Transformer's options, its start, and attention against a loop."""

import math

import pytest
import torch

from mimic_reg.models.transformer import mean_over_time, sines, valid_hours
from tests import networks

LENGTHS = torch.tensor([4, 2])


def create(**settings):
    return networks.create("transformer", generator=torch.Generator().manual_seed(0), **settings)


def attend_in_a_loop(attention, x, length):
    """The oracle, for one sample: head by head, hour by hour."""
    num_hours, heads = x.shape[0], attention.heads
    parts = []
    for head in range(heads):
        size = attention.query.out_features // heads
        here = slice(head * size, (head + 1) * size)
        query, key, value = (
            f(x)[:, here] for f in (attention.query, attention.key, attention.value)
        )
        rows = []
        for hour in range(num_hours):
            weight = (query[hour] @ key[:length].T / math.sqrt(size)).softmax(0)
            rows.append(weight @ value[:length])
        parts.append(torch.stack(rows))
    return attention.out(torch.cat(parts, dim=1))


def test_attention_is_that_of_a_loop():
    attention = create().trunk.blocks[0].attention
    x = torch.randn(2, 4, 76)
    got = attention(x, valid_hours(x, LENGTHS))
    for i, length in enumerate(LENGTHS):
        assert (got[i] - attend_in_a_loop(attention, x[i], length)).abs().max() < 1e-5


def test_mean_over_valid_hours():
    x = torch.tensor([[[1.0], [2.0], [3.0]], [[1.0], [5.0], [float("inf")]]])
    assert mean_over_time(x, valid_hours(x, torch.tensor([3, 2]))).tolist() == [[2.0], [3.0]]
    assert valid_hours(x, torch.tensor([3, 3])) is None


def test_starts_as_keras_does():
    attention = create().trunk.blocks[0].attention
    # keras kernels (76, 4, 256) and (4, 256, 76): the first axis counts as a convolution's field
    for layer, limit in [
        (attention.query, math.sqrt(6 / (76 * (4 + 256)))),
        (attention.out, math.sqrt(6 / (4 * (256 + 76)))),
    ]:
        assert limit * 0.999 < layer.weight.abs().max() <= limit
        assert layer.bias.eq(0).all()


def test_without_positions_the_order_of_the_hours_is_not_seen():
    x = torch.randn(2, 4, 76)
    order = torch.tensor([2, 0, 3, 1])
    lengths = torch.tensor([4, 4])
    for positional_encoding, sees in [(False, False), (True, True)]:
        model = create(positional_encoding=positional_encoding)
        difference = (model(x, lengths) - model(x[:, order], lengths)).abs().max()
        assert (difference > 1e-4) == sees
        count = sum(p.numel() for p in model.parameters())
        assert count == 1_274_177


def test_sines():
    encoding = sines(torch.zeros(1, 3, 4))
    assert encoding.shape == (3, 4)
    assert encoding[2].tolist() == pytest.approx(
        [math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)], abs=1e-6
    )


def test_the_later_revision_normalises_the_branches():
    model = create(norm="post_branch")
    assert sum(p.numel() for p in model.parameters()) == 1_274_177
    block = model.trunk.blocks[0]
    with torch.no_grad():
        for norm in (block.attention_norm, block.pointwise_norm):
            norm.weight.zero_()
    x = torch.randn(2, 4, 76)
    assert torch.equal(block(x, None), x)  # nothing is added: both norms end their branches
