"""The description of a run: settings, data, threads and environment; and whether it can go on.

`trial.json` of a run, or `fit.json` of a fit of several tasks, is written before the first step.
"""

import os
import platform
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mimic_reg import __version__
from mimic_reg.errors import InputError
from mimic_reg.progress import Progress
from mimic_reg.runs import FIT, HISTORY, TRIAL, read_trial
from mimic_reg.settings import Trial
from mimic_reg.settings.files import name_of_method
from mimic_reg.store import Store, atomic, file_hash, write_json
from mimic_reg.store.remote import find_recorded, recorded
from mimic_reg.threads import DEFAULT_THREADS
from mimic_reg.urls import as_url
from mimic_reg.vision import torchvision_version


def describe(
    out: Path,
    trial: Trial,
    trial_id: str,
    store: Store,
    device: torch.device,
    threads: int | None,
    progress: Progress,
    name: str = TRIAL,
) -> int:
    """Write `trial.json`, or check that an existing one has the same trial; return the threads.

    An existing `trial.json` without other files is replaced: its trial was refused before it began.

    threads: the number that the user asked for, if any
    """
    path = out / name
    settings = trial.model_dump(mode="json")
    made = {path.name for path in out.iterdir() if not _is_before_begin(path)}
    if made > {name}:
        there = read_trial(out, name)
        if there["id"] != trial_id:
            raise InputError(
                f"{out} holds another trial: {_difference(there, settings, store)}. "
                "Choose another --out, or use the same settings to go on with it."
            )
        return _go_on(there, _environment(device), threads, progress)
    if made - {name}:
        other = (FIT if name == TRIAL else TRIAL) in made
        what = "has a run of another kind" if other else "is not empty and has no run"
        raise InputError(f"{out} {what}. Choose another --out.")
    number = threads or DEFAULT_THREADS
    write_json(
        path,
        {
            "id": trial_id,
            "trial": settings,
            "store": {
                "path": recorded(store.folder),
                "fingerprint": store.manifest["fingerprint"],
            },
            "cohort": store.spec.only(trial.tasks).model_dump(mode="json"),
            "weights": _weights_hash(trial),
            "threads": number,
            **_environment(device),
        },
    )
    return number


def _environment(device: torch.device) -> dict[str, Any]:
    """Return what the last digits of a result depend on, besides settings, data and threads.

    cpu: the instruction set that torch uses, such as AVX512
    """
    return {
        "device": str(device),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "versions": {
            "mimic_reg": __version__,
            "code": code_version(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "cuda": torch.version.cuda,
            "torchvision": torchvision_version(),
        },
    }


def _go_on(
    there: Mapping[str, Any], here: Mapping[str, Any], threads: int | None, progress: Progress
) -> int:
    """Return the number of threads that a run began with, and note what has changed since."""
    begun = there.get("threads")
    if begun is None:
        number = threads or DEFAULT_THREADS
        progress.note(f"The number of threads of this run is not recorded; now {number}.")
    else:
        number = int(begun)
        if threads is not None and threads != number:
            progress.note(f"Begun with {count_threads(number)}: it goes on so, not with {threads}.")
    then, now = _flat(there), _flat(here)
    for name in ("device", "cpu", "versions.torch"):
        if name in then and then[name] != now[name]:
            progress.note(
                f"Begun with {name.rpartition('.')[2]} {then[name]}, goes on with {now[name]}: the "
                "result will not be bit for bit that of a run without a stop."
            )
    return number


def count_threads(number: int) -> str:
    """Return a number of threads, in words."""
    return "1 thread" if number == 1 else f"{number} threads"


def _is_before_begin(path: Path) -> bool:
    """Return whether a file is left from a fit that was refused before it began."""
    if path.is_dir():  # of a task, in a fit of several tasks
        return all(p.name == TRIAL or _is_before_begin(p) for p in path.iterdir())
    empty = path.name == HISTORY and not path.stat().st_size
    return empty or path.name == ".lock" or path.suffix == atomic.TEMPORARY


def _difference(there: dict[str, Any], settings: dict[str, Any], store: Store) -> str:
    """Return the first setting in which two trials differ, as text."""
    if there["store"]["fingerprint"] != store.manifest["fingerprint"]:
        return "it was trained on another store"
    for what, named in _HEADS.items():
        a, b = named(there["trial"]), named(settings)
        if a != b:
            return f"its {what} is {a}, not {b}"
    old, new = _flat(there["trial"]), _flat(settings)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name, _ABSENT) != new.get(name, _ABSENT):
            return f"its {name} is {old.get(name, _ABSENT)!r}, not {new.get(name, _ABSENT)!r}"
    raise AssertionError("equal trials have equal ids")


_ABSENT = "absent"
# settings to name first if trials differ in many; fits of several tasks do not have them
_HEADS: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "task": lambda trial: trial.get("task"),
    "model": lambda trial: next(iter(trial.get("model", {})), None),
    "method": lambda trial: name_of_method(trial.get("regularisers", ())),
}


def _flat(settings: Any, path: str = "") -> dict[str, Any]:
    """Return nested settings by dotted names."""
    items = dict(enumerate(settings)) if isinstance(settings, list) else settings
    if not isinstance(items, dict) or not items:
        return {path: settings}
    flat: dict[str, Any] = {}
    for key, value in items.items():
        flat |= _flat(value, f"{path}.{key}" if path else str(key))
    return flat


def code_version() -> str | None:
    """Return the git commit of this code, with "+changes" if files differ from it.

    Without git it is MIMIC_REG_REVISION, which container images set, or None.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return os.environ.get("MIMIC_REG_REVISION") or None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")


def open_store(run: Path, described: Mapping[str, Any], store: Path | None) -> Store:
    """Return the store that a run was trained on, divided as in its fold.

    described: its `trial.json`
    store:     the new place of the store, if it was moved

    Raises:
        InputError: this is another store; it was at a URL, and this machine has no copy.
    """
    place, fingerprint = described["store"]["path"], described["store"]["fingerprint"]
    folder = store or find_recorded(place, fingerprint)
    if store is None and as_url(folder):
        raise InputError(
            f"{run} was trained on the store at {place}, and this machine has no copy of it. "
            f"Make one with `mimic-reg verify {shlex.quote(place)}`, or name the store's folder "
            "with --store. If the store there was replaced, the one of the run is needed."
        )
    opened = Store.open(folder)
    if opened.manifest["fingerprint"] != fingerprint:
        raise InputError(
            f"{opened.folder} is not the store that {run} was trained on: their fingerprints "
            "differ. Give the right one with --store."
        )
    return opened.in_fold(described["trial"].get("fold"))


def _weights_hash(trial: Trial) -> str | None:
    """Return the hash of the file of initial weights, if the model has one."""
    weights = trial.model.options.get("weights")
    if weights in (None, "imagenet", "none") or not Path(weights).is_file():
        return None
    return file_hash(Path(weights))


def check_weights(out: Path, trial: Trial, name: str = TRIAL) -> None:
    """Refuse to go on with a fit whose file of initial weights has changed.

    Raises:
        InputError: the file has changed.
    """
    began = read_trial(out, name).get("weights") if (out / name).is_file() else None
    found = _weights_hash(trial)
    if began is not None and found is not None and began != found:
        raise InputError(
            f"The weights {trial.model.options['weights']} have changed since {out} was begun with "
            "them. Choose another --out, or restore the file."
        )
