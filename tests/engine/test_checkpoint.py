"""Checkpoints keep every kind of state bit for bit, atomically, without pickle."""

import json
import os

import pytest
import torch

from mimic_reg.engine.checkpoint import (
    load_checkpoint,
    load_state,
    previous,
    save_checkpoint,
    save_state,
)
from mimic_reg.errors import InputError


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return (
            type(a) is type(b)
            and len(a) == len(b)
            and all(same(x, y) for x, y in zip(a, b, strict=True))
        )
    return type(a) is type(b) and a == b


def test_a_tree_comes_back_as_it_was(tmp_path):
    shared = torch.arange(6.0)
    state = {
        "model": {"a.weight": shared.view(2, 3), "tied": shared, "slice": shared[1:3]},
        "optimizer": {"base": {"state": {0: {"step": torch.tensor(3.0)}, 1: {}}}, "own": None},
        "groups": [{"lr": 0.1 + 0.2, "betas": (0.9, 0.999), "fused": True, "params": [0, 1]}],
        "generator": torch.Generator().manual_seed(5).get_state(),
        "transposed": torch.arange(6).view(2, 3).T,
        "empty": torch.empty(0, 3),
        "bfloat16": torch.ones(2, dtype=torch.bfloat16),
        "bool": torch.tensor([True, False]),
        "infinite": float("inf"),
        "text": "ünïcode",
    }
    save_state(tmp_path / "c.safetensors", state)
    assert same(load_state(tmp_path / "c.safetensors"), state)
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_optimizer_state_comes_back(tmp_path):
    def build():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        return model, torch.optim.Adam(model.parameters(), fused=True)

    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    model, optimizer = build()
    step(model, optimizer)
    path = tmp_path / "c.safetensors"
    save_state(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    step(model, optimizer)
    other, resumed = build()
    state = load_state(path)
    other.load_state_dict(state["model"])
    resumed.load_state_dict(state["optimizer"])
    step(other, resumed)
    assert same(other.state_dict(), model.state_dict())
    assert same(resumed.state_dict(), optimizer.state_dict())


def test_what_needs_pickle_is_refused(tmp_path):
    with pytest.raises(AssertionError, match=r"'a/b' is a set"):
        save_state(tmp_path / "c", {"a": {"b": {1, 2}}})
    assert not list(tmp_path.iterdir())


def test_the_old_file_survives_a_failing_write(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    save_state(path, {"x": torch.ones(2)})

    def fail(descriptor):
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="input/output"):
        save_state(path, {"x": torch.zeros(2)})
    assert load_state(path)["x"].tolist() == [1, 1]


def test_other_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "a").write_text(json.dumps({}))
    save_file({"x": torch.ones(1)}, tmp_path / "b")
    for name, message in (("a", "cannot be read"), ("b", "another program"), ("c", "cannot be")):
        with pytest.raises(InputError, match=message):
            load_state(tmp_path / name)


def test_a_file_of_a_version_without_hashes_is_read(tmp_path):
    from safetensors.torch import save_file

    tree = json.dumps(["dict", [["x", ["tensor", "x"]], ["n", 3]]])
    save_file({"x": torch.ones(1)}, tmp_path / "old", {"tree": tree})
    assert same(load_state(tmp_path / "old"), {"x": torch.ones(1), "n": 3})


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    path, notes = tmp_path / "checkpoint.safetensors", []

    def load():
        return load_checkpoint(path, lambda state: None, notes.append)

    assert load() is None
    for step in (1, 2, 3):
        save_checkpoint(path, {"x": torch.zeros(50), "step": step})
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, previous(path).name])
    assert (load()["step"], notes) == (3, [])
    damaged = bytearray(path.read_bytes())
    damaged[-30] ^= 4  # in the tensor
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="is damaged: its content does not fit its hash"):
        load_state(path)
    assert load()["step"] == 2
    assert "is damaged" in notes[0]
    assert "Continuing from the checkpoint before" in notes[0]
    path.unlink()  # killed between the two renames
    assert load()["step"] == 2
    previous(path).write_bytes(damaged)
    with pytest.raises(InputError, match="remove the folder and run the same command again"):
        load()


def test_a_checkpoint_that_does_not_fit_its_history_falls_back(tmp_path):
    path, notes = tmp_path / "checkpoint.safetensors", []
    for step in (1, 2):
        save_checkpoint(path, {"step": step})

    def check(state):
        if state["step"] == 2:
            raise InputError("The history lost rows.")

    assert load_checkpoint(path, check, notes.append)["step"] == 1
    assert notes[0].startswith("The history lost rows.")
