import re
from html.parser import HTMLParser
from io import StringIO
from urllib.parse import unquote

import numpy as np
import polars as pl
import pytest
from jinja2 import UndefinedError

from mimic_reg.errors import InputError
from mimic_reg.metrics.scores import Score
from mimic_reg.report.figures.drawn import Analysis, Drawn, draw
from mimic_reg.report.html import render
from mimic_reg.report.markdown import to_markdown
from mimic_reg.report.page import write_report
from mimic_reg.report.resampling import resample
from mimic_reg.report.results import collect
from mimic_reg.report.tables import main_tables, model_tables
from mimic_reg.settings import training_size
from mimic_reg.store import Store, file_hash, read_json, write_json
from tests.report.runs import COHORT, ITPS, history, settings, write_run, write_sweep
from tests.stores import write_manifest, write_store

FLOW = [
    {"step": "all ICU stays", "stays": 4321, "admissions": 4000, "subjects": 3900},
    {"step": "age 18 or more", "stays": 3210, "admissions": 3000, "subjects": 2900},
]
SAMPLES = {
    "in_hospital_mortality": {
        "train": {"samples": 1000, "stays": 1000, "subjects": 950, "positives": 135},
        "val": {"samples": 200, "stays": 200, "subjects": 190, "positives": 20},
    },
    "phenotyping": {"train": {"samples": 5, "stays": 5, "subjects": 5, "positives": {"a": 1}}},
}
VOID = {"meta", "path", "use", "rect", "line"}


