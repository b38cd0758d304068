"""ELR by hand, with the numbers of the official code."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.elr import class_probabilities, early_learning_penalty, updated_target
from tests.methods.fits import linear_model, make_batch, make_fit, objective

CONTRACT = {"weight": 1.0}


def test_the_penalty_and_its_gradient():
    z = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
    p = class_probabilities("multiclass", z)
    penalty = early_learning_penalty(p, updated_target(torch.zeros(1, 3), p, 0.7))
    penalty.backward()
    assert penalty.item() == pytest.approx(-0.213949, abs=5e-7)
    assert z.grad[0].tolist() == pytest.approx([-0.042387, 0.021193, 0.021193], abs=1e-6)


def test_a_sigmoid_is_a_softmax_of_two_classes():
    z = torch.randn(4, 1, dtype=torch.float64)
    one = class_probabilities("binary", z)
    two = class_probabilities("multiclass", torch.cat([z, torch.zeros_like(z)], 1))
    assert torch.allclose(one[:, 0], two)
    assert class_probabilities("multiclass", torch.tensor([[50.0, 0.0]])).tolist() == [
        [pytest.approx(1 - 1e-4), pytest.approx(1e-4)]
    ]


def test_targets_are_running_means_kept_once_the_step_is_done():
    fit = make_fit(target="multiclass", num_outputs=2, num_train=3)
    method = methods.create("elr", weight=2.0, beta=0.5)
    model = method.prepare(linear_model([[1.0], [0.0]], bias=0.0), fit)
    batch = make_batch(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1]))
    p = class_probabilities("multiclass", model(batch.x, batch.lengths)).detach()
    plain = objective(methods.create("none"), model, batch, fit)
    for share in (0.5, 0.75):  # of p, after one and two steps
        expected = plain + 2 * (1 - share * (p * p).sum(1)).log().mean()
        for _ in range(2):  # evaluated again, as by SAM, it is the same
            got = objective(method, model, batch, fit)
            assert got.item() == pytest.approx(expected.item(), rel=1e-5)
        method.tick("step", fit)
        assert torch.allclose(method.targets[:2], share * p)
    assert method.targets[2].tolist() == [0, 0]


def test_the_memory_is_of_the_first_pass_of_a_step():
    fit, method = make_fit(num_train=2), methods.create("elr", weight=2.0, beta=0.5)
    model = method.prepare(linear_model([[1.0]]), fit)
    batch = method.batch(make_batch(torch.tensor([[1.0], [2.0]]), torch.ones(2, 1)), fit)
    p = class_probabilities("multilabel", model(batch.x, batch.lengths)).detach()
    objective(method, model, batch, fit)
    with torch.no_grad():
        model.head.weight.add_(1)  # as SAM does
    objective(method, model, batch, fit)
    method.tick("step", fit)
    assert torch.allclose(method.targets, p / 2)


@pytest.mark.parametrize("options", [{"weight": -1.0}, {"beta": 1.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        methods.create("elr", **options)
