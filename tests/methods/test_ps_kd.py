"""PS-KD by hand: targets, memory, and that it is the official loss."""

import pytest
import torch
from torch.nn import functional as F

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.ps_kd import softened
from tests.methods.fits import linear_model, make_batch, make_fit, objective

CONTRACT = {"alpha": 0.8}


def test_labels_are_softened_by_past_predictions():
    y, past = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.4], [-1.0, -1.0]])
    assert softened(y, past, 0.5).tolist() == [[pytest.approx(0.8), pytest.approx(0.2)], [0, 1]]


@pytest.mark.parametrize("target", ["multiclass", "multilabel"])
def test_the_targets_of_an_epoch(target):
    fit = make_fit(target=target, num_outputs=2, num_train=3, max_epochs=4)
    method = methods.create("ps_kd", alpha=0.8)
    model = method.prepare(linear_model([[1.0], [0.0]]), fit)
    y = torch.tensor([1, 0, 1])
    hot = F.one_hot(y, 2).float()
    batch = make_batch(torch.tensor([[1.0], [2.0], [3.0]]), y if target == "multiclass" else hot)
    z = model(batch.x, batch.lengths).detach()
    p = z.softmax(1) if target == "multiclass" else z.sigmoid()
    for fit.epoch in range(3):
        changed = method.batch(batch, fit)
        share = 0.8 * (fit.epoch + 1) / 4 if fit.epoch else 0.0
        assert torch.allclose(changed.y, (1 - share) * hot + share * p)
        got = objective(method, model, changed, fit)
        if target == "multiclass":  # as the official code writes it
            official = -(changed.y * z.log_softmax(1)).sum(1).mean()
            assert got.item() == pytest.approx(official.item())
        method.tick("step", fit)


def test_the_memory_changes_once_a_step_and_at_its_first_forward_pass():
    fit = make_fit(target="multiclass", num_outputs=2, num_train=4)
    method = methods.create("ps_kd")
    model = method.prepare(linear_model([[1.0], [0.0]]), fit)
    batch = make_batch(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1]))
    changed = method.batch(batch, fit)
    first = model(batch.x, batch.lengths).softmax(1).detach()
    objective(method, model, changed, fit)
    assert method.past.eq(-1).all()
    with torch.no_grad():
        model.head.weight.mul_(5)  # a second evaluation elsewhere, as SAM's
    objective(method, model, changed, fit)
    method.tick("step", fit)
    assert torch.allclose(method.past[:2], first)
    assert method.past[2:].eq(-1).all()


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match="alpha"):
        methods.create("ps_kd", alpha=1.5)
