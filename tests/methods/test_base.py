"""The protocol's own parts: composition, the optimiser wrapper, kernels for second derivatives."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.optim import LBFGS, SGD

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.base import (
    Composite,
    OptimizerWrapper,
    Regulariser,
    differentiation,
)
from tests.methods.fits import linear_model, make_batch, make_fit, objective


class Noted(OptimizerWrapper):
    """Keeps nothing, changes nothing."""

    def __init__(self, base, name):
        super().__init__(base)
        self.name = name

    def update(self):
        self.base.step()

    def own_state(self):
        return {"name": self.name}

    def load_own_state(self, state):
        self.name = state["name"]


class Scale(Regulariser):
    """Says in every hook that it was there, by a factor."""

    needs = frozenset({"index"})

    def __init__(self, factor, log):
        self.factor, self.log = factor, log

    def prepare(self, model, fit):
        self.log.append(self.factor)
        return model

    def optimizer(self, optimizer, fit):
        return Noted(optimizer, self.factor)

    def batch(self, batch, fit):
        return replace(batch, x=batch.x * self.factor + 1)

    def loss(self, loss, step, fit):
        return loss * self.factor + 1

    def tick(self, event, fit):
        self.log.append(event)

    def predictor(self, predict, model):
        return lambda x, lengths: predict(x, lengths) * self.factor + 1

    def state_dict(self):
        return {"factor": self.factor}

    def load_state_dict(self, state):
        self.factor = state["factor"]


@pytest.fixture
def pair():
    log = []
    return Composite([Scale(2, log), Scale(3, log)]), log


def test_the_list_s_order_is_the_order(pair):
    method, log = pair
    fit, model = make_fit(), linear_model([[1.0]])
    method.prepare(model, fit)
    method.tick("step", fit)
    assert log == [2, 3, "step", "step"]
    batch = make_batch(torch.ones(2, 1), torch.zeros(2, 1))
    assert method.batch(batch, fit).x[0].item() == (1 * 2 + 1) * 3 + 1
    plain = objective(Composite([]), model, batch, fit)
    assert objective(method, model, batch, fit) == (plain * 2 + 1) * 3 + 1
    assert method.predictor(model, model)(batch.x, batch.lengths)[0].item() == (1 * 2 + 1) * 3 + 1
    outer = method.optimizer(SGD(model.parameters()), fit)
    assert (outer.name, outer.base.name) == (3, 2)
    assert method.needs == {"index"}


def test_states_go_by_position(pair):
    method, _ = pair
    assert method.state_dict() == {"0": {"factor": 2}, "1": {"factor": 3}}
    method.load_state_dict({"0": {"factor": 5}, "1": {"factor": 7}})
    assert [member.factor for member in method.members] == [5, 7]


def test_wrappers_nest_their_states():
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = Noted(Noted(SGD([p], lr=0.1, momentum=0.9), "in"), "out")
    p.grad = torch.ones(2)
    optimizer.step()
    state = optimizer.state_dict()
    assert state["own"] == {"name": "out"}
    assert state["base"]["own"] == {"name": "in"}
    assert state["base"]["base"]["state"][0]["momentum_buffer"].tolist() == [1, 1]
    other = Noted(Noted(SGD([p], lr=0.5, momentum=0.9), "x"), "y")
    other.load_state_dict(state)
    assert other.param_groups[0]["lr"] == 0.1
    assert (other.name, other.base.name) == ("out", "in")


def test_zero_grad_and_defaults_are_the_base_s():
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = Noted(SGD([p], lr=0.1), "x")
    p.grad = torch.ones(2)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0, 0]
    optimizer.zero_grad()
    assert p.grad is None
    assert optimizer.defaults is optimizer.base.defaults


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda o: o.add_param_group({"params": []}), "Add the group to the base"),
        (lambda o: o.register_step_pre_hook(print), "Register the hook on the base"),
        (lambda o: o.register_step_post_hook(print), "Register the hook on the base"),
        (copy.deepcopy, "wrap a new optimiser"),
        (pickle.dumps, "wrap a new optimiser"),
        (lambda o: Noted(LBFGS(o.parameters()), "x"), "LBFGS evaluates its closure itself"),
        (lambda o: Noted(o.parameters(), "x"), "needs a torch optimiser"),
        (lambda o: o.load_state_dict(o.base.state_dict()), "'base' and 'own', got"),
    ],
)
def test_a_wrapper_refuses_hooks_groups_and_copies(misuse, message):
    optimizer = Noted(SGD([torch.nn.Parameter(torch.zeros(2))]), "x")
    with pytest.raises(InputError, match=message):
        misuse(optimizer)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"itsp": {}}], "Did you mean 'itps'"),
        ([{"itps": {"taw": 1}}], "Did you mean 'tau'"),
        ([{"itps": {}, "none": {}}], "a name with its options"),
        ([["itps"]], "a name with its options"),
    ],
)
def test_mistakes_in_a_list_of_methods_are_named(entries, message):
    with pytest.raises(InputError, match=message):
        methods.compose(entries)


def test_a_list_of_methods():
    method = methods.compose(["none", {"dropout": None}, {"itps": {"tau": [-0.2, 0.1]}}])
    names = [type(member).__name__ for member in method.members]
    assert names == ["NoRegulariser", "Dropout", "ITPS"]


def second_derivative():
    q = torch.randn(1, 1, 4, 8, requires_grad=True)
    out = F.scaled_dot_product_attention(q, q, q)
    (gradient,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    return torch.autograd.grad(gradient.square().sum(), q)


def test_kernels_are_chosen_only_where_needed():
    before = torch.backends.cudnn.enabled, torch.backends.mkldnn.enabled
    with differentiation(frozenset({"double_backward"})):
        assert not torch.backends.cudnn.enabled
        assert not torch.backends.mkldnn.enabled
        second_derivative()
    assert (torch.backends.cudnn.enabled, torch.backends.mkldnn.enabled) == before
    with differentiation(frozenset()):
        assert (torch.backends.cudnn.enabled, torch.backends.mkldnn.enabled) == before
    with pytest.raises(RuntimeError, match="not implemented"):
        second_derivative()
