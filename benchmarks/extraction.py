"""How fast and how large `mimic-reg extract` is, beside a bare scan of the same CHARTEVENTS.

    python benchmarks/extraction.py --source DIR --scale 10 --scale 40 [--out results.json]
    python benchmarks/extraction.py --source DIR --form csv --rounds 1 --scale 40 --scale 120 \
        --scale 400

Copies the tables in DIR (the MIMIC-III demo) `scale` times, with fresh subject, admission and stay
ids, as .csv and as .csv.gz; then, in one run and taking turns, measures

- the command `mimic-reg extract` as a whole: start-up, four tasks, hourly arrays, writing; its peak
  memory, its store's size, and the seconds of its stages;
- a bare Polars scan of CHARTEVENTS: filter by item, parse the time, keep seven columns;
- for .csv.gz, unpacking the three event tables alone, by gzip and by ISA-L.

Every measurement is a process of its own; the median of the rounds counts. With several scales, the
seconds per million chart events of the largest over the smallest say whether growth is linear.

At scale 400, about MIMIC-III's size, the .csv need 34 GB. They are written piece by piece, so the
disk holds them once. `--form gz` writes .csv.gz only: 4 GB.

    python benchmarks/extraction.py --source DIR --syncs [--rounds 9] [--out results.json]

measures instead what it costs to bring every file to the disk before it counts as written: the same
extraction with and without syncs, taking turns; it is added to the results.

    python benchmarks/extraction.py --as mimic-iv --patients 1000 [--rounds 5] [--out results.json]

measures instead the CPU seconds per million rows of MIMIC-III and MIMIC-IV, without start-up: the
same simulated patients, charted in MetaVision, in the tables of both, taking turns; it is added to
the results.
"""

import argparse
import gzip
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from isal import igzip

from mimic_reg import extraction
from mimic_reg.clinical.datasets import EVENT_TABLES, MIMIC_III
from mimic_reg.simulation.synthesis import synthesize
from mimic_reg.sources.mimic3 import find_tables

SCAN = """
import sys, time
import polars as pl
from mimic_reg.clinical.events import items
begin = time.perf_counter()
text = dict.fromkeys(("charttime", "value", "valueuom"), pl.String)
columns = ("subject_id", "hadm_id", "icustay_id", "itemid", "value", "valueuom")
pl.scan_csv(sys.argv[1], schema_overrides=text).filter(
    pl.col("itemid").is_in(items("benchmark")["itemid"].implode())
).select(*columns, pl.col("charttime").str.to_datetime("%Y-%m-%d %H:%M:%S")).collect(
    engine="streaming"
)
print(time.perf_counter() - begin)
"""
WITHOUT_SYNCS = """
import os
from mimic_reg.store import atomic
from mimic_reg.cli import main
os.fsync = atomic._sync_file_system = lambda place: None
main()
"""
# Ids of the copies are this far apart; the demo's are below it.
ID_STEP = 1_000_000


def scale(source: Path, times: int, out: Path, *, packed: bool = False) -> None:
    """Write `times` copies of the tables into `out`, with ids of their own, copy by copy."""
    out.mkdir()
    for name, table in find_tables(source).items():
        frame = pl.read_csv(table.path, infer_schema=False)
        frame = frame.rename({c: c.lower() for c in frame.columns})
        ids = [c for c in ("subject_id", "hadm_id", "icustay_id") if c in frame.columns]
        path = out / (f"{name}.csv.gz" if packed else f"{name}.csv")
        with igzip.open(path, "wb") if packed else path.open("wb") as file:
            for copy in range(times if ids else 1):
                shift = [(pl.col(c).cast(pl.Int64) + copy * ID_STEP).cast(pl.String) for c in ids]
                frame.with_columns(shift).write_csv(file, include_header=copy == 0)


def check_room(args: argparse.Namespace, times: int) -> None:
    """End if the disk cannot hold the copies, and as much again of what the extraction writes."""
    sizes = {"csv": 85e6, "gz": 10e6}  # of a copy of the demo
    need = times * (sum(sizes[form] for form in args.form) + 15e6)
    free = shutil.disk_usage(args.tmp or tempfile.gettempdir()).free
    if free < need:
        raise SystemExit(
            f"Scale {times} needs about {need / 1e9:.0f} GB, but {free / 1e9:.0f} GB are free. Use "
            "--form gz, a smaller scale, or --tmp on another disk."
        )


