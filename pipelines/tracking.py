"""Tracking: what MLflow is told about trials and sweeps; the one file that knows its API for runs.

One experiment a task, one flat run a trial, one summary run a sweep. No subject, admission or stay
id reaches the tracker, nor do predictions, which belong to single patients.

Names of metrics, the same for all methods: `train/`, `validation/`, `selection/` and `method/`
(what a method records), `cost/`: a curve each, over epochs; `best/` and `test/`: one number each,
of the checkpoint with the best validation score.
"""

import contextlib
import fcntl
import json
import logging
import math
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow
from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from mimic_reg.config import Trial, is_probe, resolve
from mimic_reg.engine.recorder import read_history
from mimic_reg.engine.trainer import HISTORY
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.storage import disk_errors, make_folder, read_json, write_json
from mimic_reg.strategies.single import DONE, SCORES, TRIAL

PREFIX = "mimic-reg"
SWEEPS = f"{PREFIX}-sweeps"  # the experiment of the summaries
DATABASE = "mlflow.db"
ARTIFACTS = "mlflow-artifacts"  # beside the database
SERVER = "MIMIC_REG_TRACKING_URI"  # the variable that names an MLflow server for all work folders

FINAL = 0  # the step of what has no curve: MLflow draws it as bars, run by run

_SQLITE = "sqlite:///"
_SERVERS = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")
_STOPPING_METHODS = ("early_stopping",)  # when a fit ends is no method of its own
_METRICS_AT_ONCE, _OTHERS_AT_ONCE = 1000, 100  # MLflow's limits of a batch
_DIGEST_LENGTH = 36  # MLflow's limit
_ERROR_LENGTH = 2000
_NOTE = "mlflow.note.content"


def database(folder: Path) -> str:
    """The tracking URI of a work folder: that of a server, if one is set, else of its database."""
    return os.environ.get(SERVER) or f"{_SQLITE}{folder.resolve() / DATABASE}"


def prepare(uri: str) -> None:
    """Create the database, once: several processes at its first use would race.

    It is there whole or not at all: MLflow would refuse one whose making was cut off, for ever.

    Raises:
        InputError: a URI that is no database and no server.
        MimicRegError: the disk is full, or the folder cannot be written.
    """
    check(uri)
    path = sqlite_path(uri)
    if path is None:
        return
    make_folder(path.parent)
    with disk_errors(path.parent), alone(uri):
        if path.exists():
            return
        (path.parent / ARTIFACTS).mkdir(exist_ok=True, mode=0o700)
        making = path.with_name(f".{path.name}.making")
        shutil.rmtree(making, ignore_errors=True)  # somebody's who was killed
        making.mkdir(mode=0o700)
        with answering(uri):
            _make_database(making / "made.db", making / "whole.db")
        (making / "whole.db").replace(path)
        shutil.rmtree(making)


def _make_database(made: Path, whole: Path) -> None:
    """MLflow's empty database, and a copy that MLflow has no hand on."""
    with quiet():
        client(f"{_SQLITE}{made}").search_experiments(max_results=1)
    with contextlib.closing(sqlite3.connect(made)) as database:
        database.execute("VACUUM INTO ?", (str(whole),))
    whole.chmod(0o600)


def check(uri: str) -> None:
    """Refuse what MLflow cannot keep runs in.

    Raises:
        InputError: a folder of files, or a store of another kind.
    """
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.partition("+")[0] in _SERVERS:
        return
    folder = uri.removeprefix("file:").removeprefix("//") or "."
    raise InputError(
        f"The tracking URI is {uri!r}; MLflow no longer keeps runs in folders of files. Give a "
        f"database, as {_SQLITE}{Path(folder).absolute() / DATABASE}, or a server, as "
        "http://127.0.0.1:5000."
    )


