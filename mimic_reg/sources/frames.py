"""Write a cohort store from your own tables in memory and their specification.

The tables are checked against the specification before anything is written. The normaliser is
fitted to the hours that training samples see.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import xxhash

from mimic_reg import __version__
from mimic_reg.clinical.normalizers import is_constant
from mimic_reg.clinical.schema import EPSILON
from mimic_reg.errors import InputError
from mimic_reg.store import Store, check_target, file_hash, locked, normalizer_name, write_json
from mimic_reg.store.spec import SPLIT, SPLITS, CohortSpec, Task, split_in_fold
from mimic_reg.store.stages import GroupedWriter, Workspace, publish, recover, scratch_beside

KIND = "frames"
_HOURS, _MEASURED = "hourly.parquet", "measured.parquet"
_MOST_HOURS = 1 << 40  # more hours than any table has


def write_store(
    hourly: pl.DataFrame,
    samples: Mapping[str, pl.DataFrame],
    spec: CohortSpec,
    out: Path,
    *,
    measured: pl.DataFrame | None = None,
    source: Mapping[str, Any] | None = None,
) -> Store:
    """Write a store of hourly features and return it, opened.

    hourly:   the unit's key (whole numbers), hours 0, 1, 2, … without gaps, the channels; imputed,
              unless the specification says otherwise
    samples:  task -> its table: key, subject (whole numbers), hours it may see, labels, and split;
              or fold, from 1 on, if the specification has folds: then a normaliser is fitted to the
              training part of each
    spec:     what these tables are
    measured: the same rows in the same order, some channels with values only where they were
              measured: the normaliser is then fitted to these; by default it is fitted to `hourly`
    source:   what the manifest says about where the tables come from

    Raises:
        InputError: the tables do not match the specification (with a count), or `out` holds
            something else.
        MimicRegError: the disk is full, or the store is locked.
    """
    if not spec.is_hourly or spec.normalizers != ("fitted",):
        raise InputError("The specification must have hours, and 'fitted' as its only normalizer.")
    if unknown := sorted(samples.keys() - {task.name for task in spec.tasks}):
        raise InputError(
            f"There are samples of {unknown[0]!r}, which is not a task of the cohort {spec.name!r}."
        )
    hourly = _checked_hours(hourly, spec)
    fit = None if measured is None else _checked_measured(hourly, measured, spec)
    held = hourly.group_by(spec.unit).len("held")
    with scratch_beside(out) as scratch:
        return write_parts([(hourly, fit)], held, samples, spec, out, scratch, source=source)


def write_parts(
    parts: Iterable[tuple[pl.DataFrame, pl.DataFrame | None]],
    held: pl.DataFrame,
    samples: Mapping[str, pl.DataFrame],
    spec: CohortSpec,
    out: Path,
    scratch: Path,
    *,
    source: Mapping[str, Any] | None = None,
) -> Store:
    """Write a store of an hourly table in parts, which need not fit into memory together.

    parts:   hours of some units, sorted; and the same rows of the channels that were measured, or
             None: see `write_store`
    held:    unit and the number of its hours (held)
    scratch: a folder for a copy of what was measured
    samples, spec, out, source: as in `write_store`, whose errors it raises
    """
    tables = {task.name: _checked_samples(samples, held, spec, task) for task in spec.tasks}
    check_target(out)
    with locked(out):
        recover(out)
        work = Workspace(out, uuid4().hex)  # an unfinished store may be of other tables
        folder, _, _ = work.stage("tables", lambda f: _write(f, parts, tables, spec, scratch))
        files = work.files(folder)
        hashes = [(name, file_hash(path)) for name, path in files.items()]
        content = repr([spec.model_dump_json(), hashes])
        fingerprint = xxhash.xxh3_128_hexdigest(content.encode())
        manifest = {
            "program": __version__,
            "cohort": spec.model_dump(mode="json"),
            "fingerprint": fingerprint,
            "source": {"kind": KIND, **(source or {}), "fingerprint": fingerprint},
        }
        publish(out, files, manifest)
    return Store.open(out)


def _checked_measured(
    hourly: pl.DataFrame, measured: pl.DataFrame, spec: CohortSpec
) -> pl.DataFrame:
    """Return what was measured, in the store's types."""
    keys = [spec.unit, str(spec.time)]
    if unknown := [c for c in measured.columns if c not in hourly.columns]:
        raise InputError(f"The measured table has an unknown column {unknown[0]!r}.")
    same = measured.height == hourly.height and all(
        (measured[key] == hourly[key]).all() for key in keys
    )
    if not same:
        raise InputError("The measured table and the hourly table have other rows.")
    return measured.with_columns(
        pl.col(c).cast(pl.Float32) for c in measured.columns if c not in keys
    )


