"""The true risks of simulated stays, and their AUROC.

No model that sees the measurements only can have a better one, but for chance. These risks know
what no model sees exactly:

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

from typing import Any

import numpy as np
import polars as pl
from scipy.interpolate import RegularGridInterpolator
from scipy.special import expit, logit
from scipy.stats import rankdata

from mimic_reg.clinical.schema import EPSILON, PHENOTYPES, phenotypes
from mimic_reg.clinical.stays import select_diagnoses, select_stays
from mimic_reg.simulation.parameters import Floats, Ints
from mimic_reg.simulation.physiology import COURSE, PERSISTENCE, STEP, chance, leaving_unit
from mimic_reg.simulation.records import Records
from mimic_reg.sources.mimic3 import COLUMNS as COLUMNS_READ
from mimic_reg.store.spec import SPLITS

_MORTALITY_HOUR, _FIRST_HOUR = 48, 5


class TrueRisk:
    """Probabilities of death given the present severity and its mean, for patients in the unit.

    Not estimated: the hourly rules of the course are followed backward in time, on a grid of mean
    and deviation, between which the log-odds are interpolated.
    """

    HORIZON = 24

    def __init__(self) -> None:
        self._means = np.linspace(-5.5, 5.5, 56)
        self._deviations = np.linspace(-4.5, 5.5, 91)
        self._severity = self._means[:, None] + self._deviations
        steps = self._deviations[:, None] * PERSISTENCE - self._deviations
        density = np.exp(-0.5 * (steps / STEP) ** 2)
        self._next = density / density.sum(1, keepdims=True)
        self._dies = chance(COURSE.death, self._severity)
        self._leaves_ward = chance(COURSE.leave_ward, self._severity)
        self._home = np.zeros_like(self._severity)  # nobody dies there

    def _hour_before(self, staying: Floats, leaving: Floats, leaves: Floats) -> Floats:
        """The risk an hour before, by the risks of those who stay and of those who leave."""
        lives_on = leaves * (leaving @ self._next.T) + (1 - leaves) * (staying @ self._next.T)
        risk: Floats = self._dies + (1 - self._dies) * lives_on
        return risk

    def in_hospital(self, mean: Floats, severity: Floats, hour: int) -> Floats:
        """Probability of death in hospital, for patients in the unit at full `hour`."""
        ward = self._home
        for _ in range(COURSE.max_hours_on_ward):
            ward = self._hour_before(ward, self._home, self._leaves_ward)
        unit = ward
        for later in reversed(range(hour, COURSE.max_hours_in_unit)):
            unit = self._hour_before(unit, ward, leaving_unit(self._severity, later))
        return self._at(unit, mean, severity)

    def within_24_hours(self, mean: Floats, severity: Floats, hour: Ints) -> Floats:
        """Probability of death within 24 hours, in hospital, for patients in the unit at `hour`."""
        risk = np.empty(len(mean))
        settled = np.minimum(hour, COURSE.settling_hours)  # from there on, hours are alike
        for start in np.unique(settled):
            unit = ward = self._home
            for later in reversed(range(start, start + self.HORIZON)):
                unit = self._hour_before(unit, ward, leaving_unit(self._severity, later))
                ward = self._hour_before(ward, self._home, self._leaves_ward)
            here = settled == start
            risk[here] = self._at(unit, mean[here], severity[here])
        return risk

    def _at(self, risk: Floats, mean: Floats, severity: Floats) -> Floats:
        grid = (self._means, self._deviations)
        table = RegularGridInterpolator(grid, logit(np.clip(risk, 1e-15, 1 - 1e-15)))
        deviation = np.clip(severity - mean, self._deviations[0], self._deviations[-1])
        mean = np.clip(mean, self._means[0], self._means[-1])
        result: Floats = expit(table(np.column_stack([mean, deviation])))
        return result


def judge(drawn: Records, first_hours: Floats) -> dict[str, Any]:
    """AUROC of the true risks, by task, on the samples that the benchmark's rules give.

    first_hours: (N,) of each stay's first row that the benchmark uses; infinite if there is none
    """
    kept, diagnoses = _cohort(drawn)
    own = drawn.stays.select(
        "mean", "severity", "phenotype_risk", icustay_id="ICUSTAY_ID", first=first_hours
    )
    lived = (pl.col("deathtime") - pl.col("intime")).dt.total_seconds() / 3600
    stays = (
        kept.join(own, on="icustay_id")
        .join(diagnoses, on="icustay_id", how="semi")
        .filter(pl.col("first") < pl.col("los_hours") + EPSILON)
        .with_columns(lived=lived.fill_null(np.inf))
        .sort("icustay_id")
    )
    return {
        "in_hospital_mortality": _mortality(stays),
        "decompensation": _decompensation(stays),
        "phenotyping": _phenotyping(stays, diagnoses),
    }


def _cohort(drawn: Records) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The benchmark's stays and diagnoses, by its rules."""

    def read(name: str) -> pl.DataFrame:
        table = drawn.tables[name].rename(str.lower).select(COLUMNS_READ[name])
        ids = [c for c in ("subject_id", "hadm_id", "icustay_id") if c in table.columns]
        return table.with_columns(pl.all().exclude(ids).cast(pl.String))

    kept, _ = select_stays(read("ICUSTAYS"), read("ADMISSIONS"), read("PATIENTS"))
    return kept, select_diagnoses(read("DIAGNOSES_ICD"), read("D_ICD_DIAGNOSES"), kept)


