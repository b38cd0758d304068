"""How trials are run: here, in processes of their own, or on a Ray cluster; nothing else differs.

A trial goes in as JSON and comes out as JSON: what became of it. Results are in its run folder. A
trial that fails, or whose process dies, is told as such and stops no other one. Nothing is trained
in a thread: those of the callers only wait.

This module imports no torch, so that a new process can set its number of threads before.
"""

import contextlib
import os
import signal
import threading
import time
import traceback
from abc import ABC, abstractmethod
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Literal, Self

from pydantic import JsonValue

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.progress import Silent
from pipelines.settings import Parameters, Running, processors

_WATCH_SECONDS = 0.5


class Order(Parameters):
    """A trial to run: its settings, the store, its run folder; paths are absolute.

    data: the store's fingerprint when the sweep began
    slot: the number of the process that runs it; with several GPUs it gets that one
    """

    trial: dict[str, JsonValue]
    store: str
    data: str
    folder: str
    threads: int
    device: str | None = None
    slot: int = 0


class Ended(Parameters):
    """What became of it.

    error: why it failed: a sentence, and for errors of ours the place
    note:  what differs from what was ordered
    again: whether trying again may help: its process died, say
    """

    status: Literal["finished", "skipped", "interrupted", "failed"]
    seconds: float = 0.0
    error: str | None = None
    note: str = ""
    again: bool = False


def execute(order: str) -> str:
    """Run an `Order`; what comes back is an `Ended`. The one function that every runner calls."""
    return _execute(Order.model_validate_json(order)).model_dump_json()


def _execute(order: Order) -> Ended:
    from mimic_reg.store import Store

    started = time.perf_counter()
    try:
        if _interrupted.is_set():
            return Ended(status="interrupted")
        if Store.open(Path(order.store)).manifest["fingerprint"] != order.data:
            raise MimicRegError(
                f"The store {order.store} was written anew since the sweep began. Start the sweep "
                "again: it will be on the new data."
            )
        status, note = _train(order)
        return Ended(status=status, seconds=time.perf_counter() - started, note=note)
    except (MimicRegError, OSError) as error:
        seconds = time.perf_counter() - started
        again = isinstance(error, OSError)
        return Ended(status="failed", seconds=seconds, error=_sentence(error), again=again)
    except Exception as error:  # noqa: BLE001  # whatever it is, it must not end the others
        seconds = time.perf_counter() - started
        return Ended(status="failed", seconds=seconds, error=_sentence(error) + _place(error))


def _train(order: Order) -> tuple[Literal["finished", "interrupted", "skipped"], str]:
    """Train one task, or several together; what became of it, and what differs from the order."""
    from mimic_reg import fitting
    from mimic_reg.config import resolve, resolve_multi
    from mimic_reg.multitask import fit as multitask

    store, folder = Path(order.store), Path(order.folder)
    device, progress = order.device or _gpu(order.slot), _Interruptible()
    outcome: fitting.Outcome | multitask.Outcome
    if "trials" in order.trial:
        multi = resolve_multi(order.trial)
        outcome = multitask.train(
            multi, store, folder, progress=progress, device=device, threads=order.threads
        )
    else:
        trial = resolve(order.trial)
        outcome = fitting.train(
            trial, store, folder, progress=progress, device=device, threads=order.threads
        )
    if outcome.threads in (None, order.threads):
        return outcome.status, ""
    return outcome.status, f"number of threads as it was begun: {outcome.threads}"


def _gpu(slot: int) -> str | None:
    """The GPU of a process, if there are several; else `fitting.train` takes what there is."""
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{slot % count}" if count > 1 else None


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, MimicRegError) else f"{type(error).__name__}: {error}"


def _place(error: Exception) -> str:
    """Where an error of ours arose: file and line, no values."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f" ({os.path.basename(frame.filename)}, line {frame.lineno})"


# --- interruption ---------------------------------------------------------------------------------

_interrupted = threading.Event()


class _Interruptible(Silent):
    """Passes on a Ctrl-C that came while the data were loaded, when nobody listened yet."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Training begins: from here on `fitting.train` listens."""
        if _interrupted.is_set():
            os.kill(os.getpid(), signal.SIGINT)


def _remember(number: int, frame: FrameType | None) -> None:
    _interrupted.set()


def _start_child(parent: int, threads: int) -> None:
    """Prepare a new process: before torch is imported, away from the terminal's Ctrl-C."""
    os.setsid()
    os.environ["OMP_NUM_THREADS"] = os.environ["POLARS_MAX_THREADS"] = str(threads)
    signal.signal(signal.SIGINT, _remember)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End with the parent, even if that was killed: nobody would want the result."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


# --- runners --------------------------------------------------------------------------------------


