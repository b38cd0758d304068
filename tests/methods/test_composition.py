"""Methods together: every pair trains an epoch, or is refused with a reason before it starts.

Methods are found. A pair trains on the first of five tiny models on which each of the two can be
alone, with the options of the contract tests; a method on all that it claims, with the values of
its file.
"""

import importlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from mimic_reg import methods, tasks
from mimic_reg.engine.recorder import Recorder
from mimic_reg.engine.trainer import Trainer
from mimic_reg.errors import InputError
from mimic_reg.learners.trials import resolve
from mimic_reg.metrics.scores import Score
from mimic_reg.samples import Samples, Units, from_arrays
from mimic_reg.samples.base import make_samples
from mimic_reg.seeds import Streams
from mimic_reg.settings import STOPPING, Training
from mimic_reg.settings.files import method_called, names
from tests.networks import create

NUM, HOURS, EPOCHS = 12, 4, 2  # a step an epoch; some methods need two epochs
MODELS = {  # the cheapest first
    "dnn": {"hidden": (6, 4)},
    "lstm": {"units": 3},
    "causal_lstm": {"units": 3},
    "cnn": {"filters": (3, 4), "dense": 4},
    "transformer": {"blocks": 1, "heads": 1, "key_size": 4, "filters": 2, "dense": 4},
}

# networks that hardly any file of a method names; `--method lstm/NAME` takes the values of the lstm
OTHERS = {"standard_lstm": {"units": 4}, "gru_d": {"units": 3}}


@pytest.fixture(autouse=True)
def _quick_score(monkeypatch):
    """What scores are is tested elsewhere, and they would take most of the time."""
    found = {"accuracy": Score(0.5), "macro_auroc": Score(0.5)}
    monkeypatch.setattr("mimic_reg.engine.trainer.score", lambda *a, **k: found)


class Memory(Recorder):
    """A history that nobody keeps."""

    def open(self, state=None):
        self.pending = {}

    def write(self, event, **content):
        self.pending.clear()

    def close(self):
        pass


class Quick(Trainer):
    """The engine, without files."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.recorder = Memory(self.folder / "history")
        self.fit.record = self.recorder.record

    def _save(self, name):
        self.check_losses()


def hours() -> Samples:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(NUM * HOURS + 1, 76)).astype(np.float32)
    units = Units(
        torch.from_numpy(values), torch.arange(NUM) * HOURS, np.arange(NUM), sequence=True
    )
    length = rng.integers(2, HOURS + 1, NUM).astype(np.int32)
    label = (rng.random((NUM, 2)) < 0.5).astype(np.int8)
    rows = np.arange(NUM, dtype=np.int32)
    return make_samples(units, "multilabel", rows, length, label, rows)


def images() -> Samples:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(NUM, 3, 8, 8)).astype(np.float32)
    return from_arrays(values, np.arange(NUM) % 3, "multiclass")


SAMPLES = {"hours": hours(), "images": images()}


def make(model, chosen, folder, size=NUM):
    """Return the trainer of a fit; size: of a batch."""
    sequence = model not in ("dnn", "cnn")
    samples = SAMPLES["hours" if sequence else "images"]
    shape, outputs = ((76,), 2) if sequence else ((3, 8, 8), 3)
    streams = Streams(0, "composition")
    return Quick(
        create(model, outputs, shape=shape, generator=streams.init(), **(MODELS | OTHERS)[model]),
        methods.compose(chosen),
        samples,
        samples,
        num_outputs=outputs,
        selected_by="macro_auroc" if sequence else "accuracy",
        training=Training(max_epochs=EPOCHS, batch_size=size),
        streams=streams,
        folder=folder,
        attributes=lambda names: {n: np.arange(NUM) % 3 for n in names},
    )


def served(module):
    """The models that files of methods with this module have values for; all, where none has."""
    files = [
        method_called(name)
        for name in names("methods")
        if module in [c.name for c in method_called(name).regularisers]
    ]
    return [m for m in MODELS if not files or any(found.serves(m) for found in files)]


def contract(name):
    return importlib.import_module(f"tests.methods.test_{name}").CONTRACT


@cache
def alone(name):
    """The models on which a fit with this method alone can be made, with its contract's options."""
    return [model for model in served(name) if can_be_made(model, name)]


def can_be_made(model, name):
    try:
        make(model, [{name: contract(name)}], Path())
    except InputError:  # options of its contract are for hours, say
        return False
    return True


CLAIMED = [(n, m) for n in names("methods") for m in MODELS if method_called(n).serves(m)]


@pytest.mark.parametrize("name", names("methods"))
def test_a_method_trains_every_model_that_it_claims(name, tmp_path):
    claimed = [model for of, model in CLAIMED if of == name]
    assert claimed, "none of the models of these tests"
    for model in claimed:
        entries = [c.entry() for c in method_called(name).of(model, name).regularisers]
        trainer = make(model, entries, tmp_path, size=4)
        assert trainer.run() == "finished"
        assert trainer.fit.step == EPOCHS * NUM / 4


