"""Build a store from a MEDS data set and a table of labels, as ACES writes it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from mimic_reg.clinical.schema import EPSILON
from mimic_reg.cohorts.importing import Imported, build_store, check_replaceable, slug
from mimic_reg.cohorts.measurements import ROW, Measurements
from mimic_reg.cohorts.meds import layout
from mimic_reg.cohorts.meds.reading import PREDICTION, Events, read_events, read_labels, read_splits
from mimic_reg.cohorts.meds.settings import Codes, MedsSettings
from mimic_reg.cohorts.reading import HOUR, Tables
from mimic_reg.cohorts.settings import Splits
from mimic_reg.errors import InputError
from mimic_reg.extraction.memory import DEFAULT_MEMORY
from mimic_reg.settings.names import suggest
from mimic_reg.store import file_hash
from mimic_reg.store.stages import scratch_beside

KIND = "meds"  # a manifest's source.kind
_SPLIT = "subject_splits"  # the static column of splits
_MOST_COLUMNS = 500  # of codes that nobody listed
_YEAR = 365.25 * 24 * 3600
_KEYS = ("subject_id", HOUR, _SPLIT)


def import_meds(
    folder: Path,
    labels: Path,
    out: Path,
    settings: MedsSettings,
    *,
    force: bool = False,
    memory: int = DEFAULT_MEMORY,
) -> Imported:
    """Build a store from a MEDS data set and labels: subject_id, prediction_time and a value.

    Hours count from the start of a stay. The k-th hour holds the events after k - 1 hours and until
    k hours, both since the start. A sample sees the whole hours that ended by its prediction time.

    labels: a .parquet file, or a folder of them; for several labels, a folder of folders
    force:  replace a store that holds another cohort
    memory: bytes for the hours of the store; the events that are used are in memory whole

    Raises:
        InputError: the files cannot be used, with counts; `out` holds another cohort.
        MimicRegError: the disk is full, or the store is locked.
    """
    name = settings.name or slug(folder)
    check_replaceable(out, name, force)
    table, files = read_labels(labels, settings.labels)
    events = read_events(folder, settings.stay)
    notes: list[str] = []
    samples = _samples(table, events, settings, notes)
    of_stay = samples.group_by("stay")
    stays = of_stay.agg(pl.col("subject_id", "start").first(), last=pl.col(HOUR).max()).sort("stay")
    if settings.window is not None:
        stays, samples = _with_events(stays, samples, events, settings, notes)
    dyn = _dynamic(stays, events, settings, notes)
    sta = _static(stays, events, settings)
    if "splits" not in settings.model_fields_set:
        samples, sta = _with_splits(folder, samples, sta, settings, notes)
        settings = settings.model_copy(update={"splits": Splits(column=_SPLIT)})
    outc = samples.select("stay", HOUR, *settings.labels)
    frames = {
        stem: frame.rename({"stay": settings.stay})
        for stem, frame in {"dyn": dyn, "sta": sta, "outc": outc}.items()
    }
    places = {"dyn": folder / layout.DATA, "sta": folder / layout.DATA, "outc": labels}
    used = {str(path.relative_to(folder)): file_hash(path) for path in events.shards}
    used |= {f"labels/{path.name}": file_hash(path) for path in files[:1]}
    source = {"kind": KIND, "files": used}
    task = settings.task or slug(labels.with_suffix(""))
    with scratch_beside(out) as scratch:
        written, dyn = scratch / "dyn.parquet", frames["dyn"]
        dyn.write_parquet(written)
        frames["dyn"] = dyn.select(settings.stay, HOUR).with_row_index(ROW)
        measurements = Measurements(places["dyn"], written, tuple(dyn.columns), typed=True)
        tables = Tables(measurements, **frames, files=places, notes=tuple(notes))
        return build_store(tables, out, settings, name, task, source, memory, scratch)


def _refuse_or_drop(count: int, what: str, settings: MedsSettings, notes: list[str]) -> None:
    if count and settings.unmatched == "refuse":
        raise InputError(f"{count:,} {what}. Set unmatched: drop to leave them out.")
    if count:
        notes.append(f"Left out: {count:,} {what}.")


# --- stays and samples ----------------------------------------------------------------------------


def _samples(
    table: pl.DataFrame, events: Events, settings: MedsSettings, notes: list[str]
) -> pl.DataFrame:
    """The labels with stay, start and the last whole hour that each may see."""
    table = table.sort("subject_id", PREDICTION)
    if settings.window is not None:
        start = pl.col(PREDICTION) - pl.duration(hours=settings.window)
        hour = pl.lit(settings.window - 1, pl.Int64).alias(HOUR)
        return table.with_row_index("stay", offset=1).with_columns(
            pl.col("stay").cast(pl.Int64), start.alias("start"), hour
        )
    starts = _starts(events, settings)
    samples = table.sort(PREDICTION).join_asof(
        starts.sort("start"), left_on=PREDICTION, right_on="start", by="subject_id",
        strategy="backward", check_sortedness=False,
    )  # fmt: skip
    lost = samples["stay"].null_count()
    what = f"labels have no event {settings.start!r} of their subject before them"
    _refuse_or_drop(lost, what, settings, notes)
    since = (pl.col(PREDICTION) - pl.col("start")).dt.total_microseconds() / 3.6e9
    samples = samples.drop_nulls("stay").with_columns(
        ((since + EPSILON).floor().cast(pl.Int64) - 1).alias(HOUR)
    )
    early = int((samples[HOUR] < 0).sum())
    _refuse_or_drop(early, "labels lie within the first hour of their stay", settings, notes)
    samples = samples.filter(pl.col(HOUR) >= 0)
    if samples.is_empty():
        raise InputError("No label is left. Does 'start' name the code with which stays begin?")
    if repeated := int(samples.select("stay", HOUR).is_duplicated().sum()):
        raise InputError(
            f"{repeated:,} labels share their stay and hour with another. A store has one sample "
            "per stay and hour; keep one label of each."
        )
    return samples.sort("stay", HOUR)


def _starts(events: Events, settings: MedsSettings) -> pl.DataFrame:
    """Subject, stay and start of all stays."""
    wanted = _matching(str(settings.start), events.codes, "start")
    rows = pl.concat([events.scan(shard, wanted).collect() for shard in events.shards])
    if empty := rows["time"].null_count():
        raise InputError(f"{empty:,} rows of {settings.start!r}, which begins stays, have no time.")
    rows = rows.select("subject_id", "stay", start="time")
    if rows["stay"].null_count():
        rows = rows.unique(["subject_id", "start"]).sort("subject_id", "start")
        rows = rows.drop("stay").with_row_index("stay", offset=1)
        return rows.with_columns(pl.col("stay").cast(pl.Int64))
    if repeated := rows.height - rows["stay"].n_unique():
        raise InputError(
            f"{repeated:,} rows of {settings.start!r} begin a stay of {settings.stay!r} that has "
            "begun before. Set 'stay' to a column that is new for each stay."
        )
    return rows


def _with_events(
    stays: pl.DataFrame,
    samples: pl.DataFrame,
    events: Events,
    settings: MedsSettings,
    notes: list[str],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Refuse or drop labels without an event in their window."""
    codes = sorted(events.timed)
    seen = set[int]()
    for shard in events.shards:
        rows = _within(events.scan(shard, codes), stays, by_time=False)
        seen |= set(rows.select("stay").unique().collect()["stay"])
    kept = pl.col("stay").is_in(list(seen))
    lost = stays.height - len(seen)
    what = f"labels have no event of their subject in the {settings.window} hours before them"
    _refuse_or_drop(lost, what, settings, notes)
    if not seen:
        raise InputError("No label is left: none has an event before it.")
    return stays.filter(kept), samples.filter(kept)


