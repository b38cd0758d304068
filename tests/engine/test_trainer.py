"""The training loop: what a step is, what a checkpoint holds, what stops a fit."""

import re
from itertools import chain
from pathlib import Path

import pytest
import torch

import mimic_reg.engine.trainer as engine
from mimic_reg import methods, tasks
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.engine.optimizers import make_optimizer
from mimic_reg.engine.recorder import read_history
from mimic_reg.engine.trainer import Trainer
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.methods.base import Composite, Regulariser
from mimic_reg.metrics.scores import Score, score
from mimic_reg.models.base import loss_of
from mimic_reg.runs import BEST, CHECKPOINT, HISTORY
from mimic_reg.samples import load
from mimic_reg.seeds import Streams
from mimic_reg.settings import Training, module_names
from mimic_reg.store import Store
from tests.engine.methods import (
    Averaging,
    Busy,
    Killed,
    KilledAt,
    KilledBeforeValidation,
    NotBefore,
    Poison,
    RandomWeights,
    Scaled,
    SpoiledLast,
    Spy,
    StopsAfter,
)
from tests.engine.test_checkpoint import same
from tests.networks import create
from tests.stores import write_store

TASK = tasks.get("decompensation")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = write_store(tmp_path_factory.mktemp("store"), num_subjects=25, hours=(20, 26))
    return load(Store.open(folder), TASK, normalizer="fitted")


def build(samples, folder, *methods, seed=0, selected_by="auroc", seconds=300.0, **training):
    folder.mkdir(exist_ok=True)
    streams = Streams(seed, "decompensation")
    settings = {"max_epochs": 3, "epoch_steps": 7, "batch_size": 16, **training}
    return Trainer(
        create("lstm", 1, generator=streams.init(), units=4),
        Composite(methods),
        samples["train"],
        samples["val"],
        num_outputs=1,
        selected_by=selected_by,
        training=Training(**settings),
        streams=streams,
        folder=folder,
        checkpoint_seconds=seconds,
    )


def history(folder):
    return [{k: v for k, v in r.items() if k != "cost"} for r in read_history(folder / HISTORY)]


def final(trainer):
    state = trainer.state_dict_of_the_end
    return {k: v for k, v in state.items() if k != "recorder"}


def run(trainer):
    status = trainer.run()
    trainer.state_dict_of_the_end = load_state(trainer.folder / CHECKPOINT)
    return status


@pytest.fixture(scope="module")
def uninterrupted(samples, tmp_path_factory):
    trainer = build(samples, tmp_path_factory.mktemp("run"), Busy())
    assert run(trainer) == "finished"
    return trainer


@pytest.mark.parametrize("seconds", [0.0, 300.0], ids=["saved every step", "saved every epoch"])
@pytest.mark.parametrize("step", [1, 5, 7, 8, 14, 18, 21])
def test_killed_at_any_step_ends_as_the_uninterrupted(
    samples, uninterrupted, tmp_path, step, seconds
):
    with pytest.raises(Killed):
        build(samples, tmp_path, Busy(), KilledAt(step), seconds=seconds).run()
    resumed = build(samples, tmp_path, Busy(), Regulariser(), seconds=seconds)
    assert run(resumed) == "finished"
    expected = final(uninterrupted)
    got = final(resumed)
    got["method"] = {"0": got["method"]["0"]}
    assert same(got, expected)
    assert history(tmp_path) == history(uninterrupted.folder)
    best, expected_best = load_state(tmp_path / BEST), load_state(uninterrupted.folder / BEST)
    assert same(best["model"], expected_best["model"])


def test_killed_in_bfloat16_it_ends_as_the_uninterrupted(samples, tmp_path):
    whole = build(samples, tmp_path / "whole", precision="bfloat16")
    assert run(whole) == "finished"
    with pytest.raises(Killed):
        build(samples, tmp_path / "run", KilledAt(5), seconds=0.0, precision="bfloat16").run()
    resumed = build(samples, tmp_path / "run", Regulariser(), seconds=0.0, precision="bfloat16")
    assert run(resumed) == "finished"
    assert same(final(resumed)["model"], final(whole)["model"])


@pytest.mark.parametrize("step", [1, 6, 7, 10])
def test_interrupted_after_any_step_ends_as_the_uninterrupted(
    samples, uninterrupted, tmp_path, step
):
    trainer = build(samples, tmp_path, Busy())
    tick = trainer.method.tick

    def interrupt(event, fit):
        tick(event, fit)
        trainer.interrupted |= event == "step" and fit.step == step

    trainer.method.tick = interrupt
    assert run(trainer) == "interrupted"
    assert trainer.fit.step == step
    resumed = build(samples, tmp_path, Busy())
    assert run(resumed) == "finished"
    assert same(final(resumed), final(uninterrupted))
    assert history(tmp_path) == history(uninterrupted.folder)


