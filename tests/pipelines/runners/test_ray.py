"""Sweeps on a real Ray cluster of two nodes, of which one is lost; on loopback alone."""

import contextlib
import inspect
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from mimic_reg import experiments
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.progress import Progress
from mimic_reg.runs import CHECKPOINT, DONE, HISTORY, read_trial
from mimic_reg.store import Store, locked
from mimic_reg_pipelines.flows.result import SweepResult
from mimic_reg_pipelines.flows.settings import Work
from mimic_reg_pipelines.flows.sweep import sweep
from mimic_reg_pipelines.runners import Ended, Order, base, execute, on_node, open_runner
from mimic_reg_pipelines.runners import ray as runner
from mimic_reg_pipelines.runners.settings import Running
from tests.pipelines.conftest import copy_of
from tests.pipelines.flows.experiments import content, experiment
from tests.postgresql import free_port

SECONDS = 300  # until something must have happened, on a busy machine


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with a CPU each; `second` is not the one that a sweep starts on.

    On a busy machine, Ray would give up: it waits 15 seconds for the ports of its agents, which are
    known or not used here, and 30 for a node.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # listens on loopback
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        patch.setenv("RAY_agent_register_timeout_ms", str(SECONDS * 1000))
        patch.setenv("RAY_worker_register_timeout_seconds", str(SECONDS))
        from ray._private import services
        from ray._raylet import persist_port
        from ray.cluster_utils import Cluster

        get_node, start_raylet = services.get_node, services.start_raylet

        def start(*given, **more):
            bound = inspect.signature(start_raylet).bind(*given, **more).arguments
            for name in ("metrics_agent", "metrics_export", "dashboard_agent_listen"):
                persist_port(bound["session_dir"], bound["node_id"], f"{name}_port", -1)
            return start_raylet(*given, **more)

        patch.setattr(services, "start_raylet", start)
        patch.setattr(services, "get_node", lambda *given: patiently(get_node, *given))

        def node(**more):
            fixed = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
            return fixed | {"runtime_env_agent_port": free_port()} | more

        # its sockets' paths have 107 bytes at most, which pytest's folders may exceed
        folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        spare = {"include_log_monitor": False, "no_monitor": True}  # processes that do nothing here
        made = Cluster(initialize_head=True, head_node_args=node(temp_dir=str(folder), **spare))
        try:
            made.folder, made.second = folder, made.add_node(**node())
            yield made
        finally:
            made.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def order_in(folder, store):
    (planned,) = experiments.plan(experiment(methods=["none"], seeds=[0]))
    return Order(
        trial=planned.trial.model_dump(mode="json"),
        store=str(store),
        data=Store.open(store).manifest["fingerprint"],
        folder=str(folder),
        threads=1,
    )


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def patiently(get, *given):
    """Call until it succeeds."""

    def found():
        with contextlib.suppress(RuntimeError):
            return get(*given)

    return wait_for(found)


def wait_for(condition):
    end = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
    return found


def test_a_sweep_that_is_interrupted_and_loses_a_machine_ends_the_same(
    cluster, store, empty, ids, tmp_path
):
    wanted = experiment(training={"max_epochs": 25}, methods=["none", "itps", "dropout"], seeds=[0])
    alone, work = tmp_path / "alone", tmp_path / "work"
    for folder in (alone, work):
        copy_of(empty, folder)
    running = Running(runner="ray", address=cluster.address)
    runs = Work(work).runs

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with ThreadPoolExecutor() as meanwhile:
            meanwhile.submit(interrupt, runs)
            with pytest.raises(KeyboardInterrupt):
                sweep(wanted, work, store=store, running=running)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not any(map(is_locked, begun(runs)))
    histories = [p for p in runs.glob(f"*/{HISTORY}") if p.stat().st_size]
    assert all((p.parent / CHECKPOINT).is_file() for p in histories)
    assert "failed" not in {t.status for t in SweepResult.read(work, "small").trials}
    done = {folder: (folder / DONE).stat().st_mtime_ns for folder in finished(runs)}
    assert len(done) < 3

    notes = Notes()
    with ThreadPoolExecutor() as meanwhile:
        losing = meanwhile.submit(lose, cluster, runs)
        result = sweep(wanted, work, store=store, running=running, progress=notes)
        lost, written = losing.result()
    assert {t.status for t in result.trials} <= {"finished", "skipped"}
    assert len(result.trials) == 3
    assert done == {folder: (folder / DONE).stat().st_mtime_ns for folder in done}
    assert first_epoch(written)
    assert first_epoch(written) == first_epoch((lost / HISTORY).read_text())  # also its seconds
    assert any("Ray lost it" in note for note in notes.notes)
    assert not list(runs.glob(".ray-*"))

    expected = sweep(wanted, alone, store=store, running=Running(runner="in_process"))
    for one, another in zip(expected.trials, result.trials, strict=True):
        assert one.identity == another.identity
        assert content(expected.run_folder(one)) == content(result.run_folder(another))
    logs = b"".join(p.read_bytes() for p in cluster.folder.rglob("*") if p.is_file())
    assert b"gcs_server" in logs
    assert not any(str(each).encode() in logs for each in ids)


