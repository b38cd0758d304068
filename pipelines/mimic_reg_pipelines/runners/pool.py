"""Trials in a pool of processes; the threads of the callers only wait."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from mimic_reg_pipelines.runners.base import Ended, Order, Runner
from mimic_reg_pipelines.runners.execute import GPU_SHARE, execute, remember_interruption
from mimic_reg_pipelines.runners.room import Measured, Room

_WATCH_SECONDS = 0.5


class Pool(Runner):
    """Processes with one worker and one trial at a time, on the GPUs in turn, or on the CPU.

    So a process that dies, as without memory, ends no other trial.

    share: of a GPU's memory that a process may take; None: all
    room:  admits trials by memory; None: as many at a time as there are workers
    """

    def __init__(
        self,
        workers: int,
        threads: int,
        gpus: Sequence[str] = (),
        *,
        share: float | None = None,
        room: Room | None = None,
    ) -> None:
        super().__init__()
        self.workers, self._share, self._room = workers, share, room
        of_slots = [gpus[slot % len(gpus)] if gpus else None for slot in range(workers)]
        self._children = [_Child(gpu, threads) for gpu in of_slots]
        self._idle = list(self._children)
        self._running: dict[_Child, Measured] = {}
        self._changed = threading.Condition()

    def _run(self, order: Order) -> Ended:
        """Run a trial in the next idle process that may have one."""
        with self._changed:
            while (child := self._next()) is None:
                self._changed.wait(_WATCH_SECONDS)
            self._idle.remove(child)
            self._running[child] = Measured(lambda: child.process, Path(order.folder), child.gpu)
            share = self._share if self._room is None else self._room.share(child.gpu)
        ended = None
        try:
            ended = child.run(order, share)
            return ended
        finally:
            with self._changed:
                self._idle.append(child)
                measured = self._running.pop(child)
                self._changed.notify_all()
                if self._room is not None and ended and ended.status not in ("busy", "skipped"):
                    self._room.ended(measured, out_of_memory=ended.out_of_memory)

    def _next(self) -> "_Child | None":
        """Return an idle process, or a new one, on a device that has room."""
        for child in sorted(self._idle, key=lambda child: child.process is None):
            if self._room is None or self._room.admits(child.gpu, self._running.values()):
                return child
        return None

    def interrupt(self) -> None:
        """Send Ctrl-C to every process."""
        super().interrupt()
        for child in self._children:
            child.interrupt()

    def close(self) -> None:
        """End the processes."""
        for child in self._children:
            child.close()


class _Child:
    """A process on a GPU, or on the CPU."""

    def __init__(self, gpu: str | None, threads: int) -> None:
        self.gpu, self.threads = gpu, threads
        self._executor: ProcessPoolExecutor | None = None
        self.process: int | None = None
        self._stopped = False

    def run(self, order: Order, share: float | None = None) -> Ended:
        """Run a trial; start the process first if there is none."""
        started = time.perf_counter()
        device = order.device if self.gpu is None else "cuda"  # it sees only its own
        text = order.model_copy(update={"device": device}).model_dump_json()
        try:
            executor = None if self._stopped else self._start(share)
            if executor is None or self._stopped:  # before there was a process to tell
                return Ended(status="interrupted")
            return Ended.model_validate_json(executor.submit(execute, text).result())
        except BrokenProcessPool:
            self.close()
            return Ended(
                status="failed",
                seconds=time.perf_counter() - started,
                error="Its process ended unexpectedly: it was killed, or ran out of memory.",
                again=True,
                out_of_memory=True,
            )

    def _start(self, share: float | None) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                max_workers=1,
                mp_context=get_context("spawn"),
                initializer=_start_child,
                initargs=(os.getpid(), self.threads, self.gpu, share),
            )
            # a Ctrl-C in the terminal waits until `_start_child` has a handler for it
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                started = self._executor.submit(os.getpid)  # this thread starts the process
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self.process = started.result()
        return self._executor

    def interrupt(self) -> None:
        self._stopped = True
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGINT)

    def close(self) -> None:
        executor, self._executor, self.process = self._executor, None, None
        if executor is not None:
            executor.shutdown(cancel_futures=True)


def _start_child(parent: int, threads: int, gpu: str | None, share: float | None) -> None:
    """Prepare a new process: before torch is imported, away from the terminal's Ctrl-C."""
    os.setsid()
    os.environ["OMP_NUM_THREADS"] = os.environ["POLARS_MAX_THREADS"] = str(threads)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        os.environ[GPU_SHARE] = str(share or 1)
    signal.signal(signal.SIGINT, remember_interruption)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End with the parent, even if it was killed: nobody waits for the result."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)
