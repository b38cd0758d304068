"""The layout and spelling of the files of mimic3-benchmarks.

Its output folder holds `root/{train,test}/{subject}/episode{n}.csv`, `episode{n}_timeseries.csv`
beside it, and one folder per task with listfiles and `{train,test}/` (the time series of the task's
hours). This module makes texts from whole columns; other modules write and read the files.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mimic_reg.clinical.episodes import number_text
from mimic_reg.clinical.events import UNTOUCHED
from mimic_reg.clinical.hourly import within_stay
from mimic_reg.clinical.schema import EPSILON, NUMBER_VARIABLES, PHENOTYPES, VARIABLES
from mimic_reg.errors import InputError
from mimic_reg.store import Store

KIND = "mimic3-benchmarks"  # source.kind in the manifest of an imported store
ROOT = "root"
MULTITASK = "multitask"
# Our name of a task -> its name in the reference.
TASK_FOLDERS = {
    "in_hospital_mortality": "in-hospital-mortality",
    "decompensation": "decompensation",
    "length_of_stay": "length-of-stay",
    "phenotyping": "phenotyping",
    MULTITASK: MULTITASK,
}
PARTITIONS = ("train", "test")  # folders; train/ includes validation

MORTALITY_HOURS = 48.0  # the first hours of a stay, which in-hospital mortality uses
# Kinds of time series: decompensation, phenotyping and length of stay have the same files.
IN_HOSPITAL_MORTALITY, WHOLE_STAY = "in_hospital_mortality", "whole_stay"
TIMESERIES = ("Hours", *VARIABLES)
TIMESERIES_HEADER = ",".join(TIMESERIES)
EPISODE_FACTS = (
    *("Icustay", "Ethnicity", "Gender", "Age", "Height", "Weight"),
    *("Length of Stay", "Mortality"),
)
LISTFILE_COLUMNS: dict[str, tuple[str, ...]] = {
    "in_hospital_mortality": ("stay", "y_true"),
    "decompensation": ("stay", "period_length", "y_true"),
    "length_of_stay": ("stay", "period_length", "y_true"),
    "phenotyping": ("stay", "period_length", *PHENOTYPES),
    MULTITASK: (
        "filename",
        "length of stay",
        "in-hospital mortality task (pos;mask;label)",
        "length of stay task (masks;labels)",
        "phenotyping task (labels)",
        "decompensation task (masks;labels)",
    ),
}

# Below this, Polars writes 0.00002 where Python writes 2e-05; otherwise they agree.
_SMALL = 1e-4
_STAYS_AT_ONCE = 500

GENDER_CODES = {"F": 1, "M": 2, "": 0}
GENDER_OTHER = 3
ETHNICITY_CODES = {
    **{"ASIAN": 1, "BLACK": 2, "CARIBBEAN ISLAND": 2, "HISPANIC": 3, "SOUTH AMERICAN": 3},
    **{"WHITE": 4, "MIDDLE EASTERN": 4, "PORTUGUESE": 4},
}


@dataclass(frozen=True)
class Folders:
    """The existing output of the reference under `base`; `tasks` by our names."""

    base: Path
    root: bool
    tasks: tuple[str, ...]


def find_folders(folder: Path) -> Folders:
    """Find `root/` and the task folders in `folder` or in its `data/`, as in the reference.

    Raises:
        InputError: none of them exists, or subjects are not yet split into train and test.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.")
    for base in (folder, folder / "data"):
        root = (base / ROOT).is_dir()
        tasks = tuple(n for n, f in TASK_FOLDERS.items() if (base / f).is_dir())
        if root and not all((base / ROOT / name).is_dir() for name in PARTITIONS):
            raise InputError(
                f"{base / ROOT} has no train/ and test/ folder. "
                "Run the reference's split_train_and_test first."
            )
        if root or tasks:
            return Folders(base, root, tasks)
    wanted = ", ".join((ROOT, *TASK_FOLDERS.values()))
    raise InputError(
        f"{folder} holds no output of mimic3-benchmarks: neither it nor its data/ has any of "
        f"the folders {wanted}."
    )


def each_value(values: pl.Series, spell: Callable[[Any], str]) -> pl.Series:
    """Return `spell` of each value, called once per distinct value; null stays null."""
    distinct = values.drop_nulls().unique()
    spelled = pl.Series([spell(v) for v in distinct], dtype=pl.String)
    return values.replace_strict(distinct, spelled, default=None, return_dtype=pl.String)


def six_decimals(values: pl.Series) -> pl.Series:
    """Return hours as the listfiles spell them."""
    return each_value(values, "{:.6f}".format)


