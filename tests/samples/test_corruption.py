"""Corrupted labels: how many, of what values, the same for all methods, training samples only."""

import numpy as np
import pytest
import torch

from mimic_reg.errors import InputError
from mimic_reg.learners.data import load_data
from mimic_reg.learners.trials import compose_trial
from mimic_reg.progress import Progress
from mimic_reg.samples import from_arrays
from mimic_reg.samples.corruption import corrupt
from mimic_reg.store import Store
from tests.stores import write_store

N = 4000


def classes(share, seed=0):
    label = np.arange(N) % 10
    samples = from_arrays(np.zeros((N, 2), np.float32), label, "multiclass")
    found = corrupt(samples, share, 10, torch.Generator().manual_seed(seed))
    assert samples.label.numpy().tolist() == label.tolist()
    return label, found.label.numpy()


def test_a_share_is_drawn_from_all_classes_and_shares_are_nested():
    label, some = classes(0.3)
    _, more = classes(0.6)
    changed = some != label
    assert changed.sum() <= round(0.3 * N)
    assert changed.mean() == pytest.approx(0.3 * 0.9, abs=0.02)  # a tenth is right by chance
    assert (more[changed] == some[changed]).all()
    assert np.bincount(some[changed], minlength=10).min() > 60
    assert (classes(0.3)[1] == some).all()
    assert (classes(0.3, seed=1)[1] != some).any()
    assert (classes(0.0)[1] == label).all()


def test_every_label_of_a_chosen_sample_is_a_fair_coin():
    label = np.zeros((N, 3), np.int8)
    samples = from_arrays(np.zeros((N, 2), np.float32), label, "multilabel")
    found = corrupt(samples, 0.5, 3, torch.Generator().manual_seed(0)).label
    assert found.dtype == samples.label.dtype
    assert found.float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_a_regression_cannot_be_corrupted():
    samples = from_arrays(np.zeros((5, 2), np.float32), np.zeros((5, 1), np.float32), "regression")
    with pytest.raises(InputError, match="needs classes, and this task is a regression"):
        corrupt(samples, 0.5, 1, torch.Generator())


def test_a_trial_corrupts_its_training_labels_only_whatever_its_method(tmp_path):
    store = Store.open(write_store(tmp_path, num_subjects=40))

    def data(method, seed=0, **training):
        trial = compose_trial("phenotyping", "lstm", method, seed=seed, training=training)
        return trial, load_data(trial, store, torch.device("cpu"), Progress())

    given = {"normalizer": "fitted"}
    clean_trial, clean = data("none", **given)
    trial, first = data("none", corrupted_labels=0.5, **given)
    _, second = data("dropout", corrupted_labels=0.5, **given)
    _, other = data("none", seed=1, corrupted_labels=0.5, **given)
    assert first.train.label.equal(second.train.label)
    assert not first.train.label.equal(clean.train.label)
    assert not first.train.label.equal(other.train.label)
    assert first.validation.label.equal(clean.validation.label)
    assert first.test.label.equal(clean.test.label)
    # the identity of trials without it is as it was before there was such a setting
    assert "corrupted_labels" not in clean_trial.model_dump(mode="json")["training"]
    assert trial.model_dump(mode="json")["training"]["corrupted_labels"] == 0.5
    assert trial.id("") != clean_trial.id("")
    with pytest.raises(InputError, match="corrupted_labels"):
        compose_trial("phenotyping", "lstm", "none", training={"corrupted_labels": 1.5})
