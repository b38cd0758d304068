from datetime import datetime

import polars as pl
import pytest

from mimic_reg.clinical.stays import hours_between, parse_time, select_diagnoses, select_stays
from mimic_reg.errors import InputError
from mimic_reg.sources.mimic3 import find_tables
from mimic_reg.sources.rows import Reading, read_table
from tests.raw import Source, at


def cohort(source, tmp_path):
    tables = find_tables(source.write(tmp_path / "raw"))
    frames = {
        n: read_table(tables[n], Reading())
        for n in ("ICUSTAYS", "ADMISSIONS", "PATIENTS", "DIAGNOSES_ICD", "D_ICD_DIAGNOSES")
    }
    stays, flow = select_stays(frames["ICUSTAYS"], frames["ADMISSIONS"], frames["PATIENTS"])
    return stays, flow, frames


def kept(source, tmp_path):
    return cohort(source, tmp_path)[0]["icustay_id"].to_list()


def test_transfers_are_removed_before_stays_are_counted(tmp_path):
    source = Source().stay(7).stay(8)
    source.add("ICUSTAYS", **(source.tables["ICUSTAYS"][0] | {"icustay_id": 1, "last_wardid": 3}))
    source.add("ICUSTAYS", **(source.tables["ICUSTAYS"][1] | {"icustay_id": 2}))
    stays, flow, _ = cohort(source, tmp_path)
    assert stays["icustay_id"].to_list() == [200007]  # 8 has two clean stays in one admission
    assert [s["stays"] for s in flow] == [4, 3, 1, 1]
    assert [s["admissions"] for s in flow] == [2, 2, 1, 1]


@pytest.mark.parametrize("column", ["first_wardid", "last_wardid", "first_careunit"])
def test_a_missing_unit_counts_as_a_transfer(tmp_path, column):
    assert kept(Source().stay(7, **{column: ""}).stay(8), tmp_path) == [200008]


def test_wards_are_compared_as_numbers_too(tmp_path):
    assert kept(Source().stay(7, first_wardid="52.0"), tmp_path) == [200007]


def test_age_is_in_years_of_365_days_and_18_is_old_enough(tmp_path):
    born = datetime(2112, 5, 5, 12)  # 18 x 365 days before INTIME
    just, minor = at(0, born), at(1, born)
    source = Source().stay(7, dob=just).stay(8, dob=minor).stay(9, dob="1829-05-01 00:00:00")
    stays, _, _ = cohort(source, tmp_path)
    ages = dict(stays.select("icustay_id", "age").iter_rows())
    assert ages[200007] == 18.0
    assert 200008 not in ages
    assert 300 < ages[200009] < 302  # patients over 89, as MIMIC shifts them


def test_a_negative_age_is_90_and_an_unknown_age_is_excluded(tmp_path):
    source = Source().stay(7, dob="2140-01-01 00:00:00").stay(8, dob="")
    stays, _, _ = cohort(source, tmp_path)
    assert stays.select("icustay_id", "age").rows() == [(200007, 90.0)]


def test_a_stay_needs_its_own_admission_and_its_patient(tmp_path):
    source = Source().stay(7).stay(8).stay(9).stay(11)
    source.tables["ADMISSIONS"][0]["subject_id"] = 9  # of another patient
    del source.tables["ADMISSIONS"][1]
    del source.tables["PATIENTS"][2]
    stays, flow, _ = cohort(source, tmp_path)
    assert stays["icustay_id"].to_list() == [200011]
    there = {step["step"]: step["stays"] for step in flow}
    assert (there["no transfers"], there["in ADMISSIONS and PATIENTS"]) == (4, 1)


@pytest.mark.parametrize(
    ("changes", "in_hospital", "in_unit"),
    [
        ({"deathtime": at(60)}, 1, 1),  # the end counts
        ({"deathtime": at(61)}, 1, 0),
        ({"deathtime": at(84)}, 1, 0),  # the very end of the admission
        ({"deathtime": at(-1)}, 1, 0),  # and its start
        ({"deathtime": at(0)}, 1, 1),
        ({"deathtime": at(1), "outtime": ""}, 1, 0),
        ({"deathtime": at(200)}, 0, 0),
        ({"dod": "2130-05-02 00:00:00"}, 1, 1),  # a midnight within the stay
        ({"dod": "2130-05-01 00:00:00"}, 0, 0),  # the midnight before it
        ({}, 0, 0),
    ],
)
def test_mortality(tmp_path, changes, in_hospital, in_unit):
    stays, _, _ = cohort(Source().stay(7, **changes), tmp_path)
    assert stays.select("mortality", "mortality_inunit").row(0) == (in_hospital, in_unit)


