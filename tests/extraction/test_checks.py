"""Sources that give no cohort, or almost none, are refused with advice."""

import pytest

from mimic_reg.clinical.datasets import EVENT_TABLES, MIMIC_III
from mimic_reg.clinical.stays import MAX_DAYS
from mimic_reg.errors import InputError
from mimic_reg.extraction import extract
from tests.raw import small_source

EVENTS = [*EVENT_TABLES]


def emptied(source, *tables):
    for table in tables:
        source.tables[table] = []
    return source


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("table", MIMIC_III.tables)
def test_a_header_without_rows_is_refused(tmp_path, table, packed):
    raw = emptied(small_source(), table).write(tmp_path / "raw", packed=packed)
    if not packed:
        with (raw / f"{table}.csv").open("a") as file:
            file.write("\n\r\n\n")  # blank lines are not rows
    with pytest.raises(InputError, match=rf"{table}\.csv[.gz]* has a header but no rows") as error:
        extract(raw, tmp_path / "store")
    assert (f"--allow-empty {table}" in str(error.value)) == (table in EVENTS)
    assert not (tmp_path / "store").exists()


def test_event_tables_may_be_empty_with_allow_empty(tmp_path):
    raw = emptied(small_source(), "CHARTEVENTS", "OUTPUTEVENTS").write(tmp_path / "raw")
    with pytest.raises(InputError, match=r"CHARTEVENTS\.csv, OUTPUTEVENTS\.csv have a header"):
        extract(raw, tmp_path / "store")
    allowed = ("CHARTEVENTS", "OUTPUTEVENTS")
    result = extract(raw, tmp_path / "store", allow_empty=allowed)
    assert result.audit["rows"]["CHARTEVENTS"] == 0
    assert result.audit["variables"].keys() == {"Glucose"}
    with pytest.raises(
        InputError, match="have a header but no rows"
    ):  # the store is not up to date either
        extract(raw, tmp_path / "store")
    with pytest.raises(InputError, match=r"--allow-empty PATIENTS: only CHARTEVENTS, LABEVENTS"):
        extract(raw, tmp_path / "store", allow_empty=("PATIENTS",))


def test_a_task_without_a_sample_is_refused(tmp_path):
    source = small_source()
    for stay in source.tables["ICUSTAYS"]:
        stay["los"] = 1.5
    raw = source.write(tmp_path / "raw")
    with pytest.raises(
        InputError, match=r"No sample for in_hospital_mortality: of 12 stays, 0 without a LOS, .*"
        r"12 shorter than 48 hours\..* give --tasks"
    ):  # fmt: skip
        extract(raw, tmp_path / "store")
    assert not (tmp_path / "store" / "manifest.json").exists()
    result = extract(raw, tmp_path / "store", task_names=["phenotyping", "length_of_stay"])
    assert set(result.seconds) == {"tasks"}  # tables are not read again


def test_stays_without_any_event_or_diagnosis(tmp_path):
    raw = emptied(small_source(), *EVENTS).write(tmp_path / "raw")
    with pytest.raises(InputError, match=r"No sample for decompensation, in_hospital_mortality, "):
        extract(raw, tmp_path / "store", allow_empty=EVENTS)
    source = small_source()
    for row in source.tables["D_ICD_DIAGNOSES"]:
        row["icd9_code"] = row["icd9_code"].lstrip("0") + "x"
    with pytest.raises(InputError, match=r"None of 12 stays has a row in DIAGNOSES_ICD whose ICD"):
        extract(source.write(tmp_path / "other"), tmp_path / "store")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("los", "problem"),
    [
        *(
            (text, "is not a finite number")
            for text in ("inf", "-inf", "nan", "NaN", "1e999", "3 d")
        ),
        *((text, "is too long") for text in ("1000000", f"{MAX_DAYS}.0001")),
    ],
)
def test_an_invalid_length_of_stay_is_refused(tmp_path, los, problem, packed):
    source = small_source()
    source.tables["ICUSTAYS"][4]["los"] = los
    raw = source.write(tmp_path / "raw", packed=packed)
    line = 6
    if not packed:  # a blank line counts as a line
        path, line = raw / "ICUSTAYS.csv", 7
        path.write_text(path.read_text().replace("\n", "\n\n", 1))
    with pytest.raises(
        InputError, match=rf"ICUSTAYS\.csv.*, line {line}: its LOS {problem}\. .* at most 3,650"
    ):
        extract(raw, tmp_path / "store")


def test_allowed_lengths_of_stay(tmp_path):
    """Empty, as in the reference; negative, without measurements; the longest."""
    source = small_source().stay(20).stay(21).stay(22, los=MAX_DAYS).stay(23)
    for subject, los in ((20, ""), (21, "-0.5"), (23, "NA")):
        source.chart(211, "80", subject=subject)
        source.tables["ICUSTAYS"][subject - 8]["los"] = los
    source.chart(211, "80", subject=22)
    result = extract(source.write(tmp_path / "raw"), tmp_path / "store")
    assert result.audit["stays_left_out_of_the_tasks"] == {
        **{"no_length_of_stay": 2, "no_diagnosis": 0},
        **{"no_event_within_the_stay": 1, "shorter_than_48_hours": 1},
    }
    hourly = result.store.read("hourly.parquet").filter(icustay_id=200022)
    assert hourly.height == 24 * MAX_DAYS


def test_repeated_diagnoses_are_counted_and_change_nothing(tmp_path):
    plain = extract(small_source().write(tmp_path / "raw"), tmp_path / "store")
    source = small_source()
    rows, codes = source.tables["DIAGNOSES_ICD"], source.tables["D_ICD_DIAGNOSES"]
    rows += rows[:3] + rows[:1]
    codes += codes[:2]
    doubled = extract(source.write(tmp_path / "doubled"), tmp_path / "other")
    assert doubled.audit["diagnoses"]["repeated"] == {"DIAGNOSES_ICD": 4, "D_ICD_DIAGNOSES": 2}
    assert plain.audit["diagnoses"]["repeated"] == {"DIAGNOSES_ICD": 0, "D_ICD_DIAGNOSES": 0}
    for name in plain.store.manifest["files"]:
        if name.endswith(".parquet"):
            assert doubled.store.read(name).equals(plain.store.read(name)), name
