"""Read the reference's `root/` and listfiles into tables of our schema."""

from pathlib import Path

import polars as pl

from mimic_reg.clinical.episodes import split_texts
from mimic_reg.clinical.events import UNTOUCHED
from mimic_reg.clinical.schema import ID, PHENOTYPES, VARIABLES, resource
from mimic_reg.errors import InputError
from mimic_reg.parity import files as layout
from mimic_reg.parity.listfiles import FLAG_COLUMNS
from mimic_reg.parity.reading import numbers, read_listfile, read_tables, refuse_rows
from mimic_reg.store.spec import SPLITS
from mimic_reg.tasks.base import finish

FILES_AT_ONCE = 500

_GENDERS = {1: "F", 2: "M", 3: "OTHER"}
_ETHNICITIES = {0: "OTHER", 1: "ASIAN", 2: "BLACK", 3: "HISPANIC", 4: "WHITE"}


def find_episodes(root: Path) -> pl.DataFrame:
    """Return all stays of `root/{train,test}/{subject}/`, with the paths of their two files.

    The columns are subject_id, episode, partition, facts and timeseries.

    Raises:
        InputError: there are none, or a stay has only one of its two files.
    """
    found = []
    for partition in layout.PARTITIONS:
        for subject in sorted(p for p in (root / partition).iterdir() if p.name.isdigit()):
            for timeseries in sorted(subject.glob("episode*_timeseries.csv")):
                name = timeseries.name.removesuffix("_timeseries.csv")
                number = name.removeprefix("episode")
                facts = subject / f"{name}.csv"
                if not number.isdigit() or not facts.is_file():
                    raise InputError(f"{timeseries} has no {name}.csv in the same folder.")
                paths = str(facts), str(timeseries)
                found.append((int(subject.name), int(number), partition, *paths))
    if not found:
        raise InputError(f"{root} has no files {{train,test}}/*/episode*_timeseries.csv.")
    columns = ["subject_id", "episode", "partition", "facts", "timeseries"]
    return pl.DataFrame(found, columns, orient="row")


def read_stays(episodes: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return the stays with a diagnosis, with `timeseries` (path), and the number of the others.

    Raises:
        InputError: a file is malformed, or two files hold the same stay.
    """
    stays = pl.concat(map(_read_facts, episodes.iter_slices(FILES_AT_ONCE)))
    if stays["icustay_id"].n_unique() < stays.height:
        twice = stays.filter(pl.col("icustay_id").is_duplicated())["timeseries"]
        raise InputError(f"{twice[0]} and {twice[1]} have the same Icustay.")
    return stays, episodes.height - stays.height


def _read_facts(episodes: pl.DataFrame) -> pl.DataFrame:
    paths = [Path(p) for p in episodes["facts"]]
    facts = read_tables(paths, (*layout.EPISODE_FACTS, *FLAG_COLUMNS))
    refuse_rows(facts.filter(pl.col("line") > 2), paths, "there is a second stay")
    values = {
        n: numbers(facts, n, paths) for n in layout.EPISODE_FACTS if n not in ("Height", "Weight")
    }
    for name in ("Icustay", "Mortality"):
        refuse_rows(facts.filter(values[name].is_null()), paths, f"{name} is empty")

    def decoded(name: str, texts: dict[int, str]) -> pl.Series:
        codes = values[name].cast(pl.Int64)
        return codes.replace_strict(texts, default=None, return_dtype=pl.String)

    stays = facts.select(
        "file",
        icustay_id=values["Icustay"].cast(ID),
        los_hours=24.0 * values["Length of Stay"],
        age=values["Age"],
        mortality=values["Mortality"].cast(pl.Int8),
        gender=decoded("Gender", _GENDERS),
        ethnicity=decoded("Ethnicity", _ETHNICITIES),
    )
    files = episodes.drop("facts").with_columns(file=pl.int_range(pl.len()))
    return stays.join(files, on="file").drop("file")


def read_episodes(stays: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return `schema.EPISODES` and `schema.EPISODE_TEXTS` of stays sorted by icustay_id.

    Raises:
        InputError: a file is malformed.
    """
    paths = [Path(p) for p in stays["timeseries"]]
    table = read_tables(paths, layout.TIMESERIES)
    hours = numbers(table, "Hours", paths)
    refuse_rows(table.filter(hours.is_null()), paths, "Hours is empty")
    cells = [table[n] if n in UNTOUCHED else numbers(table, n, paths) for n in VARIABLES]
    rows = table.select(stays["icustay_id"].gather(table["file"]), hours.alias("hours"), *cells)
    return split_texts(rows.sort("icustay_id", "hours", maintain_order=True))


def read_samples(base: Path, task: str, stays: pl.DataFrame) -> pl.DataFrame:
    """Return a task's sample table from its listfiles, with or without a list for validation.

    Raises:
        InputError: a listfile is missing or malformed, or names a stay that `root/` lacks.
    """
    folder = base / layout.TASK_FOLDERS[task]
    files: dict[str, str | None] = {f"{split}_listfile.csv": split for split in SPLITS}
    if not all((folder / name).is_file() for name in files):
        files = {f"{name}/listfile.csv": None for name in layout.PARTITIONS}
    parts = []
    for name, split in files.items():
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} has neither train_listfile.csv, val_listfile.csv and "
                "test_listfile.csv nor train/listfile.csv and test/listfile.csv."
            )
        parts.append(_read_samples(folder / name, task, split, stays))
    return pl.concat(parts).sort("icustay_id", "period_length")


