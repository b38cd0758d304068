"""The sign of the channels that say what was measured: a setting, the same for serving."""

import numpy as np
import polars as pl
import pytest
import torch

import mimic_reg as mr
from mimic_reg.errors import InputError
from mimic_reg.fitting import train
from mimic_reg.learners.trials import resolve
from mimic_reg.learners.trunk import load_trunk
from mimic_reg.multitask.pretrain import compose
from mimic_reg.runs import PREDICTIONS
from mimic_reg.samples import load, load_any, read_normalizer
from mimic_reg.serving import ServedModel, export, load_run
from mimic_reg.serving.stores import predict_store
from mimic_reg.serving.tables import example
from mimic_reg.store import Store
from tests.cohorts.tables import imported, tables


@pytest.fixture(scope="module", params=["missing", "observed"])
def store(request, tmp_path_factory):
    """A cohort whose channels of measurements are of one kind."""
    folder = tmp_path_factory.mktemp(request.param)
    return imported(folder, tables(), indicators=request.param).store


def other(store):
    (kind,) = {c.kind for c in store.spec.channels} & {"observed", "missing"}
    return {"observed": "missing", "missing": "observed"}[kind]


def fitted(store, out, model, **training):
    settings = {"task": "in", "model": model, "regularisers": [{"none": {}}]}
    training = {"max_epochs": 1, "normalizer": "fitted", **training}
    train(resolve(settings | {"training": training}), store.folder, out, device="cpu")
    return out


def test_the_channels_are_turned_and_nothing_else(store):
    view = store.with_indicators(other(store))
    flags = [c.kind in ("observed", "missing") for c in store.spec.channels]
    assert [c.kind for c in view.spec.channels] == [
        other(store) if flag else c.kind for flag, c in zip(flags, store.spec.channels, strict=True)
    ]
    (task,) = store.spec.tasks
    before, after = (load(s, task, normalizer="fitted")["train"] for s in (store, view))
    x, y = before.units.values[:-1], after.units.values
    assert torch.equal(y[:-1], torch.where(torch.tensor(flags), 1 - x, x))
    assert not y[-1].any()  # padding
    assert load(view, task, normalizer="fitted")["train"].units is after.units
    same = store.with_indicators(other(view))
    assert all(map(np.array_equal, *(read_normalizer(s, task, "fitted") for s in (store, same))))


def test_serving_turns_them_as_training_did(store, tmp_path):
    model = {"observed": "lstm", "missing": "gru_d"}[other(store)]
    run = fitted(store, tmp_path / "run", {model: {"units": 4}}, indicators=other(store))
    scored = pl.read_parquet(run / PREDICTIONS["test"])
    (tmp_path / "served").mkdir()
    export(run, tmp_path / "served")
    for served in (load_run(run), ServedModel.load(tmp_path / "served")):
        assert served.spec.channels == store.spec.channels  # what it is fed
        found = predict_store(served, store, mr.progress.Progress())
        found = found.filter(pl.col("split") == "test")
        assert np.array_equal(found["probability"].to_numpy(), scored["p0"].to_numpy())
    samples = load_any(store, served.task, constants=served.constants)["test"]
    by_hours = served.predict_rows(
        store.read("hourly.parquet").select(store.spec.channel_names).fill_null(np.nan).to_numpy(),
        samples.units.offset.numpy()[samples.unit.numpy()],
        samples.lengths.numpy(),
    )
    assert np.allclose(by_hours[:, 0], scored["p0"].to_numpy(), atol=1e-6)
    assert np.allclose(mr.open_run(run).predict(), scored["p0"].to_numpy(), atol=1e-6)
    shown = example(served.spec, served.constants[0]).iloc[0]  # of a request: nothing is measured
    flags = [c for c in served.spec.channels if c.kind != "continuous"]
    assert [shown[c.name] for c in flags] == [float(c.kind == "missing") for c in flags]
    with pytest.raises(InputError, match="a trunk needs 'stored'"):
        load_trunk(run)


def test_what_was_measured_is_the_same_with_either_sign(store, tmp_path):
    """A model on measured values alone: it must take the turned kinds with the turned values."""
    model = {"benchmark_logistic_regression": {}}
    both = [
        fitted(store, tmp_path / kind, model, indicators=kind) for kind in ("stored", other(store))
    ]
    one, two = (pl.read_parquet(run / PREDICTIONS["test"]) for run in both)
    assert one.equals(two)


def settings(**training):
    return {"task": "in_hospital_mortality", "model": {"lstm": {}}, "training": training}


def test_identities_and_settings_are_as_before_without_it():
    plain = resolve(settings())
    assert "indicators" not in plain.model_dump(mode="json")["training"]
    assert plain.id("data") == resolve(settings(indicators="stored")).id("data")
    assert plain.id("data") != resolve(settings(indicators="missing")).id("data")


def test_what_cannot_have_it_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"training.indicators.*'turned'"):
        resolve(settings(indicators="turned"))
    none = imported(tmp_path, tables(), indicators="none").store
    with pytest.raises(InputError, match="no channels that say what was measured"):
        fitted(none, tmp_path / "run", {"lstm": {"units": 4}}, indicators="missing")
    with pytest.raises(InputError, match="a trunk that tasks share"):
        resolve(settings(indicators="missing") | {"start": {}})
    with pytest.raises(InputError, match="indicators: stored only"):
        compose("in_hospital_mortality", "lstm", changes={"training.indicators": "missing"})
    assert Store(folder=tmp_path, manifest={}).indicators is None
