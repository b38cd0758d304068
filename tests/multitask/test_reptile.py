"""Reptile and ITPS-Reptile: METHODS' numbers, and what they reduce to."""

import pytest
import torch

from mimic_reg import fitting, methods
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.errors import InputError
from mimic_reg.learners import deep
from mimic_reg.multitask import fit as multitask
from mimic_reg.multitask import reptile
from mimic_reg.multitask.reptile import meta_update
from mimic_reg.multitask.trials import resolve_multi
from mimic_reg.runs import BEST
from mimic_reg.runs.record import read_scores
from mimic_reg.settings import load_yaml
from tests.engine.methods import NotBefore
from tests.engine.test_checkpoint import same
from tests.multitask import fits
from tests.multitask.toys import Constant, engine, together

TARGETS = {"a": 1.0, "b": 3.0, "c": 8.0}


def trunk(fit):
    return [engine.model.trunk.w.item() for engine in fit.engines.values()]


def test_the_meta_update_is_the_mean_of_the_differences():
    start = torch.randn(50, dtype=torch.float64)
    ends = [torch.randn(50, dtype=torch.float64) for _ in range(4)]
    expected = start + 0.15 * sum(end - start for end in ends) / 4
    assert torch.allclose(meta_update(start, ends, 0.15), expected, rtol=0, atol=1e-15)


def test_what_no_task_moved_stays_bit_for_bit_and_one_task_with_gamma_1_gives_its_end():
    start, end = torch.randn(1000), torch.randn(1000)
    for gamma in (0.15, 0.5, 0.9, 1.0):
        assert torch.equal(meta_update(start, [start.clone() for _ in range(3)], gamma), start)
    assert torch.equal(meta_update(start, [end], 1.0), end)


def test_one_iteration_by_hand(tmp_path):
    """Losses (w - a)² with lr .05 are METHODS' ½(w - a)² with .1: gamma (1 - .9⁴) mean a."""
    engines = {name: engine(tmp_path / name, a) for name, a in TARGETS.items()}
    fit = together(tmp_path, {"reptile": {"epoch_iterations": 1, "inner_steps": 4}}, engines)
    assert fit.run() == "finished"
    assert trunk(fit) == pytest.approx([0.206340] * 3, abs=1e-6)
    assert pytest.approx(0.206340, abs=1e-6) == 0.15 * (1 - 0.9**4) * 4


def test_further_iterations_go_on_from_the_meta_update(tmp_path):
    engines = {name: engine(tmp_path / name, a) for name, a in TARGETS.items()}
    fit = together(tmp_path, {"reptile": {"epoch_iterations": 5, "inner_steps": 4}}, engines)
    fit.run()
    w = 0.0
    for _ in range(5):
        w += 0.15 * sum((a - (a - w) * 0.9**4) - w for a in TARGETS.values()) / 3
    assert trunk(fit) == pytest.approx([w] * 3, abs=1e-6)


def test_heads_keep_the_result_of_the_inner_steps(tmp_path):
    heads = {}
    for rate in (1.0, 0.25):
        engines = {n: engine(tmp_path / n, a, learned_head=True) for n, a in TARGETS.items()}
        options = {"epoch_iterations": 1, "inner_steps": 1, "head_gamma": rate}
        fit = together(tmp_path, {"reptile": options}, engines)
        fit.strategy.start(list(engines.values()))
        for each in engines.values():
            each.open(None)
            each.begin_epoch(new=True)
        fit.strategy.iterate(list(engines.values()), 0, 0)
        heads[rate] = [each.model.head.h.item() for each in engines.values()]
        for each in engines.values():
            each.close()
    assert heads[1.0] == pytest.approx([0.1, 0.3, 0.8])
    assert heads[0.25] == pytest.approx([0.025, 0.075, 0.2])


def test_opposite_gradients_select_no_trunk_but_both_heads(tmp_path):
    engines = {
        name: engine(
            tmp_path / name,
            0.0,
            Constant(g),
            methods.create("itps", beta=0.5, tau=0.75),
            learned_head=True,
        )
        for name, g in {"up": 1.0, "down": -1.0}.items()
    }
    fit = together(tmp_path, {"reptile": {"epoch_iterations": 6, "inner_steps": 1}}, engines)
    fit.run()
    assert trunk(fit) == [0.0, 0.0]
    for each, sign in zip(engines.values(), (-1, 1), strict=True):
        wrapper = each.optimizer
        assert [bool(s) for s in wrapper.selected_ever()] == [False, True]
        assert wrapper.accounting()[1].item() == sign * 3.0  # 6 steps of .5
        assert each.model.head.h.item() * sign > 0


def test_the_accounting_of_the_trunk_is_one(tmp_path):
    """The second task sees J as the first one left it, also after a checkpoint was loaded."""
    engines = {
        n: engine(tmp_path / n, 0.0, Constant(1.0), methods.create("itps", beta=0.5, tau=0.75))
        for n in ("one", "two")
    }
    fit = together(tmp_path, {"reptile": {"epoch_iterations": 1, "inner_steps": 1}}, engines)
    fit.run()
    accounts = [each.optimizer.accounting()[0] for each in engines.values()]
    assert accounts[0] is accounts[1]
    assert accounts[0].item() == -1.0
    # the first task's step (J = -.5) moved nothing, the second one's (J = -1) did
    assert trunk(fit) == pytest.approx([0.15 * -0.05 / 2] * 2)
    again = {
        n: engine(tmp_path / n, 0.0, Constant(1.0), methods.create("itps", beta=0.5, tau=0.75))
        for n in ("one", "two")
    }
    fit = together(tmp_path, {"reptile": {"epoch_iterations": 1, "inner_steps": 1}}, again, 2)
    fit.run()
    accounts = [each.optimizer.accounting()[0] for each in again.values()]
    assert accounts[0] is accounts[1]
    assert accounts[0].item() == -2.0


