"""The engine on a GPU: the trial of the CPU, resumed, with every kind of derivative."""

import os
import signal

import pytest
import torch

from mimic_reg import tasks
from mimic_reg.engine.recorder import read_history
from mimic_reg.fitting import evaluate, train
from mimic_reg.learners.trials import resolve
from mimic_reg.progress import Progress
from mimic_reg.runs import HISTORY
from mimic_reg.runs.record import read_scores
from mimic_reg.samples import load
from mimic_reg.store import Store
from tests.stores import write_store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

METHODS = {
    "none": [],
    "itps": [{"itps": {"tau": 0.01}}],
    "dropout": [{"dropout": {"rate": 0.5}}],
    "jacobian": [{"jacobian": {"weight": 0.01}}],
    "data gradient": [{"data_gradient": {"weight": 0.01}}],
    "hessian probe": [{"hessian_probe": {"every": 1, "vectors": 2, "samples": 16}}],
    "gradient similarity": [{"mgs": {"weight": 0.01}}, {"mgs_probe": {"every": 1, "samples": 4}}],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store"), num_subjects=150, hours=(48, 50))


def trial(methods, model="lstm", epochs=3, **training):
    return resolve(
        {
            "task": "in_hospital_mortality",
            "model": model,
            "regularisers": methods,
            "training": {"normalizer": "fitted", "max_epochs": epochs, **training},
        }
    )


def losses(run):
    return [r["loss"] for r in read_history(run / HISTORY) if r["event"] == "epoch"]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_every_kind_of_method_trains(store, tmp_path, name, model):
    outcome = train(trial(METHODS[name], model, 1), store, tmp_path / "run", device="cuda")
    assert outcome.status == "finished"
    assert outcome.scores["in_hospital_mortality"]["test"]["auroc"].value is not None


def test_training_is_that_of_the_cpu(store, tmp_path):
    for device in ("cpu", "cuda"):
        train(trial([]), store, tmp_path / device, device=device)
    assert losses(tmp_path / "cuda") == pytest.approx(losses(tmp_path / "cpu"), rel=2e-2)


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_bfloat16_trains_nearly_the_same(store, tmp_path, model):
    for precision in ("float32", "bfloat16"):
        run = tmp_path / precision
        train(trial([], model, 1, precision=precision), store, run, device="cuda")
    assert losses(tmp_path / "bfloat16") == pytest.approx(losses(tmp_path / "float32"), rel=5e-2)


def test_a_run_moves_between_devices(store, tmp_path):
    class Interrupting(Progress):
        def note(self, text):
            if text.startswith("epoch 1 "):
                os.kill(os.getpid(), signal.SIGINT)

    run = tmp_path / "run"
    assert train(
        trial(METHODS["itps"]), store, run, progress=Interrupting(), device="cuda"
    ).status == ("interrupted")
    assert train(trial(METHODS["itps"]), store, run, device="cpu").status == "finished"
    before = read_scores(run)["test"]["auroc"].value
    assert evaluate(run, device="cuda")["test"]["auroc"].value == pytest.approx(before, abs=0.01)


def test_batches_are_gathered_where_the_arrays_are(store):
    task = tasks.get("decompensation")
    opened = Store.open(store)
    here, there = (
        load(opened, task, normalizer="fitted", device=torch.device(d))["train"]
        for d in ("cpu", "cuda")
    )
    index = torch.arange(0, len(here), 7)
    batch, expected = there.gather(index), here.gather(index)
    assert batch.x.device.type == "cuda"
    assert torch.equal(batch.x.cpu(), expected.x)
    assert torch.equal(batch.y.cpu(), expected.y)
    assert batch.lengths.device.type == "cpu"
