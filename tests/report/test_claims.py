"""Verdicts on the paper's claims, from made-up runs; the rules are those of docs/claims.md."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mimic_reg.cli import app
from mimic_reg.metrics.comparison import paired
from mimic_reg.report.claims import as_plain, in_words, judge
from mimic_reg.report.claims.base import claims
from mimic_reg.report.page import write_report
from mimic_reg.report.results import collect
from mimic_reg.sources.images import cohort
from mimic_reg.tasks import cohort as patients
from tests.report.runs import settings, write_run, write_seeds

MIMIC = {"num_samples": (3222, 3236)}
SIMULATED = MIMIC | {"cohort": patients(["in_hospital_mortality"], simulated=True)}
FASHION = {
    "cohort": cohort("fashion_mnist", (1, 28, 28), ("a", "b")),
    "num_samples": (10000, 10000),
}
DNN = {"task": "image_classification", "model": {"dnn": {}}}
VARIATIONAL = ({"variational_lstm": {"rate": 0.5}},)
PENALTIES = {
    "data_gradient": ({"data_gradient": {"weight": 0.01}},),
    "jacobian": ({"jacobian": {"weight": 0.015}},),
    "l2": ({"norm_penalty": {"l2": 0.005}},),
}
LOW, HIGH = [0.80, 0.81, 0.802, 0.805], [0.83, 0.841, 0.833, 0.834]


def write_variational(root, ours, theirs, files=MIMIC, rows=tuple(PENALTIES), **changed):
    write_seeds(root, VARIATIONAL, ours, files=files, **changed)
    for row in rows:
        write_seeds(root, PENALTIES[row], theirs, files=files, **changed)


def line_of(root, name="variational_middle"):
    (line,) = [line for line in judge(collect([root])) if line.name == name]
    return line


def test_every_claim_has_its_rule_in_the_document():
    text = (Path(__file__).parents[2] / "docs" / "claims.md").read_text("utf-8")
    assert re.findall(r"^\| (\d+) \| `(\w+)`", text, re.M) == [
        (str(number), name) for number, name in enumerate(claims(), 1)
    ]


def test_a_claim_that_reproduces(tmp_path):
    write_variational(tmp_path, HIGH, LOW)
    line = line_of(tmp_path)
    assert line.verdict == "reproduces"
    assert line.why == "3 of 3 comparisons for it (1 of 12 columns)."
    expected = paired(dict(enumerate(HIGH)), dict(enumerate(LOW)))
    shown = line.shown
    assert (shown.n, shown.difference) == (4, pytest.approx(0.03025))
    assert shown.interval == pytest.approx(expected.interval)
    assert shown.p == pytest.approx(3 * expected.p)  # Holm: three equal tests
    assert len(line.runs) == 16


def test_a_claim_does_not_reproduce_if_our_score_is_worse(tmp_path):
    write_variational(tmp_path, LOW, HIGH)
    line = line_of(tmp_path)
    assert line.verdict == "does not reproduce"
    assert line.shown.difference < 0
    assert line.shown.outcome == "against"


def test_a_claim_does_not_reproduce_without_the_papers_margin(tmp_path):
    """No better, and far from the paper's margin (at least 0.0124): equal is not enough."""
    write_variational(tmp_path, LOW, [0.8001, 0.8098, 0.8021, 0.8051])
    line = line_of(tmp_path)
    assert line.verdict == "does not reproduce"
    assert line.shown.p > 0.05
    assert line.shown.margin > 0
    assert "below the paper's +0.00" in in_words(line.shown)


@pytest.mark.parametrize(
    ("ours", "files", "rows", "changed", "why"),
    [
        (
            HIGH,
            SIMULATED,
            tuple(PENALTIES),
            {},
            "other data: .*simulated.*the claim would be reproduced: 3 of 3",
        ),
        (HIGH, {}, tuple(PENALTIES), {}, "other data: it has 100 and 120 validation"),
        (HIGH[:2], MIMIC, tuple(PENALTIES), {}, "fewer than 3 seeds in 3 comparisons"),
        (HIGH, MIMIC, ("l2",), {}, "missing in a column: data_gradient, jacobian"),
        ([0.74, 0.9, 0.85, 0.8], MIMIC, tuple(PENALTIES), {}, "the seeds leave 3 open"),
        (HIGH, MIMIC, tuple(PENALTIES), {"model": {"lstm": {"units": 64}}}, "16 for lstm.units 64"),
    ],
)
def test_a_claim_that_cannot_be_tested_says_why(tmp_path, ours, files, rows, changed, why):
    write_variational(tmp_path, ours, LOW, files, rows, **changed)
    line = line_of(tmp_path)
    assert line.verdict == "cannot be tested here"
    assert re.search(why, line.why), line.why


