"""Supervision levels: nested, stratified, deterministic, independent of the table's order."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_reg.errors import InputError
from mimic_reg.samples.splits import priority, select, select_count, strata

LEVELS = (0.25, 0.5, 0.75, 1.0)


KEYS = ("icustay_id", "period_length")


def table(seed: int, n: int, prevalence: float = 0.2, num_labels: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    stay = np.sort(rng.integers(0, max(1, n // 3), n))
    frame = pl.DataFrame(
        {
            "subject_id": stay // 2 + 1000,
            "icustay_id": stay + 200_000,
            "period_length": np.arange(n, dtype=float) + 5,
        }
    )
    labels = (rng.random((n, num_labels)) < prevalence).astype(np.int8)
    return frame.hstack([pl.Series(f"y{i}", labels[:, i]) for i in range(num_labels)])


def keys(frame: pl.DataFrame, rows: np.ndarray) -> set[tuple[int, float]]:
    return set(frame[rows].select("icustay_id", "period_length").iter_rows())


@settings(max_examples=40, deadline=None)
@given(
    data=st.integers(0, 10_000),
    n=st.integers(1, 200),
    seed=st.integers(0, 1000),
    unit=st.sampled_from(["sample", "subject"]),
    num_labels=st.sampled_from([1, 4]),
)
def test_levels_are_nested_and_do_not_depend_on_row_order(data, n, seed, unit, num_labels):
    frame = table(data, n, num_labels=num_labels)
    labels = tuple(f"y{i}" for i in range(num_labels))
    target = "binary" if num_labels == 1 else "multilabel"
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=data)
    smaller: set[tuple[int, float]] = set()
    for level in LEVELS:
        rows = select(frame, labels, target, keys=KEYS, level=level, seed=seed, unit=unit)
        again = select(shuffled, labels, target, keys=KEYS, level=level, seed=seed, unit=unit)
        kept = keys(frame, rows)
        assert len(kept) == len(rows)
        assert (np.diff(rows) > 0).all()
        assert kept == keys(shuffled, again)
        assert smaller <= kept
        smaller = kept
    assert len(smaller) == n


@settings(max_examples=40, deadline=None)
@given(
    data=st.integers(0, 10_000),
    n=st.integers(4, 300),
    prevalence=st.floats(0.01, 0.6),
    level=st.sampled_from(LEVELS[:3]),
)
def test_every_class_keeps_its_share(data, n, prevalence, level):
    frame = table(data, n, prevalence)
    kept = frame[select(frame, ("y0",), "binary", keys=KEYS, level=level, seed=3)]
    for value in (0, 1):
        total = (frame["y0"] == value).sum()
        share = (kept["y0"] == value).sum()
        assert share == (max(1, int(total * level + 0.5)) if total else 0)


def test_subjects_stay_whole():
    frame = table(1, 300)
    rows = select(frame, ("y0",), "binary", keys=KEYS, level=0.5, seed=0, unit="subject")
    inside = set(frame[rows]["subject_id"])
    outside = set(frame.with_row_index().filter(~pl.col("index").is_in(rows))["subject_id"])
    assert inside
    assert not inside & outside
    assert abs(len(inside) / frame["subject_id"].n_unique() - 0.5) < 0.03


def test_seeds_give_different_subsets_and_a_seed_the_same():
    frame = table(2, 300)
    first, second, again = (
        set(select(frame, ("y0",), "binary", keys=KEYS, level=0.5, seed=s).tolist())
        for s in (0, 1, 0)
    )
    assert first == again
    assert first != second


def test_priority_is_the_same_everywhere():
    keys = np.array([1, 2, 3]), np.array([5.0, 5.0, 48.0])
    assert priority(7, *keys).tolist() == PINNED


PINNED = [1859552690300436105, 15749262963984848574, 11969582811632852617]


def test_strata():
    y = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 0]])
    # prevalences 4, 2, 1: the rarest positive label decides
    assert strata(y, "multilabel").tolist() == [0, 1, 2, 3, 2]
    assert strata(np.array([[1], [0]]), "binary").tolist() == [1, 0]
    assert np.bincount(strata(np.arange(100.0)[:, None], "regression")).tolist() == [10] * 10


@settings(max_examples=40, deadline=None)
@given(
    data=st.integers(0, 10_000),
    n=st.integers(2, 200),
    seed=st.integers(0, 1000),
    prevalence=st.floats(0.05, 0.5),
)
def test_numbers_of_samples_are_exact_nested_and_stratified(data, n, seed, prevalence):
    frame = table(data, n, prevalence)
    y = frame["y0"].to_numpy()
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=data)
    smaller: set[tuple[int, float]] = set()
    for count in sorted({1, n // 3 or 1, n // 2, n}):
        rows = select_count(frame, ("y0",), "binary", keys=KEYS, count=count, seed=seed)
        assert len(rows) == len(set(rows)) == count
        assert (np.diff(rows) > 0).all()
        kept = keys(frame, rows)
        again = select_count(shuffled, ("y0",), "binary", keys=KEYS, count=count, seed=seed)
        assert kept == keys(shuffled, again)
        assert smaller <= kept
        smaller = kept
        assert abs(y[rows].sum() - y.sum() * count / n) <= 1


def test_more_samples_than_there_are_is_refused():
    with pytest.raises(InputError, match="11 training samples are asked for; there are 10"):
        select_count(table(0, 10), ("y0",), "binary", keys=KEYS, count=11, seed=0)
