"""Cleaning rules: readable cases for each."""

import polars as pl
import pytest

from mimic_reg.clinical import events as ev
from mimic_reg.clinical.schema import VARIABLES
from tests.raw import at

# (item, value, unit) -> number in benchmark mode, number in corrected mode
CASES = [
    ("Capillary refill rate", 3348, "Normal <3 secs", "", 0.0, 0.0),
    ("Capillary refill rate", 3348, "Brisk", "", 0.0, 0.0),
    ("Capillary refill rate", 115, "Delayed", "", 1.0, 1.0),
    ("Capillary refill rate", 115, "Other/Remarks", "", None, None),
    ("Systolic blood pressure", 442, "120/80", "", 120.0, 120.0),
    ("Diastolic blood pressure", 8440, "120/80", "", 80.0, 80.0),
    ("Systolic blood pressure", 51, "11647", "", 11647.0, None),
    ("Fraction inspired oxygen", 3420, "70", "%", 0.7, 0.7),  # not 0.7000000000000001
    ("Fraction inspired oxygen", 3420, "0.4", "", 0.004, 0.4),
    ("Fraction inspired oxygen", 3420, "0.4", "torr", 0.4, 0.4),
    ("Oxygen saturation", 646, "0.97", "", 97.0, 97.0),
    ("Oxygen saturation", 646, "0", "", 0.0, 0.0),
    ("Oxygen saturation", 646, "ERROR", "", None, None),
    ("Glucose", 807, ">500", "", None, None),
    ("Glucose", 807, "1e3", "", None, None),
    ("Glucose", 51478, "250", "", 250.0, None),  # urine
    ("pH", 51491, "5.0", "", 5.0, None),  # urine
    ("pH", 50831, "7.2", "", 7.2, None),  # another body fluid
    ("pH", 780, ".4", "", 0.4, None),
    ("Temperature", 678, "98.6", "", (98.6 - 32) * 5.0 / 9, (98.6 - 32) * 5.0 / 9),
    ("Temperature", 678, "78.8", "?F", 78.8, 26.0),
    ("Temperature", 676, "79", "", (79.0 - 32) * 5.0 / 9, None),
    ("Weight", 763, "80", "kg", 80.0, 80.0),
    ("Weight", 226531, "176", "", 176 * 0.453592, 176 * 0.453592),
    ("Weight", 3582, "32", "", 2 * 0.453592, 2 * 0.453592),
    ("Weight", 763, "176", "LBS", 176 * 0.453592, 176 * 0.453592),
    ("Height", 226707, "70", "Inch", 178.0, 178.0),
    ("Height", 1394, "62.5", "", 159.0, 159.0),  # 158.75
    ("Height", 226730, "170.4", "cm", 170.4, 170.4),
]


def raw(rows):
    return pl.DataFrame(
        [
            {
                "subject_id": 7,
                "icustay_id": 207,
                "itemid": item,
                "charttime": at(1),
                "value": value,
                "valueuom": unit or None,
            }
            for item, value, unit in rows
        ]
    )


@pytest.mark.parametrize(("variable", "item", "value", "unit", "benchmark", "corrected"), CASES)
def test_cleaning(variable, item, value, unit, benchmark, corrected):
    for mode, expected in (("benchmark", benchmark), ("corrected", corrected)):
        cleaned, counts = ev.clean(raw([(item, value, unit)]), mode)
        assert cleaned["number"].to_list() == ([] if expected is None else [expected]), mode
        assert set(counts) <= {variable}
        if expected is not None:
            assert VARIABLES[cleaned["variable"][0]] == variable


@pytest.mark.parametrize("item", [211, 618, 52, 184, 454, 198, 723])
def test_heart_rate_breathing_mean_pressure_and_coma_scale_keep_their_text(item):
    cleaned, _ = ev.clean(raw([(item, "59.666698455810547", ""), (item, "None", "")]), "benchmark")
    assert cleaned["text"].to_list() == ["59.666698455810547", "None"]
    assert cleaned["number"].null_count() == 2


def test_dropped_rows_are_counted():
    rows = [(807, "", ""), (807, "NEG", ""), (807, "120", ""), (807, "NaN", "")]
    frame = raw(rows).with_columns(
        pl.when(pl.col("value") == "120")
        .then(pl.lit("never"))
        .otherwise("charttime")
        .alias("charttime")
    )
    _, counts = ev.clean(frame, "benchmark")
    assert counts == {
        "Glucose": {"mapped": 4, "empty": 2, "unreadable": 1, "no_time": 1, "kept": 0}
    }


def test_corrected_mode_clips_to_the_valid_range_and_counts():
    cleaned, counts = ev.clean(
        raw([(646, "101", ""), (646, "151", ""), (211, "360", "")]), "corrected"
    )
    assert counts["Oxygen saturation"]["clipped"] == 1
    assert counts["Oxygen saturation"]["implausible"] == 1
    assert cleaned.filter(pl.col("number").is_not_null())["number"].to_list() == [100.0]
    assert cleaned.filter(pl.col("text").is_not_null())["text"].to_list() == ["350.0"]


def test_numbers_are_read_as_by_python():
    texts = pl.Series(["1", " 2 ", "1_0", "+3", ".5", "inf", "1e-5", "x", None])
    assert ev.to_number(texts).to_list() == [1, 2, 10, 3, 0.5, float("inf"), 1e-5, None, None]


def test_counts_add_up():
    total = ev.add_counts({"a": 1, "b": {"c": 2}}, {"a": 3, "b": {"d": 4}})
    assert total == {"a": 4, "b": {"c": 2, "d": 4}}
