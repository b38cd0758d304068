"""What the engine, the input pipeline and ITPS cost: ratios measured in one run.

    python benchmarks/training.py [--device cuda] [--rounds 100] [--out x.json]
    python benchmarks/training.py --busy [--out benchmarks/results/training.json]

Each round runs every variant of a model once, in turn, so that a busy machine slows all of them; a
ratio is the median over rounds of the ratio within a round, on the CPU of processor time. The
models are the paper's, on random numbers of the tasks' shapes: batches of 32 stays of 48 hours, or
of 32 images.

--busy measures another thing: how long `mimic-reg train` trains a small LSTM beside four processes
that compute, over how long it does alone, with one thread and with two; and how much faster a
training step is with a second thread. Nothing else should run meanwhile: `others` is how many cores
other programs used while it was to be alone.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mimic_reg  # noqa: F401  # isort: skip  # before torch is loaded: how its threads wait
import numpy as np
import torch

from mimic_reg import methods, models
from mimic_reg.clinical.schema import CHANNELS
from mimic_reg.engine.optimizers import make_optimizer
from mimic_reg.engine.recorder import read_history
from mimic_reg.engine.trainer import Trainer
from mimic_reg.models.base import loss_of
from mimic_reg.runs import HISTORY
from mimic_reg.samples import Samples, Units, from_arrays
from mimic_reg.seeds import Streams
from mimic_reg.settings import Training

BATCH = 32
SHAPES: dict[str, tuple[int, ...]] = {
    "lstm": (76,),
    "transformer": (76,),
    "dnn": (1, 28, 28),
    "cnn": (3, 32, 32),
    "causal_lstm": (76,),
}
HOURS = 48
BUSY = 4  # processes
PATIENTS, EPOCHS = 400, 15
ITPS = {"lstm": 0.15, "transformer": 0.05, "dnn": 0.25}  # thresholds of the paper's Table II


def stays(device: torch.device, num: int = 1024) -> Samples:
    """Random hourly matrices with a binary label."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(num * HOURS + 1, len(CHANNELS))).astype(np.float32)
    offset = torch.arange(num, device=device) * HOURS
    units = Units(torch.from_numpy(values).to(device), offset, np.arange(num), sequence=True)
    length = torch.full((num,), HOURS, dtype=torch.int32)
    label = torch.from_numpy(rng.integers(0, 2, (num, 1)).astype(np.int8)).to(device)
    unit = torch.arange(num, dtype=torch.int32, device=device)
    return Samples(
        units, "binary", unit, length.to(device), label, length, np.arange(num, dtype=np.int32)
    )


def images(device: torch.device, num: int = 4096, model: str = "dnn") -> Samples:
    """Random images of ten classes."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(num, *SHAPES[model])).astype(np.float32)
    return from_arrays(values, rng.integers(0, 10, num), "multiclass", device=device)


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def trainer(
    name: str,
    samples: Samples,
    chosen: list[Any],
    folder: Path,
    max_epochs: int = 100,
    **training: Any,
) -> Trainer:
    """The engine on one model, with its history open."""
    outputs = 1 if samples.target == "binary" else 10
    streams = Streams(0, "benchmark")
    made = Trainer(
        models.create(name, outputs, shape=SHAPES[name], generator=streams.init()),
        methods.compose(chosen),
        samples,
        samples,
        num_outputs=outputs,
        selected_by="auroc",
        training=Training(max_epochs=max_epochs, **training),
        streams=streams,
        folder=folder,
        attributes=lambda columns: dict.fromkeys(columns, np.arange(len(samples)) % 3),
    )
    made.recorder.open()
    made.model.train()
    return made


def engine_steps(made: Trainer) -> Callable[[int], None]:
    """Steps as the engine takes them, with its monitoring at its usual rate."""

    def run(count: int) -> None:
        for _ in range(count):
            made.step(last=False)

    return run


def bare_steps(name: str, samples: Samples) -> Callable[[int], None]:
    """The loop that one would write by hand for this model and these samples of one length."""
    outputs = 1 if samples.target == "binary" else 10
    device = samples.units.values.device
    model = models.create(
        name, outputs, shape=SHAPES[name], generator=Streams(0, "benchmark").init()
    ).to(device)
    optimizer = make_optimizer(model, Training())
    rows = HOURS if samples.units.sequence else 1
    x = samples.units.values[: len(samples) * rows]
    x = x.view(len(samples), *((HOURS, -1) if samples.units.sequence else (-1,)))
    y = samples.label.float() if outputs == 1 else samples.label
    lengths = torch.full((BATCH,), rows)
    indices = torch.randperm(len(samples)).to(device).split(BATCH)
    done = 0

    def run(count: int) -> None:
        nonlocal done
        for _ in range(count):
            index = indices[done % len(indices)]
            optimizer.zero_grad()
            loss_of(samples.target, model(x[index], lengths), y[index]).mean().backward()
            optimizer.step()
            done += 1

    return run


def input_steps(samples: Samples) -> Callable[[int], None]:
    """The batches alone."""
    order = samples.training_order(BATCH, Streams(0, "benchmark").batches(0))
    indices = order.split(BATCH)

    def run(count: int) -> None:
        for i in range(count):
            samples.gather(indices[i % len(indices)])

    return run


def measure(
    variants: dict[str, Callable[[int], None]],
    rounds: int,
    steps: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds a step of every variant, in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        names = list(variants)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            synchronise(device)
            start = clock()
            variants[name](steps)
            synchronise(device)
            if number:  # the first round warms up
                seconds[name].append((clock() - start) / steps)
    return seconds


def ratio(seconds: dict[str, list[float]], above: str, below: str) -> float:
    """Median over rounds of the ratio within the round."""
    pairs = zip(seconds[above], seconds[below], strict=True)
    return statistics.median(a / b for a, b in pairs)


def state_bytes(made: Trainer) -> int:
    """Bytes of all tensors that the optimiser keeps between steps."""

    def count(value: Any) -> int:
        if isinstance(value, torch.Tensor):
            return value.nbytes
        if isinstance(value, dict):
            return sum(map(count, value.values()))
        return sum(map(count, value)) if isinstance(value, list | tuple) else 0

    return count(made.optimizer.state_dict())


def peak_bytes(made: Trainer, device: torch.device) -> int | None:
    """Peak of a few steps on a GPU; None elsewhere."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    engine_steps(made)(3)
    return torch.cuda.max_memory_allocated(device)