def _write(
    folder: Path,
    parts: Iterable[tuple[pl.DataFrame, pl.DataFrame | None]],
    tables: Mapping[str, pl.DataFrame],
    spec: CohortSpec,
    scratch: Path,
) -> dict[str, Any]:
    hours, measured = GroupedWriter(folder), GroupedWriter(scratch)
    for hourly, fit in parts:
        checked = _checked_hours(hourly, spec)
        hours.write(_HOURS, checked)
        if fit is not None:
            measured.write(_MEASURED, _checked_measured(checked, fit, spec))
    hours.close()
    measured.close()
    places = folder / _HOURS, scratch / _MEASURED if measured.writers else None
    (folder / "tasks").mkdir()
    for name, table in tables.items():
        table.write_parquet(folder / "tasks" / f"{name}.parquet")
        divided = divisions(table, spec.folds, spec.repeats)
        for fold, found in _fitted(*places, spec, divided).items():
            path = folder / normalizer_name(f"{name}.json", fold)
            path.parent.mkdir(exist_ok=True)
            content = {"channels": list(spec.channel_names), "fitted": found}
            write_json(path, content, sync=False)
    return {"tasks": list(tables)}


def divisions(
    samples: pl.DataFrame, folds: int | None, repeats: int = 1
) -> dict[int | None, pl.DataFrame]:
    """Return the samples with their split, in each fold; under None for a cohort without folds."""
    if folds is None:
        return {None: samples}
    return {f: samples.with_columns(split_in_fold(f, folds)) for f in range(1, folds * repeats + 1)}


def _fitted(
    hourly: Path,
    measured: Path | None,
    spec: CohortSpec,
    divided: Mapping[int | None, pl.DataFrame],
) -> dict[int | None, dict[str, Any]]:
    """Return means and deviations (ddof 1) of the hours that training samples see, each once.

    Empty cells do not count. A channel without a value has mean 0 and deviation 1. "unseen" names
    the continuous ones of these and, in a cohort with folds, the indicators that are 0 in all these
    hours: a model cannot know what they mean, so its samples have 0 there.

    measured: some channels of the hours, empty where nothing was measured
    divided:  fold → the samples with their split
    """
    hours = pl.read_parquet(hourly, columns=[spec.unit, str(spec.time)], glob=False)
    used = {fold: _used(hours, samples, spec) for fold, samples in divided.items()}
    moments: dict[int | None, list[tuple[Any, Any]]] = {fold: [] for fold in used}
    unseen: dict[int | None, list[str]] = {fold: [] for fold in used}
    names = pq.read_schema(measured).names if measured else ()
    for channel in spec.channels:
        place = measured if measured and channel.name in names else hourly
        whole = pl.read_parquet(place, columns=[channel.name], glob=False)[channel.name]
        whole = whole.rechunk()  # a sum depends on the chunks
        for fold, mask in used.items():
            column = whole.filter(mask).cast(pl.Float64)
            moments[fold].append((column.mean(), column.std()))
            empty = 0 < len(column) == column.null_count() and channel.kind == "continuous"
            zero = spec.folds and channel.kind == "indicator" and not (column > 0).any()
            if empty or zero:
                unseen[fold].append(channel.name)
    return {
        fold: {
            **({"unseen": unseen[fold]} if spec.folds or unseen[fold] else {}),
            "hours": int(mask.sum()),
            **_constants(moments[fold], spec),
        }
        for fold, mask in used.items()
    }


def _used(hours: pl.DataFrame, samples: pl.DataFrame, spec: CohortSpec) -> pl.Series:
    """Return which hours some training sample sees."""
    train = samples.filter(pl.col(SPLIT) == "train")
    seen = train.group_by(spec.unit).agg(seen=_num_hours(spec).max())
    joined = hours.join(seen, on=spec.unit, how="left", maintain_order="left")
    return (joined[str(spec.time)] < joined["seen"]).fill_null(False)


