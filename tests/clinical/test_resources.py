"""The facts in `clinical/resources`, compared with the reference's tables."""

import polars as pl
import yaml

from mimic_reg.clinical import events as ev
from mimic_reg.clinical.schema import (
    MISSING_TEXTS,
    PHENOTYPES,
    VARIABLES,
    phenotypes,
    resource,
    variables,
)
from tests.shared import shared


def table(name, **options):
    return pl.read_csv(shared(f"reference/{name}.csv"), infer_schema=False, **options)


def test_items():
    """Including the items that no patient of the demo has."""
    ready = table("itemid_to_variable_map").filter(
        pl.col("LEVEL2") != "", pl.col("COUNT").cast(pl.Int64) > 0, pl.col("STATUS") == "ready"
    )
    theirs = ready.select(pl.col("ITEMID").cast(pl.Int64), "LEVEL2", "MIMIC LABEL").rows()
    ours = [(i, VARIABLES[code], label) for i, code, label in ev.items("benchmark").iter_rows()]
    assert sorted(ours) == sorted(theirs)
    assert len(ours) == 114


def test_splits():
    ours = dict(pl.read_csv(resource("published_split.csv").read_bytes()).iter_rows())
    for name, split, size in (("testset", "test", 5_070), ("valset", "val", 5_172)):
        flags = table(name, has_header=False, new_columns=["subject", "flag"])
        theirs = {int(subject) for subject, flag in flags.iter_rows() if flag == "1"}
        assert {subject for subject, named in ours.items() if named == split} == theirs
        assert len(theirs) == size


def test_phenotypes():
    groups = yaml.safe_load(shared("reference/hcup_ccs_2015_definitions.yaml").read_text())
    used = {name: group for name, group in groups.items() if group["use_in_benchmark"]}
    assert tuple(sorted(used)) == PHENOTYPES
    for name, facts in phenotypes().items():
        assert set(facts["codes"]) == set(map(str, used[name]["codes"])), name


def test_plausible_ranges():
    ranges = {row["LEVEL2"].lower(): row for row in table("variable_ranges").iter_rows(named=True)}
    for variable in variables():
        if variable.outlier:
            row = ranges[variable.name.lower()]
            numbers = [float(row[c]) for c in ("OUTLIER LOW", "VALID LOW", "VALID HIGH")]
            numbers.append(float(row["OUTLIER HIGH"]))
            assert [variable.outlier[0], *variable.valid, variable.outlier[1]] == numbers


def test_what_pandas_1_reads_as_missing():
    texts = "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|n/a"
    assert set(MISSING_TEXTS) == {"", *texts.split("|"), "nan", "null"}
