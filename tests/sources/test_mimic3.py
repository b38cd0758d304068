"""Reading tables: odd rows are read correctly, or refused with file, line and advice."""

import csv
import gzip
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mimic_reg.clinical.schema import NO_ID
from mimic_reg.errors import InputError
from mimic_reg.sources.at_rest import Stamp
from mimic_reg.sources.mimic3 import Table, find_tables
from mimic_reg.sources.rows import Reading, read_blocks, read_table
from tests.raw import small_source

HEADER = "SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUEUOM,FLAG\n"
ROW = "7,107,50931,2130-05-01 12:00:00,120,mg/dL,\n"


def table(tmp_path, content, name="LABEVENTS.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    header = HEADER.strip().lower().split(",")
    return Table("LABEVENTS", path, tuple(header), Stamp.of(path))


def read(tmp_path, content, name="LABEVENTS.csv", block_bytes=1 << 20):
    reading = Reading()
    frames = list(read_blocks(table(tmp_path, content, name), block_bytes, reading))
    return [row for frame in frames for row in frame.iter_rows(named=True)], reading


@pytest.fixture
def raw(tmp_path):
    return small_source().write(tmp_path / "raw")


def test_a_plain_table(tmp_path):
    rows, reading = read(tmp_path, HEADER + ROW * 3)
    assert rows == 3 * [
        {
            "subject_id": 7,
            "hadm_id": 107,
            "itemid": 50931,
            "charttime": "2130-05-01 12:00:00",
            "value": "120",
            "valueuom": "mg/dL",
        }
    ]
    assert reading.rows == 3
    assert len(reading.digest) == 32


@pytest.mark.parametrize("block_bytes", [1, 50, 100, 1 << 20])
def test_blocks_end_at_line_ends_and_the_last_newline_may_be_missing(tmp_path, block_bytes):
    rows, reading = read(tmp_path, HEADER + (ROW * 5).rstrip("\n"), block_bytes=block_bytes)
    assert len(rows) == reading.rows == 5


def test_quotes_commas_line_ends_and_blank_lines(tmp_path):
    quoted = '7,,50931,2130-05-01 12:00:00,"say ""so"", twice","",x\n'
    rows, _ = read(tmp_path, (HEADER + ROW + quoted + "\n" + ROW + "\n\n").replace("\n", "\r\n"))
    assert [r["value"] for r in rows] == ["120", 'say "so", twice', "120"]
    assert rows[1]["hadm_id"] is None
    assert rows[1]["valueuom"] is None


def test_a_quote_within_an_unquoted_field_is_kept(tmp_path):
    rows, _ = read(tmp_path, HEADER + ROW.replace("120", "5' 7\"") + ROW.replace("120", '"a,b"'))
    assert [r["value"] for r in rows] == ["5' 7\"", "a,b"]


def test_bytes_that_are_not_utf8_are_replaced_and_counted(tmp_path):
    content = (HEADER + ROW).encode() + ROW.replace("mg/dL", "DEG").encode().replace(
        b"DEG", b"\xb0F"
    )
    rows, reading = read(tmp_path, content)
    assert rows[1]["valueuom"] == "\ufffdF"
    assert reading.not_utf8 == 1


def test_an_id_that_is_not_a_number_is_unmatched_not_missing(tmp_path):
    odd = ROW.replace("107", "107.0") + ROW.replace("107", "NA") + ROW.replace("107", "")
    rows, _ = read(tmp_path, HEADER + ROW + odd)
    assert [r["hadm_id"] for r in rows] == [107, NO_ID, None, None]


def test_a_byte_order_mark_before_an_id_means_the_same_in_every_block(tmp_path):
    for rows in (ROW + "\ufeff" + ROW, "\ufeff" + ROW + ROW):
        found, _ = read(tmp_path, HEADER + rows)
        assert sorted(r["subject_id"] for r in found) == [NO_ID, 7]


def test_an_empty_field_is_missing_however_it_is_written(tmp_path):
    rows, _ = read(tmp_path, HEADER + ROW.replace("120", '""') + ROW.replace("120", ""))
    rows += read(tmp_path, HEADER + "\ufeff" + ROW.replace("120", '""'))[0]
    assert [r["value"] for r in rows] == [None] * 3


@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_spaces_around_an_id_mean_the_same_in_every_block(tmp_path, block_bytes):
    odd = ROW.replace("107", " 107") + ROW.replace("107", "107 ") + ROW.replace("107", "x")
    rows, _ = read(tmp_path, HEADER + odd, block_bytes=block_bytes)
    assert [r["hadm_id"] for r in rows] == [107, 107, NO_ID]


RETURN = "it has a carriage return or a very long field"
MALFORMED = {
    "too few fields": (ROW.replace(",mg/dL", ""), "it has 6 fields, but the header has 7"),
    "one field too many at the end": (
        ROW.strip() + ",1\n",
        "it has 8 fields, but the header has 7",
    ),
    "too many fields": (ROW.replace("120", "1,20"), "it has 8 fields, but the header has 7"),
    "an open quote": (ROW.replace("120", '"120'), "its quotes do not match"),
    "a carriage return": (ROW.replace("120", "1\r20"), RETURN),
    "a carriage return in quotes": (ROW.replace("120", '"1\r20"'), RETURN),
    "two carriage returns at the end": (ROW.strip() + "\r\r\n", RETURN),
    "an open quote at the end": (ROW.strip() + '"x\n', "its quotes do not match"),
    "cut in the middle": (ROW[:20], "it has 4 fields, but the header has 7"),
}


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("block_bytes", [60, 1 << 20])
def test_a_malformed_row_is_refused_with_its_line(tmp_path, case, after, block_bytes):
    bad, problem = MALFORMED[case]
    rest = ROW * after + "\n" if bad.endswith("\n") else ""
    content = HEADER + ROW * 6 + "\n" + bad + rest  # blank lines count as lines
    with pytest.raises(InputError) as error:
        read(tmp_path, content, block_bytes=block_bytes)
    assert f"LABEVENTS.csv, line 9: {problem}." in str(error.value)
    assert "120" not in str(error.value)  # a patient's value is never shown


@pytest.mark.parametrize("block_bytes", [60, 1 << 20])
@pytest.mark.parametrize("packed", [False, True])
def test_zero_bytes_are_refused_with_their_line(tmp_path, block_bytes, packed):
    content = (HEADER + ROW * 7 + ROW.replace("mg/dL", "\0" * 5) + ROW * 3).encode()
    content, name = (
        (gzip.compress(content), "LABEVENTS.csv.gz") if packed else (content, "LABEVENTS.csv")
    )
    with pytest.raises(InputError, match=rf"{name}, line 9: zero bytes"):
        read(tmp_path, content, name, block_bytes)


def test_quotes_that_swallow_lines_are_refused(tmp_path):
    first, second = ROW.replace("120", '"120'), ROW.replace("120", '120"')
    problem = (
        r"LABEVENTS.csv, line 3: its quotes do not match\. .* No field may contain a line break"
    )
    with pytest.raises(InputError, match=problem):
        read(tmp_path, HEADER + ROW + first + second + ROW)


def test_a_truncated_gz(tmp_path):
    packed = gzip.compress((HEADER + ROW * 1000).encode(), mtime=0)
    rows, _ = read(tmp_path, packed, "LABEVENTS.csv.gz")
    assert len(rows) == 1000
    for cut in (15, len(packed) // 2, len(packed) - 3):
        with pytest.raises(InputError, match=r"LABEVENTS\.csv\.gz .*(truncated|valid gzip)"):
            read(tmp_path, packed[:cut], "LABEVENTS.csv.gz")


def test_a_damaged_gz_and_a_plain_file_named_gz(tmp_path):
    packed = bytearray(gzip.compress(os.urandom(3000) + (HEADER + ROW * 100).encode()))
    packed[1500] ^= 0xFF
    with pytest.raises(InputError, match="not a valid gzip file"):
        read(tmp_path, bytes(packed), "LABEVENTS.csv.gz")
    with pytest.raises(InputError, match=r"A plain CSV file must be named \.csv"):
        read(tmp_path, HEADER + ROW, "LABEVENTS.csv.gz")


@pytest.mark.parametrize("block_bytes", [60, 1 << 20])
def test_a_gz_of_several_members(tmp_path, block_bytes):
    first, rest = gzip.compress((HEADER + ROW[:9]).encode()), (ROW[9:] + ROW * 2).encode()
    packed = first + gzip.compress(b"") + gzip.compress(rest)
    rows, _ = read(tmp_path, packed, "LABEVENTS.csv.gz", block_bytes)
    assert [r["value"] for r in rows] == ["120"] * 3
    for damaged in (packed[:-3], packed + b"rest of another file"):
        with pytest.raises(InputError, match=r"LABEVENTS\.csv\.gz .*(truncated|valid gzip)"):
            read(tmp_path, damaged, "LABEVENTS.csv.gz", block_bytes)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_header_may_be_quoted_and_begin_with_a_byte_order_mark(raw, mark):
    expected = read_table(find_tables(raw)["LABEVENTS"], Reading())
    path = raw / "LABEVENTS.csv"
    header, rest = path.read_text().split("\n", 1)
    quoted = ",".join(f'"{name.lower()}"' for name in header.split(","))
    path.write_text(f"{mark}{quoted}\n{rest}")
    assert read_table(find_tables(raw)["LABEVENTS"], Reading()).equals(expected)


@pytest.mark.parametrize("second", ["labevents.csv.gz", "LABEVENTS.parquet", "labevents.CSV"])
def test_a_table_in_two_files_is_refused(raw, second):
    (raw / second).write_bytes((raw / "LABEVENTS.csv").read_bytes())
    with pytest.raises(InputError, match="holds LABEVENTS more than once: ") as error:
        find_tables(raw)
    assert second in str(error.value)


def test_all_missing_tables_are_named(tmp_path, raw):
    for name in ("PATIENTS", "LABEVENTS"):
        (raw / f"{name}.csv").unlink()
    with pytest.raises(InputError, match=r"lacks PATIENTS, LABEVENTS .*Download the missing"):
        find_tables(raw)
    with pytest.raises(InputError, match="is not a folder"):
        find_tables(tmp_path / "nowhere")


def test_a_file_that_cannot_be_read(raw, monkeypatch):
    from pathlib import Path

    opening = Path.open

    def refuse(self, *arguments, **named):
        if self.name == "LABEVENTS.csv":
            raise PermissionError(13, "Permission denied", str(self))
        return opening(self, *arguments, **named)

    found = find_tables(raw)["LABEVENTS"]
    monkeypatch.setattr(Path, "open", refuse)
    for read_it in (lambda: find_tables(raw), lambda: read_table(found, Reading())):
        with pytest.raises(
            InputError, match=r"Cannot read .*LABEVENTS\.csv: Permission denied\. Ch"
        ):
            read_it()


def test_a_disk_that_fails_during_reading(raw, monkeypatch):
    from mimic_reg.sources import rows

    def fail(self, size=-1):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(rows._HashedReader, "read", fail)
    with pytest.raises(InputError, match=r"Cannot read .*PATIENTS\.csv: Input/output error"):
        read_table(find_tables(raw)["PATIENTS"], Reading())


def test_an_empty_and_a_wrong_file_are_refused(raw):
    good = (raw / "LABEVENTS.csv").read_text()
    (raw / "LABEVENTS.csv").write_text("")
    with pytest.raises(InputError, match=r"LABEVENTS\.csv is empty"):
        find_tables(raw)
    (raw / "LABEVENTS.csv").write_text((raw / "PATIENTS.csv").read_text())
    with pytest.raises(InputError, match=r"line 1: LABEVENTS needs the columns HADM_ID, ITEMID"):
        find_tables(raw)
    (raw / "LABEVENTS.csv").write_text(good.split("\n", 1)[1])  # without its header
    with pytest.raises(InputError) as error:
        find_tables(raw)
    assert "120" not in str(error.value)
    (raw / "LABEVENTS.csv").write_text(good.replace("VALUENUM", "VALUE", 1))
    with pytest.raises(InputError, match="a column name appears twice"):
        find_tables(raw)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (gzip.compress(b"x"), r"is a gzip file\. Name it LABEVENTS\.csv\.gz, or unpack it"),
        (
            HEADER.replace("\n", "\r") + ROW.replace("\n", "\r"),
            r"line 1: LABEVENTS needs the columns",
        ),
        ("x" * 200_000, r"line 1: LABEVENTS needs the columns"),
        (HEADER.replace(",", ";"), r"\(it has 1 fields\)\. .*and commas between the fields"),
        (HEADER.encode("utf-16"), r"line 1: LABEVENTS needs the columns"),
    ],
    ids=["gzip", "old line ends", "one long line", "semicolons", "UTF-16"],
)
def test_a_file_without_a_header_is_refused(raw, content, problem):
    packed = content if isinstance(content, bytes) else content.encode()
    (raw / "LABEVENTS.csv").write_bytes(packed)
    with pytest.raises(InputError, match=problem):
        find_tables(raw)


