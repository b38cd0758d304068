"""ITPS: hand-worked numbers, a loop over elements, and the base optimisers it must equal."""

import copy
import doctest
import math

import pytest
import torch
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods import _masks
from mimic_reg.methods._masks import mask_
from mimic_reg.methods.base import OptimizerWrapper
from mimic_reg.methods.itps import MODES, ITPSOptimizer, interval, selected
from tests.methods.fits import make_fit
from tests.networks import create


def test_the_example_runs():
    torch.manual_seed(0)
    model, loss_function = torch.nn.Linear(2, 1), torch.nn.functional.mse_loss
    batches = [(torch.ones(3, 2), torch.ones(3, 1))] * 3
    given = {**globals(), "model": model, "batches": batches, "loss_function": loss_function}
    (example,) = doctest.DocTestFinder(recurse=False).find(ITPSOptimizer, globs=given)
    start = model.weight.detach().clone()
    assert len(example.examples) == 2
    assert doctest.DocTestRunner().run(example).failed == 0
    assert (model.weight != start).any()


CONTRACT = {"tau": 0.002, "beta": 0.1}  # selects some, not all, within the contracts' few steps

BASES = {
    "sgd": lambda p: SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: Adam(p, lr=0.01),
    "fused adam": lambda p: Adam(p, lr=0.01, fused=True),
    "adamw": lambda p: AdamW(p, lr=0.01),
    "adagrad": lambda p: Adagrad(p, lr=0.1),
    "rmsprop": lambda p: RMSprop(p, lr=0.01),
}


def parameter(*values):
    return torch.nn.Parameter(torch.tensor(values))


def give(optimizer, p, gradients):
    """Step with each gradient; p[0] after each."""
    trace = []
    for gradient in gradients:
        p.grad = torch.full_like(p, gradient)
        optimizer.step()
        trace.append(p[0].item())
    return trace


def run(make, steps, seed=0, start=None, every=lambda step: None):
    """A small least-squares fit; `make(parameters)` gives the optimiser."""
    generator = torch.Generator().manual_seed(seed)
    parameters = [
        torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(4, 3), (4,), ()]
    ]
    optimizer = make(parameters)
    if start:
        optimizer.load_state_dict(start["optimizer"])
        for p, saved in zip(parameters, start["parameters"], strict=True):
            p.data.copy_(saved)
    W, b, scale = parameters
    for step in range(steps):
        data = torch.Generator().manual_seed(step + (start["step"] if start else 0))
        x, y = torch.randn(8, 3, generator=data), torch.randn(8, 4, generator=data)

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = (scale * (x @ W.T + b) - y).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        every(step)
    return parameters, optimizer


# Hand-worked numbers


def test_equality_selects():
    p = parameter(0.0)
    optimizer = ITPSOptimizer(SGD([p], lr=1e-3), beta=0.125, tau=0.25)
    assert give(optimizer, p, [1.0] * 4) == pytest.approx([0, -1e-3, -2e-3, -3e-3], abs=1e-9)


def test_parameters_drop_out_and_come_back():
    p = parameter(0.0)
    optimizer = ITPSOptimizer(SGD([p], lr=1.0), beta=0.5, tau=0.75)
    J, now, theta = [], [], []
    for gradient in [1.0, 1, -1, -1, -1, -1, -1]:
        theta += give(optimizer, p, [gradient])
        J.append(optimizer.accounting()[0].item())
        now.append(int(optimizer.selected_now()[0]))
    assert J == [-0.5, -1, -0.5, 0, 0.5, 1, 1.5]
    assert now == [0, 1, 0, 0, 0, 1, 1]
    assert theta == [0, -1, -1, -1, -1, 0, 1]


def test_with_adam_a_parameter_that_drops_out_drifts_on():
    p = parameter(0.0)
    optimizer = ITPSOptimizer(Adam([p], lr=1e-3), beta=1.0, tau=1.0)
    trace = give(optimizer, p, [1.0, -1.0])  # J: -1, selected; 0, dropped
    assert not optimizer.selected_now()[0]
    trace += give(optimizer, p, [0.0] * 4)
    expected = [-1.0, -1.670, -2.188, -2.612, -2.971, -3.280]
    assert [1e3 * value for value in trace] == pytest.approx(expected, abs=6e-4)


