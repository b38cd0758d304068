"""The reference's files on real data (MIMIC-III demo): exact export, and import."""

import hashlib
import io
import json

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mimic_reg.extraction import extract
from mimic_reg.parity.compare import compare
from mimic_reg.parity.export import export
from mimic_reg.parity.files import (
    IN_HOSPITAL_MORTALITY,
    LISTFILE_COLUMNS,
    PARTITIONS,
    TASK_FOLDERS,
    WHOLE_STAY,
)
from mimic_reg.parity.importing import import_benchmark
from mimic_reg.parity.published import (
    hash_store,
    verify_published,
)
from mimic_reg.progress import Progress
from tests.shared import shared
from tests.sources.pandas_canonical import canonical_text

TEXT = "golden/mimic-iii-demo-text"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden") / "store"
    return extract(shared("data/mimic-iii-demo"), folder).store


@pytest.fixture(scope="module")
def exported(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "data"
    summary = export(store, out)
    assert summary.files["root"] == 2 * 114
    return out


def test_every_task_file_equals_the_references(exported):
    golden = pl.read_parquet(shared(f"{TEXT}/task_files.parquet"))
    expected = {f"{t}/{d}/{f}": sha for t, d, f, _, sha in golden.iter_rows()}
    found = {
        path.relative_to(exported).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in TASK_FOLDERS.values()
        for path in exported.glob(f"{folder}/*/*_timeseries.csv")
    }
    assert len(expected) == 509
    assert found == expected


@pytest.mark.parametrize("task", TASK_FOLDERS)
def test_listfiles(exported, task):
    folder = TASK_FOLDERS[task]
    lines = {}
    for split in ("train", "val", "test"):
        golden = shared(f"{TEXT}/listfiles/{folder}.{split}.csv").read_text().splitlines()
        header, *lines[split] = (
            (exported / folder / f"{split}_listfile.csv").read_text().splitlines()
        )
        assert header == golden[0] == ",".join(LISTFILE_COLUMNS[task])
        assert sorted(lines[split]) == sorted(golden[1:])
    whole = (exported / folder / "train" / "listfile.csv").read_text().splitlines()
    assert sorted(whole[1:]) == sorted(lines["train"] + lines["val"])
    test = (exported / folder / "test" / "listfile.csv").read_text().splitlines()
    assert test[1:] == lines["test"]


def test_episode_facts_and_flags(exported):
    golden = pl.read_parquet(shared("golden/mimic-iii-demo/episodic.parquet"))
    facts = golden.drop("subject_id", "episode")
    for i, (subject, episode) in enumerate(golden.select("subject_id", "episode").iter_rows()):
        (path,) = exported.glob(f"root/*/{subject}/episode{episode}.csv")
        header, line = path.read_text().splitlines()
        assert header.split(",") == facts.columns
        assert [text or None for text in line.split(",")] == list(facts.row(i))


def test_every_row_of_every_whole_episode(exported):
    golden = pl.read_parquet(shared(f"{TEXT}/timeseries.parquet"))
    for (subject, episode), rows in golden.partition_by(
        "subject_id", "episode", as_dict=True
    ).items():
        (path,) = exported.glob(f"root/*/{subject}/episode{episode}_timeseries.csv")
        _, *lines = path.read_text().splitlines()
        cells = rows.sort("row").drop("subject_id", "episode", "icustay_id", "row")
        assert [line.split(",") for line in lines] == [
            [repr(hours), *(text or "" for text in texts)] for hours, *texts in cells.iter_rows()
        ]


def test_published_hashes(store):
    report = verify_published(store)
    assert report.identical
    assert report.kinds[IN_HOSPITAL_MORTALITY].matching == 57
    assert report.kinds[WHOLE_STAY].matching == 113
    assert not any(k.differing or k.unpublished for k in report.kinds.values())
    assert report.kinds[IN_HOSPITAL_MORTALITY].absent == 21_139 - 57
    assert set(report.stays["outcome"]) == {"absent"}


def test_hashes_equal_those_from_pandas(store, exported):
    ours = hash_store(store, Progress()).filter(files=IN_HOSPITAL_MORTALITY)
    for subject, episode, partition, md5 in ours.drop("files").iter_rows():
        name = f"{subject}_episode{episode}_timeseries.csv"
        path = exported / "in-hospital-mortality" / partition / name
        text = canonical_text(io.StringIO(path.read_text()))
        assert hashlib.md5(text.encode()).digest() == md5


def test_compare_with_its_own_export(store, exported):
    report = compare(store, exported)
    assert report.identical
    assert report.differences.is_empty()
    assert report.files["root"] == 228
    assert report.samples["decompensation"] == 10_863
    assert report.absent == report.unknown == ()


def test_import_gives_the_store_again(store, exported, tmp_path):
    imported = import_benchmark(exported, tmp_path / "store")
    assert list((exported / "root").iterdir())
    assert {p.name for p in (exported / "root").iterdir()} == set(PARTITIONS)
    tables = [n for n in store.manifest["files"] if n.endswith(".parquet")]
    for name in set(tables) - {"stays.parquet", "diagnoses.parquet"}:
        assert_frame_equal(store.read(name), imported.read(name), check_exact=True)
    for name in (n for n in store.manifest["files"] if n.startswith("normalizers/")):
        ours, theirs = (json.loads(s.path(name).read_text()) for s in (store, imported))
        assert ours["published"] == theirs["published"]
        assert ours["fitted"]["means"] == pytest.approx(theirs["fitted"]["means"], rel=1e-9)
    ours, theirs = store.read("stays.parquet"), imported.read("stays.parquet")
    told = ("subject_id", "icustay_id", "episode", "split", "los_hours", "gender", "mortality")
    assert ours.schema == theirs.schema
    assert_frame_equal(
        ours.select(*told, "first_event_hours"), theirs.select(*told, "first_event_hours")
    )
    assert_frame_equal(ours.select("age"), theirs.select("age"), rel_tol=1e-15)
    assert verify_published(imported).identical
