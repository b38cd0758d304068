"""Entropy-SGD by hand, on a quadratic."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from tests.methods.fits import linear_model, make_fit

CONTRACT = {"inner_steps": 2, "inner_rate": 0.05, "noise": 0.01}


def stepping(w, **options):
    """A step function of SGD at rate 1 on w² / 2."""
    fit, method = make_fit(), methods.create("entropy_sgd", **options)
    method.prepare(linear_model([[1.0]]), fit)
    optimizer = method.optimizer(torch.optim.SGD([w], lr=1.0), fit)
    calls = []

    def closure():
        optimizer.zero_grad()
        calls.append(w[0].item())
        loss = w.square().sum() / 2
        loss.backward()
        return loss.detach()

    def step():
        loss = optimizer.step(closure)
        return loss, calls

    return step, optimizer


def test_a_step_goes_to_the_mean_of_the_inner_steps():
    w = torch.tensor([2.0], requires_grad=True)
    step, _ = stepping(w, inner_steps=2, inner_rate=0.5, scope=1.0, growth=0.0, noise=0.0)
    loss, calls = step()
    # v: 2 -> 2 - .5 * 2 = 1 -> 1 - .5 * (1 - (2 - 1)) = 1; mean: 2 -> 1.75 -> 1.5625
    assert loss == 2.0
    assert calls == [2.0, 2.0, 1.0]
    assert w.item() == pytest.approx(1.5625)
    assert w.grad.item() == pytest.approx(2 - 1.5625)


def test_the_scope_grows_and_its_count_is_resumed():
    w = torch.tensor([2.0], requires_grad=True)
    options = {"inner_steps": 3, "inner_rate": 0.5, "scope": 0.5, "growth": 1.0, "noise": 0.0}
    step, optimizer = stepping(w, **options)
    step()
    state, middle = optimizer.state_dict(), w.detach().clone()
    step()
    other = middle.clone().requires_grad_()
    resume, again = stepping(other, **options)
    again.load_state_dict(state)
    resume()
    assert torch.equal(other, w)
    fresh = middle.clone().requires_grad_()
    stepping(fresh, **options)[0]()
    assert not torch.equal(fresh, w)


def test_noise_has_its_size():
    w = torch.zeros(100_000, requires_grad=True)
    options = {"inner_steps": 1, "inner_rate": 0.5, "scope": 0.0, "average": 0.0}
    stepping(w, **options, noise=0.2)[0]()
    # .5 * .2 / sqrt(.25)
    assert w.std().item() == pytest.approx(0.2, rel=0.02)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("inner_steps", -1), ("inner_rate", 0), ("scope", -1)),
        *(("growth", -1), ("noise", -1), ("average", 1)),
    ],
)
def test_impossible_options_are_refused(option, value):
    with pytest.raises(InputError, match=f"{option} must be .*, got {value}"):
        methods.create("entropy_sgd", **{option: value})
