"""Analyses of trained runs: what is drawn, that the numbers are the history's, what is refused."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mimic_reg import fitting
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.engine.recorder import read_history
from mimic_reg.errors import InputError
from mimic_reg.learners.trials import resolve
from mimic_reg.metrics.scores import Score
from mimic_reg.report import analyses
from mimic_reg.report.analyses import base, ensembles, hessian
from mimic_reg.report.analyses.base import start_and_best
from mimic_reg.report.figures.drawing import styles
from mimic_reg.report.figures.drawn import draw
from mimic_reg.report.figures.measured import Series, trace_figure
from mimic_reg.report.predictions import read_predictions
from mimic_reg.report.results import collect
from mimic_reg.runs import BEST, HISTORY, finish
from mimic_reg.settings import WHOLE
from mimic_reg.store import Store, read_json, write_json
from tests.networks import create
from tests.report import runs as made_up
from tests.report.analyses.conftest import settings

WHERE = "In-hospital mortality, lstm"
TOTAL = 2 * 4 * ((76 + 4) * 4 + 4) + 9  # of the bidirectional LSTM with 4 units, and its head


@pytest.fixture(scope="module")
def results(runs):
    return collect([runs])


@pytest.fixture
def copied(runs, tmp_path):
    """Some runs, to be damaged."""

    def copy(*names):
        for name in names:
            shutil.copytree(runs / name, tmp_path / name)
        return tmp_path

    return copy


def rows(analysis):
    """(method, level) → the row's other cells by column."""
    found = {}
    for row in analysis.tables[WHERE]:
        cells = dict(zip(analysis.columns, row, strict=True))
        found[cells.pop("method"), cells.pop("level"), cells.get("threshold")] = cells
    return found


def panels(analysis, name):
    (drawn,) = [d for d in analysis.drawn if d.name.endswith(name)]
    return drawn.figure.axes


def test_analyses_are_found_by_their_modules():
    expected = ["deviations", "ensembles", "gradients", "hessian", "mgs", "selection"]
    assert analyses.names() == [*expected, "thresholds"]
    with pytest.raises(InputError, match="Did you mean 'hessian'"):
        analyses.analyse("hesian", None)


@pytest.mark.parametrize("name", analyses.names())
def test_every_analysis_is_drawn_as_png_and_svg_and_has_numbers(name, results, tmp_path):
    found = analyses.analyse(name, results)
    assert found.name == name
    assert found.note
    assert found.tables[WHERE]
    assert all(len(row) == len(found.columns) for row in found.tables[WHERE])
    files = analyses.save(found.drawn, tmp_path)
    assert len(files) == 2 * len({d.name for d in found.drawn}) > 0
    for path in files:
        if path.suffix == ".svg":
            assert "mathdefault" not in path.read_text("utf-8")
            ElementTree.parse(path)
        else:
            assert path.read_bytes().startswith(b"\x89PNG")


def test_similarity_is_drawn_with_the_validation_score(results):
    found = analyses.analyse("mgs", results)
    trace, log_det, validation = panels(found, "_100_mgs")
    (trial, *_) = [t for t in results.trials if t.method == "none" and t.supervision == WHOLE]
    (line, *_) = [line for line in trace.lines if line.get_label() == "none"]
    assert list(line.get_xdata()) == [1, 2, 4]  # after the first epoch and every second
    (of_score, *_) = [line for line in validation.lines if line.get_label() == "none"]
    assert len(of_score.get_xdata()) == len(trial.epochs()) == 4
    assert {ax.get_yscale() for ax in (log_det, validation)} == {"linear"}
    (band, *_) = log_det.collections  # log determinants may be negative: the band has both sides
    (of_det, *_) = [line for line in log_det.lines if line.get_label() == "none"]
    edges = band.get_paths()[0].vertices[:, 1]
    assert edges.min() < min(of_det.get_ydata())
    assert edges.max() > max(of_det.get_ydata())
    assert log_det.get_ylabel() == "log determinant"
    last = [
        t.epochs()[-1]["recorded"]["mgs_trace"]
        for t in results.trials
        if (t.method, t.supervision) == ("none", WHOLE)
    ]
    cells = rows(found)["none", "100 %", None]
    assert cells["trace"].startswith(f"{np.mean(last):.4g} ±")
    assert (cells["seeds"], cells["epoch"]) == ("2", "4")
    without = replace(results, trials=tuple(t for t in results.trials if "dropout" in t.method))
    with pytest.raises(InputError, match=r"probes: \[mgs_probe\]"):
        analyses.analyse("mgs", without)


