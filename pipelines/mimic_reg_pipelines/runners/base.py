"""What every runner takes and returns: a trial and its end, as JSON."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from pydantic import JsonValue

from mimic_reg_pipelines.runners.settings import Parameters

_BUSY_SECONDS = 2.0  # until a trial that another process runs is looked at again


class Order(Parameters):
    """A trial to run: its settings, the store, its run folder; paths are absolute.

    url:   of which `store` is a copy; another machine makes its own
    data:  the store's fingerprint when the sweep began
    code:  the hash of the code that decides the result, when the sweep began
    trunk: the folder of the trunk that the trial starts from, if it does
    work:  the work folder, in which processes share data if they cannot beside the store
    """

    trial: dict[str, JsonValue]
    store: str
    url: str | None = None
    data: str
    folder: str
    code: str | None = None
    threads: int
    trunk: str | None = None
    device: str | None = None
    work: str | None = None


class Ended(Parameters):
    """How a trial ended.

    status: "busy": another process, as of a second sweep, runs the trial; nothing was done
    error: why it failed: a sentence; for an error in our code also its place
    note:  what differs from the order, and what the user should know
    again: whether trying again may help, as when its process died
    out_of_memory: whether it may have lacked memory
    """

    status: Literal["finished", "skipped", "interrupted", "failed", "busy"]
    seconds: float = 0.0
    error: str | None = None
    note: str = ""
    again: bool = False
    out_of_memory: bool = False


class Runner(ABC):
    """Runs trials; a context manager.

    workers: trials that may run at a time; 0: one, in the thread of the caller
    tell:    called with what the user should know while a trial waits
    """

    workers: int = 0

    def __init__(self) -> None:
        self.tell: Callable[[str], None] = lambda text: None
        self._stopped = threading.Event()

    def check(self, order: Order) -> list[str]:
        """Refuse what would fail every trial, before any is run; return what to tell the user.

        order: of the first trial
        """
        return []

    def run(self, order: Order) -> Ended:
        """Run a trial and wait for its end; first for that of another process that runs it."""
        ended = self._run(order)
        if ended.status == "busy":
            self.tell(f"{ended.error} This sweep waits for it.")
        while ended.status == "busy":
            if self._stopped.wait(_BUSY_SECONDS):
                return Ended(status="interrupted")
            ended = self._run(order)
        return ended

    @abstractmethod
    def _run(self, order: Order) -> Ended:
        """Run a trial, unless another process does."""

    def interrupt(self) -> None:
        """Ask all running trials for a checkpoint and an end."""
        self._stopped.set()

    def close(self) -> None:  # noqa: B027
        """Release processes or the cluster."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
