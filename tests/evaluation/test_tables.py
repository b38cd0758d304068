import re

import polars as pl
import pytest

from mimic_reg.evaluation import tables as tb
from mimic_reg.evaluation.compare import compare
from mimic_reg.evaluation.results import collect
from mimic_reg.evaluation.scores import Score
from mimic_reg.storage import Store, read_json, write_json
from tests.evaluation.runs import settings, write_run, write_sweep
from tests.stores import write_store

ITPS = ({"itps": {"tau": 0.15, "beta": 0.1}},)
DROPOUT = ({"dropout": {"rate": 0.5}},)


def write(root, method, values, score="auroc", **changed):
    """A run a seed, with these scores; a text is the reason of an undefined one."""
    for seed, value in enumerate(values):
        given = Score(None, value) if isinstance(value, str) else value
        scores = {"validation": {score: 0.5}, "test": {score: given}}
        trial = settings(method, seed=seed, **changed)
        number = len(list(root.iterdir())) if root.exists() else 0
        write_run(root / f"{number:03}", trial, scores, selected_by=score)


def only_table(root):
    (table,) = tb.main_tables(collect([root]))
    return table


def test_cells_are_mean_sd_and_n_over_seeds(tmp_path):
    write(tmp_path, ("none",), [0.80, 0.82, 0.84], supervision=0.25)
    write(tmp_path, ITPS, [0.85])
    table = only_table(tmp_path)
    assert (table.methods, table.focus, table.levels) == (("none", "itps"), ("itps",), (0.25, 1.0))
    cell = table.cells["none", 0.25]
    assert cell.summary.mean == pytest.approx(0.82)
    assert cell.summary.sd == pytest.approx(0.02)
    assert tb.format_cell(cell, "auroc") == "0.8200 ± 0.0200 (n = 3)"
    assert tb.format_cell(table.cells["itps", 1.0], "auroc") == "0.8500 (n = 1, no sd)"
    assert tb.format_cell(table.cells.get(("itps", 0.25)), "auroc") == "not run"


def test_undefined_scores_stay_undefined(tmp_path):
    write(tmp_path, ("none",), ["one class", "one class"])
    write(tmp_path, ITPS, [0.8, "one class"])
    table = only_table(tmp_path)
    assert tb.format_cell(table.cells["none", 1.0], "auroc") == "undefined: one class"
    text = tb.format_cell(table.cells["itps", 1.0], "auroc")
    assert text == "0.8000 (n = 1, no sd, 1 undefined: one class)"
    frame = tb.scores_frame([table])
    assert frame.filter(method="none").select("n", "mean", "sd", "undefined").rows() == [
        (0, None, None, 2)
    ]
    (verdict,) = tb.verdicts(table)
    assert verdict.winner is None
    assert "only itps has a defined AUROC" in verdict.sentence
    assert "nothing to compare" in verdict.sentence


def test_all_undefined_is_said(tmp_path):
    write(tmp_path, ("none",), ["one class"])
    (verdict,) = tb.verdicts(only_table(tmp_path))
    assert verdict.best is None
    assert "undefined for every method" in verdict.sentence


BASE = [0.80, 0.81, 0.79, 0.82, 0.80]


def test_a_winner_only_where_the_test_says_so(tmp_path):
    write(tmp_path, ("none",), BASE)
    write(tmp_path, DROPOUT, [v + 0.001 * i for i, v in enumerate(BASE)])
    write(tmp_path, ITPS, [v + 0.02 + 0.001 * (i % 2) for i, v in enumerate(BASE)])
    (verdict,) = tb.verdicts(only_table(tmp_path))
    assert verdict.winner == "itps"
    assert re.search(r"itps wins\. .* 0\.8244 \(n = 5\).*corrected p", verdict.sentence)