def _constants(moments: list[tuple[Any, Any]], spec: CohortSpec) -> dict[str, Any]:
    means, stds = np.array(moments, np.float64).T  # None, where there is no value, becomes NaN
    means, stds = np.nan_to_num(means), np.nan_to_num(stds)
    constant = is_constant(means, stds)
    stds[constant] = 1.0
    pairs = zip(spec.channels, constant, strict=True)
    names = [channel.name for channel, same in pairs if same and channel.kind == "continuous"]
    return {"means": means.tolist(), "stds": stds.tolist(), "constant": names}


def _num_hours(spec: CohortSpec) -> pl.Expr:
    """Return the number of hours that a sample sees."""
    return (pl.col(str(spec.end)) + 1 - EPSILON).floor().clip(-1, _MOST_HOURS).cast(pl.Int64)


def _columns(frame: pl.DataFrame, expected: list[str], what: str) -> pl.DataFrame:
    if not isinstance(frame, pl.DataFrame):
        raise InputError(
            f"{what} is a {type(frame).__module__}.{type(frame).__name__}, not a polars.DataFrame. "
            "Convert a pandas frame with polars.from_pandas, a lazy frame with collect()."
        )
    for problem, names in (
        ("lacks the column", [c for c in expected if c not in frame.columns]),
        ("has an unknown column", [c for c in frame.columns if c not in expected]),
    ):
        if names:
            raise InputError(f"{what} {problem} {names[0]!r}. Its columns: {', '.join(expected)}.")
    return frame.select(expected)


def _refuse(count: int, what: str) -> None:
    if count:
        raise InputError(f"{count:,} {what}.")


def _whole(frame: pl.DataFrame, columns: tuple[str, ...], what: str) -> pl.DataFrame:
    for column in columns:
        whole = frame[column].dtype.is_integer()
        if not whole or frame[column].cast(pl.Int64, strict=False).null_count():
            raise InputError(
                f"{what}: {column!r} must hold whole numbers (64 bits), without empty cells."
            )
    return frame.with_columns(pl.col(columns).cast(pl.Int64))


def _checked_hours(hourly: pl.DataFrame, spec: CohortSpec) -> pl.DataFrame:
    """Return the hourly table in the store's order and types."""
    time, channels = str(spec.time), list(spec.channel_names)
    frame = _columns(hourly, [spec.unit, time, *channels], "The hourly table")
    frame = _whole(frame, (spec.unit, time), "The hourly table")
    if not _is_sorted(frame, spec.unit, time):
        frame = frame.sort(spec.unit, time)
    expected = pl.int_range(pl.len()).over(spec.unit)
    wrong = frame.filter(pl.col(time) != expected)[spec.unit].n_unique()
    _refuse(wrong, f"values of {spec.unit!r} do not have the hours 0, 1, 2, … once each")
    for channel in spec.channels:
        column = frame[channel.name]
        if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
            raise InputError(f"The channel {channel.name!r} holds {column.dtype}, not numbers.")
        numbers = column.cast(pl.Float64)
        finite = numbers.cast(pl.Float32, strict=False).is_finite()
        full = spec.imputed or channel.kind != "continuous"
        bad = (numbers.null_count() if full else 0) + int((~finite).sum())
        state, advice = "NaN", "write null for an empty cell"
        if full:
            state, advice = "empty", "impute them"
        what = f"{state}, infinite or too large for 32 bits; {advice}"
        _refuse(bad, f"cells of the channel {channel.name!r} are {what}")
        if channel.kind != "continuous":
            other = int((~numbers.is_in([0.0, 1.0])).sum())
            _refuse(other, f"cells of the {channel.kind} channel {channel.name!r} are not 0 or 1")
    if frame.is_empty():
        raise InputError("The hourly table has no rows.")
    return frame.with_columns(pl.col(channels).cast(pl.Float32), pl.col(time).cast(pl.Int32))


def _is_sorted(frame: pl.DataFrame, unit: str, time: str) -> bool:
    """Whether rows are in the store's order; a table that is needs no second copy."""
    step = pl.col(unit).diff()
    return bool(frame.select(((step > 0) | ((step == 0) & (pl.col(time).diff() > 0))).all()).item())