def test_interrupted_during_validation_loses_nothing(samples, uninterrupted, tmp_path):
    trainer = build(samples, tmp_path, Busy())
    trainer.progress.note = lambda text: setattr(trainer, "interrupted", True)
    assert run(trainer) == "interrupted"
    assert (trainer.fit.epoch, trainer.fit.step) == (1, 7)
    resumed = build(samples, tmp_path, Busy())
    assert run(resumed) == "finished"
    assert same(final(resumed), final(uninterrupted))


def test_a_step_is_that_of_a_bare_loop(samples, tmp_path):
    trainer = build(samples, tmp_path, max_epochs=2)
    run(trainer)
    streams = Streams(0, "decompensation")
    model = create("lstm", 1, generator=streams.init(), units=4)
    optimizer = make_optimizer(model, Training())
    steps = [
        index
        for number in range(2)
        for index in samples["train"].training_order(16, streams.batches(number)).split(16)
    ]
    for index in steps[:14]:
        batch = samples["train"].gather(index)
        optimizer.zero_grad()
        loss_of("binary", model(batch.x, batch.lengths), batch.y).mean().backward()
        optimizer.step()
    assert same(dict(model.state_dict()), load_state(tmp_path / CHECKPOINT)["model"])


def test_ticks_come_in_order(uninterrupted):
    calls = uninterrupted.method.members[0].calls
    assert calls[:10] == [
        ("epoch_start", 0, 0, False),
        *(("step", 0, s, False) for s in range(1, 8)),
        ("before_validation", 0, 7, False),
        ("epoch_end", 0, 7, True),
    ]
    assert calls[10] == ("epoch_start", 1, 7, True)
    assert len(calls) == 3 * 10


def test_the_mean_of_the_weights_holds_the_epoch_that_is_validated(samples, tmp_path):
    first = build(samples, tmp_path / "first", Averaging(), max_epochs=1)
    run(first)
    plain = build(samples, tmp_path / "plain", max_epochs=1)
    run(plain)
    assert (first.predict(samples["test"]) == plain.predict(samples["test"])).all()
    mean = build(samples, tmp_path / "mean", Averaging(), max_epochs=2)
    run(mean)
    again = build(samples, tmp_path / "again", max_epochs=2)
    run(again)
    for name, p in again.model.named_parameters():
        expected = (dict(plain.model.named_parameters())[name] + p) / 2
        assert torch.allclose(mean.method.members[0].mean[name], expected, atol=1e-7)
    assert history(tmp_path / "mean")[1] == history(tmp_path / "plain")[1]
    assert history(tmp_path / "mean")[-1] != history(tmp_path / "again")[-1]


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("method", [Averaging, Scaled])
def test_killed_between_last_step_and_validation_ends_as_the_uninterrupted(
    samples, tmp_path, method, epoch
):
    whole = build(samples, tmp_path / "whole", method(), Regulariser())
    run(whole)
    methods = method(), KilledBeforeValidation(epoch)
    with pytest.raises(Killed):
        build(samples, tmp_path / "killed", *methods, seconds=0.0).run()
    assert load_state(tmp_path / "killed" / CHECKPOINT)["fit"]["step"] == 7 * (epoch + 1)
    resumed = build(samples, tmp_path / "killed", method(), Regulariser())
    run(resumed)
    assert same(final(resumed), final(whole))
    assert history(tmp_path / "killed") == history(tmp_path / "whole")


def test_a_method_may_choose_by_the_validation_samples(samples, tmp_path):
    trainer = build(samples, tmp_path / "scaled", Scaled(), learning_rate=0.05)
    run(trainer)
    assert trainer.method.members[0].chosen == -1.0
    plain = build(samples, tmp_path / "plain", learning_rate=0.05)
    run(plain)
    rows = [history(tmp_path / name)[-1]["validation"]["auroc"] for name in ("scaled", "plain")]
    assert rows[0] == pytest.approx(1 - rows[1])


def test_an_epoch_that_is_not_eligible_is_not_selected(samples, tmp_path):
    patience = methods.create("early_stopping", patience=1)
    trainer = build(samples, tmp_path, NotBefore(2), patience, max_epochs=9, selected_by="auprc")
    run(trainer)
    rows = [r for r in history(tmp_path) if r["event"] == "epoch"]
    assert [r["best_epoch"] for r in rows[:3]] == [None, None, 2]
    values = [r["validation"]["auprc"] for r in rows[2:]]
    assert trainer.best.epoch == 2 + values.index(max(values))
    assert trainer.fit.epoch >= 4
    never = build(samples, tmp_path / "never", NotBefore(3))
    run(never)
    assert not (tmp_path / "never" / BEST).exists()
    with pytest.raises(InputError, match="no epoch was eligible"):
        never.load_best()


