"""Simulated tables: the same bytes for a seed, MIMIC-III's columns, its oddities, true risks."""

import csv
import gzip
import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from mimic_reg.clinical.datasets import EVENT_TABLES
from mimic_reg.clinical.schema import PHENOTYPES, phenotypes, resource, variables
from mimic_reg.clinical.stays import parse_time
from mimic_reg.errors import InputError
from mimic_reg.extraction.run import extract
from mimic_reg.seeds import derive
from mimic_reg.simulation import oddities, physiology, records, synthesis, truth
from mimic_reg.simulation.layouts import LAYOUTS
from mimic_reg.simulation.synthesis import GENERATOR_VERSION, TRUE_RISK, synthesize
from mimic_reg.store import read_json

COLUMNS = LAYOUTS["mimic-iii"].columns
NUM_PATIENTS = 200


def streams(purpose):
    return np.random.default_rng(derive("test", purpose))


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    return synthesize(tmp_path_factory.mktemp("synthetic") / "raw", patients=NUM_PATIENTS, seed=1)


@pytest.fixture(scope="module")
def tables(summary):
    """Return the tables as text, except for the ids."""
    ids = ("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "ITEMID", "ROW_ID")
    return {
        name: pl.read_csv(summary.folder / f"{name}.csv", infer_schema_length=0).with_columns(
            pl.col(c).cast(pl.Int64) for c in columns if c in ids
        )
        for name, columns in COLUMNS.items()
    }


@pytest.fixture(scope="module")
def items():
    return pl.read_csv(resource("items.csv").read_bytes())


@pytest.fixture(scope="module")
def mapped(tables, items):
    """Return the rows of the benchmark's items, with their variable, label and table."""
    rows = [
        tables[name].select("SUBJECT_ID", "HADM_ID", "ITEMID", "CHARTTIME", "VALUE", "VALUEUOM")
        for name in ("CHARTEVENTS", "LABEVENTS")
    ]
    return pl.concat(rows).join(items, left_on="ITEMID", right_on="itemid")


@pytest.fixture(scope="module")
def many():
    """Return records of more patients, without events."""
    return records.draw_records(1500, streams)


# --- the files ------------------------------------------------------------------------------------


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        synthesize(tmp_path / name, patients=25, seed=7, missing=0.1, compress=True)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_another_seed_gives_other_tables(tmp_path):
    written = [synthesize(tmp_path / str(s), patients=25, seed=s).folder for s in (0, 1)]
    first, second = (contents(folder) for folder in written)
    same = {name for name in first if first[name] == second[name]}
    assert same == {"D_ITEMS.csv", "D_ICD_DIAGNOSES.csv"}


def test_compressed_tables_hold_the_same_content(tmp_path):
    plain = synthesize(tmp_path / "plain", patients=15, seed=2)
    packed = synthesize(tmp_path / "packed", patients=15, seed=2, compress=True)
    assert plain.rows == packed.rows
    for name in COLUMNS:
        text = gzip.decompress((packed.folder / f"{name}.csv.gz").read_bytes())
        assert text == (plain.folder / f"{name}.csv").read_bytes()


def test_headers_are_those_of_mimic_iii(summary, tables):
    assert {p.stem for p in summary.folder.glob("*.csv")} == set(COLUMNS)
    for name, columns in COLUMNS.items():
        assert tables[name].columns == columns
        assert tables[name].height == summary.rows[name]
        row_ids = tables[name]["ROW_ID"].to_list()
        assert row_ids == list(range(1, len(row_ids) + 1))


def test_a_part_without_rows_adds_no_second_header(tmp_path):
    with synthesis._Tables(tmp_path, False, LAYOUTS["mimic-iii"]) as tables:
        for num in (0, 2, 0, 1):
            tables.append("D_ITEMS", pl.DataFrame({"ITEMID": [7] * num}))
    lines = (tmp_path / "D_ITEMS.csv").read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS["D_ITEMS"])
    assert [line.split(",")[:2] for line in lines[1:]] == [["1", "7"], ["2", "7"], ["3", "7"]]


