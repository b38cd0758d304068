"""Sweeps: all trials of an experiment, each for itself, whatever becomes of the others.

The run folders are the truth: a trial whose folder says that it is done is done, with the same
settings, seed, data and code. So a sweep that was killed goes on where it was when started again,
and sweeps of one work folder share their trials.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from mimic_reg import experiments
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.experiments import Experiment, Planned
from mimic_reg.learners.trunk import load_trunk
from mimic_reg.progress import Progress, Silent
from mimic_reg.runs import TRIAL, read_scored
from mimic_reg.settings import Start, Trial
from mimic_reg.store import Store, locked
from pipelines.flows import views
from pipelines.flows.artifacts import PrefectProgress, artifact_key
from pipelines.flows.report import conclude_task, publish
from pipelines.flows.result import SweepResult, TrialStatus, rows, trial_status
from pipelines.flows.settings import TAGS, OfExperiment, Work
from pipelines.runners import Ended, Order, Runner, describe, open_runner
from pipelines.runners.settings import Running
from pipelines.tracking import client, mlflow_runs


def sweep(
    experiment: Experiment,
    work: Path,
    *,
    store: Path | None = None,
    running: Running | None = None,
    tracking_uri: str | None = None,
    simulated: bool | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Run the trials of an experiment that are not finished yet; what became of all of them.

    work:         the work folder: runs, status and, by default, store and MLflow's database
    store:        the cohort store; None: the experiment's, or that of the work folder
    tracking_uri: MLflow's store; None: the database in the work folder

    Raises:
        InputError: an unusable store, tracking URI or runner.
        MimicRegError: another process runs the same sweep.
        KeyboardInterrupt: Ctrl-C; what ran wrote a checkpoint, and the same call goes on from it.
    """
    with _prepare(experiment, work, store, tracking_uri, simulated, progress) as prepared:
        prepared.run(running or Running(), _twice_if_it_may_help)
        return prepared.result


def _twice_if_it_may_help(name: str, order: Order, runner: Runner) -> Ended:
    ended = runner.run(order)
    return runner.run(order) if ended.again else ended


class Prepared:
    """A sweep under way: what is to be done, and the record of what was."""

    def __init__(
        self, result: SweepResult, planned: Mapping[str, Planned], uri: str, progress: Progress
    ) -> None:
        self.result, self.uri, self.progress = result, uri, progress
        self._planned = planned
        self._shown: set[tuple[str, str]] = set()  # tasks and methods that the views know
        self.pending = _longest_first([t for t in result.trials if not t.done], planned, result)

    def run(self, running: Running, attempt: Callable[[str, Order, Runner], Ended]) -> None:
        """Run what is not finished yet.

        attempt: run a trial, given its name
        """
        done = len(self.result.trials) - len(self.pending)
        before = f"; {done} were finished before" if done else ""
        with open_runner(running, len(self.pending)) as runner:
            self.progress.note(
                f"{self.result.title}: {len(self.pending)} trials to run{before}; "
                f"{describe(running, runner)}."
            )
            self.progress.stage("trials", len(self.pending), "trials")

            def run(trial: TrialStatus) -> Ended:
                return attempt(trial.name, self.order(trial, running), runner)

            dispatch(self.pending, run, runner, self.ended)

    def order(self, trial: TrialStatus, running: Running) -> Order:
        """What a runner is told."""
        settings = self._planned[trial.identity].trial
        return Order(
            trial=settings.model_dump(mode="json"),
            store=str(self.result.store),
            data=self.result.data,
            folder=str(self.result.run_folder(trial).resolve()),
            trunk=_trunk(settings, self.result.work),
            threads=running.threads,
            device=running.device,
        )

    def ended(self, trial: TrialStatus, ended: Ended) -> None:
        """Record what became of a trial, here and in MLflow."""
        now = replace(trial, status=ended.status, seconds=ended.seconds, error=ended.error)
        trials = tuple(now if t.identity == now.identity else t for t in self.result.trials)
        self.result = replace(self.result, trials=trials)
        self.result.write()
        self.progress.advance(1)
        note = f"; {ended.note}" if ended.note else ""
        self.progress.note(f"{now.name}: {self._describe(now)}{note}")
        if now.status != "interrupted":
            self.log(now)
        if now.status == "interrupted":
            raise KeyboardInterrupt

    def _describe(self, trial: TrialStatus) -> str:
        if trial.error:
            return f"FAILED: {trial.error}"
        if not trial.done:
            return trial.status
        found = []
        for folder in self.result.run_folders(trial):
            scored = read_scored(folder)
            name = scored["selected_by"]
            found.append(f"{name} {scored['scores']['validation'][name]['value']:.4f}")
        return f"validation {', '.join(found)}, {trial.seconds:,.0f} s"

    def log(self, trial: TrialStatus) -> None:
        """Tell MLflow; where that fails, the run folder has all, and the next sweep tells."""
        for folder in self.result.run_folders(trial):
            if (folder / TRIAL).is_file():
                self._log(trial, folder)

    def _log(self, trial: TrialStatus, folder: Path) -> None:
        error = None if trial.done else MimicRegError(trial.error or trial.status)
        try:
            mlflow_runs.log_trial(
                folder, uri=self.uri, sweep=self.result.name, method=trial.label, error=error
            )
            self._show(trial)
        except (MlflowException, MimicRegError, OSError) as problem:
            text = str(problem).partition("\n")[0]
            self.progress.note(f"Not logged in MLflow: {trial.name}: {text}")

    def _show(self, trial: TrialStatus) -> None:
        """Write the sweep's views when a method has its first result in a task."""
        new = {(task, trial.label) for task in trial.tasks or (trial.task,)} - self._shown
        if trial.done and new:
            views.publish(self.result, self.uri)
            self._shown |= new