def test_an_epoch_that_has_learned_is_selected_before_all_that_have_not(samples, tmp_path):
    """The first epochs are not better than a constant prediction, whatever they score."""
    shares = {0: -2.0, 1: 0.0, 2: 0.02, 3: 0.02, 4: 0.0}
    scored = {0: 0.9, 1: 0.95, 2: 0.5, 3: 0.6, 4: 0.99}

    class Given(Regulariser):
        def tick(self, event, fit):
            if event == "before_validation":
                fit.explained = shares[fit.epoch]

    def fit(folder, epochs):
        stopping = methods.create("early_stopping", patience=9)
        trainer = build(samples, folder, Given(), stopping, max_epochs=epochs)
        with pytest.MonkeyPatch.context() as patch:
            names = ("auroc", "brier")

            def given(*_):
                return {n: Score(scored[trainer.fit.epoch]) for n in names}

            patch.setattr(engine, "score", given)
            trainer.run()
        return trainer.best

    assert fit(tmp_path / "learns", 5) == engine.Best(3, 0.6, learned=True)
    assert fit(tmp_path / "never", 2) == engine.Best(1, 0.95, learned=False)


def test_the_share_of_the_constant_prediction_s_loss_is_that_of_the_same_batches(samples, tmp_path):
    spy = Spy()
    trainer = build(samples, tmp_path, spy, max_epochs=2, learning_rate=1e-9, epoch_steps=5)
    trainer.run()
    train = samples["train"]
    model = create("lstm", 1, generator=Streams(0, "decompensation").init(), units=4)
    prevalence = train.label.double().mean()
    data, constant = [], []
    for indices in spy.indices[5:]:
        batch = train.gather(torch.tensor(indices))
        with torch.no_grad():
            data.append(loss_of("binary", model(batch.x, batch.lengths), batch.y).mean())
        logits = prevalence.logit().float().expand(len(batch.y), 1)
        constant.append(loss_of("binary", logits, batch.y).mean())
    row = [r for r in read_history(tmp_path / HISTORY) if r["event"] == "epoch"][1]
    assert row["data_loss"] == pytest.approx(sum(data).item() / 5, rel=1e-5)
    assert row["explained"] == pytest.approx(1 - (sum(data) / sum(constant)).item(), rel=1e-4)
    assert row["explained"] == trainer.fit.explained
    assert row["parameters"] == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_penalties_do_not_count_as_explained(samples, tmp_path):
    class Penalty(Regulariser):
        def loss(self, loss, step, fit):
            return loss + 5.0

    for name, given in (("plain", ()), ("penalty", (Penalty(),))):
        build(samples, tmp_path / name, *given, max_epochs=1).run()
    plain, penalty = (read_history(tmp_path / n / HISTORY)[-1] for n in ("plain", "penalty"))
    assert penalty["explained"] == pytest.approx(plain["explained"], rel=1e-4)
    assert penalty["loss"] == pytest.approx(plain["loss"] + 5, rel=1e-5)
    assert plain["loss"] == plain["data_loss"]


def test_moving_random_weights_to_the_device_draws_nothing(samples, tmp_path):
    trainer = build(samples, tmp_path, RandomWeights())
    prepared = trainer.method.members[0].stream
    assert torch.equal(trainer.fit.generator.get_state(), prepared)
    trainer.run()
    assert not torch.equal(trainer.fit.generator.get_state(), prepared)


def test_methods_share_weights_and_batches_over_two_passes(samples, tmp_path):
    spies = Spy(), Spy(), Spy()
    for spy, given, seed in zip(spies, [[], [Busy()], []], [0, 0, 1], strict=True):
        trainer = build(
            samples,
            tmp_path / str(id(spy)),
            spy,
            *given,
            seed=seed,
            epoch_steps=None,
            max_epochs=2,
        )
        trainer.run()
        assert trainer.fit.step == 2 * trainer.pass_steps
    plain, busy, other_seed = spies
    assert plain.indices == busy.indices
    assert same(plain.start, busy.start)
    assert plain.indices != other_seed.indices
    assert not same(plain.start, other_seed.start)
    half = len(plain.indices) // 2
    first, second = (list(chain(*p)) for p in (plain.indices[:half], plain.indices[half:]))
    assert sorted(first) == sorted(second) == list(range(len(samples["train"])))
    assert first != second


