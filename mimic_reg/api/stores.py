"""Cohort stores from Python: open one, make one, take its samples."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mimic_reg import store as cohort_store
from mimic_reg.errors import InputError
from mimic_reg.store.spec import CohortSpec
from mimic_reg.urls import as_url, refuse_url

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from mimic_reg.api.samples import Splits

PathLike = str | os.PathLike[str]


class Store(cohort_store.Store):
    """An open cohort store.

    Attributes:
        folder: where it is.
        spec: what it holds: channels, tasks, splits, as a `CohortSpec`.
        manifest: the content of `manifest.json`.
        fold: the fold to test on, if `in_fold` chose one.
    """

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that it has samples of."""
        return self.spec.task_names

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of an hour, in the order of the features; none for images."""
        return self.spec.channel_names

    @property
    def folds(self) -> tuple[int, ...]:
        """Numbers of its folds, for cross-validation; none if patients are divided once."""
        return tuple(range(1, self.spec.num_folds + 1))

    def samples(
        self, task: str, *, normalizer: str | None = None, fold: int | None = None
    ) -> "Splits":
        """Return the samples of a task: training, validation and test.

        Args:
            task: a task of the store, such as "in_hospital_mortality".
            normalizer: "published" or "fitted" means and deviations; of images "unit", "fitted";
                "raw": values as the store has them. None: as `fit` uses for this task.
            fold: of a store with folds, the one to test on; the next one validates.

        Returns:
            (train, validation, test), each a `SampleSet`.

        Raises:
            InputError: the store has no such task, normaliser or fold, or is damaged.

        Example:
            >>> train, validation, test = store.samples(task)  # doctest: +SKIP
        """
        from mimic_reg.api.samples import load_splits

        return load_splits(self.in_fold(self.fold if fold is None else fold), task, normalizer)

    def __repr__(self) -> str:
        return f"<Store {str(self.folder)!r}: {self.spec.name}, tasks: {', '.join(self.tasks)}>"


def open_store(path: PathLike) -> Store:
    """Open a cohort store.

    Args:
        path: the folder that `mimic-reg extract`, `mimic-reg import-images` or `write_store` wrote;
            or its URL in an object store, such as "s3://bucket/store", which is copied once to this
            machine.

    Returns:
        The store; its files are checked against their hashes when they are read.

    Raises:
        InputError: the folder holds no store, or one that is damaged or of another version.
        MimicRegError: a URL cannot be read, or the disk is full.
    """
    if isinstance(path, str | os.PathLike) and as_url(path):
        from mimic_reg.store.remote import locate

        path = locate(path)
    return Store.open(as_path(path, "store"))


def as_path(path: object, what: str) -> Path:
    """Return a path.

    Raises:
        InputError: it is no text and no path; it is a URL.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"The path of a {what} is needed, got {path!r}.")
    refuse_url(path, what)
    return Path(path)


def as_store(given: "PathLike | cohort_store.Store") -> Store:
    """Return an open store from a path or an open store."""
    if isinstance(given, Store):
        return given
    if isinstance(given, cohort_store.Store):
        return Store(given.folder, given.manifest, given.fold)
    return open_store(given)


def write_store(
    hourly: "pl.DataFrame | pd.DataFrame",
    samples: "Mapping[str, pl.DataFrame | pd.DataFrame]",
    spec: CohortSpec,
    path: PathLike,
) -> Store:
    """Write a store of your own cohort from tables in memory, and open it.

    Args:
        hourly: a row for each hour of a unit (an ICU stay, say): the unit's key as a whole number,
            the hour (0, 1, 2, … without gaps) and the channels, imputed.
        samples: task → a row for each sample: the unit's key, the subject's key, the hours that
            the model may see, the split ("train", "val" or "test") and the labels. A subject is in
            one split. If `spec.folds` is set, for cross-validation, `fold` (1 to `spec.folds`)
            replaces it.
        spec: names of all these columns, and what the tasks predict. Its normalizers are
            `("fitted",)`: means and deviations of the training hours.
        path: the folder of the store: new, empty, or a store to replace.

    Returns:
        The store.

    Raises:
        InputError: the tables do not fit the specification; the text says what and how often.
        MimicRegError: the disk is full, or another process writes to the folder.
    """
    from mimic_reg.sources import frames

    tables = {task: _polars(table) for task, table in samples.items()}
    return as_store(frames.write_store(_polars(hourly), tables, spec, as_path(path, "store")))


def _polars(table: "pl.DataFrame | pd.DataFrame") -> "pl.DataFrame":
    import polars as pl

    if isinstance(table, pl.DataFrame | pl.LazyFrame) or not hasattr(table, "columns"):
        return table  # type: ignore[return-value]  # what is no table is refused with its type
    return pl.from_pandas(table)


def synthesize(
    path: PathLike,
    *,
    patients: int = 1500,
    seed: int = 0,
    form: Literal["mimic-iii", "mimic-iv"] = "mimic-iii",
) -> Path:
    """Write simulated patients in MIMIC's tables, for a first look without data.

    Args:
        path: a new or empty folder.
        patients: the number of subjects.
        seed: of everything random; the same arguments give the same bytes.
        form: whose tables.

    Returns:
        The folder, a source for `extract`.

    Raises:
        InputError: wrong options, or a folder that holds something.
    """
    from mimic_reg.simulation import synthesis

    folder = as_path(path, "folder")
    synthesis.synthesize(folder, patients=patients, seed=seed, form=form)
    return folder


def extract(
    source: PathLike,
    path: PathLike,
    *,
    tasks: Sequence[str] | None = None,
    mode: Literal["benchmark", "corrected"] = "benchmark",
    allow_empty: Collection[str] = (),
) -> Store:
    """Extract the benchmark's cohorts from MIMIC-III's or MIMIC-IV's tables, and open the store.

    Args:
        source: the folder with the tables: .csv, .csv.gz or .parquet; MIMIC-IV's are in hosp/ and
            icu/. Or a DuckDB database that mimic-code built.
        path: the store: new, or one to bring up to date. Nothing is done where it is up to date.
        tasks: some of the benchmark's tasks; None: all.
        mode: "benchmark": the published cohorts; "corrected": with known defects repaired.
        allow_empty: event tables that may be without rows, such as "CHARTEVENTS".

    Returns:
        The store.

    Raises:
        InputError: a source that cannot be read, or gives a task no sample.
        MimicRegError: the source changed while it was read, the disk is full.
    """
    from mimic_reg import extraction

    folder = as_path(path, "store")
    extraction.extract(
        as_path(source, "source"), folder, task_names=tasks, mode=mode, allow_empty=allow_empty
    )
    return open_store(folder)