def test_quotes_and_commas_survive(summary):
    with (summary.folder / "CHARTEVENTS.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary.rows["CHARTEVENTS"]
    values = {row["VALUE"] for row in rows if row["ITEMID"] == "227969"}
    assert {"Adequate lighting, bed low", 'Sign "fall risk" at bed'} <= values


def test_missing_leaves_out_rows_and_changes_no_other(tmp_path):
    full = synthesize(tmp_path / "full", patients=20, seed=3)
    half = synthesize(tmp_path / "half", patients=20, seed=3, missing=0.5)
    for name in EVENT_TABLES:
        assert half.rows[name] == pytest.approx(full.rows[name] / 2, rel=0.15)
        few, all_rows = (
            {row.split(",", 1)[1] for row in (s.folder / f"{name}.csv").read_text().splitlines()}
            for s in (half, full)
        )
        assert few <= all_rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patients": 9}, "--patients is 9; it must be at least 10"),
        ({"patients": 40_000}, "at most 33,800"),
        ({"missing": 1.0}, r"--missing is 1.0; it must be a share in \[0, 1\)"),
        ({"missing": -0.1}, "--missing is -0.1"),
    ],
)
def test_invalid_options_write_nothing(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        synthesize(tmp_path / "raw", **{"patients": 10, **options})
    assert not list(tmp_path.iterdir())


def test_only_a_simulation_is_replaced(tmp_path):
    out = tmp_path / "raw"
    out.mkdir()
    synthesize(out, patients=10, seed=0)
    with pytest.raises(InputError, match="already holds a simulation"):
        synthesize(out, patients=10, seed=1)
    synthesize(out, patients=10, seed=1, compress=True, overwrite=True)
    assert not (out / "PATIENTS.csv").exists()
    assert json.loads((out / TRUE_RISK).read_text())["seed"] == 1
    (out / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="holds files other than a simulation"):
        synthesize(out, patients=10, overwrite=True)
    with pytest.raises(InputError, match="is a file"):
        synthesize(out / "mine.txt", patients=10)


def test_real_tables_are_never_replaced(tmp_path):
    (tmp_path / "CHARTEVENTS.csv").write_text("real")
    with pytest.raises(InputError, match="files other than a simulation"):
        synthesize(tmp_path, patients=10, overwrite=True)
    assert (tmp_path / "CHARTEVENTS.csv").read_text() == "real"


def test_a_failure_keeps_the_earlier_simulation(tmp_path, monkeypatch):
    out = tmp_path / "raw"
    synthesize(out, patients=10, seed=0)
    before = contents(out)

    def fail(*_):
        raise RuntimeError("cut off")

    monkeypatch.setattr(truth, "judge", fail)
    with pytest.raises(RuntimeError, match="cut off"):
        synthesize(out, patients=10, seed=1, overwrite=True)
    assert contents(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


# --- records --------------------------------------------------------------------------------------


def test_ids_are_consistent(tables):
    patients, admissions, stays = (tables[t] for t in ("PATIENTS", "ADMISSIONS", "ICUSTAYS"))
    for table, key in (
        *((patients, "SUBJECT_ID"), (admissions, "HADM_ID"), (stays, "ICUSTAY_ID")),
        *((tables["D_ITEMS"], "ITEMID"), (tables["D_ICD_DIAGNOSES"], "ICD9_CODE")),
    ):
        assert table[key].is_unique().all()
    assert patients.height == NUM_PATIENTS
    assert set(admissions["SUBJECT_ID"]) == set(patients["SUBJECT_ID"])
    pair = ["SUBJECT_ID", "HADM_ID"]
    assert stays.join(admissions, on=pair, how="anti").is_empty()
    assert tables["DIAGNOSES_ICD"].join(admissions, on=pair, how="anti").is_empty()
    for name in EVENT_TABLES:
        events = tables[name]
        assert set(events["SUBJECT_ID"]) <= set(patients["SUBJECT_ID"])
        assert events["CHARTTIME"].null_count() == 0
    for name in ("CHARTEVENTS", "OUTPUTEVENTS"):
        known = tables["D_ITEMS"].filter(LINKSTO=name.lower())
        assert set(tables[name]["ITEMID"]) <= set(known["ITEMID"])


def test_items_are_charted_in_their_system(tables):
    charts = tables["CHARTEVENTS"].join(
        tables["ICUSTAYS"].select("ICUSTAY_ID", "DBSOURCE"), on="ICUSTAY_ID"
    )
    metavision = charts["ITEMID"] >= 220_000
    own = metavision == (charts["DBSOURCE"] == "metavision")
    assert 0.97 < own.mean() < 1  # the rest name another stay
    assert set(charts["DBSOURCE"]) == {"carevue", "metavision"}


def test_times_are_in_order(tables):
    admissions, stays = tables["ADMISSIONS"], tables["ICUSTAYS"]
    both = stays.join(admissions, on="HADM_ID")
    times = ("INTIME", "OUTTIME", "ADMITTIME", "DISCHTIME", "DEATHTIME")
    both = both.with_columns(parse_time(both[c]) for c in times)
    years = both.select(pl.col("ADMITTIME", "DISCHTIME").dt.year())
    assert years.min_horizontal().min() >= 2100
    assert years.max_horizontal().max() < 2200
    assert (both["ADMITTIME"] <= both["INTIME"]).all()
    assert (both["INTIME"] < both["OUTTIME"]).drop_nulls().all()
    days = (both["OUTTIME"] - both["INTIME"]).dt.total_seconds() / 86400
    assert ((days - both["LOS"].cast(pl.Float64)).abs() < 1e-4).drop_nulls().all()
    assert (both["DEATHTIME"] == both["DISCHTIME"]).drop_nulls().all()


def test_deaths_are_consistent(tables):
    patients, admissions = tables["PATIENTS"], tables["ADMISSIONS"]
    dead = admissions.filter(HOSPITAL_EXPIRE_FLAG="1").join(patients, on="SUBJECT_ID")
    assert dead.height > 10
    assert (dead["DOD"].str.head(10) == dead["DISCHTIME"].str.head(10)).all()
    assert (dead["DOD_HOSP"] == dead["DOD"]).all()
    assert (dead["DISCHARGE_LOCATION"] == "DEAD/EXPIRED").all()
    last = admissions.sort("ADMITTIME").group_by("SUBJECT_ID").agg(pl.col("HADM_ID").last())
    assert set(dead["HADM_ID"]) <= set(last["HADM_ID"])  # no admission after death
    living = admissions.filter(HOSPITAL_EXPIRE_FLAG="0")
    assert living["DEATHTIME"].null_count() == living.height
    assert (patients["DOD"].is_not_null() == (patients["EXPIRE_FLAG"] == "1")).all()


def test_each_published_split_has_its_share(tables):
    published = pl.read_csv(resource("published_split.csv").read_bytes())
    split = tables["PATIENTS"].join(
        published, left_on="SUBJECT_ID", right_on="subject_id", how="left"
    )
    counts = dict(split["split"].fill_null("train").value_counts().iter_rows())
    assert counts == {"train": 140, "val": 30, "test": 30}


def test_oddities_of_the_records(many):
    patients, admissions, stays = (many.tables[t] for t in ("PATIENTS", "ADMISSIONS", "ICUSTAYS"))
    per_subject = admissions["SUBJECT_ID"].value_counts()["count"]
    per_admission = stays["HADM_ID"].value_counts()["count"]
    assert 1.1 < per_subject.mean() < 1.3
    assert per_subject.max() == 3
    assert 1.02 < per_admission.mean() < 1.1
    moved = (stays["FIRST_WARDID"] != stays["LAST_WARDID"]) | (
        stays["FIRST_CAREUNIT"] != stays["LAST_CAREUNIT"]
    )
    assert 0.05 < moved.mean() < 0.12
    assert 0 < stays["LOS"].null_count() < 20
    assert (stays["LOS"].is_null() == stays["OUTTIME"].is_null()).all()
    first = stays.join(patients, on="SUBJECT_ID").select(
        pl.col("INTIME", "DOB").str.to_datetime("%Y-%m-%d %H:%M:%S")
    )
    age = (first["INTIME"] - first["DOB"]).dt.total_days() / 365
    assert 0.01 < (age < 1).mean() < 0.04
    assert 0.01 < age.is_between(14, 18).mean() < 0.04
    assert 0.03 < age.is_between(299, 320).mean() < 0.15
    assert not age.is_between(103, 299).any()
    dead = admissions.filter(HOSPITAL_EXPIRE_FLAG=1)
    assert 0 < dead["DEATHTIME"].null_count() < 10
    assert 0 < (~many.stays["charted"]).sum() < 30
    coded = many.tables["DIAGNOSES_ICD"]["HADM_ID"].unique()
    assert 0 < admissions.height - len(coded) < 20


def test_codes_that_are_not_in_the_dictionary(many):
    codes = set(many.tables["DIAGNOSES_ICD"]["ICD9_CODE"])
    dictionary = set(many.tables["D_ICD_DIAGNOSES"]["ICD9_CODE"])
    of_phenotypes = {code for facts in phenotypes().values() for code in facts["codes"]}
    assert codes - dictionary == set(records.NOT_IN_DICTIONARY)
    assert set(records.NOT_IN_DICTIONARY) <= of_phenotypes
    assert len(codes - of_phenotypes) > 50
    assert not set(records.other_codes()) & of_phenotypes


# --- events ---------------------------------------------------------------------------------------


def test_oddities_of_the_ids(tables):
    charts, stays = tables["CHARTEVENTS"], tables["ICUSTAYS"]
    own = charts.join(stays.select("HADM_ID", own="ICUSTAY_ID"), on="HADM_ID")
    assert 0.003 < charts["ICUSTAY_ID"].null_count() / charts.height < 0.008
    assert 0.001 < charts["HADM_ID"].null_count() / charts.height < 0.004
    assert 0.003 < (~charts["HADM_ID"].is_in(stays["HADM_ID"].implode())).mean() < 0.008
    alone = own.filter(pl.col("HADM_ID").is_in(stays["HADM_ID"].unique().implode()))
    assert (alone["ICUSTAY_ID"] != alone["own"]).mean() > 0.005
    labs = tables["LABEVENTS"]
    assert 0.03 < labs["HADM_ID"].null_count() / labs.height < 0.07


@pytest.mark.parametrize(("name", "most"), [("CHARTEVENTS", 3), ("LABEVENTS", 24)])
def test_events_before_and_after_the_stay(tables, name, most):
    stays = tables["ICUSTAYS"].filter(pl.len().over("HADM_ID") == 1)
    rows = tables[name].join(stays, on="HADM_ID")
    at, begin, end = (parse_time(rows[c]) for c in ("CHARTTIME", "INTIME", "OUTTIME"))
    for late in (begin - at, at - end):
        assert (late.dt.total_minutes() > 0).sum() > 10
        assert late.dt.total_hours().max() <= most


@pytest.mark.parametrize(
    ("variable", "pattern"),
    [
        ("Systolic blood pressure", r"^\d+/\d+$"),
        ("Diastolic blood pressure", r"^\d+/\d+$"),
        ("Oxygen saturation", r"^\.\d\d$"),
        ("Oxygen saturation", "^(ERROR|NotDone|>500|NEG|TR)$"),
        ("Glucose", "^(ERROR|NotDone|>500|NEG|TR)$"),
        ("pH", "^(ERROR|NotDone|>500|NEG|TR)$"),
        ("pH", r"^7\.\d0$"),
        ("pH", r"^7\.\d{14,}$"),  # single precision
        ("Temperature", r"^\d\d\.\d{14,}$"),
        ("Mean blood pressure", r"^\d+\.\d{14,}$"),
        ("Mean blood pressure", "^-8$"),
        ("Heart Rate", r"^(\d{4}|0)$"),
        ("Fraction inspired oxygen", r"^0\.\d+$"),
        ("Fraction inspired oxygen", r"^\d\d$"),
        ("Capillary refill rate", "^Other/Remarks$"),
        ("Capillary refill rate", "^Brisk$"),
        ("Glascow coma scale eye opening", "^None$"),
        ("Glascow coma scale verbal response", "^1.0 ET/Trach$"),
        ("Glascow coma scale verbal response", "^No Response-ETT$"),
    ],
)
def test_spellings(mapped, variable, pattern):
    values = mapped.filter(variable=variable)["VALUE"].drop_nulls()
    found = values.str.contains(pattern).mean()
    assert 0 < found < 1


def test_units(mapped):
    units = {
        variable: set(rows["VALUEUOM"].drop_nulls())
        for (variable,), rows in mapped.partition_by("variable", as_dict=True).items()
    }
    assert units["Temperature"] == {"Deg. F", "Deg. C", "?F", "?C"}
    assert units["Fraction inspired oxygen"] == {"%", "torr", "decFrc"}
    assert units["Weight"] == {"kg", "lb"}
    assert units["Height"] == {"Inch", "cm"}
    assert set(mapped.filter(variable="Weight")["ITEMID"]) >= {763, 3580, 3581, 3582, 226531}


def test_celsius_under_fahrenheit_items(mapped):
    values = mapped.filter(pl.col("ITEMID").is_in([678, 223761]))["VALUE"].cast(pl.Float64)
    assert 0 < (values < 79).mean() < 0.01


def test_the_reference_can_read_every_text(mapped):
    """The reference stops at unknown categories, and at texts in these variables."""
    strict = ("Heart Rate", "Respiratory rate", "Mean blood pressure", "Temperature", "Weight")
    for variable in (*strict, "Height", "Fraction inspired oxygen"):
        mapped.filter(variable=variable)["VALUE"].cast(pl.Float64)
    for variable in ("Systolic blood pressure", "Diastolic blood pressure"):
        values = mapped.filter(variable=variable)["VALUE"].drop_nulls()
        assert values.str.contains(r"^\d+(/\d+)?$").all()
    for variable in variables():
        if variable.is_text:
            values = mapped.filter(variable=variable.name)["VALUE"].drop_nulls()
            assert set(values) <= set(variable.categories)


def test_all_variables_are_charted_in_both_systems(mapped):
    for metavision in (False, True):
        rows = mapped.filter((pl.col("ITEMID") >= 220_000) == metavision, table="chartevents")
        only_carevue = {"Capillary refill rate", "Glascow coma scale total"}
        lacking = {v.name for v in variables()} - set(rows["variable"])
        assert lacking == (only_carevue if metavision else set())


def test_several_values_at_one_time(mapped):
    values = mapped.drop_nulls("VALUE").group_by("SUBJECT_ID", "CHARTTIME", "variable")
    tied = values.agg(pl.col("VALUE").n_unique().alias("values"), pl.col("VALUE").max()).filter(
        pl.col("values") > 1
    )
    assert tied.filter(variable="Heart Rate").height > 10
    largest = values.agg(
        pl.col("VALUE").max().alias("text"),
        pl.col("VALUE").cast(pl.Float64, strict=False).max().alias("number"),
    ).with_columns(pl.col("text").cast(pl.Float64, strict=False))
    for variable in ("Respiratory rate", "Mean blood pressure"):  # text order is not number order
        rows = largest.filter(variable=variable)
        assert (rows["text"] < rows["number"]).sum() > 10


def test_many_rows_are_not_used(tables, items):
    charts = tables["CHARTEVENTS"]
    unmapped = (~charts["ITEMID"].is_in(items["itemid"].implode())).mean()
    assert 0.2 < unmapped < 0.5
    assert charts["VALUE"].null_count() > 100
    assert (charts["ERROR"] == "1").sum() > 10
    assert (charts["WARNING"] == "1").sum() > 100
    assert set(charts["STOPPED"]) == {None, "NotStopd"}


def test_no_stays_give_no_rows():
    drawn = records.draw_records(10, streams)
    none = oddities.tables(drawn.stays.clear(), streams("x"))
    assert [none[name].height for name in EVENT_TABLES] == [0, 0, 0]


# --- true risks -----------------------------------------------------------------------------------


def test_prevalences(many):
    result = truth.judge(many, np.zeros(many.stays.height))
    mortality, decompensation = result["in_hospital_mortality"], result["decompensation"]
    assert mortality["prevalence"] == pytest.approx(0.132, abs=0.035)
    assert decompensation["prevalence"] == pytest.approx(0.021, abs=0.006)
    for name, scores in result["phenotyping"]["by_phenotype"].items():
        published = phenotypes()[name]["prevalence"]
        assert scores["prevalence"] == pytest.approx(published, abs=0.035), name
    days = (many.stays["outtime"] - many.stays["intime"]) / 86400
    assert 1.7 < days.median() < 2.6
    assert 3 < days.mean() < 4.2
    assert days.max() <= 20


def test_true_risk_file(summary):
    written = read_json(summary.folder / TRUE_RISK)
    assert written == json.loads(json.dumps(summary.true_risk))
    assert written["patients"] == NUM_PATIENTS
    assert (written["seed"], written["missing"]) == (1, 0.0)
    assert written["generator_version"] == GENERATOR_VERSION
    assert written["settings"]["course"]["memory_hours"] == 30
    assert list(written["phenotyping"]["by_phenotype"]) == list(PHENOTYPES)
    for task in ("in_hospital_mortality", "decompensation"):
        scores = written[task]
        assert 0.8 < scores["auroc"] < 0.97
        assert scores["positives"] <= scores["n"]
        parts = scores["by_split"].values()
        assert sum(p["n"] for p in parts) == scores["n"]
    assert 0.78 < written["phenotyping"]["macro_auroc"] < 0.88


def test_extraction_gives_the_samples_of_true_risk_json(summary, tmp_path):
    store = extract(summary.folder, tmp_path / "store").store
    truth = summary.true_risk
    for task in ("in_hospital_mortality", "decompensation"):
        samples = store.read(f"tasks/{task}.parquet")
        assert samples.height == truth[task]["n"]
        assert samples["y"].sum() == truth[task]["positives"]
        assert samples.filter(split="test").height == truth[task]["by_split"]["test"]["n"]
    samples = store.read("tasks/phenotyping.parquet")
    for name in PHENOTYPES:
        truth_of_it = truth["phenotyping"]["by_phenotype"][name]
        assert (samples.height, samples[name].sum()) == (truth_of_it["n"], truth_of_it["positives"])


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 0.5), (1.0, 1.5), (2.0, 0.0)])
def test_true_risk_equals_simulated_frequency(mean, deviation):
    num = 20_000
    rng = np.random.default_rng(5)
    hospital = physiology.simulate(np.full(num, mean), rng, np.full(num, deviation))
    risk = truth.TrueRisk()
    at, severity = np.array([mean]), np.array([mean + deviation])
    for expected, found in (
        (risk.in_hospital(at, severity, 0)[0], hospital["died"]),
        (
            risk.within_24_hours(at, severity, np.array([0]))[0],
            hospital["died"] & (hospital["hours"] < 24),
        ),
    ):
        error = 4 * np.sqrt(expected * (1 - expected) / num)
        assert found.mean() == pytest.approx(expected, abs=error + 1e-3)


