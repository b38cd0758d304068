"""kill -9 and power cuts, at moments that seeds choose: does a restart end with the same result?

    python benchmarks/faults.py FOLDER [--target extraction …] [--seeds 12]
    python benchmarks/faults.py FOLDER --bit-flips 20

Each case starts a target, kills it up to three times, starts it again to its end, and compares with
an undisturbed run: `tests/faults/kills.py` says what is compared. Servers and worker are those of
docker/compose.yaml on a PostgreSQL of their own (`tests/docker/stack.py`). The targets `power_…`
lose their power instead, on a file system of their own (`tests/faults/power.py`; as root): three
times while they run, and once as soon as they say that they are done. Results are added to
FOLDER/faults.json case by case, so that a run can be stopped and gone on with.

Bit flips: one bit, chosen by a seed, in a file of every kind, so many times; then the file is used
(`tests/faults/flips.py` says how). It must be refused, or change nothing. At the end, how long the
hash of a large table takes.
    python benchmarks/faults.py FOLDER --changes [SEEDS]

Instead, tables change underneath an extraction, or after a kill and before the next start:
`tests/faults/changes.py` says how, and what must come of it. Under the key "changes".
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mimic_reg.simulation.synthesis import synthesize  # noqa: E402
from mimic_reg.store import forget_hashes, known_hash  # noqa: E402
from tests.faults.changes import STAGES, TABLES, Underneath, every_case  # noqa: E402
from tests.faults.flips import kinds  # noqa: E402
from tests.faults.kills import Case, Extraction, Sweep, Training  # noqa: E402
from tests.faults.power import Cuts  # noqa: E402
from tests.faults.services import Services  # noqa: E402
from tests.stores import write_store  # noqa: E402

COMPARED = (
    "store: every file's hash; run: history without costs, scores, predictions, best state, bit "
    "for bit; MLflow: each trial once, finished, every number, the champion; tables of the report"
)
PLAIN = {"extraction": 12, "training": 10, "sweep": 8}
POWER = {"power_extraction": 6, "power_training": 6}  # seeds of each; up to four cuts a seed
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
    before = json.loads(path.read_text()) if path.exists() else {}
    content = before | {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "compared": COMPARED,
        "kills": sum(case["kills"] for case in cases if case["target"] not in POWER),
        "power_cuts": sum(case["kills"] for case in cases if case["target"] in POWER),
        "same": all(case["same"] for case in cases),
        "targets": summary,
        "cases": cases,
    }
    merge(path, content)


def merge(path, content):
    """Write keys into the results; the others stay."""
    there = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps(there | content, indent=1) + "\n", "utf-8")


def change_underneath(folder, seeds):
    """Every table, stage and kind of change, `seeds` times; counts of how each ended, by kind."""
    raw, place = folder / "raw_changes", folder / "changes"
    if not raw.exists():
        synthesize(raw, patients=40)
        (raw / "true_risk.json").unlink()
    underneath = Underneath(raw, place)
    ends = {}
    for seed, table, stage, kind, share in every_case(seeds):
        if share is None:
            end = underneath.between(table, stage, kind)
        else:
            end = underneath.fall(table, stage, kind, share * underneath.seconds[stage])
        ends.setdefault(kind, Counter())[end] += 1
        print(seed, table, stage, kind, share, end, flush=True)
    total = sum(ends.values(), Counter())
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "compared": (
            "refused: exit with the file's name, nothing published; after: the change came when "
            "all was read, the store is that of the table before; redone: killed, changed, started "
            "again; each time the next extraction equals a fresh one of the changed tables, every "
            "file's hash, and the one after finds nothing to do"
        ),
        "cases": total.total(),
        "right": total.total(),  # a wrong one stops the run
        "ends": dict(total),
        "kinds": {kind: dict(counts) for kind, counts in ends.items()},
        "tables": list(TABLES),
        "stages": list(STAGES),
    }


def bit_flips(folder, each):
    """Flip bits in every kind of file; what came of each kind, and what the check costs."""
    place = folder / "bit_flips"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    rows = {}
    for name, kind in kinds(place).items():
        came = Counter(kind.flip(f"{name} {number}") for number in range(each))
        rows[name] = {"flips": each, **came}
        print(name, dict(came), flush=True)
    shutil.rmtree(place)
    total = Counter()
    for row in rows.values():
        total.update(row)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        **total,
        "passed": total["PASSED"],
        "kinds": rows,
        "check": cost_of_hash(folder / "large"),
    }


def cost_of_hash(path, size=1 << 30):
    """Seconds to hash a file of random bytes: anew, from memory, and once more in the process."""
    with path.open("wb") as file:
        for _ in range(size >> 26):
            file.write(os.urandom(1 << 26))
    os.sync()
    os.utime(path, (1, 1))
    time.sleep(3)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    seconds = {}
    for what in ("from_disk", "from_memory"):
        forget_hashes()
        began = time.perf_counter()
        known_hash(path)
        seconds[what] = round(time.perf_counter() - began, 3)
    began = time.perf_counter()
    known_hash(path)
    seconds["again_in_a_process"] = round(time.perf_counter() - began, 6)
    path.unlink()
    return {"bytes": size, "seconds": seconds}


def undisturbed(target, folder, raw, store):
    """A target that is one process, with its undisturbed result."""
    shutil.rmtree(folder, ignore_errors=True)
    kinds = {"extraction": Extraction, "training": Training, "sweep": Sweep}
    plain = target.removeprefix("power_")
    case = Case if plain == target else Cuts
    return case(kinds[plain](raw if plain == "extraction" else store, folder))


def main():
    """Run the cases that are not in the results yet."""
    every = PLAIN | POWER | WITH_SERVICES
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", nargs="*", choices=every, default=list(every))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--bit-flips", type=int, metavar="EACH", help="this, and nothing else")
    parser.add_argument("--changes", type=int, nargs="?", const=1, metavar="SEEDS")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    results = given.folder / "faults.json"
    if given.bit_flips:
        merge(results, {"bit_flips": bit_flips(given.folder, given.bit_flips)})
        return
    if given.changes:
        merge(results, {"changes": change_underneath(given.folder, given.changes)})
        return
    cases = json.loads(results.read_text()).get("cases", []) if results.exists() else []
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
