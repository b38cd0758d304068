"""The data-gradient penalty against closed forms and finite differences."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.base import differentiation
from mimic_reg.methods.data_gradient import data_gradient_penalty
from mimic_reg.models.base import loss_of
from tests.methods.fits import linear_model, make_batch, make_fit, objective
from tests.networks import create

CONTRACT = {"weight": 0.5}
NEEDS = frozenset({"input_grad", "double_backward"})


def test_logistic_regression():
    w = torch.randn(1, 6, dtype=torch.float64)
    model = linear_model(w)
    x = torch.randn(9, 6, dtype=torch.float64)
    y = (torch.rand(9, 1) < 0.5).double()
    residual = (x @ w.T).sigmoid() - y
    expected = (residual.square() * w.square().sum()).mean()
    fit, batch = make_fit(), make_batch(x, y)
    with_penalty = objective(methods.create("data_gradient", weight=0.7), model, batch, fit)
    plain = objective(methods.create("none"), model, batch, fit)
    assert (with_penalty - plain).item() == pytest.approx(0.7 * expected.item(), rel=1e-12)


def test_each_sample_s_own_loss_counts_not_the_mean():
    x = torch.randn(4, 3, requires_grad=True)
    per_sample = (x.square()).sum(1)
    penalty = data_gradient_penalty(per_sample, x)
    shrunk = data_gradient_penalty(per_sample / 4, x)  # the gradient of the mean loss
    assert shrunk.item() == pytest.approx(penalty.item() / 16)
    assert penalty.item() == pytest.approx(4 * x.square().sum(1).mean().item())


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_its_gradient_reaches_the_weights(name):
    """Against central differences in float64, through the recurrence and through attention."""
    settings = {"units": 5} if name == "lstm" else {"blocks": 1, "key_size": 4, "dense": 5}
    model = create(name, shape=(4,), **settings).double()
    x = torch.randn(3, 6, 4, dtype=torch.float64)
    lengths, y = torch.tensor([6, 2, 4]), torch.tensor([[0.0], [1], [1]]).double()

    def penalty():
        at = x.clone().requires_grad_()
        with differentiation(NEEDS):
            return data_gradient_penalty(loss_of("binary", model(at, lengths), y), at)

    weight = next(model.trunk.parameters())
    with differentiation(NEEDS):
        (gradient,) = torch.autograd.grad(penalty(), weight)
    direction = torch.randn_like(weight)
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            weight.add_(direction, alpha=sign * 1e-5)
            with torch.enable_grad():
                values.append(penalty().item())
            weight.add_(direction, alpha=-sign * 1e-5)
    slope = (values[0] - values[1]) / 2e-5
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-5)


def test_needs():
    assert methods.create("data_gradient", weight=0.1).needs == NEEDS
    assert methods.create("data_gradient", weight=0).needs == frozenset()
    with pytest.raises(InputError, match="at least 0, got -1"):
        methods.create("data_gradient", weight=-1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_on_a_gpu_it_is_what_it_is_on_the_cpu(name):
    model = create(name, generator=torch.Generator().manual_seed(0))
    x, lengths = torch.randn(4, 9, 76), torch.tensor([9, 3, 5, 9])
    y = torch.tensor([[0.0], [1], [1], [0]])
    gradients = []
    for device in ("cpu", "cuda"):
        model = model.to(device)
        at = x.to(device).requires_grad_()
        model.zero_grad()
        with differentiation(NEEDS):
            data_gradient_penalty(
                loss_of("binary", model(at, lengths), y.to(device)), at
            ).backward()
        gradients.append(next(model.trunk.parameters()).grad.cpu())
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-2, atol=1e-5)
