"""Simulated patients in MIMIC-III's tables, for trying everything out without MIMIC-III.

THIS IS A SIMULATION. No row stems from a patient, and nothing was fitted to patients' data: the
numbers are chosen so that published prevalences and usual ranges come out.

Good for: running every command; tests and demonstrations with labels that can be learned; seeing
whether a model comes near the best score possible, which is known here and nowhere else.
Not good for: any statement on medicine, on MIMIC-III, or on which method is better on real data.

Inside (`physiology`): every stay has hidden, constant traits and a hidden severity that
wanders about its mean. Traits decide the phenotypes; traits and severity the vital signs; severity
when a patient leaves or dies. `records` writes down who came when, and
`charting` what was measured, under the items of `items`, with the oddities of
the real tables at the rates given in both modules' `RATES`.

`true_risk.json` beside the tables holds the AUROC of the true risks, on the samples that the
benchmark's tasks have. No model that sees the measurements only can have a better one, but for
chance. These risks know what no model sees exactly:

- in-hospital mortality: the probability of dying in hospital, given that the patient is in the unit
  48 hours after INTIME, the severity then, and its mean. Nothing else matters: severity has no
  other memory. Who died before hour 48, but left the unit's books after it, has risk 1.
- decompensation: the probability of dying in hospital within 24 hours, given that the patient is in
  the unit at the sample's hour, the severity then, and its mean.
- phenotyping: the probability of the phenotype given the traits of the stay. Vital signs depend on
  traits and severity but not on the phenotypes, so they tell no more than that.

The labels are the tables', oddities included: a few of the dead have no DEATHTIME, and a few of the
living died on the day of their discharge, which the benchmark's rule takes for in hospital. And the
benchmark leaves out admissions with a second stay, whose patients lived through the first, so that
somewhat more of the patients it keeps die than `mean_risk` says.
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
from sklearn.metrics import roc_auc_score

from mimic_reg.clinical.stays import select_diagnoses, select_stays
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.schema import EPSILON, PHENOTYPES, SPLITS, phenotypes
from mimic_reg.seeds import derive
from mimic_reg.simulation import charting, records
from mimic_reg.simulation.items import d_items
from mimic_reg.simulation.physiology import COURSE, Floats, TrueRisk
from mimic_reg.sources.mimic3 import COLUMNS as COLUMNS_READ
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
_MORTALITY_HOUR, _FIRST_HOUR, _HORIZON = 48, 5, 24


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
        event_rows, first_hours = _write_events(folder, drawn, streams, missing, compress)
        settings = {"patients": patients, "seed": seed, "missing": missing}
        result = _description(settings) | _true_risk(drawn, first_hours)
        write_json(folder / TRUE_RISK, result)
    return SynthesisSummary(out, patients, len(drawn.stays), rows | event_rows, result)


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
    ordered = table.select(COLUMNS[name].split())
    ordered.write_csv(file, include_header=before == 0, datetime_format="%Y-%m-%d %H:%M:%S")


def _write(folder: Path, name: str, table: pl.DataFrame, compress: bool) -> int:
    with _opened(_path(folder, name, compress), compress) as file:
        _append(file, name, table, 0)
    return table.height


def _write_events(
    folder: Path, drawn: records.Records, streams: records.Streams, missing: float, compress: bool
) -> tuple[dict[str, int], Floats]:
    """Write the event tables; also each stay's first hour with a row the benchmark uses (N,)."""
    rows = dict.fromkeys(EVENT_TABLES, 0)
    first_hours = np.full(len(drawn.stays), np.inf)
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(_opened(_path(folder, name, compress), compress))
            for name in EVENT_TABLES
        }
        for begin in range(0, len(drawn.stays), _STAYS_AT_ONCE):
            positions = np.arange(begin, min(begin + _STAYS_AT_ONCE, len(drawn.stays)))
            positions = positions[drawn.stays.charted[positions]]
            stays = drawn.stays.take(positions)
            left_out = streams(f"missing {begin}")
            for name, table in charting.tables(stays, streams(f"charting {begin}")).items():
                kept = table.filter(pl.Series(left_out.random(table.height) >= missing))
                first = _first_hours(kept, stays)
                first_hours[positions] = np.minimum(first_hours[positions], first)
                offset = rows[name] + 1
                _append(files[name], name, kept.with_row_index("ROW_ID", offset), rows[name])
                rows[name] += kept.height
    return rows, first_hours


def _first_hours(rows: pl.DataFrame, stays: records.Stays) -> Floats:
    """(stays,) hours from INTIME to the first usable row since; infinite if there is none."""
    hours = np.full(len(stays), np.inf)
    used = rows.filter("usable").select("stay", "seconds")
    stay = used["stay"].to_numpy()
    since = (used["seconds"].to_numpy() - stays.intime[stay]) / 3600
    np.minimum.at(hours, stay[since >= 0], since[since >= 0])
    return hours


# --- the true risk --------------------------------------------------------------------------------


def _description(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "what": "Simulated tables, not patients. The AUROC of the true risk on the samples of each "
        "task: the best that any model of the measurements can reach, but for chance.",
        "generator_version": GENERATOR_VERSION,
        **settings,
        "settings": {
            "course": asdict(COURSE),
            "oddities_of_records": records.RATES,
            "oddities_of_charting": charting.RATES,
        },
    }


