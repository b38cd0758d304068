"""Simulated patients in MIMIC-III's tables, for trying everything out without MIMIC-III.

THIS IS A SIMULATION. No row stems from a patient, and nothing was fitted to patients' data: the
numbers are chosen so that published prevalences and usual ranges come out.

Good for: running every command; tests and demonstrations with labels that can be learned; seeing
whether a model comes near the best score possible, which is known here and nowhere else.
Not good for: any statement on medicine, on MIMIC-III, or on which method is better on real data.

Inside: every stay has hidden, constant traits and a hidden severity that wanders about its mean
(`physiology`). Traits decide the phenotypes; traits and severity the vital signs; severity when a
patient leaves or dies. `records` writes down who came when, `charting` what was measured, and
`oddities` spoils it a little, as real tables are. `resources/` holds the numbers.

`true_risk.json` beside the tables holds the AUROC of the true risks (`truth`), on the samples that
the benchmark's tasks have.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
from isal import igzip

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.seeds import derive
from mimic_reg.simulation import charting, oddities, records, truth
from mimic_reg.simulation.items import d_items
from mimic_reg.simulation.parameters import HOUR, Floats, Ints, parameters
from mimic_reg.simulation.physiology import COURSE
from mimic_reg.store import atomic, write_json

GENERATOR_VERSION = 1  # other tables for the same seed: another version
MIN_PATIENTS = 10
TRUE_RISK = "true_risk.json"
COLUMNS: dict[str, list[str]] = parameters("tables")

_STAYS_AT_ONCE = 400  # bounds the memory; part of what a seed means


@dataclass(frozen=True)
class SynthesisSummary:
    """What was written.

    folder:    where
    patients, stays: how many; stays before any exclusion
    rows:      of each table
    true_risk: the content of true_risk.json
    """

    folder: Path
    patients: int
    stays: int
    rows: dict[str, int]
    true_risk: dict[str, Any]


def synthesize(
    out: Path,
    *,
    patients: int = 1500,
    seed: int = 0,
    missing: float = 0.0,
    compress: bool = False,
    overwrite: bool = False,
) -> SynthesisSummary:
    """Write simulated tables and true_risk.json into the folder `out`: all of it, or nothing.

    The same arguments give the same bytes.

    Args:
        out: a new or empty folder.
        patients: number of subjects.
        seed: of everything random.
        missing: share of the event rows left out at random, on top of the usual gaps.
        compress: write .csv.gz instead of .csv.
        overwrite: replace an earlier simulation in `out`.

    Raises:
        InputError: wrong options, or an `out` that holds something.
        MimicRegError: `out` cannot be written.
    """
    if patients < MIN_PATIENTS:
        raise InputError(f"--patients is {patients}; it must be at least {MIN_PATIENTS}.")
    if not 0 <= missing < 1:
        raise InputError(f"--missing is {missing}; it must be a share in [0, 1), such as 0.3.")
    _check_target(out, overwrite)

    def streams(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive("synthetic", purpose, seed))

    drawn = records.draw_records(patients, streams)
    with _in_place_of(out) as folder:
        with _Tables(folder, compress) as tables:
            for name, table in (drawn.tables | {"D_ITEMS": d_items()}).items():
                tables.append(name, table)
            first_hours = _append_events(tables, drawn.stays, streams, missing)
        arguments = {"patients": patients, "seed": seed, "missing": missing}
        true_risk = _description(arguments) | truth.judge(drawn, first_hours)
        write_json(folder / TRUE_RISK, true_risk)
    return SynthesisSummary(out, patients, drawn.stays.height, tables.rows, true_risk)


def _append_events(
    tables: "_Tables", stays: pl.DataFrame, streams: records.Streams, missing: float
) -> Floats:
    """Write the event tables; (N,) each stay's first hour with a row the benchmark uses."""
    first_hours = np.full(stays.height, np.inf)
    for begin in range(0, stays.height, _STAYS_AT_ONCE):
        some = stays.with_row_index().slice(begin, _STAYS_AT_ONCE).filter("charted")
        left_out = streams(f"missing {begin}")
        for name, table in oddities.tables(some, streams(f"charting {begin}")).items():
            kept = table.filter(pl.Series(left_out.random(table.height) >= missing))
            tables.append(name, kept)
            first = _first_hours(kept, some["intime"].to_numpy())
            first_hours[some["index"]] = np.minimum(first_hours[some["index"]], first)
    return first_hours