def test_the_accounting_is_one_also_where_the_trunk_was_frozen_at_the_checkpoint(tmp_path):
    def made():
        given = [{"freeze_trunk": {"epochs": 1}}, {"itps": {"tau": 0.0}}]
        return {
            n: engine(
                tmp_path / n,
                0.0,
                Constant(1.0),
                methods.compose(given),
                learned_head=True,
            )
            for n in ("one", "two")
        }

    strategy = {"reptile": {"epoch_iterations": 1, "inner_steps": 1}}
    together(tmp_path, strategy, made()).run()
    engines = made()
    together(tmp_path, strategy, engines, 2).run()
    accounts = [each.optimizer.accounting()[0] for each in engines.values()]
    assert accounts[0] is accounts[1]
    assert accounts[0].item() == pytest.approx(-0.2)  # both tasks' steps of .1, after the thaw


def test_a_trunk_is_kept_of_an_epoch_that_is_eligible_for_every_task(tmp_path):
    """Each epoch is worse than the one before; the second task lets only the second one count."""
    engines = {
        "one": engine(tmp_path / "one", 0.0, Constant(1.0), NotBefore(0), max_epochs=3),
        "two": engine(tmp_path / "two", 0.0, Constant(1.0), NotBefore(1), max_epochs=3),
    }
    strategy = {"reptile": {"epoch_iterations": 1, "inner_steps": 1}}
    fit = together(tmp_path, strategy, engines, 3)
    fit.run()
    assert [each.best.epoch for each in engines.values()] == [0, 1]
    assert fit.best.epoch == 1
    assert load_yaml(tmp_path / "trunk.yaml")["epoch"] == 1


# --- on a store -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_tau_0_is_reptile_bit_for_bit(store, tmp_path, model):
    found = {}
    for name, given in {"plain": [], "itps": [{"itps": {"tau": 0.0}}]}.items():
        fit = fits.multi("reptile", given, model=model, tasks=("phenotyping", "decompensation"))
        multitask.train(fit, store, tmp_path / name)
        found[name] = [load_state(tmp_path / name / t / BEST)["model"] for t in fit.tasks]
        found[name].append(load_state(tmp_path / name / "trunk.safetensors"))
    assert same(found["plain"], found["itps"])


@pytest.mark.parametrize("methods", [[], [{"dropout": {"rate": 0.3}}, {"itps": {"tau": 1e-3}}]])
def test_one_task_with_gamma_1_is_plain_training_bit_for_bit(store, tmp_path, monkeypatch, methods):
    fit = fits.multi(
        {"reptile": {"gamma": 1.0, "epoch_iterations": 4, "inner_steps": 3}},
        methods,
        tasks=("in_hospital_mortality",),
    )
    multitask.train(fit, store, tmp_path / "reptile")

    make = deep.make_trainer

    def with_betas(*given, **named):
        trainer = make(*given, **named)
        for group in trainer.optimizer.param_groups:
            group["betas"] = (0.0, 0.999)
        return trainer

    monkeypatch.setattr(deep, "make_trainer", with_betas)
    fitting.train(fit.trials[0], store, tmp_path / "plain")
    own = tmp_path / "reptile" / "in_hospital_mortality"
    assert same(load_state(own / BEST)["model"], load_state(tmp_path / "plain" / BEST)["model"])
    assert fits.history(own) == fits.history(tmp_path / "plain")
    assert read_scores(own) == read_scores(tmp_path / "plain")


def test_tasks_are_drawn_for_each_iteration():
    strategy = reptile.build(epoch_iterations=200, num_tasks=2)
    drawn = strategy.draw(3, seed=0, epoch=0)
    assert drawn == strategy.draw(3, seed=0, epoch=0)
    assert drawn != strategy.draw(3, seed=0, epoch=1)
    assert drawn != strategy.draw(3, seed=1, epoch=0)
    assert all(len(set(tasks)) == 2 for tasks in drawn)
    shares = [sum(task in tasks for tasks in drawn) / 200 for task in range(3)]
    assert all(0.55 < share < 0.78 for share in shares)
    assert strategy.epoch_steps(3) == 200 * 10 * 2 // 3 + 1
    assert reptile.build().epoch_steps(3) == 1000


def test_a_task_that_was_not_drawn_in_an_epoch_is_still_validated(store, tmp_path):
    options = {"epoch_iterations": 1, "inner_steps": 2, "num_tasks": 1}
    fit = fits.multi({"reptile": options}, [], max_epochs=3)
    assert multitask.train(fit, store, tmp_path / "fit").status == "finished"
    rows = [fits.epochs(tmp_path / "fit" / task) for task in fit.tasks]
    assert all(len(of_task) == 3 for of_task in rows)
    assert sum(row["loss"] is not None for of_task in rows for row in of_task) == 3
    assert sum(of_task[-1]["step"] for of_task in rows) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 0.0}, "gamma must be above 0"),
        ({"head_gamma": 1.5}, "head_gamma must be above 0 and at most 1"),
        ({"inner_steps": 0}, "inner_steps must be at least 1"),
        ({"beta1": 1.0}, "beta1 must be"),
        ({"num_tasks": 4}, "num_tasks is 4, but there are only 2 tasks"),
        ({"num_tasks": 0}, "num_tasks must be at least 1"),
        ({"gama": 0.1}, "no option 'gama'. Did you mean 'gamma'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        resolve_multi(
            {
                "strategy": {"reptile": options},
                "trials": [{"task": t, "model": "lstm"} for t in ("phenotyping", "decompensation")],
            }
        )
