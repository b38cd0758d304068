import re

import polars as pl

from mimic_reg.metrics.comparison import compare, compare_best
from mimic_reg.report.frames import comparisons_frame
from mimic_reg.report.verdicts import comparisons, format_comparison, verdicts
from mimic_reg.settings import WHOLE, training_size
from tests.report.runs import DROPOUT, ITPS, only_table, write_seeds, write_sweep

BASE = [0.80, 0.81, 0.79, 0.82, 0.80]


def test_undefined_scores_of_all_methods(tmp_path):
    write_seeds(tmp_path, ("none",), ["one class"])
    (verdict,) = verdicts(only_table(tmp_path))
    assert verdict.best is None
    assert "undefined for all methods" in verdict.sentence


def test_a_winner_is_significantly_better_than_all_others(tmp_path):
    write_seeds(tmp_path, ("none",), BASE)
    write_seeds(tmp_path, DROPOUT, [v + 0.001 * i for i, v in enumerate(BASE)])
    write_seeds(tmp_path, ITPS, [v + 0.02 + 0.001 * (i % 2) for i, v in enumerate(BASE)])
    (verdict,) = verdicts(only_table(tmp_path))
    assert verdict.winner == "itps"
    assert verdict.sentence == (
        "At 100 % supervision: itps has the best mean AUROC, 0.8244 (n = 5); significantly better "
        "than “none”, dropout (p < 0.001)."
    )


def test_without_a_winner_the_sentence_names_methods_without_a_clear_difference(tmp_path):
    write_seeds(tmp_path, ("none",), BASE)
    write_seeds(tmp_path, DROPOUT, [v + 0.02 + 0.004 * (-1) ** i for i, v in enumerate(BASE)])
    write_seeds(tmp_path, ITPS, [v + 0.02 + 0.001 * (i % 2) for i, v in enumerate(BASE)])
    (verdict,) = verdicts(only_table(tmp_path))
    assert (verdict.best, verdict.winner) == ("dropout", None)
    _, better, unclear = verdict.sentence.split("; ")
    assert re.fullmatch(r"significantly better than “none” \(p = 0\.00\d\)", better)
    assert unclear == "not significantly better than itps."


def test_too_few_seeds_have_no_test(tmp_path):
    write_seeds(tmp_path, ("none",), BASE[:2])
    write_seeds(tmp_path, ITPS, [0.9, 0.93])
    table = only_table(tmp_path)
    (verdict,) = verdicts(table)
    assert verdict.sentence.endswith("not tested against “none”: fewer than 3 pairs.")
    (compared,) = [c for c in comparisons(table) if c.method == "itps"]
    assert format_comparison(compared, "auroc")[0] == "no test: fewer than 3 pairs"


def test_a_single_method_has_no_comparison(tmp_path):
    write_seeds(tmp_path, ITPS, [0.9])
    (verdict,) = verdicts(only_table(tmp_path))
    assert verdict.sentence.endswith("0.9000 (n = 1). No other method has a defined score.")


def test_many_methods_are_counted_not_named(tmp_path):
    for number in range(8):
        close = ({"dropout": {"rate": number / 10}},)
        write_seeds(tmp_path, close, [v + 0.001 * (i * number % 5) for i, v in enumerate(BASE)])
    write_seeds(tmp_path, ("none",), [v - 0.1 for v in BASE])
    write_seeds(tmp_path, ITPS, [v + 0.001 * ((i + 2) % 5) + 0.0005 for i, v in enumerate(BASE)])
    (verdict,) = verdicts(only_table(tmp_path))
    assert "; significantly better than “none” (p" in verdict.sentence
    assert verdict.sentence.endswith("; not significantly better than 8 of 9 others.")


def test_errors_win_by_being_small(tmp_path):
    score = "mean_absolute_deviation"
    write_seeds(tmp_path, ("none",), [30.0, 31.0, 32.0, 31.5], score)
    write_seeds(tmp_path, ITPS, [28.0, 29.1, 29.9, 29.6], score)
    table = only_table(tmp_path)
    (verdict,) = verdicts(table)
    assert verdict.winner == "itps"
    assert "best mean absolute deviation, 29.150 (n = 4)" in verdict.sentence
    (compared,) = [c for c in comparisons(table) if c.method == "itps"]
    assert compared.better
    assert compared.result.difference < 0
    assert format_comparison(compared, score)[0] == "better"


def test_comparisons_are_those_of_compare_at_equal_seeds_and_levels(tmp_path):
    write_sweep(tmp_path, methods=("none", "dropout", "itps", "both"), levels=(0.25, 1.0))
    table = only_table(tmp_path)
    found = {(c.supervision, c.method, c.baseline): c.result for c in comparisons(table)}
    assert len(found) == 2 * (2 * 2 + 2 * 1)  # ITPS and its kin are no baselines
    quarter = training_size(0.25)
    for level in (quarter, WHOLE):
        scores = table.by_seed(level)
        expected = compare(scores["itps"], {m: scores[m] for m in ("none", "dropout")})
        for baseline, result in expected.items():
            assert found[level, "itps", baseline] == result
    frame = comparisons_frame([table])
    assert frame.height == len(found)
    row = frame.row(by_predicate=_is(quarter, "itps", "none"), named=True)
    assert row["p_holm"] == found[quarter, "itps", "none"].p_holm
    assert row["low"] < row["difference"] < row["high"]


def _is(level, method, baseline):
    return (
        (pl.col("supervision") == level.supervision)
        & (pl.col("method") == method)
        & (pl.col("baseline") == baseline)
    )


def test_without_a_run_of_the_focus_all_methods_are_compared(tmp_path):
    write_sweep(tmp_path, methods=("none", "dropout"), levels=(1.0,))
    table = only_table(tmp_path)
    assert table.focus == ()
    assert {(c.method, c.baseline) for c in comparisons(table)} == {
        ("none", "dropout"),
        ("dropout", "none"),
    }


def test_without_a_focus_the_best_is_compared_with_all_corrected_over_all_pairs(tmp_path):
    write_sweep(tmp_path, methods=("none", "dropout", "spectral"), levels=(0.25, 1.0))
    table = only_table(tmp_path, focus=None)
    (best,) = table.focus
    assert table.focus_is_best
    assert best == table.best(WHOLE) == verdicts(table)[1].best
    for level in table.levels:
        scores = table.by_seed(level)
        found = {
            c.baseline: c.result
            for c in comparisons(table)
            if (c.method, c.supervision) == (best, level)
        }
        assert found == compare_best(best, scores)
