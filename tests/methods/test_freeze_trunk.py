"""The trunk stands still for its epochs, then learns; the head learns from the start."""

import pytest
import torch
from torch.optim import Adam

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.base import Composite, trainable
from mimic_reg.methods.itps import ITPSOptimizer
from mimic_reg.models.base import Model
from tests.methods.fits import make_fit
from tests.multitask.toys import engine

CONTRACT = {"epochs": 1}


def numbers(engine):
    return engine.model.trunk.w.item(), engine.model.head.h.item()


def test_the_trunk_is_frozen_for_its_epochs(tmp_path):
    """(w + h - 1)² with lr .05: a step alone moves h by .1 (1 - w - h)."""
    method = methods.create("freeze_trunk", epochs=2)
    found = []
    fit = engine(tmp_path, 1.0, method, learned_head=True, max_epochs=3, epoch_steps=1)
    fit.progress.note = lambda text: found.append(numbers(fit))
    assert fit.run() == "finished"
    assert found[0] == pytest.approx((0.0, 0.1))
    assert found[1] == pytest.approx((0.0, 0.19))
    assert found[2] == pytest.approx((0.081, 0.271))
    assert fit.fit.stop_reason is None


def test_a_frozen_trunk_is_outside_the_accounting(tmp_path):
    method = methods.create("freeze_trunk", epochs=1)
    itps = methods.create("itps", beta=0.5, tau=0.0)
    fit = engine(tmp_path, 1.0, method, itps, learned_head=True, max_epochs=1, epoch_steps=2)
    fit.run()
    trunk, head = fit.optimizer.accounting()
    assert trunk.item() == 0.0
    assert head.item() > 0.0


def test_patience_counts_from_the_thaw(tmp_path):
    both = [
        methods.create("freeze_trunk", epochs=3),
        methods.create("early_stopping", patience=1, min_explained=None),
    ]
    # nothing can improve: the start is the optimum
    fit = engine(tmp_path, 0.0, *both, learned_head=True, max_epochs=9, epoch_steps=1)
    fit.run()
    assert fit.fit.epoch == 4


def test_what_is_frozen_belongs_to_the_optimiser(tmp_path):
    fit = engine(tmp_path, 1.0, methods.create("freeze_trunk"), learned_head=True)
    assert len(fit.optimizer.param_groups[0]["params"]) == 2
    fit.begin_epoch(new=True)
    assert len(trainable(fit.model)) == 1
    wrapped = ITPSOptimizer(Adam(trainable(fit.model)))
    assert isinstance(wrapped.parameters()[0], torch.Tensor)


def test_parameters_that_a_later_method_adds_are_frozen():
    fit, freeze, compander = make_fit(), methods.create("freeze_trunk"), "weight_compander"
    model = Model(torch.nn.Sequential(torch.nn.Linear(2, 2)), torch.nn.Linear(2, 1))
    method = Composite([freeze, methods.create(compander)])
    model = method.prepare(model, fit)
    method.optimizer(Adam(trainable(model)), fit)
    method.tick("epoch_start", fit)
    assert trainable(model.trunk) == []
    assert trainable(model.head)
    fit.epoch = 3
    method.tick("epoch_start", fit)
    assert len(trainable(model.trunk)) == 4  # weight, bias, a, b


def test_options():
    with pytest.raises(InputError, match="epochs must be at least 0"):
        methods.create("freeze_trunk", epochs=-1)
