"""Transfer learning: pairs that differ in the trunk's weights only; what is refused."""

import sys

import pytest

from mimic_reg import cli, fitting
from mimic_reg.cli import application
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.errors import InputError
from mimic_reg.learners.trials import resolve
from mimic_reg.learners.trunk import load_trunk
from mimic_reg.multitask import fit as multitask
from mimic_reg.multitask.finetune import Plan, finetune
from mimic_reg.progress import Progress
from mimic_reg.report.markdown import to_markdown
from mimic_reg.report.page import write_report
from mimic_reg.report.results import collect
from mimic_reg.report.tables import main_tables
from mimic_reg.runs import BEST
from mimic_reg.store import Store, read_json
from tests.engine.test_checkpoint import same
from tests.fits import make_trainer
from tests.multitask import fits

TRAINING = {"max_epochs": 2, "epoch_steps": 3, "learning_rate": 0.01, "normalizer": "fitted"}
PLAN = Plan(task="in_hospital_mortality", samples=(12, 24), seeds=3, training=TRAINING)


@pytest.fixture(scope="module")
def fit(store, tmp_path_factory):
    """A trunk from two tasks; the third is new to it."""
    folder = tmp_path_factory.mktemp("fits") / "fit"
    multitask.train(fits.multi("reptile", [], tasks=fits.TASKS[1:]), store, folder)
    return folder


@pytest.fixture(scope="module")
def tuned(fit, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned")
    return out, finetune(PLAN, [fit], store, out)


def trials(folders):
    """(samples, seed, from a trunk) → run folder."""
    found = {}
    for folder in folders:
        trial = resolve(read_json(folder / "trial.json")["trial"])
        found[trial.num_samples, trial.seed, trial.start.trunk is not None] = folder
    return found


def test_every_number_and_seed_is_fitted_from_the_trunk_and_from_scratch(tuned):
    _, folders = tuned
    assert set(trials(folders)) == {(k, s, t) for k in (12, 24) for s in range(3) for t in (0, 1)}
    assert all((folder / "done.json").is_file() for folder in folders)


def test_pairs_differ_in_the_trunk_only(fit, store, tmp_path):
    opened, trunk = Store.open(store), load_trunk(fit)
    engines = {}
    for trial, start in PLAN.trials([trunk])[:2]:
        (tmp_path / str(bool(start))).mkdir()
        engines[bool(start)] = make_trainer(trial, opened, tmp_path / str(bool(start)), start)
    scratch, tuned = engines[False], engines[True]
    assert same(dict(scratch.model.head.state_dict()), dict(tuned.model.head.state_dict()))
    assert same(dict(tuned.model.trunk.state_dict()), dict(trunk.weights))
    assert not same(dict(scratch.model.trunk.state_dict()), dict(trunk.weights))
    assert (scratch.train.row == tuned.train.row).all()
    assert len(scratch.train) == 12
    assert [scratch._indices(i).tolist() for i in range(4)] == [
        tuned._indices(i).tolist() for i in range(4)
    ]


def test_started_again_it_does_nothing(tuned, fit, store):
    out, folders = tuned
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.name != ".lock"}
    assert finetune(PLAN, [fit], store, out) == folders
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.name != ".lock"}


def test_the_table_compares_with_scratch_by_number_of_samples(tuned, tmp_path):
    _, folders = tuned
    results = collect(folders)
    (table,) = main_tables(results)
    trunk = "trunk of reptile: none on decompensation + phenotyping"
    assert table.methods == ("scratch", trunk)
    assert table.focus == (trunk,)
    assert [size.num_samples for size in table.levels] == [12, 24]
    assert all(len(cell.scores) == 3 for cell in table.cells.values())
    text = to_markdown(results)
    assert "12 samples" in text
    assert "At 24 samples: " in text
    page = write_report(results, tmp_path, title="T").read_text("utf-8")
    assert "at 12 samples, 24 samples, 3 seeds each" in page
    assert "samples supervision" not in page


def test_a_frozen_trunk_does_not_change(fit, store, tmp_path):
    plan = Plan(**{**vars(PLAN), "samples": (12,), "seeds": 1, "freeze": 2})
    folders = trials(finetune(plan, [fit], store, tmp_path))
    model = load_state(folders[12, 0, True] / BEST)["model"]
    start = load_trunk(fit).weights
    assert all(same(model[f"trunk.{name}"], weight) for name, weight in start.items())
    assert [
        r.name
        for r in resolve(read_json(folders[12, 0, True] / "trial.json")["trial"]).regularisers
    ] == ["freeze_trunk", "none", "early_stopping"]


@pytest.mark.parametrize("place", ["", "phenotyping", "files"])
def test_a_trunk_is_found_in_a_fit_a_run_and_as_files(fit, tmp_path, place):
    folder = fit / place
    if place == "files":
        folder = tmp_path
        for name in ("trunk.safetensors", "trunk.yaml"):
            (folder / name).write_bytes((fit / name).read_bytes())
    trunk = load_trunk(folder)
    assert trunk.tasks == ("decompensation", "phenotyping")
    assert trunk.origin == "reptile: none on decompensation + phenotyping"
    assert trunk.model.entry() == {"lstm": {"units": 4}}