def _mortality(stays: pl.DataFrame) -> dict[str, Any]:
    hour = _MORTALITY_HOUR
    stays = stays.filter(pl.col("los_hours") >= hour - EPSILON, pl.col("first") < hour + EPSILON)
    severity = stays["severity"].to_numpy()[:, hour].astype(np.float64)
    risk = TrueRisk().in_hospital(stays["mean"].to_numpy(), severity, hour)
    return _by_split(stays, stays["mortality"], np.where(stays["lived"] < hour, 1.0, risk))


def _decompensation(stays: pl.DataFrame) -> dict[str, Any]:
    end = (pl.min_horizontal("los_hours", "lived") + EPSILON).ceil().cast(pl.Int64)
    samples = (
        stays.with_row_index()
        .select(
            *("index", "mean", "mortality", "lived", "split", "first"),
            hour=pl.int_ranges(_FIRST_HOUR, end),
        )
        .filter(pl.col("hour").list.len() > 0)
        .explode("hour")
        .filter(pl.col("hour") > pl.col("first"))
    )
    hour, severity = samples["hour"].to_numpy(), stays["severity"].to_numpy()
    now = severity[samples["index"], np.minimum(hour, severity.shape[1] - 1)].astype(np.float64)
    risk = TrueRisk().within_24_hours(samples["mean"].to_numpy(), now, hour)
    soon = samples["lived"] - samples["hour"] < TrueRisk.HORIZON
    return _by_split(samples, (samples["mortality"] == 1) & soon, risk)


def _phenotyping(stays: pl.DataFrame, diagnoses: pl.DataFrame) -> dict[str, Any]:
    by_phenotype = {}
    for name, risk in zip(PHENOTYPES, stays["phenotype_risk"].to_numpy().T, strict=True):
        coded = diagnoses.filter(pl.col("icd9_code").is_in(phenotypes()[name]["codes"]))
        has = stays["icustay_id"].is_in(coded["icustay_id"].implode())
        by_phenotype[name] = _by_split(stays, has, risk)
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


def _by_split(samples: pl.DataFrame, y: pl.Series, risk: Floats) -> dict[str, Any]:
    label, split = y.to_numpy(), samples["split"].to_numpy()
    parts = {s: _score(label[split == s], risk[split == s]) for s in SPLITS}
    return {**_score(label, risk), "by_split": parts}


def _score(y: Any, risk: Floats) -> dict[str, Any]:
    """AUROC of the true risk, null where there is one class only; numbers of samples."""
    num, positives = len(y), int(y.sum())
    negatives = num - positives
    wins = rankdata(risk)[y == 1].sum() - positives * (positives + 1) / 2  # over negatives
    return {
        "auroc": round(wins / (positives * negatives), 4) if positives and negatives else None,
        "n": num,
        "positives": positives,
        "prevalence": round(positives / num, 4) if num else None,
        "mean_risk": round(float(risk.mean()), 4) if num else None,
    }