@pytest.mark.parametrize("model", OTHERS)
def test_every_method_trains_a_network_that_it_fits_or_is_refused(model, tmp_path):
    refused = set()
    for name in methods.names():
        try:
            trainer = make(model, [{name: contract(name)}], tmp_path)
        except InputError:
            refused.add(name)
            continue
        if "causal" in trainer.method.needs and not trainer.model.causal:
            continue  # refused with the settings: see test_target_replication
        assert trainer.run() == "finished", name
    dense = {"fan_penalty", "node_pruning"}
    assert refused == {*dense, "mollified_lstm", "orthogonal_convolution", "variational_lstm"}


@pytest.mark.parametrize("name", methods.names())
def test_a_method_has_pairs(name):
    assert alone(name), "none of the models of these tests can be trained with it"


@pytest.mark.parametrize("name", methods.names())
def test_every_pair_trains_or_is_refused_before_it_starts(name, tmp_path):
    """All pairs with the methods that follow by name; what stops fits is in both."""
    for other in methods.names():
        if other <= name:
            continue
        both = [model for model in alone(name) if model in alone(other)]
        if not both:
            continue
        pair = [{name: contract(name)}, {other: contract(other)}]
        if excluded(name, other):
            with pytest.raises(InputError, match=r"exclude each other: \w"):
                resolve({"task": "phenotyping", "model": both[0], "regularisers": pair})
            continue
        try:
            trainer = make(both[0], ordered(pair), tmp_path)
        except InputError as error:
            raise AssertionError(
                f"{name} and {other} are refused when a fit is made, which in a sweep is after "
                f"others were trained. Say so in the EXCLUDES of one of them: {error}"
            ) from error
        assert trainer.run() == "finished", (name, other)
        assert trainer.fit.step > 0


def excluded(*pair):
    try:
        methods.check_together(pair)
    except InputError:
        return True
    return False


def ordered(pair):
    """As the methods ask to be listed: what evaluates a step twice, and what looks on, last."""
    last = {"flooding", "sam", "entropy_sgd", STOPPING}
    return sorted(pair, key=lambda entry: next(iter(entry)) in last)


def test_methods_of_classes_are_refused_for_a_regression():
    of_classes = {"confidence_penalty", "disturb_label", "elr", "label_smoothing", "ps_kd"}
    regression = tasks.get("length_of_stay")
    methods.check_target(methods.names(), tasks.get("phenotyping"))
    methods.check_target({*methods.names()} - of_classes, regression)
    for name in of_classes:
        with pytest.raises(InputError, match=f"{name} acts on probabilities of classes, and leng"):
            methods.check_target([name], regression)


@pytest.mark.parametrize(
    ("name", "others"),
    [
        (
            "bagging",
            "distillation fgsm flooding mixup elr mgs implicit_gradient distance_covariance "
            "confidence_penalty data_gradient jacobian",
        ),
        ("distillation", "snapshot_ensemble mollified_lstm nested_dropout"),
        ("elr", "mixup"),
        ("ps_kd", "mixup"),
    ],
)
def test_pairs_that_would_train_something_else_are_refused(name, others):
    for other in others.split():
        with pytest.raises(InputError, match=rf"{name} and {other} exclude each other: \w"):
            methods.check_together([other, name])


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("itps", "perp_grad"),
        ("magnitude_pruning", "swa"),
        ("magnitude_pruning", "snapshot_ensemble"),
        ("node_pruning", "swa"),
        ("node_pruning", "snapshot_ensemble"),
    ],
)
def test_an_order_that_undoes_the_first_method_is_refused(first, last):
    methods.compose([first, "none", last])
    order = [last, "none", first]
    with pytest.raises(InputError, match=rf"List {last} after {first}, not before: \w"):
        methods.compose(order)
    with pytest.raises(InputError, match=f"List {last} after {first}"):
        resolve({"task": "phenotyping", "model": "lstm", "regularisers": order})


def test_methods_that_exclude_each_other_are_told_with_the_reason(monkeypatch):
    dropout = importlib.import_module("mimic_reg.methods.dropout")
    monkeypatch.setattr(dropout, "EXCLUDES", {"itps": "for a test."}, raising=False)
    for order in (["dropout", "itps"], [{"itps": {}}, {"dropout": {}}]):
        with pytest.raises(InputError, match="dropout and itps exclude each other: for a test"):
            methods.compose(order)
        with pytest.raises(InputError, match="exclude each other"):
            resolve({"task": "phenotyping", "model": "lstm", "regularisers": order})
    methods.compose(["dropout", "none"])
