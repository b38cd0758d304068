"""Ctrl-C: finish the running step and write a checkpoint; the same command continues later."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol


class Interruptible(Protocol):
    """An object that can be asked to stop."""

    interrupted: bool


@contextmanager
def stopping(trainer: Interruptible) -> Iterator[None]:
    """Turn the first Ctrl-C into a checkpoint and a clean end; a second one acts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.interrupted = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