class Checker(HTMLParser):
    """Checks that elements are closed, and collects ids, links, CSV tables and text."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.external, self.text = [], [], [], [], []
        self.tables = []

    def handle_starttag(self, name, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        href = given.get("href", "")
        if href.startswith("data:text/csv"):
            assert given["download"].endswith(".csv")
            self.tables.append(unquote(href.partition(",")[2]))
            return self.handle_open(name)
        (self.links if href.startswith("#") else self.external).extend([href] if href else [])
        self.external += [given["src"]] if "src" in given else []
        assert name != "script"
        assert not [a for a in given if a.startswith("on")]
        self.handle_open(name)

    def handle_open(self, name):
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.handle_starttag(name, attributes)
        if name not in VOID:
            self.handle_endtag(name)

    def handle_endtag(self, name):
        if name not in VOID:
            assert self.open.pop() == name

    def handle_data(self, data):
        self.text.append(data)


def checked(page):
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open
    assert len(checker.ids) == len(set(checker.ids))
    assert {link[1:] for link in checker.links} <= set(checker.ids)
    assert not checker.external
    assert "url(http" not in page
    assert "@import" not in page
    return " ".join(" ".join(checker.text).split())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = write_store(tmp_path_factory.mktemp("store"), num_subjects=300, hours=(48, 49))
    write_json(folder / "audit.json", {"cohort_flow": FLOW, "samples": SAMPLES})
    manifest = read_json(folder / "manifest.json")
    audit = folder / "audit.json"
    manifest["files"]["audit.json"] = {"bytes": audit.stat().st_size, "xxh3": file_hash(audit)}
    write_json(folder / "manifest.json", {**manifest, "mode": "published"})
    return Store.open(folder)


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    methods = ("none", "dropout", "itps", "both")
    write_sweep(root, store=store, methods=methods, seeds=range(3), predictions=True)
    undefined = Score(None, "all samples have label 'y' = 0")
    scores = {"validation": {"auroc": 0.7}, "test": {"auroc": undefined}}
    write_run(root / "undefined", settings(("jacobian",)), scores, store=store)
    write_run(root / "half", settings(seed=9), {}, store=store, done=False)
    return root


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    commands = ["mimic-reg run --config x.yaml <STORE>"]
    title = "ITPS & <others>"
    path = write_report(collect([runs]), out, title=title, simulated=True, commands=commands)
    assert path == out / "report.html"
    return path.read_text("utf-8")


def test_models_are_compared_each_with_its_method_of_validation(tmp_path):
    for seed in range(4):
        for model, method, validation, test in (
            ("lstm", ("none",), 0.7, 0.9),
            ("lstm", ({"dropout": {"rate": 0.5}},), 0.8, 0.81),
            ("gru", ("none",), 0.75, 0.74),
        ):
            shift = 0.003 * seed * (model == "lstm")
            scores = {"validation": {"auroc": validation}, "test": {"auroc": test + shift}}
            trial = settings(method, seed=seed, model={model: {"units": 8}})
            write_run(tmp_path / f"{model}-{len(method[0])}-{seed}", trial, scores)
    found = collect([tmp_path])
    text = checked(write_report(found, tmp_path / "x.html", title="x").read_text("utf-8"))
    asked = text.partition("Which model is best?")[2].partition("Each model has the method")[0]
    assert "lstm with dropout has the best mean AUROC, 0.8145 (n = 4); significantly" in asked
    assert "better than gru (p" in asked
    assert "chose from unequal numbers of methods (gru 1, lstm 2)" in asked
    assert "0.9000" not in asked  # of lstm without a method: the worse one on validation
    assert "which model is best?" in to_markdown(found)


def test_each_fold_chooses_the_method_of_a_model_by_its_own_validation(tmp_path):
    """The patients that validate a fold test another one: all together would have seen them."""
    cohort = COHORT.model_copy(update={"folds": 3})
    for fold, plain in ((1, 0.9), (2, 0.7), (3, 0.7)):  # in the mean better than with dropout
        for model, method, validation, test in (
            ("lstm", ("none",), plain + 0.01, 0.6),
            ("lstm", ({"dropout": {"rate": 0.5}},), 0.75, 0.9),
            ("gru", ("none",), 0.7, 0.5),
        ):
            scores = {"validation": {"auroc": validation}, "test": {"auroc": test + fold / 100}}
            trial = settings(method, fold=fold, model={model: {"units": 8}})
            write_run(tmp_path / f"{model}{len(method[0])}-{fold}", trial, scores, cohort=cohort)
    (table,) = model_tables(collect([tmp_path]))
    assert table.methods == ("gru", "lstm with none or dropout, by fold")
    cell = table.cells[table.methods[1], table.levels[0]]
    assert [score for _, score in sorted(cell.scores.items())] == pytest.approx([0.61, 0.92, 0.93])


def test_the_page_is_valid_and_self_contained(page):
    text = checked(page)
    assert "ITPS & <others>" in text
    assert "<others>" not in page.replace("&lt;others&gt;", "")
    assert "mimic-reg run --config x.yaml <STORE>" in text
    assert len(page) < 1_000_000


def test_every_table_can_be_saved_as_csv(page):
    checker = Checker()
    checker.feed(page)
    assert len(checker.tables) == page.count("<table>") == page.count(".csv")
    frames = [pl.read_csv(StringIO(text)) for text in checker.tables]
    scores, _ = (f for f in frames if "minus_paper" in f.columns)  # AUROC, other scores
    row = scores.filter(pl.col("method") == "itps", pl.col("supervision") == 1).row(0, named=True)
    assert (row["n"], row["score"]) == (3, "auroc")
    assert f">{row['mean']:.4f}</span>" in page
    assert any("p_holm" in f.columns for f in frames)


def test_analyses_have_their_own_section(runs, tmp_path, page):
    assert "What else was measured?" not in checked(page)
    results = collect([runs])
    (selection,) = (d for d in draw(results) if d.section == "selection")
    drawn = Drawn(selection.name, "analysis", "Selected <b>", selection.figure)
    tables = {"Mortality, lstm": [("itps", "1,234")]}
    found = Analysis("x", "Something", (drawn,), ("method", "count"), tables, "Measured so.")
    path = write_report(
        results, tmp_path, title="T", analyses=[found, Analysis("y", "No", note="-")]
    )
    text = checked(path.read_text("utf-8"))
    for part in (
        "What else was measured?",
        "Something: Mortality, lstm.",
        "1,234",
        "Selected <b>",
        "Measured so.",
    ):
        assert part in text
    assert "Selected parameters" not in text  # the analysis shows this figure


def test_the_answer_comes_first(page):
    text = checked(page)
    order = [
        text.index(t)
        for t in (
            *("Does a regulariser help", "than no regularisation", "mean test AUROC over seeds"),
            *("At 25 % supervision: ", "Difference: method minus baseline", "Flow of"),
        )
    ]
    assert order == sorted(order)
    assert "25 trials: 5 methods at 25 %, 100 % supervision, 1 to 3 seeds each" in text
    assert "The patients are simulated: these numbers say nothing" in text
    assert "The paper's scores in Table IX (MIMIC-III) are not shown: their data differs" in text


def test_the_limits_of_the_tests_are_explained(page):
    text = checked(page)
    assert "All seeds are tested on the same patients." in text
    # write_run gives every score an interval of ± 0.02; 24 of the trials have one
    assert "Bootstrap over test subjects: ±0.0200 for one trial (95 %, median of 24 trials)" in text
    assert "There are 8 groups of tests" in text  # four methods at two levels
    assert "about 1 of them would show" in text
    assert "AUROC: area under the ROC curve" in text
    assert "AUPRC" not in text  # no trial has it
    assert "They do not show whether it holds for other patients" in text


def test_differences_have_an_interval_over_subjects(page, runs, store):
    text = checked(page)
    assert "Intervals over subjects: 1,000 draws of 60 test subjects." in text
    assert page.count("95 % over subjects</th>") == 2  # of the methods in focus, and of the others
    results = collect([runs])
    (table,) = main_tables(results)
    found = resample(table, results.trials, [store]).interval(
        "itps", "none", training_size(0.25), range(3)
    )
    low_high = " to ".join(f"{bound:+.4f}" for bound in found)
    assert f">{low_high}</td>" in page


def test_without_predictions_the_interval_over_subjects_says_so(tmp_path, store):
    methods = ("none", "itps", "dropout")
    root = tmp_path / "runs"
    write_sweep(root, store=store, methods=methods, levels=(1.0,), predictions=True)
    (root / "in_hospital_mortality-none-100-3" / "predictions_test.parquet").unlink()
    path = write_report(collect([root]), tmp_path, title="T")
    page = path.read_text("utf-8")
    text = checked(page)
    assert "60 test subjects; 1 trial without predictions." in text
    assert page.count(">no predictions</td>") == 3  # against "none", and "none" itself


def test_cohort_versions_and_fingerprint_are_there(page, store):
    text = checked(page)
    assert "4,321" in text
    assert "Samples of the tasks of mimic-iii-benchmark. CSV" in text
    assert "Phenotyping" not in text  # no trial is of it
    assert store.manifest["fingerprint"] in text
    assert "0123abc" in text
    assert "extraction mode published" in text


def test_undefined_scores_and_missing_runs_are_shown(page):
    text = checked(page)
    assert "undefined: all samples have label 'y' = 0" in text
    assert "1 run without a result" in text
    assert "half not finished: 0 of at most 60 epochs" in text


def test_every_figure_is_described(page):
    charts = page.count("<svg ") - page.count('aria-hidden="true"')  # others are within tables
    flow = page.count('<figure class="flow"')
    assert charts == page.count('role="img"') == page.count("<figcaption>") - flow >= 8
    for name in ("supervision", "selected", "25_roc", "100_calibration", "100_training"):
        assert f'id="in_hospital_mortality_lstm_{name}-' in page


def test_no_patient_data_is_in_it(page, store, runs):
    table = store.read("tasks/in_hospital_mortality.parquet")
    words = set(re.findall(r"(?<![\w.,#-])\d{5,}(?![\w.,])", page))
    for column in ("subject_id", "icustay_id"):
        assert not words & {str(i) for i in table[column].unique()}
    predictions = pl.read_parquet(next(runs.rglob("predictions_test.parquet")))
    assert not [p for p in predictions["p0"].head(50) if f"{p:.7f}" in page]


def test_a_report_without_stores_says_once_what_is_missing(runs, tmp_path):
    path = write_report(collect([runs]), tmp_path / "x.html", title="T", stores=[])
    text = checked(path.read_text("utf-8"))
    assert text.count("The store of these trials was not found") == 1
    for absent in ("What data is this?", "No intervals over subjects", "No ROC"):
        assert absent not in text
    assert "origin not recorded" in text


def test_a_report_of_failures_only(tmp_path):
    write_run(tmp_path / "runs" / "a", settings(), {}, done=False)
    path = write_report(collect([tmp_path / "runs"]), tmp_path / "out", title="T")
    text = checked(path.read_text("utf-8"))
    assert "No trial is finished yet." in text
    assert "a not finished: 0 of at most 60 epochs" in text


def test_small_test_sets_give_no_curves(tmp_path):
    folder = write_store(tmp_path / "store", num_subjects=40, hours=(48, 49))
    store = Store.open(folder)
    write_sweep(tmp_path / "runs", store=store, seeds=range(1), levels=(1.0,), predictions=True)
    results = collect([tmp_path / "runs"])
    assert not [d for d in draw(results, [store]) if d.section == "curves"]
    path = write_report(results, tmp_path, title="T", configuration={"grid": ["<b>", 1]})
    text = checked(path.read_text("utf-8"))
    assert "so that no single patient can be read from them" in text
    assert "; 1 seed." in text
    assert "grid: - <b> - 1" in text


def test_hostile_names_are_escaped(tmp_path):
    name = "<script>alert(1)</script>"
    scores = {"validation": {"auroc": 0.7}, "test": {"auroc": 0.7}}
    write_run(tmp_path / "runs" / "x", settings(({name: {"o": name}},)), scores)
    path = write_report(collect([tmp_path / "runs"]), tmp_path, title=name)
    page = path.read_text("utf-8")
    assert "<script" not in page
    assert name in checked(page)


def test_mixed_code_versions_are_warned_of(tmp_path):
    scores = {"validation": {"auroc": 0.7}, "test": {"auroc": 0.7}}
    for seed, code in enumerate(("aaa", "bbb")):
        write_run(tmp_path / code, settings(seed=seed), scores, versions={"code": code})
    path = write_report(collect([tmp_path]), tmp_path / "report", title="T")
    text = checked(path.read_text("utf-8"))
    assert "different versions of the code" in text
    assert "aaa, bbb" in text


def test_a_report_is_an_html_file_or_in_a_folder(tmp_path):
    write_run(tmp_path / "runs" / "a", settings(), {}, done=False)
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(InputError, match="neither an HTML file nor a folder"):
        write_report(collect([tmp_path / "runs"]), tmp_path / "file.txt", title="T")
    with pytest.raises(InputError, match="parents, is a file"):
        write_report(collect([tmp_path / "runs"]), tmp_path / "file.txt" / "r.html", title="T")


def test_a_template_that_lacks_a_name_is_an_error():
    with pytest.raises(UndefinedError, match="selection"):
        render("curves.html")


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (None, "patients, but not the full MIMIC-III, extraction mode benchmark"),
        ([True, True], "the full MIMIC-III, with the published sizes, extraction mode"),
        ([True, False], "MIMIC-III with 1 difference from the published sizes, extraction mode"),
    ],
)
def test_the_origin_of_the_data(tmp_path, published, expected):
    folder = write_store(tmp_path / "store", num_subjects=20)
    sizes = [{"same": same} for same in published] if published else None
    write_json(folder / "audit.json", {"samples": {}, "published": sizes})
    write_manifest(folder)
    manifest = read_json(folder / "manifest.json")
    write_json(folder / "manifest.json", {**manifest, "mode": "benchmark"})
    write_sweep(tmp_path / "runs", store=Store.open(folder), methods=("none",), seeds=[0])
    results = collect([tmp_path / "runs"])
    path = write_report(results, tmp_path, title="T", simulated=False)
    assert expected in checked(path.read_text("utf-8"))


def test_the_lead_names_a_cohort_once(tmp_path):
    store = Store.open(write_store(tmp_path / "store", num_subjects=20))
    cohort = store.spec.model_copy(update={"name": "mimic-iv-simulated"})
    scores = {"validation": {"auroc": 0.5}, "test": {"auroc": 0.5}}
    write_run(tmp_path / "run", settings(), scores, cohort=cohort)
    path = write_report(collect([tmp_path / "run"]), tmp_path, title="T", simulated=True)
    data = "Data: mimic-iv-simulated (cohort), simulated patients, not the published benchmark;"
    assert data in checked(path.read_text("utf-8"))


def test_a_threshold_that_hardly_anything_crosses_is_a_warning(tmp_path):
    rng = np.random.default_rng(0)
    for seed, selected in enumerate((4, 9)):
        rows = history(rng, 0.7, itps=True, selected=selected)
        scores = {"validation": {"auroc": 0.5}, "test": {"auroc": 0.5}}
        write_run(tmp_path / str(seed), settings(ITPS, seed=seed), scores, epochs=rows)
    path = write_report(collect([tmp_path]), tmp_path, title="T")
    text = checked(path.read_text("utf-8"))
    assert "itps at 100 % supervision (2 of 2)." in text
    assert "of its parameters had ever been selected." in text


def test_an_ordinary_threshold_has_no_warning(page):
    assert "hardly trained" not in checked(page)
