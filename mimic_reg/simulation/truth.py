"""The true risks of simulated stays, and their AUROC on the benchmark's samples.

A model that sees only the measurements cannot do better, except by chance:

- in-hospital mortality: the probability of death in hospital given the severity at hour 48 and its
  mean, for a patient in the unit. Severity has no other memory. A patient who died before hour 48,
  but whose OUTTIME is later, has risk 1.
- decompensation: the probability of death in hospital within 24 hours, given the severity at the
  sample's hour and its mean.
- phenotyping: the probability of the phenotype given the stay's traits. Vital signs depend on
  traits and severity but not on phenotypes, so they tell nothing more.

Labels come from the tables, with their oddities: a few dead patients have no DEATHTIME, and a few
living ones died on the day of discharge, which the benchmark counts as in hospital. Patients live
through the first of two stays in one admission, and the benchmark leaves these admissions out, so
slightly more of its patients die than `mean_risk` says.
"""

from typing import Any

import numpy as np
import polars as pl
from scipy.interpolate import RegularGridInterpolator
from scipy.special import expit, logit
from scipy.stats import rankdata

from mimic_reg import tasks
from mimic_reg.clinical import icd
from mimic_reg.clinical.datasets import MIMIC_III
from mimic_reg.clinical.schema import EPSILON, PHENOTYPES
from mimic_reg.clinical.stays import count_diagnoses, select_diagnoses, select_stays
from mimic_reg.simulation.layouts import LAYOUTS, Layout
from mimic_reg.simulation.parameters import Floats, Ints
from mimic_reg.simulation.physiology import COURSE, PERSISTENCE, STEP, chance, leaving_unit
from mimic_reg.simulation.records import Records
from mimic_reg.store.spec import SPLITS
from mimic_reg.tasks.decompensation import hours_lived
from mimic_reg.tasks.in_hospital_mortality import HOURS


class TrueRisk:
    """Probabilities of death given the present severity and its mean, for patients in the unit.

    They are computed, not estimated: the hourly rules of the course are followed backward in time
    on a grid of mean and deviation. Between grid points the log-odds are interpolated.
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
        self._home = np.zeros_like(self._severity)  # nobody dies at home

    def _hour_before(self, staying: Floats, leaving: Floats, leaves: Floats) -> Floats:
        """Return the risk an hour earlier, from the risks of those who stay and who leave."""
        lives_on = leaves * (leaving @ self._next.T) + (1 - leaves) * (staying @ self._next.T)
        return self._dies + (1 - self._dies) * lives_on

    def in_hospital(self, mean: Floats, severity: Floats, hour: int) -> Floats:
        """Return the probability of death in hospital, for patients in the unit at full `hour`."""
        ward = self._home
        for _ in range(COURSE.max_hours_on_ward):
            ward = self._hour_before(ward, self._home, self._leaves_ward)
        unit = ward
        for later in reversed(range(hour, COURSE.max_hours_in_unit)):
            unit = self._hour_before(unit, ward, leaving_unit(self._severity, later))
        return self._at(unit, mean, severity)

    def within_24_hours(self, mean: Floats, severity: Floats, hour: Ints) -> Floats:
        """Return the probability of death in hospital within 24 hours, as `in_hospital` does."""
        risk = np.empty(len(mean))
        settled = np.minimum(hour, COURSE.settling_hours)  # later hours follow the same rules
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
        return expit(table(np.column_stack([mean, deviation])))


def judge(
    drawn: Records, first_hours: Floats, layout: Layout = LAYOUTS[MIMIC_III.name]
) -> dict[str, Any]:
    """Return the AUROC of the true risks by task, on the samples that the benchmark's rules give.

    first_hours: (N,) each stay's first row that the benchmark uses; infinite if there is none
    layout:      of the tables that were written
    """
    stays, diagnoses = _cohort(drawn, first_hours, layout)
    severity, index = stays["severity"].to_numpy(), stays.select("icustay_id", "index")
    means, lived = stays["mean"].to_numpy(), hours_lived(stays).fill_null(np.inf).to_numpy()
    result = {}
    for task in ("in_hospital_mortality", "decompensation"):
        samples = tasks.samples_of(task)(stays, diagnoses)
        row = samples.join(index, on="icustay_id", maintain_order="left")["index"].to_numpy()
        hour = samples["period_length"].cast(pl.Int64).to_numpy()
        now = severity[row, np.minimum(hour, severity.shape[1] - 1)].astype(np.float64)
        if task == "decompensation":
            risk = TrueRisk().within_24_hours(means[row], now, hour)
        else:
            risk = TrueRisk().in_hospital(means[row], now, int(HOURS))
            risk = np.where(lived[row] < HOURS, 1.0, risk)
        result[task] = _by_split(samples, "y", risk)
    samples = tasks.samples_of("phenotyping")(stays, diagnoses)
    joined = samples.join(stays, on="icustay_id", maintain_order="left")
    risks = joined["phenotype_risk"].to_numpy().T
    scores = {n: _by_split(samples, n, risk) for n, risk in zip(PHENOTYPES, risks, strict=True)}
    result["phenotyping"] = {
        **_macro(list(scores.values())),
        "by_split": {s: _macro([p["by_split"][s] for p in scores.values()]) for s in SPLITS},
        "by_phenotype": scores,
    }
    return result


def _cohort(
    drawn: Records, first_hours: Floats, layout: Layout
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the benchmark's stays, each with its hidden state, and their diagnoses."""
    dataset = layout.dataset

    def read(name: str) -> pl.DataFrame:
        table = layout.convert(name, drawn.tables[name]).rename(str.lower)
        table = dataset.from_store(table.select(c.strip("[]") for c in dataset.tables[name]))
        ids = [c for c in ("subject_id", "hadm_id", "icustay_id") if c in table.columns]
        return table.with_columns(pl.all().exclude(*ids, "icd_version").cast(pl.String))

    kept, _ = select_stays(
        read("ICUSTAYS"),
        read("ADMISSIONS"),
        read("PATIENTS"),
        split="published" if dataset.is_benchmark else "hash",
    )
    diagnoses = select_diagnoses(read("DIAGNOSES_ICD"), read("D_ICD_DIAGNOSES"), kept)
    if not dataset.is_benchmark:
        diagnoses, _ = icd.add_icd9(diagnoses)
    counted = count_diagnoses(diagnoses)
    hidden = ("mean", "severity", "phenotype_risk")
    own = drawn.stays.select(*hidden, icustay_id="ICUSTAY_ID", first=first_hours)
    first = pl.when(pl.col("first") < pl.col("los_hours") + EPSILON).then("first")
    stays = kept.join(own, on="icustay_id").join(counted, on="icustay_id", how="left")
    return stays.with_columns(first_event_hours=first).with_row_index(), diagnoses


def _macro(scores: list[dict[str, Any]]) -> dict[str, Any]:
    aurocs = [s["auroc"] for s in scores if s["auroc"] is not None]
    return {
        "macro_auroc": round(float(np.mean(aurocs)), 4) if aurocs else None,
        "n": scores[0]["n"],
        "positives": sum(s["positives"] for s in scores),
    }


def _by_split(samples: pl.DataFrame, label: str, risk: Floats) -> dict[str, Any]:
    y, split = samples[label].to_numpy(), samples["split"].to_numpy()
    parts = {s: _score(y[split == s], risk[split == s]) for s in SPLITS}
    return {**_score(y, risk), "by_split": parts}


def _score(y: Ints, risk: Floats) -> dict[str, Any]:
    """Return the AUROC of the true risk, None where there is one class only, and counts."""
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
