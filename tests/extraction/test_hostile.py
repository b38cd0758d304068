"""The whole extraction, compared with the row-by-row oracle, on oddities that the demo lacks.

Ages of 300 and below 18, admissions with several stays, transfers, nested stays, ids that are
missing, wrong or not numbers, ties, odd texts and units, rows flagged as errors, events before and
after the stay, deaths before admission, no length of stay, no diagnosis, no event.
"""

import csv
import io
import random

import polars as pl
import pytest

from mimic_reg.clinical.episodes import number_text
from mimic_reg.clinical.events import items
from mimic_reg.clinical.schema import CHANNELS, TEXT_VARIABLES, VARIABLES, variables
from mimic_reg.extraction import extract, run
from mimic_reg.extraction.memory import Plan
from mimic_reg.parity.compare import compare
from mimic_reg.parity.export import export
from mimic_reg.parity.importing import import_benchmark
from tests import reference_extraction as oracle
from tests.raw import Source, at

TASKS = ("in_hospital_mortality", "decompensation", "length_of_stay", "phenotyping")
CODES = ("4019", "0389", "5849", "51881", "E8788", "V1582", "42731", "not in the dictionary")
NUMBERS = ["9", "12", "86", "86.0", "59.666698455810547", "0.4", "1", "101.3", "79", "275", "-8"]
NUMBERS += ["11647", "0", "100", "1e3", " 98", "1_0", ".5", "5.", "98.60", "7", "1e-05", "+7"]
ODD = [">60/min", ".", "", "NaN", "None", "ERROR", "NEG", ">500", "say ''\"x\"'', twice", "\u00b0"]
PRESSURES = ["120/80", "90/3", "120/", "/", "120/80/3", "77", "007/9"]
COMA = ["None", "4 Spontaneously", "To Pain", "1 No Response", "Oriented", "15", "3", "15.0", "0"]
REFILL = ["Brisk", "Delayed", "Normal <3 secs", "Abnormal >3 secs", "Other/Remarks"]
UNITS = ["", "torr", "TORR", "kg", "lbs", "Inch", "oz", "cm", "%", "?F", "NA", "mm,Hg"]
HOURS = [-300.0, -1.0, 0.0, 1 / 3600, 0.5, 1.0, 1.0 + 1 / 3600, 3.9, 5.25, 24.0, 47.9, 48.0]
HOURS += [48.0 + 1 / 3600, 49.0, 71.3, 400.0]
VARIABLE_OF = {itemid: VARIABLES[code] for itemid, code, _ in items("benchmark").iter_rows()}


def value_of(draw, variable):
    if draw.random() < 0.15:
        return draw.choice(ODD)
    if variable in TEXT_VARIABLES:
        return draw.choice(COMA)
    if variable == "Capillary refill rate":
        return draw.choice(REFILL)
    return draw.choice(NUMBERS + (PRESSURES if "olic" in variable else []))


def add_subject(source, draw, subject):
    """Add one to three stays, each with an oddity; return their (HADM_ID, ICUSTAY_ID)."""
    ids = []
    born = draw.choice(["2080-01-01 00:00:00"] * 5 + ["1829-12-01 00:00:00", "2115-01-01 00:00:00"])
    dod = draw.choice([None, None, "2130-05-03 00:00:00"])
    start = 0.0
    for number in range(draw.randint(1, 3)):
        hadm, icustay = 100_000 + 10 * subject + number, 20_000_000 - 10 * subject - number
        hours = draw.choice([0.2, 3.0, 4.0, 5.25, 47.9988, 48.0, 60.3, 130.0])
        died = draw.choice([None, None, None, -0.5, hours / 2, hours, hours + 3])
        odd = draw.random()
        source.stay(
            subject,
            hadm=hadm,
            icustay=icustay,
            start=start,
            hours=hours,
            codes=() if odd < 0.07 else tuple(draw.sample(CODES, draw.randint(1, 4))),
            dob=born,
            dod=dod,
            deathtime=None if died is None else at(start + died),
            **({"los": "", "outtime": ""} if 0.07 < odd < 0.14 else {}),
            **({"last_wardid": draw.choice([3, "", "NA"])} if 0.14 < odd < 0.25 else {}),
        )
        if odd > 0.9:  # another stay of the admission, transferred or not
            row = dict(source.tables["ICUSTAYS"][-1])
            moved = {"icustay_id": icustay + 5, "last_careunit": draw.choice(["CCU", "MICU"])}
            source.add("ICUSTAYS", **(row | moved))
        ids.append((hadm, icustay))
        start += draw.choice([2.0, hours + 30.0])  # the next stay starts during or after this one
    return ids


