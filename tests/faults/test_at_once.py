"""Two sweeps on one store, one work folder and one database, at the same time."""

import pytest

from tests.faults.conftest import run
from tests.faults.kills import log_of, of_run, sqlite_rows, start, tracked

pytestmark = pytest.mark.slow
EXPERIMENT = """
title: At once
grids:
- tasks: [in_hospital_mortality]
  models: [{{lstm: {{units: 4}}}}]
  methods: [none, {methods}]
  stopping: false
training: {{max_epochs: 4, batch_size: 16, learning_rate: 0.01, normalizer: fitted}}
"""


CHAMPION = (
    "select t.value from registered_model_aliases a join model_version_tags t "
    "on t.name = a.name and t.version = a.version and t.key like 'validation_%'"
)
METHODS = {"first": "dropout", "second": "{itps: {tau: 1.0e-4}}"}


def test_both_end_with_all_that_one_alone_would_have(store, tmp_path):
    """One trial is in both: trained once, logged once, part of both."""

    def command(name, methods):
        (tmp_path / f"{name}.yaml").write_text(EXPERIMENT.format(methods=methods))
        given = ("--config", tmp_path / f"{name}.yaml", "--store", store, "--runner", "in_process")
        return ("sweep", *given, "--out")

    both, alone = tmp_path / "both", tmp_path / "alone"
    commands = {name: command(name, method) for name, method in METHODS.items()}
    for name in commands:
        (tmp_path / name).mkdir()
    processes = [start(*c, both, cwd=tmp_path / name) for name, c in commands.items()]
    codes = [process.wait(300) for process in processes]
    for name, code in zip(commands, codes, strict=True):
        text = log_of(tmp_path / name)
        assert "Traceback" not in text, text
        if code:  # it met the shared trial while the other one trained it
            assert "Another run is writing to" in text
            assert run(*commands[name], both).returncode == 0
    assert run(*command("all", ", ".join(METHODS.values())), alone).returncode == 0
    runs = [
        {p.parent.name: of_run(p.parent) for p in sorted(work.glob("runs/*/done.json"))}
        for work in (both, alone)
    ]
    assert len(runs[0]) == 3
    assert runs[0] == runs[1]
    rows = [sqlite_rows(work / "mlflow.db") for work in (both, alone)]
    assert tracked(rows[0])[:2] == tracked(rows[1])[:2]
    assert rows[0](CHAMPION) == rows[1](CHAMPION)  # of equals the first is: the score is the same
    tags = "select count(*) from tags where key in ('sweep.first', 'sweep.second')"
    assert rows[0](tags) == [(4,)]  # the shared trial has both
