"""The registry: the best trained model of each task and model family.

Each task and model family has one registered model, and each registered trial is a version of it.
The alias `champion` moves to a version only if its validation score is better. Test scores are
shown, and choose nothing. In a cross-validation the score is the mean over folds, which is compared
with means over the same folds only; the version is the model of the first fold.

Versions of tasks that were trained together are beside those of the task alone; `trunks` registers
the trunk that they share.
"""

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from mimic_reg import __version__
from mimic_reg.errors import InputError
from mimic_reg.report import card
from mimic_reg.store.spec import BENCHMARK
from mimic_reg_pipelines.tracking import cards, mlflow_runs
from mimic_reg_pipelines.tracking.champions import SCORED_ON, find_champion, promote
from mimic_reg_pipelines.tracking.choosing import best_of
from mimic_reg_pipelines.tracking.client import alone, connect, default, sync_artifacts
from mimic_reg_pipelines.tracking.comparison import plain
from mimic_reg_pipelines.tracking.serving import save_mlflow_model
from mimic_reg_pipelines.tracking.tracked_run import TrackedRun, final_metrics, read_tracked


@dataclass(frozen=True)
class Registered:
    """The registry's answer for one trial.

    champion: whether the alias is on this version now
    why:      how it was selected in its sweep, and why it is champion or not
    summary:  the version in a sentence: method, training size, test score
    """

    name: str
    version: str
    run_id: str
    trial_id: str
    champion: bool
    why: str
    summary: str = ""

    @property
    def uri(self) -> str:
        """The name of this version for MLflow and `mimic-reg predict`."""
        return f"models:/{self.name}/{self.version}"


def model_name(task: str, model: str, cohort: str = BENCHMARK) -> str:
    """Return the name of a task's registered model of one family.

    Each cohort has its own models: scores from different patients are never compared.
    """
    what = task if cohort == BENCHMARK else f"{cohort}-{task}"
    return f"{mlflow_runs.PREFIX}-{what}-{plain_name(model)}"


def plain_name(model: str) -> str:
    """Return a model's name as MLflow takes it, also that of a class: package.module:Class."""
    return re.sub("[:.]", "-", model)


def register_best(
    folders: Iterable[Path],
    *,
    uri: str,
    store: Path | None = None,
    sweep: str | None = None,
    methods: Mapping[Path, str] | None = None,
    fold_by_fold: bool = False,
) -> list[Registered]:
    """Register the trial with the best validation score of every cohort, task and model family.

    In a cross-validation it is the best mean over folds.

    folders: run folders; unfinished ones are left out. Of equal trials the first is taken, and one
             that is hardly trained only if all are
    store, sweep: as in `register`
    methods: run folder → the name of its methods together, if it is not made of their modules'
    fold_by_fold: whether each fold chose values of its own; see `best_of`

    Raises:
        InputError: a folder holds no trial; no trial is finished.
    """
    read = [read_tracked(folder, (methods or {}).get(folder)) for folder in folders]
    chosen = best_of([run for run in read if run.finished], fold_by_fold=fold_by_fold)
    if not chosen:
        raise InputError("There is no finished trial to register.")
    return [
        register(
            first.folder,
            uri=uri,
            store=store,
            sweep=sweep,
            method=first.method,
            among=among,
            other_folds=[run.folder for run in others],
        )
        for (first, *others), among in chosen
    ]


def register(
    folder: Path,
    *,
    uri: str,
    store: Path | None = None,
    sweep: str | None = None,
    method: str | None = None,
    among: int = 1,
    other_folds: Sequence[Path] = (),
) -> Registered:
    """Register the best model of a run folder, once, and make it champion if it is the best.

    store:  where the cohort store is now, if it was moved
    sweep, method: as in `mlflow_runs.log_trial`, which is called for trials that are not logged yet
    among:  the number of trials whose best validation score it has
    other_folds: run folders of the same trial in other folds, over which its scores are means

    Raises:
        InputError: the folder holds no finished trial.
    """
    runs = [read_tracked(each, method) for each in (folder, *other_folds)]
    run, (score, value) = runs[0], cards.validation_score(runs)
    trial, over = run.trial, f", a mean over {cards.folds_of(runs)}," if other_folds else ""

    document = card.build(folder, store)

    def write(target: Path, model_id: str) -> None:
        save_mlflow_model(run.folder, target, store=store, model_id=model_id)
        card.write(document, target)

    candidate = Candidate(
        name=model_name(trial.task, trial.model.name, run.cohort.name),
        about=_about(run),
        labels={"task": trial.task, "model": trial.model.name, "cohort": run.cohort.name},
        trial_id=run.id,
        run_id=mlflow_runs.log_trial(folder, uri=uri, sweep=sweep, method=method),
        task=trial.task,
        kind=trial.model.name,
        called=f"{plain_name(trial.model.name)}-{run.id}",
        tags=version_tags(runs),
        description=cards.describe(runs),
        card=cards.model_card(runs, document),
        selected=selected(f"validation {score} {value:.4f}{over}", among, "trials", sweep),
        metrics=final_metrics(run),
        write=write,
    )
    return enter(candidate, uri)


@dataclass(frozen=True)
class Candidate:
    """A model of a trial, or a trunk, to register as a version.

    name, about, labels: of the registered model, if it is not there yet
    run_id:              MLflow's run that it comes from, in the experiment of `task`
    kind, called, tags, description: what MLflow shows of the version; the description is a sentence
    card:                the rest of the version's page, as Markdown
    selected:            how it was chosen among the trials of its sweep, in a sentence
    write:               writes its files in a new folder, given the folder and MLflow's model id
    """

    name: str
    about: str
    labels: Mapping[str, str]
    trial_id: str
    run_id: str
    task: str
    kind: str
    called: str
    tags: Mapping[str, str]
    description: str
    metrics: Mapping[str, float]
    write: Callable[[Path, str], None]
    card: str = ""
    selected: str = ""


