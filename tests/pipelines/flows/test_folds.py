"""Cross-validation from a store with folds to the report and the registry."""

import json
from types import SimpleNamespace
from urllib.parse import unquote

import polars as pl
import pytest
from typer.testing import CliRunner

from mimic_reg import experiments
from mimic_reg.cli import app
from mimic_reg.errors import InputError
from mimic_reg.report.board import collect_board
from mimic_reg.report.results import collect
from mimic_reg.report.tables import main_tables
from mimic_reg.runs import read_scored, read_trial
from mimic_reg.serving.predicting import predict
from mimic_reg.store import Store
from mimic_reg_pipelines.flows import dry_run, studies
from mimic_reg_pipelines.flows.compare import compare
from mimic_reg_pipelines.flows.points import Point
from mimic_reg_pipelines.flows.search import of_compare
from mimic_reg_pipelines.flows.tune import tune
from mimic_reg_pipelines.runners.settings import Running
from mimic_reg_pipelines.tracking import client, mlflow_runs, registry
from tests.cohorts.tables import imported, tables
from tests.pipelines.conftest import copy_of

HERE = Running(runner="in_process")


def experiment(**changes):
    grid = {
        "tasks": ["in"],
        "data": "in",
        "models": [{"lstm": {"units": 4}}],
        "methods": ["none", "dropout"],
        "seeds": 1,
        "training": {"max_epochs": 1, "normalizer": "fitted"},
    }
    return experiments.parse({"name": "folds", "title": "Folds", "grids": [{**grid, **changes}]})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return imported(tmp_path_factory.mktemp("folds"), tables(), splits={"folds": 3}).store


RATES = {"training.learning_rate": [0.1, 0.5]}


@pytest.fixture(scope="module")
def compared(store, empty, tmp_path_factory):
    """A finished comparison in a cross-validation, whose folds choose learning rates."""
    work = tmp_path_factory.mktemp("compared")
    copy_of(empty, work)
    searched = experiment(search=RATES)
    return compare(searched, work, seeds=[0], store=store.folder, running=HERE)


@pytest.fixture(scope="module")
def swept(compared):
    """The cross-validation with the chosen values, and what was concluded from it."""
    return compared.result, compared.concluded


