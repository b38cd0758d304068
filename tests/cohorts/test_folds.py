"""A cohort divided into folds: by subject, stratified, nothing of a test fold in its training."""

import numpy as np
import polars as pl
import pytest
import torch

import mimic_reg as mr
from mimic_reg.errors import InputError
from mimic_reg.samples import load, read_normalizer
from mimic_reg.sources.frames import write_store
from mimic_reg.store import normalizer_name
from tests.cohorts.tables import imported, tables
from tests.shared import shared

FOLDS = {"splits": {"folds": 3}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return imported(tmp_path_factory.mktemp("folds"), tables(), **FOLDS).store


def samples_of(store):
    return store.read("tasks/in.parquet")


def arrays(store, fold, split):
    """Stay -> hours, of a split of a fold."""
    opened = store.in_fold(fold)
    samples = load(opened, opened.spec.tasks[0], normalizer="fitted")[split]
    batch = samples.gather(torch.arange(len(samples)))
    stays = opened.read("tasks/in.parquet")["stay_id"].to_numpy()[samples.row]
    return {s: x[:n].numpy() for s, x, n in zip(stays, batch.x, batch.lengths, strict=True)}


def test_patients_are_in_one_fold_and_classes_in_proportion(store, tmp_path):
    found = samples_of(store)
    assert found.group_by("patient").agg(pl.col("fold").n_unique())["fold"].to_list() == [1] * 30
    of_fold = found.group_by("fold").agg(
        pl.col("patient").n_unique().alias("patients"), pl.col("label").mean()
    )
    assert of_fold["patients"].to_list() == [10] * 3
    assert of_fold["label"].max() - of_fold["label"].min() < 0.11
    again = imported(tmp_path / "again", tables(), **FOLDS).store
    assert again.manifest["fingerprint"] == store.manifest["fingerprint"]
    other = imported(tmp_path / "other", tables(), splits={"folds": 3, "seed": 1}).store
    assert not samples_of(other).equals(found)


def test_each_fold_tests_once_and_the_next_one_validates(store):
    tested = []
    for fold in (1, 2, 3):
        table = store.in_fold(fold).read("tasks/in.parquet")
        assert "fold" not in table.columns
        whole = samples_of(store).join(table.select("stay_id", "split"), on="stay_id")
        split = dict(whole.select("fold", "split").unique().iter_rows())
        names = {fold: "test", fold % 3 + 1: "val"}
        assert split == {n: names.get(n, "train") for n in (1, 2, 3)}
        tested += table.filter(split="test")["stay_id"].to_list()
    assert sorted(tested) == sorted(samples_of(store)["stay_id"])


def test_nothing_of_a_test_fold_reaches_its_training(store, tmp_path):
    dyn, sta, outc = tables()
    stays = samples_of(store).filter(fold=2)["stay_id"].to_numpy()
    dyn = dyn.assign(hr=dyn["hr"].mask(dyn["stay_id"].isin(stays), dyn["hr"] * 3 + 500))
    sta = sta.assign(
        age=sta["age"].mask(sta["stay_id"].isin(stays), 200.0),
        sex=sta["sex"].mask(sta["stay_id"].isin(stays), "Other"),
    )
    other = imported(tmp_path, (dyn, sta, outc), **FOLDS).store
    names = list(other.spec.channel_names)
    new = names.index("sex->Other")
    assert names[:new] + names[new + 1 :] == list(store.spec.channel_names)
    for fold, same in ((2, True), (1, True), (3, False)):  # fold 2 tests, validates, trains
        constants = [
            np.stack(read_normalizer(s.in_fold(fold), s.spec.tasks[0], "fitted"))
            for s in (store, other)
        ]
        assert np.array_equal(constants[0], np.delete(constants[1], new, axis=1)) is same
    for split in ("train", "val"):
        first, second = arrays(store, 2, split), arrays(other, 2, split)
        assert first.keys() == second.keys()
        assert all(np.array_equal(x, np.delete(second[s], new, axis=1)) for s, x in first.items())
    changed = arrays(other, 2, "test")[stays[0]]
    assert changed[:, names.index("age")].max() > 3
    assert not changed[:, new].any(), "a category that no training patient has is 0"
    assert arrays(other, 3, "train")[stays[0]][:, new].all()


def test_a_normalizer_is_that_of_the_training_part_alone(store):
    table = store.in_fold(1).read("tasks/in.parquet")
    train = table.filter(split="train")["stay_id"]
    dyn = pl.from_pandas(tables()[0][["stay_id", "temp"]])
    mean, std = read_normalizer(store.in_fold(1), store.spec.tasks[0], "fitted")
    at = store.spec.channel_names.index("temp")
    here = dyn.filter(pl.col("stay_id").is_in(train.implode()))["temp"].drop_nans()
    assert (mean[at], std[at]) == pytest.approx((here.mean(), here.std()), rel=1e-6)


@pytest.mark.parametrize("folds", [3, None])
def test_a_variable_that_training_never_has_is_zero(tmp_path, folds):
    dyn, sta, outc = tables()
    sta["part"] = np.array(["test", "val", "train"])[sta["patient"] % 3]  # sorted: folds 1 to 3
    outc = outc.assign(label=sta["patient"] // 3 % 2)
    unseen = sta["stay_id"][sta["part"] == "test"]
    dyn["rare"] = np.where(dyn["stay_id"].isin(unseen), 300.0, np.nan)
    splits = {"folds": folds, "column": "part"}
    store = imported(tmp_path, (dyn, sta, outc), splits=splits).store
    fold = (
        store.read("tasks/in.parquet").filter(stay_id=unseen.iloc[0])["fold"][0] if folds else None
    )
    at = store.spec.channel_names.index("rare")
    assert all(not x[:, at].any() for x in arrays(store, fold, "test").values())


def test_a_column_may_name_the_folds(tmp_path):
    dyn, sta, outc = tables()
    sta["part"] = np.array(["c", "a", "b"])[sta["patient"] % 3]
    column = {"splits": {"folds": 3, "column": "part"}}
    result = imported(tmp_path / "a", (dyn, sta, outc.assign(label=sta["patient"] % 2)), **column)
    found = samples_of(result.store)
    names = dict(zip(sta["stay_id"], sta["part"], strict=True))
    assert {(names[s], f) for s, f in found.select("stay_id", "fold").iter_rows()} == {
        ("a", 1), ("b", 2), ("c", 3)}  # fmt: skip
    assert "Folds 1, 2, … are the values a, b, c of 'part'." in result.notes
    with pytest.raises(InputError, match=r"'part' has 3 values, but splits.folds is 4"):
        imported(tmp_path / "b", (dyn, sta, outc), splits={"folds": 4, "column": "part"})
    sta["part"] = np.arange(len(sta)) % 3
    with pytest.raises(InputError, match=r"subjects of in are in several folds"):
        imported(tmp_path / "c", (dyn, sta, outc.assign(label=sta["patient"] % 2)), **column)


@pytest.mark.parametrize(
    ("splits", "text"),
    [
        ({"folds": 2}, "3"),
        ({"folds": 3, "test": 0.3, "train": 0.5, "validation": 0.2}, "equal shares"),
        ({"folds": 20}, "samples of in in fold .* have all the same label.* fewer folds"),
    ],
)
def test_folds_that_cannot_be_are_refused(tmp_path, splits, text):
    with pytest.raises(InputError, match=text):
        imported(tmp_path, tables(num=40), splits=splits)


def test_a_fold_is_needed_and_must_exist(store, tmp_path):
    task = store.spec.tasks[0]
    with pytest.raises(InputError, match=r"divided into 3 folds .* Name the fold .*: 1 to 3\."):
        load(store, task, normalizer="fitted")
    for wrong in (0, 4):
        with pytest.raises(InputError, match=rf"1 to 3, not {wrong}"):
            store.in_fold(wrong)
    plain = imported(tmp_path, tables()).store
    assert "folds" not in plain.manifest["cohort"]
    with pytest.raises(InputError, match=r"has no folds: its patients are divided once \(64%"):
        plain.in_fold(1)


def test_tables_with_folds_are_written_and_checked(store, tmp_path):
    hourly, samples = store.read("hourly.parquet"), samples_of(store)
    spec = store.spec
    again = mr.write_store(hourly, {"in": samples}, spec, tmp_path / "a")
    assert again.folds == (1, 2, 3)
    for change, text in (
        (pl.col("fold") + 1, r"samples of in have a fold other than 1 to 3"),
        (pl.col("fold").clip(2), r"no samples of in in the fold 1"),
        (pl.col("fold").cast(pl.String), r"'fold' must hold whole numbers"),
        (
            pl.when(pl.col("stay_id") == samples["stay_id"][0])
            .then(pl.col("fold") % 3 + 1)
            .otherwise(pl.col("fold")),
            r"1 subjects of in are in several folds",
        ),
    ):
        with pytest.raises(InputError, match=text):
            write_store(hourly, {"in": samples.with_columns(change)}, spec, tmp_path / "b")


def test_python_trains_and_predicts_in_a_fold(store, tmp_path):
    opened = mr.open_store(store.folder)
    train, _, test = opened.samples("in", fold=2)
    assert set(train.to_polars()["patient"]).isdisjoint(test.to_polars()["patient"])
    run = mr.fit(opened, "in", "logistic_regression", fold=2, out=tmp_path / "run")
    assert (run.fold, "fold 2" in repr(run)) == (2, True)
    assert len(run.predict()) == len(run.predict(test)) == len(test)
    assert np.array_equal(run.predict(opened), run.predict(test))
    with pytest.raises(InputError, match=r"samples are those of fold 1, .* tested on fold 2"):
        run.predict(opened.samples("in", fold=1).test)
    with pytest.raises(InputError, match="Name the fold"):
        mr.fit(opened, "in", "logistic_regression", out=tmp_path / "other")
    assert mr.fit(opened.in_fold(2), "in", "logistic_regression", out=tmp_path / "run").id == run.id


def test_real_cohorts_are_divided(tmp_path):
    folder = shared("data/ricu-mimic-demo/mortality24")
    from mimic_reg.cohorts import ImportSettings, import_cohort
    from mimic_reg.settings.base import checked

    settings = checked(ImportSettings, {"splits": {"folds": 5}})
    imported = import_cohort(folder, tmp_path / "store", settings)
    assert {count["samples"] for count in imported.counts.values()} == {19, 20}
    assert {count["positive"] for count in imported.counts.values()} == {4, 5}


def test_repeated_divisions_are_further_folds(store, tmp_path):
    twice = imported(tmp_path / "twice", tables(), splits={"folds": 3, "repeats": 2}).store
    task = twice.read("tasks/in.parquet")
    assert task["fold"].equals(store.read("tasks/in.parquet")["fold"])
    assert not task["fold"].equals(task["fold_2"])
    assert task.group_by("patient").agg(pl.col("fold_2").n_unique())["fold_2"].max() == 1
    assert twice.spec.num_folds == 6
    for fold in range(1, 7):
        column, number = ("fold", fold) if fold <= 3 else ("fold_2", fold - 3)
        divided = twice.in_fold(fold).read("tasks/in.parquet")
        assert {*divided.columns}.isdisjoint({"fold", "fold_2"})
        parts = {"test": number, "val": number % 3 + 1}
        for split, of in parts.items():
            assert divided.filter(split=split)["stay_id"].equals(
                task.filter(pl.col(column) == of)["stay_id"]
            )
        assert (twice.folder / normalizer_name("in.json", fold)).is_file()
    with pytest.raises(InputError, match=r"into 3 folds \(2 times\) .*: 1 to 6, not 7"):
        twice.in_fold(7)
    for splits in ({"repeats": 2}, {"folds": 3, "repeats": 2, "column": "part"}):
        with pytest.raises(InputError, match="repeats are of folds that are drawn"):
            imported(tmp_path / "none", tables(), splits=splits)