def first_epoch(history):
    """Return the line of the first epoch's end; none if it is not written yet."""
    lines = map(json.loads, history.splitlines())
    return [line for line in lines if (line["event"], line["epoch"]) == ("epoch", 0)]


def begun(runs):
    """Run folders with a checkpoint."""
    return [p.parent for p in runs.glob(f"*/{CHECKPOINT}")]


def finished(runs):
    return [p.parent for p in runs.glob(f"*/{DONE}")]


def interrupt(runs):
    wait_for(lambda: begun(runs))
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def lose(cluster, runs):
    """Lose the second machine while a trial runs on it; return its folder and history.

    The lock of its run folder is held for a while, as if the trial went on there behind a network
    that was cut. (The process itself cannot do it: Linux ends stopped ones whose parent ends.)
    """
    (raylet,) = cluster.second.all_processes["raylet"]
    pid, folder = wait_for(lambda: stopped_in_a_trial(raylet.process.pid, runs))
    written = (folder / HISTORY).read_text()
    os.kill(raylet.process.pid, signal.SIGSTOP)  # so that Ray does not begin the trial again yet
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_locked(folder))
    with locked(folder):
        cluster.remove_node(cluster.second, allow_graceful=False)
        time.sleep(1)
        assert (folder / HISTORY).read_text() == written
    return folder, written


def stopped_in_a_trial(raylet, runs):
    """Stop the process of a trial that has an epoch or more; return it and the run folder."""
    for pid in children(raylet):
        folder = working_in(pid, runs)
        if folder in begun(runs):
            os.kill(pid, signal.SIGSTOP)
            wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][1] == "T")  # noqa: B023
            written = first_epoch((folder / HISTORY).read_text())  # later than the checkpoint
            if written and working_in(pid, runs) == folder and not (folder / DONE).exists():
                return pid, folder
            os.kill(pid, signal.SIGCONT)
    return None


def children(parent):
    for path in Path(f"/proc/{parent}/task").glob("*/children"):
        yield from map(int, path.read_text().split())


