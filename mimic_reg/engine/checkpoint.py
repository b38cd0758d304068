"""Checkpoints: nested state in one safetensors file, written atomically, without pickle.

A state is a tree of dicts, lists, tuples, numbers, text, None and tensors. The tensors become the
file's tensors, named by their path; the rest of the tree is JSON in the file's header.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mimic_reg import atomic
from mimic_reg.errors import InputError
from mimic_reg.storage import disk_errors, reading

_TREE = "tree"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state`; a reader sees the old file or the new one, never a part."""
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_flatten(state, "", tensors))
    content = save(_own_memory(tensors), {_TREE: tree})
    with disk_errors(path.parent):
        atomic.write_bytes(path, content)


def load_state(path: Path, part: str | None = None) -> dict[str, Any]:
    """The state in a file, or only the part of that name; its tensors are on the CPU.

    Raises:
        InputError: the file is not a checkpoint of this program.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tree = (file.metadata() or {}).get(_TREE)
            names = [n for n in file.keys() if part is None or n.startswith(f"{part}/")]  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as a checkpoint: {error}.") from error
    if tree is None:
        raise InputError(f"{path} holds tensors but no state: another program wrote it.")
    with reading(path, "a checkpoint"):
        kind, items = json.loads(tree)
        if kind != "dict":
            raise TypeError(kind)
        if part is not None:
            items = [item for item in items if item[0] == part]
        state: dict[str, Any] = _restore([kind, items], tensors)
        return state if part is None else state[part]


def _flatten(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The value as JSON. Containers become [kind, …], so that a dict may have numbers as keys."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach()
        return ["tensor", path]
    if isinstance(value, dict):
        items = [
            [k, _flatten(v, f"{path}/{k}" if path else str(k), tensors)] for k, v in value.items()
        ]
        assert all(isinstance(key, str | int) for key, _ in items), f"{path}: keys {list(value)}"
        return ["dict", items]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_flatten(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]]
    assert value is None or isinstance(value, bool | int | float | str), (
        f"The state {path!r} is a {type(value).__name__}; it cannot be stored without pickle."
    )
    return value


def _restore(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _restore(v, tensors) for key, v in content}
    items = [_restore(v, tensors) for v in content]
    return items if kind == "list" else tuple(items)


def _own_memory(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each with memory of its own, as the format demands."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        here = tensor.cpu().contiguous()
        address = here.untyped_storage().data_ptr()
        result[name] = here.clone() if address in seen else here
        seen.add(address)
    return result
