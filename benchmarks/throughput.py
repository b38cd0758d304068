"""How many trials an hour: steps, processes on one device, sweeps, Ray, and a table of the paper.

    python benchmarks/throughput.py [--device cuda] [--quick] [--out benchmarks/results/x.json]

Everything is measured in one run, so the ratios hold on a busy machine too:

- steps: the engine over a bare loop of torch, ITPS over no method (as benchmarks/training.py);
- processes: the same trials on one device with 1, 2, 4 processes; their results are compared;
- data: seconds to load a large store into memory, and to map the array that processes share;
- sweep: what a trial of `mimic-reg sweep` costs beside its training: start, data, scores, MLflow;
- ray: the same sweep with `--runner ray` on a cluster of one node and of two, over the pool;
- projection: the longest time of an experiment, from its steps and the figures above.

The parts sweep and ray need the extras pipelines and ray; without them they print why they are left
out. The data are simulated patients.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mimic_reg  # noqa: F401  # isort: skip  # before torch is loaded: how its threads wait
import torch
import yaml
from training import benchmark, images, stays

from mimic_reg import experiments, extraction
from mimic_reg.progress import format_seconds
from mimic_reg.runs import HISTORY, SCORES, read_history
from mimic_reg.simulation.synthesis import synthesize
from mimic_reg.store import Store, read_json

TASK, MODEL = "in_hospital_mortality", "lstm"
MS = "milliseconds_per_step"


@dataclass(frozen=True)
class Setup:
    """What all parts share. `seconds`: of training of a trial, about."""

    device: str
    folder: Path
    workers: Sequence[int]
    trials: int
    seconds: float
    rounds: int
    experiment: str

    @property
    def store(self) -> Path:
        """The store of simulated patients."""
        return self.folder / "store"


def prepare(setup: Setup, patients: int) -> None:
    """Extract a store of simulated patients."""
    synthesize(setup.folder / "raw", patients=patients)
    extraction.extract(setup.folder / "raw", setup.store)


# --- steps ----------------------------------------------------------------------------------------


def steps(setup: Setup, found: dict[str, Any]) -> dict[str, Any]:
    """Ratios of steps, by model."""
    device = torch.device(setup.device)
    wanted = (MS, "engine_over_bare", "itps_over_plain")
    results = {}
    for name, make, count in ((MODEL, stays, 3), ("dnn", images, 25)):
        place = setup.folder / "steps" / name
        figures = benchmark(name, make(device), setup.rounds, count, place)
        results[name] = {key: figures[key] for key in wanted}
    return results


# --- processes on one device ----------------------------------------------------------------------


def trial_of(seed: int, steps_of_trial: int) -> dict[str, Any]:
    """A trial of two epochs."""
    from mimic_reg.learners.trials import resolve

    training = {"max_epochs": 2, "epoch_steps": max(1, steps_of_trial // 2)}
    settings = {
        "task": TASK,
        "model": {MODEL: {}},
        "regularisers": [{"none": {}}],
        "seed": seed,
        "training": {**training, "normalizer": "fitted"},
    }
    return resolve(settings).model_dump(mode="json")


def content(folder: Path) -> Any:
    """All that a run comes to, but for its cost."""
    rows = read_history(folder / HISTORY)
    history = [{k: v for k, v in row.items() if k != "cost"} for row in rows]
    return history, read_json(folder / SCORES)["scores"]


def processes(setup: Setup, found: dict[str, Any]) -> dict[str, Any]:
    """Trials an hour by the number of processes, once all have started and loaded the data."""
    from mimic_reg_pipelines.runners import Ended, Order, Runner, open_runner
    from mimic_reg_pipelines.runners.settings import Running

    count = max(2, round(1000 * setup.seconds / found["steps"][MODEL][MS]))
    data = str(Store.open(setup.store).manifest["fingerprint"])

    def run(runner: Runner, place: Path, sizes: Sequence[int]) -> list[Ended]:
        """Run a trial of each size, as many at a time as the runner can."""

        def one(seed: int) -> Ended:
            order = Order(
                trial=trial_of(seed, sizes[seed]),
                store=str(setup.store),
                data=data,
                folder=str(place / str(seed)),
                threads=1,
                device=setup.device,
                work=str(setup.folder / "work"),
            )
            ended = runner.run(order)
            if ended.status != "finished":
                raise SystemExit(f"A trial {ended.status}: {ended.error}")
            return ended

        with ThreadPoolExecutor(runner.workers) as threads:
            return list(threads.map(one, range(len(sizes))))

    results: dict[str, Any] = {"steps_of_a_trial": count}
    first: list[Any] = []
    for workers in setup.workers:
        place = setup.folder / f"processes-{workers}"
        with open_runner(Running(per_device=workers, device=setup.device), workers) as runner:
            begin = time.perf_counter()
            run(runner, place / "start", [2] * workers)
            started = time.perf_counter()
            run(runner, place / "trials", [count] * setup.trials)
            seconds = time.perf_counter() - started
        runs = [content(place / "trials" / str(seed)) for seed in range(setup.trials)]
        first = first or runs
        results[str(workers)] = {
            "start_seconds": started - begin,
            "trials_per_hour": 3600 * setup.trials / seconds,
            "same_results": runs == first,
        }
    alone = results[str(setup.workers[0])]["trials_per_hour"]
    for workers in setup.workers:
        row = results[str(workers)]
        row[f"over_{setup.workers[0]}"] = row["trials_per_hour"] / alone
    return results


# --- data -----------------------------------------------------------------------------------------

LOAD = """
import json, sys, time
from pathlib import Path
from mimic_reg.samples import load, shared
from mimic_reg.store import Store