def test_in_mode_freeze_it_does_not():
    p = parameter(0.0)
    optimizer = ITPSOptimizer(Adam([p], lr=1e-3), beta=1.0, tau=1.0, mode="freeze")
    trace = give(optimizer, p, [1.0, -1.0, 0.0, 0.0])
    assert trace == pytest.approx([-1e-3] * 4)
    assert len(set(trace)) == 1


def test_in_mode_update_the_moments_see_every_gradient():
    """A late parameter's first step is an ordinary one: with grad it would be .484 of it."""
    p = parameter(0.0)
    optimizer = ITPSOptimizer(Adam([p], lr=1e-3), beta=0.1, tau=1.0, mode="update")
    trace = give(optimizer, p, [1.0] * 12)
    assert trace[:9] == [0.0] * 9
    assert trace[9:] == pytest.approx([-1e-3, -2e-3, -3e-3], rel=1e-4)


def test_latched_a_parameter_stays_selected():
    p = parameter(0.0)
    optimizer = ITPSOptimizer(SGD([p], lr=1.0), beta=0.5, tau=0.75, latch=True)
    # J: -.5, -1, -.5, 0, .5, 1, 1.5; once selected it follows every gradient
    assert give(optimizer, p, [1.0, 1, -1, -1, -1, -1, -1]) == [0, -1, 0, 1, 2, 3, 4]
    assert optimizer.selected_ever()[0]
    with pytest.raises(InputError, match="latch needs track_ever=True"):
        ITPSOptimizer(SGD([p]), latch=True, track_ever=False)
    with pytest.raises(InputError, match="latch needs track_ever=True"):
        methods.create("itps", latch=True, track_ever=False)


@pytest.mark.parametrize(
    ("step", "size"), [(1, 1.0), (10, 0.484), (100, 0.976), (1000, 2.515), (10_000, 3.162)]
)
def test_with_adam_a_late_parameter_starts_with_a_larger_step(step, size):
    p = parameter(0.0)
    base = Adam([p], lr=1e-3)
    optimizer = ITPSOptimizer(base, beta=1.0, tau=1.0)
    give(optimizer, p, [0.0])
    base.state[p]["step"].fill_(step - 1)  # as after so many steps without selection
    assert p.item() == 0
    assert -give(optimizer, p, [1.0])[0] == pytest.approx(size * 1e-3, rel=1e-3)
    if step == 10_000:
        trace = torch.tensor([0.0, *give(optimizer, p, [1.0] * 20)])
        assert trace[1:].diff().abs().max().item() == pytest.approx(6.57e-3, rel=1e-3)


@pytest.mark.parametrize(("make", "moved"), [(Adam, -1e-3), (AdamW, -1e-5)])
def test_weight_decay_of_the_base_moves_what_is_not_selected(make, moved):
    p = parameter(1.0)
    optimizer = ITPSOptimizer(make([p], lr=1e-3, weight_decay=0.01), tau=1.0)
    give(optimizer, p, [0.0])
    assert p.item() - 1 == pytest.approx(moved, rel=5e-3)


# Oracles