def command(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, " ".join(f"{result.output} {result.exception}".split())


def test_every_fold_is_trained_and_the_report_collects_them(swept, store):
    result, concluded = swept
    assert all(t.done for t in result.trials)
    assert len(result.trials) == 6
    assert {(t.seed, t.fold) for t in result.trials} == {(0, 1), (0, 2), (0, 3)}
    rows = [len(store.in_fold(f).read("tasks/in.parquet").filter(split="test")) for f in (1, 2, 3)]
    for trial in result.trials:
        assert "-fold" in trial.folder
        assert read_scored(result.run_folder(trial))["num_samples"]["test"] == rows[trial.fold - 1]
    folders = [result.run_folder(trial) for trial in result.trials]
    (table,) = main_tables(collect(folders, fold_by_fold=True))
    ((_, cell), _) = table.cells.items()
    assert (table.folds, cell.summary.n, len(cell.scores)) == (3, 3, 3)
    assert "(n = 3 of 3 folds" in concluded.markdown
    assert "95 % over folds" in concluded.markdown
    page = concluded.report.read_text("utf-8")
    assert "Nadeau and Bengio" in page
    assert "3 runs each over 3 folds" in page
    assert "No intervals over subjects" not in page
    assert "draws of 30 test patients" in page


def chosen_in(choices):
    return {(c.method, c.fold): c.best.values["training.learning_rate"] for c in choices}


def test_each_fold_chooses_its_own_values(compared, swept):
    best: dict[tuple[str, int], tuple[float, float]] = {}
    for trial in compared.search.trials:
        scored = read_scored(compared.search.run_folder(trial))["scores"]["validation"]
        found = scored["auroc"]["value"], trial.searched["training.learning_rate"]
        key = trial.method, trial.fold
        if key not in best or found[0] > best[key][0]:  # of equal ones the first
            best[key] = found
    chosen = chosen_in(compared.choices)
    assert chosen == {key: rate for key, (_, rate) in best.items()}
    assert len(chosen) == 6
    assert len({rate for (method, _), rate in chosen.items() if method == "none"}) > 1
    result, concluded = swept
    for trial in result.trials:
        rate = read_trial(result.run_folder(trial))["trial"]["training"]["learning_rate"]
        assert rate == chosen[trial.method, trial.fold]
        assert trial.label == trial.method
    page = unquote(concluded.report.read_text("utf-8"))
    assert "had no part in its choice" in page
    for (method, fold), rate in chosen.items():
        assert f"lstm,{method},In,100 %,{fold},training.learning_rate={rate}\n" in page
    choice = compared.choices[0]
    assert choice.file.name == "in-lstm-none-100-fold1.yaml"
    assert choice.options[-2:] == ["--fold", "1"]


def test_the_board_has_one_row_for_a_method_whose_folds_chose(compared):
    rows = collect_board([compared.result.work]).rows
    assert sorted((r.method, r.n, r.folds) for r in rows) == [
        ("dropout", 3, (1, 2, 3)),
        ("none", 3, (1, 2, 3)),
    ]
    assert {str(r.budget) for r in rows} == {"2 points, 1 run each"}
    # no `train` command: the folds differ in their values
    assert all(r.command.startswith("mimic-reg compare --config folds.yaml") for r in rows)


def test_patients_that_test_a_fold_have_no_part_in_its_choice(store, empty, tmp_path):
    """Other values of these patients: the fold's points and scores stay; the next fold's do not."""
    dyn, sta, outc = tables()
    tested = store.in_fold(1).read("tasks/in.parquet").filter(split="test")["stay_id"].to_numpy()
    dyn = dyn.assign(hr=dyn["hr"].mask(dyn["stay_id"].isin(tested), 300 - dyn["hr"]))
    other = imported(tmp_path, (dyn, sta, outc), splits={"folds": 3}).store
    space = {"training.learning_rate": {"low": 1e-3, "high": 0.1, "log": True}}
    searched = experiment(methods=["none"], folds=[1, 3], points=2, space=space)
    found = {}
    for name, place in (("as they are", store), ("changed", other)):
        copy_of(empty, tmp_path / name)
        tuned = tune(searched, tmp_path / name, store=place.folder, running=HERE)
        found[name] = {choice.fold: choice for choice in tuned.choices}
    before, after = found.values()
    assert before.keys() == {1, 3}
    assert after[1].points == before[1].points
    assert after[1].best == before[1].best
    assert before[1].points[0].values != before[3].points[0].values  # each has its own sampler
    assert [p.scores for p in after[3].points] != [p.scores for p in before[3].points]


def test_the_sampler_of_a_fold_learns_from_its_scores_alone(store, tmp_path, monkeypatch):
    """After ten random points the sampler goes by scores; nothing is trained here."""
    space = {"training.learning_rate": {"low": 1e-3, "high": 0.1, "log": True}}
    searched = experiment(methods=["none"], folds=[1, 3], points=14, space=space)

    def run(asked, work, **options):
        return SimpleNamespace(
            trials=[
                SimpleNamespace(
                    **{n: getattr(p.trial, n) for n in ("task", "size", "fold", "seed")},
                    **{"model": p.trial.model.name, "method": p.method, "searched": p.searched},
                )
                for p in experiments.plan(asked)
            ]
        )

    def explored(sign):
        def point_of(result, trials):
            rate = trials[0].searched["training.learning_rate"]
            scores = [-rate if trial.fold == 1 else sign * rate for trial in trials]
            return Point(trials[0].searched, "auroc", dict(enumerate(scores)), ())

        monkeypatch.setattr(studies, "point_of", point_of)
        whole, _ = studies.explore(searched, tmp_path, run=run, store=store.folder)
        return {
            grid.folds: [point["training.learning_rate"] for point in grid.tried]
            for grid in whole.grids
        }

    up, down = explored(1), explored(-1)
    assert up[1,] == down[1,]
    assert up[3,][:10] == down[3,][:10]
    assert up[3,][10:] != down[3,][10:]


def test_the_registry_compares_means_over_the_same_folds(swept, tmp_path, empty):
    result, concluded = swept
    uri = client.database(result.work)
    (registered,) = concluded.registered
    (version,) = client.connect(uri).search_model_versions(f"name = '{registered.name}'")
    means = {}
    for trial in result.trials:
        scored = read_scored(result.run_folder(trial))["scores"]["validation"]
        means.setdefault((trial.label, trial.seed), []).append(scored["auroc"]["value"])
    best = max(sum(values) / 3 for values in means.values())
    assert float(version.tags["validation_auroc"]) == pytest.approx(best)
    assert version.tags["scored_on"] == "folds 1, 2, 3 of 3"
    assert (version.tags["fold"], version.tags["folds"]) == ("1", "3")
    assert "a mean over folds 1, 2, 3 of 3, is the best of 2 trials" in registered.why
    assert "the model is that of fold 1" in registered.summary
    run = result.run_folder(result.trials[-1])
    one = registry.register(run, uri=uri)
    assert not one.champion
    assert "cannot be compared" in one.why
    logged = client.connect(uri).search_runs(
        [mlflow_runs.experiment_id(uri, "in")], "tags.fold = '2'"
    )
    assert len(logged) == 2 * 2  # methods, points
    assert all("seed" in r.info.run_name and "fold 2" in r.info.run_name for r in logged)


def test_commands_tell_the_fold(swept, store, tmp_path):
    result, _ = swept
    run = result.run_folder(result.trials[0])
    fold = result.trials[0].fold
    assert f"fold: {fold} of 3 tests" in command("show", run)[1]
    listed = CliRunner().invoke(app, ["runs", str(result.work / "runs"), "--json"]).output
    assert sorted({row["fold"] for row in json.loads(listed)}) == [1, 2, 3]
    assert command("evaluate", run)[0] == 0
    predict(run, store.folder, tmp_path / "predicted.parquet")
    table = pl.read_parquet(tmp_path / "predicted.parquet")
    wanted = store.in_fold(fold).read("tasks/in.parquet")
    assert table["split"].to_list() == wanted["split"].to_list()
    train = ("train", "--store", store.folder, "--task", "in", "--model", "logistic_regression")
    assert "Name the fold to test on: 1 to 3." in command(*train, "--out", tmp_path / "a")[1]
    code, said = command(*train, "--out", tmp_path / "a", "--fold", 2)
    assert (code, "seed 0, fold 2" in said) == (0, True)


def test_folds_of_a_grid(store, tmp_path):
    assert dry_run.of_sweep(experiment(), store.folder).num_trials == 6
    assert dry_run.of_sweep(experiment(folds="all"), store.folder).num_trials == 6
    assert dry_run.of_sweep(experiment(folds=[3, 1]), store.folder).num_trials == 4
    plan = of_compare(experiment(search=RATES), tmp_path, seeds=range(2), store=store.folder)
    assert plan.num_trials == 2 * 3 * (2 + 1)
    with pytest.raises(InputError, match="1 to 3, not 4"):
        dry_run.of_sweep(experiment(folds=[1, 4]), store.folder)
    with pytest.raises(InputError, match="a fold is named twice"):
        experiment(folds=[1, 1])
    for wrong in ("some", [0], 3):
        with pytest.raises(InputError, match="folds"):
            experiment(folds=wrong)
    plain = imported(tmp_path, tables()).store
    assert dry_run.of_sweep(experiment(), plain.folder).num_trials == 2
    for folds in ("all", [1]):
        with pytest.raises(InputError, match="has no folds: its patients are divided once"):
            dry_run.of_sweep(experiment(folds=folds), plain.folder)


def test_identities_without_folds_are_as_before():
    plain = experiments.plan(experiment())[0].trial
    assert "fold" not in plain.model_dump(mode="json")
    assert plain.id("data") != plain.model_copy(update={"fold": 1}).id("data")
    assert Store(folder=None, manifest={}).fold is None