def test_no_winner_names_whom_the_best_is_not_told_apart_from(tmp_path):
    write(tmp_path, ("none",), BASE)
    write(tmp_path, DROPOUT, [v + 0.02 + 0.004 * (-1) ** i for i, v in enumerate(BASE)])
    write(tmp_path, ITPS, [v + 0.02 + 0.001 * (i % 2) for i, v in enumerate(BASE)])
    (verdict,) = tb.verdicts(only_table(tmp_path))
    assert (verdict.best, verdict.winner) == ("dropout", None)
    assert "does not tell it apart from itps (corrected p = " in verdict.sentence
    assert verdict.sentence.endswith("it is better than “none”.")


def test_too_few_seeds_are_no_test(tmp_path):
    write(tmp_path, ("none",), BASE[:2])
    write(tmp_path, ITPS, [0.9, 0.93])
    table = only_table(tmp_path)
    (verdict,) = tb.verdicts(table)
    assert verdict.sentence.endswith("no paired test against “none” (fewer than 3 pairs).")
    (compared,) = [c for c in tb.comparisons(table) if c.method == "itps"]
    assert tb.format_comparison(compared, "auroc")[-1] == "no test: fewer than 3 pairs"


def test_a_method_that_ran_alone_is_called_so(tmp_path):
    write(tmp_path, ITPS, [0.9])
    (verdict,) = tb.verdicts(only_table(tmp_path))
    assert "itps alone has run: AUROC (0.9000, n = 1), so there is nothing" in verdict.sentence


def test_many_methods_are_counted_not_named(tmp_path):
    for number in range(8):
        close = ({"dropout": {"rate": number / 10}},)
        write(tmp_path, close, [v + 0.001 * (i * number % 5) for i, v in enumerate(BASE)])
    write(tmp_path, ("none",), [v - 0.1 for v in BASE])
    write(tmp_path, ITPS, [v + 0.001 * ((i + 2) % 5) + 0.0005 for i, v in enumerate(BASE)])
    (verdict,) = tb.verdicts(only_table(tmp_path))
    assert "apart from 8 of the 9 others (corrected p = 1.000); it is" in verdict.sentence
    assert verdict.sentence.endswith("; it is better than “none”.")


def test_errors_win_by_being_small(tmp_path):
    score = "mean_absolute_deviation"
    write(tmp_path, ("none",), [30.0, 31.0, 32.0, 31.5], score)
    write(tmp_path, ITPS, [28.0, 29.1, 29.9, 29.6], score)
    table = only_table(tmp_path)
    (verdict,) = tb.verdicts(table)
    assert verdict.winner == "itps"
    assert "Its mean absolute deviation is 29.15 hours (n = 4)" in verdict.sentence
    assert "(hours)" in tb.title(table)
    (compared,) = [c for c in tb.comparisons(table) if c.method == "itps"]
    assert compared.better
    assert compared.result.difference < 0
    assert tb.format_comparison(compared, score)[-1] == "better"


def test_comparisons_are_those_of_compare_at_equal_seeds_and_levels(tmp_path):
    write_sweep(tmp_path, methods=("none", "dropout", "itps", "both"), levels=(0.25, 1.0))
    table = only_table(tmp_path)
    found = {(c.supervision, c.method, c.baseline): c.result for c in tb.comparisons(table)}
    assert len(found) == 2 * (2 * 2 + 2 * 1)  # ITPS and its kin are no baselines
    for level in (0.25, 1.0):
        scores = table.by_seed(level)
        expected = compare(scores["itps"], {m: scores[m] for m in ("none", "dropout")})
        for baseline, result in expected.items():
            assert found[level, "itps", baseline] == result
    frame = tb.comparisons_frame([table])
    assert frame.height == len(found)
    row = frame.row(by_predicate=_is(0.25, "itps", "none"), named=True)
    assert row["p_holm"] == found[0.25, "itps", "none"].p_holm
    assert row["low"] < row["difference"] < row["high"]


def _is(level, method, baseline):
    return (
        (pl.col("supervision") == level)
        & (pl.col("method") == method)
        & (pl.col("baseline") == baseline)
    )


