"""The search for patients' data finds what is planted, in every disguise that it claims to see."""

import sqlite3
import struct

import polars as pl
import pytest

from tests.security.identities import SHIFT, in_file, in_folder

ID = SHIFT + 123_456
MICROSECONDS = 4_500_000_000_000_000


@pytest.mark.parametrize(
    "content",
    [
        f'{{"row": {ID}}}'.encode(),
        f"stay {ID}: diverged".encode(),
        b"admitted 2131-05-01 12:00:00",
        b'{"intime": "2187-12-31T23:59:59"}',
        b"\x01" + struct.pack("<q", ID),
        b"\x00\x00\x00" + struct.pack("<d", float(ID)),
        b"ab" + struct.pack("<q", MICROSECONDS),
    ],
)
def test_what_is_planted_is_found(tmp_path, content):
    (tmp_path / "clean.bin").write_bytes(struct.pack("<4d", 0.5, 1e9, 731.0, 42.0) * 100)
    (tmp_path / "planted").write_bytes(b"some text \xff" + content + b" and more")
    found, files = in_folder(tmp_path, times={MICROSECONDS})
    assert list(found) == [tmp_path / "planted"]
    assert files == 2


def test_packed_formats_are_opened(tmp_path):
    table, database = tmp_path / "a.parquet", tmp_path / "a.db"
    pl.DataFrame({"row": pl.Series([ID] * 50, dtype=pl.Int32)}).write_parquet(table)
    with sqlite3.connect(database) as opened:
        opened.execute("create table t (i integer)")
        opened.execute("insert into t values (?)", (ID,))
    opened.close()
    assert in_file(table) == in_file(database) == {str(ID)}
    pl.DataFrame({"icustay_id": [1]}).write_parquet(table)
    assert in_file(table) == {"icustay_id"}


def test_what_looks_alike_is_left_alone(tmp_path):
    path = tmp_path / "a.log"
    path.write_text(
        "2026-11-21 10:00:00.731123 pid 7311 731-456 port 50731 "
        "0.731000123 86.1731266271 7310001234 2026-01-01 "
        '{"memory": 731455488}'
    )
    assert not in_file(path)
