"""The commands that make and check stores: parse, call, print."""

from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mimic_reg.cli.audit import SPLIT_NAMES, print_audit, print_samples
from mimic_reg.cli.cohorts import synthesize_ricu
from mimic_reg.cli.command import Result
from mimic_reg.cli.options import (
    MemoryOption,
    SourceOption,
    StoreArgument,
    StoreOut,
    listed,
    there,
)
from mimic_reg.console import err, out, progress, say, table
from mimic_reg.errors import InputError, MimicRegError


class Form(StrEnum):
    """Which tables `synthesize` writes."""

    mimic_iii = "mimic-iii"
    mimic_iv = "mimic-iv"
    ricu = "ricu"


class Mode(StrEnum):
    """Which rules the extraction follows."""

    benchmark = "benchmark"
    corrected = "corrected"


def extract(
    source: SourceOption,
    store: StoreOut,
    tasks: Annotated[
        list[str] | None,
        typer.Option(help="Tasks of the store; by default all.", metavar="A,B"),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="benchmark: the published cohorts, with their known defects. "
            "corrected: four of the defects are repaired.",
            metavar="benchmark|corrected",
        ),
    ] = Mode.benchmark,
    memory: MemoryOption = "4GB",
    force: Annotated[
        bool, typer.Option("--force", help="Extract even if the store is up to date.")
    ] = False,
    allow_empty: Annotated[
        list[str] | None,
        typer.Option(
            help="Event tables that are allowed to have no rows, such as CHARTEVENTS.",
            metavar="A,B",
        ),
    ] = None,
) -> Any:
    """Extract the benchmark's cohorts from MIMIC-III's or MIMIC-IV's tables into a store.

    A source with hosp/ and icu/ is MIMIC-IV (2.0 or later). Its cohort, mimic-iv, follows the
    benchmark's rules but is not the published benchmark; it needs mimic-reg[mimic-iv].

    The tables are read once, block by block. The same command continues where it was stopped; on
    an unchanged source it does nothing.
    """
    from mimic_reg import extraction
    from mimic_reg.extraction.memory import parse_memory

    with progress(err) as shown:
        result = extraction.extract(
            source,
            store,
            task_names=listed(tasks) or None,
            mode=mode.value,
            memory=parse_memory(memory),
            force=force,
            allow_empty=[name.upper() for name in listed(allow_empty)],
            progress=shown,
        )
    seconds = sum(result.seconds.values())
    content = {
        "store": store,
        "status": result.status,
        "seconds": seconds,
        "cohort": result.store.spec.name,
        "fingerprint": result.store.manifest["fingerprint"],
        "audit": result.audit,
    }
    if result.status == "unchanged":
        say(f"{store} is up to date: the source is unchanged. Nothing was done.")
        say("To extract it again anyway, add --force.")
        return content
    say(f"Cohort: {result.store.spec.name}.")
    print_audit(result.audit)
    say(f"Wrote {store} in {seconds:,.1f} s ({mode.value} mode).")
    if "published" not in result.store.spec.normalizers:
        say(
            f"The cohort is {result.store.spec.name}, not the published benchmark. Train with "
            "--set training.normalizer=fitted: there is no published normaliser for it."
        )
    elif mode is Mode.benchmark:
        say(
            "If the source is MIMIC-III, check that the cohorts are the published ones: "
            f"mimic-reg verify {store} --published"
        )
    return content


