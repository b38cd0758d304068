"""Curriculum dropout: the schedule by hand, and that the sites follow it."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.curriculum_dropout import rate_at
from tests.methods.fits import make_fit
from tests.networks import create

CONTRACT = {"rate": 0.3}


@pytest.mark.parametrize(("progress", "rate"), [(0, 0), (0.1, 0.3161), (0.5, 0.4966), (1, 0.49998)])
def test_the_rate_grows_from_0_to_its_final_value(progress, rate):
    assert rate_at(progress, 0.5, 10, anti=False) == pytest.approx(rate, abs=5e-5)
    assert rate_at(progress, 0.5, 10, anti=True) == pytest.approx(0.5 - rate, abs=5e-5)


def rate_of(site):
    """The rate at which a site drops now: what it keeps is 1 / (1 - rate)."""
    return 1 - 1 / site(torch.ones(1000)).max().item()


def test_every_site_has_the_rate_of_the_step():
    fit = make_fit(epoch_steps=5, max_epochs=4)
    method, model = methods.create("curriculum_dropout", rate=0.5), create("dnn", 10, hidden=[8, 6])
    method.prepare(model, fit)
    rates = []
    for fit.step in range(1, 21):
        rates.append([rate_of(site) for site in model.sites])
        method.tick("step", fit)
    method.tick("epoch_end", fit)
    assert rates[0] == [0.0, 0.0]
    assert rates[2] == pytest.approx([0.3161] * 2, abs=5e-5)  # 2 of 20 steps are done
    assert fit.records["dropout_rate"] == pytest.approx(0.5, abs=5e-5)


def test_the_anti_curriculum_begins_with_the_final_rate():
    model = create("dnn", 10, hidden=[8])
    methods.create("curriculum_dropout", rate=0.4, anti=True).prepare(model, make_fit())
    assert rate_of(model.sites[0]) == pytest.approx(0.4)


@pytest.mark.parametrize("options", [{"rate": 1.0}, {"speed": 0.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        methods.create("curriculum_dropout", **options)
