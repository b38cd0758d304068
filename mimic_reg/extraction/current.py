"""Read the raw tables of current stays: no discharge, diagnoses or outcome, the same rules."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from mimic_reg.clinical import events as ev
from mimic_reg.clinical.datasets import DATASETS, EVENT_TABLES, MIMIC_III
from mimic_reg.clinical.episodes import build_episodes
from mimic_reg.clinical.hourly import build_hourly, first_events, rows_within_stay
from mimic_reg.clinical.schema import EPSILON, HOURLY, ID, VARIABLES
from mimic_reg.clinical.stays import MAX_DAYS, hours_between, select_current
from mimic_reg.extraction.checks import check_reading
from mimic_reg.extraction.memory import DEFAULT_MEMORY, Plan
from mimic_reg.progress import SILENT, Progress
from mimic_reg.sources.current import QUIET_HOURS, Current
from mimic_reg.sources.mimic3 import Table, find_tables
from mimic_reg.sources.rows import Reading, read_blocks, read_table

STAY = "icustay_id"


def read_current(
    source: Path,
    mode: ev.Mode,
    dataset: str = MIMIC_III.name,
    *,
    now: datetime | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress = SILENT,
) -> Current:
    """Return the hours of current stays from raw tables, by the rules of `extract`.

    mode, dataset: of the store that the model was trained on
    now:    measurements after it are left out; None: the time of the latest measurement
    memory: as for `extract`; all measurements of the stays must fit, too

    Raises:
        InputError: the source cannot be read.
        MimicRegError: it changed while it was read.
    """
    plan = Plan.within(memory)
    tables = find_tables(source, outcomes=False)
    icustays, patients = (read_table(tables[n], Reading()) for n in ("ICUSTAYS", "PATIENTS"))
    stays, excluded = select_current(icustays, patients, now)
    notes, there = [], tables["ICUSTAYS"].dataset
    if there.name != dataset:
        trained = DATASETS[dataset].title
        notes.append(f"The tables are those of {there.title}; the model is one of {trained}.")
    parts = [pl.DataFrame(schema=ev.MEASUREMENTS)]
    for name in EVENT_TABLES:
        progress.stage(name.lower(), tables[name].stamp.bytes, "bytes")
        parts += _measurements(tables[name], stays, mode, plan, progress)
        if tables[name].empty:
            notes.append(f"{tables[name].path.name} has no rows.")
    for table in tables.values():
        table.check_at_rest()
    measurements = pl.concat(parts)
    if now is None:
        now = measurements["time"].max()  # type: ignore[assignment]
    elif late := measurements.filter(pl.col("time") > now).height:
        notes.append(f"Left out {late:,} measurements after {now}.")
    found = build_current(measurements, stays, now, slice_size=plan.stays_per_bucket)
    return replace(found, excluded=excluded | found.excluded, notes=tuple(notes))


def _measurements(
    table: Table, stays: pl.DataFrame, mode: ev.Mode, plan: Plan, progress: Progress
) -> list[pl.DataFrame]:
    """Return the measurements of the stays in an event table."""
    wanted = ev.items(mode, carevue=table.dataset.carevue)["itemid"].implode()
    reading = Reading()
    parts: list[pl.DataFrame] = []
    variables: dict[str, Any] = {}
    for block in read_blocks(table, plan.block_bytes, reading, progress.advance):
        if STAY not in block.columns:  # LABEVENTS
            block = block.with_columns(pl.lit(None, ID).alias(STAY))
        valid = ev.keep_valid(block.filter(pl.col("itemid").is_in(wanted)), stays)
        measured, counts = ev.clean(valid, mode)
        parts.append(measured)
        variables = ev.add_counts(variables, counts)
    check_reading(table, reading, variables, progress)
    return parts


def build_current(
    measurements: pl.DataFrame, stays: pl.DataFrame, now: datetime | None, slice_size: int = 800
) -> Current:
    """Return the hours of stays up to now from cleaned measurements (`events.MEASUREMENTS`).

    stays: subject_id, icustay_id, intime, outtime (null while the patient is in the unit)
    now:   None if there are no measurements
    """
    number = stays.height
    if now is not None:
        measurements = measurements.filter(pl.col("time") <= now)
    last = measurements.group_by(STAY).agg(last=pl.col("time").max())
    stays = stays.join(last, on=STAY, maintain_order="left")
    until = pl.min_horizontal(pl.col("outtime"), pl.lit(now))
    quiet = pl.col("last") + timedelta(hours=QUIET_HOURS)
    end = pl.when(pl.col("outtime").is_null()).then(pl.min_horizontal(until, quiet))
    stays = stays.with_columns(until=until, end=end.otherwise(until))
    stays = stays.with_columns(
        hours_between(stays["end"], stays["intime"]).alias("los_hours"),
        hours_between(stays["until"], stays["intime"]).alias("lasted"),
    )
    too_long = stays.filter(pl.col("los_hours") > 24.0 * MAX_DAYS).height
    stays = stays.filter(pl.col("los_hours") <= 24.0 * MAX_DAYS)
    stays = stays.with_columns(outtime="end").sort(STAY)
    hours, firsts = [pl.DataFrame(schema=HOURLY)], []
    for part in stays.iter_slices(slice_size):
        own = measurements.join(part.select("subject_id"), on="subject_id", how="semi")
        episodes, _ = build_episodes(own, part)
        hours.append(build_hourly(episodes, part))
        firsts.append(first_events(rows_within_stay(episodes, part)))
    known = pl.DataFrame(schema={STAY: ID, "first_event_hours": pl.Float64})
    stays = stays.join(pl.concat([known, *firsts]), on=STAY, maintain_order="left")
    excluded = {
        f"longer than {MAX_DAYS:,} days": too_long,
        "without a measurement so far": number - too_long - stays.height,
    }
    hourly = pl.concat(hours)
    return Current(
        hourly=hourly,
        measured=hourly,
        observed=hourly.select(
            STAY, "hour", *(pl.col(f"mask->{v}").alias(v) == 1 for v in VARIABLES)
        ),
        stays=stays.select(
            STAY, first="first_event_hours", reached=pl.col("los_hours") + EPSILON, lasted="lasted"
        ),
        excluded={reason: count for reason, count in excluded.items() if count},
        now=now,
    )
