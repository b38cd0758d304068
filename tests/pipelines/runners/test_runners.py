"""Runners for themselves; `test_sweep.py` compares what they come to."""

import contextlib
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import torch

from mimic_reg import experiments
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.runs import HISTORY
from mimic_reg.store import Store, locked
from mimic_reg_pipelines import options
from mimic_reg_pipelines.flows.sweep import SweepParameters
from mimic_reg_pipelines.runners import InProcess, Order, Pool, base, devices, open_runner, room
from mimic_reg_pipelines.runners import pool as pools
from mimic_reg_pipelines.runners.devices import find_gpus
from mimic_reg_pipelines.runners.settings import Running
from tests.pipelines.flows.experiments import experiment


def test_without_ray_the_runner_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install .*\[ray\]"):
        open_runner(Running(runner="ray"), 2)


@pytest.fixture
def order(store, tmp_path):
    (planned,) = experiments.plan(experiment(methods=["none"], seeds=[0]))
    return Order(
        trial=planned.trial.model_dump(mode="json"),
        store=str(store),
        data=Store.open(store).manifest["fingerprint"],
        folder=str(tmp_path / "run"),
        threads=1,
    )


def test_a_trial_that_another_process_runs_is_waited_for(order, monkeypatch):
    monkeypatch.setattr(base, "_BUSY_SECONDS", 0)
    for stop, status in ((True, "interrupted"), (False, "finished")):
        runner, told = InProcess(), []
        with contextlib.ExitStack() as other:
            other.enter_context(locked(Path(order.folder)))

            def tell(text):
                told.append(text)  # noqa: B023
                runner.interrupt() if stop else other.close()  # noqa: B023

            runner.tell = tell
            ended = runner.run(order)
        assert ended.status == status, ended
        assert told == [f"Another run is writing to {order.folder}. This sweep waits for it."]


start_child = pools._start_child


def interrupted_start(*given):
    os.kill(os.getpid(), signal.SIGINT)
    start_child(*given)


def test_ctrl_c_while_a_process_starts_is_kept_for_its_trial(order, monkeypatch):
    """The terminal sends it to all processes, also to one that still imports."""
    monkeypatch.setattr(pools, "_start_child", interrupted_start)
    with Pool(1, 1) as pool:
        assert pool.run(order).status == "interrupted"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_process_that_dies_takes_no_other_trial_with_it(order):
    with Pool(1, 1) as pool:
        child = pool._children[0]
        child._start(None).submit(os.kill, child.process, signal.SIGKILL)
        dead = pool.run(order)
        assert dead.status == "failed"
        assert dead.again
        assert "ended unexpectedly" in dead.error
        assert pool.run(order).status == "finished"


@pytest.mark.parametrize(
    "wrong",
    [
        {"runner": "threads"},
        {"runner": "pool", "address": "auto"},
        {"runner": "ray", "gpus_per_run": 2},
        {"runner": "ray", "device": "cuda"},
        {"runner": "ray", "gpus_per_run": 0.5, "device": "cpu"},
        {"runner": "in_process", "workers": 2},
        {"workers": 0},
        {"per_device": 0},
        {"per_device": "all"},
        {"per_device": 2, "workers": 2},
        {"per_device": 2, "runner": "in_process"},
        {"wokers": 2},
    ],
)
def test_wrong_settings_of_runners_are_refused(wrong):
    with pytest.raises(ValueError, match=r"validation error"):
        Running(**wrong)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        *(("tracking_uri", uri, True) for uri in ("sqlite:////a/b@c.db", "http://127.0.0.1:5000")),
        ("tracking_uri", "postgresql://user@h:5432/db", True),
        ("tracking_uri", "postgresql://user:SE/CRET@h/db", False),
        ("tracking_uri", "http://SECRET@h", False),
        ("tracking_uri", "postgresql://h/db?password=SECRET", False),
        ("store", "/a/b@c?d", True),
        ("store", "s3://bucket/store?region=eu-1", True),
        ("store", "abfs://container@account/store", True),
        ("store", "s3://KEY:SECRET@bucket/store", False),
        ("store", "s3://bucket/store?token=SECRET", False),
        ("work", "s3://KEY:SECRET@bucket/store", False),
    ],
)
def test_parameters_hold_no_secret(name, value, allowed):
    """Prefect keeps them before a flow starts: its server refuses them by the schema's patterns."""
    given = {"experiment": "x", "work": "w"} | {name: value}
    field = SweepParameters.model_json_schema()["properties"][name]
    pattern = field.get("anyOf", [field])[0]["pattern"]
    assert bool(re.fullmatch(pattern, value)) == allowed
    if allowed:
        SweepParameters(**given)
        return
    with pytest.raises(ValueError, match="validation error") as told:
        SweepParameters(**given)
    assert "SECRET" not in str(told.value)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "", "1001"])
