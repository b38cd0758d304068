"""Settings of training steps: schedules, weight decay, clipping, class weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.optim import Adam

from mimic_reg import methods
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.engine.optimizers import make_optimizer
from mimic_reg.engine.schedule import Schedule
from mimic_reg.errors import InputError
from mimic_reg.learners.trials import compose_trial
from mimic_reg.methods.base import Regulariser
from mimic_reg.models.base import balanced_weights, constant_logits, loss_of
from mimic_reg.multitask.trials import compose_multi
from mimic_reg.runs import CHECKPOINT
from mimic_reg.seeds import Streams
from mimic_reg.settings import Training
from mimic_reg.settings.trial import RECIPE
from tests.engine.methods import Killed, KilledAt
from tests.engine.test_checkpoint import same
from tests.engine.test_trainer import build, final, history, run
from tests.engine.test_trainer import samples as samples
from tests.networks import create

COSINE = {"schedule": "cosine", "warmup_epochs": 1, "weight_decay": 0.1, "clip_norm": 0.05}
COSINE |= {"class_weights": "balanced"}
PLATEAU = {"schedule": "plateau", "plateau_patience": 1, "learning_rate": 0.05}


def test_without_a_recipe_nothing_is_new(samples, tmp_path):
    plain = Training().model_dump()
    assert not {*RECIPE, "plateau_factor", "plateau_patience"} & plain.keys()
    trainer = build(samples, tmp_path)
    assert type(trainer.optimizer) is Adam
    assert trainer.fit.class_weights is None
    assert not trainer.schedule.active
    assert trainer.schedule.state_dict() == {}
    chosen = Training(**PLATEAU).model_dump()
    assert (chosen["plateau_factor"], chosen["plateau_patience"]) == (0.5, 1)


def test_rates_by_hand():
    def rates(**training):
        settings = Training(learning_rate=0.8, **training)
        schedule = Schedule(torch.optim.SGD([torch.zeros(1)], lr=0.8), settings)
        return [schedule.rate(0.8, step, 2) for step in range(2 * settings.max_epochs)]

    down = [0.8, 0.4 + 0.4 / math.sqrt(2), 0.4, 0.4 - 0.4 / math.sqrt(2)]
    assert rates(schedule="cosine", max_epochs=2) == pytest.approx(down)
    warm = rates(schedule="cosine", warmup_epochs=2, max_epochs=4)
    assert warm == pytest.approx([0.2, 0.4, 0.6, 0.8, *down])
    assert rates(warmup_epochs=1, max_epochs=2) == pytest.approx([0.4, 0.8, 0.8, 0.8])


def test_a_plateau_lowers_the_rate_once_the_model_has_learned(samples, tmp_path):
    schedule = Schedule(torch.optim.SGD([torch.zeros(1)], lr=1.0), Training(**PLATEAU))
    fit = build(samples, tmp_path).fit
    for score, learned, factor in (
        (0.9, False, 1),
        (0.5, True, 1),
        (0.5, True, 0.5),
        (0.6, True, 0.5),
        (0.6, True, 0.25),
    ):
        fit.score, fit.learned = score, learned
        schedule.end_epoch(fit)
        assert schedule.factor == factor


def test_class_weights_by_hand():
    rare = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    weights = balanced_weights("binary", rare, 1)
    assert torch.allclose(weights, torch.tensor([[2 / 3], [2.0]]))
    assert constant_logits("binary", rare, 1, weights) == pytest.approx(0, abs=1e-6)
    logits = torch.randn(4, 1)
    assert torch.allclose(
        loss_of("binary", logits, rare, weights),
        F.binary_cross_entropy_with_logits(logits, rare, reduction="none")[:, 0]
        * torch.tensor([2.0, 2 / 3, 2 / 3, 2 / 3]),
    )
    # a label that all samples have cannot be balanced; an absent class keeps its weight
    both = torch.cat([rare, torch.ones(4, 1)], 1)
    assert torch.allclose(balanced_weights("multilabel", both, 2)[:, 1], torch.ones(2))
    classes = torch.tensor([0, 0, 0, 2])
    weights = balanced_weights("multiclass", classes, 3)
    assert torch.allclose(weights, torch.tensor([2 / 3, 1.0, 2.0]))
    loss = loss_of("multiclass", logits.expand(4, 3), classes, weights)
    assert torch.allclose(loss, math.log(3) * weights[classes])
    soft = F.one_hot(classes, 3).float()
    assert torch.allclose(loss_of("multiclass", logits.expand(4, 3), soft, weights), loss)
    with pytest.raises(InputError, match="regression has no classes"):
        balanced_weights("regression", rare, 1)


def test_a_recipe_is_that_of_a_bare_loop(samples, tmp_path):
    """Clipping, then AdamW on weight matrices, with the learning rate of the step."""
    trainer = build(samples, tmp_path, max_epochs=2, **COSINE)
    run(trainer)
    streams, train = Streams(0, "decompensation"), samples["train"]
    model = create("lstm", 1, generator=streams.init(), units=4)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups)
    weights = balanced_weights("binary", train.label, 1)
    steps = [
        index
        for number in range(2)
        for index in train.training_order(16, streams.batches(number)).split(16)
    ]
    for number, index in enumerate(steps[:14]):
        for group in optimizer.param_groups:
            cosine = (1 + math.cos(math.pi * (number - 7) / 7)) / 2
            group["lr"] = 1e-3 * ((number + 1) / 7 if number < 7 else cosine)
        batch = train.gather(index)
        optimizer.zero_grad()
        logits = model(batch.x, batch.lengths)
        loss_of("binary", logits, batch.y, weights).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
    for name, value in load_state(tmp_path / CHECKPOINT)["model"].items():
        assert torch.allclose(value, model.state_dict()[name], atol=1e-6), name
    steps = [row for row in history(tmp_path) if row["event"] == "steps"]
    assert all(row["applied_gradient_norm"] <= 0.0501 < row["gradient_norm"] for row in steps)


@pytest.mark.parametrize("recipe", [COSINE, PLATEAU], ids=["cosine", "plateau"])
@pytest.mark.parametrize("entries", [[{"itps": {"tau": 1e-4}}], ["swa"]], ids=["itps", "swa"])
def test_resumed_is_uninterrupted(samples, tmp_path, recipe, entries):
    def trainer(folder, last):
        folder.mkdir(exist_ok=True)
        return build(samples, folder, *methods.compose(entries).members, last, seconds=0, **recipe)

    whole = trainer(tmp_path / "whole", Regulariser())
    assert run(whole) == "finished"
    for step in (5, 15):
        folder = tmp_path / str(step)
        with pytest.raises(Killed):
            trainer(folder, KilledAt(step)).run()
        resumed = trainer(folder, Regulariser())
        assert run(resumed) == "finished"
        assert same(final(resumed), final(whole))
        assert history(folder) == history(tmp_path / "whole")
    if recipe is PLATEAU:
        assert final(whole)["schedule"]["best"] > 0


@pytest.mark.parametrize(
    ("training", "problem"),
    [
        ({"schedule": "cosin"}, "Input should be 'constant', 'cosine' or 'plateau'"),
        ({"warmup_epochs": 100}, r"warmup_epochs \(100\) must be below max_epochs \(100\)"),
        ({"plateau_patience": 3}, "has no effect without schedule: plateau"),
        ({"weight_decay": 1e3}, "must be below 1, or a step changes the sign"),
        ({"weight_decay": math.nan}, "greater than or equal to 0"),
        ({"clip_norm": 0}, "greater than 0"),
        ({"class_weights": "balanced", "output_bias": "prevalence"}, "leave out one of them"),
    ],
)
def test_settings_that_cannot_be_are_refused(training, problem):
    with pytest.raises(InputError, match=problem):
        compose_trial("in_hospital_mortality", "lstm", "none", training=training)


def test_what_conflicts_is_refused_before_anything_starts():
    task = "in_hospital_mortality"
    for training in ({"schedule": "cosine"}, {"warmup_epochs": 1}):
        with pytest.raises(InputError, match="snapshot_ensemble sets the learning rate itself"):
            compose_trial(task, "lstm", "snapshot_ensemble", training=training)
    with pytest.raises(InputError, match="both shrink the weights"):
        compose_trial(task, "lstm", "decoupled_decay", training={"weight_decay": 0.1})
    with pytest.raises(InputError, match="clip_norm acts on networks, and logistic_regression"):
        compose_trial(task, "logistic_regression", "none", training={"clip_norm": 1.0})
    two = [task, "phenotyping"]
    for training in ({"schedule": "plateau"}, {"clip_norm": 1.0}):
        with pytest.raises(InputError, match="would differ from task to task"):
            compose_multi(two, "lstm", "none", "joint", training=training)
        compose_multi(two, "lstm", "none", "reptile", training=training)
    compose_multi(two, "lstm", "none", "joint", training={"schedule": "cosine"})


def test_the_optimiser_of_a_loaded_model_is_that_of_its_training(samples, tmp_path):
    trainer = build(samples, tmp_path, **COSINE)
    same_kind = make_optimizer(trainer.model, trainer.training)
    assert type(same_kind) is type(trainer.optimizer)
    assert (
        "clip_norm: 0.05"
        in compose_trial("in_hospital_mortality", "lstm", "itps", training=COSINE).to_yaml()
    )
