"""The run folder: names of its files, the mark of a finished run, and readers that check.

`done.json` is written last. It has the trial's id and a hash of every file of the result. Readers
of a finished run compare these hashes first, so a changed file is an error and never a result.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mimic_reg.errors import InputError
from mimic_reg.store import file_hash, known_hash, read_json, reading, write_json
from mimic_reg.store.atomic import refuse_links

TRIAL = "trial.json"
FIT = "fit.json"  # in the folder of a fit of several tasks, which has a run folder for each
HISTORY = "history.jsonl"
BEST = "best.safetensors"
CHECKPOINT = "checkpoint.safetensors"
SCORES = "scores.json"
DONE = "done.json"
PREDICTIONS = {split: f"predictions_{split}.parquet" for split in ("validation", "test")}
EXTERNAL = "external"  # a folder: scores on other cohorts, a file each
TRUNK, TRUNK_SETTINGS = "trunk.safetensors", "trunk.yaml"

SCORED = (SCORES, *PREDICTIONS.values())  # `evaluate` makes these from the best model
_FINAL = (TRIAL, FIT, HISTORY, BEST, TRUNK, TRUNK_SETTINGS, *SCORED)


def finish(folder: Path, trial_id: str) -> None:
    """Mark a run, or a fit of several tasks, as finished."""
    there = [name for name in _FINAL if (folder / name).is_file()]
    files = {name: file_hash(folder / name) for name in there}
    write_json(folder / DONE, {"trial": trial_id, "files": files})


def is_done(folder: Path, trial_id: str) -> bool:
    """Return whether this trial is marked as finished in a folder.

    Raises:
        InputError: the mark is damaged.
    """
    return (folder / DONE).is_file() and _read_done(folder)["trial"] == trial_id


def check_finished(folder: Path, *, but: Collection[str] = ()) -> None:
    """Compare the files of a finished run with the hashes in its mark; skip unfinished runs.

    Missing files are errors only for readers that need them. Runs of a version without hashes are
    not compared.

    but: files to skip

    Raises:
        InputError: a file has changed or is a symbolic link.
    """
    if not (folder / DONE).is_file():
        return
    refuse_links(folder)
    for name, expected in _read_done(folder)["files"].items():
        path = folder / name
        if name in but or not path.is_file() or known_hash(path) == expected:
            continue
        again = (
            f"`mimic-reg evaluate {folder} --overwrite` makes it again from {BEST}."
            if name in SCORED
            else f"Bring it back from a backup, or remove {folder} and run the same command again."
        )
        raise InputError(
            f"{path} is damaged, or was changed after the run was finished: its hash differs from "
            f"that in {DONE}. {again}"
        )


def _read_done(folder: Path) -> dict[str, Any]:
    path = folder / DONE
    advice = "Remove it and train with the same command again, which finishes the run again."
    try:
        done: dict[str, Any] = read_json(path)
    except InputError as error:
        raise InputError(f"{path} is damaged. {advice}") from error
    files = done.get("files", {}) if isinstance(done, dict) else None
    if not isinstance(files, dict) or not isinstance(done.get("trial"), str):
        raise InputError(f"{path} is not the mark of a finished run. {advice}")
    if unknown := files.keys() - set(_FINAL):
        raise InputError(f"{path} names {min(unknown)!r}, which is not a file of a run. {advice}")
    return {**done, "files": files}


def read_trial(folder: Path, name: str = TRIAL) -> dict[str, Any]:
    """Return the description of a trial: id, trial, store, weights, device, versions.

    Raises:
        InputError: it is missing or damaged.
    """
    path = folder / name
    if not path.is_file():
        raise InputError(
            f"{folder} holds no {name}, so it is not a run folder. Name a folder that "
            "`mimic-reg train` made; `mimic-reg runs FOLDER` lists those in a folder."
            if folder.is_dir()
            else f"There is no folder {folder}. Train a run with `mimic-reg train`."
        )
    refuse_links(folder)
    content: dict[str, Any] = read_json(path)
    if isinstance(content, dict) and "cohort" not in content:
        raise InputError(
            f"{path} was written by an earlier version of mimic-reg, which did not record the "
            "cohort. Remove the folder and train again with the same command."
        )
    with reading(path, "a trial's description"):
        texts = (content["id"], content["store"]["fingerprint"], content["store"]["path"])
        tables = (content["trial"], content["versions"])
        if not all(isinstance(t, str) for t in (*texts, content["device"])):
            raise TypeError(name)
        if not all(isinstance(t, dict) for t in tables):
            raise TypeError(name)
    return content


def read_scored(folder: Path) -> dict[str, Any]:
    """Return the content of `scores.json`: trial, best_epoch, selected_by, num_samples, scores.

    Raises:
        InputError: it is missing or damaged.
    """
    path = folder / SCORES
    if not path.is_file():
        again = f"`mimic-reg evaluate {folder} --overwrite` makes it."
        raise InputError(f"{folder} has no {SCORES}: {again}")
    content: dict[str, Any] = read_json(path)
    with reading(path, "a run's scores"):
        texts = (content["trial"], content["selected_by"])
        if not all(isinstance(t, str) for t in texts) or type(content["best_epoch"]) is not int:
            raise TypeError(SCORES)
        for scores in (*content["scores"].values(), content["num_samples"]):
            scores.items()
    return content


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a history; an empty list if there is no file.

    An incomplete last line, from a process that was killed, is left out.

    Raises:
        InputError: a line is not a row of a history.
    """
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not _is_row(row):
            raise InputError(
                f"Line {number} of {path} is not a row of a history: the file is damaged. Bring it "
                "back from a backup, or train again in an empty folder."
            )
        rows.append(row)
    return rows


_NUMBER = (int, float, str, type(None))  # text if not finite
_NEEDED: dict[str, dict[str, tuple[type, ...]]] = {
    "steps": {"epoch": (int,), "step": (int,), "recorded": (dict,)},
    "epoch": {"epoch": (int,), "loss": _NUMBER, "validation": (dict,), "recorded": (dict,)},
    "failed": {"epoch": (int,), "step": (int,), "loss": _NUMBER},
}


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("event"), str):
        return False
    needed = _NEEDED.get(row["event"], {})
    return all(isinstance(row.get(name, ...), kinds) for name, kinds in needed.items())