def pack(source: Path, out: Path) -> None:
    """The same tables as .csv.gz, at gzip's default level, as PhysioNet's are."""
    out.mkdir()
    for path in source.iterdir():
        with path.open("rb") as file, gzip.open(out / f"{path.name}.gz", "wb", 6) as packed:
            shutil.copyfileobj(file, packed, 1 << 20)


class Measured(NamedTuple):
    """A process that ended: wall and processor seconds, peak memory in MB, what it wrote."""

    wall: float
    cpu: float
    peak: float
    text: str


def measured(command: list[str]) -> Measured:
    """Run a command; its text is its output, then what it wrote as errors."""
    begin = time.perf_counter()
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said) as child,
    ):
        assert child.stdout
        text = child.stdout.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text += said.read().decode()
    if child.returncode:
        raise SystemExit(f"{' '.join(command[:3])} … failed: {text[-500:]}")
    wall, cpu = time.perf_counter() - begin, usage.ru_utime + usage.ru_stime
    return Measured(wall, cpu, usage.ru_maxrss / 1e3, text)


def extract(source: Path, folder: Path, memory: str, *, synced: bool = True) -> Measured:
    """One extraction into a fresh store."""
    store = folder / "store"
    shutil.rmtree(store, ignore_errors=True)
    options = ["--source", str(source), "--out", str(store), "--memory", memory]
    program = [str(Path(sys.executable).parent / "mimic-reg")]
    if not synced:
        program = [sys.executable, "-c", WITHOUT_SYNCS]
    return measured([*program, "extract", *options])


_UNITS = {"s": 1, "min": 60, "h": 3600}


def stages(text: str) -> dict[str, float]:
    """Seconds of the stages, as the command prints them."""
    found = re.findall(r"^(\w+) +([\d.,]+) (s|min|h)\b", text, re.MULTILINE)
    return {f"{name}_s": float(n.replace(",", "")) * _UNITS[unit] for name, n, unit in found}


def syncs(args: argparse.Namespace, times: int) -> dict[str, Any]:
    """What syncing costs: medians, and the median of each round's ratio."""
    with tempfile.TemporaryDirectory(dir=args.tmp) as name:
        folder = Path(name)
        scale(args.source, times, folder / "plain")
        found: dict[bool, list[float]] = {True: [], False: []}
        for number in range(args.rounds):
            for synced in (number % 2 == 0, number % 2 == 1):
                os.sync()  # so that none pays for what another left
                found[synced].append(
                    extract(folder / "plain", folder, args.memory, synced=synced).wall
                )
    ratios = [a / b for a, b in zip(found[True], found[False], strict=True)]
    return {
        "date": date.today().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "scale": times,
        "rounds": args.rounds,
        "extract_s": statistics.median(found[True]),
        "without_syncs_s": statistics.median(found[False]),
        "ratio": statistics.median(ratios),
        "ratios": sorted(round(ratio, 3) for ratio in ratios),
    }