def verify(
    store: StoreArgument,
    published: Annotated[
        bool,
        typer.Option(
            "--published", help="Compare with the hashes published for the full MIMIC-III."
        ),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Compare with the output of the reference code: root/ and its task folders.",
            metavar="DIR",
        ),
    ] = None,
    details: Annotated[
        Path | None,
        typer.Option(help="CSV file for the differences of each stay.", metavar="FILE"),
    ] = None,
) -> Any:
    """Check that a store is intact, and that its cohorts are the published ones.

    Without an option it compares the store's files with the hashes in its manifest. The exit code
    is 1 if anything differs.
    """
    from mimic_reg.parity.compare import compare
    from mimic_reg.parity.published import verify_published
    from mimic_reg.store import Store

    _check_details(details, published, against)
    opened = Store.open(store)
    if changed := opened.changed_files():
        raise MimicRegError(
            f"{store}: {', '.join(changed)} changed since it was written. Extract it again."
        )
    content: dict[str, Any] = {"store": store, "files": len(opened.manifest["files"])}
    say(f"{content['files']} files of the store are unchanged since it was written.")
    same = True
    with progress(err) as shown:
        if published:
            report = verify_published(opened, shown)
            _print_published(report)
            _write_details(report.stays, details)
            content["published"] = {"identical": report.identical, "kinds": report.kinds}
            same &= report.identical
        if against:
            found = compare(opened, against, shown)
            _print_comparison(found)
            _write_details(found.differences, details)
            summary = found.summary().to_dicts()
            content["against"] = {"identical": found.identical, "differences": summary}
            same &= found.identical
    return Result({**content, "same": same}, 0 if same else 1)


def _print_published(report: Any) -> None:
    names = {
        "in_hospital_mortality": "in-hospital mortality (first 48 h)",
        "whole_stay": "other tasks (whole stay)",
    }
    rows = [
        [names[kind], c.matching, c.differing, c.unpublished, c.absent]
        for kind, c in report.kinds.items()
    ]
    columns = ["time series", "identical", "different", "not published", "not in this store"]
    out.print(table("Time series and the hashes published in 2019", columns, rows))
    if not report.identical:
        say("This is NOT the published benchmark: see the columns above.")
    elif all(c.complete for c in report.kinds.values()):
        say("This is the published benchmark: every time series, and no other.")
    else:
        absent = max(c.absent for c in report.kinds.values())
        say(
            "Every time series of this store has its published hash. The store is a part of the "
            f"benchmark: it lacks {absent:,} of the published time series."
        )


def _print_comparison(report: Any) -> None:
    files = ", ".join(f"{folder} {count:,}" for folder, count in report.files.items())
    say(f"Compared time series: {files or 'none'}.")
    samples = ", ".join(f"{folder} {count:,}" for folder, count in report.samples.items())
    say(f"Compared samples: {samples or 'none'}.")
    if report.absent:
        say(f"The folders lack: {', '.join(report.absent)}.")
    if report.unknown:
        say(f"The store lacks: {', '.join(report.unknown)}.")
    rows = [
        [folder, kind, channel or "", stays, count]
        for folder, kind, channel, stays, count in report.summary().iter_rows()
    ]
    if rows:
        out.print(table("Differences", ["folder", "kind", "channel", "stays", "count"], rows))
    out.print("Identical." if report.identical else "NOT identical.")


def _check_details(path: Path | None, published: bool, against: Path | None) -> None:
    if path and published == bool(against):
        raise InputError("--details is for one comparison. Give either --published or --against.")
    if path and not path.absolute().parent.is_dir():
        raise InputError(f"--details {path}: there is no folder {path.parent}. Make it first.")


def _write_details(frame: Any, path: Path | None) -> None:
    from mimic_reg.store import atomic, disk_errors

    if path:
        with disk_errors(path), atomic.writing(path, mode=atomic.PRIVATE) as file:
            frame.write_csv(file)
        say(f"Wrote {frame.height:,} rows to {path}. They have ids of stays.")


def export_benchmark(
    store: StoreArgument,
    folder: Annotated[
        Path, typer.Option("--out", help="New or empty folder for the files.", metavar="DIR")
    ],
) -> Any:
    """Write a store as the files of the reference code, byte for byte."""
    from mimic_reg.parity.export import export
    from mimic_reg.store import Store

    with progress(err) as shown:
        written = export(Store.open(store), folder, shown)
    rows = [
        [name, count, written.samples.get(name.replace("-", "_"), "")]
        for name, count in written.files.items()
    ]
    out.print(table("Written", ["folder", "files", "samples"], rows))
    say(f"Wrote {written.folder} in {written.seconds:,.1f} s.")
    return {"folder": written.folder, "files": written.files, "samples": written.samples}


