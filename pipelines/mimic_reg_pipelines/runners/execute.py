"""Running a trial: the one function that every runner calls, in any process.

Results are in the trial's run folder. This module imports no torch, so that a new process can set
its number of threads before.
"""

import os
import threading
import time
import traceback
from _thread import interrupt_main
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from mimic_reg.errors import BusyError, MimicRegError
from mimic_reg.progress import Progress
from mimic_reg_pipelines.runners.base import Ended, Order

GPU_SHARE = "MIMIC_REG_GPU_SHARE"  # variable of a process: its share of its GPU's memory

_interrupted = threading.Event()


def execute(order: str) -> str:
    """Run an `Order` and return an `Ended`, both as JSON."""
    return _execute(Order.model_validate_json(order)).model_dump_json()


def _execute(order: Order) -> Ended:
    started = time.perf_counter()
    try:
        if _interrupted.is_set():
            return Ended(status="interrupted")
        order = with_store(order)
        check_order(order)
        status, note = _train(order)
        return Ended(status=status, seconds=time.perf_counter() - started, note=note)
    except BusyError:
        return Ended(status="busy", error=f"Another run is writing to {order.folder}.")
    except (MimicRegError, OSError) as error:
        seconds = time.perf_counter() - started
        again = isinstance(error, OSError)
        return Ended(status="failed", seconds=seconds, error=_sentence(error), again=again)
    except Exception as error:  # noqa: BLE001  # whatever it is, it must not end the others
        seconds = time.perf_counter() - started
        short = _lacks_memory(error)
        text = _sentence(error) + _place(error)
        return Ended(status="failed", seconds=seconds, error=text, again=short, out_of_memory=short)


def with_store(order: Order) -> Order:
    """Return an order with the store of this machine: a copy is made if it has none yet.

    Raises:
        InputError, MimicRegError: see `locate`.
    """
    from mimic_reg.store import origin
    from mimic_reg.store.remote import locate

    if order.url is None or origin(Path(order.store)) == order.url:
        return order
    return order.model_copy(update={"store": str(locate(order.url))})


def check_order(order: Order) -> None:
    """Refuse an order whose store, or the code that decides its result, is another one here.

    Raises:
        MimicRegError: see above; the store cannot be read.
    """
    from mimic_reg.experiments.identity import code_of
    from mimic_reg.learners.trials import resolve
    from mimic_reg.multitask.trials import resolve_multi
    from mimic_reg.store import Store

    if Store.open(Path(order.store)).manifest["fingerprint"] != order.data:
        raise MimicRegError(
            f"The store {order.store} was replaced after the sweep began. Start the sweep "
            "again to train on the new data."
        )
    several = "trials" in order.trial
    trial = resolve_multi(order.trial) if several else resolve(order.trial)
    if order.code is not None and code_of(trial) != order.code:
        raise MimicRegError(
            "The code of mimic-reg that decides this result is not that of the sweep: it was "
            "changed after the sweep began, or this machine has another. Start the sweep again, "
            "with the same code on every machine."
        )


def _train(order: Order) -> tuple[Literal["finished", "interrupted", "skipped"], str]:
    """Train one task, or several together; return the status and what differs from the order."""
    from mimic_reg import fitting
    from mimic_reg.learners.trials import resolve
    from mimic_reg.learners.trunk import load_trunk
    from mimic_reg.multitask import fit as multitask
    from mimic_reg.multitask.trials import resolve_multi
    from mimic_reg.samples.shared import sharing

    store, folder = Path(order.store), Path(order.folder)
    _limit_gpu_memory()
    outcome: fitting.Outcome
    how: dict[str, Any] = {"device": order.device, "threads": order.threads}
    how["progress"] = _Interruptible()
    notes: list[str] = []
    with sharing(Path(order.work) if order.work else None, notes.append):
        if "trials" in order.trial:
            outcome = multitask.train(resolve_multi(order.trial), store, folder, **how)
        else:
            trunk = load_trunk(Path(order.trunk)) if order.trunk else None
            outcome = fitting.train(resolve(order.trial), store, folder, trunk=trunk, **how)
    if outcome.threads not in (None, order.threads):
        notes.append(f"number of threads as it was begun: {outcome.threads}")
    return outcome.status, "; ".join(notes)


def _limit_gpu_memory() -> None:
    """Keep this process to its share of its GPU's memory."""
    share = float(os.environ.get(GPU_SHARE, "1"))
    if share < 1:
        import torch

        torch.cuda.set_per_process_memory_fraction(share)


def _lacks_memory(error: Exception) -> bool:
    """Return whether memory was missing; give back what this process keeps of a GPU's."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        torch.cuda.empty_cache()
        return True
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, MimicRegError) else f"{type(error).__name__}: {error}"


def _place(error: Exception) -> str:
    """Return where an error in our code arose: file and line, no values."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f" ({os.path.basename(frame.filename)}, line {frame.lineno})"


class _Interruptible(Progress):
    """Passes on a Ctrl-C that came while the data were loaded."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Begin training: from here on `fitting.train` handles Ctrl-C."""
        if _interrupted.is_set():
            interrupt_main()  # Ray blocks the signal itself in its processes


def remember_interruption(number: int, frame: FrameType | None) -> None:
    """Note a Ctrl-C: a handler of signals."""
    _interrupted.set()