def working_in(pid, runs):
    """The run folder whose lock a process has open."""
    try:
        opened = [os.readlink(p) for p in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return None
    found = [Path(name).parent for name in opened if name.endswith("/.lock")]
    return next((folder for folder in found if folder.parent == runs.resolve()), None)


def is_locked(folder):
    try:
        with locked(folder):
            return False
    except MimicRegError:
        return True


# --- without a cluster ----------------------------------------------------------------------------


@pytest.fixture
def pretended(monkeypatch):
    """Ray's module with two machines of four CPUs and a GPU each; `answers` are those of trials."""

    class RayError(Exception):
        pass

    class CancelledError(RayError):
        pass

    def get(reference, timeout=None):
        answer = ray.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer.model_dump_json()

    resources = {"CPU": 4.0, "GPU": 1.0}
    nodes = [
        {"NodeID": n, "Alive": n != "gone", "Resources": resources} for n in ("a", "b", "gone")
    ]
    ray = SimpleNamespace(
        answers=[],
        orders=[],
        started=[],
        init=lambda **given: ray.started.append(given),
        shutdown=lambda: None,
        is_initialized=lambda: False,
        _private=SimpleNamespace(
            worker=SimpleNamespace(), ray_constants=SimpleNamespace(ENABLE_RAY_CLUSTER=True)
        ),
        nodes=lambda: nodes,
        get=get,
        remote=lambda **given: (
            lambda function: SimpleNamespace(
                remote=lambda order, token: ray.orders.append(json.loads(order))
            )
        ),
        exceptions=SimpleNamespace(RayError=RayError, TaskCancelledError=CancelledError),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(runner, "_SHARED_SECONDS", 0)
    monkeypatch.setattr(os, "environ", os.environ | {"RAY_AUTH_TOKEN": "as the user set it"})
    return ray


def test_without_an_address_ray_is_private_and_leaves_nothing(pretended):
    with open_runner(Running(runner="ray"), 2):
        (given,) = pretended.started
        folder = Path(given["_temp_dir"])
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    assert not pretended._private.ray_constants.ENABLE_RAY_CLUSTER  # read before, by its import
    assert (given["address"], given["include_dashboard"]) == ("local", False)
    expected = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    expected |= {"RAY_AUTH_TOKEN": "as the user set it"}
    assert {name: os.environ[name] for name in expected} == expected


def test_ray_that_does_not_start_is_said_and_a_session_in_use_is_kept(pretended):
    def refuse(**given):
        raise RuntimeError("Version mismatch: 2.9\nwhere")

    pretended.init = refuse
    with pytest.raises(MimicRegError, match=r"did not start: Version mismatch: 2\.9\. It waits"):
        open_runner(Running(runner="ray"), 2)
    pretended.is_initialized, pretended.shutdown = lambda: True, None
    with pytest.raises(InputError, match="uses Ray already"):
        open_runner(Running(runner="ray"), 2)


ORDER = {"trial": {}, "store": "/store", "data": "x", "threads": 1}


@pytest.mark.parametrize(
    ("settings", "at_a_time"),
    [
        ({}, 8),
        ({"threads": 3}, 2),
        ({"gpus_per_run": 0.3}, 6),
        ({"gpus_per_run": 0.1}, 8),
        ({"gpus_per_run": 0.6, "threads": 2}, 2),
        ({"workers": 99}, 99),
    ],
)
def test_trials_at_a_time_are_those_that_fit_on_the_machines(pretended, settings, at_a_time):
    with open_runner(Running(runner="ray", **settings), 2) as opened:
        assert opened.workers == at_a_time
        pretended.answers = [Ended(status="interrupted")]
        opened.run(Order(**ORDER, folder="/run"))
    gpus = settings.get("gpus_per_run")
    assert pretended.orders[0]["device"] == ("cuda" if gpus else "cpu")


def test_a_trial_that_fits_nowhere_is_refused(pretended):
    with pytest.raises(InputError, match=r"takes 5 CPUs .* have: 4 CPUs, 1 GPUs; 4 CPUs, 1 GPUs\."):
        open_runner(Running(runner="ray", threads=5), 2)


def test_lost_trials_are_run_again_but_not_for_ever(pretended, tmp_path):
    order = Order(**ORDER, folder=str(tmp_path / "run"))
    died = pretended.exceptions.RayError("a machine")
    with open_runner(Running(runner="ray"), 2) as opened:
        pretended.answers = [died, died, Ended(status="failed", error="diverged", note="slow")]
        ended = opened.run(order)
        assert (ended.status, ended.error, ended.again) == ("failed", "diverged", False)
        assert ended.note == "slow; Ray lost it and started it again (RayError, RayError)"
        pretended.answers = [died] * 9
        assert "lost the trial 4 times" in opened.run(order).error
        assert len(pretended.answers) == 5
        pretended.answers = [pretended.exceptions.TaskCancelledError()]
        assert opened.run(order).status == "interrupted"


def test_a_trial_of_another_sweep_is_waited_for_and_not_failed(pretended, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "_BUSY_SECONDS", 0)
    (tmp_path / DONE).touch()
    with open_runner(Running(runner="ray"), 2) as opened:
        pretended.answers = [Ended(status="busy"), Ended(status="busy"), Ended(status="skipped")]
        assert opened.run(Order(**ORDER, folder=str(tmp_path))).status == "skipped"


def test_a_result_that_is_not_seen_here_is_no_result(pretended, tmp_path):
    with open_runner(Running(runner="ray"), 2) as opened:
        pretended.answers = [Ended(status="finished")] * 2
        for _ in range(2):  # its folder is empty, then absent
            ended = opened.run(Order(**ORDER, folder=str(tmp_path)))
            assert "has no done.json on this machine. Do all machines" in ended.error
            tmp_path /= "absent"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://127.0.0.1:10001", "must be HOST:PORT"),
        ("server", "must be HOST:PORT"),
        ("127.0.0.1:1", "No Ray cluster answers at 127.0.0.1:1: .*refused"),
        ("127.0.0.1:99999", "No Ray cluster answers"),
        ("..:6379", "No Ray cluster answers"),
    ],
)
def test_a_cluster_that_is_not_reached_is_said(address, message):
    with pytest.raises(InputError, match=message):
        runner._check_address(address)


