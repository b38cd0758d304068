"""The commands that make and check stores: parse, call, print."""

from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mimic_reg.console import err, out, progress, table
from mimic_reg.errors import InputError, MimicRegError

if TYPE_CHECKING:
    pass


from mimic_reg.cli.audit import SPLIT_NAMES, print_audit, print_samples
from mimic_reg.cli.cohorts import synthesize_ricu


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (extract, verify, export_benchmark, import_benchmark, import_images, synthesize):
        app.command()(command)


class Form(StrEnum):
    """Which tables `synthesize` writes."""

    mimic_iii = "mimic-iii"
    ricu = "ricu"


class Mode(StrEnum):
    """Which rules the extraction follows."""

    benchmark = "benchmark"
    corrected = "corrected"


StoreArgument = Annotated[Path, typer.Argument(help="A cohort store, made by `mimic-reg extract`.")]


def extract(
    source: Annotated[
        Path, typer.Option(help="Folder with MIMIC-III's tables, .csv or .csv.gz.", metavar="DIR")
    ],
    store: Annotated[
        Path, typer.Option("--out", help="The store to write: a folder.", metavar="STORE")
    ],
    tasks: Annotated[
        list[str] | None,
        typer.Option(help="Tasks to write, comma-separated; all by default.", metavar="A,B"),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="benchmark: the published cohorts, with their known defects. "
            "corrected: without four of them, named in the manifest."
        ),
    ] = Mode.benchmark,
    memory: Annotated[
        str, typer.Option(help="Memory it may take, from 1GB.", metavar="AMOUNT")
    ] = "4GB",
    force: Annotated[
        bool, typer.Option("--force", help="Extract even if the store is up to date.")
    ] = False,
    allow_empty: Annotated[
        list[str] | None,
        typer.Option(
            help="Event tables that may hold no row, such as CHARTEVENTS, where that is meant.",
            metavar="A,B",
        ),
    ] = None,
) -> None:
    """Extract the benchmark's cohorts from raw MIMIC-III into a Parquet store.

    A run that was stopped goes on where it was when started again; on an unchanged source a second
    run does nothing. The tables are read once and never held in memory.
    """
    from mimic_reg import extraction
    from mimic_reg.extraction.memory import parse_memory

    with progress(err) as shown:
        result = extraction.extract(
            source,
            store,
            task_names=[name for part in tasks or [] for name in part.split(",")] or None,
            mode=mode.value,
            memory=parse_memory(memory),
            force=force,
            allow_empty=[t.upper() for part in allow_empty or [] for t in part.split(",")],
            progress=shown,
        )
    if result.status == "unchanged":
        out.print(f"{escape(str(store))} is up to date: the source is unchanged. Nothing was done.")
        out.print("To extract it again all the same, add --force.")
        return
    print_audit(result.audit)
    seconds = sum(result.seconds.values())
    out.print(f"Wrote {escape(str(store))} in {seconds:,.1f} s ({mode.value} mode).")
    if mode is Mode.benchmark:
        out.print(
            f"If it is MIMIC-III, prove it: mimic-reg verify {escape(str(store))} --published"
        )


def verify(
    store: StoreArgument,
    published: Annotated[
        bool,
        typer.Option("--published", help="Against the hashes published for the full MIMIC-III."),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Against output folders of the reference code (root/ and task folders).",
            metavar="DIR",
        ),
    ] = None,
    details: Annotated[
        Path | None,
        typer.Option(help="Write what differs, stay by stay, to a CSV file.", metavar="FILE"),
    ] = None,
) -> None:
    """Prove that a store is intact, and that its cohorts are the published ones.

    Without an option: the store's files against the hashes in its manifest. Exit code 1 where
    something differs.
    """
    from mimic_reg.parity.compare import compare
    from mimic_reg.parity.published import verify_published
    from mimic_reg.store import Store

    _check_details(details, published, against)
    opened = Store.open(store)
    changed = opened.changed_files()
    if changed:
        raise MimicRegError(
            f"{store}: {', '.join(changed)} changed since it was written. Extract it again."
        )
    out.print(f"{len(opened.manifest['files'])} files of the store are as they were written.")
    same = True
    with progress(err) as shown:
        if published:
            report = verify_published(opened, shown)
            _print_published(report)
            _write_details(report.stays, details)
            same &= report.identical
        if against:
            found = compare(opened, against, shown)
            _print_comparison(found)
            _write_details(found.differences, details)
            same &= found.identical
    raise typer.Exit(0 if same else 1)


def _print_published(report: Any) -> None:
    names = {
        "in_hospital_mortality": "in-hospital mortality (first 48 h)",
        "whole_stay": "other tasks (whole stay)",
    }
    rows = [
        [names[kind], c.matching, c.differing, c.unpublished, c.absent]
        for kind, c in report.kinds.items()
    ]
    columns = ["time series", "published ones", "differing", "not published", "not in this cohort"]
    out.print(table("Beside the hashes published in 2019", columns, rows))
    if not report.identical:
        out.print("This is NOT the published benchmark: see the columns above.")
    elif all(c.complete for c in report.kinds.values()):
        out.print("This is the published benchmark: every file, and no other.")
    else:
        absent = max(c.absent for c in report.kinds.values())
        out.print(
            "Every time series of this cohort is the published one, to the hash; but it is a part "
            f"of the benchmark: {absent:,} of the published ones are not in it."
        )


