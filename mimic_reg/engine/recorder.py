"""The history of a fit: one JSON object in each line, in order of time.

`history.jsonl` has numbers and names of tensors, never a subject, admission or stay. `cost` has the
values that differ between two runs of the same trial (time, memory).
"""

import json
import math
import os
from io import FileIO
from pathlib import Path
from typing import Any

import xxhash
from torch import Tensor

from mimic_reg.errors import InputError
from mimic_reg.runs import read_history
from mimic_reg.store import atomic

__all__ = ["Recorder", "read_history"]


class Recorder:
    """Append rows to a history; keep what methods record until the next row.

    Values stay tensors until a row is written, so that recording never waits for the device.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pending: dict[str, Any] = {}
        self._file: FileIO | None = None
        self._digest = xxhash.xxh3_128()

    def check(self, state: dict[str, Any]) -> xxhash.xxh3_128:
        """Return the digest of the history up to a checkpoint's `state`.

        Raises:
            InputError: the history is shorter than at the checkpoint, or has other rows.
        """
        position = state["position"]
        content = b""
        if self.path.is_file():
            with self.path.open("rb") as file:
                content = file.read(position)
        if len(content) < position:
            raise InputError(
                f"{self.path} has fewer rows than when the checkpoint beside it was written. "
                "Start the run again in an empty folder."
            )
        digest = xxhash.xxh3_128(content)
        if digest.hexdigest() != state.get("xxh3", digest.hexdigest()):
            raise InputError(
                f"{self.path} is damaged: its rows differ from those of the checkpoint beside it. "
                "Start the run again in an empty folder."
            )
        return digest

    def open(self, state: dict[str, Any] | None = None) -> None:
        """Begin an empty history, or cut the existing one back to a checkpoint's `state`.

        Raises:
            InputError: see `check`.
        """
        state = state or {"position": 0, "pending": {}}
        self._digest = self.check(state)
        file = atomic.append(self.path)
        file.truncate(state["position"])
        self.pending = dict(state["pending"])
        self._file = file

    def record(self, name: str, value: float | Tensor) -> None:
        """Keep a value for the next row; the last value of a name counts."""
        self.pending[name] = value.detach().clone() if isinstance(value, Tensor) else value

    def write(self, event: str, **content: Any) -> None:
        """Append a row with `content` and everything recorded since the last one."""
        assert self._file is not None
        recorded = {name: _plain(value) for name, value in self.pending.items()}
        self.pending.clear()
        row = {"event": event, **_plain(content), "recorded": recorded}
        line = json.dumps(row).encode() + b"\n"
        written = self._file.write(line)
        if written < len(line):  # the disk is full: the next try raises the error
            self._file.write(line[written:])
        self._digest.update(line)

    def state_dict(self) -> dict[str, Any]:
        """Sync the history to disk; return its end, its hash, and pending values."""
        assert self._file is not None
        os.fsync(self._file.fileno())
        return {
            "position": os.fstat(self._file.fileno()).st_size,
            "xxh3": self._digest.hexdigest(),
            "pending": dict(self.pending),
        }

    def close(self) -> None:
        """Sync the rows to disk and close the file."""
        if self._file is not None:
            with self._file as file:
                file.flush()
                os.fsync(file.fileno())
            self._file = None
            atomic.sync_folder(self.path.parent)


def _plain(value: Any) -> Any:
    """Return the value as JSON: tensors as numbers or lists, NaN and infinity as text."""
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
