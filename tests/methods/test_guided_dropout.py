"""Guided dropout: which units are active, unbiased masks, phases."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.guided_dropout import active_units, guided_mask, topk_mask
from tests.methods.fits import linear_model, make_fit

CONTRACT = {"rate": 0.3, "warm_up": 0.5}  # of two epochs: the second drops

STRENGTHS = torch.tensor([0, 0.001, 0.002, 0.003, 0.5, 0.9, 1])


def test_units_outside_the_fullest_bin_are_active():
    assert active_units(STRENGTHS).tolist() == [False] * 4 + [True] * 3
    assert active_units(-STRENGTHS).tolist() == [False] * 4 + [True] * 3


def test_equal_strengths_make_all_units_active():
    assert active_units(torch.ones(7)).all()
    assert active_units(torch.tensor([0.5, -0.5])).all()


def test_the_first_of_equally_full_bins_is_inactive():
    assert active_units(torch.tensor([0.0, 1.0])).tolist() == [False, True]


def test_masks_are_unbiased_and_spare_inactive_units():
    generator = torch.Generator().manual_seed(0)
    masks = torch.stack([guided_mask(STRENGTHS, 0.4, generator) for _ in range(20_000)])
    assert masks[:, :4].eq(1).all()
    assert masks[:, 4:].unique().tolist() == [0, pytest.approx(1 / 0.6)]
    assert (masks.mean(dim=0) - 1).abs().max() < 0.02


def test_topk_zeroes_the_strongest_without_rescaling():
    assert topk_mask(STRENGTHS, 0.3).tolist() == [1, 1, 1, 1, 1, 0, 0]  # floor(.3 x 7) = 2
    assert topk_mask(STRENGTHS, 0.1).tolist() == [1] * 7


def prepared(**options):
    method = methods.create("guided_dropout", **options)
    fit = make_fit()
    model = method.prepare(linear_model(torch.ones(1, 7)), fit)
    (units,) = model.trunk.site
    with torch.no_grad():
        units.t.copy_(STRENGTHS)
    return method, fit, units


def test_evaluation_scales_by_the_strengths():
    method, _, units = prepared()
    method.dropping = True
    x = torch.randn(5, 7)
    assert torch.equal(units.eval()(x), x * STRENGTHS)


@pytest.mark.parametrize("variant", ["bernoulli", "topk"])
def test_dropping_begins_after_a_share_of_the_epochs(variant):
    method, fit, units = prepared(variant=variant, rate=0.5)
    x = torch.ones(5, 3, 7)
    dropped = []
    for fit.epoch in range(4):
        method.tick("epoch_start", fit)
        y = units.train()(x)
        assert torch.equal(y, y[:1, :1].expand_as(y))  # one mask for batch and time
        dropped.append(not torch.equal(y, x * STRENGTHS))
        fit.started = True
        method.tick("epoch_end", fit)
        assert fit.started == (fit.epoch >= 2)  # patience waits for the warm-up, 20 % of 10 epochs
    assert dropped[:2] == [False, False]
    assert any(dropped[2:])


def test_strengths_learn_through_the_output_only():
    method, _, units = prepared()
    method.dropping = True
    x = torch.randn(5, 7)
    units.train()(x).sum().backward()
    mask = units.t.grad / x.sum(0)
    assert all(
        value == pytest.approx(0) or value == pytest.approx(2) or value == pytest.approx(1)
        for value in mask.tolist()
    )


@pytest.mark.parametrize(
    "options", [{"rate": 1.0}, {"warm_up": 1.5}, {"variant": "top"}, {"warm_up": -1}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        methods.create("guided_dropout", **options)