store = Store.open(Path(sys.argv[1]))
if sys.argv[2] == "memory":
    shared.MIN_BYTES = 1 << 60
def kilobytes(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])
before, begin = kilobytes("VmRSS"), time.perf_counter()
splits = load(store, store.spec.task("decompensation"), normalizer="fitted")
seconds = time.perf_counter() - begin
array = splits["train"].units.values.nbytes
print(json.dumps({
    "seconds": seconds, "array_mb": array / 1e6, "own_mb": kilobytes("RssAnon") / 1e3,
    "peak_over_array": (kilobytes("VmHWM") - before) * 1024 / array,
}))
"""


def data(setup: Setup, found: dict[str, Any]) -> dict[str, Any]:
    """How hours are loaded: into own memory; written once, to be shared; mapped from there."""
    from tests.stores import write_store

    folder = write_store(setup.folder / "large", num_subjects=2000, hours=(100, 300))
    results: dict[str, Any] = {}
    for how in ("memory", "written", "mapped"):
        command = [sys.executable, "-c", LOAD, str(folder), how]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        results[how] = json.loads(told.stdout)
    results["mapped_over_memory"] = results["mapped"]["seconds"] / results["memory"]["seconds"]
    return results


# --- sweeps ---------------------------------------------------------------------------------------


def sweep_of(setup: Setup, name: str, trials: int, *options: str) -> dict[str, float]:
    """Seconds of `mimic-reg sweep` with so many tiny trials, and what they say of themselves.

    wall and cpu: of the command and its processes; trial and fit: of a trial, by its own clock

    Raises:
        RuntimeError: it failed; the text says how.
    """
    settings = {
        "title": "Throughput",
        "grids": [
            {
                "tasks": [TASK],
                "models": [MODEL],
                "methods": ["none"],
                "seeds": trials,
                "stopping": False,
            }
        ],
        "training": {"max_epochs": 1, "epoch_steps": 1},
    }
    place = setup.folder / f"{name}.yaml"
    place.write_text(yaml.safe_dump(settings), "utf-8")
    work = setup.folder / f"work-{name}"
    command = [sys.executable, "-m", "mimic_reg", "sweep", "--config", str(place)]
    command += ["--store", str(setup.store), "--out", str(work), "--device", setup.device]
    begin, used = time.perf_counter(), cpu_seconds()
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    wall, cpu = time.perf_counter() - begin, cpu_seconds() - used
    if done.returncode:
        raise RuntimeError(f"{' '.join(done.args[2:])}: {(done.stderr or done.stdout)[-500:]}")
    rows = read_json(work / "sweeps" / name / "status.json")["trials"]
    fits = []
    for history in sorted(work.glob(f"runs/*/{HISTORY}")):
        costs = [row["cost"] for row in read_history(history) if row["event"] == "epoch"]
        fits.append(sum(c["training_seconds"] + c["validation_seconds"] for c in costs))
    trial = statistics.median(row["seconds"] for row in rows)
    return {"wall": wall, "cpu": cpu, "trial": trial, "fit": statistics.median(fits)}


def cpu_seconds() -> float:
    """Processor seconds of all ended children, which a busy machine does not change."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sweep(setup: Setup, found: dict[str, Any]) -> dict[str, Any]:
    """Seconds that a trial of a sweep costs beside its fit, from sweeps of two lengths."""
    few, many = 2, 12
    short = sweep_of(setup, "few", few, "--per-device", "1")
    long = sweep_of(setup, "many", many, "--per-device", "1")
    each = (long["wall"] - short["wall"]) / (many - few)
    cpu = (long["cpu"] - short["cpu"]) / (many - few)
    return {
        "start_and_end_seconds": short["wall"] - few * each,
        "seconds_of_a_trial": each,
        "fit_seconds": long["fit"],
        "data_scores_files_seconds": long["trial"] - long["fit"],
        "logging_seconds": each - long["trial"],
        "overhead_seconds": each - long["fit"],
        "cpu_seconds_of_start_and_end": short["cpu"] - few * cpu,
        "cpu_seconds_of_a_trial": cpu,
    }


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """Give the address of a Ray cluster of so many nodes with two processors in all."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2 // nodes})
    try:
        for _ in range(nodes - 1):
            made.add_node(num_cpus=2 // nodes)
        made.wait_for_nodes()
        yield made.address
    finally:
        made.shutdown()


def ray(setup: Setup, found: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a sweep on Ray over those of the pool, both with two trials at a time."""
    trials = 8
    pool = sweep_of(setup, "pool", trials, "--workers", "2")["wall"]
    results: dict[str, Any] = {"pool_seconds": pool}
    for nodes in (1, 2):
        with cluster(nodes) as address:
            options = ("--runner", "ray", "--address", address, "--workers", "2")
            wall = sweep_of(setup, f"ray{nodes}", trials, *options)["wall"]
        results[f"nodes_{nodes}"] = {"seconds": wall, "over_pool": wall / pool}
    return results


