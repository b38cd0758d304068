"""Each leakage check finds its planted leak, and only that; a clean cohort has no finding."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from mimic_reg import checks
from mimic_reg.checks import future
from mimic_reg.checks.base import View
from mimic_reg.samples.base import Samples
from mimic_reg.sources.images import import_images
from tests.checks.leaks import SEEN, TASK, clean, write
from tests.cli.called import mimic_reg
from tests.sources.images import write_cifar_binary


def found(outcomes):
    return {o.check: o.count for o in checks.findings(outcomes)}


def died(tables, column="died"):
    """The label of each row of the hourly table."""
    return tables.hourly.join(
        tables.samples.select("stay", column), on="stay", how="left", maintain_order="left"
    )[column]


# --- planted leaks: (tables) → tables, or None if it changed them in place -----------------------


def shared_patient(tables):
    first = tables.samples.filter(pl.col("split") == "train")["patient"][0]
    last = tables.samples.filter(pl.col("split") == "test")["stay"][-1]
    return patient_of(tables, last, first)


def patient_of(tables, stay, patient):
    changed = pl.when(pl.col("stay") == stay).then(patient).otherwise("patient")
    return tables.samples.with_columns(changed.cast(pl.Int64).alias("patient"))


def shared_stay(tables):
    row = tables.samples.filter(pl.col("split") == "train")[:1]
    return pl.concat(
        [tables.samples, row.with_columns(split=pl.lit("test"), end=pl.lit(SEEN - 1.0))]
    )


def backward_filled(tables):
    return tables.hourly.with_columns(pl.col("hr").backward_fill().over("stay"))


def interpolated(tables):
    measured = pl.when(pl.col("seen->hr") == 1).then("hr")
    line = measured.interpolate().over("stay")
    return tables.hourly.with_columns(pl.coalesce(line, "hr").alias("hr"))


def length_as_a_channel(tables):
    return tables.hourly.with_columns(days=pl.len().over("stay") / 24)


def key_as_a_channel(tables):
    return tables.hourly.with_columns(id=pl.col("stay") * 1e5)


def label_as_a_channel(tables):
    return tables.hourly.with_columns(vent=died(tables).cast(pl.Float64))


def label_with_noise(tables):
    noise = np.random.default_rng(1).normal(0, 0.3, tables.hourly.height)
    return tables.hourly.with_columns(score=died(tables) + noise)


def label_at_the_last_hour(tables):
    last = (pl.col("hour") == SEEN - 1) & (died(tables) == 1)
    return tables.hourly.with_columns(vent=pl.when(last).then(1.0).otherwise(0.0))


def label_of_two_channels(tables):
    """The label is whether exactly one of two channels is high; neither tells it alone."""
    one = np.random.default_rng(4).random(tables.samples.height) < 0.5
    keys = tables.samples.select(
        "stay", one=one, two=one ^ (tables.samples["died"] == 1).to_numpy()
    )
    planted = tables.hourly.join(keys, on="stay", how="left", maintain_order="left")
    return planted.with_columns(pl.col("one", "two").cast(pl.Float64) * 5)


def length_by_label(tables):
    rng = np.random.default_rng(2)
    y = tables.samples["died"].to_numpy()
    seen = np.where(y == 1, rng.integers(4, 10, len(y)), rng.integers(6, 13, len(y)))
    return tables.samples.with_columns(end=pl.Series(seen.astype(float)))


def padded_by_label(tables):
    """The hours after a death, at hour 6, repeat the last one."""
    last = tables.hourly.filter(pl.col("hour") == 6).drop("hour")
    repeated = tables.hourly.select("stay", "hour").join(last, on="stay")
    dead = (died(tables) == 1) & (tables.hourly["hour"] > 6)
    kept = tables.hourly.filter(~dead)
    return pl.concat([kept, repeated.join(kept, on=["stay", "hour"], how="anti")])


def copied(tables):
    """The hours of two training stays under the keys of test stays."""
    stays = {s: tables.samples.filter(pl.col("split") == s)["stay"][:2] for s in ("train", "test")}
    keys = pl.DataFrame({"stay": stays["train"], "copy": stays["test"]})
    copies = tables.hourly.join(keys, on="stay").with_columns(stay="copy").drop("copy")
    kept = tables.hourly.filter(~pl.col("stay").is_in(stays["test"].implode()))
    return pl.concat([kept, copies])


def copied_with_noise(tables):
    hourly = copied(tables)
    noise = np.random.default_rng(3).normal(0, 0.01, hourly.height)
    return hourly.with_columns(pl.col("hr") + noise, pl.col("lactate") - noise)


def copied_and_cut(tables):
    """The same, and each stay is seen for another number of hours."""
    tables.samples = tables.samples.with_columns(
        end=pl.when(pl.col("split") == "train").then(40.0).otherwise(30.0)
    )
    tables.hourly = longer(tables.hourly)
    return copied(tables)


def longer(hourly, hours=40):
    """The stays with the same hours again, up to 40."""
    grid = pl.DataFrame({"hour": np.arange(hours)})
    times = hourly.group_by("stay").agg(pl.col("hour").max() + 1).rename({"hour": "num"})
    rows = times.join(grid, how="cross").with_columns(of=pl.col("hour") % pl.col("num"))
    again = rows.join(hourly.rename({"hour": "of"}), on=["stay", "of"])
    return again.select(hourly.columns)


WHOLE = {"task": TASK.model_copy(update={"hours": None})}
LEAKS = {
    "a patient in two splits": (shared_patient, "samples", {}, {"patients in one part": 1}),
    "a stay in two splits": (
        *(shared_stay, "samples", WHOLE),
        {"patients in one part": 1, "stays in one part": 1},
    ),
    "fitted to all": (None, "", {"fitted_to": ("train", "val", "test")}, {"normaliser": 3}),
    "fitted to test": (None, "", {"fitted_to": ("test",)}, {"normaliser": 3}),
    "filled backward": (backward_filled, "hourly", {}, {"empty hours": 89}),
    "interpolated": (interpolated, "hourly", {}, {"empty hours": 158}),
    "length of stay": (length_as_a_channel, "hourly", {}, {"length of the stay": 1}),
    "key": (key_as_a_channel, "hourly", {}, {"number of a stay": 1}),
    "label": (label_as_a_channel, "hourly", {}, {"tells the label": 1}),
    "label with noise": (label_with_noise, "hourly", {}, {"tells the label": 1}),
    "label in the last hour": (label_at_the_last_hour, "hourly", {}, {"tells the label": 1}),
    "label of two channels": (label_of_two_channels, "hourly", {}, {"two channels": 1}),
    "lengths": (length_by_label, "samples", WHOLE, {"lengths and padding": 1}),
    "padding": (padded_by_label, "hourly", {}, {"lengths and padding": 1}),
    "copies": (copied, "hourly", {}, {"copies": 4}),
    "copies with noise": (copied_with_noise, "hourly", {}, {"copies": 4}),
    "cut copies": (copied_and_cut, "hourly", WHOLE, {"copies": 4}),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_planted_leak_is_found_and_nothing_else(name, tmp_path):
    plant, changed, more, expected = LEAKS[name]
    tables = clean()
    if plant is not None:
        more = more | {changed: plant(tables)}
    seen = found(checks.check_store(write(tmp_path, dataclasses.replace(tables, **more))))
    assert len(seen) == len(expected), seen
    for check, count in expected.items():
        assert [number for each, number in seen.items() if check in each] == [count], seen


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clean") / "store", clean())


def test_a_clean_cohort_has_no_finding_and_a_sentence_for_each_check(store):
    outcomes = checks.check_store(store)
    assert [o.status for o in outcomes] == ["passed"] * 11
    assert all(o.text.endswith(".") and not o.advice for o in outcomes)
    assert checks.check_store(store) == outcomes  # seeded


def test_a_large_store_is_read_in_part_and_says_so(store):
    outcomes = checks.check_store(store, most_cells=6_000)
    assert not checks.findings(outcomes)
    told = " ".join(o.text for o in outcomes)
    assert "of about 160 stays, chosen by the seed 0." in told
    view = View(store, TASK, most_cells=6_000)
    assert 20 < view.chosen.height < 160
    assert view.hours.size <= 6_000


@pytest.mark.parametrize(("leak", "expected"), [(None, {}), ("all", {"normaliser": 3})])
def test_folds(leak, expected, tmp_path):
    tables = clean()
    fold = pl.Series("fold", tables.samples["patient"].to_numpy() % 4 + 1)
    tables.samples = tables.samples.drop("split").with_columns(fold)
    tables.folds = 4
    if leak:
        tables.fitted_to = ("train", "val")
    seen = found(checks.check_store(write(tmp_path / "a", tables)))
    assert list(seen.values()) == list(expected.values())
    tables.samples = patient_of(tables, tables.samples["stay"][0], 1)
    assert (
        found(checks.check_store(write(tmp_path / "b", tables)))["patients in one part only"] == 1
    )


class Peeking:
    """A model whose prediction is a number of the hour after a sample's last one."""

    def __init__(self, hours):
        self.hours = hours

    def predict(self, samples):
        first = samples.units.offset[samples.unit.long()]
        at = (first + samples.length + self.hours).clamp(max=len(samples.units.values) - 1)
        return samples.units.values[at, :1].numpy()


