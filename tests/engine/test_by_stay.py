"""Training and prediction of causal models by whole stays, against the same by single samples."""

from importlib import import_module

import numpy as np
import pytest
import torch

from mimic_reg import methods, tasks
from mimic_reg.engine.prediction import predict
from mimic_reg.engine.trainer import Trainer
from mimic_reg.errors import InputError
from mimic_reg.fitting import evaluate, train
from mimic_reg.learners.trials import resolve
from mimic_reg.methods._inputs import real_hours
from mimic_reg.samples import load
from mimic_reg.seeds import Streams
from mimic_reg.settings import Training
from mimic_reg.store import Store, read_json
from tests.networks import create
from tests.stores import write_store

TASK = tasks.get("decompensation")
MODELS = {
    "causal_lstm": {"units": 4},
    "gru": {"units": 4},
    "tcn": {"channels": 4, "blocks": 2},
    "causal_transformer": {"blocks": 1, "heads": 1, "key_size": 4, "dense": 4},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return Store.open(write_store(folder, num_subjects=25, hours=(10, 26)))


@pytest.fixture(scope="module")
def samples(store):
    return load(store, TASK, normalizer="fitted")


def build(samples, folder, method="none", name="causal_lstm", **training):
    streams = Streams(0, TASK.name)
    folder.mkdir(exist_ok=True)
    settings = {"max_epochs": 2, "batch_size": 48, "learning_rate": 0.01, "by_stay": True}
    return Trainer(
        create(name, 1, generator=streams.init(), **MODELS.get(name, {"units": 4})),
        methods.compose([method]),
        samples["train"],
        samples["val"],
        num_outputs=1,
        selected_by="auroc",
        training=Training(**settings | training),
        streams=streams,
        folder=folder,
    )


@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_those_of_each_sample_by_itself(samples, name):
    model = create(name, 1, generator=torch.Generator().manual_seed(1), **MODELS[name]).eval()
    together = predict(model, samples["train"], by_stay=True)
    np.testing.assert_allclose(together, predict(model, samples["train"]), atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_fit_by_stay_is_that_of_the_same_batches_by_sample(samples, tmp_path, name, monkeypatch):
    """Every sample counts once, as in single samples, so the weights stay the same."""
    settings = {"name": name, "optimizer": "sgd"}  # Adam would enlarge rounding errors
    by_stay = build(samples, tmp_path / "stay", **settings)
    by_stay.run()
    plain = build(samples, tmp_path / "sample", **settings, by_stay=False)
    order = type(plain.train).training_order
    monkeypatch.setattr(
        type(plain.train),
        "training_order",
        lambda self, *a, **given: order(self, *a, **{**given, "by_stay": True}),
    )
    plain.run()
    assert plain.pass_steps == by_stay.pass_steps == -(-len(samples["train"]) // 48)
    for one, other in zip(by_stay.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    validation = samples["val"]
    np.testing.assert_allclose(by_stay.predict(validation), plain.predict(validation), atol=1e-6)


def test_an_interrupted_fit_goes_on_as_if_it_had_not_stopped(samples, tmp_path):
    whole = build(samples, tmp_path / "whole", {"dropout": {"rate": 0.3}})
    whole.run()
    first = build(samples, tmp_path / "parts", {"dropout": {"rate": 0.3}})
    step = first.step

    def stopped(**given):
        step(**given)
        first.interrupted = first.fit.step == 5

    first.step = stopped
    assert first.run() == "interrupted"
    again = build(samples, tmp_path / "parts", {"dropout": {"rate": 0.3}})
    again.run()
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


TAKES = {  # methods with a hook for batches or predictions, which say that they can
    "disturb_label": {"alpha": 0.2},
    "elr": {},
    "input_noise": {"sigma": 0.1},
    "itps": {},
    "label_smoothing": {"rho": 0.1},
    "mc_dropout": {"rate": 0.2, "passes": 2},
    "ps_kd": {},
    "sam": {},
    "snapshot_ensemble": {"cycles": 2, "members": 2},
    "swa": {"start": 0.5},
}
REFUSED = ["augmentation", "data_gradient", "fgsm", "jacobian", "mixup", "target_replication"]


def test_every_method_takes_stays_or_is_refused():
    """Found, not listed: a method that sees inputs must say that it takes rows of many samples."""
    contracts = {n: import_module(f"tests.methods.test_{n}").CONTRACT for n in methods.names()}
    refused = [n for n, options in contracts.items() if methods.create(n, **options).not_by_stay()]
    assert refused == REFUSED


@pytest.mark.parametrize("name", TAKES)
def test_methods_that_see_batches_or_predictions(samples, tmp_path, name):
    made = build(samples, tmp_path / "run", {name: TAKES[name]}, max_epochs=2)
    made.run()
    assert np.isfinite(made.predict(samples["val"])).all()


def test_input_noise_reaches_no_padding(samples):
    batch = samples["train"].gather(torch.arange(60), by_stay=True)
    real = real_hours(batch)
    assert real.shape == (*batch.x.shape[:2], 1)
    row, hours = batch.lengths.unbind(1)
    assert real[:, :, 0].sum(1).tolist() == [int(hours[row == r].max()) for r in range(len(real))]


def trial(model, *chosen):
    training = {"by_stay": True, "normalizer": "fitted", "max_epochs": 1, "batch_size": 128}
    content = {"task": TASK.name, "model": {model: {"units": 4}}, "training": training}
    return resolve({**content, "regularisers": list(chosen)})


def test_a_run_by_stay_is_evaluated_and_predicts_prefixes(store, tmp_path):
    """From a command's settings to a served model, which gets prefixes of one stay."""
    run = tmp_path / "run"
    outcome = train(trial("gru"), store.folder, run)
    assert outcome.status == "finished"
    assert read_json(run / "trial.json")["trial"]["training"]["by_stay"] is True
    scores = outcome.scores[TASK.name]["test"]
    assert evaluate(run)["test"]["auroc"].value == scores["auroc"].value


@pytest.mark.parametrize(
    ("model", "method", "says"),
    [
        ("lstm", "none", "needs a causal model, and lstm is none"),
        ("gru", "mixup", "mixup cannot act"),
    ],
)
def test_what_cannot_be_trained_by_stay_is_refused_before_anything_starts(model, method, says):
    with pytest.raises(InputError, match=says):
        trial(model, method)
