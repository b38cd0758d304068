"""The samples of a split, in four forms that agree."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import mimic_reg as mr
from mimic_reg.api import samples as room

TASKS = ["in_hospital_mortality", "phenotyping", "decompensation"]


@pytest.mark.parametrize("task", TASKS)
def test_all_forms_hold_the_same(store, task):
    train, validation, test = store.samples(task)
    assert [len(train), len(validation), len(test)] == [
        (store.read(f"tasks/{task}.parquet")["split"] == split).sum()
        for split in ("train", "val", "test")
    ]
    X, lengths, y = test.to_numpy()
    table, hours = test.to_pandas(), test.to_polars("hours")
    assert X.shape == (len(test), lengths.max(), len(store.channels))
    assert y.shape == test.y.shape
    np.testing.assert_array_equal(table[list(test.task.labels)].to_numpy().squeeze(), y)
    np.testing.assert_array_equal(np.floor(table["period_length"] + 1 - 1e-6), lengths)
    assert hours.height == lengths.sum()
    loader = DataLoader(test, batch_size=7, collate_fn=test.collate)
    start = 0
    for x, some, label in loader:
        for each, length in zip(x, some, strict=True):
            np.testing.assert_array_equal(each[:length], X[start, :length])
            assert not each[length:].any()
            assert not X[start, length:].any()
            of_sample = hours.filter(sample=start).select(store.channels).to_numpy()
            np.testing.assert_array_equal(of_sample, X[start, :length])
            start += 1
            if task == "decompensation" and start > 20:
                return
        assert label.shape == (len(x), len(test.task.labels))
    assert start == len(test)


def test_features_and_padding(store):
    normed, raw = (store.samples("phenotyping", normalizer=n).test for n in ("fitted", "raw"))
    X, lengths, _ = raw.to_numpy(padding=np.nan)
    assert np.isnan(X).any(2).sum() == (lengths.max() - lengths).sum()
    column = store.channels.index("Heart Rate")
    inside = ~np.isnan(X[:, :, column])
    expected = (X[:, :, column][inside] - 50) / 10
    np.testing.assert_allclose(normed.to_numpy()[0][:, :, column][inside], expected, atol=1e-5)
    stay = raw.to_polars()["icustay_id"][0]
    hours = store.read("hourly.parquet").filter(icustay_id=stay)["Heart Rate"].to_numpy()
    np.testing.assert_array_equal(X[0, : lengths[0], column], hours[: lengths[0]])
    assert len(np.unique(raw.groups)) == raw.to_polars()["subject_id"].n_unique()


def test_indices(store):
    test = store.samples("phenotyping").test
    assert torch.equal(test[-1][0], test[len(test) - 1][0])
    with pytest.raises(IndexError):
        test[len(test)]


def test_what_is_refused(store, monkeypatch):
    with pytest.raises(mr.InputError, match="Did you mean 'phenotyping'"):
        store.samples("phenotypes")
    with pytest.raises(mr.InputError, match="has no normalizer 'mean'"):
        store.samples("phenotyping", normalizer="mean")
    test = store.samples("phenotyping").test
    with pytest.raises(mr.InputError, match="rows is 'x'; allowed: 'samples', 'hours'"):
        test.to_polars("x")
    monkeypatch.setattr(room, "_MOST_BYTES", 1000)
    for form in (test.to_numpy, lambda: test.to_pandas("hours")):
        with pytest.raises(mr.InputError, match="in one piece"):
            form()