def test_a_model_that_looks_ahead_is_found(store):
    view, constants = View(store, TASK), (np.zeros(6), np.ones(6))
    (at_last, after) = (future.predictions(view, Peeking(hours), constants) for hours in (-1, 0))
    assert (at_last.status, after.status, after.count) == ("passed", "found", 64)


def test_inputs_that_hold_later_hours_are_found(store, monkeypatch):
    right = Samples._hours
    monkeypatch.setattr(
        Samples,
        "_hours",
        lambda self, first, length, most: right(self, first, length + 1, most + 1),
    )
    assert future.inputs(View(store, TASK)).count == 64


def test_images(tmp_path):
    folder = write_cifar_binary(tmp_path / "cifar")
    clean = import_images(folder, tmp_path / "clean", validation=30)
    assert [o.status for o in checks.check_store(clean)] == ["passed"] * 3
    batch = {n: np.fromfile(folder / f"{n}.bin", np.uint8).reshape(-1, 3073) for n in BATCHES}
    batch["test_batch"][0] = batch["data_batch_1"][0]
    for name, rows in batch.items():
        rows[:, 100] = rows[:, 0] * 20  # a pixel holds the class
        rows.tofile(folder / f"{name}.bin")
    leaky = import_images(folder, tmp_path / "leaky", validation=30)
    expected = {"no copies in another part": 1, "no single pixel tells the label": 1}
    assert found(checks.check_store(leaky)) == expected


BATCHES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]


def test_the_command(store, tmp_path):
    done = mimic_reg("check", store.folder, "--json")
    assert done.returncode == 0
    assert {c["status"] for c in json.loads(done.stdout)["checks"]} == {"passed"}
    leaky = write(tmp_path / "leaky", dataclasses.replace(clean(), fitted_to=("test",)))
    done = mimic_reg("check", leaky.folder)
    assert done.returncode == 1
    assert "FOUND: The means or deviations of 3 channels are those of test" in done.stdout
    assert "What to do: Fit the normaliser to the training hours alone" in done.stdout
    assert "1 of 11 checks found something." in done.stdout
    done = mimic_reg("check", store.folder, "--tasks", "deaths")
    assert (done.returncode, "'deaths' is not a task" in done.stderr) == (2, True)