def test_methods_have_the_same_colour_in_all_figures_of_a_report(results):
    colours = set()
    for name in ("hessian", "gradients"):
        for ax in panels(analyses.analyse(name, results), f"_100_{name}"):
            lines = {line.get_label(): line.get_color() for line in ax.lines}
            colours.add(lines["itps (tau=0.002)"])
    assert len(colours) == 1


# --- Hessian --------------------------------------------------------------------------------------


def test_the_trace_is_drawn_against_the_epochs_it_was_recorded_at(results, runs):
    (ax,) = panels(analyses.analyse("hessian", results), "_100_hessian")
    recorded = [
        [
            row["recorded"]["hessian_trace"]
            for row in read_history(runs / name / HISTORY)
            if "hessian_trace" in row["recorded"]
        ]
        for name in ("none-100-0", "none-100-1")
    ]
    (line,) = [line for line in ax.lines if line.get_label() == "none"]
    assert list(line.get_xdata()) == [1, 2, 4]
    assert line.get_ydata() == pytest.approx(np.mean(recorded, axis=0))
    assert 2 / 0.01 in [line.get_ydata()[0] for line in ax.lines]


def test_a_run_without_the_probe_is_measured_at_its_best_epoch(copied):
    folder = copied("unprobed-100-0")
    (trial,) = collect([folder]).trials
    with pytest.raises(InputError, match="mimic-reg analyse hessian"):
        analyses.analyse("hessian", collect([folder]))
    assert not hessian.is_known(trial)
    before = (trial.folder / BEST).read_bytes()
    hessian.measure(trial, num_vectors=5, num_samples=10)
    assert (trial.folder / BEST).read_bytes() == before
    kept = read_json(trial.folder / hessian.FILE)
    assert (kept["vectors"], kept["samples"], kept["epoch"]) == (5, 10, trial.best_epoch - 1)
    found = analyses.analyse("hessian", collect([folder]))
    row = rows(found)["dropout", "100 %", None]
    assert row["epoch"] == str(trial.best_epoch)
    assert float(row["trace"]) == pytest.approx(kept["trace"], rel=1e-3)
    write_json(trial.folder / hessian.FILE, {**kept, "trial": "another"})
    assert not hessian.is_known(trial)


def test_a_measured_trace_equals_that_of_the_probe(copied, store):
    """At an epoch that is both the best and probed, with the probe's own numbers."""
    folder = copied("none-100-0", "none-100-1", "itps-100-0", "itps-100-1", "strict-100-0")
    probed = {1, 2, 4}
    trial = next(t for t in collect([folder]).trials if t.best_epoch in probed)
    recorded = trial.epochs()[trial.best_epoch - 1]["recorded"]
    hessian.measure(trial, num_vectors=3, num_samples=20)
    kept = read_json(trial.folder / hessian.FILE)
    assert kept["trace"] == pytest.approx(recorded["hessian_trace"], rel=1e-5)
    assert kept["standard_error"] == pytest.approx(recorded["hessian_trace_se"], rel=1e-4)


