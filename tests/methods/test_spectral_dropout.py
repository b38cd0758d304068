"""Spectral dropout: the transform against scipy, the mask, its mean."""

import math

import pytest
import scipy.fft
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.spectral_dropout import (
    CosineTransform,
    SpectralDropout,
    SpectralUnits,
    spectral_mask,
    strong_coefficients,
)

CONTRACT = {"eta": 0.2, "tau": 0.05}


def units(eta=0.1, tau=0.1, variant="strong_bernoulli", mode="abs", at_eval=False, n=16, seed=0):
    options = SpectralDropout(eta, tau, variant, mode, at_eval)
    return SpectralUnits(n, options, torch.Generator().manual_seed(seed)).double()


def cosine_matrix(n):
    """The plain version: row k is the k-th frequency."""
    frequency = torch.arange(n, dtype=torch.float64)[:, None]
    position = torch.arange(n, dtype=torch.float64) + 0.5
    matrix = math.sqrt(2 / n) * torch.cos(math.pi / n * frequency * position)
    matrix[0] /= math.sqrt(2)
    return matrix


def transform(n):
    return CosineTransform(n, torch.float64)


def test_the_transform_of_one_to_four():
    X = transform(4)(torch.tensor([1.0, 2, 3, 4], dtype=torch.float64))
    assert X.tolist() == pytest.approx([5, -2.230442, 0, -0.158513], abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 76, 512])
def test_the_transform_is_scipy_s_and_orthonormal(n):
    C = cosine_matrix(n)
    h = torch.randn(3, n, dtype=torch.float64)
    assert (C @ C.T - torch.eye(n)).abs().max() < 1e-12
    expected = scipy.fft.dct(h.numpy(), norm="ortho")
    X = transform(n)(h)
    assert (X - torch.from_numpy(expected)).abs().max() < 1e-12
    assert (X - h @ C.T).abs().max() < 1e-12
    assert (transform(n).inverse(h) - h @ C).abs().max() < 1e-12
    assert (transform(n).inverse(X) - h).abs().max() < 1e-12


@pytest.mark.parametrize("n", [1, 3, 4, 8])
def test_its_gradients_are_those_of_the_definition(n):
    h = torch.randn(2, n, dtype=torch.float64, requires_grad=True)
    for function in (transform(n), transform(n).inverse):
        assert torch.autograd.gradcheck(function, h)
        assert torch.autograd.gradgradcheck(lambda x, f=function: f(x).pow(3), h)


def test_without_threshold_and_rate_it_is_the_identity():
    h = torch.randn(5, 3, 16, dtype=torch.float64)
    assert (units(eta=0, tau=0)(h) - h).abs().max() < 1e-6  # its constants come from float32
    assert torch.equal(units().eval()(h), h)


def test_the_mean_is_the_thresholded_reconstruction():
    h = torch.randn(1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    module = units(eta=0.3, tau=0.5)
    C = cosine_matrix(16)
    X = h @ C.T
    expected = (X * (X.abs() > 0.5)) @ C
    assert (X.abs() <= 0.5).any()
    mean = module(h.expand(40_000, 16)).mean(dim=0)
    assert (mean - expected).abs().max() < 0.03
    at_eval = units(tau=0.5, at_eval=True).eval()
    assert (at_eval(h) - expected).abs().max() < 1e-6


def test_masks_of_both_variants():
    strong = torch.tensor([True, True, False, False])
    keep = torch.tensor([0.0, 2.0, 0.0, 2.0])
    assert spectral_mask(keep, strong, "strong_bernoulli").tolist() == [0, 2, 0, 0]
    assert spectral_mask(keep, strong, "weak_bernoulli").tolist() == [1, 1, 0, 2]


def test_thresholds_are_strict_and_may_be_relative():
    X = torch.tensor([[0.1, -0.2, 0.05], [1.0, -2.0, 0.5]])
    assert strong_coefficients(X, 0.1, "abs").tolist() == [[False, True, False], [True] * 3]
    relative = strong_coefficients(X, 0.3, "rel_max")
    assert relative.tolist() == [[True, True, False]] * 2


def test_the_orthonormal_scale_is_the_one_at_which_tau_is_meant():
    h = torch.randn(400, 256, dtype=torch.float64).relu()
    share = strong_coefficients(h @ cosine_matrix(256).T, 0.1, "abs").double().mean()
    assert share.item() == pytest.approx(0.86, abs=0.01)


def test_the_gradient_flows_through_the_kept_coefficients():
    module = units(eta=0.3, tau=0.5)
    h = torch.randn(4, 16, dtype=torch.float64, requires_grad=True)
    module.generator.manual_seed(3)
    y = module(h)
    v = torch.randn_like(y)
    (gradient,) = torch.autograd.grad((y * v).sum(), h)
    module.generator.manual_seed(3)
    step = 1e-6 * v  # linear in h between thresholds
    assert (module(h + step) - y).mul(v).sum().item() == pytest.approx(
        (gradient * step).sum().item(), rel=1e-4
    )


def test_the_transform_is_not_saved():
    assert units().state_dict() == {}


@pytest.mark.parametrize(
    "options", [{"eta": 1.0}, {"tau": -0.1}, {"variant": "both"}, {"tau_mode": "rel"}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        methods.create("spectral_dropout", **options)
