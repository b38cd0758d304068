"""Mixtures of samples, lengths and labels."""

import pytest
import torch
from scipy.stats import beta, kstest

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.mixup import draw_share, mixed
from tests.methods.fits import make_fit
from tests.methods.stays import everything, make_images, make_stays

CONTRACT = {"alpha": 0.4}


def test_a_mixture():
    values = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    got = mixed(values, torch.tensor([1, 0]), torch.tensor(0.75))
    assert got.tolist() == [[0.75, 0.5], [0.25, 1.5]]


def test_shares_are_beta_distributed():
    generator = torch.Generator().manual_seed(0)
    shares = [draw_share(0.2, torch.zeros(1), generator).item() for _ in range(2000)]
    assert kstest(shares, beta(0.2, 0.2).cdf).pvalue > 0.01


def test_stays_are_as_long_as_the_longer_one_and_labels_are_mixed_alike():
    fit = make_fit(train=make_stays())
    batch = everything(fit.train)
    got = methods.create("mixup", alpha=5.0).batch(batch, fit)
    assert (got.lengths >= batch.lengths).all()
    used = got.x.abs().sum(2) > 0  # hours that are not all zeros
    hours = torch.arange(got.x.shape[1])
    assert not (used & (hours >= got.lengths[:, None])).any()
    assert torch.equal(got.index, batch.index)
    assert not torch.equal(got.y, batch.y)


def test_classes_become_shares():
    fit = make_fit(train=make_images(), target="multiclass", num_outputs=3)
    got = methods.create("mixup", alpha=5.0).batch(everything(fit.train), fit)
    assert got.y.shape == (4, 3)
    assert torch.allclose(got.y.sum(1), torch.ones(4))


@pytest.mark.parametrize("alpha", [-1, 0.001])
def test_impossible_shapes_are_refused(alpha):
    with pytest.raises(InputError, match=r"alpha must be 0, or at least 0.05, got"):
        methods.create("mixup", alpha=alpha)
