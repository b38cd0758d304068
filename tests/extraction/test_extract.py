"""The whole extraction of a small source: atomic, resumable, idempotent."""

import fcntl
import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap

import polars as pl
import pytest

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.extraction import extract, run
from mimic_reg.extraction.memory import GIB, Plan, parse_memory
from mimic_reg.progress import Progress
from mimic_reg.store import Store, write_json
from tests.raw import Source, at, small_source

STAGES = ["cohort", "chartevents", "labevents", "outputevents", "episodes", "tasks"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return small_source().write(tmp_path_factory.mktemp("small") / "raw")


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    return extract(source, tmp_path_factory.mktemp("undisturbed") / "store")


def files_of(store):
    """Check the hashes of a store's files, and return them."""
    assert store.changed_files() == []
    return {name: entry["xxh3"] for name, entry in store.manifest["files"].items()}


def test_the_store_holds_what_the_readme_lists(undisturbed):
    tasks = ("decompensation", "in_hospital_mortality", "length_of_stay", "phenotyping")
    assert set(files_of(undisturbed.store)) == {
        *("stays.parquet", "diagnoses.parquet", "episodes.parquet", "episode_texts.parquet"),
        *("hourly.parquet", "audit.json"),
        *(f"tasks/{t}.parquet" for t in tasks),
        *(f"normalizers/{t}.json" for t in tasks),
    }
    for path in undisturbed.store.folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path.name == ".lock"
    assert not (undisturbed.store.folder / ".work").exists()


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_any_case_and_compression_gives_the_same_store(tmp_path, undisturbed, upper, packed):
    source = small_source().write(tmp_path / "raw", upper=upper, packed=packed)
    result = extract(source, tmp_path / "store")
    assert files_of(result.store) == files_of(undisturbed.store)


def test_column_and_row_order_do_not_matter(tmp_path, undisturbed, source):
    shuffled = tmp_path / "raw"
    shuffled.mkdir()
    for path in source.iterdir():
        table = pl.read_csv(path, infer_schema=False).sample(fraction=1.0, shuffle=True, seed=1)
        table.select(sorted(table.columns)).write_csv(shuffled / path.name)
    result = extract(shuffled, tmp_path / "store")
    mine, theirs = files_of(result.store), files_of(undisturbed.store)
    assert mine == theirs


def rewritten(source, folder, change):
    """Write a copy of the tables, each changed by `change(name, table of texts)`."""
    folder.mkdir()
    for path in source.iterdir():
        table = change(path.stem, pl.read_csv(path, infer_schema=False))
        table.write_csv(folder / path.name)
    return folder


# Times without a zone, as databases and programs write them.
EXPORTED_TIMES = [" | UTC", "T|Z", " |.000", "T|.000Z", " |+00", "T|.0000+00:00"]


@pytest.mark.parametrize("spelling", EXPORTED_TIMES)
def test_exports_of_databases_give_the_same_store(tmp_path, source, undisturbed, spelling):
    middle, end = spelling.split("|")

    def change(name, table):
        time = pl.all().str.replace(
            r"^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)$", f"${{1}}{middle}${{2}}{end}"
        )
        return table.select(time, pl.lit("t").alias("EXPORTED")).select(pl.all().reverse())

    raw = rewritten(source, tmp_path / "raw", change)
    assert end in (raw / "CHARTEVENTS.csv").read_text()
    assert files_of(extract(raw, tmp_path / "store").store) == files_of(undisturbed.store)


@pytest.mark.parametrize("column", ["SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "ITEMID"])
def test_events_whose_ids_all_have_decimals_are_refused(tmp_path, source, column):
    """As pandas writes a column with missing values: nothing would match."""

    def change(name, table):
        return table.with_columns(pl.col(column) + ".0") if name == "CHARTEVENTS" else table

    raw = rewritten(source, tmp_path / "raw", change)
    with pytest.raises(
        InputError, match=rf"CHARTEVENTS\.csv: none of its 1,\d+ {column}s is a whole"
    ):
        extract(raw, tmp_path / "store")


class Notes(Progress):
    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)


def test_some_odd_ids_are_noted(tmp_path):
    source = small_source().chart(211, 70, icustay_id="\\N").chart(211, 71, hadm_id="?")
    notes = Notes()
    extract(source.write(tmp_path / "raw"), tmp_path / "store", progress=notes)
    assert [text for text in notes.texts if not text.startswith("Constant")] == [
        "CHARTEVENTS: 1 HADM_IDs are not whole numbers and match nothing.",
        "CHARTEVENTS: 1 ICUSTAY_IDs are not whole numbers and match nothing.",
    ]


def test_events_without_a_readable_time_are_refused(tmp_path, source):
    def change(name, table):
        slashes = pl.col("CHARTTIME").str.replace_all("-", "/", literal=True)
        return table.with_columns(slashes) if name == "CHARTEVENTS" else table

    raw = rewritten(source, tmp_path / "raw", change)
    with pytest.raises(
        InputError, match=r"CHARTEVENTS\.csv: none of 1,100 CHARTTIMEs is a time like"
    ):
        extract(raw, tmp_path / "store")


def test_a_store_of_images_is_not_replaced(tmp_path, source):
    store = tmp_path / "images"
    store.mkdir()
    entry = {"bytes": 1, "xxh3": "0"}
    write_json(store / "manifest.json", {"schema": 1, "files": {"images.safetensors": entry}})
    with pytest.raises(InputError, match="is a store of images; a cohort would replace it"):
        extract(source, store)


@pytest.mark.parametrize(
    "content", [[], {"source": 3}, {"tasks": 3}, {"mode": "benchmark", "dataset": "mimic-v"}]
)
def test_a_damaged_manifest_is_refused(tmp_path, source, content):
    write_json(tmp_path / "manifest.json", content)
    with pytest.raises(InputError, match=r"manifest\.json is damaged, or is not the manifest of a"):
        extract(source, tmp_path)


def test_small_blocks_and_buckets_give_the_same_rows(tmp_path, source, undisturbed, monkeypatch):
    tiny = Plan(block_bytes=1000, flush_rows=100, stays_per_bucket=2)
    monkeypatch.setattr(run.Plan, "within", lambda memory: tiny)
    monkeypatch.setattr(run, "_STAYS_AT_ONCE", 5)
    store = extract(source, tmp_path / "store").store
    for name in store.manifest["files"]:
        if name.endswith(".parquet"):
            assert store.read(name).equals(undisturbed.store.read(name)), name
    assert store.path("audit.json").read_text() == undisturbed.store.path("audit.json").read_text()


def test_a_second_run_does_nothing_unless_the_source_changed(tmp_path):
    raw = small_source().write(tmp_path / "raw")
    first = extract(raw, tmp_path / "store")
    again = extract(raw, tmp_path / "store")
    assert (first.status, again.status, again.seconds) == ("written", "unchanged", {})
    os.utime(raw / "PATIENTS.csv", (1, 1))  # another time, the same content
    assert extract(raw, tmp_path / "store").status == "unchanged"
    text = (raw / "CHARTEVENTS.csv").read_text()
    (raw / "CHARTEVENTS.csv").write_text(text.replace(",98.6,", ",98.7,", 1))  # the same length
    changed = extract(raw, tmp_path / "store")
    assert changed.status == "written"
    assert changed.store.manifest["fingerprint"] != first.store.manifest["fingerprint"]
    assert extract(raw, tmp_path / "store", force=True).status == "written"


def test_a_damaged_store_is_written_again(tmp_path, source):
    store = extract(source, tmp_path / "store").store
    path = store.path("stays.parquet")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert store.changed_files() == ["stays.parquet"]
    assert extract(source, tmp_path / "store").status == "written"


def test_a_store_of_another_schema_is_written_again(tmp_path, source, undisturbed):
    out = tmp_path / "store"
    shutil.copytree(undisturbed.store.folder, out)
    write_json(out / "manifest.json", undisturbed.store.manifest | {"schema": 0})
    assert files_of(extract(source, out).store) == files_of(undisturbed.store)


def test_tasks_can_be_chosen(tmp_path, source):
    store = extract(source, tmp_path / "store", task_names=["phenotyping"]).store
    assert [f for f in store.manifest["files"] if f.startswith("tasks/")] == [
        "tasks/phenotyping.parquet"
    ]
    assert extract(source, tmp_path / "store", task_names=["phenotyping"]).status == "unchanged"
    assert extract(source, tmp_path / "store").status == "written"
    with pytest.raises(InputError, match=r"Unknown task mortality\. Choose from: decompensation"):
        extract(source, tmp_path / "store", task_names=["mortality"])


def test_modes_never_mix(tmp_path, undisturbed):
    raw = small_source().chart(3420, "0.4", 3).write(tmp_path / "raw")
    benchmark = extract(raw, tmp_path / "store").store
    corrected = extract(raw, tmp_path / "store", mode="corrected", force=True).store
    assert corrected.manifest["mode"] == "corrected"
    assert set(corrected.manifest["corrections"]) == set(run.ev.CORRECTIONS)
    assert benchmark.manifest["fingerprint"] != corrected.manifest["fingerprint"]
    oxygen = corrected.read("episodes.parquet")["Fraction inspired oxygen"].drop_nulls()
    assert oxygen.to_list() == [0.4]


def test_stays_without_events_diagnoses_or_length_are_kept_and_counted(tmp_path):
    source = small_source().stay(20, codes=()).stay(21).stay(22, los="")
    source.chart(211, "80", subject=20).chart(211, "80", subject=22)
    result = extract(source.write(tmp_path / "raw"), tmp_path / "store")
    assert result.store.read("stays.parquet").height == 15
    left_out = result.audit["stays_left_out_of_the_tasks"]
    assert left_out["no_diagnosis"] == left_out["no_event_within_the_stay"] == 1
    assert left_out["no_length_of_stay"] == 1
    stays = result.store.read("tasks/phenotyping.parquet")["icustay_id"].to_list()
    assert not {200020, 200021, 200022} & set(stays)


def test_a_source_without_eligible_stays_is_refused_with_counts(tmp_path):
    source = Source().stay(7, dob=at(0)).write(tmp_path / "raw")
    with pytest.raises(InputError, match=r"No ICU stay passes .*age 18 or more: 0"):
        extract(source, tmp_path / "store", allow_empty=run.EVENT_TABLES)


KILLED = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from mimic_reg.store import stages
    from mimic_reg.extraction import extract
    source, out, point = sys.argv[1:]
    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
    write_json, replace, sync_tree = stages.write_json, Path.replace, stages.atomic.sync_tree
    moves = 0
    def syncing(folder):
        if folder.name == point:
            kill()
        sync_tree(folder)
    def writing(path, content, **given):
        if path.name == "done.json" and "unfinished " + path.parent.name == point:
            kill()
        if path.name == ".publish.json" and point == "journal":
            kill()
        write_json(path, content, **given)
    def moving(self, target):
        global moves
        if Path(target).parent.name in ("store", "tasks", "normalizers") and self.suffix != ".tmp":
            moves += 1
            if point == f"move {moves}":
                kill()
        return replace(self, target)
    stages.write_json, stages.atomic.sync_tree = writing, syncing
    Path.replace = moving
    extract(Path(source), Path(out))
    """
)


@pytest.mark.parametrize(
    "point", [*STAGES, "unfinished episodes", "journal", "move 1", "move 4", "move 15"]
)
def test_kill_9_in_any_stage_then_resume_equals_an_uninterrupted_run(
    tmp_path, source, undisturbed, point
):
    out = tmp_path / "store"
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), str(out), point], check=False
    )
    assert child.returncode == -signal.SIGKILL
    if point.startswith("move"):
        with pytest.raises(InputError, match="its publication was interrupted"):
            Store.open(out)
    else:
        assert not (out / "manifest.json").exists()
    result = extract(source, out)
    assert files_of(result.store) == files_of(undisturbed.store)
    assert not (out / ".work").exists()
    if point in STAGES:
        assert set(result.seconds) == set(STAGES[STAGES.index(point) :])


def test_a_failed_run_leaves_the_store_as_it_was(tmp_path, source):
    raw = tmp_path / "raw"
    shutil.copytree(source, raw)
    store = extract(raw, tmp_path / "store").store
    before = files_of(store)
    with (raw / "LABEVENTS.csv").open("a") as file:
        file.write("1,2,3\n")
    with pytest.raises(InputError, match="it has 3 fields, but the header has 9"):
        extract(raw, tmp_path / "store")
    assert files_of(Store.open(tmp_path / "store")) == before


def test_two_runs_on_one_store(tmp_path, source):
    out = tmp_path / "store"
    out.mkdir()
    with (out / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(MimicRegError, match="Another run is writing to"):
            extract(source, out)


def test_a_folder_with_other_files_is_refused(tmp_path, source):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="is not empty and is not a store"):
        extract(source, tmp_path)
    with pytest.raises(InputError, match="is a file"):
        extract(source, tmp_path / "thesis.tex")


@pytest.mark.parametrize(("limit", "stage"), [(2_000, "cohort"), (20_000, "chartevents")])
def test_a_full_disk_is_explained_and_loses_nothing(tmp_path, source, limit, stage):
    out = tmp_path / "store"
    before = files_of(extract(source, out).store)
    (tmp_path / "raw").mkdir()
    for path in source.iterdir():
        shutil.copy(path, tmp_path / "raw")
    with gzip.open(tmp_path / "raw" / "LABEVENTS.csv.gz", "wt") as file:
        file.write((tmp_path / "raw" / "LABEVENTS.csv").read_text())
    (tmp_path / "raw" / "LABEVENTS.csv").unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(MimicRegError, match="The disk is full"):
            extract(tmp_path / "raw", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in out.glob(".work/*.tmp")] == [f"{stage}.tmp"]
    assert files_of(Store.open(out)) == before
    assert extract(tmp_path / "raw", out).status == "written"


def test_memory_amounts():
    assert parse_memory("4GB") == 4 * 10**9
    assert parse_memory("1.5 GiB") == 1.5 * GIB
    for wrong in ("much", "4 apples", "-1GB", ""):
        with pytest.raises(InputError, match="is not an amount such as 4GB"):
            parse_memory(wrong)
    with pytest.raises(InputError, match="give at least 1GB"):
        parse_memory("100MB")


def test_more_memory_means_larger_blocks():
    small, large = Plan.within(GIB), Plan.within(4 * GIB)
    assert small.block_bytes < large.block_bytes
    assert small.stays_per_bucket < large.stays_per_bucket


def test_the_audit_of_the_full_data_has_the_published_sizes(undisturbed, monkeypatch):
    from mimic_reg.extraction import audit

    sizes = json.loads(json.dumps(audit.published_sizes()))
    sizes["rows"]["ICUSTAYS"] = 12
    monkeypatch.setattr(audit, "published_sizes", lambda: sizes)
    pairs = audit._beside_published(undisturbed.audit)
    assert {"what": "rows of ICUSTAYS", "published": 12, "ours": 12, "same": True} in pairs
    assert not all(pair["same"] for pair in pairs)


def test_a_cohort_of_another_kind_is_replaced_only_with_force(tmp_path, source):
    store = tmp_path / "store"
    extract(source, store)
    best = {"train": {"auroc": 0.9, "n": 3}, "test": {"auroc": 0.8}}
    write_json(source / "true_risk.json", {"in_hospital_mortality": {"by_split": best}})
    try:
        simulated = extract(source, tmp_path / "simulated").store.manifest["source"]
        with pytest.raises(InputError, match=r"holds the cohorts of real patients, .* --force"):
            extract(source, store)
    finally:
        (source / "true_risk.json").unlink()
    assert simulated["simulated"]
    assert simulated["best_possible"]["in_hospital_mortality"] == {
        "train": {"auroc": 0.9},
        "test": {"auroc": 0.8},
    }
    with pytest.raises(InputError, match="holds cohorts in benchmark mode"):
        extract(source, store, mode="corrected")
    other = small_source().chart(3420, "0.4", 3).write(tmp_path / "other")
    with pytest.raises(InputError, match="holds also decompensation, in_hospital_mortality, len"):
        extract(other, store, task_names=["phenotyping"])
    assert extract(other, store).status == "written"  # newer tables of the same kind
    assert extract(other, store, mode="corrected", force=True).status == "written"
