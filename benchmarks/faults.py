"""kill -9 of everything, at moments that seeds choose: does a restart end with the same result?

    python benchmarks/faults.py FOLDER [--target extraction …] [--seeds 12]

Each case starts a target, kills it up to three times, starts it again to its end, and compares with
an undisturbed run: `tests/faults/kills.py` says what is compared. Servers and worker are those of
docker/compose.yaml on a PostgreSQL of their own (`tests/docker/stack.py`). Results are added to
FOLDER/faults.json case by case, so that a run can be stopped and gone on with.
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mimic_reg.simulation.synthesis import synthesize  # noqa: E402
from tests.faults.kills import Case, Extraction, Sweep, Training  # noqa: E402
from tests.faults.services import Services  # noqa: E402
from tests.stores import write_store  # noqa: E402

COMPARED = (
    "store: every file's hash; run: history without costs, scores, predictions, best state, bit "
    "for bit; MLflow: each trial once, finished, every number, the champion; tables of the report"
)
PLAIN = {"extraction": 12, "training": 10, "sweep": 8}
WITH_SERVICES = {"mlflow": 8, "postgresql": 8, "worker": 8}  # seeds of each; a kill a seed


def machine():
    """The machine, in words."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    name = model[1] if model else platform.machine()
    return f"{len(os.sched_getaffinity(0))} cores of {name}, {platform.system()}"


def write(path, cases):
    """Add up and write."""
    summary = {}
    for case in cases:
        row = summary.setdefault(case["target"], {"cases": 0, "kills": 0, "starts": 0, "same": 0})
        row["cases"] += 1
        row["kills"] += case["kills"]
        row["starts"] += case["starts"]
        row["same"] += case["same"]
    content = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "compared": COMPARED,
        "kills": sum(case["kills"] for case in cases),
        "same": all(case["same"] for case in cases),
        "targets": summary,
        "cases": cases,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def undisturbed(target, folder, raw, store):
    """A target that is one process, with its undisturbed result."""
    shutil.rmtree(folder, ignore_errors=True)
    kinds = {"extraction": Extraction, "training": Training, "sweep": Sweep}
    return Case(kinds[target](raw if target == "extraction" else store, folder))


def main():
    """Run the cases that are not in the results yet."""
    every = PLAIN | WITH_SERVICES
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", nargs="*", choices=every, default=list(every))
    parser.add_argument("--seeds", type=int)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    results = given.folder / "faults.json"
    cases = json.loads(results.read_text())["cases"] if results.exists() else []
    done = {(case["target"], case["seed"]) for case in cases}
    raw, store = given.folder / "raw", given.folder / "store"
    if not raw.exists():
        synthesize(raw, patients=1500)
        write_store(store, num_subjects=60, hours=(48, 50))
    services = None
    try:
        for target in given.target:
            open_seeds = [s for s in range(given.seeds or every[target]) if (target, s) not in done]
            case = None
            for seed in open_seeds:
                if target in WITH_SERVICES:
                    services = services or Services(store)
                    fell = services.fall(target, seed)
                else:
                    folder = given.folder / target
                    case = case or undisturbed(target, folder, raw, store)
                    fell = case.fall(seed)
                    shutil.rmtree(folder / f"seed{seed}")
                print(fell, flush=True)
                cases.append(asdict(fell))
                write(results, cases)
    finally:
        if services:
            services.stack.down()


if __name__ == "__main__":
    main()
