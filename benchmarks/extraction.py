"""How fast and how large `mimic-reg extract` is, beside a bare scan of the same CHARTEVENTS.

    python benchmarks/extraction.py --source DIR --scale 10 --scale 40 [--out results.json]

Copies the tables in DIR (the MIMIC-III demo) `scale` times, with fresh subject, admission and stay
ids, as .csv and as .csv.gz; then, in one run and taking turns, measures

- the command `mimic-reg extract` as a whole: start-up, four tasks, hourly arrays, writing;
- a bare Polars scan of CHARTEVENTS: filter by item, parse the time, keep seven columns;
- for .csv.gz, unpacking the three event tables alone, by gzip and by ISA-L.

Every measurement is a process of its own; the median of the rounds counts.

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
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

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


def scale(source: Path, times: int, out: Path) -> None:
    """Write `times` copies of the tables into `out`, with ids of their own."""
    out.mkdir()
    for name, table in find_tables(source).items():
        frame = pl.read_csv(table.path, infer_schema=False)
        frame = frame.rename({c: c.lower() for c in frame.columns})
        ids = [c for c in ("subject_id", "hadm_id", "icustay_id") if c in frame.columns]
        with (out / f"{name}.csv").open("wb") as file:
            for copy in range(times if ids else 1):
                shift = [(pl.col(c).cast(pl.Int64) + copy * ID_STEP).cast(pl.String) for c in ids]
                frame.with_columns(shift).write_csv(file, include_header=copy == 0)


def pack(source: Path, out: Path) -> None:
    """The same tables as .csv.gz, at gzip's default level, as PhysioNet's are."""
    out.mkdir()
    for path in source.iterdir():
        with path.open("rb") as file, gzip.open(out / f"{path.name}.gz", "wb", 6) as packed:
            shutil.copyfileobj(file, packed, 1 << 20)


def measured(command: list[str]) -> tuple[float, float, str]:
    """Wall seconds, peak memory in MB and output of a process."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout
        text = child.stdout.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command[:3])} … failed with exit code {child.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1e3, text


def extract(source: Path, folder: Path, memory: str, *, synced: bool = True) -> tuple[float, float]:
    """Seconds and MB of one extraction into a fresh store."""
    store = folder / "store"
    shutil.rmtree(store, ignore_errors=True)
    options = ["--source", str(source), "--out", str(store), "--memory", memory]
    program = [str(Path(sys.executable).parent / "mimic-reg")]
    if not synced:
        program = [sys.executable, "-c", WITHOUT_SYNCS]
    seconds, peak, _ = measured([*program, "extract", *options])
    return seconds, peak


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
                    extract(folder / "plain", folder, args.memory, synced=synced)[0]
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
            for form in ("mimic-iii", args.form)
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


def rounds(plain: Path, packed: Path, folder: Path, memory: str, number: int) -> dict[str, Any]:
    """Medians of `number` rounds; within a round everything is measured once, in turn."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for _ in range(number):
        note("scan_s", float(measured([sys.executable, "-c", SCAN, f"{plain}/CHARTEVENTS.csv"])[2]))
        for kind, source in (("csv", plain), ("gz", packed)):
            seconds, peak = extract(source, folder, memory)
            note(f"extract_{kind}_s", seconds)
            note(f"extract_{kind}_peak_mb", peak)
        for tool, seconds in unpack_seconds(packed).items():
            note(f"unpack_{tool}_s", seconds)
    result = {name: statistics.median(values) for name, values in found.items()}
    return result | {
        "extract/scan": result["extract_csv_s"] / result["scan_s"],
        "extract_gz/unpack_gzip": result["extract_gz_s"] / result["unpack_gzip_s"],
        "extract_gz/unpack_isal": result["extract_gz_s"] / result["unpack_isal_s"],
    }


def scales(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One result a scale."""
    for times in args.scale:
        with tempfile.TemporaryDirectory(dir=args.tmp) as name:
            folder = Path(name)
            scale(args.source, times, folder / "plain")
            pack(folder / "plain", folder / "packed")
            megabytes = (folder / "plain" / "CHARTEVENTS.csv").stat().st_size / 1e6
            measured_here = rounds(
                folder / "plain", folder / "packed", folder, args.memory, args.rounds
            )
            yield {"scale": times, "chartevents_mb": megabytes, **measured_here}


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, help="the tables to copy")
    parser.add_argument("--scale", type=int, action="append", help="copies; may be repeated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--syncs", action="store_true", help="measure what syncing costs")
    parser.add_argument("--as", dest="form", choices=["mimic-iv"], help="compare this data set")
    parser.add_argument("--patients", type=int, default=1000, help="simulated, for --as")
    parser.add_argument("--memory", default="4GB", help="passed on to `mimic-reg extract`")
    parser.add_argument("--tmp", help="folder for the copies")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    args.scale = args.scale or [10]
    if not (args.source or args.form):
        parser.error("give --source, or --as")
    if args.syncs or args.form:
        content = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
        what = args.form or "syncs"
        content[what] = per_row(args) if args.form else [syncs(args, times) for times in args.scale]
        print(json.dumps(content[what], indent=1))
        if args.out:
            args.out.write_text(json.dumps(content, indent=1) + "\n")
        return
    results = []
    for result in scales(args):
        results.append(result)
        for name, value in result.items():
            print(f"{name:<26}{value:>12,.2f}")
        print()
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
