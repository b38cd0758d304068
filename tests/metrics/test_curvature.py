"""Hutchinson's estimate against exact Hessians and its known variance; distances by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mimic_reg.metrics.curvature import estimate, hessian_trace_samples
from mimic_reg.metrics.deviations import DEVIATION_EDGES, deviations


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def net():
    """A tanh network of 31 parameters, and 24 samples."""
    generator = stream(3)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=generator)
    x = torch.randn(24, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (24,), generator=generator)
    return model, x, y


def exact_hessian(model, x, y):
    names = [name for name, _ in model.named_parameters()]
    sizes = [p.numel() for p in model.parameters()]
    shapes = [p.shape for p in model.parameters()]

    def loss(flat):
        parts = [part.view(s) for part, s in zip(flat.split(sizes), shapes, strict=True)]
        given = dict(zip(names, parts, strict=True))
        return F.cross_entropy(torch.func.functional_call(model, given, x), y)

    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    return torch.autograd.functional.hessian(loss, flat)


def samples_of(model, batches, n, seed=0):
    losses = ((lambda x=x, y=y: F.cross_entropy(model(x), y), len(x)) for x, y in batches)
    return hessian_trace_samples(losses, list(model.parameters()), n, stream(seed))


def test_mean_and_variance_are_those_of_the_exact_hessian():
    model, x, y = net()
    H = exact_hessian(model, x, y)
    samples = samples_of(model, [(x, y)], 4000)
    found = estimate(samples)
    assert found.n == 4000
    assert found.mean == pytest.approx(float(H.trace()), abs=4 * found.standard_error)
    variance = 2 * float(H.square().sum() - H.diagonal().square().sum())
    assert float(samples.var()) == pytest.approx(variance, rel=0.12)
    assert found.standard_error == pytest.approx((variance / 4000) ** 0.5, rel=0.06)


def test_batches_of_any_size_give_the_same_samples():
    model, x, y = net()
    whole = samples_of(model, [(x, y)], 5)
    parts = [(x[a:b], y[a:b]) for a, b in ((0, 1), (1, 8), (8, 24))]
    assert torch.allclose(samples_of(model, parts, 5), whole, rtol=1e-12)
    assert not torch.allclose(samples_of(model, [(x, y)], 5, seed=1), whole)


def test_a_diagonal_hessian_has_no_variance():
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    scale = torch.tensor([0.5, 1.0, 4.0])
    losses = [(lambda: (scale * w.square()).sum() / 2, 1)]
    assert hessian_trace_samples(losses, [w], 6, stream()).tolist() == [5.5] * 6


def test_parameters_without_curvature_count_nothing():
    w, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    linear = [(lambda: w.sum(), 4)]
    assert hessian_trace_samples(linear, [w, unused], 2, stream()).tolist() == [0, 0]
    square = [(lambda: w.square().sum(), 4)]
    assert hessian_trace_samples(square, [w, unused], 2, stream()).tolist() == [4, 4]


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # what curvlinops imports
def test_the_hessian_is_that_of_curvlinops():
    from curvlinops import HessianLinearOperator

    model, x, y = net()
    parameters = list(model.parameters())
    data = [(x[:10], y[:10]), (x[10:], y[10:])]
    operator = HessianLinearOperator(model, nn.CrossEntropyLoss(), parameters, data)
    H = operator @ torch.eye(sum(p.numel() for p in parameters), dtype=torch.float64)
    signs = stream()
    expected = []
    for _ in range(5):
        drawn = [torch.randint(0, 2, p.shape, generator=signs, dtype=p.dtype) for p in parameters]
        v = torch.cat([d.flatten() for d in drawn]) * 2 - 1
        expected.append(float(v @ H @ v))
    assert samples_of(model, data, 5).tolist() == pytest.approx(expected, rel=1e-9)


def test_one_sample_has_no_standard_error():
    found = estimate(torch.tensor([2.0]))
    assert found.mean == 2
    assert np.isnan(found.standard_error)


def test_distances_by_hand():
    before = {"a": torch.zeros(4), "b": torch.ones(2)}
    after = {"a": torch.tensor([0.0, 0.5, -0.25, 1e-12]), "b": torch.ones(2), "new": torch.ones(9)}
    found = deviations(before, after)
    assert (found.total, found.moved, found.largest) == (6, 3, 0.5)
    assert found.median == 0.25
    assert found.counts.sum() == 3
    filled = {int(i) for i in np.flatnonzero(found.counts)}
    edges = DEVIATION_EDGES
    assert filled == {0, *(int(np.searchsorted(edges, d, "right")) - 1 for d in (0.25, 0.5))}


def test_nothing_moved():
    found = deviations({"a": torch.ones(3)}, {"a": torch.ones(3)})
    assert (found.total, found.moved, found.largest) == (3, 0, 0)
    assert np.isnan(found.median)
    assert not found.counts.any()
