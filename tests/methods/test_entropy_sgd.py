"""Entropy-SGD by hand and against the authors' loop, on a quadratic."""

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


def test_steps_are_those_of_the_authors_code():
    """Its loop, written out for w² / 2 without momentum: growing scope, noise and running mean."""
    w = torch.tensor([2.0, -1.0], requires_grad=True)
    options = {"inner_steps": 3, "inner_rate": 0.1, "scope": 0.3, "growth": 0.5, "noise": 0.2}
    step, _ = stepping(w, **options, average=0.75)
    rng, expected = make_fit().generator, w.detach().clone()
    for number in range(4):
        step()
        v = mean = expected
        for _ in range(3):
            eta = torch.empty(2).normal_(generator=rng)
            dv = v - 0.3 * 1.5**number * (expected - v) + 0.2 / (0.5 * 0.1) ** 0.5 * eta
            v = v - 0.1 * dv
            mean = 0.75 * mean + 0.25 * v
        expected = expected - 1.0 * (expected - mean)
        assert w.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


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
