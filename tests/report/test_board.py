"""The board: rows from run folders, budgets from sweeps, commands that make the same settings."""

import re

import polars as pl
import pytest

from mimic_reg.errors import InputError
from mimic_reg.learners.trials import compose_trial
from mimic_reg.metrics.uncertainty import combined
from mimic_reg.multitask.changes import change, parse_pairs
from mimic_reg.report.board import collect_board, document, write_board
from mimic_reg.report.board.searches import Budget
from mimic_reg.report.document import to_markdown
from mimic_reg.store import read_json, write_json
from tests.report.runs import COHORT, write_run
from tests.report.test_page import checked

TASK = "in_hospital_mortality"


def trial(method="none", seed=0, changes=(), **given):
    composed = compose_trial(TASK, "lstm", method, seed=seed, **given)
    changed = change(composed, parse_pairs(changes, "--set", "")) if changes else composed
    return changed.model_dump(mode="json")


def run(work, name, settings, test, validation=0.8, **given):
    scores = {"validation": {"auroc": validation}, "test": {"auroc": test}}
    return write_run(work / "runs" / name, settings, scores, **given)


def status(work, sweep, trials, **configuration):
    """A sweep's status; trials: (folder, method, seed, searched)."""
    entries = [
        {
            "folder": folder,
            "task": TASK,
            "model": "lstm",
            "method": method,
            "searched": searched,
            "supervision": 1.0,
            "num_samples": None,
            "seed": seed,
        }
        for folder, method, seed, searched in trials
    ]
    (work / "sweeps" / sweep).mkdir(parents=True)
    content = {"trials": entries, "configuration": configuration}
    write_json(work / "sweeps" / sweep / "status.json", content)


@pytest.fixture
def work(tmp_path):
    """A comparison: three rates of dropout with seed 0, then the best with two seeds; none."""
    rates, trials = {0.2: (0.81, 0.70), 0.3: (0.83, 0.72), 0.5: (0.82, 0.99)}, []
    for rate, (validation, test) in rates.items():
        settings = trial("dropout", changes=[f"dropout.rate={rate}"])
        run(tmp_path, f"d{rate}-0", settings, test, validation)
        trials.append((f"d{rate}-0", "dropout", 0, {"dropout.rate": rate}))
    run(tmp_path, "d0.3-1", trial("dropout", 1, ["dropout.rate=0.3"]), 0.74)
    for seed, test in enumerate((0.70, 0.71)):
        run(tmp_path, f"n-{seed}", trial(seed=seed), test)
    status(tmp_path, "search", [*trials, ("n-0", "none", 0, {})])
    best = {"dropout.rate": 0.3}
    chosen = [(f"d0.3-{s}", "dropout", s, best) for s in (0, 1)]
    status(tmp_path, "search-chosen", [*chosen, *((f"n-{s}", "none", s, {}) for s in (0, 1))])
    return tmp_path


def test_rows_have_the_chosen_point_its_budget_and_both_chances(work):
    board = collect_board([work])
    dropout, none = board.rows
    assert (board.lost, dropout.method, none.method) == (2, "dropout", "none")
    assert (dropout.mean, dropout.n, dropout.seeds) == (pytest.approx(0.73), 2, (0, 1))
    # runs have intervals of 0.04: an error of 0.01 / 1.96 * 2
    both = combined([0.72, 0.74], 0.04 / 2 / 1.959964, 120)
    assert (dropout.low, dropout.high) == pytest.approx(both.bounds)
    assert dropout.covers == "seeds and patients"
    assert (dropout.budget, none.budget) == (Budget(3, 1), Budget())
    assert dropout.rank is none.rank is None  # unequal budgets
    assert "Not ranked, because budgets differ" in to_markdown(document(board))
    assert collect_board([work / "runs"]) == board
    # a comparison that records its budgets
    record = {"task": TASK, "model": "lstm", "supervision": 1.0, "num_samples": None}
    tuned = [{**record, "method": m, "points": 9, "seeds": [0, 1]} for m in ("dropout", "none")]
    path = work / "sweeps/search-chosen/status.json"
    content = read_json(path)
    write_json(path, {**content, "configuration": {"tuned": tuned}})
    board = collect_board([work])
    rows = board.rows
    assert board.problems == ()
    assert [(str(r.budget), r.rank) for r in rows] == [("9 points, 2 runs each", n) for n in (1, 2)]


def test_without_sweeps_every_setting_is_a_row_and_a_search_alone_has_its_best(work):
    for path in (work / "sweeps/search-chosen").iterdir():
        path.unlink()
    rows = {r.method: r for r in collect_board([work]).rows}
    assert set(rows) == {"dropout", "none"}  # by validation, not by the test score 0.99
    (work / "sweeps/search/status.json").write_text("{")
    board = collect_board([work])
    assert {r.method for r in board.rows} >= {"dropout (rate=0.2)", "dropout (rate=0.5)", "none"}
    assert [r.rank for r in board.rows] == [1, 2, 3, 4]
    assert "could not be read, so its points count as not tuned. search: " in to_markdown(
        document(board)
    )


