"""Magnitude pruning against torch's own; its schedule; that what is pruned stays zero."""

import pytest
import torch
from torch.nn.utils import prune

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods._pruning import scheduled_share
from mimic_reg.methods.magnitude_pruning import below_deviations, smallest
from tests.methods.fits import make_batch, make_fit, objective
from tests.multitask import fits
from tests.networks import create

CONTRACT = {"sparsity": 0.5}


def pruned_model(fit, **options):
    """A small network after so many epochs; its optimiser; the method."""
    method = methods.create("magnitude_pruning", **options)
    model = create("dnn", 3, shape=(1, 4, 4), hidden=[8, 6])
    method.prepare(model, fit)
    optimizer = method.optimizer(torch.optim.Adam(model.parameters(), lr=0.1), fit)
    return method, model, optimizer


def test_the_share_grows_cubically():
    assert [scheduled_share(e, 4, 0.8) for e in (0, 1, 2, 4, 9)] == pytest.approx(
        [0, 0.4625, 0.7, 0.8, 0.8]
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.77])
def test_it_prunes_what_torch_prunes(share):
    layers = [torch.nn.Linear(7, 5), torch.nn.Linear(5, 3)]
    expected = smallest([layer.weight for layer in layers], share)
    prune.global_unstructured(
        [(layer, "weight") for layer in layers], prune.L1Unstructured, amount=share
    )
    for layer, where in zip(layers, expected, strict=True):
        assert torch.equal(layer.weight_mask == 0, where)


def test_han_s_threshold_is_a_tensor_s_own_deviation():
    tensor = torch.tensor([[3.0, -1.0], [0.5, -3.0]])  # deviation 2.529
    assert below_deviations(tensor, 0.5).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("options", [{"sparsity": 0.75}, {"deviations": 1.0, "sparsity": 0.0}])
def test_what_is_pruned_stays_zero_and_has_no_moments(options):
    fit = make_fit(max_epochs=4, target="multiclass", num_outputs=3)
    method, model, optimizer = pruned_model(fit, ramp=0.5, **options)
    batch = make_batch(torch.randn(6, 16), torch.tensor([0, 1, 2, 0, 1, 2]))
    eligible, zeros = [], []
    for fit.epoch in range(3):
        for _ in range(2):
            optimizer.zero_grad()
            objective(method, model, batch, fit).backward()
            optimizer.step()
            method.tick("step", fit)
        fit.eligible = True
        method.tick("before_validation", fit)
        method.tick("epoch_end", fit)
        eligible.append(fit.eligible)
        weights = [p for p in model.parameters() if p.ndim == 2]
        share = sum(int(w.eq(0).sum()) for w in weights) / sum(w.numel() for w in weights)
        assert share == pytest.approx(fit.records["pruned"])
        zeros.append(share)
    assert eligible == [False, True, True]
    if "deviations" not in options:
        assert zeros[:2] == pytest.approx([0.75 * (1 - 0.5**3), 0.75], abs=0.01)
    assert zeros[1] == zeros[2] > 0
    weight = model.head.weight
    where = method.pruned[weight]
    assert optimizer.state[weight]["exp_avg"][where].eq(0).all()
    assert optimizer.state[weight]["exp_avg_sq"][where].eq(0).all()
    assert not optimizer.state[weight]["exp_avg"][~where].eq(0).all()
    assert model.head.bias.ne(0).all()


@pytest.mark.parametrize(
    "options", [{"sparsity": 1.0}, {"ramp": 0.0}, {"every": 0}, {"deviations": 0.0}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        methods.create("magnitude_pruning", **options)


@pytest.mark.parametrize("name", ["magnitude_pruning", "distillation"])
def test_tasks_that_share_a_trunk_cannot_have_it(name, tmp_path):
    from mimic_reg.multitask.fit import MultiTrainer

    with pytest.raises(InputError, match=f"{name} changes a trunk by what one task does"):
        MultiTrainer(fits.multi("joint", [name]), {}, tmp_path)
