"""Images through the same engine: every method of the paper, and networks with batch norm."""

import numpy as np
import pytest
import torch

from mimic_reg.engine.checkpoint import load_state
from mimic_reg.engine.trainer import Trainer
from mimic_reg.errors import InputError
from mimic_reg.fitting import evaluate, train
from mimic_reg.learners.trials import compose_trial, resolve
from mimic_reg.runs import BEST, CHECKPOINT
from mimic_reg.runs.record import read_scores
from mimic_reg.settings.files import method_called, names
from mimic_reg.sources.images import import_images
from mimic_reg.vision import torchvision
from tests.engine.test_checkpoint import same
from tests.sources.images import write_fashion_mnist

METHODS = [n for n in names("methods") if n != "none" and "cnn" in method_called(n).families]
SMALL_CNN = {"cnn": {"filters": [8, 8], "dense": 16}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_fashion_mnist(folder / "source", num=480)
    return import_images(folder / "source", folder / "store", validation=80).folder


def trial(method, model=SMALL_CNN, **training):
    composed = compose_trial("image_classification", "cnn", method).model_dump()
    training = composed["training"] | {"max_epochs": 2, "learning_rate": 0.005} | training
    return resolve({**composed, "model": model, "training": training})


@pytest.mark.parametrize("method", ["none", *METHODS])
def test_every_method_of_the_paper_trains_on_images(method, store, tmp_path):
    outcome = train(trial(method), store, tmp_path / "run")
    assert outcome.status == "finished"
    score = outcome.scores["image_classification"]["test"]["accuracy"]
    assert 0 <= score.low <= score.value <= score.high <= 1


def test_a_network_learns_from_images(store, tmp_path):
    dnn = {"dnn": {"hidden": [64]}}
    outcome = train(trial("none", dnn, max_epochs=25), store, tmp_path / "run")
    assert outcome.scores["image_classification"]["test"]["accuracy"].low > 0.5  # chance: 0.1


def test_the_scale_of_the_pixels_is_a_setting(store, tmp_path):
    results = []
    for normalizer in ("unit", "fitted", "raw"):
        out = tmp_path / normalizer
        train(trial("none", normalizer=normalizer), store, out)
        results.append(load_state(out / BEST)["model"]["head.weight"].numpy())
    assert not np.allclose(results[0], results[1])
    assert not np.allclose(results[0], results[2])


def test_a_network_that_normalises_itself_takes_plain_pixels_only(store, tmp_path):
    net = {"efficientnet_b0": {"weights": "none", "size": 32}}
    with pytest.raises(InputError, match=r"efficientnet_b0 normalises its input itself, .*'unit'"):
        train(trial("none", net, normalizer="raw"), store, tmp_path / "run")


def test_a_file_of_weights_is_needed_once_and_must_stay_the_same(store, tmp_path):
    weights = tmp_path / "weights.pth"
    for factor in (1.0, 2.0):
        network = torchvision().models.efficientnet_b0(weights=None)
        state = {name: factor * value for name, value in network.state_dict().items()}
        torch.save(state, weights if factor == 1 else tmp_path / "others.pth")
    net = {"efficientnet_b0": {"weights": str(weights), "size": 32}}
    given = trial("none", net, max_epochs=1, epoch_steps=2)
    train(given, store, tmp_path / "run")
    (tmp_path / "others.pth").replace(weights)
    with pytest.raises(InputError, match=r"weights\.pth have changed since .* was begun"):
        train(given, store, tmp_path / "run")
    weights.unlink()
    assert evaluate(tmp_path / "run") == read_scores(tmp_path / "run")
    assert train(given, store, tmp_path / "run").status == "skipped"


def test_a_supervision_level_keeps_its_share_of_each_class(store, tmp_path):
    settings = trial("none", max_epochs=1).model_dump() | {"supervision": 0.25}
    train(resolve(settings), store, tmp_path / "run")
    labels = []

    class Looking(Trainer):
        def run(self):
            labels.extend(self.train.label.tolist())
            return "interrupted"

    import mimic_reg.learners.deep as single

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single, "Trainer", Looking)
        train(resolve(settings), store, tmp_path / "looking")
    assert np.bincount(labels).tolist() == [10] * 10  # of 40 a class


def test_batch_norm_resumes_bit_for_bit(store, tmp_path):
    pytest.importorskip("PIL", reason="torchvision's Pillow is not installed")
    model = {"efficientnet_b0": {"weights": "none", "size": 32}}
    settings = trial("itps", model, max_epochs=1, epoch_steps=6, batch_size=8)
    train(settings, store, tmp_path / "whole")

    class Interrupted(Trainer):
        def step(self, *, last):
            super().step(last=last)
            self.interrupted = self.fit.step == 3

    import mimic_reg.learners.deep as single

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single, "Trainer", Interrupted)
        assert train(settings, store, tmp_path / "cut").status == "interrupted"
    assert train(settings, store, tmp_path / "cut").status == "finished"
    whole, cut = (load_state(tmp_path / n / CHECKPOINT) for n in ("whole", "cut"))
    assert any("running_mean" in name for name in whole["model"])
    assert same(whole["model"], cut["model"])
    assert same(whole["optimizer"], cut["optimizer"])
    assert read_scores(tmp_path / "whole") == read_scores(tmp_path / "cut")


def test_a_network_for_hours_refuses_images(store, tmp_path):
    with pytest.raises(InputError, match=r"model lstm is for hours; this cohort has images"):
        train(trial("none", {"lstm": {}}), store, tmp_path / "a")
