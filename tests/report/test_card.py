"""A card says what a run shows, hides small groups, and takes hostile texts as texts."""

import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from mimic_reg.errors import InputError
from mimic_reg.report import card, card_parts
from mimic_reg.report.cohort import samples_table
from mimic_reg.report.cohort.published import samples_by_split, scored_samples, suppressed
from mimic_reg.report.document import Document, Grid, Part, to_html, to_markdown
from mimic_reg.report.page import write_report
from mimic_reg.report.results import collect
from mimic_reg.report.subgroups import ATTRIBUTES, OTHERS, UNKNOWN, in_order, merge_small
from mimic_reg.store import Store, read_json, write_json
from tests.report.runs import history, settings, write_predictions, write_run
from tests.report.test_page import checked
from tests.stores import write_manifest, write_store

SCORES = {"validation": {"auroc": 0.8}, "test": {"auroc": 0.75, "brier": 0.1}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with attributes of its stays: one unit has few patients, ages are hidden."""
    folder = write_store(tmp_path_factory.mktemp("card"), num_subjects=300, hours=(48, 49))
    ids = pl.read_parquet(folder / "tasks/in_hospital_mortality.parquet").sort("icustay_id")
    n = ids.height
    stays = ids.select("subject_id", "icustay_id", "split").with_columns(
        gender=pl.Series(["F", "M"] * (n // 2)),
        age=pl.Series(np.resize([30.0, 50, 70, 300], n)),
        ethnicity=pl.Series(np.resize(["WHITE", "BLACK/AFRICAN AMERICAN", None], n).tolist()),
        first_careunit=pl.Series(["<b>rare</b>"] * 9 + ["MICU"] * (n - 9)),
    )
    stays.write_parquet(folder / "stays.parquet")
    steps = [dict.fromkeys(("stays", "admissions", "subjects"), n) for n in (1250, 1204, 1203)]
    flow = [{"step": f"step {i}", **step} for i, step in enumerate(steps)]
    write_json(folder / "audit.json", {"cohort_flow": flow})
    write_manifest(folder)
    return Store.open(folder)


def test_shares_of_events_that_differ_little_from_table_one_are_hidden(store, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(store.folder, folder)
    ids = pl.read_parquet(folder / "tasks/in_hospital_mortality.parquet").sort("icustay_id")
    train, label = pl.col("split") == "train", pl.Series(ids["y"].cast(pl.Int64))
    for extra in (9, 10):  # deaths in training that are no events of the task
        more = ((train & (label == 0)).cast(pl.Int64).cum_sum() <= extra) & train
        died = ids.select(pl.when(more).then(1).otherwise(label).alias("mortality"))
        died.with_columns(ids["subject_id", "icustay_id", "split"]).write_parquet(
            folder / "stays.parquet"
        )
        write_manifest(folder)
        rows = {row[:2]: row[-1] for row in samples_table(Store.open(folder))[1]}
        share = rows["In-hospital mortality", "train"]
        assert (share == "\N{EN DASH}") == (extra < 10)


def sizes(store, task="in_hospital_mortality"):
    split = store.read(f"tasks/{task}.parquet")["split"]
    return tuple(int((split == name).sum()) for name in ("val", "test"))


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    epochs = history(np.random.default_rng(0), 0.8, num_epochs=4)
    for epoch in epochs:
        epoch["cost"] |= {"validation_seconds": 0.25, "peak_memory_bytes": 2**21}
        epoch["parameters"] = 1234
    write_run(folder, settings(), SCORES, store=store, epochs=epochs, num_samples=sizes(store))
    write_predictions(folder, store, "in_hospital_mortality", np.random.default_rng(1))
    return folder


def test_the_card_of_a_run(run, store):
    use = "<script>alert(1)</script> # [click](javascript:x) for *nurses*"
    document = card.build(run, intended_use=use)
    text, page = to_markdown(document), to_html(document)
    shown = checked(page)
    for found in (text, shown):
        for part in (
            "Test AUROC 0.7500 (95 % 0.7300 to 0.7700, over patients)",
            f"on {sizes(store)[1]} samples.",
            "What model is this?",
            "1,234",
            "CPU seconds",
            "Which items of TRIPOD+AI does it answer?",
        ):
            assert part in found
    assert "CPU seconds: 5.0" in text
    assert "| step 1, step 2 | 1,203 |" in text  # 1,204 would tell the one that step 2 left out
    assert "1,204" not in text
    assert "<script>" not in page
    assert "<script" not in text
    assert "\\[click\\](javascript:x) for \\*nurses\\*" in text
    assert page.count("<svg ") == 2  # calibration and decisions
    for group in ("female", "18 to 44", "80 or more", "white", "black", UNKNOWN):
        assert f"| {group} " in text
    assert "| 250" not in text.partition("By unit")[2]
    ids = store.read("tasks/in_hospital_mortality.parquet")["subject_id"].cast(pl.String)
    assert not [i for i in ids if f" {i} " in shown]


def test_a_total_that_would_tell_few_is_nowhere(run, store, tmp_path, monkeypatch):
    total = sizes(store)[1]
    page = write_report(collect([run]), tmp_path / "shown.html", title="Shown").read_text("utf-8")
    assert f"By supervision level; {total} test samples" in page
    monkeypatch.setattr("mimic_reg.report.cohort.published.LEAST", total + 5)
    text = to_markdown(card.build(run)).partition("## What did training")[0]
    assert "test samples that were scored: \N{EN DASH}" in text
    assert f"{total} samples" not in text
    page = write_report(collect([run]), tmp_path / "hidden.html", title="Hidden").read_text("utf-8")
    assert "By supervision level; 1 seed." in page
    broken = tmp_path / "store"
    shutil.copytree(store.folder, broken)
    (broken / "tasks/in_hospital_mortality.parquet").write_bytes(b"PAR1")
    trial = collect([run]).trials[0]
    rows = samples_by_split(trial, Store.open(broken))
    assert {*scored_samples(trial, rows).values()} == {"\N{EN DASH}"}
    assert f"{total} test" not in page


@pytest.mark.parametrize(("positives", "num_sentences"), [(9, 0), (10, 1)])
def test_the_interval_of_delong_needs_ten_patients_of_each_class(run, positives, num_sentences):
    (trial,) = collect([run]).trials
    y, whom = (np.arange(30) < positives).astype(int)[:, None], np.arange(30)
    p = np.random.default_rng(0).random((30, 1))
    found = card_parts.Predictions(y, p, whom, whom)
    scores = next(p for p in card_parts.evaluation_parts(trial, None, found) if p.name == "scores")
    assert len(scores.sentences) == num_sentences


def test_sizes_that_no_page_shows_are_rounded(run, store):
    trial = replace(collect([run]).trials[0], num_samples={"validation": 9, "test": 417})
    moved = scored_samples(trial, samples_by_split(trial, None))
    assert moved == {"validation": "fewer than 10", "test": "about 410"}
    in_folds = [("all", "1,234", "1,234", "50.0 %")]  # no row of this fold
    assert scored_samples(trial, in_folds) == moved
    of_splits = [("validation", "-", "-", "-"), ("test", "417", "417", "50.0 %")]
    assert scored_samples(trial, of_splits)["test"] == "417"


def test_what_is_missing_is_said(run, store, tmp_path):
    folder = tmp_path / "b"
    write_run(folder, settings(seed=1), SCORES, store=store)
    text = to_markdown(card.build(folder))
    assert "The predictions were removed" in text
    assert "For whom is it worse?" not in text.partition("TRIPOD")[0]
    write_run(tmp_path / "c", settings(seed=2), SCORES)
    assert "The store was not found" in to_markdown(card.build(tmp_path / "c"))
    with pytest.raises(InputError, match="is not the store that"):
        card.build(tmp_path / "c", store.folder)
    with pytest.raises(InputError, match="holds several runs"):
        card.build(tmp_path)
    write_run(tmp_path / "d" / "e", settings(), {}, done=False)
    with pytest.raises(InputError, match="has no result: not finished: 0 of at most 60"):
        card.build(tmp_path / "d" / "e")
    with pytest.raises(InputError, match="There is no folder"):
        card.build(tmp_path / "nothing")
    path = folder / "predictions_test.parquet"
    for values, why in (
        ([0.5] * 3, "has 3 x 1 predictions, but 120 x 1 were scored"),
        ([float("nan")] * 120, "has predictions that are not finite"),
        ([1.5] * 120, "has predictions that are no probabilities"),
    ):
        rows = np.arange(len(values)) % 100
        pl.DataFrame({"row": rows, "p0": values}).write_parquet(path)
        with pytest.raises(InputError, match=why):
            card.build(folder)
    done = read_json(run / "done.json")
    write_json(folder / "done.json", done)
    with pytest.raises(InputError, match="belongs to another trial"):
        card.build(folder)


@pytest.mark.parametrize(
    ("task", "by", "parts"),
    [
        ("phenotyping", "macro_auroc", ("How good is it for each label?", "All labels are pooled")),
        ("decompensation", "auroc", ("Does acting on it help?", "calibration slope")),
        ("length_of_stay", "mean_absolute_deviation", ("| female ", "mean absolute deviation")),
    ],
)
def test_other_tasks_have_the_parts_that_fit_them(task, by, parts, store, tmp_path, monkeypatch):
    monkeypatch.setattr(card_parts, "REPLICATES", 10)
    scores = {split: {by: 0.7} for split in ("validation", "test")}
    given = {"store": store, "selected_by": by, "num_samples": sizes(store, task)}
    run = write_run(tmp_path / "r", settings(task=task), scores, **given)
    write_predictions(run, store, task, np.random.default_rng(0))
    text = to_markdown(card.build(run))
    for part in (*parts, "For whom is it worse?"):
        assert part in text
    assert ("## Are its risks right?" in text) == (task != "length_of_stay")
    missing = "missing here: calibration, decisions" if task == "length_of_stay" else "here: use"
    assert missing in text


def test_small_groups_cannot_be_found_by_subtraction():
    subject = np.arange(40)
    groups = np.array(["a"] * 4 + ["b"] * 5 + ["c"] * 12 + ["d"] * 19, object)
    # a and b are 9 together: c hides them, or their number followed from the total
    assert set(merge_small(groups, subject)) == {OTHERS, "d"}
    assert merge_small(groups[:21], subject[:21]) is None
    groups[:9] = "a"
    assert merge_small(groups, subject // 20) is None  # two subjects
    assert [suppressed(n) for n in (0, 1, 9, 10, None)] == [
        "0",
        "fewer than 10",
        "fewer than 10",
        "10",
        "-",
    ]


def test_groups_in_words():
    sex, age, ethnicity, unit = (a.group for a in ATTRIBUTES)
    assert [sex("F"), sex("m"), sex("Other"), unit(" ")] == ["female", "male", "other", UNKNOWN]
    ages = (17.9, 18, 44.9, 45, 64, 65, 79, 80, 300, float("nan"), "x")
    assert [age(a) for a in ages] == [
        *("below 18", "18 to 44", "18 to 44", "45 to 64", "45 to 64", "65 to 79", "65 to 79"),
        *("80 or more", "80 or more", UNKNOWN, UNKNOWN),
    ]
    texts = ("BLACK - CAPE VERDEAN", "HISPANIC OR LATINO", "UNABLE TO OBTAIN", "caucasian")
    assert [ethnicity(t) for t in texts] == ["black", "hispanic", UNKNOWN, "caucasian"]
    assert in_order([UNKNOWN, "80 or more", "below 18"]) == ["below 18", "80 or more", UNKNOWN]


def test_items_are_those_of_tripod_ai():
    items = card.checklist()
    assert len(items) == 52
    assert {item.item.rstrip("abcdefg") for item in items} == {str(n) for n in range(1, 28)}
    assert {item.by for item in items} == {"card", "partly", "you"}
    assert all(item.where for item in items if item.by != "you")
    performance = next(item for item in items if item.item == "23a")
    assert performance.within({"subgroups"}).by == "card"
    assert performance.within(()).by == "partly"


def test_markdown_takes_texts_literally():
    grid = Grid("# c", ("a|b", "c"), [["x\ny", "<i>"]])
    part = Part("p", "Q?", ["- no list", "1. none", "> no"], {"k": "`v`"}, [grid])
    text = to_markdown(Document("T", "L", [part], ["w"]))
    for found in (
        "\\- no",
        "\\> no",
        "- k: \\`v\\`",
        "\\# c",
        "a\\|b",
        "| x y",
        "&lt;i>",
        "1\u200b.",
    ):
        assert found in text