def test_other_data_is_not_used_for_a_claim_that_the_papers_data_does_not_cover(tmp_path):
    write_variational(tmp_path, HIGH, LOW)
    for line in judge(collect([tmp_path])):
        assert line.data == ""
        if line.name in ("reptile", "memory", "selection_settles"):
            assert (line.verdict, line.comparisons) == ("cannot be tested here", ())
    assert "table_15" in line_of(tmp_path, "reptile").why
    assert "do not record memory" in line_of(tmp_path, "memory").why


def test_a_strength_is_chosen_by_validation_and_never_by_test(tmp_path):
    for rate, validation, test in ((0.2, 0.9, LOW), (0.5, 0.6, HIGH)):
        for seed, value in enumerate(test):
            scores = {"validation": {"auroc": validation}, "test": {"auroc": value}}
            trial = settings(({"variational_lstm": {"rate": rate}},), seed=seed)
            write_run(tmp_path / f"{rate}-{seed}", trial, scores, **MIMIC)
    write_seeds(tmp_path, PENALTIES["l2"], HIGH, files=MIMIC)
    assert line_of(tmp_path).shown.difference < 0


def test_other_readings_of_a_method_are_not_the_papers(tmp_path):
    latched = ({"itps": {"tau": 0.15, "beta": 0.1, "latch": True}},)
    write_seeds(tmp_path, latched, HIGH, files=MIMIC)
    write_seeds(tmp_path, PENALTIES["l2"], LOW, files=MIMIC)
    line = line_of(tmp_path, "itps_beats_all")
    assert line.comparisons == ()
    assert "4 for itps.latch True, paper False" in line.why


def test_the_gain_with_few_samples(tmp_path):
    itps = ({"itps": {"tau": 0.15, "beta": 0.1}},)
    for level, gain in ((0.25, 0.05), (1.0, 0.01)):
        for seed, base in enumerate(LOW):
            noise = 0.001 * (seed % 2)
            for method, value in ((itps, base + gain + noise), (PENALTIES["l2"], base)):
                scores = {"validation": {"auroc": 0.5}, "test": {"auroc": value}}
                folder = tmp_path / f"{level}-{method[0].keys()}-{seed}"
                write_run(folder, settings(method, seed=seed, supervision=level), scores, **MIMIC)
    line = line_of(tmp_path, "gain_at_low_data")
    assert line.shown.difference == pytest.approx(0.04)
    assert "table IX, 25 % minus table IX, 100 %" in line.shown.what


# --- what is recorded within fits -----------------------------------------------------------------


def write_fits(
    root, method, recorded, *, seeds=4, epochs=120, files=FASHION, stopping=False, **changed
):
    """Fits whose history has `recorded(epoch, seed)`; `fall`: of the validation score."""
    for seed in range(seeds):
        rows = []
        for epoch in range(epochs):
            row = recorded(epoch, seed)
            fall = row.pop("fall", 0.0)
            norms = {k: row.pop(k) for k in ("gradient_norm", "applied_gradient_norm") if k in row}
            if norms:
                rows.append(
                    {"event": "steps", "epoch": epoch, "step": epoch, "recorded": {}, **norms}
                )
            rows.append(
                {
                    "event": "epoch",
                    "epoch": epoch,
                    "step": epoch,
                    "loss": 0.5,
                    "validation": {"accuracy": 0.9 - fall, "auroc": 0.9 - fall},
                    "recorded": row,
                }
            )
        trial = settings(method, seed=seed, **changed)
        if not stopping:
            trial["regularisers"] = trial["regularisers"][:-1]
        name = "accuracy" if "dnn" in trial["model"] else "auroc"
        score = {name: 0.8 + 0.001 * (seed % 2)}
        number = len(list(root.iterdir())) if root.exists() else 0
        scores = {"validation": score, "test": score}
        write_run(root / f"{number:03}", trial, scores, selected_by=name, epochs=rows, **files)


def itps(tau):
    return ({"itps": {"tau": tau, "beta": 0.1}},)


def counts(end, settles=True):
    def recorded(epoch, seed):
        grown = min(1, (epoch + 1) / 100) if settles else (epoch + 1) / 120
        now = int((end + 100 * seed) * grown)
        return {"selected_now": now, "selected_ever": now + (epoch - 99) * (seed + 1)}

    return recorded


@pytest.mark.parametrize(
    ("end", "settles", "verdict"),
    [
        (27_000, True, "reproduces"),
        (60_000, True, "does not reproduce"),
        (27_000, False, "does not reproduce"),
    ],
)
def test_whether_the_selection_settles(tmp_path, end, settles, verdict):
    write_fits(tmp_path, itps(0.25), counts(end, settles), **DNN)
    assert line_of(tmp_path, "selection_settles").verdict == verdict


