"""Checkpoints: a nested state in one safetensors file, written atomically, without pickle.

A state is a tree of dicts, lists, tuples, numbers, text, None and tensors. The tensors become the
file's tensors, named by their path. The rest of the tree is JSON in the file's header, with a hash
of everything that is compared when a state is loaded.

A fit keeps its last two checkpoints. If the last one is damaged, it continues from the one before.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mimic_reg.errors import InputError
from mimic_reg.store import atomic, disk_errors, reading

_STATE = "state"  # JSON of the tree as text, and the hash
_TREE = "tree"  # in files without a hash, from mimic-reg 0.1

Check = Callable[[dict[str, Any]], None]


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state`; a reader sees the old file or the new one, never a part of it."""
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_flatten(state, "", tensors))
    tensors = _own_memory(tensors)
    content = save(tensors, {_STATE: json.dumps({"tree": tree, "xxh3": _hash(tree, tensors)})})
    with disk_errors(path.parent):
        atomic.write_bytes(path, content)


def load_state(path: Path, part: str | None = None) -> dict[str, Any]:
    """Return the state in a file, or the part of that name, with its tensors on the CPU.

    Raises:
        InputError: the file is damaged, or not a checkpoint of this program.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as a checkpoint: {error}.") from error
    if _STATE not in metadata and _TREE not in metadata:
        raise InputError(f"{path} has tensors but no state: another program wrote it.")
    with reading(path, "a checkpoint"):
        if _STATE in metadata:
            kept = json.loads(metadata[_STATE])
            tree, expected = kept["tree"], kept["xxh3"]
            if _hash(tree, tensors) != expected:
                raise InputError(
                    f"{path} is damaged: its content does not fit its hash. Restore it from a "
                    "backup, or train again."
                )
        else:
            tree = metadata[_TREE]
        kind, items = json.loads(tree)
        if kind != "dict":
            raise TypeError(kind)
        if part is not None:
            items = [item for item in items if item[0] == part]
        state: dict[str, Any] = _restore([kind, items], tensors)
        return state if part is None else state[part]


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a fit's last checkpoint, and keep the one before beside it."""
    new = path.with_stem(f"{path.stem}.new")
    save_state(new, state)
    if path.exists():
        path.replace(previous(path))
    new.replace(path)


def load_checkpoint(path: Path, check: Check, note: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the state to continue from: the last checkpoint, or the one before, or None.

    check: raises `InputError` if a state does not fit the files beside it
    note:  receives a message if the last checkpoint cannot be used

    Raises:
        InputError: there are checkpoints, and none can be used.
    """
    problems = []
    for place in (path, previous(path)):
        if not place.exists():
            continue
        try:
            state = load_state(place)
            with reading(place, "a checkpoint of this model"):
                check(state)
        except InputError as error:
            problems.append(str(error))
            continue
        if problems:
            note(f"{problems[0]} Continuing from the checkpoint before, {place.name}.")
        return state
    if problems:
        raise InputError(
            f"{problems[0]} No checkpoint of {path.parent} can be used: remove the folder and run "
            "the same command again, which trains from the start."
        )
    return None


def previous(path: Path) -> Path:
    """Return the path of the checkpoint before the last one."""
    return path.with_stem(f"{path.stem}.previous")


def _hash(tree: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the XXH3 of a state's tree, and of its tensors' names, types, shapes and bytes."""
    digest = xxhash.xxh3_128(tree.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        if tensor.numel():  # torch cannot view an empty one as bytes
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _flatten(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Return the value as JSON; containers become [kind, …], so dicts may have integer keys."""
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
    """Return the tensors on the CPU, with separate memory, as the format requires."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        here = tensor.cpu().contiguous()
        address = here.untyped_storage().data_ptr()
        result[name] = here.clone() if address in seen else here
        seen.add(address)
    return result
