"""Sweeps: all trials of an experiment; a trial that fails does not stop the others.

The run folders decide: a trial is finished if its folder says so, for the same settings, seed, data
and code. So a killed sweep continues where it was stopped when it is started again, and sweeps of
one work folder share their trials.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from mimic_reg import experiments
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.experiments import Experiment, Planned
from mimic_reg.experiments.estimates import at_most
from mimic_reg.experiments.identity import code_of
from mimic_reg.learners.trunk import load_trunk
from mimic_reg.progress import Progress
from mimic_reg.runs import TRIAL, read_scored
from mimic_reg.settings import STOPPING, Start, Trial
from mimic_reg.store import Store, locked, origin
from mimic_reg_pipelines.flows import views
from mimic_reg_pipelines.flows.artifacts import PrefectProgress, artifact_key
from mimic_reg_pipelines.flows.ordering import longest_first
from mimic_reg_pipelines.flows.report import conclude_task, publish
from mimic_reg_pipelines.flows.result import SweepResult, TrialStatus, rows, trial_status
from mimic_reg_pipelines.flows.settings import OfExperiment, Work, find_store
from mimic_reg_pipelines.flows.tasks import TASK
from mimic_reg_pipelines.runners import Ended, Order, Runner, describe, open_runner
from mimic_reg_pipelines.runners.settings import Running
from mimic_reg_pipelines.tracking import client, mlflow_runs


def _twice_if_it_may_help(name: str, order: Order, runner: Runner) -> Ended:
    ended = runner.run(order)
    return runner.run(order) if ended.again else ended


def sweep(
    experiment: Experiment,
    work: Path,
    *,
    store: Path | None = None,
    running: Running | None = None,
    tracking_uri: str | None = None,
    simulated: bool | None = None,
    progress: Progress | None = None,
    attempt: Callable[[str, Order, Runner], Ended] = _twice_if_it_may_help,
) -> SweepResult:
    """Run the trials of an experiment that are not finished yet; return the result of all.

    work:         the work folder: runs, status and, by default, store and MLflow's database
    store:        the cohort store; None: the experiment's, or that of the work folder
    tracking_uri: MLflow's store; None: the database in the work folder
    attempt:      runs a trial, given its name

    Raises:
        InputError: an unusable store, tracking URI or runner.
        MimicRegError: another process runs the same sweep.
        KeyboardInterrupt: Ctrl-C; what ran wrote a checkpoint, and the same call goes on from it.
    """
    with _prepare(experiment, work, store, tracking_uri, simulated, progress) as prepared:
        prepared.run(running or Running(), attempt)
        return prepared.result


class Prepared:
    """A running sweep: its trials to run, and the results so far."""

    def __init__(
        self, result: SweepResult, planned: Mapping[str, Planned], uri: str, progress: Progress
    ) -> None:
        self.result, self.uri, self.progress = result, uri, progress
        self._planned = planned
        self._shown: set[tuple[str, str, str]] = set()  # see `_named`: what the views know
        self.pending, self._seconds = longest_first(
            [t for t in result.trials if not t.done], planned, result
        )

    def run(self, running: Running, attempt: Callable[[str, Order, Runner], Ended]) -> None:
        """Run the trials that are not finished yet.

        attempt: runs a trial, given its name
        """
        num, done = len(self.pending), len(self.result.trials) - len(self.pending)
        if not num:
            self.progress.note(f"{self.result.title}: all {done} trials were finished before.")
            return
        before = f" ({done} were finished before)" if done else ""
        with open_runner(running, num) as runner:
            may_stop = any(
                method.name == STOPPING
                for trial in self.pending
                for method in self._planned[trial.identity].trial.regularisers
            )
            self.progress.note(
                f"{self.result.title}: {num} trials to run{before}, {describe(running, runner)}. "
                + at_most(self._seconds, may_stop=may_stop)
            )
            first = self.order(self.pending[0], running)
            if first.url and running.runner == "ray":
                self.progress.note(f"Each machine that lacks {first.url} copies it first.")
            for note in runner.check(first):
                self.progress.note(note)
            self.progress.stage("trials", num, "trials")
            runner.tell = self.progress.note

            def run(trial: TrialStatus) -> Ended:
                return attempt(trial.name, self.order(trial, running), runner)

            dispatch(self.pending, run, runner, self.ended)

    def order(self, trial: TrialStatus, running: Running) -> Order:
        """Return a trial as runners take it."""
        settings = self._planned[trial.identity].trial
        return Order(
            trial=settings.model_dump(mode="json"),
            store=str(self.result.store),
            url=origin(self.result.store),
            data=self.result.data,
            code=code_of(settings),
            folder=str(self.result.run_folder(trial).resolve()),
            trunk=_trunk(settings, self.result.work),
            threads=running.threads,
            device=running.device,
            work=str(Path(self.result.work).resolve()),
        )

    def ended(self, trial: TrialStatus, ended: Ended) -> None:
        """Record the result of a trial, here and in MLflow."""
        assert ended.status != "busy", "a runner waits for it"
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
        """Log a trial in MLflow; if that fails, the next sweep logs it from its run folder."""
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
        except (*client.ERRORS, MimicRegError, OSError) as problem:
            self.progress.note(f"Not logged in MLflow: {trial.name}: {client.said(problem)}")

    def _show(self, trial: TrialStatus) -> None:
        """Write the sweep's views when a model and method have their first result in a task."""
        if trial.done and _named(trial) - self._shown:
            views.publish(self.result, self.uri)
            # They have every trial that is done: a search of many points goes on with them all.
            self._shown |= {name for t in self.result.trials if t.done for name in _named(t)}


