"""Searches: judged on validation only, over seeds; resumable; the winner is a usable file."""

import json
from dataclasses import replace

import pytest

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.experiments import plan
from mimic_reg.learners.trials import compose_trial
from mimic_reg.multitask.changes import parse_pairs
from mimic_reg.runs import SCORES
from mimic_reg.settings import TrainingSize, load_yaml
from mimic_reg.store import read_json, write_json
from mimic_reg_pipelines.flows.result import STATUS, SweepResult, TrialStatus
from mimic_reg_pipelines.flows.search import search
from mimic_reg_pipelines.flows.tune import choose, rows, tune
from mimic_reg_pipelines.runners.settings import Running
from tests.pipelines.conftest import copy_of
from tests.pipelines.flows.experiments import TRAINING, experiment

HERE = Running(runner="in_process")


def made(tmp_path, scores, searched=("itps.tau",)):
    """A search whose trials came to these: {(values, seed): (validation, test) or None}."""
    trials = []
    for number, ((values, seed), score) in enumerate(scores.items()):
        folder = tmp_path / "runs" / str(number)
        folder.mkdir(parents=True)
        options = {key.partition(".")[2]: v for key, v in zip(searched, values, strict=True)}
        entries = [{"itps": options}, {"early_stopping": {"patience": 3}}]
        described = {"id": str(number), "device": "cpu", "versions": {}, "cohort": {}}
        described["store"] = {"path": "gone", "fingerprint": "f"}
        write_json(folder / "trial.json", {**described, "trial": {"regularisers": entries}})
        if score:
            content = {"validation": {"auroc": {"value": score[0]}}}
            content["test"] = {"auroc": {"value": score[1]}}
            scored = {"trial": str(number), "best_epoch": 1, "num_samples": {}}
            scored |= {"selected_by": "auroc", "scores": content}
            write_json(folder / SCORES, scored)
        trials.append(
            TrialStatus(
                identity=str(number),
                folder=str(number),
                task="in_hospital_mortality",
                model="lstm",
                method="itps",
                label=f"itps {values}",
                searched=dict(zip(searched, values, strict=True)),
                supervision=0.25,
                seed=seed,
                status="finished" if score else "failed",
                error=None if score else "it diverged",
            )
        )
    return SweepResult("tau", "Search", tmp_path, tmp_path / "store", "data", {}, tuple(trials))


def test_the_best_mean_of_validation_wins_whatever_the_test_says(tmp_path):
    result = made(
        tmp_path,
        {
            ((0.1,), 0): (0.70, 0.99),
            ((0.1,), 1): (0.80, 0.99),
            ((0.2,), 0): (0.60, 0.10),
            ((0.2,), 1): (0.92, 0.10),
            ((0.3,), 0): (0.75, 0.99),
            ((0.3,), 1): (0.75, 0.99),
        },
    )
    ((choice,), _) = choose(result)
    assert choice.best.values == {"itps.tau": 0.2}
    assert choice.best.mean == pytest.approx(0.76)
    assert len(choice.points) == 3
    assert "of 3 points, itps.tau=0.2 is the best, with" in choice.sentence
    assert [row["best"] for row in rows(choice)] == ["", "*", ""]
    text = choice.file.read_text("utf-8")
    assert load_yaml(choice.file) == {"regularisers": [{"itps": {"tau": 0.2}}]}
    assert "Mean validation auroc over 2 seeds: 0.7600; 3 points" in text
    assert "itps.tau=0.3: 0.7500" in text


def test_the_first_of_equals_wins(tmp_path):
    result = made(tmp_path, {((0.3,), 0): (0.7, 0.1), ((0.2,), 0): (0.7, 0.9)})
    ((choice,), _) = choose(result)
    assert choice.best.values == {"itps.tau": 0.3}
    assert "of 2 points, itps.tau=0.3 is the first of 2 equally good ones, with" in choice.sentence


def test_what_never_trained_wins_only_where_all_is_so(tmp_path):
    result = made(tmp_path, {((0.1,), 0): (0.9, 0.5), ((0.2,), 0): (0.6, 0.5)})
    row = {"event": "epoch", "epoch": 1, "loss": 1, "validation": {}, "recorded": {}}
    for number, explained in enumerate((-0.1, 0.2)):
        history = tmp_path / "runs" / str(number) / "history.jsonl"
        history.write_text(json.dumps({**row, "explained": explained}) + "\n")
    ((choice,), _) = choose(result)
    assert choice.best.values == {"itps.tau": 0.2}
    assert "0.2 is the best without a run that hardly trained, with" in choice.sentence
    assert "itps.tau=0.1: 0.9000, 1 of 1 hardly trained\n" in choice.file.read_text("utf-8")
    assert [row["hardly trained"] for row in rows(choice)] == [1, 0]
    history.write_text(json.dumps({**row, "explained": -1.0}) + "\n")
    assert choose(result)[0][0].best.values == {"itps.tau": 0.1}


