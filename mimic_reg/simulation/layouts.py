"""The tables of the simulation as MIMIC-III or MIMIC-IV has them.

The simulation makes MIMIC-III's tables. Those of MIMIC-IV are the same rows under other names: the
ids are higher, all stays are charted in MetaVision, and half of the admissions have diagnoses in
ICD-10. These codes stand for the same phenotypes as the ones that they replace.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from mimic_reg.clinical import icd
from mimic_reg.clinical.datasets import MIMIC_III, MIMIC_IV, Dataset
from mimic_reg.clinical.events import HIDDEN, METAVISION
from mimic_reg.clinical.stays import AGE_IF_HIGHER, MAX_AGE_SHOWN
from mimic_reg.errors import InputError
from mimic_reg.simulation.parameters import parameters
from mimic_reg.simulation.records import Records

# MIMIC-IV's ids begin here.
_FIRST_IDS = {
    "SUBJECT_ID": 10_000_000,
    "HADM_ID": 20_000_000,
    "ICUSTAY_ID": 30_000_000,
    "neighbour_id": 30_000_000,
}
_NAMES = {"cgid": "caregiver_id", "icd9_code": "icd_code"}  # besides `Dataset.names`
_UNITS = {
    "MICU": "Medical Intensive Care Unit (MICU)",
    "CCU": "Coronary Care Unit (CCU)",
    "CSRU": "Cardiac Vascular Intensive Care Unit (CVICU)",
    "SICU": "Surgical Intensive Care Unit (SICU)",
    "TSICU": "Trauma SICU (TSICU)",
}
_NO_EQUIVALENT = "Y828"  # a code of ICD-10 that ICD-9 has no equivalent for
_GLUCOSE = 50931  # MIMIC-IV hides its VALUE
_COMMENT = "IF FASTING, 70-100 NORMAL, >125 PROVISIONAL DIABETES."


@dataclass(frozen=True)
class Layout:
    """How the tables of a data set are named and written.

    columns: of each table, in their order
    convert: (name, MIMIC-III's table) -> the data set's table
    """

    dataset: Dataset
    columns: Mapping[str, list[str]]
    convert: Callable[[str, pl.DataFrame], pl.DataFrame] = lambda name, table: table

    def path(self, name: str) -> str:
        """Return the file of a table within the source, without .csv."""
        folder = {"D_ITEMS": "icu"} | dict(self.dataset.folders)
        return name if self.dataset is MIMIC_III else f"{folder[name]}/{name.lower()}"


LAYOUTS = {
    MIMIC_III.name: Layout(MIMIC_III, parameters("tables")),
    MIMIC_IV.name: Layout(
        MIMIC_IV, parameters("tables_mimic_iv"), lambda name, table: _converted(name, table)
    ),
}


def layout_of(name: str) -> Layout:
    """Return the layout of "mimic-iii" or "mimic-iv".

    Raises:
        InputError: another name; the package with the mapping to ICD-10 is not installed.
    """
    if name not in LAYOUTS:
        raise InputError(f"--as is {name!r}; it must be one of {', '.join(LAYOUTS)}.")
    if name == MIMIC_IV.name:
        icd.version()
    return LAYOUTS[name]


def as_mimic_iv(drawn: Records) -> Records:
    """Return the records with MIMIC-IV's ids, anchor years, and codes of ICD-10."""
    stays = _with_ids(drawn.stays)
    tables = {name: _with_ids(table) for name, table in drawn.tables.items()}
    first = stays.filter(pl.col("SUBJECT_ID").is_first_distinct())
    tables["PATIENTS"] = tables["PATIENTS"].join(_anchors(first), on="SUBJECT_ID")
    tables["DIAGNOSES_ICD"], tables["D_ICD_DIAGNOSES"] = _in_icd10(
        tables["DIAGNOSES_ICD"], tables["D_ICD_DIAGNOSES"]
    )
    return Records(stays, tables)


def _with_ids(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(
        pl.col(c) + first for c, first in _FIRST_IDS.items() if c in table.columns
    )


def _anchors(first: pl.DataFrame) -> pl.DataFrame:
    """Return SUBJECT_ID, anchor_age and anchor_year: the age in the year of the first stay."""
    age = pl.col("age").floor()
    return first.select(
        "SUBJECT_ID",
        anchor_age=pl.when(age > MAX_AGE_SHOWN).then(AGE_IF_HIGHER).otherwise(age).cast(pl.Int64),
        anchor_year=pl.from_epoch("intime", "s").dt.year(),
    )


def _in_icd10(
    diagnoses: pl.DataFrame, dictionary: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return both tables with ICD_VERSION; admissions with even ids have codes of ICD-10."""
    known = icd.equivalents()
    whole = known.filter(pl.len().over("icd_code") == 1)  # no parts of combinations
    new = whole.unique("icd9_code", keep="first", maintain_order=True)
    new = new.select(ICD9_CODE="icd9_code", icd10="icd_code")
    version = pl.when(pl.col("icd10").is_null()).then(9).otherwise(10)
    code = pl.coalesce("icd10", "ICD9_CODE")
    even = pl.col("HADM_ID") % 2 == 0
    replaced = (
        diagnoses.join(new, on="ICD9_CODE", how="left", maintain_order="left")
        .with_columns(icd10=pl.when(even).then("icd10"))
        .with_columns(ICD9_CODE=code, icd_version=version)
        .drop("icd10")
    )
    last = replaced.filter(pl.col("HADM_ID") % 20 == 0, pl.col("HADM_ID").is_last_distinct())
    added = last.with_columns(
        ICD9_CODE=pl.lit(_NO_EQUIVALENT), icd_version=10, SEQ_NUM=pl.col("SEQ_NUM") + 1
    )
    entries = dictionary.join(new, on="ICD9_CODE").with_columns(ICD9_CODE="icd10", icd_version=10)
    entries = entries.drop("icd10")
    extra = entries.head(1).with_columns(ICD9_CODE=pl.lit(_NO_EQUIVALENT))
    old = dictionary.with_columns(icd_version=9)
    return pl.concat([replaced, added]), pl.concat([old, entries, extra])


def _converted(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """Return MIMIC-IV's table of rows of MIMIC-III's."""
    table = MIMIC_IV.to_store(table.rename(str.lower)).rename(_NAMES, strict=False)
    if name == "PATIENTS":
        return table.with_columns(
            anchor_year_group=pl.lit("2014 - 2016"), dod=pl.col("dod").str.head(10)
        )
    if name == "ICUSTAYS":
        units = (pl.col(c).replace(_UNITS) for c in ("first_careunit", "last_careunit"))
        return table.with_columns(units)
    if name == "D_ITEMS":
        return table.filter(pl.col("itemid") >= METAVISION)
    if name == "LABEVENTS":
        hidden = (pl.col("itemid") == _GLUCOSE) & pl.col("valuenum").is_not_null()
        return table.with_columns(
            value=pl.when(hidden).then(pl.lit(HIDDEN)).otherwise("value"),
            comments=pl.when(hidden).then(pl.lit(_COMMENT)),
        )
    return table
