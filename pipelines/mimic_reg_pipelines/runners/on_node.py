"""What runs on a machine of a Ray cluster: functions that take and return text.

This module imports no torch, so that a new process can set its number of threads before.
"""

import json
import os
import platform
import signal
from importlib import metadata
from pathlib import Path

from mimic_reg import __version__
from mimic_reg.errors import MimicRegError
from mimic_reg_pipelines.runners import execute as running
from mimic_reg_pipelines.runners.base import Ended, Order


def look(order: str, token: str) -> str:
    """Return what the sweep must know of this machine before it trains, as JSON.

    token: a new file in the folder of the runs

    problem:  why this machine cannot run the trial; absent if it can
    versions: of the programs that decide a result
    cpu:      the instruction set that torch uses
    """
    given = _prepared(order)
    problem = _unshared(token) or _unusable(given)
    if problem:
        return json.dumps({"problem": problem})
    import torch

    cpu = torch.backends.cpu.get_cpu_capability()
    return json.dumps({"versions": versions(), "cpu": cpu})


def _prepared(order: str) -> Order:
    """Return an order; set its number of threads, which libraries read when they are loaded."""
    given = Order.model_validate_json(order)
    os.environ["OMP_NUM_THREADS"] = os.environ["POLARS_MAX_THREADS"] = str(given.threads)
    return given


def versions() -> dict[str, str]:
    """Return the versions of the programs that decide a result's last digits."""
    found = {"mimic-reg": __version__, "Python": platform.python_version()}
    return found | {name: metadata.version(name) for name in ("torch", "numpy", "polars")}


def _unshared(token: str) -> str | None:
    """Return a sentence if this machine does not have the folder of the runs."""
    if not token or Path(token).is_file():
        return None
    return (
        f"it does not have the folder {Path(token).parent} of the machine that started the sweep. "
        "Mount the work folder under the same path on every machine."
    )


def _unusable(order: Order) -> str | None:
    """Return a sentence if the store or the folder of the runs cannot be used here."""
    try:
        running.check_order(running.with_store(order))
    except (MimicRegError, OSError) as error:
        return str(error)
    runs = Path(order.folder).parent
    if not os.access(runs, os.W_OK | os.X_OK):
        return f"its user may not write to {runs}. Give the workers the user of the sweep."
    return None


def execute(order: str, token: str) -> str:
    """Run an `Order` and return an `Ended`, both as JSON; a cancelled one writes a checkpoint.

    token: as for `look`: a machine may have joined the cluster after the others were asked
    """
    problem = _unshared(token)
    if problem:
        error = f"{platform.node()}: {problem}"
        return Ended(status="failed", error=error, again=True).model_dump_json()
    _prepared(order)
    before = signal.signal(signal.SIGINT, running.remember_interruption)
    try:
        return running.execute(order)
    finally:
        signal.signal(signal.SIGINT, before)
