"""Seals: a hash within a JSON or YAML record that detects damage.

The seal is the XXH3 of the record's content; white space does not count. A record without a seal
comes from another program or from an early version, and is read unchecked. A single flipped bit
cannot both remove the seal and change the content.
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
    """Return the content of a file without its seal, if it has one.

    Raises:
        InputError: the seal does not match the content.
    """
    if not isinstance(content, dict) or SEAL not in content:
        return content
    rest = {name: value for name, value in content.items() if name != SEAL}
    if content[SEAL] != _hash(rest):
        raise InputError(
            f"{path} is damaged or was edited: its content does not match its hash. "
            f"Restore it from a backup, or remove {path.parent} and create it again."
        )
    return rest


def _hash(content: Mapping[str, Any]) -> str:
    read_back = json.loads(json.dumps(content))  # JSON turns keys that are numbers into text
    text = json.dumps(read_back, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode())
