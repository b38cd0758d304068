"""Node pruning by hand: scores, what is removed, and which models have such units."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.node_pruning import outgoing_norm
from tests.methods.fits import make_fit
from tests.networks import create

CONTRACT = {"share": 0.5}
MODEL = {"cnn": {"filters": [3], "dense": 6}}


def test_the_score_is_the_mean_of_outgoing_weights():
    assert outgoing_norm(torch.tensor([[1.0, -2.0], [3.0, 0.0]])).tolist() == [2, 1]


def test_the_lowest_units_lose_row_bias_and_column():
    fit = make_fit(max_epochs=1)
    method = methods.create("node_pruning", share=0.5)
    model = create("dnn", 2, shape=(1, 1, 3), hidden=[4, 2])
    first, second = (block[0] for block in model.trunk.blocks)
    with torch.no_grad():
        for layer in (first, second, model.head):
            layer.weight.fill_(1.0)
            layer.bias.fill_(1.0)
        second.weight.copy_(torch.tensor([[5.0, 1.0, -4.0, 0.5], [5.0, 1.0, -4.0, 0.5]]))
        model.head.weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
    method.prepare(model, fit)
    method.optimizer(torch.optim.Adam(model.parameters()), fit)
    method.tick("before_validation", fit)
    assert first.weight.tolist() == [[1] * 3, [0] * 3, [1] * 3, [0] * 3]
    assert first.bias.tolist() == [1, 0, 1, 0]
    assert second.weight.tolist() == [[5, 0, -4, 0], [0, 0, 0, 0]]
    assert second.bias.tolist() == [1, 0]
    assert model.head.weight.tolist() == [[1, 0], [3, 0]]
    assert model.head.bias.tolist() == [1, 1]


def test_one_unit_of_a_layer_stays():
    method = methods.create("node_pruning", share=0.99)
    model = create("dnn", 2, shape=(1, 1, 3), hidden=[4])
    method.prepare(model, make_fit())
    method.prune(0.99)
    assert method.pruned[model.head.weight].sum(1).tolist() == [3, 3]


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_models_without_hidden_dense_layers_are_refused(name):
    with pytest.raises(InputError, match="units of hidden dense layers, and the model has none"):
        methods.create("node_pruning").prepare(create(name), make_fit())


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match="share must be in"):
        methods.create("node_pruning", share=1.0)