def hostile(seed):
    draw = random.Random(seed)
    source = Source()
    for subject in (7, 8, 9, 11, 12, 13, 100, 107, 10_000, 10_001, 10_006, 10_011, 999_999):
        ids = add_subject(source, draw, subject)
        if subject == 11:
            continue  # no event at all
        for _ in range(160):
            table = draw.choice(["CHARTEVENTS"] * 6 + ["LABEVENTS", "OUTPUTEVENTS"])
            itemid = draw.choice([*VARIABLE_OF, 128])
            hadm, icustay = draw.choice(ids)
            others = {} if table == "LABEVENTS" else {"icustay_id": icustay}
            if draw.random() < 0.2:
                others = dict.fromkeys(others, draw.choice([None, 999_999, "x", ids[0][1]]))
            if draw.random() < 0.1:
                hadm = draw.choice([None, "NA", 999_999, "107.0", ids[-1][0], 100_080, 100_090])
            if table == "CHARTEVENTS":
                others |= {"error": draw.choice(["", "1"]), "valuenum": "5", "stopped": "D/C'd"}
            source.add(
                table,
                subject_id=subject,
                hadm_id=hadm,
                itemid=itemid,
                charttime=at(draw.choice(HOURS)),
                value=value_of(draw, VARIABLE_OF.get(itemid, "")),
                valueuom=draw.choice(UNITS),
                **others,
            )
    source.add("CHARTEVENTS", subject_id=1, hadm_id=1, itemid=211, charttime=at(1), value="80")
    return source


@pytest.fixture(scope="module", params=[1, 2])
def case(request, tmp_path_factory):
    """Return the tables, the oracle's stays and episodes, and the extraction's result."""
    source = hostile(request.param)
    stays = oracle.cohort(source.tables)
    valid, fates = [], {}
    for name in run.EVENT_TABLES:
        kept, fates[name] = oracle.validate(source.tables[name], stays)
        valid += kept
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.Plan, "within", lambda memory: Plan(2_000, 150, 4))
        result = extract(source.write(folder / "raw"), folder / "store")
    return stays, oracle.episodes(valid, stays), fates, result


def test_cohort(case):
    stays, _, _, result = case
    columns = ("icustay_id", "hadm_id", "episode", "age", "los_hours", "mortality")
    columns += ("mortality_inunit",)
    ours = result.store.read("stays.parquet").select(columns).rows()
    assert ours == sorted(tuple(s[c] for c in columns) for s in stays)
    diagnoses = result.store.read("diagnoses.parquet").group_by("icustay_id").agg("icd9_code")
    expected = {s["icustay_id"]: sorted(s["codes"]) for s in stays if s["codes"]}
    assert {stay: sorted(codes) for stay, codes in diagnoses.iter_rows()} == expected


def test_the_fate_of_every_event(case):
    _, _, fates, result = case
    for name, counts in fates.items():
        ours = result.audit["events"][name]
        assert {fate: n for fate, n in ours.items() if n} == counts


def test_every_cell_is_spelled_as_in_the_source(case):
    _, expected, _, result = case
    spelt = {(i, h, v): t for i, h, v, t in result.store.read("episode_texts.parquet").iter_rows()}
    ours = result.store.read("episodes.parquet")
    plain = ours.with_columns(
        number_text(pl.col(v)).alias(v) for v in VARIABLES if v not in TEXT_VARIABLES
    )
    rows = [(stay, hours, cells) for stay in sorted(expected) for hours, cells in expected[stay]]
    assert ours.height == len(rows) > 200
    for row, words, (stay, hours, cells) in zip(
        ours.iter_rows(named=True), plain.iter_rows(named=True), rows, strict=True
    ):
        assert (row["icustay_id"], row["hours"]) == (stay, hours)  # to the last bit
        for v in VARIABLES:
            untouched = v.startswith(oracle.UNTOUCHED)
            found = spelt.get((stay, hours, v), words[v]) if untouched else row[v]
            assert found == cells.get(v), v


