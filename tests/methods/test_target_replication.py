"""Target replication: the loss of all hours, prefix by prefix and by hand."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.learners.trials import resolve
from mimic_reg.methods.base import Batch
from mimic_reg.methods.target_replication import every_hour
from tests.methods.fits import make_fit, objective
from tests.networks import create

CONTRACT = {"alpha": 0.5}
MODEL = {"causal_lstm": {"units": 4}}


def test_every_hour():
    places = every_hour(torch.tensor([2, 1, 3]))
    assert places.tolist() == [[0, 1], [0, 2], [1, 1], [2, 1], [2, 2], [2, 3]]


@pytest.mark.parametrize("weights", [[[1.0, 1], [1, 1]], [[1.0, 2], [3, 4]]])
def test_it_is_the_mean_over_the_prefixes(weights):
    """Each sample counts once, whatever its hours; label and class weights are the sample's."""
    model = create("gru", 2, shape=(3,), units=4, generator=torch.Generator().manual_seed(0))
    lengths, y = torch.tensor([3, 1]), torch.tensor([[1.0, 0], [0, 1]])
    x = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1))
    got = objective(
        methods.create("target_replication", alpha=0.25),
        model,
        Batch(x=x, lengths=lengths, y=y, index=torch.arange(2)),
        make_fit(num_outputs=2, class_weights=torch.tensor(weights)),
    )
    of_label = torch.where(y > 0, torch.tensor(weights[1]), torch.tensor(weights[0]))

    def loss(row, hours):
        return cross_entropy(
            model(x[row : row + 1, :hours], torch.tensor([hours])),
            y[row : row + 1],
            of_label[row : row + 1],
        )

    of_hours = [loss(0, 1), loss(0, 2), loss(0, 3)]
    first = 0.75 * of_hours[2] + 0.25 * sum(of_hours) / 3
    assert got.item() == pytest.approx(((first + loss(1, 1)) / 2).item(), rel=1e-6)


@pytest.mark.parametrize("model", ["lstm", "transformer", "standard_lstm", "channel_wise_lstm"])
def test_a_model_that_reads_later_hours_is_refused(model):
    settings = {"task": "phenotyping", "regularisers": ["target_replication"]}
    with pytest.raises(
        InputError, match=f"target_replication needs a causal model, and {model} is"
    ):
        resolve({**settings, "model": model})
    if "_" in model:
        resolve({**settings, "model": {model: {"bidirectional": False}}})


def test_alpha_is_a_share():
    with pytest.raises(InputError, match=r"alpha must be in \[0, 1\], got 1.5"):
        methods.create("target_replication", alpha=1.5)
