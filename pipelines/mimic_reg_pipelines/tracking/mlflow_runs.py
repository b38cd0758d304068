"""Tracking: log trials in MLflow.

Each task is an experiment, each trial a flat run; `summary` logs one run for each sweep. No
subject, admission or stay id reaches the tracker, nor do predictions, which belong to single
patients.

The names of metrics are the same for all methods. They are logged in the order of MLflow's lists.
`test/`, `validation/best_` and `selection/at_best` are one number each, of the checkpoint with the
best validation score. `validation/`, `selection/`, `train/`, `method/` (what a method records) and
`cost/` are curves over epochs.
"""

import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.report.cohort.published import samples_by_split, scored_samples, store_of
from mimic_reg.report.formats import format_level, format_repeat
from mimic_reg.runs import DONE, HISTORY, SCORES, TRIAL, read_scored, read_trial
from mimic_reg.settings import BASELINE, TrainingSize
from mimic_reg.store import write_json
from mimic_reg_pipelines.tracking import client
from mimic_reg_pipelines.tracking.tracked_run import (
    TrackedRun,
    curves,
    final_metrics,
    params,
    read_tracked,
)

PREFIX = "mimic-reg"
SWEEPS = f"{PREFIX}-sweeps"  # the experiment of the summaries
_SWEEP = "sweep."  # begins the tag of each sweep that a run belongs to
# Tags of groups. MLflow takes one of 29 colours by a group's tag and value: with these names, the
# methods of our experiments have different ones.
METHOD_LEVEL, MODEL_METHOD_LEVEL = "method level", "model method level"
OF_A_SWEEP = f"tags.`{_SWEEP}"  # begins MLflow's searches for them
FINAL = 0  # step of metrics without a curve, which MLflow draws as bars
_METRICS_AT_ONCE, _OTHERS_AT_ONCE = 1000, 100  # MLflow's limits of a batch
_NAME_LENGTH = 200  # of a sweep: MLflow allows 250 signs in the name of a tag
_DIGEST_LENGTH = 36  # MLflow's limit
NOTE = "mlflow.note.content"
# and not MLflow's kind for language models
_KIND = {"mlflow.experimentKind": "custom_model_development"}


def log_trial(
    folder: Path,
    *,
    uri: str,
    sweep: str | None = None,
    method: str | None = None,
    error: BaseException | None = None,
) -> str:
    """Log the trial in a run folder, once; return the id of its run.

    For a trial that was logged before, only the name of a further sweep is added. The new run
    replaces one whose logging was cut off, and one that records a failure.

    sweep:  the sweep that the trial belongs to
    method: the name of the trial's methods together; None: made of their modules' names
    error:  why the trial failed; its files are then logged as a failed run

    Raises:
        InputError: the folder holds no trial, or one that neither finished nor failed.
    """
    run = read_tracked(folder, method)
    if sweep is not None:
        check_name(sweep)
    if error is None and not run.finished:
        raise InputError(f"The trial in {folder} is not finished: start it again to go on with it.")
    client.prepare(uri)
    with client.locked(folder / ".tracking.lock"):
        api = client.connect(uri)
        experiment = experiment_id(uri, run.trial.task)
        there = list(api.search_runs([experiment], f"tags.trial_id = '{run.id}'"))
        complete = next((r for r in there if r.info.status == "FINISHED"), None)
        for other in there:
            if other is not complete:
                api.delete_run(other.info.run_id)
        if complete is not None:
            _renew(api, complete, run)
            _add_sweep(api, complete, sweep)
            return str(complete.info.run_id)
        run_id = _log(api, experiment, run, sweep, error)
    client.settle(uri)
    return run_id


def experiment_id(uri: str, task: str) -> str:
    """Return the id of a task's experiment; create the experiment where it is missing."""
    return experiment_called(uri, f"{PREFIX}-{task}")


def experiments(uri: str) -> dict[str, str]:
    """Return name → id of our experiments, those of tasks first."""
    found = [e for e in client.connect(uri).search_experiments() if e.name.startswith(f"{PREFIX}-")]
    found = sorted(found, key=lambda e: (e.name == SWEEPS, e.name))
    return {e.name: e.experiment_id for e in found}


def sweep_filter(sweep: str) -> str:
    """Return MLflow's search for the runs of a sweep."""
    return f"{OF_A_SWEEP}{check_name(sweep)}` = 'yes'"