def _with_splits(
    folder: Path, samples: pl.DataFrame, sta: pl.DataFrame, settings: MedsSettings, notes: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    splits = read_splits(folder).rename({"split": _SPLIT})
    sta = sta.join(splits, on="subject_id", how="left", maintain_order="left")
    lost = sta.filter(pl.col(_SPLIT).is_null())["subject_id"].n_unique()
    what = f"subjects with labels have no split in {folder / layout.SPLITS}"
    _refuse_or_drop(lost, what, settings, notes)
    sta = sta.drop_nulls(_SPLIT)
    return samples.join(sta, on="stay", how="semi"), sta


# --- columns --------------------------------------------------------------------------------------


def _within(rows: pl.LazyFrame, stays: pl.DataFrame, *, by_time: bool) -> pl.LazyFrame:
    """The rows within stays, with stay and hour.

    by_time: a row belongs to the patient's last stay before it, or to the stay that it names;
             otherwise to every stay (window) of the patient that it lies in
    """
    rows = rows.drop_nulls("time").filter(
        pl.col("subject_id").is_in(stays["subject_id"].unique().implode())
    )
    place = stays.lazy().select("subject_id", "start", "last", "stay")
    if not by_time:
        found = rows.drop("stay").join(place, on="subject_id")
    else:
        named = rows.filter(pl.col("stay").is_not_null()).join(place, on=["subject_id", "stay"])
        other = rows.filter(pl.col("stay").is_null()).drop("stay").sort("time")
        other = other.join_asof(
            place.sort("start"), left_on="time", right_on="start", by="subject_id",
            strategy="backward", check_sortedness=False,
        ).drop_nulls("stay")  # fmt: skip
        found = pl.concat([named, other], how="diagonal")
    since = (pl.col("time") - pl.col("start")).dt.total_microseconds() / 3.6e9
    hour = ((since - EPSILON).ceil() - 1).clip(lower_bound=0).cast(pl.Int64).alias(HOUR)
    return (
        found.filter(pl.col("time") >= pl.col("start"))
        .with_columns(hour)
        .filter(pl.col(HOUR) <= pl.col("last"))
    )


def _dynamic(
    stays: pl.DataFrame, events: Events, settings: MedsSettings, notes: list[str]
) -> pl.DataFrame:
    """Stay, hour and a column per dynamic variable; every stay has a row."""
    listed = settings.codes
    columns = _columns(listed, events.codes, "codes")
    if not listed:
        left = _matching(settings.start, events.codes, "start") if settings.start else []
        columns = {c: (c, c) for c in sorted(events.timed - {*left, layout.BIRTH, layout.DEATH})}
    by_time = settings.window is None
    parts = []
    for shard in events.shards:
        rows = _named(events.scan(shard, list(columns)), columns)
        if untimed := rows.filter(pl.col("time").is_null()).select(pl.len()).collect().item():
            raise InputError(
                f"{shard}: {untimed:,} rows of dynamic codes have no time. List these codes under "
                "static_codes, and the others under codes."
            )
        rows = rows.filter(pl.col("number").is_not_null() | pl.col("text").is_not_null())
        rows = _within(rows, stays, by_time=by_time)
        parts.append(rows.select("stay", HOUR, "time", "column", "number", "text").collect())
    found = pl.concat(parts).sort("stay", "time", maintain_order=True)
    names = list(listed) or sorted(found["column"].unique())
    if not listed and len(names) > _MOST_COLUMNS:
        raise InputError(
            f"The stays have {len(names):,} codes with values, more than {_MOST_COLUMNS}. List "
            "those to use under 'codes'."
        )
    how = {"median": pl.Expr.median, "mean": pl.Expr.mean, "last": pl.Expr.last}
    frame = _wide(found, ["stay", HOUR], names, settings, notes, how[settings.aggregate])
    silent = stays.join(frame, on="stay", how="anti")
    silent = silent.select("stay", pl.lit(0, pl.Int64).alias(HOUR))
    return pl.concat([frame, silent], how="diagonal").sort("stay", HOUR)


def _static(stays: pl.DataFrame, events: Events, settings: MedsSettings) -> pl.DataFrame:
    """Stay, subject and a column per static variable."""
    listed = settings.static_codes
    if listed is None:
        listed = _default_static(events)
    columns = _columns(listed, events.codes, "static_codes")
    place = stays.lazy().select("subject_id", "start", own="stay")
    parts = []
    for shard in events.shards:
        rows = _named(events.scan(shard, list(columns)), columns).join(place, on="subject_id")
        known = pl.col("time").is_null() | (pl.col("time") <= pl.col("start"))
        mine = pl.col("stay").is_null() | (pl.col("stay") == pl.col("own"))
        age = (pl.col("start") - pl.col("time")).dt.total_seconds() / _YEAR
        is_birth = pl.col("code") == layout.BIRTH
        number = pl.when(is_birth).then(age.cast(pl.Float32)).otherwise("number")
        parts.append(
            rows.filter(known & (mine if settings.window is None else True))
            .select("time", "column", number.alias("number"), "text", stay="own")
            .collect()
        )
    found = pl.concat(parts).sort("stay", "time", nulls_last=False, maintain_order=True)
    frame = _wide(found, ["stay"], list(listed), settings, [], pl.Expr.last)
    return stays.select("stay", "subject_id").join(
        frame, on="stay", how="left", maintain_order="left"
    )


def _default_static(events: Events) -> Codes:
    """The codes without times, those such as GENDER//F and GENDER//M together; and the age."""
    listed: Codes = {"age": layout.BIRTH} if layout.BIRTH in events.codes else {}
    for code in sorted(events.static - {layout.BIRTH}):
        name, separator, _ = code.partition("//")
        listed.setdefault(name, f"{name}//*" if separator else code)
    return listed


def _columns(listed: Codes, codes: frozenset[str], setting: str) -> dict[str, tuple[str, str]]:
    """Code -> column, and the beginning of the code that is not its text."""
    found: dict[str, tuple[str, str]] = {}
    for column, given in listed.items():
        for pattern in [given] if isinstance(given, str) else given:
            for code in _matching(pattern, codes, f"{setting}.{column}"):
                if found.setdefault(code, (column, pattern.removesuffix("*")))[0] != column:
                    raise InputError(
                        f"{setting}: {found[code][0]!r} and {column!r} both have the code {code!r}."
                    )
    return found


def _matching(pattern: str, codes: frozenset[str], setting: str) -> list[str]:
    if pattern.endswith("//*"):
        found = sorted(code for code in codes if code.startswith(pattern[:-1]))
    else:
        found = [pattern] if pattern in codes else []
    if not found:
        raise InputError(
            f"{setting}: the data have no code {pattern!r}. {suggest(pattern, sorted(codes))}"
        )
    return found


def _named(rows: pl.LazyFrame, columns: dict[str, tuple[str, str]]) -> pl.LazyFrame:
    """The rows with the column that each is of; a row without a value gets the rest of its code."""
    names = {code: column for code, (column, _) in columns.items()}
    rests = {
        code: code.removeprefix(begin)
        for code, (_, begin) in columns.items()
        if begin.endswith("//") and code != begin
    }
    empty = pl.col("number").is_null() & pl.col("text").is_null()
    rest = pl.col("code").replace_strict(rests, default=None, return_dtype=pl.String)
    return rows.with_columns(
        column=pl.col("code").replace_strict(names, return_dtype=pl.String),
        text=pl.when(empty).then(rest).otherwise("text"),
    )


def _wide(
    rows: pl.DataFrame,
    keys: list[str],
    names: Sequence[str],
    settings: MedsSettings,
    notes: list[str],
    aggregate: Callable[[pl.Expr], pl.Expr],
) -> pl.DataFrame:
    """A row per key and a column per name: numbers, or texts where most values are texts."""
    if reserved := {*_KEYS, settings.stay, *settings.labels} & {*names}:
        raise InputError(
            f"A column cannot be called {reserved.pop()!r}, a name that the store needs. List its "
            "code under 'codes' or 'static_codes' with another name."
        )
    frame = rows.select(keys).unique().sort(keys)
    parts = rows.partition_by("column", as_dict=True, maintain_order=True)
    for name in names:
        column = parts.get((name,), rows.clear())
        number, text = pl.col("number"), pl.col("text")
        numbers, texts = column["number"].count(), column["text"].count()
        normal = settings.normal_values.get(name)
        is_text = texts > numbers or (not numbers and isinstance(normal, str))
        value = (text if is_text else number).alias(name)
        held = column.filter((text if is_text else number).is_not_null())
        if other := column.height - held.height:
            kind = "text" if is_text else "numbers"
            notes.append(f"{name!r} holds {kind}; left out {other:,} values of the other kind.")
        zero_one = not is_text and bool(held["number"].is_in([0.0, 1.0]).all())
        pick = value.last() if is_text or zero_one else aggregate(value)
        wide = held.group_by(keys, maintain_order=True).agg(pick)
        frame = frame.join(wide, on=keys, how="left", maintain_order="left")
    return frame
