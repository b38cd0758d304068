"""Distillation: the loss by hand; a teacher, then a student from the same start."""

import pytest
import torch
from torch.nn import functional as F

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.distillation import distillation_loss
from tests.methods.fits import linear_model, make_batch, make_fit, objective

CONTRACT = {"weight": 0.5}


def test_the_distance_of_two_predictions():
    teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    got = distillation_loss("multiclass", student, teacher, 2.0).item()
    assert got == pytest.approx(0.105379, abs=5e-7)
    assert distillation_loss("multiclass", teacher, teacher, 2.0).item() == pytest.approx(0)
    assert distillation_loss("regression", student, teacher, 2.0).item() == 0.5


def test_a_sigmoid_is_a_softmax_of_two_classes():
    z_s, z_t = torch.randn(2, 5, 1, dtype=torch.float64)
    both = [torch.cat([z, torch.zeros_like(z)], 1) for z in (z_s, z_t)]
    entropy = F.binary_cross_entropy_with_logits(z_t / 3, (z_t / 3).sigmoid())
    got = distillation_loss("binary", z_s, z_t, 3.0) - 9 * entropy
    assert got.item() == pytest.approx(distillation_loss("multiclass", *both, 3.0).item())


def run(method, scores, **content):
    """What a fit of so many epochs does: after each, the weight is that epoch's number."""
    fit = make_fit(max_epochs=len(scores), train=object(), **content)
    model = method.prepare(linear_model([[7.0]]), fit)
    optimizer = method.optimizer(torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), fit)
    told = []
    for fit.epoch, fit.score in enumerate(scores):
        with torch.no_grad():
            model.head.weight.fill_(float(fit.epoch))
        optimizer.state[model.head.weight]["momentum_buffer"] = torch.ones(1, 1)
        fit.eligible = fit.started = True
        method.tick("before_validation", fit)
        method.tick("epoch_end", fit)
        told.append((fit.eligible, fit.started, model.head.weight.item()))
    return fit, model, optimizer, told


def test_the_best_teacher_teaches_and_the_student_begins_anew():
    method = methods.create("distillation", patience=2, weight=0.25)
    fit, model, _, told = run(method, [0.6, 0.8, 0.7, 0.8, 0.1, 0.2, 0.3, 0.4, 0.5, 0.9])
    teaching, learning = told[:4], told[4:]
    assert [t[:2] for t in teaching] == [(False, False)] * 4
    assert teaching[-1][2] == 7.0  # as it began
    assert [t[:2] for t in learning] == [(True, True)] * 6
    assert method.teacher["head.weight"].item() == 1.0  # the first best wins ties
    assert fit.records["teacher_score"] == 0.8
    batch = make_batch(torch.tensor([[2.0], [1.0]]), torch.ones(2, 1))
    with torch.no_grad():
        model.head.weight.fill_(3.0)
    plain = objective(methods.create("none"), model, batch, fit)
    z = batch.x
    expected = 0.75 * plain + 0.25 * distillation_loss("multilabel", 3 * z, z, 2.0)
    assert objective(method, model, batch, fit).item() == pytest.approx(expected.item())
    assert model.training


def test_moments_are_forgotten_with_the_teacher():
    method = methods.create("distillation", teacher_share=0.5)
    fit = make_fit(max_epochs=2, train=object(), score=0.5)
    model = method.prepare(linear_model([[7.0]]), fit)
    optimizer = method.optimizer(torch.optim.Adam(model.parameters()), fit)
    model(torch.ones(1, 1), None).sum().backward()
    optimizer.step()
    method.tick("epoch_end", fit)
    assert model.head.weight.item() == 7.0
    assert not optimizer.state
    assert method.start == {}


def test_the_teacher_s_share_ends_its_training():
    *_, told = run(methods.create("distillation", teacher_share=0.3), [0.1 * e for e in range(10)])
    assert [eligible for eligible, *_ in told] == [False] * 3 + [True] * 7


def test_a_fit_of_one_epoch_is_refused():
    method = methods.create("distillation")
    with pytest.raises(InputError, match="max_epochs must be at least 2, got 1"):
        method.prepare(linear_model([[1.0]]), make_fit(max_epochs=1, train=object()))
    methods.create("distillation", weight=0.0).prepare(linear_model([[1.0]]), make_fit())


@pytest.mark.parametrize(
    "options", [{"weight": 2.0}, {"temperature": 0.0}, {"teacher_share": 1.0}, {"patience": 0}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        methods.create("distillation", **options)
