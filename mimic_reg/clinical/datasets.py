"""The data sets that the benchmark's rules are applied to: their tables and columns.

The extraction works with MIMIC-III's names. `Dataset.names` tells which column of another data set
has which of them, so both go through the same code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import polars as pl

EVENT_TABLES = ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")

# What is not known during a stay, or not needed to predict: tables, and columns of the others.
_NOT_NEEDED = ("ADMISSIONS", "DIAGNOSES_ICD", "D_ICD_DIAGNOSES")
_NOT_KNOWN = (
    *("gender", "dod", "outtime", "los"),
    *("first_careunit", "last_careunit", "first_wardid", "last_wardid"),
)


@dataclass(frozen=True)
class Dataset:
    """One version of MIMIC.

    name:    in manifests, reports and the registry
    title:   in messages
    tables:  the columns that the extraction reads, as the data set names them; a table may have
             more. Those in brackets are optional
    folders: the folder of each table, within the source; by default the source itself
    names:   column of the data set -> its name in the extraction
    schemas: the schemas in which mimic-code's build of a database has the tables, by folder
    carevue: whether some stays were charted in CareVue
    """

    name: str
    title: str
    tables: Mapping[str, tuple[str, ...]]
    folders: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    schemas: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    carevue: bool = False

    @property
    def is_benchmark(self) -> bool:
        """Return whether the published benchmark is made of this data set."""
        return self.name == "mimic-iii"

    @property
    def unit(self) -> str:
        """Return the column that identifies a stay."""
        return self.outward("icustay_id")

    def outward(self, name: str) -> str:
        """Return the data set's name for a column of the extraction."""
        return {inner: outer for outer, inner in self.names.items()}.get(name, name)

    def to_store(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a table with the data set's names of columns, as the store has them."""
        return frame.rename({name: self.outward(name) for name in frame.columns})

    def from_store(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a table of the store, or of the source, with the extraction's names."""
        return frame.rename({name: self.names.get(name, name) for name in frame.columns})

    def during_stays(self) -> Self:
        """Return the data set with the tables and columns that predicting current stays needs."""
        tables = {
            name: tuple(f"[{c}]" if c in _NOT_KNOWN else c for c in columns)
            for name, columns in self.tables.items()
            if name not in _NOT_NEEDED
        }
        return replace(self, tables=tables)

    def where(self, table: str) -> str:
        """Return where the source has a table: NAME, or FOLDER/name."""
        folder = self.folders.get(table)
        return f"{folder}/{table.lower()}" if folder else table


_EVENT = ("subject_id", "hadm_id", "itemid", "charttime", "value", "valueuom")

MIMIC_III = Dataset(
    name="mimic-iii",
    title="MIMIC-III v1.4",
    tables={
        "PATIENTS": ("subject_id", "gender", "dob", "dod"),
        "ADMISSIONS": ("subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "ethnicity"),
        "ICUSTAYS": (
            *("subject_id", "hadm_id", "icustay_id", "first_careunit", "last_careunit"),
            *("first_wardid", "last_wardid", "intime", "outtime", "los"),
        ),
        "DIAGNOSES_ICD": ("subject_id", "hadm_id", "seq_num", "icd9_code"),
        "D_ICD_DIAGNOSES": ("icd9_code",),
        "CHARTEVENTS": (*_EVENT, "icustay_id"),
        "LABEVENTS": (*_EVENT, "[icustay_id]"),
        "OUTPUTEVENTS": (*_EVENT, "icustay_id"),
    },
    schemas={"": ("mimiciii", "main")},
    carevue=True,
)

MIMIC_IV = Dataset(
    name="mimic-iv",
    title="MIMIC-IV v2.0 or later",
    tables={
        "PATIENTS": ("subject_id", "gender", "anchor_age", "anchor_year", "dod"),
        "ADMISSIONS": (
            *("subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "race"),
            "[hospital_expire_flag]",
        ),
        "ICUSTAYS": (
            *("subject_id", "hadm_id", "stay_id", "first_careunit", "last_careunit"),
            *("intime", "outtime", "los"),
        ),
        "DIAGNOSES_ICD": ("subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"),
        "D_ICD_DIAGNOSES": ("icd_code", "icd_version"),
        "CHARTEVENTS": (*_EVENT, "stay_id"),
        "LABEVENTS": (*_EVENT, "valuenum"),
        "OUTPUTEVENTS": (*_EVENT, "stay_id"),
    },
    folders={
        **dict.fromkeys(("PATIENTS", "ADMISSIONS", "DIAGNOSES_ICD"), "hosp"),
        **dict.fromkeys(("D_ICD_DIAGNOSES", "LABEVENTS"), "hosp"),
        **dict.fromkeys(("ICUSTAYS", "CHARTEVENTS", "OUTPUTEVENTS"), "icu"),
    },
    names={"stay_id": "icustay_id", "race": "ethnicity"},
    schemas={"hosp": ("mimiciv_hosp",), "icu": ("mimiciv_icu",)},
)

DATASETS = {dataset.name: dataset for dataset in (MIMIC_III, MIMIC_IV)}


def dataset_of(manifest: Mapping[str, object]) -> Dataset:
    """Return the data set of a store's manifest; older ones, of MIMIC-III, do not name it."""
    return DATASETS[str(manifest.get("dataset", MIMIC_III.name))]
