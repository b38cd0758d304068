"""The history: lazy, cut back on resume, readable as JSON lines."""

import pytest
import torch

from mimic_reg.engine.recorder import Recorder, read_history
from mimic_reg.errors import InputError


def test_rows_carry_what_was_recorded_since_the_last(tmp_path):
    recorder = Recorder(tmp_path / "h.jsonl")
    recorder.open()
    value = torch.tensor(1.0)
    recorder.record("norm", value)
    value += 1  # a later change in place is not what was recorded
    recorder.record("quantiles", torch.tensor([0.0, 0.5]))
    recorder.write("steps", epoch=0, step=3, loss=torch.tensor(0.25))
    recorder.record("norm", 2)
    recorder.record("norm", 7)
    recorder.write("epoch", epoch=0, loss=float("nan"), validation={}, cost={"seconds": 1.5})
    recorder.close()
    assert read_history(tmp_path / "h.jsonl") == [
        {
            "event": "steps",
            "epoch": 0,
            "step": 3,
            "loss": 0.25,
            "recorded": {"norm": 1.0, "quantiles": [0.0, 0.5]},
        },
        {
            "event": "epoch",
            "epoch": 0,
            "loss": "nan",
            "validation": {},
            "cost": {"seconds": 1.5},
            "recorded": {"norm": 7},
        },
    ]


def test_resuming_cuts_the_history_back(tmp_path):
    path = tmp_path / "h.jsonl"
    recorder = Recorder(path)
    recorder.open()
    recorder.write("steps", epoch=0, step=1)
    recorder.record("a", 1.0)
    state = recorder.state_dict()
    recorder.write("steps", epoch=0, step=2)
    recorder.close()
    with path.open("a") as file:
        file.write('{"event": "st')  # a row cut off by a kill
    assert [row["step"] for row in read_history(path)] == [1, 2]
    recorder = Recorder(path)
    recorder.open(state)
    recorder.write("steps", epoch=0, step=2)
    recorder.close()
    rows = read_history(path)
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[1]["recorded"] == {"a": 1.0}


def test_a_history_that_lost_rows_is_refused(tmp_path):
    recorder = Recorder(tmp_path / "h.jsonl")
    with pytest.raises(InputError, match="has fewer rows than"):
        recorder.open({"position": 10, "pending": {}})


def test_a_run_without_a_checkpoint_begins_an_empty_history(tmp_path):
    path = tmp_path / "h.jsonl"
    path.write_text('{"event": "steps"}\n')
    recorder = Recorder(path)
    recorder.open()
    recorder.close()
    assert read_history(path) == []