@contextmanager
def _prepare(
    experiment: Experiment,
    work: Path,
    store: Path | None,
    tracking_uri: str | None,
    simulated: bool | None,
    progress: Progress | None,
) -> Iterator[Prepared]:
    """A sweep, ready to run, that nobody else runs meanwhile."""
    folders = Work(work).create()
    planned = experiments.plan(experiment)
    place = find_store(experiment, folders, store)
    opened = Store.open(place)
    experiments.check_data(experiment, opened)
    for grid in experiment.grids:
        if grid.start is not None and grid.start.trunk is not None:
            check_trunk(grid.start, folders.folder)
    uri = tracking_uri or client.database(folders.folder)
    client.prepare(uri)
    mlflow_runs.check_name(experiment.name)
    data = str(opened.manifest["fingerprint"])
    with locked(folders.sweep(experiment.name)):
        by_identity = {p.identity(data): p for p in planned}
        trials = tuple(trial_status(i, p, data, folders) for i, p in by_identity.items())
        result = SweepResult(
            name=experiment.name,
            title=experiment.title,
            work=work,
            store=place.resolve(),
            data=data,
            configuration=experiment.model_dump(mode="json", exclude_defaults=True),
            trials=trials,
            simulated=simulated,
        )
        result.write()
        prepared = Prepared(result, by_identity, uri, progress or Silent())
        for sentence in experiments.left_out(experiment):
            prepared.progress.note(sentence)
        for trial in trials:
            if trial.done:
                prepared.log(trial)  # it may be new to this sweep, or to this MLflow
        yield prepared


def check_trunk(start: Start, work: Path) -> None:
    """Refuse a trunk that is missing, or another one than a grid names.

    Raises:
        InputError: see above.
    """
    assert start.trunk is not None
    place = experiments.within(work, start.trunk)
    found = load_trunk(place).fingerprint
    if found != start.fingerprint:
        raise InputError(
            f"The trunk in {place} has the fingerprint {found}, the experiment names "
            f"{start.fingerprint}: it was trained again, or is another one. Name this one to go on."
        )


def _trunk(trial: Trial, work: Path) -> str | None:
    """The folder of the trunk that a trial starts from."""
    start = trial.start
    if start is None or start.trunk is None:
        return None
    return str(experiments.within(work, start.trunk).resolve())


