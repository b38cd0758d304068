"""The commands that need Prefect and MLflow: what their options mean, and what is refused."""

import errno
from pathlib import Path

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg_pipelines.commands import add_to
from mimic_reg_pipelines.flows.run import ui_command
from mimic_reg_pipelines.flows.settings import OfExperiment, Work
from mimic_reg_pipelines.tracking import client

SEARCH = ["--task", "phenotyping", "--model", "lstm", "--method", "itps"]


@pytest.fixture
def command(tmp_path):
    """Call a command with --out: its output; an error is raised."""
    app = typer.Typer()
    add_to(app)

    def call(name, *arguments):
        result = CliRunner().invoke(
            app,
            [name, "--out", str(tmp_path / "work"), *map(str, arguments)],
            env={"COLUMNS": "200"},
        )
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return call


def test_dry_runs_list_the_trials_and_leave_no_trace(command, tmp_path, store, monkeypatch):
    monkeypatch.setattr("mimic_reg.console.out.width", 200)
    told = command("run", "--config", "demo", "--dry-run")
    assert "no --source to make it from" in told
    assert "98 trials. At most about" in told
    told = command("sweep", "--config", "figure_03", "--store", store, "--dry-run")
    assert "6 trials. At most about" in told
    told = command("tune", *SEARCH, "--search", "itps.tau=0.1,0.2", "--seeds", 2, "--dry-run")
    assert "itps (tau=0.2)" in told
    assert "Search: itps, lstm, phenotyping: 4 trials." in told
    both = "--model=lstm,logistic_regression", "--method=none", "--points=5", "--seeds=2"
    told = command("tune", "--task", "phenotyping", *both, "--dry-run")
    assert "Search: none, lstm, logistic_regression, phenotyping: 20 trials." in told
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Say what to search"),
        (SEARCH, "Say what to search"),
        ([*SEARCH, "--search", "itps.tau"], "write a name and its value, as dropout.rate=0.2,0.5"),
        ([*SEARCH, "--search", "itps.taw=0.1"], "Did you mean 'tau'"),
        (
            [*SEARCH, "--search", "l2.l2=0.1"],
            "no method or model of its grid has 'l2.l2'. Allowed: early_stopping, itps, lstm",
        ),
        ([*SEARCH, "--search", "itps.tau=1", "--points", "2"], "takes them from spaces: give one"),
        ([*SEARCH, "--search", "itps.tau=1", "--search-seed", "2"], "give both, or neither"),
        (["--config", "tune_lstm_itps", "--seeds", "2"], "--config describes the whole search"),
        (["--config", "demo"], "has nothing to search"),
        (["--config", "tune_lstm_itps", "--workers", "2", "--runner", "in_process"], "one trial"),
    ],
)
def test_searches_that_cannot_be_are_refused(command, arguments, message):
    with pytest.raises(InputError, match=message):
        command("tune", *arguments, "--dry-run")


COMPARED = ["--task", "phenotyping", "--model", "lstm", "--methods"]


def test_a_comparison_is_told_before_it_starts(command, tmp_path, store, monkeypatch):
    monkeypatch.setattr("mimic_reg.console.out.width", 200)
    told = command("compare", *COMPARED, "none,itps,dropout", "--store", store, "--dry-run")
    assert "itps (tau=0.25)" in told
    assert "Comparison of methods: phenotyping, lstm: 19 trials." in told  # 7, and 3 times 4
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Say what to compare: give --task, --model and --methods"),
        ([*COMPARED, "none,ipts"], "Did you mean 'itps'"),
        ([*COMPARED, "dropout"], "needs two methods or more"),
        ([*COMPARED, "none,dropout", "--config", "demo"], "--config describes the whole search"),
        (["--config", "demo"], "has nothing to search"),
    ],
)
def test_comparisons_that_cannot_be_are_refused(command, arguments, message, tmp_path):
    for dry in (["--dry-run"], []):
        with pytest.raises(InputError, match=message):
            command("compare", *arguments, *dry)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--config", "demo"], "Name one of them, with --store or --source"),
        (["sweep", "--config", "demo", "--ray-address", "x"], "^--ray-address and --gpus-per-run"),
        (["predict", "--model", "models:/a@champion", "--store", "s"], "with --work"),
        (
            ["predict", "--model", "models:/a@champion", "--store", "s", "--work", "nowhere"],
            "nowhere holds no runs: there is no mlflow.db",
        ),
    ],
)
def test_what_is_missing_is_said(command, arguments, message, store, monkeypatch):
    monkeypatch.delenv("MIMIC_REG_TRACKING_URI", raising=False)
    arguments = [str(store) if a == "s" else a for a in arguments]
    with pytest.raises(InputError, match=message):
        command(*arguments)


def test_a_file_is_no_work_folder_in_a_dry_run_either(command, tmp_path):
    (tmp_path / "work").touch()
    with pytest.raises(InputError, match="is a file; --out names a folder"):
        command("run", "--config", "demo", "--dry-run")


def test_an_object_store_is_no_work_folder(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("run", "sweep"):
        with pytest.raises(InputError, match=r"^--out: s3://bucket/x is a URL, but a path on this"):
            command(name, "--config", "demo", "--dry-run", "--out", "s3://bucket/x")
    with pytest.raises(ValidationError, match="s3://bucket/x is a URL"):  # of a Prefect deployment
        OfExperiment(experiment="demo", work="s3://bucket/x", store="s3://bucket/y")
    assert not list(tmp_path.iterdir())


def test_a_work_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    def refuse(path, *arguments, **options):
        raise PermissionError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(MimicRegError, match="Cannot write to"):
            Work(tmp_path / "work").create()
    monkeypatch.setattr(client, "locked", refuse)
    with pytest.raises(MimicRegError, match="Cannot write to"):
        client.prepare(client.database(tmp_path))


def test_the_printed_command_can_be_typed(monkeypatch, tmp_path):
    """Where the shell does not know mimic-reg, as after `make demo`, its path stands there."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    assert ui_command(Path("work")) == "mimic-reg ui --work work"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mimic-reg").touch()
    assert ui_command(Path("work")) == f"{tmp_path}/bin/mimic-reg ui --work work"
    monkeypatch.chdir(tmp_path)
    assert ui_command(Path("work")) == "bin/mimic-reg ui --work work"
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/mimic-reg")
    assert ui_command(Path("work")) == "mimic-reg ui --work work"