class Runner(ABC):
    """Runs trials; a context manager.

    workers: trials that may run at a time; 0: only here, in the thread of the caller
    """

    workers: int = 0

    @abstractmethod
    def run(self, order: Order) -> Ended:
        """Run a trial and wait for its end."""

    def interrupt(self) -> None:  # noqa: B027
        """Ask all running trials for a checkpoint and an end."""

    def close(self) -> None:  # noqa: B027
        """Give back what was taken."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class InProcess(Runner):
    """One after the other, in this process."""

    def run(self, order: Order) -> Ended:
        """Run a trial here."""
        return Ended.model_validate_json(execute(order.model_dump_json()))


class Pool(Runner):
    """Processes of their own, each with its share of the processors.

    Each has one worker and one trial at a time, so that a process that dies (out of memory, say)
    takes no other trial with it.
    """

    def __init__(self, workers: int, threads: int) -> None:
        self.workers = workers
        self._children = [_Child(slot, threads) for slot in range(workers)]
        self._idle: SimpleQueue[_Child] = SimpleQueue()
        for child in self._children:
            self._idle.put(child)

    def run(self, order: Order) -> Ended:
        """Run a trial in the next idle process."""
        child = self._idle.get()
        try:
            return child.run(order)
        finally:
            self._idle.put(child)

    def interrupt(self) -> None:
        """Send Ctrl-C to every process."""
        for child in self._children:
            child.interrupt()

    def close(self) -> None:
        """End the processes."""
        for child in self._children:
            child.close()


class _Child:
    def __init__(self, slot: int, threads: int) -> None:
        self.slot, self.threads = slot, threads
        self._executor: ProcessPoolExecutor | None = None
        self._pid: int | None = None
        self._stopped = False

    def run(self, order: Order) -> Ended:
        started = time.perf_counter()
        text = order.model_copy(update={"slot": self.slot}).model_dump_json()
        try:
            executor = self._start()
            if self._stopped:  # before there was a process to tell
                return Ended(status="interrupted")
            return Ended.model_validate_json(executor.submit(execute, text).result())
        except BrokenProcessPool:
            self.close()
            return Ended(
                status="failed",
                seconds=time.perf_counter() - started,
                error="Its process ended by itself: it was killed, or ran out of memory.",
                again=True,
            )

    def _start(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                max_workers=1,
                mp_context=get_context("spawn"),
                initializer=_start_child,
                initargs=(os.getpid(), self.threads),
            )
            self._pid = self._executor.submit(os.getpid).result()
        return self._executor

    def interrupt(self) -> None:
        self._stopped = True
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGINT)

    def close(self) -> None:
        executor, self._executor, self._pid = self._executor, None, None
        if executor is not None:
            executor.shutdown(cancel_futures=True)


class Ray(Runner):
    """A Ray cluster; it needs the work folder and this package under the same paths everywhere."""

    def __init__(
        self, address: str | None, workers: int | None, threads: int, gpus_per_run: float
    ) -> None:
        try:
            ray: Any = import_module("ray")
        except ImportError as error:
            raise InputError(
                "runner: ray needs Ray: pip install 'mimic-reg[ray]'. Without it use runner: pool."
            ) from error
        self._ray = ray
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
        self._remote = ray.remote(num_cpus=threads, num_gpus=gpus_per_run, max_retries=0)(execute)
        self._running: set[Any] = set()
        self.workers = workers or self._fitting(threads, gpus_per_run)

    def _fitting(self, threads: int, gpus_per_run: float) -> int:
        """How many trials fit into the cluster at a time."""
        have = self._ray.cluster_resources()
        fits = [have.get("CPU", 0.0) / threads]
        if gpus_per_run:
            fits.append(have.get("GPU", 0.0) / gpus_per_run)
        if min(fits) < 1:
            raise InputError(
                f"A trial does not fit into the Ray cluster: it has {have.get('CPU', 0.0):g} CPUs "
                f"and {have.get('GPU', 0.0):g} GPUs, a trial takes {threads} and {gpus_per_run:g}."
            )
        return int(min(fits))

    def run(self, order: Order) -> Ended:
        """Run a trial where there is room."""
        started = time.perf_counter()
        reference = self._remote.remote(order.model_dump_json())
        self._running.add(reference)
        try:
            return Ended.model_validate_json(self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            return Ended(
                status="failed",
                seconds=time.perf_counter() - started,
                error=f"Ray lost it: {type(error).__name__}",
                again=True,
            )
        finally:
            self._running.discard(reference)

    def interrupt(self) -> None:
        """Send Ctrl-C to every running trial."""
        for reference in list(self._running):
            self._ray.cancel(reference, force=False)

    def close(self) -> None:
        """Leave the cluster; one that was started for this sweep ends."""
        self._ray.shutdown()


def open_runner(running: Running, num_trials: int) -> Runner:
    """The runner of the settings, for so many trials.

    Raises:
        InputError: Ray is asked for and is not there, or has no room.
    """
    if running.runner == "ray":
        return Ray(running.address, running.workers, running.threads, running.gpus_per_run)
    workers = running.workers or max(1, processors() // running.threads)
    if running.runner == "in_process" or num_trials == 0:
        return InProcess()
    return Pool(min(workers, num_trials), running.threads)


def describe(running: Running, runner: Runner) -> str:
    """How trials are run, in words."""
    where = {"in_process": "here", "pool": "in processes of their own", "ray": "on Ray"}
    at_a_time = max(1, runner.workers)
    threads = "1 thread" if running.threads == 1 else f"{running.threads} threads"
    return f"{at_a_time} at a time, {where[running.runner]}, with {threads} each"