def test_a_point_without_all_its_results_cannot_win(tmp_path):
    result = made(
        tmp_path,
        {
            ((0.1,), 0): (0.99, 0.5),
            ((0.1,), 1): None,
            ((0.2,), 0): (0.60, 0.5),
            ((0.2,), 1): (0.61, 0.5),
        },
    )
    ((choice,), _) = choose(result)
    assert choice.best.values == {"itps.tau": 0.2}
    assert "itps.tau=0.1: no result" in choice.file.read_text("utf-8")
    nothing = made(tmp_path / "other", {((0.1,), 0): None})
    with pytest.raises(MimicRegError, match="it diverged"):
        choose(nothing)
    first, *_, last = result.trials
    folds = replace(first, fold=1), replace(last, fold=2, status="failed", error="it diverged.")
    (choice,), problems = choose(replace(result, trials=folds))
    assert choice.fold == 1  # a fold without a result takes nothing from the others
    assert [p.partition(": it diverged. What")[0] for p in problems] == [
        "No point of itps for in_hospital_mortality with lstm in fold 2 has all its results"
    ]


def test_a_search_is_a_sweep_and_its_winner_can_be_trained(store, empty, tmp_path):
    copy_of(empty, tmp_path)
    small = experiment(
        name="tau",
        methods=["itps"],
        seeds=2,
        search={"itps.tau": [1e-4, 1e9]},
        training=TRAINING,
    )
    tuned = tune(small, tmp_path, store=store, running=HERE)
    assert tuned.exit_code == 0
    (choice,) = tuned.choices
    assert len(tuned.result.trials) == 4
    for point in choice.points:
        for trial in tuned.result.trials:
            if trial.searched == point.values:
                scored = read_json(tuned.result.run_folder(trial) / SCORES)["scores"]
                assert point.scores[trial.seed] == scored["validation"]["auroc"]["value"]
    trial = compose_trial("in_hospital_mortality", "lstm", str(choice.file))
    assert trial.regularisers[0].options["tau"] == choice.best.values["itps.tau"]
    assert [r.name for r in trial.regularisers] == ["itps", "early_stopping"]

    again = tune(small, tmp_path, store=store, running=HERE)
    assert {t.status for t in again.result.trials} == {"skipped"}
    assert again.choices[0].best == choice.best


def test_a_models_options_are_searched_and_its_file_is_a_models(store, empty, tmp_path):
    copy_of(empty, tmp_path)
    small = search(
        "in_hospital_mortality",
        "logistic_regression",
        "none",
        {"logistic_regression.C": [1e-6, 0.1]},
        changes={"training.normalizer": "fitted"},
    )
    (choice,) = tune(small, tmp_path, store=store, running=HERE).choices
    trial = compose_trial("in_hospital_mortality", str(choice.file), "none")
    assert trial.model.name == "logistic_regression"
    assert trial.model.options["C"] == choice.best.values["logistic_regression.C"]


def test_searches_as_the_command_line_names_them():
    found = search(
        "phenotyping",
        "lstm",
        "itps",
        {"itps.tau": [0.1, 0.2], "itps.beta": [0.1]},
        supervision=0.25,
        seeds=3,
        changes={"training.max_epochs": 2},
    )
    assert found.name == "tune-phenotyping-lstm-itps-25"
    assert found.grids[0].search == {"itps.tau": (0.1, 0.2), "itps.beta": (0.1,)}
    assert {p.trial.training.max_epochs for p in plan(found)} == {2}
    with pytest.raises(InputError, match="Did you mean 'tau'"):
        search("phenotyping", "lstm", "itps", {"itps.taw": [1]})


def pairs(*texts):
    return parse_pairs(texts, "--search", "dropout.rate=0.2,0.5", several=True)


def test_values_of_the_command_line_are_read_as_yaml():
    assert pairs("itps.tau=1e-3, 0.2", "itps.mode=update,gradient") == {
        "itps.tau": [0.001, 0.2],
        "itps.mode": ["update", "gradient"],
    }
    assert pairs("itps.tau=[-0.1, 0.2],0.1") == {"itps.tau": [[-0.1, 0.2], 0.1]}
    for text in ("itps.tau", "itps.tau=", "=0.1", "itps.tau=[0.1", "itps.tau={"):
        with pytest.raises(InputError, match="write a name and its value"):
            pairs(text)
    with pytest.raises(InputError, match="given twice"):
        pairs("itps.tau=0.1", "itps.tau=0.2")


def test_settings_of_an_experiment_are_replaced_in_every_trial_that_has_them():
    small = experiment(name="tau", methods=["itps", "none"], search={"itps.tau": [0.1]})
    changed = small.model_copy(update={"set": {"itps.beta": 0.5, "model.units": 3}})
    found = [p.trial for p in plan(changed)]
    assert {t.model.options["units"] for t in found} == {3}
    assert {c.options["beta"] for t in found for c in t.regularisers if c.name == "itps"} == {0.5}
    for key, message in (("itps.bta", "Did you mean 'itps.beta'"), ("itps.tau", "do not set it")):
        with pytest.raises(InputError, match=message):
            plan(small.model_copy(update={"set": {key: 1}}))


def test_an_experiment_without_a_search_is_refused(tmp_path):
    with pytest.raises(InputError, match="has nothing to search"):
        tune(experiment(), tmp_path)


def test_a_number_of_samples_from_before_it_had_a_field_of_its_own_is_read(tmp_path):
    result = made(tmp_path, {((0.1,), 0): (0.7, 0.7)})
    result.folder.mkdir(parents=True)
    result.write()
    path = result.folder / STATUS
    content = read_json(path)
    content["trials"][0]["supervision"] = 200.0
    del content["trials"][0]["num_samples"]
    write_json(path, content)
    (trial,) = SweepResult.read(tmp_path, "tau").trials
    assert trial.size == TrainingSize(num_samples=200)
    assert ", 200 samples, " in trial.name
