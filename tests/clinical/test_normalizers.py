"""The normaliser fitted to a cohort."""

import numpy as np
import polars as pl
import pytest

from mimic_reg.clinical.normalizers import write_normalizers
from mimic_reg.clinical.schema import CHANNELS, HOURLY
from mimic_reg.progress import Progress
from mimic_reg.store import read_json
from tests.stores import write_store


def test_a_constant_channel_keeps_deviation_one_and_is_named(tmp_path):
    """Constant in training; it may vary in other splits and later."""
    folder = write_store(tmp_path, num_subjects=20)
    samples = pl.read_parquet(folder / "tasks" / "phenotyping.parquet")
    train = samples.filter(split="train")["icustay_id"].implode()
    training = pl.col("icustay_id").is_in(train)
    frame = pl.read_parquet(folder / "hourly.parquet").with_columns(
        Height=pl.when(training).then(170.3).otherwise(pl.col("Height")).cast(pl.Float32),
        Glucose=pl.lit(1e6, pl.Float32),
    )
    frame = frame.with_columns(pl.lit(1.0, pl.Float32).alias("mask->pH"))
    frame.cast(dict(HOURLY)).write_parquet(folder / "hourly.parquet", row_group_size=100)
    made, told = tmp_path / "made", Progress()
    made.mkdir()
    told.note = (notes := []).append
    write_normalizers(made, folder / "hourly.parquet", {"phenotyping": samples}, told)
    fitted = read_json(made / "normalizers" / "phenotyping.json")["fitted"]
    assert notes == ["Constant in the training samples of phenotyping: Glucose, Height."]
    assert sorted(fitted["constant"]) == ["Glucose", "Height"]  # no indicator: it is left as it is
    stds = dict(zip(CHANNELS, fitted["stds"], strict=True))
    assert stds["Glucose"] == stds["Height"] == stds["mask->pH"] == 1.0
    ordinary = frame.filter(training)["Heart Rate"].cast(pl.Float64).std()
    assert stds["Heart Rate"] == pytest.approx(ordinary, rel=0.02)  # phenotyping: all but an hour
    assert np.isfinite(fitted["means"]).all()
