"""The benchmark's event rules once more, row by row: an oracle for the vectorised code.

Written from the specification, with plain loops and Python's own float(), repr() and max().
"""

import re
from collections import defaultdict
from datetime import datetime
from typing import Any

from mimic_reg.clinical.events import items
from mimic_reg.schema import MISSING_TEXTS, VARIABLES, variables
from tests.raw import FORMAT

UNTOUCHED = ("Glascow", "Heart Rate", "Respiratory rate", "Mean blood pressure")
NUMBER = re.compile(r"^(\d+(\.\d*)?|\.\d+)$")
ITEMS = {i: (VARIABLES[v], label.lower()) for i, v, label in items("benchmark").iter_rows()}


def text(value: Any) -> str:
    return "" if value is None else str(value)


def clean(variable: str, value: str, unit: str, label: str) -> float | None:
    if variable == "Capillary refill rate":
        if value in ("Normal <3 secs", "Brisk"):
            return 0.0
        return 1.0 if value in ("Abnormal >3 secs", "Delayed") else None
    if variable in ("Systolic blood pressure", "Diastolic blood pressure"):
        if "/" in value:
            return float(re.match(r"^(\d+)/(\d+)$", value)[1 if variable[0] == "S" else 2])
        return float(value)
    if variable == "Fraction inspired oxygen":
        return float(value) if "torr" in unit else float(value) / 100
    if variable in ("Oxygen saturation", "Glucose", "pH"):
        if not NUMBER.match(value):
            return None
        number = float(value)
        return number * 100 if variable[0] == "O" and number <= 1 else number
    number = float(value)
    if variable == "Temperature":
        return (number - 32) * 5.0 / 9 if number >= 79 else number
    if variable == "Weight":
        ounces, pounds = "oz" in unit or "oz" in label, "lb" in unit or "lb" in label
        number = number / 16.0 if ounces else number
        return number * 0.453592 if ounces or pounds else number
    assert variable == "Height"
    return float(round(number * 2.54)) if "in" in unit or "in" in label else number


def validate(
    rows: list[dict[str, Any]], stays: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows that pass, with the stay of their admission; and how many fell for what."""
    counts: dict[str, int] = defaultdict(int)
    kept = []
    for row in rows:
        own = {s["hadm_id"]: s["icustay_id"] for s in stays if s["subject_id"] == row["subject_id"]}
        if not own:
            fate = "subject_not_kept"
        elif text(row["hadm_id"]) in MISSING_TEXTS:
            fate = "empty_hadm"
        elif row["hadm_id"] not in own:
            fate = "no_hadm_in_stay"
        elif text(row.get("icustay_id")) in MISSING_TEXTS:
            fate = "kept_recovered"
        elif row["icustay_id"] != own[row["hadm_id"]]:
            fate = "icustay_missing_in_stays"
        else:
            fate = "kept"
        counts[fate] += 1
        if fate.startswith("kept"):
            kept.append(row | {"icustay_id": own[row["hadm_id"]]})
    return kept, dict(counts)


def episodes(
    rows: list[dict[str, Any]], stays: list[dict[str, Any]]
) -> dict[int, list[tuple[float, dict[str, float | str]]]]:
    """{icustay_id: [(hours, {variable: winning value})]}, texts for the untouched variables."""
    cells: dict[tuple[int, datetime], dict[str, Any]] = defaultdict(dict)
    named = set()
    for row in rows:
        if row["itemid"] not in ITEMS or text(row["value"]) in MISSING_TEXTS:
            continue
        variable, label = ITEMS[row["itemid"]]
        value: Any = text(row["value"])
        if not variable.startswith(UNTOUCHED):
            value = clean(variable, value, text(row.get("valueuom")).lower(), label)
        if value is None:
            continue
        key = (row["subject_id"], datetime.strptime(row["charttime"], FORMAT))
        cells[key][variable] = max(cells[key].get(variable, value), value)
        named.add((*key, row["icustay_id"]))
    result = {}
    for stay in stays:
        intime = datetime.strptime(stay["intime"], FORMAT)
        outtime = datetime.strptime(stay["outtime"], FORMAT)
        found = [
            ((time - intime).total_seconds() / 60.0 / 60, cells[subject, time])
            for subject, time, icustay in named
            if subject == stay["subject_id"]
            and (icustay == stay["icustay_id"] or intime <= time <= outtime)
        ]
        if found:
            result[stay["icustay_id"]] = sorted(found, key=lambda pair: pair[0])
    return result


def hourly(rows: list[tuple[float, dict[str, Any]]], end: float) -> list[list[float]]:
    """The Discretizer: one list of 59 values and 17 masks an hour."""
    bins = int(end + 1.0 - 1e-6)
    values: list[dict[str, Any]] = [{} for _ in range(bins)]
    for hours, cells in rows:
        if -1e-6 < hours < end + 1e-6:
            values[int(hours - 1e-6)].update(cells)
    last = {v.name: v.normal for v in variables()}
    array = []
    for here in values:
        last |= here
        row: list[float] = []
        for v in variables():
            value = last[v.name]
            if v.categories:
                category = value if v.is_text else repr(float(value))
                row += [float(category == c) for c in v.categories]
            else:
                row.append(float(value))
        array.append(row + [float(v.name in here) for v in variables()])
    return array