def test_a_wrong_number_of_trials_on_a_device_is_refused(text):
    with pytest.raises(InputError, match=f"--per-device is '{text}': give a number from 1 to"):
        options._number_or_auto(text)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "device", "found"),
    [
        (None, None, ["0", "1"]),
        (None, "cuda", ["0", "1"]),
        (None, "cuda:1", ["1"]),
        (None, "cpu", []),
        ("GPU-b, GPU-a", None, ["GPU-b", "GPU-a"]),
        ("3,5", "cuda:1", ["5"]),
    ],
)
def test_gpus_are_named_as_processes_see_them(two_gpus, monkeypatch, visible, device, found):
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_gpus(device) == found


def test_a_gpu_that_is_not_there_is_refused(two_gpus):
    for device in ("cuda:2", "cuda:x"):
        with pytest.raises(InputError, match="Devices here: cpu, cuda:0, cuda:1"):
            find_gpus(device)


def test_each_process_sees_one_gpu_and_a_share_of_its_memory(two_gpus):
    with open_runner(Running(per_device=2), 3) as pool:
        assert pool.workers == 3
        found = []
        for child in pool._children[1:]:
            environment = child._start(pool._share).submit(os.getenv, "CUDA_VISIBLE_DEVICES")
            share = child._start(pool._share).submit(os.getenv, "MIMIC_REG_GPU_SHARE")
            found.append((environment.result(), share.result()))
    assert found == [("1", "0.45"), ("0", "0.45")]


GIGABYTE = 1 << 30


@pytest.mark.parametrize(
    ("gpu", "on_gpu", "host", "allowed"),
    [
        (None, 0, 10, 5),  # 80 % of 10 GB for processes of 2 GB, beside the first
        (None, 0, 1, 1),
        (None, 0, 1000, 6),  # no more than were asked for
        ("0", 5, 1000, 3),  # 5 GB of tensors: 6.8 GB
        ("0", 5, 4, 1),  # the host has two GPUs to serve
    ],
)
def test_auto_admits_as_many_trials_as_memory_has_room_for(
    monkeypatch, tmp_path, gpu, on_gpu, host, allowed
):
    monkeypatch.setattr(room, "free_memory", lambda: host * GIGABYTE)
    monkeypatch.setattr(room, "own_memory", lambda process: 2 * GIGABYTE)
    monkeypatch.setattr(room, "gpu_memory", lambda name: (20 * GIGABYTE, 40 * GIGABYTE))
    admits = room.Room(["0", "1"] if gpu else [], 6)
    first, others = room.Measured(lambda: 7, tmp_path, gpu), []
    assert admits.admits(gpu, [])
    assert not admits.admits(gpu, [first])  # it has not had an epoch
    assert admits.share(gpu) is None
    row = {"event": "epoch", "epoch": 0, "loss": 1.0, "validation": {}, "recorded": {}}
    row["cost"] = {"peak_memory_bytes": on_gpu * GIGABYTE}
    (tmp_path / HISTORY).write_text(json.dumps(row) + "\n")
    while admits.admits(gpu, [first, *others]):
        others.append(room.Measured(lambda: 7, tmp_path / "other", gpu))
    assert 1 + len(others) == allowed
    assert admits.share(gpu) == (gpu and 0.9 / allowed)
    admits.ended(first, out_of_memory=True)
    assert admits.admits(gpu, others) == (allowed == 1)
    if allowed > 2:
        assert admits.admits(gpu, others[1:])


def test_memory_is_measured():
    assert 0 < devices.own_memory(os.getpid()) < devices.free_memory() + GIGABYTE
    assert devices.own_memory(2**22 + 1) == 0
    with pytest.raises(MimicRegError, match="Give a number to --per-device"):
        devices.gpu_memory("no")
