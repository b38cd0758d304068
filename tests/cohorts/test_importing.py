"""Importing a cohort that ricu or YAIB extracted."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from mimic_reg.cohorts import ImportSettings, import_cohort
from mimic_reg.errors import InputError
from mimic_reg.samples import load
from mimic_reg.settings.base import checked
from mimic_reg.store import Store
from tests.cohorts.tables import hourly_labels, tables, write
from tests.shared import shared

SUBJECT = {"subject": "patient"}


def settings(**given):
    return checked(ImportSettings, SUBJECT | given)


def imported(folder, parts, suffix=".parquet", **given):
    """Import tables that are written into `folder` first."""
    source = write(folder / "in", *parts, suffix)
    return import_cohort(source, folder / "out", settings(**given))


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
            imported(tmp_path / name / kind, (dyn, sta, labels), kind).store.manifest
            for kind in (".parquet", suffix)
        )
        assert found["fingerprint"] == wanted["fingerprint"]


def test_numbers_of_hours_minutes_and_days_are_the_same_times(tmp_path):
    dyn, sta, outc = tables()
    fingerprints = set()
    for unit in ("minutes", "hours", "days"):
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
    dyn = pd.concat([dyn[~((dyn["stay_id"] == stay) & (dyn["time"] < times[3]))], more])
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


def test_several_labels_make_a_multilabel_task(tmp_path):
    dyn, sta, outc = tables()
    outc["second"] = 1 - outc["label"]
    store = imported(tmp_path, (dyn, sta, outc), labels=["label", "second"]).store
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


def spoiled(case):
    """Tables with one fault, and the settings to read them with."""
    dyn, sta, outc = tables(num=40)
    given = dict(SUBJECT)
    stay = outc["stay_id"].iloc[0]
    match case:
        case "no dyn":
            dyn = None
        case "no label column":
            outc = outc.rename(columns={"label": "lable"})
        case "no stay column":
            sta = sta.rename(columns={"stay_id": "stayid"})
        case "no time":
            dyn = dyn.drop(columns="time")
        case "text as stay":
            dyn["stay_id"] = "a" + dyn["stay_id"].astype(str)
        case "empty stay":
            dyn["stay_id"] = dyn["stay_id"].astype(float).where(dyn.index > 2)
        case "before admission":
            dyn.loc[:2, "time"] = pd.to_timedelta([-3, -2, -1], unit="h")
        case "dates":
            dyn["time"] = pd.Timestamp("2020-01-01") + dyn["time"]
        case "labels without stays":
            dyn = dyn[dyn["stay_id"] != stay]
        case "labels without static":
            sta = sta[sta["stay_id"] != stay]
        case "repeated hours":
            dyn = pd.concat([dyn, dyn[dyn["stay_id"] == stay]])
        case "repeated stays":
            sta = pd.concat([sta, sta.head(3)])
        case "repeated labels":
            outc = pd.concat([outc, outc.head(2)])
        case "one class":
            outc["label"] = 0
        case "one class in training":
            sta["split"] = np.where(outc["label"] == 1, "test", "train")
            sta.loc[sta.index % 7 == 0, "split"] = "val"
            given["splits"] = {"column": "split"}
        case "empty split":
            sta["split"] = np.where(np.arange(len(sta)) // 2 % 2, "train", "val")
            given["splits"] = {"column": "split"}
        case "unknown split":
            sta["split"] = "dev"
            given["splits"] = {"column": "split"}
        case "infinite":
            dyn.loc[dyn.index[:4], "hr"] = np.inf
        case "a key as a feature":
            given = {}
            sta["hospital_id"] = 7
        case "label as a feature":
            dyn["label"] = 1.0
        case "ambiguous labels":
            outc["label"] = np.resize([1, 2, 3], len(outc))
        case "empty labels":
            outc["label"] = np.nan
        case "unknown variable":
            given["dynamic"] = {"continuous": ["hrr"]}
        case "same variable twice":
            sta["hr"] = 1.0
        case "wrong score":
            given["score"] = "macro_auroc"
        case "shares":
            given["splits"] = {"train": 0.9}
    return dyn, sta, outc, given


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("no dyn", "has no dyn table"),
        ("no label column", "has no column 'label'.*Did you mean 'lable'"),
        ("no stay column", "has no column 'stay_id'.*Did you mean 'stayid'"),
        ("no time", "has no column 'time'"),
        ("text as stay", "'stay_id' holds String, not whole numbers"),
        ("empty stay", "3 rows have no 'stay_id'"),
        ("before admission", "3 of .* rows .* lie before admission.*before_admission: drop"),
        ("dates", "must be the time since admission"),
        ("labels without stays", "1 of 40 stays of outc.parquet are not in dyn.parquet.*unmatched"),
        ("labels without static", "1 of 40 stays of outc.parquet are not in sta.parquet"),
        ("repeated hours", "rows of .*dyn.parquet share their stay_id and time"),
        ("repeated stays", "6 rows of .*sta.parquet share their stay_id"),
        ("repeated labels", "4 rows of .*outc.parquet share their stay_id"),
        ("one class", "all the same label"),
        ("one class in training", "train samples of in have all the same label"),
        ("empty split", "no samples of in in the split 'test'"),
        ("unknown split", "40 stays have another value in 'split'"),
        ("infinite", "4 values of 'hr' are infinite"),
        ("a key as a feature", "'hospital_id' looks like a key"),
        ("label as a feature", "has the label column 'label'"),
        ("ambiguous labels", "set target to multiclass or regression"),
        ("empty labels", "has no row with a label"),
        ("unknown variable", "no feature column 'hrr'.*Did you mean 'hr'"),
        ("same variable twice", "'hr' is in both dyn and sta"),
        ("wrong score", "'macro_auroc' is not a score of binary tasks"),
        ("shares", "sum to 1.26; they must sum to 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_with_a_count(tmp_path, case, text):
    dyn, sta, outc, given = spoiled(case)
    folder = write(tmp_path / "in", tables()[0] if dyn is None else dyn, sta, outc)
    if dyn is None:
        (folder / "dyn.parquet").unlink()
    with pytest.raises(InputError, match=f"(?s){text}"):
        import_cohort(folder, tmp_path / "out", checked(ImportSettings, given))
    assert not (tmp_path / "out").exists()


def test_rows_and_stays_that_do_not_fit_can_be_dropped_and_are_counted(tmp_path):
    dyn, sta, outc, given = spoiled("before admission")
    dyn = dyn[dyn["stay_id"] != outc["stay_id"].iloc[5]]
    chosen = checked(ImportSettings, given | {"before_admission": "drop", "unmatched": "drop"})
    found = import_cohort(write(tmp_path / "in", dyn, sta, outc), tmp_path / "out", chosen)
    assert "dropped 3 rows before admission" in found.notes[0]
    assert any("1 labelled stays that are not in dyn" in note for note in found.notes)
    assert sum(c["stays"] for c in found.counts.values()) == len(outc) - 1


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
