"""The history of a fit: one JSON object a line, in the order it happened.

`history.jsonl` holds numbers and names of tensors, never a subject, admission or stay. Any tracker
can read it; `cost` holds what differs between two runs of the same trial (time, memory).
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

__all__ = ["Recorder", "Value", "read_history"]

Value = float | Tensor


class Recorder:
    """Appends rows to a history and holds what methods record until the next row.

    Values stay tensors until a row is written, so that recording never waits for the device.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pending: dict[str, Any] = {}
        self._file: FileIO | None = None
        self._digest = xxhash.xxh3_128()

    def check(self, state: dict[str, Any]) -> None:
        """Compare the history that is there with a checkpoint's `state`.

        Raises:
            InputError: it is shorter, or holds other rows.
        """
        self._read(state)

    def _read(self, state: dict[str, Any]) -> xxhash.xxh3_128:
        """The digest of the history up to the checkpoint."""
        position = state["position"]
        content = b""
        if self.path.is_file():
            with self.path.open("rb") as file:
                content = file.read(position)
        if len(content) < position:
            raise InputError(
                f"{self.path} lost rows since the checkpoint beside it was written. "
                "Start the run again in an empty folder."
            )
        digest = xxhash.xxh3_128(content)
        if digest.hexdigest() != state.get("xxh3", digest.hexdigest()):
            raise InputError(
                f"{self.path} is damaged: its rows are not those that the checkpoint beside it "
                "knows. Start the run again in an empty folder."
            )
        return digest

    def open(self, state: dict[str, Any] | None = None) -> None:
        """Begin an empty history, or cut the one that is there back to a checkpoint's `state`.

        Raises:
            InputError: the history is shorter than it was at the checkpoint, or holds other rows.
        """
        state = state or {"position": 0, "pending": {}}
        self._digest = self._read(state)
        file = atomic.append(self.path)
        file.truncate(state["position"])
        self.pending = dict(state["pending"])
        self._file = file

    def record(self, name: str, value: Value) -> None:
        """Remember a value for the next row; the last value of a name counts."""
        self.pending[name] = value.detach().clone() if isinstance(value, Tensor) else value

    def write(self, event: str, **content: Any) -> None:
        """Append a row with `content` and everything recorded since the last one."""
        assert self._file is not None
        recorded = {name: _plain(value) for name, value in self.pending.items()}
        self.pending.clear()
        row = {"event": event, **_plain(content), "recorded": recorded}
        line = json.dumps(row).encode() + b"\n"
        written = self._file.write(line)
        if written < len(line):  # the disk is full in the middle of a row: the next try says so
            self._file.write(line[written:])
        self._digest.update(line)

    def state_dict(self) -> dict[str, Any]:
        """Where the history ends, once it is safely on the disk, its hash, and what is pending."""
        assert self._file is not None
        os.fsync(self._file.fileno())
        return {
            "position": os.fstat(self._file.fileno()).st_size,
            "xxh3": self._digest.hexdigest(),
            "pending": dict(self.pending),
        }

    def close(self) -> None:
        """Close the file, once its rows are safely on the disk."""
        if self._file is not None:
            with self._file as file:
                file.flush()
                os.fsync(file.fileno())
            self._file = None
            atomic.sync_folder(self.path.parent)


def _plain(value: Any) -> Any:
    """The value as JSON: tensors as numbers or lists, what is not a number as text."""
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