def experiment_called(uri: str, name: str) -> str:
    """Return the id of an experiment by name; create the experiment where it is missing.

    Raises:
        MimicRegError: the experiment was deleted in MLflow.
    """
    api = client.connect(uri)
    found: Experiment | None = api.get_experiment_by_name(name)
    if found is None:
        path = client.sqlite_path(uri)
        place = str(path.parent / client.ARTIFACTS / name) if path else None
        try:
            return str(api.create_experiment(name, artifact_location=place, tags=_KIND))
        except MlflowException:
            found = api.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise MimicRegError(
            f"The experiment {name!r} was deleted in MLflow. Restore it there, or choose another "
            "database."
        )
    for key in _KIND.keys() - found.tags.keys():  # an older version made it
        api.set_experiment_tag(found.experiment_id, key, _KIND[key])
    return str(found.experiment_id)


def _log(
    api: MlflowClient,
    experiment: str,
    run: TrackedRun,
    sweep: str | None,
    error: BaseException | None,
) -> str:
    trial = run.trial
    size = format_level(trial.size).replace(" %", "%")
    repeat = format_repeat(trial.seed, trial.fold).replace(",", "")
    start = _milliseconds(run.folder / TRIAL)
    end = max(start, _milliseconds(run.folder / DONE) if run.finished else now())
    created = api.create_run(
        experiment,
        start_time=start,
        run_name=f"{run.method} {trial.model.name} {size} {repeat}",
        tags=_tags(run, sweep),
    )
    run_id = str(created.info.run_id)
    api.log_inputs(run_id, [_dataset(run)])
    points = _final_points(run, end)
    data = {"dataset_name": trial.task, "dataset_digest": _digest(run)}
    for name, value, epoch, seconds in curves(run.history()):
        time = min(end, start + int(seconds * 1000))
        points.append(Metric(name, value, time, epoch, **data))
    log_batches(api, run_id, points, params(trial, run.method), _undefined(run))
    _log_files(api, run_id, run)
    if error is not None:
        log_batches(api, run_id, tags={"error": error_text(error)})
    client.sync_artifacts(created.info.artifact_uri)
    # last: until here the run counts as cut off
    api.set_terminated(run_id, "FINISHED" if error is None else "FAILED", end_time=end)
    return run_id


def _final_points(run: TrackedRun, end: int) -> list[Metric]:
    return [Metric(name, value, end, FINAL) for name, value in final_metrics(run).items()]


def _renew(api: MlflowClient, logged: Run, run: TrackedRun) -> None:
    """Add what the comparison of a sweep needs and an older version did not log."""
    data, places = logged.data, _places(run)
    if places.keys() <= data.tags.keys():
        return
    new = {n: v for n, v in params(run.trial, run.method).items() if n not in data.params}
    points = [p for p in _final_points(run, logged.info.end_time) if p.key not in data.metrics]
    log_batches(api, logged.info.run_id, points, new, places)


def error_text(error: BaseException) -> str:
    """Return an error's text; of other programs' errors, which may quote patients, the type."""
    own = f": {error}" if isinstance(error, MimicRegError) else ""
    return f"{type(error).__name__}{own}"[: client.ERROR_LENGTH]


def _tags(run: TrackedRun, sweep: str | None) -> dict[str, str]:
    trial = run.trial
    commit, _, changes = (run.versions["code"] or "").partition("+")
    tags = {
        "kind": "trial",
        "trial_id": run.id,
        "task": trial.task,
        "cohort": run.cohort.name,
        "model": trial.model.name,
        "strategy": trial.together.strategy.name if trial.together else "single",
        **trial.size.tags(),
        **_places(run),
        "seed": str(trial.seed),
        **fold_tags(run),
        "code_version": run.versions["code"] or f"mimic-reg {run.versions['mimic_reg']}",
        "code_changed": str(bool(changes)).lower() if commit else "unknown",
        "data_fingerprint": run.fingerprint,
        "device": run.device,
        "threads": "unknown" if run.threads is None else str(run.threads),
        "mlflow.source.name": PREFIX,
    }
    if trial.together:
        tags["fit"] = trial.together.fit
        tags["fit_tasks"] = ", ".join(trial.together.tasks)
    if run.hardly_trained:
        tags["hardly_trained"] = run.hardly_trained
    tags |= {f"version.{n}": str(v) for n, v in run.versions.items() if n != "code"}
    if commit:
        tags["mlflow.source.git.commit"] = commit
    if sweep:
        tags |= {"sweep": sweep, _sweep_tag(sweep): "yes", NOTE: _link_to(sweep)}
    return tags


def fold_tags(run: TrackedRun) -> dict[str, str]:
    """Return the fold that a run is tested on, and how many there are; nothing without folds."""
    if run.trial.fold is None:
        return {}
    return {"fold": str(run.trial.fold), "folds": str(run.cohort.num_folds)}


