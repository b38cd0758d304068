"""Perpendicular gradients by hand."""

import pytest
import torch
from torch.optim import SGD

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.itps import ITPSOptimizer
from mimic_reg.methods.perp_grad import perpendicular
from tests.methods.fits import make_fit

CONTRACT = {}


def test_nothing_along_the_weights_is_left():
    w, g = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]])
    rest = perpendicular(g, w, 1.0, rescale=False)
    assert rest.tolist() == [[pytest.approx(0.64), pytest.approx(-0.48)]]
    assert (w * rest).sum().item() == pytest.approx(0, abs=1e-6)
    assert perpendicular(g, w, 1.0, rescale=True).tolist() == [
        [pytest.approx(0.8), pytest.approx(-0.6)]
    ]
    assert perpendicular(g, w, 0.5, rescale=False).tolist() == [
        [pytest.approx(0.82), pytest.approx(-0.24)]
    ]
    assert torch.equal(perpendicular(g, torch.zeros(1, 2), 1.0, rescale=False), g)


def test_another_implementation_takes_the_same_steps():
    from pytorch_optimizer import OrthoGrad  # half a second

    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((4, 3), (2, 3, 3, 3))]
    ours, theirs = ([torch.nn.Parameter(p.clone()) for p in start] for _ in range(2))
    method = methods.create("perp_grad", rescale=True)
    optimizers = method.optimizer(SGD(ours, lr=0.1), make_fit()), OrthoGrad(SGD(theirs, lr=0.1))
    for _ in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_rounding_is_not_blown_up_to_the_length_of_a_gradient_along_the_weights():
    w = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    assert perpendicular(0.37 * w, w, 1.0, rescale=True).norm() == 0


def test_a_step_changes_matrices_only():
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    bias = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = methods.create("perp_grad").optimizer(SGD([weight, bias], lr=1.0), make_fit())
    weight.grad, bias.grad = torch.tensor([[1.0, 0.0]]), torch.tensor([0.5])
    optimizer.step()
    assert weight.tolist() == [[pytest.approx(2.36), pytest.approx(4.48)]]
    assert bias.tolist() == [1.5]


def test_what_itps_does_not_select_stays():
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    base = ITPSOptimizer(SGD([weight], lr=1.0), beta=0.1, tau=0.05)
    optimizer = methods.create("perp_grad").optimizer(base, make_fit())
    weight.grad = torch.tensor([[1.0, 0.0]])  # .64, -.48 without its part along the weights
    optimizer.step()
    assert weight[0, 1].item() == 4.0
    assert weight[0, 0].item() == pytest.approx(2.36)


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match="strength"):
        methods.create("perp_grad", strength=1.5)
