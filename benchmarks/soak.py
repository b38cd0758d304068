"""Half an hour of the hospital's stack: what grows with every run?

    MIMIC_REG_STACK=1 python benchmarks/soak.py FOLDER [MINUTES]

A small flow every minute, by schedules; two clients at MLflow all the time. Every 20 seconds:
memory and open files of each container, sizes of databases and volumes. Needs what `make stack`
needs, and the images that it makes. Results: FOLDER/soak.json, soak.md and soak.png.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from tests.stack import engine, hospital
from tests.stack.docker import containers

SERVICES = ("postgres", "prefect", "mlflow", "gate", "worker-cpu")
DATABASES = ("prefect", "mlflow", "mlflow_users")
EVERY = 20  # seconds between two measurements
WARM = 0.25  # the first part is left out of the slopes: caches fill, programs are imported
TRIAL = {"work": "work/soak", "method": "none", "set": {"training.max_epochs": 2}}


def start() -> str:
    """Make a store, and a schedule for each minute of the hour; return the deployment's id.

    Each minute has a seed of its own, so that each run trains: a finished trial is not run again.
    """
    hospital.compose("run --rm cli synthesize --out work/raw-soak --patients 60 --overwrite")
    hospital.compose("run --rm cli extract --source work/raw-soak --out work/soak/store --force")
    found = hospital.deployment("once")
    schedules = [
        {
            "schedule": {"cron": f"{minute} * * * *", "timezone": "UTC"},
            "active": True,
            "parameters": {"parameters": TRIAL | {"seed": minute}},
        }
        for minute in range(60)
    ]
    hospital.prefect(f"deployments/{found['id']}/schedules", schedules)
    return str(found["id"])


def measure() -> dict[str, float]:
    """Return name → value, of everything that could grow."""
    found: dict[str, float] = {}
    for service in SERVICES:
        _, state = hospital.of(service)
        processes = descendants(state["State"]["Pid"])
        found[f"{service} memory MB"] = sum(map(resident, processes)) / 1e6
        found[f"{service} open files"] = float(sum(map(open_files, processes)))
    for database in DATABASES:
        query = f"select pg_database_size('{database}')"
        text = hospital.compose(f'exec -T postgres psql -qtAX -U postgres -c "{query}"')
        found[f"database {database} MB"] = float(text) / 1e6
    for volume in hospital.VOLUMES:
        place = engine.run(
            "podman", "volume", "inspect", "--format={{.Mountpoint}}", f"mimic-reg_{volume}"
        ).strip()
        found[f"volume {volume} MB"] = int(engine.run("du", "-sb", place).split()[0]) / 1e6
    return found


def descendants(pid: int) -> list[int]:
    """Return a process and all that it started."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(word) for word in read(children).split()]
    return found


def read(path: Path) -> str:
    """Return the text of a file; nothing if its process has just ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


def resident(pid: int) -> int:
    """Return the bytes that a process alone has in memory, with its part of what is shared."""
    for line in read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    return 0


def open_files(pid: int) -> int:
    """Return the number of open files of a process."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def browse(ended: threading.Event, waits: list[float]) -> None:
    """Use MLflow as a person would: the page, experiments, runs; note how long each took."""
    search = {"max_results": 100, "experiment_ids": ["1", "2"]}
    while not ended.is_set():
        for path, body in (
            ("", None),
            ("api/2.0/mlflow/experiments/search?max_results=100", None),
            ("api/2.0/mlflow/runs/search", search),
        ):
            begun = time.monotonic()
            hospital.ask("mlflow", path, body=body)
            waits.append(time.monotonic() - begun)
            ended.wait(1)


