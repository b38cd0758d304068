"""Self-supervised training: what it sees, what is hidden, and that its trunk is one like others."""

import sys

import polars as pl
import pytest
import torch
from torch.nn import functional as F

from mimic_reg import cli
from mimic_reg.cli import application
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.engine.trainer import Trainer
from mimic_reg.errors import InputError
from mimic_reg.learners.trunk import load_trunk
from mimic_reg.multitask.finetune import Plan, finetune
from mimic_reg.multitask.pretext import (
    Cells,
    contrastive_losses,
    find_cells,
    hide,
    measured,
    window,
)
from mimic_reg.multitask.pretrain import compose, pretrain
from mimic_reg.runs import BEST
from mimic_reg.samples.unlabelled import load_unlabelled
from mimic_reg.settings import Component
from mimic_reg.store import Store
from tests.engine.test_checkpoint import same

TASK = "in_hospital_mortality"
OBJECTIVES = ("masked", "contrastive")


def settings(objective="masked", model=None, **given):
    training = {"max_epochs": 2, "batch_size": 8, "normalizer": "fitted", "learning_rate": 0.01}
    training |= given.pop("training", {})
    found = compose(TASK, "lstm", objective=objective, training=training, **given)
    model = model or {"lstm": {"units": 4}}
    return found.model_copy(update={"model": Component.model_validate(model)})


# --- what it sees ---------------------------------------------------------------------------------


def test_it_sees_training_stays_only_each_once(store):
    opened = Store.open(store)
    task = opened.spec.task(TASK)
    train, held_out = load_unlabelled(opened, task, normalizer="fitted")
    splits = pl.concat(
        opened.read(f"tasks/{name}.parquet").select("icustay_id", "split")
        for name in opened.spec.task_names
    ).unique()
    expected = splits.filter(pl.col("split") == "train")["icustay_id"].sort().to_list()
    ids = opened.read("hourly.parquet")["icustay_id"].unique().sort().to_numpy()
    seen = [ids[part.unit.numpy()].tolist() for part in (train, held_out)]
    assert sorted(seen[0] + seen[1]) == expected
    assert not set(train.subject) & set(held_out.subject)
    assert len(set(held_out.subject)) == max(
        1, round(0.1 * len({*train.subject, *held_out.subject}))
    )
    assert (train.length == 48).all()  # the task's hours
    phenotyping = opened.spec.task("phenotyping")
    whole, _ = load_unlabelled(opened, phenotyping, normalizer="fitted")
    hours = opened.read("hourly.parquet").group_by("icustay_id").len().sort("icustay_id")["len"]
    assert (whole.length.numpy() == hours.to_numpy()[whole.unit.numpy()]).all()


def test_labels_are_not_read(store):
    train, held_out = load_unlabelled(
        Store.open(store), Store.open(store).spec.task(TASK), normalizer="fitted"
    )
    assert not train.label.any()
    assert not held_out.label.any()


# --- what is hidden -------------------------------------------------------------------------------

CELLS = Cells(torch.tensor([0, 2]), torch.tensor([1, -1]))  # with a flag of measurement, without


def test_a_hidden_value_is_also_out_of_the_hours_into_which_it_was_carried():
    values = torch.tensor([9.0, 1, 1, 2, 2, 3])  # measured at hours 1, 3, 5
    flags = torch.tensor([0.0, 1, 0, 1, 0, 1])
    x = torch.stack([values, flags, torch.arange(6.0)], 1)[None]
    seen = measured(x, torch.tensor([5]), CELLS)
    assert seen[0, :, 0].tolist() == [False, True, False, True, False, False]  # 5 hours are valid
    assert seen[0, :, 1].tolist() == [True] * 5 + [False]
    hidden = torch.zeros_like(seen)
    hidden[0, 3, 0] = hidden[0, 0, 1] = hidden[0, 2, 1] = True
    new = hide(x, seen, hidden, CELLS)
    assert new[0, :5, 0].tolist() == [9, 1, 1, 1, 1]
    assert new[0, :5, 1].tolist() == [0, 1, 0, 0, 0]
    assert new[0, :5, 2].tolist() == [0, 1, 1, 3, 4]  # nothing before the first: the mean
    assert torch.equal(hide(x, seen, hidden & False, CELLS)[0, :5], x[0, :5])
    assert x[0, 3, 0] == 2, "in a copy"


def test_every_measured_variable_of_the_benchmark_has_a_cell(store):
    channels = Store.open(store).spec.channels
    cells = find_cells(channels)
    for value, flag in zip(cells.value.tolist(), cells.observed.tolist(), strict=True):
        assert channels[value].kind == "continuous"
        assert channels[flag].kind == "observed"
        assert channels[value].variable == channels[flag].variable
    plain = [c for c in channels if c.kind == "continuous"]
    assert find_cells(plain).observed.tolist() == [-1] * len(plain)
    with pytest.raises(InputError, match="needs continuous channels"):
        find_cells([c for c in channels if c.kind != "continuous"])