def test_risk_within_24_hours_by_hand():
    """With a horizon of one hour the risk is the probability of death in that hour."""
    risk = truth.TrueRisk()
    risk.HORIZON = 1
    base, slope = physiology.COURSE.death
    expected = 1 - np.exp(-np.exp(base + slope * 2.0))
    at = np.array([1.0]), np.array([1.0 + 1.0]), np.array([50])
    assert risk.within_24_hours(*at)[0] == pytest.approx(expected, rel=1e-3)


def test_phenotypes_occur_with_their_stated_probability():
    rng = np.random.default_rng(0)
    num = 20_000
    traits = physiology.draw_traits(rng.normal(size=num), np.arange(num), rng)
    risk = physiology.phenotype_risk(traits)
    drawn = physiology.draw_phenotypes(risk, rng.random(risk.shape))
    for position, name in enumerate(PHENOTYPES):
        assert risk[:, position].mean() == pytest.approx(phenotypes()[name]["prevalence"], abs=1e-6)
        for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 1)):
            some = (risk[:, position] >= low) & (risk[:, position] < high)
            error = 4 / np.sqrt(some.sum() + 1)
            expected = risk[some, position].mean() if some.any() else 0
            assert abs(drawn[some, position].sum() / max(some.sum(), 1) - expected) < error
    for first, second in physiology.EXCLUSIVE:
        assert not (drawn[:, PHENOTYPES.index(first)] & drawn[:, PHENOTYPES.index(second)]).any()


