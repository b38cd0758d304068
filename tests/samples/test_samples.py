"""Samples are prefixes of shared arrays, gathered at once, normalised once."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch

from mimic_reg import tasks
from mimic_reg.clinical.schema import CHANNELS, CONTINUOUS_CHANNELS
from mimic_reg.errors import InputError
from mimic_reg.samples import Samples, from_arrays, load, notes, read_normalizer
from mimic_reg.store import Store, read_json, write_json
from mimic_reg.store.spec import Task
from tests.stores import write_manifest, write_store

TASKS = {name: tasks.get(name) for name in tasks.names()}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store.open(write_store(tmp_path_factory.mktemp("store"), num_subjects=30))


def reference(store: Store, task: Task, row: int, which: str) -> np.ndarray:
    """One sample's features the slow way: filter the stay, cut, normalise."""
    sample = store.read(f"tasks/{task.name}.parquet").row(row, named=True)
    stay = store.read("hourly.parquet").filter(pl.col("icustay_id") == sample["icustay_id"])
    num_hours = int(sample["period_length"] + 1.0 - 1e-6)
    x = stay.select(CHANNELS).to_numpy()[:num_hours].astype(np.float64)
    state = read_json(store.path(f"normalizers/{task.name}.json"))[which]
    for i, channel in enumerate(CHANNELS):
        if channel in CONTINUOUS_CHANNELS:
            x[:, i] = (x[:, i] - state["means"][i]) / state["stds"][i]
    return x.astype(np.float32)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("which", ["published", "fitted"])
def test_a_batch_equals_the_slow_way(store, name, which):
    task = TASKS[name]
    splits = load(store, task, normalizer=which)
    table = store.read(f"tasks/{name}.parquet")
    generator = torch.Generator().manual_seed(1)
    for split, samples in splits.items():
        assert len(samples) == (table["split"] == split).sum()
        index = torch.randperm(len(samples), generator=generator)[:5]
        batch = samples.gather(index)
        assert batch.x.shape == (5, int(batch.lengths.max()), len(CHANNELS))
        assert batch.y.shape == (5, len(task.labels))
        for b, i in enumerate(index.tolist()):
            row = int(samples.row[i])
            expected = reference(store, task, row, which)
            assert table["split"][row] == split
            assert batch.lengths[b] == len(expected)
            assert np.array_equal(batch.x[b, : len(expected)].numpy(), expected)
            assert not batch.x[b, len(expected) :].any()
            labels = np.array(table.select(task.labels).row(row), np.float32)
            assert np.array_equal(batch.y[b].numpy(), labels)


def test_all_splits_and_prefixes_share_one_array(store):
    splits = load(store, TASKS["decompensation"], normalizer="fitted")
    hourly = store.read("hourly.parquet")
    values = splits["train"].units.values
    assert values.shape == (hourly.height + 1, len(CHANNELS))
    assert {s.units.values.data_ptr() for s in splits.values()} == {values.data_ptr()}
    kept = splits["train"].keep(np.array([4, 2]))
    assert kept.units is splits["train"].units
    assert kept.row.tolist() == splits["train"].row[[4, 2]].tolist()
    own = (kept.unit, kept.length, kept.label, kept.lengths)
    assert sum(t.element_size() for t in own) <= 13  # bytes a sample


def test_subjects_are_numbers_not_ids(store):
    splits = load(store, TASKS["decompensation"], normalizer="fitted")
    table = store.read("tasks/decompensation.parquet")
    ids = table["subject_id"].to_numpy()
    seen: dict[int, int] = {}
    for samples in splits.values():
        for number, row in zip(samples.subject.tolist(), samples.row.tolist(), strict=True):
            assert seen.setdefault(number, int(ids[row])) == ids[row]
    assert max(seen) <= len(seen)


def lengths_of(samples: Samples, order: torch.Tensor, size: int) -> int:
    return sum(int(samples.lengths[c].max()) * len(c) for c in order.split(size))


def test_training_order_is_a_permutation_and_buckets_pad_less(store):
    samples = load(store, TASKS["decompensation"], normalizer="fitted")["train"]
    orders = [
        samples.training_order(8, torch.Generator().manual_seed(3), by_length=by_length)
        for by_length in (False, True)
    ]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(len(samples)))
    assert lengths_of(samples, orders[1], 8) < 0.8 * lengths_of(samples, orders[0], 8)


def test_evaluation_visits_every_sample_once_within_the_budget(store):
    samples = load(store, TASKS["decompensation"], normalizer="fitted")["test"]
    batches = list(samples.evaluation_batches(200 * len(CHANNELS)))
    assert sorted(torch.cat(batches).tolist()) == list(range(len(samples)))
    assert all(len(b) * int(samples.lengths[b].max()) <= 200 for b in batches)
    assert len(list(samples.evaluation_batches(1))) == len(samples)
    enlarged = list(samples.evaluation_batches(200 * len(CHANNELS), 2 * len(CHANNELS)))
    assert all(len(b) == 1 or len(b) * int(samples.lengths[b].max()) <= 100 for b in enlarged)
    assert len(enlarged) > len(batches)