def test_the_probe_changes_no_weight(runs, store, tmp_path):
    plain = settings("none")
    plain["regularisers"] = []
    fitting.train(resolve(plain), store, tmp_path / "plain")
    with_probe, without = (load_state(p / BEST) for p in (runs / "none-100-0", tmp_path / "plain"))
    for name, tensor in without["model"].items():
        assert torch.equal(tensor, with_probe["model"][name]), name
    assert with_probe["fit"] == without["fit"]


# --- gradients ------------------------------------------------------------------------------------


def test_only_itps_applies_less_than_the_raw_gradient(results):
    found = rows(analyses.analyse("gradients", results))
    none, itps = found["none", "100 %", None], found["itps (tau=0.01)", "100 %", None]
    assert none["raw, first"] == none["applied, first"]
    mean = {name: float(cell.partition(" ")[0]) for name, cell in itps.items() if "," in name}
    assert mean["applied, first"] < mean["raw, first"]
    assert mean["applied, last"] < mean["raw, last"]


def test_moving_means_leave_constants_alone():
    from mimic_reg.report.figures.measured import moving_mean

    assert moving_mean(np.ones(7), 3).tolist() == pytest.approx([1] * 7)
    assert moving_mean(np.array([0.0, 3, 0]), 3).tolist() == pytest.approx([1.5, 1, 1.5])


# --- deviations -----------------------------------------------------------------------------------


def test_the_start_is_reproduced_and_only_selected_parameters_moved(results):
    for trial in results.trials:
        start, best = start_and_best(trial)
        moved = sum(int((start[name] != best[name]).sum()) for name in start)
        assert sum(p.numel() for p in start.values()) == TOTAL
        if "itps" in trial.regularisers:
            ever = trial.epochs()[trial.best_epoch - 1]["recorded"]["selected_ever"]
            assert moved == ever < TOTAL
        else:
            assert moved > 0.99 * TOTAL


def test_pairs_start_alike(results):
    starts = {
        t.method: start_and_best(t)[0]
        for t in results.trials
        if (t.seed, t.supervision) == (0, WHOLE)
    }
    one, *others = starts.values()
    assert len(others) == 3
    assert all(torch.equal(other[name], one[name]) for other in others for name in one)


def test_the_start_is_made_with_the_threads_of_the_fit(results, monkeypatch):
    """Another number of threads gives other last digits, so everything would seem to move."""
    asked = []
    monkeypatch.setattr(base, "torch_threads", lambda n: asked.append(n) or nullcontext())
    start_and_best(replace(results.trials[0], threads=3))
    start_and_best(replace(results.trials[0], threads=None))
    assert asked == [3, 1]


def test_trials_that_are_not_networks_are_left_out(tmp_path):
    trial = made_up.settings(model={"logistic_regression": {}})
    scores = {"validation": {"auroc": 0.7}, "test": {"auroc": 0.7}}
    made_up.write_run(tmp_path / "a", trial, scores)
    with pytest.raises(InputError, match="No trial of a network is finished"):
        analyses.analyse("deviations", collect([tmp_path]))


def test_a_run_without_its_checkpoint_is_named(copied):
    folder = copied("none-100-0")
    (folder / "none-100-0" / BEST).unlink()
    with pytest.raises(InputError, match=r"none-100-0 has no best\.safetensors"):
        analyses.analyse("deviations", collect([folder]))


def test_a_run_that_started_from_a_trained_trunk_has_no_known_start(copied):
    folder = copied("none-100-0")
    path = folder / "none-100-0" / "trial.json"
    described = read_json(path)
    start = {"trunk": "joint: none on phenotyping", "fingerprint": "0123456789abcdef"}
    described["trial"]["start"] = start
    write_json(path, described)
    finish(path.parent, described["id"])
    with pytest.raises(InputError, match="started from a trained trunk that is not in its folder"):
        analyses.analyse("deviations", collect([folder]))