# --- projection -----------------------------------------------------------------------------------

REFERENCE_MS = 35.0  # of `experiments.costs`: a step of this model and task on one core


def projection(setup: Setup, found: dict[str, Any]) -> dict[str, Any]:
    """The longest time of an experiment on the full data, from its steps: nothing of it is run.

    The seconds of a dry run, which are those of one core, times the ratio of a step here to one
    there, over the gain of several processes.
    """
    experiment = experiments.load(setup.experiment, {})
    planned = experiments.plan(experiment)
    counts = experiments.sizes(None, experiment.data)
    estimates = [experiments.estimate(p.trial, counts) for p in planned]
    seconds = sum(e.seconds or 0.0 for e in estimates)
    here = seconds * found["steps"][MODEL][MS] / REFERENCE_MS
    rows = {k: row for k, row in found["processes"].items() if isinstance(row, dict)}
    best = max(rows, key=lambda k: rows[k]["trials_per_hour"])
    gain = rows[best]["trials_per_hour"] / rows[str(setup.workers[0])]["trials_per_hour"]
    return {
        "experiment": setup.experiment,
        "trials": len(planned),
        "steps": sum(e.steps for e in estimates),
        "trials_of_unknown_time": sum(e.seconds is None for e in estimates),
        "hours_of_one_process": here / 3600,
        "best_number_of_processes": int(best),
        "hours_at_most": here / gain / 3600,
        "said": f"at most {format_seconds(here / gain)} on this {setup.device}, a projection: "
        "early stopping ends most trials sooner",
    }


# --- output ---------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Setup, dict[str, Any]], dict[str, Any]]] = {
    "steps": steps,
    "processes": processes,
    "data": data,
    "sweep": sweep,
    "ray": ray,
    "projection": projection,
}
NEEDS = {"sweep": ("prefect", "mlflow"), "ray": ("prefect", "mlflow", "ray")}


def measure(setup: Setup, chosen: Sequence[str]) -> dict[str, Any]:
    """Measure the parts; one that cannot run says why, and the others go on."""
    found: dict[str, Any] = {}
    for name in chosen:
        missing = [module for module in NEEDS.get(name, ()) if find_spec(module) is None]
        begin = time.perf_counter()
        if missing:
            found[name] = {"left_out": f"not installed: {', '.join(missing)}"}
        else:
            try:
                found[name] = PARTS[name](setup, found)
            except Exception as error:  # noqa: BLE001  # the figures of other parts are of use
                found[name] = {"left_out": f"{type(error).__name__}: {error}"}
        print(f"\n{name} ({time.perf_counter() - begin:.0f} s)")
        show(found[name])
    return found


def show(values: dict[str, Any], indent: str = "  ") -> None:
    """Print figures, one a line."""
    for name, value in values.items():
        if isinstance(value, dict):
            print(f"{indent}{name}")
            show(value, indent + "  ")
        else:
            text = f"{value:,.3f}" if isinstance(value, float) else str(value)
            print(f"{indent}{name:<{34 - len(indent)}}{text}", flush=True)


def about(setup: Setup) -> dict[str, Any]:
    """The machine."""
    cuda = setup.device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_at_start": os.getloadavg()[0],
        "torch": torch.__version__,
        "command": " ".join(["python", *sys.argv]),
    }


def main() -> None:
    """Measure, print, write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="shorter trials, fewer rounds")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4], help="processes")
    parser.add_argument("--rounds", type=int, help="of steps; by default 100, or 20 if quick")
    parser.add_argument("--seconds", type=float, help="of a trial; by default 10, or 2 if quick")
    parser.add_argument("--experiment", default="table_09", help="to project")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    quick = arguments.quick
    if "projection" in arguments.parts and not {"steps", "processes"} <= {*arguments.parts}:
        parser.error("the part projection needs the parts steps and processes")
    if "processes" in arguments.parts and "steps" not in arguments.parts:
        parser.error("the part processes needs the part steps")
    torch.set_num_threads(1)
    root = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(root))  # for tests.stores
    with tempfile.TemporaryDirectory() as name:
        setup = Setup(
            device=arguments.device,
            folder=Path(name),
            workers=arguments.workers,
            trials=2 * max(arguments.workers),
            seconds=arguments.seconds or (2.0 if quick else 10.0),
            rounds=arguments.rounds or (20 if quick else 100),
            experiment=arguments.experiment,
        )
        machine = about(setup)
        show(machine)
        prepare(setup, patients=200 if quick else 400)
        found = measure(setup, [part for part in PARTS if part in arguments.parts])
    if arguments.out:
        text = json.dumps({"machine": machine, "results": found}, indent=1)
        arguments.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