def soak(minutes: float) -> dict[str, object]:
    """Return all measurements, and what grew by how much for every run."""
    identity = start()
    ended, waits = threading.Event(), list[float]()
    clients = [threading.Thread(target=browse, args=(ended, waits)) for _ in range(2)]
    for client in clients:
        client.start()
    rows = []
    begun = time.monotonic()
    while (now := time.monotonic() - begun) < 60 * minutes:
        runs = hospital.prefect("flow_runs/count", of(identity, ["COMPLETED"]))
        rows.append({"seconds": now, "runs": runs} | measure())
        time.sleep(max(0, EVERY - (time.monotonic() - begun - now)))
    ended.set()
    for client in clients:
        client.join()
    failed = hospital.prefect("flow_runs/count", of(identity, ["FAILED", "CRASHED"]))
    late = np.array([row["seconds"] for row in rows]) >= WARM * 60 * minutes
    runs = np.array([row["runs"] for row in rows])[late]
    names = [name for name in rows[0] if name not in ("seconds", "runs")]
    growth = {}
    for name in names:
        values = np.array([row[name] for row in rows])
        slope = float(np.polyfit(runs, values[late], 1)[0]) if len(set(runs)) > 1 else None
        growth[name] = {
            "first": values[0],
            "last": values[-1],
            "largest": values.max(),
            "per run": slope,
        }
    return {
        "minutes": minutes,
        "runs completed": rows[-1]["runs"],
        "runs failed": failed,
        "requests": len(waits),
        "median seconds of a request": float(np.median(waits)),
        "largest seconds of a request": max(waits),
        "growth": growth,
        "rows": rows,
    }


def of(identity: str, states: list[str]) -> dict[str, object]:
    """Return Prefect's filter for a deployment's runs in some states."""
    return {
        "deployments": {"id": {"any_": [identity]}},
        "flow_runs": {"state": {"type": {"any_": states}}},
    }


def table(result: dict) -> str:
    """Return the results in Markdown."""
    lines = [
        "# Half an hour of the hospital's stack",
        "",
        "`benchmarks/soak.py`: Podman, VARIANT=cpu, one small trial a minute by schedules, two "
        "clients at MLflow.",
        "",
        f"{result['minutes']:g} minutes, {result['runs completed']} runs completed, "
        f"{result['runs failed']} failed; {result['requests']} requests at MLflow, median "
        f"{result['median seconds of a request']:.2f} s, longest "
        f"{result['largest seconds of a request']:.1f} s.",
        "",
        "| | first | last | largest | growth for every run |",
        "|-|-|-|-|-|",
    ]
    for name, row in result["growth"].items():
        slope = "" if row["per run"] is None else f"{row['per run']:+.3f}"
        numbers = " | ".join(f"{row[key]:.1f}" for key in ("first", "last", "largest"))
        lines.append(f"| {name} | {numbers} | {slope} |")
    lines += [
        "",
        f"The growth is a straight line through all but the first {WARM:.0%} of the time. "
        "Memory is proportional set size; the worker's includes the flow that runs.",
        "",
        "![Memory, open files, databases and volumes over the time](soak.png)",
    ]
    return "\n".join([*lines, ""])


def figure(result: dict, path: Path) -> None:
    """Draw a panel for each kind of measurement."""
    kinds = {"memory MB": "MB", "open files": "", "database ": "MB", "volume ": "MB"}
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.5), sharex=True)
    minutes = [row["seconds"] / 60 for row in result["rows"]]
    for axis, (kind, unit) in zip(axes.flat, kinds.items(), strict=True):
        for name in result["growth"]:
            if name.startswith(kind) or name.endswith(kind):
                label = name.replace(kind, "").replace(" MB", "").strip()
                axis.plot(minutes, [row[name] for row in result["rows"]], label=label, lw=1)
        axis.set_title(kind.replace(" MB", "").strip())
        axis.set_ylabel(unit)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=7)
    for axis in axes[1]:
        axis.set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(folder: Path, minutes: float = 30) -> None:
    """Run, write and show."""
    engine.configure()
    if not containers("worker-cpu"):
        sys.exit("The stack is not up: MIMIC_REG_STACK=keep make stack")
    result = soak(minutes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.json").write_text(json.dumps(result, indent=1))
    (folder / "soak.md").write_text(table(result))
    figure(result, folder / "soak.png")
    subprocess.run(["cat", folder / "soak.md"], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(float, sys.argv[2:]))