def python_text(numbers: pl.Series) -> pl.Series:
    """Return Python's repr of each number."""
    text = numbers.cast(pl.String)
    small = ((numbers.abs() < _SMALL) & (numbers != 0)).fill_null(False)
    if not small.any():
        return text
    return each_value(numbers.set(~small, None), repr).zip_with(small, text)


def quoted(text: pl.Expr) -> pl.Expr:
    """Return a CSV field, in quotes if it needs them."""
    inner = text.str.replace_all('"', '""', literal=True)
    return pl.when(text.str.contains('[,"\r\n]')).then('"' + inner + '"').otherwise(text)


def used_stays(stays: pl.DataFrame) -> pl.DataFrame:
    """Return the stays with a file in the folders of all tasks except in-hospital mortality.

    As `tasks.base.eligible`, but including imported stays, whose diagnoses are unknown.
    """
    return stays.filter(
        pl.col("los_hours").is_not_null(),
        pl.col("num_diagnoses").ne_missing(0),
        pl.col("first_event_hours").is_not_null(),
    )


def partition() -> pl.Expr:
    """Return the folder of a stay; train/ includes validation subjects."""
    return pl.when(pl.col("split") == "test").then(pl.lit("test")).otherwise(pl.lit("train"))


def timeseries_name() -> pl.Expr:
    """Return the name of a stay's file in the task folders and the listfiles."""
    return pl.format("{}_episode{}_timeseries.csv", "subject_id", "episode")


def batches(store: Store, stays: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield `stays` by ranges of icustay_id, each with its episode rows as texts (`cell_texts`)."""
    for part in stays.sort("icustay_id").iter_slices(_STAYS_AT_ONCE):
        ids = part["icustay_id"]
        inside = pl.col("icustay_id").is_between(ids[0], ids[-1])
        episodes = store.scan("episodes.parquet").filter(inside).collect()
        texts = store.scan("episode_texts.parquet").filter(inside).collect()
        wanted = part.select("icustay_id")
        rows = episodes.join(wanted, on="icustay_id", how="semi", maintain_order="left")
        yield part, cell_texts(rows, texts)


def cell_texts(episodes: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """Return icustay_id, hours, and the columns of `TIMESERIES` in the reference's spelling.

    episodes: `schema.EPISODES`
    texts:    `schema.EPISODE_TEXTS` of the same stays
    """
    own = [name for name in NUMBER_VARIABLES if name in UNTOUCHED]
    cells = episodes.with_columns(
        python_text(episodes["hours"]).alias("Hours"),
        *(
            number_text(pl.col(name)).alias(name) if name in own else python_text(episodes[name])
            for name in NUMBER_VARIABLES
        ),
    )
    for name in own:
        spelled = texts.filter(variable=name).select("icustay_id", "hours", spelled="text")
        if spelled.height:
            cells = cells.join(
                spelled, on=["icustay_id", "hours"], how="left", maintain_order="left"
            ).with_columns(pl.coalesce("spelled", name).alias(name))
            cells = cells.drop("spelled")
    return cells.select("icustay_id", "hours", *TIMESERIES)


def task_rows(
    cells: pl.DataFrame, stays: pl.DataFrame
) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    """Return, by kind, the stays with a time series, and its rows of `cells`, from admission on."""
    used = used_stays(stays)
    first_hours = used.filter(
        pl.col("los_hours") >= MORTALITY_HOURS - EPSILON,
        pl.col("first_event_hours") < MORTALITY_HOURS + EPSILON,
    )
    kinds = {
        IN_HOSPITAL_MORTALITY: first_hours.with_columns(bound=MORTALITY_HOURS),
        WHOLE_STAY: used.with_columns(bound="los_hours"),
    }

    def rows(chosen: pl.DataFrame) -> pl.DataFrame:
        bounds = chosen.select("icustay_id", "bound")
        joined = cells.join(bounds, on="icustay_id", maintain_order="left")
        return joined.filter(within_stay(pl.col("hours"), pl.col("bound")))

    return {kind: (chosen, rows(chosen)) for kind, chosen in kinds.items()}


def timeseries_texts(cells: pl.DataFrame) -> dict[int, str]:
    """Return the content of each stay's time-series file."""
    line = pl.concat_str((quoted(pl.col(name)).fill_null("") for name in TIMESERIES), separator=",")
    files = cells.group_by("icustay_id").agg(line.str.join("\n"))
    return {stay: f"{TIMESERIES_HEADER}\n{text}\n" for stay, text in files.iter_rows()}