def test_chronic_traits_are_the_same_at_all_stays():
    rng = np.random.default_rng(0)
    traits = physiology.draw_traits(np.zeros(4), np.array([0, 0, 1, 1]), rng)
    same = traits[0] == traits[1]
    assert (same == physiology.CHRONIC).all()
    assert (traits[0] != traits[2]).all()


@pytest.mark.parametrize(
    ("phenotype", "variable", "sign"),
    [
        ("Diabetes mellitus with complications", "Glucose", 1),
        ("Septicemia (except in labor)", "Temperature", 1),
        ("Respiratory failure; insufficiency; arrest (adult)", "Oxygen saturation", -1),
        ("Shock", "Systolic blood pressure", -1),
        ("Chronic obstructive pulmonary disease and bronchiectasis", "Oxygen saturation", -1),
    ],
)
def test_phenotypes_show_in_the_vital_signs(tables, mapped, phenotype, variable, sign):
    codes = phenotypes()[phenotype]["codes"]
    having = tables["DIAGNOSES_ICD"].filter(pl.col("ICD9_CODE").is_in(codes))["HADM_ID"]
    value = pl.col("VALUE").cast(pl.Float64, strict=False)
    if variable == "Temperature":
        value = pl.when(value >= 79).then((value - 32) / 1.8).otherwise(value)
    means = mapped.filter(variable=variable).group_by("HADM_ID").agg(value.median().alias("value"))
    means = means.drop_nulls()
    label = means["HADM_ID"].is_in(having.implode())
    assert roc_auc_score(label, sign * means["value"]) > 0.6