def test_parameters_that_a_method_added_to_the_trunk_are_left_out(store, tmp_path):
    settings = fits.multi("joint", ["guided_dropout"], tasks=("phenotyping",)).trials[0]
    fitting.train(settings, store, tmp_path / "run")
    trunk = load_trunk(tmp_path / "run")
    assert any(name.endswith(".t") for name in trunk.weights)
    assert trunk.origin == "guided_dropout on phenotyping"
    plan = Plan(**{**vars(PLAN), "samples": (12,), "seeds": 1})
    assert len(finetune(plan, [tmp_path / "run"], store, tmp_path / "tuned")) == 2


def test_a_task_that_the_trunk_was_trained_on_is_noted(fit, store, tmp_path):
    notes, progress = [], Progress()
    progress.note = notes.append
    plan = Plan(**{**vars(PLAN), "task": "phenotyping", "samples": (12,), "seeds": 1})
    finetune(plan, [fit], store, tmp_path, progress=progress)
    assert "is among the tasks that this trunk was trained on" in notes[0]


# --- the commands ---------------------------------------------------------------------------------


@pytest.fixture
def command(capsys, monkeypatch):
    """mimic-reg in this process: (arguments) → exit code and what it printed."""

    def run(*arguments):
        words = ["mimic-reg", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        code = application.run(lambda: cli.app(words[1:], standalone_mode=False))
        told = capsys.readouterr()
        return code, " ".join((told.out + told.err).split())

    return run


def test_from_tasks_together_to_a_fine_tuned_one(store, tmp_path, command):
    model, fit = tmp_path / "small.yaml", tmp_path / "fit"
    model.write_text("lstm: {units: 4}\n")
    one = ("--set", "training.max_epochs=1")
    tasks = ("--task", "in_hospital_mortality,phenotyping", "--model", model, *one)
    quick = tmp_path / "quick.yaml"
    quick.write_text("regularisers: [none]\ntraining: {normalizer: fitted, learning_rate: 0.01}\n")
    code, told = command(
        "train", "--store", store, *tasks, "--method", quick, "--strategy", "joint", "--out", fit
    )
    assert code == 0, told
    assert "phenotyping: Scores" in told
    assert "a run folder for each task" in told
    code, told = command("evaluate", fit)
    assert code == 2
    assert "Name the folder of one of them in it: in_hospital_mortality, phenotyping." in told

    given = ("--store", store, "--task", "decompensation", "--out", tmp_path / "tuned")
    given += ("--samples", "40,20", "--seeds", "1", *one, "--method", quick)
    code, told = command("finetune", "--from", fit, *given)
    assert code == 0, told
    assert "trunk of joint: none on in_hospital_mortality + phenotyping" in told
    assert "| 20 samples" in told
    assert "fewer than 3 pairs" in told
    page = (tmp_path / "tuned" / "report.html").read_text("utf-8")
    assert "Fine-tuning on few samples" in page
    assert "Is there leakage?" in page


@pytest.mark.parametrize("samples", ["fifty", "50,1", "", "50;100"])
def test_wrong_numbers_of_samples_are_refused(fit, store, tmp_path, command, samples):
    given = ("--store", store, "--task", "decompensation", "--out", tmp_path, "--samples", samples)
    code, told = command("finetune", "--from", fit, *given)
    assert code == 2
    assert "give whole numbers from 2 on, as 50,100,500" in told


# --- refusals -------------------------------------------------------------------------------------


def test_wrong_requests_are_refused(fit, store, tmp_path):
    trunk = load_trunk(fit)
    with pytest.raises(InputError, match="holds no trained trunk"):
        finetune(PLAN, [tmp_path], store, tmp_path / "out")
    with pytest.raises(InputError, match="The same trunk is given twice"):
        PLAN.trials([trunk, trunk])
    with pytest.raises(InputError, match="needs a trunk, a number of samples and a seed"):
        Plan(**{**vars(PLAN), "samples": ()}).trials([trunk])
    with pytest.raises(InputError, match="'fenotyping' is not a task of the cohort"):
        finetune(Plan(**{**vars(PLAN), "task": "fenotyping"}), [fit], store, tmp_path / "out")
    with pytest.raises(InputError, match="5,000 training samples are asked for; there are"):
        finetune(Plan(**{**vars(PLAN), "samples": (5000,)}), [fit], store, tmp_path / "out")


def test_trunks_of_other_models_are_refused(fit, store, tmp_path):
    trunk = load_trunk(fit)
    trial, _ = PLAN.trials([trunk])[1]
    other = resolve({**trial.model_dump(), "model": {"lstm": {"units": 5}}})
    with pytest.raises(
        InputError, match=r"is that of the model .*'units': 4.*, not of .*'units': 5"
    ):
        fitting.train(other, store, tmp_path / "other", trunk=trunk)
    with pytest.raises(InputError, match="starts from another trunk than the one"):
        fitting.train(trial, store, tmp_path / "none")
    with pytest.raises(InputError, match="both num_samples and a supervision level"):
        resolve({**trial.model_dump(), "supervision": 0.5})
