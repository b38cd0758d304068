"""Simulate patients in MIMIC-III's or MIMIC-IV's tables, to try everything without them.

THIS IS A SIMULATION. No row comes from a patient, and nothing was fitted to patients' data: the
numbers were chosen to give the published prevalences and usual ranges.

Use it to run every command, to test and demonstrate with labels that can be learned, and to see how
close a model comes to the best possible score, which is known only here.
Do not use it for statements about medicine or MIMIC-III, or about which method is better on real
data.

Every stay has hidden, constant traits and a hidden severity that varies around its mean
(`physiology`). Traits decide the phenotypes. Traits and severity decide the vital signs. Severity
decides when a patient leaves or dies. `records` draws admissions and stays, `charting` the
measurements, and `oddities` spoils some of them as in real tables. The numbers are in `resources/`.

`true_risk.json` beside the tables holds the AUROC of the true risks on the samples of the
benchmark's tasks (`truth`).
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
from isal import igzip

from mimic_reg.errors import InputError
from mimic_reg.seeds import derive
from mimic_reg.simulation import charting, oddities, records, truth
from mimic_reg.simulation.items import d_items
from mimic_reg.simulation.layouts import LAYOUTS, Layout, as_mimic_iv, layout_of
from mimic_reg.simulation.parameters import HOUR, Floats, Ints
from mimic_reg.simulation.physiology import COURSE
from mimic_reg.store import write_json
from mimic_reg.store.stages import whole_folder

GENERATOR_VERSION = 1  # a change of the tables for the same seed needs another version
MIN_PATIENTS = 10
TRUE_RISK = "true_risk.json"
_STAYS_AT_ONCE = 400  # bounds the memory; the tables of a seed depend on it


@dataclass(frozen=True)
class SynthesisSummary:
    """The tables written, in `folder`.

    stays:     their number before any exclusion
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
    form: str = "mimic-iii",
    carevue: bool = True,
) -> SynthesisSummary:
    """Write simulated tables and true_risk.json into the folder `out`, completely or not at all.

    The same arguments give the same bytes.

    out:       a new or empty folder
    patients:  number of subjects
    seed:      decides everything random
    missing:   share of the event rows to leave out at random, beyond the usual gaps
    compress:  write .csv.gz instead of .csv
    overwrite: replace an earlier simulation in `out`
    form:      whose tables to write, "mimic-iii" or "mimic-iv"; the patients are the same
    carevue:   whether CareVue charts some patients of MIMIC-III; MIMIC-IV has MetaVision alone

    Raises:
        InputError: an option is invalid, or `out` is not empty.
        MimicRegError: `out` cannot be written.
    """
    if patients < MIN_PATIENTS:
        raise InputError(f"--patients is {patients}; it must be at least {MIN_PATIENTS}.")
    if not 0 <= missing < 1:
        raise InputError(f"--missing is {missing}; it must be a share in [0, 1), such as 0.3.")
    layout = layout_of(form)
    _check_target(out, overwrite)

    def streams(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive("synthetic", purpose, seed))

    drawn = records.draw_records(patients, streams, carevue=carevue and layout.dataset.carevue)
    drawn = drawn if layout.dataset.is_benchmark else as_mimic_iv(drawn)
    with whole_folder(out) as folder:
        with _Tables(folder, compress, layout) as tables:
            for name, table in (drawn.tables | {"D_ITEMS": d_items()}).items():
                tables.append(name, table)
            first_hours = _append_events(tables, drawn.stays, streams, missing)
        true_risk = {
            "what": "Simulated tables, not patients. The AUROC of the true risk on the samples of "
            "each task: the best that any model of the measurements can reach, but for chance.",
            "generator_version": GENERATOR_VERSION,
            **{"patients": patients, "seed": seed, "missing": missing},
            "settings": {
                "course": vars(COURSE),
                "oddities_of_records": records.RATES,
                "oddities_of_charting": charting.RATES,
            },
            **truth.judge(drawn, first_hours, layout),
        }
        write_json(folder / TRUE_RISK, true_risk)
    return SynthesisSummary(out, patients, drawn.stays.height, tables.rows, true_risk)


def _append_events(
    tables: "_Tables", stays: pl.DataFrame, streams: records.Streams, missing: float
) -> Floats:
    """Write the event tables; return (N,) the first hour with a row that the benchmark uses."""
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
    """Return (stays,) hours from INTIME to the first usable row after it; infinite without one."""
    stay = rows["stay"].to_numpy()
    since = (rows["seconds"].to_numpy() - intime[stay]) / HOUR
    counts = rows["usable"].to_numpy() & (since >= 0)
    hours = np.full(len(intime), np.inf)
    np.minimum.at(hours, stay[counts], since[counts])
    return hours


class _Tables(ExitStack):
    """The open files of the tables, with their headers; `rows` counts the rows of each."""

    def __init__(self, folder: Path, compress: bool, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.rows = dict.fromkeys(layout.columns, 0)
        self._files: dict[str, IO[bytes]] = {}
        for name, columns in layout.columns.items():
            path = folder / f"{layout.path(name)}.csv{'.gz' if compress else ''}"
            path.parent.mkdir(exist_ok=True)
            file: Any = self.enter_context(path.open("wb"))
            if compress:  # without name and time, so that the same content gives the same bytes
                packed: Any = igzip.IGzipFile(filename="", mode="wb", fileobj=file, mtime=0)  # type: ignore[no-untyped-call]
                file = self.enter_context(packed)
            file.write(f"{','.join(columns)}\n".encode())
            self._files[name] = file

    def append(self, name: str, table: pl.DataFrame) -> None:
        """Append rows to a table, numbered; columns that `table` lacks stay empty."""
        table, columns = self.layout.convert(name, table), self.layout.columns[name]
        empty = {c: pl.lit(None, pl.String) for c in columns if c not in table.columns}
        row_id = pl.int_range(1, pl.len() + 1) + self.rows[name]
        number = {c: row_id for c in ("ROW_ID", "labevent_id") if c in columns}
        numbered = table.with_columns(**empty | number).select(columns)
        numbered.write_csv(
            self._files[name], include_header=False, datetime_format="%Y-%m-%d %H:%M:%S"
        )
        self.rows[name] += table.height


def _check_target(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file. Give a folder for --out.")
    inside = out.rglob("*") if out.exists() else ()
    present = {str(p.relative_to(out)) for p in inside if not p.is_dir() or p.is_symlink()}
    stems = {layout.path(table) for layout in LAYOUTS.values() for table in layout.columns}
    ours = {TRUE_RISK, *(f"{stem}.csv{end}" for stem in stems for end in ("", ".gz"))}
    if present and (TRUE_RISK not in present or present - ours):
        raise InputError(
            f"{out} holds files other than a simulation. Choose a new or empty folder for --out; "
            "only an earlier simulation can be replaced."
        )
    if present and not overwrite:
        raise InputError(
            f"{out} already holds a simulation. Choose another --out, or add --overwrite to "
            "replace it."
        )
