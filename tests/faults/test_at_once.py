"""Two sweeps on one store, one work folder and one database, at the same time."""

import pytest

from tests import forked
from tests.faults.conftest import METHODS
from tests.faults.kills import log_of, of_run, sqlite_rows, tracked

pytestmark = pytest.mark.slow
CHAMPION = (
    "select t.value from registered_model_aliases a join model_version_tags t "
    "on t.name = a.name and t.version = a.version and t.key like 'validation_%'"
)


def test_both_end_with_all_that_one_alone_would_have(run, sweep, swept, tmp_path):
    """One trial is in both: trained once, logged once, part of both."""
    none, *others = METHODS
    both = tmp_path / "both"
    commands = {f"with{i}": sweep(f"with{i}", none, m) for i, m in enumerate(others)}
    for name in commands:
        (tmp_path / name).mkdir()
    processes = [forked.start(*c, both, cwd=tmp_path / name) for name, c in commands.items()]
    codes = [process.wait(300) for process in processes]
    for name, code in zip(commands, codes, strict=True):
        text = log_of(tmp_path / name)
        assert "Traceback" not in text, text
        assert code == 0, text  # the one that met the shared trial waited for the other
    runs = [
        {p.parent.name: of_run(p.parent) for p in sorted(work.glob("runs/*/done.json"))}
        for work in (both, swept)
    ]
    assert len(runs[0]) == 3
    assert runs[0] == runs[1]
    rows = [sqlite_rows(work / "mlflow.db") for work in (both, swept)]
    assert tracked(rows[0])[:2] == tracked(rows[1])[:2]
    assert rows[0](CHAMPION) == rows[1](CHAMPION)  # of equals the first is: the score is the same
    tags = (
        "select count(*) from tags t join runs r on r.run_uuid = t.run_uuid "
        "where r.lifecycle_stage = 'active' and t.key in ('sweep.with0', 'sweep.with1')"
    )
    assert rows[0](tags) == [(4,)]  # the shared trial has both
