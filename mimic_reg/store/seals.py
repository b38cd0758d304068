"""Seals: a hash within a JSON or YAML record, so that a damaged one is never taken for sound.

A record's seal is the XXH3 of what it says, not of how it is spelt: white space does not count. A
record without a seal is one of another program, or of a version that wrote none; it is read as it
is. A single flipped bit cannot remove a seal and change the rest.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from mimic_reg.errors import InputError

SEAL = "xxh3"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its seal."""
    return {**content, SEAL: _hash(content)}


def unsealed(content: Any, path: Path) -> Any:
    """Return what a file holds without its seal, if it has one.

    Raises:
        InputError: the seal is not that of the content.
    """
    if not isinstance(content, dict) or SEAL not in content:
        return content
    rest = {name: value for name, value in content.items() if name != SEAL}
    if content[SEAL] != _hash(rest):
        raise InputError(
            f"{path} is damaged, or was changed by hand: its content is not what its hash says. "
            f"Bring it back from a backup, or remove {path.parent} and make it again."
        )
    return rest


def _hash(content: Mapping[str, Any]) -> str:
    read_back = json.loads(json.dumps(content))  # keys that are numbers become text
    text = json.dumps(read_back, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode())
