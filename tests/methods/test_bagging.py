"""Bootstrap samples of patients."""

import importlib

import numpy as np
import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.bagging import draw_counts
from mimic_reg.methods.base import trainable
from mimic_reg.samples import from_arrays
from tests.methods.fits import linear_model, make_fit, objective
from tests.methods.stays import everything, make_stays
from tests.networks import create

CONTRACT = {}


def test_about_63_percent_of_the_patients_take_part():
    subject = np.repeat(np.arange(20_000), 3)
    factors = draw_counts(subject, torch.Generator().manual_seed(0)).view(-1, 3)
    assert torch.equal(factors[:, 0], factors[:, 1])  # a patient's samples share its count
    assert factors.mean().item() == pytest.approx(1, rel=1e-5)
    assert (factors[:, 0] > 0).float().mean().item() == pytest.approx(1 - np.exp(-1), abs=0.01)
    assert torch.equal(factors, factors.round())  # all have three samples, so counts remain


def test_the_objective_is_that_of_the_drawn_samples():
    train = make_stays(subject=(0, 1, 2))
    batch, method = everything(train), methods.create("bagging")
    fit = make_fit(seed=3, train=train, target="binary")
    method.prepare(None, fit)
    counts = (method.factors / method.factors[method.factors > 0].min()).round().long()
    assert counts.tolist() != [1, 1, 1]
    model = linear_model(torch.ones(1, 3))
    model.trunk.forward = lambda x, lengths: x.sum(1)
    got = objective(method, model, batch, fit)
    drawn = train.gather(torch.arange(3).repeat_interleave(counts))
    expected = objective(methods.create("none"), model, drawn, fit)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_seeds_draw_other_patients():
    subject = np.arange(50)
    one, other = (draw_counts(subject, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert not torch.equal(one, other)


NUM = 12
LABELS = np.random.default_rng(0).integers(0, 2, (NUM, 2)).astype(np.int8)


def gradients(name, values):
    """The gradients of a second step with a method beside bagging; the factors of the patients.

    In the second step, what a method remembers of the first one counts, too.
    """
    contract = importlib.import_module(f"tests.methods.test_{name}").CONTRACT
    method = methods.compose([{name: contract}, "bagging"])
    fit = make_fit(
        seed=5,
        train=from_arrays(values, LABELS, "multilabel"),
        num_train=NUM,
        num_outputs=2,
        attributes=lambda names: {n: np.arange(NUM) % 3 for n in names},
    )
    model = create(
        "dnn", 2, shape=(1, 2, 2), hidden=[6], generator=torch.Generator().manual_seed(0)
    )
    model = method.prepare(model, fit)
    method.optimizer(torch.optim.Adam(trainable(model)), fit)
    for fit.epoch in range(2):
        model.zero_grad()
        objective(method, model, method.batch(everything(fit.train), fit), fit).backward()
        fit.step += 1
        method.tick("step", fit)
    return [p.grad for p in trainable(model)], method.members[1].factors


@pytest.mark.parametrize("name", sorted({*methods.names()} - {"bagging"}))
def test_no_method_beside_it_trains_on_patients_that_were_not_drawn(name):
    values = np.random.default_rng(1).normal(size=(NUM, 1, 2, 2)).astype(np.float32)
    try:
        before, factors = gradients(name, values)
    except InputError:  # excluded, or not for a network of dense layers
        return
    assert (factors == 0).any()
    values[(factors == 0).numpy()] *= -3
    after, _ = gradients(name, values)
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
