"""Importing a cohort that ricu or YAIB extracted."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from mimic_reg.cohorts import import_cohort, importing
from mimic_reg.errors import InputError
from mimic_reg.samples import load
from mimic_reg.store import Store
from tests.cohorts.tables import hourly_labels, imported, settings, tables, write
from tests.shared import shared


def split_of(store):
    frame = store.read(f"tasks/{store.spec.tasks[0].name}.parquet")
    return dict(zip(frame[store.spec.unit], frame["split"], strict=True))


def arrays(store):
    """Stay -> normalised hours of its longest sample."""
    task = store.spec.tasks[0]
    table = store.read(f"tasks/{task.name}.parquet")
    found = {}
    for samples in load(store, task, normalizer="fitted").values():
        batch = samples.gather(torch.arange(len(samples)))
        for row, x, length in zip(samples.row, batch.x, batch.lengths, strict=True):
            stay = table[store.spec.unit][int(row)]
            if stay not in found or len(found[stay]) < length:
                found[stay] = x[:length].numpy()
    return found


def expected(dyn, sta, train):
    """The same arrays by pandas, as YAIB: scale, indicate what is missing, fill, then zeros."""
    hours = {
        s: int(t / pd.Timedelta("1h")) for s, t in dyn.groupby("stay_id")["time"].max().items()
    }
    grid = pd.MultiIndex.from_tuples(
        [(s, pd.Timedelta(hours=h)) for s, n in hours.items() for h in range(n + 1)],
        names=["stay_id", "time"],
    )
    raw = dyn.set_index(["stay_id", "time"]).reindex(grid)
    values = raw[["hr", "temp"]]
    seen = values[raw.index.get_level_values(0).isin(train)]
    values = (values - seen.mean()) / seen.std()
    values = values.groupby("stay_id").ffill().fillna(0)
    vent = raw["vent"].astype("Float64").groupby("stay_id").ffill().fillna(0).astype(float)
    static = sta.set_index("stay_id")
    numbers = static[["age", "weight"]]
    of_train = numbers[numbers.index.isin(train)]
    numbers = ((numbers - of_train.mean()) / of_train.std()).fillna(0)
    columns = {
        "hr": values["hr"],
        "temp": values["temp"],
        "vent": vent,
        "age": numbers["age"],
        "sex->Female": (static["sex"] == "Female").astype(float),
        "sex->Male": (static["sex"] == "Male").astype(float),
        "weight": numbers["weight"],
        **{f"missing->{c}": raw[c].isna().astype(float) for c in ("hr", "temp", "vent")},
    }
    stays = raw.index.get_level_values(0)
    together = {
        n: c.to_numpy() if len(c) == len(raw) else c.loc[stays].to_numpy()
        for n, c in columns.items()
    }
    frame = pd.DataFrame(together, index=stays)
    return list(frame.columns), {s: rows.to_numpy() for s, rows in frame.groupby(level=0)}


def test_the_arrays_are_those_that_pandas_computes(tmp_path):
    dyn, sta, outc = tables()
    store = import_cohort(
        write(tmp_path / "in", dyn, sta, outc), tmp_path / "out", settings()
    ).store
    split = split_of(store)
    names, right = expected(dyn, sta, [s for s, name in split.items() if name == "train"])
    assert list(store.spec.channel_names) == names
    found = arrays(store)
    assert found.keys() == right.keys()
    for stay, rows in found.items():
        np.testing.assert_allclose(rows, right[stay], atol=2e-5)
    assert not Store.open(store.folder).changed_files()


def test_a_label_of_an_hour_sees_that_hour_and_nothing_later(tmp_path):
    dyn, sta, _ = tables(num=30)
    outc = hourly_labels(dyn)
    store = imported(tmp_path / "a", (dyn, sta, outc)).store
    samples = store.read("tasks/in.parquet")
    assert samples["hours_seen"].min() == 1
    assert len(samples) == len(outc)
    later = dyn["time"] > pd.Timedelta("5h")
    changed = dyn.assign(hr=dyn["hr"].mask(later, dyn["hr"] + 1000))
    other = imported(tmp_path / "b", (changed, sta, outc)).store
    first, second = (
        which.read("hourly.parquet").filter(pl.col("hour") <= 5) for which in (store, other)
    )
    assert first.equals(second)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_all_formats_give_the_same_store(tmp_path, suffix):
    dyn, sta, outc = tables()
    for name, labels in (("stay", outc), ("hour", hourly_labels(dyn))):
        wanted, found = (
            imported(tmp_path / f"[{name}]" / kind, (dyn, sta, labels), kind).store.manifest
            for kind in (".parquet", suffix)
        )
        assert found["fingerprint"] == wanted["fingerprint"]


def test_the_store_does_not_depend_on_memory_or_the_order_of_rows(tmp_path, monkeypatch):
    dyn, sta, outc = tables()
    wanted = imported(tmp_path / "a", (dyn, sta, outc)).store.manifest["fingerprint"]
    with pytest.raises(
        InputError, match=r"100 rows need at least 0.5 GB .* --memory allows 0.0 GB"
    ):
        importing.rows_within(1 << 20, 10, 100)
    monkeypatch.setattr(importing, "rows_within", lambda *_: 50)  # of a part
    shuffled = dyn.sample(frac=1, random_state=0)
    again = imported(tmp_path / "b", (shuffled, sta, outc), ".csv.gz").store
    assert again.manifest["fingerprint"] == wanted
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["in", "out"]


def test_numbers_in_text_are_numbers(tmp_path):
    dyn, sta, outc = tables()
    text = dyn.assign(time=(dyn["time"] / pd.Timedelta("1h")).astype(str)), sta, outc.astype(str)
    wanted, found = (
        imported(tmp_path / name, parts).store
        for name, parts in (("a", (dyn, sta, outc)), ("b", text))
    )
    assert found.manifest["fingerprint"] == wanted.manifest["fingerprint"]


def test_numbers_of_hours_minutes_and_days_are_the_same_times(tmp_path):
    dyn, sta, outc = tables()
    fingerprints = set()
    for unit in ("seconds", "minutes", "hours", "days"):
        numbers = dyn.assign(time=dyn["time"] / pd.Timedelta(1, unit.removesuffix("s")))
        store = imported(tmp_path / unit, (numbers, sta, outc), time_unit=unit).store
        fingerprints.add(store.manifest["fingerprint"])
    assert len(fingerprints) == 1


def test_several_measurements_of_an_hour_are_aggregated(tmp_path):
    dyn, sta, outc = tables(num=40)
    stay = dyn["stay_id"].iloc[0]
    times = pd.to_timedelta([0, 10, 20, 30], unit="min")
    more = pd.DataFrame(
        {"stay_id": stay, "time": times, "hr": [1.0, 9.0, 50.0, np.nan], "temp": 37.0}
    )
    dyn = pd.concat([more, dyn[~((dyn["stay_id"] == stay) & (dyn["time"] < times[3]))]])
    dyn = dyn.sample(frac=1, random_state=1)  # the order of rows does not matter
    for how, value in (("median", 9.0), ("mean", 20.0), ("last", 50.0)):
        folder = write(tmp_path / how, dyn, sta, outc)
        store = import_cohort(folder, tmp_path / f"{how}-store", settings(aggregate=how)).store
        first = store.read("hourly.parquet").filter(stay_id=stay, hour=0)
        assert first["hr"][0] == value


def test_choices_of_normal_values_indicators_hours_and_columns(tmp_path):
    given = {
        "normal_values": {"temp": 36.5},
        "indicators": "observed",
        "hours": 3,
        "dynamic": {"continuous": ["hr", "temp"]},
        "static": {"leave_out": ["weight"]},
    }
    store = imported(tmp_path, tables(), **given).store
    names = "hr temp age sex->Female sex->Male observed->hr observed->temp"
    assert " ".join(store.spec.channel_names) == names
    assert store.spec.tasks[0].hours == 3
    hourly = store.read("hourly.parquet")
    assert hourly["temp"].null_count() == 0
    assert hourly["hour"].max() == 2
    assert set(hourly.filter(pl.col("observed->temp") == 0)["temp"]) >= {36.5}
    assert store.manifest["source"]["settings"]["normal_values"] == {"temp": 36.5}


@pytest.mark.parametrize(
    ("labels", "given", "target", "classes"),
    [
        ([0, 1], {}, "binary", ()),
        ([True, False], {}, "binary", ()),
        ([0.5, 1.25, 3.0], {}, "regression", ()),
        (list(range(30)), {}, "regression", ()),
        (["b", "c", "a"], {}, "multiclass", ("a", "b", "c")),
        (["b", "c", "a"], {"classes": ["c", "a", "b"]}, "multiclass", ("c", "a", "b")),
        ([1, 2, 3], {"target": "multiclass"}, "multiclass", ("1", "2", "3")),
        ([1, 2, 3], {"target": "regression"}, "regression", ()),
    ],
)  # fmt: skip
def test_the_target_follows_from_the_labels(tmp_path, labels, given, target, classes):
    dyn, sta, outc = tables()
    outc["label"] = (labels * 60)[: len(outc)]
    imported = import_cohort(
        write(tmp_path / "in", dyn, sta, outc), tmp_path / "out", settings(**given)
    )
    (task,) = imported.store.spec.tasks
    assert (task.target, task.classes) == (target, classes)
    assert sum(c["stays"] for c in imported.counts.values()) == len(outc)


def test_nothing_is_computed_from_validation_and_test(tmp_path):
    dyn, sta, outc = tables()
    dyn["mode"] = np.resize([0, 1], len(dyn))
    sta["unit"] = np.resize(["a", "b"], len(sta))
    given = {"dynamic": {"categorical": ["mode", "vent"], "continuous": ["hr", "temp"]}}
    before = imported(tmp_path / "a", (dyn, sta, outc), **given).store
    split = split_of(before)
    train = [stay for stay, name in split.items() if name == "train"]
    others, rows = ~sta["stay_id"].isin(train), ~dyn["stay_id"].isin(train)
    dyn.loc[rows, ["hr", "temp", "mode"]] = [1e6, np.nan, 2]
    sta.loc[others, ["age", "weight", "unit"]] = [1e6, np.nan, "c"]
    changed = imported(tmp_path / "b", (dyn, sta, outc), **given)
    after = changed.store
    count = int(others.sum())
    assert f"Values of 'unit' in sta.parquet that no training stay has: {count}." in str(
        changed.notes
    )
    assert after.spec == before.spec
    assert split_of(after) == split
    name = "normalizers/in.json"
    assert (after.folder / name).read_bytes() == (before.folder / name).read_bytes()
    first, second = (s.read("hourly.parquet") for s in (before, after))
    assert first.filter(pl.col("stay_id").is_in(train)).equals(
        second.filter(pl.col("stay_id").is_in(train))
    )


def test_several_labels_make_a_multilabel_task(tmp_path):
    dyn, sta, outc = tables()
    outc["second"], outc["never"] = 1 - outc["label"], 0
    found = imported(tmp_path, (dyn, sta, outc), labels=["label", "second", "never"])
    store = found.store
    assert found.notes == ("Labels that are all the same in training: never.",)
    assert store.spec.tasks[0].target == "multilabel"
    assert store.spec.tasks[0].score == "macro_auroc"


def test_splits_keep_patients_together_and_classes_in_proportion(tmp_path):
    dyn, sta, outc = tables(num=200)
    folder = write(tmp_path / "in", dyn, sta, outc)
    first = import_cohort(folder, tmp_path / "a", settings())
    shares = [c["positive"] / c["stays"] for c in first.counts.values()]
    assert max(shares) - min(shares) < 0.06
    assert [c["patients"] for c in first.counts.values()] == [64, 16, 20]
    split = split_of(first.store)
    by_patient = sta.assign(split=sta["stay_id"].map(split)).groupby("patient")["split"].nunique()
    assert by_patient.max() == 1
    other = import_cohort(folder, tmp_path / "b", settings(splits={"seed": 1}))
    assert split_of(other.store) != split
    parts = np.repeat(["training", "val", "Test", "training", "test"], 2)
    given = sta.assign(part=np.resize(parts, len(sta)))
    folder = write(tmp_path / "given", dyn, given, outc)
    third = import_cohort(folder, tmp_path / "c", settings(splits={"column": "part"}))
    assert third.counts["train"]["stays"] == len(given[given["part"] == "training"])
    assert not any("part" in c for c in third.store.spec.channel_names)


def test_files_may_list_the_stays_or_patients_of_the_splits(tmp_path):
    dyn, sta, outc = tables()
    wanted = np.array(["train", "train", "validation", "test", "train"])[sta["patient"] % 5]
    for key in ("stay_id", "patient"):
        folder = write(tmp_path / key / "in", dyn, sta, outc)
        files = {name: f"{name}.csv" for name in ("train", "validation", "test")}
        for name, file in files.items():
            sta.loc[wanted == name, [key]].to_csv(folder / file, index=False)
        chosen = settings(splits={"files": files})
        store = import_cohort(folder, tmp_path / key / "out", chosen).store
        named = {"val": "validation"}
        assert [named.get(s, s) for s in split_of(store).values()] == wanted.tolist()
    sta.loc[wanted != "train", ["patient"]].to_csv(folder / "train.csv", index=False)
    with pytest.raises(InputError, match="rows share their patient with another file"):
        import_cohort(folder, tmp_path / "other", chosen)
    sta.loc[sta["patient"] == 0, ["patient"]].to_csv(folder / "train.csv", index=False)
    with pytest.raises(InputError, match="34 labelled stays are in none of the files"):
        import_cohort(folder, tmp_path / "other", chosen)
    sta.loc[wanted == "train", ["patient"]].to_csv(folder / "train.csv", index=False)
    lists = {"folds": 3, "files": [f"{name}.csv" for name in ("test", "validation", "train")]}
    store = import_cohort(folder, tmp_path / "folds", settings(splits=lists)).store
    folds = store.read("tasks/in.parquet")["fold"].to_list()
    assert folds == [{"test": 1, "validation": 2, "train": 3}[name] for name in wanted]
    with pytest.raises(InputError, match="must name 3 tables"):
        settings(splits={"folds": 3, "files": ["train.csv"]})


def test_another_cohort_is_not_replaced_without_force(tmp_path):
    folder = write(tmp_path / "in", *tables())
    import_cohort(folder, tmp_path / "out", settings(name="first"))
    with pytest.raises(InputError, match="holds the cohort 'first'"):
        import_cohort(folder, tmp_path / "out", settings(name="second"))
    replaced = import_cohort(folder, tmp_path / "out", settings(name="second"), force=True)
    assert replaced.store.spec.name == "second"


@pytest.mark.parametrize("task", ["mortality24", "aki", "los", "kidney_function"])
def test_the_tasks_of_the_mimic_demo_are_imported(tmp_path, task):
    folder = shared("data/ricu-mimic-demo") / task
    store = import_cohort(folder, tmp_path / "store").store
    outc = pl.read_parquet(folder / "outc.parquet")
    samples = store.read(f"tasks/{task}.parquet")
    assert samples.height == outc.height
    assert samples["label"].cast(pl.Float64).sum() == outc["label"].cast(pl.Float64).sum()
    assert len(store.spec.channels) == 48 * 2 + 3 + 2
