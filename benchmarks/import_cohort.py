"""How much memory and time `mimic-reg import-cohort` takes, by rows, --memory and file format.

    python benchmarks/import_cohort.py [--rows 1000000] [--memory 1GB] [--out results.json]

Writes random tables with 48 variables, a third of whose cells are empty, in stays of 48 hours; then
imports them as .parquet in the order of stays, as .parquet in random order, and as .csv.gz. Every
import is a process of its own, whose peak resident memory is measured.
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

VARIABLES, HOURS = 48, 48
FORMS = ("sorted.parquet", "shuffled.parquet", "sorted.csv.gz")


def write(folder: Path, rows: int, form: str) -> None:
    """Write dyn, sta and outc."""
    rng = np.random.default_rng(0)
    stays = rows // HOURS
    order, suffix = form.split(".", 1)
    keys = {
        "stay_id": np.repeat(np.arange(stays), HOURS),
        "time": np.tile(np.arange(HOURS, dtype=np.float64), stays),
    }
    values = {}
    for number in range(VARIABLES):
        column = pl.Series(rng.normal(100, 10, stays * HOURS).round(2))
        values[f"v{number}"] = column.set(pl.Series(rng.random(len(column)) < 1 / 3), None)
    dyn = pl.DataFrame({**keys, **values})
    if order == "shuffled":
        dyn = dyn.sample(fraction=1.0, shuffle=True, seed=0)
    folder.mkdir()
    if suffix == "parquet":
        dyn.write_parquet(folder / "dyn.parquet")
    else:
        dyn.write_csv(folder / "dyn.csv.gz", compression="gzip")
    ids = pl.DataFrame({"stay_id": np.arange(stays)})
    ids.with_columns(age=pl.Series(rng.normal(60, 10, stays))).write_parquet(folder / "sta.parquet")
    label = pl.Series(rng.integers(0, 2, stays))
    ids.with_columns(label=label).write_parquet(folder / "outc.parquet")


def measure(folder: Path, out: Path, memory: str) -> dict[str, float]:
    """Import in a process of its own; return its seconds and its peak resident memory."""
    command = [sys.executable, "-m", "mimic_reg", "import-cohort", str(folder)]
    begin = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--out", str(out), "--memory", memory, "--quiet"], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"import-cohort failed on {folder}")
    return {"seconds": round(time.perf_counter() - begin, 1), "peak_gb": used.ru_maxrss / 1e6}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--memory", action="append")
    parser.add_argument("--form", action="append", choices=FORMS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = []
    for rows in given.rows or [1_000_000, 3_000_000]:
        for form in given.form or FORMS:
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary, "cohort")
                # a process of its own: Linux counts a parent's peak as one of its children
                writing = multiprocessing.get_context("spawn").Process(
                    target=write, args=(folder, rows, form)
                )
                writing.start()
                writing.join()
                for memory in given.memory or ["1GB", "4GB"]:
                    line = {"rows": rows, "variables": VARIABLES, "form": form, "memory": memory}
                    line |= measure(folder, Path(temporary, memory), memory)
                    print(line, flush=True)
                    found.append(line)
    if given.out:
        machine = {"date": str(date.today()), "cpus": os.cpu_count(), "machine": platform.machine()}
        given.out.write_text(json.dumps({**machine, "imports": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