def enter(candidate: Candidate, uri: str) -> Registered:
    """Register a candidate as a version, once, and make it champion if it is the best."""
    with alone(uri), default(uri):
        api = connect(uri)
        _make(api, candidate)
        version = _find(api, candidate) or _add(api, candidate, uri)
        before = find_champion(api, candidate.name)
        champion, why = promote(api, candidate.name, version)
        _describe(api, candidate, version, before, champion, why)
    return Registered(
        name=candidate.name,
        version=str(version.version),
        run_id=candidate.run_id,
        trial_id=candidate.trial_id,
        champion=champion,
        why=f"{candidate.selected} {why}".strip(),
        summary=candidate.description,
    )


def _describe(
    api: MlflowClient,
    candidate: Candidate,
    version: ModelVersion,
    before: ModelVersion | None,
    champion: bool,
    why: str,
) -> None:
    """Write a version's page, with why it is champion or not; renew that of the champion before."""
    same = before is not None and before.version == version.version
    heading, page = cards.WHY if champion else cards.WHY_NOT, version.description or ""
    about = f"{candidate.description}\n\n{plain(candidate.selected)}".strip()
    head, found, rest = page.partition(f"\n\n{heading}")
    if not found:
        page = cards.with_reason(about, candidate.card, heading, why)
    elif candidate.selected and head.startswith(candidate.description):
        page = f"{about}{found}{rest}"  # with its first reason
    if page != version.description:
        api.update_model_version(candidate.name, version.version, page)
    if not champion:
        return
    shown = api.get_registered_model(candidate.name).description or ""
    if shown.startswith(candidate.about):  # nobody wrote another text
        line = f"Champion: version {version.version}. {candidate.description}"
        api.update_registered_model(candidate.name, f"{candidate.about}\n\n{line}\n\n{cards.RULE}")
    if before is not None and not same:
        text = cards.no_longer(before.description or "", str(version.version), why)
        api.update_model_version(candidate.name, before.version, text)


def _about(run: TrackedRun) -> str:
    trial = run.trial
    what = "raw hourly features" if run.cohort.is_hourly else "images"
    return (
        f"{trial.model.name} for {trial.task}: {what} in, predictions out. The alias "
        f"`{cards.CHAMPION}` is on the version with the best validation {run.selected_by}."
    )


def selected(score: str, among: int, what: str, sweep: str | None) -> str:
    """Return a sentence that says of how many of its sweep a version is the best; "" if of one."""
    of_sweep = f" of the sweep {sweep}" if sweep else ""
    return f"Its {score} is the best of {among:,} {what}{of_sweep}." if among > 1 else ""


def _make(api: MlflowClient, candidate: Candidate) -> None:
    try:
        api.create_registered_model(
            candidate.name, tags=dict(candidate.labels), description=candidate.about
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _find(api: MlflowClient, candidate: Candidate) -> ModelVersion | None:
    token, chosen = None, f"name = '{candidate.name}'"
    while True:
        page = api.search_model_versions(chosen, max_results=200, page_token=token)
        for version in page:
            if version.tags.get("trial_id") == candidate.trial_id:
                return version
        token = page.token
        if not token:
            return None


def _add(api: MlflowClient, candidate: Candidate, uri: str) -> ModelVersion:
    logged = api.create_logged_model(
        mlflow_runs.experiment_id(uri, candidate.task),
        name=candidate.called,
        source_run_id=candidate.run_id,
        tags=dict(candidate.tags),
        model_type=candidate.kind,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        candidate.write(folder, logged.model_id)
        api.log_model_artifacts(logged.model_id, str(folder))
    sync_artifacts(logged.artifact_location)
    api.finalize_logged_model(logged.model_id, "READY")
    if candidate.metrics:
        end = api.get_run(candidate.run_id).info.end_time
        points = [
            Metric(metric, value, end, mlflow_runs.FINAL, model_id=logged.model_id)
            for metric, value in candidate.metrics.items()
        ]
        api.log_batch(candidate.run_id, metrics=points)
    return api.create_model_version(
        candidate.name,
        source=f"models:/{logged.model_id}",
        run_id=candidate.run_id,
        model_id=logged.model_id,
        tags=dict(candidate.tags),
        description=candidate.description,
    )


def version_tags(runs: Sequence[TrackedRun]) -> dict[str, str]:
    """Return the tags of a version: its origin and its scores."""
    run, (name, value) = runs[0], cards.validation_score(runs)
    trial = run.trial
    tags = {
        "trial_id": run.id,
        "cohort": run.cohort.name,
        "method": run.method,
        **trial.size.tags(),
        "seed": str(trial.seed),
        **mlflow_runs.fold_tags(run),
        **({SCORED_ON: cards.folds_of(runs)} if trial.fold else {}),
        "selected_by": name,
        f"validation_{name}": repr(value),
        "code_version": run.versions["code"] or f"{mlflow_runs.PREFIX} {__version__}",
        "data_fingerprint": run.fingerprint,
    }
    score = cards.mean_test_score(runs)
    tags[f"test_{name}"] = cards.format_score(score)
    if score.low is not None:
        tags[f"test_{name}_interval"] = f"{score.low:.4f} to {score.high:.4f}"
    if run.hardly_trained:
        tags["hardly_trained"] = run.hardly_trained
    return tags