def _named(trial: TrialStatus) -> set[tuple[str, str, str]]:
    """Return the tasks of a trial, each with its model and method."""
    return {(task, trial.model, trial.label) for task in trial.tasks or (trial.task,)}


@contextmanager
def _prepare(
    experiment: Experiment,
    work: Path,
    store: Path | None,
    tracking_uri: str | None,
    simulated: bool | None,
    progress: Progress | None,
) -> Iterator[Prepared]:
    """Give a sweep that is ready to run, and that no other process runs meanwhile."""
    if any(grid.undecided for grid in experiment.grids):
        raise InputError(
            f"{experiment.title} is a search, whose points follow from the scores of those before. "
            "Run it with `mimic-reg tune` or `mimic-reg compare`."
        )
    folders = Work(work).create()
    place = find_store(experiment, folders, store)
    opened = Store.open(place)
    experiment = experiments.for_store(experiment, opened)
    planned = experiments.plan(experiment)
    for grid in experiment.grids:
        if grid.start is not None and grid.start.trunk is not None:
            check_trunk(grid.start, folders.folder)
    uri = tracking_uri or client.database(folders.folder)
    client.prepare(uri)
    mlflow_runs.check_name(experiment.name)
    data = str(opened.manifest["fingerprint"])
    with locked(folders.sweep(experiment.name)):
        by_identity = {p.identity(data): p for p in planned}
        chosen = bool(experiment.tuned)
        trials = tuple(
            trial_status(i, p, data, folders, chosen=chosen) for i, p in by_identity.items()
        )
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
        prepared = Prepared(result, by_identity, uri, progress or Progress())
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
    """Return the folder of the trunk that a trial starts from."""
    start = trial.start
    if start is None or start.trunk is None:
        return None
    return str(experiments.within(work, start.trunk).resolve())


def dispatch(
    pending: Sequence[TrialStatus],
    run: Callable[[TrialStatus], Ended],
    runner: Runner,
    ended: Callable[[TrialStatus, Ended], None],
) -> None:
    """Run trials, as many at a time as the runner can; threads only wait for its processes.

    An interruption asks the running trials for a checkpoint, waits for it, and is raised again.
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
    """A trial has no result. `ended` says why."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.error or ended.status)
        self.ended = ended


def _may_help(task: Any, run: Any, state: State[Any]) -> bool:
    """Return whether a retry can help: a process died, a file system was away."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, TrialFailedError) and error.ended.again


@task(
    name="train_trial",
    task_run_name="{label}",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=_may_help,
    **TASK,
)
def train_trial(label: str, order: dict[str, Any], runner: Runner) -> dict[str, Any]:
    """Run one trial of a sweep with a runner."""
    ended = runner.run(Order.model_validate(order))
    if ended.status not in ("finished", "skipped"):
        raise TrialFailedError(ended)
    return ended.model_dump(mode="json")


@flow(name="sweep", flow_run_name="sweep {parameters.name}", persist_result=False)
def sweep_flow(parameters: SweepParameters) -> State[Any]:
    """Run all trials of an experiment, then register the best and write the report."""
    result = sweep_as_tasks(
        parameters.load(), parameters.work, simulated=parameters.simulated, **parameters.how
    )
    if parameters.conclude and any(t.done for t in result.trials):
        publish(
            result.name,
            conclude_task(str(result.work), result.name, parameters.tracking_uri),
        )
    return final_state(result)


def sweep_as_tasks(
    experiment: Experiment, work: Path, *, progress: Progress | None = None, **options: Any
) -> SweepResult:
    """Do what `sweep` does, within a flow: a task for each trial, a table of them.

    options: of `sweep`
    """
    key = artifact_key("sweep", experiment.name)
    progress = progress or PrefectProgress(key)
    result = sweep(experiment, work, progress=progress, attempt=_as_prefect_task, **options)
    create_table_artifact(key=key, table=rows(result), description=result.title)
    return result


def _as_prefect_task(name: str, order: Order, runner: Runner) -> Ended:
    try:
        return Ended.model_validate(train_trial(name, order.model_dump(mode="json"), runner))
    except TrialFailedError as error:
        return error.ended


def final_state(result: SweepResult) -> State[Any]:
    """Return Failed, with a list, if any trial has no result; the others have theirs."""
    if not result.failed:
        return Completed(message=f"{len(result.trials)} trials have their results.")
    names = "; ".join(f"{t.name}: {t.error or t.status}" for t in result.failed)
    return Failed(
        message=f"{len(result.failed)} of {len(result.trials)} trials have no result: {names}"
    )
