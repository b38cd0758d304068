"""Trials in a pool of processes; the threads of the callers only wait."""

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from queue import SimpleQueue

from mimic_reg_pipelines.runners.base import Ended, Order, Runner
from mimic_reg_pipelines.runners.execute import execute, remember_interruption

_WATCH_SECONDS = 0.5


class Pool(Runner):
    """Processes with one worker and one trial at a time.

    So a process that dies, as without memory, ends no other trial.
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
                error="Its process ended unexpectedly: it was killed, or ran out of memory.",
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


def _start_child(parent: int, threads: int) -> None:
    """Prepare a new process: before torch is imported, away from the terminal's Ctrl-C."""
    os.setsid()
    os.environ["OMP_NUM_THREADS"] = os.environ["POLARS_MAX_THREADS"] = str(threads)
    signal.signal(signal.SIGINT, remember_interruption)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End with the parent, even if it was killed: nobody waits for the result."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)