def benchmark(
    name: str, samples: Samples, rounds: int, steps: int, folder: Path
) -> dict[str, float | None]:
    """All figures of one model."""
    device = samples.units.values.device
    fits: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "plain": ([], {}),
        "itps": ([{"itps": {"tau": ITPS[name], "track_ever": False}}], {}),
        "itps tracked": ([{"itps": {"tau": ITPS[name]}}], {}),
        "bfloat16": ([], {"precision": "bfloat16"}),
    }
    engines = {}
    for fit, (entries, training) in fits.items():
        (folder / fit).mkdir(parents=True)
        engines[fit] = trainer(name, samples, entries, folder / fit, **training)
    variants = {method: engine_steps(made) for method, made in engines.items()}
    variants["bare"] = bare_steps(name, samples)
    variants["input"] = input_steps(samples)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds = measure(variants, rounds, steps, device, clock)
    parameters = sum(p.nbytes for p in engines["plain"].model.parameters() if p.requires_grad)
    kept = {method: state_bytes(made) for method, made in engines.items()}
    peaks = {method: peak_bytes(made, device) for method, made in engines.items()}
    for made in engines.values():
        made.recorder.close()
    peak = None
    if peaks["itps"] is not None and peaks["plain"] is not None:
        peak = (peaks["itps"] - peaks["plain"]) / parameters
    return {
        "milliseconds_per_step": 1000 * statistics.median(seconds["plain"]),
        "itps_over_plain": ratio(seconds, "itps", "plain"),
        "itps_tracked_over_plain": ratio(seconds, "itps tracked", "plain"),
        "bfloat16_over_plain": ratio(seconds, "bfloat16", "plain"),
        "engine_over_bare": ratio(seconds, "plain", "bare"),
        "input_over_step": ratio(seconds, "input", "plain"),
        "itps_state_in_parameters": (kept["itps"] - kept["plain"]) / parameters,
        "itps_peak_in_parameters": peak,
    }


def command(*arguments: object) -> None:
    """Run mimic-reg as a user does."""
    line = [sys.executable, "-m", "mimic_reg", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}\n{done.stderr}")


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Processes that compute all the time, inside the block."""
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10**6))"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def used_seconds() -> tuple[float, float]:
    """Processor seconds used so far: by the whole machine, by ended children of this process."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    working = sum(map(int, fields[:3])) + sum(map(int, fields[5:8]))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return working / os.sysconf("SC_CLK_TCK"), children.ru_utime + children.ru_stime