def test_episodes_are_numbered_by_intime_and_los_is_never_recomputed(tmp_path):
    source = Source().stay(7, hadm=2, icustay=21, start=500, los=1.5)
    source.stay(7, hadm=1, icustay=22, start=0, los="")
    stays, _, _ = cohort(source, tmp_path)
    assert stays.select("icustay_id", "episode", "los_hours").rows() == [
        (22, 1, None),
        (21, 2, 36.0),
    ]


def test_splits_are_the_published_ones_and_unknown_subjects_train(tmp_path):
    source = Source().stay(10000).stay(100).stay(123456789)
    stays, _, _ = cohort(source, tmp_path)
    assert dict(stays.select("subject_id", "split").iter_rows()) == {
        10000: "test",
        100: "val",
        123456789: "train",
    }


def test_diagnoses_outside_the_dictionary_are_dropped_and_codes_stay_text(tmp_path):
    source = Source().stay(7, codes=("0389", "4019"))
    source.add("DIAGNOSES_ICD", subject_id=7, hadm_id=100007, seq_num=3, icd9_code="9999")
    stays, _, frames = cohort(source, tmp_path)
    diagnoses = select_diagnoses(frames["DIAGNOSES_ICD"], frames["D_ICD_DIAGNOSES"], stays)
    assert diagnoses["icd9_code"].to_list() == ["0389", "4019"]


@pytest.mark.parametrize(
    ("table", "key"),
    [("ICUSTAYS", "ICUSTAY_ID"), ("ADMISSIONS", "HADM_ID"), ("PATIENTS", "SUBJECT_ID")],
)
def test_a_table_loaded_twice_is_refused(tmp_path, table, key):
    source = Source().stay(7)
    source.tables[table] *= 2
    with pytest.raises(InputError, match=f"{table}: 1 rows repeat an earlier {key}"):
        cohort(source, tmp_path)


def test_unreadable_times_and_ids_are_refused(tmp_path):
    with pytest.raises(InputError, match="1 rows have a INTIME that is not a time like"):
        cohort(Source().stay(7, intime="soon"), tmp_path)
    with pytest.raises(InputError, match="ICUSTAYS: 1 rows have an empty or non-numeric"):
        cohort(Source().stay(7, icustay_id="x"), tmp_path)


def test_times_exported_by_databases():
    texts = ["2130-05-01T10:00:00Z", "2130-05-01 10:00:00 UTC", "2130-05-01 10:00:00+00"]
    texts += ["2130-05-01T10:00:00.000+00:00", "2130-05-01 10:00", "2130-05-01T10:00:00"]
    assert set(parse_time(pl.Series(texts))) == {datetime(2130, 5, 1, 10)}
    others = ["2130-05-01 10:00:00+01", "2130-05-01 10:00:00 EST", "05/01/2130 10:00", "", "T", "Z"]
    assert parse_time(pl.Series(others)).to_list() == [None] * len(others)


def test_fractions_of_a_second_count():
    times = parse_time(pl.Series(["2130-05-01 10:00:00.250", "2130-05-01 10:00:00"]))
    assert hours_between(times[:1], times[1:]).to_list() == [0.25 / 60 / 60]


def test_times_from_1800_to_2200_and_the_usual_variants():
    texts = ["1800-01-01 00:00:00", "2199-12-31 23:59:59", "2130-05-01", "2130-05-01T10:00:00", "x"]
    times = parse_time(pl.Series(texts))
    assert times.to_list() == [
        datetime(1800, 1, 1),
        datetime(2199, 12, 31, 23, 59, 59),
        datetime(2130, 5, 1),
        datetime(2130, 5, 1, 10),
        None,
    ]