def import_benchmark(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Output of the reference code: root/ and its task folders.",
            metavar="DIR",
            callback=there,
        ),
    ],
    store: StoreOut,
) -> Any:
    """Make a store from the output of the reference code, without the raw tables.

    Columns that those files lack are empty in the store: times of admission and death, diagnoses.
    """
    from mimic_reg.parity import importing
    from mimic_reg.store import read_json

    with progress(err) as shown:
        opened = importing.import_benchmark(folder, store, shown)
    audit = read_json(opened.path("audit.json"))
    print_samples(audit)
    say(f"Wrote {store}.")
    return {"store": store, "samples": audit["samples"]}


def import_images(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Fashion-MNIST, CIFAR-10 or STL-10 as distributed, or train/CLASS/*.jpg and "
            "test/CLASS/*.jpg.",
            metavar="DIR",
        ),
    ],
    store: StoreOut,
    validation: Annotated[
        int | None,
        typer.Option(
            help="Training images kept for validation; by default as in the paper.", metavar="N"
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Resize pictures to N x N pixels.", min=1, metavar="N")
    ] = None,
    download: Annotated[
        str | None,
        typer.Option(
            help="Download into the folder first: fashion_mnist, cifar10 or stl10.",
            metavar="NAME",
        ),
    ] = None,
) -> Any:
    """Make a store of images, split as in the paper.

    On the same images a second run does nothing.
    """
    if not download:
        there(folder)
    from mimic_reg.sources import images

    with progress(err) as shown:
        if download:
            images.download(download, folder)
        opened = images.import_images(
            folder, store, validation=validation, size=size, name=download, progress=shown
        )
    counts = images.read_counts(opened)
    rows = [
        [SPLIT_NAMES.get(split, split), c["samples"], _range(c["classes"].values())]
        for split, c in counts.items()
    ]
    out.print(table(opened.spec.name, ["split", "images", "per class"], rows))
    say(f"Wrote {store}.")
    return {
        "store": store,
        "images": {SPLIT_NAMES.get(split, split): c["samples"] for split, c in counts.items()},
    }


def _range(counts: Collection[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def synthesize(
    out_dir: Annotated[
        Path, typer.Option("--out", help="New or empty folder for the tables.", metavar="DIR")
    ],
    patients: Annotated[int, typer.Option(help="Number of patients.", min=10, metavar="N")] = 1500,
    seed: Annotated[int, typer.Option(help="Same seed: the same bytes.", metavar="N")] = 0,
    missing: Annotated[
        float,
        typer.Option(
            help="Share of measurements to leave out besides the usual gaps.", metavar="SHARE"
        ),
    ] = 0.0,
    compress: Annotated[
        bool, typer.Option("--compress", help="Write .csv.gz instead of .csv.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier simulation in DIR.")
    ] = False,
    form: Annotated[
        Form,
        typer.Option(
            "--as",
            help="mimic-iii: its nine tables. mimic-iv: the same patients in hosp/ and icu/. "
            "ricu: dyn, sta and outc for import-cohort.",
            metavar="mimic-iii|mimic-iv|ricu",
        ),
    ] = Form.mimic_iii,
) -> Any:
    """Simulate tables like MIMIC-III's or MIMIC-IV's, to try everything without patients' data.

    The nine tables have the oddities of the real ones, and the tasks can be learned. The file
    true_risk.json has the AUROC of the true risk: the best that any model can reach.
    """
    from mimic_reg.simulation.synthesis import synthesize as simulate

    if form is Form.ricu:
        return synthesize_ricu(out_dir, patients=patients, seed=seed, missing=missing)
    summary = simulate(
        out_dir,
        patients=patients,
        seed=seed,
        missing=missing,
        compress=compress,
        overwrite=overwrite,
        form=form.value,
    )
    rows = sum(summary.rows.values())
    say(
        f"Wrote {out_dir}: {summary.patients:,} simulated patients, "
        f"{summary.stays:,} ICU stays, {rows:,} rows in {len(summary.rows)} tables; "
        "true_risk.json has the best AUROC that a model can reach."
    )
    say(f"Next: mimic-reg extract --source {out_dir} --out STORE")
    return {"folder": out_dir, "rows": summary.rows, "patients": summary.patients}