def find_store(experiment: Experiment, work: Work, store: Path | None) -> Path:
    """Where the store is: as told, else as the experiment says, else in the work folder.

    There a cohort is in `store`, a set of images in a folder of its name.
    """
    if store is not None:
        return store
    if experiment.store:
        return experiments.within(work.folder, experiment.store)
    return work.folder / experiment.data if experiment.data else work.store


def _longest_first(
    trials: Sequence[TrialStatus], planned: Mapping[str, Planned], result: SweepResult
) -> list[TrialStatus]:
    """So that no process works alone at the end."""
    opened = Store.open(result.store)
    counts = experiments.sizes(opened)

    def seconds(trial: TrialStatus) -> float:
        found = experiments.estimate(planned[trial.identity].trial, counts).seconds
        return math.inf if found is None else found

    return sorted(trials, key=seconds, reverse=True)


def dispatch(
    pending: Sequence[TrialStatus],
    run: Callable[[TrialStatus], Ended],
    runner: Runner,
    ended: Callable[[TrialStatus, Ended], None],
) -> None:
    """Run trials, as many at a time as the runner can; the threads only wait for its processes.

    An interruption asks what runs for a checkpoint, waits for it, and goes on its way.
    """
    if runner.workers == 0:
        for trial in pending:
            ended(trial, run(trial))
        return
    with ThreadPoolExecutor(runner.workers) as threads:
        futures: dict[Future[Ended], TrialStatus] = {
            threads.submit(copy_context().run, run, trial): trial for trial in pending
        }
        try:
            for future in as_completed(futures):
                ended(futures[future], future.result())
        except BaseException:
            for future in futures:
                future.cancel()
            runner.interrupt()
            raise


# --- Prefect --------------------------------------------------------------------------------------


class SweepParameters(OfExperiment):
    """Parameters of the flow.

    simulated: whether the patients are; null: unknown
    conclude:  register the best of each task and write the report
    """

    simulated: bool | None = None
    conclude: bool = True


class TrialFailedError(MimicRegError):
    """A trial has no result; what became of it goes with it."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.error or ended.status)
        self.ended = ended


def _may_help(task: Any, run: Any, state: State[Any]) -> bool:
    """Whether a retry can help: a process that died, a file system that was away."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, TrialFailedError) and error.ended.again


@task(
    name="train_trial",
    task_run_name="{label}",
    tags=TAGS,
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=_may_help,
    cache_policy=NO_CACHE,  # done.json in the run folder is the truth
    persist_result=False,
)
def train_trial(label: str, order: dict[str, Any], runner: Runner) -> dict[str, Any]:
    """Run one trial of a sweep, wherever the runner does."""
    ended = runner.run(Order.model_validate(order))
    if ended.status == "failed":
        raise TrialFailedError(ended)
    return ended.model_dump(mode="json")


@flow(name="sweep", flow_run_name="sweep {parameters.name}", persist_result=False)
def sweep_flow(parameters: SweepParameters) -> State[Any]:
    """All trials of an experiment; then the registry and the report."""
    experiment = experiments.load(parameters.experiment)
    key = artifact_key("sweep", experiment.name)
    with _prepare(
        experiment,
        parameters.work,
        parameters.store,
        parameters.tracking_uri,
        parameters.simulated,
        PrefectProgress(key),
    ) as prepared:
        prepared.run(parameters.running, _as_prefect_task)
        result = prepared.result
    create_table_artifact(key=key, table=rows(result), description=result.title)
    if parameters.conclude and any(t.done for t in result.trials):
        publish(
            result.name,
            conclude_task(str(result.work), result.name, parameters.tracking_uri),
        )
    return final_state(result)


def _as_prefect_task(name: str, order: Order, runner: Runner) -> Ended:
    try:
        return Ended.model_validate(train_trial(name, order.model_dump(mode="json"), runner))
    except TrialFailedError as error:
        return error.ended


def final_state(result: SweepResult) -> State[Any]:
    """Failed, with a list, if any trial has no result; the others are there all the same."""
    if not result.failed:
        return Completed(message=f"{len(result.trials)} trials have their results.")
    names = "; ".join(f"{t.name}: {t.error or t.status}" for t in result.failed)
    return Failed(
        message=f"{len(result.failed)} of {len(result.trials)} trials have no result: {names}"
    )