def known(cells):
    """Return the cells that have a channel: numbers, and texts of a category."""
    categories = {v.name: v.categories for v in variables() if v.is_text}

    def is_number(value):
        try:
            return float(value) is not None
        except ValueError:
            return False

    return {
        name: value
        for name, value in cells.items()
        if (value in categories[name] if name in categories else is_number(value))
    }


def test_every_hour(case):
    stays, episodes, _, result = case
    arrays = result.store.read("hourly.parquet").partition_by("icustay_id", as_dict=True)
    for stay in stays:
        rows = episodes.get(stay["icustay_id"], [])
        los = stay["los_hours"]
        if los is None or not any(-1e-6 < h < los + 1e-6 for h, _ in rows):
            assert (stay["icustay_id"],) not in arrays
            continue
        expected = oracle.hourly([(h, known(c)) for h, c in rows], los)
        ours = arrays[stay["icustay_id"],].select(CHANNELS).rows()
        assert ours == [pytest.approx(row, rel=1e-6, abs=1e-6) for row in expected]


def test_samples(case):
    stays, episodes, _, result = case
    expected = {task: [] for task in TASKS}
    for stay in stays:
        hours = [h for h, _ in episodes.get(stay["icustay_id"], [])]
        for task, found in oracle.samples(stay, hours).items():
            expected[task] += [(stay["icustay_id"], *sample) for sample in found]
    for task, rows in expected.items():
        table = result.store.read(f"tasks/{task}.parquet")
        labels = table.columns[4:]
        ours = [
            (stay, t, y[0] if labels == ["y"] else tuple(y))
            for stay, t, *y in table.select("icustay_id", "period_length", *labels).iter_rows()
        ]
        assert ours == sorted(rows), task
        assert len(rows) > 4


@pytest.fixture(scope="module")
def folder(case, tmp_path_factory):
    return export(case[-1].store, tmp_path_factory.mktemp("hostile") / "csv").folder


def test_multitask_listfile(case, folder):
    stays, episodes, *_ = case
    expected = []
    for stay in stays:
        hours = [h for h, _ in episodes.get(stay["icustay_id"], [])]
        if line := oracle.multitask(stay, hours):
            expected.append(",".join(line))
    lines = []
    for name in ("train", "val", "test"):
        lines += (folder / "multitask" / f"{name}_listfile.csv").read_text().splitlines()[1:]
    assert sorted(lines) == sorted(expected)
    assert len(lines) > 4


def test_a_store_imported_from_the_exported_files(case, folder, tmp_path):
    """It equals the extracted store, except for stays without a diagnosis."""
    stays, _, _, result = case
    imported = import_benchmark(folder, tmp_path / "store")
    ids = pl.Series([s["icustay_id"] for s in stays if s["codes"]]).implode()
    for name in ("episodes", "episode_texts", "hourly", *(f"tasks/{task}" for task in TASKS)):
        ours = result.store.read(f"{name}.parquet").filter(pl.col("icustay_id").is_in(ids))
        assert imported.read(f"{name}.parquet").equals(ours), name


def test_exported_files(case, folder):
    """Time series equal those written with csv and repr; the store equals its export."""
    stays, episodes, _, result = case
    for stay in stays:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["Hours", *VARIABLES])
        for hours, cells in episodes.get(stay["icustay_id"], []):
            writer.writerow([repr(hours), *(oracle.text(cells.get(v)) for v in VARIABLES)])
        name = f"{stay['subject_id']}/episode{stay['episode']}_timeseries.csv"
        found = [*folder.glob(f"root/*/{name}")]
        if stay["icustay_id"] not in episodes:
            assert not found
            continue
        assert found[0].read_text() == text.getvalue()
    assert compare(result.store, folder).identical
