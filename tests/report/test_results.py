import numpy as np
import pytest

from mimic_reg.errors import InputError
from mimic_reg.fitting import train
from mimic_reg.learners.trials import resolve
from mimic_reg.methods import package_of
from mimic_reg.metrics.scores import Score
from mimic_reg.report.results import collect, find_stores, method_order
from mimic_reg.runs.record import read_scores
from mimic_reg.settings.files import method_called, name_of_method, names
from tests.report.runs import history, settings, write_run
from tests.stores import write_store

SCORES = {"validation": {"auroc": 0.8}, "test": {"auroc": 0.78}}


def labels(results):
    return [t.method for t in results.trials]


def test_a_real_run_is_read_as_it_was_written(tmp_path):
    store = write_store(tmp_path / "store", num_subjects=150, hours=(48, 50))
    trial = resolve(
        {
            "task": "in_hospital_mortality",
            "model": {"lstm": {"units": 2}},
            "regularisers": [{"itps": {"tau": 0.001}}, "early_stopping"],
            "training": {"max_epochs": 2},
        }
    )
    outcome = train(trial, store, tmp_path / "runs" / "one")
    results = collect([tmp_path / "runs"], focus="itps")
    (found,) = results.trials
    assert results.unfinished == ()
    assert found.id == outcome.trial_id
    assert found.scores == read_scores(tmp_path / "runs" / "one")
    assert (found.name, found.model, found.method, found.seed) == ("one", "lstm", "itps", 0)
    assert found.in_focus
    assert found.selected_by == "auroc"
    assert found.settings == trial.model_dump(mode="json")
    rows = found.epochs()
    assert [row["epoch"] for row in rows] == [1, 2]
    best = rows[found.best_epoch - 1]["validation"]
    assert best["auroc"] == found.scores["validation"]["auroc"].value
    assert rows[-1]["recorded"]["selected_ever"] > 0
    assert [s.folder for s in find_stores(results)] == [store]


def test_methods_are_called_what_their_files_are_called(tmp_path):
    both = ({"spectral_dropout": {"eta": 0.1, "tau": 0.1}}, {"itps": {"tau": 0.1, "beta": 0.1}})
    itps, l2 = ({"itps": {"tau": 0.1, "beta": 0.1}},), ({"norm_penalty": {"l2": 0.1}},)
    for i, method in enumerate([both, itps, l2, ("none",)]):
        write_run(tmp_path / str(i), settings(method), SCORES)
    results = collect([tmp_path], focus="itps")
    assert labels(results) == ["none", "l2", "itps", "itps_spectral_dropout"]
    assert method_order(results.trials) == results.methods() == labels(results)
    assert [t.in_focus for t in results.trials] == [False, False, True, True]
    for focus in ("spectral_dropout + itps", "itps_spectral_dropout"):
        results = collect([tmp_path], focus=focus)
        assert [t.method for t in results.trials if t.in_focus] == ["itps_spectral_dropout"]
    results = collect([tmp_path])
    assert labels(results) == ["none", "itps", "itps_spectral_dropout", "l2"]
    assert not results.has_focus


@pytest.mark.parametrize("name", names("methods"))
def test_every_file_of_a_method_names_its_trials(name):
    method = method_called(name)
    for family in method.families or ("lstm",):
        found = (c.completed(package_of(c.name), "") for c in method.of(family, name).regularisers)
        assert name_of_method(c.entry() for c in found) == name


def test_a_method_without_a_file_is_called_by_its_modules():
    dropout, sam = {"dropout": {"rate": 0.5}}, {"sam": {"rho": 0.05}}
    assert name_of_method([dropout, {"mgs_probe": {}}, sam]) == "dropout + sam"
    assert name_of_method([{"early_stopping": {}}]) == "none"
    assert name_of_method([{"itps": {"tau": 0.1, "beta": 0.7}}]) == "itps"


def test_options_are_shown_only_if_labels_would_be_equal(tmp_path):
    for tau in (0.05, 0.15):
        method = ({"itps": {"tau": tau, "beta": 0.1}},)
        write_run(tmp_path / f"a{tau}", settings(method), SCORES)
    write_run(tmp_path / "b", settings(({"dropout": {"rate": 0.5}},)), SCORES)
    write_run(tmp_path / "c", settings(({"itps": {"tau": 0.05, "beta": 0.1}},), seed=1), SCORES)
    assert labels(collect([tmp_path])) == [
        "dropout",
        "itps (tau=0.05)",
        "itps (tau=0.05)",
        "itps (tau=0.15)",
    ]


def test_options_tuned_for_each_level_are_one_method(tmp_path):
    for level, tau in ((0.25, 0.05), (1.0, 0.15)):
        trial = settings(({"itps": {"tau": tau}},), supervision=level)
        write_run(tmp_path / str(level), trial, SCORES)
    assert labels(collect([tmp_path])) == ["itps", "itps"]


def test_different_training_settings_and_models_have_different_labels(tmp_path):
    base = settings()
    slow = {**base["training"], "learning_rate": 0.0001}
    write_run(tmp_path / "1", base, SCORES)
    write_run(tmp_path / "2", {**base, "training": slow}, SCORES)
    write_run(tmp_path / "3", {**base, "model": {"lstm": {"units": 8}}}, SCORES)
    found = {(t.model, t.method) for t in collect([tmp_path]).trials}
    assert found == {
        ("lstm (units=256)", "none (learning_rate=0.001)"),
        ("lstm (units=256)", "none (learning_rate=0.0001)"),
        ("lstm (units=8)", "none"),
    }