def per_row(args: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds per million rows of both data sets: medians, and the median round's ratio."""
    with tempfile.TemporaryDirectory(dir=args.tmp) as name:
        folder = Path(name)
        rows = {
            form: sum(
                synthesize(
                    folder / form, patients=args.patients, form=form, carevue=False
                ).rows.values()
            )
            for form in ("mimic-iii", args.other)
        }
        found: dict[str, list[float]] = {form: [] for form in rows}
        for number in range(args.rounds):
            for form in sorted(rows, reverse=number % 2 == 1):
                shutil.rmtree(folder / "store", ignore_errors=True)
                begin = time.process_time()
                extraction.extract(folder / form, folder / "store")
                found[form].append((time.process_time() - begin) / rows[form] * 1e6)
    ratios = [b / a for a, b in zip(*found.values(), strict=True)]
    return {
        "date": date.today().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "rounds": args.rounds,
        "rows": rows,
        "cpu_seconds_per_million_rows": {f: statistics.median(v) for f, v in found.items()},
        "ratio": statistics.median(ratios),
        "ratios": sorted(round(ratio, 3) for ratio in ratios),
    }


def unpack_seconds(source: Path) -> dict[str, float]:
    """Seconds to unpack the event tables, by gzip and by ISA-L."""
    files = [source / f"{name}.csv.gz" for name in EVENT_TABLES]
    begin = time.perf_counter()
    for file in files:
        subprocess.run(["gzip", "-dc", file], stdout=subprocess.DEVNULL, check=True)
    gzipped = time.perf_counter() - begin
    begin = time.perf_counter()
    for file in files:
        with igzip.open(file, "rb") as unpacked:
            while unpacked.read(1 << 22):
                pass
    return {"gzip": gzipped, "isal": time.perf_counter() - begin}


def rounds(places: dict[str, Path], folder: Path, memory: str, number: int) -> dict[str, Any]:
    """Medians of `number` rounds; within a round everything is measured once, in turn."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for _ in range(number):
        if "csv" in places:
            table = str(places["csv"] / "CHARTEVENTS.csv")
            bare = measured([sys.executable, "-c", SCAN, table])
            note("scan_s", float(bare.text.split()[0]))
            note("scan_cpu_s", bare.cpu)
        for form, source in places.items():
            done = extract(source, folder, memory)
            note(f"extract_{form}_s", done.wall)
            note(f"extract_{form}_cpu_s", done.cpu)
            note(f"extract_{form}_peak_mb", done.peak)
            for stage, seconds in stages(done.text).items():
                note(f"extract_{form}_{stage}", seconds)
        if "gz" in places:
            for tool, seconds in unpack_seconds(places["gz"]).items():
                note(f"unpack_{tool}_s", seconds)
    result = {name: statistics.median(values) for name, values in found.items()}
    for form, bare in (("csv", "scan"), ("gz", "unpack_gzip"), ("gz", "unpack_isal")):
        if form in places:
            name = "extract" if form == "csv" else "extract_gz"
            result[f"{name}/{bare}"] = result[f"extract_{form}_s"] / result[f"{bare}_s"]
    return result


def scales(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One result a scale."""
    for times in args.scale:
        check_room(args, times)
        with tempfile.TemporaryDirectory(dir=args.tmp) as name:
            folder = Path(name)
            places = {form: folder / form for form in args.form}
            if "csv" in places:
                scale(args.source, times, places["csv"])
                if "gz" in places:
                    pack(places["csv"], places["gz"])
            else:
                scale(args.source, times, places["gz"], packed=True)
            sizes = {
                f"chartevents_{form}_mb": path.stat().st_size / 1e6
                for form, place in places.items()
                for path in place.glob("CHARTEVENTS.*")
            }
            found = rounds(places, folder, args.memory, args.rounds)
            store = sum(p.stat().st_size for p in (folder / "store").rglob("*") if p.is_file())
            audit = json.loads((folder / "store" / "audit.json").read_text())
            rows = sum(audit["events"]["CHARTEVENTS"].values())
            yield {
                "scale": times,
                "chartevents_rows": rows,
                **sizes,
                **found,
                "store_mb": store / 1e6,
                **{
                    f"{form}_s_per_million_rows": found[f"extract_{form}_s"] / rows * 1e6
                    for form in places
                },
            }


def growth(results: list[dict[str, Any]], forms: list[str]) -> dict[str, float]:
    """Seconds per million rows at the largest scale over those at the smallest; 1: linear."""
    ordered = sorted(results, key=lambda result: result["scale"])
    names = [f"{form}_s_per_million_rows" for form in forms]
    return {f"growth_{name}": ordered[-1][name] / ordered[0][name] for name in names}


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, help="the tables to copy")
    parser.add_argument("--scale", type=int, action="append", help="copies; may be repeated")
    parser.add_argument("--form", choices=["csv", "gz", "both"], default="both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--syncs", action="store_true", help="measure what syncing costs")
    parser.add_argument("--as", dest="other", choices=["mimic-iv"], help="compare this data set")
    parser.add_argument("--patients", type=int, default=1000, help="simulated, for --as")
    parser.add_argument("--memory", default="4GB", help="passed on to `mimic-reg extract`")
    parser.add_argument("--tmp", help="folder for the copies")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    args.scale = args.scale or [10]
    args.form = ["csv", "gz"] if args.form == "both" else [args.form]
    if not (args.source or args.other):
        parser.error("give --source, or --as")
    if args.syncs or args.other:
        content = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
        what = args.other or "syncs"
        content[what] = (
            per_row(args) if args.other else [syncs(args, times) for times in args.scale]
        )
        print(json.dumps(content[what], indent=1))
        if args.out:
            args.out.write_text(json.dumps(content, indent=1) + "\n")
        return
    results = []
    for result in scales(args):
        results.append(result)
        for name, value in result.items():
            print(f"{name:<32}{value:>14,.2f}", flush=True)
        print()
    if len(results) > 1:
        for name, value in growth(results, args.form).items():
            print(f"{name:<32}{value:>12,.2f}")
    if args.out:
        about = {
            "date": date.today().isoformat(),
            "command": " ".join(["python", *sys.argv]),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "polars": pl.__version__,
            "tables": list(MIMIC_III.tables),
        }
        args.out.write_text(json.dumps(about | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
