"""Tables that an import refuses, or drops and counts."""

import gzip

import numpy as np
import pandas as pd
import pytest

from mimic_reg.cohorts import ImportSettings, import_cohort
from mimic_reg.errors import InputError
from mimic_reg.settings.base import checked
from tests.cohorts.tables import SUBJECT, hourly_labels, imported, settings, tables, write


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
        case "one value":
            outc["label"] = 1.5
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
        case "minutes as hours":
            dyn["time"] = dyn["time"] / pd.Timedelta("1min")
        case "times far apart":
            dyn["time"] = dyn["time"] / pd.Timedelta("1h") * 1001
        case "column of hours":
            sta["hour"] = 1.0
        case "one channel twice":
            sta["missing->hr"] = 1.0
        case "words among numbers":
            sta["age"] = sta["age"].astype(str).where(sta.index > 1, "> 89")
        case "key without underscore":
            sta["hospitalid"] = 7
        case "one column twice":
            given["subject"] = "stay_id"
        case "name of the store":
            given["labels"] = ["hours"]
        case "one class twice":
            given["classes"] = ["0", "1", "0"]
        case "two texts as label":
            outc["label"] = np.where(outc["label"], "died", "survived")
        case "no number as normal value":
            given["normal_values"] = {"hr": np.nan}
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
        ("one value", "train samples of in have all the same label"),
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
        ("minutes as hours", "'time' are multiples of 60.*Set time_unit"),
        ("times far apart", "The stays last .* hours, but .*dyn.parquet has 370 rows"),
        ("column of hours", "sta.parquet has a column 'hour'"),
        ("one channel twice", "make the channel 'missing->hr'"),
        ("words among numbers", "2 of 40 values of 'age' are not numbers"),
        ("key without underscore", "'hospitalid' looks like a key"),
        ("one column twice", "'stay_id' is named twice"),
        ("name of the store", "stores use the name 'hours' themselves"),
        ("one class twice", "class of in '0' appears twice"),
        ("two texts as label", "2 values and leaves the target in doubt"),
        ("no number as normal value", "normal_values.hr"),
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


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda text: gzip.compress(text.encode()).decode("latin-1"), "dyn.csv, line 1: "),
        (lambda text: text[:-1].rpartition(",")[0], r"line 560: it has 4 fields, but .* has 5"),
        (lambda text: text.replace("1000013,", "\0\0", 1), r"line \d+: zero bytes"),
        (lambda text: text.replace("1000013,", '1000013,"', 1), r"line \d+: its quotes do not"),
        (lambda text: text.replace(",", ";"), "separates columns by ';'"),
        (lambda text: text.replace("temp", "hr"), "has the column 'hr' twice"),
        (lambda text: text.replace("temp", "Größe"), "line 1: bytes that are not UTF-8"),
        (lambda text: text.replace("\n", "\r"), "line 1: it has a carriage return"),
        (lambda text: text + "1,2,3,4,5,6\n", "line 561: it has 6 fields, but the header has 5"),
    ],
)
def test_csv_of_another_form_is_refused(tmp_path, change, text):
    folder = write(tmp_path / "in", *tables(), ".csv")
    path = folder / "dyn.csv"
    path.write_text(change(path.read_text()), "latin-1")
    with pytest.raises(InputError, match=text):
        import_cohort(folder, tmp_path / "out", settings())


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_store_at_out_is_refused(tmp_path, content):
    folder = write(tmp_path / "in", *tables(), ".csv")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json"):
        import_cohort(folder, tmp_path / "out", settings())


def test_a_damaged_archive_is_refused(tmp_path):
    folder = write(tmp_path / "in", *tables(), ".csv.gz")
    path = folder / "dyn.csv.gz"
    whole = path.read_bytes()
    for content, text in ((whole[:-300], "truncated"), (b"stay_id,time", "is not a gzip file")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=text):
            import_cohort(folder, tmp_path / "out", settings())


def test_labels_after_the_last_measurement_are_counted(tmp_path):
    dyn, sta, _ = tables()
    labels = hourly_labels(dyn)
    later = labels.drop_duplicates("stay_id").assign(time=pd.Timedelta("20h"))
    found = imported(tmp_path, (dyn, sta, pd.concat([labels, later])))
    assert "60 labels lie after the last measurement of their stay" in found.notes[0]


def test_rows_and_stays_that_do_not_fit_can_be_dropped_and_are_counted(tmp_path):
    dyn, sta, outc, given = spoiled("before admission")
    dyn = dyn[dyn["stay_id"] != outc["stay_id"].iloc[5]]
    chosen = checked(ImportSettings, given | {"before_admission": "drop", "unmatched": "drop"})
    found = import_cohort(write(tmp_path / "in", dyn, sta, outc), tmp_path / "out", chosen)
    assert "dropped 3 rows before admission" in found.notes[0]
    assert any("1 labelled stays that are not in dyn" in note for note in found.notes)
    assert sum(c["stays"] for c in found.counts.values()) == len(outc) - 1
