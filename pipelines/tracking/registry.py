"""The registry: which trained model is the one to use, and where it came from.

One registered model a task and model family, a version a registered trial. The alias `champion`
moves to a version only if its validation score is better: test scores are there to read, not to
choose by.

Tasks that were trained together have their versions beside those of the task alone; their trunk is
a registered model of its own, for each set of tasks and family. Its files are `trunk.safetensors`
and `trunk.yaml`, which `mimic-reg finetune` takes.
"""

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from mimic_reg import __version__
from mimic_reg.errors import InputError
from mimic_reg.learners.trunk import Trunk, load_trunk
from mimic_reg.metrics.scores import improves
from mimic_reg.runs import DONE, FIT, TRUNK, TRUNK_SETTINGS, read_trial
from mimic_reg.store.spec import BENCHMARK
from pipelines.tracking.client import alone, connect, default, sync_artifacts
from pipelines.tracking.mlflow_runs import FINAL, PREFIX, experiment_id, log_trial
from pipelines.tracking.serving import save_mlflow_model
from pipelines.tracking.tracked_run import RunFolder, final_metrics, read_run

CHAMPION = "champion"


@dataclass(frozen=True)
class Registered:
    """What became of a trial in the registry.

    champion: whether the alias is on this version now
    why:      a sentence about that
    """

    name: str
    version: str
    run_id: str
    trial_id: str
    champion: bool
    why: str

    @property
    def uri(self) -> str:
        """How MLflow and `mimic-reg predict` call this version."""
        return f"models:/{self.name}/{self.version}"


def model_name(task: str, model: str, cohort: str = BENCHMARK) -> str:
    """Return the name of a task's registered model of one family.

    Cohorts have models of their own: scores from different patients are never compared.
    """
    what = task if cohort == BENCHMARK else f"{cohort}-{task}"
    return f"{PREFIX}-{what}-{model}"


def champion_uri(task: str, model: str, cohort: str = BENCHMARK) -> str:
    """Return how MLflow and `mimic-reg predict` call the best model of a task and family."""
    return f"models:/{model_name(task, model, cohort)}@{CHAMPION}"


def register_best(
    folders: Iterable[Path],
    *,
    uri: str,
    store: Path | None = None,
    sweep: str | None = None,
    methods: Mapping[Path, str] | None = None,
) -> list[Registered]:
    """Register the trial with the best validation score of every cohort, task and model family.

    folders: run folders; those that are not finished are left out, and of equals the first wins
    store, sweep: as in `register`
    methods: run folder → what its methods are called, where their modules' names do not tell

    Raises:
        InputError: a folder holds no trial; none of them is finished.
    """
    best: dict[tuple[str, str, str], RunFolder] = {}
    for folder in folders:
        run = read_run(folder, (methods or {}).get(folder))
        if not run.finished:
            continue
        family = (run.cohort.name, run.trial.task, run.trial.model.name)
        name, value = validation_score(run)
        if family not in best or improves(name, value, validation_score(best[family])[1]):
            best[family] = run
    if not best:
        raise InputError("There is no finished trial to register.")
    return [
        register(run.folder, uri=uri, store=store, sweep=sweep, method=run.method)
        for _, run in sorted(best.items())
    ]


def register(
    folder: Path,
    *,
    uri: str,
    store: Path | None = None,
    sweep: str | None = None,
    method: str | None = None,
) -> Registered:
    """Register the best model of a run folder, once, and make it champion if it is.

    store:  where the cohort store is now, if it was moved
    sweep, method: as in `mlflow_runs.log_trial`, which is called for trials that are not logged yet

    Raises:
        InputError: the folder holds no finished trial.
    """
    run = read_run(folder, method)
    run_id = log_trial(folder, uri=uri, sweep=sweep, method=method)
    name = model_name(run.trial.task, run.trial.model.name, run.cohort.name)
    with alone(uri), default(uri):
        api = connect(uri)
        tags = {"task": run.trial.task, "model": run.trial.model.name, "cohort": run.cohort.name}
        _make(api, name, tags, _about(run))
        version = _find(api, name, run.id) or _add(api, name, run, run_id, uri, store)
        champion, why = _promote(api, name, version)
    return Registered(name, str(version.version), run_id, run.id, champion, why)


def validation_score(run: RunFolder) -> tuple[str, float]:
    """The score that selects, by name, and its value at the best epoch."""
    assert run.selected_by is not None, "a finished trial was selected by a score"
    value = run.scores["validation"][run.selected_by]["value"]
    assert value is not None, "training refuses a validation score that is undefined"
    return run.selected_by, float(value)