def _print_comparison(report: Any) -> None:
    files = ", ".join(f"{folder} {count:,}" for folder, count in report.files.items())
    out.print(f"Compared time series: {files or 'none'}.")
    samples = ", ".join(f"{folder} {count:,}" for folder, count in report.samples.items())
    out.print(f"Compared samples: {samples or 'none'}.")
    if report.absent:
        out.print(f"Not there to compare with: {', '.join(report.absent)}.")
    if report.unknown:
        out.print(f"There, but not in the store: {', '.join(report.unknown)}.")
    rows = [
        [folder, kind, channel or "", stays, count]
        for folder, kind, channel, stays, count in report.summary().iter_rows()
    ]
    if rows:
        out.print(table("What differs", ["folder", "kind", "channel", "stays", "count"], rows))
    out.print("The same." if report.identical else "NOT the same.")


def _check_details(path: Path | None, published: bool, against: Path | None) -> None:
    if path and published == bool(against):
        raise InputError("--details is the file of one comparison: give --published or --against.")
    if path and not path.absolute().parent.is_dir():
        raise InputError(f"--details {path} is in no folder: {path.parent} does not exist.")


def _write_details(frame: Any, path: Path | None) -> None:
    from mimic_reg.store import atomic, disk_errors

    if path:
        with disk_errors(path), atomic.writing(path, mode=atomic.PRIVATE) as file:
            frame.write_csv(file)
        out.print(f"Wrote {frame.height:,} rows to {escape(str(path))}: it holds ids of stays.")


def export_benchmark(
    store: StoreArgument,
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for the files; new or empty.", metavar="DIR")
    ],
) -> None:
    """Write a store as the reference code's own files, to the letter."""
    from mimic_reg.parity.export import export
    from mimic_reg.store import Store

    with progress(err) as shown:
        written = export(Store.open(store), folder, shown)
    rows = [
        [name, count, written.samples.get(name.replace("-", "_"), "")]
        for name, count in written.files.items()
    ]
    out.print(table("Written", ["folder", "files", "samples"], rows))
    out.print(f"Wrote {escape(str(written.folder))} in {written.seconds:,.1f} s.")


def import_benchmark(
    folder: Annotated[
        Path, typer.Argument(help="Output of the reference code: root/ and its task folders.")
    ],
    store: Annotated[
        Path, typer.Option("--out", help="The store to write: a folder.", metavar="STORE")
    ],
) -> None:
    """Build a store from folders that the reference code wrote, without the raw tables.

    What those files do not hold (times of admission and death, diagnoses) is empty in the store.
    """
    from mimic_reg.parity import importing
    from mimic_reg.store import read_json

    with progress(err) as shown:
        opened = importing.import_benchmark(folder, store, shown)
    print_samples(read_json(opened.path("audit.json")))
    out.print(f"Wrote {escape(str(store))}.")


def import_images(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Fashion-MNIST, CIFAR-10 or STL-10 as distributed, or train/CLASS/*.jpg and "
            "test/CLASS/*.jpg."
        ),
    ],
    store: Annotated[
        Path, typer.Option("--out", help="The store to write: a folder.", metavar="STORE")
    ],
    validation: Annotated[
        int | None,
        typer.Option(help="Training images kept for validation; as the paper by default."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Resize pictures of folders to SIZE x SIZE.", min=1)
    ] = None,
    download: Annotated[
        str | None,
        typer.Option(
            help="Fetch it into the folder first: fashion_mnist, cifar10 or stl10.", metavar="NAME"
        ),
    ] = None,
) -> None:
    """Build a store of images: decoded once, kept as bytes, split as in the paper.

    A second run on the same images does nothing.
    """
    from mimic_reg.sources import images

    with progress(err) as shown:
        if download:
            images.download(download, folder)
        opened = images.import_images(
            folder, store, validation=validation, size=size, name=download, progress=shown
        )
    rows = [
        [SPLIT_NAMES.get(split, split), c["samples"], _range(c["classes"].values())]
        for split, c in images.read_counts(opened).items()
    ]
    out.print(table(opened.spec.name, ["split", "images", "a class"], rows))
    out.print(f"Wrote {escape(str(store))}.")


def _range(counts: Collection[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def synthesize(
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder for the tables; new or empty.", metavar="DIR")
    ],
    patients: Annotated[int, typer.Option(help="How many patients.", min=10)] = 1500,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    missing: Annotated[
        float, typer.Option(help="Share of measurements left out on top of the usual gaps.")
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
            "--as", help="mimic-iii: its nine tables. ricu: dyn, sta and outc for import-cohort."
        ),
    ] = Form.mimic_iii,
) -> None:
    """Simulate MIMIC-III-shaped tables, to try everything without access to patients' data.

    All nine tables, with the oddities of the real ones. The tasks can be learnt; true_risk.json
    beside the tables states the AUROC of the true risk: the best that any model could reach.
    """
    from mimic_reg.simulation.synthesis import synthesize as simulate

    if form is Form.ricu:
        synthesize_ricu(out_dir, patients=patients, seed=seed, missing=missing)
        return
    summary = simulate(
        out_dir,
        patients=patients,
        seed=seed,
        missing=missing,
        compress=compress,
        overwrite=overwrite,
    )
    rows = sum(summary.rows.values())
    out.print(
        f"Wrote {escape(str(out_dir))}: {summary.patients:,} simulated patients, "
        f"{summary.stays:,} ICU stays, {rows:,} rows in {len(summary.rows)} tables; "
        "true_risk.json states the best AUROC that a model could reach.",
        soft_wrap=True,
    )
    out.print(
        f"Next: mimic-reg extract --source {escape(str(out_dir))} --out STORE", soft_wrap=True
    )