def _checked_samples(
    samples: Mapping[str, pl.DataFrame], held: pl.DataFrame, spec: CohortSpec, task: Task
) -> pl.DataFrame:
    """Return a task's sample table in the store's types."""
    if task.name not in samples:
        raise InputError(f"There is no sample table for the task {task.name!r}.")
    what, end = f"The sample table of {task.name}", str(spec.end)
    keys = list(dict.fromkeys((spec.subject, spec.unit, *spec.divisions, end)))
    frame = _columns(samples[task.name], [*keys, *task.labels], what)
    frame = _whole(frame, (spec.unit, spec.subject), what)
    of = f"samples of {task.name}"
    if not frame[end].dtype.is_numeric():
        raise InputError(f"{what}: {end!r} holds {frame[end].dtype}, not numbers of hours.")
    frame = _typed_division(frame, spec, what).with_columns(pl.col(end).cast(pl.Float64))
    infinite = frame.height - int(frame[end].is_finite().sum())
    _refuse(infinite, f"{of} have no finite number in {end!r}")
    _refuse(int(frame.select(spec.keys).is_duplicated().sum()), f"{of} appear more than once")
    for column in spec.divisions:
        _check_division(frame, column, spec, task)
    joined = frame.join(held, on=spec.unit, how="left").with_columns(sees=_num_hours(spec))
    _refuse(joined["held"].null_count(), f"{of} have units without a row in the hourly table")
    beyond = joined.filter(~pl.col("sees").is_between(1, pl.col("held"))).height
    _refuse(beyond, f"{of} see no hour, or more hours than their unit has")
    if task.hours is not None:
        other = frame.filter((pl.col(end) - task.hours).abs() > EPSILON).height
        _refuse(other, f"{of} do not see exactly {task.hours:g} hours, as the task requires")
    return frame.with_columns(_checked_label(frame[label], task) for label in task.labels)


def _typed_division(frame: pl.DataFrame, spec: CohortSpec, what: str) -> pl.DataFrame:
    """Return the table with its column of splits as text, or of folds as numbers."""
    if spec.folds:
        folds = pl.col(spec.divisions).cast(pl.Int16, strict=False)
        return _whole(frame, spec.divisions, what).with_columns(folds)
    if not isinstance(frame[SPLIT].dtype, pl.String | pl.Categorical | pl.Enum):
        raise InputError(f"{what}: 'split' holds {frame[SPLIT].dtype}, not {', '.join(SPLITS)}.")
    return frame.with_columns(pl.col(SPLIT).cast(pl.String))


def _check_division(frame: pl.DataFrame, column: str, spec: CohortSpec, task: Task) -> None:
    """Refuse another split or fold, an empty one, and a subject in two."""
    of = f"samples of {task.name}"
    known = list(range(1, spec.folds + 1)) if spec.folds else list(SPLITS)
    allowed = f"1 to {spec.folds}" if spec.folds else ", ".join(SPLITS)
    unknown = int((~frame[column].is_in(known)).sum()) + frame[column].null_count()
    _refuse(unknown, f"{of} have a {column} other than {allowed}")
    for value in known:
        if frame.filter(pl.col(column) == value).is_empty():
            raise InputError(f"There are no {of} in the {column} {value!r}.")
    shared = frame.group_by(spec.subject).agg(pl.col(column).n_unique() > 1)[column].sum()
    what = f"subjects of {task.name} are in several {column}s; keep each subject in one"
    _refuse(int(shared), what)


def _checked_label(label: pl.Series, task: Task) -> pl.Series:
    of = f"labels {label.name!r} of {task.name}"
    if not (label.dtype.is_numeric() or label.dtype == pl.Boolean):
        raise InputError(f"The {of} have the type {label.dtype}, not numbers.")
    _refuse(label.null_count(), f"{of} are empty; leave these samples out")
    if task.target == "regression":
        _refuse(int((~label.cast(pl.Float64).is_finite()).sum()), f"{of} are infinite")
        return label.cast(pl.Float64)
    allowed = list(range(len(task.classes) or 2))
    other = int((~label.cast(pl.Float64).is_in([float(a) for a in allowed])).sum())
    _refuse(other, f"{of} are outside {allowed[0]} to {allowed[-1]}")
    return label.cast(pl.Int8 if len(allowed) < 100 else pl.Int64)