def _about(run: RunFolder) -> str:
    trial = run.trial
    what = "raw hourly features" if run.cohort.is_hourly else "images"
    return (
        f"{trial.model.name} for {trial.task}: {what} in, predictions out. The alias "
        f"`{CHAMPION}` is on the version with the best validation {run.selected_by}."
    )


def _make(api: MlflowClient, name: str, tags: dict[str, str], description: str) -> None:
    try:
        api.create_registered_model(name, tags=tags, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _find(api: MlflowClient, name: str, trial_id: str) -> ModelVersion | None:
    for version in _versions(api, name):
        if version.tags.get("trial_id") == trial_id:
            return version
    return None


def _versions(api: MlflowClient, name: str) -> Iterable[ModelVersion]:
    token = None
    while True:
        page = api.search_model_versions(f"name = '{name}'", max_results=200, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _add(
    api: MlflowClient, name: str, run: RunFolder, run_id: str, uri: str, store: Path | None
) -> ModelVersion:
    tags = version_tags(run)
    logged = api.create_logged_model(
        experiment_id(uri, run.trial.task),
        name=f"{run.trial.model.name}-{run.id}",
        source_run_id=run_id,
        tags=tags,
        model_type=run.trial.model.name,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        save_mlflow_model(run.folder, path, store=store, model_id=logged.model_id)
        api.log_model_artifacts(logged.model_id, str(path))
    sync_artifacts(logged.artifact_location)
    api.finalize_logged_model(logged.model_id, "READY")
    end = api.get_run(run_id).info.end_time
    points = [
        Metric(metric, value, end, FINAL, model_id=logged.model_id)
        for metric, value in final_metrics(run).items()
    ]
    api.log_batch(run_id, metrics=points)
    return api.create_model_version(
        name,
        source=f"models:/{logged.model_id}",
        run_id=run_id,
        model_id=logged.model_id,
        tags=tags,
        description=describe(run),
    )


def version_tags(run: RunFolder) -> dict[str, str]:
    """Where a version came from and how good it is; texts, as all tags."""
    trial = run.trial
    name, value = validation_score(run)
    tags = {
        "trial_id": run.id,
        "method": run.method,
        "supervision": f"{trial.supervision:g}",
        "seed": str(trial.seed),
        "selected_by": name,
        f"validation_{name}": repr(value),
        "code_version": run.versions["code"] or f"{PREFIX} {__version__}",
        "data_fingerprint": run.fingerprint,
    }
    score = run.scores["test"][name]
    tags[f"test_{name}"] = _number(score)
    if score["low"] is not None:
        tags[f"test_{name}_interval"] = f"{score['low']:.4f} to {score['high']:.4f}"
    if run.hardly_trained:
        tags["hardly_trained"] = run.hardly_trained
    return tags


def describe(run: RunFolder) -> str:
    """A version in a sentence."""
    trial = run.trial
    name = validation_score(run)[0]
    score = run.scores["test"][name]
    interval = f" (95 % {score['low']:.4f} to {score['high']:.4f})" if score["low"] else ""
    return (
        f"{run.method}, {trial.supervision:.0%} of the training samples, seed {trial.seed}: "
        f"test {name} {_number(score)}{interval}."
    )


def _number(score: Mapping[str, Any]) -> str:
    return f"undefined: {score['reason']}" if score["value"] is None else f"{score['value']:.4f}"


def _promote(api: MlflowClient, name: str, version: ModelVersion) -> tuple[bool, str]:
    """Move the alias to the version if its validation score is better."""
    champion = _champion(api, name)
    if champion is None:
        api.set_registered_model_alias(name, CHAMPION, version.version)
        return True, "It is the first one."
    if str(champion.version) == str(version.version):
        return True, "It was champion before."
    selected_by = version.tags["selected_by"]
    score = f"validation_{selected_by}"
    new, old = float(version.tags[score]), float(champion.tags[score])
    better = improves(selected_by, new, old)
    if better:
        api.set_registered_model_alias(name, CHAMPION, version.version)
    why = (
        f"Its validation {selected_by} {new:.4f} is {'' if better else 'not '}better than "
        f"{old:.4f} of version {champion.version}."
    )
    if champion.tags["data_fingerprint"] != version.tags["data_fingerprint"]:
        why += " The two were validated on different data."
    return better, why


def _champion(api: MlflowClient, name: str) -> ModelVersion | None:
    aliases = api.get_registered_model(name).aliases
    return api.get_model_version(name, aliases[CHAMPION]) if CHAMPION in aliases else None


# --- trunks ---------------------------------------------------------------------------------------

_MEAN = "mean_score"  # over the tasks' validation scores


def trunk_name(tasks: Iterable[str], model: str, cohort: str = BENCHMARK) -> str:
    """Return the name of the registered trunk of a set of tasks and a family."""
    return model_name("-".join(["trunk", *tasks]), model, cohort)


def _trunk_name(trunk: Trunk, folder: Path) -> str:
    cohort = read_trial(folder, FIT)["cohort"]["name"]
    return trunk_name(trunk.tasks, trunk.model.name, cohort)


def register_best_trunks(
    folders: Iterable[Path],
    *,
    uri: str,
    sweep: str | None = None,
    methods: Mapping[Path, str] | None = None,
) -> list[Registered]:
    """Register the trunk with the best mean validation score of every set of tasks and family.

    folders: of fits of several tasks; those that are not finished are left out
    methods: as in `register_best`, by the fits' folders
    """
    best: dict[str, tuple[float, Path]] = {}
    for folder in folders:
        if not (folder / DONE).is_file():
            continue
        trunk = load_trunk(folder)
        name, score = _trunk_name(trunk, folder), trunk.score
        assert score is not None, "a fit of several tasks has a mean score"
        if name not in best or score > best[name][0]:
            best[name] = score, folder
    return [
        register_trunk(folder, uri=uri, sweep=sweep, method=(methods or {}).get(folder))
        for _, (_, folder) in sorted(best.items())
    ]


def register_trunk(
    folder: Path, *, uri: str, sweep: str | None = None, method: str | None = None
) -> Registered:
    """Register the shared trunk of a finished fit, once, and make it champion if it is.

    Raises:
        InputError: the folder holds no finished fit of several tasks.
    """
    if not (folder / FIT).is_file() or not (folder / DONE).is_file():
        raise InputError(f"{folder} holds no finished fit of several tasks: it has no trunk yet.")
    trunk, described = load_trunk(folder), read_trial(folder, FIT)
    runs = [read_run(folder / task, method) for task in trunk.tasks]
    run_ids = [log_trial(run.folder, uri=uri, sweep=sweep, method=method) for run in runs]
    name, fit_id = _trunk_name(trunk, folder), str(described["id"])
    tags = {
        **{n: t for n, t in version_tags(runs[0]).items() if n in _OF_THE_FIT},
        **{"trial_id": fit_id, "tasks": ", ".join(trunk.tasks), "selected_by": _MEAN},
        f"validation_{_MEAN}": repr(trunk.score),
    }
    about = (
        f"The trunk that {' + '.join(trunk.tasks)} share, to fine-tune from. The alias "
        f"`{CHAMPION}` is on the version with the best mean of the tasks' validation scores."
    )
    with alone(uri), default(uri):
        api = connect(uri)
        _make(api, name, {"tasks": ", ".join(trunk.tasks), "model": trunk.model.name}, about)
        version = _find(api, name, fit_id) or _add_trunk(api, name, runs[0], run_ids[0], uri, tags)
        champion, why = _promote(api, name, version)
    return Registered(name, str(version.version), run_ids[0], fit_id, champion, why)


_OF_THE_FIT = ("method", "supervision", "seed", "code_version", "data_fingerprint")


def _add_trunk(
    api: MlflowClient, name: str, first: RunFolder, run_id: str, uri: str, tags: dict[str, str]
) -> ModelVersion:
    """The two files as a model; its source is the run of the first task."""
    family = first.trial.model.name
    logged = api.create_logged_model(
        experiment_id(uri, first.trial.task),
        name=f"trunk-{family}-{tags['trial_id']}",
        source_run_id=run_id,
        tags=tags,
        model_type=f"trunk of {family}",
    )
    with tempfile.TemporaryDirectory() as temporary:
        for file in (TRUNK, TRUNK_SETTINGS):
            shutil.copy(first.folder.parent / file, temporary)
        api.log_model_artifacts(logged.model_id, temporary)
    sync_artifacts(logged.artifact_location)
    api.finalize_logged_model(logged.model_id, "READY")
    return api.create_model_version(
        name,
        source=f"models:/{logged.model_id}",
        run_id=run_id,
        model_id=logged.model_id,
        tags=tags,
        description=f"{first.method}, {tags['tasks']}, seed {tags['seed']}.",
    )
