"""The benchmark's rules, row by row: an oracle for the vectorised code.

Written from the specification, with plain loops and Python's own float(), repr() and max().
"""

import re
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

import numpy as np

from mimic_reg.clinical.events import items
from mimic_reg.clinical.schema import MISSING_TEXTS, VARIABLES, phenotypes, variables
from tests.raw import FORMAT

UNTOUCHED = ("Glascow", "Heart Rate", "Respiratory rate", "Mean blood pressure")
NUMBER = re.compile(r"^(\d+(\.\d*)?|\.\d+)$")
ITEMS = {i: (VARIABLES[v], label.lower()) for i, v, label in items("benchmark").iter_rows()}


def text(value: Any) -> str:
    return "" if value is None else str(value)


def when(value: Any) -> datetime | None:
    return datetime.strptime(value, FORMAT) if value else None


def cohort(tables: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the kept stays with age, los_hours, mortality and their diagnoses' codes."""
    units = ("first_careunit", "last_careunit", "first_wardid", "last_wardid")
    people = {p["subject_id"]: p for p in tables["PATIENTS"]}
    admissions = {(a["subject_id"], a["hadm_id"]): a for a in tables["ADMISSIONS"]}
    known = [d["icd9_code"] for d in tables["D_ICD_DIAGNOSES"]]
    stays = []
    for row in tables["ICUSTAYS"]:
        careunit, careunit_after, ward, ward_after = (text(row[u]) for u in units)
        moved = careunit != careunit_after or ward != ward_after
        if moved or careunit in MISSING_TEXTS or ward in MISSING_TEXTS:
            continue
        key = (row["subject_id"], row["hadm_id"])
        if key in admissions and key[0] in people:
            stays.append(people[key[0]] | admissions[key] | row)
    count = Counter(s["hadm_id"] for s in stays)
    kept = []
    for s in stays:
        intime, outtime = when(s["intime"]), when(s["outtime"])
        age = (intime - when(s["dob"])).total_seconds() / 3600.0 / 24.0 / 365.0
        age = 90.0 if age < 0 else age
        if count[s["hadm_id"]] > 1 or age < 18:
            continue
        deaths = [d for d in (when(s.get("dod")), when(s.get("deathtime"))) if d]
        within = (when(s["admittime"]), when(s["dischtime"]))
        codes = [
            d["icd9_code"]
            for d in tables["DIAGNOSES_ICD"]
            if (d["subject_id"], d["hadm_id"]) == (s["subject_id"], s["hadm_id"])
            for code in known
            if code == d["icd9_code"]
        ]
        facts = {
            "age": age,
            "los_hours": 24.0 * float(s["los"]) if text(s["los"]) else None,
            "mortality": int(any(within[0] <= d <= within[1] for d in deaths)),
            "mortality_inunit": int(any(outtime and intime <= d <= outtime for d in deaths)),
            "codes": codes,
        }
        kept.append(s | facts)
    kept.sort(key=lambda s: (s["subject_id"], s["intime"]))
    for number, s in enumerate(kept):
        first = next(i for i, k in enumerate(kept) if k["subject_id"] == s["subject_id"])
        s["episode"] = number - first + 1
    return kept


def hours_lived(stay: dict[str, Any]) -> float:
    if not stay.get("deathtime"):
        return 1e18
    return (when(stay["deathtime"]) - when(stay["intime"])).total_seconds() / 3600.0


def multitask(stay: dict[str, Any], hours: list[float]) -> tuple[str, ...] | None:
    """Return the stay's line of the multitask listfile."""
    los, lived = stay["los_hours"], hours_lived(stay)
    if los is None or not stay["codes"]:
        return None
    used = [h for h in hours if -1e-6 < h < los + 1e-6]
    if not used:
        return None
    predicted = int(los >= 48 - 1e-6 and min(used) <= 48 + 1e-6)

    def lists(end: float, label: Any) -> str:
        times = [int(t + 1e-6) for t in np.arange(0.0, end + 1e-6, 1.0)]
        masks = ";".join(str(int(t > 4 and t > min(used))) for t in times)
        return masks + ";" + ";".join(label(t) for t in times)

    ((_, phenotyping),) = samples(stay, hours)["phenotyping"]
    return (
        f"{stay['subject_id']}_episode{stay['episode']}_timeseries.csv",
        f"{los:.6f}",
        f"{47 if predicted else 0};{predicted};{stay['mortality']}",
        lists(los, lambda t: f"{los - t:.6f}"),
        ";".join(str(label) for label in phenotyping),
        lists(min(los, lived), lambda t: str(int(stay["mortality"] and lived - t < 24))),
    )


def samples(
    stay: dict[str, Any], hours: list[float]
) -> dict[str, list[tuple[float, float | tuple[int, ...]]]]:
    """Return {task: [(period_length, label)]} of a stay whose episode has rows at `hours`."""
    found: dict[str, list[Any]] = {
        t: [] for t in ("in_hospital_mortality", "decompensation", "length_of_stay", "phenotyping")
    }
    los = stay["los_hours"]
    if los is None or not stay["codes"]:
        return found
    used = [h for h in hours if -1e-6 < h < los + 1e-6]
    if los >= 48 - 1e-6 and any(h < 48 + 1e-6 for h in used):
        found["in_hospital_mortality"].append((48.0, stay["mortality"]))
    if not used:
        return found
    lived = hours_lived(stay)
    for t in np.arange(0.0, min(los, lived) + 1e-6, 1.0):
        if t > 4 and t > min(used):
            label = int(lived - t < 24.0) if stay["mortality"] else 0
            found["decompensation"].append((t, label))
    for t in np.arange(0.0, los + 1e-6, 1.0):
        if t > 4 and t > min(used):
            found["length_of_stay"].append((t, los - t))
    groups = phenotypes().values()
    labels = tuple(int(any(c in g["codes"] for c in stay["codes"])) for g in groups)
    found["phenotyping"].append((los, labels))
    return found


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
    """Return the valid rows, with the stay of their admission, and {fate: number of rows}."""
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
    """Return {icustay_id: [(hours, {variable: value})]}, with texts for untouched variables."""
    cells: dict[tuple[int, datetime], dict[str, Any]] = defaultdict(dict)
    named = set()
    for row in rows:
        if row["itemid"] not in ITEMS or text(row["value"]) in MISSING_TEXTS:
            continue
        variable, label = ITEMS[row["itemid"]]
        value: Any = text(row["value"])
        if not variable.startswith(UNTOUCHED):
            try:
                value = clean(variable, value, text(row.get("valueuom")).lower(), label)
            except (ValueError, TypeError):  # the reference stops here
                continue
        if value is None:
            continue
        key = (row["subject_id"], datetime.strptime(row["charttime"], FORMAT))
        cells[key][variable] = max(cells[key].get(variable, value), value)
        named.add((*key, row["icustay_id"]))
    result = {}
    for stay in stays:
        intime = datetime.strptime(stay["intime"], FORMAT)
        outtime = when(stay["outtime"]) or datetime.min  # unknown: no time is inside
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
    """Return the Discretizer's output: 59 values and 17 masks per hour."""
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
