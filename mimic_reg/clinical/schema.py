"""The schemas of all tables: names, types and order of columns, from `clinical/resources`.

A *variable* is one of the 17 clinical variables. A *channel* is one of the 76 columns of the hourly
array: 59 value columns, then 17 `observed` columns, one per variable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import polars as pl
import yaml

# Tolerance of the benchmark in every comparison of hours.
EPSILON = 1e-6

# The texts that pandas 1.x, and so the benchmark, reads as missing. "None" is an eye opening.
MISSING_TEXTS = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"),
)
# The id of a text that is not a number: unmatched, but not missing.
NO_ID = -1


def resource(name: str) -> Any:
    """Return the path of a file in `clinical/resources`."""
    return files("mimic_reg.clinical") / "resources" / name


def first_true(conditions: Mapping[str, pl.Expr], otherwise: str) -> pl.Expr:
    """Return the name of the first condition that is true, else `otherwise`."""
    names = (pl.when(holds).then(pl.lit(name)) for name, holds in conditions.items())
    return pl.coalesce(*names, pl.lit(otherwise))


@dataclass(frozen=True)
class Variable:
    """One clinical variable: imputation value, categories and plausible ranges, if any."""

    name: str
    normal: float | str
    categories: tuple[str, ...] = ()
    outlier: tuple[float, float] | None = None
    valid: tuple[float, float] | None = None

    @property
    def is_text(self) -> bool:
        """Return whether episodes hold its text: the four variables of the Glasgow coma scale."""
        return isinstance(self.normal, str)


@cache
def variables() -> tuple[Variable, ...]:
    """Return the 17 variables in column order."""
    entries = yaml.safe_load(resource("channels.yaml").read_text("utf-8"))
    return tuple(
        Variable(
            name=name,
            normal=facts["normal"],
            categories=tuple(facts.get("categories", ())),
            outlier=tuple(facts["outlier"]) if "outlier" in facts else None,
            valid=tuple(facts["valid"]) if "valid" in facts else None,
        )
        for name, facts in entries.items()
    )


VARIABLES = tuple(v.name for v in variables())
TEXT_VARIABLES = tuple(v.name for v in variables() if v.is_text)
NUMBER_VARIABLES = tuple(v.name for v in variables() if not v.is_text)

VALUE_CHANNELS = tuple(
    channel
    for v in variables()
    for channel in ([f"{v.name}->{c}" for c in v.categories] if v.categories else [v.name])
)
OBSERVED_CHANNELS = tuple(f"mask->{name}" for name in VARIABLES)
CHANNELS = VALUE_CHANNELS + OBSERVED_CHANNELS
CONTINUOUS_CHANNELS = tuple(c for c in VALUE_CHANNELS if "->" not in c)


@cache
def phenotypes() -> dict[str, dict[str, Any]]:
    """Return the 25 phenotypes in label order: kind, published prevalence, ICD-9-CM codes."""
    return yaml.safe_load(resource("phenotypes.yaml").read_text("utf-8"))


PHENOTYPES = tuple(phenotypes())

DType = pl.DataType | type[pl.DataType]
ID: DType = pl.Int64
TIME: DType = pl.Datetime("us")

_STAYS: dict[str, DType] = {
    **{"subject_id": ID, "hadm_id": ID, "icustay_id": ID},
    "episode": pl.Int32,  # 1-based position among the subject's kept stays, by intime
    **{"split": pl.String, "intime": TIME, "outtime": TIME},
    "los_hours": pl.Float64,  # 24 x ICUSTAYS.LOS; null where LOS is null
    **{"admittime": TIME, "dischtime": TIME, "deathtime": TIME},
    "age": pl.Float64,  # years of 365 days; about 300 for patients over 89
    **{"gender": pl.String, "ethnicity": pl.String, "first_careunit": pl.String},
    "mortality": pl.Int8,  # in hospital
    "mortality_inunit": pl.Int8,
    "first_event_hours": pl.Float64,  # the first event row within the stay; null without one
    "num_diagnoses": pl.Int32,
}
STAYS = pl.Schema(_STAYS)
DIAGNOSES = pl.Schema(
    {"subject_id": ID, "icustay_id": ID, "seq_num": pl.Int32, "icd9_code": pl.String}
)
EPISODES = pl.Schema(
    {"icustay_id": ID, "hours": pl.Float64}
    | {v.name: pl.String if v.is_text else pl.Float64 for v in variables()}
)
# The source's spelling of a cell, if the number has another one ("59.666698455810547").
EPISODE_TEXTS = pl.Schema(
    {"icustay_id": ID, "hours": pl.Float64, "variable": pl.String, "text": pl.String}
)
HOURLY = pl.Schema({"icustay_id": ID, "hour": pl.Int32} | dict.fromkeys(CHANNELS, pl.Float32))
SAMPLES = pl.Schema(
    {"subject_id": ID, "icustay_id": ID, "split": pl.String, "period_length": pl.Float64}
)
