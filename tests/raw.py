"""Small MIMIC-III-shaped sources, written row by row, for tests."""

import csv
import gzip
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

INTIME = datetime(2130, 5, 1, 12, 0, 0)
FORMAT = "%Y-%m-%d %H:%M:%S"

HEADERS = {
    "PATIENTS": "row_id subject_id gender dob dod dod_hosp dod_ssn expire_flag",
    "ADMISSIONS": "row_id subject_id hadm_id admittime dischtime deathtime ethnicity diagnosis",
    "ICUSTAYS": "row_id subject_id hadm_id icustay_id dbsource first_careunit last_careunit "
    "first_wardid last_wardid intime outtime los",
    "DIAGNOSES_ICD": "row_id subject_id hadm_id seq_num icd9_code",
    "D_ICD_DIAGNOSES": "row_id icd9_code short_title long_title",
    "CHARTEVENTS": "row_id subject_id hadm_id icustay_id itemid charttime storetime cgid value "
    "valuenum valueuom warning error resultstatus stopped",
    "LABEVENTS": "row_id subject_id hadm_id itemid charttime value valuenum valueuom flag",
    "OUTPUTEVENTS": "row_id subject_id hadm_id icustay_id charttime itemid value valueuom",
}


def at(hours: float, base: datetime = INTIME) -> str:
    """Return the text of the time `hours` after `base`."""
    return (base + timedelta(hours=hours)).strftime(FORMAT)


@dataclass
class Source:
    """Rows by table; missing columns are written empty."""

    tables: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {name: [] for name in HEADERS}
    )

    def add(self, table: str, **row: Any) -> "Source":
        """Append a row."""
        self.tables[table].append(row)
        return self

    def stay(
        self,
        subject: int = 7,
        *,
        hadm: int | None = None,
        icustay: int | None = None,
        start: float = 0.0,
        hours: float = 60.0,
        codes: tuple[str, ...] = ("4019",),
        **changes: Any,
    ) -> "Source":
        """Add a subject (once), an admission and a stay, `start` hours after `INTIME`."""
        hadm = hadm or 100_000 + subject
        icustay = icustay or 200_000 + subject
        if not any(p["subject_id"] == subject for p in self.tables["PATIENTS"]):
            dob = changes.get("dob", at(0, datetime(2080, 1, 1)))
            self.add("PATIENTS", subject_id=subject, gender="F", dob=dob, dod=changes.get("dod"))
        self.add(
            "ADMISSIONS",
            subject_id=subject,
            hadm_id=hadm,
            admittime=at(start - 1),
            dischtime=at(start + hours + 24),
            deathtime=changes.get("deathtime"),
            ethnicity="WHITE",
        )
        row = {
            "subject_id": subject,
            "hadm_id": hadm,
            "icustay_id": icustay,
            "first_careunit": "MICU",
            "last_careunit": "MICU",
            "first_wardid": 52,
            "last_wardid": 52,
            "intime": at(start),
            "outtime": at(start + hours),
            "los": round(hours / 24, 4),
        }
        self.add("ICUSTAYS", **(row | {k: v for k, v in changes.items() if k in row}))
        for i, code in enumerate(codes, 1):
            self.add("DIAGNOSES_ICD", subject_id=subject, hadm_id=hadm, seq_num=i, icd9_code=code)
            if not any(d["icd9_code"] == code for d in self.tables["D_ICD_DIAGNOSES"]):
                self.add("D_ICD_DIAGNOSES", icd9_code=code)
        return self

    def chart(
        self, itemid: int, value: Any, hours: float = 1.0, *, subject: int = 7, **row: Any
    ) -> "Source":
        """Add a CHARTEVENTS row of the subject's first stay."""
        defaults = {
            "subject_id": subject,
            "hadm_id": 100_000 + subject,
            "icustay_id": 200_000 + subject,
            "charttime": at(hours),
        }
        return self.add("CHARTEVENTS", itemid=itemid, value=value, **(defaults | row))

    def write(self, folder: Path, *, upper: bool = True, packed: bool = False) -> Path:
        """Write all tables; return the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            columns = HEADERS[name].split()
            path = folder / f"{name if upper else name.lower()}.csv{'.gz' if packed else ''}"
            with (gzip.open if packed else open)(path, "wt", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow([c.upper() if upper else c for c in columns])
                for number, row in enumerate(rows, 1):
                    filled = {"row_id": number} | row
                    unknown = filled.keys() - set(columns)
                    assert not unknown, f"{name} has no {unknown}"
                    writer.writerow(["" if filled.get(c) is None else filled[c] for c in columns])
        return folder


def small_source() -> Source:
    """Return twelve subjects of all splits with vitals, labs, coma scale, oddities and deaths."""
    source = Source()
    subjects = [7, 8, 9, 11, 12, 13, 100, 107, 10000, 10001, 10006, 10011]
    for i, subject in enumerate(subjects):
        died = {"deathtime": at(55), "dod": at(55)} if i % 4 == 0 else {}
        codes = ("4019", "0389", "5849")[: 1 + i % 3]
        source.stay(subject, hours=50.0 + 3 * i, codes=codes, **died)
        for hour in range(0, 50, 2 + i % 3):
            when = hour + i / 60
            source.chart(211, 70 + (7 * hour + i) % 50, when, subject=subject)
            source.chart(646, 90 + (hour + i) % 10, when, subject=subject)
            source.chart(52, "59.666698455810547", when, subject=subject)
            source.chart(678, "98.6", when, subject=subject, icustay_id=None)
            source.chart(184, "4 Spontaneously", when, subject=subject)
            source.chart(128, "unmapped, with a comma", when, subject=subject)
        row = {"subject_id": subject, "itemid": 50931, "value": "120", "valueuom": "mg/dL"}
        source.add("LABEVENTS", **row, hadm_id=100_000 + subject, charttime=at(4))
        source.add("LABEVENTS", **row, hadm_id=None, charttime=at(5))
        source.add("OUTPUTEVENTS", subject_id=subject, itemid=40055, charttime=at(2), value=30,
                   hadm_id=100_000 + subject, icustay_id=200_000 + subject)  # fmt: skip
    return source
