"""Spectral norms against a decomposition into singular values."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.spectral_norm import iterate, spectral_norm
from tests.methods.fits import linear_model, make_batch, make_fit, objective

CONTRACT = {"weight": 0.1}


@pytest.mark.parametrize("shape", [(4, 6), (5, 2, 3, 3)])
def test_power_iteration_finds_the_largest_singular_value_and_its_gradient(shape):
    W = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    W.requires_grad_()
    u = torch.ones(shape[0], dtype=torch.float64)
    for _ in range(300):
        u = iterate(W, u)
    norm = spectral_norm(W, u)
    U, S, V = torch.linalg.svd(W.detach().flatten(1))
    assert norm.item() == pytest.approx(S[0].item())
    (gradient,) = torch.autograd.grad(norm.square() / 2, W)
    expected = (S[0] * torch.outer(U[:, 0], V[0])).view(shape)
    assert torch.allclose(gradient, expected, atol=1e-8)


def test_it_is_half_the_weighted_square_and_follows_the_weights():
    W = torch.diag(torch.tensor([3.0, 1.0]))
    model, fit = linear_model(W), make_fit(num_outputs=2)
    method = methods.create("spectral_norm", weight=0.2)
    method.prepare(model, fit)
    method.optimizer(torch.optim.SGD(model.parameters(), lr=0.1), fit)
    batch = make_batch(torch.zeros(2, 2), torch.full((2, 2), 0.5))

    def penalty():
        plain = objective(methods.create("none"), model, batch, fit)
        return (objective(method, model, batch, fit) - plain).item()

    assert penalty() == pytest.approx(0.9, rel=1e-5)
    with torch.no_grad():
        model.head.weight.copy_(torch.diag(torch.tensor([1.0, 5.0])))
    for _ in range(30):
        method.tick("step", fit)
    assert penalty() == pytest.approx(0.1 * 25, rel=1e-4)
    method.tick("epoch_end", fit)
    assert fit.records["largest"].item() == pytest.approx(5, rel=1e-4)


def test_a_negative_weight_is_refused():
    with pytest.raises(InputError, match="weight must be at least 0, got -1"):
        methods.create("spectral_norm", weight=-1)