@pytest.mark.parametrize("name", ["cnn", "dnn", "lstm", "transformer"])
def test_the_head_of_a_checkpoint_tells_the_number_of_outputs(name):
    state = create(name, 7, generator=torch.Generator()).state_dict()
    assert len(state["head.weight"]) == 7


# --- selection ------------------------------------------------------------------------------------


def test_selection_is_counted_at_the_end(results, runs):
    found = rows(analyses.analyse("selection", results))
    assert {method for method, _, _ in found} == {"itps (tau=0.002)", "itps (tau=0.01)"}
    ends = [read_history(runs / f"itps-50-{s}" / HISTORY)[-1]["recorded"] for s in (0, 1)]
    row = found["itps (tau=0.002)", "50 %", None]
    ever = np.array([end["selected_ever"] for end in ends])
    assert row["ever"] == f"{ever.mean():,.0f} ± {ever.std(ddof=1):,.0f}"
    assert row["ever, share"] == f"{100 * ever.mean() / TOTAL:.2f} %"
    assert row["epochs"] == "4"


def test_selection_by_tensor_is_a_share_of_each_tensor(results):
    (ax,) = panels(analyses.analyse("selection", results), "_selected_by_tensor")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert "head.weight" in names
    for line in ax.lines:
        assert len(line.get_xdata()) == len(names)
        assert max(line.get_xdata()) <= 100


def test_runs_without_itps_have_no_selection(runs):
    with pytest.raises(InputError, match=r"selects parameters\. Its methods: none"):
        analyses.analyse("selection", collect([runs / "none-100-0"]))


def test_the_analysis_replaces_the_selection_figure_of_the_report(results):
    own = {d.name for d in analyses.analyse("selection", results).drawn}
    assert len(own & {d.name for d in draw(results)}) == 1


# --- thresholds -----------------------------------------------------------------------------------


def test_thresholds_are_compared_at_the_tested_epoch(results, runs):
    found = rows(analyses.analyse("thresholds", results))
    assert len(found) == 4
    row = found["itps", "100 %", "0.01"]
    scored = [read_json(runs / f"strict-100-{s}" / "scores.json") for s in (0, 1)]
    values = np.array([s["scores"]["test"]["auroc"]["value"] for s in scored])
    assert row["score"] == f"{values.mean():.4f} ± {values.std(ddof=1):.4f}"
    counts = [read_history(runs / f"strict-100-{seed}" / HISTORY) for seed in (0, 1)]
    ever = np.array(
        [
            [r for r in h if r["event"] == "epoch"][s["best_epoch"]]["recorded"]["selected_ever"]
            for h, s in zip(counts, scored, strict=True)
        ]
    )
    assert row["ever"] == f"{ever.mean():,.0f} ± {ever.std(ddof=1):,.0f}"


@pytest.mark.parametrize(
    ("label", "method"),
    [
        ("itps", "itps"),
        ("itps (tau=0.05)", "itps"),
        ("itps (tau=[-0.1, 0.2])", "itps"),
        ("itps (mode=freeze, tau=0.05)", "itps (mode=freeze)"),
        ("itps (beta=0.1, tau=[-0.1, 0.2], max_epochs=8)", "itps (beta=0.1, max_epochs=8)"),
        (
            "spectral_dropout + itps (spectral_dropout.tau=0.1, itps.tau=0.05)",
            "spectral_dropout + itps (spectral_dropout.tau=0.1)",
        ),
    ],
)
def test_the_name_of_a_study_has_no_threshold(label, method):
    from mimic_reg.report.analyses.thresholds import without_threshold

    assert without_threshold(label, "itps", "tau") == method


def test_thresholds_are_in_ascending_order(results):
    scores, counts = panels(analyses.analyse("thresholds", results), "_thresholds")
    assert [label.get_text() for label in counts.get_xticklabels()] == ["0.002", "0.01"]
    assert scores.get_ylabel() == "test AUROC"