def _true_risk(drawn: records.Records, first_hours: Floats) -> dict[str, Any]:
    """AUROC of the true risks, on the samples that the benchmark's rules give."""
    kept, diagnoses = _cohort(drawn)
    own = pl.DataFrame(
        {
            "icustay_id": drawn.stays.icustay_id,
            "row": np.arange(len(drawn.stays)),
            "first": first_hours,
        }
    )
    coded = diagnoses.select("icustay_id").unique()
    stays = (
        kept.join(own, on="icustay_id")
        .join(coded, on="icustay_id", how="semi")
        .filter(pl.col("first") < pl.col("los_hours") + EPSILON)
        .with_columns(
            ((pl.col("deathtime") - pl.col("intime")).dt.total_seconds() / 3600)
            .fill_null(np.inf)
            .alias("lived")
        )
        .sort("icustay_id")
    )
    risk = TrueRisk()
    return {
        "in_hospital_mortality": _mortality(stays, drawn, risk),
        "decompensation": _decompensation(stays, drawn, risk),
        "phenotyping": _phenotyping(stays, diagnoses, drawn),
    }


def _cohort(drawn: records.Records) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The benchmark's stays and diagnoses, by its rules."""

    def read(name: str) -> pl.DataFrame:
        table = drawn.tables[name].rename(str.lower).select(COLUMNS_READ[name])
        ids = [c for c in ("subject_id", "hadm_id", "icustay_id") if c in table.columns]
        return table.with_columns(pl.all().exclude(ids).cast(pl.String))

    kept, _ = select_stays(read("ICUSTAYS"), read("ADMISSIONS"), read("PATIENTS"))
    return kept, select_diagnoses(read("DIAGNOSES_ICD"), read("D_ICD_DIAGNOSES"), kept)


def _mortality(stays: pl.DataFrame, drawn: records.Records, risk: TrueRisk) -> dict[str, Any]:
    hour = _MORTALITY_HOUR
    stays = stays.filter(pl.col("los_hours") >= hour - EPSILON, pl.col("first") < hour + EPSILON)
    row = stays["row"].to_numpy()
    severity = drawn.stays.severity[row, hour].astype(np.float64)
    dies = risk.in_hospital(drawn.stays.mean[row], severity, hour)
    dies = np.where(stays["lived"].to_numpy() < hour, 1.0, dies)
    return _by_split(stays["mortality"].to_numpy(), dies, stays["split"].to_numpy())


def _decompensation(stays: pl.DataFrame, drawn: records.Records, risk: TrueRisk) -> dict[str, Any]:
    end = pl.min_horizontal("los_hours", "lived") + EPSILON
    samples = (
        stays.with_columns(pl.int_ranges(_FIRST_HOUR, end.ceil().cast(pl.Int64)).alias("hour"))
        .filter(pl.col("hour").list.len() > 0)
        .explode("hour")
        .filter(pl.col("hour") > pl.col("first"))
    )
    row, hour = samples["row"].to_numpy(), samples["hour"].to_numpy()
    severity = drawn.stays.severity[row, np.minimum(hour, drawn.stays.severity.shape[1] - 1)]
    soon = risk.within_24_hours(drawn.stays.mean[row], severity.astype(np.float64), hour)
    dies = (samples["mortality"] == 1) & (samples["lived"] - samples["hour"] < _HORIZON)
    return _by_split(dies.to_numpy(), soon, samples["split"].to_numpy())


def _phenotyping(
    stays: pl.DataFrame, diagnoses: pl.DataFrame, drawn: records.Records
) -> dict[str, Any]:
    split, row = stays["split"].to_numpy(), stays["row"].to_numpy()
    by_phenotype = {}
    for position, name in enumerate(PHENOTYPES):
        coded = diagnoses.filter(pl.col("icd9_code").is_in(phenotypes()[name]["codes"]))
        has = stays["icustay_id"].is_in(coded["icustay_id"].implode()).to_numpy()
        by_phenotype[name] = _by_split(has, drawn.phenotype_risk[row, position], split)
    return {
        **_macro(list(by_phenotype.values())),
        "by_split": {s: _macro([p["by_split"][s] for p in by_phenotype.values()]) for s in SPLITS},
        "by_phenotype": by_phenotype,
    }


def _macro(scores: list[dict[str, Any]]) -> dict[str, Any]:
    aurocs = [s["auroc"] for s in scores if s["auroc"] is not None]
    return {
        "macro_auroc": round(float(np.mean(aurocs)), 4) if aurocs else None,
        "n": scores[0]["n"],
        "positives": sum(s["positives"] for s in scores),
    }


def _by_split(y: Any, risk: Floats, split: Any) -> dict[str, Any]:
    parts = {s: _score(y[split == s], risk[split == s]) for s in SPLITS}
    return {**_score(y, risk), "by_split": parts}


def _score(y: Any, risk: Floats) -> dict[str, Any]:
    """AUROC of the true risk, null where there is one class only; numbers of samples."""
    num, positives = len(y), int(y.sum())
    both = 0 < positives < num
    return {
        "auroc": round(float(roc_auc_score(y, risk)), 4) if both else None,
        "n": num,
        "positives": positives,
        "prevalence": round(positives / num, 4) if num else None,
        "mean_risk": round(float(risk.mean()), 4) if num else None,
    }