def client(uri: str) -> MlflowClient:
    """MLflow's client of a store, for runs and for the registry.

    Raises:
        InputError: a URI that is no database and no server.
    """
    check(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def answering(uri: str) -> Iterator[None]:
    """Say plainly that MLflow's server or database does not answer, or cannot write.

    Raises:
        MimicRegError: it does not; the text quotes no password.
    """
    try:
        yield
    except (MlflowException, sqlite3.Error) as error:
        text = str(error).partition("\n")[0][:_ERROR_LENGTH]
        raise MimicRegError(
            f"MLflow at {redacted(uri)} failed: {text}. What was trained is in the run folders: "
            "run the same command again once that is mended."
        ) from error


def redacted(uri: str) -> str:
    """A URI without the password in it."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1:…@", uri)


@contextlib.contextmanager
def default(uri: str) -> Iterator[None]:
    """MLflow's own default store, which parts of its registry use whatever the client says."""
    was_set = mlflow.is_tracking_uri_set()  # type: ignore[no-untyped-call]
    before = mlflow.get_tracking_uri() if was_set else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None: as if it was never set


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Wait until no other process of this machine is in here; a server is not locked."""
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    with _locked(path.with_name(f"{path.name}.lock")):
        yield


@dataclass(frozen=True)
class RunFolder:
    """What tracking and registry read of a run folder.

    method: what the trial's methods are called together
    scores: split → name → {value, low, high, …}, empty if the trial is not finished
    """

    folder: Path
    trial: Trial
    id: str
    method: str
    fingerprint: str
    device: str
    versions: Mapping[str, Any]
    finished: bool
    best_epoch: int | None
    selected_by: str | None
    num_samples: Mapping[str, int]
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]]


def read_run(folder: Path, method: str | None = None) -> RunFolder:
    """A run folder.

    method: what the trial's methods are called together, where their modules' names do not tell

    Raises:
        InputError: the folder holds no trial.
    """
    if not (folder / TRIAL).is_file():
        raise InputError(f"{folder} holds no trial. Train one with `mimic-reg train`.")
    description = read_json(folder / TRIAL)
    trial = resolve(description["trial"])
    done = folder / DONE
    finished = done.is_file() and read_json(done)["trial"] == description["id"]
    scores = read_json(folder / SCORES) if finished else {}
    return RunFolder(
        folder=folder,
        trial=trial,
        id=description["id"],
        method=method or method_of(trial),
        fingerprint=description["store"]["fingerprint"],
        device=description["device"],
        versions=description["versions"],
        finished=finished,
        best_epoch=scores.get("best_epoch"),
        selected_by=scores.get("selected_by"),
        num_samples=scores.get("num_samples", {}),
        scores=scores.get("scores", {}),
    )


def method_of(trial: Trial) -> str:
    """What the methods of a trial are called: 'none', 'dropout + itps', 'reptile: itps'."""
    names = [r.name for r in trial.regularisers if r.name not in ("none", *_STOPPING_METHODS)]
    strategy = f"{trial.together.strategy.name}: " if trial.together else ""
    return strategy + (" + ".join(name for name in names if not is_probe(name)) or "none")


def log_trial(
    folder: Path,
    *,
    uri: str,
    sweep: str | None = None,
    method: str | None = None,
    error: BaseException | None = None,
) -> str:
    """Log the trial in a run folder, once; the id of its run.

    A trial that was logged before only learns the name of a further sweep. A run that was cut off
    while it was logged, or that records a failure, gives way to the new one.

    sweep:  the sweep that the trial belongs to
    method: what the trial's methods are called together, where their modules' names do not tell
    error:  why the trial failed; what there is of it is logged as a failed run

    Raises:
        InputError: the folder holds no trial, or one that neither finished nor failed.
    """
    run = read_run(folder, method)
    if sweep is not None:
        check_name(sweep)
    if error is None and not run.finished:
        raise InputError(f"The trial in {folder} is not finished: start it again to go on with it.")
    prepare(uri)
    with _locked(folder / ".tracking.lock"):
        api = client(uri)
        experiment = experiment_id(uri, run.trial.task)
        there = _runs_of(api, experiment, run.id)
        complete = next((r for r in there if r.info.status == "FINISHED"), None)
        for other in there:
            if other is not complete:
                api.delete_run(other.info.run_id)
        if complete is not None:
            _add_sweep(api, complete, sweep)
            return str(complete.info.run_id)
        return _log(api, experiment, run, sweep, error)


def find_trial(uri: str, task: str, trial_id: str) -> str | None:
    """The run that records a finished trial, if there is one."""
    for run in _runs_of(client(uri), experiment_id(uri, task), trial_id):
        if run.info.status == "FINISHED":
            return str(run.info.run_id)
    return None


def experiment_id(uri: str, task: str) -> str:
    """The experiment of a task, made where it is missing."""
    return _experiment(uri, f"{PREFIX}-{task}")


def experiments(uri: str) -> dict[str, str]:
    """Name → id of the experiments there are, those of tasks first."""
    found = [e for e in client(uri).search_experiments() if e.name.startswith(f"{PREFIX}-")]
    return {
        e.name: e.experiment_id for e in sorted(found, key=lambda e: (e.name == SWEEPS, e.name))
    }


def log_sweep_summary(
    sweep: str,
    *,
    uri: str,
    note: str,
    tables: Iterable[Path] = (),
    figures: Iterable[Path] = (),
    report: Path | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Log what a sweep found as one run in an experiment of its own; the id of the run.

    An earlier summary of the sweep gives way to the new one.

    note:    Markdown, shown as the run's description
    tables:  CSV or Markdown files; figures: images; report: the HTML file
    metrics: numbers to compare sweeps by
    """
    check_name(sweep)
    tables, figures = list(tables), list(figures)
    for path in (*tables, *figures, *([report] if report else [])):
        if not path.is_file():
            raise InputError(f"There is no file {path} to log with the summary of {sweep!r}.")
    prepare(uri)
    api = client(uri)
    experiment = _experiment(uri, SWEEPS)
    earlier = api.search_runs([experiment], f"tags.sweep = '{sweep}'")
    now = _now()
    created = api.create_run(
        experiment,
        start_time=now,
        run_name=sweep,
        tags={"sweep": sweep, "kind": "summary", _NOTE: note, **(tags or {})},
    )
    run_id = str(created.info.run_id)
    points = [Metric(name, value, now, 0) for name, value in (metrics or {}).items()]
    _log_batches(api, run_id, metrics=points)
    for place, paths in (("tables", tables), ("figures", figures)):
        for path in paths:
            api.log_artifact(run_id, str(path), place)
    if report:
        api.log_artifact(run_id, str(report))
    api.set_terminated(run_id, "FINISHED")
    for run in earlier:
        api.delete_run(run.info.run_id)
    return run_id


def comparison_url(base: str, experiment: str, *, sweep: str | None = None) -> str:
    """The page that compares the runs of an experiment, or those of one sweep, in charts.

    MLflow opens in its mode for language models, and its runs as a table, unless told otherwise.

    base: where MLflow's UI answers, as http://127.0.0.1:5000
    """
    mode = "workflowType=machine_learning"
    chosen = f"&searchFilter={quote(sweep_filter(sweep))}" if sweep else ""
    page = f"/?{mode}#/experiments/{experiment}/runs"
    return f"{base.rstrip('/')}{page}?compareRunsMode=CHART&{mode}{chosen}"


def sweep_filter(sweep: str) -> str:
    """MLflow's search for the runs of a sweep."""
    return f"tags.`{_sweep_tag(sweep)}` = 'yes'"


def _runs_of(api: MlflowClient, experiment: str, trial_id: str) -> list[Run]:
    found = api.search_runs([experiment], f"tags.trial_id = '{trial_id}'")
    return list(found)


def _experiment(uri: str, name: str) -> str:
    """The id of an experiment, made where it is missing."""
    api = client(uri)
    found: Experiment | None = api.get_experiment_by_name(name)
    if found is None:
        path = sqlite_path(uri)
        place = str(path.parent / ARTIFACTS / name) if path else None
        try:
            return str(api.create_experiment(name, artifact_location=place))
        except MlflowException:
            found = api.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise MimicRegError(
            f"The experiment {name!r} was deleted in MLflow. Restore it there, or choose another "
            "database."
        )
    return str(found.experiment_id)


def _log(
    api: MlflowClient,
    experiment: str,
    run: RunFolder,
    sweep: str | None,
    error: BaseException | None,
) -> str:
    trial = run.trial
    start = _milliseconds(run.folder / TRIAL)
    end = max(start, _milliseconds(run.folder / DONE) if run.finished else _now())
    created = api.create_run(
        experiment,
        start_time=start,
        run_name=f"{run.method} {trial.model.name} {trial.supervision:.0%} seed {trial.seed}",
        tags=_tags(run, sweep),
    )
    run_id = str(created.info.run_id)
    api.log_inputs(run_id, [_dataset(run)])
    history = read_history(run.folder / HISTORY) if (run.folder / HISTORY).is_file() else []
    points = [
        Metric(
            name,
            value,
            min(end, start + int(seconds * 1000)),
            epoch,
            dataset_name=trial.task,
            dataset_digest=_digest(run),
        )
        for name, value, epoch, seconds in curves(history)
    ]
    points += [Metric(name, value, end, FINAL) for name, value in final_metrics(run).items()]
    _log_batches(api, run_id, points, params(trial), _undefined(run))
    _log_files(api, run_id, run)
    if error is not None:
        tags = {"error": error_text(error)}
        _log_batches(api, run_id, tags=tags)
    # last: until here the run counts as cut off
    api.set_terminated(run_id, "FINISHED" if error is None else "FAILED", end_time=end)
    return run_id


def error_text(error: BaseException) -> str:
    """The error as it may be shown: our own texts quote no patient's data, others' might."""
    own = f": {error}" if isinstance(error, MimicRegError) else ""
    return f"{type(error).__name__}{own}"[:_ERROR_LENGTH]


def _tags(run: RunFolder, sweep: str | None) -> dict[str, str]:
    trial = run.trial
    commit, _, changes = (run.versions["code"] or "").partition("+")
    tags = {
        "kind": "trial",
        "trial_id": run.id,
        "task": trial.task,
        "model": trial.model.name,
        "method": run.method,
        "strategy": trial.together.strategy.name if trial.together else "single",
        "supervision": f"{trial.supervision:g}",
        "seed": str(trial.seed),
        "code_version": run.versions["code"] or f"mimic-reg {run.versions['mimic_reg']}",
        "code_changed": str(bool(changes)).lower() if commit else "unknown",
        "data_fingerprint": run.fingerprint,
        "device": run.device,
        "mlflow.source.name": PREFIX,
    }
    if trial.together:
        tags["fit"] = trial.together.fit
        tags["fit_tasks"] = ", ".join(trial.together.tasks)
    tags |= {f"version.{n}": str(v) for n, v in run.versions.items() if n != "code"}
    if commit:
        tags["mlflow.source.git.commit"] = commit
    if sweep:
        tags |= {"sweep": sweep, _sweep_tag(sweep): "yes"}
    return tags


def _sweep_tag(sweep: str) -> str:
    return f"sweep.{check_name(sweep)}"


def check_name(name: str) -> str:
    """The name of a sweep, if MLflow can search for it.

    Raises:
        InputError: it is empty, or has other signs than letters, digits, `_`, `-` and `.`.
    """
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise InputError(
            f"A sweep cannot be called {name!r}: use letters, digits, '_', '-' and '.' only."
        )
    return name


def _add_sweep(api: MlflowClient, run: Run, sweep: str | None) -> None:
    """A tag for each sweep, since a trial may belong to several; `sweep` keeps the first."""
    tags = run.data.tags
    if sweep and _sweep_tag(sweep) not in tags:
        api.set_tag(run.info.run_id, _sweep_tag(sweep), "yes")
        if "sweep" not in tags:
            api.set_tag(run.info.run_id, "sweep", sweep)


def _undefined(run: RunFolder) -> dict[str, str]:
    """Why scores of the best checkpoint are missing."""
    return {
        f"undefined.{split}_{name}": str(score["reason"])
        for split, scores in run.scores.items()
        for name, score in scores.items()
        if score["value"] is None
    }


def _digest(run: RunFolder) -> str:
    return run.fingerprint[:_DIGEST_LENGTH]


def _dataset(run: RunFolder) -> DatasetInput:
    dataset = Dataset(
        name=run.trial.task,
        digest=_digest(run),
        source_type="cohort store",
        source=json.dumps({"fingerprint": run.fingerprint}),
        profile=json.dumps({f"num_{split}": count for split, count in run.num_samples.items()}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def params(trial: Trial) -> dict[str, str]:
    """The resolved configuration, flat: `model`, `model.units`, `regularisers`, `itps.tau`, …

    A name is that of the module wherever a module is used, so that methods can be compared.
    """
    settings = trial.model_dump(mode="json")
    model, methods = settings.pop("model"), settings.pop("regularisers")
    flat = dict(_flat(settings))
    if together := settings.get("together"):
        ((name, options),) = together["strategy"].items()
        flat = {k: v for k, v in flat.items() if not k.startswith("together.")}
        flat |= {"strategy": name, **dict(_flat(options, name))}
        flat["tasks"] = ", ".join(together["tasks"])
    ((flat["model"], options),) = model.items()
    flat |= _flat(options, "model")
    names = [name for method in methods for name in method]
    flat["regularisers"] = ", ".join(names) or "none"
    for position, method in enumerate(methods):
        ((name, options),) = method.items()
        repeated = names.count(name) > 1
        flat |= _flat(options, f"{name}.{position}" if repeated else name)
    return {name: str(value) for name, value in flat.items()}


def _flat(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, value


Point = tuple[str, float, int, float]  # name, value, epoch, seconds since the start


def curves(history: Iterable[Mapping[str, Any]]) -> list[Point]:
    """The curves in a history, a point an epoch: what was recorded between epochs as its mean."""
    points: list[Point] = []
    between: dict[str, list[float]] = {}
    seconds = 0.0
    for row in history:
        if row["event"] == "steps":
            found = _numbers({"train": _norms(row), "cost": row["cost"]}) | _recorded(row)
            for name, value in found.items():
                between.setdefault(name, []).append(value)
        elif row["event"] == "epoch":
            cost = row["cost"]
            seconds += cost["training_seconds"] + cost["validation_seconds"]
            train = {"loss": row["loss"], "steps": row["step"]}
            found = {name: math.fsum(values) / len(values) for name, values in between.items()}
            found |= _numbers({"train": train, "validation": row["validation"], "cost": cost})
            found |= _recorded(row)
            points += [(name, value, row["epoch"], seconds) for name, value in found.items()]
            between.clear()
    return points


def _norms(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("gradient_norm", "applied_gradient_norm")}


def _recorded(row: Mapping[str, Any]) -> dict[str, float]:
    """What methods recorded; how many parameters a method selects has a section of its own."""
    recorded: Mapping[str, Any] = row["recorded"]
    sections: dict[str, dict[str, Any]] = {"selection": {}, "method": {}}
    for name, value in recorded.items():
        section = sections["selection" if name.startswith("selected") else "method"]
        section |= {f"{name}.{i}": v for i, v in enumerate(value)} if _is_list(value) else {}
        section |= {} if _is_list(value) else {name: value}
    return _numbers(sections)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _numbers(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Finite numbers by `section/name`; a history holds the others as text."""
    return {
        f"{section}/{name}": float(value)
        for section, values in sections.items()
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def final_metrics(run: RunFolder) -> dict[str, float]:
    """Scores of the checkpoint with the best validation score; those of test with intervals."""
    found: dict[str, float] = {}
    if run.best_epoch is not None:
        found["best/epoch"] = float(run.best_epoch)
    for name, score in run.scores.get("validation", {}).items():
        if score["value"] is not None:
            found[f"best/validation_{name}"] = float(score["value"])
    for name, score in run.scores.get("test", {}).items():
        for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            if score[part] is not None:
                found[f"test/{name}{suffix}"] = float(score[part])
    return found


def _log_files(api: MlflowClient, run_id: str, run: RunFolder) -> None:
    """Settings, scores and history; not where the store lies, and not the predictions."""
    with tempfile.TemporaryDirectory() as folder:
        description = read_json(run.folder / TRIAL)
        description["store"].pop("path", None)
        write_json(Path(folder) / TRIAL, description)
        (Path(folder) / "trial.yaml").write_text(run.trial.to_yaml(), "utf-8")
        api.log_artifacts(run_id, folder)
    for name in (SCORES, HISTORY):
        if (run.folder / name).is_file():
            api.log_artifact(run_id, str(run.folder / name))


def _log_batches(
    api: MlflowClient,
    run_id: str,
    metrics: Sequence[Metric] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    for start in range(0, len(metrics), _METRICS_AT_ONCE):
        api.log_batch(run_id, metrics=metrics[start : start + _METRICS_AT_ONCE])
    for some in _batches(params or {}):
        api.log_batch(run_id, params=[Param(name, value) for name, value in some])
    for some in _batches(tags or {}):
        api.log_batch(run_id, tags=[RunTag(name, value) for name, value in some])


def _batches(items: Mapping[str, str]) -> Iterator[list[tuple[str, str]]]:
    rest = iter(items.items())
    while some := list(islice(rest, _OTHERS_AT_ONCE)):
        yield some


def sqlite_path(uri: str) -> Path | None:
    """Where an SQLite database lies; None for others."""
    return Path(uri.removeprefix(_SQLITE)).absolute() if uri.startswith(_SQLITE) else None


def _milliseconds(path: Path) -> int:
    return int(path.stat().st_mtime * 1000)


def _now() -> int:
    return int(time.time() * 1000)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process is in here."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what MLflow logs of every table and every check that it makes."""
    names = ("mlflow", "mlflow.store.db.utils", "mlflow.pyfunc", "alembic")
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