def test_a_window_is_half_to_all_of_a_stay():
    x = torch.arange(40.0).view(4, 10, 1)
    lengths = torch.tensor([10, 1, 5, 2])
    generator = torch.Generator().manual_seed(0)
    found = set()
    for _ in range(300):
        cut, length = window(x, lengths, generator)
        assert ((length >= (lengths + 1) // 2) & (length <= lengths)).all()
        for row, stay, n, longest in zip(cut, x, length, lengths, strict=True):
            first = int(row[0, 0] - stay[0, 0])
            assert first + n <= longest
            assert torch.equal(row[:n], stay[first : first + n])
            assert not row[n:].any()
        found.add(int(length[0]))
    assert found == set(range(5, 11))


def test_views_of_one_stay_must_be_more_alike_than_of_two():
    a = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    expected = F.softplus(torch.tensor(-1 / 0.1)).item()
    assert contrastive_losses(a, 3 * a, 0.1).tolist() == pytest.approx([expected] * 2, rel=1e-3)
    assert contrastive_losses(a, a.flip(0), 0.1).min() > 9


# --- the fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_interrupted_pretraining_ends_bit_for_bit_like_an_uninterrupted_one(
    objective, store, tmp_path, monkeypatch
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert pretrain(settings(objective), store, whole) == "finished"

    step, count = Trainer.step, [0]

    def stopped(self, *, last):
        step(self, last=last)
        count[0] += 1
        self.interrupted = count[0] == 4

    monkeypatch.setattr(Trainer, "step", stopped)
    assert pretrain(settings(objective), store, cut) == "interrupted"
    assert not (cut / "trunk.yaml").exists()
    assert pretrain(settings(objective), store, cut) == "finished"
    assert same(load_state(whole / BEST)["model"], load_state(cut / BEST)["model"])
    assert load_trunk(whole).fingerprint == load_trunk(cut).fingerprint
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.name != ".lock"}
    assert pretrain(settings(objective), store, whole) == "skipped"
    assert before == {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.name != ".lock"}
    with pytest.raises(InputError, match="holds another pretraining"):
        pretrain(settings(objective, seed=1), store, whole)


def test_its_loss_falls(store, tmp_path):
    from mimic_reg.runs import HISTORY, read_history

    pretrain(settings(training={"max_epochs": 6}), store, tmp_path)
    rows = [r for r in read_history(tmp_path / HISTORY) if r["event"] == "epoch"]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert (
        min(r["validation"]["root_mean_squared_error"] for r in rows[1:])
        < rows[0]["validation"]["root_mean_squared_error"]
    )


def test_from_a_trunk_without_labels_to_a_fine_tuned_task(store, tmp_path, capsys, monkeypatch):
    model = tmp_path / "small.yaml"
    model.write_text("transformer: {blocks: 1, heads: 1, key_size: 8, filters: 2, dense: 8}\n")
    trunks = [tmp_path / objective for objective in OBJECTIVES]
    for objective, out in zip(OBJECTIVES, trunks, strict=True):
        words = ["mimic-reg", "pretrain", "--store", store, "--task", "phenotyping"]
        words += ["--model", model, "--objective", objective, "--out", out]
        words += ["--set", "training.max_epochs=1"]
        words = list(map(str, words))
        monkeypatch.setattr(sys, "argv", words)
        code = application.run(lambda words=words: cli.app(words[1:], standalone_mode=False))
        told = capsys.readouterr()
        assert code == 0, told.err
        assert "training stays without labels" in " ".join(told.err.split())
    trunk = load_trunk(trunks[0])
    assert trunk.tasks == ()
    assert trunk.origin == "masked pretraining on all training stays"
    training = {"max_epochs": 1, "epoch_steps": 2, "normalizer": "fitted"}
    plan = Plan(task=TASK, samples=(20,), seeds=1, training=training)
    runs = finetune(plan, trunks, store, tmp_path / "tuned")
    assert len(runs) == 3


def test_wrong_requests_are_refused(store, tmp_path):
    with pytest.raises(InputError, match="objective"):
        compose(TASK, "lstm", objective="rotated")
    with pytest.raises(InputError, match="rate"):
        compose(TASK, "lstm", rate=1.0)
    with pytest.raises(InputError, match="model dnn is for images"):
        pretrain(settings(model={"dnn": {}}), store, tmp_path / "dnn")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"not empty: it holds notes\.txt"):
        pretrain(settings(), store, tmp_path / "other")