def _places(run: TrackedRun) -> dict[str, str]:
    """Return the tags that group and order runs: levels, then methods, the baseline first."""
    size, model, baseline = run.trial.size, run.trial.model.name, run.trial.method == BASELINE
    return {
        "level": format_level(size),
        "order": f"{size.value:016.6f} {model} {0 if baseline else 1} {run.method}",
        **group_tags(model, run.method, size),
    }


def group_tags(model: str, method: str, size: TrainingSize) -> dict[str, str]:
    """Return the tags by which a sweep groups its runs: one holds all that differs.

    MLflow's lists cut the names of groups by several tags, which repeat the names of the tags.
    """
    cell = f"{method} at {format_level(size)}"
    return {"method": method, METHOD_LEVEL: cell, MODEL_METHOD_LEVEL: f"{model}, {cell}"}


def _link_to(sweep: str) -> str:
    """Return Markdown with the link from a run to its sweep's results in `mimic-reg ui`."""
    return f"[Results of the sweep {sweep}](mimic-reg/{sweep})"


def _sweep_tag(sweep: str) -> str:
    return f"{_SWEEP}{check_name(sweep)}"


def check_name(name: str) -> str:
    """Return the name of a sweep, if folders, addresses and MLflow's searches can have it.

    Raises:
        InputError: it is empty or too long, holds no letter or digit, or has other signs than
            letters, digits, `_`, `-` and `.`.
    """
    if not re.fullmatch(r"[.-]*\w[\w.-]*", name, re.ASCII) or len(name) > _NAME_LENGTH:
        raise InputError(
            f"A sweep cannot be called {name[:_NAME_LENGTH]!r}: use at most {_NAME_LENGTH} "
            "letters, digits, '_', '-' and '.', with a letter or digit among them."
        )
    return name


def _add_sweep(api: MlflowClient, run: Run, sweep: str | None) -> None:
    """Add a tag for the sweep, since a trial may belong to several; `sweep` keeps the first."""
    tags = run.data.tags
    if sweep and _sweep_tag(sweep) not in tags:
        api.set_tag(run.info.run_id, _sweep_tag(sweep), "yes")
        if "sweep" not in tags:
            api.set_tag(run.info.run_id, "sweep", sweep)
    note = tags.get(NOTE, "")
    if sweep and _link_to(sweep) not in note:
        api.set_tag(run.info.run_id, NOTE, f"{note}\n\n{_link_to(sweep)}".strip())


def _undefined(run: TrackedRun) -> dict[str, str]:
    """Return why scores of the best checkpoint are missing."""
    return {
        f"undefined.{split}_{name}": str(score.reason)
        for split, scores in run.scores.items()
        for name, score in scores.items()
        if score.value is None
    }


def _digest(run: TrackedRun) -> str:
    return run.fingerprint[:_DIGEST_LENGTH]


def _dataset(run: TrackedRun) -> DatasetInput:
    shown = scored_samples(run, samples_by_split(run, store_of(run)))
    dataset = Dataset(
        name=run.trial.task,
        digest=_digest(run),
        source_type="cohort store",
        source=json.dumps({"fingerprint": run.fingerprint}),
        profile=json.dumps({f"num_{split}": text for split, text in shown.items()}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _log_files(api: MlflowClient, run_id: str, run: TrackedRun) -> None:
    """Log settings, scores and history, without the store's path and the predictions."""
    with tempfile.TemporaryDirectory() as folder:
        description = read_trial(run.folder)
        description["store"].pop("path", None)
        write_json(Path(folder) / TRIAL, description)
        if (run.folder / SCORES).is_file():
            scored = read_scored(run.folder)
            del scored["num_samples"]  # exact, so they may tell few patients
            for score in (s for of_split in scored["scores"].values() for s in of_split.values()):
                score.pop("replicates", None)  # their share tells the number of few positives
            write_json(Path(folder) / SCORES, scored)
        (Path(folder) / "trial.yaml").write_text(run.trial.to_yaml(), "utf-8")
        api.log_artifacts(run_id, folder)
    if (run.folder / HISTORY).is_file():
        api.log_artifact(run_id, str(run.folder / HISTORY))


def log_batches(
    api: MlflowClient,
    run_id: str,
    metrics: Sequence[Metric] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log any number of metrics, parameters and tags, in batches that MLflow accepts."""
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


def _milliseconds(path: Path) -> int:
    return int(path.stat().st_mtime * 1000)


def now() -> int:
    """Return the time in MLflow's milliseconds."""
    return int(time.time() * 1000)