def test_without_itps_all_are_compared(tmp_path):
    write_sweep(tmp_path, methods=("none", "dropout"), levels=(1.0,))
    table = only_table(tmp_path)
    assert table.focus == ()
    assert {(c.method, c.baseline) for c in tb.comparisons(table)} == {
        ("none", "dropout"),
        ("dropout", "none"),
    }


def test_the_papers_figures_stand_beside_ours(tmp_path):
    changed = {"task": "image_classification", "model": {"dnn": {}}}
    write(tmp_path, ITPS, [0.89, 0.9], "accuracy", **changed)
    write(tmp_path, DROPOUT, [0.88, 0.87], "accuracy", **changed)
    write(tmp_path, ("none",), [0.87, 0.86], "accuracy", **changed)
    table = only_table(tmp_path)
    paper = table.cells["itps", 1.0].paper
    assert (paper.value, paper.sd) == (0.9015, 0.0016)
    assert tb.format_paper(table.cells["itps", 1.0], "accuracy") == "0.9015 ± 0.0016"
    assert tb.format_paper(table.cells["dropout", 1.0], "accuracy") == "0.8818"
    assert tb.format_paper(table.cells["none", 1.0], "accuracy") == "not at hand"
    frame = tb.scores_frame([table]).filter(method="itps")
    assert frame.select("paper", "paper_sd").rows() == [(0.9015, 0.0016)]
    assert "(paper)" in tb.scores_markdown(table)


def test_figures_of_other_images_are_left_out(tmp_path):
    folder = write_store(tmp_path / "store", num_subjects=20)
    manifest = read_json(folder / "manifest.json")
    for name, value in (("fashion_mnist", 0.9015), ("cifar10", None)):
        write_json(folder / "manifest.json", {**manifest, "dataset": name})
        store = Store.open(folder)
        trial = settings(ITPS, task="image_classification", model={"dnn": {}})
        scores = {"validation": {"accuracy": 0.5}, "test": {"accuracy": 0.5}}
        write_run(tmp_path / name, trial, scores, store=store, selected_by="accuracy")
        paper = only_table(tmp_path / name).cells["itps", 1.0].paper
        assert (paper and paper.value) == value


def test_no_figure_of_the_paper_is_guessed():
    quoted = {0.9015, 0.8818, 0.8635, 0.8745, 0.8535, 0.85, 0.8492, 0.7564, 0.7466, 0.7403}
    figures = tb.paper()["figures"] + tb.paper()["unplaced"]
    assert {f["value"] for f in figures} == quoted
    assert all(f["quoted"] for f in figures)
    assert {f["sd"] for f in figures} == {None, 0.0016, 0.0009, 0.0015}


def test_every_score_has_its_table_and_the_selecting_one_comes_first(tmp_path):
    write_sweep(tmp_path, methods=("none",), levels=(1.0,), seeds=range(1))
    assert [t.score for t in tb.score_tables(collect([tmp_path]))] == ["auroc", "brier"]


def test_markdown(tmp_path):
    write_sweep(tmp_path, methods=("none", "itps"), levels=(0.25, 1.0), seeds=range(3))
    write_run(tmp_path / "bad|<b>", settings(DROPOUT), {}, done=False)
    text = tb.to_markdown(collect([tmp_path]))
    assert "### In-hospital mortality, lstm: test AUROC" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert tables[0].startswith("| method |")
    assert re.match(r"\| -+ \| -+: \| -+: \|$", tables[1])
    assert len({len(line) for line in tables[:4]}) == 1
    assert "- bad\\|&lt;b>: not finished" in text


def test_texts():
    assert tb.format_level(0.25) == "25 %"
    assert tb.format_level(0.0125) == "1.25 %"
    assert tb.format_p(0.0123) == "p = 0.012"
    assert tb.format_p(0.0001) == "p < 0.001"
    assert tb.format_task("in_hospital_mortality") == "In-hospital mortality"
