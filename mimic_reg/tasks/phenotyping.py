"""Phenotyping: which of 25 conditions does the patient have? Predicted from the whole stay."""

import polars as pl

from mimic_reg.clinical.schema import PHENOTYPES, phenotypes
from mimic_reg.store.spec import Task
from mimic_reg.tasks.base import eligible, finish


def samples(stays: pl.DataFrame, diagnoses: pl.DataFrame) -> pl.DataFrame:
    """Return a sample per stay; a label is 1 if any diagnosis has a code of the phenotype."""
    labels = diagnoses.group_by("icustay_id").agg(
        pl.col("icd9_code").is_in(facts["codes"]).any().cast(pl.Int8).alias(name)
        for name, facts in phenotypes().items()
    )
    whole = eligible(stays).with_columns(pl.col("los_hours").alias("period_length"))
    return finish(whole.join(labels, on="icustay_id"), *PHENOTYPES)


TASK = Task(name="phenotyping", target="multilabel", labels=PHENOTYPES, score="macro_auroc")
