"""Trials on a Ray cluster; its machines share the work folder and the store.

Only text goes from machine to machine: an `Order` and an `Ended` as JSON, and the names of the
functions of `on_node.py`. Settings come from this text, data and results from the shared folders.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from mimic_reg.errors import InputError, MimicRegError, install_advice
from mimic_reg.runs import DONE
from mimic_reg.store import disk_errors, locked, make_folder
from mimic_reg_pipelines.runners import on_node
from mimic_reg_pipelines.runners.base import Ended, Order, Runner
from mimic_reg_pipelines.runners.settings import Running, processors

_CONNECT_SECONDS = 10.0  # to the port of an address
_CHECK_SECONDS = 300.0  # a machine loads torch meanwhile
_COPY_SECONDS = 6 * 3600.0  # for a store that it copies first
_ATTEMPTS = 4  # of a trial whose machine or process is lost
_SHARED_SECONDS = 120.0  # until a lock or a file of another machine is seen here
_OBJECT_STORE = 100 * 2**20  # bytes; only text is in it


class Ray(Runner):
    """A cluster, or this machine until the sweep ends.

    A trial whose machine or process is lost goes on from its checkpoint on another one.
    """

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._running = running
        self._temporary: Path | None = None  # Ray's logs and sockets
        self._token: Path | None = None
        self._references: set[Any] = set()
        if running.address is None:
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # listens on loopback alone
            # else Ray makes a token itself, and writes it into the home folder
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        try:
            self._ray: Any = import_module("ray")
        except ImportError as error:
            raise InputError(
                "The runner ray needs Ray, which is not installed. Use the runner pool, or: "
                + install_advice("ray")
            ) from error
        if self._ray.is_initialized():
            raise InputError("This process uses Ray already. Call ray.shutdown() first.")
        if running.address is None:  # Ray read the variable when it was imported: before, perhaps
            self._ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
        # of a lost machine Ray prints logs to stdout; the sweep itself says which trials were lost
        self._ray._private.worker.print_to_stdstream = lambda *given, **more: None
        try:
            self._connect()
            self._nodes = self._fitting()
        except BaseException:
            self.close()
            raise
        self.workers = running.workers or sum(self._nodes.values())
        self._execute = self._ray.remote(
            num_cpus=running.threads, num_gpus=running.gpus_per_run, max_retries=0
        )(on_node.execute)

    def _connect(self) -> None:
        """Connect to the cluster, or start one.

        Raises:
            InputError: the cluster is not reached, or refuses.
            MimicRegError: Ray does not start on this machine.
        """
        address = self._running.address
        how: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="mimic-reg-ray-"))
            how |= {
                "num_cpus": processors(),
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE,
                "_temp_dir": str(self._temporary),
            }
        else:
            _check_address(address)
        try:
            self._ray.init(address=address or "local", **how)
        except Exception as error:  # of many kinds: versions, tokens, sockets, time
            if address is None:
                raise MimicRegError(
                    f"Ray did not start: {_first_line(error)} It waits half a minute: if the "
                    "machine is busy, try again, or use --runner pool."
                ) from error
            raise InputError(
                f"Cannot use the Ray cluster {address}: {_first_line(error)} Start the sweep on a "
                "machine of the cluster, with its versions of Ray and Python and its token "
                "(RAY_AUTH_TOKEN), or without --ray-address on this machine alone."
            ) from error

    def _fitting(self) -> dict[str, int]:
        """Return node → trials that fit on it at a time, for nodes on which one fits."""
        cpus, gpus = self._running.threads, self._running.gpus_per_run
        resources = {n["NodeID"]: n["Resources"] for n in self._ray.nodes() if n["Alive"]}
        fitting = {}
        for node, has in resources.items():
            fits = [has.get("CPU", 0.0) / cpus]
            if gpus:  # a trial uses one GPU, so parts of two do not make one
                fits.append(has.get("GPU", 0.0) * int(1 / gpus))
            if min(fits) >= 1:
                fitting[node] = int(min(fits))
        if not fitting:
            have = "; ".join(
                f"{has.get('CPU', 0.0):g} CPUs, {has.get('GPU', 0.0):g} GPUs"
                for has in resources.values()
            )
            raise InputError(
                f"A trial takes {cpus} CPUs (--threads) and {gpus:g} GPUs (--gpus-per-run), and "
                f"fits on no machine of the Ray cluster. Its machines have: {have or 'none'}."
            )
        return fitting

    def check(self, order: Order) -> list[str]:
        """Refuse the sweep if a machine does not see its folders, or has other code.

        Raises:
            InputError: see above; the text names each such machine.
        """
        runs = Path(order.folder).parent
        self._token = runs / f".ray-{secrets.token_hex(8)}"
        make_folder(runs)
        with disk_errors(runs):
            self._token.touch()
        affinity = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        asked = {}
        for node in self._nodes:
            remote = self._ray.remote(
                num_cpus=0, max_retries=0, scheduling_strategy=affinity(node, soft=False)
            )(on_node.look)
            asked[node] = remote.remote(order.model_dump_json(), str(self._token))
        here, names = on_node.versions(), {n["NodeID"]: _name(n) for n in self._ray.nodes()}
        problems, instructions = [], set()
        seconds = _CHECK_SECONDS + (_COPY_SECONDS if order.url else 0)
        deadline = time.monotonic() + seconds
        for node, reference in asked.items():
            try:
                left = max(0.0, deadline - time.monotonic())
                found = json.loads(self._ray.get(reference, timeout=left))
            except self._ray.exceptions.GetTimeoutError:
                found = {"problem": f"it did not answer within {seconds:.0f} seconds."}
            except self._ray.exceptions.RayError as error:
                found = {"problem": f"it cannot run mimic-reg: {_first_line(error)}"}
            problem = found.get("problem") or _difference(here, found["versions"])
            if problem:
                problems.append(f"{names[node]}: {problem}")
            else:
                instructions.add(found["cpu"])
        if problems:
            raise InputError(
                "Nothing was trained, because machines of the Ray cluster cannot run these "
                "trials. " + " ".join(problems)
            )
        if len(instructions) > 1:
            return [
                f"The CPUs of the cluster differ ({', '.join(sorted(instructions))}): the last "
                "digits of a result depend on the machine."
            ]
        return []

    def _run(self, order: Order) -> Ended:
        """Run a trial where there is room; again if its machine or process is lost."""
        started = time.perf_counter()
        lost: list[str] = []
        order = order.model_copy(update={"device": self._device()})
        while len(lost) < _ATTEMPTS and not self._stopped.is_set():
            try:
                ended = self._once(order)
            except self._ray.exceptions.TaskCancelledError:
                break
            except self._ray.exceptions.RayError as error:
                lost.append(type(error).__name__)
                _wait_for_lock(Path(order.folder), self._stopped)
                continue
            if lost:
                note = f"Ray lost it and started it again ({', '.join(lost)})"
                ended = ended.model_copy(
                    update={"note": "; ".join(filter(None, [ended.note, note]))}
                )
            return ended
        if len(lost) < _ATTEMPTS:
            return Ended(status="interrupted", seconds=time.perf_counter() - started)
        return Ended(
            status="failed",
            seconds=time.perf_counter() - started,
            error=f"Ray lost the trial {len(lost)} times: {', '.join(lost)}. Was memory short? The "
            "same command goes on from its checkpoint.",
        )

    def _once(self, order: Order) -> Ended:
        reference = self._execute.remote(order.model_dump_json(), str(self._token or ""))
        self._references.add(reference)
        try:
            if self._stopped.is_set():  # `interrupt` may have come too early for this one
                self._ray.cancel(reference, force=False)
            ended = Ended.model_validate_json(self._ray.get(reference))
        finally:
            self._references.discard(reference)
        if ended.status in ("finished", "skipped") and not _arrives(Path(order.folder) / DONE):
            return Ended(
                status="failed",
                seconds=ended.seconds,
                error=f"The trial was trained, but {order.folder} has no {DONE} on this machine. "
                "Do all machines of the cluster mount the same folder there?",
            )
        return ended

    def _device(self) -> str:
        """Return the device of a trial; Ray shows it only the GPU that it may use."""
        return self._running.device or ("cuda" if self._running.gpus_per_run else "cpu")

    def interrupt(self) -> None:
        """Send Ctrl-C to every running trial."""
        super().interrupt()
        for reference in list(self._references):
            self._ray.cancel(reference, force=False)

    def close(self) -> None:
        """Leave the cluster, and end it if it was started for this sweep."""
        self._ray.shutdown()
        if self._token is not None:
            self._token.unlink(missing_ok=True)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _check_address(address: str) -> None:
    """Refuse an address that nobody answers; Ray itself would wait for a minute, then crash.

    Raises:
        InputError: see above.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise InputError(
            f"--ray-address is {address!r}; it must be HOST:PORT, as `ray start --head` prints it, "
            "or auto, for the cluster that this machine belongs to."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(
            f"No Ray cluster answers at {address}: {error}. Start one with `ray start --head`, or "
            "leave out --ray-address to use this machine alone."
        ) from error


def _first_line(error: Exception) -> str:
    """Return what an error says, as one sentence."""
    cause = getattr(error, "cause", None) or error
    text = str(cause).strip().partition("\n")[0].rstrip(".") or type(cause).__name__
    return f"{text}."


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _difference(here: dict[str, str], there: dict[str, str]) -> str | None:
    """Return how the programs of a machine differ from those of this one."""
    found = [
        f"{name} {there.get(name)}, not {version}"
        for name, version in here.items()
        if there.get(name) != version
    ]
    if not found:
        return None
    return f"it has {'; '.join(found)}. Install the same versions on every machine."


def _wait_for_lock(folder: Path, stopped: threading.Event) -> None:
    """Wait until the lost process has let go of its run folder, if its machine lives."""
    deadline = time.monotonic() + _SHARED_SECONDS
    while time.monotonic() < deadline and not stopped.is_set():
        try:
            with locked(folder):
                return
        except MimicRegError:
            time.sleep(0.2)


def _arrives(path: Path) -> bool:
    """Return whether a file of another machine is seen here; network file systems take a while."""
    deadline = time.monotonic() + _SHARED_SECONDS
    while True:
        with contextlib.suppress(FileNotFoundError):
            if path.name in os.listdir(path.parent):  # renews what NFS remembers of the folder
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
