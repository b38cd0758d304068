"""How many trials run at a time on a device: as many as its memory has room for."""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mimic_reg.errors import InputError
from mimic_reg.runs import HISTORY, read_history
from mimic_reg_pipelines.runners.devices import free_memory, gpu_memory, own_memory

_USED = 0.8  # share of the free memory; the rest is for larger trials, and for other programs
_SHARED = 0.9  # share of a GPU's memory for tensors, where processes share it
_CONTEXT = 800 << 20  # bytes that a process needs on a GPU beside its tensors
_RESERVED = 1.2  # what the allocator reserves for a byte of tensors


def share_of(number: int) -> float:
    """Return the share of a GPU's memory for the tensors of each of so many processes."""
    return _SHARED / number


class Measured:
    """A trial that runs, and the memory that it took so far.

    process: () -> its number, or None if it has not begun
    gpu:     its GPU; None: the CPU
    """

    def __init__(self, process: Callable[[], int | None], folder: Path, gpu: str | None) -> None:
        self.process, self.folder, self.gpu = process, folder, gpu
        self.own, self._before = 0, len(self._peaks())

    def has_had_an_epoch(self) -> bool:
        """Look at its memory; return whether it has had a whole epoch."""
        self.own = max(self.own, own_memory(self.process() or 0))
        return len(self._peaks()) > self._before

    def on_gpu(self) -> int:
        """Return the bytes that it needs on its GPU."""
        return int(_RESERVED * max(self._peaks()[self._before :], default=0)) + _CONTEXT

    def _peaks(self) -> list[int]:
        """Return the peak of each epoch: on a GPU that of the tensors."""
        rows: list[dict[str, Any]] = []
        for path in self.folder.rglob(HISTORY):  # one for each task of a fit
            with suppress(OSError, InputError):
                rows += read_history(path)
        costs = [row.get("cost", {}) for row in rows if row["event"] == "epoch"]
        return [cost.get("peak_memory_bytes", 0) for cost in costs]


class Room:
    """Admits trials to devices: the first alone, until its first epoch has shown what it takes.

    Raises:
        MimicRegError: the memory of a GPU cannot be measured.
    """

    def __init__(self, gpus: Sequence[str], most: int) -> None:
        """`most`: trials at a time on each device, whatever its memory."""
        for gpu in gpus:
            gpu_memory(gpu)  # now, not in the middle of a sweep
        self._devices, self._most = gpus or (None,), most
        self._allowed: dict[str | None, int] = {}

    def admits(self, gpu: str | None, running: Collection[Measured]) -> bool:
        """Return whether one more trial may run on a device beside those that run."""
        here = [trial for trial in running if trial.gpu == gpu]
        for trial in here:
            if gpu not in self._allowed and trial.has_had_an_epoch():
                self._decide(trial)
        return len(here) < self._allowed.get(gpu, 1)

    def ended(self, trial: Measured, *, out_of_memory: bool) -> None:
        """Learn from a trial that ended; after too many at a time, admit one less."""
        if trial.gpu in self._allowed:
            self._allowed[trial.gpu] = max(1, self._allowed[trial.gpu] - out_of_memory)
        elif not out_of_memory:
            trial.has_had_an_epoch()
            self._decide(trial)

    def share(self, gpu: str | None) -> float | None:
        """Return the share of a GPU's memory for a new process; None: not known yet."""
        allowed = self._allowed.get(gpu)
        return None if gpu is None or allowed is None else share_of(allowed)

    def _decide(self, trial: Measured) -> None:
        more = free_memory() / len(self._devices) / max(1, trial.own)
        if trial.gpu is not None:
            more = min(more, gpu_memory(trial.gpu)[0] / trial.on_gpu())
        self._allowed[trial.gpu] = max(1, min(self._most, 1 + int(_USED * more)))