def test_a_table_with_a_header_only_has_no_rows(raw):
    path = raw / "D_ICD_DIAGNOSES.csv"
    path.write_text(path.read_text().split("\n")[0] + "\n")
    reading = Reading()
    assert read_table(find_tables(raw)["D_ICD_DIAGNOSES"], reading).height == reading.rows == 0


def test_a_reader_that_stops_early_leaves_no_thread_waiting(tmp_path):
    blocks = read_blocks(table(tmp_path, HEADER + ROW * 10_000), 500, Reading())
    next(blocks)
    blocks.close()


FIELD = st.text(st.sampled_from('ab,"7 \n'), max_size=4)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(FIELD, min_size=1, max_size=12), st.sampled_from([20, 1 << 20]))
def test_text_is_read_as_the_csv_module_reads_it_or_refused(tmp_path, fragments, block_bytes):
    text = ROW + "".join(fragments) + "\n" + ROW
    lines = [line for line in text.split("\n") if line]
    expected = list(csv.reader(lines))
    if len(expected) == len(lines) and {len(row) for row in expected} == {7}:
        rows, _ = read(tmp_path, HEADER + text, block_bytes=block_bytes)
        assert [r["value"] or "" for r in rows] == [row[4] for row in expected]
    else:
        with pytest.raises(InputError, match=r"line \d+: it(s quotes| has)"):
            read(tmp_path, HEADER + text, block_bytes=block_bytes)