def test_trials_with_other_differences_are_not_a_study(copied):
    folder = copied("itps-100-0", "strict-100-0")
    path = folder / "strict-100-0" / "trial.json"
    described = read_json(path)
    described["trial"]["training"]["batch_size"] = 8
    write_json(path, described)
    finish(path.parent, described["id"])
    with pytest.raises(InputError, match=r"differ in tau.*figure_07"):
        analyses.analyse("thresholds", collect([folder]))


def test_one_threshold_is_not_a_study(runs):
    with pytest.raises(InputError, match="differ in tau"):
        analyses.analyse("thresholds", collect([runs / "itps-100-0", runs / "itps-100-1"]))


# --- in reports -----------------------------------------------------------------------------------


def test_an_analysis_that_fails_has_a_note_and_does_not_stop_others(runs):
    results = collect([runs / "none-100-0"])
    selection, gradients = analyses.analyse_all(["selection", "gradients"], results)
    assert selection.note.startswith("Not drawn: No trial selects parameters")
    assert selection.title == "Selected parameters"
    assert gradients.drawn


def test_seeds_with_one_trace_are_dots_beside_the_curve_of_the_others():
    curve = Series(np.array([0, 9]), np.array([3.0, 2.0]))
    dot = Series(np.array([4]), np.array([5.0]))
    (ax,) = trace_figure({"itps": [curve, dot]}, None, styles(["itps"])).axes
    drawn = {tuple(line.get_xdata()): line for line in ax.lines}
    assert list(drawn[0, 9].get_ydata()) == [3.0, 2.0]
    assert list(drawn[4,].get_ydata()) == [5.0]
    assert sum(line.get_label() == "itps" for line in ax.lines) == 1


def test_levels_that_are_not_shown_are_not_measured(tmp_path):
    for level in (0.25, 0.5, 1.0):
        scores = {"validation": {"auroc": 0.7}, "test": {"auroc": 0.7}}
        made_up.write_run(tmp_path / str(level), made_up.settings(supervision=level), scores)
    todo = hessian.to_measure(collect([tmp_path]), 2, 2)
    assert [s.name for s in sorted(t.supervision for t in todo)] == ["25", "100"]


# --- ensembles ------------------------------------------------------------------------------------


def test_an_ensemble_is_scored_as_its_averaged_predictions(results, store):
    trials = [t for t in results.trials if t.method == "none" and t.supervision == WHOLE]
    found = ensembles.combine(trials, {t.fingerprint: Store.open(store) for t in trials})
    assert found.alone == pytest.approx([t.scores["test"]["auroc"].value for t in trials], abs=1e-9)
    assert found.growing[0] == found.alone[0]
    assert found.growing[-1] == found.by_logits.value
    read = [read_predictions(t, Store.open(store)) for t in trials]
    p = np.mean([r.p for r in read], axis=0)
    expected = roc_auc_score(read[0].y[:, 0], p[:, 0])
    assert found.by_probability.value == pytest.approx(expected)
    assert found.by_logits.low <= found.by_logits.value <= found.by_logits.high


def test_a_score_that_is_not_shown_has_no_ensemble(results, store):
    hidden = {"test": {"auroc": Score(None, "fewer than 10 samples, so not shown")}}
    trials = [replace(t, scores=hidden) for t in results.trials[:2]]
    with pytest.raises(InputError, match="is undefined: fewer than 10 samples"):
        ensembles.combine(trials, {t.fingerprint: Store.open(store) for t in trials})


def test_one_seed_is_not_an_ensemble(results):
    alone = replace(results, trials=results.trials[:1])
    with pytest.raises(InputError, match="needs at least two runs that differ only in their seed"):
        analyses.analyse("ensembles", alone)


def test_without_the_labels_there_is_no_ensemble(results):
    trials = [t for t in results.trials if t.method == "none" and t.supervision == WHOLE]
    with pytest.raises(InputError, match="which has the labels, is no longer in"):
        ensembles.combine(trials, {})