def test_a_machine_without_the_shared_folder_trains_nothing(store, tmp_path):
    order, token = order_in(tmp_path / "runs" / "x", store), str(tmp_path / "runs" / ".ray-1")
    problem = f"it does not have the folder {tmp_path / 'runs'} of the machine that started the"
    assert problem in json.loads(on_node.look(order.model_dump_json(), token))["problem"]
    ended = Ended.model_validate_json(on_node.execute(order.model_dump_json(), token))
    assert problem in ended.error
    assert not list(tmp_path.iterdir())


def test_each_machine_copies_a_store_at_a_url(store, empty, tmp_path, monkeypatch):
    monkeypatch.setenv("MIMIC_REG_CACHE", str(tmp_path / "first"))
    wanted = experiment(methods=["none"], seeds=[0], training={"max_epochs": 1})
    work, url = tmp_path / "work", store.as_uri()
    copy_of(empty, work)
    result = sweep(wanted, work, store=Path(url), running=Running(runner="in_process"))
    assert [t.status for t in result.trials] == ["finished"]
    assert result.store.is_relative_to(tmp_path / "first")
    assert read_trial(result.run_folder(result.trials[0]))["store"]["path"] == url
    assert SweepResult.read(work, "small").store == result.store

    token = tmp_path / "token"
    token.touch()
    order = order_in(tmp_path / "run", store).model_copy(update={"store": "/nowhere", "url": url})
    monkeypatch.setenv("MIMIC_REG_CACHE", str(tmp_path / "second"))
    assert "problem" not in json.loads(on_node.look(order.model_dump_json(), str(token)))
    assert list(tmp_path.glob("second/*/store/manifest.json"))
    monkeypatch.setenv("MIMIC_REG_CACHE", str(token))
    assert "is a file" in json.loads(on_node.look(order.model_dump_json(), str(token)))["problem"]


def test_ctrl_c_that_came_while_data_were_loaded_is_passed_on(monkeypatch):
    """Ray blocks the signal in its processes, so sending it has no effect."""
    seen, event = [], threading.Event()
    monkeypatch.setattr(execute, "_interrupted", event)
    event.set()
    before = signal.signal(signal.SIGINT, lambda *given: seen.append(given))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        execute._Interruptible().stage("train", 1, "steps")
        assert seen
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, before)


def test_a_machine_that_differs_is_named(store, tmp_path):
    order, token = order_in(tmp_path / "x", store), tmp_path / "token"
    token.touch()

    def look(**changes):
        text = order.model_copy(update=changes).model_dump_json()
        return json.loads(on_node.look(text, str(token)))

    assert look()["versions"] == on_node.versions()
    assert "was replaced after the sweep began" in look(data="other")["problem"]
    assert "is not that of the sweep" in look(code="other")["problem"]
    assert "nowhere" in look(store="/nowhere")["problem"]
    other = on_node.versions() | {"torch": "1.0"}
    assert runner._difference(on_node.versions(), other).startswith("it has torch 1.0, not 2")