@pytest.mark.parametrize("latch", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("base", BASES)
def test_tau_zero_is_the_base(base, mode, latch):
    plain, _ = run(BASES[base], 50)
    wrapped, _ = run(lambda p: ITPSOptimizer(BASES[base](p), tau=0, mode=mode, latch=latch), 50)
    assert all(torch.equal(a, b) for a, b in zip(plain, wrapped, strict=True))


@pytest.mark.parametrize("base", sorted(BASES.keys() - {"adamw"}))
def test_tau_infinity_moves_nothing(base):
    start, _ = run(BASES[base], 0)
    end, optimizer = run(lambda p: ITPSOptimizer(BASES[base](p), tau=math.inf), 50)
    assert all(torch.equal(a, b) for a, b in zip(start, end, strict=True))
    assert not any(where.any() for where in optimizer.selected_now())


class Loop:
    """Algorithm 1, one number after the other, around a base optimiser."""

    def __init__(self, base, parameters, beta, low, high, mode, latch):
        self.base, self.parameters = base, parameters
        self.beta, self.low, self.high, self.mode, self.latch = beta, low, high, mode, latch
        self.J = [[0.0] * p.numel() for p in parameters]
        self.ever = [[False] * p.numel() for p in parameters]

    def zero_grad(self):
        self.base.zero_grad()

    def step(self, closure):
        closure()
        frozen = []
        for k, p in enumerate(self.parameters):
            gradient, value = p.grad.view(-1), p.data.view(-1)
            for i in range(p.numel()):
                self.J[k][i] -= self.beta * gradient[i].item()
                outside = not self.low < self.J[k][i] < self.high
                self.ever[k][i] = self.ever[k][i] or outside
                if not (outside or (self.latch and self.ever[k][i])):
                    frozen.append((value, i, value[i].item()))
                    if self.mode != "update":
                        gradient[i] = 0
        self.base.step()
        if self.mode != "grad":
            for value, i, old in frozen:
                value[i] = old


@pytest.mark.parametrize("latch", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tau", [0.05, (-0.05, 0.02), (-0.02, math.inf)])
@pytest.mark.parametrize("base", ["sgd", "adam", "adagrad"])
def test_it_is_the_loop_over_elements(base, tau, mode, latch):
    low, high = interval(tau)

    def wrap(p):
        return ITPSOptimizer(BASES[base](p), beta=0.1, tau=tau, mode=mode, latch=latch)

    expected, loop = run(lambda p: Loop(BASES[base](p), p, 0.1, low, high, mode, latch), 30)
    got, optimizer = run(wrap, 30)
    for a, b in zip(expected, got, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    for J, expected_J in zip(optimizer.accounting(), loop.J, strict=True):
        assert torch.allclose(J.flatten(), torch.tensor(expected_J), atol=1e-6)
    ever = [where.flatten().tolist() for where in optimizer.selected_ever()]
    assert ever == loop.ever
    assert any(any(e) for e in ever)
    _, early = run(wrap, 3)
    assert not all(where.all() for where in early.selected_now())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bounds", [(-0.1, 0.1), (-0.3, 0.1), (0.0, 0.0), (-math.inf, math.inf)])
def test_masks_are_exact_at_the_thresholds(dtype, bounds):
    """Between two neighbouring numbers, in every dtype, in whole vectors and their rest."""
    low, high = bounds
    edges = torch.tensor([low, high, 0.0], dtype=dtype)
    eps = torch.finfo(dtype).eps
    ones = torch.tensor([1.0, -1.0], dtype=dtype)
    J = torch.cat([edges, edges * (1 + eps), edges * (1 - eps), ones]).repeat(7)
    gradient = torch.arange(1, len(J) + 1).to(dtype)
    expected = torch.where(selected(J, low, high), gradient, 0)
    mask_(gradient, J, low, high)
    assert torch.equal(gradient, expected)
    assert selected(J, low, high)[:2].all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tau", [0.05, (-0.05, 0.02)])
def test_parameters_masked_together_are_masked_as_each_alone(tau, mode, monkeypatch):
    """A GPU masks small parameters together."""

    def wrap(p):
        return ITPSOptimizer(BASES["adam"](p), tau=tau, mode=mode)

    expected, alone = run(wrap, 10)
    monkeypatch.setitem(_masks.TOGETHER, "cpu", 4)
    assert sorted(map(len, _masks.parts(alone.parameters()))) == [1, 2]
    got, together = run(wrap, 10)
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    for what in ("accounting", "selected_ever"):
        pairs = zip(getattr(alone, what)(), getattr(together, what)(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


# In anyone's loop


def test_infinite_gradients_do_not_become_nan():
    for tau in (0.5, (-0.5, 0.6)):
        p = parameter(0.0, 0.0, 0.0)
        p.grad = torch.tensor([math.inf, 1.0, -math.inf])
        ITPSOptimizer(SGD([p], lr=1.0), tau=tau).step()
        assert p.tolist() == [-math.inf, 0, math.inf]


def test_masked_gradients_are_zero_tensors():
    p = parameter(1.0, 2.0)
    optimizer = ITPSOptimizer(Adam([p]))
    give(optimizer, p, [1.0])
    assert p.grad.tolist() == [0, 0]
    assert optimizer.base.state[p]["exp_avg"].tolist() == [0, 0]
    assert p.tolist() == [1, 2]


def test_parameters_without_a_gradient_are_left_alone():
    used, unused = parameter(0.0), parameter(0.0)
    frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    optimizer = ITPSOptimizer(SGD([used, unused, frozen], lr=1.0), beta=1.0, tau=0.5)
    give(optimizer, used, [1.0, 1.0])
    assert (used.item(), unused.item(), frozen.item()) == (-2, 0, 0)
    unused.grad = torch.ones(1)
    give(optimizer, used, [0.0])
    assert [J.item() for J in optimizer.accounting()] == [-2, -1, 0]
    assert [bool(where) for where in optimizer.selected_now()] == [True, True, False]


def test_closures_run_once_with_gradients_on_and_their_loss_comes_back():
    p = parameter(1.0)
    optimizer = ITPSOptimizer(SGD([p], lr=0.1), beta=1.0, tau=1.0)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (2 * p).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 2
    assert calls == [True]
    assert p.item() == pytest.approx(0.8)


def test_groups_and_schedules_are_the_base_s():
    a, b = parameter(0.0), parameter(0.0)
    base = SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 0.1}])
    optimizer = ITPSOptimizer(base, beta=1.0, tau=0.5)
    assert optimizer.param_groups is base.param_groups
    assert optimizer.state is base.state
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for _ in range(3):
        a.grad, b.grad = torch.ones(1), torch.ones(1)
        optimizer.step()
        schedule.step()
    assert a.item() == pytest.approx(-1.75)
    assert b.item() == pytest.approx(-0.175)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    optimizer.param_groups[0]["lr"] = 7.0
    assert base.param_groups[0]["lr"] == 7.0
    assert "lr: 0.0125" in repr(optimizer)


@pytest.mark.parametrize(("mode", "latch"), [*((m, False) for m in MODES), ("grad", True)])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("at", [1, 7])
def test_resumed_is_uninterrupted(base, mode, latch, at, tmp_path):
    def wrap(p):
        return ITPSOptimizer(BASES[base](p), tau=(-0.03, 0.05), mode=mode, latch=latch)

    expected, whole = run(wrap, 20)
    parameters, optimizer = run(wrap, at)
    state = {"optimizer": optimizer.state_dict(), "parameters": parameters, "step": at}
    torch.save(state, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    got, resumed = run(wrap, 20 - at, start=loaded)
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    for what in ("accounting", "selected_now", "selected_ever"):
        pairs = zip(getattr(whole, what)(), getattr(resumed, what)(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_loaded_state_is_a_copy():
    _, optimizer = run(lambda p: ITPSOptimizer(SGD(p, lr=0.1)), 3)
    state = optimizer.state_dict()
    kept = copy.deepcopy(state)
    parameters, _ = run(lambda p: SGD(p, lr=0.1), 0)
    start = {"optimizer": state, "parameters": parameters, "step": 3}
    _, other = run(lambda p: ITPSOptimizer(SGD(p, lr=0.1)), 3, start=start)
    assert not torch.equal(other.accounting()[0], optimizer.accounting()[0])
    assert torch.equal(state["own"]["J"]["0"], kept["own"]["J"]["0"])


def test_one_tensor_a_parameter_and_no_mask():
    def tensors(optimizer):
        held = [v for v in vars(optimizer).values() if isinstance(v, dict)]
        return [t for d in held for t in d.values()]

    _, plain = run(lambda p: ITPSOptimizer(SGD(p, lr=0.1), track_ever=False), 3)
    assert sorted(t.numel() for t in tensors(plain)) == [1, 4, 12]
    _, tracking = run(lambda p: ITPSOptimizer(SGD(p, lr=0.1)), 3)
    assert sum(t.nbytes for t in tensors(tracking)) == 17 * (4 + 1)


def test_inside_a_wrapper_that_evaluates_twice_each_step_counts_once():
    class Twice(OptimizerWrapper):
        """As SAM does: two gradients, of which the second drives the update."""

        def step(self, closure):
            for _ in range(2):
                loss = closure()
            self.base.step()
            return loss

        def update(self): ...
        def own_state(self): ...
        def load_own_state(self, state): ...

    p = parameter(0.0)
    inner = ITPSOptimizer(SGD([p], lr=1.0), beta=1.0, tau=math.inf)
    optimizer, gradients = Twice(inner), iter(range(1, 9))

    def closure():
        p.grad = torch.full_like(p, float(next(gradients)))
        return 0

    for _ in range(4):
        optimizer.step(closure)
    assert inner.accounting()[0].item() == -(2 + 4 + 6 + 8)


def test_quantiles():
    p = parameter(*[0.0] * 5)
    optimizer = ITPSOptimizer(SGD([p], lr=1.0), beta=1.0)
    p.grad = -torch.tensor([3.0, 1, 5, 2, 4])
    optimizer.step()
    assert optimizer.quantiles([0, 0.25, 0.5, 0.9, 1]) == [1, 2, 3, 4, 5]


# Mistakes


@pytest.mark.parametrize("tau", [-0.1, (0.1, -0.1), (0.1, 0.2), (0.0, 0.1), math.nan, "0.1", (1,)])
def test_impossible_thresholds_are_refused(tau):
    with pytest.raises(InputError, match="tau must be"):
        ITPSOptimizer(SGD([parameter(0.0)]), tau=tau)
    with pytest.raises(InputError, match="tau must be"):
        methods.create("itps", tau=tau)


@pytest.mark.parametrize("options", [{"beta": 0}, {"beta": math.inf}, {"mode": "latch"}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=f"{next(iter(options))} must be"):
        ITPSOptimizer(SGD([parameter(0.0)]), **options)
    with pytest.raises(InputError, match=f"{next(iter(options))} must be"):
        methods.create("itps", **options)


def test_sparse_gradients_are_refused():
    embedding = torch.nn.Embedding(5, 2, sparse=True)
    optimizer = ITPSOptimizer(SGD(embedding.parameters(), lr=0.1))
    embedding(torch.tensor([1, 3])).sum().backward()
    with pytest.raises(InputError, match="sparse=False"):
        optimizer.step()


def test_states_of_others_are_refused():
    optimizer = ITPSOptimizer(SGD([parameter(0.0, 0.0)], lr=0.1), track_ever=True)
    with pytest.raises(InputError, match="saved by another optimiser"):
        optimizer.load_state_dict(optimizer.base.state_dict())
    base = optimizer.base.state_dict()
    with pytest.raises(InputError, match="same parameters"):
        optimizer.load_state_dict(
            {"base": base, "own": {"J": {"0": torch.ones(3)}, "ever": {"0": torch.ones(3)}}}
        )
    with pytest.raises(InputError, match="track_ever"):
        optimizer.load_state_dict({"base": base, "own": {"J": {"0": torch.ones(2)}, "ever": {}}})
    with pytest.raises(InputError, match="track_ever=True"):
        ITPSOptimizer(SGD([parameter(0.0)]), track_ever=False).selected_ever()


# The regulariser


def test_it_reports_the_selection_and_says_when_it_has_begun():
    model = create("dnn", 2, shape=(1, 1, 3), hidden=[4])
    method, fit = methods.create("itps", beta=1.0, tau=1.0), make_fit()
    model = method.prepare(model, fit)
    optimizer = method.optimizer(SGD(model.parameters(), lr=0.1), fit)
    method.tick("epoch_end", fit)
    assert fit.started is False
    assert fit.records["selected_now"] == fit.records["selected_ever"] == 0

    fit.started = True
    for gradient in (1.0, -1.0):  # selected, then not
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        model.head.bias.grad.fill_(gradient)
        optimizer.step()
    method.tick("epoch_end", fit)
    assert fit.started is True
    assert fit.records["selected_now"] == 0
    assert fit.records["selected_ever"] == fit.records["selected_ever/head.bias"] == 2
    assert fit.records["selected_ever/head.weight"] == 0
    assert fit.records["J/quantile_0.5"] == 0

    resumed, again = methods.create("itps", beta=1.0, tau=1.0, track_ever=False), make_fit()
    resumed.optimizer(SGD(resumed.prepare(model, again).parameters(), lr=0.1), again)
    resumed.load_state_dict(method.state_dict())
    resumed.tick("epoch_end", again)
    assert again.started is True


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("tau", [0.0, 0.05, (-0.05, 0.02)])
def test_on_a_gpu_it_is_what_it_is_on_the_cpu(tau):
    results = []
    for device in ("cpu", "cuda"):
        parameters = [torch.nn.Parameter(torch.zeros(n, device=device)) for n in (1000, 7, 3)]
        optimizer = ITPSOptimizer(SGD(parameters, lr=0.1), tau=tau, track_ever=True)
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):
            for p in parameters:
                p.grad = torch.randn(len(p), generator=generator).to(device)
            optimizer.step()
        moved = torch.cat([p.detach() for p in parameters]).cpu()
        results.append([moved, torch.cat(optimizer.selected_ever()).cpu()])
    assert torch.allclose(results[0][0], results[1][0], atol=1e-6)
    assert torch.equal(results[0][1], results[1][1])
