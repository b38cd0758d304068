"""The fast gradient sign method on a linear model, where it has a closed form (softplus)."""

import pytest
import torch
from torch.nn.functional import softplus

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.fgsm import attack
from mimic_reg.models.base import Model
from tests.methods.fits import linear_model, make_batch, make_fit, objective
from tests.methods.stays import everything, make_stays

CONTRACT = {"epsilon": 0.1}


def test_logistic_regression():
    """A change of epsilon sign(w) moves the logit by epsilon ||w||_1 (Goodfellow et al., eq. 3)."""
    w, fit = torch.tensor([[1.0, -2.0, 0.5]]), make_fit()
    x, y = torch.randn(6, 3), torch.tensor([0.0, 1, 0, 1, 1, 0])[:, None]
    model, method = linear_model(w), methods.create("fgsm", epsilon=0.1, share=0.25)
    method.prepare(model, fit)
    sign = 2 * y - 1
    margin = sign * (x @ w.T)
    expected = (0.25 * softplus(-margin) + 0.75 * softplus(0.1 * 3.5 - margin)).mean()
    assert objective(method, model, make_batch(x, y), fit).item() == pytest.approx(expected.item())


def test_the_change_is_a_constant():
    x = torch.randn(2, 3, requires_grad=True)
    change = attack(x.square().sum(1), x, 0.1)
    assert not change.requires_grad
    assert torch.equal(change, 0.1 * x.detach().sign())


def test_categories_and_padding_stay():
    fit = make_fit(train=make_stays(), target="binary")
    batch, method, seen = everything(fit.train), methods.create("fgsm", epsilon=0.1), []

    class Mean(torch.nn.Module):
        def forward(self, x, lengths):
            seen.append(x.detach())
            return x.sum((1, 2))[:, None]

    method.prepare(None, fit)
    objective(method, Mean(), batch, fit)
    changed = seen[1] != seen[0]
    assert changed[..., 0].sum() == 6 + 3 + 1
    assert not changed[..., 1:].any()


def test_batch_norm_learns_and_counts_the_first_pass_only():
    class Trunk(torch.nn.Sequential):
        def forward(self, x, lengths):
            return super().forward(x)

    conv, norm = torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)
    model = Model(Trunk(conv, norm, torch.nn.Flatten()), torch.nn.Linear(8, 1))
    method, fit = methods.create("fgsm", epsilon=0.1), make_fit()
    method.prepare(model, fit)
    batch = make_batch(torch.randn(5, 1, 4, 4), torch.ones(5, 1))
    for count in (1, 2):
        objective(method, model, batch, fit).backward()
        assert conv.weight.grad.abs().sum() > 0
        assert norm.num_batches_tracked == count
    with torch.no_grad():
        once = torch.nn.BatchNorm2d(2)
        once(conv(batch.x)), once(conv(batch.x))
    assert torch.equal(norm.running_mean, once.running_mean)


@pytest.mark.parametrize(("option", "value"), [("epsilon", -1), ("share", 1.5)])
def test_impossible_options_are_refused(option, value):
    with pytest.raises(InputError, match=f"{option} must be .*, got {value}"):
        methods.create("fgsm", **{option: value})
