"""Requests of raw events: predicted as from raw tables; what is ignored is counted by reason."""

import pandas as pd
import polars as pl
import pytest

from mimic_reg.errors import InputError
from mimic_reg.serving import load_run
from mimic_reg.serving.current import Hours
from mimic_reg.serving.events import answer_events, is_events
from mimic_reg.serving.predicting import predict, predict_source
from tests.cohorts.tables import hourly_labels, imported, tables
from tests.raw import at
from tests.serving.fits import fit


@pytest.fixture(scope="module")
def model(mimic):
    return load_run(mimic.run)


def test_events_of_mimic_are_predicted_as_its_tables(mimic, model, tmp_path):
    done = predict_source(
        mimic.run, mimic.raw, tmp_path / "p.parquet", Hours(at=(20,)), device="cpu"
    )
    rows = [
        {
            "stay": f"bed {row['subject_id']}",
            "time": row["charttime"],
            "item": row["itemid"],
            "value": row["value"],
            "unit": row.get("valueuom"),
            "admitted": at(0),
            "at": 20,
        }
        for name in ("CHARTEVENTS", "LABEVENTS")
        for row in mimic.source.tables[name]
        if row["hadm_id"] is not None
    ]
    frame = pd.DataFrame(rows)
    assert is_events(model.spec, frame)
    found = answer_events(model, frame)
    assert (found["hours"] == 20).all()
    expected = dict(done.table.select(pl.col("icustay_id") - 200_000, "probability").iter_rows())
    for stay, probability in zip(found["stay"], found["probability"], strict=True):
        assert probability == pytest.approx(expected[int(stay[4:])], abs=1e-6)
    assert found["ignored"][0]["item 128 is not one of the model's"] == 11
    assert found["ignored"][0]["after hour 20"] > 10
    assert set(found["never_observed"]) == set(done.table["never_observed"])


def test_what_is_ignored_is_counted_by_reason(model):
    good = {"time": 1.5, "variable": "Heart Rate", "value": 80}
    rows = [
        good,
        {**good, "value": "rising"},
        {**good, "value": None},
        {**good, "time": -2},
        {**good, "time": "noon"},
        {**good, "variable": "Hart rate"},
        {**good, "variable": None},
        {**good, "variable": "Glucose", "value": "NEG"},
        {**good, "variable": "Glascow coma scale total", "value": "ninety"},
        {**good, "variable": None, "item": 1},
        {**good, "item": 220277},
        {**good, "time": 1e6},
    ]
    found = answer_events(model, pd.DataFrame(rows))
    assert found["ignored"][0] == {
        "value of Heart Rate not readable": 1,
        "no value": 1,
        "before admission": 1,
        "time not readable": 1,
        "'Hart rate' is not a variable of the model": 1,
        "neither an item nor a variable": 1,
        "value of Glucose not readable": 1,
        "value of Glascow coma scale total not readable": 1,
        "item 1 is not one of the model's": 1,
        "item and variable disagree": 1,
        "more than 3,650 days after admission": 1,
    }
    assert found["hours"].tolist() == [2]
    assert 0 < found["probability"][0] < 1
    nothing = answer_events(model, pd.DataFrame([{**good, "value": "x", "variable": "pH"}]))
    assert nothing["probability"][0] is None
    assert nothing["hours"].tolist() == [0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"value": 1, "item": 211}], "The column 'time' is missing"),
        ([{"value": 1, "item": 211, "time": at(1)}], "the column 'admitted' must have"),
        ([{"value": 1, "item": 211, "time": 1, "at": "x"}], "'at' must have hours from 1"),
        ([{"value": 1, "item": 211, "time": 1, "at": a} for a in (2, 3)], "'at' must be the same"),
        ([{"value": 1, "item": 211, "time": 1, "stay": None}], "'stay' has empty cells"),
    ],
)
def test_requests_that_cannot_be_read_are_refused(model, rows, message):
    with pytest.raises(InputError, match=message):
        answer_events(model, pd.DataFrame(rows))


def test_events_of_an_imported_cohort_are_predicted_as_its_tables(tmp_path):
    dyn, sta, _ = tables(num=40)
    store = imported(tmp_path, (dyn, sta, hourly_labels(dyn))).store
    run = fit(store.folder, store.spec.tasks[0].name, tmp_path / "run")
    predict(run, store.folder, tmp_path / "full.parquet", device="cpu")
    full = pl.read_parquet(tmp_path / "full.parquet")
    expected = {(s, int(h)): p for s, h, p in full["stay_id", "hours_seen", "probability"].rows()}
    timed = dyn.assign(time=dyn["time"] / pd.Timedelta("1h"), vent=dyn["vent"].astype(object))
    events = timed.melt(["stay_id", "time"]).dropna()
    once = sta.drop(columns="patient").melt(["stay_id"]).dropna().assign(time=None)
    frame = pd.concat([events, once]).rename(columns={"stay_id": "stay"}).assign(at=6)
    found = answer_events(load_run(run), frame)
    assert len(found) == 40
    for stay, probability in zip(found["stay"], found["probability"], strict=True):
        assert probability == pytest.approx(expected[stay, 6], abs=1e-6)
    odd = frame.head(3).assign(value=["x", 2, 3], variable=["hr", "sex", "age"])
    assert answer_events(load_run(run), odd)["ignored"][0] == {
        "value of hr not readable": 1,
        "value of sex not readable": 1,
    }