def _read_samples(path: Path, task: str, split: str | None, stays: pl.DataFrame) -> pl.DataFrame:
    table = read_listfile(path, task)
    known = stays.select(
        "subject_id", "icustay_id", "los_hours", "partition", stay=layout.timeseries_name()
    )
    rows = table.join(known, on="stay", how="left", maintain_order="left")
    unknown = rows.filter(pl.col("icustay_id").is_null())
    refuse_rows(unknown, [path], "its stay has no files or no diagnosis in root/")
    labels = PHENOTYPES if task == "phenotyping" else ("y_true",)
    values = {name: numbers(rows, name, [path]) for name in labels}
    if task == "in_hospital_mortality":
        period = pl.Series([layout.MORTALITY_HOURS] * rows.height, dtype=pl.Float64)
    else:
        period = numbers(rows, "period_length", [path])
    if task == "phenotyping":
        period = _unrounded(rows["period_length"], period, rows["los_hours"])
    if task == "length_of_stay":
        rest = rows["los_hours"] - period
        columns = [_unrounded(rows["y_true"], values["y_true"], rest)]
    else:
        columns = [values[name].cast(pl.Int8) for name in labels]
    names = PHENOTYPES if task == "phenotyping" else ("y",)
    samples = rows.with_columns(
        period.alias("period_length"),
        split_of(split),
        *(column.alias(name) for name, column in zip(names, columns, strict=True)),
    )
    return finish(samples, *names)


def _unrounded(text: pl.Series, listed: pl.Series, exact: pl.Series) -> pl.Series:
    """Return the exact value if it has the listfile's six decimals, else the listed value."""
    return exact.zip_with((layout.six_decimals(exact) == text).fill_null(False), listed)


def split_of(listed: str | None) -> pl.Expr:
    """Return the listfile's split; if None, from the folder and the published split."""
    if listed:
        return pl.lit(listed).alias("split")
    published = pl.read_csv(resource("published_split.csv").read_bytes())
    validation = published.filter(split="val")["subject_id"].implode()
    return (
        pl.when((pl.col("partition") == "train") & pl.col("subject_id").is_in(validation))
        .then(pl.lit("val"))
        .otherwise("partition")
        .alias("split")
    )