def test_the_epoch_with_the_best_validation_score_is_kept(samples, tmp_path):
    trainer = build(samples, tmp_path, Busy(), max_epochs=5, learning_rate=0.05)
    run(trainer)
    rows = [r for r in history(tmp_path) if r["event"] == "epoch"]
    values = [r["validation"]["auroc"] for r in rows]
    assert trainer.best.epoch == values.index(max(values))  # the first best wins ties
    assert rows[-1]["best_epoch"] == trainer.best.epoch
    trainer.load_best()
    label = samples["val"].label.numpy()
    assert score("binary", label, trainer.predict(samples["val"]))["auroc"].value == max(values)


def test_a_score_may_be_better_if_lower(samples, tmp_path):
    trainer = build(samples, tmp_path, selected_by="brier")
    run(trainer)
    values = [r["validation"]["brier"] for r in history(tmp_path) if r["event"] == "epoch"]
    assert trainer.best.epoch == values.index(min(values))
    assert trainer.best.score == -min(values)


def test_prediction_is_in_the_order_of_the_samples_and_changes_nothing(samples, uninterrupted):
    before = {n: p.clone() for n, p in uninterrupted.model.state_dict().items()}
    predictions = uninterrupted.predict(samples["test"])
    assert same(before, dict(uninterrupted.model.state_dict()))
    assert (predictions == uninterrupted.predict(samples["test"])).all()
    for i in (0, 3, len(samples["test"]) - 1):
        batch = samples["test"].gather(torch.tensor([i]))
        with torch.no_grad():
            alone = uninterrupted.model(batch.x, batch.lengths).sigmoid()
        assert predictions[i, 0] == pytest.approx(alone.item(), abs=1e-6)


def test_a_method_can_end_the_fit(samples, tmp_path):
    trainer = build(samples, tmp_path, StopsAfter(1), max_epochs=9)
    assert run(trainer) == "finished"
    assert trainer.fit.epoch == 2
    assert history(tmp_path)[-1]["stop_reason"] == "enough"
    again = build(samples, tmp_path, StopsAfter(1), max_epochs=9)
    assert again.run() == "finished"
    assert again.fit.step == 14


@pytest.mark.parametrize("seconds", [0.0, 300.0])
def test_a_loss_that_is_not_a_number_stops_before_a_checkpoint_is_lost(samples, tmp_path, seconds):
    with pytest.raises(MimicRegError, match=r"loss became nan .* diverged"):
        build(samples, tmp_path, Poison(10), seconds=seconds).run()
    state = load_state(tmp_path / CHECKPOINT)
    assert all(value.isfinite().all() for value in state["model"].values())
    assert history(tmp_path)[-1]["event"] == "failed"


def test_predictions_that_are_not_numbers_are_a_divergence_too(samples, tmp_path):
    trainer = build(samples, tmp_path, SpoiledLast(1), learning_rate=0.02)
    with pytest.raises(MimicRegError, match=r"nan in the steps up to 14 .* learning rate \(0.02\)"):
        trainer.run()
    assert load_state(tmp_path / CHECKPOINT)["fit"]["epoch"] == 1


def test_an_undefined_validation_score_is_reported(samples, tmp_path):
    negatives = (samples["val"].label[:, 0] == 0).nonzero()[:, 0].numpy()
    one_class = {**samples, "val": samples["val"].keep(negatives)}
    with pytest.raises(InputError, match=r"auroc is undefined: all .* = 0"):
        build(one_class, tmp_path).run()


def test_history_is_monitored(uninterrupted):
    rows = read_history(uninterrupted.folder / HISTORY)
    steps = [r for r in rows if r["event"] == "steps"]
    assert [r["step"] for r in steps] == [7, 14, 21]
    for row in steps:
        assert row["gradient_norm"] > row["applied_gradient_norm"] > 0
        assert row["recorded"]["noise"] > 0
        assert row["cost"]["seconds_per_step"] > 0
    epochs = [r for r in rows if r["event"] == "epoch"]
    assert [r["epoch"] for r in epochs] == [0, 1, 2]
    assert epochs[0]["cost"]["peak_memory_bytes"] > 1e6
    assert epochs[0]["loss"] == pytest.approx(steps[0]["loss"])


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adagrad"])
def test_optimisers(samples, tmp_path, optimizer):
    trainer = build(samples, tmp_path, optimizer=optimizer, max_epochs=1)
    assert type(trainer.optimizer).__name__.lower() == optimizer
    assert run(trainer) == "finished"


def test_batches_of_similar_lengths(samples, tmp_path):
    trainer = build(samples, tmp_path, by_length=True, max_epochs=1)
    assert run(trainer) == "finished"


def test_the_engine_names_no_task_model_or_method():
    source = Path(engine.__file__).read_text("utf-8")
    for package in ("tasks", "models", "methods", "probes"):
        for name in module_names(f"mimic_reg.{package}"):
            assert not re.search(rf"\b{name}\b", source), name