def busy_over_quiet(rounds: int) -> dict[str, dict[str, float]]:
    """A small fit beside busy processes over the same fit alone, by number of threads."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command("synthesize", "--out", folder / "raw", "--patients", PATIENTS)
        command("extract", "--source", folder / "raw", "--out", folder / "store")
        (folder / "model.yaml").write_text("lstm: {units: 64}\n", "utf-8")
        runs = 0

        def fit(threads: int) -> float:
            nonlocal runs
            runs += 1
            run = folder / f"run-{runs}"
            command(
                *("train", "--store", folder / "store", "--task", "in_hospital_mortality"),
                *("--model", folder / "model.yaml", "--set", f"training.max_epochs={EPOCHS}"),
                *("--device", "cpu"),
                *("--threads", threads, "--out", run),
            )
            costs = [row["cost"] for row in read_history(run / HISTORY) if row["event"] == "epoch"]
            return sum(cost["training_seconds"] + cost["validation_seconds"] for cost in costs)

        fit(1)  # so that files are in memory
        for threads in (1, 2):
            quiet, busy, others = [], [], []
            for _ in range(rounds):
                before, start = used_seconds(), time.perf_counter()
                quiet.append(fit(threads))
                after, wall = used_seconds(), time.perf_counter() - start
                others.append((after[0] - before[0] - after[1] + before[1]) / wall)
                with busy_processes(BUSY):
                    busy.append(fit(threads))
            found[f"{threads} thread{'s' * (threads > 1)}"] = {
                "quiet_seconds": statistics.median(quiet),
                "busy_seconds": statistics.median(busy),
                "busy_over_quiet": statistics.median(
                    b / q for b, q in zip(busy, quiet, strict=True)
                ),
                "others": statistics.median(others),
            }
    return found


def second_thread(rounds: int) -> dict[str, float]:
    """How much faster a step of each model is with two threads than with one."""
    device, before = torch.device("cpu"), torch.get_num_threads()

    def with_threads(threads: int, steps: Callable[[int], None]) -> Callable[[int], None]:
        def run(count: int) -> None:
            torch.set_num_threads(threads)
            steps(count)

        return run

    found = {}
    for name, make, count in (("lstm", stays, 3), ("transformer", stays, 2), ("dnn", images, 25)):
        steps = bare_steps(name, make(device))
        variants = {"1": with_threads(1, steps), "2": with_threads(2, steps)}
        found[name] = ratio(measure(variants, rounds, count, device), "1", "2")
    torch.set_num_threads(before)
    return found


def measure_busy(out: Path | None) -> None:
    """Measure a fit on a busy machine, print a table, put it into a file of results."""
    rounds = 2
    found = busy_over_quiet(rounds)
    columns = list(found["1 thread"])
    print(f"{'':12}" + "".join(f"{name:>18}" for name in columns))
    for name, row in found.items():
        print(f"{name:12}" + "".join(f"{row[column]:>18.2f}" for column in columns))
    print("aim, busy over quiet: <= 6")
    speedups = second_thread(rounds=10)
    print("a second thread:", ", ".join(f"{name} {x:.2f} times" for name, x in speedups.items()))
    machine = {
        "processors": len(os.sched_getaffinity(0)),
        "busy_processes": BUSY,
        "patients": PATIENTS,
        "epochs": EPOCHS,
        "torch": torch.__version__,
        "rounds": rounds,
    }
    content = {"machine": machine, "results": found, "second_thread_speedup": speedups}
    write(out, {"busy": content})


def write(out: Path | None, content: dict[str, Any]) -> None:
    """Put results into a file, beside what other measurements have left there."""
    if out is not None:
        there = json.loads(out.read_text("utf-8")) if out.is_file() else {}
        out.write_text(json.dumps({**there, **content}, indent=1) + "\n", "utf-8")


AIMS = {
    "itps_over_plain": "<= 1.05",
    "engine_over_bare": "<= 1.05",
    "input_over_step": "<= 0.05",
    "itps_state_in_parameters": "1: one tensor a parameter",
    "itps_peak_in_parameters": "1: one tensor a parameter",
}


def main() -> None:
    """Measure, print a table, write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--busy", action="store_true", help="a fit on a busy machine, alone")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.busy:
        measure_busy(arguments.out)
        return
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    results: dict[str, dict[str, float | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make, steps in (
            ("lstm", stays, 3),
            ("transformer", stays, 2),
            ("dnn", images, 25),
        ):
            results[name] = benchmark(
                name, make(device), arguments.rounds, steps, Path(folder) / name
            )
    print(f"{'':28}" + "".join(f"{name:>12}" for name in results) + "   aim")
    for figure in results["lstm"]:
        cells = (results[name][figure] for name in results)
        row = "".join(f"{'-':>12}" if c is None else f"{c:>12.3f}" for c in cells)
        print(f"{figure:28}{row}   {AIMS.get(figure, '')}")
    if arguments.out:
        machine = {
            "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
            "threads": arguments.threads,
            "torch": torch.__version__,
            "rounds": arguments.rounds,
        }
        write(arguments.out, {"machine": machine, "results": results})


if __name__ == "__main__":
    main()
