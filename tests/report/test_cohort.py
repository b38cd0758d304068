"""The description of a cohort: flow, table one, samples, channels, without small counts."""

import itertools

import numpy as np
import polars as pl
import pytest

from mimic_reg.report.cohort import describe, flow, write_cohort
from mimic_reg.report.cohort.suppression import apart, hidden, is_small
from mimic_reg.report.formats import HIDDEN
from mimic_reg.store import write_json
from tests.checks.leaks import clean, write
from tests.cli.called import mimic_reg
from tests.report.test_page import checked
from tests.stores import write_manifest

STEPS = [
    {"step": "all ICU stays", "stays": 136, "admissions": 129, "subjects": 100},
    {"step": "no transfers", "stays": 126, "admissions": 120, "subjects": 94},
    {"step": "age 18 or more", "stays": 100, "admissions": 100, "subjects": 80},
]


def test_steps_that_leave_out_few_are_told_together():
    first, last = flow.boxes(STEPS, 10)  # 6 subjects, and 9 admissions, were left out first
    assert first.left == {"stays": 136, "admissions": 129, "subjects": 100}
    assert last.reasons == ("no transfers", "age 18 or more")
    assert last.out == {"stays": 36, "admissions": 29, "subjects": 20}
    assert [box.step for box in flow.boxes(STEPS, 1)] == [step["step"] for step in STEPS]
    few = [STEPS[0], {**STEPS[0], "step": "sober", "stays": 130}]
    first, last = flow.boxes(few, 10)
    assert (first.left["stays"], last.left["stays"], last.out) == (None, 130, {})
    assert flow.boxes([], 10) == []


def possible(counts, small, hide, named, least=10):
    """All values of each hidden small cell of a table (2, S) that fit what is shown, by trial."""
    found = {}
    totals = counts.sum(0)
    for top in itertools.product(*(range(n + 1) for n in totals[:-1])):
        values = np.array([[*top, sum(top)], [*(totals[:-1] - top), totals[-1] - sum(top)]])
        fits = (values == counts) | hide
        inside = ~named | ((values > 0) & (values < least))
        if fits.all() and inside.all():
            for k, s in np.argwhere(small):
                found.setdefault((k, s), set()).add(int(values[k, s]))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_no_small_count_can_be_computed_from_what_is_shown(seed):
    rng = np.random.default_rng(seed)
    parts = np.array([rng.integers(1, 12, 3), rng.integers(9, 22, 3)])  # no total is small
    counts = np.hstack([parts, parts.sum(1, keepdims=True)])
    small = (counts > 0) & (counts < 10)
    hide, named = hidden(counts, small, np.ones(4, bool))
    assert (hide >= small).all()
    for values in possible(counts, small, hide, named).values():
        assert max(values) - min(values) >= 4


def test_a_hand_worked_table():
    counts = np.array([[50, 12, 3, 65], [40, 30, 20, 90]])  # died, survived
    small = counts == 3
    hide, named = hidden(counts, small, np.ones(4, bool))
    assert (named == small).all()
    # its column has one other cell; its row must lose one more, and so must that one's column
    assert hide.tolist() == [[False, True, True, False], [False, True, True, False]]
    assert not hidden(counts, np.zeros_like(small), np.ones(4, bool))[0].any()


def test_sizes_that_differ_by_few_are_not_shown_together():
    assert apart([100, 97, 60, 5, 100]) == [False, True, False, True, False]
    assert (is_small(0), is_small(9), is_small(10)) == (False, True, False)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "store"
    tables = clean()
    sick = pl.col("stay").is_in([1000, 1002, 1004, 1006])
    tables.hourly = tables.hourly.with_columns(vent=sick.cast(pl.Float64))
    some = pl.col("stay") < 1012  # of six patients
    tables.hourly = tables.hourly.with_columns(
        pl.when(some).then("lactate"), pl.when(some).then(0.0).otherwise(1.0).alias("lost->lactate")
    )
    store = write(folder, tables)
    write_json(folder / "audit.json", {"cohort_flow": STEPS})
    write_manifest(folder, store.spec)
    return type(store).open(folder)


def test_an_imported_cohort(store):
    found = describe(store)
    rows = {heading: cells for heading, _, cells in found["table_one"].rows}
    assert found["table_one"].header == ("", "train", "validation", "test", "all")
    assert rows["Stays"] == ("80", "40", "40", "160")
    assert rows["Patients"] == ("40", "20", "20", "80")
    ages = clean().hourly.unique("stay")["age"].to_numpy()
    low, middle, high = np.quantile(ages, [0.25, 0.5, 0.75])
    assert rows["Age, years, median [quartiles]"][3] == f"{middle:.3g} [{low:.3g}, {high:.3g}]"
    assert set(rows["yes"]) <= {"< 10", HIDDEN}  # ventilated: 2, 1 and 1 stays
    assert found["samples"][0][:5] == ("Death", "train", "80", "80", "40")
    (hr, lactate, *_) = found["channels"]
    assert (lactate["stays_text"], lactate["quartiles"]) == ("< 10 patients", HIDDEN)  # in 12 stays
    assert (hr["name"], hr["stays_text"]) == ("hr", "100.0 %")
    assert len(hr["bars"]) == 24


def test_samples_do_not_tell_a_part_that_table_one_hides(tmp_path):
    tables = clean(num=96)  # 60, 28 and 8 stays: 8 would be 96 - 60 - 28
    split = pl.Series("split", ["train"] * 60 + ["val"] * 28 + ["test"] * 8)
    tables.samples = tables.samples.with_columns(split)
    found = describe(write(tmp_path / "store", tables))
    shown = [row[2:-1] for row in found["samples"]]
    assert (shown[0][0], {*shown[1], *shown[2]}) == ("60", {HIDDEN})


def test_the_page(store, tmp_path):
    path = write_cohort(store, tmp_path / "out")
    text = checked(path.read_text("utf-8"))
    assert "36 stays, 29 admissions, 20 subjects" in text
    assert "Counts from 1 to 9 are hidden" in text
    done = mimic_reg("cohort", store.folder, "--out", tmp_path / "all", "--least", "1", "--json")
    assert done.returncode == 0
    assert "No count is hidden" in (tmp_path / "all" / "cohort.html").read_text("utf-8")
    done = mimic_reg("cohort", store.folder, "--out", store.folder / "page")
    assert (done.returncode, "Choose another place" in done.stderr) == (2, True)
