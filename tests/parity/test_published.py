"""The canonical form of the published hashes, compared with pandas."""

import hashlib
import io

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_reg.clinical.schema import TEXT_VARIABLES
from mimic_reg.extraction import extract
from mimic_reg.parity.files import IN_HOSPITAL_MORTALITY, TIMESERIES, WHOLE_STAY
from mimic_reg.parity.published import (
    canonical_cell,
    canonical_texts,
    hash_store,
    hash_tables,
    verify_published,
)
from mimic_reg.progress import Progress
from tests.raw import small_source
from tests.sources.pandas_canonical import canonical_text

TEXTS = ("None", "4 Spontaneously", "1.0 ET/Trach", "a, b", 'say "é"', "ERROR", "x" * 60)
numbers = st.floats(-1e6, 1e6).map(lambda x: repr(x + 0.0)) | st.integers(-99, 999).map(str)


def cells(name):
    usual = numbers if name == "Hours" else st.none() | numbers
    return usual | st.sampled_from(TEXTS) if name in TEXT_VARIABLES else usual


rows = st.tuples(*(cells(name) for name in TIMESERIES))


def table_of(stays):
    return pl.DataFrame(
        [(stay, *row) for stay, table in enumerate(stays) for row in table],
        schema={"icustay_id": pl.Int64} | dict.fromkeys(TIMESERIES, pl.String),
        orient="row",
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(rows, min_size=1, max_size=12), min_size=1, max_size=4))
def test_texts_equal_those_from_pandas(stays):
    table = table_of(stays)
    ours = dict(canonical_texts(table).iter_rows())
    for stay, part in enumerate(table.partition_by("icustay_id")):
        content = part.drop("icustay_id").write_csv(null_value="")
        assert ours[stay] == canonical_text(io.StringIO(content))


def test_a_small_table():
    row = dict.fromkeys(TIMESERIES) | {"Hours": "10.25", "Glascow coma scale total": "15"}
    other = dict.fromkeys(TIMESERIES) | {"Hours": "9.75", "pH": "7.4"}
    text = canonical_texts(table_of([[tuple(row.values()), tuple(other.values())]]))["text"][0]
    header, first, second = text.split("\n")
    assert header.startswith("  Hours Capillary refill rate Diastolic blood pressure ")
    assert first.split() == ["0", "10.2", *["nan"] * 5, "15.0", *["nan"] * 11]
    assert second.split() == ["1", "9.8", *["nan"] * 16, "7.4"]
    assert len(header) == len(first) == len(second)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("86", "86.0"), ("0.25", "0.2"), ("-0.04", "-0.0"), ("None", "None"), ("15 ", "15.0")],
)
def test_cells(text, canonical):
    assert canonical_cell(text) == canonical


def test_hashes_of_a_store_do_not_depend_on_the_batches(tmp_path, monkeypatch):
    store = extract(small_source().write(tmp_path / "raw"), tmp_path / "store").store
    whole = hash_store(store, Progress()).sort("files", "subject_id")
    monkeypatch.setattr("mimic_reg.parity.files._STAYS_AT_ONCE", 3)
    assert hash_store(store, Progress()).sort("files", "subject_id").equals(whole)


def test_the_report_counts_every_outcome(tmp_path, monkeypatch):
    store = extract(small_source().write(tmp_path / "raw"), tmp_path / "store").store
    ours = hash_store(store, Progress())
    long = ours.filter(files=WHOLE_STAY)
    other = hashlib.md5(b"other").digest()
    moved = pl.when(pl.col("partition") == "test").then(pl.lit("train")).otherwise(pl.lit("test"))
    published = pl.concat(
        [
            ours.filter(files=IN_HOSPITAL_MORTALITY),
            long[:5],
            long[5:7].with_columns(md5=pl.lit(other)),
            long[7:8].with_columns(moved.alias("partition")),
            long[8:9].with_columns(pl.lit(999).alias("subject_id").cast(pl.Int64)),
        ]
    )
    monkeypatch.setattr("mimic_reg.parity.published.published_hashes", lambda: published)
    report = verify_published(store)
    assert report.kinds[IN_HOSPITAL_MORTALITY].complete
    kind = report.kinds[WHOLE_STAY]
    assert (kind.matching, kind.differing, kind.absent) == (5, 3, 1)
    assert kind.unpublished == long.height - 8
    assert not report.identical
    assert not kind.complete
    assert report.stays.height == long.height - 5 + 1


def test_no_rows_give_no_hashes():
    assert hash_tables(table_of([])).is_empty()
