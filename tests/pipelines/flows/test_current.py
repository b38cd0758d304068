"""The hourly flow: every stay and hour once, whatever fails; a drift summary without patients."""

import json
import re
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.progress import Progress
from mimic_reg.serving.current import Hours
from mimic_reg.serving.drift import stability
from mimic_reg.serving.predicting import predict_source
from mimic_reg_pipelines.flows import current as flow
from mimic_reg_pipelines.flows.current import CurrentParameters, predict_now
from mimic_reg_pipelines.tracking import client, drift
from tests.pipelines.conftest import copy_of
from tests.raw import INTIME, at, small_source
from tests.serving.conftest import mimic  # noqa: F401  # a fixture

SHIFT = 731_000_000  # added to every id: nine digits that nothing else has


@pytest.fixture
def given(mimic, empty, tmp_path):  # noqa: F811
    """(hour) → the flow's parameters at that time; the tables have all later events, too."""
    copy_of(empty, tmp_path / "work")
    source = small_source()
    for rows in source.tables.values():
        for row in rows:
            row.update({k: row[k] + SHIFT for k in ("subject_id", "hadm_id", "icustay_id")
                        if row.get(k)})  # fmt: skip
    raw = source.write(tmp_path / "raw")

    def make(hour, **changes):
        return CurrentParameters(
            source=changes.pop("source", raw),
            model=str(mimic.run),
            work=tmp_path / "work",
            now=INTIME + timedelta(hours=hour),
            device="cpu",
            **changes,
        )

    return make


def written(folder):
    return pl.concat(pl.read_parquet(path) for path in sorted(folder.glob("predictions-*.parquet")))


def test_every_stay_and_hour_is_predicted_once(given, tmp_path, monkeypatch, capfd):
    told = []
    monkeypatch.setattr(Progress, "note", lambda _, text: told.append(text))
    done = predict_now(given(6))
    monkeypatch.undo()
    assert any(re.fullmatch(r"Left out [\d,]+ measurements after .*", text) for text in told)
    folder = tmp_path / "work" / "current" / done["drift"]["trial_id"]
    assert str(folder) == done["folder"]
    assert done["predictions"] == written(folder).height > 60
    assert predict_now(given(6))["predictions"] == 0
    assert len(list(folder.glob("*.parquet"))) == 1
    with pytest.raises(InputError, match="is not a folder"):
        predict_now(given(7, source=tmp_path / "away"))  # this hour fails
    monkeypatch.setattr(flow, "writing", killed)
    with pytest.raises(KeyboardInterrupt):
        predict_now(given(8))
    monkeypatch.undo()
    assert written(folder)["hour"].max() == 6
    monkeypatch.setattr(drift, "log", unreachable)
    with pytest.raises(MimicRegError, match="does not answer"):
        predict_now(given(9))
    monkeypatch.undo()
    assert written(folder)["hour"].max() == 9
    assert predict_now(given(9))["predictions"] == 0  # but its drift is logged now
    predict_now(given(10))
    found = written(folder).sort("icustay_id", "hour")
    assert not found.select("icustay_id", "hour").is_duplicated().any()
    at_once = predict_source(
        Path(given(10).model), given(10).source, tmp_path / "p.parquet", Hours(every=1),
        now=given(10).now, device="cpu",
    ).table  # fmt: skip
    assert found.select("icustay_id", "hour", "never_observed").equals(
        at_once.select("icustay_id", "hour", "never_observed")
    )
    assert (found["probability"] - at_once["probability"]).abs().max() < 1e-6
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*.parquet"))
    ids = {str(i) for i in found["icustay_id"]}
    shown = [(folder / name).read_text() for name in ("drift.html", "drift.json")]
    shown += [(tmp_path / "work" / client.DATABASE).read_bytes().decode("latin1"), json.dumps(done)]
    assert not any(i in text for i in ids for text in (*shown, *capfd.readouterr()))
    api = client.connect(client.database(tmp_path / "work"))
    (run,) = api.search_runs([api.get_experiment_by_name(drift.EXPERIMENT).experiment_id])
    assert run.data.metrics["stays"] == 12
    steps = [point.step for point in api.get_metric_history(run.info.run_id, "psi/probability")]
    assert [step - steps[0] for step in steps] == [0, 3, 4]


def killed(*_, **__):
    raise KeyboardInterrupt


def unreachable(*_):
    raise MimicRegError("MLflow does not answer")


def test_the_drift_is_that_of_the_hours_and_small_counts_are_hidden(given, tmp_path):
    parameters = given(20)
    summary = predict_now(parameters)["drift"]
    assert summary["stays"] == 12
    assert summary["now"] == at(20)
    rate = next(row for row in summary["channels"] if row["channel"] == "Heart Rate")
    assert abs(rate["shift"]) < 1
    missing = {row["variable"]: row for row in summary["variables"]}
    assert missing["Weight"]["missing"] == missing["Weight"]["training"] == 1
    assert 0.4 < missing["Heart Rate"]["missing"] < 0.7
    (of_output,) = summary["predictions"]
    assert 0 <= of_output["psi"] < 10
    source = small_source()
    for name in ("ICUSTAYS", "CHARTEVENTS"):
        few = [row for row in source.tables[name] if row["subject_id"] < 100]
        source.tables[name] = few
    source.tables["ICUSTAYS"][0] |= {"last_careunit": "CCU", "outtime": None}
    raw = source.write(tmp_path / "few")
    shutil.rmtree(tmp_path / "work" / "current")
    done = predict_now(given(20, source=raw))
    summary = done["drift"]
    assert summary["stays"] == "fewer than 10"
    assert summary["excluded"] == {"transferred between units": "fewer than 10"}
    assert not summary["channels"]
    assert "fewer than 10 stays" in (Path(done["folder"]) / flow.PAGE).read_text()


def test_the_stability_index_is_the_sum_over_bins():
    reference = {"edges": [1.0, 2.0], "shares": [0.25, 0.5, 0.25]}
    values = np.array([0.5, 0.5, 1.5, 1.5])
    expected = 0.25 * np.log(2) + 0 + (0.125 - 0.25) * np.log(0.5)
    assert stability(values, reference) == pytest.approx(expected)
