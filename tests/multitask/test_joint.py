"""Joint training: it is one optimiser on the sum of the objectives."""

from itertools import chain

import pytest
import torch

from mimic_reg import fitting, methods
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.errors import InputError
from mimic_reg.methods.base import Regulariser, trainable
from mimic_reg.methods.itps import ITPSOptimizer
from mimic_reg.methods.norm_penalty import squared_norm, weights
from mimic_reg.models.base import loss_of
from mimic_reg.multitask import fit as multitask
from mimic_reg.multitask.base import trunk_of
from mimic_reg.multitask.trials import resolve_multi
from mimic_reg.runs import BEST
from mimic_reg.store import Store
from tests.engine.test_checkpoint import same
from tests.multitask import fits
from tests.multitask.toys import engine, together

L2, TAU, STEPS = 1e-3, 1e-3, 7


@pytest.fixture
def engines(store, tmp_path):
    """The engines of a joint fit with a penalty and ITPS, before the first step."""
    methods = [{"norm_penalty": {"l2": L2}}, {"itps": {"tau": TAU}}]
    fit = fits.multi({"joint": {"epoch_iterations": STEPS}}, methods, max_epochs=1)
    opened, made = Store.open(store), {}
    for part in fit.parts():
        made[part.task] = fits.prepared(part, opened, tmp_path / part.task)
    return multitask.MultiTrainer(fit, made, tmp_path)


def test_it_is_one_optimiser_of_trunk_and_heads(engines):
    """Against a plain loop: one trunk, three heads, one ITPS around one Adam."""
    each = list(engines.engines.values())
    first = each[0].model.trunk
    models = [type(e.model)(first, e.model.head) for e in each]
    start = [p.detach().clone() for p in trunk_of(each[0])]
    heads = [[p.detach().clone() for p in trainable(e.model.head)] for e in each]
    batches = [[e.train.gather(e._indices(step)) for e in each] for step in range(STEPS)]

    parameters = [*trainable(first), *(p for e in each for p in trainable(e.model.head))]
    optimizer = ITPSOptimizer(torch.optim.Adam(parameters, lr=0.01, fused=True), tau=TAU)
    for of_step in batches:
        optimizer.zero_grad()
        total = 0.0
        for model, batch, e in zip(models, of_step, each, strict=True):
            logits = model(batch.x, batch.lengths)
            data = loss_of(e.fit.target, logits, batch.y).mean()
            total = total + data + L2 * squared_norm(weights(model))
        total.backward()
        optimizer.step()
    expected = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for own, value in zip(trunk_of(each[0]), start, strict=True):
            own.copy_(value)
        for e, values in zip(each, heads, strict=True):
            for own, value in zip(trainable(e.model.head), values, strict=True):
                own.copy_(value)

    assert engines.run() == "finished"
    got = [*trunk_of(each[0]), *(p for e in each for p in trainable(e.model.head))]
    for one, other, before in zip(got, expected, [*start, *chain(*heads)], strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-6)
        assert not torch.equal(one, before)


def test_the_copies_of_the_trunk_and_all_that_belongs_to_it_stay_equal(engines):
    engines.run()
    first, *others = engines.engines.values()
    num = len(trunk_of(first))
    for other in others:
        assert all(map(torch.equal, trunk_of(first), trunk_of(other)))
        accounts = first.optimizer.accounting()[:num], other.optimizer.accounting()[:num]
        assert all(map(torch.equal, *accounts))
        for p, q in zip(trunk_of(first), trunk_of(other), strict=True):
            assert same(first.optimizer.state[p], other.optimizer.state[q])


def test_one_task_is_plain_training_bit_for_bit(store, tmp_path):
    methods = [{"dropout": {"rate": 0.3}}, {"itps": {"tau": 1e-3}}]
    fit = fits.multi("joint", methods, tasks=("in_hospital_mortality",))
    multitask.train(fit, store, tmp_path / "joint")
    fitting.train(fit.trials[0], store, tmp_path / "plain")
    own = tmp_path / "joint" / "in_hospital_mortality"
    assert same(load_state(own / BEST)["model"], load_state(tmp_path / "plain" / BEST)["model"])
    assert fits.history(own) == fits.history(tmp_path / "plain")


def test_weights_by_hand(tmp_path):
    """One step of (w - a)² from 0 with lr .05: w = .1 * sum of weight * a; heads see their own."""
    engines = {
        n: engine(tmp_path / n, a, methods.create("none"), learned_head=True)
        for n, a in {"a": 1.0, "b": 3.0}.items()
    }
    options = {"epoch_iterations": 1, "weights": [2.0, 0.5]}
    fit = together(tmp_path, {"joint": options}, engines)
    fit.run()
    assert [e.model.trunk.w.item() for e in engines.values()] == pytest.approx([0.35] * 2)
    assert [e.model.head.h.item() for e in engines.values()] == pytest.approx([0.2, 0.15])


def test_a_method_that_evaluates_the_objective_twice_is_refused(tmp_path):
    class Twice(Regulariser):
        def optimizer(self, optimizer, fit):
            step = optimizer.step
            optimizer.step = lambda closure: (closure(), step(closure))[1]
            return optimizer

    engines = {n: engine(tmp_path / n, 1.0, Twice()) for n in ("a", "b")}
    fit = together(tmp_path, {"joint": {"epoch_iterations": 1}}, engines)
    with pytest.raises(InputError, match="joint: a method evaluates the objective twice"):
        fit.run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch_iterations": 0}, "epoch_iterations must be at least 1"),
        ({"weights": [1.0, -1.0]}, "weights must be positive"),
        ({"weights": [1.0]}, "weights needs a number for each of 2 tasks"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        resolve_multi(
            {
                "strategy": {"joint": options},
                "trials": [{"task": t, "model": "lstm"} for t in ("phenotyping", "decompensation")],
            }
        )


def test_the_benchmark_s_four_tasks_share_a_channel_wise_trunk(store, tmp_path):
    """Hourly tasks by whole stays; a regression among classifications."""
    tasks, hourly = (*fits.TASKS, "length_of_stay"), {"decompensation", "length_of_stay"}
    fit = fits.multi("joint", [], tasks=tasks, model="channel_wise_lstm", max_epochs=1)
    content = fit.model_dump()
    for part in content["trials"]:
        part["training"]["by_stay"] = part["task"] in hourly
    outcome = multitask.train(resolve_multi(content), store, tmp_path)
    assert outcome.status == "finished"
    assert outcome.scores.keys() == set(tasks)
    trunks, heads = zip(
        *(
            ([v for k, v in state.items() if k.startswith("trunk.")], state["head.weight"])
            for state in (load_state(tmp_path / task / BEST)["model"] for task in tasks)
        ),
        strict=True,
    )
    for trunk in trunks[1:]:
        assert all(torch.equal(a, b) for a, b in zip(trunks[0], trunk, strict=True))
    assert [len(head) for head in heads] == [1, 1, 25, 1]