def test_images_are_units_without_a_time_axis():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 3, 4, 4)).astype(np.float32)
    samples = from_arrays(values, np.array([0, 1, 2, 0, 1, 2]), "multiclass")
    batch = samples.keep(np.array([5, 3, 1])).gather(torch.tensor([2, 0]))
    assert np.array_equal(batch.x.numpy(), values[[1, 5]])
    assert batch.y.tolist() == [1, 2]
    assert batch.y.dtype == torch.int64
    assert batch.lengths.tolist() == [1, 1]
    assert batch.index.tolist() == [2, 0]


def broken(tmp_path, edit) -> Store:
    folder = write_store(tmp_path / "store", num_subjects=8)
    edit(folder)
    write_manifest(folder)
    return Store.open(folder)


def rewrite(folder, name, change):
    path = folder / name
    frame = pl.read_parquet(path)
    path.unlink()
    change(frame).write_parquet(path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("hourly.parquet", lambda f: f.reverse(), "not sorted by stay and hour"),
        ("hourly.parquet", lambda f: f.filter(pl.col("hour") != 3), "hours are missing"),
        (
            "hourly.parquet",
            lambda f: f.filter(pl.col("hour") < 25),
            "11 of 11 samples .* need hours .* 0 are of stays without .* 11 have a period",
        ),
        ("hourly.parquet", lambda f: f.drop("pH"), "hourly.parquet has no column 'pH'; .* 78 col"),
        ("hourly.parquet", lambda f: f.drop("pH", "hour"), "no column 'hour' and 1 more"),
        (
            "hourly.parquet",
            lambda f: f.with_columns(Lactate=pl.lit(1.0)),
            "hourly.parquet has an unknown column 'Lactate'",
        ),
        (
            "tasks/in_hospital_mortality.parquet",
            lambda f: f.with_columns(period_length=pl.lit(25.0)),
            "uses the first 48 hours, but 11 of 11 samples .* a period_length of 25 to 25 hours",
        ),
        (
            "tasks/in_hospital_mortality.parquet",
            lambda f: f.with_columns(period_length=pl.lit(float("nan"))),
            "11 have a period_length beyond",
        ),
        (
            "hourly.parquet",
            lambda f: f.with_columns(pl.lit(float("nan"), pl.Float32).alias("pH")),
            "'pH' .* empty or infinite",
        ),
        (
            "tasks/in_hospital_mortality.parquet",
            lambda f: f.with_columns(y=pl.lit(None, pl.Int8)),
            "has an empty label",
        ),
        (
            "tasks/in_hospital_mortality.parquet",
            lambda f: f.with_columns(split=pl.lit("validation")),
            "has an unknown split 'validation'",
        ),
        (
            "tasks/in_hospital_mortality.parquet",
            lambda f: f.filter(pl.col("split") != "test"),
            "no samples for 'test'",
        ),
        (
            "tasks/in_hospital_mortality.parquet",
            lambda f: f.rename({"y": "label"}),
            "no column 'y'",
        ),
        (
            "tasks/in_hospital_mortality.parquet",
            lambda f: f.with_columns(pl.col("icustay_id") + 1),
            "need hours .* 11 are of stays without",
        ),
    ],
)
def test_a_store_that_does_not_fit_together_is_refused(tmp_path, name, change, message):
    store = broken(tmp_path, lambda folder: rewrite(folder, name, change))
    with pytest.raises(InputError, match=message):
        load(store, TASKS["in_hospital_mortality"], normalizer="fitted")


def test_a_normalizer_without_spread_is_refused(tmp_path):
    def edit(folder):
        path = folder / "normalizers" / "phenotyping.json"
        state = read_json(path)
        state["fitted"]["stds"] = [0.0] * len(CHANNELS)
        write_json(path, state)

    store = broken(tmp_path, edit)
    with pytest.raises(InputError, match="fitted normalizer of phenotyping"):
        read_normalizer(store, TASKS["phenotyping"], "fitted")
    assert (read_normalizer(store, TASKS["phenotyping"], "published")[1] == 20).sum() == 12