def test_early_stopping_is_in_the_label_if_not_all_trials_have_it(tmp_path):
    write_run(tmp_path / "1", settings(), SCORES)
    write_run(tmp_path / "2", {**settings(seed=1), "regularisers": [{"none": {}}]}, SCORES)
    assert labels(collect([tmp_path])) == ["none", "early_stopping"]


def test_a_model_that_never_stops_early_does_not_rename_the_methods_of_another(tmp_path):
    write_run(tmp_path / "lstm", settings(), SCORES)
    other = {**settings(), "model": {"logistic_regression": {}}, "regularisers": [{"none": {}}]}
    write_run(tmp_path / "logistic", other, SCORES)
    assert labels(collect([tmp_path])) == ["none", "none"]


def test_runs_without_a_result_have_a_reason(tmp_path):
    write_run(tmp_path / "good", settings(), SCORES)
    rows = history(np.random.default_rng(0), 0.8, num_epochs=4)
    write_run(tmp_path / "half", settings(seed=1), SCORES, epochs=rows, done=False)
    failed = {"event": "failed", "epoch": 2, "step": 350, "loss": "nan"}
    write_run(tmp_path / "nan", settings(seed=2), SCORES, epochs=[*rows, failed], done=False)
    write_run(tmp_path / "torn", settings(seed=3), SCORES)
    (tmp_path / "torn" / "scores.json").write_text("{")
    write_run(tmp_path / "odd", settings(seed=4), SCORES)
    (tmp_path / "odd" / "scores.json").write_text("{}")
    write_run(tmp_path / "copy", settings(), SCORES)
    write_run(tmp_path / "swap", settings(seed=5), SCORES)
    (tmp_path / "swap" / "done.json").write_text('{"trial": "other"}')
    (tmp_path / "empty").mkdir()
    killed = tmp_path / "never"
    results = collect([tmp_path, tmp_path / "empty", killed], {killed: "out of memory"})
    assert [t.name for t in results.trials] == ["copy"]  # by name, before "good"
    why = {u.name: u.why for u in results.unfinished}
    assert why["half"] == "not finished: 4 of at most 60 epochs"
    assert why["nan"] == "failed: the loss became nan in the steps up to 350 (epoch 3)"
    assert why["torn"].startswith("torn/scores.json is not valid JSON")
    assert "is not a run's scores" in why["odd"]
    assert why["good"] == "the same trial as copy, which is used"
    assert why["swap"] == "done.json belongs to another trial"
    assert why["empty"] == "it holds no run (no trial.json)"
    assert why["never"] == "out of memory"


def test_copies_of_mlflow_are_not_runs_and_a_folder_without_runs_is_refused(tmp_path):
    write_run(tmp_path / "runs" / "one", settings(), SCORES)
    write_run(tmp_path / "mlflow-artifacts" / "1" / "a", settings(seed=1), SCORES, done=False)
    assert not collect([tmp_path]).unfinished
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match=r"There is no run in .*nothing\. Name run folders"):
        collect([tmp_path / "nothing"])


def test_trials_with_the_same_settings_count_once(tmp_path):
    write_run(tmp_path / "1", settings(("none",)), SCORES)
    write_run(tmp_path / "2", settings(()), SCORES)
    results = collect([tmp_path])
    assert labels(results) == ["none"]
    assert results.unfinished[0].why == "has the same settings as 1, which is used"


def test_undefined_scores_keep_their_reason(tmp_path):
    undefined = Score(None, "all samples have label 'y' = 0")
    write_run(tmp_path / "1", settings(), {"validation": {}, "test": {"auroc": undefined}})
    assert collect([tmp_path]).trials[0].scores["test"]["auroc"] == undefined


def test_scores_of_fewer_than_ten_samples_are_not_shown(tmp_path):
    write_run(tmp_path / "1", settings(), SCORES, num_samples=(10, 9))
    (trial,) = collect([tmp_path]).trials
    assert trial.scores["validation"]["auroc"].value == 0.8
    found = trial.scores["test"]["auroc"]
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.reason == "fewer than 10 samples, so not shown"


def test_trials_on_different_data_are_refused(tmp_path):
    write_run(tmp_path / "1", settings(), SCORES)
    write_run(tmp_path / "2", settings(seed=1), SCORES, fingerprint="0" * 64)
    with pytest.raises(InputError, match=r"/1 and .*/2 have .* different data"):
        collect([tmp_path])


def test_nothing_to_collect_is_refused(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        collect([tmp_path / "absent"])
    with pytest.raises(InputError, match=r"There is no run\. Name"):
        collect([])


def test_an_incomplete_last_line_is_left_out(tmp_path):
    folder = write_run(
        tmp_path / "1",
        settings(),
        SCORES,
        epochs=history(np.random.default_rng(0), 0.8, num_epochs=1),
    )
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"event": "ep')
    assert len(collect([folder]).trials[0].history()) == 1


def test_a_run_with_an_unknown_score_has_no_result(tmp_path):
    write_run(tmp_path / "a", settings(), {"validation": {"auroc": 0.7}, "test": {"new": 0.7}})
    (unfinished,) = collect([tmp_path]).unfinished
    assert "There is no score 'new'" in unfinished.why
