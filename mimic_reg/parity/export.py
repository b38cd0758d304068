"""Write a store as the exact files of mimic3-benchmarks."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import polars as pl

from mimic_reg.errors import InputError
from mimic_reg.parity import check_benchmark
from mimic_reg.parity import files as layout
from mimic_reg.parity.listfiles import FLAG_COLUMNS, csv_lines, episode_facts, listfiles
from mimic_reg.progress import SILENT, Progress
from mimic_reg.store import Store
from mimic_reg.store.spec import SPLITS
from mimic_reg.store.stages import whole_folder

# The listfiles, each with the splits of its samples.
LISTFILES = {f"{split}_listfile.csv": (split,) for split in SPLITS} | {
    "train/listfile.csv": ("train", "val"),
    "test/listfile.csv": ("test",),
}


@dataclass(frozen=True)
class Export:
    """Numbers of files by folder (`root` and the tasks'), and of lines in listfiles by task."""

    folder: Path
    files: dict[str, int]
    samples: dict[str, int]
    seconds: float


def export(store: Store, out: Path, progress: Progress = SILENT) -> Export:
    """Write the reference's `root/`, task folders and listfiles into the new folder `out`.

    They are written beside `out` and renamed, so `out` is complete or absent.

    Raises:
        InputError: `out` is not empty, or the store cannot be exported.
        MimicRegError: the disk is full or cannot be written.
    """
    begin = time.perf_counter()
    check_exportable(store)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty. Choose a new or empty folder for --out.")
    if store.manifest["mode"] != "benchmark":
        progress.note("This store is in corrected mode: its files differ from the benchmark's.")
    with whole_folder(out) as folder:
        files = _write_stays(store, folder, progress)
        samples = _write_listfiles(store, folder)
    took = time.perf_counter() - begin
    progress.done(took)
    return Export(out, files, samples, took)


def check_exportable(store: Store) -> None:
    """Refuse an imported store, which lacks times and diagnoses.

    Raises:
        InputError: the store was imported, or holds another cohort.
    """
    check_benchmark(store)
    if store.manifest.get("source", {}).get("kind") == layout.KIND:
        raise InputError(
            f"{store.folder} was imported from files of mimic3-benchmarks, which lack the times "
            "and diagnoses that an export needs. Use a store made by `mimic-reg extract`."
        )


def task_folders(store: Store) -> tuple[str, ...]:
    """Return the tasks, by our names, for which a store gives folders."""
    tasks = tuple(store.manifest["tasks"])
    return (*tasks, layout.MULTITASK) if "phenotyping" in tasks else tasks


def stay_files(
    store: Store, tasks: Iterable[str], *, root: bool = True
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield every stay, as 7_episode1, and its files in `root/` and in the folders of `tasks`.

    The files are {path within the reference's output: content}.
    """
    for part, cells in layout.batches(store, store.read("stays.parquet")):
        episodes = _episode_texts(store, part, cells) if root else {}
        every = layout.timeseries_texts(cells) if root else {}
        kinds = layout.task_rows(cells, part).items()
        made = {kind: layout.timeseries_texts(rows) for kind, (_, rows) in kinds}
        keys = part.select("icustay_id", "subject_id", "episode", layout.partition())
        for stay, subject, episode, where in keys.iter_rows():
            name, texts = f"{subject}_episode{episode}", {}
            if stay in every:
                path = f"{layout.ROOT}/{where}/{subject}/episode{episode}"
                texts[f"{path}.csv"] = episodes[stay]
                texts[f"{path}_timeseries.csv"] = every[stay]
            for task in tasks:
                own = made.get(task, made[layout.WHOLE_STAY])
                if stay in own:
                    path = f"{layout.TASK_FOLDERS[task]}/{where}/{name}_timeseries.csv"
                    texts[path] = own[stay]
            yield name, texts


def _episode_texts(store: Store, stays: pl.DataFrame, cells: pl.DataFrame) -> dict[int, str]:
    """Return each stay's `episode{n}.csv`, without a row if the stay has no diagnosis."""
    subjects = stays["subject_id"].unique().implode()
    diagnoses = store.scan("diagnoses.parquet").filter(pl.col("subject_id").is_in(subjects))
    facts = episode_facts(stays, cells, diagnoses.collect())
    header = ",".join((*layout.EPISODE_FACTS, *FLAG_COLUMNS))
    lines = dict(zip(facts["icustay_id"], csv_lines(facts.drop("icustay_id")), strict=True))
    return {
        stay: f"{header}\n{lines[stay]}\n" if stay in lines else f"{header}\n"
        for stay in stays["icustay_id"]
    }


def _write_stays(store: Store, folder: Path, progress: Progress) -> dict[str, int]:
    tasks = task_folders(store)
    for name, part in product(
        (layout.ROOT, *(layout.TASK_FOLDERS[t] for t in tasks)), layout.PARTITIONS
    ):
        (folder / name / part).mkdir(parents=True)
    count = {layout.ROOT: 0} | {layout.TASK_FOLDERS[t]: 0 for t in tasks}
    progress.stage("stays", store.read("stays.parquet").height, "stays")
    for _, texts in stay_files(store, tasks):
        for path, text in texts.items():
            top = path.partition("/")[0]
            count[top] += 1
            if top == layout.ROOT:
                (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8", newline="\n")
        progress.advance(1)
    return count


def _write_listfiles(store: Store, folder: Path) -> dict[str, int]:
    """Write each task's listfiles; return the number of samples by task."""
    samples = {}
    for task, rows in listfiles(store, store.read("stays.parquet")):
        target = folder / layout.TASK_FOLDERS[task]
        for name, splits in LISTFILES.items():
            lines = pl.concat(csv_lines(rows.filter(split=s).drop("split")) for s in splits)
            with (target / name).open("wb") as file:
                file.write((",".join(layout.LISTFILE_COLUMNS[task]) + "\n").encode())
                lines.to_frame().write_csv(file, include_header=False, quote_style="never")
        samples[task] = rows.height
    return samples