def test_a_constant_channel_keeps_its_scale_and_is_named(tmp_path):
    """Also where an older store says 1e-7, by which the first other value would become 1e8."""

    def edit(folder):
        rewrite(folder, "hourly.parquet", lambda f: f.with_columns(pH=pl.lit(7.4, pl.Float32)))
        path = folder / "normalizers" / "phenotyping.json"
        state = read_json(path)
        at = CHANNELS.index("pH")
        state["fitted"]["means"][at], state["fitted"]["stds"][at] = 7.4, 1e-7
        write_json(path, state)

    store, task = broken(tmp_path, edit), TASKS["phenotyping"]
    splits = load(store, task, normalizer="fitted")
    channel = splits["train"].units.values[:, CHANNELS.index("pH")]
    assert channel.abs().max() < 1e-6
    (note,) = notes(store, task, normalizer="fitted")
    assert note.startswith("Constant in the training hours of phenotyping: pH. ")
    assert notes(store, task, normalizer="published") == []
    assert notes(store, TASKS["decompensation"], normalizer="fitted") == []


MEMORY = """
import resource, sys
import numpy as np, polars as pl, torch
from pathlib import Path
from mimic_reg.samples import load
from mimic_reg.store.spec import Task
from mimic_reg.store import Store
from mimic_reg import tasks

task = tasks.get("decompensation")
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
def use(folder):
    splits = load(Store.open(Path(folder)), task, normalizer="fitted")
    for samples in splits.values():
        samples.gather(samples.training_order(32, torch.Generator())[:32])
    return splits
use(sys.argv[1])  # what libraries keep once, whatever the size, exists before the measurement
before = resident()
splits = use(sys.argv[2])
values = splits["train"].units.values
status = Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
own = [t for s in splits.values() for t in (s.unit, s.length, s.label, s.row)]
print(values.nbytes, values.nbytes + sum(t.nbytes for t in own), len(own[0]), peak - before)
"""


def test_resident_memory_is_that_of_the_hourly_arrays(tmp_path):
    small = write_store(tmp_path / "small")
    big = write_store(tmp_path / "big", num_subjects=1200, hours=(100, 300))
    command = [sys.executable, "-c", MEMORY, str(small), str(big)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    array, total, num_samples, peak = map(int, run.stdout.split())
    assert array > 80e6
    assert num_samples > 150_000
    assert total <= 1.05 * array, run.stdout
    assert peak <= 1.5 * array, run.stdout  # with what allocators hold back; no second copy


def test_a_process_loads_a_store_once_until_a_file_of_it_changes(tmp_path):
    folder = write_store(tmp_path / "store", num_subjects=10)

    def loaded(normalizer="fitted"):
        return load(Store.open(folder), TASKS["phenotyping"], normalizer=normalizer)

    first = loaded()
    assert loaded() is first
    assert loaded("published") is not first
    second = loaded()
    path = folder / "normalizers" / "phenotyping.json"
    content = read_json(path)
    content["fitted"]["means"][2] = 7.0
    write_json(path, content)
    write_manifest(folder)
    assert loaded() is not second


def test_samples_of_a_stay_share_its_hours(store):
    samples = load(store, TASKS["decompensation"], normalizer="fitted")["train"]
    order = samples.training_order(64, torch.Generator().manual_seed(0), by_stay=True)
    assert sorted(order.tolist()) == list(range(len(samples)))
    stay = samples.unit[order]
    changes = int((stay[1:] != stay[:-1]).sum()) + 1
    assert changes == stay.unique().numel() > 1, "the samples of a stay follow each other"
    assert not torch.equal(order, samples.training_order(64, torch.Generator(), by_stay=True))
    index = order[30:94]
    alone, shared = samples.gather(index), samples.gather(index, by_stay=True)
    assert len(shared.x) == samples.unit[index].unique().numel() < 64
    row, hours = shared.lengths.unbind(1)
    assert torch.equal(hours, alone.lengths)
    for sample in range(64):
        n = int(hours[sample])
        assert torch.equal(shared.x[row[sample], :n], alone.x[sample, :n])
    for i, x in enumerate(shared.x):
        assert not x[hours[row == i].max() :].any(), "zero beyond the last hour that a sample sees"
    assert torch.equal(shared.y, alone.y)
    assert torch.equal(shared.index, alone.index)


@pytest.mark.parametrize("by_stay", [False, True])
def test_batches_of_similar_lengths_hold_each_sample_once(store, by_stay):
    samples = load(store, TASKS["decompensation"], normalizer="fitted")["train"]
    generator = torch.Generator().manual_seed(0)
    order = samples.training_order(32, generator, by_length=True, by_stay=by_stay)
    assert sorted(order.tolist()) == list(range(len(samples)))


def test_an_evaluation_batch_has_all_samples_of_a_stay(store):
    samples = load(store, TASKS["decompensation"], normalizer="fitted")["train"]
    batches = list(samples.evaluation_batches(200 * len(CHANNELS), by_stay=True))
    assert sorted(torch.cat(batches).tolist()) == list(range(len(samples)))
    stays = [set(samples.unit[index].tolist()) for index in batches]
    assert sum(map(len, stays)) == len(set().union(*stays))
    assert len(batches) > 1
    assert all(samples.gather(i, by_stay=True).x[..., 0].numel() <= 200 for i in batches)
