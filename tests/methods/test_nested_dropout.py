"""Nested dropout: how many features are kept, and the number that validation chooses."""

import numpy as np
import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.base import Composite
from mimic_reg.methods.nested_dropout import (
    NestedUnits,
    best_prefix,
    candidate_numbers,
    prefix_probabilities,
)
from mimic_reg.samples import from_arrays
from tests.methods.fits import linear_model, make_fit
from tests.networks import create

CONTRACT = {"sigma": 4.0}


def test_how_many_features_are_kept():
    p = prefix_probabilities(512, 0.0, 100.0)
    k = torch.arange(1, 513)
    assert (p * k).sum().item() == pytest.approx(56.74, abs=0.005)
    assert p[k > 200].sum().item() == pytest.approx(0.0046, abs=5e-5)
    official = np.exp(-(((np.arange(1, 9) - 2) / 3.0) ** 2))
    assert prefix_probabilities(8, 2.0, 3.0).tolist() == pytest.approx(official / official.sum())


def test_a_batch_keeps_its_first_features_in_training():
    units = NestedUnits(6, 0.0, 3.0, torch.Generator().manual_seed(0))
    x = torch.arange(1.0, 13.0).view(2, 6)
    kept = []
    for _ in range(2000):
        y = units(x)
        kept.append(int(y[0].ne(0).sum()))
        assert torch.equal(y, x * (torch.arange(6) < kept[-1]))
    shares = np.bincount(kept, minlength=7)[1:] / len(kept)
    assert np.abs(shares - prefix_probabilities(6, 0.0, 3.0).numpy()).max() < 0.04
    units.eval()
    assert torch.equal(units(x), x)
    units.kept = 2
    assert units(x).ne(0).sum(1).tolist() == [2, 2]


def test_validation_chooses_the_number_of_features():
    """The first two features tell the classes apart, the third misleads."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    values = rng.normal(size=(60, 4)).astype(np.float32)
    values[:, 1] += 4 * (labels * 2 - 1)
    values[:, 3] -= 9 * (labels * 2 - 1)
    validation = from_arrays(values, labels.astype(np.int64), "multiclass")
    model = linear_model([[-1.0, -1.0, 0.0, -1.0], [1.0, 1.0, 0.0, 1.0]])
    method = methods.create("nested_dropout", candidates=4)
    fit = make_fit(target="multiclass", num_outputs=2, validation=validation)
    method.prepare(model, fit)
    model.train()
    method.tick("before_validation", fit)
    assert model.training
    assert fit.records["kept_features"] == 2  # with 3 the score is the same, and 2 are fewer
    assert method.state_dict() == {"kept": 2}
    one_class = from_arrays(values[:, :4], np.zeros((60, 1), np.int8), "binary")
    binary = linear_model([[1.0, 1.0, 0.0, 1.0]])
    method.prepare(binary, fit)
    assert best_prefix(binary, method.units, one_class, 4) == 4  # no AUROC: all features


def test_candidates_are_few_and_include_both_ends():
    assert candidate_numbers(512, 10) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert candidate_numbers(3, 16) == [1, 2, 3]


@pytest.mark.parametrize("order", [1, -1])
def test_dropout_beside_it_is_refused(order):
    pair = ["nested_dropout", "dropout"][::order]
    with pytest.raises(InputError, match="exclude each other: both act at the last site"):
        methods.compose(pair)
    both, fit, model = Composite(list(map(methods.create, pair))), make_fit(), create("dnn", 10)
    both.prepare(model, fit)
    with pytest.raises(InputError, match="another method acts on the features, too"):
        both.optimizer(torch.optim.SGD(model.parameters()), fit)


@pytest.mark.parametrize("options", [{"sigma": 0.0}, {"candidates": 1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        methods.create("nested_dropout", **options)
