"""Small tables as ricu writes them: random, with gaps."""

import numpy as np
import pandas as pd

from mimic_reg.cohorts import ImportSettings, import_cohort
from mimic_reg.settings.base import checked

SUBJECT = {"subject": "patient"}


def tables(num=60, seed=0, hours=12):
    """dyn, sta and outc of `num` stays; half as many patients; the first variable tells the label.

    Hours are missing here and there, also at a stay's beginning.
    """
    rng = np.random.default_rng(seed)
    stay = 10 * np.arange(num) + 1_000_003
    length = rng.integers(hours - 4, hours + 1, num)
    label = (np.arange(num) // 2) % 3 == 0
    dyn = pd.DataFrame(
        {
            "stay_id": np.repeat(stay, length),
            "time": pd.to_timedelta(np.concatenate([np.arange(n) for n in length]), unit="h"),
        }
    )
    rows = len(dyn)
    dyn["hr"] = 80 + 20 * np.repeat(label, length) + rng.normal(0, 5, rows)
    dyn["temp"] = rng.normal(37, 1, rows)
    dyn["vent"] = rng.random(rows) < 0.3
    for column in ("hr", "temp", "vent"):
        dyn[column] = dyn[column].where(rng.random(rows) < 0.6)
    dyn["vent"] = dyn["vent"].astype("boolean")
    keep = (rng.random(rows) < 0.9) | (
        dyn["time"] == dyn.groupby("stay_id")["time"].transform("max")
    )
    sta = pd.DataFrame(
        {
            "stay_id": stay,
            "age": rng.uniform(20, 90, num).round(1),
            "sex": np.where(rng.random(num) < 0.5, "Male", "Female"),
            "weight": np.where(rng.random(num) < 0.7, rng.normal(80, 15, num), np.nan),
            "patient": np.arange(num) // 2,
        }
    )
    outc = pd.DataFrame({"stay_id": stay, "label": label.astype(int)})
    return dyn[keep].reset_index(drop=True), sta, outc


def hourly_labels(dyn):
    """An outcome table with a label per hour."""
    end = dyn.groupby("stay_id")["time"].max() / pd.Timedelta("1h")
    rows = [
        (stay, pd.Timedelta(hours=h), h % 3 == 0)
        for stay, n in end.items()
        for h in range(int(n) + 1)
    ]
    return pd.DataFrame(rows, columns=["stay_id", "time", "label"])


def write(folder, dyn, sta, outc, suffix=".parquet"):
    """Write the three tables in one format."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in {"dyn": dyn, "sta": sta, "outc": outc}.items():
        path = folder / f"{name}{suffix}"
        if suffix == ".parquet":
            table.to_parquet(path, index=False)
        else:
            table.to_csv(path, index=False)
    return folder


def settings(**given):
    return checked(ImportSettings, SUBJECT | given)


def imported(folder, parts, suffix=".parquet", **given):
    """Import tables that are written into `folder` first."""
    source = write(folder / "in", *parts, suffix)
    return import_cohort(source, folder / "out", settings(**given))
