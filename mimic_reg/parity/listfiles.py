"""Build the reference's listfiles and `episode{n}.csv` as frames of text.

Source: the reference's `create_*` scripts and `extract_episodes_from_subjects`. The order of its
listfiles depends on the machine. Ours is by subject, episode and hour.
"""

from collections.abc import Iterator

import polars as pl

from mimic_reg.clinical.schema import EPSILON, PHENOTYPES, resource
from mimic_reg.parity import files as layout
from mimic_reg.store import Store
from mimic_reg.tasks.base import FIRST_HOURS
from mimic_reg.tasks.decompensation import HORIZON_HOURS, hours_lived

# The hour of the in-hospital mortality prediction in the multitask listfile.
_MORTALITY_POSITION = 47
_FOREVER = 1e18
_DIGITS_READ = 17

_FLAG_CODES = resource("diagnosis_flags.txt").read_text("utf-8").split()
FLAG_COLUMNS = tuple(f"Diagnosis {code}" for code in _FLAG_CODES)


def csv_lines(frame: pl.DataFrame) -> pl.Series:
    """Return each row of a frame of text as a line, with null as an empty field."""
    return frame.select(pl.concat_str(pl.all().fill_null(""), separator=",")).to_series()


def listfiles(store: Store, stays: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield (task, its listfile) for every task of the store, and multitask if possible.

    A frame has the columns of `LISTFILE_COLUMNS`, as text, and `split`.
    """
    keys = stays.select("icustay_id", "episode", stay=layout.timeseries_name())
    for task in store.manifest["tasks"]:
        samples = store.read(f"tasks/{task}.parquet").join(keys, on="icustay_id")
        yield task, _listfile(task, samples.sort("subject_id", "episode", "period_length"))
    if "phenotyping" in store.manifest["tasks"]:
        labels = store.read("tasks/phenotyping.parquet").select("icustay_id", *PHENOTYPES)
        yield layout.MULTITASK, multitask_listfile(stays.sort("subject_id", "episode"), labels)


def _listfile(task: str, samples: pl.DataFrame) -> pl.DataFrame:
    labels = PHENOTYPES if task == "phenotyping" else ("y",)
    hours = ("period_length", "y") if task == "length_of_stay" else ("period_length",)
    texts = samples.with_columns(**{name: layout.six_decimals(samples[name]) for name in hours})
    texts = texts.with_columns(pl.col(labels).cast(pl.String)).rename({"y": "y_true"}, strict=False)
    return texts.select(*layout.LISTFILE_COLUMNS[task], "split")


def multitask_listfile(stays: pl.DataFrame, phenotypes: pl.DataFrame) -> pl.DataFrame:
    """Return one row per stay: every task's masks and labels at all hours of the stay.

    Unlike decompensation's own listfile, it has the hours before the first prediction, with mask 0.
    """
    stays = layout.used_stays(stays).join(phenotypes, on="icustay_id", maintain_order="left")
    stays = stays.with_columns(hours_lived(stays).fill_null(_FOREVER).alias("lived"))
    t, los, lived = pl.col("t"), pl.col("los_hours"), pl.col("lived")
    predicted = (los >= layout.MORTALITY_HOURS - EPSILON) & (
        pl.col("first_event_hours") <= layout.MORTALITY_HOURS + EPSILON
    )
    stays = stays.with_columns(predicted.cast(pl.Int8).alias("predicted"))
    dies = (pl.col("mortality") == 1) & (lived - t < HORIZON_HOURS)
    columns: tuple[pl.Expr | pl.Series, ...] = (
        layout.timeseries_name(),
        layout.six_decimals(stays["los_hours"]),
        pl.format("{};{};{}", _MORTALITY_POSITION * pl.col("predicted"), "predicted", "mortality"),
        _masks_and_labels(stays, los, los - t),
        pl.concat_str(PHENOTYPES, separator=";"),
        _masks_and_labels(stays, pl.min_horizontal(los, lived), dies.cast(pl.Int8)),
    )
    names = layout.LISTFILE_COLUMNS[layout.MULTITASK]
    return stays.select(
        *(column.alias(name) for name, column in zip(names, columns, strict=True)), "split"
    )


def _masks_and_labels(stays: pl.DataFrame, end: pl.Expr, label: pl.Expr) -> pl.Series:
    """Return masks, then labels, of every full hour `t` of a stay before `end`; ";" if none."""
    t = pl.col("t")
    mask = (t > FIRST_HOURS) & (t > pl.col("first_event_hours"))
    hours = (
        stays.with_columns(pl.int_ranges(0, (end + EPSILON).ceil().cast(pl.Int64)).alias("t"))
        .explode("t", empty_as_null=False)
        .select("icustay_id", mask=mask.cast(pl.Int8).cast(pl.String), label=label)
    )
    labels = hours["label"]
    text = layout.six_decimals(labels) if labels.dtype.is_float() else labels.cast(pl.String)
    lists = (
        hours.with_columns(label=text)
        .group_by("icustay_id")
        .agg(lists=pl.format("{};{}", pl.col("mask").str.join(";"), pl.col("label").str.join(";")))
    )
    joined = stays.join(lists, on="icustay_id", how="left", maintain_order="left")
    return joined["lists"].fill_null(";")


def episode_facts(
    stays: pl.DataFrame, cells: pl.DataFrame, diagnoses: pl.DataFrame
) -> pl.DataFrame:
    """Return icustay_id and the columns of `episode{n}.csv`, as text; stays with a diagnosis only.

    Height and weight are the first in the episode, even from before admission to the unit.

    stays:     `schema.STAYS`
    cells:     the stays' episodes (`files.cell_texts`)
    diagnoses: `schema.DIAGNOSES` of the stays' subjects
    """
    first = cells.group_by("icustay_id").agg(pl.col("Height", "Weight").first(ignore_nulls=True))
    described = (
        stays.join(first, on="icustay_id")
        .join(_diagnosis_flags(diagnoses), on="icustay_id", maintain_order="left")
        .with_columns(pl.col("icustay_id").cast(pl.String).alias("Icustay"))
    )
    group = pl.col("ethnicity").str.replace_all(" OR ", "/", literal=True)
    group = group.str.split(" - ").list.first().str.split("/").list.first()
    gender = pl.col("gender").fill_null("")
    return described.with_columns(
        group.replace_strict(layout.ETHNICITY_CODES, default=0).cast(pl.String).alias("Ethnicity"),
        gender.replace_strict(layout.GENDER_CODES, default=layout.GENDER_OTHER)
        .cast(pl.String)
        .alias("Gender"),
        layout.each_value(described["age"], _reread).alias("Age"),
        layout.python_text(_days(described["los_hours"])).alias("Length of Stay"),
        pl.col("mortality").cast(pl.String).alias("Mortality"),
    ).select("icustay_id", *layout.EPISODE_FACTS, *FLAG_COLUMNS)


def _reread(number: float) -> str:
    """Return a number's text after pandas 1.x has read it.

    The reference writes ages and reads them again. The reader of pandas 1.x rounds at every digit
    past 2^53, which changes the last bit of one age in twenty.
    """
    whole, decimals = repr(number).split(".")
    read = 0.0
    for digit in (whole + decimals)[:_DIGITS_READ]:
        read = read * 10.0 + int(digit)
    return repr(read / 10.0 ** (min(_DIGITS_READ, len(whole + decimals)) - len(whole)))


def _days(los_hours: pl.Series) -> pl.Series:
    """Return ICUSTAYS.LOS, which has four decimals in MIMIC-III."""
    days = pl.Series(los_hours.name, los_hours.to_numpy() / 24.0).fill_nan(None)
    rounded = days.round(4)
    return rounded.zip_with((24.0 * rounded == los_hours).fill_null(False), days)


def _diagnosis_flags(diagnoses: pl.DataFrame) -> pl.DataFrame:
    """Return icustay_id and 128 flags, with the reference's errors.

    The reference reads a subject's codes without a type. If all of them are digits they become
    integers, which equal no code, so that every flag is 0.
    """
    text = ~pl.col("icd9_code").str.contains(r"^\d+$").all().over("subject_id")
    codes = pl.when(text).then("icd9_code").alias("code")
    return (
        diagnoses.select("icustay_id", codes)
        .group_by("icustay_id")
        .agg("code")
        .select(
            "icustay_id",
            *(
                pl.col("code").list.contains(code).cast(pl.Int8).cast(pl.String).alias(column)
                for code, column in zip(_FLAG_CODES, FLAG_COLUMNS, strict=True)
            ),
        )
    )