def test_the_command_makes_the_same_settings(work):
    dropout, none = collect_board([work]).rows
    start, _, place = none.command.partition(" --out ")
    assert start == (
        "for seed in 0 1; do mimic-reg train --task in_hospital_mortality --model lstm --method "
        "none --store STORE --seed $seed"
    )
    assert re.fullmatch(r"runs/in_hospital_mortality-lstm-none-[0-9a-f]{8}-\$seed; done", place)
    assert "--set dropout.rate=0.3 " in dropout.command
    changed = trial("itps", 7, ["model.units=8", "training.learning_rate=0.01", "itps.tau=[-1, 1]"])
    run(work, "x", changed, 0.6)
    run(work, "few", {**trial(), "num_samples": 50}, 0.6)
    status(work, "demo", [("few", "none", 0, {})])
    found = {(r.method, r.size.is_share): r for r in collect_board([work]).rows}
    assert "--seed 7 --out" in found["itps", True].command
    assert found["itps", True].command.endswith("-7")
    for text in ("model.units=8", "training.learning_rate=0.01", "'itps.tau=[-1, 1]'"):
        assert f"--set {text}" in found["itps", True].command
    assert found["none", False].command == "mimic-reg sweep --config demo --store STORE --out WORK"


def test_no_methods_have_the_command_of_none_and_equal_points_are_said(tmp_path):
    settings = trial()
    settings["regularisers"] = [r for r in settings["regularisers"] if "none" not in r]
    run(tmp_path, "python", settings, 0.7)
    record = {"task": TASK, "model": "lstm", "method": "none", "supervision": 1.0}
    tuned = {**record, "num_samples": None, "points": 8, "different": 1, "seeds": [0]}
    status(tmp_path, "chosen", [("python", "none", 0, {})], tuned=[tuned])
    (row,) = collect_board([tmp_path]).rows
    assert "mimic-reg train --task in_hospital_mortality --model lstm --method none " in row.command
    assert "--set" not in row.command
    assert str(row.budget) == "8 points (all the same fit), 1 run each"
    assert row.budget == Budget(8, 1)  # ranked beside others with eight points


def test_commands_of_different_rows_never_share_a_folder(tmp_path):
    for rate in (0.2, 0.3):
        run(tmp_path, f"d{rate}", trial("dropout", changes=[f"dropout.rate={rate}"]), 0.7)
    run(tmp_path, "half", trial("dropout", supervision=0.5), 0.7)
    run(tmp_path, "other", trial("dropout"), 0.7, fingerprint="e" * 64)
    cohort = COHORT.model_copy(update={"folds": 3})
    for seed, fold in ((0, 1), (0, 2), (1, 3)):  # not every seed with every fold
        folder = f"f{seed}{fold}"
        run(tmp_path, folder, trial(seed=seed, fold=fold), 0.7, cohort=cohort, fingerprint="f" * 64)
    commands = [r.command for r in collect_board([tmp_path]).rows]
    *_, folds = sorted(commands, key=len)
    places = re.findall(r" --out ([^ ;]+)", " ".join(commands))
    assert len(places) == len(set(places)) == 4 + 2
    assert folds.count("mimic-reg train") == 2
    assert "for fold in 1 2; do" in folds
    assert "--seed 1 --fold 3 --out" in folds


def test_files_and_what_cannot_be_used(work, tmp_path):
    run(work, "other", trial("l2"), 0.9, fingerprint="e" * 64)
    run(work, "half", trial("l2", 1), 0.9, done=False)
    (work / "runs/half/history.jsonl").write_text("")
    board = collect_board([work])
    assert len(board.places()) == 2  # other data are another table
    assert [u.name for u in board.unfinished] == ["half"]
    csv, page, text = write_board(board, tmp_path / "out")
    frame = pl.read_csv(csv)
    assert frame["method"].to_list() == [r.method for r in board.rows]
    assert frame["mean"].to_list() == pytest.approx([r.mean for r in board.rows])
    assert "1 run that cannot be used" in checked(page.read_text("utf-8"))
    assert str(tmp_path) not in csv.read_text() + page.read_text("utf-8") + text.read_text("utf-8")
    for folder in (tmp_path / "nothing", tmp_path / "out"):
        with pytest.raises(InputError, match="There is no"):
            collect_board([folder])


def test_a_cross_validation_has_an_interval_over_folds(tmp_path):
    cohort = COHORT.model_copy(update={"folds": 3})
    for fold, test in enumerate((0.65, 0.7, 0.75), 1):
        run(tmp_path, f"f{fold}", trial(fold=fold), test, cohort=cohort)
    (row,) = collect_board([tmp_path]).rows
    assert (row.covers, row.n, row.folds) == ("folds", 3, (1, 2, 3))
    half = 4.302653 * 0.05 * (1 / 3 + 1) ** 0.5  # t of 2 degrees, Nadeau and Bengio
    assert (row.low, row.high) == pytest.approx((0.7 - half, 0.7 + half))
    assert "for fold in 1 2 3; do mimic-reg train" in row.command
