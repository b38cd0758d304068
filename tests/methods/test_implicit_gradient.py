"""The terms of implicit gradient regularisation on a quadratic, and by their identity."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods._penalty import squared_norm
from mimic_reg.methods.implicit_gradient import gradient_of, terms
from tests.methods.fits import linear_model, make_batch, make_fit, objective

CONTRACT = {"gradient": 40.0, "variance": 40.0}


def test_a_quadratic():
    theta = torch.ones(3, requires_grad=True)
    loss = (torch.tensor([1.0, 4.0, 9.0]) * theta.square()).sum() / 2
    penalty = 0.1 / 4 * squared_norm(gradient_of(loss, [theta]))
    assert penalty.item() == pytest.approx(2.45)
    (gradient,) = torch.autograd.grad(penalty, theta)
    assert gradient.tolist() == pytest.approx([0.05, 0.8, 4.05])


@pytest.mark.parametrize("size", [6, 7, 1])
def test_both_terms_are_the_mean_square_of_the_parts_gradients(size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, 3, dtype=torch.float64, generator=generator)
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    per_sample = (x @ w).square()
    whole, variance = terms(per_sample, 2, [w])
    each = [2 * ((part @ w)[:, None] * part).mean(0) for part in x.tensor_split(2) if len(part)]
    shares = [len(part) / size for part in x.tensor_split(2) if len(part)]
    g = sum(share * g_b for share, g_b in zip(shares, each, strict=True))
    assert whole.item() == pytest.approx(g.square().sum().item())
    expected = sum(s * (g_b - g).square().sum() for s, g_b in zip(shares, each, strict=True))
    assert variance.item() == pytest.approx(expected.item(), abs=1e-12)
    together = sum(s * g_b.square().sum() for s, g_b in zip(shares, each, strict=True))
    assert (whole + variance).item() == pytest.approx(together.item())


@pytest.mark.parametrize("options", [{"gradient": 2.0}, {"gradient": 0.0, "variance": 2.0}])
def test_a_strength_counts_in_quarters_of_the_learning_rate(options):
    model = linear_model([[1.0, -2.0]])
    batch = make_batch(torch.randn(6, 2), torch.ones(6, 1))
    fit, method = make_fit(), methods.create("implicit_gradient", **options)
    method.optimizer(torch.optim.SGD(model.parameters(), lr=0.5), fit)
    got = objective(method, model, batch, fit) - objective(
        methods.create("none"), model, batch, fit
    )
    logits = model(batch.x, batch.lengths)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, batch.y, reduction="none"
    )[:, 0]
    term = terms(losses, 2, list(model.parameters()))["variance" in options]
    assert got.item() == pytest.approx(0.5 / 4 * 2 * term.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "rule"),
    [({"gradient": -1}, "gradient"), ({"variance": -1}, "variance"), ({"parts": 1}, "parts")],
)
def test_impossible_options_are_refused(options, rule):
    with pytest.raises(InputError, match=f"{rule} must be at least"):
        methods.create("implicit_gradient", **options)
