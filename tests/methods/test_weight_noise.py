"""Noise on weights: gradient at the noisy weights, step from the weights; names are kept."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods._weights import parametrize_weights
from mimic_reg.methods.base import trainable
from tests.methods.fits import linear_model, make_fit
from tests.networks import create

CONTRACT = {"sigma": 0.05}
ONES = torch.ones(2, dtype=torch.int64)


def test_the_gradient_is_that_at_the_noisy_weight():
    model, fit = linear_model([[3.0]]), make_fit()
    model = methods.create("weight_noise", sigma=0.1).prepare(model, fit).train()
    fit.generator.manual_seed(5)
    expected = 3 + 0.1 * torch.randn(1, 1, generator=torch.Generator().manual_seed(5))
    (model(torch.ones(1, 1), ONES[:1]).square().sum() / 2).backward()
    (weight, _) = sorted(trainable(model), key=lambda p: -p.ndim)
    assert weight.grad.item() == pytest.approx(expected.item())
    assert weight.item() == 3


@pytest.mark.parametrize("name", ["lstm", "transformer", "dnn", "cnn"])
def test_weights_keep_their_names_and_evaluation_is_plain(name):
    shape = (2, 4, 76) if name in ("lstm", "transformer") else (2, 3, 32, 32)
    shape = (2, 1, 28, 28) if name == "dnn" else shape
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([4, 2]) if len(shape) == 3 else ONES
    plain, noisy = (create(name, 2, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    for method in ("weight_noise", "drop_connect"):  # both at once
        noisy = methods.create(method).prepare(noisy, make_fit())
    assert set(noisy.state_dict()) == set(plain.state_dict())
    assert len(trainable(noisy)) == len(trainable(plain))
    with torch.no_grad():
        for p in trainable(plain):
            p.add_(0.01)
    noisy.load_state_dict(plain.state_dict())
    assert all(torch.equal(t, noisy.state_dict()[n]) for n, t in plain.state_dict().items())
    assert torch.equal(noisy.eval()(x, lengths), plain.eval()(x, lengths))
    assert set(noisy.trunk.state_dict()) == set(plain.trunk.state_dict())  # as transfer reads it
    noisy.train()
    assert not torch.equal(noisy(x, lengths), noisy(x, lengths))


def test_a_recurrent_layer_s_own_forward_pass_reads_changed_weights():
    """As on a GPU, where models call it."""

    class Twice(torch.nn.Module):
        def forward(self, weight):
            return 2 * weight

    model = create("lstm", units=3)
    lstm, x = model.trunk.recurrence.lstm, torch.randn(1, 2, 76)
    before = lstm(x)[0]
    parametrize_weights(model, Twice)
    changed = lstm(x)[0]
    assert not torch.equal(before, changed)
    plain = create("lstm", units=3)
    state = {n: 2 * t if t.ndim > 1 else t for n, t in model.state_dict().items()}
    plain.load_state_dict(state)
    assert torch.equal(plain.trunk.recurrence.lstm(x)[0], changed)


def test_negative_noise_is_refused():
    with pytest.raises(InputError, match="sigma must be at least 0, got -1"):
        methods.create("weight_noise", sigma=-1)
