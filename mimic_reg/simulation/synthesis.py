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

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
from isal import igzip

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.seeds import derive
from mimic_reg.simulation import charting, oddities, records, truth
from mimic_reg.simulation.items import d_items
from mimic_reg.simulation.parameters import HOUR, Floats
from mimic_reg.simulation.physiology import COURSE
from mimic_reg.storage import write_json

GENERATOR_VERSION = 1  # other tables for the same seed: another version
MIN_PATIENTS = 10
TRUE_RISK = "true_risk.json"

# Columns of the full MIMIC-III v1.4, in its order.
COLUMNS: dict[str, str] = {
    "PATIENTS": "ROW_ID SUBJECT_ID GENDER DOB DOD DOD_HOSP DOD_SSN EXPIRE_FLAG",
    "ADMISSIONS": "ROW_ID SUBJECT_ID HADM_ID ADMITTIME DISCHTIME DEATHTIME ADMISSION_TYPE "
    "ADMISSION_LOCATION DISCHARGE_LOCATION INSURANCE LANGUAGE RELIGION MARITAL_STATUS ETHNICITY "
    "EDREGTIME EDOUTTIME DIAGNOSIS HOSPITAL_EXPIRE_FLAG HAS_CHARTEVENTS_DATA",
    "ICUSTAYS": "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID DBSOURCE FIRST_CAREUNIT LAST_CAREUNIT "
    "FIRST_WARDID LAST_WARDID INTIME OUTTIME LOS",
    "DIAGNOSES_ICD": "ROW_ID SUBJECT_ID HADM_ID SEQ_NUM ICD9_CODE",
    "D_ICD_DIAGNOSES": "ROW_ID ICD9_CODE SHORT_TITLE LONG_TITLE",
    "D_ITEMS": "ROW_ID ITEMID LABEL ABBREVIATION DBSOURCE LINKSTO CATEGORY UNITNAME PARAM_TYPE "
    "CONCEPTID",
    "CHARTEVENTS": "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID ITEMID CHARTTIME STORETIME CGID VALUE "
    "VALUENUM VALUEUOM WARNING ERROR RESULTSTATUS STOPPED",
    "LABEVENTS": "ROW_ID SUBJECT_ID HADM_ID ITEMID CHARTTIME VALUE VALUENUM VALUEUOM FLAG",
    "OUTPUTEVENTS": "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID CHARTTIME ITEMID VALUE VALUEUOM "
    "STORETIME CGID STOPPED NEWBOTTLE ISERROR",
}
EVENT_TABLES = ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")

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
        tables = drawn.tables | {"D_ITEMS": d_items()}
        rows = {name: _write(folder, name, table, compress) for name, table in tables.items()}
        event_rows, first_hours = _write_events(folder, drawn.stays, streams, missing, compress)
        arguments = {"patients": patients, "seed": seed, "missing": missing}
        true_risk = _description(arguments) | truth.judge(drawn, first_hours)
        write_json(folder / TRUE_RISK, true_risk)
    return SynthesisSummary(out, patients, drawn.stays.height, rows | event_rows, true_risk)


def _description(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "what": "Simulated tables, not patients. The AUROC of the true risk on the samples of each "
        "task: the best that any model of the measurements can reach, but for chance.",
        "generator_version": GENERATOR_VERSION,
        **arguments,
        "settings": {
            "course": asdict(COURSE),
            "oddities_of_records": records.RATES,
            "oddities_of_charting": charting.RATES,
        },
    }


# --- writing --------------------------------------------------------------------------------------


def _check_target(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out names a folder.")
    present = {p.name for p in out.iterdir()} if out.exists() else set()
    if not present:
        return
    ours = {TRUE_RISK, *(f"{t}.csv{end}" for t in COLUMNS for end in ("", ".gz"))}
    if TRUE_RISK not in present or present - ours:
        raise InputError(
            f"{out} is not empty and not just a simulation. Choose an empty or new folder for "
            "--out; nothing but an earlier simulation is ever replaced."
        )
    if not overwrite:
        raise InputError(
            f"{out} holds a simulation already. Choose another --out, or replace it: --overwrite."
        )


@contextmanager
def _in_place_of(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end, if nothing goes wrong."""
    target = out.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            new, old = temporary / "new", temporary / "old"
            new.mkdir()
            yield new
            if target.exists():
                target.rename(old)
            try:
                new.rename(target)
            except OSError:
                if old.exists():
                    old.rename(target)
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise MimicRegError(
            f"Cannot write to {out}: {error.strerror or error}. Nothing there was changed. "
            "Make room, or choose another --out, and run the same command again."
        ) from error


@contextmanager
def _opened(path: Path, compress: bool) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("wb"))
        if not compress:
            yield raw
        else:  # without name and time, so that the same content is the same bytes
            packed: Any = igzip.IGzipFile(filename="", mode="wb", fileobj=raw, mtime=0)  # type: ignore[no-untyped-call]
            yield stack.enter_context(packed)


def _path(folder: Path, name: str, compress: bool) -> Path:
    return folder / f"{name}.csv{'.gz' if compress else ''}"


def _append(file: IO[bytes], name: str, table: pl.DataFrame, before: int) -> None:
    """Add rows to a table that has `before`; with none before, the header too."""
    empty = {c: pl.lit(None, pl.String) for c in COLUMNS[name].split() if c not in table.columns}
    ordered = table.with_columns(**empty).select(COLUMNS[name].split())
    ordered.write_csv(file, include_header=before == 0, datetime_format="%Y-%m-%d %H:%M:%S")


def _write(folder: Path, name: str, table: pl.DataFrame, compress: bool) -> int:
    with _opened(_path(folder, name, compress), compress) as file:
        _append(file, name, table, 0)
    return table.height


def _write_events(
    folder: Path, stays: pl.DataFrame, streams: records.Streams, missing: float, compress: bool
) -> tuple[dict[str, int], Floats]:
    """Write the event tables; also each stay's first hour with a row the benchmark uses (N,)."""
    rows = dict.fromkeys(EVENT_TABLES, 0)
    first_hours = np.full(stays.height, np.inf)
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(_opened(_path(folder, name, compress), compress))
            for name in EVENT_TABLES
        }
        for begin in range(0, stays.height, _STAYS_AT_ONCE):
            some = stays.with_row_index().slice(begin, _STAYS_AT_ONCE).filter("charted")
            left_out = streams(f"missing {begin}")
            for name, table in oddities.tables(some, streams(f"charting {begin}")).items():
                kept = table.filter(pl.Series(left_out.random(table.height) >= missing))
                first = _first_hours(kept, some["intime"].to_numpy())
                first_hours[some["index"]] = np.minimum(first_hours[some["index"]], first)
                numbered = kept.with_row_index("ROW_ID", offset=rows[name] + 1)
                _append(files[name], name, numbered, rows[name])
                rows[name] += kept.height
    return rows, first_hours


def _first_hours(rows: pl.DataFrame, intime: Any) -> Floats:
    """(stays,) hours from INTIME to the first usable row since; infinite if there is none."""
    hours = np.full(len(intime), np.inf)
    used = rows.filter("usable").select("stay", "seconds")
    stay = used["stay"].to_numpy()
    since = (used["seconds"].to_numpy() - intime[stay]) / HOUR
    np.minimum.at(hours, stay[since >= 0], since[since >= 0])
    return hours