def _first_hours(rows: pl.DataFrame, intime: Ints) -> Floats:
    """(stays,) hours from INTIME to the first usable row since; infinite if there is none."""
    stay = rows["stay"].to_numpy()
    since = (rows["seconds"].to_numpy() - intime[stay]) / HOUR
    counts = rows["usable"].to_numpy() & (since >= 0)
    hours = np.full(len(intime), np.inf)
    np.minimum.at(hours, stay[counts], since[counts])
    return hours


def _description(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "what": "Simulated tables, not patients. The AUROC of the true risk on the samples of each "
        "task: the best that any model of the measurements can reach, but for chance.",
        "generator_version": GENERATOR_VERSION,
        **arguments,
        "settings": {
            "course": vars(COURSE),
            "oddities_of_records": records.RATES,
            "oddities_of_charting": charting.RATES,
        },
    }


# --- files ----------------------------------------------------------------------------------------


class _Tables(ExitStack):
    """The tables' files, open and with their headers; `rows` in each."""

    def __init__(self, folder: Path, compress: bool) -> None:
        super().__init__()
        self.rows = dict.fromkeys(COLUMNS, 0)
        self._files: dict[str, IO[bytes]] = {}
        for name, columns in COLUMNS.items():
            path = folder / f"{name}.csv{'.gz' if compress else ''}"
            self._files[name] = file = self._open(path, compress)
            file.write(f"{','.join(columns)}\n".encode())

    def _open(self, path: Path, compress: bool) -> IO[bytes]:
        raw = self.enter_context(path.open("wb"))
        if not compress:
            return raw
        # Without name and time, so that the same content is the same bytes.
        packed: Any = igzip.IGzipFile(filename="", mode="wb", fileobj=raw, mtime=0)  # type: ignore[no-untyped-call]
        return self.enter_context(packed)

    def append(self, name: str, table: pl.DataFrame) -> None:
        """Add rows to a table, with their ROW_IDs; columns that `table` lacks are empty."""
        empty = {c: pl.lit(None, pl.String) for c in COLUMNS[name] if c not in table.columns}
        numbered = table.with_columns(**empty).with_columns(
            ROW_ID=pl.int_range(1, pl.len() + 1) + self.rows[name]
        )
        numbered.select(COLUMNS[name]).write_csv(
            self._files[name], include_header=False, datetime_format="%Y-%m-%d %H:%M:%S"
        )
        self.rows[name] += table.height


def _check_target(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out names a folder.")
    present = {p.name for p in out.iterdir()} if out.exists() else set()
    ours = {TRUE_RISK, *(f"{t}.csv{end}" for t in COLUMNS for end in ("", ".gz"))}
    if present and (TRUE_RISK not in present or present - ours):
        raise InputError(
            f"{out} is not empty and not just a simulation. Choose an empty or new folder for "
            "--out; nothing but an earlier simulation is ever replaced."
        )
    if present and not overwrite:
        raise InputError(
            f"{out} holds a simulation already. Choose another --out, or replace it: --overwrite."
        )


@contextmanager
def _in_place_of(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end, if nothing goes wrong."""
    target = out.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True
        ) as temporary:
            new, old = Path(temporary, "new"), Path(temporary, "old")
            new.mkdir()
            yield new
            atomic.sync_tree(new)
            if target.exists():
                target.rename(old)
            try:
                new.rename(target)
            except OSError:
                if old.exists():
                    old.rename(target)
                raise
            atomic.sync_folder(target.parent)
    except OSError as error:
        raise MimicRegError(
            f"Cannot write to {out}: {error.strerror or error}. Nothing there was changed. "
            "Make room, or choose another --out, and run the same command again."
        ) from error
