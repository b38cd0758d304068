"""The forward pass of a training step, in its precision."""

import pytest
import torch

from mimic_reg.engine.forward import training_forward
from mimic_reg.learners.trials import resolve
from mimic_reg.methods.base import trainable
from mimic_reg.seeds import Streams
from mimic_reg.settings import Training
from tests.networks import create

CPU = torch.device("cpu")
HOURS = torch.tensor([5, 9, 7])


def model(name="transformer"):
    settings = {"blocks": 1, "key_size": 8} if name == "transformer" else {"units": 4}
    return create(name, 2, generator=Streams(0, "test").init(), **settings)


def trial(training):
    return resolve(
        {
            "task": "in_hospital_mortality",
            "model": "lstm",
            "regularisers": [],
            "training": training,
        }
    )


def gradients(network, forward, x):
    network.zero_grad()
    logits = forward(x, HOURS)
    logits.square().sum().backward()
    return logits.detach(), [p.grad.clone() for p in trainable(network)]


@pytest.fixture
def x():
    return torch.randn(3, 9, 76, generator=torch.Generator().manual_seed(0))


def test_by_default_it_is_the_model():
    network = model()
    assert training_forward(network, Training(), CPU) is network


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_bfloat16_gives_float32_logits_and_gradients_near_those_of_float32(name, x):
    network = model(name)
    expected, exact = gradients(network, network, x)
    logits, rounded = gradients(
        network, training_forward(network, Training(precision="bfloat16"), CPU), x
    )
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, expected)
    assert torch.allclose(logits, expected, atol=0.05)
    assert all(g.dtype == torch.float32 for g in rounded)
    norm = torch.nn.utils.get_total_norm
    errors = [a - b for a, b in zip(rounded, exact, strict=True)]
    assert norm(errors) < 0.05 * norm(exact)
    assert not torch.is_autocast_enabled("cpu")


def test_trials_with_the_defaults_keep_their_identity():
    plain = trial({})
    assert "precision" not in plain.model_dump()["training"]
    assert trial({"precision": "float32"}) == plain
    assert trial({"precision": "bfloat16"}).model_dump()["training"]["precision"] == "bfloat16"