def test_a_fit_that_stopped_early_is_no_evidence_for_settling(tmp_path):
    write_fits(tmp_path, itps(0.25), counts(27_000), stopping=True, **DNN)
    assert line_of(tmp_path, "selection_settles").comparisons == ()


@pytest.mark.parametrize(("more", "verdict"), [(2, "reproduces"), (0.5, "does not reproduce")])
def test_whether_more_samples_select_more(tmp_path, more, verdict):
    for level, end in ((0.25, 1000), (1.0, 1000 * more)):

        def recorded(epoch, seed, end=end, level=level):
            return {"selected_now": end, "selected_ever": end + level * seed}

        write_fits(tmp_path, itps(0.15), recorded, files=MIMIC, epochs=3, supervision=level)
    line = line_of(tmp_path, "selection_grows_with_data")
    assert line.verdict == verdict
    assert "1 of 2 data sets" in line.why


def test_the_study_of_thresholds(tmp_path):
    for tau, ever, fall in ((0.01, 90_000, 0.05), (0.15, 500, 0.01), (0.25, 60, 0.01)):

        def recorded(epoch, seed, ever=ever, fall=fall):
            lost = fall + 0.001 * seed * fall if epoch == 59 else 0.0
            return {"selected_ever": ever + seed * ever / 50, "selected_now": ever, "fall": lost}

        write_fits(tmp_path, itps(tau), recorded, files=MIMIC, epochs=60)
    line = line_of(tmp_path, "threshold")
    assert [c.outcome for c in line.comparisons][:3] == ["for"] * 3
    assert line.comparisons[3].reason == "every difference is the same: no variance"
    assert line.verdict == "cannot be tested here"  # one is open


@pytest.mark.parametrize(("late", "verdict"), [(10.0, "reproduces"), (80.0, "does not reproduce")])
def test_the_trace_of_the_hessian(tmp_path, late, verdict):
    def of_itps(epoch, seed):
        return {"hessian_trace": (100.0 if epoch < 90 else late) + seed, "hessian_trace_se": 1.0}

    def of_none(epoch, seed):
        return {"hessian_trace": 10.0 + 0.1 * seed, "hessian_trace_se": 1.0}

    write_fits(tmp_path, itps(0.25), of_itps, **DNN)
    write_fits(tmp_path, ("none",), of_none, **DNN)
    assert line_of(tmp_path, "hessian").verdict == verdict


@pytest.mark.parametrize(("sign", "verdict"), [(1, "reproduces"), (-1, "does not reproduce")])
def test_norms_of_gradients(tmp_path, sign, verdict):
    def falls(epoch, seed):
        return dict.fromkeys(("gradient_norm", "applied_gradient_norm"), 2 - epoch / 40 - seed / 99)

    def rises(epoch, seed):
        rising = 1 + sign * (1 + seed / 99) * epoch / 60
        return {"gradient_norm": 1.0, "applied_gradient_norm": rising, "selected_now": 5}

    write_fits(
        tmp_path,
        ("none",),
        lambda e, s: {**falls(e, s), "gradient_norm": 2 - (1 + s / 99) * e / 60},
        files=MIMIC,
        epochs=40,
    )
    write_fits(tmp_path, itps(0.15), rises, files=MIMIC, epochs=40)
    assert line_of(tmp_path, "gradient_norm").verdict == verdict


# --- how it is told -------------------------------------------------------------------------------


def test_the_command_prints_a_line_for_each_claim_and_json(tmp_path):
    write_variational(tmp_path / "runs", HIGH, LOW)
    printed = CliRunner().invoke(app, ["claims", str(tmp_path)])
    assert printed.exit_code == 0
    assert len(re.findall(r"^\d+\. ", printed.stdout, re.M)) == 13
    assert "5. reproduces: The variational LSTM is better" in printed.stdout
    assert "corrected p" in printed.stdout
    plain = json.loads(CliRunner().invoke(app, ["claims", str(tmp_path), "--json"]).stdout)
    assert plain == json.loads(json.dumps(as_plain(judge(collect([tmp_path])))))
    assert [c["claim"] for c in plain] == list(claims())
    assert plain[4]["comparisons"][plain[4]["shown"]]["outcome"] == "for"


def test_the_report_has_the_claims_that_its_runs_test(tmp_path):
    write_variational(tmp_path, HIGH, LOW)
    page = write_report(collect([tmp_path]), tmp_path / "r.html", title="T").read_text("utf-8")
    section = page[page.index('<section id="claims">') :].partition("</section>")[0]
    assert section.count('<th scope="row"') == 1
    assert "reproduces" in section
    assert "12 other claims cannot be tested" in section
